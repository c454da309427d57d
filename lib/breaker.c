#include "lib/breaker_internal.h"

#include <sys/random.h>

#include "lib/map.h"
#include "lib/mem.h"

/* ---- names ---------------------------------------------------------------------- */

const char *breaker_state_name(enum breaker_state state)
{
	static const char *const names[] = { "closed", "open", "half_open" };
	CHECK(state < ARRAY_LENGTH(names));
	return names[state];
}

const char *breaker_force_name(enum breaker_force force)
{
	static const char *const names[] = { "auto", "open", "closed" };
	CHECK(force < ARRAY_LENGTH(names));
	return names[force];
}

const char *breaker_script_name(enum breaker_script script)
{
	static const char *const names[BREAKER_SCRIPTS] = { "report", "probe", "pause", "force" };
	CHECK(script < BREAKER_SCRIPTS);
	return names[script];
}

/* ---- birth and death --------------------------------------------------------------- */

struct breakers *breakers_new(struct loop *loop, struct redis *redis, const struct breaker_options *options,
			      struct log *log)
{
	struct breakers *all = mem_new(sizeof(*all));
	CHECK(options->timeout > 0 && options->flush > 0 && options->channel.len <= 100);
	all->magic = BREAKERS_MAGIC;
	all->loop = loop;
	all->redis = redis;
	all->log = log;
	all->options = *options;
	all->options.channel.data = mem_text(options->channel);
	all->named = map_new();
	all->rings = BREAKER_NEVER;
	list_init(&all->all);
	list_init(&all->probes);
	list_init(&all->forcings);
	CHECK(getrandom(&all->chance, sizeof(all->chance), 0) == sizeof(all->chance));
	loop_timer_init(&all->timer, loop, breakers_tick, all);
	loop_deferred_init(&all->turn_end, breakers_tick, all);
	return all;
}

static void breaker_free(struct breaker *b)
{
	CHECK(b->magic == BREAKER_MAGIC && b->holders == 0);
	script_cancel(&b->call);
	loop_undefer(&b->death);
	breaker_pauses_free(b);
	CHECK(map_remove(b->breakers->named, b->name) == b);
	list_remove(&b->node);
	b->magic = 0;
	mem_free(b);
}

void breakers_free(struct breakers **handle)
{
	struct breakers *all = *handle;
	*handle = NULL;
	if (all == NULL)
		return;
	CHECK(all->magic == BREAKERS_MAGIC);
	breakers_free_probes(all);
	breakers_free_forcings(all);
	while (!list_empty(&all->all))
		breaker_free(CONTAINER_OF(all->all.next, struct breaker, node));
	loop_timer_free(&all->timer);
	loop_undefer(&all->turn_end);
	map_free(&all->named, NULL);
	mem_free((void *)all->options.channel.data);
	all->magic = 0;
	mem_free(all);
}

static void on_death(void *arg)
{
	struct breaker *b = arg;
	if (b->holders == 0)
		breaker_free(b);
}

/* "sluice:{b:NAME}:" and a letter, each; the name stands in the first. */
static void write_texts(struct breaker *b, struct slice name)
{
	static const char letters[BREAKER_WIRE_KEYS + 1] = "spw";
	static const struct slice prefix = { "sluice:{b:", 10 }, suffix = { "}:", 2 };
	char *at = b->text;
	for (int i = 0; i < BREAKER_WIRE_KEYS; i++) {
		b->keys[i] = slice_make(at, prefix.len + name.len + suffix.len + 1);
		memcpy(at, prefix.data, prefix.len);
		if (name.len > 0)
			memcpy(at + prefix.len, name.data, name.len);
		memcpy(at + prefix.len + name.len, suffix.data, suffix.len);
		at[b->keys[i].len - 1] = letters[i];
		at += b->keys[i].len;
	}
	b->name = slice_make(b->text + prefix.len, name.len);
}

static struct breaker *breaker_new(struct breakers *all, struct slice name)
{
	struct breaker *b = mem_new(sizeof(*b) + BREAKER_WIRE_KEYS * (name.len + 13));
	b->magic = BREAKER_MAGIC;
	b->breakers = all;
	b->due = BREAKER_NEVER;
	b->pauses = map_new();
	b->wanted = true;
	write_texts(b, name);
	loop_deferred_init(&b->death, on_death, b);
	list_push_back(&all->all, &b->node);
	map_put(all->named, b->name, b);
	return b;
}

static void check_rule(const struct breaker_rule *rule)
{
	CHECK(rule->window > 0 && rule->min_calls >= 1 && rule->slow_min_calls >= 1);
	CHECK(rule->open_for >= 1 && rule->open_most >= rule->open_for);
	CHECK(rule->probes >= 1 && rule->probes <= 100);
}

struct breaker *breaker_hold(struct breakers *all, struct slice name, const struct breaker_rule *rule)
{
	CHECK(all->magic == BREAKERS_MAGIC && name.len <= BREAKER_NAME_MOST);
	check_rule(rule);
	struct breaker *b = map_get(all->named, name);
	if (b == NULL)
		b = breaker_new(all, name);
	if (b->rule.window != rule->window)
		breaker_judge_forget(&b->judge); /* its slices have another width */
	b->rule = *rule;
	b->holders++;
	breaker_schedule(b);
	return b;
}

void breaker_hold_more(struct breaker *b)
{
	b->holders++;
}

/* Not at once: it may be what a caller of ours is at work with. */
void breaker_let_go(struct breaker *b)
{
	CHECK(b->magic == BREAKER_MAGIC && b->holders > 0);
	if (--b->holders == 0)
		loop_defer(b->breakers->loop, &b->death);
}

void breaker_release(struct breaker **handle)
{
	struct breaker *b = *handle;
	*handle = NULL;
	if (b != NULL)
		breaker_let_go(b);
}

struct slice breaker_name(const struct breaker *b)
{
	return b->name;
}

/* ---- Redis' answers ---------------------------------------------------------------- */

void breakers_heard(const struct breakers *all, enum breaker_script script, const struct redis_answer *answer)
{
	bool heard = answer->result == REDIS_OK || answer->result == REDIS_ERROR;
	if (heard && all->options.answered != NULL)
		all->options.answered(all->options.arg, script, answer->took);
}

/* What Redis advises to try again, here or elsewhere, did not run; any other error may come from the middle of a script. */
bool breaker_may_have_run(const struct redis_answer *answer)
{
	if (answer->result == REDIS_ERROR)
		return redis_error_row(answer->error)->call == REDIS_GIVE_UP;
	return answer->result != REDIS_UNSENT;
}

/* ---- the gate ------------------------------------------------------------------------ */

static bool is_full(const struct breaker *b)
{
	return b->asking + b->calling >= b->rule.probes;
}

/* Looks, and has it read again when it was not for a while; what is read comes too late for this call, and in time for the next.
 * No breaker is a constant: who has one to look at may have it looked after. */
static void look_after(const struct breaker *looked, int64_t now)
{
	struct breaker *b = (struct breaker *)looked;
	if (b->wanted || b->call != NULL || now - b->read < BREAKER_REREAD)
		return;
	b->wanted = true;
	breaker_schedule(b);
}

enum breaker_gate breaker_gate(const struct breaker *b)
{
	int64_t now = clock_now();
	CHECK(b->magic == BREAKER_MAGIC);
	look_after(b, now);
	if (b->judge.force != BREAKER_AUTO)
		return b->judge.force == BREAKER_FORCED_OPEN ? BREAKER_STOP : BREAKER_PASS;
	switch (breaker_judge_state(&b->judge, now)) {
	case BREAKER_CLOSED:
		return BREAKER_PASS;
	case BREAKER_OPEN:
		return BREAKER_STOP;
	case BREAKER_HALF_OPEN:
		break;
	}
	return now < b->denied_until || is_full(b) ? BREAKER_STOP : BREAKER_ASK;
}

int64_t breaker_wait(const struct breaker *b)
{
	int64_t now = clock_now();
	if (breaker_gate(b) != BREAKER_STOP)
		return 0;
	if (b->judge.force == BREAKER_FORCED_OPEN)
		return b->rule.open_for;
	if (breaker_judge_state(&b->judge, now) == BREAKER_OPEN)
		return b->judge.until - now;
	return now < b->denied_until ? b->denied_until - now : BREAKER_DENIED_FOR;
}

/* ---- what is counted ------------------------------------------------------------------ */

/* Calls that end while it is not closed were in flight when it opened: they say nothing new. */
static void count(struct breaker *b, const struct breaker_delta *one, int64_t now)
{
	enum breaker_why why = BREAKER_WHY_NOTHING;
	if (b->alone)
		why = breaker_judge_add(&b->judge, &b->rule, now, b->judge.epoch, one);
	else
		breaker_judge_count(&b->judge, &b->rule, now, b->judge.epoch, one);
	if (why != BREAKER_WHY_NOTHING)
		breaker_changed_here(b, why);
	breaker_schedule(b);
}

void breaker_note(struct breaker *b, enum breaker_result result, bool counted_as_success)
{
	struct breaker_delta one = { 0 };
	int64_t now = clock_now();
	CHECK(b->magic == BREAKER_MAGIC && result != BREAKER_NOTHING);
	look_after(b, now);
	if (b->judge.is_open)
		return;
	if (!breaker_delta_any(&b->pending))
		b->counted = now;
	breaker_delta_note(&b->pending, result, counted_as_success);
	breaker_delta_note(&one, result, counted_as_success);
	if (result == BREAKER_UNREACHABLE || (result == BREAKER_FAILURE && b->rule.failures > 0))
		b->urgent = true;
	count(b, &one, now);
}

void breaker_first_byte(struct breaker *b, int64_t took, bool came)
{
	struct breaker_delta one = { 0 };
	int64_t now = clock_now();
	CHECK(b->magic == BREAKER_MAGIC && took >= 0);
	look_after(b, now);
	breaker_delta_first_byte(&one, &b->rule, took, came);
	if (b->judge.is_open || !breaker_delta_any(&one))
		return;
	if (!breaker_delta_any(&b->pending))
		b->counted = now;
	breaker_delta_first_byte(&b->pending, &b->rule, took, came);
	count(b, &one, now);
}

/* ---- looking ----------------------------------------------------------------------------- */

enum breaker_force breaker_forced(const struct breaker *b)
{
	CHECK(b->magic == BREAKER_MAGIC);
	return b->judge.force;
}

void breaker_look(const struct breaker *b, struct breaker_view *view)
{
	int64_t now = clock_now();
	struct breaker_counts counts = b->alone ? breaker_judge_window(&b->judge, &b->rule, now) : b->fleet;
	CHECK(b->magic == BREAKER_MAGIC);
	*view = (struct breaker_view){ .state = breaker_judge_state(&b->judge, now),
				       .force = b->judge.force,
				       .wait = breaker_wait(b),
				       .trips = b->judge.trips,
				       .calls = counts.calls,
				       .failed = counts.failed,
				       .first_bytes = counts.first_bytes,
				       .slow = counts.slow,
				       .alone = b->alone };
}

bool breaker_is_idle(const struct breaker *b)
{
	int64_t now = clock_now();
	struct breaker_counts counts = breaker_judge_window(&b->judge, &b->rule, now);
	CHECK(b->magic == BREAKER_MAGIC);
	return b->holders == 1 && breaker_judge_state(&b->judge, now) != BREAKER_OPEN && !b->alone &&
	       b->judge.force == BREAKER_AUTO && counts.calls == 0 && counts.first_bytes == 0;
}

void breakers_each(struct breakers *all, void (*each)(void *arg, struct breaker *), void *arg)
{
	LIST_EACH (&all->all, node, following) {
		struct breaker *b = CONTAINER_OF(node, struct breaker, node);
		if (b->holders > 0)
			each(arg, b);
	}
}

unsigned breakers_unfinished(const struct breakers *all)
{
	return all->unfinished;
}

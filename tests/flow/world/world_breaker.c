/* The stand-in for lib/breaker: what a target is like is what the scenario says; a ticket is given when it is asked for, unless that is the fault. */
#include "tests/flow/world/world_internal.h"

struct breakers {
	int nothing;
};
struct breaker {
	bool first; /* of the first endpoint that was opened: the scenario's `gate` is about it alone */
	int holders;
	char name[200];
};

/* ---- what comes ----------------------------------------------------------------------------------------------------------- */

static struct probe *find(void)
{
	struct world *w = world_now();

	for (int i = 0; i < w->probes_count; i++)
		if (!w->probes[i].answered && !w->probes[i].ended)
			return &w->probes[i];
	return NULL;
}

static void answer(struct probe *p, bool granted)
{
	p->answered = true;
	p->granted = granted;
	p->done(p, p->arg, granted);
}

bool world_breaker_next(void)
{
	struct probe *p = find();

	if (p == NULL)
		return false;
	answer(p, true);
	return true;
}

bool world_breaker_fault(void)
{
	struct probe *p = find();

	if (p == NULL)
		return false;
	world_now()->fault_hit = p->arg;
	answer(p, false);
	return true;
}

/* ---- what the flow calls ---------------------------------------------------------------------------------------------------- */

const char *breaker_script_name(enum breaker_script script)
{
	(void)script;
	return "breaker";
}

struct breakers *breakers_new(struct loop *loop, struct redis *redis, const struct breaker_options *options,
			      struct log *log)
{
	(void)loop, (void)redis, (void)options, (void)log;
	return mem_new(sizeof(struct breakers));
}

void breakers_free(struct breakers **breakers)
{
	mem_free(*breakers);
	*breakers = NULL;
}

void breakers_hint(struct breakers *breakers, struct slice text)
{
	(void)breakers, (void)text;
}

void breakers_missed(struct breakers *breakers)
{
	(void)breakers;
}

unsigned breakers_unfinished(const struct breakers *breakers)
{
	(void)breakers;
	return 0;
}

struct breaker *breaker_hold(struct breakers *breakers, struct slice name, const struct breaker_rule *rule)
{
	struct breaker *b = mem_new(sizeof(*b));

	(void)breakers;
	assert_true(rule->window > 0 && rule->open_for > 0 && rule->probes > 0);
	b->holders = 1;
	b->first = slice_starts(name, SLICE("sim-m http://127.0.0.1:1"));
	snprintf(b->name, sizeof(b->name), "%.*s", SLICE_ARGS(name));
	return b;
}

void breaker_hold_more(struct breaker *breaker)
{
	breaker->holders++;
}

void breaker_release(struct breaker **handle)
{
	struct breaker *b = *handle;

	*handle = NULL;
	if (b != NULL && --b->holders == 0)
		mem_free(b);
}

bool breaker_is_idle(const struct breaker *breaker)
{
	(void)breaker;
	return false;
}

struct slice breaker_name(const struct breaker *breaker)
{
	return slice_of(breaker->name);
}

enum breaker_gate breaker_gate(const struct breaker *breaker)
{
	return breaker->first ? world_now()->scenario->gate : BREAKER_PASS;
}

int64_t breaker_wait(const struct breaker *breaker)
{
	return breaker_gate(breaker) == BREAKER_STOP ? 7 * CLOCK_SECOND : 0;
}

struct probe *breaker_probe(struct breaker *breaker, int64_t lasts, breaker_probed *done, void *arg)
{
	struct world *w = world_now();
	struct probe *p = &w->probes[w->probes_count++];

	assert_true(w->probes_count <= WORLD_MANY && lasts > 0 && breaker_gate(breaker) == BREAKER_ASK);
	*p = (struct probe){ .done = done, .arg = arg };
	return p;
}

void breaker_probe_end(struct probe **handle, enum breaker_result result)
{
	struct probe *p = *handle;

	*handle = NULL;
	if (p == NULL)
		return;
	assert_false(p->ended);
	p->ended = true;
	p->result = result;
}

void breaker_probe_well(struct probe *p)
{
	assert_true(p->granted && !p->ended && !p->well);
	p->well = true;
}

/* Each call is noted once, or twice where its head was well and its end was not. */
void breaker_note(struct breaker *breaker, enum breaker_result result, bool counted_as_success)
{
	struct world *w = world_now();

	(void)breaker;
	assert_true(result != BREAKER_NOTHING);
	assert_true(!counted_as_success || w->noted_well > w->noted_worse);
	if (result == BREAKER_SUCCESS)
		w->noted_well++;
	else if (counted_as_success)
		w->noted_worse++;
	else
		w->noted_bad++;
}

void breaker_first_byte(struct breaker *breaker, int64_t took, bool came)
{
	(void)breaker, (void)came;
	assert_true(took >= 0);
}

void breaker_pause(struct breaker *breaker, struct slice model, int64_t length)
{
	(void)breaker;
	assert_true(model.len > 0 && length > 0);
	world_now()->pauses++;
}

int64_t breaker_paused(const struct breaker *breaker, struct slice model)
{
	(void)breaker;
	assert_true(model.len > 0);
	return 0;
}

enum breaker_force breaker_forced(const struct breaker *breaker)
{
	(void)breaker;
	return BREAKER_AUTO;
}

void breaker_look(const struct breaker *breaker, struct breaker_view *view)
{
	*view = (struct breaker_view){ .state = breaker_gate(breaker) == BREAKER_STOP ? BREAKER_OPEN : BREAKER_CLOSED };
}

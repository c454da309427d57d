/* When Redis is told, and what changes by its answers and by other workers' words.
 *
 * One timer for all breakers, set to the first moment at which one of them has something to do: counts that are `flush` old, a state that is to be read again,
 * an opening that ends. What must not wait goes out at the end of the turn. One report of a breaker is on its way at a time; those of several go
 * out together.
 *
 * What may be believed: a change that was heard of is newer than ours when its epoch is. An answer is true as of the moment when it was asked for or later,
 * whatever its epoch is (Redis may have lost all); only a change that was heard of since then, and has a greater epoch, stands against it.
 * A report without an answer is forgotten, not repeated: it may have been counted. This worker's own counts go on without it. */
#include "lib/breaker_internal.h"
#include "lib/log.h"
#include "lib/map.h"
#include "scripts.h"

/* ---- telling of changes ------------------------------------------------------------------ */

static void log_figures(struct log_line *line, const struct breaker_reason *reason)
{
	log_text(line, "why", slice_of(breaker_why_name(reason->why)));
	if (reason->why == BREAKER_WHY_ERRORS) {
		log_int(line, "calls", reason->counts.calls);
		log_int(line, "failed", reason->counts.failed);
	} else if (reason->why == BREAKER_WHY_SLOW) {
		log_int(line, "first_bytes", reason->counts.first_bytes);
		log_int(line, "slow", reason->counts.slow);
	} else if (reason->why == BREAKER_WHY_UNREACHABLE || reason->why == BREAKER_WHY_FAILURES) {
		log_int(line, "in_a_row", reason->run);
	}
}

static void log_change(const struct breaker *b, enum breaker_state from, enum breaker_state to, int64_t now,
		       const struct breaker_reason *reason)
{
	struct log_line line;
	log_begin(&line, b->breakers->log, to == BREAKER_OPEN ? LOG_WARNING : LOG_INFO, "breaker");
	log_text(&line, "name", b->name);
	log_text(&line, "from", slice_of(breaker_state_name(from)));
	log_text(&line, "to", slice_of(breaker_state_name(to)));
	if (b->judge.force != BREAKER_AUTO || reason->why == BREAKER_WHY_FORCED)
		log_text(&line, "force", slice_of(breaker_force_name(b->judge.force)));
	log_figures(&line, reason);
	if (to == BREAKER_OPEN) {
		log_milliseconds(&line, "open_ms", b->judge.until - now);
		log_int(&line, "trips", b->judge.trips);
	}
	if (b->alone)
		log_bool(&line, "alone", true);
	log_end(&line);
}

static bool is_opening(enum breaker_why why)
{
	return why >= BREAKER_WHY_ERRORS && why <= BREAKER_WHY_PROBE_FAILED;
}

static bool differs_from_told(const struct breaker *b, enum breaker_state state)
{
	return state != b->told_state || b->judge.force != b->told_force;
}

/* Who trips it may have heard of it before its own answer came: then it is told once more, for only the answer says whose it was. */
static bool is_to_be_told(const struct breaker *b, enum breaker_state state)
{
	return b->reason.tripped || differs_from_told(b, state);
}

static void tell_of_change(struct breaker *b, int64_t now)
{
	enum breaker_state from = b->told_state, to = breaker_judge_state(&b->judge, now);
	struct breaker_reason reason = b->reason;
	bool differs = differs_from_told(b, to);
	if (reason.why == BREAKER_WHY_NOTHING)
		reason.why = BREAKER_WHY_TIME;
	b->told_state = to;
	b->told_force = b->judge.force;
	b->reason = (struct breaker_reason){ 0 };
	if (differs)
		log_change(b, from, to, now, &reason);
	if (b->breakers->options.changed != NULL)
		b->breakers->options.changed(b->breakers->options.arg, b, reason.tripped);
}

/* Several before it is told: the last holds. That this worker tripped it is not lost. */
static void remember_reason(struct breaker *b, enum breaker_why why, const struct breaker_counts *counts, int64_t run,
			    bool tripped)
{
	tripped |= b->reason.tripped;
	b->reason = (struct breaker_reason){ why, *counts, run, tripped };
}

void breaker_changed_here(struct breaker *b, enum breaker_why why)
{
	memset(&b->pending, 0, sizeof(b->pending));
	remember_reason(b, why, &b->judge.judged, b->judge.run, is_opening(why));
	breaker_schedule(b);
}

/* ---- when ----------------------------------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* clock_now when a report is due. */
static int64_t report_due(const struct breaker *b, enum breaker_state state)
{
	int64_t due = BREAKER_NEVER;
	if (b->call != NULL)
		return BREAKER_NEVER;
	if (b->wanted)
		return 0;
	if (breaker_delta_any(&b->pending))
		due = b->urgent && !b->alone ? 0 : b->counted + b->breakers->options.flush;
	if (state != BREAKER_CLOSED || b->judge.force != BREAKER_AUTO || b->alone)
		due = earlier(due, b->read + BREAKER_REREAD);
	return due;
}

static void ring(struct breakers *all, int64_t due, int64_t now)
{
	if (due <= now) {
		loop_defer(all->loop, &all->turn_end);
	} else if (due < all->rings) {
		all->rings = due;
		loop_timer_set(&all->timer, due - now);
	}
}

void breaker_schedule(struct breaker *b)
{
	int64_t now = clock_now();
	enum breaker_state state = breaker_judge_state(&b->judge, now);
	b->due = report_due(b, state);
	if (!is_to_be_told(b, state))
		b->reason = (struct breaker_reason){ 0 };
	else
		b->due = now;
	if (state == BREAKER_OPEN)
		b->due = earlier(b->due, b->judge.until);
	ring(b->breakers, b->due, now);
}

/* ---- reports ---------------------------------------------------------------------------------- */

static void on_report(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct breaker *b = arg;
	CHECK(b->magic == BREAKER_MAGIC && b->call == call);
	b->call = NULL;
	breakers_heard(b->breakers, BREAKER_REPORT, answer);
	if (answer->result != REDIS_OK || !breaker_take_report(b, answer->reply, b->call_serial))
		breaker_go_alone(b);
	breaker_schedule(b);
}

static void send_report(struct breaker *b, int64_t now)
{
	struct breakers *all = b->breakers;
	struct breaker_wire wire;
	const struct breaker_report report = { .epoch = b->judge.epoch,
					       .delta = b->pending,
					       .pauses = b->pauses_version,
					       .result = BREAKER_NOTHING,
					       .force = b->judge.force };
	breaker_wire_report(&wire, BREAKER_WIRE_NOW, b->name, &b->rule, &report);
	memset(&b->pending, 0, sizeof(b->pending));
	b->urgent = b->wanted = false;
	b->read = now;
	b->call_serial = ++all->serial;
	b->call = script_start(all->redis, &script_report, all->options.timeout, on_report, b, BREAKER_WIRE_KEYS,
			       b->keys, wire.argument, wire.arguments);
}

static void do_what_is_due(struct breaker *b, int64_t now)
{
	enum breaker_state state = breaker_judge_state(&b->judge, now);
	if (is_to_be_told(b, state))
		tell_of_change(b, now);
	if (report_due(b, state) <= now)
		send_report(b, now);
	breaker_schedule(b);
}

void breakers_tick(void *arg)
{
	struct breakers *all = arg;
	int64_t now = clock_now(), next = BREAKER_NEVER;
	CHECK(all->magic == BREAKERS_MAGIC);
	all->rings = BREAKER_NEVER;
	LIST_EACH (&all->all, node, following) {
		struct breaker *b = CONTAINER_OF(node, struct breaker, node);
		if (b->due <= now && b->holders > 0)
			do_what_is_due(b, now);
	}
	LIST_EACH (&all->all, node, following) {
		struct breaker *b = CONTAINER_OF(node, struct breaker, node);
		if (b->holders > 0)
			next = earlier(next, b->due);
	}
	all->rings = BREAKER_NEVER;
	ring(all, next, now);
}

/* ---- what Redis says ---------------------------------------------------------------------------- */

/* Counts of another epoch say nothing about this one; where one of both is unknown, they are kept. */
static void mirror(struct breaker *b, const struct breaker_standing *standing)
{
	int64_t now = clock_now(), until = now + standing->left;
	bool is_open = standing->state != BREAKER_CLOSED, was_open = b->judge.is_open;
	bool other = standing->epoch != b->judge.epoch;
	if (is_open != was_open || (other && standing->epoch != 0 && b->judge.epoch != 0)) {
		breaker_judge_forget(&b->judge);
		memset(&b->pending, 0, sizeof(b->pending));
		b->urgent = false;
	}
	/* Each answer takes a while to come: of one opening the earliest end is the truest. */
	if (is_open && was_open && !other)
		until = earlier(until, b->judge.until);
	if (other)
		b->denied_until = b->judge.good = 0;
	b->judge.is_open = is_open;
	b->judge.until = is_open ? until : 0;
	b->judge.epoch = standing->epoch;
	b->judge.trips = standing->trips;
	b->judge.force = standing->force;
}

void breaker_go_alone(struct breaker *b)
{
	b->alone = true;
}

void breaker_take(struct breaker *b, const struct breaker_standing *standing, uint64_t serial)
{
	enum breaker_force lost = standing->epoch == 0 ? b->judge.force : BREAKER_AUTO; /* the next report tells it */
	b->alone = false;
	if (b->heard_serial <= serial || b->judge.epoch <= standing->epoch)
		mirror(b, standing);
	if (lost != BREAKER_AUTO) {
		b->judge.force = lost;
		b->wanted = true;
	}
	if (standing->why != BREAKER_WHY_NOTHING)
		remember_reason(b, standing->why, &standing->counts, standing->run, is_opening(standing->why));
	else if (differs_from_told(b, breaker_judge_state(&b->judge, clock_now())) &&
		 b->reason.why == BREAKER_WHY_NOTHING)
		b->reason.why = BREAKER_WHY_READ;
	breaker_pauses_tell(b);
	breaker_schedule(b);
}

bool breaker_take_report(struct breaker *b, const struct redisReply *reply, uint64_t serial)
{
	struct breaker_standing standing;
	struct slice model;
	int64_t left;
	if (!breaker_wire_read_report(reply, &standing, &b->pauses_version)) {
		log_say(b->breakers->log, LOG_ERROR, "breaker.reply", "report answered something else");
		return false;
	}
	b->fleet = standing.counts;
	for (size_t i = 0; breaker_wire_read_pause(reply, i, &model, &left); i++)
		breaker_pause_heard(b, model, left);
	breaker_take(b, &standing, serial);
	return true;
}

/* ---- what other workers say ------------------------------------------------------------------------ */

static void hear_standing(struct breaker *b, const struct breaker_standing *standing)
{
	if (b->alone)
		b->wanted = true; /* somebody reaches Redis */
	if (standing->epoch > b->judge.epoch) {
		b->heard_serial = ++b->breakers->serial;
		b->fleet = standing->counts;
		mirror(b, standing);
		remember_reason(b, standing->why, &standing->counts, standing->run, false);
	}
	breaker_schedule(b);
}

void breakers_hint(struct breakers *all, struct slice text)
{
	struct breaker_standing standing;
	struct slice name, model;
	struct breaker *b;
	int64_t left;
	CHECK(all->magic == BREAKERS_MAGIC);
	if (breaker_wire_hear_standing(text, &standing, &name)) {
		if ((b = map_get(all->named, name)) != NULL)
			hear_standing(b, &standing);
	} else if (breaker_wire_hear_pause(text, &name, &model, &left)) {
		if ((b = map_get(all->named, name)) != NULL)
			breaker_pause_heard(b, model, left);
	}
}

void breakers_missed(struct breakers *all)
{
	CHECK(all->magic == BREAKERS_MAGIC);
	LIST_EACH (&all->all, node, following) {
		struct breaker *b = CONTAINER_OF(node, struct breaker, node);
		b->wanted = true;
		breaker_schedule(b);
	}
}

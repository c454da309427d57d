/* Tickets for calls through a half-open breaker.
 *
 *   ASKING ──► HELD ──────────► RETURNING ──► gone     Redis gave a ticket; its return is repeated until Redis has answered
 *      │ └───► ALONE ────────────┘ ▲                   Redis does not answer: a ticket of this worker's own; Redis may have given one all the same
 *      │ └───► NEEDLESS ──► gone   │                   it has been closed meanwhile: the call counts as any other
 *      │ └───► DENIED ─────────────┤                   no ticket; where the answer was lost, Redis may have given one
 *      └───────────────────────────┘                   ended before the answer came
 *
 * Exactly once, because the ticket is the token: whoever takes it out of Redis' set counts its result, and no second return finds it. An asking that comes
 * behind the return of its ticket (it was on a connection that was cut) finds what that return has left there. */
#include <stdio.h>

#include "lib/breaker_internal.h"
#include "lib/log.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "scripts.h"

#define FIRST_WAIT (20 * CLOCK_MILLISECOND)
#define WAIT_MOST  CLOCK_SECOND

enum probe_state { PROBE_ASKING, PROBE_HELD, PROBE_ALONE, PROBE_NEEDLESS, PROBE_DENIED, PROBE_RETURNING };

/* Owner: who asked, until breaker_probe_end; then the breakers, until Redis has heard of the return. Holds its breaker. Between calls: in breakers->probes;
 * `call` is set while a script of its own is on its way; counted in its breaker's `asking` while ASKING, in `calling` while HELD or ALONE. */
struct probe {
	uint32_t magic;
	enum probe_state state;
	struct breaker *breaker;
	struct list node;
	struct script_call *call;
	struct script_call *so_far;    /* that its call goes well, on its way */
	struct loop_deferred deferred; /* the answer that needs no Redis */
	struct loop_timer timer;       /* the next try of the return */
	breaker_probed *done;
	void *arg;
	int64_t epoch; /* under which it was asked for */
	int64_t lasts;
	int64_t until;                  /* clock_now: Redis' ticket, if there is one, has run out by then */
	uint64_t serial, so_far_serial; /* of `call`, of `so_far` */
	unsigned tries;
	enum breaker_result result;
	bool well;     /* its call went well so far, and that was counted, or sent */
	bool doubtful; /* Redis may have given a ticket, and has not said so */
	size_t ticket_length;
	char ticket[BREAKER_TICKET_MOST];
};

static void try_again(void *arg);

/* ---- births and deaths ------------------------------------------------------------------------ */

static void free_probe(struct probe *p)
{
	CHECK(p->magic == PROBE_MAGIC);
	script_cancel(&p->call);
	script_cancel(&p->so_far);
	loop_undefer(&p->deferred);
	loop_timer_free(&p->timer);
	list_remove(&p->node);
	if (p->state == PROBE_RETURNING)
		p->breaker->breakers->unfinished--;
	breaker_let_go(p->breaker);
	p->magic = 0;
	mem_free(p);
}

void breakers_free_probes(struct breakers *all)
{
	LIST_EACH (&all->probes, node, following) {
		struct probe *p = CONTAINER_OF(node, struct probe, node);
		CHECK(p->state == PROBE_RETURNING);
		free_probe(p);
	}
}

static void write_ticket(struct probe *p)
{
	struct breakers *all = p->breaker->breakers;
	int length = snprintf(p->ticket, sizeof(p->ticket), "%lld %016llx.%llu %.*s", (long long)p->epoch,
			      (unsigned long long)all->chance, (unsigned long long)++all->probes_made,
			      SLICE_ARGS(all->options.channel));
	CHECK(length > 0 && (size_t)length < sizeof(p->ticket));
	p->ticket_length = (size_t)length;
}

static struct slice ticket_of(const struct probe *p)
{
	return slice_make(p->ticket, p->ticket_length);
}

/* ---- asking ------------------------------------------------------------------------------------- */

/* The last thing that its caller does: `done` may end the probe. */
static void answer(struct probe *p, enum probe_state state)
{
	struct breaker *b = p->breaker;
	b->asking--;
	p->state = state;
	if (state == PROBE_HELD || state == PROBE_ALONE)
		b->calling++;
	if (state == PROBE_DENIED)
		b->denied_until = clock_now() + BREAKER_DENIED_FOR;
	p->done(p, p->arg, state != PROBE_DENIED);
}

/* By what this worker knows. */
static enum probe_state judge_alone(const struct breaker *b)
{
	if (b->judge.force != BREAKER_AUTO)
		return b->judge.force == BREAKER_FORCED_OPEN ? PROBE_DENIED : PROBE_NEEDLESS;
	switch (breaker_judge_state(&b->judge, clock_now())) {
	case BREAKER_CLOSED:
		return PROBE_NEEDLESS;
	case BREAKER_OPEN:
		return PROBE_DENIED;
	case BREAKER_HALF_OPEN:
		break;
	}
	return b->alone && b->calling < b->rule.probes ? PROBE_ALONE : PROBE_DENIED;
}

static void answer_here(void *arg)
{
	struct probe *p = arg;
	CHECK(p->magic == PROBE_MAGIC && p->state == PROBE_ASKING && p->call == NULL);
	p->epoch = p->breaker->judge.epoch;
	answer(p, judge_alone(p->breaker));
}

static bool read_answer(struct probe *p, const struct redis_answer *redis, int64_t *verdict)
{
	struct breaker_standing standing;
	if (redis->result != REDIS_OK)
		return false;
	if (!breaker_wire_read_short(redis->reply, verdict, &standing)) {
		log_say(p->breaker->breakers->log, LOG_ERROR, "breaker.reply", "probe answered something else");
		return false;
	}
	breaker_take(p->breaker, &standing, p->serial);
	return true;
}

static void on_answer(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct probe *p = arg;
	int64_t verdict;
	CHECK(p->magic == PROBE_MAGIC && p->state == PROBE_ASKING && p->call == call);
	p->call = NULL;
	p->until = clock_now() + p->lasts;
	breakers_heard(p->breaker->breakers, BREAKER_PROBE, redis);
	p->doubtful = breaker_may_have_run(redis);
	if (!read_answer(p, redis, &verdict)) {
		breaker_go_alone(p->breaker);
		breaker_schedule(p->breaker);
		answer_here(p);
		return;
	}
	p->doubtful = false;
	answer(p, verdict == BREAKER_GRANTED    ? PROBE_HELD
		  : verdict == BREAKER_NEEDLESS ? PROBE_NEEDLESS
						: PROBE_DENIED);
}

static bool needs_redis(const struct breaker *b)
{
	return !b->alone && b->judge.force == BREAKER_AUTO &&
	       breaker_judge_state(&b->judge, clock_now()) == BREAKER_HALF_OPEN;
}

struct probe *breaker_probe(struct breaker *b, int64_t lasts, breaker_probed *done, void *arg)
{
	struct breakers *all = b->breakers;
	struct probe *p = mem_new(sizeof(*p));
	struct breaker_wire wire;
	CHECK(b->magic == BREAKER_MAGIC && lasts > 0);
	*p = (struct probe){ .magic = PROBE_MAGIC, .breaker = b, .done = done, .arg = arg, .lasts = lasts };
	p->epoch = b->judge.epoch;
	breaker_hold_more(b);
	list_push_back(&all->probes, &p->node);
	loop_deferred_init(&p->deferred, answer_here, p);
	loop_timer_init(&p->timer, all->loop, try_again, p);
	if (b->asking++ + b->calling >= b->rule.probes || !needs_redis(b)) {
		loop_defer(all->loop, &p->deferred);
		return p;
	}
	write_ticket(p);
	p->serial = ++all->serial;
	breaker_wire_probe(&wire, BREAKER_WIRE_NOW, ticket_of(p), lasts, b->rule.probes);
	p->call = script_start(all->redis, &script_probe, all->options.timeout, on_answer, p, 2, b->keys, wire.argument,
			       wire.arguments);
	return p;
}

/* ---- giving back ---------------------------------------------------------------------------------- */

/* Doubled each time, of which the latter half is spread: what failed together must not come back together. */
static int64_t back_off(const struct probe *p)
{
	int64_t wait = FIRST_WAIT;
	for (unsigned i = 1; i < p->tries && wait < WAIT_MOST; i++)
		wait *= 2;
	if (wait > WAIT_MOST)
		wait = WAIT_MOST;
	return wait / 2 + (int64_t)((map_hash(ticket_of(p)) >> (p->tries % 32)) % (uint64_t)(wait / 2));
}

static void try_later(struct probe *p)
{
	int64_t wait = back_off(p);
	if (clock_now() + wait < p->until) {
		loop_timer_set(&p->timer, wait);
		return;
	}
	log_say(p->breaker->breakers->log, LOG_WARNING, "breaker.abandoned",
		"a ticket of %.*s was not given back; it has run out", SLICE_ARGS(p->breaker->name));
	free_probe(p);
}

static void on_returned(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct probe *p = arg;
	struct breaker *b = p->breaker;
	CHECK(p->magic == PROBE_MAGIC && p->state == PROBE_RETURNING && p->call == call);
	p->call = NULL;
	breakers_heard(b->breakers, BREAKER_REPORT, redis);
	if (redis->result == REDIS_OK) {
		breaker_take_report(b, redis->reply, p->serial); /* it ran, whatever it says */
		free_probe(p);
		return;
	}
	breaker_go_alone(b);
	breaker_schedule(b);
	try_later(p);
}

static struct script_call *send_report(struct probe *p, enum breaker_result result, bool so_far, uint64_t *serial,
				       script_done *done)
{
	struct breaker *b = p->breaker;
	struct breaker_wire wire;
	const struct breaker_report report = { .epoch = b->judge.epoch,
					       .pauses = b->pauses_version,
					       .ticket = ticket_of(p),
					       .result = result,
					       .so_far = so_far,
					       .doubtful = p->doubtful,
					       .force = b->judge.force };
	breaker_wire_report(&wire, BREAKER_WIRE_NOW, b->name, &b->rule, &report);
	*serial = ++b->breakers->serial;
	return script_start(b->breakers->redis, &script_report, b->breakers->options.timeout, done, p,
			    BREAKER_WIRE_KEYS, b->keys, wire.argument, wire.arguments);
}

static void send_return(struct probe *p)
{
	p->tries++;
	p->call = send_report(p, p->result, false, &p->serial, on_returned);
}

static void try_again(void *arg)
{
	struct probe *p = arg;
	CHECK(p->magic == PROBE_MAGIC && p->state == PROBE_RETURNING && p->call == NULL);
	send_return(p);
}

static void give_back(struct probe *p, enum breaker_result result)
{
	p->state = PROBE_RETURNING;
	p->result = result;
	p->breaker->breakers->unfinished++;
	send_return(p);
}

/* Where Redis does not judge, this worker does. */
static void judge_here(struct probe *p, enum breaker_result result)
{
	struct breaker *b = p->breaker;
	if (!b->alone || result == BREAKER_NOTHING)
		return;
	enum breaker_why why =
		breaker_judge_probed(&b->judge, &b->rule, clock_now(), p->epoch, result == BREAKER_SUCCESS);
	if (why != BREAKER_WHY_NOTHING)
		breaker_changed_here(b, why);
}

/* Where it is lost, the return counts for it. */
static void on_so_far(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct probe *p = arg;
	CHECK(p->magic == PROBE_MAGIC && p->so_far == call);
	p->so_far = NULL;
	breakers_heard(p->breaker->breakers, BREAKER_REPORT, redis);
	if (redis->result == REDIS_OK)
		breaker_take_report(p->breaker, redis->reply, p->so_far_serial);
}

void breaker_probe_well(struct probe *p)
{
	CHECK(p->magic == PROBE_MAGIC && !p->well && p->state != PROBE_ASKING && p->state != PROBE_RETURNING);
	p->well = true;
	if (p->state == PROBE_NEEDLESS)
		breaker_note(p->breaker, BREAKER_SUCCESS, false);
	else if (p->state == PROBE_ALONE)
		judge_here(p, BREAKER_SUCCESS);
	else if (p->state == PROBE_HELD)
		p->so_far = send_report(p, BREAKER_SUCCESS, true, &p->so_far_serial, on_so_far);
}

/* A call that went well and broke off: where that has closed the breaker meanwhile, it is a failure like any other. */
static void take_back(struct probe *p)
{
	struct breaker *b = p->breaker;
	if (b->judge.force != BREAKER_FORCED_OPEN && breaker_judge_state(&b->judge, clock_now()) == BREAKER_CLOSED)
		breaker_note(b, BREAKER_FAILURE, true);
}

/* What is counted here, because no ticket says it. */
static void note_end(struct probe *p, enum breaker_result result)
{
	bool failed = result == BREAKER_FAILURE || result == BREAKER_UNREACHABLE;
	if (p->well && failed)
		take_back(p);
	else if (p->state == PROBE_NEEDLESS && result != BREAKER_NOTHING && !p->well)
		breaker_note(p->breaker, result, false);
}

void breaker_probe_end(struct probe **handle, enum breaker_result result)
{
	struct probe *p = *handle;
	*handle = NULL;
	if (p == NULL)
		return;
	CHECK(p->magic == PROBE_MAGIC && p->state != PROBE_RETURNING);
	struct breaker *b = p->breaker;
	bool was_asking = p->state == PROBE_ASKING, held = p->state == PROBE_HELD;
	if (was_asking) {
		b->asking--;
		p->doubtful |= p->call != NULL;
		script_cancel(
			&p->call); /* the answer; the asking may come all the same, and what is sent now comes behind it */
		p->until = clock_now() + p->lasts;
	}
	if (held || p->state == PROBE_ALONE) {
		b->calling--;
		if (!p->well || result != BREAKER_SUCCESS)
			judge_here(p, result);
	}
	note_end(p, result);
	if (held || p->doubtful)
		give_back(p, held ? result : BREAKER_NOTHING);
	else
		free_probe(p);
}

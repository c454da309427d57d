/* Whether Redis is there for quotas, and how many share them.
 *
 *   WITH REDIS ──► a script was not answered and lib/redis calls Redis away, or it answered that it takes no writes of ours ──► ALONE
 *        ▲                                                                                                                       │
 *        └────────────────────────────── a census was answered well: this worker's debts go first ◄────────────────────────────────┘
 *
 * The census (lua/census.lua) is the probe: a write that is refused when charging would be (READONLY, OOM, NOPERM …), one at a time, begun when there is a connection
 * again, and from time to time while there is one. Settling and renewing go on meanwhile where they can: a refund that Redis takes although it is full must not wait.
 *
 * Disadvantage: the count of workers may fall behind while Redis is away; an instance that is started then is not known to the others. */
#include "lib/clock.h"
#include "lib/limiter_internal.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "scripts.h"

#include <stdio.h>

#define FLEET_KEY "sluice:{fleet}:i"
#define CENSUS    CLOCK_SECOND
#define RECENT    (10 * CLOCK_SECOND)
#define PROBE     (50 * CLOCK_MILLISECOND)
#define LIFE      (3 * CLOCK_SECOND) /* of a worker that is not heard any more */
enum { AT_FIRST = 10, SWEEP = 60, MEMBER_MOST = 80, RARER = 3 };

static void set_share(struct limiter *limiter, int64_t live, int64_t rank)
{
	int64_t own = limiter->options.workers > 0 ? limiter->options.workers : 1;
	int64_t of = live > own ? live : own;
	limiter->mode.share.of = of < LIMITER_SHADOW_MOST ? of : LIMITER_SHADOW_MOST;
	limiter->mode.share.rank = rank < limiter->mode.share.of ? rank : limiter->mode.share.of - 1;
}

static void tell(struct limiter *limiter)
{
	if (limiter->options.changed != NULL)
		limiter->options.changed(limiter->options.arg, limiter->mode.alone, limiter->mode.why);
}

/* One that comes and goes is looked for less often: each change is a line in the log, and a settling of accounts. Never so rarely that its
 * return goes unnoticed for half of the second in which all is to be normal again. */
static int64_t probe_after(const struct limiter *limiter)
{
	unsigned doublings = limiter->mode.relapses < RARER ? limiter->mode.relapses : RARER;
	return limiter->mode.alone ? PROBE << doublings : PROBE;
}

/* What it answers says more than that it once did not. */
static void go_alone(struct limiter *limiter, const char *why, bool refuses)
{
	if (!limiter->mode.alone || refuses) {
		limiter->mode.why = why;
		limiter->mode.refuses = refuses;
	}
	if (limiter->mode.alone || limiter->options.member.len == 0)
		return;
	limiter->mode.alone = true;
	limiter->mode.relapses = clock_now() - limiter->mode.back < RECENT ? limiter->mode.relapses + 1 : 0;
	limiter->mode.since = clock_now();
	if (limiter->mode.call == NULL)
		loop_timer_set(&limiter->mode.timer, probe_after(limiter));
	tell(limiter);
}

static void come_back(struct limiter *limiter)
{
	limiter->mode.alone = false;
	limiter->mode.why = NULL;
	limiter->mode.refuses = false;
	limiter->mode.since = limiter->mode.back = clock_now();
	lease_bring(limiter, &limiter->held);
	limiter_merge_all(limiter, true); /* before any ask of this turn */
	tell(limiter);
}

void limiter_mode_judge(struct limiter *limiter, const struct redis_answer *answer)
{
	const struct redis_error_row *row = redis_error_row(answer->error);
	if (answer->result == REDIS_OK)
		return;
	if (answer->result == REDIS_ERROR && row->mode != REDIS_HEALTHY)
		go_alone(limiter, row->prefix, true);
	else if (answer->result != REDIS_ERROR && redis_is_away(limiter->redis))
		go_alone(limiter, "no answer", false);
}

/* A Redis that came back empty hears of the others in their own time: who was known to live counts until then. */
static void learn(struct limiter *limiter, const int64_t number[3], int64_t now)
{
	int64_t live = number[1], rank = number[2];
	if (now - limiter->mode.back < LIFE && live < limiter->mode.live) {
		live = limiter->mode.live;
		rank = limiter->mode.share.rank;
	}
	limiter->mode.live = live < UINT32_MAX ? (unsigned)live : UINT32_MAX;
	limiter->mode.share.ahead = number[0] - now;
	set_share(limiter, live, rank);
	if (++limiter->mode.censuses % SWEEP == 0)
		limiter_local_sweep(limiter);
}

/* An error that says nothing of Redis as a whole. */
static bool is_refused(const struct redis_answer *answer)
{
	return answer->result == REDIS_ERROR && redis_error_row(answer->error)->mode == REDIS_HEALTHY;
}

/* Said when it begins. */
static void say_refused(struct limiter *limiter)
{
	if (!limiter->mode.refused)
		log_say(limiter->log, LOG_ERROR, "limiter.census",
			"Redis refuses the census in %s: is that key somebody else's? How many share the limits is not "
			"known, and no debt can be told",
			FLEET_KEY);
	limiter->mode.refused = true;
}

static void on_census(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct limiter *limiter = arg;
	int64_t number[LIMITER_WIRE_REPLY];
	size_t count = 0;
	CHECK(limiter->magic == LIMITER_MAGIC && limiter->mode.call == call);
	limiter->mode.call = NULL;
	limiter_heard(limiter, LIMITER_CENSUS, answer);
	bool well = answer->result == REDIS_OK && limiter_read_numbers(answer->reply, number, &count) && count == 3;
	bool refused = !well && (answer->result == REDIS_OK || is_refused(answer));
	limiter_settle_say(limiter);
	if (refused)
		say_refused(limiter);
	if (well) {
		limiter->mode.refused = false;
		if (limiter->mode.alone) /* those who lived are believed to, until they have been heard */
			limiter->mode.back = clock_now();
		learn(limiter, number, clock_now());
		if (limiter->mode.alone)
			come_back(limiter);
		else
			limiter_merge_all(limiter, false); /* of answers that were missing one by one */
	}
	/* At first often: whoever begins together finds the others soon. */
	loop_timer_set(&limiter->mode.timer, refused                             ? CENSUS
					     : !well                             ? probe_after(limiter)
					     : limiter->mode.censuses < AT_FIRST ? 2 * PROBE
										 : CENSUS);
}

static void on_timer(void *arg)
{
	struct limiter *limiter = arg;
	char life[24];
	CHECK(limiter->magic == LIMITER_MAGIC && limiter->mode.call == NULL);
	if (limiter->mode.alone && !redis_is_up(limiter->redis))
		return; /* on_connection goes on */
	const struct slice key = SLICE(FLEET_KEY);
	const struct slice arguments[] = { SLICE_NONE, limiter->options.member,
					   slice_make(life,
						      (size_t)snprintf(life, sizeof(life), "%lld", (long long)LIFE)) };
	limiter->mode.call = script_start(limiter->redis, &script_census, limiter->options.timeout, on_census, limiter,
					  1, &key, ARRAY_LENGTH(arguments), arguments);
}

/* The probe that was due meanwhile. */
static void on_connection(void *arg, bool up)
{
	struct limiter *limiter = arg;
	int64_t rest = limiter->mode.since + probe_after(limiter) - clock_now();
	CHECK(limiter->magic == LIMITER_MAGIC);
	if (up && limiter->mode.alone && limiter->mode.call == NULL)
		loop_timer_set(&limiter->mode.timer, rest > 0 ? rest : 0);
}

void limiter_mode_hurry(struct limiter *limiter)
{
	if (!limiter->mode.alone && limiter->mode.call == NULL && limiter->options.member.len > 0)
		loop_timer_set(&limiter->mode.timer, PROBE);
}

void limiter_mode_start(struct limiter *limiter)
{
	struct slice member = limiter->options.member;
	CHECK(member.len <= MEMBER_MOST);
	loop_timer_init(&limiter->mode.timer, limiter->loop, on_timer, limiter);
	set_share(limiter, 1, 0);
	if (member.len == 0)
		return;
	limiter->options.member = slice_make(mem_text(member), member.len);
	redis_on_change(limiter->redis, on_connection, limiter);
	loop_timer_set(&limiter->mode.timer, 0);
}

void limiter_mode_stop(struct limiter *limiter)
{
	script_cancel(&limiter->mode.call);
	loop_timer_free(&limiter->mode.timer);
	if (limiter->options.member.len == 0)
		return;
	redis_on_change(limiter->redis, NULL, NULL);
	mem_free((void *)(uintptr_t)limiter->options.member.data);
}

struct limiter_state limiter_state(const struct limiter *limiter)
{
	return (struct limiter_state){ .alone = limiter->mode.alone,
				       .why = limiter->mode.why,
				       .refuses = limiter->mode.refuses,
				       .since = limiter->mode.since,
				       .live = limiter->mode.live };
}

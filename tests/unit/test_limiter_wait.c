/* lib/limiter_wait: who waits for a worker's share while Redis has no lines, in which order, and who may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "tests/support/away_rig.h"
#include "tests/support/random.h"

static struct worker *const worker = away.worker;

/* Of each minute 200, and at once 2, are each worker's. */
static const struct limits two_at_once = { .of[LIMIT_rpm] = { .count = 600, .burst = 6 } };
#define PACE (300 * CLOCK_MILLISECOND)
/* Nothing comes back while a test runs. */
static const struct limits one_a_day = { .of[LIMIT_rpd] = { .count = 3, .burst = 3 } };

static enum limiter_verdict call(struct attempt *a, const struct limits *limits, int64_t most)
{
	return away_line(&worker[0], a, &(struct away_call){ .upstream = limits, .most = most });
}

static enum limiter_verdict again(struct attempt *a)
{
	return away_again(a, 10 * CLOCK_SECOND);
}

static void settle_all(struct attempt *a, int count)
{
	for (int i = 0; i < count; i++)
		away_settle(&a[i], 0);
}

/* It has become its turn: it is told so, and not in vain. */
static void is_called(const struct attempt *a, int turns)
{
	redis_rig_until(&away.rig, &worker[0].turns, turns);
	assert_string_equal(worker[0].called, a->id);
}

/* Without Redis, and time stands: two have all there is, the third waits for what comes next. */
static void two_have_all_and_a_third_waits(struct attempt *a)
{
	away_lose_redis();
	redis_rig_hold();
	for (int i = 0; i < 2; i++)
		assert_int_equal(call(&a[i], &two_at_once, 0), LIMITER_ADMITTED);
	assert_int_equal(call(&a[2], &two_at_once, 0), LIMITER_QUEUED);
	assert_int_equal(a[2].answer.wait, PACE);
}

static void who_came_first_is_served_first(void **state)
{
	struct attempt a[6];
	(void)state;
	two_have_all_and_a_third_waits(a);
	assert_int_equal(call(&a[3], &two_at_once, 0), LIMITER_QUEUED);
	assert_int_equal(a[3].answer.wait, 0);                                                /* it is called */
	assert_int_equal(call(&a[4], &two_at_once, 100 * CLOCK_MILLISECOND), LIMITER_DENIED); /* not in time */
	assert_int_equal(a[4].answer.wait, 3 * PACE);
	clock_test_advance(a[2].answer.wait + CLOCK_MILLISECOND);
	assert_int_equal(call(&a[5], &two_at_once, 0), LIMITER_QUEUED); /* there is room, but not for who comes now, */
	assert_int_equal(again(&a[3]), LIMITER_QUEUED);                 /* nor for who came second */
	assert_int_equal(a[3].answer.wait, 0);
	assert_int_equal(again(&a[2]), LIMITER_ADMITTED);
	is_called(&a[3], 1);
	assert_int_equal(again(&a[3]), LIMITER_QUEUED);
	assert_in_range(a[3].answer.wait, 1, PACE);
	away_settle(&a[3], 0); /* its client has left */
	is_called(&a[5], 2);
	settle_all(a, 6);
}

/* However often those ask that need little. */
static void what_needs_much_is_not_starved(void **state)
{
	struct limits limits = { .of[LIMIT_tpm] = { .count = 600000, .burst = 6000 } };
	struct attempt first, large, small[8];
	(void)state;
	away_lose_redis();
	redis_rig_hold();
	assert_int_equal(away_line(&worker[0], &first, &(struct away_call){ .upstream = &limits, .tokens = 2000 }),
			 LIMITER_ADMITTED);
	assert_int_equal(away_line(&worker[0], &large, &(struct away_call){ .upstream = &limits, .tokens = 1500 }),
			 LIMITER_QUEUED);
	int64_t due = clock_now() + large.answer.wait;
	assert_int_equal(large.answer.wait, 450 * CLOCK_MILLISECOND);
	for (int i = 0; i < 8; i++)
		assert_int_equal(away_line(&worker[0], &small[i],
					   &(struct away_call){ .upstream = &limits, .tokens = 10 }),
				 LIMITER_QUEUED);
	while (clock_now() < due) {
		for (int i = 0; i < 8; i++)
			assert_int_equal(again(&small[i]), LIMITER_QUEUED);
		clock_test_advance(10 * CLOCK_MILLISECOND);
	}
	assert_int_equal(again(&large), LIMITER_ADMITTED);
	is_called(&small[0], 1);
	settle_all(small, 8);
	away_settle(&large, 0);
	away_settle(&first, 0);
}

/* The estimate counts what each of those needs that wait, not how many they are. */
static void mixed_costs_are_estimated_by_what_they_are(void **state)
{
	struct limits limits = { .of[LIMIT_tpm] = { .count = 600000, .burst = 6000 },
				 .of[LIMIT_rpm] = { .count = 60000, .burst = 6000 } };
	struct attempt first, large, small, last;
	struct away_call call = { .upstream = &limits, .tokens = 2000 };
	(void)state;
	away_lose_redis();
	redis_rig_hold();
	assert_int_equal(away_line(&worker[0], &first, &call), LIMITER_ADMITTED);
	assert_int_equal(away_line(&worker[0], &large, &call), LIMITER_QUEUED); /* 600 ms */
	call.tokens = 10;
	call.most = 500 * CLOCK_MILLISECOND;
	assert_int_equal(away_line(&worker[0], &small, &call), LIMITER_DENIED);
	assert_int_equal(small.answer.kind, LIMIT_tpm);
	assert_in_range(small.answer.wait, 500 * CLOCK_MILLISECOND, 610 * CLOCK_MILLISECOND);
	call.tokens = 0;
	call.most = 0;
	assert_int_equal(away_line(&worker[0], &last, &call),
			 LIMITER_QUEUED); /* a request alone, and behind it as well */
	away_settle(&first, 0);
	away_settle(&large, 0);
	away_settle(&small, 0);
	away_settle(&last, 0);
}

/* Who waits for his model stands in nobody's way at the upstream; who is first at the model keeps that while he waits at the upstream. */
static void the_model_comes_first(void **state)
{
	struct attempt a[6];
	const struct away_call both = { .model = &one_a_day, .upstream = &two_at_once };
	const struct away_call other = { .upstream = &two_at_once };
	(void)state;
	away_lose_redis();
	redis_rig_hold();
	assert_int_equal(away_line(&worker[0], &a[0], &both), LIMITER_ADMITTED);
	assert_int_equal(away_line(&worker[0], &a[1], &both), LIMITER_DENIED); /* not today */
	assert_int_equal(a[1].answer.scope, LIMITER_MODEL);
	away_settle(&a[1], 0);
	assert_int_equal(away_line(&worker[0], &a[1],
				   &(struct away_call){
					   .model = &one_a_day, .upstream = &two_at_once, .most = 30 * CLOCK_HOUR }),
			 LIMITER_QUEUED);
	assert_int_equal(a[1].answer.scope, LIMITER_MODEL);
	assert_int_equal(away_line(&worker[0], &a[2], &other), LIMITER_ADMITTED);
	assert_int_equal(away_line(&worker[0], &a[3], &other), LIMITER_QUEUED); /* the upstream is full now */
	assert_int_equal(a[3].answer.scope, LIMITER_UPSTREAM);
	const struct away_call wide = { .model = &two_at_once, .upstream = &two_at_once };
	away_settle(&a[1], 0);
	assert_int_equal(away_line(&worker[0], &a[4], &wide),
			 LIMITER_QUEUED); /* behind the third, and first of its model */
	assert_int_equal(a[4].answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(away_line(&worker[0], &a[5], &wide), LIMITER_QUEUED);
	assert_int_equal(a[5].answer.scope, LIMITER_MODEL);
	away_settle(&a[3], 0);
	is_called(&a[4], 1);
	assert_int_equal(again(&a[4]), LIMITER_QUEUED);
	assert_true(a[4].answer.wait > 0);
	away_settle(&a[4], 0);
	redis_rig_until(&away.rig, &worker[0].turns, 2);
	assert_string_equal(worker[0].called, a[5].id);
	settle_all(a, 6);
}

/* It has no line there, whatever waits behind it, and what is told of it is the upstream's. */
static void a_model_without_limits_has_no_line(void **state)
{
	static const struct limits none = { 0 };
	struct attempt a[7];
	struct away_call call = { .model = &none, .upstream = &two_at_once, .depth = 9 };
	(void)state;
	away_lose_redis();
	redis_rig_hold();
	for (int i = 0; i < 5; i++)
		assert_int_equal(away_line(&worker[0], &a[i], &call), i < 2 ? LIMITER_ADMITTED : LIMITER_QUEUED);
	assert_int_equal(a[4].answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(away_line(&worker[0], &a[5], &call), LIMITER_FULL); /* three is its part of nine */
	assert_int_equal(a[5].answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(a[5].answer.kind, LIMIT_rpm);
	call.most = 100 * CLOCK_MILLISECOND;
	assert_int_equal(away_line(&worker[0], &a[6], &call), LIMITER_DENIED);
	assert_int_equal(a[6].answer.wait, 4 * PACE);
	settle_all(a, 7);
}

/* Who waits for its model will wait for the upstream, behind all of that line: it is refused by the limit that it waits for longest. */
static void the_tightest_limit_is_told(void **state)
{
	static const struct limits loose = { .of[LIMIT_rpm] = { .count = 6000, .burst = 60 } };
	struct attempt a[7];
	struct away_call call = { .model = &loose, .upstream = &two_at_once };
	(void)state;
	away_lose_redis();
	redis_rig_hold();
	for (int i = 0; i < 6; i++)
		assert_int_equal(away_line(&worker[0], &a[i], &call), i < 2 ? LIMITER_ADMITTED : LIMITER_QUEUED);
	assert_int_equal(a[2].answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(a[5].answer.scope, LIMITER_MODEL);
	call.most = 100 * CLOCK_MILLISECOND;
	assert_int_equal(away_line(&worker[0], &a[6], &call), LIMITER_DENIED);
	assert_int_equal(a[6].answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(a[6].answer.wait, 5 * PACE);
	settle_all(a, 7);
}

static void a_place_that_comes_free_is_told(void **state)
{
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 3 } };
	struct attempt a[3];
	(void)state;
	away_lose_redis();
	assert_int_equal(call(&a[0], &limits, 0), LIMITER_ADMITTED);
	for (int i = 1; i < 3; i++) {
		assert_int_equal(call(&a[i], &limits, 0), LIMITER_QUEUED);
		assert_int_equal(a[i].answer.wait, 0); /* nobody knows when */
	}
	away_settle(&a[0], 0);
	is_called(&a[1], 1);
	assert_int_equal(again(&a[2]), LIMITER_QUEUED);
	assert_int_equal(again(&a[1]), LIMITER_ADMITTED);
	is_called(&a[2], 2);
	assert_int_equal(again(&a[2]), LIMITER_QUEUED);
	away_settle(&a[1], 0);
	is_called(&a[2], 3);
	assert_int_equal(again(&a[2]), LIMITER_ADMITTED);
	away_settle(&a[2], 0);
}

/* Fewer places than workers: those that have none refuse at once, and all together never pass them. */
static void where_there_is_no_place_nobody_waits(void **state)
{
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 2 } };
	struct attempt a[AWAY_WORKERS][2];
	int verdicts[LIMITER_UNAVAILABLE + 1] = { 0 };
	(void)state;
	away_lose_redis();
	for (int i = 0; i < 2 * AWAY_WORKERS; i++)
		verdicts[away_line(&worker[i % AWAY_WORKERS], &a[i % AWAY_WORKERS][i / AWAY_WORKERS],
				   &(struct away_call){ .upstream = &limits })]++;
	assert_int_equal(verdicts[LIMITER_ADMITTED], 2);
	assert_int_equal(verdicts[LIMITER_QUEUED], 2); /* for the places of the two that have one */
	assert_int_equal(verdicts[LIMITER_DENIED], 2);
	for (int i = 0; i < AWAY_WORKERS; i++)
		for (int k = 0; k < 2; k++) {
			assert_true(a[i][k].answer.verdict != LIMITER_DENIED || a[i][k].answer.wait > 0);
			away_settle(&a[i][k], 0);
		}
}

/* Nor does anybody wait for his model where the upstream has no place, or he would hold its line in vain for those who need another upstream. */
static void where_there_is_no_place_nobody_waits_for_the_model(void **state)
{
	struct limits places = { .of[LIMIT_concurrency] = { .count = 1 } };
	const struct away_call taken = { .model = &two_at_once }, call = { .model = &two_at_once, .upstream = &places };
	struct attempt a[AWAY_WORKERS][3];
	int denied = 0;
	(void)state;
	away_lose_redis();
	for (int i = 0; i < AWAY_WORKERS; i++) {
		for (int k = 0; k < 2; k++)
			assert_int_equal(away_line(&worker[i], &a[i][k], &taken), LIMITER_ADMITTED);
		if (away_line(&worker[i], &a[i][2], &call) != LIMITER_DENIED)
			continue;
		assert_int_equal(a[i][2].answer.scope, LIMITER_UPSTREAM);
		assert_int_equal(a[i][2].answer.kind, LIMIT_concurrency);
		assert_true(a[i][2].answer.wait > 0);
		denied++;
	}
	assert_int_equal(denied, AWAY_WORKERS - 1);
	for (int i = 0; i < AWAY_WORKERS; i++)
		settle_all(a[i], 3);
}

/* Who stood in the fleet's line and needs more than this worker's part can ever hold waits for Redis, and not before those who need less. */
static void what_never_fits_holds_nobody_up(void **state)
{
	struct limits limits = { .of[LIMIT_tpm] = { .count = 600, .strict = true } };
	struct attempt taken[1], large, small;
	struct away_call call = { .upstream = &limits, .tokens = 300 };
	(void)state;
	assert_int_equal(away_line(&worker[1], &taken[0], &call), LIMITER_ADMITTED);
	assert_int_equal(away_line(&worker[0], &large,
				   &(struct away_call){
					   .upstream = &limits, .tokens = 300, .most = 100 * CLOCK_SECOND }),
			 LIMITER_QUEUED);
	away_lose_redis();
	for (int i = 0; i < 2; i++)
		assert_int_equal(away_again(&large, 100 * CLOCK_SECOND), LIMITER_QUEUED);
	call.tokens = 10;
	assert_int_equal(away_line(&worker[0], &small, &call), LIMITER_ADMITTED);
	assert_int_equal(away_again(&large, 0), LIMITER_DENIED);
	assert_true(large.answer.wait > 0 && large.answer.never_here);
	away_settle(&taken[0], 0);
	away_settle(&large, 0);
	away_settle(&small, 0);
	away_get_redis_back();
}

/* The depth of a line is divided as well. */
static void a_full_line_is_full_without_redis_too(void **state)
{
	struct attempt taken[AWAY_WORKERS], a[AWAY_WORKERS][4];
	struct limits limits = { .of[LIMIT_rpm] = { .count = 600, .burst = 3 } };
	const struct away_call call = { .upstream = &limits, .depth = 7 };
	int waiting = 0;
	(void)state;
	away_lose_redis();
	redis_rig_hold();
	for (int i = 0; i < AWAY_WORKERS; i++) {
		assert_int_equal(away_line(&worker[i], &taken[i], &call), LIMITER_ADMITTED);
		for (int k = 0; k < 4; k++) {
			enum limiter_verdict verdict = away_line(&worker[i], &a[i][k], &call);
			waiting += verdict == LIMITER_QUEUED;
			if (verdict == LIMITER_QUEUED)
				continue;
			assert_int_equal(verdict, LIMITER_FULL);
			assert_int_equal(a[i][k].answer.scope, LIMITER_UPSTREAM);
			assert_in_range(a[i][k].answer.wait, 2 * PACE, 4 * PACE); /* when it would be its turn */
		}
	}
	assert_int_equal(waiting, 7);
	for (int i = 0; i < AWAY_WORKERS; i++) {
		away_settle(&taken[i], 0);
		settle_all(a[i], 4);
	}
}

/* Who stood in the fleet's line is not refused when that is lost, and stands before those who came since. */
static void who_stood_in_the_fleets_line_keeps_its_place(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 600, .burst = 3 },
				 .of[LIMIT_concurrency] = { .count = 1 } };
	const struct away_call call = { .upstream = &limits, .depth = 3 };
	struct attempt taken, stood[3], newcomer;
	(void)state;
	assert_int_equal(away_line(&worker[0], &taken, &call), LIMITER_ADMITTED);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(away_line(&worker[0], &stood[i], &call), LIMITER_QUEUED);
		assert_false(stood[i].answer.local);
	}
	away_lose_redis();
	int64_t since = clock_now();
	assert_int_equal(away_line(&worker[0], &newcomer, &call), LIMITER_QUEUED);
	for (int i = 2; i >= 0; i--) {
		assert_int_equal(again(&stood[i]), LIMITER_QUEUED); /* three, where one is this worker's part */
		assert_true(stood[i].answer.local);
	}
	away_settle(&taken, 0);
	is_called(&stood[0], worker[0].turns + 1);
	assert_int_equal(again(&newcomer), LIMITER_QUEUED);
	while (again(&stood[0]) == LIMITER_QUEUED)
		away_let_pass(stood[0].answer.wait);
	assert_int_equal(stood[0].answer.verdict, LIMITER_ADMITTED);
	assert_true(clock_now() - since < 2 * CLOCK_SECOND);
	settle_all(stood, 3);
	away_settle(&newcomer, 0);
}

/* However often Redis goes and comes; its name is another one each time, for Redis may have run what it did not answer. */
static void who_waits_goes_from_line_to_line(void **state)
{
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 3 } };
	struct attempt taken[AWAY_WORKERS], a;
	char id[96] = "";
	(void)state;
	away_lose_redis();
	for (int i = 0; i < AWAY_WORKERS; i++)
		assert_int_equal(away_line(&worker[i], &taken[i], &(struct away_call){ .upstream = &limits }),
				 LIMITER_ADMITTED);
	assert_int_equal(call(&a, &limits, 0), LIMITER_QUEUED);
	for (int i = 0; i < 5; i++) {
		away_get_redis_back();
		assert_int_equal(again(&a), LIMITER_QUEUED);
		assert_false(a.answer.local);
		away_lose_redis();
		assert_int_equal(again(&a), LIMITER_QUEUED);
		assert_true(a.answer.local);
		assert_string_not_equal(a.id, id);
		memcpy(id, a.id, sizeof(id));
	}
	away_get_redis_back();
	assert_int_equal(again(&a), LIMITER_QUEUED);
	away_settle(&taken[1], 0);
	away_until(away_has_settled, &worker[1]);
	assert_int_equal(again(&a), LIMITER_ADMITTED);
	settle_all(taken, AWAY_WORKERS);
	away_settle(&a, 0);
	away_until_all(away_has_settled);
	assert_int_equal(redis_server_int(away.rig.server, "ZCOUNT sluice:{u:provider}:l 0 +inf"), 0);
	assert_int_equal(redis_server_int(away.rig.server, "EXISTS sluice:{u:provider}:w"), 0);
}

/* A reload meanwhile: those who wait, and those who come, know other limits. */
static void limits_may_change_while_somebody_waits(void **state)
{
	struct limits none = { .of[LIMIT_tpm] = { .count = 6000, .burst = 6000 } };
	struct limits more = { .of[LIMIT_rpm] = { .count = 6000, .burst = 60 } };
	struct attempt a[6];
	(void)state;
	two_have_all_and_a_third_waits(a);
	assert_int_equal(call(&a[3], &none, 0), LIMITER_QUEUED); /* who came first waits for what it does not know */
	assert_int_equal(call(&a[4], &more, 0), LIMITER_QUEUED);
	assert_int_equal(call(&a[5], &none, -1), LIMITER_DENIED);
	assert_int_equal(a[5].answer.kind, LIMIT_tpm);
	assert_true(a[5].answer.wait > 0);
	clock_test_advance(a[2].answer.wait);
	assert_int_equal(again(&a[2]), LIMITER_ADMITTED);
	is_called(&a[3], 1);
	assert_int_equal(again(&a[3]), LIMITER_ADMITTED);
	is_called(&a[4], 2);
	assert_int_equal(again(&a[4]), LIMITER_QUEUED); /* what was used is not forgiven, but drains at the new rate */
	assert_in_range(a[4].answer.wait, 1, 30 * CLOCK_MILLISECOND);
	clock_test_advance(a[4].answer.wait);
	assert_int_equal(again(&a[4]), LIMITER_ADMITTED);
	settle_all(a, 6);
}

/* One answer is missing, and Redis is not away: that has the line, and is asked again soon. */
static void a_single_answer_that_is_missing_is_asked_for_again(void **state)
{
	struct attempt a[4];
	(void)state;
	redis_server_do(away.rig.server, "SET sluice:{u:provider}:q rubbish EX 60");
	for (int i = 0; i < 2; i++)
		assert_int_equal(call(&a[i], &two_at_once, 0), LIMITER_ADMITTED);
	for (int i = 2; i < 4; i++) {
		assert_int_equal(call(&a[i], &two_at_once, 0), LIMITER_QUEUED);
		assert_true(a[i].answer.local && !away_is_alone(&worker[0]));
		assert_in_range(a[i].answer.wait, 1, CLOCK_SECOND / 2); /* nobody would call it */
	}
	redis_server_do(away.rig.server, "DEL sluice:{u:provider}:q");
	for (int i = 2; i < 4; i++) {
		assert_int_equal(again(&a[i]), LIMITER_ADMITTED);
		assert_false(a[i].answer.local);
	}
	settle_all(a, 4);
}

/* Redis says that it was settled already: nothing is known of it then, and it may wait on or be given up. */
static void what_redis_calls_gone_is_in_doubt(void **state)
{
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 1 } };
	struct away_call call = { .upstream = &limits };
	struct attempt taken, a;
	char text[2][LIMITER_LINE_KEY], tombstone[200];
	struct buf w, f;
	(void)state;
	assert_int_equal(away_line(&worker[0], &taken, &call), LIMITER_ADMITTED);
	for (int share = 0; share < 2; share++) {
		call.unshared = share == 0;
		assert_int_equal(away_line(&worker[0], &a, &call), LIMITER_QUEUED);
		snprintf(tombstone, sizeof(tombstone), "ZADD sluice:{u:provider}:l -9000000000000000 %s", a.id);
		redis_server_do(away.rig.server, tombstone);
		assert_int_equal(again(&a), share == 0 ? LIMITER_UNAVAILABLE : LIMITER_QUEUED);
		buf_wrap(&w, text[0], LIMITER_LINE_KEY, 0);
		buf_wrap(&f, text[1], LIMITER_LINE_KEY, 0);
		limiter_line_keys(a.lease, &w, &f); /* it waits for the next answer */
		assert_true(slice_equal(buf_slice(&w), SLICE("sluice:{u:provider}:w")));
		assert_int_equal(again(&a), share == 0 ? LIMITER_UNAVAILABLE : LIMITER_QUEUED);
		assert_true(share == 0 || !a.answer.local); /* under another name */
		away_settle(&a, 0);
		away_until(away_has_settled, &worker[0]);
	}
	away_settle(&taken, 0);
}

/* ---- at random ----------------------------------------------------------------------------------------------------------------- */

enum { GUESTS = 24 };
struct guest {
	struct attempt a;
	enum { ABSENT, WAITS, HELD } state;
	bool model;
	int came;
	int64_t at; /* when it asks again; INT64_MAX: when it is called */
};
static struct guest guests[GUESTS];
static int arrivals, admissions;
static const struct limits of_model = { .of[LIMIT_rpm] = { .count = 3600, .burst = 9 } };
static const struct limits of_upstream = { .of[LIMIT_tpm] = { .count = 2400000, .burst = 6000 },
					   .of[LIMIT_concurrency] = { .count = 12 } };

static void call_guest(struct slice id)
{
	for (int i = 0; i < GUESTS; i++)
		if (guests[i].state == WAITS && slice_equal(id, slice_of(guests[i].a.id)))
			guests[i].at = 0;
}

/* Nobody who came before it waits for what it was given. */
static void check_order(const struct guest *g)
{
	for (int i = 0; i < GUESTS; i++) {
		const struct guest *other = &guests[i];
		if (other->state != WAITS || other->came > g->came)
			continue;
		assert_int_equal(other->a.answer.scope, LIMITER_MODEL);
		assert_false(g->model);
	}
}

static void heed(struct guest *g)
{
	g->state = g->a.answer.verdict == LIMITER_ADMITTED ? HELD : WAITS;
	g->at = g->a.answer.wait > 0 ? clock_now() + g->a.answer.wait : INT64_MAX;
	if (g->state == HELD) {
		admissions++;
		check_order(g);
	} else if (g->a.answer.verdict != LIMITER_QUEUED) { /* it cannot be served in time */
		away_settle(&g->a, 0);
		g->state = ABSENT;
	}
}

static void arrive(struct guest *g, uint64_t *random)
{
	struct away_call call = { .upstream = &of_upstream, .tokens = 1 + (int64_t)random_below(random, 1500) };
	g->model = random_below(random, 2) > 0;
	call.model = g->model ? &of_model : NULL;
	g->came = ++arrivals;
	g->state = ABSENT;
	away_line(&worker[0], &g->a, &call);
	heed(g);
}

static unsigned act(struct guest *g, uint64_t *random, bool open)
{
	bool leaves = random_below(random, 50) == 0, ends = random_below(random, 10) == 0;
	if (g->state == ABSENT && open && random_below(random, 10) == 0) {
		arrive(g, random);
	} else if ((g->state == HELD && ends) || (g->state == WAITS && leaves && open)) {
		away_settle(&g->a, (int64_t)random_below(random, 1500));
		g->state = ABSENT;
	} else if (g->state == WAITS && g->at <= clock_now()) {
		again(&g->a);
		heed(g);
	}
	return g->state != ABSENT;
}

/* Some come, some leave, some end early, with large and small costs, for a model or not: nobody is passed, and nobody is forgotten. */
static void at_random_nobody_is_passed_or_forgotten(void **state)
{
	uint64_t random = 11;
	unsigned left = 1;
	(void)state;
	away_lose_redis();
	away.call = call_guest;
	int64_t began = clock_now();
	while (clock_now() - began < 2 * CLOCK_SECOND) {
		for (int i = 0; i < GUESTS; i++)
			(void)act(&guests[i], &random, true);
		away_let_pass(2 * CLOCK_MILLISECOND);
	}
	for (began = clock_now(); left > 0; away_let_pass(2 * CLOCK_MILLISECOND)) {
		assert_true(clock_now() - began < 15 * CLOCK_SECOND);
		left = 0;
		for (int i = 0; i < GUESTS; i++)
			left += act(&guests[i], &random, false);
	}
	print_message("%d came, %d were admitted; the last after %lld ms\n", arrivals, admissions,
		      (long long)((clock_now() - began) / 1000));
	assert_true(admissions > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_came_first_is_served_first, away_begin, away_end),
		cmocka_unit_test_setup_teardown(what_needs_much_is_not_starved, away_begin, away_end),
		cmocka_unit_test_setup_teardown(mixed_costs_are_estimated_by_what_they_are, away_begin, away_end),
		cmocka_unit_test_setup_teardown(the_model_comes_first, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_model_without_limits_has_no_line, away_begin, away_end),
		cmocka_unit_test_setup_teardown(the_tightest_limit_is_told, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_place_that_comes_free_is_told, away_begin, away_end),
		cmocka_unit_test_setup_teardown(where_there_is_no_place_nobody_waits, away_begin, away_end),
		cmocka_unit_test_setup_teardown(where_there_is_no_place_nobody_waits_for_the_model, away_begin,
						away_end),
		cmocka_unit_test_setup_teardown(what_never_fits_holds_nobody_up, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_full_line_is_full_without_redis_too, away_begin, away_end),
		cmocka_unit_test_setup_teardown(who_stood_in_the_fleets_line_keeps_its_place, away_begin, away_end),
		cmocka_unit_test_setup_teardown(who_waits_goes_from_line_to_line, away_begin, away_end),
		cmocka_unit_test_setup_teardown(limits_may_change_while_somebody_waits, away_begin, away_end),
		cmocka_unit_test_setup_teardown(what_redis_calls_gone_is_in_doubt, away_begin, away_end),
		cmocka_unit_test_setup_teardown(at_random_nobody_is_passed_or_forgotten, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_single_answer_that_is_missing_is_asked_for_again, away_begin,
						away_end),
	};
	return cmocka_run_group_tests_name("limiter_wait", tests, NULL, NULL);
}

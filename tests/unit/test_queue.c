/* lib/queue and lib/limiter as svc/flow uses them, against a real Redis: two workers on one loop, each with its connection and its listener. What the line does
 * is tests/lua/test_line's; here is what can get lost between it and who waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/queue_rig.h"

enum { WORKERS = 2, CALLERS = 8 };
#define BEAT    (100 * CLOCK_MILLISECOND)
#define TIMEOUT (10 * CLOCK_SECOND)

struct caller {
	struct queue_rig_worker *worker;
	struct lease *lease;
	struct queue_place *place;
	int64_t until;
	unsigned turns;
	bool over, admitted, late, unavailable;
	struct limiter_answer answer;
};

static const struct line_rule rule = { .depth = 100, .weight = { 5, 3, 1 }, .share = { 100 }, .groups = 1 };
static struct limits one_place = { .of[LIMIT_concurrency] = { .count = 1 } };
static struct limits ten_a_second = { .of[LIMIT_rps] = { .count = 10, .burst = 1 } };
static struct queue_rig rig;
static struct caller callers[CALLERS];
static unsigned ids;
static bool share; /* what each asks for without Redis */

static int begin(void **state)
{
	(void)state;
	queue_rig_begin(&rig, &(struct queue_rig_options){ .workers = WORKERS,
							   .of_an_instance = WORKERS,
							   .timeout = TIMEOUT,
							   .lease = TIMEOUT,
							   .beat = BEAT });
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (size_t i = 0; i < CALLERS; i++) {
		const struct limiter_used used = { 0 };
		queue_leave(&callers[i].place);
		limiter_settle(&callers[i].lease, &used);
		callers[i] = (struct caller){ 0 };
	}
	for (int i = 0; i < WORKERS; i++)
		while (limiter_unsettled(rig.worker[i].limiter) > 0)
			loop_turn(rig.loop, true);
	assert_int_equal(redis_server_int(rig.server, "EXISTS sluice:{u:gem}:w sluice:{u:gem}:f"), 0);
	queue_rig_end(&rig);
	return 0;
}

/* ---- callers: what svc/flow_quota.c does ------------------------------------------------------------------------------------- */

static void answered(struct lease *lease, void *arg, const struct limiter_answer *answer);

static void turn(struct queue_place *place, void *arg, enum queue_news news)
{
	struct caller *c = arg;

	assert_ptr_equal(place, c->place);
	c->place = NULL;
	c->turns++;
	c->late = news == QUEUE_LATE;
	limiter_again(c->lease, c->late ? 0 : c->until - clock_now(), answered, c);
}

static void answered(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct caller *c = arg;

	assert_ptr_equal(lease, c->lease);
	c->answer = *answer;
	if (answer->verdict != LIMITER_QUEUED) {
		c->over = true;
		c->admitted = answer->verdict == LIMITER_ADMITTED;
		c->unavailable = answer->verdict == LIMITER_UNAVAILABLE;
		return;
	}
	assert_false(c->late);
	c->place = queue_rig_wait(c->worker, lease, &rule, LANE_HIGH, answer->wait, c->until - clock_now(), turn, c);
}

static struct caller *call(size_t n, int worker, const struct limits *limits, int64_t most)
{
	struct caller *c = &callers[n];
	char id[24];
	struct limiter_ask ask = { .share = share, .line = { .rule = &rule, .lane = LANE_HIGH, .most = most } };

	snprintf(id, sizeof(id), "c%u.1", ids++);
	ask.id = slice_of(id);
	ask.scope[LIMITER_TENANT].name = SLICE("acme");
	ask.scope[LIMITER_UPSTREAM].name = SLICE("gem");
	ask.scope[LIMITER_UPSTREAM].limits = limits;
	ask.scope[LIMITER_UPSTREAM].requests = 1;
	*c = (struct caller){ .worker = &rig.worker[worker], .until = clock_now() + most };
	c->lease = limiter_admit(c->worker->limiter, &ask, answered, c);
	return c;
}

static void settle(struct caller *c)
{
	const struct limiter_used used = { 0 };

	queue_leave(&c->place);
	limiter_settle(&c->lease, &used);
}

static void until_over(const struct caller *c)
{
	while (!c->over)
		loop_turn(rig.loop, true);
}

static void until_queued(const struct caller *c)
{
	while (c->place == NULL) {
		assert_false(c->over);
		loop_turn(rig.loop, true);
	}
}

static struct caller *admit(size_t n, int worker, const struct limits *limits)
{
	struct caller *c = call(n, worker, limits, 0);

	until_over(c);
	assert_true(c->admitted);
	return c;
}

/* ---- tests ------------------------------------------------------------------------------------------------------------------ */

static void each_in_its_turn(void **state)
{
	struct caller *first, *second, *third;

	(void)state;
	admit(0, 0, &one_place);
	first = call(1, 0, &one_place, TIMEOUT);
	until_queued(first);
	second = call(2, 1, &one_place, TIMEOUT);
	until_queued(second);
	third = call(3, 0, &one_place, TIMEOUT);
	until_queued(third);
	assert_int_equal(queue_waiting(rig.worker[0].queue, LANE_HIGH), 2);
	assert_int_equal(queue_waiting(rig.worker[1].queue, LANE_HIGH), 1);
	settle(&callers[0]);
	until_over(first);
	assert_true(first->admitted && !second->over && !third->over);
	settle(first);
	until_over(second);
	assert_true(second->admitted && !third->over);
	settle(second);
	until_over(third);
	assert_true(third->admitted);
	assert_true(first->turns >= 1 && third->turns >= 1);
	settle(third);
}

static void time_brings_it_too(void **state)
{
	int64_t began = clock_now();
	struct caller *last = NULL;

	(void)state;
	admit(0, 0, &ten_a_second);
	for (size_t i = 1; i <= 3; i++) {
		last = call(i, (int)i % 2, &ten_a_second, TIMEOUT);
		until_queued(last);
	}
	until_over(last);
	assert_true(last->admitted);
	assert_true(clock_now() - began >= 300 * CLOCK_MILLISECOND);
	for (size_t i = 0; i <= 3; i++)
		settle(&callers[i]);
}

static void who_leaves_is_not_missed(void **state)
{
	struct caller *first, *second;

	(void)state;
	admit(0, 0, &one_place);
	first = call(1, 0, &one_place, TIMEOUT);
	until_queued(first);
	second = call(2, 1, &one_place, TIMEOUT);
	until_queued(second);
	settle(first);
	settle(&callers[0]);
	until_over(second);
	assert_true(second->admitted && !first->over);
	settle(second);
}

static void who_waited_long_enough_is_told_how_long_it_would_be(void **state)
{
	struct caller *c;

	(void)state;
	one_place.of[LIMIT_rpm] = (struct limit){ .count = 1, .burst = 1 };
	admit(0, 0, &one_place);
	settle(&callers[0]);
	while (limiter_unsettled(rig.worker[0].limiter) > 0)
		loop_turn(rig.loop, true);
	c = call(1, 0, &one_place, 50 * CLOCK_MILLISECOND);
	until_over(c);
	assert_int_equal(c->answer.verdict, LIMITER_DENIED); /* at once: it cannot be in time */
	settle(c);
	one_place.of[LIMIT_rpm].count = 0;
	admit(0, 0, &one_place);
	c = call(1, 0, &one_place, 2 * CLOCK_SECOND); /* nobody knows when a place comes free */
	until_over(c);
	assert_true(c->late && !c->admitted);
	assert_int_equal(c->answer.verdict, LIMITER_DENIED);
	assert_true(c->answer.wait > 0);
	settle(c);
	settle(&callers[0]);
}

/* A word may come before the answer that it belongs to, for it takes another connection. */
static void a_word_that_comes_early_counts(void **state)
{
	struct caller *c;
	char text[64];
	int length;

	(void)state;
	admit(0, 0, &one_place);
	c = call(1, 0, &one_place, TIMEOUT);
	length = snprintf(text, sizeof(text), "turn %.*s", SLICE_ARGS(limiter_id(c->lease)));
	assert_true(queue_hint(rig.worker[0].queue, slice_make(text, (size_t)length)));
	while (c->turns == 0)
		loop_turn(rig.loop, true);
	assert_false(c->over); /* it asked, and waits on */
	settle(&callers[0]);
	until_over(c);
	assert_true(c->admitted);
	settle(c);
}

static void the_beat_makes_good_what_was_not_heard(void **state)
{
	struct caller *c;

	(void)state;
	admit(0, 1, &one_place);
	c = call(1, 0, &one_place, TIMEOUT);
	until_queued(c);
	rig.worker[0].deaf = true;
	settle(&callers[0]);
	while (rig.worker[0].hints == 0)
		loop_turn(rig.loop, true);
	until_over(c); /* it was passed over, and asked anew */
	assert_true(c->admitted);
	settle(c);
}

static void a_redis_that_forgot_them_is_asked_anew(void **state)
{
	struct caller *c[2];

	(void)state;
	admit(0, 0, &one_place);
	for (size_t i = 0; i < 2; i++) {
		c[i] = call(1 + i, 0, &one_place, TIMEOUT);
		until_queued(c[i]);
	}
	redis_server_do(rig.server, "FLUSHALL");
	until_over(c[0]);
	assert_true(c[0]->admitted); /* also the lease is forgotten, until it is renewed */
	settle(c[0]);
	until_over(c[1]);
	assert_true(c[1]->admitted);
	settle(c[1]);
	settle(&callers[0]);
}

static void a_worker_that_died_holds_nobody_up(void **state)
{
	struct caller *dead[2], *alive;

	(void)state;
	admit(0, 0, &one_place);
	for (size_t i = 0; i < 2; i++) {
		dead[i] = call(1 + i, 1, &one_place, TIMEOUT);
		until_queued(dead[i]);
	}
	alive = call(3, 0, &one_place, TIMEOUT);
	until_queued(alive);
	subscriber_free(&rig.worker[1].listener); /* and says nothing any more */
	settle(&callers[0]);
	until_over(alive);
	assert_true(alive->admitted);
	settle(alive);
}

/* Without Redis there is no line, but there is waiting: for its worker's share. */
static void who_waits_goes_on_waiting_without_redis(void **state)
{
	struct caller *c[3];
	int64_t began;

	(void)state;
	share = true;
	admit(0, 0, &ten_a_second);
	for (size_t i = 0; i < 3; i++) {
		c[i] = call(1 + i, 0, &ten_a_second, TIMEOUT);
		until_queued(c[i]);
	}
	redis_server_kill(rig.server);
	began = clock_now();
	for (size_t i = 0; i < 3; i++) {
		until_over(c[i]);
		assert_true(c[i]->admitted && c[i]->answer.local);
	}
	assert_true(clock_now() - began >= 350 * CLOCK_MILLISECOND); /* three of a share of five a second */
	redis_server_restart(rig.server);
	for (size_t i = 0; i <= 3; i++)
		settle(&callers[i]);
	share = false;
}

/* By this worker alone: the place goes from one to the next as it comes free. */
static void each_in_its_turn_without_redis(void **state)
{
	struct caller *c[4];

	(void)state;
	share = true;
	redis_server_kill(rig.server);
	for (size_t i = 0; i < 4; i++) {
		c[i] = call(i, 0, &one_place, TIMEOUT);
		if (i == 0)
			until_over(c[0]);
		else
			until_queued(c[i]);
	}
	settle(c[2]); /* its client leaves */
	for (size_t i = 0; i < 4; i += i == 1 ? 2 : 1) {
		until_over(c[i]);
		assert_true(c[i]->admitted && c[i]->answer.local);
		for (size_t k = i + 1; k < 4; k++)
			assert_false(c[k]->over);
		settle(c[i]);
	}
	redis_server_restart(rig.server);
	share = false;
}

static bool are_alone(bool alone)
{
	for (int i = 0; i < WORKERS; i++)
		if (limiter_state(rig.worker[i].limiter).alone != alone)
			return false;
	return true;
}

/* A Redis that is full answers beats, and knows of no line any more: who waits for its worker's share does not ask at each. */
static void a_line_that_is_not_used_is_not_looked_after(void **state)
{
	struct caller *c;
	unsigned turns;

	(void)state;
	share = true;
	admit(0, 0, &one_place);
	c = call(1, 0, &one_place, TIMEOUT);
	until_queued(c);
	redis_server_do(rig.server, "CONFIG SET maxmemory 1");
	while (!are_alone(true))
		loop_turn(rig.loop, true);
	redis_server_do(rig.server, "DEL sluice:{u:gem}:w sluice:{u:gem}:f");
	until_queued(c);
	for (int64_t began = clock_now(); clock_now() - began < BEAT;)
		loop_turn(rig.loop, true);
	turns = c->turns;
	for (int64_t began = clock_now(); clock_now() - began < 5 * BEAT;)
		loop_turn(rig.loop, true);
	assert_int_equal(c->turns, turns);
	settle(&callers[0]);
	until_over(c); /* it is called */
	assert_true(c->admitted && c->answer.local);
	assert_int_equal(c->turns, turns + 1);
	redis_server_do(rig.server, "CONFIG SET maxmemory 0");
	while (!are_alone(false))
		loop_turn(rig.loop, true);
	settle(c);
	share = false;
}

static void a_redis_that_does_not_answer_is_told_of(void **state)
{
	struct caller *c;

	(void)state;
	admit(0, 0, &one_place);
	c = call(1, 0, &one_place, TIMEOUT);
	until_queued(c);
	redis_server_kill(rig.server);
	until_over(c);
	assert_true(c->unavailable || c->admitted);
	settle(c);
	redis_server_restart(rig.server);
	settle(&callers[0]);
}

/* The line is lost before the first beat in it, and somebody else's worker has begun another one by then. */
static void who_waited_in_a_line_that_is_another_one_now_asks_anew(void **state)
{
	struct caller *first, *others;

	(void)state;
	admit(0, 0, &one_place);
	first = call(1, 0, &one_place, TIMEOUT);
	until_queued(first);
	for (int64_t end = clock_now() + BEAT / 20; clock_now() < end;)
		loop_turn(rig.loop, false);
	redis_server_do(rig.server, "DEL sluice:{u:gem}:w sluice:{u:gem}:f");
	others = call(2, 1, &one_place, TIMEOUT);
	until_queued(others);
	for (int64_t end = clock_now() + 5 * BEAT; clock_now() < end && first->turns == 0;)
		loop_turn(rig.loop, true);
	assert_true(first->turns > 0);
	for (size_t i = 0; i < 3; i++)
		settle(&callers[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_in_its_turn, begin, end),
		cmocka_unit_test_setup_teardown(time_brings_it_too, begin, end),
		cmocka_unit_test_setup_teardown(who_leaves_is_not_missed, begin, end),
		cmocka_unit_test_setup_teardown(who_waited_long_enough_is_told_how_long_it_would_be, begin, end),
		cmocka_unit_test_setup_teardown(a_word_that_comes_early_counts, begin, end),
		cmocka_unit_test_setup_teardown(the_beat_makes_good_what_was_not_heard, begin, end),
		cmocka_unit_test_setup_teardown(a_redis_that_forgot_them_is_asked_anew, begin, end),
		cmocka_unit_test_setup_teardown(a_worker_that_died_holds_nobody_up, begin, end),
		cmocka_unit_test_setup_teardown(who_waits_goes_on_waiting_without_redis, begin, end),
		cmocka_unit_test_setup_teardown(each_in_its_turn_without_redis, begin, end),
		cmocka_unit_test_setup_teardown(who_waited_in_a_line_that_is_another_one_now_asks_anew, begin, end),
		cmocka_unit_test_setup_teardown(a_line_that_is_not_used_is_not_looked_after, begin, end),
		cmocka_unit_test_setup_teardown(a_redis_that_does_not_answer_is_told_of, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

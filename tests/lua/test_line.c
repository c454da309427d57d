/* lua/part/line.lua inside admit, settle and beat on a real Redis, with the time given: who waits, who is called, who is passed over. The shares under load
 * are test_line_load's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/limiter_rig.h"
#include "tests/support/line_rig.h"

#define LATE   (50 * CLOCK_MILLISECOND)
#define LATEST (200 * CLOCK_MILLISECOND)

static const struct line_rule rule = { .depth = 100, .weight = { 5, 3, 1 }, .share = { 100 }, .groups = 1 };
/* One a second, two at once; places without end. */
static const struct limits upstream = { .of[LIMIT_rpm] = { .count = 60, .burst = 2 } };
static const struct limits one_place = { .of[LIMIT_concurrency] = { .count = 1 } };
static const struct limits model = { .of[LIMIT_rpm] = { .count = 30, .burst = 1 } };
static struct limiter_answer answer;
static struct limiter_ask ask;
static int64_t reserved[16];

static enum limiter_verdict admit_on(const struct limits *m, const struct limits *u, const char *id, enum lane lane,
				     int64_t most, int64_t now)
{
	ask = limiter_rig_ask(id, NULL, m, u, 0);
	ask.line.rule = &rule;
	ask.line.lane = lane;
	ask.line.most = most;
	limiter_rig_admit(&ask, RIG_START + now, &answer, &reserved[0]);
	return answer.verdict;
}

static enum limiter_verdict admit(const char *id, enum lane lane, int64_t most, int64_t now)
{
	return admit_on(NULL, &upstream, id, lane, most, now);
}

static void settle_on(const struct limits *m, const struct limits *u, const char *id, bool waits, int64_t now)
{
	struct limiter_ask of = limiter_rig_ask(id, NULL, m, u, 0);
	struct limiter_used used = { 0 };
	struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = RIG_START, .waits = waits };
	int64_t forgiven[LIMIT_COUNT] = { 0 };
	of.line.rule = &rule;
	limiter_rig_settle(&of, &used, &past, RIG_START + now, forgiven);
}

static void expect_call(const char *channel, const char *id)
{
	char at[LINE_RIG_TEXT], called[LINE_RIG_TEXT];
	assert_true(line_rig_called(at, called));
	assert_string_equal(called, id);
	assert_string_equal(at, channel);
}

static void expect_no_call(void)
{
	char at[LINE_RIG_TEXT], called[LINE_RIG_TEXT];
	if (line_rig_called(at, called))
		fail_msg("%s was called", called);
}

static void expect_no_line(void)
{
	assert_int_equal(redis_server_int(limiter_rig_server(),
					  "EXISTS sluice:{u:gem}:w sluice:{u:gem}:f sluice:{m:pro}:w sluice:{m:pro}:f"),
			 0);
}

/* Empties the bucket. */
static void use_up(int64_t now)
{
	assert_int_equal(admit("u1", LANE_HIGH, 0, now), LIMITER_ADMITTED);
	assert_int_equal(admit("u2", LANE_HIGH, 0, now), LIMITER_ADMITTED);
}

static void nobody_waits_where_there_is_room(void **state)
{
	(void)state;
	use_up(0);
	expect_no_line();
	assert_int_equal(admit("x", LANE_HIGH, 0, 0), LIMITER_DENIED); /* it may not wait */
	assert_int_equal(answer.wait, CLOCK_SECOND);
	expect_no_line();
}

static void the_first_is_told_when_to_come_and_calls_the_next(void **state)
{
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(answer.wait, CLOCK_SECOND); /* nobody is before it: it comes by itself */
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	limiter_rig_as("b");
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 1000), LIMITER_QUEUED);
	assert_int_equal(answer.wait, 0); /* it will be called */
	expect_no_call();
	limiter_rig_as("a");
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND - 1),
			 LIMITER_QUEUED); /* too early, by as much */
	assert_int_equal(answer.wait, 1);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("b", "y");
	limiter_rig_as("b");
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND + 500), LIMITER_QUEUED);
	assert_int_equal(answer.wait, CLOCK_SECOND - 500);
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 2 * CLOCK_SECOND), LIMITER_ADMITTED);
	expect_no_line();
	expect_no_call();
}

static void nobody_gets_in_before_those_who_wait(void **state)
{
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_LOW, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("y", LANE_HIGH, 0, CLOCK_SECOND + 1000), LIMITER_DENIED); /* there is room, for x */
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_true(answer.wait > 0);
	assert_int_equal(admit("x", LANE_LOW, CLOCK_MINUTE, CLOCK_SECOND + 2000), LIMITER_ADMITTED);
	assert_int_equal(admit("y", LANE_HIGH, 0, 2 * CLOCK_SECOND), LIMITER_ADMITTED);
}

static void who_cannot_make_it_is_refused_at_once(void **state)
{
	char id[24];
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_SECOND - 1, 0), LIMITER_DENIED);
	assert_int_equal(answer.wait, CLOCK_SECOND);
	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof id, "w%d", i);
		assert_int_equal(admit(id, LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	}
	assert_int_equal(admit("x", LANE_HIGH, 9 * CLOCK_SECOND, 0),
			 LIMITER_DENIED); /* ten are before it, a second each */
	assert_int_equal(answer.wait, 10 * CLOCK_SECOND);
	assert_int_equal(admit("y", LANE_LOW, 5 * CLOCK_SECOND, 0),
			 LIMITER_DENIED); /* one is before it, of six parts one is its lane's */
	assert_int_equal(answer.wait, 6 * CLOCK_SECOND);
	assert_int_equal(admit("y", LANE_LOW, 6 * CLOCK_SECOND, 0), LIMITER_QUEUED);
}

/* Who is alone behind few of another lane is not reckoned with a lane that stays full; when the line has stood for long it is. */
static void a_few_before_are_not_taken_for_many(void **state)
{
	(void)state;
	use_up(0);
	assert_int_equal(admit("h1", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("h2", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("l1", LANE_LOW, 2 * CLOCK_SECOND - 1, 0), LIMITER_DENIED);
	assert_int_equal(answer.wait, 2 * CLOCK_SECOND);
	assert_int_equal(admit("l1", LANE_LOW, 2 * CLOCK_SECOND, 0), LIMITER_QUEUED);
	settle_on(NULL, &upstream, "l1", true, 0);
	for (int second = 1; second <= 3; second++) {
		char id[24];
		snprintf(id, sizeof id, "h%d", second);
		assert_int_equal(admit(id, LANE_HIGH, CLOCK_MINUTE, second * CLOCK_SECOND), LIMITER_ADMITTED);
		snprintf(id, sizeof id, "h%d", second + 2);
		assert_int_equal(admit(id, LANE_HIGH, CLOCK_MINUTE, second * CLOCK_SECOND), LIMITER_QUEUED);
	}
	assert_int_equal(admit("l2", LANE_LOW, 6 * CLOCK_SECOND - 1, 3 * CLOCK_SECOND), LIMITER_DENIED);
	assert_int_equal(answer.wait, 6 * CLOCK_SECOND);
}

static void a_full_line_is_said_to_be_full(void **state)
{
	struct line_rule narrow = rule;
	(void)state;
	use_up(0);
	narrow.depth = 1;
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	ask = limiter_rig_ask("y", NULL, NULL, &upstream, 0);
	ask.line.rule = &narrow;
	ask.line.most = CLOCK_MINUTE;
	limiter_rig_admit(&ask, RIG_START, &answer, &reserved[0]);
	assert_int_equal(answer.verdict, LIMITER_FULL);
	assert_int_equal(answer.wait, CLOCK_SECOND);
	ask.line.waited = true; /* but not for who has stood in it, and has lost its place */
	limiter_rig_admit(&ask, RIG_START, &answer, &reserved[0]);
	assert_int_equal(answer.verdict, LIMITER_QUEUED);
}

static void who_leaves_makes_room_at_once(void **state)
{
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_as("b");
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("z", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	settle_on(NULL, &upstream, "y", true, 1000);
	expect_no_call();
	limiter_rig_as("a");
	settle_on(NULL, &upstream, "x", true, 2000); /* it was called: the next one is */
	expect_call("b", "z");
	limiter_rig_as("b");
	settle_on(NULL, &upstream, "z", true, 3000);
	expect_no_line();
	settle_on(NULL, &upstream, "z", true, 4000); /* twice is once */
	expect_no_line();
}

static void a_place_that_comes_free_calls_who_waits_for_it(void **state)
{
	(void)state;
	assert_int_equal(admit_on(NULL, &one_place, "x", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	limiter_rig_as("b");
	assert_int_equal(admit_on(NULL, &one_place, "y", LANE_HIGH, CLOCK_MINUTE, 1000), LIMITER_QUEUED);
	assert_int_equal(answer.wait,
			 CLOCK_SECOND); /* should x have begun when there was no such limit, nobody tells of its end */
	limiter_rig_as("a");
	settle_on(NULL, &one_place, "x", false, 2000);
	expect_call("b", "y");
	limiter_rig_as("b");
	assert_int_equal(admit_on(NULL, &one_place, "y", LANE_HIGH, CLOCK_MINUTE, 3000), LIMITER_ADMITTED);
	expect_no_line();
}

/* The line of the model: what its upstream has room for does not wait for it. */
static void each_waits_where_it_has_to(void **state)
{
	(void)state;
	assert_int_equal(admit_on(&model, &upstream, "x", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit_on(&model, &upstream, "y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(answer.wait, 2 * CLOCK_SECOND);
	assert_int_equal(admit("z", LANE_LOW, 0, 0), LIMITER_ADMITTED); /* of another model */
	assert_int_equal(admit("v", LANE_LOW, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(admit("v", LANE_LOW, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
	assert_int_equal(admit("u", LANE_LOW, 0, 2 * CLOCK_SECOND), LIMITER_ADMITTED);
	/* Its model has room, its upstream has none: it stands in that line too. */
	assert_int_equal(admit_on(&model, &upstream, "y", LANE_HIGH, CLOCK_MINUTE, 2 * CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(answer.wait, CLOCK_SECOND);
	assert_int_equal(redis_server_int(limiter_rig_server(), "EXISTS sluice:{m:pro}:f"), 1);
	assert_int_equal(admit_on(&model, &upstream, "y", LANE_HIGH, CLOCK_MINUTE, 3 * CLOCK_SECOND), LIMITER_ADMITTED);
	expect_no_line();
}

/* It is called at the upstream and finds its model full: others are called, and it is next there when its model has room. */
static void who_finds_its_model_full_steps_aside(void **state)
{
	(void)state;
	assert_int_equal(admit_on(&model, NULL, "m", LANE_HIGH, 0, CLOCK_SECOND / 2),
			 LIMITER_ADMITTED); /* till 2.5 s */
	use_up(0);
	assert_int_equal(admit_on(&model, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("z", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit_on(&model, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(answer.wait, 3 * CLOCK_SECOND / 2);
	expect_call("a", "y");
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND + 1000), LIMITER_ADMITTED);
	expect_call("a", "z");
	assert_int_equal(admit("z", LANE_HIGH, CLOCK_MINUTE, 2 * CLOCK_SECOND), LIMITER_ADMITTED);
	assert_int_equal(admit("v", LANE_HIGH, CLOCK_MINUTE, 2 * CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(admit("w", LANE_HIGH, CLOCK_MINUTE, 2 * CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(admit_on(&model, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, 5 * CLOCK_SECOND / 2),
			 LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(admit("v", LANE_HIGH, CLOCK_MINUTE, 3 * CLOCK_SECOND),
			 LIMITER_ADMITTED); /* it had been called */
	expect_call("a", "x");
	assert_int_equal(admit_on(&model, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, 4 * CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("a", "w");
	settle_on(NULL, &upstream, "w", true, 4 * CLOCK_SECOND);
	expect_no_line();
}

/* Who waits for the upstream has its place in its model's line from then on, which who comes later does not take, and gives it up when it leaves. */
static void who_waits_has_a_place_in_both_lines(void **state)
{
	const struct limits slow = { .of[LIMIT_rpm] = { .count = 6, .burst = 1 } };
	(void)state;
	assert_int_equal(admit_on(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit_on(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	use_up(0);
	assert_int_equal(admit_on(&slow, &upstream, "x", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(admit_on(&slow, &upstream, "y", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit_on(&slow, NULL, "later", LANE_HIGH, CLOCK_HOUR, 0),
			 LIMITER_QUEUED); /* of another upstream */
	assert_int_equal(admit_on(&slow, &upstream, "z", LANE_HIGH, 35 * CLOCK_SECOND, 0), LIMITER_DENIED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	/* behind the head, x, y and the later one; then it is next at the upstream */
	assert_int_equal(answer.wait, 41 * CLOCK_SECOND);
	assert_int_equal(redis_server_int(limiter_rig_server(), "ZCARD sluice:{m:pro}:w"), 3); /* all but the head */
	settle_on(&slow, &upstream, "y", true, 0);
	assert_int_equal(admit_on(&slow, &upstream, "late", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit_on(&slow, &upstream, "late", LANE_HIGH, 0, 1000), LIMITER_DENIED);
	assert_int_equal(redis_server_int(limiter_rig_server(), "ZCARD sluice:{m:pro}:w"), 2);
	assert_int_equal(admit_on(&slow, &upstream, "z", LANE_HIGH, 25 * CLOCK_SECOND, 0), LIMITER_DENIED);
	assert_int_equal(answer.wait, 31 * CLOCK_SECOND);
	assert_int_equal(admit_on(&slow, &upstream, "x", LANE_HIGH, CLOCK_HOUR, CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(admit_on(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 10 * CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("a", "x");
	settle_on(&slow, &upstream, "x", true, 10 * CLOCK_SECOND);
	expect_call("a", "later");
	settle_on(&slow, NULL, "later", true, 10 * CLOCK_SECOND);
	expect_no_line();
}

static void a_refusal_of_the_tenant_takes_it_out(void **state)
{
	struct limits t = { .of[LIMIT_rpm] = { .count = 60, .burst = 1 } };
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	ask = limiter_rig_ask("other", &t, NULL, NULL, 0);
	limiter_rig_admit(&ask, RIG_START, &answer, &reserved[0]);
	assert_int_equal(answer.verdict, LIMITER_ADMITTED);
	ask = limiter_rig_ask("x", &t, NULL, &upstream, 0);
	ask.line.rule = &rule;
	ask.line.most = CLOCK_MINUTE;
	limiter_rig_admit(&ask, RIG_START + 1000, &answer, &reserved[0]);
	assert_int_equal(answer.verdict, LIMITER_DENIED);
	assert_int_equal(answer.scope, LIMITER_TENANT);
	expect_no_line();
}

static void the_dead_are_passed_over(void **state)
{
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_as("c");
	for (int i = 0; i < 5; i++) {
		char id[24];
		snprintf(id, sizeof id, "d%d", i);
		assert_int_equal(admit(id, LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	}
	limiter_rig_as("b");
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	line_rig_deaf("c");
	limiter_rig_as("a");
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("b", "y");
	line_rig_listen(&line_rig_workers[2]);
}

/* However many: a beat says that there are more, and is followed by another at once. */
static void a_crowd_of_the_dead_is_passed_over(void **state)
{
	struct line_rule wide = rule;
	int64_t number[64] = { 2 };
	int beats = 0;
	(void)state;
	use_up(0);
	wide.depth = 1000;
	limiter_rig_as("c");
	for (int i = 0; i < 500; i++) {
		char id[24];
		snprintf(id, sizeof id, "d%d", i);
		ask = limiter_rig_ask(id, NULL, NULL, &upstream, 0);
		ask.line.rule = &wide;
		ask.line.most = CLOCK_HOUR;
		limiter_rig_admit(&ask, RIG_START, &answer, &reserved[0]);
		assert_int_equal(answer.verdict, LIMITER_QUEUED);
	}
	line_rig_deaf("c");
	limiter_rig_as("a");
	ask = limiter_rig_ask("x", NULL, NULL, &upstream, 0);
	ask.line.rule = &wide;
	ask.line.most = CLOCK_HOUR;
	limiter_rig_admit(&ask, RIG_START + CLOCK_SECOND, &answer, &reserved[0]);
	assert_int_equal(answer.verdict, LIMITER_QUEUED);
	for (; number[0] == 2; beats++)
		limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + 3 * CLOCK_SECOND, number);
	print_message("500 dead in %d beats\n", beats);
	assert_true(beats <= 9);
	expect_call("a", "x");
	line_rig_listen(&line_rig_workers[2]);
}

/* As a change goes through the fleet, one knows of a group that the other does not. */
static void a_group_that_one_does_not_know_is_served_all_the_same(void **state)
{
	struct line_rule more = rule;
	(void)state;
	use_up(0);
	more.groups = 2;
	more.share[0] = more.share[1] = 50;
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_as("b");
	ask = limiter_rig_ask("y", NULL, NULL, &upstream, 0);
	ask.line.rule = &more;
	ask.line.group = 1;
	ask.line.most = CLOCK_MINUTE;
	limiter_rig_admit(&ask, RIG_START, &answer, &reserved[0]);
	assert_int_equal(answer.verdict, LIMITER_QUEUED);
	limiter_rig_as("a");
	assert_int_equal(admit("z", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("b", "y"); /* its clock is behind */
}

static void who_does_not_come_is_passed_over(void **state)
{
	int64_t number[64];
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_as("b");
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("z", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_as("a");
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + CLOCK_SECOND, number); /* the last that is seen of it */
	limiter_rig_as("b");
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + CLOCK_SECOND + LATE - 1, number);
	expect_no_call();
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + CLOCK_SECOND + LATE, number);
	expect_call("a", "x"); /* once more */
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + CLOCK_SECOND + LATEST - 1, number);
	expect_call("a", "x");
	assert_int_equal(limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + CLOCK_SECOND + LATEST, number), 7);
	expect_call("b", "y");
	assert_int_equal(number[0], 1);
	assert_int_equal(number[1], RIG_START);
	assert_int_equal(number[5], 0);
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND + LATEST), LIMITER_ADMITTED);
	expect_call("b", "z");
	assert_int_equal(admit("z", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND + LATEST), LIMITER_QUEUED);
	limiter_rig_as("a"); /* it wakes up: a newcomer, like any other */
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + CLOCK_SECOND + LATEST, number);
	assert_int_equal(number[5], 1);
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + CLOCK_SECOND + LATEST, number);
	assert_int_equal(number[5], 0); /* it is told once */
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND + LATEST), LIMITER_QUEUED);
	assert_int_equal(answer.wait, 0);
}

static void a_beat_tells_of_a_line_that_is_gone(void **state)
{
	int64_t number[64];
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("y", LANE_LOW, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START, number);
	assert_int_equal(number[0], 1);
	assert_int_equal(number[4], 1); /* low; x is called */
	limiter_rig_flush();
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START, number);
	assert_int_equal(number[0], 0);
}

/* It is first in its model's line and stands in the upstream's, where it beats. In the model's it is seen when it is told, and asks. */
static void who_was_told_to_wait_no_longer_is_not_called(void **state)
{
	int64_t number[64];
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_SECOND, 0), LIMITER_QUEUED);
	assert_int_equal(admit("y", LANE_HIGH, 3 * CLOCK_SECOND, 0), LIMITER_QUEUED);
	assert_int_equal(admit("z", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + 4 * CLOCK_SECOND, number);
	expect_call("a", "z");
}

static void commands_are_capped(void **state)
{
	(void)state;
	use_up(0);
	limiter_rig_calls();
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	print_message("the first to wait: %lld calls\n", (long long)limiter_rig_calls());
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	int64_t calls = limiter_rig_calls();
	print_message("the second: %lld\n", (long long)calls);
	assert_true(calls <= 14);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
	calls = limiter_rig_calls();
	print_message("admitted, and the next one called: %lld\n", (long long)calls);
	assert_true(calls <= 20);
	settle_on(NULL, &upstream, "x", false, CLOCK_SECOND);
	calls = limiter_rig_calls();
	print_message("settled beside a line: %lld\n", (long long)calls);
	assert_true(calls <= 3); /* nothing came free that could be waited for */
}

/* Somebody spoils w: those who stood in it are in nobody's order any more, and ask anew, so that they are not passed by all who come. */
static void who_was_deleted_asks_anew(void **state)
{
	static const char *const spoilers[] = { "DEL sluice:{u:gem}:w", "SET sluice:{u:gem}:w rubbish EX 60" };
	int64_t number[64];
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(spoilers); i++) {
		limiter_rig_flush();
		use_up(0);
		assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
		assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
		assert_int_equal(limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + 1000, number), 7);
		assert_int_equal(number[0], 1);
		redis_server_do(limiter_rig_server(), spoilers[i]);
		assert_int_equal(limiter_rig_beat(&ask, LIMITER_UPSTREAM, RIG_START + 2000, number), 7);
		assert_int_equal(number[0], 0); /* nobody waits there */
		expect_no_line();
		assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 3000), LIMITER_QUEUED);
		assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 3000), LIMITER_QUEUED);
		assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
		expect_call("a", "x");
		assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 2 * CLOCK_SECOND), LIMITER_ADMITTED);
		expect_no_line();
	}
}

/* It had begun to leave when something failed: it is gone all the same, and the next is called. */
static void a_head_of_which_nothing_is_known_leaves(void **state)
{
	(void)state;
	use_up(0);
	assert_int_equal(admit("x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	redis_server_do(limiter_rig_server(), "HDEL sluice:{u:gem}:f e:x");
	settle_on(NULL, &upstream, "x", true, 1000);
	expect_call("a", "y");
	assert_int_equal(admit("y", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
	expect_no_line();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nobody_waits_where_there_is_room, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(the_first_is_told_when_to_come_and_calls_the_next, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(nobody_gets_in_before_those_who_wait, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_cannot_make_it_is_refused_at_once, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_few_before_are_not_taken_for_many, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_full_line_is_said_to_be_full, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_leaves_makes_room_at_once, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_place_that_comes_free_calls_who_waits_for_it, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(each_waits_where_it_has_to, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_finds_its_model_full_steps_aside, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_waits_has_a_place_in_both_lines, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_refusal_of_the_tenant_takes_it_out, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(the_dead_are_passed_over, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_crowd_of_the_dead_is_passed_over, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_group_that_one_does_not_know_is_served_all_the_same, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_does_not_come_is_passed_over, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_beat_tells_of_a_line_that_is_gone, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_was_told_to_wait_no_longer_is_not_called, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_was_deleted_asks_anew, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_head_of_which_nothing_is_known_leaves, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(commands_are_capped, line_rig_clean, limiter_rig_leave),
	};
	return cmocka_run_group_tests(tests, line_rig_begin, line_rig_end);
}

/* Two lines, a model's and its upstream's, on a real Redis, with the time given: who waits in the one has a place in the other, and gives it up. test_line has the
 * order in which they are gone through. */
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

static const struct limits upstream = { .of[LIMIT_rpm] = { .count = 60, .burst = 1 } }; /* one a second */
static const struct limits model = { .of[LIMIT_rpm] = { .count = 30, .burst = 1 } };    /* one in two */
static const struct limits slow = { .of[LIMIT_rpm] = { .count = 6, .burst = 1 } };      /* one in ten */
static const struct limits one_place = { .of[LIMIT_concurrency] = { .count = 1 } };
static struct line_rule rule;
static size_t group;
static bool waited; /* who asks */
static struct limiter_answer answer;

static int clean(void **state)
{
	rule = (struct line_rule){ .depth = 1000, .weight = { 5, 3, 1 }, .share = { 100 }, .groups = 1 };
	group = 0;
	waited = false;
	return line_rig_clean(state);
}

static struct limiter_ask ask_of(const struct limits *m, const struct limits *u, const char *id, enum lane lane,
				 int64_t most)
{
	struct limiter_ask ask = limiter_rig_ask(id, NULL, m, u, 0);
	ask.line.rule = &rule;
	ask.line.lane = lane;
	ask.line.group = group;
	ask.line.waited = waited;
	ask.line.most = most;
	return ask;
}

static enum limiter_verdict admit(const struct limits *m, const struct limits *u, const char *id, enum lane lane,
				  int64_t most, int64_t now)
{
	const struct limiter_ask ask = ask_of(m, u, id, lane, most);
	int64_t reserved[16];
	limiter_rig_admit(&ask, RIG_START + now, &answer, reserved);
	return answer.verdict;
}

static void leave(const struct limits *m, const struct limits *u, const char *id, int64_t now)
{
	const struct limiter_ask ask = ask_of(m, u, id, LANE_HIGH, 0);
	const struct limiter_used used = { 0 };
	const struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = RIG_START, .waits = true };
	int64_t forgiven[LIMIT_COUNT] = { 0 };
	limiter_rig_settle(&ask, &used, &past, RIG_START + now, forgiven);
}

static size_t beat(const struct limits *m, const struct limits *u, enum limiter_scope scope, int64_t now,
		   int64_t number[static 64])
{
	const struct limiter_ask ask = ask_of(m, u, "beat", LANE_HIGH, 0);
	return limiter_rig_beat(&ask, scope, RIG_START + now, number);
}

static int64_t held(const char *line) /* in that line's order: places and tickets, without the head */
{
	return redis_server_int(limiter_rig_server(), "ZCARD sluice:{%s}:w", line);
}

/* The model's head has room there, and has waited as long as it may: the upstream, where nobody waits yet, has none for it. */
static void who_has_no_more_time_is_not_let_through_a_full_upstream(void **state)
{
	(void)state;
	assert_int_equal(admit(&model, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&model, &upstream, "x", LANE_HIGH, 2 * CLOCK_SECOND, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 2 * CLOCK_SECOND - 1), LIMITER_ADMITTED);
	assert_int_equal(admit(&model, &upstream, "x", LANE_HIGH, 0, 2 * CLOCK_SECOND), LIMITER_DENIED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_in_range(answer.wait, CLOCK_SECOND - 1, 2 * CLOCK_SECOND);
}

/* The last lane of the last group is a class like any other. */
static void all_groups_have_lines(void **state)
{
	int64_t number[64];
	(void)state;
	rule.groups = LINE_GROUPS;
	for (size_t i = 0; i < rule.groups; i++)
		rule.share[i] = 12;
	assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	group = rule.groups - 1;
	assert_int_equal(admit(&slow, NULL, "head", LANE_LOW, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(&slow, NULL, "1", LANE_LOW, CLOCK_HOUR, 0), LIMITER_QUEUED);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(beat(&slow, NULL, LIMITER_MODEL, i * 1000, number), 7);
		assert_int_equal(number[0], 1);
		assert_int_equal(number[4], 1);
		assert_int_equal(admit(&slow, &upstream, i == 0 ? "x" : "y", LANE_LOW, CLOCK_HOUR, i * 1000),
				 LIMITER_QUEUED);
		assert_int_equal(answer.scope, LIMITER_UPSTREAM);
		assert_int_equal(held("m:pro"), 2 + i);
	}
}

/* Every key expires, whoever wrote it last. */
static void a_ticket_expires_with_its_line(void **state)
{
	(void)state;
	assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, &upstream, "x", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(held("m:pro"), 1);
	limiter_rig_check_expiries();
}

/* One knows of groups that the other does not. */
static void a_ticket_of_a_group_that_another_does_not_know_is_given_back(void **state)
{
	(void)state;
	assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	rule.groups = 2;
	rule.share[0] = rule.share[1] = 50;
	group = 1;
	assert_int_equal(admit(&slow, &upstream, "x", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	rule.groups = 1;
	group = 0;
	leave(&slow, &upstream, "x", 1000);
	assert_int_equal(held("m:pro"), 0);
}

/* Who is refused changes nothing. */
static void who_is_refused_takes_no_ticket(void **state)
{
	(void)state;
	assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(NULL, &upstream, "up", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	uint64_t before = limiter_rig_digest();
	assert_int_equal(admit(&slow, &upstream, "x", LANE_HIGH, CLOCK_SECOND, 0), LIMITER_DENIED);
	assert_true(limiter_rig_digest() == before);
}

/* Nobody who comes later is reckoned to be behind it. */
static void who_waits_in_vain_gives_its_ticket_up(void **state)
{
	(void)state;
	assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &slow, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(NULL, &slow, "up", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(&slow, &slow, "x", LANE_LOW, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(held("m:pro"), 1);
	assert_int_equal(admit(&slow, &slow, "x", LANE_LOW, 0, 5 * CLOCK_SECOND), LIMITER_DENIED); /* late */
	assert_int_equal(held("m:pro"), 0);
}

/* Both are full all the time: their heads ask and wait on. */
static void go_on(int64_t now)
{
	const struct slice m = SLICE("m"), u = SLICE("u");
	assert_int_equal(limiter_rig_renew("sluice:{m:pro}:l", &m, 1, RIG_START + now), 0);
	assert_int_equal(limiter_rig_renew("sluice:{u:gem}:l", &u, 1, RIG_START + now), 0);
	assert_int_equal(admit(&one_place, NULL, "head", LANE_HIGH, CLOCK_HOUR, now), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &one_place, "up", LANE_HIGH, CLOCK_HOUR, now), LIMITER_QUEUED);
}

static void tickets_of_the_dead_go_in_time(void **state)
{
	enum { DEAD = 20, LIVING = 8, COME = 200 };
	char id[24];
	int64_t now = 0;
	(void)state;
	assert_int_equal(admit(&one_place, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(NULL, &one_place, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	go_on(now);
	for (int i = 0; i < LIVING; i++) {
		snprintf(id, sizeof id, "l%d", i);
		assert_int_equal(admit(&one_place, &one_place, id, LANE_HIGH, CLOCK_HOUR, now), LIMITER_QUEUED);
	}
	limiter_rig_as("c");
	for (int i = 0; i < DEAD; i++) {
		snprintf(id, sizeof id, "d%d", i);
		assert_int_equal(admit(&one_place, &one_place, id, LANE_LOW, CLOCK_MINUTE, now), LIMITER_QUEUED);
	}
	limiter_rig_as("a");
	assert_int_equal(held("m:pro"), LIVING + DEAD);
	for (; now <= CLOCK_MINUTE; now += 5 * CLOCK_SECOND)
		go_on(now);
	for (int i = 0; i < COME; i++) { /* and leave again */
		now += 11171;
		go_on(now);
		snprintf(id, sizeof id, "n%d", i);
		assert_int_equal(admit(&one_place, &one_place, id, LANE_HIGH, CLOCK_HOUR, now), LIMITER_QUEUED);
		leave(&one_place, &one_place, id, now);
	}
	assert_in_range(held("m:pro"), LIVING, LIVING + DEAD / 10);
}

/* Who has stepped aside is not refused for those who wait there; so who comes is, for those who may come there before it. */
static void the_models_line_is_as_deep_as_any(void **state)
{
	char id[24];
	int full = 0;
	(void)state;
	rule.depth = 4;
	assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	for (int i = 0; i < 8; i++) { /* each is called as soon as it has come, for the first has stepped aside */
		snprintf(id, sizeof id, "x%d", i);
		if (admit(&slow, &upstream, id, LANE_HIGH, CLOCK_HOUR, 0) == LIMITER_FULL) {
			full++;
			continue;
		}
		assert_int_equal(answer.verdict, LIMITER_QUEUED);
		waited = true;
		assert_int_equal(admit(&slow, &upstream, id, LANE_HIGH, CLOCK_HOUR, CLOCK_SECOND), LIMITER_QUEUED);
		assert_int_equal(answer.scope, LIMITER_MODEL);
		waited = false;
	}
	assert_int_equal(held("m:pro"), 3); /* and the head */
	assert_int_equal(full, 5);
}

/* What is left of a line whose clocks are lost is not counted, whatever it is. */
static void a_line_begins_anew_over_what_is_left_of_another(void **state)
{
	static const char *const left[] = { "SET sluice:{m:pro}:w rubbish EX 60",
					    "ZADD sluice:{m:pro}:w 5e15 900000000000000000" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(left); i++) {
		limiter_rig_flush();
		redis_server_do(limiter_rig_server(), left[i]);
		assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
		assert_int_equal(admit(&slow, NULL, "x", LANE_HIGH, 10 * CLOCK_SECOND, 0), LIMITER_QUEUED);
		assert_int_equal(admit(&slow, NULL, "y", LANE_HIGH, 22 * CLOCK_SECOND, 0), LIMITER_QUEUED);
		assert_int_equal(held("m:pro"), 1);
	}
}

/* Others may leave, or be served sooner than is thought. */
static void who_was_let_in_is_not_turned_out_by_an_estimate(void **state)
{
	(void)state;
	assert_int_equal(admit(&slow, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, NULL, "head", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(&slow, NULL, "second", LANE_HIGH, CLOCK_HOUR, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&slow, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit(&slow, &upstream, "y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	waited = true;
	assert_int_equal(admit(&slow, &upstream, "x", LANE_HIGH, 15 * CLOCK_SECOND, CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL); /* the third, at one in ten seconds */
	assert_int_equal(admit(&slow, &upstream, "y", LANE_HIGH, 8 * CLOCK_SECOND, CLOCK_SECOND), LIMITER_DENIED);
	assert_in_range(answer.wait, 9 * CLOCK_SECOND, CLOCK_MINUTE); /* nobody is served before that */
	assert_int_equal(answer.scope, LIMITER_MODEL);
}

/* Not by how long calls last on average either, which is all that is known of a place. */
static void who_was_let_in_waits_for_a_place_as_long_as_it_may(void **state)
{
	(void)state;
	assert_int_equal(admit(NULL, &one_place, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(NULL, &one_place, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	redis_server_do(limiter_rig_server(), "DEL sluice:{u:gem}:w sluice:{u:gem}:f");
	waited = true;
	assert_int_equal(admit(NULL, &one_place, "x", LANE_HIGH, RIG_HOLD / 2, CLOCK_SECOND), LIMITER_QUEUED);
	limiter_rig_flush();
	waited = false;
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&one_place, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&one_place, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	waited = true; /* it is called, and steps aside */
	assert_int_equal(admit(&one_place, &upstream, "x", LANE_HIGH, RIG_HOLD / 2, CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
}

/* Their places at the upstream are lost; in their model's line they are whom others come after, once, and in the order of coming. */
static void who_asks_anew_has_its_ticket_already(void **state)
{
	enum { COUNT = 8 };
	char text[64];
	(void)state;
	assert_int_equal(admit(&one_place, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(NULL, &one_place, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	go_on(0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < COUNT; i++) {
			snprintf(text, sizeof(text), "x%d", round % 2 == 0 ? i : COUNT - 1 - i);
			assert_int_equal(admit(&one_place, &one_place, text, LANE_HIGH, CLOCK_HOUR,
					       round * CLOCK_SECOND + i),
					 LIMITER_QUEUED);
			assert_int_equal(answer.scope, LIMITER_UPSTREAM);
		}
		assert_int_equal(held("m:pro"), COUNT);
		for (int i = 0; i < COUNT; i++) {
			snprintf(text, sizeof(text), "ZRANK sluice:{m:pro}:w x%d", i);
			assert_int_equal(redis_server_int(limiter_rig_server(), text), i);
		}
		redis_server_do(limiter_rig_server(), "DEL sluice:{u:gem}:w sluice:{u:gem}:f");
		go_on((round + 1) * CLOCK_SECOND);
		waited = true;
	}
	for (int i = 0; i < COUNT; i++) {
		snprintf(text, sizeof(text), "x%d", i);
		leave(&one_place, &one_place, text, 3 * CLOCK_SECOND);
	}
	assert_int_equal(held("m:pro"), 0);
	assert_int_equal(redis_server_int(limiter_rig_server(), "HLEN sluice:{m:pro}:f"),
			 redis_server_int(limiter_rig_server(), "HLEN sluice:{u:gem}:f"));
}

static void expect_call(const char *id)
{
	char channel[LINE_RIG_TEXT], called[LINE_RIG_TEXT];
	assert_true(line_rig_called(channel, called));
	assert_string_equal(called, id);
}

static void end(const struct limits *m, const struct limits *u, const char *id, int64_t now)
{
	struct limiter_ask ask = ask_of(m, u, id, LANE_HIGH, 0);
	const struct limiter_used used = { 0 };
	const struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = RIG_START };
	int64_t forgiven[LIMIT_COUNT] = { 0 };
	limiter_rig_settle(&ask, &used, &past, RIG_START + now, forgiven);
}

/* m has the model's only place, and x the next one; but its upstream has none for ten seconds. y and z want another. */
static void crowd_a_model(void)
{
	assert_int_equal(admit(&one_place, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(admit(&one_place, NULL, "y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit(&one_place, NULL, "z", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &slow, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	end(&one_place, NULL, "m", CLOCK_SECOND);
	expect_call("x");
	waited = true;
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(answer.wait, 9 * CLOCK_SECOND);
	expect_call("y");
	assert_int_equal(admit(&one_place, NULL, "y", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("z");
	assert_int_equal(admit(&one_place, NULL, "z", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_QUEUED);
}

/* Who gave way at once is next in both when its upstream has room. */
static void a_models_line_does_not_stand_for_a_slower_upstream(void **state)
{
	(void)state;
	crowd_a_model();
	end(&one_place, NULL, "y", 10 * CLOCK_SECOND);
	expect_call("z");
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, 10 * CLOCK_SECOND), LIMITER_ADMITTED);
	assert_int_equal(held("m:pro"), 0);
	assert_int_equal(admit(&one_place, NULL, "z", LANE_HIGH, CLOCK_MINUTE, 10 * CLOCK_SECOND), LIMITER_QUEUED);
	end(&one_place, &slow, "x", 11 * CLOCK_SECOND);
	expect_call("z");
	assert_int_equal(admit(&one_place, NULL, "z", LANE_HIGH, CLOCK_MINUTE, 11 * CLOCK_SECOND), LIMITER_ADMITTED);
	assert_int_equal(redis_server_int(limiter_rig_server(), "EXISTS sluice:{m:pro}:f sluice:{u:gem}:f"), 0);
}

/* Its upstream does, for the model, which takes turns more quickly; and for no longer than two of those. */
static void an_upstreams_line_stands_for_a_quicker_model(void **state)
{
	(void)state;
	crowd_a_model();
	waited = false;
	assert_int_equal(admit(NULL, &slow, "o", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_QUEUED);
	waited = true;
	assert_int_equal(admit(&one_place, NULL, "z", LANE_HIGH, CLOCK_MINUTE, 10 * CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, 10 * CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(answer.wait, CLOCK_SECOND);
	end(&one_place, NULL, "y", 10 * CLOCK_SECOND);
	expect_call("z");
	assert_int_equal(admit(&one_place, NULL, "z", LANE_HIGH, CLOCK_MINUTE, 10 * CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("x");
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, 10 * CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	end(&one_place, NULL, "z", 11 * CLOCK_SECOND);
	expect_call("x");
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, 11 * CLOCK_SECOND), LIMITER_ADMITTED);
	expect_call("o");
	leave(NULL, &slow, "o", 11 * CLOCK_SECOND);
	assert_int_equal(redis_server_int(limiter_rig_server(), "EXISTS sluice:{m:pro}:f sluice:{u:gem}:f"), 0);
}

static void an_upstreams_line_does_not_stand_for_long(void **state)
{
	(void)state;
	crowd_a_model();
	waited = false;
	assert_int_equal(admit(NULL, &slow, "o", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_QUEUED);
	waited = true;
	for (int second = 10; second <= 12; second++) {
		const struct slice y = SLICE("y");
		assert_int_equal(limiter_rig_renew("sluice:{m:pro}:l", &y, 1, RIG_START + second * CLOCK_SECOND), 0);
		assert_int_equal(admit(&one_place, NULL, "z", LANE_HIGH, CLOCK_MINUTE, second * CLOCK_SECOND),
				 LIMITER_QUEUED);
		assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, second * CLOCK_SECOND),
				 LIMITER_QUEUED);
		assert_int_equal(answer.scope, LIMITER_MODEL);
		assert_int_equal(answer.wait, second < 12 ? CLOCK_SECOND : 0);
	}
	expect_call("o");
	assert_int_equal(admit(NULL, &slow, "o", LANE_HIGH, CLOCK_MINUTE, 12 * CLOCK_SECOND), LIMITER_ADMITTED);
}

/* Its limit is quick, and in debt. */
static void an_upstreams_line_does_not_stand_for_a_model_that_cannot_come(void **state)
{
	static const struct limits quick = { .of[LIMIT_rpm] = { .count = 600, .burst = 1 } };
	char debt[64];
	(void)state;
	assert_int_equal(admit(&quick, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(NULL, &upstream, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&quick, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(admit(NULL, &upstream, "n", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	snprintf(debt, sizeof(debt), "HSET sluice:{m:pro}:q rpm %lld", (long long)(RIG_START + 30 * CLOCK_SECOND));
	redis_server_do(limiter_rig_server(), debt);
	waited = true;
	assert_int_equal(admit(&quick, &upstream, "x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	expect_call("n");
	assert_int_equal(admit(NULL, &upstream, "n", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_ADMITTED);
}

/* The upstream takes turns more quickly than the model, as far as is known; but this time it does not. */
static void a_models_line_does_not_stand_for_long(void **state)
{
	(void)state;
	assert_int_equal(admit(&model, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&model, &one_place, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit(&model, NULL, "y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &one_place, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	waited = true;
	for (int second = 2; second <= 4; second++) {
		assert_int_equal(admit(&model, &one_place, "x", LANE_HIGH, CLOCK_MINUTE, second * CLOCK_SECOND),
				 LIMITER_QUEUED);
		assert_int_equal(answer.scope, LIMITER_UPSTREAM);
		assert_int_equal(answer.wait, CLOCK_SECOND);
	}
	expect_call("y");
	assert_int_equal(admit(&model, NULL, "y", LANE_HIGH, CLOCK_MINUTE, 4 * CLOCK_SECOND), LIMITER_ADMITTED);
	end(NULL, &one_place, "u", 5 * CLOCK_SECOND);
	expect_call("x");
	assert_int_equal(admit(&model, &one_place, "x", LANE_HIGH, CLOCK_MINUTE, 5 * CLOCK_SECOND), LIMITER_QUEUED);
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(admit(&model, &one_place, "x", LANE_HIGH, CLOCK_MINUTE, 6 * CLOCK_SECOND), LIMITER_ADMITTED);
}

/* Its worker beats in the upstream's line alone. */
static void a_models_head_that_is_stopped_is_passed_over(void **state)
{
	int64_t number[64];
	(void)state;
	limiter_rig_as("c");
	assert_int_equal(admit(&one_place, NULL, "m", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	limiter_rig_as("b");
	assert_int_equal(admit(&one_place, NULL, "y", LANE_HIGH, CLOCK_MINUTE, 0), LIMITER_QUEUED);
	assert_int_equal(admit(NULL, &slow, "u", LANE_HIGH, 0, 0), LIMITER_ADMITTED);
	end(&one_place, NULL, "m", CLOCK_SECOND);
	expect_call("x");
	limiter_rig_as("c");
	waited = true;
	assert_int_equal(admit(&one_place, &slow, "x", LANE_HIGH, CLOCK_MINUTE, CLOCK_SECOND), LIMITER_QUEUED);
	limiter_rig_as("b");
	for (int beat_at = 3; beat_at <= 4; beat_at++)
		(void)beat(&one_place, NULL, LIMITER_MODEL, beat_at * CLOCK_SECOND / 2, number);
	(void)beat(&one_place, NULL, LIMITER_MODEL, 5 * CLOCK_SECOND / 2 + 1, number);
	expect_call("y");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_has_no_more_time_is_not_let_through_a_full_upstream, clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(all_groups_have_lines, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_ticket_expires_with_its_line, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_ticket_of_a_group_that_another_does_not_know_is_given_back, clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_is_refused_takes_no_ticket, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_waits_in_vain_gives_its_ticket_up, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(the_models_line_is_as_deep_as_any, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_line_begins_anew_over_what_is_left_of_another, clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_was_let_in_is_not_turned_out_by_an_estimate, clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(tickets_of_the_dead_go_in_time, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_was_let_in_waits_for_a_place_as_long_as_it_may, clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_asks_anew_has_its_ticket_already, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_models_line_does_not_stand_for_a_slower_upstream, clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(an_upstreams_line_stands_for_a_quicker_model, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(an_upstreams_line_does_not_stand_for_long, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(an_upstreams_line_does_not_stand_for_a_model_that_cannot_come, clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_models_line_does_not_stand_for_long, clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_models_head_that_is_stopped_is_passed_over, clean, limiter_rig_leave),
	};
	return cmocka_run_group_tests(tests, line_rig_begin, line_rig_end);
}

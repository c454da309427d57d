/* lib/limiter when Redis is back: what it is told, how often, and what it holds then. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "scripts.h"
#include "tests/support/away_rig.h"
#include "tests/support/random.h"
#include "tests/support/script_rig.h"

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

static struct worker *const worker = away.worker;

static int64_t leases(void)
{
	return redis_server_int(away.rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf");
}

/* ---- what is owed ---------------------------------------------------------------------------------------------------------------- */

/* In a log, what was admitted without Redis stands in the slice of its time: what it gives back is not taken from the others of now. */
static void a_refund_takes_nothing_from_others(void **state)
{
	struct limits limits = { .of[LIMIT_tpm] = { .count = 6000, .strict = true } };
	struct attempt early, others[16];
	(void)state;
	away_lose_redis();
	assert_int_equal(away_ask(&worker[0], &early, &limits, 100), LIMITER_ADMITTED);
	away_get_redis_back();
	for (int i = 0; i < 16; i++) { /* in every slice near the return */
		assert_int_equal(away_ask(&worker[0], &others[i], &limits, 10), LIMITER_ADMITTED);
		assert_false(others[i].answer.local);
		away_let_pass(60 * CLOCK_MILLISECOND);
	}
	assert_int_equal(redis_server_int(away.rig.server, "HGET sluice:{t:acme}:s:tpm sum"), 100 + 16 * 10);
	away_settle(&early, 0);
	away_until(away_has_settled, &worker[0]);
	assert_int_equal(redis_server_int(away.rig.server, "HGET sluice:{t:acme}:s:tpm sum"), 100 + 16 * 10);
	for (int i = 0; i < 16; i++) /* theirs is found */
		away_settle(&others[i], 0);
	away_until(away_has_settled, &worker[0]);
	assert_int_equal(redis_server_int(away.rig.server, "HGET sluice:{t:acme}:s:tpm sum"), 100);
}

/* Somebody has spoilt a key, so what is admitted in that scope is decided here, and cannot be told: one call of it at a time, once a second. */
static void merges_that_fail_do_not_multiply(void **state)
{
	struct attempt a;
	(void)state;
	redis_server_do(away.rig.server, "SET sluice:{t:acme}:q rubbish");
	int64_t began = clock_now();
	int count = 0;
	for (; clock_now() - began < 2500 * CLOCK_MILLISECOND; count++) {
		assert_int_equal(away_ask(&worker[0], &a, &away_slow, 1), LIMITER_ADMITTED);
		assert_true(a.answer.local);
		away_settle(&a, 1);
		assert_in_range(limiter_unsettled(worker[0].limiter), 0, 3); /* with the names that it gave back */
		away_let_pass(20 * CLOCK_MILLISECOND);
	}
	assert_in_range(worker[0].heard[LIMITER_MERGE], 2, 3);
	redis_server_do(away.rig.server, "DEL sluice:{t:acme}:q");
	away_let_pass(60 * CLOCK_MILLISECOND); /* since the last one failed, at the latest */
	int64_t since = clock_now();
	assert_int_equal(away_ask(&worker[0], &a, &away_slow, 1), LIMITER_ADMITTED);
	assert_false(a.answer.local);
	away_settle(&a, 1);
	away_until(away_has_settled,
		   &worker[0]); /* Redis takes asks, and so it is told, and of what came to be owed meanwhile */
	assert_true(clock_now() - since < CLOCK_SECOND / 2);
	assert_int_equal(away_slow_used("t:acme"), count + 1);
	assert_true(limiter_counts(worker[0].limiter)->merged <= 2);
}

/* What Redis did not answer, once, is held there as soon as it is charged, and not from the next beat on. */
static void what_is_charged_later_is_held_at_once(void **state)
{
	struct attempt a;
	(void)state;
	redis_server_do(away.rig.server, "SET sluice:{t:acme}:q rubbish");
	assert_int_equal(away_ask(&worker[0], &a, &away_slow, 10), LIMITER_ADMITTED);
	redis_server_do(away.rig.server, "DEL sluice:{t:acme}:q");
	assert_int_equal(leases(), 0);
	away_until(away_has_settled, &worker[0]); /* it is told */
	int64_t since = clock_now();
	while (leases() == 0)
		loop_turn(away.rig.loop, true);
	assert_true(clock_now() - since < CLOCK_SECOND);
	assert_int_equal(limiter_held(worker[0].limiter), 1);
	away_settle(&a, 7);
	away_until(away_has_settled, &worker[0]);
	assert_int_equal(away_slow_used("t:acme"), 7);
	assert_int_equal(leases(), 0);
}

/* Redis is told what it used, once, though it does not hold it, for no renewal came through; whether the first word was lost or its answer was. */
static void what_is_not_held_is_corrected_all_the_same(void **state)
{
	struct attempt a;
	(void)state;
	for (int answer_lost = 0; answer_lost < 2; answer_lost++) {
		fault_proxy_tell(away.proxy, "refuse on");
		fault_proxy_tell(away.proxy, "reset");
		away_until_all(away_is_alone);
		assert_int_equal(away_ask(&worker[0], &a, &away_slow, 10), LIMITER_ADMITTED);
		assert_true(a.answer.local);
		fault_proxy_tell(away.proxy, "refuse off");
		away_until_all(away_is_back);
		while (leases() == 0)
			loop_turn(away.rig.loop, true);
		away_until(away_has_settled, &worker[0]);
		redis_server_do(away.rig.server, "ZREM sluice:{t:acme}:l %s", a.id);
		fault_proxy_tell(away.proxy, answer_lost ? "drop-reply-every 1" : "stall on");
		uint64_t again = limiter_counts(worker[0].limiter)->settled_again;
		away_settle(&a, 7);
		while (limiter_counts(worker[0].limiter)->settled_again == again)
			loop_turn(away.rig.loop, true);
		fault_proxy_tell(away.proxy, "drop-reply-every 0");
		fault_proxy_tell(away.proxy, "reset");
		fault_proxy_tell(away.proxy, "stall off");
		away_until(away_has_settled, &worker[0]);
		assert_int_equal(away_slow_used("t:acme"), 7 * (1 + answer_lost));
		away_until_all(away_is_back);
	}
}

/* What runs when Redis is back counts there, before anybody else is admitted. */
static void places_that_are_taken_stay_taken(void **state)
{
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 3 } };
	struct attempt a[AWAY_WORKERS], more;
	(void)state;
	away_lose_redis();
	for (int i = 0; i < AWAY_WORKERS; i++)
		assert_int_equal(away_ask(&worker[i], &a[i], &limits, 0), LIMITER_ADMITTED);
	away_get_redis_back();
	for (int i = 0; i < AWAY_WORKERS; i++) {
		assert_int_equal(away_ask(&worker[i], &more, &limits, 0), LIMITER_DENIED);
		assert_false(more.answer.local);
		away_settle(&more, 0);
	}
	for (int i = 0; i < AWAY_WORKERS; i++)
		away_settle(&a[i], 0);
	away_until_all(away_has_settled);
	assert_int_equal(leases(), 0);
}

/* Though Redis has lost the script that tells it so, and none that admits. */
static void places_are_told_before_anybody_asks(void **state)
{
	static const struct script *const known[] = { &script_admit, &script_census };
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 1 } };
	struct attempt a, more;
	(void)state;
	assert_int_equal(away_ask(&worker[0], &a, &limits, 1), LIMITER_ADMITTED);
	fault_proxy_tell(away.proxy, "refuse on");
	fault_proxy_tell(away.proxy, "reset");
	away_until_all(away_is_alone);
	redis_server_do(away.rig.server, "FLUSHALL");
	redis_server_do(away.rig.server, "SCRIPT FLUSH");
	redisContext *redis = script_rig_connect(away.rig.server);
	script_rig_load(redis, known, ARRAY_LENGTH(known));
	redisFree(redis);
	fault_proxy_tell(away.proxy, "refuse off");
	away_until(away_is_back, &worker[0]);
	assert_int_equal(away_ask(&worker[0], &more, &limits, 1), LIMITER_DENIED);
	assert_false(more.answer.local);
	away_settle(&more, 0);
	away_settle(&a, 0);
	away_until(away_has_settled, &worker[0]);
}

/* What was asked for it and never answered may still come, behind all else: it must find that it is over. */
static void what_is_late_finds_that_it_is_over(void **state)
{
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 1 } };
	struct away_call call = { .upstream = &limits, .unshared = true };
	struct attempt taken, a;
	char command[200];
	(void)state;
	for (int admitted = 0; admitted < 2; admitted++) {
		assert_int_equal(away_line(&worker[0], &taken, &call), LIMITER_ADMITTED);
		assert_int_equal(away_line(&worker[0], &a, &call), LIMITER_QUEUED);
		fault_proxy_tell(away.proxy, "drop-reply-every 1");
		assert_int_equal(away_again(&a, 10 * CLOCK_SECOND), LIMITER_UNAVAILABLE);
		fault_proxy_tell(away.proxy, "drop-reply-every 0");
		away_until(away_is_back, &worker[0]);
		if (admitted) {
			away_settle(&taken, 0);
			away_until(away_has_settled, &worker[0]);
		}
		assert_int_equal(away_again(&a, 10 * CLOCK_SECOND), admitted ? LIMITER_ADMITTED : LIMITER_QUEUED);
		away_settle(&a, 0);
		away_until(away_has_settled, &worker[0]);
		snprintf(command, sizeof(command), "ZSCORE sluice:{u:provider}:l %s", a.id);
		struct redisReply *reply = redis_server_command(away.rig.server, command);
		struct slice score;
		assert_true(redis_reply_text(reply, &score) && score.data[0] == '-'); /* a tombstone */
		freeReplyObject(reply);
		away_settle(&taken, 0);
		away_until(away_has_settled, &worker[0]);
	}
}

/* One of its scopes cannot be told: what it gives back in the other, or takes beyond its reservation, is told there all the same. */
static void what_is_told_of_one_scope_is_corrected_there(void **state)
{
	const struct away_call call = { .model = &away_slow, .upstream = &away_slow, .tokens = 10 };
	struct attempt a[4];
	(void)state;
	redis_server_do(away.rig.server, "SET sluice:{m:model}:q rubbish");
	for (int i = 0; i < 4; i++) {
		assert_int_equal(away_line(&worker[0], &a[i], &call), LIMITER_ADMITTED);
		assert_true(a[i].answer.local);
		away_let_pass(200 * CLOCK_MILLISECOND); /* what can be told is */
	}
	struct attempt free; /* nothing limits it at its upstream */
	const struct limits none = { .of[LIMIT_rpm] = { .count = 0 } };
	assert_int_equal(away_line(&worker[0], &free,
				   &(struct away_call){ .model = &away_slow, .upstream = &none, .tokens = 10 }),
			 LIMITER_ADMITTED);
	away_let_pass(200 * CLOCK_MILLISECOND);
	away_settle(&free, 0);
	away_settle(&a[1], 1);
	away_settle(&a[2], 30);
	away_let_pass(200 * CLOCK_MILLISECOND);
	redis_server_do(away.rig.server, "DEL sluice:{m:model}:q");
	away_settle(&a[0], 10);
	away_settle(&a[3], 10);
	away_until(away_has_settled, &worker[0]);
	away_let_pass(1500 * CLOCK_MILLISECOND);
	print_message("upstream %lld of 51, model %lld of 51\n", (long long)away_slow_used("u:provider"),
		      (long long)away_slow_used("m:model"));
	assert_int_equal(away_slow_used("u:provider"), 51);
	assert_int_equal(away_slow_used("m:model"), 51);
}

/* ---- who lives -------------------------------------------------------------------------------------------------------------------- */

/* An outage in which all are forgotten, and a second one behind it: nobody takes those who have not been heard again for dead. */
static void who_lived_lives_until_he_is_heard_again(void **state)
{
	struct limits limits = { .of[LIMIT_rpd] = { .count = 9, .burst = 9 } };
	struct attempt a[16];
	int admitted = 0, count = 0;
	(void)state;
	away_lose_redis();
	away_let_pass(3200 * CLOCK_MILLISECOND);
	redis_server_restart(away.rig.server);
	for (int i = 0; i < AWAY_WORKERS; i++) {
		away_until(away_is_back, &worker[i]);
		assert_int_equal(limiter_state(worker[i].limiter).live, AWAY_WORKERS);
	}
	away_lose_redis();
	for (; count < 15; count++)
		admitted += away_ask(&worker[count % AWAY_WORKERS], &a[count], &limits, 0) == LIMITER_ADMITTED;
	assert_int_equal(admitted, 9); /* three each */
	for (int i = 0; i < count; i++)
		away_settle(&a[i], 0);
	away_get_redis_back();
	away_until_all(away_has_settled);
}

/* Whoever begins without Redis knows of nobody: each has the whole limit, and says that it knows of none; its part when it has heard. */
static void who_never_heard_of_others_divides_with_nobody(void **state)
{
	struct limits limits = { .of[LIMIT_rpd] = { .count = 9, .burst = 9 } };
	struct attempt a[2][27];
	(void)state;
	for (int round = 0; round < 2; round++) {
		int admitted = 0;
		for (int i = 0; i < 27; i++)
			admitted += away_ask(&worker[i % AWAY_WORKERS], &a[round][i], &limits, 0) == LIMITER_ADMITTED;
		assert_int_equal(admitted, round == 0 ? 27 : 0); /* all owe what they took */
		for (int i = 0; i < 27; i++)
			away_settle(&a[round][i], 0);
		for (int i = 0; i < AWAY_WORKERS && round == 0; i++)
			assert_int_equal(limiter_state(worker[i].limiter).live, 0);
		if (round == 0)
			away_get_redis_back();
	}
	away_until_all(away_has_settled);
}

/* A key of somebody else's: the log says so once, and nobody asks twenty times a second. */
static void a_census_that_is_refused_is_told_once(void **state)
{
	struct attempt a;
	(void)state;
	redis_server_do(away.rig.server, "SET sluice:{fleet}:i rubbish");
	away_let_pass(1300 * CLOCK_MILLISECOND);
	assert_int_equal(away_logged("\"limiter.census\""), AWAY_WORKERS);
	assert_int_equal(limiter_state(worker[0].limiter).live, AWAY_WORKERS); /* as last heard */
	int heard = worker[0].heard[LIMITER_CENSUS];
	away_let_pass(CLOCK_SECOND);
	assert_in_range(worker[0].heard[LIMITER_CENSUS] - heard, 0, 2);
	assert_int_equal(away_ask(&worker[0], &a, &away_slow, 1), LIMITER_ADMITTED);
	assert_false(a.answer.local);
	away_settle(&a, 1);
	redis_server_do(away.rig.server, "DEL sluice:{fleet}:i");
	away_let_pass(1200 * CLOCK_MILLISECOND);
	assert_true(redis_server_int(away.rig.server, "ZCARD sluice:{fleet}:i") > 0);
	redis_server_do(away.rig.server, "SET sluice:{fleet}:i rubbish");
	away_let_pass(1200 * CLOCK_MILLISECOND);
	assert_int_equal(away_logged("\"limiter.census\""), 2 * AWAY_WORKERS); /* it began again */
}

/* ---- for long ------------------------------------------------------------------------------------------------------------------- */

static void what_is_given_up_is_one_line(void **state)
{
	struct attempt a[20];
	(void)state;
	for (int i = 0; i < 20; i++)
		assert_int_equal(away_ask(&worker[0], &a[i], &away_slow, 1), LIMITER_ADMITTED);
	away_lose_redis();
	for (int i = 0; i < 20; i++)
		away_settle(&a[i], 1);
	redis_rig_hold();
	clock_test_advance(CLOCK_MINUTE);
	for (int i = 0; i < 1000 && limiter_counts(worker[0].limiter)->abandoned < 20; i++, poll(NULL, 0, 5))
		loop_turn(away.rig.loop, false); /* its timers are not held: each tries once more */
	assert_int_equal(limiter_counts(worker[0].limiter)->abandoned, 20);
	assert_int_equal(away_logged("\"limiter.abandoned\""), 1);
	clock_test_release();
}

/* All that Redis keeps is a minute later than its clock says: that was set back. Nothing is admitted twice for it, nothing is lost or stuck. */
static void redis_clock_may_be_set_back_meanwhile(void **state)
{
	struct attempt before, meanwhile, after;
	(void)state;
	assert_int_equal(away_ask(&worker[0], &before, &away_slow, 10), LIMITER_ADMITTED);
	redis_server_pause(away.rig.server);
	assert_int_equal(away_ask(&worker[0], &meanwhile, &away_slow, 20), LIMITER_ADMITTED);
	assert_true(meanwhile.answer.local);
	away_until_all(away_is_alone);
	redis_server_resume(away.rig.server);
	assert_int_equal(redis_server_int(away.rig.server, "EVAL %s 2 sluice:{t:acme}:q sluice:{t:acme}:l",
					  "redis.call('HINCRBY', KEYS[1], 'tpd', 60000000) "
					  "redis.call('HINCRBY', KEYS[1], 'tpd:f', 60000000) "
					  "for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], 0, '+inf')) do "
					  "redis.call('ZINCRBY', KEYS[2], 60000000, id) end return 1"),
			 1);
	away_until_all(away_is_back);
	assert_int_equal(away_ask(&worker[0], &after, &away_slow, 5), LIMITER_ADMITTED);
	assert_false(after.answer.local);
	away_settle(&before, 10);
	away_settle(&meanwhile, 20);
	away_settle(&after, 5);
	away_until_all(away_has_settled);
	assert_int_equal(away_slow_used("t:acme"), 35);
	assert_int_equal(leases(), 0);
}

/* Requests and tokens, strict and not, in one scope, over a loss and the return: what was used is charged once, and a window never holds more than it may. */
static void mixed_costs_add_up_over_a_loss(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 6000, .burst = 600 },
				 .of[LIMIT_tpm] = { .count = 6000, .strict = true },
				 .of[LIMIT_tpd] = away_slow.of[LIMIT_tpd] };
	uint64_t random = 7;
	int64_t reserved = 0, used = 0;
	int local = 0, count = 0;
	(void)state;
	int64_t began = clock_now();
	for (int phase = 0; phase < 3; phase++) {
		if (phase == 1)
			redis_server_pause(away.rig.server);
		if (phase == 2)
			redis_server_resume(away.rig.server);
		for (int64_t since = clock_now(); clock_now() - since < 700 * CLOCK_MILLISECOND; count++) {
			struct attempt a;
			int64_t tokens = 1 + (int64_t)random_below(&random, 30), true_use;
			enum limiter_verdict verdict = away_ask(&worker[count % AWAY_WORKERS], &a, &limits, tokens);
			true_use =
				verdict == LIMITER_ADMITTED ? (int64_t)random_below(&random, (uint32_t)tokens + 1) : 0;
			assert_true(verdict == LIMITER_ADMITTED || a.answer.wait > 0);
			reserved += verdict == LIMITER_ADMITTED ? tokens : 0;
			local += verdict == LIMITER_ADMITTED && a.answer.local;
			used += true_use;
			away_settle(&a, true_use);
			away_let_pass(5 * CLOCK_MILLISECOND);
		}
	}
	away_until_all(away_is_back);
	away_until_all(away_has_settled);
	int64_t sum = redis_server_int(away.rig.server, "HGET sluice:{t:acme}:s:tpm sum");
	print_message("%lld used of %lld reserved, %d locally; the log holds %lld after %lld ms\n", (long long)used,
		      (long long)reserved, local, (long long)sum, (long long)((clock_now() - began) / 1000));
	assert_true(local > 3);
	assert_int_equal(away_slow_used("t:acme"), used);
	assert_in_range(sum, used, reserved);
	assert_true(reserved <= 6000);
	assert_int_equal(leases(), 0);
}

/* A reload while Redis is away: of what was admitted under other limits that is told which there still are. */
static void limits_may_change_while_redis_is_away(void **state)
{
	struct limits twice = { .of[LIMIT_tpd] = { .count = 200, .burst = 6000 },
				.of[LIMIT_tpm] = { .count = 60000, .strict = true } };
	struct limits other = { .of[LIMIT_rpm] = { .count = 600, .burst = 60 },
				.of[LIMIT_tpd] = away_slow.of[LIMIT_tpd] };
	struct attempt a[3], open;
	(void)state;
	away_lose_redis();
	assert_int_equal(away_ask(&worker[0], &a[0], &away_slow, 10), LIMITER_ADMITTED);
	assert_int_equal(away_ask(&worker[0], &open, &twice, 40), LIMITER_ADMITTED);
	assert_int_equal(away_ask(&worker[0], &a[1], &twice, 20), LIMITER_ADMITTED);
	assert_int_equal(away_ask(&worker[0], &a[2], &other, 10), LIMITER_ADMITTED);
	for (int i = 0; i < 3; i++)
		away_settle(&a[i], 10);
	away_get_redis_back();
	away_until(away_has_settled, &worker[0]);
	assert_int_equal(away_slow_used("t:acme"), 10 + 40 / 2 + 10 / 2 + 10); /* in tokens of 864 s */
	assert_true(redis_server_int(away.rig.server, "HGET sluice:{t:acme}:q rpm") > 0);
	away_settle(&open, 0);
	away_until(away_has_settled, &worker[0]);
	assert_int_equal(away_slow_used("t:acme"), 10 + 10 / 2 + 10);
	assert_int_equal(leases(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_refund_takes_nothing_from_others, away_begin, away_end),
		cmocka_unit_test_setup_teardown(merges_that_fail_do_not_multiply, away_begin, away_end),
		cmocka_unit_test_setup_teardown(what_is_charged_later_is_held_at_once, away_begin, away_end),
		cmocka_unit_test_setup_teardown(what_is_not_held_is_corrected_all_the_same, away_begin_behind_proxy,
						away_end),
		cmocka_unit_test_setup_teardown(places_that_are_taken_stay_taken, away_begin, away_end),
		cmocka_unit_test_setup_teardown(places_are_told_before_anybody_asks, away_begin_behind_proxy, away_end),
		cmocka_unit_test_setup_teardown(what_is_late_finds_that_it_is_over, away_begin_behind_proxy, away_end),
		cmocka_unit_test_setup_teardown(what_is_told_of_one_scope_is_corrected_there, away_begin, away_end),
		cmocka_unit_test_setup_teardown(who_lived_lives_until_he_is_heard_again, away_begin, away_end),
		cmocka_unit_test_setup_teardown(who_never_heard_of_others_divides_with_nobody, away_begin_without_redis,
						away_end),
		cmocka_unit_test_setup_teardown(a_census_that_is_refused_is_told_once, away_begin, away_end),
		cmocka_unit_test_setup_teardown(what_is_given_up_is_one_line, away_begin, away_end),
		cmocka_unit_test_setup_teardown(redis_clock_may_be_set_back_meanwhile, away_begin, away_end),
		cmocka_unit_test_setup_teardown(mixed_costs_add_up_over_a_loss, away_begin, away_end),
		cmocka_unit_test_setup_teardown(limits_may_change_while_redis_is_away, away_begin, away_end),
	};
	return cmocka_run_group_tests_name("limiter_back", tests, NULL, NULL);
}

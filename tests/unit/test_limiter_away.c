/* lib/limiter when Redis goes away and comes back: who decides meanwhile, within what bound, and what Redis is told afterwards, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/away_rig.h"

enum { WORKERS = AWAY_WORKERS, HELD_MOST = 64 };

static struct worker *const worker = away.worker;

/* One request each of as many as are admitted now; none is held. */
static int take_all(struct worker *w, const struct limits *limits)
{
	struct attempt a;
	for (int count = 0;; count++) {
		enum limiter_verdict verdict = away_ask(w, &a, limits, 0);
		away_settle(&a, 0);
		if (verdict == LIMITER_ADMITTED)
			continue;
		assert_int_equal(verdict, LIMITER_DENIED);
		assert_true(a.answer.wait > 0);
		return count;
	}
}

/* ---- away ---------------------------------------------------------------------------------------------------------------------- */

static void a_fleet_without_redis_stays_within_its_limit(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 600, .burst = 60 } };
	int all = 0;
	(void)state;
	redis_server_kill(away.rig.server);
	int64_t lost = clock_now();
	while (clock_now() - lost < 1500 * CLOCK_MILLISECOND)
		for (int i = 0; i < WORKERS; i++)
			all += take_all(&worker[i], &limits);
	int64_t most = 60 + 600 * (clock_now() - lost) / CLOCK_MINUTE;
	print_message("%d admitted of at most %lld\n", all, (long long)most);
	assert_true(all <= most);
	assert_true(all >= most * 9 / 10);
	for (int i = 0; i < WORKERS; i++) {
		assert_true(away_is_alone(&worker[i]));
		assert_int_equal(worker[i].changes, 1);
		assert_string_equal(worker[i].why, "no answer");
		assert_true(limiter_counts(worker[i].limiter)->local_admitted > 0);
	}
}

static void what_was_used_before_is_known(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 60, .burst = 30 } };
	int before = 0, after = 0;
	(void)state;
	for (int more = 1; more > 0;) { /* all three take a part of the burst */
		more = 0;
		for (int i = 0; i < WORKERS; i++) {
			struct attempt a;
			more += away_ask(&worker[i], &a, &limits, 0) == LIMITER_ADMITTED;
			away_settle(&a, 0);
		}
		before += more;
	}
	assert_in_range(before, 30, 32);
	redis_server_kill(away.rig.server);
	for (int i = 0; i < WORKERS; i++)
		after += take_all(&worker[i], &limits);
	assert_in_range(after, 0, 3); /* not another burst */
}

static void the_mode_applies_within_100_ms_and_nobody_waits_then(void **state)
{
	struct attempt first, second;
	(void)state;
	redis_server_pause(away.rig.server);
	int64_t asked = clock_now();
	assert_int_equal(away_ask(&worker[0], &first, &away_slow, 10), LIMITER_ADMITTED);
	int64_t took = clock_now() - asked;
	assert_true(first.answer.local && took <= 100 * CLOCK_MILLISECOND);
	asked = clock_now();
	assert_int_equal(away_ask(&worker[0], &second, &away_slow, 10), LIMITER_ADMITTED);
	assert_true(clock_now() - asked < 20 * CLOCK_MILLISECOND);
	redis_server_resume(away.rig.server);
	int64_t resumed = clock_now();
	away_until(away_is_back, &worker[0]);
	assert_true(clock_now() - resumed < CLOCK_SECOND);
	print_message("mode after %lld us, normal after %lld us\n", (long long)took,
		      (long long)(clock_now() - resumed));
	away_settle(&first, 7);
	away_settle(&second, 5);
	away_until(away_has_settled, &worker[0]);
	away_let_pass(50 * CLOCK_MILLISECOND);
	assert_int_equal(away_slow_used("t:acme"), 12); /* the first one's admit ran after all, and is in it once */
	assert_int_equal(redis_server_int(away.rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf"), 0);
}

static void without_share_it_is_unavailable_at_once(void **state)
{
	struct attempt a;
	(void)state;
	redis_server_kill(away.rig.server);
	assert_int_equal(away_ask(&worker[0], &a, &away_slow, 1), LIMITER_ADMITTED);
	away_settle(&a, 0);
	away_until(away_is_alone, &worker[0]);
	away_start(&worker[0], &a, &away_slow, 1, false);
	int64_t asked = clock_now();
	redis_rig_until(&away.rig, &a.count, 1);
	assert_int_equal(a.answer.verdict, LIMITER_UNAVAILABLE);
	assert_true(clock_now() - asked < 20 * CLOCK_MILLISECOND);
	away_settle(&a, 0);
	assert_int_equal(limiter_unsettled(worker[0].limiter), 0);
}

/* Two places, three workers: whether the limit is taken here, or is nothing here whatever runs, are two things to be told. */
static void who_is_refused_hears_whether_it_is_for_good(void **state)
{
	struct limits limits = { .of[LIMIT_concurrency] = { .count = 2 } };
	struct attempt a[WORKERS][2];
	int without = 0;
	(void)state;
	away_lose_redis();
	for (int i = 0; i < WORKERS; i++) {
		bool has_place = away_ask(&worker[i], &a[i][0], &limits, 0) == LIMITER_ADMITTED;
		assert_int_equal(away_ask(&worker[i], &a[i][1], &limits, 0), LIMITER_DENIED);
		assert_int_equal(a[i][1].answer.kind, LIMIT_concurrency);
		assert_int_equal(a[i][0].answer.never_here, !has_place);
		assert_int_equal(a[i][1].answer.never_here, !has_place);
		without += !has_place;
	}
	assert_int_equal(without, 1);
	for (int i = 0; i < WORKERS; i++)
		for (int k = 0; k < 2; k++)
			away_settle(&a[i][k], 0);
}

/* ---- back ---------------------------------------------------------------------------------------------------------------------- */

static void debts_and_leases_go_to_redis(void **state)
{
	struct attempt ended[3], open[3], next;
	(void)state;
	redis_server_kill(away.rig.server);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(away_ask(&worker[i], &ended[i], &away_slow, 100), LIMITER_ADMITTED);
		assert_int_equal(away_ask(&worker[i], &open[i], &away_slow, 100), LIMITER_ADMITTED);
		away_settle(&ended[i], 40);
	}
	redis_server_restart(away.rig.server); /* empty */
	away_until_all(away_is_back);
	away_let_pass(100 * CLOCK_MILLISECOND);
	assert_int_equal(away_slow_used("t:acme"), 3 * (100 + 40));
	assert_int_equal(redis_server_int(away.rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf"), 3);
	assert_int_equal(away_ask(&worker[0], &next, &away_slow, 3000 - 420),
			 LIMITER_ADMITTED); /* what is left, and not one more */
	assert_false(next.answer.local);
	away_settle(&next, 0);
	for (int i = 0; i < 3; i++)
		away_settle(&open[i], 10 * i);
	away_until_all(away_has_settled);
	assert_int_equal(away_slow_used("t:acme"), 3 * 40 + 30);
	assert_int_equal(redis_server_int(away.rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf"), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(worker[i].changes, 2);
		assert_int_equal(limiter_counts(worker[i].limiter)->merged, 1);
	}
}

/* Debt is one burst at most: who waits now does not pay for what was used long ago. */
static void a_debt_is_one_burst_at_most(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 6000, .burst = 6 } };
	struct attempt a;
	int all = 0;
	(void)state;
	redis_server_kill(away.rig.server);
	int64_t lost = clock_now();
	while (clock_now() - lost < CLOCK_SECOND)
		all += take_all(&worker[0], &limits);
	assert_true(all > 12);
	redis_server_restart(away.rig.server);
	away_until(away_is_back, &worker[0]);
	enum limiter_verdict verdict = away_ask(&worker[0], &a, &limits, 0);
	assert_true(verdict == LIMITER_ADMITTED || a.answer.wait <= CLOCK_MINUTE / 6000);
	away_settle(&a, 0);
}

static void strict_tokens_come_back_with_their_age(void **state)
{
	struct limits limits = { .of[LIMIT_tpm] = { .count = 3000, .strict = true } };
	struct attempt a;
	int64_t used = 0;
	(void)state;
	redis_server_kill(away.rig.server);
	int64_t lost = clock_now();
	while (clock_now() - lost < CLOCK_SECOND) {
		if (away_ask(&worker[0], &a, &limits, 10) == LIMITER_ADMITTED)
			used += 10;
		away_settle(&a, a.answer.verdict == LIMITER_ADMITTED ? 10 : 0);
		away_let_pass(20 * CLOCK_MILLISECOND);
	}
	assert_true(used > 0);
	redis_server_restart(away.rig.server);
	away_until(away_is_back, &worker[0]);
	away_let_pass(50 * CLOCK_MILLISECOND);
	assert_int_equal(redis_server_int(away.rig.server, "HGET sluice:{t:acme}:s:tpm sum"), used);
	assert_true(redis_server_int(away.rig.server, "PTTL sluice:{t:acme}:s:tpm") > 0);
	assert_int_not_equal(away_ask(&worker[0], &a, &limits, 150),
			     LIMITER_UNAVAILABLE); /* admit reads what merge wrote */
	away_settle(&a, 0);
}

/* Whatever is lost on the way, at the end Redis holds the true use, once. */
static void lost_answers_are_charged_once(void **state)
{
	struct attempt a[HELD_MOST];
	int64_t used = 0;
	int local = 0;
	(void)state;
	fault_proxy_tell(away.proxy, "drop-reply-every 3");
	for (int i = 0; i < HELD_MOST; i++) {
		struct worker *w = &worker[i % WORKERS];
		assert_int_equal(away_ask(w, &a[i], &away_slow, 20), LIMITER_ADMITTED);
		local += a[i].answer.local;
		if (i % 3 != 0) {
			away_settle(&a[i], i % 7);
			used += i % 7;
		}
	}
	for (int i = 0; i < HELD_MOST; i += 3) {
		away_settle(&a[i], 11);
		used += 11;
	}
	fault_proxy_tell(away.proxy, "drop-reply-every 0");
	for (int i = 0; i < WORKERS; i++) {
		away_until(away_is_back, &worker[i]);
		away_until(away_has_settled, &worker[i]);
	}
	away_let_pass(
		2500 *
		CLOCK_MILLISECOND); /* two censuses: what is owed has gone out, and again where it was not answered */
	print_message("%d of %d were admitted locally\n", local, HELD_MOST);
	assert_true(local > 3);
	assert_int_equal(away_slow_used("t:acme"), used);
	assert_int_equal(redis_server_int(away.rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf"), 0);
}

/* ---- Redis that answers errors ------------------------------------------------------------------------------------------------- */

static void refused(const char *why)
{
	struct attempt a;
	assert_int_equal(away_ask(&worker[0], &a, &away_slow, 10), LIMITER_ADMITTED);
	assert_true(a.answer.local);
	assert_true(away_is_alone(&worker[0]));
	assert_string_equal(worker[0].why, why);
	away_settle(&a, 10);
	away_let_pass(200 * CLOCK_MILLISECOND);
	assert_true(away_is_alone(&worker[0])); /* and it stays so, however well PING is answered */
}

static void comes_back(int64_t tokens)
{
	int64_t since = clock_now();
	away_until(away_is_back, &worker[0]);
	assert_true(clock_now() - since < CLOCK_SECOND);
	away_let_pass(100 * CLOCK_MILLISECOND);
	assert_int_equal(away_slow_used("t:acme"), tokens);
}

static void full(void **state)
{
	(void)state;
	redis_server_do(away.rig.server, "CONFIG SET maxmemory 1");
	refused("OOM");
	redis_server_do(away.rig.server, "CONFIG SET maxmemory 0");
	comes_back(10);
}

static void a_replica(void **state)
{
	(void)state;
	redis_server_do(away.rig.server, "CONFIG SET replica-serve-stale-data yes");
	redis_server_do(away.rig.server, "REPLICAOF 127.0.0.1 1");
	refused("READONLY");
	redis_server_do(away.rig.server, "REPLICAOF NO ONE");
	comes_back(10);
}

static void not_enough_replicas(void **state)
{
	(void)state;
	redis_server_do(away.rig.server, "CONFIG SET min-replicas-to-write 1");
	refused("NOREPLICAS");
	redis_server_do(away.rig.server, "CONFIG SET min-replicas-to-write 0");
	comes_back(10);
}

static void forbidden(void **state)
{
	(void)state;
	redis_server_do(away.rig.server, "ACL SETUSER default -evalsha");
	refused("NOPERM");
	redis_server_do(away.rig.server, "ACL SETUSER default +evalsha");
	comes_back(10);
}

/* A wrong type is somebody's mistake in one key, and says nothing of Redis; that ask alone is decided here. */
static void a_wrong_type_is_no_reason(void **state)
{
	struct attempt a;
	(void)state;
	redis_server_do(away.rig.server, "SET sluice:{t:acme}:q rubbish EX 60");
	assert_int_equal(away_ask(&worker[0], &a, &away_slow, 10), LIMITER_ADMITTED);
	assert_true(a.answer.local);
	assert_false(away_is_alone(&worker[0]));
	away_settle(&a, 10);
	redis_server_do(away.rig.server, "DEL sluice:{t:acme}:q");
	away_let_pass(1500 * CLOCK_MILLISECOND);
	assert_int_equal(away_slow_used("t:acme"), 10);
}

static bool all_live(void *nothing)
{
	(void)nothing;
	for (int i = 0; i < WORKERS; i++)
		if (limiter_state(worker[i].limiter).live != WORKERS)
			return false;
	return true;
}

static void a_flush_is_not_noticed(void **state)
{
	struct attempt a;
	(void)state;
	redis_server_do(away.rig.server, "SCRIPT FLUSH");
	redis_server_do(away.rig.server, "FLUSHALL");
	assert_int_equal(away_ask(&worker[0], &a, &away_slow, 10), LIMITER_ADMITTED);
	assert_false(a.answer.local);
	away_settle(&a, 10);
	away_until(all_live, NULL); /* who lives is believed until all have been heard again */
	assert_false(away_is_alone(&worker[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_fleet_without_redis_stays_within_its_limit, away_begin, away_end),
		cmocka_unit_test_setup_teardown(what_was_used_before_is_known, away_begin, away_end),
		cmocka_unit_test_setup_teardown(the_mode_applies_within_100_ms_and_nobody_waits_then, away_begin,
						away_end),
		cmocka_unit_test_setup_teardown(without_share_it_is_unavailable_at_once, away_begin, away_end),
		cmocka_unit_test_setup_teardown(who_is_refused_hears_whether_it_is_for_good, away_begin, away_end),
		cmocka_unit_test_setup_teardown(debts_and_leases_go_to_redis, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_debt_is_one_burst_at_most, away_begin, away_end),
		cmocka_unit_test_setup_teardown(strict_tokens_come_back_with_their_age, away_begin, away_end),
		cmocka_unit_test_setup_teardown(lost_answers_are_charged_once, away_begin_behind_proxy, away_end),
		cmocka_unit_test_setup_teardown(full, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_replica, away_begin, away_end),
		cmocka_unit_test_setup_teardown(not_enough_replicas, away_begin, away_end),
		cmocka_unit_test_setup_teardown(forbidden, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_wrong_type_is_no_reason, away_begin, away_end),
		cmocka_unit_test_setup_teardown(a_flush_is_not_noticed, away_begin, away_end),
	};
	return cmocka_run_group_tests_name("limiter_away", tests, NULL, NULL);
}

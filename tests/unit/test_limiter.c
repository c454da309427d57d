/* lib/limiter against a real Redis: verdicts, leases kept alive, settling from every state. What goes wrong on the
 * way stands in test_limiter_faults.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/limiter.h"
#include "tests/support/redis_rig.h"

static struct redis_rig rig;
static struct limiter *limiter;
static unsigned ids, lost;

struct attempt {
	struct lease *lease;
	struct limiter_answer answer;
	int answered;
	bool settle_at_once;
};

static void on_lost(struct lease *lease, void *arg)
{
	struct attempt *attempt = arg;
	assert_ptr_equal(attempt->lease, lease);
	lost++;
	limiter_settle(&attempt->lease, &(struct limiter_used){ .tokens = 5 });
}

static void begin_with(int64_t lease)
{
	redis_rig_begin(&rig, NULL);
	limiter =
		limiter_new(rig.loop, rig.redis,
			    &(struct limiter_options){ .timeout = RIG_TIMEOUT, .lease = lease, .lost = on_lost }, NULL);
	lost = 0;
}

static int begin(void **state)
{
	(void)state;
	begin_with(10 * CLOCK_SECOND);
	return 0;
}

static int end(void **state)
{
	(void)state;
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
	assert_int_equal(limiter_held(limiter), 0);
	assert_int_equal(redis_server_int(rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf"), 0);
	limiter_free(&limiter);
	limiter_free(&limiter);
	redis_rig_end(&rig);
	return 0;
}

static void on_answer(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct attempt *attempt = arg;
	assert_ptr_equal(lease, attempt->lease);
	attempt->answer = *answer;
	attempt->answered++;
	if (attempt->settle_at_once)
		limiter_settle(&attempt->lease, &(struct limiter_used){ .never_sent = true });
}

static void start(struct attempt *attempt, const struct limits *tenant, const struct limits *upstream, int64_t tokens)
{
	char id[32];
	int length = snprintf(id, sizeof id, "r%u.1", ids++);
	struct limiter_ask ask = { .id = { id, (size_t)length }, .tokens = tokens };
	ask.scope[LIMITER_TENANT].name = SLICE("acme");
	ask.scope[LIMITER_TENANT].limits = tenant;
	ask.scope[LIMITER_TENANT].requests = 1;
	ask.scope[LIMITER_UPSTREAM].name = SLICE("gem");
	ask.scope[LIMITER_UPSTREAM].limits = upstream;
	ask.scope[LIMITER_UPSTREAM].requests = 1;
	*attempt = (struct attempt){ .settle_at_once = attempt->settle_at_once };
	attempt->lease = limiter_admit(limiter, &ask, on_answer, attempt);
	assert_non_null(attempt->lease);
	assert_int_equal(attempt->answered, 0);
}

static void ask(struct attempt *attempt, const struct limits *tenant, const struct limits *upstream, int64_t tokens)
{
	start(attempt, tenant, upstream, tokens);
	while (attempt->answered == 0)
		loop_turn(rig.loop, true);
	assert_int_equal(attempt->answered, 1);
}

static void settle(struct attempt *attempt, int64_t tokens)
{
	limiter_settle(&attempt->lease, &(struct limiter_used){ .tokens = tokens });
	assert_null(attempt->lease);
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
}

static int64_t in_redis(const char *key)
{
	return redis_server_int(rig.server, "ZCARD %s", key);
}

static void admits_until_it_is_full(void **state)
{
	struct limits tenant = { .of[LIMIT_rpd] = { .count = 100, .burst = 3 },
				 .of[LIMIT_concurrency] = { .count = 50 } };
	struct attempt a[4] = { { 0 } };
	(void)state;
	for (int i = 0; i < 3; i++) {
		ask(&a[i], &tenant, NULL, 0);
		assert_int_equal(a[i].answer.verdict, LIMITER_ADMITTED);
		assert_true(a[i].answer.left[LIMIT_rpd].known);
		assert_int_equal(a[i].answer.left[LIMIT_rpd].remaining, 2 - i);
		assert_int_equal(a[i].answer.left[LIMIT_concurrency].remaining, 49 - i);
		assert_false(a[i].answer.left[LIMIT_tpm].known);
	}
	assert_int_equal(limiter_held(limiter), 3);
	ask(&a[3], &tenant, NULL, 0);
	assert_int_equal(a[3].answer.verdict, LIMITER_DENIED);
	assert_int_equal(a[3].answer.scope, LIMITER_TENANT);
	assert_int_equal(a[3].answer.kind, LIMIT_rpd);
	assert_in_range(a[3].answer.wait, 864000000 - 60000000,
			864000000); /* a hundredth of a day, less what the test took */
	assert_int_equal(in_redis("sluice:{t:acme}:l"), 3);
	for (int i = 0; i < 4; i++)
		settle(&a[i], 0);
	assert_int_equal(limiter_counts(limiter)->settled, 3); /* what was denied has nothing to settle */
	assert_int_equal(in_redis("sluice:{t:acme}:l"), 0);
}

static void settles_to_the_true_use(void **state)
{
	struct limits tenant = { .of[LIMIT_tpd] = { .count = 1000000, .burst = 1000 } };
	struct attempt a = { 0 };
	(void)state;
	ask(&a, &tenant, NULL, 900);
	assert_int_equal(a.answer.left[LIMIT_tpd].remaining, 100);
	settle(&a, 100);
	ask(&a, &tenant, NULL, 0);
	assert_in_range(a.answer.left[LIMIT_tpd].remaining, 900, 910);
	settle(&a, 5000000);
	ask(&a, &tenant, NULL, 1);
	assert_int_equal(a.answer.verdict, LIMITER_DENIED);
	settle(&a, 0);
	assert_in_range(limiter_counts(limiter)->forgiven[LIMIT_tpd], 3998000, 4000000); /* beyond one period of debt */
}

static void never_and_nothing_to_ask(void **state)
{
	struct limits tenant = { .of[LIMIT_tpm] = { .count = 1000, .burst = 100 } }, none = { 0 };
	struct attempt a = { 0 };
	(void)state;
	ask(&a, NULL, &tenant, 101);
	assert_int_equal(a.answer.verdict, LIMITER_NEVER);
	assert_int_equal(a.answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(a.answer.kind, LIMIT_tpm);
	settle(&a, 0);
	ask(&a, &none, NULL, 101);
	assert_int_equal(a.answer.verdict, LIMITER_ADMITTED);
	settle(&a, 101);
	assert_int_equal(redis_counts(rig.redis)->calls, 0); /* Redis knows nothing of either */
}

static void settled_in_every_state(void **state)
{
	struct limits tenant = { .of[LIMIT_rpd] = { .count = 10, .burst = 10 },
				 .of[LIMIT_concurrency] = { .count = 10 } },
		      none = { 0 };
	struct attempt a = { 0 };
	(void)state;
	start(&a, &tenant, &tenant, 0); /* while admit is under way */
	limiter_settle(&a.lease, &(struct limiter_used){ .never_sent = true });
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
	assert_int_equal(a.answered, 0);
	assert_int_equal(redis_server_int(rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf"), 0);
	assert_int_equal(redis_server_int(rig.server, "ZCOUNT sluice:{u:gem}:l 0 +inf"), 0);

	start(&a, &none, NULL, 0); /* before an answer that needs no Redis */
	limiter_settle(&a.lease, &(struct limiter_used){ 0 });
	loop_turn(rig.loop, false);
	assert_int_equal(a.answered, 0);

	a.settle_at_once = true; /* from inside the answer */
	ask(&a, &tenant, NULL, 0);
	assert_null(a.lease);
	ask(&a, &none, NULL, 0);
	limiter_settle(&a.lease, &(struct limiter_used){ 0 }); /* NULL is fine */
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
	a.settle_at_once = false;
	ask(&a, &tenant, NULL, 0); /* everything was given back */
	assert_int_equal(a.answer.left[LIMIT_rpd].remaining, 9);
	settle(&a, 0);
}

/* Redis refuses before anything runs: there is nothing to settle, and nothing is written. */
static void a_full_redis_refuses_cleanly(void **state)
{
	struct limits tenant = { .of[LIMIT_rpd] = { .count = 10, .burst = 10 } };
	struct attempt a = { 0 };
	(void)state;
	redis_server_do(rig.server, "CONFIG SET maxmemory 1");
	ask(&a, &tenant, NULL, 0);
	assert_int_equal(a.answer.verdict, LIMITER_UNAVAILABLE);
	settle(&a, 0);
	assert_int_equal(limiter_counts(limiter)->settled, 0);
	redis_server_do(rig.server, "CONFIG SET maxmemory 0");
	assert_int_equal(redis_server_int(rig.server, "DBSIZE"), 0);
}

static void limits_may_go_once_settled(void **state)
{
	struct limits *tenant = calloc(1, sizeof *tenant);
	struct attempt a = { 0 };
	(void)state;
	assert_non_null(tenant);
	tenant->of[LIMIT_tpd] = (struct limit){ .count = 10000, .burst = 1000 };
	ask(&a, tenant, NULL, 500);
	limiter_settle(&a.lease, &(struct limiter_used){ .tokens = 20 });
	free(tenant);
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
	assert_int_equal(limiter_counts(limiter)->settled, 1);
}

static void exactly_k_of_100_at_once(void **state)
{
	struct limits tenant = { .of[LIMIT_tpd] = { .count = 1000000, .burst = 1000 } };
	static struct attempt a[100];
	int admitted = 0;
	(void)state;
	for (int i = 0; i < 100; i++)
		start(&a[i], &tenant, NULL, 30);
	for (int i = 0; i < 100; i++)
		while (a[i].answered == 0)
			loop_turn(rig.loop, true);
	for (int i = 0; i < 100; i++)
		admitted += a[i].answer.verdict == LIMITER_ADMITTED;
	assert_int_equal(admitted, 33);
	for (int i = 0; i < 100; i++)
		settle(&a[i], 30);
}

/* The clock stands, so that a machine that stalls does not count as one that slept; the beats go by the kernel's. */
static void leases_are_renewed(void **state)
{
	struct limits tenant = { .of[LIMIT_concurrency] = { .count = 5 } };
	struct attempt a[3] = { { 0 } };
	(void)state;
	redis_rig_hold();
	for (int i = 0; i < 3; i++)
		ask(&a[i], &tenant, &tenant, 0);
	int64_t first = redis_server_int(rig.server, "ZSCORE sluice:{t:acme}:l r%u.1", ids - 1);
	while (limiter_counts(limiter)->renewals < 8) /* four beats, two sets */
		loop_turn(rig.loop, true);
	redis_server_do(rig.server, "FLUSHALL"); /* a Redis that came back empty ends no stream */
	uint64_t before = limiter_counts(limiter)->renewals;
	while (limiter_counts(limiter)->renewals < before + 4)
		loop_turn(rig.loop, true);
	assert_int_equal(in_redis("sluice:{t:acme}:l"), 3);
	assert_int_equal(in_redis("sluice:{u:gem}:l"), 3);
	assert_true(redis_server_int(rig.server, "ZSCORE sluice:{t:acme}:l r%u.1", ids - 1) > first);
	assert_int_equal(limiter_counts(limiter)->renewals_failed, 0);
	assert_int_equal(lost, 0);
	clock_test_release();
	for (int i = 0; i < 3; i++)
		settle(&a[i], 0);
}

static int begin_short(void **state)
{
	(void)state;
	begin_with(1500 * CLOCK_MILLISECOND);
	return 0;
}

/* Our own clock says that we slept: the owner is told once per lease, may settle from there, and the settle is
 * exact. */
static void slept_past_its_leases(void **state)
{
	struct limits tenant = { .of[LIMIT_tpd] = { .count = 1000000, .burst = 1000 } };
	struct attempt a[2] = { { 0 } }, b = { 0 };
	(void)state;
	ask(&a[0], &tenant, NULL, 500);
	ask(&a[1], &tenant, NULL, 400);
	clock_test_set(clock_now() + CLOCK_MINUTE, clock_unix());
	while (lost < 2)
		loop_turn(rig.loop, true);
	clock_test_release();
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
	assert_int_equal(limiter_counts(limiter)->lost, 2);
	ask(&b, &tenant, NULL, 0);
	assert_in_range(b.answer.left[LIMIT_tpd].remaining, 990, 999);
	settle(&b, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(admits_until_it_is_full, begin, end),
		cmocka_unit_test_setup_teardown(settles_to_the_true_use, begin, end),
		cmocka_unit_test_setup_teardown(never_and_nothing_to_ask, begin, end),
		cmocka_unit_test_setup_teardown(settled_in_every_state, begin, end),
		cmocka_unit_test_setup_teardown(a_full_redis_refuses_cleanly, begin, end),
		cmocka_unit_test_setup_teardown(limits_may_go_once_settled, begin, end),
		cmocka_unit_test_setup_teardown(exactly_k_of_100_at_once, begin, end),
		cmocka_unit_test_setup_teardown(leases_are_renewed, begin_short, end),
		cmocka_unit_test_setup_teardown(slept_past_its_leases, begin_short, end),
	};
	return cmocka_run_group_tests_name("limiter", tests, NULL, NULL);
}

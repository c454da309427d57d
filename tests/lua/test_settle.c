/* lua/settle and lua/renew on a real Redis, with the time given: exactly once whatever is lost, doubled or late;
 * what refunds and overruns do; what a lease may be brought back from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/limiter_rig.h"

#define UNKNOWN LIMITER_WIRE_UNKNOWN

static struct limiter_answer answer;
static int64_t forgiven[LIMIT_COUNT];

/* 1,000 tokens a minute: one takes 60 ms. */
static const struct limits tokens = { .of[LIMIT_tpm] = { .count = 1000, .burst = 1000 } };
static const struct limits strict = { .of[LIMIT_tpm] = { .count = 1000, .strict = true } };

static int begin(void **state)
{
	memset(forgiven, 0, sizeof forgiven);
	return limiter_rig_clean(state);
}

static bool admit(const char *id, const struct limits *t, int64_t cost, int64_t now)
{
	struct limiter_ask ask = limiter_rig_ask(id, t, NULL, NULL, cost);
	return limiter_rig_try(&ask, now, &answer);
}

static bool settle_as(const char *id, const struct limits *t, int64_t cost, int64_t used, struct limiter_wire_past past,
		      int64_t now)
{
	struct limiter_ask ask = limiter_rig_ask(id, t, NULL, NULL, cost);
	past.lease = RIG_LEASE;
	return limiter_rig_settle(&ask, &(struct limiter_used){ .tokens = used }, &past, now, forgiven);
}

static bool settle(const char *id, const struct limits *t, int64_t cost, int64_t used, int64_t reserved, int64_t now)
{
	return settle_as(id, t, cost, used, (struct limiter_wire_past){ .reserved = reserved }, now);
}

/* Tokens of backlog in the tenant's bucket. */
static int64_t backlog(int64_t now)
{
	int64_t tat = redis_server_int(limiter_rig_server(), "HGET sluice:{t:acme}:q tpm");
	return tat > now ? (tat - now) / 60000 : 0;
}

static int64_t log_sum(void)
{
	return redis_server_int(limiter_rig_server(), "HGET sluice:{t:acme}:s:tpm sum");
}

static int64_t known(void)
{
	return redis_server_int(limiter_rig_server(), "ZCARD sluice:{t:acme}:l");
}

static void gives_back_and_charges(void **state)
{
	(void)state;
	assert_true(admit("a.1", &tokens, 400, RIG_START));
	assert_true(admit("b.1", &tokens, 300, RIG_START));
	assert_true(settle("a.1", &tokens, 400, 150, RIG_START, RIG_START));
	assert_int_equal(backlog(RIG_START), 450);
	assert_true(settle("b.1", &tokens, 300, 350, RIG_START, RIG_START));
	assert_int_equal(backlog(RIG_START), 500);
	assert_int_equal(known(), 0); /* a clean settle leaves no trace */
}

static void twice_is_once(void **state)
{
	struct limiter_wire_past repeat = { .reserved = RIG_START, .again = true };
	(void)state;
	assert_true(admit("o.1", &tokens, 500, RIG_START));
	assert_true(admit("a.1", &tokens, 400, RIG_START));
	assert_true(settle("a.1", &tokens, 400, 100, RIG_START, RIG_START));
	for (int i = 0; i < 5; i++)
		assert_false(settle_as("a.1", &tokens, 400, 100, repeat, RIG_START + i));
	assert_int_equal(backlog(RIG_START), 600);
	assert_true(settle_as("o.1", &tokens, 500, 500, repeat, RIG_START));  /* the first was lost on the way */
	assert_false(settle("o.1", &tokens, 500, 900, RIG_START, RIG_START)); /* and comes after its repeat */
	assert_int_equal(backlog(RIG_START), 600);
}

static void an_admission_whose_answer_was_lost(void **state)
{
	(void)state;
	assert_true(admit("a.1", &tokens, 400, RIG_START));
	assert_true(settle("a.1", &tokens, 400, 0, UNKNOWN, RIG_START + 1000000));
	assert_int_equal(backlog(RIG_START + 1000000), 0);
	assert_false(admit("a.1", &tokens, 400, RIG_START + 1000000)); /* a duplicate that comes late */
	assert_int_equal(answer.verdict, LIMITER_UNAVAILABLE);
	assert_false(settle("b.1", &tokens, 400, 0, UNKNOWN, RIG_START)); /* settled before it came */
	assert_false(admit("b.1", &tokens, 400, RIG_START + CLOCK_MINUTE - 1));
	assert_int_equal(answer.verdict, LIMITER_UNAVAILABLE);
	assert_int_equal(backlog(RIG_START + CLOCK_MINUTE), 0);
	assert_int_equal(redis_server_int(limiter_rig_server(), "ZCOUNT sluice:{t:acme}:l 0 +inf"), 0);
}

/* The instance lives and streams, but its renewals did not come through: the lease ended, and another admission
 * removed it. */
static void a_lease_that_was_reaped(void **state)
{
	int64_t later = RIG_START + RIG_LEASE;
	struct limiter_wire_past repeat = { .reserved = RIG_START, .again = true };
	(void)state;
	assert_true(admit("a.1", &tokens, 900, RIG_START));
	assert_true(admit("b.1", &tokens, 10, later));
	assert_int_equal(known(), 1);
	assert_int_equal(backlog(later), 900 - 166 + 9); /* ten seconds drained 166 2/3 */
	assert_true(settle("a.1", &tokens, 900, 200, RIG_START, later));
	assert_int_equal(backlog(later), 200 - 166 + 9);
	assert_false(settle("a.1", &tokens, 900, 200, RIG_START, later));
	assert_false(settle_as("a.1", &tokens, 900, 200, repeat, later));
	assert_int_equal(backlog(later), 200 - 166 + 9);
}

static void a_refund_older_than_full_is_dropped(void **state)
{
	int64_t full = RIG_START + CLOCK_MINUTE;
	(void)state;
	assert_true(admit("a.1", &tokens, 1000, RIG_START));
	assert_true(admit("b.1", &tokens, 1000, full)); /* it had refilled */
	assert_true(settle("a.1", &tokens, 1000, 5, RIG_START, full));
	assert_int_equal(backlog(full), 1000);
	assert_false(admit("c.1", &tokens, 1, full));
	assert_true(settle("b.1", &tokens, 1000, 5, full, full)); /* the very one that was charged then is given back */
	assert_int_equal(backlog(full), 5);
}

static void refunds_stop_at_full(void **state)
{
	int64_t later = RIG_START + 50 * CLOCK_SECOND;
	(void)state;
	assert_true(admit("a.1", &tokens, 500, RIG_START));
	assert_true(admit("b.1", &tokens, 500, RIG_START));
	assert_true(settle("a.1", &tokens, 500, 0, RIG_START, later));
	assert_int_equal(backlog(later), 0);
	assert_true(admit("c.1", &tokens, 1000, later));
	assert_true(settle("b.1", &tokens, 500, 0, RIG_START, later)); /* older than the moment a's refund filled it */
	assert_false(admit("d.1", &tokens, 1, later));
}

static void debt_ends_at_one_period(void **state)
{
	(void)state;
	assert_true(admit("a.1", &tokens, 1000, RIG_START));
	assert_true(settle("a.1", &tokens, 1000, 2500, RIG_START, RIG_START));
	assert_int_equal(backlog(RIG_START), 2000); /* the burst and one period */
	assert_int_equal(forgiven[LIMIT_tpm], 500);
	assert_false(admit("b.1", &tokens, 1, RIG_START));
	assert_int_equal(answer.wait, 60060000);
	assert_true(admit("b.1", &tokens, 1, RIG_START + answer.wait));
}

static void a_log_is_corrected_slice_by_slice(void **state)
{
	int64_t later = RIG_START + 50 * CLOCK_SECOND, gone = RIG_START + CLOCK_MINUTE + 60 * CLOCK_MILLISECOND;
	(void)state;
	assert_true(admit("a.1", &strict, 600, RIG_START));
	assert_true(admit("b.1", &strict, 100, later));
	assert_true(settle("a.1", &strict, 600, 200, RIG_START, later));
	assert_int_equal(log_sum(), 300);
	assert_true(settle("b.1", &strict, 100, 900, later, later + CLOCK_SECOND));
	assert_int_equal(log_sum(), 1100); /* an overrun counts until it is a period old */
	assert_false(admit("c.1", &strict, 1, gone));
	assert_true(admit("c.1", &strict, 1, gone + 51 * CLOCK_SECOND));
	assert_int_equal(log_sum(), 1);
	assert_true(settle("c.1", &strict, 1, 0, gone + 51 * CLOCK_SECOND, gone + 200 * CLOCK_SECOND));
	assert_int_equal(log_sum(), 0);
}

static void a_log_gives_nothing_back_from_before_it_was_lost(void **state)
{
	(void)state;
	assert_true(admit("a.1", &strict, 600, RIG_START));
	limiter_rig_flush();
	assert_true(admit("b.1", &strict, 1000, RIG_START + 1)); /* in the same slice */
	assert_true(settle("a.1", &strict, 600, 0, RIG_START, RIG_START + 2));
	assert_int_equal(log_sum(), 1000);
}

static void overruns_alone_do_not_fill_the_log(void **state)
{
	(void)state;
	for (int i = 0; i < 400; i++) {
		char id[16];
		snprintf(id, sizeof id, "o%d.1", i);
		assert_true(settle(id, &strict, 0, 5, RIG_START + i * 700000, RIG_START + i * 700000));
	}
	assert_in_range(redis_server_int(limiter_rig_server(), "HLEN sluice:{t:acme}:s:tpm"), 80, 6 + 101);
	assert_in_range(log_sum(), 5 * 85, 5 * 87);
}

static void requests_are_given_back_when_never_sent(void **state)
{
	struct limits rpm = { .of[LIMIT_rpm] = { .count = 60, .burst = 2 } },
		      exact = { .of[LIMIT_rpm] = { .count = 60, .strict = true } };
	struct limiter_ask ask = limiter_rig_ask("a.1", &rpm, &exact, NULL, 0);
	struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = RIG_START };
	(void)state;
	assert_true(limiter_rig_try(&ask, RIG_START, &answer));
	assert_int_equal(answer.left[LIMIT_rpm].remaining, 1);
	assert_true(limiter_rig_settle(&ask, &(struct limiter_used){ .never_sent = true }, &past, RIG_START, forgiven));
	assert_int_equal(redis_server_int(limiter_rig_server(), "HGET sluice:{t:acme}:q rpm"), RIG_START);
	assert_int_equal(redis_server_int(limiter_rig_server(), "HGET sluice:{m:pro}:q rpm"),
			 RIG_START + 1010101); /* strict: kept */
}

static void concurrency_comes_back_in_every_scope(void **state)
{
	struct limits one = { .of[LIMIT_concurrency] = { .count = 1 } };
	struct limiter_ask a = limiter_rig_ask("a.1", &one, &one, &one, 0),
			   b = limiter_rig_ask("b.1", &one, &one, &one, 0);
	struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = RIG_START };
	(void)state;
	assert_true(limiter_rig_try(&a, RIG_START, &answer));
	assert_false(limiter_rig_try(&b, RIG_START, &answer));
	assert_true(limiter_rig_settle(&a, &(struct limiter_used){ 0 }, &past, RIG_START, forgiven));
	assert_true(limiter_rig_try(&b, RIG_START, &answer));
}

/* ---- renew ------------------------------------------------------------------ */

static int64_t lease_end(const char *id)
{
	return redis_server_int(limiter_rig_server(), "ZSCORE sluice:{t:acme}:l %s", id);
}

static int64_t renew(const char *id, int64_t now)
{
	struct slice ids[1] = { slice_of(id) };
	return limiter_rig_renew("sluice:{t:acme}:l", ids, 1, now);
}

static void renews_what_is_there_and_what_was_lost(void **state)
{
	(void)state;
	assert_true(admit("a.1", &tokens, 1, RIG_START));
	assert_int_equal(renew("a.1", RIG_START + CLOCK_SECOND), 0);
	assert_int_equal(lease_end("a.1"), RIG_START + CLOCK_SECOND + RIG_LEASE);
	assert_int_equal(renew("a.1", RIG_START), 0); /* a late one shortens nothing */
	assert_int_equal(lease_end("a.1"), RIG_START + CLOCK_SECOND + RIG_LEASE);
	limiter_rig_flush();
	assert_int_equal(renew("a.1", RIG_START + 2 * CLOCK_SECOND), 1);
	assert_int_equal(lease_end("a.1"), RIG_START + 2 * CLOCK_SECOND + RIG_LEASE);
	assert_true(settle("a.1", &tokens, 1, 0, RIG_START, RIG_START + 3 * CLOCK_SECOND));
	assert_int_equal(known(), 0);
}

static void a_renewal_does_not_wake_the_dead(void **state)
{
	struct limiter_wire_past trace = { .reserved = RIG_START, .trace = true };
	(void)state;
	assert_true(admit("a.1", &tokens, 400, RIG_START));
	assert_true(settle_as("a.1", &tokens, 400, 100, trace, RIG_START)); /* a renewal of it is still somewhere */
	assert_int_equal(renew("a.1", RIG_START + 1), 0);
	assert_int_equal(lease_end("a.1"), -(RIG_START + CLOCK_MINUTE));
	assert_false(settle_as("a.1", &tokens, 400, 100,
			       (struct limiter_wire_past){ .reserved = RIG_START, .again = true }, RIG_START + 2));
	assert_int_equal(backlog(RIG_START + 2), 99); /* 100 less the two microseconds */
}

static void many_at_once(void **state)
{
	static char text[100][8];
	struct slice id[100];
	(void)state;
	for (int i = 0; i < 100; i++)
		id[i] = slice_make(text[i], (size_t)snprintf(text[i], sizeof text[i], "m%d", i));
	assert_int_equal(limiter_rig_renew("sluice:{t:acme}:l", id, 100, RIG_START), 100);
	limiter_rig_calls();
	assert_int_equal(limiter_rig_renew("sluice:{t:acme}:l", id, 100, RIG_START + 1), 0);
	assert_int_equal(limiter_rig_calls(), 3); /* and TIME, when it is not given */
	assert_int_equal(known(), 100);
}

/* ---- hard times ------------------------------------------------------------- */

static void a_full_redis_takes_refunds(void **state)
{
	struct redis_server *server = limiter_rig_server();
	(void)state;
	assert_true(admit("a.1", &tokens, 900, RIG_START));
	redis_server_do(server, "CONFIG SET maxmemory 1");
	assert_true(settle("a.1", &tokens, 900, 0, RIG_START, RIG_START));
	assert_int_equal(renew("b.1", RIG_START), 1);
	redis_server_do(server, "CONFIG SET maxmemory 0");
	assert_int_equal(backlog(RIG_START), 0);
}

static void commands_are_counted(void **state)
{
	struct limits all = { .of[LIMIT_rpm] = { .count = 600, .burst = 600 },
			      .of[LIMIT_tpm] = { .count = 600000, .strict = true },
			      .of[LIMIT_concurrency] = { .count = 6000 } };
	struct limiter_ask ask = limiter_rig_ask("a.1", &all, &all, &all, 500);
	struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = RIG_START };
	(void)state;
	assert_true(limiter_rig_try(&ask, RIG_START, &answer));
	limiter_rig_calls();
	assert_true(limiter_rig_settle(&ask, &(struct limiter_used){ .tokens = 500 }, &past, RIG_START, forgiven));
	assert_int_equal(limiter_rig_calls(), 4); /* nothing to correct: ZSCORE, three ZREM */
	ask.id = SLICE("b.1");
	assert_true(limiter_rig_try(&ask, RIG_START, &answer));
	limiter_rig_calls();
	assert_true(limiter_rig_settle(&ask, &(struct limiter_used){ .tokens = 100 }, &past, RIG_START, forgiven));
	assert_true(limiter_rig_calls() <= 19);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(gives_back_and_charges, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(twice_is_once, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(an_admission_whose_answer_was_lost, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_lease_that_was_reaped, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_refund_older_than_full_is_dropped, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(refunds_stop_at_full, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(debt_ends_at_one_period, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_log_is_corrected_slice_by_slice, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_log_gives_nothing_back_from_before_it_was_lost, begin,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(overruns_alone_do_not_fill_the_log, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(requests_are_given_back_when_never_sent, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(concurrency_comes_back_in_every_scope, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(renews_what_is_there_and_what_was_lost, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_renewal_does_not_wake_the_dead, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(many_at_once, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_full_redis_takes_refunds, begin, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(commands_are_counted, begin, limiter_rig_leave),
	};
	return cmocka_run_group_tests_name("settle", tests, limiter_rig_begin, limiter_rig_end);
}

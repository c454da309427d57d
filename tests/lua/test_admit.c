/* lua/admit on a real Redis, with the time given: what it promises, case by case, and how many commands it calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/limiter_rig.h"

__extension__ typedef __int128 wide;

static struct limiter_answer answer;

static bool admit(const char *id, const struct limits *t, const struct limits *m, const struct limits *u,
		  int64_t tokens, int64_t now)
{
	struct limiter_ask ask = limiter_rig_ask(id, t, m, u, tokens);
	return limiter_rig_try(&ask, now, &answer);
}

/* The n-th of many. */
static bool admit_nth(unsigned n, const struct limits *t, int64_t tokens, int64_t now)
{
	char id[24];
	snprintf(id, sizeof id, "n%u.1", n);
	return admit(id, t, NULL, NULL, tokens, now);
}

static int64_t look(const char *command, const char *key)
{
	char text[128];
	snprintf(text, sizeof text, "%s %s", command, key);
	return redis_server_int(limiter_rig_server(), text);
}

static void all_or_nothing(void **state)
{
	struct limits t = { .of[LIMIT_rpm] = { .count = 60, .burst = 60 } },
		      m = { .of[LIMIT_tpm] = { .count = 600, .burst = 600 } },
		      u = { .of[LIMIT_concurrency] = { .count = 1 } };
	(void)state;
	assert_true(admit("a.1", &t, &m, &u, 500, RIG_START));
	uint64_t before = limiter_rig_digest();
	assert_false(admit("b.1", &t, &m, &u, 100, RIG_START)); /* the upstream is full, the others are not */
	assert_int_equal(answer.scope, LIMITER_UPSTREAM);
	assert_int_equal(answer.kind, LIMIT_concurrency);
	assert_int_equal(answer.wait, RIG_HOLD);
	assert_int_equal(limiter_rig_digest(), before);
	assert_false(admit("c.1", &t, &m, &u, 200, RIG_START)); /* two bind: the longest wait is told */
	assert_int_equal(answer.scope, LIMITER_MODEL);
	assert_int_equal(answer.kind, LIMIT_tpm);
	assert_int_equal(answer.wait, 10 * CLOCK_SECOND);
	assert_int_equal(limiter_rig_digest(), before);
}

static void the_wait_is_exact(void **state)
{
	struct limits t = { .of[LIMIT_tpm] = { .count = 7000, .burst = 700 },
			    .of[LIMIT_rps] = { .count = 3, .burst = 2 } };
	struct limits strict = { .of[LIMIT_tpm] = { .count = 7000, .strict = true },
				 .of[LIMIT_rpm] = { .count = 300, .strict = true } };
	int64_t now = RIG_START;
	unsigned n = 0;
	(void)state;
	srand(7);
	for (int i = 0; i < 300; i++) {
		const struct limits *limits = i < 150 ? &t : &strict;
		int64_t tokens = 1 + rand() % 350;
		if (admit_nth(n++, limits, tokens, now))
			continue;
		int64_t wait = answer.wait;
		assert_true(wait > 0);
		assert_false(admit_nth(n++, limits, tokens, now + wait - 1));
		assert_int_equal(answer.wait, 1);
		now += wait;
		assert_true(admit_nth(n++, limits, tokens, now));
	}
}

static void a_known_id_gets_the_same_answer(void **state)
{
	struct limits t = { .of[LIMIT_rpm] = { .count = 60, .burst = 1 } };
	(void)state;
	assert_true(admit("a.1", &t, NULL, NULL, 0, RIG_START));
	uint64_t before = limiter_rig_digest();
	assert_true(admit("a.1", &t, NULL, NULL, 0, RIG_START + 10)); /* although a new one would be denied */
	assert_int_equal(limiter_rig_digest(), before);
	assert_false(admit("b.1", &t, NULL, NULL, 0, RIG_START + 10));
}

static void a_tombstone_writes_nothing(void **state)
{
	struct limits t = { .of[LIMIT_rpm] = { .count = 60, .burst = 10 } };
	struct limiter_ask ask = limiter_rig_ask("a.1", &t, NULL, NULL, 0);
	struct limiter_used used = { .never_sent = true };
	struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = LIMITER_WIRE_UNKNOWN };
	int64_t forgiven[LIMIT_COUNT] = { 0 };
	(void)state;
	assert_false(limiter_rig_settle(&ask, &used, &past, RIG_START, forgiven));
	uint64_t before = limiter_rig_digest();
	assert_false(limiter_rig_try(&ask, RIG_START + CLOCK_MINUTE - 1, &answer));
	assert_int_equal(answer.verdict, LIMITER_UNAVAILABLE);
	assert_int_equal(limiter_rig_digest(), before);
}

static void what_is_left_is_told(void **state)
{
	struct limits t = { .of[LIMIT_rpm] = { .count = 60, .burst = 10 },
			    .of[LIMIT_tpm] = { .count = 1000, .strict = true },
			    .of[LIMIT_rph] = { .count = 3600, .strict = true },
			    .of[LIMIT_concurrency] = { .count = 9 } };
	(void)state;
	assert_true(admit("a.1", &t, NULL, NULL, 40, RIG_START));
	assert_int_equal(answer.left[LIMIT_rpm].remaining, 9);
	assert_int_equal(answer.left[LIMIT_rpm].reset, CLOCK_SECOND);
	assert_int_equal(answer.left[LIMIT_tpm].remaining, 10); /* 50 at once, spread over the window */
	assert_int_equal(answer.left[LIMIT_tpm].reset, CLOCK_MINUTE + 60 * CLOCK_MILLISECOND);
	assert_int_equal(answer.left[LIMIT_rph].remaining, 18);
	assert_int_equal(answer.left[LIMIT_concurrency].remaining, 8);
	assert_false(answer.left[LIMIT_rps].known);
	struct limiter_ask ask = limiter_rig_ask("a.2", &t, NULL, NULL,
						 0); /* a further attempt costs no request and is told all the same */
	ask.scope[LIMITER_TENANT].requests = 0;
	assert_true(limiter_rig_try(&ask, RIG_START + CLOCK_SECOND, &answer));
	assert_int_equal(answer.left[LIMIT_rpm].remaining, 10);
	assert_int_equal(answer.left[LIMIT_rpm].reset, 0);
}

/* ---- every window ----------------------------------------------------------- */

struct grant {
	int64_t at, cost;
};

/* Offers as much as goes for `length`, coming back when told, with some jitter; returns how many grants were made. */
static size_t overload(const struct limits *limits, int64_t most_cost, int64_t length, struct grant *grant, size_t room)
{
	static unsigned n;
	int64_t now = RIG_START;
	size_t count = 0;
	while (now < RIG_START + length) {
		int64_t cost = 1 + rand() % most_cost;
		if (!admit_nth(n++, limits, cost, now)) {
			now += answer.wait + (rand() % 4 == 0 ? rand() % 300 : 0);
			continue;
		}
		assert_true(count < room);
		grant[count++] = (struct grant){ now, cost };
	}
	return count;
}

/* The largest total in any half-open window, counting requests or costs. */
static int64_t fullest(const struct grant *grant, size_t count, int64_t window, bool costs)
{
	int64_t sum = 0, most = 0;
	for (size_t first = 0, i = 0; i < count; i++) {
		sum += costs ? grant[i].cost : 1;
		while (grant[i].at - grant[first].at >= window)
			sum -= costs ? grant[first++].cost : (first++, 1);
		most = sum > most ? sum : most;
	}
	return most;
}

static int64_t total_after(const struct grant *grant, size_t count, int64_t from, bool costs)
{
	int64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		if (grant[i].at >= from)
			sum += costs ? grant[i].cost : 1;
	return sum;
}

static struct grant grants[20000];

static void a_bucket_keeps_its_bound_in_every_window(void **state)
{
	static const struct limit limits[] = {
		{ 600, 60, false }, { 700, 1, false }, { 4000, 4000, false }, { 13, 7, false }
	};
	(void)state;
	for (size_t l = 0; l < ARRAY_LENGTH(limits); l++) {
		struct limits t = { .of[LIMIT_rpm] = limits[l] };
		limiter_rig_flush();
		size_t count = overload(&t, 1, 3 * CLOCK_MINUTE, grants, ARRAY_LENGTH(grants));
		for (size_t i = 0; i < count; i += 1 + count / 400)
			for (size_t j = i; j < count; j++) {
				wide time = grants[j].at - grants[i].at + 1;
				/* admitted ≤ burst + rate × window, in integers */
				assert_true((wide)((int64_t)(j - i + 1) - limits[l].burst) * CLOCK_MINUTE <=
					    time * limits[l].count);
			}
		int64_t bound = limits[l].burst + 3 * limits[l].count;
		assert_true(((int64_t)count + 1) * 100 >= bound * 99);
	}
}

static void strict_requests_never_pass_the_limit_and_use_99_percent(void **state)
{
	static const int64_t counts[] = { 1, 2, 60, 99, 100, 199, 200, 201, 600, 1000, 4001 };
	(void)state;
	for (size_t c = 0; c < ARRAY_LENGTH(counts); c++) {
		struct limits t = { .of[LIMIT_rpm] = { .count = counts[c], .strict = true } };
		limiter_rig_flush();
		int64_t length = counts[c] < 10 ? 100 * CLOCK_MINUTE : 3 * CLOCK_MINUTE;
		size_t count = overload(&t, 1, length, grants, ARRAY_LENGTH(grants));
		assert_true(fullest(grants, count, CLOCK_MINUTE, false) <= counts[c]);
		/* and not with 5 ms of jitter on the way to the provider either */
		assert_true(fullest(grants, count, CLOCK_MINUTE + 5 * CLOCK_MILLISECOND, false) <= counts[c]);
		int64_t offered = counts[c] * (length / CLOCK_MINUTE);
		print_message("strict rpm %lld: %.4f used\n", (long long)counts[c], (double)count / (double)offered);
		assert_true((int64_t)count * 1000 >=
			    offered * 989); /* 99 % of the rate; the jitter above costs some 0.1 % */
	}
}

static void strict_tokens_never_pass_the_limit(void **state)
{
	static const struct {
		int64_t limit, most, use; /* the least use, in thousands */
	} cases[] = { { 100000, 200, 990 }, { 100000, 1000, 985 }, { 20000, 1000, 960 },
		      { 20000, 5000, 800 }, { 50, 50, 500 },       { 1, 1, 900 } };
	(void)state;
	for (size_t c = 0; c < ARRAY_LENGTH(cases); c++) {
		struct limits t = { .of[LIMIT_tpm] = { .count = cases[c].limit, .strict = true } };
		limiter_rig_flush();
		int64_t length = cases[c].limit < 100 ? 40 * CLOCK_MINUTE : 5 * CLOCK_MINUTE;
		size_t count = overload(&t, cases[c].most, length, grants, ARRAY_LENGTH(grants));
		assert_true(fullest(grants, count, CLOCK_MINUTE, true) <= cases[c].limit);
		assert_true(fullest(grants, count, CLOCK_MINUTE + 50 * CLOCK_MILLISECOND, true) <= cases[c].limit);
		int64_t used = total_after(grants, count, RIG_START + CLOCK_MINUTE, true);
		int64_t offered = cases[c].limit * (length / CLOCK_MINUTE - 1);
		print_message("strict tpm %lld, costs up to %lld: %.4f used\n", (long long)cases[c].limit,
			      (long long)cases[c].most, (double)used / (double)offered);
		assert_true(used * 1000 >= offered * cases[c].use);
		assert_true(look("HLEN", "sluice:{t:acme}:s:tpm") <= 6 + 101);
	}
}

/* ---- leases ----------------------------------------------------------------- */

static void ended_leases_never_deny_and_are_reaped_by_16(void **state)
{
	struct limits t = { .of[LIMIT_concurrency] = { .count = 40 } };
	(void)state;
	for (unsigned i = 0; i < 40; i++)
		assert_true(admit_nth(i, &t, 0, RIG_START));
	assert_false(admit_nth(40, &t, 0, RIG_START + RIG_LEASE - 1));
	assert_true(admit_nth(41, &t, 0, RIG_START + RIG_LEASE));
	assert_int_equal(answer.left[LIMIT_concurrency].remaining, 39);
	assert_int_equal(look("ZCARD", "sluice:{t:acme}:l"), 40 - 16 + 1);
	assert_true(admit_nth(42, &t, 0, RIG_START + RIG_LEASE));
	assert_true(admit_nth(43, &t, 0, RIG_START + RIG_LEASE));
	assert_int_equal(look("ZCARD", "sluice:{t:acme}:l"), 3);
}

static void the_first_scope_holds_the_proof(void **state)
{
	struct limits m = { .of[LIMIT_rpm] = { .count = 10, .burst = 10 } },
		      u = { .of[LIMIT_rpm] = { .count = 10, .burst = 10 } }, none = { 0 };
	(void)state;
	assert_true(admit("a.1", &none, &m, &u, 0, RIG_START));
	assert_int_equal(look("ZCARD", "sluice:{m:pro}:l"), 1);
	assert_int_equal(look("EXISTS", "sluice:{u:gem}:l"), 0); /* it limits no concurrency */
	assert_int_equal(look("DBSIZE", ""), 3);
}

static void the_clock_of_redis_counts(void **state)
{
	struct limits t = { .of[LIMIT_rpd] = { .count = 1000, .burst = 10 } };
	struct limiter_ask ask = limiter_rig_ask("a.1", &t, NULL, NULL, 0);
	int64_t reserved = 0, before = clock_unix();
	(void)state;
	limiter_rig_admit(&ask, LIMITER_WIRE_NOW, &answer, &reserved);
	assert_int_equal(answer.verdict, LIMITER_ADMITTED);
	assert_in_range(reserved, before, clock_unix());
	int64_t ttl = look("PTTL", "sluice:{t:acme}:q"); /* 86.4 s until it is full, and one more */
	assert_in_range(ttl, 80000, 87400);
	assert_in_range(look("PTTL", "sluice:{t:acme}:l"), 60000, 70000);
}

static void an_expiry_is_only_raised(void **state)
{
	struct limits day = { .of[LIMIT_tpd] = { .count = 1000, .burst = 1000 },
			      .of[LIMIT_rps] = { .count = 10, .burst = 10 } };
	(void)state;
	assert_true(admit("a.1", &day, NULL, NULL, 1000, RIG_START));
	int64_t ttl = look("PTTL", "sluice:{t:acme}:q");
	assert_true(admit("a.2", &day, NULL, NULL, 0, RIG_START));
	assert_in_range(look("PTTL", "sluice:{t:acme}:q"), ttl - 60000, ttl);
}

/* A Redis whose clock went back frees late, never early, and does not forget. */
static void a_clock_that_goes_back(void **state)
{
	struct limits t = { .of[LIMIT_tpm] = { .count = 1000, .strict = true } };
	(void)state;
	assert_true(admit_nth(0, &t, 600, RIG_START));
	assert_false(admit_nth(1, &t, 600, RIG_START - CLOCK_HOUR));
	assert_true(answer.wait > CLOCK_HOUR);
	assert_true(admit_nth(2, &t, 300, RIG_START + CLOCK_MINUTE - CLOCK_SECOND));
	assert_false(admit_nth(3, &t, 101, RIG_START - CLOCK_SECOND)); /* 900 of 1,000 stand in the log */
	assert_true(admit_nth(4, &t, 600, RIG_START + 3 * CLOCK_MINUTE));
}

/* ---- cost ------------------------------------------------------------------- */

static void commands_are_counted(void **state)
{
	struct limits one = { .of[LIMIT_rpm] = { .count = 600000, .burst = 600000 } };
	struct limits all = { .of[LIMIT_rpm] = { .count = 600000, .burst = 600000 },
			      .of[LIMIT_tpm] = { .count = 600000, .strict = true },
			      .of[LIMIT_concurrency] = { .count = 6000 } };
	(void)state;
	assert_true(admit("a.1", &one, &one, &one, 5, RIG_START));
	limiter_rig_calls();
	assert_true(admit("b.1", &one, &one, &one, 5, RIG_START));
	assert_int_equal(limiter_rig_calls(), 13); /* three buckets and a lease; TIME is given here */
	assert_true(admit("c.1", &all, &all, &all, 5, RIG_START));
	limiter_rig_calls();
	assert_true(admit("d.1", &all, &all, &all, 5, RIG_START));
	assert_true(limiter_rig_calls() <= 32); /* everything there is, three times */
	for (int i = 0; i < 120; i++)
		assert_true(admit_nth((unsigned)i, &all, 5, RIG_START + i * 600000));
	limiter_rig_calls();
	assert_true(admit_nth(200, &all, 5, RIG_START + 3 * CLOCK_MINUTE)); /* a whole log falls out, 16 leases go */
	assert_true(limiter_rig_calls() <= 18);
	struct limits full = { .of[LIMIT_rpm] = { .count = 1, .burst = 1 } };
	limiter_rig_flush();
	assert_true(admit("e.1", &one, &full, &one, 5, RIG_START));
	limiter_rig_calls();
	assert_false(admit("f.1", &one, &full, &one, 5, RIG_START));
	assert_true(limiter_rig_calls() <= 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_or_nothing, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(the_wait_is_exact, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_known_id_gets_the_same_answer, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_tombstone_writes_nothing, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(what_is_left_is_told, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_bucket_keeps_its_bound_in_every_window, limiter_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(strict_requests_never_pass_the_limit_and_use_99_percent,
						limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(strict_tokens_never_pass_the_limit, limiter_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(ended_leases_never_deny_and_are_reaped_by_16, limiter_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(the_first_scope_holds_the_proof, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(the_clock_of_redis_counts, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(an_expiry_is_only_raised, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_clock_that_goes_back, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(commands_are_counted, limiter_rig_clean, limiter_rig_leave),
	};
	return cmocka_run_group_tests_name("admit", tests, limiter_rig_begin, limiter_rig_end);
}

/* When a call that failed is made again, and who pays for it. Chance is given, so that delays are tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/retry.h"

#include <string.h>

#include "tests/support/random.h"

enum { WHOLE = 10000 };

#define SECOND INT64_C(1000000)
#define NONE   INT64_C(-1)
#define ZERO   UINT64_C(0)
#define HALF   (UINT64_C(1) << 63)
#define ALL    UINT64_MAX

static const struct retry_policy usual = {
	.attempts = 4, .base = SECOND, .cap = 32 * SECOND, .timeout_base = SECOND / 10, .budget = 2000
};

/* clang-format off */
static const struct {
	enum retry_class class;
	unsigned again;
	int64_t retry_after;
	bool elsewhere;
	uint64_t random;
	int64_t delay;
} delays[] = {
	/* Doubled from base, up to the cap. */
	{ RETRY_LIMITED,   1,        NONE, false, ALL,  1 * SECOND },
	{ RETRY_LIMITED,   2,        NONE, false, ALL,  2 * SECOND },
	{ RETRY_LIMITED,   3,        NONE, false, ALL,  4 * SECOND },
	{ RETRY_LIMITED,   6,        NONE, false, ALL,  32 * SECOND },
	{ RETRY_LIMITED,   7,        NONE, false, ALL,  32 * SECOND },
	{ RETRY_LIMITED,   64,       NONE, false, ALL,  32 * SECOND },
	{ RETRY_LIMITED,   65,       NONE, false, ALL,  32 * SECOND },
	{ RETRY_LIMITED,   UINT32_MAX, NONE, false, ALL, 32 * SECOND },
	{ RETRY_LIMITED,   0,        NONE, false, ALL,  1 * SECOND },
	/* From timeout_base. */
	{ RETRY_BUSY,      1,        NONE, false, ALL,  100000 },
	{ RETRY_BUSY,      2,        NONE, false, ALL,  200000 },
	{ RETRY_BUSY,      9,        NONE, false, ALL,  25600000 },
	{ RETRY_BUSY,      10,       NONE, false, ALL,  32 * SECOND },
	{ RETRY_UNSURE,    3,        NONE, false, ALL,  400000 },
	/* Full jitter: from nothing to all of it. */
	{ RETRY_LIMITED,   3,        NONE, false, ZERO, 0 },
	{ RETRY_LIMITED,   3,        NONE, false, HALF, 2 * SECOND },
	{ RETRY_BUSY,      1,        NONE, false, ZERO, 0 },
	{ RETRY_BUSY,      1,        NONE, false, HALF, 50000 },
	/* What was asked for only extends, no cap cuts it, and not all who wait for it come at once. */
	{ RETRY_LIMITED,   1,        500000, false, ALL, 1 * SECOND },
	{ RETRY_LIMITED,   1,        500000, false, ZERO, 500000 },
	{ RETRY_LIMITED,   1,        2 * SECOND, false, ALL, 2100000 },
	{ RETRY_LIMITED,   1,        2 * SECOND, false, HALF, 2050000 },
	{ RETRY_LIMITED,   1,        2 * SECOND, false, ZERO, 2 * SECOND },
	{ RETRY_LIMITED,   1,        90000 * SECOND, false, ALL, 90000 * SECOND + 100000 },
	{ RETRY_LIMITED,   9,        0, false, HALF, 16 * SECOND },
	{ RETRY_BUSY,      1,        3 * SECOND, false, ALL, 3100000 },
	{ RETRY_LIMITED,   1,        INT64_MAX, false, ALL, INT64_MAX },
	{ RETRY_LIMITED,   1,        INT64_MIN, false, ALL, 1 * SECOND },
	/* Elsewhere there is nothing to wait for but a moment, however often it was. */
	{ RETRY_LIMITED,   5,        60 * SECOND, true, ALL, 0 },
	{ RETRY_EXHAUSTED, 2,        60 * SECOND, true, ALL, 0 },
	{ RETRY_UNSENT,    2,        NONE, true, ALL, 0 },
	{ RETRY_BUSY,      9,        60 * SECOND, true, ALL, 100000 },
	{ RETRY_BUSY,      9,        NONE, true, ZERO, 0 },
	{ RETRY_UNSURE,    9,        NONE, true, HALF, 50000 },
	/* Nothing was begun, or nothing is to be. */
	{ RETRY_UNSENT,    1,        NONE, false, ALL, 0 },
	{ RETRY_UNSENT,    9,        NONE, false, ALL, 0 },
	{ RETRY_NEVER,     1,        NONE, false, ALL, 0 },
	{ RETRY_EXHAUSTED, 1,        NONE, false, ALL, 0 },
	{ RETRY_EXHAUSTED, 1,        3600 * SECOND, false, ZERO, 3600 * SECOND },
};
/* clang-format on */

static void delays_as_told(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(delays); i++) {
		int64_t delay = retry_delay(&usual, delays[i].class, delays[i].again, delays[i].retry_after,
					    delays[i].elsewhere, delays[i].random);
		if (delay != delays[i].delay)
			fail_msg("row %zu, %s: %lld", i, retry_class_name(delays[i].class), (long long)delay);
	}
}

/* Times at the ends of what 64 bits hold: never less than nothing, never more than the cap. */
static void delays_never_overflow(void **state)
{
	static const int64_t times[] = { 0, 1, 2, 3, INT64_MAX / 2, INT64_MAX / 2 + 1, INT64_MAX - 1, INT64_MAX };
	static const unsigned again[] = { 0, 1, 2, 3, 62, 63, 64, 65, 1000000000, UINT32_MAX };

	(void)state;
	for (size_t base = 0; base < ARRAY_LENGTH(times); base++)
		for (size_t cap = 0; cap < ARRAY_LENGTH(times); cap++)
			for (size_t n = 0; n < ARRAY_LENGTH(again); n++) {
				const struct retry_policy policy = { .base = times[base],
								     .cap = times[cap],
								     .timeout_base = times[base] };
				int64_t most = retry_delay(&policy, RETRY_LIMITED, again[n], NONE, false, ALL);
				assert_true(most >= 0 && most <= times[cap]);
				if (again[n] >= 65 && times[base] > 0)
					assert_int_equal(most, times[cap]);
				assert_int_equal(most, retry_delay(&policy, RETRY_BUSY, again[n], NONE, false, ALL));
				assert_int_equal(retry_delay(&policy, RETRY_LIMITED, again[n], NONE, false, ZERO), 0);
			}
}

/* Who has backed off already waits for what was asked for, and the moment that spreads those who were told the same: no back-off. */
static void only_what_was_asked_for(void **state)
{
	static const struct retry_policy late = { .base = 32 * SECOND, .cap = 50000, .timeout_base = SECOND };

	(void)state;
	assert_int_equal(retry_wait(&usual, NONE, ALL), 0);
	assert_int_equal(retry_wait(&usual, 0, ALL), 0);
	assert_int_equal(retry_wait(&usual, 1, ZERO), 1);
	assert_int_equal(retry_wait(&usual, 2 * SECOND, ZERO), 2 * SECOND);
	assert_int_equal(retry_wait(&usual, 2 * SECOND, HALF), 2050000);
	assert_int_equal(retry_wait(&usual, 2 * SECOND, ALL), 2100000);
	assert_int_equal(retry_wait(&late, 2 * SECOND, ALL), 2050000);
	assert_int_equal(retry_wait(&usual, INT64_MAX, ALL), INT64_MAX);
}

static uint64_t all_bits(uint64_t *seed)
{
	return (uint64_t)random_below(seed, 1 << 22) << 42 | (uint64_t)random_below(seed, 1 << 21) << 21 |
	       random_below(seed, 1 << 21);
}

/* Eight equal parts of the delay are hit equally often. 80,000 draws: a part has 10,000, and a deviation of 94 is one sigma. */
static void jitter_is_full_and_even(void **state)
{
	uint64_t seed = 20150304;
	int parts[8] = { 0 };

	(void)state;
	for (int i = 0; i < 80000; i++) {
		uint64_t random = all_bits(&seed);
		int64_t delay = retry_delay(&usual, RETRY_LIMITED, 4, NONE, false, random);
		assert_true(delay >= 0 && delay <= 8 * SECOND);
		parts[delay == 8 * SECOND ? 7 : delay / SECOND]++;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++)
		assert_in_range(parts[i], 9500, 10500);
}

static void classes_have_names_of_their_own(void **state)
{
	(void)state;
	for (int a = 0; a < RETRY_CLASSES; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(retry_class_name(a), retry_class_name(b));
	assert_string_equal(retry_class_name(RETRY_NEVER), "never");
	assert_string_equal(retry_class_name(RETRY_EXHAUSTED), "exhausted");
}

/* How many calls are made again of `requests`, all of which fail as often as anybody pays. */
static int64_t storm(struct retry_budget *budget, int64_t share, int64_t requests)
{
	const struct retry_policy policy = { .budget = share };
	int64_t spent = 0;

	for (int64_t i = 0; i < requests; i++) {
		retry_budget_earn(budget, &policy);
		while (retry_budget_spend(budget))
			spent++;
	}
	return spent;
}

static void budget_pays_its_share(void **state)
{
	static const struct {
		int64_t share, requests, spent;
	} storms[] = {
		{ 2000, 4, 0 },        { 2000, 5, 1 }, { 2000, 1000, 200 }, { 0, 100000, 0 },
		{ 10000, 1000, 1000 }, { 1, 9999, 0 }, { 1, 10000, 1 },     { 3333, 3, 0 },
		{ 3333, 4, 1 },        { 9999, 1, 0 }, { 20000, 10, 20 },   { INT64_MAX, 2, 60 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(storms); i++) {
		struct retry_budget budget = { 0 };
		assert_int_equal(storm(&budget, storms[i].share, storms[i].requests), storms[i].spent);
	}
}

static void quiet_hour_pays_for_no_storm(void **state)
{
	struct retry_budget budget = { 0 };

	(void)state;
	for (int i = 0; i < 100000; i++)
		retry_budget_earn(&budget, &usual);
	assert_int_equal(budget.held, RETRY_BUDGET_MOST * WHOLE);
	for (int i = 0; i < RETRY_BUDGET_MOST; i++)
		assert_true(retry_budget_spend(&budget));
	assert_false(retry_budget_spend(&budget));
	assert_int_equal(budget.held, 0);
}

/* Long random runs against what is plainly counted: what is held is what was paid in, less what was spent, less what did not fit; and what was spent is never
 * more than the share of what was earned. */
static void budget_is_exact(void **state)
{
	static const int64_t shares[] = { 0, 1, 7, 500, 2000, 3333, 9999, 10000 };
	uint64_t seed = 7;

	(void)state;
	for (size_t s = 0; s < ARRAY_LENGTH(shares); s++) {
		const struct retry_policy policy = { .budget = shares[s] };
		struct retry_budget budget = { 0 };
		int64_t earned = 0, spent = 0, held = 0;
		for (int i = 0; i < 300000; i++) {
			/* Calm and storm take turns, so that it is full and empty by turns. */
			bool earns = random_below(&seed, 100) < ((i / 5000) % 2 == 0 ? 90 : 20);
			if (earns) {
				retry_budget_earn(&budget, &policy);
				earned += shares[s];
				held += shares[s];
				if (held > RETRY_BUDGET_MOST * WHOLE)
					held = RETRY_BUDGET_MOST * WHOLE;
			} else {
				bool paid = retry_budget_spend(&budget);
				assert_int_equal(paid, held >= WHOLE);
				held -= paid ? WHOLE : 0;
				spent += paid;
			}
			assert_int_equal(budget.held, held);
			assert_true(spent * WHOLE <= earned);
		}
		assert_true(shares[s] < 500 ? spent <= 210 : spent > 1000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delays_as_told),          cmocka_unit_test(delays_never_overflow),
		cmocka_unit_test(jitter_is_full_and_even), cmocka_unit_test(classes_have_names_of_their_own),
		cmocka_unit_test(budget_pays_its_share),   cmocka_unit_test(quiet_hour_pays_for_no_storm),
		cmocka_unit_test(budget_is_exact),         cmocka_unit_test(only_what_was_asked_for),
	};

	return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}

/* lib/limiter_shadow: what workers admit from their shares alone, together, never passes the limit, whatever comes to whom and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/limiter_limits.h"
#include "lib/limiter_shadow.h"
#include "tests/support/random.h"

#define START INT64_C(1000000000000)

static struct limiter_shadow *new_shadow(void)
{
	return limiter_shadow_new(LIMITER_TENANT, SLICE("acme"));
}

static void drop(struct limiter_shadow *s)
{
	s->leases = 0;
	limiter_shadow_free(s);
}

static struct limits only(enum limit_kind kind, struct limit limit)
{
	struct limits limits = { .of = { { 0 } } };
	limits.of[kind] = limit;
	return limits;
}

static int64_t try(struct limiter_shadow *s, const struct limits *limits, int64_t tokens,
		   const struct limiter_share *share, int64_t now)
{
	const struct limiter_cost cost = { .requests = 1, .tokens = tokens, .hold = CLOCK_SECOND };
	enum limit_kind kind = LIMIT_COUNT;
	int64_t wait = limiter_shadow_wait(s, limits, &cost, NULL, share, now, &kind);
	assert_true((wait > 0) == (kind != LIMIT_COUNT));
	if (wait == 0)
		limiter_shadow_charge(s, limits, &cost, share, true, now);
	return wait;
}

/* ---- the bound of all together ----------------------------------------------------------------------------------------------- */

enum { WORKERS_MOST = 7, ADMITTED_MOST = 200000 };

static struct {
	int64_t at, cost;
} admitted[ADMITTED_MOST];
static size_t admitted_count;

/* In every window that begins with an admission. */
static void check_windows(int64_t burst, int64_t count, int64_t period, bool strict)
{
	for (size_t i = 0; i < admitted_count; i++) {
		int64_t sum = 0;
		for (size_t j = i; j < admitted_count; j++) {
			int64_t window = admitted[j].at - admitted[i].at;
			if (strict && window >= period)
				break;
			sum += admitted[j].cost;
			if (strict ? sum > count : (sum - burst) * period > count * window)
				fail_msg("%lld in %lld us from the %zu-th on", (long long)sum, (long long)window, i);
		}
	}
}

static const int64_t gaps[] = { 2000, 200000, 4000000 }; /* between calls, at most */

/* All lose Redis at once, with nothing used; calls come to random workers. */
static void flood(uint64_t *random, const struct limits *limits, enum limit_kind kind, int64_t cost_most,
		  int64_t gap_most, int64_t workers, int64_t until)
{
	struct limiter_shadow *shadow[WORKERS_MOST];
	admitted_count = 0;
	for (int64_t i = 0; i < workers; i++)
		shadow[i] = new_shadow();
	for (int64_t now = START; now < START + until; now += 1 + (int64_t)random_below(random, (uint32_t)gap_most)) {
		int64_t worker = (int64_t)random_below(random, (uint32_t)workers);
		int64_t cost = 1 + (int64_t)random_below(random, (uint32_t)cost_most);
		const struct limiter_share share = { .of = workers, .rank = worker, .ahead = 12345 };
		if (try(shadow[worker], limits, cost, &share, now) > 0)
			continue;
		assert_true(admitted_count < ADMITTED_MOST);
		admitted[admitted_count].at = now;
		admitted[admitted_count++].cost = limit_unit_of(kind) == LIMIT_TOKENS ? cost : 1;
	}
	for (int64_t i = 0; i < workers; i++)
		drop(shadow[i]);
}

static void requests_stay_within_a_bucket(void **state)
{
	uint64_t random = 1;
	(void)state;
	for (int round = 0; round < 200; round++) {
		int64_t count = 1 + (int64_t)random_below(&random, 600), burst = 1 + (int64_t)random_below(&random, 40);
		int64_t workers = 1 + (int64_t)random_below(&random, WORKERS_MOST);
		struct limits limits = only(LIMIT_rpm, (struct limit){ .count = count, .burst = burst });
		flood(&random, &limits, LIMIT_rpm, 1, gaps[round % 3], workers, 3 * CLOCK_MINUTE);
		check_windows(burst >= workers || burst > 2 ? burst : 2, count, CLOCK_MINUTE, false);
	}
}

static void tokens_stay_within_a_bucket(void **state)
{
	uint64_t random = 4;
	(void)state;
	for (int round = 0; round < 200; round++) {
		int64_t workers = 1 + (int64_t)random_below(&random, WORKERS_MOST);
		int64_t count = 60 + (int64_t)random_below(&random, 6000),
			burst = 7 + (int64_t)random_below(&random, 400);
		bool large = round % 2 == 0;
		struct limits limits = only(LIMIT_tpm, (struct limit){ .count = count, .burst = burst });
		flood(&random, &limits, LIMIT_tpm, large ? burst : burst / workers, gaps[round % 3], workers,
		      3 * CLOCK_MINUTE);
		check_windows(large && workers > 1 ? burst * (workers + 1) / 2 : burst, count, CLOCK_MINUTE, false);
	}
}

static void all_together_stay_within_strict_limits(void **state)
{
	uint64_t random = 2;
	(void)state;
	for (int round = 0; round < 200; round++) {
		bool tokens = random_below(&random, 2) == 0;
		enum limit_kind kind = tokens ? LIMIT_tpm : LIMIT_rpm;
		int64_t count = (tokens ? 1000 : 1) + (int64_t)random_below(&random, (uint32_t)1000);
		struct limits limits = only(kind, (struct limit){ .count = count, .strict = true });
		flood(&random, &limits, kind, tokens ? 60 : 1, gaps[round % 3],
		      1 + (int64_t)random_below(&random, WORKERS_MOST), 3 * CLOCK_MINUTE);
		check_windows(0, count, CLOCK_MINUTE, true);
	}
}

/* No worker is shut out, and what a share is worth is used. */
static void a_share_is_used(void **state)
{
	uint64_t random = 3;
	struct limits bucket = only(LIMIT_rpm, (struct limit){ .count = 600, .burst = 30 });
	struct limits tokens = only(LIMIT_tpm, (struct limit){ .count = 60000, .strict = true });
	(void)state;
	flood(&random, &bucket, LIMIT_rpm, 1, 20000, 3, 10 * CLOCK_MINUTE);
	assert_true(admitted_count >= 6000 * 99 / 100);
	flood(&random, &tokens, LIMIT_tpm, 100, 20000, 3, 10 * CLOCK_MINUTE);
	int64_t sum = 0;
	for (size_t i = 0; i < admitted_count; i++)
		sum += admitted[i].cost;
	assert_true(sum >= 600000 * 90 / 100); /* a slice counts until all of it is past */
}

/* ---- who waits ----------------------------------------------------------------------------------------------------------------- */

/* What is said to who comes last is when it is served, if all before it are as soon as they fit. */
static void the_estimate_is_when_it_is_served(void **state)
{
	uint64_t random = 5;
	(void)state;
	for (int round = 0; round < 500; round++) {
		bool strict = round % 5 == 4;
		const struct limiter_share share = { .of = 1 + (int64_t)random_below(&random, 4), .ahead = 12345 };
		struct limits limits = { .of[LIMIT_rpm] = { .count = 600, .burst = 40 },
					 .of[LIMIT_tpm] = { .count = 60000, .burst = 4000, .strict = strict } };
		struct limiter_cost cost[20];
		struct limiter_shadow *s = new_shadow();
		enum limit_kind kind = LIMIT_COUNT;
		int waiting = 1 + (int)random_below(&random, 20);
		int64_t now = START, said = 0;
		while (try(s, &limits, 100, &share, now) == 0) /* it is empty */
			;
		for (int i = 0; i < waiting; i++) {
			cost[i] = (struct limiter_cost){ .requests = random_below(&random, 3) > 0,
							 .tokens = 1 + (int64_t)random_below(&random, 700) };
			said = limiter_shadow_wait(s, &limits, &cost[i], &s->waiting, &share, now, &kind);
			s->waiting.leases++;
			s->waiting.requests += cost[i].requests;
			s->waiting.tokens += cost[i].tokens;
		}
		for (int i = 0; i < waiting; i++) {
			now += limiter_shadow_wait(s, &limits, &cost[i], NULL, &share, now, &kind);
			assert_int_equal(limiter_shadow_wait(s, &limits, &cost[i], NULL, &share, now, &kind), 0);
			limiter_shadow_charge(s, &limits, &cost[i], &share, true, now);
		}
		assert_in_range(now - START, said - 20 * share.of, said + 20 * share.of + strict * CLOCK_MINUTE / 15);
		drop(s);
	}
}

/* ---- one worker ---------------------------------------------------------------------------------------------------------------- */

static void what_redis_granted_was_used(void **state)
{
	struct limits limits = only(LIMIT_rpm, (struct limit){ .count = 60, .burst = 30 });
	const struct limiter_share share = { .of = 3, .rank = 0, .ahead = 12345 };
	const struct limiter_cost one = { .requests = 1 };
	struct limiter_shadow *s = new_shadow();
	(void)state;
	for (int i = 0; i < 30; i++) /* this worker alone was busy: three times its share */
		limiter_shadow_charge(s, &limits, &one, &share, false, START);
	assert_int_equal(try(s, &limits, 0, &share, START), 3 * CLOCK_SECOND); /* no debt beyond an empty share */
	assert_int_equal(try(s, &limits, 0, &share, START + 3 * CLOCK_SECOND), 0);
	assert_true(try(s, &limits, 0, &share, START + 3 * CLOCK_SECOND) > 0);
	drop(s);
}

static void places_are_divided_and_come_back(void **state)
{
	struct limits limits = only(LIMIT_concurrency, (struct limit){ .count = 5 });
	const struct limiter_cost one = { .requests = 1 };
	int64_t places[3] = { 0 };
	(void)state;
	for (int64_t rank = 0; rank < 3; rank++) {
		const struct limiter_share share = { .of = 3, .rank = rank, .ahead = 12345 };
		struct limiter_shadow *s = new_shadow();
		while (try(s, &limits, 0, &share, START) == 0)
			places[rank]++;
		if (places[rank] > 0) {
			limiter_shadow_correct(s, &limits, &one, &one, &share, true, START, START);
			assert_int_equal(try(s, &limits, 0, &share, START), 0);
		}
		drop(s);
	}
	assert_int_equal(places[0], 2);
	assert_int_equal(places[1], 2);
	assert_int_equal(places[2], 1);
}

static void the_true_use_stands_in_the_end(void **state)
{
	struct limits limits = only(LIMIT_tpm, (struct limit){ .count = 6000, .burst = 3000 });
	const struct limiter_share share = { .of = 3, .rank = 0, .ahead = 12345 };
	const struct limiter_cost guessed = { .requests = 1, .tokens = 900 }, less = { .requests = 1, .tokens = 100 },
				  more = { .requests = 1, .tokens = 1000 };
	struct limiter_shadow *s = new_shadow();
	struct limiter_debt debt;
	(void)state;
	assert_int_equal(try(s, &limits, 900, &share, START), 0);
	assert_true(try(s, &limits, 900, &share, START) > 0);
	limiter_shadow_correct(s, &limits, &guessed, &less, &share, true, START, START);
	assert_int_equal(try(s, &limits, 900, &share, START), 0);
	limiter_shadow_correct(s, &limits, &guessed, &more, &share, true, START, START);
	limiter_shadow_take(s, &debt);
	assert_int_equal(debt.bucket[LIMIT_tpm], 1100 * CLOCK_MINUTE / 6000); /* in Redis' numbers */
	assert_false(limiter_shadow_owes(s));
	assert_int_equal(debt.log[LIMIT_tpm].newest, 0); /* it has none */
	drop(s);
}

/* A refund of what has refilled meanwhile would be given twice. */
static void what_has_refilled_is_not_refunded(void **state)
{
	struct limits limits = only(LIMIT_tpm, (struct limit){ .count = 6000, .burst = 1000 });
	const struct limiter_share share = { .of = 1, .rank = 0, .ahead = 12345 };
	const struct limiter_cost guessed = { .requests = 1, .tokens = 1000 }, nothing = { .requests = 1 };
	struct limiter_shadow *s = new_shadow();
	(void)state;
	assert_int_equal(try(s, &limits, 1000, &share, START), 0);
	assert_int_equal(try(s, &limits, 1000, &share, START + CLOCK_MINUTE), 0); /* full again, and used again */
	limiter_shadow_correct(s, &limits, &guessed, &nothing, &share, true, START, START + CLOCK_MINUTE);
	assert_true(try(s, &limits, 1000, &share, START + CLOCK_MINUTE) > 0);
	drop(s);
}

static void what_was_not_told_is_owed_again(void **state)
{
	struct limits limits = only(LIMIT_tpm, (struct limit){ .count = 6000, .strict = true });
	const struct limiter_share share = { .of = 1, .rank = 0, .ahead = 12345 };
	struct limiter_shadow *s = new_shadow();
	struct limiter_debt first, again;
	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(try(s, &limits, 300, &share, START + i * 10 * CLOCK_SECOND), 0);
	limiter_shadow_take(s, &first);
	assert_false(limiter_shadow_owes(s));
	limiter_shadow_owe(s, &first);
	limiter_shadow_take(s, &again);
	assert_memory_equal(&first, &again, sizeof(first));
	int64_t sum = 0;
	for (int i = 0; i < LIMITER_SHADOW_SLICES; i++)
		sum += first.log[LIMIT_tpm].owed[i];
	assert_int_equal(sum, 1200);
	assert_false(limiter_shadow_is_idle(s, START + 40 * CLOCK_SECOND));
	s->leases = 0;
	assert_true(limiter_shadow_is_idle(s, START + 120 * CLOCK_SECOND));
	drop(s);
}

/* The clock counts from the machine's start: nothing was used before, however long the period. */
static void a_log_begins_with_the_machine(void **state)
{
	struct limits limits = only(LIMIT_tpd, (struct limit){ .count = 6000, .strict = true });
	const struct limiter_share share = { .of = 1, .rank = 0, .ahead = 12345 };
	struct limiter_shadow *s = new_shadow();
	(void)state;
	for (int i = 0; i < 20; i++) /* as fast as its bucket fills, to the last token of the day */
		assert_int_equal(try(s, &limits, 300, &share, CLOCK_SECOND + i * CLOCK_DAY / 20), 0);
	assert_true(try(s, &limits, 1, &share, CLOCK_DAY) > 0);
	drop(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_stay_within_a_bucket),
		cmocka_unit_test(tokens_stay_within_a_bucket),
		cmocka_unit_test(all_together_stay_within_strict_limits),
		cmocka_unit_test(a_share_is_used),
		cmocka_unit_test(the_estimate_is_when_it_is_served),
		cmocka_unit_test(what_redis_granted_was_used),
		cmocka_unit_test(places_are_divided_and_come_back),
		cmocka_unit_test(the_true_use_stands_in_the_end),
		cmocka_unit_test(what_has_refilled_is_not_refunded),
		cmocka_unit_test(what_was_not_told_is_owed_again),
		cmocka_unit_test(a_log_begins_with_the_machine),
	};
	return cmocka_run_group_tests_name("limiter_shadow", tests, NULL, NULL);
}

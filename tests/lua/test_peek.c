/* lua/peek on a real Redis, with the time given: what it says is left is admitted at that instant, and not one more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/limiter_rig.h"

static struct limiter_answer answer;
static unsigned ids;

static bool admit(const struct limits *limits, int64_t requests, int64_t tokens, int64_t now)
{
	char id[24];
	snprintf(id, sizeof id, "p%u.1", ids++);
	struct limiter_ask ask = limiter_rig_ask(id, NULL, limits, NULL, tokens);
	ask.scope[LIMITER_MODEL].requests = requests;
	return !limiter_wire_never(&ask, &answer) && limiter_rig_try(&ask, now, &answer);
}

static void peek(const struct limits *limits, int64_t now, struct limiter_left left[LIMIT_COUNT])
{
	limiter_rig_peek(LIMITER_MODEL, SLICE("pro"), limits, now, left);
}

static int64_t least(const struct limiter_left left[LIMIT_COUNT], enum limit_unit unit)
{
	int64_t n = INT64_MAX;
	for (int k = 0; k < LIMIT_COUNT; k++)
		if (left[k].known && limit_unit_of(k) == unit && left[k].remaining < n)
			n = left[k].remaining;
	return n;
}

/* Counts that divide every period, so that requests one by one cost what they cost at once. */
static struct limits random_limits(void)
{
	static const int64_t counts[] = { 1, 2, 5, 8, 20, 40, 100, 125 };
	struct limits limits = { 0 };
	for (int k = 0; k < LIMIT_COUNT; k++) {
		struct limit *limit = &limits.of[k];
		if (rand() % 3 > 0)
			continue;
		limit->count =
			counts[rand() % (int)ARRAY_LENGTH(counts)] * (limit_unit_of(k) == LIMIT_TOKENS ? 100 : 1);
		limit->burst = 1 + rand() % limit->count;
		limit->strict = rand() % 2 == 0 && k != LIMIT_concurrency;
	}
	limits.of[LIMIT_tpm].count = limits.of[LIMIT_tpm].count > 0 ? limits.of[LIMIT_tpm].count : 700;
	limits.of[LIMIT_tpm].burst = limits.of[LIMIT_tpm].burst > 0 ? limits.of[LIMIT_tpm].burst : 700;
	limits.of[LIMIT_rpm].count = limits.of[LIMIT_rpm].count > 0 ? limits.of[LIMIT_rpm].count : 40;
	limits.of[LIMIT_rpm].burst = limits.of[LIMIT_rpm].burst > 0 ? limits.of[LIMIT_rpm].burst : 40;
	return limits;
}

static int64_t random_history(const struct limits *limits, int64_t now)
{
	for (int i = rand() % 15; i > 0; i--) {
		(void)admit(limits, rand() % 4 > 0, rand() % 3 == 0 ? 0 : rand() % 100, now);
		now += rand() % 3 == 0 ? rand() % 3000000 : rand() % 30000;
	}
	return now;
}

/* The requests that are left, one by one, then one too many. True when there were any. */
static bool spend_requests(const struct limits *limits, int64_t now)
{
	struct limiter_left left[LIMIT_COUNT];
	peek(limits, now, left);
	int64_t requests = least(left, LIMIT_REQUESTS), places = least(left, LIMIT_CONCURRENCY);
	int64_t n = requests < places ? requests : places;
	for (int64_t i = 0; i < n; i++)
		assert_true(admit(limits, 1, 0, now));
	assert_false(admit(limits, 1, 0, now));
	peek(limits, now, left);
	assert_int_equal(requests < places ? least(left, LIMIT_REQUESTS) : least(left, LIMIT_CONCURRENCY), 0);
	return n > 0;
}

/* The tokens that are left, after one too many. */
static bool spend_tokens(const struct limits *limits, int64_t now)
{
	struct limiter_left left[LIMIT_COUNT];
	peek(limits, now, left);
	if (least(left, LIMIT_CONCURRENCY) == 0)
		return false;
	int64_t tokens = least(left, LIMIT_TOKENS);
	assert_false(admit(limits, 0, tokens + 1, now));
	assert_true(admit(limits, 0, tokens, now));
	peek(limits, now, left);
	assert_int_equal(least(left, LIMIT_TOKENS), 0);
	return tokens > 0;
}

static void what_is_left_is_admitted_and_no_more(void **state)
{
	unsigned requests = 0, tokens = 0, seed = (unsigned)time(NULL);
	const char *given = getenv("SLUICE_TEST_SEED");
	(void)state;
	seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : seed;
	printf("seed %u\n", seed);
	fflush(stdout);
	srand(seed);
	for (int i = 0; i < 300; i++) {
		limiter_rig_flush();
		struct limits limits = random_limits();
		int64_t now = random_history(&limits, RIG_START);
		requests += !(i % 2) && spend_requests(&limits, now);
		tokens += i % 2 && spend_tokens(&limits, now);
	}
	printf("%u times requests were left, %u times tokens\n", requests, tokens);
	assert_true(requests > 20 && tokens > 40); /* it was worth something */
}

/* Where the count does not divide the period, n requests fit at once; one by one each pays up to 1 µs more. */
static void one_by_one_pays_for_rounding(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 7, .burst = 7 } };
	struct limiter_left left[LIMIT_COUNT];
	int64_t now = RIG_START;
	(void)state;
	peek(&limits, now, left);
	assert_int_equal(left[LIMIT_rpm].remaining, 7);
	for (int i = 0; i < 7; i++)
		while (!admit(&limits, 1, 0, now))
			now += answer.wait;
	assert_in_range(now - RIG_START, 1, 7);
}

static void it_is_full_again_when_it_says(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 60, .burst = 10 },
				 .of[LIMIT_tpm] = { .count = 1000, .strict = true },
				 .of[LIMIT_concurrency] = { .count = 4 } };
	struct limiter_left left[LIMIT_COUNT];
	(void)state;
	peek(&limits, RIG_START, left); /* nothing there yet */
	assert_true(left[LIMIT_rpm].known && left[LIMIT_tpm].known && left[LIMIT_concurrency].known &&
		    !left[LIMIT_rps].known);
	assert_int_equal(left[LIMIT_rpm].remaining, 10);
	assert_int_equal(left[LIMIT_tpm].remaining, 1000);
	assert_int_equal(left[LIMIT_concurrency].remaining, 4);
	assert_true(left[LIMIT_rpm].used == 0 && left[LIMIT_tpm].used == 0 && left[LIMIT_concurrency].used == 0);
	assert_int_equal(redis_server_int(limiter_rig_server(), "DBSIZE"), 0);
	assert_true(admit(&limits, 1, 400, RIG_START));
	peek(&limits, RIG_START, left);
	assert_int_equal(left[LIMIT_rpm].remaining, 9);
	assert_true(left[LIMIT_rpm].used == 0.1 && left[LIMIT_tpm].used == 0.4 && left[LIMIT_concurrency].used == 0.25);
	int64_t rpm = left[LIMIT_rpm].reset, tpm = left[LIMIT_tpm].reset;
	assert_int_equal(rpm, CLOCK_SECOND);
	assert_int_equal(tpm, CLOCK_MINUTE + 60 * CLOCK_MILLISECOND);
	peek(&limits, RIG_START + rpm - 1, left);
	assert_int_equal(left[LIMIT_rpm].remaining, 9);
	peek(&limits, RIG_START + rpm, left);
	assert_int_equal(left[LIMIT_rpm].remaining, 10);
	peek(&limits, RIG_START + RIG_LEASE - 1, left);
	assert_int_equal(left[LIMIT_concurrency].remaining, 3);
	peek(&limits, RIG_START + RIG_LEASE, left);
	assert_int_equal(left[LIMIT_concurrency].remaining, 4); /* the lease has ended, although nobody took it away */
	peek(&limits, RIG_START + tpm - 1, left);
	assert_int_equal(left[LIMIT_tpm].remaining, 600);
	peek(&limits, RIG_START + tpm, left);
	assert_int_equal(left[LIMIT_tpm].remaining, 1000);
}

/* Leases that have ended, slices that have fallen out: admit would clear them away, peek must not. */
static void no_key_is_changed(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 600, .burst = 600 },
				 .of[LIMIT_tpm] = { .count = 100000, .strict = true },
				 .of[LIMIT_concurrency] = { .count = 400 } };
	struct limiter_left left[LIMIT_COUNT];
	struct redis_server *server = limiter_rig_server();
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_true(admit(&limits, 1, 10, RIG_START + i * 500 * CLOCK_MILLISECOND));
	uint64_t before = limiter_rig_digest();
	redis_server_do(server, "PERSIST sluice:{m:pro}:q"); /* an expiry that were touched would be there again */
	redis_server_do(server, "PERSIST sluice:{m:pro}:l");
	redis_server_do(server, "PERSIST sluice:{m:pro}:s:tpm");
	for (int64_t at = 0; at < 3 * CLOCK_MINUTE; at += CLOCK_SECOND)
		peek(&limits, RIG_START + at, left);
	assert_int_equal(limiter_rig_digest(), before);
	assert_int_equal(redis_server_int(server, "PTTL sluice:{m:pro}:q"), -1);
	assert_int_equal(redis_server_int(server, "PTTL sluice:{m:pro}:l"), -1);
	assert_int_equal(redis_server_int(server, "PTTL sluice:{m:pro}:s:tpm"), -1);
}

static void a_full_redis_is_looked_at_all_the_same(void **state)
{
	struct limits limits = { .of[LIMIT_rpm] = { .count = 60, .burst = 10 } };
	struct limiter_left left[LIMIT_COUNT];
	(void)state;
	assert_true(admit(&limits, 1, 0, RIG_START));
	redis_server_do(limiter_rig_server(), "CONFIG SET maxmemory 1");
	peek(&limits, RIG_START, left);
	assert_int_equal(left[LIMIT_rpm].remaining, 9);
	redis_server_do(limiter_rig_server(), "CONFIG SET maxmemory 0");
}

static void commands_are_counted(void **state)
{
	struct limits all = { .of[LIMIT_rpm] = { .count = 600000, .burst = 600000 },
			      .of[LIMIT_tpm] = { .count = 600000, .strict = true },
			      .of[LIMIT_concurrency] = { .count = 6000 } };
	struct limiter_left left[LIMIT_COUNT];
	(void)state;
	assert_true(admit(&all, 1, 5, RIG_START));
	limiter_rig_calls();
	peek(&all, RIG_START, left);
	assert_int_equal(limiter_rig_calls(), 3); /* TIME is given here */
	peek(&all, RIG_START + 3 * CLOCK_MINUTE, left);
	assert_int_equal(limiter_rig_calls(), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_is_left_is_admitted_and_no_more, limiter_rig_clean),
		cmocka_unit_test_setup(one_by_one_pays_for_rounding, limiter_rig_clean),
		cmocka_unit_test_setup(it_is_full_again_when_it_says, limiter_rig_clean),
		cmocka_unit_test_setup(no_key_is_changed, limiter_rig_clean),
		cmocka_unit_test_setup(a_full_redis_is_looked_at_all_the_same, limiter_rig_clean),
		cmocka_unit_test_setup(commands_are_counted, limiter_rig_clean),
	};
	return cmocka_run_group_tests_name("peek", tests, limiter_rig_begin, limiter_rig_end);
}

/* The size that a pool keeps: when it grows and shrinks, and by how much; time is data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/pool_size.h"

/* Looks once a second, for so long. */
static enum pool_size_change after(struct pool_size *size, int64_t *now, int seconds, unsigned busy)
{
	enum pool_size_change change = POOL_SIZE_SAME;
	for (int i = 0; i < seconds; i++) {
		*now += CLOCK_SECOND;
		enum pool_size_change one = pool_size_look(size, *now, busy);
		change = one != POOL_SIZE_SAME ? one : change;
	}
	return change;
}

static void begin(struct pool_size *size, int64_t *now, unsigned least, unsigned start, unsigned most)
{
	*now = CLOCK_HOUR;
	pool_size_init(size, least, start, most);
	assert_int_equal(pool_size_look(size, *now, 0), POOL_SIZE_SAME);
}

static void grows_a_fifth_after_a_minute_above_four_fifths(void **state)
{
	static const unsigned expected[] = { 12, 14, 16, 19, 20, 20 };
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 2, 10, 20);
	for (size_t i = 0; i < ARRAY_LENGTH(expected); i++) {
		unsigned before = size.now;
		assert_int_equal(after(&size, &now, 59, before), POOL_SIZE_SAME);
		assert_int_equal(after(&size, &now, 1, before), before < 20 ? POOL_SIZE_GROWN : POOL_SIZE_SAME);
		assert_int_equal(size.now, expected[i]);
	}
}

static void exactly_four_fifths_are_not_above(void **state)
{
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 2, 10, 20);
	assert_int_equal(after(&size, &now, 600, 8), POOL_SIZE_SAME);
	assert_int_equal(size.now, 10);
	assert_int_equal(after(&size, &now, 60, 9), POOL_SIZE_GROWN);
}

/* A second of rest does not take the minute back; half a minute of it does. */
static void it_is_the_mean_that_counts(void **state)
{
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 2, 10, 20);
	after(&size, &now, 30, 10);
	after(&size, &now, 1, 0);
	assert_int_equal(after(&size, &now, 29, 10), POOL_SIZE_GROWN);
	begin(&size, &now, 2, 10, 20);
	after(&size, &now, 45, 10);
	assert_int_equal(after(&size, &now, 30, 0), POOL_SIZE_SAME);
	assert_int_equal(size.now, 10);
}

static void a_burst_leaves_it_as_it_was(void **state)
{
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 2, 10, 100);
	after(&size, &now, 60, 5);
	assert_int_equal(after(&size, &now, 4, 100),
			 POOL_SIZE_GROWN); /* 400 calls' seconds in a minute are not a burst */
	begin(&size, &now, 2, 10, 100);
	after(&size, &now, 60, 5);
	assert_int_equal(after(&size, &now, 1, 100), POOL_SIZE_SAME);
	assert_int_equal(after(&size, &now, 120, 5), POOL_SIZE_SAME);
	assert_int_equal(size.now, 10);
}

static void shrinks_a_tenth_after_five_minutes_below_three_tenths(void **state)
{
	static const unsigned expected[] = { 27, 25, 23, 21, 20, 20 };
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 20, 30, 100);
	for (size_t i = 0; i < ARRAY_LENGTH(expected); i++) {
		bool may = size.now > 20;
		assert_int_equal(after(&size, &now, 299, 5), POOL_SIZE_SAME);
		assert_int_equal(after(&size, &now, 1, 5), may ? POOL_SIZE_SHRUNK : POOL_SIZE_SAME);
		assert_int_equal(size.now, expected[i]);
	}
	begin(&size, &now, 2, 10, 100);
	assert_int_equal(after(&size, &now, 1000, 3), POOL_SIZE_SAME); /* exactly 30 % is not below */
}

static void it_is_never_none(void **state)
{
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 0, 0, 5);
	assert_int_equal(size.now, 1);
	assert_int_equal(after(&size, &now, 3000, 0), POOL_SIZE_SAME);
	assert_int_equal(after(&size, &now, 60, 1), POOL_SIZE_GROWN);
	assert_int_equal(size.now, 2);
}

/* The loop was held up, or nobody looked for there was nothing: as it was then it stayed. */
static void what_was_not_looked_at_was_as_before(void **state)
{
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 2, 10, 20);
	pool_size_look(&size, now + CLOCK_SECOND, 10);
	assert_int_equal(pool_size_look(&size, now + 60 * CLOCK_SECOND, 10), POOL_SIZE_GROWN);
	begin(&size, &now, 2, 10, 20);
	assert_int_equal(pool_size_look(&size, now + CLOCK_HOUR, 20),
			 POOL_SIZE_SHRUNK); /* it was idle; it is not now */
	assert_true(size.now < 10);
	assert_int_equal(pool_size_look(&size, now + 1000 * CLOCK_DAY, 0), POOL_SIZE_GROWN);
}

static void a_reload_keeps_what_it_has_come_to(void **state)
{
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 2, 10, 20);
	after(&size, &now, 60, 10);
	pool_size_bound(&size, 1, 50);
	assert_int_equal(size.now, 12);
	pool_size_bound(&size, 1, 5);
	assert_int_equal(size.now, 5);
	pool_size_bound(&size, 8, 9);
	assert_int_equal(size.now, 8);
}

static void counts_what_was_opened_in_the_last_minute(void **state)
{
	struct pool_size size;
	int64_t now;
	(void)state;
	begin(&size, &now, 2, 10, 20);
	for (int i = 0; i < 90; i++) {
		pool_size_opened(&size);
		after(&size, &now, 1, 0);
	}
	assert_in_range(pool_size_opened_lately(&size, now), 59, 60);
	assert_in_range(pool_size_opened_lately(&size, now + 30 * CLOCK_SECOND), 29, 30);
	assert_int_equal(pool_size_opened_lately(&size, now + CLOCK_MINUTE), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_a_fifth_after_a_minute_above_four_fifths),
		cmocka_unit_test(exactly_four_fifths_are_not_above),
		cmocka_unit_test(it_is_the_mean_that_counts),
		cmocka_unit_test(a_burst_leaves_it_as_it_was),
		cmocka_unit_test(shrinks_a_tenth_after_five_minutes_below_three_tenths),
		cmocka_unit_test(it_is_never_none),
		cmocka_unit_test(what_was_not_looked_at_was_as_before),
		cmocka_unit_test(a_reload_keeps_what_it_has_come_to),
		cmocka_unit_test(counts_what_was_opened_in_the_last_minute),
	};
	return cmocka_run_group_tests_name("pool_size", tests, NULL, NULL);
}

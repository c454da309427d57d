/* The clocks: they run, they stand still for tests, they run again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/clock.h"

#include <time.h>

static void runs_forward(void **state)
{
	(void)state;
	int64_t before = clock_now();
	struct timespec t;
	assert_int_equal(clock_gettime(CLOCK_BOOTTIME, &t), 0);
	assert_true(before <= (int64_t)t.tv_sec * CLOCK_SECOND + t.tv_nsec / 1000);
	assert_true(clock_now() >= before);
	assert_true(clock_unix() / CLOCK_SECOND <= (int64_t)time(NULL) + 1);
	assert_true(clock_unix() / CLOCK_SECOND >= (int64_t)time(NULL) - CLOCK_DAY / CLOCK_SECOND);
}

static void stands_still_for_a_test(void **state)
{
	(void)state;
	clock_test_set(5, 1700000000 * CLOCK_SECOND);
	assert_int_equal(clock_now(), 5);
	assert_int_equal(clock_unix(), 1700000000 * CLOCK_SECOND);
	clock_test_advance(CLOCK_MINUTE);
	assert_int_equal(clock_now(), 5 + CLOCK_MINUTE);
	assert_int_equal(clock_unix(), 1700000060 * CLOCK_SECOND);
	clock_test_release();
	assert_true(clock_now() != 5 + CLOCK_MINUTE);
}

static void units_are_microseconds(void **state)
{
	(void)state;
	assert_int_equal(CLOCK_DAY, INT64_C(86400000000));
	assert_int_equal(CLOCK_HOUR, INT64_C(3600000000));
	assert_int_equal(CLOCK_MILLISECOND, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_forward),
		cmocka_unit_test(stands_still_for_a_test),
		cmocka_unit_test(units_are_microseconds),
	};
	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}

/* The breaker's pauses on a real Redis, with the time given: set by the script pause, read by report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/breaker_script_rig.h"

#define NOW RIG_START

static struct rig_report read_pauses(int64_t now, int64_t known)
{
	const struct breaker_report r = { .pauses = known, .result = BREAKER_NOTHING };
	return breaker_script_report(now, &breaker_script_rule, &r);
}

static void pauses_only_extend(void **state)
{
	int64_t stands, left, version;
	struct slice heard, name, model;
	int count;
	(void)state;
	assert_int_equal(read_pauses(NOW, 0).pauses, 0);
	assert_true(breaker_script_pause(NOW, "pro", 5 * CLOCK_SECOND, &stands));
	heard = breaker_script_heard(&count);
	assert_int_equal(count, 1);
	assert_true(breaker_wire_hear_pause(heard, &name, &model, &left));
	assert_true(slice_equal(name, SLICE(RIG_NAME)) && slice_equal(model, SLICE("pro")));
	assert_int_equal(left, 5 * CLOCK_SECOND);
	assert_false(breaker_script_pause(NOW + CLOCK_SECOND, "pro", 4 * CLOCK_SECOND, &stands));
	assert_int_equal(stands, 4 * CLOCK_SECOND);
	assert_false(breaker_script_pause(NOW + CLOCK_SECOND, "pro", CLOCK_SECOND, &stands));
	assert_int_equal(stands, 4 * CLOCK_SECOND);
	breaker_script_heard(&count);
	assert_int_equal(count, 0);
	assert_true(breaker_script_pause(NOW + CLOCK_SECOND, "pro", 4 * CLOCK_SECOND + 1, &stands));
	assert_true(breaker_script_pause(NOW + CLOCK_SECOND, "v", CLOCK_SECOND, &stands)); /* named as our own field */
	version = read_pauses(NOW + CLOCK_SECOND, 0).pauses;
	assert_string_equal(breaker_script_pauses(), "pro=4000001 v=1000000");
	assert_int_equal(read_pauses(NOW + CLOCK_SECOND, version).pauses, version); /* known: not said again */
	assert_string_equal(breaker_script_pauses(), "");
	read_pauses(NOW + 2 * CLOCK_SECOND, 0); /* one is over */
	assert_string_equal(breaker_script_pauses(), "pro=3000001");
	assert_in_range(breaker_script_int("PTTL", 'w', NULL), 4000, 6000);
}

static void a_pause_is_at_most_25_hours(void **state)
{
	int64_t stands;
	(void)state;
	assert_true(breaker_script_pause(NOW, "pro", 1000 * CLOCK_HOUR, &stands));
	assert_int_equal(stands, 25 * CLOCK_HOUR);
	assert_false(
		breaker_script_pause(NOW - CLOCK_DAY, "pro", 25 * CLOCK_HOUR, &stands)); /* the clock was set back */
	assert_int_equal(stands, 25 * CLOCK_HOUR);
}

static void pauses_are_bounded(void **state)
{
	char model[16];
	int64_t stands;
	(void)state;
	for (int i = 0; i < BREAKER_PAUSES_MOST + 50; i++) {
		snprintf(model, sizeof(model), "m%d", i);
		assert_true(breaker_script_pause(NOW, model, (i + 1) * CLOCK_SECOND, &stands));
	}
	assert_int_equal(breaker_script_int("HLEN", 'w', NULL), BREAKER_PAUSES_MOST + 1); /* and the version */
	assert_int_equal(breaker_script_int("HEXISTS", 'w', "mm49"), 0);                  /* what ended first went */
	assert_int_equal(breaker_script_int("HEXISTS", 'w', "mm50"), 1);
	breaker_script_pause(NOW + 600 * CLOCK_SECOND, "new", CLOCK_SECOND, &stands); /* what is over goes, all of it */
	assert_int_equal(breaker_script_int("HLEN", 'w', NULL), 450 + 1 + 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, breaker_script_clean, breaker_script_leave)
	const struct CMUnitTest tests[] = {
		TEST(pauses_only_extend),
		TEST(a_pause_is_at_most_25_hours),
		TEST(pauses_are_bounded),
	};
	return cmocka_run_group_tests_name("breaker pauses", tests, breaker_script_begin, breaker_script_end);
}

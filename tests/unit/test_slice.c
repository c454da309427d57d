/* Borrowed bytes: the empty slice at every edge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/slice.h"

static void equal_looks_at_length_and_bytes(void **state)
{
	(void)state;
	assert_true(slice_equal(SLICE_NONE, SLICE("")));
	assert_true(slice_equal(SLICE("a\0b"), slice_make("a\0b", 3)));
	assert_false(slice_equal(SLICE("a\0b"), SLICE("a\0c")));
	assert_false(slice_equal(SLICE("ab"), SLICE("abc")));
	assert_true(slice_equal_nocase(SLICE("Content-TYPE"), SLICE("content-type")));
	assert_false(slice_equal_nocase(SLICE("a"), SLICE("ab")));
	assert_true(slice_equal_nocase(SLICE_NONE, SLICE_NONE));
}

static void starts_and_ends(void **state)
{
	(void)state;
	assert_true(slice_starts(SLICE("/v1/models"), SLICE("/v1/")));
	assert_true(slice_starts(SLICE("x"), SLICE_NONE));
	assert_true(slice_ends(SLICE("x"), SLICE_NONE));
	assert_false(slice_starts(SLICE("ab"), SLICE("abc")));
	assert_true(slice_ends(SLICE("gemini:embed"), SLICE(":embed")));
	assert_false(slice_ends(SLICE("ed"), SLICE("embed")));
}

static void skip_and_first_are_bounded(void **state)
{
	(void)state;
	assert_true(slice_equal(slice_skip(SLICE("abc"), 1), SLICE("bc")));
	assert_int_equal(slice_skip(SLICE("abc"), 3).len, 0);
	assert_int_equal(slice_skip(SLICE("abc"), SIZE_MAX).len, 0);
	assert_true(slice_equal(slice_first(SLICE("abc"), 2), SLICE("ab")));
	assert_int_equal(slice_first(SLICE("abc"), SIZE_MAX).len, 3);
}

static void cut_gives_both_sides(void **state)
{
	struct slice rest;
	(void)state;
	assert_true(slice_equal(slice_cut(SLICE("a=b=c"), '=', &rest), SLICE("a")));
	assert_true(slice_equal(rest, SLICE("b=c")));
	assert_true(slice_equal(slice_cut(SLICE("abc"), '=', &rest), SLICE("abc")));
	assert_int_equal(rest.len, 0);
	assert_int_equal(slice_cut(SLICE("="), '=', &rest).len, 0);
	assert_int_equal(rest.len, 0);
	assert_int_equal(slice_cut(SLICE_NONE, '=', &rest).len, 0);
	assert_int_equal(slice_find(SLICE("abc"), 'c'), 2);
	assert_int_equal(slice_find(SLICE("abc"), 'd'), 3);
	assert_int_equal(slice_find(SLICE_NONE, 'd'), 0);
}

static void trim_takes_blanks_and_tabs_only(void **state)
{
	(void)state;
	assert_true(slice_equal(slice_trim(SLICE(" \t a b\t ")), SLICE("a b")));
	assert_int_equal(slice_trim(SLICE(" \t ")).len, 0);
	assert_true(slice_equal(slice_trim(SLICE("\na\n")), SLICE("\na\n")));
	assert_int_equal(slice_of(NULL).len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_looks_at_length_and_bytes), cmocka_unit_test(starts_and_ends),
		cmocka_unit_test(skip_and_first_are_bounded),      cmocka_unit_test(cut_gives_both_sides),
		cmocka_unit_test(trim_takes_blanks_and_tabs_only),
	};
	return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}

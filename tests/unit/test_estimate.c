/* What is guessed of tokens before a call, and learnt from what answers report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/estimate.h"

static struct estimate_call text_call(int64_t bytes)
{
	return (struct estimate_call){ .tenant = SLICE("acme"), .model = SLICE("pro"), .text_bytes = bytes };
}

static void test_first_guess(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(8);
	struct estimate_call call = text_call(4000);
	struct estimate_tokens t;
	assert_true(estimate_tokens(e, &call, -1, 0, &t));
	assert_int_equal(t.input, 1000);
	assert_int_equal(t.output, 1024);
	assert_true(estimate_tokens(e, &call, 77, 0, &t));
	assert_int_equal(t.output, 77);
	assert_true(estimate_tokens(e, &call, 0, 0, &t));
	assert_int_equal(t.output, 0);
	call.media_bytes = 5000000;
	assert_true(estimate_tokens(e, &call, 0, 0, &t));
	assert_int_equal(t.input, 6000);
	assert_int_equal(estimate_count(e), 0); /* asking remembers nothing */
	estimate_free(&e);
}

static void test_cut_to_the_burst(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(8);
	struct estimate_call call = text_call(4000);
	struct estimate_tokens t;
	assert_true(estimate_tokens(e, &call, 65536, 3000, &t));
	assert_int_equal(t.input, 1000);
	assert_int_equal(t.output, 2000);
	assert_true(estimate_tokens(e, &call, 65536, 1000, &t)); /* the input fills it exactly */
	assert_int_equal(t.output, 0);
	assert_true(estimate_tokens(e, &call, 1, 999, &t)); /* it may be less than it seems */
	assert_int_equal(t.input, 999);
	assert_int_equal(t.output, 0);
	assert_true(estimate_tokens(e, &call, 1, 63, &t));
	assert_false(estimate_tokens(e, &call, 1, 62, &t));
	assert_int_equal(t.input, 63);
	estimate_free(&e);
}

/* An image at an address, a conversation that the provider keeps: what they cost is not in the bytes, and must not weigh on calls that are all there. */
static void test_learns_nothing_from_what_is_elsewhere(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(8);
	struct estimate_call short_one = text_call(150), image = text_call(150);
	struct estimate_tokens t, many = { 50000, 0 };
	image.media_bytes = 600000;
	estimate_learn(e, &short_one, &many);
	assert_true(estimate_tokens(e, &short_one, 0, 0, &t));
	assert_int_equal(t.input, 38);
	assert_true(estimate_tokens(e, &image, 0, 0, &t));
	assert_int_equal(t.input, 638);
	image.media_bytes = 1000;
	estimate_learn(e, &image, &many);
	assert_true(estimate_tokens(e, &image, 0, 0, &t));
	assert_int_equal(t.input, 39);
	estimate_free(&e);
}

static void test_learns_the_ratio_of_a_model(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(8);
	struct estimate_call call = text_call(3000), other = text_call(3000);
	struct estimate_tokens t, used = { 1500, 0 };
	other.model = SLICE("flash");
	estimate_learn(e, &call, &used); /* the first says all */
	assert_true(estimate_tokens(e, &call, 0, 0, &t));
	assert_int_equal(t.input, 1500);
	used.input = 600;
	for (int i = 0; i < 200; i++)
		estimate_learn(e, &call, &used);
	assert_true(estimate_tokens(e, &call, 0, 0, &t));
	assert_in_range(t.input, 600, 601);
	assert_true(estimate_tokens(e, &other, 0, 0, &t));
	assert_int_equal(t.input, 750);
	estimate_free(&e);
}

static void test_media_is_learnt_apart(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(8);
	struct estimate_call text = text_call(4000), image = text_call(400);
	struct estimate_tokens t, text_used = { 1000, 0 }, image_used = { 100 + 258, 0 };
	image.media_bytes = 1000000;
	estimate_learn(e, &text, &text_used);
	for (int i = 0; i < 100; i++)
		estimate_learn(e, &image, &image_used);
	assert_true(estimate_tokens(e, &text, 0, 0, &t));
	assert_int_equal(t.input, 1000); /* images did not teach text anything */
	assert_true(estimate_tokens(e, &image, 0, 0, &t));
	assert_in_range(t.input, 358, 359);
	estimate_free(&e);
}

static void test_output_by_tenant_then_model(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(8);
	struct estimate_call mine = text_call(40), theirs = text_call(40);
	struct estimate_tokens t, small = { 10, 100 }, large = { 10, 4000 };
	theirs.tenant = SLICE("zeta");
	for (int i = 0; i < 200; i++) {
		estimate_learn(e, &mine, &small);
		estimate_learn(e, &theirs, &large);
	}
	assert_true(estimate_tokens(e, &mine, -1, 0, &t));
	assert_in_range(t.output, 100, 102);
	assert_true(estimate_tokens(e, &theirs, -1, 0, &t));
	assert_in_range(t.output, 4000, 4002);
	theirs.tenant = SLICE("new");
	assert_true(estimate_tokens(e, &theirs, -1, 0, &t));
	assert_in_range(t.output, 2050, 8000); /* between the two and spread wide */
	estimate_free(&e);
}

static void test_garbage_teaches_little(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(8);
	struct estimate_call call = text_call(1000), none = text_call(0);
	struct estimate_tokens t, no_report = { 0, -5 }, mad = { INT64_MAX, INT64_MAX }, many = { INT64_C(1) << 39, 1 };
	estimate_learn(e, &call, &no_report);
	estimate_learn(e, &call, &mad);
	estimate_learn(e, &none, &many);
	assert_true(estimate_tokens(e, &call, -1, 0, &t));
	assert_int_equal(t.input, 250);
	estimate_learn(e, &call, &many);
	assert_true(estimate_tokens(e, &call, 0, 0, &t));
	assert_int_equal(t.input, 250);
	many.input = 1000;
	estimate_learn(e, &call, &many);
	assert_true(estimate_tokens(e, &call, 0, 0, &t));
	assert_int_equal(t.input, 1000); /* a token per byte, no more */
	call.text_bytes = INT64_MAX;
	assert_true(estimate_tokens(e, &call, INT64_MAX, 0, &t));
	assert_true(t.input + t.output > 0); /* the sum does not overflow */
	estimate_free(&e);
}

static void test_memory_is_bounded(void **state)
{
	(void)state;
	struct estimate *e = estimate_new(4);
	struct estimate_tokens t, used = { 500, 10 };
	char name[300];
	for (int i = 0; i < 1000; i++) {
		struct estimate_call call = text_call(1000), kept = text_call(1000);
		call.model = slice_make(name, (size_t)snprintf(name, sizeof name, "model-%d", i));
		call.tenant = SLICE_NONE;
		kept.tenant = SLICE_NONE;
		estimate_learn(e, &kept, &used);
		estimate_learn(e, &call, &used);
		assert_true(estimate_count(e) <= 4);
		assert_true(estimate_tokens(e, &kept, 0, 0, &t)); /* the one in use is not forgotten */
		assert_int_equal(t.input, 500);
	}
	struct estimate_call gone = text_call(1000);
	gone.model = SLICE("model-0");
	assert_true(estimate_tokens(e, &gone, 0, 0, &t));
	assert_int_equal(t.input, 250);
	memset(name, 'x', sizeof name);
	gone.model = slice_make(name, sizeof name);
	size_t before = estimate_count(e);
	estimate_learn(e, &gone, &used);
	assert_int_equal(estimate_count(e), before);
	estimate_free(&e);
	assert_null(e);
	estimate_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_guess),
		cmocka_unit_test(test_cut_to_the_burst),
		cmocka_unit_test(test_learns_nothing_from_what_is_elsewhere),
		cmocka_unit_test(test_learns_the_ratio_of_a_model),
		cmocka_unit_test(test_media_is_learnt_apart),
		cmocka_unit_test(test_output_by_tenant_then_model),
		cmocka_unit_test(test_garbage_teaches_little),
		cmocka_unit_test(test_memory_is_bounded),
	};
	return cmocka_run_group_tests_name("estimate", tests, NULL, NULL);
}

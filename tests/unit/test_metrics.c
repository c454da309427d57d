/* What is counted, merged, capped and written. */
#include "svc/metrics.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>

#include "lib/buf.h"

static const struct slice tokens[] = { { "acme", 4 }, { "gpt", 3 }, { "input", 5 } };

/* How often `line` stands in what is written, from a line's beginning to its end. */
static int written(const struct metrics *m, const char *line)
{
	struct buf text;
	int count = 0;

	buf_init(&text, 64 * 1024 * 1024);
	metrics_write(m, &text);
	for (struct slice rest = buf_slice(&text); rest.len > 0;)
		count += slice_equal(slice_cut(rest, '\n', &rest), slice_of(line));
	buf_free(&text);
	return count;
}

static void test_counters_and_gauges(void **state)
{
	struct metrics *m = metrics_new();

	(void)state;
	assert_true(metrics_value(m, METRIC_tokens_total, tokens) == 0);
	metrics_add(m, METRIC_tokens_total, tokens, 5);
	metrics_add(m, METRIC_tokens_total, tokens, 2.5);
	metrics_set(m, METRIC_ready, NULL, 1);
	metrics_set(m, METRIC_ready, NULL, 0);
	assert_true(metrics_value(m, METRIC_tokens_total, tokens) == 7.5);
	assert_int_equal(written(m, "sluice_tokens_total{tenant=\"acme\",model=\"gpt\",kind=\"input\"} 7.5"), 1);
	assert_int_equal(written(m, "sluice_ready 0"), 1);
	assert_int_equal(written(m, "# TYPE sluice_ready gauge"), 1);
	metrics_free(&m);
	assert_null(m);
}

static void test_histograms(void **state)
{
	struct metrics *m = metrics_new();
	struct slice stage = SLICE("quota");
	struct metrics_series *series = metrics_series(m, METRIC_stage_seconds, &stage);

	(void)state;
	metrics_observe(m, METRIC_stage_seconds, &stage, 100); /* at a bound: inside */
	metrics_observe_series(series, 101);
	metrics_observe(m, METRIC_stage_seconds, &stage, INT64_C(3600000000));
	assert_true(metrics_value(m, METRIC_stage_seconds, &stage) == 3);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"0.0001\"} 1"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"0.00025\"} 2"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"600\"} 2"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"+Inf\"} 3"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_count{stage=\"quota\"} 3"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_sum{stage=\"quota\"} 3600.0002"), 1);
	metrics_free(&m);
}

static void test_merging(void **state)
{
	struct metrics *a = metrics_new(), *b = metrics_new(), *all = metrics_new();
	struct slice stage = SLICE("body");

	(void)state;
	metrics_add(a, METRIC_tokens_total, tokens, 1);
	metrics_add(b, METRIC_tokens_total, tokens, 2);
	metrics_set(a, METRIC_client_connections, NULL, 3);
	metrics_set(b, METRIC_client_connections, NULL, 4);
	metrics_observe(a, METRIC_stage_seconds, &stage, 1000);
	metrics_observe(b, METRIC_stage_seconds, &stage, 1000);
	metrics_merge(all, a);
	metrics_merge(all, b);
	assert_true(metrics_value(all, METRIC_tokens_total, tokens) == 3);
	assert_true(metrics_value(all, METRIC_client_connections, NULL) == 7);
	assert_true(metrics_value(all, METRIC_stage_seconds, &stage) == 2);
	metrics_free(&a);
	metrics_free(&b);
	metrics_free(&all);
}

static void test_hostile_labels(void **state)
{
	static char longest[5000];
	struct metrics *m = metrics_new();
	struct slice labels[] = { SLICE("a\"b\\c\nd"), SLICE("\xff\xfe"), slice_make(longest, sizeof(longest)) };

	(void)state;
	memset(longest, 'x', sizeof(longest));
	metrics_add(m, METRIC_tokens_total, labels, 1);
	labels[2] = SLICE("e\0f");
	metrics_add(m, METRIC_tokens_total, labels, 1);
	assert_int_equal(written(m, "sluice_tokens_total{tenant=\"a\\\"b\\\\c\\nd\",model=\"??\",kind=\"e\"} 1"), 1);
	metrics_free(&m);
}

static void test_too_many_series(void **state)
{
	struct metrics *m = metrics_new();
	static const struct slice other[] = { { "other", 5 }, { "other", 5 }, { "other", 5 } };

	(void)state;
	for (int i = 0; i < METRICS_SERIES_MAX + 500; i++) {
		char name[16];
		struct slice labels[] = { SLICE("t"),
					  slice_make(name, (size_t)snprintf(name, sizeof(name), "model-%d", i)),
					  SLICE("input") };
		metrics_add(m, METRIC_tokens_total, labels, 1);
	}
	assert_true(metrics_value(m, METRIC_tokens_total, other) == 500);
	metrics_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_and_gauges),
		cmocka_unit_test(test_histograms),
		cmocka_unit_test(test_merging),
		cmocka_unit_test(test_hostile_labels),
		cmocka_unit_test(test_too_many_series),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

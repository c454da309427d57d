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

static void test_a_counter_found_once(void **state)
{
	struct metrics *m = metrics_new();
	struct metrics_series *series = metrics_series(m, METRIC_tokens_total, tokens);

	(void)state;
	assert_int_equal(written(m, "sluice_tokens_total{tenant=\"acme\",model=\"gpt\",kind=\"input\"} 0"), 1);
	metrics_count(series);
	metrics_add(m, METRIC_tokens_total, tokens, 2);
	metrics_count(series);
	assert_true(metrics_value(m, METRIC_tokens_total, tokens) == 4);
	metrics_free(&m);
}

static void test_histograms(void **state)
{
	struct metrics *m = metrics_new();
	struct slice stage = SLICE("quota");
	struct metrics_series *series = metrics_series(m, METRIC_stage_seconds, &stage);

	(void)state;
	metrics_observe(metrics_series(m, METRIC_stage_seconds, &stage), 100); /* at a bound: inside */
	metrics_observe(series, 101);
	metrics_observe(metrics_series(m, METRIC_stage_seconds, &stage), INT64_C(3600000000));
	assert_true(metrics_value(m, METRIC_stage_seconds, &stage) == 3);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"0.0001\"} 1"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"0.00025\"} 2"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"600\"} 2"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_bucket{stage=\"quota\",le=\"+Inf\"} 3"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_count{stage=\"quota\"} 3"), 1);
	assert_int_equal(written(m, "sluice_stage_seconds_sum{stage=\"quota\"} 3600.000201"), 1);
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
	metrics_observe(metrics_series(a, METRIC_stage_seconds, &stage), 1000);
	metrics_observe(metrics_series(b, METRIC_stage_seconds, &stage), 1000);
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
	assert_int_equal(written(m, "sluice_tokens_total{tenant=\"a\\\"b\\\\c\\nd\",model=\"\xef\xbf\xbd\xef\xbf\xbd\","
				    "kind=\"e\"} 1"),
			 1);
	metrics_free(&m);
}

/* What a label becomes. */
static void check_label(struct slice given, const char *wanted)
{
	struct metrics *m = metrics_new();
	char line[2000];

	metrics_observe(metrics_series(m, METRIC_stage_seconds, &given), 1);
	snprintf(line, sizeof(line), "sluice_stage_seconds_count{stage=\"%s\"} 1", wanted);
	if (written(m, line) != 1)
		fail_msg("%s", line);
	assert_true(metrics_value(m, METRIC_stage_seconds, &given) == 1);
	metrics_free(&m);
}

/* A byte that is no part of a character becomes one U+FFFD, the characters around it stay; a cut falls between characters. */
static void test_labels_are_utf8(void **state)
{
	static char many[300], cut[300];

	(void)state;
	check_label(SLICE(""), "");
	check_label(SLICE_NONE, "");
	check_label(SLICE("m\xc3\xbcller \xf0\x9f\x8c\x8a"), "m\xc3\xbcller \xf0\x9f\x8c\x8a");
	check_label(SLICE("\xc3\xa4\xff\xc3\xa4"), "\xc3\xa4\xef\xbf\xbd\xc3\xa4");
	check_label(SLICE("a\xc3"), "a\xef\xbf\xbd");                               /* ends inside a character */
	check_label(SLICE("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a surrogate */
	check_label(SLICE("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd");                 /* an overlong NUL */
	memset(many, 'x', sizeof(many));
	check_label(slice_make(many, 200), memcpy(cut, many, 200));
	check_label(slice_make(many, 201), cut);
	for (size_t before = 196; before <= 200; before++) {
		bool whole = before <= 196;
		memset(many, 'x', sizeof(many));
		memcpy(many + before, "\xf0\x9f\x8c\x8a", 4);
		memset(cut, 0, sizeof(cut));
		memcpy(cut, many, whole ? 200 : before);
		check_label(slice_make(many, sizeof(many)), cut);
	}
	for (size_t before = 195; before <= 200; before++) { /* nor does a replacement stand there in part */
		memset(many, 'x', sizeof(many));
		many[before] = '\xff';
		memset(cut, 0, sizeof(cut));
		memcpy(cut, many, before);
		if (before <= 197)
			memcpy(cut + before, "\xef\xbf\xbd", 3);
		if (before < 197)
			memset(cut + before + 3, 'x', 197 - before);
		check_label(slice_make(many, sizeof(many)), cut);
	}
}

/* Two names that are written alike are one series: the format forbids a second line of the same labels. */
static void test_no_line_twice(void **state)
{
	static const char *const names[] = { "a\xff", "a\xfe", "a\xef\xbf\xbd" };
	struct metrics *m = metrics_new();
	struct slice other_label = SLICE("t");

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		struct slice labels[] = { other_label, slice_of(names[i]), SLICE("input") };
		metrics_add(m, METRIC_tokens_total, labels, 1);
	}
	assert_int_equal(written(m, "sluice_tokens_total{tenant=\"t\",model=\"a\xef\xbf\xbd\",kind=\"input\"} 3"), 1);
	metrics_free(&m);
}

static void add_models(struct metrics *m, int from, int to)
{
	for (int i = from; i < to; i++) {
		char name[16];
		struct slice labels[] = { SLICE("t"),
					  slice_make(name, (size_t)snprintf(name, sizeof(name), "model-%d", i)),
					  SLICE("input") };
		metrics_add(m, METRIC_tokens_total, labels, 1);
	}
}

static const struct slice others[] = { { "other", 5 }, { "other", 5 }, { "other", 5 } };

static void test_too_many_series(void **state)
{
	struct metrics *m = metrics_new();

	(void)state;
	add_models(m, 0, METRICS_SERIES_MAX);
	assert_true(metrics_value(m, METRIC_tokens_total, others) == 0);
	add_models(m, METRICS_SERIES_MAX, METRICS_SERIES_MAX + 500);
	assert_true(metrics_value(m, METRIC_tokens_total, others) == 500);
	add_models(m, 0, METRICS_SERIES_MAX); /* those that have a series keep it */
	assert_true(metrics_value(m, METRIC_tokens_total, others) == 500);
	metrics_free(&m);
}

/* What each worker has keeps its name in the sum: were the cap applied once more, the map's order, which changes as it grows, would choose who is
 * "other", and a counter could fall from one scrape to the next. */
static void test_merging_folds_nothing(void **state)
{
	struct metrics *a = metrics_new(), *b = metrics_new(), *all = metrics_new();

	(void)state;
	add_models(a, 0, METRICS_SERIES_MAX + 10);
	add_models(b, 1000, 1000 + METRICS_SERIES_MAX + 10);
	metrics_merge(all, a);
	metrics_merge(all, b);
	assert_true(metrics_value(all, METRIC_tokens_total, others) == 20);
	for (int i = 0; i < METRICS_SERIES_MAX + 1000; i++) {
		char line[100];
		bool in_both = i >= 1000 && i < METRICS_SERIES_MAX;
		struct slice labels[] = { SLICE("t"),
					  slice_make(line, (size_t)snprintf(line, sizeof(line), "model-%d", i)),
					  SLICE("input") };
		assert_true(metrics_value(all, METRIC_tokens_total, labels) == (in_both ? 2 : 1));
	}
	metrics_free(&a);
	metrics_free(&b);
	metrics_free(&all);
}

static void test_forgetting_a_gauge(void **state)
{
	struct metrics *m = metrics_new();
	struct slice gone[] = { SLICE("gone"), SLICE("calls") };

	(void)state;
	metrics_forget(m, METRIC_pool_limit); /* nothing there yet */
	metrics_set(m, METRIC_pool_limit, gone, 10);
	metrics_set(m, METRIC_client_connections, NULL, 3);
	metrics_forget(m, METRIC_pool_limit);
	assert_int_equal(written(m, "sluice_pool_limit{upstream=\"gone\",pool=\"calls\"} 10"), 0);
	assert_int_equal(written(m, "sluice_client_connections 3"), 1);
	metrics_set(m, METRIC_pool_limit, gone, 11);
	assert_int_equal(written(m, "sluice_pool_limit{upstream=\"gone\",pool=\"calls\"} 11"), 1);
	metrics_free(&m);
}

/* ---- the text as a whole ---------------------------------------------------------------------------------------------- */

static void fill(struct metrics *m, bool backwards)
{
	enum { STAGES = 60 }; /* so many that some share a place in the map, which then keeps them as they came */
	char name[20];

	for (int i = 0; i < STAGES; i++) {
		snprintf(name, sizeof(name), "stage%02d", backwards ? STAGES - 1 - i : i);
		struct slice stage = slice_of(name);
		metrics_observe(metrics_series(m, METRIC_stage_seconds, &stage), 42);
		metrics_set(m, METRIC_in_flight, &stage, -1);
	}
}

static void test_the_order_is_always_the_same(void **state)
{
	struct metrics *a = metrics_new(), *b = metrics_new();
	struct buf x, y;

	(void)state;
	buf_init(&x, 1 << 20);
	buf_init(&y, 1 << 20);
	fill(a, false);
	fill(b, true);
	metrics_write(a, &x);
	metrics_write(b, &y);
	assert_true(slice_equal(buf_slice(&x), buf_slice(&y)));
	assert_int_equal(written(a, "sluice_in_flight{stage=\"stage07\"} -1"), 1);
	buf_free(&x);
	buf_free(&y);
	metrics_free(&a);
	metrics_free(&b);
}

/* Whether a line is "name value" or "name{label="text",…} value", character by character (text format 0.0.4). */
static bool is_sample(struct slice line)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz_";
	struct slice text = line;
	size_t name = 0;

	while (name < text.len && strchr(letters, text.data[name]) != NULL)
		name++;
	text = slice_skip(text, name);
	if (name < 8 || !slice_starts(line, SLICE("sluice_")) || text.len < 2)
		return false;
	for (char end = '{'; text.data[0] != ' '; end = ',') {
		size_t label = 1;
		if (text.data[0] != end)
			return false;
		while (label < text.len && strchr(letters, text.data[label]) != NULL)
			label++;
		text = slice_skip(text, label);
		if (!slice_starts(text, SLICE("=\"")))
			return false;
		for (text = slice_skip(text, 2); text.len > 0 && text.data[0] != '"'; text = slice_skip(text, 1))
			if (text.data[0] == '\\')
				text = slice_skip(text, 1);
		text = slice_skip(text, 1);
		if (slice_starts(text, SLICE("} "))) {
			text = slice_skip(text, 1);
			break;
		}
		if (text.len == 0)
			return false;
	}
	return strspn(text.data + 1, "0123456789.e+-") == text.len - 1;
}

static void test_every_line_has_the_form(void **state)
{
	struct metrics *m = metrics_new();
	struct slice labels[] = { SLICE("a\"\\\n,}{ "), SLICE("\xff=\"x\""), SLICE("e"), SLICE("}"), SLICE("\\") };
	struct slice name = SLICE_NONE;
	struct buf text;
	int samples = 0, helps = 0, types = 0;

	(void)state;
	metrics_add(m, METRIC_requests_total, labels, 0.1);
	metrics_observe(metrics_series(m, METRIC_request_seconds, labels), 1);
	metrics_set(m, METRIC_pool_utilization, labels, 1.0 / 3);
	metrics_set(m, METRIC_ready, NULL, 1e300);
	buf_init(&text, 1 << 20);
	metrics_write(m, &text);
	assert_true(slice_ends(buf_slice(&text), SLICE("\n")));
	for (struct slice rest = buf_slice(&text); rest.len > 0;) {
		char copy[1000];
		struct slice line = slice_cut(rest, '\n', &rest);
		snprintf(copy, sizeof(copy), "%.*s", SLICE_ARGS(line));
		if (slice_starts(line, SLICE("# HELP "))) {
			name = slice_skip(line, 7);
			name = slice_first(name, slice_find(name, ' '));
			helps++;
		} else if (slice_starts(line, SLICE("# TYPE "))) {
			assert_true(slice_starts(slice_skip(line, 7), name)); /* of the metric just named */
			types++;
		} else {
			if (!is_sample(slice_of(copy)) || !slice_starts(line, name))
				fail_msg("%s", copy);
			samples++;
		}
	}
	assert_int_equal(helps, METRIC_COUNT);
	assert_int_equal(types, METRIC_COUNT);
	assert_int_equal(samples, 3 + 27); /* one histogram: 24 bounds, +Inf, sum, count */
	buf_free(&text);
	metrics_free(&m);
}

/* Each time falls into the first bucket that holds it; the counts are what a naive look at the bounds says. */
static void test_buckets_against_a_naive_model(void **state)
{
	static const double bounds[] = { 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025,
					 0.005,   0.01,     0.025,   0.05,   0.1,     0.25,   0.5,   1,
					 2.5,     5,        10,      30,     60,      120,    300,   600 };
	struct metrics *m = metrics_new();
	struct slice stage = SLICE("s");
	int below[ARRAY_LENGTH(bounds)] = { 0 }, count = 0;

	(void)state;
	for (int64_t took = 1; took < INT64_C(2000000000); took += 1 + took / 3, count++) {
		metrics_observe(metrics_series(m, METRIC_stage_seconds, &stage), took);
		for (size_t i = 0; i < ARRAY_LENGTH(bounds); i++)
			below[i] += (double)took <= bounds[i] * 1e6 * (1 + 1e-12);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(bounds); i++) {
		char line[100];
		snprintf(line, sizeof(line), "sluice_stage_seconds_bucket{stage=\"s\",le=\"%g\"} %d", bounds[i],
			 below[i]);
		if (written(m, line) != 1)
			fail_msg("%s", line);
	}
	assert_true(metrics_value(m, METRIC_stage_seconds, &stage) == count);
	metrics_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_and_gauges),
		cmocka_unit_test(test_a_counter_found_once),
		cmocka_unit_test(test_histograms),
		cmocka_unit_test(test_merging),
		cmocka_unit_test(test_hostile_labels),
		cmocka_unit_test(test_labels_are_utf8),
		cmocka_unit_test(test_no_line_twice),
		cmocka_unit_test(test_too_many_series),
		cmocka_unit_test(test_merging_folds_nothing),
		cmocka_unit_test(test_forgetting_a_gauge),
		cmocka_unit_test(test_the_order_is_always_the_same),
		cmocka_unit_test(test_every_line_has_the_form),
		cmocka_unit_test(test_buckets_against_a_naive_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

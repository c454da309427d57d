/* A hash map of series per metric. A series' key is its label values as they will be written (UTF-8, cut to a length), each with a NUL behind it: no
 * value holds one, for they are cut there. So two names that are written alike are one series, and no line of the text stands there twice.
 *
 * Times are counted in microseconds and written in seconds, as Prometheus wants base units. Disadvantage: a scrape writes every series of every worker,
 * and none but a gauge's is ever dropped. */
#include "svc/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/utf8.h"

enum { LABEL_MOST = 200, KEY_MOST = METRICS_LABELS_MAX * (LABEL_MOST + 1) };

/* clang-format off */
static const int64_t bounds[] = { /* as the header says */
	10, 25, 50, 100, 250, 500,
	1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
	1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000, 600000000,
};
/* clang-format on */
enum { BOUNDS = ARRAY_LENGTH(bounds) };

enum type { COUNTER, GAUGE, HISTOGRAM };

/* clang-format off */
#define ROW(name, type, labels, help) { "sluice_" #name, type, labels, help },
static const struct {
	const char *name;
	enum type type;
	const char *labels, *help; /* labels: comma separated */
} rows[] = { METRICS(ROW) };
#undef ROW
/* clang-format on */

struct metrics_series {
	char *key;
	size_t key_length;
	double value;     /* of a histogram: the sum, in microseconds */
	uint64_t *counts; /* of a histogram: one a bound, and one for what is above all */
};

struct metrics {
	struct map *series[METRIC_COUNT]; /* NULL until the first */
	size_t labels[METRIC_COUNT];      /* how many the row names */
};

static size_t labels_count(enum metric metric)
{
	const char *labels = rows[metric].labels;
	size_t count = labels[0] != '\0';

	for (; *labels != '\0'; labels++)
		count += *labels == ',';
	CHECK(count <= METRICS_LABELS_MAX);
	return count;
}

struct metrics *metrics_new(void)
{
	struct metrics *m = mem_new(sizeof(*m));

	for (size_t i = 0; i < METRIC_COUNT; i++)
		m->labels[i] = labels_count((enum metric)i);
	return m;
}

static void series_free(void *value)
{
	struct metrics_series *s = value;

	mem_free(s->key);
	mem_free(s->counts);
	mem_free(s);
}

void metrics_free(struct metrics **handle)
{
	if (*handle == NULL)
		return;
	for (size_t i = 0; i < METRIC_COUNT; i++)
		if ((*handle)->series[i] != NULL)
			map_free(&(*handle)->series[i], series_free);
	mem_free(*handle);
	*handle = NULL;
}

/* Character by character: what is none becomes U+FFFD, and the cut falls between two. */
static size_t put_mended(struct slice label, char out[LABEL_MOST])
{
	static const struct slice replacement = { "\xef\xbf\xbd", 3 };
	size_t length = 0;

	while (label.len > 0) {
		bool valid;
		size_t size = utf8_next(label, &valid);
		struct slice character = valid ? slice_first(label, size) : replacement;
		if (character.len > LABEL_MOST - length)
			break;
		memcpy(out + length, character.data, character.len);
		length += character.len;
		label = slice_skip(label, size);
	}
	return length;
}

static size_t put_clean(struct slice label, char out[LABEL_MOST])
{
	label = slice_first(label, slice_find(label, '\0'));
	if (label.len > LABEL_MOST || !text_is_utf8(label))
		return put_mended(label, out);
	if (label.len > 0)
		memcpy(out, label.data, label.len);
	return label.len;
}

static struct slice make_key(const struct metrics *m, enum metric metric, const struct slice *labels,
			     char memory[KEY_MOST])
{
	size_t length = 0;

	CHECK((unsigned)metric < METRIC_COUNT && (m->labels[metric] == 0 || labels != NULL));
	for (size_t i = 0; i < m->labels[metric]; i++) {
		length += put_clean(labels[i], memory + length);
		memory[length++] = '\0';
	}
	return slice_make(memory, length);
}

static struct metrics_series *find_or_add(struct metrics *m, enum metric metric, struct slice key)
{
	struct map **map = &m->series[metric];
	struct metrics_series *s;

	if (*map == NULL)
		*map = map_new();
	s = map_get(*map, key);
	if (s != NULL)
		return s;
	s = mem_new(sizeof(*s));
	s->key = mem_text(key);
	s->key_length = key.len;
	if (rows[metric].type == HISTOGRAM)
		s->counts = mem_new_array(BOUNDS + 1, sizeof(*s->counts));
	map_put(*map, key, s);
	return s;
}

/* A series too many is counted under "other" in every label: callers choose the names of models. */
static struct metrics_series *series_for(struct metrics *m, enum metric metric, struct slice key)
{
	static const struct slice other[METRICS_LABELS_MAX] = {
		{ "other", 5 }, { "other", 5 }, { "other", 5 }, { "other", 5 }, { "other", 5 }
	};
	char memory[KEY_MOST];

	if (m->series[metric] != NULL && map_count(m->series[metric]) >= METRICS_SERIES_MAX &&
	    map_get(m->series[metric], key) == NULL)
		key = make_key(m, metric, other, memory);
	return find_or_add(m, metric, key);
}

void metrics_add(struct metrics *m, enum metric metric, const struct slice *labels, double by)
{
	char memory[KEY_MOST];

	CHECK((unsigned)metric < METRIC_COUNT && rows[metric].type == COUNTER && by >= 0);
	series_for(m, metric, make_key(m, metric, labels, memory))->value += by;
}

void metrics_set(struct metrics *m, enum metric metric, const struct slice *labels, double value)
{
	char memory[KEY_MOST];

	CHECK((unsigned)metric < METRIC_COUNT && rows[metric].type == GAUGE);
	series_for(m, metric, make_key(m, metric, labels, memory))->value = value;
}

void metrics_forget(struct metrics *m, enum metric metric)
{
	CHECK((unsigned)metric < METRIC_COUNT && rows[metric].type == GAUGE);
	if (m->series[metric] != NULL)
		map_free(&m->series[metric], series_free);
}

struct metrics_series *metrics_series(struct metrics *m, enum metric metric, const struct slice *labels)
{
	char memory[KEY_MOST];

	return series_for(m, metric, make_key(m, metric, labels, memory));
}

void metrics_count(struct metrics_series *s)
{
	CHECK(s->counts == NULL);
	s->value++;
}

void metrics_observe(struct metrics_series *s, int64_t microseconds)
{
	size_t i = 0;

	CHECK(s->counts != NULL);
	while (i < BOUNDS && microseconds > bounds[i])
		i++;
	s->counts[i]++;
	s->value += (double)microseconds;
}

/* Without the cap, which has done its work in each worker: applied once more it would fold those that happen to come last in a map, others at each
 * scrape, and a counter would fall. */
static void merge_series(struct metrics *into, enum metric metric, const struct metrics_series *from)
{
	struct metrics_series *s = find_or_add(into, metric, slice_make(from->key, from->key_length));

	s->value += from->value;
	for (size_t i = 0; from->counts != NULL && i <= BOUNDS; i++)
		s->counts[i] += from->counts[i];
}

void metrics_merge(struct metrics *into, const struct metrics *from)
{
	for (size_t metric = 0; metric < METRIC_COUNT; metric++) {
		struct slice key;
		size_t at = 0;
		void *value;
		while (from->series[metric] != NULL && map_next(from->series[metric], &at, &key, &value))
			merge_series(into, (enum metric)metric, value);
	}
}

static uint64_t observed(const struct metrics_series *s)
{
	uint64_t count = 0;

	for (size_t i = 0; i <= BOUNDS; i++)
		count += s->counts[i];
	return count;
}

double metrics_value(const struct metrics *m, enum metric metric, const struct slice *labels)
{
	char memory[KEY_MOST];
	struct slice key = make_key(m, metric, labels, memory);
	const struct metrics_series *s = m->series[metric] == NULL ? NULL : map_get(m->series[metric], key);

	if (s == NULL)
		return 0;
	return s->counts != NULL ? (double)observed(s) : s->value;
}

/* ---- the text format of Prometheus, version 0.0.4 ---------------------------------------------------------------------- */

static void put_value(struct slice value, struct buf *out)
{
	buf_append_byte(out, '"');
	for (size_t i = 0; i < value.len; i++) {
		char byte = value.data[i];
		if (byte == '\n')
			buf_append(out, SLICE("\\n"));
		else if (byte == '\\' || byte == '"')
			buf_format(out, "\\%c", byte);
		else
			buf_append_byte(out, byte);
	}
	buf_append_byte(out, '"');
}

/* {name="value",…}, with `le` last for a histogram's bucket; nothing at all without labels. */
static void put_labels(enum metric metric, const struct metrics_series *s, const char *bound, struct buf *out)
{
	struct slice names = slice_of(rows[metric].labels), values = slice_make(s->key, s->key_length);
	const char *between = "{";

	while (names.len > 0) {
		struct slice name = slice_cut(names, ',', &names), value = slice_cut(values, '\0', &values);
		buf_format(out, "%s%.*s=", between, SLICE_ARGS(name));
		put_value(value, out);
		between = ",";
	}
	if (bound != NULL) {
		buf_format(out, "%sle=\"%s\"", between, bound);
		between = ",";
	}
	if (between[0] == ',')
		buf_append_byte(out, '}');
}

static void put_number(double value, struct buf *out)
{
	if (value >= 0 && value < 9007199254740992.0 && value == (double)(int64_t)value)
		buf_format(out, " %" PRId64 "\n", (int64_t)value);
	else
		buf_format(out, " %.15g\n", value);
}

static void put_histogram(enum metric metric, const struct metrics_series *s, struct buf *out)
{
	uint64_t below = 0;
	char bound[32] = "+Inf";

	for (size_t i = 0; i <= BOUNDS; i++) {
		below += s->counts[i];
		if (i < BOUNDS)
			snprintf(bound, sizeof(bound), "%g", (double)bounds[i] / CLOCK_SECOND);
		buf_format(out, "%s_bucket", rows[metric].name);
		put_labels(metric, s, i < BOUNDS ? bound : "+Inf", out);
		put_number((double)below, out);
	}
	buf_format(out, "%s_sum", rows[metric].name);
	put_labels(metric, s, NULL, out);
	put_number(s->value / CLOCK_SECOND, out);
	buf_format(out, "%s_count", rows[metric].name);
	put_labels(metric, s, NULL, out);
	put_number((double)below, out);
}

static int by_key(const void *a, const void *b)
{
	const struct metrics_series *x = *(const struct metrics_series *const *)a,
				    *y = *(const struct metrics_series *const *)b;
	size_t shorter = x->key_length < y->key_length ? x->key_length : y->key_length;
	int order = memcmp(x->key, y->key, shorter);

	return order != 0 ? order : (x->key_length > y->key_length) - (x->key_length < y->key_length);
}

static void put_metric(const struct metrics *m, enum metric metric, struct buf *out)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };
	size_t count = m->series[metric] == NULL ? 0 : map_count(m->series[metric]), at = 0, i = 0;
	struct metrics_series **sorted;
	struct slice key;
	void *value;

	buf_format(out, "# HELP %s %s\n# TYPE %s %s\n", rows[metric].name, rows[metric].help, rows[metric].name,
		   types[rows[metric].type]);
	if (count == 0)
		return;
	sorted = mem_new_array(count, sizeof(struct metrics_series *));
	while (map_next(m->series[metric], &at, &key, &value))
		sorted[i++] = value;
	qsort(sorted, count, sizeof(struct metrics_series *), by_key);
	for (i = 0; i < count; i++) {
		if (rows[metric].type == HISTOGRAM) {
			put_histogram(metric, sorted[i], out);
			continue;
		}
		buf_append(out, slice_of(rows[metric].name));
		put_labels(metric, sorted[i], NULL, out);
		put_number(sorted[i]->value, out);
	}
	mem_free(sorted);
}

void metrics_write(const struct metrics *m, struct buf *out)
{
	for (size_t metric = 0; metric < METRIC_COUNT; metric++)
		put_metric(m, (enum metric)metric, out);
}

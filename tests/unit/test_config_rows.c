/* Every row of the configuration's table, without naming one: a document is written around it, with its bounds, just beyond them, and with what it cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/text.h"
#include "svc/config_internal.h"
#include "tests/support/config_rig.h"

enum { DOCUMENT_MOST = 1 << 20 };

/* A document around one row: the first place where it may stand. */
struct document {
	const struct config_row *row;
	const char *value;
	struct buf text, path;
	bool reached; /* the path is complete */
};

static bool holds(const struct config_section *section, const struct config_row *row)
{
	for (size_t i = 0; i < section->count; i++)
		if (&section->rows[i] == row ||
		    (section->rows[i].section != NULL && holds(section->rows[i].section, row)))
			return true;
	return false;
}

/* What a needed row says when it is not the one that is looked at. */
static const char *sample(const struct config_row *row)
{
	static const struct {
		const char *name, *value;
	} samples[] = { { "dialect", "openai" },
			{ "url", "'http://127.0.0.1:1'" },
			{ "keys", "[a-key-of-the-test]" },
			{ "models", "[m]" },
			{ "share", "10%" },
			{ "upstream", "n" } };

	for (size_t i = 0; i < ARRAY_LENGTH(samples); i++)
		if (strcmp(row->name, samples[i].name) == 0)
			return samples[i].value;
	fail_msg("the needed row %s has no sample", row->name);
	return NULL;
}

static void go_down(struct document *d, const struct config_row *row)
{
	if (d->reached)
		return;
	buf_format(&d->path, "%s%s", d->path.len > 0 ? "." : "", row->name);
	if (row == d->row)
		d->reached = true;
	else if (row->type == CONFIG_NAMED)
		buf_append(&d->path, SLICE(".n"));
	else if (row->type == CONFIG_LIST)
		buf_append(&d->path, SLICE("[0]"));
}

/* Neighbours that leave room for a row's own bounds. */
static const char *room_for(const struct config_row *row)
{
	static const struct {
		const char *name, *room;
	} rooms[] = { { "min", "max: 10000, " },
		      { "start", "max: 10000, min: 0, " },
		      { "tenant_max", "max: 10000, streams: 20000, " },
		      { "open_most", "open_for: 1ms, " },
		      { "cap", "base: 1ms, timeout_base: 1ms, " },
		      { "strategy", "price: {input: 1, output: 1}, " } };

	for (size_t i = 0; i < ARRAY_LENGTH(rooms); i++)
		if (strcmp(row->name, rooms[i].name) == 0)
			return rooms[i].room;
	return "";
}

/* A bound of tenants is warned of where it bounds nobody, or everybody: theirs is above that of the upstream, whose is beside a tenant. */
static bool is_tenants_max(const struct config_row *row)
{
	for (size_t i = 0; i < config_root.count; i++)
		if (strcmp(config_root.rows[i].name, "tenants") == 0)
			return strcmp(row->name, "max") == 0 && holds(config_root.rows[i].section, row);
	return false;
}

static void put_section(struct document *d, const struct config_section *section);

static void put_row(struct document *d, const struct config_row *row)
{
	bool within = row->section != NULL && holds(row->section, d->row) && !d->reached,
	     looked_at = row == d->row && !d->reached;

	if (!looked_at && !within && (row->flags & CONFIG_REQUIRED) == 0)
		return;
	if (looked_at || within)
		go_down(d, row);
	buf_format(&d->text, "%s: ", row->name);
	if (looked_at) {
		buf_append(&d->text, slice_of(d->value));
	} else if (row->section == NULL) {
		buf_append(&d->text, slice_of(sample(row)));
	} else {
		buf_append(&d->text, row->type == CONFIG_NAMED  ? SLICE("{n: ")
				     : row->type == CONFIG_LIST ? SLICE("[")
								: SLICE(""));
		put_section(d, row->section);
		/* One of the endpoints may have no weight. */
		if (strcmp(row->name, "endpoints") == 0)
			buf_append(&d->text, SLICE(", {url: 'http://127.0.0.1:2'}"));
		buf_append(&d->text, row->type == CONFIG_NAMED  ? SLICE("}")
				     : row->type == CONFIG_LIST ? SLICE("]")
								: SLICE(""));
	}
	buf_append(&d->text, SLICE(", "));
	if (strcmp(row->name, "endpoints") == 0 && is_tenants_max(d->row))
		buf_append(&d->text, SLICE("pool: {tenant_max: 1}, "));
	if (looked_at)
		buf_append(&d->text, slice_of(room_for(row)));
}

static void put_section(struct document *d, const struct config_section *section)
{
	buf_append_byte(&d->text, '{');
	for (size_t i = 0; i < section->count; i++)
		put_row(d, &section->rows[i]);
	buf_append_byte(&d->text, '}');
}

/* Where the row's value is in what was read. */
static const void *find_value(const struct config_section *section, const void *base, const struct config_row *row)
{
	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *at = &section->rows[i];
		const char *value = (const char *)base + at->offset;
		if (at == row)
			return value;
		if (at->section != NULL && holds(at->section, row))
			return find_value(at->section,
					  at->type == CONFIG_SECTION ? value : *(char *const *)(const void *)value,
					  row);
	}
	return NULL;
}

/* What the top of the file needs, lest a value that is right be warned of. */
static const char *top_for(const struct config_row *row)
{
	if (strcmp(row->name, "tenant_max") == 0)
		return "tenants: {n: {keys: [a-key-of-the-test]}}";
	if (strcmp(row->name, "share") == 0)
		return "models: {m: {targets: [{upstream: n}]}}";
	return "";
}

static void open_document(struct document *d, const struct config_row *row, const char *value)
{
	*d = (struct document){ .row = row, .value = value };
	buf_init(&d->text, DOCUMENT_MOST);
	buf_init(&d->path, DOCUMENT_MOST);
	put_section(d, &config_root);
	d->text.len--;
	buf_format(&d->text, "%s}", top_for(row));
	buf_append_byte(&d->text, '\0');
	buf_append_byte(&d->path, '\0');
}

static void close_document(struct document *d)
{
	buf_free(&d->text);
	buf_free(&d->path);
}

static const struct config *take(struct document *d, const struct config_row *row, const char *value)
{
	open_document(d, row, value);
	return config_rig_take(d->text.data);
}

/* One line, in line 1, at this row, and with these words in it. */
static void refuse(const struct config_row *row, const char *value, const char *words)
{
	struct document d;
	struct buf error;
	char place[300];

	open_document(&d, row, value);
	if (config_rig_parse(d.text.data, &error) != NULL)
		fail_msg("taken: %s", d.text.data);
	snprintf(place, sizeof(place), "t:1: %s", d.path.data);
	if (strncmp(error.data, place, strlen(place)) != 0 || strstr(error.data, words) == NULL ||
	    slice_find(slice_of(error.data), '\n') != strlen(error.data) - 1)
		fail_msg("%s\nexpected one line \"%s … %s\"\ntold: %s", d.text.data, place, words, error.data);
	buf_free(&error);
	close_document(&d);
}

static void each_row(const struct config_section *section, void visit(const struct config_row *))
{
	for (size_t i = 0; i < section->count; i++) {
		visit(&section->rows[i]);
		if (section->rows[i].section != NULL)
			each_row(section->rows[i].section, visit);
	}
}

/* ---- numbers --------------------------------------------------------------------------------------------------------------- */

static void put_number(const struct config_row *row, int64_t number, char *text, size_t size)
{
	struct buf out;

	buf_wrap(&out, text, size - 1, 0);
	if (row->type == CONFIG_DURATION)
		text_put_duration(&out, number);
	else if (row->type == CONFIG_SIZE)
		text_put_size(&out, number);
	else if (row->type == CONFIG_COUNT)
		text_put_count(&out, number);
	else if (row->type == CONFIG_PERCENT)
		text_put_parts(&out, number);
	else if (row->type == CONFIG_DOLLARS)
		text_put_dollars(&out, number);
	else
		buf_append_int(&out, number);
	text[out.len] = '\0';
}

static void judge_number(const struct config_row *row)
{
	static const char *const never[] = { "''",   "x", "-1",  "1e400",  "99999999999999999999",
					     "null", "~", "[1]", "{a: 1}", "' 1'" };
	const int64_t good[] = { row->least, row->least + 1, row->most - 1, row->most },
		      bad[] = { row->least - 1, row->most + 1 };
	char text[64];

	if (row->type != CONFIG_INT && row->type != CONFIG_COUNT && row->type != CONFIG_SIZE &&
	    row->type != CONFIG_DURATION && row->type != CONFIG_PERCENT && row->type != CONFIG_DOLLARS)
		return;
	assert_true(row->least < row->most);
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
		struct document d;
		put_number(row, good[i], text, sizeof(text));
		const struct config *config = take(&d, row, text);
		assert_int_equal(*(const int64_t *)find_value(&config_root, config, row), good[i]);
		config_release(&config);
		close_document(&d);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		put_number(row, bad[i], text, sizeof(text));
		refuse(row, text, "; allowed: ");
	}
	for (size_t i = 0; i < ARRAY_LENGTH(never); i++)
		refuse(row, never[i], "found ");
}

static void keeps_the_bounds_of_numbers(void **state)
{
	(void)state;
	each_row(&config_root, judge_number);
}

/* ---- words and truth ------------------------------------------------------------------------------------------------------- */

/* A word may be one that is warned of. */
static const struct config *take_word(struct document *d, const struct config_row *row, const char *word)
{
	struct buf error;
	const struct config *config;

	open_document(d, row, word);
	config = config_rig_parse(d->text.data, &error);
	if (config == NULL)
		fail_msg("%s\ntold: %s", d->text.data, error.data);
	buf_free(&error);
	return config;
}

static void judge_word(const struct config_row *row)
{
	const char *const *word = row->words;

	if (row->type != CONFIG_WORD)
		return;
	for (int i = 0; *word != NULL; i++, word++) {
		struct document d;
		const struct config *config = take_word(&d, row, *word);
		assert_int_equal(*(const int *)find_value(&config_root, config, row), i);
		config_release(&config);
		close_document(&d);
		refuse(row, "nonsense", *word);
	}
	refuse(row, "null", "found nothing; allowed: ");
	refuse(row, "[nonsense]", "found a list");
}

static void judge_truth(const struct config_row *row)
{
	static const char *const good[] = { "false", "true" }, *const bad[] = { "yes", "1", "''", "null", "[true]" };

	if (row->type != CONFIG_BOOL)
		return;
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
		struct document d;
		const struct config *config = take(&d, row, good[i]);
		assert_int_equal(*(const bool *)find_value(&config_root, config, row), i);
		config_release(&config);
		close_document(&d);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
		refuse(row, bad[i], strcmp(bad[i], "[true]") == 0 ? "found a list" : "true or false");
}

static void knows_its_words(void **state)
{
	(void)state;
	each_row(&config_root, judge_word);
	each_row(&config_root, judge_truth);
}

/* ---- texts ------------------------------------------------------------------------------------------------------------------- */

static void judge_text(const struct config_row *row)
{
	size_t most = row->type == CONFIG_TEXTS ? 1000 : (size_t)row->most;
	char *long_one;

	if (row->type != CONFIG_TEXT && row->type != CONFIG_TEXTS)
		return;
	long_one = malloc(most + 2);
	memset(long_one, 'x', most + 1);
	long_one[most + 1] = '\0';
	refuse(row, long_one, "bytes, in one line");
	refuse(row, "''", "bytes, in one line");
	refuse(row, "\"two\\nlines, and so long that it is long enough\"", "in one line");
	refuse(row, "\"an escape \\e, and so long that it is long enough\"", "in one line");
	refuse(row, "null", "found nothing; allowed: text");
	refuse(row, "{a: b}", "found a mapping");
	if (row->type == CONFIG_TEXT)
		refuse(row, "[a, b]", "found a list; allowed: one value");
	else
		refuse(row, "[[a]]", "[0]: found a list; allowed: one value");
	free(long_one);
}

static void keeps_texts_short_and_in_one_line(void **state)
{
	(void)state;
	each_row(&config_root, judge_text);
}

static const char canary[] = "CANARY-CANARY-CANARY";

/* Wherever a value might be a secret, it is not quoted: too short, too long, of the wrong kind. */
static void judge_secret(const struct config_row *row)
{
	char values[3][16 * 1024];

	if ((row->flags & (CONFIG_SECRET | CONFIG_UNTOLD)) == 0)
		return;
	snprintf(values[0], sizeof(values[0]), "\"%s\\n\"", canary);
	snprintf(values[1], sizeof(values[1]), "{%s: [%s, {a: %s}]}", "a", canary, canary);
	snprintf(values[2], sizeof(values[2]), "\"%s", canary);
	for (size_t i = strlen(values[2]); i < 10000; i++)
		memcpy(values[2] + i, "y\"", 3);
	for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
		struct document d;
		struct buf error;
		open_document(&d, row, values[i]);
		assert_null(config_rig_parse(d.text.data, &error));
		if (strstr(error.data, "CANARY") != NULL)
			fail_msg("told: %s", error.data);
		buf_free(&error);
		close_document(&d);
	}
}

static void never_quotes_what_may_be_a_secret(void **state)
{
	(void)state;
	each_row(&config_root, judge_secret);
}

/* ---- sections, lists, later versions --------------------------------------------------------------------------------------- */

static void judge_shape(const struct config_row *row)
{
	if (row->type == CONFIG_SECTION || row->type == CONFIG_NAMED || row->type == CONFIG_LIMITS) {
		refuse(row, "word", "; allowed: a mapping");
		refuse(row, "", "found nothing; allowed: a mapping");
		refuse(row, "[]", "found a list; allowed: a mapping");
	}
	if (row->type == CONFIG_LIST) {
		refuse(row, "word", "found \"word\"; allowed: a list");
		refuse(row, "", "found nothing; allowed: a list");
		refuse(row, "{}", "found a mapping; allowed: a list");
	}
	if (row->type == CONFIG_LIST || row->type == CONFIG_KEYS)
		refuse(row, "[]", "found 0; allowed: 1");
	if (row->type == CONFIG_UPSTREAM)
		refuse(row, "nobody", "found \"nobody\"; allowed: the name of one of `upstreams`");
}

static void judge_later(const struct config_row *row)
{
	struct document d;
	const struct config *config;

	if (row->type != CONFIG_LATER)
		return;
	refuse(row, "{a: 1}", "comes in a later version; allowed: ");
	refuse(row, "12", "comes in a later version; allowed: ");
	if (row->words[0] == NULL)
		return;
	config = take(&d, row, row->words[0]);
	config_release(&config);
	close_document(&d);
}

static void knows_its_shapes_and_what_comes_later(void **state)
{
	(void)state;
	each_row(&config_root, judge_shape);
	each_row(&config_root, judge_later);
}

static void judge_spelling(const struct config_row *row)
{
	char text[300], told[300];

	if (row->type != CONFIG_SECTION)
		return;
	for (size_t i = 0; i < row->section->count; i++) {
		const char *name = row->section->rows[i].name;
		if (row->section->rows[i].type == CONFIG_LATER || strlen(name) < 4)
			continue;
		snprintf(text, sizeof(text), "{%sx: 1}", name);
		snprintf(told, sizeof(told), ".%sx: unknown key; did you mean `%s`?", name, name);
		refuse(row, text, told);
	}
	refuse(row, "{entirely-different: 1}", ".entirely-different: unknown key; allowed: ");
}

static void helps_with_spelling(void **state)
{
	(void)state;
	each_row(&config_root, judge_spelling);
}

/* What people read is there, and defaults are what the docs say. */
static void judge_row(const struct config_row *row)
{
	bool described = row->type == CONFIG_SECTION || row->type == CONFIG_LATER;

	assert_true(row->name[0] != '\0');
	assert_true(described == (row->help[0] == '\0'));
	assert_true((row->section != NULL) ==
		    (row->type == CONFIG_SECTION || row->type == CONFIG_NAMED || row->type == CONFIG_LIST));
	assert_false((row->flags & CONFIG_REQUIRED) != 0 && row->standard != NULL);
	if (row->standard != NULL) {
		struct document d;
		const struct config *config = take(&d, row, row->standard);
		config_release(&config);
		close_document(&d);
	}
}

static void has_whole_rows(void **state)
{
	(void)state;
	each_row(&config_root, judge_row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_bounds_of_numbers),
		cmocka_unit_test(knows_its_words),
		cmocka_unit_test(keeps_texts_short_and_in_one_line),
		cmocka_unit_test(never_quotes_what_may_be_a_secret),
		cmocka_unit_test(knows_its_shapes_and_what_comes_later),
		cmocka_unit_test(helps_with_spelling),
		cmocka_unit_test(has_whole_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* lib/json_scan: what is refused and where, what is remembered, what the limits are. Every text goes through the oracle
 * too: cut at every byte, beside jansson. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/json_level.h"
#include "lib/json_scan.h"
#include "lib/mem.h"
#include "tests/support/json_oracle.h"

/* The whole text at once; the caller frees the scan. */
static struct json_scan *scan_of(const struct json_plan *plan, const struct json_scan_options *options,
				 struct slice text)
{
	struct json_scan *scan = json_scan_new(plan, options);

	json_scan_feed(scan, text);
	(void)!json_scan_finish(scan);
	return scan;
}

struct verdict {
	struct slice text;
	enum json_scan_error error;
	size_t offset;
};

static void judge(const struct json_plan *plan, const struct verdict *v)
{
	struct json_scan *scan = scan_of(plan, NULL, v->text);
	size_t offset;
	enum json_scan_error error = json_scan_error(scan, &offset);

	if (error != v->error || offset != v->offset)
		fail_msg("%.*s: %s at %zu, not %s at %zu", SLICE_ARGS(v->text), json_scan_error_text(error), offset,
			 json_scan_error_text(v->error), v->offset);
	assert_int_equal(json_scan_finish(scan), error == JSON_SCAN_ERROR_none ? JSON_SCAN_WHOLE : JSON_SCAN_FAILED);
	json_scan_free(&scan);
	json_oracle_judge(v->text, 1);
}

static void judge_all(const struct json_path *paths, size_t path_count, const struct verdict *verdicts, size_t count)
{
	struct json_plan *plan = json_plan_new(paths, path_count);

	for (size_t i = 0; i < count; i++)
		judge(plan, &verdicts[i]);
	json_plan_free(&plan);
}

/* clang-format off */
#define GOOD(text)               { { text, sizeof(text) - 1 }, JSON_SCAN_ERROR_none, 0 }
#define BAD(text, error, offset) { { text, sizeof(text) - 1 }, JSON_SCAN_ERROR_##error, offset }

static const struct verdict grammar[] = {
	GOOD("{}"), GOOD("[]"), GOOD("\"\""), GOOD("0"), GOOD("true"), GOOD("false"), GOOD("null"),
	GOOD(" \t\r\n[ \t\r\n1 \t\r\n, \t\r\n2 \t\r\n] \t\r\n"), GOOD("{ \"a\" : 1 , \"b\" : [ ] }"),
	GOOD("[[[[]],{\"\":{\"\":null}}]]"), GOOD("{\"\":0}"), GOOD("[true,false,null]"),
	BAD("", truncated, 0), BAD("  ", truncated, 2), BAD("[", truncated, 1), BAD("{\"a\"", truncated, 4),
	BAD("{\"a\":", truncated, 5), BAD("{\"a\":1", truncated, 6), BAD("[1,", truncated, 3),
	BAD("\"abc", truncated, 4),
	BAD("tru", truncated, 3), BAD("\"\\", truncated, 2), BAD("\"\\u00", truncated, 5), BAD("-", truncated, 1),
	BAD("1.", truncated, 2), BAD("1e", truncated, 2), BAD("1e+", truncated, 3), BAD("[1", truncated, 2),
	BAD("x", value, 0), BAD("[1,]", value, 3), BAD("[,1]", first, 1), BAD("{\"a\":}", value, 5),
	BAD("]", value, 0),
	BAD("}", value, 0), BAD("'a'", value, 0), BAD("+1", value, 0), BAD(".5", value, 0), BAD("NaN", value, 0),
	BAD("Infinity", value, 0), BAD("True", value, 0), BAD("/**/1", value, 0), BAD("[1}", array, 2),
	BAD("[1 2]", array, 3),
	BAD("{1:2}", member, 1), BAD("{a:1}", member, 1), BAD("{'a':1}", member, 1), BAD("{,}", member, 1),
	BAD("{]", member, 1),
	BAD("{\"a\":1,}", name, 7), BAD("{\"a\":1,,}", name, 7), BAD("{\"a\" 1}", colon, 5),
	BAD("{\"a\",1}", colon, 4),
	BAD("{\"a\":1]", object, 6), BAD("{\"a\":1 \"b\":2}", object, 7), BAD("{\"a\":1:2}", object, 6),
	BAD("1 2", trailing, 2), BAD("{}}", trailing, 2), BAD("[]]", trailing, 2), BAD("[] x", trailing, 3),
	BAD("nullx", trailing, 4),
	BAD("\"a\"b", trailing, 3), BAD("{}\0", trailing, 2), BAD("1\0", trailing, 1), BAD("\0", value, 0),
	BAD("[1\0]", array, 2),
	BAD("nul1", word, 3), BAD("trUe", word, 2), BAD("[fals]", word, 5), BAD("[n]", word, 2),
	BAD("\xEF\xBB\xBF{}", mark, 0), BAD(" \xEF\xBB\xBF{}", value, 1), BAD("\xFE\xFF\0{", value, 0),
	BAD("[\f1]", first, 1),
	BAD("[1\xC2\xA0]", array, 2), BAD("\v1", value, 0),
};

static const struct verdict numbers[] = {
	GOOD("-0"), GOOD("-1"), GOOD("10"), GOOD("1.0"), GOOD("0.10"), GOOD("1e0"), GOOD("1E+00"), GOOD("1e-05"),
	GOOD("-0.0e-0"),
	GOOD("123456789012345678901234567890"), GOOD("1e999"), GOOD("1e-999999999999"), GOOD("0e99999999"),
	GOOD("[0,1.5,-2]"),
	GOOD("0.0000000000000000000000000000000000000000000000000000000000000000000000000000000000001"),
	BAD("01", number, 1), BAD("-01", number, 2), BAD("00", number, 1), BAD("--1", number, 1),
	BAD("-a", number, 1),
	BAD("- 1", number, 1), BAD("1..2", number, 2), BAD("1.e1", number, 2), BAD("1.2.3", number, 3),
	BAD("1e1.5", number, 3),
	BAD("1e1e1", number, 3), BAD("1e++1", number, 3), BAD("1-2", number, 1), BAD("[1.]", number, 3),
	BAD("[1e]", number, 3),
	BAD("[-]", number, 2), BAD("0x1", trailing, 1), BAD("1_000", trailing, 1), BAD("[0e]", number, 3),
	BAD("[1e+]", number, 4),
	BAD("-Infinity", number, 1), BAD("1a", trailing, 1), BAD("0+1", number, 1),
};

static const struct verdict strings[] = {
	GOOD("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), GOOD("\"\\u0000\\u001F\\uFFFF\\uabCD\""), GOOD("\"\x7F\""),
	GOOD("\"\\uD83D\\uDE00\""),
	GOOD("\"\\uD800\\uDC00\\uDBFF\\uDFFF\""),
	GOOD("\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\""),
	GOOD("\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\""), GOOD("\"\xEF\xBB\xBF\""),
	GOOD("\"0123456789abcde\xC3\xA9 0123456789abcdef0123456789abcdef\\n\""),
	BAD("\"\\a\"", escape, 2), BAD("\"\\x41\"", escape, 2), BAD("\"\\U0041\"", escape, 2),
	BAD("\"\\u12G4\"", escape, 5),
	BAD("\"\\u 123\"", escape, 3), BAD("\"\\u12\"", escape, 5), BAD("\"\\\n\"", escape, 2),
	BAD("\"\\\0\"", escape, 2),
	BAD("\"\n\"", control, 1), BAD("\"a\tb\"", control, 2), BAD("\"\0\"", control, 1),
	BAD("\"\x1F\"", control, 1),
	BAD("\"0123456789abcdef\x01\"", control, 17), BAD("{\"\n\":1}", control, 2),
	BAD("\"\x80\"", utf8, 1), BAD("\"\xC0\x80\"", utf8, 1), BAD("\"\xC1\xBF\"", utf8, 1),
	BAD("\"\xC3\"", utf8, 2),
	BAD("\"\xE0\x9F\xBF\"", utf8, 2), BAD("\"\xED\xA0\x80\"", utf8, 2), BAD("\"\xF0\x8F\xBF\xBF\"", utf8, 2),
	BAD("\"\xF4\x90\x80\x80\"", utf8, 2), BAD("\"\xF5\x80\x80\x80\"", utf8, 1), BAD("\"\xFF\"", utf8, 1),
	BAD("\"\xE2\x82\"", utf8, 3), BAD("\"\xE2\x28\xA1\"", utf8, 2), BAD("\"\xF0\x9F\x98\"", utf8, 4),
	BAD("{\"\xC3\x28\":1}", utf8, 3), BAD("\"\xC3\xA9\xE9\"", utf8, 4),
};

/* Half a pair: legal, but no text that is kept or compared. */
static const struct verdict halves[] = {
	BAD("\"\\uDC00\"", surrogate, 6), BAD("\"\\uD800\"", surrogate, 7), BAD("\"\\uD800x\"", surrogate, 7),
	BAD("\"\\uD800\\n\"", surrogate, 8), BAD("\"\\uD800\\uD800\"", surrogate, 12),
	BAD("\"\\uD800\\u0041\"", surrogate, 12),
	BAD("\"\\uDFFF\\uD800\"", surrogate, 6), BAD("\"\\uD800\\uD83D\\uDE00\"", surrogate, 12),
	BAD("\"\\uD83D\\uDE00\\uDE00\"", surrogate, 18),
};
static const struct {
	const char *text;
	size_t bytes; /* decoded; 0: still refused */
} measured_halves[] = {
	{ "\"\\uDC00\"", 3 }, { "\"\\uD800\"", 3 }, { "\"\\uD800x\"", 4 }, { "\"\\uD800\\n\"", 4 },
	{ "\"\\uD800\\uD800\"", 6 }, { "\"\\uD800\\u0041\"", 4 }, { "\"\\uDFFF\\uD800\"", 6 },
	{ "\"\\uD800\\uD83D\\uDE00\"", 7 }, { "\"\\uD83D\\uDE00\\uDE00\"", 7 }, { "\"\\uD800\\uD800\\uD800!\"", 10 },
	{ "\"\\uD800\xC3\xA9\"", 5 }, { "\"\\uD800\\\"\"", 4 },
	{ "\"\\uD800\\x\"", 0 }, { "\"\\uD800\\u00x0\"", 0 }, { "\"\\uD800\n\"", 0 }, { "\"\\uD800", 0 }, { "\"\\uD800\\", 0 },
	{ "\"\\uD800\\u00", 0 }, { "\"\\uD800\xA9\"", 0 },
};

static const struct json_path watched[] = { { "model", 64 }, { "a.b", 0 }, { "c[].d", 0 } };
static const struct verdict duplicates[] = {
	BAD("{\"model\":1,\"model\":1}", duplicate, 11), BAD("{\"model\":1,\"mod\\u0065l\":2}", duplicate, 11),
	BAD("{\"\\u006dodel\":1,\"x\":0,\"model\":2}", duplicate, 22),
	BAD("{\"x\":1,\"y\":2,\"x\":3}", duplicate, 13),
	BAD("{\"\\u0000\":1,\"\\u0000\":2}", duplicate, 12), BAD("{\"\":1,\"\":2}", duplicate, 6),
	BAD("{\"\\/\":1,\"/\":2}", duplicate, 8), BAD("{\"\xC3\xA9\":1,\"\\u00E9\":2}", duplicate, 8),
	BAD("{\"a\":{\"x\":1,\"x\":2}}", duplicate, 12), BAD("{\"a\":{\"b\":1,\"b\":2}}", duplicate, 12),
	BAD("{\"c\":[{\"d\":1},{\"e\":1,\"e\":2}]}", duplicate, 21), BAD("{\"a\":{},\"a\":{}}", duplicate, 8),
	GOOD("{\"c\":[{\"d\":1},{\"d\":2}],\"a\":{\"model\":1}}"), GOOD("{\"z\":{\"x\":1,\"x\":2}}"),
	GOOD("{\"model\":{\"x\":1,\"x\":2}}"), GOOD("{\"a\":[{\"b\":1,\"b\":2}]}"),
	GOOD("{\"Model\":1,\"model\":2,\"model \":3}"),
	GOOD("{\"x\":1,\"x\\u0000\":2}"), GOOD("{\"\":1,\"\\u0000\":2,\"\\u0000\\u0000\":3}"),
	GOOD("{\"a\":{\"b\":1},\"b\":1}"), GOOD("[{\"model\":1,\"model\":2}]"),
};
/* clang-format on */

static void refuses_what_the_grammar_does_not_know(void **state)
{
	(void)state;
	judge_all(NULL, 0, grammar, ARRAY_LENGTH(grammar));
	judge_all(watched, ARRAY_LENGTH(watched), grammar, ARRAY_LENGTH(grammar));
}

static void reads_numbers(void **state)
{
	static const struct json_path root[] = { { "", 0 } };

	(void)state;
	judge_all(NULL, 0, numbers, ARRAY_LENGTH(numbers));
	judge_all(root, 1, numbers, ARRAY_LENGTH(numbers));
}

static void reads_strings(void **state)
{
	static const struct json_path root[] = { { "", 100 } };

	(void)state;
	judge_all(NULL, 0, strings, ARRAY_LENGTH(strings));
	judge_all(root, 1, strings, ARRAY_LENGTH(strings));
}

static void takes_half_a_character_where_it_only_measures(void **state)
{
	static const struct json_path kept[] = { { "", 100 } }, root[] = { { "", 0 } };
	static const struct verdict names[] = { BAD("{\"\\uD800\":1}", surrogate, 8),
						BAD("{\"z\":{\"\\uDC00\":1}}", surrogate, 12) };
	struct json_plan *plan = json_plan_new(root, 1);

	(void)state;
	judge_all(kept, 1, halves, ARRAY_LENGTH(halves));
	judge_all(NULL, 0, names, ARRAY_LENGTH(names));
	judge_all(watched, ARRAY_LENGTH(watched), names, ARRAY_LENGTH(names));
	for (size_t i = 0; i < ARRAY_LENGTH(measured_halves); i++) {
		struct slice text = slice_of(measured_halves[i].text);
		struct json_scan *scan = scan_of(plan, NULL, text);
		const struct json_member *m = json_scan_member(scan, 0);
		assert_int_equal(m->count > 0 ? m->string_bytes : 0, measured_halves[i].bytes);
		json_oracle_judge(text, 1);
		json_scan_free(&scan);
	}
	json_plan_free(&plan);
}

static void refuses_a_name_that_stands_twice(void **state)
{
	(void)state;
	judge_all(watched, ARRAY_LENGTH(watched), duplicates, ARRAY_LENGTH(duplicates));
}

/* ---- what is remembered ------------------------------------------------------------------------------------------ */

enum { ROOT, MODEL, OPTIONS, USAGE, TEXT, REASON, MAXIMUM, PATHS };
static const struct json_path paths[PATHS] = {
	[ROOT] = { "", 0 },
	[MODEL] = { "model", 8 },
	[OPTIONS] = { "options", 0 },
	[USAGE] = { "options.usage", 0 },
	[TEXT] = { "contents[].parts[].text", 0 },
	[REASON] = { "contents[].reason", 4 },
	[MAXIMUM] = { "maximum", 0 },
};

struct fixture {
	struct json_plan *plan;
	struct json_scan *scan;
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	f->plan = json_plan_new(paths, PATHS);
	f->scan = json_scan_new(f->plan, NULL);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	json_scan_free(&f->scan);
	json_plan_free(&f->plan);
	mem_free(f);
	return 0;
}

static void feed(struct fixture *f, const char *text)
{
	json_scan_reset(f->scan);
	assert_int_not_equal(json_scan_feed(f->scan, slice_of(text)), JSON_SCAN_FAILED);
	assert_int_equal(json_scan_finish(f->scan), JSON_SCAN_WHOLE);
	json_oracle_judge(slice_of(text), 3);
}

static const struct json_member *member(struct fixture *f, size_t path)
{
	return json_scan_member(f->scan, path);
}

static void assert_bytes(const char *text, const struct json_member *m, const char *expected)
{
	assert_int_equal(m->end - m->start, strlen(expected));
	assert_memory_equal(text + m->start, expected, strlen(expected));
}

static void assert_text(const struct json_member *m, const char *expected)
{
	assert_int_equal(m->type, JSON_MEMBER_STRING);
	assert_true(slice_equal(m->text, slice_of(expected)));
}

static void tells_where_a_value_stands(void **state)
{
	struct fixture *f = *state;
	const char *text = " {\"x\":[1,{}], \"mod\\u0065l\" : \"g\\u0065m\\n\" , \"options\":{ } } ";

	feed(f, text);
	assert_bytes(text, member(f, MODEL), "\"g\\u0065m\\n\"");
	assert_text(member(f, MODEL), "gem\n");
	assert_false(member(f, MODEL)->cut);
	assert_bytes(text, member(f, OPTIONS), "{ }");
	assert_int_equal(member(f, OPTIONS)->type, JSON_MEMBER_OBJECT);
	assert_true(member(f, OPTIONS)->empty);
	assert_int_equal(member(f, ROOT)->start, 1);
	assert_false(member(f, ROOT)->empty);
	assert_int_equal(member(f, USAGE)->type, JSON_MEMBER_ABSENT);
	assert_int_equal(member(f, USAGE)->count, 0);
}

/* The plan has room for the container at a path's end, and for none below. */
static void a_path_may_end_at_a_container(void **state)
{
	static const struct json_path one[] = { { "a", 0 } };
	struct json_plan *plan = json_plan_new(one, 1);
	struct json_scan *scan = scan_of(plan, NULL, SLICE("{\"a\":{\"b\":[{}]}}"));

	(void)state;
	assert_int_equal(json_plan_depth(plan), 2);
	assert_int_equal(json_scan_member(scan, 0)->type, JSON_MEMBER_OBJECT);
	assert_int_equal(json_scan_member(scan, 0)->end, 15);
	json_scan_free(&scan);
	json_plan_free(&plan);
}

static void knows_every_type(void **state)
{
	static const struct {
		const char *text;
		enum json_member_type type;
	} cases[] = {
		{ "{\"options\":\"\"}", JSON_MEMBER_STRING }, { "{\"options\":-1.5}", JSON_MEMBER_NUMBER },
		{ "{\"options\":true}", JSON_MEMBER_TRUE },   { "{\"options\":false}", JSON_MEMBER_FALSE },
		{ "{\"options\":null}", JSON_MEMBER_NULL },   { "{\"options\":{\"a\":1}}", JSON_MEMBER_OBJECT },
		{ "{\"options\":[{}]}", JSON_MEMBER_ARRAY },  { "{\"option\":1}", JSON_MEMBER_ABSENT },
		{ "[{\"options\":1}]", JSON_MEMBER_ABSENT },  { "{\"x\":{\"options\":1}}", JSON_MEMBER_ABSENT },
		{ "{\"optionsx\":1}", JSON_MEMBER_ABSENT },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		feed(f, cases[i].text);
		assert_int_equal(member(f, OPTIONS)->type, cases[i].type);
		assert_false(member(f, OPTIONS)->empty);
	}
}

static void knows_integers_however_written(void **state)
{
	static const struct {
		const char *text;
		bool whole;
		int64_t integer;
	} cases[] = {
		{ "0", true, 0 },
		{ "-0", true, 0 },
		{ "0.000", true, 0 },
		{ "0e5", true, 0 },
		{ "0e-99999999999", true, 0 },
		{ "512", true, 512 },
		{ "-512", true, -512 },
		{ "512.0", true, 512 },
		{ "5.12e2", true, 512 },
		{ "5120e-1", true, 512 },
		{ "0.00512E+5", true, 512 },
		{ "51200000000000000000000000e-23", true, 512 },
		{ "9223372036854775807", true, INT64_MAX },
		{ "-9223372036854775808", true, INT64_MIN },
		{ "9223372036854775808", false, 0 },
		{ "-9223372036854775809", false, 0 },
		{ "10000000000000000000", false, 0 },
		{ "1e19", false, 0 },
		{ "1e18", true, 1000000000000000000 },
		{ "1e99999999999999999999", false, 0 },
		{ "0.5", false, 0 },
		{ "512.5", false, 0 },
		{ "5125e-1", false, 0 },
		{ "1.00000000000000000000000000000000000000000000000000000000000000000000000000001", false, 0 },
		{ "1.00000000000000000000000000000000000000000000000000000000000000000000000000000", true, 1 },
	};
	struct fixture *f = *state;
	char text[200];

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		snprintf(text, sizeof(text), "{\"maximum\":%s}", cases[i].text);
		feed(f, text);
		assert_int_equal(member(f, MAXIMUM)->type, JSON_MEMBER_NUMBER);
		if (member(f, MAXIMUM)->whole != cases[i].whole ||
		    (cases[i].whole && member(f, MAXIMUM)->integer != cases[i].integer))
			fail_msg("%s: %d %lld", cases[i].text, member(f, MAXIMUM)->whole,
				 (long long)member(f, MAXIMUM)->integer);
	}
}

static void keeps_the_last_of_many_and_sums_all(void **state)
{
	struct fixture *f = *state;
	const char *text =
		"{\"contents\":[{\"parts\":[{\"text\":\"abc\"},{\"text\":\"\\u00e9\"},{\"text\":7},{\"other\":\"xx\"}],"
		"\"reason\":\"MAX\"},{\"parts\":[{\"text\":\"\"},{\"text\":\"\\uD83D\\uDE00\"}],\"reason\":\"STOP\"}]}";

	feed(f, text);
	assert_int_equal(member(f, TEXT)->count, 5);
	assert_int_equal(member(f, TEXT)->string_bytes, 3 + 2 + 0 + 4);
	assert_int_equal(member(f, TEXT)->value_bytes, 5 + 8 + 1 + 2 + 14);
	assert_true(member(f, TEXT)->cut);
	assert_int_equal(member(f, REASON)->count, 2);
	assert_text(member(f, REASON), "STOP");
	assert_false(member(f, REASON)->cut);
}

/* By the length of what an escape decodes to; the path keeps nothing, so the string is only measured. */
static void measures_escapes(void **state)
{
	static const struct {
		const char *value;
		size_t bytes;
	} cases[] = {
		{ "\\u0000", 1 },        { "\\u007F", 1 },        { "\\u0080", 2 }, { "\\u07ff", 2 },
		{ "\\u0800", 3 },        { "\\uD7FF", 3 },        { "\\uE000", 3 }, { "\\uFFFF", 3 },
		{ "\\uD800\\uDC00", 4 }, { "\\n\\\\\\\"\\/", 4 }, { "", 0 },        { "a\\u00e9b", 4 },
		{ "\\n\\u0800\\n", 5 },
	};
	struct fixture *f = *state;
	char text[100];

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		snprintf(text, sizeof(text), "{\"contents\":[{\"parts\":[{\"text\":\"%s\"}]}]}", cases[i].value);
		feed(f, text);
		assert_int_equal(member(f, TEXT)->string_bytes, cases[i].bytes);
	}
}

static void cuts_a_long_text_between_characters(void **state)
{
	static const struct {
		const char *value, *kept;
		bool cut;
	} cases[] = {
		{ "12345678", "12345678", false },
		{ "123456789", "12345678", true },
		{ "1234567\xC3\xA9", "1234567", true },
		{ "123456\xC3\xA9", "123456\xC3\xA9", false },
		{ "123456\xC3\xA9x", "123456\xC3\xA9", true },
		{ "12345\xF0\x9F\x98\x80", "12345", true },
		{ "123456\xE4\xBD\xA0", "123456", true },
		{ "1234\\uD83D\\uDE00\\n", "1234\xF0\x9F\x98\x80", true },
	};
	struct fixture *f = *state;
	char text[100];

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		snprintf(text, sizeof(text), "{\"model\":\"%s\"}", cases[i].value);
		feed(f, text);
		assert_text(member(f, MODEL), cases[i].kept);
		assert_int_equal(member(f, MODEL)->cut, cases[i].cut);
	}
}

static void forgets_at_reset(void **state)
{
	struct fixture *f = *state;

	feed(f, "{\"model\":\"m\",\"options\":{\"usage\":true},\"contents\":[{\"reason\":\"a\"}]}");
	feed(f, "[]");
	for (size_t i = MODEL; i < PATHS; i++) {
		assert_int_equal(member(f, i)->type, JSON_MEMBER_ABSENT);
		assert_int_equal(member(f, i)->count, 0);
	}
	json_scan_reset(f->scan);
	assert_int_equal(json_scan_feed(f->scan, SLICE("{\"model\":\"x\\uD8")), JSON_SCAN_MORE);
	feed(f, "\"DD\"");
	assert_int_equal(json_scan_nodes(f->scan), 1);
	assert_int_equal(json_scan_bytes(f->scan), 4);
}

static void is_whole_as_soon_as_the_value_is(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(json_scan_feed(f->scan, SLICE(" {\"model\":\"m\"")), JSON_SCAN_MORE);
	assert_text(member(f, MODEL), "m");
	assert_int_equal(json_scan_feed(f->scan, SLICE_NONE), JSON_SCAN_MORE);
	assert_int_equal(json_scan_feed(f->scan, SLICE("}")), JSON_SCAN_WHOLE);
	assert_int_equal(json_scan_feed(f->scan, SLICE(" \n")), JSON_SCAN_WHOLE);
	assert_int_equal(json_scan_finish(f->scan), JSON_SCAN_WHOLE);
	assert_int_equal(json_scan_feed(f->scan, SLICE("x")), JSON_SCAN_FAILED);
	assert_int_equal(json_scan_feed(f->scan, SLICE(" ")), JSON_SCAN_FAILED);
	assert_int_equal(json_scan_finish(f->scan), JSON_SCAN_FAILED);
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static void assert_limit(struct json_scan_options options, struct slice text, enum json_scan_error expected, size_t at)
{
	struct json_plan *plan = json_plan_new(paths, PATHS);
	struct json_scan *scan = json_scan_new(plan, &options);
	size_t offset;

	for (size_t piece = 1; piece <= text.len; piece += text.len > 1000 ? 997 : 1) {
		json_scan_reset(scan);
		for (size_t from = 0; from < text.len; from += piece)
			json_scan_feed(scan, slice_first(slice_skip(text, from), piece));
		assert_int_equal(json_scan_finish(scan),
				 expected == JSON_SCAN_ERROR_none ? JSON_SCAN_WHOLE : JSON_SCAN_FAILED);
		assert_int_equal(json_scan_error(scan, &offset), expected);
		assert_int_equal(offset, at);
	}
	json_scan_free(&scan);
	json_plan_free(&plan);
}

static void holds_its_limits(void **state)
{
	(void)state;
	assert_limit((struct json_scan_options){ .max_bytes = 6 }, SLICE("[1234]"), JSON_SCAN_ERROR_none, 0);
	assert_limit((struct json_scan_options){ .max_bytes = 6 }, SLICE("[1234] "), JSON_SCAN_ERROR_bytes, 6);
	assert_limit((struct json_scan_options){ .max_bytes = 6 }, SLICE("\"12345678901234567890\""),
		     JSON_SCAN_ERROR_bytes, 6);
	assert_limit((struct json_scan_options){ .max_bytes = 6 }, SLICE("[1234}}"), JSON_SCAN_ERROR_array, 5);
	assert_limit((struct json_scan_options){ .max_depth = 3 }, SLICE("[{\"a\":[]}]"), JSON_SCAN_ERROR_none, 0);
	assert_limit((struct json_scan_options){ .max_depth = 3 }, SLICE("[{\"a\":[{}]}]"), JSON_SCAN_ERROR_depth, 7);
	assert_limit((struct json_scan_options){ .max_nodes = 4 }, SLICE("[{\"a\":1},[]]"), JSON_SCAN_ERROR_none, 0);
	assert_limit((struct json_scan_options){ .max_nodes = 4 }, SLICE("[{\"a\":1},[],0]"), JSON_SCAN_ERROR_nodes,
		     12);
}

static void goes_as_deep_as_may_be_asked(void **state)
{
	char text[2 * JSON_SCAN_DEPTH + 3];

	(void)state;
	memset(text, '[', JSON_SCAN_DEPTH);
	memset(text + JSON_SCAN_DEPTH, ']', JSON_SCAN_DEPTH);
	assert_limit((struct json_scan_options){ .max_depth = JSON_SCAN_DEPTH }, slice_make(text, 2 * JSON_SCAN_DEPTH),
		     JSON_SCAN_ERROR_none, 0);
	text[JSON_SCAN_DEPTH] = '[';
	assert_limit((struct json_scan_options){ .max_depth = JSON_SCAN_DEPTH }, slice_make(text, 2 * JSON_SCAN_DEPTH),
		     JSON_SCAN_ERROR_depth, JSON_SCAN_DEPTH);
}

/* An object of `count` unknown names in buf's room. */
static struct slice many_names(char *buf, size_t size, size_t count)
{
	size_t length = (size_t)snprintf(buf, size, "{");

	for (size_t i = 0; i < count; i++)
		length += (size_t)snprintf(buf + length, size - length, "%s\"n%04zu\":0", i == 0 ? "" : ",", i);
	length += (size_t)snprintf(buf + length, size - length, "}");
	return slice_make(buf, length);
}

static void bounds_names_where_it_compares_them(void **state)
{
	char text[8192];
	struct slice full = many_names(text, sizeof(text), JSON_LEVEL_NAMES);

	(void)state;
	assert_limit((struct json_scan_options){ 0 }, full, JSON_SCAN_ERROR_none, 0);
	/* Each name is 9 bytes with its value, and a comma before all but the first. */
	assert_limit((struct json_scan_options){ 0 }, many_names(text, sizeof(text), JSON_LEVEL_NAMES + 1),
		     JSON_SCAN_ERROR_names, 1 + JSON_LEVEL_NAMES * 10);
	full = many_names(text, sizeof(text), 200);
	memcpy(text + 1 + 199 * 10, "\"n0077\"", 7);
	assert_limit((struct json_scan_options){ 0 }, full, JSON_SCAN_ERROR_duplicate, 1 + 199 * 10);

	size_t length = (size_t)snprintf(text, sizeof(text), "{\"%0*d\":1}", JSON_SCAN_NAME, 0);
	assert_limit((struct json_scan_options){ 0 }, slice_make(text, length), JSON_SCAN_ERROR_none, 0);
	length = (size_t)snprintf(text, sizeof(text), "{\"%0*d\":1}", JSON_SCAN_NAME + 1, 0);
	assert_limit((struct json_scan_options){ 0 }, slice_make(text, length), JSON_SCAN_ERROR_long_name, 1);
	length = (size_t)snprintf(text, sizeof(text), "{\"x\":{\"%0*d\":1}}", JSON_SCAN_NAME + 1, 0);
	assert_limit((struct json_scan_options){ 0 }, slice_make(text, length), JSON_SCAN_ERROR_none, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_what_the_grammar_does_not_know),
		cmocka_unit_test(reads_numbers),
		cmocka_unit_test(reads_strings),
		cmocka_unit_test(takes_half_a_character_where_it_only_measures),
		cmocka_unit_test(refuses_a_name_that_stands_twice),
		cmocka_unit_test_setup_teardown(tells_where_a_value_stands, set_up, tear_down),
		cmocka_unit_test(a_path_may_end_at_a_container),
		cmocka_unit_test_setup_teardown(knows_every_type, set_up, tear_down),
		cmocka_unit_test_setup_teardown(knows_integers_however_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(keeps_the_last_of_many_and_sums_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(measures_escapes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cuts_a_long_text_between_characters, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forgets_at_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(is_whole_as_soon_as_the_value_is, set_up, tear_down),
		cmocka_unit_test(holds_its_limits),
		cmocka_unit_test(goes_as_deep_as_may_be_asked),
		cmocka_unit_test(bounds_names_where_it_compares_them),
	};

	return cmocka_run_group_tests_name("json_scan", tests, NULL, NULL);
}

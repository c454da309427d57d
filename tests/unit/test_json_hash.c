/* lib/json_hash through lib/json_scan: texts of one meaning have one hash, others have others; duplicates are refused
 * everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/json_scan.h"
#include "lib/text.h"
#include "tests/support/json_oracle.h"

struct fixture {
	struct json_plan *plan;
	struct json_scan *scan;
};

static int set_up(void **state)
{
	static struct fixture f;
	static const struct json_scan_options options = { .hash = true };

	f.plan = json_plan_new(NULL, 0);
	f.scan = json_scan_new(f.plan, &options);
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	json_scan_free(&f->scan);
	json_plan_free(&f->plan);
	return 0;
}

static bool hash_of(struct fixture *f, struct slice text, unsigned char digest[JSON_HASH_SIZE])
{
	json_scan_reset(f->scan);
	json_scan_feed(f->scan, text);
	assert_int_equal(json_scan_finish(f->scan), JSON_SCAN_WHOLE);
	return json_scan_hash(f->scan, digest);
}

static bool same(struct fixture *f, const char *a, const char *b)
{
	unsigned char left[JSON_HASH_SIZE], right[JSON_HASH_SIZE];

	assert_true(hash_of(f, slice_of(a), left));
	assert_true(hash_of(f, slice_of(b), right));
	json_oracle_judge(slice_of(a), 1);
	json_oracle_judge(slice_of(b), 1);
	return memcmp(left, right, sizeof(left)) == 0;
}

static void one_meaning_one_hash(void **state)
{
	static const char *const pairs[][2] = {
		{ "{\"a\":1,\"b\":2}", " { \"b\" : 2 ,\n\"a\" : 1 } " },
		{ "{\"a\":{\"x\":[1,{\"p\":1,\"q\":2}],\"y\":null}}",
		  "{\"a\":{\"y\":null,\"x\":[1,{\"q\":2,\"p\":1}]}}" },
		{ "\"caf\xC3\xA9/\"", "\"\\u0063af\\u00E9\\/\"" },
		{ "{\"mod\\u0065l\":0}", "{\"model\":0}" },
		{ "\"\xF0\x9F\x98\x80\"", "\"\\uD83D\\uDE00\"" },
		{ "0", "-0" },
		{ "0", "0.0e+99999999999" },
		{ "100", "1e2" },
		{ "100", "100.000" },
		{ "100", "0.001E5" },
		{ "0.1", "1e-1" },
		{ "0.7", "0.70" },
		{ "-1.5", "-15e-1" },
		{ "12345678901234567890", "1234567890123456789e1" },
		{ "1e400", "10e399" },
	};

	for (size_t i = 0; i < ARRAY_LENGTH(pairs); i++)
		if (!same(*state, pairs[i][0], pairs[i][1]))
			fail_msg("%s and %s", pairs[i][0], pairs[i][1]);
}

/* No two of these mean the same. */
/* clang-format off */
static const char *const different[] = {
	"null", "true", "false", "0", "1", "-1", "10", "0.1", "1e400", "1e401", "1e-400",
	"0.30000000000000004", "0.3", "9007199254740993", "9007199254740992", "\"\"", "\"0\"", "\"null\"",
	"\"t\"", "\"n0\"", "[]", "{}", "[[]]", "[{}]", "[null]", "[\"\"]", "[\"\",\"\"]", "[\"a\",\"b\"]",
	"[\"b\",\"a\"]", "[\"ab\"]", "[\"a\"]", "[1,2]", "[12]", "[[1],2]", "[[1,2]]", "[1,[2]]",
	"{\"a\":1}", "{\"a\":\"1\"}", "{\"b\":1}", "{\"a\":{}}", "{\"a\":[]}", "{\"\":{\"a\":1}}",
	"{\"a\":1,\"b\":2}", "{\"a\":2,\"b\":1}", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1},\"c\":2}",
	"{\"a\":{\"b\":1,\"c\":2}}", "[{\"a\":1},{\"b\":2}]", "[{\"b\":2},{\"a\":1}]", "\"\\u0000\"",
	"[\"s\"]", "\"[\"", "\"\xC3\xA9\"", "\"e\\u0301\"",
	"\"\\uD83D\"", "\"\\uD83E\"", "\"\\uDE00\"", "\"\\uDE00\\uD83D\"", "\"\\uD83D\\uDE00\"", "\"\\uFFFD\"",
};
/* clang-format on */

static void another_meaning_another_hash(void **state)
{
	for (size_t i = 0; i < ARRAY_LENGTH(different); i++)
		for (size_t j = 0; j < ARRAY_LENGTH(different); j++)
			if (same(*state, different[i], different[j]) != (i == j))
				fail_msg("%s and %s", different[i], different[j]);
}

#define X63 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define Y64 "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"

/* The form is a promise: names in a shared cache must mean the same after an upgrade. The digests are sha256sum's of
 * the bytes that lib/json_hash.h tells. */
static void the_form_is_stable(void **state)
{
	static const struct {
		const char *text, *digest;
	} cases[] = {
		{ "true", "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8" },
		{ "\"a\"", "9c843739f15b0f5efa315b2f4435c86b66bef646302b6c50822bf7a4b9a19755" },
		{ "-1.50", "db2af49b3b0148ee9d8fc8701860745f804c3bdca51746359bd2dd5b0404491c" },
		{ "[null,false]", "7fbe7c9800a474a1c9463c7cdb1a74f87ad938497b8ba7c4ddb3d163047bdc0e" },
		{ "{\"a\":true}", "f5a625459ac456368a727991370ff508d93af6d8a252ff6253eacca6bd511e80" },
		{ "{\"b\":null,\"cc\":{},\"a\":1}",
		  "f717f32408b73f3387fc8a01fe5276c6ba334220b4a43fa31b32be277b9f76be" },
		{ "{\"" Y64 Y64 "\":\"" X63 X63 "\"}",
		  "7daa2e38bd29fbc1613dd024fa4168a39df6601462fcfde416f3551694bd41e2" }, /* as they are */
		{ "{\"" Y64 Y64 "y\":\"" X63 X63 "x\"}",
		  "2c7456deed8cd2daeb98e9773b75956e55e30a3379c0d8a0b7c3151f995fa5d9" }, /* digests */
	};
	unsigned char digest[JSON_HASH_SIZE];
	char hex[2 * JSON_HASH_SIZE];

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_true(hash_of(*state, slice_of(cases[i].text), digest));
		text_hex(hex, digest, sizeof(digest));
		assert_memory_equal(hex, cases[i].digest, sizeof(hex));
	}
}

static void refuses_duplicates_everywhere(void **state)
{
	static const struct {
		const char *text;
		size_t offset;
	} cases[] = {
		{ "{\"a\":1,\"a\":1}", 7 },
		{ "[[{\"x\":{\"a\":1,\"b\":2,\"\\u0061\":3,\"b\":4}}]]", 20 },
		{ "{\"z\":{\"b\":0,\"b\":0},\"z\":0}", 12 },
		{ "{\"z\":{\"b\":0},\"z\":0}", 13 },
		{ "{\"\":0,\"a\":{\"\":0},\"\":0}", 17 },
	};
	struct fixture *f = *state;
	size_t offset;

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		json_scan_reset(f->scan);
		json_scan_feed(f->scan, slice_of(cases[i].text));
		assert_int_equal(json_scan_finish(f->scan), JSON_SCAN_FAILED);
		assert_int_equal(json_scan_error(f->scan, &offset), JSON_SCAN_ERROR_duplicate);
		assert_int_equal(offset, cases[i].offset);
	}
}

static void gives_no_hash_past_what_it_holds(void **state)
{
	struct fixture *f = *state;
	unsigned char digest[JSON_HASH_SIZE], again[JSON_HASH_SIZE];
	struct buf b;

	assert_false(hash_of(f, SLICE("[1e9999999]"), digest));
	assert_false(
		hash_of(f, SLICE("[0.12345678901234567890123456789012345678901234567890123456789012345]"), digest));
	assert_true(hash_of(f, SLICE("[1]"), digest));

	buf_init(&b, 8 << 20);
	assert_true(buf_append_byte(&b, '{'));
	for (size_t i = 0; i <= JSON_HASH_MEMBERS; i++)
		assert_true(buf_format(&b, "%s\"%zu\":0", i == 0 ? "" : ",", i));
	assert_true(buf_append_byte(&b, '}'));
	assert_false(hash_of(f, buf_slice(&b), digest));
	/* One member fewer fits, and the scan is as good as new. */
	b.len -= strlen(",\"65536\":0}");
	assert_true(buf_append_byte(&b, '}'));
	assert_true(hash_of(f, buf_slice(&b), digest));
	assert_true(json_scan_hash(f->scan, again));
	assert_memory_equal(digest, again, sizeof(digest));
	buf_free(&b);
}

static void gives_none_when_none_is_due(void **state)
{
	struct fixture *f = *state;
	struct json_scan *plain = json_scan_new(f->plan, NULL);
	unsigned char digest[JSON_HASH_SIZE];

	json_scan_feed(plain, SLICE("[]"));
	assert_int_equal(json_scan_finish(plain), JSON_SCAN_WHOLE);
	assert_false(json_scan_hash(plain, digest));
	json_scan_free(&plain);
	json_scan_reset(f->scan);
	json_scan_feed(f->scan, SLICE("[{\"a\":"));
	assert_false(json_scan_hash(f->scan, digest));
	assert_int_equal(json_scan_finish(f->scan), JSON_SCAN_FAILED);
	assert_false(json_scan_hash(f->scan, digest));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_meaning_one_hash, set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_meaning_another_hash, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_form_is_stable, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_duplicates_everywhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(gives_no_hash_past_what_it_holds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(gives_none_when_none_is_due, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("json_hash", tests, NULL, NULL);
}

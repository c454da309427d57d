/* Numbers with units, both ways; tokens, hex, URLs, UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/text.h"

#include <string.h>

struct sample {
	const char *text;
	int64_t value; /* -1: refused */
};

static void check(const struct sample *samples, size_t count, bool (*parse)(struct slice, int64_t *))
{
	for (size_t i = 0; i < count; i++) {
		int64_t value = 12345;
		bool read = parse(slice_of(samples[i].text), &value);
		if (read != (samples[i].value != -1) || value != (read ? samples[i].value : 12345))
			fail_msg("\"%s\": %s, %lld", samples[i].text, read ? "read" : "refused", (long long)value);
	}
}

static void reads_integers(void **state)
{
	static const struct sample samples[] = {
		{ "0", 0 },
		{ "-0", 0 },
		{ "007", 7 },
		{ "9223372036854775807", INT64_MAX },
		{ "-9223372036854775808", INT64_MIN },
		{ "9223372036854775808", -1 },
		{ "-9223372036854775809", -1 },
		{ "99999999999999999999999", -1 },
		{ "", -1 },
		{ "-", -1 },
		{ "+1", -1 },
		{ " 1", -1 },
		{ "1 ", -1 },
		{ "0x10", -1 },
		{ "1e3", -1 },
		{ "--1", -1 },
	};
	int64_t value;
	(void)state;
	check(samples, ARRAY_LENGTH(samples), text_int);
	assert_false(text_int(slice_make("1\0", 2), &value));
	assert_false(text_int(SLICE_NONE, &value));
}

static void reads_durations(void **state)
{
	static const struct sample samples[] = {
		{ "0", 0 },
		{ "0s", 0 },
		{ "250us", 250 },
		{ "250ms", 250000 },
		{ "30s", 30000000 },
		{ "5m", 300000000 },
		{ "1h", INT64_C(3600000000) },
		{ "2d", INT64_C(172800000000) },
		{ "1.5s", 1500000 },
		{ "0.25h", 900000000 },
		{ "0.000001s", 1 },
		{ "0.0000010s", 1 },
		{ "0.0000001s", -1 },
		{ "0.5us", -1 },
		{ "1.50us", -1 },
		{ "1.0us", 1 },
		{ "106751991d", INT64_C(106751991) * 86400000000 },
		{ "106751992d", -1 },
		{ "106751991.2d", -1 },
		{ "10", -1 },
		{ "", -1 },
		{ "s", -1 },
		{ ".5s", -1 },
		{ "1.s", -1 },
		{ "1 s", -1 },
		{ "-1s", -1 },
		{ "1S", -1 },
		{ "1min", -1 },
		{ "1s ", -1 },
		{ "1e3s", -1 },
		{ "1.5.5s", -1 },
		{ "00", -1 },
	};
	(void)state;
	check(samples, ARRAY_LENGTH(samples), text_duration);
}

static void reads_sizes_and_counts(void **state)
{
	static const struct sample sizes[] = {
		{ "512", 512 },
		{ "64KiB", 65536 },
		{ "20MiB", 20971520 },
		{ "1GiB", 1073741824 },
		{ "1kB", 1000 },
		{ "1MB", 1000000 },
		{ "2GB", 2000000000 },
		{ "1.5KiB", 1536 },
		{ "0.1KiB", -1 },
		{ "1KB", -1 },
		{ "1kib", -1 },
		{ "8589934592GiB", -1 },
		{ "8589934591GiB", INT64_C(8589934591) << 30 },
		{ "KiB", -1 },
		{ "1.5", -1 },
	};
	static const struct sample counts[] = {
		{ "150", 150 },       { "400k", 400000 }, { "4M", 4000000 }, { "1.5M", 1500000 },
		{ "2G", 2000000000 }, { "0", 0 },         { "1.0005k", -1 }, { "1K", -1 },
		{ "4m", -1 },         { "1.5", -1 },      { "1.0", 1 },      { "9223372037G", -1 },
	};
	(void)state;
	check(sizes, ARRAY_LENGTH(sizes), text_size);
	check(counts, ARRAY_LENGTH(counts), text_count);
}

static void reads_decimals(void **state)
{
	static const char *const refused[] = { "",    ".5",  "1.",  "01",    "-1", "+1", "1e", "1e+",
					       "0x1", "inf", "nan", "1e400", "1 ", " 1", "1,5" };
	double value;
	(void)state;
	assert_true(text_decimal(SLICE("0"), &value) && value == 0);
	assert_true(text_decimal(SLICE("12"), &value) && value == 12);
	assert_true(text_decimal(SLICE("0.5"), &value) && value == 0.5);
	assert_true(text_decimal(SLICE("1.25e3"), &value) && value == 1250);
	assert_true(text_decimal(SLICE("1E-2"), &value) && value == 0.01);
	assert_true(text_decimal(SLICE("0e400"), &value) && value == 0);
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++)
		assert_false(text_decimal(slice_of(refused[i]), &value));
	char long_one[65];
	memset(long_one, '1', sizeof(long_one));
	assert_true(text_decimal(slice_make(long_one, 64), &value));
	assert_false(text_decimal(slice_make(long_one, 65), &value));
}

static void reads_percents_and_booleans(void **state)
{
	double value;
	bool truth;
	(void)state;
	assert_true(text_percent(SLICE("20%"), &value) && value == 0.2);
	assert_true(text_percent(SLICE("0.5%"), &value) && value == 0.005);
	assert_true(text_percent(SLICE("100%"), &value) && value == 1);
	assert_false(text_percent(SLICE("100.1%"), &value));
	assert_false(text_percent(SLICE("20"), &value));
	assert_false(text_percent(SLICE("%"), &value));
	assert_false(text_percent(SLICE("20 %"), &value));
	assert_true(text_bool(SLICE("true"), &truth) && truth);
	assert_true(text_bool(SLICE("FALSE"), &truth) && !truth);
	assert_false(text_bool(SLICE("tRue"), &truth));
	assert_false(text_bool(SLICE("yes"), &truth));
	assert_false(text_bool(SLICE("1"), &truth));
	assert_false(text_bool(SLICE(""), &truth));
}

static void check_spelling(bool (*put)(struct buf *, int64_t), int64_t value, const char *text)
{
	char memory[64];
	struct buf b;
	buf_wrap(&b, memory, sizeof(memory), 0);
	assert_true(put(&b, value));
	if (!slice_equal(buf_slice(&b), slice_of(text)))
		fail_msg("%lld: %.*s, not %s", (long long)value, (int)b.len, b.data, text);
	buf_wrap(&b, memory, strlen(text) - 1, 0);
	assert_false(put(&b, value));
	assert_int_equal(b.len, 0);
}

static void reads_and_writes_parts_and_dollars(void **state)
{
	static const char *const refused[] = { "",    "%",   "-1%", "1",   "0.001%",
					       "1.%", ".5%", "1 %", "1%%", "99999999999999999999%" };
	static const char *const refused_dollars[] = { "",    "-1",        "$1", "1.",           ".5",
						       "1e3", "0.0000001", "1%", "9223372036855" };
	int64_t value;
	(void)state;
	assert_true(text_parts(SLICE("0"), &value) && value == 0);
	assert_true(text_parts(SLICE("0%"), &value) && value == 0);
	assert_true(text_parts(SLICE("50%"), &value) && value == 5000);
	assert_true(text_parts(SLICE("0.50%"), &value) && value == 50);
	assert_true(text_parts(SLICE("100.01%"), &value) && value == 10001);
	assert_true(text_dollars(SLICE("0"), &value) && value == 0);
	assert_true(text_dollars(SLICE("1.25"), &value) && value == 1250000);
	assert_true(text_dollars(SLICE("10.00"), &value) && value == 10000000);
	assert_true(text_dollars(SLICE("0.000001"), &value) && value == 1);
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++)
		assert_false(text_parts(slice_of(refused[i]), &value));
	for (size_t i = 0; i < ARRAY_LENGTH(refused_dollars); i++)
		assert_false(text_dollars(slice_of(refused_dollars[i]), &value));
	check_spelling(text_put_parts, 0, "0%");
	check_spelling(text_put_parts, 1, "0.01%");
	check_spelling(text_put_parts, 5000, "50%");
	check_spelling(text_put_parts, -150, "-1.5%");
	check_spelling(text_put_parts, INT64_MIN, "-92233720368547758.07%");
	check_spelling(text_put_dollars, 0, "0");
	check_spelling(text_put_dollars, 310000, "0.31");
	check_spelling(text_put_dollars, INT64_C(1000000000001), "1000000.000001");
	check_spelling(text_put_dollars, -1, "-0.000001");
}

static void writes_the_shortest_spelling(void **state)
{
	(void)state;
	check_spelling(text_put_duration, 0, "0");
	check_spelling(text_put_duration, 1, "1us");
	check_spelling(text_put_duration, 100000, "100ms");
	check_spelling(text_put_duration, 1500000, "1.5s");
	check_spelling(text_put_duration, 90000000, "90s");
	check_spelling(text_put_duration, 60000000, "1m");
	check_spelling(text_put_duration, INT64_C(172800000000), "2d");
	check_spelling(text_put_duration, -1500000, "-1.5s");
	check_spelling(text_put_duration, 1000001, "1.000001s");
	check_spelling(text_put_duration, 60000001, "60.000001s");
	check_spelling(text_put_size, 0, "0");
	check_spelling(text_put_size, 512, "512");
	check_spelling(text_put_size, 1000, "1kB");
	check_spelling(text_put_size, 1024, "1KiB");
	check_spelling(text_put_size, 20971520, "20MiB");
	check_spelling(text_put_size, 1572864, "1.5MiB");
	check_spelling(text_put_count, 150, "150");
	check_spelling(text_put_count, 4000000, "4M");
	check_spelling(text_put_count, 400000, "400k");
	check_spelling(text_put_count, 1234567, "1234567");
}

/* Whatever is written is read back as the same value. */
static void round_trips(void **state)
{
	uint64_t random = 88172645463325252u; /* xorshift64 (Marsaglia, 2003) */
	(void)state;
	for (int i = 0; i < 100000; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		int64_t value = (int64_t)(random >> (1 + i % 63)), read;
		char memory[64];
		struct buf b;
		buf_wrap(&b, memory, sizeof(memory), 0);
		assert_true(text_put_duration(&b, value) && text_duration(buf_slice(&b), &read) && read == value);
		buf_wrap(&b, memory, sizeof(memory), 0);
		assert_true(text_put_size(&b, value) && text_size(buf_slice(&b), &read) && read == value);
		buf_wrap(&b, memory, sizeof(memory), 0);
		assert_true(text_put_count(&b, value) && text_count(buf_slice(&b), &read) && read == value);
	}
}

static void knows_tokens(void **state)
{
	(void)state;
	assert_true(text_is_token(SLICE("X-Goog-Api-Key")));
	assert_true(text_is_token(SLICE("!#$%&'*+-.^_`|~09azAZ")));
	assert_false(text_is_token(SLICE("")));
	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		bool allowed = c > 32 && c < 127 && strchr("\"(),/:;<=>?@[\\]{}", c) == NULL;
		assert_int_equal(text_is_token(slice_make(&byte, 1)), allowed);
	}
}

static void writes_and_reads_hex(void **state)
{
	unsigned char bytes[3] = { 0, 0xAB, 0xFF }, back[3];
	char text[6];
	(void)state;
	assert_int_equal(text_hex(text, bytes, 3), 6);
	assert_memory_equal(text, "00abff", 6);
	assert_true(text_unhex(SLICE("00aBFf"), back, 3));
	assert_memory_equal(back, bytes, 3);
	assert_false(text_unhex(SLICE("00abf"), back, 3));
	assert_false(text_unhex(SLICE("00abff00"), back, 3));
	assert_false(text_unhex(SLICE("00abfg"), back, 3));
	assert_true(text_unhex(SLICE_NONE, back, 0));
	assert_false(text_unhex(SLICE("ab"), back, SIZE_MAX / 2 + 2)); /* 2 · count wraps around to 2 */
}

static void decodes_urls(void **state)
{
	static const char *const refused[] = { "%", "%4", "%4g", "%g4", "a%00", "%%41", "toolong!!" };
	char out[8];
	size_t len;
	(void)state;
	assert_true(text_url_decode(SLICE("a%2Fb+%e2"), out, sizeof(out), &len));
	assert_int_equal(len, 5);
	assert_memory_equal(out, "a/b+\xe2", 5);
	assert_true(text_url_decode(SLICE("%41%42%43%44%45%46%47%48"), out, sizeof(out), &len));
	assert_int_equal(len, 8);
	assert_true(text_url_decode(SLICE_NONE, out, 0, &len));
	assert_int_equal(len, 0);
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++)
		assert_false(text_url_decode(slice_of(refused[i]), out, sizeof(out), &len));
	assert_false(text_url_decode(SLICE("a\0"), out, sizeof(out), &len));
}

/* Encodes each code point and each neighbour that RFC 3629 forbids. */
static void knows_utf8(void **state)
{
	static const char *const refused[] = { "\x80",
					       "\xC1\xBF",
					       "\xE0\x9F\xBF",
					       "\xED\xA0\x80",
					       "\xED\xBF\xBF",
					       "\xF0\x8F\xBF\xBF",
					       "\xF4\x90\x80\x80",
					       "\xF5\x80\x80\x80",
					       "\xFE",
					       "\xC3",
					       "\xE2\x82",
					       "\xF0\x9F\x98",
					       "12345678\xFF",
					       "\xC3\xA9\xC3" };
	static const char *const good[] = { "",
					    "a",
					    "12345678\xC3\xA9",
					    "\xC2\x80",
					    "\xDF\xBF",
					    "\xE0\xA0\x80",
					    "\xED\x9F\xBF",
					    "\xEE\x80\x80",
					    "\xEF\xBF\xBF",
					    "\xF0\x90\x80\x80",
					    "\xF4\x8F\xBF\xBF" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++)
		assert_false(text_is_utf8(slice_of(refused[i])));
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++)
		assert_true(text_is_utf8(slice_of(good[i])));
	assert_true(text_is_utf8(SLICE("a\0b")));
}

static void measures_how_far_words_are_apart(void **state)
{
	static const struct {
		const char *a, *b;
		unsigned far;
	} cases[] = {
		{ "", "", 0 },
		{ "", "abc", 3 },
		{ "serve", "serve", 0 },
		{ "sevre", "serve", 2 },
		{ "workes", "workers", 1 },
		{ "kitten", "sitting", 3 },
		{ "flow", "wolf", 4 },
		{ "a", "b", 1 },
	};
	char longest[32], longer[33];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(text_distance(slice_of(cases[i].a), slice_of(cases[i].b)), cases[i].far);
		assert_int_equal(text_distance(slice_of(cases[i].b), slice_of(cases[i].a)), cases[i].far);
	}
	memset(longest, 'x', sizeof(longest));
	memset(longer, 'x', sizeof(longer));
	assert_int_equal(text_distance(slice_make(longest, 31), SLICE("")), 31);
	assert_int_equal(text_distance(slice_make(longest, 32), slice_make(longest, 32)), TEXT_FAR);
	assert_int_equal(text_distance(SLICE("x"), slice_make(longer, 33)), TEXT_FAR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_integers),
		cmocka_unit_test(reads_durations),
		cmocka_unit_test(reads_sizes_and_counts),
		cmocka_unit_test(reads_decimals),
		cmocka_unit_test(reads_percents_and_booleans),
		cmocka_unit_test(reads_and_writes_parts_and_dollars),
		cmocka_unit_test(writes_the_shortest_spelling),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(knows_tokens),
		cmocka_unit_test(writes_and_reads_hex),
		cmocka_unit_test(decodes_urls),
		cmocka_unit_test(knows_utf8),
		cmocka_unit_test(measures_how_far_words_are_apart),
	};
	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}

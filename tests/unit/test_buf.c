/* The buffer at its ceiling, and the JSON escaper against what RFC 8259 and Unicode ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/buf.h"

#include <jansson.h>
#include <string.h>

static void assert_holds(const struct buf *b, const char *text)
{
	assert_int_equal(b->len, strlen(text));
	assert_memory_equal(b->data, text, b->len);
}

static void fills_up_to_the_ceiling_exactly(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, 1000);
	for (int i = 0; i < 1000; i++)
		assert_true(buf_append_byte(&b, (char)('a' + i % 26)));
	assert_false(b.overflowed);
	assert_false(buf_append_byte(&b, '!'));
	assert_true(b.overflowed);
	assert_int_equal(b.len, 1000);
	assert_true(b.capacity <= 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(b.data[i], 'a' + i % 26);
	assert_true(buf_append(&b, SLICE_NONE));
	buf_free(&b);
}

static void a_refused_append_changes_nothing(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, 8);
	assert_true(buf_append(&b, SLICE("12345")));
	assert_false(buf_append(&b, SLICE("6789")));
	assert_false(buf_append_int(&b, -123));
	assert_false(buf_format(&b, "%s", "6789"));
	assert_false(buf_append_json(&b, SLICE("ab")));
	assert_holds(&b, "12345");
	assert_true(b.overflowed);
	assert_true(buf_append(&b, SLICE("678")));
	assert_true(b.overflowed); /* sticky */
	buf_clear(&b);
	assert_false(b.overflowed);
	assert_int_equal(b.len, 0);
	buf_free(&b);
	buf_free(&b);
}

static void refuses_sizes_that_wrap_around(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, SIZE_MAX / 2);
	assert_true(buf_append(&b, SLICE("x")));
	assert_false(buf_reserve(&b, SIZE_MAX));
	assert_false(buf_reserve(&b, SIZE_MAX / 2));
	assert_int_equal(b.len, 1);
	buf_free(&b);
	buf_init(&b, 0);
	assert_true(buf_reserve(&b, 0));
	assert_false(buf_append_byte(&b, 'x'));
	buf_free(&b);
}

static void writes_integers(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, 100);
	buf_append_int(&b, INT64_MIN);
	buf_append_byte(&b, ' ');
	buf_append_int(&b, INT64_MAX);
	buf_append_byte(&b, ' ');
	buf_append_int(&b, 0);
	assert_holds(&b, "-9223372036854775808 9223372036854775807 0");
	buf_free(&b);
}

static void formats_up_to_the_last_byte(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, 5);
	assert_true(buf_format(&b, "%d-%s", 12, "ab"));
	assert_holds(&b, "12-ab");
	assert_true(buf_format(&b, "%s", ""));
	assert_false(buf_format(&b, "%c", 'x'));
	buf_free(&b);
}

static void drops_from_the_front(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, 100);
	buf_drop_front(&b, 0);
	buf_append(&b, SLICE("abcdef"));
	buf_drop_front(&b, 2);
	assert_holds(&b, "cdef");
	buf_drop_front(&b, 4);
	assert_int_equal(b.len, 0);
	assert_true(buf_append(&b, SLICE("x")));
	assert_holds(&b, "x");
	buf_free(&b);
}

static void a_wrapped_buffer_never_grows(void **state)
{
	char memory[4] = "ab";
	struct buf b;
	(void)state;
	buf_wrap(&b, memory, sizeof(memory), 2);
	assert_true(buf_append(&b, SLICE("cd")));
	assert_false(buf_append_byte(&b, 'e'));
	assert_ptr_equal(b.data, memory);
	assert_memory_equal(memory, "abcd", 4);
}

#define BYTES(literal) "" literal "", sizeof(literal) - 1

static const struct {
	const char *text;
	size_t len;
	const char *json;
} escapes[] = {
	{ BYTES(""), "\"\"" },
	{ BYTES("plain \x7f /"), "\"plain \x7f /\"" },
	{ BYTES("\"\\"), "\"\\\"\\\\\"" },
	{ BYTES("\b\t\n\f\r"), "\"\\b\\t\\n\\f\\r\"" },
	{ BYTES("\0\x01\x0b\x1f"), "\"\\u0000\\u0001\\u000b\\u001f\"" },
	{ BYTES("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"" },
	{ BYTES("\xFF"), "\"\xEF\xBF\xBD\"" },
	{ BYTES("a\x80z"), "\"a\xEF\xBF\xBDz\"" },
	{ BYTES("\xC0\xAF"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"" },                 /* overlong */
	{ BYTES("\xED\xA0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"" }, /* a surrogate */
	{ BYTES("\xF4\x90\x80\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"" },
	{ BYTES("\xE2\x82"), "\"\xEF\xBF\xBD\"" }, /* cut short: one maximal subpart */
	{ BYTES("\xF0\x9F\x98"
		"A"),
	  "\"\xEF\xBF\xBD"
	  "A\"" },
};

static void escapes_for_json(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(escapes); i++) {
		struct buf b;
		buf_init(&b, 100);
		assert_true(buf_append_json(&b, slice_make(escapes[i].text, escapes[i].len)));
		assert_holds(&b, escapes[i].json);
		buf_free(&b);
	}
}

/* Every pair of bytes makes a document that another parser reads; and it is refused whole at each smaller ceiling. */
static void every_pair_of_bytes_is_valid_json(void **state)
{
	(void)state;
	for (int pair = 0; pair < 65536; pair++) {
		char text[2] = { (char)(pair >> 8), (char)(pair & 255) }, memory[16];
		struct buf b;
		buf_wrap(&b, memory, sizeof(memory), 0);
		assert_true(buf_append_json(&b, slice_make(text, 2)));
		json_t *read = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(read);
		json_decref(read);
		size_t need = b.len;
		buf_wrap(&b, memory, need - 1, 0);
		assert_false(buf_append_json(&b, slice_make(text, 2)));
		assert_int_equal(b.len, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_up_to_the_ceiling_exactly),   cmocka_unit_test(a_refused_append_changes_nothing),
		cmocka_unit_test(refuses_sizes_that_wrap_around),    cmocka_unit_test(writes_integers),
		cmocka_unit_test(formats_up_to_the_last_byte),       cmocka_unit_test(drops_from_the_front),
		cmocka_unit_test(a_wrapped_buffer_never_grows),      cmocka_unit_test(escapes_for_json),
		cmocka_unit_test(every_pair_of_bytes_is_valid_json),
	};
	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}

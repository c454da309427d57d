/* Each class against its definition, at each place of words of each length. */
#include "lib/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static bool by_definition(unsigned char byte, enum bytes_class class)
{
	bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9');

	switch (class) {
	case BYTES_TOKEN:
		return letter || (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
	case BYTES_FIELD:
		return byte == '\t' || (byte >= ' ' && byte != 0x7f);
	case BYTES_PLAIN:
		return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
	}
	return false;
}

static void check(enum bytes_class class)
{
	char text[27];

	for (int byte = 0; byte < 256; byte++) {
		bool belongs = by_definition((unsigned char)byte, class);
		assert_int_equal(bytes_is((char)byte, class), belongs);
		for (size_t len = 0; len <= sizeof(text); len++)
			for (size_t at = 0; at < len; at++) {
				memset(text, 'a', sizeof(text));
				text[at] = (char)byte;
				size_t prefix = bytes_prefix(slice_make(text, len), class);
				if (prefix != (belongs ? len : at))
					fail_msg("class %d, byte %d at %zu of %zu: %zu", class, byte, at, len, prefix);
				assert_int_equal(bytes_all(slice_make(text, len), class), belongs);
			}
	}
	assert_true(bytes_all(SLICE_NONE, class));
}

/* Two unusual neighbours: a borrow in the arithmetic must not hide one. */
static void check_pairs(enum bytes_class class)
{
	char text[8];

	for (int pair = 0; pair < 65536; pair++) {
		memset(text, 'a', sizeof(text));
		text[3] = (char)(pair & 255);
		text[4] = (char)(pair >> 8);
		size_t expected = !by_definition((unsigned char)text[3], class)   ? 3
				  : !by_definition((unsigned char)text[4], class) ? 4
										  : 8;
		assert_int_equal(bytes_prefix(slice_make(text, 8), class), expected);
	}
}

static void test_classes(void **state)
{
	static const enum bytes_class classes[] = { BYTES_TOKEN, BYTES_FIELD, BYTES_PLAIN };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(classes); i++) {
		check(classes[i]);
		check_pairs(classes[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_classes) };
	return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}

/* Moments as HTTP and the Internet write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/text.h"

#define REFUSED INT64_MIN

struct sample {
	const char *text;
	int64_t value;
};

static void check(const struct sample *samples, size_t count, bool (*parse)(struct slice, int64_t *))
{
	for (size_t i = 0; i < count; i++) {
		int64_t value = REFUSED;
		bool read = parse(slice_of(samples[i].text), &value);
		if (read != (samples[i].value != REFUSED) || value != samples[i].value)
			fail_msg("\"%s\": %s, %lld", samples[i].text, read ? "read" : "refused", (long long)value);
	}
}

static void reads_dates(void **state)
{
	static const struct sample samples[] = {
		{ "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
		{ "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
		{ "Sun Nov  6 08:49:37 1994", 784111777 },
		{ "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
		{ "Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799) },
		{ "Thu, 29 Feb 2024 12:00:00 GMT", 1709208000 },
		{ "", REFUSED },
		{ "0", REFUSED },
		{ "soon", REFUSED },
		{ "Sun, 06 Nov 1994 08:49:37", REFUSED },
		{ "Sun, 06 Nov 1994 08:49:37 GMT.", REFUSED },
		{ "Sun, 06 Nov 1994 08:49:37 GMT and then some more", REFUSED },
		{ "Sun, 06 Nov 1994 28:49:37 GMT", REFUSED },
		{ "Sun, 46 Nov 1994 08:49:37 GMT", REFUSED },
		{ "Sun, 06 Nix 1994 08:49:37 GMT", REFUSED },
	};
	int64_t value;

	(void)state;
	check(samples, ARRAY_LENGTH(samples), text_date);
	assert_false(text_date(SLICE("Sun, 06 Nov 1994 08:49:37 GMT\0x"), &value));
	assert_false(text_date(SLICE_NONE, &value));
}

static void reads_timestamps(void **state)
{
	static const struct sample samples[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "1994-11-06T08:49:37Z", INT64_C(784111777000000) },
		{ "1994-11-06t08:49:37z", INT64_C(784111777000000) },
		{ "1994-11-06T08:49:37.5Z", INT64_C(784111777500000) },
		{ "1994-11-06T08:49:37.000001Z", INT64_C(784111777000001) },
		{ "1994-11-06T08:49:37.0000019999999999999999999Z", INT64_C(784111777000001) },
		{ "1994-11-06T09:49:37+01:00", INT64_C(784111777000000) },
		{ "1994-11-06T01:19:37-07:30", INT64_C(784111777000000) },
		{ "1994-11-06T08:49:37-00:00", INT64_C(784111777000000) },
		{ "1990-12-31T23:59:60Z", INT64_C(662688000000000) },
		{ "1969-12-31T23:59:59Z", -1000000 },
		{ "0000-01-01T00:00:00Z", INT64_C(-62167219200000000) },
		{ "9999-12-31T23:59:59Z", INT64_C(253402300799000000) },
		{ "2024-02-29T12:00:00Z", INT64_C(1709208000000000) },
		{ "2023-02-29T12:00:00Z", REFUSED },
		{ "2024-00-10T12:00:00Z", REFUSED },
		{ "2024-13-10T12:00:00Z", REFUSED },
		{ "2024-04-31T12:00:00Z", REFUSED },
		{ "2024-04-00T12:00:00Z", REFUSED },
		{ "2024-04-01T24:00:00Z", REFUSED },
		{ "2024-04-01T12:60:00Z", REFUSED },
		{ "2024-04-01T12:00:61Z", REFUSED },
		{ "2024-04-01T12:00:00", REFUSED },
		{ "2024-04-01T12:00:00.Z", REFUSED },
		{ "2024-04-01T12:00:00ZZ", REFUSED },
		{ "2024-04-01T12:00:00+24:00", REFUSED },
		{ "2024-04-01T12:00:00+0100", REFUSED },
		{ "2024-04-01T12:00:00+01:00x", REFUSED },
		{ "2024-04-01 12:00:00Z", REFUSED },
		{ "24-04-01T12:00:00Z", REFUSED },
		{ "-024-04-01T12:00:00Z", REFUSED },
		{ "2024-04-01T", REFUSED },
		{ "2024-04-01", REFUSED },
		{ "", REFUSED },
	};
	int64_t value;

	(void)state;
	check(samples, ARRAY_LENGTH(samples), text_timestamp);
	assert_false(text_timestamp(SLICE_NONE, &value));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_dates),
		cmocka_unit_test(reads_timestamps),
	};

	return cmocka_run_group_tests_name("text date", tests, NULL, NULL);
}

/* lib/sse: what the standard calls an event, and the bytes that belong to it. Every stream is also cut at every byte
 * and judged by the plain reader of tests/support/sse_oracle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/mem.h"
#include "lib/sse.h"
#include "tests/support/sse_oracle.h"

/* clang-format off */
static const struct {
	const char *what, *stream, *expected;
} cases[] = {
	{ "nothing", "", "open 0" },
	{ "LF", "data: a\n\ndata: b\n\n", "0 9 []<a>\n9 18 []<b>\nopen 18" },
	{ "CR", "data: a\r\rdata: b\r\r", "0 9 []<a>\n9 18 []<b>\nopen 18" },
	{ "CR LF: the last LF is the next block's", "data: a\r\n\r\ndata: b\r\n\r\n",
	  "0 10 []<a>\n10 21 []<b>\nopen 21" },
	{ "mixed", "data: a\n\r\n\rdata: b\r\n\n", "0 9 []<a>\n9 11 []?<>\n11 21 []<b>\nopen 21" },
	{ "LF CR is two lines' ends", "data: a\n\rx\n\r", "0 9 []<a>\n9 12 []?<>\nopen 12" },
	{ "several lines", "data: a\ndata: b\ndata:\ndata\ndata: c\n\n", "0 36 []<a\nb\n\n\nc>\nopen 36" },
	{ "an empty line of data is data", "data\n\ndata:\n\ndata: \n\n",
	  "0 6 []<>\n6 13 []<>\n13 21 []<>\nopen 21" },
	{ "one blank only is taken off", "data:a\n\ndata:  b\n\ndata:\tc\n\n",
	  "0 8 []<a>\n8 18 []< b>\n18 27 []<\tc>\nopen 27" },
	{ "names", "event: e\ndata: 1\n\nevent:f\ndata: 2\n\ndata: 3\nevent: g h\n\n",
	  "0 18 [e]<1>\n18 35 [f]<2>\n35 55 [g h]<3>\nopen 55" },
	{ "the last name wins, and is forgotten", "event: a\nevent: b\ndata: 1\n\ndata: 2\nevent: c\nevent\n\n",
	  "0 27 [b]<1>\n27 51 []<2>\nopen 51" },
	{ "a name alone is no event", "event: a\n\ndata: 1\n\n", "0 10 [a]?<>\n10 19 []<1>\nopen 19" },
	{ "comments", ": ping\n\n:\ndata: a\n: b\n\n", "0 8 []?<>\n8 23 []<a>\nopen 23" },
	{ "blank lines", "\n\n\ndata: a\n\n", "0 1 []?<>\n1 2 []?<>\n2 3 []?<>\n3 12 []<a>\nopen 12" },
	{ "fields of no matter", "id: 1\nretry: 2\ndat: x\ndatas: y\nDATA: z\n data: v\nevents: w\ndata: a\n\n",
	  "0 67 []<a>\nopen 67" },
	{ "colons in the data", "data:a:b: c\n\n", "0 13 []<a:b: c>\nopen 13" },
	{ "a byte order mark", "\xEF\xBB\xBF" "data: a\n\n", "0 12 []<a>\nopen 12" },
	{ "a mark and no more", "\xEF\xBB\xBF", "open 0" },
	{ "a mark is one only at the begin", "data: a\n\n\xEF\xBB\xBF" "data: b\n\n",
	  "0 9 []<a>\n9 21 []?<>\nopen 21" },
	{ "two marks", "\xEF\xBB\xBF\xEF\xBB\xBF" "data: b\n\n", "0 15 []?<>\nopen 15" },
	{ "half a mark", "\xEF\xBB" "data: a\ndata: b\n\n", "0 19 []<b>\nopen 19" },
	{ "a third of a mark", "\xEF" "data: a\n\n", "0 10 []?<>\nopen 10" },
	{ "half a mark and a line", "\xEF\xBB\n\n", "0 4 []?<>\nopen 4" },
	{ "unfinished", "data: a\n\ndata: b\n", "0 9 []<a>\nopen 9" },
	{ "unfinished line", "data: a\n\ndata: b", "0 9 []<a>\nopen 9" },
};
/* clang-format on */

static void reads_what_the_standard_tells(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct slice stream = slice_of(cases[i].stream);
		char *found = sse_oracle_read(stream, stream.len + 1, 0);
		if (strcmp(found, cases[i].expected) != 0)
			fail_msg("%s: %s", cases[i].what, found);
		free(found);
		for (uint32_t seed = 0; seed < 20; seed++)
			sse_oracle_judge(stream, seed);
	}
}

static void cuts_a_long_name(void **state)
{
	char stream[2 * SSE_NAME], expected[2 * SSE_NAME];

	(void)state;
	for (int length = SSE_NAME - 1; length <= SSE_NAME + 1; length++) {
		int size = snprintf(stream, sizeof(stream), "event: %0*d\ndata\n\n", length, 0);
		int kept = length < SSE_NAME ? length : SSE_NAME;
		snprintf(expected, sizeof(expected), "0 %d [%0*d]%s<>\nopen %d", size, kept, 0,
			 length > SSE_NAME ? "~" : "", size);
		char *found = sse_oracle_read(slice_of(stream), 7, 0);
		assert_string_equal(found, expected);
		free(found);
		sse_oracle_judge(slice_of(stream), 1);
	}
}

/* A filter that drops events named "drop" gives the stream as if they had never been. */
struct filter {
	struct slice stream;
	struct buf kept;
};

static void ignore_data(void *arg, struct slice piece)
{
	(void)arg;
	(void)piece;
}

static void keep_others(void *arg, const struct sse_event *event)
{
	struct filter *f = arg;

	if (!slice_equal(event->name, SLICE("drop")))
		assert_true(buf_append(&f->kept, slice_make(f->stream.data + event->start, event->end - event->start)));
}

static void assert_filtered(struct slice stream, struct slice expected)
{
	struct filter f = { .stream = stream };
	struct sse *sse = sse_new(ignore_data, keep_others, &f);

	buf_init(&f.kept, 1024);
	for (size_t i = 0; i < stream.len; i++)
		sse_feed(sse, slice_make(stream.data + i, 1));
	assert_true(buf_append(&f.kept, slice_skip(stream, sse_block_start(sse))));
	assert_int_equal(f.kept.len, expected.len);
	assert_memory_equal(f.kept.data, expected.data, expected.len);
	buf_free(&f.kept);
	sse_free(&sse);
}

static void an_event_can_be_dropped_byte_exactly(void **state)
{
	(void)state;
	assert_filtered(SLICE("data: a\n\nevent: drop\ndata: b\n\ndata: c\n\n"), SLICE("data: a\n\ndata: c\n\n"));
	assert_filtered(SLICE("data: a\r\n\r\nevent: drop\r\ndata: b\r\n\r\ndata: c\r\n\r\n"),
			SLICE("data: a\r\n\r\ndata: c\r\n\r\n"));
	assert_filtered(SLICE("data: a\r\revent: drop\rdata: b\r\rdata: c\r\r"), SLICE("data: a\r\rdata: c\r\r"));
	assert_filtered(SLICE("data: a\n\nevent: drop\ndata: b\n\n"), SLICE("data: a\n\n"));
	assert_filtered(SLICE("data: a\r\n\r\nevent: drop\r\ndata: b\r\n\r\n"), SLICE("data: a\r\n\r\n"));
	assert_filtered(SLICE("event: drop\n\ndata: unfinished"), SLICE("data: unfinished"));
}

/* Data comes as it stands in the pieces: of a megabyte nothing is gathered. */
struct count {
	size_t bytes, pieces, events;
};

static void count_data(void *arg, struct slice piece)
{
	struct count *c = arg;

	c->bytes += piece.len;
	c->pieces++;
}

static void count_event(void *arg, const struct sse_event *event)
{
	struct count *c = arg;

	c->events += event->has_data;
}

static void a_line_has_no_longest(void **state)
{
	enum { PIECE = 4096, PIECES = 2560 };
	struct count c = { 0, 0, 0 };
	struct sse *sse = sse_new(count_data, count_event, &c);
	char piece[PIECE];

	(void)state;
	memset(piece, 'x', sizeof(piece));
	sse_feed(sse, SLICE("data: "));
	for (int i = 0; i < PIECES; i++)
		sse_feed(sse, slice_make(piece, sizeof(piece)));
	sse_feed(sse, SLICE("\n\n"));
	assert_int_equal(c.bytes, (size_t)PIECE * PIECES);
	assert_int_equal(c.pieces, PIECES);
	assert_int_equal(c.events, 1);
	sse_free(&sse);
	sse_free(&sse);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_the_standard_tells),
		cmocka_unit_test(cuts_a_long_name),
		cmocka_unit_test(an_event_can_be_dropped_byte_exactly),
		cmocka_unit_test(a_line_has_no_longest),
	};

	return cmocka_run_group_tests_name("sse", tests, NULL, NULL);
}

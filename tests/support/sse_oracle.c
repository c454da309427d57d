#include "tests/support/sse_oracle.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/sse.h"

struct transcript {
	FILE *out, *data;
	char *data_text;
	size_t data_length;
};

static void open_data(struct transcript *t)
{
	t->data = open_memstream(&t->data_text, &t->data_length);
	if (t->data == NULL)
		abort();
}

static void put(FILE *out, struct slice text)
{
	if (text.len > 0)
		fwrite(text.data, 1, text.len, out);
}

static void write_block(struct transcript *t, const struct sse_event *e)
{
	fclose(t->data);
	fprintf(t->out, "%zu %zu [", e->start, e->end);
	put(t->out, e->name);
	fprintf(t->out, "]%s%s<", e->name_cut ? "~" : "", e->has_data ? "" : "?");
	put(t->out, slice_make(t->data_text, t->data_length));
	fprintf(t->out, ">\n");
	free(t->data_text);
	open_data(t);
}

static void on_data(void *arg, struct slice piece)
{
	struct transcript *t = arg;

	if (piece.len == 0)
		abort();
	put(t->data, piece);
}

static void on_event(void *arg, const struct sse_event *event)
{
	write_block(arg, event);
}

char *sse_oracle_read(struct slice stream, size_t most, uint32_t seed)
{
	struct transcript t;
	char *text = NULL;
	size_t length = 0;
	struct sse *sse = sse_new(on_data, on_event, &t);

	t.out = open_memstream(&text, &length);
	if (t.out == NULL)
		abort();
	open_data(&t);
	while (stream.len > 0) {
		seed = seed * 1664525 + 1013904223;
		struct slice piece = slice_first(stream, most > 0 ? most : 1 + (seed >> 8) % 20);
		char *copy = malloc(piece.len);
		if (copy == NULL)
			abort();
		memcpy(copy, piece.data, piece.len);
		sse_feed(sse, slice_make(copy, piece.len));
		free(copy);
		stream = slice_skip(stream, piece.len);
	}
	fprintf(t.out, "open %zu", sse_block_start(sse));
	fclose(t.data);
	free(t.data_text);
	fclose(t.out);
	sse_free(&sse);
	return text;
}

/* ---- the plain reader -------------------------------------------------------------------------------------------- */

/* One line of [at, end); its text without the end of the line. *next: where another begins. False: it has no end. */
static bool read_line(struct slice stream, size_t at, struct slice *line, size_t *next)
{
	size_t length = 0;

	while (at + length < stream.len && stream.data[at + length] != '\r' && stream.data[at + length] != '\n')
		length++;
	if (at + length == stream.len)
		return false;
	*line = slice_make(stream.data + at, length);
	*next = at + length + 1;
	return true;
}

static void read_field(struct transcript *t, struct sse_event *e, struct slice line)
{
	struct slice value, field = slice_cut(line, ':', &value);

	if (slice_starts(value, SLICE(" ")))
		value = slice_skip(value, 1);
	if (slice_equal(field, SLICE("data"))) {
		if (e->has_data)
			put(t->data, SLICE("\n"));
		e->has_data = true;
		put(t->data, value);
	} else if (slice_equal(field, SLICE("event"))) {
		e->name = slice_first(value, SSE_NAME);
		e->name_cut = value.len > SSE_NAME;
	}
}

static char *read_plainly(struct slice stream)
{
	struct transcript t;
	char *text = NULL;
	size_t length = 0, at = 0, next;
	struct sse_event event = { SLICE_NONE, false, false, 0, 0 };
	struct slice line;

	t.out = open_memstream(&text, &length);
	if (t.out == NULL)
		abort();
	open_data(&t);
	if (slice_starts(stream, SLICE("\xEF\xBB\xBF")))
		at = 3;
	for (; read_line(stream, at, &line, &next); at = next) {
		bool crlf = stream.data[next - 1] == '\r' && next < stream.len && stream.data[next] == '\n';
		if (line.len > 0)
			read_field(&t, &event, line);
		if (line.len == 0) {
			event.end = next;
			write_block(&t, &event);
			event = (struct sse_event){ SLICE_NONE, false, false, next, 0 };
		}
		next += crlf;
	}
	fprintf(t.out, "open %zu", event.start);
	fclose(t.data);
	free(t.data_text);
	fclose(t.out);
	return text;
}

static void compare(struct slice stream, const char *expected, size_t most, uint32_t seed)
{
	char *found = sse_oracle_read(stream, most, seed);

	if (strcmp(found, expected) != 0) {
		fprintf(stderr, "sse_oracle: pieces of %zu\n%s\nexpected\n%s\n", most, found, expected);
		abort();
	}
	free(found);
}

void sse_oracle_judge(struct slice stream, uint32_t seed)
{
	char *expected = read_plainly(stream);

	compare(stream, expected, stream.len + 1, seed);
	compare(stream, expected, 1, seed);
	compare(stream, expected, 0, seed);
	free(expected);
}

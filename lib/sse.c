#include "lib/sse.h"

#include "lib/mem.h"

static const char mark[] = { '\xEF', '\xBB', '\xBF' };

enum { LONGEST_FIELD = 5 }; /* "event" */

/* Where in a line the next byte stands. */
enum place {
	IN_FIELD,    /* in the field's name, or at the line's begin */
	BEFORE_DATA, /* behind "data:": one blank does not count */
	IN_DATA,
	BEFORE_NAME, /* behind "event:" */
	IN_NAME,
	IN_OTHER, /* comments and fields that matter to nobody here */
};

/* Between calls: the text from `start` on is the block being read. `marked` counts the bytes of the byte order mark
 * that have come, as long as it may be one. */
struct sse {
	sse_on_data *on_data;
	sse_on_event *on_event;
	void *arg;
	size_t offset, start;
	size_t marked;
	enum place place;
	bool begun;    /* the line has a byte */
	bool after_cr; /* an LF here belongs to the line before */
	size_t field_length;
	char field[LONGEST_FIELD];
	bool has_data, name_cut;
	size_t name_length;
	char name[SSE_NAME];
};

struct sse *sse_new(sse_on_data *on_data, sse_on_event *on_event, void *arg)
{
	struct sse *s = mem_new(sizeof(*s));

	s->on_data = on_data;
	s->on_event = on_event;
	s->arg = arg;
	return s;
}

void sse_free(struct sse **sse)
{
	mem_free(*sse);
	*sse = NULL;
}

size_t sse_block_start(const struct sse *s)
{
	return s->start;
}

/* The field's name is whole: behind its colon, or at the end of a line that has none. */
static void end_field(struct sse *s)
{
	struct slice field = { s->field, s->field_length };

	s->place = IN_OTHER;
	if (slice_equal(field, SLICE("data"))) {
		if (s->has_data)
			s->on_data(s->arg, SLICE("\n"));
		s->has_data = true;
		s->place = BEFORE_DATA;
	} else if (slice_equal(field, SLICE("event"))) {
		s->name_length = 0;
		s->name_cut = false;
		s->place = BEFORE_NAME;
	}
}

static struct slice take_field(struct sse *s, struct slice text)
{
	struct slice rest, part = slice_cut(text, ':', &rest);

	if (part.len > LONGEST_FIELD - s->field_length) {
		s->place = IN_OTHER;
		return text;
	}
	if (part.len > 0)
		memcpy(s->field + s->field_length, part.data, part.len);
	s->field_length += part.len;
	if (part.len < text.len)
		end_field(s);
	return rest;
}

static void take_name(struct sse *s, struct slice text)
{
	struct slice kept = slice_first(text, sizeof(s->name) - s->name_length);

	memcpy(s->name + s->name_length, kept.data, kept.len);
	s->name_length += kept.len;
	s->name_cut |= kept.len < text.len;
}

/* A part of a line, without its end. */
static void take_text(struct sse *s, struct slice text)
{
	if (text.len == 0)
		return;
	s->begun = true;
	if (s->place == IN_FIELD)
		text = take_field(s, text);
	if (text.len > 0 && (s->place == BEFORE_DATA || s->place == BEFORE_NAME)) {
		if (text.data[0] == ' ')
			text = slice_skip(text, 1);
		s->place = s->place == BEFORE_DATA ? IN_DATA : IN_NAME;
	}
	if (text.len > 0 && s->place == IN_DATA)
		s->on_data(s->arg, text);
	if (text.len > 0 && s->place == IN_NAME)
		take_name(s, text);
}

static void end_block(struct sse *s, size_t end)
{
	struct sse_event event = { { s->name, s->name_length }, s->name_cut, s->has_data, s->start, end };

	s->start = end;
	s->on_event(s->arg, &event);
	s->has_data = s->name_cut = false;
	s->name_length = 0;
}

static void end_line(struct sse *s, size_t end)
{
	if (!s->begun)
		end_block(s, end);
	else if (s->place == IN_FIELD)
		end_field(s);
	s->begun = false;
	s->place = IN_FIELD;
	s->field_length = 0;
}

/* Takes a byte order mark off the stream's begin. What only began like one is the begin of a line with a field of no
 * meaning. */
static struct slice take_mark(struct sse *s, struct slice text)
{
	while (text.len > 0 && s->marked < sizeof(mark) && text.data[0] == mark[s->marked]) {
		text = slice_skip(text, 1);
		s->marked++;
		s->offset++;
	}
	if (text.len > 0 && s->marked < sizeof(mark)) {
		if (s->marked > 0) {
			s->begun = true;
			s->place = IN_OTHER;
		}
		s->marked = sizeof(mark);
	}
	return text;
}

/* Where the line ends, or `end`. *lf is the next LF, looked for only when the last one has been passed: a stream of
 * many CR and no LF is walked once, not once for each line. */
static const char *find_line_end(const char *at, const char *end, const char **lf)
{
	if (*lf == NULL || *lf < at) {
		*lf = memchr(at, '\n', (size_t)(end - at));
		if (*lf == NULL)
			*lf = end;
	}
	const char *cr = memchr(at, '\r', (size_t)(*lf - at));
	return cr != NULL ? cr : *lf;
}

void sse_feed(struct sse *s, struct slice piece)
{
	struct slice text = s->marked < sizeof(mark) ? take_mark(s, piece) : piece;

	if (text.len == 0)
		return;
	const char *at = text.data, *end = text.data + text.len, *lf = NULL;
	if (s->after_cr && *at == '\n')
		at++;
	s->after_cr = false;
	while (at < end) {
		const char *line_end = find_line_end(at, end, &lf);
		take_text(s, slice_make(at, (size_t)(line_end - at)));
		at = line_end;
		if (at == end)
			break;
		bool cr = *at++ == '\r';
		end_line(s, s->offset + (size_t)(at - text.data));
		if (cr && at == end)
			s->after_cr = true;
		else if (cr && *at == '\n')
			at++;
	}
	s->offset += text.len;
}

/* Reads an answer beside its passing: usage, how much was said, whether it ended as its dialect ends.
 *
 *   bytes ──┬──► lib/sse ──► data of one event ──► lib/json_scan ──► meter_said.c: usage, marks
 *           └──► client, at once; three things are held back: with `hide_usage` the event that is not whole yet, as long
 *                as it may be the usage chunk; the end of an array that does not say that it is complete; and the last
 *                byte of the promised length when the JSON before it is not whole
 *
 * One scan is made ready again for every event; nothing is allocated per event, and no event is kept but the held one,
 * of at most HELD bytes: what is longer is no usage chunk and passes.
 * Disadvantage: with `hide_usage` a client sees an event when it is whole, not as its bytes come. */
#include "lib/buf.h"
#include "lib/sse.h"
#include "svc/dialect/meter_said.h"

enum { HELD = 2048, MARKER = 6 };

enum mode { UNREAD, PLAIN, EVENTS, ARRAY };

/* Owned by who made it. Between calls: of the answer's bytes those before `passed` have been handed on or taken out,
 * those from there to `offset` stand in `held`. `piece`, `out` and `arg` are set during meter_write alone. */
struct meter {
	enum mode mode;
	bool hide;
	struct meter_said said;
	struct sse *sse;

	size_t offset, passed;
	struct buf held;
	int64_t promised; /* length to the client; -1: none */
	char last;        /* the byte handed on last */
	bool closed;      /* the array's own end was seen */
	struct slice piece;
	meter_out *out;
	void *arg;

	size_t data_length; /* of the event being read */
	char marker[MARKER];

	int64_t wanted;     /* candidates */
	const char *bad;    /* why the newest event could not be read */
	const char *unread; /* the same of the answer, or of the event that would have been its end */
};

/* ---- what is handed on ------------------------------------------------------------------------------------------- */

static void hand_on(struct meter *m, struct slice bytes)
{
	if (bytes.len == 0)
		return;
	m->last = bytes.data[bytes.len - 1];
	m->out(m->arg, bytes);
}

/* Hands on all up to `end`, from what is held and from the piece. */
static void pass_to(struct meter *m, size_t end)
{
	if (end <= m->passed)
		return;
	if (m->passed < m->offset) {
		struct slice held = slice_first(buf_slice(&m->held), end - m->passed);
		size_t length = held.len;
		hand_on(m, held);
		buf_drop_front(&m->held, length);
		m->passed += length;
	}
	if (end > m->passed) {
		size_t length = end - m->passed;
		struct slice rest = slice_skip(m->piece, m->passed - m->offset);
		m->passed = end;
		hand_on(m, slice_first(rest, length));
	}
}

/* Takes [start, end) out, if none of it has passed yet. */
static void take_out(struct meter *m, size_t start, size_t end)
{
	pass_to(m, start);
	if (m->passed != start)
		return;
	buf_clear(&m->held);
	m->passed = end;
}

/* Keeps what has not passed of the piece; what does not fit in passes. */
static void hold_rest(struct meter *m)
{
	size_t end = m->offset + m->piece.len;
	size_t from = m->passed > m->offset ? m->passed - m->offset : 0;

	if (m->passed < end && !buf_append(&m->held, slice_skip(m->piece, from)))
		pass_to(m, end);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void on_data(void *arg, struct slice piece)
{
	struct meter *m = arg;

	if (m->data_length < MARKER) {
		struct slice first = slice_first(piece, MARKER - m->data_length);
		memcpy(m->marker + m->data_length, first.data, first.len);
	}
	m->data_length += piece.len;
	(void)json_scan_feed(m->said.scan, piece); /* an event that is no JSON says nothing; json_scan_finish tells */
}

/* What has been fed is all there was: why it cannot be read, though it does not just end too early. */
static const char *why_unread(struct meter *m)
{
	size_t offset;

	if (json_scan_finish(m->said.scan) == JSON_SCAN_WHOLE)
		return NULL;
	enum json_scan_error error = json_scan_error(m->said.scan, &offset);
	return error == JSON_SCAN_ERROR_truncated ? NULL : json_scan_error_text(error);
}

static bool begins_an_object(const struct meter *m)
{
	size_t length = m->data_length < MARKER ? m->data_length : MARKER, at = 0;

	while (at < length && m->marker[at] == ' ')
		at++;
	return at < length && m->marker[at] == '{';
}

static void on_event(void *arg, const struct sse_event *event)
{
	struct meter *m = arg;
	bool hidden = false;

	if (!event->has_data)
		return;
	m->bad = begins_an_object(m) ? why_unread(m) : NULL;
	if (json_scan_finish(m->said.scan) == JSON_SCAN_WHOLE)
		hidden = meter_said_event(&m->said);
	else if (m->said.dialect == DIALECT_openai && !m->said.responses && m->data_length == MARKER &&
		 memcmp(m->marker, "[DONE]", MARKER) == 0)
		m->said.ended = true;
	m->said.error |= slice_equal(event->name, SLICE("error"));
	meter_said_next(&m->said);
	m->data_length = 0;
	if (hidden && m->hide && event->end - event->start <= HELD) /* a longer one may have passed in part */
		take_out(m, event->start, event->end);
}

static void write_events(struct meter *m)
{
	sse_feed(m->sse, m->piece);
	if (m->hide)
		pass_to(m, sse_block_start(m->sse));
	/* A block of which a part has passed, because it is longer than what is held, goes on passing. */
	if (m->hide && m->passed == sse_block_start(m->sse))
		hold_rest(m);
	else
		pass_to(m, m->offset + m->piece.len);
}

/* The marker of a stream is one of its events; where it is JSON, the last event may have been it. */
static bool may_have_ended(const struct meter *m)
{
	return m->bad != NULL && (m->said.dialect != DIALECT_openai || m->said.responses);
}

/* The connection was lost behind what looks like the end. Gemini has no event that is nothing but the end: more was to
 * come when there is half an event, or fewer candidates than were asked for. */
static bool was_cut(const struct meter *m)
{
	return m->said.dialect == DIALECT_gemini &&
	       (!meter_between_events(m) ||
		(!m->said.sure.blocked && __builtin_popcountll(m->said.sure.seen) < m->wanted));
}

static void finish_events(struct meter *m, bool whole)
{
	if (!whole && was_cut(m))
		m->said.ended = false;
	if (whole && !m->said.ended && may_have_ended(m))
		m->unread = m->bad;
	/* Else an error follows, and half an event in front of it would hide it. */
	if (m->said.ended || m->said.error || m->unread != NULL)
		pass_to(m, m->offset);
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

/* Its own `]`, and what is behind it, passes only when the answer is complete, or says itself that it is not. */
static void write_array(struct meter *m)
{
	(void)json_scan_feed(m->said.scan, m->piece); /* finish_array tells */
	const struct json_member *whole = json_scan_member(m->said.scan, 0);
	size_t end = m->offset + m->piece.len;

	if (whole->type == JSON_MEMBER_ARRAY && !m->closed) {
		m->closed = true;
		m->said.ended = meter_said_all_done(&m->said.now);
		meter_said_take(&m->said);
		pass_to(m, whole->end - 1);
	}
	if (m->closed && !m->said.ended && !m->said.error)
		m->passed = end;
	else
		pass_to(m, end);
}

/* What a cut one had said already is taken, too: Gemini counts as it goes. */
static void finish_array(struct meter *m, bool whole)
{
	if (m->closed)
		return;
	if (whole)
		m->unread = why_unread(m);
	meter_said_take(&m->said);
}

/* ---- plain answers ----------------------------------------------------------------------------------------------- */

/* With all of the length that was promised half an answer would look whole. */
static void write_plain(struct meter *m)
{
	enum json_scan_state state = json_scan_feed(m->said.scan, m->piece);
	size_t end = m->offset + m->piece.len;

	if (state != JSON_SCAN_MORE || m->promised < 0 || end < (size_t)m->promised) {
		pass_to(m, end);
	} else {
		pass_to(m, end - 1);
		hold_rest(m);
	}
}

static void finish_plain(struct meter *m, bool whole)
{
	if (!whole)
		return;
	m->unread = why_unread(m);
	m->said.ended = json_scan_finish(m->said.scan) == JSON_SCAN_WHOLE;
	if (m->said.ended)
		meter_said_take(&m->said);
	if (m->said.ended || m->unread != NULL)
		pass_to(m, m->offset);
}

/* ---- the meter --------------------------------------------------------------------------------------------------- */

static const struct dialect_table *table_of(const struct dialect_call *call, enum mode mode)
{
	if (mode == UNREAD)
		return NULL;
	switch (call->dialect) {
	case DIALECT_gemini:
		return mode == ARRAY ? &dialect_gemini_array : &dialect_gemini_answer;
	case DIALECT_openai:
		if (call->operation == OPERATION_embed)
			return &dialect_openai_embeddings;
		return call->responses ? &dialect_openai_responses : &dialect_openai_chat;
	case DIALECT_anthropic:
		return &dialect_anthropic_answer;
	case DIALECT_http:
	case DIALECT_COUNT:
		break;
	}
	return NULL;
}

static enum mode mode_of(const struct dialect_call *call, int status, struct slice content_type)
{
	struct slice type = slice_trim(slice_first(content_type, slice_find(content_type, ';')));

	if (status >= 300 || status == 204 || call->dialect == DIALECT_http)
		return UNREAD;
	if (slice_equal_nocase(type, SLICE("text/event-stream")))
		return EVENTS;
	if (type.len == 0 && call->framing == DIALECT_EVENTS)
		return EVENTS;
	return call->framing == DIALECT_ARRAY ? ARRAY : PLAIN;
}

struct meter *meter_new(const struct dialect_call *call, int status, struct slice content_type, bool hide_usage)
{
	struct meter *m = mem_new(sizeof(*m));

	m->mode = mode_of(call, status, content_type);
	m->hide = hide_usage && m->mode == EVENTS && call->dialect == DIALECT_openai;
	meter_said_init(&m->said, call, table_of(call, m->mode));
	m->wanted = call->candidates;
	m->promised = -1;
	buf_init(&m->held, HELD);
	if (m->mode == EVENTS)
		m->sse = sse_new(on_data, on_event, m);
	return m;
}

void meter_free(struct meter **meter)
{
	struct meter *m = *meter;

	if (m == NULL)
		return;
	if (m->sse != NULL)
		sse_free(&m->sse);
	meter_said_free(&m->said);
	buf_free(&m->held);
	mem_free(m);
	*meter = NULL;
}

int64_t meter_promise(struct meter *m, int64_t length)
{
	bool empty = m->mode == PLAIN && length == 0; /* no JSON is that short: its end must be able to say so */

	m->promised = m->mode == EVENTS || m->mode == ARRAY || empty ? -1 : length;
	return m->promised;
}

void meter_write(struct meter *m, struct slice bytes, meter_out *out, void *arg)
{
	if (bytes.len == 0)
		return;
	m->piece = bytes;
	m->out = out;
	m->arg = arg;
	switch (m->mode) {
	case UNREAD:
		pass_to(m, m->offset + bytes.len);
		break;
	case PLAIN:
		write_plain(m);
		break;
	case EVENTS:
		write_events(m);
		break;
	case ARRAY:
		write_array(m);
		break;
	}
	m->offset += bytes.len;
	m->piece = SLICE_NONE;
}

void meter_finish(struct meter *m, bool whole, meter_out *out, void *arg)
{
	m->out = out;
	m->arg = arg;
	switch (m->mode) {
	case UNREAD:
		m->said.ended = whole;
		break;
	case PLAIN:
		finish_plain(m, whole);
		break;
	case EVENTS:
		finish_events(m, whole);
		break;
	case ARRAY:
		finish_array(m, whole);
		break;
	}
}

void meter_result(const struct meter *m, struct meter_result *result)
{
	meter_said_result(&m->said, result);
	result->unread = m->unread;
}

bool meter_between_events(const struct meter *m)
{
	if (m->mode != EVENTS)
		return false;
	size_t start = sse_block_start(m->sse);
	/* Of CR LF at a block's end the LF stands in front of the next block. */
	return m->passed <= start || (m->passed == start + 1 && m->last == '\n');
}

/* Reads an answer beside its passing: usage, how much was said, whether it ended as its dialect ends.
 *
 *   bytes ──┬──► lib/sse ──► data of one event ──► lib/json_scan ──► roles (dialect_table) ──► counts, marks
 *           └──► client, at once; three things are held back: with `hide_usage` the event that is not whole yet, as long
 *                as it may be the usage chunk; the end of an array that does not say that it is complete; and the last
 *                byte of the promised length when the JSON before it is not whole
 *
 * One scan is made ready again for every event; nothing is allocated per event, and no event is kept but the held one,
 * of at most HELD bytes: what is longer is no usage chunk and passes.
 * Disadvantage: with `hide_usage` a client sees an event when it is whole, not as its bytes come. */
#include "lib/buf.h"
#include "lib/sse.h"
#include "svc/dialect/dialect_internal.h"

enum { HELD = 2048, MARKER = 6, CANDIDATES = 64 };
static const int64_t most_tokens = INT64_C(1) << 40;

enum mode { UNREAD, PLAIN, EVENTS, ARRAY };

/* Gemini: which candidates were seen, and which of them said last why they ended; one bit each. */
struct candidates {
	uint64_t seen, done;
	bool blocked; /* there will be none */
};

/* Owned by who made it. Between calls: of the answer's bytes those before `passed` have been handed on or taken out,
 * those from there to `offset` stand in `held`. `piece`, `out` and `arg` are set during meter_write alone. */
struct meter {
	enum mode mode;
	enum dialect dialect;
	enum operation operation;
	bool responses, hide;
	const struct dialect_table *table;
	struct json_scan *scan;
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

	int64_t counts[DIALECT_ROLE_COUNTS]; /* -1: never said */
	int64_t output_bytes;
	struct candidates now, sure; /* with what is being read; of what was whole */
	unsigned index;              /* of the candidate that is being read, */
	bool reason;                 /* which says why it ended */
	int64_t wanted;              /* candidates */
	bool usage_final, ended, error;
	const char *bad;    /* why the newest event could not be read */
	const char *unread; /* the same of the answer, or of the event that would have been its end */
};

/* What one event, or one body, says of itself. */
struct facts {
	const struct json_member *type, *choices, *usage;
};

/* ---- what was said ----------------------------------------------------------------------------------------------- */

/* Some providers put `"error": null` or `{}` into all they send. */
static bool is_error(const struct json_member *member)
{
	return (member->type == JSON_MEMBER_OBJECT && !member->empty) ||
	       (member->type == JSON_MEMBER_STRING && member->end - member->start > strlen("\"\""));
}

static void take_member(struct meter *m, enum dialect_role role, const struct json_member *member, struct facts *facts)
{
	switch (role) {
	case DIALECT_ROLE_TEXT:
		m->output_bytes += (int64_t)member->string_bytes;
		break;
	case DIALECT_ROLE_VALUE:
		m->output_bytes += (int64_t)member->value_bytes;
		break;
	case DIALECT_ROLE_ERROR:
		m->error |= is_error(member);
		break;
	case DIALECT_ROLE_TYPE:
		facts->type = member;
		break;
	case DIALECT_ROLE_CHOICES:
		facts->choices = member;
		break;
	case DIALECT_ROLE_USAGE:
		facts->usage = member;
		break;
	default:
		if (role < DIALECT_ROLE_COUNTS && member->whole && member->integer >= 0 &&
		    member->integer <= most_tokens)
			m->counts[role] = member->integer;
	}
}

static void take(struct meter *m, struct facts *facts)
{
	*facts = (struct facts){ 0 };
	for (size_t i = 0; i < m->table->count; i++) {
		const struct json_member *member = json_scan_member(m->scan, i);
		if (member->count > 0)
			take_member(m, m->table->paths[i].role, member, facts);
	}
}

static bool is_type(const struct facts *facts, const char *name)
{
	const struct json_member *type = facts->type;

	return type != NULL && type->type == JSON_MEMBER_STRING && !type->cut &&
	       slice_equal(type->text, slice_of(name));
}

/* Google says why a candidate ended in the last chunk that has it; one that comes without a reason goes on. */
static void end_candidate(struct meter *m)
{
	uint64_t bit = UINT64_C(1) << m->index;

	m->now.seen |= bit;
	m->now.done = m->reason ? m->now.done | bit : m->now.done & ~bit;
	m->index = 0; /* which is left out when it is zero */
	m->reason = false;
}

/* Gemini: a value has ended. */
static void hear(void *arg, size_t path)
{
	struct meter *m = arg;
	const struct json_member *member = json_scan_member(m->scan, path);

	switch (m->table->paths[path].role) {
	case DIALECT_ROLE_INDEX:
		m->index = member->whole && member->integer >= 0 && member->integer < CANDIDATES
				   ? (unsigned)member->integer
				   : 0;
		break;
	case DIALECT_ROLE_FINISH:
		m->reason = member->type == JSON_MEMBER_STRING;
		break;
	case DIALECT_ROLE_CANDIDATE:
		end_candidate(m);
		break;
	case DIALECT_ROLE_BLOCKED:
		m->now.blocked |= member->type == JSON_MEMBER_STRING;
		break;
	default:
		break;
	}
}

static bool all_done(const struct candidates *c)
{
	return c->seen != 0 ? c->done == c->seen : c->blocked;
}

/* The chunk that stream_options.include_usage adds: no choices, and the usage. */
static bool is_usage_chunk(const struct facts *f)
{
	return f->choices != NULL && f->choices->type == JSON_MEMBER_ARRAY && f->choices->empty && f->usage != NULL &&
	       f->usage->type == JSON_MEMBER_OBJECT;
}

/* A whole event of a stream. True: it is the usage chunk. */
static bool judge_event(struct meter *m)
{
	struct facts f;

	take(m, &f);
	if (m->dialect == DIALECT_gemini) {
		m->sure = m->now;
		m->ended = all_done(&m->sure);
	} else if (m->dialect == DIALECT_anthropic) {
		m->ended |= is_type(&f, "message_stop");
		m->error |= is_type(&f, "error");
	} else if (m->responses) {
		m->error |= is_type(&f, "error") || is_type(&f, "response.failed");
		m->ended |= is_type(&f, "response.completed") || is_type(&f, "response.incomplete") ||
			    is_type(&f, "response.failed");
	} else if (is_usage_chunk(&f)) {
		m->usage_final = true;
		return true;
	}
	return false;
}

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
	(void)json_scan_feed(m->scan, piece); /* an event that is no JSON says nothing; json_scan_finish tells */
}

/* What has been fed is all there was: why it cannot be read, though it does not just end too early. */
static const char *why_unread(struct meter *m)
{
	size_t offset;

	if (json_scan_finish(m->scan) == JSON_SCAN_WHOLE)
		return NULL;
	enum json_scan_error error = json_scan_error(m->scan, &offset);
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
	if (json_scan_finish(m->scan) == JSON_SCAN_WHOLE)
		hidden = judge_event(m);
	else if (m->dialect == DIALECT_openai && !m->responses && m->data_length == MARKER &&
		 memcmp(m->marker, "[DONE]", MARKER) == 0)
		m->ended = true;
	m->error |= slice_equal(event->name, SLICE("error"));
	m->now = m->sure;
	m->index = 0;
	m->reason = false;
	json_scan_reset(m->scan);
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
	return m->bad != NULL && (m->dialect != DIALECT_openai || m->responses);
}

/* The connection was lost behind what looks like the end. Gemini has no event that is nothing but the end: more was to
 * come when there is half an event, or fewer candidates than were asked for. */
static bool was_cut(const struct meter *m)
{
	return m->dialect == DIALECT_gemini &&
	       (!meter_between_events(m) || (!m->sure.blocked && __builtin_popcountll(m->sure.seen) < m->wanted));
}

static void finish_events(struct meter *m, bool whole)
{
	if (!whole && was_cut(m))
		m->ended = false;
	if (whole && !m->ended && may_have_ended(m))
		m->unread = m->bad;
	/* Else an error follows, and half an event in front of it would hide it. */
	if (m->ended || m->error || m->unread != NULL)
		pass_to(m, m->offset);
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

/* Its own `]`, and what is behind it, passes only when the answer is complete, or says itself that it is not. */
static void write_array(struct meter *m)
{
	(void)json_scan_feed(m->scan, m->piece); /* finish_array tells */
	const struct json_member *whole = json_scan_member(m->scan, 0);
	size_t end = m->offset + m->piece.len;
	struct facts f;

	if (whole->type == JSON_MEMBER_ARRAY && !m->closed) {
		m->closed = true;
		m->ended = all_done(&m->now);
		take(m, &f);
		pass_to(m, whole->end - 1);
	}
	if (m->closed && !m->ended && !m->error)
		m->passed = end;
	else
		pass_to(m, end);
}

/* What a cut one had said already is taken, too: Gemini counts as it goes. */
static void finish_array(struct meter *m, bool whole)
{
	struct facts f;

	if (m->closed)
		return;
	if (whole)
		m->unread = why_unread(m);
	take(m, &f);
}

/* ---- plain answers ----------------------------------------------------------------------------------------------- */

/* With all of the length that was promised half an answer would look whole. */
static void write_plain(struct meter *m)
{
	enum json_scan_state state = json_scan_feed(m->scan, m->piece);
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
	struct facts f;

	if (!whole)
		return;
	m->unread = why_unread(m);
	m->ended = json_scan_finish(m->scan) == JSON_SCAN_WHOLE;
	if (m->ended)
		take(m, &f);
	if (m->ended || m->unread != NULL)
		pass_to(m, m->offset);
}

/* ---- the meter --------------------------------------------------------------------------------------------------- */

static const struct dialect_table *table_of(const struct dialect_call *call, enum mode mode)
{
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
	const struct json_scan_options options = { .max_bytes = SIZE_MAX,
						   .max_nodes = SIZE_MAX,
						   .max_depth = JSON_SCAN_DEPTH,
						   .heard = call->dialect == DIALECT_gemini ? hear : NULL,
						   .arg = m };

	m->mode = mode_of(call, status, content_type);
	m->dialect = call->dialect;
	m->operation = call->operation;
	m->responses = call->responses;
	m->hide = hide_usage && m->mode == EVENTS && m->dialect == DIALECT_openai;
	m->table = table_of(call, m->mode);
	m->wanted = call->candidates;
	m->promised = -1;
	for (size_t i = 0; i < DIALECT_ROLE_COUNTS; i++)
		m->counts[i] = -1;
	buf_init(&m->held, HELD);
	if (m->mode != UNREAD)
		m->scan = json_scan_new(dialect_plan(m->table), &options);
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
	if (m->scan != NULL)
		json_scan_free(&m->scan);
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
		m->ended = whole;
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

static int64_t sum(const struct meter *m, const enum dialect_role *roles, size_t count)
{
	int64_t total = 0;

	for (size_t i = 0; i < count; i++)
		if (m->counts[roles[i]] > 0)
			total += m->counts[roles[i]];
	return total;
}

/* Whether the output is known to its end. Google leaves zeros out; embeddings and counts say nothing. */
static bool output_known(const struct meter *m)
{
	if (!m->ended && !m->usage_final)
		return false;
	if (m->operation == OPERATION_count_tokens || m->counts[DIALECT_ROLE_OUTPUT] >= 0)
		return true;
	return m->counts[DIALECT_ROLE_INPUT] >= 0 && (m->dialect == DIALECT_gemini || m->operation == OPERATION_embed);
}

void meter_result(const struct meter *m, struct meter_result *result)
{
	static const enum dialect_role input[] = { DIALECT_ROLE_INPUT, DIALECT_ROLE_CACHE_READ,
						   DIALECT_ROLE_CACHE_WRITE, DIALECT_ROLE_TOOL_INPUT };
	static const enum dialect_role cached[] = { DIALECT_ROLE_CACHED, DIALECT_ROLE_CACHE_READ };
	static const enum dialect_role output[] = { DIALECT_ROLE_OUTPUT, DIALECT_ROLE_THOUGHTS };
	bool counted = m->operation == OPERATION_count_tokens; /* a count is told, not used */

	*result = (struct meter_result){
		.output_bytes = m->output_bytes, .ended = m->ended, .unread = m->unread, .error_in_band = m->error
	};
	result->usage.input_known = counted ? m->ended : m->counts[DIALECT_ROLE_INPUT] >= 0;
	result->usage.output_known = output_known(m);
	if (counted)
		return;
	result->usage.input = sum(m, input, ARRAY_LENGTH(input));
	result->usage.cached = sum(m, cached, ARRAY_LENGTH(cached));
	result->usage.output = sum(m, output, ARRAY_LENGTH(output));
}

bool meter_between_events(const struct meter *m)
{
	if (m->mode != EVENTS)
		return false;
	size_t start = sse_block_start(m->sse);
	/* Of CR LF at a block's end the LF stands in front of the next block. */
	return m->passed <= start || (m->passed == start + 1 && m->last == '\n');
}

#include "svc/refusal.h"

#include "lib/buf.h"

struct row {
	const char *code, *openai, *google, *anthropic, *text;
	int status;
	bool retry;
};

/* What an error body says. */
struct words {
	int status;
	const char *code, *openai, *google, *anthropic;
	struct slice text, detail, request_id;
};

/* clang-format off */
#define ROW(name, status, retry, openai, google, anthropic, text) \
	{ #name, openai, google, anthropic, text, status, retry },
static const struct row rows[] = { REFUSALS(ROW) };
#undef ROW

static const struct {
	int status;
	const char *phrase; /* RFC 9110 section 15 */
} phrases[] = {
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 408, "Request Timeout" },
	{ 411, "Length Required" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" },
	{ 417, "Expectation Failed" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 499, "Client Closed Request" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 502, "Bad Gateway" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
};
/* clang-format on */

static const struct row *row_of(enum refusal refusal)
{
	CHECK((size_t)refusal < ARRAY_LENGTH(rows));
	return &rows[refusal];
}

const char *refusal_code(enum refusal refusal)
{
	return row_of(refusal)->code;
}

enum refusal refusal_of_code(struct slice code)
{
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
		if (slice_equal(code, slice_of(rows[i].code)))
			return (enum refusal)i;
	return REFUSAL_none;
}

int refusal_status(enum refusal refusal)
{
	return row_of(refusal)->status;
}

bool refusal_may_retry(enum refusal refusal)
{
	return row_of(refusal)->retry;
}

const char *refusal_text(enum refusal refusal)
{
	return row_of(refusal)->text;
}

static const char *phrase_of(int status)
{
	for (size_t i = 0; i < ARRAY_LENGTH(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return status < 500 ? "Bad Request" : "Internal Server Error";
}

static void put(struct buf *out, const char *text)
{
	buf_append(out, slice_of(text));
}

/* The table's text, and behind it what was wrong this time. A detail that does not fit is cut, not lost. */
static void put_message(const struct words *w, struct buf *out)
{
	char memory[2048];
	struct buf message;

	buf_wrap(&message, memory, sizeof(memory), 0);
	buf_append(&message, slice_first(w->text, sizeof(memory) / 2));
	if (w->detail.len > 0) {
		buf_append_byte(&message, ' ');
		buf_append(&message, slice_first(w->detail, sizeof(memory) - 1 - message.len));
	}
	buf_append_json(out, buf_slice(&message));
}

/* OpenAI's error object, without the braces of its envelope. */
static void put_openai(const struct words *w, struct buf *out)
{
	put(out, "{\"message\":");
	put_message(w, out);
	put(out, ",\"type\":");
	buf_append_json(out, slice_of(w->openai));
	put(out, ",\"param\":null,\"code\":");
	buf_append_json(out, slice_of(w->code));
	put(out, "}");
}

/* An ErrorInfo's reason is in capitals (google/rpc/error_details.proto). */
static void put_reason(const char *code, struct buf *out)
{
	put(out, "\"");
	for (; *code != '\0'; code++)
		buf_append_byte(out, *code >= 'a' && *code <= 'z' ? (char)(*code - 'a' + 'A') : *code);
	put(out, "\"");
}

static void put_google(const struct words *w, struct buf *out)
{
	put(out, "{\"error\":{\"code\":");
	buf_append_int(out, w->status);
	put(out, ",\"message\":");
	put_message(w, out);
	put(out, ",\"status\":");
	buf_append_json(out, slice_of(w->google));
	put(out, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":");
	put_reason(w->code, out);
	put(out, ",\"domain\":\"sluice\"}");
	if (w->request_id.len > 0) {
		put(out, ",{\"@type\":\"type.googleapis.com/google.rpc.RequestInfo\",\"requestId\":");
		buf_append_json(out, w->request_id);
		put(out, "}");
	}
	put(out, "]}}");
}

static void put_anthropic(const struct words *w, struct buf *out)
{
	put(out, "{\"type\":\"error\",\"error\":{\"type\":");
	buf_append_json(out, slice_of(w->anthropic));
	put(out, ",\"message\":");
	put_message(w, out);
	put(out, ",\"code\":");
	buf_append_json(out, slice_of(w->code));
	put(out, "},\"request_id\":");
	if (w->request_id.len > 0)
		buf_append_json(out, w->request_id);
	else
		put(out, "null");
	put(out, "}");
}

/* RFC 9457. The type is about:blank, so the title is the status's phrase (section 4.2.1); `code` is an extension. */
static void put_problem(const struct words *w, struct buf *out)
{
	put(out, "{\"type\":\"about:blank\",\"title\":");
	buf_append_json(out, slice_of(phrase_of(w->status)));
	put(out, ",\"status\":");
	buf_append_int(out, w->status);
	put(out, ",\"detail\":");
	put_message(w, out);
	put(out, ",\"code\":");
	buf_append_json(out, slice_of(w->code));
	if (w->request_id.len > 0) {
		put(out, ",\"request_id\":");
		buf_append_json(out, w->request_id);
	}
	put(out, "}");
}

static const char *put_body(const struct words *w, enum dialect dialect, struct buf *out)
{
	switch (dialect) {
	case DIALECT_gemini:
		put_google(w, out);
		return "application/json";
	case DIALECT_openai:
		put(out, "{\"error\":");
		put_openai(w, out);
		put(out, "}");
		return "application/json";
	case DIALECT_anthropic:
		put_anthropic(w, out);
		return "application/json";
	case DIALECT_http:
	case DIALECT_COUNT:
		break;
	}
	put_problem(w, out);
	return "application/problem+json";
}

static struct words words_of(enum refusal refusal, struct slice detail, struct slice request_id)
{
	const struct row *row = row_of(refusal);

	return (struct words){ row->status,    row->code,           row->openai, row->google,
			       row->anthropic, slice_of(row->text), detail,      request_id };
}

const char *refusal_write(enum refusal refusal, enum dialect dialect, struct slice detail, struct slice request_id,
			  struct buf *out)
{
	struct words words = words_of(refusal, detail, request_id);

	return put_body(&words, dialect, out);
}

/* The first row of the same status, else the plainest of its class, lends its words. */
static const struct row *row_like(int status)
{
	for (size_t i = 1; i < ARRAY_LENGTH(rows); i++)
		if (rows[i].status == status)
			return &rows[i];
	return &rows[status < 500 ? REFUSAL_invalid_request : REFUSAL_internal];
}

const char *refusal_write_fault(int status, const char *code, const char *text, enum dialect dialect, struct buf *out)
{
	const struct row *like = row_like(status);
	struct words words = { status,          code,           like->openai, like->google,
			       like->anthropic, slice_of(text), SLICE_NONE,   SLICE_NONE };

	return put_body(&words, dialect, out);
}

/* OpenAI's SDKs raise their error for an `error` member; other readers of /v1/responses look at type, code, message. */
static void put_responses_event(const struct words *w, struct buf *out)
{
	put(out, "event: error\ndata: {\"type\":\"error\",\"code\":");
	buf_append_json(out, slice_of(w->code));
	put(out, ",\"message\":");
	put_message(w, out);
	put(out, ",\"param\":null,\"sequence_number\":0,\"error\":");
	put_openai(w, out);
	put(out, "}\n\n");
}

/* Google puts an error into a stream as bare JSON without "data:", and that alone is what its SDKs raise an error for; to
 * other readers it is a line of no meaning, and the end that follows tells them. */
void refusal_write_event(enum refusal refusal, enum dialect dialect, bool responses, struct slice detail,
			 struct slice request_id, struct buf *out)
{
	struct words words = words_of(refusal, detail, request_id);

	if (dialect == DIALECT_openai && responses) {
		put_responses_event(&words, out);
		return;
	}
	if (dialect != DIALECT_gemini)
		put(out, dialect == DIALECT_openai ? "data: " : "event: error\ndata: ");
	(void)put_body(&words, dialect, out);
	put(out, dialect == DIALECT_gemini ? "\r\n\r\n" : "\n\n");
}

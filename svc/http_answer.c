/* The head of an answer, and the answers to requests that never reach a handler. */
#include "svc/http_internal.h"

#include "lib/bytes.h"
#include "lib/clock.h"

#include <time.h>

/* Room that is made at once: a usual head, and a small body behind it, so that neither grows the buffer again. */
enum { FAULT_BODY_MAX = 64 * 1024, HEAD_ROOM = 1024, BODY_ROOM = 8 * 1024 };

static struct slice reason_of(int status)
{
	/* clang-format off */
	static const struct {
		int status;
		struct slice reason;
	} reasons[] = { /* RFC 9110 section 15, and RFC 6585 */
		{ 200, { "OK", 2 } },
		{ 201, { "Created", 7 } },
		{ 202, { "Accepted", 8 } },
		{ 204, { "No Content", 10 } },
		{ 206, { "Partial Content", 15 } },
		{ 304, { "Not Modified", 12 } },
		{ 400, { "Bad Request", 11 } },
		{ 401, { "Unauthorized", 12 } },
		{ 402, { "Payment Required", 16 } },
		{ 403, { "Forbidden", 9 } },
		{ 404, { "Not Found", 9 } },
		{ 405, { "Method Not Allowed", 18 } },
		{ 408, { "Request Timeout", 15 } },
		{ 409, { "Conflict", 8 } },
		{ 410, { "Gone", 4 } },
		{ 411, { "Length Required", 15 } },
		{ 412, { "Precondition Failed", 19 } },
		{ 413, { "Content Too Large", 17 } },
		{ 414, { "URI Too Long", 12 } },
		{ 415, { "Unsupported Media Type", 22 } },
		{ 417, { "Expectation Failed", 18 } },
		{ 422, { "Unprocessable Content", 21 } },
		{ 424, { "Failed Dependency", 17 } },
		{ 429, { "Too Many Requests", 17 } },
		{ 431, { "Request Header Fields Too Large", 31 } },
		{ 500, { "Internal Server Error", 21 } },
		{ 501, { "Not Implemented", 15 } },
		{ 502, { "Bad Gateway", 11 } },
		{ 503, { "Service Unavailable", 19 } },
		{ 504, { "Gateway Timeout", 15 } },
		{ 505, { "HTTP Version Not Supported", 26 } },
	};
	/* clang-format on */
	for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++) {
		if (reasons[i].status == status)
			return reasons[i].reason;
	}
	return SLICE_NONE; /* the reason is optional (RFC 9112 section 4), its space is not */
}

/* IMF-fixdate (RFC 9110 section 5.6.7), written once a second. */
static struct slice date_of(struct http_server *s)
{
	time_t second = (time_t)(clock_unix() / CLOCK_SECOND);
	if (second != s->date_second || s->date[0] == '\0') {
		static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
		static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
						  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
		struct tm utc;
		CHECK(gmtime_r(&second, &utc) != NULL);
		struct buf text;
		buf_init(&text, sizeof(s->date) - 1);
		bool fits = buf_format(&text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[utc.tm_wday], utc.tm_mday,
				       months[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
		CHECK(fits);
		memcpy(s->date, text.data, text.len);
		s->date[text.len] = '\0';
		s->date_second = second;
		buf_free(&text);
	}
	return slice_of(s->date);
}

/* A line break in a value would be another field, or another answer. */
static void check_field(const struct http_field *field)
{
	static const struct slice ours[] = {
		{ "date", 4 }, { "connection", 10 }, { "content-length", 14 }, { "transfer-encoding", 17 }
	};
	CHECK(field->name.len > 0 && bytes_all(field->name, BYTES_TOKEN) && bytes_all(field->value, BYTES_FIELD));
	for (size_t i = 0; i < ARRAY_LENGTH(ours); i++)
		CHECK(!slice_equal_nocase(field->name, ours[i]));
}

static void put_field(struct buf *out, struct slice name, struct slice value)
{
	buf_append(out, name);
	buf_append(out, SLICE(": "));
	buf_append(out, value);
	buf_append(out, SLICE("\r\n"));
}

/* How the body's end will be known (RFC 9112 section 6.3), and the fields that say so. */
static void put_framing(struct exchange *e, const struct http_answer *answer, struct buf *out)
{
	bool bodiless = answer->status == 204 || answer->status == 304;
	bool is_head = e->block != NULL && e->request.head.method == HTTP_HEAD;
	e->output_left = answer->content_length;
	if (answer->content_length >= 0 && !bodiless) {
		buf_append(out, SLICE("Content-Length: "));
		buf_append_int(out, answer->content_length);
		buf_append(out, SLICE("\r\n"));
	}
	if (bodiless || is_head) {
		e->output = OUTPUT_NO_BODY;
	} else if (answer->content_length >= 0) {
		e->output = OUTPUT_LENGTH;
	} else if (e->request.head.minor_version == 1) {
		e->output = OUTPUT_CHUNKED;
		put_field(out, SLICE("Transfer-Encoding"), SLICE("chunked"));
	} else {
		e->output = OUTPUT_UNTIL_CLOSE;
		e->keep_alive = false;
		http_end_by_reset(e->connection, true);
	}
}

void http_put_head(struct exchange *e, const struct http_answer *answer)
{
	struct connection *c = e->connection;
	struct http_server *s = c->server;
	struct buf *out = &c->output;
	size_t before = out->len;
	CHECK(answer->status >= 200 && answer->status <= 599);
	CHECK(buf_reserve(out, HEAD_ROOM + (answer->content_length > 0 && answer->content_length <= BODY_ROOM
						    ? (size_t)answer->content_length
						    : 0)));
	buf_append(out, SLICE("HTTP/1.1 "));
	buf_append_int(out, answer->status);
	buf_append_byte(out, ' ');
	buf_append(out, reason_of(answer->status));
	buf_append(out, SLICE("\r\n"));
	put_field(out, SLICE("Date"), date_of(s));
	if (s->options.server_name != NULL)
		put_field(out, SLICE("Server"), slice_of(s->options.server_name));
	for (size_t i = 0; i < answer->fields_count; i++) {
		check_field(&answer->fields[i]);
		put_field(out, answer->fields[i].name, answer->fields[i].value);
	}
	put_framing(e, answer, out);
	if (!e->keep_alive)
		put_field(out, SLICE("Connection"), SLICE("close"));
	else if (e->request.head.minor_version == 0)
		put_field(out, SLICE("Connection"), SLICE("keep-alive"));
	buf_append(out, SLICE("\r\n"));
	CHECK(!out->overflowed);
	s->stats.buffered += out->len - before;
}

#define FAULT_ROW(name, status, text) { #name, status, text },
static const struct {
	const char *code;
	int status;
	const char *text;
} faults[HTTP_FAULT_COUNT] = { HTTP_FAULTS(FAULT_ROW) };
#undef FAULT_ROW

const char *http_fault_code(enum http_fault fault)
{
	return faults[fault].code;
}

int http_fault_status(enum http_fault fault)
{
	return faults[fault].status;
}

const char *http_fault_text(enum http_fault fault)
{
	return faults[fault].text;
}

static void put_fault(struct exchange *e, enum http_fault fault)
{
	struct http_server *s = e->connection->server;
	struct slice media_type = SLICE_NONE;
	struct buf body;
	buf_init(&body, FAULT_BODY_MAX);
	/* A head that failed in the grammar has no target that could be trusted. */
	s->handler->malformed(s->arg, fault, e->request.head.target, &body, &media_type);
	struct http_field type = { SLICE("Content-Type"), media_type };
	struct http_answer answer = { .status = faults[fault].status,
				      .fields = &type,
				      .fields_count = media_type.len > 0 };
	answer.content_length = (int64_t)body.len;
	http_put_head(e, &answer);
	if (e->output == OUTPUT_LENGTH)
		http_put(e->connection, buf_slice(&body));
	buf_free(&body);
}

void http_refuse(struct exchange *e, enum http_fault fault)
{
	struct connection *c = e->connection;
	struct http_server *s = c->server;
	s->stats.faults[fault]++;
	http_deadline_clear(&c->wait);
	c->input = INPUT_BROKEN;
	e->keep_alive = false;
	http_defer_work(c);
	if (e->owned) {
		s->handler->broken(e, e->owner, fault);
		return;
	}
	if (e->output == OUTPUT_NONE)
		put_fault(e, fault);
	e->clean = true;
	e->ended = true;
}

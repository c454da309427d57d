/* One answer's head: libcurl hands it over line by line, interim heads and trailers included; the receiver gets one
 * final head, bounded, without control characters, and only when its framing can be read in one way.
 *
 *   status line ─► fields … ─► empty line ─┬─ 1xx: forget it, wait for the next
 *                                          ├─ 101, two lengths, odd coding: garbage
 *                                          └─ 200..599: receiver.head; lines from here on are trailers: dropped
 *
 * libcurl itself reads the framing (RFC 9112, section 6); what it would take leniently is refused here, since the next
 * hop might read it in the other way. */
#include "lib/pool_internal.h"

#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/text.h"

static bool garbage(struct transfer *t, const char *detail)
{
	pool_outcome_judge(t, POOL_GARBAGE, detail);
	return false;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK", "HTTP/2 200". */
static bool status_line(struct transfer *t, struct slice line)
{
	struct slice rest, version = slice_cut(line, ' ', &rest);
	if (!slice_starts(version, SLICE("HTTP/")) || rest.len < 3 || (rest.len > 3 && rest.data[3] != ' '))
		return garbage(t, "malformed status line");
	for (size_t i = 0; i < 3; i++)
		if (!is_digit(rest.data[i]))
			return garbage(t, "malformed status line");
	t->status = (rest.data[0] - '0') * 100 + (rest.data[1] - '0') * 10 + (rest.data[2] - '0');
	if (t->status < 100 || t->status > 599 || t->status == 101)
		return garbage(t, t->status == 101 ? "switching protocols was not asked for" : "status out of range");
	t->multiplexed = slice_starts(version, SLICE("HTTP/2"));
	if (t->multiplexed && !t->pool->two)
		return garbage(t, "HTTP/2 was not asked for");
	if (t->status >= 200 && !t->head_began) {
		int64_t now = clock_now();
		t->head_began = true;
		t->result.first_byte = now - t->slot_at;
		t->idle_deadline = now + t->idle_timeout;
		pool_transfer_watch(t);
	}
	buf_clear(&t->handle->head);
	return true;
}

static bool split_field(struct slice line, struct pool_field *field)
{
	struct slice value;
	size_t colon = slice_find(line, ':');
	if (colon == line.len)
		return false;
	field->name = slice_cut(line, ':', &value);
	field->value = slice_trim(value);
	return text_is_token(field->name) && bytes_all(field->value, BYTES_FIELD);
}

static bool has_no_body(const struct transfer *t)
{
	return t->status == 204 || t->status == 304 || strcmp(t->method, "HEAD") == 0;
}

/* RFC 9112, section 6.3: one length, or one coding, never both, never two that differ. */
static bool read_framing(struct transfer *t, const struct pool_field *fields, size_t count)
{
	int64_t length = -1;
	bool coded = false;
	for (size_t i = 0; i < count; i++) {
		if (slice_equal_nocase(fields[i].name, SLICE("content-length"))) {
			int64_t said;
			if (!text_int(fields[i].value, &said) || said < 0 || (length >= 0 && length != said))
				return garbage(t, "contradictory or malformed Content-Length");
			length = said;
		} else if (slice_equal_nocase(fields[i].name, SLICE("transfer-encoding"))) {
			if (coded || !slice_equal_nocase(fields[i].value, SLICE("chunked")))
				return garbage(t, "a transfer coding other than chunked");
			coded = true;
		}
	}
	if (coded && length >= 0)
		return garbage(t, "both Content-Length and Transfer-Encoding");
	t->content_length = has_no_body(t) ? -1 : length;
	if (!coded && length < 0 && !has_no_body(t) && !t->multiplexed)
		pool_trust_watch_end(t);
	return true;
}

static bool deliver(struct transfer *t)
{
	struct pool_field fields[POOL_FIELDS_MAX];
	struct pool_head head = { .status = t->status, .fields = fields };
	struct slice left = buf_slice(&t->handle->head);
	while (left.len > 0) {
		struct slice line = slice_cut(left, '\n', &left);
		if (head.fields_count == POOL_FIELDS_MAX)
			return garbage(t, "too many fields in the head");
		if (!split_field(line, &fields[head.fields_count++]))
			return garbage(t, "malformed field in the head");
	}
	if (!read_framing(t, fields, head.fields_count))
		return false;
	t->head_done = true;
	t->receiver.head(t, t->arg, &head);
	return !t->silenced;
}

bool pool_head_line(struct transfer *t, struct slice line)
{
	if (t->silenced)
		return false;
	if (t->head_done)
		return true; /* a trailer */
	if (line.len > 0 && line.data[line.len - 1] == '\n')
		line.len--;
	if (line.len > 0 && line.data[line.len - 1] == '\r')
		line.len--;
	if (slice_starts(line, SLICE("HTTP/")) && buf_slice(&t->handle->head).len == 0)
		return status_line(t, line);
	if (t->status == 0)
		return garbage(t, "a field before the status line");
	if (line.len > 0)
		return (buf_append(&t->handle->head, line) && buf_append_byte(&t->handle->head, '\n')) ||
		       garbage(t, "head too large");
	if (t->status >= 200)
		return deliver(t);
	t->status = 0;
	buf_clear(&t->handle->head);
	return true;
}

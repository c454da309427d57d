/* The scan, and llhttp behind it. llhttp 8 is built in strict mode; llhttp 9 has no modes, only leniency by flags, and none
 * is given. Both are looser than the rules (several spaces after the method, "#" in a target): http_head judges that. */
#include "svc/http_parse.h"

#include "lib/bytes.h"

#include <llhttp.h>

_Static_assert(HTTP_TARGET_MAX + 64 < HTTP_HEAD_MAX, "the first line's limit comes first");

/* Longer than any method and version around a target of the greatest length: what passes it has too long a target. */
#define FIRST_LINE_MAX (HTTP_TARGET_MAX + 32)

_Static_assert(sizeof(llhttp_t) <= sizeof(((struct http_parse *)0)->machine), "llhttp's state grew");

static llhttp_t *machine_of(struct http_parse *p)
{
	return (llhttp_t *)(void *)p->machine;
}

static void extend(struct http_parse *p, struct http_span *span, const char *at, size_t len)
{
	if (span->len == 0)
		span->at = (uint16_t)(at - p->base);
	span->len = (uint16_t)(span->len + len);
}

static int on_url(llhttp_t *machine, const char *at, size_t len)
{
	struct http_parse *p = machine->data;
	extend(p, &p->target, at, len);
	return 0;
}

static int on_field(llhttp_t *machine, const char *at, size_t len)
{
	struct http_parse *p = machine->data;
	if (!p->in_name) {
		CHECK(p->fields_count < HTTP_FIELDS_MAX); /* the scan counts lines */
		p->fields_count++;
		p->in_name = true;
	}
	extend(p, &p->names[p->fields_count - 1], at, len);
	return 0;
}

static int on_field_complete(llhttp_t *machine)
{
	struct http_parse *p = machine->data;
	p->in_name = false;
	return 0;
}

static int on_value(llhttp_t *machine, const char *at, size_t len)
{
	struct http_parse *p = machine->data;
	if (p->fields_count > 0)
		extend(p, &p->values[p->fields_count - 1], at, len);
	return 0;
}

static int on_headers_complete(llhttp_t *machine)
{
	struct http_parse *p = machine->data;
	p->complete = true;
	return HPE_PAUSED; /* the body is not llhttp's */
}

static const llhttp_settings_t settings = {
	.on_url = on_url,
	.on_header_field = on_field,
	.on_header_field_complete = on_field_complete,
	.on_header_value = on_value,
	.on_headers_complete = on_headers_complete,
};

void http_parse_init(struct http_parse *p)
{
	memset(p, 0, offsetof(struct http_parse, names));
	memset(p->names, 0, sizeof(p->names) + sizeof(p->values));
	llhttp_init(machine_of(p), HTTP_REQUEST, &settings);
	machine_of(p)->data = p;
}

/* A line has ended just before `next`. True: it was the empty one behind the fields. */
static bool end_line(struct http_parse *p, size_t next, bool *malformed)
{
	bool blank = next - p->line_start == 2;
	p->line_start = next;
	if (blank && p->lines == 0) { /* RFC 9112 section 2.2: one empty line before the request line is passed over */
		*malformed = p->start != 0;
		p->start = next;
		return false;
	}
	p->lines++;
	return blank;
}

static bool limit_passed(const struct http_parse *p, size_t at, char byte, enum http_fault *fault)
{
	if (p->lines == 0 && at - p->start >= FIRST_LINE_MAX) {
		*fault = HTTP_FAULT_target_too_long;
		return true;
	}
	*fault = HTTP_FAULT_head_too_large;
	bool another = p->lines > HTTP_FIELDS_MAX && at == p->line_start && byte != '\r';
	return another || at >= HTTP_HEAD_MAX;
}

/* Where the run ends that only its length can make bad: inside a line, up to the nearest limit. */
static size_t pass_run(const struct http_parse *p, struct slice bytes, size_t at)
{
	size_t most = p->lines == 0 ? p->start + FIRST_LINE_MAX : HTTP_HEAD_MAX;
	if (p->after_return || at == p->line_start || at >= most)
		return at;
	return at + bytes_prefix(slice_first(slice_skip(bytes, at), most - at), BYTES_FIELD);
}

/* Walks on from p->fed. Leaves in *stop how far the bytes are good. */
static enum http_parse_result scan(struct http_parse *p, struct slice bytes, size_t *stop, enum http_fault *fault)
{
	for (size_t at = p->fed; at < bytes.len; at++) {
		at = pass_run(p, bytes, at);
		if (at == bytes.len)
			break;
		unsigned char byte = (unsigned char)bytes.data[at];
		*stop = at;
		if (limit_passed(p, at, bytes.data[at], fault))
			return HTTP_PARSE_FAULT;
		*fault = HTTP_FAULT_malformed;
		if (p->after_return) {
			bool malformed = byte != '\n';
			p->after_return = false;
			if (!malformed && end_line(p, at + 1, &malformed)) {
				*stop = at + 1;
				return HTTP_PARSE_DONE;
			}
			if (malformed)
				return HTTP_PARSE_FAULT;
		} else if (byte == '\r') {
			p->after_return = true;
		} else if (byte <= ' ' || byte == 0x7f) {
			return HTTP_PARSE_FAULT; /* a control, a bare LF, or a folded line: other blanks are of a run */
		}
	}
	*stop = bytes.len;
	return HTTP_PARSE_MORE;
}

static enum http_fault fault_of(struct http_parse *p, int error)
{
	const char *at = llhttp_get_error_pos(machine_of(p));
	switch (error) {
	case HPE_INVALID_METHOD:
		return at != NULL && bytes_is(*at, BYTES_TOKEN) ? HTTP_FAULT_unknown_method : HTTP_FAULT_malformed;
	case HPE_INVALID_VERSION:
		return HTTP_FAULT_bad_version;
	case HPE_UNEXPECTED_CONTENT_LENGTH:
	case HPE_INVALID_CONTENT_LENGTH:
	case HPE_INVALID_TRANSFER_ENCODING:
		return HTTP_FAULT_bad_framing;
	default:
		return HTTP_FAULT_malformed;
	}
}

enum http_parse_result http_parse_feed(struct http_parse *p, struct slice bytes, enum http_fault *fault)
{
	size_t stop = p->fed;
	enum http_parse_result result = scan(p, bytes, &stop, fault);
	p->base = bytes.data;
	int error = stop > p->fed ? (int)llhttp_execute(machine_of(p), bytes.data + p->fed, stop - p->fed) : HPE_OK;
	p->fed = stop;
	if (error != HPE_OK && !p->complete) {
		*fault = fault_of(p, error);
		return HTTP_PARSE_FAULT;
	}
	if (p->complete != (result == HTTP_PARSE_DONE)) {
		*fault = HTTP_FAULT_malformed;
		return HTTP_PARSE_FAULT;
	}
	return result;
}

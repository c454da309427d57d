/* The grammar of a request's head: llhttp, behind a scan of our own that it never sees past.
 *
 *   bytes ──► scan: CRLF only, no control, no fold, limits ──► llhttp (strict) ──► spans of names and values
 *
 * The scan decides by position alone, and llhttp is fed exactly what the scan has passed, so that the verdict does not
 * depend on how the bytes were split into reads. What stands in the fields is judged in http_head.
 * llhttp stays inside http_parse.c: its names (HTTP_GET …) would clash with ours. */
#ifndef SLUICE_HTTP_PARSE_H
#define SLUICE_HTTP_PARSE_H

#include "lib/base.h"
#include "lib/slice.h"
#include "svc/http_fault.h"

struct http_span {
	uint16_t at, len; /* from the first byte of the head; a head is at most 32 KiB */
};

/* Embedded in an exchange. `fed` bytes are parsed; the bytes themselves belong to the caller and may move between calls. */
struct http_parse {
	uint64_t machine[16]; /* llhttp's state */
	const char *base;     /* during http_parse_feed alone */
	size_t fed, start;    /* start: where the request line begins, behind at most one empty line */
	size_t line_start;
	unsigned lines, fields_count;
	bool after_return, complete, in_name;
	struct http_span target, names[HTTP_FIELDS_MAX], values[HTTP_FIELDS_MAX];
};

enum http_parse_result { HTTP_PARSE_MORE, HTTP_PARSE_DONE, HTTP_PARSE_FAULT };

void http_parse_init(struct http_parse *);
/* `bytes` is the head from its first byte on; what was fed before is not looked at again. DONE: the head ends at `fed`, and what
 * follows is the body's. FAULT: *fault says which; the parse is over. */
enum http_parse_result http_parse_feed(struct http_parse *, struct slice bytes, enum http_fault *fault) MUST_CHECK;

#endif

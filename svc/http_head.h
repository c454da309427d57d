/* The rules over the grammar: which request heads are taken, and what they say (RFC 9110, 9112). */
#ifndef SLUICE_HTTP_HEAD_H
#define SLUICE_HTTP_HEAD_H

#include "lib/base.h"
#include "svc/http.h"
#include "svc/http_parse.h"

struct http_request_head {
	struct http_head head;
	bool keep_alive;       /* the client would keep the connection */
	bool expects_continue; /* it waits for 100 before its body */
};

/* Judges a parsed head whose bytes are at `bytes` (parse->fed of them); the slices point into them. `fields` has room for
 * parse->fields_count. False: *fault says why. The target is set as far as it was understood. */
bool http_head_judge(const struct http_parse *, const char *bytes, struct http_field *fields,
		     struct http_request_head *, enum http_fault *fault) MUST_CHECK;

/* uri-host [ ":" port ] of RFC 9110 section 7.2, not empty, without IPvFuture. */
bool http_host_is_valid(struct slice);

#endif

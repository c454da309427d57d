/* Which header fields pass, in both directions. Towards an upstream only those of a list; towards the client all but those of another.
 *
 * Why two rules: what a client sends may hold secrets that the provider must not see; what the provider answers belongs to the client, but for its
 * own account's limits, cookies and the fields that speak of one connection. */
#ifndef SLUICE_FIELDS_H
#define SLUICE_FIELDS_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/mem.h"
#include "lib/pool.h"
#include "lib/slice.h"
#include "svc/config.h"
#include "svc/http.h"

/* The fields of the request to `upstream`: those of the list and of its forward_headers, its credential, Via, and Accept-Encoding: identity. Values with a
 * control character are left out. NULL: the arena is full. */
const struct pool_field *fields_to_upstream(const struct http_head *, const struct config_upstream *, struct mem *,
					    size_t *count) MUST_CHECK;

/* Whether a field of the request goes to that upstream and may change what it answers: not who asks, with which program, how fresh, or under which trace. In
 * the dialects of models the media types do not, either, nor for the how-manieth time it is tried; any other API may be asked to do something twice. */
bool fields_change_meaning(const struct http_head *, const struct config_upstream *,
			   const struct http_field *) MUST_CHECK;
/* Whether a field of that name may go to an upstream though it never counts above: an answer that varies by it is for one request alone. */
bool fields_never_count(struct slice name) MUST_CHECK;

/* What passes of the upstream's answer, copied into the arena with `room` empty places behind it for the gateway's own. */
struct fields_answer {
	struct http_field *fields;
	size_t count, capacity;
	int64_t content_length; /* as the upstream says; -1: it does not, or not as a number */
	struct slice content_type;
	int64_t retry_after; /* microseconds, at most a year, from retry-after-ms, else Retry-After (seconds or a date); -1: absent */
};
/* False: the arena is full. */
bool fields_to_client(const struct pool_head *, struct mem *, size_t room, struct fields_answer *) MUST_CHECK;
bool fields_pass_to_client(struct slice name) MUST_CHECK; /* whatever the answer's Connection says */
/* How long it is until a date (RFC 9110 section 5.6.7): microseconds, at most a year; 0: it is past; -1: it is none. */
int64_t fields_until(struct slice value);
/* The value of Age (RFC 9111 sections 5.1 and 1.2.2): microseconds, at most 2^31 seconds; 0: it is none. */
int64_t fields_age(struct slice value);

/* The head of an answer as text, for who gets the answer later or elsewhere, and back into an arena as fields_to_client does. `length`: what is promised of the
 * body; -1: nothing. False: no room; what was read is of no form that this program writes. */
bool fields_pack(const struct fields_answer *, int status, int64_t length, struct buf *out) MUST_CHECK;
bool fields_unpack(struct slice text, struct mem *, size_t room, struct fields_answer *, int *status) MUST_CHECK;

#endif

/* One request through the parser, the rules and the chunked coding, without sockets: what the server would understand. */
#ifndef SLUICE_TEST_HTTP_MESSAGE_H
#define SLUICE_TEST_HTTP_MESSAGE_H

#include "lib/base.h"
#include "svc/http_head.h"

enum http_verdict { HTTP_VERDICT_UNFINISHED, HTTP_VERDICT_TAKEN, HTTP_VERDICT_REFUSED };

struct http_message {
	enum http_verdict verdict;
	enum http_fault fault;
	char method[16], target[HTTP_TARGET_MAX + 1];
	size_t fields, body_len, used; /* used: bytes of the request */
	uint64_t body_hash;
};

/* Gives `bytes` in pieces: the first cut, then the second, then the rest. 0 and 0: whole. step > 0: that many at a time instead. */
void http_message_read(struct http_message *, struct slice bytes, size_t first_cut, size_t second_cut, size_t step);
uint64_t http_message_hash(uint64_t before, struct slice bytes); /* start with 0 */

#endif

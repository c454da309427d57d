/* The head of an answer: status line and the fields that the provider sends. */
#ifndef SIM_HEAD_H
#define SIM_HEAD_H

#include "sim.h"

struct buf;

struct head {
	int status;
	const char *content_type;
	int64_t length; /* -1: chunked */
	bool gzip, close;
	struct slice more;                 /* whole lines with CRLF */
	const struct limits_state *limits; /* NULL: no rate-limit fields */
};

void head_put(struct sim *, const struct ask *, const struct head *, struct buf *);

#endif

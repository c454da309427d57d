/* What llhttp alone understands of one request, leniency off: the second opinion on ours. In a file of its own because
 * its names clash with those of svc/http.h. */
#ifndef SLUICE_TEST_HTTP_ORACLE_H
#define SLUICE_TEST_HTTP_ORACLE_H

#include "lib/base.h"
#include "lib/slice.h"

struct http_oracle {
	bool taken; /* one whole request, and nothing behind it */
	const char *method;
	char target[16384];
	size_t target_len, fields, body_len;
	uint64_t body_hash;
};

void http_oracle_read(struct http_oracle *, struct slice bytes);

#endif

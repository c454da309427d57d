/* Errors in the providers' own words: bodies, and the fields that tell a client when to come back. */
#ifndef SIM_REFUSAL_H
#define SIM_REFUSAL_H

#include "ask.h"

struct buf;

enum refusal {
	REFUSAL_NO_KEY,
	REFUSAL_BAD_KEY,
	REFUSAL_NO_VERSION, /* Anthropic's anthropic-version */
	REFUSAL_NO_PATH,
	REFUSAL_METHOD,
	REFUSAL_NOT_JSON,
	REFUSAL_NO_MODEL,
	REFUSAL_NO_MESSAGES,
	REFUSAL_NO_MAXIMUM,
	REFUSAL_UNKNOWN_MODEL,
	REFUSAL_TOO_LARGE,
	REFUSAL_RPM, /* the simulator's own limits */
	REFUSAL_TPM,
	REFUSAL_CONCURRENCY,
	REFUSAL_QUOTA_MINUTE, /* the quotas that the behaviour asks for, in the order of enum quota */
	REFUSAL_QUOTA_DAY,
	REFUSAL_QUOTA_CREDIT,
	REFUSAL_STATUS, /* whatever status the behaviour asks for */
};

struct refusal_facts {
	enum refusal why;
	int status;                /* for REFUSAL_STATUS */
	struct slice method, path; /* for REFUSAL_NO_PATH; Google's method for the unknown model */
	struct slice key;          /* what came, for OpenAI's text */
	int64_t retry;             /* microseconds, -1: none */
	int64_t limit, used;       /* of the limit that refused */
	int64_t reset;             /* of a quota that the behaviour asks for: microseconds until it is given anew */
};

int refusal_status(const struct ask *, const struct refusal_facts *);
void refusal_body(const struct ask *, const struct refusal_facts *, struct buf *);
void refusal_retry_fields(int64_t retry, bool fine, struct buf *); /* fine: retry-after-ms in any case */
void refusal_fields(const struct ask *, const struct refusal_facts *, struct buf *); /* whole lines with CRLF */

#endif

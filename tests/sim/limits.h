/* The simulated provider's own limits, per model: requests and tokens in any sliding minute, and calls at once. */
#ifndef SIM_LIMITS_H
#define SIM_LIMITS_H

#include "lib/base.h"
#include "lib/slice.h"

struct limits;
struct buf;

struct limits_rates {
	int64_t rpm, tpm, concurrency; /* 0: none */
};

enum limits_verdict { LIMITS_FINE, LIMITS_RPM, LIMITS_TPM, LIMITS_CONCURRENCY };

struct limits_state {
	enum limits_verdict verdict;
	struct limits_rates rates;
	int64_t requests, tokens; /* used in the last minute, this request included when it was admitted */
	int64_t retry;            /* microseconds until it would be admitted; -1: when another call ends */
	int64_t reset;            /* microseconds until the window is empty */
};

struct limits *limits_new(void);
void limits_free(struct limits **);
void limits_set(struct limits *, struct limits_rates); /* of every model; what was used stays */
void limits_forget(struct limits *);                   /* what was used */

/* Admits the request and charges `tokens`, or says what refused it and charges nothing. in_flight counts this request. */
struct limits_state limits_admit(struct limits *, struct slice model, int64_t tokens, int64_t in_flight);
/* Adds the tokens of the answer, now that they are known. */
void limits_charge(struct limits *, struct slice model, int64_t tokens);

#endif

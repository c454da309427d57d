/* One attempt at an upstream: what is sent, what it teaches about where it went, and what its end means.
 *
 *   attempt_choose ──► (its quota) ──► attempt_begin ──► attempt_head (an answer began) ──► attempt_over
 *
 * From the choice on it counts as in flight at its endpoint: those that arrive together, and wait for their quota, must not all see the same one idle. What it
 * came to is noted once: at the breaker, or with the ticket that it was given. */
#ifndef SLUICE_ATTEMPT_H
#define SLUICE_ATTEMPT_H

#include "svc/request.h"

/* Method, target, fields and body as the upstream gets them, in the request's arena; the times are the upstream's, and none is longer than the request has
 * left. False: the arena is full. */
bool attempt_write(struct request *, struct pool_request *) MUST_CHECK;

/* It will go where its route says; until another choice, attempt_unchoose or attempt_over. */
void attempt_choose(struct request *);
void attempt_unchoose(struct request *); /* nothing was chosen: fine */
/* Forgets the answer of the attempt before, and counts this one; the request's first one pays into the account. */
void attempt_begin(struct request *);
/* The status of an answer is there. */
void attempt_head(struct request *);
/* It has ended, or is given up now: whatever it came to is noted, counted and logged. Does nothing when none is under way. */
void attempt_over(struct request *);

/* Whether a status says that the upstream failed: what RFC 5861 section 4 calls an error, and the refusals of a provider that has too much to do. */
bool attempt_is_failure(int status) MUST_CHECK;
/* Whether the body of such an answer is to be heard before the client has any of it: it may say that the call would go well elsewhere. */
bool attempt_has_reason(const struct request *) MUST_CHECK;
/* What class of failure the attempt's end is: by what the provider said, by its status, or by how its transfer ended. Also sets tried.retry_after, and pauses the
 * target where the provider said when to come again. */
enum retry_class attempt_classify(struct request *);
/* Has the fleet leave this model of the endpoint alone for as long as the answer's head says, if it says so. */
void attempt_pause(struct request *);

/* Why a transfer that ended so brought no whole answer; none for POOL_DONE. */
enum refusal attempt_refusal(enum pool_outcome);

#endif

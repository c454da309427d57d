/* One attempt at an upstream: what is sent, and what its end means. */
#ifndef SLUICE_ATTEMPT_H
#define SLUICE_ATTEMPT_H

#include "svc/request.h"

/* Method, target, fields and body as the upstream gets them, in the request's arena; the times are the upstream's. Needs the exchange. False: the arena is
 * full. */
bool attempt_write(struct request *, struct pool_request *) MUST_CHECK;

/* Why a transfer that ended so brought no whole answer; none for POOL_DONE. */
enum refusal attempt_refusal(enum pool_outcome);

#endif

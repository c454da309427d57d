/* Whether a call that failed is made again, when, and for whose account. Pure: no clock, no loop, nothing shared; randomness is given.
 *
 *   class      tells                                        delay                                        where
 *   LIMITED    429                                          base · 2^n up to cap, full jitter            another target first
 *   EXHAUSTED  429 for a quota of a day                     none here: benched until its reset           another target only
 *   BUSY       500 502 503 504 529, time-outs               timeout_base · 2^n up to cap, full jitter    another endpoint first
 *   UNSENT     connect, TLS, a connection that died unused  none                                         another endpoint first
 *   UNSURE     reset after (a part of) it was sent          as BUSY, only if `resend` or it is safe      another endpoint first
 *   NEVER      all else: 400s, content policy, an answer that began
 *
 * Source of the delays: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter"). Of the budget: the retry ratio of Google's
 * Site Reliability Engineering, chapter 21 ("Handling Overload"): a call that is made again is paid from what first calls have paid in. */
#ifndef SLUICE_RETRY_H
#define SLUICE_RETRY_H

#include "lib/base.h"

struct retry_policy {
	int64_t attempts;     /* of one request, the first included; ≥ 1 */
	int64_t base, cap;    /* microseconds */
	int64_t timeout_base; /* microseconds */
	int64_t budget;       /* calls that are made again, in parts of 10,000 of the requests */
	bool resend;          /* also what may have been processed already */
};

enum retry_class { RETRY_NEVER, RETRY_UNSENT, RETRY_BUSY, RETRY_UNSURE, RETRY_LIMITED, RETRY_EXHAUSTED, RETRY_CLASSES };
const char *retry_class_name(enum retry_class); /* for metrics and logs: "never", "unsent", … */

/* How long to wait before the call is made for the `again`-th time more (from 1). `random` is uniform in all its bits. `retry_after`, what the provider
 * asked for, -1: nothing, only ever extends, by a moment of at most timeout_base and cap more: all who wait for it were told the same. `elsewhere`: at a target or
 * endpoint that has not failed this request, where there is nothing to wait for but, for BUSY and UNSURE, a moment of at most timeout_base that keeps many from
 * coming at once. Microseconds. */
int64_t retry_delay(const struct retry_policy *, enum retry_class, unsigned again, int64_t retry_after, bool elsewhere,
		    uint64_t random);
/* Of that, what the provider asked for and the moment more, without a back-off: for who has backed off already. 0: it asked for nothing. */
int64_t retry_wait(const struct retry_policy *, int64_t retry_after, uint64_t random);

/* What first calls have paid in. One per worker and upstream: each keeps to its share of its own requests, so the fleet keeps to it of all, without asking
 * anybody. It holds RETRY_BUDGET_MOST calls at most, so that a quiet hour does not pay for a storm.
 * Disadvantage: a worker that has just begun has nothing; at 20 % its fifth request pays for the first repetition. */
enum { RETRY_BUDGET_MOST = 30 };
struct retry_budget {
	int64_t held; /* in parts of 10,000 of a call; 0 at birth */
};
void retry_budget_earn(struct retry_budget *, const struct retry_policy *); /* a request made its first call */
bool retry_budget_spend(struct retry_budget *) MUST_CHECK;                  /* false: it is used up */

#endif

/* How many connections a workload needs: the arithmetic of `sluice pool-size`. Callers and servers, as the theory of queues has it: a connection serves one call
 * at a time (over HTTP/2 each of its streams does).
 *
 * In flight on average are rate × response time calls, whatever their distribution (Little, "A proof for the queuing formula L = λW", Operations Research 9,
 * 1961). So many connections are always in use: they are kept warm. How many more are seldom too few is Erlang's delay formula ("Erlang C", 1917), for calls that come at
 * random (Poisson) and are answered after times that are exponential; its answer is mean + β × √mean for large means (Halfin and Whitt, "Heavy-traffic
 * limits for queues with many exponential servers", Operations Research 29, 1981). Disadvantages: answers whose times vary more than that wait more, and so do
 * calls that come in bursts. Both numbers are those of a steady load: take that of the busiest hour.
 *
 * A connection of HTTP/2 carries the calls of the worker that opened it, and no other's; in which worker a call is, is chance. So it takes as many connections as
 * carry the calls however they fall: the most where each worker but one has one call, and the last the others. */
#ifndef SLUICE_STAFFING_H
#define SLUICE_STAFFING_H

#include "lib/base.h"

#define STAFFING_WAITING 0.01  /* the share of calls that may find no free connection */
#define STAFFING_MOST    10000 /* connections of an instance: what `pool.max` allows */

/* All ≥ 1; durations in microseconds, response ≤ interval: a user has one call in flight at most. */
struct staffing_workload {
	int64_t users;
	int64_t response;               /* from a call's start to the end of its answer */
	int64_t interval;               /* from the start of a user's call to the start of his next */
	int64_t instances;              /* over which the load is spread evenly */
	int64_t streams_per_connection; /* 1: HTTP/1.1 */
	int64_t workers;                /* of an instance; with HTTP/2 a connection belongs to one of them */
};

struct staffing {
	double rate;    /* calls a second of all users */
	double offered; /* calls in flight on average, of all users */
	double share;   /* of that, one instance's */
	int64_t calls; /* at once, of an instance: the fewest with `waiting` ≤ STAFFING_WAITING; never more than users */
	double waiting;     /* the chance that a call finds all of them in use; 0 where there is one for each user */
	int64_t warm, most; /* connections of an instance; 1 ≤ warm ≤ most */
};

/* False: an instance would need more than STAFFING_MOST connections. */
bool staffing_of(const struct staffing_workload *, struct staffing *) MUST_CHECK;
/* Erlang C: the chance that a call has to wait where `offered` calls are in flight on average and `places` ≥ 1 can be. */
double staffing_waiting(double offered, int64_t places);

#endif

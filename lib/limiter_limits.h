/* What a limit means in numbers: charges, capacities, holds, all whole microseconds.
 *
 * The scripts only add and compare; every division is done here, once, in 128 bits and rounded up, so that no count
 * ever passes the bound and a model can agree to the microsecond. Rounding up costs at most 1 µs per charge: 1 % at
 * 10,000 charges a second on one limit, which is about all that its one Redis core can do.
 *
 *   bucket           T = W/limit, capacity T·burst
 *   strict requests  b = 1 + ⌊L/200⌋, T = max(⌈W/(L − b + 1)⌉, ⌊W/(0.99·L)⌋), capacity T·b: every half-open window
 *                    holds at most b + ⌈W/T⌉ − 1 ≤ L. Of the 1 % that is not used, half is the burst and half (all of
 *                    it below 200) a guard: the provider counts when calls arrive, not when Redis admitted them.
 *   strict tokens    a bucket of 5 % at the full rate, so that use is spread, before a log that is exact: the total
 *                    of every window is ≤ L
 *
 * Who is called in a line comes late by some milliseconds, and takes a credit of up to 1/400 of the period for it (limiter_wire.c): a half of the guard.
 *
 * Disadvantage: a strict request limit gives nothing back. In GCRA, a refund is exact only while the bucket would
 * not have been full without what is refunded; only a log can know, and for 1 % of burst it is not worth one. */
#ifndef SLUICE_LIMITER_LIMITS_H
#define SLUICE_LIMITER_LIMITS_H

#include "lib/limiter.h"

struct limiter_bucket {
	int64_t capacity; /* µs of backlog it holds */
	int64_t roof;     /* a debt never goes further: capacity + period */
};
struct limiter_log {
	int64_t hold;  /* how long an admission counts: the period and a thousandth of it as guard */
	int64_t width; /* of a slice; at most 101 of them live */
};

/* For every kind but concurrency; cost ≥ 0 and of any size: the result is cut at 2^50 µs (36 years), so that sums
 * stay exact in a double. */
int64_t limiter_limits_charge(const struct limit *, enum limit_kind, int64_t cost);
struct limiter_bucket limiter_limits_bucket(const struct limit *, enum limit_kind);
struct limiter_log limiter_limits_log(enum limit_kind);
bool limiter_limits_has_log(const struct limit *, enum limit_kind); /* strict tokens */
bool limiter_limits_refunds(const struct limit *, enum limit_kind); /* all but strict requests */
int64_t limiter_limits_most(const struct limit *, enum limit_kind); /* the largest cost that can ever be admitted */
int64_t limiter_limits_room(const struct limit *, enum limit_kind,
			    int64_t backlog); /* the largest cost that the bucket takes now */
int64_t limiter_limits_cost(const struct limit *, enum limit_kind,
			    int64_t microseconds); /* the count that a charge stands for, rounded down */

#endif

/* One scope's quotas as one worker may use them without Redis: its share of each limit, and what it has used of it.
 *
 * The shadow of Redis' bucket is the same bucket (GCRA, lib/limiter_limits.h) charged `of` times as much, where this worker is one of `of` that
 * live: the shares of all together are the limit, whoever is busy. It is kept warm: what Redis admitted for this worker is charged here too, so
 * that losing Redis gives no share again that was used already. Strict token limits are the smoothing bucket and a sum over 16 slices of the
 * period, which counts a slice until all of it is past: never more than the share in any window, and up to a sixteenth less.
 *
 *   A charge above the share of the burst (a burst of 1 and three workers; one large call) waits for a whole share and for its worker's turn: time is
 *   cut into slots as long as the charge (of tokens: at least so long), and the slots go round among the workers.
 *
 * So what all admit together in any time t is at most burst + rate · t while no charge is above the share; at most max(burst, 2) + rate · t for requests; and
 * for tokens, where large calls come between small ones, (workers + 1)/2 bursts + rate · t.
 *
 * What was admitted without Redis is owed to it as well, in Redis' own numbers, until somebody takes the debt along (lua/merge.lua).
 *
 * Plain data: no clock, no Redis. All times are clock_now's, microseconds. Disadvantage: a limit below the number of workers leaves some of them
 * without a place in `concurrency`, and a strict token limit without room for a call above its share. */
#ifndef SLUICE_LIMITER_SHADOW_H
#define SLUICE_LIMITER_SHADOW_H

#include "lib/limiter.h"
#include "lib/list.h"

enum { LIMITER_SHADOW_SLICES = 16, LIMITER_SHADOW_MOST = 4096 }; /* slices of a log; workers that are told apart */

/* This worker is the rank-th, from 0, of `of`, 1 to LIMITER_SHADOW_MOST. `ahead`: what a clock that all have in common (Redis') is before clock_now. */
struct limiter_share {
	int64_t of, rank, ahead;
};
/* What is asked for. `hold`: how long a call lasts on average, for the wait that a full concurrency limit answers. */
struct limiter_cost {
	int64_t requests, tokens, hold;
};

/* Those who wait, and all that they ask for. */
struct limiter_crowd {
	int64_t leases, requests, tokens;
};

struct limiter_shadow_log {
	int64_t newest; /* the number of the newest slice */
	int64_t used[LIMITER_SHADOW_SLICES], owed[LIMITER_SHADOW_SLICES];
};

struct merge;

/* Owner: the limiter's map, from the first admission on until nothing is left in it. */
struct limiter_shadow {
	struct list owing; /* in the limiter's list while something is owed */
	struct merge
		*merge;   /* of which Redis has been told, and has not answered yet (lib/limiter_merge.c); else NULL */
	int64_t merge_at; /* not sooner, for the last one failed; clock_now */
	struct {
		int64_t tat;  /* when the share is whole again */
		int64_t full; /* when it last was, before a charge */
		int64_t owed; /* charges in Redis' numbers */
	} bucket[LIMIT_COUNT];
	struct limiter_shadow_log *log[LIMIT_COUNT]; /* strict tokens; made by the first charge */
	struct limits limits;                        /* those of the last admission without Redis */
	struct list line;                            /* leases that wait for it (lib/limiter_wait.c), */
	struct limiter_crowd waiting;                /* and what they are together */
	struct list calling;                         /* in the limiter's list while the first of them is to be called */
	int64_t places;                              /* what runs under concurrency, admitted by whomever */
	unsigned leases;                             /* that point here */
	enum limiter_scope scope;
	size_t name_length;
	char name[];
};

struct limiter_shadow *limiter_shadow_new(enum limiter_scope, struct slice name);
void limiter_shadow_free(void *shadow);

/* How long until it fits, and which limit says so; 0: now, and *bound is left. `ahead`: who is served before it, NULL is nobody; behind them it is an estimate. */
int64_t limiter_shadow_wait(const struct limiter_shadow *, const struct limits *, const struct limiter_cost *,
			    const struct limiter_crowd *ahead, const struct limiter_share *, int64_t now,
			    enum limit_kind *bound);
int64_t limiter_shadow_part(int64_t count, const struct limiter_share *); /* the parts of all together are the count */
/* False: there are fewer places than workers, and this one has none; or it needs more tokens than this one's part of a strict limit. */
bool limiter_shadow_may_hold(const struct limit *, enum limit_kind, const struct limiter_cost *,
			     const struct limiter_share *);
bool limiter_shadow_ever_fits(const struct limits *, const struct limiter_cost *, const struct limiter_share *);
/* Takes it. `local`: without Redis, so it is owed; else Redis has admitted it, whether it fits here or not. */
void limiter_shadow_charge(struct limiter_shadow *, const struct limits *, const struct limiter_cost *,
			   const struct limiter_share *, bool local, int64_t now);
/* It ended: its place is free, and `used` stands instead of what was charged at `charged`. */
void limiter_shadow_correct(struct limiter_shadow *, const struct limits *, const struct limiter_cost *,
			    const struct limiter_cost *used, const struct limiter_share *, bool local, int64_t charged,
			    int64_t now);
bool limiter_shadow_is_idle(const struct limiter_shadow *, int64_t now); /* as good as a new one */

/* What is owed, to be told to Redis: charges for each bucket; for each log what its slices hold. */
struct limiter_debt {
	int64_t bucket[LIMIT_COUNT];
	struct limiter_debt_log {
		int64_t newest, owed[LIMITER_SHADOW_SLICES];
	} log[LIMIT_COUNT];
};
bool limiter_shadow_owes(const struct limiter_shadow *);
void limiter_shadow_take(struct limiter_shadow *, struct limiter_debt *);      /* nothing is owed any more */
void limiter_shadow_owe(struct limiter_shadow *, const struct limiter_debt *); /* it was not told after all */
int64_t limiter_shadow_slice(enum limit_kind);                                 /* how long a slice of its log is */

#endif

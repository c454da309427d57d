/* The line in front of one pool: whose call is next when a connection is free.
 *
 *   arrival ─► lane (high, medium, low) ─► tenant within the lane ─► first come, first served
 *
 * Between lanes: start-time fair queueing (Goyal, Vin and Cheng, "Start-time fair queuing", 1996), weights 5 : 3 : 1 unless others are given, one call is one unit. Each lane has the
 * tag at which its next call may start; the least tag is next, and the lane's tag moves on by 1 / weight. A lane that comes back begins at the tag of the call
 * served last: it is owed nothing for having been away, and no lane starves.
 * Within a lane all tenants weigh the same, and with one unit a call the rule comes down to rounds: each that waits has one call a round.
 *
 * A tenant with a bound of its own has a share of places (lib/pool_share.h). One whose places are all taken steps aside until it is granted one, and holds nobody up.
 * Disadvantage: a call that lasts a minute counts as much as one that lasts a second. */
#ifndef SLUICE_POOL_LINE_H
#define SLUICE_POOL_LINE_H

#include "lib/base.h"
#include "lib/lane.h"
#include "lib/list.h"
#include "lib/pool.h"
#include "lib/pool_share.h"
#include "lib/slice.h"

struct map;
struct pool_tenant;

/* One lane's calls of one tenant. In the lane's round, or in its next, while it has calls and its tenant has not stepped aside. */
struct pool_flow {
	struct pool_tenant *tenant;
	struct list calls; /* struct pool_call, first come first */
	struct list node;
	enum lane lane;
	uint64_t served; /* the round in which it last was; 0: never */
};

/* Embedded in a call; its node is alone, and flow NULL, while it is in no line. */
struct pool_call {
	struct list node;
	struct pool_flow *flow;
	struct pool_tenant *tenant; /* of the line that it was in last */
};

/* Of one pool. Lives while it has calls that wait or are counted, and a while longer. */
struct pool_tenant {
	struct pool_flow flows[LANES];
	struct pool_part part;     /* of its share; without a bound: of none */
	unsigned bound;            /* what it was last said to be; 0: none */
	unsigned waiting, running; /* running: those that hold a place */
	bool aside;                /* its places are all taken */
	bool kept;                 /* one that it was granted, and holds until its turn for a connection comes */
	bool stale;                /* idle when the pool last looked */
	struct list idle, granted;
	size_t name_length;
	char name[];
};

struct pool_line {
	struct pool_shares *shares;
	struct pool_ear *ear;
	const char *owner; /* pools of one owner share a tenant's places; borrowed */
	struct pool_line_lane {
		struct list round, next; /* struct pool_flow */
		uint64_t number;         /* of the round, from 1 */
		uint64_t tag;            /* its next call's start */
		uint64_t step;           /* from one call's start to the next one's: 1 / weight */
	} lanes[LANES];
	uint64_t now;            /* the tag of the call that was served last */
	unsigned waiting, ready; /* ready: those whose tenant has not stepped aside */
	struct map *tenants;     /* by name */
	struct list idle;        /* struct pool_tenant, those without calls */
	struct list granted;     /* the same, those that were granted a place since pool_line_settle */
};

void pool_line_init(struct pool_line *, struct pool_shares *, struct pool_ear *, const char *owner);
void pool_line_weigh(struct pool_line *, const int64_t weight[LANES]); /* all zero: 5, 3, 1 */
void pool_line_free(struct pool_line *);                               /* nobody may wait */

/* The tenant of that name, with that bound. Lives at least to the end of the turn. */
struct pool_tenant *pool_line_tenant(struct pool_line *, struct slice name, unsigned bound);
void pool_line_enter(struct pool_line *, struct pool_call *, struct pool_tenant *, enum lane);
/* The same, before all others of its tenant: it had its turn, and could not use it. */
void pool_line_return(struct pool_line *, struct pool_call *, struct pool_tenant *, enum lane);
void pool_line_leave(struct pool_line *, struct pool_call *); /* gives up; harmless where it does not wait */
/* Whose turn it is; it waits no more, and holds one of its tenant's places until pool_line_over. NULL: nobody who may go on. */
struct pool_call *pool_line_next(struct pool_line *);
void pool_line_over(struct pool_line *, struct pool_tenant *); /* a call that held a place has ended */
/* Takes a place for a call that does not stand in line. False: it must. */
bool pool_line_admit(struct pool_line *, struct pool_tenant *) MUST_CHECK;
/* This part of a tenant of the line was granted a place. */
void pool_line_granted(struct pool_line *, struct pool_part *);
/* Gives back what was granted and not used, for want of a connection: it is somebody's in another pool. But for one place, of a tenant that may have more than one:
 * with it the tenant's first call has its turn of the line, while the tenant's other pools have the rest. Without, where the tenant's calls elsewhere take every
 * place that is free, and others' calls every connection here, there would never be both at once. A tenant that may have but one is bounded so in fact. */
void pool_line_settle(struct pool_line *);
void pool_line_tidy(struct pool_line *);             /* forgets tenants that were idle the last time too */
struct pool_call *pool_line_any(struct pool_line *); /* one that waits; NULL: none */

#endif

/* What the limiter's files share: limiter.c admits, limiter_settle.c settles until it was answered, limiter_lease.c
 * renews, limiter_peek.c looks.
 *
 *   ASKED ──► HELD ──────────► SETTLING ──► gone       settle waits for nobody;
 *     │ └───► DOUBTFUL ──────────┘ ▲                   the caller's handle is nulled at once
 *     │ └───► REFUSED ──► gone     │
 *     └────────────────────────────┘  settled before the answer came */
#ifndef SLUICE_LIMITER_INTERNAL_H
#define SLUICE_LIMITER_INTERNAL_H

#include "lib/limiter.h"
#include "lib/limiter_wire.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/script.h"

enum lease_state {
	LEASE_ASKED,    /* admit is under way, or its answer waits for the end of the turn */
	LEASE_HELD,     /* admitted */
	LEASE_DOUBTFUL, /* no answer: it may have been admitted */
	LEASE_REFUSED,  /* surely not admitted, or nothing had to be: there is nothing to settle */
	LEASE_SETTLING,
};

/* Owner: the caller until limiter_settle, then the limiter until settle was answered. Between calls: linked into the
 * list of its state (held, or settling; else none); `call` is set while a script of its own is under way. */
struct lease {
	uint32_t magic;
	enum lease_state state;
	struct limiter *limiter;
	struct list node;
	struct limiter_ask ask;   /* its texts stand in `text`; limits are the caller's until settled, then `limits` */
	struct limits *limits;    /* copies, made by settle: repeats outlive a configuration */
	struct script_call *call; /* admit's or settle's */
	struct loop_deferred deferred; /* for an answer that needs no Redis */
	struct loop_timer timer;       /* the next try of settle */
	limiter_done *done;
	void *arg;
	struct limiter_answer local; /* what `deferred` will say */
	struct limiter_used used;
	int64_t sent;     /* when admit was sent, then when settle was first sent; clock_now */
	int64_t reserved; /* Redis' time, or LIMITER_WIRE_UNKNOWN */
	int64_t renewed;  /* since when we surely hold it; clock_now */
	unsigned tries;   /* of settle */
	bool again;       /* a settle of it may have run */
	bool trace;       /* something sent for it was never answered */
	bool lost;        /* slept past: not renewed any more */
	char text[];
};

struct limiter {
	uint32_t magic;
	struct loop *loop;
	struct redis *redis;
	struct log *log;
	struct limiter_options options;
	struct list held, settling;
	struct list renewals; /* calls under way */
	struct list peeks;    /* the same */
	struct loop_timer beat;
	int64_t hold; /* how long a lease is held, moving average over some 16 leases; µs */
	unsigned leases, held_count, settling_count;
	struct limiter_counts counts;
};

#define LIMITER_MAGIC UINT32_C(0x6c696d69)
#define LEASE_MAGIC   UINT32_C(0x6c656173)

/* limiter.c */
void lease_free(struct lease *);
bool lease_may_have_run(const struct redis_answer *);

/* limiter_settle.c: takes the lease over; sends, and repeats until answered. */
void lease_settle(struct lease *);
void lease_settle_again(void *arg); /* the timer's; arg is the lease */

/* limiter_lease.c: begins with the first lease and ends with the last. */
void lease_beat_start(struct limiter *);
void lease_beat(void *arg);             /* arg is the limiter */
void lease_beat_stop(struct limiter *); /* cancels what is under way */

/* limiter_peek.c: tells those who wait that there is no answer. */
void limiter_peek_stop(struct limiter *);

/* limiter.c */
void limiter_heard(const struct limiter *, enum limiter_script, const struct redis_answer *);
/* False when the reply is no array of integers, or one of more than LIMITER_WIRE_REPLY. */
bool limiter_read_numbers(const struct redisReply *, int64_t number[LIMITER_WIRE_REPLY], size_t *count) MUST_CHECK;

#endif

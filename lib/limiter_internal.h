/* What the limiter's files share: limiter.c admits, limiter_settle.c settles until it was answered, limiter_lease.c
 * renews, limiter_peek.c looks; limiter_mode.c knows whether Redis is there, limiter_local.c admits from the shadows
 * when it is not, limiter_merge.c tells Redis afterwards.
 *
 *   ASKED ──► HELD ──────────► SETTLING ──► gone       settle waits for nobody;
 *     │ └───► DOUBTFUL ──────────┘ ▲                   the caller's handle is nulled at once
 *     │ └───► QUEUED ──► ASKED_AGAIN │ ──► as ASKED
 *     │ │       └───► LEAVING ──► gone
 *     │ └───► WAITING ──► ASKED    │
 *     │ │       └───► gone         │
 *     │ └───► REFUSED ──► gone     │
 *     │ └───► LOCAL ──► gone       │  settled while Redis does not know of it; when Redis is told of its scopes it is held there as
 *     │         ├───► HELD         │  any other; when of some, it is settled there in those
 *     │         └──────────────────┤
 *     └────────────────────────────┘  settled before the answer came */
#ifndef SLUICE_LIMITER_INTERNAL_H
#define SLUICE_LIMITER_INTERNAL_H

#include "lib/limiter.h"
#include "lib/limiter_shadow.h"
#include "lib/limiter_wire.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/script.h"

enum lease_state {
	LEASE_ASKED,       /* admit is under way, or its answer waits for the end of the turn */
	LEASE_ASKED_AGAIN, /* the same, and as long as nothing else was heard it may stand in Redis' line */
	LEASE_HELD,        /* admitted */
	LEASE_DOUBTFUL,    /* no answer: it may have been admitted, and may stand in Redis' line */
	LEASE_QUEUED,      /* it stands in Redis' line */
	LEASE_WAITING,     /* it waits for this worker's share; Redis has never heard of its id */
	LEASE_LOCAL,       /* admitted without Redis, which has never heard of its id */
	LEASE_REFUSED,     /* surely not admitted, or nothing had to be: there is nothing to settle */
	LEASE_SETTLING,
	LEASE_LEAVING, /* settled while it was QUEUED: nothing that was sent for it can be admitted any more */
};

/* Owner: the caller until limiter_settle, then the limiter until settle was answered. Between calls: linked into the
 * list of its state (held, local or settling; else none); `call` is set while a script of its own is under way. */
struct lease {
	uint32_t magic;
	enum lease_state state;
	struct limiter *limiter;
	struct list node;
	struct limiter_ask ask;   /* its texts stand in `text`; limits are the caller's until settled, then `limits` */
	struct limits *limits;    /* copies, made by settle: repeats outlive a configuration */
	struct line_rule rule;    /* the same */
	enum limiter_scope line;  /* QUEUED, WAITING: in whose line */
	struct script_call *call; /* admit's or settle's */
	struct loop_deferred deferred; /* for an answer that needs no Redis */
	struct loop_timer timer;       /* the next try of settle */
	limiter_done *done;
	void *arg;
	struct limiter_answer local; /* what `deferred` will say */
	struct limiter_used used;
	int64_t sent;              /* when admit was sent, then when settle was first sent; clock_now */
	int64_t reserved;          /* Redis' time, or LIMITER_WIRE_UNKNOWN */
	int64_t renewed;           /* since when we surely hold it; clock_now */
	unsigned tries;            /* of settle */
	bool again;                /* a settle of it may have run, and have left nothing */
	bool trace;                /* something sent for it was never answered */
	bool lost;                 /* slept past: not renewed any more */
	unsigned names;            /* how often it was given another, */
	size_t given;              /* and how long the first is */
	bool merged;               /* it was LOCAL */
	bool told[LIMITER_SCOPES]; /* LOCAL, and Redis has been told there what it was charged */
	uint64_t came;             /* before all with a higher number */
	struct lease_place {
		struct list node; /* in its shadow's line */
		struct limiter_shadow *shadow;
		struct lease *lease;
	} place[LIMITER_SCOPES]; /* WAITING, and until it is answered again: whose share it waits for; else NULL */
	struct limiter_shadow *shadow[LIMITER_SCOPES]; /* where it was charged, while it is held; NULL: nowhere */
	char text[];
};

struct limiter {
	uint32_t magic;
	struct loop *loop;
	struct redis *redis;
	struct log *log;
	struct limiter_options options;
	char channel[LINE_CHANNEL_MOST];
	struct {
		struct line_rule rule;
		char text[LINE_RULE_MOST]; /* what the scripts are told of it */
		size_t length;             /* 0: nobody has asked with one */
	} line;                            /* of the last ask; it changes with a reload */
	struct list held, settling;
	struct list renewals; /* calls under way */
	struct list peeks;    /* the same */
	struct loop_timer beat;
	struct {
		bool alone;   /* Redis is away */
		bool refused; /* it answers the census with an error of its own */
		bool refuses; /* `why` is what it answers; else it does not answer */
		const char *why;
		unsigned relapses;   /* how often it has begun anew soon after it had ended */
		int64_t since, back; /* when it began to be, or ended; clock_now */
		struct limiter_share share;
		unsigned live, censuses; /* workers, as last heard; 0: never. Censuses answered */
		struct loop_timer timer;
		struct script_call *call; /* the census that is under way */
	} mode;
	struct map *shadows[LIMITER_SCOPES]; /* name -> struct limiter_shadow */
	struct list local;                   /* leases */
	struct list owing;                   /* shadows */
	struct list merges;                  /* calls, under way or to be repeated */
	struct list calling;                 /* shadows whose line's head is to be called, */
	struct loop_deferred calls;          /* and when */
	uint64_t merges_begun, asks;
	int64_t hold; /* how long a lease is held, moving average over some 16 leases; µs */
	unsigned leases, held_count, settling_count;
	uint64_t abandoned_said; /* of counts.abandoned, so many are in the log; */
	int64_t abandoned_at;    /* since then; clock_now, 0: never */
	struct limiter_counts counts;
};

#define LIMITER_MAGIC UINT32_C(0x6c696d69)
#define LEASE_MAGIC   UINT32_C(0x6c656173)

/* limiter.c */
void lease_free(struct lease *);
bool lease_may_have_run(const struct redis_answer *);

/* limiter_settle.c: takes the lease over; sends, and repeats until answered. */
void lease_settle(struct lease *);
void lease_settle_again(void *arg);        /* the timer's; arg is the lease */
void limiter_settle_say(struct limiter *); /* what was abandoned, once a minute */

/* limiter_lease.c: begins with the first lease and ends with the last. */
void lease_beat_start(struct limiter *);
void lease_beat(void *arg);             /* arg is the limiter */
void lease_beat_stop(struct limiter *); /* cancels what is under way */

void lease_renew(struct limiter *, struct list *leases); /* now, */
void lease_bring(struct limiter *, struct list *leases); /* and before whatever is asked next */

/* limiter_mode.c */
void limiter_mode_start(struct limiter *);
void limiter_mode_stop(struct limiter *);
void limiter_mode_hurry(struct limiter *); /* something is owed: the next census is not far */
void limiter_mode_judge(struct limiter *, const struct redis_answer *);

/* limiter_local.c */
void limiter_local_start(struct limiter *);
void limiter_local_stop(struct limiter *);
void limiter_local_note(struct lease *);                            /* Redis admitted it: its shadows are charged */
void limiter_local_answer(struct lease *, struct limiter_answer *); /* Redis did not answer: this worker's share does */
struct limiter_shadow *limiter_local_shadow(struct limiter *, enum limiter_scope, struct slice name);
struct limiter_cost limiter_local_cost(const struct lease *, int scope);
void limiter_local_end(struct lease *, const struct limiter_used *); /* its shadows learn what it came to */
void limiter_local_sweep(struct limiter *);                          /* forgets the shadows in which nothing is left */

/* limiter_wait.c */
void limiter_wait_start(struct limiter *);
void limiter_wait_stop(struct limiter *);
/* ADMITTED where it fits and nobody came before; else whether it may wait, and for what, or why not. What stands here does so still. */
void limiter_wait_judge(struct lease *, struct limiter_answer *);
void limiter_wait_stand(
	struct lease *); /* in the lines up to lease->line, and in no other; in none where it never fits */
void limiter_wait_leave(struct lease *);
void limiter_wait_call(struct limiter *, struct limiter_shadow *); /* something came free there */

/* limiter_merge.c */
/* What is owed goes out, what failed a moment ago only `at_once`; what is held locally is Redis' from then on. */
void limiter_merge_all(struct limiter *, bool at_once);
void limiter_merge_hurry(struct limiter *, struct limiter_shadow *); /* Redis has taken an ask of that scope */
unsigned limiter_merge_left(const struct limiter *);                 /* scopes that Redis has yet to be told of */
bool limiter_merge_told(struct lease *)
	MUST_CHECK; /* of a LOCAL lease that ends: it is Redis' to correct in some of its scopes, and of those alone from now on */
void limiter_merge_stop(struct limiter *);

/* limiter_peek.c: tells those who wait that there is no answer. */
void limiter_peek_stop(struct limiter *);

/* limiter.c */
struct lease *lease_new(struct limiter *, const struct limiter_ask *, limiter_done *, void *arg);
/* The ask's rule for the scripts; empty: it has no lines. Valid until the next ask. */
struct slice limiter_rule(struct limiter *, const struct limiter_ask *);
enum { LEASE_ID_MOST = 80, LEASE_NAME_MORE = 13 }; /* bytes; what another name is longer, and a 0 */
void lease_hold(struct lease *);                   /* Redis knows of it, or will */
/* A script was answered, or was not: measures it, and judges whether Redis is there. */
void limiter_heard(struct limiter *, enum limiter_script, const struct redis_answer *);
/* False when the reply is no array of integers, or one of more than LIMITER_WIRE_REPLY. */
bool limiter_read_numbers(const struct redisReply *, int64_t number[LIMITER_WIRE_REPLY], size_t *count) MUST_CHECK;

#endif

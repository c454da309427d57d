/* The fleet's quotas: one script call admits a request over all its scopes, all or nothing; one settles it, exactly once.
 *
 *   limiter_admit ──► lua/admit ──► LIMITER_ADMITTED: a lease is held; renewed in bulk until limiter_settle
 *                                   LIMITER_DENIED: nothing was taken, `wait` says when to come again
 *                                   LIMITER_QUEUED: it stands in the line of its model or upstream ──► its turn ──► limiter_again ──► …
 *
 * The lease is ours from the moment the call is sent: an answer that was lost may have been an admission. So every struct lease, whatever
 * its verdict, ends with limiter_settle, which gives back or tops up and never counts twice.
 *
 * When Redis is away, or one answer of it is missing, an ask that says `share` is answered from what this worker may use by itself: each limit
 * divided by the workers that live, of which its own use is known all the time (lib/limiter_shadow.h). Redis is told afterwards, once. So when all
 * lose Redis, the fleet stays within burst + rate × time, and one burst per loss; one that alone is cut off adds its share.
 *
 * Source of the bucket: the generic cell rate algorithm (ITU-T I.371, virtual scheduling). Strict request limits are the same bucket with a burst of
 * 1 + ⌊L/200⌋, spaced so that no window passes the limit; strict token limits a log of at most 101 slices (lib/limiter_limits.h says why).
 * Redis' clock is the only one that counts. */
#ifndef SLUICE_LIMITER_H
#define SLUICE_LIMITER_H

#include "lib/base.h"
#include "lib/line.h"
#include "lib/slice.h"

struct buf;
struct loop;
struct log;
struct redis;
struct limiter;
struct lease;

/* X(name, unit, period in seconds) */
/* clang-format off */
#define LIMITS(X) \
	X(rps, REQUESTS, 1) X(rpm, REQUESTS, 60) X(rph, REQUESTS, 3600) X(rpd, REQUESTS, 86400) \
	X(tpm, TOKENS, 60) X(tph, TOKENS, 3600) X(tpd, TOKENS, 86400) \
	X(concurrency, CONCURRENCY, 0)
/* clang-format on */
#define LIMIT_ENUM(name, unit, period) LIMIT_##name,
enum limit_kind { LIMITS(LIMIT_ENUM) LIMIT_COUNT };
#undef LIMIT_ENUM
enum limit_unit { LIMIT_REQUESTS, LIMIT_TOKENS, LIMIT_CONCURRENCY };
const char *limit_name(enum limit_kind);
enum limit_unit limit_unit_of(enum limit_kind);
int64_t limit_period(enum limit_kind); /* microseconds; 0 for concurrency */

struct limit {
	int64_t count; /* per period, or at once; 0: no such limit. 1 to 10^12 */
	int64_t burst; /* what may come at once; 1 to 10^12. Meaningless for strict and for concurrency */
	bool strict;   /* no window of one period ever holds more than count */
};
struct limits {
	struct limit of[LIMIT_COUNT];
};

enum { LIMITER_NAME_MOST = 256, LIMITER_ID_MOST = 67 }; /* bytes */
enum limiter_scope { LIMITER_TENANT, LIMITER_MODEL, LIMITER_UPSTREAM, LIMITER_SCOPES };
const char *limiter_scope_name(enum limiter_scope);

/* What one attempt asks for. A scope that takes no part has limits NULL. A tenant's request is charged only at the first attempt of a client's request. */
struct limiter_ask {
	struct slice id; /* request.attempt: unique for ever, 1 to LIMITER_ID_MOST bytes of [A-Za-z0-9._-]; copied */
	struct {
		struct slice name;           /* ≤ LIMITER_NAME_MOST; copied */
		const struct limits *limits; /* borrowed until settled */
		int64_t requests;            /* 0 or 1 */
	} scope[LIMITER_SCOPES];
	int64_t tokens;  /* reserved in every scope that limits tokens; ≥ 0 */
	int64_t timeout; /* for the answer, microseconds; 0: the limiter's own */
	/* Where it stands when its model's or its upstream's limits have no room, or others wait for them already. */
	struct {
		const struct line_rule *rule; /* NULL: there are no lines; borrowed until settled */
		enum lane lane;
		size_t group; /* of rule->share */
		bool front;   /* before all others of its lane */
		bool waited; /* it has stood in a line, finds none full, and is not turned out by an estimate; without Redis it is not refused before it has waited as long as it may. The limiter sets it itself */
		int64_t most; /* how long it may wait from now on, microseconds; 0: it does not, but lets those go first that do */
	} line;
	bool share; /* without an answer of Redis' this worker's share decides; else the verdict is UNAVAILABLE */
};

enum limiter_verdict {
	LIMITER_ADMITTED,
	LIMITER_DENIED, /* 429; wait > 0. With a line: or it cannot be its turn in time */
	LIMITER_QUEUED, /* it waits; `scope` says in whose line, wait > 0 when to ask again, 0: when its channel hears "turn " and its id, or limiter_options.turn does */
	LIMITER_FULL,   /* so many wait already that it may not; wait > 0 */
	LIMITER_NEVER,  /* asks for more than the limit can ever hold: another error, waiting does not help */
	LIMITER_UNAVAILABLE, /* Redis gave no answer in time, or an error; the caller's mode decides */
};

/* The state of one limit as Redis saw it. */
struct limiter_left {
	bool known;
	int64_t remaining; /* whole requests or tokens that could be taken now; requests one by one pay ≤ 1 µs of rounding each */
	int64_t reset; /* microseconds until it is full again; 0 for concurrency */
	double used; /* the share that is taken, 0 to 1: of the burst; for strict tokens of the window; of the places */
};

struct limiter_answer {
	enum limiter_verdict verdict;
	enum limiter_scope scope; /* of the limit that bound, for DENIED and NEVER; of the line, for QUEUED and FULL */
	enum limit_kind kind;
	int64_t wait; /* microseconds until the same ask could succeed if nobody else came; for concurrency, and behind others in a line, an estimate */
	struct limiter_left left[LIMIT_COUNT]; /* the tenant's own limits, for RateLimit fields */
	int64_t took;                          /* microseconds */
	bool local;                            /* this worker's share decided: of what is left nothing is known */
	bool never_here; /* with `local`: DENIED, and the share of the limit that bound can never hold it, whatever else runs */
};

typedef void limiter_done(struct lease *, void *arg, const struct limiter_answer *);

enum limiter_script {
	LIMITER_ADMIT,
	LIMITER_SETTLE,
	LIMITER_RENEW,
	LIMITER_PEEK,
	LIMITER_CENSUS,
	LIMITER_MERGE,
	LIMITER_SCRIPTS
};
const char *limiter_script_name(enum limiter_script); /* "admit" */

struct limiter_options {
	int64_t timeout; /* of one script call; microseconds */
	int64_t lease;   /* 10 s; renewed every third of it */
	/* What this worker hears: there it is told whose turn it is, ≤ 80 bytes without blanks; copied. Empty: it waits in no line. */
	struct slice channel;
	/* The instance slept past a lease (SIGSTOP, suspend): what ran under it must stop. Runs once per such lease, from the loop. May be NULL. */
	void (*lost)(struct lease *, void *arg);
	/* Redis answered a call, whatever it said; microseconds since it was sent. For who measures; may be NULL. */
	void (*answered)(void *arg, enum limiter_script, int64_t took);
	/* Names this worker in the fleet, ≤ 80 bytes as an id; copied. None: it takes part in no census, is the only one, and Redis is never away.
	 * With a name the limiter is its connection's listener (redis_on_change). */
	struct slice member;
	unsigned workers; /* of this instance: at least so many live; 0: 1 */
	/* Redis is away, or back; `why` is static, one word or a few. May be NULL. */
	void (*changed)(void *arg, bool alone, const char *why);
	/* Redis is away, and the turn of that lease, which is QUEUED, has come: as "turn " and its id would say on the channel. From the loop. May be NULL where nobody waits. */
	void (*turn)(void *arg, struct slice id);
	void *arg; /* of answered, changed and turn */
};

struct limiter *limiter_new(struct loop *, struct redis *, const struct limiter_options *, struct log *);
/* The leases must have been settled; waits for nothing: what was not answered yet is repeated by nobody and expires in Redis. */
void limiter_free(struct limiter **);

/* Never NULL. `done` runs once, never inside this call, unless settled first. */
struct lease *limiter_admit(struct limiter *, const struct limiter_ask *, limiter_done *, void *arg);

/* Asks once more for one that is QUEUED, or was and had no answer since: its turn has come, or it is not sure any more that it is still in the line. `most` as in the ask. `done` runs once,
 * never inside this call, unless settled first. */
void limiter_again(struct lease *, int64_t most, limiter_done *, void *arg);

/* The keys of the line in which one that is QUEUED stands: w, then f (lua/part/line.lua). Each as long as LIMITER_LINE_KEY at most. */
enum { LIMITER_LINE_KEY = LIMITER_NAME_MOST + 16 };
void limiter_line_keys(const struct lease *, struct buf *w, struct buf *f);
/* Its own, ≤ 80 bytes: another one for whoever waits without Redis, which may have heard of the first. Valid until it is asked for again. */
struct slice limiter_id(const struct lease *);

/* What the attempt came to. Ends the lease object: nulls *lease; NULL inside is fine. Sends `settle` unless it surely was never admitted, repeats it
 * until it was answered (at most 60 s), and is exact whatever replies were lost. */
struct limiter_used {
	int64_t tokens; /* true usage; the whole charge, not the difference */
	bool never_sent; /* nothing reached the upstream: requests are given back too, but to strict request limits, which give nothing back */
};
void limiter_settle(struct lease **, const struct limiter_used *);

/* Looks what is left in one scope, of whose limits at least one is set, and changes nothing; name and limits are copied. `done` runs once, never inside
 * this call, unless cancelled; the peek is over then. `left` is valid there alone; NULL: no answer within the timeout, an error, or limiter_free, which
 * tells it from inside, where nothing may be begun. */
struct peek;
typedef void limiter_peeked(struct peek *, void *arg, const struct limiter_left left[LIMIT_COUNT]);
struct peek *limiter_peek(struct limiter *, enum limiter_scope, struct slice name, const struct limits *,
			  limiter_peeked *done, void *arg);
void limiter_peek_cancel(struct peek **); /* done never runs; NULL inside is fine */

/* Whether Redis is there: false from the moment that it has not answered for as long as its connection is patient (redis_options.patience), or three times in a row, or answered that it takes no
 * writes of ours, until it has taken one again. Meanwhile no ask waits for it. */
struct limiter_state {
	bool alone;
	const char *why; /* of `alone` */
	bool refuses;    /* `why` is what Redis answers; else it does not answer */
	int64_t since;   /* clock_now of the last change; 0: there was none */
	unsigned live;   /* workers of the fleet, as last heard */
};
struct limiter_state limiter_state(const struct limiter *);

struct limiter_counts {
	uint64_t admitted, denied, full, never;
	uint64_t settled, settled_again, abandoned; /* answered; sent once more; never answered in 60 s */
	uint64_t renewals, renewals_failed, lost;   /* calls; leases that were slept past */
	uint64_t forgiven[LIMIT_COUNT];             /* tokens of debt beyond one period */
	uint64_t local_admitted, local_denied;      /* of those above, without Redis */
	uint64_t merged, merges_abandoned; /* scopes that Redis was told of; that it could not be told of in a minute */
};
const struct limiter_counts *limiter_counts(const struct limiter *);

unsigned limiter_held(const struct limiter *); /* leases admitted and not yet settled */
unsigned limiter_unsettled(
	const struct limiter *); /* settles, and scopes that owe, of which Redis has not heard: drain waits for 0 */

#endif

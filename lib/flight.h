/* One flight for identical requests, on any workers of the fleet: one asks the upstream, the others read along, and the answer is kept for those who come
 * later. Lookup, lead, follow and publish in one, because cache and coalescing share one script.
 *
 *   flight_join ──► lua/join ──► told HIT, STALE    here is an answer
 *                                     LEAD          ask the upstream: flight_begin, flight_write …, flight_end
 *                                     REFRESH       both: give the stale answer, and ask
 *                                     FOLLOW        another asks: flight_head, flight_unread …, flight_state
 *                                     PASS          ask for yourself, nothing is shared;  NONE: nothing is stored, more was not wanted
 *
 *   leader ──► record ──┬──► seats of this worker                   (each at its own pace; none slows the leader)
 *                       └──► lua/append: STREAM ──► other workers: one reader each, lua/follow ──► their record ──► their seats
 *
 * A flight is held by a lease with a fence: a leader that was silent for a lease has lost it, and its late words are refused. Who follows and has taken
 * nothing joins again then, and one of them leads; who has taken bytes is told FLIGHT_FAILED: two answers are never spliced. Without Redis each worker has
 * flights of its own, and publishes them when it comes back.
 *
 * While nobody elsewhere reads along the leader says one word a beat; a reader that joins wakes it by a hint, and from then on batches go out. A hint that is
 * lost costs a beat. Disadvantages: a record is kept whole for latecomers, up to `most` bytes; an answer larger than that is followed only by those who are
 * at most so far behind, or `tail`. */
#ifndef SLUICE_FLIGHT_H
#define SLUICE_FLIGHT_H

#include <stdatomic.h>

#include "lib/answer.h"
#include "lib/base.h"
#include "lib/slice.h"

struct flight_purge;
struct flight_seat;
struct flights;
struct log;
struct loop;
struct redis;
struct subscriber;

enum { FLIGHT_PURGES = 5 };

/* What one request wants. Its texts are borrowed until flight_leave. */
struct flight_ask {
	unsigned char key[ANSWER_KEY]; /* same key, same answer: what makes it is the caller's to know */
	bool may_read;                 /* a stored answer will do */
	bool may_be_late;     /* one that came in just now, within `window`, will do, as if it had been waited for */
	bool may_follow;      /* it may read along with another, and others with it */
	bool may_lead;        /* false: what is stored, or nothing */
	bool upstream_failed; /* what is stale for that case will do, and nothing else is wanted */
	int64_t oldest;       /* age in microseconds that will do; -1: any */
	int64_t slack;        /* microseconds beyond fresh that will do; below 0: as long it must be fresh still */
	int64_t timeout;      /* for Redis to answer, microseconds; 0: options.timeout */
	uint64_t group;       /* whose quota it meets: who are of one group are denied together */
	struct slice purges[FLIGHT_PURGES]; /* what it can be purged by: fields of FLIGHT_PURGED */
	size_t purges_count;
};
#define FLIGHT_PURGED "sluice:{c}:p" /* HASH: what was purged → when, microseconds */

enum flight_verdict {
	FLIGHT_HIT,
	FLIGHT_STALE,
	FLIGHT_REFRESH,
	FLIGHT_LEAD,
	FLIGHT_FOLLOW,
	FLIGHT_PASS,
	FLIGHT_NONE,
	FLIGHT_DENIED, /* for who followed: the leader of the same group was refused */
};
struct flight_told {
	enum flight_verdict verdict;
	struct answer *answer;     /* HIT, STALE, REFRESH; borrowed: who keeps it holds it */
	struct answer_times times; /* its own, by this machine's clock */
	uint64_t epoch;    /* of the subscriber: the answer is surely the newest as long as this is; 0: who knows */
	bool fleet;        /* FOLLOW: another worker leads */
	bool has_stale;    /* LEAD: an answer is stored that will do if the upstream fails */
	bool unavailable;  /* Redis gave no answer in time, or an error */
	struct slice note; /* DENIED: the leader's; valid inside the call alone */
};

/* All run from the loop, never inside a call of the owner's. */
struct flight_events {
	/* What the seat is: once; and again for one that follows and has taken nothing, when its leader is lost. */
	void (*told)(struct flight_seat *, void *arg, const struct flight_told *);
	/* For who follows: there is a head, there are bytes, or it is over. */
	void (*more)(struct flight_seat *, void *arg);
	/* For a leader whose own client has left (flight_orphan): nobody follows any more, the flight is over, end the call. */
	void (*alone)(struct flight_seat *, void *arg);
};

enum flight_script {
	FLIGHT_SCRIPT_JOIN,
	FLIGHT_SCRIPT_APPEND,
	FLIGHT_SCRIPT_FINISH,
	FLIGHT_SCRIPT_FOLLOW,
	FLIGHT_SCRIPTS
};
const char *flight_script_name(enum flight_script); /* "join" */

struct flight_options {
	int64_t timeout;            /* of one script call; microseconds, as all of these */
	int64_t lease, beat, batch; /* 3 s; 1 s; 25 ms */
	int64_t window;             /* who comes so long after the end of a flight is not too late for it */
	size_t most;                /* bytes of one record */
	size_t tail; /* of a larger one so many are kept, and `most` at least: less than come at once, and a leader that reads its own record misses some */
	_Atomic int64_t *held;       /* bytes of all records of the process, */
	int64_t ceiling;             /* which together are at most so many */
	struct slice channel;        /* on which the subscriber hears hints for this worker; copied */
	struct subscriber *listener; /* of the same Redis; may be NULL (tests): then no answer has an epoch */
	/* Redis answered a call, whatever it said; microseconds since it was sent. For who measures; may be NULL. */
	void (*answered)(void *arg, enum flight_script, int64_t took);
	void *arg;
};

struct flights *flights_new(struct loop *, struct redis *, const struct flight_options *, struct log *);
void flights_free(struct flights **); /* every seat must have left; waits for nothing; never inside an event */
/* For the subscriber's owner: a hint came, a key has changed (data == NULL: all of them). */
void flights_hint(struct flights *, struct slice text);
void flights_invalidated(struct flights *, struct slice key);

/* Never NULL. */
struct flight_seat *flight_join(struct flights *, const struct flight_ask *, const struct flight_events *, void *arg);
/* From now on the seat's events go to another owner's `arg`. */
void flight_hand_over(struct flight_seat *, void *arg);
/* Ends the seat, whatever it is; nulls it; NULL inside is fine. A leader that has not ended its flight abandons it: somebody else leads. */
void flight_leave(struct flight_seat **);

/* ---- for who leads ---- */
/* The answer begins: what followers need before its first byte. At most 64 KiB; a longer one cannot be shared: as flight_end with FLIGHT_PRIVATE. */
void flight_begin(struct flight_seat *, struct slice head);
void flight_write(struct flight_seat *, struct slice bytes);
bool flight_leads(const struct flight_seat *); /* no more when the flight was ended for it */
/* The record is kept no longer for who is slow: it is larger than newcomers may get, or the process holds too much. */
bool flight_slides(const struct flight_seat *);
enum flight_outcome {
	FLIGHT_DONE,    /* it is whole */
	FLIGHT_BROKEN,  /* it failed, and so it does for those who follow: `note` says how */
	FLIGHT_REFUSED, /* before anything was asked, for a reason that others may not meet: another group leads; the same group is told DENIED with `note` */
	FLIGHT_PRIVATE, /* it is for the leader alone: others ask for themselves, for a while without waiting for each other */
};
struct flight_end {
	enum flight_outcome outcome;
	struct slice note;           /* at most FLIGHT_NOTE bytes; copied */
	bool store;                  /* DONE: keep it, at least for the window */
	int64_t fresh, stale, error; /* microseconds from now */
};
enum { FLIGHT_NOTE = 512 };
void flight_end(struct flight_seat *, const struct flight_end *);
/* The leader's own client has left. True: somebody else may be there, the call goes on until `alone`. False: nobody is, leave. */
bool flight_orphan(struct flight_seat *) MUST_CHECK;

/* ---- for who follows; and for a leader that reads its own record, to be as slow as its client is ----
 * Of one that has lost its flight and is about to be told something else there is nothing to read, and it goes on. */
bool flight_head(const struct flight_seat *, struct slice *head) MUST_CHECK; /* false: it has not come */
void flight_take_head(struct flight_seat *);
struct slice flight_unread(const struct flight_seat *); /* valid until the loop turns */
void flight_take(struct flight_seat *, size_t bytes);
enum flight_state { FLIGHT_GOING, FLIGHT_WHOLE, FLIGHT_FAILED };
/* Of what is unread too: WHOLE and FAILED are final, and what is unread is still there. `note`: the leader's; empty: it was lost. */
enum flight_state flight_state(const struct flight_seat *, struct slice *note);

struct flights_stats {
	unsigned leading, reading, seats,
		unfinished; /* now; unfinished: ended here, not yet in Redis: drain waits for 0 */
	int64_t bytes;      /* of records */
};
void flights_stats(const struct flights *, struct flights_stats *);

/* Has what was begun up to now and heeds `name` (a field of FLIGHT_PURGED) given to nobody who asks from now on. `done` runs once, with when that was, in
 * microseconds by Redis' clock; -1: Redis refused, or gave no answer in time and may have done it all the same. Redis tells every other connection that the
 * key has changed, but not `redis`, which wrote it: its own worker's flights and cache are for the caller to tell, whatever came of it. */
typedef void flight_purged(struct flight_purge *, void *arg, int64_t at);
struct flight_purge *flight_purge_start(struct redis *, struct slice name, int64_t timeout, flight_purged *done,
					void *arg);
void flight_purge_cancel(struct flight_purge **); /* NULL inside is fine */

#endif

/* What the files of one connection share: redis_connect.c finds and greets Redis, redis.c sends calls and keeps their deadlines.
 *
 *   RESTING ──► FINDING ──► CONNECTING ──► GREETING ──► UP
 *      ▲           │            │              │         │   any failure: redis_disconnect(reason)
 *      └───────────┴────────────┴──────────────┴─────────┘ */
#ifndef SLUICE_REDIS_INTERNAL_H
#define SLUICE_REDIS_INTERNAL_H

#include "lib/loop.h"
#include "lib/redis.h"
#include "lib/redis_greeting.h"
#include "lib/redis_link.h"
#include "lib/redis_queue.h"
#include "lib/redis_resolve.h"
#include "lib/redis_sentinel.h"
#include "lib/redis_silence.h"

#define REDIS_MAGIC 0x72656469u

enum redis_state { STATE_RESTING, STATE_FINDING, STATE_CONNECTING, STATE_GREETING, STATE_UP, STATE_CLOSED };

/* Owned by whoever called redis_new; dies at the end of the turn after redis_free (its callbacks may be on the stack).
 * Between calls: no call is `sent` unless the state is UP; `link` is NULL while resting, finding and closed. */
struct redis {
	unsigned magic;
	enum redis_state state;
	struct loop *loop;
	struct log *log;
	struct redis_options options;

	struct redis_sentinel *sentinel; /* NULL: there are none. A search is under way: FINDING, or UP and following */
	struct loop_timer follow_timer;  /* to the next search; armed while UP, where there are Sentinels */
	char *master;                    /* the host that they named last, and its port; NULL: none yet */
	int master_port;
	int64_t master_epoch; /* of the configuration that named it */
	struct redis_resolve *resolve;
	struct redis_addresses addresses;
	size_t address; /* the next to try */
	struct redis_link *link;
	struct redis_greeting greeting;
	struct loop_timer
		state_timer; /* the back-off's end, the connection's deadline, or when its being up is logged */
	int64_t try_ends;    /* when this try to get a connection has had its time; clock_now */
	unsigned failures;   /* since a command was last answered well */
	uint64_t random;
	int64_t up_noted;   /* when its being up was last logged; 0: never */
	int64_t down_noted; /* when a reason for its being down was */
	bool up_unsaid;     /* it is up, and that will be logged if it stays so */
	char reason[160];   /* why it is down; empty: it was not yet */
	char noted[160];    /* the same, as logged last; empty while it is up */
	bool refused;       /* `reason` is what a Redis answered */

	struct redis_queue queue;
	struct loop_deferred turn_end, death;
	struct loop_timer deadline_timer;
	int64_t earliest; /* what the timer is armed for, INT64_MAX when it is not */
	struct redis_silence silence;
	struct loop_timer silence_timer; /* armed while something is owed, and until it fires for nothing */

	void (*changed)(void *arg, bool up);
	void *changed_arg;
	void (*message)(void *arg, struct slice channel, const struct redisReply *payload);
	void *message_arg;
};

/* redis_connect.c */
void redis_master_named(void *arg, const struct redis_sentinel_master *); /* the Sentinels' */
void redis_follow(void *arg);                                             /* the timer's */
void redis_connect_timer(void *arg); /* the state's: the back-off's end, or a deadline */
void redis_disconnect(
	struct redis *,
	const char *reason); /* every way from a connection, or from the try to get one, back to resting */
void redis_refused(struct redis *, const char *words); /* the same, for what Redis answered */
void redis_drop_connection(struct redis *);            /* without a word to anybody */
void redis_try_next_address(struct redis *, const char *reason);
void redis_greet(struct redis *);
void redis_greeted(struct redis *, const struct redisReply *);

/* redis.c */
extern const struct redis_link_events redis_link_events;
void redis_opened(void *arg); /* redis_connect.c's */
void redis_flush(struct redis *);
void redis_heard(struct redis *); /* a word came */

#endif

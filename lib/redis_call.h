/* One command on its way: its bytes on the wire, its place, who waits for it; and the store of used ones.
 *
 *   waiting ──► sent ──► running (its done is on the stack) ──► free
 *      │          │         ▲
 *      └──────────┴─► ending ┘   it has its result, done runs soon
 *
 * A call is in the one list that its state names; `redis.c` alone moves it. */
#ifndef SLUICE_REDIS_CALL_H
#define SLUICE_REDIS_CALL_H

#include "lib/buf.h"
#include "lib/list.h"
#include "lib/redis.h"

#define REDIS_CALL_MAGIC 0x7265643au
#define REDIS_CALL_MOST  (64u * 1024 * 1024) /* bytes of one command */

enum redis_call_state { REDIS_CALL_FREE, REDIS_CALL_WAITING, REDIS_CALL_SENT, REDIS_CALL_ENDING, REDIS_CALL_RUNNING };

/* `bytes` keep the whole command until the call is free, so that an unsent one can go to the next connection and an answered one
 * can be repeated. `written` > 0 while waiting: a part of it is in the socket, so it may neither be removed nor go elsewhere. */
struct redis_call {
	struct list node;
	unsigned magic;
	enum redis_call_state state;
	enum redis_result result; /* while ending */
	struct redis *owner;
	redis_done *done; /* NULL: cancelled, but the connection still owes its reply */
	void *arg;
	int64_t started, deadline;
	struct buf bytes;
	size_t written;
};

struct redis_call_store {
	struct list free;
	size_t count;
};

void redis_call_store_init(struct redis_call_store *);
void redis_call_store_free(struct redis_call_store *);
struct redis_call *redis_call_take(struct redis_call_store *);
void redis_call_give(struct redis_call_store *, struct redis_call *);

/* Appends the command in Redis' protocol; false when the buffer's ceiling would be passed. */
bool redis_call_format(struct buf *, size_t count, const struct slice *arguments) MUST_CHECK;

#endif

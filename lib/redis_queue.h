/* The calls of one connection to Redis: which wait, which were sent, which have their end and only need to be told.
 *
 *   add ──► waiting ──► sent ──► answer            a reply came
 *              │          │
 *              └──────────┴─► ending ──► answer    deadline, loss, refusal
 *
 * At most `window` calls are out at once. Redis works through its calls one by one, so what is sent too early only waits there, where it cannot be taken
 * back: a burst would let every call of it miss its deadline after its script had run, the connection would be cut, and the next burst would find the same.
 * Here a call that cannot make it any more ends unsent, at no cost to anybody. The window grows by one for each window of replies and halves when a
 * deadline passes on the wire (additive increase, multiplicative decrease: Chiu and Jain, 1989), so that a fleet shares a slow Redis.
 *
 * Nothing here touches a socket or a timer. `done` runs inside redis_queue_answer and redis_queue_answer_ending alone; it may
 * add and cancel calls, and even begin the end of the queue's owner, as long as the memory stays until those return. */
#ifndef SLUICE_REDIS_QUEUE_H
#define SLUICE_REDIS_QUEUE_H

#include "lib/redis_call.h"

#include <sys/uio.h>

/* Embedded in struct redis. Between calls each call of an owner is in exactly one list. Only the first waiting call may be half
 * written; that one may neither be removed nor overtaken. */
struct redis_queue {
	struct list waiting, sent, ending;
	size_t waiting_bytes, sent_count;
	size_t expired;         /* calls whose deadline passed, ever */
	unsigned window, grown; /* grown: replies since the window was last changed */
	struct redis_call_store store;
	struct redis_counts counts;
};

void redis_queue_init(struct redis_queue *);
void redis_queue_free(struct redis_queue *); /* all lists must be empty */

/* Takes a call whose bytes, start and deadline stand: to the waiting ones; or, when it is refused or there is no room for it, to
 * the ending ones, unsent. True when it waits. */
bool redis_queue_add(struct redis_queue *, struct redis_call *, bool refused);
void redis_queue_cancel(struct redis_queue *, struct redis_call *);

/* The waiting ones that have less than a quarter of their time left end unsent. */
void redis_queue_drop_late(struct redis_queue *, int64_t now);
void redis_queue_shrink(struct redis_queue *); /* a call timed out on the wire */
/* What the next write consists of, at most `most` parts and as the window allows; and what the socket took of it. */
size_t redis_queue_gather(struct redis_queue *, struct iovec *parts, size_t most);
void redis_queue_written(struct redis_queue *, size_t taken);
void redis_queue_unwrite(struct redis_queue *); /* the connection is gone: half a command never runs and starts anew */

struct redis_call *redis_queue_pop_sent(struct redis_queue *); /* NULL when nobody asked */
void redis_queue_answer(struct redis_queue *, struct redis_call *, struct redis_answer *);

/* Moves all, or the overdue, calls of one list to the ending ones. redis_queue_expire gives the earliest deadline of those
 * that stay, INT64_MAX when none does, and sets *cut when the connection still owes one of the overdue its reply. */
void redis_queue_end_all(struct redis_queue *, struct list *, enum redis_result);
int64_t redis_queue_expire(struct redis_queue *, struct list *, enum redis_result, int64_t now, bool *cut);
void redis_queue_answer_ending(struct redis_queue *);

#endif

/* Who of this worker waits in the lines of the fleet, and hears that its turn has come.
 *
 *   admit says "it waits" ──► queue_wait ──► "turn ID" on the worker's channel, or the time that admit told ──► QUEUE_TURN: ask admit again
 *                                  │ it has waited as long as it may ──► QUEUE_LATE
 *                                  └ queue_leave: its client has gone
 *
 * The line itself is in Redis (lua/part/line.lua), and admit and settle change it; here is what only the worker can know. Nothing is polled: who waits is
 * called, or has a time. A word that got lost is made good by the beat: each line in which somebody of this worker waits is looked after twice a second
 * with one call, whoever waits there. Where it is not sure that a place still stands (Redis lost the line, this worker was away, its subscription broke),
 * everybody asks again.
 *
 * Disadvantage: two steps. Between the answer "it waits" and queue_wait nobody is there to hear; so the last words for strangers are remembered. */
#ifndef SLUICE_QUEUE_H
#define SLUICE_QUEUE_H

#include "lib/base.h"
#include "lib/line.h"
#include "lib/slice.h"

struct loop;
struct redis;
struct queue;
struct queue_place;

enum { QUEUE_ID_MOST = 80, QUEUE_NAME_MOST = 320 }; /* bytes */

struct queue_options {
	struct slice channel; /* this worker's, as given to admit; copied */
	int64_t beat; /* between two beats in a line, microseconds: half a second; an instance that was silent for 1.5 s is passed over */
	int64_t timeout;                           /* of a beat's call; microseconds */
	void (*answered)(void *arg, int64_t took); /* Redis answered a beat; may be NULL */
	void *arg;
};

struct queue *queue_new(struct loop *, struct redis *, const struct queue_options *);
void queue_free(struct queue **); /* nobody may be waiting */

struct queue_ask {
	struct slice id;              /* as given to admit; copied */
	struct slice name;            /* of the line, for people: "upstream gemini"; copied */
	struct slice w, f;            /* its keys; copied */
	const struct line_rule *rule; /* copied; the newest holds for the whole line */
	enum lane lane;
	int64_t turn; /* when to ask again, microseconds from now; 0: when it is called */
	int64_t most; /* so long it may wait; > 0 */
};
enum queue_news { QUEUE_TURN, QUEUE_LATE };
typedef void queue_done(struct queue_place *, void *arg, enum queue_news);

/* Never NULL. `done` runs once, never inside a call of this header but queue_hint and queue_call, unless it leaves first; the place is gone then. It gives no place in Redis
 * back: settle does. */
struct queue_place *queue_wait(struct queue *, const struct queue_ask *, queue_done *, void *arg);
void queue_leave(struct queue_place **); /* NULL inside is fine */

/* What came on the worker's channel; false: it is none of ours ("turn ID"). */
bool queue_hint(struct queue *, struct slice text);
/* The turn of that one has come. */
void queue_call(struct queue *, struct slice id);
/* It is not sure what is true: all who wait ask again, from the loop's next turn on. */
void queue_ask_all(struct queue *);
/* Redis is away, or back: all ask again. While it is away its lines are not looked after, and whoever admits without it calls (queue_call). */
void queue_set_alone(struct queue *, bool alone);

unsigned queue_waiting(const struct queue *, enum lane); /* of this worker */
/* Each line in which somebody of this worker waits: how many of them, and how many of the fleet's, as the last beat told (-1: not known yet). */
void queue_each(const struct queue *,
		void (*tell)(void *arg, struct slice name, const unsigned here[LANES], const int64_t fleet[LANES]),
		void *arg);

#endif

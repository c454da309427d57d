/* libevent behind a few verbs: one event loop per thread.
 *
 *        ┌────────────── a turn ──────────────┐
 *   wait for events → their callbacks → the deferred, until none is left, or they have taken long → next turn
 *
 * Deferring is how this program keeps two rules: no callback runs inside the call that started it, and an object with
 * events dies between turns, never in the middle of one. All calls but loop_post belong to the loop's own thread. */
#ifndef SLUICE_LOOP_H
#define SLUICE_LOOP_H

#include "lib/base.h"
#include "lib/list.h"

struct loop;
struct event_base;

struct loop *loop_new(void);
void loop_free(struct loop **);               /* runs what is still deferred or posted first */
void loop_run(struct loop *);                 /* until loop_stop */
void loop_stop(struct loop *);                /* ends loop_run after this turn */
void loop_turn(struct loop *, bool may_wait); /* one turn; tests drive the loop with it */
struct event_base *loop_base(struct loop *);  /* for the modules that bend a library's sockets to this loop */

/* Ends this turn after the present callback: what is deferred runs, and the events that are left wait for the next turn. For who has begun so much that
 * what it began must get on its way before more of it begins. */
void loop_breathe(struct loop *);
/* Whether one more costly step (a hand-shake's, half a millisecond) fits in this turn; counts it. Who hears no leaves it to a later turn. */
bool loop_has_time(struct loop *);

/* Runs `run(arg)` at the end of this turn, or of the next one when called from outside a turn; in the order of deferring. What is deferred by what was
 * deferred may wait for the next turn, behind its events, when this one has taken long.
 * `run` may free the owner. Embedded in its owner; scheduling one that is already scheduled does nothing; loop_undefer of an idle one does nothing. */
struct loop_deferred {
	struct list node;
	void (*run)(void *arg);
	void *arg;
};
void loop_deferred_init(struct loop_deferred *, void (*run)(void *arg), void *arg);
void loop_defer(struct loop *, struct loop_deferred *);
void loop_undefer(struct loop_deferred *);

/* A one-shot timer, embedded in its owner. Setting it again moves it. It runs by the kernel's coarse clock, so it may fire
 * some 4 ms early or late (who needs the exact moment looks at clock_now and sets it again), and never by a test's clock. */
struct loop_timer {
	struct loop *loop;
	void *event; /* libevent's, made at the first set, freed by loop_timer_free */
	void (*run)(void *arg);
	void *arg;
	bool armed;
};
void loop_timer_init(struct loop_timer *, struct loop *, void (*run)(void *arg), void *arg);
void loop_timer_set(struct loop_timer *, int64_t delay_microseconds); /* ≤ 0 fires in the next turn */
void loop_timer_clear(struct loop_timer *);                           /* does not fire any more; may be set again */
void loop_timer_free(struct loop_timer *); /* clear, and give the event back; harmless twice */

/* A signal, taken in the loop's thread, for as long as the loop lives. One loop of a process at a time may take signals
 * (libevent's rule): the main thread's. */
void loop_signal(struct loop *, int signal_number, void (*run)(void *arg), void *arg);

/* From any thread: runs `run(arg)` in the loop's thread in one of its next turns, in the order of posting. */
void loop_post(struct loop *, void (*run)(void *arg), void *arg);

#endif

/* The data plane as a whole: the doors, the workers behind them, each on a thread of its own; their birth, reload, drain and end. All functions belong to the
 * control thread, whose loop does nothing else but signals, the admin plane and what is here.
 *
 *   server_new ──► server_start ──► (warm: ready) ──► server_drain ──► drained ──► server_free */
#ifndef SLUICE_SERVER_H
#define SLUICE_SERVER_H

#include "lib/base.h"
#include "svc/config.h"
#include "svc/worker.h"

struct loop;
struct log;
struct redis_options;
struct server;

/* Binds every address of `listen` and makes the workers; nothing runs yet. NULL with a message that names the address. `redis`, for quotas, and `answers`, for
 * what is shared of answers, outlive the server; they may be the same. */
struct server *server_new(struct loop *control, const struct config *, const struct redis_options *redis,
			  const struct redis_options *answers, struct log *, char *error, size_t error_size) MUST_CHECK;
/* Starts the threads and accepts at once; ready when every worker is warm. */
void server_start(struct server *);
/* Stops the threads, lets visits end, cuts what is left, frees. Never from a callback of the loop's. */
void server_free(struct server **);

const struct config *server_config(const struct server *); /* the newest */
const struct worker_shared *server_shared(const struct server *);
int64_t server_born(const struct server *); /* clock_now */

/* New requests begin under `next` from now on. */
void server_reload(struct server *, const struct config *next);

/* Runs `visit` on each worker's own thread, one after the other, then `done` (may be NULL) on the control thread; at the latest inside
 * server_free. */
void server_visit(struct server *, void (*visit)(struct worker *, void *arg), void (*done)(void *arg), void *arg);

/* Not ready from now on. Still accepts for drain.wait (`wait` false: not at all), lets what is in flight end, ends with an in-band error what would pass
 * drain.deadline; then `drained` runs, once. Asked again it goes on as it does; `wait` false ends the waiting. Who is in a hurry calls server_free. */
void server_drain(struct server *, bool wait, void (*drained)(void *arg), void *arg);

#endif

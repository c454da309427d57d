/* What the worker's files share. */
#ifndef SLUICE_WORKER_INTERNAL_H
#define SLUICE_WORKER_INTERNAL_H

#include "svc/worker.h"

#define WORKER_WARM_TIMEOUT (10 * CLOCK_SECOND)

/* worker_upstreams.c: the upstream of the next generation: that of the one before (NULL: there is none) once more, or a new one that begins to warm. */
struct worker_upstream *worker_carry_over(struct worker *, const struct config *, size_t index,
					  struct worker_generation *before);
/* Those of `before` that were not carried over keep nothing for later. */
void worker_leave_behind(const struct worker_generation *before, const struct worker_generation *now);
void worker_release_upstream(struct worker_upstream **);
void worker_gauge_upstreams(struct worker *);
/* A worker's part of what an instance keeps warm: as even as can be, the first workers take the rest. */
unsigned worker_part(const struct worker *, const struct config *, int64_t all);

/* worker_breakers.c: the breakers, and what is pushed of them; those of one endpoint. */
void worker_open_breakers(struct worker *,
			  const struct config *); /* before any endpoint, behind the connection to Redis */
void worker_close_breakers(struct worker *);
void worker_open_endpoint(struct worker *, struct worker_upstream *, size_t endpoint);
void worker_close_endpoint(struct worker_endpoint *);
void worker_renew_rules(struct worker *, const struct config_upstream *next, struct worker_upstream *);
void worker_gauge_breakers(struct worker *);

/* worker_health.c: light requests to one endpoint, from the first worker. */
void worker_open_health(struct worker *, struct worker_upstream *, size_t endpoint);
void worker_close_health(struct worker_endpoint *); /* before its pools and its breaker */

struct metrics_series *worker_script_seconds(struct worker *, const char *name);

/* worker_answers.c: flights, the store's connection, the listener beside it, the hot answers. */
void worker_open_answers(struct worker *, const struct config *);
void worker_close_answers(struct worker *); /* no seat may be left */
void worker_gauge_answers(struct worker *);

/* worker_mode.c: with Redis or without it. `arg` is the worker. */
void worker_mode_changed(void *arg, bool alone, const char *why);
void worker_mode_reloaded(struct worker *, enum config_on_failure before);
void worker_turn(void *arg, struct slice id);
void worker_gauge_mode(struct worker *);

/* worker_memory.c: the value of a line "name:value" of what INFO answers; keeps `answers_full` up to date. */
struct slice worker_info(struct slice text, struct slice name);
void worker_watch_room(struct worker *);
void worker_unwatch_room(struct worker *);

#endif

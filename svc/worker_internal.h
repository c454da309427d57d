/* What the worker's files share. */
#ifndef SLUICE_WORKER_INTERNAL_H
#define SLUICE_WORKER_INTERNAL_H

#include "svc/worker.h"

/* worker_answers.c: flights, the store's connection, the listener beside it, the hot answers. */
void worker_open_answers(struct worker *, const struct config *);
void worker_close_answers(struct worker *); /* no seat may be left */
void worker_gauge_answers(struct worker *);

/* worker_memory.c: keeps `answers_full` up to date. */
void worker_watch_room(struct worker *);
void worker_unwatch_room(struct worker *);

#endif

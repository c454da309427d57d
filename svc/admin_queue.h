/* Who waits for room in a limit, for /status: of this instance, and of the fleet as its lines were last told. */
#ifndef SLUICE_ADMIN_QUEUE_H
#define SLUICE_ADMIN_QUEUE_H

#include "lib/base.h"

struct buf;
struct worker;
struct admin_queue;

struct admin_queue *admin_queue_new(void);
void admin_queue_free(struct admin_queue **);
void admin_queue_look(struct admin_queue *,
		      const struct worker *); /* on the worker's thread, one worker after the other */
/* {"waiting":{"high":…},"lines":{"upstream NAME":{"here":{"high":…},"fleet":{…} or null}}}; at most 100 lines. */
void admin_queue_write(const struct admin_queue *, struct buf *);

#endif

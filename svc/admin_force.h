/* POST /breakers/{upstream}: what its body asks for, and having the fleet's breakers forced over the connection of one worker. */
#ifndef SLUICE_ADMIN_FORCE_H
#define SLUICE_ADMIN_FORCE_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/slice.h"

struct admin_force;
struct config;
struct loop;
struct server;

/* Reads `{"force": "open" | "closed" | "auto", "endpoint": …, "model": …}` for the upstream of that name. NULL with a sentence in `error`, and the status
 * that belongs to it. */
struct admin_force *admin_force_read(struct slice upstream, struct slice body, const struct config *, struct buf *error,
				     int *status) MUST_CHECK;
/* `done` runs once, on `control`, later; after redis.timeout at the latest. */
void admin_force_start(struct admin_force *, struct server *, struct loop *control, void (*done)(void *arg), void *arg);
/* When it is done: the answer's body, and its status: 200 once Redis has taken all of it. */
void admin_force_write(const struct admin_force *, struct buf *, int *status);
void admin_force_free(struct admin_force **); /* one that is not on its way; NULL inside is fine */

#endif

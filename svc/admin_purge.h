/* POST /cache/purge: what its body asks for, and having it done over the connection of one worker. */
#ifndef SLUICE_ADMIN_PURGE_H
#define SLUICE_ADMIN_PURGE_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/slice.h"

struct admin_purge;
struct config;
struct loop;
struct server;

/* Reads `{"tenant": …, "model": …}`, `{"key": …}` or `{"all": true}`. NULL with what is wrong, a sentence, in `error`. */
struct admin_purge *admin_purge_read(struct slice body, const struct config *, struct buf *error) MUST_CHECK;
/* `done` runs once, on `control`, later; after redis.timeout at the latest. */
void admin_purge_start(struct admin_purge *, struct server *, struct loop *control, void (*done)(void *arg), void *arg);
/* When it is done: `{"purged":…,"at_ms":…}`; false: Redis did not say that it is, and why stands there instead. */
bool admin_purge_write(const struct admin_purge *, struct buf *) MUST_CHECK;
void admin_purge_free(struct admin_purge **); /* one that is not on its way; NULL inside is fine */

#endif

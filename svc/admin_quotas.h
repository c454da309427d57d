/* What is left of every quota, asked of Redis over the connection of one worker, for a page or a gauge of the admin plane. */
#ifndef SLUICE_ADMIN_QUOTAS_H
#define SLUICE_ADMIN_QUOTAS_H

#include "lib/base.h"
#include "lib/limiter.h"

struct admin_quotas;
struct buf;
struct config;
struct loop;
struct server;

/* Asks of upstreams, models and tenants in this order, of the first 500 that have limits. `done` runs once, on `control`, later; after redis.timeout at the
 * latest, for what has not answered by then stays unknown. */
struct admin_quotas *admin_quotas_ask(struct server *, struct loop *control, const struct config *,
				      void (*done)(void *arg), void *arg);
/* Before it is done: `done` never runs, and it ends by itself. NULL inside is fine. */
void admin_quotas_free(struct admin_quotas **);

/* When it is done. `{"upstreams":{NAME:{LIMIT:{…}}},"models":{…},"tenants":{…},"more":N}`: N more have limits and were not asked. */
void admin_quotas_write(const struct admin_quotas *, struct buf *);
/* When it is done: the highest used share among the names of each scope, 0 to 1; below 0 where nothing is known. */
void admin_quotas_fullest(const struct admin_quotas *, double used[LIMITER_SCOPES][LIMIT_COUNT]);

#endif

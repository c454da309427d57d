/* What the workers of this instance know of where calls go: breakers, pauses, calls in flight. For GET /breakers and /status. */
#ifndef SLUICE_ADMIN_BREAKERS_H
#define SLUICE_ADMIN_BREAKERS_H

#include "lib/base.h"

struct admin_breakers;
struct buf;
struct config;
struct worker;

struct admin_breakers *admin_breakers_new(const struct config *); /* which outlives it */
void admin_breakers_free(struct admin_breakers **);               /* NULL inside is fine */

/* Adds what one worker knows; on that worker's thread. */
void admin_breakers_look(struct admin_breakers *, const struct worker *);

/* The endpoints of one upstream, in the configuration's order:
 * `[{"url":…,"region":…,"state":…,"force":…,"wait_ms":…,"trips":…,"window":{…},"alone":…,"in_flight":…,"models":{NAME:{"state":…}},
 * "pauses":[{"model":…,"left_ms":…}]}]` */
void admin_breakers_write_endpoints(const struct admin_breakers *, size_t upstream, struct buf *);
/* All of them: `{"upstreams":{NAME:{"per_model":…,"endpoints":[…]}}}` */
void admin_breakers_write(const struct admin_breakers *, struct buf *);

#endif

/* Which server is the master, as most Sentinels say.
 *
 * All of them are asked at once (SENTINEL get-master-addr-by-name, and SENTINEL MASTER for the epoch of what they know), each over a connection that is kept
 * for the next time. As soon as more than half of them name the same address, and have answered about its epoch, that is it. Where so many have not answered within 300 ms, the newest word
 * counts: a configuration's epoch only grows, and only with the votes of most Sentinels; among equal ones what most of those name who answered. So one that is dead
 * costs no time, and one that is cut off with an old master misleads nobody who hears another. What the address answers to ROLE is for who connects to find out.
 *
 * Redis' "Guidelines for Redis clients with support for Redis Sentinel" ask them one by one and believe the first: a minority may then be believed. They are
 * asked again rather than subscribed to (+switch-master): what is published is lost with its connection, and the guidelines want the question all the same.
 * Disadvantage: a connection to each Sentinel for each to Redis. */
#ifndef SLUICE_REDIS_SENTINEL_H
#define SLUICE_REDIS_SENTINEL_H

#include "lib/redis.h"

struct loop;
struct redis_sentinel;

struct redis_sentinel_master {
	const char *host; /* a number or a name; valid inside alone. NULL: no master was named */
	int port;
	int64_t epoch;      /* of the configuration that it is from, the newest that was told; 0: not said */
	bool most;          /* more than half of all Sentinels name it */
	const char *reason; /* static text, when there is none; else NULL */
};
typedef void redis_sentinel_done(void *arg, const struct redis_sentinel_master *);

/* The options are borrowed. Connects to nobody before it is asked. */
struct redis_sentinel *redis_sentinel_new(struct loop *, const struct redis_options *, redis_sentinel_done *,
					  void *arg);
void redis_sentinel_free(struct redis_sentinel **); /* `done` never runs then; NULL inside is fine */

/* `done` runs once, later, from the loop, unless stopped. One search at a time. */
void redis_sentinel_ask(struct redis_sentinel *);
void redis_sentinel_stop(struct redis_sentinel *); /* the search that may be under way; the connections stay */

#endif

/* The first commands on every connection, all in one write: who we are, which database, and whether anybody is at home.
 *
 *   AUTH [user] password · CLIENT SETNAME sluice · ROLE · SELECT n · PING
 *
 * No call goes out before all of them are answered: on a refused SELECT it would run in the wrong database. PING finds out what
 * the others do not: a server that loads, is busy, or wants a password (all answer AUTH and SELECT as if nothing was the matter). ROLE is asked where
 * Sentinels have named the server: it may be a master no more, or not yet. */
#ifndef SLUICE_REDIS_GREETING_H
#define SLUICE_REDIS_GREETING_H

#include "lib/buf.h"
#include "lib/redis.h"

enum redis_greeting_step {
	REDIS_GREETING_AUTH,
	REDIS_GREETING_NAME,
	REDIS_GREETING_ROLE,
	REDIS_GREETING_SELECT,
	REDIS_GREETING_PING
};

/* Embedded in struct redis; between connections it holds nothing. */
struct redis_greeting {
	struct buf bytes;
	size_t written;
	const char *password; /* the options'; NULL: none */
	enum redis_greeting_step steps[5];
	size_t count, answered;
};

enum redis_greeting_verdict { REDIS_GREETING_ON, REDIS_GREETING_DONE, REDIS_GREETING_REFUSED };

void redis_greeting_begin(struct redis_greeting *, const struct redis_options *);
void redis_greeting_end(struct redis_greeting *); /* wipes; harmless twice, but not before the first begin */
/* What the next reply means; refused: `reason` (room for `size`) says why, without secrets. */
enum redis_greeting_verdict redis_greeting_reply(struct redis_greeting *, const struct redisReply *, char *reason,
						 size_t size) MUST_CHECK;

#endif

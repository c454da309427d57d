/* One socket to Redis, from connect to close: bytes go out, replies come in. It knows no commands and no deadlines.
 *
 *   redis_link_open ──► opened ──► reply, reply, … ──► failed
 *
 * It stands on hiredis' parser alone. hiredis' asynchronous half differs between 0.14 and 1.x in just what matters here (who frees
 * when, what runs inside a callback), allocates per command, and writes at times of its own choosing. The reading event is
 * registered once; the writing one only while connecting, and while the socket is full.
 *
 * Each connection is a new link, so a late reply has nowhere to go. */
#ifndef SLUICE_REDIS_LINK_H
#define SLUICE_REDIS_LINK_H

#include "lib/base.h"

#include <sys/types.h>
#include <sys/uio.h>

struct loop;
struct redis_link;
struct redis_address;
struct redisReply;

/* All run from the loop, never inside a call of this file. Any of them may free the link. */
struct redis_link_events {
	void (*opened)(void *arg);
	void (*reply)(void *arg, struct redisReply *); /* valid until it returns */
	void (*writable)(void *arg);                   /* after redis_link_write took less than it was given */
	void (*failed)(void *arg, const char *reason); /* once; nothing comes after it; the owner frees the link */
};

/* NULL with a reason (static text) when the address cannot even be tried. */
struct redis_link *redis_link_open(struct loop *, const struct redis_address *, const struct redis_link_events *,
				   void *arg, const char **reason);
/* Hears what has come, now: for who cannot wait until the loop does. The events may run inside. */
void redis_link_read(struct redis_link *);
uint64_t redis_link_bytes(const struct redis_link *); /* received so far */
void redis_link_free(struct redis_link **);           /* closes at once; NULL inside is fine */

/* Bytes that the kernel took, maybe fewer than all: then `writable` follows. -1: broken, with a reason. */
ssize_t redis_link_write(struct redis_link *, const struct iovec *, size_t count, const char **reason) MUST_CHECK;

#endif

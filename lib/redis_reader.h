/* hiredis' parser with ceilings: bytes come in, whole replies come out.
 *
 * hiredis 0.14 believes whatever length a server announces: `*1000000000` allocates eight gigabytes before one element came.
 * 1.x nests without end, and frees by recursion. Here one reply may hold REDIS_READER_ELEMENTS elements, nested ones included,
 * REDIS_READER_DEPTH deep, in REDIS_READER_BYTES; what passes that, or is no RESP, breaks the reader for good and the
 * connection with it. */
#ifndef SLUICE_REDIS_READER_H
#define SLUICE_REDIS_READER_H

#include "lib/base.h"
#include "lib/slice.h"

#define REDIS_READER_ELEMENTS (1024 * 1024)
#define REDIS_READER_DEPTH    8
#define REDIS_READER_BYTES    (64u * 1024 * 1024)

struct redis_reader;
struct redisReply;

enum redis_reader_result {
	REDIS_READER_REPLY, /* a whole one */
	REDIS_READER_MORE,  /* more bytes are needed */
	REDIS_READER_BROKEN /* redis_reader_reason says why; it stays so */
};

struct redis_reader *redis_reader_new(void);
void redis_reader_free(struct redis_reader **);
void redis_reader_feed(struct redis_reader *, struct slice bytes);
/* The next reply in *reply; the caller gives it to redis_reader_reply_free. */
enum redis_reader_result redis_reader_next(struct redis_reader *, struct redisReply **reply) MUST_CHECK;
void redis_reader_reply_free(struct redisReply *);
const char *redis_reader_reason(const struct redis_reader *);

#endif

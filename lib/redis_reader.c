#include "lib/redis_reader.h"
#include "lib/mem.h"

#include <hiredis/hiredis.h>
#include <hiredis/read.h>

/* The announced length of an array, as createArray is told it. */
#if HIREDIS_MAJOR >= 1
#define ANNOUNCED size_t
#else
#define ANNOUNCED int
#endif

/* Owned by one connection. `functions` are hiredis' own but for the one that makes arrays. `elements` and `bytes` count what the
 * reply now being read announced and took; both are 0 between replies. */
struct redis_reader {
	redisReader *parser;
	redisReplyObjectFunctions functions;
	void *(*make_array)(const redisReadTask *, ANNOUNCED);
	size_t elements, bytes;
	const char *broken; /* NULL: well */
};

static void *make_bounded_array(const redisReadTask *task, ANNOUNCED count)
{
	struct redis_reader *r = task->privdata;
	if (r->parser->ridx >= REDIS_READER_DEPTH) {
		r->broken = "a reply nested too deep";
		return NULL;
	}
	if ((size_t)count > REDIS_READER_ELEMENTS - r->elements) {
		r->broken = "a reply of too many elements";
		return NULL;
	}
	r->elements += (size_t)count;
	return r->make_array(task, count);
}

struct redis_reader *redis_reader_new(void)
{
	struct redis_reader *r = mem_new(sizeof(*r));
	r->parser = redisReaderCreate();
	CHECK(r->parser != NULL); /* a failed small allocation */
	r->functions = *r->parser->fn;
	r->make_array = r->functions.createArray;
	r->functions.createArray = make_bounded_array;
	r->parser->fn = &r->functions;
	r->parser->privdata = r;
	return r;
}

void redis_reader_free(struct redis_reader **reader)
{
	struct redis_reader *r = *reader;
	*reader = NULL;
	if (r == NULL)
		return;
	redisReaderFree(r->parser);
	mem_free(r);
}

void redis_reader_feed(struct redis_reader *r, struct slice bytes)
{
	if (r->broken != NULL)
		return;
	r->bytes += bytes.len;
	if (redisReaderFeed(r->parser, bytes.data, bytes.len) != 0)
		r->broken = r->parser->errstr;
}

enum redis_reader_result redis_reader_next(struct redis_reader *r, struct redisReply **reply)
{
	void *got = NULL;
	if (r->broken != NULL)
		return REDIS_READER_BROKEN;
	if (redisReaderGetReply(r->parser, &got) != 0) {
		if (r->broken == NULL)
			r->broken = r->parser->errstr;
		return REDIS_READER_BROKEN;
	}
	if (got != NULL) {
		r->elements = 0;
		r->bytes = r->parser->len - r->parser->pos;
		*reply = got;
		return REDIS_READER_REPLY;
	}
	if (r->bytes <= REDIS_READER_BYTES)
		return REDIS_READER_MORE;
	r->broken = "a reply of too many bytes";
	return REDIS_READER_BROKEN;
}

void redis_reader_reply_free(struct redisReply *reply)
{
	if (reply != NULL)
		freeReplyObject(reply);
}

const char *redis_reader_reason(const struct redis_reader *r)
{
	return r->broken == NULL ? "" : r->broken;
}

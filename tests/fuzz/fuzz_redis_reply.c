/* Any bytes as Redis' replies, fed whole and fed in pieces: the same number of replies, the same end, and no reply that the
 * accessors stumble over. */
#include "lib/redis.h"
#include "lib/redis_reader.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t look(const struct redisReply *reply)
{
	struct slice text;
	int64_t number;
	uint64_t sum = (uint64_t)reply->type;
	if (redis_reply_text(reply, &text))
		for (size_t i = 0; i < text.len; i++)
			sum = sum * 31 + (unsigned char)text.data[i];
	if (redis_reply_int(reply, &number))
		sum += (uint64_t)number;
	for (size_t i = 0; i < redis_reply_count(reply); i++)
		sum = sum * 31 + look(redis_reply_at(reply, i));
	return sum;
}

static uint64_t drain(struct redis_reader *r, bool *broken)
{
	struct redisReply *reply;
	uint64_t sum = 0;
	enum redis_reader_result result;
	while ((result = redis_reader_next(r, &reply)) == REDIS_READER_REPLY) {
		sum += look(reply);
		redis_reader_reply_free(reply);
	}
	*broken = result == REDIS_READER_BROKEN;
	return sum;
}

static uint64_t read_all(const char *data, size_t size, size_t step, bool *broken)
{
	struct redis_reader *r = redis_reader_new();
	uint64_t sum = 0;
	for (size_t at = 0; at < size && !*broken; at += step) {
		redis_reader_feed(r, slice_make(data + at, size - at < step ? size - at : step));
		sum += drain(r, broken);
	}
	redis_reader_free(&r);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool broken_whole = false, broken_pieces = false;
	if (size == 0)
		return 0;
	size_t step = 1 + data[0] % 7u;
	const char *bytes = (const char *)data + 1;
	uint64_t whole = read_all(bytes, size - 1, size, &broken_whole);
	uint64_t pieces = read_all(bytes, size - 1, step, &broken_pieces);
	if (whole != pieces || broken_whole != broken_pieces)
		abort();
	return 0;
}

/* Redis' replies as plain values. A reply of another type than asked for is no crash: whoever reads a script's answer sees false
 * and treats it as an answer that nobody could understand. */
#include "lib/redis.h"
#include "lib/text.h"

#include <hiredis/hiredis.h>

bool redis_reply_int(const struct redisReply *reply, int64_t *value)
{
	struct slice text;
	if (reply != NULL && reply->type == REDIS_REPLY_INTEGER) {
		*value = reply->integer;
		return true;
	}
	return redis_reply_text(reply, &text) && text_int(text, value);
}

bool redis_reply_text(const struct redisReply *reply, struct slice *text)
{
	if (reply == NULL || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS))
		return false;
	*text = slice_make(reply->str, reply->len);
	return true;
}

bool redis_reply_error(const struct redisReply *reply, struct slice *text)
{
	if (reply == NULL || reply->type != REDIS_REPLY_ERROR)
		return false;
	*text = slice_make(reply->str, reply->len);
	return true;
}

size_t redis_reply_count(const struct redisReply *reply)
{
	return reply != NULL && reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;
}

const struct redisReply *redis_reply_at(const struct redisReply *reply, size_t index)
{
	return index < redis_reply_count(reply) ? reply->element[index] : NULL;
}

/* The stand-in for lib/redis: it is up, and answers nobody. */
#include "lib/redis.h"
#include "tests/flow/world/world_internal.h"

struct redis {
	int nothing;
};
struct redis_call {
	int nothing;
};

struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct log *log)
{
	(void)loop, (void)options, (void)log;
	return mem_new(sizeof(struct redis));
}

void redis_free(struct redis **redis)
{
	mem_free(*redis);
	*redis = NULL;
}

const char *redis_reason(const struct redis *redis)
{
	(void)redis;
	return "";
}

const struct redis_counts *redis_counts(const struct redis *redis)
{
	static const struct redis_counts none;
	(void)redis;
	return &none;
}

bool redis_is_refused(const struct redis *redis)
{
	(void)redis;
	return false;
}

bool redis_is_up(const struct redis *redis)
{
	(void)redis;
	return true;
}

void redis_on_change(struct redis *redis, void (*changed)(void *arg, bool up), void *arg)
{
	(void)redis, (void)changed, (void)arg;
}

struct redis_call *redis_send(struct redis *redis, int64_t timeout, redis_done *done, void *arg, size_t count,
			      const struct slice *arguments)
{
	(void)redis, (void)timeout, (void)done, (void)arg, (void)count, (void)arguments;
	return mem_new(sizeof(struct redis_call));
}

void redis_cancel(struct redis_call **call)
{
	mem_free(*call);
	*call = NULL;
}

bool redis_reply_text(const struct redisReply *reply, struct slice *text)
{
	(void)reply, (void)text;
	return false;
}

const struct redisReply *redis_reply_at(const struct redisReply *reply, size_t index)
{
	(void)reply, (void)index;
	return NULL;
}

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

#include "tests/support/line_rig.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/limiter_rig.h"
#include "tests/support/script_rig.h"

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

enum { HEARD = 4096 };

const char *const line_rig_workers[LINE_RIG_WORKERS + 1] = { "a", "b", "c", NULL };

static struct {
	redisContext *redis;
	struct {
		char channel[LINE_RIG_TEXT], id[LINE_RIG_TEXT];
	} heard[HEARD];
	size_t first, count;
} rig;

static redisReply *next(void)
{
	void *reply = NULL;
	if (redisGetReply(rig.redis, &reply) != REDIS_OK)
		script_rig_fail("subscriber", rig.redis->errstr);
	return reply;
}

static void send_one(const char *command, const char *channel)
{
	if (redisAppendCommand(rig.redis, "%s %s", command, channel) != REDIS_OK)
		script_rig_fail(command, rig.redis->errstr);
}

static void keep(const redisReply *message)
{
	const char *text = message->element[2]->str;
	size_t at = (rig.first + rig.count) % HEARD;
	if (rig.count++ == HEARD || strncmp(text, "turn ", 5) != 0)
		script_rig_fail("subscriber", "heard what it should not");
	snprintf(rig.heard[at].channel, LINE_RIG_TEXT, "%s", message->element[1]->str);
	snprintf(rig.heard[at].id, LINE_RIG_TEXT, "%s", text + 5);
}

/* Reads up to the answer of this kind; Redis writes what was published before it first. */
static void read_to(const char *kind)
{
	for (bool last = false; !last;) {
		redisReply *reply = next();
		if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
			script_rig_fail("subscriber", "no message");
		last = strcmp(reply->element[0]->str, kind) == 0;
		if (strcmp(reply->element[0]->str, "message") == 0)
			keep(reply);
		freeReplyObject(reply);
	}
}

void line_rig_listen(const char *const *channels)
{
	if (rig.redis == NULL)
		rig.redis = script_rig_connect(limiter_rig_server());
	for (; *channels != NULL; channels++) {
		send_one("SUBSCRIBE", *channels);
		read_to("subscribe");
	}
}

void line_rig_deaf(const char *channel)
{
	send_one("UNSUBSCRIBE", channel);
	read_to("unsubscribe");
}

int line_rig_begin(void **state)
{
	int result = limiter_rig_begin(state);
	if (result == 0)
		line_rig_listen(line_rig_workers);
	return result;
}

int line_rig_end(void **state)
{
	redisFree(rig.redis);
	memset(&rig, 0, sizeof(rig));
	return limiter_rig_end(state);
}

int line_rig_clean(void **state)
{
	char channel[LINE_RIG_TEXT], id[LINE_RIG_TEXT];
	while (line_rig_called(channel, id))
		continue;
	limiter_rig_as(line_rig_workers[0]);
	return limiter_rig_clean(state);
}

bool line_rig_called(char channel[LINE_RIG_TEXT], char id[LINE_RIG_TEXT])
{
	if (redisAppendCommand(rig.redis, "PING") != REDIS_OK)
		script_rig_fail("PING", rig.redis->errstr);
	read_to("pong");
	if (rig.count == 0)
		return false;
	memcpy(channel, rig.heard[rig.first].channel, LINE_RIG_TEXT);
	memcpy(id, rig.heard[rig.first].id, LINE_RIG_TEXT);
	rig.first = (rig.first + 1) % HEARD;
	rig.count--;
	return true;
}

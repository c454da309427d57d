#include "tests/support/script_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

_Noreturn void script_rig_fail(const char *what, const char *why)
{
	fprintf(stderr, "script_rig: %s: %s\n", what, why);
	abort();
}

redisReply *script_rig_answer(redisReply *reply, const char *what)
{
	if (reply == NULL)
		script_rig_fail(what, "no answer");
	return reply;
}

redisReply *script_rig_must(redisReply *reply, const char *what)
{
	if (script_rig_answer(reply, what)->type == REDIS_REPLY_ERROR)
		script_rig_fail(what, reply->str);
	return reply;
}

redisContext *script_rig_connect(const struct redis_server *server)
{
	redisContext *context = redisConnectUnix(redis_server_path(server));

	if (context == NULL || context->err != 0)
		script_rig_fail("connect", redis_server_path(server));
	return context;
}

void script_rig_load(redisContext *context, const struct script *const *scripts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		freeReplyObject(
			script_rig_must(redisCommand(context, "SCRIPT LOAD %b", scripts[i]->source, scripts[i]->length),
					scripts[i]->name));
}

void script_rig_check_expiries(redisContext *context)
{
	redisReply *keys = script_rig_must(redisCommand(context, "KEYS *"), "KEYS");

	for (size_t i = 0; i < keys->elements; i++) {
		const redisReply *key = keys->element[i];
		redisReply *left = script_rig_must(redisCommand(context, "PTTL %b", key->str, key->len), "PTTL");
		if (left->integer == -1)
			script_rig_fail("no expiry", key->str);
		freeReplyObject(left);
	}
	freeReplyObject(keys);
}

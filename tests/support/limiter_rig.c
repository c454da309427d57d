#include "tests/support/limiter_rig.h"

#include <stdio.h>

#include "lib/buf.h"
#include "scripts.h"
#include "tests/support/script_rig.h"

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

static struct {
	struct redis_server *server;
	redisContext *redis;
	int64_t calls;
	struct slice channel;
} rig;

static void connect_and_load(void)
{
	static const struct script *const scripts[] = { &script_admit, &script_settle, &script_renew, &script_peek,
							&script_beat };
	rig.redis = script_rig_connect(rig.server);
	script_rig_load(rig.redis, scripts, ARRAY_LENGTH(scripts));
}

int limiter_rig_begin(void **state)
{
	(void)state;
	rig.server = redis_server_start(NULL);
	connect_and_load();
	return 0;
}

int limiter_rig_end(void **state)
{
	(void)state;
	redisFree(rig.redis);
	redis_server_free(&rig.server);
	return 0;
}

int limiter_rig_clean(void **state)
{
	(void)state;
	redis_server_do(rig.server, "CONFIG SET maxmemory 0"); /* of a test that failed in between */
	limiter_rig_flush();
	limiter_rig_calls();
	return 0;
}

void limiter_rig_as(const char *channel)
{
	rig.channel = slice_of(channel);
}

int limiter_rig_leave(void **state)
{
	(void)state;
	limiter_rig_check_expiries();
	return 0;
}

struct redis_server *limiter_rig_server(void)
{
	return rig.server;
}

void limiter_rig_flush(void)
{
	redis_server_do(rig.server, "FLUSHALL");
}

void limiter_rig_restart(void)
{
	redisFree(rig.redis);
	redis_server_restart(rig.server);
	connect_and_load();
	rig.calls = 0;
}

static redisReply *run(const struct script *script, const struct limiter_wire *wire)
{
	const char *argv[256];
	size_t length[256], count = 0;
	char keys[16];
	argv[count] = "EVALSHA", length[count++] = 7;
	argv[count] = script->sha1, length[count++] = 40;
	argv[count] = keys, length[count++] = (size_t)snprintf(keys, sizeof keys, "%zu", wire->keys);
	for (size_t i = 0; i < wire->keys; i++)
		argv[count] = wire->key[i].data, length[count++] = wire->key[i].len;
	for (size_t i = 0; i < wire->arguments; i++)
		argv[count] = wire->argument[i].data, length[count++] = wire->argument[i].len;
	return script_rig_must(redisCommandArgv(rig.redis, (int)count, argv, length), script->name);
}

static size_t numbers(const redisReply *reply, int64_t number[static 64])
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements > 64)
		script_rig_fail("reply", "not an array");
	for (size_t i = 0; i < reply->elements; i++) {
		if (reply->element[i]->type != REDIS_REPLY_INTEGER)
			script_rig_fail("reply", "not an integer");
		number[i] = reply->element[i]->integer;
	}
	return reply->elements;
}

static struct slice rule_of(const struct limiter_ask *ask)
{
	static char text[LINE_RULE_MOST];
	struct buf out;
	if (ask->line.rule == NULL || rig.channel.len == 0)
		return SLICE_NONE;
	buf_wrap(&out, text, sizeof text, 0);
	line_write_rule(ask->line.rule, rig.channel, &out);
	return buf_slice(&out);
}

void limiter_rig_admit(const struct limiter_ask *ask, int64_t now, struct limiter_answer *answer, int64_t *reserved)
{
	struct limiter_wire wire;
	int64_t number[64];
	const struct limiter_wire_times times = { .lease = RIG_LEASE, .hold = RIG_HOLD };
	limiter_wire_admit(&wire, ask, &times, rule_of(ask), now);
	redisReply *reply = run(&script_admit, &wire);
	*answer = (struct limiter_answer){ 0 };
	if (!limiter_wire_read(ask, number, numbers(reply, number), answer, reserved))
		script_rig_fail("admit", "no reply of admit");
	freeReplyObject(reply);
}

bool limiter_rig_settle(const struct limiter_ask *ask, const struct limiter_used *used,
			const struct limiter_wire_past *past, int64_t now, int64_t forgiven[LIMIT_COUNT])
{
	struct limiter_wire wire;
	int64_t number[64];
	struct limiter_wire_past from = *past;
	from.rule = rule_of(ask);
	limiter_wire_settle(&wire, ask, used, &from, now);
	redisReply *reply = run(&script_settle, &wire);
	if (!limiter_wire_read_settled(ask, used, number, numbers(reply, number), forgiven))
		script_rig_fail("settle", "no reply of settle");
	freeReplyObject(reply);
	return number[0] == 1;
}

int64_t limiter_rig_renew(const char *key, const struct slice *id, size_t count, int64_t now)
{
	struct limiter_wire wire = { .keys = 1, .key = { slice_of(key) } };
	char text[2][24];
	snprintf(text[0], sizeof text[0], "%lld", (long long)now);
	snprintf(text[1], sizeof text[1], "%lld", (long long)RIG_LEASE);
	wire.argument[wire.arguments++] = now == LIMITER_WIRE_NOW ? SLICE("") : slice_of(text[0]);
	wire.argument[wire.arguments++] = slice_of(text[1]);
	for (size_t i = 0; i < count; i++)
		wire.argument[wire.arguments++] = id[i];
	redisReply *reply = run(&script_renew, &wire);
	int64_t unknown = reply->integer;
	freeReplyObject(reply);
	return unknown;
}

void limiter_rig_peek(enum limiter_scope scope, struct slice name, const struct limits *limits, int64_t now,
		      struct limiter_left left[LIMIT_COUNT])
{
	struct limiter_wire wire;
	int64_t number[64];
	limiter_wire_peek(&wire, scope, name, limits, now);
	redisReply *reply = run(&script_peek, &wire);
	for (int k = 0; k < LIMIT_COUNT; k++)
		left[k] = (struct limiter_left){ 0 };
	if (!limiter_wire_read_peek(limits, number, numbers(reply, number), left))
		script_rig_fail("peek", "no reply of peek");
	freeReplyObject(reply);
}

size_t limiter_rig_beat(const struct limiter_ask *ask, enum limiter_scope scope, int64_t now, int64_t number[static 64])
{
	struct limiter_wire wire = { .keys = 2, .arguments = 2 };
	char text[3][LIMITER_LINE_KEY];
	struct buf out;
	for (size_t i = 0; i < 2; i++) {
		buf_wrap(&out, text[i], sizeof text[i], 0);
		limiter_wire_line_key(ask, scope, "wf"[i], &out);
		wire.key[i] = buf_slice(&out);
	}
	wire.argument[0] = slice_make(text[2], (size_t)snprintf(text[2], sizeof text[2], "%lld", (long long)now));
	wire.argument[1] = rule_of(ask);
	redisReply *reply = run(&script_beat, &wire);
	size_t count = numbers(reply, number);
	freeReplyObject(reply);
	return count;
}

struct limiter_ask limiter_rig_ask(const char *id, const struct limits *tenant, const struct limits *model,
				   const struct limits *upstream, int64_t tokens)
{
	struct limiter_ask ask = { .id = slice_of(id), .tokens = tokens };
	const struct limits *limits[LIMITER_SCOPES] = { tenant, model, upstream };
	const char *const names[LIMITER_SCOPES] = { "acme", "pro", "gem" };
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		ask.scope[s].name = slice_of(names[s]);
		ask.scope[s].limits = limits[s];
		ask.scope[s].requests = 1;
	}
	return ask;
}

bool limiter_rig_try(const struct limiter_ask *ask, int64_t now, struct limiter_answer *answer)
{
	int64_t reserved = 0;
	limiter_rig_admit(ask, now, answer, &reserved);
	return answer->verdict == LIMITER_ADMITTED;
}

static redisReply *all_keys(void)
{
	return script_rig_must(redisCommand(rig.redis, "KEYS *"), "KEYS");
}

uint64_t limiter_rig_digest(void)
{
	redisReply *keys = all_keys();
	uint64_t digest = keys->elements;
	for (size_t i = 0; i < keys->elements; i++) {
		redisReply *dump = script_rig_must(redisCommand(rig.redis, "DUMP %b", keys->element[i]->str,
								keys->element[i]->len),
						   "DUMP");
		uint64_t hash = UINT64_C(
			14695981039346656037); /* FNV-1a over name and content; the order of KEYS does not matter */
		for (size_t b = 0; b < keys->element[i]->len; b++)
			hash = (hash ^ (unsigned char)keys->element[i]->str[b]) * UINT64_C(1099511628211);
		for (size_t b = 0; b < dump->len; b++)
			hash = (hash ^ (unsigned char)dump->str[b]) * UINT64_C(1099511628211);
		digest += hash;
		freeReplyObject(dump);
	}
	freeReplyObject(keys);
	return digest;
}

void limiter_rig_check_expiries(void)
{
	script_rig_check_expiries(rig.redis);
}

int64_t limiter_rig_calls(void)
{
	int64_t total = redis_server_calls(rig.server);
	int64_t since = total - rig.calls;
	rig.calls = total;
	return since;
}

#include "tests/support/flight_script_rig.h"

#include <stdio.h>

#include "lib/slice.h"
#include "scripts.h"
#include "tests/support/script_rig.h"

#include <hiredis/hiredis.h>

enum { MOST_WORDS = 32, NUMBER = 24, TEXT = 64 * 1024 };

static struct {
	struct redis_server *server;
	redisContext *redis, *ears;
	int64_t calls;
	char text[TEXT], heard[TEXT];
	size_t length;
} rig;

/* ---- a group, a test ---------------------------------------------------------------------------------------------------- */

int flight_script_begin(void **state)
{
	static const struct script *const scripts[] = { &script_join, &script_append, &script_finish, &script_follow };

	(void)state;
	rig.server = redis_server_start(NULL);
	rig.redis = script_rig_connect(rig.server);
	rig.ears = script_rig_connect(rig.server);
	script_rig_load(rig.redis, scripts, ARRAY_LENGTH(scripts));
	freeReplyObject(script_rig_answer(redisCommand(rig.ears, "PSUBSCRIBE *"), "PSUBSCRIBE"));
	return 0;
}

int flight_script_end(void **state)
{
	(void)state;
	redisFree(rig.redis);
	redisFree(rig.ears);
	redis_server_free(&rig.server);
	return 0;
}

int flight_script_clean(void **state)
{
	(void)state;
	redis_server_do(rig.server, "CONFIG SET maxmemory 0"); /* of a test that failed in between */
	redis_server_do(rig.server, "FLUSHALL");
	flight_script_hints();
	flight_script_calls();
	return 0;
}

int flight_script_leave(void **state)
{
	(void)state;
	script_rig_check_expiries(rig.redis);
	return 0;
}

struct redis_server *flight_script_server(void)
{
	return rig.server;
}

/* ---- replies as text ---------------------------------------------------------------------------------------------------- */

static void write_text(const char *text)
{
	int wrote = snprintf(rig.text + rig.length, TEXT - rig.length, "%s", text);

	rig.length += (size_t)wrote;
	if (rig.length >= TEXT)
		script_rig_fail("reply", "too long");
}

/* The id of an entry of a stream is Redis' to choose. */
static bool is_id(const char *text)
{
	size_t first = strspn(text, "0123456789"), second;

	if (first == 0 || text[first] != '-')
		return false;
	second = strspn(text + first + 1, "0123456789");
	return second > 0 && text[first + 1 + second] == '\0';
}

static void write_reply(const redisReply *reply, bool outermost)
{
	char number[NUMBER];

	switch (reply->type) {
	case REDIS_REPLY_INTEGER:
		snprintf(number, sizeof(number), "%lld", reply->integer);
		write_text(number);
		break;
	case REDIS_REPLY_ARRAY:
		write_text(outermost ? "" : "[");
		for (size_t i = 0; i < reply->elements; i++) {
			write_text(i > 0 ? " " : "");
			write_reply(reply->element[i], false);
		}
		write_text(outermost ? "" : "]");
		break;
	case REDIS_REPLY_NIL:
		write_text("-");
		break;
	case REDIS_REPLY_ERROR:
		write_text("error ");
		write_text(reply->str);
		break;
	default:
		write_text(is_id(reply->str) ? "#" : reply->str);
	}
}

static const char *as_text(redisReply *reply)
{
	rig.length = 0;
	rig.text[0] = '\0';
	write_reply(reply, true);
	freeReplyObject(reply);
	return rig.text;
}

/* ---- calls -------------------------------------------------------------------------------------------------------------- */

struct words {
	const char *word[MOST_WORDS];
	size_t count;
	char number[MOST_WORDS][NUMBER];
};

static void put(struct words *w, const char *word)
{
	if (w->count == MOST_WORDS)
		script_rig_fail("call", "too many words");
	w->word[w->count++] = word == NULL ? "" : word;
}

static void put_int(struct words *w, int64_t number)
{
	char *text = w->number[w->count];

	snprintf(text, NUMBER, "%lld", (long long)number);
	put(w, text);
}

static void begin(struct words *w, const struct script *script, int keys)
{
	w->count = 0;
	put(w, "EVALSHA");
	put(w, script->sha1);
	put_int(w, keys);
}

static void put_now(struct words *w, int64_t now)
{
	if (now == 0)
		put(w, "");
	else
		put_int(w, now);
}

static const char *stream_key(int64_t fence, char key[64])
{
	snprintf(key, 64, STREAM_KEY "%lld", (long long)fence);
	return key;
}

static const char *call(const struct words *w)
{
	return as_text(
		script_rig_answer(redisCommandArgv(rig.redis, (int)w->count, (const char **)(uintptr_t)w->word, NULL),
				  w->word[0]));
}

const char *flight_script_join(const struct rig_join *j)
{
	struct words w;

	begin(&w, &script_join, 3);
	put(&w, FLIGHT_KEY);
	put(&w, STORED_KEY);
	put(&w, PURGED_KEY);
	put_now(&w, j->now);
	put(&w, j->channel);
	put_int(&w, RIG_LEASE);
	put_int(&w, RIG_PRESENCE);
	put(&w, j->wishes);
	put(&w, j->oldest);
	put_int(&w, j->slack);
	put(&w, RIG_NAME);
	put(&w, "*");
	for (size_t i = 0; i < ARRAY_LENGTH(j->purges) && j->purges[i] != NULL; i++)
		put(&w, j->purges[i]);
	return call(&w);
}

const char *flight_script_append(const struct rig_append *a)
{
	struct words w;
	char key[64];

	begin(&w, &script_append, 2);
	put(&w, FLIGHT_KEY);
	put(&w, stream_key(a->fence, key));
	put_now(&w, a->now);
	put_int(&w, a->fence);
	put_int(&w, RIG_LEASE);
	put(&w, RIG_NAME);
	put(&w, a->alone ? "1" : "0");
	put(&w, a->close ? "1" : "0");
	put(&w, a->head);
	put_int(&w, a->offset);
	put(&w, a->bytes);
	put(&w, a->end);
	put(&w, a->after == NULL ? "r" : a->after);
	put_int(&w, a->holds);
	return call(&w);
}

const char *flight_script_finish(const struct rig_finish *f)
{
	struct words w;
	char key[64];

	begin(&w, &script_finish, 3);
	put(&w, FLIGHT_KEY);
	put(&w, STORED_KEY);
	put(&w, stream_key(f->fence, key));
	put_now(&w, f->now);
	put_int(&w, f->fence);
	put(&w, RIG_NAME);
	put(&w, f->head);
	put_int(&w, f->offset);
	put(&w, f->bytes);
	put(&w, f->end == NULL ? "d" : f->end);
	put_int(&w, f->fresh);
	put_int(&w, f->stale);
	put_int(&w, f->error);
	put_int(&w, f->late);
	put(&w, "H");
	put(&w, f->body);
	put(&w, "1");
	put(&w, "S");
	return call(&w);
}

const char *flight_script_follow(const struct rig_follow *f)
{
	struct words w;
	char key[64];

	begin(&w, &script_follow, 2);
	put(&w, FLIGHT_KEY);
	put(&w, stream_key(f->fence, key));
	put_now(&w, f->now);
	put_int(&w, f->fence);
	put(&w, f->channel);
	put_int(&w, f->presence);
	put(&w, f->last);
	put_int(&w, f->count == 0 ? 100 : f->count);
	return call(&w);
}

const char *flight_script_look(const char *command)
{
	return as_text(script_rig_answer(redisCommand(rig.redis, command), command));
}

const char *flight_script_id(int64_t fence, size_t index)
{
	static char id[48];
	char key[64];
	redisReply *entries =
		script_rig_answer(redisCommand(rig.redis, "XRANGE %s - +", stream_key(fence, key)), "XRANGE");

	if (index >= entries->elements)
		script_rig_fail("XRANGE", "there is no such entry");
	snprintf(id, sizeof(id), "%s", entries->element[index]->element[0]->str);
	freeReplyObject(entries);
	return id;
}

/* ---- what can be seen from outside ---------------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const redisReply *text) /* FNV-1a */
{
	for (size_t i = 0; i < text->len; i++)
		hash = (hash ^ (unsigned char)text->str[i]) * UINT64_C(1099511628211);
	return hash;
}

uint64_t flight_script_digest(void)
{
	redisReply *keys = script_rig_answer(redisCommand(rig.redis, "KEYS *"), "KEYS");
	uint64_t digest = keys->elements; /* the order of KEYS does not matter */

	for (size_t i = 0; i < keys->elements; i++) {
		redisReply *dump = script_rig_answer(redisCommand(rig.redis, "DUMP %s", keys->element[i]->str), "DUMP");
		digest += hash_bytes(hash_bytes(UINT64_C(14695981039346656037), keys->element[i]), dump);
		freeReplyObject(dump);
	}
	freeReplyObject(keys);
	return digest;
}

int64_t flight_script_calls(void)
{
	int64_t total = redis_server_calls(rig.server);
	int64_t since = total - rig.calls;
	rig.calls = total;
	return since;
}

/* A word of our own goes last: what was published before it has been heard when it comes. */
const char *flight_script_hints(void)
{
	size_t length = 0;

	freeReplyObject(script_rig_answer(redisCommand(rig.redis, "PUBLISH rig last"), "PUBLISH"));
	rig.calls++; /* no script's */
	rig.heard[0] = '\0';
	for (bool last = false; !last;) {
		void *reply = NULL;
		if (redisGetReply(rig.ears, &reply) != REDIS_OK)
			script_rig_fail("hints", rig.ears->errstr);
		const redisReply *message = reply;
		const char *channel = message->element[2]->str, *text = message->element[3]->str;
		last = strcmp(channel, "rig") == 0;
		if (!last)
			length += (size_t)snprintf(rig.heard + length, TEXT - length, "%s%s %s", length > 0 ? " " : "",
						   channel, text);
		freeReplyObject(reply);
	}
	return rig.heard;
}

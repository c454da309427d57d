#include "lib/redis_greeting.h"
#include "lib/mem.h"
#include "lib/redis_call.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#define MOST_BYTES 4096

static void add(struct redis_greeting *g, enum redis_greeting_step step, size_t count, const struct slice *arguments)
{
	CHECK(g->count < ARRAY_LENGTH(g->steps));
	CHECK(redis_call_format(&g->bytes, count, arguments)); /* the parts are bounded where the URL was read */
	g->steps[g->count++] = step;
}

void redis_greeting_begin(struct redis_greeting *g, const struct redis_options *o)
{
	char number[16];
	memset(g, 0, sizeof(*g));
	g->password = o->password;
	buf_init(&g->bytes, MOST_BYTES);
	CHECK(buf_reserve(&g->bytes, MOST_BYTES)); /* it does not move, so it leaves no copy of the password behind */
	if (o->password != NULL && o->user != NULL)
		add(g, REDIS_GREETING_AUTH, 3,
		    (struct slice[]){ SLICE("AUTH"), slice_of(o->user), slice_of(o->password) });
	else if (o->password != NULL)
		add(g, REDIS_GREETING_AUTH, 2, (struct slice[]){ SLICE("AUTH"), slice_of(o->password) });
	add(g, REDIS_GREETING_NAME, 3, (struct slice[]){ SLICE("CLIENT"), SLICE("SETNAME"), SLICE("sluice") });
	if (o->sentinels_count > 0)
		add(g, REDIS_GREETING_ROLE, 1, (struct slice[]){ SLICE("ROLE") });
	if (o->database != 0) {
		snprintf(number, sizeof(number), "%d", o->database);
		add(g, REDIS_GREETING_SELECT, 2, (struct slice[]){ SLICE("SELECT"), slice_of(number) });
	}
	add(g, REDIS_GREETING_PING, 1, (struct slice[]){ SLICE("PING") });
}

void redis_greeting_end(struct redis_greeting *g)
{
	if (g->bytes.data != NULL)
		mem_wipe(g->bytes.data, g->bytes.capacity);
	buf_free(&g->bytes);
	g->count = g->answered = g->written = 0;
}

/* An error to PING that does not keep the calls from being worth a try: each of them will hear it for itself. */
static bool is_bearable(enum redis_error error)
{
	const struct redis_error_row *row = redis_error_row(error);
	return !row->drop && row->mode != REDIS_AWAY && error != REDIS_ERROR_other;
}

/* "unknown command" repeats what it was told, and cuts it short; who knows what a proxy repeats. */
static struct slice without_password(const struct redis_greeting *g, const struct redisReply *reply)
{
	struct slice text = slice_make(reply->str, reply->len);
	enum redis_error error = redis_error_of(text);
	if (error == REDIS_ERROR_unknown_command || g->password == NULL || strstr(reply->str, g->password) != NULL)
		return slice_of(redis_error_row(error)->prefix);
	return slice_first(text, 130);
}

static bool is_refused(const struct redis_greeting *g, enum redis_greeting_step step, const struct redisReply *reply,
		       char *reason, size_t size)
{
	struct slice text = slice_make(reply->str, reply->len);
	switch (step) {
	case REDIS_GREETING_ROLE: /* an ACL may forbid it; a replica will say READONLY */
	case REDIS_GREETING_NAME: /* a courtesy to who reads CLIENT LIST; an ACL may forbid it */
		return false;
	case REDIS_GREETING_AUTH:
		snprintf(reason, size, "AUTH was refused: %.*s", SLICE_ARGS(without_password(g, reply)));
		return true;
	case REDIS_GREETING_SELECT:
		snprintf(reason, size, "SELECT was refused: %.*s", SLICE_ARGS(slice_first(text, 100)));
		return true;
	case REDIS_GREETING_PING:
		if (is_bearable(redis_error_of(text)))
			return false;
		snprintf(reason, size, "%.*s", SLICE_ARGS(slice_first(text, 100)));
		return true;
	}
	return true;
}

static bool is_no_master(const struct redisReply *reply)
{
	struct slice role;
	return redis_reply_text(redis_reply_at(reply, 0), &role) && !slice_equal(role, SLICE("master"));
}

enum redis_greeting_verdict redis_greeting_reply(struct redis_greeting *g, const struct redisReply *reply, char *reason,
						 size_t size)
{
	CHECK(g->answered < g->count);
	enum redis_greeting_step step = g->steps[g->answered++];
	if (reply->type == REDIS_REPLY_ERROR && is_refused(g, step, reply, reason, size))
		return REDIS_GREETING_REFUSED;
	if (step == REDIS_GREETING_ROLE && is_no_master(reply)) {
		snprintf(reason, size, "it is not a master");
		return REDIS_GREETING_REFUSED;
	}
	return g->answered == g->count ? REDIS_GREETING_DONE : REDIS_GREETING_ON;
}

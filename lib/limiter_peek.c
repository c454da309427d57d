/* Looking: one call of lua/peek, asked once. An answer that does not come is missed by nobody but a reader, so nothing
 * is repeated, and nothing has to be settled. */
#include "lib/limiter_internal.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "scripts.h"

#define PEEK_MAGIC UINT32_C(0x7065656b)

/* Owner: the limiter's list, until it was answered or cancelled. Between calls: `call` is under way. */
struct peek {
	uint32_t magic;
	struct limiter *limiter;
	struct list node;
	struct script_call *call;
	struct limits limits;
	limiter_peeked *done;
	void *arg;
};

static void peek_free(struct peek *peek)
{
	script_cancel(&peek->call);
	list_remove(&peek->node);
	peek->magic = 0;
	mem_free(peek);
}

static void finish(struct peek *peek, const struct limiter_left *left)
{
	list_remove(&peek->node); /* `done` may free the limiter */
	peek->done(peek, peek->arg, left);
	peek_free(peek);
}

static void on_peek(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct peek *peek = arg;
	struct limiter_left left[LIMIT_COUNT] = { { 0 } };
	int64_t number[LIMITER_WIRE_REPLY];
	size_t count;
	CHECK(peek->magic == PEEK_MAGIC && peek->call == call);
	peek->call = NULL;
	limiter_heard(peek->limiter, LIMITER_PEEK, answer);
	bool good = answer->result == REDIS_OK;
	if (good && (!limiter_read_numbers(answer->reply, number, &count) ||
		     !limiter_wire_read_peek(&peek->limits, number, count, left))) {
		log_say(peek->limiter->log, LOG_ERROR, "limiter.reply", "peek answered something else");
		good = false;
	}
	finish(peek, good ? left : NULL);
}

struct peek *limiter_peek(struct limiter *limiter, enum limiter_scope scope, struct slice name,
			  const struct limits *limits, limiter_peeked *done, void *arg)
{
	CHECK(limiter->magic == LIMITER_MAGIC && scope < LIMITER_SCOPES && name.len <= LIMITER_NAME_MOST);
	struct peek *peek = mem_new(sizeof *peek);
	struct limiter_wire wire;
	*peek = (struct peek){ .magic = PEEK_MAGIC, .limiter = limiter, .limits = *limits, .done = done, .arg = arg };
	list_push_back(&limiter->peeks, &peek->node);
	limiter_wire_peek(&wire, scope, name, limits, LIMITER_WIRE_NOW);
	peek->call = script_start(limiter->redis, &script_peek, limiter->options.timeout, on_peek, peek, wire.keys,
				  wire.key, wire.arguments, wire.argument);
	return peek;
}

void limiter_peek_cancel(struct peek **handle)
{
	struct peek *peek = *handle;
	*handle = NULL;
	if (peek == NULL)
		return;
	CHECK(peek->magic == PEEK_MAGIC);
	peek_free(peek);
}

void limiter_peek_stop(struct limiter *limiter)
{
	for (struct list *node; (node = list_pop_front(&limiter->peeks)) != NULL;) {
		struct peek *peek = CONTAINER_OF(node, struct peek, node);
		script_cancel(&peek->call);
		finish(peek, NULL);
	}
}

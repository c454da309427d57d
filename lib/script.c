/* See script.h. EVALSHA goes out at once; NOSCRIPT is the only way to learn that the script is not there (a server that came back
 * empty does not say so). Then SCRIPT LOAD and the same call again leave in one write: Redis works them off in order, on that
 * connection, so the second needs no wait for the first. Nothing else is repeated: another error may mean that it ran. */
#include "lib/script.h"
#include "lib/buf.h"
#include "lib/mem.h"

#define SCRIPT_MAGIC    0x73637263u
#define MOST_ON_STACK   64 /* arguments; more are gathered on the heap */
#define FIXED_ARGUMENTS 3  /* EVALSHA, the digest, the number of keys */

/* Owned by the caller until `done` or script_cancel, then freed here. `call` is the EVALSHA on its way, `load` the SCRIPT LOAD
 * before it; both NULL while `done` runs. */
struct script_call {
	unsigned magic;
	bool running; /* done is on the stack */
	struct redis *redis;
	const struct script *script;
	struct redis_call *call, *load;
	int64_t timeout;
	script_done *done;
	void *arg;
};

static void script_free(struct script_call *s)
{
	s->magic = 0;
	mem_free(s);
}

static void finish(struct script_call *s, const struct redis_answer *answer)
{
	redis_cancel(&s->load);
	redis_cancel(&s->call);
	s->running = true;
	s->done(s, s->arg, answer);
	script_free(s);
}

static void on_second(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct script_call *s = arg;
	(void)call;
	CHECK(s->magic == SCRIPT_MAGIC);
	s->call = NULL;
	finish(s, answer);
}

/* A refused load (it does not compile, the ACL forbids it) says more than the NOSCRIPT that would follow. */
static void on_loaded(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct script_call *s = arg;
	(void)call;
	CHECK(s->magic == SCRIPT_MAGIC);
	s->load = NULL;
	if (answer->result == REDIS_ERROR)
		finish(s, answer);
}

static struct redis_call *send_source(struct redis *redis, const struct script *script, int64_t timeout,
				      redis_done *done, void *arg)
{
	const struct slice load[] = { SLICE("SCRIPT"), SLICE("LOAD"), slice_make(script->source, script->length) };
	return redis_send(redis, timeout, done, arg, ARRAY_LENGTH(load), load);
}

static void on_first(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct script_call *s = arg;
	CHECK(s->magic == SCRIPT_MAGIC);
	s->call = NULL;
	int64_t left = s->timeout - answer->took;
	if (answer->result != REDIS_ERROR || answer->error != REDIS_ERROR_noscript || left <= 0) {
		finish(s, answer);
		return;
	}
	s->load = send_source(s->redis, s->script, left, on_loaded, s);
	s->call = redis_repeat(call, on_second, s);
}

struct script_call *script_start(struct redis *redis, const struct script *script, int64_t timeout, script_done *done,
				 void *arg, size_t keys_count, const struct slice *keys, size_t arguments_count,
				 const struct slice *arguments)
{
	struct slice few[MOST_ON_STACK], *all = few;
	char number[24];
	struct buf text;
	size_t count = FIXED_ARGUMENTS + keys_count + arguments_count;
	struct script_call *s = mem_new(sizeof(*s));
	*s = (struct script_call){
		.magic = SCRIPT_MAGIC, .redis = redis, .script = script, .timeout = timeout, .done = done, .arg = arg
	};
	if (count > ARRAY_LENGTH(few))
		all = mem_new_array(count, sizeof(*all));
	buf_wrap(&text, number, sizeof(number), 0);
	buf_append_int(&text, (int64_t)keys_count);
	all[0] = SLICE("EVALSHA");
	all[1] = slice_make(script->sha1, 40);
	all[2] = buf_slice(&text);
	if (keys_count > 0)
		memcpy(all + FIXED_ARGUMENTS, keys, keys_count * sizeof(*keys));
	if (arguments_count > 0)
		memcpy(all + FIXED_ARGUMENTS + keys_count, arguments, arguments_count * sizeof(*arguments));
	s->call = redis_send(redis, timeout, on_first, s, count, all);
	if (all != few)
		mem_free(all);
	return s;
}

static void on_sent_ahead(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	(void)call, (void)arg, (void)answer; /* the calls behind it hear for themselves */
}

void script_load(struct redis *redis, const struct script *script, int64_t timeout)
{
	(void)send_source(redis, script, timeout, on_sent_ahead, NULL);
}

void script_cancel(struct script_call **handle)
{
	struct script_call *s = *handle;
	*handle = NULL;
	if (s == NULL)
		return;
	CHECK(s->magic == SCRIPT_MAGIC);
	if (s->running)
		return; /* done is on the stack; it is freed when that returns */
	redis_cancel(&s->load);
	redis_cancel(&s->call);
	script_free(s);
}

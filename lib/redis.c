/* See redis.h. The parts below this file each know one thing: redis_url (where), redis_resolve (addresses), redis_link (a socket
 * and its replies), redis_greeting (the first commands), redis_call and
 * redis_queue (commands and their places). This file owns the state and the deadlines.
 *
 *   RESTING ──► FINDING ──► CONNECTING ──► GREETING ──► UP
 *      ▲           │            │              │         │   any failure: disconnect(reason)
 *      └───────────┴────────────┴──────────────┴─────────┘
 *
 * FINDING is where Sentinel and Cluster will come in: both answer "which address?" and nothing else changes.
 *
 * Deadlines: one timer for all calls, armed for the earliest deadline seen, and not moved when that call is answered: it then
 * fires once for nothing and looks for the next. So a call that is answered in time costs no timer at all; the price is a walk
 * over the pending calls when it does fire. */
#include "lib/redis.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/redis_greeting.h"
#include "lib/redis_link.h"
#include "lib/redis_queue.h"
#include "lib/redis_resolve.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <sys/random.h>

#define REDIS_MAGIC 0x72656469u
#define WRITE_PARTS 64 /* calls of one system call */

_Static_assert(REDIS_OK == 0, "hiredis' macro and ours are one value, whichever header comes first");

enum state { STATE_RESTING, STATE_FINDING, STATE_CONNECTING, STATE_GREETING, STATE_UP, STATE_CLOSED };

/* Owned by whoever called redis_new; dies at the end of the turn after redis_free (its callbacks may be on the stack).
 * Between calls: no call is `sent` unless the state is UP; `link` is NULL while resting, finding and closed. */
struct redis {
	unsigned magic;
	enum state state;
	struct loop *loop;
	struct log *log;
	struct redis_options options;

	struct redis_resolve *resolve;
	struct redis_addresses addresses;
	size_t address; /* the next to try */
	struct redis_link *link;
	struct redis_greeting greeting;
	struct loop_timer state_timer; /* the back-off's end, or the connection's deadline */
	unsigned failures;             /* since a command was last answered well */
	uint64_t random;
	char reason[160]; /* why it is down, as logged last; empty while it is up */

	struct redis_queue queue;
	struct loop_deferred turn_end, death;
	struct loop_timer deadline_timer;
	int64_t earliest; /* what the timer is armed for, INT64_MAX when it is not */

	void (*changed)(void *arg, bool up);
	void *changed_arg;
	void (*message)(void *arg, struct slice channel, const struct redisReply *payload);
	void *message_arg;
};

/* ---- up and down ---------------------------------------------------------------------------------------------------------- */

static void log_where(struct redis *r, struct log_line *line)
{
	log_text(line, "redis", slice_of(r->options.host != NULL ? r->options.host : r->options.path));
	if (r->options.host != NULL)
		log_int(line, "port", r->options.port);
}

/* One line when it goes down, and one more only when the reason is another. */
static void note_down(struct redis *r, const char *reason)
{
	struct log_line line;
	char text[sizeof(r->reason)];
	snprintf(text, sizeof(text), "%s", reason); /* it may point into what is freed or at r->reason itself */
	if (strcmp(r->reason, text) == 0)
		return;
	memcpy(r->reason, text, sizeof(text));
	log_begin(&line, r->log, LOG_WARNING, "redis_down");
	log_where(r, &line);
	log_text(&line, "reason", slice_of(r->reason));
	log_end(&line);
}

static void note_up(struct redis *r)
{
	struct log_line line;
	r->reason[0] = '\0';
	log_begin(&line, r->log, LOG_INFO, "redis_up");
	log_where(r, &line);
	log_end(&line);
}

/* Full jitter: anywhere between nothing and the doubled, capped base ("Exponential Backoff And Jitter", AWS architecture blog,
 * 2015). The generator is xorshift64 (Marsaglia 2003), seeded by the kernel: instances must not come back in step. */
static int64_t next_delay(struct redis *r)
{
	int64_t most = r->options.reconnect_cap;
	if (r->failures < 32 && (r->options.reconnect_base << r->failures) < most)
		most = r->options.reconnect_base << r->failures;
	r->failures++;
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return most <= 0 ? 0 : (int64_t)(r->random % (uint64_t)(most + 1));
}

static void drop_connection(struct redis *r)
{
	redis_link_free(&r->link);
	redis_resolve_cancel(&r->resolve);
	redis_greeting_end(&r->greeting);
	redis_queue_unwrite(&r->queue);
}

/* Every way from a connection, or from the try to get one, back to resting. */
static void disconnect(struct redis *r, const char *reason)
{
	bool was_up = r->state == STATE_UP;
	note_down(r, reason);
	drop_connection(r);
	r->state = STATE_RESTING;
	loop_timer_set(&r->state_timer, next_delay(r));
	redis_queue_end_all(&r->queue, &r->queue.sent, REDIS_LOST);
	if (was_up && r->changed != NULL)
		r->changed(r->changed_arg, false);
	redis_queue_answer_ending(&r->queue);
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------------ */

static void arm(struct redis *r, int64_t deadline, int64_t now)
{
	if (deadline >= r->earliest || r->state == STATE_CLOSED)
		return;
	r->earliest = deadline;
	loop_timer_set(&r->deadline_timer, deadline - now);
}

static void on_deadline(void *arg)
{
	struct redis *r = arg;
	bool cut = false;
	CHECK(r->magic == REDIS_MAGIC);
	int64_t now = clock_now();
	r->earliest = INT64_MAX;
	int64_t sent = redis_queue_expire(&r->queue, &r->queue.sent, REDIS_TIMED_OUT, now, &cut);
	bool sent_late = cut;
	int64_t waiting = redis_queue_expire(&r->queue, &r->queue.waiting, REDIS_UNSENT, now, &cut);
	arm(r, cut || waiting < sent ? waiting : sent, now);
	if (sent_late)
		redis_queue_shrink(&r->queue);
	if (cut)
		disconnect(r, "no answer before a call's deadline");
	else
		redis_queue_answer_ending(&r->queue);
}

/* ---- connecting ----------------------------------------------------------------------------------------------------------- */

static void flush(struct redis *r);
static const struct redis_link_events link_events;

static void greet(struct redis *r)
{
	struct redis_greeting *g = &r->greeting;
	struct iovec part = { g->bytes.data + g->written, g->bytes.len - g->written };
	const char *reason;
	ssize_t taken = redis_link_write(r->link, &part, 1, &reason);
	if (taken < 0)
		disconnect(r, reason);
	else
		g->written += (size_t)taken;
}

static void on_opened(void *arg)
{
	struct redis *r = arg;
	r->state = STATE_GREETING;
	redis_greeting_begin(&r->greeting, &r->options);
	greet(r);
}

static void come_up(struct redis *r)
{
	loop_timer_clear(&r->state_timer);
	redis_greeting_end(&r->greeting);
	r->state = STATE_UP;
	r->queue.counts.connects++;
	note_up(r);
	if (r->changed != NULL)
		r->changed(r->changed_arg, true);
	flush(r);
}

/* Tries the addresses in turn; rests when none is left. */
static void try_next_address(struct redis *r, const char *reason)
{
	redis_link_free(&r->link);
	while (r->link == NULL && r->address < r->addresses.count)
		r->link = redis_link_open(r->loop, &r->addresses.list[r->address++], &link_events, r, &reason);
	if (r->link == NULL) {
		disconnect(r, reason);
		return;
	}
	r->state = STATE_CONNECTING;
	loop_timer_set(&r->state_timer, r->options.connect_timeout);
}

static void on_resolved(void *arg, const struct redis_addresses *addresses, const char *reason)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC && r->state == STATE_FINDING);
	r->resolve = NULL;
	if (reason != NULL) {
		disconnect(r, reason);
		return;
	}
	r->addresses = *addresses;
	try_next_address(r, "no address");
}

static void find(struct redis *r)
{
	const struct redis_options *o = &r->options;
	r->address = 0;
	r->state = STATE_FINDING;
	if (o->host == NULL ? redis_resolve_path(o->path, &r->addresses)
			    : redis_resolve_number(o->host, o->port, &r->addresses)) {
		try_next_address(r, "no address");
	} else if (o->host == NULL) {
		disconnect(r, "the socket's path is too long");
	} else {
		r->resolve = redis_resolve_start(r->loop, o->host, o->port, on_resolved, r);
		loop_timer_set(&r->state_timer, o->connect_timeout);
	}
}

static void on_state_timer(void *arg)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC);
	switch (r->state) {
	case STATE_RESTING:
		find(r);
		break;
	case STATE_FINDING:
		disconnect(r, "the name was not looked up in time");
		break;
	case STATE_CONNECTING:
		try_next_address(r, "no connection in time");
		break;
	case STATE_GREETING:
		disconnect(r, "no answer to the greeting in time");
		break;
	case STATE_UP:
	case STATE_CLOSED:
		break;
	}
}

/* ---- bytes out, replies in ------------------------------------------------------------------------------------------------ */

static void flush(struct redis *r)
{
	struct iovec parts[WRITE_PARTS];
	if (r->state == STATE_UP && !list_empty(&r->queue.waiting))
		redis_queue_drop_late(&r->queue, clock_now());
	if (!list_empty(&r->queue.ending)) /* they are told at a turn's end, whoever flushes */
		loop_defer(r->loop, &r->turn_end);
	while (r->state == STATE_UP && !list_empty(&r->queue.waiting)) {
		const char *reason;
		size_t total = 0, count = redis_queue_gather(&r->queue, parts, WRITE_PARTS);
		if (count == 0)
			return; /* the window is full: the next replies go on */
		for (size_t i = 0; i < count; i++)
			total += parts[i].iov_len;
		ssize_t taken = redis_link_write(r->link, parts, count, &reason);
		if (taken < 0) {
			disconnect(r, reason);
			return;
		}
		redis_queue_written(&r->queue, (size_t)taken);
		if ((size_t)taken < total)
			return; /* the socket is full: on_link_writable goes on */
	}
}

static void on_turn_end(void *arg)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC);
	flush(r);
	if (r->state == STATE_UP &&
	    !list_empty(&r->queue.waiting)) /* the window is full: under a flood of other events replies come first */
		redis_link_read(r->link);
	redis_queue_answer_ending(&r->queue);
}

static void on_link_writable(void *arg)
{
	struct redis *r = arg;
	if (r->state == STATE_GREETING)
		greet(r);
	else
		flush(r);
}

static void greeting_answered(struct redis *r, const struct redisReply *reply)
{
	char reason[sizeof(r->reason)];
	switch (redis_greeting_reply(&r->greeting, reply, reason, sizeof(reason))) {
	case REDIS_GREETING_ON:
		break;
	case REDIS_GREETING_DONE:
		come_up(r);
		break;
	case REDIS_GREETING_REFUSED:
		disconnect(r, reason);
		break;
	}
}

static void call_answered(struct redis *r, const struct redisReply *reply)
{
	struct redis_call *call = redis_queue_pop_sent(&r->queue);
	struct redis_answer answer = { .result = REDIS_OK, .reply = reply };
	const struct redis_link *link = r->link;
	if (call == NULL) {
		disconnect(r, "a reply that nobody asked for");
		return;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		answer.result = REDIS_ERROR;
		answer.error = redis_error_of(slice_make(reply->str, reply->len));
	} else {
		r->failures = 0;
	}
	redis_queue_answer(&r->queue, call, &answer);
	if (!list_empty(&r->queue.waiting))
		loop_defer(r->loop, &r->turn_end);
	const struct redis_error_row *row = redis_error_row(answer.error);
	if (row->drop && r->link == link && link != NULL)
		disconnect(r, row->prefix);
}

/* RESP2 has no type of its own for what is pushed: an array ["message", channel, payload]. */
static bool is_message(const struct redisReply *reply)
{
	struct slice kind;
	return redis_reply_text(redis_reply_at(reply, 0), &kind) && slice_equal(kind, SLICE("message"));
}

/* No call's answer: it neither ends one nor opens the window. */
static void message_came(struct redis *r, const struct redisReply *reply)
{
	struct slice channel;
	if (!redis_reply_text(redis_reply_at(reply, 1), &channel))
		channel = SLICE_NONE;
	r->message(r->message_arg, channel, redis_reply_at(reply, 2));
}

static void on_reply(void *arg, struct redisReply *reply)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC && (r->state == STATE_GREETING || r->state == STATE_UP));
	if (r->state == STATE_GREETING)
		greeting_answered(r, reply);
	else if (r->message != NULL && is_message(reply))
		message_came(r, reply);
	else
		call_answered(r, reply);
}

static void on_failed(void *arg, const char *reason)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC);
	if (r->state == STATE_CONNECTING)
		try_next_address(r, reason);
	else
		disconnect(r, reason);
}

static const struct redis_link_events link_events = { on_opened, on_reply, on_link_writable, on_failed };

/* ---- what the header promises --------------------------------------------------------------------------------------------- */

static char *copy_text(const char *text)
{
	return text == NULL ? NULL : mem_text(slice_of(text));
}

static void on_death(void *arg)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC);
	redis_queue_answer_ending(&r->queue); /* what was sent after redis_free */
	loop_undefer(&r->turn_end);
	loop_timer_free(&r->state_timer);
	loop_timer_free(&r->deadline_timer);
	redis_queue_free(&r->queue);
	redis_options_free(&r->options);
	r->magic = 0;
	mem_free(r);
}

struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct log *log)
{
	struct redis *r = mem_new(sizeof(*r));
	CHECK(options->host != NULL || options->path != NULL);
	r->magic = REDIS_MAGIC;
	r->loop = loop;
	r->log = log;
	r->options = *options;
	r->options.host = copy_text(options->host);
	r->options.path = copy_text(options->path);
	r->options.user = copy_text(options->user);
	r->options.password = copy_text(options->password);
	r->earliest = INT64_MAX;
	if (getrandom(&r->random, sizeof(r->random), 0) != (ssize_t)sizeof(r->random) || r->random == 0)
		r->random = (uint64_t)clock_now() | 1; /* a poor seed only spreads the reconnects worse */
	redis_queue_init(&r->queue);
	loop_deferred_init(&r->turn_end, on_turn_end, r);
	loop_deferred_init(&r->death, on_death, r);
	loop_timer_init(&r->deadline_timer, loop, on_deadline, r);
	loop_timer_init(&r->state_timer, loop, on_state_timer, r);
	loop_timer_set(&r->state_timer, 0);
	return r;
}

void redis_free(struct redis **redis)
{
	struct redis *r = *redis;
	*redis = NULL;
	if (r == NULL)
		return;
	CHECK(r->magic == REDIS_MAGIC && r->state != STATE_CLOSED);
	drop_connection(r);
	r->state = STATE_CLOSED;
	r->changed = NULL;
	r->message = NULL;
	loop_timer_clear(&r->state_timer);
	loop_timer_clear(&r->deadline_timer);
	loop_defer(r->loop, &r->death);
	redis_queue_end_all(&r->queue, &r->queue.sent, REDIS_LOST);
	redis_queue_end_all(&r->queue, &r->queue.waiting, REDIS_UNSENT);
	redis_queue_answer_ending(&r->queue);
}

bool redis_is_up(const struct redis *r)
{
	return r->state == STATE_UP;
}

void redis_on_change(struct redis *r, void (*changed)(void *arg, bool up), void *arg)
{
	r->changed = changed;
	r->changed_arg = arg;
}

void redis_on_message(struct redis *r,
		      void (*message)(void *arg, struct slice channel, const struct redisReply *payload), void *arg)
{
	r->message = message;
	r->message_arg = arg;
}

/* Puts a call whose bytes, start and deadline stand on its way. `whole`: its bytes fitted. */
static struct redis_call *enqueue(struct redis *r, struct redis_call *call, redis_done *done, void *arg, bool whole)
{
	int64_t now = clock_now();
	CHECK(done != NULL);
	call->owner = r;
	call->done = done;
	call->arg = arg;
	loop_defer(r->loop, &r->turn_end);
	if (redis_queue_add(&r->queue, call, !whole || call->deadline <= now || r->state == STATE_CLOSED))
		arm(r, call->deadline, now);
	return call;
}

struct redis_call *redis_send(struct redis *r, int64_t timeout, redis_done *done, void *arg, size_t count,
			      const struct slice *arguments)
{
	CHECK(r->magic == REDIS_MAGIC && count > 0);
	struct redis_call *call = redis_call_take(&r->queue.store);
	call->started = clock_now();
	call->deadline = call->started + timeout;
	return enqueue(r, call, done, arg, redis_call_format(&call->bytes, count, arguments));
}

struct redis_call *redis_repeat(struct redis_call *first, redis_done *done, void *arg)
{
	struct redis *r = first->owner;
	CHECK(first->magic == REDIS_CALL_MAGIC && first->state == REDIS_CALL_RUNNING);
	struct redis_call *call = redis_call_take(&r->queue.store);
	struct buf bytes = call->bytes;
	call->bytes = first->bytes;
	first->bytes = bytes;
	call->started = first->started;
	call->deadline = first->deadline;
	return enqueue(r, call, done, arg, true);
}

void redis_cancel(struct redis_call **handle)
{
	struct redis_call *call = *handle;
	*handle = NULL;
	if (call != NULL)
		redis_queue_cancel(&call->owner->queue, call);
}

const struct redis_counts *redis_counts(const struct redis *r)
{
	return &r->queue.counts;
}

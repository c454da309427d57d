/* See redis.h. The parts below this file each know one thing: redis_url (where), redis_resolve (addresses), redis_link (a socket
 * and its replies), redis_greeting (the first commands), redis_call and redis_queue (commands and their places), redis_silence (how
 * long it may owe an answer); redis_connect.c owns the way there. This file owns the calls and their deadlines.
 *
 * Deadlines: one timer for all calls, armed for the earliest deadline seen, and not moved when that call is answered: it then
 * fires once for nothing and looks for the next. So a call that is answered in time costs no timer at all; the price is a walk
 * over the pending calls when it does fire. */
#include "lib/redis.h"
#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/redis_internal.h"

#include <hiredis/hiredis.h>
#include <sys/random.h>

#define WRITE_PARTS 64 /* calls of one system call */

_Static_assert(REDIS_OK == 0, "hiredis' macro and ours are one value, whichever header comes first");

/* ---- silence -------------------------------------------------------------------------------------------------------------- */

/* Whoever waits is told now, and whoever calls from now on at once. The search for a connection goes on: it is the probe. */
static void go_away(struct redis *r, const char *reason)
{
	r->silence.away = true;
	if (r->state == STATE_UP) {
		redis_disconnect(r, reason);
		return;
	}
	redis_queue_end_all(&r->queue, &r->queue.waiting, REDIS_UNSENT);
	redis_queue_answer_ending(&r->queue);
}

static void watch_silence(struct redis *r, int64_t now)
{
	redis_silence_owe(&r->silence, now);
	if (r->silence.most > 0 && !r->silence_timer.armed)
		loop_timer_set(&r->silence_timer, redis_silence_left(&r->silence, now));
}

static bool is_owed(const struct redis *r)
{
	return !list_empty(&r->queue.sent) || !list_empty(&r->queue.waiting);
}

void redis_heard(struct redis *r)
{
	r->silence.bytes = redis_link_bytes(r->link);
	redis_silence_heard(&r->silence, is_owed(r), clock_now());
}

/* What stands in the socket has been said: this process may be the one that was silent. */
static void listen_once_more(struct redis *r)
{
	if (r->state == STATE_UP)
		redis_link_read(r->link);
	if (r->state == STATE_UP && redis_link_bytes(r->link) != r->silence.bytes)
		redis_heard(r);
}

static void on_silence(void *arg)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC);
	if (redis_silence_left(&r->silence, clock_now()) == 0)
		listen_once_more(r);
	int64_t left = redis_silence_left(&r->silence, clock_now());
	if (r->state == STATE_CLOSED || r->silence.away || left == INT64_MAX)
		return;
	if (!is_owed(r) && r->silence.timeouts == 0) /* those who asked wanted it no more */
		r->silence.since = 0;
	else if (left > 0)
		loop_timer_set(&r->silence_timer, left);
	else
		go_away(r, "no reply while calls wait");
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
	size_t before = r->queue.expired;
	r->earliest = INT64_MAX;
	int64_t sent = redis_queue_expire(&r->queue, &r->queue.sent, REDIS_TIMED_OUT, now, &cut);
	bool sent_late = cut;
	int64_t waiting = redis_queue_expire(&r->queue, &r->queue.waiting, REDIS_UNSENT, now, &cut);
	arm(r, cut || waiting < sent ? waiting : sent, now);
	bool too_often = redis_silence_timed_out(&r->silence, r->queue.expired - before);
	if (sent_late)
		redis_queue_shrink(&r->queue);
	r->silence.away |= too_often;
	if (cut)
		redis_disconnect(r, "no answer before a call's deadline");
	else if (too_often)
		go_away(r, "no answer before a call's deadline, three times");
	else
		redis_queue_answer_ending(&r->queue);
}

/* ---- bytes out, replies in ------------------------------------------------------------------------------------------------ */

void redis_flush(struct redis *r)
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
			redis_disconnect(r, reason);
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
	redis_flush(r);
	if (r->state == STATE_UP &&
	    !list_empty(&r->queue.waiting)) /* the window is full: under a flood of other events replies come first */
		redis_link_read(r->link);
	redis_queue_answer_ending(&r->queue);
}

static void on_link_writable(void *arg)
{
	struct redis *r = arg;
	if (r->state == STATE_GREETING) {
		redis_greet(r);
		return;
	}
	redis_heard(r); /* it takes in what we say */
	redis_flush(r);
}

static void call_answered(struct redis *r, const struct redisReply *reply)
{
	struct redis_call *call = redis_queue_pop_sent(&r->queue);
	struct redis_answer answer = { .result = REDIS_OK, .reply = reply };
	const struct redis_link *link = r->link;
	if (call == NULL) {
		redis_disconnect(r, "a reply that nobody asked for");
		return;
	}
	redis_heard(r);
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
		redis_refused(r, row->prefix);
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
		redis_greeted(r, reply);
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
		redis_try_next_address(r, reason);
	else
		redis_disconnect(r, reason);
}

const struct redis_link_events redis_link_events = { redis_opened, on_reply, on_link_writable, on_failed };

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
	loop_timer_free(&r->follow_timer);
	mem_free(r->master);
	loop_timer_free(&r->deadline_timer);
	loop_timer_free(&r->silence_timer);
	redis_queue_free(&r->queue);
	redis_options_free(&r->options);
	r->magic = 0;
	mem_free(r);
}

struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct log *log)
{
	struct redis *r = mem_new(sizeof(*r));
	CHECK(options->host != NULL || options->path != NULL || options->sentinels_count > 0);
	r->magic = REDIS_MAGIC;
	r->loop = loop;
	r->log = log;
	r->options = *options;
	r->options.host = copy_text(options->host);
	r->options.path = copy_text(options->path);
	r->options.user = copy_text(options->user);
	r->options.password = copy_text(options->password);
	r->options.master = copy_text(options->master);
	r->options.sentinel_user = copy_text(options->sentinel_user);
	r->options.sentinel_password = copy_text(options->sentinel_password);
	for (size_t i = 0; i < options->sentinels_count; i++)
		r->options.sentinels[i].host = copy_text(options->sentinels[i].host);
	if (options->sentinels_count > 0)
		r->sentinel = redis_sentinel_new(loop, &r->options, redis_master_named, r);
	r->earliest = INT64_MAX;
	if (getrandom(&r->random, sizeof(r->random), 0) != (ssize_t)sizeof(r->random) || r->random == 0)
		r->random = (uint64_t)clock_now() | 1; /* a poor seed only spreads the reconnects worse */
	redis_queue_init(&r->queue);
	loop_deferred_init(&r->turn_end, on_turn_end, r);
	loop_deferred_init(&r->death, on_death, r);
	r->silence.most = options->patience;
	loop_timer_init(&r->deadline_timer, loop, on_deadline, r);
	loop_timer_init(&r->silence_timer, loop, on_silence, r);
	loop_timer_init(&r->state_timer, loop, redis_connect_timer, r);
	loop_timer_init(&r->follow_timer, loop, redis_follow, r);
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
	redis_drop_connection(r);
	redis_sentinel_free(&r->sentinel);
	r->state = STATE_CLOSED;
	r->changed = NULL;
	r->message = NULL;
	loop_timer_clear(&r->state_timer);
	loop_timer_clear(&r->deadline_timer);
	loop_timer_clear(&r->silence_timer);
	loop_defer(r->loop, &r->death);
	redis_queue_end_all(&r->queue, &r->queue.sent, REDIS_LOST);
	redis_queue_end_all(&r->queue, &r->queue.waiting, REDIS_UNSENT);
	redis_queue_answer_ending(&r->queue);
}

bool redis_is_up(const struct redis *r)
{
	return r->state == STATE_UP;
}

const char *redis_reason(const struct redis *r)
{
	CHECK(r->magic == REDIS_MAGIC);
	return r->state == STATE_UP ? "" : r->reason;
}

bool redis_is_refused(const struct redis *r)
{
	return r->state != STATE_UP && r->refused;
}

bool redis_is_away(const struct redis *r)
{
	return r->silence.away;
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
	if (redis_queue_add(&r->queue, call,
			    !whole || call->deadline <= now || r->silence.away || r->state == STATE_CLOSED)) {
		arm(r, call->deadline, now);
		watch_silence(r, now);
	}
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

/* The connection's life: where Redis is, the socket, the first commands; down again, and a while of rest. See redis_internal.h. */
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/redis_internal.h"

#include <hiredis/hiredis.h>
#include <stdio.h>

#define RARELY (5 * CLOCK_SECOND)
#define STEADY (2 * CLOCK_SECOND)
#define FOLLOW CLOCK_SECOND /* between two looks at who is the master */

/* ---- up and down ---------------------------------------------------------------------------------------------------------- */

static void log_where(struct redis *r, struct log_line *line)
{
	const struct redis_options *o = &r->options;
	const char *host = o->sentinels_count > 0 ? r->master : o->host != NULL ? o->host : o->path;
	int port = o->sentinels_count > 0 ? r->master_port : o->port;
	if (o->sentinels_count > 0)
		log_text(line, "master", slice_of(o->master));
	if (host != NULL)
		log_text(line, "redis", slice_of(host));
	if (o->path == NULL && host != NULL)
		log_int(line, "port", port);
}

/* One line when it goes down, and one more only when the reason is another, and has not just been so too: some take turns. */
static void note_down(struct redis *r, const char *reason)
{
	struct log_line line;
	char text[sizeof(r->reason)];
	snprintf(text, sizeof(text), "%s", reason); /* it may point into what is freed or at r->reason itself */
	memcpy(r->reason, text, sizeof(text));
	if (strcmp(r->noted, text) == 0 || (r->noted[0] != '\0' && clock_now() - r->down_noted < RARELY))
		return;
	r->down_noted = clock_now();
	memcpy(r->noted, text, sizeof(text));
	log_begin(&line, r->log, LOG_WARNING, "redis_down");
	log_where(r, &line);
	log_text(&line, "reason", slice_of(r->reason));
	log_end(&line);
}

static void note_up(struct redis *r)
{
	struct log_line line;
	r->noted[0] = '\0';
	r->up_noted = clock_now();
	r->up_unsaid = false;
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

void redis_drop_connection(struct redis *r)
{
	redis_link_free(&r->link);
	redis_sentinel_stop(r->sentinel);
	loop_timer_clear(&r->follow_timer);
	redis_resolve_cancel(&r->resolve);
	redis_greeting_end(&r->greeting);
	redis_queue_unwrite(&r->queue);
}

/* Every way from a connection, or from the try to get one, back to resting. */
static void go_down(struct redis *r, const char *reason, bool refused)
{
	bool was_up = r->state == STATE_UP;
	note_down(r, reason);
	r->refused = refused;
	r->up_unsaid = false;
	redis_drop_connection(r);
	r->state = STATE_RESTING;
	loop_timer_set(&r->state_timer, next_delay(r));
	redis_queue_end_all(&r->queue, &r->queue.sent, REDIS_LOST);
	if (r->silence.away)
		redis_queue_end_all(&r->queue, &r->queue.waiting, REDIS_UNSENT);
	if (was_up && r->changed != NULL)
		r->changed(r->changed_arg, false);
	redis_queue_answer_ending(&r->queue);
}

void redis_disconnect(struct redis *r, const char *reason)
{
	go_down(r, reason, false);
}

void redis_refused(struct redis *r, const char *words)
{
	go_down(r, words, true);
}

/* ---- connecting ----------------------------------------------------------------------------------------------------------- */

/* What comes next may take its part of what is left of the try. */
static void arm_try(struct redis *r, size_t parts)
{
	int64_t left = r->try_ends - clock_now();
	loop_timer_set(&r->state_timer, left > 0 ? left / (int64_t)parts : 0);
}

void redis_greet(struct redis *r)
{
	struct redis_greeting *g = &r->greeting;
	struct iovec part = { g->bytes.data + g->written, g->bytes.len - g->written };
	const char *reason;
	ssize_t taken = redis_link_write(r->link, &part, 1, &reason);
	if (taken < 0)
		redis_disconnect(r, reason);
	else
		g->written += (size_t)taken;
}

void redis_opened(void *arg)
{
	struct redis *r = arg;
	r->state = STATE_GREETING;
	arm_try(r, 1);
	redis_greeting_begin(&r->greeting, &r->options);
	redis_greet(r);
}

/* What comes and goes is said to be there when it has stayed a while; and that it is down, for the same reason, is known. */
static void say_up(struct redis *r)
{
	if (r->up_noted == 0 || clock_now() - r->up_noted >= RARELY) {
		note_up(r);
		return;
	}
	r->up_unsaid = true;
	loop_timer_set(&r->state_timer, STEADY);
}

static void come_up(struct redis *r)
{
	loop_timer_clear(&r->state_timer);
	redis_greeting_end(&r->greeting);
	r->state = STATE_UP;
	r->silence.away = false;
	redis_heard(r);
	r->queue.counts.connects++;
	say_up(r);
	if (r->changed != NULL)
		r->changed(r->changed_arg, true);
	if (r->options.sentinels_count > 0)
		loop_timer_set(&r->follow_timer, FOLLOW);
	redis_flush(r);
}

/* Tries the addresses in turn; rests when none is left. One that is silent leaves the others their time. */
void redis_try_next_address(struct redis *r, const char *reason)
{
	redis_link_free(&r->link);
	while (r->link == NULL && r->address < r->addresses.count) {
		const char *later; /* the machine has no way there: what the address before said tells more */
		const char **why = r->address == 0 ? &reason : &later;
		r->link = redis_link_open(r->loop, &r->addresses.list[r->address++], &redis_link_events, r, why);
	}
	if (r->link == NULL) {
		redis_disconnect(r, reason);
		return;
	}
	r->state = STATE_CONNECTING;
	arm_try(r, r->addresses.count - r->address + 1);
}

static void on_resolved(void *arg, const struct redis_addresses *addresses, const char *reason)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC && r->state == STATE_FINDING);
	r->resolve = NULL;
	if (reason != NULL) {
		redis_disconnect(r, reason);
		return;
	}
	r->addresses = *addresses;
	redis_try_next_address(r, "no address");
}

static void find_host(struct redis *r, const char *host, int port)
{
	if (redis_resolve_at_once(host, port, &r->addresses)) {
		redis_try_next_address(r, "no address");
		return;
	}
	r->resolve = redis_resolve_start(r->loop, host, port, on_resolved, r);
	arm_try(r, 1);
}

static bool is_master(const struct redis *r, const char *host, int port)
{
	return r->master != NULL && strcmp(r->master, host) == 0 && r->master_port == port;
}

/* An epoch only grows: a few that know of an older one than we did are cut off with a master that is deposed, whatever that calls itself. */
static void found(struct redis *r, const struct redis_sentinel_master *master)
{
	if (master->host == NULL) {
		redis_disconnect(r, master->reason);
		return;
	}
	bool same = is_master(r, master->host, master->port), older = master->epoch < r->master_epoch;
	if (!same && !master->most && older) {
		redis_disconnect(r, "most Sentinels are silent, and the others name a master of before");
		return;
	}
	if (!same) {
		mem_free(r->master);
		r->master = mem_text(slice_of(master->host));
		r->master_port = master->port;
	}
	if (!same || !older)
		r->master_epoch = master->epoch;
	find_host(r, r->master, r->master_port);
}

static void find(struct redis *r)
{
	const struct redis_options *o = &r->options;
	r->address = 0;
	r->state = STATE_FINDING;
	r->try_ends = clock_now() + r->options.connect_timeout;
	if (o->sentinels_count > 0)
		redis_sentinel_ask(r->sentinel);
	else if (o->host != NULL)
		find_host(r, o->host, o->port);
	else if (redis_resolve_path(o->path, &r->addresses))
		redis_try_next_address(r, "no address");
	else
		redis_disconnect(r, "the socket's path is too long");
}

/* ---- following ------------------------------------------------------------------------------------------------------------ */

/* An old master may go on answering while a new one is elected: what it is told then is lost. It is left on the word of most, or on newer word than that which led here. */
static void followed(struct redis *r, const struct redis_sentinel_master *master)
{
	bool same = master->host == NULL || is_master(r, master->host, master->port);
	bool newer = master->epoch > r->master_epoch;
	if (!same && (master->most || newer)) {
		redis_disconnect(r, "another server is the master now");
		return;
	}
	if (same && newer)
		r->master_epoch = master->epoch;
	loop_timer_set(&r->follow_timer, FOLLOW);
}

void redis_master_named(void *arg, const struct redis_sentinel_master *master)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC && (r->state == STATE_FINDING || r->state == STATE_UP));
	if (r->state == STATE_FINDING)
		found(r, master);
	else
		followed(r, master);
}

void redis_follow(void *arg)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC && r->state == STATE_UP);
	redis_sentinel_ask(r->sentinel);
}

void redis_connect_timer(void *arg)
{
	struct redis *r = arg;
	CHECK(r->magic == REDIS_MAGIC);
	switch (r->state) {
	case STATE_RESTING:
		find(r);
		break;
	case STATE_FINDING:
		redis_disconnect(r, "the name was not looked up in time");
		break;
	case STATE_CONNECTING:
		redis_try_next_address(r, "no connection in time");
		break;
	case STATE_GREETING:
		redis_disconnect(r, "no answer to the greeting in time");
		break;
	case STATE_UP:
		if (r->up_unsaid)
			note_up(r);
		break;
	case STATE_CLOSED:
		break;
	}
}

void redis_greeted(struct redis *r, const struct redisReply *reply)
{
	char reason[sizeof(r->reason)];
	switch (redis_greeting_reply(&r->greeting, reply, reason, sizeof(reason))) {
	case REDIS_GREETING_ON:
		break;
	case REDIS_GREETING_DONE:
		come_up(r);
		break;
	case REDIS_GREETING_REFUSED:
		redis_refused(r, reason);
		break;
	}
}

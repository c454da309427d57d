/* Slots, the line in front of them, the pump, and warm-up.
 *
 * The pump runs at the end of a turn in which something happened, and is the only place where a handle enters or
 * leaves the multi, or a paused one goes on: libcurl is never on the stack then, so nothing is ever called from inside
 * one of its callbacks.
 *
 *   ended? tell their owners ─► cancelled? take them out ─► resumed? go on
 *                            ─► a slot free? the next of the line ─► let libcurl do what is due */
#include "lib/pool_internal.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"

#define HTTP2_SINCE 0x080100 /* what libcurl needs before HTTP/2 is spoken unasked: the fixes of 8.0 and 8.1 */

/* ---- handles ---- */

static struct pool_handle *take_handle(struct pool *pool)
{
	struct list *node = list_pop_front(&pool->spare);
	if (node == NULL)
		return pool_handle_new(pool);
	pool->spare_count--;
	return CONTAINER_OF(node, struct pool_handle, node);
}

/* Takes the handle out of the multi: an unfinished transfer's connection (HTTP/2: its stream) ends here, at once. */
static void give_handle(struct transfer *t)
{
	struct pool *pool = t->pool;
	struct pool_handle *handle = t->handle;
	struct pool_socket *abandoned = t->over ? NULL : t->socket;
	CHECK(!pool->inside);
	curl_multi_remove_handle(pool->multi, handle->easy);
	pool_socket_detach(t);
	loop_timer_clear(&handle->timer);
	t->handle = NULL;
	handle->transfer = NULL;
	/* What went wrong leaves its mark on an easy handle: repetitions are counted over its whole life, and 8.14
	 * wants to rewind the next request's body when it could not rewind this one's. */
	if (t->result.outcome != POOL_DONE || !t->over || pool->spare_count >= pool->options.connections) {
		pool_handle_destroy(handle);
	} else {
		list_push_front(&pool->spare, &handle->node);
		pool->spare_count++;
	}
	if (abandoned != NULL)
		pool_socket_abandoned(abandoned);
}

/* ---- the states of a transfer ---- */

static void leave_state(struct transfer *t)
{
	struct pool *pool = t->pool;
	list_remove(&t->node);
	list_remove(&t->resuming);
	if (t->state == TRANSFER_WAITING)
		pool->waiting_count--;
	else if (t->state == TRANSFER_RUNNING)
		pool->running_count--;
	loop_timer_clear(&t->wait_timer);
	if (t->handle != NULL)
		give_handle(t);
	t->state = TRANSFER_ENDED;
	list_push_back(&pool->ended, &t->node);
	pool_pump_soon(pool);
}

void pool_finish(struct transfer *t, CURLcode code)
{
	struct pool *pool = t->pool;
	pool_outcome_classify(t, code);
	pool_outcome_measure(t);
	pool->totals.requests++;
	pool->totals.failed += t->result.outcome != POOL_DONE;
	pool->totals.handshake_total += t->result.handshake;
	pool->totals.waited_total += t->result.waited;
	bool silenced = t->silenced;
	leave_state(t);
	if (!silenced)
		t->receiver.done(t, t->arg, &t->result);
}

static void launch(struct transfer *t)
{
	struct pool *pool = t->pool;
	list_remove(&t->node);
	pool->waiting_count--;
	t->state = TRANSFER_RUNNING;
	list_push_back(&pool->running, &t->node);
	pool->running_count++;
	t->handle = take_handle(pool);
	pool_transfer_prepare(t);
	CHECK(curl_multi_add_handle(pool->multi, t->handle->easy) == CURLM_OK);
}

/* ---- the pump ---- */

static void bury_ended(struct pool *pool)
{
	for (struct list *node; (node = list_pop_front(&pool->ended)) != NULL;)
		pool_transfer_destroy(CONTAINER_OF(node, struct transfer, node));
}

static void hear_libcurl(struct pool *pool)
{
	int left;
	for (CURLMsg *message; !pool->dying && (message = curl_multi_info_read(pool->multi, &left)) != NULL;) {
		struct pool_handle *handle = NULL;
		CURLcode code = message->data.result;
		if (message->msg != CURLMSG_DONE || pool_idle_is_sweeper(pool, message->easy_handle))
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&handle);
		CHECK(handle->transfer != NULL && handle->transfer->magic == TRANSFER_MAGIC);
		handle->transfer->over = true;
		pool_finish(handle->transfer, code);
	}
}

static void take_out_cancelled(struct pool *pool)
{
	while (!list_empty(&pool->cancelled))
		leave_state(CONTAINER_OF(pool->cancelled.next, struct transfer, node));
}

static void go_on(struct pool *pool)
{
	for (struct list *node; (node = list_pop_front(&pool->resuming)) != NULL;) {
		struct transfer *t = CONTAINER_OF(node, struct transfer, resuming);
		t->pausing = false;
		t->idle_deadline = clock_now() + t->idle_timeout;
		pool_transfer_watch(t);
		if (!t->paused)
			continue;
		t->paused = false;
		pool->inside = true;
		curl_easy_pause(t->handle->easy, CURLPAUSE_CONT); /* may call on_body in here */
		pool->inside = false;
	}
}

static unsigned slots(const struct pool *pool)
{
	return pool->options.connections * (pool->multiplexes ? pool->options.streams_per_connection : 1);
}

static void fill_slots(struct pool *pool)
{
	while (!list_empty(&pool->waiting) && pool->running_count < slots(pool))
		launch(CONTAINER_OF(pool->waiting.next, struct transfer, node));
	LIST_EACH (&pool->waiting, node, following) {
		struct transfer *t = CONTAINER_OF(node, struct transfer, node);
		if (!t->wait_timer.armed)
			loop_timer_set(&t->wait_timer, pool_transfer_wait_until(t) - clock_now());
	}
}

static void destroy(struct pool *pool);

static void pump(void *arg)
{
	struct pool *pool = arg;
	CHECK(pool->magic == POOL_MAGIC && !pool->inside);
	pool_socket_bury(pool);
	bury_ended(pool);
	if (pool->dying) {
		destroy(pool);
		return;
	}
	hear_libcurl(pool);
	take_out_cancelled(pool);
	if (pool->dying)
		return; /* an owner freed the pool: it has deferred us again */
	go_on(pool);
	fill_slots(pool);
	pool_socket_timeout(pool);
	pool_socket_schedule(pool);
}

void pool_pump_soon(struct pool *pool)
{
	loop_defer(pool->loop, &pool->pump);
}

/* ---- what callers use ---- */

static struct transfer *enqueue(struct pool *pool, const struct pool_request *request,
				const struct pool_receiver *receiver, void *arg)
{
	struct transfer *t = pool_transfer_new(pool, request, receiver, arg);
	list_push_back(&pool->waiting, &t->node);
	pool->waiting_count++;
	pool_pump_soon(pool);
	return t;
}

struct transfer *pool_start(struct pool *pool, const struct pool_request *request, const struct pool_receiver *receiver,
			    void *arg)
{
	CHECK(pool->magic == POOL_MAGIC && !pool->dying);
	return enqueue(pool, request, receiver, arg);
}

void pool_resume(struct transfer *t)
{
	CHECK(t->magic == TRANSFER_MAGIC);
	if (t->state != TRANSFER_RUNNING || t->silenced || !t->pausing || list_linked(&t->resuming))
		return;
	list_push_back(&t->pool->resuming, &t->resuming);
	pool_pump_soon(t->pool);
}

bool pool_may_be_sent(const struct transfer *t)
{
	return t->attempts > 0;
}

void pool_cancel(struct transfer **held)
{
	struct transfer *t = *held;
	*held = NULL;
	if (t == NULL)
		return;
	CHECK(t->magic == TRANSFER_MAGIC);
	if (t->state == TRANSFER_ENDED || t->silenced)
		return;
	t->silenced = true;
	t->body = NULL;
	t->body_count = 0;
	if (t->state == TRANSFER_WAITING) {
		leave_state(t);
		return;
	}
	list_remove(&t->node);
	list_push_back(&t->pool->cancelled, &t->node);
	pool_pump_soon(t->pool);
}

void pool_stats(const struct pool *pool, struct pool_stats *stats)
{
	*stats = pool->totals;
	stats->open = pool->open_count - pool->retired_count;
	stats->active = pool->running_count;
	stats->idle = pool->idle_count;
	stats->waiting = pool->waiting_count;
}

/* ---- warm-up ---- */

static void warming_over(struct pool_warming *w)
{
	struct pool *pool = w->pool;
	struct pool_warming over = *w;
	list_remove(&w->node);
	loop_undefer(&w->nothing_to_do);
	mem_free(w);
	pool->warming = !list_empty(&pool->warmings);
	if (over.warmed != NULL)
		over.warmed(over.arg, over.opened, over.why);
}

static void on_nothing_to_do(void *arg)
{
	warming_over(arg);
}

static void warm_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	(void)t;
	(void)arg;
	(void)head;
}

static bool warm_body(struct transfer *t, void *arg, struct slice bytes)
{
	(void)t;
	(void)arg;
	(void)bytes;
	return true;
}

static void warm_done(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct pool_warming *w = arg;
	(void)t;
	if (result->outcome == POOL_DONE)
		w->opened++;
	else
		snprintf(w->why, sizeof(w->why), "%s",
			 result->detail[0] != '\0' ? result->detail : pool_outcome_name(result->outcome));
	if (--w->running == 0)
		warming_over(w);
}

static void warm(struct pool *pool, unsigned count, int64_t timeout, void (*warmed)(void *, unsigned, const char *),
		 void *arg)
{
	static const struct pool_receiver receiver = { warm_head, warm_body, warm_done };
	struct pool_request request = { .method = SLICE("HEAD"),
					.target = SLICE("/"),
					.wait_timeout = timeout,
					.first_byte_timeout = timeout,
					.idle_timeout = timeout,
					.total_timeout = timeout };
	struct pool_warming *w = mem_new(sizeof(*w));
	*w = (struct pool_warming){ .pool = pool, .running = count, .warmed = warmed, .arg = arg };
	loop_deferred_init(&w->nothing_to_do, on_nothing_to_do, w);
	list_push_back(&pool->warmings, &w->node);
	pool->warming = true;
	for (unsigned i = 0; i < count; i++)
		enqueue(pool, &request, &receiver, w)->fresh = true;
	if (count == 0)
		loop_defer(pool->loop, &w->nothing_to_do);
}

static unsigned missing(const struct pool *pool)
{
	unsigned alive = pool->open_count - pool->retired_count;
	return alive < pool->options.warm ? pool->options.warm - alive : 0;
}

void pool_warm(struct pool *pool, int64_t timeout, void (*warmed)(void *, unsigned, const char *), void *arg)
{
	CHECK(pool->magic == POOL_MAGIC && !pool->dying && timeout > 0);
	pool->warm_timeout = timeout;
	pool->keeps_warm = pool->options.warm > 0;
	warm(pool, missing(pool), timeout, warmed, arg);
}

/* Replaces what age took from the floor. A provider that is away is tried once per warm_timeout, not at every tick. */
void pool_rewarm(struct pool *pool)
{
	int64_t now = clock_now();
	if (!pool->keeps_warm || pool->warming || missing(pool) == 0 || now < pool->warm_again_at)
		return;
	pool->warm_again_at = now + pool->warm_timeout;
	warm(pool, missing(pool), pool->warm_timeout, NULL, NULL);
}

/* ---- birth and death ---- */

static char *copy_text(const char *text)
{
	return text == NULL ? NULL : mem_text(slice_of(text));
}

static void limit(struct pool *pool)
{
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long)pool->options.connections);
	curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING,
			  pool->two ? (long)CURLPIPE_MULTIPLEX : (long)CURLPIPE_NOTHING);
	if (!pool->two)
		return;
	/* A peer that allows fewer streams than we reckoned with makes libcurl open more connections: not past the
	 * ceiling. */
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)pool->options.connections);
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)pool->options.streams_per_connection);
}

struct pool *pool_new(struct loop *loop, const struct pool_options *options, struct log *log)
{
	struct pool *pool = mem_new(sizeof(*pool));
	CHECK(options->connections > 0 && options->streams_per_connection > 0 && options->warm <= options->connections);
	CHECK(options->connect_timeout > 0 && options->idle_timeout > 0 && options->max_age > 0);
	CHECK(options->name_age >= 0 && options->name_age < INT32_MAX * CLOCK_SECOND);
	pool->magic = POOL_MAGIC;
	pool->loop = loop;
	pool->log = log;
	pool->options = *options;
	pool->options.origin = copy_text(options->origin);
	pool->options.ca_file = copy_text(options->ca_file);
	pool->tls = strncmp(options->origin, "https://", 8) == 0;
	CHECK(pool->tls || strncmp(options->origin, "http://", 7) == 0);
	pool->recent = curl_version_info(CURLVERSION_NOW)->version_num >= HTTP2_SINCE;
	pool->two = options->http == POOL_HTTP_2 || (options->http == POOL_HTTP_AUTO && pool->tls && pool->recent);
	if (pool->tls && options->verify)
		pool->trust = pool_trust_open(options->ca_file, log);
	struct list *const heads[] = { &pool->waiting, &pool->running, &pool->cancelled, &pool->resuming,
				       &pool->ended,   &pool->spare,   &pool->warmings };
	for (size_t i = 0; i < ARRAY_LENGTH(heads); i++)
		list_init(heads[i]);
	loop_deferred_init(&pool->pump, pump, pool);
	pool->multi = curl_multi_init();
	CHECK(pool->multi != NULL);
	pool_socket_setup(pool);
	limit(pool);
	return pool;
}

static void destroy(struct pool *pool)
{
	struct list *const places[] = { &pool->waiting, &pool->running, &pool->cancelled };
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++)
		while (!list_empty(places[i]))
			leave_state(CONTAINER_OF(places[i]->next, struct transfer, node));
	bury_ended(pool);
	for (struct list *node; (node = list_pop_front(&pool->spare)) != NULL;)
		pool_handle_destroy(CONTAINER_OF(node, struct pool_handle, node));
	for (struct list *node; (node = list_pop_front(&pool->warmings)) != NULL;) {
		struct pool_warming *w = CONTAINER_OF(node, struct pool_warming, node);
		loop_undefer(&w->nothing_to_do);
		mem_free(w);
	}
	if (pool->sweeping)
		curl_multi_remove_handle(pool->multi, pool->sweeper);
	curl_easy_cleanup(pool->sweeper);
	curl_multi_cleanup(pool->multi);
	pool_socket_cleanup(pool);
	pool_trust_close(&pool->trust);
	loop_undefer(&pool->pump);
	mem_free((char *)pool->options.origin);
	mem_free((char *)pool->options.ca_file);
	pool->magic = 0;
	mem_free(pool);
}

void pool_free(struct pool **held)
{
	struct pool *pool = *held;
	*held = NULL;
	if (pool == NULL)
		return;
	CHECK(pool->magic == POOL_MAGIC && !pool->dying);
	pool->dying = true;
	struct list *const places[] = { &pool->waiting, &pool->running };
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++)
		LIST_EACH (places[i], node, following)
			CONTAINER_OF(node, struct transfer, node)->silenced = true;
	pool_pump_soon(pool);
}

/* The states of a transfer, and the pump.
 *
 * The pump runs at the end of a turn in which something happened, and is the only place where a handle enters or
 * leaves the multi, or a paused one goes on: libcurl is never on the stack then, so nothing is ever called from inside
 * one of its callbacks.
 *
 *   ended? tell their owners ─► cancelled? take them out ─► resumed? go on
 *                            ─► room for one more? the next of the line ─► who waited for long enough? tell their owners
 *                            ─► let libcurl do what is due
 *
 * A call that finds room and nobody before it goes straight on, without having been in the line. */
#include "lib/pool_internal.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"

#define HTTP2_SINCE   0x080100 /* what libcurl needs before HTTP/2 is spoken unasked: the fixes of 8.0 and 8.1 */
#define LINGERS_SINCE 0x080900 /* libcurl shuts TLS down before it closes a connection */

/* ---- handles ---- */

static struct pool_handle *take_handle(struct pool *pool)
{
	struct list *node = list_pop_front(&pool->spare);
	if (node == NULL)
		return pool_handle_new(pool);
	pool->spare_count--;
	return CONTAINER_OF(node, struct pool_handle, node);
}

/* 7.88 loses what it holds for a paused transfer that is taken out while others share its connection; when it goes on, that is offered and freed. */
static void let_go_of_paused(struct transfer *t)
{
	t->silenced = true;
	t->pool->inside = true;
	curl_easy_pause(t->handle->easy, CURLPAUSE_CONT);
	t->pool->inside = false;
}

/* Takes the handle out of the multi: an unfinished transfer's connection (HTTP/2: its stream) ends here, at once. */
static void give_handle(struct transfer *t)
{
	struct pool *pool = t->pool;
	struct pool_handle *handle = t->handle;
	struct pool_socket *abandoned = t->over ? NULL : t->socket;
	CHECK(!pool->inside);
	if (t->paused && pool->two)
		let_go_of_paused(t);
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

static void leave_running(struct transfer *t)
{
	struct pool *pool = t->pool;
	pool->running_count--;
	pool->light_running -= t->kind != TRANSFER_CALL;
	pool_room_seat(t, SEAT_NONE);
	if (t->placed)
		pool_line_over(&pool->line, t->call.tenant);
	t->placed = false;
}

static void leave_state(struct transfer *t)
{
	struct pool *pool = t->pool;
	list_remove(&t->node);
	list_remove(&t->resuming);
	list_remove(&t->late);
	pool_line_leave(&pool->line, &t->call);
	if (t->state == TRANSFER_WAITING)
		pool->waiting_count -= t->kind == TRANSFER_CALL;
	else if (t->state == TRANSFER_RUNNING)
		leave_running(t);
	t->state = TRANSFER_ENDED; /* before its connection closes */
	loop_timer_clear(&t->wait_timer);
	if (t->handle != NULL)
		give_handle(t);
	list_push_back(&pool->ended, &t->node);
	pool_pump_soon(pool);
}

void pool_finish(struct transfer *t, CURLcode code)
{
	struct pool *pool = t->pool;
	pool_outcome_classify(t, code);
	pool_outcome_measure(t);
	if (t->kind == TRANSFER_CALL) {
		pool->totals.requests++;
		pool->totals.failed += t->result.outcome != POOL_DONE;
		pool->totals.waited_total += t->result.waited;
	}
	if (t->result.handshake > 0) {
		pool->totals.handshake_total += t->result.handshake;
		pool->handshake_mean = pool->totals.handshake_total / (int64_t)++pool->totals.handshakes;
	}
	bool tried = t->state == TRANSFER_RUNNING; /* else another's failure is its own */
	if (tried && (t->result.outcome == POOL_CONNECT_FAILED || t->result.outcome == POOL_TLS_FAILED))
		pool->connect_failed_at = clock_now();
	bool silenced = t->silenced || pool->dying;
	leave_state(t);
	if (!silenced)
		t->receiver.done(t, t->arg, &t->result);
}

void pool_launch(struct transfer *t)
{
	struct pool *pool = t->pool;
	list_remove(&t->node);
	list_remove(&t->late);
	pool->waiting_count -= t->kind == TRANSFER_CALL;
	t->state = TRANSFER_RUNNING;
	list_push_back(&pool->running, &t->node);
	pool->running_count++;
	pool->light_running += t->kind != TRANSFER_CALL;
	pool_room_promise(t);
	t->handle = take_handle(pool);
	pool_transfer_prepare(t);
	CHECK(curl_multi_add_handle(pool->multi, t->handle->easy) == CURLM_OK);
	pool_idle_tick_soon(pool);
}

/* Not a byte of it was sent, and it is as it was when it came; but for its deadlines, which go on. */
void pool_return(struct transfer *t)
{
	struct pool *pool = t->pool;
	if (t->kind != TRANSFER_CALL) {
		pool_outcome_judge(t, POOL_NO_SLOT, "no connection takes it");
		pool_finish(t, CURLE_OK);
		return;
	}
	list_remove(&t->node);
	leave_running(t);
	t->state = TRANSFER_WAITING;
	t->over = false; /* its handle is not used again */
	give_handle(t);
	t->first_byte_deadline -= t->slot_at;
	t->refused = t->connected = false;
	t->attempts = 0;
	pool->waiting_count++;
	pool_line_return(&pool->line, &t->call, pool_line_tenant(&pool->line, t->tenant, t->tenant_connections),
			 t->lane);
	loop_timer_set(&t->wait_timer, pool_transfer_wait_until(t) - clock_now());
	pool_pump_soon(pool);
}

/* ---- the pump ---- */

static void bury_ended(struct pool *pool)
{
	for (struct list *node; (node = list_pop_front(&pool->ended)) != NULL;)
		pool_transfer_destroy(CONTAINER_OF(node, struct transfer, node));
}

void pool_hear(struct pool *pool)
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
		pool_socket_over(handle->transfer);
		if (handle->transfer->refused && !handle->transfer->silenced)
			pool_return(handle->transfer);
		else
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

/* Those that came in this turn. */
static void take_arrivals(struct pool *pool)
{
	LIST_EACH (&pool->waiting, node, following) {
		struct transfer *t = CONTAINER_OF(node, struct transfer, node);
		unsigned bound = t->tenant_connections;
		struct pool_tenant *tenant = bound > 0 ? pool_line_tenant(&pool->line, t->tenant, bound) : NULL;
		if (pool->line.ready == 0 && pool_room_has(pool, TRANSFER_CALL) &&
		    (tenant == NULL || pool_line_admit(&pool->line, tenant))) {
			t->placed = tenant != NULL;
			t->call.tenant = tenant;
			pool_launch(t);
			continue;
		}
		if (tenant == NULL)
			tenant = pool_line_tenant(&pool->line, t->tenant, bound);
		list_remove(&t->node);
		pool_line_enter(&pool->line, &t->call, tenant, t->lane);
		loop_timer_set(&t->wait_timer, pool_transfer_wait_until(t) - clock_now());
	}
}

static void take_waiting(struct pool *pool)
{
	struct pool_call *call;
	while (pool->line.ready > 0 && pool_room_has(pool, TRANSFER_CALL) &&
	       (call = pool_line_next(&pool->line)) != NULL) {
		struct transfer *t = CONTAINER_OF(call, struct transfer, call);
		t->placed = true;
		pool_launch(t);
	}
}

/* What has ended is given back before anything is taken, be it granted: others may have waited for longer. */
static void fill_slots(struct pool *pool)
{
	pool_room_settle(pool);
	pool_room_hear(pool);
	pool_room_drain(pool);
	pool_light_start(pool);
	take_waiting(pool);
	take_arrivals(pool);
	take_waiting(pool); /* a tenant's place may have been free that its first call did not find */
	pool_line_settle(&pool->line);
	pool_room_cede(pool);
	pool_room_settle(pool);
	pool_room_answer(pool);
}

/* Whose time to wait is over, and who found nothing in this turn either. Before libcurl does anything that may make room: that is given away in the next one. */
static void end_late(struct pool *pool)
{
	for (struct list *node; !pool->dying && (node = list_pop_front(&pool->late)) != NULL;)
		pool_transfer_late(CONTAINER_OF(node, struct transfer, late));
}

/* It places them now, or will not. */
static void let_libcurl_place(struct pool *pool)
{
	bool had_its_turn = pool_socket_timeout(pool);
	if (pool->seats[SEAT_PROMISED] + pool->seats[SEAT_WANTING] == 0)
		return;
	pool_hear(pool);
	if (!pool->dying)
		pool_room_judge(pool, had_its_turn);
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
	pool_hear(pool);
	take_out_cancelled(pool);
	if (pool->dying)
		return; /* an owner freed the pool: it has deferred us again */
	go_on(pool);
	fill_slots(pool);
	end_late(pool);
	let_libcurl_place(pool);
	pool_socket_schedule(pool);
}

void pool_pump_soon(struct pool *pool)
{
	loop_defer(pool->loop, &pool->pump);
}

/* ---- what callers use ---- */

struct transfer *pool_start(struct pool *pool, const struct pool_request *request, const struct pool_receiver *receiver,
			    void *arg)
{
	CHECK(pool->magic == POOL_MAGIC && !pool->dying);
	struct transfer *t = pool_transfer_new(pool, request, receiver, arg);
	list_push_back(&pool->waiting, &t->node);
	pool->waiting_count++;
	pool_pump_soon(pool);
	return t;
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

int64_t pool_waited(const struct transfer *t)
{
	CHECK(t->magic == TRANSFER_MAGIC);
	return t->state == TRANSFER_WAITING ? -1 : t->result.waited;
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
	if (t->kind == TRANSFER_CALL)
		t->pool->totals.waited_total +=
			t->state == TRANSFER_WAITING ? clock_now() - t->started : t->result.waited;
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
	stats->active = pool->running_count - pool->light_running;
	stats->busy = pool_room_busy(pool);
	stats->idle = pool->idle_count;
	stats->waiting = pool->waiting_count;
}

/* ---- birth and death ---- */

static char *copy_text(const char *text)
{
	return text == NULL ? NULL : mem_text(slice_of(text));
}

/* Where nothing is shared they say nothing. */
static char *copy_name(const char *text)
{
	return copy_text(text != NULL ? text : "");
}

static bool is_since(unsigned version)
{
	return curl_version_info(CURLVERSION_NOW)->version_num >= version;
}

bool pool_multiplexes(enum pool_http http, const char *origin)
{
	return http == POOL_HTTP_2 ||
	       (http == POOL_HTTP_AUTO && strncmp(origin, "https://", 8) == 0 && is_since(HTTP2_SINCE));
}

static void limit(struct pool *pool)
{
	/* How many it may keep is ours to judge: libcurl counts those that were shut down, and closes living ones in their place. */
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long)INT32_MAX);
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
	CHECK(options->streams_per_connection > 0 && options->validate_after >= 0);
	CHECK(options->connect_timeout > 0 && options->idle_timeout > 0 && options->max_age > 0);
	CHECK(options->name_age >= 0 && options->name_age < INT32_MAX * CLOCK_SECOND);
	pool->magic = POOL_MAGIC;
	pool->loop = loop;
	pool->log = log;
	pool->options = *options;
	pool->options.origin = copy_text(options->origin);
	pool->options.ca_file = copy_text(options->ca_file);
	pool->options.name = copy_name(options->name != NULL ? options->name : options->origin);
	pool->options.owner = copy_name(options->owner);
	pool->options.group = copy_name(options->group);
	pool->tls = strncmp(options->origin, "https://", 8) == 0;
	CHECK(pool->tls || strncmp(options->origin, "http://", 7) == 0);
	pool->recent = is_since(HTTP2_SINCE);
	pool->lingers = pool->tls && is_since(LINGERS_SINCE);
	pool->two = pool_multiplexes(options->http, options->origin);
	pool->multiplexes = pool->two;
	if (pool->tls && options->verify)
		pool->trust = pool_trust_open(options->ca_file, log);
	struct list *const heads[] = { &pool->waiting, &pool->light, &pool->running,  &pool->cancelled, &pool->resuming,
				       &pool->ended,   &pool->spare, &pool->warmings, &pool->late };
	for (size_t i = 0; i < ARRAY_LENGTH(heads); i++)
		list_init(heads[i]);
	loop_deferred_init(&pool->pump, pump, pool);
	pool->multi = curl_multi_init();
	CHECK(pool->multi != NULL);
	pool_socket_setup(pool);
	pool_room_setup(pool);
	limit(pool);
	return pool;
}

void pool_change(struct pool *pool, const struct pool_options *options)
{
	CHECK(pool->magic == POOL_MAGIC && !pool->dying);
	CHECK(options->idle_timeout > 0 && options->max_age > 0 && options->validate_after >= 0);
	pool->options.connections = options->connections;
	pool->options.least = options->least;
	pool->options.start = options->start;
	pool->options.warm = options->warm;
	pool->options.group_connections = options->group_connections;
	pool->options.idle_timeout = options->idle_timeout;
	pool->options.max_age = options->max_age;
	pool->options.validate_after = options->validate_after;
	memcpy(pool->options.weight, options->weight, sizeof(options->weight));
	pool_room_bound(pool);
	pool_line_weigh(&pool->line, options->weight);
	limit(pool);
	pool_idle_tick_soon(pool);
	pool_pump_soon(pool);
}

/* Each in its own way: those that stand in the line are in no list of the pool's. */
static struct transfer *any_transfer(struct pool *pool)
{
	struct list *const places[] = { &pool->waiting, &pool->light, &pool->running, &pool->cancelled };
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++)
		if (!list_empty(places[i]))
			return CONTAINER_OF(places[i]->next, struct transfer, node);
	struct pool_call *call = pool_line_any(&pool->line);
	return call != NULL ? CONTAINER_OF(call, struct transfer, call) : NULL;
}

static void destroy(struct pool *pool)
{
	for (struct transfer *t; (t = any_transfer(pool)) != NULL;)
		leave_state(t);
	bury_ended(pool);
	for (struct list *node; (node = list_pop_front(&pool->spare)) != NULL;)
		pool_handle_destroy(CONTAINER_OF(node, struct pool_handle, node));
	pool_light_cleanup(pool);
	if (pool->sweeping)
		curl_multi_remove_handle(pool->multi, pool->sweeper);
	curl_easy_cleanup(pool->sweeper);
	curl_multi_cleanup(pool->multi);
	pool_socket_cleanup(pool);
	pool_room_cleanup(pool);
	pool_trust_close(&pool->trust);
	loop_undefer(&pool->pump);
	mem_free((char *)pool->options.origin);
	mem_free((char *)pool->options.ca_file);
	mem_free((char *)pool->options.name);
	mem_free((char *)pool->options.owner);
	mem_free((char *)pool->options.group);
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
	LIST_EACH (&pool->running, node, following)
		CONTAINER_OF(node, struct transfer, node)->silenced = true;
	pool_pump_soon(pool);
}

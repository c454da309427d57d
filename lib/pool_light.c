/* Light requests: HEAD / without a credential, whatever the answer. They open connections before a call needs one, and find out whether idle ones still live.
 *
 * They stand in no line. One that opens a connection goes when there is a place for it and no call waits. Those that try idle connections go all at once, one for
 * each: libcurl gives a request the first connection with room that it finds, so only that many at a time reach them all; over HTTP/2 none has room for two of
 * them while they are placed. One that finds no idle connection opens none: what calls have taken meanwhile needs no trying.
 *
 * A connection is given up for what was heard on it, never for what was not: a peer so near that it answers the first before the last has its connection gets two
 * on one, and the other connection is tried in a later round. Rounds are half of validate_after apart at least, however many are due.
 * Disadvantage: over HTTP/1, for the time of one answer no connection is idle, and a call that comes then has another one opened. */
#include "lib/pool_internal.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/mem.h"

#define VALIDATE_MOST (5 * CLOCK_SECOND) /* an idle connection answers within this, or is dead */

static void on_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	(void)t;
	(void)arg;
	(void)head;
}

static bool on_body(struct transfer *t, void *arg, struct slice bytes)
{
	(void)t;
	(void)arg;
	(void)bytes;
	return true;
}

static struct transfer *add(struct pool *pool, enum transfer_kind kind, int64_t timeout,
			    const struct pool_receiver *receiver, void *arg)
{
	struct pool_request request = { .method = SLICE("HEAD"),
					.target = SLICE("/"),
					.wait_timeout = timeout,
					.first_byte_timeout = timeout,
					.idle_timeout = timeout,
					.total_timeout = timeout };
	struct transfer *t = pool_transfer_new(pool, &request, receiver, arg);
	t->kind = kind;
	if (kind == TRANSFER_VALIDATING)
		list_push_front(&pool->light, &t->node);
	else
		list_push_back(&pool->light, &t->node);
	loop_timer_set(&t->wait_timer, pool_transfer_wait_until(t) - t->started);
	pool_pump_soon(pool);
	return t;
}

/* Those that try connections stand before those that open some. */
static struct transfer *first_of(struct pool *pool, enum transfer_kind kind)
{
	struct transfer *t = CONTAINER_OF(pool->light.next, struct transfer, node);
	return !list_empty(&pool->light) && t->kind == kind ? t : NULL;
}

/* One that tries a connection and finds none idle is not needed any more. Over HTTP/2 the first connection would take them all, as streams: here each takes one. */
static void start_trying(struct pool *pool)
{
	bool launched = false;
	for (struct transfer *t; (t = first_of(pool, TRANSFER_VALIDATING)) != NULL;) {
		if (pool_room_has(pool, t->kind)) {
			pool_launch(t);
			launched = true;
		} else {
			pool_outcome_judge(t, POOL_NO_SLOT, "no connection is idle");
			pool_finish(t, CURLE_OK);
		}
	}
	if (launched && pool->two)
		pool_socket_place(pool, 1);
}

/* Where there is no room for the first there is none for the others. */
static void start_opening(struct pool *pool)
{
	for (struct transfer *t; (t = first_of(pool, TRANSFER_FRESH)) != NULL && pool->line.ready == 0;) {
		if (!pool_room_has(pool, t->kind))
			return;
		pool_launch(t);
	}
}

void pool_light_start(struct pool *pool)
{
	start_trying(pool);
	start_opening(pool);
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
	static const struct pool_receiver receiver = { on_head, on_body, warm_done };
	struct pool_warming *w = mem_new(sizeof(*w));
	*w = (struct pool_warming){ .pool = pool, .running = count, .warmed = warmed, .arg = arg };
	loop_deferred_init(&w->nothing_to_do, on_nothing_to_do, w);
	list_push_back(&pool->warmings, &w->node);
	pool->warming = true;
	for (unsigned i = 0; i < count; i++)
		(void)add(pool, TRANSFER_FRESH, timeout, &receiver, w);
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
	pool->keeps_warm = true;
	warm(pool, missing(pool), timeout, warmed, arg);
}

/* Replaces what age took from the floor. A provider that is away is tried once per warm_timeout, not at every tick. */
void pool_light_rewarm(struct pool *pool)
{
	int64_t now = clock_now();
	if (!pool->keeps_warm || pool->warming || missing(pool) == 0 || now < pool->warm_again_at)
		return;
	pool->warm_again_at = now + pool->warm_timeout;
	warm(pool, missing(pool), pool->warm_timeout, NULL, NULL);
}

void pool_light_open(struct pool *pool, unsigned count)
{
	if (pool->winding_down)
		return;
	warm(pool, count, pool->options.connect_timeout, NULL, NULL);
}

/* ---- trying idle connections ---- */

/* A connection that failed it was closed by its end; but for one over HTTP/2 whose peer refused this one stream, which counts all the same. */
static void validate_done(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct pool *pool = arg;
	(void)t;
	pool->validating_count--;
	if (result->outcome != POOL_DONE && result->outcome != POOL_NO_SLOT)
		pool->totals.recycled[POOL_RECYCLED_VALIDATION]++;
}

void pool_light_validate(struct pool *pool, int64_t now)
{
	static const struct pool_receiver receiver = { on_head, on_body, validate_done };
	int64_t timeout = pool->options.connect_timeout < VALIDATE_MOST ? pool->options.connect_timeout : VALIDATE_MOST;
	if (pool->validating_count > 0 || now - pool->tried_at < pool->options.validate_after / 2)
		return;
	pool->tried_at = now;
	for (unsigned i = 0; i < pool->idle_count; i++) {
		pool->validating_count++;
		(void)add(pool, TRANSFER_VALIDATING, timeout, &receiver, pool);
	}
}

/* ---- the next era ---- */

static void turn_done(struct transfer *t, void *arg, const struct pool_result *result)
{
	(void)t;
	pool_idle_turned(arg, result->outcome == POOL_DONE);
}

void pool_light_turn(struct pool *pool)
{
	static const struct pool_receiver receiver = { on_head, on_body, turn_done };
	add(pool, TRANSFER_FRESH, pool->options.connect_timeout, &receiver, pool)->next_era = true;
}

void pool_light_cleanup(struct pool *pool)
{
	for (struct list *node; (node = list_pop_front(&pool->warmings)) != NULL;) {
		struct pool_warming *w = CONTAINER_OF(node, struct pool_warming, node);
		loop_undefer(&w->nothing_to_do);
		mem_free(w);
	}
}

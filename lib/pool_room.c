/* How many connections this pool may have now.
 *
 * It holds a place (of its name's share, and of its group's) for each connection that is open and for each call that may open one:
 *
 *   places = connections open + requests under way whose connection has no socket yet
 *
 * So a call that goes over a connection that stands takes none, and a place is given back when a connection closes. The name's place is taken first and the group's
 * second, everywhere, so that no two pools wait for each other; while it waits for the second it keeps the first. What libcurl opens beyond that for the other
 * address family is taken by force: it is there.
 *
 * How many calls a connection takes is known from its hand-shake: one over HTTP/1, streams_per_connection over HTTP/2; none when its era is over. Where HTTP/2 may
 * be spoken that is what a connection that is being opened is taken for until it tells, so that a burst from cold waits for the first hand-shake and not for as many
 * connections as there may be. A peer may allow fewer streams than we do, or say goodbye (GOAWAY), and libcurl does not tell. But it places a call within the turn
 * in which it is given one. So one that was promised room on a connection and did not find it tells us that there is none: it goes back to the line, for nothing of
 * it was sent. Where a connection first takes no more is its limit; with fewer on it the next time it is at its end, and closed with its last stream.
 * Disadvantage: behind a first hand-shake that hangs all calls wait; they end as it does. */
#include "lib/pool_internal.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"

static unsigned open_of(const struct pool *pool)
{
	return pool->open_count - pool->retired_count;
}

static unsigned each(const struct pool *pool)
{
	return pool->multiplexes ? pool->options.streams_per_connection : 1;
}

/* Those that will have a socket of their own. */
static unsigned openers(const struct pool *pool)
{
	return pool->seats[SEAT_WANTING] + pool->seats[SEAT_LOOKING];
}

static unsigned places(const struct pool *pool)
{
	return open_of(pool) + openers(pool);
}

static bool has_room(const struct pool *pool)
{
	return pool->ready_room > pool->seats[SEAT_PROMISED];
}

/* So many calls that wait fit on none of the connections that are being opened, beside those for whom they are. Over HTTP/1 they never do. */
static bool need_another(const struct pool *pool, unsigned calls)
{
	unsigned coming = pool->room - pool->ready_room + openers(pool) * each(pool);
	return calls + openers(pool) + pool->seats[SEAT_OPENING] > coming;
}

static bool hold(struct pool *pool, unsigned places, bool waits)
{
	struct pool_part *const parts[] = { &pool->part, &pool->group };
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++)
		while (pool_part_held(parts[i]) < places)
			if (!pool_part_take(parts[i], waits))
				return false;
	return true;
}

/* One call more. libcurl fills connections one after the other, so the last of them becomes idle. */
static bool fits_without_one(const struct pool *pool)
{
	unsigned sum = 0, greatest = 0;
	for (size_t i = 0; i < POOL_BUCKETS; i++)
		LIST_EACH (&pool->by_descriptor[i], node, following) {
			const struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, chain);
			unsigned takes = s->load + s->room;
			sum += takes;
			greatest = takes > greatest ? takes : greatest;
		}
	return pool->running_count < sum - greatest;
}

/* With the one that asks, which may not have come to the line. */
static unsigned line_length(const struct pool *pool)
{
	return pool->line.ready > 0 ? pool->line.ready : 1;
}

bool pool_room_has(struct pool *pool, enum transfer_kind kind)
{
	switch (kind) {
	case TRANSFER_CALL:
		if (pool->draining && !fits_without_one(pool))
			return false;
		return has_room(pool) || (need_another(pool, line_length(pool)) && hold(pool, places(pool) + 1, true));
	case TRANSFER_FRESH:
		return hold(pool, places(pool) + 1, false);
	case TRANSFER_VALIDATING:
		break;
	}
	return has_room(pool);
}

/* Who does not count for a connection of his own has no place for one: he was promised another's, or had one and is tried once more; then that one's place is free, unless
 * others are still on it. */
bool pool_room_may_open(const struct transfer *t)
{
	bool counts = t->seat == SEAT_WANTING || pool_room_opens(t);
	return counts || !t->pool->two || hold(t->pool, places(t->pool) + 1, false);
}

static void settle(struct pool_part *part, unsigned count, bool keeps_one, bool wants)
{
	unsigned held = part->share != NULL ? pool_part_held(part) : count;
	for (; held < count; held++)
		pool_part_force(part);
	if (held > count + keeps_one)
		pool_part_give(part, held - count - keeps_one);
	if (!wants)
		pool_part_give_up(part);
}

void pool_room_settle(struct pool *pool)
{
	bool wants = pool->line.ready > 0 && need_another(pool, pool->line.ready);
	settle(&pool->part, places(pool), pool->group.waits && wants, wants);
	settle(&pool->group, places(pool), false, wants);
}

bool pool_room_is_coming(const struct pool *pool)
{
	return pool->line.ready > 0 && !need_another(pool, pool->line.ready);
}

/* A light request's connection is idle as soon as it has its answer; and who drains does it for somebody who may leave. */
bool pool_room_may_come(const struct pool *pool)
{
	return pool->light_running > 0 || pool->draining || pool_part_may_come(&pool->part) ||
	       pool_part_may_come(&pool->group);
}

/* ---- who fits where ---- */

void pool_room_count(struct pool_socket *s)
{
	struct pool *pool = s->pool;
	bool usable = !s->foreign && !s->retired && !s->closed && s->era == pool->era;
	unsigned room = usable && s->takes > s->load ? s->takes - s->load : 0, ready = s->uses > 0 ? room : 0;
	pool->room += room - s->room;
	pool->ready_room += ready - s->ready_room;
	s->room = room;
	s->ready_room = ready;
}

static void each_socket(struct pool *pool, void (*act)(struct pool_socket *))
{
	for (size_t i = 0; i < POOL_BUCKETS; i++)
		LIST_EACH (&pool->by_descriptor[i], node, following)
			act(CONTAINER_OF(node, struct pool_socket, chain));
}

void pool_room_recount(struct pool *pool)
{
	each_socket(pool, pool_room_count);
}

/* What is being opened will be like what was opened last. */
void pool_room_expect(struct pool_socket *s)
{
	if (s->uses == 0)
		s->takes = each(s->pool);
	pool_room_count(s);
}

void pool_room_learn(struct pool_socket *s, bool multiplexes)
{
	struct pool *pool = s->pool;
	bool news = pool->multiplexes != multiplexes;
	pool->multiplexes = multiplexes;
	s->takes = each(pool);
	if (news)
		each_socket(pool, pool_room_expect);
}

void pool_room_seat(struct transfer *t, enum transfer_seat seat)
{
	t->pool->seats[t->seat]--;
	t->pool->seats[seat]++;
	t->seat = seat;
}

void pool_room_promise(struct transfer *t)
{
	struct pool *pool = t->pool;
	pool_room_seat(t, t->kind != TRANSFER_FRESH && has_room(pool) ? SEAT_PROMISED : SEAT_WANTING);
}

/* libcurl would have put a call here. */
static void takes_no_more(struct pool_socket *s)
{
	if (s->ready_room == 0)
		return;
	s->takes = s->full ? 0 : s->load;
	s->full = true;
	pool_room_count(s);
	if (pool_idle_is(s))
		pool_idle_retire(s);
}

/* They were placed as if no connection had room for two. */
static void give_up_trying(struct pool *pool)
{
	LIST_EACH (&pool->running, node, following) {
		struct transfer *t = CONTAINER_OF(node, struct transfer, node);
		if (t->kind == TRANSFER_VALIDATING && t->seat == SEAT_PROMISED)
			pool_return(t);
	}
}

static void take_back(struct pool *pool)
{
	LIST_EACH (&pool->running, node, following) {
		struct transfer *t = CONTAINER_OF(node, struct transfer, node);
		if (t->seat == SEAT_PROMISED || t->seat == SEAT_WANTING)
			pool_return(t);
	}
}

/* Who was promised a connection and has none was lied to. Who waits inside libcurl, which has nothing left to do, while a connection that stands seems to have room is
 * promised it next. */
void pool_room_judge(struct pool *pool, bool had_its_turn)
{
	if (pool->validating_count > 0)
		give_up_trying(pool);
	bool broken = had_its_turn && pool->seats[SEAT_PROMISED] > 0;
	if (broken)
		each_socket(pool, takes_no_more);
	if (broken || (pool->seats[SEAT_WANTING] > 0 && pool->ready_room > 0 && pool->curl_deadline > clock_now()))
		take_back(pool);
}

/* ---- what other loops say ---- */

void pool_room_hear(struct pool *pool)
{
	if (!pool_ear_has_news(pool->ear))
		return;
	for (struct pool_part *part; (part = pool_ear_granted(pool->ear)) != NULL;)
		if (part != &pool->part && part != &pool->group)
			pool_line_granted(&pool->line, part);
	pool->asked = pool_part_is_asked(&pool->part) || pool_part_is_asked(&pool->group);
}

void pool_room_drain(struct pool *pool)
{
	pool->draining =
		pool->asked && pool->multiplexes &&
		(pool_part_should_drain(&pool->part, clock_now()) || pool_part_should_drain(&pool->group, clock_now()));
}

static bool should_cede(struct pool *pool, bool idle)
{
	int64_t now = clock_now();
	return pool_part_should_cede(&pool->part, idle, now) || pool_part_should_cede(&pool->group, idle, now);
}

/* One that libcurl has not given to its call yet is idle only to the eye. */
static bool has_idle(const struct pool *pool)
{
	return !list_empty(&pool->idle) &&
	       pool->ready_room >= pool->seats[SEAT_PROMISED] +
					   CONTAINER_OF(pool->idle.next, struct pool_socket, idling)->ready_room;
}

void pool_room_cede(struct pool *pool)
{
	while (pool->asked && has_idle(pool) && should_cede(pool, true)) {
		pool_idle_recycle(CONTAINER_OF(pool->idle.next, struct pool_socket, idling), POOL_RECYCLED_CEDED);
		pool_room_settle(pool);
	}
}

void pool_room_answer(struct pool *pool)
{
	if (!pool->asked)
		return;
	bool none = pool->light_running == 0, asked = pool_part_looked(&pool->part, none);
	pool->asked = pool_part_looked(&pool->group, none) || asked;
}

enum pool_recycled pool_room_ended(struct pool *pool)
{
	if (!pool->asked || !has_idle(pool))
		return POOL_RECYCLED_REASONS;
	if (pool_part_shed(&pool->part, &pool->group, false))
		return POOL_RECYCLED_SURPLUS;
	return should_cede(pool, false) ? POOL_RECYCLED_CEDED : POOL_RECYCLED_REASONS;
}

void pool_room_shed(struct pool *pool, unsigned idle, bool to_size)
{
	unsigned count = idle > 0 ? pool_part_excess(&pool->part, &pool->group, to_size) : 0;
	for (; count > 0 && idle > 0 && has_idle(pool); count--, idle--) {
		if (!pool_part_shed(&pool->part, &pool->group, to_size))
			return;
		pool_idle_recycle(CONTAINER_OF(pool->idle.next, struct pool_socket, idling), POOL_RECYCLED_SURPLUS);
	}
}

/* ---- size ---- */

static void log_change(struct pool *pool, enum pool_size_change change, unsigned size)
{
	log_say(pool->log, LOG_INFO, "pool_size", "%s: %s, %u connections are kept", pool->options.name,
		change == POOL_SIZE_GROWN ? "above 80 % in use for 60 s" : "below 30 % in use for 5 min", size);
}

/* Over HTTP/2 a light request beside others makes no difference. */
unsigned pool_room_busy(const struct pool *pool)
{
	if (!pool->multiplexes)
		return pool->running_count - pool->light_running;
	return open_of(pool) - pool->idle_count + openers(pool);
}

void pool_room_look(struct pool *pool, int64_t now, struct pool_share_state *state)
{
	unsigned ahead;
	enum pool_size_change change = pool_part_look(&pool->part, now, pool_room_busy(pool), &ahead);
	pool_part_read(&pool->part, now, state);
	if (change != POOL_SIZE_SAME)
		log_change(pool, change, state->size);
	if (ahead > 0)
		pool_light_open(pool, ahead);
}

void pool_shared_stats(const struct pool *pool, struct pool_shared_stats *stats)
{
	struct pool_share_state state;
	pool_part_read(&pool->part, clock_now(), &state);
	*stats = (struct pool_shared_stats){ .limit = state.most,
					     .group_limit = pool->options.group_connections,
					     .size = state.size,
					     .open = state.used,
					     .peak = state.peak,
					     .opened_lately = state.opened_lately };
}

/* ---- birth and death ---- */

static void on_heard(void *arg)
{
	struct pool *pool = arg;
	CHECK(pool->magic == POOL_MAGIC);
	pool_pump_soon(pool);
}

static void join(struct pool *pool, struct pool_part *part, const char *kind, const char *name, unsigned most)
{
	char key[2100];
	int length = snprintf(key, sizeof(key), "%s %s", kind, name);
	CHECK(length > 0 && (size_t)length < sizeof(key));
	pool_part_join(part, pool_share_open(pool->options.shares, slice_make(key, (size_t)length), most, true),
		       pool->ear);
}

void pool_room_bound(struct pool *pool)
{
	const struct pool_options *options = &pool->options;
	unsigned of_group = options->group_connections > 0 ? options->group_connections : UINT32_MAX;
	CHECK(options->connections > 0 && options->least <= options->connections &&
	      options->warm <= options->connections);
	if (pool->part.share == NULL)
		join(pool, &pool->part, "pool", options->name, options->connections);
	else
		pool_share_bound(pool->part.share, options->connections);
	pool_part_size(&pool->part, options->least, options->start, of_group);
	if (pool->group.share != NULL)
		pool_share_bound(pool->group.share, of_group);
	else if (options->group_connections > 0)
		join(pool, &pool->group, "group", options->group, options->group_connections);
}

void pool_room_setup(struct pool *pool)
{
	if (pool->options.shares == NULL)
		pool->options.shares = pool->own_shares = pool_shares_new();
	pool->ear = pool_ear_new(pool->options.shares, pool->loop, on_heard, pool);
	pool_room_bound(pool);
	pool_line_init(&pool->line, pool->options.shares, pool->ear, pool->options.owner);
	pool_line_weigh(&pool->line, pool->options.weight);
}

/* Whatever its calls and its connections went through, nothing is left of them, and no place that another loop waits for. */
static void check_empty(const struct pool *pool)
{
	for (int seat = 0; seat < TRANSFER_SEATS; seat++)
		CHECK(pool->seats[seat] == 0);
	CHECK(pool->room == 0 && pool->ready_room == 0);
	CHECK(pool->open_count == 0 && pool->retired_count == 0 && pool->idle_count == 0);
	CHECK(pool->running_count == 0 && pool->light_running == 0 && pool->waiting_count == 0);
	CHECK(pool_part_held(&pool->part) == 0);
	CHECK(pool->group.share == NULL || pool_part_held(&pool->group) == 0);
}

void pool_room_cleanup(struct pool *pool)
{
	pool_room_settle(pool);
	check_empty(pool);
	pool_line_free(&pool->line);
	pool_part_leave(&pool->part);
	pool_part_leave(&pool->group);
	pool_ear_free(&pool->ear);
	pool_shares_free(&pool->own_shares);
}

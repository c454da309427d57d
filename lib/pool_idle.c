/* Connections without a request: how they are seen to die, how old they may get, and how libcurl is made to close them.
 *
 * Events are kept registered on them (pool_socket.c), so one that fires is news by itself: the peer closed, or sent
 * what nobody asked for. Such a connection, an old one, one that was idle for long and one of too many are retired: shut
 * down at once, so that the peer knows and no request can be lost on it; libcurl finds it dead when it looks. So is one
 * that libcurl is ending by itself: it waits for the peer's goodbye, and must not count meanwhile.
 *
 * libcurl has no verb to close an idle connection. The sweep is one: a transfer that must open a fresh connection and
 * is refused its socket does nothing but let libcurl look through its cache (at most once a second) and close what is
 * dead. */
#include "lib/pool_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "lib/clock.h"

#define TICK_LEAST    (50 * CLOCK_MILLISECOND)
#define TICK_MOST     CLOCK_SECOND
#define SURPLUS_AFTER CLOCK_MINUTE /* what is idle for so long, and more than is kept, was a burst's */
#define ANSWER_WITHIN (10 * CLOCK_SECOND)
#define SWEEP_SPACING (1100 * CLOCK_MILLISECOND) /* libcurl looks for dead connections at most once a second */

bool pool_idle_is(const struct pool_socket *s)
{
	return !s->foreign && !s->retired && s->uses > 0 && list_empty(&s->users);
}

static int64_t tick_of(const struct pool *pool)
{
	int64_t least =
		pool->options.idle_timeout < pool->options.max_age ? pool->options.idle_timeout : pool->options.max_age;
	int64_t delay = least / 4;
	return delay > TICK_MOST ? TICK_MOST : delay < TICK_LEAST ? TICK_LEAST : delay;
}

void pool_idle_tick_soon(struct pool *pool)
{
	if (!pool->tick.armed)
		loop_timer_set(&pool->tick, tick_of(pool));
}

void pool_idle_leave(struct pool_socket *s)
{
	if (!list_linked(&s->idling))
		return;
	list_remove(&s->idling);
	s->pool->idle_count--;
}

/* Ends a connection without a user: the peer hears of it now, libcurl when it looks. */
void pool_idle_retire(struct pool_socket *s)
{
	char unread[4096];
	CHECK(pool_idle_is(s));
	pool_idle_leave(s);
	pool_socket_disarm(s, (short)~s->wished); /* where libcurl waits for the peer's end it sees ours at once */
	pool_part_closed(&s->pool->part);
	s->retired = true;
	s->pool->retired_count++;
	pool_room_count(s);
	shutdown(s->descriptor, SHUT_RDWR);
	/* libcurl before 8.0 takes a connection with unread bytes for a living one: leave it none. */
	while (recv(s->descriptor, unread, sizeof(unread), MSG_DONTWAIT) > 0)
		continue;
	if (s->pool->sweep_at == 0)
		s->pool->sweep_at = clock_now() + SWEEP_SPACING;
	pool_idle_tick_soon(s->pool);
	pool_pump_soon(s->pool); /* its place is given back */
}

void pool_idle_recycle(struct pool_socket *s, enum pool_recycled why)
{
	s->pool->totals.recycled[why]++;
	pool_idle_retire(s);
}

const char *pool_recycled_name(enum pool_recycled why)
{
	static const char *const names[] = { "age", "idle", "surplus", "validation", "ceded" };
	CHECK((size_t)why < ARRAY_LENGTH(names));
	return names[why];
}

/* ---- death ---- */

/* An alert's record (RFC 8446, section 5): on an idle connection that is close_notify. Encrypted as 1.3 does it is told
 * by its size: two bytes, the hidden type, and the tag of 16 bytes that all its usual ciphers have. */
static bool is_tls_alert(const uint8_t *record, ssize_t len)
{
	enum { ALERT = 21, APPLICATION_DATA = 23, HIDDEN_ALERT = 2 + 1 + 16 };
	if (len < 5)
		return false;
	return record[0] == ALERT || (record[0] == APPLICATION_DATA && (record[3] << 8 | record[4]) == HIDDEN_ALERT);
}

static bool peer_has_closed(const struct pool_socket *s)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);
	return getsockopt(s->descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
	       info.tcpi_state != TCP_ESTABLISHED;
}

/* Whether an idle connection that became readable is dead. Bytes that no request asked for must not meet the next one,
 * and libcurl before 8.0 would let them; but under HTTP/2 they may be a ping, and after a connection's first request a
 * session ticket that came late. */
static bool is_dead(const struct pool_socket *s)
{
	uint8_t record[5];
	ssize_t n = recv(s->descriptor, record, sizeof(record), MSG_PEEK | MSG_DONTWAIT);
	if (n < 0)
		return errno != EAGAIN && errno != EINTR;
	if (n == 0 || peer_has_closed(s))
		return true;
	if (!s->pool->tls)
		return !s->pool->two;
	return is_tls_alert(record, n) || (!s->pool->two && s->uses > 1);
}

void pool_idle_unasked(struct pool_socket *s, short what)
{
	if ((what & EV_READ) && pool_idle_is(s) && is_dead(s))
		pool_idle_retire(s);
	else
		pool_socket_disarm(s, what);
}

/* ---- ages and the sweep ---- */

static curl_socket_t refuse_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void)arg;
	(void)purpose;
	(void)address;
	return CURL_SOCKET_BAD;
}

static void sweep(struct pool *pool)
{
	if (pool->sweeping)
		return;
	if (pool->sweeper == NULL) {
		pool->sweeper = curl_easy_init();
		CHECK(pool->sweeper != NULL);
		/* An address, so that nothing is resolved; never contacted: the socket is refused. */
		curl_easy_setopt(pool->sweeper, CURLOPT_URL, "http://127.0.0.1:9/");
		curl_easy_setopt(pool->sweeper, CURLOPT_PROXY, "");
		curl_easy_setopt(pool->sweeper, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(pool->sweeper, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(pool->sweeper, CURLOPT_MAXAGE_CONN, (long)INT32_MAX);
		curl_easy_setopt(pool->sweeper, CURLOPT_OPENSOCKETFUNCTION, refuse_socket);
	}
	pool->sweeping = curl_multi_add_handle(pool->multi, pool->sweeper) == CURLM_OK;
	pool_pump_soon(pool);
}

bool pool_idle_is_sweeper(struct pool *pool, CURL *easy)
{
	if (easy != pool->sweeper)
		return false;
	curl_multi_remove_handle(pool->multi, easy);
	pool->sweeping = false;
	return true;
}

/* Up to a tenth earlier, spread evenly over connections that are opened one after the other (multiples of the golden ratio): those of one burst do not end
 * together, and none gets older. */
int64_t pool_idle_end_of(struct pool *pool, int64_t opened_at)
{
	uint32_t spread = pool->sockets_made++ * 2654435769u;
	return opened_at + pool->options.max_age - pool->options.max_age / 10240 * (spread >> 22);
}

/* Why it should end now; POOL_RECYCLED_REASONS: it should not. What is due before the next tick is due. */
static enum pool_recycled reason(const struct pool *pool, const struct pool_socket *s, int64_t now)
{
	if (now + tick_of(pool) > s->ends_at)
		return POOL_RECYCLED_AGE;
	return now - s->idle_since >= pool->options.idle_timeout ? POOL_RECYCLED_IDLE : POOL_RECYCLED_REASONS;
}

/* True: one of those that stay should be tried. */
static bool retire_aged(struct pool *pool, int64_t now)
{
	int64_t after = pool->options.validate_after;
	bool try = false;
	LIST_EACH (&pool->idle, node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, idling);
		enum pool_recycled why = reason(pool, s, now);
		if (why != POOL_RECYCLED_REASONS) {
			pool_idle_recycle(s, why);
			continue;
		}
		pool_socket_arm(s, EV_READ); /* one that fired and was let live is looked at again */
		try |= after > 0 && now - s->proved_at >= after;
	}
	return try;
}

/* A loop's own part of the floor stays: it would be opened again. */
static unsigned count_surplus(const struct pool *pool, int64_t now)
{
	unsigned alive = pool->open_count - pool->retired_count, count = 0;
	unsigned most = alive > pool->options.warm ? alive - pool->options.warm : 0;
	for (const struct list *node = pool->idle.next; node != &pool->idle && count < most; node = node->next) {
		if (now - CONTAINER_OF(node, struct pool_socket, idling)->idle_since < SURPLUS_AFTER)
			break;
		count++;
	}
	return count;
}

/* What has just been retired is given back first, or it would count. */
static void retire_surplus(struct pool *pool, int64_t now)
{
	pool_room_settle(pool);
	pool_room_shed(pool, pool->idle_count, false);
	pool_room_shed(pool, count_surplus(pool, now), true);
}

static void sweep_if_due(struct pool *pool, int64_t now)
{
	if (pool->retired_count == 0) {
		pool->sweep_at = 0;
	} else if (now >= pool->sweep_at) {
		pool->sweep_at = now + SWEEP_SPACING;
		sweep(pool);
	}
}

/* Over HTTP/2 a connection may never be without a stream. When its time has come a connection of the next era is opened, and when that is there the era begins: calls
 * from then on share it, and those of the era before end with their last stream. Not where there may be no more connections: it waits for a place. Nor in plain
 * text, where nothing tells libcurl which connection to leave alone. */
static bool is_due_in_use(const struct pool *pool, const struct pool_socket *s, int64_t now)
{
	int64_t hand_shake = pool->options.max_age /
			     10; /* time for it, so that the next one is there when this one's time is over */
	return !s->foreign && !s->retired && !list_empty(&s->users) && s->era == pool->era &&
	       now + tick_of(pool) + hand_shake > s->ends_at;
}

static void turn_era(struct pool *pool, int64_t now)
{
	bool due = false;
	if (!pool->tls || !pool->multiplexes || pool->turning || pool->winding_down)
		return;
	for (size_t i = 0; i < POOL_BUCKETS && !due; i++)
		LIST_EACH (&pool->by_descriptor[i], node, following)
			due |= is_due_in_use(pool, CONTAINER_OF(node, struct pool_socket, chain), now);
	if (!due)
		return;
	pool->turning = true;
	pool_light_turn(pool);
}

static bool is_past(const struct pool *pool, const struct pool_socket *s)
{
	return s->era != pool->era && !(pool->turning && s->era == pool->era + 1);
}

void pool_idle_turned(struct pool *pool, bool opened)
{
	pool->turning = false;
	pool->era += opened;
	pool_room_recount(pool);
	LIST_EACH (&pool->idle, node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, idling);
		if (is_past(pool, s))
			pool_idle_recycle(s, POOL_RECYCLED_AGE);
	}
}

/* Without connections there is nothing to look at but a size that is more than it need be. */
void pool_idle_tick(struct pool *pool)
{
	struct pool_share_state state;
	int64_t now = clock_now();
	pool_idle_wake(pool, now);
	pool->ticked_at = now;
	pool_room_look(pool, now, &state);
	bool try = retire_aged(pool, now);
	retire_surplus(pool, now);
	if (try)
		pool_light_validate(pool, now);
	turn_era(pool, now);
	sweep_if_due(pool, now);
	pool_light_rewarm(pool);
	pool_line_tidy(&pool->line);
	pool_pump_soon(pool);
	if (pool->open_count > 0 || pool->running_count > 0 || (pool->keeps_warm && pool->options.warm > 0) ||
	    state.size > state.least || !list_empty(&pool->line.idle))
		pool_idle_tick_soon(pool);
}

static void on_tick(void *arg)
{
	struct pool *pool = arg;
	CHECK(pool->magic == POOL_MAGIC);
	pool_idle_tick(pool);
}

/* The machine slept, or the loop was held up: what was idle meanwhile may be dead, and nobody has tried it. While the loop runs no connection is given up for its
 * silence alone. */
void pool_idle_wake(struct pool *pool, int64_t now)
{
	int64_t after = pool->options.validate_after;
	if (pool->idle_count == 0 || after == 0 || now - pool->ticked_at < 2 * after)
		return;
	LIST_EACH (&pool->idle, node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, idling);
		if (now - s->proved_at >= 2 * after + ANSWER_WITHIN)
			pool_idle_recycle(s, POOL_RECYCLED_VALIDATION);
	}
}

/* Longest idle first: one that was only tried goes back to its place. */
static void put_in_order(struct pool_socket *s)
{
	struct list *after = s->pool->idle.prev;
	while (after != &s->pool->idle && CONTAINER_OF(after, struct pool_socket, idling)->idle_since > s->idle_since)
		after = after->prev;
	list_insert_between(&s->idling, after, after->next);
	s->pool->idle_count++;
}

/* Why it should end with its last user. */
static enum pool_recycled reason_at_end(const struct pool_socket *s, int64_t now)
{
	if (now >= s->ends_at || is_past(s->pool, s))
		return POOL_RECYCLED_AGE;
	return s->pool->winding_down ? POOL_RECYCLED_SURPLUS : pool_room_ended(s->pool);
}

void pool_idle_enter(struct pool_socket *s, int64_t now)
{
	struct pool *pool = s->pool;
	if (s->ending) {
		pool_idle_retire(s);
		return;
	}
	s->proved_at = now;
	put_in_order(s);
	enum pool_recycled why = reason_at_end(s, now);
	if (why != POOL_RECYCLED_REASONS) {
		pool_idle_recycle(s, why);
		pool_room_settle(
			pool); /* at once, so that the next one that ends in this turn is judged by what is left */
	} else {
		pool_socket_arm(s, EV_READ); /* it is, but for one that fired between libcurl's last wish and now */
		pool_idle_tick_soon(pool);
	}
}

void pool_wind_down(struct pool *pool)
{
	CHECK(pool->magic == POOL_MAGIC && !pool->dying);
	pool->winding_down = true;
	pool->keeps_warm = false;
	pool->options.warm = 0;
	while (!list_empty(&pool->idle))
		pool_idle_recycle(CONTAINER_OF(pool->idle.next, struct pool_socket, idling), POOL_RECYCLED_SURPLUS);
	pool_pump_soon(pool);
}

void pool_idle_setup(struct pool *pool)
{
	list_init(&pool->idle);
	pool->ticked_at = clock_now();
	loop_timer_init(&pool->tick, pool->loop, on_tick, pool);
}

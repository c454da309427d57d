/* Connections without a request: how they are seen to die, how old they may get, and how libcurl is made to close them.
 *
 * Events are kept registered on them (pool_socket.c), so one that fires is news by itself: the peer closed, or sent
 * what nobody asked for. Such a connection, an old one and one that was idle for long are retired: shut down at once,
 * so that the peer knows and no request can be lost on it; libcurl finds it dead when it looks.
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
#define TICK_MOST     (5 * CLOCK_SECOND)
#define SWEEP_SPACING (1100 * CLOCK_MILLISECOND) /* libcurl looks for dead connections at most once a second */

bool pool_idle_is(const struct pool_socket *s)
{
	return !s->foreign && !s->retired && s->uses > 0 && list_empty(&s->users);
}

static void tick_soon(struct pool *pool)
{
	int64_t least =
		pool->options.idle_timeout < pool->options.max_age ? pool->options.idle_timeout : pool->options.max_age;
	int64_t delay = least / 4;
	delay = delay > TICK_MOST ? TICK_MOST : delay < TICK_LEAST ? TICK_LEAST : delay;
	if (!pool->tick.armed)
		loop_timer_set(&pool->tick, delay);
}

void pool_idle_leave(struct pool_socket *s)
{
	if (!list_linked(&s->idling))
		return;
	list_remove(&s->idling);
	s->pool->idle_count--;
}

/* Ends an idle connection: the peer hears of it now, libcurl when it looks. */
void pool_idle_retire(struct pool_socket *s)
{
	char unread[4096];
	CHECK(pool_idle_is(s));
	pool_idle_leave(s);
	pool_socket_disarm(s, EV_READ | EV_WRITE);
	s->retired = true;
	s->pool->retired_count++;
	shutdown(s->descriptor, SHUT_RDWR);
	/* libcurl before 8.0 takes a connection with unread bytes for a living one: leave it none. */
	while (recv(s->descriptor, unread, sizeof(unread), MSG_DONTWAIT) > 0)
		continue;
	if (s->pool->sweep_at == 0)
		s->pool->sweep_at = clock_now() + SWEEP_SPACING;
	tick_soon(s->pool);
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

static void retire_aged(struct pool *pool, int64_t now)
{
	LIST_EACH (&pool->idle, node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, idling);
		if (now - s->idle_since >= pool->options.idle_timeout || now - s->opened_at >= pool->options.max_age)
			pool_idle_retire(s);
		else
			pool_socket_arm(s, EV_READ); /* one that fired and was let live is looked at again */
	}
}

static void on_tick(void *arg)
{
	struct pool *pool = arg;
	CHECK(pool->magic == POOL_MAGIC);
	int64_t now = clock_now();
	retire_aged(pool, now);
	if (pool->retired_count == 0) {
		pool->sweep_at = 0;
	} else if (now >= pool->sweep_at) {
		pool->sweep_at = now + SWEEP_SPACING;
		sweep(pool);
	}
	pool_rewarm(pool);
	if (pool->open_count > 0 || pool->keeps_warm)
		tick_soon(pool);
}

/* Its last user has gone. */
void pool_idle_enter(struct pool_socket *s)
{
	s->idle_since = clock_now();
	list_push_back(&s->pool->idle, &s->idling);
	s->pool->idle_count++;
	if (s->idle_since - s->opened_at >= s->pool->options.max_age) {
		pool_idle_retire(s);
		return;
	}
	pool_socket_arm(s, EV_READ); /* it is, but for one that fired between libcurl's last wish and now */
	tick_soon(s->pool);
}

void pool_idle_setup(struct pool *pool)
{
	list_init(&pool->idle);
	loop_timer_init(&pool->tick, pool->loop, on_tick, pool);
}

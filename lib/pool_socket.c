/* The book of sockets: every descriptor of this pool from the moment libcurl opens it to the moment libcurl closes it,
 * and the events through which the loop tells libcurl about it.
 *
 *   OPENSOCKET ─► connecting ─► attach ─► active ◄──► idle ─► retired (pool_idle.c: age, or the peer closed it, or libcurl is about to)
 *                                                               │ libcurl finds it dead when it looks
 *                                                               ▼
 *                                       CLOSESOCKET ─► events deleted at once, freed at the end of the turn
 *
 * Events are removed lazily. libcurl takes its wish for a socket back after each transfer and utters it again for the
 * next; obeying costs four epoll_ctl a request. So an event stays registered until it fires unasked, and ends in
 * CLOSESOCKET at the latest, before the descriptor's number can be given to another connection: a late event never
 * reaches its next owner. */
#include "lib/pool_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/mem.h"

static struct list *bucket(struct pool *pool, int descriptor)
{
	return &pool->by_descriptor[(unsigned)descriptor % POOL_BUCKETS];
}

static struct pool_socket *find(struct pool *pool, int descriptor)
{
	LIST_EACH (bucket(pool, descriptor), node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, chain);
		if (s->descriptor == descriptor)
			return s;
	}
	return NULL;
}

/* ---- events ---- */

void pool_socket_disarm(struct pool_socket *s, short events)
{
	events &= s->armed;
	if (events & EV_READ)
		event_del(&s->read_event);
	if (events & EV_WRITE)
		event_del(&s->write_event);
	s->armed &= (short)~events;
}

void pool_socket_arm(struct pool_socket *s, short events)
{
	events &= (short)~s->armed;
	/* event_add fails when the kernel refuses a registration (out of memory, fs.epoll.max_user_watches): the
	 * transfer then ends at its deadline, and the next wish tries again. */
	if ((events & EV_READ) && event_add(&s->read_event, NULL) == 0)
		s->armed |= EV_READ;
	if ((events & EV_WRITE) && event_add(&s->write_event, NULL) == 0)
		s->armed |= EV_WRITE;
}

static void act(struct pool *pool, curl_socket_t descriptor, int bits)
{
	int running;
	CHECK(!pool->inside);
	pool->inside = true;
	CURLMcode code = curl_multi_socket_action(pool->multi, descriptor, bits, &running);
	pool->inside = false;
	CHECK(code == CURLM_OK);
	pool_pump_soon(pool);
}

/* A burst of new connections would hold the loop for as long as all their hand-shakes take, and nobody would hear Redis meanwhile. epoll tells of what
 * is left undone again in the next turn. */
static bool is_for_next_turn(struct pool_socket *s)
{
	return s->pool->tls && s->uses == 0 && !s->foreign && !loop_has_time(s->pool->loop);
}

static void on_event(evutil_socket_t descriptor, short what, void *arg)
{
	struct pool_socket *s = arg;
	CHECK(s->magic == SOCKET_MAGIC && s->descriptor == descriptor);
	if (s->pool->dying)
		return;
	short asked = what & s->wished & (EV_READ | EV_WRITE);
	if (asked == 0)
		pool_idle_unasked(s, what & (EV_READ | EV_WRITE));
	else if (!is_for_next_turn(s))
		act(s->pool, s->descriptor,
		    ((asked & EV_READ) ? CURL_CSELECT_IN : 0) | ((asked & EV_WRITE) ? CURL_CSELECT_OUT : 0));
}

/* ---- birth and death ---- */

static struct pool_socket *open_entry(struct pool *pool, int descriptor, bool foreign)
{
	struct pool_socket *s = mem_new(sizeof(*s));
	s->magic = SOCKET_MAGIC;
	s->pool = pool;
	s->descriptor = descriptor;
	s->foreign = foreign;
	s->opened_at = clock_now();
	s->ends_at = pool_idle_end_of(pool, s->opened_at);
	struct event_base *base = loop_base(pool->loop);
	CHECK(event_assign(&s->read_event, base, descriptor, EV_READ | EV_PERSIST, on_event, s) == 0);
	CHECK(event_assign(&s->write_event, base, descriptor, EV_WRITE | EV_PERSIST, on_event, s) == 0);
	list_init(&s->idling);
	list_init(&s->users);
	list_init(&s->port);
	list_push_back(bucket(pool, descriptor), &s->chain);
	if (!foreign)
		list_push_back(&pool->strangers, &s->port);
	pool->open_count += !foreign;
	return s;
}

static void close_entry(struct pool_socket *s)
{
	struct pool *pool = s->pool;
	pool_socket_disarm(s, EV_READ | EV_WRITE);
	pool_idle_leave(s);
	for (struct list *user; (user = list_pop_front(&s->users)) != NULL;)
		CONTAINER_OF(user, struct transfer, on_socket)->socket = NULL;
	s->closed = true;
	pool_room_count(s);
	if (s->uses > 0 && !s->retired)
		pool_part_closed(&pool->part);
	pool->open_count -= !s->foreign;
	pool->retired_count -= s->retired;
	list_remove(&s->chain);
	list_remove(&s->port);
	list_push_back(&pool->dead_sockets, &s->chain);
	pool_pump_soon(pool);
}

void pool_socket_bury(struct pool *pool)
{
	for (struct list *node; (node = list_pop_front(&pool->dead_sockets)) != NULL;) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, chain);
		s->magic = 0;
		mem_free(s);
	}
}

/* ---- what libcurl calls ---- */

/* A transfer that has been sent must not be sent again behind our back: refused here it costs not even a connection. One that is to try an idle connection opens none. */
static bool may_connect(struct transfer *t)
{
	bool tries = t->kind == TRANSFER_VALIDATING;
	long sent = 0;
	if (t->attempts == 0 && tries)
		pool_outcome_judge(t, POOL_NO_SLOT, "no connection is idle");
	if (t->attempts == 0 || curl_easy_getinfo(t->handle->easy, CURLINFO_REQUEST_SIZE, &sent) != CURLE_OK)
		return t->attempts == 0 && !tries;
	if (sent > 0)
		pool_outcome_judge(t, POOL_RESET, "the connection died after the request was sent");
	return sent == 0 && !tries;
}

bool pool_socket_may_open(struct transfer *t)
{
	if (t->silenced || !may_connect(t))
		return false;
	t->refused = !pool_room_may_open(t);
	return !t->refused;
}

/* As libcurl writes it. */
static void note_peer(struct pool_socket *s, const struct sockaddr *address)
{
	const void *number = address->sa_family == AF_INET6
				     ? (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr
				     : (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
	if (inet_ntop(address->sa_family, number, s->peer, sizeof(s->peer)) == NULL)
		s->peer[0] = '\0';
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct pool_handle *handle = arg;
	struct transfer *t = handle->transfer;
	(void)purpose;
	if (!pool_socket_may_open(t))
		return CURL_SOCKET_BAD;
	if (!t->pool->options.allow_private && !pool_address_is_public(&address->addr)) {
		t->refused_address = true;
		return CURL_SOCKET_BAD;
	}
	int descriptor = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
	if (descriptor < 0)
		return CURL_SOCKET_BAD;
	struct pool_socket *s = open_entry(t->pool, descriptor, false);
	s->era = handle->era;
	note_peer(s, &address->addr);
	pool_room_expect(s);
	pool_room_seat(t, SEAT_OPENING);
	return descriptor;
}

static int on_close(void *arg, curl_socket_t descriptor)
{
	struct pool *pool = arg;
	struct pool_socket *s = find(pool, descriptor);
	CHECK(s != NULL && s->magic == SOCKET_MAGIC && !s->foreign);
	close_entry(s);
	return close(descriptor);
}

static int on_wish(CURL *easy, curl_socket_t descriptor, int what, void *arg, void *unused)
{
	struct pool *pool = arg;
	struct pool_socket *s = find(pool, descriptor);
	(void)easy;
	(void)unused;
	if (what == CURL_POLL_REMOVE) {
		if (s != NULL && s->foreign)
			close_entry(s);
		else if (s != NULL)
			s->wished = 0;
		return 0;
	}
	if (pool->dying)
		return 0;
	if (s == NULL)
		s = open_entry(pool, descriptor, true);
	s->wished = (short)(((what & CURL_POLL_IN) ? EV_READ : 0) | ((what & CURL_POLL_OUT) ? EV_WRITE : 0));
	if (s->foreign)
		pool_socket_disarm(s, (short)~s->wished);
	pool_socket_arm(s, s->wished);
	return 0;
}

void pool_socket_handle(struct pool *pool, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, pool);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	/* Ages are ours to judge, to the microsecond; libcurl's own limit of 118 s idle must not come first. */
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)INT32_MAX);
}

/* ---- use ---- */

static int port_of(int descriptor)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} own = { 0 };
	socklen_t size = sizeof(own);
	if (getsockname(descriptor, &own.any, &size) != 0)
		return 0;
	return ntohs(own.any.sa_family == AF_INET6 ? own.v6.sin6_port : own.v4.sin_port);
}

static struct list *port_bucket(struct pool *pool, int port)
{
	return &pool->by_port[(unsigned)port % POOL_BUCKETS];
}

/* Which of ours libcurl is about to use. All that it says before a transfer has ended are both ends' addresses, and a port of ours may serve two peers at
 * once. The kernel chooses it in connect(), so each is asked for once, by the first who needs one that nobody asked for yet. */
static struct pool_socket *find_port(struct pool *pool, int port, const char *peer)
{
	LIST_EACH (&pool->strangers, node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, port);
		s->local_port = port_of(s->descriptor);
		if (s->local_port == 0)
			continue;
		list_remove(&s->port);
		list_push_back(port_bucket(pool, s->local_port), &s->port);
	}
	LIST_EACH (port_bucket(pool, port), node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, port);
		if (s->local_port == port && !s->retired && strcmp(s->peer, peer) == 0)
			return s;
	}
	return NULL;
}

static void count_use(struct transfer *t)
{
	struct pool *pool = t->pool;
	if (!t->result.reused) {
		pool->totals.opened++;
		pool_part_opened(&pool->part);
	} else if (t->kind == TRANSFER_CALL) {
		pool->totals.reused++;
		pool->totals.saved_total += pool->handshake_mean;
	}
}

void pool_socket_attach(struct transfer *t, int local_port, const char *peer)
{
	struct pool_socket *s = find_port(t->pool, local_port, peer);
	pool_socket_detach(t);
	/* On one that we do not know, too: it is being sent, and never goes back to the line. */
	pool_room_seat(t, SEAT_TAKEN);
	if (s == NULL)
		return;
	pool_idle_leave(s);
	t->socket = s;
	t->result.reused = s->uses++ > 0;
	if (!t->result.reused)
		pool_room_learn(s, pool_trust_multiplexes(t));
	s->load++; /* for a moment more than it takes: libcurl gives on what it has not told to be over */
	if (s->takes == 0)
		s->takes = s->load; /* it does, after all */
	pool_room_count(s);
	list_push_back(&s->users, &t->on_socket);
	count_use(t);
}

/* While libcurl says goodbye on it the descriptor is open, and nobody is told. All that it does say is that it does not have the connection for a later transfer. */
void pool_socket_over(struct transfer *t)
{
	curl_socket_t kept = CURL_SOCKET_BAD;
	if (!t->pool->lingers || t->socket == NULL)
		return;
	curl_easy_getinfo(t->handle->easy, CURLINFO_ACTIVESOCKET, &kept);
	t->socket->ending = kept == CURL_SOCKET_BAD; /* with others still on it that is no news: the last one tells */
}

void pool_socket_detach(struct transfer *t)
{
	struct pool_socket *s = t->socket;
	if (s == NULL)
		return;
	int64_t now = clock_now();
	t->socket = NULL;
	list_remove(&t->on_socket);
	s->load--;
	pool_room_count(s);
	if (t->kind != TRANSFER_VALIDATING)
		s->idle_since = now;
	if (!pool_idle_is(s))
		return;
	pool_idle_enter(s, now);
	if (s->takes == 0 && pool_idle_is(s))
		pool_idle_retire(s);
}

/* Before 8.1 reading does not flush what waits to be written; the window update of a neighbour that pauses and goes on
 * does. */
static void nudge(struct pool_socket *s)
{
	struct pool *pool = s->pool;
	LIST_EACH (&s->users, node, following) {
		struct transfer *t = CONTAINER_OF(node, struct transfer, on_socket);
		if (t->paused || t->silenced)
			continue;
		pool->inside = true;
		curl_easy_pause(t->handle->easy, CURLPAUSE_RECV);
		curl_easy_pause(t->handle->easy, CURLPAUSE_CONT);
		pool->inside = false;
		pool_pump_soon(pool);
		return;
	}
}

/* Over HTTP/1 libcurl has closed the connection by now. Over HTTP/2 it has written a RST_STREAM into a buffer of its
 * own, and sends it when something else happens on the connection: with other streams on it we see to that, without
 * any the connection ends. */
void pool_socket_abandoned(struct pool_socket *s)
{
	if (s->closed || s->retired || s->pool->dying || !s->pool->two)
		return;
	if (pool_idle_is(s))
		pool_idle_retire(s);
	else if (!list_empty(&s->users) && !s->pool->recent)
		nudge(s);
	else if (!list_empty(&s->users))
		act(s->pool, s->descriptor, CURL_CSELECT_IN | CURL_CSELECT_OUT);
}

/* ---- libcurl's timer: its deadline moves at every step of a transfer; the loop's timer moves only when it would fire
 * too late ---- */

static int on_curl_timer(CURLM *multi, long milliseconds, void *arg)
{
	struct pool *pool = arg;
	(void)multi;
	pool->curl_deadline = milliseconds < 0    ? INT64_MAX
			      : milliseconds == 0 ? 0
						  : clock_now() + milliseconds * CLOCK_MILLISECOND;
	pool_pump_soon(pool);
	return 0;
}

void pool_socket_schedule(struct pool *pool)
{
	if (pool->curl_deadline == INT64_MAX || (pool->curl_timer.armed && pool->curl_timer_at <= pool->curl_deadline))
		return;
	pool->curl_timer_at = pool->curl_deadline;
	loop_timer_set(&pool->curl_timer, pool->curl_deadline - clock_now());
}

bool pool_socket_timeout(struct pool *pool)
{
	if (pool->curl_deadline == INT64_MAX || (pool->curl_deadline > 0 && clock_now() < pool->curl_deadline))
		return false;
	pool->curl_deadline = INT64_MAX;
	act(pool, CURL_SOCKET_TIMEOUT, 0);
	return true;
}

void pool_socket_place(struct pool *pool, unsigned streams)
{
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)streams);
	act(pool, CURL_SOCKET_TIMEOUT, 0);
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)pool->options.streams_per_connection);
}

static void on_curl_due(void *arg)
{
	struct pool *pool = arg;
	CHECK(pool->magic == POOL_MAGIC);
	(void)pool_socket_timeout(pool);
	pool_socket_schedule(pool);
}

void pool_socket_setup(struct pool *pool)
{
	for (size_t i = 0; i < POOL_BUCKETS; i++) {
		list_init(&pool->by_descriptor[i]);
		list_init(&pool->by_port[i]);
	}
	list_init(&pool->strangers);
	list_init(&pool->dead_sockets);
	pool->curl_deadline = INT64_MAX;
	loop_timer_init(&pool->curl_timer, pool->loop, on_curl_due, pool);
	pool_idle_setup(pool);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_wish);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
}

void pool_socket_cleanup(struct pool *pool)
{
	loop_timer_free(&pool->curl_timer);
	loop_timer_free(&pool->tick);
	for (size_t i = 0; i < POOL_BUCKETS; i++)
		LIST_EACH (&pool->by_descriptor[i], node, following)
			close_entry(CONTAINER_OF(node, struct pool_socket, chain));
	pool_socket_bury(pool);
}

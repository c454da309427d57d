/* Accepting, counting, draining, and the end of a server.
 *
 * Several servers (one per worker) may watch one listener: all wake, one gets the connection, the others see EAGAIN. That
 * is a few wasted microseconds per connection, not per request. Out of descriptors, the listener is left alone for a tenth
 * of a second: it would otherwise wake the loop without end. With as many connections as there may be, all of them with a request, it is left alone until
 * one has none or is gone: who comes waits in the kernel's backlog, and other instances' listeners have room. */
#include "svc/http_internal.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_MAGIC      0x68737276u
#define ACCEPTS_PER_EVENT 64

static void free_server(void *server);

static void watch_listeners(void *server)
{
	struct http_server *s = server;
	LIST_EACH (&s->acceptors, node, following) {
		int failed = event_add(&CONTAINER_OF(node, struct acceptor, node)->event, NULL);
		CHECK(failed == 0);
	}
}

struct http_server *http_server_new(struct loop *loop, const struct http_options *options,
				    const struct http_handler *handler, void *arg, struct log *log)
{
	CHECK(options->head_timeout > 0 && options->idle_timeout > 0 && options->body_timeout > 0 &&
	      options->write_stall > 0);
	struct http_server *s = mem_new(sizeof(*s));
	s->magic = SERVER_MAGIC;
	s->loop = loop;
	s->options = *options;
	s->handler = handler;
	s->arg = arg;
	s->log = log;
	list_init(&s->all);
	list_init(&s->acceptors);
	for (int kind = 0; kind < HTTP_WAIT_COUNT; kind++)
		list_init(&s->waits[kind]);
	s->delays[HTTP_WAIT_HEAD] = options->head_timeout;
	s->delays[HTTP_WAIT_IDLE] = options->idle_timeout;
	s->delays[HTTP_WAIT_BODY] = options->body_timeout;
	s->delays[HTTP_WAIT_STALL] = options->write_stall;
	s->delays[HTTP_WAIT_LINGER] = HTTP_LINGER_STEP;
	s->timer_at = INT64_MAX;
	loop_timer_init(&s->timer, loop, http_deadlines_sweep, s);
	loop_timer_init(&s->accept_timer, loop, watch_listeners, s);
	loop_deferred_init(&s->farewell, free_server, s);
	return s;
}

static void peer_text(const struct sockaddr_storage *peer, char *text, socklen_t size)
{
	const struct in6_addr *six = &((const struct sockaddr_in6 *)peer)->sin6_addr;
	const void *four = &((const struct sockaddr_in *)peer)->sin_addr;
	const char *done = "";
	if (peer->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six))
		done = inet_ntop(AF_INET, six->s6_addr + 12, text, size);
	else if (peer->ss_family == AF_INET6)
		done = inet_ntop(AF_INET6, six, text, size);
	else if (peer->ss_family == AF_INET)
		done = inet_ntop(AF_INET, four, text, size);
	else
		strncpy(text, "unix", size);
	CHECK(done != NULL);
}

static void leave_listeners(struct http_server *s)
{
	LIST_EACH (&s->acceptors, node, following)
		event_del(&CONTAINER_OF(node, struct acceptor, node)->event);
}

static bool is_full(const struct http_server *s)
{
	return s->options.connections > 0 && s->stats.connections >= s->options.connections;
}

/* Above the limit an idle connection makes room; false: there is none. */
static bool has_room(struct http_server *s)
{
	const struct list *idle = &s->waits[HTTP_WAIT_IDLE];

	if (!is_full(s) || !list_empty(idle))
		return true;
	s->full = true;
	leave_listeners(s);
	return false;
}

static void make_room(struct http_server *s)
{
	const struct list *idle = &s->waits[HTTP_WAIT_IDLE];

	if (is_full(s) && !list_empty(idle))
		http_connection_die(CONTAINER_OF(idle->next, struct http_deadline, node)->connection);
}

void http_server_has_room(struct http_server *s)
{
	if (!s->full)
		return;
	s->full = false;
	if (!s->accept_timer.armed)
		watch_listeners(s);
}

static void accept_failed(struct http_server *s, int cause)
{
	if (!s->accept_failed)
		log_say(s->log, LOG_ERROR, "accept_failed", "cannot accept connections: %s", strerror(cause));
	s->accept_failed = true;
	leave_listeners(s);
	loop_timer_set(&s->accept_timer, HTTP_ACCEPT_PAUSE);
}

/* False: no more for now. */
static bool accept_one(struct http_server *s, int listener)
{
	struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
	socklen_t size = sizeof(peer);
	char text[INET6_ADDRSTRLEN] = "";
	if (!has_room(s))
		return false;
	int descriptor = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (descriptor < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
		accept_failed(s, errno);
		return false;
	}
	if (descriptor < 0)
		return errno != EAGAIN; /* the others concern one connection that is gone already (accept(2)) */
	s->accept_failed = false;
	make_room(s);
	peer_text(&peer, text, sizeof(text));
	http_connection_new(s, descriptor, text);
	return true;
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
	(void)what;
	struct acceptor *acceptor = arg;
	CHECK(acceptor->server->magic == SERVER_MAGIC);
	for (int i = 0; i < ACCEPTS_PER_EVENT && accept_one(acceptor->server, listener); i++)
		continue;
}

void http_server_accept(struct http_server *s, struct http_listener *listener)
{
	struct acceptor *acceptor = mem_new(sizeof(*acceptor));
	acceptor->server = s;
	acceptor->listener = listener;
	list_push_back(&s->acceptors, &acceptor->node);
	int failed = event_assign(&acceptor->event, loop_base(s->loop), http_listener_descriptor(listener),
				  EV_READ | EV_PERSIST, on_accept, acceptor);
	failed |= event_add(&acceptor->event, NULL);
	CHECK(failed == 0);
}

static void forget_listeners(struct http_server *s)
{
	struct list *node;
	loop_timer_clear(&s->accept_timer);
	while ((node = list_pop_front(&s->acceptors)) != NULL) {
		struct acceptor *acceptor = CONTAINER_OF(node, struct acceptor, node);
		event_del(&acceptor->event);
		mem_free(acceptor);
	}
}

/* Who stands in a listener's queue would be reset when it is closed. */
void http_server_stop_accepting(struct http_server *s)
{
	LIST_EACH (&s->acceptors, node, following)
		for (int i = 0; i < SOMAXCONN; i++)
			if (!accept_one(s,
					http_listener_descriptor(CONTAINER_OF(node, struct acceptor, node)->listener)))
				break;
	forget_listeners(s);
}

void http_server_close_idle(struct http_server *s)
{
	int64_t latest = clock_now() - HTTP_DRAINED_IDLE + s->delays[HTTP_WAIT_IDLE];
	struct list *idle = &s->waits[HTTP_WAIT_IDLE];

	while (!list_empty(idle) && CONTAINER_OF(idle->next, struct http_deadline, node)->at <= latest)
		http_connection_die(CONTAINER_OF(idle->next, struct http_deadline, node)->connection);
}

/* An idle connection is not closed at once: its client may be sending its next request this very moment, and would lose it.
 * One that has been idle for a second is closed. */
void http_server_drain(struct http_server *s)
{
	int64_t latest = clock_now() + HTTP_DRAINED_IDLE;
	if (s->draining)
		return;
	s->draining = true;
	if (s->delays[HTTP_WAIT_IDLE] > HTTP_DRAINED_IDLE)
		s->delays[HTTP_WAIT_IDLE] = HTTP_DRAINED_IDLE;
	LIST_EACH (&s->waits[HTTP_WAIT_IDLE], node, following) {
		struct http_deadline *deadline = CONTAINER_OF(node, struct http_deadline, node);
		int64_t since = deadline->at - s->options.idle_timeout;
		deadline->at = since + HTTP_DRAINED_IDLE < latest ? since + HTTP_DRAINED_IDLE : latest;
	}
	s->timer_at = 0;
	loop_timer_set(&s->timer, 0);
}

static void free_server(void *server)
{
	struct http_server *s = server;
	CHECK(s->magic == SERVER_MAGIC);
	while (!list_empty(&s->all)) {
		struct connection *c = CONTAINER_OF(s->all.next, struct connection, node);
		if (http_backlog(c) > 0)
			http_connection_flush(c); /* what the kernel still takes */
		http_connection_lost(c, HTTP_GONE_CLOSED);
	}
	if (!s->emptied) { /* the connections die in this round of the deferred; we in the next */
		s->emptied = true;
		loop_defer(s->loop, &s->farewell);
		return;
	}
	loop_timer_free(&s->timer);
	loop_timer_free(&s->accept_timer);
	s->magic = 0;
	mem_free(s);
}

void http_server_free(struct http_server **handle)
{
	struct http_server *s = *handle;
	if (s == NULL)
		return;
	CHECK(s->magic == SERVER_MAGIC);
	*handle = NULL;
	s->leaving = true;
	forget_listeners(s);
	loop_defer(s->loop, &s->farewell);
}

void http_server_stats(const struct http_server *s, struct http_stats *stats)
{
	*stats = s->stats;
}

/* A connection's life: its events, what goes out, and its end.
 *
 * Closing politely (RFC 9112 section 9.6): a close() with unread bytes makes the kernel send a reset, which destroys the
 * answer in flight. So when the request was not read whole, our half is shut down and what comes is read and dropped until
 * the client closes, or is silent after it has taken all, or ten seconds are over. */
#include "svc/http_internal.h"

#include "lib/clock.h"
#include "lib/mem.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTION_MAGIC 0x68636f6eu
#define EXCHANGE_MAGIC   0x68657863u

size_t http_backlog(const struct connection *c)
{
	return c->output.len - c->sent;
}

void http_defer_work(struct connection *c)
{
	loop_defer(c->server->loop, &c->work);
}

struct exchange *http_exchange_new(struct connection *c)
{
	struct exchange *e = mem_new(sizeof(*e));
	e->magic = EXCHANGE_MAGIC;
	e->connection = c;
	http_parse_init(&e->parse);
	buf_init(&e->head_bytes, HTTP_HEAD_MAX + HTTP_SCRATCH);
	return e;
}

void http_exchange_free(struct exchange **handle)
{
	struct exchange *e = *handle;
	if (e == NULL)
		return;
	CHECK(e->magic == EXCHANGE_MAGIC && !e->owned);
	*handle = NULL;
	e->magic = 0;
	buf_free(&e->head_bytes);
	mem_free(e->block);
	mem_free(e);
}

static void free_connection(struct connection *c)
{
	c->magic = 0;
	loop_undefer(&c->work);
	http_exchange_free(&c->exchange);
	buf_free(&c->pending);
	buf_free(&c->output);
	mem_free(c);
}

void http_connection_die(struct connection *c)
{
	struct http_server *s = c->server;
	if (c->input == INPUT_DEAD)
		return;
	CHECK(c->exchange == NULL || !c->exchange->owned);
	c->input = INPUT_DEAD;
	http_deadline_clear(&c->wait);
	http_deadline_clear(&c->stall);
	event_del(&c->on_input); /* before close: epoll forgets a descriptor only with its last copy */
	event_del(&c->on_output);
	close(c->descriptor);
	list_remove(&c->node);
	s->stats.connections--;
	http_server_has_room(s);
	s->stats.buffered -= http_backlog(c);
	http_defer_work(c);
}

void http_connection_lost(struct connection *c, enum http_gone why)
{
	struct exchange *e = c->exchange;
	if (e != NULL && e->owned) {
		e->owned = false;
		c->server->stats.exchanges--;
		c->server->handler->gone(e, e->owner, why);
	}
	http_connection_die(c);
}

/* The peer has shut its half. Who waits for an answer is gone; what is already answered is still sent. */
static void peer_left(struct connection *c)
{
	struct exchange *e = c->exchange;
	if (e != NULL && e->ended && http_backlog(c) > 0)
		c->peer_closed = true;
	else
		http_connection_lost(c, HTTP_GONE_LEFT);
}

static bool is_broken(const struct connection *c)
{
	int error = 0;
	socklen_t size = sizeof(error);
	return getsockopt(c->descriptor, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0;
}

/* Bytes and the reset behind them may come as one edge: a read returns the bytes, and nothing ever tells of the reset again. */
static void read_input(struct connection *c, bool edge)
{
	http_advance(c);
	if (edge && c->input != INPUT_DEAD && c->exchange != NULL && c->exchange->owned && is_broken(c))
		http_connection_lost(c, HTTP_GONE_LEFT);
}

static void on_input(evutil_socket_t descriptor, short what, void *arg)
{
	(void)descriptor;
	struct connection *c = arg;
	CHECK(c->magic == CONNECTION_MAGIC);
	if (c->input == INPUT_DEAD)
		return;
	bool busy = c->input == INPUT_BODY || c->input == INPUT_WHOLE || c->input == INPUT_BROKEN;
	if ((what & EV_READ) != 0)
		c->readable = true;
	/* epoll says only "readable" of a reset, which a read would find behind the bytes that are left unread. */
	if ((what & EV_READ) != 0 && (what & EV_CLOSED) == 0 && busy && is_broken(c))
		http_connection_lost(c, HTTP_GONE_LEFT);
	else if ((what & EV_CLOSED) != 0)
		peer_left(c);
	else
		read_input(c, (what & EV_READ) != 0);
}

static void on_output(evutil_socket_t descriptor, short what, void *arg)
{
	(void)descriptor;
	(void)what;
	struct connection *c = arg;
	CHECK(c->magic == CONNECTION_MAGIC);
	if (c->input != INPUT_DEAD)
		http_defer_work(c);
}

static void await_room(struct connection *c)
{
	if (!list_linked(&c->stall.node))
		http_deadline_set(c->server, &c->stall, HTTP_WAIT_STALL);
	int failed = event_add(&c->on_output, NULL);
	CHECK(failed == 0);
}

void http_connection_flush(struct connection *c)
{
	while (http_backlog(c) > 0) {
		size_t want = http_backlog(c);
		ssize_t took = send(c->descriptor, c->output.data + c->sent, want, MSG_NOSIGNAL);
		if (took < 0 && errno == EINTR)
			continue;
		if (took < 0 && errno != EAGAIN) {
			http_connection_lost(c, HTTP_GONE_LEFT);
			return;
		}
		if (took > 0) {
			c->sent += (size_t)took;
			c->server->stats.buffered -= (size_t)took;
			http_deadline_clear(&c->stall);
		}
		if (took < (ssize_t)want) {
			await_room(c);
			break;
		}
	}
	if (http_backlog(c) == 0) {
		buf_clear(&c->output);
		c->sent = 0;
	} else if (c->sent >= HTTP_BUFFERED_MAX / 2) {
		buf_drop_front(&c->output, c->sent);
		c->sent = 0;
	}
}

static void begin_linger(struct connection *c)
{
	buf_free(&c->pending);
	c->input = INPUT_LINGER;
	c->linger_until = clock_now() + HTTP_LINGER_MAX;
	c->unsent = -1;
	if (shutdown(c->descriptor, SHUT_WR) != 0) {
		http_connection_die(c);
		return;
	}
	http_deadline_set(c->server, &c->wait, HTTP_WAIT_LINGER);
	http_advance(c);
}

void http_end_by_reset(struct connection *c, bool armed)
{
	struct linger linger = { .l_onoff = armed, .l_linger = 0 };
	setsockopt(c->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)); /* a unix socket has no reset */
}

/* All is sent. */
static void close_politely(struct connection *c)
{
	bool whole = c->input == INPUT_WHOLE && c->pending.len == 0 && !c->readable;
	struct exchange *e = c->exchange;
	bool cut = e->output == OUTPUT_UNTIL_CLOSE && !e->clean;
	if (e->output == OUTPUT_UNTIL_CLOSE && e->clean)
		http_end_by_reset(c, false);
	if (cut || whole || c->peer_closed) {
		http_connection_die(c);
	} else {
		begin_linger(c);
	}
}

static void next_request(struct connection *c)
{
	http_exchange_free(&c->exchange);
	if (c->output.capacity > HTTP_KEPT_OUTPUT)
		buf_free(&c->output);
	c->input = INPUT_IDLE;
	http_deadline_set(c->server, &c->wait, HTTP_WAIT_IDLE);
	if (c->pending.len > 0 || c->readable) /* pipelined: after the others have had their turn */
		http_next_turn(c);
}

static void after_flush(struct connection *c)
{
	struct exchange *e = c->exchange;
	if (e == NULL)
		return;
	if (e->owned && e->writer_waits && http_backlog(c) <= HTTP_BUFFERED_MAX / 2) {
		e->writer_waits = false;
		c->server->handler->writable(e, e->owner);
	} else if (e->ended && http_backlog(c) == 0 && c->input != INPUT_LINGER) {
		if (e->keep_alive && e->clean && c->input == INPUT_WHOLE && !c->peer_closed)
			next_request(c);
		else
			close_politely(c);
	}
}

static void work(void *arg)
{
	struct connection *c = arg;
	CHECK(c->magic == CONNECTION_MAGIC);
	if (c->input == INPUT_DEAD) {
		free_connection(c);
		return;
	}
	if (c->input == INPUT_BODY)
		http_advance(c);
	if (c->input != INPUT_DEAD)
		http_connection_flush(c);
	if (c->input != INPUT_DEAD)
		after_flush(c);
}

void http_connection_new(struct http_server *s, int descriptor, const char *peer)
{
	struct connection *c = mem_new(sizeof(*c));
	c->magic = CONNECTION_MAGIC;
	c->server = s;
	c->descriptor = descriptor;
	c->wait.connection = c->stall.connection = c;
	list_init(&c->wait.node);
	list_init(&c->stall.node);
	list_init(&c->node);
	buf_init(&c->pending, HTTP_HEAD_MAX + HTTP_SCRATCH);
	buf_init(&c->output, HTTP_OUTPUT_MAX);
	strncpy(c->peer, peer, sizeof(c->peer) - 1);
	loop_deferred_init(&c->work, work, c);
	list_push_back(&s->all, &c->node);
	s->stats.connections++;
	s->stats.accepted++;
	struct event_base *base = loop_base(s->loop);
	int failed =
		event_assign(&c->on_input, base, descriptor, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_input, c);
	failed |= event_assign(&c->on_output, base, descriptor, EV_WRITE | EV_ET, on_output, c);
	CHECK(failed == 0);
	failed = event_add(&c->on_input, NULL);
	CHECK(failed == 0);
	http_deadline_set(s, &c->wait, HTTP_WAIT_HEAD);
}

/* The client may still be taking what the kernel holds: it is let go when it stands still for write_stall. */
static void look_at_lingering(struct connection *c)
{
	int unsent = 0;
	bool known = ioctl(c->descriptor, SIOCOUTQ, &unsent) == 0;
	bool moves = known && unsent > 0 && unsent != c->unsent;
	int64_t now = clock_now();
	if (moves)
		c->linger_until =
			now + (c->server->options.write_stall > 0 ? c->server->options.write_stall : HTTP_LINGER_MAX);
	bool silent = unsent == 0 && c->unsent == 0 && !c->heard; /* it had all for a whole step, and sends nothing */
	c->unsent = unsent;
	c->heard = false;
	if (!known || silent || now >= c->linger_until)
		http_connection_die(c);
	else
		http_deadline_set(c->server, &c->wait, HTTP_WAIT_LINGER);
}

/* Each window of body_timeout must bring a byte, and as many as body_rate asks. */
static void look_at_body(struct connection *c)
{
	struct exchange *e = c->exchange;
	const struct http_options *o = &c->server->options;
	int64_t least = o->body_rate * (o->body_timeout / CLOCK_MILLISECOND) / 1000;
	if (e->window_bytes == 0 || e->window_bytes < least) {
		http_refuse(e, HTTP_FAULT_body_timeout);
		return;
	}
	e->window_bytes = 0;
	http_deadline_set(c->server, &c->wait, HTTP_WAIT_BODY);
}

void http_connection_expired(struct connection *c, enum http_wait kind)
{
	switch (kind) {
	case HTTP_WAIT_HEAD:
		if (c->exchange != NULL)
			http_refuse(c->exchange, HTTP_FAULT_head_timeout);
		else
			http_connection_die(c);
		break;
	case HTTP_WAIT_IDLE:
		http_connection_die(c);
		break;
	case HTTP_WAIT_BODY:
		look_at_body(c);
		break;
	case HTTP_WAIT_LINGER:
		look_at_lingering(c);
		break;
	default: /* HTTP_WAIT_STALL */
		http_connection_lost(c, HTTP_GONE_STALLED);
		break;
	}
}

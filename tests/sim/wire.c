#include "wire.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <llhttp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/mem.h"

#define HEAD_MAX       262144
#define PENDING_MAX    1048576
#define OUT_MAX        (size_t)(512u << 20)
#define READ_SIZE      131072
#define READS_A_TURN   16
#define ACCEPTS_A_TURN 256
#define OUT_KEPT       4096
#define BODY_KEPT      16384
#define ACCEPT_PAUSE   100000

enum state {
	READING,   /* a request's bytes come in */
	ANSWERING, /* the handler has it; what comes in is kept in `pending` */
	DEAD       /* the descriptor is closed; freed at the end of the turn */
};

struct wire_server {
	struct loop *loop;
	int listening;
	bool swallows, refuses;
	struct event accept;
	struct loop_timer resume; /* after descriptors ran out */
	size_t body_ceiling;
	const struct wire_handler *handler;
	void *context;
	llhttp_settings_t settings;
	struct list wires;
	char scratch[READ_SIZE];
};

/* Owned by its server; dies between turns. In READING `exchange` is NULL. */
struct wire {
	struct wire_server *server;
	struct list node;
	int fd;
	enum state state;
	bool keep_alive, too_large, write_armed, resumed;
	bool told; /* the handler has heard of the head, and waits for the end */
	llhttp_t parser;
	struct event read, write;
	struct buf head, body, out, pending;
	size_t url_len, unsent_from, allowance; /* allowance: what the last flush may still send */
	void *exchange;
	struct loop_deferred death;
};

static void read_some(struct wire *w);

/* ---- the parser's callbacks ------------------------------------------------ */

static int keep(struct buf *b, const char *at, size_t len)
{
	return buf_append(b, slice_make(at, len)) ? 0 : HPE_USER;
}

static int on_head(llhttp_t *parser, const char *at, size_t len)
{
	struct wire *w = parser->data;
	return keep(&w->head, at, len);
}

static int on_url_complete(llhttp_t *parser)
{
	struct wire *w = parser->data;
	w->url_len = w->head.len;
	return keep(&w->head, "\r\n", 2);
}

static int on_field_complete(llhttp_t *parser)
{
	struct wire *w = parser->data;
	return keep(&w->head, ": ", 2);
}

static int on_value_complete(llhttp_t *parser)
{
	struct wire *w = parser->data;
	return keep(&w->head, "\r\n", 2);
}

static struct slice head_of(const struct wire *w)
{
	return slice_skip(buf_slice(&w->head), w->url_len + 2);
}

static int on_headers_complete(llhttp_t *parser)
{
	struct wire *w = parser->data;
	struct wire_request request = { .head = head_of(w) };
	request.method = slice_of(llhttp_method_name((llhttp_method_t)parser->method));
	request.target = slice_first(buf_slice(&w->head), w->url_len);
	request.path = slice_cut(request.target, '?', &request.query);
	w->told = w->server->handler->head(w->server->context, &request);
	w->keep_alive = llhttp_should_keep_alive(parser) != 0;
	if (slice_equal_nocase(wire_field(&request, "expect"), SLICE("100-continue"))) {
		buf_append(&w->out, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
		wire_flush(w, SIZE_MAX);
	}
	return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
	struct wire *w = parser->data;
	if (!w->too_large && !buf_append(&w->body, slice_make(at, len))) {
		w->too_large = true;
		buf_free(&w->body);
	}
	return 0;
}

static int on_message_complete(llhttp_t *parser)
{
	(void)parser;
	return HPE_PAUSED;
}

/* ---- life ------------------------------------------------------------------ */

static void close_by_reset(struct wire *w)
{
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void bury(void *arg)
{
	struct wire *w = arg;
	list_remove(&w->node);
	mem_free(w);
}

static void tell_over(struct wire *w)
{
	if (w->told)
		w->server->handler->over(w->server->context);
	w->told = false;
}

static void die(struct wire *w)
{
	if (w->state == DEAD)
		return;
	w->state = DEAD;
	tell_over(w);
	w->exchange = NULL;
	event_del(&w->read);
	event_del(&w->write);
	close(w->fd);
	buf_free(&w->head);
	buf_free(&w->body);
	buf_free(&w->out);
	buf_free(&w->pending);
	w->server->handler->connection(w->server->context, false);
	loop_defer(w->server->loop, &w->death);
}

static void peer_left(struct wire *w)
{
	void *exchange = w->exchange;
	die(w);
	if (exchange != NULL)
		w->server->handler->gone(exchange);
}

static void hand_over(struct wire *w)
{
	struct wire_request request = { .head = head_of(w), .body = buf_slice(&w->body), .too_large = w->too_large };
	request.method = slice_of(llhttp_method_name((llhttp_method_t)w->parser.method));
	request.target = slice_first(buf_slice(&w->head), w->url_len);
	request.path = slice_cut(request.target, '?', &request.query);
	w->state = ANSWERING;
	w->exchange = w->server->handler->request(w->server->context, w, &request);
	if (w->state != ANSWERING)
		w->exchange = NULL;
}

static const char bad_request[] = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/* Feeds the parser; what stands behind a whole request waits in `pending`. */
static void parse(struct wire *w, struct slice bytes)
{
	enum llhttp_errno error = llhttp_execute(&w->parser, bytes.data, bytes.len);
	if (error == HPE_OK)
		return;
	if (error != HPE_PAUSED) {
		ssize_t ignored = send(w->fd, bad_request, sizeof(bad_request) - 1, MSG_NOSIGNAL);
		(void)ignored; /* it closes in any case */
		die(w);
		return;
	}
	struct slice rest = slice_skip(bytes, (size_t)(llhttp_get_error_pos(&w->parser) - bytes.data));
	llhttp_resume(&w->parser);
	if (rest.len > 0 && !buf_append(&w->pending, rest)) {
		die(w);
		return;
	}
	hand_over(w);
}

static void parse_pending(struct wire *w)
{
	struct buf taken = w->pending;
	buf_init(&w->pending, PENDING_MAX);
	parse(w, buf_slice(&taken));
	buf_free(&taken);
}

static void read_some(struct wire *w)
{
	struct wire_server *server = w->server;
	if (w->state == READING && w->pending.len > 0)
		parse_pending(w);
	for (int i = 0; i < READS_A_TURN && w->state != DEAD; i++) {
		ssize_t got = recv(w->fd, server->scratch, sizeof(server->scratch), 0);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			peer_left(w);
			return;
		}
		struct slice bytes = slice_make(server->scratch, (size_t)got);
		if (w->state == READING)
			parse(w, bytes);
		else if (!buf_append(&w->pending, bytes))
			peer_left(w);
		if ((size_t)got < sizeof(server->scratch))
			return;
	}
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	read_some(arg);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
	struct wire *w = arg;
	(void)fd;
	(void)what;
	w->write_armed = false;
	wire_flush(w, w->allowance);
	if (w->state == ANSWERING && wire_unsent(w) == 0 && w->exchange != NULL)
		w->server->handler->drained(w->exchange);
}

static void wire_new(struct wire_server *server, int fd)
{
	struct wire *w = mem_new(sizeof(*w));
	w->server = server;
	w->fd = fd;
	llhttp_init(&w->parser, HTTP_REQUEST, &server->settings);
	w->parser.data = w;
	buf_init(&w->head, HEAD_MAX);
	buf_init(&w->body, server->body_ceiling);
	buf_init(&w->out, OUT_MAX);
	buf_init(&w->pending, PENDING_MAX);
	loop_deferred_init(&w->death, bury, w);
	list_push_back(&server->wires, &w->node);
	event_assign(&w->read, loop_base(server->loop), fd, EV_READ | EV_PERSIST, on_read, w);
	event_assign(&w->write, loop_base(server->loop), fd, EV_WRITE, on_write, w);
	event_add(&w->read, NULL);
	server->handler->connection(server->context, true);
}

static void resume_accepting(void *arg)
{
	struct wire_server *server = arg;
	if (!server->refuses)
		event_add(&server->accept, NULL);
}

static void on_accept(evutil_socket_t listening, short what, void *arg)
{
	struct wire_server *server = arg;
	const int one = 1;
	(void)what;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4((int)listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			event_del(&server->accept);
			loop_timer_set(&server->resume, ACCEPT_PAUSE);
		}
		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
			   sizeof(one)); /* fails on a unix socket, where it is not needed */
		wire_new(server, fd);
	}
}

struct wire_server *wire_server_new(struct loop *loop, int listening, size_t body_ceiling,
				    const struct wire_handler *handler, void *context)
{
	struct wire_server *server = mem_new(sizeof(*server));
	*server = (struct wire_server){ .loop = loop,
					.listening = listening,
					.body_ceiling = body_ceiling,
					.handler = handler,
					.context = context };
	llhttp_settings_init(&server->settings);
	server->settings.on_url = on_head;
	server->settings.on_url_complete = on_url_complete;
	server->settings.on_header_field = on_head;
	server->settings.on_header_field_complete = on_field_complete;
	server->settings.on_header_value = on_head;
	server->settings.on_header_value_complete = on_value_complete;
	server->settings.on_headers_complete = on_headers_complete;
	server->settings.on_body = on_body;
	server->settings.on_message_complete = on_message_complete;
	list_init(&server->wires);
	loop_timer_init(&server->resume, loop, resume_accepting, server);
	event_assign(&server->accept, loop_base(loop), listening, EV_READ | EV_PERSIST, on_accept, server);
	event_add(&server->accept, NULL);
	return server;
}

void wire_server_free(struct wire_server **pointer)
{
	struct wire_server *server = *pointer;
	if (server == NULL)
		return;
	event_del(&server->accept);
	loop_timer_free(&server->resume);
	close(server->listening);
	LIST_EACH (&server->wires, node, following) {
		struct wire *w = CONTAINER_OF(node, struct wire, node);
		peer_left(w);
		loop_undefer(&w->death);
		bury(w);
	}
	mem_free(server);
	*pointer = NULL;
}

/* ---- what the handler calls ------------------------------------------------ */

/* Forgets the content, and the memory too when it is more than `kept`. */
static void empty(struct buf *b, size_t kept)
{
	size_t ceiling = b->ceiling;
	buf_clear(b);
	if (b->capacity <= kept)
		return;
	buf_free(b);
	buf_init(b, ceiling);
}

struct slice wire_field(const struct wire_request *request, const char *name)
{
	struct slice rest = request->head, wanted = slice_of(name);
	while (rest.len > wanted.len) {
		struct slice line = slice_cut(rest, '\n', &rest);
		if (line.len > wanted.len && line.data[wanted.len] == ':' &&
		    strncasecmp(line.data, wanted.data, wanted.len) == 0) {
			line.len -= 1; /* the CR */
			return slice_trim(slice_skip(line, wanted.len + 1));
		}
	}
	return SLICE_NONE;
}

void wire_forget_request(struct wire *w)
{
	empty(&w->head, 0);
	empty(&w->body, 0);
}

struct buf *wire_out(struct wire *w)
{
	return &w->out;
}

size_t wire_unsent(const struct wire *w)
{
	return w->out.len - w->unsent_from;
}

bool wire_keeps_alive(const struct wire *w)
{
	return w->keep_alive;
}

static void arm_write(struct wire *w)
{
	if (!w->write_armed)
		event_add(&w->write, NULL);
	w->write_armed = true;
}

/* A send that fails is left to the read side, which sees the same end of the connection and tells the handler once. */
void wire_flush(struct wire *w, size_t most)
{
	w->allowance = most;
	if (w->server->swallows)
		return;
	while (w->state != DEAD && wire_unsent(w) > 0 && w->allowance > 0) {
		size_t want = wire_unsent(w) < w->allowance ? wire_unsent(w) : w->allowance;
		ssize_t sent = send(w->fd, w->out.data + w->unsent_from, want, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			if (errno == EAGAIN)
				arm_write(w);
			else
				event_active(&w->read, EV_READ, 0);
			return;
		}
		w->unsent_from += (size_t)sent;
		w->allowance -= (size_t)sent;
	}
	if (w->state == DEAD || wire_unsent(w) > 0)
		return;
	w->unsent_from = 0;
	empty(&w->out, OUT_KEPT);
}

static void next_request(struct wire *w)
{
	w->state = READING;
	tell_over(w);
	w->exchange = NULL;
	w->too_large = false;
	w->url_len = 0;
	empty(&w->head, BODY_KEPT);
	empty(&w->body, BODY_KEPT);
	if (w->pending.len > 0)
		event_active(&w->read, EV_READ, 0);
}

void wire_done(struct wire *w, bool keep_open)
{
	CHECK(w->state == ANSWERING);
	if (keep_open && w->keep_alive)
		next_request(w);
	else
		die(w);
}

void wire_reset(struct wire *w)
{
	CHECK(w->state == ANSWERING);
	close_by_reset(w);
	die(w);
}

/* ---- the whole server in trouble --------------------------------------------- */

void wire_server_swallow(struct wire_server *server, bool begins)
{
	server->swallows = begins;
	LIST_EACH (&server->wires, node, following) {
		struct wire *w = CONTAINER_OF(node, struct wire, node);
		if (!begins && w->state != DEAD && wire_unsent(w) > 0)
			arm_write(w);
	}
}

/* A socket that is bound and does not listen refuses, and keeps the port from others. One of a file needs no keeping, and cannot be bound while it is there. */
static bool stop_listening(struct wire_server *server)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	const int one = 1;
	if (getsockname(server->listening, (struct sockaddr *)&address, &length) != 0)
		return false;
	event_del(&server->accept);
	close(server->listening);
	server->listening = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server->listening < 0)
		return false;
	setsockopt(server->listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (address.ss_family == AF_UNIX)
		unlink(((struct sockaddr_un *)&address)->sun_path);
	return bind(server->listening, (struct sockaddr *)&address, length) == 0;
}

static bool listen_again(struct wire_server *server)
{
	if (listen(server->listening, WIRE_BACKLOG) != 0)
		return false;
	event_assign(&server->accept, loop_base(server->loop), server->listening, EV_READ | EV_PERSIST, on_accept,
		     server);
	event_add(&server->accept, NULL);
	return true;
}

bool wire_server_refuse(struct wire_server *server, bool begins)
{
	if (server->refuses == begins)
		return true;
	server->refuses = begins;
	if (!begins)
		return listen_again(server);
	LIST_EACH (&server->wires, node, following) {
		struct wire *w = CONTAINER_OF(node, struct wire, node);
		if (w->state == DEAD)
			continue;
		close_by_reset(w);
		peer_left(w);
	}
	return stop_listening(server);
}

/* From the client: heads, bodies, and what is dropped while lingering.
 *
 * `at_hand` is what has been read and not used: the pending bytes first, then one read of the socket at a time into the
 * server's scratch. What is left of it when the connection can use no more is kept in `pending`. */
#include "svc/http_internal.h"

#include "lib/mem.h"

#include <errno.h>
#include <sys/socket.h>

void http_next_turn(struct connection *c)
{
	event_active(&c->on_input, EV_TIMEOUT, 0);
}

/* One read into the scratch. False: nothing now, or the connection is dead. */
static bool fill(struct connection *c, int *reads)
{
	if (!c->readable)
		return false;
	if (++*reads > HTTP_READS_PER_TURN) {
		http_next_turn(c);
		return false;
	}
	size_t room = c->input == INPUT_IDLE || c->input == INPUT_HEAD ? HTTP_HEAD_READ : HTTP_SCRATCH;
	ssize_t got = recv(c->descriptor, c->server->scratch, room, 0);
	if (got < (ssize_t)room)
		c->readable =
			false; /* a stream's short read has emptied it (epoll(7)); what comes later is a new edge */
	if (got > 0) {
		c->at_hand = slice_make(c->server->scratch, (size_t)got);
		return true;
	}
	if (got < 0 && errno == EINTR)
		c->readable = true;
	if (got == 0 || (errno != EAGAIN && errno != EINTR))
		http_connection_lost(c, HTTP_GONE_LEFT);
	return false;
}

static void start_body(struct connection *c, struct exchange *e)
{
	struct http_server *s = c->server;
	http_deadline_clear(&c->wait);
	c->input = e->request.head.content_length == 0 ? INPUT_WHOLE : INPUT_BODY;
	e->keep_alive = e->request.keep_alive;
	http_chunk_init(&e->chunk);
	s->stats.requests++;
	s->stats.exchanges++;
	if (++s->begun == HTTP_HEADS_PER_TURN) {
		s->begun = 0;
		loop_breathe(s->loop);
	}
	e->owned = true;
	void *owner = s->handler->head(e, s->arg);
	e->owner = owner;
}

/* The head is whole in `bytes`: copies it to where it stays, and judges it there. */
static void finish_head(struct connection *c, struct exchange *e, struct slice bytes)
{
	enum http_fault fault = HTTP_FAULT_malformed;
	size_t fields = e->parse.fields_count * sizeof(struct http_field);
	e->block = mem_new(fields + e->parse.fed);
	memcpy(e->block + fields, bytes.data, e->parse.fed);
	if (http_head_judge(&e->parse, e->block + fields, (struct http_field *)(void *)e->block, &e->request, &fault))
		start_body(c, e);
	else
		http_refuse(e, fault);
}

static void read_head(struct connection *c)
{
	if (c->exchange == NULL)
		c->exchange = http_exchange_new(c);
	struct exchange *e = c->exchange;
	struct slice bytes = c->at_hand;
	size_t before = e->head_bytes.len;
	if (before > 0) {
		/* Never more than a head and one read: the parser stops at HTTP_HEAD_MAX. */
		CHECK(buf_append(&e->head_bytes, c->at_hand));
		bytes = buf_slice(&e->head_bytes);
	}
	enum http_fault fault = HTTP_FAULT_malformed;
	enum http_parse_result result = http_parse_feed(&e->parse, bytes, &fault);
	if (result == HTTP_PARSE_MORE && before == 0)
		CHECK(buf_append(&e->head_bytes, c->at_hand));
	if (c->input == INPUT_IDLE && result == HTTP_PARSE_MORE && c->wait.kind != HTTP_WAIT_HEAD)
		http_deadline_set(c->server, &c->wait, HTTP_WAIT_HEAD);
	c->input = INPUT_HEAD;
	c->at_hand = slice_skip(c->at_hand, e->parse.fed - before);
	if (result == HTTP_PARSE_DONE)
		finish_head(c, e, bytes);
	else if (result == HTTP_PARSE_FAULT)
		http_refuse(e, fault);
}

static void end_body(struct connection *c, struct exchange *e)
{
	http_deadline_clear(&c->wait);
	c->input = INPUT_WHOLE;
	if (e->owned && c->server->handler->body_end != NULL)
		c->server->handler->body_end(e, e->owner);
}

static void give_piece(struct connection *c, struct exchange *e, struct slice piece)
{
	e->body_taken += (int64_t)piece.len;
	e->window_bytes += (int64_t)piece.len;
	if (e->body_taken > e->ceiling)
		http_refuse(e, HTTP_FAULT_body_too_large);
	else if (e->owned && c->server->handler->body != NULL)
		c->server->handler->body(e, e->owner, piece);
}

static void read_plain_body(struct connection *c, struct exchange *e)
{
	struct slice piece = slice_first(c->at_hand, (size_t)(e->request.head.content_length - e->body_taken));
	c->at_hand = slice_skip(c->at_hand, piece.len);
	give_piece(c, e, piece);
	if (c->input == INPUT_BODY && e->body_taken == e->request.head.content_length)
		end_body(c, e);
}

static void read_chunked_body(struct connection *c, struct exchange *e)
{
	struct slice piece = SLICE_NONE;
	switch (http_chunk_next(&e->chunk, &c->at_hand, &piece)) {
	case HTTP_CHUNK_MORE:
		break;
	case HTTP_CHUNK_PIECE:
		give_piece(c, e, piece);
		break;
	case HTTP_CHUNK_END:
		end_body(c, e);
		break;
	case HTTP_CHUNK_BAD:
		http_refuse(e, HTTP_FAULT_bad_body);
		break;
	}
}

/* May this connection use bytes now? */
static bool hungry(const struct connection *c)
{
	const struct exchange *e = c->exchange;
	switch (c->input) {
	case INPUT_IDLE:
	case INPUT_HEAD:
		return !c->server->leaving;
	case INPUT_LINGER:
		return true;
	case INPUT_BODY:
		return e->owned && e->wanted && !e->paused && !c->server->leaving;
	default:
		return false;
	}
}

/* A Content-Length above the ceiling is refused before a byte of the body is here. */
static bool refuse_announced(struct connection *c)
{
	struct exchange *e = c->exchange;
	bool above = c->input == INPUT_BODY && e->owned && e->wanted && e->request.head.content_length > e->ceiling;
	if (above)
		http_refuse(e, HTTP_FAULT_body_too_large);
	return above;
}

static void use(struct connection *c)
{
	struct exchange *e = c->exchange;
	if (c->input == INPUT_LINGER) {
		c->at_hand = SLICE_NONE;
		c->heard = true;
	} else if (c->input != INPUT_BODY) {
		read_head(c);
	} else if (refuse_announced(c)) {
		return;
	} else if (e->request.head.content_length > 0) {
		read_plain_body(c, e);
	} else {
		read_chunked_body(c, e);
	}
}

static void keep_rest(struct connection *c, bool from_pending)
{
	if (from_pending && c->at_hand.len > 0) {
		buf_drop_front(&c->pending, c->pending.len - c->at_hand.len);
	} else {
		buf_clear(&c->pending);
		CHECK(buf_append(&c->pending, c->at_hand));
	}
	if (c->pending.len == 0)
		buf_free(&c->pending);
	c->at_hand = SLICE_NONE;
}

void http_advance(struct connection *c)
{
	int reads = 0;
	bool from_pending = true;
	refuse_announced(c);
	c->advancing = true;
	c->at_hand = buf_slice(&c->pending);
	while (hungry(c)) {
		if (c->at_hand.len == 0) {
			from_pending = false;
			if (!fill(c, &reads))
				break;
		}
		use(c);
	}
	keep_rest(c, from_pending);
	c->advancing = false;
}

bool http_skip_body_at_hand(struct exchange *e)
{
	struct connection *c = e->connection;
	int64_t length = e->request.head.content_length;
	/* Within a callback of http_advance the bytes are at hand; otherwise they are pending. */
	size_t here = c->advancing ? c->at_hand.len : c->pending.len;
	if (c->input != INPUT_BODY || e->wanted || e->request.expects_continue || length < 0 || (uint64_t)length > here)
		return false;
	if (c->advancing)
		c->at_hand = slice_skip(c->at_hand, (size_t)length);
	else
		buf_drop_front(&c->pending, (size_t)length);
	c->input = INPUT_WHOLE;
	return true;
}

/* What the owner of an exchange may do with it. Nothing here calls a handler or the kernel: it changes what is wanted or
 * appends to the output, and the connection works that off at the end of the turn. */
#include "svc/http_internal.h"

#include "lib/mem.h"

struct slice http_field_of(const struct http_head *head, struct slice name)
{
	for (size_t i = 0; i < head->fields_count; i++) {
		if (slice_equal_nocase(head->fields[i].name, name))
			return head->fields[i].value;
	}
	return SLICE_NONE;
}

const struct http_head *http_head_of(const struct exchange *e)
{
	return &e->request.head;
}

struct slice http_peer_address(const struct exchange *e)
{
	return slice_of(e->connection->peer);
}

void http_put(struct connection *c, struct slice bytes)
{
	CHECK(buf_append(&c->output, bytes));
	c->server->stats.buffered += bytes.len;
	http_defer_work(c);
}

static void begin_window(struct exchange *e)
{
	e->window_bytes = 0;
	http_deadline_set(e->connection->server, &e->connection->wait, HTTP_WAIT_BODY);
}

void http_take_body(struct exchange *e, int64_t ceiling)
{
	struct connection *c = e->connection;
	CHECK(e->owned && !e->wanted && ceiling >= 0);
	e->wanted = true;
	e->ceiling = ceiling;
	if (c->input != INPUT_BODY)
		return;
	bool here = (c->advancing ? c->at_hand.len : c->pending.len) > 0;
	bool fits = e->request.head.content_length <= ceiling;
	if (e->request.expects_continue && !here && fits && e->output == OUTPUT_NONE)
		http_put(c, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
	e->request.expects_continue = false;
	begin_window(e);
	http_defer_work(c);
}

void http_pause_body(struct exchange *e)
{
	CHECK(e->owned);
	e->paused = true;
	if (e->connection->input == INPUT_BODY)
		http_deadline_clear(&e->connection->wait);
}

void http_resume_body(struct exchange *e)
{
	CHECK(e->owned);
	if (!e->paused)
		return;
	e->paused = false;
	if (e->connection->input == INPUT_BODY && e->wanted) {
		begin_window(e);
		http_defer_work(e->connection);
	}
}

void http_answer(struct exchange *e, const struct http_answer *answer)
{
	CHECK(e->owned && e->output == OUTPUT_NONE);
	struct connection *c = e->connection;
	/* A body that lies here whole is dropped, so that a small refused request does not cost its connection. */
	if (c->input == INPUT_BODY && !http_skip_body_at_hand(e))
		e->keep_alive = false;
	if (c->server->draining)
		e->keep_alive = false;
	http_put_head(e, answer);
	http_defer_work(c);
}

static void put_chunk(struct connection *c, struct slice bytes)
{
	static const char hex[] = "0123456789abcdef";
	char head[18];
	size_t at = sizeof(head);
	head[--at] = '\n';
	head[--at] = '\r';
	for (size_t rest = bytes.len; rest > 0; rest >>= 4)
		head[--at] = hex[rest & 15];
	http_put(c, slice_make(head + at, sizeof(head) - at));
	http_put(c, bytes);
	http_put(c, SLICE("\r\n"));
}

bool http_write(struct exchange *e, struct slice bytes)
{
	struct connection *c = e->connection;
	CHECK(e->owned && e->output != OUTPUT_NONE);
	if (bytes.len == 0 || e->output == OUTPUT_NO_BODY)
		return true;
	if (e->output == OUTPUT_CHUNKED) {
		put_chunk(c, bytes);
	} else {
		if (e->output == OUTPUT_LENGTH) {
			CHECK((int64_t)bytes.len <=
			      e->output_left); /* more than promised would be the next answer's bytes */
			e->output_left -= (int64_t)bytes.len;
		}
		http_put(c, bytes);
	}
	if (http_backlog(c) <= HTTP_BUFFERED_MAX)
		return true;
	e->writer_waits = true;
	return false;
}

void http_end(struct exchange *e, bool clean)
{
	struct connection *c = e->connection;
	CHECK(e->owned && (e->output != OUTPUT_NONE || !clean));
	if (clean && e->output == OUTPUT_CHUNKED)
		http_put(c, SLICE("0\r\n\r\n"));
	e->clean = clean && (e->output != OUTPUT_LENGTH || e->output_left == 0);
	e->owned = false;
	e->ended = true;
	c->server->stats.exchanges--;
	if (c->input == INPUT_BODY)
		http_deadline_clear(&c->wait);
	http_defer_work(c);
}

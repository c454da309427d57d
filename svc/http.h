/* HTTP/1.1 with clients: llhttp in strict mode, our own few rules on top, one request at a time per connection.
 *
 *   accept ──► head (absolute deadline) ──► handler.head ──► http_take_body ──► handler.body … handler.body_end
 *                │ malformed: answered and closed here                              │
 *                ▼                                                                   ▼
 *            handler.malformed writes the error's body          http_answer ──► http_write … ──► http_end
 *
 * A `struct exchange` is one request and its answer. Its owner ends it exactly once: by http_end, or by being told handler.gone;
 * after either the pointer is dead. No handler runs inside a call of the owner's. A client that leaves is noticed while its
 * answer is awaited, also behind pipelined bytes; a half-close counts as leaving (RFC 9112 section 9.6 allows the server to choose).
 *
 * Where it is:  http_listen, http_server (accepting, draining) ──► http_connection (events, output, the end; http_deadline: its waits)
 *               ──► http_input (http_parse: llhttp; http_head: our rules; http_chunk: bodies) ──► handler
 *               ◄── http_exchange, http_answer (what the owner calls); http_internal.h is what they share.
 * Disadvantage: no HTTP/2 and no TLS here; the load balancer in front speaks them. */
#ifndef SLUICE_HTTP_H
#define SLUICE_HTTP_H

#include "lib/base.h"
#include "lib/slice.h"
#include "svc/http_fault.h"

struct loop;
struct log;
struct buf;
struct http_listener;
struct http_server;
struct exchange;

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS };

struct http_field {
	struct slice name, value; /* value trimmed; name as sent */
};

/* A valid request head; lives as long as its exchange. */
struct http_head {
	enum http_method method;
	struct slice method_name;
	struct slice
		target; /* origin form, starts with '/'; a valid absolute form has been reduced to it (RFC 9112 section 3.2.2) */
	struct slice host;
	const struct http_field *fields; /* in order, hop-by-hop ones included */
	size_t fields_count;
	int64_t content_length; /* -1: chunked; 0: no body */
	int minor_version;      /* of HTTP/1 */
};
/* The first field of that name (no case), or {NULL,0}. An empty field has data != NULL. */
struct slice http_field_of(const struct http_head *, struct slice name);

enum http_gone {
	HTTP_GONE_LEFT,    /* the client closed or reset the connection */
	HTTP_GONE_STALLED, /* it took no byte of its answer for write_stall */
	HTTP_GONE_CLOSED,  /* the server was freed */
};

struct http_handler {
	/* A valid head is here. The owner must answer, now or later. What it returns comes back as `owner`; NULL is fine. */
	void *(*head)(struct exchange *, void *arg);
	/* The next piece of the body, de-chunked, in order; borrowed. */
	void (*body)(struct exchange *, void *owner, struct slice piece);
	void (*body_end)(struct exchange *, void *owner);
	/* After http_write said "pause": there is room again. */
	void (*writable)(struct exchange *, void *owner);
	/* The body breaks the rules, comes too slowly or is above its ceiling: nothing more of it comes, and the connection closes behind the
	 * answer. The owner answers, or cuts short what it had begun, now or later. Never called without http_take_body. */
	void (*broken)(struct exchange *, void *owner, enum http_fault);
	/* The exchange is dead; ours is over. */
	void (*gone)(struct exchange *, void *owner, enum http_gone);
	/* Writes the body of the answer to a head with a fault, and names its media type. `target` is what was understood of it, or
	 * empty. Also counts it: no other handler hears of such a request. */
	void (*malformed)(void *arg, enum http_fault, struct slice target, struct buf *body,
			  struct slice *content_type);
};

struct http_options {
	int64_t head_timeout;    /* for the whole head, absolute, from its first byte (or from accept); microseconds */
	int64_t body_timeout;    /* without a single byte of the body */
	int64_t body_rate;       /* bytes per second, at least, measured over body_timeout; 0: no floor */
	int64_t idle_timeout;    /* keep-alive without a request */
	int64_t write_stall;     /* without the client taking a byte */
	unsigned connections;    /* per server; above it idle ones are closed, then new ones are refused by closing */
	const char *server_name; /* of the Server field; NULL: none */
};

/* Binds "host:port", "[v6]:port", "*:port" or "unix:path"; several servers may share one. NULL with a message in `error` (naming address and cause). */
struct http_listener *http_listen(struct slice address, char *error, size_t error_size) MUST_CHECK;
void http_listener_free(struct http_listener **);             /* closes; a unix path is removed when it is still ours */
int http_listener_port(const struct http_listener *);         /* the real one after port 0; 0 for unix */
const char *http_listener_text(const struct http_listener *); /* "127.0.0.1:8080", "unix:/run/x" for people and logs */

struct http_server *http_server_new(struct loop *, const struct http_options *, const struct http_handler *, void *arg,
				    struct log *);
void http_server_accept(struct http_server *, struct http_listener *); /* from now on; the listener outlives that */
/* Accepts who has connected, as far as there is room; then, unless another server accepts from it, the listener may go. */
void http_server_stop_accepting(struct http_server *);
/* "Connection: close" on every answer from now on; connections are closed once they have been idle for a second (a client may be
 * sending its next request just now, and would lose it). */
void http_server_drain(struct http_server *);
/* Closes the connections that have had no request for a second. */
void http_server_close_idle(struct http_server *);
/* Closes what is open (owners hear HTTP_GONE_CLOSED, from the end of the turn on, before it is dead). */
void http_server_free(struct http_server **);

struct http_stats {
	unsigned connections, exchanges; /* now */
	uint64_t accepted, requests, faults[HTTP_FAULT_COUNT];
	size_t buffered; /* bytes waiting for clients */
};
void http_server_stats(const struct http_server *, struct http_stats *);

const struct http_head *http_head_of(const struct exchange *);
struct slice http_peer_address(const struct exchange *); /* "192.0.2.1", "unix"; lives as long as the exchange */

/* Begins to take the body (answers Expect: 100-continue), at most `ceiling` bytes: more is HTTP_FAULT_body_too_large, at once when
 * Content-Length says so. Without this call nothing is read, and an answer closes the connection unless
 * the whole body had come already (it is dropped then, so that a small refused request keeps its connection). */
void http_take_body(struct exchange *, int64_t ceiling);
void http_pause_body(struct exchange *); /* back-pressure towards the client; its timers stand still */
void http_resume_body(struct exchange *);

struct http_answer {
	int status; /* 200 to 599 */
	const struct http_field *
		fields; /* validated: a CTL in a value is a programmer's error. Date, Connection, Content-Length, Transfer-Encoding are ours */
	size_t fields_count;
	int64_t content_length; /* -1: unknown, sent chunked (HTTP/1.0: until close) */
};
/* Once per exchange. HEAD, 204 and 304 get no body whatever is written. The fields are copied. */
void http_answer(struct exchange *, const struct http_answer *);
/* Copies the bytes; false: "pause" until handler.writable (they are taken all the same). */
bool http_write(struct exchange *, struct slice bytes);
/* The whole answer is written. clean = false: it must not look complete (no last chunk, fewer bytes than promised): the connection is cut
 * after what has been written. The exchange is dead for the owner. */
void http_end(struct exchange *, bool clean);

#endif

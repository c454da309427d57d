/* What the files of the HTTP server share: server, connection, exchange.
 *
 *   server ──* connection ──0..1 exchange
 *
 *   on_socket ──► advance (http_input) ──► handler … http_answer, http_write, http_end (http_exchange)
 *                                                        │ into connection.output, and defers
 *   end of the turn ──► work (http_connection): advance, flush, then next request, lingering or death
 *
 * One event per connection, edge-triggered, armed from accept to close: no epoll_ctl per request, a peer's FIN is seen
 * behind pipelined bytes, and nothing spins when bytes are left unread on purpose. The price: who stops reading must
 * remember that there was something to read (`readable`). Nothing outside svc/http_*.c includes this. */
#ifndef SLUICE_HTTP_INTERNAL_H
#define SLUICE_HTTP_INTERNAL_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/slice.h"
#include "svc/http.h"
#include "svc/http_chunk.h"
#include "svc/http_head.h"
#include "svc/http_parse.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <event2/event_struct.h>

enum {
	HTTP_SCRATCH = 64 * 1024,      /* one read of a body */
	HTTP_HEAD_READ = 16 * 1024,    /* one read while a head is expected */
	HTTP_HEADS_PER_TURN = 64,      /* of one server, before the rest of the loop gets its turn */
	HTTP_READS_PER_TURN = 16,      /* of one connection, before the others get their turn */
	HTTP_KEPT_OUTPUT = 1024,       /* an idle connection keeps no greater buffer */
	HTTP_OUTPUT_MAX = 1 << 30,     /* nobody who heeds "pause" comes near */
	HTTP_LINGER_STEP = 500 * 1000, /* microseconds between looks at a lingering connection */
	HTTP_LINGER_MAX = 10 * 1000 * 1000,
	HTTP_DRAINED_IDLE = 1000 * 1000, /* how long an idle connection lives while draining */
	HTTP_ACCEPT_PAUSE = 100 * 1000,  /* after EMFILE */
};

/* Why a connection is waited for. Every wait of one kind lasts equally long, so each list is in order by itself. */
enum http_wait { HTTP_WAIT_HEAD, HTTP_WAIT_IDLE, HTTP_WAIT_BODY, HTTP_WAIT_LINGER, HTTP_WAIT_STALL, HTTP_WAIT_COUNT };

struct http_deadline {
	struct list node;
	int64_t at;
	enum http_wait kind;
	struct connection *connection;
};

enum http_input {
	INPUT_IDLE,   /* between requests; no exchange */
	INPUT_HEAD,   /* an exchange is being read */
	INPUT_BODY,   /* its head is good, its body not whole */
	INPUT_WHOLE,  /* the request is whole */
	INPUT_BROKEN, /* refused: nothing is read until the answer is out */
	INPUT_LINGER, /* the answer is out: what comes is dropped, so that no reset overtakes it */
	INPUT_DEAD,   /* closed; freed at the end of the turn */
};

enum http_output {
	OUTPUT_NONE,    /* not answered */
	OUTPUT_NO_BODY, /* answered; what is written is dropped (HEAD, 204, 304) */
	OUTPUT_LENGTH,  /* answered with Content-Length */
	OUTPUT_CHUNKED,
	OUTPUT_UNTIL_CLOSE, /* HTTP/1.0: only a reset says that something is missing, so one is armed until all is sent */
};

/* Owned by its connection from a head's first byte until its answer has been sent. */
struct exchange {
	unsigned magic;
	struct connection *connection;
	struct http_parse parse;
	struct buf head_bytes; /* of a head that came in pieces */
	char *block;           /* the fields, then the head's bytes; NULL until the head is whole */
	struct http_request_head request;
	void *owner;
	bool owned, ended, clean; /* owned: the handler may call; ended: nothing more will be written */
	bool wanted, paused;      /* the body */
	bool writer_waits;        /* http_write has said "pause" */
	bool keep_alive;
	int64_t ceiling, body_taken; /* bytes of the body */
	struct http_chunk chunk;
	int64_t window_bytes; /* of the body in this window of body_timeout */
	enum http_output output;
	int64_t output_left; /* OUTPUT_LENGTH: promised and not written */
};

/* Owned by its server; dies at the end of a turn. `at_hand` points into the server's scratch during http_advance alone. */
struct connection {
	unsigned magic;
	struct http_server *server;
	struct list node; /* server->all */
	int descriptor;
	enum http_input input;
	bool readable;    /* the socket had bytes, and has not said EAGAIN since */
	bool peer_closed; /* its half is shut; its answer is still being sent */
	bool advancing;   /* http_advance is on the stack */
	bool heard;       /* something came since the last look while lingering */
	struct event on_input, on_output;
	struct slice at_hand;
	struct buf pending; /* read, not yet used; bounded by one read */
	struct buf output;  /* for the client */
	size_t sent;        /* of output */
	struct http_deadline wait, stall;
	int64_t linger_until;
	int unsent; /* by the kernel, when last looked at while lingering */
	struct loop_deferred work;
	struct exchange *exchange;
	char peer[INET6_ADDRSTRLEN];
};

/* One listener of one server. */
struct acceptor {
	struct list node;
	struct http_server *server;
	const struct http_listener *listener;
	struct event event;
};

/* One per worker; owns its connections. Between calls: timer_at is when the timer fires, never later than the first deadline. */
struct http_server {
	unsigned magic;
	struct loop *loop;
	struct http_options options;
	const struct http_handler *handler;
	void *arg;
	struct log *log;
	struct list all, acceptors;
	struct list waits[HTTP_WAIT_COUNT];
	int64_t delays[HTTP_WAIT_COUNT];
	struct loop_timer timer, accept_timer;
	int64_t timer_at;
	struct loop_deferred farewell;
	bool draining, accept_failed;
	bool full;      /* its listeners are left alone: no connection is idle */
	bool leaving;   /* http_server_free was called: no new request is begun */
	bool emptied;   /* its connections are dead */
	unsigned begun; /* requests since the last breath */
	int64_t date_second;
	struct http_stats stats;
	char date[32];
	char scratch[HTTP_SCRATCH];
};

/* http_deadline.c */
void http_deadline_set(struct http_server *, struct http_deadline *, enum http_wait);
void http_deadline_clear(struct http_deadline *);
void http_deadlines_sweep(void *server);
/* http_server.c */
void http_server_has_room(struct http_server *); /* a connection is gone, or has no request any more */
/* http_input.c */
void http_advance(struct connection *);
void http_next_turn(struct connection *); /* there may be more to read: look again in the next turn */
/* http_connection.c */
void http_connection_new(struct http_server *, int descriptor, const char *peer);
void http_connection_die(struct connection *);
void http_connection_lost(struct connection *, enum http_gone); /* tells the owner, and dies */
void http_connection_expired(struct connection *, enum http_wait);
void http_connection_flush(struct connection *);
/* While armed, whatever closes the connection resets it: a deadline, the end of a drain, the kernel when this process dies. */
void http_end_by_reset(struct connection *, bool armed);
size_t http_backlog(const struct connection *);
void http_defer_work(struct connection *);
struct exchange *http_exchange_new(struct connection *);
void http_exchange_free(struct exchange **);
/* http_exchange.c */
void http_put(struct connection *, struct slice); /* to the client, at the end of the turn */
bool http_skip_body_at_hand(struct exchange *);
/* http_answer.c: takes no more of the request, and answers with the fault; an owner hears of it and answers himself. */
void http_refuse(struct exchange *, enum http_fault);
/* http_answer.c */
void http_put_head(struct exchange *, const struct http_answer *);
/* http_listen.c */
int http_listener_descriptor(const struct http_listener *);

#endif

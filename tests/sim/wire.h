/* HTTP/1.1 with the simulator's clients: llhttp over a raw non-blocking socket, one request at a time.
 *
 *   accept ─► read head and body ─► handler.request ─► wire_out, wire_flush … ─► wire_done ─┐
 *                     ▲                                                                     │ keep-alive
 *                     └─────────────────────────────────────────────────────────────────────┘
 *
 * It only counts bytes and reports; what is sent, when, and how it goes wrong is the handler's. Deliberately lenient and
 * deliberately not svc/http: the judge shares nothing with the judged. It has no deadlines of its own. */
#ifndef SIM_WIRE_H
#define SIM_WIRE_H

#include "lib/base.h"
#include "lib/slice.h"

struct buf;
struct loop;
struct wire;
struct wire_server;

/* Valid until the request's body is let go (wire_forget_request) or the answer is done. */
struct wire_request {
	struct slice method, target, path, query, head, body; /* head: the field lines, "name: value\r\n" each */
	bool too_large;                                       /* the body was dropped: it passed the ceiling */
};

#define WIRE_BACKLOG 4096 /* of a listener */

struct wire_handler {
	void (*connection)(void *context, bool opened);
	/* The whole head is here, not yet the body. True: `over` is to be told when the answer is, or the connection. */
	bool (*head)(void *context, const struct wire_request *);
	void (*over)(void *context);
	void *(*request)(void *context, struct wire *, const struct wire_request *); /* gives what the next two get */
	void (*drained)(
		void *exchange);      /* all that was given to wire_flush has left, after it had not all left at once */
	void (*gone)(void *exchange); /* the peer left during the answer; the wire is dead */
};

struct wire_server *wire_server_new(struct loop *, int listening, size_t body_ceiling, const struct wire_handler *,
				    void *context);
void wire_server_free(struct wire_server **); /* closes the listener and every connection, calling `gone` */

/* A network that swallows all: connections are accepted, requests are read, and no byte leaves, until it ends; then what has waited does. */
void wire_server_swallow(struct wire_server *, bool begins);
/* A machine that is gone: every connection is reset, calling `gone`, and new ones are refused, until it ends; the port stays ours. False, with errno:
 * the listener could not be had back. */
bool wire_server_refuse(struct wire_server *, bool begins) MUST_CHECK;

struct slice wire_field(const struct wire_request *, const char *name); /* the first of that name, or SLICE_NONE */
void wire_forget_request(struct wire *);                                /* frees head and body of the request */

struct buf *wire_out(struct wire *);         /* append what is to be sent */
void wire_flush(struct wire *, size_t most); /* sends at most that much of it; more follows only with the next flush */
size_t wire_unsent(const struct wire *);
bool wire_keeps_alive(const struct wire *); /* whether the request allows another one after it */

/* Exactly one of these ends an answer. The exchange's callbacks stay silent from then on. */
void wire_done(struct wire *, bool keep); /* everything was sent; keep: read the next request, else FIN */
void wire_reset(struct wire *);           /* RST */

#endif

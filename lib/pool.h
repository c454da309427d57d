/* The connections of one worker to one upstream: a libcurl multi, a ceiling, a warm floor, and the book of its sockets.
 *
 *   pool_start ──► waits for a slot (FIFO) ──► libcurl ──► head ──► body … ──► done
 *                        │ deadline              │ cancel, deadline, reset
 *                        ▼                       ▼
 *                 POOL_NO_SLOT             the outcome says what was sent
 *
 * Rules kept here, once: no multi function runs inside a libcurl callback; `done` runs once, never inside pool_start,
 * never after pool_cancel; a body is never silently sent twice; a short answer is never POOL_DONE; a descriptor's late
 * event never reaches the next owner of its number. Streams get a pool of their own, so that long ones cannot starve
 * short calls: the caller makes two pools. Disadvantage: libcurl picks the connection; we can only refuse, warm and
 * close.
 *
 * An answer without a length and without chunks ends with its connection: in order (over TLS: close_notify) it is
 * POOL_DONE, as RFC 9112 section 8 has it; a peer that crashes in plain text looks the same, so who streams such
 * answers looks for the stream's own end marker. */
#ifndef SLUICE_POOL_H
#define SLUICE_POOL_H

#include "lib/base.h"
#include "lib/slice.h"

struct loop;
struct log;
struct pool;
struct transfer;

enum pool_http { POOL_HTTP_AUTO, POOL_HTTP_1, POOL_HTTP_2 };

struct pool_options {
	const char *origin;              /* "https://host[:port]", no path: every transfer goes there; copied */
	unsigned connections;            /* at most this many, ≥ 1 */
	unsigned warm;                   /* opened by pool_warm */
	unsigned streams_per_connection; /* HTTP/2 only; ≥ 1 */
	enum pool_http http;
	int64_t connect_timeout, idle_timeout, max_age; /* microseconds */
	/* For so long new connections go where the origin's name was last found; then it is looked up again. Microseconds, of which whole seconds count; 0: each
	 * connection looks it up. One that is open is used on, whatever its name has come to mean, up to max_age. */
	int64_t name_age;
	const char *ca_file; /* NULL: the system's; copied */
	bool verify;         /* false only for tests: neither peer nor host is checked */
	bool allow_private;  /* the operator named this host: private, loopback and link-local addresses are fine */
};

enum pool_outcome {
	POOL_DONE,           /* head and whole body were delivered */
	POOL_NO_SLOT,        /* no connection was free in time, be it its own or the total one; nothing was sent */
	POOL_CONNECT_FAILED, /* DNS, refused, unreachable, connect deadline, address not allowed; nothing was sent */
	POOL_TLS_FAILED,     /* hand-shake or certificate; nothing was sent */
	POOL_RESET_UNSENT,   /* a connection died before any byte of this request was written */
	POOL_RESET,     /* died after (some of) the request was written, before the head: it may have been processed */
	POOL_TRUNCATED, /* died inside the answer */
	POOL_GARBAGE,   /* not HTTP, or a head over 32 KiB */
	POOL_FIRST_BYTE_TIMEOUT,
	POOL_IDLE_TIMEOUT, /* no byte of the body for so long */
	POOL_TOTAL_TIMEOUT,
};
/* The file behind a ca_file of NULL. Each pool reads its file when it is made: a new pool trusts what the file holds by then. */
const char *pool_system_ca_file(void);
const char *pool_outcome_name(enum pool_outcome); /* the closed list for logs: "done", "no_slot", … */

struct pool_field {
	struct slice name, value;
};

struct pool_request {
	struct slice method; /* GET, HEAD, …; POST, PUT and PATCH always say how long their body is */
	struct slice target; /* path and query, starts with '/' */
	/* Copied; a CTL is the programmer's error. Host, Content-Length and the hop-by-hop ones are ours: left out. */
	const struct pool_field *fields;
	size_t fields_count;
	const struct slice *body; /* pieces; BORROWED until done runs or pool_cancel returns */
	size_t body_count;
	int64_t wait_timeout;       /* for a slot; microseconds, each of these > 0 */
	int64_t first_byte_timeout; /* from the slot to the head's first byte; the connect included */
	int64_t idle_timeout;       /* between two pieces of the body, not counted while the receiver has paused */
	int64_t total_timeout;      /* from pool_start to done */
};

struct pool_head {
	int status;                      /* final, 200 to 599: 1xx are dropped, 101 is POOL_GARBAGE */
	const struct pool_field *fields; /* valid inside the callback alone */
	size_t fields_count;
};

struct pool_result {
	enum pool_outcome outcome;
	char detail[96];         /* libcurl's or OpenSSL's words, for the log; never from the peer's bytes */
	bool reused;             /* a connection that had been used before */
	int64_t waited;          /* for a slot */
	int64_t handshake;       /* DNS, connect and TLS of a new connection; 0 when reused */
	int64_t first_byte;      /* from the slot to the head; -1 when there was none */
	uint64_t sent, received; /* body bytes */
};

/* All run from the loop. A receiver may call pool_cancel on its own transfer from any of them. */
struct pool_receiver {
	void (*head)(struct transfer *, void *arg, const struct pool_head *);
	/* Takes all the bytes; false: "no more for now" until pool_resume. `done` may come all the same: nothing was
	 * left. */
	bool (*body)(struct transfer *, void *arg, struct slice bytes);
	void (*done)(struct transfer *, void *arg, const struct pool_result *);
};

struct pool *pool_new(struct loop *, const struct pool_options *, struct log *);
/* Cancels what runs (no callback), closes everything; dies at the end of the turn, and its transfers with it. */
void pool_free(struct pool **);
/* From now on keeps `warm` connections: what age takes is opened again. Opens them by simultaneous light requests
 * (HEAD /, no credential; any answer will do). `warmed` runs once, with how many succeeded and why the last of the others did not
 * ("": none failed; valid during the call), when all have ended or `timeout` has passed; never inside this call. Pass NULL to not care. */
void pool_warm(struct pool *, int64_t timeout, void (*warmed)(void *arg, unsigned opened, const char *why), void *arg);

struct transfer *pool_start(struct pool *, const struct pool_request *, const struct pool_receiver *, void *arg);
void pool_resume(struct transfer *); /* after body() said false; harmless otherwise */
/* NULL inside is fine; done never runs; the upstream sees its connection or stream end at once. */
void pool_cancel(struct transfer **);
/* False as long as surely no byte of it has been written: it waits for a slot or for its connection. */
bool pool_may_be_sent(const struct transfer *);

struct pool_stats {
	unsigned open, active, idle, waiting;      /* now */
	uint64_t opened, reused, requests, failed; /* since birth */
	int64_t handshake_total, waited_total;     /* microseconds, sums */
};
void pool_stats(const struct pool *, struct pool_stats *);

#endif

/* The connections of one loop to one upstream: a libcurl multi, a line, a warm floor, and the book of its sockets. How many there may be is a matter of the
 * instance: pools of several loops with the same name share their places.
 *
 *   pool_start ──► the line: lanes, tenants ──► libcurl ──► head ──► body … ──► done
 *                        │ deadline                  │ cancel, deadline, reset
 *                        ▼                           ▼
 *                 POOL_NO_SLOT                 the outcome says what was sent
 *
 * How many connections (lib/pool_size.h, lib/pool_share.h):
 *   least  opened by pool_warm before anybody asks, and kept; 0: none is opened before the first call
 *   size   what is kept although idle, from `start` on: grows by 20 % and shrinks by 10 % with the work that lasts, between least and most
 *   most   never passed, by all loops together. A call that finds no idle connection has one opened; only where all `most` are there and in use does it wait
 * A connection is closed when it is idle for idle_timeout; when it is idle for a minute and there are more than `size`, or idle and more than `most` is now; when it is max_age old, less up to a tenth,
 * so that those of one burst do not all end at once (one that is in use then gets no new call, and ends with those it has); and when another loop, or under a bound of the instance another
 * pool, needs its place. Nothing is taken from a call.
 * One that is idle is tried every validate_after by a light request (HEAD /, no credential; any answer will do), beside the calls. libcurl picks the connection, so all
 * idle ones are tried at once, each by a request of its own; one that no answer comes on is closed. After a sleep of the machine, during which nobody tried them,
 * none that has shown no life for twice as long is given to a call.
 *
 * Rules kept here, once: no multi function runs inside a libcurl callback; `done` runs once, never inside pool_start,
 * never after pool_cancel; a body is never silently sent twice; a short answer is never POOL_DONE; a descriptor's late
 * event never reaches the next owner of its number; a call that nobody ends is taken back at its total deadline, its connection closed. Streams get a pool of their
 * own, so that long ones cannot starve short calls: the caller makes two pools. Disadvantages: libcurl picks the connection; we can only refuse, warm and
 * close. HTTP/2 in plain text, or with all connections that there may be, uses one on past max_age as long as it is never without a stream.
 *
 * An answer without a length and without chunks ends with its connection: in order (over TLS: close_notify) it is
 * POOL_DONE, as RFC 9112 section 8 has it; a peer that crashes in plain text looks the same, so who streams such
 * answers looks for the stream's own end marker. So does who speaks HTTP/2: of an answer without a length libcurl reports success too where the peer ends its
 * stream in the middle by RST_STREAM with NO_ERROR (RFC 9113, section 8.1, allows that behind a whole answer only; curl's issue 6015), and before 8.1 at times
 * where its connection ends. */
#ifndef SLUICE_POOL_H
#define SLUICE_POOL_H

#include "lib/base.h"
#include "lib/clock.h"
#include "lib/lane.h"
#include "lib/slice.h"

/* From pool_start on. Another loop hears within its turn, far below a millisecond; one that is stuck must not be waited for without an end. */
#define POOL_GRACE CLOCK_SECOND

struct loop;
struct log;
struct pool;
struct pool_shares;
struct transfer;

enum pool_http { POOL_HTTP_AUTO, POOL_HTTP_1, POOL_HTTP_2 };

struct pool_options {
	const char *origin; /* "https://host[:port]", no path: every transfer goes there; copied */
	/* Of all pools of this name together; the sizes of the last one that was made or changed hold. */
	unsigned connections;            /* at most this many, ≥ 1 */
	unsigned least, start;           /* of the size; least ≤ connections */
	unsigned warm;                   /* of `least`, this loop's part: opened by pool_warm */
	struct pool_shares *shares;      /* the process's; NULL: nothing is shared, and the three texts do not matter */
	const char *name;                /* in the log too; copied */
	const char *owner;               /* a tenant's bound holds over all pools of the same owner; copied */
	const char *group;               /* all pools of the same group have group_connections together; copied */
	unsigned group_connections;      /* 0: no such bound */
	unsigned streams_per_connection; /* HTTP/2 only; ≥ 1 */
	enum pool_http http;
	int64_t connect_timeout, idle_timeout, max_age; /* microseconds */
	int64_t weight[LANES];  /* of those who wait for a connection, each ≥ 1; all zero: 5, 3, 1 */
	int64_t validate_after; /* the same; 0: idle connections are not tried */
	/* For so long new connections go where the origin's name was last found; then it is looked up again. Microseconds, of which whole seconds count; 0: each
	 * connection looks it up. One that is open is used on, whatever its name has come to mean, up to max_age. */
	int64_t name_age;
	const char *ca_file; /* NULL: the system's; copied */
	bool verify;         /* false only for tests: neither peer nor host is checked */
	bool allow_private;  /* the operator named this host: private, loopback and link-local addresses are fine */
};

enum pool_outcome {
	POOL_DONE, /* head and whole body were delivered */
	POOL_NO_SLOT, /* no connection was free in time, or none of its tenant's places; nothing was sent, and none failed to open */
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
/* Whether calls to that origin may share connections: HTTP/2 is spoken if the peer does. */
bool pool_multiplexes(enum pool_http, const char *origin);
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
	enum lane lane; /* zeroed: high */
	struct slice
		tenant; /* whose it is, for the line and for its bound; without a NUL; empty: nobody's in particular */
	unsigned
		tenant_connections; /* that all calls of this tenant may occupy at once, in all pools of the owner; 0: no such bound */
	/* For a slot; microseconds; 0: nobody's call is waited for. All the same it waits for a hand-shake that has room for it; up to POOL_GRACE for a connection
	 * that no call uses: one that is idle in another loop, which must hear of it first, or on which a light request is under way; and 10 ms for a place of its
	 * tenant's, since the loop of the call that had it may not have given it back yet. */
	int64_t wait_timeout;
	/* Each > 0. */
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
	char detail[96];         /* libcurl's, OpenSSL's or our words, for the log; never from the peer's bytes */
	bool reused;             /* a connection that had been used before */
	bool tenant_full;        /* NO_SLOT, and its tenant has no place left in any pool of the owner */
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

/* What pools of several loops share; any thread may use it. One a process, outlives its pools. */
struct pool_shares *pool_shares_new(void);
void pool_shares_free(struct pool_shares **);

struct pool *pool_new(struct loop *, const struct pool_options *, struct log *);
/* Takes over connections, least, start (for a size that has not begun), warm, group_connections, the weights, idle_timeout, max_age and validate_after; all else stays as it was. The
 * size stays where it has come to, as far as its bounds allow; connections that are too many are closed when they are idle. */
void pool_change(struct pool *, const struct pool_options *);
/* It has been replaced, and lives on for those calls alone that still belong to it: it keeps and opens nothing ahead, and what is idle is closed, now and from now on. */
void pool_wind_down(struct pool *);
/* Cancels what runs (no callback), closes everything; dies at the end of the turn, and its transfers with it. */
void pool_free(struct pool **);
/* From now on keeps `warm` connections: what age takes is opened again. Opens them by simultaneous light requests. `warmed` runs once, with how many succeeded and why the last of the others did not
 * ("": none failed; valid during the call), when all have ended or `timeout` has passed; never inside this call. Pass NULL to not care. */
void pool_warm(struct pool *, int64_t timeout, void (*warmed)(void *arg, unsigned opened, const char *why), void *arg);

struct transfer *pool_start(struct pool *, const struct pool_request *, const struct pool_receiver *, void *arg);
void pool_resume(struct transfer *); /* after body() said false; harmless otherwise */
/* NULL inside is fine; done never runs; the upstream sees its connection or stream end at once. */
void pool_cancel(struct transfer **);
/* False as long as surely no byte of it has been written: it waits for a slot or for its connection. */
bool pool_may_be_sent(const struct transfer *);
int64_t pool_waited(const struct transfer *); /* for a slot, as its result will say; -1: it waits yet */

enum pool_recycled {
	POOL_RECYCLED_AGE,
	POOL_RECYCLED_IDLE,
	POOL_RECYCLED_SURPLUS,
	POOL_RECYCLED_VALIDATION,
	POOL_RECYCLED_CEDED,
	POOL_RECYCLED_REASONS
};
const char *pool_recycled_name(enum pool_recycled); /* the closed list for metrics: "age", "idle", … */

struct pool_stats {
	unsigned open, active, idle, waiting; /* now; active and waiting are calls, light requests left out */
	unsigned busy; /* connections that the active calls occupy; over HTTP/1 as many as calls */
	uint64_t opened, reused, requests, failed; /* since birth; all but opened are of calls */
	uint64_t leaks;                            /* calls that were taken back at their total deadline */
	uint64_t recycled[POOL_RECYCLED_REASONS];  /* idle connections that the pool closed */
	uint64_t handshakes;                       /* that were measured, light requests' too */
	int64_t handshake_total, waited_total;     /* microseconds, sums; waited by calls */
	int64_t saved_total; /* of each call that reused a connection the mean hand-shake until then */
};
void pool_stats(const struct pool *, struct pool_stats *);
/* What all pools of its name are like together; the same from each of them. */
struct pool_shared_stats {
	unsigned limit, group_limit; /* most connections; of all pools of its group together, 0: any number */
	unsigned size;               /* connections that are kept */
	unsigned open;               /* places taken now, those of connections that are being opened too */
	unsigned peak;               /* connections that stood at once, at most since birth */
	unsigned opened_lately;      /* connections of the last minute */
};
void pool_shared_stats(const struct pool *, struct pool_shared_stats *);

#endif

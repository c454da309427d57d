/* What the files of the pool know of each other; nobody else includes it.
 *
 *   pool.c           slots, the line, the pump (the only place that starts, resumes and removes), warm-up
 *   pool_transfer.c  one request: its handle, libcurl's callbacks, its deadlines
 *   pool_request.c   its copy of what it was asked to send
 *   pool_outcome.c   the name of its end
 *   pool_head.c      one answer's head: gathered, bounded, judged
 *   pool_socket.c    the book of sockets, and libcurl's wishes as events
 *   pool_idle.c      connections without a request: their death, their age, the sweep
 *   pool_tls.c       the process's certificates, read once
 *   pool_address.c   which addresses an upstream may have */
#ifndef SLUICE_POOL_INTERNAL_H
#define SLUICE_POOL_INTERNAL_H

#include <curl/curl.h>
#include <event2/event.h>
#include <event2/event_struct.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/pool.h"

#define POOL_MAGIC       0x706f6f6cu
#define TRANSFER_MAGIC   0x78666572u
#define SOCKET_MAGIC     0x736f636bu

#define POOL_HEAD_MAX    (32u << 10)
#define POOL_FIELDS_MAX  128
#define POOL_BODY_COPIED (16u << 10) /* a body up to this goes out in one write with its head */
#define POOL_BUCKETS     256         /* of each book */

struct address;
struct sockaddr;
struct pool_trust;

/* One descriptor. Made when libcurl opens it (or first names one that it opened by itself: the resolver's), dead when
 * libcurl closes it.
 * Between calls: `armed` are the events that libevent holds, always at least `wished`; what is armed and not wished is
 * taken back when it fires. With users it is active, without and used it is idle and stands in the pool's idle list. */
struct pool_socket {
	unsigned magic;
	struct pool *pool;
	int descriptor;
	int local_port;      /* 0: not asked for yet */
	char peer[48];       /* its address */
	bool closed;         /* among the dead */
	bool foreign;        /* libcurl's own: it is closed without a word to us, so nothing is kept lazily */
	bool retired;        /* shut down by us: libcurl finds it dead and closes it */
	short armed, wished; /* EV_READ | EV_WRITE */
	struct event read_event, write_event;
	struct list chain;  /* in the book of descriptors, or among the dead */
	struct list port;   /* in the book of ports; among the strangers until it is asked for */
	struct list idling; /* in pool.idle */
	struct list users;  /* struct transfer.on_socket */
	uint64_t uses;      /* requests given to it */
	int64_t opened_at, idle_since;
};

/* An easy handle and what is kept with it from one transfer to the next. */
struct pool_handle {
	CURL *easy;
	struct list node; /* in pool.spare */
	struct transfer *transfer;
	struct loop_timer timer;
	struct buf head;
	char *body;
	size_t body_capacity;
	enum { HANDLE_NEW, HANDLE_GET, HANDLE_HEAD, HANDLE_BODY } kind; /* what libcurl was last told */
	bool custom_method;
};

enum transfer_state { TRANSFER_WAITING, TRANSFER_RUNNING, TRANSFER_ENDED };

/* One request. Lives from pool_start to the end of the turn in which it is done or cancelled.
 * Between calls: WAITING in pool.waiting without a handle; RUNNING in pool.running (or pool.cancelled) with one,
 * inside the multi; ENDED in pool.ended, without. A state is a place: only pool.c moves it. */
struct transfer {
	unsigned magic;
	struct pool *pool;
	struct list node, resuming, on_socket;
	enum transfer_state state;
	struct pool_handle *handle;
	struct pool_socket *socket; /* NULL while connecting, and after libcurl closed it */
	struct pool_receiver receiver;
	void *arg;

	const char *method, *target; /* in `text`, as is what header_nodes point at */
	struct curl_slist *headers;
	const struct slice *body;
	size_t body_count, body_len, body_piece, body_offset;
	bool has_body, fresh, silenced;

	struct loop_timer wait_timer;
	int64_t started, slot_at, wait_deadline, connect_deadline, first_byte_deadline, total_deadline;
	int64_t idle_timeout, idle_deadline, timer_at;

	unsigned attempts; /* times libcurl began to send it */
	bool over;         /* libcurl said so itself */
	bool refused_address, connected, head_began, head_done, pausing, paused, multiplexed;
	int status;
	int64_t content_length; /* -1: not said */
	const void *ended_by;   /* the TLS session whose close_notify completes the answer; NULL: something else does */
	bool close_notified;
	uint64_t received;
	bool judged; /* `result.outcome` and `detail` were set by us: libcurl's own code does not count */
	struct pool_result result;
	char text[];
};

struct pool_warming {
	struct pool *pool;
	struct list node;
	unsigned running, opened;
	char why[sizeof(((struct pool_result *)NULL)->detail)]; /* the last failure, for people */
	void (*warmed)(void *arg, unsigned opened, const char *why);
	void *arg;
	struct loop_deferred nothing_to_do;
};

/* Owned by its worker; dies at the end of the turn in which pool_free was called. */
struct pool {
	unsigned magic;
	struct loop *loop;
	struct log *log;
	CURLM *multi;
	struct pool_options options; /* its texts are ours */
	bool tls, two, recent;       /* two: HTTP/2 may be spoken; recent: libcurl has the fixes of 8.0 and 8.1 */
	struct pool_trust *trust;    /* NULL without TLS, or when peers are not verified */
	bool dying, inside;          /* inside: libcurl is on the stack */

	struct loop_deferred pump;
	struct loop_timer curl_timer;
	int64_t curl_deadline, curl_timer_at; /* INT64_MAX: none; when the timer fires */

	struct list waiting, running, cancelled, resuming, ended, spare;
	unsigned waiting_count, running_count, spare_count;
	unsigned handles_made;
	bool multiplexes; /* its last answer came over HTTP/2 */

	struct list by_descriptor[POOL_BUCKETS], by_port[POOL_BUCKETS];
	struct list strangers, idle, dead_sockets; /* strangers: of no known port; idle: longest first */
	unsigned open_count, idle_count, retired_count;
	struct loop_timer tick;
	CURL *sweeper;
	bool sweeping;
	int64_t sweep_at;

	struct list warmings;
	bool keeps_warm, warming;
	int64_t warm_timeout, warm_again_at;
	struct pool_stats totals; /* only what counts since birth */
};

/* pool.c */
void pool_pump_soon(struct pool *);
void pool_finish(struct transfer *, CURLcode);
void pool_rewarm(struct pool *);

/* pool_transfer.c */
struct transfer *pool_transfer_new(struct pool *, const struct pool_request *, const struct pool_receiver *, void *arg);
void pool_transfer_destroy(struct transfer *);
struct pool_handle *pool_handle_new(struct pool *);
void pool_handle_destroy(struct pool_handle *);
int64_t pool_transfer_wait_until(const struct transfer *);
void pool_transfer_prepare(struct transfer *); /* tells its handle everything about this request, and arms its timer */
void pool_transfer_watch(struct transfer *);   /* arms its timer for the nearest deadline */

/* pool_request.c */
void pool_request_check(const struct pool_request *);                   /* the programmer's errors */
size_t pool_request_size(const struct pool_request *);                  /* of struct transfer's `text` */
void pool_request_copy(struct transfer *, const struct pool_request *); /* body_len and has_body are set */

static inline char *pool_put(char *at, struct slice s)
{
	if (s.len > 0)
		memcpy(at, s.data, s.len);
	return at + s.len;
}

/* pool_outcome.c */
void pool_outcome_judge(struct transfer *, enum pool_outcome, const char *detail); /* the first one counts */
void pool_outcome_classify(struct transfer *, CURLcode);
void pool_outcome_measure(struct transfer *);

/* pool_head.c: false: the answer was judged to be garbage, or its receiver left. */
bool pool_head_line(struct transfer *, struct slice line) MUST_CHECK;

/* pool_socket.c */
void pool_socket_setup(struct pool *);
void pool_socket_handle(struct pool *, CURL *easy); /* the options through which the book hears of its sockets */
void pool_socket_attach(struct transfer *, int local_port, const char *peer);
void pool_socket_detach(struct transfer *);
void pool_socket_abandoned(
	struct pool_socket *);        /* a transfer was taken off it unfinished: its peer must hear of it now */
void pool_socket_bury(struct pool *); /* frees those that were closed in this turn */
void pool_socket_cleanup(struct pool *);
void pool_socket_timeout(struct pool *);  /* lets libcurl do what is due by now, if anything */
void pool_socket_schedule(struct pool *); /* and what is due later */
void pool_socket_arm(struct pool_socket *, short events);
void pool_socket_disarm(struct pool_socket *, short events);

/* pool_idle.c */
void pool_idle_setup(struct pool *);
bool pool_idle_is(const struct pool_socket *);
void pool_idle_enter(struct pool_socket *);
void pool_idle_leave(struct pool_socket *);
void pool_idle_retire(struct pool_socket *);              /* ends it: the peer hears of it now, libcurl when it looks */
void pool_idle_unasked(struct pool_socket *, short what); /* these fired though libcurl had not wished for them */
bool pool_idle_is_sweeper(struct pool *, CURL *easy);     /* and takes it out of the multi */

/* pool_tls.c */
struct pool_trust *pool_trust_open(const char *ca_file, struct log *);
void pool_trust_close(struct pool_trust **);
void pool_trust_handle(struct pool_trust *, CURL *easy);
void pool_trust_watch_end(struct transfer *); /* from its head on: sets close_notified when the peer ends in order */

/* pool_address.c */
bool pool_address_is_public(const struct sockaddr *);

#endif

/* What the files of the pool know of each other; nobody else includes it.
 *
 *   pool.c           the states of a transfer, the pump (the only place that starts, resumes and removes)
 *   pool_room.c      how many connections there may be now: its places, what it gives back, what it cedes
 *   pool_share.c     the places that several loops have together      pool_size.c  how many are kept
 *   pool_line.c      whose call is next
 *   pool_light.c     light requests: warm-up, trying idle connections, the next era's first
 *   pool_transfer.c  one request: its handle, libcurl's callbacks, its deadlines
 *   pool_request.c   its copy of what it was asked to send
 *   pool_outcome.c   the name of its end
 *   pool_head.c      one answer's head: gathered, bounded, judged
 *   pool_socket.c    the book of sockets, and libcurl's wishes as events
 *   pool_idle.c      connections without a request: their death, their age, those that are too many, the sweep
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
#include "lib/pool_line.h"
#include "lib/pool_share.h"

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
	bool ending;         /* libcurl keeps it for no other transfer: it says goodbye, and closes it */
	short armed, wished; /* EV_READ | EV_WRITE */
	struct event read_event, write_event;
	struct list chain;  /* in the book of descriptors, or among the dead */
	struct list port;   /* in the book of ports; among the strangers until it is asked for */
	struct list idling; /* in pool.idle */
	struct list users;  /* struct transfer.on_socket */
	uint64_t uses;      /* requests given to it */
	unsigned era;       /* its pool's when it was opened */
	/* Requests on it now; how many it takes at once, as far as is known (0: none any more); how many more its pool reckons with, in all and over one that stands. */
	unsigned load, takes, room, ready_room;
	bool full; /* it once took fewer than it might */
	/* Unless it is in use it ends at ends_at. idle_since: its last call, or what opened it, ended; proved_at: it was last without a user, so it had answered. */
	int64_t opened_at, ends_at, idle_since, proved_at;
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
	unsigned era; /* that it was last told of */
};

/* How a transfer comes to its connection. FRESH: a new one is opened for it. VALIDATING: an idle one is tried by it. The last two are light requests. */
enum transfer_kind { TRANSFER_CALL, TRANSFER_FRESH, TRANSFER_VALIDATING };

/* What a running one has come to. PROMISED: a connection that stands had room for it when it was launched. WANTING: it will have one of its own. LOOKING: that
 * one's name is looked up, or it is opened again. OPENING: it has a socket. */
enum transfer_seat { SEAT_NONE, SEAT_PROMISED, SEAT_WANTING, SEAT_LOOKING, SEAT_OPENING, SEAT_TAKEN, TRANSFER_SEATS };

enum transfer_state { TRANSFER_WAITING, TRANSFER_RUNNING, TRANSFER_ENDED };

/* One request. Lives from pool_start to the end of the turn in which it is done or cancelled.
 * Between calls: WAITING in pool.waiting, pool.light or the line, without a handle; RUNNING in pool.running (or pool.cancelled) with one,
 * inside the multi; ENDED in pool.ended, without. A state is a place: only pool.c moves it. */
struct transfer {
	unsigned magic;
	struct pool *pool;
	struct list node, resuming, on_socket;
	struct list late; /* in pool.late */
	enum transfer_state state;
	enum transfer_kind kind;
	enum lane lane;
	struct slice tenant; /* in `text` */
	unsigned tenant_connections;
	struct pool_call call;
	bool placed; /* it holds a place of call.tenant */
	enum transfer_seat seat;
	bool refused;  /* a connection of its own: there is no place */
	bool next_era; /* FRESH: its connection is one of the era that comes */
	struct pool_handle *handle;
	struct pool_socket *socket; /* NULL while connecting, and after libcurl closed it */
	struct pool_receiver receiver;
	void *arg;

	const char *method, *target; /* in `text`, as is what header_nodes point at */
	struct curl_slist *headers;
	const struct slice *body;
	size_t body_count, body_len, body_piece, body_offset;
	bool has_body, silenced;

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
	bool lingers; /* libcurl waits for the peer's end of a connection that it closes: TLS, from 8.9 on */
	struct pool_trust *trust; /* NULL without TLS, or when peers are not verified */
	bool dying, inside;       /* inside: libcurl is on the stack */

	struct loop_deferred pump;
	struct loop_timer curl_timer;
	int64_t curl_deadline, curl_timer_at; /* INT64_MAX: none; when the timer fires */

	struct pool_shares *own_shares; /* NULL: those of the options */
	struct pool_ear *ear;
	struct pool_part part, group;
	struct pool_line line;
	bool asked;    /* somebody waits for a place of ours */
	bool draining; /* one connection is to become idle for him */

	/* waiting: calls that came in this turn; all others that wait are in the line. light: light requests that wait. */
	struct list waiting, light, running, cancelled, resuming, ended, spare;
	struct list late; /* those of the line, and light ones, that have waited for long enough in this turn */
	unsigned waiting_count, running_count, spare_count; /* waiting_count: of calls */
	unsigned light_running, validating_count;
	unsigned handles_made;
	bool multiplexes;               /* its last connection speaks HTTP/2, or may: there was none */
	unsigned seats[TRANSFER_SEATS]; /* how many run in each of these states */
	unsigned room, ready_room;      /* sums of the sockets' */
	int64_t connect_failed_at;      /* the last attempt at a connection; 0: none */
	unsigned era;                   /* libcurl gives new calls connections of this one alone; see pool_idle.c */
	bool turning;                   /* the first connection of the next one is being opened */

	struct list by_descriptor[POOL_BUCKETS], by_port[POOL_BUCKETS];
	struct list strangers, idle, dead_sockets; /* strangers: of no known port; idle: longest first */
	unsigned open_count, idle_count, retired_count;
	struct loop_timer tick;
	CURL *sweeper;
	bool sweeping;
	int64_t sweep_at, ticked_at, leak_logged_at, tried_at; /* tried_at: all that were idle */
	uint64_t leaks_logged;
	unsigned sockets_made;
	int64_t handshake_mean;

	struct list warmings;
	bool keeps_warm, warming, winding_down;
	int64_t warm_timeout, warm_again_at;
	struct pool_stats totals; /* only what counts since birth */
};

/* pool.c */
void pool_pump_soon(struct pool *);
void pool_launch(struct transfer *); /* gives it a handle, and libcurl the handle */
void pool_return(struct transfer *); /* the other way round: it waits again, before all others of its tenant */
void pool_finish(struct transfer *, CURLcode);
void pool_hear(struct pool *); /* finishes those that libcurl says are over; an ended one is there until the pump */

/* pool_room.c */
void pool_room_setup(struct pool *);
void pool_room_bound(struct pool *); /* after its options changed */
void pool_room_cleanup(struct pool *);
bool pool_room_has(struct pool *, enum transfer_kind) MUST_CHECK; /* for one more; takes a place if need be */
void pool_room_settle(struct pool *);                             /* gives back what is not used */
bool pool_room_is_coming(const struct pool *);                    /* for all that wait: a connection is being opened */
bool pool_room_may_come(const struct pool *); /* a place, or an idle connection, without the end of a call */
void pool_room_hear(struct pool *);           /* what other loops said */
void pool_room_drain(struct pool *);          /* whether it takes in less, for who waits */
void pool_room_cede(struct pool *);           /* idle connections, to who waits for their place */
void pool_room_answer(struct pool *);         /* tells who waits that no more will be ceded now */
/* Why the connection whose call has just ended should go; POOL_RECYCLED_REASONS: it should not. */
enum pool_recycled pool_room_ended(struct pool *);
/* Of so many that are idle, the longest first, this loop's part of those that are too many goes; to_size: more than are kept. */
void pool_room_shed(struct pool *, unsigned idle, bool to_size);
void pool_room_look(struct pool *, int64_t now, struct pool_share_state *);
unsigned pool_room_busy(const struct pool *); /* connections that its calls occupy */
void pool_room_expect(struct pool_socket *);  /* one that is being opened: it will take what the last one did */
void pool_room_count(struct pool_socket *);   /* anew, after anything about it has changed */
void pool_room_recount(struct pool *);        /* all of them, after its era has */
void pool_room_seat(struct transfer *, enum transfer_seat);
void pool_room_learn(struct pool_socket *, bool multiplexes);
void pool_room_promise(struct transfer *);
void pool_room_judge(struct pool *, bool had_its_turn);      /* libcurl; see pool_room.c */
bool pool_room_may_open(const struct transfer *) MUST_CHECK; /* one more connection; takes a place if need be */
static inline bool pool_room_opens(const struct transfer *t)
{
	return t->seat == SEAT_LOOKING || t->seat == SEAT_OPENING;
}

/* pool_light.c */
void pool_light_start(struct pool *); /* those that wait and have room */
void pool_light_rewarm(struct pool *);
void pool_light_open(struct pool *, unsigned count);  /* ahead of the calls */
void pool_light_validate(struct pool *, int64_t now); /* all idle connections */
void pool_light_turn(struct pool *); /* the next era's first connection; pool_idle_turned hears of it */
void pool_light_cleanup(struct pool *);

/* pool_transfer.c */
struct transfer *pool_transfer_new(struct pool *, const struct pool_request *, const struct pool_receiver *, void *arg);
void pool_transfer_destroy(struct transfer *);
struct pool_handle *pool_handle_new(struct pool *);
void pool_handle_destroy(struct pool_handle *);
int64_t pool_transfer_wait_until(const struct transfer *);
void pool_transfer_late(struct transfer *);    /* it found nothing: ends, unless something is coming */
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
void pool_socket_handle(struct pool *, CURL *easy);      /* the options through which the book hears of its sockets */
bool pool_socket_may_open(struct transfer *) MUST_CHECK; /* for it; judged, or to be returned, where not */
void pool_socket_attach(struct transfer *, int local_port, const char *peer);
void pool_socket_detach(struct transfer *);
void pool_socket_over(struct transfer *); /* libcurl said so: is its connection ending too? */
void pool_socket_abandoned(
	struct pool_socket *);        /* a transfer was taken off it unfinished: its peer must hear of it now */
void pool_socket_bury(struct pool *); /* frees those that were closed in this turn */
void pool_socket_cleanup(struct pool *);
/* Lets libcurl choose connections now for those that were launched, as if each had room for so many streams. */
void pool_socket_place(struct pool *, unsigned streams);
bool pool_socket_timeout(struct pool *);  /* lets libcurl do what is due by now; false: nothing is */
void pool_socket_schedule(struct pool *); /* and what is due later */
void pool_socket_arm(struct pool_socket *, short events);
void pool_socket_disarm(struct pool_socket *, short events);

/* pool_idle.c */
void pool_idle_setup(struct pool *);
bool pool_idle_is(const struct pool_socket *);
void pool_idle_enter(struct pool_socket *, int64_t now); /* its last user has gone */
void pool_idle_leave(struct pool_socket *);
/* Ends it: the peer hears of it now, libcurl when it looks. */
void pool_idle_retire(struct pool_socket *);
void pool_idle_recycle(struct pool_socket *, enum pool_recycled); /* the same, counted */
void pool_idle_tick(struct pool *); /* looks at sizes and ages; its timer does, once a second or more often */
void pool_idle_turned(struct pool *, bool opened);
void pool_idle_tick_soon(struct pool *);
void pool_idle_wake(struct pool *, int64_t now); /* before a call is given a connection */
int64_t pool_idle_end_of(struct pool *, int64_t opened_at);
void pool_idle_unasked(struct pool_socket *, short what); /* these fired though libcurl had not wished for them */
bool pool_idle_is_sweeper(struct pool *, CURL *easy);     /* and takes it out of the multi */

/* pool_tls.c */
struct pool_trust *pool_trust_open(const char *ca_file, struct log *);
void pool_trust_close(struct pool_trust **);
void pool_trust_handle(struct pool_trust *, CURL *easy);
void pool_trust_era(CURL *easy, unsigned era);        /* connections of another era are none to this handle */
bool pool_trust_multiplexes(const struct transfer *); /* what its connection's hand-shake agreed on */
void pool_trust_watch_end(struct transfer *); /* from its head on: sets close_notified when the peer ends in order */

/* pool_address.c */
bool pool_address_is_public(const struct sockaddr *);

#endif

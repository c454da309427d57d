/* One connection to Redis on one loop: connect, authenticate, a deadline per command, reconnect.
 *
 * hiredis has no deadlines (0.14), never completes a polite disconnect from a hung server, and runs all pending callbacks when
 * freed. So this file owns the deadlines, cuts the connection when one passes (a late reply must never meet a newer call), answers
 * every call itself exactly once, and frees hiredis contexts only between turns.
 *
 *   redis_send ──► written at the end of the turn, many calls in one write ──► reply, in order ──► done
 *                    │ deadline                       │ connection lost
 *                    ▼                                ▼
 *              REDIS_TIMED_OUT: cut, reconnect    REDIS_LOST: it may have run
 *
 * While there is no connection, a call waits for one until its own deadline, then gets REDIS_UNSENT: it surely did not run. But
 * when calls have waited for `patience` and nothing came, or three in a row timed out, Redis is away: all that waits is told, and
 * each further call at once (REDIS_UNSENT), until a connection has been greeted again.
 * After SUBSCRIBE messages come between the answers, asked for by no call: they go to the listener, and the answers stay in order.
 * Disadvantage: cutting the connection for one slow reply also loses the answers behind it. They are behind it anyway. */
#ifndef SLUICE_REDIS_H
#define SLUICE_REDIS_H

#include "lib/base.h"
#include "lib/slice.h"

struct loop;
struct log;
struct redis;
struct redis_call;
struct redisReply; /* hiredis' */

enum { REDIS_SENTINELS = 8 };
struct redis_options {
	char *host; /* TCP when not NULL; resolved off the loop */
	int port;
	char *path; /* unix socket when not NULL */
	/* With any: they name the master (lib/redis_sentinel.h), it is followed wherever it goes, and no other server is talked to. */
	struct {
		char *host;
		int port;
	} sentinels[REDIS_SENTINELS];
	size_t sentinels_count;
	char *master;                            /* its name */
	char *sentinel_user, *sentinel_password; /* for the Sentinels; NULL: those below */
	char *user, *password;                   /* NULL: none */
	int database;
	/* Microseconds. A server that is there again is found within connect_timeout + reconnect_cap: the worst that a try which began just before it
	 * was there, and the rest after that, can take. */
	int64_t connect_timeout; /* of one try: from the look for the address to the last answer to the greeting */
	int64_t reconnect_base;  /* first back-off, doubled with full jitter up to reconnect_cap */
	int64_t reconnect_cap;
	int64_t patience; /* without a word while calls wait: Redis is away; 0: never */
};

/* redis://[user:password@]host[:port][/db], unix://[user:password@]/path[?db=N], sentinel://[user:password@]host[:port],…/name[/db][?sentinel=user:password]; percent-escapes are decoded. False with a reason
 * (static text) that says what is allowed, and nothing of what was found, for that may be a secret.
 * Fills the defaults for the times. redis_options_free frees what it allocated (passwords are wiped). */
bool redis_options_parse(struct slice url, struct redis_options *, const char **reason) MUST_CHECK;
void redis_options_free(struct redis_options *);

#undef REDIS_OK /* hiredis' macro of the same value, when its header came first */
enum redis_result {
	REDIS_OK,        /* reply holds the answer, not an error */
	REDIS_ERROR,     /* Redis answered an error: error says which row of the table */
	REDIS_TIMED_OUT, /* no answer before the deadline; it may have run */
	REDIS_LOST,      /* the connection died after it was sent; it may have run */
	REDIS_UNSENT,    /* never sent: it did not run */
};

/* Every error that Redis is known to answer, one row each in redis_errors.c: what it means for this call, for this connection, for the
 * mode. X(name, prefix on the wire) */
/* clang-format off */
#define REDIS_ERRORS(X) \
	X(none, "") X(noscript, "NOSCRIPT") X(readonly, "READONLY") X(loading, "LOADING") X(masterdown, "MASTERDOWN") \
	X(clusterdown, "CLUSTERDOWN") X(moved, "MOVED") X(ask, "ASK") X(tryagain, "TRYAGAIN") X(busy, "BUSY") \
	X(oom, "OOM") X(misconf, "MISCONF") X(noreplicas, "NOREPLICAS") X(noperm, "NOPERM") X(noauth, "NOAUTH") \
	X(wrongpass, "WRONGPASS") X(wrongtype, "WRONGTYPE") X(crossslot, "CROSSSLOT") X(unknown_command, "ERR unknown command") \
	X(other, "ERR")
/* clang-format on */
#define REDIS_ERROR_ENUM(name, prefix) REDIS_ERROR_##name,
enum redis_error { REDIS_ERRORS(REDIS_ERROR_ENUM) REDIS_ERROR_COUNT };
#undef REDIS_ERROR_ENUM

/* What an error means: the columns of the table. */
enum redis_advice {
	REDIS_GIVE_UP,  /* the same call would fail again: ours or the operator's mistake */
	REDIS_LOAD,     /* the script is not there: load it, then call again */
	REDIS_TRY_SOON, /* it did not run; some milliseconds later it may */
	REDIS_TRY_OTHER, /* it did not run; another node is asked (Sentinel, Cluster), or this one when it was found again */
};
enum redis_health {
	REDIS_HEALTHY,   /* Redis itself is well */
	REDIS_AWAY,      /* as good as no Redis: what `on_failure` says applies */
	REDIS_READ_ONLY, /* it answers, but takes no writes: the same for what this program does */
	REDIS_FORBIDDEN, /* up, but not for us: credentials or permissions */
};
struct redis_error_row {
	const char *name, *prefix;
	enum redis_advice call;
	bool drop; /* the connection is cut and the server looked for again */
	enum redis_health mode;
};
const struct redis_error_row *redis_error_row(enum redis_error);
enum redis_error
redis_error_of(struct slice text); /* by the first words of Redis' text; other when they are in no row */

struct redis_answer {
	enum redis_result result;
	enum redis_error error;         /* none unless result is REDIS_ERROR */
	const struct redisReply *reply; /* valid inside the callback alone; NULL unless Redis answered */
	int64_t took;                   /* microseconds from redis_send to here */
};

typedef void redis_done(struct redis_call *, void *arg, const struct redis_answer *);

/* Starts connecting at once. `log` (may be NULL) gets one line per change of state, never one per call. */
struct redis *redis_new(struct loop *, const struct redis_options *, struct log *);
void redis_free(struct redis **); /* pending calls are answered REDIS_UNSENT or REDIS_LOST first, from here */
bool redis_is_up(const struct redis *);
/* Why it is down; "": it is up, or was not tried yet. Valid until the loop goes on. */
const char *redis_reason(const struct redis *);
bool redis_is_refused(const struct redis *); /* it is down, and the reason is what a Redis answered */
bool redis_is_away(
	const struct redis
		*); /* no call is waited for; not the opposite of up: at first, and for a moment, it is neither */
/* At each change between up and down, from the loop. One listener. */
void redis_on_change(struct redis *, void (*changed)(void *arg, bool up), void *arg);
/* Hears what is published on the channels that this connection has subscribed to, from the loop. SUBSCRIBE is a call like any other, of one channel
 * each, for Redis answers each channel; a new connection has to subscribe anew. Messages and answers keep the order in which Redis wrote them: when a
 * call is answered, every message before its answer has been heard. `payload` is valid inside `message` alone, and NULL if there is none; `message`
 * may free the connection. One listener; set before the first SUBSCRIBE, or a message is taken for an answer.
 * Disadvantage: over RESP2 a message is known by its first word alone, so who listens makes no call whose answer is an array that begins with "message". */
void redis_on_message(struct redis *,
		      void (*message)(void *arg, struct slice channel, const struct redisReply *payload), void *arg);

/* Sends one command. The arguments are copied. `done` runs exactly once, never inside this call, unless cancelled. */
struct redis_call *redis_send(struct redis *, int64_t timeout, redis_done *done, void *arg, size_t count,
			      const struct slice *arguments);
/* Inside `done` alone: sends the same command once more, within what is left of the first one's time. */
struct redis_call *redis_repeat(struct redis_call *, redis_done *done, void *arg);
void redis_cancel(struct redis_call **); /* done never runs; the command may run all the same. NULL inside is fine */

/* Replies as plain values; false when the reply has another type. Integers are also read from strings of digits. */
bool redis_reply_int(const struct redisReply *, int64_t *) MUST_CHECK;
bool redis_reply_text(const struct redisReply *, struct slice *) MUST_CHECK;
bool redis_reply_error(const struct redisReply *,
		       struct slice *text) MUST_CHECK; /* what Redis says is wrong, for a log */
size_t redis_reply_count(const struct redisReply *);   /* 0 unless an array */
const struct redisReply *redis_reply_at(const struct redisReply *, size_t index); /* NULL unless there */

struct redis_counts {
	uint64_t calls, errors[REDIS_ERROR_COUNT], timed_out, lost, unsent, connects;
};
const struct redis_counts *redis_counts(const struct redis *);

#endif

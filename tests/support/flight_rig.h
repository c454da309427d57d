/* A fleet in one process, for the tests of lib/flight: workers of it are `flights` objects on one loop, each with a connection of its own to one real Redis
 * and a listener, as a worker of the program has them; seats record what they are told and what they are given.
 *
 * Time is real, and nothing waits for it but what must: with RIG_PATIENT a lease or a beat is longer than any test, so that what comes, comes by events;
 * with RIG_HASTY they are short. */
#ifndef SLUICE_TESTS_FLIGHT_RIG_H
#define SLUICE_TESTS_FLIGHT_RIG_H

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/flight.h"
#include "lib/loop.h"
#include "lib/redis.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_server.h"

enum { RIG_WORKERS = 4, RIG_SEATS = 8, RIG_MOST = 64 * 1024 };

struct flight_rig;

struct rig_worker {
	struct flight_rig *rig;
	struct redis *redis;
	struct subscriber *listener;
	struct flights *flights; /* NULL: it has died */
	struct fault_proxy *proxy;
	char channel[32];
	bool deaf;      /* it hears no hints */
	unsigned hints; /* heard */
	unsigned invalidations;
	unsigned answers; /* of Redis, to the flights' calls */
};

/* A place for a request. Zeroed, then flight_rig_join. It takes what it is given at once, unless `slow`. */
struct rig_seat {
	struct rig_worker *worker;
	struct flight_seat *seat;
	bool slow;
	void (*on_told)(struct rig_seat *); /* may leave, join anew, end the flight */
	void (*on_more)(struct rig_seat *);
	void *arg;

	unsigned told, more, alone; /* how often */
	enum flight_verdict verdict;
	struct flight_told last; /* without what was borrowed */
	bool has_answer;
	char note[64], head[64];
	struct buf got; /* bytes; of the stored answer, too */
	bool has_head;
	enum flight_state state;
};

struct flight_rig {
	struct loop *loop;
	struct redis_server *server;
	struct rig_worker worker[RIG_WORKERS];
	size_t workers;
	struct rig_seat seats[RIG_SEATS]; /* for who wants no others */
	_Atomic int64_t held;
	int64_t began;
	int descriptors;
};

enum rig_pace { RIG_PATIENT, RIG_HASTY };
struct flight_rig_options {
	size_t workers;
	enum rig_pace pace;
	size_t most;                  /* 0: RIG_MOST */
	size_t tail;                  /* 0: most */
	int64_t ceiling;              /* 0: none */
	int64_t window;               /* 0: none */
	bool proxied;                 /* each worker's calls go through a fault proxy */
	bool no_redis;                /* it is not there at first: flight_rig_redis_returns */
	const char *const *arguments; /* redis-server's */
};
#define RIG_HASTY_LEASE (300 * CLOCK_MILLISECOND)

/* Returns when every worker is up and tracked. */
void flight_rig_begin(struct flight_rig *, const struct flight_rig_options *);
/* Its own seats leave; all others must have left. Fails the test when memory of a record is still counted, a key has no expiry, or a descriptor is left open. */
void flight_rig_end(struct flight_rig *);
void flight_rig_turn(struct flight_rig *); /* the loop's; fails the test when it takes longer than a minute in all */
void flight_rig_until_up(struct flight_rig *, bool up); /* every worker that lives */
void flight_rig_until_quiet(struct flight_rig *);       /* nothing that has ended is still to be told to Redis */
/* As SIGKILL would: not one more word of it gets out. Its seats are the caller's to leave, before. */
void flight_rig_cut_off(struct rig_worker *);
void flight_rig_bury(struct rig_worker *);
unsigned flight_rig_leading(const struct flight_rig *); /* flights that workers lead, in all */
/* Of a key: the name of one of its keys in Redis ("}:f", "}:v"); good until the next call. */
const char *flight_rig_key(unsigned number, const char *kind);

#define RIG_UNTIL(rig, condition)                                                                                      \
	do                                                                                                             \
		flight_rig_turn(rig);                                                                                  \
	while (!(condition))

/* An ask for the key of that number, which may do everything, of group 1. */
struct flight_ask flight_rig_ask(unsigned number);
void flight_rig_join(struct rig_seat *, struct rig_worker *, const struct flight_ask *);
/* Joins for the key of that number, and waits until told. */
enum flight_verdict flight_rig_seat(struct rig_seat *, struct rig_worker *, unsigned number);
void flight_rig_take(struct rig_seat *, size_t most); /* for the slow: the head, and so many bytes */
void flight_rig_leave(struct rig_seat *);             /* frees what it has got; the rest of the record stays */
bool flight_rig_over(const struct rig_seat *);        /* it follows no more: whole, failed, or it never did */
/* `text` is all that the seat has got. */
bool flight_rig_got(const struct rig_seat *, const char *text);

/* Turn the loop until the seat was told so often, is over, has got all of this; fail the test when what it was told, or how it is over, is not this. */
void flight_rig_until_told(const struct rig_seat *, unsigned times, enum flight_verdict);
void flight_rig_until_over(const struct rig_seat *, enum flight_state);
void flight_rig_until_got(const struct rig_seat *, const char *text);

void flight_rig_write(struct rig_seat *, const char *text);
void flight_rig_done(struct rig_seat *,
		     bool store); /* it is whole; fresh for a minute, stale for two, good for errors for three */
void flight_rig_fail(struct rig_seat *, enum flight_outcome, const char *note);

#endif

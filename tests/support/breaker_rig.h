/* A fleet in one process, for the tests of lib/breaker: workers of it are `breakers` objects on one loop, each with a connection of its own to one real Redis
 * and a listener, as a worker of the program has them. All hold the breaker "up". Time is real; what is waited for are events. */
#ifndef SLUICE_TESTS_BREAKER_RIG_H
#define SLUICE_TESTS_BREAKER_RIG_H

#include "lib/breaker.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/redis.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_server.h"

enum { RIG_WORKERS = 4, RIG_PROBES = 8 };
#define RIG_LASTS (50 * CLOCK_SECOND) /* longer than any test waits for a ticket to run out */

struct breaker_rig;

struct rig_worker {
	struct breaker_rig *rig;
	struct redis *redis;
	struct subscriber *listener;
	struct breakers *breakers; /* NULL: it has died */
	struct breaker *breaker;
	struct fault_proxy *proxy;
	char channel[32];
	bool deaf;        /* it hears no words of the fleet */
	bool any;         /* other breakers than "up" are told of, too */
	unsigned changes; /* told */
	unsigned tripped;
	unsigned answers[BREAKER_SCRIPTS]; /* of Redis */
};

struct rig_probe {
	struct rig_worker *worker;
	struct probe *probe;
	bool told, granted;
};

struct breaker_rig {
	struct loop *loop;
	struct redis_server *server;
	struct log *log;
	int log_descriptor;
	struct rig_worker worker[RIG_WORKERS];
	size_t workers;
	struct rig_probe probe[RIG_PROBES];
	int64_t began;
	int descriptors;
};

struct breaker_rig_options {
	size_t workers;
	struct breaker_rule rule;
	int64_t timeout, flush; /* 0: long; 5 ms */
	bool proxied;           /* each worker's calls go through a fault proxy */
};
/* What opens at the third failure in a row, or half of ten, for `open_for`. */
struct breaker_rule breaker_rig_rule(int64_t open_for, int64_t probes);

/* Returns when every worker is up, listens, and has read its breaker. */
void breaker_rig_begin(struct breaker_rig *, const struct breaker_rig_options *);
/* Probes that are left are ended. Fails the test when a ticket is left in Redis, a key has no expiry, or a descriptor is left open. */
void breaker_rig_end(struct breaker_rig *);
void breaker_rig_turn(struct breaker_rig *); /* the loop's; fails the test when it takes longer than a minute in all */
void breaker_rig_bury(
	struct rig_worker *); /* as SIGKILL would: not one more word of it gets out; its probes are forgotten */

#define RIG_UNTIL(rig, condition)                                                                                      \
	do                                                                                                             \
		breaker_rig_turn(rig);                                                                                 \
	while (!(condition))

struct breaker_view breaker_rig_look(const struct rig_worker *);
enum breaker_state breaker_rig_state(const struct rig_worker *);
/* All workers that live, in this state. */
void breaker_rig_until_all(struct breaker_rig *, enum breaker_state);
void breaker_rig_fail(struct rig_worker *, unsigned times); /* notes failures */
/* Asks; false: there is no place for it in the rig. */
struct rig_probe *breaker_rig_ask(struct rig_worker *);
void breaker_rig_answer(struct rig_probe *);             /* until it is answered */
int64_t breaker_rig_tickets(const struct breaker_rig *); /* in Redis, without what only says that one was given back */
unsigned breaker_rig_held(const struct breaker_rig *);   /* granted, and not ended, of all workers that live */
void breaker_rig_until_returned(struct breaker_rig *);
int breaker_rig_logged(const struct breaker_rig *, const char *words);

#endif

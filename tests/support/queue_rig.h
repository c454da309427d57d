/* Workers of a fleet, each with its limiter and its queue as svc/worker has them, on one loop and against a real Redis, to which each speaks through a proxy that spoils it. */
#ifndef SLUICE_TESTS_QUEUE_RIG_H
#define SLUICE_TESTS_QUEUE_RIG_H

#include "lib/clock.h"
#include "lib/limiter.h"
#include "lib/loop.h"
#include "lib/queue.h"
#include "lib/subscriber.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_server.h"

enum { QUEUE_RIG_WORKERS = 3 };

struct queue_rig_worker {
	struct redis *redis;
	struct subscriber *listener;
	struct fault_proxy *proxy;
	struct limiter *limiter;
	struct queue *queue;
	char channel[24];
	bool deaf; /* it does not hear what it is told */
	unsigned hints;
};

struct queue_rig_options {
	int workers;                  /* QUEUE_RIG_WORKERS at most */
	unsigned of_an_instance;      /* limiter_options.workers */
	int64_t timeout, lease, beat; /* microseconds */
};

/* Owner: the test, from begin to end. */
struct queue_rig {
	struct loop *loop;
	struct redis_server *server;
	struct queue_rig_worker worker[QUEUE_RIG_WORKERS];
	int workers;
	int descriptors; /* of this process, before */
};

void queue_rig_begin(struct queue_rig *, const struct queue_rig_options *);
void queue_rig_end(
	struct queue_rig *); /* all leases are settled by then; fails the test when a descriptor is left open */

/* One that has been told to wait does so, in the line of its lease. */
struct queue_place *queue_rig_wait(struct queue_rig_worker *, const struct lease *, const struct line_rule *, enum lane,
				   int64_t turn, int64_t most, queue_done *, void *arg);

#endif

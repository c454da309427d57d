/* Pools of several loops: each side is a loop on a thread of its own with a pool, told by the test when to make its calls. */
#ifndef SLUICE_TESTS_POOL_SIDE_H
#define SLUICE_TESTS_POOL_SIDE_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/pool_rig.h"

enum { SIDE_CALLS_MOST = 400 };

/* The test's; large. */
struct side {
	pthread_t thread;
	struct rig rig;
	struct pool_request request;
	unsigned count;       /* calls that it makes at once, when it begins */
	atomic_bool begin;    /* set by the test */
	atomic_uint finished; /* of them, done well */
	atomic_uint failed;
	atomic_uint bound; /* set by the test: connections there may be from now on; 0: as before */
	atomic_bool over;  /* set by the test: it may end */
	struct pool_stats stats;
	struct rig_call calls[SIDE_CALLS_MOST];
};

/* All of one name, owner and group. Its options and its request may be changed before side_start. */
void side_open(struct side *, struct bad_server *, struct pool_shares *, unsigned most, unsigned count);
void side_start(struct side *);
void side_end(struct side *); /* `stats` are what it had at the end */
unsigned side_finished(struct side *,
		       unsigned count); /* of so many sides together; none of their calls may have failed */

/* What another thread does is looked at; the test dies of SIGALRM after a minute without success. */
#define SIDE_UNTIL(condition)                                                                                          \
	do {                                                                                                           \
		rig_watch();                                                                                           \
		while (!(condition))                                                                                   \
			poll(NULL, 0, 1);                                                                              \
	} while (0)

#endif

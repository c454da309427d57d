/* What the tests of the pool share: a loop, a pool towards one origin, and calls that remember all that they are told. */
#ifndef SLUICE_TESTS_POOL_RIG_H
#define SLUICE_TESTS_POOL_RIG_H

#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/pool.h"
#include "tests/support/bad_server.h"

struct rig {
	struct loop *loop;
	struct pool *pool;
	struct pool_options options; /* rig_options fills it; change it before rig_open */
	int base_descriptors;
};

enum rig_moment { RIG_NEVER, RIG_IN_HEAD, RIG_IN_BODY, RIG_IN_DONE };

/* One call; owned by the test, zeroed before rig_call. */
struct rig_call {
	struct rig *rig;
	struct transfer *transfer;
	enum rig_moment cancel_at, free_pool_at;
	uint64_t pause_after;            /* says "no more" once, after so many bytes; 0: never */
	void (*then)(struct rig_call *); /* runs in done */
	int *order;                      /* counts the calls that are done, over several of them */

	unsigned heads, dones;
	int status, place;
	bool paused;
	uint64_t received;
	char fields[4096], body[4096]; /* the first bytes, NUL-terminated */
	bool in_pattern;               /* every byte so far was bad_server's filler */
	struct pool_result result;
};

void rig_options(struct rig *, const char *origin);
void rig_open(struct rig *);
/* From now on. A test whose deadline must pass sets it behind the hand-shakes that it needs: they take as long as the machine does. */
void rig_connect_within(struct rig *, int64_t microseconds);
void rig_close(struct rig *); /* and sees to it that no descriptor is left */
/* The two for a pool of the usual options towards this server, and both at their end. */
void rig_start(struct rig *, struct bad_server *);
void rig_stop(struct rig *, struct bad_server *);

struct pool_request rig_request(const char *method, const char *target); /* with generous deadlines */
void rig_call(struct rig *, struct rig_call *, const struct pool_request *);
void rig_get(struct rig *, struct rig_call *, const char *target);
void rig_post(struct rig *, struct rig_call *, const char *target, struct slice *body);

/* Turns the loop until it holds; the test dies of SIGALRM after a minute without success. */
#define RIG_UNTIL(rig, condition)                                                                                      \
	do {                                                                                                           \
		rig_watch();                                                                                           \
		while (!(condition))                                                                                   \
			rig_turn(rig);                                                                                 \
	} while (0)
void rig_watch(void);
void rig_turn(struct rig *);
void rig_for(struct rig *, int64_t microseconds); /* turns the loop for so long: for what must not happen */
enum pool_outcome rig_finish(struct rig_call *);  /* until done; its outcome */

struct pool_stats rig_stats(const struct rig *);
struct pool_shared_stats rig_shared(const struct rig *);

/* Time in the test's hands: rig_stop_clock at its beginning, rig_let_clock_run as its teardown, so that it runs again behind a test that failed too. */
void rig_stop_clock(void);
int rig_let_clock_run(void **state);
void rig_pass(struct rig *, int seconds);            /* one after the other, as the pool would see them */
struct pool_request rig_lasting(const char *target); /* a GET without a deadline to speak of */
void rig_quick(struct rig *, struct rig_call *);     /* such a call, done well */

#endif

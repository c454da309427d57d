/* Three workers of a fleet, each with its limiter, on one loop and against a real Redis that goes away and comes back; for the tests of lib/limiter without it. */
#ifndef SLUICE_TESTS_AWAY_RIG_H
#define SLUICE_TESTS_AWAY_RIG_H

#include "lib/limiter.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_rig.h"

enum { AWAY_WORKERS = 3 };
#define AWAY_LEASE (10 * CLOCK_SECOND)

struct worker {
	struct redis *redis;
	struct limiter *limiter;
	int changes, turns;         /* of the mode; how often one that waits was called */
	char called[96];            /* whom last */
	int heard[LIMITER_SCRIPTS]; /* answers of Redis */
	const char *why;
};
struct attempt {
	struct lease *lease;
	struct limiter_answer answer;
	int count;
	char id[96]; /* as of the last answer */
};

/* Owner: the test, from begin to end. */
struct away {
	struct redis_rig rig;
	struct fault_proxy *proxy;
	struct worker worker[AWAY_WORKERS];
	struct log *log; /* into a file in memory */
	int log_file;
	unsigned ids;
	void (*call)(struct slice id); /* told of every turn, unless NULL */
	struct lease *open[256];       /* not settled: end does it for a test that failed */
};
extern struct away away;

int away_begin(void **state);               /* all know of all */
int away_begin_without_redis(void **state); /* they have never heard of each other */
int away_begin_behind_proxy(void **state);  /* the same, behind away.proxy */
int away_end(void **state);

void away_until(bool (*condition)(void *), void *arg);
void away_let_pass(int64_t time);
int away_logged(const char *event); /* so many lines of it */
bool away_is_alone(void *worker);
bool away_is_back(void *worker);
bool away_has_settled(void *worker);
void away_until_all(bool (*condition)(void *)); /* of the workers */
void away_lose_redis(void);                     /* until all know it */
void away_get_redis_back(void);                 /* likewise; it is empty */

/* So slow that nothing drains while a test runs: a token is 864 s. */
extern const struct limits away_slow;
int64_t away_slow_used(const char *scope); /* tokens, as that bucket says; the tenant's is t:acme */

/* Of the tenant acme; settle gives what it really took. */
void away_start(struct worker *, struct attempt *, const struct limits *, int64_t tokens, bool share);
enum limiter_verdict away_ask(struct worker *, struct attempt *, const struct limits *, int64_t tokens);
void away_settle(struct attempt *, int64_t tokens);
/* For a model and its upstream, either of which may have no limits (NULL): it waits there where it may. */
struct away_call {
	const struct limits *model, *upstream;
	int64_t tokens, depth, most; /* of the line: 0 is 100; 0 is 10 s, -1 nothing */
	bool unshared;               /* without Redis it is unavailable */
};
enum limiter_verdict away_line(struct worker *, struct attempt *, const struct away_call *);
enum limiter_verdict away_again(struct attempt *, int64_t most);

#endif

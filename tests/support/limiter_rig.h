/* The limiter's scripts on a real Redis, called one at a time and with the time given: what the tests of the scripts
 * share. There is one such Redis in a test program; it lives as long as its group of tests. */
#ifndef SLUICE_TESTS_LIMITER_RIG_H
#define SLUICE_TESTS_LIMITER_RIG_H

#include "lib/limiter_wire.h"
#include "tests/support/redis_server.h"

#define RIG_LEASE INT64_C(10000000)
#define RIG_HOLD  INT64_C(1000000)
#define RIG_START INT64_C(1795000000000000) /* November 2026, in Unix microseconds */

/* For cmocka. begin and end enclose a group: a Redis with the scripts in it. clean and leave enclose each test: at first
 * nothing is there, memory is without limit and no call counted; at last no key may be without an expiry. */
int limiter_rig_begin(void **state);
int limiter_rig_end(void **state);
int limiter_rig_clean(void **state);
int limiter_rig_leave(void **state);

struct redis_server *limiter_rig_server(void);
void limiter_rig_flush(void);   /* every key goes */
void limiter_rig_restart(void); /* Redis comes back empty, scripts and all */

void limiter_rig_admit(const struct limiter_ask *, int64_t now, struct limiter_answer *, int64_t *reserved);
bool limiter_rig_settle(const struct limiter_ask *, const struct limiter_used *, const struct limiter_wire_past *,
			int64_t now, int64_t forgiven[LIMIT_COUNT]);
int64_t limiter_rig_renew(const char *key, const struct slice *id, size_t count, int64_t now);
void limiter_rig_peek(enum limiter_scope, struct slice name, const struct limits *, int64_t now,
		      struct limiter_left left[LIMIT_COUNT]);

/* Which worker calls the scripts from now on, by its channel; "": one that knows of no lines, as at first. Borrowed. */
void limiter_rig_as(const char *channel);
/* The beat of that worker in the line of the scope; the numbers of the reply, and how many. */
size_t limiter_rig_beat(const struct limiter_ask *, enum limiter_scope, int64_t now, int64_t number[static 64]);

/* An ask of one request in each scope whose limits are not NULL: tenant "acme", model "pro", upstream "gem". Borrows
 * its arguments. */
struct limiter_ask limiter_rig_ask(const char *id, const struct limits *tenant, const struct limits *model,
				   const struct limits *upstream, int64_t tokens);
/* One try; true when admitted. Fills *answer. */
bool limiter_rig_try(const struct limiter_ask *, int64_t now, struct limiter_answer *answer);

/* A hash over every key and its content; expiries are left out. */
uint64_t limiter_rig_digest(void);
/* Ends the test when any key has no expiry. */
void limiter_rig_check_expiries(void);
/* How many commands the scripts have called since the last look. */
int64_t limiter_rig_calls(void);

#endif

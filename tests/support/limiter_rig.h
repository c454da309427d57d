/* The limiter's scripts on a real Redis, called one at a time and with the time given: what the tests of the scripts
 * share. */
#ifndef SLUICE_TESTS_LIMITER_RIG_H
#define SLUICE_TESTS_LIMITER_RIG_H

#include "lib/limiter_wire.h"
#include "tests/support/redis_server.h"

#define RIG_LEASE INT64_C(10000000)
#define RIG_HOLD  INT64_C(1000000)
#define RIG_START INT64_C(1795000000000000) /* November 2026, in Unix microseconds */

struct limiter_rig;

struct limiter_rig *limiter_rig_new(void);
void limiter_rig_free(struct limiter_rig **);
struct redis_server *limiter_rig_server(struct limiter_rig *);
void limiter_rig_restart(struct limiter_rig *); /* Redis comes back empty, scripts and all */

void limiter_rig_admit(struct limiter_rig *, const struct limiter_ask *, int64_t now, struct limiter_answer *,
		       int64_t *reserved);
bool limiter_rig_settle(struct limiter_rig *, const struct limiter_ask *, const struct limiter_used *,
			const struct limiter_wire_past *, int64_t now, int64_t forgiven[LIMIT_COUNT]);
int64_t limiter_rig_renew(struct limiter_rig *, const char *key, const struct slice *id, size_t count, int64_t now);
void limiter_rig_peek(struct limiter_rig *, enum limiter_scope, struct slice name, const struct limits *, int64_t now,
		      struct limiter_left left[LIMIT_COUNT]);

/* An ask of one request in each scope whose limits are not NULL: tenant "acme", model "pro", upstream "gem". Borrows
 * its arguments. */
struct limiter_ask limiter_rig_ask(const char *id, const struct limits *tenant, const struct limits *model,
				   const struct limits *upstream, int64_t tokens);
/* One try; true when admitted. Fills *answer. */
bool limiter_rig_try(struct limiter_rig *, const struct limiter_ask *, int64_t now, struct limiter_answer *answer);

/* A hash over every key and its content; expiries are left out. */
uint64_t limiter_rig_digest(struct limiter_rig *);
/* Ends the test when any key has no expiry. */
void limiter_rig_check_expiries(struct limiter_rig *);
/* How many commands the scripts have called since the last look. */
int64_t limiter_rig_calls(struct limiter_rig *);

#endif

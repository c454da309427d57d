/* What most tests of lib/redis and lib/script begin with: a loop, a real server, a connection, and a place for answers. */
#ifndef SLUICE_TESTS_REDIS_RIG_H
#define SLUICE_TESTS_REDIS_RIG_H

#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/redis.h"
#include "tests/support/redis_server.h"

#define RIG_TIMEOUT (10 * CLOCK_SECOND) /* of a call that is meant to be answered */

struct redis_rig {
	struct loop *loop;
	struct redis_server *server;
	struct redis *redis;
	int ups, downs;  /* changes seen */
	int descriptors; /* of this process, before */
};

/* Copied from the answer, for it is gone after the callback. */
struct rig_answer {
	struct redis_rig *rig;
	struct redis_call *call;
	int count; /* how often done ran */
	enum redis_result result;
	enum redis_error error;
	bool has_reply;
	int64_t number, took;
	char text[200];
};

void redis_rig_begin(struct redis_rig *, const struct redis_server_options *);
void redis_rig_end(struct redis_rig *); /* fails the test when a descriptor is left open */
void redis_rig_connect(
	struct redis_rig *,
	const char *url); /* a connection to another place than the server's socket, of endless patience */
void redis_rig_connect_impatient(struct redis_rig *, const char *url); /* with the patience that a URL comes with */
void redis_rig_until_up(struct redis_rig *);
void redis_rig_until_down(struct redis_rig *);
void redis_rig_until(struct redis_rig *, const int *counter, int least);

void redis_rig_done(struct redis_call *, void *rig_answer, const struct redis_answer *);
/* The command's words are cut at blanks. */
void redis_rig_send(struct redis_rig *, struct rig_answer *, int64_t timeout, const char *words);
/* For a call that must be written before its time is over, however slow the machine is: hold stops the clock, let_pass
 * has written what was sent since, and moves the clock. clock_test_release, when what was waited for is there. */
void redis_rig_hold(void);
void redis_rig_let_pass(struct redis_rig *, int64_t time);
/* Sends, and turns the loop until the answer is there. */
void redis_rig_ask(struct redis_rig *, struct rig_answer *, const char *words);

#endif

/* The flight's scripts on a real Redis, called one at a time, with the time given: what the tests of the scripts share. There is one such Redis in a test
 * program; it lives as long as its group of tests. Everything is about one flight; its keys are FLIGHT_KEY, STORED_KEY, STREAM_KEY and the fence, PURGED_KEY.
 *
 * A reply is given as text: its values parted by blanks, an array within it in brackets, the id of a stream's entry as #. It is good until the next call. */
#ifndef SLUICE_TESTS_FLIGHT_SCRIPT_RIG_H
#define SLUICE_TESTS_FLIGHT_SCRIPT_RIG_H

#include "lib/base.h"
#include "lib/clock.h"
#include "tests/support/redis_server.h"

#define RIG_NAME     "k" /* the flight's, for hints */
#define FLIGHT_KEY   "sluice:{c:k}:f"
#define STORED_KEY   "sluice:{c:k}:v"
#define STREAM_KEY   "sluice:{c:k}:s:"
#define PURGED_KEY   "sluice:{c}:p"
#define RIG_LEASE    (3 * CLOCK_SECOND)
#define RIG_PRESENCE (3 * CLOCK_SECOND)

/* For cmocka. begin and end enclose a group: a Redis with the scripts in it. clean and leave enclose each test: at first nothing is there, memory is without
 * limit and no call counted; at last no key may be without an expiry. */
int flight_script_begin(void **state);
int flight_script_end(void **state);
int flight_script_clean(void **state);
int flight_script_leave(void **state);

struct redis_server *flight_script_server(void);

/* What is not said is 0 or "". */
struct rig_join {
	int64_t now; /* 0: Redis' clock */
	const char *channel, *wishes, *oldest;
	int64_t slack;
	const char *purges[4]; /* until NULL */
};
const char *flight_script_join(const struct rig_join *);

struct rig_append {
	int64_t now, fence;
	bool alone, close;
	const char *head;
	int64_t offset;
	const char *bytes, *end, *after;
	int64_t holds;
};
const char *flight_script_append(const struct rig_append *);

struct rig_finish {
	int64_t now, fence;
	const char *head; /* for readers; the stored one is "H" */
	int64_t offset;
	const char *bytes, *end, *body;
	int64_t fresh, stale, error, late;
};
const char *flight_script_finish(const struct rig_finish *);

struct rig_follow {
	int64_t now, fence;
	const char *channel;
	int64_t presence;
	const char *last;
	int64_t count; /* 0: 100 */
};
const char *flight_script_follow(const struct rig_follow *);

/* The id of the index-th entry; good until the next call. */
const char *flight_script_id(int64_t fence, size_t index);

/* Any other command, blanks between its words; its reply as text. */
const char *flight_script_look(const char *command);

/* A hash over every key and its content; expiries are left out. */
uint64_t flight_script_digest(void);
/* How many commands the scripts have called since the last look. */
int64_t flight_script_calls(void);
/* What was published since the last look, on any channel: "channel text" each, parted by blanks. */
const char *flight_script_hints(void);

#endif

/* The breaker's scripts on a real Redis, called one at a time, with the time given: what the tests of the scripts share. There is one such Redis in a test
 * program; it lives as long as its group of tests. Everything is about one breaker, whose name holds bytes that need care. */
#ifndef SLUICE_TESTS_BREAKER_SCRIPT_RIG_H
#define SLUICE_TESTS_BREAKER_SCRIPT_RIG_H

#include "lib/breaker_wire.h"
#include "lib/clock.h"
#include "tests/support/redis_server.h"

#define RIG_NAME  "odd }{ \n name:%d"
#define RIG_STATE "sluice:{b:" RIG_NAME "}:s"
#define RIG_START (INT64_C(1750000000) * CLOCK_SECOND)

/* For cmocka. begin and end enclose a group: a Redis with the scripts in it. clean and leave enclose each test: at first nothing is there and no call
 * counted; at last no key may be without an expiry. */
int breaker_script_begin(void **state);
int breaker_script_end(void **state);
int breaker_script_clean(void **state);
int breaker_script_leave(void **state);

/* The rule of most tests: half of ten within 10 s, five not reached in a row; open for 30 s, 100 s at most; two probes. */
extern const struct breaker_rule breaker_script_rule;

struct redis_server *breaker_script_server(void);
/* A key of the breaker: 's', 'p' or 'w'; good until the next call. What redis_server_int says to "COMMAND key more". */
int64_t breaker_script_int(const char *command, char key, const char *more);

struct rig_report {
	int64_t there, pauses;
	struct breaker_standing standing;
};
/* `now` 0: Redis' clock. A call that is answered an error ends the test. */
struct rig_report breaker_script_report(int64_t now, const struct breaker_rule *, const struct breaker_report *);
/* The pauses of the last report: "model=left" each, by model, parted by blanks; good until the next call. */
const char *breaker_script_pauses(void);
enum breaker_verdict breaker_script_probe(int64_t now, const char *ticket, int64_t lasts, int64_t probes);
/* Whether it extended; *stands becomes how long it stands. */
bool breaker_script_pause(int64_t now, const char *model, int64_t length, int64_t *stands);
struct breaker_standing breaker_script_force(int64_t now, enum breaker_force, const struct breaker_rule *);

/* How many commands the scripts have called since the last look. */
int64_t breaker_script_calls(void);
/* Microseconds of Redis that a script took, on average since the statistics were reset. */
double breaker_script_time(void);
/* What was published since the last look; "" is nothing; good until the next call. The last one alone, when there are several. */
struct slice breaker_script_heard(int *count);
/* Somebody listens to this channel; false: no more. */
void breaker_script_listen(const char *channel, bool on);

#endif

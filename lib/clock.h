/* The only reader of time. All times are signed 64-bit microseconds.
 *
 * Tests own the clock: once clock_test_set has been called, both clocks stand still until they are moved. That is this
 * program's one piece of mutable global state; production code never calls it. */
#ifndef SLUICE_CLOCK_H
#define SLUICE_CLOCK_H

#include <stdint.h>

#define CLOCK_MILLISECOND INT64_C(1000)
#define CLOCK_SECOND      INT64_C(1000000)
#define CLOCK_MINUTE      (60 * CLOCK_SECOND)
#define CLOCK_HOUR        (60 * CLOCK_MINUTE)
#define CLOCK_DAY         (24 * CLOCK_HOUR)

/* Monotonic; starts anywhere; counts time asleep (CLOCK_BOOTTIME), so that a lease knows that the machine was suspended. */
int64_t clock_now(void);

/* Since 1970-01-01 UTC; may jump. Only for what is shown to people, never for a deadline. */
int64_t clock_unix(void);

/* For tests alone: stops both clocks at these values; clock_test_release lets them run again. */
void clock_test_set(int64_t now, int64_t unix_time);
void clock_test_advance(int64_t by);
void clock_test_release(void);

#endif

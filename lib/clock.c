/* The two clocks of the kernel, behind one switch for tests. The switch is atomic, because tests move the clock under
 * running threads; relaxed order is enough, since nothing else is published through it. */
#include "lib/clock.h"

#include "lib/base.h"

#include <stdatomic.h>
#include <time.h>

static atomic_bool stopped;
static _Atomic int64_t stopped_now, stopped_unix;

static int64_t read_clock(clockid_t id)
{
	struct timespec t;
	int result = clock_gettime(id, &t);
	CHECK(result == 0);
	return (int64_t)t.tv_sec * CLOCK_SECOND + t.tv_nsec / 1000;
}

int64_t clock_now(void)
{
	if (atomic_load_explicit(&stopped, memory_order_relaxed))
		return atomic_load_explicit(&stopped_now, memory_order_relaxed);
	return read_clock(CLOCK_BOOTTIME);
}

int64_t clock_unix(void)
{
	if (atomic_load_explicit(&stopped, memory_order_relaxed))
		return atomic_load_explicit(&stopped_unix, memory_order_relaxed);
	return read_clock(CLOCK_REALTIME);
}

void clock_test_set(int64_t now, int64_t unix_time)
{
	atomic_store(&stopped_now, now);
	atomic_store(&stopped_unix, unix_time);
	atomic_store(&stopped, true);
}

void clock_test_advance(int64_t by)
{
	CHECK(atomic_load(&stopped));
	atomic_fetch_add(&stopped_now, by);
	atomic_fetch_add(&stopped_unix, by);
}

void clock_test_release(void)
{
	atomic_store(&stopped, false);
}

/* A wall clock that a test can set, for any program: loaded before its libraries (LD_PRELOAD), it adds to what CLOCK_REALTIME, gettimeofday and time tell the
 * microseconds that stand, as an int64_t, in the file that the environment's CLOCK_SHIFT names. Written anew they are in force at once. Clocks that nobody sets
 * (CLOCK_MONOTONIC, CLOCK_BOOTTIME) are as they are. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CLOCK_SHIFT");
	int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		fprintf(stderr, "clock-shift: CLOCK_SHIFT names no file that can be read\n");
		_exit(2);
	}
	close(fd);
	shift = at;
}

/* Also before `begin`: other libraries may ask first. */
static int64_t shifted(clockid_t clock)
{
	struct timespec now;
	syscall(SYS_clock_gettime, clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + (shift == NULL ? 0 : *shift * 1000);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
		return (int)syscall(SYS_clock_gettime, clock, now);
	int64_t nanoseconds = shifted(clock);
	now->tv_sec = nanoseconds / 1000000000;
	now->tv_nsec = nanoseconds % 1000000000;
	return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	int64_t nanoseconds = shifted(CLOCK_REALTIME);
	(void)zone;
	now->tv_sec = nanoseconds / 1000000000;
	now->tv_usec = nanoseconds % 1000000000 / 1000;
	return 0;
}

time_t time(time_t *now)
{
	time_t seconds = shifted(CLOCK_REALTIME_COARSE) / 1000000000;
	if (now != NULL)
		*now = seconds;
	return seconds;
}

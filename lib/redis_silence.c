#include "lib/redis_silence.h"

enum { MOST_TIMEOUTS = 3 };

int64_t redis_silence_left(const struct redis_silence *s, int64_t now)
{
	if (s->most == 0 || s->since == 0)
		return INT64_MAX;
	int64_t left = s->since + s->most - now;
	return left > 0 ? left : 0;
}

bool redis_silence_timed_out(struct redis_silence *s, size_t count)
{
	s->timeouts += (unsigned)(count < MOST_TIMEOUTS ? count : MOST_TIMEOUTS);
	return s->most > 0 && s->timeouts >= MOST_TIMEOUTS;
}

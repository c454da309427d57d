/* How long Redis may owe an answer before it counts as away: from then on no call is waited for, until Redis is heard again.
 *
 * A breaker (Nygard, "Release It!", 2007) whose probe is the reconnect: silent for as long as `most` while something is owed, or MOST_TIMEOUTS deadlines passed
 * in a row, and it is away; a whole greeting answered on a new connection, and it is back.
 * Anything heard counts, half a reply too: a big answer over a slow link is not silence.
 *
 * It knows no sockets and no timers; redis.c tells it what happens and asks. Embedded there; all times are clock_now's. */
#ifndef SLUICE_REDIS_SILENCE_H
#define SLUICE_REDIS_SILENCE_H

#include "lib/base.h"

struct redis_silence {
	int64_t most;      /* microseconds; 0: it never counts as away */
	int64_t since;     /* something has been owed, and nothing heard, since then; 0: nothing is owed */
	uint64_t bytes;    /* what had been received when it was last looked */
	unsigned timeouts; /* since it was last heard */
	bool away;
};

/* A call was begun. */
static inline void redis_silence_owe(struct redis_silence *s, int64_t now)
{
	if (s->since == 0)
		s->since = now;
}

/* A reply came; `owed`: more are to come. */
static inline void redis_silence_heard(struct redis_silence *s, bool owed, int64_t now)
{
	s->timeouts = 0;
	s->since = owed ? now : 0;
}

/* What is left of its patience; 0: it is over. INT64_MAX when nothing is owed. */
int64_t redis_silence_left(const struct redis_silence *, int64_t now);

/* So many deadlines have passed. True when that is too often. */
bool redis_silence_timed_out(struct redis_silence *, size_t count) MUST_CHECK;

#endif

/* How many connections a pool keeps: arithmetic alone, time is data. One for all loops of an instance.
 *
 * The size is what is kept although it may be idle; it is not what may be open. A call that finds none free has one opened at once, up to the ceiling: a
 * hand-shake is cheaper than a wait, and a burst that lasts a second leaves the size as it was. The size follows the work that lasts:
 *
 *   utilisation = connections in use / size, looked at each second (above 1 in a burst); over HTTP/2 one is in use whatever the number of its streams
 *   above 80 % in the mean of 60 s   ──► 20 % more, at least one; they are opened ahead, so that the next call finds them
 *   below 30 % in the mean of 5 min  ──► 10 % less, at least one; what is idle and above it is closed, never what is in use
 *
 * It begins at `start` and stays within `least` and `most`. After a change the looking begins anew: it was another size.
 * Disadvantage: what comes and goes between two looks is not seen; over a minute that evens out. */
#ifndef SLUICE_POOL_SIZE_H
#define SLUICE_POOL_SIZE_H

#include "lib/base.h"

enum {
	POOL_SIZE_GROW_AFTER = 60, /* seconds */
	POOL_SIZE_SHRINK_AFTER = 300,
	POOL_SIZE_GROW_ABOVE = 80, /* per cent */
	POOL_SIZE_SHRINK_BELOW = 30,
	POOL_SIZE_GROW_BY = 20,
	POOL_SIZE_SHRINK_BY = 10
};

struct pool_size {
	unsigned least, most, now;  /* now: 1 or more */
	int64_t looked_at;          /* 0: never */
	unsigned seconds;           /* seen of this size, up to POOL_SIZE_SHRINK_AFTER */
	unsigned seen;              /* busy at the last look */
	unsigned at;                /* where the next second stands in `busy` */
	uint64_t recent, whole;     /* sums of `busy`: of the last 60 s, of the last 5 min */
	unsigned opened[60], place; /* connections of each of the last 60 s; where the present one stands */
	unsigned busy[POOL_SIZE_SHRINK_AFTER];
};

enum pool_size_change { POOL_SIZE_SAME, POOL_SIZE_GROWN, POOL_SIZE_SHRUNK };

void pool_size_init(struct pool_size *, unsigned least, unsigned start, unsigned most);
/* Other bounds: what it has grown to stays, as far as they allow. */
void pool_size_bound(struct pool_size *, unsigned least, unsigned most);
/* `busy` connections are in use; since the last look it was as it was then. */
enum pool_size_change pool_size_look(struct pool_size *, int64_t now, unsigned busy);
void pool_size_opened(struct pool_size *);                               /* one more connection */
unsigned pool_size_opened_lately(const struct pool_size *, int64_t now); /* in the last minute */

#endif

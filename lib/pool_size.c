/* The size: two moving means, and what follows from them. */
#include "lib/pool_size.h"

#include "lib/clock.h"

enum { LONGEST = 86400 }; /* seconds without a look that count */

static unsigned within(unsigned value, unsigned least, unsigned most)
{
	return value < least ? least : value > most ? most : value;
}

static void begin_anew(struct pool_size *size)
{
	size->seconds = size->at = 0;
	size->recent = size->whole = 0;
}

void pool_size_bound(struct pool_size *size, unsigned least, unsigned most)
{
	unsigned before = size->now;

	CHECK(most > 0 && least <= most);
	size->least = least > 0 ? least : 1;
	size->most = most;
	size->now = within(before, size->least, most);
	if (size->now != before)
		begin_anew(size);
}

void pool_size_init(struct pool_size *size, unsigned least, unsigned start, unsigned most)
{
	*size = (struct pool_size){ .now = start };
	pool_size_bound(size, least, most);
}

static void remember(struct pool_size *size, unsigned busy)
{
	const unsigned length = POOL_SIZE_SHRINK_AFTER;

	if (size->seconds == length)
		size->whole -= size->busy[size->at];
	if (size->seconds >= POOL_SIZE_GROW_AFTER)
		size->recent -= size->busy[(size->at + length - POOL_SIZE_GROW_AFTER) % length];
	size->busy[size->at] = busy;
	size->at = (size->at + 1) % length;
	size->recent += busy;
	size->whole += busy;
	size->seconds += size->seconds < length;
}

static bool is_above(uint64_t sum, unsigned seconds, unsigned size, unsigned percent)
{
	return sum * 100 > (uint64_t)percent * seconds * size;
}

static bool is_below(uint64_t sum, unsigned seconds, unsigned size, unsigned percent)
{
	return sum * 100 < (uint64_t)percent * seconds * size;
}

static unsigned part_of(unsigned size, unsigned percent)
{
	unsigned part = size * percent / 100;

	return part > 0 ? part : 1;
}

static enum pool_size_change second(struct pool_size *size, unsigned busy)
{
	size->place = (size->place + 1) % ARRAY_LENGTH(size->opened);
	size->opened[size->place] = 0;
	remember(size, busy);
	if (size->now < size->most && size->seconds >= POOL_SIZE_GROW_AFTER &&
	    is_above(size->recent, POOL_SIZE_GROW_AFTER, size->now, POOL_SIZE_GROW_ABOVE)) {
		size->now = within(size->now + part_of(size->now, POOL_SIZE_GROW_BY), size->least, size->most);
		begin_anew(size);
		return POOL_SIZE_GROWN;
	}
	if (size->now > size->least && size->seconds >= POOL_SIZE_SHRINK_AFTER &&
	    is_below(size->whole, POOL_SIZE_SHRINK_AFTER, size->now, POOL_SIZE_SHRINK_BELOW)) {
		size->now = within(size->now - part_of(size->now, POOL_SIZE_SHRINK_BY), size->least, size->most);
		begin_anew(size);
		return POOL_SIZE_SHRUNK;
	}
	return POOL_SIZE_SAME;
}

enum pool_size_change pool_size_look(struct pool_size *size, int64_t now, unsigned busy)
{
	enum pool_size_change change = POOL_SIZE_SAME;
	int64_t passed;

	if (size->looked_at == 0)
		size->looked_at = now;
	passed = (now - size->looked_at) / CLOCK_SECOND;
	size->looked_at += passed * CLOCK_SECOND;
	if (passed > LONGEST)
		passed = LONGEST;
	for (; passed > 0; passed--) {
		enum pool_size_change one = second(size, passed > 1 ? size->seen : busy);
		if (one != POOL_SIZE_SAME)
			change = one;
	}
	size->seen = busy;
	return change;
}

void pool_size_opened(struct pool_size *size)
{
	size->opened[size->place]++;
}

unsigned pool_size_opened_lately(const struct pool_size *size, int64_t now)
{
	const size_t length = ARRAY_LENGTH(size->opened);
	int64_t passed = size->looked_at > 0 ? (now - size->looked_at) / CLOCK_SECOND : 0;
	unsigned sum = 0;

	for (size_t ago = 0; (int64_t)ago + passed < (int64_t)length; ago++)
		sum += size->opened[(size->place + length - ago) % length];
	return sum;
}

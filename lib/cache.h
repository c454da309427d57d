/* The worker's own hot answers: key → answer with its times, bounded in bytes, the least recently used out first.
 *
 * It knows nothing of requests, of the fleet, or of what may be cached: its caller judges by the times, and drops what was purged elsewhere. One answer
 * takes at most a quarter of the bytes, so that a large one does not empty it. What is past all its times lies here until it is asked for or is the
 * least recently used: it takes room that somebody might want, and never more than the bound. For one thread. Answers are held, not copied: one that is
 * being sent when it leaves the cache lives on until it is released, outside of the bound. */
#ifndef SLUICE_CACHE_H
#define SLUICE_CACHE_H

#include "lib/answer.h"
#include "lib/base.h"

struct cache;

struct cache *cache_new(size_t bytes); /* of answers and of what is around them; 0: keeps nothing */
void cache_free(struct cache **);      /* NULL inside is fine; nulls it; answers that others hold live on */

/* Held for the caller (answer_release), with its times; or NULL, and nothing is written. Whatever is not past all its times is given: which of them
 * counts is the caller's to judge. It is the most recently used from here on. */
struct answer *cache_get(struct cache *, const unsigned char key[ANSWER_KEY], struct answer_times *) MUST_CHECK;
/* Holds the answer, and takes the place of what stood under this key, which goes even where the answer is not kept: when it is too large, or past all its
 * times. */
void cache_put(struct cache *, const unsigned char key[ANSWER_KEY], struct answer *, const struct answer_times *);
void cache_drop(struct cache *, const unsigned char key[ANSWER_KEY]); /* an unknown key is fine */
void cache_clear(struct cache *);

struct cache_stats {
	size_t bytes, entries;
	uint64_t hits, misses; /* of cache_get, since cache_new */
	uint64_t evicted;      /* left for want of room */
	uint64_t dropped;      /* left for any other reason: dropped, cleared, replaced, past all their times */
};
void cache_stats(const struct cache *, struct cache_stats *);

#endif

#include "lib/cache.h"

#include "lib/clock.h"
#include "lib/list.h"
#include "lib/map.h"
#include "lib/mem.h"

/* What the map spends on an entry when it has just grown and is three eighths full: its slots, and the copy of the key. */
enum { MAP_BYTES = 160 };

/* Owner: the cache; in its map and its list, both or neither. Holds its answer. */
struct entry {
	struct list node;
	struct answer *answer;
	size_t bytes; /* of all that it takes */
	struct answer_times times;
	unsigned char key[ANSWER_KEY];
};

/* Between calls: stats.bytes is the sum over the entries, and at most `most`. */
struct cache {
	struct map *entries;
	struct list recent; /* front: used last */
	size_t most;
	struct cache_stats stats; /* all but `entries`, which the map counts */
};

static struct slice key_of(const unsigned char key[ANSWER_KEY])
{
	return slice_make((const char *)key, ANSWER_KEY);
}

static bool is_over(const struct answer_times *times)
{
	int64_t now = clock_now();
	return times->fresh <= now && times->stale <= now && times->error <= now;
}

struct cache *cache_new(size_t bytes)
{
	struct cache *cache = mem_new(sizeof(*cache));
	cache->entries = map_new();
	cache->most = bytes;
	list_init(&cache->recent);
	return cache;
}

void cache_free(struct cache **handle)
{
	if (*handle == NULL)
		return;
	cache_clear(*handle);
	map_free(&(*handle)->entries, NULL);
	mem_free(*handle);
	*handle = NULL;
}

/* The one way out of the cache; `count` is the reason's. */
static void leave(struct cache *cache, struct entry *entry, uint64_t *count)
{
	CHECK(map_remove(cache->entries, key_of(entry->key)) == entry);
	list_remove(&entry->node);
	cache->stats.bytes -= entry->bytes;
	++*count;
	answer_release(&entry->answer);
	mem_free(entry);
}

struct answer *cache_get(struct cache *cache, const unsigned char key[ANSWER_KEY], struct answer_times *times)
{
	struct entry *entry = map_get(cache->entries, key_of(key));
	if (entry != NULL && is_over(&entry->times)) {
		leave(cache, entry, &cache->stats.dropped);
		entry = NULL;
	}
	if (entry == NULL) {
		cache->stats.misses++;
		return NULL;
	}
	cache->stats.hits++;
	list_remove(&entry->node);
	list_push_front(&cache->recent, &entry->node);
	*times = entry->times;
	return answer_hold(entry->answer);
}

static void make_room(struct cache *cache, size_t bytes)
{
	while (cache->stats.bytes > cache->most - bytes)
		leave(cache, CONTAINER_OF(cache->recent.prev, struct entry, node), &cache->stats.evicted);
}

void cache_put(struct cache *cache, const unsigned char key[ANSWER_KEY], struct answer *answer,
	       const struct answer_times *times)
{
	size_t bytes = answer_size(answer) + sizeof(struct entry) + MAP_BYTES;
	cache_drop(cache, key);
	if (bytes > cache->most / 4 || is_over(times))
		return;
	make_room(cache, bytes);
	struct entry *entry = mem_new(sizeof(*entry));
	*entry = (struct entry){ .answer = answer_hold(answer), .bytes = bytes, .times = *times };
	memcpy(entry->key, key, ANSWER_KEY);
	list_push_front(&cache->recent, &entry->node);
	map_put(cache->entries, key_of(key), entry);
	cache->stats.bytes += bytes;
}

void cache_drop(struct cache *cache, const unsigned char key[ANSWER_KEY])
{
	struct entry *entry = map_get(cache->entries, key_of(key));
	if (entry != NULL)
		leave(cache, entry, &cache->stats.dropped);
}

/* The map is made anew: it never shrinks by itself. */
void cache_clear(struct cache *cache)
{
	while (!list_empty(&cache->recent))
		leave(cache, CONTAINER_OF(cache->recent.next, struct entry, node), &cache->stats.dropped);
	map_free(&cache->entries, NULL);
	cache->entries = map_new();
}

void cache_stats(const struct cache *cache, struct cache_stats *stats)
{
	*stats = cache->stats;
	stats->entries = map_count(cache->entries);
}

/* Linear probing over a power of two of slots, at most three quarters of them in use. A removed entry leaves a grave, so
 * that removing while walking moves nothing; graves are swept when the table is laid out anew. The full hash is kept
 * beside each key: probing rarely looks at the keys themselves. */
#include "lib/map.h"

#include "lib/mem.h"
#include "lib/siphash.h"

#include <pthread.h>
#include <sys/random.h>

#define FIRST_SLOTS 8
#define MOST        ((size_t)1 << 31)

enum slot_state { SLOT_EMPTY, SLOT_GRAVE, SLOT_USED };

struct slot {
	uint64_t hash;
	char *key; /* owned by the map */
	size_t key_len;
	void *value;
	enum slot_state state;
};

/* Between calls: count + graves ≤ 3/4 of slot_count, which is a power of two. */
struct map {
	struct slot *slots;
	size_t slot_count, count, graves;
};

static struct siphash_key process_key;
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;

static void make_process_key(void)
{
	ssize_t got = getrandom(&process_key, sizeof(process_key), 0);
	CHECK(got == (ssize_t)sizeof(process_key));
}

uint64_t map_hash(struct slice key)
{
	pthread_once(&process_key_once, make_process_key);
	return siphash_of(process_key, key);
}

struct map *map_new(void)
{
	struct map *map = mem_new(sizeof(*map));
	map->slot_count = FIRST_SLOTS;
	map->slots = mem_new_array(map->slot_count, sizeof(*map->slots));
	return map;
}

void map_free(struct map **handle, void (*free_value)(void *value))
{
	struct map *map = *handle;
	if (map == NULL)
		return;
	*handle = NULL;
	for (size_t i = 0; i < map->slot_count; i++) {
		if (map->slots[i].state != SLOT_USED)
			continue;
		mem_free(map->slots[i].key);
		if (free_value != NULL)
			free_value(map->slots[i].value);
	}
	mem_free(map->slots);
	mem_free(map);
}

size_t map_count(const struct map *map)
{
	return map->count;
}

/* The entry of this key, or NULL. The probe ends: a quarter of the slots is empty. */
static struct slot *find(const struct map *map, struct slice key, uint64_t hash)
{
	size_t mask = map->slot_count - 1;
	for (size_t at = hash & mask;; at = (at + 1) & mask) {
		struct slot *slot = &map->slots[at];
		if (slot->state == SLOT_EMPTY)
			return NULL;
		if (slot->state == SLOT_USED && slot->hash == hash &&
		    slice_equal(slice_make(slot->key, slot->key_len), key))
			return slot;
	}
}

/* Where an entry that is not there yet belongs. */
static struct slot *find_free(const struct map *map, uint64_t hash)
{
	size_t mask = map->slot_count - 1, at = hash & mask;
	while (map->slots[at].state == SLOT_USED)
		at = (at + 1) & mask;
	return &map->slots[at];
}

static void lay_out_anew(struct map *map, size_t slot_count)
{
	struct map fresh = { .slot_count = slot_count, .count = map->count };
	fresh.slots = mem_new_array(slot_count, sizeof(*fresh.slots));
	for (size_t i = 0; i < map->slot_count; i++)
		if (map->slots[i].state == SLOT_USED)
			*find_free(&fresh, map->slots[i].hash) = map->slots[i];
	mem_free(map->slots);
	*map = fresh;
}

static void make_room(struct map *map)
{
	CHECK(map->count < MOST);
	if ((map->count + map->graves + 1) * 4 <= map->slot_count * 3)
		return;
	size_t slot_count = FIRST_SLOTS;
	while ((map->count + 1) * 2 > slot_count)
		slot_count *= 2;
	lay_out_anew(map, slot_count);
}

void *map_get(const struct map *map, struct slice key)
{
	struct slot *slot = find(map, key, map_hash(key));
	return slot == NULL ? NULL : slot->value;
}

void map_put(struct map *map, struct slice key, void *value)
{
	CHECK(value != NULL);
	uint64_t hash = map_hash(key);
	struct slot *slot = find(map, key, hash);
	if (slot != NULL) {
		slot->value = value;
		return;
	}
	make_room(map);
	slot = find_free(map, hash);
	if (slot->state == SLOT_GRAVE)
		map->graves--;
	*slot = (struct slot){ hash, mem_text(key), key.len, value, SLOT_USED };
	map->count++;
}

void *map_remove(struct map *map, struct slice key)
{
	struct slot *slot = find(map, key, map_hash(key));
	if (slot == NULL)
		return NULL;
	void *value = slot->value;
	char *own_key = slot->key;
	*slot = (struct slot){ .state = SLOT_GRAVE };
	mem_free(own_key); /* `key` may be this very memory: not looked at from here on */
	map->count--;
	map->graves++;
	return value;
}

bool map_next(const struct map *map, size_t *at, struct slice *key, void **value)
{
	for (; *at < map->slot_count; ++*at) {
		const struct slot *slot = &map->slots[*at];
		if (slot->state != SLOT_USED)
			continue;
		*key = slice_make(slot->key, slot->key_len);
		*value = slot->value;
		++*at;
		return true;
	}
	return false;
}

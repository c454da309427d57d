/* A hash map from bytes to pointers: open addressing, SipHash-2-4 (Aumasson and Bernstein, 2012) keyed once per process
 * from getrandom, so that a peer who chooses keys cannot make them collide. Keys are copied; values are borrowed.
 * Not for more than 2^31 entries. */
#ifndef SLUICE_MAP_H
#define SLUICE_MAP_H

#include "lib/base.h"
#include "lib/slice.h"

struct map;

struct map *map_new(void);
void map_free(struct map **, void (*free_value)(void *value)); /* free_value may be NULL */
size_t map_count(const struct map *);
void *map_get(const struct map *, struct slice key);       /* NULL when there is none */
void map_put(struct map *, struct slice key, void *value); /* replaces; value must not be NULL */
void *map_remove(struct map *, struct slice key);          /* the value that was there, or NULL */
/* Walks all entries in no order: start with *at = 0; false at the end. Only map_remove of the entry just given may happen meanwhile. */
bool map_next(const struct map *, size_t *at, struct slice *key, void **value) MUST_CHECK;
uint64_t map_hash(struct slice key); /* the keyed hash itself, stable within this process */

#endif

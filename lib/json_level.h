/* The open containers of a text, from the outermost inwards: their kinds; of those that a plan's paths go through or
 * end at, where they began and which names have come in each. Below a container that no path goes through nothing is
 * watched, so these are the outermost ones in a row.
 *
 * A name of the plan is a bit. Of any other name 64 bits stand for it: itself, if it has up to 7 bytes, else its keyed
 * hash (lib/map), so that a peer can neither make names collide nor make the comparison slow. Two different long names
 * of one object meet by chance in one of 2^49 objects with all names in use; a good text is refused then, a bad one
 * never passes.
 * Disadvantage: a name costs a walk over the marks of those before it, which JSON_LEVEL_NAMES bounds. */
#ifndef SLUICE_JSON_LEVEL_H
#define SLUICE_JSON_LEVEL_H

#include "lib/base.h"
#include "lib/json_plan.h"
#include "lib/slice.h"

enum {
	JSON_LEVEL_DEPTH = 1024,
	JSON_LEVEL_NAMES = 256, /* in one object, beside the plan's */
};

struct json_level {
	const struct json_node *node; /* its place in the plan */
	size_t start;                 /* of its opening bracket */
	bool empty;
	uint64_t seen;       /* which of the plan's names have come, by number */
	size_t names_before; /* how many of the marks belong to the levels above */
};

/* Embedded by value. Between calls: `depth` containers are open, the `watched` outermost ones of them have a level, and
 * the marks of their unknown names stand in `names`, the innermost's last. */
struct json_levels {
	size_t depth, watched;
	bool array;                             /* the innermost container is one */
	struct json_level *innermost;           /* its level, or NULL: it is not watched, or nothing is open */
	uint64_t arrays[JSON_LEVEL_DEPTH / 64]; /* bit d: the container at depth d is an array */
	struct json_level *levels;
	uint64_t *names;
	size_t name_count, name_capacity;
};

enum json_level_verdict { JSON_LEVEL_NEW, JSON_LEVEL_DUPLICATE, JSON_LEVEL_FULL };

void json_levels_init(struct json_levels *, const struct json_plan *);
void json_levels_free(struct json_levels *);
void json_levels_reset(struct json_levels *);
/* A container opens; below JSON_LEVEL_DEPTH of them, which the caller sees to. `node` is its place in the plan, or
 * NULL. */
void json_levels_open(struct json_levels *, const struct json_node *node, bool array, size_t start);
/* The innermost one closes. Its level, if it had one, may be read until the next call; else NULL. */
const struct json_level *json_levels_close(struct json_levels *);
/* A name has come in the innermost one, which is watched. *node: what its value is in the plan, or NULL. */
enum json_level_verdict json_levels_name(struct json_levels *, struct slice name,
					 const struct json_node **node) MUST_CHECK;

#endif

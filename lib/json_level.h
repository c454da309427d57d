/* The open containers of a text that a plan's paths go through or end at, from the outermost inwards, and which names
 * have come in each. Below a container that no path goes through nothing is watched, so these are the outermost ones in
 * a row.
 *
 * A name of the plan is a bit; any other is its keyed hash (lib/map), so that a peer can neither make names collide nor
 * make the comparison slow. Two different names of one object meet by chance in one of 2^49 objects with all names in
 * use; a good text is refused then, a bad one never passes. Disadvantage: a name costs a walk over the hashes of those
 * before it, which JSON_LEVEL_NAMES bounds. */
#ifndef SLUICE_JSON_LEVEL_H
#define SLUICE_JSON_LEVEL_H

#include "lib/base.h"
#include "lib/json_plan.h"
#include "lib/slice.h"

enum { JSON_LEVEL_NAMES = 256 }; /* in one object, beside the plan's */

struct json_level {
	const struct json_node *node; /* its place in the plan */
	size_t start;                 /* of its opening bracket */
	bool empty;
	uint64_t seen;       /* which of the plan's names have come, by number */
	size_t names_before; /* how many of the hashes belong to the levels above */
};

/* Embedded by value. Between calls: `open` levels are in use, and the hashes of their unknown names stand in `names`,
 * the innermost's last. */
struct json_levels {
	struct json_level *levels;
	size_t open;
	uint64_t *names;
	size_t name_count, name_capacity;
};

enum json_level_verdict { JSON_LEVEL_NEW, JSON_LEVEL_DUPLICATE, JSON_LEVEL_FULL };

void json_levels_init(struct json_levels *, const struct json_plan *);
void json_levels_free(struct json_levels *);
void json_levels_reset(struct json_levels *);
void json_levels_open(struct json_levels *, const struct json_node *, size_t start);
/* The innermost one is closed; what it held may be read until the next call. */
const struct json_level *json_levels_close(struct json_levels *);
/* A name has come in the innermost one. *node: what its value is in the plan, or NULL. */
enum json_level_verdict json_levels_name(struct json_levels *, struct slice name,
					 const struct json_node **node) MUST_CHECK;

#endif

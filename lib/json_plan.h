/* Which members of a JSON text matter: a constant list of paths, compiled once into a tree that a scan walks down.
 *
 *   "model"  "usage.prompt_tokens"  "contents[].parts[].text"          root ─ model (0)
 *                                                                       ├ usage ─ prompt_tokens (1)
 *                                                                       └ contents [] parts [] text (2)
 *
 * A path is names joined by dots; `[]` behind a name (or first) means each element of that array; the empty path is the
 * text's whole value. Names with a dot or a bracket in them cannot be said. Paths may overlap: "a", "a.b" and "a[].b"
 * together watch a in all its shapes. */
#ifndef SLUICE_JSON_PLAN_H
#define SLUICE_JSON_PLAN_H

#include "lib/base.h"
#include "lib/slice.h"

struct json_plan;

struct json_path {
	const char *path;
	size_t keep; /* how many decoded bytes of a string there are kept, at most 64 KiB; 0: it is only measured */
};

/* A place in the text. Belongs to the plan; open, because a scan looks here at every name and value. */
struct json_node {
	struct slice name;
	unsigned nth;                    /* of the plan's names in its object, from 0 */
	int path;                        /* the path that ends here, by its place in the list, or JSON_PLAN_NONE */
	size_t keep;                     /* that path's */
	const struct json_node *element; /* each element, when this is an array; or NULL */
	const struct json_node *child; /* the first of the members that are watched, when this is an object; or NULL */
	const struct json_node *next;  /* the next member of the same object */
};

enum { JSON_PLAN_NONE = -1, JSON_PLAN_NAMES = 64 };

/* Programmer's tables: an ill-formed path, one twice, or more than JSON_PLAN_NAMES names in one object are CHECKed.
 * `paths` must outlive the plan. Read-only afterwards: any number of scans, on any thread, may share it. */
struct json_plan *json_plan_new(const struct json_path *paths, size_t count);
void json_plan_free(struct json_plan **);

size_t json_plan_count(const struct json_plan *);
size_t json_plan_keep(const struct json_plan *, size_t path);
size_t json_plan_kept(const struct json_plan *);  /* of all paths together */
size_t json_plan_depth(const struct json_plan *); /* of containers that may matter; at least 1, the text's own */
const struct json_node *json_plan_root(const struct json_plan *);
/* The member of this name below the node, or NULL. */
const struct json_node *json_plan_member(const struct json_node *, struct slice name);

#endif

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

/* Programmer's tables: an ill-formed path, one twice, or more than JSON_PLAN_NAMES names in one object are CHECKed.
 * `paths` must outlive the plan. Read-only afterwards: any number of scans, on any thread, may share it. */
enum { JSON_PLAN_NAMES = 64 };
struct json_plan *json_plan_new(const struct json_path *paths, size_t count);
void json_plan_free(struct json_plan **);

size_t json_plan_count(const struct json_plan *);
size_t json_plan_keep(const struct json_plan *, size_t path);
size_t json_plan_depth(const struct json_plan *); /* of containers: what lies deeper cannot matter */

/* The tree. A node is a place in the text; the root is 0. */
enum { JSON_PLAN_ROOT = 0, JSON_PLAN_NONE = -1 };
int json_plan_path(const struct json_plan *, int node);    /* the path that ends here, or JSON_PLAN_NONE */
int json_plan_element(const struct json_plan *, int node); /* what an element here is, or JSON_PLAN_NONE */
bool json_plan_has_names(const struct json_plan *, int node);
/* What the member of this name is, or JSON_PLAN_NONE; *nth numbers the names of one object from 0. */
int json_plan_member(const struct json_plan *, int node, struct slice name, unsigned *nth);

#endif

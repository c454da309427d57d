/* A JSON value as what it means: it can be written in any of the ways that mean it, and be changed so that it means something else. An oracle for whoever
 * has to tell which texts mean the same: it compares values, and knows nothing of hashes. */
#ifndef SLUICE_TESTS_JSON_TREE_H
#define SLUICE_TESTS_JSON_TREE_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/mem.h"
#include "lib/slice.h"

enum json_tree_kind {
	JSON_TREE_NULL,
	JSON_TREE_FALSE,
	JSON_TREE_TRUE,
	JSON_TREE_NUMBER,
	JSON_TREE_STRING,
	JSON_TREE_ARRAY,
	JSON_TREE_OBJECT,
};

enum { JSON_TREE_CHILDREN = 16 };

/* Lives in an arena, with all that it holds. */
struct json_tree {
	enum json_tree_kind kind;
	int64_t digits; /* a number is digits × 10^exponent; digits do not end in 0, and 0 has the exponent 0 */
	int exponent;
	struct slice text; /* of a string: UTF-8 */
	struct slice name; /* of a member: UTF-8 */
	struct json_tree *children[JSON_TREE_CHILDREN];
	size_t count;
};

struct json_tree *json_tree_new(struct mem *, enum json_tree_kind);
struct json_tree *json_tree_number(struct mem *, int64_t digits, int exponent);
struct json_tree *json_tree_string(struct mem *, struct slice text); /* the text is borrowed */
/* Both return what was added. `name`: borrowed, and no other member's. */
struct json_tree *json_tree_add(struct json_tree *array, struct json_tree *element);
struct json_tree *json_tree_put(struct json_tree *object, const char *name, struct json_tree *value);

/* One of the many spellings: the order of members, blanks, escapes and numbers are up to chance. */
void json_tree_write(const struct json_tree *, uint64_t *random, struct buf *out);
bool json_tree_equal(const struct json_tree *, const struct json_tree *) MUST_CHECK;
/* A copy of an object in which one thing, anywhere, is another: never equal to the original. */
struct json_tree *json_tree_change(const struct json_tree *, uint64_t *random, struct mem *);

#endif

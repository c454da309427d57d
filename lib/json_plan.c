#include "lib/json_plan.h"

#include "lib/mem.h"

struct json_plan {
	const struct json_path *paths;
	size_t count, depth, kept;
	struct json_node *root;
};

static struct json_node *new_node(struct slice name, unsigned nth)
{
	struct json_node *node = mem_new(sizeof(*node));

	node->name = name;
	node->nth = nth;
	node->path = JSON_PLAN_NONE;
	return node;
}

static struct json_node *add_member(struct json_node *parent, struct slice name)
{
	const struct json_node *known = json_plan_member(parent, name);
	unsigned nth = parent->child == NULL ? 0 : parent->child->nth + 1;

	if (known != NULL)
		return (struct json_node *)known;
	CHECK(name.len > 0 && nth < JSON_PLAN_NAMES);
	struct json_node *node = new_node(name, nth);
	node->next = parent->child;
	parent->child = node;
	return node;
}

static struct json_node *add_element(struct json_node *parent)
{
	if (parent->element == NULL)
		parent->element = new_node(SLICE_NONE, 0);
	return (struct json_node *)parent->element;
}

/* What comes next of a path: one `[]` or one name. Not the first: a name stands behind a dot. */
static struct json_node *add_step(struct json_node *node, struct slice *rest, bool first)
{
	size_t length = 0;

	if (slice_starts(*rest, SLICE("[]"))) {
		*rest = slice_skip(*rest, 2);
		return add_element(node);
	}
	if (!first) {
		CHECK(rest->data[0] == '.');
		*rest = slice_skip(*rest, 1);
	}
	while (length < rest->len && rest->data[length] != '.' && rest->data[length] != '[')
		length++;
	node = add_member(node, slice_first(*rest, length));
	*rest = slice_skip(*rest, length);
	return node;
}

static void add_path(struct json_plan *plan, size_t index)
{
	struct slice rest = slice_of(plan->paths[index].path);
	struct json_node *node = plan->root;
	size_t depth = 0;

	for (; rest.len > 0; depth++)
		node = add_step(node, &rest, depth == 0);
	CHECK(node->path == JSON_PLAN_NONE && plan->paths[index].keep <= 65536);
	node->path = (int)index;
	node->keep = plan->paths[index].keep;
	plan->kept += node->keep;
	/* One more: the value at the end may be a container itself. */
	if (plan->depth < depth + 1)
		plan->depth = depth + 1;
}

struct json_plan *json_plan_new(const struct json_path *paths, size_t count)
{
	struct json_plan *plan = mem_new(sizeof(*plan));

	plan->paths = paths;
	plan->count = count;
	plan->depth = 1;
	plan->root = new_node(SLICE_NONE, 0);
	for (size_t i = 0; i < count; i++)
		add_path(plan, i);
	return plan;
}

/* As deep as the longest path of a programmer's table. */
static void free_nodes(const struct json_node *node)
{
	while (node != NULL) {
		const struct json_node *next = node->next;
		free_nodes(node->element);
		free_nodes(node->child);
		mem_free((void *)node);
		node = next;
	}
}

void json_plan_free(struct json_plan **plan)
{
	if (*plan == NULL)
		return;
	free_nodes((*plan)->root);
	mem_free(*plan);
	*plan = NULL;
}

size_t json_plan_count(const struct json_plan *plan)
{
	return plan->count;
}

size_t json_plan_keep(const struct json_plan *plan, size_t path)
{
	return plan->paths[path].keep;
}

size_t json_plan_kept(const struct json_plan *plan)
{
	return plan->kept;
}

size_t json_plan_depth(const struct json_plan *plan)
{
	return plan->depth;
}

const struct json_node *json_plan_root(const struct json_plan *plan)
{
	return plan->root;
}

const struct json_node *json_plan_member(const struct json_node *node, struct slice name)
{
	const struct json_node *at = node->child;

	while (at != NULL && !slice_equal(at->name, name))
		at = at->next;
	return at;
}

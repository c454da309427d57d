#include "lib/json_plan.h"

#include "lib/mem.h"

/* Children hang in a list: `child` is the first, `next` the sibling. */
struct node {
	struct slice name;
	unsigned nth;
	int path, element, child, next;
};

struct json_plan {
	const struct json_path *paths;
	size_t count, depth;
	struct node *nodes;
	int node_count;
};

static int add_node(struct json_plan *plan, struct slice name, unsigned nth)
{
	plan->nodes = mem_resize(plan->nodes, (size_t)(plan->node_count + 1) * sizeof(*plan->nodes));
	plan->nodes[plan->node_count] = (struct node){
		.name = name,
		.nth = nth,
		.path = JSON_PLAN_NONE,
		.element = JSON_PLAN_NONE,
		.child = JSON_PLAN_NONE,
		.next = JSON_PLAN_NONE,
	};
	return plan->node_count++;
}

static int add_member(struct json_plan *plan, int parent, struct slice name)
{
	unsigned nth;
	int known = json_plan_member(plan, parent, name, &nth);

	if (known != JSON_PLAN_NONE)
		return known;
	CHECK(name.len > 0);
	nth = 0;
	for (int at = plan->nodes[parent].child; at != JSON_PLAN_NONE; at = plan->nodes[at].next)
		nth++;
	CHECK(nth < JSON_PLAN_NAMES);
	int node = add_node(plan, name, nth);
	plan->nodes[node].next = plan->nodes[parent].child;
	plan->nodes[parent].child = node;
	return node;
}

static int add_element(struct json_plan *plan, int parent)
{
	if (plan->nodes[parent].element == JSON_PLAN_NONE) {
		int node = add_node(plan, SLICE_NONE, 0);
		plan->nodes[parent].element = node;
	}
	return plan->nodes[parent].element;
}

static void add_path(struct json_plan *plan, size_t index)
{
	struct slice rest = slice_of(plan->paths[index].path);
	int node = JSON_PLAN_ROOT;
	size_t depth = 0;

	while (rest.len > 0) {
		if (slice_starts(rest, SLICE("[]"))) {
			node = add_element(plan, node);
			rest = slice_skip(rest, 2);
		} else {
			if (depth > 0) {
				CHECK(rest.data[0] == '.');
				rest = slice_skip(rest, 1);
			}
			size_t length = 0;
			while (length < rest.len && rest.data[length] != '.' && rest.data[length] != '[')
				length++;
			node = add_member(plan, node, slice_first(rest, length));
			rest = slice_skip(rest, length);
		}
		depth++;
	}
	CHECK(plan->nodes[node].path == JSON_PLAN_NONE);
	plan->nodes[node].path = (int)index;
	/* One more: the value at the end may be a container itself. */
	if (plan->depth < depth + 1)
		plan->depth = depth + 1;
}

struct json_plan *json_plan_new(const struct json_path *paths, size_t count)
{
	struct json_plan *plan = mem_new(sizeof(*plan));

	plan->paths = paths;
	plan->count = count;
	add_node(plan, SLICE_NONE, 0);
	for (size_t i = 0; i < count; i++) {
		CHECK(paths[i].keep <= 65536);
		add_path(plan, i);
	}
	return plan;
}

void json_plan_free(struct json_plan **plan)
{
	if (*plan == NULL)
		return;
	mem_free((*plan)->nodes);
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

size_t json_plan_depth(const struct json_plan *plan)
{
	return plan->depth;
}

int json_plan_path(const struct json_plan *plan, int node)
{
	return plan->nodes[node].path;
}

int json_plan_element(const struct json_plan *plan, int node)
{
	return plan->nodes[node].element;
}

bool json_plan_has_names(const struct json_plan *plan, int node)
{
	return plan->nodes[node].child != JSON_PLAN_NONE;
}

int json_plan_member(const struct json_plan *plan, int node, struct slice name, unsigned *nth)
{
	int at = plan->nodes[node].child;

	while (at != JSON_PLAN_NONE && !slice_equal(plan->nodes[at].name, name))
		at = plan->nodes[at].next;
	if (at != JSON_PLAN_NONE)
		*nth = plan->nodes[at].nth;
	return at;
}

#include "lib/json_level.h"

#include "lib/map.h"
#include "lib/mem.h"

enum { FIRST_NAMES = 32 };

void json_levels_init(struct json_levels *l, const struct json_plan *plan)
{
	l->levels = mem_new_array(json_plan_depth(plan), sizeof(*l->levels));
	l->name_capacity = 0; /* most texts hold no name but the plan's where they are watched */
	l->names = NULL;
	json_levels_reset(l);
}

void json_levels_free(struct json_levels *l)
{
	mem_free(l->levels);
	mem_free(l->names);
	l->levels = NULL;
	l->names = NULL;
}

void json_levels_reset(struct json_levels *l)
{
	l->depth = l->watched = l->name_count = 0;
	l->innermost = NULL;
	l->array = false;
}

static void look_around(struct json_levels *l)
{
	size_t last = l->depth - 1;

	l->array = l->depth > 0 && (l->arrays[last / 64] >> last % 64 & 1) != 0;
	l->innermost = l->depth > 0 && l->watched == l->depth ? &l->levels[last] : NULL;
}

void json_levels_open(struct json_levels *l, const struct json_node *node, bool array, size_t start)
{
	uint64_t *bits = &l->arrays[l->depth / 64], bit = UINT64_C(1) << l->depth % 64;

	*bits = array ? *bits | bit : *bits & ~bit;
	if (node != NULL)
		l->levels[l->watched++] = (struct json_level){
			.node = node, .start = start, .empty = true, .names_before = l->name_count
		};
	l->depth++;
	look_around(l);
}

const struct json_level *json_levels_close(struct json_levels *l)
{
	const struct json_level *closed = l->innermost;

	if (closed != NULL) {
		l->watched--;
		l->name_count = closed->names_before;
	}
	l->depth--;
	look_around(l);
	return closed;
}

/* What stands for an unknown name: a short one itself, any other its keyed hash. */
static uint64_t mark_of(struct slice name)
{
	uint64_t mark = 0;

	if (name.len >= sizeof(mark))
		return map_hash(name);
	memcpy(&mark, name.data, name.len);
	return mark | (uint64_t)(name.len + 1) << 56;
}

static enum json_level_verdict note_unknown(struct json_levels *l, const struct json_level *level, struct slice name)
{
	uint64_t mark = mark_of(name);
	size_t same = 0;

	for (size_t i = level->names_before; i < l->name_count; i++)
		same += l->names[i] == mark;
	if (same > 0)
		return JSON_LEVEL_DUPLICATE;
	if (l->name_count - level->names_before == JSON_LEVEL_NAMES)
		return JSON_LEVEL_FULL;
	if (l->name_count == l->name_capacity) {
		l->name_capacity = l->name_capacity == 0 ? FIRST_NAMES : 2 * l->name_capacity;
		l->names = mem_resize(l->names, l->name_capacity * sizeof(*l->names));
	}
	l->names[l->name_count++] = mark;
	return JSON_LEVEL_NEW;
}

enum json_level_verdict json_levels_name(struct json_levels *l, struct slice name, const struct json_node **node)
{
	struct json_level *level = l->innermost;

	*node = json_plan_member(level->node, name);
	if (*node == NULL)
		return note_unknown(l, level, name);
	if ((level->seen >> (*node)->nth & 1) != 0)
		return JSON_LEVEL_DUPLICATE;
	level->seen |= UINT64_C(1) << (*node)->nth;
	return JSON_LEVEL_NEW;
}

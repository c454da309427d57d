#include "lib/json_level.h"

#include "lib/map.h"
#include "lib/mem.h"

enum { FIRST_NAMES = 32 };

void json_levels_init(struct json_levels *l, const struct json_plan *plan)
{
	l->levels = mem_new_array(json_plan_depth(plan) + 1, sizeof(*l->levels));
	l->name_capacity = FIRST_NAMES;
	l->names = mem_new_array(l->name_capacity, sizeof(*l->names));
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
	l->open = l->name_count = 0;
}

void json_levels_open(struct json_levels *l, const struct json_node *node, size_t start)
{
	l->levels[l->open++] =
		(struct json_level){ .node = node, .start = start, .empty = true, .names_before = l->name_count };
}

const struct json_level *json_levels_close(struct json_levels *l)
{
	struct json_level *level = &l->levels[--l->open];

	l->name_count = level->names_before;
	return level;
}

static enum json_level_verdict note_unknown(struct json_levels *l, const struct json_level *level, struct slice name)
{
	uint64_t hash = map_hash(name);
	size_t same = 0;

	for (size_t i = level->names_before; i < l->name_count; i++)
		same += l->names[i] == hash;
	if (same > 0)
		return JSON_LEVEL_DUPLICATE;
	if (l->name_count - level->names_before == JSON_LEVEL_NAMES)
		return JSON_LEVEL_FULL;
	if (l->name_count == l->name_capacity) {
		l->name_capacity *= 2;
		l->names = mem_resize(l->names, l->name_capacity * sizeof(*l->names));
	}
	l->names[l->name_count++] = hash;
	return JSON_LEVEL_NEW;
}

enum json_level_verdict json_levels_name(struct json_levels *l, struct slice name, const struct json_node **node)
{
	struct json_level *level = &l->levels[l->open - 1];

	*node = json_plan_member(level->node, name);
	if (*node == NULL)
		return note_unknown(l, level, name);
	if ((level->seen >> (*node)->nth & 1) != 0)
		return JSON_LEVEL_DUPLICATE;
	level->seen |= UINT64_C(1) << (*node)->nth;
	return JSON_LEVEL_NEW;
}

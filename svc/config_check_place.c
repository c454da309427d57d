/* Places in the file, and complaining about what stands there. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "svc/config_check.h"

static const struct config_node *find_element(const struct config_node *list, const char *step)
{
	const struct config_node *child = list->first;

	for (long i = strtol(step + 1, NULL, 10); i > 0 && child != NULL; i--)
		child = child->next;
	return child;
}

/* The path leaves out the index of a list's only element where it stands alone, without a list. */
struct config_spot config_check_find(const struct config_check *c, const struct config_place *place)
{
	const struct config_node *node = c->root;
	struct config_spot spot = { .line = 1 };
	struct buf path;

	buf_wrap(&path, spot.path, sizeof(spot.path) - 1, 0);
	for (size_t i = 0; place->step[i] != NULL; i++) {
		const char *step = place->step[i];
		if (node != NULL && node->kind == CONFIG_SCALAR)
			continue;
		buf_format(&path, "%s%s", i > 0 && step[0] != '[' ? "." : "", step);
		if (node != NULL && node->kind == CONFIG_MAPPING)
			node = config_node_find(node, slice_of(step));
		else if (node != NULL)
			node = find_element(node, step);
		if (node != NULL)
			spot.line = node->key_line != 0 ? node->key_line : node->line;
	}
	spot.path[path.len] = '\0';
	spot.node = node;
	return spot;
}

bool config_check_tells(const struct config_check *c)
{
	return c->errors->mistakes.count < CONFIG_COMPLAINTS;
}

const char *config_check_as_written(const struct config_check *c, const struct config_place *place, const char *value)
{
	const struct config_node *node = config_check_tells(c) ? config_check_find(c, place).node : NULL;

	return node != NULL && node->kind == CONFIG_SCALAR && strstr(node->text.data, "${") != NULL ? node->text.data
												    : value;
}

void config_check_complain(const struct config_check *c, const struct config_place *place, const char *format, ...)
{
	struct config_spot spot = { .line = 0 };
	char what[600];
	va_list values;

	if (config_check_tells(c))
		spot = config_check_find(c, place);
	va_start(values, format);
	vsnprintf(what, sizeof(what), format, values);
	va_end(values);
	config_complain(c->errors, spot.line, spot.path, "%s", what);
}

bool config_check_is_right(const struct config_check *c, const struct config_place *keys)
{
	for (size_t i = 0; keys->step[i] != NULL; i++)
		if (config_is_wrong(c->errors, c->misread, slice_of(keys->step[i]), 0, INT_MAX))
			return false;
	return true;
}

static int last_line(const struct config_node *node)
{
	int last = node->line > node->key_line ? node->line : node->key_line;

	for (const struct config_node *child = node->first; child != NULL; child = child->next) {
		int line = last_line(child);
		last = line > last ? line : last;
	}
	return last;
}

/* Names hold dots, so that the path of "gpt-4.1" begins with that of "gpt-4": what is wrong
 * with an entry also stands in its lines. */
bool config_check_entry_is_right(const struct config_check *c, const char *section, size_t index, const char *name)
{
	char memory[CONFIG_STEP + 64];
	const struct config_node *entry;
	struct buf path;

	buf_wrap(&path, memory, sizeof(memory), 0);
	buf_format(&path, "%s.%.*s", section, SLICE_ARGS(slice_first(slice_of(name), CONFIG_STEP)));
	if (!config_is_wrong(c->errors, c->misread, buf_slice(&path), 0, INT_MAX))
		return true;
	entry = config_node_find(c->root, slice_of(section))->first;
	while (index-- > 0)
		entry = entry->next;
	return !config_is_wrong(c->errors, c->misread, buf_slice(&path), entry->key_line, last_line(entry));
}

const char *config_check_index(struct config_index *index, size_t i)
{
	snprintf(index->text, sizeof(index->text), "[%zu]", i);
	return index->text;
}

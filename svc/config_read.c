/* Reads the tree by the table's rows. A row's default, or a preset's, is read by the same readers as a value of the file, so it is checked by the same
 * bounds. */
#include <stdarg.h>
#include <stdio.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/text.h"
#include "svc/config_internal.h"

/* ---- lists and sections --------------------------------------------------------------------------------------------------- */

/* One step down the path, and back. */
static size_t go_down(struct config_reader *r, const char *format, ...) PRINTF_LIKE(2, 3);
static size_t go_down(struct config_reader *r, const char *format, ...)
{
	size_t length = strlen(r->path);
	va_list values;

	if (length > 0 && length + 1 < sizeof(r->path) && format[0] != '[') {
		r->path[length] = '.';
		r->path[length + 1] = '\0';
	}
	va_start(values, format);
	vsnprintf(r->path + strlen(r->path), sizeof(r->path) - strlen(r->path), format, values);
	va_end(values);
	return length;
}

static void go_back(struct config_reader *r, size_t length)
{
	r->path[length] = '\0';
}

static size_t count_children(const struct config_node *node)
{
	size_t count = 0;

	for (const struct config_node *child = node->first; child != NULL; child = child->next)
		count++;
	return count;
}

/* Whether as many stand there as may. */
static bool check_count(struct config_value *v, size_t count)
{
	const struct config_row *row = v->row;

	if ((int64_t)count >= row->least && (int64_t)count <= row->most)
		return true;
	if (row->least == row->most)
		config_complain(&v->reader->errors, v->node->line, v->reader->path, "found %zu; allowed: %lld", count,
				(long long)row->least);
	else
		config_complain(&v->reader->errors, v->node->line, v->reader->path, "found %zu; allowed: %lld to %lld",
				count, (long long)row->least, (long long)row->most);
	return false;
}

/* How a mapping of the section begins: with its first key that is needed, or else its first. */
static const char *first_key(const struct config_section *section)
{
	for (size_t i = 0; i < section->count; i++)
		if ((section->rows[i].flags & CONFIG_REQUIRED) != 0)
			return section->rows[i].name;
	return section->rows[0].name;
}

/* Texts and keys: an array of `size` each. */
static void read_scalars(struct config_value *v, void *into, size_t *count, size_t size)
{
	const struct config_node *node = v->node;
	struct config_row each = *v->row;
	struct config_value element = *v;
	char *array;

	if (node->kind == CONFIG_MAPPING) {
		config_wrong(v, "a list");
		return;
	}
	*count = node->kind == CONFIG_SCALAR ? 1 : count_children(node);
	if (!check_count(v, *count)) {
		*count = 0;
		return;
	}
	if (v->row->type == CONFIG_TEXTS) {
		each.least = 1;
		each.most = 1000;
	}
	element.row = &each;
	array = mem_new_array(*count, size);
	*(void **)into = array;
	if (node->kind == CONFIG_SCALAR) {
		config_read_scalar(&element, array);
		return;
	}
	element.node = node->first;
	for (size_t i = 0; i < *count; i++, element.node = element.node->next) {
		size_t back = go_down(v->reader, "[%zu]", i);
		config_read_scalar(&element, array + i * size);
		go_back(v->reader, back);
	}
}

static void read_list(struct config_value *v, void *into, size_t *count)
{
	const struct config_section *section = v->row->section;
	size_t index = 0;
	char *array, allowed[80];

	if (v->node->kind != CONFIG_SEQUENCE) {
		snprintf(allowed, sizeof(allowed), "a list as [{%s: …}]", first_key(section));
		config_wrong(v, allowed);
		return;
	}
	if (!check_count(v, count_children(v->node)))
		return;
	*count = count_children(v->node);
	array = mem_new_array(*count, section->size);
	*(void **)into = array;
	for (const struct config_node *child = v->node->first; child != NULL; child = child->next, index++) {
		size_t back = go_down(v->reader, "[%zu]", index);
		config_read_section(v->reader, section, child, array + index * section->size);
		go_back(v->reader, back);
	}
}

static bool is_name(const struct config_section *section, struct slice name)
{
	bool words = section->name_most <= 64;

	if (name.len == 0 || name.len > section->name_most || !text_is_utf8(name))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char byte = (unsigned char)name.data[i], letter = byte | 32;
		bool plain =
			(letter >= 'a' && letter <= 'z') || (byte >= '0' && byte <= '9') || strchr("._-", byte) != NULL;
		if (words ? !plain : byte <= ' ' || byte == 0x7F || strchr("\"'{}", byte) != NULL)
			return false;
	}
	return true;
}

static void read_named(struct config_value *v, void *into, size_t *count)
{
	const struct config_section *section = v->row->section;
	char *array, *at;

	if (v->node->kind != CONFIG_MAPPING) {
		config_wrong(v, "a mapping from names");
		return;
	}
	if (!check_count(v, count_children(v->node)))
		return;
	array = at = mem_new_array(count_children(v->node), section->size);
	*(void **)into = array;
	for (const struct config_node *child = v->node->first; child != NULL;
	     child = child->next, at += section->size) {
		size_t back = go_down(v->reader, "%.*s", SLICE_ARGS(slice_first(child->key, CONFIG_STEP)));
		if (!is_name(section, child->key))
			config_complain(&v->reader->errors, child->key_line, v->reader->path,
					"not a name; allowed: %zu bytes of %s", section->name_most, section->name_rule);
		*(char **)(void *)at = mem_text(child->key);
		config_read_section(v->reader, section, child, at);
		go_back(v->reader, back);
		++*count;
	}
}

static void read_later(struct config_value *v)
{
	const char *fine = v->row->words[0];

	if (fine != NULL && v->node->kind == CONFIG_SCALAR && slice_equal(v->node->text, slice_of(fine)))
		return;
	config_complain(&v->reader->errors, v->node->key_line, v->reader->path, "comes in a later version; allowed: %s",
			fine != NULL ? fine : "to leave it out");
}

/* ---- limits -------------------------------------------------------------------------------------------------------------- */

static const struct config_row limit_row = {
	.name = "limit", .type = CONFIG_COUNT, .least = 1, .most = INT64_C(1000000000000)
};
/* The same, where {limit, burst} would do too. */
static const struct config_row rate_row = {
	.name = "limit", .type = CONFIG_COUNT, .flags = CONFIG_RATE, .least = 1, .most = INT64_C(1000000000000)
};
static const struct config_row strict_row = { .name = "strict", .type = CONFIG_BOOL };

static int find_limit(struct slice name)
{
	for (int i = 0; i < LIMIT_COUNT; i++)
		if (slice_equal(name, slice_of(limit_name((enum limit_kind)i))))
			return i;
	return -1;
}

/* {limit: 600, burst: 60} or {limit: 600, strict: true}. */
static void read_limit_parts(struct config_value *v, struct limit *limit, bool *burst, bool *strict)
{
	for (const struct config_node *child = v->node->first; child != NULL; child = child->next) {
		struct config_value part = { v->reader, &limit_row, child };
		size_t back = go_down(v->reader, "%.*s", SLICE_ARGS(slice_first(child->key, 64)));
		if (slice_equal(child->key, SLICE("limit"))) {
			config_read_scalar(&part, &limit->count);
		} else if (slice_equal(child->key, SLICE("burst"))) {
			config_read_scalar(&part, &limit->burst);
			*burst = true;
		} else if (slice_equal(child->key, SLICE("strict"))) {
			part.row = &strict_row;
			config_read_scalar(&part, &limit->strict);
			*strict = true;
		} else {
			config_complain(&v->reader->errors, child->key_line, v->reader->path,
					"unknown key; allowed: limit, burst, strict");
		}
		go_back(v->reader, back);
	}
}

/* Grants come some milliseconds apart; a bucket that is full before the next one stands still (measured: a burst of 1 at 1,000 a second used 79 %). */
static void warn_of_small_burst(const struct config_value *v, enum limit_kind kind, const struct limit *limit)
{
	int64_t least = (int64_t)((double)limit->count * 20 * CLOCK_MILLISECOND / (double)limit_period(kind));

	if (limit->burst > 0 && limit->burst < least)
		config_warn(&v->reader->errors, v->node->line, v->reader->path,
			    "warning: a burst of %lld is less than 20 ms of the rate, so a part of it cannot be used; "
			    "better: %lld or more",
			    (long long)limit->burst, (long long)least);
}

static void read_limit(struct config_value *v, enum limit_kind kind, bool strict_by_default, struct limit *limit)
{
	bool burst = false, strict = false, at_once = limit_unit_of(kind) == LIMIT_CONCURRENCY;
	struct config_errors *errors = &v->reader->errors;

	if (v->node->kind == CONFIG_MAPPING) {
		read_limit_parts(v, limit, &burst, &strict);
		if (config_node_find(v->node, SLICE("limit")) == NULL)
			config_complain(errors, v->node->line, v->reader->path,
					"no `limit`; allowed: a count, or {limit, burst} or {limit, strict}");
	} else {
		v->row = at_once ? &limit_row : &rate_row;
		config_read_scalar(v, &limit->count);
	}
	if (at_once && (burst || strict))
		config_complain(errors, v->node->line, v->reader->path,
				"concurrency has no burst and is always strict; allowed: a count");
	else if (burst && limit->strict)
		config_complain(errors, v->node->line, v->reader->path,
				"a strict limit has no burst; allowed: one of them");
	if (!strict && !burst && !at_once)
		limit->strict = strict_by_default;
	if (burst && !limit->strict && !at_once)
		warn_of_small_burst(v, kind, limit);
	if (!burst && !limit->strict)
		limit->burst = limit->count;
}

static void read_limits(struct config_value *v, struct limits *limits)
{
	bool strict_by_default = v->row->least == 1;

	if (v->node->kind != CONFIG_MAPPING) {
		config_wrong(v, "a mapping of rps, rpm, rph, rpd, tpm, tph, tpd, concurrency");
		return;
	}
	for (const struct config_node *child = v->node->first; child != NULL; child = child->next) {
		struct config_value one = { v->reader, v->row, child };
		size_t back = go_down(v->reader, "%.*s", SLICE_ARGS(slice_first(child->key, 64)));
		int kind = find_limit(child->key);
		if (kind >= 0)
			read_limit(&one, (enum limit_kind)kind, strict_by_default, &limits->of[kind]);
		else if (slice_starts(child->key, SLICE("usd_per_")))
			config_complain(&v->reader->errors, child->key_line, v->reader->path,
					"comes in a later version; allowed: to leave it out");
		else
			config_complain(&v->reader->errors, child->key_line, v->reader->path,
					"unknown key; allowed: rps, rpm, rph, rpd, tpm, tph, tpd, concurrency");
		go_back(v->reader, back);
	}
}

/* ---- a section ------------------------------------------------------------------------------------------------------------- */

static void read_row(struct config_reader *r, const struct config_row *row, const struct config_node *node, void *base)
{
	struct config_value v = { .reader = r, .row = row, .node = node };
	void *into = config_at(base, row->offset);
	size_t *count = config_at(base, row->count_offset);

	switch (row->type) {
	case CONFIG_TEXTS:
		read_scalars(&v, into, count, sizeof(char *));
		break;
	case CONFIG_KEYS:
		read_scalars(&v, into, count, sizeof(struct config_key));
		break;
	case CONFIG_LIMITS:
		read_limits(&v, into);
		break;
	case CONFIG_SECTION:
		config_read_section(r, row->section, node, into);
		break;
	case CONFIG_NAMED:
		read_named(&v, into, count);
		break;
	case CONFIG_LIST:
		read_list(&v, into, count);
		break;
	case CONFIG_LATER:
		read_later(&v);
		break;
	default:
		config_read_scalar(&v, into);
	}
}

/* What has this path below an upstream is often written without. */
static bool is_of_upstreams(const char *path)
{
	const struct config_section *section = &config_table_upstream;
	struct slice rest = slice_of(path);

	while (section != NULL) {
		struct slice name = slice_cut(rest, '.', &rest);
		const struct config_section *below = NULL;
		for (size_t i = 0; i < section->count; i++) {
			const struct config_row *row = &section->rows[i];
			if (!slice_equal(name, slice_of(row->name)))
				continue;
			if (rest.len == 0)
				return row->type != CONFIG_LATER;
			below = row->type == CONFIG_SECTION ? row->section : NULL;
		}
		section = below;
	}
	return false;
}

static void complain_unknown(struct config_reader *r, const struct config_section *section,
			     const struct config_node *child)
{
	const struct config_row *nearest = NULL;
	char memory[300];
	struct buf allowed;
	unsigned best = 3;

	buf_wrap(&allowed, memory, sizeof(memory) - 1, 0);
	for (size_t i = 0; i < section->count; i++) {
		unsigned far = text_distance(child->key, slice_of(section->rows[i].name));
		if (section->rows[i].type == CONFIG_LATER)
			continue;
		if (far < best) {
			best = far;
			nearest = &section->rows[i];
		}
		buf_format(&allowed, "%s%s", allowed.len > 0 ? ", " : "", section->rows[i].name);
	}
	memory[allowed.len] = '\0';
	if (is_of_upstreams(r->path))
		config_complain(&r->errors, child->key_line, r->path, "unknown key here; allowed: upstreams.NAME.%s",
				r->path);
	else if (nearest != NULL)
		config_complain(&r->errors, child->key_line, r->path, "unknown key; did you mean `%s`?", nearest->name);
	else
		config_complain(&r->errors, child->key_line, r->path, "unknown key; allowed: %s", memory);
}

static void check_known(struct config_reader *r, const struct config_section *section, const struct config_node *node)
{
	for (const struct config_node *child = node->first; child != NULL; child = child->next) {
		bool known = false;
		for (size_t i = 0; i < section->count; i++)
			known |= slice_equal(child->key, slice_of(section->rows[i].name));
		if (!known) {
			size_t back = go_down(r, "%.*s", SLICE_ARGS(slice_first(child->key, 64)));
			complain_unknown(r, section, child);
			go_back(r, back);
		}
	}
}

void config_read_defaults(struct config_reader *r, const struct config_section *section, void *into)
{
	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *row = &section->rows[i];
		const struct config_node node = { .kind = CONFIG_SCALAR, .text = slice_of(row->standard) };
		if (row->type == CONFIG_SECTION)
			config_read_defaults(r, row->section, config_at(into, row->offset));
		else if (row->standard != NULL)
			read_row(r, row, &node, into);
	}
}

/* A key's text when the file does not give it; NULL: nothing. */
static const char *standard_of(const struct config_section *section, const struct config_row *row, const void *base)
{
	const struct config_preset *preset = section->presets;
	int word;

	if (preset == NULL)
		return row->standard;
	memcpy(&word, (const char *)base + section->rows[0].offset, sizeof(word));
	for (; preset->key != NULL; preset++)
		if (preset->word == word && strcmp(preset->key, row->name) == 0)
			return preset->standard;
	return row->standard;
}

void config_read_section(struct config_reader *r, const struct config_section *section, const struct config_node *node,
			 void *into)
{
	if (node->kind != CONFIG_MAPPING) {
		config_complain(&r->errors, node->line, r->path, "found %s; allowed: a mapping as {%s: …}",
				config_node_kind(node), first_key(section));
		return;
	}
	check_known(r, section, node);
	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *row = &section->rows[i];
		const char *standard = standard_of(section, row, into);
		const struct config_node *child = config_node_find(node, slice_of(row->name)),
					 given = { .kind = CONFIG_SCALAR, .text = slice_of(standard) };
		size_t back = go_down(r, "%s", row->name);
		if (child != NULL)
			read_row(r, row, child, into);
		else if ((row->flags & CONFIG_REQUIRED) != 0)
			config_complain(&r->errors, node->line, r->path, "missing; it is needed: %s", row->help);
		else if (row->type == CONFIG_SECTION)
			config_read_defaults(r, row->section, config_at(into, row->offset));
		else if (standard != NULL)
			read_row(r, row, &given, into);
		go_back(r, back);
	}
}

/* The table, written out: as documentation, as defaults, as the running configuration; and two configurations compared. */
#include <inttypes.h>

#include "lib/buf.h"
#include "lib/text.h"
#include "svc/config_internal.h"

/* ---- --docs ------------------------------------------------------------------------------------------------------------------ */

static const char *type_name(enum config_type type)
{
	static const char *const names[] = { "text",          "text, or a list of it",
					     "number",        "count",
					     "size",          "duration",
					     "percentage",    "dollars",
					     "true or false", "word",
					     "limits",        "keys",
					     "name",          "",
					     "mapping",       "list",
					     "not built" };

	CHECK((unsigned)type < ARRAY_LENGTH(names));
	return names[type];
}

static void put_number(const struct config_row *row, int64_t value, struct buf *out)
{
	if (row->type == CONFIG_DURATION)
		text_put_duration(out, value);
	else if (row->type == CONFIG_SIZE)
		text_put_size(out, value);
	else if (row->type == CONFIG_COUNT)
		text_put_count(out, value);
	else if (row->type == CONFIG_PERCENT)
		text_put_parts(out, value);
	else if (row->type == CONFIG_DOLLARS)
		text_put_dollars(out, value);
	else
		buf_append_int(out, value);
}

static void put_allowed(const struct config_row *row, struct buf *out)
{
	for (int i = 0; row->words != NULL && row->words[i] != NULL; i++)
		buf_format(out, "%s`%s`", i > 0 ? ", " : "", row->words[i]);
	if (row->words != NULL && row->type != CONFIG_WORD)
		buf_append(out, SLICE(", "));
	switch (row->type) {
	case CONFIG_INT:
	case CONFIG_COUNT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
	case CONFIG_PERCENT:
	case CONFIG_DOLLARS:
		put_number(row, row->least, out);
		buf_append(out, SLICE(" to "));
		put_number(row, row->most, out);
		break;
	case CONFIG_TEXT:
		buf_format(out, "%" PRId64 " to %" PRId64 " bytes", row->least, row->most);
		break;
	case CONFIG_LIMITS:
		for (int i = 0; i < LIMIT_COUNT; i++)
			buf_format(out, "%s`%s`", i > 0 ? " " : "", limit_name((enum limit_kind)i));
		buf_format(out, ": a count, `{limit, burst}` or `{limit, strict}`; %s",
			   row->least == 1 ? "strict unless it has a burst"
					   : "the burst is the limit unless it is given");
		break;
	case CONFIG_TEXTS:
	case CONFIG_KEYS:
	case CONFIG_NAMED:
	case CONFIG_LIST:
		buf_format(out, "%" PRId64 " to %" PRId64, row->least, row->most);
		break;
	default:
		break;
	}
}

static void put_docs(const struct config_section *section, struct slice path, struct buf *out)
{
	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *row = &section->rows[i];
		char memory[200];
		struct buf down;

		buf_wrap(&down, memory, sizeof(memory), 0);
		buf_format(&down, "%.*s%s", SLICE_ARGS(path), row->name);
		if (row->type == CONFIG_LATER)
			continue;
		if (row->type != CONFIG_SECTION) {
			buf_format(out, "| `%.*s` | %s | %s%s%s | ", SLICE_ARGS(buf_slice(&down)), type_name(row->type),
				   row->standard != NULL ? "`" : "",
				   row->standard != NULL                 ? row->standard
				   : (row->flags & CONFIG_REQUIRED) != 0 ? "needed"
									 : "",
				   row->standard != NULL ? "`" : "");
			put_allowed(row, out);
			buf_format(out, " | %s | %s |\n", (row->flags & CONFIG_RESTART) != 0 ? "restart" : "reload",
				   row->help);
		}
		buf_append(&down, row->type == CONFIG_NAMED  ? SLICE(".NAME.")
				  : row->type == CONFIG_LIST ? SLICE("[].")
							     : SLICE("."));
		if (row->section != NULL)
			put_docs(row->section, buf_slice(&down), out);
	}
}

void config_write_docs(struct buf *out)
{
	buf_append(out, SLICE("| key | type | default | allowed | takes effect on | what it is "
			      "|\n|---|---|---|---|---|---|\n"));
	put_docs(&config_root, SLICE_NONE, out);
}

/* ---- --defaults ---------------------------------------------------------------------------------------------------------------- */

static void put_indent(struct buf *out, bool comment, int depth)
{
	if (comment)
		buf_append(out, SLICE("# "));
	for (int i = 0; i < depth; i++)
		buf_append(out, SLICE("  "));
}

/* Named sections, of which there are none by default, stand as comments. */
static void put_defaults(const struct config_section *section, bool comment, int depth, struct buf *out)
{
	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *row = &section->rows[i];
		bool below = comment || row->type == CONFIG_NAMED || row->type == CONFIG_LIST;
		if (row->type == CONFIG_LATER)
			continue;
		put_indent(out, below || (row->standard == NULL && row->type != CONFIG_SECTION), depth);
		buf_format(out, "%s:%s%s\n", row->name, row->standard != NULL ? " " : "",
			   row->standard != NULL ? row->standard : "");
		if (row->section == NULL)
			continue;
		if (row->type == CONFIG_NAMED) {
			put_indent(out, true, depth + 1);
			buf_append(out, SLICE("NAME:\n"));
		}
		if (row->type == CONFIG_LIST) {
			put_indent(out, true, depth + 1);
			buf_append(out, SLICE("-\n"));
		}
		put_defaults(row->section, below, depth + (row->type == CONFIG_SECTION ? 1 : 2), out);
	}
}

void config_write_defaults(struct buf *out)
{
	put_defaults(&config_root, false, 0, out);
}

/* ---- the running one ----------------------------------------------------------------------------------------------------------- */

static void put_section(const struct config_section *section, const void *base, struct buf *out);

static void put_limits(const struct limits *limits, struct buf *out)
{
	const char *between = "{";

	for (int i = 0; i < LIMIT_COUNT; i++) {
		const struct limit *limit = &limits->of[i];
		if (limit->count == 0)
			continue;
		buf_format(out, "%s\"%s\":{\"limit\":%" PRId64, between, limit_name((enum limit_kind)i), limit->count);
		if (limit->strict)
			buf_append(out, SLICE(",\"strict\":true"));
		else if (limit_unit_of((enum limit_kind)i) != LIMIT_CONCURRENCY)
			buf_format(out, ",\"burst\":%" PRId64, limit->burst);
		buf_append_byte(out, '}');
		between = ",";
	}
	buf_append(out, between[0] == '{' ? SLICE("{}") : SLICE("}"));
}

static void put_texts(char *const *texts, size_t count, struct buf *out)
{
	buf_append_byte(out, '[');
	for (size_t i = 0; i < count; i++) {
		buf_append(out, i > 0 ? SLICE(",") : SLICE(""));
		buf_append_json(out, slice_of(texts[i]));
	}
	buf_append_byte(out, ']');
}

static void put_structs(const struct config_row *row, const char *array, size_t count, struct buf *out)
{
	buf_append_byte(out, row->type == CONFIG_NAMED ? '{' : '[');
	for (size_t i = 0; i < count; i++) {
		const char *at = array + i * row->section->size;
		buf_append(out, i > 0 ? SLICE(",") : SLICE(""));
		if (row->type == CONFIG_NAMED) {
			buf_append_json(out, slice_of(*(char *const *)(const void *)at));
			buf_append_byte(out, ':');
		}
		put_section(row->section, at, out);
	}
	buf_append_byte(out, row->type == CONFIG_NAMED ? '}' : ']');
}

static void put_text(const struct config_row *row, const char *text, struct buf *out)
{
	if (text == NULL)
		buf_append(out, SLICE("null"));
	else if ((row->flags & CONFIG_SECRET) != 0 && strcmp(text, "embedded") != 0)
		buf_append(out, SLICE("\"***\""));
	else
		buf_append_json(out, slice_of(text));
}

static void put_dollars(const struct config_row *row, int64_t value, struct buf *out)
{
	if (value < 0)
		buf_append(out, SLICE("null"));
	else
		put_number(row, value, out);
}

static void put_value(const struct config_row *row, const void *base, struct buf *out)
{
	const char *at = (const char *)base + row->offset;
	size_t count =
		row->count_offset != 0 ? *(const size_t *)(const void *)((const char *)base + row->count_offset) : 0;
	const struct config_upstream *upstream;

	switch (row->type) {
	case CONFIG_TEXT:
		put_text(row, *(char *const *)(const void *)at, out);
		break;
	case CONFIG_TEXTS:
		put_texts(*(char *const *const *)(const void *)at, count, out);
		break;
	case CONFIG_INT:
	case CONFIG_COUNT:
		buf_append_int(out, *(const int64_t *)(const void *)at);
		break;
	case CONFIG_SIZE:
	case CONFIG_DURATION:
	case CONFIG_PERCENT:
		buf_append_byte(out, '"');
		put_number(row, *(const int64_t *)(const void *)at, out);
		buf_append_byte(out, '"');
		break;
	case CONFIG_DOLLARS:
		put_dollars(row, *(const int64_t *)(const void *)at, out);
		break;
	case CONFIG_BOOL:
		buf_append(out, *(const bool *)(const void *)at ? SLICE("true") : SLICE("false"));
		break;
	case CONFIG_WORD:
		buf_append_json(out, slice_of(row->words[*(const int *)(const void *)at]));
		break;
	case CONFIG_LIMITS:
		put_limits((const void *)at, out);
		break;
	case CONFIG_KEYS:
		buf_format(out, "\"%zu, not shown\"", count);
		break;
	case CONFIG_UPSTREAM:
		upstream = *(const struct config_upstream *const *)(const void *)at;
		buf_append_json(out, slice_of(upstream->name));
		break;
	case CONFIG_SECTION:
		put_section(row->section, at, out);
		break;
	case CONFIG_NAMED:
	case CONFIG_LIST:
		put_structs(row, *(const char *const *)(const void *)at, count, out);
		break;
	case CONFIG_LATER:
		break;
	}
}

static void put_section(const struct config_section *section, const void *base, struct buf *out)
{
	const char *between = "{";

	for (size_t i = 0; i < section->count; i++) {
		if (section->rows[i].type == CONFIG_LATER)
			continue;
		buf_format(out, "%s\"%s\":", between, section->rows[i].name);
		put_value(&section->rows[i], base, out);
		between = ",";
	}
	buf_append_byte(out, '}');
}

void config_write_json(const struct config *config, struct buf *out)
{
	put_section(&config_root, config, out);
}

/* ---- what a reload may change -------------------------------------------------------------------------------------------------- */

enum { COMPARED_MOST = 1024 * 1024 };

/* Two values of a row are the same when they are written the same; secrets are compared themselves. */
static bool same_value(const struct config_row *row, const void *a, const void *b)
{
	struct config_row shown = *row;
	struct buf x, y;
	bool same;

	shown.flags &= ~(unsigned)CONFIG_SECRET;
	buf_init(&x, COMPARED_MOST);
	buf_init(&y, COMPARED_MOST);
	put_value(&shown, a, &x);
	put_value(&shown, b, &y);
	same = slice_equal(buf_slice(&x), buf_slice(&y));
	if (x.data != NULL)
		mem_wipe(x.data, x.capacity);
	if (y.data != NULL)
		mem_wipe(y.data, y.capacity);
	buf_free(&x);
	buf_free(&y);
	return same;
}

static bool may_change(const struct config_section *section, const char *path, const void *now, const void *next,
		       struct buf *error)
{
	bool may = true;

	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *row = &section->rows[i];
		if (row->type == CONFIG_SECTION) {
			may &= may_change(row->section, row->name, (const char *)now + row->offset,
					  (const char *)next + row->offset, error);
			continue;
		}
		if ((row->flags & CONFIG_RESTART) == 0 || same_value(row, now, next))
			continue;
		may = false;
		buf_format(error, "%s%s%s: from ", path, path[0] != '\0' ? "." : "", row->name);
		put_value(row, now, error);
		buf_append(error, SLICE(" to "));
		put_value(row, next, error);
		buf_append(error, SLICE(": needs a restart\n"));
	}
	return may;
}

bool config_may_reload(const struct config *now, const struct config *next, struct buf *error)
{
	return may_change(&config_root, "", now, next, error);
}

static void put_counted(struct buf *out, size_t count, const char *what)
{
	buf_format(out, "%s%zu %s%s", out->len > 0 ? ", " : "", count, what, count == 1 ? "" : "s");
}

void config_write_summary(const struct config *config, struct buf *out)
{
	put_counted(out, config->upstreams_count, "upstream");
	put_counted(out, config->models_count, "model");
	put_counted(out, config->tenants_count, "tenant");
}

/* libyaml's events into a small tree that knows its lines. Only what a configuration needs: no anchors, aliases or tags (they make a file mean what it
 * does not say), one document, no key twice, capped in size, depth and count. */
#include <yaml.h>

#include "lib/buf.h"
#include "lib/map.h"
#include "svc/config_internal.h"

enum { DEEPEST = 12, NODES_MOST = 1000000 };

struct parse {
	yaml_parser_t parser;
	struct mem *mem;
	struct config_errors *errors;
	struct slice text;
	const struct config_node *key; /* of the node that comes next, in a mapping */
	int nodes;
	bool failed;
};

static void complain(struct parse *p, size_t line, const char *what)
{
	if (!p->failed)
		config_complain(p->errors, (int)line + 1, "", "%s", what);
	p->failed = true;
}

/* A word without its colon is noticed where the next line begins. */
static size_t where_it_began(const yaml_parser_t *parser)
{
	bool key = parser->context != NULL && strcmp(parser->context, "while scanning a simple key") == 0;

	return key ? parser->context_mark.line : parser->problem_mark.line;
}

/* The parser's marks count characters, without the mark of the byte order at the beginning. */
static bool is_tab_at(struct slice text, size_t characters)
{
	for (size_t i = slice_starts(text, SLICE("\xEF\xBB\xBF")) ? 3 : 0; i < text.len; i++)
		if (((unsigned char)text.data[i] & 0xC0) != 0x80 && characters-- == 0)
			return text.data[i] == '\t';
	return false;
}

/* The parser's words for it are many, and one of them does not name it. */
static bool is_about_a_tab(const struct parse *p)
{
	const yaml_parser_t *parser = &p->parser;

	if (parser->error != YAML_SCANNER_ERROR || parser->problem == NULL)
		return false;
	return strstr(parser->problem, "tab character") != NULL ||
	       (strcmp(parser->problem, "found character that cannot start any token") == 0 &&
		is_tab_at(p->text, parser->problem_mark.index));
}

/* False at the first event that is not to be had; the parser's own words say why. */
static bool next_event(struct parse *p, yaml_event_t *event)
{
	char what[256];

	if (p->failed)
		return false;
	if (yaml_parser_parse(&p->parser, event))
		return true;
	if (is_about_a_tab(p)) {
		complain(p, p->parser.problem_mark.line,
			 "not YAML: found a tab where the indentation is; allowed: blanks");
		return false;
	}
	snprintf(what, sizeof(what), "not YAML: %s%s%s",
		 p->parser.problem != NULL ? p->parser.problem : "it cannot be read",
		 p->parser.context != NULL ? ", " : "", p->parser.context != NULL ? p->parser.context : "");
	complain(p, where_it_began(&p->parser), what);
	return false;
}

static struct config_node *new_node(struct parse *p, enum config_node_kind kind, const yaml_event_t *event,
				    const struct config_node *parent)
{
	struct config_node *node = ++p->nodes > NODES_MOST ? NULL : mem_take(p->mem, sizeof(*node));

	if (node == NULL) {
		complain(p, event->start_mark.line, "the file holds too much");
		return NULL;
	}
	node->kind = kind;
	node->line = (int)event->start_mark.line + 1;
	node->parent = parent;
	if (p->key != NULL) {
		node->key = p->key->text;
		node->key_line = p->key->line;
	}
	p->key = NULL;
	return node;
}

static struct config_node *read_scalar(struct parse *p, yaml_event_t *event, const struct config_node *parent)
{
	struct config_node *node = new_node(p, CONFIG_SCALAR, event, parent);

	if (node == NULL)
		return NULL;
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	node->text = mem_copy(p->mem, slice_make((const char *)event->data.scalar.value, event->data.scalar.length));
	mem_wipe(event->data.scalar.value, event->data.scalar.length);
	if (node->text.data == NULL)
		complain(p, event->start_mark.line, "the file holds too much");
	else if (slice_find(node->text, '\0') < node->text.len)
		complain(p, event->start_mark.line, "a NUL byte; allowed: text");
	return node;
}

static bool has_extras(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
	case YAML_MAPPING_START_EVENT:
		return event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL;
	case YAML_SEQUENCE_START_EVENT:
		return event->data.sequence_start.anchor != NULL || event->data.sequence_start.tag != NULL;
	default:
		return event->type == YAML_ALIAS_EVENT;
	}
}

/* upstreams.gemini.endpoints[0].url */
static void put_path(const struct config_node *node, struct buf *path)
{
	size_t index = 0;

	if (node->parent == NULL)
		return;
	put_path(node->parent, path);
	if (node->parent->kind == CONFIG_MAPPING) {
		buf_format(path, "%s%.*s", path->len > 0 ? "." : "", SLICE_ARGS(slice_first(node->key, CONFIG_STEP)));
		return;
	}
	for (const struct config_node *other = node->parent->first; other != NULL && other != node; other = other->next)
		index++;
	buf_format(path, "[%zu]", index);
}

/* An entry counts when its key is a new one; the file may have very many. */
static void check_twice(struct parse *p, struct map *keys, struct config_node *entry)
{
	const struct config_node *first = map_get(keys, entry->key);
	char memory[512];
	struct buf path;

	if (first == NULL) {
		map_put(keys, entry->key, entry);
		return;
	}
	buf_wrap(&path, memory, sizeof(memory) - 1, 0);
	put_path(entry, &path);
	memory[path.len] = '\0';
	config_complain(p->errors, entry->key_line, memory, "stands twice, first in line %d; allowed: once",
			first->key_line);
}

static struct config_node *read_node(struct parse *p, yaml_event_t *event, const struct config_node *parent, int depth);

/* The value behind a key, or an element; NULL at the end of its parent. */
static struct config_node *read_child(struct parse *p, yaml_event_type_t end, const struct config_node *parent,
				      int depth)
{
	struct config_node *child = NULL;
	yaml_event_t event;

	if (!next_event(p, &event))
		return NULL;
	if (event.type != end)
		child = read_node(p, &event, parent, depth);
	yaml_event_delete(&event);
	return child;
}

static void read_elements(struct parse *p, struct config_node *parent, int depth)
{
	struct config_node **last = &parent->first, *child;

	while ((child = read_child(p, YAML_SEQUENCE_END_EVENT, parent, depth)) != NULL && !p->failed) {
		*last = child;
		last = &child->next;
	}
}

static void read_entries(struct parse *p, struct config_node *parent, int depth)
{
	struct map *keys = map_new();
	struct config_node **last = &parent->first, *key, *child;

	while ((key = read_child(p, YAML_MAPPING_END_EVENT, parent, depth)) != NULL && !p->failed) {
		if (key->kind != CONFIG_SCALAR) {
			complain(p, (size_t)key->line - 1, "a list or mapping as a key; allowed: a word");
			break;
		}
		p->key = key;
		child = read_child(p, YAML_NO_EVENT, parent, depth);
		if (child == NULL)
			break;
		*last = child;
		last = &child->next;
		check_twice(p, keys, child);
	}
	map_free(&keys, NULL);
}

static struct config_node *read_node(struct parse *p, yaml_event_t *event, const struct config_node *parent, int depth)
{
	struct config_node *node;

	if (depth > DEEPEST || has_extras(event)) {
		complain(p, event->start_mark.line,
			 depth > DEEPEST ? "nested too deeply"
					 : "an anchor, alias or tag; allowed: plain YAML or JSON");
		return NULL;
	}
	if (event->type == YAML_SCALAR_EVENT)
		return read_scalar(p, event, parent);
	CHECK(event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT);
	node = new_node(p, event->type == YAML_MAPPING_START_EVENT ? CONFIG_MAPPING : CONFIG_SEQUENCE, event, parent);
	if (node != NULL && node->kind == CONFIG_MAPPING)
		read_entries(p, node, depth + 1);
	else if (node != NULL)
		read_elements(p, node, depth + 1);
	return node;
}

/* Goes through the events that frame a document; its root is the one node. */
static struct config_node *read_document(struct parse *p)
{
	struct config_node *root = NULL;
	bool more = true;
	int documents = 0;

	while (more && !p->failed) {
		yaml_event_t event;
		if (!next_event(p, &event))
			break;
		if (event.type == YAML_STREAM_END_EVENT)
			more = false;
		else if (event.type == YAML_DOCUMENT_START_EVENT && ++documents > 1)
			complain(p, event.start_mark.line, "a second document; allowed: one");
		else if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT &&
			 event.type != YAML_DOCUMENT_END_EVENT)
			root = read_node(p, &event, NULL, 0);
		yaml_event_delete(&event);
	}
	if (!p->failed && (root == NULL || root->kind != CONFIG_MAPPING))
		complain(p, root == NULL ? 0 : (size_t)root->line - 1, "no mapping; allowed: `key: value` lines");
	return p->failed ? NULL : root;
}

struct config_node *config_yaml_parse(struct slice text, struct mem *mem, struct config_errors *errors)
{
	struct parse p = { .mem = mem, .errors = errors, .text = text };
	struct config_node *root;

	CHECK(yaml_parser_initialize(&p.parser));
	/* An empty file may have no bytes to point to. */
	yaml_parser_set_input_string(&p.parser, (const unsigned char *)(text.len > 0 ? text.data : ""), text.len);
	root = read_document(&p);
	yaml_parser_delete(&p.parser);
	return root;
}

void config_yaml_wipe(struct config_node *node)
{
	if (node->text.len > 0)
		mem_wipe((char *)(uintptr_t)node->text.data, node->text.len);
	for (struct config_node *child = node->first; child != NULL; child = child->next)
		config_yaml_wipe(child);
}

const struct config_node *config_node_find(const struct config_node *mapping, struct slice key)
{
	const struct config_node *child = mapping->first;

	while (child != NULL && !slice_equal(child->key, key))
		child = child->next;
	return child;
}

bool config_node_is_nothing(const struct config_node *node)
{
	static const struct slice words[] = { { "", 0 }, { "~", 1 }, { "null", 4 }, { "Null", 4 }, { "NULL", 4 } };

	for (size_t i = 0; node->kind == CONFIG_SCALAR && node->plain && i < ARRAY_LENGTH(words); i++)
		if (slice_equal(node->text, words[i]))
			return true;
	return false;
}

const char *config_node_kind(const struct config_node *node)
{
	if (config_node_is_nothing(node))
		return "nothing";
	return node->kind == CONFIG_SCALAR ? "a value" : node->kind == CONFIG_MAPPING ? "a mapping" : "a list";
}

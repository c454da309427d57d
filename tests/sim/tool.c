#include "tool.h"

#include "json.h"
#include "lib/buf.h"
#include "lib/mem.h"

#define ARGUMENTS_MAX 65536

static struct slice first_of(struct slice object, const char *a, const char *b)
{
	struct slice value = json_get(object, a);
	return value.len > 0 ? value : json_get(object, b);
}

/* JSON Schema spells types in lower case, Google's Schema in upper. */
static bool is_type(struct slice schema, struct slice type)
{
	return slice_equal_nocase(json_string(json_get(schema, "type")), type);
}

static void put_value(struct buf *out, struct slice schema, const struct ask *ask)
{
	struct slice choices = json_get(schema, "enum"), value;
	size_t at = 0;
	if (json_element(choices, &at, &value))
		buf_append(out, value);
	else if (is_type(schema, SLICE("number")) || is_type(schema, SLICE("integer")))
		buf_append(out, SLICE("7"));
	else if (is_type(schema, SLICE("boolean")))
		buf_append(out, SLICE("true"));
	else if (is_type(schema, SLICE("array")))
		buf_append(out, SLICE("[]"));
	else if (is_type(schema, SLICE("object")))
		buf_append(out, SLICE("{}"));
	else
		buf_append_json(out, slice_of(ask->nonce));
}

static void put_arguments(struct buf *out, struct slice schema, const struct ask *ask)
{
	struct slice name, property, properties = json_get(schema, "properties");
	bool first = true;
	buf_append_byte(out, '{');
	for (size_t at = 0; json_member(properties, &at, &name, &property); first = false) {
		buf_append(out, first ? SLICE("\"") : SLICE(",\""));
		buf_append(out, name);
		buf_append(out, SLICE("\":"));
		put_value(out, property, ask);
	}
	buf_append_byte(out, '}');
}

static void call(struct ask *ask, struct slice function)
{
	struct slice name = json_string(json_get(function, "name"));
	struct slice schema = first_of(function, "parameters", "input_schema");
	if (name.len == 0)
		return;
	if (schema.len == 0)
		schema = json_get(function, "parametersJsonSchema");
	struct buf arguments;
	buf_init(&arguments, ARGUMENTS_MAX);
	put_arguments(&arguments, schema, ask);
	ask->tool.name = mem_text(name);
	ask->tool.arguments = mem_text(arguments.overflowed ? SLICE("{}") : buf_slice(&arguments));
	buf_free(&arguments);
}

void tool_choose(struct ask *ask, struct slice tools)
{
	struct slice tool, function;
	for (size_t at = 0; ask->tool.name == NULL && json_element(tools, &at, &tool);) {
		struct slice declarations = first_of(tool, "functionDeclarations", "function_declarations");
		size_t first = 0;
		if (json_element(declarations, &first, &function))
			call(ask, function);
		else if (json_get(tool, "function").len > 0)
			call(ask, json_get(tool, "function"));
		else if (ask->dialect != DIALECT_GEMINI)
			call(ask, tool);
	}
}

bool tool_forbidden(struct slice body)
{
	struct slice choice = json_get(body, "tool_choice");
	struct slice config = json_get(first_of(body, "toolConfig", "tool_config"), "functionCallingConfig");
	return slice_equal(json_string(choice), SLICE("none")) ||
	       slice_equal(json_string(json_get(choice, "type")), SLICE("none")) ||
	       slice_equal(json_string(json_get(config, "mode")), SLICE("NONE"));
}

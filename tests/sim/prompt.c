#include "prompt.h"

#include "ask.h"
#include "json.h"

static bool is_one_of(struct slice key, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (slice_equal(key, slice_of(names[i])))
			return true;
	return false;
}

static bool is_text_key(struct slice key)
{
	static const char *const names[] = { "text",         "content",   "input",  "prompt",  "system",
					     "instructions", "arguments", "output", "thinking" };
	return is_one_of(key, names, ARRAY_LENGTH(names));
}

static bool is_media_key(struct slice key)
{
	static const char *const names[] = { "inlineData", "inline_data", "fileData", "file_data",
					     "image_url",  "source",      "file",     "input_audio" };
	return is_one_of(key, names, ARRAY_LENGTH(names));
}

static void add_text(struct prompt *p, struct slice value)
{
	p->text_bytes += json_string_bytes(value);
	struct slice directive = behaviour_in_text(json_string(value));
	if (directive.len > 0)
		p->directive = directive;
}

void prompt_add(struct prompt *p, struct slice key, struct slice value)
{
	struct slice name, inner;
	if (json_is(value, '"')) {
		if (is_text_key(key))
			add_text(p, value);
	} else if (json_is(value, '[')) {
		for (size_t at = 0; json_element(value, &at, &inner);) {
			if (inner.data[0] >= '0' && inner.data[0] <= '9')
				p->numbers++;
			else
				prompt_add(p, key, inner);
		}
	} else if (json_is(value, '{')) {
		for (size_t at = 0; json_member(value, &at, &name, &inner);) {
			if (is_media_key(name))
				p->images++;
			else
				prompt_add(p, name, inner);
		}
	}
}

int64_t prompt_tokens(const struct prompt *p)
{
	int64_t tokens = (int64_t)(p->text_bytes + 3) / 4 + p->images * IMAGE_TOKENS + p->numbers;
	return tokens > 0 ? tokens : 1;
}

static bool is_tool_result(struct slice part)
{
	return json_get(part, "functionResponse").len > 0 || json_get(part, "function_response").len > 0 ||
	       slice_equal(json_string(json_get(part, "type")), SLICE("tool_result"));
}

bool prompt_ends_in_tool_result(struct slice turns)
{
	struct slice last = json_last(turns), part;
	if (slice_equal(json_string(json_get(last, "role")), SLICE("tool")) ||
	    slice_equal(json_string(json_get(last, "type")), SLICE("function_call_output")))
		return true;
	struct slice parts = json_get(last, "parts");
	if (parts.len == 0)
		parts = json_get(last, "content");
	for (size_t at = 0; json_element(parts, &at, &part);)
		if (is_tool_result(part))
			return true;
	return false;
}

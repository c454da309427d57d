/* The models that a caller may use, as each provider lists them, on one page. When a model was made is not ours to
 * know: the zero of each shape stands for it. */
#include "lib/buf.h"
#include "svc/dialect/dialect_internal.h"

static void put(struct buf *out, const char *text)
{
	buf_append(out, slice_of(text));
}

static void put_gemini(struct slice name, struct buf *out)
{
	char memory[DIALECT_MODEL_MOST + 8];
	struct buf resource;

	buf_wrap(&resource, memory, sizeof(memory), 0);
	if (!slice_starts(name, SLICE("tunedModels/")))
		put(&resource, "models/");
	buf_append(&resource, slice_first(name, DIALECT_MODEL_MOST));
	put(out, "{\"name\":");
	buf_append_json(out, buf_slice(&resource));
	put(out, ",\"version\":\"\",\"displayName\":");
	buf_append_json(out, name);
	put(out, ",\"supportedGenerationMethods\":[\"generateContent\",\"streamGenerateContent\",\"countTokens\","
		 "\"embedContent\",\"batchEmbedContents\"]}");
}

static void put_openai(struct slice name, struct buf *out)
{
	put(out, "{\"id\":");
	buf_append_json(out, name);
	put(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"sluice\"}");
}

static void put_anthropic(struct slice name, struct buf *out)
{
	put(out, "{\"type\":\"model\",\"id\":");
	buf_append_json(out, name);
	put(out, ",\"display_name\":");
	buf_append_json(out, name);
	put(out, ",\"created_at\":\"1970-01-01T00:00:00Z\"}");
}

void dialect_write_model(const struct dialect_call *call, struct slice name, struct buf *out)
{
	if (call->dialect == DIALECT_gemini)
		put_gemini(name, out);
	else if (call->dialect == DIALECT_anthropic)
		put_anthropic(name, out);
	else
		put_openai(name, out);
}

/* The page's ends, by which Anthropic's clients ask for the next one. */
static void put_anthropic_end(const struct slice *names, size_t count, struct buf *out)
{
	put(out, "],\"has_more\":false,\"first_id\":");
	if (count == 0) {
		put(out, "null,\"last_id\":null}");
		return;
	}
	buf_append_json(out, names[0]);
	put(out, ",\"last_id\":");
	buf_append_json(out, names[count - 1]);
	put(out, "}");
}

void dialect_write_models(const struct dialect_call *call, const struct slice *names, size_t count, struct buf *out)
{
	put(out, call->dialect == DIALECT_gemini      ? "{\"models\":["
		 : call->dialect == DIALECT_anthropic ? "{\"data\":["
						      : "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			put(out, ",");
		dialect_write_model(call, names[i], out);
	}
	if (call->dialect == DIALECT_anthropic)
		put_anthropic_end(names, count, out);
	else
		put(out, "]}");
}

#include "svc/dialect.h"

#include "lib/buf.h"
#include "svc/dialect/dialect_internal.h"

/* Without escapes and blanks nothing is hidden from the tables; the wire has refused control bytes already. */
static enum refusal copy_target(const struct dialect_head *head, struct mem *mem, struct dialect_call *call)
{
	call->path = mem_copy(mem, head->path);
	call->query = mem_copy(mem, head->query);
	if (call->path.len != head->path.len || call->query.len != head->query.len)
		return REFUSAL_internal;
	return call->path.len > 0 && call->path.data[0] == '/' ? REFUSAL_none : REFUSAL_unknown_path;
}

static enum refusal find_route(const struct dialect_head *head, struct mem *mem, struct dialect_call *call,
			       struct buf *detail)
{
	/* Gemini's paths overlap the others' in the model lists alone, and it gives those up to whom the head names. */
	struct dialect_claim claim = dialect_route_anthropic(head, mem, call, detail);

	if (!claim.claimed)
		claim = dialect_route_gemini(head, mem, call, detail);
	if (!claim.claimed)
		claim = dialect_route_openai(head, mem, call, detail);
	return claim.claimed ? claim.refusal : dialect_route_http(head, mem, call, detail);
}

/* Google's paths have a version; a client may be told to leave it out. */
static bool put_version(enum dialect dialect, struct slice path, struct buf *out)
{
	if (dialect != DIALECT_gemini || slice_starts(path, SLICE("/v1")))
		return true;
	return buf_append(out, SLICE("/v1beta"));
}

/* clang-format off */
static const struct {
	enum dialect dialect;
	struct slice (*meant)(struct slice path);
	const char *base; /* as that dialect's SDKs want it */
} neighbours[] = {
	{ DIALECT_anthropic, dialect_meant_anthropic, "The base URL is this gateway's address alone." },
	{ DIALECT_gemini,    dialect_meant_gemini,    "The base URL is this gateway's address alone." },
	{ DIALECT_openai,    dialect_meant_openai,    "The base URL of this gateway ends in /v1." },
};
/* clang-format on */

void dialect_suggest(struct dialect_call *call, struct buf *detail)
{
	for (size_t i = 0; i < ARRAY_LENGTH(neighbours); i++) {
		struct slice meant = neighbours[i].meant(call->path);
		if (meant.len == 0)
			continue;
		call->dialect = neighbours[i].dialect;
		buf_clear(detail);
		buf_append(detail, SLICE("Did you mean "));
		put_version(call->dialect, meant, detail);
		buf_append(detail, meant);
		buf_format(detail, "? %s", neighbours[i].base);
		return;
	}
}

/* A JSON body is JSON by its own word: nothing, application/json, or a +json type. */
static bool is_json(struct slice content_type)
{
	struct slice type = slice_trim(slice_first(content_type, slice_find(content_type, ';')));

	return type.len == 0 || slice_equal_nocase(type, SLICE("application/json")) ||
	       (type.len > 5 && slice_equal_nocase(slice_skip(type, type.len - 5), SLICE("+json")));
}

enum refusal dialect_route(const struct dialect_head *head, struct mem *mem, struct dialect_call *call,
			   struct buf *detail)
{
	*call = (struct dialect_call){ .dialect = DIALECT_http, .operation = OPERATION_pass, .max_output = -1 };
	enum refusal refusal = copy_target(head, mem, call);
	if (refusal == REFUSAL_none)
		refusal = find_route(head, mem, call, detail);
	if (refusal == REFUSAL_unknown_path)
		dialect_suggest(call, detail);
	if (refusal != REFUSAL_none)
		return refusal;
	if (call->dialect != DIALECT_http && call->takes_body && !is_json(head->content_type)) {
		buf_append(detail, SLICE("Content-Type must be application/json."));
		return REFUSAL_unsupported_media;
	}
	call->deterministic = call->operation == OPERATION_embed || call->operation == OPERATION_count_tokens;
	if (call->operation != OPERATION_generate)
		call->max_output = 0;
	return REFUSAL_none;
}

static bool put_path(const struct dialect_call *call, struct slice model, struct buf *out)
{
	static const struct slice models = { "models/", 7 }, tuned = { "tunedModels/", 12 };

	if (model.len == 0 || call->path_model_length == 0)
		return buf_append(out, call->path);
	struct slice collection = slice_starts(model, tuned) ? tuned : models;
	if (slice_starts(model, collection))
		model = slice_skip(model, collection.len);
	return buf_append(out, slice_first(call->path, call->path_model)) && buf_append(out, collection) &&
	       dialect_put_segment(model, out) &&
	       buf_append(out, slice_skip(call->path, call->path_model + call->path_model_length));
}

bool dialect_target(const struct dialect_call *call, struct slice prefix, struct slice model, struct buf *out)
{
	while (prefix.len > 0 && prefix.data[prefix.len - 1] == '/')
		prefix.len--;
	if (!buf_append(out, prefix))
		return false;
	if (call->dialect == DIALECT_http)
		return buf_append(out, call->rest);
	if (!put_version(call->dialect, call->path, out) || !put_path(call, model, out))
		return false;
	return call->query.len == 0 || (buf_append_byte(out, '?') && buf_append(out, call->query));
}

/* The name as a JSON string, in the arena. Every byte may become six. */
static bool write_model(struct slice model, struct mem *mem, struct slice *text)
{
	char memory[6 * DIALECT_MODEL_MOST + 2];
	struct buf written;

	buf_wrap(&written, memory, sizeof(memory), 0);
	if (!buf_append_json(&written, model))
		return false;
	*text = mem_copy(mem, buf_slice(&written));
	return text->len > 0;
}

bool dialect_splices(const struct dialect_call *call, struct slice model, bool ask_usage, struct mem *mem,
		     struct dialect_splice splices[DIALECT_SPLICES], size_t *count)
{
	*count = 0;
	if (model.len > 0 && call->model_length > 0) {
		struct dialect_splice *splice = &splices[(*count)++];
		splice->offset = call->model_offset;
		splice->remove = call->model_length;
		if (!write_model(model, mem, &splice->insert))
			return false;
	}
	if (ask_usage && call->usage_splice.insert.len > 0) {
		splices[(*count)++] = call->usage_splice;
		if (*count == 2 && splices[1].offset < splices[0].offset) {
			struct dialect_splice first = splices[1];
			splices[1] = splices[0];
			splices[0] = first;
		}
	}
	return true;
}

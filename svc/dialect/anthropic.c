/* Anthropic's Messages API. The thinking budget is part of max_tokens. Of a stream's usage the input comes first, in
 * message_start; message_delta has the output so far, and what it repeats of the input is newer. What was read from or
 * written to the prompt cache is counted beside input_tokens. */
#include "lib/buf.h"
#include "svc/dialect/dialect_internal.h"

/* clang-format off */
static const struct {
	const char *path;
	enum operation operation;
} endpoints[] = {
	{ "/v1/messages",              OPERATION_generate },
	{ "/v1/messages/count_tokens", OPERATION_count_tokens },
};

static const struct dialect_path body[] = {
	{ "",                                             DIALECT_ROLE_WHOLE,       0 },
	{ "model",                                        DIALECT_ROLE_MODEL,       DIALECT_MODEL_MOST + 1 },
	{ "stream",                                       DIALECT_ROLE_STREAM,      0 },
	{ "max_tokens",                                   DIALECT_ROLE_MAXIMUM,     0 },
	{ "temperature",                                  DIALECT_ROLE_TEMPERATURE, 0 },
	{ "messages[].content[].source.data",             DIALECT_ROLE_MEDIA,       0 },
	{ "messages[].content[].content[].source.data",   DIALECT_ROLE_MEDIA,       0 },
	{ "messages[].content[].source.url",              DIALECT_ROLE_MEDIA_NAME,  0 },
	{ "messages[].content[].source.file_id",          DIALECT_ROLE_MEDIA_NAME,  0 },
	{ "messages[].content[].content[].source.url",    DIALECT_ROLE_MEDIA_NAME,  0 },
	{ "messages[].content[].content[].source.file_id", DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "tools",                                        DIALECT_ROLE_TOOLS,       0 },
	{ "metadata.user_id",                             DIALECT_ROLE_SESSION,     DIALECT_KEPT_SESSION },
};

static const struct dialect_path answer[] = {
	{ "type",                                       DIALECT_ROLE_TYPE,        DIALECT_KEPT_TYPE },
	{ "message.usage.input_tokens",                 DIALECT_ROLE_INPUT,       0 },
	{ "message.usage.cache_creation_input_tokens",  DIALECT_ROLE_CACHE_WRITE, 0 },
	{ "message.usage.cache_read_input_tokens",      DIALECT_ROLE_CACHE_READ,  0 },
	{ "message.usage.output_tokens",                DIALECT_ROLE_OUTPUT,      0 },
	{ "usage.input_tokens",                         DIALECT_ROLE_INPUT,       0 },
	{ "usage.cache_creation_input_tokens",          DIALECT_ROLE_CACHE_WRITE, 0 },
	{ "usage.cache_read_input_tokens",              DIALECT_ROLE_CACHE_READ,  0 },
	{ "usage.output_tokens",                        DIALECT_ROLE_OUTPUT,      0 },
	{ "stop_reason",                                DIALECT_ROLE_POLICY,      DIALECT_KEPT_TYPE },
	{ "delta.stop_reason",                          DIALECT_ROLE_POLICY,      DIALECT_KEPT_TYPE },
	{ "delta.text",                                 DIALECT_ROLE_TEXT,        0 },
	{ "delta.thinking",                             DIALECT_ROLE_TEXT,        0 },
	{ "delta.partial_json",                         DIALECT_ROLE_TEXT,        0 },
	{ "content[].text",                             DIALECT_ROLE_TEXT,        0 },
	{ "content[].thinking",                         DIALECT_ROLE_TEXT,        0 },
	{ "content[].input",                            DIALECT_ROLE_VALUE,       0 },
	{ "error",                                      DIALECT_ROLE_ERROR,       0 },
};

static const struct dialect_path failure[] = {
	{ "error.type",    DIALECT_ROLE_REASON,  DIALECT_KEPT_TYPE },
	{ "error.message", DIALECT_ROLE_MESSAGE, DIALECT_KEPT_MESSAGE },
};
/* clang-format on */

const struct dialect_table dialect_anthropic_body = { body, ARRAY_LENGTH(body) };
const struct dialect_table dialect_anthropic_answer = { answer, ARRAY_LENGTH(answer) };
const struct dialect_table dialect_anthropic_failure = { failure, ARRAY_LENGTH(failure) };

struct dialect_claim dialect_route_anthropic(const struct dialect_head *head, struct mem *mem,
					     struct dialect_call *call, struct buf *detail)
{
	struct dialect_claim found = { true, REFUSAL_unknown_path };
	bool below = slice_starts(call->path, SLICE("/v1/messages/"));

	for (size_t i = 0; i < ARRAY_LENGTH(endpoints); i++)
		if (slice_equal(call->path, slice_of(endpoints[i].path))) {
			call->dialect = DIALECT_anthropic;
			call->operation = endpoints[i].operation;
			call->takes_body = true;
			found.refusal = dialect_check_method(head, call->operation, detail);
			return found;
		}
	if (head->anthropic_version && slice_equal(call->path, SLICE("/v1/models"))) {
		call->dialect = DIALECT_anthropic;
		call->operation = OPERATION_list_models;
		found.refusal = dialect_check_method(head, call->operation, detail);
	} else if (head->anthropic_version && slice_starts(call->path, SLICE("/v1/models/"))) {
		call->dialect = DIALECT_anthropic;
		call->operation = OPERATION_get_model;
		found.refusal = dialect_check_method(head, call->operation, detail);
		if (found.refusal == REFUSAL_none)
			found.refusal = dialect_decode_model(slice_skip(call->path, strlen("/v1/models/")), mem,
							     &call->model, detail);
	} else if (below) {
		call->dialect = DIALECT_anthropic;
	} else {
		found.claimed = false;
	}
	return found;
}

/* What is below /v1 without a /v1 of its own is somebody else's: OpenAI has /v1/threads/ID/messages. */
struct slice dialect_meant_anthropic(struct slice path)
{
	size_t version = slice_starts(path, SLICE("/v1/")) ? 0 : strlen("/v1");

	for (size_t i = 0; i < ARRAY_LENGTH(endpoints); i++)
		if (slice_ends(path, slice_skip(slice_of(endpoints[i].path), version)))
			return slice_of(endpoints[i].path);
	return SLICE_NONE;
}

/* OpenAI's API and what speaks like it: chat and text completions, responses, embeddings.
 *
 * Streams of the completions tell usage only when `stream_options.include_usage` is true: then a chunk with no choices
 * and the usage comes last, and every chunk before it carries "usage":null. Who had us ask does not see the last
 * chunk; the nulls stay, because bytes pass unchanged. Responses always tell usage.
 * Reasoning is part of the maximum and of the output that is reported. */
#include "lib/buf.h"
#include "svc/dialect/dialect_internal.h"

/* clang-format off */
static const struct {
	const char *path;
	enum operation operation;
	bool responses;
} endpoints[] = {
	{ "/v1/chat/completions", OPERATION_generate, false },
	{ "/v1/completions",      OPERATION_generate, false },
	{ "/v1/responses",        OPERATION_generate, true },
	{ "/v1/embeddings",       OPERATION_embed,    false },
};

static const struct dialect_path body[] = {
	{ "",                                        DIALECT_ROLE_WHOLE,          0 },
	{ "model",                                   DIALECT_ROLE_MODEL,          DIALECT_MODEL_MOST + 1 },
	{ "stream",                                  DIALECT_ROLE_STREAM,         0 },
	{ "stream_options",                          DIALECT_ROLE_STREAM_OPTIONS, 0 },
	{ "stream_options.include_usage",            DIALECT_ROLE_INCLUDE_USAGE,  0 },
	{ "max_tokens",                              DIALECT_ROLE_MAXIMUM,        0 },
	{ "max_completion_tokens",                   DIALECT_ROLE_MAXIMUM,        0 },
	{ "max_output_tokens",                       DIALECT_ROLE_MAXIMUM,        0 },
	{ "n",                                       DIALECT_ROLE_CANDIDATES,     0 },
	{ "best_of",                                 DIALECT_ROLE_CANDIDATES,     0 },
	{ "prompt[]",                                DIALECT_ROLE_PROMPTS,        0 },
	{ "temperature",                             DIALECT_ROLE_TEMPERATURE,    0 },
	{ "messages[].content[].image_url.url",      DIALECT_ROLE_MEDIA,          0 },
	{ "messages[].content[].input_audio.data",   DIALECT_ROLE_MEDIA,          0 },
	{ "messages[].content[].file.file_data",     DIALECT_ROLE_MEDIA,          0 },
	{ "input[].content[].image_url",             DIALECT_ROLE_MEDIA,          0 },
	{ "input[].content[].file_data",             DIALECT_ROLE_MEDIA,          0 },
	{ "input[].content[].input_audio.data",      DIALECT_ROLE_MEDIA,          0 },
	{ "input[].output.image_url",                DIALECT_ROLE_MEDIA,          0 },
	{ "input[].output[].image_url",              DIALECT_ROLE_MEDIA,          0 },
	{ "input[].output[].file_data",              DIALECT_ROLE_MEDIA,          0 },
	{ "messages[].content[].file.file_id",       DIALECT_ROLE_MEDIA_NAME,     0 },
	{ "input[].content[].file_id",               DIALECT_ROLE_MEDIA_NAME,     0 },
	{ "input[].content[].file_url",              DIALECT_ROLE_MEDIA_NAME,     0 },
	{ "input[].output.file_id",                  DIALECT_ROLE_MEDIA_NAME,     0 },
	{ "input[].output[].file_id",                DIALECT_ROLE_MEDIA_NAME,     0 },
	{ "input[].output[].file_url",               DIALECT_ROLE_MEDIA_NAME,     0 },
	{ "tools",                                   DIALECT_ROLE_TOOLS,          0 },
	{ "functions",                               DIALECT_ROLE_TOOLS,          0 },
	{ "prompt_cache_key",                        DIALECT_ROLE_SESSION,        DIALECT_KEPT_SESSION },
	{ "conversation",                            DIALECT_ROLE_SESSION,        DIALECT_KEPT_SESSION },
	{ "conversation.id",                         DIALECT_ROLE_SESSION,        DIALECT_KEPT_SESSION },
	{ "safety_identifier",                       DIALECT_ROLE_SESSION,        DIALECT_KEPT_SESSION },
	{ "user",                                    DIALECT_ROLE_SESSION,        DIALECT_KEPT_SESSION },
};

static const struct dialect_path chat[] = {
	{ "usage",                                          DIALECT_ROLE_USAGE,   0 },
	{ "usage.prompt_tokens",                            DIALECT_ROLE_INPUT,   0 },
	{ "usage.prompt_tokens_details.cached_tokens",      DIALECT_ROLE_CACHED,  0 },
	{ "usage.completion_tokens",                        DIALECT_ROLE_OUTPUT,  0 },
	{ "choices",                                        DIALECT_ROLE_CHOICES, 0 },
	{ "choices[].finish_reason",                        DIALECT_ROLE_POLICY,  DIALECT_KEPT_TYPE },
	{ "choices[].delta.content",                        DIALECT_ROLE_TEXT,    0 },
	{ "choices[].delta.refusal",                        DIALECT_ROLE_REFUSAL, 0 },
	{ "choices[].delta.reasoning_content",              DIALECT_ROLE_TEXT,    0 },
	{ "choices[].delta.reasoning",                      DIALECT_ROLE_TEXT,    0 },
	{ "choices[].delta.tool_calls[].function.arguments", DIALECT_ROLE_TEXT,   0 },
	{ "choices[].delta.function_call.arguments",        DIALECT_ROLE_TEXT,    0 },
	{ "choices[].text",                                 DIALECT_ROLE_TEXT,    0 },
	{ "choices[].message.content",                      DIALECT_ROLE_TEXT,    0 },
	{ "choices[].message.refusal",                      DIALECT_ROLE_REFUSAL, 0 },
	{ "choices[].message.reasoning_content",            DIALECT_ROLE_TEXT,    0 },
	{ "choices[].message.reasoning",                    DIALECT_ROLE_TEXT,    0 },
	{ "choices[].message.tool_calls[].function.arguments", DIALECT_ROLE_TEXT, 0 },
	{ "choices[].message.function_call.arguments",      DIALECT_ROLE_TEXT,    0 },
	{ "error",                                          DIALECT_ROLE_ERROR,   0 },
};

/* Of a stream: `delta`, and the response in its last event; else the response itself. */
static const struct dialect_path responses[] = {
	{ "type",                                           DIALECT_ROLE_TYPE,    DIALECT_KEPT_TYPE },
	{ "delta",                                          DIALECT_ROLE_TEXT,    0 },
	{ "response.usage.input_tokens",                    DIALECT_ROLE_INPUT,   0 },
	{ "response.usage.input_tokens_details.cached_tokens", DIALECT_ROLE_CACHED, 0 },
	{ "response.usage.output_tokens",                   DIALECT_ROLE_OUTPUT,  0 },
	{ "usage.input_tokens",                             DIALECT_ROLE_INPUT,   0 },
	{ "usage.input_tokens_details.cached_tokens",       DIALECT_ROLE_CACHED,  0 },
	{ "usage.output_tokens",                            DIALECT_ROLE_OUTPUT,  0 },
	{ "response.incomplete_details.reason",             DIALECT_ROLE_POLICY,  DIALECT_KEPT_TYPE },
	{ "incomplete_details.reason",                      DIALECT_ROLE_POLICY,  DIALECT_KEPT_TYPE },
	{ "output[].content[].type",                        DIALECT_ROLE_POLICY,  DIALECT_KEPT_TYPE },
	{ "output[].content[].text",                        DIALECT_ROLE_TEXT,    0 },
	{ "output[].content[].refusal",                     DIALECT_ROLE_REFUSAL, 0 },
	{ "output[].arguments",                             DIALECT_ROLE_TEXT,    0 },
	{ "output[].input",                                 DIALECT_ROLE_TEXT,    0 },
	{ "output[].summary[].text",                        DIALECT_ROLE_TEXT,    0 },
	{ "error",                                          DIALECT_ROLE_ERROR,   0 },
};

static const struct dialect_path embeddings[] = {
	{ "usage.prompt_tokens", DIALECT_ROLE_INPUT, 0 },
	{ "error",               DIALECT_ROLE_ERROR, 0 },
};

/* `innererror` is Azure's. */
static const struct dialect_path failure[] = {
	{ "error.code",            DIALECT_ROLE_REASON,  DIALECT_KEPT_TYPE },
	{ "error.type",            DIALECT_ROLE_REASON,  DIALECT_KEPT_TYPE },
	{ "error.innererror.code", DIALECT_ROLE_REASON,  DIALECT_KEPT_TYPE },
	{ "error.message",         DIALECT_ROLE_MESSAGE, DIALECT_KEPT_MESSAGE },
};
/* clang-format on */

const struct dialect_table dialect_openai_body = { body, ARRAY_LENGTH(body) };
const struct dialect_table dialect_openai_chat = { chat, ARRAY_LENGTH(chat) };
const struct dialect_table dialect_openai_responses = { responses, ARRAY_LENGTH(responses) };
const struct dialect_table dialect_openai_embeddings = { embeddings, ARRAY_LENGTH(embeddings) };
const struct dialect_table dialect_openai_failure = { failure, ARRAY_LENGTH(failure) };

/* OpenAI's shape of the model lists is the one for whom no other is meant; what else is below /v1 is unknown here. */
struct dialect_claim dialect_route_openai(const struct dialect_head *head, struct mem *mem, struct dialect_call *call,
					  struct buf *detail)
{
	struct dialect_claim found = { true, REFUSAL_unknown_path };

	if (!slice_starts(call->path, SLICE("/v1/")) && !slice_equal(call->path, SLICE("/v1")))
		return (struct dialect_claim){ false, REFUSAL_none };
	call->dialect = DIALECT_openai;
	for (size_t i = 0; i < ARRAY_LENGTH(endpoints); i++)
		if (slice_equal(call->path, slice_of(endpoints[i].path))) {
			call->operation = endpoints[i].operation;
			call->responses = endpoints[i].responses;
			call->takes_body = true;
			found.refusal = dialect_check_method(head, call->operation, detail);
		}
	if (slice_equal(call->path, SLICE("/v1/models"))) {
		call->operation = OPERATION_list_models;
		found.refusal = dialect_check_method(head, call->operation, detail);
	} else if (slice_starts(call->path, SLICE("/v1/models/"))) {
		call->operation = OPERATION_get_model;
		found.refusal = dialect_check_method(head, call->operation, detail);
		if (found.refusal == REFUSAL_none)
			found.refusal = dialect_decode_model(slice_skip(call->path, strlen("/v1/models/")), mem,
							     &call->model, detail);
	}
	return found;
}

struct slice dialect_meant_openai(struct slice path)
{
	for (size_t i = 0; i < ARRAY_LENGTH(endpoints); i++)
		if (slice_ends(path, slice_skip(slice_of(endpoints[i].path), strlen("/v1"))))
			return slice_of(endpoints[i].path);
	return SLICE_NONE;
}

/* Google's Gemini API, and Vertex AI, which differs in its paths.
 *
 *   /v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse
 *   /v1/projects/P/locations/L/publishers/google/models/gemini-2.5-pro:generateContent
 *
 * The verb stands behind the last colon. Streams are server-sent events with alt=sse, else one JSON array whose elements
 * come as they are made. Numbers may be strings (ProtoJSON), names in snake case as well, zeros left out.
 * The thinking budget is part of maxOutputTokens; alone it bounds nothing.
 * A model's name inside the body (batchEmbedContents has one in each request) must be the path's: limits and rights are
 * judged by that one. Disadvantage: it is passed as it is, so the model of such calls cannot be exchanged for another. */
#include "lib/buf.h"
#include "svc/dialect/dialect_internal.h"

/* clang-format off */
static const struct {
	const char *verb;
	enum operation operation;
	bool stream;
} verbs[] = {
	{ "generateContent",       OPERATION_generate,     false },
	{ "streamGenerateContent", OPERATION_generate,     true },
	{ "countTokens",           OPERATION_count_tokens, false },
	{ "embedContent",          OPERATION_embed,        false },
	{ "batchEmbedContents",    OPERATION_embed,        false },
};

static const struct dialect_path body[] = {
	{ "",                                    DIALECT_ROLE_WHOLE,       0 },
	{ "model",                               DIALECT_ROLE_SAME_MODEL,  DIALECT_RESOURCE },
	{ "requests[].model",                    DIALECT_ROLE_SAME_MODEL,  DIALECT_RESOURCE },
	{ "generateContentRequest.model",        DIALECT_ROLE_SAME_MODEL,  DIALECT_RESOURCE },
	{ "generate_content_request.model",      DIALECT_ROLE_SAME_MODEL,  DIALECT_RESOURCE },
	{ "generationConfig.maxOutputTokens",    DIALECT_ROLE_MAXIMUM,     24 },
	{ "generationConfig.max_output_tokens",  DIALECT_ROLE_MAXIMUM,     24 },
	{ "generation_config.maxOutputTokens",   DIALECT_ROLE_MAXIMUM,     24 },
	{ "generation_config.max_output_tokens", DIALECT_ROLE_MAXIMUM,     24 },
	{ "generationConfig.candidateCount",     DIALECT_ROLE_CANDIDATES,  24 },
	{ "generationConfig.candidate_count",    DIALECT_ROLE_CANDIDATES,  24 },
	{ "generation_config.candidateCount",    DIALECT_ROLE_CANDIDATES,  24 },
	{ "generation_config.candidate_count",   DIALECT_ROLE_CANDIDATES,  24 },
	{ "generationConfig.temperature",        DIALECT_ROLE_TEMPERATURE, 0 },
	{ "generation_config.temperature",       DIALECT_ROLE_TEMPERATURE, 0 },
	{ "contents[].parts[].inlineData.data",  DIALECT_ROLE_MEDIA,       0 },
	{ "contents[].parts[].inline_data.data", DIALECT_ROLE_MEDIA,       0 },
	{ "contents.parts[].inlineData.data",    DIALECT_ROLE_MEDIA,       0 },
	{ "contents.parts[].inline_data.data",   DIALECT_ROLE_MEDIA,       0 },
	{ "content.parts[].inlineData.data",     DIALECT_ROLE_MEDIA,       0 },
	{ "content.parts[].inline_data.data",    DIALECT_ROLE_MEDIA,       0 },
	{ "contents[].parts[].fileData.fileUri", DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "contents[].parts[].fileData.file_uri", DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "contents[].parts[].file_data.fileUri", DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "contents[].parts[].file_data.file_uri", DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "contents.parts[].fileData.fileUri",   DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "contents.parts[].fileData.file_uri",  DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "contents.parts[].file_data.fileUri",  DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "contents.parts[].file_data.file_uri", DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "content.parts[].fileData.fileUri",    DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "content.parts[].fileData.file_uri",   DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "content.parts[].file_data.fileUri",   DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "content.parts[].file_data.file_uri",  DIALECT_ROLE_MEDIA_NAME, 0 },
	{ "tools",                               DIALECT_ROLE_TOOLS,       0 },
	{ "cachedContent",                       DIALECT_ROLE_SESSION,     DIALECT_KEPT_SESSION },
	{ "cached_content",                      DIALECT_ROLE_SESSION,     DIALECT_KEPT_SESSION },
};

#define ANSWER(at) \
	{ at "usageMetadata.promptTokenCount",                 DIALECT_ROLE_INPUT,      0 }, \
	{ at "usageMetadata.toolUsePromptTokenCount",          DIALECT_ROLE_TOOL_INPUT, 0 }, \
	{ at "usageMetadata.cachedContentTokenCount",          DIALECT_ROLE_CACHED,     0 }, \
	{ at "usageMetadata.candidatesTokenCount",             DIALECT_ROLE_OUTPUT,     0 }, \
	{ at "usageMetadata.thoughtsTokenCount",               DIALECT_ROLE_THOUGHTS,   0 }, \
	{ at "candidates[]",                                   DIALECT_ROLE_CANDIDATE,  0 }, \
	{ at "candidates[].index",                             DIALECT_ROLE_INDEX,      0 }, \
	{ at "candidates[].finishReason",                      DIALECT_ROLE_FINISH,     DIALECT_KEPT_TYPE }, \
	{ at "promptFeedback.blockReason",                     DIALECT_ROLE_BLOCKED,    0 }, \
	{ at "candidates[].content.parts[].text",              DIALECT_ROLE_TEXT,       0 }, \
	{ at "candidates[].content.parts[].functionCall",      DIALECT_ROLE_VALUE,      0 }, \
	{ at "candidates[].content.parts[].executableCode",    DIALECT_ROLE_VALUE,      0 }, \
	{ at "error",                                          DIALECT_ROLE_ERROR,      0 }

static const struct dialect_path answer[] = { ANSWER("") };
static const struct dialect_path array[] = { { "", DIALECT_ROLE_WHOLE, 0 }, ANSWER("[].") };

/* Vertex names its quotas in ErrorInfo. A stream that would have been an array fails as an array of one. */
#define FAILURE(at) \
	{ at "error.message",                          DIALECT_ROLE_MESSAGE, DIALECT_KEPT_MESSAGE }, \
	{ at "error.details[].violations[].quotaId",   DIALECT_ROLE_QUOTA,   DIALECT_KEPT_QUOTA }, \
	{ at "error.details[].metadata.quota_limit",   DIALECT_ROLE_QUOTA,   DIALECT_KEPT_QUOTA }, \
	{ at "error.details[].retryDelay",             DIALECT_ROLE_DELAY,   DIALECT_KEPT_TYPE }

static const struct dialect_path failure[] = { FAILURE(""), FAILURE("[].") };
/* clang-format on */

const struct dialect_table dialect_gemini_body = { body, ARRAY_LENGTH(body) };
const struct dialect_table dialect_gemini_answer = { answer, ARRAY_LENGTH(answer) };
const struct dialect_table dialect_gemini_array = { array, ARRAY_LENGTH(array) };
const struct dialect_table dialect_gemini_failure = { failure, ARRAY_LENGTH(failure) };

/* `alt` or `$alt`; the last one counts. */
static struct slice alt_of(struct slice query)
{
	struct slice found = SLICE_NONE;

	while (query.len > 0) {
		struct slice value, name = slice_cut(slice_cut(query, '&', &query), '=', &value);
		if (slice_equal(name, SLICE("alt")) || slice_equal(name, SLICE("$alt")) ||
		    slice_equal_nocase(name, SLICE("%24alt")))
			found = value;
	}
	return found;
}

static enum refusal set_framing(struct dialect_call *call, struct buf *detail)
{
	struct slice alt = alt_of(call->query);
	struct slice form = slice_first(alt, slice_find(alt, ';'));

	if (slice_equal(form, SLICE("sse"))) {
		call->framing = DIALECT_EVENTS;
	} else if (form.len == 0 || slice_equal(form, SLICE("json"))) {
		call->framing = DIALECT_ARRAY;
	} else {
		buf_append(detail, SLICE("`alt` must be sse or json."));
		return REFUSAL_invalid_request;
	}
	return REFUSAL_none;
}

/* Takes "/v1", "/v1beta", "/v1alpha" or "/v1beta1" off; a path without one is left as it is. */
static struct slice skip_version(struct slice path)
{
	struct slice rest, version = slice_cut(slice_skip(path, 1), '/', &rest);

	if (slice_equal(version, SLICE("v1")) || slice_equal(version, SLICE("v1beta")) ||
	    slice_equal(version, SLICE("v1alpha")) || slice_equal(version, SLICE("v1beta1")))
		return slice_skip(path, 1 + version.len);
	return path;
}

/* Where in `rest` the collection that holds the model begins; rest.len: nowhere. */
static size_t find_collection(struct slice rest)
{
	static const struct slice models = { "/models/", 8 };

	if (slice_starts(rest, models) || slice_starts(rest, SLICE("/tunedModels/")))
		return 1;
	if (slice_starts(rest, SLICE("/projects/")) || slice_starts(rest, SLICE("/publishers/")))
		for (size_t at = 0; at < rest.len; at++)
			if (slice_starts(slice_skip(rest, at), models))
				return at + 1;
	return rest.len;
}

/* Where the colon before the verb stands; named.len: nowhere. */
static size_t find_verb(struct slice named)
{
	size_t colon = named.len;

	for (size_t i = 0; i < named.len; i++)
		if (named.data[i] == ':')
			colon = i;
	return colon;
}

static enum refusal set_verb(struct dialect_call *call, struct slice verb, struct buf *detail)
{
	for (size_t i = 0; i < ARRAY_LENGTH(verbs); i++)
		if (slice_equal(verb, slice_of(verbs[i].verb))) {
			call->operation = verbs[i].operation;
			return verbs[i].stream ? set_framing(call, detail) : REFUSAL_none;
		}
	buf_append(detail,
		   SLICE("Behind the model stands one of :generateContent, :streamGenerateContent, :countTokens, "
			 ":embedContent, :batchEmbedContents."));
	return REFUSAL_unknown_path;
}

/* The path names a model, with a verb behind it or not. `at`: where in the path its collection begins. */
static enum refusal route_model(const struct dialect_head *head, size_t at, struct mem *mem, struct dialect_call *call,
				struct buf *detail)
{
	struct slice named = slice_skip(call->path, at), name, verb;
	size_t colon = find_verb(named);

	verb = slice_skip(named, colon + 1);
	named = slice_first(named, colon);
	bool tuned = slice_starts(named, SLICE("tunedModels/"));
	call->operation = OPERATION_get_model;
	enum refusal refusal = colon < call->path.len - at ? set_verb(call, verb, detail) : REFUSAL_none;
	if (refusal == REFUSAL_none)
		refusal = dialect_check_method(head, call->operation, detail);
	if (refusal == REFUSAL_none)
		refusal =
			dialect_decode_model(tuned ? named : slice_skip(named, strlen("models/")), mem, &name, detail);
	if (refusal != REFUSAL_none)
		return refusal;
	call->model = name;
	call->path_model = at;
	call->path_model_length = named.len;
	call->takes_body = call->operation != OPERATION_get_model;
	return REFUSAL_none;
}

static struct dialect_claim claim(enum refusal refusal)
{
	return (struct dialect_claim){ true, refusal };
}

struct dialect_claim dialect_route_gemini(const struct dialect_head *head, struct mem *mem, struct dialect_call *call,
					  struct buf *detail)
{
	struct slice rest = skip_version(call->path), version = slice_first(call->path, call->path.len - rest.len);
	size_t at = find_collection(rest);
	/* /v1/models and /v1/models/MODEL without a verb belong to whom the head says. */
	bool own = !slice_equal(version, SLICE("/v1")) || head->google_key;
	bool list = slice_equal(rest, SLICE("/models"));
	bool verb = slice_find(slice_skip(rest, at), ':') < slice_skip(rest, at).len;
	bool colon_is_name = !own && slice_equal(head->method, SLICE("GET"));

	if ((list && own) || (at < rest.len && (own || (verb && !colon_is_name)))) {
		call->dialect = DIALECT_gemini;
		if (list) {
			call->operation = OPERATION_list_models;
			return claim(dialect_check_method(head, call->operation, detail));
		}
		if (!dialect_path_safe(call->path)) {
			buf_append(detail, SLICE("The path has a wrong escape or a dot segment."));
			return claim(REFUSAL_invalid_request);
		}
		return claim(route_model(head, version.len + at, mem, call, detail));
	}
	if (version.len > 0 && !slice_equal(version, SLICE("/v1"))) {
		call->dialect = DIALECT_gemini;
		return claim(REFUSAL_unknown_path);
	}
	return (struct dialect_claim){ false, REFUSAL_none };
}

/* `named`: a collection, a model's name, and whatever else. */
static bool names_call(struct slice named)
{
	size_t colon = find_verb(named);
	struct slice name;

	(void)slice_cut(slice_first(named, colon), '/', &name);
	if (name.len == 0)
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(verbs); i++)
		if (slice_equal(slice_skip(named, colon + 1), slice_of(verbs[i].verb)))
			return true;
	return false;
}

struct slice dialect_meant_gemini(struct slice path)
{
	size_t at = path.len > DIALECT_RESOURCE ? path.len - DIALECT_RESOURCE : 0;

	for (; at < path.len; at++) {
		struct slice meant = slice_skip(path, at), rest;
		if (meant.data[0] != '/')
			continue;
		rest = skip_version(meant);
		size_t collection = find_collection(rest);
		if (collection < rest.len)
			return names_call(slice_skip(rest, collection)) ? meant : SLICE_NONE;
	}
	return SLICE_NONE;
}

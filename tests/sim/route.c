#include "route.h"

/* clang-format off */
static const struct {
	const char *path;
	enum dialect dialect;
	enum verb verb;
} fixed[] = {
	{ "/v1/chat/completions",      DIALECT_OPENAI,    VERB_CHAT },
	{ "/v1/responses",             DIALECT_OPENAI,    VERB_RESPONSES },
	{ "/v1/completions",           DIALECT_OPENAI,    VERB_COMPLETIONS },
	{ "/v1/embeddings",            DIALECT_OPENAI,    VERB_EMBED },
	{ "/v1/messages",              DIALECT_ANTHROPIC, VERB_GENERATE },
	{ "/v1/messages/count_tokens", DIALECT_ANTHROPIC, VERB_COUNT_TOKENS },
};

static const struct {
	const char *name;
	enum verb verb;
	bool stream;
} methods[] = {
	{ "generateContent",       VERB_GENERATE,     false },
	{ "streamGenerateContent", VERB_GENERATE,     true },
	{ "countTokens",           VERB_COUNT_TOKENS, false },
	{ "embedContent",          VERB_EMBED,        false },
	{ "batchEmbedContents",    VERB_BATCH_EMBED,  false },
};
/* clang-format on */

const char *route_dialect_name(enum dialect dialect)
{
	static const char *const names[] = { "gemini", "openai", "anthropic", "http" };
	return names[dialect];
}

/* "{model}:{method}" */
static struct route google_call(struct slice rest, struct slice version, bool vertex)
{
	struct route r = { .dialect = DIALECT_GEMINI, .version = version, .vertex = vertex };
	r.model = slice_cut(rest, ':', &r.method);
	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++) {
		if (!slice_equal(r.method, slice_of(methods[i].name)))
			continue;
		r.verb = methods[i].verb;
		r.stream = methods[i].stream;
	}
	return r;
}

static struct route models_of(struct slice rest, struct slice version, enum dialect suggested)
{
	struct route r = { .dialect = suggested, .verb = VERB_MODELS, .version = version, .get = true };
	if (slice_equal(version, SLICE("v1beta")))
		r.dialect = DIALECT_GEMINI;
	if (rest.len > 1) {
		r.verb = VERB_MODEL;
		r.model = slice_skip(rest, 1);
	}
	return r;
}

static struct route versioned(struct slice version, struct slice rest, enum dialect suggested)
{
	static const struct slice models = { "/models", 7 };
	const char *publishers;
	if (slice_starts(rest, SLICE("/projects/"))) {
		publishers = memmem(rest.data, rest.len, "/models/", 8);
		if (publishers != NULL)
			return google_call(slice_skip(rest, (size_t)(publishers - rest.data) + 8), version, true);
	}
	if (slice_starts(rest, models) && (rest.len == models.len || rest.data[models.len] == '/')) {
		rest = slice_skip(rest, models.len);
		if (slice_find(rest, ':') < rest.len && rest.len > 1)
			return google_call(slice_skip(rest, 1), version, false);
		return models_of(rest, version, suggested);
	}
	return (struct route){ .dialect = slice_equal(version, SLICE("v1beta")) ? DIALECT_GEMINI : suggested };
}

struct route route_of(struct slice path, enum dialect suggested)
{
	for (size_t i = 0; i < ARRAY_LENGTH(fixed); i++)
		if (slice_equal(path, slice_of(fixed[i].path)))
			return (struct route){ .dialect = fixed[i].dialect, .verb = fixed[i].verb };
	if (slice_starts(path, SLICE("/__sim/")))
		return (struct route){ .dialect = DIALECT_HTTP, .verb = VERB_CONTROL };
	if (slice_starts(path, SLICE("/anything")))
		return (struct route){ .dialect = DIALECT_HTTP, .verb = VERB_ECHO };
	if (slice_starts(path, SLICE("/v1beta/")))
		return versioned(SLICE("v1beta"), slice_skip(path, 7), suggested);
	if (slice_starts(path, SLICE("/v1beta1/")))
		return versioned(SLICE("v1beta1"), slice_skip(path, 8), suggested);
	if (slice_starts(path, SLICE("/v1/")))
		return versioned(SLICE("v1"), slice_skip(path, 3), suggested);
	return (struct route){ .dialect = suggested };
}

struct slice route_parameter(struct slice query, struct slice name)
{
	while (query.len > 0) {
		struct slice value, pair = slice_cut(query, '&', &query);
		if (slice_equal(slice_cut(pair, '=', &value), name))
			return value;
	}
	return SLICE_NONE;
}

#include "models.h"

#include "lib/buf.h"

/* clang-format off */
static const struct model {
	enum dialect dialect;
	const char *id, *title, *created;
} models[] = {
	{ DIALECT_GEMINI,    "gemini-2.5-pro",           "Gemini 2.5 Pro",         "" },
	{ DIALECT_GEMINI,    "gemini-2.5-flash",         "Gemini 2.5 Flash",       "" },
	{ DIALECT_GEMINI,    "gemini-2.5-flash-lite",    "Gemini 2.5 Flash-Lite",  "" },
	{ DIALECT_GEMINI,    "gemini-2.0-flash",         "Gemini 2.0 Flash",       "" },
	{ DIALECT_GEMINI,    "gemini-2.0-flash-lite",    "Gemini 2.0 Flash-Lite",  "" },
	{ DIALECT_GEMINI,    "gemini-3-pro-preview",     "Gemini 3 Pro Preview",   "" },
	{ DIALECT_GEMINI,    "gemini-embedding-001",     "Gemini Embedding 001",   "" },
	{ DIALECT_GEMINI,    "text-embedding-004",       "Text Embedding 004",     "" },
	{ DIALECT_OPENAI,    "gpt-4o",                   "",                       "1715367049" },
	{ DIALECT_OPENAI,    "gpt-4o-mini",              "",                       "1721172741" },
	{ DIALECT_OPENAI,    "gpt-4.1",                  "",                       "1744316542" },
	{ DIALECT_OPENAI,    "gpt-4.1-mini",             "",                       "1744318173" },
	{ DIALECT_OPENAI,    "gpt-5",                    "",                       "1754425777" },
	{ DIALECT_OPENAI,    "gpt-5-mini",               "",                       "1754425928" },
	{ DIALECT_OPENAI,    "o3",                       "",                       "1744225308" },
	{ DIALECT_OPENAI,    "o4-mini",                  "",                       "1744225351" },
	{ DIALECT_OPENAI,    "gpt-3.5-turbo-instruct",   "",                       "1692901427" },
	{ DIALECT_OPENAI,    "text-embedding-3-small",   "",                       "1705948997" },
	{ DIALECT_OPENAI,    "text-embedding-3-large",   "",                       "1705953180" },
	{ DIALECT_OPENAI,    "text-embedding-ada-002",   "",                       "1671217299" },
	{ DIALECT_ANTHROPIC, "claude-sonnet-4-5",        "Claude Sonnet 4.5",      "2025-09-29T00:00:00Z" },
	{ DIALECT_ANTHROPIC, "claude-haiku-4-5",         "Claude Haiku 4.5",       "2025-10-15T00:00:00Z" },
	{ DIALECT_ANTHROPIC, "claude-opus-4-1",          "Claude Opus 4.1",        "2025-08-05T00:00:00Z" },
	{ DIALECT_ANTHROPIC, "claude-opus-4",            "Claude Opus 4",          "2025-05-22T00:00:00Z" },
	{ DIALECT_ANTHROPIC, "claude-sonnet-4",          "Claude Sonnet 4",        "2025-05-22T00:00:00Z" },
	{ DIALECT_ANTHROPIC, "claude-3-7-sonnet",        "Claude Sonnet 3.7",      "2025-02-24T00:00:00Z" },
	{ DIALECT_ANTHROPIC, "claude-3-5-haiku",         "Claude Haiku 3.5",       "2024-10-22T00:00:00Z" },
};
/* clang-format on */

/* "-latest", "-001", "-20250929", "-2024-08-06" */
static bool is_version(struct slice rest)
{
	if (rest.len < 2 || rest.data[0] != '-')
		return false;
	if (slice_equal(rest, SLICE("-latest")))
		return true;
	for (size_t i = 1; i < rest.len; i++)
		if (rest.data[i] != '-' && (rest.data[i] < '0' || rest.data[i] > '9'))
			return false;
	return true;
}

static const struct model *find(enum dialect dialect, struct slice name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(models); i++) {
		if (models[i].dialect != dialect || name.len == 0 || models[i].id[0] != name.data[0])
			continue;
		struct slice id = slice_of(models[i].id);
		if (slice_starts(name, id) && (name.len == id.len || is_version(slice_skip(name, id.len))))
			return &models[i];
	}
	return NULL;
}

bool models_know(enum dialect dialect, struct slice model, struct slice extra)
{
	if (slice_starts(model, SLICE("sim-")) || find(dialect, model) != NULL)
		return true;
	while (extra.len > 0)
		if (slice_equal(slice_trim(slice_cut(extra, ',', &extra)), model))
			return true;
	return false;
}

static void put_gemini(const struct model *m, struct slice id, struct buf *out)
{
	bool embeds = memmem(id.data, id.len, "embedding", 9) != NULL;
	buf_append(out, SLICE("    {\n      \"name\": \"models/"));
	buf_append(out, id);
	buf_format(out,
		   "\",\n      \"version\": \"001\",\n      \"displayName\": \"%s\",\n      \"description\": \"A "
		   "simulated model.\",\n"
		   "      \"inputTokenLimit\": %d,\n      \"outputTokenLimit\": %d,\n      "
		   "\"supportedGenerationMethods\": [%s]",
		   m == NULL ? "Simulated" : m->title, embeds ? 2048 : 1048576, embeds ? 1 : 65536,
		   embeds ? "\"embedContent\", \"countTextTokens\", \"countTokens\""
			  : "\"generateContent\", \"countTokens\", \"createCachedContent\", \"batchGenerateContent\"");
	if (!embeds)
		buf_append(out, SLICE(",\n      \"temperature\": 1,\n      \"topP\": 0.95,\n      \"topK\": 64,\n      "
				      "\"maxTemperature\": 2"));
	buf_append(out, SLICE("\n    }"));
}

static void put_openai(const struct model *m, struct slice id, struct buf *out)
{
	buf_append(out, SLICE("    {\n      \"id\": \""));
	buf_append(out, id);
	buf_format(out,
		   "\",\n      \"object\": \"model\",\n      \"created\": %s,\n      \"owned_by\": \"system\"\n    }",
		   m == NULL ? "1700000000" : m->created);
}

static void put_anthropic(const struct model *m, struct slice id, struct buf *out)
{
	buf_append(out, SLICE("{\"type\":\"model\",\"id\":\""));
	buf_append(out, id);
	buf_format(out, "\",\"display_name\":\"%s\",\"created_at\":\"%s\"}", m == NULL ? "Simulated" : m->title,
		   m == NULL ? "2025-01-01T00:00:00Z" : m->created);
}

static void put(enum dialect dialect, const struct model *m, struct slice id, struct buf *out)
{
	if (dialect == DIALECT_GEMINI)
		put_gemini(m, id, out);
	else if (dialect == DIALECT_ANTHROPIC)
		put_anthropic(m, id, out);
	else
		put_openai(m, id, out);
}

void models_list(enum dialect dialect, struct buf *out)
{
	const struct model *first = NULL, *last = NULL;
	buf_append(out, dialect == DIALECT_GEMINI      ? SLICE("{\n  \"models\": [\n")
			: dialect == DIALECT_ANTHROPIC ? SLICE("{\"data\":[")
						       : SLICE("{\n  \"object\": \"list\",\n  \"data\": [\n"));
	for (size_t i = 0; i < ARRAY_LENGTH(models); i++) {
		if (models[i].dialect != dialect)
			continue;
		if (first != NULL)
			buf_append_byte(out, ',');
		first = first == NULL ? &models[i] : first;
		last = &models[i];
		put(dialect, last, slice_of(last->id), out);
	}
	if (dialect == DIALECT_ANTHROPIC && first != NULL)
		buf_format(out, "],\"has_more\":false,\"first_id\":\"%s\",\"last_id\":\"%s\"}", first->id, last->id);
	else
		buf_append(out, SLICE("\n  ]\n}\n"));
}

void models_one(enum dialect dialect, struct slice model, struct buf *out)
{
	put(dialect, find(dialect, model), model, out);
}

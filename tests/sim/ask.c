#include "ask.h"

#include "json.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "prompt.h"
#include "rules.h"
#include "tool.h"

#define OUTPUT_DEFAULT 16
#define CHOICES_MAX    16

/* FNV-1a by words of eight bytes: not for adversaries, only to give every body a nonce of its own. */
static uint64_t hash_of(struct slice s)
{
	uint64_t hash = UINT64_C(14695981039346656037), word;
	for (; s.len >= sizeof(word); s = slice_skip(s, sizeof(word))) {
		memcpy(&word, s.data, sizeof(word));
		hash = (hash ^ word) * UINT64_C(1099511628211);
		hash ^= hash >> 32;
	}
	for (size_t i = 0; i < s.len; i++)
		hash = (hash ^ (unsigned char)s.data[i]) * UINT64_C(1099511628211);
	return hash ^ (hash >> 29);
}

static int64_t integer(struct slice value, int64_t otherwise)
{
	double number;
	if (!json_number(value, &number) || number < 0 || number > 1e9)
		return otherwise;
	return (int64_t)number;
}

/* The request's limit on output tokens, in every spelling that the dialects have; -1 when it gives none. */
static int64_t maximum(const struct json_members *body)
{
	static const char *const names[] = { "max_tokens", "max_completion_tokens", "max_output_tokens" };
	int64_t found = -1;
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		found = integer(json_pick(body, names[i]), found);
	struct slice config = json_pick(body, "generationConfig");
	return integer(json_get(config, "maxOutputTokens"), integer(json_get(config, "max_output_tokens"), found));
}

/* The member that must be there, by verb; the second is another spelling of it or NULL. */
static const char *const *needed_member(const struct ask *ask)
{
	static const char *const contents[] = { "contents", "generateContentRequest" },
				 *const content[] = { "content", NULL }, *const requests[] = { "requests", NULL },
				 *const messages[] = { "messages", NULL }, *const input[] = { "input", "prompt" },
				 *const prompt[] = { "prompt", NULL };
	switch (ask->verb) {
	case VERB_EMBED:
		return ask->dialect == DIALECT_GEMINI ? content : input;
	case VERB_BATCH_EMBED:
		return requests;
	case VERB_RESPONSES:
		return input;
	case VERB_COMPLETIONS:
		return prompt;
	default:
		return ask->dialect == DIALECT_GEMINI ? contents : messages;
	}
}

static struct slice turns_of(const struct ask *ask, const struct json_members *body)
{
	const char *const *names = needed_member(ask);
	struct slice turns = json_pick(body, names[0]);
	if (turns.len == 0 && names[1] != NULL)
		turns = json_pick(body, names[1]);
	return json_is(turns, '[') && json_count(turns) == 0 && ask->verb != VERB_RESPONSES ? SLICE_NONE : turns;
}

static void read_prompt(struct prompt *prompt, const struct ask *ask, const struct json_members *body,
			struct slice turns)
{
	static const char *const beside[] = { "system", "instructions", "systemInstruction", "system_instruction" };
	for (size_t i = 0; i < ARRAY_LENGTH(beside); i++) {
		struct slice value = json_pick(body, beside[i]);
		prompt_add(prompt, SLICE("system"), value);
	}
	prompt_add(prompt, ask->verb == VERB_COMPLETIONS ? SLICE("prompt") : SLICE("input"), turns);
}

static void read_embedding(struct ask *ask, const struct json_members *body, struct slice turns)
{
	struct slice first;
	size_t at = 0;
	ask->items = 1;
	/* one array of numbers is one input given as tokens */
	if (json_element(turns, &at, &first) && (first.data[0] < '0' || first.data[0] > '9'))
		ask->items = (unsigned)json_count(turns);
	int64_t dimensions =
		integer(json_pick(body, "dimensions"), integer(json_pick(body, "outputDimensionality"), 0));
	if (ask->verb == VERB_BATCH_EMBED)
		dimensions = integer(json_get(first, "outputDimensionality"), dimensions);
	ask->dimensions = dimensions > 4096 ? 4096 : (unsigned)dimensions;
	ask->base64 = slice_equal(json_string(json_pick(body, "encoding_format")), SLICE("base64"));
	ask->output = 0;
}

static void read_shape(struct ask *ask, const struct json_members *body, struct slice turns)
{
	const struct behaviour *b = &ask->behaviour;
	int64_t most = maximum(body), wanted = b->tokens >= 0 ? b->tokens : OUTPUT_DEFAULT;
	ask->output = wanted;
	if (most >= 0 && wanted + b->thoughts > most) {
		ask->output = most > b->thoughts ? most - b->thoughts : 0;
		ask->cut = true;
	}
	if (b->size > 0 && ask->output > 0)
		ask->pad = b->size / ask->output;
	if (ask->dialect != DIALECT_GEMINI)
		ask->stream = json_is_true(json_pick(body, "stream"));
	ask->include_usage = json_is_true(json_get(json_pick(body, "stream_options"), "include_usage"));
	int64_t choices = integer(json_pick(body, "n"),
				  integer(json_get(json_pick(body, "generationConfig"), "candidateCount"), 1));
	ask->choices = choices < 1 ? 1 : choices > CHOICES_MAX ? CHOICES_MAX : (unsigned)choices;
	struct slice tools = json_pick(body, "tools");
	if (tools.len > 2 && b->tools && !tool_forbidden(body->object) && !prompt_ends_in_tool_result(turns))
		tool_choose(ask, tools);
	if (ask->tool.name != NULL) {
		ask->output = (int64_t)(strlen(ask->tool.arguments) + 3) / 4;
		ask->choices = 1;
		ask->cut = false;
	}
}

static bool read_model(struct ask *ask, const struct json_members *body)
{
	struct slice model = json_string(json_pick(body, "model"));
	if (ask->dialect == DIALECT_GEMINI)
		return true;
	if (model.len == 0 || model.len > MODEL_MAX)
		return false;
	memcpy(ask->model, model.data, model.len);
	ask->model[model.len] = '\0';
	return true;
}

/* The prompt's words and the header's come last, because they are meant for this one request. Words that are not
 * understood are left out: a prompt is whatever its writer likes. */
static void read_behaviour(struct ask *ask, struct slice directive, struct slice x_sim, struct slice body,
			   struct rules *rules)
{
	struct slice bad;
	bool all = behaviour_apply(&ask->behaviour, directive, &bad);
	all &= behaviour_apply(&ask->behaviour, x_sim, &bad);
	(void)all;
	uint64_t hash = hash_of(body);
	ask->echoes_nonce = ask->behaviour.nonce[0] != '\0';
	if (ask->echoes_nonce)
		memcpy(ask->nonce, ask->behaviour.nonce, sizeof(ask->nonce));
	else
		ask->nonce[text_hex(ask->nonce, &hash, 6)] = '\0';
	rules_draw(rules, &ask->behaviour);
	ask->seed = hash_of(slice_of(ask->nonce));
	ask->created = 1750000000 + (int64_t)(ask->seed % 10000000);
}

enum ask_fault ask_read(struct ask *ask, struct slice text, struct slice x_sim, struct rules *rules)
{
	struct slice object = SLICE_NONE, turns;
	struct json_members members, *body = &members;
	struct prompt prompt = { 0 };
	ask->choices = 1;
	if (!json_parse(text, &object) || !json_is(object, '{')) {
		read_behaviour(ask, SLICE_NONE, x_sim, text, rules);
		return ASK_NOT_JSON;
	}
	json_read_members(body, object);
	bool named = read_model(ask, body);
	rules_apply(rules, slice_of(ask->model), &ask->behaviour);
	behaviour_of_model(&ask->behaviour, slice_of(ask->model));
	turns = turns_of(ask, body);
	read_prompt(&prompt, ask, body, turns);
	read_behaviour(ask, prompt.directive, x_sim, text, rules);
	ask->input = prompt_tokens(&prompt);
	if (!named)
		return json_pick(body, "model").len > 2 ? ASK_MODEL_TOO_LONG : ASK_NO_MODEL;
	if (turns.len == 0)
		return ASK_NO_MESSAGES;
	if (ask->dialect == DIALECT_ANTHROPIC && ask->verb == VERB_GENERATE && maximum(body) < 0)
		return ASK_NO_MAXIMUM;
	if (ask->verb == VERB_EMBED || ask->verb == VERB_BATCH_EMBED)
		read_embedding(ask, body, turns);
	else if (ask->verb != VERB_COUNT_TOKENS)
		read_shape(ask, body, turns);
	return ASK_FINE;
}

void ask_free_content(struct ask *ask)
{
	mem_free(ask->tool.name);
	mem_free(ask->tool.arguments);
	ask->tool = (struct tool_call){ NULL, NULL };
}

int64_t ask_output_in_all(const struct ask *ask)
{
	return ask->output * ask->choices + (ask->output > 0 ? ask->behaviour.thoughts : 0);
}

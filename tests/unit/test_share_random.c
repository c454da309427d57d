/* svc/share on a thousand random requests of all dialects: each is written twice in other words, and gets one key; then one thing is changed anywhere, in the
 * body or around it, and the key is another; and no two that differ ever meet. What means the same is judged by tests/support/json_tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/json_tree.h"
#include "tests/support/random.h"
#include "tests/support/share_rig.h"

enum { ROUNDS = 1000, TEXT_MOST = 1 << 20, ARENA = 1 << 22, FIELDS_MOST = 1024 };

struct generator {
	uint64_t random;
	struct mem *mem;
};

static uint32_t below(struct generator *g, uint32_t limit)
{
	return random_below(&g->random, limit);
}

/* ---- bodies ---------------------------------------------------------------------------------------------------------- */

static struct json_tree *word(struct generator *g, const char *text)
{
	return json_tree_string(g->mem, slice_of(text));
}

static struct json_tree *object(struct generator *g)
{
	return json_tree_new(g->mem, JSON_TREE_OBJECT);
}

static struct json_tree *array(struct generator *g)
{
	return json_tree_new(g->mem, JSON_TREE_ARRAY);
}

static struct json_tree *boolean(struct generator *g)
{
	return json_tree_new(g->mem, below(g, 2) == 0 ? JSON_TREE_TRUE : JSON_TREE_FALSE);
}

static struct json_tree *count(struct generator *g)
{
	return json_tree_number(g->mem, (int64_t)below(g, 5000), 0);
}

static struct json_tree *number(struct generator *g)
{
	int64_t digits = (int64_t)below(g, 1u << (1 + below(g, 30)));

	return json_tree_number(g->mem, below(g, 3) == 0 ? -digits : digits, (int)below(g, 25) - 12);
}

static struct json_tree *text(struct generator *g)
{
	static const char *const parts[] = { "a",       "Hello",     " and then ",       "\"",   "\\",
					     "/",       "\n",        "\t\r\b\f",         "\x01", "\x7f",
					     "é",       "你好",      "\xf0\x9f\x98\x80", "€",    "A\xcc\x81",
					     "\\u0041", "{\"a\":1}", "\xef\xbf\xbf" };
	struct buf out;
	struct json_tree *t;

	buf_init(&out, TEXT_MOST);
	for (uint32_t i = below(g, 8); i > 0; i--) {
		uint32_t which = below(g, ARRAY_LENGTH(parts) + 1);
		if (which == ARRAY_LENGTH(parts))
			buf_append_byte(&out, '\0');
		else
			buf_append(&out, slice_of(parts[which]));
	}
	t = json_tree_string(g->mem, mem_copy(g->mem, buf_slice(&out)));
	buf_free(&out);
	return t;
}

static struct json_tree *schema(struct generator *g, unsigned depth)
{
	static const char *const names[] = { "city", "Größe", "a.b", "x\ny", "", "type", "\xf0\x9f\x98\x80" };
	struct json_tree *s = object(g), *properties;

	json_tree_put(s, "type", word(g, "object"));
	if (below(g, 2) == 0)
		json_tree_put(s, "description", text(g));
	properties = json_tree_put(s, "properties", object(g));
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if (below(g, 3) == 0 && depth < 4)
			json_tree_put(properties, names[i], schema(g, depth + 1));
	if (below(g, 2) == 0) {
		struct json_tree *values = json_tree_put(s, "enum", array(g));
		json_tree_add(values, text(g));
		json_tree_add(values, number(g));
		json_tree_add(values, json_tree_new(g->mem, JSON_TREE_NULL));
	}
	if (below(g, 3) == 0)
		json_tree_put(s, "minimum", number(g));
	if (below(g, 3) == 0)
		json_tree_put(s, "additionalProperties", boolean(g));
	return s;
}

static struct json_tree *model(struct generator *g)
{
	static const char *const names[] = { "one", "two", "three", "four", "some-model" };

	return word(g, names[below(g, ARRAY_LENGTH(names))]);
}

static void put_settings(struct generator *g, struct json_tree *t)
{
	if (below(g, 2) == 0)
		json_tree_put(t, "temperature", number(g));
	if (below(g, 2) == 0)
		json_tree_put(t, "stream", boolean(g));
	if (below(g, 3) == 0)
		json_tree_put(t, "seed", number(g));
	if (below(g, 3) == 0)
		json_tree_put(t, "stop", below(g, 2) == 0 ? text(g) : json_tree_new(g->mem, JSON_TREE_NULL));
	json_tree_put(t, "max_tokens", count(g));
}

static struct json_tree *messages(struct generator *g)
{
	static const char *const roles[] = { "user", "assistant", "system" };
	struct json_tree *list = array(g);

	for (uint32_t i = 1 + below(g, 5); i > 0; i--) {
		struct json_tree *message = json_tree_add(list, object(g)), *parts;
		json_tree_put(message, "role", word(g, roles[below(g, ARRAY_LENGTH(roles))]));
		if (below(g, 2) == 0) {
			json_tree_put(message, "content", text(g));
			continue;
		}
		parts = json_tree_put(message, "content", array(g));
		for (uint32_t k = below(g, 4); k > 0; k--) {
			struct json_tree *part = json_tree_add(parts, object(g));
			json_tree_put(part, "type", word(g, "text"));
			json_tree_put(part, "text", text(g));
		}
	}
	return list;
}

static struct json_tree *chat(struct generator *g)
{
	struct json_tree *t = object(g);

	json_tree_put(t, "model", model(g));
	json_tree_put(t, "messages", messages(g));
	put_settings(g, t);
	if (below(g, 2) == 0) {
		struct json_tree *tools = json_tree_put(t, "tools", array(g));
		for (uint32_t i = below(g, 3); i > 0; i--) {
			struct json_tree *tool = json_tree_add(tools, object(g)), *function;
			json_tree_put(tool, "type", word(g, "function"));
			function = json_tree_put(tool, "function", object(g));
			json_tree_put(function, "name", text(g));
			json_tree_put(function, "parameters", schema(g, 0));
		}
	}
	return t;
}

static struct json_tree *anthropic(struct generator *g)
{
	struct json_tree *t = object(g);

	json_tree_put(t, "model", word(g, below(g, 2) == 0 ? "a-model" : "another-model"));
	json_tree_put(t, "messages", messages(g));
	put_settings(g, t);
	if (below(g, 2) == 0)
		json_tree_put(t, "system", text(g));
	if (below(g, 2) == 0) {
		struct json_tree *tool = json_tree_add(json_tree_put(t, "tools", array(g)), object(g));
		json_tree_put(tool, "name", text(g));
		json_tree_put(tool, "input_schema", schema(g, 0));
	}
	return t;
}

static struct json_tree *gemini(struct generator *g)
{
	struct json_tree *t = object(g), *contents = json_tree_put(t, "contents", array(g)), *config;

	for (uint32_t i = 1 + below(g, 4); i > 0; i--) {
		struct json_tree *content = json_tree_add(contents, object(g)), *parts;
		json_tree_put(content, "role", word(g, below(g, 2) == 0 ? "user" : "model"));
		parts = json_tree_put(content, "parts", array(g));
		json_tree_put(json_tree_add(parts, object(g)), "text", text(g));
	}
	config = json_tree_put(t, "generationConfig", object(g));
	json_tree_put(config, "temperature", number(g));
	json_tree_put(config, "maxOutputTokens", count(g));
	if (below(g, 2) == 0)
		json_tree_put(config, "responseSchema", schema(g, 0));
	return t;
}

static struct json_tree *embeddings(struct generator *g)
{
	struct json_tree *t = object(g), *input;

	json_tree_put(t, "model", model(g));
	if (below(g, 2) == 0)
		json_tree_put(t, "dimensions", count(g));
	if (below(g, 3) == 0) {
		json_tree_put(t, "input", text(g));
		return t;
	}
	input = json_tree_put(t, "input", array(g));
	for (uint32_t i = below(g, 10); i > 0; i--)
		json_tree_add(input, below(g, 2) == 0 ? text(g) : count(g));
	return t;
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
	struct json_tree *(*body)(struct generator *);
	const char *target, *others[4]; /* that take the same body, and mean something else */
} kinds[] = {
	{ chat,       "/v1/chat/completions", { "/v1/chat/completions?a=1", "/v1/chat/completions?A=1", "/v1/responses", "/v1/completions" } },
	{ anthropic,  "/v1/messages", { "/v1/messages?beta=true", "/v1/messages?beta=false", "/v1/messages/count_tokens", "/v1/messages?beta" } },
	{ gemini,     "/v1beta/models/m:generateContent", { "/v1beta/models/m:streamGenerateContent", "/v1beta/models/m:streamGenerateContent?alt=sse", "/v1/models/m:generateContent", "/v1beta/models/M:generateContent" } },
	{ embeddings, "/v1/embeddings", { "/v1/embeddings?a", "/v1/embeddings?a=", "/v1/embeddings?b", "/v1/embeddings?a&b" } },
};

/* Each line means something, to the upstream or to whom it is; it stands alone. */
static const char *const meaningful[] = {
	"anthropic-version: 2023-06-01", "anthropic-version: 2023-06-02", "anthropic-version: ", "anthropic-beta: a", "anthropic-beta: A", "anthropic-beta: a,b",
	"openai-beta: a", "x-goog-other: a", "Authorization: Bearer key-of-other", "x-api-key: key-of-third", "Authorization: Bearer key-of-acme",
};
static const char *const meaningless[] = {
	"User-Agent: one", "User-Agent: another", "traceparent: 00-1", "tracestate: a=b", "Idempotency-Key: 1", "X-Idempotency-Key: 2", "X-Request-Id: abc",
	"Cache-Control: max-age=60", "Cache-Control: no-cache", "Accept: */*", "accept: text/event-stream", "Content-Type: application/json", "Accept-Encoding: gzip",
	"content-type: application/json; charset=utf-8", "Host: a", "X-Forwarded-For: 1.2.3.4", "Cookie: a=b", "Origin: x", "Via: 1.1 proxy", "Connection: keep-alive",
	"x-goog-api-client: sdk/1", "anthropic-dangerous-direct-browser-access: true", "X-Stainless-Timeout: 60", "Content-Length: 5", "Unknown: x", "baggage: a=b",
};
/* clang-format on */

/* `line` among others that mean nothing. */
static void put_fields(struct generator *g, const char *line, struct buf *out)
{
	size_t at = below(g, 6);

	buf_clear(out);
	for (size_t i = 0; i < 6; i++) {
		if (i == at && line != NULL)
			buf_format(out, "%s\n", line);
		if (below(g, 2) == 0)
			buf_format(out, "%s\n", meaningless[below(g, ARRAY_LENGTH(meaningless))]);
	}
	buf_append_byte(out, '\0');
	assert_false(out->overflowed);
}

struct key {
	unsigned char bytes[ANSWER_KEY];
};

/* False: it is refused, as what a change made of it may be. */
static bool ask(struct share_rig *rig, struct generator *g, const char *target, const char *line,
		const struct json_tree *body, struct key *key)
{
	struct buf fields, written;
	const struct share *s;

	buf_init(&fields, FIELDS_MOST);
	buf_init(&written, TEXT_MOST);
	put_fields(g, line, &fields);
	json_tree_write(body, &g->random, &written);
	assert_false(written.overflowed);
	s = share_rig_judge(rig, &(struct share_rig_request){ target, fields.data, buf_slice(&written) });
	if (s != NULL && !s->wanted)
		fail_msg("not wanted: %.*s", SLICE_ARGS(buf_slice(&written)));
	if (s != NULL)
		memcpy(key->bytes, s->ask.key, sizeof(key->bytes));
	buf_free(&fields);
	buf_free(&written);
	return s != NULL;
}

static bool same(const struct key *a, const struct key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* One thing is another; both, said again in other words, are what they were. */
static bool change_one(struct share_rig *rig, struct generator *g, size_t kind, const struct json_tree *body,
		       struct key *changed)
{
	const char *target = kinds[kind].target, *line = NULL;
	struct key again;

	switch (below(g, 4)) {
	case 0:
		line = meaningful[below(g, ARRAY_LENGTH(meaningful))];
		break;
	case 1:
		target = kinds[kind].others[below(g, ARRAY_LENGTH(kinds[kind].others))];
		break;
	default:
		body = json_tree_change(body, &g->random, g->mem);
	}
	if (!ask(rig, g, target, line, body, changed))
		return false;
	assert_true(ask(rig, g, target, line, body, &again));
	assert_true(same(changed, &again));
	return true;
}

struct world {
	struct share_rig *rig;
	struct generator generator;
	const struct json_tree *bodies[ROUNDS];
	struct key keys[ROUNDS];
};

static void judge_round(struct world *w, size_t round)
{
	struct generator *g = &w->generator;
	size_t kind = round % ARRAY_LENGTH(kinds), changes = 0;
	const struct json_tree *body = kinds[kind].body(g);
	struct key again, changed;

	w->bodies[round] = body;
	assert_true(ask(w->rig, g, kinds[kind].target, NULL, body, &w->keys[round]));
	assert_true(ask(w->rig, g, kinds[kind].target, NULL, body, &again));
	if (!same(&w->keys[round], &again))
		fail_msg("round %zu: the same in other words has another key", round);
	while (changes < 3) {
		if (!change_one(w->rig, g, kind, body, &changed))
			continue;
		if (same(&w->keys[round], &changed))
			fail_msg("round %zu: what means something else has the same key", round);
		changes++;
	}
}

static void same_key_if_and_only_if_they_mean_the_same(void **state)
{
	struct world *w = mem_new(sizeof(*w));
	size_t distinct = 0;

	(void)state;
	w->rig = share_rig_new("cache: {when: always}\ncoalesce: {when: always}\n");
	w->generator = (struct generator){ 20260101, mem_arena(1 << 30) };
	for (size_t i = 0; i < ROUNDS; i++)
		judge_round(w, i);
	for (size_t i = 0; i < ROUNDS; i++)
		for (size_t k = 0; k < i; k++) {
			bool equal = i % ARRAY_LENGTH(kinds) == k % ARRAY_LENGTH(kinds) &&
				     json_tree_equal(w->bodies[i], w->bodies[k]);
			assert_int_equal(same(&w->keys[i], &w->keys[k]), equal);
			distinct += !equal;
		}
	assert_true(distinct > ROUNDS * (ROUNDS - 1) / 2 * 9 / 10); /* else it proves little */
	mem_arena_free(&w->generator.mem);
	share_rig_free(&w->rig);
	mem_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(same_key_if_and_only_if_they_mean_the_same) };

	return cmocka_run_group_tests_name("share, random", tests, NULL, NULL);
}

/* svc/share: share_judge. What is one request in other words has one key, what means something else another; whose it is; whether it takes part at all; with
 * what wishes. Pairs of requests, side by side; tests/unit/test_share_random.c has a thousand more, tests/unit/test_share_targets.c where they go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/share_rig.h"

#define ALWAYS "cache: {when: always}\ncoalesce: {when: always}\n"
#define S      CLOCK_SECOND

static const struct share *judge(struct share_rig *rig, const char *target, const char *fields, const char *body)
{
	const struct share *s = share_rig_judge(rig, &(struct share_rig_request){ target, fields, slice_of(body) });

	if (s == NULL)
		fail_msg("refused: %s %s", target, body);
	return s;
}

static void key_of(struct share_rig *rig, const char *target, const char *fields, const char *body,
		   unsigned char key[ANSWER_KEY])
{
	const struct share *s = judge(rig, target, fields, body);

	if (!s->wanted)
		fail_msg("not wanted: %s\n%s\n%s", target, fields != NULL ? fields : "", body);
	memcpy(key, s->ask.key, ANSWER_KEY);
}

/* ---- what is asked ---------------------------------------------------------------------------------------------------------- */

/* clang-format off */
#define CHAT "/v1/chat/completions"
#define MESSAGES "/v1/messages"
#define GENERATE "/v1beta/models/m:generateContent"
#define EMBED "/v1/embeddings"
#define SAY(text) "{\"model\":\"one\",\"messages\":[{\"role\":\"user\",\"content\":" text "}]}"
#define WITH(member) "{\"model\":\"one\",\"messages\":[]," member "}"
#define TALK_WITH(member) "{\"model\":\"m\",\"messages\":[]," member "}"
#define TALK "{\"model\":\"m\",\"messages\":[]}"
#define NOTHING "{\"model\":\"one\",\"messages\":[]}"

static const struct {
	bool same;
	const char *target, *fields, *body;
	const char *other_target, *other_fields, *other_body; /* NULL: as the first */
} pairs[] = {
	/* spelling */
	{ true, CHAT, NULL, "{\"model\":\"one\",\"n\":1}", NULL, NULL, " {\n\t\"n\" : 1 , \"model\" : \"one\" }\r\n" },
	{ true, CHAT, NULL, SAY("\"A\\u00e9\\/\""), NULL, NULL, SAY("\"\\u0041\303\251/\"") },
	{ true, CHAT, NULL, SAY("\"\\ud83d\\ude00\""), NULL, NULL, SAY("\"\360\237\230\200\"") },
	{ true, CHAT, NULL, SAY("\"a\""), NULL, NULL, "{\"messa\\u0067es\":[{\"content\":\"a\",\"role\":\"user\"}],\"\\u006dodel\":\"one\"}" },
	{ true, CHAT, NULL, WITH("\"x\":[1,1,1,1]"), NULL, NULL, WITH("\"x\":[1.0,1e0,10E-1,0.1e+1]") },
	{ true, CHAT, NULL, WITH("\"x\":0"), NULL, NULL, WITH("\"x\":-0.0e9") },
	{ true, CHAT, NULL, WITH("\"x\":100000000000000000000000"), NULL, NULL, WITH("\"x\":1e23") },
	/* numbers that a double could not tell apart */
	{ false, CHAT, NULL, WITH("\"seed\":9007199254740993"), NULL, NULL, WITH("\"seed\":9007199254740992") },
	{ false, CHAT, NULL, WITH("\"x\":0.1"), NULL, NULL, WITH("\"x\":0.10000000000000000555") },
	{ false, CHAT, NULL, WITH("\"x\":1e400"), NULL, NULL, WITH("\"x\":1e401") },
	{ false, CHAT, NULL, WITH("\"x\":1"), NULL, NULL, WITH("\"x\":-1") },
	/* what is said */
	{ false, CHAT, NULL, SAY("\"a\""), NULL, NULL, SAY("\"b\"") },
	{ false, CHAT, NULL, SAY("\"a\""), NULL, NULL, SAY("\"A\"") },
	{ false, CHAT, NULL, SAY("\"a\""), NULL, NULL, SAY("\"a \"") },
	{ false, CHAT, NULL, SAY("\"a\""), NULL, NULL, SAY("\"a\\u0000\"") },
	{ false, CHAT, NULL, SAY("\"a\\u0000b\""), NULL, NULL, SAY("\"a\\u0000c\"") },
	{ false, CHAT, NULL, SAY("\"\303\251\""), NULL, NULL, SAY("\"e\314\201\"") }, /* NFC and NFD */
	{ false, CHAT, NULL, SAY("\"\\ud83d\""), NULL, NULL, SAY("\"\\ude00\"") },
	{ false, CHAT, NULL, SAY("\"\\ud83d\""), NULL, NULL, SAY("\"\\ufffd\"") },
	{ false, CHAT, NULL, SAY("\"a\""), NULL, NULL, SAY("[\"a\"]") },
	{ false, CHAT, NULL, "{\"model\":\"one\",\"messages\":[{\"role\":\"user\"},{\"role\":\"system\"}]}", NULL, NULL, "{\"model\":\"one\",\"messages\":[{\"role\":\"system\"},{\"role\":\"user\"}]}" },
	{ false, CHAT, NULL, "{\"model\":\"one\",\"messages\":[[\"a\"],\"b\"]}", NULL, NULL, "{\"model\":\"one\",\"messages\":[[\"a\",\"b\"]]}" },
	{ false, CHAT, NULL, "{\"model\":\"one\",\"messages\":[\"ab\",\"c\"]}", NULL, NULL, "{\"model\":\"one\",\"messages\":[\"a\",\"bc\"]}" },
	{ false, CHAT, NULL, "{\"model\":\"one\",\"messages\":[\"1\",\"2\"]}", NULL, NULL, "{\"model\":\"one\",\"messages\":[\"1\\\",\\\"2\"]}" },
	{ false, CHAT, NULL, "{\"model\":\"one\",\"messages\":[1,23]}", NULL, NULL, "{\"model\":\"one\",\"messages\":[12,3]}" },
	{ false, CHAT, NULL, WITH("\"tools\":[{\"name\":\"a\"}]"), NULL, NULL, WITH("\"tools\":[{\"name\":\"b\"}]") },
	{ false, CHAT, NULL, WITH("\"tools\":[{\"p\":{\"type\":\"object\"}}]"), NULL, NULL, WITH("\"tools\":[{\"p\":{\"type\":\"array\"}}]") },
	{ false, CHAT, NULL, WITH("\"a\":{\"b\":1},\"c\":{}"), NULL, NULL, WITH("\"a\":{},\"c\":{\"b\":1}") },
	{ false, CHAT, NULL, WITH("\"a\":{\"b\":1}"), NULL, NULL, WITH("\"a.b\":1") },
	{ false, MESSAGES, NULL, TALK_WITH("\"system\":\"a\""), NULL, NULL, TALK_WITH("\"system\":\"b\"") },
	{ false, MESSAGES, NULL, TALK_WITH("\"system\":\"a\""), NULL, NULL, TALK },
	/* null, absent, 0, "", false, [] and {} are seven things */
	{ false, CHAT, NULL, WITH("\"x\":null"), NULL, NULL, NOTHING },
	{ false, CHAT, NULL, WITH("\"x\":null"), NULL, NULL, WITH("\"x\":0") },
	{ false, CHAT, NULL, WITH("\"x\":null"), NULL, NULL, WITH("\"x\":\"null\"") },
	{ false, CHAT, NULL, WITH("\"x\":0"), NULL, NULL, WITH("\"x\":\"\"") },
	{ false, CHAT, NULL, WITH("\"x\":0"), NULL, NULL, WITH("\"x\":false") },
	{ false, CHAT, NULL, WITH("\"x\":0"), NULL, NULL, WITH("\"x\":\"0\"") },
	{ false, CHAT, NULL, WITH("\"x\":true"), NULL, NULL, WITH("\"x\":\"true\"") },
	{ false, CHAT, NULL, WITH("\"x\":[]"), NULL, NULL, WITH("\"x\":{}") },
	{ false, CHAT, NULL, WITH("\"x\":[]"), NULL, NULL, WITH("\"x\":[[]]") },
	{ false, CHAT, NULL, WITH("\"x\":{\"\":0}"), NULL, NULL, WITH("\"x\":{}") },
	{ false, CHAT, NULL, WITH("\"temperature\":0"), NULL, NULL, NOTHING },
	{ false, CHAT, NULL, WITH("\"temperature\":0"), NULL, NULL, WITH("\"temperature\":0.1") },
	{ false, CHAT, NULL, WITH("\"max_tokens\":5"), NULL, NULL, WITH("\"max_tokens\":50") },
	{ false, CHAT, NULL, WITH("\"stream\":true"), NULL, NULL, WITH("\"stream\":false") },
	{ false, CHAT, NULL, WITH("\"stream\":false"), NULL, NULL, NOTHING },
	{ false, CHAT, NULL, WITH("\"stream\":true,\"stream_options\":{\"include_usage\":true}"), NULL, NULL, WITH("\"stream\":true") },
	{ false, CHAT, NULL, WITH("\"user\":\"a\""), NULL, NULL, WITH("\"user\":\"b\"") },
	/* models, upstreams, what the upstream calls it */
	{ false, CHAT, NULL, "{\"model\":\"m\"}", NULL, NULL, "{\"model\":\"M\"}" },
	{ false, CHAT, NULL, "{\"model\":\"one\"}", NULL, NULL, "{\"model\":\"two\"}" },
	{ false, CHAT, NULL, "{\"model\":\"one\"}", NULL, NULL, "{\"model\":\"three\"}" },
	{ false, CHAT, NULL, "{\"model\":\"one\"}", NULL, NULL, "{\"model\":\"four\"}" },
	{ false, CHAT, NULL, "{\"model\":\"one\"}", NULL, NULL, "{\"model\":\"real\"}" },
	{ false, GENERATE, NULL, "{}", "/v1beta/models/n:generateContent", NULL, NULL },
	{ false, GENERATE, NULL, "{}", "/v1beta/tunedModels/m:generateContent", NULL, NULL },
	/* paths and queries */
	{ false, CHAT, NULL, NOTHING, "/v1/completions", NULL, NULL },
	{ false, CHAT, NULL, NOTHING, "/v1/responses", NULL, NULL },
	{ false, EMBED, NULL, "{\"model\":\"one\"}", CHAT, NULL, NULL },
	{ false, MESSAGES, NULL, TALK, MESSAGES "/count_tokens", NULL, NULL },
	{ false, GENERATE, NULL, "{}", "/v1beta/models/m:streamGenerateContent", NULL, NULL },
	{ false, "/v1beta/models/m:streamGenerateContent", NULL, "{}", "/v1beta/models/m:streamGenerateContent?alt=sse", NULL, NULL },
	{ false, CHAT "?a=1", NULL, NOTHING, CHAT "?a=2", NULL, NULL },
	{ true, CHAT, NULL, NOTHING, CHAT "?", NULL, NULL },
	/* the key is nobody's business, wherever it stands; what looks like it is */
	{ true, GENERATE "?key=key-of-acme", NULL, "{}", GENERATE, "x-goog-api-key: key-of-acme", NULL },
	{ true, GENERATE "?a=b&key=key-of-acme", NULL, "{}", GENERATE "?%6bey=key-of-acme&a=b", NULL, NULL },
	{ true, CHAT, "Authorization: Bearer key-of-acme", NOTHING, NULL, "x-api-key: key-of-acme", NULL },
	{ true, CHAT, "Authorization: Bearer key-of-acme", NOTHING, NULL, "Authorization: Bearer second-of-acme", NULL },
	{ false, GENERATE "?keys=a", NULL, "{}", GENERATE "?keys=b", NULL, NULL },
	{ false, GENERATE "?KEY=a", NULL, "{}", GENERATE "?KEY=b", NULL, NULL },
	{ false, "GET /h/x?token=a", NULL, "", "GET /h/x?token=b", NULL, NULL },
	/* fields that mean something, as they are; names have no case, values have */
	{ false, MESSAGES, "anthropic-version: 1", TALK, NULL, "anthropic-version: 2", NULL },
	{ false, MESSAGES, "anthropic-version: 1", TALK, NULL, "", NULL },
	{ false, MESSAGES, "anthropic-version:", TALK, NULL, "", NULL },
	{ false, MESSAGES, "anthropic-beta: a", TALK, NULL, "anthropic-beta: A", NULL },
	{ false, MESSAGES, "anthropic-beta: a", TALK, NULL, "anthropic-beta: a\nanthropic-beta: b", NULL },
	{ false, MESSAGES, "anthropic-beta: a\nanthropic-beta: b", TALK, NULL, "anthropic-beta: b\nanthropic-beta: a", NULL },
	{ true, MESSAGES, "anthropic-version: 1\nanthropic-beta: a", TALK, NULL, "Anthropic-BETA: a\nANTHROPIC-Version: 1", NULL },
	{ false, MESSAGES, "anthropic-version: 1\nanthropic-beta: 2", TALK, NULL, "anthropic-version: 2\nanthropic-beta: 1", NULL },
	{ false, MESSAGES, "openai-beta: a", TALK, NULL, "anthropic-beta: a", NULL },
	{ false, CHAT, "X-Custom: a", NOTHING, NULL, "X-Custom: b", NULL },
	{ true, MESSAGES, "X-Custom: a", TALK, NULL, "X-Custom: b", NULL }, /* does not go there */
	{ false, GENERATE, "x-goog-a: b", "{}", NULL, "x-goog-ab: ", NULL },
	/* one that Connection takes off goes nowhere, and is not the same as one that does */
	{ false, MESSAGES, "anthropic-beta: a\nConnection: anthropic-beta", TALK, NULL, "anthropic-beta: a", NULL },
	{ true, MESSAGES, "anthropic-beta: a\nConnection: close, Anthropic-Beta", TALK, NULL, "Connection: close", NULL },
	{ false, CHAT, "X-Custom: a\nConnection: x-custom", NOTHING, NULL, "X-Custom: a", NULL },
	/* fields that mean nothing */
	{ true, CHAT, "User-Agent: a", NOTHING, NULL, "user-agent: b", NULL },
	{ true, CHAT, "traceparent: a\ntracestate: b", NOTHING, NULL, "", NULL },
	{ true, CHAT, "Idempotency-Key: a", NOTHING, NULL, "X-Idempotency-Key: b", NULL },
	{ true, CHAT, "X-Request-Id: a", NOTHING, NULL, "X-Request-Id: b", NULL },
	{ true, CHAT, "Cache-Control: max-age=5", NOTHING, NULL, "Cache-Control: no-cache", NULL }, /* though it goes there */
	{ true, CHAT, "Accept: text/event-stream", NOTHING, NULL, "Accept: application/json", NULL },
	{ true, CHAT, "Content-Type: application/json", NOTHING, NULL, "Content-Type: application/json; charset=utf-8", NULL },
	{ true, GENERATE, "x-goog-api-client: a", "{}", NULL, "x-goog-api-client: b", NULL },
	{ true, CHAT, "X-Forwarded-For: 1.2.3.4\nHost: a\nCookie: a=b", NOTHING, NULL, "", NULL },
	/* any other API: bytes, fields, methods */
	{ false, "/h/x", NULL, "{\"a\":1}", NULL, NULL, "{\"a\": 1}" },
	{ false, "/h/x", NULL, "a", NULL, NULL, "" },
	{ false, "/h/x", NULL, "", "GET /h/x", NULL, NULL },
	{ false, "GET /h/x", NULL, "a", NULL, NULL, "b" },
	{ false, "GET /h/x", NULL, "", "GET /h/X", NULL, NULL },
	{ false, "GET /h/x", NULL, "", "GET /h/x/", NULL, NULL },
	{ false, "GET /h/x", NULL, "", "GET /h/%78", NULL, NULL },
	{ false, "GET /h/x", NULL, "", "GET /i/x", NULL, NULL },
	{ false, "GET /h/x?a=b", NULL, "", "GET /h/x?b=a", NULL, NULL },
	{ false, "/h/x", "Content-Type: a/b", "a", NULL, "Content-Type: c/d", NULL },
	{ false, "GET /h/x", "Accept: a/b", "", NULL, "Accept: c/d", NULL },
	{ false, "GET /h/x", "X-Custom: a", "", NULL, "", NULL },
	{ true, "GET /i/x", "X-Custom: a", "", NULL, "", NULL },
	{ false, "/h/x", "Idempotency-Key: a", "a", NULL, "Idempotency-Key: b", NULL }, /* what is to be done twice */
	{ true, "GET /h/x", "User-Agent: a\nCache-Control: max-age=1\nCookie: a\nAccept-Encoding: br", "", NULL, "traceparent: b", NULL },
};
/* clang-format on */

static void pairs_mean_the_same_or_not(void **state)
{
	struct share_rig *rig = share_rig_new(ALWAYS);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(pairs); i++) {
		const char *target = pairs[i].other_target != NULL ? pairs[i].other_target : pairs[i].target;
		const char *fields = pairs[i].other_fields != NULL ? pairs[i].other_fields : pairs[i].fields;
		const char *body = pairs[i].other_body != NULL ? pairs[i].other_body : pairs[i].body;
		unsigned char first[ANSWER_KEY], second[ANSWER_KEY];
		key_of(rig, pairs[i].target, pairs[i].fields, pairs[i].body, first);
		key_of(rig, target, fields, body, second);
		if ((memcmp(first, second, sizeof(first)) == 0) != pairs[i].same)
			fail_msg("%s\n%s\n%s\nand\n%s\n%s\n%s\nshould %sbe the same", pairs[i].target,
				 pairs[i].fields != NULL ? pairs[i].fields : "", pairs[i].body, target,
				 fields != NULL ? fields : "", body, pairs[i].same ? "" : "not ");
	}
	share_rig_free(&rig);
}

/* ---- whose it is ---------------------------------------------------------------------------------------------------------- */

static void the_scope_says_who_shares(void **state)
{
	static const char *const callers[] = { "", "x-api-key: key-of-acme", "x-api-key: second-of-acme",
					       "x-api-key: key-of-other" };
	static const struct {
		const char *config;
		int group[ARRAY_LENGTH(callers)]; /* who are of one group share */
	} scopes[] = {
		{ ALWAYS, { 0, 1, 1, 2 } },
		{ "cache: {when: always, scope: tenant}\n", { 0, 1, 1, 2 } },
		{ "cache: {when: always, scope: user}\n", { 0, 1, 2, 3 } },
		{ "cache: {when: always, scope: shared}\n", { 0, 0, 0, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(scopes); i++) {
		struct share_rig *rig = share_rig_new(scopes[i].config);
		unsigned char keys[ARRAY_LENGTH(callers)][ANSWER_KEY];
		for (size_t k = 0; k < ARRAY_LENGTH(callers); k++) {
			key_of(rig, CHAT, callers[k], NOTHING, keys[k]);
			for (size_t other = 0; other < k; other++)
				assert_int_equal(memcmp(keys[k], keys[other], ANSWER_KEY) == 0,
						 scopes[i].group[k] == scopes[i].group[other]);
		}
		share_rig_free(&rig);
	}
}

/* The configuration allows no tenant of that name; the key would not mix them up either. */
static void nobody_is_no_tenant(void **state)
{
	static const char *const names[] = { NULL, "anonymous", "tenant", "shared", "" };
	struct share_rig *rig = share_rig_new(ALWAYS);
	unsigned char keys[ARRAY_LENGTH(names)][ANSWER_KEY];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		struct config_tenant tenant = { .name = (char *)(uintptr_t)names[i] };
		struct share_input input;
		struct caller caller;
		struct share s;
		judge(rig, CHAT, NULL, NOTHING);
		input = *share_rig_input(rig);
		caller = *input.caller;
		caller.tenant = names[i] != NULL ? &tenant : NULL;
		input.caller = &caller;
		share_judge(&s, &input);
		assert_true(s.wanted);
		memcpy(keys[i], s.ask.key, ANSWER_KEY);
		for (size_t other = 0; other < i; other++)
			assert_memory_not_equal(keys[i], keys[other], ANSWER_KEY);
	}
	share_rig_free(&rig);
}

/* ---- what cannot be judged asks for itself ---------------------------------------------------------------------------------- */

/* `before`, and as much of `filling` behind it as makes `size` bytes in all. The caller frees it. */
static char *repeated(const char *before, char filling, size_t size)
{
	char *text = malloc(size + 1);

	memset(text, filling, size);
	memcpy(text, before, strlen(before));
	text[size] = '\0';
	return text;
}

static bool is_wanted(struct share_rig *rig, const char *target, const char *fields, const char *body)
{
	return judge(rig, target, fields, body)->wanted;
}

static void what_tells_no_meaning_is_not_wanted(void **state)
{
	static const char *const bodies[] = {
		WITH("\"x\":{\"a\":1,\"a\":1}"),
		WITH("\"x\":[{\"y\":[{\"a\":1,\"\\u0061\":2}]}]"),
		WITH("\"x\":{\"\":1,\"\":2}"),
		WITH("\"x\":1e1000001"),
		WITH("\"x\":1e-99999999999999999999"),
		/* 65 digits */
		WITH("\"x\":12345678901234567890123456789012345678901234567890123456789012345"),
		WITH("\"x\":0.12345678901234567890123456789012345678901234567890123456789012345"),
	};
	struct share_rig *rig = share_rig_new(ALWAYS);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bodies); i++)
		if (is_wanted(rig, CHAT, NULL, bodies[i]))
			fail_msg("wanted: %s", bodies[i]);
	assert_true(is_wanted(rig, CHAT, NULL, WITH("\"x\":[{\"a\":1},{\"a\":1}]")));
	assert_true(is_wanted(rig, CHAT, NULL, WITH("\"x\":{\"a\":{\"a\":1}}")));
	assert_true(
		is_wanted(rig, CHAT, NULL,
			  WITH("\"x\":1234567890123456789012345678901234567890123456789012345678901234000e1000000")));
	share_rig_free(&rig);
}

static void too_much_is_not_wanted(void **state)
{
	struct share_rig *rig = share_rig_new(ALWAYS);
	char *just = repeated("", 'x', SHARE_BODY_MOST), *over = repeated("", 'x', SHARE_BODY_MOST + 1);
	char *path = repeated("GET /h/x?", 'x', 70000), *field = repeated("X-Custom: ", 'x', 70000);

	(void)state;
	assert_true(is_wanted(rig, "/h/x", NULL, just));
	assert_false(is_wanted(rig, "/h/x", NULL, over));
	assert_false(is_wanted(rig, path, NULL, ""));
	assert_false(is_wanted(rig, "GET /h/x", field, ""));
	free(just);
	free(over);
	free(path);
	free(field);
	share_rig_free(&rig);
}

static bool is_wanted_with_values(struct share_rig *rig, size_t values)
{
	struct buf body;
	bool wanted;

	buf_init(&body, 1 << 20);
	buf_append(&body, SLICE("{\"model\":\"one\",\"x\":[0"));
	for (size_t i = strlen("{m[0"); i < values; i++)
		buf_append(&body, SLICE(",0"));
	buf_append(&body, SLICE("]}"));
	buf_append_byte(&body, '\0');
	wanted = is_wanted(rig, CHAT, NULL, body.data);
	buf_free(&body);
	return wanted;
}

/* They cost more than their bytes: a body of nothing else would hold the loop. */
static void too_many_values_are_not_wanted(void **state)
{
	struct share_rig *rig = share_rig_new(ALWAYS);

	(void)state;
	assert_true(is_wanted_with_values(rig, 32 * 1024));
	assert_false(is_wanted_with_values(rig, 32 * 1024 + 1));
	share_rig_free(&rig);
}

/* A name is not cut: two that differ behind the cut would be one. */
static void long_names_of_fields(void **state)
{
	struct share_rig *rig = share_rig_new(ALWAYS);
	char line[200];
	unsigned char first[ANSWER_KEY], second[ANSWER_KEY];

	(void)state;
	for (int length = 1; length <= 100; length++) {
		bool wanted;
		snprintf(line, sizeof(line), "x-goog-%.*s: a", length,
			 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
			 "aaaaaaa");
		wanted = is_wanted(rig, GENERATE, line, "{}");
		assert_int_equal(wanted, length + 7 <= 64);
		if (!wanted)
			continue;
		key_of(rig, GENERATE, line, "{}", first);
		line[6 + length] = 'b';
		key_of(rig, GENERATE, line, "{}", second);
		assert_memory_not_equal(first, second, sizeof(first));
	}
	share_rig_free(&rig);
}

/* With little room it is not wanted, or it has its one key. */
static void little_room_is_no_other_key(void **state)
{
	struct share_rig *rig = share_rig_new(ALWAYS);
	unsigned char key[ANSWER_KEY];
	unsigned wanted = 0;

	(void)state;
	key_of(rig, CHAT, "x-api-key: key-of-acme\nX-Custom: a", NOTHING, key);
	for (size_t ceiling = 1; ceiling < 2000; ceiling++) {
		struct share_input input = *share_rig_input(rig);
		struct share s;
		input.mem = mem_arena(ceiling);
		share_judge(&s, &input);
		assert_true(!s.wanted || memcmp(s.ask.key, key, sizeof(key)) == 0);
		wanted += s.wanted;
		mem_arena_free(&input.mem);
	}
	assert_true(wanted > 0 && wanted < 1999);
	share_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs_mean_the_same_or_not), cmocka_unit_test(the_scope_says_who_shares),
		cmocka_unit_test(nobody_is_no_tenant),        cmocka_unit_test(what_tells_no_meaning_is_not_wanted),
		cmocka_unit_test(too_much_is_not_wanted),     cmocka_unit_test(too_many_values_are_not_wanted),
		cmocka_unit_test(long_names_of_fields),       cmocka_unit_test(little_room_is_no_other_key),
	};

	return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}

/* svc/share: which requests take part, and with what wishes (share_judge); which answers may be kept, and how long (share_keep, share_is_private); and that no
 * two purges have one name. */
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

/* A share's wishes in a word each: what is stored will do, what came just now will do, it follows, it leads, its answer is kept. */
static const char *told(const struct share *s, char text[200])
{
	const struct {
		const char *word;
		bool set;
	} words[] = {
		{ "read ", s->ask.may_read },  { "late ", s->ask.may_be_late }, { "follow ", s->ask.may_follow },
		{ "lead ", s->ask.may_lead },  { "store ", s->store },          { "fresh ", s->no_cache },
		{ "stored ", s->only_stored },
	};
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; s->wanted && i < ARRAY_LENGTH(words); i++)
		if (words[i].set)
			length += (size_t)snprintf(text + length, 200 - length, "%s", words[i].word);
	if (!s->wanted)
		snprintf(text, 200, "%s", s->only_stored ? "refused " : "alone ");
	text[strlen(text) - 1] = '\0';
	return text;
}

static void check(struct share_rig *rig, const char *target, const char *fields, const char *body, const char *expected)
{
	const struct share *s = share_rig_judge(rig, &(struct share_rig_request){ target, fields, slice_of(body) });
	char text[200];

	assert_non_null(s);
	if (strcmp(told(s, text), expected) != 0)
		fail_msg("%s %s %s: %s; not: %s", target, fields != NULL ? fields : "", body, text, expected);
}

/* ---- which take part ---------------------------------------------------------------------------------------------------------- */

/* clang-format off */
#define CHAT  "/v1/chat/completions"
#define COLD "{\"model\":\"one\",\"temperature\":0}"
#define WARM "{\"model\":\"one\",\"temperature\":1}"
#define COLD_STREAM "{\"model\":\"one\",\"temperature\":0,\"stream\":true}"
#define MAX_AGE "Cache-Control: max-age=60"

static const struct {
	const char *cache, *coalesce, *target, *fields, *body, *told;
} cases[] = {
	{ "deterministic", "deterministic", CHAT, NULL, COLD, "read late follow lead store" },
	{ "deterministic", "deterministic", CHAT, NULL, COLD_STREAM, "read late follow lead store" },
	{ "deterministic", "deterministic", CHAT, NULL, WARM, "alone" },
	{ "deterministic", "deterministic", CHAT, NULL, "{\"model\":\"one\"}", "alone" },
	{ "deterministic", "deterministic", CHAT, MAX_AGE, WARM, "alone" },
	{ "deterministic", "deterministic", "/v1/embeddings", NULL, "{\"model\":\"one\"}", "read late follow lead store" },
	{ "deterministic", "deterministic", "/v1/messages/count_tokens", NULL, "{\"model\":\"m\"}", "read late follow lead store" },
	{ "deterministic", "deterministic", "/v1beta/models/m:generateContent", NULL, "{\"generationConfig\":{\"temperature\":0.0}}", "read late follow lead store" },
	{ "deterministic", "deterministic", "GET /h/x", NULL, "", "alone" },
	{ "always", "always", CHAT, NULL, WARM, "read late follow lead store" },
	{ "always", "always", "GET /h/x", NULL, "", "read late follow lead store" },
	{ "always", "always", "/h/x", NULL, "a", "read late follow lead store" },
	{ "always", "always", "PUT /h/x", NULL, "a", "alone" },
	{ "always", "always", "PATCH /h/x", NULL, "a", "alone" },
	{ "always", "always", "DELETE /h/x", NULL, "", "alone" },
	{ "always", "always", "HEAD /h/x", NULL, "", "alone" },
	{ "asked", "asked", CHAT, NULL, COLD, "alone" },
	{ "asked", "asked", CHAT, "Cache-Control: max-stale", COLD, "alone" },
	{ "asked", "asked", CHAT, MAX_AGE, WARM, "read late follow lead store" },
	{ "asked", "asked", CHAT, "Cache-Control: max-age=0", WARM, "follow lead store fresh" },
	{ "asked", "asked", "GET /h/x", MAX_AGE, "", "read late follow lead store" },
	{ "asked", "asked", CHAT, "Cache-Control: only-if-cached", WARM, "read late follow store stored" },
	{ "never", "never", CHAT, MAX_AGE, COLD, "alone" },
	{ "never", "deterministic", CHAT, NULL, COLD, "late follow lead" },
	{ "deterministic", "never", CHAT, NULL, COLD, "read lead store" },
	{ "always", "deterministic", CHAT, NULL, WARM, "read lead store" },
	{ "deterministic", "always", CHAT, NULL, WARM, "late follow lead" },
	{ "always", "asked", CHAT, MAX_AGE, WARM, "read late follow lead store" },
	/* what the client wants */
	{ "always", "always", CHAT, "Cache-Control: no-store", COLD, "alone" },
	{ "always", "always", CHAT, "Cache-Control: max-age=60\ncache-control: No-Store", COLD, "alone" },
	{ "always", "always", CHAT, "Cache-Control: no-cache", COLD, "follow lead store fresh" },
	{ "always", "always", CHAT, "Cache-Control: private, s-maxage=0, must-revalidate", COLD, "read late follow lead store" },
	{ "always", "always", CHAT, "Cache-Control: only-if-cached", COLD, "read late follow store stored" },
	/* nothing but what is stored, where nothing can be */
	{ "deterministic", "deterministic", CHAT, "Cache-Control: only-if-cached", WARM, "refused" },
	{ "always", "always", CHAT, "Cache-Control: only-if-cached, no-store", COLD, "refused" },
	{ "always", "always", CHAT, "Cache-Control: only-if-cached", "{\"model\":\"one\",\"x\":{\"a\":1,\"a\":1}}", "refused" },
	{ "always", "always", "DELETE /h/x", "Cache-Control: only-if-cached", "", "refused" },
	{ "never", "never", CHAT, "Cache-Control: only-if-cached", COLD, "refused" },
};
/* clang-format on */

static void the_configuration_says_which_take_part(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		char config[100];
		struct share_rig *rig;
		snprintf(config, sizeof(config), "cache: {when: %s}\ncoalesce: {when: %s}\n", cases[i].cache,
			 cases[i].coalesce);
		rig = share_rig_new(config);
		check(rig, cases[i].target, cases[i].fields, cases[i].body, cases[i].told);
		share_rig_free(&rig);
	}
}

static void streams_may_be_left_out_of_flights(void **state)
{
	struct share_rig *rig = share_rig_new("coalesce: {streams: false}\n");

	(void)state;
	check(rig, CHAT, NULL, COLD, "read late follow lead store");
	check(rig, CHAT, NULL, COLD_STREAM, "read lead store");
	share_rig_free(&rig);
	rig = share_rig_new("cache: {when: never}\ncoalesce: {streams: false}\n");
	check(rig, CHAT, NULL, COLD_STREAM, "alone");
	share_rig_free(&rig);
}

static void the_client_says_how_old(void **state)
{
	static const struct {
		const char *wish;
		int64_t oldest, slack; /* seconds */
	} wishes[] = {
		{ "", -1, 0 },
		{ "max-age=60", 60, 0 },
		{ "max-stale=30", -1, 30 },
		{ "min-fresh=30", -1, -30 },
		{ "min-fresh=0", -1, 0 },
		{ "max-stale=0", -1, 0 },
		{ "max-stale=30, min-fresh=5", -1, -5 },
		{ "max-age=60, max-stale=30, max-age=50", 50, 30 },
	};
	struct share_rig *rig = share_rig_new(ALWAYS);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(wishes); i++) {
		char line[100];
		const struct share *s;
		snprintf(line, sizeof(line), "Cache-Control: %s", wishes[i].wish);
		s = share_rig_judge(rig, &(struct share_rig_request){ CHAT, line, SLICE(COLD) });
		assert_int_equal(s->ask.oldest, wishes[i].oldest < 0 ? -1 : wishes[i].oldest * CLOCK_SECOND);
		assert_int_equal(s->ask.slack, wishes[i].slack * CLOCK_SECOND);
	}
	share_rig_free(&rig);
}

/* ---- which answers are kept -------------------------------------------------------------------------------------------------- */

enum { TTL = 3600, SWR = 600, SIE = 7200 };

static const struct meter_result whole = { .ended = true };

/* The lines are the answer's fields, of an API of that dialect. */
static bool keep(enum dialect dialect, int status, const char *lines, const struct meter_result *metered,
		 struct flight_end *end)
{
	const struct config config = { .cache = { .ttl = TTL * CLOCK_SECOND,
						  .stale_while_revalidate = SWR * CLOCK_SECOND,
						  .stale_if_error = SIE * CLOCK_SECOND } };
	const struct dialect_call call = { .dialect = dialect };
	struct http_field fields[8];
	struct fields_answer answer = { .fields = fields };
	bool kept;

	for (struct slice rest = slice_of(lines); rest.len > 0;) {
		struct slice value, name = slice_cut(slice_cut(rest, '\n', &rest), ':', &value);
		assert_true(answer.count < ARRAY_LENGTH(fields));
		fields[answer.count++] = (struct http_field){ name, slice_trim(value) };
	}
	*end = (struct flight_end){ .outcome = FLIGHT_DONE };
	kept = share_keep(&config, &call, status, &answer, metered, end);
	if (metered == &whole) /* then its head has told it already */
		assert_int_equal(share_may_keep(&call, status, &answer), kept);
	return kept;
}

static bool is_private(enum dialect dialect, const char *line)
{
	const struct dialect_call call = { .dialect = dialect };
	struct slice value, name = slice_cut(slice_of(line), ':', &value);
	struct http_field field = { name, slice_trim(value) };
	struct fields_answer answer = { .fields = &field, .count = name.len > 0 };

	return share_is_private(&call, &answer);
}

static void only_what_is_whole_and_good(void **state)
{
	static const struct meter_result bad[] = {
		{ .ended = false },
		{ .ended = true, .filtered = true },
		{ .ended = true, .error_in_band = true },
		{ .ended = true, .unread = "a name stands twice in one object" },
	};
	struct flight_end end;

	(void)state;
	for (int dialect = 0; dialect < DIALECT_COUNT; dialect++) {
		for (int status = 200; status < 600; status++)
			assert_int_equal(keep(dialect, status, "", &whole, &end), status == 200);
		assert_true(keep(dialect, 200, "", &whole, &end));
		assert_int_equal(end.fresh, TTL * CLOCK_SECOND);
		assert_int_equal(end.stale, (TTL + SWR) * CLOCK_SECOND);
		assert_int_equal(end.error, (TTL + SIE) * (int64_t)CLOCK_SECOND);
		for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
			assert_false(keep(dialect, 200, "", &bad[i], &end));
	}
}

/* clang-format off */
static const struct {
	const char *fields;
	int64_t fresh, stale, error; /* seconds; fresh 0: it is not kept */
	bool private;                /* and goes to its own client alone */
} answers[] = {
	{ "", TTL, TTL + SWR, TTL + SIE, false },
	{ "Cache-Control: public", TTL, TTL + SWR, TTL + SIE, false },
	{ "Cache-Control: no-store", 0, 0, 0, true },
	{ "Cache-Control: private", 0, 0, 0, true },
	{ "cache-control: max-age=60, PRIVATE=\"x\"", 0, 0, 0, true },
	{ "Cache-Control: no-cache", 0, 0, 0, true },
	{ "Cache-Control: max-age=0", 0, 0, 0, false },
	{ "Cache-Control: max-age=0, must-revalidate", 0, 0, 0, true },
	{ "Cache-Control: max-age=x", 0, 0, 0, false },
	{ "Cache-Control: s-maxage=0, max-age=60", 0, 0, 0, true },
	{ "Cache-Control: max-age=60", 60, 60 + SWR, 60 + SIE, false },
	{ "Cache-Control: max-age=60\nCache-Control: max-age=30", 30, 30 + SWR, 30 + SIE, false },
	{ "Cache-Control: max-age=3600", TTL, TTL + SWR, TTL + SIE, false },
	{ "Cache-Control: max-age=3601", TTL, TTL + SWR, TTL + SIE, false },
	{ "Cache-Control: max-age=99999999999999999999", TTL, TTL + SWR, TTL + SIE, false },
	/* what must not be given stale is not */
	{ "Cache-Control: max-age=60, s-maxage=30", 30, 30, 30, false },
	{ "Cache-Control: max-age=30, s-maxage=60", 60, 60, 60, false },
	{ "Cache-Control: max-age=60, must-revalidate", 60, 60, 60, false },
	{ "Cache-Control: max-age=60, Proxy-Revalidate", 60, 60, 60, false },
	{ "Cache-Control: must-revalidate", TTL, TTL, TTL, false },
	/* how old it was when it came */
	{ "Cache-Control: max-age=60\nAge: 20", 40, 40 + SWR, 40 + SIE, false },
	{ "Age: 60\nCache-Control: max-age=60", 0, 0, 0, false },
	{ "Age: 61\nCache-Control: max-age=60", 0, 0, 0, false },
	{ "Age: 99999999999999999999\nCache-Control: max-age=60", 0, 0, 0, false },
	{ "Age: -5\nCache-Control: max-age=60", 60, 60 + SWR, 60 + SIE, false },
	{ "Age: x\nCache-Control: max-age=60", 60, 60 + SWR, 60 + SIE, false },
	{ "Age: 20", TTL, TTL + SWR, TTL + SIE, false },
	/* Expires, where Cache-Control does not say it */
	{ "Expires: Thu, 01 Jan 1970 00:00:00 GMT", 0, 0, 0, false },
	{ "Expires: 0", 0, 0, 0, false },
	{ "Expires: Fri, 01 Jan 2100 00:00:00 GMT", TTL, TTL + SWR, TTL + SIE, false },
	{ "Expires: 0\nCache-Control: max-age=60", 60, 60 + SWR, 60 + SIE, false },
	/* what the answer varies by and the key does not know */
	{ "Vary: *", 0, 0, 0, true },
	{ "Vary: Accept, *", 0, 0, 0, true },
	{ "Vary: User-Agent", 0, 0, 0, true },
	{ "Vary: accept-encoding,user-agent", 0, 0, 0, true },
	{ "Vary: traceparent", 0, 0, 0, true },
	{ "Vary: X-Goog-Api-Client", 0, 0, 0, true },
	{ "Vary: Cache-Control", 0, 0, 0, true },
	{ "Vary: Accept, Origin\nvary: Accept-Encoding, Cookie, X-Custom", TTL, TTL + SWR, TTL + SIE, false },
	{ "Vary: User-Agents", TTL, TTL + SWR, TTL + SIE, false },
};
/* clang-format on */

/* An answer that is not kept leaves the times as they were: it may be kept all the same, for latecomers, and for no longer. */
static void what_another_api_says_of_its_answers_holds(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(answers); i++) {
		struct flight_end end;
		bool kept = keep(DIALECT_http, 200, answers[i].fields, &whole, &end);
		if (kept != (answers[i].fresh > 0) || end.fresh != answers[i].fresh * CLOCK_SECOND ||
		    end.stale != answers[i].stale * CLOCK_SECOND || end.error != answers[i].error * CLOCK_SECOND)
			fail_msg("%s: kept %d, %lld %lld %lld", answers[i].fields, kept,
				 (long long)(end.fresh / CLOCK_SECOND), (long long)(end.stale / CLOCK_SECOND),
				 (long long)(end.error / CLOCK_SECOND));
		if (strchr(answers[i].fields, '\n') == NULL &&
		    is_private(DIALECT_http, answers[i].fields) != answers[i].private)
			fail_msg("%s: private %d", answers[i].fields, !answers[i].private);
	}
}

/* A provider says "private" of all that it answers. */
static void what_a_provider_says_is_for_its_client(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(answers); i++) {
		struct flight_end end;
		assert_true(keep(DIALECT_openai, 200, answers[i].fields, &whole, &end));
		assert_int_equal(end.fresh, TTL * CLOCK_SECOND);
		assert_false(is_private(DIALECT_openai, answers[i].fields));
	}
}

/* ---- purges ---------------------------------------------------------------------------------------------------------------- */

static void no_two_purges_have_one_name(void **state)
{
	static const char *const tenants[] = { NULL, "a", "b", "ab", "m", "k", "t", "a.b", "everything" };
	static const char *const models[] = { NULL, "a", "b", "a b", " a", "b a", "*", "m:a", "t:a", "a:a", "é" };
	enum { COUNT = ARRAY_LENGTH(tenants) * ARRAY_LENGTH(models) };
	struct mem *mem = mem_arena(1 << 16);
	struct slice names[COUNT + 1];
	size_t count = 0;

	(void)state;
	for (size_t t = 0; t < ARRAY_LENGTH(tenants); t++)
		for (size_t m = 0; m < ARRAY_LENGTH(models); m++)
			names[count++] = share_purge_name(slice_of(tenants[t]), slice_of(models[m]), SLICE_NONE, mem);
	names[count++] = share_purge_name(SLICE_NONE, SLICE_NONE, SLICE("a"), mem);
	for (size_t i = 0; i < count; i++) {
		assert_true(names[i].len > 0);
		for (size_t k = 0; k < i; k++)
			assert_false(slice_equal(names[i], names[k]));
	}
	assert_true(slice_equal(names[0], SLICE("*")));
	mem_arena_free(&mem);
}

static bool heeds(const struct share *s, const char *tenant, const char *model, struct slice key)
{
	struct mem *mem = mem_arena(1 << 16);
	struct slice name = share_purge_name(slice_of(tenant), slice_of(model), key, mem);
	bool heeded = false;

	for (size_t i = 0; i < s->ask.purges_count; i++)
		heeded |= slice_equal(s->ask.purges[i], name);
	mem_arena_free(&mem);
	return heeded;
}

static void a_request_heeds_the_purges_that_concern_it(void **state)
{
	struct share_rig *rig = share_rig_new(ALWAYS);
	const struct share *s =
		share_rig_judge(rig, &(struct share_rig_request){ CHAT, "x-api-key: key-of-acme", SLICE(COLD) });
	char hex[2 * ANSWER_KEY + 1];

	(void)state;
	for (size_t i = 0; i < ANSWER_KEY; i++)
		snprintf(hex + 2 * i, 3, "%02x", s->ask.key[i]);
	assert_true(heeds(s, NULL, NULL, slice_of(hex)));
	assert_true(heeds(s, "acme", NULL, SLICE_NONE));
	assert_true(heeds(s, NULL, "one", SLICE_NONE));
	assert_true(heeds(s, "acme", "one", SLICE_NONE));
	assert_false(heeds(s, "other", NULL, SLICE_NONE));
	assert_false(heeds(s, NULL, "two", SLICE_NONE));
	assert_false(heeds(s, NULL, "real", SLICE_NONE));
	assert_false(heeds(s, "acme", "two", SLICE_NONE));
	hex[0] = hex[0] == '0' ? '1' : '0';
	assert_false(heeds(s, NULL, NULL, slice_of(hex)));
	share_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_configuration_says_which_take_part),
		cmocka_unit_test(streams_may_be_left_out_of_flights),
		cmocka_unit_test(the_client_says_how_old),
		cmocka_unit_test(only_what_is_whole_and_good),
		cmocka_unit_test(what_another_api_says_of_its_answers_holds),
		cmocka_unit_test(what_a_provider_says_is_for_its_client),
		cmocka_unit_test(no_two_purges_have_one_name),
		cmocka_unit_test(a_request_heeds_the_purges_that_concern_it),
	};

	return cmocka_run_group_tests_name("share, wishes", tests, NULL, NULL);
}

/* svc/dialect/meter: whether a provider's content policy, or an accident, had a part in an answer, as each dialect says
 * it; under every cut into two and byte by byte. Each word that says so stands beside its nearest neighbour that does
 * not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "svc/dialect.h"

enum call_kind { CHAT, RESPONSES, MESSAGES, GEMINI, GEMINI_PLAIN, GEMINI_ARRAY, ANY };

static const struct dialect_call calls[] = {
	[CHAT] = { .dialect = DIALECT_openai, .operation = OPERATION_generate },
	[RESPONSES] = { .dialect = DIALECT_openai, .operation = OPERATION_generate, .responses = true },
	[MESSAGES] = { .dialect = DIALECT_anthropic, .operation = OPERATION_generate },
	[GEMINI] = { .dialect = DIALECT_gemini, .operation = OPERATION_generate, .framing = DIALECT_EVENTS },
	[GEMINI_PLAIN] = { .dialect = DIALECT_gemini, .operation = OPERATION_generate },
	[GEMINI_ARRAY] = { .dialect = DIALECT_gemini, .operation = OPERATION_generate, .framing = DIALECT_ARRAY },
	[ANY] = { .dialect = DIALECT_http, .operation = OPERATION_pass },
};

/* clang-format off */
#define EVENTS "text/event-stream"
#define JSON   "application/json"
#define SSE(json) "data: " json "\n\n"
#define CHUNK(delta, reason) SSE("{\"choices\":[{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" reason "}]}")
#define DONE SSE("[DONE]")
#define CHOICE(message, reason) "{\"message\":{" message "},\"finish_reason\":\"" reason "\"}"
#define CHOICES(choices) "{\"choices\":[" choices "]}"
#define SAID "\"content\":\"x\",\"refusal\":null"
#define COMPLETED(details) SSE("{\"type\":\"response.completed\",\"response\":{\"incomplete_details\":" details "}}")
#define OUTPUT(parts) "{\"incomplete_details\":null,\"output\":[{\"content\":[" parts "]},{\"content\":[" TEXT "]}]}"
#define TEXT "{\"type\":\"output_text\",\"text\":\"x\"}"
#define REFUSED "{\"type\":\"refusal\",\"refusal\":\"no\"}"
#define STOPPED(reason) SSE("{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason "\"}}") SSE("{\"type\":\"message_stop\"}")
#define MESSAGE(reason) "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"refusal\"}],\"stop_reason\":\"" reason "\"}"
#define CANDIDATE(reason) "{\"content\":{\"parts\":[{\"text\":\"SAFETY\"}]},\"finishReason\":" reason "}"
#define GOOGLE(candidates) "{\"candidates\":[" candidates "]}"
#define BLOCKED(reason) "{\"promptFeedback\":{\"blockReason\":" reason "}}"

static const struct {
	const char *what;
	enum call_kind call;
	const char *type, *stream;
	bool filtered;
} cases[] = {
	{ "chat", CHAT, EVENTS, CHUNK("\"content\":\"content_filter\",\"refusal\":null", "null") CHUNK("", "\"stop\"") DONE, false },
	{ "chat, filtered", CHAT, EVENTS, CHUNK("\"content\":\"x\"", "null") CHUNK("", "\"content_filter\"") DONE, true },
	{ "chat, no word of theirs", CHAT, EVENTS, CHUNK("", "\"content_filtered\"") CHUNK("", "\"a_word_that_begins_with_content_filter\"") DONE, false },
	{ "chat, one choice goes on", CHAT, EVENTS, CHUNK("", "\"content_filter\"") CHUNK("\"content\":\"x\"", "null") CHUNK("", "\"stop\"") DONE, true },
	{ "chat, refused", CHAT, EVENTS, CHUNK("\"refusal\":\"no\"", "null") CHUNK("", "\"stop\"") DONE, true },
	{ "chat, an empty refusal", CHAT, EVENTS, CHUNK("\"refusal\":\"\"", "null") CHUNK("", "\"stop\"") DONE, false },
	{ "chat, cut behind the reason", CHAT, EVENTS, CHUNK("", "\"content_filter\""), true },
	{ "chat, plain", CHAT, JSON, CHOICES(CHOICE(SAID, "stop") "," CHOICE(SAID, "length")), false },
	{ "chat, plain, the first is filtered", CHAT, JSON, CHOICES(CHOICE(SAID, "content_filter") "," CHOICE(SAID, "stop")), true },
	{ "chat, plain, the last is filtered", CHAT, JSON, CHOICES(CHOICE(SAID, "stop") "," CHOICE(SAID, "content_filter")), true },
	{ "chat, plain, the first refused", CHAT, JSON, CHOICES(CHOICE("\"refusal\":\"no\"", "stop") "," CHOICE(SAID, "stop")), true },
	{ "completions, filtered", CHAT, JSON, CHOICES("{\"text\":\"\",\"finish_reason\":\"content_filter\"}"), true },
	{ "responses", RESPONSES, EVENTS, SSE("{\"type\":\"response.output_text.delta\",\"delta\":\"refusal\"}") COMPLETED("null"), false },
	{ "responses, too long", RESPONSES, EVENTS, COMPLETED("{\"reason\":\"max_output_tokens\"}"), false },
	{ "responses, filtered", RESPONSES, EVENTS, COMPLETED("{\"reason\":\"content_filter\"}"), true },
	{ "responses, refusing", RESPONSES, EVENTS, SSE("{\"type\":\"response.refusal.delta\",\"delta\":\"no\"}") COMPLETED("null"), true },
	{ "responses, refused", RESPONSES, EVENTS, SSE("{\"type\":\"response.refusal.done\",\"refusal\":\"no\"}") COMPLETED("null"), true },
	{ "responses, plain", RESPONSES, JSON, OUTPUT(TEXT "," TEXT), false },
	{ "responses, plain, too long", RESPONSES, JSON, "{\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[]}", false },
	{ "responses, plain, filtered", RESPONSES, JSON, "{\"incomplete_details\":{\"reason\":\"content_filter\"},\"output\":[]}", true },
	{ "responses, plain, one part refused", RESPONSES, JSON, OUTPUT(REFUSED "," TEXT), true },
	{ "responses, plain, refused without a word", RESPONSES, JSON, OUTPUT("{\"type\":\"refusal\",\"refusal\":\"\"}"), true },
	{ "responses, plain, a refusal of no type", RESPONSES, JSON, OUTPUT("{\"refusal\":\"no\"}"), true },
	{ "messages", MESSAGES, EVENTS, STOPPED("end_turn"), false },
	{ "messages, refused", MESSAGES, EVENTS, STOPPED("refusal"), true },
	{ "messages, a reason that is not known", MESSAGES, EVENTS, STOPPED("pause_turn"), false },
	{ "messages, plain", MESSAGES, JSON, MESSAGE("max_tokens"), false },
	{ "messages, plain, refused", MESSAGES, JSON, MESSAGE("refusal"), true },
	{ "gemini", GEMINI, EVENTS, SSE(GOOGLE(CANDIDATE("null"))) SSE(GOOGLE(CANDIDATE("\"STOP\""))), false },
	{ "gemini, filtered", GEMINI, EVENTS, SSE(GOOGLE(CANDIDATE("null"))) SSE(GOOGLE(CANDIDATE("\"SAFETY\""))), true },
	{ "gemini, the first is filtered", GEMINI, EVENTS, SSE(GOOGLE(CANDIDATE("\"SAFETY\"") "," CANDIDATE("\"STOP\""))), true },
	{ "gemini, filtered, then more", GEMINI, EVENTS, SSE(GOOGLE(CANDIDATE("\"SAFETY\""))) SSE(GOOGLE(CANDIDATE("\"STOP\""))), true },
	{ "gemini, blocked", GEMINI, EVENTS, SSE(BLOCKED("\"OTHER\"")), true },
	{ "gemini, not blocked", GEMINI, EVENTS, SSE(BLOCKED("null")) SSE(GOOGLE(CANDIDATE("\"STOP\""))), false },
	{ "gemini, plain, the first is filtered", GEMINI_PLAIN, JSON, GOOGLE(CANDIDATE("\"SPII\"") "," CANDIDATE("\"STOP\"")), true },
	{ "gemini, plain, blocked", GEMINI_PLAIN, JSON, BLOCKED("\"PROHIBITED_CONTENT\""), true },
	{ "gemini, plain, reasons as numbers", GEMINI_PLAIN, JSON, GOOGLE(CANDIDATE("3")), true },
	{ "gemini, plain, blocked by a number", GEMINI_PLAIN, JSON, BLOCKED("1"), true },
	{ "array", GEMINI_ARRAY, JSON, "[" GOOGLE(CANDIDATE("\"STOP\"")) "]", false },
	{ "array, filtered", GEMINI_ARRAY, JSON, "[" GOOGLE(CANDIDATE("\"RECITATION\"")) "," GOOGLE(CANDIDATE("\"STOP\"")) "]", true },
	{ "array, blocked", GEMINI_ARRAY, JSON, "[" BLOCKED("\"SAFETY\"") "]", true },
	{ "any API", ANY, JSON, MESSAGE("refusal"), false },
};

/* Google's enumeration, of both its APIs; and words that it does not have. */
static const struct {
	const char *reason;
	bool filtered;
} reasons[] = {
	{ "STOP", false },
	{ "MAX_TOKENS", false },
	{ "MALFORMED_FUNCTION_CALL", true },
	{ "UNEXPECTED_TOOL_CALL", true },
	{ "TOO_MANY_TOOL_CALLS", true },
	{ "MISSING_THOUGHT_SIGNATURE", true },
	{ "MALFORMED_RESPONSE", true },
	{ "NO_IMAGE", true },
	{ "SAFETY", true },
	{ "RECITATION", true },
	{ "LANGUAGE", true },
	{ "BLOCKLIST", true },
	{ "PROHIBITED_CONTENT", true },
	{ "SPII", true },
	{ "MODEL_ARMOR", true },
	{ "IMAGE_SAFETY", true },
	{ "IMAGE_PROHIBITED_CONTENT", true },
	{ "IMAGE_RECITATION", true },
	{ "IMAGE_OTHER", true },
	{ "OTHER", true },
	{ "FINISH_REASON_UNSPECIFIED", true },
	{ "STOP_", true },
	{ "STO", true },
	{ "stop", true },
	{ "", true },
	{ "A_REASON_THAT_NOBODY_HAS_EVER_HEARD_OF", true },
};
/* clang-format on */

static void drop(void *arg, struct slice bytes)
{
	(void)arg;
	(void)bytes;
}

/* step 0: cut at `cut` alone. */
static bool is_filtered(enum call_kind call, const char *type, struct slice stream, size_t cut, size_t step)
{
	struct meter *m = meter_new(&calls[call], 200, slice_of(type), false);
	struct meter_result result;

	for (size_t at = 0; at < stream.len;) {
		size_t length = step > 0 ? step : at < cut ? cut - at : stream.len - at;
		char *piece = malloc(length); /* its own block, so that a sanitizer sees a byte that is read later */
		memcpy(piece, stream.data + at, length);
		meter_write(m, slice_make(piece, length), drop, NULL);
		free(piece);
		at += length;
	}
	meter_finish(m, true, drop, NULL);
	meter_result(m, &result);
	meter_free(&m);
	return result.filtered;
}

static void judge(const char *what, enum call_kind call, const char *type, const char *text, bool filtered)
{
	struct slice stream = slice_of(text);

	for (size_t cut = 0; cut <= stream.len; cut++)
		if (is_filtered(call, type, stream, cut, cut == 0) != filtered)
			fail_msg("%s, cut at %zu: filtered %d", what, cut, !filtered);
}

static void hears_the_content_policy(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		judge(cases[i].what, cases[i].call, cases[i].type, cases[i].stream, cases[i].filtered);
}

static void knows_the_reasons_of_gemini(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++) {
		char text[200];
		snprintf(text, sizeof(text), "{\"candidates\":[{\"finishReason\":\"%s\"}]}", reasons[i].reason);
		judge(reasons[i].reason, GEMINI_PLAIN, JSON, text, reasons[i].filtered);
	}
}

/* Of a refusal that is an error the meter reads nothing. */
static void errors_are_not_read(void **state)
{
	struct meter *m = meter_new(&calls[MESSAGES], 400, SLICE(JSON), false);
	struct meter_result result;

	(void)state;
	meter_write(m, SLICE(MESSAGE("refusal")), drop, NULL);
	meter_finish(m, true, drop, NULL);
	meter_result(m, &result);
	assert_false(result.filtered);
	meter_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hears_the_content_policy),
		cmocka_unit_test(knows_the_reasons_of_gemini),
		cmocka_unit_test(errors_are_not_read),
	};

	return cmocka_run_group_tests_name("meter, filtered", tests, NULL, NULL);
}

/* svc/refusal: every reason in every shape is JSON that says what the SDKs look for; the exact words of a few. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "lib/buf.h"
#include "svc/refusal.h"

enum { ROOM = 8192 };

static json_t *parse(struct slice text)
{
	json_error_t error;
	json_t *value = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);

	if (value == NULL)
		fail_msg("%s: %.*s", error.text, SLICE_ARGS(text));
	return value;
}

static const char *text_at(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	assert_non_null(text);
	return text;
}

/* What the SDK of each dialect reads to choose its error. */
static void judge_shape(const json_t *body, enum dialect dialect, int status, const char *code, const char *message)
{
	const json_t *error = json_object_get(body, "error");

	if (dialect == DIALECT_http) {
		assert_string_equal(text_at(body, "type"), "about:blank");
		assert_int_equal(json_integer_value(json_object_get(body, "status")), status);
		assert_string_equal(text_at(body, "detail"), message);
		assert_string_equal(text_at(body, "code"), code);
		assert_true(strlen(text_at(body, "title")) > 0);
		return;
	}
	assert_string_equal(text_at(error, "message"), message);
	if (dialect == DIALECT_gemini) {
		assert_int_equal(json_integer_value(json_object_get(error, "code")), status);
		assert_true(strlen(text_at(error, "status")) > 0);
		assert_true(json_array_size(json_object_get(error, "details")) >= 1);
		return;
	}
	assert_string_equal(text_at(error, "code"), code);
	(void)text_at(error, "type");
	if (dialect == DIALECT_openai)
		assert_true(json_is_null(json_object_get(error, "param")));
	else
		assert_string_equal(text_at(body, "type"), "error");
}

static void judge(enum refusal refusal, enum dialect dialect)
{
	char memory[ROOM], message[600];
	struct buf out;

	buf_wrap(&out, memory, sizeof(memory), 0);
	snprintf(message, sizeof(message), "%s \"x\" \xC3\xBC", refusal_text(refusal));
	const char *type = refusal_write(refusal, dialect, SLICE("\"x\" \xC3\xBC"), SLICE("r-1"), &out);
	assert_string_equal(type, dialect == DIALECT_http ? "application/problem+json" : "application/json");
	assert_false(out.overflowed);
	json_t *body = parse(buf_slice(&out));
	judge_shape(body, dialect, refusal_status(refusal), refusal_code(refusal), message);
	if (dialect == DIALECT_anthropic || dialect == DIALECT_http)
		assert_string_equal(text_at(body, "request_id"), "r-1");
	json_decref(body);
}

static void every_reason_has_every_shape(void **state)
{
	(void)state;
	for (int refusal = 1; refusal < REFUSAL_COUNT; refusal++)
		for (int dialect = 0; dialect < DIALECT_COUNT; dialect++)
			judge((enum refusal)refusal, (enum dialect)dialect);
}

/* The event must be one, and its data what the SDK of the dialect raises an error for. */
static void judge_event(enum refusal refusal, enum dialect dialect, bool responses)
{
	char memory[ROOM];
	struct buf out;

	buf_wrap(&out, memory, sizeof(memory), 0);
	refusal_write_event(refusal, dialect, responses, SLICE("a\nb"), SLICE_NONE, &out);
	struct slice event = buf_slice(&out), end = dialect == DIALECT_gemini ? SLICE("\r\n\r\n") : SLICE("\n\n");
	bool named = dialect == DIALECT_anthropic || dialect == DIALECT_http || responses;
	struct slice begin = named ? SLICE("event: error\ndata: ") : SLICE("data: ");
	if (dialect == DIALECT_gemini)
		begin = SLICE_NONE; /* bare JSON */
	assert_true(slice_starts(event, begin) && slice_ends(event, end));
	event = slice_skip(event, begin.len);
	event.len -= end.len;
	assert_int_equal(slice_find(event, '\n'), event.len);
	json_t *body = parse(event);
	char message[600];
	snprintf(message, sizeof(message), "%s a\nb", refusal_text(refusal));
	judge_shape(body, dialect, refusal_status(refusal), refusal_code(refusal), message);
	if (responses) {
		assert_string_equal(text_at(body, "type"), "error");
		assert_string_equal(text_at(body, "code"), refusal_code(refusal));
	}
	json_decref(body);
}

static void every_reason_has_an_event(void **state)
{
	(void)state;
	for (int refusal = 1; refusal < REFUSAL_COUNT; refusal++) {
		for (int dialect = 0; dialect < DIALECT_COUNT; dialect++)
			judge_event((enum refusal)refusal, (enum dialect)dialect, false);
		judge_event((enum refusal)refusal, DIALECT_openai, true);
	}
}

static void writes_these_words(void **state)
{
	/* clang-format off */
	static const struct { enum refusal refusal; enum dialect dialect; const char *body; } bodies[] = {
		{ REFUSAL_invalid_api_key, DIALECT_openai, "{\"error\":{\"message\":\"The API key is missing or unknown here. Send one that this gateway issued.\","
		  "\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"invalid_api_key\"}}" },
		{ REFUSAL_rate_limited, DIALECT_gemini, "{\"error\":{\"code\":429,\"message\":\"A limit is used up. Wait as long as Retry-After says.\",\"status\":\"RESOURCE_EXHAUSTED\","
		  "\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"RATE_LIMITED\",\"domain\":\"sluice\"}]}}" },
		{ REFUSAL_too_many_at_once, DIALECT_openai, "{\"error\":{\"message\":\"No place is free for one more request. Wait as long as Retry-After says.\"," /* of a worker that has none, too */
		  "\"type\":\"rate_limit_error\",\"param\":null,\"code\":\"too_many_at_once\"}}" },
		{ REFUSAL_model_not_found, DIALECT_anthropic, "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\",\"message\":\"This model is not configured here.\","
		  "\"code\":\"model_not_found\"},\"request_id\":null}" },
		{ REFUSAL_upstream_timeout, DIALECT_http, "{\"type\":\"about:blank\",\"title\":\"Gateway Timeout\",\"status\":504,\"detail\":\"The provider did not answer in time.\","
		  "\"code\":\"upstream_timeout\"}" },
	};
	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bodies); i++) {
		char memory[ROOM] = "";
		struct buf out;
		buf_wrap(&out, memory, sizeof(memory) - 1, 0);
		(void)refusal_write(bodies[i].refusal, bodies[i].dialect, SLICE_NONE, SLICE_NONE, &out);
		assert_string_equal(memory, bodies[i].body);
	}
}

static void faults_take_the_words_of_their_class(void **state)
{
	static const struct {
		int status;
		const char *google, *anthropic;
	} faults[] = {
		{ 431, "INVALID_ARGUMENT", "invalid_request_error" },
		{ 408, "DEADLINE_EXCEEDED", "timeout_error" },
		{ 501, "INTERNAL", "api_error" },
		{ 413, "INVALID_ARGUMENT", "request_too_large" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(faults); i++)
		for (int dialect = 0; dialect < DIALECT_COUNT; dialect++) {
			char memory[ROOM];
			struct buf out;
			buf_wrap(&out, memory, sizeof(memory), 0);
			(void)refusal_write_fault(faults[i].status, "bad_head", "No.", (enum dialect)dialect, &out);
			json_t *body = parse(buf_slice(&out)), *error = json_object_get(body, "error");
			judge_shape(body, (enum dialect)dialect, faults[i].status, "bad_head", "No.");
			if (dialect == DIALECT_gemini)
				assert_string_equal(text_at(error, "status"), faults[i].google);
			if (dialect == DIALECT_anthropic)
				assert_string_equal(text_at(error, "type"), faults[i].anthropic);
			json_decref(body);
		}
}

static void a_long_detail_is_cut(void **state)
{
	static char detail[100000], memory[ROOM];
	struct buf out;

	(void)state;
	memset(detail, 'x', sizeof(detail));
	buf_wrap(&out, memory, sizeof(memory), 0);
	(void)refusal_write(REFUSAL_invalid_request, DIALECT_openai, slice_make(detail, sizeof(detail)), SLICE_NONE,
			    &out);
	assert_false(out.overflowed);
	json_t *body = parse(buf_slice(&out));
	assert_in_range(strlen(text_at(json_object_get(body, "error"), "message")), 2000, 2048);
	json_decref(body);
}

static void only_what_may_succeed_is_tried_again(void **state)
{
	(void)state;
	assert_true(refusal_may_retry(REFUSAL_rate_limited) && refusal_may_retry(REFUSAL_draining));
	assert_false(refusal_may_retry(REFUSAL_invalid_json) || refusal_may_retry(REFUSAL_upstream_broken));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reason_has_every_shape), cmocka_unit_test(every_reason_has_an_event),
		cmocka_unit_test(writes_these_words),           cmocka_unit_test(faults_take_the_words_of_their_class),
		cmocka_unit_test(a_long_detail_is_cut),         cmocka_unit_test(only_what_may_succeed_is_tried_again),
	};

	return cmocka_run_group_tests_name("refusal", tests, NULL, NULL);
}

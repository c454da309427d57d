/* svc/dialect/meter: transcripts as the providers send them, whole, cut and broken; each under every cut into two and
 * byte by byte. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "svc/dialect.h"

struct expectation {
	bool input_known, output_known;
	int64_t input, cached, output, bytes;
	bool ended, error;
	const char *unread;
};

enum call_kind { CHAT, RESPONSES, EMBED, MESSAGES, COUNT, GEMINI, GEMINI_ARRAY, GEMINI_COUNT, ANY };

static const struct dialect_call calls[] = {
	[CHAT] = { .dialect = DIALECT_openai, .operation = OPERATION_generate },
	[RESPONSES] = { .dialect = DIALECT_openai, .operation = OPERATION_generate, .responses = true },
	[EMBED] = { .dialect = DIALECT_openai, .operation = OPERATION_embed },
	[MESSAGES] = { .dialect = DIALECT_anthropic, .operation = OPERATION_generate },
	[COUNT] = { .dialect = DIALECT_anthropic, .operation = OPERATION_count_tokens },
	[GEMINI] = { .dialect = DIALECT_gemini, .operation = OPERATION_generate, .framing = DIALECT_EVENTS },
	[GEMINI_ARRAY] = { .dialect = DIALECT_gemini, .operation = OPERATION_generate, .framing = DIALECT_ARRAY },
	[GEMINI_COUNT] = { .dialect = DIALECT_gemini, .operation = OPERATION_count_tokens },
	[ANY] = { .dialect = DIALECT_http, .operation = OPERATION_pass },
};

/* clang-format off */
#define NULLS "\"choices\":[{\"index\":0,\"delta\":"
#define CHUNK(delta) "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\"," NULLS delta ",\"finish_reason\":null}],\"usage\":null}\n\n"
#define USAGE_CHUNK "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29," \
	"\"prompt_tokens_details\":{\"cached_tokens\":7,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":4}}}\n\n"
#define DONE "data: [DONE]\n\n"
#define CHAT_BEGIN CHUNK("{\"role\":\"assistant\",\"content\":\"\"}") CHUNK("{\"content\":\"Gr\\u00fc\\u00df\"}") CHUNK("{\"refusal\":\"no\"}") \
	CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\"\"}}]}")
#define MESSAGE_START "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":25," \
	"\"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":1000,\"output_tokens\":1}}}\n\n"
#define MESSAGE_DELTAS "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" \
	"event: ping\ndata: {\"type\": \"ping\"}\n\n" \
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hmm\"}}\n\n" \
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"EqQB\"}}\n\n" \
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n" \
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"x\\\":\"}}\n\n"
#define MESSAGE_DELTA "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n"
#define MESSAGE_STOP "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
#define OVERLOADED "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
#define GOOGLE_1 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":8,\"totalTokenCount\":8}}"
#define GOOGLE_2 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"lo\"},{\"functionCall\":{\"name\":\"f\"}}]},\"finishReason\":\"STOP\"}]," \
	"\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":5,\"thoughtsTokenCount\":30,\"toolUsePromptTokenCount\":2,\"cachedContentTokenCount\":4}}"
#define GOOGLE_3 "{\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":6}}"
#define BLOCKED "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":8}}"
#define GOOGLE_ERROR "{\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}"
#define CANDIDATE(index, reason) "{\"content\":{\"parts\":[{\"text\":\"x\"}]},\"index\":" index reason "}"
#define TWO "]}"
#define BLANKS "                                                                                   \n"
#define STOP ",\"finishReason\":\"STOP\""
#define SSE(json) "data: " json "\r\n\r\n"
#define RESPONSE_DELTAS "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"usage\":null,\"output\":[]}}\n\n" \
	"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n" \
	"event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"delta\":\"{}\"}\n\n" \
	"event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":\"Hi\"}\n\n"
#define RESPONSE(what) "event: response." what "\ndata: {\"type\":\"response." what "\",\"response\":{\"usage\":{\"input_tokens\":9," \
	"\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens\":11,\"output_tokens_details\":{\"reasoning_tokens\":6}}," \
	"\"output\":[{\"content\":[{\"text\":\"Hi\"}]}]}}\n\n"

static const struct {
	const char *what;
	enum call_kind call;
	const char *type, *stream;
	struct expectation expected;
} cases[] = {
	{ "chat", CHAT, "text/event-stream; charset=utf-8", CHAT_BEGIN USAGE_CHUNK DONE, { true, true, 19, 7, 10, 12, true, false, NULL } },
	{ "chat without usage", CHAT, "text/event-stream", CHAT_BEGIN DONE, { false, false, 0, 0, 0, 12, true, false, NULL } },
	{ "chat cut behind the usage", CHAT, "text/event-stream", CHAT_BEGIN USAGE_CHUNK, { true, true, 19, 7, 10, 12, false, false, NULL } },
	{ "chat cut in an event", CHAT, "text/event-stream", CHAT_BEGIN "data: {\"choices\":[{\"delta\":{\"content\":\"x", { false, false, 0, 0, 0, 12, false, false, NULL } },
	{ "chat cut before the blank line", CHAT, "text/event-stream", CHAT_BEGIN "data: [DONE]\n", { false, false, 0, 0, 0, 12, false, false, NULL } },
	{ "chat ends with nearly the marker", CHAT, "text/event-stream", CHAT_BEGIN "data: [DONE] \n\ndata: [DONE\n\n", { false, false, 0, 0, 0, 12, false, false, NULL } },
	{ "the marker as text", CHAT, "text/event-stream", CHUNK("{\"content\":\"[DONE]\"}"), { false, false, 0, 0, 0, 6, false, false, NULL } },
	{ "chat fails", CHAT, "text/event-stream", CHAT_BEGIN "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\"}}\n\n", { false, false, 0, 0, 0, 12, false, true, NULL } },
	{ "garbage between events", CHAT, "text/event-stream", CHAT_BEGIN "data: {nonsense\n\n" DONE, { false, false, 0, 0, 0, 12, true, false, NULL } },
	{ "a name twice in an event", CHAT, "text/event-stream", "data: {\"usage\":{\"prompt_tokens\":1},\"usage\":{}}\n\n" DONE, { false, false, 0, 0, 0, 0, true, false, NULL } },
	{ "counts that cannot be", CHAT, "text/event-stream", "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":-3,\"completion_tokens\":99999999999999999}}\n\n" DONE, { false, false, 0, 0, 0, 0, true, false, NULL } },
	{ "completions", CHAT, "text/event-stream", "data: {\"choices\":[{\"text\":\"abc\"}]}\n\n" DONE, { false, false, 0, 0, 0, 3, true, false, NULL } },
	{ "chat, plain", CHAT, "application/json", "{\"choices\":[{\"message\":{\"content\":\"Hello\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}", { true, true, 3, 0, 2, 5, true, false, NULL } },
	{ "chat, plain, cut", CHAT, "application/json", "{\"choices\":[{\"message\":{\"content\":\"Hello\"}}],\"usage\":{\"prompt_tokens\":3,", { false, false, 0, 0, 0, 0, false, false, NULL } },
	{ "embeddings", EMBED, "application/json", "{\"data\":[{\"embedding\":[0.1,-2e-3]}],\"usage\":{\"prompt_tokens\":6,\"total_tokens\":6}}", { true, true, 6, 0, 0, 0, true, false, NULL } },
	{ "responses", RESPONSES, "text/event-stream", RESPONSE_DELTAS RESPONSE("completed"), { true, true, 9, 3, 11, 4, true, false, NULL } },
	{ "responses, incomplete", RESPONSES, "text/event-stream", RESPONSE_DELTAS RESPONSE("incomplete"), { true, true, 9, 3, 11, 4, true, false, NULL } },
	{ "responses, failed", RESPONSES, "text/event-stream", RESPONSE_DELTAS RESPONSE("failed"), { true, true, 9, 3, 11, 4, true, true, NULL } },
	{ "responses, cut", RESPONSES, "text/event-stream", RESPONSE_DELTAS, { false, false, 0, 0, 0, 4, false, false, NULL } },
	{ "responses know no [DONE]", RESPONSES, "text/event-stream", RESPONSE_DELTAS DONE, { false, false, 0, 0, 0, 4, false, false, NULL } },
	{ "responses, error", RESPONSES, "text/event-stream", RESPONSE_DELTAS "event: error\ndata: {\"type\":\"error\",\"code\":\"x\"}\n\n", { false, false, 0, 0, 0, 4, false, true, NULL } },
	{ "responses, plain", RESPONSES, "application/json", "{\"error\":null,\"output\":[{\"content\":[{\"text\":\"Hi\"}]},{\"arguments\":\"{}\"}],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}", { true, true, 1, 0, 2, 4, true, false, NULL } },
	{ "messages", MESSAGES, "text/event-stream", MESSAGE_START MESSAGE_DELTAS MESSAGE_DELTA MESSAGE_STOP, { true, true, 1125, 1000, 15, 13, true, false, NULL } },
	{ "messages, cut early", MESSAGES, "text/event-stream", MESSAGE_START MESSAGE_DELTAS, { true, false, 1125, 1000, 1, 13, false, false, NULL } },
	{ "messages, cut late", MESSAGES, "text/event-stream", MESSAGE_START MESSAGE_DELTAS MESSAGE_DELTA, { true, false, 1125, 1000, 15, 13, false, false, NULL } },
	{ "messages, overloaded", MESSAGES, "text/event-stream", MESSAGE_START OVERLOADED, { true, false, 1125, 1000, 1, 0, false, true, NULL } },
	{ "messages, plain", MESSAGES, "application/json", "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"},{\"type\":\"tool_use\",\"input\":{\"a\":1}}],"
	  "\"usage\":{\"input_tokens\":4,\"cache_read_input_tokens\":2,\"output_tokens\":3}}", { true, true, 6, 2, 3, 9, true, false, NULL } },
	{ "a count is not used", COUNT, "application/json", "{\"input_tokens\":14}", { true, true, 0, 0, 0, 0, true, false, NULL } },
	{ "gemini", GEMINI, "text/event-stream", SSE(GOOGLE_1) SSE(GOOGLE_2), { true, true, 10, 4, 35, 17, true, false, NULL } },
	{ "gemini, usage behind the end", GEMINI, "text/event-stream", SSE(GOOGLE_1) SSE(GOOGLE_2) SSE(GOOGLE_3), { true, true, 10, 4, 36, 17, true, false, NULL } },
	{ "gemini, cut", GEMINI, "text/event-stream", SSE(GOOGLE_1), { true, false, 8, 0, 0, 3, false, false, NULL } },
	{ "gemini goes on behind a reason", GEMINI, "text/event-stream", SSE(GOOGLE_2) SSE(GOOGLE_1), { true, false, 10, 4, 35, 17, false, false, NULL } },
	{ "gemini, blocked", GEMINI, "text/event-stream", SSE(BLOCKED), { true, true, 8, 0, 0, 0, true, false, NULL } },
	{ "gemini, error", GEMINI, "text/event-stream", SSE(GOOGLE_1) SSE(GOOGLE_ERROR), { true, false, 8, 0, 0, 3, false, true, NULL } },
	{ "gemini, no media type", GEMINI, "", SSE(GOOGLE_2), { true, true, 10, 4, 35, 14, true, false, NULL } },
	{ "gemini counts", GEMINI_COUNT, "application/json", "{\"totalTokens\":31}", { true, true, 0, 0, 0, 0, true, false, NULL } },
	{ "array", GEMINI_ARRAY, "application/json", "[" GOOGLE_1 "\r\n,\r\n" GOOGLE_2 "\r\n]\r\n", { true, true, 10, 4, 35, 17, true, false, NULL } },
	{ "array, blocked", GEMINI_ARRAY, "application/json", "[" BLOCKED "]", { true, true, 8, 0, 0, 0, true, false, NULL } },
	{ "array, cut", GEMINI_ARRAY, "application/json", "[" GOOGLE_1 "\r\n,\r\n", { true, false, 8, 0, 0, 3, false, false, NULL } },
	{ "chat, an empty error", CHAT, "text/event-stream", "data: {\"error\":{},\"choices\":[]}\n\n" "data: {\"error\":null}\n\n" "data: {\"error\":\"\"}\n\n", { false, false, 0, 0, 0, 0, false, false, NULL } },
	{ "chat fails in a word", CHAT, "text/event-stream", "data: {\"error\":\"overloaded\"}\n\n", { false, false, 0, 0, 0, 0, false, true, NULL } },
	{ "chat, plain, a name twice", CHAT, "application/json", "{\"usage\":{\"prompt_tokens\":3},\"usage\":{}}", { false, false, 0, 0, 0, 0, false, false, "a name stands twice in one object" } },
	{ "chat, plain, no JSON", CHAT, "text/html", "<html>", { false, false, 0, 0, 0, 0, false, false, "expected a value" } },
	{ "chat, plain, behind it more", CHAT, "application/json", "{} {", { false, false, 0, 0, 0, 0, false, false, "something stands behind the value" } },
	{ "messages, the end cannot be read", MESSAGES, "text/event-stream", "data: {\"type\":\"message_stop\",\"type\":1}\n\n", { false, false, 0, 0, 0, 0, false, false, "a name stands twice in one object" } },
	{ "messages, an event cannot be read", MESSAGES, "text/event-stream", "data: {\"type\":1,\"type\":1}\n\n" "data: {\"type\":\"ping\"}\n\n", { false, false, 0, 0, 0, 0, false, false, NULL } },
	{ "messages, half an event", MESSAGES, "text/event-stream", "data: {\"type\":\"message_stop\"\n\n", { false, false, 0, 0, 0, 0, false, false, NULL } },
	{ "gemini, two, one open", GEMINI, "text/event-stream", SSE("{\"candidates\":[" CANDIDATE("0", "") "," CANDIDATE("1", "") TWO) SSE("{\"candidates\":[" CANDIDATE("0", STOP) TWO), { false, false, 0, 0, 0, 3, false, false, NULL } },
	{ "gemini, two, one by one", GEMINI, "text/event-stream", SSE("{\"candidates\":[" CANDIDATE("0", STOP) TWO) SSE("{\"candidates\":[" CANDIDATE("1", "") TWO) SSE("{\"candidates\":[" CANDIDATE("1", STOP) TWO), { false, false, 0, 0, 0, 3, true, false, NULL } },
	{ "gemini, two at once", GEMINI, "text/event-stream", SSE("{\"candidates\":[" CANDIDATE("0", STOP) "," CANDIDATE("1", STOP) TWO), { false, false, 0, 0, 0, 2, true, false, NULL } },
	{ "gemini, two at once, the first open", GEMINI, "text/event-stream", SSE("{\"candidates\":[" CANDIDATE("0", "") "," CANDIDATE("1", STOP) TWO), { false, false, 0, 0, 0, 2, false, false, NULL } },
	{ "gemini, an unreadable event ends nothing", GEMINI, "text/event-stream", SSE("{\"candidates\":[" CANDIDATE("0", STOP) TWO ",") SSE("{\"candidates\":[" CANDIDATE("1", "") TWO), { false, false, 0, 0, 0, 1, false, false, NULL } },
	{ "array, two, one open", GEMINI_ARRAY, "application/json", "[{\"candidates\":[" CANDIDATE("0", "") "," CANDIDATE("1", STOP) TWO, { false, false, 0, 0, 0, 2, false, false, NULL } },
	{ "array, a name twice", GEMINI_ARRAY, "application/json", "[{\"candidates\":[],\"candidates\":1}]", { false, false, 0, 0, 0, 0, false, false, "a name stands twice in one object" } },
	{ "array, behind it more", GEMINI_ARRAY, "application/json", "[" GOOGLE_2 "]]", { true, true, 10, 4, 35, 14, true, false, NULL } },
	{ "any API", ANY, "text/plain", "not JSON at all", { false, false, 0, 0, 0, 0, true, false, NULL } },
};
/* clang-format on */

struct seen {
	struct buf bytes;
};

static void see(void *arg, struct slice bytes)
{
	struct seen *seen = arg;

	assert_true(bytes.len > 0);
	assert_true(buf_append(&seen->bytes, bytes));
}

/* Feeds `stream` cut at `cut` (and, for step > 0, every `step` bytes), and leaves what came out in `seen`. */
static struct meter *run(const struct dialect_call *call, const char *type, struct slice stream, size_t cut,
			 size_t step, bool hide, bool whole, struct seen *seen)
{
	struct meter *m = meter_new(call, 200, slice_of(type), hide);

	buf_init(&seen->bytes, 8 << 20);
	for (size_t at = 0; at < stream.len;) {
		size_t length = step > 0 ? step : at < cut ? cut - at : stream.len - at;
		/* Its own block, so that a sanitizer sees a byte that is read later or too far. */
		length = length < stream.len - at ? length : stream.len - at;
		char *piece = malloc(length);
		memcpy(piece, stream.data + at, length);
		meter_write(m, slice_make(piece, length), see, seen);
		free(piece);
		at += length;
	}
	meter_finish(m, whole, see, seen);
	return m;
}

static void judge(size_t i, size_t cut, size_t step)
{
	struct slice stream = slice_of(cases[i].stream);
	const struct expectation *e = &cases[i].expected;
	struct seen seen;
	struct meter *m = run(&calls[cases[i].call], cases[i].type, stream, cut, step, false, true, &seen);
	struct meter_result r;

	meter_result(m, &r);
	if (r.usage.input_known != e->input_known || r.usage.output_known != e->output_known ||
	    r.usage.input != e->input || r.usage.cached != e->cached || r.usage.output != e->output ||
	    r.output_bytes != e->bytes || r.ended != e->ended || r.error_in_band != e->error ||
	    strcmp(r.unread != NULL ? r.unread : "", e->unread != NULL ? e->unread : "") != 0 ||
	    !slice_equal(buf_slice(&seen.bytes), stream))
		fail_msg("%s, cut at %zu, step %zu: %d %d %lld %lld %lld, %lld bytes, ended %d, error %d, unread %s, "
			 "%zu of "
			 "%zu out",
			 cases[i].what, cut, step, r.usage.input_known, r.usage.output_known, (long long)r.usage.input,
			 (long long)r.usage.cached, (long long)r.usage.output, (long long)r.output_bytes, r.ended,
			 r.error_in_band, r.unread != NULL ? r.unread : "no", seen.bytes.len, stream.len);
	buf_free(&seen.bytes);
	meter_free(&m);
}

static void reads_what_providers_send(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		for (size_t cut = 0; cut <= strlen(cases[i].stream); cut++)
			judge(i, cut, 0);
		judge(i, 0, 1);
		judge(i, 0, 7);
	}
}

/* clang-format off */
static const struct {
	const char *what, *stream, *expected;
} hidden[] = {
	{ "usage chunk", CHAT_BEGIN USAGE_CHUNK DONE, CHAT_BEGIN DONE },
	{ "no usage chunk", CHAT_BEGIN DONE, CHAT_BEGIN DONE },
	{ "only", USAGE_CHUNK, "" },
	{ "first chunk of Azure has no choices", "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" DONE, "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" DONE },
	{ "usage beside choices stays", "data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":1}}\n\n" DONE, "data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":1}}\n\n" DONE },
	/* the LF in front of a dropped block goes with it, the one behind it stays */
	{ "CR LF", "data: {\"a\":1}\r\n\r\ndata: {\"choices\":[],\"usage\":{}}\r\n\r\ndata: [DONE]\r\n\r\n", "data: {\"a\":1}\r\n\r\ndata: [DONE]\r\n\r\n" },
	{ "half an event gives way to the error", CHAT_BEGIN "data: {\"choices\":[", CHAT_BEGIN },
	{ "half a comment behind the end", CHAT_BEGIN DONE ": pi", CHAT_BEGIN DONE ": pi" },
};
/* clang-format on */

static void hides_the_usage_chunk_alone(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(hidden); i++) {
		struct slice stream = slice_of(hidden[i].stream);
		for (size_t cut = 0; cut <= stream.len; cut++) {
			struct seen seen;
			struct meter *m =
				run(&calls[CHAT], "text/event-stream", stream, cut, cut == 0, true, true, &seen);
			if (!slice_equal(buf_slice(&seen.bytes), slice_of(hidden[i].expected)))
				fail_msg("%s, cut at %zu: %.*s", hidden[i].what, cut,
					 SLICE_ARGS(buf_slice(&seen.bytes)));
			buf_free(&seen.bytes);
			meter_free(&m);
		}
	}
}

static void an_array_stays_open_until_it_is_complete(void **state)
{
	/* clang-format off */
	static const struct { const char *stream, *expected; bool whole; } arrays[] = {
		{ "[" GOOGLE_1 "]", "[" GOOGLE_1, true },
		{ "[" GOOGLE_1 "]" BLANKS, "[" GOOGLE_1, true },
		{ "[" GOOGLE_1 "]" BLANKS, "[" GOOGLE_1, false },
		{ "[" GOOGLE_1 "]]", "[" GOOGLE_1, true },
		{ "[" GOOGLE_2 "]\n", "[" GOOGLE_2 "]\n", false },
		{ "[" GOOGLE_2 "]" BLANKS, "[" GOOGLE_2 "]" BLANKS, true },
		{ "[" GOOGLE_2, "[" GOOGLE_2, false },
		{ "[" GOOGLE_2 "]\n", "[" GOOGLE_2 "]\n", true },
		{ "[" GOOGLE_1 "," GOOGLE_ERROR "]", "[" GOOGLE_1 "," GOOGLE_ERROR "]", true },
		{ "[" GOOGLE_2 "]]", "[" GOOGLE_2 "]]", true },
		{ "[]", "[", true },
		{ "{\"a\":1}", "{\"a\":1}", true },
	};
	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(arrays); i++) {
		struct slice stream = slice_of(arrays[i].stream);
		for (size_t cut = 0; cut <= stream.len; cut++) {
			struct seen seen;
			struct meter *m = run(&calls[GEMINI_ARRAY], "application/json", stream, cut, cut == 0, false,
					      arrays[i].whole, &seen);
			if (!slice_equal(buf_slice(&seen.bytes), slice_of(arrays[i].expected)))
				fail_msg("%zu, cut at %zu: %.*s", i, cut, SLICE_ARGS(buf_slice(&seen.bytes)));
			assert_false(meter_between_events(m));
			buf_free(&seen.bytes);
			meter_free(&m);
		}
	}
}

/* With all that was promised handed on, half an answer would look whole. */
static void the_last_byte_of_half_an_answer_is_held_back(void **state)
{
	/* clang-format off */
	static const struct { const char *stream, *expected; int64_t promised; bool whole; } answers[] = {
		{ "{\"a\":1}", "{\"a\":1}", 7, true },
		{ "{\"a\":1}\n\n", "{\"a\":1}\n\n", 9, true },
		{ "{\"a\":1", "{\"a\":", 6, true },
		{ "{\"a\":1", "{\"a\":", 6, false },
		{ "{\"a\":1", "{\"a\":1", 7, false },
		{ "{\"a\":1", "{\"a\":1", -1, true },
		{ "{\"usage\":1,\"usage\":2", "{\"usage\":1,\"usage\":2", 20, true },
		{ "1", "1", 1, true }, /* whole only when no more comes */
		{ "\"", "", 1, true },
	};
	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(answers); i++) {
		struct slice stream = slice_of(answers[i].stream);
		for (size_t cut = 0; cut <= stream.len; cut++) {
			struct seen seen;
			struct meter *m = meter_new(&calls[CHAT], 200, SLICE("application/json"), true);
			assert_int_equal(meter_promise(m, answers[i].promised), answers[i].promised);
			buf_init(&seen.bytes, 100);
			meter_write(m, slice_first(stream, cut), see, &seen);
			meter_write(m, slice_skip(stream, cut), see, &seen);
			meter_finish(m, answers[i].whole, see, &seen);
			if (!slice_equal(buf_slice(&seen.bytes), slice_of(answers[i].expected)))
				fail_msg("%zu, cut at %zu: %.*s", i, cut, SLICE_ARGS(buf_slice(&seen.bytes)));
			buf_free(&seen.bytes);
			meter_free(&m);
		}
	}
}

static void no_stream_has_a_length(void **state)
{
	static const struct {
		enum call_kind call;
		int status;
		const char *type;
		int64_t promised;
	} answers[] = {
		{ CHAT, 200, "text/event-stream", -1 }, { GEMINI_ARRAY, 200, "application/json", -1 },
		{ CHAT, 200, "application/json", 5 },   { CHAT, 429, "text/event-stream", 5 },
		{ ANY, 200, "text/event-stream", 5 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(answers); i++) {
		struct meter *m =
			meter_new(&calls[answers[i].call], answers[i].status, slice_of(answers[i].type), true);
		assert_int_equal(meter_promise(m, 5), answers[i].promised);
		meter_free(&m);
	}
}

/* The transfer breaks behind what looks like the end. */
static void a_marker_ends_a_stream_whatever_ends_the_connection(void **state)
{
	/* clang-format off */
	static const struct { enum call_kind call; const char *stream; int64_t wanted; bool ended; } streams[] = {
		{ CHAT, CHAT_BEGIN DONE, 0, true },
		{ CHAT, CHAT_BEGIN DONE ": ping", 0, true },
		{ CHAT, CHAT_BEGIN, 0, false },
		{ MESSAGES, MESSAGE_STOP, 0, true },
		{ RESPONSES, RESPONSE("completed"), 0, true },
		{ GEMINI, SSE(GOOGLE_2), 1, true },
		{ GEMINI, SSE(GOOGLE_2) "data: {\"candidates\"", 1, false },
		{ GEMINI, SSE(GOOGLE_2), 2, false },
		{ GEMINI, SSE("{\"candidates\":[" CANDIDATE("0", STOP) TWO) SSE("{\"candidates\":[" CANDIDATE("1", STOP) TWO), 2, true },
		{ GEMINI, SSE(BLOCKED), 2, true },
		{ GEMINI_ARRAY, "[" GOOGLE_2 "]", 1, true },
		{ GEMINI_ARRAY, "[" GOOGLE_2, 1, false },
	};
	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(streams); i++) {
		struct dialect_call call = calls[streams[i].call];
		struct seen seen;
		struct meter_result r;
		call.candidates = streams[i].wanted;
		struct meter *m = run(&call, streams[i].call == GEMINI_ARRAY ? "application/json" : "text/event-stream",
				      slice_of(streams[i].stream), 0, 0, false, false, &seen);
		meter_result(m, &r);
		if (r.ended != streams[i].ended || r.unread != NULL)
			fail_msg("%zu: ended %d", i, r.ended);
		buf_free(&seen.bytes);
		meter_free(&m);
	}
}

static void knows_where_an_event_may_follow(void **state)
{
	static const struct {
		const char *stream;
		bool between, between_hidden;
	} places[] = {
		{ "", true, true },
		{ "data: {}\n\n", true, true },
		{ "data: {}\r\n\r\n", true, true },
		{ "data: {}\r\n\r", true, true },
		{ "data: {}\n", false, true },
		{ "data: {}\n\nd", false, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++)
		for (int hide = 0; hide < 2; hide++) {
			struct seen seen;
			struct meter *m = meter_new(&calls[CHAT], 200, SLICE("text/event-stream"), hide);
			buf_init(&seen.bytes, 100);
			meter_write(m, slice_of(places[i].stream), see, &seen);
			assert_int_equal(meter_between_events(m), hide ? places[i].between_hidden : places[i].between);
			buf_free(&seen.bytes);
			meter_free(&m);
		}
}

static void errors_pass_unread(void **state)
{
	struct seen seen;
	struct meter *m = meter_new(&calls[CHAT], 429, SLICE("text/event-stream"), true);
	struct meter_result r;

	(void)state;
	buf_init(&seen.bytes, 1000);
	meter_write(m, SLICE(USAGE_CHUNK), see, &seen);
	assert_true(slice_equal(buf_slice(&seen.bytes), SLICE(USAGE_CHUNK)));
	meter_finish(m, false, see, &seen);
	meter_result(m, &r);
	assert_false(r.ended || r.usage.input_known);
	buf_free(&seen.bytes);
	meter_free(&m);
}

static void an_answer_without_content_is_whole(void **state)
{
	struct seen seen;
	struct meter *m = run(&calls[CHAT], "", SLICE_NONE, 0, 0, false, true, &seen);
	struct meter_result r;

	(void)state;
	meter_result(m, &r);
	assert_false(r.ended || r.unread != NULL); /* a 200 must say something */
	buf_free(&seen.bytes);
	meter_free(&m);
	m = meter_new(&calls[CHAT], 204, SLICE_NONE, false);
	meter_finish(m, true, see, &seen);
	meter_result(m, &r);
	assert_true(r.ended);
	meter_free(&m);
}

static void a_long_event_takes_no_room(void **state)
{
	static char filling[64 << 10];
	struct seen seen;
	struct meter_result r;

	(void)state;
	memset(filling, 'x', sizeof(filling));
	for (int hide = 0; hide < 2; hide++) {
		size_t before = mallinfo2().uordblks;
		struct meter *m = meter_new(&calls[CHAT], 200, SLICE("text/event-stream"), hide);
		buf_init(&seen.bytes, 2 << 20);
		assert_true(buf_reserve(&seen.bytes, 2 << 20));
		size_t room = mallinfo2().uordblks;
		meter_write(m, SLICE("data: {\"choices\":[{\"delta\":{\"content\":\""), see, &seen);
		for (int i = 0; i < 16; i++)
			meter_write(m, slice_make(filling, sizeof(filling)), see, &seen);
		assert_true(seen.bytes.len >= 16 * sizeof(filling));
		assert_true(mallinfo2().uordblks <= room + 4096);
		meter_write(m, SLICE("\"}}]}\n\n" DONE), see, &seen);
		meter_finish(m, true, see, &seen);
		meter_result(m, &r);
		assert_true(r.ended);
		assert_int_equal(r.output_bytes, 16 * sizeof(filling));
		buf_free(&seen.bytes);
		if (mallinfo2().uordblks > 0) /* a sanitizer's allocator tells nothing */
			assert_in_range(mallinfo2().uordblks - before, 1, 8192);
		meter_free(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_providers_send),
		cmocka_unit_test(hides_the_usage_chunk_alone),
		cmocka_unit_test(an_array_stays_open_until_it_is_complete),
		cmocka_unit_test(the_last_byte_of_half_an_answer_is_held_back),
		cmocka_unit_test(no_stream_has_a_length),
		cmocka_unit_test(a_marker_ends_a_stream_whatever_ends_the_connection),
		cmocka_unit_test(knows_where_an_event_may_follow),
		cmocka_unit_test(errors_pass_unread),
		cmocka_unit_test(an_answer_without_content_is_whole),
		cmocka_unit_test(a_long_event_takes_no_room),
	};

	return cmocka_run_group_tests_name("meter", tests, NULL, NULL);
}

/* svc/dialect/meter under any cuts: what comes out, and what it says, depends on the bytes alone. The first byte of an
 * input chooses the call, the second the cuts.
 * - Unless something is to be hidden or held back, what comes out is what went in.
 * - Hidden or held, it is what went in but for whole runs taken out: a subsequence.
 * - Of a promised length, half a plain answer leaves something out.
 * - A stream that ended had its marker. */
#include "lib/buf.h"
#include "svc/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 20 };

static const struct dialect_call calls[] = {
	{ .dialect = DIALECT_openai, .operation = OPERATION_generate },
	{ .dialect = DIALECT_openai, .operation = OPERATION_generate, .responses = true },
	{ .dialect = DIALECT_anthropic, .operation = OPERATION_generate },
	{ .dialect = DIALECT_gemini, .operation = OPERATION_generate, .framing = DIALECT_EVENTS },
	{ .dialect = DIALECT_gemini, .operation = OPERATION_generate, .framing = DIALECT_ARRAY },
	{ .dialect = DIALECT_openai, .operation = OPERATION_embed },
};

struct outcome {
	struct buf bytes;
	struct meter_result result;
	bool whole, held;
};

static void append(void *arg, struct slice bytes)
{
	CHECK(buf_append(arg, bytes));
}

/* step 0: in one piece. */
static void run(const struct dialect_call *call, bool events, bool hide, bool promise, struct slice stream,
		uint32_t step, struct outcome *outcome)
{
	struct slice type = events ? SLICE("text/event-stream") : SLICE("application/json");
	struct meter *m = meter_new(call, 200, type, hide);
	int64_t promised = meter_promise(m, promise ? (int64_t)stream.len : -1);

	buf_init(&outcome->bytes, MOST);
	for (struct slice rest = stream; rest.len > 0;) {
		step = step * 1103515245 + 12345 * (step != 0);
		struct slice piece = slice_first(rest, step == 0 ? rest.len : 1 + (step >> 16) % 23);
		meter_write(m, piece, append, &outcome->bytes);
		rest = slice_skip(rest, piece.len);
	}
	meter_finish(m, true, append, &outcome->bytes);
	meter_result(m, &outcome->result);
	outcome->whole = outcome->result.ended || outcome->result.unread != NULL;
	CHECK(promised < 0 || outcome->whole || stream.len == 0 || outcome->bytes.len < stream.len);
	outcome->held = promised >= 0 && !outcome->whole;
	meter_free(&m);
}

static bool has(struct slice text, struct slice word)
{
	return text.len > 0 && memmem(text.data, text.len, word.data, word.len) != NULL;
}

static bool is_subsequence(struct slice part, struct slice whole)
{
	size_t at = 0;

	for (size_t i = 0; i < whole.len && at < part.len; i++)
		at += part.data[at] == whole.data[i];
	return at == part.len;
}

static void judge_marker(const struct dialect_call *call, bool events, struct slice stream)
{
	/* Escapes may hide the words of a JSON string: those texts are not judged. */
	if (!events || has(stream, SLICE("\\")))
		return;
	if (call->dialect == DIALECT_anthropic)
		CHECK(has(stream, SLICE("message_stop")));
	else if (call->dialect == DIALECT_gemini)
		CHECK(has(stream, SLICE("finishReason")) || has(stream, SLICE("blockReason")));
	else if (call->responses)
		CHECK(has(stream, SLICE("\"response.")));
	else if (call->operation == OPERATION_generate)
		CHECK(has(stream, SLICE("[DONE]")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > MOST)
		return 0;
	const struct dialect_call *call = &calls[(data[0] & 15) % ARRAY_LENGTH(calls)];
	bool events = call->framing != DIALECT_ARRAY && (data[0] & 16) == 0, hide = (data[0] & 32) != 0;
	bool promise = (data[0] & 64) != 0;
	struct slice stream = { (const char *)data + 2, size - 2 };
	struct outcome once, cut;

	run(call, events, hide, promise, stream, 0, &once);
	run(call, events, hide, promise, stream, data[1] + 1U, &cut);
	CHECK(slice_equal(buf_slice(&once.bytes), buf_slice(&cut.bytes)));
	const struct meter_usage *a = &once.result.usage, *b = &cut.result.usage;
	CHECK(a->input == b->input && a->cached == b->cached && a->output == b->output);
	CHECK(a->input_known == b->input_known && a->output_known == b->output_known);
	CHECK(once.result.output_bytes == cut.result.output_bytes && once.result.ended == cut.result.ended);
	CHECK(once.result.error_in_band == cut.result.error_in_band && once.result.unread == cut.result.unread);
	CHECK(once.result.filtered == cut.result.filtered);
	CHECK(is_subsequence(buf_slice(&once.bytes), stream));
	if (!hide && !once.held && call->framing != DIALECT_ARRAY)
		CHECK(slice_equal(buf_slice(&once.bytes), stream));
	if (once.result.ended)
		judge_marker(call, events, stream);
	buf_free(&once.bytes);
	buf_free(&cut.bytes);
	return 0;
}

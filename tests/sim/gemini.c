#include "gemini.h"

#include "lib/buf.h"
#include "wording.h"

static void put_part(const struct ask *ask, int64_t from, int64_t to, struct buf *out)
{
	if (ask->tool.name == NULL) {
		buf_append(out, SLICE("{\"text\": \""));
		wording_text(ask, from, to, out);
		buf_append(out, SLICE("\"}"));
		return;
	}
	buf_append(out, SLICE("{\"functionCall\": {\"name\": \""));
	buf_append(out, slice_of(ask->tool.name));
	buf_append(out, SLICE("\",\"args\": "));
	buf_append(out, slice_of(ask->tool.arguments));
	wording_id(ask, "},\"thoughtSignature\": \"", 3, 60, out);
	buf_append(out, SLICE("\"}"));
}

static struct slice finish_reason(const struct ask *ask)
{
	return ask->behaviour.filter ? SLICE("SAFETY") : ask->cut ? SLICE("MAX_TOKENS") : SLICE("STOP");
}

static void put_candidate(const struct ask *ask, unsigned index, int64_t from, int64_t to, bool finished,
			  struct buf *out)
{
	buf_append(out, SLICE("{\"content\": {\"parts\": ["));
	if (to > from || ask->tool.name != NULL)
		put_part(ask, from, to, out);
	buf_append(out, SLICE("],\"role\": \"model\"}"));
	if (finished) {
		buf_append(out, SLICE(",\"finishReason\": "));
		buf_append_json(out, finish_reason(ask));
	}
	buf_append(out, SLICE(",\"index\": "));
	buf_append_int(out, index);
	buf_append_byte(out, '}');
}

static void put_usage(const struct ask *ask, int64_t tokens, struct buf *out)
{
	int64_t thoughts = ask->output > 0 ? ask->behaviour.thoughts : 0;
	buf_format(out, ",\"usageMetadata\": {\"promptTokenCount\": %lld,", (long long)ask->input);
	if (ask->behaviour.cached > 0)
		buf_format(out, "\"cachedContentTokenCount\": %lld,", (long long)ask->behaviour.cached);
	if (tokens > 0)
		buf_format(out, "\"candidatesTokenCount\": %lld,", (long long)tokens);
	buf_format(out,
		   "\"totalTokenCount\": %lld,\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": %lld}]",
		   (long long)(ask->input + tokens + thoughts), (long long)ask->input);
	if (thoughts > 0)
		buf_format(out, ",\"thoughtsTokenCount\": %lld", (long long)thoughts);
	buf_append_byte(out, '}');
}

static void put_tail(const struct ask *ask, int64_t tokens, struct buf *out)
{
	if (ask->behaviour.usage)
		put_usage(ask, tokens, out);
	buf_append(out, SLICE(",\"modelVersion\": \""));
	buf_append(out, slice_of(ask->model));
	wording_id(ask, "\",\"responseId\": \"", 1, 22, out);
	buf_append(out, SLICE("\"}"));
}

static void whole(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("{\n  \"candidates\": [\n    "));
	for (unsigned i = 0; i < ask->choices; i++) {
		if (i > 0)
			buf_append(out, SLICE(",\n    "));
		put_candidate(ask, i, 0, ask->output, true, out);
	}
	buf_append(out, SLICE("\n  ]"));
	put_tail(ask, ask->output * ask->choices, out);
	buf_append_byte(out, '\n');
}

/* A call comes in one piece; an empty answer still needs the event that says why it ended. */
static size_t text_steps(const struct ask *ask)
{
	size_t steps = wording_steps(ask);
	return ask->tool.name != NULL || steps == 0 ? 1 : steps;
}

static int64_t step_to(const struct ask *ask, size_t step)
{
	return step + 1 == text_steps(ask) ? ask->output : wording_step_from(ask, step + 1);
}

/* Candidates take turns; the last event has the reason and ends the stream. */
static size_t steps(const struct ask *ask)
{
	return text_steps(ask) * ask->choices;
}

static size_t markers(const struct ask *ask)
{
	return ask->choices;
}

static int64_t tokens(const struct ask *ask, size_t step)
{
	size_t k = step / ask->choices;
	return step_to(ask, k) - wording_step_from(ask, k) +
	       (step == 0 && ask->output > 0 ? ask->behaviour.thoughts : 0);
}

static void event(const struct ask *ask, size_t step, struct buf *out)
{
	size_t k = step / ask->choices, index = step % ask->choices, all = steps(ask);
	int64_t from = wording_step_from(ask, k), to = step_to(ask, k);
	int64_t sent = from * (int64_t)ask->choices + (to - from) * (int64_t)(index + 1);
	if (ask->array)
		buf_append(out, step == 0 ? SLICE("[") : SLICE(",\r\n"));
	else
		buf_append(out, SLICE("data: "));
	buf_append(out, SLICE("{\"candidates\": ["));
	put_candidate(ask, (unsigned)index, from, to, k + 1 == text_steps(ask), out);
	buf_append_byte(out, ']');
	put_tail(ask, sent, out);
	if (!ask->array)
		buf_append(out, SLICE("\r\n\r\n"));
	else if (step + 1 == all)
		buf_append_byte(out, ']');
}

/* Also among events it is bare JSON over several lines, without "data:"; Google's own SDKs are made for that. */
static void broken(const struct ask *ask, struct slice message, struct buf *out)
{
	if (ask->array)
		buf_append(out, SLICE(",\r\n"));
	buf_append(out, SLICE("{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \""));
	buf_append(out, message);
	buf_append(out, SLICE("\",\n    \"status\": \"UNAVAILABLE\"\n  }\n}"));
	buf_append(out, ask->array ? SLICE("]") : SLICE("\n"));
}

static void count(const struct ask *ask, struct buf *out)
{
	buf_format(out, "{\n  \"totalTokens\": %lld,\n", (long long)ask->input);
	if (ask->vertex)
		buf_format(out, "  \"totalBillableCharacters\": %lld,\n", (long long)ask->input * 4);
	buf_format(out,
		   "  \"promptTokensDetails\": [\n    {\n      \"modality\": \"TEXT\",\n      \"tokenCount\": %lld\n   "
		   " }\n  ]\n}\n",
		   (long long)ask->input);
}

static void put_vector(const struct ask *ask, unsigned item, struct buf *out)
{
	float values[4096];
	struct ask sized = *ask;
	if (sized.dimensions == 0)
		sized.dimensions = slice_starts(slice_of(ask->model), SLICE("gemini-")) ? 3072 : 768;
	wording_vector(&sized, item, values);
	buf_append(out, SLICE("{\n      \"values\": ["));
	for (unsigned i = 0; i < sized.dimensions; i++)
		buf_format(out, "%s%.8g", i == 0 ? "" : ",", (double)values[i]);
	buf_append(out, SLICE("]\n    }"));
}

static void embed(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("{\n  \"embedding\": "));
	put_vector(ask, 0, out);
	buf_append(out, SLICE("\n}\n"));
}

static void batch_embed(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("{\n  \"embeddings\": [\n    "));
	for (unsigned i = 0; i < ask->items; i++) {
		if (i > 0)
			buf_append(out, SLICE(",\n    "));
		put_vector(ask, i, out);
	}
	buf_append(out, SLICE("\n  ]\n}\n"));
}

#define GOOGLE_JSON "application/json; charset=UTF-8"

const struct writer gemini_generate = {
	whole, steps, markers, tokens, event, broken, GOOGLE_JSON, "text/event-stream"
};
const struct writer gemini_count = { .whole = count, .whole_type = GOOGLE_JSON };
const struct writer gemini_embed = { .whole = embed, .whole_type = GOOGLE_JSON };
const struct writer gemini_batch_embed = { .whole = batch_embed, .whole_type = GOOGLE_JSON };

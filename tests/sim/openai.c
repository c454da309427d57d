#include "openai.h"

#include <openssl/evp.h>

#include "lib/buf.h"
#include "lib/mem.h"
#include "wording.h"

static bool is_chat(const struct ask *ask)
{
	return ask->verb == VERB_CHAT;
}

static struct slice finish_reason(const struct ask *ask)
{
	if (ask->behaviour.filter)
		return SLICE("content_filter");
	return ask->tool.name != NULL ? SLICE("tool_calls") : ask->cut ? SLICE("length") : SLICE("stop");
}

static void put_usage(const struct ask *ask, struct buf *out)
{
	int64_t output = ask_output_in_all(ask);
	buf_format(
		out,
		"{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,\"prompt_tokens_details\":"
		"{\"cached_tokens\":%lld,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":%lld,"
		"\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
		(long long)ask->input, (long long)output, (long long)(ask->input + output),
		(long long)ask->behaviour.cached, (long long)(ask->output > 0 ? ask->behaviour.thoughts : 0));
}

static void put_open(const struct ask *ask, const char *object, struct buf *out)
{
	wording_id(ask, is_chat(ask) ? "{\"id\":\"chatcmpl-" : "{\"id\":\"cmpl-", 1, 29, out);
	buf_append(out, SLICE("\",\"object\":\""));
	buf_append(out, slice_of(object));
	buf_append(out, SLICE("\",\"created\":"));
	buf_append_int(out, ask->created);
	buf_append(out, SLICE(",\"model\":\""));
	buf_append(out, slice_of(ask->model));
	buf_append_byte(out, '"');
}

static void put_call(const struct ask *ask, struct slice arguments, struct buf *out)
{
	wording_id(ask, "{\"id\":\"call_", 2, 24, out);
	buf_append(out, SLICE("\",\"type\":\"function\",\"function\":{\"name\":\""));
	buf_append(out, slice_of(ask->tool.name));
	buf_append(out, SLICE("\",\"arguments\":"));
	buf_append_json(out, arguments);
	buf_append(out, SLICE("}}"));
}

static void put_message(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("\"message\": {\"role\":\"assistant\",\"content\":"));
	if (ask->tool.name != NULL) {
		buf_append(out, SLICE("null,\"tool_calls\":["));
		put_call(ask, slice_of(ask->tool.arguments), out);
		buf_append_byte(out, ']');
	} else {
		buf_append_byte(out, '"');
		wording_text(ask, 0, ask->output, out);
		buf_append_byte(out, '"');
	}
	buf_append(out, SLICE(",\"refusal\":null,\"annotations\":[]}"));
}

static void put_choice(const struct ask *ask, unsigned index, struct buf *out)
{
	buf_append(out, SLICE("    {\n      \"index\": "));
	buf_append_int(out, index);
	buf_append(out, SLICE(",\n      "));
	if (is_chat(ask)) {
		put_message(ask, out);
	} else {
		buf_append(out, SLICE("\"text\": \""));
		wording_text(ask, 0, ask->output, out);
		buf_append_byte(out, '"');
	}
	buf_append(out, SLICE(",\n      \"logprobs\": null,\n      \"finish_reason\": \""));
	buf_append(out, finish_reason(ask));
	buf_append(out, SLICE("\"\n    }"));
}

static void whole(const struct ask *ask, struct buf *out)
{
	put_open(ask, is_chat(ask) ? "chat.completion" : "text_completion", out);
	buf_append(out, SLICE(",\n  \"choices\": [\n"));
	for (unsigned i = 0; i < ask->choices; i++) {
		if (i > 0)
			buf_append(out, SLICE(",\n"));
		put_choice(ask, i, out);
	}
	buf_append(out, SLICE("\n  ]"));
	if (ask->behaviour.usage) {
		buf_append(out, SLICE(",\n  \"usage\": "));
		put_usage(ask, out);
	}
	if (is_chat(ask))
		buf_append(out,
			   SLICE(",\n  \"service_tier\": \"default\",\n  \"system_fingerprint\": \"fp_51a1e50c57\""));
	buf_append(out, SLICE("\n}\n"));
}

/* Of each choice: the opening (chat only), its text, its finish; then usage when asked for, then [DONE]. */
static size_t opening_steps(const struct ask *ask)
{
	return is_chat(ask) ? ask->choices : 0;
}

static size_t text_end(const struct ask *ask)
{
	return opening_steps(ask) + wording_steps(ask) * ask->choices;
}

static size_t markers(const struct ask *ask)
{
	return (size_t)ask->choices + (ask->include_usage ? 1 : 0) + 1;
}

static size_t steps(const struct ask *ask)
{
	return text_end(ask) + markers(ask);
}

static int64_t tokens(const struct ask *ask, size_t step)
{
	if (step < opening_steps(ask) || step >= text_end(ask))
		return 0;
	step -= opening_steps(ask);
	size_t k = step / ask->choices;
	return wording_step_from(ask, k + 1) - wording_step_from(ask, k) + (step == 0 ? ask->behaviour.thoughts : 0);
}

static void put_opening_delta(const struct ask *ask, struct buf *out)
{
	if (ask->tool.name == NULL) {
		buf_append(out, SLICE("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}"));
		return;
	}
	wording_id(ask, "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"call_", 2, 24,
		   out);
	buf_append(out, SLICE("\",\"type\":\"function\",\"function\":{\"name\":\""));
	buf_append(out, slice_of(ask->tool.name));
	buf_append(out, SLICE("\",\"arguments\":\"\"}}],\"refusal\":null}"));
}

static void put_text_delta(const struct ask *ask, size_t k, struct buf *out)
{
	if (ask->tool.name != NULL) {
		buf_append(out, SLICE("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"));
		buf_append_json(out, wording_arguments(ask, k));
		buf_append(out, SLICE("}}]}"));
		return;
	}
	buf_append(out, SLICE("{\"content\":\""));
	wording_text(ask, wording_step_from(ask, k), wording_step_from(ask, k + 1), out);
	buf_append(out, SLICE("\"}"));
}

static void put_delta(const struct ask *ask, size_t step, struct buf *out)
{
	size_t opening = opening_steps(ask), end = text_end(ask);
	size_t k = step < end ? (step - opening) / ask->choices : 0;
	if (!is_chat(ask)) {
		buf_append(out, SLICE("\"text\":\""));
		if (step < end)
			wording_text(ask, wording_step_from(ask, k), wording_step_from(ask, k + 1), out);
		buf_append_byte(out, '"');
		return;
	}
	buf_append(out, SLICE("\"delta\":"));
	if (step < opening)
		put_opening_delta(ask, out);
	else if (step < end)
		put_text_delta(ask, k, out);
	else
		buf_append(out, SLICE("{}"));
}

static void put_chunk(const struct ask *ask, size_t step, struct buf *out)
{
	size_t opening = opening_steps(ask), end = text_end(ask);
	bool finish = step >= end, usage = step >= end + ask->choices;
	size_t index = step < opening ? step : (step < end ? step - opening : step - end) % ask->choices;
	put_open(ask, is_chat(ask) ? "chat.completion.chunk" : "text_completion", out);
	if (is_chat(ask))
		buf_append(out, SLICE(",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_51a1e50c57\""));
	buf_append(out, SLICE(",\"choices\":["));
	if (!usage) {
		buf_append(out, SLICE("{\"index\":"));
		buf_append_int(out, (int64_t)index);
		buf_append_byte(out, ',');
		put_delta(ask, step, out);
		buf_append(out, SLICE(",\"logprobs\":null,\"finish_reason\":"));
		if (finish)
			buf_append_json(out, finish_reason(ask));
		else
			buf_append(out, SLICE("null"));
		buf_append_byte(out, '}');
	}
	buf_append_byte(out, ']');
	if (usage) {
		buf_append(out, SLICE(",\"usage\":"));
		put_usage(ask, out);
	} else if (ask->include_usage) {
		buf_append(out, SLICE(",\"usage\":null"));
	}
	buf_append_byte(out, '}');
}

static void event(const struct ask *ask, size_t step, struct buf *out)
{
	buf_append(out, SLICE("data: "));
	if (step + 1 == steps(ask))
		buf_append(out, SLICE("[DONE]"));
	else
		put_chunk(ask, step, out);
	buf_append(out, SLICE("\n\n"));
}

void openai_broken(const struct ask *ask, struct slice message, struct buf *out)
{
	(void)ask;
	buf_append(out, SLICE("data: {\"error\":{\"message\":\""));
	buf_append(out, message);
	buf_append(out, SLICE("\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"));
}

/* Little-endian floats in base64 (RFC 4648 section 4), which is what the official SDKs ask for. */
static void put_base64(const float *values, unsigned count, struct buf *out)
{
	size_t bytes = count * sizeof(*values), room = 4 * ((bytes + 2) / 3) + 1;
	buf_append_byte(out, '"');
	if (buf_reserve(out, room)) {
		int written = EVP_EncodeBlock((unsigned char *)out->data + out->len, (const unsigned char *)values,
					      (int)bytes);
		out->len += (size_t)written;
	}
	buf_append_byte(out, '"');
}

static void embed(const struct ask *ask, struct buf *out)
{
	struct ask sized = *ask;
	if (sized.dimensions == 0)
		sized.dimensions = slice_starts(slice_of(ask->model), SLICE("text-embedding-3-large")) ? 3072 : 1536;
	float *values = mem_new_array(sized.dimensions, sizeof(*values));
	buf_append(out, SLICE("{\n  \"object\": \"list\",\n  \"data\": [\n"));
	for (unsigned item = 0; item < ask->items; item++) {
		wording_vector(&sized, item, values);
		buf_format(out,
			   "%s    {\n      \"object\": \"embedding\",\n      \"index\": %u,\n      \"embedding\": ",
			   item == 0 ? "" : ",\n", item);
		if (ask->base64) {
			put_base64(values, sized.dimensions, out);
		} else {
			for (unsigned i = 0; i < sized.dimensions; i++)
				buf_format(out, "%c%.8g", i == 0 ? '[' : ',', (double)values[i]);
			buf_append_byte(out, ']');
		}
		buf_append(out, SLICE("\n    }"));
	}
	buf_format(out,
		   "\n  ],\n  \"model\": \"%s\",\n  \"usage\": {\n    \"prompt_tokens\": %lld,\n    \"total_tokens\": "
		   "%lld\n  }\n}\n",
		   ask->model, (long long)ask->input, (long long)ask->input);
	mem_free(values);
}

#define SSE "text/event-stream; charset=utf-8"

const struct writer openai_chat = { whole, steps, markers, tokens, event, openai_broken, "application/json", SSE };
const struct writer openai_completions = {
	whole, steps, markers, tokens, event, openai_broken, "application/json", SSE
};
const struct writer openai_embed = { .whole = embed, .whole_type = "application/json" };

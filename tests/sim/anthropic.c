#include "anthropic.h"

#include "lib/buf.h"
#include "wording.h"

static struct slice stop_reason(const struct ask *ask)
{
	if (ask->behaviour.filter)
		return SLICE("refusal");
	return ask->tool.name != NULL ? SLICE("tool_use") : ask->cut ? SLICE("max_tokens") : SLICE("end_turn");
}

/* Tokens read from the cache are not among input_tokens. */
static int64_t uncached(const struct ask *ask)
{
	return ask->input > ask->behaviour.cached ? ask->input - ask->behaviour.cached : 0;
}

static void put_usage(const struct ask *ask, int64_t output, struct buf *out)
{
	buf_format(
		out,
		"\"usage\":{\"input_tokens\":%lld,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":%lld,"
		"\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},"
		"\"output_tokens\":%lld,\"service_tier\":\"standard\"}",
		(long long)uncached(ask), (long long)(ask->input - uncached(ask)), (long long)output);
}

static void put_open(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("{\"model\":\""));
	buf_append(out, slice_of(ask->model));
	wording_id(ask, "\",\"id\":\"msg_01", 1, 22, out);
	buf_append(out, SLICE("\",\"type\":\"message\",\"role\":\"assistant\",\"content\":["));
}

static void put_tool(const struct ask *ask, struct slice input, struct buf *out)
{
	wording_id(ask, "{\"type\":\"tool_use\",\"id\":\"toolu_01", 2, 22, out);
	buf_append(out, SLICE("\",\"name\":\""));
	buf_append(out, slice_of(ask->tool.name));
	buf_append(out, SLICE("\",\"input\":"));
	buf_append(out, input);
	buf_append_byte(out, '}');
}

static void whole(const struct ask *ask, struct buf *out)
{
	put_open(ask, out);
	if (ask->tool.name != NULL) {
		put_tool(ask, slice_of(ask->tool.arguments), out);
	} else {
		buf_append(out, SLICE("{\"type\":\"text\",\"text\":\""));
		wording_text(ask, 0, ask->output, out);
		buf_append(out, SLICE("\"}"));
	}
	buf_append(out, SLICE("],\"stop_reason\":\""));
	buf_append(out, stop_reason(ask));
	buf_append(out, SLICE("\",\"stop_sequence\":null"));
	if (ask->behaviour.usage) {
		buf_append_byte(out, ',');
		put_usage(ask, ask_output_in_all(ask), out);
	}
	buf_append_byte(out, '}');
}

/* message_start, content_block_start, ping │ deltas │ content_block_stop, message_delta, message_stop */
#define OPENING 3
#define CLOSING 3

static size_t steps(const struct ask *ask)
{
	return OPENING + wording_steps(ask) + CLOSING;
}

static size_t markers(const struct ask *ask)
{
	(void)ask;
	return 2;
}

static int64_t tokens(const struct ask *ask, size_t step)
{
	if (step < OPENING || step >= OPENING + wording_steps(ask))
		return 0;
	step -= OPENING;
	return wording_step_from(ask, step + 1) - wording_step_from(ask, step) +
	       (step == 0 ? ask->behaviour.thoughts : 0);
}

static void message_start(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("event: message_start\ndata: {\"type\":\"message_start\",\"message\":"));
	put_open(ask, out);
	buf_append(out, SLICE("],\"stop_reason\":null,\"stop_sequence\":null"));
	if (ask->behaviour.usage) {
		buf_append_byte(out, ',');
		put_usage(ask, ask->output > 0 ? 1 : 0, out);
	}
	buf_append(out, SLICE("}}\n\n"));
}

static void block_start(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("event: content_block_start\ndata: "
			      "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":"));
	if (ask->tool.name != NULL)
		put_tool(ask, SLICE("{}"), out);
	else
		buf_append(out, SLICE("{\"type\":\"text\",\"text\":\"\"}"));
	buf_append(out, SLICE("}\n\n"));
}

static void block_delta(const struct ask *ask, size_t k, struct buf *out)
{
	buf_append(out,
		   SLICE("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":"));
	if (ask->tool.name != NULL) {
		buf_append(out, SLICE("{\"type\":\"input_json_delta\",\"partial_json\":"));
		buf_append_json(out, wording_arguments(ask, k));
	} else {
		buf_append(out, SLICE("{\"type\":\"text_delta\",\"text\":\""));
		wording_text(ask, wording_step_from(ask, k), wording_step_from(ask, k + 1), out);
		buf_append_byte(out, '"');
	}
	buf_append(out, SLICE("}}\n\n"));
}

static void message_delta(const struct ask *ask, struct buf *out)
{
	buf_append(out, SLICE("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\""));
	buf_append(out, stop_reason(ask));
	buf_append(out, SLICE("\",\"stop_sequence\":null}"));
	if (ask->behaviour.usage)
		buf_format(out,
			   ",\"usage\":{\"input_tokens\":%lld,\"cache_creation_input_tokens\":0,"
			   "\"cache_read_input_tokens\":%lld,\"output_tokens\":%lld}",
			   (long long)uncached(ask), (long long)(ask->input - uncached(ask)),
			   (long long)ask_output_in_all(ask));
	buf_append(out, SLICE("}\n\n"));
}

static void event(const struct ask *ask, size_t step, struct buf *out)
{
	size_t deltas = wording_steps(ask);
	if (step == 0)
		message_start(ask, out);
	else if (step == 1)
		block_start(ask, out);
	else if (step == 2)
		buf_append(out, SLICE("event: ping\ndata: {\"type\": \"ping\"}\n\n"));
	else if (step < OPENING + deltas)
		block_delta(ask, step - OPENING, out);
	else if (step == OPENING + deltas)
		buf_append(out,
			   SLICE("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"));
	else if (step == OPENING + deltas + 1)
		message_delta(ask, out);
	else
		buf_append(out, SLICE("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
}

static void broken(const struct ask *ask, struct slice message, struct buf *out)
{
	(void)ask;
	buf_append(out, SLICE("event: error\ndata: "
			      "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\""));
	buf_append(out, message);
	buf_append(out, SLICE("\"}}\n\n"));
}

static void count(const struct ask *ask, struct buf *out)
{
	buf_format(out, "{\"input_tokens\":%lld}", (long long)ask->input);
}

const struct writer anthropic_messages = {
	whole, steps, markers, tokens, event, broken, "application/json", "text/event-stream; charset=utf-8"
};
const struct writer anthropic_count = { .whole = count, .whole_type = "application/json" };

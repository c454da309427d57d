#include "responses.h"

#include "lib/buf.h"
#include "wording.h"

/* How far the thing written has come. */
enum progress { STARTED, FINISHED };

static const char *incomplete_reason(const struct ask *ask)
{
	return ask->behaviour.filter ? "content_filter" : ask->cut ? "max_output_tokens" : NULL;
}

static const char *status_of(const struct ask *ask, enum progress progress)
{
	return progress == STARTED ? "in_progress" : incomplete_reason(ask) != NULL ? "incomplete" : "completed";
}

static void put_id(const struct ask *ask, const char *prefix, unsigned salt, struct buf *out)
{
	wording_id(ask, prefix, salt, 48, out);
	buf_append_byte(out, '"');
}

static void put_item_id(const struct ask *ask, struct buf *out)
{
	put_id(ask, ask->tool.name != NULL ? "\"fc_" : "\"msg_", 2, out);
}

static void put_content(const struct ask *ask, enum progress progress, struct buf *out)
{
	buf_append(out, SLICE("{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\""));
	if (progress == FINISHED)
		wording_text(ask, 0, ask->output, out);
	buf_append(out, SLICE("\"}"));
}

static void put_item(const struct ask *ask, enum progress progress, struct buf *out)
{
	buf_append(out, SLICE("{\"id\":"));
	put_item_id(ask, out);
	buf_format(out, ",\"type\":\"%s\",\"status\":\"%s\",", ask->tool.name != NULL ? "function_call" : "message",
		   status_of(ask, progress));
	if (ask->tool.name != NULL) {
		buf_append(out, SLICE("\"arguments\":"));
		buf_append_json(out, progress == FINISHED ? slice_of(ask->tool.arguments) : SLICE_NONE);
		wording_id(ask, ",\"call_id\":\"call_", 3, 24, out);
		buf_append(out, SLICE("\",\"name\":\""));
		buf_append(out, slice_of(ask->tool.name));
		buf_append(out, SLICE("\"}"));
		return;
	}
	buf_append(out, SLICE("\"content\":["));
	if (progress == FINISHED)
		put_content(ask, progress, out);
	buf_append(out, SLICE("],\"role\":\"assistant\"}"));
}

static void put_usage(const struct ask *ask, struct buf *out)
{
	int64_t output = ask_output_in_all(ask);
	buf_format(out,
		   "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},\"output_tokens\":%lld,"
		   "\"output_tokens_details\":{\"reasoning_tokens\":%lld},\"total_tokens\":%lld}",
		   (long long)ask->input, (long long)ask->behaviour.cached, (long long)output,
		   (long long)(ask->output > 0 ? ask->behaviour.thoughts : 0), (long long)(ask->input + output));
}

static void put_response(const struct ask *ask, enum progress progress, struct buf *out)
{
	put_id(ask, "{\"id\":\"resp_", 1, out);
	buf_format(
		out,
		",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"background\":false,\"error\":null,",
		(long long)ask->created, status_of(ask, progress));
	if (progress == FINISHED && incomplete_reason(ask) != NULL)
		buf_format(out, "\"incomplete_details\":{\"reason\":\"%s\"},", incomplete_reason(ask));
	else
		buf_append(out, SLICE("\"incomplete_details\":null,"));
	buf_format(out, "\"instructions\":null,\"max_output_tokens\":null,\"model\":\"%s\",\"output\":[", ask->model);
	if (progress == FINISHED)
		put_item(ask, progress, out);
	buf_append(
		out,
		SLICE("],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"reasoning\":{\"effort\":null,"
		      "\"summary\":null},\"store\":true,\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},"
		      "\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,\"truncation\":\"disabled\",\"usage\":"));
	if (progress == FINISHED && ask->behaviour.usage)
		put_usage(ask, out);
	else
		buf_append(out, SLICE("null"));
	buf_append(out, SLICE(",\"user\":null,\"metadata\":{}}"));
}

static void whole(const struct ask *ask, struct buf *out)
{
	put_response(ask, FINISHED, out);
	buf_append_byte(out, '\n');
}

/* created, in_progress, item added, part added │ deltas │ text done, part done, item done, completed;
 * a function call has no parts. */
static size_t opening(const struct ask *ask)
{
	return ask->tool.name != NULL ? 3 : 4;
}

static size_t steps(const struct ask *ask)
{
	return opening(ask) + wording_steps(ask) + opening(ask);
}

static size_t markers(const struct ask *ask)
{
	(void)ask;
	return 1;
}

static int64_t tokens(const struct ask *ask, size_t step)
{
	if (step < opening(ask) || step >= opening(ask) + wording_steps(ask))
		return 0;
	step -= opening(ask);
	return wording_step_from(ask, step + 1) - wording_step_from(ask, step) +
	       (step == 0 ? ask->behaviour.thoughts : 0);
}

static void begin(const char *type, size_t step, struct buf *out)
{
	buf_format(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%zu,", type, type, step);
}

static void about_response(const struct ask *ask, const char *type, enum progress progress, size_t step,
			   struct buf *out)
{
	begin(type, step, out);
	buf_append(out, SLICE("\"response\":"));
	put_response(ask, progress, out);
}

static void about_item(const struct ask *ask, const char *type, enum progress progress, size_t step, struct buf *out)
{
	begin(type, step, out);
	buf_append(out, SLICE("\"output_index\":0,\"item\":"));
	put_item(ask, progress, out);
}

/* The events that name the item and, for text, the part. */
static void begin_inside(const struct ask *ask, const char *type, size_t step, struct buf *out)
{
	begin(type, step, out);
	buf_append(out, SLICE("\"item_id\":"));
	put_item_id(ask, out);
	buf_append(out, ask->tool.name != NULL ? SLICE(",\"output_index\":0,")
					       : SLICE(",\"output_index\":0,\"content_index\":0,"));
}

static void about_part(const struct ask *ask, const char *type, enum progress progress, size_t step, struct buf *out)
{
	begin_inside(ask, type, step, out);
	buf_append(out, SLICE("\"part\":"));
	put_content(ask, progress, out);
}

static void delta(const struct ask *ask, size_t k, size_t step, struct buf *out)
{
	if (ask->tool.name != NULL) {
		begin_inside(ask, "response.function_call_arguments.delta", step, out);
		buf_append(out, SLICE("\"delta\":"));
		buf_append_json(out, wording_arguments(ask, k));
		return;
	}
	begin_inside(ask, "response.output_text.delta", step, out);
	buf_append(out, SLICE("\"delta\":\""));
	wording_text(ask, wording_step_from(ask, k), wording_step_from(ask, k + 1), out);
	buf_append(out, SLICE("\",\"logprobs\":[]"));
}

static void content_done(const struct ask *ask, size_t step, struct buf *out)
{
	if (ask->tool.name != NULL) {
		begin_inside(ask, "response.function_call_arguments.done", step, out);
		buf_append(out, SLICE("\"arguments\":"));
		buf_append_json(out, slice_of(ask->tool.arguments));
		return;
	}
	begin_inside(ask, "response.output_text.done", step, out);
	buf_append(out, SLICE("\"text\":\""));
	wording_text(ask, 0, ask->output, out);
	buf_append(out, SLICE("\",\"logprobs\":[]"));
}

static void event(const struct ask *ask, size_t step, struct buf *out)
{
	size_t deltas_end = opening(ask) + wording_steps(ask), last = steps(ask) - 1;
	if (step == 0)
		about_response(ask, "response.created", STARTED, step, out);
	else if (step == 1)
		about_response(ask, "response.in_progress", STARTED, step, out);
	else if (step == 2)
		about_item(ask, "response.output_item.added", STARTED, step, out);
	else if (step < opening(ask))
		about_part(ask, "response.content_part.added", STARTED, step, out);
	else if (step < deltas_end)
		delta(ask, step - opening(ask), step, out);
	else if (step == last)
		about_response(ask, incomplete_reason(ask) != NULL ? "response.incomplete" : "response.completed",
			       FINISHED, step, out);
	else if (step + 1 == last)
		about_item(ask, "response.output_item.done", FINISHED, step, out);
	else if (step == deltas_end)
		content_done(ask, step, out);
	else
		about_part(ask, "response.content_part.done", FINISHED, step, out);
	buf_append(out, SLICE("}\n\n"));
}

static void broken(const struct ask *ask, struct slice message, struct buf *out)
{
	(void)ask;
	buf_append(out, SLICE("event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\""));
	buf_append(out, message);
	buf_append(out, SLICE("\",\"param\":null,\"sequence_number\":0}\n\n"));
}

const struct writer openai_responses = {
	whole, steps, markers, tokens, event, broken, "application/json", "text/event-stream; charset=utf-8"
};

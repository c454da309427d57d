/* The estimate of a worker asked before, and taught after. */
#include "svc/charge.h"

#include "lib/estimate.h"

_Static_assert((int)DIALECT_MODEL_MOST <= (int)ESTIMATE_NAME_MOST && (int)DIALECT_MODEL_MOST <= (int)LIMITER_NAME_MOST,
	       "a name that came in is remembered");

/* OpenAI's streams tell their usage when they are asked to: we ask where a limit needs it. */
static bool must_ask_usage(const struct request *r, bool limited)
{
	return limited && r->route.upstream->usage == CONFIG_USAGE_ASK && r->call.dialect == DIALECT_openai &&
	       r->call.framing == DIALECT_EVENTS && !r->call.responses && !r->call.usage_asked;
}

static struct estimate_call estimated_call(const struct request *r)
{
	return (struct estimate_call){ .tenant = request_tenant(r),
				       .model = r->route.model,
				       .text_bytes = r->call.text_bytes,
				       .media_bytes = r->call.media_bytes };
}

enum refusal charge_reserve(struct request *r)
{
	const struct estimate_call call = estimated_call(r);
	struct estimate_tokens tokens = { 0, 0 };
	int64_t burst;
	bool fits, limited = request_token_burst(r, &burst);

	r->asks_usage = must_ask_usage(r, limited);
	if (r->call.operation == OPERATION_count_tokens || r->call.operation == OPERATION_pass)
		return REFUSAL_none;
	fits = estimate_tokens(r->worker->estimate, &call,
			       r->call.operation == OPERATION_embed ? 0 : r->call.max_output, burst, &tokens);
	r->reserved.input = tokens.input;
	r->reserved.output = tokens.output;
	if (fits)
		return REFUSAL_none;
	buf_format(&r->detail, "It is at least %lld tokens; this one holds %lld.", (long long)tokens.input,
		   (long long)burst);
	return REFUSAL_exceeds_limit;
}

int64_t charge_used(const struct request *r)
{
	const struct meter_usage *usage = &r->metered.usage;
	int64_t input, output = usage->output;

	if (request_never_sent(r) || r->call.operation == OPERATION_count_tokens || r->call.operation == OPERATION_pass)
		return 0;
	if (r->attempt.has_error)
		return 0;
	if (r->meter == NULL)
		return r->has_result ? 0 : r->reserved.input;
	if (r->status >= 300)
		return 0;
	input = usage->input > 0 || usage->input_known ? usage->input : r->reserved.input;
	if (!usage->output_known) {
		int64_t said = estimate_said(r->worker->estimate, r->route.model, r->metered.output_bytes);
		if (r->metered.unread != NULL && said < r->reserved.output)
			said = r->reserved.output;
		output = said > output ? said : output;
	}
	return input + output;
}

void charge_learn(const struct request *r)
{
	const struct meter_usage *usage = &r->metered.usage;
	const struct estimate_call call = estimated_call(r);
	const struct estimate_tokens used = { usage->input, usage->output };

	if (!r->metered.ended || r->status >= 300 || r->call.operation == OPERATION_count_tokens)
		return;
	estimate_learn(r->worker->estimate, &call, &used);
	if (usage->output_known)
		estimate_learn_said(r->worker->estimate, r->route.model, r->metered.output_bytes, usage->output);
}

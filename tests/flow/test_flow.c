/* Torture of the flow: every scenario once in peace, then once per step and fault, with that fault at that step. The world checks after each run that the
 * request ended once, gave back all it held, and that a cut answer did not look whole; here is checked what it was called and what it cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/flow/world/world.h"

#define CHAT_USAGE "{\"prompt_tokens\":9,\"completion_tokens\":12,\"total_tokens\":21}"
#define USAGE_EVENT                                                                                                    \
	"data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":" CHAT_USAGE "}\n\n"

static const struct world_scenario scenarios[] = {
	{ .name = "openai, plain",
	  .target = "/v1/chat/completions",
	  .body = "{\"model\":\"known\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
	  .status = 200,
	  .type = "application/json",
	  .pieces = { "{\"choices\":[{\"message\":{\"content\":\"Hi there", " all\"}}],", "\"usage\":" CHAT_USAGE "}" },
	  .promised = true,
	  .tokens = 21 },
	{ .name = "openai, stream",
	  .target = "/v1/chat/completions",
	  .body = "{\"model\":\"known\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
	  .status = 200,
	  .type = "text/event-stream",
	  .pieces = { "data: "
		      "{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{"
		      "\"content\":\"Hi\"}}]}\n",
		      "\n", USAGE_EVENT, "data: [DONE]\n\n" },
	  .without = USAGE_EVENT,
	  .marked = true,
	  .tokens = 21 },
	{ .name = "openai, stream, slow client",
	  .target = "/v1/chat/completions",
	  .body = "{\"model\":\"other\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":[]}",
	  .status = 200,
	  .type = "text/event-stream",
	  .pieces = { "data: "
		      "{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{"
		      "\"content\":\"Hi\"}}]}\n\n",
		      USAGE_EVENT, "data: [DONE]\n\n" },
	  .slow = true,
	  .marked = true,
	  .tokens = 21 },
	{ .name = "anthropic, stream",
	  .target = "/v1/messages",
	  .body = "{\"model\":\"claude\",\"max_tokens\":50,\"stream\":true,\"messages\":[{\"role\":\"user\","
		  "\"content\":\"Hello\"}]}",
	  .status = 200,
	  .type = "text/event-stream",
	  .pieces = { "event: message_start\ndata: "
		      "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}"
		      "\n\n",
		      "event: content_block_delta\ndata: "
		      "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
		      "\"Hi\"}}\n\n",
		      "event: message_delta\ndata: "
		      "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_"
		      "tokens\":5}}\n\n",
		      "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n" },
	  .marked = true,
	  .tokens = 12 },
	{ .name = "gemini, array",
	  .target = "/v1beta/models/gemini-x:streamGenerateContent",
	  .body = "{\"contents\":[{\"parts\":[{\"text\":\"Hello\"}]}]}",
	  .status = 200,
	  .type = "application/json",
	  .pieces = { "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}]},\n",
		      "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"!\"}]},\"finishReason\":\"STOP\"}],"
		      "\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":3}}",
		      "]" },
	  .marked = true,
	  .tokens = 7 },
	{ .name = "gemini, refused by the provider",
	  .target = "/v1beta/models/gemini-x:generateContent",
	  .body = "{\"contents\":[{\"parts\":[{\"text\":\"Hello\"}]}]}",
	  .status = 429,
	  .type = "application/json",
	  .pieces = { "{\"error\":{\"code\":429,\"message\":\"no\",\"status\":\"RESOURCE_EXHAUSTED\"}}" },
	  .promised = true,
	  .tokens = 0 },
	{ .name = "http, GET",
	  .target = "/plain/some/thing?q=1",
	  .method = "GET",
	  .status = 200,
	  .type = "text/plain",
	  .pieces = { "anything", " at all" },
	  .tokens = 0 },
	{ .name = "the list of models", .target = "/v1/models", .method = "GET", .status = 200, .tokens = 0 },
};

static void test_in_peace(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(scenarios); i++) {
		struct world_outcome o;
		world_run(&scenarios[i], WORLD_none, -1, &o);
		print_message("%s: %d steps, %s %d, %lld tokens\n", scenarios[i].name, o.steps, o.outcome, o.status,
			      (long long)o.tokens);
		assert_string_equal(o.outcome, scenarios[i].status < 400 ? "ok" : "upstream_error");
		assert_int_equal(o.status, scenarios[i].status);
		assert_int_equal(o.tokens, scenarios[i].tokens);
		assert_false(o.never_sent);
	}
}

/* What a request that met this fault must be called; NULL: it depends on where. */
static const char *outcome_of(enum world_fault fault)
{
	switch (fault) {
	case WORLD_client_gone:
	case WORLD_client_stalled:
		return "client_gone";
	case WORLD_drain:
		return "draining";
	case WORLD_deadline:
		return "deadline";
	case WORLD_lease_lost:
	case WORLD_unavailable:
		return "quota_unavailable";
	case WORLD_body_fault:
		return "invalid_request";
	case WORLD_denied:
		return "rate_limited";
	case WORLD_never:
		return "exceeds_limit";
	case WORLD_no_slot:
		return "upstream_busy";
	case WORLD_connect_failed:
	case WORLD_tls_failed:
		return "upstream_unreachable";
	case WORLD_reset_unsent:
	case WORLD_reset:
	case WORLD_truncated:
		return "upstream_broken";
	case WORLD_garbage:
	case WORLD_bad_head:
		return "upstream_invalid";
	case WORLD_first_byte_timeout:
	case WORLD_idle_timeout:
	case WORLD_total_timeout:
		return "upstream_timeout";
	case WORLD_none:
	case WORLD_FAULT_COUNT:
		break;
	}
	return NULL;
}

/* Faults that say that the upstream never saw the attempt. */
static bool spares_all(enum world_fault fault)
{
	return fault == WORLD_body_fault || fault == WORLD_denied || fault == WORLD_never ||
	       fault == WORLD_unavailable || fault == WORLD_no_slot || fault == WORLD_connect_failed ||
	       fault == WORLD_tls_failed || fault == WORLD_reset_unsent;
}

/* What comes behind the last piece of a stream that has said its end changes nothing, unless nobody is there. */
static const char *expected_outcome(const struct world_scenario *s, enum world_fault fault,
				    const struct world_outcome *o)
{
	int pieces = 0;

	while (s->pieces[pieces] != NULL)
		pieces++;
	if (s->marked && o->pieces == pieces && fault != WORLD_client_gone && fault != WORLD_client_stalled)
		return "ok";
	return outcome_of(fault);
}

static void torture(const struct world_scenario *s, enum world_fault fault, int *came)
{
	struct world_outcome peace, o;

	world_run(s, WORLD_none, -1, &peace);
	for (int at = 0; at < peace.steps; at++) {
		world_run(s, fault, at, &o);
		if (!o.fault_came)
			continue;
		(*came)++;
		if (strcmp(o.outcome, expected_outcome(s, fault, &o)) != 0)
			fail_msg("%s, %s at step %d: outcome %s", s->name, world_fault_name(fault), at, o.outcome);
		if (spares_all(fault) && (o.tokens != 0 || (o.leased && !o.never_sent)))
			fail_msg("%s, %s at step %d: charged %lld", s->name, world_fault_name(fault), at,
				 (long long)o.tokens);
		if (s->tokens == 0 && o.tokens != 0 && s->status < 300)
			fail_msg("%s, %s at step %d: charged %lld", s->name, world_fault_name(fault), at,
				 (long long)o.tokens);
	}
}

static void test_each_step_with_each_fault(void **state)
{
	(void)state;
	for (enum world_fault fault = WORLD_client_gone; fault < WORLD_FAULT_COUNT; fault++) {
		int came = 0;
		for (size_t i = 0; i < ARRAY_LENGTH(scenarios); i++)
			torture(&scenarios[i], fault, &came);
		print_message("%s: at %d steps\n", world_fault_name(fault), came);
		assert_true(came > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_peace),
		cmocka_unit_test(test_each_step_with_each_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

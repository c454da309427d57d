/* Torture of the flow where nothing is shared: every scenario once in peace, then once per step and fault, with that fault at that step. The world checks after each run that the
 * request ended once, gave back all it held, and that a cut answer did not look whole; here is checked what it was called and what it cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/flow/world/torture.h"

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
	{ .name = "openai, waits twice",
	  .target = "/v1/chat/completions",
	  .body = "{\"model\":\"known\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
	  .status = 200,
	  .type = "application/json",
	  .pieces = { "{\"choices\":[{\"message\":{\"content\":\"Hi\"}}],\"usage\":" CHAT_USAGE "}" },
	  .promised = true,
	  .denied_by = LIMITER_UPSTREAM,
	  .waits = 2,
	  .tokens = 21 },
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
		world_run(&scenarios[i], WORLD_none, 0, &o);
		print_message("%s: %d steps, %s %d, %lld tokens\n", scenarios[i].name, o.steps, o.outcome, o.status,
			      (long long)o.tokens);
		assert_string_equal(o.outcome, scenarios[i].status < 400 ? "ok" : "upstream_error");
		assert_int_equal(o.status, scenarios[i].status);
		assert_int_equal(o.tokens, scenarios[i].tokens);
		assert_false(o.never_sent);
	}
}

static void judge(const void *scenario, enum world_fault fault, const struct world_outcome *o)
{
	const struct world_scenario *s = scenario;
	const char *outcome = torture_is_told(s, fault, o) ? "ok" : torture_outcome(fault);

	if (fault == WORLD_none)
		return;
	if (s->status == 429 && o->status == 429 &&
	    (fault == WORLD_truncated || fault == WORLD_idle_timeout || fault == WORLD_total_timeout))
		outcome = "upstream_limited"; /* the head has said it, and half of its body is nothing to pass on */
	if (strcmp(o->outcome, outcome) != 0)
		fail_msg("%s, %s at step %d: outcome %s", s->name, world_fault_name(fault), o->fault_step, o->outcome);
	if (torture_spares_all(fault) && (o->tokens != 0 || (o->leased && !o->never_sent)))
		fail_msg("%s, %s at step %d: charged %lld", s->name, world_fault_name(fault), o->fault_step,
			 (long long)o->tokens);
	if (s->tokens == 0 && o->tokens != 0 && s->status < 300)
		fail_msg("%s, %s at step %d: charged %lld", s->name, world_fault_name(fault), o->fault_step,
			 (long long)o->tokens);
}

static void test_each_step_with_each_fault(void **state)
{
	static const enum world_fault nobody_shares[] = { WORLD_lookup_unavailable, WORLD_flight_lost, WORLD_no_ticket,
							  WORLD_none };
	int came[WORLD_FAULT_COUNT] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(scenarios); i++)
		torture(&scenarios[i], judge, &scenarios[i], came);
	torture_report(came, nobody_shares);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_peace),
		cmocka_unit_test(test_each_step_with_each_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

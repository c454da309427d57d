/* Torture of the flow where a call fails and is made again: elsewhere, after a while, of another model; or not. Model "many" has two endpoints that share an
 * account, which the first call pays for one more, and a fallback "spare" at another upstream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/flow/world/torture.h"

#define BUSY "{\"error\":{\"message\":\"The server is overloaded.\",\"type\":\"server_error\"}}"
#define LIMITED                                                                                                        \
	"{\"error\":{\"message\":\"Rate limit reached.\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}"
#define EMPTY  "{\"error\":{\"message\":\"You exceeded your current quota.\",\"code\":\"insufficient_quota\"}}"
#define USAGE  "{\"prompt_tokens\":9,\"completion_tokens\":12,\"total_tokens\":21}"
#define ASKED  "{\"model\":\"many\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"
#define SHARED "{\"model\":\"many\",\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"

/* What comes of it in peace. */
struct again {
	struct world_scenario scenario;
	const char *outcome, *model;
	int status, calls, failures, pauses, tickets;
};

#define PLAIN                                                                                                          \
	.target = "/v1/chat/completions", .status = 200, .type = "application/json",                                   \
	.pieces = { "{\"choices\":[{\"message\":{\"content\":\"Hi there", " all\"}}],", "\"usage\":" USAGE "}" },      \
	.promised = true, .tokens = 21, .again = true
#define STREAM                                                                                                         \
	.target = "/v1/chat/completions", .status = 200, .type = "text/event-stream",                                  \
	.pieces = { "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n",                          \
		    "data: {\"choices\":[],\"usage\":" USAGE "}\n\n", "data: [DONE]\n\n" },                            \
	.marked = true, .tokens = 21, .again = true

static const struct again plays[] = {
	{ { PLAIN, .name = "one failure", .body = ASKED, .fails = 1, .fail_status = 529, .fail_body = BUSY },
	  "ok",
	  "many",
	  200,
	  2,
	  1,
	  0,
	  0 },
	{ { STREAM, .name = "one failure, a stream",
	    .body = "{\"model\":\"many\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":[]}",
	    .fails = 1, .fail_status = 529, .fail_body = BUSY },
	  "ok",
	  "many",
	  200,
	  2,
	  1,
	  0,
	  0 },
	{ { PLAIN, .name = "one failure, shared", .body = SHARED, .words = { WORD_lead }, .fails = 1,
	    .fail_status = 529, .fail_body = BUSY },
	  "ok",
	  "many",
	  200,
	  2,
	  1,
	  0,
	  0 },
	{ { PLAIN, .name = "one failure, others read along", .body = SHARED, .words = { WORD_lead }, .others = true,
	    .leaves = WORLD_client_gone, .leaves_at = 5, .fails = 1, .fail_status = 529, .fail_body = BUSY },
	  "client_gone",
	  "many",
	  499,
	  2,
	  1,
	  0,
	  0 },
	{ { PLAIN, .name = "one failure, something stale", .body = SHARED, .words = { WORD_stale_behind, WORD_stale },
	    .stored = "{\"choices\":[{\"message\":{\"content\":\"as before\"}}]}", .fails = 2, .fail_status = 529,
	    .fail_body = BUSY },
	  "ok",
	  "many",
	  200,
	  2,
	  2,
	  0,
	  0 },
	{ { PLAIN, .name = "too many failures: another model", .body = ASKED, .fails = 2, .fail_status = 529,
	    .fail_body = BUSY },
	  "ok",
	  "spare",
	  200,
	  3,
	  2,
	  0,
	  0 },
	{ { PLAIN, .name = "another model, shared", .body = SHARED, .words = { WORD_lead }, .fails = 2,
	    .fail_status = 529, .fail_body = BUSY },
	  "ok",
	  "spare",
	  200,
	  3,
	  2,
	  0,
	  0 },
	{ { PLAIN, .name = "nothing is well", .body = ASKED, .fails = 3, .fail_status = 529, .fail_body = BUSY },
	  "upstream_error",
	  "spare",
	  529,
	  3,
	  3,
	  0,
	  0 },
	{ { PLAIN, .name = "limited, elsewhere", .body = ASKED, .fails = 1, .fail_status = 429, .fail_body = LIMITED,
	    .retry_after = "2" },
	  "ok",
	  "many",
	  200,
	  2,
	  0,
	  2,
	  0 },
	{ { PLAIN, .name = "no credit, elsewhere", .body = ASKED, .fails = 1, .fail_status = 429, .fail_body = EMPTY },
	  "ok",
	  "many",
	  200,
	  2,
	  0,
	  1,
	  0 },
	{ { PLAIN, .name = "refused for what it is", .body = ASKED, .fails = 1, .fail_status = 400, .fail_body = BUSY },
	  "upstream_error",
	  "many",
	  400,
	  1,
	  0,
	  0,
	  0 },
	{ { PLAIN, .name = "an error that is none of those", .body = ASKED, .fails = 1, .fail_status = 501,
	    .fail_body = BUSY },
	  "upstream_error",
	  "many",
	  501,
	  1,
	  1,
	  0,
	  0 },
	{ { PLAIN, .name = "half open", .body = ASKED, .gate = BREAKER_ASK }, "ok", "many", 200, 1, 0, 0, 1 },
	{ { PLAIN, .name = "half open, and fails", .body = ASKED, .gate = BREAKER_ASK, .fails = 1, .fail_status = 529,
	    .fail_body = BUSY },
	  "ok",
	  "many",
	  200,
	  2,
	  1,
	  0,
	  1 },
	{ { PLAIN, .name = "open", .body = ASKED, .gate = BREAKER_STOP }, "ok", "many", 200, 1, 0, 0, 0 },
	/* Where the second one's quota refuses, the first is asked again, not before its time. */
	{ { PLAIN, .name = "one failure, another upstream",
	    .body = "{\"model\":\"pair\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}", .fails = 1,
	    .fail_status = 429, .fail_body = LIMITED },
	  "ok",
	  "pair",
	  200,
	  2,
	  0,
	  0,
	  0 },
};

static void test_in_peace(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(plays); i++) {
		const struct again *p = &plays[i];
		struct world_outcome o;
		world_run(&p->scenario, WORLD_none, 0, &o);
		print_message("%s: %d steps, %s %d of %s, %d calls, %d failed, %d pauses, %d tickets, %lld tokens\n",
			      p->scenario.name, o.steps, o.outcome, o.status, o.model, o.calls, o.failures, o.pauses,
			      o.tickets, (long long)o.tokens);
		assert_string_equal(o.outcome, p->outcome);
		assert_string_equal(o.model, p->model);
		assert_int_equal(o.status, p->status);
		assert_int_equal(o.calls, p->calls);
		assert_int_equal(o.leases, p->calls);
		assert_int_equal(o.failures, p->failures);
		assert_int_equal(o.pauses, p->pauses);
		assert_int_equal(o.tickets, p->tickets);
		assert_int_equal(o.counted, 1); /* the tenant pays once */
	}
}

/* An answer of the model that was not asked for is shared with who waits for it, and not kept. */
static void test_another_models_answer_is_not_kept(void **state)
{
	struct world_outcome o;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(plays); i++) {
		if (plays[i].scenario.words[0] != WORD_lead || plays[i].scenario.leaves != WORLD_none)
			continue;
		world_run(&plays[i].scenario, WORLD_none, 0, &o);
		assert_int_equal(o.flight, strcmp(o.model, "spare") == 0 ? WORLD_FLIGHT_DONE : WORLD_FLIGHT_STORED);
	}
}

/* Which fault came may be made good by another call; what must hold of each run the world checks. */
static void judge(const void *arg, enum world_fault fault, const struct world_outcome *o)
{
	const struct again *p = arg;
	const char *outcome = torture_outcome(fault);

	if (fault == WORLD_none || strcmp(o->outcome, p->outcome) == 0)
		return;
	if (torture_is_upstreams(fault) && (strcmp(o->outcome, "upstream_error") == 0 || strcmp(o->outcome, "ok") == 0))
		return;
	if ((((fault == WORLD_denied || fault == WORLD_never) && p->scenario.denied_by == LIMITER_UPSTREAM) ||
	     fault == WORLD_full || fault == WORLD_late) &&
	    strcmp(o->outcome, "upstream_error") == 0)
		return; /* what the upstream itself has said before */
	if (o->left && strcmp(o->outcome, "client_gone") == 0)
		return;
	if (outcome == NULL || strcmp(o->outcome, outcome) != 0)
		fail_msg("%s, %s at step %d: outcome %s", p->scenario.name, world_fault_name(fault), o->fault_step,
			 o->outcome);
}

static void test_each_step_with_each_fault(void **state)
{
	static const enum world_fault nobody_follows[] = { WORLD_flight_lost, WORLD_none };
	int came[WORLD_FAULT_COUNT] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(plays); i++) {
		struct again play = plays[i];
		play.scenario.waits = (int)(i % 2); /* half of them stand in a line first */
		torture(&play.scenario, judge, &play, came);
		play.scenario.denied_by = LIMITER_UPSTREAM;
		torture(&play.scenario, judge, &play, came);
	}
	torture_report(came, nobody_follows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_peace),
		cmocka_unit_test(test_another_models_answer_is_not_kept),
		cmocka_unit_test(test_each_step_with_each_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* svc/dialect/anthropic: the Messages API, and the model lists in its shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/mem.h"
#include "svc/dialect.h"
#include "tests/support/dialect_rig.h"

#define MEANT(path) " Did you mean " path "? The base URL is this gateway's address alone."

/* clang-format off */
static const struct {
	struct dialect_rig_request request;
	const char *expected;
} cases[] = {
	{ { "POST /v1/messages?beta=true", "{\"model\":\"c\",\"max_tokens\":9,\"stream\":true}", 'a', "application/json" }, "anthropic generate c events max 9 -> /v1/messages?beta=true {\"model\":\"new\",\"max_tokens\":9,\"stream\":true}" },
	{ { "POST /v1/messages", "{\"max_tokens\":9,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5},\"model\":\"c\"}", 0, "" }, "anthropic generate c max 9 -> /v1/messages {\"max_tokens\":9,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5},\"model\":\"new\"}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"messages\":[{\"content\":[{\"source\":{\"data\":\"AA\"}},{\"content\":[{\"source\":{\"data\":\"B\"}}]}]}]}", 0, "" },
	  "anthropic generate c max -1 media 7 -> /v1/messages {\"model\":\"new\",\"messages\":[{\"content\":[{\"source\":{\"data\":\"AA\"}},{\"content\":[{\"source\":{\"data\":\"B\"}}]}]}]}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"messages\":[{\"content\":[{\"source\":{\"url\":\"https://x\"}}]}]}", 0, "" }, "anthropic generate c max -1 media by name -> /v1/messages {\"model\":\"new\",\"messages\":[{\"content\":[{\"source\":{\"url\":\"https://x\"}}]}]}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"messages\":[{\"content\":[{\"content\":[{\"source\":{\"file_id\":\"f\"}}]}]}]}", 0, "" }, "anthropic generate c max -1 media by name -> /v1/messages {\"model\":\"new\",\"messages\":[{\"content\":[{\"content\":[{\"source\":{\"file_id\":\"f\"}}]}]}]}" },
	{ { "POST /v1/messages/count_tokens", "{\"model\":\"c\"}", 'a', "" }, "anthropic count_tokens c deterministic -> /v1/messages/count_tokens {\"model\":\"new\"}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"temperature\":0.0}", 'a', "" }, "anthropic generate c max -1 deterministic -> /v1/messages {\"model\":\"new\",\"temperature\":0.0}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"temperature\":0.2}", 'a', "" }, "anthropic generate c max -1 -> /v1/messages {\"model\":\"new\",\"temperature\":0.2}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"temperature\":null}", 'a', "" }, "anthropic generate c max -1 -> /v1/messages {\"model\":\"new\",\"temperature\":null}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"metadata\":{\"temperature\":0}}", 'a', "" }, "anthropic generate c max -1 -> /v1/messages {\"model\":\"new\",\"metadata\":{\"temperature\":0}}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"tools\":[{\"name\":\"t\"}],\"metadata\":{\"user_id\":\"u_1\"}}", 'a', "" }, "anthropic generate c max -1 tools of <u_1> -> /v1/messages {\"model\":\"new\",\"tools\":[{\"name\":\"t\"}],\"metadata\":{\"user_id\":\"u_1\"}}" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"tools\":[],\"metadata\":{\"user_id\":null},\"user\":\"u\"}", 'a', "" }, "anthropic generate c max -1 -> /v1/messages {\"model\":\"new\",\"tools\":[],\"metadata\":{\"user_id\":null},\"user\":\"u\"}" },
	{ { "GET /v1/models?limit=20", NULL, 'a', "" }, "anthropic list_models -> /v1/models?limit=20" },
	{ { "GET /v1/models/c", NULL, 'a', "" }, "anthropic get_model c -> /v1/models/c" },
	{ { "GET /v1/messages", NULL, 'a', "" }, "anthropic method_not_allowed Allowed: POST." },
	{ { "POST /v1/messages/batches", "{}", 'a', "" }, "anthropic unknown_path" },
	{ { "POST /v1/v1/messages?beta=true", "{}", 'a', "" }, "anthropic unknown_path" MEANT("/v1/messages") },
	{ { "POST /v1/v1/messages/count_tokens", "{}", 0, "" }, "anthropic unknown_path" MEANT("/v1/messages/count_tokens") },
	{ { "POST //v1/messages", "{}", 'a', "" }, "anthropic unknown_path" MEANT("/v1/messages") },
	{ { "POST /v1/v1/messages/", "{}", 'a', "" }, "openai unknown_path" },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"stream\":1}", 'a', "" }, "anthropic invalid_request `stream` must be true or false, not a number." },
	{ { "POST /v1/messages", "{\"model\":\"c\",\"max_tokens\":{}}", 'a', "" }, "anthropic invalid_request `max_tokens` must be a whole number, 0 or more, not an object." },
	{ { "POST /v1/messages", "{\"max_tokens\":1}", 'a', "" }, "anthropic invalid_request `model` is missing; it must be a string." },
	{ { "POST /v1/messages", "{\"model\":\"c\",}", 'a', "" }, "anthropic invalid_json Byte 13: expected a name." },
};
/* clang-format on */

static void judges_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		dialect_rig_assert(&cases[i].request, cases[i].expected);
}

static void assert_list(size_t count, const char *expected)
{
	const struct slice names[] = { SLICE("a"), SLICE("b") };
	const struct dialect_call call = { .dialect = DIALECT_anthropic };
	char memory[600];
	struct buf out;

	buf_wrap(&out, memory, sizeof(memory) - 1, 0);
	dialect_write_models(&call, names, count, &out);
	memory[out.len] = '\0';
	assert_string_equal(memory, expected);
}

static void lists_models(void **state)
{
	(void)state;
	assert_list(0, "{\"data\":[],\"has_more\":false,\"first_id\":null,\"last_id\":null}");
	assert_list(2,
		    "{\"data\":[{\"type\":\"model\",\"id\":\"a\",\"display_name\":\"a\",\"created_at\":\"1970-01-01T00:"
		    "00:00Z\"},"
		    "{\"type\":\"model\",\"id\":\"b\",\"display_name\":\"b\",\"created_at\":\"1970-01-01T00:00:00Z\"}],"
		    "\"has_more\":false,\"first_id\":\"a\",\"last_id\":\"b\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_requests),
		cmocka_unit_test(lists_models),
	};

	return cmocka_run_group_tests_name("dialect anthropic", tests, NULL, NULL);
}

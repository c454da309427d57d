/* svc/dialect/openai: what OpenAI's clients send, and what must not pass. */
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

#define CHAT  "POST /v1/chat/completions"
#define TO    " -> /v1/chat/completions"
#define USAGE "\"stream_options\":{\"include_usage\":true},"

/* clang-format off */
/* What is made of a temperature. */
#define AT(path, temperature, made) { { "POST " path, "{\"model\":\"m\",\"temperature\":" temperature "}", 0, "" }, \
	"openai " made " -> " path " {\"model\":\"new\",\"temperature\":" temperature "}" }
#define COLD(temperature) AT("/v1/chat/completions", temperature, "generate m max -1 deterministic")
#define WARM(temperature) AT("/v1/chat/completions", temperature, "generate m max -1")
#define WITH(members, made) { { "POST /v1/responses", "{\"model\":\"m\"," members "}", 0, "" }, \
	"openai generate m max -1" made " -> /v1/responses {\"model\":\"new\"," members "}" }

static const struct {
	struct dialect_rig_request request;
	const char *expected;
} cases[] = {
	{ { CHAT, "{\"model\":\"gpt-4o\",\"messages\":[]}", 0, "application/json" }, "openai generate gpt-4o max -1" TO " {\"model\":\"new\",\"messages\":[]}" },
	{ { CHAT "?api-version=1", " {\"model\" : \"a\"} ", 0, "application/json; charset=utf-8" }, "openai generate a max -1" TO "?api-version=1  {\"model\" : \"new\"} " },
	{ { CHAT, "{\"model\":\"m\",\"max_tokens\":5,\"n\":3}", 0, "" }, "openai generate m max 15" TO " {\"model\":\"new\",\"max_tokens\":5,\"n\":3}" },
	{ { CHAT, "{\"model\":\"m\",\"max_tokens\":5,\"max_completion_tokens\":9}", 0, "" }, "openai generate m max 9" TO " {\"model\":\"new\",\"max_tokens\":5,\"max_completion_tokens\":9}" },
	{ { CHAT, "{\"model\":\"m\",\"max_tokens\":1e3,\"n\":null}", 0, "" }, "openai generate m max 1000" TO " {\"model\":\"new\",\"max_tokens\":1e3,\"n\":null}" },
	{ { CHAT, "{\"model\":\"m\",\"max_tokens\":9223372036854775807,\"n\":128}", 0, "" }, "openai generate m max 1099511627776" TO " {\"model\":\"new\",\"max_tokens\":9223372036854775807,\"n\":128}" },
	{ { CHAT, "{\"model\":\"m\",\"max_tokens\":0}", 0, "" }, "openai generate m" TO " {\"model\":\"new\",\"max_tokens\":0}" },
	{ { CHAT, "{\"\\u006dodel\":\"caf\\u00e9\"}", 0, "" }, "openai generate caf\xC3\xA9 max -1" TO " {\"\\u006dodel\":\"new\"}" },
	{ { CHAT, "{\"model\":\"m\",\"messages\":[{\"content\":[{\"image_url\":{\"url\":\"data:x\"}},{\"input_audio\":{\"data\":\"AAAA\"}}]}]}", 0, "" },
	  "openai generate m max -1 media 14" TO " {\"model\":\"new\",\"messages\":[{\"content\":[{\"image_url\":{\"url\":\"data:x\"}},{\"input_audio\":{\"data\":\"AAAA\"}}]}]}" },
	{ { CHAT, "{\"model\":\"m\",\"messages\":[{\"content\":[{\"file\":{\"file_id\":\"f\"}}]}]}", 0, "" }, "openai generate m max -1 media by name" TO " {\"model\":\"new\",\"messages\":[{\"content\":[{\"file\":{\"file_id\":\"f\"}}]}]}" },
	{ { CHAT, "{\"model\":\"m\",\"messages\":[{\"content\":[{\"file\":{\"file_id\":null}}]}]}", 0, "" }, "openai generate m max -1" TO " {\"model\":\"new\",\"messages\":[{\"content\":[{\"file\":{\"file_id\":null}}]}]}" },
	/* Usage is asked for where a stream's client did not. */
	{ { CHAT, "{\"stream\":true,\"model\":\"m\"}", 0, "" }, "openai generate m events max -1" TO " {" USAGE "\"stream\":true,\"model\":\"new\"}" },
	{ { CHAT, "{\"stream\":true,\"stream_options\":null,\"model\":\"m\"}", 0, "" }, "openai generate m events max -1" TO " {\"stream\":true,\"stream_options\":{\"include_usage\":true},\"model\":\"new\"}" },
	{ { CHAT, "{\"model\":\"m\",\"stream\":true,\"stream_options\":{ }}", 0, "" }, "openai generate m events max -1" TO " {\"model\":\"new\",\"stream\":true,\"stream_options\":{\"include_usage\":true }}" },
	{ { CHAT, "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"x\":1}}", 0, "" }, "openai generate m events max -1" TO " {\"model\":\"new\",\"stream\":true,\"stream_options\":{\"include_usage\":true,\"x\":1}}" },
	{ { CHAT, "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":false}}", 0, "" }, "openai generate m events max -1" TO " {\"model\":\"new\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}" },
	{ { CHAT, "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":null}}", 0, "" }, "openai generate m events max -1" TO " {\"model\":\"new\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}" },
	{ { CHAT, "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", 0, "" }, "openai generate m events max -1 usage" TO " {\"model\":\"new\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}" },
	{ { CHAT, "{\"model\":\"m\",\"stream\":false,\"stream_options\":{}}", 0, "" }, "openai generate m max -1" TO " {\"model\":\"new\",\"stream\":false,\"stream_options\":{}}" },
	{ { "POST /v1/responses", "{\"model\":\"m\",\"stream\":true,\"max_output_tokens\":7}", 0, "" }, "openai generate m events max 7 -> /v1/responses {\"model\":\"new\",\"stream\":true,\"max_output_tokens\":7}" },
	{ { "POST /v1/completions", "{\"model\":\"m\",\"prompt\":[\"a\",\"b\"],\"n\":2,\"best_of\":3,\"max_tokens\":10}", 0, "" }, "openai generate m max 60 -> /v1/completions {\"model\":\"new\",\"prompt\":[\"a\",\"b\"],\"n\":2,\"best_of\":3,\"max_tokens\":10}" },
	{ { "POST /v1/completions", "{\"model\":\"m\",\"prompt\":[1,2,3],\"max_tokens\":10}", 0, "" }, "openai generate m max 10 -> /v1/completions {\"model\":\"new\",\"prompt\":[1,2,3],\"max_tokens\":10}" },
	{ { "POST /v1/embeddings", "{\"model\":\"e\",\"input\":\"x\"}", 0, "" }, "openai embed e deterministic -> /v1/embeddings {\"model\":\"new\",\"input\":\"x\"}" },
	{ { "GET /v1/models", NULL, 0, "" }, "openai list_models -> /v1/models" },
	{ { "GET /v1/models/a%2Fb:c", NULL, 0, "" }, "openai get_model a/b:c -> /v1/models/a%2Fb:c" },
	/* Where chance has no part: 0, however it is written, and nothing but 0. */
	COLD("0"), COLD("0.0"), COLD("-0"), COLD("0e5"), COLD("0E-7"), COLD("-0.00e+99999999"),
	WARM("0.1"), WARM("1"), WARM("-1"), WARM("1e-400"), WARM("1e-99999999"),
	WARM("0.000000000000000000000000000000000000000000000000000000000000000000000000000000000000001"),
	WARM("null"), WARM("\"0\""), WARM("\"\""), WARM("false"), WARM("[0]"), WARM("[]"), WARM("{}"),
	AT("/v1/completions", "0", "generate m max -1 deterministic"),
	AT("/v1/responses", "0", "generate m max -1 deterministic"),
	AT("/v1/embeddings", "1", "embed m deterministic"),
	{ { CHAT, "{\"model\":\"m\",\"messages\":[{\"temperature\":0}]}", 0, "" }, "openai generate m max -1" TO " {\"model\":\"new\",\"messages\":[{\"temperature\":0}]}" },
	{ { CHAT, "{\"temperature\":0,\"stream\":true,\"model\":\"m\"}", 0, "" }, "openai generate m events max -1 deterministic" TO " {" USAGE "\"temperature\":0,\"stream\":true,\"model\":\"new\"}" },
	/* Tools, when some are offered; and whose session it is, by the member that tells it best. */
	WITH("\"tools\":[{\"type\":\"function\"}]", " tools"), WITH("\"functions\":[{}]", " tools"), WITH("\"tools\":[]", ""), WITH("\"tools\":null", ""), WITH("\"tools\":{\"a\":1}", ""),
	WITH("\"tools\":[],\"functions\":[1]", " tools"), WITH("\"messages\":[{\"tools\":[1]}]", ""), WITH("\"tool_choice\":\"auto\"", ""),
	WITH("\"prompt_cache_key\":\"k\"", " of <k>"), WITH("\"safety_identifier\":\"s\"", " of <s>"), WITH("\"user\":\"caf\\u00e9\"", " of <caf\xC3\xA9>"),
	WITH("\"user\":\"u\",\"safety_identifier\":\"s\",\"prompt_cache_key\":\"k\"", " of <k>"), WITH("\"user\":\"u\",\"safety_identifier\":\"s\"", " of <s>"),
	WITH("\"prompt_cache_key\":\"\",\"safety_identifier\":null,\"user\":\"u\"", " of <u>"), WITH("\"prompt_cache_key\":7,\"user\":\"u\"", " of <u>"), WITH("\"user\":{\"id\":\"u\"}", ""),
	WITH("\"metadata\":{\"user_id\":\"u\",\"user\":\"u\"}", ""), WITH("\"tools\":[1],\"user\":\"u\"", " tools of <u>"),
	WITH("\"conversation\":\"c\"", " of <c>"), WITH("\"user\":\"u\",\"conversation\":{\"id\":\"c\"}", " of <c>"), WITH("\"prompt_cache_key\":\"k\",\"conversation\":\"c\"", " of <k>"),
	WITH("\"previous_response_id\":\"r\"", ""),
	/* What must not pass. */
	{ { "GET /v1/chat/completions", NULL, 0, "" }, "openai method_not_allowed Allowed: POST." },
	{ { "DELETE /v1/models/x", NULL, 0, "" }, "openai method_not_allowed Allowed: GET, HEAD." },
	{ { "POST /v1/chat/completions/", NULL, 0, "" }, "openai unknown_path" },
	{ { "POST /v1/images", NULL, 0, "" }, "openai unknown_path" },
	{ { "POST /v1/v1/chat/completions", NULL, 0, "" }, "openai unknown_path Did you mean /v1/chat/completions? The base URL of this gateway ends in /v1." },
	{ { "POST /v1beta/openai/completions", NULL, 0, "" }, "openai unknown_path Did you mean /v1/completions? The base URL of this gateway ends in /v1." },
	{ { "POST //responses", NULL, 0, "" }, "openai unknown_path Did you mean /v1/responses? The base URL of this gateway ends in /v1." },
	{ { "POST /v1/xembeddings", NULL, 0, "" }, "openai unknown_path" },
	{ { "POST /v1/threads/t/messages", NULL, 0, "" }, "openai unknown_path" }, /* OpenAI's own, not Anthropic's */
	{ { "GET /v1/models/a/../b", NULL, 0, "" }, "openai invalid_request A model's name has no empty or dot segments and no control bytes." },
	{ { "GET /v1/models/a%2f%2E%2e%2fb", NULL, 0, "" }, "openai invalid_request A model's name has no empty or dot segments and no control bytes." },
	{ { "GET /v1/models/a%0Ab", NULL, 0, "" }, "openai invalid_request A model's name has no empty or dot segments and no control bytes." },
	{ { "GET /v1/models/%FF", NULL, 0, "" }, "openai invalid_request The model's name in the path is not UTF-8." },
	{ { CHAT, "{}", 0, "text/plain" }, "openai unsupported_media Content-Type must be application/json." },
	{ { CHAT, "{\"messages\":[]}", 0, "" }, "openai invalid_request `model` is missing; it must be a string." },
	{ { CHAT, "{\"model\":\"\"}", 0, "" }, "openai invalid_request The model's name is empty." },
	{ { CHAT, "{\"model\":7}", 0, "" }, "openai invalid_request `model` must be a string, not a number." },
	{ { CHAT, "{\"model\":null}", 0, "" }, "openai invalid_request `model` must be a string, not null." },
	{ { CHAT, "{\"model\":\"a\\nb\"}", 0, "" }, "openai invalid_request A model's name has no empty or dot segments and no control bytes." },
	{ { CHAT, "{\"model\":\"m\",\"stream\":\"true\"}", 0, "" }, "openai invalid_request `stream` must be true or false, not a string." },
	{ { CHAT, "{\"model\":\"m\",\"stream_options\":[]}", 0, "" }, "openai invalid_request `stream_options` must be an object, not an array." },
	{ { CHAT, "{\"model\":\"m\",\"stream_options\":{\"include_usage\":1}}", 0, "" }, "openai invalid_request `stream_options.include_usage` must be true or false, not a number." },
	{ { CHAT, "{\"model\":\"m\",\"max_tokens\":\"5\"}", 0, "" }, "openai invalid_request `max_tokens` must be a whole number, 0 or more, not a string." },
	{ { CHAT, "{\"model\":\"m\",\"max_tokens\":-1}", 0, "" }, "openai invalid_request `max_tokens` must be a whole number, 0 or more, that fits in 63 bits." },
	{ { CHAT, "{\"model\":\"m\",\"n\":1.5}", 0, "" }, "openai invalid_request `n` must be a whole number, 0 or more, that fits in 63 bits." },
	{ { CHAT, "{\"model\":\"m\",\"model\":\"x\"}", 0, "" }, "openai invalid_json Byte 13: a name stands twice in one object." },
	{ { CHAT, "{\"model\":\"m\",\"mod\\u0065l\":\"x\"}", 0, "" }, "openai invalid_json Byte 13: a name stands twice in one object." },
	{ { CHAT, "{\"model\":\"m\",\"temperature\":0,\"temperature\":1}", 0, "" }, "openai invalid_json Byte 29: a name stands twice in one object." },
	{ { CHAT, "{\"model\":\"m\"", 0, "" }, "openai invalid_json Byte 12: the text ends too early." },
	{ { CHAT, "{\"model\":\"m\"}x", 0, "" }, "openai invalid_json Byte 13: something stands behind the value." },
	{ { CHAT, "", 0, "" }, "openai invalid_json Byte 0: the text ends too early." },
	{ { CHAT, "[]", 0, "" }, "openai invalid_request `body` must be a JSON object, not an array." },
};
/* clang-format on */

static void judges_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		dialect_rig_assert(&cases[i].request, cases[i].expected);
}

static void names_are_capped(void **state)
{
	char body[400];

	(void)state;
	for (int length = 255; length <= 258; length++) {
		struct dialect_rig_request request = { CHAT, body, 0, "" };
		snprintf(body, sizeof(body), "{\"model\":\"%0*d\"}", length, 0);
		char *found = dialect_rig_ask(&request);
		if (length <= 256)
			assert_memory_equal(found, "openai generate 0", 17);
		else
			assert_string_equal(found, "openai invalid_request A model's name has at most 256 bytes.");
		mem_free(found);
	}
}

/* What is longer is cut, and alike however the body comes. */
static void sessions_are_cut(void **state)
{
	char body[700], expected[400];

	(void)state;
	for (int length = 255; length <= 257; length++) {
		struct dialect_rig_request request = { CHAT, body, 0, "" };
		snprintf(body, sizeof(body), "{\"model\":\"m\",\"user\":\"%0*d\"}", length, 0);
		snprintf(expected, sizeof(expected), "openai generate m max -1 of <%0*d> ->",
			 length < 256 ? length : 256, 0);
		char *found = dialect_rig_ask(&request);
		assert_memory_equal(found, expected, strlen(expected));
		mem_free(found);
	}
}

static void lists_models(void **state)
{
	const struct slice names[] = { SLICE("a"), SLICE("b\"") };
	const struct dialect_call call = { .dialect = DIALECT_openai };
	char memory[400];
	struct buf out;

	(void)state;
	buf_wrap(&out, memory, sizeof(memory), 0);
	dialect_write_models(&call, names, 2, &out);
	assert_true(
		slice_equal(buf_slice(&out),
			    SLICE("{\"object\":\"list\",\"data\":["
				  "{\"id\":\"a\",\"object\":\"model\",\"created\":0,\"owned_by\":\"sluice\"},"
				  "{\"id\":\"b\\\"\",\"object\":\"model\",\"created\":0,\"owned_by\":\"sluice\"}]}")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_requests),
		cmocka_unit_test(names_are_capped),
		cmocka_unit_test(sessions_are_cut),
		cmocka_unit_test(lists_models),
	};

	return cmocka_run_group_tests_name("dialect openai", tests, NULL, NULL);
}

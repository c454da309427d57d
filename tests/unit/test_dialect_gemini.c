/* svc/dialect/gemini: Google's paths and Vertex', both kinds of streams, ProtoJSON's spellings. */
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

#define MODEL       "/v1beta/models/gemini-2.5-pro"
#define NEW         " -> /v1beta/models/new"

#define MEANT(path) " Did you mean " path "? The base URL is this gateway's address alone."

/* clang-format off */
/* What is made of temperatures. */
#define AT(body, made) { { "POST " MODEL ":generateContent", body, 0, "" }, "gemini generate gemini-2.5-pro max -1" made NEW ":generateContent" }
#define COLD(body) AT(body, " deterministic")
#define WARM(body) AT(body, "")

static const struct {
	struct dialect_rig_request request;
	const char *expected;
} cases[] = {
	{ { "POST " MODEL ":generateContent", "{}", 0, "" }, "gemini generate gemini-2.5-pro max -1" NEW ":generateContent" },
	{ { "POST " MODEL ":streamGenerateContent?alt=sse", "{}", 0, "" }, "gemini generate gemini-2.5-pro events max -1" NEW ":streamGenerateContent?alt=sse" },
	{ { "POST " MODEL ":streamGenerateContent", "{}", 0, "" }, "gemini generate gemini-2.5-pro array max -1" NEW ":streamGenerateContent" },
	{ { "POST " MODEL ":streamGenerateContent?$alt=json;enum-encoding=int&x=1", "{}", 0, "" }, "gemini generate gemini-2.5-pro array max -1" NEW ":streamGenerateContent?$alt=json;enum-encoding=int&x=1" },
	AT("{\"tools\":[{\"googleSearch\":{}}]}", " tools"), AT("{\"tools\":[],\"toolConfig\":{\"tools\":[1]}}", ""), AT("{\"cachedContent\":\"cachedContents/c1\"}", " of <cachedContents/c1>"),
	AT("{\"cached_content\":\"c2\",\"tools\":[{}]}", " tools of <c2>"), AT("{\"cached_content\":\"c2\",\"cachedContent\":\"c1\"}", " of <c1>"), AT("{\"cachedContent\":null,\"user\":\"u\"}", ""),
	{ { "POST " MODEL ":countTokens", "{}", 0, "" }, "gemini count_tokens gemini-2.5-pro deterministic" NEW ":countTokens" },
	{ { "POST " MODEL ":embedContent", "{}", 0, "" }, "gemini embed gemini-2.5-pro deterministic" NEW ":embedContent" },
	{ { "POST " MODEL ":batchEmbedContents", "{}", 0, "" }, "gemini embed gemini-2.5-pro deterministic" NEW ":batchEmbedContents" },
	{ { "POST /v1/models/g:generateContent", "{}", 0, "" }, "gemini generate g max -1 -> /v1/models/new:generateContent" },
	{ { "POST /models/g:generateContent", "{}", 0, "" }, "gemini generate g max -1 -> /v1beta/models/new:generateContent" },
	{ { "POST /v1alpha/tunedModels/t:generateContent", "{}", 0, "" }, "gemini generate tunedModels/t max -1 -> /v1alpha/models/new:generateContent" },
	{ { "POST /v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent?alt=sse", "{}", 0, "" },
	  "gemini generate g events max -1 -> /v1/projects/p/locations/l/publishers/google/models/new:streamGenerateContent?alt=sse" },
	{ { "POST /v1beta1/publishers/google/models/g:countTokens", "{}", 0, "" }, "gemini count_tokens g deterministic -> /v1beta1/publishers/google/models/new:countTokens" },
	{ { "POST /v1beta/models/a%2Fb%20c:generateContent", "{}", 0, "" }, "gemini generate a/b c max -1 -> /v1beta/models/new:generateContent" },
	{ { "POST " MODEL ":generateContent", "{\"generationConfig\":{\"maxOutputTokens\":100,\"candidateCount\":2}}", 0, "" }, "gemini generate gemini-2.5-pro max 200" NEW ":generateContent" },
	{ { "POST " MODEL ":generateContent", "{\"generation_config\":{\"max_output_tokens\":\"100\",\"candidate_count\":null}}", 0, "" }, "gemini generate gemini-2.5-pro max 100" NEW ":generateContent" },
	{ { "POST " MODEL ":generateContent", "{\"generationConfig\":{\"maxOutputTokens\":7,\"thinkingConfig\":{\"thinkingBudget\":900}}}", 0, "" }, "gemini generate gemini-2.5-pro max 7" NEW ":generateContent" },
	{ { "POST " MODEL ":generateContent", "{\"contents\":[{\"parts\":[{\"inlineData\":{\"data\":\"AAAA\"}},{\"inline_data\":{\"data\":\"BB\"}}]}]}", 0, "" }, "gemini generate gemini-2.5-pro max -1 media 10" NEW ":generateContent" },
	{ { "POST " MODEL ":generateContent", "{\"contents\":[{\"parts\":[{\"fileData\":{\"fileUri\":\"gs://x\"}}]}]}", 0, "" }, "gemini generate gemini-2.5-pro max -1 media by name" NEW ":generateContent" },
	{ { "POST " MODEL ":generateContent", "{\"contents\":{\"parts\":[{\"file_data\":{\"file_uri\":\"gs://x\"}}]}}", 0, "" }, "gemini generate gemini-2.5-pro max -1 media by name" NEW ":generateContent" },
	{ { "POST " MODEL ":generateContent", "{\"contents\":[{\"parts\":[{\"fileData\":{\"fileUri\":null}}]}]}", 0, "" }, "gemini generate gemini-2.5-pro max -1" NEW ":generateContent" },
	{ { "POST " MODEL ":batchEmbedContents", "{\"requests\":[{\"model\":\"models/gemini-2.5-pro\"},{\"model\":\"gemini-2.5-pro\"},{},{\"model\":null}]}", 0, "" }, "gemini embed gemini-2.5-pro deterministic" NEW ":batchEmbedContents" },
	{ { "POST " MODEL ":embedContent", "{\"model\":\"models/gemini-2.5-pro\"}", 0, "" }, "gemini embed gemini-2.5-pro deterministic" NEW ":embedContent" },
	{ { "POST " MODEL ":countTokens", "{\"generateContentRequest\":{\"model\":\"models/gemini-2.5-pro\"}}", 0, "" }, "gemini count_tokens gemini-2.5-pro deterministic" NEW ":countTokens" },
	{ { "POST " MODEL ":countTokens", "{\"model\":\"projects/p/locations/l/publishers/google/models/gemini-2.5-pro\"}", 0, "" }, "gemini count_tokens gemini-2.5-pro deterministic" NEW ":countTokens" },
	{ { "POST /v1beta/tunedModels/t:generateContent", "{\"model\":\"tunedModels/t\"}", 0, "" }, "gemini generate tunedModels/t max -1 -> /v1beta/models/new:generateContent" },
	/* Where chance has no part. All that is said must be 0, whichever of the two a reader takes. */
	COLD("{\"generationConfig\":{\"temperature\":0}}"),
	COLD("{\"generation_config\":{\"temperature\":-0.0}}"),
	COLD("{\"generationConfig\":{\"temperature\":0},\"generation_config\":{\"temperature\":0e9}}"),
	COLD("{\"generationConfig\":{\"temperature\":null},\"generation_config\":{\"temperature\":0}}"),
	WARM("{\"generationConfig\":{\"temperature\":0},\"generation_config\":{\"temperature\":0.5}}"),
	WARM("{\"generationConfig\":{\"temperature\":1},\"generation_config\":{\"temperature\":0}}"),
	WARM("{\"generationConfig\":{\"temperature\":0},\"generation_config\":{\"temperature\":\"0\"}}"),
	WARM("{\"generationConfig\":{\"temperature\":\"0\"}}"),
	WARM("{\"generationConfig\":{\"temperature\":null}}"),
	WARM("{\"temperature\":0}"),
	{ { "POST " MODEL ":streamGenerateContent?alt=sse", "{\"generationConfig\":{\"temperature\":0}}", 0, "" }, "gemini generate gemini-2.5-pro events max -1 deterministic" NEW ":streamGenerateContent?alt=sse" },
	{ { "POST " MODEL ":countTokens", "{\"generationConfig\":{\"temperature\":1}}", 0, "" }, "gemini count_tokens gemini-2.5-pro deterministic" NEW ":countTokens" },
	{ { "GET /v1beta/models", NULL, 0, "" }, "gemini list_models -> /v1beta/models" },
	{ { "GET /v1/models", NULL, 'g', "" }, "gemini list_models -> /v1/models" },
	{ { "GET /v1beta/models/x", NULL, 0, "" }, "gemini get_model x -> /v1beta/models/new" },
	{ { "GET /v1/models/x", NULL, 'g', "" }, "gemini get_model x -> /v1/models/new" },
	/* What must not pass. */
	{ { "GET " MODEL ":generateContent", NULL, 0, "" }, "gemini method_not_allowed Allowed: POST." },
	{ { "POST /v1beta/models", "{}", 0, "" }, "gemini method_not_allowed Allowed: GET, HEAD." },
	{ { "POST /v1beta/files", "{}", 0, "" }, "gemini unknown_path" },
	{ { "POST /v1beta" MODEL ":generateContent", "{}", 'g', "" }, "gemini unknown_path" MEANT(MODEL ":generateContent") },
	{ { "POST /v1" MODEL ":streamGenerateContent?alt=sse", "{}", 0, "" }, "gemini unknown_path" MEANT(MODEL ":streamGenerateContent") },
	{ { "POST //tunedModels/t:countTokens", "{}", 0, "" }, "gemini unknown_path" MEANT("/v1beta/tunedModels/t:countTokens") },
	{ { "POST /v1/v1/projects/p/locations/l/publishers/google/models/g:generateContent", "{}", 0, "" },
	  "gemini unknown_path" MEANT("/v1/projects/p/locations/l/publishers/google/models/g:generateContent") },
	{ { "POST /v1beta" MODEL ":predict", "{}", 0, "" }, "gemini unknown_path" },
	{ { "POST /v1beta" MODEL, "{}", 0, "" }, "gemini unknown_path" },
	{ { "POST /v1beta/v1beta/models/:generateContent", "{}", 0, "" }, "gemini unknown_path" },
	{ { "POST " MODEL ":predict", "{}", 0, "" }, "gemini unknown_path Behind the model stands one of :generateContent, :streamGenerateContent, :countTokens, :embedContent, :batchEmbedContents." },
	{ { "POST " MODEL ":streamGenerateContent?alt=proto", "{}", 0, "" }, "gemini invalid_request `alt` must be sse or json." },
	{ { "POST /v1beta/models/:generateContent", "{}", 0, "" }, "gemini invalid_request The model's name is empty." },
	{ { "POST /v1beta/models/../x:generateContent", "{}", 0, "" }, "gemini invalid_request The path has a wrong escape or a dot segment." },
	{ { "POST /v1/projects/%2e%2E/x/models/g:generateContent", "{}", 0, "" }, "gemini invalid_request The path has a wrong escape or a dot segment." },
	{ { "POST /v1beta/models/a%ZZ:generateContent", "{}", 0, "" }, "gemini invalid_request The path has a wrong escape or a dot segment." },
	{ { "POST /v1beta/models/a//b:generateContent", "{}", 0, "" }, "gemini invalid_request A model's name has no empty or dot segments and no control bytes." },
	{ { "POST " MODEL ":generateContent", "{\"generationConfig\":{\"maxOutputTokens\":true}}", 0, "" }, "gemini invalid_request `generationConfig.maxOutputTokens` must be a whole number, 0 or more, not true." },
	{ { "POST " MODEL ":generateContent", "{\"generationConfig\":{\"maxOutputTokens\":\"1x\"}}", 0, "" }, "gemini invalid_request `generationConfig.maxOutputTokens` must be a whole number, 0 or more, not a string." },
	{ { "POST " MODEL ":generateContent", "{\"generationConfig\":{},\"generationConfig\":{}}", 0, "" }, "gemini invalid_json Byte 23: a name stands twice in one object." },
	{ { "POST " MODEL ":batchEmbedContents", "{\"requests\":[{\"model\":\"models/other\"},{\"model\":\"models/gemini-2.5-pro\"}]}", 0, "" }, "gemini invalid_request `requests[].model` must be \"models/gemini-2.5-pro\", as in the path, or left out." },
	{ { "POST " MODEL ":batchEmbedContents", "{\"requests\":[{\"model\":\"models/gemini-2.5-pro\"},{\"model\":5}]}", 0, "" }, "gemini invalid_request `requests[].model` must be \"models/gemini-2.5-pro\", as in the path, or left out." },
	{ { "POST " MODEL ":embedContent", "{\"model\":\"models/other-gemini-2.5-pro\"}", 0, "" }, "gemini invalid_request `model` must be \"models/gemini-2.5-pro\", as in the path, or left out." },
	{ { "POST " MODEL ":embedContent", "{\"model\":\"xmodels/gemini-2.5-pro\"}", 0, "" }, "gemini invalid_request `model` must be \"models/gemini-2.5-pro\", as in the path, or left out." },
	{ { "POST " MODEL ":embedContent", "{\"model\":\"\"}", 0, "" }, "gemini invalid_request `model` must be \"models/gemini-2.5-pro\", as in the path, or left out." },
	{ { "POST " MODEL ":countTokens", "{\"generateContentRequest\":{\"model\":\"models/gemini-2.5-pro\\u0000\"}}", 0, "" }, "gemini invalid_request `generateContentRequest.model` must be \"models/gemini-2.5-pro\", as in the path, or left out." },
	{ { "POST " MODEL ":countTokens", "{\"generate_content_request\":{\"model\":\"other\"}}", 0, "" }, "gemini invalid_request `generate_content_request.model` must be \"models/gemini-2.5-pro\", as in the path, or left out." },
	{ { "POST /v1beta/tunedModels/t:generateContent", "{\"model\":\"models/t\"}", 0, "" }, "gemini invalid_request `model` must be \"tunedModels/t\", as in the path, or left out." },
	{ { "POST " MODEL ":generateContent", "null", 0, "" }, "gemini invalid_request `body` must be a JSON object, not null." },
	{ { "POST " MODEL ":generateContent", "{}", 0, "application/x-www-form-urlencoded" }, "gemini unsupported_media Content-Type must be application/json." },
};
/* clang-format on */

static void judges_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		dialect_rig_assert(&cases[i].request, cases[i].expected);
}

static void lists_models(void **state)
{
	const struct slice names[] = { SLICE("g"), SLICE("tunedModels/t") };
	const struct dialect_call call = { .dialect = DIALECT_gemini };
	char memory[1000];
	struct buf out;

	(void)state;
	buf_wrap(&out, memory, sizeof(memory), 0);
	dialect_write_models(&call, names, 2, &out);
	assert_true(slice_starts(buf_slice(&out), SLICE("{\"models\":[{\"name\":\"models/g\",\"version\":\"\",")));
	assert_non_null(memmem(out.data, out.len, "{\"name\":\"tunedModels/t\"", 23));
	assert_true(slice_ends(buf_slice(&out), SLICE("]}]}")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_requests),
		cmocka_unit_test(lists_models),
	};

	return cmocka_run_group_tests_name("dialect gemini", tests, NULL, NULL);
}

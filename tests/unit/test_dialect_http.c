/* svc/dialect/http: any API under its upstream's name, and no way out of its prefix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "svc/dialect.h"
#include "tests/support/dialect_rig.h"

#define UNSAFE "http invalid_request The path has a wrong escape, a dot segment or a control byte."

/* clang-format off */
static const struct {
	struct dialect_rig_request request;
	const char *expected;
} cases[] = {
	{ { "GET /search/v2/items?q=a%20b&q=c", NULL, 0, "" }, "http pass to search -> /v2/items?q=a%20b&q=c" },
	{ { "POST /search/x", "not JSON", 0, "text/plain" }, "http pass to search -> /x" },
	{ { "POST /search/x", "{\"temperature\":0}", 0, "application/json" }, "http pass to search -> /x" },
	{ { "PUT /search/x%2Fy//z/", "", 0, "" }, "http pass to search -> /x%2Fy//z/" },
	{ { "HEAD /search", NULL, 0, "" }, "http pass to search -> /" },
	{ { "PATCH /search/", NULL, 0, "" }, "http pass to search -> /" },
	{ { "DELETE /search/a...b/.hidden", NULL, 0, "" }, "http pass to search -> /a...b/.hidden" },
	{ { "OPTIONS /search/x", NULL, 0, "" }, "http method_not_allowed Allowed: GET, HEAD, POST, PUT, PATCH, DELETE." },
	{ { "GET /", NULL, 0, "" }, "http unknown_path" },
	{ { "GET //x", NULL, 0, "" }, "http unknown_path" },
	{ { "OPTIONS *", NULL, 0, "" }, "http unknown_path" },
	{ { "GET /se%61rch/x", NULL, 0, "" }, "http unknown_path" },
	{ { "GET /search/../x", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/..", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/./x", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/%2e%2E/x", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/a%2f..%2fx", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/..%5Cx", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/..;a=b/x", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/%00", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/%0d%0ax", NULL, 0, "" }, UNSAFE },
	{ { "GET /search/%2", NULL, 0, "" }, UNSAFE },
};
/* clang-format on */

static void judges_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		dialect_rig_assert(&cases[i].request, cases[i].expected);
}

#define ALONE "The base URL is this gateway's address alone."

/* What becomes of a call when no upstream has the name that its path begins with. */
static void tells_what_was_meant(void **state)
{
	static const struct {
		const char *path, *expected;
		enum dialect dialect;
	} paths[] = {
		{ "/chat/completions", "Did you mean /v1/chat/completions? The base URL of this gateway ends in /v1.",
		  DIALECT_openai },
		{ "/embeddings", "Did you mean /v1/embeddings? The base URL of this gateway ends in /v1.",
		  DIALECT_openai },
		{ "/messages", "Did you mean /v1/messages? " ALONE, DIALECT_anthropic },
		{ "/some/v1/messages/count_tokens", "Did you mean /v1/messages/count_tokens? " ALONE,
		  DIALECT_anthropic },
		{ "/some/models/g:embedContent", "Did you mean /v1beta/models/g:embedContent? " ALONE, DIALECT_gemini },
		{ "/some/models", "as it was", DIALECT_http },
		{ "/completions/x", "as it was", DIALECT_http },
		{ "/", "as it was", DIALECT_http },
		{ "*", "as it was", DIALECT_http },
		{ "", "as it was", DIALECT_http },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
		struct dialect_call call = { .dialect = DIALECT_http, .path = slice_of(paths[i].path) };
		struct buf detail;
		buf_init(&detail, 512);
		buf_append(&detail, SLICE("as it was"));
		dialect_suggest(&call, &detail);
		assert_int_equal(call.dialect, paths[i].dialect);
		assert_true(slice_equal(buf_slice(&detail), slice_of(paths[i].expected)));
		buf_free(&detail);
	}
}

/* A name that is no model's is not repeated; a path of nothing but beginnings is read at its end alone. */
static void long_paths_are_not_repeated(void **state)
{
	static const char end[] = "/models/g:generateContent", start[] = "/projects";
	char path[8000];

	(void)state;
	for (int named = 0; named < 2; named++) {
		struct dialect_call call = { .dialect = DIALECT_http, .path = slice_make(path, sizeof(path)) };
		struct buf detail;
		for (size_t i = 0; i < sizeof(path); i++)
			path[i] = named ? 'm' : start[i % (sizeof(start) - 1)];
		memcpy(path + sizeof(path) - (sizeof(end) - 1), end, sizeof(end) - 1);
		if (named) {
			memcpy(path, "/x/models/", 10);
			path[sizeof(path) - (sizeof(end) - 1)] = 'm';
			path[sizeof(path) - (sizeof(end) - 1) + 7] = 'm';
		}
		buf_init(&detail, 512);
		dialect_suggest(&call, &detail);
		assert_false(detail.overflowed);
		assert_int_equal(call.dialect, named ? DIALECT_http : DIALECT_gemini);
		assert_true((detail.len == 0) == (bool)named);
		buf_free(&detail);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_requests),
		cmocka_unit_test(tells_what_was_meant),
		cmocka_unit_test(long_paths_are_not_repeated),
	};

	return cmocka_run_group_tests_name("dialect http", tests, NULL, NULL);
}

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
#include "tests/support/dialect_rig.h"

#define UNSAFE "http invalid_request The path has a wrong escape, a dot segment or a control byte."

/* clang-format off */
static const struct {
	struct dialect_rig_request request;
	const char *expected;
} cases[] = {
	{ { "GET /search/v2/items?q=a%20b&q=c", NULL, 0, "" }, "http pass to search -> /v2/items?q=a%20b&q=c" },
	{ { "POST /search/x", "not JSON", 0, "text/plain" }, "http pass to search -> /x" },
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_requests),
	};

	return cmocka_run_group_tests_name("dialect http", tests, NULL, NULL);
}

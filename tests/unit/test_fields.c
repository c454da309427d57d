/* svc/fields and the configuration agree: a field that forward_headers may name is forwarded, one that it may not name never is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "svc/fields.h"
#include "tests/support/config_rig.h"

static const char *const names[] = {
	/* a connection's own */
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer",
	"Transfer-Encoding", "Upgrade", "Host", "Content-Length", "Expect",
	/* the gateway's own, a client's secrets, the credential */
	"Via", "Accept-Encoding", "Authorization", "x-api-key", "x-goog-api-key", "Cookie", "x-goog-user-project",
	"X-Credential",
	/* others */
	"X-Custom", "Accept-Language", "Cache-Control", "Priority", "openai-organization", "x-amz-date", "Origin",
	"x-goog-other", "traceparent"
};

/* Whether the configuration takes it; then the upstream's forward_headers have it. */
static bool is_taken(const char *name)
{
	char text[600];
	struct buf error;
	const struct config *c;
	bool taken;

	snprintf(text, sizeof(text),
		 "upstreams: {u: {dialect: openai, endpoints: [{url: 'https://h'}], forward_headers: '%s',\n"
		 "  credential: {header: X-Credential, value: the-gateways-own}}}\n",
		 name);
	c = config_rig_parse(text, &error);
	taken = c != NULL;
	config_release(&c);
	buf_free(&error);
	return taken;
}

static bool is_forwarded(const char *name)
{
	char *forward[] = { (char *)(uintptr_t)name };
	struct config_upstream u = { .credential = { .header = (char[]){ "X-Credential" },
						     .value = (char[]){ "the-gateways-own" } },
				     .forward_headers = forward,
				     .forward_headers_count = 1 };
	struct http_field field = { slice_of(name), SLICE("of-the-client") };
	struct http_head head = { .fields = &field, .fields_count = 1 };
	struct mem *mem = mem_arena(1 << 16);
	size_t count;
	const struct pool_field *fields = fields_to_upstream(&head, &u, mem, &count);
	bool forwarded = false;

	assert_non_null(fields);
	for (size_t i = 0; i < count; i++)
		forwarded |= slice_equal_nocase(fields[i].name, slice_of(name)) &&
			     slice_equal(fields[i].value, SLICE("of-the-client"));
	mem_arena_free(&mem);
	return forwarded;
}

static void forwards_what_the_configuration_takes(void **state)
{
	int taken = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		if (is_taken(names[i]) != is_forwarded(names[i]))
			fail_msg("%s: taken %d, forwarded %d", names[i], is_taken(names[i]), is_forwarded(names[i]));
		taken += is_taken(names[i]);
	}
	assert_int_equal(taken, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forwards_what_the_configuration_takes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

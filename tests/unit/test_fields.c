/* What passes, both ways; and svc/fields and the configuration agree: a field that forward_headers may name is forwarded, one that it may not name
 * never is (but Via, which passes anyway). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "svc/fields.h"
#include "tests/support/config_rig.h"

static const char *const names[] = {
	/* a connection's own */
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer",
	"Transfer-Encoding", "Upgrade", "Host", "Content-Length", "Expect",
	/* the gateway's own, a client's secrets, the credential */
	"Accept-Encoding", "Authorization", "x-api-key", "x-goog-api-key", "Cookie", "x-goog-user-project",
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

/* ---- towards an upstream ---------------------------------------------------------------------------------------------- */

struct line {
	const char *name, *value;
};

/* "Name: value" lines, one behind the other, as they would go out. */
static void write_up(const struct line *lines, size_t count, const struct config_upstream *u, struct buf *out)
{
	struct http_field fields[64];
	struct http_head head = { .fields = fields, .fields_count = count };
	struct mem *mem = mem_arena(1 << 16);
	const struct pool_field *up;
	size_t up_count;

	assert_true(count <= ARRAY_LENGTH(fields));
	for (size_t i = 0; i < count; i++)
		fields[i] = (struct http_field){ slice_of(lines[i].name), slice_of(lines[i].value) };
	up = fields_to_upstream(&head, u, mem, &up_count);
	assert_non_null(up);
	buf_init(out, 1 << 16);
	for (size_t i = 0; i < up_count; i++)
		assert_true(buf_format(out, "%.*s: %.*s\n", SLICE_ARGS(up[i].name), SLICE_ARGS(up[i].value)));
	mem_arena_free(&mem);
}

static void check_up(const struct line *lines, size_t count, const struct config_upstream *u, const char *wanted)
{
	struct buf out;

	write_up(lines, count, u, &out);
	if (!slice_equal(buf_slice(&out), slice_of(wanted)))
		fail_msg("\n%.*s---- wanted:\n%s", SLICE_ARGS(buf_slice(&out)), wanted);
	buf_free(&out);
}

#define OURS "Accept-Encoding: identity\nVia: 1.1 sluice\n"

static void passes_what_is_listed(void **state)
{
	static const struct line lines[] = {
		{ "Host", "gateway" },
		{ "content-TYPE", "application/json" },
		{ "Accept", "text/event-stream" },
		{ "Accept-Encoding", "gzip, br" },
		{ "User-Agent", "OpenAI/Python 1.0" },
		{ "anthropic-version", "2023-06-01" },
		{ "anthropic-beta", "a" },
		{ "anthropic-beta", "b" },
		{ "anthropic-dangerous-direct-browser-access", "true" },
		{ "OpenAI-Beta", "assistants=v2" },
		{ "OpenAI-Organization", "org-of-the-client" },
		{ "OpenAI-Project", "proj-of-the-client" },
		{ "X-Goog-Api-Client", "gl-python/3.11" },
		{ "x-goog-request-params", "model=m" },
		{ "x-goog-user-project", "billed-to" },
		{ "x-goog-api-key", "key-of-the-client" },
		{ "x-api-key", "key-of-the-client" },
		{ "Authorization", "Bearer key-of-the-client" },
		{ "Cookie", "session=1" },
		{ "Idempotency-Key", "i" },
		{ "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
		{ "tracestate", "" },
		{ "x-stainless-retry-count", "1" },
		{ "x-stainless-timeout", "600" },
		{ "Prefer", "respond-async" },
		{ "X-Forwarded-For", "10.0.0.1" },
		{ "Content-Length", "2" },
		{ "Expect", "100-continue" },
		{ "TE", "trailers" },
		{ "Anthropic-Version-Of-Mine", "1" },
	};
	static const char passed[] = "content-TYPE: application/json\nAccept: text/event-stream\n"
				     "User-Agent: OpenAI/Python 1.0\nanthropic-version: 2023-06-01\n"
				     "anthropic-beta: a\nanthropic-beta: b\n"
				     "anthropic-dangerous-direct-browser-access: true\nOpenAI-Beta: assistants=v2\n"
				     "X-Goog-Api-Client: gl-python/3.11\nx-goog-request-params: model=m\n"
				     "Idempotency-Key: i\n"
				     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n"
				     "tracestate: \n" OURS;

	(void)state;
	check_up(lines, ARRAY_LENGTH(lines), &(struct config_upstream){ 0 }, passed);
}

/* Whatever forward_headers says, and whichever field carries the credential. */
static void keeps_the_keys_of_clients(void **state)
{
	static const char *const credentials[] = { "Authorization", "x-api-key", "X-Goog-Api-Key", "api-key" };
	static const struct line lines[] = { { "AUTHORIZATION", "Bearer secret-of-the-client" },
					     { "X-Api-Key", "secret-of-the-client" },
					     { "x-goog-api-key", "secret-of-the-client" },
					     { "cookie", "secret-of-the-client" },
					     { "API-Key", "secret-of-the-client" } };
	char *forward[] = { (char[]){ "Authorization" }, (char[]){ "x-api-key" }, (char[]){ "x-goog-api-key" },
			    (char[]){ "cookie" }, (char[]){ "api-key" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(credentials); i++) {
		char name[32], wanted[200];
		struct config_upstream u = { .credential = { .header = name, .value = (char[]){ "of-the-gateway" } },
					     .forward_headers = forward,
					     .forward_headers_count = i == 3 ? 5 : 4 };
		snprintf(name, sizeof(name), "%s", credentials[i]);
		snprintf(wanted, sizeof(wanted), "%s: of-the-gateway\n" OURS, name);
		check_up(lines, ARRAY_LENGTH(lines), &u, wanted);
	}
}

static void stops_what_belongs_to_the_connection(void **state)
{
	static const struct line lines[] = { { "Connection", "close, X-One ,, x-two" },
					     { "connection", "x-three" },
					     { "X-ONE", "1" },
					     { "X-Two", "2" },
					     { "X-Three", "3" },
					     { "X-Four", "4" },
					     { "Keep-Alive", "timeout=5" } };
	char *forward[] = { (char[]){ "x-one" },  (char[]){ "x-two" },      (char[]){ "x-three" },
			    (char[]){ "x-four" }, (char[]){ "connection" }, (char[]){ "keep-alive" } };
	struct config_upstream u = { .forward_headers = forward, .forward_headers_count = ARRAY_LENGTH(forward) };

	(void)state;
	check_up(lines, ARRAY_LENGTH(lines), &u, "X-Four: 4\n" OURS);
}

/* All that came stays, in order; ours is the last. */
static void appends_to_via(void **state)
{
	static const struct line lines[] = { { "Via", "1.0 first, 1.1 second" },
					     { "Accept", "a" },
					     { "via", "2 third" } };

	(void)state;
	check_up(lines, ARRAY_LENGTH(lines), &(struct config_upstream){ 0 },
		 "Via: 1.0 first, 1.1 second\nAccept: a\nvia: 2 third\n" OURS);
}

static void leaves_out_control_characters(void **state)
{
	static const struct line lines[] = { { "Accept", "a\x01" },
					     { "User-Agent", "a\x7f" },
					     { "Via", "a\x1f" },
					     { "anthropic-beta", "a\tb\xc3\xa4" } };

	(void)state;
	check_up(lines, ARRAY_LENGTH(lines), &(struct config_upstream){ 0 }, "anthropic-beta: a\tb\xc3\xa4\n" OURS);
}

static void tells_that_the_arena_is_full(void **state)
{
	struct mem *mem = mem_arena(16);
	struct fields_answer answer;
	size_t count;

	(void)state;
	assert_null(fields_to_upstream(&(struct http_head){ 0 }, &(struct config_upstream){ 0 }, mem, &count));
	assert_false(fields_to_client(&(struct pool_head){ .status = 200 }, mem, 1, &answer));
	mem_arena_free(&mem);
	for (size_t ceiling = 16; ceiling <= 4096; ceiling += 16) {
		const struct pool_field sent[] = { { SLICE("X-A"), SLICE("a") }, { SLICE("X-B"), SLICE("b") } };
		mem = mem_arena(ceiling);
		if (fields_to_client(&(struct pool_head){ .status = 200, .fields = sent, .fields_count = 2 }, mem, 2,
				     &answer))
			assert_int_equal(answer.count, 3);
		mem_arena_free(&mem);
	}
}

/* ---- towards the client ----------------------------------------------------------------------------------------------- */

static void read_down(const struct line *lines, size_t count, struct mem *mem, struct fields_answer *answer)
{
	struct pool_field fields[64];
	char memory[64][100];

	assert_true(count <= ARRAY_LENGTH(fields));
	for (size_t i = 0; i < count; i++) { /* gone when this returns: what passes must be a copy */
		snprintf(memory[i], sizeof(memory[i]), "%s", lines[i].value);
		fields[i] = (struct pool_field){ slice_of(lines[i].name), slice_of(memory[i]) };
	}
	assert_true(fields_to_client(&(struct pool_head){ .status = 200, .fields = fields, .fields_count = count }, mem,
				     3, answer));
	memset(memory, 'x', sizeof(memory));
	assert_true(answer->capacity >= answer->count + 3);
}

static void passes_what_the_provider_says(void **state)
{
	static const struct line lines[] = { { "Content-Type", "text/plain" },
					     { "Content-Length", "42" },
					     { "Transfer-Encoding", "chunked" },
					     { "Connection", "close, x-hop" },
					     { "X-Hop", "1" },
					     { "Date", "now" },
					     { "Server", "cloudflare" },
					     { "Set-Cookie", "a=b" },
					     { "Set-Cookie2", "a=b" },
					     { "Alt-Svc", "h3" },
					     { "Strict-Transport-Security", "max-age=1" },
					     { "OpenAI-Organization", "org" },
					     { "openai-project", "proj" },
					     { "openai-version", "2020-10-01" },
					     { "openai-processing-ms", "12" },
					     { "X-RateLimit-Limit-Requests", "9" },
					     { "RateLimit", "x" },
					     { "RateLimit-Policy", "x" },
					     { "anthropic-ratelimit-tokens-limit", "9" },
					     { "anthropic-organization-id", "x" },
					     { "X-Sluice-Anything", "forged" },
					     { "X-Request-Id", "theirs" },
					     { "request-id", "theirs" },
					     { "CF-Ray", "x" },
					     { "NEL", "x" },
					     { "Report-To", "x" },
					     { "Access-Control-Allow-Origin", "*" },
					     { "Content-Encoding", "identity" },
					     { "Age", "3" },
					     { "Cache-Status", "edge; hit" },
					     { "Via", "1.1 google" },
					     { "Retry-After", "7" },
					     { "X-Twice", "1" },
					     { "x-twice", "2" },
					     { "X-Empty", "" } };
	static const char passed[] =
		"Content-Type: text/plain\nopenai-version: 2020-10-01\nopenai-processing-ms: 12\n"
		"request-id: theirs\nContent-Encoding: identity\nAge: 3\n"
		"Cache-Status: edge; hit\nVia: 1.1 google\nRetry-After: 7\nX-Twice: 1\nx-twice: 2\n"
		"X-Empty: \nVia: 1.1 sluice\n";
	struct mem *mem = mem_arena(1 << 16);
	struct fields_answer answer;
	struct buf out;

	(void)state;
	read_down(lines, ARRAY_LENGTH(lines), mem, &answer);
	buf_init(&out, 1 << 16);
	for (size_t i = 0; i < answer.count; i++)
		assert_true(buf_format(&out, "%.*s: %.*s\n", SLICE_ARGS(answer.fields[i].name),
				       SLICE_ARGS(answer.fields[i].value)));
	if (!slice_equal(buf_slice(&out), slice_of(passed)))
		fail_msg("\n%.*s---- wanted:\n%s", SLICE_ARGS(buf_slice(&out)), passed);
	assert_int_equal(answer.content_length, 42);
	assert_int_equal(answer.retry_after, 7 * CLOCK_SECOND);
	assert_true(slice_equal(answer.content_type, SLICE("text/plain")));
	buf_free(&out);
	mem_arena_free(&mem);
}

static void reads_how_long_to_wait(void **state)
{
	static const struct {
		struct line lines[2];
		int64_t wait;
	} cases[] = {
		{ { { "Retry-After", "0" } }, 0 },
		{ { { "retry-after", "007" } }, 7 * CLOCK_SECOND },
		{ { { "Retry-After", "0.5" } }, CLOCK_SECOND / 2 },
		{ { { "Retry-After", "-1" } }, -1 },
		{ { { "Retry-After", "" } }, -1 },
		{ { { "Retry-After", "soon" } }, -1 },
		{ { { "Retry-After", "99999999999999999999" } }, 366 * CLOCK_DAY },
		{ { { "Retry-After", "1e300" } }, 366 * CLOCK_DAY },
		{ { { "retry-after-ms", "250" } }, 250 * CLOCK_MILLISECOND },
		{ { { "retry-after-ms", "250.5" } }, 250500 },
		{ { { "retry-after-ms", "9223372036854775807" } }, 366 * CLOCK_DAY },
		/* the finer one wins, wherever it stands, when it says something */
		{ { { "retry-after-ms", "1500" }, { "Retry-After", "2" } }, 1500 * CLOCK_MILLISECOND },
		{ { { "Retry-After", "2" }, { "retry-after-ms", "1500" } }, 1500 * CLOCK_MILLISECOND },
		{ { { "Retry-After", "2" }, { "retry-after-ms", "x" } }, 2 * CLOCK_SECOND },
		{ { { "retry-after-ms", "x" }, { "Retry-After", "2" } }, 2 * CLOCK_SECOND },
		/* the three forms of a date; now is 2026-11-21 00:00:00 */
		{ { { "Retry-After", "Sat, 21 Nov 2026 00:01:00 GMT" } }, CLOCK_MINUTE },
		{ { { "Retry-After", "Saturday, 21-Nov-26 00:01:00 GMT" } }, CLOCK_MINUTE },
		{ { { "Retry-After", "Sat Nov 21 00:01:00 2026" } }, CLOCK_MINUTE },
		{ { { "Retry-After", "Sun Nov  1 00:01:00 2026" } }, 0 },
		{ { { "Retry-After", "Fri, 20 Nov 2026 23:59:59 GMT" } }, 0 },
		{ { { "Retry-After", "Sat, 21 Nov 9999 00:01:00 GMT" } }, 366 * CLOCK_DAY },
		{ { { "Retry-After", "Sat, 21 Nov 2026 00:01:00 GMT, and more" } }, -1 },
		{ { { "Retry-After", "Sat, 21 Nov 2026 00:01:00 CET" } }, -1 },
	};

	(void)state;
	clock_test_set(0, INT64_C(1795219200) * CLOCK_SECOND);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct mem *mem = mem_arena(1 << 16);
		struct fields_answer answer;
		read_down(cases[i].lines, cases[i].lines[1].name == NULL ? 1 : 2, mem, &answer);
		if (answer.retry_after != cases[i].wait)
			fail_msg("%s: %s: %lld", cases[i].lines[0].name, cases[i].lines[0].value,
				 (long long)answer.retry_after);
		mem_arena_free(&mem);
	}
	clock_test_release();
}

static void reads_the_length(void **state)
{
	static const struct {
		const char *value;
		int64_t length;
	} cases[] = { { "0", 0 },
		      { "9223372036854775807", INT64_MAX },
		      { "9223372036854775808", -1 },
		      { "-1", -1 },
		      { "1x", -1 },
		      { "", -1 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct mem *mem = mem_arena(1 << 12);
		struct fields_answer answer;
		read_down(&(struct line){ "content-length", cases[i].value }, 1, mem, &answer);
		assert_int_equal(answer.content_length, cases[i].length);
		assert_int_equal(answer.count, 1);
		mem_arena_free(&mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forwards_what_the_configuration_takes),
		cmocka_unit_test(passes_what_is_listed),
		cmocka_unit_test(keeps_the_keys_of_clients),
		cmocka_unit_test(stops_what_belongs_to_the_connection),
		cmocka_unit_test(appends_to_via),
		cmocka_unit_test(leaves_out_control_characters),
		cmocka_unit_test(tells_that_the_arena_is_full),
		cmocka_unit_test(passes_what_the_provider_says),
		cmocka_unit_test(reads_how_long_to_wait),
		cmocka_unit_test(reads_the_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

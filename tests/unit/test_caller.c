/* Keys in four places, queries, ids, deadlines, addresses behind proxies; then which fields pass. */
#include "svc/caller.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "svc/fields.h"

struct rig {
	const struct config *config;
	struct mem *mem;
	struct buf detail;
	struct http_field fields[8];
	struct http_head head;
	struct caller caller;
};

static void open_rig(struct rig *r, const char *more)
{
	char text[1000];
	struct buf error;

	snprintf(text, sizeof(text),
		 "upstreams: {o: {dialect: openai, endpoints: [{url: 'http://127.0.0.1:1'}], forward_headers: [X-Mine],"
		 " credential: {header: Authorization, value: Bearer upstream-secret}}}\n%s",
		 more);
	*r = (struct rig){ .mem = mem_arena(1 << 16) };
	buf_init(&r->detail, 512);
	buf_init(&error, 4096);
	r->config = config_parse("test", slice_of(text), &error);
	if (r->config == NULL)
		fail_msg("%.*s", (int)error.len, error.data);
	buf_free(&error);
}

static void close_rig(struct rig *r)
{
	config_release(&r->config);
	mem_arena_free(&r->mem);
	buf_free(&r->detail);
}

static const char tenants[] = "tenants: {acme: {keys: [key-of-acme]}, other: {keys: [key-of-other]}}\n";

/* "Name: value" lines; the target. */
static enum refusal read_head(struct rig *r, const char *target, const char *const *lines, size_t count,
			      const char *peer)
{
	for (size_t i = 0; i < count; i++) {
		struct slice rest, name = slice_cut(slice_of(lines[i]), ':', &rest);
		r->fields[i] = (struct http_field){ name, slice_trim(rest) };
	}
	r->head = (struct http_head){ .target = slice_of(target), .fields = r->fields, .fields_count = count };
	return caller_read(r->config, &r->head, slice_of(peer), r->mem, &r->caller, &r->detail);
}

static void test_keys_in_four_places(void **state)
{
	static const struct {
		const char *target, *lines[2], *tenant;
		enum refusal refusal;
		bool google;
	} cases[] = {
		{ "/", { "Authorization: Bearer key-of-acme" }, "acme", REFUSAL_none, false },
		{ "/", { "authorization: bearer   key-of-other" }, "other", REFUSAL_none, false },
		{ "/", { "x-api-key: key-of-acme" }, "acme", REFUSAL_none, false },
		{ "/", { "x-goog-api-key: key-of-acme" }, "acme", REFUSAL_none, true },
		{ "/?key=key-of-acme", { NULL }, "acme", REFUSAL_none, true },
		{ "/?key=%6bey-of-acme&a=b", { NULL }, "acme", REFUSAL_none, true },
		{ "/?key=key-of-acme", { "x-api-key: key-of-acme" }, "acme", REFUSAL_none, true },
		{ "/?key=key-of-acme", { "x-api-key: key-of-other" }, NULL, REFUSAL_invalid_request, true },
		{ "/",
		  { "Authorization: Bearer key-of-acme", "x-api-key: key-of-other" },
		  NULL,
		  REFUSAL_invalid_request,
		  false },
		{ "/", { "Authorization: Basic key-of-acme" }, NULL, REFUSAL_invalid_api_key, false },
		{ "/", { "x-api-key: key-of-acm" }, NULL, REFUSAL_invalid_api_key, false },
		{ "/?key=%zz", { NULL }, NULL, REFUSAL_invalid_api_key, true },
		{ "/?key=", { NULL }, NULL, REFUSAL_invalid_api_key, true },
		{ "/", { NULL }, NULL, REFUSAL_invalid_api_key, false },
	};
	struct rig r;

	(void)state;
	open_rig(&r, tenants);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		size_t count = (cases[i].lines[0] != NULL) + (size_t)(cases[i].lines[1] != NULL);
		assert_int_equal(read_head(&r, cases[i].target, cases[i].lines, count, "192.0.2.1"), cases[i].refusal);
		assert_int_equal(r.caller.google_key, cases[i].google);
		if (cases[i].tenant == NULL)
			assert_null(r.caller.tenant);
		else
			assert_string_equal(r.caller.tenant->name, cases[i].tenant);
	}
	close_rig(&r);
}

static void test_who_is_anonymous(void **state)
{
	const char *wrong[] = { "x-api-key: anything-at-all" };
	struct rig r;

	(void)state;
	open_rig(&r, "");
	assert_int_equal(read_head(&r, "/", NULL, 0, "unix"), REFUSAL_none);
	assert_int_equal(read_head(&r, "/", wrong, 1, "unix"), REFUSAL_none); /* SDKs insist on a key */
	assert_null(r.caller.tenant);
	close_rig(&r);
	open_rig(&r, "allow_anonymous: true\ntenants: {acme: {keys: [key-of-acme]}}\n");
	assert_int_equal(read_head(&r, "/", NULL, 0, "unix"), REFUSAL_none);
	assert_int_equal(read_head(&r, "/", wrong, 1, "unix"), REFUSAL_invalid_api_key);
	close_rig(&r);
}

static void test_the_key_leaves_the_query(void **state)
{
	static const char *const cases[][3] = { { "/a/b?x=1&key=key-of-acme&y=2", "/a/b", "x=1&y=2" },
						{ "/a?key=key-of-acme", "/a", "" },
						{ "/a?keys=1&key=key-of-acme", "/a", "keys=1" },
						{ "/a?alt=sse", "/a", "alt=sse" },
						{ "/a", "/a", "" } };
	struct rig r;

	(void)state;
	open_rig(&r, tenants);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		(void)!read_head(&r, cases[i][0], NULL, 0, "unix");
		assert_true(slice_equal(r.caller.path, slice_of(cases[i][1])));
		assert_true(slice_equal(r.caller.query, slice_of(cases[i][2])));
	}
	close_rig(&r);
}

static void test_ids_and_deadlines(void **state)
{
	static const struct {
		const char *line;
		int64_t deadline;
		bool id;
	} cases[] = {
		{ "X-Request-Id: abc.DEF-1_2", 0, true },
		{ "X-Request-Id: a b", 0, false },
		{ "X-Request-Id: ", 0, false },
		{ "x-stainless-timeout: 600", 600 * CLOCK_SECOND, false },
		{ "X-Server-Timeout: 1.5", 1500 * CLOCK_MILLISECOND, false },
		{ "x-stainless-timeout: 0", 0, false },
		{ "x-stainless-timeout: -5", 0, false },
		{ "x-stainless-timeout: soon", 0, false },
		{ "x-stainless-timeout: 99999999999", CLOCK_DAY, false },
	};
	const char *both[] = { "x-stainless-timeout: 9", "X-Server-Timeout: 3" };
	struct rig r;

	(void)state;
	open_rig(&r, "");
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(read_head(&r, "/", &cases[i].line, 1, "unix"), REFUSAL_none);
		assert_int_equal(r.caller.deadline, cases[i].deadline);
		assert_int_equal(r.caller.request_id.len > 0, cases[i].id);
	}
	assert_int_equal(read_head(&r, "/", both, 2, "unix"), REFUSAL_none);
	assert_int_equal(r.caller.deadline, 3 * CLOCK_SECOND);
	close_rig(&r);
}

/* A proxy that adds a field of its own: what the client wrote before is nobody's word. */
static void test_several_forwarding_fields(void **state)
{
	const char *lines[] = { "X-Forwarded-For: 203.0.113.66", "X-Other: 1",
				"X-Forwarded-For: 203.0.113.9, 10.9.9.9" };
	struct rig r;

	(void)state;
	open_rig(&r, "trusted_proxies: [10.0.0.0/8]\n");
	assert_int_equal(read_head(&r, "/", lines, ARRAY_LENGTH(lines), "10.1.2.3"), REFUSAL_none);
	assert_true(slice_equal(r.caller.address, SLICE("203.0.113.9")));
	close_rig(&r);
}

static void test_addresses_behind_proxies(void **state)
{
	static const struct {
		const char *peer, *line, *address;
	} cases[] = {
		{ "10.1.2.3", "X-Forwarded-For: 203.0.113.9", "203.0.113.9" },
		{ "10.1.2.3", "X-Forwarded-For: 1.1.1.1, 203.0.113.9",
		  "203.0.113.9" }, /* only the last is a trusted one's word */
		{ "10.1.2.3", "X-Forwarded-For: 203.0.113.9, 10.9.9.9", "203.0.113.9" }, /* two trusted ones in a row */
		{ "192.0.2.7", "X-Forwarded-For: 203.0.113.9", "192.0.2.7" },            /* nobody we trust */
		{ "10.1.2.3", "X-Forwarded-For: nonsense", "10.1.2.3" },
		{ "2001:db8::1", "X-Forwarded-For: 2001:db9::5", "2001:db9::5" },
		{ "2001:db9::1", "X-Forwarded-For: 203.0.113.9", "2001:db9::1" },
		{ "unix", "X-Forwarded-For: 203.0.113.9", "203.0.113.9" },
	};
	struct rig r;

	(void)state;
	open_rig(&r, "trusted_proxies: [10.0.0.0/8, '2001:db8::/33', unix]\n");
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(read_head(&r, "/", &cases[i].line, 1, cases[i].peer), REFUSAL_none);
		assert_true(slice_equal(r.caller.address, slice_of(cases[i].address)));
	}
	close_rig(&r);
}

/* ---- fields ------------------------------------------------------------------------------------------------------------ */

static bool has(const struct pool_field *fields, size_t count, const char *name, const char *value)
{
	for (size_t i = 0; i < count; i++)
		if (slice_equal_nocase(fields[i].name, slice_of(name)) && slice_equal(fields[i].value, slice_of(value)))
			return true;
	return false;
}

static void test_what_goes_up(void **state)
{
	const char *lines[] = { "Content-Type: application/json",
				"X-Mine: yes",
				"X-Other: no",
				"Authorization: Bearer key-of-acme",
				"Connection: x-mine-not",
				"Via: 1.0 before",
				"x-goog-api-client: a",
				"x-goog-api-key: key" };
	struct rig r;
	const struct pool_field *fields;
	size_t count;

	(void)state;
	open_rig(&r, "");
	(void)!read_head(&r, "/", lines, ARRAY_LENGTH(lines), "unix");
	fields = fields_to_upstream(&r.head, &r.config->upstreams[0], r.mem, &count);
	assert_non_null(fields);
	assert_int_equal(count, 6);
	assert_true(has(fields, count, "content-type", "application/json") && has(fields, count, "X-Mine", "yes"));
	assert_true(has(fields, count, "Authorization", "Bearer upstream-secret") &&
		    has(fields, count, "x-goog-api-client", "a"));
	assert_true(has(fields, count, "Via", "1.0 before, 1.1 sluice") &&
		    has(fields, count, "Accept-Encoding", "identity"));
	close_rig(&r);
}

static void test_what_comes_down(void **state)
{
	const struct pool_field sent[] = { { SLICE("Content-Type"), SLICE("text/plain") },
					   { SLICE("Set-Cookie"), SLICE("a=b") },
					   { SLICE("content-length"), SLICE("42") },
					   { SLICE("Connection"), SLICE("close, x-hop") },
					   { SLICE("X-Hop"), SLICE("1") },
					   { SLICE("X-RateLimit-Limit-Requests"), SLICE("9") },
					   { SLICE("Retry-After"), SLICE("7") },
					   { SLICE("openai-organization"), SLICE("org") },
					   { SLICE("X-Bad"), SLICE("a\x01") },
					   { SLICE("request-id"), SLICE("theirs") } };
	struct fields_answer answer;
	struct rig r;

	(void)state;
	open_rig(&r, "");
	assert_true(fields_to_client(
		&(struct pool_head){ .status = 200, .fields = sent, .fields_count = ARRAY_LENGTH(sent) }, r.mem, 3,
		&answer));
	assert_int_equal(answer.count, 4); /* type, Retry-After, request-id, Via */
	assert_true(answer.capacity >= answer.count + 3);
	assert_int_equal(answer.content_length, 42);
	assert_int_equal(answer.retry_after, 7 * CLOCK_SECOND);
	assert_true(slice_equal(answer.content_type, SLICE("text/plain")));
	close_rig(&r);
}

static void test_retry_after_as_a_date(void **state)
{
	const struct pool_field sent[] = { { SLICE("Retry-After"), SLICE("Sat, 21 Nov 2026 00:01:00 GMT") },
					   { SLICE("retry-after"), SLICE("x") } };
	struct fields_answer answer;
	struct rig r;

	(void)state;
	open_rig(&r, "");
	clock_test_set(0, INT64_C(1795219200) * CLOCK_SECOND); /* a minute before */
	assert_true(fields_to_client(&(struct pool_head){ .status = 429, .fields = sent, .fields_count = 1 }, r.mem, 0,
				     &answer));
	assert_int_equal(answer.retry_after, 60 * CLOCK_SECOND);
	clock_test_advance(CLOCK_HOUR);
	assert_true(fields_to_client(&(struct pool_head){ .status = 429, .fields = sent, .fields_count = 1 }, r.mem, 0,
				     &answer));
	assert_int_equal(answer.retry_after, 0);
	clock_test_release();
	assert_true(fields_to_client(&(struct pool_head){ .status = 429, .fields = sent + 1, .fields_count = 1 }, r.mem,
				     0, &answer));
	assert_int_equal(answer.retry_after, -1);
	close_rig(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_in_four_places),
		cmocka_unit_test(test_who_is_anonymous),
		cmocka_unit_test(test_the_key_leaves_the_query),
		cmocka_unit_test(test_ids_and_deadlines),
		cmocka_unit_test(test_addresses_behind_proxies),
		cmocka_unit_test(test_several_forwarding_fields),
		cmocka_unit_test(test_what_goes_up),
		cmocka_unit_test(test_what_comes_down),
		cmocka_unit_test(test_retry_after_as_a_date),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

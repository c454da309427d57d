/* Keys in four places, queries, ids, deadlines, addresses behind proxies. */
#include "svc/caller.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>

#include "lib/buf.h"
#include "lib/clock.h"

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

	snprintf(text, sizeof(text), "upstreams: {o: {dialect: openai, endpoints: [{url: 'http://127.0.0.1:1'}]}}\n%s",
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
		{ "/?%6b%65%79=key-of-acme", { NULL }, "acme", REFUSAL_none, true },
		{ "/?k%65y=key-of-other", { "x-api-key: key-of-acme" }, NULL, REFUSAL_invalid_request, true },
		{ "/?key=key-of-acme&key=key-of-acme", { NULL }, "acme", REFUSAL_none, true },
		{ "/?key=key-of-acme&key=key-of-other", { NULL }, NULL, REFUSAL_invalid_request, true },
		{ "/?key=", { "x-api-key: key-of-acme" }, "acme", REFUSAL_none, true },
		{ "/", { "X-API-Key: key-of-acme", "Authorization: Negotiate zzz" }, "acme", REFUSAL_none, false },
		{ "/",
		  { "Authorization: Bearer key-of-acme", "authorization: Bearer key-of-acme" },
		  "acme",
		  REFUSAL_none,
		  false },
		{ "/", { "Authorization: Bearer" }, NULL, REFUSAL_invalid_api_key, false },
		{ "/?KEY=key-of-acme", { NULL }, NULL, REFUSAL_invalid_api_key, false },
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

/* Missing, unknown and where it stood are told apart; nothing of the key is repeated. */
static void test_what_is_wrong_with_a_key(void **state)
{
	static const char none[] = "No key came in Authorization: Bearer, x-api-key, x-goog-api-key or ?key=.";
	static const struct {
		const char *target, *lines[2], *detail;
	} cases[] = {
		{ "/", { NULL }, none },
		{ "/?key=", { "Authorization: " }, none },
		{ "/?KEY=zzzz", { "Authorization: Bearer" }, none },
		{ "/", { "Authorization: Bearer zzzz" }, "The key came in Authorization and is unknown." },
		{ "/", { "x-api-key: zzzz" }, "The key came in x-api-key and is unknown." },
		{ "/", { "X-Goog-Api-Key: zzzz" }, "The key came in x-goog-api-key and is unknown." },
		{ "/?key=zzzz", { NULL }, "The key came in ?key= and is unknown." },
		{ "/?key=%zz", { NULL }, "The key came in ?key= and is unknown." },
		{ "/?key=zzzz", { "x-api-key: zzzz" }, "The key came in x-api-key and is unknown." },
		{ "/", { "Authorization: zzzz" }, "The scheme of Authorization must be Bearer." },
		{ "/", { "Authorization: key-of-acme" }, "The scheme of Authorization must be Bearer." },
		{ "/", { "Authorization: Basic zzzz" }, "The scheme of Authorization must be Bearer." },
		{ "/",
		  { "Authorization: Basic zzzz", "x-api-key: zzzz" },
		  "The key came in x-api-key and is unknown." },
	};
	struct rig r;

	(void)state;
	open_rig(&r, tenants);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		size_t count = (cases[i].lines[0] != NULL) + (size_t)(cases[i].lines[1] != NULL);
		buf_clear(&r.detail);
		assert_int_equal(read_head(&r, cases[i].target, cases[i].lines, count, "192.0.2.1"),
				 REFUSAL_invalid_api_key);
		if (!slice_equal(buf_slice(&r.detail), slice_of(cases[i].detail)))
			fail_msg("case %zu: %.*s", i, SLICE_ARGS(buf_slice(&r.detail)));
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
						{ "/a?x=1&%6Bey=key-of-acme", "/a", "x=1" },
						{ "/a?%6b%65%79=%zz&x=1", "/a", "x=1" },
						{ "/a?key&x=1&key", "/a", "x=1" },
						{ "/a?mykey=1&keyx=2&ke=3", "/a", "mykey=1&keyx=2&ke=3" },
						{ "/a?x=%6bey%3D1", "/a", "x=%6bey%3D1" },
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

/* Urgencies of RFC 9218; a tenant's priority is where its requests begin, and none goes before it. */
static void test_lanes(void **state)
{
	static const struct {
		const char *priority, *key;
		enum lane lane;
	} cases[] = {
		{ NULL, "any", LANE_MEDIUM },    { "u=0", "any", LANE_HIGH },      { "u=2, i", "any", LANE_HIGH },
		{ "u=3", "any", LANE_MEDIUM },   { "u=4", "any", LANE_MEDIUM },    { "i, u=5", "any", LANE_LOW },
		{ "u=7;x=1", "any", LANE_LOW },  { "u=8", "any", LANE_MEDIUM },    { "u=-1", "any", LANE_MEDIUM },
		{ "u=1, u=6", "any", LANE_LOW }, { "i", "any", LANE_MEDIUM },      { NULL, "high", LANE_HIGH },
		{ "u=3", "high", LANE_MEDIUM },  { "u=7", "high", LANE_LOW },      { "nonsense", "high", LANE_HIGH },
		{ NULL, "medium", LANE_MEDIUM }, { "u=0", "medium", LANE_MEDIUM }, { "u=6", "medium", LANE_LOW },
		{ NULL, "low", LANE_LOW },       { "u=0", "low", LANE_LOW },
	};
	struct rig r;

	(void)state;
	open_rig(&r, "tenants: {a: {keys: [key-of-any]}, h: {keys: [key-of-high], priority: high}, m: {keys: "
		     "[key-of-medium], priority: medium}, l: {keys: [key-of-low], priority: low}}\n");
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		char key[40], priority[40];
		const char *lines[] = { key, priority };
		snprintf(key, sizeof(key), "x-api-key: key-of-%s", cases[i].key);
		snprintf(priority, sizeof(priority), "Priority: %s",
			 cases[i].priority != NULL ? cases[i].priority : "");
		assert_int_equal(read_head(&r, "/", lines, cases[i].priority != NULL ? 2 : 1, "unix"), REFUSAL_none);
		if (r.caller.lane != cases[i].lane)
			fail_msg("%s, %s: lane %s", cases[i].key, lines[1], lane_name(r.caller.lane));
	}
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

/* One case: the lines of X-Forwarded-For as they came, and whom they make of the peer. */
struct forwarded {
	const char *peer, *lines[3], *address;
};

static void check_addresses(const char *trusted, const struct forwarded *cases, size_t count)
{
	struct rig r;

	open_rig(&r, trusted);
	for (size_t i = 0; i < count; i++) {
		char memory[3][200];
		const char *lines[3];
		size_t lines_count = 0;
		for (; lines_count < 3 && cases[i].lines[lines_count] != NULL; lines_count++) {
			snprintf(memory[lines_count], sizeof(memory[0]), "X-Forwarded-For: %s",
				 cases[i].lines[lines_count]);
			lines[lines_count] = memory[lines_count];
		}
		assert_int_equal(read_head(&r, "/", lines, lines_count, cases[i].peer), REFUSAL_none);
		if (!slice_equal(r.caller.address, slice_of(cases[i].address)))
			fail_msg("%s, %s: %.*s, not %s", cases[i].peer, cases[i].lines[0], SLICE_ARGS(r.caller.address),
				 cases[i].address);
	}
	close_rig(&r);
}

static void test_addresses_behind_proxies(void **state)
{
	static const struct forwarded cases[] = {
		{ "10.1.2.3", { NULL }, "10.1.2.3" },
		{ "10.1.2.3", { "203.0.113.9" }, "203.0.113.9" },
		/* only the last is a trusted one's word */
		{ "10.1.2.3", { "1.1.1.1, 203.0.113.9" }, "203.0.113.9" },
		/* two trusted ones in a row */
		{ "10.1.2.3", { "203.0.113.9, 10.9.9.9" }, "203.0.113.9" },
		/* nobody we trust */
		{ "192.0.2.7", { "203.0.113.9" }, "192.0.2.7" },
		{ "11.0.0.0", { "203.0.113.9" }, "11.0.0.0" },
		{ "10.1.2.3", { "nonsense" }, "10.1.2.3" },
		{ "10.1.2.3", { "203.0.113.9, nonsense" }, "10.1.2.3" },
		{ "10.1.2.3", { "203.0.113.9," }, "10.1.2.3" },
		{ "2001:db8::1", { "2001:db9::5" }, "2001:db9::5" },
		{ "2001:db8:8000::1", { "2001:db9::5" }, "2001:db8:8000::1" },
		{ "2001:db9::1", { "203.0.113.9" }, "2001:db9::1" },
		{ "unix", { "203.0.113.9" }, "203.0.113.9" },
		{ "192.0.2.8", { "203.0.113.9" }, "203.0.113.9" },
	};

	(void)state;
	check_addresses("trusted_proxies: [10.0.0.0/8, '2001:db8::/33', unix, 192.0.2.8]\n", cases,
			ARRAY_LENGTH(cases));
}

/* A client may bring a line of its own, and HAProxy adds its word as another: the last line is the last word. */
static void test_no_client_forges_its_address(void **state)
{
	static const struct forwarded cases[] = {
		{ "10.1.2.3", { "1.1.1.1", "203.0.113.9" }, "203.0.113.9" },
		{ "10.1.2.3", { "1.1.1.1", "203.0.113.9", "10.7.7.7" }, "203.0.113.9" },
		{ "10.1.2.3", { "1.1.1.1", "nonsense", "10.7.7.7" }, "10.7.7.7" },
		{ "10.1.2.3", { "203.0.113.9", "", "10.7.7.7, 10.8.8.8" }, "203.0.113.9" },
	};

	(void)state;
	check_addresses("trusted_proxies: 10.0.0.0/8\n", cases, ARRAY_LENGTH(cases));
}

/* As some proxies write it: with a port, or an IPv4 address as IPv6 sees it. */
static void test_spellings_of_addresses(void **state)
{
	static const struct forwarded cases[] = {
		{ "10.1.2.3", { "203.0.113.9:4711" }, "203.0.113.9" },
		{ "10.1.2.3", { "[2001:db8::5]:4711" }, "2001:db8::5" },
		{ "10.1.2.3", { "[2001:db8::5]" }, "2001:db8::5" },
		{ "10.1.2.3", { "203.0.113.9, ::ffff:10.4.4.4" }, "203.0.113.9" },
		{ "10.1.2.3", { "203.0.113.9, [::ffff:10.4.4.4]:99" }, "203.0.113.9" },
		{ "10.1.2.3", { "[203.0.113.9" }, "10.1.2.3" },
		{ "172.16.0.9", { "203.0.113.9" }, "203.0.113.9" },
		{ "172.32.0.9", { "203.0.113.9" }, "172.32.0.9" },
	};
	/* A network of IPv6 holds no address of IPv4, however wide it is. */
	static const struct forwarded wide[] = { { "2001:db8::5", { "10.1.1.1" }, "10.1.1.1" },
						 { "10.1.2.3", { "203.0.113.9" }, "10.1.2.3" } };

	(void)state;
	check_addresses("trusted_proxies: [10.0.0.0/8, '::ffff:172.16.0.0/108']\n", cases, ARRAY_LENGTH(cases));
	check_addresses("trusted_proxies: '::/0'\n", wide, ARRAY_LENGTH(wide));
}

/* Somebody may send a list as long as a head; it costs no more than a chain of proxies that exists. */
static void test_a_long_chain_ends(void **state)
{
	static char line[20000] = "X-Forwarded-For: 203.0.113.9";
	const char *lines[] = { line };
	struct rig r;

	(void)state;
	for (size_t length = strlen(line); length < sizeof(line) - 20; length += strlen(line + length))
		memcpy(line + length, ", 10.0.0.1", sizeof(", 10.0.0.1"));
	open_rig(&r, "trusted_proxies: 10.0.0.0/8\n");
	assert_int_equal(read_head(&r, "/", lines, 1, "10.0.0.2"), REFUSAL_none);
	assert_true(slice_equal(r.caller.address, SLICE("10.0.0.1")));
	close_rig(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_in_four_places),
		cmocka_unit_test(test_what_is_wrong_with_a_key),
		cmocka_unit_test(test_who_is_anonymous),
		cmocka_unit_test(test_the_key_leaves_the_query),
		cmocka_unit_test(test_lanes),
		cmocka_unit_test(test_ids_and_deadlines),
		cmocka_unit_test(test_several_forwarding_fields),
		cmocka_unit_test(test_addresses_behind_proxies),
		cmocka_unit_test(test_no_client_forges_its_address),
		cmocka_unit_test(test_spellings_of_addresses),
		cmocka_unit_test(test_a_long_chain_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

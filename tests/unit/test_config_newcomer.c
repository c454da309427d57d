/* What a newcomer writes, out of habit from other programs: none of it is taken for something else, and the words say what to write instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/config_rig.h"

#define U CONFIG_RIG_UPSTREAMS

/* clang-format off */
#define KEYS(keys)        U "tenants: {a: {keys: [" keys "]}}\n"
#define CREDENTIAL(value) "upstreams: {u: {dialect: openai, endpoints: [{url: 'https://h'}], credential: {header: Authorization, value: " value "}}}\n"
#define PLAIN             "; a plain $ can come out of a ${NAME} or ${file:PATH}\n"
#define HIDDEN            "a $ in front of a name stands for nothing; allowed: ${NAME}" PLAIN

/* A key that everybody could guess, or a provider's key that is the name of one. */
static void refuses_a_variable_without_braces(void **state)
{
	static const struct config_rig_case cases[] = {
		{ KEYS("$ACME_KEY"), "t:2: tenants.a.keys[0]: found \"$ACME_KEY\", which stands for nothing; allowed: ${ACME_KEY}" PLAIN },
		{ KEYS("12345678, 'sha256:$_KEY2'"), "t:2: tenants.a.keys[1]: " HIDDEN },
		{ CREDENTIAL("'Bearer $OPENAI_API_KEY'"),
		  "t:1: upstreams.u.credential.value: found \"$OPENAI_API_KEY\", which stands for nothing; allowed: ${OPENAI_API_KEY}" PLAIN },
		{ U "admin_token: \"$SLUICE_ADMIN_TOKEN\"\n",
		  "t:2: admin_token: found \"$SLUICE_ADMIN_TOKEN\", which stands for nothing; allowed: ${SLUICE_ADMIN_TOKEN}" PLAIN },
		{ U "redis: {url: 'redis://:$REDIS_PASSWORD@h'}\n", "t:2: redis.url: " HIDDEN },
		{ KEYS("'${SLUICE_TEST_DOLLAR}$MORE'"), "t:2: tenants.a.keys[0]: " HIDDEN },
		{ KEYS("'$$ACME_KEY'"), "t:2: tenants.a.keys[0]: " HIDDEN },
	};
	(void)state;
	setenv("SLUICE_TEST_DOLLAR", "-$CANARY-$CANARY", 1);
	CONFIG_RIG_JUDGE(cases);
}

/* What may be a part of a secret is not told, though it is one that cannot be used. */
static void tells_no_part_of_a_secret_with_a_dollar(void **state)
{
	static const struct config_rig_case cases[] = {
		{ KEYS("CANARY$CANARY"), "t:2: tenants.a.keys[0]: " HIDDEN },
		{ KEYS("'k.7f-$CANARY'"), "t:2: tenants.a.keys[0]: " HIDDEN },
		{ CREDENTIAL("'Bearer xk9-$CANARY'"), "t:1: upstreams.u.credential.value: " HIDDEN },
		{ CREDENTIAL("'Bearer $CANARY-9'"), "t:1: upstreams.u.credential.value: " HIDDEN },
		{ KEYS("'-$Canary-'"), "t:2: tenants.a.keys[0]: " HIDDEN },
		{ KEYS("'-$canary-'"), "t:2: tenants.a.keys[0]: " HIDDEN },
		{ KEYS("'-$CANARYCANARYCANARYCANARYCANARYCANARYCANARYCANARYCANARYCANARYCANARY'"), "t:2: tenants.a.keys[0]: " HIDDEN },
		{ U "redis: {url: 'redis://:can$arY@h'}\n", "t:2: redis.url: " HIDDEN },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void takes_a_dollar_that_no_name_follows(void **state)
{
	static const struct config_rig_case cases[] = {
		{ KEYS("1234567$"), NULL }, { KEYS("$1234567"), NULL }, { KEYS("'12$ $$34'"), "t:2: tenants.a.keys[0]: the value is not valid; "
		  "allowed: 8 to 512 bytes without blanks, or sha256: and 64 hexadecimal digits\n" },
		{ KEYS("'$${ACME_KEY}'"), NULL }, { KEYS("'${SLUICE_TEST_DOLLAR}'"), NULL }, { CREDENTIAL("'Bearer ${SLUICE_TEST_DOLLAR}'"), NULL },
		{ "upstreams: {u: {dialect: openai, endpoints: [{url: 'https://h', region: $HOME}]}}\n", NULL },
	};
	(void)state;
	setenv("SLUICE_TEST_DOLLAR", "-$CANARY-$CANARY", 1);
	CONFIG_RIG_JUDGE(cases);
}

#define URL(dialect, url) "upstreams:\n  u:\n    dialect: " dialect "\n    endpoints: [{url: '" url "'}]\n"
#define NO_VERSION(version) "t:4: upstreams.u.endpoints[0].url: the path of each call begins with its own version; allowed: the same without /" version " at its end\n"

static void refuses_an_address_with_the_version_of_the_calls(void **state)
{
	static const struct config_rig_case cases[] = {
		{ URL("openai", "https://api.openai.com/v1"), NO_VERSION("v1") }, { URL("openai", "https://h/api/v1/"), NO_VERSION("v1") },
		{ URL("anthropic", "https://h/v1//"), NO_VERSION("v1") }, { URL("gemini", "https://h/v1beta"), NO_VERSION("v1beta") },
		{ URL("gemini", "https://h:1/v1beta/"), NO_VERSION("v1beta") }, { URL("gemini", "https://h/v1alpha"), NO_VERSION("v1alpha") },
		{ URL("gemini", "https://h/v1beta1"), NO_VERSION("v1beta1") }, { URL("openai", "${SLUICE_TEST_URL}"), NO_VERSION("v1") },
		{ URL("http", "https://h/v1"), NULL }, { URL("http", "https://h/v1beta/"), NULL }, { URL("openai", "https://v1/"), NULL },
		{ URL("openai", "https://h/v1/account"), NULL }, { URL("openai", "https://h/av1"), NULL }, { URL("openai", "https://h/v12"), NULL },
	};
	(void)state;
	setenv("SLUICE_TEST_URL", "https://CANARY/v1", 1);
	CONFIG_RIG_JUDGE(cases);
}

#define TAB(line) "t:" #line ": not YAML: found a tab where the indentation is; allowed: blanks\n"

static void calls_a_tab_a_tab(void **state)
{
	static const struct config_rig_case cases[] = {
		{ "redis:\n\turl: embedded\n", TAB(2) }, { "a: b\n\tc: d\n", TAB(2) }, { "# \xe2\x82\xac\xe2\x82\xac\r\nredis:\r\n  \turl: embedded\r\n", TAB(3) },
		{ "\xEF\xBB\xBFredis:\n\turl: embedded\n", TAB(2) }, { "a:\n  -\tb: c\n", TAB(2) }, { "a: |\n\tb\n", TAB(2) },
		{ "a: @b\n\tc\n", "t:1: not YAML: found character that cannot start any token, while scanning for the next token\n" },
		{ "\t\xff\n", "t:1: not YAML: invalid leading UTF-8 octet\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

/* The mapping's first key that is needed, or its first one. */
static void shows_which_mapping_is_meant(void **state)
{
	static const struct config_rig_case cases[] = {
		{ "upstreams: {u: {dialect: openai, endpoints: ['https://CANARY']}}\n", "t:1: upstreams.u.endpoints[0]: found a value; allowed: a mapping as {url: …}\n" },
		{ "upstreams: {u: {dialect: openai, endpoints: 5}}\n", "t:1: upstreams.u.endpoints: found \"5\"; allowed: a list as [{url: …}]\n" },
		{ U "models: {m: {targets: [u]}}\n", "t:2: models.m.targets[0]: found a value; allowed: a mapping as {upstream: …}\n" },
		{ U "models: {m: {targets: {upstream: u}}}\n", "t:2: models.m.targets: found a mapping; allowed: a list as [{upstream: …}]\n" },
		{ U "models: {m: u}\n", "t:2: models.m: found a value; allowed: a mapping as {targets: …}\n" },
		{ U "redis: embedded\n", "t:2: redis: found a value; allowed: a mapping as {url: …}\n" },
		{ U "tenants: {a: }\n", "t:2: tenants.a: found nothing; allowed: a mapping as {keys: …}\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

#define FORMS "; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n"

static void says_how_large_a_port_may_be(void **state)
{
	static const struct config_rig_case cases[] = {
		{ "listen: 127.0.0.1:80800\n" U, "t:1: listen: found \"127.0.0.1:80800\"" FORMS },
		{ "admin: '[::1]:80800'\n" U, "t:1: admin: found \"[::1]:80800\"; allowed: off, host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ URL("openai", "https://h:80800"), "t:4: upstreams.u.endpoints[0].url: not an address without query or user; "
		  "allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

#define RATES(limits) U "tenants: {a: {keys: [12345678], limits: {" limits "}}}\n"

static void says_how_a_rate_is_written(void **state)
{
	static const struct config_rig_case cases[] = {
		{ RATES("rpm: 6/min"),
		  "t:2: tenants.a.limits.rpm: found \"6/min\"; allowed: a count as 150, 400k, 4M, or {limit, burst}, for the period in the key's name; 1 to 1000G\n" },
		{ RATES("rpm: {limit: 6/min}"), "t:2: tenants.a.limits.rpm.limit: found \"6/min\"; allowed: a count as 150, 400k, 4M; 1 to 1000G\n" },
		{ RATES("concurrency: many"), "t:2: tenants.a.limits.concurrency: found \"many\"; allowed: a count as 150, 400k, 4M; 1 to 1000G\n" },
		{ RATES("rpm: 0"), "t:2: tenants.a.limits.rpm: found \"0\"; allowed: 1 to 1000G\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}
/* clang-format on */

static void counts_in_words_that_fit(void **state)
{
	static const char *const cases[][2] = {
		{ U, "1 upstream, 0 models, 0 tenants" },
		{ U "models: {m: {targets: [{upstream: u}]}}\ntenants: {a: {keys: [12345678]}}\n",
		  "1 upstream, 1 model, 1 tenant" },
		{ "upstreams:\n  a: {dialect: openai, endpoints: [{url: 'http://h'}]}\n  b: {dialect: openai, "
		  "endpoints: "
		  "[{url: 'http://h'}]}\nmodels: {m: {targets: [{upstream: a}]}, n: {targets: [{upstream: b}]}}\n"
		  "tenants: {a: {keys: [12345678]}, b: {keys: [87654321]}}\n",
		  "2 upstreams, 2 models, 2 tenants" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct config *c = config_rig_take(cases[i][0]);
		struct buf told;
		buf_init(&told, 1000);
		config_write_summary(c, &told);
		buf_append_byte(&told, '\0');
		assert_string_equal(told.data, cases[i][1]);
		buf_free(&told);
		config_release(&c);
	}
}

static void counts_one_more_mistake(void **state)
{
	struct buf text, error;

	(void)state;
	buf_init(&text, 4000);
	for (int i = 0; i < 20; i++)
		buf_format(&text, "nonsense-%d: 1\n", i);
	buf_append_byte(&text, '\0');
	assert_null(config_rig_parse(text.data, &error)); /* these, and no upstreams */
	assert_string_equal(strstr(error.data, "t: 1 more"), "t: 1 more mistake\n");
	buf_free(&error);
	buf_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_a_variable_without_braces),
		cmocka_unit_test(tells_no_part_of_a_secret_with_a_dollar),
		cmocka_unit_test(takes_a_dollar_that_no_name_follows),
		cmocka_unit_test(refuses_an_address_with_the_version_of_the_calls),
		cmocka_unit_test(calls_a_tab_a_tab),
		cmocka_unit_test(shows_which_mapping_is_meant),
		cmocka_unit_test(says_how_large_a_port_may_be),
		cmocka_unit_test(says_how_a_rate_is_written),
		cmocka_unit_test(counts_in_words_that_fit),
		cmocka_unit_test(counts_one_more_mistake),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

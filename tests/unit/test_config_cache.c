/* The sections cache and coalesce: what they come to, which Redis the cache may have, and what is warned of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/config_rig.h"

#define U CONFIG_RIG_UPSTREAMS

static void reads_every_key(void **state)
{
	const struct config *c = config_rig_take(
		U "cache: {ttl: 2h, stale_while_revalidate: 3m, stale_if_error: 4d, when: asked, scope: shared,\n"
		  "  max_body: 5KiB, local: 6MiB, redis: 'redis://user:password@redis:6380/3', count_hits: true}\n"
		  "coalesce: {when: never, window: 7s, streams: false}\n");

	(void)state;
	assert_int_equal(c->cache.ttl, 2 * CLOCK_HOUR);
	assert_int_equal(c->cache.stale_while_revalidate, 3 * CLOCK_MINUTE);
	assert_int_equal(c->cache.stale_if_error, 4 * CLOCK_DAY);
	assert_int_equal(c->cache.when, CONFIG_WHEN_ASKED);
	assert_int_equal(c->cache.scope, CONFIG_SCOPE_SHARED);
	assert_int_equal(c->cache.max_body, 5 << 10);
	assert_int_equal(c->cache.local, 6 << 20);
	assert_string_equal(c->cache.redis, "redis://user:password@redis:6380/3");
	assert_true(c->cache.count_hits);
	assert_int_equal(c->coalesce.when, CONFIG_WHEN_NEVER);
	assert_int_equal(c->coalesce.window, 7 * CLOCK_SECOND);
	assert_false(c->coalesce.streams);
	config_release(&c);
}

/* Whether the sections are not there, or are and say nothing. */
static void knows_the_defaults(void **state)
{
	static const char *const texts[] = { U, U "cache: {}\ncoalesce: {}\n" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		const struct config *c = config_rig_take(texts[i]);
		assert_int_equal(c->cache.ttl, CLOCK_HOUR);
		assert_int_equal(c->cache.stale_while_revalidate, 10 * CLOCK_MINUTE);
		assert_int_equal(c->cache.stale_if_error, 24 * CLOCK_HOUR);
		assert_int_equal(c->cache.when, CONFIG_WHEN_DETERMINISTIC);
		assert_int_equal(c->cache.scope, CONFIG_SCOPE_TENANT);
		assert_int_equal(c->cache.max_body, 1 << 20);
		assert_int_equal(c->cache.local, 32 << 20);
		assert_null(c->cache.redis);
		assert_false(c->cache.count_hits);
		assert_int_equal(c->coalesce.when, CONFIG_WHEN_DETERMINISTIC);
		assert_int_equal(c->coalesce.window, 100 * CLOCK_MILLISECOND);
		assert_true(c->coalesce.streams);
		config_release(&c);
	}
}

/* The words as the file has them, in the order of their enums. */
static void knows_the_words(void **state)
{
	static const struct {
		const char *text;
		enum config_when when;
		enum config_scope scope;
	} cases[] = {
		{ U "cache: {when: deterministic, scope: tenant}\ncoalesce: {when: deterministic}\n",
		  CONFIG_WHEN_DETERMINISTIC, CONFIG_SCOPE_TENANT },
		{ U "cache: {when: asked, scope: shared}\ncoalesce: {when: asked}\n", CONFIG_WHEN_ASKED,
		  CONFIG_SCOPE_SHARED },
		{ U "cache: {when: never, scope: user}\ncoalesce: {when: never}\n", CONFIG_WHEN_NEVER,
		  CONFIG_SCOPE_USER },
		{ "upstreams: {u: {dialect: http, endpoints: [{url: 'http://h'}]}}\ncache: {when: always}\n"
		  "coalesce: {when: always}\n",
		  CONFIG_WHEN_ALWAYS, CONFIG_SCOPE_TENANT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct config *c = config_rig_take(cases[i].text);
		assert_int_equal(c->cache.when, cases[i].when);
		assert_int_equal(c->cache.scope, cases[i].scope);
		assert_int_equal(c->coalesce.when, cases[i].when);
		config_release(&c);
	}
}

/* clang-format off */
#define REDIS(url)    U "cache:\n  redis: " url "\n"
#define WRONG         "t:3: cache.redis: the value is not valid; allowed: a URL: "
#define LATER(scheme) "t:3: cache.redis: " scheme " comes in a later version; allowed: redis://, unix:// and sentinel://\n"

static void judges_its_redis_as_the_other(void **state)
{
	static const struct config_rig_case cases[] = {
		{ REDIS("'redis://h'"), NULL }, { REDIS("'redis://:p@[::1]:1/2'"), NULL }, { REDIS("unix:///run/redis.sock?db=1"), NULL },
		{ REDIS("'${SLUICE_TEST_REDIS}'"), NULL },
		{ REDIS("embedded"), WRONG "it begins with redis://, unix:// or sentinel://\n" }, { REDIS("'http://CANARY@h'"), WRONG "it begins with redis://, unix:// or sentinel://\n" },
		{ REDIS("'redis://:CANARY@'"), WRONG "the host is missing\n" }, { REDIS("unix://CANARY"), WRONG "the socket's path is absolute, as in unix:///run/redis.sock\n" },
		{ REDIS("'rediss://:CANARY@h'"), LATER("rediss://") }, { REDIS("'cluster://a:1'"), LATER("cluster://") },
		{ REDIS(""), "t:3: cache.redis: found nothing; allowed: text, or to leave the key out\n" },
		{ U "redis: {url: nonsense}\ncache: {redis: embedded}\n",
		  "t:2: redis.url: the value is not valid; allowed: embedded, or a URL: it begins with redis://, unix:// or sentinel://\n"
		  "t:3: cache.redis: the value is not valid; allowed: a URL: it begins with redis://, unix:// or sentinel://\n" },
	};
	(void)state;
	setenv("SLUICE_TEST_REDIS", "redis://:CANARY@h:1", 1);
	CONFIG_RIG_JUDGE(cases);
}

static void refuses_other_values(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U "cache: {ttl: 0}\n", "t:2: cache.ttl: found \"0\"; allowed: 1s to 30d\n" },
		{ U "cache: {ttl: 31d}\n", "t:2: cache.ttl: found \"31d\"; allowed: 1s to 30d\n" },
		{ U "cache: {when: sometimes}\n", "t:2: cache.when: found \"sometimes\"; allowed: deterministic, always, asked, never\n" },
		{ U "cache: {scope: fleet}\n", "t:2: cache.scope: found \"fleet\"; allowed: tenant, shared, user\n" },
		{ U "cache: {max_body: 9MiB}\n", "t:2: cache.max_body: found \"9MiB\"; allowed: 1KiB to 8MiB\n" },
		{ U "cache: {local: 17GiB}\n", "t:2: cache.local: found \"17GiB\"; allowed: 0 to 16GiB\n" },
		{ U "cache: off\n", "t:2: cache: found a value; allowed: a mapping as {ttl: …}\n" },
		{ U "coalesce: {window: 11s}\n", "t:2: coalesce.window: found \"11s\"; allowed: 0 to 10s\n" },
		{ U "coalesce: {when: sometimes}\n", "t:2: coalesce.when: found \"sometimes\"; allowed: deterministic, always, asked, never\n" },
		{ U "coalesce: {ttl: 1s}\n", "t:2: coalesce.ttl: unknown key; allowed: when, window, streams\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

#define WARNING "warning: who asks the same is given the same answer, though a temperature above 0 asks for another each time; better: deterministic or asked\n"
#define HTTP    "upstreams: {u: {dialect: http, endpoints: [{url: 'http://h'}]}}\n"
#define BOTH    "upstreams: {u: {dialect: http, endpoints: [{url: 'http://h'}]}, v: {dialect: gemini, endpoints: [{url: 'http://h'}]}}\n"

static void warns_of_always(void **state)
{
	(void)state;
	config_rig_warn(U "cache: {when: always}\n", "t:2: cache.when: " WARNING);
	config_rig_warn(U "coalesce:\n  streams: true\n  when: always\n", "t:4: coalesce.when: " WARNING);
	config_rig_warn(BOTH "coalesce: {when: always}\ncache: {when: always}\n", "t:2: coalesce.when: " WARNING "t:3: cache.when: " WARNING);
}

/* Dialect http has no temperature, and nothing that is deterministic: there it is as it was meant. */
static void warns_of_nothing_else(void **state)
{
	static const struct config_rig_case cases[] = {
		{ HTTP "cache: {when: always}\ncoalesce: {when: always}\n", NULL },
		{ U "cache: {when: asked}\ncoalesce: {when: asked}\n", NULL },
		{ U "cache: {scope: shared}\ntenants: {a: {keys: [12345678]}, b: {keys: [87654321]}}\n", NULL },
		{ U "cache: {when: always, ttl: 1}\n", "t:2: cache.ttl: found \"1\"; allowed: a number and one unit, us ms s m h d; 1s to 30d\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}
/* clang-format on */

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_key),       cmocka_unit_test(knows_the_defaults),
		cmocka_unit_test(knows_the_words),       cmocka_unit_test(judges_its_redis_as_the_other),
		cmocka_unit_test(refuses_other_values),  cmocka_unit_test(warns_of_always),
		cmocka_unit_test(warns_of_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

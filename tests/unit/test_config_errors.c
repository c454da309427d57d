/* What is refused, and in which words: every mistake has its line, its key, what was found and what is allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/config_rig.h"

#define U        CONFIG_RIG_UPSTREAMS
#define UP(more) "upstreams:\n  u:\n    dialect: openai\n    endpoints: [{url: 'https://h'}]\n    " more "\n"

/* clang-format off */
static void refuses_what_is_no_plain_yaml(void **state)
{
	static const struct config_rig_case cases[] = {
		{ "", "t:1: no mapping; allowed: `key: value` lines\n" },
		{ "# a comment\n", "t:1: no mapping; allowed: `key: value` lines\n" },
		{ "- a\n", "t:1: no mapping; allowed: `key: value` lines\n" },
		{ "\n\nword\n", "t:3: no mapping; allowed: `key: value` lines\n" },
		{ "a: b\nc: [d\n", "t:3: not YAML: did not find expected ',' or ']', while parsing a flow sequence\n" },
		{ "a: b\nword\nc: d\n", "t:2: not YAML: could not find expected ':', while scanning a simple key\n" },
		{ "a: b\n\tc: d\n", "t:2: not YAML: found a tab where the indentation is; allowed: blanks\n" },
		{ "a: &anchor b\n", "t:1: an anchor, alias or tag; allowed: plain YAML or JSON\n" },
		{ "a: *anchor\n", "t:1: an anchor, alias or tag; allowed: plain YAML or JSON\n" },
		{ "a: !!str b\n", "t:1: an anchor, alias or tag; allowed: plain YAML or JSON\n" },
		{ "a: ! b\n", "t:1: an anchor, alias or tag; allowed: plain YAML or JSON\n" },
		{ "a: 1\n!!str b: 1\n", "t:2: an anchor, alias or tag; allowed: plain YAML or JSON\n" },
		{ "a:\n  - &x {b: c}\n", "t:2: an anchor, alias or tag; allowed: plain YAML or JSON\n" },
		{ "a: b\n---\nc: d\n", "t:2: a second document; allowed: one\n" },
		{ "? [a, b]\n: c\n", "t:1: a list or mapping as a key; allowed: a word\n" },
		{ "a:\n  ? {b: c}\n  : d\n", "t:2: a list or mapping as a key; allowed: a word\n" },
		{ "a: \"\\0\"\n", "t:1: a NUL byte; allowed: text\n" },
		{ "a: \xff\n", "t:1: not YAML: invalid leading UTF-8 octet\n" },
		{ "a: \x01\n", "t:1: not YAML: control characters are not allowed\n" },
		{ "a: [[[[[[[[[[[[[[b]]]]]]]]]]]]]]\n", "t:1: nested too deeply\n" },
		{ "{\"a\": 1", "t:2: not YAML: did not find expected ',' or '}', while parsing a flow mapping\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void refuses_a_key_that_stands_twice(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U "workers: 1\nworkers: 2\n", "t:3: workers: stands twice, first in line 2; allowed: once\n" },
		{ U "workers: 1\n'workers': 1\n", "t:3: workers: stands twice, first in line 2; allowed: once\n" },
		{ U "redis:\n  timeout: 1s\n  url: embedded\n  timeout: 1s\n", "t:5: redis.timeout: stands twice, first in line 3; allowed: once\n" },
		{ "upstreams:\n  u: {dialect: openai, endpoints: [{url: 'http://h',\n  url: 'http://h'}]}\n",
		  "t:3: upstreams.u.endpoints[0].url: stands twice, first in line 2; allowed: once\n" },
		{ U "tenants:\n  a: {keys: [12345678]}\n  a: {keys: [87654321]}\nnonsense: 1\n",
		  "t:4: tenants.a: stands twice, first in line 3; allowed: once\n"
		  "t:5: nonsense: unknown key; allowed: listen, admin, admin_token, workers, region, allow_anonymous, trusted_proxies, max_body, memory_limit, "
		  "log_level, redis, client, drain, upstreams, models, tenants, cache, coalesce, queue, pool\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

/* What stands behind an upstream that could not be read must not lean on it. */
static void survives_what_could_not_be_read(void **state)
{
#define SECOND "  b: {dialect: anthropic, endpoints: [{url: 'https://127.0.0.1:1'}]}\n"
	static const struct config_rig_case cases[] = {
		{ "upstreams:\n  a: {dialect: openai}\n" SECOND, "t:2: upstreams.a.endpoints: missing; it is needed: where it is\n" },
		{ "upstreams:\n  a: {dialect: openai, endpoints: []}\n" SECOND, "t:2: upstreams.a.endpoints: found 0; allowed: 1 to 16\n" },
		{ "upstreams:\n  a: 5\n" SECOND, "t:2: upstreams.a: found a value; allowed: a mapping as {dialect: …}\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void names_unknown_keys_and_their_neighbours(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U "pool: {min: 1}\n", "t:2: pool.min: unknown key here; allowed: upstreams.NAME.pool.min\n" },
		{ U "breaker: {slow: 1s}\n", "t:2: breaker: unknown key here; allowed: upstreams.NAME.breaker\n" },
		{ U "pool: {mix: 1}\n", "t:2: pool.mix: unknown key; did you mean `max`?\n" },
		{ U "lisen: 1\n", "t:2: lisen: unknown key; did you mean `listen`?\n" },
		{ U "redis: {ulr: embedded}\n", "t:2: redis.ulr: unknown key; did you mean `url`?\n" },
		{ U "redis:\n  Timeout: 1s\n", "t:3: redis.Timeout: unknown key; did you mean `timeout`?\n" },
		{ U "drain: {what: 1}\n", "t:2: drain.what: unknown key; did you mean `wait`?\n" },
		{ U "drain: {entirely: 1}\n", "t:2: drain.entirely: unknown key; allowed: wait, deadline\n" },
		{ U "drain: {'<<': 1}\n", "t:2: drain.<<: unknown key; allowed: wait, deadline\n" },
		{ U "\"line\\nfeed\": 1\ndrain: {\"x\\ny\": 1}\n",
		  "t:2: line?feed: unknown key; allowed: listen, admin, admin_token, workers, region, allow_anonymous, trusted_proxies, max_body, memory_limit, "
		  "log_level, redis, client, drain, upstreams, models, tenants, cache, coalesce, queue, pool\n"
		  "t:3: drain.x?y: unknown key; allowed: wait, deadline\n" },
		{ "tenants: {a: {keys: [12345678], limits: {rpn: 5}}}\n" U, "t:1: tenants.a.limits.rpn: unknown key; allowed: rps, rpm, rph, rpd, tpm, tph, tpd, concurrency\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void says_what_comes_in_a_later_version(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U "redis: {on_failure: shut}\n", "t:2: redis.on_failure: found \"shut\"; allowed: share, open, closed\n" },
		{ U "redis: {url: 'cluster://a:1'}\n", "t:2: redis.url: cluster:// comes in a later version; allowed: embedded, redis://, unix:// and sentinel://\n" },
		{ U "redis: {url: 'rediss://a:1'}\n", "t:2: redis.url: rediss:// comes in a later version; allowed: embedded, redis://, unix:// and sentinel://\n" },
		{ "upstreams:\n  u:\n    dialect: openai\n    endpoints: [{url: 'http://h'}]\n    credential: {vertex: x}\n",
		  "t:5: upstreams.u.credential.vertex: comes in a later version; allowed: to leave it out\n" },
		{ U "models:\n  m:\n    targets: [{upstream: u}]\n    limits: {usd_per_day: 1}\n",
		  "t:5: models.m.limits.usd_per_day: comes in a later version; allowed: to leave it out\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void judges_limits(void **state)
{
#define LIMITS_OF(limits) "tenants:\n  a:\n    keys: [12345678]\n    limits:\n      " limits "\n" U
	static const struct config_rig_case cases[] = {
		{ LIMITS_OF("rpm: 0"), "t:5: tenants.a.limits.rpm: found \"0\"; allowed: 1 to 1000G\n" },
		{ LIMITS_OF("rpm: 1000000000001"), "t:5: tenants.a.limits.rpm: found \"1000000000001\"; allowed: 1 to 1000G\n" },
		{ LIMITS_OF("rpm: many"), "t:5: tenants.a.limits.rpm: found \"many\"; allowed: a count as 150, 400k, 4M, or {limit, burst}, for the period in the key's name; 1 to 1000G\n" },
		{ LIMITS_OF("rpm: [1]"), "t:5: tenants.a.limits.rpm: found a list; allowed: one value\n" },
		{ LIMITS_OF("rpm: null"), "t:5: tenants.a.limits.rpm: found nothing; allowed: a count as 150, 400k, 4M, or {limit, burst}, for the period in the key's name; 1 to 1000G\n" },
		{ LIMITS_OF("rpm: {burst: 1}"), "t:5: tenants.a.limits.rpm: no `limit`; allowed: a count, or {limit, burst} or {limit, strict}\n" },
		{ LIMITS_OF("rpm: {}"), "t:5: tenants.a.limits.rpm: no `limit`; allowed: a count, or {limit, burst} or {limit, strict}\n" },
		{ LIMITS_OF("rpm: {limit: x}"), "t:5: tenants.a.limits.rpm.limit: found \"x\"; allowed: a count as 150, 400k, 4M; 1 to 1000G\n" },
		{ LIMITS_OF("rpm: {limit: 1, burst: 0}"), "t:5: tenants.a.limits.rpm.burst: found \"0\"; allowed: 1 to 1000G\n" },
		{ LIMITS_OF("rpm: {limit: 1, strict: 1}"), "t:5: tenants.a.limits.rpm.strict: found \"1\"; allowed: true or false\n" },
		{ LIMITS_OF("rpm: {limit: 1, bust: 1}"), "t:5: tenants.a.limits.rpm.bust: unknown key; allowed: limit, burst, strict\n" },
		{ LIMITS_OF("rpm: {limit: 1, burst: 2, strict: true}"), "t:5: tenants.a.limits.rpm: a strict limit has no burst; allowed: one of them\n" },
		{ LIMITS_OF("concurrency: {limit: 1, burst: 2}"), "t:5: tenants.a.limits.concurrency: concurrency has no burst and is always strict; allowed: a count\n" },
		{ LIMITS_OF("concurrency: {limit: 1, strict: true}"), "t:5: tenants.a.limits.concurrency: concurrency has no burst and is always strict; allowed: a count\n" },
		{ LIMITS_OF("usd_per_month: 5"), "t:5: tenants.a.limits.usd_per_month: comes in a later version; allowed: to leave it out\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void tells_all_at_once_and_in_order(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U "workers: many\ntrusted_proxies: [nonsense]\nredis: {url: 'http://h'}\nlisten: 0.0.0.0:80\nlog_level: loud\n",
		  "t:2: workers: found \"many\"; allowed: auto or a whole number; 1 to 256\n"
		  "t:3: trusted_proxies[0]: found \"nonsense\"; allowed: an address, a network as 10.0.0.0/8, or unix\n"
		  "t:4: redis.url: the value is not valid; allowed: embedded, or a URL: it begins with redis://, unix:// or sentinel://\n"
		  "t:5: listen: found \"0.0.0.0:80\": others could use it without a key; allowed: loopback, or `tenants`, or allow_anonymous: true\n"
		  "t:6: log_level: found \"loud\"; allowed: debug, info, warning, error\n" },
		/* no mistake follows from another one */
		{ "admin: 0.0.0.0:81\nadmin_token: '${NOBODY_SETS_THIS}'\n" U, "t:2: admin_token: the environment variable NOBODY_SETS_THIS is not set; set it\n" },
		{ "listen: '*:80'\ntenants:\n  a: {keys: ['${NOBODY_SETS_THIS}']}\n" U, "t:3: tenants.a.keys[0]: the environment variable NOBODY_SETS_THIS is not set; set it\n" },
		{ "listen: ['${NOBODY_SETS_THIS}']\nadmin: nowhere\n" U, "t:1: listen[0]: the environment variable NOBODY_SETS_THIS is not set; set it\n" },
		{ "upstreams:\n  a: {dialect: x, default: true, endpoints: [{url: 'http://h'}]}\n  b: {dialect: gemini, default: true, endpoints: [{url: 'http://h'}]}\n"
		  "  c: {dialect: http, endpoints: [{url: h}]}\nmodels:\n  m: {targets: [{upstream: a}]}\n  n: {}\ntenants:\n  t: {keys: [12345678], models: [k]}\n",
		  "t:2: upstreams.a.dialect: found \"x\"; allowed: gemini, openai, anthropic, http\n"
		  "t:4: upstreams.c.endpoints[0].url: no http:// or https:// at the beginning; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n"
		  "t:7: models.n.targets: missing; it is needed: which upstreams serve it, as [{upstream: NAME}]\n" },
		/* names hold dots: the mistake of the one is not the other's */
		{ "upstreams:\n  p: {dialect: http, endpoints: [{url: 'http://h'}]}\nmodels:\n  gpt-4: {targets: [{upstream: p}]}\n  gpt-4.1: {}\n",
		  "t:4: models.gpt-4.targets[0].upstream: found \"p\", of dialect http, which has no models; allowed: upstreams of other dialects\n"
		  "t:5: models.gpt-4.1.targets: missing; it is needed: which upstreams serve it, as [{upstream: NAME}]\n" },
		{ "models: {gpt-4.targets: {targets: [{upstream: u}]}, gpt-4: {targets: []}}\n" U, "t:1: models.gpt-4.targets: found 0; allowed: 1 to 16\n" },
		{ "upstreams:\n  u: {dialect: openai, endpoints: [{url: h}]}\n  u: {}\n",
		  "t:2: upstreams.u.endpoints[0].url: no http:// or https:// at the beginning; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n"
		  "t:3: upstreams.u: stands twice, first in line 2; allowed: once\n"
		  "t:3: upstreams.u.dialect: missing; it is needed: how its API looks\n"
		  "t:3: upstreams.u.endpoints: missing; it is needed: where it is\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

/* The name of an entry is told in part when it is very long: the entry is known to be wrong all the same. */
static void judges_nothing_of_an_entry_that_was_misread(void **state)
{
	char text[1000], long_name[300];
	struct buf error;
	(void)state;
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	snprintf(text, sizeof(text), "upstreams:\n  %s: {}\n", long_name);
	assert_null(config_rig_parse(text, &error));
	assert_non_null(strstr(error.data, "dialect: missing"));
	buf_free(&error);
}

static void tells_how_a_number_is_written(void **state)
{
	static const struct config_rig_case cases[] = {
		{ LIMITS_OF("tpm: 5 M"), "t:5: tenants.a.limits.tpm: found \"5 M\"; allowed: a count as 150, 400k, 4M, or {limit, burst}, for the period in the key's name; 1 to 1000G\n" },
		{ LIMITS_OF("rpd: 010"), "t:5: tenants.a.limits.rpd: found \"010\"; allowed: no zero in front; 1 to 1000G\n" },
		{ LIMITS_OF("rpd: 0.5k"), NULL },
		{ U "drain: {wait: 5 s}\n", "t:2: drain.wait: found \"5 s\"; allowed: a number and one unit, us ms s m h d; 0 to 1h\n" },
		{ U "drain: {wait: 05s}\n", "t:2: drain.wait: found \"05s\"; allowed: no zero in front; 0 to 1h\n" },
		{ U "drain: {wait: 0}\n", NULL },
		{ U "max_body: 20 MB\n", "t:2: max_body: found \"20 MB\"; allowed: a size as 512, 64KiB, 20MiB; 1KiB to 1GiB\n" },
		{ U "workers: 1000\n", "t:2: workers: found \"1000\"; allowed: auto or 1 to 256\n" },
		{ UP("pool: {max: many}"), "t:5: upstreams.u.pool.max: found \"many\"; allowed: a whole number; 1 to 10000\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void warns_of_a_burst_that_is_too_small(void **state)
{
	(void)state;
	config_rig_warn(LIMITS_OF("rps: {limit: 1k, burst: 19}"),
			"t:5: tenants.a.limits.rps: warning: a burst of 19 is less than 20 ms of the rate, so a part of it "
			"cannot be used; better: 20 or more\n");
	config_rig_warn(LIMITS_OF("tpm: {limit: 1000G, burst: 1}"),
			"t:5: tenants.a.limits.tpm: warning: a burst of 1 is less than 20 ms of the rate, so a part of it "
			"cannot be used; better: 333333333 or more\n");
	config_rig_judge(LIMITS_OF("rps: {limit: 1k, burst: 20}"), NULL);
	config_rig_judge(LIMITS_OF("rpm: {limit: 600, burst: 1}"), NULL);
	config_rig_judge(LIMITS_OF("rps: {limit: 1k, burst: 1}") "nonsense-word: 1\n",
			 "t:7: nonsense-word: unknown key; allowed: listen, admin, admin_token, workers, region, allow_anonymous, "
			 "trusted_proxies, max_body, memory_limit, log_level, redis, client, drain, upstreams, models, tenants, cache, coalesce, queue, pool\n");
}

static void guards_the_doors(void **state)
{
#define KEYED "tenants: {a: {keys: [12345678]}}\n"
	static const struct config_rig_case cases[] = {
		{ "listen: 0.0.0.0:80\n" U, "t:1: listen: found \"0.0.0.0:80\": others could use it without a key; allowed: loopback, or `tenants`, or allow_anonymous: true\n" },
		{ "listen:\n  - 127.0.0.1:80\n  - '*:80'\n" U,
		  "t:3: listen[1]: found \"*:80\": others could use it without a key; allowed: loopback, or `tenants`, or allow_anonymous: true\n" },
		{ "listen: 127.evil.example:80\n" U,
		  "t:1: listen: found \"127.evil.example:80\": others could use it without a key; allowed: loopback, or `tenants`, or allow_anonymous: true\n" },
		{ "listen: '[::]:80'\n" U, "t:1: listen: found \"[::]:80\": others could use it without a key; allowed: loopback, or `tenants`, or allow_anonymous: true\n" },
		{ "listen: 128.0.0.1:80\n" U, "t:1: listen: found \"128.0.0.1:80\": others could use it without a key; allowed: loopback, or `tenants`, or allow_anonymous: true\n" },
		{ "listen: '[::2]:80'\n" U, "t:1: listen: found \"[::2]:80\": others could use it without a key; allowed: loopback, or `tenants`, or allow_anonymous: true\n" },
		{ "listen: '[::1]:80'\n" U, NULL }, { "listen: localhost:80\n" U, NULL }, { "listen: 127.8.9.10:0\n" U, NULL },
		{ "listen: 'unix:relative'\n" U, NULL }, { "listen: '*:80'\n" U KEYED, NULL }, { "listen: '*:80'\nallow_anonymous: true\n" U, NULL },
		{ "listen: [127.0.0.1:0, 127.0.0.1:0]\nadmin: 127.0.0.1:0\n" U, NULL },
		{ "listen: 127.0.0.1\n" U, "t:1: listen: found \"127.0.0.1\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: 127.0.0.1:65536\n" U, "t:1: listen: found \"127.0.0.1:65536\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: ':80'\n" U, "t:1: listen: found \":80\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: '::1:80'\n" U, "t:1: listen: found \"::1:80\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: '[::1:80'\n" U, "t:1: listen: found \"[::1:80\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: '[::1]80'\n" U, "t:1: listen: found \"[::1]80\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: '[127.0.0.1]:80'\n" U, "t:1: listen: found \"[127.0.0.1]:80\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: 'unix:'\n" U, "t:1: listen: found \"unix:\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: 'a b:80'\n" U, "t:1: listen: found \"a b:80\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ "listen: []\n" U, "t:1: listen: found 0; allowed: 1 to 16\n" },
		{ "listen: [127.0.0.1:1, 127.0.0.1:1]\n" U, "t:1: listen[1]: found \"127.0.0.1:1\" twice; allowed: once\n" },
		{ "admin: 10.0.0.1:81\n" U, "t:1: admin: found \"10.0.0.1:81\": others could read it; allowed: loopback, or an admin_token\n" },
		{ "admin: 10.0.0.1:81\nadmin_token: sixteen-bytes-of\n" U, NULL }, { "admin: unix:/run/admin\n" U, NULL },
		{ "admin: nowhere\n" U, "t:1: admin: found \"nowhere\"; allowed: off, host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ U "admin: 127.0.0.1:8080\n", "t:2: admin: found \"127.0.0.1:8080\", which is in `listen`; allowed: another\n" },
		{ "admin_token: short\n" U, "t:1: admin_token: the value is not valid; allowed: text of 16 to 512 bytes, in one line\n" },
		{ "trusted_proxies: [10.0.0.0/8, 10.0.0.0/33, '::/129', '::1/128', 1.2.3, host, 10.0.0.0/, '/8', unix]\n" U,
		  "t:1: trusted_proxies[1]: found \"10.0.0.0/33\"; allowed: an address, a network as 10.0.0.0/8, or unix\n"
		  "t:1: trusted_proxies[2]: found \"::/129\"; allowed: an address, a network as 10.0.0.0/8, or unix\n"
		  "t:1: trusted_proxies[4]: found \"1.2.3\"; allowed: an address, a network as 10.0.0.0/8, or unix\n"
		  "t:1: trusted_proxies[5]: found \"host\"; allowed: an address, a network as 10.0.0.0/8, or unix\n"
		  "t:1: trusted_proxies[6]: found \"10.0.0.0/\"; allowed: an address, a network as 10.0.0.0/8, or unix\n"
		  "t:1: trusted_proxies[7]: found \"/8\"; allowed: an address, a network as 10.0.0.0/8, or unix\n" },
		{ "redis: {url: 'http://CANARY@h'}\n" U, "t:1: redis.url: the value is not valid; allowed: embedded, or a URL: it begins with redis://, unix:// or sentinel://\n" },
		{ "redis: {url: 'redis://:CANARY@h:x'}\n" U,
		  "t:1: redis.url: the value is not valid; allowed: embedded, or a URL: the port is a number from 1 to 65535\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void judges_where_upstreams_are(void **state)
{
#define UP_URL(url) "upstreams:\n  u:\n    dialect: openai\n    endpoints:\n      - url: '" url "'\n"
#define NO_URL "t:5: upstreams.u.endpoints[0].url: not an address without query or user; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n"
#define NO_WEB "t:5: upstreams.u.endpoints[0].url: no http:// or https:// at the beginning; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n"
#define HTTP(name, more) "upstreams:\n  " name ": {dialect: http, endpoints: [{url: 'http://h'}]" more "}\n"
	static const struct config_rig_case cases[] = {
		{ "workers: 1\n", "t:1: upstreams: missing; it is needed: the providers\n" },
		{ "upstreams: {}\n", "t:1: upstreams: found 0; allowed: 1 to 1000\n" },
		{ "workers: 1\nupstreams:\n  u: {}\n", "t:3: upstreams.u.dialect: missing; it is needed: how its API looks\n"
		  "t:3: upstreams.u.endpoints: missing; it is needed: where it is\n" },
		{ "upstreams: {u: {dialect: openai, endpoints: [{}]}}\n",
		  "t:1: upstreams.u.endpoints[0].url: missing; it is needed: http(s)://host[:port][/prefix]: where the provider is; without /v1 at its end, which is the client's (dialect http: as it is)\n" },
		{ "upstreams: {u: {dialect: openai, endpoints: ['http://h']}}\n", "t:1: upstreams.u.endpoints[0]: found a value; allowed: a mapping as {url: …}\n" },
		{ "upstreams: {'a b': {dialect: http, endpoints: [{url: 'http://h'}]}}\n", "t:1: upstreams.a b: not a name; allowed: 64 bytes of letters, digits, '.', '_' and '-'\n" },
		{ "upstreams: {'': {dialect: http, endpoints: [{url: 'http://h'}]}}\n", "t:1: upstreams.: not a name; allowed: 64 bytes of letters, digits, '.', '_' and '-'\n" },
		{ UP_URL("ftp://h"), NO_WEB }, { UP_URL("h"), NO_WEB }, { UP_URL("https://"), NO_URL }, { UP_URL("https:///x"), NO_URL },
		{ UP_URL("https://h:"), NO_URL }, { UP_URL("https://h:0"), NO_URL }, { UP_URL("https://h:65536"), NO_URL }, { UP_URL("https://h:1:2"), NO_URL },
		{ UP_URL("https://u@h"), NO_URL }, { UP_URL("https://h?q"), NO_URL }, { UP_URL("https://h/#f"), NO_URL }, { UP_URL("https://h h"), NO_URL },
		{ UP_URL("https://[::1"), NO_URL }, { UP_URL("https://[::1]x"), NO_URL }, { UP_URL("https://[h]"), NO_URL }, { UP_URL("https://::1"), NO_URL },
		{ UP_URL("https://h%41"), NO_URL }, { UP_URL("HTTPS://h"), NO_WEB }, { UP_URL("https://h\xc3\xa9"), NO_URL }, { UP_URL("https://h/a\\b"), NO_URL },
		{ UP_URL("https://h/a%20b//"), NULL }, { UP_URL("http://127.0.0.1"), NULL }, { UP_URL("https://a_b-c.d:65535/p"), NULL },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void judges_what_goes_to_an_upstream(void **state)
{
	static const struct config_rig_case cases[] = {
		{ UP("credential: {header: X-Key}"), "t:5: upstreams.u.credential: found only half of it; allowed: header and value together\n" },
		{ UP("credential: {value: CANARY}"), "t:5: upstreams.u.credential: found only half of it; allowed: header and value together\n" },
		{ UP("credential: {header: 'a CANARY', value: CANARY}"), "t:5: upstreams.u.credential.header: not a field name; allowed: one as x-api-key\n" },
		{ UP("credential: {header: Host, value: CANARY}"), "t:5: upstreams.u.credential.header: found \"Host\", which the gateway writes itself; allowed: another\n" },
		{ UP("credential: {header: content-Length, value: x}"),
		  "t:5: upstreams.u.credential.header: found \"content-Length\", which the gateway writes itself; allowed: another\n" },
		{ UP("credential:\n      header: x-api-key\n      value: \"CANARY\\r\\nX: y\""),
		  "t:7: upstreams.u.credential.value: the value is not valid; allowed: text of 1 to 8192 bytes, in one line\n" },
		{ "upstreams: {u: {dialect: openai, endpoints: [{url: 'http://127.0.0.1.evil.example'}],\n credential: {header: a, value: CANARY}}}\n",
		  "t:2: upstreams.u.credential: it would go unencrypted to another machine; allowed: an https:// endpoint, or allow_plaintext: true\n" },
		{ "upstreams: {u: {dialect: openai, endpoints: [{url: 'http://h'}], credential: {header: a, value: b}, allow_plaintext: true}}\n", NULL },
		{ "upstreams: {u: {dialect: openai, endpoints: [{url: 'http://192.168.0.1'}], credential: {header: a, value: CANARY}}}\n",
		  "t:1: upstreams.u.credential: it would go unencrypted to another machine; allowed: an https:// endpoint, or allow_plaintext: true\n" },
		{ "upstreams: {u: {dialect: openai, endpoints: [{url: 'http://localhost:1'}], credential: {header: a, value: b}}}\n", NULL },
		{ UP("pool: {min: 5, max: 4}"), "t:5: upstreams.u.pool.min: found 5, above max, 4; allowed: 0 to max\n" },
		{ UP("pool:\n      max: 9\n      start: 10"), "t:7: upstreams.u.pool.start: found 10; allowed: min to max, 1 to 9\n" },
		{ UP("pool: {min: 3, start: 2}"), "t:5: upstreams.u.pool.start: found 2; allowed: min to max, 3 to 100\n" },
		{ UP("forward_headers: [X-Good, 'bad name', Authorization, x-API-key, cookie, Connection, Via]"),
		  "t:5: upstreams.u.forward_headers[1]: found \"bad name\", which is no field name; allowed: one as X-Custom\n"
		  "t:5: upstreams.u.forward_headers[2]: found \"Authorization\": a client's secrets never reach an upstream; allowed: others\n"
		  "t:5: upstreams.u.forward_headers[3]: found \"x-API-key\": a client's secrets never reach an upstream; allowed: others\n"
		  "t:5: upstreams.u.forward_headers[4]: found \"cookie\": a client's secrets never reach an upstream; allowed: others\n"
		  "t:5: upstreams.u.forward_headers[5]: found \"Connection\", which is the connection's or the gateway's own; allowed: others\n"
		  "t:5: upstreams.u.forward_headers[6]: found \"Via\", which is the connection's or the gateway's own; allowed: others\n" },
		{ UP("credential: {header: X-Key, value: CANARY}\n    forward_headers: x-key"),
		  "t:6: upstreams.u.forward_headers: found \"x-key\", which carries the credential; allowed: others\n" },
		{ UP("ca_file: /nowhere/ca.pem"), "t:5: upstreams.u.ca_file: \"/nowhere/ca.pem\" cannot be used: No such file or directory; allowed: a file of certificates, PEM\n" },
		{ UP("ca_file: /dev/null"), "t:5: upstreams.u.ca_file: \"/dev/null\" cannot be used: it is not a regular file; allowed: a file of certificates, PEM\n" },
		{ UP("ca_file: /tmp"), "t:5: upstreams.u.ca_file: \"/tmp\" cannot be used: Is a directory; allowed: a file of certificates, PEM\n" },
		{ UP("default: true") "  v: {dialect: openai, default: true, endpoints: [{url: 'http://h'}]}\n",
		  "t:6: upstreams.v.default: \"u\" is the default of dialect openai already; allowed: one\n" },
		{ UP("default: true") "  v: {dialect: gemini, default: true, endpoints: [{url: 'http://h'}]}\n", NULL },
		{ HTTP("v1", ""), "t:2: upstreams.v1: a path of the gateway's own begins so; allowed: another name\n" },
		{ HTTP("v1beta", ""), "t:2: upstreams.v1beta: a path of the gateway's own begins so; allowed: another name\n" },
		{ HTTP("v1alpha", ""), "t:2: upstreams.v1alpha: a path of the gateway's own begins so; allowed: another name\n" },
		{ HTTP("v1beta1", ""), "t:2: upstreams.v1beta1: a path of the gateway's own begins so; allowed: another name\n" },
		{ HTTP("models", ""), "t:2: upstreams.models: a path of the gateway's own begins so; allowed: another name\n" },
		{ HTTP("healthz", ""), "t:2: upstreams.healthz: a path of the gateway's own begins so; allowed: another name\n" },
		{ HTTP("readyz", ""), "t:2: upstreams.readyz: a path of the gateway's own begins so; allowed: another name\n" },
		{ "upstreams: {v1: {dialect: openai, endpoints: [{url: 'http://h'}]}}\n", NULL },
		{ HTTP("p", ", limits: {tpm: 5}"), "t:2: upstreams.p.limits: dialect http has no tokens; allowed: limits on requests and concurrency\n" },
		{ HTTP("p", ", limits: {rpm: 5, concurrency: 1}"), NULL },
		{ HTTP("p", ", default: true"), "t:2: upstreams.p.default: dialect http has no models; allowed: to leave it out\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void judges_models_and_tenants(void **state)
{
#define BOTH "upstreams:\n  o: {dialect: openai, endpoints: [{url: 'http://h'}]}\n  p: {dialect: http, endpoints: [{url: 'http://h'}]}\n"
#define ONE "models: {m: {targets: [{upstream: o}]}}\n"
#define T(more) BOTH ONE "tenants:\n  a:\n    keys: [12345678]\n    " more "\n"
	static const struct config_rig_case cases[] = {
		{ BOTH "models:\n  m:\n    targets:\n      - upstream: nobody\n", "t:7: models.m.targets[0].upstream: found \"nobody\"; allowed: the name of one of `upstreams`\n" },
		{ BOTH "models:\n  m:\n    targets:\n      - upstream: p\n",
		  "t:7: models.m.targets[0].upstream: found \"p\", of dialect http, which has no models; allowed: upstreams of other dialects\n" },
		{ BOTH "models: {m: {targets: []}}\n", "t:4: models.m.targets: found 0; allowed: 1 to 16\n" },
		{ BOTH "models: {m: {}}\n", "t:4: models.m.targets: missing; it is needed: which upstreams serve it, as [{upstream: NAME}]\n" },
		{ BOTH "models: {'a{b}': {targets: [{upstream: o}]}}\n",
		  "t:4: models.a{b}: not a name; allowed: 256 bytes of printable characters without blanks, quotes or braces\n" },
		{ BOTH "models: {'a b': {targets: [{upstream: o}]}}\n",
		  "t:4: models.a b: not a name; allowed: 256 bytes of printable characters without blanks, quotes or braces\n" },
		{ BOTH "models: {'org/m-1.5:free@2': {targets: [{upstream: o}]}}\n", NULL },
		{ T("models: [m, p]"), NULL }, { T("models: []"), NULL }, { T("limits: {tpm: 5}"), NULL },
		{ T("models:\n      - m\n      - nobody"),
		  "t:10: tenants.a.models[1]: found \"nobody\", which no upstream serves; allowed: names of `models` and of upstreams of dialect http, and what a default "
		  "upstream takes\n" },
		{ T("models: o"),
		  "t:8: tenants.a.models: found \"o\", which no upstream serves; allowed: names of `models` and of upstreams of dialect http, and what a default upstream takes\n" },
		{ U "tenants: {a: {keys: [12345678], models: [whatever]}}\n", NULL },
		{ T("models: [p]\n    limits: {tpm: 5}"), "t:9: tenants.a.limits: it may call dialect http alone, which has no tokens; allowed: limits on requests and concurrency\n" },
		{ T("models: [p]\n    limits: {rpm: 5}"), NULL },
		{ "upstreams: {p: {dialect: http, endpoints: [{url: 'http://h'}]}}\ntenants: {a: {keys: [12345678], limits: {tpd: 1}}}\n",
		  "t:2: tenants.a.limits: it may call dialect http alone, which has no tokens; allowed: limits on requests and concurrency\n" },
		{ U "tenants: {a: {}}\n", "t:2: tenants.a.keys: missing; it is needed: its API keys, or sha256: and 64 hexadecimal digits of one\n" },
		{ U "tenants: {a: {keys: [CANARY7]}}\n",
		  "t:2: tenants.a.keys[0]: the value is not valid; allowed: 8 to 512 bytes without blanks, or sha256: and 64 hexadecimal digits\n" },
		{ U "tenants: {a: {keys: [CANARY-8, 'CANARY CANARY', null]}}\n",
		  "t:2: tenants.a.keys[1]: the value is not valid; allowed: 8 to 512 bytes without blanks, or sha256: and 64 hexadecimal digits\n"
		  "t:2: tenants.a.keys[2]: found nothing; allowed: a key\n" },
		{ U "tenants: {a: {keys: ['sha256:5994']}}\n", "t:2: tenants.a.keys[0]: the value is not valid; allowed: sha256: and 64 hexadecimal digits\n" },
		{ U "tenants:\n  a: {keys: [one-key-here]}\n  b: {keys: [another-key,\n    one-key-here]}\n",
		  "t:5: tenants.b.keys[1]: the tenant \"a\" has this key already; allowed: a key stands once\n" },
		{ U "tenants:\n  a: {keys: [one-key-here, 'sha256:3c6f1f1b1ba8ed8cbbbcf1c4e7cbd5ec0a20c9d4a5ae0b5d2dd5f1a33d2a1c5e', one-key-here]}\n",
		  "t:3: tenants.a.keys[2]: the tenant \"a\" has this key already; allowed: a key stands once\n" },
		{ U "tenants: {anonymous: {keys: [12345678]}}\n", "t:2: tenants.anonymous: the name stands for callers without a key; allowed: another name\n" },
		{ U "tenants: {'a:b': {keys: [12345678]}}\n", "t:2: tenants.a:b: not a name; allowed: 64 bytes of letters, digits, '.', '_' and '-'\n" },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}
/* clang-format on */

/* What fits into struct sockaddr_un: 107 bytes and a NUL. */
static void knows_how_long_a_socket_path_is(void **state)
{
	char text[400], told[400];

	(void)state;
	snprintf(text, sizeof(text), "listen: unix:/%0106d\n%s", 0, U);
	config_rig_judge(text, NULL);
	snprintf(text, sizeof(text), "listen: unix:/%0107d\n%s", 0, U);
	snprintf(told, sizeof(told),
		 "t:1: listen: found \"unix:/%0107d\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from "
		 "1 to 65535, or 0: any free one\n",
		 0);
	config_rig_judge(text, told);
}

/* A key and its SHA-256 are the same key. */
static void knows_a_key_by_its_digest(void **state)
{
	(void)state;
	config_rig_judge(U "tenants:\n  a: {keys: [open-sesame]}\n  b: {keys: [\n    "
			   "sha256:D7ECDF25EAF3DEBA0F2628771DBDD22D4138AB6CF38F91ED02A2CA0DEC7C8AB7]}\n",
			 "t:5: tenants.b.keys[0]: the tenant \"a\" has this key already; allowed: a key stands once\n");
}

/* ---- ${…} ------------------------------------------------------------------------------------------------------------------ */

static void judges_references(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U "workers: ${SLUICE_TEST_UNSET}\n",
		  "t:2: workers: the environment variable SLUICE_TEST_UNSET is not set; set it\n" },
		{ U "workers: ${SLUICE_TEST_EMPTY}\n",
		  "t:2: workers: the environment variable SLUICE_TEST_EMPTY is empty; set it\n" },
		{ U "workers: ${SLUICE_TEST_SECRET}\n",
		  "t:2: workers: found \"${SLUICE_TEST_SECRET}\"; allowed: auto or a whole number; 1 to 256\n" },
		{ U "log_level: a${SLUICE_TEST_SECRET}\n",
		  "t:2: log_level: found \"a${SLUICE_TEST_SECRET}\"; allowed: debug, info, warning, error\n" },
		{ U "admin: ${SLUICE_TEST_LINES}\n",
		  "t:2: admin: found \"${SLUICE_TEST_LINES}\"; allowed: text of 1 to 200 bytes, in one line\n" },
		{ U "admin: ${SLUICE_TEST_LONG}\n",
		  "t:2: admin: found \"${SLUICE_TEST_LONG}\"; allowed: at most 64 KiB\n" },
		{ U "admin: '${}'\n", "t:2: admin: found \"${}\"; allowed: ${NAME} or ${file:PATH}\n" },
		{ U "admin: 'a${open'\n",
		  "t:2: admin: found \"a${open\"; allowed: ${NAME} or ${file:PATH}, closed by }\n" },
		{ U "admin_token: 'CANARY-CANARY-CANARY${open'\n",
		  "t:2: admin_token: the value is not valid; allowed: ${NAME} or ${file:PATH}, closed by }\n" },
		{ U "tenants: {a: {keys: ['${SLUICE_TEST_SHORT}']}}\n",
		  "t:2: tenants.a.keys[0]: the value is not valid; allowed: 8 to 512 bytes without blanks, or sha256: "
		  "and 64 "
		  "hexadecimal digits\n" },
	};
	char *big = malloc(65538);

	(void)state;
	memset(big, 'C', 65537);
	big[65537] = '\0';
	unsetenv("SLUICE_TEST_UNSET");
	setenv("SLUICE_TEST_EMPTY", "", 1);
	setenv("SLUICE_TEST_SECRET", "CANARY", 1);
	setenv("SLUICE_TEST_SHORT", "CANARY", 1);
	setenv("SLUICE_TEST_LINES", "CANARY\nCANARY", 1);
	setenv("SLUICE_TEST_LONG", big, 1);
	CONFIG_RIG_JUDGE(cases);
	free(big);
}

/* A secret in the wrong place: what stands in the file is told, not what it stands for. */
static void never_tells_what_a_reference_stands_for(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U "admin: ${S}\n", "t:2: admin: found \"${S}\"; allowed: off, host:port, [v6]:port, *:port, "
				     "unix:/path; a port from 1 to 65535, or 0: any free one\n" },
		{ U "listen: [127.0.0.1:1, '${S}']\n",
		  "t:2: listen[1]: found \"${S}\"; allowed: host:port, [v6]:port, *:port, unix:/path; a port from 1 to "
		  "65535, or 0: any free one\n" },
		{ U "trusted_proxies: '${S}'\n",
		  "t:2: trusted_proxies: found \"${S}\"; allowed: an address, a network as 10.0.0.0/8, or unix\n" },
		{ U "models: {m: {targets: [{upstream: '${S}'}]}}\n",
		  "t:2: models.m.targets[0].upstream: found \"${S}\"; allowed: the name of one of `upstreams`\n" },
		{ UP("ca_file: /${S}"), "t:5: upstreams.u.ca_file: \"/${S}\" cannot be used: No such file or "
					"directory; allowed: a file of certificates, PEM\n" },
		{ UP("forward_headers: ['${S} x']"), "t:5: upstreams.u.forward_headers[0]: found \"${S} x\", which is "
						     "no field name; allowed: one as X-Custom\n" },
		{ BOTH "tenants: {a: {keys: [12345678], models: ['${S}']}}\n",
		  "t:4: tenants.a.models[0]: found \"${S}\", which no upstream serves; allowed: names of `models` and "
		  "of "
		  "upstreams of dialect http, and what a default upstream takes\n" },
		{ U "redis: {url: 'redis://u:${S}@${S}@h'}\n",
		  "t:2: redis.url: the value is not valid; allowed: embedded, or a URL: one @ ends user and password, "
		  "and one within them is written %40\n" },
		{ U "redis: {url: '${S}'}\n", "t:2: redis.url: the value is not valid; allowed: embedded, or a URL: it "
					      "begins with redis://, unix:// or sentinel://\n" },
	};
	(void)state;
	setenv("S", "CANARY", 1);
	CONFIG_RIG_JUDGE(cases);
}

/* ---- how many, how much ---------------------------------------------------------------------------------------------------- */

static void tells_twenty_mistakes_and_counts_the_rest(void **state)
{
	char text[4000] = U, told[8000] = "";

	(void)state;
	for (int i = 0; i < 25; i++) {
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "k%d-entirely-different: 1\n", i);
		if (i < 20)
			snprintf(told + strlen(told), sizeof(told) - strlen(told),
				 "t:%d: k%d-entirely-different: unknown key; allowed: listen, admin, admin_token, "
				 "workers, region, allow_anonymous, trusted_proxies, max_body, memory_limit, "
				 "log_level, redis, "
				 "client, drain, upstreams, models, tenants, cache, coalesce, queue, pool\n",
				 i + 2, i);
	}
	snprintf(told + strlen(told), sizeof(told) - strlen(told), "t: 5 more mistakes\n");
	config_rig_judge(text, told);
}

static void shows_whole_characters(void **state)
{
	char text[600], told[600], value[200] = "";

	(void)state;
	for (int i = 0; i < 30; i++)
		strcat(value, "\xe2\x82\xac");
	snprintf(text, sizeof(text), "%sworkers: x%s\n", U, value);
	snprintf(told, sizeof(told),
		 "t:2: workers: found \"x%.57s\" and more; allowed: auto or a whole number; 1 to 256\n", value);
	config_rig_judge(text, told);
}

/* Time grows with the file, not with its square: a hundred thousand of each would take minutes otherwise. */
static void reads_very_large_files(void **state)
{
	struct buf text;
	const struct config *c;

	(void)state;
	buf_init(&text, 32 << 20);
	buf_append(&text, SLICE(U "tenants:\n"));
	for (int i = 0; i < 100000; i++)
		buf_format(&text, "  t%d: {keys: [key-number-%d]}\n", i, i);
	buf_append_byte(&text, '\0');
	c = config_rig_take(text.data);
	assert_int_equal(c->tenants_count, 100000);
	config_release(&c);
	buf_clear(&text);
	buf_append(&text, SLICE(U "tenants: {a: {keys: ["));
	for (int i = 0; i < 1000000; i++)
		buf_append(&text, SLICE("a,"));
	buf_append(&text, SLICE("]}}\n"));
	buf_append_byte(&text, '\0');
	config_rig_judge(text.data, "t:2: the file holds too much\n");
	buf_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_what_is_no_plain_yaml),
		cmocka_unit_test(refuses_a_key_that_stands_twice),
		cmocka_unit_test(survives_what_could_not_be_read),
		cmocka_unit_test(names_unknown_keys_and_their_neighbours),
		cmocka_unit_test(says_what_comes_in_a_later_version),
		cmocka_unit_test(tells_all_at_once_and_in_order),
		cmocka_unit_test(judges_nothing_of_an_entry_that_was_misread),
		cmocka_unit_test(tells_how_a_number_is_written),
		cmocka_unit_test(judges_limits),
		cmocka_unit_test(warns_of_a_burst_that_is_too_small),
		cmocka_unit_test(guards_the_doors),
		cmocka_unit_test(judges_where_upstreams_are),
		cmocka_unit_test(judges_what_goes_to_an_upstream),
		cmocka_unit_test(judges_models_and_tenants),
		cmocka_unit_test(knows_how_long_a_socket_path_is),
		cmocka_unit_test(knows_a_key_by_its_digest),
		cmocka_unit_test(judges_references),
		cmocka_unit_test(never_tells_what_a_reference_stands_for),
		cmocka_unit_test(tells_twenty_mistakes_and_counts_the_rest),
		cmocka_unit_test(shows_whole_characters),
		cmocka_unit_test(reads_very_large_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

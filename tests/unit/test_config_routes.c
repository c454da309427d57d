/* Where requests may go and what becomes of those that fail: endpoints, breaker, retry and health of an upstream; targets, strategy, fallback and price of a
 * model. What they come to, what is refused, what is warned of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "svc/config_internal.h"
#include "tests/support/config_rig.h"

#define U        CONFIG_RIG_UPSTREAMS
#define UP(more) "upstreams:\n  u:\n    dialect: openai\n    endpoints: [{url: 'https://h'}]\n    " more "\n"

/* ---- what it comes to ------------------------------------------------------------------------------------------------------ */

static const char whole[] =
	"region: us\n"
	"upstreams:\n"
	"  u:\n"
	"    dialect: openai\n"
	"    endpoints:\n"
	"      - {url: 'https://a.example/p', region: us, priority: 3, weight: 0, lane: realtime}\n"
	"      - {url: 'https://b.example', region: eu, priority: 3, weight: 1000, lane: batch}\n"
	"      - url: 'http://127.0.0.1:1/'\n"
	"    breaker: {preset: fragile, window: 20s, min_calls: 11, error_rate: 12.5%, slow: 6s, slow_rate: 0.25%,\n"
	"      slow_min_calls: 13, unreachable: 14, failures: 15, open_for: 16s, open_most: 17m, probes: 18, "
	"per_model: "
	"true}\n"
	"    retry: {attempts: 5, base: 2s, cap: 33s, timeout_base: 200ms, budget: 99.99%, resend: true}\n"
	"    health: {path: '/v1/models?x=y', interval: 7s, timeout: 3s}\n"
	"models:\n"
	"  m:\n"
	"    targets:\n"
	"      - {upstream: u, model: one, weight: 95, price: {input: 1.25, cached: 0.31, output: 10.00},\n"
	"         capabilities: {media: false, tools: false, context: 128k}}\n"
	"      - {upstream: u, model: two, weight: 0}\n"
	"    strategy: cost\n"
	"    affinity: false\n"
	"    fallback: [n, o]\n"
	"    price: {input: 0, cached: 0.000001, output: 1000000}\n"
	"  n: {targets: [{upstream: u}], fallback: o}\n"
	"  o: {targets: [{upstream: u}]}\n";

static void judge_failing(const struct config_upstream *u)
{
	assert_int_equal(u->breaker_preset, CONFIG_BREAKER_FRAGILE);
	assert_int_equal(u->breaker.window, 20 * CLOCK_SECOND);
	assert_int_equal(u->breaker.min_calls, 11);
	assert_int_equal(u->breaker.error_rate, 1250);
	assert_int_equal(u->breaker.slow, 6 * CLOCK_SECOND);
	assert_int_equal(u->breaker.slow_rate, 25);
	assert_int_equal(u->breaker.slow_min_calls, 13);
	assert_int_equal(u->breaker.unreachable, 14);
	assert_int_equal(u->breaker.failures, 15);
	assert_int_equal(u->breaker.open_for, 16 * CLOCK_SECOND);
	assert_int_equal(u->breaker.open_most, 17 * CLOCK_MINUTE);
	assert_int_equal(u->breaker.probes, 18);
	assert_true(u->breaker_per_model);
	assert_int_equal(u->retry.attempts, 5);
	assert_int_equal(u->retry.base, 2 * CLOCK_SECOND);
	assert_int_equal(u->retry.cap, 33 * CLOCK_SECOND);
	assert_int_equal(u->retry.timeout_base, 200 * CLOCK_MILLISECOND);
	assert_int_equal(u->retry.budget, 9999);
	assert_true(u->retry.resend);
	assert_string_equal(u->health.path, "/v1/models?x=y");
	assert_int_equal(u->health.interval, 7 * CLOCK_SECOND);
	assert_int_equal(u->health.timeout, 3 * CLOCK_SECOND);
}

static void judge_model(const struct config_model *m)
{
	const struct config_target *one = &m->targets[0], *two = &m->targets[1];

	assert_int_equal(m->targets_count, 2);
	assert_string_equal(two->model, "two");
	assert_int_equal(one->weight, 95);
	assert_int_equal(two->weight, 0);
	assert_int_equal(one->price.input, 1250000);
	assert_int_equal(one->price.cached, 310000);
	assert_int_equal(one->price.output, 10000000);
	assert_false(one->capabilities.media || one->capabilities.tools);
	assert_int_equal(one->capabilities.context, 128000);
	assert_int_equal(two->price.input, -1);
	assert_int_equal(two->price.cached, -1);
	assert_int_equal(two->price.output, -1);
	assert_true(two->capabilities.media && two->capabilities.tools);
	assert_int_equal(two->capabilities.context, 0);
	assert_int_equal(m->strategy, CONFIG_STRATEGY_COST);
	assert_false(m->affinity);
	assert_int_equal(m->fallback_count, 2);
	assert_string_equal(m->fallback[1], "o");
	assert_int_equal(m->price.input, 0);
	assert_int_equal(m->price.cached, 1);
	assert_int_equal(m->price.output, INT64_C(1000000000000));
}

static void reads_every_key(void **state)
{
	const struct config *c = config_rig_take(whole);
	const struct config_endpoint *e = c->upstreams[0].endpoints;

	(void)state;
	assert_string_equal(c->region, "us");
	assert_int_equal(c->upstreams[0].endpoints_count, 3);
	assert_string_equal(e[0].origin, "https://a.example");
	assert_string_equal(e[0].prefix, "/p");
	assert_int_equal(e[0].priority, 3);
	assert_int_equal(e[0].weight, 0);
	assert_int_equal(e[0].lane, CONFIG_LANE_REALTIME);
	assert_string_equal(e[1].region, "eu");
	assert_int_equal(e[1].weight, 1000);
	assert_int_equal(e[1].lane, CONFIG_LANE_BATCH);
	assert_string_equal(e[2].origin, "http://127.0.0.1:1");
	assert_null(e[2].region);
	assert_int_equal(e[2].priority, 0);
	assert_int_equal(e[2].weight, 1);
	assert_int_equal(e[2].lane, CONFIG_LANE_ANY);
	judge_failing(&c->upstreams[0]);
	judge_model(&c->models[0]);
	assert_int_equal(c->models[1].fallback_count, 1);
	config_release(&c);
}

/* Whether the sections are not there, or are and say nothing. */
static void knows_the_defaults(void **state)
{
	static const char *const texts[] = { UP("limits: {}"), UP("breaker: {}\n    retry: {}\n    health: {}") };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		const struct config *c = config_rig_take(texts[i]);
		const struct config_upstream *u = &c->upstreams[0];
		const struct breaker_rule rule = { .window = 10 * CLOCK_SECOND,
						   .min_calls = 20,
						   .error_rate = 5000,
						   .slow = 5 * CLOCK_SECOND,
						   .slow_rate = 100,
						   .slow_min_calls = 500,
						   .unreachable = 5,
						   .failures = 0,
						   .open_for = 30 * CLOCK_SECOND,
						   .open_most = 8 * CLOCK_MINUTE,
						   .probes = 3 };
		assert_null(c->region);
		assert_int_equal(u->breaker_preset, CONFIG_BREAKER_DEFAULT);
		assert_memory_equal(&u->breaker, &rule, sizeof(rule));
		assert_false(u->breaker_per_model || u->retry.resend);
		assert_int_equal(u->retry.attempts, 4);
		assert_int_equal(u->retry.base, CLOCK_SECOND);
		assert_int_equal(u->retry.cap, 32 * CLOCK_SECOND);
		assert_int_equal(u->retry.timeout_base, 100 * CLOCK_MILLISECOND);
		assert_int_equal(u->retry.budget, 2000);
		assert_null(u->health.path);
		assert_int_equal(u->health.interval, 5 * CLOCK_SECOND);
		assert_int_equal(u->health.timeout, 3 * CLOCK_SECOND);
		config_release(&c);
	}
}

static void knows_a_models_defaults(void **state)
{
	const struct config *c = config_rig_take(U "models: {m: {targets: [{upstream: u}]}}\n");
	const struct config_model *m = &c->models[0];

	(void)state;
	assert_int_equal(m->strategy, CONFIG_STRATEGY_PRIORITY);
	assert_true(m->affinity && m->targets[0].capabilities.media && m->targets[0].capabilities.tools);
	assert_int_equal(m->targets[0].weight, 1);
	assert_int_equal(m->fallback_count, 0);
	assert_true(m->price.input == -1 && m->price.cached == -1 && m->price.output == -1);
	assert_true(m->targets[0].price.input == -1 && m->targets[0].price.output == -1);
	config_release(&c);
}

/* ---- the breaker's presets ------------------------------------------------------------------------------------------------- */

static struct breaker_rule breaker_of(const char *written)
{
	char text[400];
	struct breaker_rule rule;

	snprintf(text, sizeof(text), UP("breaker: {%s}"), written);
	const struct config *c = config_rig_take(text);
	rule = c->upstreams[0].breaker;
	config_release(&c);
	return rule;
}

/* The order of the file does not matter, and what it gives holds. */
static void takes_presets_for_what_is_not_given(void **state)
{
	struct breaker_rule standard = breaker_of(""), simple = standard, fragile = standard, got;

	(void)state;
	simple.failures = 5;
	simple.error_rate = simple.slow_rate = 0;
	simple.open_for = simple.open_most = CLOCK_MINUTE;
	fragile.min_calls = 10;
	fragile.error_rate = 2000;
	fragile.slow = 3 * CLOCK_SECOND;
	fragile.slow_min_calls = 100;
	fragile.unreachable = 3;
	fragile.failures = 5;
	fragile.open_for = CLOCK_MINUTE;
	fragile.probes = 1;
	got = breaker_of("preset: default");
	assert_memory_equal(&got, &standard, sizeof(got));
	got = breaker_of("preset: simple");
	assert_memory_equal(&got, &simple, sizeof(got));
	got = breaker_of("preset: fragile");
	assert_memory_equal(&got, &fragile, sizeof(got));
	got = breaker_of("failures: 0, probes: 7, preset: fragile");
	fragile.failures = 0;
	fragile.probes = 7;
	assert_memory_equal(&got, &fragile, sizeof(got));
}

/* A preset that names no key, or stands where it says nothing, would be a mistake that nobody sees. */
static void judge_presets(const struct config_section *section)
{
	for (const struct config_preset *p = section->presets; p != NULL && p->key != NULL; p++) {
		bool known = false;
		assert_int_equal(section->rows[0].type, CONFIG_WORD);
		for (size_t i = 1; i < section->count; i++)
			known = known || strcmp(section->rows[i].name, p->key) == 0;
		if (!known || p->word == 0)
			fail_msg("a preset of %s, word %d", p->key, p->word);
		for (const struct config_preset *other = section->presets; other < p; other++)
			assert_false(other->word == p->word && strcmp(other->key, p->key) == 0);
	}
	for (size_t i = 0; i < section->count; i++)
		if (section->rows[i].section != NULL)
			judge_presets(section->rows[i].section);
}

static void has_presets_of_keys_that_exist(void **state)
{
	(void)state;
	judge_presets(&config_root);
}

/* A bound that the file does not give moves with what it does give. */
static void moves_bounds_that_are_not_given(void **state)
{
	const struct config *c;

	(void)state;
	assert_int_equal(breaker_of("open_for: 1h").open_most, CLOCK_HOUR);
	assert_int_equal(breaker_of("open_for: 2m, preset: simple").open_most, 2 * CLOCK_MINUTE);
	assert_int_equal(breaker_of("open_for: 1s").open_most, 8 * CLOCK_MINUTE);
	c = config_rig_take(UP("retry: {base: 1m}"));
	assert_int_equal(c->upstreams[0].retry.cap, CLOCK_MINUTE);
	config_release(&c);
	c = config_rig_take(UP("retry: {timeout_base: 2m}"));
	assert_int_equal(c->upstreams[0].retry.cap, 2 * CLOCK_MINUTE);
	config_release(&c);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------------- */

/* clang-format off */
static void refuses_values(void **state)
{
#define MODEL(more) U "models:\n  m:\n    targets: [{upstream: u}]\n    " more "\n"
	static const struct config_rig_case cases[] = {
		{ UP("breaker: {preset: soft}"), "t:5: upstreams.u.breaker.preset: found \"soft\"; allowed: default, fragile, simple\n" },
		{ UP("breaker: {error_rate: 50}"), "t:5: upstreams.u.breaker.error_rate: found \"50\"; allowed: a percentage as 50% or 0.5%; 0% to 100%\n" },
		{ UP("breaker: {error_rate: 0.5}"), "t:5: upstreams.u.breaker.error_rate: found \"0.5\"; allowed: a percentage as 50% or 0.5%; 0% to 100%\n" },
		{ UP("breaker: {error_rate: 101%}"), "t:5: upstreams.u.breaker.error_rate: found \"101%\"; allowed: 0% to 100%\n" },
		{ UP("breaker: {slow_rate: 0.001%}"), "t:5: upstreams.u.breaker.slow_rate: found \"0.001%\"; allowed: a percentage as 50% or 0.5%; 0% to 100%\n" },
		{ UP("breaker: {slow_rate: 05%}"), "t:5: upstreams.u.breaker.slow_rate: found \"05%\"; allowed: no zero in front; 0% to 100%\n" },
		{ UP("breaker: {probes: 0}"), "t:5: upstreams.u.breaker.probes: found \"0\"; allowed: 1 to 100\n" },
		{ UP("breaker: {error_rate: 0, slow_rate: 0, unreachable: 0, failures: 0}"), NULL },
		{ UP("breaker: off"), "t:5: upstreams.u.breaker: found a value; allowed: a mapping as {preset: …}\n" },
		{ UP("breaker:\n      open_for: 20s\n      open_most: 10s"), "t:7: upstreams.u.breaker.open_most: found 10s, below open_for, 20s; allowed: that or more\n" },
		{ UP("breaker: {open_most: 29s}"), "t:5: upstreams.u.breaker.open_most: found 29s, below open_for, 30s; allowed: that or more\n" },
		{ UP("breaker: {preset: fragile, open_most: 59s}"), "t:5: upstreams.u.breaker.open_most: found 59s, below open_for, 1m; allowed: that or more\n" },
		{ UP("breaker: {open_for: 20s, open_most: 20s}"), NULL },
		{ UP("retry: {cap: 999ms}"), "t:5: upstreams.u.retry.cap: found 999ms, below base, 1s; allowed: that or more\n" },
		{ UP("retry: {base: 1ms, timeout_base: 2s, cap: 1s}"), "t:5: upstreams.u.retry.cap: found 1s, below timeout_base, 2s; allowed: that or more\n" },
		{ UP("retry: {base: 1s, timeout_base: 1s, cap: 1s, attempts: 1, budget: 0}"), NULL },
		{ UP("retry: {attempts: 0}"), "t:5: upstreams.u.retry.attempts: found \"0\"; allowed: 1 to 20\n" },
		{ UP("health: {path: v1/models}"), "t:5: upstreams.u.health.path: found \"v1/models\"; allowed: a path as /v1/models, with its query\n" },
		{ UP("health: {path: '/a b'}"), "t:5: upstreams.u.health.path: found \"/a b\"; allowed: a path as /v1/models, with its query\n" },
		{ UP("health: {path: '/a#b'}"), "t:5: upstreams.u.health.path: found \"/a#b\"; allowed: a path as /v1/models, with its query\n" },
		{ UP("health: {path: 'x${SLUICE_TEST_PATH}'}"), "t:5: upstreams.u.health.path: found \"x${SLUICE_TEST_PATH}\"; allowed: a path as /v1/models, with its query\n" },
		{ MODEL("price: {input: 1.0000001}"), "t:5: models.m.price.input: found \"1.0000001\"; allowed: none or dollars as 10 or 1.25; 0 to 1000000\n" },
		{ MODEL("price: {input: $1}"), "t:5: models.m.price.input: found \"$1\"; allowed: none or dollars as 10 or 1.25; 0 to 1000000\n" },
		{ MODEL("price: {output: 1000000.01}"), "t:5: models.m.price.output: found \"1000000.01\"; allowed: none or 0 to 1000000\n" },
		{ MODEL("price: {cached: none}"), NULL },
		{ MODEL("price: 5"), "t:5: models.m.price: found a value; allowed: a mapping as {input: …}\n" },
		{ MODEL("strategy: random"), "t:5: models.m.strategy: found \"random\"; allowed: priority, weighted, cost, latency, load\n" },
	};
	(void)state;
	setenv("SLUICE_TEST_PATH", "CANARY", 1);
	CONFIG_RIG_JUDGE(cases);
}

static void judges_every_endpoint(void **state)
{
#define ENDS(dialect, list) "upstreams:\n  u:\n    dialect: " dialect "\n    endpoints:\n" list
#define FINE   "      - {url: 'https://h'}\n"
#define KEY    "    credential: {header: a, value: CANARY}\n"
	static const struct config_rig_case cases[] = {
		{ ENDS("openai", FINE "      - {url: 'i'}\n"),
		  "t:6: upstreams.u.endpoints[1].url: no http:// or https:// at the beginning; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n" },
		{ ENDS("openai", "      - {url: 'i'}\n      - {url: 'i'}\n"),
		  "t:5: upstreams.u.endpoints[0].url: no http:// or https:// at the beginning; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n"
		  "t:6: upstreams.u.endpoints[1].url: no http:// or https:// at the beginning; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535\n" },
		{ ENDS("openai", FINE "      - {url: 'https://i/v1'}\n"),
		  "t:6: upstreams.u.endpoints[1].url: the path of each call begins with its own version; allowed: the same without /v1 at its end\n" },
		{ ENDS("http", FINE "      - {url: 'https://i/v1'}\n"), NULL },
		{ ENDS("openai", FINE "      - {url: 'https://i'}\n      - {url: 'https://H/'}\n"), "t:7: upstreams.u.endpoints[2].url: the same as that of endpoints[0]; allowed: each once\n" },
		{ ENDS("openai", FINE "      - {url: 'https://h/a'}\n      - {url: 'https://h/A'}\n      - {url: 'http://h'}\n"), NULL },
		{ ENDS("openai", FINE "      - {url: 'http://127.0.0.1'}\n      - {url: 'http://i'}\n      - {url: 'http://j'}\n") KEY,
		  "t:9: upstreams.u.credential: it would go unencrypted to another machine, endpoints[2]; allowed: an https:// endpoint, or allow_plaintext: true\n" },
		{ ENDS("openai", FINE "      - {url: 'http://i'}\n") KEY "    allow_plaintext: true\n", NULL },
		{ ENDS("openai", "      - {url: 'https://h', weight: 0}\n"), "t:5: upstreams.u.endpoints[0].weight: found 0 for all of priority 0; allowed: 1 or more for one of them\n" },
		{ ENDS("openai", FINE "      - {url: 'https://i', priority: 2, weight: 0}\n      - {url: 'https://j', weight: 0}\n      - {url: 'https://k', priority: 2, weight: 0}\n"),
		  "t:6: upstreams.u.endpoints[1].weight: found 0 for all of priority 2; allowed: 1 or more for one of them\n" },
		{ ENDS("openai", "      - {url: 'https://h', priority: 1, weight: 0}\n      - {url: 'https://i', priority: 1}\n"), NULL },
		{ ENDS("openai", FINE "      - {url: 'https://i', lane: bulk}\n"), "t:6: upstreams.u.endpoints[1].lane: found \"bulk\"; allowed: any, realtime, batch\n" },
		{ "region: us\n" U, NULL },
		{ ENDS("openai", "      - {url: 'https://h', region: us}\n"), NULL },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

#define DIALECTS_3 "upstreams:\n  o: {dialect: openai, endpoints: [{url: 'http://h'}]}\n  g: {dialect: gemini, endpoints: [{url: 'http://h'}]}\n" \
		   "  p: {dialect: http, endpoints: [{url: 'http://h'}]}\n"

static void judges_targets_together(void **state)
{
#define TARGETS(targets, more) DIALECTS_3 "models:\n  m:\n    targets:\n" targets "    " more "\n"
#define O "      - {upstream: o}\n"
	static const struct config_rig_case cases[] = {
		{ TARGETS(O "      - {upstream: g}\n", "affinity: true"), "t:9: models.m.targets[1].upstream: found \"g\", of dialect gemini; allowed: openai, as targets[0]\n" },
		{ TARGETS(O "      - {upstream: p}\n", "affinity: true"),
		  "t:9: models.m.targets[1].upstream: found \"p\", of dialect http, which has no models; allowed: upstreams of other dialects\n" },
		{ TARGETS("      - {upstream: p}\n" O "      - {upstream: g}\n", "affinity: true"),
		  "t:8: models.m.targets[0].upstream: found \"p\", of dialect http, which has no models; allowed: upstreams of other dialects\n" },
		{ TARGETS(O "      - {upstream: o, model: x}\n", "affinity: true"), NULL },
		{ TARGETS(O "      - {upstream: o, model: x, weight: 0}\n", "strategy: weighted"), NULL },
		{ TARGETS("      - {upstream: o, weight: 0}\n      - {upstream: o, model: x, weight: 0}\n", "strategy: weighted"),
		  "t:7: models.m.targets: found a weight of 0 for all of them; allowed: 1 or more for one of them\n" },
		{ TARGETS("      - {upstream: o, weight: 0}\n", "strategy: load"), "t:7: models.m.targets: found a weight of 0 for all of them; allowed: 1 or more for one of them\n" },
		{ TARGETS("      - {upstream: o, weight: 0}\n", "strategy: latency"), NULL },
#define PRICED "      - {upstream: o, price: {input: 1, output: 2}}\n"
#define WANTS(line, i) "t:" line ": models.m.targets[" i "].price: strategy cost needs one; allowed: {input, output}, of the target or of the model\n"
		{ TARGETS(PRICED PRICED, "strategy: cost"), NULL },
		{ TARGETS(PRICED O, "strategy: cost"), WANTS("9", "1") },
		{ TARGETS(O PRICED O, "strategy: cost"), WANTS("8", "0") WANTS("10", "2") },
		{ TARGETS(O PRICED, "strategy: cost\n    price: {input: 0, output: 0}"), NULL },
		{ TARGETS(O, "strategy: cost\n    price: {input: 0}"), WANTS("8", "0") },
		{ TARGETS("      - {upstream: o, price: {cached: 1}}\n", "strategy: cost\n    price: {input: 0, output: 0}"), WANTS("8", "0") },
		{ TARGETS(O, "strategy: priority\n    price: {input: 0}"), NULL },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void judges_fallbacks(void **state)
{
#define MODELS(models) DIALECTS_3 "models:\n" models
#define M(name, more) "  " name ": {targets: [{upstream: o}]" more "}\n"
	static const struct config_rig_case cases[] = {
		{ MODELS(M("a", ", fallback: [b, c]") M("b", ", fallback: c") M("c", "")), NULL },
		{ MODELS(M("a", ", fallback: [b, nobody]") M("b", "")), "t:6: models.a.fallback[1]: found \"nobody\"; allowed: names of `models`\n" },
		{ MODELS(M("a", ", fallback: '${S}'")), "t:6: models.a.fallback: found \"${S}\"; allowed: names of `models`\n" },
		{ MODELS(M("a", ", fallback: [a]")), "t:6: models.a.fallback[0]: found \"a\", the model itself; allowed: others\n" },
		{ MODELS(M("a", ", fallback: [b, c, b]") M("b", "") M("c", "")), "t:6: models.a.fallback[2]: found \"b\" twice; allowed: once\n" },
		{ MODELS(M("a", ", fallback: [b]") "  b: {targets: [{upstream: g}]}\n"), "t:6: models.a.fallback[0]: found \"b\", of dialect gemini; allowed: models of dialect openai\n" },
		{ MODELS(M("a", ", fallback: [b]") "  b: {targets: [{upstream: nobody}]}\n"),
		  "t:7: models.b.targets[0].upstream: found \"nobody\"; allowed: the name of one of `upstreams`\n" },
		{ MODELS(M("a", ", fallback: [b]") "  b: 5\n"), "t:7: models.b: found a value; allowed: a mapping as {targets: …}\n" },
		{ MODELS(M("a", ", fallback: [b]") M("b", ", fallback: \"\\e\"")), "t:7: models.b.fallback: found \"?\"; allowed: text of 1 to 1000 bytes, in one line\n"
		  },
	};
	(void)state;
	setenv("S", "CANARY", 1);
	CONFIG_RIG_JUDGE(cases);
}

/* Each way back is told once, from its first model in the file on, whichever way it was found. */
static void refuses_cycles(void **state)
{
#define CYCLE(line, name, way) "t:" line ": models." name ".fallback: it leads back to the model: " way "; allowed: no such way\n"
	static const struct config_rig_case cases[] = {
		{ MODELS(M("a", ", fallback: [b]") M("b", ", fallback: [a]")), CYCLE("6", "a", "a → b → a") },
		{ MODELS(M("x", ", fallback: [c]") M("a", ", fallback: [b]") M("b", ", fallback: [c]") M("c", ", fallback: [a]")), CYCLE("7", "a", "a → b → c → a") },
		{ MODELS(M("a", ", fallback: [b, c]") M("b", ", fallback: [a]") M("c", ", fallback: [a]")), CYCLE("6", "a", "a → b → a") CYCLE("6", "a", "a → c → a") },
		{ MODELS(M("a", ", fallback: [a, b]") M("b", ", fallback: [a]")),
		  "t:6: models.a.fallback[0]: found \"a\", the model itself; allowed: others\n" CYCLE("6", "a", "a → b → a") },
		{ MODELS(M("a", ", fallback: [b, c]") M("b", ", fallback: [d]") M("c", ", fallback: [d]") M("d", "")), NULL },
		{ MODELS(M("gpt-4", ", fallback: [gpt-4.1]") M("gpt-4.1", ", fallback: [gpt-4]")), CYCLE("6", "gpt-4", "gpt-4 → gpt-4.1 → gpt-4") },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

#define T(models) "tenants:\n  t:\n    keys: [12345678]\n    models: " models "\n"
#define SKIPPED(fallback, model) "t:12: tenants.t.models: warning: \"" fallback "\", a fallback of \"" model "\", is not among them and is skipped for this tenant; better: to add it\n"

static void take_quietly(const char *text)
{
	const struct config *config = config_rig_take(text);

	config_release(&config);
}

static void warns_of_what_changes_nothing(void **state)
{
#define CANARY(strategy) U "models:\n  m:\n    targets: [{upstream: u}, {upstream: u, weight: 5}]\n" strategy
#define HEEDLESS "targets[1].weight: warning: strategy priority heeds no weights; better: strategy weighted or load\n"
#define U_IN(region) "upstreams: {u: {dialect: openai, endpoints: [{url: 'https://h', region: " region "}]}}\n"
#define ELSEWHERE "t:1: region: warning: no endpoint is in \"eu\", so it changes nothing; better: one of the endpoints' `region`\n"
	(void)state;
	config_rig_warn(CANARY(""), "t:4: models.m." HEEDLESS);
	take_quietly(CANARY("    strategy: weighted\n"));
	take_quietly("region: eu\n" U);
	take_quietly("region: eu\n" U_IN("eu"));
	config_rig_warn("region: eu\n" U_IN("us"), ELSEWHERE);
}

static void warns_of_a_fallback_that_a_tenant_may_not_use(void **state)
{
#define ABC MODELS(M("a", ", fallback: [b, c]") M("b", ", fallback: [c]") M("c", ""))
	(void)state;
	config_rig_warn(ABC T("[a]"), SKIPPED("b", "a"));
	config_rig_warn(ABC T("[c, b, a]") "  v: {keys: [87654321], models: [b]}\n",
			"t:13: tenants.v.models: warning: \"c\", a fallback of \"b\", is not among them and is skipped for this tenant; better: to add it\n");
	config_rig_warn(ABC T("[b, a]"), SKIPPED("c", "b"));
	config_rig_judge(ABC T("[a, b, c]"), NULL);
	config_rig_judge(ABC T("[c]"), NULL);
	config_rig_judge(ABC T("[]"), NULL);
}
/* clang-format on */

/* ---- how many -------------------------------------------------------------------------------------------------------------- */

/* Each falls back on the next sixteen; the last on the first when the ring is closed. Time grows with the file, not with its square; and a way of any length
 * is told in one line. */
static void put_ring(struct buf *text, int count, bool closed)
{
	buf_clear(text);
	buf_append(text, SLICE(U "models:\n"));
	for (int i = 0; i < count; i++) {
		buf_format(text, "  model-%05d: {targets: [{upstream: u}], fallback: [", i);
		for (int k = 1; k <= 16 && i + k < count; k++)
			buf_format(text, "%smodel-%05d", k > 1 ? ", " : "", i + k);
		buf_format(text, "%s]}\n", closed && i == count - 1 ? "model-00000" : "");
	}
	buf_append_byte(text, '\0');
}

static void follows_long_ways(void **state)
{
	struct buf text, error;
	const struct config *c;

	(void)state;
	buf_init(&text, 32 << 20);
	put_ring(&text, 10000, false);
	c = config_rig_take(text.data);
	assert_int_equal(c->models[0].fallback_count, 16);
	config_release(&c);
	put_ring(&text, 10000, true);
	assert_null(config_rig_parse(text.data, &error));
	if (strncmp(error.data,
		    "t:3: models.model-00000.fallback: it leads back to the model: model-00000 → model-00001 → ",
		    90) != 0 ||
	    strstr(error.data, " → …; allowed: no such way\n") == NULL)
		fail_msg("%s", error.data);
	assert_int_equal(slice_find(slice_of(error.data), '\n'), error.len - 2);
	buf_free(&error);
	buf_free(&text);
}

/* Many mistakes of one kind in a large file: each is only counted when it is no longer told. */
static void counts_many_mistakes_quickly(void **state)
{
	struct buf text, error;

	(void)state;
	buf_init(&text, 32 << 20);
	buf_append(&text, SLICE(U "models:\n"));
	for (int i = 0; i < 10000; i++) {
		buf_format(&text, "  m%d: {targets: [{upstream: u}], fallback: [", i);
		for (int k = 0; k < 16; k++)
			buf_format(&text, "%sx%d", k > 0 ? ", " : "", k);
		buf_append(&text, SLICE("]}\n"));
	}
	buf_append_byte(&text, '\0');
	assert_null(config_rig_parse(text.data, &error));
	assert_non_null(strstr(error.data, "t: 159980 more mistakes\n"));
	buf_free(&error);
	buf_free(&text);
}

/* Sixteen of each, and no more. */
static void bounds_lists(void **state)
{
	char text[4000], told[200];

	(void)state;
	for (int count = 16; count <= 17; count++) {
		snprintf(text, sizeof(text), "upstreams:\n  u:\n    dialect: openai\n    endpoints:\n");
		for (int i = 0; i < count; i++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "      - {url: 'https://h%d'}\n", i);
		config_rig_judge(text, count == 16 ? NULL : "t:5: upstreams.u.endpoints: found 17; allowed: 1 to 16\n");
		snprintf(text, sizeof(text), U "models:\n  m:\n    targets:\n");
		for (int i = 0; i < count; i++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text),
				 "      - {upstream: u, model: m%d}\n", i);
		snprintf(told, sizeof(told), "t:5: models.m.targets: found 17; allowed: 1 to 16\n");
		config_rig_judge(text, count == 16 ? NULL : told);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_key),
		cmocka_unit_test(knows_the_defaults),
		cmocka_unit_test(knows_a_models_defaults),
		cmocka_unit_test(takes_presets_for_what_is_not_given),
		cmocka_unit_test(has_presets_of_keys_that_exist),
		cmocka_unit_test(moves_bounds_that_are_not_given),
		cmocka_unit_test(refuses_values),
		cmocka_unit_test(judges_every_endpoint),
		cmocka_unit_test(judges_targets_together),
		cmocka_unit_test(judges_fallbacks),
		cmocka_unit_test(refuses_cycles),
		cmocka_unit_test(warns_of_what_changes_nothing),
		cmocka_unit_test(warns_of_a_fallback_that_a_tenant_may_not_use),
		cmocka_unit_test(follows_long_ways),
		cmocka_unit_test(counts_many_mistakes_quickly),
		cmocka_unit_test(bounds_lists),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

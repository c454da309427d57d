/* The section queue, and tenants' priorities. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/config_rig.h"

#define U CONFIG_RIG_UPSTREAMS
#define M "models: {a: {targets: [{upstream: u}]}, b: {targets: [{upstream: u}]}, c: {targets: [{upstream: u}]}}\n"

static void reads_every_key(void **state)
{
	const struct config *c = config_rig_take(
		U M "queue: {max_wait: 7s, depth: 5, weights: {high: 10, medium: 4, low: 2},\n"
		    "  groups: {small: {models: [c], share: 25%}, large: {models: [a], share: 12.5%}}}\n"
		    "tenants: {t: {keys: [12345678], priority: low}, u: {keys: [87654321]}}\n");

	(void)state;
	assert_int_equal(c->queue.max_wait, 7 * CLOCK_SECOND);
	assert_int_equal(c->queue.rule.depth, 5);
	assert_int_equal(c->queue.rule.weight[LANE_HIGH], 10);
	assert_int_equal(c->queue.rule.weight[LANE_MEDIUM], 4);
	assert_int_equal(c->queue.rule.weight[LANE_LOW], 2);
	assert_int_equal(c->queue.rule.groups, 3);
	assert_int_equal(c->queue.rule.share[0], 62);
	assert_int_equal(c->queue.rule.share[1], 25);
	assert_int_equal(c->queue.rule.share[2], 12);
	assert_int_equal(c->models[0].group, 2);
	assert_int_equal(c->models[1].group, 0);
	assert_int_equal(c->models[2].group, 1);
	assert_int_equal(c->tenants[0].priority, CONFIG_PRIORITY_LOW);
	assert_int_equal(c->tenants[1].priority, CONFIG_PRIORITY_ANY);
	config_release(&c);
}

static void knows_the_defaults(void **state)
{
	static const char *const texts[] = { U, U "queue: {}\n" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		const struct config *c = config_rig_take(texts[i]);
		assert_int_equal(c->queue.max_wait, 5 * CLOCK_SECOND);
		assert_int_equal(c->queue.rule.depth, 10000);
		assert_int_equal(c->queue.rule.weight[LANE_HIGH], 5);
		assert_int_equal(c->queue.rule.weight[LANE_MEDIUM], 3);
		assert_int_equal(c->queue.rule.weight[LANE_LOW], 1);
		assert_int_equal(c->queue.rule.groups, 1);
		assert_int_equal(c->queue.rule.share[0], 100);
		config_release(&c);
	}
}

static void judges_groups(void **state)
{
	static const struct config_rig_case cases[] = {
		{ U M "queue:\n  groups: {g: {models: [x], share: 10%}}\n",
		  "t:4: queue.groups.g.models[0]: found \"x\"; allowed: names of `models`\n" },
		{ U M "queue:\n  groups:\n    g: {models: [a], share: 10%}\n    h: {models: [b, a], share: 10%}\n",
		  "t:6: queue.groups.h.models[1]: found \"a\", which is in \"g\" already; allowed: a model in one "
		  "group\n" },
		{ U M "queue:\n  groups:\n    g: {models: [a], share: 50%}\n    h: {models: [b], share: 49.5%}\n",
		  "t:6: queue.groups.h.share: with the groups before it, 99.5%; allowed: 99%, for 1% or more is left "
		  "for "
		  "the models in none\n" },
		{ U M "queue:\n  groups:\n    g: {models: [a], share: 50%}\n    h: {models: [b], share: 49%}\n", NULL },
		{ U "queue:\n  max_wait: 2h\n", "t:3: queue.max_wait: found \"2h\"; allowed: 0 to 1h\n" },
		{ U "tenants:\n  a: {keys: [12345678], priority: urgent}\n",
		  "t:3: tenants.a.priority: found \"urgent\"; allowed: any, high, medium, low\n" },
	};

	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

static void warns_of_a_part_for_no_model(void **state)
{
	(void)state;
	config_rig_warn(U M "queue:\n  groups:\n    g: {models: [], share: 20%}\n    h: {models: [a], share: 20%}\n",
			"t:5: queue.groups.g.models: warning: found none, so its share is for no model; better: names "
			"of `models`, or no such group\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_key),
		cmocka_unit_test(knows_the_defaults),
		cmocka_unit_test(judges_groups),
		cmocka_unit_test(warns_of_a_part_for_no_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

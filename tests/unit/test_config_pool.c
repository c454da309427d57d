/* The configuration of pools: what a workload's preset says, what is refused, what is only warned of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "svc/config.h"
#include "tests/support/config_rig.h"

#define UP(more) "upstreams:\n  u:\n    dialect: openai\n    endpoints: [{url: 'http://h'}]\n    " more "\n"
#define TENANT   "tenants: {a: {keys: [12345678]}}\n"

static void presets_are_for_workloads(void **state)
{
	static const struct {
		const char *written;
		int64_t min, start, max, streams, tenant_max;
	} cases[] = {
		{ "preset: default", 1, 10, 100, 100, 0 },
		{ "preset: cli", 0, 1, 5, 5, 0 },
		{ "preset: backend", 2, 10, 30, 30, 0 },
		{ "preset: batch", 0, 40, 80, 20, 0 },
		{ "preset: multi_tenant", 5, 20, 100, 100, 10 },
		{ "max: 7, preset: backend, tenant_max: 3", 2, 7, 7, 30, 3 },
		{ "preset: cli, min: 4", 4, 4, 5, 5, 0 },
		{ "preset: multi_tenant, max: 3", 3, 3, 3, 100, 10 },
		{ "preset: multi_tenant, max: 3, start: 2", 2, 2, 3, 100, 10 },
		{ "preset: backend, start: 1", 1, 1, 30, 30, 0 },
		{ "start: 0", 0, 0, 100, 100, 0 },
	};
	char text[400];
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		snprintf(text, sizeof(text), UP("pool: {%s}") TENANT, cases[i].written);
		const struct config *c = config_rig_take(text);
		const struct config_upstream *u = &c->upstreams[0];
		assert_int_equal(u->pool.min, cases[i].min);
		assert_int_equal(u->pool.start, cases[i].start);
		assert_int_equal(u->pool.max, cases[i].max);
		assert_int_equal(u->pool.streams, cases[i].streams);
		assert_int_equal(u->pool.tenant_max, cases[i].tenant_max);
		assert_int_equal(u->pool.validate_after, CLOCK_MINUTE);
		config_release(&c);
	}
}

/* clang-format off */
static void tenants_and_the_instance_have_bounds(void **state)
{
	const struct config *c = config_rig_take(
		UP("pool: {min: 0}") "tenants: {a: {keys: [12345678], pool: {max: 4}}, b: {keys: [87654321]}}\n"
				     "pool: {max: 200, streams: 300}\n");
	(void)state;
	assert_int_equal(c->tenants[0].pool.max, 4);
	assert_int_equal(c->tenants[1].pool.max, 0);
	assert_int_equal(c->pool.max, 200);
	assert_int_equal(c->pool.streams, 300);
	config_release(&c);
}

static void refuses_sizes_that_cannot_be(void **state)
{
	static const struct config_rig_case cases[] = {
		{ UP("pool: {min: 5, max: 4}"),
		  "t:5: upstreams.u.pool.min: found 5, above max, 4; allowed: 0 to max\n" },
		{ UP("pool: {preset: cli, min: 10}"),
		  "t:5: upstreams.u.pool.min: found 10, above the preset's max, 5; allowed: 0 to max\n" },
		{ UP("pool: {min: 101, start: 101}"),
		  "t:5: upstreams.u.pool.min: found 101, above the default max, 100; allowed: 0 to max\n" },
		{ UP("pool: {min: 3, start: 2, max: 5}"),
		  "t:5: upstreams.u.pool.start: found 2; allowed: min to max, 3 to 5\n" },
		{ UP("pool: {preset: cli, start: 6}"),
		  "t:5: upstreams.u.pool.start: found 6; allowed: min to max, 0 to 5\n" },
		{ UP("pool: {preset: web}"), "t:5: upstreams.u.pool.preset: found \"web\"; allowed: default, cli, "
					     "backend, batch, multi_tenant\n" },
		{ UP("pool: {tenant_max: -1}"),
		  "t:5: upstreams.u.pool.tenant_max: found \"-1\"; allowed: 0 to 30000\n" },
		{ UP("pool: {min: 5, start: 5, max: 5}") "pool: {max: 4}\n",
		  "t:6: pool.max: found 4, less than the 5 connections that the upstreams' `min` keep open; allowed: "
		  "that or more, or 0\n" },
		{ UP("pool: {max: 5}") "pool: {max: 5, streams: 100}\n", NULL },
	};
	(void)state;
	CONFIG_RIG_JUDGE(cases);
}

#define WARNING "warning: "
static void warns_of_what_surely_was_not_meant(void **state)
{
	(void)state;
	config_rig_warn(UP("pool: {max: 30, streams: 20, http: 1.1}\n    limits: {concurrency: 120}"),
			"t:5: upstreams.u.pool.max: " WARNING
			"with max 30 and streams 20 an instance has at most 50 calls under way, of the 120 that "
			"limits.concurrency allows: it takes 3 instances to use them; better: more connections, unless "
			"there are so many\n");
	config_rig_judge(
		"workers: 20\n" UP(
			"pool: {max: 30, streams: 20, http: 2, streams_per_connection: 10}\n    limits: {concurrency: 500}"),
		NULL);
	config_rig_judge(UP("pool: {max: 30, streams: 20}\n    limits: {concurrency: 50}"), NULL);
	config_rig_warn(UP("pool: {preset: multi_tenant}"),
			"t:5: upstreams.u.pool.preset: " WARNING
			"without `tenants` all callers are one, and have at most 10 of the upstream's 200 connections; better: "
			"another preset, or tenant_max: 0\n");
	config_rig_judge(UP("pool: {preset: multi_tenant, max: 3, streams: 7}"), NULL);
	config_rig_warn(UP("pool: {preset: multi_tenant, max: 3, streams: 8}"),
			"t:5: upstreams.u.pool.preset: " WARNING
			"without `tenants` all callers are one, and have at most 10 of the upstream's 11 connections; better: "
			"another preset, or tenant_max: 0\n");
	config_rig_warn(UP("pool: {max: 5, tenant_max: 50}"),
			"t:5: upstreams.u.pool.tenant_max: " WARNING
			"without `tenants` all callers are one, and have at most 50 of the upstream's 105 connections; better: "
			"max and streams, or tenant_max: 0\n");
	config_rig_judge(UP("pool: {tenant_max: 200}"), NULL);
	config_rig_warn(UP("pool: {tenant_max: 201}") TENANT,
			"t:5: upstreams.u.pool.tenant_max: " WARNING
			"found 201, but all connections of the upstream are 200: it bounds nobody; better: less, or 0\n");
	config_rig_warn("workers: 3\n" UP("pool: {http: 2, max: 2, streams: 3}"),
			"t:6: upstreams.u.pool.max: " WARNING
			"found 2, less than the 3 workers: over HTTP/2 a connection belongs to one, and the others "
			"wait until it is idle; better: 3 or more, or fewer `workers`\n");
	config_rig_warn("workers: 3\n" UP("pool: {http: 2, max: 3, streams: 1}"),
			"t:6: upstreams.u.pool.streams: " WARNING
			"found 1, less than the 3 workers: over HTTP/2 a connection belongs to one, and the others "
			"wait until it is idle; better: 3 or more, or fewer `workers`\n");
	config_rig_judge("workers: 3\n" UP("pool: {http: 1.1, max: 1, streams: 1}"), NULL);
	config_rig_judge(UP("pool: {tenant_max: 200}") TENANT, NULL);
	config_rig_warn(UP("pool: {tenant_max: 2}"),
			"t:5: upstreams.u.pool.tenant_max: " WARNING
			"without `tenants` all callers are one, and have at most 2 of the upstream's 200 connections; better: max "
			"and streams, or tenant_max: 0\n");
	config_rig_warn(UP("pool: {tenant_max: 201}"),
			"t:5: upstreams.u.pool.tenant_max: " WARNING
			"found 201, but all connections of the upstream are 200: it bounds nobody; better: less, or 0\n");
	config_rig_warn(UP("pool: {max: 50}") "pool:\n  max: 40\n  streams: 60\n",
			"t:7: pool.max: " WARNING "found 40, less than the pool.max of the upstream \"u\", 50, which "
						  "it can never use; better: as much, or a "
			"lower one there\n");
}

#define TENANTS "tenants:\n  a: {keys: [12345678], pool: {max: 201}}\n  b: {keys: [87654321], pool: {max: 200}}\n"
static void warns_of_a_bound_that_bounds_no_tenant(void **state)
{
	(void)state;
	config_rig_warn(UP("usage: ask") TENANTS,
			"t:7: tenants.a.pool.max: " WARNING "found 201, but no upstream has more than 200 connections: "
			"it bounds nobody; better: less, or 0\n");
	config_rig_judge(UP("pool: {streams: 101}") TENANTS, NULL);
	config_rig_judge(UP("pool: {tenant_max: 10}") TENANTS, NULL); /* it is above that: nothing bounds this one */
}

static void what_is_not_given_makes_room(void **state)
{
	const struct config *c = config_rig_take(UP("pool: {preset: backend}") "pool: {max: 1}\n");
	(void)state;
	assert_int_equal(c->upstreams[0].pool.min, 0);
	config_release(&c);
}

/* clang-format on */

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(presets_are_for_workloads),
		cmocka_unit_test(tenants_and_the_instance_have_bounds),
		cmocka_unit_test(refuses_sizes_that_cannot_be),
		cmocka_unit_test(warns_of_what_surely_was_not_meant),
		cmocka_unit_test(warns_of_a_bound_that_bounds_no_tenant),
		cmocka_unit_test(what_is_not_given_makes_room),
	};
	return cmocka_run_group_tests_name("config_pool", tests, NULL, NULL);
}

/* svc/route: which model is meant, who may use it, what is asked instead of it, which models are listed. Choosing is tests/unit/test_route_choose.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "svc/route.h"
#include "tests/support/config_rig.h"

#define AT "endpoints: [{url: 'http://127.0.0.1:1'}]"

static const char world[] = "allow_anonymous: true\n"
			    "upstreams:\n"
			    "  o: {dialect: openai, default: true, " AT "}\n"
			    "  p: {dialect: openai, " AT "}\n"
			    "  g: {dialect: gemini, " AT "}\n"
			    "  h: {dialect: http, " AT "}\n"
			    "models:\n"
			    "  a: {targets: [{upstream: p, model: real-a}]}\n"
			    "  b: {targets: [{upstream: p}]}\n"
			    "  c: {targets: [{upstream: o}]}\n"
			    "  d: {targets: [{upstream: o}]}\n"
			    "  e: {targets: [{upstream: g}]}\n"
			    "tenants:\n"
			    "  all: {keys: [key-of-all-of-them]}\n"
			    "  few: {keys: [key-of-a-few-of-them], models: [a, c, h]}\n";

enum { DETAIL_MOST = 512, NAMES_MOST = 8 };

/* clang-format off */
static char *fallback_of_a[] = { "b", "c", "d" };
static char *fallback_of_c[] = { "d" };
/* clang-format on */

struct rig {
	const struct config *config;
	const struct config_tenant *all, *few;
	struct route route;
	struct buf detail;
};

static struct config_model *model_of(struct rig *rig, const char *name)
{
	for (size_t i = 0; i < rig->config->models_count; i++)
		if (strcmp(rig->config->models[i].name, name) == 0)
			return &rig->config->models[i];
	fail_msg("no model %s", name);
	return NULL;
}

static void lend(struct config_model *model, char **fallback, size_t count)
{
	model->fallback = fallback;
	model->fallback_count = count;
}

static void open_rig(struct rig *rig)
{
	*rig = (struct rig){ .config = config_rig_take(world) };
	rig->all = &rig->config->tenants[0];
	rig->few = &rig->config->tenants[1];
	assert_string_equal(rig->few->name, "few");
	buf_init(&rig->detail, DETAIL_MOST);
	lend(model_of(rig, "a"), fallback_of_a, ARRAY_LENGTH(fallback_of_a));
	lend(model_of(rig, "c"), fallback_of_c, ARRAY_LENGTH(fallback_of_c));
}

static void close_rig(struct rig *rig)
{
	lend(model_of(rig, "a"), NULL, 0);
	lend(model_of(rig, "c"), NULL, 0);
	config_release(&rig->config);
	buf_free(&rig->detail);
}

static enum refusal find(struct rig *rig, const struct config_tenant *tenant, enum dialect dialect, const char *model)
{
	struct dialect_call call = { .dialect = dialect };

	*(dialect == DIALECT_http ? &call.upstream : &call.model) = slice_of(model);
	buf_clear(&rig->detail);
	rig->route = (struct route){ .target = 99 };
	return route_find(rig->config, tenant, &call, &rig->route, &rig->detail);
}

static void a_call_has_its_model(void **state)
{
	static const struct {
		enum dialect dialect;
		const char *model, *upstream, *upstream_model;
		bool configured;
	} cases[] = {
		{ DIALECT_openai, "a", "p", "real-a", true },
		{ DIALECT_openai, "b", "p", "", true },
		{ DIALECT_openai, "never-heard-of", "o", "", false },
		{ DIALECT_gemini, "e", "g", "", true },
		{ DIALECT_http, "h", "h", "", false },
	};
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct route *route = &rig.route;
		assert_int_equal(find(&rig, rig.all, cases[i].dialect, cases[i].model), REFUSAL_none);
		assert_true(slice_equal(route->model, slice_of(cases[i].model)));
		assert_string_equal(route->upstream->name, cases[i].upstream);
		assert_true(slice_equal(route->upstream_model, slice_of(cases[i].upstream_model)));
		assert_int_equal(route->target + route->endpoint + route->fallbacks, 0);
		assert_int_equal(route->configured != NULL, cases[i].configured);
		assert_ptr_equal(route->first, route->configured);
	}
	close_rig(&rig);
}

static void of_several_targets_the_first_is_named(void **state)
{
	struct rig rig;
	struct config_model *a;
	struct config_target two[2], *own;

	(void)state;
	open_rig(&rig);
	a = model_of(&rig, "a");
	own = a->targets;
	two[0] = model_of(&rig, "c")->targets[0];
	two[1] = own[0];
	a->targets = two;
	a->targets_count = 2;
	assert_int_equal(find(&rig, NULL, DIALECT_openai, "a"), REFUSAL_none);
	assert_string_equal(rig.route.upstream->name, "o");
	assert_int_equal(rig.route.upstream_model.len, 0);
	a->targets = own;
	a->targets_count = 1;
	close_rig(&rig);
}

static void what_is_refused(void **state)
{
	static const struct {
		bool few;
		enum dialect dialect;
		const char *model;
		enum refusal refusal;
		const char *detail;
	} cases[] = {
		{ true, DIALECT_openai, "b", REFUSAL_model_not_allowed, "Asked for: \"b\"." },
		{ true, DIALECT_openai, "x", REFUSAL_model_not_allowed, "Asked for: \"x\"." },
		{ false, DIALECT_gemini, "a", REFUSAL_model_not_found,
		  "The model \"a\" is served in the dialect openai, not gemini." },
		{ false, DIALECT_gemini, "x", REFUSAL_model_not_found, "No upstream of dialect gemini takes \"x\"." },
		{ false, DIALECT_http, "o", REFUSAL_unknown_path, "No upstream of dialect http is named \"o\"." },
	};
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct config_tenant *tenant = cases[i].few ? rig.few : NULL;
		assert_int_equal(find(&rig, tenant, cases[i].dialect, cases[i].model), cases[i].refusal);
		if (!slice_equal(buf_slice(&rig.detail), slice_of(cases[i].detail)))
			fail_msg("case %zu: %.*s", i, SLICE_ARGS(buf_slice(&rig.detail)));
	}
	close_rig(&rig);
}

/* ---- what is asked instead --------------------------------------------------------------------------------------------------- */

/* `names`: those that are asked one after another, then nothing. */
static void expect_fallbacks(struct rig *rig, const struct config_tenant *tenant, const char *names)
{
	const struct config_model *first = rig->route.configured;
	struct route before;

	for (; *names != '\0'; names++) {
		rig->route.target = rig->route.endpoint = 3; /* of the one before; does not count here */
		assert_true(route_fall_back(rig->config, tenant, &rig->route));
		assert_true(slice_equal(rig->route.model, slice_make(names, 1)));
		assert_ptr_equal(rig->route.configured, config_find_model(rig->config, rig->route.model));
		assert_ptr_equal(rig->route.upstream, rig->route.configured->targets[0].upstream);
		assert_int_equal(rig->route.target + rig->route.endpoint, 0);
		assert_ptr_equal(rig->route.first, first);
		assert_true(rig->route.fallbacks > 0);
	}
	before = rig->route;
	assert_false(route_fall_back(rig->config, tenant, &rig->route));
	assert_memory_equal(&before, &rig->route, sizeof(before));
}

static void the_next_is_asked_and_then_the_next(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	assert_int_equal(find(&rig, rig.all, DIALECT_openai, "a"), REFUSAL_none);
	expect_fallbacks(&rig, rig.all, "bcd"); /* of c, d would come again */
	assert_int_equal(find(&rig, NULL, DIALECT_openai, "a"), REFUSAL_none);
	expect_fallbacks(&rig, NULL, "bcd");
	assert_int_equal(find(&rig, NULL, DIALECT_openai, "c"), REFUSAL_none);
	expect_fallbacks(&rig, NULL, "d");
	close_rig(&rig);
}

static void only_what_the_tenant_may_use(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	assert_int_equal(find(&rig, rig.few, DIALECT_openai, "a"), REFUSAL_none);
	expect_fallbacks(&rig, rig.few, "c");
	assert_int_equal(find(&rig, rig.few, DIALECT_openai, "c"), REFUSAL_none);
	expect_fallbacks(&rig, rig.few, "");
	close_rig(&rig);
}

static void what_has_no_list_has_nothing_else(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	assert_int_equal(find(&rig, NULL, DIALECT_openai, "b"), REFUSAL_none);
	expect_fallbacks(&rig, NULL, "");
	assert_int_equal(find(&rig, NULL, DIALECT_openai, "never-heard-of"), REFUSAL_none);
	expect_fallbacks(&rig, NULL, "");
	assert_int_equal(find(&rig, NULL, DIALECT_http, "h"), REFUSAL_none);
	expect_fallbacks(&rig, NULL, "");
	close_rig(&rig);
}

/* ---- what is listed ---------------------------------------------------------------------------------------------------------- */

static void each_sees_what_he_may_use(void **state)
{
	static const struct {
		bool few;
		enum dialect dialect;
		const char *names;
	} cases[] = {
		{ false, DIALECT_openai, "abcd" }, { true, DIALECT_openai, "ac" },   { false, DIALECT_gemini, "e" },
		{ true, DIALECT_gemini, "" },      { false, DIALECT_anthropic, "" },
	};
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct config_tenant *tenant = cases[i].few ? rig.few : NULL;
		struct slice names[NAMES_MOST];
		assert_int_equal(route_models(rig.config, tenant, cases[i].dialect, names), strlen(cases[i].names));
		for (const char *name = "abcdex"; *name != '\0'; name++) {
			const char *at = strchr(cases[i].names, *name);
			assert_int_equal(route_lists(rig.config, tenant, cases[i].dialect, slice_make(name, 1)),
					 at != NULL);
			if (at != NULL)
				assert_true(slice_equal(names[at - cases[i].names], slice_make(name, 1)));
		}
	}
	close_rig(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_has_its_model),
		cmocka_unit_test(of_several_targets_the_first_is_named),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(the_next_is_asked_and_then_the_next),
		cmocka_unit_test(only_what_the_tenant_may_use),
		cmocka_unit_test(what_has_no_list_has_nothing_else),
		cmocka_unit_test(each_sees_what_he_may_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

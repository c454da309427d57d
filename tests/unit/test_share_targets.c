/* svc/share: where a request may go is part of its key, where it does go is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/share_rig.h"

/* Its key, as the rig's configuration has it. */
static const unsigned char *ask(struct share_rig *rig, const char *fields)
{
	const struct share_rig_request request = { "/v1/chat/completions", fields, SLICE("{\"model\":\"one\"}") };
	const struct share *s = share_rig_judge(rig, &request);

	assert_non_null(s);
	assert_true(s->wanted);
	return s->ask.key;
}

/* What another configuration, of another instance or of yesterday, makes of the same request. The model has two targets: of the upstream that the rig gave it,
 * and of a second one, which forwards X-Second. */
struct elsewhere {
	struct share_input input;
	struct route route;
	struct config_model model;
	struct config_target targets[2];
	struct config_upstream upstreams[2];
	struct config_endpoint endpoints[2][2];
	struct dialect_call call;
};

static char another[] = "another", second[] = "second", elsewhere_url[] = "http://127.0.0.1:2", header[] = "X-Second";
static char *headers[] = { header };

static void go_elsewhere(struct elsewhere *e, const struct share_input *input)
{
	*e = (struct elsewhere){ .input = *input, .route = *input->route, .call = *input->call };
	e->model = *e->route.configured;
	for (size_t i = 0; i < 2; i++) {
		e->upstreams[i] = *e->route.upstream;
		e->endpoints[i][0] = e->endpoints[i][1] = e->upstreams[i].endpoints[0];
		e->upstreams[i].endpoints = e->endpoints[i];
		e->targets[i] = e->model.targets[0];
		e->targets[i].upstream = &e->upstreams[i];
	}
	e->upstreams[1].name = second;
	e->upstreams[1].forward_headers = headers;
	e->upstreams[1].forward_headers_count = 1;
	e->model.targets = e->targets;
	e->model.targets_count = 2;
	e->route.configured = &e->model;
	e->route.upstream = &e->upstreams[0];
	e->input.route = &e->route;
	e->input.call = &e->call;
}

static void keep_it(struct elsewhere *e)
{
	(void)e;
}

static void rename_upstream(struct elsewhere *e)
{
	e->upstreams[0].name = another;
}

static void rename_second(struct elsewhere *e)
{
	e->upstreams[1].name = another;
}

static void move_upstream(struct elsewhere *e)
{
	e->endpoints[0][0].url = elsewhere_url;
}

static void move_second(struct elsewhere *e)
{
	e->endpoints[1][0].url = elsewhere_url;
}

static void rename_model(struct elsewhere *e)
{
	e->route.model = SLICE("another");
}

static void map_model(struct elsewhere *e)
{
	e->targets[0].model = another;
}

static void map_second(struct elsewhere *e)
{
	e->targets[1].model = another;
}

static void map_to_the_client_s_name(struct elsewhere *e)
{
	e->targets[1].model = NULL;
}

static void drop_second(struct elsewhere *e)
{
	e->model.targets_count = 1;
}

static void swap_targets(struct elsewhere *e)
{
	e->targets[0].upstream = &e->upstreams[1];
	e->targets[1].upstream = &e->upstreams[0];
}

static void configure_nothing(struct elsewhere *e)
{
	e->route.configured = NULL;
}

static void speak_otherwise(struct elsewhere *e)
{
	e->call.dialect = DIALECT_anthropic;
}

static void judge_elsewhere(struct elsewhere *e, unsigned char key[ANSWER_KEY])
{
	struct share s;

	share_judge(&s, &e->input);
	assert_true(s.wanted);
	memcpy(key, s.ask.key, ANSWER_KEY);
}

static void each_part_of_the_route_counts(void **state)
{
	static void (*const changes[])(
		struct elsewhere *) = { keep_it,        rename_upstream, rename_second,
					move_upstream,  move_second,     rename_model,
					map_model,      map_second,      map_to_the_client_s_name,
					drop_second,    swap_targets,    configure_nothing,
					speak_otherwise };
	struct share_rig *rig = share_rig_new("cache: {when: always}\n");
	unsigned char keys[ARRAY_LENGTH(changes)][ANSWER_KEY], key[ANSWER_KEY];

	(void)state;
	memcpy(key, ask(rig, NULL), sizeof(key));
	for (size_t i = 0; i < ARRAY_LENGTH(changes); i++) {
		struct elsewhere e;
		go_elsewhere(&e, share_rig_input(rig));
		changes[i](&e);
		judge_elsewhere(&e, keys[i]);
		assert_int_equal(memcmp(key, keys[i], sizeof(key)) == 0, changes[i] == drop_second);
		for (size_t other = 0; other < i; other++)
			assert_memory_not_equal(keys[i], keys[other], ANSWER_KEY);
	}
	share_rig_free(&rig);
}

static void choose_second(struct elsewhere *e)
{
	e->route.upstream = &e->upstreams[1];
	e->route.target = 1;
	e->route.upstream_model = SLICE("chosen");
}

static void choose_another_endpoint(struct elsewhere *e)
{
	e->route.endpoint = 1;
	e->endpoints[0][1].url = elsewhere_url;
	e->upstreams[0].endpoints_count = 2;
}

static void weigh_otherwise(struct elsewhere *e)
{
	e->targets[1].weight = 17;
	e->model.strategy = CONFIG_STRATEGY_COST;
	e->upstreams[0].endpoints_count = 2;
}

/* Two requests of one meaning share, whichever targets they would go to by themselves. */
static void the_choice_does_not_count(void **state)
{
	static void (*const changes[])(struct elsewhere *) = { keep_it, choose_second, choose_another_endpoint,
							       weigh_otherwise };
	struct share_rig *rig = share_rig_new("cache: {when: always}\n");
	unsigned char keys[ARRAY_LENGTH(changes)][ANSWER_KEY];

	(void)state;
	(void)ask(rig, NULL);
	for (size_t i = 0; i < ARRAY_LENGTH(changes); i++) {
		struct elsewhere e;
		go_elsewhere(&e, share_rig_input(rig));
		changes[i](&e);
		judge_elsewhere(&e, keys[i]);
		assert_memory_equal(keys[i], keys[0], ANSWER_KEY);
	}
	share_rig_free(&rig);
}

/* A field that only one of the targets is sent counts whichever is chosen; one that none is sent does not. */
static void fields_of_any_target_count(void **state)
{
	static const char *const fields[] = { "X-Second: a", "X-Second: b", "X-Third: a", "X-Third: b" };
	struct share_rig *rig = share_rig_new("cache: {when: always}\n");
	unsigned char keys[ARRAY_LENGTH(fields)][2][ANSWER_KEY];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(fields); i++) {
		struct elsewhere e;
		(void)ask(rig, fields[i]);
		go_elsewhere(&e, share_rig_input(rig));
		judge_elsewhere(&e, keys[i][0]);
		choose_second(&e);
		judge_elsewhere(&e, keys[i][1]);
		assert_memory_equal(keys[i][0], keys[i][1], ANSWER_KEY);
	}
	assert_memory_not_equal(keys[0][0], keys[1][0], ANSWER_KEY);
	assert_memory_not_equal(keys[0][0], keys[2][0], ANSWER_KEY);
	assert_memory_equal(keys[2][0], keys[3][0], ANSWER_KEY);
	share_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_part_of_the_route_counts),
		cmocka_unit_test(the_choice_does_not_count),
		cmocka_unit_test(fields_of_any_target_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/support/route_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static char model_name[] = "m", upstream_model_name[] = "real";

static bool is_asked_for(const struct route_rig *rig, const struct config_upstream *upstream, struct slice model)
{
	for (size_t i = 0; i < rig->model.targets_count; i++)
		if (rig->targets[i].upstream == upstream &&
		    slice_equal(model, slice_of(rig->targets[i].model != NULL ? rig->targets[i].model : model_name)))
			return true;
	return false;
}

static void look(void *arg, const struct config_upstream *upstream, size_t endpoint, struct slice model,
		 struct route_health *health)
{
	struct route_rig *rig = arg;

	assert_true(is_asked_for(rig, upstream, model));
	assert_true(endpoint < upstream->endpoints_count);
	rig->looks++;
	*health = rig->health[upstream - rig->upstreams][endpoint];
}

static void init_endpoint(struct route_rig *rig, size_t target, size_t endpoint)
{
	char *url = rig->urls[target][endpoint];

	snprintf(url, ROUTE_RIG_NAME_MOST, "http://%zu.at-%zu", endpoint, target);
	rig->endpoints[target][endpoint] = (struct config_endpoint){ .url = url, .weight = 1 };
	rig->health[target][endpoint] = (struct route_health){ .first_byte = -1 };
}

void route_rig_init(struct route_rig *rig, enum config_strategy strategy, size_t targets, size_t endpoints)
{
	static const struct config_price unknown = { -1, -1, -1 };

	*rig = (struct route_rig){ .model = { .name = model_name,
					      .targets = rig->targets,
					      .targets_count = targets,
					      .strategy = strategy,
					      .affinity = true,
					      .price = unknown } };
	for (size_t i = 0; i < CONFIG_TARGETS_MOST; i++) {
		snprintf(rig->names[i], ROUTE_RIG_NAME_MOST, "upstream-%zu", i);
		rig->upstreams[i] = (struct config_upstream){ .name = rig->names[i],
							      .endpoints = rig->endpoints[i],
							      .endpoints_count = endpoints };
		rig->targets[i] = (struct config_target){ .upstream = &rig->upstreams[i],
							  .model = i % 2 == 0 ? upstream_model_name : NULL,
							  .weight = 1,
							  .price = unknown,
							  .capabilities = { .media = true, .tools = true } };
		for (size_t k = 0; k < CONFIG_ENDPOINTS_MOST; k++)
			init_endpoint(rig, i, k);
	}
	rig->q = (struct route_question){
		.config = &rig->config, .lane = CONFIG_LANE_REALTIME, .random = UINT64_MAX, .look = look, .arg = rig
	};
}

enum route_found route_rig_ask(struct route_rig *rig)
{
	rig->looks = 0;
	rig->route = (struct route){ .model = slice_of(model_name),
				     .configured = &rig->model,
				     .first = &rig->model,
				     .upstream = &rig->upstreams[0],
				     .upstream_model = slice_of(rig->targets[0].model) };
	return route_choose(&rig->q, &rig->route, &rig->choice);
}

size_t route_rig_target(struct route_rig *rig)
{
	assert_int_equal(route_rig_ask(rig), ROUTE_FOUND);
	assert_ptr_equal(rig->route.upstream, &rig->upstreams[rig->route.target]);
	assert_true(slice_equal(rig->route.upstream_model, slice_of(rig->targets[rig->route.target].model)));
	return rig->route.target;
}

size_t route_rig_endpoint(struct route_rig *rig)
{
	(void)route_rig_target(rig);
	return rig->route.endpoint;
}

void route_rig_stop(struct route_rig *rig, size_t target, size_t endpoint, int64_t wait)
{
	rig->health[target][endpoint].gate = BREAKER_STOP;
	rig->health[target][endpoint].wait = wait;
}

void route_rig_heal(struct route_rig *rig, size_t target, size_t endpoint)
{
	rig->health[target][endpoint] = (struct route_health){ .first_byte = -1 };
}

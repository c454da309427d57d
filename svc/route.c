/* What the configuration alone says: which model is meant, who may use it, what is asked instead of it. Choosing between a model's targets is
 * svc/route_choose.c. */
#include "svc/route.h"

#include "lib/buf.h"
#include "lib/mem.h"

bool route_allows(const struct config_tenant *tenant, struct slice model)
{
	if (tenant == NULL || tenant->models_count == 0)
		return true;
	for (size_t i = 0; i < tenant->models_count; i++)
		if (slice_equal(slice_of(tenant->models[i]), model))
			return true;
	return false;
}

static const struct config_upstream *default_upstream(const struct config *config, enum dialect dialect)
{
	for (size_t i = 0; i < config->upstreams_count; i++)
		if (config->upstreams[i].dialect == dialect && config->upstreams[i].is_default)
			return &config->upstreams[i];
	return NULL;
}

static enum refusal find_http(const struct config *config, const struct config_tenant *tenant,
			      const struct dialect_call *call, struct route *route, struct buf *detail)
{
	const struct config_upstream *upstream = config_find_upstream(config, call->upstream);

	if (upstream == NULL || upstream->dialect != DIALECT_http) {
		buf_format(detail, "No upstream of dialect http is named \"%.*s\".", SLICE_ARGS(call->upstream));
		return REFUSAL_unknown_path;
	}
	if (!route_allows(tenant, call->upstream)) {
		buf_format(detail, "Asked for: \"%.*s\".", SLICE_ARGS(call->upstream));
		return REFUSAL_model_not_allowed;
	}
	*route = (struct route){ .model = slice_of(upstream->name), .upstream = upstream };
	return REFUSAL_none;
}

/* The route to a configured model, before it is chosen where it goes. */
static struct route begin_at(const struct config_model *model)
{
	const struct config_target *target = &model->targets[0];

	return (struct route){ .model = slice_of(model->name),
			       .configured = model,
			       .upstream = target->upstream,
			       .upstream_model = slice_of(target->model) };
}

enum refusal route_find(const struct config *config, const struct config_tenant *tenant,
			const struct dialect_call *call, struct route *route, struct buf *detail)
{
	const struct config_model *model;
	const struct config_upstream *upstream;

	if (call->dialect == DIALECT_http)
		return find_http(config, tenant, call, route, detail);
	if (!route_allows(tenant, call->model)) {
		buf_format(detail, "Asked for: \"%.*s\".", SLICE_ARGS(call->model));
		return REFUSAL_model_not_allowed;
	}
	model = config_find_model(config, call->model);
	if (model != NULL) {
		enum dialect dialect = model->targets[0].upstream->dialect;
		if (dialect != call->dialect) {
			buf_format(detail, "The model \"%s\" is served in the dialect %s, not %s.", model->name,
				   config_dialect_name(dialect), config_dialect_name(call->dialect));
			return REFUSAL_model_not_found;
		}
		*route = begin_at(model);
		route->first = model;
		return REFUSAL_none;
	}
	upstream = default_upstream(config, call->dialect);
	if (upstream == NULL) {
		buf_format(detail, "No upstream of dialect %s takes \"%.*s\".", config_dialect_name(call->dialect),
			   SLICE_ARGS(call->model));
		return REFUSAL_model_not_found;
	}
	*route = (struct route){ .model = call->model, .upstream = upstream };
	return REFUSAL_none;
}

/* A fallback's own fallbacks do not count: the list of the model that was asked for is the whole of it. */
bool route_fall_back(const struct config *config, const struct config_tenant *tenant, struct route *route)
{
	const struct config_model *first = route->first;

	if (first == NULL)
		return false;
	for (size_t i = route->fallbacks; i < first->fallback_count; i++) {
		struct slice name = slice_of(first->fallback[i]);
		const struct config_model *model = config_find_model(config, name);
		if (model == NULL || !route_allows(tenant, name))
			continue;
		*route = begin_at(model);
		route->first = first;
		route->fallbacks = i + 1;
		return true;
	}
	return false;
}

bool route_lists(const struct config *config, const struct config_tenant *tenant, enum dialect dialect,
		 struct slice name)
{
	const struct config_model *model = config_find_model(config, name);

	return model != NULL && model->targets[0].upstream->dialect == dialect && route_allows(tenant, name);
}

/* A mark for each model that the tenant names. Both lists may have ten thousand names: comparing each with each would hold the loop. */
static bool *mark_allowed(const struct config *config, const struct config_tenant *tenant)
{
	bool *allowed = mem_new_array(config->models_count, sizeof(*allowed));

	for (size_t i = 0; i < tenant->models_count; i++) {
		const struct config_model *model = config_find_model(config, slice_of(tenant->models[i]));
		if (model != NULL)
			allowed[model - config->models] = true;
	}
	return allowed;
}

size_t route_models(const struct config *config, const struct config_tenant *tenant, enum dialect dialect,
		    struct slice *names)
{
	bool *allowed = tenant != NULL && tenant->models_count > 0 ? mark_allowed(config, tenant) : NULL;
	size_t count = 0;

	for (size_t i = 0; i < config->models_count; i++)
		if (config->models[i].targets[0].upstream->dialect == dialect && (allowed == NULL || allowed[i]))
			names[count++] = slice_of(config->models[i].name);
	mem_free(allowed);
	return count;
}

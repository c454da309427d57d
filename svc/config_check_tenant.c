/* What belongs together in a tenant: its keys, which are nobody else's, and what it may call. */
#include "lib/map.h"
#include "svc/config_check.h"

static bool is_http_upstream(const struct config *config, const char *name)
{
	const struct config_upstream *upstream = config_find_upstream(config, slice_of(name));

	return upstream != NULL && upstream->dialect == DIALECT_http;
}

static bool has_default_upstream(const struct config *config)
{
	for (size_t i = 0; i < config->upstreams_count; i++)
		if (config->upstreams[i].is_default)
			return true;
	return false;
}

/* Whether all that the tenant may call has no tokens. */
static bool calls_only_http(const struct config *config, const struct config_tenant *t)
{
	for (size_t i = 0; i < t->models_count; i++)
		if (config_find_model(config, slice_of(t->models[i])) != NULL ||
		    !is_http_upstream(config, t->models[i]))
			return false;
	return t->models_count > 0 || (config->models_count == 0 && !has_default_upstream(config));
}

static void check_keys(const struct config_check *c, const struct config_tenant *t)
{
	for (size_t i = 0; i < t->keys_count; i++) {
		const struct config_tenant *other = config_index_key(c->config, &t->keys[i], t);
		struct config_index index;
		if (other != NULL)
			config_check_complain(c,
					      CONFIG_PLACE("tenants", t->name, "keys", config_check_index(&index, i)),
					      "the tenant \"%s\" has this key already; allowed: a key stands once",
					      other->name);
	}
}

static void check_tenant(const struct config_check *c, const struct config_tenant *t)
{
	if (strcmp(t->name, "anonymous") == 0)
		config_check_complain(c, CONFIG_PLACE("tenants", t->name),
				      "the name stands for callers without a key; allowed: another name");
	check_keys(c, t);
}

/* The first model on the tenant's list that has a fallback which is not on it; NULL: none. */
static const struct config_model *find_skipped(const struct config *config, const struct config_tenant *t,
					       const char **fallback)
{
	const struct config_model *found = NULL;
	struct map *list = map_new();

	for (size_t i = 0; i < t->models_count; i++)
		map_put(list, slice_of(t->models[i]), t->models[i]);
	for (size_t i = 0; i < t->models_count && found == NULL; i++) {
		const struct config_model *m = config_find_model(config, slice_of(t->models[i]));
		for (size_t k = 0; m != NULL && k < m->fallback_count && found == NULL; k++)
			if (map_get(list, slice_of(m->fallback[k])) == NULL) {
				*fallback = m->fallback[k];
				found = m;
			}
	}
	map_free(&list, NULL);
	return found;
}

/* It works, without that fallback; one word for each tenant is enough. */
static void warn_of_skipped(const struct config_check *c, const struct config_tenant *t)
{
	const char *fallback = NULL;
	const struct config_model *m;
	struct config_spot spot;

	if (t->models_count == 0 || c->errors->warnings.count >= CONFIG_COMPLAINTS)
		return;
	m = find_skipped(c->config, t, &fallback);
	if (m == NULL)
		return;
	spot = config_check_find(c, CONFIG_PLACE("tenants", t->name, "models"));
	config_warn(
		c->errors, spot.line, spot.path,
		"warning: \"%s\", a fallback of \"%s\", is not among them and is skipped for this tenant; better: to "
		"add it",
		fallback, m->name);
}

/* What he may call, which takes models and upstreams that were read. */
static void check_calls(const struct config_check *c, const struct config_tenant *t)
{
	bool rest_is_served = has_default_upstream(c->config);

	for (size_t i = 0; i < t->models_count && !rest_is_served; i++) {
		struct config_index index;
		const struct config_place *place =
			CONFIG_PLACE("tenants", t->name, "models", config_check_index(&index, i));
		if (config_find_model(c->config, slice_of(t->models[i])) == NULL &&
		    !is_http_upstream(c->config, t->models[i]))
			config_check_complain(
				c, place,
				"found \"%s\", which no upstream serves; allowed: names of `models` and of upstreams "
				"of "
				"dialect http, and what a default upstream takes",
				config_check_as_written(c, place, t->models[i]));
	}
	warn_of_skipped(c, t);
	if (config_check_has_token_limit(&t->limits) && calls_only_http(c->config, t))
		config_check_complain(
			c, CONFIG_PLACE("tenants", t->name, "limits"),
			"it may call dialect http alone, which has no tokens; allowed: limits on requests and "
			"concurrency");
}

void config_check_tenants(const struct config_check *c)
{
	bool calls = CONFIG_IS_RIGHT(c, "upstreams", "models");

	for (size_t i = 0; i < c->config->tenants_count; i++)
		if (config_check_entry_is_right(c, "tenants", i, c->config->tenants[i].name)) {
			check_tenant(c, &c->config->tenants[i]);
			if (calls)
				check_calls(c, &c->config->tenants[i]);
		}
}

/* What belongs together in the pools: their sizes, what else bounds the same calls, and whom it bounds. */
#include "svc/config_check.h"

static bool is_given(const struct config_check *c, const struct config_upstream *u, const char *key)
{
	return config_check_find(c, CONFIG_PLACE("upstreams", u->name, "pool", key)).node != NULL;
}

static int64_t at_most(int64_t count, int64_t bound)
{
	return count < bound ? count : bound;
}

/* For people: a number that is not in the file is not looked for there. */
static const char *whose_max(const struct config_check *c, const struct config_upstream *u)
{
	if (is_given(c, u, "max"))
		return "";
	return u->pool.preset == CONFIG_POOL_DEFAULT ? "the default " : "the preset's ";
}

/* What the file does not give, but a preset or the default, makes room for what it gives; only what it gives is judged. */
static void check_sizes(const struct config_check *c, struct config_upstream *u)
{
	bool min_given = is_given(c, u, "min"), start_given = is_given(c, u, "start");

	if (!min_given)
		u->pool.min = at_most(u->pool.min, start_given ? at_most(u->pool.start, u->pool.max) : u->pool.max);
	if (u->pool.min > u->pool.max)
		config_check_complain(c, CONFIG_PLACE("upstreams", u->name, "pool", "min"),
				      "found %lld, above %smax, %lld; allowed: 0 to max", (long long)u->pool.min,
				      whose_max(c, u), (long long)u->pool.max);
	else if (!start_given)
		u->pool.start = u->pool.start < u->pool.min ? u->pool.min : at_most(u->pool.start, u->pool.max);
	else if (u->pool.start < u->pool.min || u->pool.start > u->pool.max)
		config_check_complain(c, CONFIG_PLACE("upstreams", u->name, "pool", "start"),
				      "found %lld; allowed: min to max, %lld to %lld", (long long)u->pool.start,
				      (long long)u->pool.min, (long long)u->pool.max);
}

/* ---- what works, but surely not as it was meant ------------------------------------------------------------------------ */

/* Calls under way to all endpoints at once. */
static int64_t calls_of(const struct config_upstream *u)
{
	int64_t calls = 0;

	for (size_t i = 0; i < u->endpoints_count; i++)
		calls += (u->pool.max + u->pool.streams) *
			 (pool_multiplexes(u->pool.http, u->endpoints[i].origin) ? u->pool.streams_per_connection : 1);
	return calls;
}

/* The limit is the fleet's, and the pools are each instance's: so many instances it takes. */
static void warn_of_concurrency(const struct config_check *c, const struct config_upstream *u)
{
	int64_t limit = u->limits.of[LIMIT_concurrency].count, calls = calls_of(u);
	struct config_spot spot;

	if (limit <= calls || calls == 0)
		return;
	spot = config_check_find(c, CONFIG_PLACE("upstreams", u->name, "pool", "max"));
	config_warn(c->errors, spot.line, spot.path,
		    "warning: with max %lld and streams %lld an instance has at most %lld calls under way, of the %lld "
		    "that "
		    "limits.concurrency allows: it takes %lld instances to use them; better: more connections, unless "
		    "there "
		    "are so many",
		    (long long)u->pool.max, (long long)u->pool.streams, (long long)calls, (long long)limit,
		    (long long)((limit + calls - 1) / calls));
}

static int64_t connections_of(const struct config_upstream *u)
{
	return (u->pool.max + u->pool.streams) * (int64_t)u->endpoints_count;
}

static void warn_of_tenants(const struct config_check *c, const struct config_upstream *u)
{
	bool given = is_given(c, u, "tenant_max");
	int64_t all = connections_of(u);
	struct config_spot spot;

	if (u->pool.tenant_max == 0 || c->config->tenants_count > 0 || u->pool.tenant_max >= all)
		return; /* one that the file gives, above that, is told below */
	spot = config_check_find(c, CONFIG_PLACE("upstreams", u->name, "pool", given ? "tenant_max" : "preset"));
	config_warn(c->errors, spot.line, spot.path,
		    "warning: without `tenants` all callers are one, and have at most %lld of the upstream's %lld "
		    "connections; better: %s, or tenant_max: 0",
		    (long long)u->pool.tenant_max, (long long)all, given ? "max and streams" : "another preset");
}

static void warn_of_tenant_max(const struct config_check *c, const struct config_upstream *u)
{
	int64_t all = connections_of(u);
	struct config_spot spot;

	if (u->pool.tenant_max <= all || !is_given(c, u, "tenant_max"))
		return;
	spot = config_check_find(c, CONFIG_PLACE("upstreams", u->name, "pool", "tenant_max"));
	config_warn(c->errors, spot.line, spot.path,
		    "warning: found %lld, but all connections of the upstream are %lld: it bounds nobody; better: "
		    "less, or 0",
		    (long long)u->pool.tenant_max, (long long)all);
}

/* A connection of HTTP/2 carries its own worker's calls alone. */
static void warn_of_workers(const struct config_check *c, const struct config_upstream *u, const char *key,
			    int64_t most)
{
	struct config_spot spot;

	if (u->pool.http != POOL_HTTP_2 || most >= c->config->workers)
		return;
	spot = config_check_find(c, CONFIG_PLACE("upstreams", u->name, "pool", key));
	config_warn(c->errors, spot.line, spot.path,
		    "warning: found %lld, less than the %lld workers: over HTTP/2 a connection belongs to one, and the "
		    "others wait until it is idle; better: %lld or more, or fewer `workers`",
		    (long long)most, (long long)c->config->workers, (long long)c->config->workers);
}

void config_check_pool(const struct config_check *c, struct config_upstream *u)
{
	check_sizes(c, u);
	for (size_t i = 0; i < u->endpoints_count; i++)
		if (u->endpoints[i].origin == NULL)
			return;
	warn_of_concurrency(c, u);
	warn_of_tenants(c, u);
	warn_of_tenant_max(c, u);
	warn_of_workers(c, u, "max", u->pool.max);
	warn_of_workers(c, u, "streams", u->pool.streams);
}

/* ---- of the instance ----------------------------------------------------------------------------------------------------- */

int64_t config_kept(const struct config *config)
{
	int64_t sum = 0;

	for (size_t i = 0; i < config->upstreams_count; i++)
		sum += config->upstreams[i].pool.min * (int64_t)config->upstreams[i].endpoints_count;
	return sum;
}

/* What the file does not give makes room for what it gives. */
static void check_kept(const struct config_check *c)
{
	struct config *config = c->config;

	for (size_t i = 0; i < config->upstreams_count && config->pool.max < config_kept(config); i++)
		if (!is_given(c, &config->upstreams[i], "min"))
			config->upstreams[i].pool.min = 0;
	if (config->pool.max < config_kept(config))
		config_check_complain(c, CONFIG_PLACE("pool", "max"),
				      "found %lld, less than the %lld connections that the upstreams' `min` keep open; "
				      "allowed: that or more, or 0",
				      (long long)config->pool.max, (long long)config_kept(config));
}

static void warn_of_all(const struct config_check *c, const char *key, int64_t all, const struct config_upstream *u,
			int64_t most)
{
	struct config_spot spot = config_check_find(c, CONFIG_PLACE("pool", key));

	if (all > 0 && all < most && is_given(c, u, key))
		config_warn(c->errors, spot.line, spot.path,
			    "warning: found %lld, less than the pool.%s of the upstream \"%s\", %lld, which it can "
			    "never use; "
			    "better: as much, or a lower one there",
			    (long long)all, key, u->name, (long long)most);
}

/* Where an upstream has a tenant_max, it says that this tenant is above that. */
static void warn_of_tenants_own(const struct config_check *c)
{
	const struct config *config = c->config;
	int64_t most = 0;

	for (size_t i = 0; i < config->upstreams_count; i++) {
		if (config->upstreams[i].pool.tenant_max > 0)
			return;
		if (connections_of(&config->upstreams[i]) > most)
			most = connections_of(&config->upstreams[i]);
	}
	for (size_t i = 0; i < config->tenants_count && c->errors->warnings.count < CONFIG_COMPLAINTS; i++) {
		const struct config_tenant *t = &config->tenants[i];
		struct config_spot spot;
		if (t->pool.max <= most)
			continue;
		spot = config_check_find(c, CONFIG_PLACE("tenants", t->name, "pool", "max"));
		config_warn(c->errors, spot.line, spot.path,
			    "warning: found %lld, but no upstream has more than %lld connections: it bounds nobody; "
			    "better: less, or 0",
			    (long long)t->pool.max, (long long)most);
	}
}

void config_check_pools(const struct config_check *c)
{
	const struct config *config = c->config;

	if (!CONFIG_IS_RIGHT(c, "pool", "upstreams"))
		return;
	if (config->pool.max > 0)
		check_kept(c);
	for (size_t i = 0; i < config->upstreams_count; i++) {
		warn_of_all(c, "max", config->pool.max, &config->upstreams[i], config->upstreams[i].pool.max);
		warn_of_all(c, "streams", config->pool.streams, &config->upstreams[i],
			    config->upstreams[i].pool.streams);
	}
	if (CONFIG_IS_RIGHT(c, "tenants"))
		warn_of_tenants_own(c);
}

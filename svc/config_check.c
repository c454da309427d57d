#include "svc/config_check.h"

#include <sched.h>
#include <unistd.h>

#define ADDRESSES "host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one"

bool config_check_has_token_limit(const struct limits *limits)
{
	for (int i = 0; i < LIMIT_COUNT; i++)
		if (limits->of[i].count > 0 && limit_unit_of((enum limit_kind)i) == LIMIT_TOKENS)
			return true;
	return false;
}

/* ---- cache and coalesce ---------------------------------------------------------------------------------------------------- */

/* Dialect http knows no temperature. */
static bool has_models(const struct config *config)
{
	for (size_t i = 0; i < config->upstreams_count; i++)
		if (config->upstreams[i].dialect != DIALECT_http)
			return true;
	return false;
}

static void check_when(const struct config_check *c, const char *section, enum config_when when)
{
	struct config_spot spot = config_check_find(c, CONFIG_PLACE(section, "when"));

	if (when == CONFIG_WHEN_ALWAYS && has_models(c->config))
		config_warn(
			c->errors, spot.line, spot.path,
			"warning: who asks the same is given the same answer, though a temperature above 0 asks for "
			"another each time; better: deterministic or asked");
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------- */

static void check_redis(const struct config_check *c, const struct config_place *place, const char *url, bool may_embed)
{
	char what[400];
	struct buf wrong;

	buf_wrap(&wrong, what, sizeof(what), 0);
	if (!config_address_is_redis(slice_of(url), may_embed, &wrong))
		config_check_complain(c, place, "%.*s", SLICE_ARGS(buf_slice(&wrong)));
}

static void check_listen(const struct config_check *c, size_t i)
{
	const struct config *config = c->config;
	const char *address = config->listen[i], *written;
	struct config_index index;
	const struct config_place *place = CONFIG_PLACE("listen", config_check_index(&index, i));

	written = config_check_as_written(c, place, address);
	if (!config_address_is_valid(slice_of(address)))
		config_check_complain(c, place, "found \"%s\"; allowed: " ADDRESSES, written);
	else if (!config_address_is_loopback(slice_of(address)) && config->tenants_count == 0 &&
		 !config->allow_anonymous)
		config_check_complain(
			c, place,
			"found \"%s\": others could use it without a key; allowed: loopback, or `tenants`, or "
			"allow_anonymous: true",
			written);
	for (size_t k = 0; k < i; k++)
		if (strcmp(config->listen[k], address) == 0 && !slice_ends(slice_of(address), SLICE(":0")))
			config_check_complain(c, place, "found \"%s\" twice; allowed: once", written);
}

static void check_admin(const struct config_check *c)
{
	const struct config *config = c->config;
	const struct config_place *place = CONFIG_PLACE("admin");
	const char *written = config_check_as_written(c, place, config->admin);

	if (config->admin == NULL)
		return;
	if (!config_address_is_valid(slice_of(config->admin)))
		config_check_complain(c, place, "found \"%s\"; allowed: off, " ADDRESSES, written);
	else if (!config_address_is_loopback(slice_of(config->admin)) && config->admin_token == NULL)
		config_check_complain(c, place,
				      "found \"%s\": others could read it; allowed: loopback, or an admin_token",
				      written);
	for (size_t i = 0; i < config->listen_count; i++)
		if (strcmp(config->listen[i], config->admin) == 0 && !slice_ends(slice_of(config->admin), SLICE(":0")))
			config_check_complain(c, place, "found \"%s\", which is in `listen`; allowed: another",
					      written);
}

/* The cores that this process may use: fewer than the machine has where it was given a part. */
int64_t config_cores(void)
{
	cpu_set_t mine;
	long cores = sched_getaffinity(0, sizeof(mine), &mine) == 0 ? CPU_COUNT(&mine) : sysconf(_SC_NPROCESSORS_ONLN);

	return cores < 1 ? 1 : cores > CONFIG_WORKERS_MOST ? CONFIG_WORKERS_MOST : cores;
}

static void resolve_words(struct config *config)
{
	if (config->admin != NULL && strcmp(config->admin, "off") == 0) {
		mem_free(config->admin);
		config->admin = NULL;
	}
	if (config->workers == 0)
		config->workers = config_cores();
}

static void check_proxy(const struct config_check *c, size_t i)
{
	const char *network = c->config->trusted_proxies[i];
	struct config_index index;
	const struct config_place *place = CONFIG_PLACE("trusted_proxies", config_check_index(&index, i));

	if (!config_address_is_network(slice_of(network)))
		config_check_complain(c, place, "found \"%s\"; allowed: an address, a network as 10.0.0.0/8, or unix",
				      config_check_as_written(c, place, network));
}

static void warn_of_region(const struct config_check *c)
{
	const struct config *config = c->config;
	struct config_spot spot;
	bool elsewhere = false;

	for (size_t i = 0; i < config->upstreams_count; i++)
		for (size_t k = 0; k < config->upstreams[i].endpoints_count; k++) {
			const char *region = config->upstreams[i].endpoints[k].region;
			if (region != NULL && strcmp(region, config->region) == 0)
				return;
			elsewhere |= region != NULL;
		}
	if (!elsewhere)
		return;
	spot = config_check_find(c, CONFIG_PLACE("region"));
	config_warn(c->errors, spot.line, spot.path,
		    "warning: no endpoint is in \"%s\", so it changes nothing; better: one of the endpoints' `region`",
		    config->region);
}

static void check_doors(const struct config_check *c)
{
	if (CONFIG_IS_RIGHT(c, "listen", "tenants", "allow_anonymous"))
		for (size_t i = 0; i < c->config->listen_count; i++)
			check_listen(c, i);
	if (CONFIG_IS_RIGHT(c, "listen", "admin", "admin_token"))
		check_admin(c);
	if (CONFIG_IS_RIGHT(c, "redis"))
		check_redis(c, CONFIG_PLACE("redis", "url"), c->config->redis.url, true);
	if (CONFIG_IS_RIGHT(c, "cache") && c->config->cache.redis != NULL)
		check_redis(c, CONFIG_PLACE("cache", "redis"), c->config->cache.redis, false);
	if (CONFIG_IS_RIGHT(c, "region", "upstreams") && c->config->region != NULL)
		warn_of_region(c);
	if (CONFIG_IS_RIGHT(c, "trusted_proxies"))
		for (size_t i = 0; i < c->config->trusted_proxies_count; i++)
			check_proxy(c, i);
}

void config_check(struct config_reader *r, const struct config_node *root)
{
	const struct config_check c = { &r->errors, r->config, root, r->folder, r->errors.mistakes.count };
	struct config *config = r->config;

	config_index_names(config);
	resolve_words(config);
	check_doors(&c);
	check_when(&c, "cache", config->cache.when);
	check_when(&c, "coalesce", config->coalesce.when);
	config_check_upstreams(&c);
	config_check_pools(&c);
	config_check_models(&c);
	config_check_queue(&c);
	config_check_tenants(&c);
}

/* What belongs together. Runs only over values that each are right; a mistake is told in the line of the entry that it is in. */
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/redis.h"
#include "lib/text.h"
#include "svc/config_internal.h"

/* ---- addresses ------------------------------------------------------------------------------------------------------------- */

static bool is_loopback_host(struct slice host)
{
	return slice_starts(host, SLICE("127.")) || slice_equal(host, SLICE("::1")) ||
	       slice_equal_nocase(host, SLICE("localhost"));
}

/* "host:port" or "[v6]:port" into host and port; the port may be missing when `port` is NULL-length afterwards. */
static void split_host(struct slice text, struct slice *host, struct slice *port)
{
	*port = SLICE_NONE;
	if (slice_starts(text, SLICE("["))) {
		struct slice rest;
		*host = slice_cut(slice_skip(text, 1), ']', &rest);
		if (slice_starts(rest, SLICE(":")))
			*port = slice_skip(rest, 1);
		return;
	}
	*host = slice_cut(text, ':', port);
}

static bool is_port(struct slice text, int64_t least)
{
	int64_t port;

	return text_int(text, &port) && port >= least && port <= 65535;
}

static bool is_address(struct slice text)
{
	struct slice host, port;

	if (slice_starts(text, SLICE("unix:")))
		return text.len > 5;
	split_host(text, &host, &port);
	return host.len > 0 && is_port(port, 0) && slice_find(port, ':') == port.len;
}

bool config_is_loopback(struct slice address)
{
	struct slice host, port;

	if (slice_starts(address, SLICE("unix:")))
		return true;
	split_host(address, &host, &port);
	return is_loopback_host(host);
}

bool config_split_url(struct config_endpoint *e, const char **reason)
{
	struct slice url = slice_of(e->url), rest, authority, host, port;
	bool secure = slice_starts(url, SLICE("https://"));
	size_t scheme = secure ? 8 : 7, slash;

	*reason = "http://host[:port][/path] or https://…";
	if (!secure && !slice_starts(url, SLICE("http://")))
		return false;
	for (size_t i = 0; i < url.len; i++)
		if (url.data[i] <= ' ' || strchr("?#@\\\"<>", url.data[i]) != NULL || (unsigned char)url.data[i] > 0x7E)
			return false;
	rest = slice_skip(url, scheme);
	slash = slice_find(rest, '/');
	authority = slice_first(rest, slash);
	split_host(authority, &host, &port);
	if (host.len == 0 || (slice_find(authority, ':') < authority.len && port.data != NULL && !is_port(port, 1)) ||
	    slice_ends(authority, SLICE(":")))
		return false;
	rest = slice_skip(rest, slash);
	while (slice_ends(rest, SLICE("/")))
		rest.len--;
	e->origin = mem_text(slice_make(e->url, scheme + authority.len));
	e->prefix = mem_text(rest);
	return true;
}

/* ---- upstreams ---------------------------------------------------------------------------------------------------------------- */

/* Where the checking stands. */
struct check {
	struct config_errors *errors;
	const struct config *config;
	const struct config_node *root;
};

static const struct config_node *node_at(const struct config_node *node, const char *name)
{
	const struct config_node *child = node == NULL ? NULL : node->first;

	while (child != NULL && !slice_equal(child->key, slice_of(name)))
		child = child->next;
	return child;
}

/* The line of section.name.key, or of the nearest that the file has. */
static int line_of(const struct check *c, const char *section, const char *name, const char *key)
{
	const struct config_node *node = c->root, *next;
	const char *steps[] = { section, name, key };
	int line = 1;

	for (size_t i = 0; i < ARRAY_LENGTH(steps) && steps[i] != NULL && (next = node_at(node, steps[i])) != NULL;
	     i++) {
		node = next;
		line = node->key_line;
	}
	return line;
}

static void complain(const struct check *c, const char *section, const char *name, const char *key, const char *what)
{
	char path[400];

	snprintf(path, sizeof(path), "%s%s%s%s%s", section, name != NULL ? "." : "", name != NULL ? name : "",
		 key != NULL ? "." : "", key != NULL ? key : "");
	config_complain(c->errors, line_of(c, section, name, key), path, "%s", what);
}

static bool has_token_limit(const struct limits *limits)
{
	for (int i = 0; i < LIMIT_COUNT; i++)
		if (limits->of[i].count > 0 && limit_unit_of((enum limit_kind)i) == LIMIT_TOKENS)
			return true;
	return false;
}

static bool goes_in_the_clear(const struct config_endpoint *e)
{
	struct slice host, port, rest = slice_of(e->origin);

	if (!slice_starts(rest, SLICE("http://")))
		return false;
	split_host(slice_skip(rest, 7), &host, &port);
	return !is_loopback_host(host);
}

static bool is_reserved(const char *name)
{
	static const char *const reserved[] = { "v1", "v1beta", "v1alpha", "v1beta1", "models", "healthz", "readyz" };

	for (size_t i = 0; i < ARRAY_LENGTH(reserved); i++)
		if (strcmp(name, reserved[i]) == 0)
			return true;
	return false;
}

static void check_credential(const struct check *c, const struct config_upstream *u)
{
	const struct config_credential *credential = &u->credential;

	if ((credential->header == NULL) != (credential->value == NULL))
		complain(c, "upstreams", u->name, "credential",
			 "half of it is missing; allowed: header and value together");
	if (credential->header != NULL && !text_is_token(slice_of(credential->header)))
		complain(c, "upstreams", u->name, "credential", "the header is no field name; allowed: as x-api-key");
	if (credential->value != NULL && !u->allow_plaintext && goes_in_the_clear(&u->endpoints[0]))
		complain(c, "upstreams", u->name, "credential",
			 "it would go unencrypted to another machine; allowed: an https:// endpoint, or "
			 "allow_plaintext: true");
}

static void check_upstream(const struct check *c, struct config_upstream *u)
{
	const char *reason;

	if (!config_split_url(&u->endpoints[0], &reason)) {
		complain(c, "upstreams", u->name, "endpoints",
			 "the url is not valid; allowed: http(s)://host[:port][/prefix]");
		return;
	}
	check_credential(c, u);
	if (u->pool.min > u->pool.max)
		complain(c, "upstreams", u->name, "pool", "min is above max; allowed: min ≤ max");
	if (u->dialect == DIALECT_http && is_reserved(u->name))
		complain(c, "upstreams", u->name, NULL, "the name is a path of the gateway's own; choose another");
	if (u->dialect == DIALECT_http && has_token_limit(&u->limits))
		complain(c, "upstreams", u->name, "limits",
			 "dialect http has no tokens; allowed: limits on requests and concurrency");
	if (u->dialect == DIALECT_http && u->is_default)
		complain(c, "upstreams", u->name, "default", "dialect http has no models; allowed: to leave it out");
	if (u->ca_file != NULL && access(u->ca_file, R_OK) != 0)
		complain(c, "upstreams", u->name, "ca_file", "the file cannot be read");
	for (size_t i = 0; i < u->forward_headers_count; i++)
		if (!text_is_token(slice_of(u->forward_headers[i])))
			complain(c, "upstreams", u->name, "forward_headers", "not a field name; allowed: as X-Custom");
	for (const struct config_upstream *other = c->config->upstreams; other < u; other++)
		if (u->is_default && other->is_default && other->dialect == u->dialect)
			complain(c, "upstreams", u->name, "default",
				 "another upstream of this dialect is its default; allowed: one");
}

/* ---- models and tenants ----------------------------------------------------------------------------------------------------------- */

static bool somebody_serves(const struct config *config, const char *model)
{
	const struct config_upstream *upstream = config_find_upstream(config, slice_of(model));

	if (config_find_model(config, slice_of(model)) != NULL ||
	    (upstream != NULL && upstream->dialect == DIALECT_http))
		return true;
	for (size_t i = 0; i < config->upstreams_count; i++)
		if (config->upstreams[i].is_default)
			return true;
	return false;
}

static void check_model(const struct check *c, const struct config_model *m)
{
	if (m->targets[0].upstream->dialect == DIALECT_http)
		complain(c, "models", m->name, "targets", "its upstream is of dialect http, which has no models");
}

static void check_keys(const struct check *c, const struct config_tenant *t)
{
	for (const struct config_tenant *other = c->config->tenants; other <= t; other++)
		for (size_t i = 0; i < t->keys_count; i++)
			for (size_t k = 0; k < other->keys_count && (other < t || k < i); k++)
				if (memcmp(t->keys[i].sha256, other->keys[k].sha256, sizeof(t->keys[i].sha256)) == 0)
					complain(c, "tenants", t->name, "keys",
						 "one of its keys stands elsewhere too; allowed: once");
}

static void check_tenant(const struct check *c, const struct config_tenant *t)
{
	if (strcmp(t->name, "anonymous") == 0)
		complain(c, "tenants", t->name, NULL, "the name stands for callers without a key; choose another");
	for (size_t i = 0; i < t->models_count; i++)
		if (!somebody_serves(c->config, t->models[i]))
			complain(c, "tenants", t->name, "models",
				 "no upstream serves one of them; allowed: names of `models`, or what a default "
				 "upstream takes");
	check_keys(c, t);
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------------- */

static void check_redis(const struct check *c)
{
	struct redis_options options;
	const char *reason = "";

	if (strcmp(c->config->redis.url, "embedded") == 0)
		return;
	if (redis_options_parse(slice_of(c->config->redis.url), &options, &reason))
		redis_options_free(&options);
	else
		complain(c, "redis", "url", NULL, reason);
}

static bool is_network(struct slice text)
{
	struct slice width, host = slice_cut(text, '/', &width);
	char name[64];
	unsigned char bytes[16];
	int64_t bits;
	bool six = slice_find(host, ':') < host.len;

	if (slice_equal(text, SLICE("unix")))
		return true;
	if (host.len >= sizeof(name) || host.len == 0)
		return false;
	memcpy(name, host.data, host.len);
	name[host.len] = '\0';
	if (inet_pton(six ? AF_INET6 : AF_INET, name, bytes) != 1)
		return false;
	return host.len == text.len || (text_int(width, &bits) && bits >= 0 && bits <= (six ? 128 : 32));
}

static void check_doors(const struct check *c)
{
	const struct config *config = c->config;

	for (size_t i = 0; i < config->listen_count; i++) {
		if (!is_address(slice_of(config->listen[i])))
			complain(c, "listen", NULL, NULL,
				 "not an address; allowed: host:port, [v6]:port, *:port, unix:/path");
		else if (!config_is_loopback(slice_of(config->listen[i])) && config->tenants_count == 0 &&
			 !config->allow_anonymous)
			complain(c, "listen", NULL, NULL,
				 "others could use it without a key; allowed: loopback, or `tenants`, or "
				 "allow_anonymous: true");
	}
	if (config->admin == NULL)
		return;
	if (!is_address(slice_of(config->admin)))
		complain(c, "admin", NULL, NULL, "not an address; allowed: host:port, [v6]:port, unix:/path, off");
	else if (!config_is_loopback(slice_of(config->admin)) && config->admin_token == NULL)
		complain(c, "admin", NULL, NULL, "others could read it; allowed: loopback, or an admin_token");
}

void config_check(struct config_reader *r, const struct config_node *root)
{
	const struct check c = { &r->errors, r->config, root };
	struct config *config = r->config;

	if (config->admin != NULL && strcmp(config->admin, "off") == 0) {
		mem_free(config->admin);
		config->admin = NULL;
	}
	if (config->workers == 0) {
		long cores = sysconf(_SC_NPROCESSORS_ONLN);
		config->workers = cores < 1 ? 1 : cores > 256 ? 256 : cores;
	}
	check_doors(&c);
	check_redis(&c);
	for (size_t i = 0; i < config->trusted_proxies_count; i++)
		if (!is_network(slice_of(config->trusted_proxies[i])))
			complain(&c, "trusted_proxies", NULL, NULL,
				 "not an address or network; allowed: as 10.0.0.0/8, ::1, unix");
	for (size_t i = 0; i < config->upstreams_count; i++)
		check_upstream(&c, &config->upstreams[i]);
	for (size_t i = 0; i < config->models_count; i++)
		check_model(&c, &config->models[i]);
	for (size_t i = 0; i < config->tenants_count; i++)
		check_tenant(&c, &config->tenants[i]);
}

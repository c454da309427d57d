/* What belongs together. A check runs only when all that it looks at was read well: what is made of a mistake would be another one, which nobody made. A
 * mistake is told in the line where it stands, or that of the nearest key above it that the file has. */
#include <limits.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/text.h"
#include "svc/config_internal.h"

enum { CERTIFICATES_MOST = 16 * 1024 * 1024 };

#define ADDRESSES "host:port, [v6]:port, *:port, unix:/path; a port from 1 to 65535, or 0: any free one"

/* Where the checking stands. */
struct check {
	struct config_errors *errors;
	struct config *config;
	const struct config_node *root;
	const char *folder;
	int misread; /* mistakes that were found before the first check */
};

/* The way from the root to a value: keys, and "[0]" for an element. */
struct place {
	const char *step[6]; /* NULL-terminated */
};
#define AT(...) (&(const struct place){ { __VA_ARGS__ } })

static const struct config_node *find_element(const struct config_node *list, const char *step)
{
	const struct config_node *child = list->first;

	for (long i = strtol(step + 1, NULL, 10); i > 0 && child != NULL; i--)
		child = child->next;
	return child;
}

/* What the file has at a place. */
struct spot {
	const struct config_node *node; /* NULL: nothing */
	int line;                       /* of the node, or of the last step that the file has */
	char path[512];                 /* for people */
};

/* The path leaves out the index of a list's only element where it stands alone, without a list. */
static struct spot find(const struct check *c, const struct place *place)
{
	const struct config_node *node = c->root;
	struct spot spot = { .line = 1 };
	struct buf path;

	buf_wrap(&path, spot.path, sizeof(spot.path) - 1, 0);
	for (size_t i = 0; place->step[i] != NULL; i++) {
		const char *step = place->step[i];
		if (node != NULL && node->kind == CONFIG_SCALAR)
			continue;
		buf_format(&path, "%s%s", i > 0 && step[0] != '[' ? "." : "", step);
		if (node != NULL && node->kind == CONFIG_MAPPING)
			node = config_node_find(node, slice_of(step));
		else if (node != NULL)
			node = find_element(node, step);
		if (node != NULL)
			spot.line = node->key_line != 0 ? node->key_line : node->line;
	}
	spot.path[path.len] = '\0';
	spot.node = node;
	return spot;
}

/* A value as an error may quote it: what a ${…} stands for may be a secret, so then as the file has it. */
static const char *as_written(const struct check *c, const struct place *place, const char *value)
{
	const struct config_node *node = find(c, place).node;

	return node != NULL && node->kind == CONFIG_SCALAR && strstr(node->text.data, "${") != NULL ? node->text.data
												    : value;
}

static void complain(const struct check *c, const struct place *place, const char *format, ...) PRINTF_LIKE(3, 4);
static void complain(const struct check *c, const struct place *place, const char *format, ...)
{
	struct spot spot = find(c, place);
	char what[600];
	va_list values;

	va_start(values, format);
	vsnprintf(what, sizeof(what), format, values);
	va_end(values);
	config_complain(c->errors, spot.line, spot.path, "%s", what);
}

/* Whether what stands at these keys of the file's top, and below them, was read well. */
#define IS_RIGHT(c, ...) is_right(c, &(const struct place){ { __VA_ARGS__ } })
static bool is_right(const struct check *c, const struct place *keys)
{
	for (size_t i = 0; keys->step[i] != NULL; i++)
		if (config_is_wrong(c->errors, c->misread, slice_of(keys->step[i]), 0, INT_MAX))
			return false;
	return true;
}

static int last_line(const struct config_node *node)
{
	int last = node->line > node->key_line ? node->line : node->key_line;

	for (const struct config_node *child = node->first; child != NULL; child = child->next) {
		int line = last_line(child);
		last = line > last ? line : last;
	}
	return last;
}

/* The same of the entry of this name, the index-th of its section. Names hold dots, so that the path of "gpt-4.1" begins with that of "gpt-4": what is wrong
 * with an entry also stands in its lines. */
static bool entry_is_right(const struct check *c, const char *section, size_t index, const char *name)
{
	char memory[CONFIG_STEP + 64];
	const struct config_node *entry;
	struct buf path;

	buf_wrap(&path, memory, sizeof(memory), 0);
	buf_format(&path, "%s.%.*s", section, SLICE_ARGS(slice_first(slice_of(name), CONFIG_STEP)));
	if (!config_is_wrong(c->errors, c->misread, buf_slice(&path), 0, INT_MAX))
		return true;
	entry = config_node_find(c->root, slice_of(section))->first;
	while (index-- > 0)
		entry = entry->next;
	return !config_is_wrong(c->errors, c->misread, buf_slice(&path), entry->key_line, last_line(entry));
}

struct index {
	char text[24];
};

static const char *put_index(struct index *index, size_t i)
{
	snprintf(index->text, sizeof(index->text), "[%zu]", i);
	return index->text;
}

/* ---- upstreams ------------------------------------------------------------------------------------------------------------- */

static bool has_token_limit(const struct limits *limits)
{
	for (int i = 0; i < LIMIT_COUNT; i++)
		if (limits->of[i].count > 0 && limit_unit_of((enum limit_kind)i) == LIMIT_TOKENS)
			return true;
	return false;
}

static bool is_one_of(const char *name, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcasecmp(name, *list) == 0)
			return true;
	return false;
}

/* The first segments of the gateway's own paths. */
static const char *const reserved_names[] = {
	"v1", "v1beta", "v1alpha", "v1beta1", "models", "healthz", "readyz", NULL
};
/* Fields of a connection (RFC 9110 section 7.6.1) and those that the gateway writes itself. */
static const char *const own_fields[] = { "connection",
					  "keep-alive",
					  "proxy-connection",
					  "proxy-authenticate",
					  "proxy-authorization",
					  "te",
					  "trailer",
					  "transfer-encoding",
					  "upgrade",
					  "host",
					  "content-length",
					  "expect",
					  "via",
					  "accept-encoding",
					  NULL };
/* What a client proves itself with never goes on. */
static const char *const client_secrets[] = { "authorization", "x-api-key",           "x-goog-api-key",
					      "cookie",        "x-goog-user-project", NULL };

static void check_credential(const struct check *c, const struct config_upstream *u)
{
	const struct config_credential *credential = &u->credential;
	const struct place *header = AT("upstreams", u->name, "credential", "header");

	if ((credential->header == NULL) != (credential->value == NULL))
		complain(c, AT("upstreams", u->name, "credential"),
			 "found only half of it; allowed: header and value together");
	if (credential->header != NULL && !text_is_token(slice_of(credential->header)))
		complain(c, header, "not a field name; allowed: one as x-api-key");
	else if (credential->header != NULL &&
		 (is_one_of(credential->header, own_fields) || strcasecmp(credential->header, "content-type") == 0))
		complain(c, header, "found \"%s\", which the gateway writes itself; allowed: another",
			 as_written(c, header, credential->header));
	if (credential->value != NULL && !u->allow_plaintext &&
	    config_address_is_in_clear(slice_of(u->endpoints[0].origin)))
		complain(c, AT("upstreams", u->name, "credential"),
			 "it would go unencrypted to another machine; allowed: an https:// endpoint, or "
			 "allow_plaintext: true");
}

/* `start` has a default that may not suit min and max; only one that the file gives is judged. */
static void check_pool(const struct check *c, struct config_upstream *u)
{
	const struct place *place = AT("upstreams", u->name, "pool", "start");

	if (u->pool.min > u->pool.max)
		complain(c, AT("upstreams", u->name, "pool", "min"), "found %lld, above max, %lld; allowed: 0 to max",
			 (long long)u->pool.min, (long long)u->pool.max);
	else if (find(c, place).node == NULL)
		u->pool.start = u->pool.start < u->pool.min   ? u->pool.min
				: u->pool.start > u->pool.max ? u->pool.max
							      : u->pool.start;
	else if (u->pool.start < u->pool.min || u->pool.start > u->pool.max)
		complain(c, place, "found %lld; allowed: min to max, %lld to %lld", (long long)u->pool.start,
			 (long long)u->pool.min, (long long)u->pool.max);
}

/* Relative to the configuration's folder, as ${file:…} is. */
static void complete_path(const struct check *c, char **path)
{
	size_t size = strlen(c->folder) + strlen(*path) + 2;
	char *whole = mem_new(size);

	snprintf(whole, size, "%s/%s", c->folder, *path);
	mem_free(*path);
	*path = whole;
}

static bool holds_certificate(struct slice pem)
{
	BIO *from = BIO_new_mem_buf(pem.data, (int)pem.len);
	X509 *first = from != NULL ? PEM_read_bio_X509(from, NULL, NULL, NULL) : NULL;
	bool holds = first != NULL;

	X509_free(first);
	BIO_free(from);
	return holds;
}

/* Kept, so that a reload knows whether what stands in the same file has changed; the pool reads the certificates themselves. */
static void keep_hash(struct config_upstream *u, const struct buf *pem)
{
	SHA256((const unsigned char *)pem->data, pem->len, u->ca_sha256);
}

static void check_ca_file(const struct check *c, struct config_upstream *u)
{
	const struct place *place = AT("upstreams", u->name, "ca_file");
	const char *reason;
	struct buf pem;

	if (u->ca_file[0] != '/' && c->folder != NULL)
		complete_path(c, &u->ca_file);
	buf_init(&pem, CERTIFICATES_MOST);
	if (!file_read(u->ca_file, FILE_REGULAR, &pem, &reason))
		complain(c, place, "\"%s\" cannot be used: %s; allowed: a file of certificates, PEM",
			 as_written(c, place, u->ca_file), reason);
	else if (!holds_certificate(buf_slice(&pem)))
		complain(c, place, "\"%s\" holds no certificate; allowed: a file of certificates, PEM",
			 as_written(c, place, u->ca_file));
	keep_hash(u, &pem);
	buf_free(&pem);
}

static bool trusts_the_systems(const struct config_upstream *u)
{
	return u->ca_file == NULL && u->endpoints_count > 0 && u->endpoints[0].origin != NULL &&
	       slice_starts(slice_of(u->endpoints[0].origin), SLICE("https:"));
}

/* Read once, not for each of many upstreams. One that cannot be read is told by the pool: not everybody's upstream has TLS. */
static void hash_system_file(const struct check *c, struct config_upstream *u)
{
	const char *ignored;
	struct buf pem;

	for (const struct config_upstream *other = c->config->upstreams; other < u; other++)
		if (trusts_the_systems(other)) {
			memcpy(u->ca_sha256, other->ca_sha256, sizeof(u->ca_sha256));
			return;
		}
	buf_init(&pem, CERTIFICATES_MOST);
	if (file_read(pool_system_ca_file(), FILE_REGULAR, &pem, &ignored))
		keep_hash(u, &pem);
	buf_free(&pem);
}

static void check_forward_headers(const struct check *c, const struct config_upstream *u)
{
	for (size_t i = 0; i < u->forward_headers_count; i++) {
		struct index index;
		const struct place *place = AT("upstreams", u->name, "forward_headers", put_index(&index, i));
		const char *name = u->forward_headers[i], *written = as_written(c, place, name);
		if (!text_is_token(slice_of(name)))
			complain(c, place, "found \"%s\", which is no field name; allowed: one as X-Custom", written);
		else if (is_one_of(name, own_fields))
			complain(c, place,
				 "found \"%s\", which is the connection's or the gateway's own; allowed: others",
				 written);
		else if (u->credential.header != NULL && strcasecmp(name, u->credential.header) == 0)
			complain(c, place, "found \"%s\", which carries the credential; allowed: others", written);
		else if (is_one_of(name, client_secrets))
			complain(c, place, "found \"%s\": a client's secrets never reach an upstream; allowed: others",
				 written);
	}
}

/* Dialect http knows neither tokens nor models. */
static void check_http(const struct check *c, const struct config_upstream *u)
{
	if (is_one_of(u->name, reserved_names))
		complain(c, AT("upstreams", u->name), "a path of the gateway's own begins so; allowed: another name");
	if (has_token_limit(&u->limits))
		complain(c, AT("upstreams", u->name, "limits"),
			 "dialect http has no tokens; allowed: limits on requests and concurrency");
	if (u->is_default)
		complain(c, AT("upstreams", u->name, "default"),
			 "dialect http has no models; allowed: to leave it out");
}

/* The version at the end of an endpoint's prefix, which stands in the path of each call of these dialects already. */
static void check_prefix(const struct check *c, const struct config_upstream *u)
{
	static const char *const versions[] = { "/v1", "/v1beta", "/v1alpha", "/v1beta1" };

	for (size_t i = 0; i < ARRAY_LENGTH(versions); i++)
		if (slice_ends(slice_of(u->endpoints[0].prefix), slice_of(versions[i])))
			complain(c, AT("upstreams", u->name, "endpoints", "[0]", "url"),
				 "the path of each call begins with its own version; allowed: the same without %s at "
				 "its end",
				 versions[i]);
}

static bool is_web(struct slice url)
{
	return slice_starts(url, SLICE("http://")) || slice_starts(url, SLICE("https://"));
}

static void check_upstream(const struct check *c, struct config_upstream *u)
{
	if (config_address_split(&u->endpoints[0]))
		check_credential(c, u);
	else
		complain(c, AT("upstreams", u->name, "endpoints", "[0]", "url"),
			 "%s; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535",
			 is_web(slice_of(u->endpoints[0].url)) ? "not an address without query or user"
							       : "no http:// or https:// at the beginning");
	check_pool(c, u);
	if (u->ca_file != NULL)
		check_ca_file(c, u);
	else if (trusts_the_systems(u))
		hash_system_file(c, u);
	check_forward_headers(c, u);
	if (u->dialect == DIALECT_http)
		check_http(c, u);
	else if (u->endpoints[0].prefix != NULL)
		check_prefix(c, u);
	for (const struct config_upstream *other = c->config->upstreams; other < u; other++)
		if (u->is_default && other->is_default && other->dialect == u->dialect &&
		    entry_is_right(c, "upstreams", (size_t)(other - c->config->upstreams), other->name)) {
			complain(c, AT("upstreams", u->name, "default"),
				 "\"%s\" is the default of dialect %s already; allowed: one", other->name,
				 config_dialect_name(u->dialect));
			break;
		}
}

/* ---- models and tenants ---------------------------------------------------------------------------------------------------- */

static void check_model(const struct check *c, const struct config_model *m)
{
	const struct config_upstream *u = m->targets[0].upstream;

	if (u->dialect == DIALECT_http)
		complain(c, AT("models", m->name, "targets", "[0]", "upstream"),
			 "found \"%s\", of dialect http, which has no models; allowed: upstreams of other dialects",
			 u->name);
}

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

static void check_keys(const struct check *c, const struct config_tenant *t)
{
	for (size_t i = 0; i < t->keys_count; i++) {
		const struct config_tenant *other = config_index_key(c->config, &t->keys[i], t);
		struct index index;
		if (other != NULL)
			complain(c, AT("tenants", t->name, "keys", put_index(&index, i)),
				 "the tenant \"%s\" has this key already; allowed: a key stands once", other->name);
	}
}

static void check_tenant(const struct check *c, const struct config_tenant *t)
{
	if (strcmp(t->name, "anonymous") == 0)
		complain(c, AT("tenants", t->name), "the name stands for callers without a key; allowed: another name");
	check_keys(c, t);
}

/* What he may call, which takes models and upstreams that were read. */
static void check_calls(const struct check *c, const struct config_tenant *t)
{
	bool rest_is_served = has_default_upstream(c->config);

	for (size_t i = 0; i < t->models_count && !rest_is_served; i++) {
		struct index index;
		const struct place *place = AT("tenants", t->name, "models", put_index(&index, i));
		if (config_find_model(c->config, slice_of(t->models[i])) == NULL &&
		    !is_http_upstream(c->config, t->models[i]))
			complain(c, place,
				 "found \"%s\", which no upstream serves; allowed: names of `models` and of upstreams "
				 "of "
				 "dialect http, and what a default upstream takes",
				 as_written(c, place, t->models[i]));
	}
	if (has_token_limit(&t->limits) && calls_only_http(c->config, t))
		complain(c, AT("tenants", t->name, "limits"),
			 "it may call dialect http alone, which has no tokens; allowed: limits on requests and "
			 "concurrency");
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

static void check_when(const struct check *c, const char *section, enum config_when when)
{
	struct spot spot = find(c, AT(section, "when"));

	if (when == CONFIG_WHEN_ALWAYS && has_models(c->config))
		config_warn(
			c->errors, spot.line, spot.path,
			"warning: who asks the same is given the same answer, though a temperature above 0 asks for "
			"another each time; better: deterministic or asked");
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------- */

static void check_redis(const struct check *c, const struct place *place, const char *url, bool may_embed)
{
	char what[400];
	struct buf wrong;

	buf_wrap(&wrong, what, sizeof(what), 0);
	if (!config_address_is_redis(slice_of(url), may_embed, &wrong))
		complain(c, place, "%.*s", SLICE_ARGS(buf_slice(&wrong)));
}

static void check_listen(const struct check *c, size_t i)
{
	const struct config *config = c->config;
	const char *address = config->listen[i], *written;
	struct index index;
	const struct place *place = AT("listen", put_index(&index, i));

	written = as_written(c, place, address);
	if (!config_address_is_valid(slice_of(address)))
		complain(c, place, "found \"%s\"; allowed: " ADDRESSES, written);
	else if (!config_address_is_loopback(slice_of(address)) && config->tenants_count == 0 &&
		 !config->allow_anonymous)
		complain(c, place,
			 "found \"%s\": others could use it without a key; allowed: loopback, or `tenants`, or "
			 "allow_anonymous: true",
			 written);
	for (size_t k = 0; k < i; k++)
		if (strcmp(config->listen[k], address) == 0 && !slice_ends(slice_of(address), SLICE(":0")))
			complain(c, place, "found \"%s\" twice; allowed: once", written);
}

static void check_admin(const struct check *c)
{
	const struct config *config = c->config;
	const struct place *place = AT("admin");
	const char *written = as_written(c, place, config->admin);

	if (config->admin == NULL)
		return;
	if (!config_address_is_valid(slice_of(config->admin)))
		complain(c, place, "found \"%s\"; allowed: off, " ADDRESSES, written);
	else if (!config_address_is_loopback(slice_of(config->admin)) && config->admin_token == NULL)
		complain(c, place, "found \"%s\": others could read it; allowed: loopback, or an admin_token", written);
	for (size_t i = 0; i < config->listen_count; i++)
		if (strcmp(config->listen[i], config->admin) == 0 && !slice_ends(slice_of(config->admin), SLICE(":0")))
			complain(c, place, "found \"%s\", which is in `listen`; allowed: another", written);
}

/* The cores that this process may use: fewer than the machine has where it was given a part. */
static int64_t count_cores(void)
{
	cpu_set_t mine;
	long cores = sched_getaffinity(0, sizeof(mine), &mine) == 0 ? CPU_COUNT(&mine) : sysconf(_SC_NPROCESSORS_ONLN);

	return cores < 1 ? 1 : cores > 256 ? 256 : cores;
}

static void resolve_words(struct config *config)
{
	if (config->admin != NULL && strcmp(config->admin, "off") == 0) {
		mem_free(config->admin);
		config->admin = NULL;
	}
	if (config->workers == 0)
		config->workers = count_cores();
}

static void check_proxy(const struct check *c, size_t i)
{
	const char *network = c->config->trusted_proxies[i];
	struct index index;
	const struct place *place = AT("trusted_proxies", put_index(&index, i));

	if (!config_address_is_network(slice_of(network)))
		complain(c, place, "found \"%s\"; allowed: an address, a network as 10.0.0.0/8, or unix",
			 as_written(c, place, network));
}

static void check_doors(const struct check *c)
{
	if (IS_RIGHT(c, "listen", "tenants", "allow_anonymous"))
		for (size_t i = 0; i < c->config->listen_count; i++)
			check_listen(c, i);
	if (IS_RIGHT(c, "listen", "admin", "admin_token"))
		check_admin(c);
	if (IS_RIGHT(c, "redis"))
		check_redis(c, AT("redis", "url"), c->config->redis.url, true);
	if (IS_RIGHT(c, "cache") && c->config->cache.redis != NULL)
		check_redis(c, AT("cache", "redis"), c->config->cache.redis, false);
	if (IS_RIGHT(c, "trusted_proxies"))
		for (size_t i = 0; i < c->config->trusted_proxies_count; i++)
			check_proxy(c, i);
}

void config_check(struct config_reader *r, const struct config_node *root)
{
	const struct check c = { &r->errors, r->config, root, r->folder, r->errors.mistakes.count };
	struct config *config = r->config;

	config_index_names(config);
	resolve_words(config);
	check_doors(&c);
	check_when(&c, "cache", config->cache.when);
	check_when(&c, "coalesce", config->coalesce.when);
	for (size_t i = 0; i < config->upstreams_count; i++)
		if (entry_is_right(&c, "upstreams", i, config->upstreams[i].name))
			check_upstream(&c, &config->upstreams[i]);
	for (size_t i = 0; i < config->models_count && IS_RIGHT(&c, "upstreams"); i++)
		if (entry_is_right(&c, "models", i, config->models[i].name))
			check_model(&c, &config->models[i]);
	for (size_t i = 0; i < config->tenants_count; i++)
		if (entry_is_right(&c, "tenants", i, config->tenants[i].name)) {
			check_tenant(&c, &config->tenants[i]);
			if (IS_RIGHT(&c, "upstreams", "models"))
				check_calls(&c, &config->tenants[i]);
		}
}

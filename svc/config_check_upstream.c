/* What belongs together in an upstream: its addresses, what it is sent, whom it trusts, what becomes of calls that fail. */
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdio.h>

#include "lib/text.h"
#include "svc/config_check.h"

enum { CERTIFICATES_MOST = 16 * 1024 * 1024 };

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

static void check_credential(const struct config_check *c, const struct config_upstream *u)
{
	const struct config_credential *credential = &u->credential;
	const struct config_place *header = CONFIG_PLACE("upstreams", u->name, "credential", "header");

	if ((credential->header == NULL) != (credential->value == NULL))
		config_check_complain(c, CONFIG_PLACE("upstreams", u->name, "credential"),
				      "found only half of it; allowed: header and value together");
	if (credential->header != NULL && !text_is_token(slice_of(credential->header)))
		config_check_complain(c, header, "not a field name; allowed: one as x-api-key");
	else if (credential->header != NULL &&
		 (is_one_of(credential->header, own_fields) || strcasecmp(credential->header, "content-type") == 0))
		config_check_complain(c, header, "found \"%s\", which the gateway writes itself; allowed: another",
				      config_check_as_written(c, header, credential->header));
}

/* Told once: it is one credential. */
static void check_secrecy(const struct config_check *c, const struct config_upstream *u)
{
	for (size_t i = 0; i < u->endpoints_count && u->credential.value != NULL && !u->allow_plaintext; i++)
		if (u->endpoints[i].origin != NULL && config_address_is_in_clear(slice_of(u->endpoints[i].origin))) {
			struct config_index index;
			config_check_complain(c, CONFIG_PLACE("upstreams", u->name, "credential"),
					      "it would go unencrypted to another machine%s%s; allowed: an https:// "
					      "endpoint, or allow_plaintext: true",
					      u->endpoints_count > 1 ? ", endpoints" : "",
					      u->endpoints_count > 1 ? config_check_index(&index, i) : "");
			return;
		}
}

/* Relative to the configuration's folder, as ${file:…} is. */
static void complete_path(const struct config_check *c, char **path)
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

static void check_ca_file(const struct config_check *c, struct config_upstream *u)
{
	const struct config_place *place = CONFIG_PLACE("upstreams", u->name, "ca_file");
	const char *reason;
	struct buf pem;

	if (u->ca_file[0] != '/' && c->folder != NULL)
		complete_path(c, &u->ca_file);
	buf_init(&pem, CERTIFICATES_MOST);
	if (!file_read(u->ca_file, FILE_REGULAR, &pem, &reason))
		config_check_complain(c, place, "\"%s\" cannot be used: %s; allowed: a file of certificates, PEM",
				      config_check_as_written(c, place, u->ca_file), reason);
	else if (!holds_certificate(buf_slice(&pem)))
		config_check_complain(c, place, "\"%s\" holds no certificate; allowed: a file of certificates, PEM",
				      config_check_as_written(c, place, u->ca_file));
	keep_hash(u, &pem);
	buf_free(&pem);
}

static bool trusts_the_systems(const struct config_upstream *u)
{
	for (size_t i = 0; i < u->endpoints_count && u->ca_file == NULL; i++)
		if (slice_starts(slice_of(u->endpoints[i].origin), SLICE("https:")))
			return true;
	return false;
}

/* Read once, not for each of many upstreams. One that cannot be read is told by the pool: not everybody's upstream has TLS. */
static void hash_system_file(const struct config_check *c, struct config_upstream *u)
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

static void check_forward_headers(const struct config_check *c, const struct config_upstream *u)
{
	for (size_t i = 0; i < u->forward_headers_count; i++) {
		struct config_index index;
		const struct config_place *place =
			CONFIG_PLACE("upstreams", u->name, "forward_headers", config_check_index(&index, i));
		const char *name = u->forward_headers[i], *written = config_check_as_written(c, place, name);
		if (!text_is_token(slice_of(name)))
			config_check_complain(c, place,
					      "found \"%s\", which is no field name; allowed: one as X-Custom",
					      written);
		else if (is_one_of(name, own_fields))
			config_check_complain(
				c, place,
				"found \"%s\", which is the connection's or the gateway's own; allowed: others",
				written);
		else if (u->credential.header != NULL && strcasecmp(name, u->credential.header) == 0)
			config_check_complain(c, place, "found \"%s\", which carries the credential; allowed: others",
					      written);
		else if (is_one_of(name, client_secrets))
			config_check_complain(
				c, place, "found \"%s\": a client's secrets never reach an upstream; allowed: others",
				written);
	}
}

/* Dialect http knows neither tokens nor models. */
static void check_http(const struct config_check *c, const struct config_upstream *u)
{
	if (is_one_of(u->name, reserved_names))
		config_check_complain(c, CONFIG_PLACE("upstreams", u->name),
				      "a path of the gateway's own begins so; allowed: another name");
	if (config_check_has_token_limit(&u->limits))
		config_check_complain(c, CONFIG_PLACE("upstreams", u->name, "limits"),
				      "dialect http has no tokens; allowed: limits on requests and concurrency");
	if (u->is_default)
		config_check_complain(c, CONFIG_PLACE("upstreams", u->name, "default"),
				      "dialect http has no models; allowed: to leave it out");
}

/* ---- endpoints ------------------------------------------------------------------------------------------------------------ */

/* The version at the end of an endpoint's prefix, which stands in the path of each call of these dialects already. */
static void check_prefix(const struct config_check *c, const struct config_place *url, const struct config_endpoint *e)
{
	static const char *const versions[] = { "/v1", "/v1beta", "/v1alpha", "/v1beta1" };

	for (size_t i = 0; i < ARRAY_LENGTH(versions); i++)
		if (slice_ends(slice_of(e->prefix), slice_of(versions[i])))
			config_check_complain(
				c, url,
				"the path of each call begins with its own version; allowed: the same without %s at "
				"its end",
				versions[i]);
}

static bool is_web(struct slice url)
{
	return slice_starts(url, SLICE("http://")) || slice_starts(url, SLICE("https://"));
}

static bool same_address(const struct config_endpoint *a, const struct config_endpoint *b)
{
	return a->origin != NULL && slice_equal_nocase(slice_of(a->origin), slice_of(b->origin)) &&
	       strcmp(a->prefix, b->prefix) == 0;
}

static void check_endpoint(const struct config_check *c, struct config_upstream *u, size_t i)
{
	struct config_endpoint *e = &u->endpoints[i];
	struct config_index index;
	const struct config_place *url =
		CONFIG_PLACE("upstreams", u->name, "endpoints", config_check_index(&index, i), "url");

	if (!config_address_split(e)) {
		config_check_complain(c, url, "%s; allowed: http(s)://host[:port][/prefix], a port from 1 to 65535",
				      is_web(slice_of(e->url)) ? "not an address without query or user"
							       : "no http:// or https:// at the beginning");
		return;
	}
	if (u->dialect != DIALECT_http)
		check_prefix(c, url, e);
	for (size_t k = 0; k < i; k++)
		if (same_address(&u->endpoints[k], e)) {
			config_check_complain(c, url, "the same as that of endpoints[%zu]; allowed: each once", k);
			return;
		}
}

/* Of one priority there is always one to choose. Told at the first of it. */
static void check_weights(const struct config_check *c, const struct config_upstream *u)
{
	for (size_t i = 0; i < u->endpoints_count; i++) {
		const struct config_endpoint *e = u->endpoints;
		bool first = true, weighs = false;
		struct config_index index;
		for (size_t k = 0; k < u->endpoints_count; k++) {
			first = first && (k >= i || e[k].priority != e[i].priority);
			weighs = weighs || (e[k].priority == e[i].priority && e[k].weight > 0);
		}
		if (first && !weighs)
			config_check_complain(c,
					      CONFIG_PLACE("upstreams", u->name, "endpoints",
							   config_check_index(&index, i), "weight"),
					      "found 0 for all of priority %lld; allowed: 1 or more for one of them",
					      (long long)e[i].priority);
	}
}

/* ---- calls that fail ------------------------------------------------------------------------------------------------------- */

/* A bound that the file does not give moves with the value that it gives. */
static void check_bound(const struct config_check *c, const struct config_place *place, int64_t *bound, int64_t least,
			const char *name)
{
	char memory[80];
	struct buf found;

	if (*bound >= least)
		return;
	if (config_check_find(c, place).node == NULL) {
		*bound = least;
		return;
	}
	buf_wrap(&found, memory, sizeof(memory), 0);
	text_put_duration(&found, *bound);
	buf_format(&found, ", below %s, ", name);
	text_put_duration(&found, least);
	config_check_complain(c, place, "found %.*s; allowed: that or more", SLICE_ARGS(buf_slice(&found)));
}

static void check_health(const struct config_check *c, const struct config_upstream *u)
{
	const struct config_place *place = CONFIG_PLACE("upstreams", u->name, "health", "path");
	bool good = u->health.path[0] == '/';

	for (const char *byte = u->health.path; *byte != '\0'; byte++)
		good = good && *byte > ' ' && *byte < 0x7F && strchr("#\"<>\\^`{|}", *byte) == NULL;
	if (!good)
		config_check_complain(c, place, "found \"%s\"; allowed: a path as /v1/models, with its query",
				      config_check_as_written(c, place, u->health.path));
}

static void check_failing(const struct config_check *c, struct config_upstream *u)
{
	const struct config_place *cap = CONFIG_PLACE("upstreams", u->name, "retry", "cap");

	check_bound(c, CONFIG_PLACE("upstreams", u->name, "breaker", "open_most"), &u->breaker.open_most,
		    u->breaker.open_for, "open_for");
	if (u->retry.base >= u->retry.timeout_base)
		check_bound(c, cap, &u->retry.cap, u->retry.base, "base");
	else
		check_bound(c, cap, &u->retry.cap, u->retry.timeout_base, "timeout_base");
	if (u->health.path != NULL)
		check_health(c, u);
}

/* ---- the whole of it ------------------------------------------------------------------------------------------------------- */

static void check_default(const struct config_check *c, const struct config_upstream *u)
{
	for (const struct config_upstream *other = c->config->upstreams; other < u && u->is_default; other++)
		if (other->is_default && other->dialect == u->dialect &&
		    config_check_entry_is_right(c, "upstreams", (size_t)(other - c->config->upstreams), other->name)) {
			config_check_complain(c, CONFIG_PLACE("upstreams", u->name, "default"),
					      "\"%s\" is the default of dialect %s already; allowed: one", other->name,
					      config_dialect_name(u->dialect));
			return;
		}
}

static void check_upstream(const struct config_check *c, struct config_upstream *u)
{
	for (size_t i = 0; i < u->endpoints_count; i++)
		check_endpoint(c, u, i);
	check_weights(c, u);
	check_credential(c, u);
	check_secrecy(c, u);
	config_check_pool(c, u);
	if (u->ca_file != NULL)
		check_ca_file(c, u);
	else if (trusts_the_systems(u))
		hash_system_file(c, u);
	check_forward_headers(c, u);
	check_failing(c, u);
	if (u->dialect == DIALECT_http)
		check_http(c, u);
	check_default(c, u);
}

void config_check_upstreams(const struct config_check *c)
{
	for (size_t i = 0; i < c->config->upstreams_count; i++)
		if (config_check_entry_is_right(c, "upstreams", i, c->config->upstreams[i].name))
			check_upstream(c, &c->config->upstreams[i]);
}

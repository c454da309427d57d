/* Any bytes as a configuration: refused in at most 21 lines that name file and line, or taken, and then it holds what the header promises,
 * may replace itself, and shows itself as JSON without its secrets. */
#include <jansson.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "svc/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ERRORS_MOST = 1 << 20, JSON_MOST = 64 << 20, LINES_MOST = 21 };

/* What a taken configuration shows nowhere; as a credential, a token or a key it may stand in the input only through this variable. */
static const char secret[] = "SECRET-0123456789";

static void demand(bool holds)
{
	if (!holds)
		abort();
}

/* The fuzzer reads our comparisons and may write the secret into its input. */
static bool has_secret(struct slice text)
{
	return text.len > 0 && memmem(text.data, text.len, secret, sizeof(secret) - 1) != NULL;
}

static void judge_errors(struct slice errors)
{
	int lines = 0;

	demand(errors.len > 0 && errors.data[errors.len - 1] == '\n');
	while (errors.len > 0) {
		struct slice line = slice_cut(errors, '\n', &errors);
		demand(++lines <= LINES_MOST && slice_starts(line, lines < LINES_MOST ? SLICE("t:") : SLICE("t: ")));
		for (size_t i = 0; i < line.len; i++)
			demand((unsigned char)line.data[i] >= 0x20 && line.data[i] != 0x7F);
	}
}

static void judge_limits(const struct limits *limits)
{
	for (int i = 0; i < LIMIT_COUNT; i++) {
		const struct limit *limit = &limits->of[i];
		demand(limit->count >= 0 && limit->count <= INT64_C(1000000000000));
		demand(limit->count == 0 || limit->strict || limit->burst >= 1);
		demand(limit->burst <= INT64_C(1000000000000) && !(limit->strict && limit->burst != 0));
	}
}

static void judge_endpoint(const struct config_upstream *u, const struct config_endpoint *e)
{
	bool weighs = false;

	demand(strncmp(e->url, e->origin, strlen(e->origin)) == 0 && (e->prefix[0] == '\0' || e->prefix[0] == '/'));
	for (size_t i = 0; i < u->endpoints_count; i++)
		weighs = weighs || (u->endpoints[i].priority == e->priority && u->endpoints[i].weight > 0);
	demand(weighs);
}

static void judge_upstream(const struct config *c, const struct config_upstream *u)
{
	const struct breaker_rule *b = &u->breaker;

	demand(config_find_upstream(c, slice_of(u->name)) == u);
	demand(u->endpoints_count >= 1 && u->endpoints_count <= CONFIG_ENDPOINTS_MOST);
	for (size_t i = 0; i < u->endpoints_count; i++)
		judge_endpoint(u, &u->endpoints[i]);
	demand(b->window > 0 && b->min_calls >= 1 && b->slow_min_calls >= 1 && b->error_rate <= 10000);
	demand(b->open_for >= 1 && b->open_most >= b->open_for && b->probes >= 1 && b->probes <= 100);
	demand(u->retry.attempts >= 1 && u->retry.cap >= u->retry.base && u->retry.cap >= u->retry.timeout_base);
	demand(u->health.path == NULL || u->health.path[0] == '/');
	demand((u->credential.header == NULL) == (u->credential.value == NULL));
	demand(u->pool.min <= u->pool.start && u->pool.start <= u->pool.max);
	demand(u->timeout.connect > 0 && u->timeout.total > 0 && u->pool.streams_per_connection > 0);
	judge_limits(&u->limits);
}

/* Ways along fallbacks end: there is no cycle, so none is longer than there are models. */
static size_t longest_way(const struct config *c, const struct config_model *m, size_t most)
{
	size_t longest = 0;

	demand(most > 0);
	for (size_t i = 0; i < m->fallback_count; i++) {
		const struct config_model *other = config_find_model(c, slice_of(m->fallback[i]));
		demand(other != NULL && other->targets[0].upstream->dialect == m->targets[0].upstream->dialect);
		size_t way = longest_way(c, other, most - 1);
		longest = way > longest ? way : longest;
	}
	return longest + 1;
}

static void judge_model(const struct config *c, const struct config_model *m)
{
	demand(config_find_model(c, slice_of(m->name)) == m);
	demand(m->targets_count >= 1 && m->targets_count <= CONFIG_TARGETS_MOST);
	for (size_t i = 0; i < m->targets_count; i++) {
		const struct config_target *t = &m->targets[i];
		demand(t->upstream->dialect == m->targets[0].upstream->dialect && t->upstream->dialect != DIALECT_http);
		demand(t->weight >= 0 && t->capabilities.context >= 0 && t->price.input >= -1 && t->price.output >= -1);
	}
	/* Ways are many where models fall back on each other crosswise. */
	if (c->models_count <= 16)
		demand(longest_way(c, m, c->models_count) <= c->models_count);
	judge_limits(&m->limits);
}

static void judge_config(const struct config *c)
{
	demand(c->listen_count >= 1 && c->workers >= 1 && c->workers <= 256 && c->upstreams_count >= 1);
	demand(c->redis.timeout > 0 && c->max_body > 0 && c->client.connections > 0);
	demand(c->cache.ttl > 0 && c->cache.max_body > 0 && c->cache.local >= 0 && c->coalesce.window >= 0);
	demand(c->cache.redis == NULL || strcmp(c->cache.redis, "embedded") != 0);
	for (size_t i = 0; i < c->upstreams_count; i++)
		judge_upstream(c, &c->upstreams[i]);
	for (size_t i = 0; i < c->models_count; i++)
		judge_model(c, &c->models[i]);
	for (size_t i = 0; i < c->tenants_count; i++) {
		demand(c->tenants[i].keys_count >= 1);
		demand(config_find_tenant(c, c->tenants[i].keys[0].sha256) == &c->tenants[i]);
		judge_limits(&c->tenants[i].limits);
	}
}

/* The secret may lawfully be shown where the input puts it into a name or an address; then there is nothing to say. */
static void judge_shown(const struct config *c, bool secret_is_secret)
{
	struct buf out;
	json_t *json;

	buf_init(&out, JSON_MOST);
	config_write_json(c, &out);
	json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
	demand(json != NULL);
	demand(!secret_is_secret || !has_secret(buf_slice(&out)));
	json_decref(json);
	buf_free(&out);
}

/* Whether the one place that names the variable is a secret's. */
static bool only_as_a_secret(struct slice text)
{
	static const char line[] = "\nadmin_token: ${S}\n";
	const char *at = memmem(text.data, text.len, line, sizeof(line) - 1);

	if (at == NULL)
		return false;
	for (size_t i = 0; i + 4 <= text.len; i++)
		if (memcmp(text.data + i, "${S}", 4) == 0 && text.data + i != at + sizeof("\nadmin_token: ") - 1)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_make((const char *)data, size);
	const struct config *c, *held;
	struct buf error;

	setenv("S", secret, 1);
	buf_init(&error, ERRORS_MOST);
	/* A file of the machine is no part of the input. */
	if (size > 0 && memmem(data, size, "file:", 5) != NULL)
		return 0;
	c = config_parse("t", text, &error);
	if (c == NULL) {
		judge_errors(buf_slice(&error));
		demand(has_secret(text) || !has_secret(buf_slice(&error)));
	} else {
		if (error.len > 0)
			judge_errors(buf_slice(&error));
		buf_clear(&error);
		judge_config(c);
		judge_shown(c, only_as_a_secret(text) && !has_secret(text));
		held = config_hold(c);
		demand(config_may_reload(c, held, &error) && error.len == 0);
		config_release(&held);
		config_release(&c);
	}
	buf_free(&error);
	return 0;
}

/* The table of keys: one line gives the field, the type, the default, the bounds, the reload rule and the help. The parser, its errors, --docs, --defaults and
 * the running configuration on /config all come from it.
 *
 * Rows are read in their order, not in the file's: upstreams come before the models that name them. */
#include "svc/config_internal.h"

#include "lib/clock.h"

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const char *const autos[] = { "auto", NULL };
static const char *const on_failures[] = { "share", "open", "closed", NULL };
static const char *const levels[] = { "debug", "info", "warning", "error", NULL };
static const char *const whens[] = { "deterministic", "always", "asked", "never", NULL };
static const char *const scopes[] = { "tenant", "shared", "user", NULL };
static const char *const priorities[] = { "any", "high", "medium", "low", NULL };

/* clang-format off */
#define AT(kind, field)   offsetof(struct kind, field)
#define TABLE(rows)       rows, ARRAY_LENGTH(rows)

static const struct config_row tenant_pool_rows[] = {
	{ "max", CONFIG_INT, AT(config_tenant, pool.max), 0, 0, "0", 0, 30000, NULL, NULL,
	  "connections that its calls may occupy at once at an upstream, plain calls and streams, of one instance; its further calls wait; 0: as the upstream's pool.tenant_max" },
};
static const struct config_section tenant_pool = { sizeof(struct config_tenant), TABLE(tenant_pool_rows), NULL, 0, NULL };

static const struct config_row tenant_rows[] = {
	{ "keys", CONFIG_KEYS, AT(config_tenant, keys), AT(config_tenant, keys_count), CONFIG_REQUIRED | CONFIG_SECRET, NULL, 1, 1000, NULL, NULL,
	  "its API keys, or sha256: and 64 hexadecimal digits of one" },
	{ "models", CONFIG_TEXTS, AT(config_tenant, models), AT(config_tenant, models_count), 0, NULL, 0, 10000, NULL, NULL,
	  "the models, and upstreams of dialect http, that it may use; none: all" },
	{ "limits", CONFIG_LIMITS, AT(config_tenant, limits), 0, 0, NULL, 0, 0, NULL, NULL, "its own quotas; the default burst is the limit" },
	{ "priority", CONFIG_WORD, AT(config_tenant, priority), 0, 0, "any", 0, 0, priorities, NULL,
	  "the lane of its requests where there is not enough for all. any: what each says in `Priority` (RFC 9218), medium if nothing; else this one, or a lower one that a request says" },
	{ "pool", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &tenant_pool, "" },
};
static const struct config_section tenant = { sizeof(struct config_tenant), TABLE(tenant_rows), "letters, digits, '.', '_' and '-'", 64, NULL };

static const struct config_row redis_rows[] = {
	{ "url", CONFIG_TEXT, AT(config, redis.url), 0, CONFIG_SECRET | CONFIG_RESTART, "embedded", 1, 1000, NULL, NULL,
	  "embedded, redis://[user:password@]host[:port][/db], unix://[user:password@]/path[?db=N] or sentinel://[user:password@]host[:port],…/name[/db][?sentinel=user:password], where / @ : ? & and % within a part are percent-encoded (%2F %40 %3A %3F %26 %25): what the fleet shares" },
	{ "timeout", CONFIG_DURATION, AT(config, redis.timeout), 0, CONFIG_RESTART, "50ms", 5 * CLOCK_MILLISECOND, 10 * CLOCK_SECOND, NULL, NULL,
	  "no request waits longer than this for Redis" },
	{ "on_failure", CONFIG_WORD, AT(config, redis.on_failure), 0, 0, "share", 0, 0, on_failures, NULL,
	  "without Redis: share (each worker admits its part of every limit, the limit divided by the workers that live), open (lets all pass), closed (refuses)" },
};
static const struct config_section redis = { sizeof(struct config), TABLE(redis_rows), NULL, 0, NULL };

static const struct config_row client_rows[] = {
	{ "head", CONFIG_DURATION, AT(config, client.head), 0, CONFIG_RESTART, "10s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL, "for the whole head of a request" },
	{ "body", CONFIG_DURATION, AT(config, client.body), 0, CONFIG_RESTART, "30s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL, "without a byte of its body" },
	{ "body_rate", CONFIG_SIZE, AT(config, client.body_rate), 0, CONFIG_RESTART, "1KiB", 0, GIB, NULL, NULL, "bytes a second of its body, at least" },
	{ "idle", CONFIG_DURATION, AT(config, client.idle), 0, CONFIG_RESTART, "75s", CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL, "a connection without a request is closed after" },
	{ "write_stall", CONFIG_DURATION, AT(config, client.write_stall), 0, CONFIG_RESTART, "60s", CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL,
	  "a client that takes no byte of its answer is dropped after" },
	{ "connections", CONFIG_COUNT, AT(config, client.connections), 0, CONFIG_RESTART, "20000", 1, 1000000, NULL, NULL, "of clients, at most, of one instance" },
};
static const struct config_section client = { sizeof(struct config), TABLE(client_rows), NULL, 0, NULL };

static const struct config_row drain_rows[] = {
	{ "wait", CONFIG_DURATION, AT(config, drain.wait), 0, 0, "5s", 0, CLOCK_HOUR, NULL, NULL,
	  "after SIGTERM: not ready, but still accepting, until load balancers have seen it" },
	{ "deadline", CONFIG_DURATION, AT(config, drain.deadline), 0, 0, "30s", 0, CLOCK_DAY, NULL, NULL, "after SIGTERM: what has not ended by then is ended" },
};
static const struct config_section drain = { sizeof(struct config), TABLE(drain_rows), NULL, 0, NULL };

static const struct config_row pool_rows[] = {
	{ "max", CONFIG_INT, AT(config, pool.max), 0, 0, "0", 0, 1000000, NULL, NULL,
	  "connections for plain calls to all upstreams together, of one instance, on top of each upstream's own max; 0: no such bound" },
	{ "streams", CONFIG_INT, AT(config, pool.streams), 0, 0, "0", 0, 1000000, NULL, NULL, "the same for streams, which have theirs apart here too" },
};
static const struct config_section pool = { sizeof(struct config), TABLE(pool_rows), NULL, 0, NULL };

static const struct config_row cache_rows[] = {
	{ "ttl", CONFIG_DURATION, AT(config, cache.ttl), 0, 0, "1h", CLOCK_SECOND, 30 * CLOCK_DAY, NULL, NULL, "how long a kept answer is fresh" },
	{ "stale_while_revalidate", CONFIG_DURATION, AT(config, cache.stale_while_revalidate), 0, 0, "10m", 0, 30 * CLOCK_DAY, NULL, NULL,
	  "after ttl: how long it is still given while one call fetches the next" },
	{ "stale_if_error", CONFIG_DURATION, AT(config, cache.stale_if_error), 0, 0, "24h", 0, 30 * CLOCK_DAY, NULL, NULL,
	  "after ttl: how long it is still given where the provider fails" },
	{ "when", CONFIG_WORD, AT(config, cache.when), 0, 0, "deterministic", 0, 0, whens, NULL,
	  "which answers are kept. deterministic: those at temperature 0, embeddings, counted tokens; always: all; asked: those to requests with "
	  "Cache-Control: max-age=N; never: none. Nothing of dialect http is deterministic: there only always or asked keep any" },
	{ "scope", CONFIG_WORD, AT(config, cache.scope), 0, 0, "tenant", 0, 0, scopes, NULL,
	  "who shares an answer, kept or in flight. tenant: callers of one tenant; shared: all callers; user: callers with the same key" },
	{ "max_body", CONFIG_SIZE, AT(config, cache.max_body), 0, CONFIG_RESTART, "1MiB", KIB, 8 * MIB, NULL, NULL, "of one answer; a larger one is not kept" },
	{ "local", CONFIG_SIZE, AT(config, cache.local), 0, CONFIG_RESTART, "32MiB", 0, 16 * GIB, NULL, NULL,
	  "of hot answers that an instance holds itself, divided among its workers; 0: none" },
	{ "redis", CONFIG_TEXT, AT(config, cache.redis), 0, CONFIG_SECRET | CONFIG_RESTART, NULL, 1, 1000, NULL, NULL,
	  "as redis.url, but embedded: another Redis for answers, kept or in flight; none: redis.url" },
	{ "count_hits", CONFIG_BOOL, AT(config, cache.count_hits), 0, 0, "false", 0, 0, NULL, NULL,
	  "requests that cost no call of their own count on the tenant's request limits too" },
};
static const struct config_section cache = { sizeof(struct config), TABLE(cache_rows), NULL, 0, NULL };

static const struct config_row coalesce_rows[] = {
	{ "when", CONFIG_WORD, AT(config, coalesce.when), 0, 0, "deterministic", 0, 0, whens, NULL,
	  "which requests share one call with the same ones in flight; the words mean what they do for cache.when" },
	{ "window", CONFIG_DURATION, AT(config, coalesce.window), 0, CONFIG_RESTART, "100ms", 0, 10 * CLOCK_SECOND, NULL, NULL,
	  "how long after its end a call is still shared; 0: only in flight" },
	{ "streams", CONFIG_BOOL, AT(config, coalesce.streams), 0, 0, "true", 0, 0, NULL, NULL, "streams are shared too, from their first byte" },
};
static const struct config_section coalesce = { sizeof(struct config), TABLE(coalesce_rows), NULL, 0, NULL };

static const struct config_row weight_rows[] = {
	{ "high", CONFIG_INT, AT(config, queue.rule.weight[LANE_HIGH]), 0, 0, "5", 1, 1000, NULL, NULL, "parts that requests of high priority have" },
	{ "medium", CONFIG_INT, AT(config, queue.rule.weight[LANE_MEDIUM]), 0, 0, "3", 1, 1000, NULL, NULL, "the same of medium priority" },
	{ "low", CONFIG_INT, AT(config, queue.rule.weight[LANE_LOW]), 0, 0, "1", 1, 1000, NULL, NULL, "the same of low priority: in their turn, however many others wait" },
};
static const struct config_section weights = { sizeof(struct config), TABLE(weight_rows), NULL, 0, NULL };

static const struct config_row group_rows[] = {
	{ "models", CONFIG_TEXTS, AT(config_group, models), AT(config_group, models_count), CONFIG_REQUIRED, NULL, 0, 10000, NULL, NULL, "names of `models`, each in one group" },
	{ "share", CONFIG_PERCENT, AT(config_group, share), 0, CONFIG_REQUIRED, NULL, 100, 9900, NULL, NULL,
	  "what they have of each line that they wait in, as long as they need it; models in no group have the rest" },
};
static const struct config_section group = { sizeof(struct config_group), TABLE(group_rows), "letters, digits, '.', '_' and '-'", 64, NULL };

static const struct config_row queue_rows[] = {
	{ "max_wait", CONFIG_DURATION, AT(config, queue.max_wait), 0, 0, "5s", 0, CLOCK_HOUR, NULL, NULL,
	  "how long a request may wait for room in a limit of its model or upstream, or for a connection; what cannot be in time is refused at once; 0: nobody waits" },
	{ "depth", CONFIG_COUNT, AT(config, queue.rule.depth), 0, 0, "10000", 1, 1000000, NULL, NULL, "so many may wait for one model or upstream, in the whole fleet" },
	{ "weights", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &weights, "" },
	{ "groups", CONFIG_NAMED, AT(config, queue.groups), AT(config, queue.groups_count), 0, NULL, 0, LINE_GROUPS - 1, NULL, &group, "models with a guaranteed part" },
};
static const struct config_section queue = { sizeof(struct config), TABLE(queue_rows), NULL, 0, NULL };

static const struct config_row root_rows[] = {
	{ "listen", CONFIG_TEXTS, AT(config, listen), AT(config, listen_count), CONFIG_RESTART, "127.0.0.1:8080", 1, 16, NULL, NULL,
	  "host:port, [v6]:port or unix:/path; more than loopback needs tenants, or allow_anonymous: true" },
	{ "admin", CONFIG_TEXT, AT(config, admin), 0, CONFIG_RESTART, "127.0.0.1:8081", 1, 200, NULL, NULL, "where health, metrics and status are; off: nowhere" },
	{ "admin_token", CONFIG_TEXT, AT(config, admin_token), 0, CONFIG_RESTART | CONFIG_SECRET, NULL, 16, 512, NULL, NULL,
	  "what the admin plane asks for (Authorization: Bearer); needed outside loopback" },
	{ "workers", CONFIG_COUNT, AT(config, workers), 0, CONFIG_RESTART, "auto", 1, CONFIG_WORKERS_MOST, autos, NULL, "event loops; auto: one a core" },
	{ "region", CONFIG_TEXT, AT(config, region), 0, 0, NULL, 1, 64, NULL, NULL, "where this instance is: endpoints of the same region come first" },
	{ "allow_anonymous", CONFIG_BOOL, AT(config, allow_anonymous), 0, 0, "false", 0, 0, NULL, NULL, "beside tenants: callers without a key may use every model too, without limits of their own" },
	{ "trusted_proxies", CONFIG_TEXTS, AT(config, trusted_proxies), AT(config, trusted_proxies_count), 0, NULL, 0, 100, NULL, NULL,
	  "addresses or networks (CIDR) whose X-Forwarded-For is believed; unix: whoever comes over a unix socket" },
	{ "max_body", CONFIG_SIZE, AT(config, max_body), 0, 0, "20MiB", KIB, GIB, NULL, NULL, "of one request" },
	{ "memory_limit", CONFIG_SIZE, AT(config, memory_limit), 0, 0, "1GiB", 16 * MIB, 1024 * GIB, NULL, NULL, "of the process: from 80% in use on clients' connections without a request are closed, from 90% on new requests are refused, what is in flight goes on. A quarter of it is for request bodies that are held, all together, another for shared answers in flight" },
	{ "log_level", CONFIG_WORD, AT(config, log_level), 0, 0, "info", 0, 0, levels, NULL, "info has a line for each request" },
	{ "redis", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &redis, "" },
	{ "client", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &client, "" },
	{ "drain", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &drain, "" },
	{ "upstreams", CONFIG_NAMED, AT(config, upstreams), AT(config, upstreams_count), CONFIG_REQUIRED, NULL, 1, 1000, NULL, &config_table_upstream, "the providers" },
	{ "models", CONFIG_NAMED, AT(config, models), AT(config, models_count), 0, NULL, 0, 10000, NULL, &config_table_model, "models with a route or limits of their own" },
	{ "tenants", CONFIG_NAMED, AT(config, tenants), AT(config, tenants_count), 0, NULL, 0, 100000, NULL, &tenant, "who may call" },
	{ "cache", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &cache, "" },
	{ "coalesce", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &coalesce, "" },
	{ "queue", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &queue, "" },
	{ "pool", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &pool, "" },
};
const struct config_section config_root = { sizeof(struct config), TABLE(root_rows), NULL, 0, NULL };
/* clang-format on */

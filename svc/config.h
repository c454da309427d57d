/* The configuration: one table of keys (svc/config_table.c) from which come the parser, its errors, --docs, --defaults and the README's table.
 *
 * A struct config is read-only from the moment config_load returns it; workers share it. It is counted, because requests that began
 * under an old one end under it: config_hold and config_release are safe from any thread. */
#ifndef SLUICE_CONFIG_H
#define SLUICE_CONFIG_H

#include "lib/base.h"
#include "lib/breaker.h"
#include "lib/lane.h"
#include "lib/limiter.h"
#include "lib/line.h"
#include "lib/pool.h"
#include "lib/retry.h"
#include "lib/slice.h"
#include "svc/kinds.h"

struct buf;

/* For whom an endpoint is: calls that somebody waits for, calls that may wait (RFC 9218 urgency 5 to 7), any. */
enum config_lane { CONFIG_LANE_ANY, CONFIG_LANE_REALTIME, CONFIG_LANE_BATCH };

/* Texts are NUL-terminated and owned by the config; a list is an array and a count. */
enum { CONFIG_ENDPOINTS_MOST = 16, CONFIG_TARGETS_MOST = 16, CONFIG_WORKERS_MOST = 256 };
struct config_endpoint {
	char *url;        /* as given: http(s)://host[:port][/prefix], no trailing slash */
	char *origin;     /* scheme://host[:port] */
	char *prefix;     /* path in front of every target; "" or "/…" */
	char *region;     /* NULL: none */
	int64_t priority; /* the lowest that is well is used first */
	int64_t weight;   /* its share among those of the same priority; 0: only when no other is well */
	enum config_lane lane;
};

struct config_credential {
	char *header; /* e.g. "x-goog-api-key"; NULL: none is sent */
	char *value;  /* secret */
};

enum config_breaker { CONFIG_BREAKER_DEFAULT, CONFIG_BREAKER_FRAGILE, CONFIG_BREAKER_SIMPLE };

/* Workloads that a pool is made for. */
enum config_pool {
	CONFIG_POOL_DEFAULT,
	CONFIG_POOL_CLI,
	CONFIG_POOL_BACKEND,
	CONFIG_POOL_BATCH,
	CONFIG_POOL_MULTI_TENANT
};

enum config_usage { CONFIG_USAGE_ASK, CONFIG_USAGE_AS_IS };

struct config_upstream {
	char *name;
	enum dialect dialect;
	bool is_default; /* takes the models of its dialect that `models` does not name */
	struct config_endpoint *endpoints;
	size_t endpoints_count; /* 1 to CONFIG_ENDPOINTS_MOST */
	struct config_credential credential;
	bool allow_plaintext;        /* a credential may go to http:// that is not loopback */
	char *ca_file;               /* NULL: the system's */
	unsigned char ca_sha256[32]; /* of that file's content when this configuration was read; https alone */
	enum config_usage usage;
	char **forward_headers; /* more request headers that go to this upstream */
	size_t forward_headers_count;
	struct limits limits;
	struct {
		enum config_pool preset; /* which defaults the file's keys stand on; the others have it all */
		int64_t min, start, max, streams, streams_per_connection; /* of one instance, to each endpoint */
		int64_t tenant_max; /* that one tenant's calls may occupy, of all of them; 0: no such bound */
		int64_t connect_timeout, idle_timeout, max_age, validate_after;
		enum pool_http http;
	} pool;
	struct {
		int64_t connect, first_byte, first_byte_plain, idle, total;
	} timeout;
	enum config_breaker breaker_preset; /* which defaults the file's keys stand on; `breaker` has it all */
	struct breaker_rule breaker;
	bool breaker_per_model; /* each model of it has a breaker of its own */
	struct retry_policy retry;
	struct {
		char *path; /* with "/" in front, GET; NULL: no health checks */
		int64_t interval, timeout;
	} health;
};

/* USD per million tokens, in millionths of a dollar: 1.25 is 1250000. */
struct config_price {
	int64_t input, cached, output; /* -1: not said */
};

/* What a target cannot do keeps requests that need it away. */
struct config_capabilities {
	bool media, tools; /* images, audio and files; tool calls */
	int64_t context;   /* tokens of input and output together; 0: not said */
};

struct config_target {
	const struct config_upstream *upstream;
	char *model;    /* what the upstream calls it; NULL: as the client does */
	int64_t weight; /* strategy weighted: its share; 0: only when no other will do. Strategy load: its capacity */
	struct config_price price; /* nothing of it said: the model's */
	struct config_capabilities capabilities;
};

enum config_strategy {
	CONFIG_STRATEGY_PRIORITY, /* in the list's order */
	CONFIG_STRATEGY_WEIGHTED, /* by weight; a session stays where it is */
	CONFIG_STRATEGY_COST,     /* the cheapest for this request, by price and estimated tokens */
	CONFIG_STRATEGY_LATENCY,  /* the soonest first byte, as measured lately */
	CONFIG_STRATEGY_LOAD      /* the fewest in flight per weight */
};

struct config_model {
	char *name;
	size_t group; /* of the queue's rule: 0: it is in none */
	struct config_target *targets;
	size_t targets_count; /* 1 to CONFIG_TARGETS_MOST */
	enum config_strategy strategy;
	bool affinity; /* a session stays at the target and endpoint that it has, for the provider's prompt cache */
	char **fallback; /* models that are asked instead when no target will do, in this order; of the same dialect, no cycle */
	size_t fallback_count;
	struct config_price price;
	struct limits limits;
};

struct config_key {
	unsigned char sha256[32];
};

/* The lane of a tenant's requests: each its own (RFC 9218), medium where it says none; or this one where it says none, and none before it. */
enum config_priority { CONFIG_PRIORITY_ANY, CONFIG_PRIORITY_HIGH, CONFIG_PRIORITY_MEDIUM, CONFIG_PRIORITY_LOW };

struct config_tenant {
	char *name;
	struct config_key *keys;
	size_t keys_count;
	char **models; /* none: every model */
	size_t models_count;
	struct limits limits;
	enum config_priority priority;
	struct {
		int64_t max; /* connections that its calls may occupy at each upstream, in one instance; 0: the upstream's pool.tenant_max */
	} pool;
};

/* Models that have a part of each line for themselves, when they need it. */
struct config_group {
	char *name;
	char **models;
	size_t models_count;
	int64_t share; /* parts of 10,000 */
};

enum config_on_failure { CONFIG_SHARE, CONFIG_OPEN, CONFIG_CLOSED };

enum config_log_level {
	CONFIG_LOG_DEBUG,
	CONFIG_LOG_INFO,
	CONFIG_LOG_WARNING,
	CONFIG_LOG_ERROR
}; /* as enum log_level */

/* Which answers are kept, or shared in flight. */
enum config_when {
	CONFIG_WHEN_DETERMINISTIC, /* at temperature 0, embeddings, counted tokens; none of dialect http */
	CONFIG_WHEN_ALWAYS,
	CONFIG_WHEN_ASKED, /* to requests with Cache-Control: max-age=N */
	CONFIG_WHEN_NEVER
};

/* Who shares an answer, kept or in flight; in CONFIG_SCOPE_USER each key of a tenant is a user of its own. */
enum config_scope { CONFIG_SCOPE_TENANT, CONFIG_SCOPE_SHARED, CONFIG_SCOPE_USER };

struct config {
	char **listen;
	size_t listen_count; /* ≥ 1 */
	char *admin;         /* NULL: no admin plane ("off") */
	char *admin_token;   /* secret; NULL only when admin is loopback or a unix socket */
	int64_t workers;     /* resolved: ≥ 1 */
	char *region;        /* where this instance is: endpoints of the same region come first; NULL: nowhere */
	bool allow_anonymous;
	char **trusted_proxies; /* addresses or CIDR, checked */
	size_t trusted_proxies_count;
	int64_t max_body;     /* bytes of one request */
	int64_t memory_limit; /* bytes of the process; a quarter is for request bodies */
	enum config_log_level log_level;
	struct {
		char *url; /* "embedded", redis://…, unix://… */
		int64_t timeout;
		enum config_on_failure on_failure;
	} redis;
	struct {
		int64_t head, body, idle, write_stall; /* microseconds */
		int64_t body_rate;                     /* bytes per second */
		int64_t connections;
	} client;
	struct {
		int64_t wait, deadline;
	} drain;
	struct {
		int64_t max, streams; /* connections to all upstreams together, of one instance; 0: no such bound */
	} pool;
	struct {
		int64_t max_wait;      /* microseconds; 0: nobody waits */
		struct line_rule rule; /* its shares are of the models in no group, then of each group */
		struct config_group *groups;
		size_t groups_count; /* < LINE_GROUPS */
	} queue;
	struct config_upstream *upstreams;
	size_t upstreams_count;
	struct config_model *models;
	size_t models_count;
	struct config_tenant *tenants;
	size_t tenants_count;
	struct {
		int64_t ttl, stale_while_revalidate, stale_if_error; /* microseconds; the others begin after ttl */
		enum config_when when;
		enum config_scope scope;
		int64_t max_body; /* bytes of one stored answer */
		int64_t local;    /* bytes of hot answers in the process, divided among its workers; 0: none */
		char *redis;      /* secret; redis:// or unix://; NULL: redis.url itself */
		bool count_hits;  /* a hit, and who reads along, counts on the tenant's request limits */
	} cache;
	struct {
		enum config_when when;
		int64_t window; /* microseconds */
		bool streams;
	} coalesce;
};

/* The cores that this process may use, 1 to CONFIG_WORKERS_MOST: the default of `workers`. */
int64_t config_cores(void);
/* Connections that the `min` of its pools keep open, together. */
int64_t config_kept(const struct config *);
/* NULL when the file is refused: `error` then has one line a mistake, each "FILE:LINE: key.path: what was found; what is allowed", all of them,
 * at most 20, and how many more. When it is taken, `error` has its warnings, in the same form. The file is YAML 1.1 as libyaml reads it (anchors and tags refused), so JSON works too. */
const struct config *config_load(const char *path, struct buf *error) MUST_CHECK;
/* The same on a running loop: it and what it names must be regular files, because the writer of a pipe may never come. */
const struct config *config_reload(const char *path, struct buf *error) MUST_CHECK;
/* The same from memory; `name` stands in the errors. */
const struct config *config_parse(const char *name, struct slice text, struct buf *error) MUST_CHECK;
const struct config *config_hold(const struct config *);
void config_release(const struct config **);

/* False, with lines in `error`, when `next` differs from `now` in a key that needs a restart. */
bool config_may_reload(const struct config *now, const struct config *next, struct buf *error) MUST_CHECK;

const struct config_upstream *config_find_upstream(const struct config *, struct slice name);
const struct config_model *config_find_model(const struct config *, struct slice name);
/* By the key's SHA-256; NULL when nobody has it. Looked up under a secret hash, so that the time it takes tells nothing about keys. */
const struct config_tenant *config_find_tenant(const struct config *, const unsigned char sha256[32]);
const char *config_dialect_name(enum dialect);
/* Whether a Host field ("host" or "host:port", valid) says by itself which machine it means: an IP address, localhost, or the host in `admin`. Any other name
 * is under somebody's control, who may let it stand for this machine (DNS rebinding). */
bool config_is_admin_host(const struct config *, struct slice host) MUST_CHECK;

void config_write_docs(struct buf *);     /* Markdown table: key, type, default, bounds, reload, help */
void config_write_defaults(struct buf *); /* YAML with every key at its default */
void config_write_example(struct buf *);  /* a commented YAML that config_parse accepts */
void config_write_json(const struct config *, struct buf *);    /* the running one, secrets as "***", for /config */
void config_write_summary(const struct config *, struct buf *); /* "2 upstreams, 1 model, 0 tenants" */

#endif

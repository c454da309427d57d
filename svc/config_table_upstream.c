/* The rows of an upstream: where it is, what it is sent, its connections and time-outs, and what becomes of calls that fail. */
#include "svc/config_internal.h"

#include "lib/clock.h"

static const char *const lanes[] = { "any", "realtime", "batch", NULL };
static const char *const presets[] = { "default", "fragile", "simple", NULL };
static const char *const workloads[] = { "default", "cli", "backend", "batch", "multi_tenant", NULL };
static const char *const dialects[] = { "gemini", "openai", "anthropic", "http", NULL };
static const char *const usages[] = { "ask", "as_is", NULL };
static const char *const versions[] = { "auto", "1.1", "2", NULL };
static const char *const nothing[] = { NULL };

/* clang-format off */
#define AT(kind, field)   offsetof(struct kind, field)
#define TABLE(rows)       rows, ARRAY_LENGTH(rows)

static const struct config_row endpoint_rows[] = {
	{ "url", CONFIG_TEXT, AT(config_endpoint, url), 0, CONFIG_REQUIRED | CONFIG_UNTOLD, NULL, 1, 1000, NULL, NULL,
	  "http(s)://host[:port][/prefix]: where the provider is; without /v1 at its end, which is the client's (dialect http: as it is)" },
	{ "region", CONFIG_TEXT, AT(config_endpoint, region), 0, 0, NULL, 1, 64, NULL, NULL, "where it is: those of the instance's own `region` come first" },
	{ "priority", CONFIG_INT, AT(config_endpoint, priority), 0, 0, "0", 0, 1000, NULL, NULL, "of those that are well the lowest comes first" },
	{ "weight", CONFIG_INT, AT(config_endpoint, weight), 0, 0, "1", 0, 1000, NULL, NULL, "its share among those of the same priority; 0: only when no other is well" },
	{ "lane", CONFIG_WORD, AT(config_endpoint, lane), 0, 0, "any", 0, 0, lanes, NULL, "realtime: for calls that somebody waits for; batch: for calls that may wait (Priority: u=5 to 7)" },
};
static const struct config_section endpoint = { sizeof(struct config_endpoint), TABLE(endpoint_rows), NULL, 0, NULL };

static const struct config_row credential_rows[] = {
	{ "header", CONFIG_TEXT, AT(config_credential, header), 0, CONFIG_UNTOLD, NULL, 1, 64, NULL, NULL, "the header that carries it, as x-goog-api-key" },
	{ "value", CONFIG_TEXT, AT(config_credential, value), 0, CONFIG_SECRET, NULL, 1, 8192, NULL, NULL, "its value, as \"Bearer ${OPENAI_API_KEY}\"" },
	{ "vertex", CONFIG_LATER, 0, 0, 0, NULL, 0, 0, nothing, NULL, "" },
};
static const struct config_section credential = { sizeof(struct config_credential), TABLE(credential_rows), NULL, 0, NULL };

/* The keys that are not here are as in `default`. */
static const struct config_preset pool_presets[] = {
	{ CONFIG_POOL_CLI, "min", "0" },
	{ CONFIG_POOL_CLI, "start", "1" },
	{ CONFIG_POOL_CLI, "max", "5" },
	{ CONFIG_POOL_CLI, "streams", "5" },
	{ CONFIG_POOL_BACKEND, "min", "2" },
	{ CONFIG_POOL_BACKEND, "max", "30" },
	{ CONFIG_POOL_BACKEND, "streams", "30" },
	{ CONFIG_POOL_BATCH, "min", "0" },
	{ CONFIG_POOL_BATCH, "start", "40" },
	{ CONFIG_POOL_BATCH, "max", "80" },
	{ CONFIG_POOL_BATCH, "streams", "20" },
	{ CONFIG_POOL_MULTI_TENANT, "min", "5" },
	{ CONFIG_POOL_MULTI_TENANT, "start", "20" },
	{ CONFIG_POOL_MULTI_TENANT, "tenant_max", "10" },
	{ 0, NULL, NULL },
};
static const struct config_row pool_rows[] = {
	{ "preset", CONFIG_WORD, AT(config_upstream, pool.preset), 0, 0, "default", 0, 0, workloads, NULL,
	  "what the keys below are when they are not given; cli: min 0, start 1, max 5, streams 5; backend: min 2, max 30, streams 30; batch: min 0, start 40, max 80, streams 20; "
	  "multi_tenant: min 5, start 20, tenant_max 10, of 200 in all" },
	{ "min", CONFIG_INT, AT(config_upstream, pool.min), 0, 0, "1", 0, 10000, NULL, NULL,
	  "connections for plain calls that are opened before the instance is ready, and kept; each is tried once, for 10 s at most, and what failed is opened later; 0: the first call opens the first" },
	{ "start", CONFIG_INT, AT(config_upstream, pool.start), 0, 0, "10", 0, 10000, NULL, NULL,
	  "how many are kept although idle, at first: 20% more after 60s above 80% in use, 10% fewer after 5m below 30%; min to max. No call waits for that: it has one opened up to max" },
	{ "max", CONFIG_INT, AT(config_upstream, pool.max), 0, 0, "100", 1, 10000, NULL, NULL,
	  "connections for plain calls to each endpoint, of one instance, all its workers together; further calls wait" },
	{ "streams", CONFIG_INT, AT(config_upstream, pool.streams), 0, 0, "100", 1, 20000, NULL, NULL, "the same for streams, which have them apart: neither takes one from the other" },
	{ "streams_per_connection", CONFIG_INT, AT(config_upstream, pool.streams_per_connection), 0, 0, "100", 1, 1000, NULL, NULL,
	  "HTTP/2: requests at once on one connection" },
	{ "tenant_max", CONFIG_INT, AT(config_upstream, pool.tenant_max), 0, 0, "0", 0, 30000, NULL, NULL,
	  "connections that the calls of one tenant may occupy at once, plain calls and streams, unless it has a pool.max of its own; 0: no such bound" },
	{ "connect_timeout", CONFIG_DURATION, AT(config_upstream, pool.connect_timeout), 0, 0, "30s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL,
	  "how long a request waits for a connection of the pool, at most (opening one: timeout.connect); queue.max_wait bounds it too, so that more than that, as the default, never acts" },
	{ "idle_timeout", CONFIG_DURATION, AT(config_upstream, pool.idle_timeout), 0, 0, "5m", CLOCK_SECOND, CLOCK_DAY, NULL, NULL, "an unused connection is closed after" },
	{ "validate_after", CONFIG_DURATION, AT(config_upstream, pool.validate_after), 0, 0, "1m", 0, CLOCK_DAY, NULL, NULL,
	  "an unused connection is tried by a light request (HEAD /, no credential), each time after; 0: never" },
	{ "max_age", CONFIG_DURATION, AT(config_upstream, pool.max_age), 0, 0, "1h", CLOCK_SECOND, CLOCK_DAY, NULL, NULL, "a connection is replaced before it is older, up to a tenth earlier" },
	{ "http", CONFIG_WORD, AT(config_upstream, pool.http), 0, 0, "auto", 0, 0, versions, NULL, "auto: HTTP/2 where libcurl is 8.1 or newer" },
};
/* Sections that are no struct of their own lie in their parent's. */
static const struct config_section pool = { sizeof(struct config_upstream), TABLE(pool_rows), NULL, 0, pool_presets };

static const struct config_row timeout_rows[] = {
	{ "connect", CONFIG_DURATION, AT(config_upstream, timeout.connect), 0, 0, "10s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL, "DNS, TCP and TLS of a new connection" },
	{ "first_byte", CONFIG_DURATION, AT(config_upstream, timeout.first_byte), 0, 0, "60s", CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL, "until a stream begins" },
	{ "first_byte_plain", CONFIG_DURATION, AT(config_upstream, timeout.first_byte_plain), 0, 0, "10m", CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL,
	  "until a plain answer begins: its first byte comes last" },
	{ "idle", CONFIG_DURATION, AT(config_upstream, timeout.idle), 0, 0, "60s", CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL, "between two pieces of an answer" },
	{ "total", CONFIG_DURATION, AT(config_upstream, timeout.total), 0, 0, "10m", CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL, "of one attempt, all together" },
};
static const struct config_section timeout = { sizeof(struct config_upstream), TABLE(timeout_rows), NULL, 0, NULL };

/* The keys that are not here are as in `default`. */
static const struct config_preset breaker_presets[] = {
	{ CONFIG_BREAKER_FRAGILE, "min_calls", "10" },
	{ CONFIG_BREAKER_FRAGILE, "error_rate", "20%" },
	{ CONFIG_BREAKER_FRAGILE, "slow", "3s" },
	{ CONFIG_BREAKER_FRAGILE, "slow_min_calls", "100" },
	{ CONFIG_BREAKER_FRAGILE, "unreachable", "3" },
	{ CONFIG_BREAKER_FRAGILE, "failures", "5" },
	{ CONFIG_BREAKER_FRAGILE, "open_for", "60s" },
	{ CONFIG_BREAKER_FRAGILE, "probes", "1" },
	{ CONFIG_BREAKER_SIMPLE, "error_rate", "0" },
	{ CONFIG_BREAKER_SIMPLE, "slow_rate", "0" },
	{ CONFIG_BREAKER_SIMPLE, "failures", "5" },
	{ CONFIG_BREAKER_SIMPLE, "open_for", "60s" },
	{ CONFIG_BREAKER_SIMPLE, "open_most", "60s" },
	{ 0, NULL, NULL },
};
static const struct config_row breaker_rows[] = {
	{ "preset", CONFIG_WORD, AT(config_upstream, breaker_preset), 0, 0, "default", 0, 0, presets, NULL,
	  "what the keys below are when they are not given; simple: 5 failures in a row stop it for 60s, no rates; fragile: min_calls 10, error_rate 20%, slow 3s, "
	  "slow_min_calls 100, unreachable 3, failures 5, open_for 60s, probes 1" },
	{ "window", CONFIG_DURATION, AT(config_upstream, breaker.window), 0, 0, "10s", CLOCK_SECOND, CLOCK_HOUR, NULL, NULL, "how far the rates look back" },
	{ "min_calls", CONFIG_INT, AT(config_upstream, breaker.min_calls), 0, 0, "20", 1, 1000000, NULL, NULL, "calls of the fleet in the window, before error_rate means anything" },
	{ "error_rate", CONFIG_PERCENT, AT(config_upstream, breaker.error_rate), 0, 0, "50%", 0, 10000, NULL, NULL, "it is not called for a while when more of the calls fail; 0: never" },
	{ "slow", CONFIG_DURATION, AT(config_upstream, breaker.slow), 0, 0, "5s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL, "a stream's first byte that comes later is slow" },
	{ "slow_rate", CONFIG_PERCENT, AT(config_upstream, breaker.slow_rate), 0, 0, "1%", 0, 10000, NULL, NULL, "the same when more of the streams are slow (1%: p99 above slow); 0: never" },
	{ "slow_min_calls", CONFIG_INT, AT(config_upstream, breaker.slow_min_calls), 0, 0, "500", 1, 1000000, NULL, NULL, "streams in the window, before slow_rate means anything" },
	{ "unreachable", CONFIG_INT, AT(config_upstream, breaker.unreachable), 0, 0, "5", 0, 1000, NULL, NULL, "the same after so many failures of connect or TLS in a row; 0: never" },
	{ "failures", CONFIG_INT, AT(config_upstream, breaker.failures), 0, 0, "0", 0, 1000, NULL, NULL, "the same after so many failures of any kind in a row; 0: never" },
	{ "open_for", CONFIG_DURATION, AT(config_upstream, breaker.open_for), 0, 0, "30s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL,
	  "how long it is not called, the first time; twice as long each time, until it has answered well" },
	{ "open_most", CONFIG_DURATION, AT(config_upstream, breaker.open_most), 0, 0, "8m", CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL, "and no longer than this; open_for or more" },
	{ "probes", CONFIG_INT, AT(config_upstream, breaker.probes), 0, 0, "3", 1, 100, NULL, NULL, "calls that try it then, at once in the fleet; when so many go well all may call again" },
	{ "per_model", CONFIG_BOOL, AT(config_upstream, breaker_per_model), 0, 0, "false", 0, 0, NULL, NULL, "each of its models has a breaker of its own" },
};
static const struct config_section breaker = { sizeof(struct config_upstream), TABLE(breaker_rows), NULL, 0, breaker_presets };

static const struct config_row retry_rows[] = {
	{ "attempts", CONFIG_INT, AT(config_upstream, retry.attempts), 0, 0, "4", 1, 20, NULL, NULL, "calls for one request, the first included; 1: none is made again" },
	{ "base", CONFIG_DURATION, AT(config_upstream, retry.base), 0, 0, "1s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL,
	  "after 429: waits at random up to this, twice as long each time; Retry-After only makes it longer" },
	{ "cap", CONFIG_DURATION, AT(config_upstream, retry.cap), 0, 0, "32s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL, "up to this at most; base and timeout_base or more" },
	{ "timeout_base", CONFIG_DURATION, AT(config_upstream, retry.timeout_base), 0, 0, "100ms", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL, "the same as base, after 5xx and time-outs" },
	{ "budget", CONFIG_PERCENT, AT(config_upstream, retry.budget), 0, 0, "20%", 0, 10000, NULL, NULL, "calls that are made again, of all requests; 0: none" },
	{ "resend", CONFIG_BOOL, AT(config_upstream, retry.resend), 0, 0, "false", 0, 0, NULL, NULL, "also what was sent when the connection broke: it may be done, and paid, twice" },
};
static const struct config_section retry = { sizeof(struct config_upstream), TABLE(retry_rows), NULL, 0, NULL };

static const struct config_row health_rows[] = {
	{ "path", CONFIG_TEXT, AT(config_upstream, health.path), 0, 0, NULL, 1, 1000, NULL, NULL, "asked for with GET, behind the endpoint's url, as /v1/models; none: no checks" },
	{ "interval", CONFIG_DURATION, AT(config_upstream, health.interval), 0, 0, "5s", 100 * CLOCK_MILLISECOND, CLOCK_DAY, NULL, NULL, "between the beginnings of two checks of an endpoint: a lone instance has five behind it, and so knows that one fell silent, within 30 s" },
	{ "timeout", CONFIG_DURATION, AT(config_upstream, health.timeout), 0, 0, "3s", CLOCK_MILLISECOND, CLOCK_HOUR, NULL, NULL, "one that takes longer has failed" },
};
static const struct config_section health = { sizeof(struct config_upstream), TABLE(health_rows), NULL, 0, NULL };

static const struct config_row upstream_rows[] = {
	{ "dialect", CONFIG_WORD, AT(config_upstream, dialect), 0, CONFIG_REQUIRED, NULL, 0, 0, dialects, NULL, "how its API looks" },
	{ "default", CONFIG_BOOL, AT(config_upstream, is_default), 0, 0, "false", 0, 0, NULL, NULL, "takes the models of its dialect that `models` does not name" },
	{ "endpoints", CONFIG_LIST, AT(config_upstream, endpoints), AT(config_upstream, endpoints_count), CONFIG_REQUIRED, NULL, 1, CONFIG_ENDPOINTS_MOST, NULL, &endpoint,
	  "where it is" },
	{ "credential", CONFIG_SECTION, AT(config_upstream, credential), 0, 0, NULL, 0, 0, NULL, &credential, "" },
	{ "allow_plaintext", CONFIG_BOOL, AT(config_upstream, allow_plaintext), 0, 0, "false", 0, 0, NULL, NULL,
	  "the credential may go over http:// to another machine" },
	{ "ca_file", CONFIG_TEXT, AT(config_upstream, ca_file), 0, 0, NULL, 1, 1000, NULL, NULL, "certificates to trust, PEM, relative to this file; none: the system's" },
	{ "usage", CONFIG_WORD, AT(config_upstream, usage), 0, 0, "ask", 0, 0, usages, NULL,
	  "ask: OpenAI's streams are asked to tell their usage where a token limit applies" },
	{ "forward_headers", CONFIG_TEXTS, AT(config_upstream, forward_headers), AT(config_upstream, forward_headers_count), 0, NULL, 0, 50, NULL, NULL,
	  "more request headers that go to it" },
	{ "limits", CONFIG_LIMITS, AT(config_upstream, limits), 0, 0, NULL, 1, 0, NULL, NULL, "what the provider grants, shared by the fleet" },
	{ "pool", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &pool, "" },
	{ "timeout", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &timeout, "" },
	{ "breaker", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &breaker, "" },
	{ "retry", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &retry, "" },
	{ "health", CONFIG_SECTION, 0, 0, 0, NULL, 0, 0, NULL, &health, "" },
};
const struct config_section config_table_upstream = { sizeof(struct config_upstream), TABLE(upstream_rows), "letters, digits, '.', '_' and '-'", 64, NULL };
/* clang-format on */

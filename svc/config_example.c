/* The example that `sluice config --example` prints. Lines that begin with "# " are what one adds later: without these two bytes they are of the file. A test
 * reads it with the parser, as it is and with all of them. */
#include "lib/buf.h"
#include "svc/config.h"

/* clang-format off */
static const char example[] =
"# Sluice: one instance of a fleet. All instances share this file's quotas through the same Redis. What stands behind \"# \" is for later.\n"
"listen: 127.0.0.1:8080             # more than loopback needs tenants, or allow_anonymous: true\n"
"admin: 127.0.0.1:8081              # /healthz /readyz /metrics /status /requests /config /breakers /cache/purge\n"
"# region: eu                       # where this instance is: endpoints there come first\n"
"redis:\n"
"  url: embedded                    # a fleet: redis://[user:password@]host:port/db\n"
"  on_failure: closed               # open: let all pass while Redis is away\n"
"\n"
"upstreams:\n"
"  gemini:\n"
"    dialect: gemini                # gemini | openai | anthropic | http\n"
"    default: true                  # takes the models of its dialect that `models` does not name\n"
"    endpoints:                     # up to 16; this instance's region first, then the lowest priority, then by weight\n"
"      - {url: \"https://generativelanguage.googleapis.com\"}\n"
"#       - {url: \"https://gemini.example\", region: eu, priority: 1, weight: 1, lane: any}   # any | realtime | batch\n"
"    credential: {header: x-goog-api-key, value: \"${GEMINI_API_KEY}\"}\n"
"    limits: {rpm: 1000, tpm: 4M, concurrency: 200}   # what the provider grants: strict\n"
"    pool: {min: 2, max: 100, streams: 100}\n"
"#     breaker: {preset: default, error_rate: 50%, slow: 5s, slow_rate: 1%, open_for: 30s}   # default | fragile | simple\n"
"#     retry: {attempts: 4, base: 1s, cap: 32s, budget: 20%}   # at most a fifth of all requests are made again\n"
"#     health: {path: /v1beta/models, interval: 10s, timeout: 5s}\n"
"  openai:\n"
"    dialect: openai\n"
"    default: true\n"
"    endpoints: [{url: \"https://api.openai.com\"}]\n"
"    credential: {header: Authorization, value: \"Bearer ${OPENAI_API_KEY}\"}\n"
"\n"
"models:\n"
"  gemini-2.5-pro:\n"
"    targets: [{upstream: gemini}]\n"
"    limits: {rpm: 150, tpm: 2M}\n"
"#     price: {input: 1.25, cached: 0.31, output: 10.00}   # USD per million tokens\n"
"#     fallback: [gemini-2.5-flash]   # asked instead when no target will do\n"
"#   gemini-2.5-flash:\n"
"#     strategy: weighted             # priority | weighted | cost | latency | load\n"
"#     targets:                       # up to 16, of one dialect\n"
"#       - {upstream: gemini, weight: 95}\n"
"#       - {upstream: gemini, model: gemini-2.5-flash-lite, weight: 5, capabilities: {media: false}}\n"
"\n"
"tenants:\n"
"  acme:\n"
"    keys: [\"${ACME_KEY}\"]          # or sha256:… of one\n"
"    limits: {rpm: {limit: 600, burst: 60}, tpm: 400k, concurrency: 50}\n"
"  intern:\n"
"    keys: [\"sha256:${INTERN_KEY_SHA256}\"]   # of `printf %s \"$KEY\" | sha256sum`\n"
"    models: [gemini-2.5-pro, gemini-2.5-flash]\n"
"    limits: {rpm: 10}\n"
"\n"
"cache: {when: deterministic, ttl: 1h, scope: tenant}   # temperature 0, embeddings, counted tokens; or always | asked | never\n"
"coalesce: {when: deterministic, window: 100ms, streams: true}   # the same requests at once are one call\n"
"drain: {wait: 5s, deadline: 30s}\n";
/* clang-format on */

void config_write_example(struct buf *out)
{
	buf_append(out, slice_make(example, sizeof(example) - 1));
}

/* The upstreams of a worker: each endpoint's pools, and what the worker knows of it.
 *
 * An upstream is counted by the generations that use it. A reload that leaves what its pools were opened with carries it over, with its warm connections and
 * all that was learnt of it. */
#include <string.h>

#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/pool.h"
#include "svc/worker_internal.h"

#define WORKER_NAME_AGE (30 * CLOCK_SECOND) /* a provider that moves is found again within this */

unsigned worker_part(const struct worker *w, const struct config *config, int64_t all)
{
	int64_t part = all / config->workers + (w->index < all % config->workers ? 1 : 0);

	return all > 0 && part < 1 ? 1 : (unsigned)part;
}

/* ---- birth and death ------------------------------------------------------------------------------------------------- */

static struct pool *open_pool(struct worker *w, const struct config *config, const struct config_upstream *u,
			      const struct config_endpoint *e, int64_t connections, int64_t warm)
{
	struct pool_options options = {
		.origin = e->origin,
		.connections = worker_part(w, config, connections),
		.streams_per_connection = (unsigned)u->pool.streams_per_connection,
		.http = u->pool.http,
		.connect_timeout = u->timeout.connect,
		.name_age = WORKER_NAME_AGE,
		.idle_timeout = u->pool.idle_timeout,
		.max_age = u->pool.max_age,
		.ca_file = u->ca_file,
		.verify = true,
		.allow_private = true, /* the operator named this host */
	};

	options.warm = warm > 0 ? worker_part(w, config, warm) : 0;
	if (options.warm > options.connections)
		options.warm = options.connections;
	return pool_new(w->loop, &options, w->log);
}

static struct worker_upstream *open_upstream(struct worker *w, const struct config *config,
					     const struct config_upstream *u)
{
	struct worker_upstream *opened = mem_new(sizeof(*opened));
	struct slice name = slice_of(u->name);

	*opened = (struct worker_upstream){
		.config = config_hold(config),
		.upstream = u,
		.endpoints = mem_new_array(u->endpoints_count, sizeof(*opened->endpoints)),
		.metrics = w->metrics,
		.references = 1,
	};
	for (size_t i = 0; i < u->endpoints_count; i++)
		opened->endpoints[i] = (struct worker_endpoint){
			.calls = open_pool(w, config, u, &u->endpoints[i], u->pool.max, u->pool.min),
			.streams = open_pool(w, config, u, &u->endpoints[i], u->pool.streams, 0),
		};
	for (size_t i = 0; i < u->endpoints_count; i++)
		worker_open_endpoint(w, opened, i);
	for (size_t i = 0; i < u->endpoints_count; i++)
		worker_open_health(w, opened, i);
	opened->seconds.attempt = metrics_series(w->metrics, METRIC_attempt_seconds, &name);
	opened->seconds.request = metrics_series(w->metrics, METRIC_request_seconds, &name);
	opened->seconds.overhead = metrics_series(w->metrics, METRIC_overhead_seconds, &name);
	opened->seconds.first_byte = metrics_series(w->metrics, METRIC_first_byte_seconds, &name);
	opened->seconds.pool_wait = metrics_series(w->metrics, METRIC_pool_wait_seconds, &name);
	opened->seconds.pool_handshake = metrics_series(w->metrics, METRIC_pool_handshake_seconds, &name);
	return opened;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_endpoints(const struct config_upstream *a, const struct config_upstream *b)
{
	if (a->endpoints_count != b->endpoints_count)
		return false;
	for (size_t i = 0; i < a->endpoints_count; i++)
		if (strcmp(a->endpoints[i].url, b->endpoints[i].url) != 0)
			return false;
	return true;
}

/* Whether the pools of `a` can serve `b`: these are what is read when they are opened; all else is read per request. */
static bool same_pools(const struct config_upstream *a, const struct config_upstream *b)
{
	return strcmp(a->name, b->name) == 0 && same_endpoints(a, b) && same_text(a->ca_file, b->ca_file) &&
	       memcmp(a->ca_sha256, b->ca_sha256, sizeof(a->ca_sha256)) == 0 &&
	       a->timeout.connect == b->timeout.connect && a->pool.min == b->pool.min && a->pool.max == b->pool.max &&
	       a->pool.streams == b->pool.streams && a->pool.streams_per_connection == b->pool.streams_per_connection &&
	       same_text(a->health.path, b->health.path) && a->health.interval == b->health.interval &&
	       a->health.timeout == b->health.timeout && a->pool.http == b->pool.http &&
	       a->pool.idle_timeout == b->pool.idle_timeout && a->pool.max_age == b->pool.max_age;
}

struct worker_upstream *worker_carry_over(struct worker *w, const struct config *config, size_t index,
					  struct worker_generation *before)
{
	const struct config_upstream *u = &config->upstreams[index];
	struct worker_upstream *opened;

	for (size_t i = 0; before != NULL && i < before->config->upstreams_count; i++)
		if (same_pools(before->upstreams[i]->upstream, u)) {
			before->upstreams[i]->references++;
			worker_renew_rules(w, u, before->upstreams[i]);
			return before->upstreams[i];
		}
	opened = open_upstream(w, config, u);
	for (size_t i = 0; before != NULL && i < u->endpoints_count;
	     i++) /* the first ones are waited for: worker_warm */
		pool_warm(opened->endpoints[i].calls, WORKER_WARM_TIMEOUT, NULL, NULL);
	return opened;
}

/* ---- what is counted, and what is read ----------------------------------------------------------------------------- */

/* Adds what the pool has counted since it was last asked. So the sum neither falls when a pool is replaced nor loses what the old one did. */
static void count_pool(struct worker_upstream *u, const char *name, const struct pool *pool,
		       struct worker_counted *counted)
{
	struct slice labels[2] = { slice_of(u->upstream->name), slice_of(name) };
	struct pool_stats stats;

	pool_stats(pool, &stats);
	metrics_add(u->metrics, METRIC_pool_opened_total, labels, (double)(stats.opened - counted->opened));
	metrics_add(u->metrics, METRIC_pool_reused_total, labels, (double)(stats.reused - counted->reused));
	*counted = (struct worker_counted){ stats.opened, stats.reused };
}

static void count_upstream(struct worker_upstream *u)
{
	for (size_t i = 0; i < u->upstream->endpoints_count; i++) {
		struct worker_endpoint *e = &u->endpoints[i];
		count_pool(u, "calls", e->calls, &e->calls_counted);
		count_pool(u, "streams", e->streams, &e->streams_counted);
	}
}

void worker_release_upstream(struct worker_upstream **held)
{
	struct worker_upstream *u = *held;

	*held = NULL;
	if (--u->references > 0)
		return;
	count_upstream(u);
	for (size_t i = 0; i < u->upstream->endpoints_count; i++) {
		worker_close_health(&u->endpoints[i]);
		pool_free(&u->endpoints[i].calls);
		pool_free(&u->endpoints[i].streams);
		worker_close_endpoint(&u->endpoints[i]);
	}
	mem_free(u->endpoints);
	config_release(&u->config);
	mem_free(u);
}

static void add_stats(struct pool_stats *sum, const struct pool *pool)
{
	struct pool_stats stats;

	pool_stats(pool, &stats);
	sum->active += stats.active;
	sum->idle += stats.idle;
	sum->waiting += stats.waiting;
	sum->opened += stats.opened;
	sum->reused += stats.reused;
	sum->failed += stats.failed;
}

void worker_upstream_stats(const struct worker_upstream *u, struct pool_stats *calls, struct pool_stats *streams)
{
	for (size_t i = 0; i < u->upstream->endpoints_count; i++) {
		add_stats(calls, u->endpoints[i].calls);
		add_stats(streams, u->endpoints[i].streams);
	}
}

/* Merging adds gauges up: each worker brings its part of the instance's mean utilisation. */
static void gauge_pools(struct worker *w, const struct config_upstream *u, const char *name,
			const struct pool_stats *stats, unsigned limit)
{
	struct slice labels[3] = { slice_of(u->name), slice_of(name), SLICE("active") };

	metrics_set(w->metrics, METRIC_pool_connections, labels, stats->active);
	labels[2] = SLICE("idle");
	metrics_set(w->metrics, METRIC_pool_connections, labels, stats->idle);
	labels[2] = SLICE("waiting");
	metrics_set(w->metrics, METRIC_pool_connections, labels, stats->waiting);
	metrics_set(w->metrics, METRIC_pool_limit, labels, limit);
	metrics_set(w->metrics, METRIC_pool_utilization, labels,
		    (double)stats->active / limit / (double)w->now->config->workers);
}

void worker_gauge_upstreams(struct worker *w)
{
	/* a reload may have taken upstreams away */
	static const enum metric pools[] = { METRIC_pool_connections, METRIC_pool_limit, METRIC_pool_utilization };
	const struct config *config = w->now->config;

	for (size_t i = 0; i < ARRAY_LENGTH(pools); i++)
		metrics_forget(w->metrics, pools[i]);
	for (size_t i = 0; i < config->upstreams_count; i++) {
		const struct config_upstream *u = &config->upstreams[i];
		unsigned endpoints = (unsigned)u->endpoints_count;
		struct pool_stats calls = { 0 }, streams = { 0 };
		count_upstream(w->now->upstreams[i]);
		worker_upstream_stats(w->now->upstreams[i], &calls, &streams);
		gauge_pools(w, u, "calls", &calls, endpoints * worker_part(w, config, u->pool.max));
		gauge_pools(w, u, "streams", &streams, endpoints * worker_part(w, config, u->pool.streams));
	}
}

/* The upstreams of a worker: each endpoint's pools, and what the worker knows of it.
 *
 * An upstream is counted by the generations that use it. A reload that leaves what its pools were opened with carries it over, with its warm connections and
 * all that was learnt of it. */
#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/pool.h"
#include "svc/worker_internal.h"

enum { WORKER_POOL_NAME = 2048 };
#define WORKER_NAME_AGE (30 * CLOCK_SECOND) /* a provider that moves is found again within this */

unsigned worker_part(const struct worker *w, const struct config *config, int64_t all)
{
	return (unsigned)(all / config->workers + (w->index < all % config->workers ? 1 : 0));
}

/* ---- birth and death ------------------------------------------------------------------------------------------------- */

enum { CALLS, STREAMS, KINDS };
static const char *const kinds[KINDS] = { "calls", "streams" };

static unsigned at_most(int64_t count, int64_t most)
{
	return (unsigned)(count < most ? count : most);
}

/* What of the options a reload may change while the pool runs. Nothing is kept warm for streams: they last longer than a hand-shake. */
static void set_sizes(const struct worker *w, const struct config *config, const struct config_upstream *u, int kind,
		      struct pool_options *options)
{
	int64_t most = kind == CALLS ? u->pool.max : u->pool.streams, least = kind == CALLS ? u->pool.min : 0;

	options->connections = (unsigned)most;
	options->least = at_most(least, most);
	options->start = at_most(u->pool.start, most);
	options->warm = worker_part(w, config, options->least);
	options->group_connections = (unsigned)(kind == CALLS ? config->pool.max : config->pool.streams);
	options->idle_timeout = u->pool.idle_timeout;
	options->max_age = u->pool.max_age;
	options->validate_after = u->pool.validate_after;
	memcpy(options->weight, config->queue.rule.weight, sizeof(options->weight));
}

/* Its pools in the other workers have the same name; the other endpoints', and the other kind's, have others. */
static struct pool *open_pool(struct worker *w, const struct config *config, const struct config_upstream *u,
			      const struct config_endpoint *e, int kind)
{
	struct pool_options options = {
		.origin = e->origin,
		.shares = w->shared->pools,
		.owner = u->name,
		.group = kinds[kind],
		.streams_per_connection = (unsigned)u->pool.streams_per_connection,
		.http = u->pool.http,
		.connect_timeout = u->timeout.connect,
		.name_age = WORKER_NAME_AGE,
		.ca_file = u->ca_file,
		.verify = true,
		.allow_private = true, /* the operator named this host */
	};
	struct buf name;
	struct pool *pool;

	buf_init(&name, WORKER_POOL_NAME);
	buf_format(&name, "%s, %s of %s", u->name, kinds[kind], e->url);
	buf_append_byte(&name, '\0');
	options.name = name.data;
	set_sizes(w, config, u, kind, &options);
	pool = pool_new(w->loop, &options, w->log);
	buf_free(&name);
	return pool;
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
			.calls = open_pool(w, config, u, &u->endpoints[i], CALLS),
			.streams = open_pool(w, config, u, &u->endpoints[i], STREAMS),
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

/* Whether the pools of `a` can serve `b`: these are what is read when they are opened; sizes they take over as they run, and all else is read per request. */
static bool same_pools(const struct config_upstream *a, const struct config_upstream *b)
{
	return strcmp(a->name, b->name) == 0 && same_endpoints(a, b) && same_text(a->ca_file, b->ca_file) &&
	       memcmp(a->ca_sha256, b->ca_sha256, sizeof(a->ca_sha256)) == 0 &&
	       a->timeout.connect == b->timeout.connect &&
	       a->pool.streams_per_connection == b->pool.streams_per_connection &&
	       same_text(a->health.path, b->health.path) && a->health.interval == b->health.interval &&
	       a->health.timeout == b->health.timeout && a->pool.http == b->pool.http;
}

static void change_pools(struct worker *w, const struct config *config, const struct config_upstream *u,
			 struct worker_upstream *opened)
{
	struct pool_options options = { 0 };

	for (size_t i = 0; i < u->endpoints_count; i++) {
		set_sizes(w, config, u, CALLS, &options);
		pool_change(opened->endpoints[i].calls, &options);
		set_sizes(w, config, u, STREAMS, &options);
		pool_change(opened->endpoints[i].streams, &options);
	}
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
			change_pools(w, config, u, before->upstreams[i]);
			return before->upstreams[i];
		}
	opened = open_upstream(w, config, u);
	for (size_t i = 0; before != NULL && i < u->endpoints_count;
	     i++) /* the first ones are waited for: worker_warm */
		pool_warm(opened->endpoints[i].calls, WORKER_WARM_TIMEOUT, NULL, NULL);
	return opened;
}

static bool is_in(const struct worker_generation *g, const struct worker_upstream *u)
{
	for (size_t i = 0; i < g->config->upstreams_count; i++)
		if (g->upstreams[i] == u)
			return true;
	return false;
}

void worker_leave_behind(const struct worker_generation *before, const struct worker_generation *now)
{
	for (size_t i = 0; i < before->config->upstreams_count; i++) {
		struct worker_upstream *u = before->upstreams[i];
		for (size_t j = 0; j < u->upstream->endpoints_count && !is_in(now, u); j++) {
			pool_wind_down(u->endpoints[j].calls);
			pool_wind_down(u->endpoints[j].streams);
		}
	}
}

/* ---- what is counted, and what is read ----------------------------------------------------------------------------- */

/* Adds what the pool has counted since it was last asked. So the sum neither falls when a pool is replaced nor loses what the old one did. */
static void count_pool(struct worker_upstream *u, int kind, const struct pool *pool, struct pool_stats *counted)
{
	struct slice labels[3] = { slice_of(u->upstream->name), slice_of(kinds[kind]) };
	struct pool_stats stats;

	pool_stats(pool, &stats);
	metrics_add(u->metrics, METRIC_pool_opened_total, labels, (double)(stats.opened - counted->opened));
	metrics_add(u->metrics, METRIC_pool_reused_total, labels, (double)(stats.reused - counted->reused));
	metrics_add(u->metrics, METRIC_pool_leaks_total, labels, (double)(stats.leaks - counted->leaks));
	metrics_add(u->metrics, METRIC_pool_saved_seconds_total, labels,
		    (double)(stats.saved_total - counted->saved_total) / CLOCK_SECOND);
	for (int i = 0; i < POOL_RECYCLED_REASONS; i++) {
		labels[2] = slice_of(pool_recycled_name((enum pool_recycled)i));
		metrics_add(u->metrics, METRIC_pool_recycled_total, labels,
			    (double)(stats.recycled[i] - counted->recycled[i]));
	}
	*counted = stats;
}

static void count_upstream(struct worker_upstream *u)
{
	for (size_t i = 0; i < u->upstream->endpoints_count; i++) {
		struct worker_endpoint *e = &u->endpoints[i];
		count_pool(u, CALLS, e->calls, &e->calls_counted);
		count_pool(u, STREAMS, e->streams, &e->streams_counted);
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
	sum->busy += stats.busy;
	sum->idle += stats.idle;
	sum->waiting += stats.waiting;
	sum->opened += stats.opened;
	sum->reused += stats.reused;
	sum->failed += stats.failed;
	sum->requests += stats.requests;
	sum->leaks += stats.leaks;
	sum->handshakes += stats.handshakes;
	sum->handshake_total += stats.handshake_total;
	sum->waited_total += stats.waited_total;
	sum->saved_total += stats.saved_total;
	for (int i = 0; i < POOL_RECYCLED_REASONS; i++)
		sum->recycled[i] += stats.recycled[i];
}

static void add_shared(struct pool_shared_stats *sum, const struct pool *pool)
{
	struct pool_shared_stats stats;

	pool_shared_stats(pool, &stats);
	sum->limit += stats.limit;
	if (stats.group_limit > 0 && sum->limit > stats.group_limit)
		sum->limit = stats.group_limit; /* an upstream never has more */
	sum->size += stats.size;
	if (sum->size > sum->limit)
		sum->size = sum->limit;
	sum->open += stats.open;
	sum->peak += stats.peak;
	sum->opened_lately += stats.opened_lately;
}

void worker_upstream_stats(const struct worker_upstream *u, struct pool_stats *calls, struct pool_stats *streams)
{
	for (size_t i = 0; i < u->upstream->endpoints_count; i++) {
		add_stats(calls, u->endpoints[i].calls);
		add_stats(streams, u->endpoints[i].streams);
	}
}

void worker_upstream_shared(const struct worker_upstream *u, struct pool_shared_stats *calls,
			    struct pool_shared_stats *streams)
{
	for (size_t i = 0; i < u->upstream->endpoints_count; i++) {
		add_shared(calls, u->endpoints[i].calls);
		add_shared(streams, u->endpoints[i].streams);
	}
}

/* Merging adds gauges up: each worker brings its own calls and connections, the first one what all have together. */
static void gauge_pools(struct worker *w, const struct config_upstream *u, int kind, const struct pool_stats *stats,
			const struct pool_shared_stats *shared)
{
	struct slice labels[3] = { slice_of(u->name), slice_of(kinds[kind]), SLICE("active") };

	metrics_set(w->metrics, METRIC_pool_connections, labels, stats->busy);
	labels[2] = SLICE("idle");
	metrics_set(w->metrics, METRIC_pool_connections, labels, stats->idle);
	labels[2] = SLICE("waiting");
	metrics_set(w->metrics, METRIC_pool_connections, labels, stats->waiting);
	metrics_set(w->metrics, METRIC_pool_utilization, labels, (double)stats->busy / shared->size);
	if (w->index != 0)
		return;
	metrics_set(w->metrics, METRIC_pool_limit, labels, shared->limit);
	metrics_set(w->metrics, METRIC_pool_size, labels, shared->size);
	metrics_set(w->metrics, METRIC_pool_peak, labels, shared->peak);
}

void worker_gauge_upstreams(struct worker *w)
{
	/* a reload may have taken upstreams away */
	static const enum metric pools[] = { METRIC_pool_connections, METRIC_pool_limit, METRIC_pool_size,
					     METRIC_pool_peak, METRIC_pool_utilization };
	const struct config *config = w->now->config;

	for (size_t i = 0; i < ARRAY_LENGTH(pools); i++)
		metrics_forget(w->metrics, pools[i]);
	for (size_t i = 0; i < config->upstreams_count; i++) {
		const struct config_upstream *u = &config->upstreams[i];
		struct pool_shared_stats shared[KINDS] = { { 0 } };
		struct pool_stats stats[KINDS] = { { 0 } };
		count_upstream(w->now->upstreams[i]);
		worker_upstream_stats(w->now->upstreams[i], &stats[CALLS], &stats[STREAMS]);
		worker_upstream_shared(w->now->upstreams[i], &shared[CALLS], &shared[STREAMS]);
		for (int kind = 0; kind < KINDS; kind++)
			gauge_pools(w, u, kind, &stats[kind], &shared[kind]);
	}
}

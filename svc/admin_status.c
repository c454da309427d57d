/* /status: what the workers have in hand, summed; where calls may go; what is left of the quotas, as Redis says. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/redis.h"
#include "lib/subscriber.h"
#include "svc/admin_internal.h"

static void add_shared(struct admin_shared *sum, const struct worker *w)
{
	struct flights_stats flights;
	struct cache_stats hot;

	flights_stats(w->flights, &flights);
	cache_stats(w->cache, &hot);
	sum->up += redis_is_up(w->answers);
	sum->listening += subscriber_epoch(w->listener) != 0;
	sum->flights.leading += flights.leading;
	sum->flights.reading += flights.reading;
	sum->flights.seats += flights.seats;
	sum->flights.unfinished += flights.unfinished;
	sum->flights.bytes += flights.bytes;
	sum->hot.entries += hot.entries;
	sum->hot.bytes += hot.bytes;
	sum->hot.hits += hot.hits;
	sum->hot.evicted += hot.evicted;
}

static void add_mode(struct admin_question *q, const struct worker *w)
{
	struct limiter_state state = limiter_state(w->limiter);
	const char *why = worker_mode_reason(w);

	if (state.live > q->mode.live)
		q->mode.live = state.live;
	if (q->mode.mode == NULL || (state.alone && q->mode.alone == 0) ||
	    (state.alone == (q->mode.alone > 0) &&
	     (state.alone ? state.since < q->mode.since : state.since > q->mode.since))) {
		q->mode.mode = worker_mode_name(w);
		q->mode.since = state.since;
		q->mode.refuses = worker_mode_refuses(w);
		if (why != NULL)
			snprintf(q->mode.why, sizeof(q->mode.why), "%s", why);
	} else if (why != NULL && q->mode.alone == 0 && q->mode.why[0] == '\0') {
		snprintf(q->mode.why, sizeof(q->mode.why), "%s", why); /* nobody has missed it yet */
	}
	q->mode.alone += state.alone;
}

/* What they are like together, each worker knows: the last one's word stands. */
static void add_pools(struct admin_pools *pools, const struct worker_upstream *u)
{
	pools->all_calls = pools->all_streams = (struct pool_shared_stats){ 0 };
	worker_upstream_stats(u, &pools->calls, &pools->streams);
	worker_upstream_shared(u, &pools->all_calls, &pools->all_streams);
}

void admin_visit_status(struct worker *w, void *question)
{
	struct admin_question *q = question;
	const struct limiter_counts *counts = limiter_counts(w->limiter);
	struct http_stats stats;

	http_server_stats(w->http, &stats);
	q->workers++;
	q->redis_up += redis_is_up(w->redis);
	add_mode(q, w);
	if (w->index == 0)
		memcpy(q->risks, w->risks, sizeof(q->risks));
	q->requests += w->requests_count;
	q->connections += stats.connections;
	q->leases += limiter_held(w->limiter);
	q->unsettled += limiter_unsettled(w->limiter);
	q->quota.admitted += counts->admitted - counts->local_admitted;
	q->quota.denied += counts->denied + counts->full + counts->never - counts->local_denied;
	q->quota.local_admitted += worker_local_admitted(w);
	q->quota.local_denied += worker_local_denied(w);
	add_shared(&q->shared, w);
	admin_breakers_look(q->breakers, w);
	admin_queue_look(q->queue, w);
	/* A reload may be on its way: pools are found by their upstream's name. */
	for (size_t i = 0; i < w->now->config->upstreams_count; i++) {
		const struct config_upstream *u =
			config_find_upstream(q->config, slice_of(w->now->config->upstreams[i].name));
		if (u == NULL)
			continue;
		add_pools(&q->pools[u - q->config->upstreams], w->now->upstreams[i]);
	}
}

static void put_text(struct buf *out, const char *before, const char *text)
{
	buf_append(out, slice_of(before));
	buf_append_json(out, slice_of(text));
}

static void put_recycled(struct buf *out, const struct pool_stats *s)
{
	for (int i = 0; i < POOL_RECYCLED_REASONS; i++)
		buf_format(out, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", pool_recycled_name((enum pool_recycled)i),
			   s->recycled[i]);
}

static void put_pool(struct buf *out, const char *name, const struct pool_stats *s, const struct pool_shared_stats *all)
{
	double handshake = s->handshakes > 0 ? (double)s->handshake_total / (double)s->handshakes : 0;

	buf_format(out,
		   "\"%s\":{\"limit\":%u,\"size\":%u,\"active\":%u,\"busy\":%u,\"idle\":%u,\"waiting\":%u,"
		   "\"utilization\":%.3f",
		   name, all->limit, all->size, s->active, s->busy, s->idle, s->waiting,
		   all->size > 0 ? (double)s->busy / all->size : 0);
	buf_format(out,
		   ",\"peak\":%u,\"opened\":%" PRIu64 ",\"opened_last_minute\":%u,\"reused\":%" PRIu64
		   ",\"failed\":%" PRIu64 ",\"leaks\":%" PRIu64,
		   all->peak, s->opened, all->opened_lately, s->reused, s->failed, s->leaks);
	buf_format(out, ",\"handshake_ms\":%.3f,\"saved_seconds\":%.3f,\"waited_seconds\":%.3f,\"recycled\":{",
		   handshake / CLOCK_MILLISECOND, (double)s->saved_total / CLOCK_SECOND,
		   (double)s->waited_total / CLOCK_SECOND);
	put_recycled(out, s);
	buf_append(out, SLICE("}}"));
}

static void put_mode(const struct admin_question *q, struct buf *out)
{
	buf_format(out,
		   ",\"redis\":{\"up\":%s,\"refuses\":%s,\"on_failure\":\"%s\",\"mode\":\"%s\""
		   ",\"workers_without\":%u,\"live_workers\":%u",
		   q->redis_up == q->workers ? "true" : "false", q->mode.refuses ? "true" : "false",
		   worker_on_failure_name(q->config->redis.on_failure), q->mode.mode, q->mode.alone, q->mode.live);
	buf_format(out, ",\"since_ms\":%" PRId64,
		   (clock_now() - (q->mode.since > 0 ? q->mode.since : server_born(q->admin->server))) /
			   CLOCK_MILLISECOND);
	if (q->mode.why[0] != '\0')
		put_text(out, ",\"reason\":", q->mode.why);
	buf_append(out, SLICE(",\"warnings\":["));
	for (unsigned risk = 0, any = 0; risk < WORKER_RISKS; risk++)
		if (q->risks[risk][0] != '\0')
			put_text(out, any++ > 0 ? "," : "", q->risks[risk]);
	buf_append(out, SLICE("]}"));
}

static void put_upstreams(const struct admin_question *q, struct buf *out)
{
	buf_append(out, SLICE(",\"upstreams\":{"));
	for (size_t i = 0; i < q->config->upstreams_count; i++) {
		const struct config_upstream *u = &q->config->upstreams[i];
		put_text(out, i > 0 ? "," : "", u->name);
		put_text(out, ":{\"dialect\":", config_dialect_name(u->dialect));
		buf_append(out, SLICE(",\"endpoints\":"));
		admin_breakers_write_endpoints(q->breakers, i, out);
		buf_append(out, SLICE(",\"pools\":{"));
		put_pool(out, "calls", &q->pools[i].calls, &q->pools[i].all_calls);
		buf_append_byte(out, ',');
		put_pool(out, "streams", &q->pools[i].streams, &q->pools[i].all_streams);
		buf_append(out, SLICE("}}"));
	}
	buf_append_byte(out, '}');
}

static void put_shared(const struct admin_question *q, struct buf *out)
{
	const struct flights_stats *flights = &q->shared.flights;
	const struct cache_stats *hot = &q->shared.hot;

	buf_format(out, ",\"cache\":{\"up\":%s,\"listening\":%u", q->shared.up == q->workers ? "true" : "false",
		   q->shared.listening);
	buf_format(out,
		   ",\"flights\":{\"leading\":%u,\"reading\":%u,\"seats\":%u,\"unfinished\":%u,\"bytes\":%" PRId64 "}",
		   flights->leading, flights->reading, flights->seats, flights->unfinished, flights->bytes);
	buf_format(out, ",\"hot\":{\"entries\":%zu,\"bytes\":%zu,\"hits\":%" PRIu64 ",\"evicted\":%" PRIu64 "}}",
		   hot->entries, hot->bytes, hot->hits, hot->evicted);
}

void admin_write_status(struct admin_question *q)
{
	const struct worker_shared *shared = server_shared(q->admin->server);
	struct buf *out = &q->answer;

	put_text(out, "{\"version\":", SLUICE_VERSION);
	put_text(out, ",\"instance\":", shared->instance);
	buf_format(out, ",\"uptime_seconds\":%" PRId64 ",\"ready\":%s,\"draining\":%s,\"workers\":%u",
		   (clock_now() - server_born(q->admin->server)) / CLOCK_SECOND,
		   atomic_load(&shared->ready) ? "true" : "false", atomic_load(&shared->draining) ? "true" : "false",
		   q->workers);
	put_mode(q, out);
	buf_format(out, ",\"requests\":{\"in_flight\":%u,\"body_bytes\":%" PRId64 "},\"clients\":{\"connections\":%u}",
		   q->requests, atomic_load(&shared->body_bytes), q->connections);
	buf_format(out,
		   ",\"quota\":{\"leases\":%u,\"unsettled\":%u,\"admitted\":%" PRIu64 ",\"denied\":%" PRIu64
		   ",\"local_admitted\":%" PRIu64 ",\"local_denied\":%" PRIu64 "}",
		   q->leases, q->unsettled, q->quota.admitted, q->quota.denied, q->quota.local_admitted,
		   q->quota.local_denied);
	buf_format(out, ",\"memory\":{\"used\":%" PRId64 ",\"limit\":%" PRId64 ",\"shedding\":%d}",
		   atomic_load(&shared->memory_used), q->config->memory_limit, atomic_load(&shared->pressure));
	buf_append(out, SLICE(",\"queue\":"));
	admin_queue_write(q->queue, out);
	put_shared(q, out);
	put_upstreams(q, out);
	buf_append(out, SLICE(",\"quotas\":"));
	admin_quotas_write(q->quotas, out);
	buf_append(out, SLICE("}\n"));
	admin_keep_fullest(q->admin, q->quotas);
}

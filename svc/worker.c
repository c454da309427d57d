/* A worker's belongings: made before its thread starts, used by that thread alone, freed after it has ended.
 *
 * The one complication is a reload: new requests begin under the next configuration at once, while those in flight keep the
 * pools, limits and names that they began with. So the pools of an upstream are counted, and an upstream whose settings did not
 * change is carried over with its warm connections. */
#include "svc/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/estimate.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/pool.h"
#include "lib/queue.h"
#include "lib/redis.h"
#include "svc/worker_internal.h"

enum { WORKER_ESTIMATES = 4096 };
#define WORKER_LEASE     (10 * CLOCK_SECOND)
#define WORKER_WARM_LOOK (5 * CLOCK_MILLISECOND)
#define WORKER_BEAT      (CLOCK_SECOND / 2)

struct worker_generation *worker_hold(struct worker *w)
{
	w->now->references++;
	return w->now;
}

struct worker_generation *worker_share(struct worker_generation *held)
{
	held->references++;
	return held;
}

void worker_release(struct worker_generation **held)
{
	struct worker_generation *g = *held;

	*held = NULL;
	if (g == NULL || --g->references > 0)
		return;
	for (size_t i = 0; i < g->config->upstreams_count; i++)
		worker_release_upstream(&g->upstreams[i]);
	mem_free(g->upstreams);
	config_release(&g->config);
	mem_free(g);
}

static struct worker_generation *open_generation(struct worker *w, const struct config *config,
						 struct worker_generation *before)
{
	struct worker_generation *g = mem_new(sizeof(*g));

	g->config = config_hold(config);
	g->references = 1;
	g->upstreams = mem_new_array(config->upstreams_count, sizeof(struct worker_upstream *));
	for (size_t i = 0; i < config->upstreams_count; i++)
		g->upstreams[i] = worker_carry_over(w, config, i, before);
	return g;
}

static void warming_free(void *warming);

static void flush_lines(void *batch)
{
	log_flush(batch);
}

static void observe_script(void *arg, enum limiter_script script, int64_t took)
{
	struct worker *w = arg;

	metrics_observe(w->limiter_seconds[script], took);
}

struct metrics_series *worker_script_seconds(struct worker *w, const char *name)
{
	struct slice script = slice_of(name);

	return metrics_series(w->metrics, METRIC_redis_seconds, &script);
}

static void observe_beat(void *arg, int64_t took)
{
	struct worker *w = arg;

	metrics_observe(w->beat_seconds, took);
}

/* What the fleet's limits take, and who waits for it. */
static void open_limits(struct worker *w, const struct config *config)
{
	char member[sizeof(w->shared->instance) + 12];
	size_t length = (size_t)snprintf(member, sizeof(member), "%s.%d", w->shared->instance, w->index);
	const struct limiter_options limits = { .timeout = config->redis.timeout,
						.lease = WORKER_LEASE,
						.channel = slice_of(w->channel),
						.member = slice_make(member, length),
						.workers = (unsigned)config->workers,
						.lost = w->shared->lease_lost,
						.answered = observe_script,
						.changed = worker_mode_changed,
						.turn = worker_turn,
						.arg = w };
	const struct queue_options queue = { .channel = slice_of(w->channel),
					     .beat = WORKER_BEAT,
					     .timeout = config->redis.timeout,
					     .answered = observe_beat,
					     .arg = w };

	w->limiter = limiter_new(w->loop, w->redis, &limits, w->log);
	w->queue = queue_new(w->loop, w->redis, &queue);
	w->beat_seconds = worker_script_seconds(w, "beat");
	for (int i = 0; i < LIMITER_SCRIPTS; i++)
		w->limiter_seconds[i] = worker_script_seconds(w, limiter_script_name((enum limiter_script)i));
	for (int lane = 0; lane < LANES; lane++) {
		struct slice name = slice_of(lane_name((enum lane)lane));
		w->queue_wait_seconds[lane] = metrics_series(w->metrics, METRIC_queue_wait_seconds, &name);
	}
}

struct worker *worker_new(struct worker_shared *shared, int index, const struct config *config)
{
	struct worker *w = mem_new(sizeof(*w));

	w->shared = shared;
	w->index = index;
	w->loop = loop_new();
	w->log = shared->log;
	list_init(&w->requests);
	w->lines = mem_new(sizeof(*w->lines));
	loop_deferred_init(&w->flush, flush_lines, w->lines);
	w->redis = redis_new(w->loop, shared->redis, w->log);
	w->estimate = estimate_new(WORKER_ESTIMATES);
	w->metrics = metrics_new();
	snprintf(w->channel, sizeof(w->channel), "sluice:w:%s.%d", shared->instance, index);
	open_limits(w, config);
	CHECK(getrandom(&w->random, sizeof(w->random), 0) == (ssize_t)sizeof(w->random));
	worker_open_breakers(w, config);
	worker_open_answers(w, config);
	for (int i = 0; i < FLIGHT_SCRIPTS; i++)
		w->flight_seconds[i] = worker_script_seconds(w, flight_script_name((enum flight_script)i));
	w->now = open_generation(w, config, NULL);
	return w;
}

void worker_free(struct worker **worker)
{
	struct worker *w = *worker;

	*worker = NULL;
	if (w == NULL)
		return;
	CHECK(w->requests_count == 0 && w->http == NULL);
	if (w->warming != NULL)
		warming_free(w->warming);
	loop_undefer(&w->flush);
	log_flush(w->lines);
	mem_free(w->lines);
	worker_release(&w->now);
	worker_close_answers(w);
	worker_close_breakers(w);
	queue_free(&w->queue);
	limiter_free(&w->limiter);
	redis_free(&w->redis);
	loop_free(&w->loop);
	estimate_free(&w->estimate);
	metrics_free(&w->metrics);
	mem_free(w);
}

/* ---- warm-up ---------------------------------------------------------------------------------------------------- */

struct warming_pool {
	struct warming *all;
	const struct config_upstream *upstream;
	const struct config_endpoint *endpoint;
	unsigned wanted;
};

/* Looked at from time to time: its one listener is another's. */
struct warming_redis {
	struct warming *all;
	const struct redis *redis;
	const char *late; /* what to say when it could not be reached in time */
	int64_t until;
	struct loop_timer timer;
};

/* What is still to come: each endpoint's pool, Redis, and the Redis of answers. Owned by the worker from worker_warm to the end of the turn in which the last came. It holds the
 * generation that it warms: a reload may come meanwhile, and pools that are closed would never tell. */
struct warming {
	struct worker *worker;
	struct worker_generation *generation;
	struct warming_pool *pools; /* as many as its upstreams have endpoints */
	struct warming_redis redis, answers;
	size_t left;
	struct loop_deferred burial;
	void (*warmed)(void *arg);
	void *arg;
};

static void warming_free(void *warming)
{
	struct warming *all = warming;

	all->worker->warming = NULL;
	loop_undefer(&all->burial);
	loop_timer_free(&all->redis.timer);
	loop_timer_free(&all->answers.timer);
	worker_release(&all->generation);
	mem_free(all->pools);
	mem_free(all);
}

static void one_less(struct warming *all)
{
	if (--all->left > 0)
		return;
	loop_defer(all->worker->loop, &all->burial);
	all->warmed(all->arg);
}

static void pool_warmed(void *arg, unsigned opened, const char *why)
{
	struct warming_pool *one = arg;
	struct warming *all = one->all;
	int64_t workers = all->generation->config->workers;
	char whose[64] = ""; /* each has its part of `min`: alike, they would seem to say it twice */

	if (workers > 1)
		snprintf(whose, sizeof(whose), ", worker %d of %" PRId64, all->worker->index + 1, workers);
	if (opened < one->wanted)
		log_say(all->worker->log, LOG_WARNING, "warm_up",
			"upstream %s%s: %u of %u connections to %s could be opened: %s", one->upstream->name, whose,
			opened, one->wanted, one->endpoint->origin, why);
	one_less(all);
}

static void look_at_redis(void *arg)
{
	struct warming_redis *one = arg;
	bool up = redis_is_up(one->redis);

	if (!up && clock_now() < one->until) {
		loop_timer_set(&one->timer, WORKER_WARM_LOOK);
		return;
	}
	if (!up)
		log_say(one->all->worker->log, LOG_WARNING, "warm_up", "%s", one->late);
	one_less(one->all);
}

static void warm_redis(struct warming *all, struct warming_redis *one, const struct redis *redis, const char *late)
{
	*one = (struct warming_redis){ .all = all, .redis = redis, .late = late };
	one->until = clock_now() + WORKER_WARM_TIMEOUT;
	loop_timer_init(&one->timer, all->worker->loop, look_at_redis, one);
	loop_timer_set(&one->timer, 0);
}

static size_t count_endpoints(const struct config *config)
{
	size_t count = 0;

	for (size_t i = 0; i < config->upstreams_count; i++)
		count += config->upstreams[i].endpoints_count;
	return count;
}

static void warm_upstream(struct warming *all, size_t index, struct warming_pool *one)
{
	const struct config *config = all->generation->config;
	const struct config_upstream *u = &config->upstreams[index];

	for (size_t i = 0; i < u->endpoints_count; i++, one++) {
		*one = (struct warming_pool){ .all = all, .upstream = u, .endpoint = &u->endpoints[i] };
		one->wanted = worker_part(all->worker, config, u->pool.min);
		pool_warm(all->generation->upstreams[index]->endpoints[i].calls, WORKER_WARM_TIMEOUT, pool_warmed, one);
	}
}

void worker_warm(struct worker *w, void (*warmed)(void *arg), void *arg)
{
	struct warming *all = mem_new(sizeof(*all));
	const struct config *config = w->now->config;
	size_t endpoints = count_endpoints(config), first = 0;

	CHECK(w->warming == NULL);
	*all = (struct warming){ .worker = w, .left = endpoints + 2, .warmed = warmed, .arg = arg };
	all->generation = worker_hold(w);
	all->pools = mem_new_array(endpoints, sizeof(*all->pools));
	w->warming = all;
	loop_deferred_init(&all->burial, warming_free, all);
	warm_redis(all, &all->redis, w->redis, "Redis could not be reached in time");
	warm_redis(all, &all->answers, w->answers, "the Redis of answers could not be reached in time");
	for (size_t i = 0; i < config->upstreams_count; first += config->upstreams[i++].endpoints_count)
		warm_upstream(all, i, &all->pools[first]);
}

/* ---- reload ----------------------------------------------------------------------------------------------------- */

void worker_reload(struct worker *w, const struct config *next)
{
	struct worker_generation *before = w->now;
	enum config_on_failure on_failure = before->config->redis.on_failure;

	w->now = open_generation(w, next, before);
	worker_mode_reloaded(w, on_failure);
	worker_leave_behind(before, w->now);
	worker_release(&before);
}

/* ---- what is read rather than counted --------------------------------------------------------------------------- */

void worker_gauge(struct worker *w)
{
	struct slice index, state = SLICE("held");
	char text[12];

	for (int lane = 0; lane < LANES; lane++) {
		state = slice_of(lane_name((enum lane)lane));
		metrics_set(w->metrics, METRIC_queue_depth, &state, queue_waiting(w->queue, (enum lane)lane));
	}
	state = SLICE("held");
	worker_gauge_upstreams(w);
	worker_gauge_breakers(w);
	index = slice_make(text, (size_t)snprintf(text, sizeof(text), "%d", w->index));
	metrics_set(w->metrics, METRIC_redis_up, &index, redis_is_up(w->redis) ? 1 : 0);
	metrics_set(w->metrics, METRIC_leases, &state, limiter_held(w->limiter));
	state = SLICE("unsettled");
	metrics_set(w->metrics, METRIC_leases, &state, limiter_unsettled(w->limiter));
	worker_gauge_mode(w);
	worker_gauge_answers(w);
}

void worker_make_id(struct worker *w, char *id, size_t size)
{
	struct buf text;

	buf_wrap(&text, id, size - 1, 0);
	buf_append(&text, slice_of(w->shared->instance));
	buf_append_byte(&text, '.');
	buf_append_int(&text, w->index);
	buf_append_byte(&text, '.');
	buf_append_int(&text, (int64_t)++w->next_id);
	CHECK(!text.overflowed);
	id[text.len] = '\0';
}

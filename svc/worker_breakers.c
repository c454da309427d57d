/* What the worker knows of where calls may go: the fleet's breakers, and what it measured itself.
 *
 * The breakers live on the Redis of quotas. What is pushed of them is heard over the listener of answers where that is the same Redis, else over a connection of
 * its own. */
#include <math.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/queue.h"
#include "lib/redis.h"
#include "lib/subscriber.h"
#include "svc/worker_internal.h"

#define FLUSH          (250 * CLOCK_MILLISECOND)
#define LISTEN_PING    CLOCK_SECOND /* nothing is kept by what this proves: it only has to notice that it is cut off */
#define LISTEN_SILENCE (3 * CLOCK_SECOND)
#define FADING         (10 * CLOCK_SECOND) /* a measured latency counts half as much after some seven seconds */
#define SWEEP          CLOCK_SECOND
#define NEWEST         0.1   /* and the newest counts so much at least, however soon it comes */
enum { MODELS_MOST = 1000 }; /* breakers of their own in one endpoint; the others share the endpoint's */

/* ---- listening ----------------------------------------------------------------------------------------------------------- */

static void heard(void *worker, struct slice channel, struct slice text)
{
	struct worker *w = worker;

	if (slice_equal(channel, SLICE(BREAKER_CHANNEL)))
		breakers_hint(w->breakers, text);
	else
		(void)queue_hint(w->queue, text);
}

/* Nothing is kept by what is heard here; but words may have been missed. */
static void missed(void *worker, struct slice key)
{
	struct worker *w = worker;

	if (key.data == NULL)
		queue_ask_all(w->queue);
}

static void listen_apart(struct worker *w, struct slice channel)
{
	const struct subscriber_options options = { .ping = LISTEN_PING,
						    .silence = LISTEN_SILENCE,
						    .channels = { channel, SLICE(BREAKER_CHANNEL) },
						    .hint = heard,
						    .invalidated = missed,
						    .arg = w };

	w->breaker_listener = subscriber_new(w->loop, w->shared->redis, &options, w->log);
}

static void observe(void *worker, enum breaker_script script, int64_t took)
{
	struct worker *w = worker;

	metrics_observe(w->breaker_seconds[script], took);
}

/* "UPSTREAM ENDPOINT" or "UPSTREAM ENDPOINT MODEL": no name of an upstream has a blank in it, nor has an URL. */
static void changed(void *worker, const struct breaker *breaker, bool tripped)
{
	struct worker *w = worker;
	struct slice rest, upstream = slice_cut(breaker_name(breaker), ' ', &rest);

	if (tripped)
		metrics_add(w->metrics, METRIC_breaker_opened_total, &upstream, 1);
}

void worker_open_breakers(struct worker *w, const struct config *config)
{
	struct breaker_options options = { .timeout = config->redis.timeout,
					   .flush = FLUSH,
					   .channel = slice_of(w->channel),
					   .answered = observe,
					   .changed = changed,
					   .arg = w };

	for (int i = 0; i < BREAKER_SCRIPTS; i++)
		w->breaker_seconds[i] = worker_script_seconds(w, breaker_script_name((enum breaker_script)i));
	w->breakers = breakers_new(w->loop, w->redis, &options, w->log);
	if (w->shared->answers_redis != w->shared->redis)
		listen_apart(w, options.channel);
}

void worker_close_breakers(struct worker *w)
{
	subscriber_free(&w->breaker_listener);
	breakers_free(&w->breakers);
}

/* ---- an endpoint's breakers ------------------------------------------------------------------------------------------------ */

static struct breaker *hold(struct worker *w, const struct config_upstream *u, size_t endpoint, struct slice model,
			    const struct breaker_rule *rule)
{
	struct breaker *breaker;
	struct buf name;

	buf_init(&name, BREAKER_NAME_MOST);
	CHECK(buf_format(&name, "%s %s", u->name, u->endpoints[endpoint].url));
	if (model.len > 0)
		CHECK(buf_format(&name, " %.*s", SLICE_ARGS(slice_first(model, BREAKER_MODEL_MOST))));
	breaker = breaker_hold(w->breakers, buf_slice(&name), rule);
	buf_free(&name);
	return breaker;
}

/* What is known of the models of the same place goes on where a reload opens its pools anew. */
static void keep_models(struct worker *w, struct worker_upstream *u, size_t endpoint)
{
	const struct config_upstream *config = u->upstream, *old;
	const struct worker_upstream *before;
	struct slice model;
	void *value;

	old = w->now != NULL ? config_find_upstream(w->now->config, slice_of(config->name)) : NULL;
	if (old == NULL || !config->breaker_per_model)
		return;
	before = w->now->upstreams[old - w->now->config->upstreams];
	for (size_t i = 0; i < before->upstream->endpoints_count; i++)
		if (strcmp(before->upstream->endpoints[i].url, config->endpoints[endpoint].url) == 0)
			for (size_t at = 0; map_next(before->endpoints[i].models, &at, &model, &value);)
				map_put(u->endpoints[endpoint].models, model,
					hold(w, config, endpoint, model, &config->breaker));
}

void worker_open_endpoint(struct worker *w, struct worker_upstream *u, size_t endpoint)
{
	struct worker_endpoint *e = &u->endpoints[endpoint];

	e->breaker = hold(w, u->upstream, endpoint, SLICE_NONE, &u->upstream->breaker);
	e->models = map_new();
	keep_models(w, u, endpoint);
	e->plain.mean = e->streamed.mean = -1;
}

static void release(void *breaker)
{
	struct breaker *held = breaker;

	breaker_release(&held);
}

void worker_close_endpoint(struct worker_endpoint *e)
{
	breaker_release(&e->breaker);
	map_free(&e->models, release);
}

/* The rule may have changed in a reload that left the pools alone. */
void worker_renew_rules(struct worker *w, const struct config_upstream *next, struct worker_upstream *u)
{
	for (size_t i = 0; i < next->endpoints_count; i++) {
		struct breaker *again = hold(w, next, i, SLICE_NONE, &next->breaker);
		struct slice model;
		size_t at = 0;
		void *value;
		breaker_release(&again);
		while (map_next(u->endpoints[i].models, &at, &model, &value)) {
			again = hold(w, next, i, model, &next->breaker);
			breaker_release(&again);
		}
	}
}

/* Where the models' names are the clients' own, the breakers of those that nobody asks for any more make room. */
static void forget_idle(struct worker_endpoint *e)
{
	int64_t now = clock_now();
	struct slice model;
	size_t at = 0;
	void *value;

	if (now - e->swept < SWEEP)
		return;
	e->swept = now;
	while (map_next(e->models, &at, &model, &value))
		if (breaker_is_idle(value))
			release(map_remove(e->models, model));
}

/* The rule of the newest configuration: a request that began under an older one must not bring that one's back. */
static const struct breaker_rule *rule_of(const struct worker *w, const struct config_upstream *u)
{
	const struct config_upstream *newest = config_find_upstream(w->now->config, slice_of(u->name));

	return newest != NULL ? &newest->breaker : &u->breaker;
}

struct breaker *worker_model_breaker(struct worker *w, struct worker_upstream *u, const struct config_upstream *config,
				     size_t endpoint, struct slice model)
{
	struct worker_endpoint *e = &u->endpoints[endpoint];
	struct breaker *breaker = map_get(e->models, model);

	if (breaker != NULL)
		return breaker;
	if (map_count(e->models) >= MODELS_MOST)
		forget_idle(e);
	if (map_count(e->models) >= MODELS_MOST)
		return NULL;
	breaker = hold(w, config, endpoint, model, rule_of(w, config));
	map_put(e->models, model, breaker);
	return breaker;
}

static bool is_forced(const struct breaker *breaker)
{
	return breaker_forced(breaker) != BREAKER_AUTO;
}

/* Who takes the endpoint's breaker by hand means all its models, but for those that are taken by hand themselves. */
struct breaker *worker_breaker(struct worker *w, struct worker_upstream *u, const struct config_upstream *config,
			       size_t endpoint, struct slice model)
{
	struct worker_endpoint *e = &u->endpoints[endpoint];
	struct breaker *own;

	if (!config->breaker_per_model)
		return e->breaker;
	own = worker_model_breaker(w, u, config, endpoint, model);
	return own == NULL || (is_forced(e->breaker) && !is_forced(own)) ? e->breaker : own;
}

/* ---- what it is like ----------------------------------------------------------------------------------------------------------- */

void worker_look(struct worker *w, struct worker_upstream *u, const struct config_upstream *config, size_t endpoint,
		 struct slice model, bool streams, struct route_health *health)
{
	const struct worker_endpoint *e = &u->endpoints[endpoint];
	const struct breaker *breaker = worker_breaker(w, u, config, endpoint, model);
	int64_t paused = breaker_paused(e->breaker, model);

	*health = (struct route_health){ .gate = breaker_gate(breaker),
					 .first_byte = streams ? e->streamed.mean : e->plain.mean,
					 .in_flight = e->in_flight };
	if (health->gate == BREAKER_STOP)
		health->wait = breaker_wait(breaker);
	/* Who took it by hand has the last word, also when a provider asked for more time than anybody believes. */
	if (paused > 0 && is_forced(breaker))
		return;
	if (paused > 0 && (health->gate != BREAKER_STOP || paused > health->wait)) {
		health->gate = BREAKER_STOP;
		health->wait = paused;
		health->paused = true;
	}
}

/* An exponential mean over time, not over calls: what was measured long ago counts little, however few came since. */
void worker_measure(struct worker_endpoint *e, bool streams, int64_t took)
{
	struct worker_latency *l = streams ? &e->streamed : &e->plain;
	int64_t now = clock_now();
	double kept = exp(-(double)(now - l->at) / (double)FADING);

	kept = kept < 1 - NEWEST ? kept : 1 - NEWEST;
	l->mean = l->mean < 0 ? took : (int64_t)((double)l->mean * kept + (double)took * (1 - kept));
	l->at = now;
}

static const char *const result_names[BREAKER_RESULTS] = {
	[BREAKER_SUCCESS] = "ok",
	[BREAKER_FAILURE] = "failed",
	[BREAKER_UNREACHABLE] = "unreachable",
	[BREAKER_NOTHING] = "nothing",
};

/* Each series is found when the first of it is counted: of many upstreams there would be more than a metric may have. */
void worker_count_attempt(struct worker_upstream *u, enum breaker_result result, int64_t took)
{
	struct slice labels[] = { slice_of(u->upstream->name), slice_of(result_names[result]) };

	if (u->attempts[result] == NULL)
		u->attempts[result] = metrics_series(u->metrics, METRIC_attempts_total, labels);
	metrics_count(u->attempts[result]);
	metrics_observe(u->seconds.attempt, took);
}

/* SplitMix64 (Steele, Lea and Flood, 2014). */
uint64_t worker_random(struct worker *w)
{
	uint64_t z = w->random += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static int shown_state(const struct breaker *breaker)
{
	static const int shown[] = { [BREAKER_CLOSED] = 0, [BREAKER_HALF_OPEN] = 1, [BREAKER_OPEN] = 2 };
	struct breaker_view view;

	breaker_look(breaker, &view);
	if (view.force != BREAKER_AUTO)
		return view.force == BREAKER_FORCED_OPEN ? shown[BREAKER_OPEN] : shown[BREAKER_CLOSED];
	return shown[view.state];
}

/* A worker of each instance would tell the same: the first speaks for all. */
void worker_gauge_breakers(struct worker *w)
{
	metrics_forget(w->metrics, METRIC_breaker_state);
	if (w->index != 0)
		return;
	for (size_t i = 0; i < w->now->config->upstreams_count; i++) {
		const struct worker_upstream *u = w->now->upstreams[i];
		for (size_t k = 0; k < u->upstream->endpoints_count; k++) {
			struct slice labels[] = { slice_of(u->upstream->name),
						  slice_of(u->upstream->endpoints[k].url) };
			metrics_set(w->metrics, METRIC_breaker_state, labels, shown_state(u->endpoints[k].breaker));
		}
	}
}

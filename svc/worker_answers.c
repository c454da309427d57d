/* Answers that are shared: the worker's flights, and its own hot answers in front of Redis.
 *
 *   flights ──► answers (tracked connection) ──► Redis ──► listener ──► a key has changed: out of the cache, and what is being read of it is not kept
 *
 * A hot answer is one that Redis gave over the tracked connection; it is used as long as the listener's epoch is the one in which it was read. So a purge
 * anywhere is seen here within the listener's silence, also when the message of it was lost. */
#include "lib/cache.h"
#include "lib/clock.h"
#include "lib/flight.h"
#include "lib/flight_wire.h"
#include "lib/queue.h"
#include "lib/redis.h"
#include "lib/subscriber.h"
#include "svc/dialect.h"
#include "svc/worker_internal.h"

#define FLIGHT_LEASE (3 * CLOCK_SECOND)
#define FLIGHT_BEAT  CLOCK_SECOND
#define FLIGHT_BATCH (25 * CLOCK_MILLISECOND)
#define PING         (30 * CLOCK_MILLISECOND)
#define SILENCE      (100 * CLOCK_MILLISECOND)
enum { TAIL = 256 * 1024 }; /* more than a transfer, or a word of another worker's flight, brings at once */

static void hint(void *worker, struct slice channel, struct slice text)
{
	struct worker *w = worker;

	if (slice_equal(channel, SLICE(BREAKER_CHANNEL)))
		breakers_hint(w->breakers, text);
	else if (!queue_hint(w->queue, text))
		flights_hint(w->flights, text);
}

/* A purge is of much at once, and rare: everything goes. */
static void invalidated(void *worker, struct slice key)
{
	struct worker *w = worker;
	unsigned char name[ANSWER_KEY];

	if (key.data == NULL) {
		breakers_missed(w->breakers);
		if (w->shared->answers_redis ==
		    w->shared->redis) /* else the other listener hears what concerns the lines */
			queue_ask_all(w->queue);
	}
	flights_invalidated(w->flights, key);
	if (key.data == NULL || slice_equal(key, SLICE(FLIGHT_PURGED)))
		cache_clear(w->cache);
	else if (flight_key_of_answer(key, name))
		cache_drop(w->cache, name);
}

static void observe_script(void *worker, enum flight_script script, int64_t took)
{
	struct worker *w = worker;

	metrics_observe(w->flight_seconds[script], took);
}

static void open_flights(struct worker *w, const struct config *config, struct slice channel)
{
	const struct flight_options options = {
		.timeout = config->redis.timeout,
		.lease = FLIGHT_LEASE,
		.beat = FLIGHT_BEAT,
		.batch = FLIGHT_BATCH,
		.window = config->coalesce.window,
		.most = (size_t)config->cache.max_body,
		.tail = TAIL,
		.held = &w->shared->answer_bytes,
		.ceiling = config->memory_limit / 4,
		.channel = channel,
		.listener = w->listener,
		.answered = observe_script,
		.arg = w,
	};

	w->flights = flights_new(w->loop, w->answers, &options, w->log);
}

void worker_open_answers(struct worker *w, const struct config *config)
{
	struct subscriber_options hears = {
		.ping = PING, .silence = SILENCE, .hint = hint, .invalidated = invalidated, .arg = w
	};

	hears.channels[0] = slice_of(w->channel);
	if (w->shared->answers_redis == w->shared->redis)
		hears.channels[1] = SLICE(BREAKER_CHANNEL);
	w->digest = dialect_digest_new();
	w->cache = cache_new((size_t)(config->cache.local / config->workers));
	w->answers = redis_new(w->loop, w->shared->answers_redis, w->log);
	w->listener = subscriber_new(w->loop, w->shared->answers_redis, &hears, w->log);
	subscriber_track(w->listener, w->answers);
	open_flights(w, config, hears.channels[0]);
	worker_watch_room(w);
}

void worker_close_answers(struct worker *w)
{
	worker_unwatch_room(w);
	subscriber_free(&w->listener);
	flights_free(&w->flights);
	redis_free(&w->answers);
	cache_free(&w->cache);
	dialect_digest_free(&w->digest);
}

struct answer *worker_cached(struct worker *w, const unsigned char key[ANSWER_KEY], struct answer_times *times)
{
	uint64_t epoch = subscriber_epoch(w->listener);

	if (epoch == 0)
		return NULL;
	if (epoch != w->cache_epoch) {
		cache_clear(w->cache);
		w->cache_epoch = epoch;
	}
	return cache_get(w->cache, key, times);
}

void worker_keep(struct worker *w, const unsigned char key[ANSWER_KEY], struct answer *answer,
		 const struct answer_times *times, uint64_t epoch)
{
	if (epoch == 0 || epoch != subscriber_epoch(w->listener))
		return;
	if (epoch != w->cache_epoch)
		cache_clear(w->cache);
	w->cache_epoch = epoch;
	cache_put(w->cache, key, answer, times);
}

void worker_drop(struct worker *w, const unsigned char key[ANSWER_KEY])
{
	cache_drop(w->cache, key);
}

/* One that was on its way is over when the connection is closed, behind the flights. */
void worker_purged(struct worker *w)
{
	if (w->flights != NULL)
		invalidated(w, SLICE(FLIGHT_PURGED));
}

static void gauge(struct worker *w, enum metric metric, const char *label, double value)
{
	struct slice name = slice_of(label);

	metrics_set(w->metrics, metric, &name, value);
}

void worker_gauge_answers(struct worker *w)
{
	struct flights_stats flights;
	struct cache_stats cache;

	flights_stats(w->flights, &flights);
	cache_stats(w->cache, &cache);
	gauge(w, METRIC_flights, "leading", flights.leading);
	gauge(w, METRIC_flights, "reading", flights.reading);
	gauge(w, METRIC_flights, "unfinished", flights.unfinished);
	gauge(w, METRIC_answer_bytes, "flights", (double)flights.bytes);
	metrics_set(w->metrics, METRIC_answers_full, NULL, w->answers_full);
	gauge(w, METRIC_answer_bytes, "hot", (double)cache.bytes);
}

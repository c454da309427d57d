/* One worker: an event loop on a thread of its own, and everything that its requests use: a Redis connection, the limiter, the pools, the counters.
 * Workers share nothing but the read-only configuration; to another worker one posts a message (loop_post).
 *
 * All functions but worker_new and worker_free belong to the worker's own thread. */
#ifndef SLUICE_WORKER_H
#define SLUICE_WORKER_H

#include <stdatomic.h>

#include "lib/answer.h"
#include "lib/base.h"
#include "lib/breaker.h"
#include "lib/flight.h"
#include "lib/limiter.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/redis.h"
#include "lib/retry.h"
#include "svc/config.h"
#include "svc/metrics.h"
#include "svc/route.h"

struct cache;
struct dialect_digest;
struct estimate;
struct flights;
struct http_server;
struct log;
struct log_batch;
struct map;
struct pool_shares;
struct queue;
struct redis;
struct redis_call;
struct subscriber;
struct warming;
struct worker_health;

/* One endpoint in one worker. Its upstream's; dies with it. */
struct worker_endpoint {
	struct pool *calls, *streams;
	struct pool_stats calls_counted, streams_counted; /* of what they count, what stands in the metrics already */
	struct breaker *breaker;                          /* of all its models, where none has its own */
	struct map *models;                               /* model -> its breaker, with breaker.per_model */
	int64_t swept;                                    /* when those that are idle were last forgotten */
	struct worker_health *health;                     /* NULL: it is not looked at */
	unsigned in_flight;
	struct worker_latency {
		int64_t mean, at; /* to the first byte, decaying; -1: nothing was measured; when it last was */
	} plain, streamed;
};

/* One upstream in one worker. Counted by the generations that use it: a reload that did not change it carries it over. `upstream` says how
 * the pools were opened; all else of an upstream a request reads from the configuration that it began under. */
struct worker_upstream {
	const struct config *config; /* held: `upstream` points into it */
	const struct config_upstream *upstream;
	struct worker_endpoint *endpoints; /* as many as the upstream has, in its order */
	struct metrics *metrics;           /* the worker's */
	struct {
		struct metrics_series *request, *overhead, *first_byte, *pool_wait, *pool_handshake, *attempt;
	} seconds;                                        /* what is observed of each request */
	struct metrics_series *attempts[BREAKER_RESULTS]; /* counted, by what they ended with; NULL: none yet */
	struct retry_budget budget;
	unsigned references;
};

/* One configuration and its pools, as requests begin under it. Counted: a request holds the one that it began under until it ends; the last to let go
 * frees what no newer one uses. */
struct worker_generation {
	const struct config *config;        /* held */
	struct worker_upstream **upstreams; /* as many as config->upstreams_count, in its order */
	unsigned references;
};

/* What is given up because memory is short. */
enum worker_pressure { WORKER_SHEDS_NOTHING, WORKER_SHEDS_KEEP_ALIVES, WORKER_SHEDS_REQUESTS };

enum worker_risk { WORKER_EVICTS, WORKER_FORGETS, WORKER_RISKS };
enum { WORKER_RISK_MOST = 200 };

/* What all workers of a process share: written by the main thread, read by all. */
struct worker_shared {
	_Atomic int64_t body_bytes;   /* request bodies held, of the whole process */
	_Atomic int64_t answer_bytes; /* the same of answers that others may read along */
	_Atomic bool ready;           /* pools are warm and nobody drains: what /readyz says */
	_Atomic bool draining;
	_Atomic int alone;           /* workers that keep quotas without Redis */
	_Atomic int pressure;        /* enum worker_pressure */
	_Atomic int64_t memory_used; /* bytes, as last looked at */
	char instance[24];           /* names this process in the ids of leases: unique for ever */
	struct pool_shares *pools;   /* how many connections all workers' pools have together */
	const struct redis_options *redis, *answers_redis; /* of quotas; of answers and flights: the same, or another */
	struct log *log;
	void (*lease_lost)(struct lease *, void *request); /* the flow's: this instance slept past a lease */
};

struct worker {
	struct worker_shared *shared;
	int index;
	char channel[64]; /* where it hears what Redis' scripts have for it alone */
	struct loop *loop;
	struct log *log;
	struct worker_generation *now; /* what new requests begin under */
	struct redis *redis;
	struct limiter *limiter;
	struct queue *queue; /* who waits in the lines of the limiter */
	struct breakers *breakers;
	struct subscriber *
		breaker_listener; /* on the Redis of quotas; NULL: that of answers is the same, and `listener` hears it all */
	struct redis *answers;       /* the connection of flights; tracked */
	struct subscriber *listener; /* hears what changed there */
	struct flights *flights;
	struct cache *cache; /* of hot answers, true as long as `cache_epoch` is the listener's */
	uint64_t cache_epoch;
	bool answers_full; /* the Redis of answers has hardly any room left: nothing is stored */
	struct loop_timer room_timer;
	struct redis_call *room_call;
	struct dialect_digest *digest;
	struct estimate *estimate;
	struct metrics *metrics;
	struct metrics_series *queue_wait_seconds[LANES], *beat_seconds;
	struct {
		uint64_t passed, refused;
	} undecided; /* asks that the limiter did not decide, without Redis: what redis.on_failure made of them */
	struct {
		uint64_t admitted, denied;
		struct redis_counts redis, answers;
	} counted; /* of what is counted elsewhere, what stands in the metrics already */
	char risks[WORKER_RISKS][WORKER_RISK_MOST]; /* in words; "": none. The first worker's alone */
	struct metrics_series *limiter_seconds[LIMITER_SCRIPTS], *flight_seconds[FLIGHT_SCRIPTS],
		*breaker_seconds[BREAKER_SCRIPTS];
	uint64_t random;                          /* the state of worker_random */
	struct metrics_series *stage_seconds[16]; /* by stage; found by the flow at each stage's first end */
	struct http_server *http;                 /* set by the door that serves it */
	struct log_batch *lines;                  /* of the access log, in this turn */
	struct loop_deferred flush;
	struct warming *warming; /* while it warms up */
	struct list requests;    /* struct request, in order of birth */
	unsigned requests_count;
	uint64_t next_id;
};

struct worker *worker_new(struct worker_shared *, int index, const struct config *);
void worker_free(struct worker **); /* no request may be left */

/* Opens the pools' warm connections and waits for Redis; `warmed` runs once, when all is there or 10 s have passed, unless the worker is freed before. Once a
 * worker; a reload meanwhile changes nothing of what is waited for. */
void worker_warm(struct worker *, void (*warmed)(void *arg), void *arg);
/* Fills `risks` with what of Redis' settings endangers quotas, as the first worker finds it and says; again whenever Redis is back. */
void worker_look_at_risks(struct worker *);
/* From now on new requests begin under `next`; upstreams that did not change keep their pools, the pools of the others begin to warm. */
void worker_reload(struct worker *, const struct config *next);

struct worker_generation *worker_hold(struct worker *);             /* the newest */
struct worker_generation *worker_share(struct worker_generation *); /* one that the caller holds, once more */
void worker_release(struct worker_generation **);

/* Adds what the pools of all its endpoints are like, in this worker. */
void worker_upstream_stats(const struct worker_upstream *, struct pool_stats *calls, struct pool_stats *streams);
/* Adds what they are like in all workers together: the same from each. */
void worker_upstream_shared(const struct worker_upstream *, struct pool_shared_stats *calls,
			    struct pool_shared_stats *streams);

/* What a worker does about quotas: "normal", with Redis; without it what redis.on_failure says. */
const char *worker_mode_name(const struct worker *);
/* Also before anybody has missed it; NULL: with Redis. Valid until its loop goes on. */
const char *worker_mode_reason(const struct worker *);
/* Asks that were decided without Redis, in whatever mode. */
uint64_t worker_local_admitted(const struct worker *);
uint64_t worker_local_denied(const struct worker *);
bool worker_mode_refuses(const struct worker *); /* without Redis, which answers, and refuses */
const char *worker_on_failure_name(enum config_on_failure);

/* Writes the gauges that are read rather than counted (pools, leases, stages), just before a merge. */
void worker_gauge(struct worker *);

/* The worker's own hot answers. What is given is held (answer_release), and true: nobody has changed it since, but for what is on its way (100 ms at most). */
struct answer *worker_cached(struct worker *, const unsigned char key[ANSWER_KEY], struct answer_times *) MUST_CHECK;
/* Keeps what Redis answered under that epoch of the listener (lib/flight.h); 0: it is not kept. */
void worker_keep(struct worker *, const unsigned char key[ANSWER_KEY], struct answer *, const struct answer_times *,
		 uint64_t epoch);
void worker_drop(struct worker *, const unsigned char key[ANSWER_KEY]); /* it turned out to be no answer */
/* A purge went out over this worker's own connection (flight_purge_start), of which Redis does not tell it. */
void worker_purged(struct worker *);

/* ---- where calls go (worker_upstreams.c) ---- */

/* The breaker that judges calls of that model at that endpoint; lives as long as the upstream. `config`: the upstream as the caller's configuration has it. */
struct breaker *worker_breaker(struct worker *, struct worker_upstream *, const struct config_upstream *config,
			       size_t endpoint, struct slice model);
/* With breaker.per_model: that model's own. NULL: there are as many as there may be. */
struct breaker *worker_model_breaker(struct worker *, struct worker_upstream *, const struct config_upstream *config,
				     size_t endpoint, struct slice model);
/* What the endpoint is like for that model, streams or plain calls. */
void worker_look(struct worker *, struct worker_upstream *, const struct config_upstream *config, size_t endpoint,
		 struct slice model, bool streams, struct route_health *);
/* The first byte of an answer came after so long. */
void worker_measure(struct worker_endpoint *, bool streams, int64_t took);
void worker_count_attempt(struct worker_upstream *, enum breaker_result, int64_t took);
uint64_t worker_random(struct worker *); /* uniform in all its bits; for choosing, not for secrets */

/* "INSTANCE.WORKER.NUMBER": never used twice. */
void worker_make_id(struct worker *, char *id, size_t size);

#endif

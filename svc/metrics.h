/* What is counted: one line a metric. Each worker owns a struct metrics and writes to it without locks; a scrape merges them, worker by worker, each
 * on its own thread (svc/server.h, server_visit).
 *
 * A series beyond METRICS_SERIES_MAX of one metric is counted under "other" in every label, because models are named by callers. A label's value is cut
 * after 200 bytes, between two characters, and what is no UTF-8 in it becomes U+FFFD.
 *
 * A counter never falls while the process lives: what another module counts since its own birth is added by its growth (svc/worker.c, count_pool).
 * A histogram's buckets end at 10, 25, 50, 100, 250, 500 us; 1, 2.5, 5, 10, 25, 50, 100, 250, 500 ms; 1, 2.5, 5, 10, 30 s; 1, 2, 5, 10 min: the same for
 * an overhead of 20 us and a stream of minutes. Disadvantage: three per decade; a quantile is good to a factor of 3 at worst. */
#ifndef SLUICE_METRICS_H
#define SLUICE_METRICS_H

#include "lib/base.h"
#include "lib/slice.h"

struct buf;
struct metrics;
struct metrics_series;

enum { METRICS_LABELS_MAX = 5, METRICS_SERIES_MAX = 2000 };

/* clang-format off */
/* X(name,                    type,      labels,                                      help) */
#define METRICS(X) \
	X(requests_total,         COUNTER,   "tenant,model,upstream,outcome,status",      "Requests that ended, once each.") \
	X(request_seconds,        HISTOGRAM, "upstream",                                  "From the head's arrival to the end of the answer.") \
	X(overhead_seconds,       HISTOGRAM, "upstream",                                  "Of that, what was not waiting for the upstream or the client.") \
	X(first_byte_seconds,     HISTOGRAM, "upstream",                                  "From the head's arrival to the upstream's first byte.") \
	X(stage_seconds,          HISTOGRAM, "stage",                                     "Time spent in each stage of the flow.") \
	X(in_flight,              GAUGE,     "stage",                                     "Requests now, by the stage they are in.") \
	X(quota_denied_total,     COUNTER,   "scope,limit",                               "Requests that a limit refused.") \
	X(quota_used_ratio,       GAUGE,     "scope,limit",                               "The fullest quota, 0 to 1, as last looked up: by /status, or behind a scrape, once in 10 s at most. Of a request limit with a burst of 1 it says nothing: watch sluice_queue_depth and sluice_quota_denied_total.") \
	X(cache_total,            COUNTER,   "result",                                    "Requests that were looked up, by what was found: local, hit, stale, stale_error; miss; collapsed; pass, none.") \
	X(coalesced_total,        COUNTER,   "where",                                     "Requests that read along with another: of the same worker, or of another of the fleet.") \
	X(refreshes_total,        COUNTER,   "outcome",                                   "Answers that were fetched anew while the stale one was given.") \
	X(flights,                GAUGE,     "role",                                      "Calls that others may read along: leading, reading; unfinished: ended, and Redis has not heard it.") \
	X(answer_bytes,           GAUGE,     "where",                                     "Answers held in memory: of flights, and hot ones of the cache.") \
	X(answers_full,           GAUGE,     "",                                          "Workers that store no answers, because Redis is nearly full.") \
	X(attempts_total,         COUNTER,   "upstream,result",                           "Calls to upstreams, each that was begun: ok, failed, unreachable; nothing: it told nothing of the upstream's health.") \
	X(attempt_seconds,        HISTOGRAM, "upstream",                                  "How long each took.") \
	X(retries_total,          COUNTER,   "reason",                                    "Calls that were made again: limited, exhausted, busy, unsent, unsure; no_budget: would have been.") \
	X(fallbacks_total,        COUNTER,   "from,to",                                   "Times that another model was turned to; whether it could be called, its request tells.") \
	X(queue_depth,            GAUGE,     "priority",                                  "Requests of this instance that wait in a line for room in a limit.") \
	X(queue_wait_seconds,     HISTOGRAM, "priority",                                  "How long those waited that did, whatever came of it.") \
	X(breaker_state,          GAUGE,     "upstream,endpoint",                         "0: closed, 1: half open, 2: open; as it is forced, where it is. Models' own are on /breakers.") \
	X(breaker_opened_total,   COUNTER,   "upstream",                                  "Times that a report of this instance opened a breaker.") \
	X(tokens_total,           COUNTER,   "tenant,model,kind",                         "Tokens that providers reported: input, cached, output.") \
	X(pool_connections,       GAUGE,     "upstream,pool,state",                       "Connections now: active, idle; and waiting requests.") \
	X(pool_limit,             GAUGE,     "upstream,pool",                             "The most connections that the pool may open.") \
	X(pool_size,              GAUGE,     "upstream,pool",                             "Connections that it keeps although idle: grows and shrinks with the work that lasts.") \
	X(pool_peak,              GAUGE,     "upstream,pool",                             "The most connections that were open at once.") \
	X(pool_opened_total,      COUNTER,   "upstream,pool",                             "Connections opened.") \
	X(pool_reused_total,      COUNTER,   "upstream,pool",                             "Requests that went over a connection that was open already.") \
	X(pool_saved_seconds_total,COUNTER,  "upstream,pool",                             "What these would have taken to open one: the mean hand-shake until then, each.") \
	X(pool_recycled_total,    COUNTER,   "upstream,pool,reason",                      "Idle connections that were closed: for their age; idle for too long; surplus: more than are kept or may be, or in a pool that a reload has replaced; failed their validation; ceded: another worker or upstream needed the place.") \
	X(pool_leaks_total,       COUNTER,   "upstream,pool",                             "Calls that nobody ended by their deadline, and that were taken back.") \
	X(pool_handshake_seconds, HISTOGRAM, "upstream",                                  "DNS, connect and TLS of new connections.") \
	X(pool_wait_seconds,      HISTOGRAM, "upstream",                                  "Waiting for a connection.") \
	X(pool_utilization,       GAUGE,     "upstream,pool",                             "Connections in use over the size, above 1 in a burst.") \
	X(redis_seconds,          HISTOGRAM, "script",                                    "Script calls, from sending to the answer.") \
	X(redis_errors_total,     COUNTER,   "error",                                     "Calls to Redis without a good answer, by kind: timed_out; lost, with its connection; unsent, for there was none; else the error.") \
	X(redis_up,               GAUGE,     "worker",                                    "1 while this worker has a connection to Redis.") \
	X(redis_mode,             GAUGE,     "worker",                                    "How this worker keeps quotas: 0: with Redis; without it, 1: by its share, 2: open, 3: closed.") \
	X(redis_live_workers,     GAUGE,     "worker",                                    "Workers of the fleet that share the quotas, as this one last heard.") \
	X(quota_local_total,      COUNTER,   "verdict",                                   "Asks that were decided without Redis, by a worker's share or as redis.on_failure says: admitted, denied.") \
	X(leases,                 GAUGE,     "state",                                     "Reservations held, and settles not answered yet.") \
	X(client_connections,     GAUGE,     "",                                          "Connections of clients.") \
	X(memory_bytes,           GAUGE,     "",                                          "Memory that the program has in use, as last looked at; memory_limit is for it.") \
	X(shedding,               GAUGE,     "",                                          "What is given up because memory is short: 1: connections without a request; 2: new requests, too.") \
	X(client_faults_total,    COUNTER,   "fault",                                     "Requests that broke the rules of HTTP.") \
	X(request_body_bytes,     GAUGE,     "",                                          "Request bodies held in memory.") \
	X(log_dropped_total,      COUNTER,   "",                                          "Log lines that nobody read.") \
	X(ready,                  GAUGE,     "",                                          "1 while this instance takes requests.") \
	X(build_info,             GAUGE,     "version",                                   "Always 1.")
/* clang-format on */
#define METRIC_ENUM(name, type, labels, help) METRIC_##name,
enum metric { METRICS(METRIC_ENUM) METRIC_COUNT };
#undef METRIC_ENUM

struct metrics *metrics_new(void);
void metrics_free(struct metrics **);

/* `labels` has as many values as the metric has labels; NULL when it has none. */
void metrics_add(struct metrics *, enum metric, const struct slice *labels, double by);    /* COUNTER */
void metrics_set(struct metrics *, enum metric, const struct slice *labels, double value); /* GAUGE; merging adds up */
void metrics_forget(struct metrics *, enum metric); /* all series of a GAUGE: what they told of may be gone */

/* One series of a HISTOGRAM or a COUNTER, which is written again and again: found once, and shown from then on; valid as long as the metrics. */
struct metrics_series *metrics_series(struct metrics *, enum metric, const struct slice *labels);
void metrics_count(struct metrics_series *); /* one more */
void metrics_observe(struct metrics_series *, int64_t microseconds);

/* Adds all that `from` holds. Its series are at most METRICS_SERIES_MAX + 1 a metric, and no name is lost here: the sum may have more. */
void metrics_merge(struct metrics *into, const struct metrics *from);
/* The text format of Prometheus, version 0.0.4. */
void metrics_write(const struct metrics *, struct buf *);
double metrics_value(const struct metrics *, enum metric,
		     const struct slice *labels); /* a counter's or gauge's value; a histogram's count */

#endif

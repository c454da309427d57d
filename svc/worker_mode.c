/* With Redis or without it: said once in the log for the whole instance, and counted for each worker. */
#include "svc/worker_internal.h"

#include <stdio.h>

#include "lib/log.h"
#include "lib/queue.h"
#include "lib/redis.h"

static const char *const names[] = { [CONFIG_SHARE] = "share", [CONFIG_OPEN] = "open", [CONFIG_CLOSED] = "closed" };

const char *worker_on_failure_name(enum config_on_failure on_failure)
{
	return names[on_failure];
}

const char *worker_mode_name(const struct worker *w)
{
	return limiter_state(w->limiter).alone ? names[w->now->config->redis.on_failure] : "normal";
}

/* Of a Redis that is not answered by, its connection knows more: that it refuses the password, or is not there. */
const char *worker_mode_reason(const struct worker *w)
{
	return redis_reason(w->redis)[0] != '\0' ? redis_reason(w->redis) : limiter_state(w->limiter).why;
}

bool worker_mode_refuses(const struct worker *w)
{
	struct limiter_state state = limiter_state(w->limiter);

	return state.alone && (redis_is_up(w->redis) ? state.refuses : redis_is_refused(w->redis));
}

static void say(struct worker *w, const char *mode, const char *why)
{
	int64_t live = limiter_state(w->limiter).live;
	struct log_line line;

	log_begin(&line, w->log, why != NULL ? LOG_WARNING : LOG_INFO, "redis_mode");
	log_text(&line, "mode", slice_of(mode));
	if (why != NULL)
		log_text(&line, "reason", slice_of(why));
	log_int(&line, "live_workers", live);
	if (live == 0 && mode == names[CONFIG_SHARE])
		log_text(&line, "fleet", SLICE("not heard of yet: the whole of each limit is this instance's"));
	log_end(&line);
}

/* The first worker that loses Redis speaks for all, and the last that has it back. */
void worker_mode_changed(void *arg, bool alone, const char *why)
{
	struct worker *w = arg;
	int before = atomic_fetch_add(&w->shared->alone, alone ? 1 : -1);

	queue_set_alone(w->queue, alone);
	if (!alone)
		worker_look_at_risks(w);
	if (before == (alone ? 0 : 1))
		say(w, worker_mode_name(w), why != NULL ? worker_mode_reason(w) : NULL);
}

void worker_mode_reloaded(struct worker *w, enum config_on_failure before)
{
	enum config_on_failure now = w->now->config->redis.on_failure;

	if (w->index == 0 && now != before && atomic_load(&w->shared->alone) > 0)
		say(w, names[now], "reload");
}

/* Without Redis the limiter calls those who wait; else it is said on the worker's channel. */
void worker_turn(void *arg, struct slice id)
{
	struct worker *w = arg;

	queue_call(w->queue, id);
}

uint64_t worker_local_admitted(const struct worker *w)
{
	return limiter_counts(w->limiter)->local_admitted + w->undecided.passed;
}

uint64_t worker_local_denied(const struct worker *w)
{
	return limiter_counts(w->limiter)->local_denied + w->undecided.refused;
}

static void count(struct worker *w, enum metric metric, const char *kind, uint64_t now, uint64_t *counted)
{
	struct slice label = slice_of(kind);

	if (now > *counted)
		metrics_add(w->metrics, metric, &label, (double)(now - *counted));
	*counted = now;
}

/* That a script has to be loaded first is no fault. */
static void count_errors(struct worker *w, const struct redis_counts *now, struct redis_counts *counted)
{
	for (size_t i = REDIS_ERROR_none + 1; i < REDIS_ERROR_COUNT; i++)
		if (i != REDIS_ERROR_noscript)
			count(w, METRIC_redis_errors_total, redis_error_row((enum redis_error)i)->name, now->errors[i],
			      &counted->errors[i]);
	count(w, METRIC_redis_errors_total, "timed_out", now->timed_out, &counted->timed_out);
	count(w, METRIC_redis_errors_total, "lost", now->lost, &counted->lost);
	count(w, METRIC_redis_errors_total, "unsent", now->unsent, &counted->unsent);
}

void worker_gauge_mode(struct worker *w)
{
	struct limiter_state state = limiter_state(w->limiter);
	char text[12];
	struct slice index = slice_make(text, (size_t)snprintf(text, sizeof(text), "%d", w->index));

	metrics_set(w->metrics, METRIC_redis_mode, &index, state.alone ? 1 + (int)w->now->config->redis.on_failure : 0);
	metrics_set(w->metrics, METRIC_redis_live_workers, &index, state.live);
	count(w, METRIC_quota_local_total, "admitted", worker_local_admitted(w), &w->counted.admitted);
	count(w, METRIC_quota_local_total, "denied", worker_local_denied(w), &w->counted.denied);
	count_errors(w, redis_counts(w->redis), &w->counted.redis);
	count_errors(w, redis_counts(w->answers), &w->counted.answers);
}

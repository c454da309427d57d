/* What a call may take of the limits, and the waiting for it.
 *
 *   quota ──► upstream                      it is admitted
 *         ──► queue ──► (its turn) ──► upstream      its model's or its upstream's limits have no room yet, and it may wait
 *                 └─────────────┐
 *         ──► choose ◄──────────┘           another target may have room: who has several looks at each before it waits at one
 *         ──► settle                        the tenant's own limits refuse
 *
 * In the line it is admitted by admit itself, which it asks again when its turn has come: nothing is held while it waits. */
#include "svc/flow_internal.h"

#include "lib/clock.h"
#include "lib/queue.h"
#include "svc/charge.h"

#define ASK_AGAIN (CLOCK_SECOND / 2) /* when Redis has not answered; what is heard of it makes it sooner */

/* ---- quota ----------------------------------------------------------------------------------------------------------- */

static void answered(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct request *r = request_of(arg);

	r->quota = *answer;
	flow_resume(r, lease);
}

/* No call is made for it: of its quotas only the tenant's requests count, where cache.count_hits says so. */
static bool is_given(const struct request *r)
{
	return r->shared.looked && (r->shared.verdict == FLIGHT_HIT || r->shared.verdict == FLIGHT_STALE ||
				    r->shared.verdict == FLIGHT_REFRESH || r->shared.verdict == FLIGHT_FOLLOW);
}

/* Who has several targets waits at none before each has been looked at. */
static bool may_queue(const struct request *r)
{
	return r->queue.after_all || r->route.configured == NULL || r->route.configured->targets_count == 1;
}

static int64_t may_wait(const struct request *r)
{
	int64_t most = request_may_wait(r);

	return r->probe != NULL && most > FLOW_TICKET_WAITS ? FLOW_TICKET_WAITS : most;
}

static void ask_of(struct request *r, bool calls, struct limiter_ask *ask)
{
	const struct slice names[LIMITER_SCOPES] = { request_tenant(r), r->route.model,
						     slice_of(r->route.upstream->name) };

	*ask = (struct limiter_ask){ .tokens = calls ? r->reserved.input + r->reserved.output : 0 };
	ask->timeout = request_redis_left(r);
	ask->share = r->config->redis.on_failure == CONFIG_SHARE;
	for (int scope = 0; scope < LIMITER_SCOPES; scope++) {
		bool takes_part = scope == LIMITER_TENANT || calls;
		ask->scope[scope].name = names[scope];
		ask->scope[scope].limits = takes_part ? request_limits(r, (enum limiter_scope)scope) : NULL;
		ask->scope[scope].requests = scope != LIMITER_TENANT || !r->shared.charged;
	}
	if (r->config->queue.max_wait == 0)
		return;
	ask->line.rule = &r->config->queue.rule;
	ask->line.lane = r->caller.lane;
	ask->line.group = r->route.configured != NULL ? r->route.configured->group : 0;
	ask->line.front = r->probe != NULL; /* the others wait for what it finds out */
	ask->line.most = may_queue(r) ? may_wait(r) : 0;
}

enum stage stage_quota(struct request *r)
{
	bool calls = !is_given(r);
	struct limiter_ask ask;
	const struct limiter_used nothing = { 0 };
	char memory[REQUEST_ID + 12];
	struct buf id;

	ask_of(r, calls, &ask);
	buf_wrap(&id, memory, sizeof(memory), 0);
	buf_append(&id, slice_of(r->id));
	buf_append_byte(&id, '.');
	buf_append_int(&id, ++r->admissions);
	ask.id = buf_slice(&id);
	r->shared.by_this = !r->shared.charged;
	r->shared.for_free = !calls;
	limiter_settle(&r->lease, &nothing); /* of one that read along, and leads now */
	/* It may be ours from now on, whatever becomes of the answer. */
	r->lease = limiter_admit(r->worker->limiter, &ask, answered, r);
	return flow_await(r, r->lease);
}

/* It asks only how long it would be here, and will wait where that is the shortest. */
static bool only_looks(const struct request *r)
{
	return !may_queue(r) && request_may_wait(r) > 0 && r->quota.verdict == LIMITER_DENIED;
}

/* Another target may have a limit of its own, unless it is the model's or the tenant's that refuses. Who looks does so at each: where it needs the model's limit alone it waits for less. */
static enum stage look_elsewhere(struct request *r)
{
	const struct config_model *model = r->route.configured;
	bool all = r->quota.scope == LIMITER_MODEL && !only_looks(r);

	r->tried.denied = true;
	r->tried.denial = r->quota;
	breaker_probe_end(&r->probe, BREAKER_NOTHING);
	if (only_looks(r) && (r->queue.wait == 0 || r->quota.wait < r->queue.wait)) {
		r->queue.best = r->route.target;
		r->queue.wait = r->quota.wait > 0 ? r->quota.wait : 1;
	}
	for (size_t i = 0; i < (model != NULL ? model->targets_count : 1); i++)
		if (all || model == NULL || model->targets[i].upstream == r->route.upstream)
			route_mark_target(&r->tried.full, i);
	return STAGE_choose;
}

static void say_denied(struct request *r, const struct limit *limit)
{
	const struct limiter_answer *a = &r->quota;
	bool spaced = limit != NULL && limit->strict && limit_unit_of(a->kind) == LIMIT_REQUESTS;

	buf_clear(&r->detail);
	buf_format(&r->detail, "The limit %s of the %s is %lld%s.", limit_name(a->kind), limiter_scope_name(a->scope),
		   (long long)(limit != NULL ? limit->count : 0),
		   spaced ? "; it is strict, so requests are spaced evenly" : "");
	if (a->verdict == LIMITER_FULL)
		buf_format(&r->detail, " Its line holds %lld.", (long long)r->config->queue.rule.depth);
	else if (a->scope != LIMITER_TENANT && a->verdict == LIMITER_DENIED && r->config->queue.max_wait > 0)
		buf_format(&r->detail, " It cannot be this one's turn in the time that it may wait.");
	if (a->local)
		buf_format(&r->detail, " Redis is away: this worker has %s.",
			   !a->never_here                 ? "a part of it, and knows of its own calls alone"
			   : a->kind == LIMIT_concurrency ? "no place of it"
							  : "a part of it that is less than this request needs");
}

static enum stage denied(struct request *r)
{
	const struct limiter_answer *a = &r->quota;
	const struct limits *limits = request_limits(r, a->scope);
	const struct limit *limit = limits != NULL ? &limits->of[a->kind] : NULL;
	struct slice labels[] = { slice_of(limiter_scope_name(a->scope)), slice_of(limit_name(a->kind)) };

	if (a->scope == LIMITER_TENANT || !only_looks(r))
		metrics_add(r->worker->metrics, METRIC_quota_denied_total, labels, 1);
	say_denied(r, limit);
	if (a->scope != LIMITER_TENANT)
		return look_elsewhere(r);
	if (a->verdict == LIMITER_NEVER)
		return flow_refuse(r, REFUSAL_exceeds_limit);
	return flow_refuse(r, a->kind == LIMIT_concurrency ? REFUSAL_too_many_at_once : REFUSAL_rate_limited);
}

static enum stage next_of_quota(const struct request *r)
{
	if (!r->shared.for_free)
		return STAGE_upstream;
	return r->answer_held != NULL ? STAGE_replay : STAGE_follow; /* where it may find itself to lead now */
}

/* What admit says, the first time or in the line. */
static enum stage heed(struct request *r)
{
	bool passes = r->config->redis.on_failure == CONFIG_OPEN;

	switch (r->quota.verdict) {
	case LIMITER_ADMITTED:
		r->shared.charged = true;
		return next_of_quota(r);
	case LIMITER_DENIED:
	case LIMITER_FULL:
	case LIMITER_NEVER:
		return denied(r);
	case LIMITER_QUEUED:
		return STAGE_queue;
	case LIMITER_UNAVAILABLE:
		break;
	}
	r->shared.charged = true; /* it may have been */
	r->worker->undecided.passed += passes;
	r->worker->undecided.refused += !passes;
	return passes ? next_of_quota(r) : flow_refuse(r, REFUSAL_quota_unavailable);
}

enum stage stage_quota_done(struct request *r)
{
	r->took.quota += clock_now() - r->entered;
	return heed(r);
}

/* ---- queue ----------------------------------------------------------------------------------------------------------- */

static void called(struct queue_place *place, void *arg, enum queue_news news)
{
	struct request *r = request_of(arg);

	CHECK(place == r->place);
	r->place = NULL;
	r->queue.late = news == QUEUE_LATE;
	flow_resume(r, place);
}

/* Who has waited as long as it may asks a last time: it leaves the line by that, and hears how long it would have been. */
static enum stage ask_again(struct request *r)
{
	int64_t most = r->queue.late ? 0 : may_wait(r);

	r->queue.asking = true;
	limiter_again(r->lease, most, answered, r);
	return flow_await(r, r->lease);
}

static enum stage wait_for_turn(struct request *r)
{
	char w[LIMITER_LINE_KEY], f[LIMITER_LINE_KEY], name[QUEUE_NAME_MOST];
	struct buf keys[2], line;
	struct queue_ask ask = { .rule = &r->config->queue.rule, .lane = r->caller.lane, .turn = r->quota.wait };

	ask.most = may_wait(r);
	if (ask.most == 0) {
		r->queue.late = true;
		return ask_again(r);
	}
	buf_wrap(&keys[0], w, sizeof(w), 0);
	buf_wrap(&keys[1], f, sizeof(f), 0);
	limiter_line_keys(r->lease, &keys[0], &keys[1]);
	buf_wrap(&line, name, sizeof(name), 0);
	buf_format(&line, "%s %.*s", limiter_scope_name(r->queue.line),
		   SLICE_ARGS(r->queue.line == LIMITER_MODEL ? r->route.model : slice_of(r->route.upstream->name)));
	ask.id = limiter_id(r->lease);
	ask.name = buf_slice(&line);
	ask.w = buf_slice(&keys[0]);
	ask.f = buf_slice(&keys[1]);
	r->queue.asking = false;
	r->place = queue_wait(r->worker->queue, &ask, called, r);
	return flow_await(r, r->place);
}

enum stage stage_queue(struct request *r)
{
	r->queue.late = false;
	r->queue.since = r->entered;
	r->queue.line = r->quota.scope;
	return wait_for_turn(r);
}

/* What it waited to call has failed meanwhile, or asks for time. */
static enum stage step_out(struct request *r)
{
	const struct limiter_used nothing = { .never_sent = true };

	limiter_settle(&r->lease, &nothing);
	return STAGE_choose;
}

/* Redis has not answered this time. Who waits may wait for that too; `open` lets all pass. */
static bool waits_on(struct request *r)
{
	if (r->quota.verdict != LIMITER_UNAVAILABLE || r->queue.late || r->config->redis.on_failure == CONFIG_OPEN)
		return false;
	r->quota.wait = ASK_AGAIN;
	return true;
}

static enum stage heed_turn(struct request *r)
{
	if (waits_on(r))
		return wait_for_turn(r);
	if (r->quota.verdict != LIMITER_QUEUED)
		return heed(r);
	r->queue.line = r->quota.scope;
	return wait_for_turn(r);
}

void flow_note_waited(struct request *r)
{
	if (r->queue.since > 0)
		r->took.queue += clock_now() - r->queue.since;
	r->queue.since = 0;
}

enum stage stage_queue_done(struct request *r)
{
	enum stage next;

	if (!r->queue.asking && (r->queue.late || flow_may_call(r)))
		return ask_again(r);
	next = r->queue.asking ? heed_turn(r) : step_out(r);
	if (next == STAGE_wait)
		return STAGE_wait;
	flow_note_waited(r);
	return next;
}

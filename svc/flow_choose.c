/* Where the call goes, and what is done when it can go nowhere.
 *
 *   choose ──► quota           a target that is well
 *          ──► (a ticket) ──► quota
 *          ──► retry          only what has failed this request is left: not before its time
 *          ──► degrade ──► lookup     something stale is stored
 *                      ──► choose     another model may be asked instead
 *                      ──► stream     the upstream's own error is at hand
 *                      ──► settle     a refusal, which says when to come again */
#include "svc/flow_internal.h"

#include "lib/clock.h"
#include "svc/attempt.h"
#include "svc/charge.h"

static void look(void *arg, const struct config_upstream *upstream, size_t endpoint, struct slice upstream_model,
		 struct route_health *health)
{
	const struct request *r = arg;
	struct worker_upstream *u = r->generation->upstreams[upstream - r->config->upstreams];

	worker_look(r->worker, u, upstream, endpoint, upstream_model.len > 0 ? upstream_model : r->route.model,
		    r->call.framing != DIALECT_PLAIN, health);
}

bool flow_may_call(const struct request *r)
{
	struct route_health health = { .gate = BREAKER_STOP };

	if (r->probe != NULL)
		return true;
	look((void *)(uintptr_t)r, r->route.upstream, r->route.endpoint, r->route.upstream_model, &health);
	return health.gate == BREAKER_PASS;
}

enum route_found flow_find_target(struct request *r, struct route *route, struct route_choice *choice)
{
	const struct route_question question = { .config = r->config,
						 .media = r->call.media,
						 .tools = r->call.tools,
						 .input = r->reserved.input,
						 .output = r->reserved.output,
						 .lane = r->caller.lane == LANE_LOW ? CONFIG_LANE_BATCH
										    : CONFIG_LANE_REALTIME,
						 .session = r->tried.session,
						 .random = r->tried.random,
						 .failed = r->tried.failed,
						 .barred = route_union(&r->tried.barred, &r->tried.full),
						 .look = look,
						 .arg = r };

	return route_choose(&question, route, choice);
}

static void say_unable(struct request *r)
{
	const struct route_question question = { .config = r->config,
						 .media = r->call.media,
						 .tools = r->call.tools,
						 .input = r->reserved.input,
						 .output = r->reserved.output };

	route_say_unable(&question, &r->route, &r->detail);
}

/* ---- choose ---------------------------------------------------------------------------------------------------------- */

/* So long may the call of a ticket take, at the most; its quota is asked for behind the ticket. */
static int64_t longest_call(const struct request *r)
{
	const struct config_upstream *u = r->route.upstream;
	int64_t waits = r->config->queue.max_wait < FLOW_TICKET_WAITS ? r->config->queue.max_wait : FLOW_TICKET_WAITS;

	return r->config->redis.timeout + waits + u->pool.connect_timeout + u->timeout.total + CLOCK_SECOND;
}

static void probed(struct probe *probe, void *arg, bool granted)
{
	struct request *r = request_of(arg);

	CHECK(probe == r->probe);
	r->attempt.granted = granted;
	flow_resume(r, probe);
}

/* The estimate is cut to what the chosen upstream's limits can hold. */
static enum refusal reserve_for(struct request *r, const struct config_upstream *before)
{
	return r->route.upstream == before ? REFUSAL_none : charge_reserve(r);
}

/* This model, not one that it is a fallback of. */
static bool was_called(const struct request *r)
{
	return r->attempts > 0 && r->route.fallbacks == r->attempt.route.fallbacks;
}

/* Nothing is left but what has failed this request or was called and asked for time, and it has not been given any. */
static bool is_to_rest(const struct request *r, enum route_found found, const struct route_choice *choice)
{
	if (r->tried.rested)
		return false;
	return found == ROUTE_FOUND ? !choice->elsewhere : found == ROUTE_STOPPED && choice->paused && was_called(r);
}

static void choose_of_all(struct request *r)
{
	const struct route_set none = { { 0 } };

	r->tried.full = none;
	r->queue.shortest = false;
}

/* No target has room at once: that with the shortest wait will do, and is waited for. If it is not well any more, any that is. */
static bool turns_to_queue(struct request *r)
{
	const struct config_model *model = r->route.configured;
	bool again = r->queue.shortest;

	if (!again && (!r->tried.denied || r->queue.after_all || model == NULL || model->targets_count == 1 ||
		       request_may_wait(r) == 0))
		return false;
	choose_of_all(r);
	r->queue.after_all = true;
	for (size_t i = 0; !again && r->queue.wait > 0 && i < model->targets_count; i++)
		if (model->targets[i].upstream != model->targets[r->queue.best].upstream) {
			route_mark_target(&r->tried.full, i);
			r->queue.shortest = true;
		}
	return true;
}

enum stage stage_choose(struct request *r)
{
	const struct config_upstream *before = r->route.upstream;
	struct route next = r->route;
	struct route_choice choice;
	enum route_found found;
	enum refusal refusal;

	attempt_unchoose(r); /* a quota or a ticket was refused there */
	found = flow_find_target(r, &next, &choice);
	if (is_to_rest(r, found, &choice))
		return STAGE_retry;
	switch (found) {
	case ROUTE_UNABLE:
		say_unable(r);
		return flow_refuse(r, REFUSAL_model_unable);
	case ROUTE_STOPPED:
		if (turns_to_queue(r))
			return STAGE_choose;
		if (choice.wait > 0 || r->tried.refusal == REFUSAL_none)
			r->tried.wait = choice.wait;
		r->tried.paused = choice.paused;
		return flow_degrade(r);
	case ROUTE_FOUND:
		break;
	}
	if (r->queue.shortest)
		choose_of_all(r);
	r->route = next;
	attempt_choose(r);
	refusal = reserve_for(r, before);
	if (refusal != REFUSAL_none)
		return flow_refuse(r, refusal);
	if (!choice.asks)
		return STAGE_quota;
	r->probe = breaker_probe(request_breaker(r), longest_call(r), probed, r);
	return flow_await(r, r->probe);
}

enum stage stage_choose_done(struct request *r)
{
	r->took.retry += clock_now() - r->entered;
	if (r->attempt.granted)
		return STAGE_quota;
	breaker_probe_end(&r->probe, BREAKER_NOTHING);
	route_mark(&r->tried.barred, r->route.target, r->route.endpoint);
	return STAGE_choose;
}

/* ---- when none will do ------------------------------------------------------------------------------------------------- */

/* One model more costs nobody; each further one behind calls that failed is a repetition like any other. What is paid for one that no target took pays for it. */
static bool pay(struct request *r)
{
	bool paid = r->tried.paid || retry_budget_spend(&r->tried.account->budget);

	r->tried.paid = false;
	return paid;
}

/* The next model that the tenant may use; its limits, its price and its time are the ones that count from now on. */
static bool fall_back(struct request *r)
{
	struct slice names[2] = { r->route.model };
	struct route_set none = { { 0 } };
	struct route next = r->route;

	if (!route_fall_back(r->config, r->caller.tenant, &next))
		return false;
	if (r->attempts > 0 && r->route.fallbacks > 0 && !pay(r))
		return false;
	r->route = next;
	names[1] = r->route.model;
	metrics_add(r->worker->metrics, METRIC_fallbacks_total, names, 1);
	r->tried.failed = r->tried.barred = r->tried.full = none;
	r->queue.after_all = false;
	r->queue.wait = 0;
	r->tried.until = 0;
	r->tried.denied = false;
	return true;
}

/* What it comes to when there is no answer to give. */
static enum refusal refusal_of(struct request *r)
{
	if (r->tried.refusal != REFUSAL_none) {
		buf_clear(&r->detail); /* of a quota that refused elsewhere */
		if (r->tried.refusal == REFUSAL_upstream_busy)
			buf_format(&r->detail, "Reason: %s.", r->result.detail);
		return r->tried.refusal;
	}
	if (r->tried.denied) {
		r->quota = r->tried.denial; /* that of an answer which was to be given may have been asked for since */
		return r->quota.verdict == LIMITER_NEVER    ? REFUSAL_exceeds_limit
		       : r->quota.verdict == LIMITER_FULL   ? REFUSAL_queue_full
		       : r->quota.kind == LIMIT_concurrency ? REFUSAL_too_many_at_once
							    : REFUSAL_rate_limited;
	}
	return r->tried.paused ? REFUSAL_upstream_limited : REFUSAL_breaker_open;
}

enum stage flow_degrade(struct request *r)
{
	if (flow_may_rescue(r))
		return flow_rescue(r, refusal_of(r), r->attempt.has_error ? r->attempt.status : 0);
	return flow_degrade_further(r);
}

enum stage flow_degrade_further(struct request *r)
{
	if (fall_back(r)) {
		enum refusal refusal = charge_reserve(r);
		return refusal == REFUSAL_none ? STAGE_choose : flow_refuse(r, refusal);
	}
	if (r->attempts > 0) /* it is the answer of the last that was called, whatever was looked at since */
		r->route = r->attempt.route;
	return r->attempt.has_error ? STAGE_stream : flow_refuse(r, refusal_of(r));
}

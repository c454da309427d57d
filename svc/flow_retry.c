/* After a failure: what the upstream said of it, and whether the call is made again, where and when.
 *
 *   upstream ──► error ──► retry ──► choose     again, at once or after a while
 *            └─────────────►  │ └──► degrade (flow_choose.c)
 *                             └────► stream, settle: it is not to be tried again
 *
 * Each attempt's quota is given back before the next one asks for its own. */
#include "svc/flow_internal.h"

#include "lib/clock.h"
#include "svc/attempt.h"

/* ---- error: the body of an answer that says no -------------------------------------------------------------------------- */

/* All fields: what tells of the provider's limits does not pass to the client. Those that there is no room for any more are as if they had not come. */
void flow_keep_error(struct request *r, const struct pool_head *head)
{
	struct pool_field *fields = mem_take(r->mem, (head->fields_count + 1) * sizeof(*fields));

	r->attempt.has_error = true;
	r->attempt.fields = fields;
	for (size_t i = 0; fields != NULL && i < head->fields_count; i++) {
		fields[i].name = mem_copy(r->mem, head->fields[i].name);
		fields[i].value = mem_copy(r->mem, head->fields[i].value);
		if (fields[i].name.data == NULL || fields[i].value.data == NULL)
			break;
		r->attempt.fields_count = i + 1;
	}
	attempt_pause(r);
}

/* True: there may be more. What is longer than any error goes to the client as it comes. */
bool flow_take_error(struct request *r, struct slice bytes)
{
	if (r->attempt.error.len + bytes.len <= REQUEST_ERROR) {
		CHECK(buf_append(&r->attempt.error, bytes));
		return true;
	}
	r->attempt.rest = bytes;
	flow_resume(r, r->transfer);
	return flow_wants_more(r);
}

enum stage stage_error(struct request *r)
{
	return flow_await(r, r->transfer);
}

enum stage stage_error_done(struct request *r)
{
	r->took.upstream += clock_now() - r->entered;
	if (!r->has_result)
		return STAGE_stream;
	if (r->result.outcome == POOL_DONE)
		return STAGE_retry;
	r->attempt.has_error = false; /* half an error is none to pass on; its head has said what it has */
	buf_clear(&r->attempt.error);
	return STAGE_retry;
}

/* ---- retry --------------------------------------------------------------------------------------------------------------- */

/* Of what failed, wherever the request has looked since. */
static const struct retry_policy *policy_of(const struct request *r)
{
	return &r->attempt.route.upstream->retry;
}

/* A call that was not sent has not cost the tenant his request either. */
static void give_back(struct request *r)
{
	const struct limiter_used used = { .never_sent = request_never_sent(r) };

	if (used.never_sent && r->shared.by_this)
		r->shared.charged = false;
	attempt_over(r);
	limiter_settle(&r->lease, &used);
	r->attempt.began = 0; /* nothing of it is left to be settled */
}

/* What its client is told when it is not tried again, and when to come again then. */
static void note_refusal(struct request *r)
{
	if (r->attempt.has_error)
		r->tried.refusal = REFUSAL_upstream_invalid;
	else if (r->attempt.status == 429)
		r->tried.refusal = REFUSAL_upstream_limited;
	else
		r->tried.refusal = attempt_refusal(r->result.outcome);
	r->tried.wait = r->tried.retry_after > 0 ? r->tried.retry_after : 0;
}

static bool is_time_for(const struct request *r, int64_t delay)
{
	int64_t then = clock_now() + delay;

	return then < r->tried.until && (!r->deadline.armed || delay < r->caller.deadline - (clock_now() - r->born));
}

static void count(const struct request *r, const char *what)
{
	struct slice reason = slice_of(what);

	metrics_add(r->worker->metrics, METRIC_retries_total, &reason, 1);
}

/* What is left to be done about a failure that will not be tried again. */
static enum stage give_up(struct request *r)
{
	if (r->tried.class != RETRY_NEVER)
		return flow_degrade(r);
	if (r->attempt.has_error && !attempt_is_failure(r->attempt.status))
		return STAGE_stream; /* the client's own fault: nothing that is stored answers it */
	if (flow_may_rescue(r))
		return flow_rescue(r, r->tried.refusal, r->attempt.has_error ? r->attempt.status : 0);
	return r->attempt.has_error ? STAGE_stream : flow_refuse(r, r->tried.refusal);
}

/* How long to wait; -1: it is not tried again. Who has waited in vain for a connection does not stand in the same line once more. */
static int64_t delay_of(struct request *r, const struct retry_policy *policy, struct route_choice *choice)
{
	struct route next = r->route;
	enum route_found found = flow_find_target(r, &next, choice);
	int64_t asked = -1;

	if (found == ROUTE_FOUND && !choice->elsewhere && r->result.outcome == POOL_NO_SLOT)
		return -1;
	if (found != ROUTE_FOUND && !choice->paused)
		return -1;
	if (found != ROUTE_FOUND)
		asked = choice->wait;
	else if (route_is_same_place(&next, &r->attempt.route))
		asked = r->tried.retry_after;
	if (asked > policy->cap)
		return -1;
	return retry_delay(policy, r->tried.class, r->attempts, asked, choice->elsewhere, worker_random(r->worker));
}

static void time_has_come(void *arg)
{
	struct request *r = request_of(arg);

	flow_resume(r, &r->tried.timer);
}

/* Who waits for nothing is sent on at once; moving a call that was never sent elsewhere costs nobody anything. */
static enum stage again(struct request *r, int64_t delay, const struct route_choice *choice)
{
	bool free_of_charge = r->tried.class == RETRY_UNSENT && choice->elsewhere;

	if (!free_of_charge && !r->tried.paid && !retry_budget_spend(&r->tried.account->budget)) {
		count(r, "no_budget");
		return give_up(r);
	}
	if (!r->tried.counted)
		count(r, retry_class_name(r->tried.class));
	r->tried.counted = true;
	r->tried.paid |= !free_of_charge;
	r->tried.rested = !choice->elsewhere;
	if (delay == 0)
		return STAGE_choose;
	loop_timer_init(&r->tried.timer, r->worker->loop, time_has_come, r);
	loop_timer_set(&r->tried.timer, delay);
	return flow_await(r, &r->tried.timer);
}

/* A tenant's places are of the whole upstream: where one is wanting, none of its endpoints has one. */
static void mark_upstream(struct request *r)
{
	const struct config_model *model = r->route.configured;

	route_mark_target(&r->tried.failed, r->route.target);
	for (size_t i = 0; model != NULL && i < model->targets_count; i++)
		if (model->targets[i].upstream == model->targets[r->route.target].upstream)
			route_mark_target(&r->tried.failed, i);
}

static void judge(struct request *r)
{
	r->tried.class = attempt_classify(r);
	note_refusal(r);
	give_back(r);
	if (r->tried.class == RETRY_EXHAUSTED)
		route_mark(&r->tried.barred, r->route.target, r->route.endpoint);
	route_mark(&r->tried.failed, r->route.target, r->route.endpoint);
	if (r->result.tenant_full)
		mark_upstream(r);
	r->tried.judged = true;
}

/* Also where it was to go elsewhere, and nothing but what has failed before is left: quota or ticket were refused there. */
enum stage stage_retry(struct request *r)
{
	const struct retry_policy *policy = policy_of(r);
	struct route_choice choice = { .wait = 0 };
	int64_t delay;

	if (!r->tried.judged)
		judge(r);
	if (r->tried.class == RETRY_NEVER || r->attempts >= policy->attempts)
		return give_up(r);
	delay = delay_of(r, policy, &choice);
	if (delay < 0 || !is_time_for(r, delay)) {
		r->tried.wait = choice.wait > 0 ? choice.wait : r->tried.wait;
		r->tried.paused = choice.paused;
		return give_up(r);
	}
	return again(r, delay, &choice);
}

/* The pause that was waited for may have been made longer meanwhile: by another request, or by the way that the news of it took. This call is paid for, and waits on;
 * else its client would have a refusal a millisecond before the answer. */
static bool waits_on(struct request *r, int64_t *delay)
{
	const struct retry_policy *policy = policy_of(r);
	struct route next = r->route;
	struct route_choice choice = { .wait = 0 };

	if (flow_find_target(r, &next, &choice) != ROUTE_STOPPED)
		return false;
	*delay = retry_wait(policy, choice.wait, worker_random(r->worker));
	return choice.paused && choice.wait <= policy->cap && is_time_for(r, *delay);
}

enum stage stage_retry_done(struct request *r)
{
	int64_t delay;

	if (waits_on(r, &delay)) {
		loop_timer_set(&r->tried.timer, delay);
		return flow_await(r, &r->tried.timer);
	}
	r->took.retry += clock_now() - r->entered;
	loop_timer_free(&r->tried.timer);
	return STAGE_choose;
}

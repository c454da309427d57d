/* The call itself: what is sent, its answer on the way to the client, and what is given back. */
#include "svc/flow_internal.h"

#include "lib/clock.h"
#include "lib/queue.h"
#include "svc/attempt.h"
#include "svc/charge.h"
#include "svc/reply.h"

#define WAITED_LEAST CLOCK_MILLISECOND /* for a connection: less is its being given one */

/* ---- upstream -------------------------------------------------------------------------------------------------------- */

static void upstream_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	struct request *r = request_of(arg);

	CHECK(t == r->transfer);
	r->status = r->attempt.status = head->status;
	if (!fields_to_client(head, r->mem, REPLY_FIELDS, &r->answer))
		r->refusal = REFUSAL_upstream_invalid;
	else if (attempt_has_reason(r))
		flow_keep_error(r, head);
	else
		attempt_head(r);
	flow_resume(r, t);
}

void flow_to_client(struct request *r, struct slice bytes)
{
	r->blocked = !reply_write(r, bytes);
}

static bool upstream_body(struct transfer *t, void *arg, struct slice bytes)
{
	struct request *r = request_of(arg);

	CHECK(t == r->transfer);
	if (r->stage == STAGE_error)
		return flow_take_error(r, bytes);
	CHECK(r->stage == STAGE_stream);
	meter_write(r->meter, bytes, flow_share_bytes, r);
	return flow_wants_more(r);
}

static void upstream_end(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct request *r = request_of(arg);

	CHECK(t == r->transfer);
	r->unsent = !pool_may_be_sent(t);
	r->transfer = NULL;
	r->result = *result;
	r->has_result = true;
	flow_resume(r, t);
}

static const struct pool_receiver receiver = { upstream_head, upstream_body, upstream_end };

enum stage stage_upstream(struct request *r)
{
	const struct worker_endpoint *e = request_endpoint(r);
	bool streams = r->call.framing != DIALECT_PLAIN;
	struct pool_request request;

	attempt_begin(r);
	if (!attempt_write(r, &request)) {
		r->unsent = true;
		return flow_refuse(r, REFUSAL_internal);
	}
	r->transfer = pool_start(streams ? e->streams : e->calls, &request, &receiver, r);
	return flow_await(r, r->transfer);
}

void flow_note_called(struct request *r)
{
	int64_t spent = clock_now() - r->entered;
	bool in_vain = r->has_result ? r->result.outcome == POOL_NO_SLOT : pool_waited(r->transfer) < 0;

	if (!r->has_result)
		r->result.waited = in_vain ? spent : pool_waited(r->transfer);
	if (r->result.waited >= WAITED_LEAST)
		r->took.pool += r->result.waited;
	if (!in_vain)
		r->took.upstream += spent - (r->result.waited >= WAITED_LEAST ? r->result.waited : 0);
}

enum stage stage_upstream_done(struct request *r)
{
	flow_note_called(r);
	if (r->has_result) /* it ended before an answer began */
		return STAGE_retry;
	r->took.first_byte = clock_now() - r->born;
	if (r->refusal != REFUSAL_none)
		return STAGE_settle;
	return r->attempt.has_error ? STAGE_error : STAGE_stream;
}

/* ---- stream ---------------------------------------------------------------------------------------------------------- */

/* An error that is here already, all of it or its beginning. */
static enum stage give_error(struct request *r)
{
	meter_write(r->meter, buf_slice(&r->attempt.error), flow_share_bytes, r);
	if (r->transfer == NULL) {
		meter_finish(r->meter, true, flow_share_bytes, r);
		return STAGE_settle;
	}
	meter_write(r->meter, r->attempt.rest, flow_share_bytes, r);
	return flow_await(r, r->transfer);
}

enum stage stage_stream(struct request *r)
{
	int64_t length;

	loop_timer_free(&r->deadline);
	r->meter = meter_new(&r->call, r->status, r->answer.content_type, r->asks_usage);
	length = meter_promise(r->meter, r->answer.content_length);
	reply_note_model(r);
	flow_share_head(r, length);
	if (r->left != REFUSAL_none && !flow_leads(r)) /* it went on for others, who cannot have it */
		return flow_refuse(r, r->left);
	if (r->exchange != NULL)
		reply_head(r, length);
	return r->attempt.has_error ? give_error(r) : flow_await(r, r->transfer);
}

/* A transfer that ended well may still have brought half an answer, and one that broke the whole of a stream: svc/dialect.h says what counts as whole. */
enum stage stage_stream_done(struct request *r)
{
	bool whole = r->result.outcome == POOL_DONE;

	meter_finish(r->meter, whole, flow_share_bytes, r);
	meter_result(r->meter, &r->metered);
	if (r->metered.ended || (whole && (r->metered.error_in_band || r->metered.unread != NULL)))
		return STAGE_settle;
	if (!whole)
		return flow_refuse(r, attempt_refusal(r->result.outcome));
	return flow_refuse(r, r->call.framing == DIALECT_PLAIN ? REFUSAL_upstream_invalid : REFUSAL_upstream_broken);
}

/* ---- settle ---------------------------------------------------------------------------------------------------------- */

static void end_answer(struct request *r)
{
	if (r->exchange == NULL)
		return;
	if (r->answered)
		reply_end(r);
	else
		reply_refusal(r);
}

/* In reverse of the taking. Where hits count, one that was given does, though nothing was sent for it. */
enum stage stage_settle(struct request *r)
{
	struct limiter_used used = { 0 };
	bool counts = r->shared.for_free && r->answered;

	if (r->meter != NULL)
		meter_result(r->meter, &r->metered);
	if (r->transfer != NULL)
		r->unsent = !pool_may_be_sent(r->transfer);
	pool_cancel(&r->transfer);
	attempt_over(r);
	flow_give_rest(r);
	end_answer(r);
	if (r->status == 0)
		r->status = refusal_status(r->refusal);
	used.never_sent = request_never_sent(r) && !counts;
	loop_timer_free(&r->tried.timer);
	queue_leave(&r->place);
	flow_note_waited(r);
	if (r->lease != NULL)
		used.tokens = r->used = charge_used(r);
	limiter_settle(&r->lease, &used);
	flow_end_flight(r);
	flight_leave(&r->seat);
	if (r->meter != NULL)
		charge_learn(r);
	return STAGE_end;
}

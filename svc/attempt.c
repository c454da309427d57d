/* Nothing of the body is copied: slices point into the pieces as they arrived, and splices stand between them. */
#include "svc/attempt.h"

#include "lib/clock.h"

/* ---- what is sent --------------------------------------------------------------------------------------------------- */

static int64_t at_most(int64_t time, int64_t left)
{
	return time < left ? time : left;
}

static void set_times(const struct request *r, struct pool_request *request)
{
	const struct config_upstream *u = r->route.upstream;
	bool streams = r->call.framing != DIALECT_PLAIN;
	int64_t left = r->tried.until - clock_now();

	left = left > CLOCK_MILLISECOND ? left : CLOCK_MILLISECOND;
	request->wait_timeout = at_most(u->pool.connect_timeout, at_most(request_patience(r), left));
	request->first_byte_timeout = at_most(streams ? u->timeout.first_byte : u->timeout.first_byte_plain, left);
	request->idle_timeout = u->timeout.idle;
	request->total_timeout = at_most(u->timeout.total, left);
}

/* Where it stands in the pool's own line, and what bounds it there. */
static void set_place(const struct request *r, struct pool_request *request)
{
	const struct config_tenant *tenant = r->caller.tenant;
	int64_t own = tenant != NULL ? tenant->pool.max : 0;

	request->lane = r->caller.lane;
	request->tenant = request_tenant(r);
	request->tenant_connections = (unsigned)(own > 0 ? own : r->route.upstream->pool.tenant_max);
}

bool attempt_write(struct request *r, struct pool_request *request)
{
	const struct config_upstream *u = r->route.upstream;
	struct dialect_splice wanted[DIALECT_SPLICES];
	struct upload_splice splices[DIALECT_SPLICES];
	struct slice *pieces;
	struct buf target;
	size_t count;

	*request = (struct pool_request){ .method = r->method };
	set_times(r, request);
	set_place(r, request);
	buf_init(&target, HTTP_TARGET_MAX + 1024);
	if (dialect_target(&r->call, slice_of(u->endpoints[r->route.endpoint].prefix), r->route.upstream_model,
			   &target))
		request->target = mem_copy(r->mem, buf_slice(&target));
	buf_free(&target);
	if (request->target.len == 0 ||
	    !dialect_splices(&r->call, r->route.upstream_model, r->asks_usage, r->mem, wanted, &count))
		return false;
	for (size_t i = 0; i < count; i++)
		splices[i] = (struct upload_splice){ wanted[i].offset, wanted[i].remove, wanted[i].insert };
	if (!upload_slices(&r->upload, splices, count, r->mem, &pieces, &request->body_count))
		return false;
	request->body = pieces;
	request->fields = fields_to_upstream(r->head, u, r->mem, &request->fields_count);
	return request->fields != NULL;
}

/* ---- begin, head, over ---------------------------------------------------------------------------------------------- */

static void forget_answer(struct request *r)
{
	r->answer = (struct fields_answer){ .content_length = -1, .retry_after = -1 };
	r->result = (struct pool_result){ .first_byte = -1 };
	r->refusal = REFUSAL_none;
	r->status = r->attempt.status = 0;
	r->has_result = r->unsent = false;
	buf_clear(&r->attempt.error);
	r->attempt.has_error = r->attempt.well = false;
	r->attempt.fields = NULL;
	r->attempt.fields_count = 0;
	r->tried.judged = r->tried.counted = r->tried.paid = r->tried.rested = false;
}

void attempt_unchoose(struct request *r)
{
	if (r->attempt.chosen != NULL)
		r->attempt.chosen->in_flight--;
	r->attempt.chosen = NULL;
}

void attempt_choose(struct request *r)
{
	attempt_unchoose(r);
	r->attempt.chosen = request_endpoint(r);
	r->attempt.chosen->in_flight++;
}

void attempt_begin(struct request *r)
{
	struct worker_upstream *u = request_upstream(r);
	int64_t now = clock_now();

	CHECK(r->attempt.breaker == NULL);
	forget_answer(r);
	r->attempt.breaker = request_breaker(r);
	breaker_hold_more(r->attempt.breaker); /* a model's may be forgotten before the call has ended */
	r->attempt.began = now;
	r->attempt.route = r->route;
	if (r->tried.until == 0)
		r->tried.until = now + r->route.upstream->timeout.total;
	if (r->attempts++ > 0)
		return;
	r->tried.account = u;
	retry_budget_earn(&u->budget, &r->route.upstream->retry);
}

bool attempt_is_failure(int status)
{
	return status >= 500 || status == 429;
}

/* Anthropic answers an empty account with 400, others with 402 or 403. */
bool attempt_has_reason(const struct request *r)
{
	int status = r->attempt.status;

	if (attempt_is_failure(status))
		return true;
	return r->call.dialect != DIALECT_http && (status == 400 || status == 402 || status == 403);
}

void attempt_head(struct request *r)
{
	int64_t took = clock_now() - r->attempt.began;
	bool streams = r->call.framing != DIALECT_PLAIN;

	if (attempt_is_failure(r->attempt.status))
		return;
	worker_measure(request_endpoint(r), streams, took);
	if (streams && r->probe == NULL)
		breaker_first_byte(r->attempt.breaker, took, true);
	if (r->probe == NULL)
		breaker_note(r->attempt.breaker, BREAKER_SUCCESS, false);
	else
		breaker_probe_well(r->probe);
	r->attempt.well = true;
}

/* Nobody knows yet, or nothing was learnt. */
static enum breaker_result judge_unfinished(const struct request *r)
{
	return r->attempt.well ? BREAKER_SUCCESS : BREAKER_NOTHING;
}

/* What is left of the request's time for another attempt may be less than any answer takes: the upstream cannot help that. */
static bool had_its_time(const struct request *r)
{
	const struct config_upstream *u = r->route.upstream;
	bool streams = r->call.framing != DIALECT_PLAIN;
	int64_t first_byte = streams ? u->timeout.first_byte : u->timeout.first_byte_plain;
	int64_t most = r->attempt.status == 0 ? at_most(first_byte, u->timeout.total) : u->timeout.total;

	return r->attempt.began + most <= r->tried.until;
}

static enum breaker_result judge_outcome(const struct request *r)
{
	switch (r->result.outcome) {
	case POOL_FIRST_BYTE_TIMEOUT:
	case POOL_TOTAL_TIMEOUT:
		return had_its_time(r) ? BREAKER_FAILURE : BREAKER_NOTHING;
	case POOL_CONNECT_FAILED:
	case POOL_TLS_FAILED:
		return BREAKER_UNREACHABLE;
	case POOL_NO_SLOT:
	case POOL_RESET_UNSENT:
		return BREAKER_NOTHING;
	default:
		return BREAKER_FAILURE;
	}
}

/* What the end says of the upstream. A stream that said that it was whole is, whatever its connection did then. */
static enum breaker_result judge(const struct request *r)
{
	bool answered = r->meter != NULL && r->attempt.status < 300;

	if (r->attempt.status >= 500)
		return BREAKER_FAILURE;
	if (r->attempt.status == 429)
		return BREAKER_NOTHING;
	if (answered && (r->metered.error_in_band || r->metered.unread != NULL))
		return BREAKER_FAILURE;
	if (answered && r->metered.ended)
		return BREAKER_SUCCESS;
	if (!r->has_result)
		return r->refusal == REFUSAL_upstream_invalid ? BREAKER_FAILURE : judge_unfinished(r);
	if (r->result.outcome != POOL_DONE)
		return judge_outcome(r);
	return answered ? BREAKER_FAILURE : BREAKER_SUCCESS; /* it ended in order, and half of it was missing */
}

static void note(struct request *r, enum breaker_result result, int64_t took)
{
	bool streams = r->call.framing != DIALECT_PLAIN;

	if (r->probe != NULL) {
		breaker_probe_end(&r->probe, result);
		return;
	}
	if (streams && !r->attempt.well && result != BREAKER_UNREACHABLE && !request_never_sent(r))
		breaker_first_byte(r->attempt.breaker, took, false);
	if (result != BREAKER_NOTHING && (result != BREAKER_SUCCESS || !r->attempt.well))
		breaker_note(r->attempt.breaker, result, r->attempt.well);
}

static void log_failure(struct request *r, int64_t took)
{
	const struct config_upstream *u = r->route.upstream;
	struct buf *log = &r->tried.log;

	buf_format(log, "%s%s", log->len > 0 ? "; " : "", u->name);
	if (u->endpoints_count > 1)
		buf_format(log, " %s", u->endpoints[r->route.endpoint].origin);
	if (r->attempt.status > 0)
		buf_format(log, " %d", r->attempt.status);
	if (r->attempt.status == 0 || r->result.outcome != POOL_DONE)
		buf_format(log, " %s", pool_outcome_name(r->result.outcome));
	buf_format(log, " %lld ms", (long long)(took / CLOCK_MILLISECOND));
}

void attempt_over(struct request *r)
{
	enum breaker_result result;
	int64_t took;

	attempt_unchoose(r);
	if (r->attempt.breaker == NULL) {
		breaker_probe_end(&r->probe, BREAKER_NOTHING); /* one that was asked for, and not used */
		return;
	}
	took = clock_now() - r->attempt.began;
	if (r->meter != NULL)
		meter_result(r->meter, &r->metered);
	result = judge(r);
	note(r, result, took);
	worker_count_attempt(request_upstream(r), result, took);
	if (result == BREAKER_FAILURE || result == BREAKER_UNREACHABLE || r->attempt.status == 429 ||
	    (r->attempt.has_error && r->tried.class == RETRY_EXHAUSTED))
		log_failure(r, took);
	breaker_release(&r->attempt.breaker);
}

/* ---- what its end means ------------------------------------------------------------------------------------------------ */

static enum retry_class class_of_status(int status)
{
	switch (status) {
	case 429:
		return RETRY_LIMITED;
	case 500:
	case 502:
	case 503:
	case 504:
	case 529: /* Anthropic: overloaded */
		return RETRY_BUSY;
	default:
		return RETRY_NEVER;
	}
}

static enum retry_class class_of_outcome(enum pool_outcome outcome)
{
	switch (outcome) {
	case POOL_NO_SLOT:
	case POOL_CONNECT_FAILED:
	case POOL_TLS_FAILED:
	case POOL_RESET_UNSENT:
		return RETRY_UNSENT;
	case POOL_FIRST_BYTE_TIMEOUT:
	case POOL_IDLE_TIMEOUT:
	case POOL_TOTAL_TIMEOUT:
		return RETRY_BUSY;
	case POOL_DONE:
	case POOL_RESET:
	case POOL_TRUNCATED:
	case POOL_GARBAGE:
		break;
	}
	return RETRY_UNSURE;
}

/* What may be done twice (RFC 9110 section 9.2.2), and what costs nothing: counting tokens. */
static bool is_safe(const struct request *r)
{
	return r->call.operation == OPERATION_count_tokens ||
	       (r->call.dialect == DIALECT_http &&
		(slice_equal(r->method, SLICE("GET")) || slice_equal(r->method, SLICE("HEAD")) ||
		 slice_equal(r->method, SLICE("PUT")) || slice_equal(r->method, SLICE("DELETE"))));
}

/* A provider of models does not bill what failed; what any other API did before it failed, nobody knows. */
static bool may_have_acted(const struct request *r, enum retry_class class)
{
	return class == RETRY_UNSURE ||
	       (class == RETRY_BUSY && r->call.dialect == DIALECT_http && r->attempt.status != 503);
}

/* Of these a provider means its Retry-After for all calls. */
static bool says_when(int status)
{
	return status == 429 || status == 503 || status == 529;
}

static void pause_for(struct request *r, int64_t length)
{
	if (length > 0)
		breaker_pause(request_endpoint(r)->breaker, request_target_model(r), length);
}

void attempt_pause(struct request *r)
{
	if (says_when(r->attempt.status))
		pause_for(r, r->answer.retry_after);
}

static enum retry_class class_of_answer(struct request *r)
{
	struct dialect_failed failed;

	dialect_read_failure(r->call.dialect, r->attempt.status, r->attempt.fields, r->attempt.fields_count,
			     buf_slice(&r->attempt.error), clock_unix(), &failed);
	r->tried.retry_after = failed.retry_after;
	switch (failed.why) {
	case DIALECT_FAILURE_POLICY:
		return RETRY_NEVER;
	case DIALECT_FAILURE_EXHAUSTED:
		pause_for(r, failed.retry_after);
		return RETRY_EXHAUSTED;
	case DIALECT_FAILURE_LIMITED:
	case DIALECT_FAILURE_OTHER:
		break;
	}
	if (says_when(r->attempt.status))
		pause_for(r, failed.retry_after);
	return class_of_status(r->attempt.status);
}

enum retry_class attempt_classify(struct request *r)
{
	enum retry_class class;

	r->tried.retry_after = -1;
	if (r->attempt.has_error || attempt_is_failure(r->attempt.status))
		class = class_of_answer(r);
	else
		class = class_of_outcome(r->result.outcome);
	if (may_have_acted(r, class) && !is_safe(r) && !r->route.upstream->retry.resend)
		class = RETRY_NEVER;
	return class;
}

enum refusal attempt_refusal(enum pool_outcome outcome)
{
	switch (outcome) {
	case POOL_DONE:
		return REFUSAL_none;
	case POOL_NO_SLOT:
		return REFUSAL_upstream_busy;
	case POOL_CONNECT_FAILED:
	case POOL_TLS_FAILED:
		return REFUSAL_upstream_unreachable;
	case POOL_RESET_UNSENT:
	case POOL_RESET:
	case POOL_TRUNCATED:
		return REFUSAL_upstream_broken;
	case POOL_GARBAGE:
		return REFUSAL_upstream_invalid;
	case POOL_FIRST_BYTE_TIMEOUT:
	case POOL_IDLE_TIMEOUT:
	case POOL_TOTAL_TIMEOUT:
		break;
	}
	return REFUSAL_upstream_timeout;
}

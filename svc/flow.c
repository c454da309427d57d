/* The life of a request, top to bottom: the table of its stages, the stages in the order of the table, what is heard from outside, the engine.
 *
 * `begin` runs on entry and names the next stage, or waits; `done` runs when what is awaited has come, and names the next stage. Every path ends in settle,
 * once. The engine, at the end, asserts what README says of it: the edge is in the table, the answer is the awaited one, no stage runs inside another. */
#include "svc/flow.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "svc/attempt.h"
#include "svc/charge.h"
#include "svc/reply.h"

/* clang-format off */
/* S(stage,   done,          ours,  may go to,                                            what it does) */
#define STAGES(S) \
	S(auth,     NULL,          true,  TO(models) | TO(body) | TO(route) | TO(settle), "find the tenant behind the key, and the API behind the path") \
	S(models,   NULL,          true,  TO(settle),                                     "list the models that the caller may use") \
	S(body,     body_done,     false, TO(route) | TO(settle),                         "take the body in, and read what it asks for") \
	S(route,    NULL,          true,  TO(quota) | TO(settle),                         "choose the upstream, and guess the tokens") \
	S(quota,    quota_done,    true,  TO(upstream) | TO(settle),                      "reserve in Redis, all limits or none") \
	S(upstream, upstream_done, false, TO(stream) | TO(settle),                        "send, and wait for the head of the answer") \
	S(stream,   stream_done,   false, TO(settle),                                     "pass the answer through, and meter it") \
	S(settle,   NULL,          true,  TO(end),                                        "end the answer, give back what is held, count, log")
/* clang-format on */

#define DEADLINE_GRACE                        (50 * CLOCK_MILLISECOND)

#define TO(name)                              (1u << STAGE_##name)
#define S_ENUM(name, done, ours, edges, text) STAGE_##name,
enum stage { STAGES(S_ENUM) STAGE_end, STAGE_wait };
#undef S_ENUM

static void start(struct request *);
static void resume(struct request *, const void *answer);
static void flow_abort(struct request *, enum refusal);

static enum stage await(struct request *r, const void *awaited)
{
	r->waiting = awaited;
	return STAGE_wait;
}

static enum stage refuse(struct request *r, enum refusal why)
{
	r->refusal = why;
	return STAGE_settle;
}

/* ---- auth ------------------------------------------------------------------------------------------------------------ */

/* What the log needs is copied: a request outlives its exchange. */
static bool identify(struct request *r, const struct http_head *head)
{
	struct slice given = r->caller.request_id;

	r->public_id = mem_copy(r->mem, given.len > 0 ? given : slice_of(r->id));
	r->method = mem_copy(r->mem, head->method_name);
	r->path = mem_copy(r->mem, r->caller.path);
	r->address = mem_copy(r->mem, r->caller.address);
	return r->public_id.len > 0 && r->method.len > 0 && r->path.len > 0;
}

static void deadline_passed(void *arg)
{
	flow_abort(request_of(arg), REFUSAL_deadline);
}

/* Until the answer begins: an SDK's time-out is for its beginning, and ends no stream. The SDK is let go first, so that its caller sees the time-out that
 * it set; what it left behind ends here all the same. */
static void watch_deadline(struct request *r)
{
	if (r->caller.deadline <= 0)
		return;
	loop_timer_init(&r->deadline, r->worker->loop, deadline_passed, r);
	loop_timer_set(&r->deadline, r->caller.deadline + DEADLINE_GRACE);
}

static bool has_coding(const struct http_head *head)
{
	struct slice coding = http_field_of(head, SLICE("Content-Encoding"));

	return coding.len > 0 && !slice_equal_nocase(coding, SLICE("identity"));
}

static enum stage auth(struct request *r)
{
	const struct http_head *head = http_head_of(r->exchange);
	enum refusal stranger =
		caller_read(r->config, head, http_peer_address(r->exchange), r->mem, &r->caller, &r->detail);
	const struct caller *c = &r->caller;
	const struct dialect_head asked = { .method = head->method_name,
					    .path = c->path,
					    .query = c->query,
					    .anthropic_version = c->anthropic_version,
					    .google_key = c->google_key,
					    .content_type = c->content_type };
	struct buf detail;
	enum refusal lost;

	/* A stranger learns nothing of the paths, but is answered in the dialect of his. */
	buf_init(&detail, REQUEST_DETAIL);
	lost = dialect_route(&asked, r->mem, &r->call, stranger != REFUSAL_none ? &detail : &r->detail);
	buf_free(&detail);
	if (!identify(r, head))
		return refuse(r, REFUSAL_internal);
	watch_deadline(r);
	if (stranger != REFUSAL_none || lost != REFUSAL_none)
		return refuse(r, stranger != REFUSAL_none ? stranger : lost);
	if (r->call.operation == OPERATION_list_models || r->call.operation == OPERATION_get_model)
		return STAGE_models;
	if (has_coding(head))
		return refuse(r, REFUSAL_unsupported_media);
	if (r->call.takes_body)
		return STAGE_body;
	if (head->content_length != 0) { /* it would be dropped: the upstream would be asked something else */
		buf_append(&r->detail, SLICE("This method takes no body."));
		return refuse(r, REFUSAL_invalid_request);
	}
	return STAGE_route;
}

/* ---- models ---------------------------------------------------------------------------------------------------------- */

static enum stage models(struct request *r)
{
	reply_models(r);
	return STAGE_settle;
}

/* ---- body ------------------------------------------------------------------------------------------------------------ */

static enum refusal refuse_size(struct request *r)
{
	buf_format(&r->detail, "Allowed: %lld bytes.", (long long)r->config->max_body);
	return REFUSAL_body_too_large;
}

static enum refusal take_piece(struct request *r, struct slice piece)
{
	if ((int64_t)(r->upload.length + piece.len) > r->config->max_body)
		return refuse_size(r);
	if (!upload_append(&r->upload, piece, http_head_of(r->exchange)->content_length))
		return REFUSAL_overloaded;
	return dialect_read(r->reader, piece, &r->detail);
}

static enum stage body_done(struct request *r)
{
	if (r->refusal == REFUSAL_none)
		r->refusal = dialect_close_body(r->reader, r->mem, &r->call, &r->detail);
	dialect_reader_free(&r->reader);
	return r->refusal == REFUSAL_none ? STAGE_route : STAGE_settle;
}

static enum stage body(struct request *r)
{
	int64_t length = http_head_of(r->exchange)->content_length;

	if (length > r->config->max_body)
		return refuse(r, refuse_size(r));
	r->reader = dialect_reader_new(&r->call);
	if (length == 0)
		return body_done(r);
	http_take_body(r->exchange, INT64_MAX); /* the ceiling is ours, to answer with all our fields */
	return await(r, r->exchange);
}

/* ---- route ----------------------------------------------------------------------------------------------------------- */

static enum stage route(struct request *r)
{
	enum refusal refusal = route_find(r->config, r->caller.tenant, &r->call, &r->route, &r->detail);

	if (refusal == REFUSAL_unknown_path)
		dialect_suggest(&r->call, &r->detail);
	if (refusal == REFUSAL_none)
		refusal = charge_reserve(r);
	return refusal == REFUSAL_none ? STAGE_quota : refuse(r, refusal);
}

/* ---- quota ----------------------------------------------------------------------------------------------------------- */

static void admitted(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct request *r = request_of(arg);

	r->quota = *answer;
	resume(r, lease);
}

static enum stage quota(struct request *r)
{
	const struct slice names[LIMITER_SCOPES] = { request_tenant(r), r->route.model,
						     slice_of(r->route.upstream->name) };
	struct limiter_ask ask = { .tokens = r->reserved.input + r->reserved.output };
	char memory[REQUEST_ID + 12];
	struct buf id;

	buf_wrap(&id, memory, sizeof(memory), 0);
	buf_append(&id, slice_of(r->id));
	buf_append_byte(&id, '.');
	buf_append_int(&id, r->attempts + 1);
	ask.id = buf_slice(&id);
	for (int scope = 0; scope < LIMITER_SCOPES; scope++) {
		ask.scope[scope].name = names[scope];
		ask.scope[scope].limits = request_limits(r, (enum limiter_scope)scope);
		ask.scope[scope].requests = 1;
	}
	/* It may be ours from now on, whatever becomes of the answer. */
	r->lease = limiter_admit(r->worker->limiter, &ask, admitted, r);
	return await(r, r->lease);
}

static enum stage denied(struct request *r)
{
	const struct limiter_answer *a = &r->quota;
	const struct limits *limits = request_limits(r, a->scope);
	const struct limit *limit = limits != NULL ? &limits->of[a->kind] : NULL;
	bool spaced = limit != NULL && limit->strict && limit_unit_of(a->kind) == LIMIT_REQUESTS;
	struct slice labels[] = { slice_of(limiter_scope_name(a->scope)), slice_of(limit_name(a->kind)) };

	metrics_add(r->worker->metrics, METRIC_quota_denied_total, labels, 1);
	buf_format(&r->detail, "The limit %s of the %s is %lld%s.", limit_name(a->kind), limiter_scope_name(a->scope),
		   (long long)(limit != NULL ? limit->count : 0),
		   spaced ? "; it is strict, so requests are spaced evenly" : "");
	if (a->verdict == LIMITER_NEVER)
		return refuse(r, REFUSAL_exceeds_limit);
	return refuse(r, a->kind == LIMIT_concurrency ? REFUSAL_too_many_at_once : REFUSAL_rate_limited);
}

static enum stage quota_done(struct request *r)
{
	struct slice error = SLICE("unavailable");

	r->took.quota = clock_now() - r->entered;
	switch (r->quota.verdict) {
	case LIMITER_ADMITTED:
		return STAGE_upstream;
	case LIMITER_DENIED:
	case LIMITER_NEVER:
		return denied(r);
	case LIMITER_UNAVAILABLE:
		break;
	}
	metrics_add(r->worker->metrics, METRIC_redis_errors_total, &error, 1);
	return r->config->redis.on_failure == CONFIG_OPEN ? STAGE_upstream : refuse(r, REFUSAL_quota_unavailable);
}

/* ---- upstream -------------------------------------------------------------------------------------------------------- */

static void upstream_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	struct request *r = request_of(arg);

	CHECK(t == r->transfer);
	r->status = head->status;
	if (!fields_to_client(head, r->mem, REPLY_FIELDS, &r->answer))
		r->refusal = REFUSAL_upstream_invalid;
	resume(r, t);
}

static void to_client(void *arg, struct slice bytes)
{
	struct request *r = arg;

	r->blocked = !reply_write(r, bytes);
}

static bool upstream_body(struct transfer *t, void *arg, struct slice bytes)
{
	struct request *r = request_of(arg);

	CHECK(t == r->transfer && r->stage == STAGE_stream);
	meter_write(r->meter, bytes, to_client, r);
	return !r->blocked;
}

static void upstream_end(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct request *r = request_of(arg);

	CHECK(t == r->transfer);
	r->unsent = !pool_may_be_sent(t);
	r->transfer = NULL;
	r->result = *result;
	r->has_result = true;
	resume(r, t);
}

static const struct pool_receiver receiver = { upstream_head, upstream_body, upstream_end };

static enum stage upstream(struct request *r)
{
	const struct worker_upstream *pools = request_upstream(r);
	bool streams = r->call.framing != DIALECT_PLAIN;
	struct pool_request request;

	if (!attempt_write(r, &request))
		return refuse(r, REFUSAL_internal);
	r->attempts++;
	r->transfer = pool_start(streams ? pools->streams : pools->calls, &request, &receiver, r);
	return await(r, r->transfer);
}

static enum stage upstream_done(struct request *r)
{
	int64_t now = clock_now();

	r->took.upstream = now - r->entered;
	if (r->has_result) /* it ended before an answer began */
		return refuse(r, attempt_refusal(r->result.outcome));
	r->took.first_byte = now - r->born;
	return r->refusal == REFUSAL_none ? STAGE_stream : STAGE_settle;
}

/* ---- stream ---------------------------------------------------------------------------------------------------------- */

static enum stage stream(struct request *r)
{
	loop_timer_free(&r->deadline);
	r->meter = meter_new(&r->call, r->status, r->answer.content_type, r->asks_usage);
	reply_head(r);
	return await(r, r->transfer);
}

/* A transfer that ended well may still have brought half an answer, and one that broke the whole of a stream: svc/dialect.h says what counts as whole. */
static enum stage stream_done(struct request *r)
{
	bool whole = r->result.outcome == POOL_DONE;

	meter_finish(r->meter, whole, to_client, r);
	meter_result(r->meter, &r->metered);
	if (r->metered.ended || (whole && (r->metered.error_in_band || r->metered.unread != NULL)))
		return STAGE_settle;
	if (!whole)
		return refuse(r, attempt_refusal(r->result.outcome));
	return refuse(r, r->call.framing == DIALECT_PLAIN ? REFUSAL_upstream_invalid : REFUSAL_upstream_broken);
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

/* In reverse of the taking. */
static enum stage settle(struct request *r)
{
	struct limiter_used used = { 0 };

	if (r->meter != NULL)
		meter_result(r->meter, &r->metered);
	if (r->transfer != NULL)
		r->unsent = !pool_may_be_sent(r->transfer);
	pool_cancel(&r->transfer);
	end_answer(r);
	if (r->status == 0)
		r->status = refusal_status(r->refusal);
	used.never_sent = request_never_sent(r);
	if (r->lease != NULL)
		used.tokens = r->used = charge_used(r);
	limiter_settle(&r->lease, &used);
	if (r->meter != NULL)
		charge_learn(r);
	return STAGE_end;
}

/* ---- what is heard from outside -------------------------------------------------------------------------------------- */

void *flow_head(struct exchange *e, void *worker)
{
	struct request *r = request_new(worker, e);

	start(r);
	return r;
}

void flow_body(struct exchange *e, void *request, struct slice piece)
{
	struct request *r = request_of(request);

	r->refusal = take_piece(r, piece);
	if (r->refusal != REFUSAL_none)
		resume(r, e);
}

void flow_body_end(struct exchange *e, void *request)
{
	resume(request_of(request), e);
}

void flow_writable(struct exchange *e, void *request)
{
	struct request *r = request_of(request);

	CHECK(e == r->exchange);
	r->blocked = false;
	if (r->transfer != NULL)
		pool_resume(r->transfer);
}

void flow_broken(struct exchange *e, void *request, enum http_fault fault)
{
	struct request *r = request_of(request);

	if (fault != HTTP_FAULT_body_timeout)
		buf_append(&r->detail, slice_of(http_fault_text(fault)));
	r->refusal = fault == HTTP_FAULT_body_timeout ? REFUSAL_request_timeout : REFUSAL_invalid_request;
	resume(r, e);
}

void flow_gone(struct exchange *e, void *request, enum http_gone gone)
{
	struct request *r = request_of(request);

	(void)gone; /* left or stalled: nobody is there */
	CHECK(e == r->exchange);
	r->exchange = NULL;
	flow_abort(r, REFUSAL_client_gone);
}

void flow_malformed(void *worker, enum http_fault fault, struct slice target, struct buf *body,
		    struct slice *content_type)
{
	struct worker *w = worker;
	struct slice label = slice_of(http_fault_code(fault));

	*content_type = reply_malformed(fault, target, body);
	metrics_add(w->metrics, METRIC_client_faults_total, &label, 1);
}

void flow_lease_lost(struct lease *lease, void *request)
{
	struct request *r = request_of(request);

	CHECK(lease == r->lease);
	flow_abort(r, REFUSAL_quota_unavailable);
}

void flow_abort_all(struct worker *w, enum refusal why)
{
	LIST_EACH(&w->requests, node, following)
	flow_abort(CONTAINER_OF(node, struct request, node), why);
}

void flow_write_requests(const struct worker *w, struct buf *out)
{
	for (const struct list *node = w->requests.next; node != &w->requests; node = node->next) {
		if (node != w->requests.next)
			buf_append_byte(out, ',');
		request_write(CONTAINER_OF(node, struct request, node), out);
	}
}

/* ---- the engine: everything above this line is policy ------------------------------------------------------------------ */

#define S_ROW(name, done, ours, edges, text) { #name, name, done, edges, ours, text },
static const struct {
	const char *name;
	enum stage (*begin)(struct request *);
	enum stage (*done)(struct request *);
	unsigned edges;
	bool ours; /* its time is the gateway's own, not the client's or the upstream's */
	const char *text;
} stages[] = { STAGES(S_ROW) };
#undef S_ROW

static void observe_stage(struct worker *w, unsigned stage, int64_t took)
{
	struct metrics_series **series = &w->stage_seconds[stage];
	struct slice name = slice_of(stages[stage].name);

	CHECK(stage < ARRAY_LENGTH(w->stage_seconds));
	if (*series == NULL)
		*series = metrics_series(w->metrics, METRIC_stage_seconds, &name);
	metrics_observe(*series, took);
}

static void leave(struct request *r)
{
	int64_t now = clock_now();

	if (stages[r->stage].ours)
		r->took.ours += now - r->entered;
	observe_stage(r->worker, r->stage, now - r->entered);
	r->entered = now;
}

static void enter(struct request *r, enum stage next)
{
	r->stage = next;
	r->stage_name = stages[next].name;
	base_note(r->stage_name, r->id);
}

/* Runs stages until one waits or the last has ended. */
static void advance(struct request *r, enum stage next)
{
	while (next != STAGE_wait) {
		CHECK(stages[r->stage].edges & (1u << next));
		leave(r);
		if (next == STAGE_end) {
			request_report(r);
			loop_defer(r->worker->loop, &r->burial);
			break;
		}
		enter(r, next);
		next = stages[next].begin(r);
	}
	CHECK(next == STAGE_end || (r->waiting != NULL && stages[r->stage].done != NULL));
	r->running = false;
	base_note(NULL, NULL);
}

static void start(struct request *r)
{
	r->running = true;
	enter(r, STAGE_auth);
	advance(r, stages[STAGE_auth].begin(r));
}

/* The answer to what the stage awaits has come. */
static void resume(struct request *r, const void *answer)
{
	CHECK(!r->running && r->waiting == answer && answer != NULL);
	r->waiting = NULL;
	r->running = true;
	base_note(r->stage_name, r->id);
	advance(r, stages[r->stage].done(r));
}

/* The client has been told the end of its stream already: whatever ends the transfer behind it, the answer is whole. */
static bool is_told(struct request *r)
{
	if (r->meter == NULL || r->exchange == NULL)
		return false;
	meter_finish(r->meter, false, to_client, r);
	meter_result(r->meter, &r->metered);
	return r->metered.ended;
}

/* The client left, a deadline passed, the instance drains. Called from the loop, never from a stage; what has settled already stays as it is. */
static void flow_abort(struct request *r, enum refusal why)
{
	CHECK(!r->running);
	if (r->waiting == NULL)
		return;
	r->waiting = NULL;
	r->running = true;
	base_note(r->stage_name, r->id);
	advance(r, is_told(r) ? STAGE_settle : refuse(r, why));
}

void flow_gauge(struct worker *w)
{
	double counts[ARRAY_LENGTH(stages)] = { 0 };

	for (const struct list *node = w->requests.next; node != &w->requests; node = node->next)
		counts[CONTAINER_OF(node, struct request, node)->stage]++;
	for (size_t i = 0; i < ARRAY_LENGTH(stages); i++) {
		struct slice name = slice_of(stages[i].name);
		metrics_set(w->metrics, METRIC_in_flight, &name, counts[i]);
	}
}

void flow_write_graph(struct buf *out)
{
	buf_append(out, SLICE("digraph flow {\n  rankdir=LR;\n  node [shape=box];\n"));
	for (size_t i = 0; i < ARRAY_LENGTH(stages); i++)
		buf_format(out, "  %s [label=\"%s\\n%s\"];\n", stages[i].name, stages[i].name, stages[i].text);
	for (size_t i = 0; i < ARRAY_LENGTH(stages); i++)
		for (size_t j = 0; j < ARRAY_LENGTH(stages); j++)
			if (stages[i].edges & (1u << j))
				buf_format(out, "  %s -> %s;\n", stages[i].name, stages[j].name);
	buf_append(out, SLICE("}\n"));
}

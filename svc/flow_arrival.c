/* From the first byte to the upstream's name: who asks, for what, and where that is served. */
#include "svc/flow_internal.h"

#include "lib/clock.h"
#include "svc/charge.h"
#include "svc/reply.h"
#include "svc/session.h"

#define DEADLINE_GRACE (50 * CLOCK_MILLISECOND)

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
	struct request *r = request_of(arg);

	if (!flow_carry_on(r, REFUSAL_deadline))
		flow_abort(r, REFUSAL_deadline);
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

enum stage stage_auth(struct request *r)
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
		return flow_refuse(r, REFUSAL_internal);
	if (atomic_load(&r->worker->shared->pressure) == WORKER_SHEDS_REQUESTS)
		return flow_refuse(r, REFUSAL_overloaded);
	watch_deadline(r);
	if (stranger != REFUSAL_none || lost != REFUSAL_none)
		return flow_refuse(r, stranger != REFUSAL_none ? stranger : lost);
	if (r->call.operation == OPERATION_list_models || r->call.operation == OPERATION_get_model)
		return STAGE_models;
	if (has_coding(head))
		return flow_refuse(r, REFUSAL_unsupported_media);
	if (r->call.takes_body)
		return STAGE_body;
	if (head->content_length != 0) { /* it would be dropped: the upstream would be asked something else */
		buf_append(&r->detail, SLICE("This method takes no body."));
		return flow_refuse(r, REFUSAL_invalid_request);
	}
	return STAGE_route;
}

/* ---- models ---------------------------------------------------------------------------------------------------------- */

enum stage stage_models(struct request *r)
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

void flow_body(struct exchange *e, void *request, struct slice piece)
{
	struct request *r = request_of(request);

	r->refusal = take_piece(r, piece);
	if (r->refusal != REFUSAL_none)
		flow_resume(r, e);
}

void flow_body_end(struct exchange *e, void *request)
{
	flow_resume(request_of(request), e);
}

enum stage stage_body_done(struct request *r)
{
	if (r->refusal == REFUSAL_none)
		r->refusal = dialect_close_body(r->reader, r->mem, &r->call, &r->detail);
	dialect_reader_free(&r->reader);
	return r->refusal == REFUSAL_none ? STAGE_route : STAGE_settle;
}

enum stage stage_body(struct request *r)
{
	int64_t length = http_head_of(r->exchange)->content_length;

	if (length > r->config->max_body)
		return flow_refuse(r, refuse_size(r));
	r->reader = dialect_reader_new(&r->call);
	if (length == 0)
		return stage_body_done(r);
	http_take_body(r->exchange, INT64_MAX); /* the ceiling is ours, to answer with all our fields */
	return flow_await(r, r->exchange);
}

/* ---- route ----------------------------------------------------------------------------------------------------------- */

static void judge_sharing(struct request *r)
{
	const struct share_input input = { .config = r->config,
					   .head = r->head,
					   .caller = &r->caller,
					   .call = &r->call,
					   .route = &r->route,
					   .body = &r->upload,
					   .digest = r->worker->digest,
					   .mem = r->mem };

	share_judge(&r->share, &input);
}

enum stage stage_route(struct request *r)
{
	enum refusal refusal = route_find(r->config, r->caller.tenant, &r->call, &r->route, &r->detail);

	if (refusal == REFUSAL_unknown_path)
		dialect_suggest(&r->call, &r->detail);
	if (refusal == REFUSAL_none)
		refusal = charge_reserve(r);
	if (refusal != REFUSAL_none)
		return flow_refuse(r, refusal);
	r->tried.session = session_of(request_tenant(r), r->head, &r->call);
	judge_sharing(r);
	if (!r->share.wanted && r->share.only_stored)
		return flow_refuse(r, REFUSAL_not_stored);
	return r->share.wanted ? STAGE_lookup : STAGE_choose;
}

/* The life of a request: the table of its stages, and what is heard from outside. Every path ends in settle, once.
 *
 * The stages stand in the order of the table in the files that it names; the engine that runs them is flow_engine.c. */
#include "svc/flow_internal.h"

#include "svc/reply.h"

/* clang-format off */
#define TO(name)                            (1u << STAGE_##name)
#define ROW(name, done, ours, edges, text)  [STAGE_##name] = { #name, stage_##name, done, ours, edges, text },

const struct flow_row flow_table[STAGE_end] = {
/*  stage     done                 ours   may go to                                                        what it does */
/* flow_arrival.c */
ROW(auth,     NULL,                true,  TO(models) | TO(body) | TO(route) | TO(settle),                  "find the tenant behind the key, and the API behind the path")
ROW(models,   NULL,                true,  TO(settle),                                                      "list the models that the caller may use")
ROW(body,     stage_body_done,     false, TO(route) | TO(settle),                                          "take the body in, and read what it asks for")
ROW(route,    NULL,                true,  TO(lookup) | TO(choose) | TO(settle),                            "find the model, guess the tokens, judge what may be shared")
/* flow_share.c */
ROW(lookup,   stage_lookup_done,   true,  TO(replay) | TO(follow) | TO(choose) | TO(quota) | TO(stream) | TO(settle), "is its answer stored, or on its way? else it leads")
ROW(replay,   stage_replay_done,   false, TO(choose) | TO(stream) | TO(settle),                            "give the stored answer")
ROW(follow,   stage_follow_done,   false, TO(replay) | TO(lookup) | TO(choose) | TO(quota) | TO(settle),   "read along as another's answer comes")
/* flow_choose.c */
ROW(choose,   stage_choose_done,   true,  TO(quota) | TO(choose) | TO(retry) | TO(lookup) | TO(stream) | TO(settle), "choose a target that is well; none: something stale, another model")
/* flow_quota.c */
ROW(quota,    stage_quota_done,    true,  TO(upstream) | TO(queue) | TO(choose) | TO(replay) | TO(follow) | TO(settle), "reserve in Redis, all limits or none")
ROW(queue,    stage_queue_done,    false, TO(upstream) | TO(choose) | TO(settle),                          "wait for its turn where a limit has no room")
/* flow_call.c */
ROW(upstream, stage_upstream_done, false, TO(stream) | TO(error) | TO(retry) | TO(settle),                 "send, and wait for the head of the answer")
/* flow_retry.c */
ROW(error,    stage_error_done,    false, TO(retry) | TO(stream) | TO(settle),                             "hear why the upstream refuses")
ROW(retry,    stage_retry_done,    false, TO(choose) | TO(lookup) | TO(stream) | TO(settle),               "again, elsewhere or after a while; or not")
/* flow_call.c */
ROW(stream,   stage_stream_done,   false, TO(settle),                                                      "pass the answer through, and meter it")
ROW(settle,   NULL,                true,  TO(end),                                                         "end the answer, give back what is held, count, log")
};
/* clang-format on */

void *flow_head(struct exchange *e, void *worker)
{
	struct request *r = request_new(worker, e);

	flow_start(r, STAGE_auth);
	return r;
}

void flow_writable(struct exchange *e, void *request)
{
	struct request *r = request_of(request);

	CHECK(e == r->exchange);
	r->blocked = false;
	if (flow_leads(r) && r->answered)
		flow_give_record(r);
	if (r->transfer != NULL) {
		if (flow_wants_more(r))
			pool_resume(r->transfer);
	} else if (r->waiting != NULL && r->answered) { /* what it is given is here already */
		flow_resume(r, r->waiting);
	}
}

void flow_broken(struct exchange *e, void *request, enum http_fault fault)
{
	struct request *r = request_of(request);

	if (fault != HTTP_FAULT_body_timeout)
		buf_append(&r->detail, slice_of(http_fault_text(fault)));
	r->refusal = fault == HTTP_FAULT_body_timeout ? REFUSAL_request_timeout : REFUSAL_invalid_request;
	flow_resume(r, e);
}

void flow_gone(struct exchange *e, void *request, enum http_gone gone)
{
	struct request *r = request_of(request);

	(void)gone; /* left or stalled: nobody is there */
	CHECK(e == r->exchange);
	r->exchange = NULL;
	if (!flow_carry_on(r, REFUSAL_client_gone))
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
	LIST_EACH (&w->requests, node, following)
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

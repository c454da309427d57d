/* The request's own memory and its one line in the log. What it holds of others (lease, transfer) the flow gives back before it dies. */
#include "svc/request.h"

#include "lib/clock.h"
#include "lib/log.h"

enum { REQUEST_MAGIC = 0x52455155, ARENA = 256 * 1024, BODY_PER_SLICE = 2048 };

/* Room for heads, names and the slices of the largest body in pieces of 4 KiB and more. */
static size_t arena_ceiling(const struct config *config)
{
	return ARENA + (size_t)config->max_body / BODY_PER_SLICE;
}

static void bury(void *arg)
{
	struct request *r = arg;

	request_free(&r);
}

struct request *request_new(struct worker *w, struct exchange *e)
{
	struct request *r = mem_new(sizeof(*r));

	r->magic = REQUEST_MAGIC;
	r->worker = w;
	r->generation = worker_hold(w);
	r->config = r->generation->config;
	r->mem = mem_arena(arena_ceiling(r->config));
	r->exchange = e;
	r->born = r->entered = clock_now();
	r->result.first_byte = -1;
	r->answer.content_length = -1;
	loop_deferred_init(&r->burial, bury, r);
	buf_init(&r->detail, REQUEST_DETAIL);
	upload_init(&r->upload, &w->shared->body_bytes, r->config->memory_limit / 4);
	worker_make_id(w, r->id, sizeof(r->id));
	list_push_back(&w->requests, &r->node);
	w->requests_count++;
	return r;
}

void request_free(struct request **handle)
{
	struct request *r = *handle;

	*handle = NULL;
	if (r == NULL)
		return;
	CHECK(r->magic == REQUEST_MAGIC && !r->running);
	CHECK(r->exchange == NULL && r->lease == NULL && r->transfer == NULL);
	list_remove(&r->node);
	r->worker->requests_count--;
	loop_undefer(&r->burial);
	loop_timer_free(&r->deadline);
	meter_free(&r->meter);
	dialect_reader_free(&r->reader);
	upload_free(&r->upload);
	buf_free(&r->detail);
	mem_arena_free(&r->mem);
	worker_release(&r->generation);
	r->magic = 0;
	mem_free(r);
}

struct request *request_of(void *arg)
{
	struct request *r = arg;

	CHECK(r != NULL && r->magic == REQUEST_MAGIC);
	return r;
}

const struct worker_upstream *request_upstream(const struct request *r)
{
	return r->route.upstream == NULL ? NULL : r->generation->upstreams[r->route.upstream - r->config->upstreams];
}

struct slice request_tenant(const struct request *r)
{
	return r->caller.tenant != NULL ? slice_of(r->caller.tenant->name) : SLICE("anonymous");
}

const struct limits *request_limits(const struct request *r, enum limiter_scope scope)
{
	switch (scope) {
	case LIMITER_TENANT:
		return r->caller.tenant != NULL ? &r->caller.tenant->limits : NULL;
	case LIMITER_MODEL:
		return r->route.configured != NULL ? &r->route.configured->limits : NULL;
	case LIMITER_UPSTREAM:
		return &r->route.upstream->limits;
	case LIMITER_SCOPES:
		break;
	}
	return NULL;
}

bool request_token_burst(const struct request *r, int64_t *burst)
{
	*burst = 0;
	for (int scope = 0; scope < LIMITER_SCOPES; scope++) {
		const struct limits *limits = request_limits(r, (enum limiter_scope)scope);
		for (int kind = 0; limits != NULL && kind < LIMIT_COUNT; kind++) {
			const struct limit *limit = &limits->of[kind];
			int64_t most = limit->strict ? limit->count : limit->burst;
			if (limit->count == 0 || limit_unit_of((enum limit_kind)kind) != LIMIT_TOKENS)
				continue;
			if (*burst == 0 || most < *burst)
				*burst = most;
		}
	}
	return *burst > 0;
}

/* ---- what came of it ------------------------------------------------------------------------------------------------ */

bool request_never_sent(const struct request *r)
{
	if (r->attempts == 0 || r->unsent)
		return true;
	return r->has_result && (r->result.outcome == POOL_NO_SLOT || r->result.outcome == POOL_CONNECT_FAILED ||
				 r->result.outcome == POOL_TLS_FAILED || r->result.outcome == POOL_RESET_UNSENT);
}

/* The closed list of refusals, and two words for what the upstream itself said. */
const char *request_outcome(const struct request *r)
{
	if (r->refusal != REFUSAL_none)
		return refusal_code(r->refusal);
	return r->status >= 400 || r->metered.error_in_band ? "upstream_error" : "ok";
}

static struct slice upstream_name(const struct request *r)
{
	return r->route.upstream != NULL ? slice_of(r->route.upstream->name) : SLICE_NONE;
}

static void count_tokens(const struct request *r)
{
	static const struct slice kinds[] = { { "input", 5 }, { "cached", 6 }, { "output", 6 } };
	int64_t counts[] = { r->metered.usage.input, r->metered.usage.cached, r->metered.usage.output };

	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++) {
		struct slice labels[] = { request_tenant(r), r->route.model, kinds[i] };
		if (counts[i] > 0)
			metrics_add(r->worker->metrics, METRIC_tokens_total, labels, (double)counts[i]);
	}
}

static void observe(const struct request *r, const struct worker_upstream *u, int64_t now)
{
	metrics_observe(u->seconds.request, now - r->born);
	metrics_observe(u->seconds.overhead, r->took.ours);
	if (r->took.first_byte > 0)
		metrics_observe(u->seconds.first_byte, r->took.first_byte);
	if (r->has_result)
		metrics_observe(u->seconds.pool_wait, r->result.waited);
	if (r->has_result && r->result.handshake > 0)
		metrics_observe(u->seconds.pool_handshake, r->result.handshake);
}

static void count(const struct request *r, int64_t now)
{
	struct metrics *m = r->worker->metrics;
	char memory[12];
	struct buf text;
	struct slice upstream = upstream_name(r), status, labels[5];

	buf_wrap(&text, memory, sizeof(memory), 0);
	buf_append_int(&text, r->status);
	status = buf_slice(&text);
	labels[0] = request_tenant(r);
	labels[1] = r->route.model;
	labels[2] = upstream;
	labels[3] = slice_of(request_outcome(r));
	labels[4] = status;
	metrics_add(m, METRIC_requests_total, labels, 1);
	count_tokens(r);
	if (request_upstream(r) != NULL)
		observe(r, request_upstream(r), now);
}

static void log_not_empty(struct log_line *line, const char *name, struct slice value)
{
	if (value.len > 0)
		log_text(line, name, value);
}

static void log_answer(struct log_line *line, const struct request *r)
{
	log_text(line, "outcome", slice_of(request_outcome(r)));
	log_int(line, "status", r->status);
	log_not_empty(line, "detail", buf_slice(&r->detail));
	if (r->metered.unread != NULL)
		log_text(line, "unmetered", slice_of(r->metered.unread));
	if (r->has_result && r->result.outcome != POOL_DONE) {
		log_text(line, "upstream_outcome", slice_of(pool_outcome_name(r->result.outcome)));
		log_not_empty(line, "upstream_detail", slice_of(r->result.detail));
	}
	log_int(line, "attempts", r->attempts);
	log_int(line, "request_bytes", (int64_t)r->upload.length);
	log_int(line, "answer_bytes", (int64_t)r->sent);
	if (r->used > 0) {
		log_int(line, "tokens", r->used);
		log_int(line, "tokens_reserved", r->reserved.input + r->reserved.output);
	}
}

static void say(const struct request *r, int64_t now)
{
	struct log_line line;

	if (!log_wants(r->worker->log, LOG_INFO))
		return;
	log_begin(&line, r->worker->log, LOG_INFO, "request");
	log_text(&line, "id", r->public_id.len > 0 ? r->public_id : slice_of(r->id));
	log_not_empty(&line, "client", r->address);
	log_not_empty(&line, "method", r->method);
	log_not_empty(&line, "path", r->path);
	log_text(&line, "tenant", request_tenant(r));
	log_not_empty(&line, "model", r->route.model);
	log_not_empty(&line, "upstream", upstream_name(r));
	log_answer(&line, r);
	log_milliseconds(&line, "total_ms", now - r->born);
	log_milliseconds(&line, "ours_ms", r->took.ours);
	log_milliseconds(&line, "quota_ms", r->took.quota);
	if (r->took.first_byte > 0)
		log_milliseconds(&line, "first_byte_ms", r->took.first_byte);
	log_end_in(&line, r->worker->lines);
	loop_defer(r->worker->loop, &r->worker->flush);
}

void request_report(const struct request *r)
{
	int64_t now = clock_now();

	count(r, now);
	say(r, now);
}

static void put_member(struct buf *out, const char *name, struct slice value)
{
	buf_format(out, ",\"%s\":", name);
	buf_append_json(out, value);
}

void request_write(const struct request *r, struct buf *out)
{
	int64_t now = clock_now();

	buf_append(out, SLICE("{\"id\":"));
	buf_append_json(out, r->public_id);
	put_member(out, "stage", slice_of(r->stage_name));
	buf_format(out, ",\"age_ms\":%lld,\"stage_age_ms\":%lld", (long long)((now - r->born) / CLOCK_MILLISECOND),
		   (long long)((now - r->entered) / CLOCK_MILLISECOND));
	put_member(out, "tenant", request_tenant(r));
	put_member(out, "model", r->route.model);
	put_member(out, "upstream", upstream_name(r));
	put_member(out, "client", r->address);
	put_member(out, "path", r->path);
	buf_append_byte(out, '}');
}

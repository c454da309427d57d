/* The request's own memory and its one line in the log. What it holds of others (lease, transfer) the flow gives back before it dies. */
#include "svc/request.h"

#include "lib/clock.h"
#include "lib/log.h"

#define REDIS_LEAST (5 * CLOCK_MILLISECOND)
enum { REQUEST_MAGIC = 0x52455155, ARENA = 256 * 1024, BODY_PER_SLICE = 2048 };
/* What one more attempt takes, its head copied included; and the most that there are: 20, and one of each of 16 fallbacks. */
enum { ATTEMPT = 64 * 1024, ATTEMPTS_MOST = 36 };

/* Room for the client's head and names, and in each attempt for its heads and the slices of the largest body in pieces of 4 KiB and more. It is a bound: what is
 * taken is what they need. */
static size_t arena_ceiling(const struct config *config)
{
	return ARENA + ATTEMPTS_MOST * (ATTEMPT + (size_t)config->max_body / BODY_PER_SLICE);
}

static void bury(void *arg)
{
	struct request *r = arg;

	request_free(&r);
}

static struct request *make(struct worker *w, struct worker_generation *generation, struct mem *mem)
{
	struct request *r = mem_new(sizeof(*r));

	r->magic = REQUEST_MAGIC;
	r->worker = w;
	r->generation = generation;
	r->config = r->generation->config;
	r->mem = mem;
	r->born = r->entered = clock_now();
	r->result.first_byte = -1;
	r->answer.content_length = -1;
	loop_deferred_init(&r->burial, bury, r);
	buf_init(&r->detail, REQUEST_DETAIL);
	buf_init(&r->tried.log, REQUEST_DETAIL);
	buf_init(&r->attempt.error, REQUEST_ERROR);
	r->tried.random = worker_random(w);
	r->tried.retry_after = -1;
	upload_init(&r->upload, &w->shared->body_bytes, r->config->memory_limit / 4);
	worker_make_id(w, r->id, sizeof(r->id));
	list_push_back(&w->requests, &r->node);
	w->requests_count++;
	return r;
}

struct request *request_new(struct worker *w, struct exchange *e)
{
	struct worker_generation *generation = worker_hold(w);
	struct request *r = make(w, generation, mem_arena(arena_ceiling(generation->config)));

	r->exchange = e;
	r->head = http_head_of(e);
	return r;
}

/* What the first has learnt of the request. Its texts stand in the arena or in the configuration. */
struct request *request_twin(struct request *r)
{
	struct request *twin = make(r->worker, worker_share(r->generation), mem_arena_hold(r->mem));

	twin->head = r->head;
	twin->head_kept = r->head_kept;
	twin->public_id = slice_of(twin->id);
	twin->method = r->method;
	twin->path = r->path;
	twin->caller = r->caller;
	twin->call = r->call;
	twin->route = r->route;
	twin->reserved = r->reserved;
	twin->asks_usage = r->asks_usage;
	twin->share = r->share;
	twin->tried.session = r->tried.session;
	twin->shared.verdict = FLIGHT_LEAD;
	twin->shared.looked = twin->shared.refresh = twin->shared.charged = true;
	twin->upload = r->upload;
	upload_init(&r->upload, twin->upload.held, twin->upload.ceiling);
	r->upload.length = twin->upload.length; /* for the log */
	twin->seat = r->seat;
	r->seat = NULL;
	flight_hand_over(twin->seat, twin);
	return twin;
}

bool request_keep_head(struct request *r)
{
	struct http_head *copy = mem_take(r->mem, sizeof(*copy));
	struct http_field *fields = mem_take(r->mem, (r->head->fields_count + 1) * sizeof(*fields));

	if (copy == NULL || fields == NULL)
		return false;
	*copy = *r->head;
	copy->target = copy->host = SLICE_NONE; /* nobody asks for them any more */
	copy->method_name = r->method;
	for (size_t i = 0; i < r->head->fields_count; i++) {
		fields[i].name = mem_copy(r->mem, r->head->fields[i].name);
		fields[i].value = mem_copy(r->mem, r->head->fields[i].value);
		if (fields[i].name.data == NULL || fields[i].value.data == NULL)
			return false;
	}
	copy->fields = fields;
	r->head = copy;
	r->head_kept = true;
	return true;
}

void request_free(struct request **handle)
{
	struct request *r = *handle;

	*handle = NULL;
	if (r == NULL)
		return;
	CHECK(r->magic == REQUEST_MAGIC && !r->running);
	CHECK(r->exchange == NULL && r->lease == NULL && r->transfer == NULL && r->seat == NULL);
	CHECK(r->place == NULL && r->probe == NULL && r->attempt.breaker == NULL && r->attempt.chosen == NULL);
	list_remove(&r->node);
	r->worker->requests_count--;
	loop_undefer(&r->burial);
	loop_timer_free(&r->deadline);
	loop_timer_free(&r->tried.timer);
	meter_free(&r->meter);
	dialect_reader_free(&r->reader);
	answer_release(&r->answer_held);
	upload_free(&r->upload);
	buf_free(&r->detail);
	buf_free(&r->tried.log);
	buf_free(&r->attempt.error);
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

struct worker_upstream *request_upstream(const struct request *r)
{
	return r->route.upstream == NULL ? NULL : r->generation->upstreams[r->route.upstream - r->config->upstreams];
}

struct worker_endpoint *request_endpoint(const struct request *r)
{
	return &request_upstream(r)->endpoints[r->route.endpoint];
}

struct breaker *request_breaker(const struct request *r)
{
	return worker_breaker(r->worker, request_upstream(r), r->route.upstream, r->route.endpoint,
			      request_target_model(r));
}

struct slice request_target_model(const struct request *r)
{
	return r->route.upstream_model.len > 0 ? r->route.upstream_model : r->route.model;
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

int64_t request_redis_left(const struct request *r)
{
	int64_t left = r->config->redis.timeout - r->took.cache - r->took.quota;

	return left > REDIS_LEAST ? left : REDIS_LEAST;
}

int64_t request_patience(const struct request *r)
{
	int64_t left = r->config->queue.max_wait - r->took.queue;

	if (r->queue.since > 0)
		left -= clock_now() - r->queue.since;
	return left > 0 ? left : 0;
}

int64_t request_may_wait(const struct request *r)
{
	int64_t left = request_patience(r), own = r->caller.deadline - (clock_now() - r->born);

	if (!r->deadline.armed || own > left)
		return left;
	return own > 0 ? own : 0;
}

/* ---- what came of it ------------------------------------------------------------------------------------------------ */

bool request_fell_back(const struct request *r)
{
	return r->route.fallbacks > 0;
}

bool request_never_sent(const struct request *r)
{
	if (r->attempt.began == 0 || r->unsent)
		return true;
	return r->has_result && (r->result.outcome == POOL_NO_SLOT || r->result.outcome == POOL_CONNECT_FAILED ||
				 r->result.outcome == POOL_TLS_FAILED || r->result.outcome == POOL_RESET_UNSENT);
}

/* The closed list of refusals, and two words for what the upstream itself said. */
const char *request_outcome(const struct request *r)
{
	if (r->left != REFUSAL_none)
		return refusal_code(r->left);
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
	if (r->took.queue > 0)
		metrics_observe(r->worker->queue_wait_seconds[r->caller.lane], r->took.queue);
	if (r->has_result || r->result.waited > 0) /* who has left, too */
		metrics_observe(u->seconds.pool_wait, r->result.waited);
	if (r->has_result && r->result.handshake > 0)
		metrics_observe(u->seconds.pool_handshake, r->result.handshake);
}

static int status_of(const struct request *r)
{
	return r->left != REFUSAL_none ? refusal_status(r->left) : r->status;
}

/* What the look-up came to; NULL: there was none, or it did not come so far. */
static const char *found(const struct request *r)
{
	if (!r->share.wanted || !r->shared.looked || r->shared.refresh)
		return NULL;
	switch (r->shared.verdict) {
	case FLIGHT_HIT:
	case FLIGHT_STALE:
	case FLIGHT_REFRESH:
		if (r->shared.failure != REFUSAL_none)
			return "stale_error";
		return r->shared.local ? "local" : r->shared.verdict == FLIGHT_HIT ? "hit" : "stale";
	case FLIGHT_LEAD:
		return "miss";
	case FLIGHT_FOLLOW:
	case FLIGHT_DENIED:
		return "collapsed";
	case FLIGHT_PASS:
		return "pass";
	case FLIGHT_NONE:
		break;
	}
	return "none";
}

static void count_shared(const struct request *r)
{
	const char *result = found(r);
	struct slice label = slice_of(result), where = r->shared.fleet ? SLICE("fleet") : SLICE("worker");

	if (result == NULL)
		return;
	metrics_add(r->worker->metrics, METRIC_cache_total, &label, 1);
	if (r->shared.verdict == FLIGHT_FOLLOW)
		metrics_add(r->worker->metrics, METRIC_coalesced_total, &where, 1);
}

static void count(const struct request *r, int64_t now)
{
	struct metrics *m = r->worker->metrics;
	char memory[12];
	struct buf text;
	struct slice upstream = upstream_name(r), status, labels[5];

	buf_wrap(&text, memory, sizeof(memory), 0);
	buf_append_int(&text, status_of(r));
	status = buf_slice(&text);
	labels[0] = request_tenant(r);
	labels[1] = r->route.model;
	labels[2] = upstream;
	labels[3] = slice_of(request_outcome(r));
	labels[4] = status;
	if (r->shared.refresh)
		metrics_add(m, METRIC_refreshes_total, &labels[3], 1);
	else
		metrics_add(m, METRIC_requests_total, labels, 1);
	count_tokens(r);
	count_shared(r);
	if (request_upstream(r) != NULL)
		observe(r, request_upstream(r), now);
}

static void log_not_empty(struct log_line *line, const char *name, struct slice value)
{
	if (value.len > 0)
		log_text(line, name, value);
}

/* The place that is told of; another one may have been chosen since, and not been called. */
static bool was_called(const struct request *r)
{
	return r->attempts > 0 && route_is_same_place(&r->route, &r->attempt.route);
}

static void log_answer(struct log_line *line, const struct request *r)
{
	log_text(line, "outcome", slice_of(request_outcome(r)));
	log_int(line, "status", status_of(r));
	if (found(r) != NULL)
		log_text(line, "cache", slice_of(found(r)));
	if (r->shared.verdict == FLIGHT_FOLLOW && r->shared.looked)
		log_text(line, "collapsed", r->shared.fleet ? SLICE("fleet") : SLICE("worker"));
	log_not_empty(line, "detail", buf_slice(&r->detail));
	if (r->metered.unread != NULL)
		log_text(line, "unmetered", slice_of(r->metered.unread));
	if (r->has_result && r->result.outcome != POOL_DONE) {
		log_text(line, "upstream_outcome", slice_of(pool_outcome_name(r->result.outcome)));
		log_not_empty(line, "upstream_detail", slice_of(r->result.detail));
	}
	log_int(line, "attempts", r->attempts);
	log_not_empty(line, "failed", buf_slice(&r->tried.log));
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
	log_begin(&line, r->worker->log, LOG_INFO, r->shared.refresh ? "refresh" : "request");
	log_text(&line, "id", r->public_id.len > 0 ? r->public_id : slice_of(r->id));
	log_not_empty(&line, "client", r->address);
	log_not_empty(&line, "method", r->method);
	log_not_empty(&line, "path", r->path);
	log_text(&line, "tenant", request_tenant(r));
	log_not_empty(&line, "model", r->route.model);
	if (request_fell_back(r))
		log_text(&line, "asked_model", slice_of(r->route.first->name));
	log_not_empty(&line, "upstream", upstream_name(r));
	if (was_called(r)) {
		log_not_empty(&line, "upstream_model", r->route.upstream_model);
		log_not_empty(&line, "region", slice_of(r->route.upstream->endpoints[r->route.endpoint].region));
	}
	log_answer(&line, r);
	log_milliseconds(&line, "total_ms", now - r->born);
	log_milliseconds(&line, "ours_ms", r->took.ours);
	if (r->took.cache > 0)
		log_milliseconds(&line, "cache_ms", r->took.cache);
	log_milliseconds(&line, "quota_ms", r->took.quota);
	if (r->took.queue > 0)
		log_milliseconds(&line, "queue_ms", r->took.queue);
	if (r->took.pool > 0)
		log_milliseconds(&line, "pool_ms", r->took.pool);
	if (r->took.retry > 0)
		log_milliseconds(&line, "retry_ms", r->took.retry);
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
	if (r->transfer != NULL && pool_waited(r->transfer) < 0)
		put_member(out, "waits_for", SLICE("connection"));
	put_member(out, "tenant", request_tenant(r));
	put_member(out, "model", r->route.model);
	put_member(out, "upstream", upstream_name(r));
	put_member(out, "client", r->address);
	put_member(out, "path", r->path);
	buf_append_byte(out, '}');
}

/* Answers are made of lines on the stack: http_answer copies what it is given, so nothing here outlives its function.
 *
 * RateLimit fields (draft-ietf-httpapi-ratelimit-headers-10) tell the tenant's own limits; x-ratelimit-* tell the scarcest of each unit in the way of
 * OpenAI, whose clients read them. */
#include "svc/reply.h"

#include "lib/clock.h"
#include "lib/text.h"

/* A model in a list: its name twice, each byte written as up to six, and the words around it. */
enum { LINES_TEXT = 2048, ERROR_BODY = 8 * 1024, MODEL_MOST = 2 * 6 * DIALECT_MODEL_MOST + 512 };

/* Fields whose values stand one behind the other in `text`. Numbers are put by hand: an answer has a dozen of them, and printf costs as much as a system call
 * for each few. */
struct lines {
	struct http_field fields[REPLY_FIELDS];
	size_t count;
	struct buf text;
	char memory[LINES_TEXT];
};

static void lines_init(struct lines *l)
{
	l->count = 0;
	buf_wrap(&l->text, l->memory, sizeof(l->memory), 0);
}

/* What has been put since the field before is this one's value. One that found no room is left out: all of them are hints. */
static void add(struct lines *l, struct slice name, size_t start)
{
	if (l->text.overflowed || l->count == REPLY_FIELDS) {
		l->text.len = start;
		l->text.overflowed = false;
		return;
	}
	l->fields[l->count++] = (struct http_field){ name, slice_make(l->text.data + start, l->text.len - start) };
}

static void add_text(struct lines *l, struct slice name, struct slice value)
{
	size_t start = l->text.len;

	buf_append(&l->text, value);
	add(l, name, start);
}

static void add_int(struct lines *l, struct slice name, int64_t value)
{
	size_t start = l->text.len;

	buf_append_int(&l->text, value);
	add(l, name, start);
}

/* ---- limits ---------------------------------------------------------------------------------------------------------- */

static int64_t whole_seconds(int64_t microseconds)
{
	return (microseconds + CLOCK_SECOND - 1) / CLOCK_SECOND;
}

static bool is_told(const struct request *r, const struct limits *limits, int kind)
{
	return limits->of[kind].count > 0 && r->quota.left[kind].known && limit_period((enum limit_kind)kind) > 0;
}

/* "rpm";q=600;w=60, "tpm";q=200000;qu="sluice-tokens";w=60 */
static void put_policy(struct buf *out, enum limit_kind kind, const struct limit *limit)
{
	buf_append_byte(out, '"');
	buf_append(out, slice_of(limit_name(kind)));
	buf_append(out, SLICE("\";q="));
	buf_append_int(out, limit->count);
	if (limit_unit_of(kind) == LIMIT_TOKENS)
		buf_append(out, SLICE(";qu=\"sluice-tokens\""));
	buf_append(out, SLICE(";w="));
	buf_append_int(out, limit_period(kind) / CLOCK_SECOND);
}

/* "rpm";r=412;t=19 */
static void put_state(struct buf *out, enum limit_kind kind, const struct limiter_left *left)
{
	buf_append_byte(out, '"');
	buf_append(out, slice_of(limit_name(kind)));
	buf_append(out, SLICE("\";r="));
	buf_append_int(out, left->remaining);
	buf_append(out, SLICE(";t="));
	buf_append_int(out, whole_seconds(left->reset));
}

static void add_rate_limit(struct lines *l, const struct request *r, const struct limits *limits)
{
	for (int state = 0; state < 2; state++) {
		size_t start = l->text.len;
		for (int i = 0; i < LIMIT_COUNT; i++) {
			if (!is_told(r, limits, i))
				continue;
			if (l->text.len > start)
				buf_append(&l->text, SLICE(", "));
			if (state)
				put_state(&l->text, (enum limit_kind)i, &r->quota.left[i]);
			else
				put_policy(&l->text, (enum limit_kind)i, &limits->of[i]);
		}
		if (l->text.len == start)
			return;
		add(l, state ? SLICE("RateLimit") : SLICE("RateLimit-Policy"), start);
	}
}

/* As OpenAI writes a time: 17ms, 1.500s, 6m0s. */
static void put_reset(struct buf *out, int64_t microseconds)
{
	int64_t ms = (microseconds + CLOCK_MILLISECOND - 1) / CLOCK_MILLISECOND, seconds = whole_seconds(microseconds);

	if (ms < 1000) {
		buf_append_int(out, ms);
		buf_append(out, SLICE("ms"));
		return;
	}
	if (seconds < 60) {
		buf_format(out, "%d.%03ds", (int)(ms / 1000), (int)(ms % 1000));
		return;
	}
	if (seconds >= 3600) {
		buf_append_int(out, seconds / 3600);
		buf_append_byte(out, 'h');
	}
	buf_append_int(out, seconds / 60 % 60);
	buf_append_byte(out, 'm');
	buf_append_int(out, seconds % 60);
	buf_append_byte(out, 's');
}

static void add_openai_limit(struct lines *l, const struct request *r, const struct limits *limits,
			     enum limit_unit unit, const struct slice names[3])
{
	int scarcest = -1;
	size_t start;

	for (int i = 0; i < LIMIT_COUNT; i++)
		if (limits->of[i].count > 0 && r->quota.left[i].known && limit_unit_of((enum limit_kind)i) == unit &&
		    (scarcest < 0 || r->quota.left[i].remaining < r->quota.left[scarcest].remaining))
			scarcest = i;
	if (scarcest < 0)
		return;
	add_int(l, names[0], limits->of[scarcest].count);
	add_int(l, names[1], r->quota.left[scarcest].remaining);
	start = l->text.len;
	put_reset(&l->text, r->quota.left[scarcest].reset);
	add(l, names[2], start);
}

static void add_limits(struct lines *l, const struct request *r)
{
	static const struct slice requests[] = { { "x-ratelimit-limit-requests", 26 },
						 { "x-ratelimit-remaining-requests", 30 },
						 { "x-ratelimit-reset-requests", 26 } };
	static const struct slice tokens[] = { { "x-ratelimit-limit-tokens", 24 },
					       { "x-ratelimit-remaining-tokens", 28 },
					       { "x-ratelimit-reset-tokens", 24 } };

	if (r->caller.tenant == NULL)
		return;
	add_rate_limit(l, r, &r->caller.tenant->limits);
	add_openai_limit(l, r, &r->caller.tenant->limits, LIMIT_REQUESTS, requests);
	add_openai_limit(l, r, &r->caller.tenant->limits, LIMIT_TOKENS, tokens);
}

/* ---- the fields of every answer ----------------------------------------------------------------------------------------- */

/* "name;dur=1.23", in milliseconds; nothing for what did not happen. */
static void put_timing(struct buf *out, size_t start, struct slice name, int64_t microseconds)
{
	int64_t hundredths = microseconds / (CLOCK_MILLISECOND / 100);

	if (microseconds <= 0)
		return;
	if (out->len > start)
		buf_append(out, SLICE(", "));
	buf_append(out, name);
	buf_append(out, SLICE(";dur="));
	buf_append_int(out, hundredths / 100);
	buf_append_byte(out, '.');
	buf_append_byte(out, (char)('0' + hundredths / 10 % 10));
	buf_append_byte(out, (char)('0' + hundredths % 10));
}

/* Server-Timing (W3C): where the time went until now. */
static void add_common(struct lines *l, const struct request *r)
{
	size_t start;

	add_text(l, SLICE("X-Request-Id"), r->public_id);
	start = l->text.len;
	put_timing(&l->text, start, SLICE("cache"), r->took.cache);
	put_timing(&l->text, start, SLICE("quota"), r->took.quota);
	put_timing(&l->text, start, SLICE("queue"), r->took.queue);
	put_timing(&l->text, start, SLICE("retry"), r->took.retry);
	put_timing(&l->text, start, SLICE("pool"), r->took.pool);
	put_timing(&l->text, start, SLICE("upstream"), r->took.upstream);
	if (l->text.len > start)
		add(l, SLICE("Server-Timing"), start);
	if (r->answer_held == NULL || r->refusal != REFUSAL_none) /* a hit may be refused, where hits count */
		add_limits(l, r);
}

/* Who is told that an answer is larger than what is kept, or private, leads no more. */
static bool will_store(const struct request *r)
{
	return r->share.store && !request_fell_back(r) && flight_leads(r->seat) &&
	       share_may_keep(&r->call, r->status, &r->answer) && !r->worker->answers_full;
}

/* Cache-Status (RFC 9211): "sluice; hit; ttl=376", "sluice; fwd=uri-miss; stored", "sluice; fwd=uri-miss; collapsed", "sluice; fwd=stale; fwd-status=503;
 * detail=SIE". `stored` says what will be done if the answer is whole: its head goes out before that is known. */
static void put_cache_status(struct buf *out, const struct request *r)
{
	int64_t left = r->shared.times.fresh - clock_now();

	buf_append(out, SLICE("sluice"));
	if (r->answer_held != NULL && r->shared.failure != REFUSAL_none) {
		buf_append(out, SLICE("; fwd=stale"));
		if (r->shared.failed_status > 0) {
			buf_append(out, SLICE("; fwd-status="));
			buf_append_int(out, r->shared.failed_status);
		}
		buf_append(out, SLICE("; detail=SIE"));
	} else if (r->answer_held != NULL) {
		buf_append(out, SLICE("; hit; ttl="));
		buf_append_int(out, left < 0 ? -whole_seconds(-left) : left / CLOCK_SECOND);
	} else if (r->seat == NULL) {
		buf_append(out, SLICE("; fwd=bypass"));
	} else {
		buf_append(out, r->share.no_cache ? SLICE("; fwd=request") : SLICE("; fwd=uri-miss"));
		if (r->shared.verdict == FLIGHT_FOLLOW)
			buf_append(out, SLICE("; collapsed"));
		else if (will_store(r))
			buf_append(out, SLICE("; stored"));
	}
}

static void put_key(struct buf *out, const struct request *r)
{
	char hex[2 * ANSWER_KEY];
	size_t length = text_hex(hex, r->share.ask.key, ANSWER_KEY);

	buf_append(out, SLICE("; key=\""));
	buf_append(out, slice_make(hex, length));
	buf_append(out, SLICE("\""));
}

/* The key is what POST /cache/purge takes. */
static void add_cache(struct lines *l, const struct request *r)
{
	size_t start = l->text.len;

	if (r->config->cache.when == CONFIG_WHEN_NEVER && r->config->coalesce.when == CONFIG_WHEN_NEVER)
		return;
	put_cache_status(&l->text, r);
	if (r->share.wanted)
		put_key(&l->text, r);
	add(l, SLICE("Cache-Status"), start);
}

/* How old it was when it came here: there is one Age, and it is ours. */
static int64_t take_age(struct fields_answer *a)
{
	int64_t age = 0;
	size_t kept = 0;

	for (size_t i = 0; i < a->count; i++) {
		int64_t each = 0;
		if (slice_equal_nocase(a->fields[i].name, SLICE("age")))
			each = fields_age(a->fields[i].value);
		else
			a->fields[kept++] = a->fields[i];
		age = each > age ? each : age;
	}
	a->count = kept;
	return age;
}

/* Of what is stored alone. It may have been made by a clock that has been set back since. */
static void add_age(struct lines *l, struct request *r)
{
	int64_t here = clock_now() - r->shared.times.born;

	if (r->answer_held != NULL)
		add_int(l, SLICE("Age"), (take_age(&r->answer) + (here > 0 ? here : 0)) / CLOCK_SECOND);
}

/* The error types of RFC 9209 section 2.3; NULL: no other server was in play. */
static const char *proxy_error(const struct request *r)
{
	switch (r->refusal) {
	case REFUSAL_breaker_open:
	case REFUSAL_upstream_limited:
		return "destination_unavailable";
	case REFUSAL_upstream_unreachable:
		return r->result.outcome == POOL_TLS_FAILED ? "tls_protocol_error" : "destination_unavailable";
	case REFUSAL_upstream_busy:
		return "connection_limit_reached";
	case REFUSAL_upstream_broken:
		return "http_response_incomplete";
	case REFUSAL_upstream_invalid:
		return "http_protocol_error";
	case REFUSAL_upstream_timeout:
		return "http_response_timeout";
	default:
		return NULL;
	}
}

/* When the same request may come again: the limiter knows exactly; where Redis, the provider or this instance fails, soon. */
static int64_t retry_after(const struct request *r)
{
	switch (r->refusal) {
	case REFUSAL_rate_limited:
	case REFUSAL_too_many_at_once:
	case REFUSAL_queue_full:
		return r->quota.wait;
	case REFUSAL_upstream_limited:
	case REFUSAL_breaker_open:
		return r->tried.wait > 0 ? r->tried.wait : CLOCK_SECOND;
	case REFUSAL_quota_unavailable:
	case REFUSAL_overloaded:
	case REFUSAL_upstream_busy:
	case REFUSAL_draining:
		return CLOCK_SECOND;
	default:
		return 0;
	}
}

static void add_refusal(struct lines *l, const struct request *r)
{
	const char *error = proxy_error(r);
	int64_t wait = retry_after(r);

	add_text(l, SLICE("x-should-retry"), refusal_may_retry(r->refusal) ? SLICE("true") : SLICE("false"));
	if (wait > 0) {
		add_int(l, SLICE("Retry-After"), whole_seconds(wait));
		add_int(l, SLICE("retry-after-ms"), (wait + CLOCK_MILLISECOND - 1) / CLOCK_MILLISECOND);
	}
	if (error != NULL) {
		size_t start = l->text.len;
		buf_append(&l->text, SLICE("sluice; error="));
		buf_append(&l->text, slice_of(error));
		add(l, SLICE("Proxy-Status"), start);
	}
	if (r->refusal == REFUSAL_invalid_api_key)
		add_text(l, SLICE("WWW-Authenticate"), SLICE("Bearer realm=\"sluice\""));
}

/* ---- answers --------------------------------------------------------------------------------------------------------- */

static void send_whole(struct request *r, struct lines *l, int status, struct slice content_type, struct slice body)
{
	struct http_answer answer = { .status = status, .fields = l->fields, .content_length = (int64_t)body.len };

	add_text(l, SLICE("Content-Type"), content_type);
	if (r->call.dialect == DIALECT_anthropic) /* the field in which its SDKs look */
		add_text(l, SLICE("request-id"), r->public_id);
	answer.fields_count = l->count;
	r->status = status;
	r->answered = true;
	http_answer(r->exchange, &answer);
	(void)reply_write(r, body);
}

/* What a 405 must name (RFC 9110 section 15.5.6). */
static const char *allowed_methods(const struct request *r)
{
	if (r->call.dialect == DIALECT_http)
		return "GET, HEAD, POST, PUT, PATCH, DELETE";
	return r->call.operation == OPERATION_list_models || r->call.operation == OPERATION_get_model ? "GET, HEAD"
												      : "POST";
}

void reply_refusal(struct request *r)
{
	struct lines l;
	struct buf body;
	const char *type;

	lines_init(&l);
	buf_init(&body, ERROR_BODY);
	type = refusal_write(r->refusal, r->call.dialect, buf_slice(&r->detail), r->public_id, &body);
	add_common(&l, r);
	add_refusal(&l, r);
	if (r->refusal == REFUSAL_method_not_allowed)
		add_text(&l, SLICE("Allow"), slice_of(allowed_methods(r)));
	send_whole(r, &l, refusal_status(r->refusal), slice_of(type), buf_slice(&body));
	buf_free(&body);
	http_end(r->exchange, true);
	r->exchange = NULL;
}

static void write_models(const struct request *r, struct buf *body)
{
	struct slice *names = mem_new_array(r->config->models_count, sizeof(*names));
	size_t count = route_models(r->config, r->caller.tenant, r->call.dialect, names);

	dialect_write_models(&r->call, names, count, body);
	mem_free(names);
}

static enum refusal write_model(struct request *r, struct buf *body)
{
	if (!route_lists(r->config, r->caller.tenant, r->call.dialect, r->call.model)) {
		buf_format(&r->detail, "The model \"%.*s\" is not among those that this key may use.",
			   SLICE_ARGS(r->call.model));
		return REFUSAL_model_not_found;
	}
	dialect_write_model(&r->call, r->call.model, body);
	return REFUSAL_none;
}

void reply_models(struct request *r)
{
	struct lines l;
	struct buf body;

	lines_init(&l);
	buf_init(&body, MODEL_MOST * (r->config->models_count + 1));
	if (r->call.operation == OPERATION_list_models)
		write_models(r, &body);
	else
		r->refusal = write_model(r, &body);
	if (r->refusal == REFUSAL_none && body.overflowed)
		r->refusal = REFUSAL_internal;
	if (r->refusal != REFUSAL_none) {
		reply_refusal(r);
	} else {
		add_common(&l, r);
		send_whole(r, &l, 200, SLICE("application/json"), buf_slice(&body));
	}
	buf_free(&body);
}

/* Not the first call, or not the model that was asked for (RFC 9209 section 2.1): what it took to have an answer at all. */
static void add_degraded(struct lines *l, const struct request *r)
{
	size_t start = l->text.len;

	if (r->answer_held != NULL || r->attempts == 0 || (r->attempts == 1 && !request_fell_back(r)))
		return;
	buf_append(&l->text, SLICE("sluice; next-hop=\""));
	buf_append(&l->text, slice_of(r->route.upstream->endpoints[r->route.endpoint].origin));
	buf_append(&l->text, SLICE("\"; details=\"attempt "));
	buf_append_int(&l->text, r->attempts);
	buf_append(&l->text, request_fell_back(r) ? SLICE(", fallback model\"") : SLICE("\""));
	add(l, SLICE("Proxy-Status"), start);
}

void reply_note_model(struct request *r)
{
	struct fields_answer *a = &r->answer;

	if (request_fell_back(r) && a->count < a->capacity)
		a->fields[a->count++] = (struct http_field){ SLICE("X-Sluice-Model"), r->route.model };
}

void reply_head(struct request *r, int64_t length)
{
	struct fields_answer *a = &r->answer;
	struct http_answer answer = { .status = r->status, .fields = a->fields };
	struct lines l;

	lines_init(&l);
	add_common(&l, r);
	add_cache(&l, r);
	add_age(&l, r);
	add_degraded(&l, r);
	for (size_t i = 0; i < l.count && a->count < a->capacity; i++)
		a->fields[a->count++] = l.fields[i];
	answer.fields_count = a->count;
	answer.content_length = length;
	r->answered = true;
	http_answer(r->exchange, &answer);
}

bool reply_write(struct request *r, struct slice bytes)
{
	r->sent += bytes.len;
	return http_write(r->exchange, bytes);
}

/* Who reads along has no meter: an event ends in a blank line (WHATWG HTML section 9.2.5), which its last bytes tell. */
static bool is_between_events(const struct request *r)
{
	struct slice tail = slice_make(r->shared.tail, sizeof(r->shared.tail));

	if (r->meter != NULL)
		return meter_between_events(r->meter);
	return r->sent == 0 || slice_ends(tail, SLICE("\n\n")) || slice_ends(tail, SLICE("\r\n\r\n")) ||
	       slice_ends(tail, SLICE("\r\r"));
}

/* Only between two events can one more be read as what it is. */
static void write_error_event(struct request *r)
{
	struct buf event;

	if (r->call.framing != DIALECT_EVENTS || !is_between_events(r))
		return;
	buf_init(&event, ERROR_BODY);
	refusal_write_event(r->refusal, r->call.dialect, r->call.responses, buf_slice(&r->detail), r->public_id,
			    &event);
	(void)reply_write(r, buf_slice(&event));
	buf_free(&event);
}

void reply_end(struct request *r)
{
	if (r->refusal != REFUSAL_none)
		write_error_event(r);
	http_end(r->exchange, r->refusal == REFUSAL_none);
	r->exchange = NULL;
}

/* Whose dialect a broken request would have been in, as far as its target tells. */
static enum dialect dialect_of(struct slice target)
{
	struct mem *mem = mem_arena(4 * (HTTP_TARGET_MAX + 1024));
	struct dialect_head head = { .method = SLICE("POST") };
	struct dialect_call call = { .dialect = DIALECT_http };
	struct buf detail;

	head.path = slice_cut(target, '?', &head.query);
	buf_init(&detail, REQUEST_DETAIL);
	if (head.path.len > 0 && head.path.data[0] == '/' &&
	    dialect_route(&head, mem, &call, &detail) == REFUSAL_internal)
		call.dialect = DIALECT_http;
	buf_free(&detail);
	mem_arena_free(&mem);
	return call.dialect;
}

struct slice reply_malformed(enum http_fault fault, struct slice target, struct buf *body)
{
	return slice_of(refusal_write_fault(http_fault_status(fault), http_fault_code(fault), http_fault_text(fault),
					    dialect_of(target), body));
}

/* The stand-in for lib/pool: the upstream. */
#include "tests/flow/world/world_internal.h"

struct pool {
	int nothing;
};

/* ---- what comes ----------------------------------------------------------------------------------------------------------- */

static struct transfer *find(void)
{
	struct world *w = world_now();

	for (int i = 0; i < w->transfers_count; i++)
		if (!w->transfers[i].ended && !w->transfers[i].cancelled)
			return &w->transfers[i];
	return NULL;
}

/* What was lent for as long as it runs is still there, and the same. */
static void check_body(const struct transfer *t)
{
	struct slice sent = buf_slice(&t->sent);

	for (size_t i = 0; i < t->body_count; i++) {
		assert_true(slice_starts(sent, t->body[i]));
		sent = slice_skip(sent, t->body[i].len);
	}
	assert_int_equal(sent.len, 0);
}

static void end(struct transfer *t, enum pool_outcome outcome)
{
	check_body(t);
	t->ended = true;
	t->whole = outcome == POOL_DONE;
	t->receiver.done(t, t->arg, &(struct pool_result){ .outcome = outcome, .first_byte = t->began ? 1 : -1 });
}

/* The scenario's failure; its body is one piece. */
static void bring_failure(struct transfer *t)
{
	const struct world_scenario *s = world_now()->scenario;
	struct pool_field fields[3] = { { SLICE("Content-Type"), SLICE("application/json") } };
	struct pool_head head = { .status = s->fail_status, .fields = fields, .fields_count = 1 };

	if (s->retry_after != NULL)
		fields[head.fields_count++] = (struct pool_field){ SLICE("Retry-After"), slice_of(s->retry_after) };
	t->began = true;
	t->receiver.head(t, t->arg, &head);
}

static void bring_head(struct transfer *t)
{
	const struct world_scenario *s = world_now()->scenario;
	char length[24];
	size_t total = 0;
	struct pool_head head = { .status = s->status };
	struct pool_field fields[4] = { { SLICE("Content-Type"), slice_of(s->type) },
					{ SLICE("Set-Cookie"), SLICE("secret=1") } };

	head.fields = fields;
	head.fields_count = 2;
	for (size_t i = 0; i < WORLD_PIECES && s->pieces[i] != NULL; i++)
		total += strlen(s->pieces[i]);
	snprintf(length, sizeof(length), "%zu", total);
	if (s->promised)
		fields[head.fields_count++] = (struct pool_field){ SLICE("Content-Length"), slice_of(length) };
	if (s->answer_control != NULL)
		fields[head.fields_count++] =
			(struct pool_field){ SLICE("Cache-Control"), slice_of(s->answer_control) };
	t->began = true;
	t->receiver.head(t, t->arg, &head);
}

/* A client that takes no more holds its upstream up, unless the answer is kept for it on the way. */
static bool must_pause(const struct world *w, const struct transfer *t)
{
	if (t->arg != w->client || !w->exchange.paused || w->exchange.ended || w->exchange.gone)
		return false;
	for (int i = 0; i < w->seats_count; i++)
		if (w->seats[i].arg == t->arg && w->seats[i].leads && !w->scenario->slides)
			return false;
	return true;
}

static void bring_piece(struct transfer *t)
{
	const struct world_scenario *s = world_now()->scenario;
	char *piece = mem_text(slice_of(t->fails ? s->fail_body : s->pieces[t->piece]));

	t->piece++;
	t->paused = !t->receiver.body(t, t->arg, slice_of(piece));
	assert_int_equal(t->paused, must_pause(world_now(), t));
	mem_free(piece);
}

bool world_pool_next(void)
{
	struct transfer *t = find();

	if (t == NULL || t->paused)
		return false;
	check_body(t);
	if (!t->began && t->fails)
		bring_failure(t);
	else if (!t->began)
		bring_head(t);
	else if (t->fails ? t->piece == 0 : world_now()->scenario->pieces[t->piece] != NULL)
		bring_piece(t);
	else
		end(t, POOL_DONE);
	return true;
}

/* More than an arena holds; libcurl would not let it through. */
bool world_pool_bad_head(void)
{
	static char value[4000];
	struct pool_field fields[1600];
	struct transfer *t = find();

	if (t == NULL || t->began)
		return false;
	memset(value, 'x', sizeof(value));
	for (size_t i = 0; i < ARRAY_LENGTH(fields); i++)
		fields[i] = (struct pool_field){ SLICE("x-field"), slice_make(value, sizeof(value)) };
	world_now()->fault_hit = t->arg;
	t->began = true;
	t->receiver.head(t, t->arg,
			 &(struct pool_head){ .status = 200, .fields = fields, .fields_count = ARRAY_LENGTH(fields) });
	return true;
}

/* Each where it can come. */
bool world_pool_fault(enum pool_outcome outcome)
{
	struct transfer *t = find();
	bool inside = outcome == POOL_TRUNCATED || outcome == POOL_IDLE_TIMEOUT;

	if (t == NULL || (outcome != POOL_TOTAL_TIMEOUT && inside != t->began))
		return false;
	world_now()->fault_hit = t->arg;
	end(t, outcome);
	return true;
}

void world_pool_close(void)
{
	struct world *w = world_now();

	for (int i = 0; i < w->transfers_count; i++)
		buf_free(&w->transfers[i].sent);
}

/* ---- what the flow calls ------------------------------------------------------------------------------------------------- */

struct pool *pool_new(struct loop *loop, const struct pool_options *options, struct log *log)
{
	(void)loop, (void)options, (void)log;
	return mem_new(sizeof(struct pool));
}

void pool_free(struct pool **pool)
{
	mem_free(*pool);
	*pool = NULL;
}

void pool_warm(struct pool *pool, int64_t timeout, void (*warmed)(void *, unsigned, const char *), void *arg)
{
	(void)pool, (void)timeout, (void)warmed, (void)arg;
}

void pool_change(struct pool *pool, const struct pool_options *options)
{
	(void)pool, (void)options;
}

void pool_wind_down(struct pool *pool)
{
	(void)pool;
}

void pool_shared_stats(const struct pool *pool, struct pool_shared_stats *stats)
{
	(void)pool;
	*stats = (struct pool_shared_stats){ .limit = 1, .size = 1 };
}

bool pool_multiplexes(enum pool_http http, const char *origin)
{
	(void)origin;
	return http == POOL_HTTP_2;
}

const char *pool_recycled_name(enum pool_recycled why)
{
	(void)why;
	return "age";
}

void pool_stats(const struct pool *pool, struct pool_stats *stats)
{
	(void)pool;
	*stats = (struct pool_stats){ 0 };
}

static bool has_quota(const void *arg)
{
	const struct world *w = world_now();

	for (int i = 0; i < w->leases_count; i++)
		if (w->leases[i].arg == arg && w->leases[i].answered && !w->leases[i].settled)
			return w->leases[i].for_call;
	return false;
}

/* They are made of the client's, which may have left. */
static void check_fields(const struct pool_request *request)
{
	bool typed = request->body_count == 0;

	for (size_t i = 0; i < request->fields_count; i++)
		typed |= slice_equal(request->fields[i].name, SLICE("Content-Type")) &&
			 slice_equal(request->fields[i].value, SLICE("application/json"));
	assert_true(typed && request->target.data[0] == '/');
}

struct transfer *pool_start(struct pool *pool, const struct pool_request *request, const struct pool_receiver *receiver,
			    void *arg)
{
	struct world *w = world_now();
	struct transfer *t = &w->transfers[w->transfers_count++];

	(void)pool;
	assert_true(w->transfers_count <= WORLD_MANY && has_quota(arg));
	assert_true(request->wait_timeout > 0 && request->first_byte_timeout > 0 && request->idle_timeout > 0 &&
		    request->total_timeout > 0);
	*t = (struct transfer){
		.receiver = *receiver, .arg = arg, .body = request->body, .body_count = request->body_count
	};
	t->fails = w->transfers_count <= w->scenario->fails;
	buf_init(&t->sent, WORLD_ANSWER);
	for (size_t i = 0; i < request->body_count; i++)
		assert_true(buf_append(&t->sent, request->body[i]));
	check_fields(request);
	assert_true((unsigned)request->lane < LANES && request->tenant.len > 0);
	return t;
}

void pool_resume(struct transfer *t)
{
	assert_false(t->ended || t->cancelled);
	t->paused = false;
}

void pool_cancel(struct transfer **handle)
{
	struct transfer *t = *handle;

	*handle = NULL;
	if (t == NULL)
		return;
	assert_false(t->ended || t->cancelled);
	check_body(t);
	t->cancelled = true;
}

int64_t pool_waited(const struct transfer *t)
{
	assert_false(t->ended || t->cancelled);
	return 0; /* it has all the connections that it wants */
}

bool pool_may_be_sent(const struct transfer *t)
{
	return t != NULL; /* what was not sent is said by its outcome */
}

#include "tests/flow/world/world.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/redis.h"
#include "svc/config.h"
#include "svc/flow.h"
#include "svc/http.h"
#include "svc/metrics.h"
#include "svc/worker.h"

/* ---- what the flow believes to be clients, leases and transfers ------------------------------------------------------ */

struct exchange {
	struct http_head head;
	struct http_field fields[4];
	void *owner;
	bool takes_body, paused, answered, ended, clean, gone;
	int body_piece; /* of the request, sent so far */
	int status;
	int64_t promised;
	struct buf body;
};
struct lease {
	limiter_done *done;
	void *arg;
	bool answered, settled;
	struct limiter_used used;
};
struct transfer {
	struct pool_receiver receiver;
	void *arg;
	bool began, ended, cancelled, paused;
	size_t piece;
	char sent[1024]; /* target and body as the upstream got them */
};
struct limiter {
	void (*lost)(struct lease *, void *);
};
struct pool {
	int nothing;
};
struct redis {
	int nothing;
};

/* The one world that stands at a time: the stand-ins have no other way to it. */
static struct world {
	const struct world_scenario *scenario;
	enum world_fault fault;
	int at, step;
	bool fault_came;
	struct worker_shared shared;
	struct worker *worker;
	const struct config *config;
	struct exchange exchange;
	struct lease lease;
	struct transfer transfer;
	bool has_lease, has_transfer;
} world;

/* ---- svc/http ---------------------------------------------------------------------------------------------------------- */

const struct http_head *http_head_of(const struct exchange *e)
{
	assert_false(e->ended || e->gone);
	return &e->head;
}

struct slice http_peer_address(const struct exchange *e)
{
	assert_false(e->ended || e->gone);
	return SLICE("192.0.2.1");
}

struct slice http_field_of(const struct http_head *head, struct slice name)
{
	for (size_t i = 0; i < head->fields_count; i++)
		if (slice_equal_nocase(head->fields[i].name, name))
			return head->fields[i].value;
	return SLICE_NONE;
}

void http_take_body(struct exchange *e, int64_t ceiling)
{
	assert_true(ceiling > 0);
	e->takes_body = true;
}

void http_answer(struct exchange *e, const struct http_answer *answer)
{
	assert_false(e->answered || e->ended || e->gone);
	e->answered = true;
	e->status = answer->status;
	e->promised = answer->content_length;
}

bool http_write(struct exchange *e, struct slice bytes)
{
	assert_true(e->answered && !e->ended && !e->gone);
	assert_true(buf_append(&e->body, bytes));
	assert_true(e->promised < 0 || e->body.len <= (size_t)e->promised);
	e->paused = world.scenario->slow;
	return !e->paused;
}

void http_end(struct exchange *e, bool clean)
{
	assert_true(e->answered && !e->ended && !e->gone);
	e->ended = true;
	e->clean = clean;
}

/* clang-format off */
#define FAULT_ROW(name, status, text) { #name, status, text },
static const struct { const char *code; int status; const char *text; } faults[] = { HTTP_FAULTS(FAULT_ROW) };
/* clang-format on */
const char *http_fault_code(enum http_fault fault)
{
	return faults[fault].code;
}

int http_fault_status(enum http_fault fault)
{
	return faults[fault].status;
}

const char *http_fault_text(enum http_fault fault)
{
	return faults[fault].text;
}

/* ---- lib/limiter -------------------------------------------------------------------------------------------------------- */

struct limiter *limiter_new(struct loop *loop, struct redis *redis, const struct limiter_options *options,
			    struct log *log)
{
	struct limiter *l = mem_new(sizeof(*l));

	(void)loop, (void)redis, (void)log;
	l->lost = options->lost;
	return l;
}

void limiter_free(struct limiter **l)
{
	mem_free(*l);
	*l = NULL;
}

struct lease *limiter_admit(struct limiter *l, const struct limiter_ask *ask, limiter_done *done, void *arg)
{
	(void)l;
	assert_false(world.has_lease);
	assert_true(ask->id.len > 0 && ask->id.len <= 80);
	world.has_lease = true;
	world.lease = (struct lease){ .done = done, .arg = arg };
	return &world.lease;
}

void limiter_settle(struct lease **handle, const struct limiter_used *used)
{
	struct lease *lease = *handle;

	*handle = NULL;
	if (lease == NULL)
		return;
	assert_false(lease->settled);
	lease->settled = true;
	lease->used = *used;
}

unsigned limiter_held(const struct limiter *l)
{
	(void)l;
	return 0;
}

unsigned limiter_unsettled(const struct limiter *l)
{
	(void)l;
	return 0;
}

const struct limiter_counts *limiter_counts(const struct limiter *l)
{
	static const struct limiter_counts none;

	(void)l;
	return &none;
}

/* ---- lib/pool ------------------------------------------------------------------------------------------------------------ */

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

void pool_stats(const struct pool *pool, struct pool_stats *stats)
{
	(void)pool;
	*stats = (struct pool_stats){ 0 };
}

struct transfer *pool_start(struct pool *pool, const struct pool_request *request, const struct pool_receiver *receiver,
			    void *arg)
{
	struct buf sent;

	(void)pool;
	assert_false(world.has_transfer);
	assert_true(world.has_lease && world.lease.answered);
	assert_true(request->wait_timeout > 0 && request->first_byte_timeout > 0 && request->idle_timeout > 0 &&
		    request->total_timeout > 0);
	world.has_transfer = true;
	world.transfer = (struct transfer){ .receiver = *receiver, .arg = arg };
	buf_wrap(&sent, world.transfer.sent, sizeof(world.transfer.sent), 0);
	for (size_t i = 0; i < request->body_count; i++)
		assert_true(buf_append(&sent, request->body[i]));
	return &world.transfer;
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
	assert_false(t != NULL && (t->ended || t->cancelled));
	if (t != NULL)
		t->cancelled = true;
}

bool pool_may_be_sent(const struct transfer *t)
{
	return t != NULL; /* what was not sent is said by its outcome */
}

/* ---- lib/redis ------------------------------------------------------------------------------------------------------------ */

struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct log *log)
{
	(void)loop, (void)options, (void)log;
	return mem_new(sizeof(struct redis));
}

void redis_free(struct redis **redis)
{
	mem_free(*redis);
	*redis = NULL;
}

bool redis_is_up(const struct redis *redis)
{
	(void)redis;
	return true;
}

void redis_on_change(struct redis *redis, void (*changed)(void *arg, bool up), void *arg)
{
	(void)redis, (void)changed, (void)arg;
}

/* ---- the play ------------------------------------------------------------------------------------------------------------ */

const char *world_fault_name(enum world_fault fault)
{
#define NAME(name) #name,
	static const char *const names[] = { WORLD_FAULTS(NAME) };
#undef NAME
	return names[fault];
}

static const char configuration[] =
	"upstreams:\n"
	"  sim-o: {dialect: openai, default: true, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"  sim-a: {dialect: anthropic, default: true, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"  sim-g: {dialect: gemini, default: true, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"  plain: {dialect: http, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"models: {known: {targets: [{upstream: sim-o, model: renamed}], limits: {rpm: 100}}}\n"
	"tenants: {acme: {keys: [key-of-the-test], limits: {rpm: 600, tpm: 100000, concurrency: 10}}}\n";

static void open_world(const struct world_scenario *scenario, enum world_fault fault, int at)
{
	struct buf error;

	world = (struct world){ .scenario = scenario, .fault = fault, .at = at };
	snprintf(world.shared.instance, sizeof(world.shared.instance), "test");
	world.shared.lease_lost = flow_lease_lost;
	buf_init(&error, 4096);
	world.config = config_parse("test", slice_of(configuration), &error);
	if (world.config == NULL)
		fail_msg("%.*s", (int)error.len, error.data);
	buf_free(&error);
	world.worker = worker_new(&world.shared, 0, world.config);
}

static void begin(void)
{
	const struct world_scenario *s = world.scenario;
	struct exchange *e = &world.exchange;

	e->fields[0] = (struct http_field){ SLICE("Host"), SLICE("gateway") };
	e->fields[1] = (struct http_field){ SLICE("Authorization"), SLICE("Bearer key-of-the-test") };
	e->fields[2] = (struct http_field){ SLICE("Content-Type"), SLICE("application/json") };
	e->fields[3] = (struct http_field){ SLICE("x-stainless-timeout"), SLICE("600") };
	e->head = (struct http_head){ .method = s->method == NULL ? HTTP_POST : HTTP_GET,
				      .method_name = slice_of(s->method == NULL ? "POST" : s->method),
				      .target = slice_of(s->target),
				      .host = SLICE("gateway"),
				      .fields = e->fields,
				      .fields_count = 4,
				      .content_length = s->body == NULL ? 0 : (int64_t)strlen(s->body),
				      .minor_version = 1 };
	buf_init(&e->body, 64 * 1024);
	e->owner = flow_head(e, world.worker);
}

/* The faults of Redis' answer. */
static bool bring_verdict(enum limiter_verdict verdict)
{
	struct limiter_answer answer = {
		.verdict = verdict, .scope = LIMITER_TENANT, .kind = LIMIT_rpm, .wait = CLOCK_SECOND
	};

	if (!world.has_lease || world.lease.answered)
		return false;
	world.lease.answered = true;
	world.lease.done(&world.lease, world.lease.arg, &answer);
	return true;
}

/* More than an arena holds; libcurl would not let it through. */
static bool bring_bad_head(struct transfer *t)
{
	static char value[800];
	struct pool_field fields[700];

	if (!world.has_transfer || t->began)
		return false;
	memset(value, 'x', sizeof(value));
	for (size_t i = 0; i < ARRAY_LENGTH(fields); i++)
		fields[i] = (struct pool_field){ SLICE("x-field"), slice_make(value, sizeof(value)) };
	t->began = true;
	t->receiver.head(t, t->arg,
			 &(struct pool_head){ .status = 200, .fields = fields, .fields_count = ARRAY_LENGTH(fields) });
	return true;
}

/* The pool's outcomes, each where it can come. */
static bool bring_outcome(struct transfer *t, enum pool_outcome outcome)
{
	struct pool_result result = { .outcome = outcome, .first_byte = t->began ? 1 : -1 };
	bool inside = outcome == POOL_TRUNCATED || outcome == POOL_IDLE_TIMEOUT;

	if (!world.has_transfer || (outcome != POOL_TOTAL_TIMEOUT && inside != t->began))
		return false;
	t->ended = true;
	t->receiver.done(t, t->arg, &result);
	return true;
}

static bool bring_broken(struct exchange *e)
{
	if (!e->takes_body || e->body_piece >= 3)
		return false;
	e->takes_body = false;
	flow_broken(e, e->owner, HTTP_FAULT_bad_body);
	return true;
}

/* False: the fault cannot come where the flow now waits; then the play goes on. */
static bool bring_fault(void)
{
	struct exchange *e = &world.exchange;

	switch (world.fault) {
	case WORLD_none:
	case WORLD_FAULT_COUNT:
		return false;
	case WORLD_client_gone:
	case WORLD_client_stalled:
		e->gone = true;
		flow_gone(e, e->owner, world.fault == WORLD_client_gone ? HTTP_GONE_LEFT : HTTP_GONE_STALLED);
		return true;
	case WORLD_body_fault:
		return bring_broken(e);
	case WORLD_drain:
		flow_abort_all(world.worker, REFUSAL_draining);
		return true;
	case WORLD_deadline:
		flow_abort_all(world.worker, REFUSAL_deadline);
		return true;
	case WORLD_lease_lost:
		if (!world.has_lease || !world.lease.answered)
			return false;
		world.shared.lease_lost(&world.lease, world.lease.arg);
		return true;
	case WORLD_denied:
		return bring_verdict(LIMITER_DENIED);
	case WORLD_never:
		return bring_verdict(LIMITER_NEVER);
	case WORLD_unavailable:
		return bring_verdict(LIMITER_UNAVAILABLE);
	case WORLD_bad_head:
		return bring_bad_head(&world.transfer);
	default:
		return bring_outcome(&world.transfer,
				     (enum pool_outcome)(POOL_NO_SLOT + (int)(world.fault - WORLD_no_slot)));
	}
}

static void bring_head(struct transfer *t)
{
	const struct world_scenario *s = world.scenario;
	char length[24];
	size_t total = 0;
	struct pool_field fields[] = { { SLICE("Content-Type"), slice_of(s->type) },
				       { SLICE("Set-Cookie"), SLICE("secret=1") },
				       { SLICE("Content-Length"), SLICE_NONE } };

	for (size_t i = 0; i < ARRAY_LENGTH(s->pieces) && s->pieces[i] != NULL; i++)
		total += strlen(s->pieces[i]);
	fields[2].value = slice_make(length, (size_t)snprintf(length, sizeof(length), "%zu", total));
	t->began = true;
	t->receiver.head(t, t->arg,
			 &(struct pool_head){
				 .status = s->status, .fields = fields, .fields_count = s->promised ? 3 : 2 });
}

/* What is awaited comes. False: nothing is awaited. */
static bool bring_next(void)
{
	const struct world_scenario *s = world.scenario;
	struct exchange *e = &world.exchange;
	struct transfer *t = &world.transfer;

	if (e->ended || e->gone)
		return false;
	if (e->takes_body && e->body_piece < 3) {
		size_t length = s->body == NULL ? 0 : strlen(s->body), half = length / 2;
		int piece = e->body_piece++;
		if (piece < 2)
			flow_body(e, e->owner,
				  piece == 0 ? slice_make(s->body, half) : slice_make(s->body + half, length - half));
		else
			flow_body_end(e, e->owner);
	} else if (world.has_lease && !world.lease.answered) {
		world.lease.answered = true;
		world.lease.done(&world.lease, world.lease.arg,
				 &(struct limiter_answer){ .verdict = LIMITER_ADMITTED });
	} else if (t->paused) {
		e->paused = false;
		flow_writable(e, e->owner);
		assert_false(t->paused);
	} else if (world.has_transfer && !t->began) {
		bring_head(t);
	} else if (world.has_transfer && s->pieces[t->piece] != NULL) {
		struct slice piece = slice_of(s->pieces[t->piece++]);
		t->paused = !t->receiver.body(t, t->arg, piece);
	} else if (world.has_transfer) {
		t->ended = true;
		t->receiver.done(t, t->arg, &(struct pool_result){ .outcome = POOL_DONE, .first_byte = 1 });
	} else {
		return false;
	}
	return true;
}

/* ---- what must hold at the end -------------------------------------------------------------------------------------------- */

/* The one series of requests_total that the run has counted. */
static void read_outcome(struct world_outcome *o)
{
	struct buf text;
	const char *line, *at;
	int count = 0;

	buf_init(&text, 1024 * 1024);
	metrics_write(world.worker->metrics, &text);
	assert_true(buf_append_byte(&text, '\0'));
	for (line = text.data; (line = strstr(line, "\nsluice_requests_total{")) != NULL; line++) {
		count++;
		at = strstr(line, "outcome=\"");
		assert_int_equal(sscanf(at, "outcome=\"%39[^\"]\"", o->outcome), 1);
		at = strstr(line, "status=\"");
		assert_int_equal(sscanf(at, "status=\"%d\"} 1", &o->status), 1);
	}
	buf_free(&text);
	assert_int_equal(count, 1);
}

/* All bytes of the answer that the client should have had, had it been whole. */
static void expected_answer(struct buf *out)
{
	const struct world_scenario *s = world.scenario;
	const char *without;

	for (size_t i = 0; i < ARRAY_LENGTH(s->pieces) && s->pieces[i] != NULL; i++)
		assert_true(buf_append(out, slice_of(s->pieces[i])));
	if (s->without == NULL)
		return;
	assert_true(buf_append_byte(out, '\0'));
	without = strstr(out->data, s->without);
	assert_non_null(without);
	memmove(out->data + (without - out->data), without + strlen(s->without),
		out->len - (size_t)(without - out->data) - strlen(s->without));
	out->len -= strlen(s->without) + 1;
}

static void check_answer(void)
{
	const struct exchange *e = &world.exchange;
	bool passed_on =
		world.has_transfer && world.transfer.began && e->answered && e->status == world.scenario->status;
	struct buf whole;

	assert_true(e->ended != e->gone);
	if (!e->ended || world.scenario->pieces[0] == NULL)
		return;
	if (!passed_on) {
		assert_true(e->clean && e->status >= 400); /* a refusal is a whole answer */
		return;
	}
	buf_init(&whole, 64 * 1024);
	expected_answer(&whole);
	if (e->clean) { /* only the whole may look whole */
		assert_true(slice_equal(buf_slice(&e->body), buf_slice(&whole)));
	} else if (e->promised >= 0) {
		assert_true(e->body.len <= whole.len);
	}
	buf_free(&whole);
}

static void close_world(struct world_outcome *o)
{
	struct loop *loop = world.worker->loop;

	loop_turn(loop, false);
	loop_turn(loop, false);
	assert_int_equal(world.worker->requests_count, 0);
	assert_int_equal(atomic_load(&world.shared.body_bytes), 0);
	assert_true(!world.has_lease || world.lease.settled);
	assert_true(!world.has_transfer || world.transfer.ended != world.transfer.cancelled);
	check_answer();
	*o = (struct world_outcome){ .steps = world.step, .fault_came = world.fault_came };
	o->pieces = world.transfer.piece;
	read_outcome(o);
	if (world.has_lease) {
		o->tokens = world.lease.used.tokens;
		o->leased = true;
		o->never_sent = world.lease.used.never_sent;
	}
	buf_free(&world.exchange.body);
	worker_free(&world.worker);
	config_release(&world.config);
}

void world_run(const struct world_scenario *scenario, enum world_fault fault, int at, struct world_outcome *outcome)
{
	open_world(scenario, fault, at);
	begin();
	for (bool more = true; more; loop_turn(world.worker->loop, false)) {
		if (!world.exchange.ended && !world.exchange.gone && world.step == at && !world.fault_came &&
		    bring_fault())
			world.fault_came = true;
		else
			more = bring_next();
		world.step += more;
	}
	close_world(outcome);
}

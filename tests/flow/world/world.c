/* The play: one world after the other, in each one request of a client, and what it makes. */
#include "tests/flow/world/world_internal.h"

struct world *world_now(void)
{
	static struct world world;

	return &world;
}

#define NAME(name) #name,
const char *world_fault_name(enum world_fault fault)
{
	static const char *const names[] = { WORLD_FAULTS(NAME) };

	return names[fault];
}

const char *world_order_name(enum world_order order)
{
	static const char *const names[] = { WORLD_ORDERS(NAME) };

	return names[order];
}

/* The second tenant only finds out what is stored, where all share it. */
static const char configuration[] =
	"upstreams:\n"
	"  sim-o: {dialect: openai, default: true, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"  sim-a: {dialect: anthropic, default: true, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"  sim-g: {dialect: gemini, default: true, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"  plain: {dialect: http, endpoints: [{url: 'http://127.0.0.1:1'}]}\n"
	"  sim-m: {dialect: openai, endpoints: [{url: 'http://127.0.0.1:1', priority: 0}, {url: 'http://127.0.0.1:2', "
	"priority: 1}], retry: {attempts: 2, budget: 100%}}\n"
	"  sim-n: {dialect: openai, endpoints: [{url: 'http://127.0.0.1:3'}], retry: {budget: 100%}}\n"
	"models:\n"
	"  known: {targets: [{upstream: sim-o, model: renamed}], limits: {rpm: 100}}\n"
	"  many: {targets: [{upstream: sim-m}], fallback: [spare]}\n"
	"  spare: {targets: [{upstream: sim-o}]}\n"
	"  pair: {targets: [{upstream: sim-n}, {upstream: sim-o}]}\n"
	"tenants:\n"
	"  acme: {keys: [key-of-the-test], limits: {rpm: 600, tpm: 100000, concurrency: 10}}\n"
	"  scout: {keys: [key-of-the-scout], limits: {rpm: 600}}\n";

static const struct config *read_configuration(const struct world_scenario *s)
{
	const char *when = s->always ? "always" : "deterministic";
	const struct config *config;
	struct buf error, text;

	buf_init(&error, 4096);
	buf_init(&text, 4096);
	assert_true(buf_format(&text, "%scache: {scope: %s, count_hits: %s, when: %s}\ncoalesce: {when: %s}\n",
			       configuration, s->local ? "shared" : "tenant", s->counts_hits ? "true" : "false", when,
			       when));
	config = config_parse("test", buf_slice(&text), &error);
	if (config == NULL)
		fail_msg("%.*s", (int)error.len, error.data);
	buf_free(&error);
	buf_free(&text);
	return config;
}

/* Read once, and kept to the end of the process: reading takes longer than a run. */
static const struct config *configuration_of(const struct world_scenario *s)
{
	static const struct config *kept[2][2][2];
	const struct config **one = &kept[s->local][s->counts_hits][s->always];

	if (*one == NULL)
		*one = read_configuration(s);
	return config_hold(*one);
}

/* ---- what comes ----------------------------------------------------------------------------------------------------------- */

static bool client_is_there(const struct world *w)
{
	return !w->exchange.ended && !w->exchange.gone;
}

/* Only as long as the answer has not begun; and a client that left has none. */
static bool pass_deadline(struct world *w)
{
	LIST_EACH (&w->worker->requests, node, following) {
		struct request *r = CONTAINER_OF(node, struct request, node);
		if (!r->deadline.armed)
			continue;
		assert_true(client_is_there(w) && r == w->client);
		loop_timer_clear(&r->deadline);
		r->deadline.run(r->deadline.arg);
		return true;
	}
	return false;
}

static bool leave(struct world *w, enum world_fault how)
{
	if (how == WORLD_deadline)
		return pass_deadline(w);
	if (!client_is_there(w))
		return false;
	world_http_gone(&w->exchange, how == WORLD_client_gone ? HTTP_GONE_LEFT : HTTP_GONE_STALLED);
	return true;
}

static bool drain(struct world *w)
{
	const struct list *all = &w->worker->requests;

	if (list_empty(all))
		return false;
	w->fault_hit = CONTAINER_OF(all->next, struct request, node); /* of two, the client's was born first */
	flow_abort_all(w->worker, REFUSAL_draining);
	return true;
}

/* False: the fault cannot come where the flow now waits; then the play goes on. */
static bool bring_fault(struct world *w)
{
	w->fault_hit = w->client;
	switch (w->fault) {
	case WORLD_none:
	case WORLD_FAULT_COUNT:
		return false;
	case WORLD_client_gone:
	case WORLD_client_stalled:
	case WORLD_deadline:
		return leave(w, w->fault);
	case WORLD_body_fault:
		return world_http_broken();
	case WORLD_drain:
		return drain(w);
	case WORLD_lease_lost:
		return world_limiter_lost();
	case WORLD_denied:
		return world_limiter_fault(LIMITER_DENIED);
	case WORLD_full:
		return world_limiter_fault(LIMITER_FULL);
	case WORLD_late:
		return world_queue_late();
	case WORLD_never:
		return world_limiter_fault(LIMITER_NEVER);
	case WORLD_unavailable:
		return world_limiter_fault(LIMITER_UNAVAILABLE);
	case WORLD_bad_head:
		return world_pool_bad_head();
	case WORLD_lookup_unavailable:
		return world_flight_unavailable();
	case WORLD_flight_lost:
		return world_flight_lost();
	case WORLD_no_ticket:
		return world_breaker_fault();
	default:
		return world_pool_fault((enum pool_outcome)(POOL_NO_SLOT + (int)(w->fault - WORLD_no_slot)));
	}
}

/* Until the next attempt. */
static bool pass_time(void)
{
	LIST_EACH (&world_now()->worker->requests, node, following) {
		struct request *r = CONTAINER_OF(node, struct request, node);
		if (!r->tried.timer.armed)
			continue;
		loop_timer_clear(&r->tried.timer);
		r->tried.timer.run(r->tried.timer.arg);
		return true;
	}
	return false;
}

static bool bring_call(void)
{
	return world_http_upload() || world_breaker_next() || world_limiter_next() || world_queue_next() ||
	       world_pool_next() || pass_time();
}

static enum world_order order_now(const struct world *w)
{
	if (w->scenario->order == ORDER_turns)
		return w->step % 2 == 0 ? ORDER_client : ORDER_call;
	return w->scenario->order;
}

/* What is awaited comes. False: nothing is awaited. */
static bool bring_next(const struct world *w)
{
	switch (order_now(w)) {
	case ORDER_flight:
		return world_flight_next() || bring_call() || world_http_writable();
	case ORDER_client:
		return world_http_writable() || world_flight_next() || bring_call();
	default:
		return bring_call() || world_http_writable() || world_flight_next();
	}
}

static bool take_step(struct world *w)
{
	const struct world_scenario *s = w->scenario;

	if (s->leaves != WORLD_none && w->step == s->leaves_at && !w->left && leave(w, s->leaves)) {
		w->left = true;
		return true;
	}
	if (w->step >= w->at && !w->fault_came && bring_fault(w)) {
		w->fault_came = true;
		w->fault_step = w->step;
		return true;
	}
	return bring_next(w);
}

/* ---- one world ------------------------------------------------------------------------------------------------------------ */

/* Nothing that a run can end in takes so many steps. */
enum { STEPS_MOST = 200 };

/* Somebody finds it first, in peace, and the worker keeps it. */
static void scout(struct world *w)
{
	w->scouting = true;
	world_http_open(&w->exchange, "key-of-the-scout");
	for (int steps = 0; bring_next(w); steps++) {
		assert_true(steps < STEPS_MOST);
		loop_turn(w->worker->loop, false);
	}
	loop_turn(w->worker->loop, false);
	assert_true(w->exchange.ended && w->exchange.clean && w->seats_count == 1 && w->worker->requests_count == 0);
	world_http_close(&w->exchange);
	world_flight_close();
	w->seats_count = w->leases_count = 0;
	w->scouting = false;
}

static void open_world(struct world *w, const struct world_scenario *scenario, enum world_fault fault, int at)
{
	*w = (struct world){ .scenario = scenario, .fault = fault, .at = at };
	snprintf(w->shared.instance, sizeof(w->shared.instance), "test");
	w->shared.lease_lost = flow_lease_lost;
	w->config = configuration_of(scenario);
	w->worker = worker_new(&w->shared, 0, w->config);
	w->worker->answers_full = scenario->full;
}

static void close_world(struct world *w)
{
	world_http_close(&w->exchange);
	world_flight_close();
	world_pool_close();
	worker_free(&w->worker);
	config_release(&w->config);
}

static void turn(struct world *w)
{
	world_note_ended(w);
	loop_turn(w->worker->loop, false);
}

void world_run(const struct world_scenario *scenario, enum world_fault fault, int at, struct world_outcome *outcome)
{
	struct world *w = world_now();

	open_world(w, scenario, fault, at);
	if (scenario->local)
		scout(w);
	world_http_open(&w->exchange, "key-of-the-test");
	w->client = w->exchange.owner;
	turn(w);
	for (; take_step(w); w->step++) {
		assert_true(w->step < STEPS_MOST);
		turn(w);
	}
	world_check(outcome);
	close_world(w);
}

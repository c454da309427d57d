/* The lines under three times the load that an upstream takes, on a real Redis and in simulated time: three workers, each with a heart-beat, that come when
 * they are called, some hundred microseconds late. What is promised of shares, of use and of the bound is counted here; test_line has the single cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "tests/support/limiter_rig.h"
#include "tests/support/line_rig.h"
#include "tests/support/random.h"

enum { WORKERS = LINE_RIG_WORKERS, CALLERS = 40000, EVENTS = 100000, TENANTS = 2, MODELS = 3 };
#define BEAT (500 * CLOCK_MILLISECOND)

struct load {
	const char *name;
	struct limits upstream;
	const struct limits *model[MODELS]; /* NULL: it has none */
	int64_t seconds, per_second;        /* how long; how many come in each */
	int64_t most;                       /* so long each waits */
	int64_t service;                    /* how long a call lasts, on average */
	int64_t tokens;                     /* that each reserves, on average */
	struct line_rule rule;
	bool alike;                    /* all are of one lane and one tenant */
	bool lanes_apart;              /* each worker has the requests of one lane */
	bool leave;                    /* every other one that waits leaves */
	int64_t killed_at, stopped_at; /* the last worker, from then on; 0: never */
};

enum what { COMES, ASKS, LEAVES, ENDS, BEATS };
struct event {
	int64_t at;
	enum what what;
	unsigned who;
};
struct caller {
	char id[24];
	unsigned worker, tenant, model;
	enum lane lane;
	size_t group;
	int64_t came, until, admitted, reserved, tokens;
	enum { NEW, WAITING, ADMITTED, GONE } state;
};

static struct {
	const struct load *load;
	struct event heap[EVENTS];
	size_t events;
	struct caller caller[CALLERS];
	unsigned callers;
	uint64_t random;
	int64_t now, grant[CALLERS], cost[CALLERS];
	unsigned grants, by_lane[LANES], by_tenant[TENANTS], by_model[MODELS], by_group[LINE_GROUPS], refused, left,
		late, calls, in_flight, most_in_flight;
	int64_t longest[LANES], tokens, busy; /* busy: of all places together */
	bool down[WORKERS];
} sim;

static int64_t up_to(int64_t most) /* at random, less than that */
{
	return random_below(&sim.random, (uint32_t)most);
}

static void push(int64_t at, enum what what, unsigned who)
{
	size_t i = sim.events++;
	if (sim.events > EVENTS)
		fail_msg("too many events");
	for (; i > 0 && sim.heap[(i - 1) / 2].at > at; i = (i - 1) / 2)
		sim.heap[i] = sim.heap[(i - 1) / 2];
	sim.heap[i] = (struct event){ at, what, who };
}

static struct event pop(void)
{
	struct event first = sim.heap[0], last = sim.heap[--sim.events];
	size_t i = 0, child;
	while ((child = 2 * i + 1) < sim.events) {
		child += child + 1 < sim.events && sim.heap[child + 1].at < sim.heap[child].at;
		if (sim.heap[child].at >= last.at)
			break;
		sim.heap[i] = sim.heap[child];
		i = child;
	}
	sim.heap[i] = last;
	return first;
}

static struct limiter_ask ask_of(const struct caller *c)
{
	static const char *const tenants[TENANTS] = { "acme", "bolt" }, *const models[MODELS] = { "pro", "air", "max" };
	struct limiter_ask ask =
		limiter_rig_ask(c->id, NULL, sim.load->model[c->model], &sim.load->upstream, c->tokens);
	ask.scope[LIMITER_MODEL].name = slice_of(models[c->model]);
	ask.scope[LIMITER_TENANT].name = slice_of(tenants[c->tenant]);
	ask.line.rule = &sim.load->rule;
	ask.line.lane = c->lane;
	ask.line.group = c->group;
	ask.line.waited = c->state == WAITING;
	ask.line.most = c->until > sim.now ? c->until - sim.now : 0;
	limiter_rig_as(line_rig_workers[c->worker]);
	return ask;
}

static void settle(struct caller *c, bool waits)
{
	struct limiter_ask ask = ask_of(c);
	struct limiter_used used = { .tokens = waits ? 0 : c->tokens };
	struct limiter_wire_past past = { .lease = RIG_LEASE,
					  .reserved = waits ? LIMITER_WIRE_UNKNOWN : c->reserved,
					  .waits = waits };
	int64_t forgiven[LIMIT_COUNT] = { 0 };
	limiter_rig_settle(&ask, &used, &past, sim.now, forgiven);
	c->state = GONE;
}

static void granted(unsigned who)
{
	struct caller *c = &sim.caller[who];
	int64_t waited = sim.now - c->came;
	c->state = ADMITTED;
	sim.cost[sim.grants] = c->tokens;
	sim.grant[sim.grants++] = sim.now;
	sim.by_lane[c->lane]++;
	sim.by_group[c->group]++;
	sim.by_model[c->model]++;
	sim.tokens += c->tokens;
	if (c->lane == LANE_HIGH)
		sim.by_tenant[c->tenant]++;
	if (waited > sim.longest[c->lane])
		sim.longest[c->lane] = waited;
	sim.in_flight++;
	if (sim.in_flight > sim.most_in_flight)
		sim.most_in_flight = sim.in_flight;
	int64_t ends = sim.now + 1 + up_to(2 * sim.load->service), end = RIG_START + sim.load->seconds * CLOCK_SECOND;
	sim.busy += (ends < end ? ends : end) - sim.now;
	push(ends, ENDS, who);
}

static void admit(unsigned who)
{
	struct caller *c = &sim.caller[who];
	struct limiter_ask ask = ask_of(c);
	struct limiter_answer answer;
	limiter_rig_admit(&ask, sim.now, &answer, &c->reserved);
	sim.calls++;
	switch (answer.verdict) {
	case LIMITER_ADMITTED:
		granted(who);
		return;
	case LIMITER_QUEUED:
		if (c->state == NEW && sim.load->leave && who % 2 == 0)
			push(sim.now + 1 + up_to(sim.load->most), LEAVES, who);
		else if (c->state == NEW)
			push(c->until, LEAVES, who);
		c->state = WAITING;
		if (answer.wait > 0) /* timers are late rather than early */
			push(sim.now + answer.wait + up_to(4000), ASKS, who);
		return;
	default: /* who was let in, and is turned out by an estimate when it steps aside, waited in vain as well */
		*(c->state == WAITING ? &sim.late : &sim.refused) += 1;
		c->state = GONE;
	}
}

static void come(int64_t end)
{
	const struct load *load = sim.load;
	unsigned who = sim.callers++;
	struct caller *c = &sim.caller[who];
	if (who >= CALLERS)
		fail_msg("too many callers");
	*c = (struct caller){ .worker = (unsigned)random_below(&sim.random, (uint32_t)WORKERS),
			      .tenant = (unsigned)random_below(&sim.random, (uint32_t)TENANTS),
			      .came = sim.now,
			      .until = sim.now + load->most,
			      .tokens = load->tokens > 0 ? 1 + up_to(2 * load->tokens) : 0 };
	snprintf(c->id, sizeof c->id, "r%u", who);
	c->lane = (enum lane)random_below(&sim.random, (uint32_t)LANES);
	c->group = random_below(&sim.random, (uint32_t)load->rule.groups);
	if (load->model[0] != NULL) /* else a number more would change all that the other loads draw */
		c->model = (unsigned)random_below(&sim.random, (uint32_t)MODELS);
	if (load->alike) {
		c->lane = LANE_MEDIUM;
		c->tenant = 0;
	}
	if (load->lanes_apart)
		c->worker = (unsigned)c->lane;
	if (!sim.down[c->worker])
		admit(who);
	if (sim.now + CLOCK_SECOND / load->per_second < end)
		push(sim.now + CLOCK_SECOND / load->per_second, COMES, 0);
}

static void beat(unsigned worker, int64_t end)
{
	struct caller nobody = { .id = "beat", .worker = worker };
	int64_t number[64];
	for (; nobody.model < MODELS; nobody.model++) {
		struct limiter_ask ask = ask_of(&nobody);
		if (nobody.model == 0)
			limiter_rig_beat(&ask, LIMITER_UPSTREAM, sim.now, number);
		if (sim.load->model[nobody.model] != NULL)
			limiter_rig_beat(&ask, LIMITER_MODEL, sim.now, number);
	}
	if (sim.now + BEAT < end)
		push(sim.now + BEAT, BEATS, worker);
}

static void hear(void)
{
	char channel[LINE_RIG_TEXT], id[LINE_RIG_TEXT];
	while (line_rig_called(channel, id))
		push(sim.now + 200 + up_to(300), ASKS, (unsigned)strtoul(id + 1, NULL, 10));
}

static void happen(struct event event, int64_t end)
{
	struct caller *c = &sim.caller[event.who];
	switch (event.what) {
	case COMES:
		come(end);
		break;
	case ASKS:
		if (c->state == WAITING && !sim.down[c->worker])
			admit(event.who);
		break;
	case LEAVES:
		if (c->state != WAITING || sim.down[c->worker])
			break;
		if (sim.now >= c->until)
			sim.late++;
		else
			sim.left++;
		settle(c, true);
		break;
	case ENDS:
		sim.in_flight--;
		if (!sim.down[c->worker])
			settle(c, false);
		break;
	case BEATS:
		if (!sim.down[event.who])
			beat(event.who, end);
		break;
	}
	hear();
}

static void run(const struct load *load)
{
	int64_t end = RIG_START + load->seconds * CLOCK_SECOND;
	memset(&sim, 0, sizeof sim);
	sim.load = load;
	sim.random = 11;
	sim.now = RIG_START;
	push(sim.now, COMES, 0);
	for (unsigned w = 0; w < WORKERS; w++)
		push(sim.now + w * BEAT / WORKERS, BEATS, w);
	while (sim.events > 0 && sim.heap[0].at < end) {
		struct event event = pop();
		sim.now = event.at;
		if (load->killed_at > 0 && !sim.down[WORKERS - 1] && sim.now - RIG_START >= load->killed_at) {
			sim.down[WORKERS - 1] = true;
			line_rig_deaf(line_rig_workers[WORKERS - 1]);
		}
		if (load->stopped_at > 0 && sim.now - RIG_START >= load->stopped_at)
			sim.down[WORKERS - 1] = true;
		happen(event, end);
	}
	if (load->killed_at > 0)
		line_rig_listen(&line_rig_workers[WORKERS - 1]);
	print_message("%s: %u came, %u granted (%u %u %u), %u refused, %u left, %u waited in vain, %.2f calls a grant; "
		      "longest wait %.2f %.2f %.2f s\n",
		      load->name, sim.callers, sim.grants, sim.by_lane[0], sim.by_lane[1], sim.by_lane[2], sim.refused,
		      sim.left, sim.late, (double)sim.calls / sim.grants, (double)sim.longest[0] / 1e6,
		      (double)sim.longest[1] / 1e6, (double)sim.longest[2] / 1e6);
}

/* ---- what is promised ------------------------------------------------------------------------------------------------------- */

static void check_lanes(void)
{
	double all = sim.by_lane[0] + sim.by_lane[1] + sim.by_lane[2];
	for (int k = 0; k < LANES; k++) {
		double share = sim.by_lane[k] / all, due = (double)sim.load->rule.weight[k] / 9;
		if (share < 0.9 * due || share > 1.1 * due)
			fail_msg("%s: lane %d has %.3f, is due %.3f", sim.load->name, k, share, due);
	}
}

static void check_tenants(void)
{
	double a = sim.by_tenant[0], b = sim.by_tenant[1];
	print_message("tenants %.0f and %.0f\n", a, b);
	assert_true(a >= 0.95 * b && b >= 0.95 * a);
}

/* Of what the limit grants in that time, one at an edge being left out. */
static double used(int64_t from)
{
	int64_t span = sim.load->seconds * CLOCK_SECOND - from;
	unsigned n = 1;
	for (unsigned i = 0; i < sim.grants; i++)
		n += sim.grant[i] >= RIG_START + from;
	double share = (double)n / ((double)sim.load->upstream.of[LIMIT_rpm].count * (double)span / 60e6);
	print_message("%.4f of the quota used\n", share);
	return share;
}

static void check_window(enum limit_kind kind, bool tokens)
{
	const struct limit *limit = &sim.load->upstream.of[kind];
	int64_t sum = 0, worst = 0;
	for (unsigned i = 0, first = 0; i < sim.grants; i++) {
		sum += tokens ? sim.cost[i] : 1;
		for (; sim.grant[i] - sim.grant[first] >= limit_period(kind); first++)
			sum -= tokens ? sim.cost[first] : 1;
		worst = sum > worst ? sum : worst;
	}
	print_message("worst window %lld of %lld\n", (long long)worst, (long long)limit->count);
	assert_true(worst <= limit->count);
}

#define RULE                                                                                                           \
	{                                                                                                              \
		.depth = 10000, .weight = { 5, 3, 1 }, .share = { 100 }, .groups = 1                                   \
	}
static const struct load base = { .name = "requests",
				  .upstream = { .of[LIMIT_rpm] = { .count = 3000, .strict = true } },
				  .seconds = 65,
				  .per_second = 150,
				  .most = 5 * CLOCK_SECOND,
				  .service = 300 * CLOCK_MILLISECOND,
				  .rule = RULE };

static void requests(void **state)
{
	(void)state;
	run(&base);
	check_lanes();
	check_tenants();
	check_window(LIMIT_rpm, false);
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
	for (int k = 0; k < LANES; k++)
		assert_true(sim.longest[k] <= base.most);
}

/* A limit without a burst: what comes late is made good, and no window has more. */
static void no_burst(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "no burst";
	load.upstream = (struct limits){ .of[LIMIT_rpm] = { .count = 150, .strict = true } };
	load.seconds = 400;
	load.per_second = 8;
	load.most = 30 * CLOCK_SECOND;
	run(&load);
	check_lanes();
	check_window(LIMIT_rpm, false);
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
}

static void each_worker_has_one_lane(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "lanes apart";
	load.lanes_apart = true;
	load.seconds = 20;
	run(&load);
	check_lanes();
	check_tenants();
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
}

static void half_of_them_leave(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "half leave";
	load.leave = true;
	load.seconds = 20;
	run(&load);
	assert_true(sim.left > 100);
	check_lanes();
	check_tenants();
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
}

static void a_worker_is_killed(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "killed";
	load.killed_at = 8 * CLOCK_SECOND;
	load.per_second = 225; /* three times the quota without it */
	load.seconds = 20;
	run(&load);
	check_lanes();
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
}

/* It costs those behind it 200 ms, once, which the burst makes good for. */
static void a_worker_is_stopped(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "stopped";
	load.stopped_at = 8 * CLOCK_SECOND;
	load.per_second = 225;
	load.seconds = 28;
	run(&load);
	check_lanes();
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
}

static void places(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "places";
	load.upstream = (struct limits){ .of[LIMIT_concurrency] = { .count = 20 } };
	load.seconds = 20;
	load.per_second = 200; /* 67 a second is what twenty places of 300 ms take */
	run(&load);
	check_lanes();
	check_tenants();
	assert_int_equal(sim.most_in_flight, 20);
	double share = (double)sim.busy / (20 * 20e6);
	print_message("%.4f of the places used\n", share);
	assert_true(share >= 0.99);
}

static void tokens(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "tokens";
	load.upstream = (struct limits){ .of[LIMIT_tpm] = { .count = 300000, .strict = true } };
	load.tokens = 100;
	load.seconds = 70;
	run(&load);
	check_window(LIMIT_tpm, true);
	double share = (double)sim.tokens / (300000.0 * 70 / 60);
	print_message("%.4f of the tokens used\n", share);
	assert_true(share >= 0.95);
}

/* Of those who were let in. */
static void check_vain(double most)
{
	double vain = (double)sim.late / (sim.grants + sim.late);
	print_message("%.4f of those let in waited in vain\n", vain);
	assert_true(vain <= most);
}

/* All models have limits of their own, which hold nobody up for long: what is waited for is the upstream, in the order of coming. */
static void models_with_wider_limits(void **state)
{
	static const struct limits wide = { .of[LIMIT_rpm] = { .count = 600, .burst = 1 } };
	struct load load = base;
	(void)state;
	load.name = "wider models";
	load.upstream = (struct limits){ .of[LIMIT_rpm] = { .count = 60, .burst = 1 } };
	load.model[0] = load.model[1] = load.model[2] = &wide;
	load.alike = true;
	load.seconds = 300;
	load.per_second = 3;
	run(&load);
	check_vain(0.03);
	assert_true(used(5 * CLOCK_SECOND) >= 0.98);
}

/* Two models have limits, above their part of the upstream; the third has none. Nobody is served at another's cost. */
static void models_with_limits_beside_one_without(void **state)
{
	static const struct limits wide = { .of[LIMIT_rpm] = { .count = 1500, .burst = 5 } };
	struct load load = base;
	(void)state;
	load.name = "models";
	load.model[0] = load.model[1] = &wide;
	load.seconds = 65;
	run(&load);
	print_message("models %u %u %u\n", sim.by_model[0], sim.by_model[1], sim.by_model[2]);
	check_lanes();
	check_tenants();
	check_vain(0.03);
	for (int i = 0; i < MODELS; i++)
		assert_in_range(sim.by_model[i], sim.grants * 28 / 100, sim.grants * 39 / 100);
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
}

/* Two models have less than their part, and who waits for one of them holds up nobody else; also when half of the waiters leave, and a worker is stopped. */
static void models_with_narrow_limits(void **state)
{
	static const struct limits narrow = { .of[LIMIT_rpm] = { .count = 480, .burst = 8 } };
	struct load load = base;
	load.name = "narrow models";
	load.model[0] = load.model[1] = &narrow;
	for (int round = 0; round < 3; round++) {
		load.leave = round == 1;
		load.stopped_at = round == 2 ? 8 * CLOCK_SECOND : 0;
		load.per_second = round == 2 ? 225 : 150;
		load.seconds = 30;
		assert_int_equal(line_rig_clean(state), 0);
		run(&load);
		print_message("models %u %u %u\n", sim.by_model[0], sim.by_model[1], sim.by_model[2]);
		for (int i = 0; i < 2; i++)
			assert_in_range(sim.by_model[i], 8 * load.seconds * 95 / 100, 8 * load.seconds + 8);
		check_vain(round == 0 ? 0.08 : round == 1 ? 0.03 : 0.12);
		assert_true(used(5 * CLOCK_SECOND) >= 0.99);
	}
}

static void groups(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "groups";
	load.rule = (struct line_rule){ .depth = 10000, .weight = { 5, 3, 1 }, .share = { 70, 20, 10 }, .groups = 3 };
	load.seconds = 20;
	load.per_second = 300; /* 100 a second each, of 50 */
	load.most = 30 * CLOCK_SECOND;
	run(&load);
	print_message("groups %u %u %u\n", sim.by_group[0], sim.by_group[1], sim.by_group[2]);
	for (size_t g = 0; g < 3; g++) {
		double share = (double)sim.by_group[g] / sim.grants, due = (double)load.rule.share[g] / 100;
		assert_true(share >= 0.9 * due && share <= 1.1 * due);
	}
}

/* Also when those leave that are called: what they do not take stays with their group. */
static void groups_of_which_half_leave(void **state)
{
	struct load load = base;
	(void)state;
	load.name = "groups, half leave";
	load.rule = (struct line_rule){ .depth = 10000, .weight = { 5, 3, 1 }, .share = { 70, 20, 10 }, .groups = 3 };
	load.seconds = 20;
	load.per_second = 500;
	load.most = 5 * CLOCK_SECOND;
	load.leave = true;
	run(&load);
	print_message("groups %u %u %u\n", sim.by_group[0], sim.by_group[1], sim.by_group[2]);
	for (size_t g = 0; g < 3; g++) {
		double share = (double)sim.by_group[g] / sim.grants, due = (double)load.rule.share[g] / 100;
		assert_true(share >= 0.85 * due && share <= 1.15 * due);
	}
	assert_true(used(5 * CLOCK_SECOND) >= 0.99);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(requests, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(no_burst, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(each_worker_has_one_lane, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(half_of_them_leave, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_worker_is_killed, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_worker_is_stopped, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(places, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(tokens, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(models_with_wider_limits, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(models_with_limits_beside_one_without, line_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(models_with_narrow_limits, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(groups, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(groups_of_which_half_leave, line_rig_clean, limiter_rig_leave),
	};
	return cmocka_run_group_tests(tests, line_rig_begin, line_rig_end);
}

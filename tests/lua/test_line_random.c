/* The lines of models and of upstreams under whatever chance brings: calls for models with and without limits, at upstreams that share them, of all lanes, groups and
 * tenants; clients that leave, workers that are stopped or killed, lines of which Redis loses a part. In simulated time on a real Redis.
 *
 * It holds: no limit on concurrency is passed, no rate beyond its burst and what coming late makes good; nobody waits longer than it may, or for ever; who may
 * wait for long enough is served, whatever is lost; and nothing is left behind. */
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

enum { WORKERS = LINE_RIG_WORKERS, CALLERS = 6000, MODELS = 3, UPSTREAMS = 2, SCOPES = MODELS + UPSTREAMS };
#define STEP (2 * CLOCK_MILLISECOND)
#define BEAT (500 * CLOCK_MILLISECOND)
#define LATE (200 * CLOCK_MILLISECOND) /* that coming late makes good, at most */

enum state { ENDED, WAITS, HOLDS, LOST }; /* LOST: its worker was killed, and its lease counts until it ends */

struct load {
	const char *name;
	unsigned come;     /* in a second */
	int64_t most;      /* so long each waits, at most */
	bool leave, fault; /* clients leave; workers fail and lines are lost */
};

struct caller {
	char id[24];
	enum state state;
	unsigned worker, model, upstream, tenant;
	bool bound, waited; /* by limits of its model; it was let in */
	enum lane lane;
	size_t group;
	enum limiter_scope line;
	int64_t at, until, ends, reserved;
};

static const struct line_rule rule = { .depth = 10000, .weight = { 5, 3, 1 }, .share = { 60, 40 }, .groups = 2 };
/* Three models, and the two upstreams that have all of them. */
static const char *const names[SCOPES] = { "pro", "air", "max", "gem", "bed" };
static const struct limits limits[SCOPES] = {
	{ .of[LIMIT_concurrency] = { .count = 2 } },
	{ .of[LIMIT_rpm] = { .count = 600, .burst = 3 } },
	{ .of[LIMIT_rpm] = { .count = 1200, .burst = 2 }, .of[LIMIT_concurrency] = { .count = 4 } },
	{ .of[LIMIT_rpm] = { .count = 1800, .burst = 3 }, .of[LIMIT_concurrency] = { .count = 8 } },
	{ .of[LIMIT_concurrency] = { .count = 3 } },
};

static struct {
	const struct load *load;
	uint64_t random;
	int64_t now, end, back[WORKERS]; /* back: when the worker goes on, 0: it runs */
	int64_t born[WORKERS][SCOPES];
	struct caller caller[CALLERS];
	unsigned callers, admitted, refused, vain, left, lost, grants[SCOPES];
	int64_t grant[SCOPES][CALLERS];
} sim;

static bool chance(unsigned one_in)
{
	return random_below(&sim.random, one_in) == 0;
}

static int64_t up_to(int64_t most)
{
	return (int64_t)random_below(&sim.random, (uint32_t)most);
}

static struct limiter_ask ask_of(const struct caller *c)
{
	static const char *const tenants[] = { "acme", "bolt" };
	struct limiter_ask ask =
		limiter_rig_ask(c->id, NULL, c->bound ? &limits[c->model] : NULL, &limits[MODELS + c->upstream], 0);
	ask.scope[LIMITER_TENANT].name = slice_of(tenants[c->tenant]);
	ask.scope[LIMITER_MODEL].name = slice_of(names[c->model]);
	ask.scope[LIMITER_UPSTREAM].name = slice_of(names[MODELS + c->upstream]);
	ask.line.rule = &rule;
	ask.line.lane = c->lane;
	ask.line.group = c->group;
	ask.line.waited = c->waited;
	ask.line.most = c->until > sim.now ? c->until - sim.now : 0;
	limiter_rig_as(line_rig_workers[c->worker]);
	return ask;
}

static void settle(struct caller *c)
{
	struct limiter_ask ask = ask_of(c);
	const struct limiter_used used = { 0 };
	const struct limiter_wire_past past = { .lease = RIG_LEASE,
						.reserved = c->reserved,
						.waits = c->state == WAITS };
	int64_t forgiven[LIMIT_COUNT] = { 0 };
	c->state = ENDED;
	limiter_rig_settle(&ask, &used, &past, RIG_START + sim.now, forgiven);
}

static unsigned in_flight(unsigned scope)
{
	unsigned count = 0;
	for (struct caller *c = sim.caller; c < &sim.caller[sim.callers]; c++)
		count += (c->state == HOLDS || (c->state == LOST && c->ends > sim.now)) &&
			 (scope < MODELS ? c->bound && c->model == scope : c->upstream == scope - MODELS);
	return count;
}

static void granted(struct caller *c)
{
	const unsigned scopes[] = { MODELS + c->upstream, c->model };
	c->state = HOLDS;
	c->ends = sim.now + 20 * CLOCK_MILLISECOND + up_to(400 * CLOCK_MILLISECOND);
	sim.admitted++;
	for (int i = 0; i < (c->bound ? 2 : 1); i++) {
		int64_t most = limits[scopes[i]].of[LIMIT_concurrency].count;
		sim.grant[scopes[i]][sim.grants[scopes[i]]++] = sim.now;
		assert_true(most == 0 || in_flight(scopes[i]) <= most);
	}
}

static void ask(struct caller *c)
{
	struct limiter_ask asked = ask_of(c);
	struct limiter_answer answer;
	limiter_rig_admit(&asked, RIG_START + sim.now, &answer, &c->reserved);
	switch (answer.verdict) {
	case LIMITER_ADMITTED:
		granted(c);
		return;
	case LIMITER_QUEUED:
		assert_true(asked.line.most > 0);
		c->waited = true;
		c->state = WAITS;
		c->line = answer.scope;
		c->at = answer.wait > 0 ? sim.now + answer.wait : INT64_MAX;
		return;
	default:
		assert_int_equal(answer.verdict, LIMITER_DENIED);
		*(c->waited ? &sim.vain : &sim.refused) += 1;
		c->state = ENDED;
	}
}

static void come(void)
{
	struct caller *c = &sim.caller[sim.callers];
	snprintf(c->id, sizeof c->id, "%u", sim.callers++);
	c->worker = random_below(&sim.random, WORKERS);
	c->model = random_below(&sim.random, MODELS);
	c->upstream = random_below(&sim.random, UPSTREAMS);
	c->tenant = random_below(&sim.random, 2);
	c->lane = (enum lane)random_below(&sim.random, (uint32_t)LANES);
	c->group = random_below(&sim.random, 2);
	c->bound = c->model != 1 ||
		   sim.now / (7 * CLOCK_SECOND) % 2 == 0; /* reloads give that one limits, and take them */
	c->until = sim.now + sim.load->most / 2 + up_to(sim.load->most / 2);
	if (sim.back[c->worker] != 0)
		c->worker = 0;
	ask(c);
}

/* ---- workers ---------------------------------------------------------------------------------------------------------------- */

static bool waits_in(const struct caller *c, unsigned worker, unsigned scope)
{
	return c->state == WAITS && c->worker == worker &&
	       (scope < MODELS ? c->line == LIMITER_MODEL && c->model == scope
			       : c->line == LIMITER_UPSTREAM && c->upstream == scope - MODELS);
}

static void beat(unsigned worker, unsigned scope)
{
	int64_t *born = &sim.born[worker][scope], number[64] = { 2 };
	struct caller *c = sim.caller, *end = &sim.caller[sim.callers];
	while (c < end && !waits_in(c, worker, scope))
		c++;
	if (c == end) {
		*born = 0;
		return;
	}
	const struct limiter_ask asked = ask_of(c);
	while (number[0] == 2)
		limiter_rig_beat(&asked, c->line, RIG_START + sim.now, number);
	bool lost = number[0] == 0 || number[5] != 0 || (*born != 0 && *born != number[1]);
	for (; lost && c < end; c++)
		if (waits_in(c, worker, scope) && c->at > sim.now)
			c->at = sim.now + up_to(5 * CLOCK_MILLISECOND);
	*born = number[0] != 0 ? number[1] : 0;
}

static void hear(void)
{
	char channel[LINE_RIG_TEXT], id[LINE_RIG_TEXT];
	while (line_rig_called(channel, id)) {
		struct caller *c = &sim.caller[atoi(id)];
		int64_t back = sim.back[c->worker];
		if (c->state == WAITS)
			c->at = (back != 0 ? back : sim.now) + up_to(8 * CLOCK_MILLISECOND);
	}
}

static void kill_worker(unsigned worker)
{
	for (struct caller *c = sim.caller; c < &sim.caller[sim.callers]; c++) {
		if (c->worker != worker || (c->state != WAITS && c->state != HOLDS))
			continue;
		sim.lost++;
		c->state = c->state == HOLDS ? LOST : ENDED;
		c->ends = c->reserved - RIG_START + RIG_LEASE;
	}
	line_rig_deaf(line_rig_workers[worker]);
	sim.back[worker] = sim.now + 8 * CLOCK_SECOND;
}

static void lose_a_line(void)
{
	unsigned scope = random_below(&sim.random, SCOPES), part = random_below(&sim.random, 3);
	char line[48], command[128];
	snprintf(line, sizeof line, "sluice:{%c:%s}", scope < MODELS ? 'm' : 'u', names[scope]);
	snprintf(command, sizeof command, "DEL %s:%s %s:%s", line, part == 0 ? "f" : "w", line, part == 1 ? "w" : "f");
	redis_server_do(limiter_rig_server(), command);
}

static void go_wrong(void)
{
	unsigned worker = 1 + random_below(&sim.random, WORKERS - 1);
	if (chance(1500))
		lose_a_line();
	if (sim.back[worker] == 0 && chance(2500)) /* stopped, for less than its leases last */
		sim.back[worker] = sim.now + 100 * CLOCK_MILLISECOND + up_to(4 * CLOCK_SECOND);
	if (sim.now == sim.end / 2)
		kill_worker(WORKERS - 1);
}

static void go_on(unsigned worker)
{
	sim.back[worker] = 0;
	line_rig_listen((const char *const[]){ line_rig_workers[worker], NULL });
	for (struct caller *c = sim.caller; c < &sim.caller[sim.callers]; c++)
		if (c->state == WAITS && c->worker == worker)
			c->at = sim.now + up_to(50 * CLOCK_MILLISECOND);
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------ */

/* Whether anybody waits yet. */
static bool step(void)
{
	bool waiting = false;
	if (sim.now < sim.end && random_below(&sim.random, 500) < sim.load->come)
		come();
	hear();
	for (unsigned w = 0; w < WORKERS; w++) {
		if (sim.back[w] != 0 && sim.now >= sim.back[w])
			go_on(w);
		for (unsigned s = 0; s < SCOPES && sim.back[w] == 0; s++)
			if ((sim.now / STEP + w * 80 + s * 7) % (BEAT / STEP) == 0)
				beat(w, s);
	}
	for (struct caller *c = sim.caller; c < &sim.caller[sim.callers]; c++) {
		waiting |= c->state == WAITS;
		if (sim.back[c->worker] != 0 || (c->state != WAITS && c->state != HOLDS))
			continue;
		if (c->state == HOLDS ? sim.now >= c->ends : sim.load->leave && chance(3000)) {
			sim.left += c->state == WAITS;
			settle(c);
		} else if (c->state == WAITS && (sim.now >= c->at || sim.now >= c->until)) {
			ask(c);
		}
	}
	if (sim.load->fault && sim.now > 3 * CLOCK_SECOND && sim.now < sim.end)
		go_wrong();
	return waiting;
}

static void check_rate(unsigned scope)
{
	const struct limit *limit = &limits[scope].of[LIMIT_rpm];
	const int64_t *grant = sim.grant[scope];
	for (unsigned i = 0; limit->count > 0 && i < sim.grants[scope]; i++)
		for (unsigned j = i; j < sim.grants[scope]; j++) {
			int64_t spare = (int64_t)(j - i + 1 - limit->burst) * CLOCK_MINUTE -
					limit->count * (grant[j] - grant[i] + LATE);
			if (spare > 0)
				fail_msg("%s: %u in %lld us", names[scope], j - i + 1,
					 (long long)(grant[j] - grant[i]));
		}
}

static void run(const struct load *load, uint64_t seed)
{
	memset(&sim, 0, sizeof sim);
	sim.load = load;
	sim.random = seed;
	sim.end = 20 * CLOCK_SECOND;
	while (step() || sim.now < sim.end) {
		assert_true(sim.now < sim.end + load->most + 10 * CLOCK_SECOND);
		sim.now += STEP;
	}
	print_message("%s, seed %llu: %u came, %u admitted, %u refused, %u in vain, %u left, %u lost; %lld s\n",
		      load->name, (unsigned long long)seed, sim.callers, sim.admitted, sim.refused, sim.vain, sim.left,
		      sim.lost, (long long)(sim.now / CLOCK_SECOND));
	for (unsigned i = 0; i < SCOPES; i++)
		check_rate(i);
	limiter_rig_check_expiries();
}

static uint64_t rounds(void)
{
	const char *soak = getenv("SLUICE_SOAK");
	return soak != NULL ? strtoull(soak, NULL, 10) : 2;
}

static uint64_t first_seed(void)
{
	const char *given = getenv("SLUICE_TEST_SEED");
	return given != NULL ? strtoull(given, NULL, 10) : 1;
}

static void nobody_waits_for_ever(void **state)
{
	static const struct load patient = { "patient", 30, 4 * CLOCK_MINUTE, false, true };
	for (uint64_t seed = first_seed(), n = rounds(); n > 0; seed++, n--) {
		assert_int_equal(line_rig_clean(state), 0);
		run(&patient, seed);
		assert_int_equal(sim.vain, 0);
	}
}

static void limits_hold_whatever_is_lost(void **state)
{
	static const struct load crowd = { "crowd", 100, 8 * CLOCK_SECOND, true, true };
	for (uint64_t seed = first_seed(), n = rounds(); n > 0; seed++, n--) {
		assert_int_equal(line_rig_clean(state), 0);
		run(&crowd, seed);
		assert_true(sim.left > 0 && sim.lost > 0 && sim.refused > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nobody_waits_for_ever, line_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(limits_hold_whatever_is_lost, line_rig_clean, limiter_rig_leave),
	};
	return cmocka_run_group_tests(tests, line_rig_begin, line_rig_end);
}

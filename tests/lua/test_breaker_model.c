/* One rule, three engines: lua/report on a real Redis, lib/breaker_rule, and a slow exact model that keeps every single result. The same random sequences are
 * given to all three, with the time given, and they say the same. And what "slow" means is held against sorting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/breaker_script_rig.h"
#include "tests/support/random.h"

enum { SEQUENCES = 150, STEPS = 120, EVENTS = 64 * 1024, TRACE = 2000 };

/* ---- the slow model: it adds nothing up before it is asked --------------------------------------- */

struct event {
	int64_t at;
	enum breaker_result result;
	bool counted_as_success;
	int first_byte; /* 0: none; 1: in time; 2: slow */
	bool is_call;
};

static struct {
	struct event event[EVENTS];
	size_t count;
	int64_t opened, length; /* opened 0: closed */
	int64_t trips, good, epoch;
	enum breaker_force force;
} model;

static struct breaker_counts model_window(const struct breaker_rule *rule, int64_t now)
{
	struct breaker_counts sum = { 0 };
	int64_t width = rule->window / 10, first = (now / width - 9) * width;
	for (size_t i = 0; i < model.count; i++) {
		const struct event *e = &model.event[i];
		if (e->at < first)
			continue;
		sum.calls += e->is_call && !e->counted_as_success;
		sum.failed += e->is_call && e->result != BREAKER_SUCCESS;
		sum.first_bytes += e->first_byte > 0;
		sum.slow += e->first_byte == 2;
	}
	return sum;
}

/* How many of the last calls were all so; a silence longer than the window ends it. */
static int64_t model_row(const struct breaker_rule *rule, int64_t now, bool unreachable)
{
	int64_t row = 0, at = now;
	for (size_t i = model.count; i > 0; i--) {
		const struct event *e = &model.event[i - 1];
		if (at - e->at > rule->window)
			break;
		at = e->at;
		if (!e->is_call)
			continue;
		if (unreachable ? e->result != BREAKER_UNREACHABLE : e->result == BREAKER_SUCCESS)
			break;
		row++;
	}
	return row;
}

static enum breaker_state model_state(int64_t now)
{
	if (model.opened == 0)
		return BREAKER_CLOSED;
	return now - model.opened < model.length ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

static void model_open(const struct breaker_rule *rule, int64_t now)
{
	model.opened = now;
	model.length = rule->open_for << model.trips;
	if (model.length > rule->open_most)
		model.length = rule->open_most;
	model.trips++;
	model.good = 0;
	model.count = 0;
	model.epoch = now > model.epoch ? now : model.epoch + 1;
}

static void model_close(int64_t now)
{
	model.opened = model.trips = model.good = 0;
	model.count = 0;
	model.epoch = now > model.epoch ? now : model.epoch + 1;
}

static enum breaker_why model_judge(const struct breaker_rule *rule, int64_t now)
{
	struct breaker_counts w = model_window(rule, now);
	if (model.opened != 0 || model.force != BREAKER_AUTO)
		return BREAKER_WHY_NOTHING;
	if (w.calls >= rule->min_calls && rule->error_rate > 0 &&
	    (double)w.failed > (double)w.calls * (double)rule->error_rate / 10000 + 1e-9)
		return BREAKER_WHY_ERRORS;
	if (w.first_bytes >= rule->slow_min_calls && rule->slow_rate > 0 &&
	    (double)w.slow > (double)w.first_bytes * (double)rule->slow_rate / 10000 + 1e-9)
		return BREAKER_WHY_SLOW;
	if (rule->unreachable > 0 && model_row(rule, now, true) >= rule->unreachable)
		return BREAKER_WHY_UNREACHABLE;
	if (rule->failures > 0 && model_row(rule, now, false) >= rule->failures)
		return BREAKER_WHY_FAILURES;
	return BREAKER_WHY_NOTHING;
}

/* ---- the three, step by step ---------------------------------------------------------------------- */

static uint64_t chance;
static struct breaker_judge judge;
static struct breaker_rule rule;
static int64_t now;
static unsigned reached[BREAKER_WHYS];

static uint32_t below(uint32_t limit)
{
	return random_below(&chance, limit);
}

static void choose_rule(void)
{
	static const int64_t rates[] = { 0, 100, 2500, 5000, 9999, 10000 };
	rule = (struct breaker_rule){ .window = 1000 + below(10) * 1000 + below(9),
				      .min_calls = 1 + below(30),
				      .error_rate = rates[below(6)],
				      .slow = 1000,
				      .slow_rate = rates[below(6)],
				      .slow_min_calls = 1 + below(40),
				      .unreachable = below(3) == 0 ? 0 : 1 + below(12),
				      .failures = below(3) == 0 ? 1 + below(20) : 0,
				      .open_for = 1 + below(3000),
				      .probes = 1 + below(3) };
	rule.open_most = rule.open_for * (1 + below(9));
}

static void check(const struct breaker_standing *s, enum breaker_why why, const struct breaker_counts *counts)
{
	assert_int_equal(s->state, breaker_judge_state(&judge, now));
	assert_int_equal(s->state, model_state(now));
	assert_int_equal(s->epoch, judge.epoch);
	assert_int_equal(s->epoch, model.epoch);
	assert_int_equal(s->trips, judge.trips);
	assert_int_equal(s->trips, model.trips);
	assert_int_equal(s->force, judge.force);
	assert_int_equal(s->left, s->state == BREAKER_OPEN ? judge.until - now : 0);
	assert_int_equal(s->left, s->state == BREAKER_OPEN ? model.opened + model.length - now : 0);
	assert_int_equal(s->why, why);
	assert_memory_equal(&s->counts, counts, sizeof(*counts));
	assert_memory_equal(&judge.judged, counts, sizeof(*counts));
	assert_int_equal(s->run, judge.run);
	reached[why]++;
}

static struct event choose_event(uint32_t ill)
{
	struct event e = { .at = now, .is_call = below(4) > 0 };
	if (!e.is_call) {
		e.first_byte = 1 + (below(100) < ill);
		return e;
	}
	if (below(100) < ill)
		e.result = below(2) == 0 ? BREAKER_FAILURE : BREAKER_UNREACHABLE;
	e.counted_as_success = e.result == BREAKER_FAILURE && below(5) == 0;
	return e;
}

static void step_report(uint32_t ill)
{
	struct breaker_report report = { .result = BREAKER_NOTHING };
	bool stale = below(12) == 0, counts;
	report.epoch = stale ? judge.epoch + 1 + below(3) : below(8) == 0 ? 0 : judge.epoch;
	counts = report.epoch == 0 || judge.epoch == 0 || report.epoch == judge.epoch;
	for (uint32_t n = below(12); n > 0; n--) {
		struct event e = choose_event(ill);
		if (e.is_call)
			breaker_delta_note(&report.delta, e.result, e.counted_as_success);
		else
			breaker_delta_first_byte(&report.delta, &rule, e.first_byte == 2 ? 1001 : 1000,
						 below(2) == 0 || e.first_byte == 1);
		assert_true(model.count < EVENTS);
		if (counts && model.opened == 0)
			model.event[model.count++] = e;
	}
	struct breaker_counts judged = { 0 };
	if (model.opened == 0)
		judged = model_window(&rule, now);
	enum breaker_why why = model_judge(&rule, now);
	int64_t run = why == BREAKER_WHY_UNREACHABLE ? model_row(&rule, now, true)
		      : why == BREAKER_WHY_FAILURES  ? model_row(&rule, now, false)
						     : 0;
	if (why != BREAKER_WHY_NOTHING)
		model_open(&rule, now);
	assert_int_equal(breaker_judge_add(&judge, &rule, now, report.epoch, &report.delta), why);
	assert_int_equal(judge.run, run);
	struct breaker_standing s = breaker_script_report(now, &rule, &report).standing;
	check(&s, why, &judged);
}

static void step_probe(bool well)
{
	static unsigned number;
	char ticket[64];
	bool is_half = model_state(now) == BREAKER_HALF_OPEN, judged = is_half && model.force == BREAKER_AUTO;
	snprintf(ticket, sizeof(ticket), "%lld %u w", (long long)judge.epoch, ++number);
	enum breaker_verdict verdict = breaker_script_probe(now, ticket, CLOCK_MINUTE, rule.probes);
	assert_int_equal(verdict, model.force == BREAKER_FORCED_OPEN                          ? BREAKER_DENIED
				  : model.force == BREAKER_FORCED_CLOSED || model.opened == 0 ? BREAKER_NEEDLESS
				  : is_half                                                   ? BREAKER_GRANTED
											      : BREAKER_DENIED);
	if (verdict != BREAKER_GRANTED)
		return;
	const struct breaker_report report = { .ticket = slice_of(ticket),
					       .result = well ? BREAKER_SUCCESS : BREAKER_UNREACHABLE };
	enum breaker_why why = BREAKER_WHY_NOTHING;
	assert_true(judged);
	if (!well) {
		model_open(&rule, now);
		why = BREAKER_WHY_PROBE_FAILED;
	} else if (++model.good == rule.probes) {
		model_close(now);
		why = BREAKER_WHY_PROBES_WELL;
	}
	assert_int_equal(breaker_judge_probed(&judge, &rule, now, judge.epoch, well), why);
	struct rig_report answer = breaker_script_report(now, &rule, &report);
	assert_int_equal(answer.there, 1);
	check(&answer.standing, why, &(struct breaker_counts){ 0 });
}

static void step_force(void)
{
	enum breaker_force force = (enum breaker_force)below(3);
	if (force != model.force || model.epoch == 0) {
		if (force == BREAKER_FORCED_CLOSED)
			model_close(now);
		else
			model.epoch = now > model.epoch ? now : model.epoch + 1;
		model.force = force;
	}
	breaker_judge_forced(&judge, now, force);
	struct breaker_standing s = breaker_script_force(now, force, &rule);
	assert_int_equal(s.state, model_state(now));
	assert_int_equal(s.state, breaker_judge_state(&judge, now));
	assert_int_equal(s.epoch, model.epoch);
	assert_int_equal(s.epoch, judge.epoch);
}

static void three_engines_say_the_same(void **state)
{
	(void)state;
	for (int sequence = 0; sequence < SEQUENCES; sequence++) {
		chance = 88172645463325252 + (uint64_t)sequence;
		redis_server_do(breaker_script_server(), "FLUSHALL");
		memset(&model, 0, sizeof(model));
		memset(&judge, 0, sizeof(judge));
		now = RIG_START + below(100000);
		choose_rule();
		for (int step = 0; step < STEPS; step++) {
			uint32_t what = below(40), pace = (uint32_t)rule.window / (below(4) == 0 ? 1 : 8);
			now += below(pace);
			if (what == 0)
				step_force();
			else if (what < 12)
				step_probe(below(4) > 0);
			else
				step_report(step / 30 % 2 == 0 ? below(40) : below(100));
		}
	}
	for (int why = BREAKER_WHY_NOTHING; why <= BREAKER_WHY_PROBES_WELL; why++)
		assert_true(reached[why] > 10); /* each way was gone */
}

/* ---- slow -------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

/* The nearest rank: the smallest of them that at least 99 % are not above. */
static int64_t percentile_99(int64_t *latency, size_t count)
{
	qsort(latency, count, sizeof(*latency), by_number);
	return latency[(99 * count + 99) / 100 - 1];
}

/* Mostly quick, with a tail of about one in a hundred: close to where it must be decided. */
static void choose_trace(int64_t *latency, size_t count)
{
	uint32_t tail = 5 + below(12);
	for (size_t i = 0; i < count; i++)
		latency[i] = below(1000) < tail ? 1000 + below(50) : 1 + below(1001);
}

static void slow_is_a_99th_percentile_above_the_limit(void **state)
{
	enum { TRACES = 400 };
	static int64_t latency[TRACE];
	unsigned opened = 0;
	(void)state;
	chance = 1234567;
	rule = (struct breaker_rule){ .window = 10 * CLOCK_SECOND,
				      .min_calls = 1,
				      .slow = 1000,
				      .slow_rate = 100,
				      .slow_min_calls = 500,
				      .open_for = CLOCK_SECOND,
				      .open_most = CLOCK_SECOND,
				      .probes = 1 };
	for (int trace = 0; trace < TRACES; trace++) {
		size_t count = 480 + below(TRACE - 480);
		struct breaker_report report = { .result = BREAKER_NOTHING };
		choose_trace(latency, count);
		for (size_t i = 0; i < count; i++)
			breaker_delta_first_byte(&report.delta, &rule, latency[i], below(20) > 0 || latency[i] <= 1000);
		bool is_slow = count >= 500 && percentile_99(latency, count) > rule.slow;
		redis_server_do(breaker_script_server(), "FLUSHALL");
		memset(&judge, 0, sizeof(judge));
		breaker_judge_add(&judge, &rule, RIG_START, 0, &report.delta);
		assert_int_equal(judge.is_open, is_slow);
		struct breaker_standing s = breaker_script_report(RIG_START, &rule, &report).standing;
		assert_int_equal(s.state == BREAKER_OPEN, is_slow);
		opened += is_slow;
	}
	assert_in_range(opened, TRACES / 10, TRACES - TRACES / 10);
}

/* Who left before it could be slow says nothing; who left after so long says that it is. */
static void what_has_not_come_and_was_not_slow_is_not_counted(void **state)
{
	struct breaker_delta delta = { 0 };
	(void)state;
	rule.slow = 1000;
	breaker_delta_first_byte(&delta, &rule, 1000, false);
	assert_int_equal(delta.counts.first_bytes, 0);
	breaker_delta_first_byte(&delta, &rule, 1001, false);
	breaker_delta_first_byte(&delta, &rule, 1000, true);
	assert_int_equal(delta.counts.first_bytes, 2);
	assert_int_equal(delta.counts.slow, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, breaker_script_clean, breaker_script_leave)
	const struct CMUnitTest tests[] = {
		TEST(three_engines_say_the_same),
		TEST(slow_is_a_99th_percentile_above_the_limit),
		TEST(what_has_not_come_and_was_not_slow_is_not_counted),
	};
	return cmocka_run_group_tests_name("breaker model", tests, breaker_script_begin, breaker_script_end);
}

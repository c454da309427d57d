/* route_choose against a slow, obvious model: ten thousand configurations, healths and questions by chance. The model narrows the candidates rule by rule, as the
 * header tells them; where lots decide, it knows only who may win, and that a loser's absence changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/random.h"
#include "tests/support/route_rig.h"

enum { SCENARIOS = 10000, TARGETS = 5, ENDPOINTS = 4 };

static char region_a[] = "a", region_b[] = "b";
static char *const regions[] = { NULL, region_a, region_b };

struct scenario {
	struct route_rig rig;
	uint64_t chance;
	/* Who is left: bit endpoint of the target's. */
	unsigned left[TARGETS];
	size_t endpoint[TARGETS]; /* that of the target, if the target is taken */
};

static uint32_t below(struct scenario *s, uint32_t limit)
{
	return random_below(&s->chance, limit);
}

/* ---- by chance --------------------------------------------------------------------------------------------------------------- */

static void make_up_target(struct scenario *s, size_t target)
{
	struct config_target *t = &s->rig.targets[target];

	t->weight = below(s, 4);
	t->capabilities = (struct config_capabilities){ .media = below(s, 4) > 0,
							.tools = below(s, 4) > 0,
							.context = below(s, 3) * 100 };
	if (below(s, 2) == 0)
		t->price = (struct config_price){ below(s, 4) - 1, -1, below(s, 4) - 1 };
	s->rig.upstreams[target].endpoints_count = 1 + below(s, ENDPOINTS);
}

static void make_up_endpoint(struct scenario *s, size_t target, size_t endpoint, unsigned trouble)
{
	struct config_endpoint *e = &s->rig.endpoints[target][endpoint];
	struct route_health *h = &s->rig.health[target][endpoint];

	e->region = regions[below(s, 3)];
	e->priority = below(s, 3);
	e->weight = below(s, 3);
	e->lane = (enum config_lane)below(s, 3);
	h->gate = below(s, 10) < trouble ? BREAKER_STOP : (enum breaker_gate)below(s, 2);
	h->wait = below(s, 50);
	h->paused = below(s, 2) == 0;
	h->first_byte = (int64_t)below(s, 6) - 1;
	h->in_flight = below(s, 4);
	if (below(s, 10) < trouble)
		route_mark(&s->rig.q.failed, target, endpoint);
	if (below(s, 10) < trouble / 2)
		route_mark(&s->rig.q.barred, target, endpoint);
}

static void make_up(struct scenario *s)
{
	struct route_rig *rig = &s->rig;
	unsigned trouble = below(s, 11);

	route_rig_init(rig, (enum config_strategy)below(s, CONFIG_STRATEGY_LOAD + 1), 1 + below(s, TARGETS), 1);
	rig->config.region = regions[below(s, 3)];
	rig->model.affinity = below(s, 2) == 0;
	if (below(s, 2) == 0)
		rig->model.price = (struct config_price){ below(s, 4), -1, below(s, 4) };
	rig->q.media = below(s, 3) == 0;
	rig->q.tools = below(s, 3) == 0;
	rig->q.input = below(s, 150);
	rig->q.output = below(s, 60);
	rig->q.lane = below(s, 2) == 0 ? CONFIG_LANE_BATCH : CONFIG_LANE_REALTIME;
	rig->q.session = below(s, 2) == 0 ? 0 : random_bits(&s->chance);
	rig->q.random = random_bits(&s->chance) >> (below(s, 8) == 0 ? 6 : 0);
	for (size_t i = 0; i < rig->model.targets_count; i++) {
		make_up_target(s, i);
		for (size_t k = 0; k < rig->upstreams[i].endpoints_count; k++)
			make_up_endpoint(s, i, k, trouble);
	}
}

/* ---- the model: who may be taken ------------------------------------------------------------------------------------------------- */

typedef bool good(struct scenario *, size_t target, size_t endpoint);

static bool is_left(const struct scenario *s, size_t target, size_t endpoint)
{
	return (s->left[target] >> endpoint & 1) != 0;
}

/* Strikes out all that are not good; with `may_be_none`, also when nothing is left of the target then. */
static void keep(struct scenario *s, size_t target, good *is_good, bool may_be_none)
{
	unsigned kept = 0;

	for (size_t i = 0; i < ENDPOINTS; i++)
		if (is_left(s, target, i) && is_good(s, target, i))
			kept |= 1U << i;
	if (kept != 0 || may_be_none)
		s->left[target] = kept;
}

static bool any_left(const struct scenario *s)
{
	unsigned all = 0;

	for (size_t i = 0; i < TARGETS; i++)
		all |= s->left[i];
	return all != 0;
}

static bool is_able(struct scenario *s, size_t target, size_t endpoint)
{
	const struct config_capabilities *can = &s->rig.targets[target].capabilities;
	const struct route_question *q = &s->rig.q;

	(void)endpoint;
	return !(q->media && !can->media) && !(q->tools && !can->tools) &&
	       !(can->context > 0 && q->input + q->output > can->context);
}

static bool is_open(struct scenario *s, size_t target, size_t endpoint)
{
	return s->rig.health[target][endpoint].gate != BREAKER_STOP &&
	       !route_marked(&s->rig.q.barred, target, endpoint);
}

static bool is_fresh(struct scenario *s, size_t target, size_t endpoint)
{
	return !route_marked(&s->rig.q.failed, target, endpoint);
}

static bool is_of_lane(struct scenario *s, size_t target, size_t endpoint)
{
	enum config_lane lane = s->rig.endpoints[target][endpoint].lane;

	return lane == CONFIG_LANE_ANY || lane == s->rig.q.lane;
}

static bool has_weight(struct scenario *s, size_t target, size_t endpoint)
{
	return s->rig.endpoints[target][endpoint].weight > 0;
}

static bool is_near(struct scenario *s, size_t target, size_t endpoint)
{
	return s->rig.endpoints[target][endpoint].region == s->rig.config.region;
}

static bool is_of_least_priority(struct scenario *s, size_t target, size_t endpoint)
{
	for (size_t i = 0; i < ENDPOINTS; i++)
		if (is_left(s, target, i) &&
		    s->rig.endpoints[target][i].priority < s->rig.endpoints[target][endpoint].priority)
			return false;
	return true;
}

static void keep_all(struct scenario *s, good *is_good, bool may_be_none)
{
	for (size_t i = 0; i < TARGETS; i++)
		keep(s, i, is_good, may_be_none);
}

/* What is to come, and in `left` which endpoints of which targets may be found. */
static enum route_found narrow(struct scenario *s)
{
	unsigned open[TARGETS];

	for (size_t i = 0; i < TARGETS; i++)
		s->left[i] = i < s->rig.model.targets_count ? (1U << s->rig.upstreams[i].endpoints_count) - 1 : 0;
	keep_all(s, is_able, true);
	if (!any_left(s))
		return ROUTE_UNABLE;
	keep_all(s, is_open, true);
	if (!any_left(s))
		return ROUTE_STOPPED;
	memcpy(open, s->left, sizeof(open));
	keep_all(s, is_fresh, true);
	if (!any_left(s))
		memcpy(s->left, open, sizeof(open));
	keep_all(s, is_of_lane, false);
	keep_all(s, has_weight, false);
	if (s->rig.config.region != NULL)
		keep_all(s, is_near, false);
	keep_all(s, is_of_least_priority, false);
	return ROUTE_FOUND;
}

/* ---- the model: which target ----------------------------------------------------------------------------------------------------- */

static int64_t cost(const struct scenario *s, size_t target)
{
	const struct config_price *price = &s->rig.targets[target].price;

	if (price->input == -1 && price->output == -1)
		price = &s->rig.model.price;
	if (price->input == -1 && price->output == -1)
		return INT64_MAX;
	return (price->input == -1 ? 0 : price->input * s->rig.q.input) +
	       (price->output == -1 ? 0 : price->output * s->rig.q.output);
}

static int64_t latency(const struct scenario *s, size_t target)
{
	const struct route_health *h = &s->rig.health[target][s->endpoint[target]];

	return h->first_byte >= 0 ? h->first_byte : h->in_flight == 0 ? -1 : INT64_MAX;
}

/* In 1/60 of a request, which 1, 2 and 3 divide. One without a weight comes after all that have one. */
static int64_t load(const struct scenario *s, size_t target)
{
	int64_t weight = s->rig.targets[target].weight, in_flight = 1;

	for (size_t i = 0; i < s->rig.upstreams[target].endpoints_count; i++)
		in_flight += s->rig.health[target][i].in_flight;
	return weight > 0 ? in_flight * 60 / weight : INT64_MAX / 2 + in_flight;
}

static int64_t place(const struct scenario *s, size_t target)
{
	(void)s;
	return (int64_t)target;
}

static int64_t weightless(const struct scenario *s, size_t target)
{
	return s->rig.targets[target].weight == 0;
}

/* Of who is left, those of the least value; `one`: the first of them. */
static unsigned least(const struct scenario *s, int64_t (*value)(const struct scenario *, size_t target), bool one)
{
	int64_t lowest = INT64_MAX;
	unsigned found = 0;

	for (size_t i = 0; i < TARGETS; i++)
		if (s->left[i] != 0 && value(s, i) < lowest)
			lowest = value(s, i);
	for (size_t i = 0; i < TARGETS; i++)
		if (s->left[i] != 0 && value(s, i) == lowest && !(one && found != 0))
			found |= 1U << i;
	return found;
}

static bool explores(const struct scenario *s)
{
	return s->rig.model.strategy == CONFIG_STRATEGY_LATENCY && s->rig.q.random >> 58 == 0;
}

/* One bit for each target that may be found. */
static unsigned best_targets(const struct scenario *s)
{
	unsigned others = 0, best;

	switch (s->rig.model.strategy) {
	case CONFIG_STRATEGY_PRIORITY:
		return least(s, place, true);
	case CONFIG_STRATEGY_WEIGHTED:
		return least(s, weightless, false);
	case CONFIG_STRATEGY_COST:
		return least(s, cost, true);
	case CONFIG_STRATEGY_LOAD:
		return least(s, load, false);
	case CONFIG_STRATEGY_LATENCY:
		break;
	}
	best = least(s, latency, true);
	if (!explores(s))
		return best;
	for (size_t i = 0; i < TARGETS; i++)
		if (s->left[i] != 0 && latency(s, i) != INT64_MAX)
			others |= 1U << i;
	others &= ~best;
	return others != 0 ? others : best;
}

/* ---- side by side ------------------------------------------------------------------------------------------------------------- */

/* Which endpoint a target has is asked of route_choose itself, with all others barred: the choice of the endpoint is the target's own affair. */
static void ask_each_target(struct scenario *s)
{
	struct route_set barred = s->rig.q.barred;

	for (size_t i = 0; i < TARGETS; i++) {
		if (s->left[i] == 0)
			continue;
		for (size_t k = 0; k < TARGETS; k++)
			if (k != i)
				route_mark_target(&s->rig.q.barred, k);
		assert_int_equal(route_rig_target(&s->rig), i);
		s->endpoint[i] = s->rig.route.endpoint;
		assert_true(is_left(s, i, s->endpoint[i]));
		s->rig.q.barred = barred;
	}
}

/* A loser's absence changes nothing. (Who explores draws among those that are there.) */
static void bar_a_loser(struct scenario *s, size_t target, size_t endpoint)
{
	size_t i = below(s, TARGETS), k = below(s, ENDPOINTS);

	if ((i == target && k == endpoint) || explores(s))
		return;
	route_mark(&s->rig.q.barred, i, k);
	if (s->rig.model.strategy == CONFIG_STRATEGY_LATENCY && i != target && s->left[i] != 0 && k == s->endpoint[i])
		return; /* its target may have a sooner one behind it */
	assert_int_equal(route_rig_target(&s->rig), target);
	assert_int_equal(s->rig.route.endpoint, endpoint);
}

static void judge_found(struct scenario *s)
{
	size_t target, endpoint;

	ask_each_target(s);
	target = route_rig_target(&s->rig);
	endpoint = s->rig.route.endpoint;
	assert_true((best_targets(s) >> target & 1) != 0);
	assert_int_equal(endpoint, s->endpoint[target]);
	assert_int_equal(s->rig.choice.elsewhere, is_fresh(s, target, endpoint));
	assert_int_equal(s->rig.choice.asks, s->rig.health[target][endpoint].gate == BREAKER_ASK);
	assert_int_equal(s->rig.choice.wait, 0);
	bar_a_loser(s, target, endpoint);
}

static void judge_stopped(struct scenario *s)
{
	int64_t wait = INT64_MAX;
	bool paused[2] = { false, false };

	for (size_t round = 0; round < 2; round++) /* first how long, then whose that is */
		for (size_t i = 0; i < s->rig.model.targets_count; i++)
			for (size_t k = 0; k < s->rig.upstreams[i].endpoints_count; k++) {
				const struct route_health *h = &s->rig.health[i][k];
				int64_t its = h->wait > 0 ? h->wait : 1;
				if (!is_able(s, i, k) || route_marked(&s->rig.q.barred, i, k))
					continue;
				wait = its < wait ? its : wait;
				if (its == wait && round == 1)
					paused[h->paused] = true;
			}
	assert_int_equal(s->rig.choice.wait, wait < INT64_MAX ? wait : 0);
	assert_true(wait == INT64_MAX ? !s->rig.choice.paused : paused[s->rig.choice.paused]);
}

static void it_does_what_the_model_does(void **state)
{
	static struct scenario s;
	size_t counts[3] = { 0 };

	(void)state;
	for (size_t i = 0; i < SCENARIOS; i++) {
		enum route_found expected, found;
		s.chance = i + 1;
		for (size_t warm = 0; warm < 8; warm++)
			(void)below(&s, 2);
		make_up(&s);
		expected = narrow(&s);
		found = route_rig_ask(&s.rig);
		if (found != expected)
			fail_msg("scenario %zu: %d, not %d", i, found, expected);
		counts[found]++;
		if (found == ROUTE_FOUND)
			judge_found(&s);
		else
			assert_int_equal(s.rig.route.target + s.rig.route.endpoint, 0);
		if (found == ROUTE_STOPPED)
			judge_stopped(&s);
	}
	for (size_t i = 0; i < 3; i++)
		assert_true(counts[i] > SCENARIOS / 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_does_what_the_model_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

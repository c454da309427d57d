/* route_choose: each strategy with its numbers, sessions that stay, regions, lanes, what has failed. When none will do: tests/unit/test_route_unable.c; against a
 * slow, obvious model: tests/unit/test_route_random.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/random.h"
#include "tests/support/route_rig.h"

enum { SESSIONS = 10000 };

static char here[] = "here", there[] = "there";

/* The target of each session, as things are. */
static void ask_for_all(struct route_rig *rig, unsigned char targets[SESSIONS])
{
	for (size_t i = 0; i < SESSIONS; i++) {
		rig->q.session = i + 1;
		targets[i] = (unsigned char)route_rig_target(rig);
	}
}

static size_t count_of(const unsigned char targets[SESSIONS], size_t target)
{
	size_t count = 0;

	for (size_t i = 0; i < SESSIONS; i++)
		count += targets[i] == target;
	return count;
}

/* Of so many requests of no session. */
static void count_requests(struct route_rig *rig, size_t requests, size_t counts[CONFIG_TARGETS_MOST])
{
	uint64_t state = 4711;

	memset(counts, 0, CONFIG_TARGETS_MOST * sizeof(*counts));
	rig->q.session = 0;
	for (size_t i = 0; i < requests; i++) {
		rig->q.random = random_bits(&state);
		counts[route_rig_target(rig)]++;
	}
}

#define BETWEEN(value, low, high) assert_in_range(value, low, high)

/* ---- strategies -------------------------------------------------------------------------------------------------------------- */

static void priority_takes_the_first_that_is_well(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 3, 1);
	rig.targets[0].weight = 0; /* says nothing here */
	assert_int_equal(route_rig_target(&rig), 0);
	assert_true(rig.choice.elsewhere);
	assert_false(rig.choice.asks);
	route_rig_stop(&rig, 0, 0, 5);
	assert_int_equal(route_rig_target(&rig), 1);
	assert_int_equal(rig.choice.wait, 0);
	route_rig_stop(&rig, 1, 0, 5);
	assert_int_equal(route_rig_target(&rig), 2);
	route_rig_heal(&rig, 0, 0);
	assert_int_equal(route_rig_target(&rig), 0);
}

static void canary_of_one_in_twenty(void **state)
{
	unsigned char targets[SESSIONS], again[SESSIONS];
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 2, 1);
	rig.targets[0].weight = 95;
	rig.targets[1].weight = 5;
	ask_for_all(&rig, targets);
	BETWEEN(count_of(targets, 1), SESSIONS * 4 / 100, SESSIONS * 6 / 100);
	rig.q.random = 42; /* a session does not hang on chance */
	ask_for_all(&rig, again);
	assert_memory_equal(targets, again, SESSIONS);
}

static void only_the_sessions_of_who_dies_move_and_return(void **state)
{
	static unsigned char before[SESSIONS], without[SESSIONS], after[SESSIONS];
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 4, 1);
	rig.targets[0].weight = 50;
	rig.targets[1].weight = 30;
	rig.targets[2].weight = 15;
	rig.targets[3].weight = 5;
	ask_for_all(&rig, before);
	for (size_t dead = 0; dead < 4; dead++) {
		route_rig_stop(&rig, dead, 0, 1);
		ask_for_all(&rig, without);
		for (size_t i = 0; i < SESSIONS; i++)
			if (before[i] == dead ? without[i] == dead : without[i] != before[i])
				fail_msg("target %zu died: session %zu went from %d to %d", dead, i + 1, before[i],
					 without[i]);
		route_rig_heal(&rig, dead, 0);
		ask_for_all(&rig, after);
		assert_memory_equal(before, after, SESSIONS);
	}
	/* Of those who had the heaviest, the others get shares by weight: 30 : 15 : 5. */
	route_rig_stop(&rig, 0, 0, 1);
	ask_for_all(&rig, without);
	BETWEEN(count_of(without, 1), SESSIONS * 58 / 100, SESSIONS * 62 / 100);
	BETWEEN(count_of(without, 2), SESSIONS * 28 / 100, SESSIONS * 32 / 100);
	BETWEEN(count_of(without, 3), SESSIONS * 8 / 100, SESSIONS * 12 / 100);
}

static void a_list_in_another_order_moves_nobody(void **state)
{
	static unsigned char before[SESSIONS], after[SESSIONS];
	struct config_target first;
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 3, 1);
	ask_for_all(&rig, before);
	first = rig.targets[0];
	rig.targets[0] = rig.targets[2]; /* both call it by the same name */
	rig.targets[2] = first;
	for (size_t i = 0; i < SESSIONS; i++) {
		rig.q.session = i + 1;
		assert_int_equal(route_rig_ask(&rig), ROUTE_FOUND);
		after[i] = (unsigned char)(2 - rig.route.target);
	}
	assert_memory_equal(before, after, SESSIONS);
}

/* The newer model of the same upstream, for a few. */
static void canary_of_another_model(void **state)
{
	static char newer[] = "newer";
	size_t count = 0;
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 2, 1);
	rig.targets[0].weight = 95;
	rig.targets[1].weight = 5;
	rig.targets[1].model = newer;
	rig.targets[1].upstream = rig.targets[0].upstream;
	for (rig.q.session = 1; rig.q.session <= SESSIONS; rig.q.session++) {
		assert_int_equal(route_rig_ask(&rig), ROUTE_FOUND);
		assert_ptr_equal(rig.route.upstream, rig.targets[0].upstream);
		if (rig.route.target == 1) {
			assert_true(slice_equal(rig.route.upstream_model, SLICE("newer")));
			count++;
		}
	}
	BETWEEN(count, SESSIONS * 4 / 100, SESSIONS * 6 / 100);
}

static void weights_of_requests_without_a_session(void **state)
{
	size_t counts[CONFIG_TARGETS_MOST];
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 3, 1);
	rig.targets[0].weight = 70;
	rig.targets[1].weight = 0;
	rig.targets[2].weight = 30;
	count_requests(&rig, 10000, counts);
	BETWEEN(counts[0], 6800, 7200);
	assert_int_equal(counts[1], 0);
	route_rig_stop(&rig, 0, 0, 1);
	route_rig_stop(&rig, 2, 0, 1);
	assert_int_equal(route_rig_target(&rig), 1);
}

static void without_affinity_a_session_is_as_good_as_none(void **state)
{
	size_t first = 0;
	uint64_t chance = 5;
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 2, 1);
	rig.model.affinity = false;
	rig.q.session = 17;
	for (size_t i = 0; i < 1000; i++) {
		rig.q.random = random_bits(&chance);
		first += route_rig_target(&rig) == 0;
	}
	BETWEEN(first, 430, 570);
}

static void cost_takes_the_cheapest_for_this_request(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_COST, 4, 1);
	rig.targets[0].price = (struct config_price){ .input = 2000000, .cached = -1, .output = 4000000 };
	rig.targets[1].price = (struct config_price){ .input = 1000000, .cached = -1, .output = 9000000 };
	rig.model.price = (struct config_price){ .input = 1500000, .cached = 100, .output = 6000000 }; /* 2 and 3 */
	rig.q.input = 10000;
	rig.q.output = 100;
	assert_int_equal(route_rig_target(&rig), 1); /* 20.4, 10.9, 15.6 */
	rig.q.output = 10000;
	assert_int_equal(route_rig_target(&rig), 0); /* 60, 100, 75 */
	route_rig_stop(&rig, 0, 0, 1);
	assert_int_equal(route_rig_target(&rig), 2); /* as dear as 3, and before it */
	rig.targets[3].price = (struct config_price){ .input = 20, .cached = -1, .output = -1 };
	assert_int_equal(route_rig_target(&rig), 3); /* says something, so the model's does not count */
	rig.q.input = rig.q.output = 0;
	assert_int_equal(route_rig_target(&rig), 1); /* all cost nothing */
	rig.model.price = (struct config_price){ -1, -1, -1 };
	rig.q.input = rig.q.output = INT64_MAX / 4;
	rig.targets[3].price.output = rig.targets[1].price.output = INT64_MAX / 4;
	assert_int_equal(route_rig_target(&rig),
			 3); /* a price too high to believe is better than one that nobody knows */
}

static void latency_takes_the_soonest(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_LATENCY, 3, 1);
	rig.health[0][0].first_byte = 300;
	rig.health[1][0].first_byte = 200;
	rig.health[2][0].first_byte = 250;
	assert_int_equal(route_rig_target(&rig), 1);
	rig.health[1][0].in_flight = 1000; /* says nothing of what is measured */
	assert_int_equal(route_rig_target(&rig), 1);
	rig.health[2][0].first_byte = -1;
	assert_int_equal(route_rig_target(&rig), 2);
	rig.health[2][0].in_flight = 1; /* it is being measured */
	assert_int_equal(route_rig_target(&rig), 1);
	route_rig_stop(&rig, 0, 0, 1);
	route_rig_stop(&rig, 1, 0, 1);
	assert_int_equal(route_rig_target(&rig), 2);
}

static void latency_looks_at_the_others_now_and_then(void **state)
{
	size_t counts[CONFIG_TARGETS_MOST];
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_LATENCY, 4, 1);
	for (size_t i = 0; i < 4; i++)
		rig.health[i][0].first_byte = 1000 + (int64_t)i;
	rig.health[3][0].first_byte = -1; /* known to be measured right now */
	rig.health[3][0].in_flight = 1;
	count_requests(&rig, 64 * 1000, counts);
	BETWEEN(counts[1], 400, 600);
	BETWEEN(counts[2], 400, 600);
	assert_int_equal(counts[3], 0);
	route_rig_stop(&rig, 1, 0, 1);
	route_rig_stop(&rig, 2, 0, 1);
	count_requests(&rig, 64 * 100, counts);
	assert_int_equal(counts[0], 64 * 100); /* there is nothing else to look at */
}

static void load_takes_who_has_most_room(void **state)
{
	size_t counts[CONFIG_TARGETS_MOST];
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_LOAD, 3, 2);
	rig.targets[0].weight = 3;
	rig.targets[1].weight = 2;
	rig.targets[2].weight = 0;
	rig.health[0][0].in_flight = 3; /* 6 / 3 with both endpoints and itself */
	rig.health[0][1].in_flight = 2;
	rig.health[1][0].in_flight = 4; /* 5 / 2 */
	assert_int_equal(route_rig_target(&rig), 0);
	rig.health[0][1].in_flight = 5; /* 9 / 3 */
	assert_int_equal(route_rig_target(&rig), 1);
	rig.health[1][1].in_flight = 1; /* 6 / 2 */
	count_requests(&rig, 1000, counts);
	BETWEEN(counts[0], 430, 570);
	assert_int_equal(counts[2], 0);
	for (size_t i = 0; i < 4; i++)
		route_rig_stop(&rig, i / 2, i % 2, 1);
	assert_int_equal(route_rig_target(&rig), 2);
}

/* Requests that stay: who is asked always for the one with most room fills them by their weights. */
static void load_fills_by_weight(void **state)
{
	struct route_rig rig;
	uint64_t chance = 99;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_LOAD, 3, 1);
	rig.targets[0].weight = 10;
	rig.targets[1].weight = 30;
	rig.targets[2].weight = 60;
	for (size_t i = 0; i < 1000; i++) {
		rig.q.random = random_bits(&chance);
		rig.health[route_rig_target(&rig)][0].in_flight++;
	}
	assert_int_equal(rig.health[0][0].in_flight, 100);
	assert_int_equal(rig.health[1][0].in_flight, 300);
	assert_int_equal(rig.health[2][0].in_flight, 600);
}

/* ---- endpoints --------------------------------------------------------------------------------------------------------------- */

static void the_own_region_first(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 1, 3);
	rig.config.region = here;
	rig.endpoints[0][0].region = there;
	rig.endpoints[0][1].region = here;
	rig.endpoints[0][1].priority = 9; /* less than its region */
	rig.endpoints[0][2].priority = 1;
	assert_int_equal(route_rig_endpoint(&rig), 1);
	route_rig_stop(&rig, 0, 1, 1);
	for (rig.q.session = 1; rig.q.session < 100; rig.q.session++)
		assert_int_equal(route_rig_endpoint(&rig), 0);
	route_rig_heal(&rig, 0, 1);
	assert_int_equal(route_rig_endpoint(&rig), 1);
	rig.config.region = NULL; /* nowhere: all are as near */
	assert_int_equal(route_rig_endpoint(&rig), 0);
	route_rig_stop(&rig, 0, 0, 1);
	assert_int_equal(route_rig_endpoint(&rig), 2);
}

static void lanes_are_kept_apart(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 1, 3);
	rig.endpoints[0][0].lane = CONFIG_LANE_BATCH;
	rig.endpoints[0][1].lane = CONFIG_LANE_REALTIME;
	rig.endpoints[0][1].priority = 1;
	rig.endpoints[0][2].priority = 2; /* any */
	assert_int_equal(route_rig_endpoint(&rig), 1);
	rig.q.lane = CONFIG_LANE_BATCH;
	assert_int_equal(route_rig_endpoint(&rig), 0);
	route_rig_stop(&rig, 0, 0, 1);
	assert_int_equal(route_rig_endpoint(&rig), 2);
	route_rig_stop(&rig, 0, 2, 1);
	assert_int_equal(route_rig_endpoint(&rig), 1); /* there is nothing else */
	rig.q.lane = CONFIG_LANE_REALTIME;
	assert_int_equal(route_rig_endpoint(&rig), 1);
	route_rig_stop(&rig, 0, 1, 1);
	route_rig_heal(&rig, 0, 0);
	assert_int_equal(route_rig_endpoint(&rig), 0);
}

/* An upstream that is no model's target: by weight, and a session stays. */
static void endpoints_of_a_default_upstream(void **state)
{
	size_t counts[3] = { 0 };
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 1, 3);
	rig.endpoints[0][0].weight = 3;
	rig.endpoints[0][2].weight = 0;
	rig.targets[0].model = NULL;
	for (size_t i = 1; i <= SESSIONS; i++) {
		size_t chosen;
		rig.q.session = i;
		rig.route = (struct route){ .model = SLICE("m"), .upstream = &rig.upstreams[0] };
		assert_int_equal(route_choose(&rig.q, &rig.route, &rig.choice), ROUTE_FOUND);
		chosen = rig.route.endpoint;
		counts[chosen]++;
		rig.q.random = i;
		assert_int_equal(route_choose(&rig.q, &rig.route, &rig.choice), ROUTE_FOUND);
		assert_int_equal(rig.route.endpoint, chosen);
		assert_int_equal(rig.route.target, 0);
		assert_int_equal(rig.route.upstream_model.len, 0);
	}
	BETWEEN(counts[0], SESSIONS * 73 / 100, SESSIONS * 77 / 100);
	assert_int_equal(counts[2], 0);
	route_rig_stop(&rig, 0, 0, 1);
	route_rig_stop(&rig, 0, 1, 1);
	assert_int_equal(route_choose(&rig.q, &rig.route, &rig.choice), ROUTE_FOUND);
	assert_int_equal(rig.route.endpoint, 2);
}

/* Which target a session has says nothing of which endpoint. */
static void target_and_endpoint_are_drawn_apart(void **state)
{
	size_t counts[4] = { 0 };
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 2, 2);
	for (rig.q.session = 1; rig.q.session <= SESSIONS; rig.q.session++) {
		size_t target = route_rig_target(&rig);
		counts[target * 2 + rig.route.endpoint]++;
	}
	for (size_t i = 0; i < 4; i++)
		BETWEEN(counts[i], SESSIONS * 23 / 100, SESSIONS * 27 / 100);
}

/* ---- what has failed, what is half open ---------------------------------------------------------------------------------------- */

static void what_failed_comes_last(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 2, 2);
	rig.endpoints[0][1].priority = 1;
	route_mark(&rig.q.failed, 0, 0);
	assert_int_equal(route_rig_endpoint(&rig), 1);
	assert_int_equal(rig.route.target, 0); /* its other endpoint before another target */
	assert_true(rig.choice.elsewhere);
	route_mark_target(&rig.q.failed, 0);
	assert_int_equal(route_rig_target(&rig), 1);
	route_mark_target(&rig.q.barred, 1);
	assert_int_equal(route_rig_target(&rig), 0);
	assert_int_equal(rig.route.endpoint, 0);
	assert_false(rig.choice.elsewhere);
	route_mark(&rig.q.barred, 0, 0);
	assert_int_equal(route_rig_endpoint(&rig), 1);
	assert_false(rig.choice.elsewhere);
	route_mark(&rig.q.barred, 0, 1);
	assert_int_equal(route_rig_ask(&rig), ROUTE_STOPPED);
	assert_int_equal(rig.choice.wait, 0);
}

/* The way of a session that fails everywhere is the same each time, whatever chance says. */
static void a_second_choice_is_as_stable_as_the_first(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_WEIGHTED, 3, 2);
	for (uint64_t session = 1; session < 200; session++) {
		size_t way[2][6];
		for (size_t round = 0; round < 2; round++) {
			rig.q.failed = (struct route_set){ .bits = { 0 } };
			rig.q.session = session;
			for (size_t i = 0; i < 6; i++) {
				rig.q.random = session * 1000 + round * 100 + i;
				way[round][i] = route_rig_target(&rig) * 2 + rig.route.endpoint;
				assert_true(rig.choice.elsewhere);
				route_mark(&rig.q.failed, rig.route.target, rig.route.endpoint);
			}
			assert_int_equal(route_rig_target(&rig) * 2 + rig.route.endpoint, way[round][0]);
			assert_false(rig.choice.elsewhere);
		}
		assert_memory_equal(way[0], way[1], sizeof(way[0]));
	}
}

static void half_open_stands_where_it_stood(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 2, 1);
	rig.health[0][0].gate = BREAKER_ASK;
	assert_int_equal(route_rig_target(&rig), 0);
	assert_true(rig.choice.asks);
	rig.health[1][0].gate = BREAKER_ASK;
	route_mark(&rig.q.barred, 0, 0); /* it had no ticket */
	assert_int_equal(route_rig_target(&rig), 1);
	assert_true(rig.choice.asks);
}

static void sets_hold_what_was_marked(void **state)
{
	struct route_set set = { .bits = { 0 } };

	(void)state;
	route_mark(&set, 0, 0);
	route_mark(&set, 15, 15);
	route_mark(&set, 4, 15);
	route_mark_target(&set, 7);
	for (size_t i = 0; i < CONFIG_TARGETS_MOST; i++)
		for (size_t k = 0; k < CONFIG_ENDPOINTS_MOST; k++)
			assert_int_equal(route_marked(&set, i, k),
					 (i == 0 && k == 0) || (i == 15 && k == 15) || (i == 4 && k == 15) || i == 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(priority_takes_the_first_that_is_well),
		cmocka_unit_test(canary_of_one_in_twenty),
		cmocka_unit_test(only_the_sessions_of_who_dies_move_and_return),
		cmocka_unit_test(a_list_in_another_order_moves_nobody),
		cmocka_unit_test(canary_of_another_model),
		cmocka_unit_test(weights_of_requests_without_a_session),
		cmocka_unit_test(without_affinity_a_session_is_as_good_as_none),
		cmocka_unit_test(cost_takes_the_cheapest_for_this_request),
		cmocka_unit_test(latency_takes_the_soonest),
		cmocka_unit_test(latency_looks_at_the_others_now_and_then),
		cmocka_unit_test(load_takes_who_has_most_room),
		cmocka_unit_test(load_fills_by_weight),
		cmocka_unit_test(the_own_region_first),
		cmocka_unit_test(lanes_are_kept_apart),
		cmocka_unit_test(endpoints_of_a_default_upstream),
		cmocka_unit_test(target_and_endpoint_are_drawn_apart),
		cmocka_unit_test(what_failed_comes_last),
		cmocka_unit_test(a_second_choice_is_as_stable_as_the_first),
		cmocka_unit_test(half_open_stands_where_it_stood),
		cmocka_unit_test(sets_hold_what_was_marked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Pools of several loops that have their connections together: never more than there may be, all to whoever has work, nobody left out; bounds of tenants and groups. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/pool_internal.h"
#include "tests/support/pool_side.h"

enum { LOOPS = 8 };

static const struct bad_step brief[] = {
	{ .verb = BAD_REQUEST }, { .verb = BAD_PAUSE, .count = 5 }, { .verb = BAD_ECHO }, { .verb = BAD_AGAIN }
};

static struct side sides[LOOPS];

/* Fewer connections than loops, unevenly wanted: as many as there may be, and each loop has its turn. */
static void a_burst_over_eight_loops_has_five_connections(void **state)
{
	enum { MOST = 5 };
	struct bad_server *server = bad_server_of(brief);
	struct pool_shares *shares = pool_shares_new();
	struct pool_shared_stats shared;
	unsigned opened = 0;
	struct rig looker;
	(void)state;
	for (unsigned i = 0; i < LOOPS; i++) {
		side_open(&sides[i], server, shares, MOST, i == 0 ? 65 : 5);
		atomic_store(&sides[i].begin, true);
		side_start(&sides[i]);
	}
	SIDE_UNTIL(side_finished(sides, LOOPS) == 100);
	looker = sides[0].rig;
	rig_open(&looker);
	pool_shared_stats(looker.pool, &shared);
	rig_close(&looker);
	for (unsigned i = 0; i < LOOPS; i++) {
		side_end(&sides[i]);
		opened += (unsigned)sides[i].stats.opened;
	}
	printf("  100 at once over %d loops, max %d: at most %u connections at once, %u opened, all served\n", LOOPS,
	       MOST, shared.peak, opened);
	assert_int_equal(shared.peak, MOST);
	assert_true(shared.open <= MOST);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* Idle ones of another loop are no reason to wait. */
static void one_loop_may_have_all_of_them(void **state)
{
	enum { MOST = 5 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		side_open(&sides[i], server, shares, MOST, MOST);
		side_start(&sides[i]);
	}
	for (unsigned i = 0; i < 2; i++) { /* one after the other; the first keeps its five, idle */
		atomic_store(&sides[i].begin, true);
		SIDE_UNTIL(bad_server_record(server).requests == MOST * (i + 1));
		bad_server_open_gate(server, MOST);
		SIDE_UNTIL(side_finished(sides, 2) == MOST * (i + 1));
	}
	for (unsigned i = 0; i < 2; i++)
		side_end(&sides[i]);
	assert_int_equal(sides[0].stats.recycled[POOL_RECYCLED_CEDED], MOST);
	assert_int_equal(sides[0].stats.idle, 0);
	assert_int_equal(sides[1].stats.idle, MOST);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* Both want more than there is: the second comes to have as many as the first, which had them all. */
static void loops_that_want_more_share_alike(void **state)
{
	enum { MOST = 8, BEFORE = 40, SEEN = 160 };
	struct bad_server *server = bad_server_of(brief);
	struct pool_shares *shares = pool_shares_new();
	unsigned first, second;
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		side_open(&sides[i], server, shares, MOST, SIDE_CALLS_MOST);
		side_start(&sides[i]);
	}
	atomic_store(&sides[0].begin, true);
	SIDE_UNTIL(side_finished(sides, 1) >= BEFORE); /* it has all eight */
	atomic_store(&sides[1].begin, true);
	SIDE_UNTIL(side_finished(&sides[1], 1) > 0);
	first = side_finished(sides, 1);
	second = side_finished(&sides[1], 1);
	SIDE_UNTIL(side_finished(&sides[1], 1) >= second + SEEN);
	first = side_finished(sides, 1) - first;
	SIDE_UNTIL(side_finished(sides, 2) == 2 * SIDE_CALLS_MOST);
	for (unsigned i = 0; i < 2; i++)
		side_end(&sides[i]);
	printf("  while the second loop does %d, the first, which had all %d connections, does %u; it ceded %llu in %d "
	       "calls\n",
	       SEEN, MOST, first, (unsigned long long)sides[0].stats.recycled[POOL_RECYCLED_CEDED], SIDE_CALLS_MOST);
	assert_in_range(first, SEEN * 7 / 10, SEEN * 14 / 10);
	assert_in_range(sides[0].stats.recycled[POOL_RECYCLED_CEDED], MOST / 2 - 1, 2 * MOST);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

static void a_tenants_bound_holds_over_all_loops(void **state)
{
	enum { BOUND = 3, SIDES = 4, EACH = 6 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	struct side *other = &sides[SIDES];
	(void)state;
	for (unsigned i = 0; i < SIDES; i++) {
		side_open(&sides[i], server, shares, 50, EACH);
		sides[i].request.tenant = SLICE("acme");
		sides[i].request.tenant_connections = BOUND;
		atomic_store(&sides[i].begin, true);
		side_start(&sides[i]);
	}
	SIDE_UNTIL(bad_server_record(server).requests == BOUND);
	/* another's calls are not held up by it */
	side_open(other, server, shares, 50, 2);
	other->request.tenant = SLICE("other");
	other->request.tenant_connections = BOUND;
	atomic_store(&other->begin, true);
	side_start(other);
	SIDE_UNTIL(bad_server_record(server).requests == BOUND + 2);
	for (unsigned opened = 1; opened <= SIDES * EACH + 2; opened++) {
		bad_server_open_gate(server, 1);
		SIDE_UNTIL(side_finished(sides, SIDES + 1) == opened);
		poll(NULL, 0, 2); /* for what must not happen */
		assert_true(bad_server_record(server).requests <= BOUND + 2 + opened);
	}
	for (unsigned i = 0; i <= SIDES; i++)
		side_end(&sides[i]);
	bad_server_free(&server);
	pool_shares_free(&shares); /* no share is left */
}

/* Two upstreams under one bound: what is idle at the one makes room for the other. */
static void a_group_has_its_connections_together(void **state)
{
	enum { BOUND = 4 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		side_open(&sides[i], server, shares, 50, 6);
		sides[i].rig.options.name = i == 0 ? "one" : "two";
		sides[i].rig.options.group_connections = BOUND;
		side_start(&sides[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&sides[i].begin, true);
		for (unsigned served = 0; served < 6; served++) {
			SIDE_UNTIL(bad_server_record(server).requests >= i * 6 + (served < 2 ? BOUND : 6));
			assert_true(bad_server_record(server).requests <= i * 6 + BOUND + served);
			bad_server_open_gate(server, 1);
			SIDE_UNTIL(side_finished(sides, 2) == i * 6 + served + 1);
			if (served == 0)
				SIDE_UNTIL(bad_server_record(server).requests == i * 6 + BOUND + 1);
			if (served == 1)
				SIDE_UNTIL(bad_server_record(server).requests == i * 6 + BOUND + 2);
		}
	}
	for (unsigned i = 0; i < 2; i++)
		side_end(&sides[i]);
	assert_int_equal(sides[0].stats.recycled[POOL_RECYCLED_CEDED], BOUND);
	assert_int_equal(sides[1].stats.open, BOUND);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* Idle ones at all loops, more than there may be from then on, or than are kept for longer than a minute: together they close what is too many, and not each of
 * them all that is. */
static void too_many_are_closed_together(bool to_size)
{
	enum { SIDES = 4, EACH = 6, LEFT = 7 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	unsigned closed = 0;
	struct rig looker;
	for (unsigned i = 0; i < SIDES; i++) {
		side_open(&sides[i], server, shares, SIDES * EACH, EACH);
		sides[i].rig.options.start = to_size ? LEFT : SIDES * EACH;
		sides[i].rig.options.idle_timeout = CLOCK_HOUR;
		atomic_store(&sides[i].begin, true);
		side_start(&sides[i]);
	}
	SIDE_UNTIL(bad_server_record(server).requests == SIDES * EACH);
	bad_server_open_gate(server, SIDES * EACH);
	SIDE_UNTIL(side_finished(sides, SIDES) == SIDES * EACH);
	looker = sides[0].rig;
	rig_open(&looker);
	assert_int_equal(rig_shared(&looker).open, SIDES * EACH);
	if (to_size)
		clock_test_set(clock_now() + 61 * CLOCK_SECOND, 0);
	for (unsigned i = 0; i < SIDES && !to_size; i++)
		atomic_store(&sides[i].bound, LEFT);
	SIDE_UNTIL(rig_shared(&looker).open <= LEFT && bad_server_record(server).open <= LEFT);
	poll(NULL, 0, 1200); /* for what must not happen: each looks at its connections once a second */
	assert_int_equal(rig_shared(&looker).open, LEFT);
	assert_int_equal(bad_server_record(server).open, LEFT);
	clock_test_release();
	rig_close(&looker);
	for (unsigned i = 0; i < SIDES; i++) {
		side_end(&sides[i]);
		closed += (unsigned)sides[i].stats.recycled[POOL_RECYCLED_SURPLUS];
	}
	assert_int_equal(closed, SIDES * EACH - LEFT);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

static void a_lowered_bound_is_reached_by_all_loops_together(void **state)
{
	(void)state;
	too_many_are_closed_together(false);
}

static void what_is_idle_above_the_size_is_closed_together(void **state)
{
	(void)state;
	too_many_are_closed_together(true);
}

/* A loop that ends gives all back, also what it was granted at that moment. */
static void a_loop_that_ends_leaves_its_places(void **state)
{
	enum { MOST = 4 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		side_open(&sides[i], server, shares, MOST, MOST);
		side_start(&sides[i]);
	}
	atomic_store(&sides[0].begin, true);
	SIDE_UNTIL(bad_server_record(server).requests == MOST);
	atomic_store(&sides[1].begin, true);
	side_end(&sides[0]); /* its calls are cut */
	SIDE_UNTIL(bad_server_record(server).requests == 2 * MOST);
	bad_server_open_gate(server, 2 * MOST);
	SIDE_UNTIL(side_finished(&sides[1], 1) == MOST);
	side_end(&sides[1]);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* ---- who waits for nobody ---- */

static void begin_side(struct side *side)
{
	atomic_store(&side->begin, true);
	side_start(side);
}

static unsigned ended(struct side *side)
{
	return atomic_load(&side->finished) + atomic_load(&side->failed);
}

/* Another loop must be told first that it shall close one: that is no waiting. */
static void who_waits_for_nobody_has_what_is_idle_elsewhere(void **state)
{
	enum { MOST = 3 };
	struct bad_server *server = bad_server_of(brief);
	(void)state;
	for (int grouped = 0; grouped < 2; grouped++) {
		struct pool_shares *shares = pool_shares_new();
		for (unsigned i = 0; i < LOOPS;
		     i++) { /* one after the other, and what was idle at one is the next one's */
			side_open(&sides[i], server, shares, grouped ? 2 * MOST : MOST, MOST);
			sides[i].rig.options.name = grouped && i % 2 == 0 ? "one" : "pool";
			sides[i].rig.options.group_connections = grouped ? MOST : 0;
			sides[i].request.wait_timeout = 0;
			begin_side(&sides[i]);
			SIDE_UNTIL(ended(&sides[i]) == MOST);
			assert_int_equal(atomic_load(&sides[i].failed), 0);
		}
		for (unsigned i = 0; i < LOOPS; i++)
			side_end(&sides[i]);
		for (unsigned i = 0; i < LOOPS - 1; i++)
			assert_int_equal(sides[i].stats.recycled[POOL_RECYCLED_CEDED], MOST);
		pool_shares_free(&shares);
	}
	bad_server_free(&server);
}

static void refused_soon(struct side *side, const char *why)
{
	SIDE_UNTIL(ended(side) == side->count);
	assert_int_equal(atomic_load(&side->failed), side->count);
	side_end(side);
	for (unsigned i = 0; i < side->count; i++) {
		assert_int_equal(side->calls[i].result.outcome, POOL_NO_SLOT);
		assert_string_equal(side->calls[i].result.detail, why);
		assert_true(side->calls[i].result.waited < CLOCK_SECOND / 2);
	}
}

/* Nobody has one to give, and all say so: of the name, of the group, of the tenant. */
static void who_waits_for_nobody_is_refused_while_all_are_in_use(void **state)
{
	enum { MOST = 2 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		side_open(&sides[i], server, shares, i < 2 ? MOST : 50, MOST);
		sides[i].request.wait_timeout = 0;
		sides[i].rig.options.name = i < 2 ? "pool" : i == 2 ? "other" : "third";
		sides[i].rig.options.group = i == 3 ? "alone" : "group";
		sides[i].rig.options.group_connections = i == 3 ? 0 : MOST;
		sides[i].request.tenant = SLICE("acme");
		sides[i].request.tenant_connections = i == 0 || i == 3 ? MOST : 0;
	}
	begin_side(&sides[0]);
	SIDE_UNTIL(bad_server_record(server).requests == MOST);
	for (unsigned i = 1; i < 4; i++)
		begin_side(&sides[i]);
	refused_soon(&sides[1], "all connections are in use");
	refused_soon(&sides[2], "all 2 connections of this instance, to all upstreams together, are in use");
	refused_soon(&sides[3], "all 2 connections that the tenant may occupy are in use");
	bad_server_open_gate(server, MOST);
	SIDE_UNTIL(side_finished(sides, 1) == MOST);
	side_end(&sides[0]);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* A light request keeps a connection from nobody for long: neither here nor elsewhere. */
static void who_waits_for_nobody_may_wait_for_a_light_request(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	struct rig_call call = { 0 };
	struct rig rig;
	(void)state;
	side_open(&sides[0], server, shares, 1, 1);
	rig = sides[0].rig;
	rig.options.least = rig.options.warm = 1;
	rig_open(&rig);
	pool_warm(rig.pool, CLOCK_MINUTE, NULL, NULL);
	RIG_UNTIL(&rig, bad_server_record(server).requests == 1);
	sides[0].request.wait_timeout = 0;
	begin_side(&sides[0]);
	struct pool_request request = sides[0].request;
	rig_call(&rig, &call, &request);
	rig_for(&rig, 50 * CLOCK_MILLISECOND); /* for what must not happen */
	assert_int_equal(call.dones + ended(&sides[0]), 0);
	bad_server_open_gate(server, 3);
	RIG_UNTIL(&rig, call.dones + ended(&sides[0]) == 2);
	assert_int_equal(call.result.outcome, POOL_DONE);
	assert_int_equal(side_finished(sides, 1), 1);
	side_end(&sides[0]);
	rig_close(&rig);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* Whose answer is whole may ask again at another loop before the one that served him knows that the call is over: his only place is his. */
static void who_waits_for_nobody_has_the_place_of_its_call_that_ends_elsewhere(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct pool_shares *shares = pool_shares_new();
	struct rig_call call = { 0 };
	struct rig rig;
	(void)state;
	side_open(&sides[0], server, shares, 2, 1);
	rig = sides[0].rig;
	rig_open(&rig);
	sides[0].request.tenant = SLICE("acme");
	sides[0].request.tenant_connections = 1;
	sides[0].request.wait_timeout = 0;
	begin_side(&sides[0]);
	SIDE_UNTIL(bad_server_record(server).requests == 1);
	struct pool_request request = sides[0].request;
	rig_call(&rig, &call, &request);
	RIG_UNTIL(&rig, call.dones == 1 || call.transfer->wait_deadline > call.transfer->started);
	bad_server_open_gate(server, 2);
	SIDE_UNTIL(side_finished(sides, 1) == 1);
	side_end(&sides[0]); /* has given the place back, however long that took */
	assert_int_equal(rig_finish(&call), POOL_DONE);
	rig_close(&rig);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* What it has idle is out of reach for as long: who waits for nobody goes, and does not wait for ever. */
static void a_loop_that_is_stuck_keeps_nobody(void **state)
{
	struct bad_server *server = bad_server_of(brief);
	struct pool_shares *shares = pool_shares_new();
	struct rig_call call = { 0 };
	struct rig rig;
	(void)state;
	side_open(&sides[0], server, shares, 1, 1);
	sides[0].request.wait_timeout = 0;
	rig = sides[0].rig;
	rig_open(&rig);
	rig_get(&rig, &call, "/x");
	assert_int_equal(rig_finish(&call), POOL_DONE);
	begin_side(&sides[0]);
	SIDE_UNTIL(ended(&sides[0]) == 1); /* meanwhile nobody turns the loop */
	side_end(&sides[0]);
	assert_int_equal(sides[0].calls[0].result.outcome, POOL_NO_SLOT);
	assert_in_range(sides[0].calls[0].result.waited, POOL_GRACE, 10 * POOL_GRACE);
	rig_close(&rig);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

/* ---- a tenant that may have one call at once, where others keep all connections busy at both loops ---- */

enum { WORKERS = 2, OTHERS = 8, OWN = 4 };

struct worker {
	struct rig rig;
	struct rig_call others[OTHERS], own[OWN];
	unsigned others_done, own_done;
};

static unsigned begin_again(struct rig *rig, struct rig_call *calls, unsigned count, const struct pool_request *request)
{
	unsigned done = 0;
	for (unsigned i = 0; i < count; i++) {
		if (calls[i].transfer != NULL)
			continue;
		assert_true(calls[i].dones == 0 || calls[i].result.outcome == POOL_DONE);
		done += calls[i].dones;
		memset(&calls[i], 0, sizeof(calls[i]));
		rig_call(rig, &calls[i], request);
	}
	return done;
}

/* Somebody of each always waits. */
static void work(struct worker *w)
{
	struct pool_request others = rig_request("GET", "/others"), own = rig_request("GET", "/own");
	others.tenant = SLICE("others");
	own.tenant = SLICE("own");
	own.tenant_connections = 1;
	w->others_done += begin_again(&w->rig, w->others, OTHERS, &others);
	w->own_done += begin_again(&w->rig, w->own, OWN, &own);
	rig_turn(&w->rig);
}

static void a_tenant_that_may_have_one_call_is_not_starved(void **state)
{
	enum { MOST = 4, SEEN = 100 };
	static struct worker workers[WORKERS];
	struct bad_server *server = bad_server_of(brief);
	struct pool_shares *shares = pool_shares_new();
	(void)state;
	for (int i = 0; i < WORKERS; i++) {
		rig_options(&workers[i].rig, bad_server_origin(server));
		workers[i].rig.options.connections = workers[i].rig.options.start = MOST;
		workers[i].rig.options.shares = shares;
		workers[i].rig.options.name = "pool";
		workers[i].rig.options.owner = "owner";
		rig_open(&workers[i].rig);
	}
	rig_watch();
	while (workers[0].own_done + workers[1].own_done < SEEN)
		for (int i = 0; i < WORKERS; i++)
			work(&workers[i]);
	unsigned others = workers[0].others_done + workers[1].others_done;
	print_message("%u and %u calls of a tenant that may have one at once, beside %u of another: %d connections\n",
		      workers[0].own_done, workers[1].own_done, others, MOST);
	assert_in_range(others, SEEN, 2 * (MOST - 1) * SEEN); /* half of what its one call could have, at least */
	for (int i = 0; i < WORKERS; i++)
		assert_true(workers[i].own_done >= SEEN / 5);
	for (int i = 0; i < WORKERS; i++) {
		pool_free(&workers[i].rig.pool);
		rig_turn(&workers[i].rig);
	}
	for (int i = 0; i < WORKERS; i++)
		loop_free(&workers[i].rig.loop);
	bad_server_free(&server);
	pool_shares_free(&shares);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_burst_over_eight_loops_has_five_connections),
		cmocka_unit_test(one_loop_may_have_all_of_them),
		cmocka_unit_test(loops_that_want_more_share_alike),
		cmocka_unit_test(a_tenants_bound_holds_over_all_loops),
		cmocka_unit_test(a_group_has_its_connections_together),
		cmocka_unit_test(a_lowered_bound_is_reached_by_all_loops_together),
		cmocka_unit_test_teardown(what_is_idle_above_the_size_is_closed_together, rig_let_clock_run),
		cmocka_unit_test(a_loop_that_ends_leaves_its_places),
		cmocka_unit_test(who_waits_for_nobody_has_what_is_idle_elsewhere),
		cmocka_unit_test(who_waits_for_nobody_is_refused_while_all_are_in_use),
		cmocka_unit_test(who_waits_for_nobody_may_wait_for_a_light_request),
		cmocka_unit_test(who_waits_for_nobody_has_the_place_of_its_call_that_ends_elsewhere),
		cmocka_unit_test(a_loop_that_is_stuck_keeps_nobody),
		cmocka_unit_test(a_tenant_that_may_have_one_call_is_not_starved),
	};
	return cmocka_run_group_tests_name("pool_loops", tests, NULL, NULL);
}

/* The pool over time, with the clock in the test's hands: how many connections are kept, for how long, which are tried, what is taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/pool_internal.h"
#include "tests/support/pool_rig.h"

#define OK "HTTP/1.1 200 OK\r\n"

/* Nine connections answer at a gate, all others at once. */
static struct bad_server *nine_held(void)
{
	static const struct bad_step *scripts[10];
	for (int i = 0; i < 9; i++)
		scripts[i] = bad_server_echo_at_gate;
	scripts[9] = bad_server_echo;
	return bad_server_new(scripts, ARRAY_LENGTH(scripts));
}

static void hold_nine(struct rig *rig, struct bad_server *server, struct rig_call calls[9])
{
	struct pool_request request = rig_lasting("/held");
	for (int i = 0; i < 9; i++)
		rig_call(rig, &calls[i], &request);
	RIG_UNTIL(rig, bad_server_record(server).requests == 9);
}

static void grows_with_the_work_that_lasts_and_shrinks_without(void **state)
{
	struct bad_server *server = nine_held();
	static struct rig_call calls[9];
	struct rig_call quick;
	struct rig rig;
	int steps = 0, minutes = 0;
	(void)state;
	memset(calls, 0, sizeof(calls));
	rig_stop_clock();
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 20;
	rig.options.least = 2;
	rig.options.start = 10;
	rig.options.idle_timeout = rig.options.max_age = 10 * CLOCK_DAY;
	rig_open(&rig);
	pool_idle_tick(rig.pool);
	hold_nine(&rig, server, calls);
	pool_idle_tick(rig.pool);
	rig_pass(&rig, 59);
	assert_int_equal(rig_shared(&rig).size, 10);
	assert_int_equal(rig_stats(&rig).open, 9);
	rig_pass(&rig, 1);
	assert_int_equal(rig_shared(&rig).size, 12);
	RIG_UNTIL(&rig, rig_stats(&rig).idle == 3); /* opened ahead */
	printf("  9 of 10 in use for 60 s: %u are kept, %u open\n", rig_shared(&rig).size, rig_stats(&rig).open);
	rig_quick(&rig, &quick);
	assert_true(quick.result.reused);
	rig_pass(&rig, 120);
	assert_int_equal(rig_shared(&rig).size, 12); /* 9 of 12: three quarters */
	bad_server_open_gate(server, 8);
	RIG_UNTIL(&rig, rig_stats(&rig).active == 1);
	struct rig_call *held = NULL;
	for (int i = 0; i < 9; i++)
		held = calls[i].dones == 0 ? &calls[i] : held;
	for (unsigned before = 12; before > 2; before = rig_shared(&rig).size, steps++) {
		for (int i = 0; i < 400 && rig_shared(&rig).size == before; i++, minutes++)
			rig_pass(&rig, 1);
		unsigned part = before / 10 > 0 ? before / 10 : 1;
		if (before > 3) /* one in use of three is more than 30 % */
			assert_int_equal(rig_shared(&rig).size, before - part);
		else
			break;
		rig_pass(&rig, 1);
		assert_true(rig_stats(&rig).open <= before - part);
		assert_int_equal(rig_stats(&rig).active, 1);
	}
	printf("  1 in use: after %d s and %d steps %u are kept, %u open, 1 of them in use\n", minutes, steps,
	       rig_shared(&rig).size, rig_stats(&rig).open);
	assert_int_equal(rig_shared(&rig).size, 3);
	assert_true(rig_stats(&rig).recycled[POOL_RECYCLED_SURPLUS] >= 9);
	bad_server_open_gate(server, 1);
	assert_int_equal(rig_finish(held), POOL_DONE);
	rig_pass(&rig, 400);
	assert_int_equal(rig_shared(&rig).size, 2);
	rig_stop(&rig, server);
}

static void the_size_survives_a_reload(void **state)
{
	struct bad_server *server = nine_held();
	static struct rig_call calls[9];
	struct rig rig;
	(void)state;
	memset(calls, 0, sizeof(calls));
	rig_stop_clock();
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 20;
	rig.options.start = 10;
	rig.options.idle_timeout = rig.options.max_age = 10 * CLOCK_DAY;
	rig_open(&rig);
	hold_nine(&rig, server, calls);
	pool_idle_tick(rig.pool);
	rig_pass(&rig, 60);
	assert_int_equal(rig_shared(&rig).size, 12);
	rig.options.connections = 40;
	pool_change(rig.pool, &rig.options);
	assert_int_equal(rig_shared(&rig).size, 12);
	assert_int_equal(rig_shared(&rig).limit, 40);
	rig.options.connections = 5; /* fewer than are in use: nothing is taken from a call */
	pool_change(rig.pool, &rig.options);
	rig_pass(&rig, 2);
	assert_int_equal(rig_stats(&rig).active, 9);
	assert_int_equal(rig_shared(&rig).size, 5);
	bad_server_open_gate(server, 9);
	for (int i = 0; i < 9; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
	rig_pass(&rig, 1);
	assert_true(rig_stats(&rig).open <= 5);
	rig_stop(&rig, server);
}

/* Never more than there can be. */
static void the_size_is_within_the_bound_of_the_group(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.group_connections = 3;
	rig_open(&rig);
	assert_int_equal(rig_shared(&rig).size, 3);
	rig.options.group_connections = 1;
	pool_change(rig.pool, &rig.options);
	assert_int_equal(rig_shared(&rig).size, 1);
	rig.options.group_connections = 0;
	pool_change(rig.pool, &rig.options);
	assert_int_equal(rig_shared(&rig).size, 1); /* it grows with what is used */
	assert_int_equal(rig_shared(&rig).limit, 8);
	rig_stop(&rig, server);
}

/* The pool's own bound, and that of all pools of its group: what is idle goes at once, what is in use when its call ends, though others wait for it. */
static void a_lowered_bound_is_reached_under_load_too(void **state)
{
	enum { BEFORE = 8, AFTER = 3, CALLS = 40 };
	static struct rig_call calls[CALLS];
	(void)state;
	for (int of_group = 0; of_group < 2; of_group++) {
		struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
		struct rig rig;
		memset(calls, 0, sizeof(calls));
		rig_options(&rig, bad_server_origin(server));
		rig.options.connections = of_group ? 2 * BEFORE : BEFORE;
		rig.options.group_connections = BEFORE;
		rig_open(&rig);
		for (int i = 0; i < CALLS; i++)
			rig_get(&rig, &calls[i], "/x");
		RIG_UNTIL(&rig, bad_server_record(server).requests == BEFORE);
		*(of_group ? &rig.options.group_connections : &rig.options.connections) = AFTER;
		rig.options.start = AFTER;
		pool_change(rig.pool, &rig.options);
		rig_turn(&rig);
		assert_int_equal(rig_stats(&rig).active, BEFORE); /* nothing is taken from a call */
		bad_server_open_gate(server, BEFORE);
		RIG_UNTIL(&rig, bad_server_record(server).requests == BEFORE + AFTER);
		RIG_UNTIL(&rig, bad_server_record(server).open == AFTER);
		assert_int_equal(rig_stats(&rig).open, AFTER);
		/* of the pool's it keeps one while it waits for the group's */
		assert_int_equal(rig_shared(&rig).open, AFTER + of_group);
		assert_int_equal(rig_stats(&rig).waiting, CALLS - BEFORE - AFTER);
		bad_server_open_gate(server, CALLS);
		for (int i = 0; i < CALLS; i++)
			assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
		*(of_group ? &rig.options.group_connections : &rig.options.connections) = 1;
		rig.options.start = 1;
		pool_change(rig.pool, &rig.options);
		RIG_UNTIL(&rig, bad_server_record(server).open == 1);
		assert_int_equal(rig_stats(&rig).idle, 1);
		assert_int_equal(rig_stats(&rig).recycled[POOL_RECYCLED_SURPLUS], BEFORE - 1);
		rig_stop(&rig, server);
	}
}

/* Another one has its name by then, and a floor of its own under the same bound. */
static void one_that_was_replaced_keeps_nothing(void **state)
{
	enum { WARM = 3 };
	struct bad_server *server =
		bad_server_new((const struct bad_step *const[]){ bad_server_echo_at_gate, bad_server_echo }, 2);
	struct pool_shares *shares = pool_shares_new();
	struct rig_call held = { 0 }, late;
	struct pool_request request = rig_lasting("/held");
	struct rig rig;
	(void)state;
	rig_stop_clock();
	rig_options(&rig, bad_server_origin(server));
	rig.options.shares = shares;
	rig.options.name = "name";
	rig.options.connections = 2 * WARM;
	rig.options.warm = rig.options.least = WARM;
	rig.options.idle_timeout = rig.options.max_age = 10 * CLOCK_DAY;
	rig_open(&rig);
	rig_call(&rig, &held, &request);
	RIG_UNTIL(&rig, bad_server_record(server).requests == 1);
	pool_warm(rig.pool, CLOCK_SECOND, NULL, NULL);
	RIG_UNTIL(&rig, rig_stats(&rig).idle == WARM - 1);
	struct rig next = rig;
	next.pool = pool_new(rig.loop, &rig.options, NULL);
	pool_wind_down(rig.pool);
	pool_warm(next.pool, CLOCK_SECOND, NULL, NULL);
	RIG_UNTIL(&rig, rig_stats(&next).idle == WARM);
	assert_int_equal(rig_shared(&next).open, WARM + 1);
	rig_pass(&rig, 60);
	rig_turn(&rig);
	assert_int_equal(rig_stats(&rig).open, 1); /* its call's: nothing is opened again, */
	rig_quick(&rig, &late);                    /* but for a call that came late, */
	assert_int_equal(rig_stats(&rig).open, 1); /* and closed again */
	RIG_UNTIL(&rig, bad_server_record(server).open == WARM + 1);
	bad_server_open_gate(server, 1);
	assert_int_equal(rig_finish(&held), POOL_DONE);
	assert_int_equal(rig_stats(&rig).open, 0);
	RIG_UNTIL(&rig, bad_server_record(server).open == WARM);
	pool_free(&next.pool);
	rig_close(&rig);
	pool_shares_free(&shares);
	bad_server_free(&server);
}

static void none_gets_older_than_its_age(void **state)
{
	enum { BURST = 20, AGE = 100 };
	struct bad_server *server = bad_server_of(bad_server_echo);
	static struct rig_call calls[BURST];
	struct pool_request request = rig_lasting("/x");
	unsigned most_at_once = 0;
	int64_t oldest = 0;
	struct rig rig;
	(void)state;
	rig_stop_clock();
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = rig.options.start = BURST;
	rig.options.idle_timeout = CLOCK_DAY;
	rig.options.max_age = AGE * CLOCK_SECOND;
	rig_open(&rig);
	for (int second = 0; second < 4 * AGE; second++) {
		memset(calls, 0, sizeof(calls));
		for (int i = 0; i < BURST; i++)
			rig_call(&rig, &calls[i], &request);
		for (int i = 0; i < BURST; i++)
			assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
		LIST_EACH (&rig.pool->idle, node, following) {
			int64_t age = clock_now() - CONTAINER_OF(node, struct pool_socket, idling)->opened_at;
			oldest = age > oldest ? age : oldest;
		}
		uint64_t before = rig_stats(&rig).recycled[POOL_RECYCLED_AGE];
		rig_pass(&rig, 1);
		unsigned ended = (unsigned)(rig_stats(&rig).recycled[POOL_RECYCLED_AGE] - before);
		most_at_once = ended > most_at_once ? ended : most_at_once;
	}
	printf("  max_age %d s, %d connections opened together: the oldest was %lld s old, at most %u ended in one "
	       "second; %llu were recycled\n",
	       AGE, BURST, (long long)(oldest / CLOCK_SECOND), most_at_once,
	       (unsigned long long)rig_stats(&rig).recycled[POOL_RECYCLED_AGE]);
	assert_true(oldest <= AGE * CLOCK_SECOND && oldest >= AGE * CLOCK_SECOND * 8 / 10);
	assert_true(most_at_once <= BURST / 4);
	assert_in_range(rig_stats(&rig).opened, 3 * BURST,
			5 * BURST); /* one that is free again may serve two of a burst */
	rig_stop(&rig, server);
}

static void open_idle(struct rig *rig, struct bad_server *server, unsigned count)
{
	struct pool_request request = rig_lasting("/x");
	static struct rig_call calls[16];
	memset(calls, 0, sizeof(calls));
	for (unsigned i = 0; i < count; i++)
		rig_call(rig, &calls[i], &request);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
	assert_int_equal(rig_stats(rig).idle, count);
	assert_int_equal(bad_server_record(server).connections, count);
}

static void idle_connections_are_tried_and_age_all_the_same(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_far_away);
	struct rig rig;
	(void)state;
	rig_stop_clock();
	rig_options(&rig, bad_server_origin(server));
	rig.options.validate_after = 30 * CLOCK_SECOND;
	rig.options.idle_timeout = 100 * CLOCK_SECOND;
	rig_open(&rig);
	open_idle(&rig, server, 5);
	rig_pass(&rig, 29);
	assert_int_equal(bad_server_record(server).requests, 5);
	rig_pass(&rig, 1);
	RIG_UNTIL(&rig, bad_server_record(server).requests == 10 && rig_stats(&rig).idle == 5);
	assert_memory_equal(bad_server_record(server).last_head, "HEAD / HTTP/1.1\r\n", 17);
	assert_int_equal(rig_stats(&rig).reused, 0); /* not by a call */
	assert_int_equal(rig_stats(&rig).requests, 5);
	LIST_EACH (&rig.pool->idle, node, following)
		assert_int_equal(CONTAINER_OF(node, struct pool_socket, idling)->proved_at,
				 clock_now()); /* each of them */
	rig_pass(&rig, 30);
	RIG_UNTIL(&rig, bad_server_record(server).requests == 15 && rig_stats(&rig).idle == 5);
	rig_pass(&rig, 30);
	RIG_UNTIL(&rig, bad_server_record(server).requests == 20 && rig_stats(&rig).idle == 5);
	rig_pass(&rig, 10);
	assert_int_equal(rig_stats(&rig).idle, 0);
	assert_int_equal(rig_stats(&rig).recycled[POOL_RECYCLED_IDLE], 5);
	assert_int_equal(bad_server_record(server).connections, 5);
	rig_stop(&rig, server);
}

/* Answers once, and never again. */
static const struct bad_step falls_silent[] = { { .verb = BAD_REQUEST },
						{ .verb = BAD_ECHO },
						{ .verb = BAD_REQUEST },
						{ .verb = BAD_STALL },
						{ .verb = BAD_END } };

static void a_silent_connection_is_found_before_a_call_is_lost_on_it(void **state)
{
	struct bad_server *server =
		bad_server_new((const struct bad_step *const[]){ falls_silent, falls_silent, bad_server_echo }, 3);
	struct rig rig;
	struct rig_call call;
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.validate_after = 100 * CLOCK_MILLISECOND;
	rig.options.connect_timeout = 200 * CLOCK_MILLISECOND;
	rig.options.idle_timeout = 400 * CLOCK_MILLISECOND;
	rig_open(&rig);
	open_idle(&rig, server, 2);
	RIG_UNTIL(&rig, rig_stats(&rig).recycled[POOL_RECYCLED_VALIDATION] == 2);
	assert_int_equal(bad_server_record(server).requests, 4);
	assert_int_equal(rig_stats(&rig).failed, 0); /* of calls */
	rig_quick(&rig, &call);
	assert_false(call.result.reused);
	rig_stop(&rig, server);
}

static void after_the_machine_slept_nothing_idle_is_trusted(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call call;
	(void)state;
	rig_stop_clock();
	rig_options(&rig, bad_server_origin(server));
	rig.options.validate_after = CLOCK_MINUTE;
	rig.options.idle_timeout = rig.options.max_age = CLOCK_DAY;
	rig_open(&rig);
	pool_idle_tick(rig.pool);
	open_idle(&rig, server, 3);
	clock_test_advance(90 * CLOCK_SECOND);
	rig_quick(&rig, &call);
	assert_true(call.result.reused); /* a minute and a half are borne */
	clock_test_advance(CLOCK_HOUR);
	rig_quick(&rig, &call);
	assert_false(call.result.reused);
	assert_int_equal(rig_stats(&rig).recycled[POOL_RECYCLED_VALIDATION], 3);
	rig_stop(&rig, server);
}

static void nothing_is_opened_before_the_first_call(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call call;
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.idle_timeout = 200 * CLOCK_MILLISECOND;
	rig_open(&rig);
	pool_warm(rig.pool, CLOCK_SECOND, NULL, NULL);
	rig_for(&rig, 300 * CLOCK_MILLISECOND);
	assert_int_equal(bad_server_record(server).connections, 0);
	rig_quick(&rig, &call);
	assert_int_equal(bad_server_record(server).connections, 1);
	rig_stop(&rig, server);
}

/* ---- what is held for too long ---- */

/* One receiver takes no more for ever; one upstream sends a byte now and then, for ever. */
static void what_is_held_past_its_deadline_is_taken_back(void **state)
{
	static struct bad_step trickles[104];
	static const struct bad_step flood[] = { { .verb = BAD_REQUEST },
						 { .verb = BAD_SEND, .text = OK "Content-Length: 100000000\r\n\r\n" },
						 { .verb = BAD_FILL, .count = 100000000 },
						 { .verb = BAD_END } };
	struct rig_call paused = { .pause_after = 1000 }, trickled = { 0 }, next = { 0 };
	struct rig rig;
	(void)state;
	trickles[0].verb = BAD_REQUEST;
	trickles[1] = (struct bad_step){ BAD_SEND, OK "Content-Length: 100000\r\n\r\n", 0 };
	for (size_t i = 2; i + 2 < ARRAY_LENGTH(trickles); i += 2) {
		trickles[i] = (struct bad_step){ BAD_SEND, "x", 0 };
		trickles[i + 1] = (struct bad_step){ .verb = BAD_PAUSE, .count = 20 };
	}
	struct bad_server *server =
		bad_server_new((const struct bad_step *const[]){ flood, trickles, bad_server_echo }, 3);
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 1;
	rig_open(&rig);
	struct pool_request request = rig_request("GET", "/held");
	request.total_timeout = 200 * CLOCK_MILLISECOND;
	rig_call(&rig, &paused, &request);
	assert_int_equal(rig_finish(&paused), POOL_TOTAL_TIMEOUT);
	assert_true(paused.paused);
	rig_call(&rig, &trickled, &request);
	assert_int_equal(rig_finish(&trickled), POOL_TOTAL_TIMEOUT);
	assert_true(trickled.received > 2);
	assert_int_equal(rig_stats(&rig).leaks, 2);
	assert_int_equal(rig_stats(&rig).open, 0);
	rig_quick(&rig, &next);
	assert_int_equal(rig_shared(&rig).open, 1);
	assert_int_equal(rig_shared(&rig).peak, 1);
	RIG_UNTIL(&rig, bad_server_record(server).open == 1); /* the peers know */
	rig_stop(&rig, server);
}

/* ---- bursts, and steady work ---- */

static void a_burst_from_cold_is_served_by_no_more_than_there_may_be(void **state)
{
	enum { CALLS = 100, MOST = 20 };
	struct bad_server *server = bad_server_of(bad_server_echo);
	static struct rig_call calls[CALLS];
	struct rig rig;
	(void)state;
	memset(calls, 0, sizeof(calls));
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = MOST;
	rig.options.start = 2; /* what is kept bounds no burst */
	rig_open(&rig);
	for (int i = 0; i < CALLS; i++)
		rig_get(&rig, &calls[i], "/burst");
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
	printf("  %d at once from cold, max %d: %u connections, %d served\n", CALLS, MOST,
	       bad_server_record(server).most_open, CALLS);
	assert_int_equal(bad_server_record(server).most_open, MOST);
	assert_int_equal(rig_shared(&rig).peak, MOST);
	rig_stop(&rig, server);
}

static void steady_work_reuses_and_counts_what_that_saves(void **state)
{
	enum { WIDTH = 8, CALLS = 2000 };
	struct bad_server *server = bad_server_of(bad_server_echo);
	static struct rig_call calls[WIDTH];
	struct pool_stats stats;
	struct rig rig;
	int64_t shortest = INT64_MAX, longest = 0;
	int started = 0;
	(void)state;
	memset(calls, 0, sizeof(calls));
	rig_options(&rig, bad_server_origin(server));
	rig_open(&rig);
	rig_watch();
	while (started < CALLS || rig_stats(&rig).active > 0) {
		for (int i = 0; i < WIDTH && started < CALLS; i++)
			if (calls[i].transfer == NULL) {
				int64_t handshake = calls[i].result.handshake;
				longest = handshake > longest ? handshake : longest;
				shortest = handshake > 0 && handshake < shortest ? handshake : shortest;
				memset(&calls[i], 0, sizeof(calls[i]));
				rig_get(&rig, &calls[i], "/steady");
				started++;
			}
		loop_turn(rig.loop, true);
	}
	stats = rig_stats(&rig);
	double reuse = 100.0 * (double)stats.reused / CALLS;
	printf("  %d calls, 8 at once: %llu connections opened, %.1f %% reused, %.1f ms of hand-shakes saved\n", CALLS,
	       (unsigned long long)stats.opened, reuse, (double)stats.saved_total / 1000);
	assert_true(reuse >= 98);
	assert_int_equal(stats.opened + stats.reused, CALLS);
	assert_true(stats.handshakes == stats.opened && stats.saved_total > 0);
	/* a mean of some of them, for each */
	assert_in_range(stats.saved_total, (int64_t)stats.reused * shortest, (int64_t)stats.reused * longest);
	assert_int_equal(rig_shared(&rig).opened_lately, stats.opened);
	rig_stop(&rig, server);
}

static void urgent_calls_go_first_in_the_pool_too(void **state)
{
	enum { EACH = 9 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	static struct rig_call calls[LANES][EACH];
	struct rig_call first = { 0 };
	unsigned early[LANES] = { 0 };
	struct rig rig;
	int order = 0;
	(void)state;
	memset(calls, 0, sizeof(calls));
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 1;
	rig_open(&rig);
	rig_get(&rig, &first, "/first");
	rig_turn(&rig);
	for (int lane = LANE_LOW; lane >= 0; lane--) /* the low ones come first */
		for (int i = 0; i < EACH; i++) {
			struct pool_request request = rig_request("GET", "/x");
			request.lane = (enum lane)lane;
			calls[lane][i].order = &order;
			rig_call(&rig, &calls[lane][i], &request);
		}
	bad_server_open_gate(server, 1 + LANES * EACH);
	for (int lane = 0; lane < LANES; lane++)
		for (int i = 0; i < EACH; i++) {
			assert_int_equal(rig_finish(&calls[lane][i]), POOL_DONE);
			early[lane] += calls[lane][i].place < 9;
		}
	assert_int_equal(rig_finish(&first), POOL_DONE);
	assert_int_equal(early[LANE_HIGH], 5);
	assert_int_equal(early[LANE_MEDIUM], 3);
	assert_int_equal(early[LANE_LOW], 1);
	rig_stop(&rig, server);
}

static void reasons_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < POOL_RECYCLED_REASONS; i++)
		assert_non_null(pool_recycled_name((enum pool_recycled)i));
	assert_string_equal(pool_recycled_name(POOL_RECYCLED_CEDED), "ceded");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(grows_with_the_work_that_lasts_and_shrinks_without, rig_let_clock_run),
		cmocka_unit_test_teardown(the_size_survives_a_reload, rig_let_clock_run),
		cmocka_unit_test(the_size_is_within_the_bound_of_the_group),
		cmocka_unit_test(a_lowered_bound_is_reached_under_load_too),
		cmocka_unit_test_teardown(one_that_was_replaced_keeps_nothing, rig_let_clock_run),
		cmocka_unit_test_teardown(none_gets_older_than_its_age, rig_let_clock_run),
		cmocka_unit_test_teardown(idle_connections_are_tried_and_age_all_the_same, rig_let_clock_run),
		cmocka_unit_test_teardown(a_silent_connection_is_found_before_a_call_is_lost_on_it, rig_let_clock_run),
		cmocka_unit_test_teardown(after_the_machine_slept_nothing_idle_is_trusted, rig_let_clock_run),
		cmocka_unit_test_teardown(nothing_is_opened_before_the_first_call, rig_let_clock_run),
		cmocka_unit_test_teardown(what_is_held_past_its_deadline_is_taken_back, rig_let_clock_run),
		cmocka_unit_test_teardown(a_burst_from_cold_is_served_by_no_more_than_there_may_be, rig_let_clock_run),
		cmocka_unit_test_teardown(steady_work_reuses_and_counts_what_that_saves, rig_let_clock_run),
		cmocka_unit_test_teardown(urgent_calls_go_first_in_the_pool_too, rig_let_clock_run),
		cmocka_unit_test_teardown(reasons_have_names, rig_let_clock_run),
	};
	return cmocka_run_group_tests_name("pool_manager", tests, NULL, NULL);
}

/* What the pool reckons with over HTTP/2, behind a real proxy: connections, not streams; what a peer does not tell; loops that share their places. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/pool_internal.h"
#include "tests/support/pool_front.h"

enum { CALLS_MOST = 128 };

static const struct bad_step echo_at_gate[] = {
	{ .verb = BAD_REQUEST }, { .verb = BAD_GATE }, { .verb = BAD_ECHO }, { .verb = BAD_AGAIN }
};

static struct rig_call calls[CALLS_MOST];

/* Ready for rig_open; `option` is the proxy's. */
static void start(struct front *f, const struct bad_step *script, const char *option)
{
	memset(calls, 0, sizeof(calls));
	front_start_with(f, bad_server_of(script), POOL_HTTP_2, option);
}

/* So many more that the server has, and does not answer yet. */
static void hold(struct front *f, unsigned first, unsigned count)
{
	struct pool_request request = rig_lasting("/x");
	unsigned before = bad_server_record(f->server).requests;
	for (unsigned i = first; i < first + count; i++)
		rig_call(&f->rig, &calls[i], &request);
	RIG_UNTIL(&f->rig, bad_server_record(f->server).requests == before + count);
}

static void finish(unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
}

/* ---- the size ---- */

/* At most 20 connections, `size` of them kept from the start; none is too old or idle for too long while a test lasts. */
static void open_of_size(struct front *f, unsigned size, unsigned streams)
{
	rig_stop_clock();
	start(f, echo_at_gate, NULL);
	f->rig.options.connections = 20;
	f->rig.options.start = size;
	f->rig.options.streams_per_connection = streams;
	f->rig.options.idle_timeout = f->rig.options.max_age = 10 * CLOCK_DAY;
	rig_open(&f->rig);
	pool_idle_tick(f->rig.pool);
}

static void the_size_counts_connections(void **state)
{
	struct front f;
	(void)state;
	open_of_size(&f, 2, 100);
	hold(&f, 0, 90);
	assert_int_equal(rig_stats(&f.rig).active, 90);
	assert_int_equal(rig_stats(&f.rig).busy, 1);
	assert_int_equal(rig_stats(&f.rig).opened, 1);
	rig_pass(&f.rig, 200);
	printf("  90 streams over %u connection for 200 s: %u are kept\n", rig_stats(&f.rig).busy,
	       rig_shared(&f.rig).size);
	assert_int_equal(rig_shared(&f.rig).size, 2);
	bad_server_open_gate(f.server, 90);
	finish(0, 90);
	rig_pass(&f.rig, 310); /* no connection in use of two, for 5 min */
	assert_int_equal(rig_shared(&f.rig).size, 1);
	front_close(&f);
}

static void the_size_grows_by_connections(void **state)
{
	struct front f;
	(void)state;
	open_of_size(&f, 10, 4);
	hold(&f, 0, 36);
	assert_int_equal(rig_stats(&f.rig).busy, 9);
	pool_idle_tick(f.rig.pool);
	rig_pass(&f.rig, 59);
	assert_int_equal(rig_shared(&f.rig).size, 10);
	assert_int_equal(rig_stats(&f.rig).open, 9);
	rig_pass(&f.rig, 1);
	assert_int_equal(rig_shared(&f.rig).size, 12);
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == 39); /* light ones, which wait at the gate too */
	assert_int_equal(rig_stats(&f.rig).open, 12);
	bad_server_open_gate(f.server, 39);
	finish(0, 36);
	RIG_UNTIL(&f.rig, rig_stats(&f.rig).idle == 12);
	front_close(&f);
}

/* ---- a burst from cold ---- */

/* What the connection speaks is known when its hand-shake is over: nobody waits for an answer. */
static void a_cold_burst_shares_the_first_connection(void **state)
{
	struct front f;
	(void)state;
	start(&f, echo_at_gate, NULL);
	f.rig.options.connections = 20;
	rig_open(&f.rig);
	hold(&f, 0, 100);
	printf("  100 at once from cold over HTTP/2, max 20: %u connections, all under way before the first answer; "
	       "peak %u\n",
	       (unsigned)rig_stats(&f.rig).opened, rig_shared(&f.rig).peak);
	assert_int_equal(rig_stats(&f.rig).opened, 1);
	assert_int_equal(rig_shared(&f.rig).open, 1); /* what was held for the others is given back */
	assert_true(rig_shared(&f.rig).peak <= 20);
	bad_server_open_gate(f.server, 100);
	finish(0, 100);
	front_close(&f);
}

static void a_cold_burst_keeps_the_bound(void **state)
{
	enum { MOST = 5, EACH = 4 };
	struct front f;
	unsigned most_open = 0, done = 0;
	(void)state;
	start(&f, bad_server_echo, NULL);
	f.rig.options.connections = MOST;
	f.rig.options.streams_per_connection = EACH;
	rig_open(&f.rig);
	struct pool_request request = rig_lasting("/x");
	for (int i = 0; i < 100; i++)
		rig_call(&f.rig, &calls[i], &request);
	rig_watch();
	while (done < 100) {
		loop_turn(f.rig.loop, true);
		unsigned open = rig_stats(&f.rig).open;
		most_open = open > most_open ? open : most_open;
		done = 0;
		for (int i = 0; i < 100; i++)
			done += calls[i].dones;
	}
	finish(0, 100);
	printf("  100 at once from cold over HTTP/2, max %d, %d streams each: at most %u connections, peak %u, all "
	       "served\n",
	       MOST, EACH, most_open, rig_shared(&f.rig).peak);
	assert_true(most_open <= MOST && rig_shared(&f.rig).peak <= MOST);
	front_close(&f);
}

/* ---- what a peer does not tell ---- */

/* It allows fewer streams than we do: the rest waits here, and is no failure of the upstream. */
static void a_peers_smaller_limit_makes_calls_wait(void **state)
{
	struct front f;
	struct rig_call hasty = { 0 };
	struct pool_request request = rig_lasting("/x");
	(void)state;
	start(&f, echo_at_gate, "--frontend-http2-max-concurrent-streams=3");
	f.rig.options.connections = 1;
	rig_open(&f.rig);
	hold(&f, 0, 1); /* its settings are here */
	rig_connect_within(&f.rig, 300 * CLOCK_MILLISECOND);
	for (int i = 1; i < 10; i++)
		rig_call(&f.rig, &calls[i], &request);
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == 3);
	request.wait_timeout = 100 * CLOCK_MILLISECOND;
	rig_call(&f.rig, &hasty, &request);
	assert_int_equal(rig_finish(&hasty), POOL_NO_SLOT);
	rig_for(&f.rig, 500 * CLOCK_MILLISECOND); /* longer than the connect deadline */
	assert_int_equal(rig_stats(&f.rig).waiting, 7);
	assert_int_equal(rig_stats(&f.rig).active, 3);
	assert_int_equal(rig_stats(&f.rig).failed, 1); /* the hasty one */
	for (unsigned served = 1; served <= 10; served++) {
		bad_server_open_gate(f.server, 1);
		RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == (3 + served < 10 ? 3 + served : 10));
		assert_int_equal(rig_shared(&f.rig).open, 1);
	}
	finish(0, 10);
	assert_int_equal(rig_stats(&f.rig).opened, 1);
	front_close(&f);
}

/* The same where others have the rest of the places, and each connection has the name looked up. */
static void a_peers_smaller_limit_is_no_place_for_another(void **state)
{
	struct pool_request request = rig_lasting("/x");
	struct pool_shares *shares = pool_shares_new();
	struct rig other;
	struct front f;
	(void)state;
	start(&f, echo_at_gate, "--frontend-http2-max-concurrent-streams=3");
	f.rig.options.shares = shares;
	f.rig.options.name = "pool";
	f.rig.options.connections = 2;
	f.rig.options.name_age = 0;
	rig_open(&f.rig);
	other = f.rig;
	other.pool = pool_new(f.rig.loop, &f.rig.options, NULL);
	hold(&f, 0, 1);
	rig_call(&other, &calls[10], &request);
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == 2);
	for (int i = 1; i < 10; i++)
		rig_call(&f.rig, &calls[i], &request);
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests >= 4);
	rig_for(&f.rig, 300 * CLOCK_MILLISECOND);
	assert_int_equal(rig_shared(&f.rig).peak, 2);
	assert_int_equal(rig_stats(&f.rig).active, 3);
	assert_int_equal(rig_stats(&f.rig).waiting, 7);
	bad_server_open_gate(f.server, 11);
	finish(0, 11);
	pool_free(&other.pool);
	front_close(&f);
	pool_shares_free(&shares);
}

/* GOAWAY: those that it has are served to their end, and no more; another connection only where there may be one. */
static void a_goodbye_makes_calls_wait(void **state)
{
	struct front f;
	unsigned begun;
	(void)state;
	start(&f, echo_at_gate, "--frontend-max-requests=3");
	f.rig.options.connections = 1;
	rig_open(&f.rig);
	struct pool_request request = rig_lasting("/x");
	hold(&f, 0, 1);
	rig_connect_within(&f.rig, 300 * CLOCK_MILLISECOND);
	for (begun = 1; begun < 20 && rig_stats(&f.rig).waiting == 0; begun++) {
		rig_call(&f.rig, &calls[begun], &request);
		rig_for(&f.rig, 50 * CLOCK_MILLISECOND);
	}
	assert_true(begun < 20);
	rig_for(&f.rig, 600 * CLOCK_MILLISECOND);
	assert_int_equal(rig_stats(&f.rig).failed, 0);
	assert_int_equal(rig_stats(&f.rig).waiting, 1);
	assert_int_equal(rig_shared(&f.rig).open, 1);
	printf("  after %u streams the peer said goodbye\n", begun - 1);
	rig_connect_within(&f.rig, 10 * CLOCK_SECOND);
	for (unsigned ended = 1; ended < begun; ended++) { /* it stands still with fewer and fewer */
		bad_server_open_gate(f.server, 1);
		RIG_UNTIL(&f.rig, rig_stats(&f.rig).active == begun - 1 - ended || rig_stats(&f.rig).opened == 2);
		assert_true(rig_shared(&f.rig).open <= 1);
	}
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == begun);
	bad_server_open_gate(f.server, 1);
	finish(0, begun);
	assert_int_equal(rig_stats(&f.rig).opened, 2);
	assert_int_equal(rig_stats(&f.rig).failed, 0);
	front_close(&f);
}

/* And who is on one that stands has no place for another. */
static void a_connection_that_dies_leaves_one_place(void **state)
{
	enum { STREAMS = 8 };
	struct front f;
	(void)state;
	start(&f, echo_at_gate, NULL);
	f.rig.options.connections = 1;
	rig_open(&f.rig);
	hold(&f, 0, STREAMS);
	assert_false(pool_room_may_open(calls[0].transfer));
	proxy_free(&f.proxy);
	for (unsigned i = 0; i < STREAMS; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_RESET);
	assert_int_equal(rig_shared(&f.rig).peak, 1);
	front_close(&f);
}

/* Who waits for the one connection that is being opened ends as it does: the upstream cannot be reached, and nobody is told that it is busy. */
static void behind_a_hand_shake_that_hangs_nobody_is_busy(void **state)
{
	static const struct bad_step silent[] = { { .verb = BAD_STALL }, { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(silent);
	struct pool_request request = rig_lasting("/x");
	char origin[64];
	struct rig rig;
	(void)state;
	memset(calls, 0, sizeof(calls));
	snprintf(origin, sizeof(origin), "https://127.0.0.1:%d", bad_server_port(server));
	rig_options(&rig, origin);
	rig.options.verify = false; /* no certificate ever comes */
	rig.options.http = POOL_HTTP_2;
	rig.options.connect_timeout = request.wait_timeout = 200 * CLOCK_MILLISECOND;
	rig_open(&rig);
	for (int i = 0; i < 20; i++)
		rig_call(&rig, &calls[i], &request);
	for (int i = 0; i < 20; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_CONNECT_FAILED);
	rig_stop(&rig, server);
}

/* Beside a first hand-shake that has no room for it, and has all the time that it may take: nothing says yet that the upstream cannot be reached. */
static void who_goes_before_a_hand_shake_is_over_found_no_room(void **state)
{
	static const struct bad_step silent[] = { { .verb = BAD_STALL }, { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(silent);
	struct pool_request request = rig_lasting("/x");
	char origin[64];
	struct rig rig;
	(void)state;
	memset(calls, 0, sizeof(calls));
	snprintf(origin, sizeof(origin), "https://127.0.0.1:%d", bad_server_port(server));
	rig_options(&rig, origin);
	rig.options.verify = false;
	rig.options.http = POOL_HTTP_2;
	rig.options.connections = rig.options.start = rig.options.streams_per_connection = 1;
	rig_open(&rig);
	rig_call(&rig, &calls[0], &request);
	request.wait_timeout = 0;
	for (int i = 1; i < 4; i++) {
		rig_call(&rig, &calls[i], &request);
		assert_int_equal(rig_finish(&calls[i]), POOL_NO_SLOT);
	}
	pool_cancel(&calls[0].transfer);
	rig_stop(&rig, server);
}

/* Who may not wait takes what can be had at once; a hand-shake that has room for it is no waiting for others. */
static void no_patience_is_no_failure_from_cold(void **state)
{
	struct pool_request request = rig_lasting("/x");
	struct rig_call hasty = { 0 };
	struct front f;
	(void)state;
	start(&f, echo_at_gate, NULL);
	f.rig.options.connections = 1;
	f.rig.options.streams_per_connection = 10;
	rig_open(&f.rig);
	request.wait_timeout = 0;
	for (int i = 0; i < 10; i++)
		rig_call(&f.rig, &calls[i], &request);
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == 10);
	clock_test_set(CLOCK_DAY, 0);
	rig_call(&f.rig, &hasty, &request);
	assert_int_equal(rig_finish(&hasty), POOL_NO_SLOT);
	assert_int_equal(hasty.result.waited, 0);
	clock_test_release();
	bad_server_open_gate(f.server, 10);
	finish(0, 10);
	front_close(&f);
}

/* A turn of a machine that is busy with others: all that is due meanwhile is due at once. */
static void late_turn(struct front *f)
{
	poll(NULL, 0, 20);
	loop_turn(f->rig.loop, true);
}

/* The hand-shake is over in the very turn in which they are looked at again: there is room, and they have it. */
static void no_patience_outlasts_the_hand_shake(void **state)
{
	struct pool_request request = rig_lasting("/x");
	struct front f;
	(void)state;
	start(&f, echo_at_gate, NULL);
	f.rig.options.connections = 1;
	f.rig.options.streams_per_connection = 5;
	rig_open(&f.rig);
	request.wait_timeout = 0;
	for (int i = 0; i < 5; i++)
		rig_call(&f.rig, &calls[i], &request);
	rig_watch();
	while (bad_server_record(f.server).requests < 5)
		late_turn(&f);
	assert_int_equal(rig_stats(&f.rig).failed, 0);
	bad_server_open_gate(f.server, 5);
	finish(0, 5);
	front_close(&f);
}

/* Its patience ends in the very turn in which another's call does. */
static void patience_ends_behind_what_is_free(void **state)
{
	struct pool_request request = rig_lasting("/x");
	struct front f;
	(void)state;
	start(&f, echo_at_gate, NULL);
	f.rig.options.http = POOL_HTTP_1;
	f.rig.options.connections = 1;
	rig_open(&f.rig);
	hold(&f, 0, 1);
	request.wait_timeout = 50 * CLOCK_MILLISECOND;
	rig_call(&f.rig, &calls[1], &request);
	rig_call(&f.rig, &calls[2], &request);
	loop_turn(f.rig.loop, false);
	bad_server_open_gate(f.server, 2);
	poll(NULL, 0, 100);
	assert_int_equal(rig_finish(&calls[2]), POOL_NO_SLOT);
	assert_int_equal(rig_finish(&calls[1]), POOL_DONE);
	finish(0, 1);
	front_close(&f);
}

/* ---- loops that share their places ---- */

enum { LOOPS = 3, WIDTH = 16, EACH = 100 };

/* A loop on a thread of its own, whose calls always overlap. */
struct side {
	pthread_t thread;
	struct rig rig;
	struct rig_call calls[WIDTH];
	atomic_uint done, failed;
	atomic_bool over;
	struct pool_result failure; /* the first */
	struct pool_stats stats;
};

static void *overlap(void *arg)
{
	struct side *side = arg;
	struct pool_request request = rig_request("GET", "/x");
	side->rig.loop = loop_new();
	side->rig.pool = pool_new(side->rig.loop, &side->rig.options, NULL);
	for (unsigned turn = 0; !atomic_load(&side->over); turn++) {
		struct rig_call *call = &side->calls[turn % WIDTH];
		if (call->transfer == NULL) {
			bool failed = call->dones > 0 && call->result.outcome != POOL_DONE;
			if (failed && atomic_load(&side->failed) == 0)
				side->failure = call->result;
			atomic_fetch_add(failed ? &side->failed : &side->done, call->dones);
			memset(call, 0, sizeof(*call));
			rig_call(&side->rig, call, &request);
		}
		rig_turn(&side->rig);
	}
	pool_stats(side->rig.pool, &side->stats);
	pool_free(&side->rig.pool);
	loop_turn(side->rig.loop, false);
	loop_free(&side->rig.loop);
	return NULL;
}

/* The first has all of them, and its connections are never without a stream; the last comes to a full house. All are served, and there are never more than there may be. */
static void loops_have_their_turn(void **state, unsigned most)
{
	static const struct bad_step brief[] = {
		{ .verb = BAD_REQUEST }, { .verb = BAD_PAUSE, .count = 50 }, { .verb = BAD_ECHO }, { .verb = BAD_AGAIN }
	};
	static struct side sides[LOOPS];
	struct pool_shares *shares = pool_shares_new();
	struct pool_shared_stats shared;
	struct front f;
	unsigned ceded = 0;
	(void)state;
	memset(sides, 0, sizeof(sides));
	start(&f, brief, NULL);
	f.rig.options.shares = shares;
	f.rig.options.name = "pool";
	f.rig.options.connections = f.rig.options.start = most;
	rig_open(&f.rig);
	rig_watch();
	for (unsigned i = 0; i < LOOPS; i++) {
		sides[i].rig.options = f.rig.options;
		assert_int_equal(pthread_create(&sides[i].thread, NULL, overlap, &sides[i]), 0);
		while (i < most && atomic_load(&sides[i].done) < 10)
			poll(NULL, 0, 1);
	}
	for (unsigned i = 0; i < LOOPS; i++)
		while (atomic_load(&sides[i].done) < EACH)
			poll(NULL, 0, 1);
	shared = rig_shared(&f.rig);
	for (unsigned i = 0; i < LOOPS; i++) {
		atomic_store(&sides[i].over, true);
		assert_int_equal(pthread_join(sides[i].thread, NULL), 0);
		if (atomic_load(&sides[i].failed) > 0)
			fail_msg("%u calls of loop %u failed, first: outcome %d, %s; waited %lld us",
				 atomic_load(&sides[i].failed), i, (int)sides[i].failure.outcome,
				 sides[i].failure.detail, (long long)sides[i].failure.waited);
		ceded += (unsigned)sides[i].stats.recycled[POOL_RECYCLED_CEDED];
	}
	printf("  %d loops over HTTP/2, max %u: %u, %u and %u calls, %u connections ceded, peak %u\n", LOOPS, most,
	       atomic_load(&sides[0].done), atomic_load(&sides[1].done), atomic_load(&sides[2].done), ceded,
	       shared.peak);
	assert_int_equal(shared.peak, most);
	assert_true(ceded > 0);
	front_close(&f);
	pool_shares_free(&shares);
}

static void one_place_goes_round(void **state)
{
	loops_have_their_turn(state, 1);
}

static void two_places_go_round(void **state)
{
	loops_have_their_turn(state, 2);
}

/* ---- eras ---- */

/* Each connection has a stream that lasts, so each is there still when the next era begins. None of those before is given a call ever again. */
static void no_era_comes_back(void **state)
{
	enum { ERAS = 7 };
	static const struct bad_step begun[] = { { .verb = BAD_REQUEST },
						 { .verb = BAD_SEND,
						   .text = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun" },
						 { .verb = BAD_STALL },
						 { .verb = BAD_END } };
	struct pool_request request = rig_lasting("/x");
	struct front f;
	(void)state;
	start(&f, begun, NULL);
	clock_test_set(CLOCK_DAY, 0);
	f.rig.options.connections = f.rig.options.start =
		4 * ERAS; /* there is room for the next era's first, whatever growth opens */
	f.rig.options.idle_timeout = 10 * CLOCK_DAY;
	f.rig.options.max_age = CLOCK_HOUR;
	rig_open(&f.rig);
	for (unsigned era = 0; era < ERAS; era++) {
		rig_call(&f.rig, &calls[era], &request);
		RIG_UNTIL(&f.rig, calls[era].received == 5);
		assert_int_equal(calls[era].transfer->socket->era, era);
		for (unsigned i = 0; i < era; i++)
			assert_ptr_not_equal(calls[i].transfer->socket, calls[era].transfer->socket);
		clock_test_advance(55 * CLOCK_MINUTE);
		pool_idle_tick(f.rig.pool);
		RIG_UNTIL(&f.rig, f.rig.pool->era == era + 1);
	}
	front_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(the_size_counts_connections, rig_let_clock_run),
		cmocka_unit_test_teardown(the_size_grows_by_connections, rig_let_clock_run),
		cmocka_unit_test(a_cold_burst_shares_the_first_connection),
		cmocka_unit_test(a_cold_burst_keeps_the_bound),
		cmocka_unit_test(a_peers_smaller_limit_makes_calls_wait),
		cmocka_unit_test(a_peers_smaller_limit_is_no_place_for_another),
		cmocka_unit_test(a_goodbye_makes_calls_wait),
		cmocka_unit_test(a_connection_that_dies_leaves_one_place),
		cmocka_unit_test_teardown(no_patience_is_no_failure_from_cold, rig_let_clock_run),
		cmocka_unit_test(no_patience_outlasts_the_hand_shake),
		cmocka_unit_test(patience_ends_behind_what_is_free),
		cmocka_unit_test(one_place_goes_round),
		cmocka_unit_test(two_places_go_round),
		cmocka_unit_test(behind_a_hand_shake_that_hangs_nobody_is_busy),
		cmocka_unit_test(who_goes_before_a_hand_shake_is_over_found_no_room),
		cmocka_unit_test_teardown(no_era_comes_back, rig_let_clock_run),
	};
	return cmocka_run_group_tests_name("pool's streams", tests, front_setup, front_teardown);
}

/* The pool over HTTP/2, behind a real proxy: streams that share a connection, and a connection that is never without one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/pool_internal.h"
#include "tests/support/pool_front.h"

static void streams_share_a_connection(void **state)
{
	enum { CALLS = 60 };
	struct front f;
	static struct rig_call calls[CALLS];
	struct rig_call first = { 0 };
	struct pool_stats stats;
	(void)state;
	front_open(&f, bad_server_of(bad_server_echo), POOL_HTTP_2);
	rig_get(&f.rig, &first, "/first");
	assert_int_equal(rig_finish(&first), POOL_DONE);
	memset(calls, 0, sizeof(calls));
	for (int i = 0; i < CALLS; i++) {
		char target[32];
		snprintf(target, sizeof(target), "/call-%d", i);
		rig_get(&f.rig, &calls[i], target);
	}
	for (int i = 0; i < CALLS; i++) {
		char target[32];
		snprintf(target, sizeof(target), "/call-%d", i);
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
		assert_string_equal(calls[i].body, target);
		assert_int_equal(calls[i].status, 200);
		assert_true(calls[i].result.reused);
	}
	stats = rig_stats(&f.rig);
	assert_int_equal(stats.opened, 1);
	assert_int_equal(stats.reused, CALLS);
	assert_int_equal(stats.idle, 1);
	front_close(&f);
}

static void auto_and_one_pick_their_version(void **state)
{
	struct front f;
	struct rig_call call = { 0 }, second = { 0 };
	(void)state;
	front_open(&f, bad_server_of(bad_server_echo), POOL_HTTP_AUTO);
	struct slice body = SLICE("hello");
	rig_post(&f.rig, &call, "/auto", &body);
	assert_int_equal(rig_finish(&call), POOL_DONE);
	assert_string_equal(call.body, "/auto");
	front_close(&f);
	front_open(&f, bad_server_of(bad_server_echo), POOL_HTTP_1);
	rig_post(&f.rig, &second, "/one", &body);
	assert_int_equal(rig_finish(&second), POOL_DONE);
	front_close(&f);
}

static void cancelling_a_stream_ends_it_alone(void **state)
{
	static const struct bad_step streams[] = { { .verb = BAD_REQUEST },
						   { .verb = BAD_SEND,
						     .text = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun" },
						   { .verb = BAD_STALL },
						   { .verb = BAD_END } };
	struct bad_server *server =
		bad_server_new((const struct bad_step *const[]){ streams, streams, bad_server_echo }, 3);
	struct front f;
	struct rig_call cancelled = { 0 }, kept = { 0 }, after = { 0 };
	struct pool_stats stats;
	(void)state;
	front_start(&f, server, POOL_HTTP_2);
	f.rig.options.connections = 1;
	rig_open(&f.rig);
	rig_get(&f.rig, &cancelled, "/cancelled");
	RIG_UNTIL(&f.rig, cancelled.received == 5);
	rig_get(&f.rig, &kept, "/kept");
	RIG_UNTIL(&f.rig, kept.received == 5);
	pool_cancel(&cancelled.transfer);
	RIG_UNTIL(&f.rig, bad_server_record(server).left ==
				  1); /* the proxy passes the reset on to the server, and waits longer */
	rig_get(&f.rig, &after, "/after");
	assert_int_equal(rig_finish(&after), POOL_DONE);
	assert_true(after.result.reused);
	assert_int_equal(kept.dones, 0);
	stats = rig_stats(&f.rig);
	assert_int_equal(stats.opened, 1);
	front_close(&f);
}

static void a_cut_stream_is_truncated(void **state)
{
	static const struct bad_step cuts[] = { { .verb = BAD_REQUEST },
						{ .verb = BAD_SEND,
						  .text = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun" },
						{ .verb = BAD_GATE },
						{ .verb = BAD_RESET } };
	static const struct bad_step chunked[] = {
		{ .verb = BAD_REQUEST },
		{ .verb = BAD_SEND, .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n" },
		{ .verb = BAD_GATE },
		{ .verb = BAD_RESET }
	};
	static const struct bad_step *const scripts[] = { cuts, chunked };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(scripts); i++) {
		struct front f;
		struct rig_call call = { 0 };
		front_open(&f, bad_server_of(scripts[i]), POOL_HTTP_2);
		rig_get(&f.rig, &call, "/cut");
		RIG_UNTIL(&f.rig, call.received == 5);
		bad_server_open_gate(f.server, 1);
		assert_int_equal(rig_finish(&call), POOL_TRUNCATED);
		front_close(&f);
	}
}

static void a_dead_proxy_costs_one_attempt(void **state)
{
	static const struct bad_step first_only[] = { { .verb = BAD_REQUEST },
						      { .verb = BAD_ECHO },
						      { .verb = BAD_REQUEST },
						      { .verb = BAD_STALL },
						      { .verb = BAD_END } };
	struct front f;
	struct rig_call first = { 0 }, second = { 0 };
	struct slice body = SLICE("{\"once\":true}");
	(void)state;
	front_open(&f, bad_server_of(first_only), POOL_HTTP_2);
	rig_post(&f.rig, &first, "/first", &body);
	assert_int_equal(rig_finish(&first), POOL_DONE);
	rig_post(&f.rig, &second, "/second", &body);
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == 2);
	proxy_free(&f.proxy);
	assert_int_equal(rig_finish(&second), POOL_RESET);
	assert_int_equal(bad_server_record(f.server).requests, 2);
	front_close(&f);
}

static void warm_streams_open_their_own_connections(void **state)
{
	struct front f;
	(void)state;
	front_start(&f, bad_server_of(bad_server_echo), POOL_HTTP_2);
	f.rig.options.warm = 2;
	rig_open(&f.rig);
	pool_warm(f.rig.pool, 10 * CLOCK_SECOND, NULL, NULL);
	RIG_UNTIL(&f.rig, rig_stats(&f.rig).idle == 2);
	assert_int_equal(rig_stats(&f.rig).opened, 2);
	front_close(&f);
}

/* Always some streams on it: it is never idle, and new ones go to another all the same. The clock is in the test's hands: how fast the machine is does not matter. */
static void a_busy_connection_is_replaced_in_time(void **state)
{
	enum { WIDTH = 4, AGE = 1000, TURNS = 400, STEP = 10 };
	static const struct bad_step brief[] = {
		{ .verb = BAD_REQUEST }, { .verb = BAD_PAUSE, .count = 20 }, { .verb = BAD_ECHO }, { .verb = BAD_AGAIN }
	};
	static struct rig_call calls[WIDTH];
	struct pool_stats stats;
	int64_t oldest = 0;
	unsigned done = 0;
	struct front f;
	(void)state;
	front_start(&f, bad_server_of(brief), POOL_HTTP_2);
	rig_stop_clock();
	f.rig.options.connections = 8;
	f.rig.options.max_age = AGE * CLOCK_MILLISECOND;
	rig_open(&f.rig);
	memset(calls, 0, sizeof(calls));
	rig_get(&f.rig, &calls[0], "/first");
	assert_int_equal(rig_finish(&calls[0]), POOL_DONE);
	for (int turn = 0; turn < TURNS; turn++) {
		clock_test_advance(STEP * CLOCK_MILLISECOND);
		if (turn % 10 == 0)
			pool_idle_tick(f.rig.pool);
		struct rig_call *call = &calls[turn % WIDTH]; /* one after the other, so that they overlap */
		if (call->transfer == NULL) {
			assert_int_equal(call->result.outcome, POOL_DONE);
			done += call->dones;
			memset(call, 0, sizeof(*call));
			rig_get(&f.rig, call, "/busy");
		}
		rig_turn(&f.rig);
		LIST_EACH (&f.rig.pool->running, node, following) {
			struct transfer *t = CONTAINER_OF(node, struct transfer, node);
			int64_t age = t->socket != NULL ? t->slot_at - t->socket->opened_at : 0;
			oldest = age > oldest ? age : oldest;
		}
	}
	stats = rig_stats(&f.rig);
	printf("  %u streams in %d s, max_age %d ms: %u connections; the oldest that was given one was %lld ms old\n",
	       done, TURNS * STEP / 1000, AGE, (unsigned)stats.opened, (long long)(oldest / CLOCK_MILLISECOND));
	assert_true(done > 20 && stats.failed == 0);
	assert_in_range(stats.opened, 4, 12); /* six times its turn comes; a moment without a stream makes one more */
	assert_true(oldest <= AGE * CLOCK_MILLISECOND && oldest >= AGE / 2 * CLOCK_MILLISECOND);
	assert_true(stats.recycled[POOL_RECYCLED_AGE] >= 3);
	front_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_share_a_connection),
		cmocka_unit_test_teardown(a_busy_connection_is_replaced_in_time, rig_let_clock_run),
		cmocka_unit_test(auto_and_one_pick_their_version),
		cmocka_unit_test(cancelling_a_stream_ends_it_alone),
		cmocka_unit_test(a_cut_stream_is_truncated),
		cmocka_unit_test(a_dead_proxy_costs_one_attempt),
		cmocka_unit_test(warm_streams_open_their_own_connections),
	};
	return cmocka_run_group_tests_name("pool over HTTP/2", tests, front_setup, front_teardown);
}

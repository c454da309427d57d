/* The pool over HTTP/2, what becomes of its connections: which are tried, how old they get, what cut and forgotten calls leave behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/pool_internal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/pool_front.h"
#include "tests/support/random.h"

/* The first at once, the second at a gate. */
static const struct bad_step slow_second[] = { { .verb = BAD_REQUEST }, { .verb = BAD_ECHO }, { .verb = BAD_REQUEST },
					       { .verb = BAD_GATE },    { .verb = BAD_ECHO }, { .verb = BAD_AGAIN } };

/* So many that nobody uses, each opened by a light request of its own. */
static void open_idle(struct front *f, unsigned count)
{
	pool_warm(f->rig.pool, 10 * CLOCK_SECOND, NULL, NULL);
	RIG_UNTIL(&f->rig, rig_stats(&f->rig).idle == count);
}

/* So many that nobody uses, and that live for longer than a test: each is tried when nothing was heard on it for `after` seconds. */
static void open_tried(struct front *f, const struct bad_step *script, unsigned count, int after)
{
	rig_stop_clock();
	front_start(f, bad_server_of(script), POOL_HTTP_2);
	f->rig.options.connections = f->rig.options.warm = count;
	f->rig.options.validate_after = after * CLOCK_SECOND;
	f->rig.options.idle_timeout = CLOCK_DAY;
	f->rig.options.max_age = 2 * CLOCK_DAY;
	rig_open(&f->rig);
	open_idle(f, count);
}

/* Once more, and nothing but that. */
static void assert_each_tried(struct front *f, unsigned requests)
{
	assert_int_equal(bad_server_record(f->server).requests, requests);
	LIST_EACH (&f->rig.pool->idle, node, following) {
		struct pool_socket *s = CONTAINER_OF(node, struct pool_socket, idling);
		assert_int_equal(s->proved_at, clock_now());
	}
}

/* libcurl would put all light requests on the first connection that it finds, as streams. */
static void each_idle_connection_is_tried_by_one_request(void **state)
{
	enum { COUNT = 3, AFTER = 30, ROUNDS = 5 };
	struct front f;
	(void)state;
	open_tried(&f, bad_server_far_away, COUNT, AFTER);
	for (unsigned round = 1; round <= ROUNDS; round++) {
		rig_pass(&f.rig, AFTER - 1);
		assert_int_equal(bad_server_record(f.server).requests, round * COUNT);
		rig_pass(&f.rig, 1);
		RIG_UNTIL(&f.rig, rig_stats(&f.rig).idle == COUNT && f.rig.pool->validating_count == 0);
		assert_each_tried(&f, (round + 1) * COUNT);
	}
	assert_int_equal(rig_stats(&f.rig).opened, COUNT);
	assert_int_equal(rig_stats(&f.rig).recycled[POOL_RECYCLED_VALIDATION], 0);
	front_close(&f);
}

/* A peer that answers the first light request before the second has its connection gets both on one: that is no word against the other connection. */
static void a_connection_that_could_not_be_tried_is_kept(void **state)
{
	enum { COUNT = 4, AFTER = 30, SECONDS = 600 };
	struct front f;
	struct rig_call call;
	(void)state;
	open_tried(&f, bad_server_echo, COUNT, AFTER);
	for (int second = 0; second < SECONDS; second++) {
		rig_pass(&f.rig, 1);
		RIG_UNTIL(&f.rig, f.rig.pool->validating_count == 0);
	}
	unsigned tries = bad_server_record(f.server).requests - COUNT;
	printf("  %d idle connections over %d s, tried after %d s: %u light requests\n", COUNT, SECONDS, AFTER, tries);
	assert_in_range(tries, COUNT * (SECONDS / AFTER - 1), COUNT * 2 * SECONDS / AFTER);
	assert_int_equal(rig_stats(&f.rig).opened, COUNT);
	assert_int_equal(rig_stats(&f.rig).idle, COUNT);
	clock_test_advance(CLOCK_HOUR); /* but after a sleep nothing is trusted */
	rig_quick(&f.rig, &call);
	assert_false(call.result.reused);
	assert_int_equal(rig_stats(&f.rig).recycled[POOL_RECYCLED_VALIDATION], COUNT);
	front_close(&f);
}

static void a_silent_connection_is_found_before_a_call_is_lost_on_it(void **state)
{
	enum { COUNT = 2 };
	struct front f;
	struct rig_call call;
	(void)state;
	front_start(&f, bad_server_of(bad_server_echo), POOL_HTTP_2);
	f.rig.options.connections = f.rig.options.warm = COUNT;
	f.rig.options.validate_after = 100 * CLOCK_MILLISECOND;
	rig_open(&f.rig);
	open_idle(&f, COUNT);
	proxy_silence(f.proxy, true);
	rig_connect_within(&f.rig, 300 * CLOCK_MILLISECOND); /* for light requests */
	RIG_UNTIL(&f.rig, rig_stats(&f.rig).recycled[POOL_RECYCLED_VALIDATION] == COUNT);
	assert_int_equal(rig_stats(&f.rig).open, 0);
	proxy_silence(f.proxy, false);
	rig_connect_within(&f.rig, 10 * CLOCK_SECOND);
	rig_quick(&f.rig, &call);
	assert_false(call.result.reused);
	front_close(&f);
}

/* What is idle since when is a matter of calls: also where one came and went while the connection was tried. */
static void a_call_beside_a_light_request_is_a_use(void **state)
{
	enum { AFTER = 30 };
	struct bad_server *server = bad_server_new((const struct bad_step *const[]){ slow_second, bad_server_echo }, 2);
	struct front f;
	struct rig_call call;
	(void)state;
	rig_stop_clock();
	front_start(&f, server, POOL_HTTP_2);
	f.rig.options.connections = f.rig.options.warm = 1;
	f.rig.options.validate_after = AFTER * CLOCK_SECOND;
	f.rig.options.idle_timeout = CLOCK_DAY;
	f.rig.options.max_age = 2 * CLOCK_DAY;
	rig_open(&f.rig);
	open_idle(&f, 1);
	rig_pass(&f.rig, AFTER);
	RIG_UNTIL(&f.rig, bad_server_record(server).requests == 2);
	clock_test_advance(CLOCK_SECOND);
	rig_quick(&f.rig, &call);
	assert_true(call.result.reused);
	int64_t used_at = clock_now();
	clock_test_advance(CLOCK_SECOND);
	bad_server_open_gate(server, 1);
	RIG_UNTIL(&f.rig, rig_stats(&f.rig).idle == 1);
	struct pool_socket *s = CONTAINER_OF(f.rig.pool->idle.next, struct pool_socket, idling);
	assert_int_equal(s->idle_since, used_at);
	assert_int_equal(s->proved_at, clock_now());
	front_close(&f);
}

/* ---- ages ---- */

/* Four that are kept, and calls that use some of them: whatever a connection does, it is gone in time, and they do not all end together. */
static void none_gets_older_than_its_age(void **state)
{
	enum { COUNT = 4, AGE = 100, SECONDS = 4 * AGE };
	struct front f;
	struct rig_call call;
	int64_t oldest = 0;
	(void)state;
	rig_stop_clock();
	front_start(&f, bad_server_of(bad_server_echo), POOL_HTTP_2);
	f.rig.options.connections = 2 * COUNT; /* libcurl would count those that were shut down */
	f.rig.options.warm = COUNT;
	f.rig.options.idle_timeout = CLOCK_DAY;
	f.rig.options.max_age = AGE * CLOCK_SECOND;
	rig_open(&f.rig);
	open_idle(&f, COUNT);
	for (int second = 0; second < SECONDS; second++) {
		rig_pass(&f.rig, 1);
		RIG_UNTIL(&f.rig, rig_stats(&f.rig).idle == f.rig.pool->open_count - f.rig.pool->retired_count);
		rig_quick(&f.rig, &call);
		LIST_EACH (&f.rig.pool->idle, node, following) {
			int64_t age = clock_now() - CONTAINER_OF(node, struct pool_socket, idling)->opened_at;
			oldest = age > oldest ? age : oldest;
		}
	}
	struct pool_stats stats = rig_stats(&f.rig);
	printf("  max_age %d s, %d kept for %d s: the oldest was %lld s old, %llu were recycled\n", AGE, COUNT, SECONDS,
	       (long long)(oldest / CLOCK_SECOND), (unsigned long long)stats.recycled[POOL_RECYCLED_AGE]);
	assert_in_range(oldest, AGE * CLOCK_SECOND * 8 / 10, AGE * CLOCK_SECOND);
	assert_in_range(stats.recycled[POOL_RECYCLED_AGE], COUNT * 3, COUNT * 5);
	assert_true(stats.opened <= COUNT + stats.recycled[POOL_RECYCLED_AGE]); /* and nothing else ended any */
	assert_int_equal(stats.failed, 0);
	assert_true(rig_shared(&f.rig).peak <= COUNT);
	front_close(&f);
}

/* ---- what is held for too long ---- */

/* One receiver takes no more for ever, one upstream sends a byte now and then for ever; a third call on the same connection has nothing to do with it. */
static void what_is_held_past_its_deadline_is_taken_back(void **state)
{
	static struct bad_step trickles[104];
	static const struct bad_step flood[] = { { .verb = BAD_REQUEST },
						 { .verb = BAD_SEND,
						   .text = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" },
						 { .verb = BAD_FILL, .count = 100000000 },
						 { .verb = BAD_END } };
	struct rig_call paused = { .pause_after = 1000 }, trickled = { 0 }, beside = { 0 }, next;
	struct front f;
	(void)state;
	trickles[0].verb = BAD_REQUEST;
	trickles[1] = (struct bad_step){ BAD_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", 0 };
	for (size_t i = 2; i + 2 < ARRAY_LENGTH(trickles); i += 2) {
		trickles[i] = (struct bad_step){ BAD_SEND, "x", 0 };
		trickles[i + 1] = (struct bad_step){ .verb = BAD_PAUSE, .count = 20 };
	}
	trickles[ARRAY_LENGTH(trickles) - 2].verb = BAD_STALL;
	struct bad_server *server =
		bad_server_new((const struct bad_step *const[]){ slow_second, flood, trickles, bad_server_echo }, 4);
	front_start(&f, server, POOL_HTTP_2);
	f.rig.options.connections = 1;
	rig_open(&f.rig);
	struct pool_request request = rig_request("GET", "/held");
	rig_quick(&f.rig, &next); /* from here on it is known that calls share a connection */
	rig_get(&f.rig, &beside, "/beside");
	RIG_UNTIL(&f.rig, bad_server_record(server).requests == 2);
	request.total_timeout = 200 * CLOCK_MILLISECOND;
	rig_call(&f.rig, &paused, &request);
	RIG_UNTIL(&f.rig, bad_server_record(server).requests == 3); /* each meets the script that is meant for it */
	rig_call(&f.rig, &trickled, &request);
	assert_int_equal(rig_finish(&paused), POOL_TOTAL_TIMEOUT);
	assert_true(paused.paused);
	assert_int_equal(rig_finish(&trickled), POOL_TOTAL_TIMEOUT);
	assert_true(trickled.received > 2);
	assert_int_equal(rig_stats(&f.rig).leaks, 2);
	assert_int_equal(rig_stats(&f.rig).active, 1);
	RIG_UNTIL(&f.rig, bad_server_record(server).open == 1); /* their peers know */
	assert_int_equal(beside.dones, 0);
	bad_server_open_gate(server, 1);
	assert_int_equal(rig_finish(&beside), POOL_DONE);
	assert_string_equal(beside.body, "/beside");
	rig_quick(&f.rig, &next);
	assert_true(next.result.reused);
	assert_int_equal(rig_stats(&f.rig).opened, 1);
	assert_int_equal(rig_shared(&f.rig).open, 1);
	assert_int_equal(rig_shared(&f.rig).peak, 1);
	front_close(&f);
}

/* ---- cuts ---- */

enum { CUT_SCRIPTS = 1100 };

/* Answers that are cut anywhere, by FIN or RST, behind the proxy; every fifth is whole. The proxy has each from a connection of its own. */
static struct bad_server *cutting_server(uint64_t *random)
{
	static const char whole[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
	static struct bad_step steps[CUT_SCRIPTS][3];
	static const struct bad_step *scripts[CUT_SCRIPTS];
	for (size_t i = 0; i < CUT_SCRIPTS; i++) {
		size_t length = i % 5 == 4 ? 0 : 1 + random_below(random, sizeof(whole) - 2);
		steps[i][0].verb = BAD_REQUEST;
		steps[i][1] = (struct bad_step){ BAD_SEND, whole, length };
		steps[i][2].verb = random_below(random, 2) ? BAD_RESET : BAD_END;
		scripts[i] = steps[i];
	}
	return bad_server_new(scripts, CUT_SCRIPTS);
}

/* Streams are cut by their server, calls are cancelled, and whole connections are cut inside a frame, with all that is on them. */
static void a_thousand_cuts_leave_the_pool_whole(void **state)
{
	enum { CALLS = 1000, MOST = 3, STREAMS = 4 };
	static struct rig_call calls[CALLS];
	uint64_t random = 99;
	unsigned cut = 0;
	struct front f;
	char origin[64];
	(void)state;
	memset(calls, 0, sizeof(calls));
	front_start(&f, cutting_server(&random), POOL_HTTP_2);
	snprintf(origin, sizeof(origin), "tcp:%s", strstr(proxy_origin(f.proxy), "127.0.0.1"));
	struct fault_proxy *cutter = fault_proxy_start("tcp:127.0.0.1:0", origin);
	snprintf(origin, sizeof(origin), "https://127.0.0.1:%d", fault_proxy_port(cutter));
	f.rig.options.origin = origin;
	f.rig.options.connections = MOST;
	f.rig.options.streams_per_connection = STREAMS;
	rig_open(&f.rig);
	for (size_t i = 0; i < CALLS; i++) {
		struct pool_request request = rig_request(i % 2 ? "GET" : "POST", "/x");
		request.lane = (enum lane)(i % LANES);
		request.tenant = i % 5 < 2 ? SLICE("bounded") : SLICE("other");
		request.tenant_connections = i % 5 < 2 ? STREAMS : 0;
		rig_call(&f.rig, &calls[i], &request);
		if (random_below(&random, 8) == 0)
			pool_cancel(&calls[random_below(&random, i + 1)].transfer);
		if (i % 16 == 0)
			fault_proxy_tell(cutter, "cut-after %u", 1 + random_below(&random, 1000));
		RIG_UNTIL(&f.rig, rig_stats(&f.rig).active + rig_stats(&f.rig).waiting < 2 * MOST * STREAMS);
	}
	RIG_UNTIL(&f.rig, rig_stats(&f.rig).active == 0 && rig_stats(&f.rig).waiting == 0);
	for (size_t i = 0; i < CALLS; i++) {
		assert_null(calls[i].transfer);
		cut += calls[i].dones == 0 || calls[i].result.outcome != POOL_DONE;
	}
	struct pool_stats stats = rig_stats(&f.rig);
	printf("  %d calls, %u of them cut or cancelled, %llu connections cut: %u left, all idle, %u places taken, "
	       "peak %u\n",
	       CALLS, cut, (unsigned long long)fault_proxy_count(cutter, "cut"), stats.open, rig_shared(&f.rig).open,
	       rig_shared(&f.rig).peak);
	assert_true(fault_proxy_count(cutter, "cut") >= 5);
	assert_int_equal(stats.open, stats.idle);
	assert_int_equal(rig_shared(&f.rig).open, stats.open);
	assert_true(rig_shared(&f.rig).peak <= MOST);
	memset(calls, 0, sizeof(calls));
	for (size_t i = 0; i < MOST * STREAMS;
	     i++) { /* and all of it can be used, when what is missing has been opened */
		struct pool_request request = rig_request("GET", "/after");
		request.tenant = i < STREAMS ? SLICE("bounded") : SLICE("other");
		request.tenant_connections = i < STREAMS ? STREAMS : 0;
		rig_call(&f.rig, &calls[i], &request);
	}
	RIG_UNTIL(&f.rig, rig_stats(&f.rig).active == 0 && rig_stats(&f.rig).waiting == 0);
	pool_free(&f.rig.pool);
	rig_turn(&f.rig);
	fault_proxy_free(&cutter);
	front_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(each_idle_connection_is_tried_by_one_request, rig_let_clock_run),
		cmocka_unit_test_teardown(a_connection_that_could_not_be_tried_is_kept, rig_let_clock_run),
		cmocka_unit_test_teardown(a_call_beside_a_light_request_is_a_use, rig_let_clock_run),
		cmocka_unit_test(a_silent_connection_is_found_before_a_call_is_lost_on_it),
		cmocka_unit_test_teardown(none_gets_older_than_its_age, rig_let_clock_run),
		cmocka_unit_test(what_is_held_past_its_deadline_is_taken_back),
		cmocka_unit_test(a_thousand_cuts_leave_the_pool_whole),
	};
	return cmocka_run_group_tests_name("pool over HTTP/2, idle", tests, front_setup, front_teardown);
}

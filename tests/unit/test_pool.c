/* The pool when all goes well: requests, answers, reuse, the line, pause, cancel, warm-up, ages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "tests/support/descriptors.h"
#include "tests/support/pool_rig.h"

static void gets_an_answer(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call call = { 0 };
	struct pool_stats stats;
	(void)state;
	rig_start(&rig, server);
	rig_get(&rig, &call, "/a?b=%20c");
	assert_int_equal(rig_finish(&call), POOL_DONE);
	assert_int_equal(call.status, 200);
	assert_int_equal(call.heads, 1);
	assert_string_equal(call.body, "/a?b=%20c");
	assert_string_equal(call.fields, "Content-Length=9\n");
	assert_false(call.result.reused);
	assert_true(call.result.first_byte > 0 && call.result.handshake > 0);
	assert_int_equal(call.result.received, 9);
	pool_stats(rig.pool, &stats);
	assert_int_equal(stats.opened, 1);
	assert_int_equal(stats.idle, 1);
	assert_int_equal(stats.active, 0);
	rig_stop(&rig, server);
}

static void sends_exactly_what_it_was_given(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call call = { 0 };
	struct slice body[] = { SLICE("{\"a\":"), SLICE(""), SLICE("1}") };
	struct pool_field fields[] = { { SLICE("X-One"), SLICE("1") },
				       { SLICE("X-Empty"), SLICE("") },
				       { SLICE("Host"), SLICE("evil") },
				       { SLICE("Connection"), SLICE("close") },
				       { SLICE("Content-Length"), SLICE("9") } };
	char expected[256];
	(void)state;
	rig_start(&rig, server);
	struct pool_request request = rig_request("POST", "/../x");
	request.fields = fields;
	request.fields_count = ARRAY_LENGTH(fields);
	request.body = body;
	request.body_count = ARRAY_LENGTH(body);
	rig_call(&rig, &call, &request);
	assert_int_equal(rig_finish(&call), POOL_DONE);
	snprintf(expected, sizeof(expected),
		 "POST /../x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-One: 1\r\nX-Empty:\r\nContent-Length: 7\r\n\r\n",
		 bad_server_port(server));
	assert_string_equal(bad_server_record(server).last_head, expected);
	assert_int_equal(bad_server_record(server).body_bytes, 7);
	assert_int_equal(call.result.sent, 7);
	rig_stop(&rig, server);
}

static void changes_methods_on_one_handle(void **state)
{
	static const char *const methods[] = { "POST",  "GET",     "DELETE", "PUT",  "HEAD",
					       "PATCH", "OPTIONS", "POST",   "HEAD", "GET" };
	struct bad_server *server = bad_server_of(
		(const struct bad_step[]){ { .verb = BAD_REQUEST },
					   { .verb = BAD_SEND, .text = "HTTP/1.1 204 No Content\r\n\r\n" },
					   { .verb = BAD_AGAIN } });
	struct rig rig;
	struct slice body = SLICE("body");
	(void)state;
	rig_start(&rig, server);
	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++) {
		struct rig_call call = { 0 };
		struct pool_request request = rig_request(methods[i], "/m");
		bool with_body = methods[i][0] == 'P';
		request.body = &body;
		request.body_count = with_body;
		rig_call(&rig, &call, &request);
		assert_int_equal(rig_finish(&call), POOL_DONE);
		assert_int_equal(call.result.reused, i > 0);
		struct bad_record record = bad_server_record(server);
		assert_memory_equal(record.last_head, methods[i], strlen(methods[i]));
		assert_int_equal(record.last_head[strlen(methods[i])], ' ');
		assert_int_equal(strstr(record.last_head, "Content-Length: 4\r\n") != NULL, with_body);
		assert_null(strstr(record.last_head, "Accept"));
		assert_null(strstr(record.last_head, "Content-Type"));
		assert_null(strstr(record.last_head, "Expect"));
	}
	assert_int_equal(bad_server_record(server).connections, 1);
	rig_stop(&rig, server);
}

static void sends_a_large_body_in_pieces(void **state)
{
	enum { SIZE = 5000000 };
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call call = { 0 };
	char *bytes = malloc(SIZE);
	(void)state;
	assert_non_null(bytes);
	memset(bytes, 'x', SIZE);
	struct slice body[] = { { bytes, 1 }, { bytes, 1000000 }, { bytes, 3999999 } };
	rig_start(&rig, server);
	struct pool_request request = rig_request("POST", "/large");
	request.body = body;
	request.body_count = ARRAY_LENGTH(body);
	rig_call(&rig, &call, &request);
	assert_int_equal(rig_finish(&call), POOL_DONE);
	assert_int_equal(bad_server_record(server).body_bytes, SIZE);
	assert_int_equal(call.result.sent, SIZE);
	free(bytes);
	rig_stop(&rig, server);
}

static void reuses_its_connection(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct pool_stats stats;
	(void)state;
	rig_start(&rig, server);
	for (int i = 0; i < 50; i++) {
		struct rig_call call = { 0 };
		char target[32];
		snprintf(target, sizeof(target), "/%d", i);
		rig_get(&rig, &call, target);
		assert_int_equal(rig_finish(&call), POOL_DONE);
		assert_string_equal(call.body, target);
		assert_int_equal(call.result.reused, i > 0);
		assert_int_equal(call.result.handshake > 0, i == 0);
	}
	pool_stats(rig.pool, &stats);
	assert_int_equal(stats.opened, 1);
	assert_int_equal(stats.reused, 49);
	assert_int_equal(stats.requests, 50);
	assert_int_equal(stats.failed, 0);
	rig_stop(&rig, server);
}

static void the_line_is_first_come_first_served(void **state)
{
	enum { CALLS = 40 };
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct rig rig;
	static struct rig_call calls[CALLS];
	struct pool_stats stats;
	int order = 0;
	(void)state;
	memset(calls, 0, sizeof(calls));
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 1;
	rig_open(&rig);
	for (int i = 0; i < CALLS; i++) {
		calls[i].order = &order;
		rig_get(&rig, &calls[i], "/line");
	}
	rig_turn(&rig);
	pool_stats(rig.pool, &stats);
	assert_int_equal(stats.active, 1);
	assert_int_equal(stats.waiting, CALLS - 1);
	bad_server_open_gate(server, CALLS);
	for (int i = 0; i < CALLS; i++) {
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
		assert_int_equal(calls[i].place, i);
	}
	assert_true(calls[CALLS - 1].result.waited > 0);
	rig_stop(&rig, server);
}

static void never_has_more_connections_than_allowed(void **state)
{
	enum { CALLS = 200 };
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	static struct rig_call calls[CALLS];
	(void)state;
	memset(calls, 0, sizeof(calls));
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 4;
	rig_open(&rig);
	for (int i = 0; i < CALLS; i++)
		rig_get(&rig, &calls[i], "/x");
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
	assert_int_equal(bad_server_record(server).connections, 4);
	assert_int_equal(bad_server_record(server).most_open, 4);
	rig_stop(&rig, server);
}

static void a_waiter_has_its_own_deadline(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo_at_gate);
	struct rig rig;
	struct rig_call holder = { 0 }, patient = { 0 }, hasty = { 0 }, doomed = { 0 };
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 1;
	rig_open(&rig);
	rig_get(&rig, &holder, "/holder");
	rig_get(&rig, &patient, "/patient");
	struct pool_request request = rig_request("GET", "/hasty");
	request.wait_timeout = 20 * CLOCK_MILLISECOND;
	rig_call(&rig, &hasty, &request);
	request = rig_request("GET", "/doomed");
	request.total_timeout = 20 * CLOCK_MILLISECOND;
	rig_call(&rig, &doomed, &request);
	assert_int_equal(rig_finish(&hasty), POOL_NO_SLOT);
	assert_true(hasty.result.waited >= 20 * CLOCK_MILLISECOND);
	assert_int_equal(rig_finish(&doomed), POOL_NO_SLOT);
	bad_server_open_gate(server, 2);
	assert_int_equal(rig_finish(&holder), POOL_DONE);
	assert_int_equal(rig_finish(&patient), POOL_DONE);
	assert_int_equal(bad_server_record(server).requests, 2);
	rig_stop(&rig, server);
}

static void a_hundred_megabytes_with_a_pause(void **state)
{
	enum { SIZE = 100000000 };
	static const struct bad_step big[] = { { .verb = BAD_REQUEST },
					       { .verb = BAD_SEND,
						 .text = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" },
					       { .verb = BAD_FILL, .count = SIZE },
					       { .verb = BAD_END } };
	struct bad_server *server = bad_server_new((const struct bad_step *const[]){ big, bad_server_echo }, 2);
	struct rig rig;
	struct rig_call call = { .pause_after = 1000000 }, neighbour = { 0 };
	(void)state;
	rig_start(&rig, server);
	struct pool_request request = rig_request("GET", "/big");
	request.idle_timeout =
		2 * CLOCK_SECOND; /* must not run while we are the ones who pause; no stall of the peer's */
	rig_call(&rig, &call, &request);
	RIG_UNTIL(&rig, call.paused);
	uint64_t held = call.received;
	rig_get(&rig, &neighbour, "/neighbour");
	assert_int_equal(rig_finish(&neighbour), POOL_DONE);
	rig_for(&rig, 2500 * CLOCK_MILLISECOND);
	assert_int_equal(call.received, held);
	assert_int_equal(call.dones, 0);
	assert_true(bad_server_record(server).sent < SIZE / 2); /* the peer feels it: kernel buffers, not ours */
	call.paused = false;
	pool_resume(call.transfer);
	assert_int_equal(rig_finish(&call), POOL_DONE);
	assert_int_equal(call.received, SIZE);
	assert_true(call.in_pattern);
	rig_stop(&rig, server);
}

static void cancel_is_seen_by_the_peer_at_once(void **state)
{
	static const struct bad_step stalls[] = { { .verb = BAD_REQUEST }, { .verb = BAD_STALL }, { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(stalls);
	struct rig rig;
	struct rig_call call = { 0 };
	(void)state;
	rig_start(&rig, server);
	struct pool_request request = rig_request("GET", "/leave");
	request.first_byte_timeout = request.idle_timeout = request.total_timeout =
		CLOCK_HOUR; /* nothing else ends it */
	rig_call(&rig, &call, &request);
	RIG_UNTIL(&rig, bad_server_record(server).requests == 1);
	pool_cancel(&call.transfer);
	assert_null(call.transfer);
	RIG_UNTIL(&rig, bad_server_record(server).left == 1);
	rig_for(&rig, 20 * CLOCK_MILLISECOND);
	assert_int_equal(call.dones, 0);
	rig_stop(&rig, server);
}

static void cancel_of_nothing_and_twice_is_fine(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call call = { 0 };
	struct transfer *none = NULL;
	(void)state;
	rig_start(&rig, server);
	pool_cancel(&none);
	rig_get(&rig, &call, "/x");
	pool_cancel(&call.transfer);
	pool_cancel(&call.transfer);
	rig_for(&rig, 20 * CLOCK_MILLISECOND);
	assert_int_equal(call.dones, 0);
	assert_int_equal(bad_server_record(server).connections, 0);
	rig_stop(&rig, server);
}

static void a_receiver_may_cancel_in_every_callback(void **state)
{
	(void)state;
	for (enum rig_moment moment = RIG_IN_HEAD; moment <= RIG_IN_DONE; moment++) {
		struct bad_server *server = bad_server_of(bad_server_echo);
		struct rig rig;
		struct rig_call call = { .cancel_at = moment }, after = { 0 };
		struct pool_stats stats;
		rig_start(&rig, server);
		rig_get(&rig, &call, "/cancelled");
		RIG_UNTIL(&rig, call.transfer == NULL);
		rig_for(&rig, 20 * CLOCK_MILLISECOND);
		assert_int_equal(call.heads, 1);
		assert_int_equal(call.dones, moment == RIG_IN_DONE);
		rig_get(&rig, &after, "/after");
		assert_int_equal(rig_finish(&after), POOL_DONE);
		assert_string_equal(after.body, "/after");
		pool_stats(rig.pool, &stats);
		assert_int_equal(stats.active, 0);
		rig_stop(&rig, server);
	}
}

static void the_pool_may_be_freed_in_every_callback(void **state)
{
	(void)state;
	for (enum rig_moment moment = RIG_IN_HEAD; moment <= RIG_IN_DONE; moment++) {
		struct bad_server *server = bad_server_of(bad_server_echo);
		struct rig rig;
		struct rig_call call = { .free_pool_at = moment }, others[3] = { { 0 } };
		rig_options(&rig, bad_server_origin(server));
		rig.options.connections = 2;
		rig_open(&rig);
		rig_get(&rig, &call, "/frees");
		RIG_UNTIL(&rig, rig.pool == NULL || bad_server_record(server).requests > 0 || call.heads > 0);
		for (int i = 0; i < 3 && rig.pool != NULL; i++)
			rig_get(&rig, &others[i], "/others");
		RIG_UNTIL(&rig, rig.pool == NULL);
		rig_for(&rig, 20 * CLOCK_MILLISECOND);
		assert_int_equal(call.dones, moment == RIG_IN_DONE);
		rig_stop(&rig, server);
	}
}

static void the_pool_may_be_freed_while_calls_run_and_wait(void **state)
{
	static const struct bad_step stalls[] = { { .verb = BAD_REQUEST }, { .verb = BAD_STALL }, { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(stalls);
	struct rig rig;
	struct rig_call calls[5] = { { 0 } };
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = 3;
	rig_open(&rig);
	for (int i = 0; i < 5; i++)
		rig_get(&rig, &calls[i], "/x");
	RIG_UNTIL(&rig, bad_server_record(server).requests == 3);
	pool_free(&rig.pool);
	RIG_UNTIL(&rig, bad_server_record(server).left == 3);
	for (int i = 0; i < 5; i++)
		assert_int_equal(calls[i].dones, 0);
	rig_stop(&rig, server);
}

struct warmth {
	unsigned times, opened;
	char why[96];
};

static void on_warmed(void *arg, unsigned opened, const char *why)
{
	struct warmth *warmth = arg;
	warmth->times++;
	snprintf(warmth->why, sizeof(warmth->why), "%s", why);
	warmth->opened = opened;
}

static void warms_to_its_floor(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct warmth warmth = { 0 };
	struct rig_call call = { 0 };
	struct pool_stats stats;
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.warm = 5;
	rig_open(&rig);
	pool_warm(rig.pool, 10 * CLOCK_SECOND, on_warmed, &warmth);
	assert_int_equal(warmth.times, 0);
	RIG_UNTIL(&rig, warmth.times == 1);
	assert_int_equal(warmth.opened, 5);
	assert_string_equal(warmth.why, "");
	pool_stats(rig.pool, &stats);
	assert_int_equal(stats.open, 5);
	assert_int_equal(stats.idle, 5);
	assert_int_equal(bad_server_record(server).connections, 5);
	assert_memory_equal(bad_server_record(server).last_head, "HEAD / HTTP/1.1\r\n", 17);
	rig_get(&rig, &call, "/x");
	assert_int_equal(rig_finish(&call), POOL_DONE);
	assert_true(call.result.reused);
	rig_stop(&rig, server);
}

static void a_dead_provider_only_delays_warmth(void **state)
{
	static const struct bad_step silent[] = { { .verb = BAD_STALL }, { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(silent);
	struct rig rig;
	struct warmth warmth = { 0 }, none = { 0 };
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.warm = 3;
	rig_open(&rig);
	pool_warm(rig.pool, 50 * CLOCK_MILLISECOND, on_warmed, &warmth);
	RIG_UNTIL(&rig, warmth.times == 1);
	assert_int_equal(warmth.opened, 0);
	assert_string_not_equal(warmth.why, "");
	rig_close(&rig);
	rig_options(&rig, bad_server_origin(server));
	rig_open(&rig);
	pool_warm(rig.pool, CLOCK_SECOND, on_warmed, &none); /* a floor of nothing */
	assert_int_equal(none.times, 0);
	RIG_UNTIL(&rig, none.times == 1);
	assert_int_equal(none.opened, 0);
	rig_stop(&rig, server);
}

static void the_floor_is_kept_warm(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct pool_stats stats;
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.warm = 2;
	rig.options.idle_timeout = 200 * CLOCK_MILLISECOND;
	rig_open(&rig);
	pool_warm(rig.pool, 100 * CLOCK_MILLISECOND, NULL, NULL);
	RIG_UNTIL(&rig, bad_server_record(server).connections >= 6); /* closed for their age, and opened again, twice */
	RIG_UNTIL(&rig, (pool_stats(rig.pool, &stats), stats.idle == 2));
	assert_true(stats.open <= 2);
	rig_stop(&rig, server);
}

static void idle_connections_are_closed_in_time(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call calls[3] = { { 0 } };
	struct pool_stats stats;
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.idle_timeout = 100 * CLOCK_MILLISECOND;
	rig_open(&rig);
	int descriptors = descriptors_open();
	for (int i = 0; i < 3; i++)
		rig_get(&rig, &calls[i], "/x");
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
	/* The peer hears of it at once, the descriptors come back with the sweep; no request comes to help. */
	RIG_UNTIL(&rig, bad_server_record(server).left == bad_server_record(server).connections);
	pool_stats(rig.pool, &stats);
	assert_int_equal(stats.idle, 0);
	assert_int_equal(stats.open, 0);
	RIG_UNTIL(&rig, descriptors_open() <= descriptors);
	rig_stop(&rig, server);
}

static void old_connections_are_not_used_again(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call first = { 0 }, second = { 0 };
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.max_age = 1; /* microsecond: old when its first request is done */
	rig_open(&rig);
	rig_get(&rig, &first, "/1");
	assert_int_equal(rig_finish(&first), POOL_DONE);
	rig_get(&rig, &second, "/2");
	assert_int_equal(rig_finish(&second), POOL_DONE);
	assert_false(second.result.reused);
	assert_int_equal(bad_server_record(server).connections, 2);
	rig_stop(&rig, server);
}

static void outcomes_have_names(void **state)
{
	(void)state;
	for (int i = POOL_DONE; i <= POOL_TOTAL_TIMEOUT; i++)
		assert_non_null(pool_outcome_name((enum pool_outcome)i));
	assert_string_equal(pool_outcome_name(POOL_FIRST_BYTE_TIMEOUT), "first_byte_timeout");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gets_an_answer),
		cmocka_unit_test(sends_exactly_what_it_was_given),
		cmocka_unit_test(changes_methods_on_one_handle),
		cmocka_unit_test(sends_a_large_body_in_pieces),
		cmocka_unit_test(reuses_its_connection),
		cmocka_unit_test(the_line_is_first_come_first_served),
		cmocka_unit_test(never_has_more_connections_than_allowed),
		cmocka_unit_test(a_waiter_has_its_own_deadline),
		cmocka_unit_test(a_hundred_megabytes_with_a_pause),
		cmocka_unit_test(cancel_is_seen_by_the_peer_at_once),
		cmocka_unit_test(cancel_of_nothing_and_twice_is_fine),
		cmocka_unit_test(a_receiver_may_cancel_in_every_callback),
		cmocka_unit_test(the_pool_may_be_freed_in_every_callback),
		cmocka_unit_test(the_pool_may_be_freed_while_calls_run_and_wait),
		cmocka_unit_test(warms_to_its_floor),
		cmocka_unit_test(a_dead_provider_only_delays_warmth),
		cmocka_unit_test(the_floor_is_kept_warm),
		cmocka_unit_test(idle_connections_are_closed_in_time),
		cmocka_unit_test(old_connections_are_not_used_again),
		cmocka_unit_test(outcomes_have_names),
	};
	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}

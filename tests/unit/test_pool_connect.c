/* The pool on its way to a peer, and waiting for one: names, addresses, black holes, and what each deadline is called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base.h"
#include "tests/support/pool_rig.h"

#define OK "HTTP/1.1 200 OK\r\n"

/* ---- deadlines ---- */

static void each_deadline_has_its_outcome(void **state)
{
	static const struct bad_step silent[] = { { .verb = BAD_REQUEST }, { .verb = BAD_STALL }, { .verb = BAD_END } };
	static const struct bad_step interim[] = { { .verb = BAD_REQUEST },
						   { .verb = BAD_SEND, .text = "HTTP/1.1 103 Hints\r\n\r\n" },
						   { .verb = BAD_STALL },
						   { .verb = BAD_END } };
	static const struct bad_step half_head[] = {
		{ .verb = BAD_REQUEST }, { .verb = BAD_SEND, .text = OK }, { .verb = BAD_STALL }, { .verb = BAD_END }
	};
	static const struct bad_step half_body[] = { { .verb = BAD_REQUEST },
						     { .verb = BAD_SEND, .text = OK "Content-Length: 9\r\n\r\nhalf" },
						     { .verb = BAD_STALL },
						     { .verb = BAD_END } };
	static const struct bad_step drips[] = { { .verb = BAD_REQUEST },
						 { .verb = BAD_SEND, .text = OK "\r\n" },
						 { .verb = BAD_SEND, .text = "." },
						 { .verb = BAD_PAUSE, .count = 3 },
						 { .verb = BAD_SEND, .text = "." },
						 { .verb = BAD_PAUSE, .count = 100000 },
						 { .verb = BAD_END } };
	/* clang-format off */
	static const struct { const struct bad_step *script; int64_t first_byte, idle, total; enum pool_outcome outcome; } cases[] = {
		{ silent, 30, 9000, 9000, POOL_FIRST_BYTE_TIMEOUT },
		{ interim, 30, 9000, 9000, POOL_FIRST_BYTE_TIMEOUT },
		{ half_head, 9000, 30, 9000, POOL_IDLE_TIMEOUT },
		{ half_body, 9000, 30, 9000, POOL_IDLE_TIMEOUT },
		{ silent, 9000, 9000, 30, POOL_TOTAL_TIMEOUT },
		{ drips, 9000, 9000, 30, POOL_TOTAL_TIMEOUT },
	};
	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct bad_server *server = bad_server_of(cases[i].script);
		struct rig rig;
		struct rig_call call = { 0 };
		rig_start(&rig, server);
		struct pool_request request = rig_request("GET", "/x");
		request.first_byte_timeout = cases[i].first_byte * CLOCK_MILLISECOND;
		request.idle_timeout = cases[i].idle * CLOCK_MILLISECOND;
		request.total_timeout = cases[i].total * CLOCK_MILLISECOND;
		rig_call(&rig, &call, &request);
		if (rig_finish(&call) != cases[i].outcome)
			fail_msg("case %zu: %s (%s)", i, pool_outcome_name(call.result.outcome), call.result.detail);
		RIG_UNTIL(&rig, bad_server_record(server).open == 0 || cases[i].script == drips);
		rig_stop(&rig, server);
	}
}

/* Its end and its deadline are found in the same turn, as where a loop was held up: it has ended. */
static void what_came_until_the_deadline_counts(void **state)
{
	static const struct bad_step script[] = { { .verb = BAD_REQUEST },
						  { .verb = BAD_SEND, .text = OK "Content-Length: 4\r\n\r\n12" },
						  { .verb = BAD_GATE },
						  { .verb = BAD_SEND, .text = "34" },
						  { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(script);
	struct rig rig;
	struct rig_call call = { 0 };
	(void)state;
	rig_start(&rig, server);
	struct pool_request request = rig_request("GET", "/x");
	request.total_timeout = 300 * CLOCK_MILLISECOND;
	int64_t deadline = clock_now() + request.total_timeout;
	rig_call(&rig, &call, &request);
	RIG_UNTIL(&rig, call.received == 2);
	uint64_t sent = bad_server_record(server).sent;
	bad_server_open_gate(server, 1);
	while (bad_server_record(server).sent < sent + 2 || clock_now() <= deadline)
		usleep(1000);
	assert_int_equal(rig_finish(&call), POOL_DONE);
	assert_string_equal(call.body, "1234");
	rig_stop(&rig, server);
}

/* ---- connecting ---- */

static int listener_of(int backlog, char *origin, size_t size)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	if (backlog >= 0)
		assert_int_equal(listen(listener, backlog), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	snprintf(origin, size, "http://127.0.0.1:%d", ntohs(address.sin_port));
	return listener;
}

static enum pool_outcome connects(const char *origin, bool allow_private, int64_t timeout, struct rig_call *call)
{
	struct rig rig;
	rig_options(&rig, origin);
	rig.options.allow_private = allow_private;
	rig.options.connect_timeout = timeout;
	rig_open(&rig);
	memset(call, 0, sizeof(*call));
	rig_get(&rig, call, "/x");
	enum pool_outcome outcome = rig_finish(call);
	assert_int_equal(rig_shared(&rig).peak, rig_stats(&rig).opened); /* one that failed never stood */
	rig_close(&rig);
	return outcome;
}

static void nobody_there_is_connect_failed(void **state)
{
	char origin[64];
	struct rig_call call;
	(void)state;
	int bound = listener_of(-1, origin, sizeof(origin));
	assert_int_equal(connects(origin, true, 10 * CLOCK_SECOND, &call), POOL_CONNECT_FAILED);
	assert_non_null(strstr(call.result.detail, "refused"));
	close(bound);
	assert_int_equal(connects("http://no-such-host.invalid", true, 20 * CLOCK_SECOND, &call), POOL_CONNECT_FAILED);
}

static void a_black_hole_is_connect_failed_in_time(void **state)
{
	char origin[64];
	struct rig_call call;
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	int fillers[4];
	(void)state;
	int listener = listener_of(0, origin, sizeof(origin));
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(fillers);
	     i++) { /* the line of those not accepted is full: SYNs are dropped */
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(fillers[i], (struct sockaddr *)&address, sizeof(address));
	}
	assert_int_equal(connects(origin, true, 100 * CLOCK_MILLISECOND, &call), POOL_CONNECT_FAILED);
	assert_string_equal(call.result.detail, "connect deadline passed");
	for (size_t i = 0; i < ARRAY_LENGTH(fillers); i++)
		close(fillers[i]);
	close(listener);
}

/* A resolver that hangs: libcurl's thread calls this one instead of the C library's. */
static sem_t resolver_entered, resolver_released, resolver_left;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	union {
		void *symbol;
		int (*call)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	} real = { .symbol = dlsym(RTLD_NEXT, "getaddrinfo") };
	if (host == NULL || strcmp(host, "hangs.example") != 0)
		return real.call(host, service, hints, found);
	sem_post(&resolver_entered);
	while (sem_wait(&resolver_released) != 0)
		continue;
	sem_post(&resolver_left);
	return EAI_AGAIN;
}

/* Were the loop to wait for the resolver, it would wait for ever: it is released only after the pool has gone. */
static void a_hanging_resolver_blocks_nobody(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig rig;
	struct rig_call late = { 0 }, cancelled = { 0 }, freed = { 0 };
	(void)state;
	sem_init(&resolver_entered, 0, 0);
	sem_init(&resolver_released, 0, 0);
	sem_init(&resolver_left, 0, 0);
	rig_options(&rig, "http://hangs.example");
	rig.options.connect_timeout = 50 * CLOCK_MILLISECOND;
	rig_open(&rig);
	rig_get(&rig, &late, "/late");
	assert_int_equal(rig_finish(&late), POOL_CONNECT_FAILED);
	assert_string_equal(late.result.detail, "connect deadline passed");
	rig_get(&rig, &cancelled, "/cancelled");
	rig_turn(&rig);
	pool_cancel(&cancelled.transfer);
	rig_get(&rig, &freed, "/freed");
	rig_turn(&rig);
	pool_free(&rig.pool);
	rig_turn(&rig);
	assert_int_equal(cancelled.dones + freed.dones, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sem_wait(&resolver_entered), 0);
	for (int i = 0; i < 3; i++)
		sem_post(&resolver_released);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sem_wait(&resolver_left), 0);
	rig_stop(&rig, server);
}

static void names_are_resolved(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	char origin[64];
	struct rig_call call;
	(void)state;
	snprintf(origin, sizeof(origin), "http://localhost:%d", bad_server_port(server));
	assert_int_equal(connects(origin, true, 10 * CLOCK_SECOND, &call), POOL_DONE);
	assert_string_equal(call.body, "/x");
	bad_server_free(&server);
}

static void private_addresses_must_be_named(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost",          "[::1]",
					     "10.0.0.1",  "[::ffff:127.0.0.1]", "169.254.169.254",
					     "[fe80::1]", "192.168.1.1",        "0.0.0.0",
					     "2130706433" };
	struct bad_server *server = bad_server_of(bad_server_echo);
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
		char origin[64];
		struct rig_call call;
		snprintf(origin, sizeof(origin), "http://%s:%d", hosts[i], bad_server_port(server));
		assert_int_equal(connects(origin, false, 5 * CLOCK_SECOND, &call), POOL_CONNECT_FAILED);
		assert_string_equal(call.result.detail, "address not allowed");
	}
	assert_int_equal(bad_server_record(server).connections, 0);
	bad_server_free(&server);
}

static void the_environment_has_no_say(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct rig_call call;
	(void)state;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	assert_int_equal(connects(bad_server_origin(server), true, 10 * CLOCK_SECOND, &call), POOL_DONE);
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
	bad_server_free(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_deadline_has_its_outcome),
		cmocka_unit_test(what_came_until_the_deadline_counts),
		cmocka_unit_test(nobody_there_is_connect_failed),
		cmocka_unit_test(a_black_hole_is_connect_failed_in_time),
		cmocka_unit_test(a_hanging_resolver_blocks_nobody),
		cmocka_unit_test(names_are_resolved),
		cmocka_unit_test(private_addresses_must_be_named),
		cmocka_unit_test(the_environment_has_no_say),
	};
	return cmocka_run_group_tests_name("pool connecting", tests, NULL, NULL);
}

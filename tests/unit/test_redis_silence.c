/* lib/redis when Redis owes an answer for too long: who waits is told, nobody else begins to wait, and the first word ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/redis_silence.h"
#include "tests/support/redis_rig.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG_ENOUGH (5 * CLOCK_SECOND) /* of a call's deadline: what ends it is not that */
#define AT_MOST     (100 * CLOCK_MILLISECOND)

static struct redis_rig rig;

static int begin(void **state)
{
	(void)state;
	redis_rig_begin(&rig, NULL);
	redis_rig_connect_impatient(&rig, redis_server_url(rig.server));
	redis_rig_until_up(&rig);
	return 0;
}

static int end(void **state)
{
	(void)state;
	redis_rig_end(&rig);
	return 0;
}

static void until_back(void)
{
	int64_t end_of_patience = clock_now() + 10 * CLOCK_SECOND;
	while (redis_is_away(rig.redis)) {
		assert_true(clock_now() < end_of_patience);
		loop_turn(rig.loop, true);
	}
}

static void the_rule(void **state)
{
	struct redis_silence s = { .most = 80 };
	(void)state;
	assert_int_equal(redis_silence_left(&s, 1000), INT64_MAX);
	redis_silence_owe(&s, 1000);
	redis_silence_owe(&s, 1050); /* the earliest counts */
	assert_int_equal(redis_silence_left(&s, 1050), 30);
	assert_int_equal(redis_silence_left(&s, 1080), 0);
	redis_silence_heard(&s, true, 1070);
	assert_int_equal(redis_silence_left(&s, 1080), 70);
	assert_false(redis_silence_timed_out(&s, 2));
	redis_silence_heard(&s, false, 1090);
	assert_int_equal(redis_silence_left(&s, 5000), INT64_MAX);
	assert_false(redis_silence_timed_out(&s, 2)); /* the first two are forgotten */
	assert_true(redis_silence_timed_out(&s, 1));
	s.most = 0;
	assert_false(redis_silence_timed_out(&s, 9));
}

/* Its time to answer is long, its patience is not. */
static void a_hung_server_is_away_within_100_ms(void **state)
{
	struct rig_answer sent, later, again;
	(void)state;
	redis_server_pause(rig.server);
	int64_t asked = clock_now();
	redis_rig_send(&rig, &sent, LONG_ENOUGH, "INCR key");
	redis_rig_until(&rig, &sent.count, 1);
	int64_t took = clock_now() - asked;
	assert_int_equal(sent.result, REDIS_LOST); /* it may run yet */
	assert_true(redis_is_away(rig.redis));
	if (took > AT_MOST)
		fail_msg("it took %lld us", (long long)took);
	redis_rig_send(&rig, &later, LONG_ENOUGH, "INCR key");
	redis_rig_until(&rig, &later.count, 1);
	assert_int_equal(later.result, REDIS_UNSENT);
	assert_true(later.took < 20 * CLOCK_MILLISECOND); /* nobody waits any more */
	redis_server_resume(rig.server);
	int64_t back = clock_now();
	until_back();
	assert_true(clock_now() - back < CLOCK_SECOND);
	redis_rig_ask(&rig, &again, "ECHO new"); /* the late reply met nobody */
	assert_string_equal(again.text, "new");
	assert_int_equal(redis_server_int(rig.server, "GET key"), 1);
	print_message("hung: away %lld ms after the call, back %lld ms after it went on\n", (long long)(took / 1000),
		      (long long)((clock_now() - back) / 1000));
}

static void a_dead_server_is_away_within_100_ms(void **state)
{
	struct rig_answer waiting;
	(void)state;
	redis_server_kill(rig.server);
	int64_t asked = clock_now();
	redis_rig_send(&rig, &waiting, LONG_ENOUGH, "PING");
	redis_rig_until(&rig, &waiting.count, 1);
	assert_true(waiting.result == REDIS_UNSENT || waiting.result == REDIS_LOST);
	if (!redis_is_away(rig.redis)) { /* it went with the connection */
		redis_rig_send(&rig, &waiting, LONG_ENOUGH, "PING");
		redis_rig_until(&rig, &waiting.count, 1);
		assert_int_equal(waiting.result, REDIS_UNSENT);
	}
	assert_true(redis_is_away(rig.redis));
	assert_true(clock_now() - asked <= AT_MOST + 20 * CLOCK_MILLISECOND);
	redis_server_restart(rig.server);
	int64_t back = clock_now();
	until_back();
	assert_true(clock_now() - back < CLOCK_SECOND);
}

/* Each call has its time, and three in a row have passed it. */
static void three_timeouts_in_a_row(void **state)
{
	struct rig_answer a[3];
	(void)state;
	redis_server_pause(rig.server);
	for (size_t i = 0; i < ARRAY_LENGTH(a); i++)
		redis_rig_send(&rig, &a[i], 20 * CLOCK_MILLISECOND, "PING");
	int64_t asked = clock_now();
	redis_rig_until(&rig, &a[2].count, 1);
	assert_int_equal(a[2].result, REDIS_TIMED_OUT);
	assert_true(redis_is_away(rig.redis));
	assert_true(clock_now() - asked < 80 * CLOCK_MILLISECOND);
	redis_server_resume(rig.server);
	until_back();
}

/* One that was late is no reason. */
static void a_single_timeout_is_forgiven(void **state)
{
	struct rig_answer late, next;
	(void)state;
	redis_server_pause(rig.server);
	redis_rig_send(&rig, &late, 20 * CLOCK_MILLISECOND, "PING");
	redis_rig_until(&rig, &late.count, 1);
	assert_int_equal(late.result, REDIS_TIMED_OUT);
	assert_false(redis_is_away(rig.redis));
	redis_server_resume(rig.server);
	redis_rig_send(&rig, &next, LONG_ENOUGH, "PING");
	redis_rig_until(&rig, &next.count, 1);
	assert_int_equal(next.result, REDIS_OK);
	assert_false(redis_is_away(rig.redis));
}

/* Who calls seldom, and waits for less than its patience, finds out as soon. */
static void one_call_that_is_never_answered_is_enough(void **state)
{
	struct rig_answer late;
	(void)state;
	redis_server_pause(rig.server);
	int64_t asked = clock_now();
	redis_rig_send(&rig, &late, 20 * CLOCK_MILLISECOND, "PING");
	while (!redis_is_away(rig.redis)) {
		assert_true(clock_now() - asked <= AT_MOST);
		loop_turn(rig.loop, true);
	}
	assert_int_equal(late.result, REDIS_TIMED_OUT);
	redis_server_resume(rig.server);
	until_back();
}

static void an_idle_connection_owes_nothing(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_ask(&rig, &a, "PING");
	int64_t until = clock_now() + 250 * CLOCK_MILLISECOND;
	redis_server_pause(rig.server);
	while (clock_now() < until)
		loop_turn(rig.loop, false);
	assert_false(redis_is_away(rig.redis));
	assert_true(redis_is_up(rig.redis));
	redis_server_resume(rig.server);
}

/* This process stood still, not Redis: its answer lies in the socket. */
static void our_own_pause_is_not_its_silence(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_send(&rig, &a, LONG_ENOUGH, "ECHO here");
	loop_turn(rig.loop, false); /* it is written */
	int64_t until = clock_now() + 150 * CLOCK_MILLISECOND;
	while (clock_now() < until)
		;
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_OK);
	assert_false(redis_is_away(rig.redis));
	assert_int_equal(rig.downs, 0);
}

/* A server that greets, and then writes one byte each 40 ms. */
static _Noreturn void trickle(int listener)
{
	static const char greeting[] = "+OK\r\n+PONG\r\n", answer[] = "$8\r\nslow one\r\n";
	char bytes[512];
	int client = accept(listener, NULL, NULL);
	size_t heard = 0;
	while (heard < 2 || memcmp(bytes + heard - 6, "PING\r\n", 6) != 0) {
		ssize_t got = read(client, bytes + heard, sizeof(bytes) - heard);
		if (got <= 0)
			_exit(1);
		heard += (size_t)got;
	}
	if (write(client, greeting, sizeof(greeting) - 1) < 0 || read(client, bytes, sizeof(bytes)) <= 0)
		_exit(1);
	for (size_t i = 0; i < sizeof(answer) - 1; i++) {
		usleep(40000);
		if (write(client, answer + i, 1) != 1)
			_exit(1);
	}
	_exit(0);
}

/* Half an answer is a word too: one that takes half a second to come over a slow link is no silence. */
static void a_slow_link_is_not_silence(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct rig_answer a;
	char url[128];
	int ended;
	(void)state;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/sluice-test-trickle-%d", (int)getpid());
	snprintf(url, sizeof(url), "unix://%s", address.sun_path);
	unlink(address.sun_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	pid_t child = fork();
	if (child == 0)
		trickle(listener);
	close(listener);
	redis_rig_connect_impatient(&rig, url);
	redis_rig_until_up(&rig);
	redis_rig_ask(&rig, &a, "GET big");
	assert_string_equal(a.text, "slow one");
	assert_true(a.took > 300 * CLOCK_MILLISECOND);
	assert_false(redis_is_away(rig.redis));
	assert_int_equal(waitpid(child, &ended, 0), child);
	unlink(address.sun_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_rule),
		cmocka_unit_test_setup_teardown(a_hung_server_is_away_within_100_ms, begin, end),
		cmocka_unit_test_setup_teardown(a_dead_server_is_away_within_100_ms, begin, end),
		cmocka_unit_test_setup_teardown(three_timeouts_in_a_row, begin, end),
		cmocka_unit_test_setup_teardown(a_single_timeout_is_forgiven, begin, end),
		cmocka_unit_test_setup_teardown(one_call_that_is_never_answered_is_enough, begin, end),
		cmocka_unit_test_setup_teardown(an_idle_connection_owes_nothing, begin, end),
		cmocka_unit_test_setup_teardown(our_own_pause_is_not_its_silence, begin, end),
		cmocka_unit_test_setup_teardown(a_slow_link_is_not_silence, begin, end),
	};
	return cmocka_run_group_tests_name("redis_silence", tests, NULL, NULL);
}

/* lib/script: EVALSHA, and what happens when the server does not know the script (yet, or any more). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/script.h"
#include "tests/support/redis_rig.h"

#include <hiredis/hiredis.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <unistd.h>

static struct redis_rig rig;

static int begin(void **state)
{
	(void)state;
	redis_rig_begin(&rig, NULL);
	return 0;
}

static int end(void **state)
{
	(void)state;
	redis_rig_end(&rig);
	return 0;
}

struct embedded_script {
	struct script script;
	char sha1[41];
};

static void make(struct embedded_script *e, const char *source)
{
	unsigned char digest[20];
	SHA1((const unsigned char *)source, strlen(source), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(e->sha1 + 2 * i, 3, "%02x", digest[i]);
	e->script = (struct script){ "test", source, strlen(source), e->sha1 };
}

static const char *adds = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

static void on_done(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	(void)call;
	redis_rig_done(NULL, arg, answer);
}

static struct script_call *start(const struct embedded_script *e, struct rig_answer *a, int64_t timeout)
{
	const struct slice keys[] = { SLICE("key") }, arguments[] = { SLICE("5") };
	memset(a, 0, sizeof(*a));
	return script_start(rig.redis, &e->script, timeout, on_done, a, 1, keys, 1, arguments);
}

static int64_t calls_of(const char *command)
{
	char format[64], *at;
	snprintf(format, sizeof(format), "cmdstat_%s:calls=", command);
	redisReply *reply = redis_server_command(rig.server, "INFO commandstats");
	at = strstr(reply->str, format);
	int64_t count = at == NULL ? 0 : strtoll(at + strlen(format), NULL, 10);
	freeReplyObject(reply);
	return count;
}

static void it_is_loaded_once_and_run_each_time(void **state)
{
	struct embedded_script e;
	struct rig_answer a;
	(void)state;
	make(&e, adds);
	for (int i = 1; i <= 3; i++) {
		start(&e, &a, RIG_TIMEOUT);
		redis_rig_until(&rig, &a.count, 1);
		assert_int_equal(a.result, REDIS_OK);
		assert_int_equal(a.number, 5 * i);
	}
	assert_int_equal(calls_of("script|load"), 1);
	assert_int_equal(calls_of("evalsha"), 4);
}

static void after_a_flush_each_call_runs_exactly_once(void **state)
{
	struct embedded_script e;
	struct rig_answer a[200];
	(void)state;
	make(&e, adds);
	start(&e, &a[0], RIG_TIMEOUT);
	redis_rig_until(&rig, &a[0].count, 1);
	redis_server_do(rig.server, "SCRIPT FLUSH");
	for (size_t i = 0; i < ARRAY_LENGTH(a); i++)
		start(&e, &a[i], RIG_TIMEOUT);
	for (size_t i = 0; i < ARRAY_LENGTH(a); i++) {
		redis_rig_until(&rig, &a[i].count, 1);
		assert_int_equal(a[i].result, REDIS_OK);
	}
	assert_int_equal(redis_server_int(rig.server, "GET key"), 5 * (1 + ARRAY_LENGTH(a)));
}

static void a_restarted_server_gets_it_again(void **state)
{
	struct embedded_script e;
	struct rig_answer a;
	(void)state;
	make(&e, adds);
	start(&e, &a, RIG_TIMEOUT);
	redis_rig_until(&rig, &a.count, 1);
	redis_server_restart(rig.server);
	redis_rig_until(&rig, &rig.ups, 2);
	start(&e, &a, RIG_TIMEOUT);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.number, 5);
}

static void one_that_does_not_compile_says_so(void **state)
{
	struct embedded_script e;
	struct rig_answer a;
	(void)state;
	make(&e, "this is no Lua");
	start(&e, &a, RIG_TIMEOUT);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_ERROR);
	assert_int_equal(a.error, REDIS_ERROR_other); /* not noscript: what SCRIPT LOAD said */
}

static void its_own_error_is_not_repeated(void **state)
{
	struct embedded_script e;
	struct rig_answer a;
	(void)state;
	make(&e, "redis.call('INCR', KEYS[1]); return redis.error_reply('BUSY by hand')");
	start(&e, &a, RIG_TIMEOUT);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.error, REDIS_ERROR_busy);
	assert_int_equal(redis_server_int(rig.server, "GET key"), 1);
}

static void a_wrong_digest_is_tried_once_more_and_no_longer(void **state)
{
	struct embedded_script e;
	struct rig_answer a;
	(void)state;
	make(&e, adds);
	memset(e.sha1, '0', 40);
	start(&e, &a, RIG_TIMEOUT);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.error, REDIS_ERROR_noscript);
	assert_int_equal(calls_of("evalsha"), 2);
}

static void many_arguments_go_through(void **state)
{
	struct embedded_script e;
	struct rig_answer a = { .count = 0 };
	struct slice arguments[500];
	(void)state;
	make(&e, "return #ARGV + #KEYS");
	for (size_t i = 0; i < ARRAY_LENGTH(arguments); i++)
		arguments[i] = SLICE("x");
	script_start(rig.redis, &e.script, RIG_TIMEOUT, on_done, &a, 0, NULL, ARRAY_LENGTH(arguments), arguments);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.number, 500);
}

static void cancelled_in_every_state_it_is_silent(void **state)
{
	struct embedded_script e;
	struct rig_answer a, last;
	(void)state;
	make(&e, adds);
	struct script_call *call = start(&e, &a, RIG_TIMEOUT);
	script_cancel(&call); /* waiting for the connection */
	assert_null(call);
	script_cancel(&call);
	redis_rig_until_up(&rig);
	for (int turns = 0; turns < 6; turns++) { /* sent, answered NOSCRIPT, loading, loaded */
		redis_server_do(rig.server, "SCRIPT FLUSH");
		call = start(&e, &a, RIG_TIMEOUT);
		for (int i = 0; i < turns && a.count == 0; i++)
			loop_turn(rig.loop, i > 0);
		if (a.count == 0)
			script_cancel(&call);
		int before = a.count;
		redis_rig_ask(&rig, &last, "PING");
		assert_int_equal(a.count, before);
	}
}

static void on_done_cancel(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	redis_rig_done(NULL, arg, answer);
	script_cancel(&call);
}

static void a_callback_may_cancel_its_own_call(void **state)
{
	struct embedded_script e;
	struct rig_answer a = { .count = 0 };
	(void)state;
	make(&e, "return 1");
	script_start(rig.redis, &e.script, RIG_TIMEOUT, on_done_cancel, &a, 0, NULL, 0, NULL);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.number, 1);
}

static void the_time_covers_the_loading(void **state)
{
	struct embedded_script e;
	struct rig_answer a;
	(void)state;
	make(&e, adds);
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	redis_rig_hold();
	start(&e, &a, 50 * CLOCK_MILLISECOND);
	redis_rig_let_pass(&rig, 50 * CLOCK_MILLISECOND);
	redis_rig_until(&rig, &a.count, 1);
	clock_test_release();
	assert_int_equal(a.result, REDIS_TIMED_OUT);
	redis_server_resume(rig.server);
}

static void freed_under_it_it_is_answered(void **state)
{
	struct embedded_script e;
	struct rig_answer a;
	(void)state;
	make(&e, adds);
	redis_rig_until_up(&rig);
	start(&e, &a, RIG_TIMEOUT);
	loop_turn(rig.loop, false);
	redis_free(&rig.redis);
	assert_int_equal(a.count, 1);
	assert_int_equal(a.result, REDIS_LOST);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(it_is_loaded_once_and_run_each_time), TEST(after_a_flush_each_call_runs_exactly_once),
		TEST(a_restarted_server_gets_it_again),    TEST(one_that_does_not_compile_says_so),
		TEST(its_own_error_is_not_repeated),       TEST(a_wrong_digest_is_tried_once_more_and_no_longer),
		TEST(many_arguments_go_through),           TEST(cancelled_in_every_state_it_is_silent),
		TEST(a_callback_may_cancel_its_own_call),  TEST(the_time_covers_the_loading),
		TEST(freed_under_it_it_is_answered),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("script", tests, NULL, NULL);
}

/* lib/limiter when a Redis that comes and goes has come once more: how soon that is seen. What is told to it then: test_limiter_away.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/limiter.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_rig.h"

#include <poll.h>

static const struct limits limits = { .of[LIMIT_rpm] = { .count = 6000, .burst = 6000 } };
static struct redis_rig rig;
static struct fault_proxy *proxy;
static struct redis *redis;
static struct limiter *limiter;
static unsigned ids;

static bool is_alone(void)
{
	return limiter_state(limiter).alone;
}

static bool is_back(void)
{
	return !is_alone();
}

static bool is_up(void)
{
	return redis_is_up(redis);
}

static bool has_been_heard(void)
{
	return limiter_state(limiter).live == 1;
}

static void until(bool (*condition)(void))
{
	int64_t end = clock_now() + 20 * CLOCK_SECOND;
	while (!condition()) {
		assert_true(clock_now() < end);
		loop_turn(rig.loop, true);
	}
}

static void let_pass(int64_t time)
{
	for (int64_t end = clock_now() + time; clock_now() < end; poll(NULL, 0, 1))
		loop_turn(rig.loop, false);
}

static int begin(void **state)
{
	struct redis_options options;
	const char *reason;
	char target[200], url[64];
	(void)state;
	redis_rig_begin(&rig, NULL);
	snprintf(target, sizeof target, "unix:%s", redis_server_path(rig.server));
	proxy = fault_proxy_start("tcp:127.0.0.1:0", target);
	snprintf(url, sizeof url, "redis://127.0.0.1:%d", fault_proxy_port(proxy));
	assert_true(redis_options_parse(slice_of(url), &options, &reason));
	redis = redis_new(rig.loop, &options, NULL);
	redis_options_free(&options);
	limiter = limiter_new(rig.loop, redis,
			      &(struct limiter_options){ .timeout = 300 * CLOCK_MILLISECOND,
							 .lease = 10 * CLOCK_SECOND,
							 .member = SLICE("test"),
							 .channel = SLICE("test") },
			      NULL);
	until(has_been_heard);
	return 0;
}

static int end(void **state)
{
	(void)state;
	limiter_free(&limiter);
	redis_free(&redis);
	fault_proxy_free(&proxy);
	redis_rig_end(&rig);
	return 0;
}

static void on_answer(struct lease *lease, void *count, const struct limiter_answer *answer)
{
	(void)lease;
	assert_int_equal(answer->verdict, LIMITER_ADMITTED);
	++*(int *)count;
}

static void ask_once(void)
{
	char id[32];
	int count = 0;
	struct limiter_ask ask = { .share = true };
	snprintf(id, sizeof(id), "return.%u", ++ids);
	ask.id = slice_of(id);
	ask.scope[LIMITER_TENANT].name = SLICE("acme");
	ask.scope[LIMITER_TENANT].limits = &limits;
	ask.scope[LIMITER_TENANT].requests = 1;
	struct lease *lease = limiter_admit(limiter, &ask, on_answer, &count);
	redis_rig_until(&rig, &count, 1);
	limiter_settle(&lease, &(struct limiter_used){ 0 });
}

static void lose_it_for(int64_t time)
{
	fault_proxy_tell(proxy, "refuse on");
	fault_proxy_tell(proxy, "reset");
	ask_once();
	until(is_alone);
	let_pass(time);
	fault_proxy_tell(proxy, "refuse off");
}

/* It is back before it was first looked for: that look comes later each time, but in time. */
static void after_short_relapses(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		lose_it_for(0);
		int64_t over = clock_now();
		until(is_back);
		assert_true(clock_now() - over < 700 * CLOCK_MILLISECOND);
	}
}

/* What counts is the connection, and not when it would have been looked at next. */
static void after_long_relapses(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++)
		lose_it_for(0), until(is_back);
	for (int i = 0; i < 3; i++) {
		lose_it_for(850 * CLOCK_MILLISECOND);
		int64_t over = clock_now();
		until(is_up);
		int64_t up = clock_now();
		assert_true(up - over < 400 * CLOCK_MILLISECOND);
		until(is_back);
		assert_true(clock_now() - up < 50 * CLOCK_MILLISECOND);
	}
}

/* It answers all the while, but takes no writes: there is no connection to hear of, so it is looked at often enough. */
static void after_relapses_of_one_that_is_full(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		redis_server_do(rig.server, "CONFIG SET maxmemory 1");
		until(is_alone);
		redis_server_do(rig.server, "CONFIG SET maxmemory 0");
		int64_t over = clock_now();
		until(is_back);
		assert_true(clock_now() - over < 700 * CLOCK_MILLISECOND);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(after_short_relapses, begin, end),
		cmocka_unit_test_setup_teardown(after_long_relapses, begin, end),
		cmocka_unit_test_setup_teardown(after_relapses_of_one_that_is_full, begin, end),
	};
	return cmocka_run_group_tests_name("limiter_return", tests, NULL, NULL);
}

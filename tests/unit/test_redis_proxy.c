/* lib/redis over a line that misbehaves: the proxy's faults, and that the proxy commits them as told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/descriptors.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_rig.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <unistd.h>

static struct redis_rig rig;
static struct fault_proxy *proxy;
static int descriptors;

static int begin(void **state)
{
	char listen_at[64], target[128], url[128];
	(void)state;
	descriptors = descriptors_open();
	redis_rig_begin(&rig, NULL);
	snprintf(listen_at, sizeof(listen_at), "unix:/tmp/sluice-test-proxy-%d", (int)getpid());
	snprintf(target, sizeof(target), "unix:%s", redis_server_path(rig.server));
	proxy = fault_proxy_start(listen_at, target);
	snprintf(url, sizeof(url), "unix://%s", listen_at + 5);
	redis_rig_connect(&rig, url);
	fault_proxy_tell(proxy, "skip 2"); /* the greeting: CLIENT SETNAME and PING */
	return 0;
}

static int end(void **state)
{
	(void)state;
	fault_proxy_free(&proxy);
	redis_rig_end(&rig);
	assert_int_equal(descriptors_open(), descriptors);
	return 0;
}

struct tally {
	int answered, right, results[REDIS_UNSENT + 1];
	int64_t last;
};

static void on_tally(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct tally *t = arg;
	int64_t number = 0;
	(void)call;
	t->answered++;
	t->results[answer->result]++;
	if (answer->result != REDIS_OK)
		return;
	assert_true(redis_reply_int(answer->reply, &number));
	assert_true(number > t->last); /* never an older command's answer */
	t->last = number;
}

static void increment(struct tally *t, int64_t timeout)
{
	const struct slice words[] = { SLICE("INCR"), SLICE("key") };
	redis_send(rig.redis, timeout, on_tally, t, ARRAY_LENGTH(words), words);
}

/* One after the other: what a call is told is what became of it. */
static void every_tenth_answer_lost_and_none_mistaken(void **state)
{
	struct tally t = { .last = 0 };
	(void)state;
	fault_proxy_tell(proxy, "drop-reply-every 10");
	for (int i = 1; i <= 200; i++) {
		increment(&t, RIG_TIMEOUT);
		redis_rig_until(&rig, &t.answered, i);
	}
	assert_int_equal(t.results[REDIS_LOST], 20);
	assert_int_equal(t.results[REDIS_OK], 180);
	assert_int_equal(fault_proxy_count(proxy, "dropped"), 20);
	assert_int_equal(redis_server_int(rig.server, "GET key"), 200); /* each ran, once */
}

static void pipelined_the_books_still_balance(void **state)
{
	struct tally t = { .last = 0 };
	(void)state;
	fault_proxy_tell(proxy, "drop-reply-every 50");
	fault_proxy_tell(proxy, "slice 7");
	for (int i = 0; i < 1000; i++)
		increment(&t, RIG_TIMEOUT);
	redis_rig_until(&rig, &t.answered, 1000);
	int64_t ran = redis_server_int(rig.server, "GET key");
	assert_true(t.results[REDIS_LOST] > 0);
	assert_int_equal(t.results[REDIS_OK] + t.results[REDIS_LOST] + t.results[REDIS_UNSENT], 1000);
	assert_true(ran >= t.results[REDIS_OK]);
	assert_true(ran <= t.results[REDIS_OK] + t.results[REDIS_LOST]);
}

static void a_mute_line_times_out(void **state)
{
	struct tally t = { .last = 0 };
	(void)state;
	fault_proxy_tell(proxy, "after-drop mute");
	fault_proxy_tell(proxy, "drop-reply-every 3");
	for (int i = 1; i <= 9; i++) {
		int64_t timeout = i % 3 == 0 ? 100 * CLOCK_MILLISECOND : RIG_TIMEOUT; /* the third is not answered */
		redis_rig_hold();
		increment(&t, timeout);
		while (i % 3 == 0 && fault_proxy_count(proxy, "dropped") < (uint64_t)i / 3)
			loop_turn(rig.loop, false);
		redis_rig_let_pass(&rig, i % 3 == 0 ? timeout : 0);
		redis_rig_until(&rig, &t.answered, i);
		clock_test_release();
	}
	assert_int_equal(t.results[REDIS_TIMED_OUT], 3);
	assert_int_equal(t.results[REDIS_OK], 6);
	assert_int_equal(redis_server_int(rig.server, "GET key"), 9);
}

static void an_error_instead_of_a_reply(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_until_up(&rig);
	fault_proxy_tell(proxy, "error-every 2 MASTERDOWN by hand");
	redis_rig_ask(&rig, &a, "MGET a b c");
	assert_int_equal(a.result, REDIS_OK);
	redis_rig_ask(&rig, &a, "MGET a b c");
	assert_int_equal(a.error, REDIS_ERROR_masterdown);
	redis_rig_until(&rig, &rig.downs, 1); /* its row says: cut */
	redis_rig_ask(&rig, &a, "MGET a b c");
	assert_int_equal(a.result, REDIS_OK);
	assert_int_equal(fault_proxy_count(proxy, "errors"), 1);
}

static void cut_in_the_middle_of_a_reply(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_ask(&rig, &a, "SET key 0123456789");
	fault_proxy_tell(proxy, "cut-after 7");
	redis_rig_ask(&rig, &a, "GET key");
	assert_int_equal(a.result, REDIS_LOST);
	redis_rig_ask(&rig, &a, "GET key");
	assert_string_equal(a.text, "0123456789");
	assert_int_equal(fault_proxy_count(proxy, "cut"), 1);
}

static void slow_and_in_crumbs_it_is_still_right(void **state)
{
	struct tally t = { .last = 0 };
	(void)state;
	fault_proxy_tell(proxy, "slice 1");
	fault_proxy_tell(proxy, "delay 5");
	for (int i = 0; i < 50; i++)
		increment(&t, RIG_TIMEOUT);
	redis_rig_until(&rig, &t.answered, 50);
	assert_int_equal(t.results[REDIS_OK], 50);
	assert_int_equal(t.last, 50);
}

static void stalled_reset_refused_and_back(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_until_up(&rig);
	fault_proxy_tell(proxy, "stall on");
	redis_rig_hold();
	redis_rig_send(&rig, &a, 50 * CLOCK_MILLISECOND, "PING");
	redis_rig_let_pass(&rig, 50 * CLOCK_MILLISECOND);
	redis_rig_until(&rig, &a.count, 1);
	clock_test_release();
	assert_int_equal(a.result, REDIS_TIMED_OUT);
	fault_proxy_tell(proxy, "refuse on");
	fault_proxy_tell(proxy, "stall off");
	redis_rig_send(&rig, &a, 50 * CLOCK_MILLISECOND, "PING");
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_UNSENT);
	fault_proxy_tell(proxy, "refuse off");
	redis_rig_ask(&rig, &a, "PING");
	assert_int_equal(a.result, REDIS_OK);
	redis_rig_send(&rig, &a, RIG_TIMEOUT, "BLPOP none 0");
	loop_turn(rig.loop, false);
	fault_proxy_tell(proxy, "reset");
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_LOST);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(every_tenth_answer_lost_and_none_mistaken),
		TEST(pipelined_the_books_still_balance),
		TEST(a_mute_line_times_out),
		TEST(an_error_instead_of_a_reply),
		TEST(cut_in_the_middle_of_a_reply),
		TEST(slow_and_in_crumbs_it_is_still_right),
		TEST(stalled_reset_refused_and_back),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("redis_proxy", tests, NULL, NULL);
}

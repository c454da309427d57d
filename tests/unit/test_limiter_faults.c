/* lib/limiter when replies are dropped, connections cut, and Redis stopped or killed: whatever happens on the way,
 * at the end Redis holds the true use of what was admitted, to the token, and no lease. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "lib/limiter.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_rig.h"

#define AT_ONCE 24
#define TOKEN   (86400 * CLOCK_SECOND / 100) /* a limit so slow that nothing drains meanwhile: 864 s a token */

static const struct limits limits = { .of[LIMIT_tpd] = { .count = 100, .burst = 1000000 },
				      .of[LIMIT_concurrency] = { .count = 1000 } };
static const struct limits places = { .of[LIMIT_concurrency] = { .count = 1000 } };

struct load;
struct attempt {
	struct load *load;
	struct lease *lease;
	bool busy;
	int64_t used;
};
struct load {
	struct attempt attempt[AT_ONCE];
	unsigned started, wanted, busy, admitted, unavailable;
	int64_t used; /* by what was admitted, and by what we were told was not: nothing */
	bool hold;    /* admitted ones are kept */
};

static struct redis_rig rig;
static struct fault_proxy *proxy;
static struct limiter *limiter;
static unsigned ids;

static void start_attempt(struct load *load);

static void begin_with(int64_t lease)
{
	char target[200], url[64];
	redis_rig_begin(&rig, NULL);
	redis_rig_until_up(&rig);
	snprintf(target, sizeof target, "unix:%s", redis_server_path(rig.server));
	proxy = fault_proxy_start("tcp:127.0.0.1:0", target);
	snprintf(url, sizeof url, "redis://127.0.0.1:%d", fault_proxy_port(proxy));
	fault_proxy_tell(proxy, "skip 2"); /* the greeting */
	redis_rig_connect(&rig, url);
	redis_rig_until_up(&rig);
	limiter = limiter_new(rig.loop, rig.redis,
			      &(struct limiter_options){ .timeout = 300 * CLOCK_MILLISECOND, .lease = lease }, NULL);
}

/* Longer than any settle takes to come through: where an answer was lost and its lease has ended before the settle is
 * there, the charge stays as reserved (lua/settle.lua), and the books would not balance. Shorter than a tombstone. */
static int begin(void **state)
{
	(void)state;
	begin_with(50 * CLOCK_SECOND);
	return 0;
}

/* For tests that wait for beats. */
static int begin_short(void **state)
{
	(void)state;
	begin_with(3 * CLOCK_SECOND);
	return 0;
}

static int end(void **state)
{
	(void)state;
	limiter_free(&limiter);
	fault_proxy_free(&proxy);
	redis_rig_end(&rig);
	return 0;
}

static void settle(struct attempt *attempt, int64_t used, bool never_sent)
{
	attempt->load->used += used;
	attempt->load->busy--;
	attempt->busy = false;
	limiter_settle(&attempt->lease, &(struct limiter_used){ .tokens = used, .never_sent = never_sent });
}

static void on_answer(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct attempt *attempt = arg;
	struct load *load = attempt->load;
	assert_ptr_equal(lease, attempt->lease);
	assert_true(answer->verdict == LIMITER_ADMITTED || answer->verdict == LIMITER_UNAVAILABLE);
	if (answer->verdict == LIMITER_UNAVAILABLE) {
		load->unavailable++;
		settle(attempt, 0, true);
	} else {
		load->admitted++;
		if (!load->hold)
			settle(attempt, attempt->used, false);
	}
	start_attempt(load);
}

static void start_attempt(struct load *load)
{
	if (load->started == load->wanted)
		return;
	struct attempt *attempt = load->attempt;
	while (attempt < load->attempt + AT_ONCE && attempt->busy)
		attempt++;
	if (attempt == load->attempt + AT_ONCE)
		return;
	char id[32];
	int64_t reserved = rand() % 500;
	struct limiter_ask ask = { .id = slice_make(id, (size_t)snprintf(id, sizeof id, "f%u.1", ids++)),
				   .tokens = reserved };
	ask.scope[LIMITER_TENANT].name = SLICE("acme");
	ask.scope[LIMITER_TENANT].limits = &limits;
	ask.scope[LIMITER_UPSTREAM].name = SLICE("gem");
	ask.scope[LIMITER_UPSTREAM].limits = &places;
	load->started++;
	load->busy++;
	*attempt = (struct attempt){ .load = load, .busy = true, .used = rand() % 700 };
	attempt->lease = limiter_admit(limiter, &ask, on_answer, attempt);
	if (rand() % 8 == 0) /* the client leaves before the answer */
		settle(attempt, 0, true);
}

static void until_settled(void)
{
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
}

static void run(struct load *load)
{
	while (load->busy > 0 || load->started < load->wanted) {
		if (load->busy < AT_ONCE && load->started < load->wanted)
			start_attempt(load);
		loop_turn(rig.loop, load->busy == AT_ONCE || load->started == load->wanted);
	}
	until_settled();
}

/* Until so many leases are held and no admission is under way: some clients leave before the answer, and a slow machine
 * answers others too late. */
static void hold(struct load *load, unsigned count)
{
	while (limiter_held(limiter) < count || load->busy > limiter_held(limiter)) {
		while (load->busy < count) {
			load->wanted++;
			start_attempt(load);
		}
		loop_turn(rig.loop, load->busy > limiter_held(limiter));
	}
}

static int64_t tokens_in_redis(void)
{
	int64_t tat = redis_server_int(rig.server, "HGET sluice:{t:acme}:q tpd"), now = clock_unix();
	return tat > now ? (tat - now + TOKEN / 2) / TOKEN : 0;
}

static void at_rest(const struct load *load)
{
	assert_int_equal(limiter_held(limiter), 0);
	assert_int_equal(limiter_counts(limiter)->abandoned, 0);
	assert_int_equal(redis_server_int(rig.server, "ZCOUNT sluice:{t:acme}:l 0 +inf"), 0);
	assert_int_equal(redis_server_int(rig.server, "ZCOUNT sluice:{u:gem}:l 0 +inf"), 0);
	assert_int_equal(tokens_in_redis(), load->used);
}

static void every_tenth_reply_is_dropped(void **state)
{
	struct load load = { .wanted = 0 };
	(void)state;
	fault_proxy_tell(proxy, "drop-reply-every 10");
	/* In rounds that end settled: on a slow machine the settles of one long round leave no reply for an admission. */
	while (load.started < 600 || load.admitted <= 20 || load.unavailable <= 20) {
		load.wanted = load.started + 60;
		run(&load);
	}
	fault_proxy_tell(proxy, "drop-reply-every 0");
	at_rest(&load);
	print_message("%u admitted, %u unavailable, %llu settles repeated, %llu replies dropped\n", load.admitted,
		      load.unavailable, (unsigned long long)limiter_counts(limiter)->settled_again,
		      (unsigned long long)fault_proxy_count(proxy, "dropped"));
	assert_true(limiter_counts(limiter)->settled_again > 20);
}

static void dropped_and_then_silence(void **state)
{
	struct load load = { .wanted = 300 };
	(void)state;
	fault_proxy_tell(proxy, "after-drop mute");
	fault_proxy_tell(proxy, "drop-reply-every 25");
	run(&load);
	fault_proxy_tell(proxy, "drop-reply-every 0");
	at_rest(&load);
	assert_true(redis_counts(rig.redis)->timed_out > 5);
}

/* The answer says error, though the command ran. */
static void every_seventh_reply_is_an_error(void **state)
{
	struct load load = { .wanted = 300 };
	(void)state;
	fault_proxy_tell(proxy, "error-every 7 ERR made up");
	run(&load);
	fault_proxy_tell(proxy, "error-every 0");
	at_rest(&load);
	assert_true(load.unavailable > 10);
}

static void connections_are_cut(void **state)
{
	struct load load = { .wanted = 40 };
	(void)state;
	for (int i = 0; i < 12; i++) {
		fault_proxy_tell(proxy, "cut-after %d", 300 + rand() % 2000);
		load.wanted = load.started + 60;
		run(&load);
	}
	at_rest(&load);
	assert_int_equal(fault_proxy_count(proxy, "cut"), 12);
}

static void redis_is_stopped_for_a_while(void **state)
{
	struct load load = { .wanted = 60 };
	(void)state;
	run(&load);
	redis_server_pause(rig.server);
	load.wanted += 60;
	while (load.started < load.wanted ||
	       load.busy > 0) { /* nothing is answered, nobody waits longer than the time-out */
		if (load.busy < AT_ONCE && load.started < load.wanted)
			start_attempt(&load);
		loop_turn(rig.loop, load.busy == AT_ONCE || load.started == load.wanted);
	}
	assert_true(load.unavailable > 0 && limiter_unsettled(limiter) > 0);
	redis_server_resume(rig.server); /* what was sent before runs now, behind or before its settle */
	until_settled();
	load.wanted += 60;
	run(&load);
	at_rest(&load);
}

static void redis_is_killed_under_held_leases(void **state)
{
	struct load load = { .hold = true };
	(void)state;
	hold(&load, 12);
	redis_server_kill(rig.server);
	load.used = 0; /* Redis forgets; what is charged from here on is beyond the reservations */
	for (int i = 0; i < AT_ONCE && limiter_held(limiter) > 6; i++)
		if (load.attempt[i].busy)
			settle(&load.attempt[i], 0, false);
	while (limiter_counts(limiter)->settled_again < 3)
		loop_turn(rig.loop, true);
	redis_server_restart(rig.server);
	until_settled();
	while (redis_server_int(rig.server, "ZCOUNT sluice:{u:gem}:l 0 +inf") <
	       (int64_t)limiter_held(limiter)) /* the beat brings them back */
		loop_turn(rig.loop, true);
	for (int i = 0; i < AT_ONCE; i++)
		if (load.attempt[i].busy)
			settle(&load.attempt[i], 0, false);
	until_settled();
	load.used = 0;
	at_rest(&load);
}

static void lost_renewals_charge_nothing_twice(void **state)
{
	struct load load = { .hold = true };
	(void)state;
	hold(&load, 12);
	fault_proxy_tell(proxy, "drop-reply-every 1");
	while (limiter_counts(limiter)->renewals_failed < 2)
		loop_turn(rig.loop, true);
	fault_proxy_tell(proxy, "drop-reply-every 2");
	for (int i = 0; i < AT_ONCE; i++)
		if (load.attempt[i].busy)
			settle(&load.attempt[i], load.attempt[i].used, false);
	until_settled();
	fault_proxy_tell(proxy, "drop-reply-every 0");
	at_rest(&load);
	assert_true(redis_server_int(rig.server, "ZCARD sluice:{t:acme}:l") >
		    0); /* tombstones against what may still come */
}

static void a_settle_is_given_up_after_a_minute(void **state)
{
	struct load load = { .hold = true };
	struct attempt *held = load.attempt;
	(void)state;
	hold(&load, 1);
	while (!held->busy)
		held++;
	until_settled();
	redis_server_kill(rig.server);
	settle(held, 5, false);
	clock_test_set(clock_now() + 61 * CLOCK_SECOND, clock_unix());
	until_settled();
	clock_test_release();
	assert_int_equal(limiter_counts(limiter)->abandoned, 1);
	redis_server_restart(rig.server);
}

/* Freed with settles under way: nothing runs afterwards. */
static void freed_with_settles_unanswered(void **state)
{
	struct load load = { .hold = true };
	(void)state;
	hold(&load, 12);
	redis_server_pause(rig.server);
	for (int i = 0; i < AT_ONCE; i++)
		if (load.attempt[i].busy)
			settle(&load.attempt[i], 0, false);
	assert_true(limiter_unsettled(limiter) > 0);
	limiter_free(&limiter);
	redis_server_resume(rig.server);
	loop_turn(rig.loop, false);
}

int main(void)
{
	unsigned seed = getenv("SLUICE_TEST_SEED") != NULL ? (unsigned)strtoul(getenv("SLUICE_TEST_SEED"), NULL, 10)
							   : (unsigned)time(NULL);
	printf("seed %u\n", seed);
	srand(seed);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_tenth_reply_is_dropped, begin, end),
		cmocka_unit_test_setup_teardown(dropped_and_then_silence, begin, end),
		cmocka_unit_test_setup_teardown(every_seventh_reply_is_an_error, begin, end),
		cmocka_unit_test_setup_teardown(connections_are_cut, begin, end),
		cmocka_unit_test_setup_teardown(redis_is_stopped_for_a_while, begin, end),
		cmocka_unit_test_setup_teardown(redis_is_killed_under_held_leases, begin_short, end),
		cmocka_unit_test_setup_teardown(lost_renewals_charge_nothing_twice, begin_short, end),
		cmocka_unit_test_setup_teardown(a_settle_is_given_up_after_a_minute, begin, end),
		cmocka_unit_test_setup_teardown(freed_with_settles_unanswered, begin, end),
	};
	return cmocka_run_group_tests_name("limiter_faults", tests, NULL, NULL);
}

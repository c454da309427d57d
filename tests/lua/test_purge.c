/* lua/purge on a real Redis, with the time given; and lib/flight_purge, which calls it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "lib/clock.h"
#include "lib/flight.h"
#include "scripts.h"
#include "tests/support/redis_rig.h"

#define START INT64_C(1795000000000000) /* November 2026, in Unix microseconds */
#define KEEP  (62 * CLOCK_DAY)

static struct redis_rig rig;

static int begin(void **state)
{
	(void)state;
	redis_rig_begin(&rig, NULL);
	redis_rig_until_up(&rig);
	return 0;
}

static int end(void **state)
{
	(void)state;
	redis_rig_end(&rig);
	return 0;
}

static int64_t purge(const char *name, int64_t now, int64_t keep)
{
	redisReply *reply =
		redis_server_command(rig.server, "EVAL %b 1 %s %lld %lld %s", script_purge.source, script_purge.length,
				     FLIGHT_PURGED, (long long)now, (long long)keep, name);
	int64_t at;
	assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
	assert_int_equal(reply->elements, 1);
	at = reply->element[0]->integer;
	freeReplyObject(reply);
	return at;
}

static int64_t when(const char *name)
{
	return redis_server_int(rig.server, "HGET %s %s", FLIGHT_PURGED, name);
}

static void a_purge_stands_for_its_time(void **state)
{
	(void)state;
	assert_int_equal(purge("t:acme", START, KEEP), START);
	assert_int_equal(when("t:acme"), START);
	int64_t left = redis_server_int(rig.server, "PTTL %s", FLIGHT_PURGED);
	assert_in_range(left, (KEEP - CLOCK_MINUTE) / CLOCK_MILLISECOND, KEEP / CLOCK_MILLISECOND);
	redis_server_do(rig.server, "PEXPIRE %s 1000", FLIGHT_PURGED);
	assert_int_equal(purge("m:pro", START + 1, KEEP), START + 1); /* the other's time is not up */
	assert_int_equal(when("t:acme"), START);
	left = redis_server_int(rig.server, "PTTL %s", FLIGHT_PURGED);
	assert_in_range(left, (KEEP - CLOCK_MINUTE) / CLOCK_MILLISECOND, KEEP / CLOCK_MILLISECOND);
}

static void a_clock_that_is_set_back_brings_nothing_back(void **state)
{
	(void)state;
	purge("t:acme", START, CLOCK_DAY);
	assert_int_equal(purge("t:acme", START - CLOCK_HOUR, CLOCK_DAY), START);
	assert_int_equal(when("t:acme"), START);
	int64_t left = redis_server_int(rig.server, "PTTL %s", FLIGHT_PURGED);
	assert_true(left > CLOCK_DAY / CLOCK_MILLISECOND); /* by that clock it has an hour more to stand */
	assert_int_equal(purge("t:acme", START + 1, CLOCK_DAY), START + 1);
}

static void those_that_have_stood_leave(void **state)
{
	(void)state;
	purge("t:old", START, KEEP);
	purge("t:young", START + 1, KEEP);
	purge("t:new", START + KEEP, KEEP);
	assert_int_equal(when("t:old"), START); /* to the last moment */
	purge("t:new", START + KEEP + 1, KEEP);
	assert_int_equal(when("t:old"), -1);
	assert_int_equal(when("t:young"), START + 1);
}

/* A thousand old ones are not looked at by each purge, and do not stay for ever. */
static void many_old_ones_leave_by_and_by(void **state)
{
	char name[16];
	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "k:%d", i);
		redis_server_do(rig.server, "HSET %s %s %lld", FLIGHT_PURGED, name, (long long)START);
	}
	for (int64_t left = 1000, calls = 0; left > 1; calls++) {
		purge("t:acme", START + 2 * KEEP, KEEP);
		int64_t now = redis_server_int(rig.server, "HLEN %s", FLIGHT_PURGED);
		assert_in_range(left + 1 - now, now > 1 ? 19 : 0, 21);
		assert_true(calls < 60);
		left = now;
	}
	assert_int_equal(when("t:acme"), START + 2 * KEEP);
}

/* Whoever wrote it: a purge is done all the same, and takes it away. */
static void what_is_no_time_leaves(void **state)
{
	static const char *const times[] = { "x", "nan", "inf", "-inf", "9007199254740992", "" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(times); i++) {
		redis_server_do(rig.server, "HSET %s t:acme %s t:other %s", FLIGHT_PURGED, times[i], times[i]);
		assert_int_equal(purge("t:acme", START, KEEP), START);
		assert_int_equal(when("t:acme"), START);
		assert_int_equal(redis_server_int(rig.server, "HEXISTS %s t:other", FLIGHT_PURGED), 0);
	}
}

static void a_full_redis_takes_it_all_the_same(void **state)
{
	(void)state;
	redis_server_do(rig.server, "CONFIG SET maxmemory 1");
	assert_int_equal(purge("t:acme", START, KEEP), START);
	redis_server_do(rig.server, "CONFIG SET maxmemory 0");
	assert_int_equal(when("t:acme"), START);
}

/* ---- lib/flight_purge ------------------------------------------------------------------------------------------------------ */

struct heard {
	int count;
	int64_t at;
};

static void on_purged(struct flight_purge *purge, void *heard, int64_t at)
{
	struct heard *h = heard;
	(void)purge;
	h->count++;
	h->at = at;
}

static int64_t start_and_wait(int64_t timeout)
{
	struct heard heard = { 0 };
	assert_non_null(flight_purge_start(rig.redis, SLICE("b:acme models/pro"), timeout, on_purged, &heard));
	assert_int_equal(heard.count, 0);
	redis_rig_until(&rig, &heard.count, 1);
	return heard.at;
}

static void it_is_told_when_it_was(void **state)
{
	(void)state;
	redisReply *time = redis_server_command(rig.server, "TIME");
	int64_t before = atoll(time->element[0]->str) * CLOCK_SECOND + atoll(time->element[1]->str);
	freeReplyObject(time);
	int64_t at = start_and_wait(RIG_TIMEOUT);
	assert_true(at >= before);
	redisReply *value = redis_server_command(rig.server, "HGET %s %b", FLIGHT_PURGED, "b:acme models/pro",
						 strlen("b:acme models/pro"));
	assert_int_equal(atoll(value->str), at);
	freeReplyObject(value);
	int64_t left = redis_server_int(rig.server, "PTTL %s", FLIGHT_PURGED);
	assert_true(left > 61 * CLOCK_DAY / CLOCK_MILLISECOND); /* the longest life of an answer, and a day */
}

static void it_is_told_that_redis_refused_or_is_silent(void **state)
{
	(void)state;
	redis_server_do(rig.server, "SET %s 1", FLIGHT_PURGED);
	assert_int_equal(start_and_wait(RIG_TIMEOUT), -1);
	redis_server_pause(rig.server);
	assert_int_equal(start_and_wait(10 * CLOCK_MILLISECOND), -1);
	redis_server_resume(rig.server);
}

static void who_has_cancelled_hears_nothing(void **state)
{
	struct heard heard = { 0 };
	struct flight_purge *purging;
	struct rig_answer other;
	(void)state;
	purging = flight_purge_start(rig.redis, SLICE("t:acme"), RIG_TIMEOUT, on_purged, &heard);
	flight_purge_cancel(&purging);
	assert_null(purging);
	flight_purge_cancel(&purging);
	redis_rig_ask(&rig, &other, "PING");
	assert_int_equal(heard.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_purge_stands_for_its_time, begin, end),
		cmocka_unit_test_setup_teardown(a_clock_that_is_set_back_brings_nothing_back, begin, end),
		cmocka_unit_test_setup_teardown(those_that_have_stood_leave, begin, end),
		cmocka_unit_test_setup_teardown(many_old_ones_leave_by_and_by, begin, end),
		cmocka_unit_test_setup_teardown(what_is_no_time_leaves, begin, end),
		cmocka_unit_test_setup_teardown(a_full_redis_takes_it_all_the_same, begin, end),
		cmocka_unit_test_setup_teardown(it_is_told_when_it_was, begin, end),
		cmocka_unit_test_setup_teardown(it_is_told_that_redis_refused_or_is_silent, begin, end),
		cmocka_unit_test_setup_teardown(who_has_cancelled_hears_nothing, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* lua/merge and lua/census on a real Redis, with the time given: debts once, never beyond an empty bucket, in a log as old as they are; who lives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/limiter_limits.h"
#include "scripts.h"
#include "tests/support/limiter_rig.h"
#include "tests/support/random.h"

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

#define TOKEN (CLOCK_MINUTE / 1000)

static const struct limits bucket = { .of[LIMIT_tpm] = { .count = 1000, .burst = 500 } };
static const struct limits strict = { .of[LIMIT_tpm] = { .count = 1000, .strict = true } };

static int64_t number_of(redisReply *reply, size_t index)
{
	int64_t number = -1;
	if (reply->type == REDIS_REPLY_ERROR)
		fail_msg("%s", reply->str);
	assert_true(redis_reply_int(redis_reply_at(reply, index), &number));
	freeReplyObject(reply);
	return number;
}

static redisReply *eval(const struct script *script, const char *keys_and_arguments)
{
	char command[16384];
	snprintf(command, sizeof(command), "EVALSHA %s %s", script->sha1, keys_and_arguments);
	redis_server_do(limiter_rig_server(), "SCRIPT LOAD %b", script->source, script->length);
	limiter_rig_calls();
	return redis_server_command(limiter_rig_server(), command);
}

static bool merge_bucket(const char *id, int64_t tokens, int64_t now)
{
	char text[512];
	snprintf(text, sizeof(text), "2 sluice:{t:acme}:l sluice:{t:acme}:q %lld %s %lld 1 tpm %lld %lld 0",
		 (long long)now, id, (long long)RIG_LEASE, (long long)(tokens * TOKEN), (long long)(500 * TOKEN));
	return number_of(eval(&script_merge, text), 0) == 1;
}

static bool merge_log(const char *id, size_t count, const int64_t age[], const int64_t tokens[], int64_t now)
{
	char text[8192];
	struct limiter_log log = limiter_limits_log(LIMIT_tpm);
	int length =
		snprintf(text, sizeof(text), "2 sluice:{t:acme}:l sluice:{t:acme}:s:tpm %lld %s %lld 0 1 %lld %lld %zu",
			 (long long)now, id, (long long)RIG_LEASE, (long long)log.hold, (long long)log.width, count);
	for (size_t i = 0; i < count; i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, " %lld %lld", (long long)age[i],
				   (long long)tokens[i]);
	return number_of(eval(&script_merge, text), 0) == 1;
}

static bool admit(const struct limits *limits, int64_t tokens, int64_t now, int64_t *wait)
{
	static int ids;
	struct limiter_answer answer;
	char id[24];
	snprintf(id, sizeof(id), "m.%d", ++ids);
	struct limiter_ask ask = limiter_rig_ask(id, limits, NULL, NULL, tokens);
	bool admitted = limiter_rig_try(&ask, now, &answer);
	*wait = answer.wait;
	return admitted;
}

static int64_t left(const struct limits *limits, int64_t now)
{
	struct limiter_left all[LIMIT_COUNT];
	limiter_rig_peek(LIMITER_TENANT, SLICE("acme"), limits, now, all);
	return all[LIMIT_tpm].remaining;
}

static void a_debt_is_charged_once(void **state)
{
	(void)state;
	assert_true(merge_bucket("w.m1", 100, RIG_START));
	assert_int_equal(left(&bucket, RIG_START), 400);
	assert_false(merge_bucket("w.m1", 100, RIG_START + 1)); /* its answer was lost */
	assert_int_equal(left(&bucket, RIG_START + 1), 400);
	assert_true(merge_bucket("w.m2", 100, RIG_START));
	assert_int_equal(left(&bucket, RIG_START), 300);
	assert_int_equal(redis_server_int(limiter_rig_server(), "ZCOUNT sluice:{t:acme}:l 0 +inf"),
			 0); /* no place is taken */
}

static void a_debt_ends_at_an_empty_bucket(void **state)
{
	int64_t wait;
	(void)state;
	assert_true(merge_bucket("w.m1", 400, RIG_START));
	assert_true(merge_bucket("w.m2", 5000, RIG_START));
	assert_int_equal(left(&bucket, RIG_START), 0);
	assert_false(admit(&bucket, 1, RIG_START, &wait));
	assert_int_equal(wait, TOKEN);
	assert_true(admit(&bucket, 1, RIG_START + TOKEN, &wait));
}

/* What a settle had left beyond empty stays. */
static void a_debt_makes_no_other_smaller(void **state)
{
	struct limiter_wire_past past = { .lease = RIG_LEASE, .reserved = RIG_START };
	struct limiter_ask ask = limiter_rig_ask("d.1", &bucket, NULL, NULL, 100);
	int64_t forgiven[LIMIT_COUNT], wait;
	struct limiter_answer answer;
	(void)state;
	assert_true(limiter_rig_try(&ask, RIG_START, &answer));
	assert_true(limiter_rig_settle(&ask, &(struct limiter_used){ .tokens = 800 }, &past, RIG_START, forgiven));
	assert_true(merge_bucket("w.m1", 10, RIG_START));
	assert_false(admit(&bucket, 1, RIG_START, &wait));
	assert_int_equal(wait, 301 * TOKEN);
}

/* Against the slow truth: each sum counts from its own time on, for as long as an admission would. */
static void a_log_keeps_the_times(void **state)
{
	struct limiter_log log = limiter_limits_log(LIMIT_tpm);
	uint64_t random = 7;
	(void)state;
	for (int round = 0; round < 60; round++) {
		int64_t age[8], tokens[8], admitted[4], at = RIG_START, wait, now = RIG_START + CLOCK_MINUTE;
		size_t count = 1 + random_below(&random, 8), ours = random_below(&random, 5);
		limiter_rig_flush();
		for (size_t i = 0; i < ours; i++) { /* what Redis admitted itself before */
			at += 3100000 + random_below(&random, 10000000);
			assert_true(admit(&strict, 50, at, &wait));
			admitted[i] = at;
		}
		for (size_t i = 0; i < count; i++) {
			age[i] = random_below(&random, 70000000);
			tokens[i] = 1 + random_below(&random, 60);
		}
		assert_true(merge_log("w.m1", count, age, tokens, now));
		for (int64_t look = now; look < now + 2 * CLOCK_MINUTE; look += 1 + random_below(&random, 9000000)) {
			int64_t least = 0, most = 0; /* a slice counts until its newest is past: up to a width longer */
			for (size_t i = 0; i < ours; i++) {
				least += admitted[i] + log.hold > look ? 50 : 0;
				most += admitted[i] + log.hold + log.width > look ? 50 : 0;
			}
			for (size_t i = 0; i < count; i++) {
				least += now - age[i] + log.hold > look && age[i] < log.hold ? tokens[i] : 0;
				most += now - age[i] + log.hold + log.width > look && age[i] < log.hold ? tokens[i] : 0;
			}
			struct limiter_left all[LIMIT_COUNT];
			limiter_rig_peek(LIMITER_TENANT, SLICE("acme"), &strict, look, all);
			int64_t used = (int64_t)(all[LIMIT_tpm].used * 1000 + 0.5);
			if (used < least || used > most)
				fail_msg("round %d: %lld used, not %lld to %lld", round, (long long)used,
					 (long long)least, (long long)most);
		}
	}
}

/* It is repeated until the key is right again, and then it counts. */
static void a_wrong_type_leaves_no_trace(void **state)
{
	char text[512];
	(void)state;
	redis_server_do(limiter_rig_server(), "SET sluice:{t:acme}:q rubbish EX 60");
	snprintf(text, sizeof(text), "2 sluice:{t:acme}:l sluice:{t:acme}:q %lld w.m1 10000000 1 tpm %lld %lld 0",
		 (long long)RIG_START, (long long)(100 * TOKEN), (long long)(500 * TOKEN));
	redisReply *reply = eval(&script_merge, text);
	assert_int_equal(reply->type, REDIS_REPLY_ERROR);
	freeReplyObject(reply);
	redis_server_do(limiter_rig_server(), "DEL sluice:{t:acme}:q");
	assert_true(merge_bucket("w.m1", 100, RIG_START));
	assert_int_equal(left(&bucket, RIG_START), 400);
}

static void costs_are_bounded(void **state)
{
	int64_t age[16], tokens[16];
	(void)state;
	(void)merge_bucket("w.m1", 10, RIG_START);
	assert_true(limiter_rig_calls() <= 7); /* ZSCORE ZADD PEXPIRE; HMGET HSET PEXPIRE PEXPIRE */
	for (int i = 0; i < 16; i++) {
		age[i] = i * 4 * CLOCK_SECOND;
		tokens[i] = 1;
	}
	(void)merge_log("w.m2", 16, age, tokens, RIG_START);
	assert_true(limiter_rig_calls() <= 7);
}

/* ---- who lives -------------------------------------------------------------------------------------------------------------------- */

static void census(const char *name, int64_t now, int64_t live, int64_t place)
{
	char text[128];
	snprintf(text, sizeof(text), "1 sluice:{fleet}:i %lld %s 3000000", (long long)now, name);
	assert_int_equal(number_of(eval(&script_census, text), 1), live);
	assert_int_equal(number_of(eval(&script_census, text), 2), place);
}

static void who_lives_is_counted_in_the_order_of_names(void **state)
{
	(void)state;
	census("b.0", RIG_START, 1, 0);
	census("a.0", RIG_START + 1, 2, 0);
	census("b.0", RIG_START + 2, 2, 1); /* it keeps its place whoever came last */
	census("c.0", RIG_START + 2000000, 3, 2);
	census("a.0", RIG_START + 2000000, 3, 0);
	census("c.0", RIG_START + 3000003, 2, 1); /* b is not heard any more */
	assert_true(limiter_rig_calls() <= 5);
}

static void a_full_redis_counts_nobody(void **state)
{
	(void)state;
	redis_server_do(limiter_rig_server(), "SCRIPT LOAD %b", script_census.source, script_census.length);
	redis_server_do(limiter_rig_server(), "CONFIG SET maxmemory 1");
	redisReply *reply = redis_server_command(limiter_rig_server(), "EVALSHA %s 1 sluice:{fleet}:i 1 a.0 3000000",
						 script_census.sha1);
	assert_int_equal(reply->type, REDIS_REPLY_ERROR);
	assert_int_equal(redis_error_of(slice_of(reply->str)), REDIS_ERROR_oom);
	freeReplyObject(reply);
	redis_server_do(limiter_rig_server(), "CONFIG SET maxmemory 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_debt_is_charged_once, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_debt_ends_at_an_empty_bucket, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_debt_makes_no_other_smaller, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_log_keeps_the_times, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_wrong_type_leaves_no_trace, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(costs_are_bounded, limiter_rig_clean, limiter_rig_leave),
		cmocka_unit_test_setup_teardown(who_lives_is_counted_in_the_order_of_names, limiter_rig_clean,
						limiter_rig_leave),
		cmocka_unit_test_setup_teardown(a_full_redis_counts_nobody, limiter_rig_clean, limiter_rig_leave),
	};
	return cmocka_run_group_tests_name("merge", tests, limiter_rig_begin, limiter_rig_end);
}

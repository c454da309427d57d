/* lua/join and lua/finish on a real Redis, with the time given: every verdict, what a purge leaves, who holds the flight, what is stored and how long. The
 * leader's words and what readers see of them: test_flight_scripts_words.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/flight_script_rig.h"

#define S   "000000" /* behind a number of seconds in a reply */
#define SEC CLOCK_SECOND

/* `channel` asks at `now` seconds with these wishes, and will have any age, but nothing stale beyond fresh. */
static const char *join_at(int64_t now, const char *channel, const char *wishes)
{
	return flight_script_join(&(struct rig_join){ .now = now * SEC, .channel = channel, .wishes = wishes });
}

/* What was led since `fence` seconds ends at `now` and is stored: fresh for 10 s, stale for 20 s, good for errors for 30 s, late for 0.1 s. */
static const char *store(int64_t now, int64_t fence, const char *body)
{
	return flight_script_finish(&(struct rig_finish){ .now = now * SEC,
							  .fence = fence * SEC,
							  .body = body,
							  .fresh = 10 * SEC,
							  .stale = 20 * SEC,
							  .error = 30 * SEC,
							  .late = SEC / 10 });
}

/* An answer that was asked for at 100 s, and is there at 101 s: fresh until 111 s, stale until 121 s, good for errors until 131 s. */
#define STORED(verdict, now, fence) verdict " " now " 100" S " 111" S " 121" S " 131" S " H B 1 S " fence
static void store_one(void)
{
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	assert_string_equal(store(101, 100, "B"), "1 0");
}

/* ---- what is stored ------------------------------------------------------------------------------------------------------ */

static void fresh_is_a_hit_and_nothing_else_changes(void **state)
{
	(void)state;
	store_one();
	uint64_t before = flight_script_digest();
	assert_string_equal(join_at(102, "w2", "clf"), STORED("hit", "102" S, "0"));
	assert_string_equal(join_at(110, "w1", "c"), STORED("hit", "110" S, "0"));
	assert_int_equal(flight_script_digest(), before);
	assert_string_equal(flight_script_hints(), "");
}

static void who_wants_nothing_stored_leads(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(join_at(102, "w2", "lf"), "lead 102" S " 102" S " 1");
}

/* One refreshes; until that is over, and as long as it is stale, the others get what there is. */
static void stale_is_refreshed_once(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(join_at(111, "w1", "clf"), STORED("refresh", "111" S, "111" S));
	assert_string_equal(join_at(112, "w2", "clf"), STORED("stale", "112" S, "0"));
	assert_string_equal(join_at(113, "w1", "clfk"), STORED("stale", "113" S, "0"));
	assert_string_equal(join_at(113, "w3", "cl"), STORED("stale", "113" S, "0"));
	assert_string_equal(
		flight_script_finish(&(struct rig_finish){
			.now = 113 * SEC, .fence = 111 * SEC, .body = "N", .fresh = 10 * SEC, .stale = 20 * SEC }),
		"1 0");
	assert_string_equal(join_at(114, "w2", "clf"), "hit 114" S " 111" S " 123" S " 133" S " 113" S " H N 1 S 0");
}

static void a_refresh_whose_leader_died_is_begun_again(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(join_at(112, "w1", "clf"), STORED("refresh", "112" S, "112" S));
	assert_string_equal(join_at(114, "w2", "clf"), STORED("stale", "114" S, "0"));
	assert_string_equal(join_at(115, "w2", "clf"), STORED("refresh", "115" S, "115" S));
}

static void who_may_not_lead_gets_stale_without_a_refresh(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(join_at(112, "w1", "c"), STORED("stale", "112" S, "0"));
	assert_string_equal(flight_script_look("HGET " FLIGHT_KEY " state"), "d");
	assert_string_equal(join_at(121, "w1", "c"), "none 121" S);
}

/* Behind a failure nobody refreshes for as long as was said; who needs an answer asks. */
static void a_failure_rests(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(join_at(112, "w1", "clf"), STORED("refresh", "112" S, "112" S));
	assert_string_equal(flight_script_append(&(struct rig_append){
				    .now = 113 * SEC, .fence = 112 * SEC, .end = "f", .after = "x", .holds = SEC }),
			    "1 0");
	assert_string_equal(flight_script_join(
				    &(struct rig_join){ .now = 114 * SEC - 1, .channel = "w2", .wishes = "clf" }),
			    STORED("stale", "113999999", "0"));
	assert_string_equal(join_at(114, "w2", "clf"), STORED("refresh", "114" S, "114" S));
}

static void the_asker_says_how_stale_and_how_old(void **state)
{
	(void)state;
	store_one();
	/* stale by 4 s: within the slack of 5 s it will do as it is, and nobody refreshes */
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 115 * SEC, .channel = "w1", .wishes = "clf", .slack = 5 * SEC }),
			    STORED("stale", "115" S, "0"));
	/* at least 2 s of its freshness must be left (a slack below 0): with less it is asked for, not given while somebody refreshes it */
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 108 * SEC - 1, .channel = "w1", .wishes = "c", .slack = -2 * SEC }),
			    STORED("hit", "107999999", "0"));
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 109 * SEC, .channel = "w1", .wishes = "c", .slack = -2 * SEC }),
			    "none 109" S);
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 109 * SEC, .channel = "w1", .wishes = "clf", .slack = -2 * SEC }),
			    "lead 109" S " 109" S " 1");
	/* 10 s old at 110 s: as old as will do, and older */
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 110 * SEC, .channel = "w1", .wishes = "c", .oldest = "10000000" }),
			    STORED("hit", "110" S, "0"));
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 110 * SEC, .channel = "w1", .wishes = "c", .oldest = "9999999" }),
			    "none 110" S);
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 110 * SEC, .channel = "w1", .wishes = "clf", .oldest = "9999999" }),
			    "lead 110" S " 110" S " 1");
}

static void when_the_upstream_has_failed_stale_will_do_as_long_as_was_said(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(join_at(130, "w1", "clfe"), STORED("stale", "130" S, "0"));
	uint64_t before = flight_script_digest();
	assert_string_equal(join_at(131, "w1", "clfe"), "none 131" S); /* it has asked: nobody leads for it */
	assert_int_equal(flight_script_digest(), before);
	assert_string_equal(join_at(130, "w1", "lf"), "lead 130" S " 130" S " 1");
	assert_string_equal(join_at(134, "w1", "lf"), "lead 134" S " 134" S " 0");
}

static void what_came_in_just_now_will_do(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 101 * SEC + SEC / 10 - 1, .channel = "w2", .wishes = "lfw" }),
			    STORED("hit", "101099999", "0"));
	assert_string_equal(flight_script_join(&(struct rig_join){
				    .now = 101 * SEC + SEC / 10, .channel = "w2", .wishes = "lfw" }),
			    "lead 101100000 101100000 1");
}

static void nothing_is_nothing(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "c"), "none 100" S);
	assert_string_equal(join_at(100, "w1", "ce"), "none 100" S);
	assert_string_equal(join_at(100, "w1", "w"), "none 100" S);
	assert_string_equal(flight_script_look("DBSIZE"), "0");
}

/* Anybody may have written there. */
static void half_an_entry_is_none(void **state)
{
	static const char *const spoils[] = { ("HDEL " STORED_KEY " made"),     ("HDEL " STORED_KEY " fresh"),
					      ("HDEL " STORED_KEY " stale"),    ("HDEL " STORED_KEY " error"),
					      ("HDEL " STORED_KEY " head"),     ("HDEL " STORED_KEY " body"),
					      ("HSET " STORED_KEY " made x"),   ("HSET " STORED_KEY " fresh x"),
					      ("HSET " STORED_KEY " made nan"), ("DEL " STORED_KEY) };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(spoils); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		store_one();
		flight_script_look(spoils[i]);
		assert_string_equal(join_at(102, "w2", "cwe"), "none 102" S);
		assert_string_equal(join_at(102, "w2", "clfw"), "lead 102" S " 102" S " 0");
	}
}

/* A key of another type, a time that is none: as if nothing were there, and the next answer takes its place. */
static void a_key_of_another_kind_is_nothing(void **state)
{
	static const char *const spoils[] = {
		("SET " STORED_KEY " x EX 100"), ("SET " FLIGHT_KEY " x EX 100"),
		("HSET " STORED_KEY " late x"),  ("HSET " FLIGHT_KEY " lease x state r"),
		("HSET " FLIGHT_KEY " fence x"), ("HSET " FLIGHT_KEY " until x state p")
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(spoils); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		store_one();
		flight_script_look(spoils[i]);
		assert_string_equal(flight_script_join(
					    &(struct rig_join){ .now = 132 * SEC, .channel = "w2", .wishes = "clfw" }),
				    "lead 132" S " 132" S " 0");
		assert_string_equal(store(133, 132, "N"), "1 0");
		assert_string_equal(join_at(134, "w3", "clf"),
				    "hit 134" S " 132" S " 143" S " 153" S " 163" S " H N 1 S 0");
	}
}

/* A fence that no number can follow would be given to two leaders. */
static void a_fence_that_cannot_grow_is_none(void **state)
{
	static const char *const fences[] = { "inf", "nan", "-inf", "9007199254740992", "1e300" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(fences); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		redis_server_do(flight_script_server(), "HSET " FLIGHT_KEY " fence %s owner w1 state r lease 103" S,
				fences[i]);
		assert_string_equal(join_at(100, "w2", "clf"), "lead 100" S " 100" S " 0");
		assert_string_equal(join_at(104, "w3", "clf"), "lead 104" S " 104" S " 0");
	}
}

/* Whoever wrote it, or set the clock back: nobody waits longer for a leader that is silent. */
static void a_lease_beyond_any_that_is_given_is_cut(void **state)
{
	static const char *const leases[] = { "inf", ("1000" S), "9223372036854775807" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(leases); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
		redis_server_do(flight_script_server(), "HSET " FLIGHT_KEY " lease %s", leases[i]);
		assert_string_equal(join_at(100, "w2", "clf"), "follow 100" S " 100" S " 3" S " 0");
		assert_string_equal(join_at(102, "w3", "clf"), "follow 102" S " 100" S " 1" S " 0");
		assert_string_equal(join_at(103, "w2", "clf"), "lead 103" S " 103" S " 0");
	}
}

/* ---- who holds the flight ------------------------------------------------------------------------------------------------- */

static void one_leads_and_the_others_follow(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	assert_string_equal(flight_script_hints(), "");
	assert_string_equal(join_at(101, "w2", "clf"), "follow 101" S " 100" S " 2" S " 0");
	assert_string_equal(flight_script_hints(), "w1 k"); /* the leader is told that somebody reads along */
	assert_string_equal(join_at(102, "w3", "lf"), "follow 102" S " 100" S " 1" S " 0");
	assert_string_equal(flight_script_look("HMGET " FLIGHT_KEY " owner lease r:w2 r:w3 r:w1"),
			    "w1 103" S " 104" S " 105" S " -");
}

static void a_worker_that_knows_that_it_leads_follows_itself(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	assert_string_equal(join_at(101, "w1", "clfk"), "follow 101" S " 100" S " 2" S " 1");
	assert_string_equal(flight_script_hints(), "");
	assert_string_equal(flight_script_look("HEXISTS " FLIGHT_KEY " r:w1"), "0");
	/* it has started anew since, or never heard that it leads */
	assert_string_equal(join_at(102, "w1", "clf"), "lead 102" S " 102" S " 0");
}

static void a_lease_that_ended_hands_the_lead_on(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	assert_string_equal(join_at(102, "w2", "clf"), "follow 102" S " 100" S " 1" S " 0");
	assert_string_equal(join_at(103, "w2", "clf"), "lead 103" S " 103" S " 0");
	assert_string_equal(flight_script_look("HMGET " FLIGHT_KEY " owner r:w2"),
			    "w2 -"); /* the old one's readers go */
	assert_string_equal(flight_script_append(
				    &(struct rig_append){ .now = 103 * SEC, .fence = 100 * SEC, .bytes = "x" }),
			    "0 0");
}

static void who_may_not_follow_asks_alone(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	assert_string_equal(join_at(101, "w2", "cl"), "pass 101" S);
	assert_string_equal(join_at(101, "w2", "c"), "none 101" S);
	assert_string_equal(flight_script_append(
				    &(struct rig_append){ .now = 101 * SEC, .fence = 100 * SEC, .close = true }),
			    "1 0");
	assert_string_equal(join_at(102, "w2", "clf"), "pass 102" S);
	assert_string_equal(join_at(104, "w2", "clf"), "lead 104" S " 104" S " 0");
	assert_string_equal(flight_script_hints(), "");
}

static void what_cannot_be_shared_rests(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	assert_string_equal(
		flight_script_append(&(struct rig_append){
			.now = 101 * SEC, .fence = 100 * SEC, .end = "p", .after = "p", .holds = 10 * SEC }),
		"1 0");
	uint64_t before = flight_script_digest();
	assert_string_equal(join_at(101, "w2", "clf"), "pass 101" S);
	assert_string_equal(join_at(110, "w1", "clfk"), "pass 110" S);
	assert_int_equal(flight_script_digest(), before);
	assert_string_equal(join_at(111, "w2", "clf"), "lead 111" S " 111" S " 0");
}

static void the_fence_grows(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "lf"), "lead 100" S " 100" S " 0");
	assert_string_equal(join_at(100, "w1", "lf"), "lead 100" S " 100000001 0");
	/* Redis' clock went back: the lease is longer than it was, the fence is not smaller */
	assert_string_equal(join_at(50, "w1", "lf"), "lead 50" S " 100000002 0");
	redis_server_do(flight_script_server(), "FLUSHALL");
	assert_string_equal(join_at(101, "w1", "lf"), "lead 101" S " 101" S " 0");
}

static void the_clock_of_redis_counts(void **state)
{
	(void)state;
	int64_t before = clock_unix();
	long long now = 0, fence = 0;
	assert_int_equal(sscanf(flight_script_join(&(struct rig_join){ .channel = "w1", .wishes = "clf" }),
				"lead %lld %lld 0", &now, &fence),
			 2);
	assert_in_range(now, before, clock_unix());
	assert_int_equal(fence, now);
	assert_in_range(redis_server_int(flight_script_server(), "PTTL " FLIGHT_KEY), 590000, 603000);
}

/* ---- purges --------------------------------------------------------------------------------------------------------------- */

static void purge(const char *field, int64_t at)
{
	redis_server_do(flight_script_server(), "HSET " PURGED_KEY " %s %lld", field, (long long)(at * SEC));
	redis_server_do(flight_script_server(), "PEXPIRE " PURGED_KEY " 100000");
}

static const char *join_named(int64_t now, const char *channel)
{
	return flight_script_join(&(struct rig_join){
		.now = now * SEC, .channel = channel, .wishes = "clf", .purges = { "t:acme", "m:pro", "b:acme pro" } });
}

static void what_was_purged_is_not_given(void **state)
{
	static const char *const fields[] = { "*", "t:acme", "m:pro", "b:acme pro" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(fields); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		store_one();
		purge("t:other", 105);
		purge(fields[i], 99);
		assert_string_equal(join_named(106, "w2"), STORED("hit", "106" S, "0"));
		purge(fields[i], 100); /* in the same microsecond: who knows */
		assert_string_equal(join_named(106, "w2"), "lead 106" S " 106" S " 0");
	}
}

/* An answer counts as made when it was asked for: a purge while it is under way makes it old. */
static void what_was_under_way_at_a_purge_is_not_given_either(void **state)
{
	(void)state;
	assert_string_equal(join_named(100, "w1"), "lead 100" S " 100" S " 0");
	purge("m:pro", 100);
	assert_string_equal(store(102, 100, "B"), "1 0");
	assert_string_equal(join_named(103, "w2"), "lead 103" S " 103" S " 0");
	purge("m:pro", 104);
	assert_string_equal(join_named(105, "w3"), "lead 105" S " 105" S " 0"); /* the running one is old */
	assert_string_equal(join_named(106, "w2"), "follow 106" S " 105" S " 2" S " 0");
	assert_string_equal(store(107, 105, "N"), "1 1");
	assert_string_equal(join_named(108, "w2"), "hit 108" S " 105" S " 117" S " 127" S " 137" S " H N 1 S 0");
}

/* Of a time that no fence can be beyond nobody knows what it means: two leaders would have one fence. */
static void a_purge_of_no_time_is_none(void **state)
{
	static const char *const times[] = { "inf", "nan", "-inf", "9007199254740992", "1e300", "x", "" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(times); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		redis_server_do(flight_script_server(), "HSET " PURGED_KEY " m:pro %s", times[i]);
		redis_server_do(flight_script_server(), "PEXPIRE " PURGED_KEY " 100000");
		assert_string_equal(join_named(100, "w1"), "lead 100" S " 100" S " 0");
		assert_string_equal(join_named(101, "w2"), "follow 101" S " 100" S " 2" S " 0");
	}
}

/* Whatever the clocks say, what is begun after a purge is younger than it. */
static void a_purge_of_the_same_moment_or_of_a_clock_ahead_does_not_last(void **state)
{
	(void)state;
	purge("*", 200);
	assert_string_equal(join_named(200, "w1"), "lead 200" S " 200000001 0");
	assert_string_equal(join_named(150, "w2"), "follow 150" S " 200000001 3" S " 0");
	assert_string_equal(flight_script_finish(&(struct rig_finish){
				    .now = 201 * SEC, .fence = 200000001, .body = "B", .fresh = 10 * SEC }),
			    "1 0");
	assert_string_equal(join_named(202, "w2"), "hit 202" S " 200000001 211" S " 201" S " 201" S " H B 1 S 0");
}

/* ---- finish --------------------------------------------------------------------------------------------------------------- */

static void an_answer_is_stored_as_long_as_it_is_good_for_anything(void **state)
{
	static const struct {
		int64_t fresh, stale, error, late, least, most; /* seconds, then milliseconds */
	} cases[] = { { 10, 20, 30, 0, 29000, 30000 }, { 40, 20, 30, 0, 39000, 40000 }, { 0, 0, 0, 5, 4000, 5000 } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
		assert_string_equal(flight_script_finish(&(struct rig_finish){ .now = 101 * SEC,
									       .fence = 100 * SEC,
									       .fresh = cases[i].fresh * SEC,
									       .stale = cases[i].stale * SEC,
									       .error = cases[i].error * SEC,
									       .late = cases[i].late * SEC }),
				    "1 0");
		assert_in_range(redis_server_int(flight_script_server(), "PTTL " STORED_KEY), cases[i].least,
				cases[i].most);
	}
}

static void a_stale_fence_stores_nothing(void **state)
{
	(void)state;
	store_one();
	uint64_t before = flight_script_digest();
	assert_string_equal(store(102, 100, "N"), "0 0"); /* it has ended */
	assert_string_equal(store(102, 99, "N"), "0 0");
	assert_string_equal(store(102, 101, "N"), "0 0");
	assert_int_equal(flight_script_digest(), before);
	redis_server_do(flight_script_server(), "DEL " FLIGHT_KEY);
	assert_string_equal(store(102, 100, "N"), "0 0");
}

static void what_is_for_latecomers_alone_takes_no_others_place(void **state)
{
	(void)state;
	store_one();
	assert_string_equal(join_at(105, "w2", "lfw"), "lead 105" S " 105" S " 1");
	assert_string_equal(flight_script_finish(&(struct rig_finish){
				    .now = 106 * SEC, .fence = 105 * SEC, .body = "L", .late = SEC / 10 }),
			    "1 0");
	assert_string_equal(join_at(107, "w1", "clf"), STORED("hit", "107" S, "0"));
	redis_server_do(flight_script_server(), "FLUSHALL");
	assert_string_equal(join_at(105, "w2", "lfw"), "lead 105" S " 105" S " 0");
	assert_string_equal(flight_script_finish(&(struct rig_finish){
				    .now = 106 * SEC, .fence = 105 * SEC, .body = "L", .late = SEC / 10 }),
			    "1 0");
	assert_string_equal(join_at(106, "w1", "clfw"), "hit 106" S " 105" S " 106" S " 106" S " 106" S " H L 1 S 0");
	assert_string_equal(join_at(106, "w1", "clf"), "lead 106" S " 106" S " 0");
}

static void readers_get_the_rest_and_the_end(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	join_at(100, "w2", "clf");
	join_at(101, "w3", "clf");
	flight_script_hints();
	assert_string_equal(flight_script_append(&(struct rig_append){
				    .now = 101 * SEC, .fence = 100 * SEC, .head = "h", .bytes = "ab" }),
			    "1 2");
	flight_script_hints();
	/* w2 has not been heard of for its presence */
	assert_string_equal(flight_script_finish(&(struct rig_finish){
				    .now = 103 * SEC, .fence = 100 * SEC, .offset = 2, .bytes = "cd", .fresh = SEC }),
			    "1 1");
	assert_string_equal(flight_script_hints(), "w3 k");
	assert_string_equal(flight_script_follow(&(struct rig_follow){
				    .now = 103 * SEC, .fence = 100 * SEC, .channel = "w3", .presence = SEC }),
			    "0 1" S " [[# [h h]] [# [0 ab]] [# [2 cd]] [# [e d]]]");
	assert_in_range(redis_server_int(flight_script_server(), "PTTL " STREAM_KEY "100" S), 59000, 60000);
}

static void without_readers_no_stream_is_left(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	assert_string_equal(flight_script_append(&(struct rig_append){
				    .now = 101 * SEC, .fence = 100 * SEC, .head = "h", .bytes = "ab" }),
			    "1 0");
	assert_string_equal(store(102, 100, "ab"), "1 0");
	assert_string_equal(flight_script_look("EXISTS " STREAM_KEY "100" S), "0");
}

/* ---- a full Redis, and cost ------------------------------------------------------------------------------------------------ */

static void a_full_redis_refuses_and_changes_nothing(void **state)
{
	(void)state;
	assert_string_equal(join_at(100, "w1", "clf"), "lead 100" S " 100" S " 0");
	uint64_t before = flight_script_digest();
	redis_server_do(flight_script_server(), "CONFIG SET maxmemory 1");
	assert_non_null(strstr(join_at(101, "w2", "clf"), "error OOM"));
	assert_non_null(strstr(store(101, 100, "B"), "error OOM"));
	redis_server_do(flight_script_server(), "CONFIG SET maxmemory 0");
	assert_int_equal(flight_script_digest(), before);
	assert_string_equal(flight_script_hints(), "");
}

static void commands_are_counted(void **state)
{
	(void)state;
	store_one(); /* TIME is given here */
	flight_script_calls();
	join_at(102, "w2", "clf");
	assert_int_equal(flight_script_calls(), 2); /* a hit: purges, answer */
	join_at(112, "w2", "clf");
	assert_int_equal(flight_script_calls(), 6); /* refresh: flight, DEL HSET PEXPIRE */
	join_at(113, "w3", "lf");
	assert_int_equal(flight_script_calls(), 5); /* follow: HSET PUBLISH */
	store(113, 112, "N");
	assert_int_equal(flight_script_calls(),
			 8); /* HGETALL HSET PEXPIRE HSET PEXPIRE; a reader: XADD PEXPIRE PUBLISH */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flight_script_clean, flight_script_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fresh_is_a_hit_and_nothing_else_changes),
		TEST(who_wants_nothing_stored_leads),
		TEST(stale_is_refreshed_once),
		TEST(a_refresh_whose_leader_died_is_begun_again),
		TEST(who_may_not_lead_gets_stale_without_a_refresh),
		TEST(a_failure_rests),
		TEST(the_asker_says_how_stale_and_how_old),
		TEST(when_the_upstream_has_failed_stale_will_do_as_long_as_was_said),
		TEST(what_came_in_just_now_will_do),
		TEST(nothing_is_nothing),
		TEST(half_an_entry_is_none),
		TEST(a_key_of_another_kind_is_nothing),
		TEST(a_fence_that_cannot_grow_is_none),
		TEST(a_lease_beyond_any_that_is_given_is_cut),
		TEST(one_leads_and_the_others_follow),
		TEST(a_worker_that_knows_that_it_leads_follows_itself),
		TEST(a_lease_that_ended_hands_the_lead_on),
		TEST(who_may_not_follow_asks_alone),
		TEST(what_cannot_be_shared_rests),
		TEST(the_fence_grows),
		TEST(the_clock_of_redis_counts),
		TEST(what_was_purged_is_not_given),
		TEST(what_was_under_way_at_a_purge_is_not_given_either),
		TEST(a_purge_of_no_time_is_none),
		TEST(a_purge_of_the_same_moment_or_of_a_clock_ahead_does_not_last),
		TEST(an_answer_is_stored_as_long_as_it_is_good_for_anything),
		TEST(a_stale_fence_stores_nothing),
		TEST(what_is_for_latecomers_alone_takes_no_others_place),
		TEST(readers_get_the_rest_and_the_end),
		TEST(without_readers_no_stream_is_left),
		TEST(a_full_redis_refuses_and_changes_nothing),
		TEST(commands_are_counted),
	};
	return cmocka_run_group_tests_name("flight_scripts", tests, flight_script_begin, flight_script_end);
}

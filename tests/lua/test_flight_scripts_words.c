/* lua/append and lua/follow on a real Redis, with the time given: what a leader says, what readers see of it, and what is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/flight_script_rig.h"

#define S     "000000" /* behind a number of seconds in a reply */
#define SEC   CLOCK_SECOND
#define FENCE (100 * SEC) /* of the flight that `lead` begins */

static void lead(void)
{
	assert_string_equal(flight_script_join(&(struct rig_join){ .now = FENCE, .channel = "w1", .wishes = "clf" }),
			    "lead 100" S " 100" S " 0");
}

static void read_along(const char *channel, int64_t now)
{
	flight_script_hints();
	assert_non_null(
		strstr(flight_script_join(&(struct rig_join){ .now = now * SEC, .channel = channel, .wishes = "clf" }),
		       "follow"));
	assert_string_equal(flight_script_hints(), "w1 k");
}

static const char *say(int64_t now, int64_t offset, const char *bytes)
{
	return flight_script_append(
		&(struct rig_append){ .now = now * SEC, .fence = FENCE, .offset = offset, .bytes = bytes });
}

static const char *see(int64_t now, const char *last)
{
	return flight_script_follow(&(struct rig_follow){
		.now = now * SEC, .fence = FENCE, .channel = "w2", .presence = RIG_PRESENCE, .last = last });
}

static int64_t look(const char *command)
{
	return redis_server_int(flight_script_server(), command);
}

/* ---- append --------------------------------------------------------------------------------------------------------------- */

static void batches_carry_their_offsets(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	assert_string_equal(flight_script_append(&(struct rig_append){
				    .now = 101 * SEC, .fence = FENCE, .head = "head", .bytes = "ab" }),
			    "1 1");
	assert_string_equal(flight_script_hints(), "w2 k");
	assert_string_equal(say(102, 2, "cd"), "1 1");
	assert_string_equal(say(102, 2, "cd"), "1 1"); /* its answer was lost: said again */
	assert_string_equal(see(102, ""), "1 3" S " [[# [h head]] [# [0 ab]] [# [2 cd]] [# [2 cd]]]");
	assert_in_range(look("PTTL " STREAM_KEY "100" S), 62000, 63000); /* lease and a minute */
	assert_in_range(look("PTTL " FLIGHT_KEY), 602000, 603000);
}

static void a_word_renews_the_lease(void **state)
{
	(void)state;
	lead();
	assert_string_equal(say(102, 0, ""), "1 0"); /* a beat: nothing is new */
	assert_int_equal(look("EXISTS " STREAM_KEY "100" S), 0);
	assert_string_equal(flight_script_join(
				    &(struct rig_join){ .now = 105 * SEC - 1, .channel = "w2", .wishes = "lf" }),
			    "follow 104999999 100" S " 1 0");
	/* past its lease, but nobody has taken it */
	assert_string_equal(say(110, 0, "ab"), "1 0");
	assert_string_equal(flight_script_look("HGET " FLIGHT_KEY " lease"), "113" S);
}

static void who_does_not_lead_is_refused(void **state)
{
	static const char *const others[] = { ("HSET " FLIGHT_KEY " fence 100000001"), ("HSET " FLIGHT_KEY " state d"),
					      ("HSET " FLIGHT_KEY " state a"),         ("HDEL " FLIGHT_KEY " state"),
					      ("SET " FLIGHT_KEY " x EX 9"),           ("DEL " FLIGHT_KEY) };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(others); i++) {
		redis_server_do(flight_script_server(), "FLUSHALL");
		lead();
		flight_script_look(others[i]);
		uint64_t before = flight_script_digest();
		assert_string_equal(say(101, 0, "ab"), "0 0");
		assert_string_equal(flight_script_append(&(struct rig_append){
					    .now = 101 * SEC, .fence = FENCE, .end = "d", .after = "d" }),
				    "0 0");
		assert_string_equal(flight_script_append(
					    &(struct rig_append){ .now = 101 * SEC, .fence = FENCE, .alone = true }),
				    "0 0");
		assert_string_equal(flight_script_finish(&(struct rig_finish){
					    .now = 101 * SEC, .fence = FENCE, .body = "B", .fresh = SEC }),
				    "0 0");
		assert_int_equal(flight_script_digest(), before);
	}
}

/* Each counts until its presence is over, and is told of no more then. */
static void readers_are_counted(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	assert_string_equal(say(101, 0, "a"), "1 1");
	read_along("w3", 102);
	assert_string_equal(say(102, 1, "b"), "1 2");
	assert_string_equal(say(103, 2, "c"), "1 1"); /* w2's last sign was at 100 s */
	assert_string_equal(flight_script_hints(), "w2 k w3 k w3 k");
	assert_int_equal(look("HEXISTS " FLIGHT_KEY " r:w2"), 0);
	assert_string_equal(see(103, ""), "1 3" S " [[# [0 a]] [# [1 b]] [# [2 c]]]"); /* a look is a sign */
	assert_string_equal(say(105, 3, "d"), "1 1");
	assert_int_equal(look("HEXISTS " FLIGHT_KEY " r:w3"), 0);
	assert_int_equal(look("HEXISTS " FLIGHT_KEY " r:w2"), 1);
}

static const char *ask_alone(int64_t now)
{
	return flight_script_append(
		&(struct rig_append){ .now = now * SEC, .fence = FENCE, .alone = true, .bytes = "ab" });
}

static void alone_ends_it_when_nobody_reads(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	assert_string_equal(ask_alone(102), "1 1");
	assert_string_equal(ask_alone(103), "2 0");
	assert_int_equal(look("EXISTS " STREAM_KEY "100" S), 0);
	assert_string_equal(say(103, 2, "cd"), "0 0");
	assert_string_equal(flight_script_join(
				    &(struct rig_join){ .now = 103 * SEC, .channel = "w2", .wishes = "clf" }),
			    "lead 103" S " 103" S " 0");
}

static void a_closed_flight_keeps_its_last_entries(void **state)
{
	char bytes[16], first[48];
	(void)state;
	lead();
	read_along("w2", 100);
	for (int i = 0; i < 100; i++) {
		snprintf(bytes, sizeof(bytes), "%02d", i);
		assert_string_equal(flight_script_append(&(struct rig_append){ .now = 101 * SEC,
									       .fence = FENCE,
									       .close = i > 0,
									       .offset = 2 * (int64_t)i,
									       .bytes = bytes }),
				    "1 1");
	}
	flight_script_hints();
	assert_int_equal(look("XLEN " STREAM_KEY "100" S), 64);
	snprintf(first, sizeof(first), "1 3" S " [[# [%d %d]]]", 2 * 36, 36);
	assert_string_equal(flight_script_follow(&(struct rig_follow){
				    .now = 101 * SEC, .fence = FENCE, .channel = "w2", .count = 1 }),
			    first);
	assert_string_equal(flight_script_look("HGET " FLIGHT_KEY " state"), "c");
	assert_string_equal(say(101, 200, "x"), "1 1"); /* and stays closed */
	assert_string_equal(flight_script_look("HGET " FLIGHT_KEY " state"), "c");
}

static void an_end_is_told_and_its_state_holds(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	assert_string_equal(flight_script_append(&(struct rig_append){ .now = 101 * SEC,
								       .fence = FENCE,
								       .head = "head",
								       .bytes = "ab",
								       .end = "fnote",
								       .after = "x",
								       .holds = SEC }),
			    "1 1");
	assert_string_equal(flight_script_look("HMGET " FLIGHT_KEY " state until"), "x 102" S);
	assert_string_equal(see(101, ""), "0 3" S " [[# [h head]] [# [0 ab]] [# [e fnote]]]");
	assert_string_equal(say(101, 2, "cd"), "0 0"); /* nothing comes behind it */
	assert_int_equal(look("XLEN " STREAM_KEY "100" S), 3);
}

static void an_end_without_readers_leaves_no_stream(void **state)
{
	(void)state;
	lead();
	assert_string_equal(say(101, 0, "ab"), "1 0");
	assert_int_equal(look("EXISTS " STREAM_KEY "100" S), 1); /* for who joins */
	assert_string_equal(flight_script_append(&(struct rig_append){
				    .now = 101 * SEC, .fence = FENCE, .bytes = "cd", .end = "d", .after = "d" }),
			    "1 0");
	assert_int_equal(look("EXISTS " STREAM_KEY "100" S), 0);
	assert_string_equal(flight_script_look("HGET " FLIGHT_KEY " state"), "d");
}

/* ---- follow --------------------------------------------------------------------------------------------------------------- */

static void entries_come_behind_the_last_one_seen(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	assert_string_equal(see(100, ""), "1 3" S " []");
	say(101, 0, "a");
	say(101, 1, "b");
	say(101, 2, "c");
	assert_string_equal(see(101, flight_script_id(FENCE, 0)), "1 3" S " [[# [1 b]] [# [2 c]]]");
	assert_string_equal(see(101, flight_script_id(FENCE, 2)), "1 3" S " []");
	assert_string_equal(flight_script_follow(&(struct rig_follow){
				    .now = 101 * SEC, .fence = FENCE, .channel = "w2", .count = 2 }),
			    "1 3" S " [[# [0 a]] [# [1 b]]]");
}

static void a_look_tells_whether_the_leader_goes_on(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	say(100, 0, "a");
	assert_string_equal(see(102, ""), "1 1" S " [[# [0 a]]]");
	assert_string_equal(see(105, ""), "1 -2" S " [[# [0 a]]]"); /* its lease is over */
	assert_string_equal(flight_script_join(
				    &(struct rig_join){ .now = 105 * SEC, .channel = "w3", .wishes = "clf" }),
			    "lead 105" S " 105" S " 0");
	uint64_t before = flight_script_digest();
	assert_string_equal(see(105, ""), "0 3" S " [[# [0 a]]]"); /* another leads: no sign for that one */
	assert_int_equal(flight_script_digest(), before);
	redis_server_do(flight_script_server(), "FLUSHALL");
	assert_string_equal(see(105, ""), "0 -105" S " []");
	assert_string_equal(flight_script_look("DBSIZE"), "0");
}

static void a_look_without_a_sign_writes_nothing(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	uint64_t before = flight_script_digest();
	flight_script_follow(&(struct rig_follow){ .now = 101 * SEC, .fence = FENCE, .channel = "w2" });
	assert_int_equal(flight_script_digest(), before);
	see(101, "");
	assert_string_equal(flight_script_look("HGET " FLIGHT_KEY " r:w2"), "104" S);
}

static void who_leaves_is_counted_no_more(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	read_along("w3", 100);
	assert_string_equal(flight_script_follow(&(struct rig_follow){
				    .now = 101 * SEC, .fence = FENCE, .channel = "w2", .presence = -1 }),
			    "0 0 []");
	assert_string_equal(say(101, 0, "a"), "1 1");
	assert_string_equal(flight_script_hints(), "w3 k");
	/* of an earlier fence: its sign for this one stays */
	assert_string_equal(flight_script_follow(&(struct rig_follow){
				    .now = 101 * SEC, .fence = FENCE - 1, .channel = "w3", .presence = -1 }),
			    "0 0 []");
	assert_string_equal(say(101, 1, "b"), "1 1");
}

/* ---- a full Redis, and cost ------------------------------------------------------------------------------------------------ */

static void a_full_redis_stops_nobody(void **state)
{
	(void)state;
	lead();
	read_along("w2", 100);
	redis_server_do(flight_script_server(), "CONFIG SET maxmemory 1");
	assert_string_equal(say(101, 0, "ab"), "1 1");
	assert_string_equal(see(101, ""), "1 3" S " [[# [0 ab]]]");
	assert_string_equal(
		flight_script_append(&(struct rig_append){
			.now = 102 * SEC, .fence = FENCE, .offset = 2, .bytes = "c", .end = "d", .after = "d" }),
		"1 1");
	assert_string_equal(see(102, flight_script_id(FENCE, 0)), "0 3" S " [[# [2 c]] [# [e d]]]");
	assert_string_equal(flight_script_follow(&(struct rig_follow){
				    .now = 102 * SEC, .fence = FENCE, .channel = "w2", .presence = -1 }),
			    "0 0 []");
	redis_server_do(flight_script_server(), "CONFIG SET maxmemory 0");
}

static void commands_are_counted(void **state)
{
	(void)state;
	lead(); /* TIME is given here */
	flight_script_calls();
	say(101, 0, "ab");
	assert_int_equal(flight_script_calls(), 5); /* HGETALL HSET PEXPIRE XADD PEXPIRE */
	flight_script_append(&(struct rig_append){ .now = 101 * SEC, .fence = FENCE });
	assert_int_equal(flight_script_calls(), 3); /* a beat */
	read_along("w2", 100);
	read_along("w3", 101);
	flight_script_calls();
	flight_script_append(&(struct rig_append){
		.now = 103 * SEC, .fence = FENCE, .head = "h", .offset = 2, .bytes = "cd", .end = "d", .after = "d" });
	assert_int_equal(flight_script_calls(), 9); /* everything: HDEL, XADD three times, one reader's PUBLISH */
	see(103, "");
	assert_int_equal(flight_script_calls(), 2); /* HMGET XRANGE: it has ended, no sign is needed */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, flight_script_clean, flight_script_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(batches_carry_their_offsets),
		TEST(a_word_renews_the_lease),
		TEST(who_does_not_lead_is_refused),
		TEST(readers_are_counted),
		TEST(alone_ends_it_when_nobody_reads),
		TEST(a_closed_flight_keeps_its_last_entries),
		TEST(an_end_is_told_and_its_state_holds),
		TEST(an_end_without_readers_leaves_no_stream),
		TEST(entries_come_behind_the_last_one_seen),
		TEST(a_look_tells_whether_the_leader_goes_on),
		TEST(a_look_without_a_sign_writes_nothing),
		TEST(who_leaves_is_counted_no_more),
		TEST(a_full_redis_stops_nobody),
		TEST(commands_are_counted),
	};
	return cmocka_run_group_tests_name("flight_scripts_words", tests, flight_script_begin, flight_script_end);
}

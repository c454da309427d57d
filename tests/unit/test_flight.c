/* lib/flight within one worker: who leads, who follows, what they get, what is stored; one real Redis. Nothing here waits for a lease or a beat. How flights
 * end: test_flight_ends.c; several workers: test_flight_fleet.c; faults: test_flight_faults.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/flight_rig.h"

static struct flight_rig rig;
static struct rig_worker *const worker = rig.worker;
static struct rig_seat *const seats = rig.seats;

static int begin_with(struct flight_rig_options options)
{
	options.workers = 1;
	flight_rig_begin(&rig, &options);
	return 0;
}

static int begin(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .pace = RIG_PATIENT });
}

static int begin_small(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .most = 100 });
}

static int begin_small_with_a_tail(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .most = 100, .tail = 1000 });
}

static int begin_poor(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .ceiling = 20000 });
}

static int begin_windowed(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .window = 200 * CLOCK_MILLISECOND });
}

static int end(void **state)
{
	(void)state;
	flight_rig_end(&rig);
	return 0;
}

/* seats[i] joins for key 1; the verdict must be this. */
static void seat(size_t i, enum flight_verdict verdict)
{
	assert_int_equal(flight_rig_seat(&seats[i], worker, 1), verdict);
}

static void until_over(size_t first, size_t last)
{
	for (size_t i = first; i <= last; i++)
		while (!flight_rig_over(&seats[i]))
			flight_rig_turn(&rig);
}

static void must_have(size_t i, const char *head, const char *bytes)
{
	assert_int_equal(seats[i].state, FLIGHT_WHOLE);
	assert_string_equal(seats[i].head, head);
	assert_true(flight_rig_got(&seats[i], bytes));
}

/* ---- one leads, the others follow ---------------------------------------------------------------------------------------- */

static void who_asks_at_once_is_asked_for_once(void **state)
{
	const struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	for (size_t i = 0; i < 4; i++)
		flight_rig_join(&seats[i], worker, &ask);
	for (size_t i = 0; i < 4; i++)
		RIG_UNTIL(&rig, seats[i].told > 0);
	assert_int_equal(seats[0].verdict, FLIGHT_LEAD);
	for (size_t i = 1; i < 4; i++) {
		assert_int_equal(seats[i].verdict, FLIGHT_FOLLOW);
		assert_false(seats[i].last.fleet);
	}
	assert_int_equal(flight_rig_leading(&rig), 1);
	assert_int_equal(worker->answers, 1); /* one call of Redis for all of them */
}

static void whenever_they_join_they_get_every_byte(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	assert_int_equal(seats[1].more, 0);
	flight_begin(seats[0].seat, SLICE("head"));
	RIG_UNTIL(&rig, seats[1].has_head);
	seat(2, FLIGHT_FOLLOW);
	flight_rig_write(&seats[0], "one ");
	RIG_UNTIL(&rig, flight_rig_got(&seats[2], "one "));
	seat(3, FLIGHT_FOLLOW);
	flight_rig_write(&seats[0], "two ");
	flight_rig_write(&seats[0], "three");
	flight_rig_done(&seats[0], true);
	until_over(1, 3);
	for (size_t i = 1; i <= 3; i++)
		must_have(i, "head", "one two three");
	flight_rig_until_quiet(&rig);
	seat(4, FLIGHT_HIT);
	assert_string_equal(seats[4].head, "head");
	assert_true(flight_rig_got(&seats[4], "one two three"));
	assert_true(seats[4].last.epoch != 0);
	assert_true(seats[4].last.times.born <= clock_now() && seats[4].last.times.fresh > clock_now());
}

/* Each at its own pace; the leader is not held up, and the record is kept for them. */
static void who_is_slow_takes_as_it_can(void **state)
{
	struct slice note;
	(void)state;
	seats[1].slow = seats[2].slow = true;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	seat(2, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abcdef");
	RIG_UNTIL(&rig, seats[1].more > 0);
	flight_rig_take(&seats[1], 2);
	flight_rig_write(&seats[0], "ghi");
	flight_rig_done(&seats[0], true);
	RIG_UNTIL(&rig, seats[1].state == FLIGHT_WHOLE && seats[2].state == FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "ab"));
	flight_rig_take(&seats[1], 100);
	assert_true(flight_rig_got(&seats[1], "abcdefghi"));
	for (int i = 0; i < 9; i++)
		flight_rig_take(&seats[2], 1);
	assert_true(flight_rig_got(&seats[2], "abcdefghi"));
	assert_int_equal(flight_state(seats[2].seat, &note), FLIGHT_WHOLE);
	assert_int_equal(flight_unread(seats[2].seat).len, 0);
}

static void a_leader_reads_its_own_record(void **state)
{
	struct slice head;
	(void)state;
	seat(0, FLIGHT_LEAD);
	assert_false(flight_head(seats[0].seat, &head));
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	assert_true(flight_head(seats[0].seat, &head) && slice_equal(head, SLICE("h")));
	assert_true(slice_equal(flight_unread(seats[0].seat), SLICE("abc")));
	flight_take(seats[0].seat, 2);
	flight_rig_write(&seats[0], "d");
	assert_true(slice_equal(flight_unread(seats[0].seat), SLICE("cd")));
	assert_false(flight_slides(seats[0].seat));
}

/* Two tenants of one scope, or one who will have nothing stored: different wishes, one key, one flight. */
static void other_wishes_of_one_key_share_a_flight(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	unsigned leaders = 0;
	(void)state;
	flight_rig_join(&seats[0], worker, &ask);
	ask.may_read = false;
	flight_rig_join(&seats[1], worker, &ask);
	ask.group = 2;
	flight_rig_join(&seats[2], worker, &ask);
	ask.oldest = CLOCK_SECOND;
	flight_rig_join(&seats[3], worker, &ask);
	for (size_t i = 0; i < 4; i++) {
		RIG_UNTIL(&rig, seats[i].told > 0);
		leaders += seats[i].verdict == FLIGHT_LEAD;
		assert_true(seats[i].verdict == FLIGHT_LEAD || seats[i].verdict == FLIGHT_FOLLOW);
	}
	assert_int_equal(leaders, 1);
	assert_int_equal(flight_rig_leading(&rig), 1);
}

/* Of those who ask while others of the key are on their way, the first to be answered have left: nobody is forgotten. */
static void a_lead_that_nobody_waits_for_goes_to_the_next(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	flight_rig_join(&seats[0], worker, &ask);
	ask.may_read = false;
	flight_rig_join(&seats[1], worker, &ask);
	flight_rig_leave(&seats[0]);
	RIG_UNTIL(&rig, seats[1].told > 0);
	assert_int_equal(seats[1].verdict, FLIGHT_LEAD);
}

static void who_may_not_lead_gets_what_is_there(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	ask.may_lead = false;
	flight_rig_join(&seats[0], worker, &ask);
	RIG_UNTIL(&rig, seats[0].told > 0);
	assert_int_equal(seats[0].verdict, FLIGHT_NONE);
	seat(1, FLIGHT_LEAD);
	flight_rig_join(&seats[2], worker, &ask);
	RIG_UNTIL(&rig, seats[2].told > 0);
	assert_int_equal(seats[2].verdict, FLIGHT_NONE); /* what is running is not stored */
	flight_begin(seats[1].seat, SLICE("h"));
	flight_rig_done(&seats[1], true);
	flight_rig_until_quiet(&rig);
	flight_rig_join(&seats[3], worker, &ask);
	RIG_UNTIL(&rig, seats[3].told > 0);
	assert_int_equal(seats[3].verdict, FLIGHT_HIT);
}

static void who_may_not_follow_asks_alone(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	ask.may_follow = false;
	flight_rig_join(&seats[0], worker, &ask);
	flight_rig_join(&seats[1], worker, &ask);
	RIG_UNTIL(&rig, seats[0].told > 0 && seats[1].told > 0);
	assert_int_equal(seats[0].verdict, FLIGHT_LEAD);
	assert_int_equal(seats[1].verdict, FLIGHT_PASS);
}

static void events_go_to_the_new_owner(void **state)
{
	struct rig_seat heir = { .worker = worker };
	(void)state;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	heir.seat = seats[1].seat;
	heir.verdict = FLIGHT_FOLLOW;
	buf_init(&heir.got, 100);
	flight_hand_over(seats[1].seat, &heir);
	seats[1].seat = NULL;
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	RIG_UNTIL(&rig, flight_rig_got(&heir, "abc"));
	assert_int_equal(seats[1].more, 0);
	flight_rig_leave(&heir);
}

/* ---- too large ------------------------------------------------------------------------------------------------------------ */

#define FIFTY "01234567890123456789012345678901234567890123456789"

static void what_is_too_large_is_for_who_keeps_up(void **state)
{
	(void)state;
	seats[2].slow = seats[3].slow = true;
	for (size_t i = 0; i < 4; i++)
		seat(i, i == 0 ? FLIGHT_LEAD : FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	RIG_UNTIL(&rig, seats[1].has_head && seats[2].more > 0);
	flight_rig_take(&seats[2], 0); /* the head; seats[3] takes nothing at all */
	flight_rig_write(&seats[0], FIFTY FIFTY);
	RIG_UNTIL(&rig, flight_rig_got(&seats[1], FIFTY FIFTY));
	assert_false(flight_slides(seats[0].seat));
	flight_rig_write(&seats[0], "x");
	assert_true(flight_slides(seats[0].seat));
	RIG_UNTIL(&rig, seats[3].told == 2);
	assert_int_equal(seats[3].verdict, FLIGHT_PASS);
	seat(4, FLIGHT_PASS); /* nobody joins any more, and nobody else leads beside it */
	assert_int_equal(flight_rig_leading(&rig), 1);
	for (int i = 0; i < 2; i++) {
		flight_rig_write(&seats[0], FIFTY FIFTY);
		flight_take(seats[0].seat, flight_unread(seats[0].seat).len);
		RIG_UNTIL(&rig, seats[1].got.len == 201 + 100 * (size_t)i);
	}
	assert_int_equal(seats[2].state, FLIGHT_FAILED); /* what it should take next is gone */
	flight_rig_take(&seats[2], 100);
	assert_int_equal(seats[2].got.len, 0);
	flight_rig_done(&seats[0], true);
	until_over(1, 1);
	must_have(1, "h", FIFTY FIFTY "x" FIFTY FIFTY FIFTY FIFTY);
	flight_rig_until_quiet(&rig);
	assert_int_equal(redis_server_int(rig.server, "EXISTS %s", flight_rig_key(1, "}:v")), 0);
	seat(5, FLIGHT_PASS); /* and none waits for another, for a while */
}

/* One write that is larger than what is kept: in parts, and whole for who reads as it comes. */
static void one_write_may_be_larger_than_the_record(void **state)
{
	char bytes[1000];
	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	RIG_UNTIL(&rig, seats[1].has_head);
	flight_write(seats[0].seat, slice_make(bytes, sizeof(bytes)));
	flight_rig_done(&seats[0], true);
	until_over(1, 1);
	assert_int_equal(seats[1].state, FLIGHT_FAILED); /* it was not given the time to read it */
	assert_int_equal(seats[1].got.len, 0);
}

/* However little of an answer may be shared, who leads has all of it, and so has who keeps up. */
static void what_comes_at_once_is_not_missed(void **state)
{
	char bytes[1000];
	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	RIG_UNTIL(&rig, seats[1].has_head);
	for (size_t i = 1; i <= 4; i++) {
		flight_write(seats[0].seat, slice_make(bytes, sizeof(bytes)));
		assert_true(flight_slides(seats[0].seat));
		assert_int_equal(flight_unread(seats[0].seat).len, sizeof(bytes));
		flight_take(seats[0].seat, sizeof(bytes));
		RIG_UNTIL(&rig, seats[1].got.len == i * sizeof(bytes));
	}
	seat(2, FLIGHT_PASS);
	flight_rig_done(&seats[0], true);
	until_over(1, 1);
}

static void the_process_holds_no_more_than_it_may(void **state)
{
	static char bytes[10000];
	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_write(seats[0].seat, slice_make(bytes, sizeof(bytes)));
	assert_false(flight_slides(seats[0].seat));
	RIG_UNTIL(&rig, seats[1].got.len == sizeof(bytes));
	assert_true(rig.held > (int64_t)sizeof(bytes));
	flight_write(seats[0].seat, slice_make(bytes, sizeof(bytes)));
	assert_true(flight_slides(seats[0].seat));
	seat(2, FLIGHT_PASS);
	flight_rig_done(&seats[0], true);
	until_over(1, 1);
	assert_int_equal(seats[1].state, FLIGHT_WHOLE); /* who was there gets it */
	assert_int_equal(seats[1].got.len, 2 * sizeof(bytes));
}

/* ---- what is stored -------------------------------------------------------------------------------------------------------- */

/* Key 1 is stored and stale at once. */
static void store_stale(void)
{
	seat(0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "old");
	flight_end(seats[0].seat, &(struct flight_end){ .outcome = FLIGHT_DONE,
							.store = true,
							.fresh = 1,
							.stale = CLOCK_MINUTE,
							.error = CLOCK_MINUTE });
	flight_rig_until_quiet(&rig);
	flight_rig_leave(&seats[0]);
	seats[0] = (struct rig_seat){ 0 };
}

static void stale_is_refreshed_once(void **state)
{
	const struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	store_stale();
	for (size_t i = 0; i < 3; i++)
		flight_rig_join(&seats[i], worker, &ask);
	for (size_t i = 0; i < 3; i++) {
		RIG_UNTIL(&rig, seats[i].told > 0);
		assert_int_equal(seats[i].verdict, i == 0 ? FLIGHT_REFRESH : FLIGHT_STALE);
		assert_true(flight_rig_got(&seats[i], "old"));
	}
	assert_true(flight_leads(seats[0].seat));
	seat(3, FLIGHT_STALE);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "new");
	seat(4, FLIGHT_STALE);
	flight_rig_done(&seats[0], true);
	seat(5, FLIGHT_FOLLOW); /* Redis has not heard of it, but it is here */
	until_over(5, 5);
	assert_true(flight_rig_got(&seats[5], "new"));
	flight_rig_leave(&seats[5]);
	flight_rig_until_quiet(&rig);
	seat(6, FLIGHT_HIT);
	assert_true(flight_rig_got(&seats[6], "new"));
	assert_int_equal(flight_rig_leading(&rig), 0);
}

/* Who will have nothing stored reads along with the refresh. */
static void a_refresh_is_a_flight_as_any(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	store_stale();
	seat(0, FLIGHT_REFRESH);
	ask.may_read = false;
	flight_rig_join(&seats[1], worker, &ask);
	RIG_UNTIL(&rig, seats[1].told > 0);
	assert_int_equal(seats[1].verdict, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h2"));
	flight_rig_write(&seats[0], "new");
	flight_rig_done(&seats[0], true);
	until_over(1, 1);
	must_have(1, "h2", "new");
}

static void stale_will_do_when_the_upstream_has_failed(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	store_stale();
	ask.may_read = false;
	flight_rig_join(&seats[0], worker, &ask);
	RIG_UNTIL(&rig, seats[0].told > 0);
	assert_int_equal(seats[0].verdict, FLIGHT_LEAD);
	assert_true(seats[0].last.has_stale);
	flight_rig_fail(&seats[0], FLIGHT_BROKEN, "broken");
	ask.upstream_failed = true;
	flight_rig_join(&seats[1], worker, &ask);
	RIG_UNTIL(&rig, seats[1].told > 0);
	assert_int_equal(seats[1].verdict, FLIGHT_STALE);
	assert_true(flight_rig_got(&seats[1], "old"));
	memset(ask.key, 2, sizeof(ask.key));
	flight_rig_join(&seats[2], worker, &ask);
	RIG_UNTIL(&rig, seats[2].told > 0);
	assert_int_equal(seats[2].verdict, FLIGHT_NONE);
}

static void a_poisoned_entry_is_none(void **state)
{
	static const char *const spoils[] = { "HSET %s sum 0123456789abcdef",
					      "HSET %s sum x",
					      "HDEL %s sum",
					      "HSET %s head x",
					      "HSET %s body x",
					      "HSET %s raw 100000000",
					      "HSET %s raw x",
					      "HDEL %s raw",
					      "HDEL %s body",
					      "HDEL %s made",
					      "HSET %s made 1e300",
					      "HSET %s fresh 1e300 sum x",
					      "SET %s x EX 100" };
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(spoils); i++) {
		redis_server_do(rig.server, "FLUSHALL");
		store_stale();
		redis_server_do(rig.server, "HSET %s late 9000000000000000", flight_rig_key(1, "}:v"));
		redis_server_do(rig.server, spoils[i], flight_rig_key(1, "}:v"));
		ask.may_lead = false;
		flight_rig_join(&seats[1], worker, &ask);
		RIG_UNTIL(&rig, seats[1].told > 0);
		assert_int_equal(seats[1].verdict, FLIGHT_NONE);
		flight_rig_leave(&seats[1]);
		seats[1] = (struct rig_seat){ 0 };
		seat(0, FLIGHT_LEAD);
		flight_begin(seats[0].seat, SLICE("h"));
		flight_rig_write(&seats[0], "new");
		flight_rig_done(&seats[0], true);
		flight_rig_leave(&seats[0]);
		seats[0] = (struct rig_seat){ 0 };
		flight_rig_until_quiet(&rig);
		seat(1, FLIGHT_HIT); /* what was poisoned has been replaced */
		assert_true(flight_rig_got(&seats[1], "new"));
		flight_rig_leave(&seats[1]);
		seats[1] = (struct rig_seat){ 0 };
	}
}

/* ---- the window ------------------------------------------------------------------------------------------------------------ */

static void who_comes_just_behind_the_end_is_not_too_late(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	seat(0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	clock_test_set(clock_now(), clock_unix()); /* the window stays open */
	flight_rig_done(&seats[0], false);
	flight_rig_leave(&seats[0]);
	unsigned answers = worker->answers;
	seat(1, FLIGHT_FOLLOW);
	until_over(1, 1);
	must_have(1, "h", "abc");
	assert_in_range(worker->answers, answers, answers + 1); /* its end; nothing was asked */
	ask.may_be_late = false;
	flight_rig_until_quiet(&rig);
	flight_rig_join(&seats[2], worker, &ask);
	RIG_UNTIL(&rig, seats[2].told > 0);
	assert_int_equal(seats[2].verdict, FLIGHT_LEAD);
	flight_rig_leave(&seats[1]);
	flight_rig_leave(&seats[2]);
	clock_test_release();
	RIG_UNTIL(&rig, flight_rig_leading(&rig) == 0); /* gone with its window */
	seat(3, FLIGHT_LEAD);
}

#define TEST(name)            cmocka_unit_test_setup_teardown(name, begin, end)
#define TEST_WITH(name, with) cmocka_unit_test_setup_teardown(name, with, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_asks_at_once_is_asked_for_once),
		TEST(whenever_they_join_they_get_every_byte),
		TEST(who_is_slow_takes_as_it_can),
		TEST(a_leader_reads_its_own_record),
		TEST(other_wishes_of_one_key_share_a_flight),
		TEST(a_lead_that_nobody_waits_for_goes_to_the_next),
		TEST(who_may_not_lead_gets_what_is_there),
		TEST(who_may_not_follow_asks_alone),
		TEST(events_go_to_the_new_owner),
		TEST_WITH(what_is_too_large_is_for_who_keeps_up, begin_small),
		TEST_WITH(one_write_may_be_larger_than_the_record, begin_small),
		TEST_WITH(what_comes_at_once_is_not_missed, begin_small_with_a_tail),
		TEST_WITH(the_process_holds_no_more_than_it_may, begin_poor),
		TEST(stale_is_refreshed_once),
		TEST(a_refresh_is_a_flight_as_any),
		TEST(stale_will_do_when_the_upstream_has_failed),
		TEST(a_poisoned_entry_is_none),
		TEST_WITH(who_comes_just_behind_the_end_is_not_too_late, begin_windowed),
	};
	return cmocka_run_group_tests_name("flight", tests, NULL, NULL);
}

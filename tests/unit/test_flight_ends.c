/* How flights end within one worker, and what callbacks may do meanwhile; one real Redis. Nothing here waits for a lease or a beat. */
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

static int begin(void **state)
{
	(void)state;
	flight_rig_begin(&rig, &(struct flight_rig_options){ .workers = 1 });
	return 0;
}

static int begin_windowed(void **state)
{
	(void)state;
	flight_rig_begin(&rig, &(struct flight_rig_options){ .workers = 1, .window = 50 * CLOCK_MILLISECOND });
	return 0;
}

static int begin_small(void **state)
{
	(void)state;
	flight_rig_begin(&rig, &(struct flight_rig_options){ .workers = 1, .most = 100 });
	return 0;
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

static void seat_of_group(size_t i, uint64_t group, enum flight_verdict verdict)
{
	struct flight_ask ask = flight_rig_ask(1);

	ask.group = group;
	flight_rig_join(&seats[i], worker, &ask);
	RIG_UNTIL(&rig, seats[i].told > 0);
	assert_int_equal(seats[i].verdict, verdict);
}

/* Of key 1's flight, as Redis knows it. */
static bool is_state(char state)
{
	return redis_server_int(rig.server, "EVAL %s 1 %s",
				"return (redis.call('HGET', KEYS[1], 'state') or '-'):byte()",
				flight_rig_key(1, "}:f")) == state;
}

/* ---- how it ends ----------------------------------------------------------------------------------------------------------- */

static void a_failure_reaches_all(void **state)
{
	struct slice note;
	(void)state;
	for (size_t i = 0; i < 3; i++)
		seat(i, i == 0 ? FLIGHT_LEAD : FLIGHT_FOLLOW);
	flight_rig_fail(&seats[0], FLIGHT_BROKEN, "upstream_busy");
	for (size_t i = 1; i < 3; i++) {
		flight_rig_until_over(&seats[i], FLIGHT_FAILED);
		assert_string_equal(seats[i].note, "upstream_busy");
		assert_int_equal(seats[i].told, 1); /* together: nobody asks again */
	}
	assert_int_equal(flight_state(seats[1].seat, &note), FLIGHT_FAILED);
	flight_rig_until_quiet(&rig);
	assert_true(is_state('x'));
	seat(3, FLIGHT_LEAD); /* who comes later may try */
}

static void a_failure_behind_the_head_leaves_what_has_come(void **state)
{
	(void)state;
	seats[2].slow = true;
	for (size_t i = 0; i < 3; i++)
		seat(i, i == 0 ? FLIGHT_LEAD : FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "half");
	flight_rig_fail(&seats[0], FLIGHT_BROKEN, "upstream_broken");
	flight_rig_until_over(&seats[1], FLIGHT_FAILED);
	flight_rig_until_over(&seats[2], FLIGHT_FAILED);
	assert_true(flight_rig_got(&seats[1], "half"));
	flight_rig_take(&seats[2], 100);
	assert_true(flight_rig_got(&seats[2], "half"));
	flight_rig_until_quiet(&rig);
	assert_int_equal(redis_server_int(rig.server, "EXISTS %s", flight_rig_key(1, "}:v")), 0);
}

static void a_refusal_hits_its_group_and_another_leads(void **state)
{
	(void)state;
	seat_of_group(0, 1, FLIGHT_LEAD);
	seat_of_group(1, 1, FLIGHT_FOLLOW);
	seat_of_group(2, 2, FLIGHT_FOLLOW);
	seat_of_group(3, 1, FLIGHT_FOLLOW);
	seat_of_group(4, 3, FLIGHT_FOLLOW);
	flight_rig_fail(&seats[0], FLIGHT_REFUSED, "no quota");
	flight_rig_until_told(&seats[1], 2, FLIGHT_DENIED);
	flight_rig_until_told(&seats[3], 2, FLIGHT_DENIED);
	flight_rig_until_told(&seats[2], 2, FLIGHT_LEAD);
	assert_string_equal(seats[1].note, "no quota");
	assert_string_equal(seats[3].note, "no quota");
	assert_string_equal(seats[2].note, "");
	flight_begin(seats[2].seat, SLICE("h"));
	flight_rig_write(&seats[2], "abc");
	flight_rig_done(&seats[2], true);
	flight_rig_until_over(&seats[4], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[4], "abc"));
	assert_int_equal(seats[4].told, 1);
}

static void a_refusal_of_all_ends_it(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	flight_rig_fail(&seats[0], FLIGHT_REFUSED, "no quota");
	flight_rig_until_told(&seats[1], 2, FLIGHT_DENIED);
	flight_rig_until_quiet(&rig);
	assert_true(is_state('a'));
	seat(2, FLIGHT_LEAD);
}

static void what_is_private_is_asked_for_alone(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	flight_rig_fail(&seats[0], FLIGHT_PRIVATE, "");
	flight_rig_until_told(&seats[1], 2, FLIGHT_PASS);
	flight_rig_until_quiet(&rig);
	seat(2, FLIGHT_PASS); /* and nobody waits for another, for a while */
	assert_int_equal(flight_rig_leading(&rig), 0);
}

static void a_head_that_is_too_long_is_private(void **state)
{
	static char head[64 * 1024 + 1];
	(void)state;
	memset(head, 'h', sizeof(head));
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, slice_make(head, sizeof(head)));
	assert_false(flight_leads(seats[0].seat));
	flight_rig_write(&seats[0], "it does not know yet"); /* all of these do nothing */
	flight_rig_done(&seats[0], true);
	assert_false(flight_orphan(seats[0].seat));
	flight_rig_until_told(&seats[1], 2, FLIGHT_PASS);
	flight_rig_until_quiet(&rig);
	assert_true(is_state('p'));
}

static void a_leader_that_leaves_before_the_head_is_replaced(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++)
		seat(i, i == 0 ? FLIGHT_LEAD : FLIGHT_FOLLOW);
	flight_rig_leave(&seats[0]);
	flight_rig_until_told(&seats[1], 2, FLIGHT_LEAD);
	assert_int_equal(seats[2].told, 1);
	flight_begin(seats[1].seat, SLICE("h"));
	flight_rig_write(&seats[1], "abc");
	flight_rig_done(&seats[1], true);
	flight_rig_until_over(&seats[2], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[2], "abc"));
}

/* Whoever leads knows whether something stale would do instead. */
static void who_takes_over_knows_what_is_stale(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	seat(0, FLIGHT_LEAD);
	assert_false(seats[0].last.has_stale);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_end(seats[0].seat, &(struct flight_end){ .store = true, .fresh = 1, .error = CLOCK_MINUTE });
	flight_rig_until_quiet(&rig);
	ask.may_read = false;
	for (size_t i = 1; i <= 2; i++)
		flight_rig_join(&seats[i], worker, &ask);
	flight_rig_until_told(&seats[1], 1, FLIGHT_LEAD);
	assert_true(seats[1].last.has_stale);
	flight_rig_until_told(&seats[2], 1, FLIGHT_FOLLOW);
	flight_rig_leave(&seats[1]);
	flight_rig_until_told(&seats[2], 2, FLIGHT_LEAD);
	assert_true(seats[2].last.has_stale);
}

/* Two answers are never spliced: who has taken of this one fails with it. */
static void a_leader_that_leaves_behind_the_head_fails_who_took(void **state)
{
	(void)state;
	seats[2].slow = seats[3].slow = true;
	for (size_t i = 0; i < 4; i++)
		seat(i, i == 0 ? FLIGHT_LEAD : FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	RIG_UNTIL(&rig, flight_rig_got(&seats[1], "abc"));
	flight_rig_leave(&seats[0]);
	flight_rig_until_over(&seats[1], FLIGHT_FAILED);
	assert_string_equal(seats[1].note, "");
	assert_int_equal(seats[1].told, 1);
	flight_rig_until_told(&seats[2], 2, FLIGHT_LEAD);
	flight_rig_until_told(&seats[3], 2, FLIGHT_FOLLOW);
	flight_begin(seats[2].seat, SLICE("h2"));
	flight_rig_write(&seats[2], "xyz");
	flight_rig_done(&seats[2], true);
	seats[3].slow = false;
	flight_rig_until_over(&seats[3], FLIGHT_WHOLE);
	assert_string_equal(seats[3].head, "h2");
	assert_true(flight_rig_got(&seats[3], "xyz"));
}

static void a_lead_that_nobody_waited_for_is_given_back(void **state)
{
	const struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	flight_rig_join(&seats[0], worker, &ask);
	flight_rig_leave(&seats[0]);
	RIG_UNTIL(&rig, worker->answers > 0);
	flight_rig_until_quiet(&rig);
	assert_true(is_state('a')); /* no other worker waits for a lease of nobody's */
}

/* ---- orphans --------------------------------------------------------------------------------------------------------------- */

static void an_orphan_goes_on_for_who_follows(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	assert_true(flight_orphan(seats[0].seat));
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	RIG_UNTIL(&rig, flight_rig_got(&seats[1], "abc"));
	seat(2, FLIGHT_FOLLOW);
	flight_rig_leave(&seats[1]);
	flight_rig_write(&seats[0], "d");
	RIG_UNTIL(&rig, flight_rig_got(&seats[2], "abcd"));
	assert_int_equal(seats[0].alone, 0);
	flight_rig_leave(&seats[2]);
	RIG_UNTIL(&rig, seats[0].alone == 1);
	assert_false(flight_leads(seats[0].seat));
	assert_true(is_state('a'));
	flight_rig_done(&seats[0], true); /* too late: it does nothing */
	seat(3, FLIGHT_LEAD);
}

static void an_orphan_whom_nobody_follows_is_told_so(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	assert_true(flight_orphan(seats[0].seat)); /* somebody elsewhere may be there */
	RIG_UNTIL(&rig, seats[0].alone == 1);
	assert_int_equal(flight_rig_leading(&rig), 0);
}

/* The last word of what nobody can join is on its way when the client leaves: its answer tells all that there is to know. */
static void an_orphan_behind_its_last_word_is_alone(void **state)
{
	char bytes[200];
	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	seat(0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_write(seats[0].seat, slice_make(bytes, sizeof(bytes)));
	assert_true(flight_orphan(seats[0].seat));
	RIG_UNTIL(&rig, seats[0].alone > 0);
	assert_int_equal(seats[0].alone, 1);
	assert_false(flight_leads(seats[0].seat));
	assert_true(is_state('p'));
}

/* It is asked whether the orphan is alone; meanwhile somebody follows, the orphan leaves, and that one leads. */
static void who_took_the_lead_over_is_no_orphan(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	redis_server_pause(rig.server);
	assert_true(flight_orphan(seats[0].seat)); /* the question is on its way, and Redis will end the flight */
	seat(1, FLIGHT_FOLLOW);
	flight_rig_leave(&seats[0]);
	flight_rig_until_told(&seats[1], 2, FLIGHT_LEAD);
	redis_server_resume(rig.server);
	unsigned answers = worker->answers;
	RIG_UNTIL(&rig, worker->answers > answers);
	assert_int_equal(seats[1].alone, 0);
	assert_true(flight_leads(seats[1].seat));
	flight_begin(seats[1].seat, SLICE("h"));
	flight_rig_done(&seats[1], true);
}

/* Another has taken the lead; in this worker nobody follows: what it still fetches is for nobody. */
static void an_orphan_that_was_fenced_is_alone(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	redis_server_do(rig.server, "HINCRBY %s fence 1", flight_rig_key(1, "}:f"));
	assert_true(flight_orphan(seats[0].seat));
	RIG_UNTIL(&rig, seats[0].alone == 1);
}

/* ---- purges ---------------------------------------------------------------------------------------------------------------- */

static void purge(const char *field)
{
	unsigned heard = worker->invalidations;

	redis_server_do(rig.server, "EVAL %s 1 %s %s",
			"local t = redis.call('TIME') redis.call('HSET', KEYS[1], ARGV[1], t[1] * 1000000 + t[2]) "
			"redis.call('PEXPIRE', KEYS[1], 60000)",
			FLIGHT_PURGED, field);
	RIG_UNTIL(&rig, worker->invalidations > heard);
}

static void a_purge_of_something_else_disturbs_no_flight(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	purge("t:other");
	seat(2, FLIGHT_FOLLOW);
	assert_int_equal(flight_rig_leading(&rig), 1);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	flight_rig_until_over(&seats[2], FLIGHT_WHOLE);
	flight_rig_until_quiet(&rig);
	seat(3, FLIGHT_HIT);
}

static void who_asks_after_a_purge_gets_nothing_begun_before(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	seat(1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "old");
	purge("t:acme");
	seat(2, FLIGHT_LEAD);
	seat(3, FLIGHT_FOLLOW);
	flight_begin(seats[2].seat, SLICE("h"));
	flight_rig_write(&seats[2], "new");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE); /* who was there before gets what it followed */
	assert_true(flight_rig_got(&seats[1], "old"));
	flight_rig_done(&seats[2], true);
	flight_rig_until_over(&seats[3], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[3], "new"));
	flight_rig_until_quiet(&rig);
	seat(4, FLIGHT_HIT);
	assert_true(flight_rig_got(&seats[4], "new"));
	purge("t:acme");
	seat(5, FLIGHT_LEAD);
}

static void a_purge_ends_the_window(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	clock_test_set(clock_now(), clock_unix()); /* it stays open */
	flight_rig_done(&seats[0], true);
	flight_rig_until_quiet(&rig);
	seat(1, FLIGHT_FOLLOW);
	purge("t:acme");
	seat(2, FLIGHT_LEAD);
	clock_test_release();
}

/* What is read while news of a change comes is given, and kept by nobody. */
static void what_changes_while_it_is_read_has_no_epoch(void **state)
{
	const struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	seat(0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_done(&seats[0], true);
	flight_rig_until_quiet(&rig);
	flight_rig_join(&seats[1], worker, &ask);
	flights_invalidated(worker->flights, slice_of(flight_rig_key(1, "}:v")));
	flight_rig_until_told(&seats[1], 1, FLIGHT_HIT);
	assert_int_equal(seats[1].last.epoch, 0);
	flight_rig_join(&seats[2], worker, &ask);
	flights_invalidated(worker->flights, slice_of(flight_rig_key(2, "}:v")));
	flight_rig_until_told(&seats[2], 1, FLIGHT_HIT);
	assert_int_not_equal(seats[2].last.epoch, 0);
	flight_rig_join(&seats[3], worker, &ask);
	flights_invalidated(worker->flights, SLICE_NONE);
	flight_rig_until_told(&seats[3], 1, FLIGHT_HIT);
	assert_int_equal(seats[3].last.epoch, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_failure_reaches_all),
		TEST(a_failure_behind_the_head_leaves_what_has_come),
		TEST(a_refusal_hits_its_group_and_another_leads),
		TEST(a_refusal_of_all_ends_it),
		TEST(what_is_private_is_asked_for_alone),
		TEST(a_head_that_is_too_long_is_private),
		TEST(a_leader_that_leaves_before_the_head_is_replaced),
		TEST(a_leader_that_leaves_behind_the_head_fails_who_took),
		TEST(who_takes_over_knows_what_is_stale),
		TEST(a_lead_that_nobody_waited_for_is_given_back),
		TEST(an_orphan_goes_on_for_who_follows),
		TEST(an_orphan_whom_nobody_follows_is_told_so),
		cmocka_unit_test_setup_teardown(an_orphan_behind_its_last_word_is_alone, begin_small, end),
		TEST(who_took_the_lead_over_is_no_orphan),
		TEST(an_orphan_that_was_fenced_is_alone),
		TEST(a_purge_of_something_else_disturbs_no_flight),
		TEST(who_asks_after_a_purge_gets_nothing_begun_before),
		cmocka_unit_test_setup_teardown(a_purge_ends_the_window, begin_windowed, end),
		TEST(what_changes_while_it_is_read_has_no_epoch),
	};
	return cmocka_run_group_tests_name("flight_ends", tests, NULL, NULL);
}

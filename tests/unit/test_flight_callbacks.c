/* What a seat's callback may do: leave, have others leave, join anew, begin, write and end the flight; one worker, one real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

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

static int end(void **state)
{
	(void)state;
	flight_rig_end(&rig);
	return 0;
}

static void seat(size_t i, enum flight_verdict verdict)
{
	assert_int_equal(flight_rig_seat(&seats[i], worker, 1), verdict);
}

/* All join for key 1 in one turn. */
static void join(size_t first, size_t last)
{
	const struct flight_ask ask = flight_rig_ask(1);

	for (size_t i = first; i <= last; i++)
		flight_rig_join(&seats[i], worker, &ask);
}

/* ---- what callbacks do ------------------------------------------------------------------------------------------------------- */

static void leave(struct rig_seat *s)
{
	flight_rig_leave(s);
}

static void all_leave(struct rig_seat *s)
{
	(void)s;
	for (size_t i = 0; i < RIG_SEATS; i++)
		flight_rig_leave(&seats[i]);
}

static void followers_leave(struct rig_seat *s)
{
	(void)s;
	for (size_t i = 1; i < RIG_SEATS; i++)
		flight_rig_leave(&seats[i]);
}

static void next_leaves(struct rig_seat *s)
{
	flight_rig_leave(s + 1);
}

static void join_anew(struct rig_seat *s)
{
	const struct flight_ask ask = flight_rig_ask(1);

	flight_rig_leave(s);
	*s = (struct rig_seat){ 0 };
	flight_rig_join(s, worker, &ask);
}

static void leader_leaves(struct rig_seat *s)
{
	(void)s;
	flight_rig_leave(&seats[0]);
}

static void leader_fails(struct rig_seat *s)
{
	(void)s;
	if (flight_leads(seats[0].seat))
		flight_rig_fail(&seats[0], FLIGHT_BROKEN, "broken");
}

static void leader_ends(struct rig_seat *s)
{
	(void)s;
	if (flight_leads(seats[0].seat))
		flight_rig_done(&seats[0], true);
}

static void answer_at_once(struct rig_seat *s)
{
	if (s->verdict != FLIGHT_LEAD)
		return;
	flight_begin(s->seat, SLICE("h"));
	flight_rig_write(s, "abc");
	flight_rig_done(s, true);
}

static void refuse_at_once(struct rig_seat *s)
{
	if (s->verdict == FLIGHT_LEAD)
		flight_rig_fail(s, FLIGHT_REFUSED, "no quota");
}

/* ---- while they are told what they are ------------------------------------------------------------------------------------------ */

static void who_is_told_to_lead_leaves(void **state)
{
	(void)state;
	seats[0].on_told = seats[1].on_told = leave;
	join(0, 3);
	flight_rig_until_told(&seats[2], 1, FLIGHT_LEAD);
	flight_rig_until_told(&seats[3], 1, FLIGHT_FOLLOW);
	assert_true(seats[0].told == 1 && seats[1].told == 1);
	RIG_UNTIL(&rig, flight_rig_leading(&rig) == 1); /* the others have been given back */
}

static void who_is_told_to_lead_has_all_leave(void **state)
{
	(void)state;
	seats[0].on_told = all_leave;
	join(0, 3);
	RIG_UNTIL(&rig, seats[0].told > 0);
	flight_rig_until_quiet(&rig);
	for (size_t i = 1; i < 4; i++)
		assert_int_equal(seats[i].told, 0);
	assert_int_equal(flight_rig_leading(&rig), 0);
}

static void who_is_told_to_lead_joins_anew(void **state)
{
	(void)state;
	seats[0].on_told = join_anew;
	join(0, 2);
	RIG_UNTIL(&rig, seats[0].told > 0 && seats[1].told > 0 && seats[2].told > 0);
	RIG_UNTIL(&rig, flight_rig_leading(&rig) == 1); /* the one that was left has been given back */
	unsigned leads = 0;
	for (size_t i = 0; i < 3; i++)
		leads += flight_leads(seats[i].seat);
	assert_int_equal(leads, 1);
}

static void who_is_told_to_lead_answers_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		seats[i].on_told = answer_at_once;
	join(0, 3);
	for (size_t i = 1; i < 4; i++) {
		RIG_UNTIL(&rig, flight_rig_over(&seats[i]) || seats[i].verdict == FLIGHT_LEAD);
		assert_true(seats[i].verdict == FLIGHT_HIT || seats[i].verdict == FLIGHT_FOLLOW);
		assert_true(flight_rig_got(&seats[i], "abc"));
	}
}

/* Each leads in turn, and refuses; with one group, with many. */
static void each_refuses_at_once(void **state)
{
	(void)state;
	for (uint64_t groups = 0; groups < 2; groups++) {
		for (size_t i = 0; i < 4; i++) {
			struct flight_ask ask = flight_rig_ask(1);
			ask.group = 1 + groups * i;
			seats[i] = (struct rig_seat){ .on_told = refuse_at_once };
			flight_rig_join(&seats[i], worker, &ask);
		}
		for (size_t i = 0; i < 4; i++)
			RIG_UNTIL(&rig, seats[i].verdict == FLIGHT_DENIED ||
						(seats[i].verdict == FLIGHT_LEAD && !flight_leads(seats[i].seat)));
		flight_rig_until_quiet(&rig);
		assert_int_equal(flight_rig_leading(&rig), 0);
		all_leave(NULL);
	}
}

static void who_follows_leaves_and_joins_anew(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	seats[1].on_told = leave;
	seats[2].on_told = join_anew;
	seats[3].on_told = next_leaves;
	join(1, 4);
	RIG_UNTIL(&rig, seats[1].told > 0 && seats[2].told > 0 && seats[3].told > 0);
	RIG_UNTIL(&rig, seats[2].seat != NULL && seats[2].told == 1);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[2], FLIGHT_WHOLE);
	flight_rig_until_over(&seats[3], FLIGHT_WHOLE);
}

static void who_is_given_what_is_stored_has_all_leave(void **state)
{
	(void)state;
	seat(0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_done(&seats[0], true);
	flight_rig_until_quiet(&rig);
	seats[1].on_told = all_leave;
	join(1, 4);
	RIG_UNTIL(&rig, seats[1].told == 1);
	assert_int_equal(seats[2].told + seats[3].told + seats[4].told, 0);
}

/* ---- while they are told of bytes ------------------------------------------------------------------------------------------------ */

/* Seats 0 to 4; the first follower is told of the head, and does this. */
static void follow_with(void (*on_more)(struct rig_seat *))
{
	seat(0, FLIGHT_LEAD);
	for (size_t i = 1; i < 5; i++)
		seat(i, FLIGHT_FOLLOW);
	seats[1].on_more = on_more;
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
}

static void one_leaves_while_told(void **state)
{
	(void)state;
	follow_with(leave);
	RIG_UNTIL(&rig, flight_rig_got(&seats[4], "abc"));
	assert_null(seats[1].seat);
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[4], FLIGHT_WHOLE);
}

static void the_next_leaves_while_told(void **state)
{
	(void)state;
	follow_with(next_leaves);
	RIG_UNTIL(&rig, flight_rig_got(&seats[4], "abc"));
	assert_true(seats[2].seat == NULL && seats[2].more == 0);
	assert_true(flight_rig_got(&seats[3], "abc"));
}

static void all_followers_leave_while_told(void **state)
{
	(void)state;
	follow_with(followers_leave);
	RIG_UNTIL(&rig, seats[1].more > 0);
	assert_int_equal(seats[2].more + seats[3].more + seats[4].more, 0);
	assert_true(flight_leads(seats[0].seat));
	assert_true(flight_orphan(seats[0].seat));
	RIG_UNTIL(&rig, seats[0].alone == 1);
}

static void everybody_leaves_while_told(void **state)
{
	(void)state;
	follow_with(all_leave);
	RIG_UNTIL(&rig, seats[1].more > 0);
	flight_rig_until_quiet(&rig);
	assert_int_equal(flight_rig_leading(&rig), 0);
}

/* Those who have not been told yet have taken nothing: they lose nothing by it. */
static void the_leader_leaves_while_they_are_told(void **state)
{
	(void)state;
	follow_with(leader_leaves);
	flight_rig_until_told(&seats[2], 2, FLIGHT_LEAD);
	flight_rig_until_told(&seats[3], 2, FLIGHT_FOLLOW);
	flight_rig_until_told(&seats[4], 2, FLIGHT_FOLLOW);
	flight_rig_until_over(&seats[1], FLIGHT_FAILED); /* it has taken */
	assert_int_equal(seats[2].more + seats[3].more + seats[4].more, 0);
}

static void the_flight_fails_while_they_are_told(void **state)
{
	(void)state;
	follow_with(leader_fails);
	for (size_t i = 1; i < 5; i++) {
		flight_rig_until_over(&seats[i], FLIGHT_FAILED);
		assert_string_equal(seats[i].note, "broken");
	}
}

static void the_flight_ends_while_they_are_told(void **state)
{
	(void)state;
	follow_with(leader_ends);
	for (size_t i = 1; i < 5; i++) {
		flight_rig_until_over(&seats[i], FLIGHT_WHOLE);
		assert_true(flight_rig_got(&seats[i], "abc"));
	}
}

static void one_joins_anew_while_told(void **state)
{
	(void)state;
	follow_with(join_anew);
	RIG_UNTIL(&rig, flight_rig_got(&seats[1], "abc") && flight_rig_got(&seats[4], "abc"));
	flight_rig_write(&seats[0], "def");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "abcdef"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_is_told_to_lead_leaves),
		TEST(who_is_told_to_lead_has_all_leave),
		TEST(who_is_told_to_lead_joins_anew),
		TEST(who_is_told_to_lead_answers_at_once),
		TEST(each_refuses_at_once),
		TEST(who_follows_leaves_and_joins_anew),
		TEST(who_is_given_what_is_stored_has_all_leave),
		TEST(one_leaves_while_told),
		TEST(the_next_leaves_while_told),
		TEST(all_followers_leave_while_told),
		TEST(everybody_leaves_while_told),
		TEST(the_leader_leaves_while_they_are_told),
		TEST(the_flight_fails_while_they_are_told),
		TEST(the_flight_ends_while_they_are_told),
		TEST(one_joins_anew_while_told),
	};
	return cmocka_run_group_tests_name("flight_callbacks", tests, NULL, NULL);
}

/* lib/flight when Redis is away, dies, is full, or its answers are lost; and when a leader is not heard of. Whatever happens: nobody gets bytes of two answers,
 * nobody waits for longer than a lease. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/flight_internal.h"
#include "tests/support/flight_rig.h"

static struct flight_rig rig;
static struct rig_seat *const seats = rig.seats;

static int begin_with(struct flight_rig_options options)
{
	options.workers = 3;
	options.proxied = true;
	flight_rig_begin(&rig, &options);
	return 0;
}

static int begin(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .pace = RIG_PATIENT });
}

static int begin_hasty(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .pace = RIG_HASTY });
}

static int begin_without_redis(void **state)
{
	(void)state;
	return begin_with(
		(struct flight_rig_options){ .pace = RIG_HASTY, .window = 100 * CLOCK_MILLISECOND, .no_redis = true });
}

static int end(void **state)
{
	(void)state;
	flight_rig_end(&rig);
	return 0;
}

/* seats[i] joins at that worker for key 1; the verdict must be this. */
static void seat(size_t i, size_t worker, enum flight_verdict verdict)
{
	assert_int_equal(flight_rig_seat(&seats[i], &rig.worker[worker], 1), verdict);
}

static void begin_answer(size_t i, const char *bytes)
{
	flight_begin(seats[i].seat, SLICE("h"));
	flight_rig_write(&seats[i], bytes);
}

/* The next answer of Redis to that worker is lost, and its connection with it. */
static void drop_next(size_t worker)
{
	fault_proxy_tell(rig.worker[worker].proxy, "drop-reply-every 1");
}

static void until_dropped(size_t worker)
{
	RIG_UNTIL(&rig, fault_proxy_count(rig.worker[worker].proxy, "dropped") > 0);
	fault_proxy_tell(rig.worker[worker].proxy, "drop-reply-every 0");
}

/* ---- answers that are lost -------------------------------------------------------------------------------------------------- */

/* Redis has given the lead to a worker that did not hear of it: it leads all the same, and takes the lead once more. */
static void the_answer_to_join_is_lost(void **state)
{
	const struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	drop_next(0);
	flight_rig_join(&seats[0], &rig.worker[0], &ask);
	until_dropped(0);
	RIG_UNTIL(&rig, seats[0].told > 0);
	assert_int_equal(seats[0].verdict, FLIGHT_LEAD);
	assert_true(seats[0].last.unavailable);
	seat(1, 0, FLIGHT_FOLLOW);
	begin_answer(0, "abc");
	flight_rig_until_got(&seats[1], "abc");
	RIG_UNTIL(&rig, redis_server_int(rig.server, "EXISTS %s", flight_rig_key(1, "}:f")) == 1);
	flight_rig_seat(&seats[2], &rig.worker[1], 1);
	/* It follows, unless the machine was so slow that the lease is over. */
	if (seats[2].verdict == FLIGHT_FOLLOW)
		RIG_UNTIL(&rig, flight_rig_got(&seats[2], "abc") || seats[2].verdict == FLIGHT_LEAD);
	flight_rig_write(&seats[0], "def");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "abcdef"));
	if (seats[2].verdict == FLIGHT_FOLLOW)
		RIG_UNTIL(&rig, flight_rig_over(&seats[2]) || seats[2].verdict == FLIGHT_LEAD);
	assert_true(seats[2].verdict == FLIGHT_LEAD || seats[2].state == FLIGHT_FAILED ||
		    flight_rig_got(&seats[2], "abcdef"));
}

static void the_answer_to_append_is_lost(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	begin_answer(0, "one ");
	flight_rig_until_got(&seats[1], "one ");
	drop_next(0);
	flight_rig_write(&seats[0], "two ");
	until_dropped(0);
	flight_rig_write(&seats[0], "three");
	flight_rig_until_got(&seats[1], "one two three");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "one two three"));
	assert_int_equal(seats[1].told, 1);
	flight_rig_until_quiet(&rig);
	seat(2, 2, FLIGHT_HIT);
}

static void the_answer_to_finish_is_lost(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	begin_answer(0, "one ");
	flight_rig_until_got(&seats[1], "one ");
	flight_rig_until_quiet(&rig);
	drop_next(0);
	flight_rig_write(&seats[0], "two");
	flight_rig_done(&seats[0], true);
	until_dropped(0);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "one two"));
	flight_rig_until_quiet(&rig);
	seat(2, 2, FLIGHT_HIT);
	assert_true(flight_rig_got(&seats[2], "one two"));
}

static void the_answer_to_follow_is_lost(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	begin_answer(0, "one ");
	flight_rig_until_got(&seats[1], "one ");
	drop_next(1);
	flight_rig_write(&seats[0], "two ");
	until_dropped(1);
	flight_rig_until_got(&seats[1], "one two ");
	drop_next(1);
	flight_rig_write(&seats[0], "three");
	flight_rig_done(&seats[0], true);
	RIG_UNTIL(&rig, fault_proxy_count(rig.worker[1].proxy, "dropped") > 1);
	fault_proxy_tell(rig.worker[1].proxy, "drop-reply-every 0");
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "one two three"));
	assert_int_equal(seats[1].told, 1);
}

/* The answer says error, though the words came in. With the clock held no time passes: an error is no reason to say it again at once. */
static void words_that_are_refused_wait(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	begin_answer(0, "one ");
	flight_rig_until_got(&seats[1], "one ");
	flight_rig_until_quiet(&rig);
	clock_test_set(clock_now() + CLOCK_SECOND, clock_unix());
	fault_proxy_tell(rig.worker[0].proxy, "error-every 1 ERR made up");
	unsigned answers = rig.worker[0].answers;
	for (int i = 0; i < 5000; i++)
		flight_rig_write(&seats[0], "ab");
	RIG_UNTIL(&rig, rig.worker[0].answers > answers);
	for (int i = 0; i < 50; i++)
		flight_rig_turn(&rig);
	assert_in_range(rig.worker[0].answers, answers + 1, answers + 2); /* one may have been on its way */
	fault_proxy_tell(rig.worker[0].proxy, "error-every 0");
	clock_test_release();
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_int_equal(seats[1].got.len, 10004);
}

/* ---- Redis is away ---------------------------------------------------------------------------------------------------------- */

static void without_redis_a_worker_is_its_own_fleet(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	assert_true(seats[0].last.unavailable);
	seat(1, 0, FLIGHT_FOLLOW);
	seat(2, 1, FLIGHT_LEAD);
	begin_answer(0, "abc");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "abc"));
	ask.may_read = ask.may_be_late = ask.may_lead = false;
	flight_rig_join(&seats[3], &rig.worker[0], &ask);
	ask.may_read = ask.may_lead = true;
	ask.may_follow = false;
	flight_rig_join(&seats[4], &rig.worker[0], &ask);
	RIG_UNTIL(&rig, seats[3].told > 0 && seats[4].told > 0);
	assert_int_equal(seats[3].verdict, FLIGHT_NONE);
	assert_int_equal(seats[4].verdict, FLIGHT_PASS);
	assert_true(seats[3].last.unavailable);
	assert_false(flight_orphan(seats[2].seat)); /* nobody can be there */
	flight_rig_leave(&seats[2]);
	redis_server_restart(rig.server);
}

/* One is in its window, who will not be late leads beside it: two flights of one key, and each gets its own. */
static void two_flights_of_one_key_do_not_meet(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 0, FLIGHT_FOLLOW);
	begin_answer(0, "old");
	flight_rig_done(&seats[0], true);
	ask.may_be_late = false;
	flight_rig_join(&seats[2], &rig.worker[0], &ask);
	RIG_UNTIL(&rig, seats[2].told > 0);
	assert_int_equal(seats[2].verdict, FLIGHT_LEAD);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	flight_rig_leave(&seats[1]);
	RIG_UNTIL(&rig, flight_rig_leading(&rig) == 1); /* the old one is gone with its window */
	seat(3, 0, FLIGHT_FOLLOW);
	begin_answer(2, "new");
	flight_rig_until_got(&seats[3], "new");
	flight_rig_done(&seats[2], true);
	flight_rig_until_over(&seats[3], FLIGHT_WHOLE);
	redis_server_restart(rig.server);
}

/* It began without Redis; when that is there, others read along from the first byte on. */
static void redis_returns_under_a_flight(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	begin_answer(0, "from the first ");
	redis_server_restart(rig.server);
	flight_rig_until_up(&rig, true);
	RIG_UNTIL(&rig, redis_server_int(rig.server, "EXISTS %s", flight_rig_key(1, "}:f")) == 1);
	seat(1, 1, FLIGHT_FOLLOW);
	flight_rig_until_got(&seats[1], "from the first ");
	flight_rig_write(&seats[0], "on");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "from the first on"));
	flight_rig_until_quiet(&rig);
	seat(2, 2, FLIGHT_HIT);
}

/* It ends while the lead is being asked for: whoever reads along gets it, and nobody waits for a lease of nobody's. */
static void a_flight_ends_while_it_is_being_adopted(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	begin_answer(0, "abc");
	redis_server_restart(rig.server);
	RIG_UNTIL(&rig, seats[0].seat->flight->call != NULL);
	flight_rig_done(&seats[0], true);
	RIG_UNTIL(&rig, flight_rig_leading(&rig) == 0);
	flight_rig_until_up(&rig, true);
	flight_rig_seat(&seats[1], &rig.worker[1], 1);
	assert_true(seats[1].verdict == FLIGHT_HIT || seats[1].verdict == FLIGHT_LEAD); /* not: FOLLOW */
}

static void redis_is_killed_under_a_flight(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 0, FLIGHT_FOLLOW);
	seat(2, 1, FLIGHT_FOLLOW);
	begin_answer(0, "abc");
	flight_rig_until_got(&seats[1], "abc");
	flight_rig_until_got(&seats[2], "abc");
	redis_server_kill(rig.server);
	flight_rig_write(&seats[0], "def");
	flight_rig_until_up(&rig, false);
	flight_rig_write(&seats[0], "ghi");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "abcdefghi"));
	flight_rig_until_over(&seats[2], FLIGHT_FAILED); /* it has taken of what it cannot get the rest of */
	assert_true(flight_rig_got(&seats[2], "abc"));
	flight_rig_until_quiet(&rig);
	redis_server_restart(rig.server);
}

static void redis_comes_back_empty(void **state)
{
	(void)state;
	seats[3].slow = true;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 0, FLIGHT_FOLLOW);
	seat(2, 1, FLIGHT_FOLLOW);
	seat(3, 2, FLIGHT_FOLLOW);
	begin_answer(0, "abc");
	flight_rig_until_got(&seats[2], "abc");
	RIG_UNTIL(&rig, seats[3].more > 0);
	redis_server_restart(rig.server);
	flight_rig_until_over(&seats[2], FLIGHT_FAILED);
	RIG_UNTIL(&rig, seats[3].told == 2);
	assert_int_equal(seats[3].verdict, FLIGHT_LEAD);
	flight_rig_write(&seats[0], "def");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "abcdef"));
}

/* All are told by one answer, and not one after the other. */
static void who_may_not_follow_waits_once(void **state)
{
	struct flight_ask ask = flight_rig_ask(1);
	(void)state;
	ask.may_follow = false;
	redis_server_do(rig.server, "CONFIG SET maxmemory 1");
	for (size_t i = 0; i < RIG_SEATS; i++)
		flight_rig_join(&seats[i], &rig.worker[0], &ask);
	RIG_UNTIL(&rig, seats[0].told > 0);
	for (size_t i = 0; i < RIG_SEATS; i++) {
		assert_int_equal(seats[i].verdict, FLIGHT_PASS);
		assert_true(seats[i].told == 1 && seats[i].last.unavailable);
	}
	assert_int_equal(rig.worker[0].answers, 1);
}

static void a_full_redis_costs_hits(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	redis_server_do(rig.server, "CONFIG SET maxmemory 1");
	begin_answer(0, "abc");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "abc"));
	flight_rig_until_quiet(&rig);
	assert_int_equal(redis_server_int(rig.server, "EXISTS %s", flight_rig_key(1, "}:v")), 0);
	seat(2, 2, FLIGHT_LEAD); /* alone in its worker */
	assert_true(seats[2].last.unavailable);
	seat(3, 2, FLIGHT_FOLLOW);
	begin_answer(2, "xyz");
	flight_rig_done(&seats[2], true);
	flight_rig_until_over(&seats[3], FLIGHT_WHOLE);
}

/* ---- a leader that is not heard of --------------------------------------------------------------------------------------------- */

static void a_silent_leader_is_replaced_and_fenced(void **state)
{
	(void)state;
	seats[2].slow = true;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 2, FLIGHT_FOLLOW);
	seat(3, 0, FLIGHT_FOLLOW);
	begin_answer(0, "old ");
	flight_rig_until_got(&seats[1], "old ");
	RIG_UNTIL(&rig, seats[2].more > 0);
	int64_t since = clock_now();
	fault_proxy_tell(rig.worker[0].proxy, "stall on");
	flight_rig_until_over(&seats[1], FLIGHT_FAILED); /* two answers are never spliced */
	RIG_UNTIL(&rig, seats[2].told == 2);
	assert_int_equal(seats[2].verdict, FLIGHT_LEAD);
	print_message("taken over after %lld ms of silence\n", (long long)(clock_now() - since) / 1000);
	begin_answer(2, "new");
	fault_proxy_tell(rig.worker[0].proxy, "stall off");
	flight_rig_until_up(&rig, true);
	flight_rig_write(&seats[0], "bytes");
	flight_rig_done(&seats[0], true); /* it is refused, and hears so */
	flight_rig_until_over(&seats[3], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[3], "old bytes"));
	flight_rig_done(&seats[2], true);
	flight_rig_until_quiet(&rig);
	seat(4, 1, FLIGHT_HIT);
	assert_true(flight_rig_got(&seats[4], "new"));
}

/* As SIGKILL does: no word more of it comes. */
static void a_dead_leader_is_replaced(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 2, FLIGHT_FOLLOW);
	flight_rig_cut_off(&rig.worker[0]);
	flight_rig_leave(&seats[0]);
	flight_rig_bury(&rig.worker[0]);
	RIG_UNTIL(&rig, seats[1].told == 2 && seats[2].told == 2);
	size_t leads = seats[1].verdict == FLIGHT_LEAD ? 1 : 2, follows = 3 - leads;
	assert_int_equal(seats[leads].verdict, FLIGHT_LEAD);
	assert_int_equal(seats[follows].verdict, FLIGHT_FOLLOW);
	begin_answer(leads, "abc");
	flight_rig_done(&seats[leads], true);
	flight_rig_until_over(&seats[follows], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[follows], "abc"));
}

/* ---- an end under everything ---------------------------------------------------------------------------------------------------- */

static void freed_with_everything_under_way(void **state)
{
	struct flight_ask ask = flight_rig_ask(2);
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 0, FLIGHT_FOLLOW);
	begin_answer(0, "abc");
	flight_rig_until_got(&seats[1], "abc");
	redis_server_pause(rig.server);
	flight_rig_write(&seats[0], "def");               /* a word */
	flight_rig_join(&seats[3], &rig.worker[0], &ask); /* a question */
	assert_int_equal(flight_rig_seat(&seats[4], &rig.worker[0], 1), FLIGHT_FOLLOW);
	flight_rig_fail(&seats[0], FLIGHT_REFUSED, "");
	for (size_t i = 0; i < RIG_SEATS; i++)
		flight_rig_leave(&seats[i]);
	for (size_t i = 0; i < rig.workers; i++)
		flights_free(&rig.worker[i].flights);
	assert_int_equal(rig.held, 0);
	redis_server_resume(rig.server);
	for (int i = 0; i < 10; i++)
		loop_turn(rig.loop, true);
}

#define TEST(name)            cmocka_unit_test_setup_teardown(name, begin, end)
#define TEST_WITH(name, with) cmocka_unit_test_setup_teardown(name, with, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_WITH(the_answer_to_join_is_lost, begin_hasty),
		TEST(the_answer_to_append_is_lost),
		TEST(the_answer_to_finish_is_lost),
		TEST(the_answer_to_follow_is_lost),
		TEST(words_that_are_refused_wait),
		TEST_WITH(without_redis_a_worker_is_its_own_fleet, begin_without_redis),
		TEST_WITH(two_flights_of_one_key_do_not_meet, begin_without_redis),
		TEST_WITH(redis_returns_under_a_flight, begin_without_redis),
		TEST_WITH(a_flight_ends_while_it_is_being_adopted, begin_without_redis),
		TEST_WITH(redis_is_killed_under_a_flight, begin_hasty),
		TEST_WITH(redis_comes_back_empty, begin_hasty),
		TEST(who_may_not_follow_waits_once),
		TEST(a_full_redis_costs_hits),
		TEST_WITH(a_silent_leader_is_replaced_and_fenced, begin_hasty),
		TEST_WITH(a_dead_leader_is_replaced, begin_hasty),
		TEST(freed_with_everything_under_way),
	};
	return cmocka_run_group_tests_name("flight_faults", tests, NULL, NULL);
}

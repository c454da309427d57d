/* lib/flight across workers: each its own connection and listener, one real Redis. Where leases and beats are not meant, they are longer than the test: what
 * comes, comes by hints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/flight_rig.h"

static struct flight_rig rig;
static struct rig_seat *const seats = rig.seats;

static int begin_with(struct flight_rig_options options)
{
	options.workers = 3;
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

static int begin_small(void **state)
{
	(void)state;
	return begin_with((struct flight_rig_options){ .most = 100 });
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
	assert_int_equal(seats[i].last.fleet, verdict == FLIGHT_FOLLOW && worker != 0);
}

static int64_t look(const char *command, const char *kind)
{
	return redis_server_int(rig.server, command, flight_rig_key(1, kind));
}

/* Of worker 0's flight, which is the only one: "}:s:" and its fence. */
static const char *stream(void)
{
	static char kind[64];

	snprintf(kind, sizeof(kind), "}:s:%lld",
		 (long long)redis_server_int(rig.server, "HGET %s fence", flight_rig_key(1, "}:f")));
	return kind;
}

/* ---- reading along -------------------------------------------------------------------------------------------------------- */

static void whenever_they_join_they_get_every_byte(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("head"));
	RIG_UNTIL(&rig, seats[1].has_head);
	seat(2, 0, FLIGHT_FOLLOW);
	flight_rig_write(&seats[0], "one ");
	flight_rig_until_got(&seats[1], "one ");
	flight_rig_until_got(&seats[2], "one ");
	seat(3, 2, FLIGHT_FOLLOW);
	seat(4, 1, FLIGHT_FOLLOW);
	flight_rig_until_got(&seats[3], "one ");
	flight_rig_until_got(&seats[4], "one ");
	flight_rig_write(&seats[0], "two ");
	flight_rig_write(&seats[0], "three");
	flight_rig_done(&seats[0], true);
	for (size_t i = 1; i <= 4; i++) {
		flight_rig_until_over(&seats[i], FLIGHT_WHOLE);
		assert_true(flight_rig_got(&seats[i], "one two three"));
		assert_string_equal(seats[i].head, "head");
	}
	seat(5, 2, FLIGHT_HIT);
	assert_true(flight_rig_got(&seats[5], "one two three"));
}

/* The beat is longer than the test: it is the hint of who joins that has the leader tell what it has so far, and go on in batches. */
static void who_joins_wakes_the_leader(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "long since");
	seat(1, 1, FLIGHT_FOLLOW);
	flight_rig_until_got(&seats[1], "long since");
	flight_rig_write(&seats[0], ", and now");
	flight_rig_until_got(&seats[1], "long since, and now");
	assert_true(rig.worker[0].hints > 0 && rig.worker[1].hints > 0);
}

/* A word is on its way, which counts no readers yet, when the hint comes. */
static void a_hint_behind_a_word_is_not_forgotten(void **state)
{
	const char *key = flight_rig_key(1, "");
	struct slice name = slice_first(slice_skip(slice_of(key), strlen("sluice:{c:")), 64);
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	RIG_UNTIL(&rig, rig.worker[0].answers == 1);
	flights_hint(rig.worker[0].flights, name);
	while (rig.worker[0].answers == 1) { /* the word of the hint is out, or soon will be */
		flights_hint(rig.worker[0].flights, name);
		flight_rig_turn(&rig);
	}
	flight_rig_write(&seats[0], "more");
	RIG_UNTIL(&rig, rig.worker[0].answers == 3);
}

static void a_large_record_comes_in_parts(void **state)
{
	static char bytes[60000];
	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)('a' + i * 7 % 26 + i / 1000 % 2);
	seat(0, 0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	for (size_t i = 0; i < sizeof(bytes); i += 1500) {
		flight_write(seats[0].seat, slice_make(bytes + i, 1500));
		if (i == 15000)
			seat(1, 1, FLIGHT_FOLLOW);
		flight_rig_turn(&rig);
	}
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(slice_equal(buf_slice(&seats[1].got), slice_make(bytes, sizeof(bytes))));
	flight_rig_until_quiet(&rig);
	seat(2, 2, FLIGHT_HIT);
	assert_true(slice_equal(buf_slice(&seats[2].got), slice_make(bytes, sizeof(bytes))));
}

static void who_is_slow_elsewhere_takes_as_it_can(void **state)
{
	(void)state;
	seats[1].slow = true;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abcdef");
	flight_rig_until_got(&seats[2], "abcdef");
	flight_rig_take(&seats[1], 2);
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	flight_rig_take(&seats[1], 3);
	flight_rig_take(&seats[1], 3);
	assert_true(flight_rig_got(&seats[1], "abcdef"));
}

static void who_leaves_is_not_told_any_more(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 2, FLIGHT_FOLLOW);
	assert_int_equal(look("HEXISTS %s r:sluice:w:1", "}:f"), 1);
	flight_rig_leave(&seats[1]);
	RIG_UNTIL(&rig, look("HEXISTS %s r:sluice:w:1", "}:f") == 0);
	assert_int_equal(look("HEXISTS %s r:sluice:w:2", "}:f"), 1);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	flight_rig_until_got(&seats[2], "abc");
	flight_rig_leave(&seats[2]);
	flight_rig_done(&seats[0], false);
	flight_rig_until_quiet(&rig);
}

/* ---- how it ends ----------------------------------------------------------------------------------------------------------- */

static void a_failure_reaches_all_workers(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 2, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "half");
	flight_rig_fail(&seats[0], FLIGHT_BROKEN, "upstream_broken");
	for (size_t i = 1; i <= 2; i++) {
		flight_rig_until_over(&seats[i], FLIGHT_FAILED);
		assert_true(flight_rig_got(&seats[i], "half"));
		assert_string_equal(seats[i].note, "upstream_broken");
		assert_int_equal(seats[i].told, 1);
	}
}

static void a_refusal_hands_the_lead_to_another_worker(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 2, FLIGHT_FOLLOW);
	flight_rig_fail(&seats[0], FLIGHT_REFUSED, "no quota");
	RIG_UNTIL(&rig, seats[1].told == 2 && seats[2].told == 2);
	size_t leads = seats[1].verdict == FLIGHT_LEAD ? 1 : 2, follows = 3 - leads;
	assert_int_equal(seats[leads].verdict, FLIGHT_LEAD);
	assert_int_equal(seats[follows].verdict, FLIGHT_FOLLOW);
	flight_begin(seats[leads].seat, SLICE("h"));
	flight_rig_write(&seats[leads], "abc");
	flight_rig_done(&seats[leads], true);
	flight_rig_until_over(&seats[follows], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[follows], "abc"));
}

static void a_leader_that_leaves_hands_the_lead_on(void **state)
{
	(void)state;
	seats[2].slow = true;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(2, 2, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	flight_rig_until_got(&seats[1], "abc");
	flight_rig_leave(&seats[0]);
	flight_rig_until_over(&seats[1], FLIGHT_FAILED); /* it has taken of what is lost */
	assert_int_equal(seats[1].told, 1);
	flight_rig_until_told(&seats[2], 2, FLIGHT_LEAD);
}

static void what_is_private_is_asked_for_alone_everywhere(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	flight_rig_fail(&seats[0], FLIGHT_PRIVATE, "");
	flight_rig_until_told(&seats[1], 2, FLIGHT_PASS);
	seat(2, 2, FLIGHT_PASS);
}

#define FIFTY "01234567890123456789012345678901234567890123456789"

static void what_is_too_large_goes_on_for_who_keeps_up(void **state)
{
	char all[1024] = FIFTY;
	(void)state;
	seats[5].slow = true;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	seat(5, 1, FLIGHT_FOLLOW); /* it takes nothing, until what it should take first is gone */
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], FIFTY);
	for (int i = 0; i < 8; i++) {
		flight_rig_until_got(&seats[1], all);
		flight_rig_write(&seats[0], FIFTY);
		strcat(all, FIFTY);
	}
	assert_true(flight_slides(seats[0].seat));
	seat(2, 2, FLIGHT_PASS);
	seat(3, 1, FLIGHT_PASS);
	flight_rig_until_told(&seats[5], 2, FLIGHT_PASS);
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], all));
	assert_int_equal(look("EXISTS %s", "}:v"), 0);
	seat(4, 2, FLIGHT_PASS);
}

/* Nobody elsewhere reads along with what nobody may join: Redis is told of it no more. */
static void what_is_too_large_and_read_by_nobody_rests(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], FIFTY FIFTY "x");
	RIG_UNTIL(&rig, rig.worker[0].answers == 2); /* it is told at once */
	seat(1, 1, FLIGHT_PASS);
	seat(2, 0, FLIGHT_PASS);
	flight_rig_write(&seats[0], "y");
	assert_true(flight_leads(seats[0].seat));
	flight_rig_done(&seats[0], true);
}

/* ---- orphans --------------------------------------------------------------------------------------------------------------- */

static void an_orphan_goes_on_for_another_worker(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	assert_true(flight_orphan(seats[0].seat));
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	flight_rig_until_got(&seats[1], "abc");
	assert_int_equal(seats[0].alone, 0);
	flight_rig_leave(&seats[1]);
	RIG_UNTIL(&rig, seats[0].alone == 1);
	seat(2, 1, FLIGHT_LEAD);
}

static void an_orphan_completes_for_another_worker(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	assert_true(flight_orphan(seats[0].seat));
	flight_rig_write(&seats[0], "abc");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
	assert_true(flight_rig_got(&seats[1], "abc"));
	assert_int_equal(seats[0].alone, 0);
}

/* ---- refresh --------------------------------------------------------------------------------------------------------------- */

static void one_of_the_fleet_refreshes(void **state)
{
	unsigned leaders = 0;
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "old");
	flight_end(seats[0].seat, &(struct flight_end){ .store = true, .fresh = 1, .stale = CLOCK_MINUTE });
	flight_rig_until_quiet(&rig);
	const struct flight_ask ask = flight_rig_ask(1);
	for (size_t i = 1; i <= 6; i++)
		flight_rig_join(&seats[i], &rig.worker[i % 3], &ask);
	for (size_t i = 1; i <= 6; i++) {
		RIG_UNTIL(&rig, seats[i].told > 0);
		assert_true(seats[i].verdict == FLIGHT_STALE || seats[i].verdict == FLIGHT_REFRESH);
		assert_true(flight_rig_got(&seats[i], "old"));
		leaders += seats[i].verdict == FLIGHT_REFRESH;
	}
	assert_int_equal(leaders, 1);
}

/* ---- what anybody may have written ------------------------------------------------------------------------------------------ */

/* What is in the stream is not ours: whoever has taken nothing asks for itself, once, though the leader lives. */
static void a_poisoned_stream_is_not_read(void **state)
{
	static const char *const entries[] = { "5 gap", "-1 x", "word x", "e ?", "0 bytes-without-a-head" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(entries); i++) {
		char command[64];
		seat(0, 0, FLIGHT_LEAD);
		snprintf(command, sizeof(command), "XADD %%s * %s", entries[i]);
		redis_server_do(rig.server, command, flight_rig_key(1, stream()));
		redis_server_do(rig.server, "EXPIRE %s 60", flight_rig_key(1, stream()));
		seat(1, 1, FLIGHT_FOLLOW);
		flight_rig_until_told(&seats[1], 2, FLIGHT_PASS);
		for (size_t each = 0; each < 2; each++) {
			flight_rig_leave(&seats[each]);
			seats[each] = (struct rig_seat){ 0 };
		}
		flight_rig_until_quiet(&rig);
	}
}

static void a_stream_that_is_gone_is_not_read_on(void **state)
{
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	flight_rig_until_got(&seats[1], "abc");
	redis_server_do(rig.server, "DEL %s", flight_rig_key(1, stream())); /* evicted */
	seat(2, 2, FLIGHT_FOLLOW);
	flight_rig_write(&seats[0], "def");
	flight_rig_until_got(&seats[1], "abcdef"); /* who has read so far misses nothing */
	flight_rig_until_told(&seats[2], 2, FLIGHT_PASS);
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
}

/* ---- leases ---------------------------------------------------------------------------------------------------------------- */

/* Nothing is heard of either side but by looking: within beats it comes all the same. */
static void without_hints_it_comes_by_looking(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++)
		rig.worker[i].deaf = true;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	flight_rig_until_got(&seats[1], "abc");
	seat(2, 2, FLIGHT_FOLLOW);
	flight_rig_write(&seats[0], "def");
	flight_rig_done(&seats[0], true);
	for (size_t i = 1; i <= 2; i++) {
		flight_rig_until_over(&seats[i], FLIGHT_WHOLE);
		assert_true(flight_rig_got(&seats[i], "abcdef"));
		assert_int_equal(seats[i].told, 1);
	}
}

/* It lives as long as it says so, however long nothing comes; unless this very process stood still for as long as a lease lasts. */
static void beats_hold_the_lease(void **state)
{
	int64_t since, last, gap = 0;
	(void)state;
	seat(0, 0, FLIGHT_LEAD);
	seat(1, 1, FLIGHT_FOLLOW);
	for (since = last = clock_now(); last - since < 4 * RIG_HASTY_LEASE;) {
		flight_rig_turn(&rig);
		gap = clock_now() - last > gap ? clock_now() - last : gap;
		last += clock_now() - last;
	}
	if (gap > RIG_HASTY_LEASE / 4)
		skip();
	assert_int_equal(seats[1].told, 1);
	flight_begin(seats[0].seat, SLICE("h"));
	flight_rig_write(&seats[0], "abc");
	flight_rig_done(&seats[0], true);
	flight_rig_until_over(&seats[1], FLIGHT_WHOLE);
}

#define TEST(name)            cmocka_unit_test_setup_teardown(name, begin, end)
#define TEST_WITH(name, with) cmocka_unit_test_setup_teardown(name, with, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(whenever_they_join_they_get_every_byte),
		TEST(who_joins_wakes_the_leader),
		TEST(a_hint_behind_a_word_is_not_forgotten),
		TEST(a_large_record_comes_in_parts),
		TEST(who_is_slow_elsewhere_takes_as_it_can),
		TEST(who_leaves_is_not_told_any_more),
		TEST(a_failure_reaches_all_workers),
		TEST(a_refusal_hands_the_lead_to_another_worker),
		TEST(a_leader_that_leaves_hands_the_lead_on),
		TEST(what_is_private_is_asked_for_alone_everywhere),
		TEST_WITH(what_is_too_large_goes_on_for_who_keeps_up, begin_small),
		TEST_WITH(what_is_too_large_and_read_by_nobody_rests, begin_small),
		TEST(an_orphan_goes_on_for_another_worker),
		TEST(an_orphan_completes_for_another_worker),
		TEST(one_of_the_fleet_refreshes),
		TEST(a_poisoned_stream_is_not_read),
		TEST(a_stream_that_is_gone_is_not_read_on),
		TEST_WITH(without_hints_it_comes_by_looking, begin_hasty),
		TEST_WITH(beats_hold_the_lease, begin_hasty),
	};
	return cmocka_run_group_tests_name("flight_fleet", tests, NULL, NULL);
}

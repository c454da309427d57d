/* The breaker's scripts on a real Redis, with the time given: report, probe and force, one by one (pause: test_breaker_pauses). How they judge is held against the same in C, and
 * against a slow exact model, by test_breaker_model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/breaker_script_rig.h"

#define NOW   RIG_START
#define LASTS CLOCK_MINUTE

static struct breaker_standing report(int64_t now, int64_t epoch, int64_t well, int64_t failed)
{
	struct breaker_report r = { .epoch = epoch, .result = BREAKER_NOTHING };
	for (int64_t i = 0; i < well; i++)
		breaker_delta_note(&r.delta, BREAKER_SUCCESS, false);
	for (int64_t i = 0; i < failed; i++)
		breaker_delta_note(&r.delta, BREAKER_FAILURE, false);
	return breaker_script_report(now, &breaker_script_rule, &r).standing;
}

static struct breaker_standing look(int64_t now)
{
	return report(now, 0, 0, 0);
}

/* Gives a ticket back; whether it was there. */
static bool give_back(int64_t now, const char *ticket, enum breaker_result result, bool doubtful,
		      struct breaker_standing *standing)
{
	const struct breaker_report r = { .ticket = slice_of(ticket), .result = result, .doubtful = doubtful };
	struct rig_report answer = breaker_script_report(now, &breaker_script_rule, &r);
	*standing = answer.standing;
	return answer.there == 1;
}

/* By errors, at NOW; half open from the time that it returns. */
static int64_t open_it(int64_t *epoch)
{
	struct breaker_standing s = report(NOW, 0, 4, 6);
	assert_int_equal(s.state, BREAKER_OPEN);
	*epoch = s.epoch;
	return NOW + s.left;
}

static const char *ticket(int64_t epoch, int number, const char *channel)
{
	static char text[4][80];
	static int next;
	next = (next + 1) % 4;
	snprintf(text[next], sizeof(text[next]), "%lld %d %s", (long long)epoch, number, channel);
	return text[next];
}

/* ---- states ------------------------------------------------------------------------------ */

static void nothing_counted_leaves_nothing(void **state)
{
	(void)state;
	struct breaker_standing s = look(NOW);
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(s.epoch, 0);
	assert_int_equal(breaker_script_int("EXISTS", 's', NULL), 0);
}

static void from_closed_through_all_states(void **state)
{
	struct breaker_standing s;
	struct slice heard, name;
	int count;
	(void)state;
	s = report(NOW, 0, 5, 4); /* nine are too few to mean anything */
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(s.counts.calls, 9);
	assert_int_equal(s.counts.failed, 4);
	s = report(NOW + 1, 0, 0, 1); /* half of ten is not more than half */
	assert_int_equal(s.state, BREAKER_CLOSED);
	breaker_script_heard(&count);
	assert_int_equal(count, 0);
	s = report(NOW + 2, 0, 0, 1);
	assert_int_equal(s.state, BREAKER_OPEN);
	assert_int_equal(s.why, BREAKER_WHY_ERRORS);
	assert_int_equal(s.counts.calls, 11);
	assert_int_equal(s.counts.failed, 6);
	assert_int_equal(s.left, breaker_script_rule.open_for);
	assert_int_equal(s.trips, 1);
	assert_int_equal(s.epoch, NOW + 2);
	heard = breaker_script_heard(&count);
	assert_int_equal(count, 1);
	struct breaker_standing told;
	assert_true(breaker_wire_hear_standing(heard, &told, &name));
	assert_true(slice_equal(name, SLICE(RIG_NAME)));
	assert_true(told.state == s.state && told.epoch == s.epoch && told.left == s.left && told.trips == s.trips);
	assert_true(told.why == s.why && told.force == s.force && told.run == s.run);
	assert_memory_equal(&told.counts, &s.counts, sizeof(s.counts));
	s = look(NOW + 2 + breaker_script_rule.open_for - 1);
	assert_int_equal(s.state, BREAKER_OPEN);
	assert_int_equal(s.left, 1);
	s = look(NOW + 2 + breaker_script_rule.open_for);
	assert_int_equal(s.state, BREAKER_HALF_OPEN);
	breaker_script_heard(&count);
	assert_int_equal(count, 0); /* by time alone */
}

static void twice_as_long_each_time_up_to_a_limit(void **state)
{
	static const int64_t lengths[] = { 60, 100, 100, 100 };
	struct breaker_standing s;
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		const char *t = ticket(epoch, 1, "w");
		assert_int_equal(breaker_script_probe(now, t, LASTS, 2), BREAKER_GRANTED);
		assert_true(give_back(now + 1, t, BREAKER_FAILURE, false, &s));
		assert_int_equal(s.state, BREAKER_OPEN);
		assert_int_equal(s.why, BREAKER_WHY_PROBE_FAILED);
		assert_int_equal(s.left, lengths[i] * CLOCK_SECOND);
		assert_int_equal(s.trips, i + 2);
		assert_true(s.epoch > epoch);
		epoch = s.epoch;
		now += 1 + s.left;
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(s.trips, 5);
		const char *t = ticket(epoch, i, "w");
		assert_int_equal(breaker_script_probe(now, t, LASTS, 2), BREAKER_GRANTED);
		assert_true(give_back(now + 1, t, BREAKER_SUCCESS, false, &s));
	}
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(s.why, BREAKER_WHY_PROBES_WELL);
	assert_int_equal(s.trips, 0);
	s = report(now + 2, s.epoch, 4, 5); /* its window was empty */
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(s.counts.calls, 9);
	s = report(now + 3, s.epoch, 0, 1);
	assert_int_equal(s.state, BREAKER_OPEN);
	assert_int_equal(s.left, breaker_script_rule.open_for);
}

/* They began before it opened: they must neither open it again nor keep it open. */
static void calls_in_flight_say_nothing(void **state)
{
	struct breaker_standing s;
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	s = report(NOW + 1, epoch, 0, 100);
	assert_int_equal(s.left, breaker_script_rule.open_for - 1);
	s = report(now, epoch, 0, 100);
	assert_int_equal(s.state, BREAKER_HALF_OPEN);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(breaker_script_probe(now, ticket(epoch, i, "w"), LASTS, 2), BREAKER_GRANTED);
		assert_true(give_back(now, ticket(epoch, i, "w"), BREAKER_SUCCESS, false, &s));
	}
	assert_int_equal(s.state, BREAKER_CLOSED);
	s = report(now + 1, epoch, 0, 100); /* of a worker that has not heard that it was open */
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(s.counts.calls, 0);
	s = report(now + 1, s.epoch, 0, 100);
	assert_int_equal(s.state, BREAKER_OPEN);
}

static void in_a_row_across_workers(void **state)
{
	struct breaker_report r = { .result = BREAKER_NOTHING };
	struct breaker_standing s;
	(void)state;
	for (int i = 0; i < 4; i++) {
		memset(&r.delta, 0, sizeof(r.delta));
		breaker_delta_note(&r.delta, BREAKER_UNREACHABLE, false);
		assert_int_equal(breaker_script_report(NOW + i, &breaker_script_rule, &r).standing.state,
				 BREAKER_CLOSED);
	}
	memset(&r.delta, 0, sizeof(r.delta));
	breaker_delta_note(&r.delta, BREAKER_FAILURE, false); /* an answer of 500: it was reached */
	breaker_delta_note(&r.delta, BREAKER_UNREACHABLE, false);
	assert_int_equal(breaker_script_report(NOW + 5, &breaker_script_rule, &r).standing.state, BREAKER_CLOSED);
	memset(&r.delta, 0, sizeof(r.delta));
	for (int i = 0; i < 3; i++)
		breaker_delta_note(&r.delta, BREAKER_UNREACHABLE, false);
	s = breaker_script_report(NOW + 6, &breaker_script_rule, &r).standing;
	assert_int_equal(s.state, BREAKER_CLOSED);
	for (int i = 0; i < 2; i++)
		breaker_delta_note(&r.delta, BREAKER_UNREACHABLE, false);
	s = breaker_script_report(NOW + 7 + breaker_script_rule.window, &breaker_script_rule, &r)
		    .standing; /* the others are too old by then */
	assert_int_equal(s.why, BREAKER_WHY_UNREACHABLE);
	assert_int_equal(s.run, 5);
}

static void a_lost_key_does_not_bring_an_old_epoch_back(void **state)
{
	int64_t epoch, again;
	(void)state;
	open_it(&epoch);
	redis_server_do(breaker_script_server(), "FLUSHALL");
	assert_int_equal(look(NOW + 1).epoch, 0);
	again = report(NOW + 1, epoch, 0, 10).epoch; /* counted: nobody knows better */
	assert_true(again > epoch);
}

/* Redis' clock was set back by an hour: it must not stay open for that hour. */
static void a_clock_set_back_wedges_nothing(void **state)
{
	int64_t epoch, now = NOW - CLOCK_HOUR;
	(void)state;
	open_it(&epoch);
	struct breaker_standing s = look(now);
	assert_int_equal(s.left, breaker_script_rule.open_most);
	assert_int_equal(look(now + breaker_script_rule.open_most).state, BREAKER_HALF_OPEN);
	assert_int_equal(breaker_script_probe(now + breaker_script_rule.open_most, ticket(epoch, 1, "w"), LASTS, 2),
			 BREAKER_GRANTED);
	assert_true(give_back(now + breaker_script_rule.open_most, ticket(epoch, 1, "w"), BREAKER_FAILURE, false, &s));
	assert_true(s.epoch > epoch);
}

/* ---- tickets ------------------------------------------------------------------------------- */

static void no_more_tickets_than_probes(void **state)
{
	struct breaker_standing s;
	int64_t epoch, now;
	(void)state;
	assert_int_equal(breaker_script_probe(NOW, ticket(0, 1, "w1"), LASTS, 2), BREAKER_NEEDLESS);
	now = open_it(&epoch);
	breaker_script_listen("w1", true);
	breaker_script_listen("w2", true);
	assert_int_equal(breaker_script_probe(now - 1, ticket(epoch, 1, "w1"), LASTS, 2), BREAKER_DENIED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch - 1, 1, "w1"), LASTS, 2), BREAKER_DENIED);
	for (int i = 0; i < 2; i++) /* twice is once */
		assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w1"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 2, "w2"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 3, "w1"), LASTS, 2), BREAKER_DENIED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w1"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_int("ZCARD", 'p', NULL), 2);
	assert_true(give_back(now, ticket(epoch, 2, "w2"), BREAKER_NOTHING, false, &s));
	assert_int_equal(s.state, BREAKER_HALF_OPEN);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 3, "w1"), LASTS, 2), BREAKER_GRANTED);
	breaker_script_listen("w1", false);
	breaker_script_listen("w2", false);
}

static void the_dead_hold_no_place(void **state)
{
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	breaker_script_listen("w1 with blanks", true);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w1 with blanks"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 2, "dead"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 3, "w1 with blanks"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_int("ZCARD", 'p', NULL), 2);
	assert_int_equal(breaker_script_int("ZSCORE", 'p', ticket(epoch, 2, "dead")), -1);
	/* One that listens but does nothing: until its call must have ended. */
	assert_int_equal(breaker_script_probe(now + LASTS - 1, ticket(epoch, 4, "w2"), LASTS, 2), BREAKER_DENIED);
	assert_int_equal(breaker_script_probe(now + LASTS, ticket(epoch, 4, "w2"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_int("ZCARD", 'p', NULL), 1);
	breaker_script_listen("w1 with blanks", false);
}

static void a_result_counts_once_and_in_its_epoch(void **state)
{
	struct breaker_standing s;
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_GRANTED);
	assert_true(give_back(now, ticket(epoch, 1, "w"), BREAKER_SUCCESS, false, &s));
	assert_false(give_back(now, ticket(epoch, 1, "w"), BREAKER_SUCCESS, false, &s)); /* a repeat */
	assert_int_equal(s.state, BREAKER_HALF_OPEN);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 2, "w"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 3, "w"), LASTS, 2), BREAKER_GRANTED);
	assert_true(give_back(now, ticket(epoch, 2, "w"), BREAKER_FAILURE, false, &s));
	assert_int_equal(s.state, BREAKER_OPEN);
	int64_t later = now + s.left;
	assert_true(give_back(later, ticket(epoch, 3, "w"), BREAKER_FAILURE, false, &s)); /* of the epoch before */
	assert_int_equal(s.state, BREAKER_HALF_OPEN);
	assert_int_equal(s.trips, 2);
	assert_int_equal(breaker_script_int("EXISTS", 'p', NULL), 0);
}

static bool goes_well(int64_t now, const char *ticket, struct breaker_standing *s)
{
	const struct breaker_report report = { .ticket = slice_of(ticket), .so_far = true };
	struct rig_report told = breaker_script_report(now, &breaker_script_rule, &report);
	*s = told.standing;
	return told.there != 0;
}

/* It counts when its head has come, and holds its place until it has ended. */
static void one_that_goes_well_counts_once_and_keeps_its_place(void **state)
{
	struct breaker_standing s;
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_GRANTED);
	breaker_script_listen("w", true);
	assert_true(goes_well(now, ticket(epoch, 1, "w"), &s));
	assert_false(goes_well(now, ticket(epoch, 1, "w"), &s)); /* a repeat */
	assert_int_equal(s.state, BREAKER_HALF_OPEN);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 2, "w"), LASTS, 2), BREAKER_GRANTED);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 3, "w"), LASTS, 2), BREAKER_DENIED);
	assert_true(give_back(now, ticket(epoch, 1, "w"), BREAKER_SUCCESS, false, &s)); /* has counted */
	assert_int_equal(s.state, BREAKER_HALF_OPEN);
	assert_true(goes_well(now, ticket(epoch, 2, "w"), &s));
	assert_int_equal(s.state, BREAKER_CLOSED); /* two of two, and the second still runs */
	assert_true(give_back(now, ticket(epoch, 2, "w"), BREAKER_FAILURE, false, &s));
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(breaker_script_int("EXISTS", 'p', NULL), 0);
	breaker_script_listen("w", false);
}

static void one_that_went_well_and_broke_off_opens_it_again(void **state)
{
	struct breaker_standing s;
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_GRANTED);
	assert_true(goes_well(now, ticket(epoch, 1, "w"), &s));
	assert_true(give_back(now, ticket(epoch, 1, "w"), BREAKER_FAILURE, false, &s));
	assert_int_equal(s.state, BREAKER_OPEN);
	assert_int_equal(s.trips, 2);
}

/* The asking was on a connection that was cut, and is read behind the return. */
static void an_asking_behind_its_return_gets_nothing(void **state)
{
	struct breaker_standing s;
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	assert_false(give_back(now, ticket(epoch, 1, "w"), BREAKER_NOTHING, true, &s));
	assert_int_equal(breaker_script_probe(now + 1, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_DENIED);
	for (int i = 2; i <= 3; i++) /* it holds no place */
		assert_int_equal(breaker_script_probe(now + 1, ticket(epoch, i, "w"), LASTS, 2), BREAKER_GRANTED);
	breaker_script_probe(now + 30 * CLOCK_SECOND, ticket(epoch, 4, "w"), LASTS, 2); /* sweeps what is over */
	assert_int_equal(breaker_script_probe(now + 59 * CLOCK_SECOND, ticket(epoch, 1, "w"), LASTS, 2),
			 BREAKER_DENIED);
	breaker_script_probe(now + CLOCK_MINUTE + 1, ticket(epoch, 5, "w"), LASTS, 2);
	assert_int_equal(breaker_script_int("ZSCORE", 'p', ticket(epoch, 1, "w")), -1);
}

/* ---- by hand ---------------------------------------------------------------------------------- */

static void forced_open_and_back(void **state)
{
	struct breaker_standing s;
	int count;
	(void)state;
	s = breaker_script_force(NOW, BREAKER_FORCED_OPEN, &breaker_script_rule);
	assert_int_equal(s.force, BREAKER_FORCED_OPEN);
	assert_int_equal(s.why, BREAKER_WHY_FORCED);
	breaker_script_heard(&count);
	assert_int_equal(count, 1);
	assert_in_range(breaker_script_int("PTTL", 's', NULL), 6 * 86400000, 7 * 86400000);
	int64_t epoch = s.epoch;
	s = breaker_script_force(NOW + 1, BREAKER_FORCED_OPEN, &breaker_script_rule);
	assert_int_equal(s.why, BREAKER_WHY_NOTHING);
	breaker_script_heard(&count);
	assert_int_equal(count, 0);
	assert_int_equal(s.epoch, epoch);
	assert_int_equal(breaker_script_probe(NOW, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_DENIED);
	s = report(NOW + 2, epoch, 0, 20); /* counted, not judged */
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(s.counts.failed, 20);
	assert_in_range(breaker_script_int("PTTL", 's', NULL), 6 * 86400000, 7 * 86400000);
	s = breaker_script_force(NOW + 3, BREAKER_AUTO, &breaker_script_rule);
	assert_int_equal(s.force, BREAKER_AUTO);
	assert_in_range(breaker_script_int("PTTL", 's', NULL), 1, 20000);
	assert_int_equal(look(NOW + 4).why, BREAKER_WHY_ERRORS);
}

static void forced_closed_passes_all(void **state)
{
	struct breaker_standing s;
	int64_t epoch, now = open_it(&epoch);
	(void)state;
	s = breaker_script_force(NOW + 1, BREAKER_FORCED_CLOSED, &breaker_script_rule);
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(s.trips, 0);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_NEEDLESS);
	s = report(now, s.epoch, 0, 20);
	assert_int_equal(s.state, BREAKER_CLOSED);
	s = breaker_script_force(now + 1, BREAKER_AUTO, &breaker_script_rule);
	assert_int_equal(s.state, BREAKER_CLOSED);
	assert_int_equal(look(now + 2).state, BREAKER_OPEN);
}

static struct breaker_standing report_of_one_who_knows(int64_t now, enum breaker_force force)
{
	const struct breaker_report report = { .epoch = NOW - 1,
					       .delta = { .counts = { 20, 20, 0, 0 }, .failures = 20 },
					       .result = BREAKER_NOTHING,
					       .force = force };
	return breaker_script_report(now, &breaker_script_rule, &report).standing;
}

/* Before what failed meanwhile is judged: else it would open what is forced closed. */
static void told_by_reports_where_it_is_lost(void **state)
{
	int count;
	(void)state;
	for (enum breaker_force force = BREAKER_FORCED_OPEN; force <= BREAKER_FORCED_CLOSED; force++) {
		struct breaker_standing s = report_of_one_who_knows(NOW, force);
		assert_int_equal(s.force, force);
		assert_int_equal(s.state, BREAKER_CLOSED);
		assert_int_equal(s.why, BREAKER_WHY_FORCED);
		assert_int_equal(s.epoch, NOW);
		breaker_script_heard(&count);
		assert_int_equal(count, 1);
		assert_in_range(breaker_script_int("PTTL", 's', NULL), 6 * 86400000, 7 * 86400000);
		s = report_of_one_who_knows(NOW + 1, force);
		assert_int_equal(s.why, BREAKER_WHY_NOTHING);
		assert_int_equal(s.force, force);
		breaker_script_force(NOW + 2, BREAKER_AUTO, &breaker_script_rule);
		s = report_of_one_who_knows(NOW + 3, force); /* has not heard that it is over */
		assert_int_equal(s.force, BREAKER_AUTO);
		breaker_script_clean(NULL);
	}
}

/* Left to its rule where Redis has lost that it was forced: who has not heard it must not tell it again. */
static void left_to_its_rule_where_it_is_lost(void **state)
{
	struct breaker_standing s = breaker_script_force(NOW, BREAKER_AUTO, &breaker_script_rule);
	(void)state;
	assert_int_equal(s.epoch, NOW);
	assert_in_range(breaker_script_int("PTTL", 's', NULL), 1, 20000);
	assert_int_equal(report_of_one_who_knows(NOW + 1, BREAKER_FORCED_OPEN).force, BREAKER_AUTO);
	assert_int_equal(breaker_script_force(NOW + 2, BREAKER_AUTO, &breaker_script_rule).why, BREAKER_WHY_NOTHING);
}

/* ---- hard times ------------------------------------------------------------------------------------ */

static void keys_of_another_type_are_replaced(void **state)
{
	static const char letters[] = "spw";
	int64_t stands, epoch;
	(void)state;
	for (size_t i = 0; i < 3; i++)
		breaker_script_int("INCR", letters[i], NULL);
	assert_true(breaker_script_pause(NOW, "pro", CLOCK_SECOND, &stands));
	int64_t now = open_it(&epoch);
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_GRANTED);
	breaker_script_int("DEL", 's', NULL);
	breaker_script_int("INCR", 's', NULL);
	assert_int_equal(breaker_script_force(NOW, BREAKER_FORCED_OPEN, &breaker_script_rule).force,
			 BREAKER_FORCED_OPEN);
}

/* Each of them is as if it were not there; a number that cannot grow is none. */
static void values_of_another_kind_are_none(void **state)
{
	static const char *const values[] = { "nan", "inf", "-5", "1e300", "9007199254740992", "open", "" };
	static const char *const fields[] = { "state", "epoch", "until",       "trips",    "force",
					      "good",  "last",  "unreachable", "failures", "0" };
	struct breaker_standing s;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
		for (size_t f = 0; f < ARRAY_LENGTH(fields); f++)
			redis_server_do(breaker_script_server(), "HSET %s %s %s", RIG_STATE, fields[f], values[i]);
		s = report(NOW, 0, 4, 6);
		assert_int_equal(s.state, BREAKER_OPEN);
		assert_int_equal(s.epoch, NOW);
		assert_int_equal(s.trips, 1);
		assert_int_equal(breaker_script_force(NOW, BREAKER_AUTO, &breaker_script_rule).epoch, NOW);
		redis_server_do(breaker_script_server(), "DEL %s", RIG_STATE);
	}
}

/* A ticket must come back, and who reports must be heard, whatever the memory. */
static void a_full_redis_takes_reports(void **state)
{
	struct redis_server *server = breaker_script_server();
	struct breaker_standing s;
	int64_t stands, epoch, now = open_it(&epoch);
	(void)state;
	assert_int_equal(breaker_script_probe(now, ticket(epoch, 1, "w"), LASTS, 2), BREAKER_GRANTED);
	redis_server_do(server, "CONFIG SET maxmemory 1");
	assert_true(give_back(now, ticket(epoch, 1, "w"), BREAKER_FAILURE, false, &s));
	assert_int_equal(s.state, BREAKER_OPEN);
	assert_true(breaker_script_pause(NOW, "pro", CLOCK_SECOND, &stands));
	redis_server_do(server, "CONFIG SET maxmemory 0");
}

static int64_t calls_of(int64_t before)
{
	return breaker_script_calls() - before;
}

/* With Redis' own clock, for TIME is counted too. */
static void commands_are_counted(void **state)
{
	struct breaker_standing s;
	int64_t stands;
	(void)state;
	look(0);
	assert_int_equal(calls_of(0), 3); /* TIME HMGET HGET */
	report(0, 0, 4, 3);
	assert_int_equal(calls_of(0), 5); /* and HSET PEXPIRE */
	s = report(0, 0, 0, 5);
	assert_int_equal(s.state, BREAKER_OPEN);
	assert_int_equal(calls_of(0), 7); /* and DEL PUBLISH */
	look(0);
	assert_int_equal(calls_of(0), 4);
	breaker_script_pause(0, "pro", CLOCK_SECOND, &stands);
	assert_int_equal(calls_of(0), 7); /* TIME HMGET HLEN HSET PEXPIRE PEXPIRE PUBLISH */
	breaker_script_force(0, BREAKER_FORCED_CLOSED, &breaker_script_rule);
	assert_int_equal(calls_of(0), 6);
	breaker_script_probe(NOW, ticket(1, 1, "w"), LASTS, 2);
	assert_int_equal(calls_of(0), 1);
	look(0);
	assert_int_equal(calls_of(0), 5); /* the pauses, too */
	int64_t epoch;
	redis_server_do(breaker_script_server(), "FLUSHALL");
	int64_t now = open_it(&epoch);
	breaker_script_calls();
	breaker_script_probe(now, ticket(epoch, 1, "w"), LASTS, 2);
	assert_int_equal(calls_of(0), 7);
	give_back(now, ticket(epoch, 1, "w"), BREAKER_SUCCESS, false, &s);
	assert_int_equal(calls_of(0), 5);
}

/* What a report costs Redis; told, not judged: machines differ. */
static void the_time_of_a_report_is_told(void **state)
{
	enum { TIMES = 3000 };
	struct breaker_report r = { .result = BREAKER_NOTHING,
				    .delta = { .counts = { 5, 1, 3, 0 }, .went_well = true } };
	struct redis_server *server = breaker_script_server();
	(void)state;
	redis_server_do(server, "CONFIG RESETSTAT");
	for (int i = 0; i < TIMES; i++)
		breaker_script_report(NOW + i * 250 * CLOCK_MILLISECOND, &breaker_script_rule, &r);
	print_message("a report: %.1f µs of Redis\n", breaker_script_time());
	assert_int_equal(look(NOW + (TIMES - 1) * 250 * CLOCK_MILLISECOND).counts.calls % 5, 0);
	breaker_script_calls(); /* the statistics began anew */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, breaker_script_clean, breaker_script_leave)
	const struct CMUnitTest tests[] = {
		TEST(nothing_counted_leaves_nothing),
		TEST(from_closed_through_all_states),
		TEST(twice_as_long_each_time_up_to_a_limit),
		TEST(calls_in_flight_say_nothing),
		TEST(in_a_row_across_workers),
		TEST(a_lost_key_does_not_bring_an_old_epoch_back),
		TEST(a_clock_set_back_wedges_nothing),
		TEST(no_more_tickets_than_probes),
		TEST(the_dead_hold_no_place),
		TEST(a_result_counts_once_and_in_its_epoch),
		TEST(one_that_goes_well_counts_once_and_keeps_its_place),
		TEST(one_that_went_well_and_broke_off_opens_it_again),
		TEST(an_asking_behind_its_return_gets_nothing),
		TEST(forced_open_and_back),
		TEST(forced_closed_passes_all),
		TEST(told_by_reports_where_it_is_lost),
		TEST(left_to_its_rule_where_it_is_lost),
		TEST(keys_of_another_type_are_replaced),
		TEST(values_of_another_kind_are_none),
		TEST(a_full_redis_takes_reports),
		TEST(commands_are_counted),
		TEST(the_time_of_a_report_is_told),
	};
	return cmocka_run_group_tests_name("breaker scripts", tests, breaker_script_begin, breaker_script_end);
}

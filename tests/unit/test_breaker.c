/* lib/breaker with a Redis that is well: what one worker reports all know, what is counted, tickets, pauses, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/breaker_rig.h"
#include "tests/support/random.h"

#define LONG_TIME (20 * CLOCK_SECOND)      /* open for longer than the test looks */
#define MOMENT    (30 * CLOCK_MILLISECOND) /* open for as long as it takes to come to the next state */

static struct breaker_rig rig;
static struct rig_worker *const first = &rig.worker[0], *const second = &rig.worker[1], *const third = &rig.worker[2];

static void begin_with(size_t workers, int64_t open_for, int64_t probes, int64_t flush)
{
	breaker_rig_begin(&rig, &(struct breaker_rig_options){ .workers = workers,
							       .rule = breaker_rig_rule(open_for, probes),
							       .flush = flush });
}

static int end(void **state)
{
	(void)state;
	breaker_rig_end(&rig);
	return 0;
}

/* All workers know that it is half open. */
static void until_half_open(void)
{
	breaker_rig_fail(first, 3);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	breaker_rig_until_all(&rig, BREAKER_HALF_OPEN);
}

/* ---- counting -------------------------------------------------------------------------------- */

static void one_reports_and_all_are_told(void **state)
{
	(void)state;
	begin_with(3, LONG_TIME, 2, 20 * CLOCK_SECOND);
	clock_test_set(clock_now(), clock_unix()); /* no tick tells it */
	unsigned reports = second->answers[BREAKER_REPORT];
	assert_int_equal(breaker_gate(second->breaker), BREAKER_PASS);
	breaker_rig_fail(first, 3); /* three in a row: not for the next flush to say */
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(breaker_gate(rig.worker[i].breaker), BREAKER_STOP);
		assert_in_range(breaker_wait(rig.worker[i].breaker), 1, LONG_TIME);
		RIG_UNTIL(&rig, rig.worker[i].changes > 0);
	}
	assert_int_equal(second->answers[BREAKER_REPORT], reports);
	clock_test_release();
	RIG_UNTIL(&rig, first->tripped > 0);
	assert_int_equal(first->tripped, 1);
	assert_int_equal(second->tripped + third->tripped, 0);
	assert_int_equal(breaker_rig_logged(&rig, "\"event\":\"breaker\""), 3); /* one line of each */
	assert_int_equal(breaker_rig_logged(&rig, "\"from\":\"closed\",\"to\":\"open\",\"why\":\"failures in a row\","
						  "\"in_a_row\":3"),
			 3);
}

static void counts_of_all_add_up(void **state)
{
	int64_t calls = 0;
	(void)state;
	begin_with(3, LONG_TIME, 2, 0);
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < 3; i++) { /* six of fifteen fail, never three in a row */
			struct breaker *b = rig.worker[i].breaker;
			breaker_note(b, BREAKER_SUCCESS, false);
			if (round < 2)
				breaker_note(b, BREAKER_FAILURE, false);
			calls += round < 2 ? 2 : 1;
			RIG_UNTIL(&rig, breaker_rig_look(&rig.worker[i]).calls == calls);
		}
	struct breaker_view view = breaker_rig_look(third);
	assert_int_equal(view.calls, 15);
	assert_int_equal(view.failed, 6);
	assert_int_equal(view.state, BREAKER_CLOSED);
}

/* Five that have failed do not count as calls twice: their heads had come. */
static void a_stream_that_breaks_counts_once(void **state)
{
	(void)state;
	begin_with(1, LONG_TIME, 2, 0);
	for (int i = 0; i < 5; i++) {
		breaker_note(first->breaker, BREAKER_SUCCESS, false);
		breaker_note(first->breaker, BREAKER_FAILURE, true);
		breaker_note(first->breaker, BREAKER_SUCCESS, false);
	}
	RIG_UNTIL(&rig, breaker_rig_look(first).calls == 10);
	assert_int_equal(breaker_rig_look(first).failed, 5);
	assert_int_equal(breaker_rig_state(first), BREAKER_CLOSED);
	breaker_note(first->breaker, BREAKER_FAILURE, true);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
}

static void slow_streams_open_it(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	for (int i = 0; i < 594; i++)
		breaker_first_byte(first->breaker, CLOCK_SECOND, true);
	for (int i = 0; i < 100; i++)
		breaker_first_byte(first->breaker, CLOCK_SECOND, false); /* they left too early to say anything */
	for (int i = 0; i < 6; i++)
		breaker_first_byte(first->breaker, CLOCK_SECOND + 1, i % 2 == 0);
	RIG_UNTIL(&rig, breaker_rig_look(first).first_bytes == 600);
	assert_int_equal(breaker_rig_look(first).slow, 6); /* one in a hundred is not more */
	assert_int_equal(breaker_rig_state(first), BREAKER_CLOSED);
	breaker_first_byte(second->breaker, CLOCK_SECOND + 1, true);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	assert_int_equal(breaker_rig_logged(&rig, "\"why\":\"slow\",\"first_bytes\":601,\"slow\":7"), 2);
}

static void closed_and_quiet_it_costs_nothing(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	unsigned answers = first->answers[BREAKER_REPORT];
	clock_test_set(clock_now(), clock_unix()); /* or it would be read now and then, on a slow machine */
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(breaker_gate(first->breaker), BREAKER_PASS);
		assert_int_equal(breaker_paused(first->breaker, SLICE("pro")), 0);
		breaker_note(first->breaker, BREAKER_SUCCESS, false);
	}
	clock_test_advance(CLOCK_SECOND / 2);
	RIG_UNTIL(&rig, breaker_rig_look(first).calls == 1000);
	assert_int_equal(first->answers[BREAKER_REPORT], answers + 1);
	clock_test_release();
}

/* It has heard nothing, and lost nothing: it is read again when it is looked at, and nobody is held up. */
static void who_was_deaf_reads_it_when_it_is_looked_at(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	second->deaf = true;
	breaker_rig_fail(first, 3);
	RIG_UNTIL(&rig, breaker_rig_state(first) == BREAKER_OPEN);
	assert_int_equal(breaker_gate(second->breaker), BREAKER_PASS);
	RIG_UNTIL(&rig, breaker_gate(second->breaker) == BREAKER_STOP);
	/* And what is open is read again by itself. */
	breaker_force(first->breaker, BREAKER_FORCED_CLOSED, NULL, NULL);
	RIG_UNTIL(&rig, second->changes >= 2); /* nobody looks at it */
	assert_int_equal(breaker_gate(second->breaker), BREAKER_PASS);
}

static void a_broken_subscription_has_all_read_again(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	second->deaf = true;
	breaker_rig_fail(first, 3);
	RIG_UNTIL(&rig, breaker_rig_state(first) == BREAKER_OPEN);
	breakers_missed(second->breakers);
	RIG_UNTIL(&rig, breaker_rig_state(second) == BREAKER_OPEN);
	assert_int_equal(breaker_rig_logged(&rig, "\"why\":\"as Redis says\""), 1);
}

static void a_newcomer_reads_it_at_once(void **state)
{
	const struct breaker_rule rule = breaker_rig_rule(LONG_TIME, 2);
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	breaker_rig_fail(first, 3);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	struct breaker *again = breaker_hold(second->breakers, SLICE("up"), &rule);
	assert_ptr_equal(again, second->breaker);
	breaker_release(&second->breaker);
	assert_null(second->breaker);
	breaker_release(&again);
	breaker_rig_turn(&rig); /* it has gone */
	second->breaker = breaker_hold(second->breakers, SLICE("up"), &rule);
	assert_int_equal(breaker_gate(second->breaker), BREAKER_PASS);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
}

static void words_that_are_not_ours_are_ignored(void **state)
{
	static const char *const words[] = { "",
					     "b",
					     "b 1 2 3",
					     "b 3 9 9 9 0 1 0 0 0 0 0 up",
					     "p 5 99 up",
					     "p 5 2",
					     "b 1 x 1 1 0 1 0 0 0 0 0 up",
					     "b 1 -5 1 1 0 1 0 0 0 0 0 up",
					     "b 1 9 9 9 0 1 0 0 0 0 0 another",
					     "b 1 9 9223372036854775807 1 0 1 0 0 0 0 0 up" };
	(void)state;
	begin_with(1, LONG_TIME, 2, 0);
	for (size_t i = 0; i < ARRAY_LENGTH(words); i++)
		breakers_hint(first->breakers, slice_of(words[i]));
	assert_int_equal(breaker_rig_state(first), BREAKER_CLOSED);
	breakers_hint(first->breakers, SLICE("b 1 9 1000000 1 0 1 12 9 0 0 0 up"));
	assert_int_equal(breaker_rig_state(first), BREAKER_OPEN);
	assert_int_equal(breaker_rig_look(first).failed, 9);
	breakers_hint(first->breakers, SLICE("b 0 8 0 0 0 6 0 0 0 0 0 up")); /* older */
	assert_int_equal(breaker_rig_state(first), BREAKER_OPEN);
	RIG_UNTIL(&rig, breaker_rig_state(first) == BREAKER_CLOSED); /* it was a lie: Redis' answer holds */
}

/* ---- half open --------------------------------------------------------------------------------- */

static void probes_close_it(void **state)
{
	(void)state;
	begin_with(3, MOMENT, 2, 0);
	until_half_open();
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(breaker_gate(rig.worker[i].breaker), BREAKER_ASK);
		struct rig_probe *p = breaker_rig_ask(&rig.worker[i]);
		breaker_rig_answer(p);
		assert_true(p->granted);
		breaker_probe_end(&p->probe, BREAKER_SUCCESS);
	}
	breaker_rig_until_all(&rig, BREAKER_CLOSED);
	assert_int_equal(breaker_rig_look(third).trips, 0);
	assert_int_equal(breaker_rig_look(third).calls, 0);
	RIG_UNTIL(&rig, breaker_rig_logged(&rig, "\"why\":\"the probes went well\"") == 3);
	assert_int_equal(breaker_rig_logged(&rig, "\"why\":\"its time was over\""), 3);
}

/* Long streams do not keep a target half open that answers well again; one that breaks off behind that is a failure of the closed one. */
static void probes_that_go_well_close_it_before_they_end(void **state)
{
	struct rig_probe *p[2];
	(void)state;
	begin_with(3, MOMENT, 2, 0);
	until_half_open();
	for (size_t i = 0; i < 2; i++) {
		p[i] = breaker_rig_ask(&rig.worker[i]);
		breaker_rig_answer(p[i]);
		assert_true(p[i]->granted);
		breaker_probe_well(p[i]->probe);
	}
	breaker_rig_until_all(&rig, BREAKER_CLOSED);
	assert_int_equal(breaker_rig_tickets(&rig), 2);
	breaker_probe_end(&p[0]->probe, BREAKER_SUCCESS);
	breaker_probe_end(&p[1]->probe, BREAKER_FAILURE);
	breaker_rig_until_returned(&rig);
	assert_int_equal(breaker_rig_tickets(&rig), 0);
	RIG_UNTIL(&rig, breaker_rig_look(second).failed == 1);
	assert_int_equal(breaker_rig_state(third), BREAKER_CLOSED);
}

static void a_probe_that_fails_opens_it_again(void **state)
{
	(void)state;
	begin_with(2, MOMENT, 2, 0);
	until_half_open();
	RIG_UNTIL(&rig, first->tripped == 1);
	struct rig_probe *p = breaker_rig_ask(second);
	breaker_rig_answer(p);
	assert_true(p->granted);
	breaker_probe_end(&p->probe, BREAKER_UNREACHABLE);
	RIG_UNTIL(&rig, breaker_rig_look(first).trips == 2 && second->tripped == 1);
	breaker_rig_until_all(&rig, BREAKER_HALF_OPEN);
}

static void a_denied_asking_stops_the_gate_for_a_while(void **state)
{
	(void)state;
	begin_with(2, MOMENT, 1, 0);
	until_half_open();
	struct rig_probe *p = breaker_rig_ask(first), *q;
	assert_int_equal(breaker_gate(first->breaker), BREAKER_STOP); /* one asks already */
	assert_in_range(breaker_wait(first->breaker), 1, 100 * CLOCK_MILLISECOND);
	breaker_rig_answer(p);
	assert_true(p->granted);
	q = breaker_rig_ask(first); /* all the same */
	breaker_rig_answer(q);
	assert_false(q->granted);
	breaker_probe_end(&q->probe, BREAKER_NOTHING);
	q = breaker_rig_ask(second);
	breaker_rig_answer(q);
	assert_false(q->granted);
	assert_int_equal(breaker_gate(second->breaker), BREAKER_STOP);
	assert_in_range(breaker_wait(second->breaker), 1, 100 * CLOCK_MILLISECOND);
	breaker_probe_end(&q->probe, BREAKER_NOTHING);
	assert_int_equal(breakers_unfinished(second->breakers), 0);
	breaker_probe_end(&p->probe, BREAKER_NOTHING);
	RIG_UNTIL(&rig, breaker_gate(second->breaker) == BREAKER_ASK);
	assert_int_equal(breaker_rig_state(second), BREAKER_HALF_OPEN); /* nothing was learnt */
}

static void ended_before_it_is_answered(void **state)
{
	(void)state;
	begin_with(1, MOMENT, 3, 0);
	until_half_open();
	for (int round = 0; round < 40; round++) {
		struct rig_probe *p = breaker_rig_ask(first);
		for (int turns = round % 4; turns > 0 && !p->told; turns--)
			loop_turn(rig.loop, false);
		breaker_probe_end(&p->probe, BREAKER_SUCCESS);
		assert_null(p->probe);
		if (breaker_rig_state(first) == BREAKER_CLOSED)
			until_half_open();
	}
	breaker_rig_until_returned(&rig);
	assert_int_equal(breaker_rig_tickets(&rig), 0);
}

/* It has been closed by others, and this one has not heard it: a call as any other. */
static void closed_meanwhile_no_ticket_is_needed(void **state)
{
	(void)state;
	begin_with(2, MOMENT, 1, 0);
	until_half_open();
	second->deaf = true;
	struct rig_probe *p = breaker_rig_ask(first);
	breaker_rig_answer(p);
	breaker_probe_end(&p->probe, BREAKER_SUCCESS);
	RIG_UNTIL(&rig, breaker_rig_state(first) == BREAKER_CLOSED);
	if (breaker_gate(second->breaker) == BREAKER_ASK) {
		p = breaker_rig_ask(second);
		breaker_rig_answer(p);
		assert_true(p->granted);
		breaker_probe_end(&p->probe, BREAKER_FAILURE);
		RIG_UNTIL(&rig, breaker_rig_look(second).failed == 1);
		assert_int_equal(breaker_rig_state(second), BREAKER_CLOSED);
	}
	assert_int_equal(breakers_unfinished(second->breakers), 0);
}

/* Three workers ask, give back, die and stand still at random: at no moment are there more tickets than probes. */
static void never_more_at_once_than_probes(void **state)
{
	uint64_t chance = 4711;
	unsigned granted = 0, denied = 0, most = 0;
	(void)state;
	begin_with(3, MOMENT, 2, 0);
	until_half_open();
	for (int step = 0; step < 1500; step++) {
		struct rig_probe *p = &rig.probe[random_below(&chance, RIG_PROBES)];
		if (p->probe == NULL) {
			breaker_rig_ask(&rig.worker[random_below(&chance, 3)]);
		} else if (p->told || random_below(&chance, 4) == 0) {
			granted += p->told && p->granted;
			denied += p->told && !p->granted;
			p->granted = false;
			breaker_probe_end(&p->probe, BREAKER_NOTHING);
		}
		loop_turn(rig.loop, random_below(&chance, 3) == 0);
		unsigned held = breaker_rig_held(&rig);
		most = held > most ? held : most;
		assert_true(held <= 2);
		assert_true(breaker_rig_tickets(&rig) <= 2);
		assert_int_equal(breaker_rig_state(first), BREAKER_HALF_OPEN);
	}
	assert_int_equal(most, 2);
	assert_true(granted > 100 && denied > 100);
	print_message("%u granted, %u denied\n", granted, denied);
}

static void a_dead_worker_frees_its_place_and_a_stopped_one_does_not(void **state)
{
	struct rig_probe *p[2], *q;
	(void)state;
	begin_with(3, MOMENT, 2, 0);
	until_half_open();
	for (int i = 0; i < 2; i++) {
		p[i] = breaker_rig_ask(&rig.worker[i]);
		breaker_rig_answer(p[i]);
		assert_true(p[i]->granted);
	}
	q = breaker_rig_ask(third); /* both live, if only as stopped ones do: they do nothing */
	breaker_rig_answer(q);
	assert_false(q->granted);
	breaker_probe_end(&q->probe, BREAKER_NOTHING);
	breaker_rig_bury(first);
	while (redis_server_int(rig.server, "PUBLISH sluice:w:0 there?") != 0) /* until Redis knows */
		;
	RIG_UNTIL(&rig, breaker_gate(third->breaker) == BREAKER_ASK);
	q = breaker_rig_ask(third);
	breaker_rig_answer(q);
	assert_true(q->granted);
	assert_int_equal(breaker_rig_tickets(&rig), 2);
}

/* ---- pauses --------------------------------------------------------------------------------------- */

static void a_pause_is_here_at_once_and_soon_everywhere(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	breaker_pause(first->breaker, SLICE("pro"), 40 * CLOCK_SECOND);
	assert_in_range(breaker_paused(first->breaker, SLICE("pro")), 30 * CLOCK_SECOND, 40 * CLOCK_SECOND);
	assert_int_equal(breaker_paused(first->breaker, SLICE("flash")), 0);
	RIG_UNTIL(&rig, breaker_paused(second->breaker, SLICE("pro")) > 0);
	assert_in_range(breaker_paused(second->breaker, SLICE("pro")), 30 * CLOCK_SECOND, 40 * CLOCK_SECOND);
	breaker_pause(second->breaker, SLICE("pro"), CLOCK_SECOND); /* shorter: nothing */
	assert_true(breaker_paused(second->breaker, SLICE("pro")) > 30 * CLOCK_SECOND);
	breaker_pause(second->breaker, SLICE("pro"), 1000 * CLOCK_HOUR);
	RIG_UNTIL(&rig, breaker_paused(first->breaker, SLICE("pro")) > CLOCK_HOUR);
	assert_in_range(breaker_paused(first->breaker, SLICE("pro")), 24 * CLOCK_HOUR, 25 * CLOCK_HOUR);
	assert_int_equal(breaker_gate(first->breaker), BREAKER_PASS); /* it says nothing of health */
	for (int i = 0; i < 100; i++)
		breaker_rig_turn(&rig);
	assert_int_equal(first->answers[BREAKER_PAUSE] + second->answers[BREAKER_PAUSE], 2); /* nobody echoes */
}

static void sum_up(void *arg, struct slice model, int64_t left)
{
	unsigned *count = arg;
	assert_true(model.len > 0 && left > 0);
	++*count;
}

/* One that comes later, or was deaf, reads them all. */
static void a_newcomer_reads_all_pauses(void **state)
{
	const struct breaker_rule rule = breaker_rig_rule(LONG_TIME, 2);
	unsigned count = 0;
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	second->deaf = true;
	breaker_pause(first->breaker, SLICE("pro"), 40 * CLOCK_SECOND);
	breaker_pause(first->breaker, SLICE("flash"), 30 * CLOCK_SECOND);
	RIG_UNTIL(&rig, first->answers[BREAKER_PAUSE] == 2);
	breaker_release(&second->breaker);
	breaker_rig_turn(&rig);
	second->breaker = breaker_hold(second->breakers, SLICE("up"), &rule);
	RIG_UNTIL(&rig, breaker_paused(second->breaker, SLICE("flash")) > 0);
	breaker_pauses(second->breaker, sum_up, &count);
	assert_int_equal(count, 2);
}

static void pauses_are_bounded(void **state)
{
	char model[16];
	unsigned count = 0;
	(void)state;
	begin_with(1, LONG_TIME, 2, 0);
	for (int i = 0; i < 1010; i++) {
		snprintf(model, sizeof(model), "m%d", i);
		breaker_pause(first->breaker, slice_of(model), (100 + i) * CLOCK_SECOND);
	}
	breaker_pauses(first->breaker, sum_up, &count);
	assert_int_equal(count, 1000);
	assert_int_equal(breaker_paused(first->breaker, SLICE("m9")), 0);
	assert_true(breaker_paused(first->breaker, SLICE("m10")) > 0);
}

/* ---- by hand ------------------------------------------------------------------------------------------ */

static void on_forced(void *arg, bool taken)
{
	int *told = arg;
	*told = taken ? 1 : 2;
}

static void forced_for_all(void **state)
{
	int told = 0;
	(void)state;
	begin_with(2, LONG_TIME, 2, 0);
	breaker_force(first->breaker, BREAKER_FORCED_OPEN, on_forced, &told);
	assert_int_equal(told, 0);
	RIG_UNTIL(&rig, told != 0 && breaker_rig_look(second).force == BREAKER_FORCED_OPEN);
	assert_int_equal(told, 1);
	assert_int_equal(breaker_gate(second->breaker), BREAKER_STOP);
	assert_int_equal(breaker_wait(second->breaker), LONG_TIME);
	breaker_force(second->breaker, BREAKER_FORCED_CLOSED, NULL, NULL);
	RIG_UNTIL(&rig, breaker_rig_look(first).force == BREAKER_FORCED_CLOSED);
	breaker_rig_fail(first, 20);
	RIG_UNTIL(&rig, breaker_rig_look(first).failed == 20);
	assert_int_equal(breaker_gate(first->breaker), BREAKER_PASS); /* counted, not judged */
	breaker_force(second->breaker, BREAKER_AUTO, NULL, NULL);
	RIG_UNTIL(&rig, breaker_rig_look(first).force == BREAKER_AUTO);
	breaker_rig_fail(first, 1);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	RIG_UNTIL(&rig, breaker_rig_logged(&rig, "\"to\":\"closed\",\"force\":\"auto\",\"why\":\"forced\"") == 2);
}

/* ---- many --- */

/* Each its own; what they have to say goes out together. And who holds one with another rule has it judged by that from then on. */
static void each_of_many_stands_for_itself(void **state)
{
	enum { MANY = 40 };
	struct breaker_rule rule = breaker_rig_rule(LONG_TIME, 2);
	struct breaker *many[MANY], *again;
	char name[24];
	(void)state;
	begin_with(1, LONG_TIME, 2, 0);
	first->any = true;
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "up }{ %d", i);
		many[i] = breaker_hold(first->breakers, slice_of(name), &rule);
		assert_true(slice_equal(breaker_name(many[i]), slice_of(name)));
	}
	for (int i = 0; i < MANY; i++)
		for (int times = 0; times < (i % 2 == 0 ? 3 : 2); times++)
			breaker_note(many[i], BREAKER_UNREACHABLE, false);
	RIG_UNTIL(&rig, first->changes == MANY / 2);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(breaker_gate(many[i]), i % 2 == 0 ? BREAKER_STOP : BREAKER_PASS);
	rule.failures = 0;
	rule.unreachable = 4;
	again = breaker_hold(first->breakers, breaker_name(many[1]), &rule);
	breaker_note(many[1], BREAKER_UNREACHABLE, false); /* the third; by the new rule one too few */
	struct breaker_view view;
	do {
		breaker_rig_turn(&rig);
		breaker_look(many[1], &view);
	} while (view.failed < 3);
	assert_int_equal(view.state, BREAKER_CLOSED);
	breaker_note(many[1], BREAKER_UNREACHABLE, false);
	RIG_UNTIL(&rig, breaker_gate(many[1]) == BREAKER_STOP);
	breaker_release(&again);
	for (int i = 0; i < MANY; i++)
		breaker_release(&many[i]);
}

/* ---- the end --------------------------------------------------------------------------------------------- */

static void freed_with_everything_on_its_way(void **state)
{
	int told = 0;
	(void)state;
	begin_with(2, MOMENT, 2, 0);
	breaker_force(first->breaker, BREAKER_AUTO, on_forced, &told); /* Redis has the script from here on */
	RIG_UNTIL(&rig, told != 0);
	told = 0;
	until_half_open();
	redis_server_pause(rig.server);
	struct rig_probe *p = breaker_rig_ask(first);
	breaker_pause(first->breaker, SLICE("pro"), CLOCK_SECOND);
	breaker_force(first->breaker, BREAKER_FORCED_OPEN, on_forced, &told);
	breakers_missed(first->breakers);
	for (int i = 0; i < 10; i++)
		loop_turn(rig.loop, false); /* it has been written */
	breaker_probe_end(&p->probe, BREAKER_SUCCESS);
	assert_int_equal(breakers_unfinished(first->breakers), 1);
	breaker_release(&first->breaker);
	breakers_free(&first->breakers);
	assert_null(first->breakers);
	assert_int_equal(told, 2); /* nobody will hear it any more */
	told = 0;
	redis_server_resume(rig.server);
	RIG_UNTIL(&rig, breaker_rig_look(second).force == BREAKER_FORCED_OPEN); /* it had been sent */
	assert_int_equal(told, 0);
	breakers_free(&first->breakers); /* NULL inside */
	breaker_rig_bury(first);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, end)
	const struct CMUnitTest tests[] = {
		TEST(one_reports_and_all_are_told),
		TEST(counts_of_all_add_up),
		TEST(a_stream_that_breaks_counts_once),
		TEST(slow_streams_open_it),
		TEST(closed_and_quiet_it_costs_nothing),
		TEST(who_was_deaf_reads_it_when_it_is_looked_at),
		TEST(a_broken_subscription_has_all_read_again),
		TEST(a_newcomer_reads_it_at_once),
		TEST(words_that_are_not_ours_are_ignored),
		TEST(probes_close_it),
		TEST(probes_that_go_well_close_it_before_they_end),
		TEST(a_probe_that_fails_opens_it_again),
		TEST(a_denied_asking_stops_the_gate_for_a_while),
		TEST(ended_before_it_is_answered),
		TEST(closed_meanwhile_no_ticket_is_needed),
		TEST(never_more_at_once_than_probes),
		TEST(a_dead_worker_frees_its_place_and_a_stopped_one_does_not),
		TEST(a_pause_is_here_at_once_and_soon_everywhere),
		TEST(a_newcomer_reads_all_pauses),
		TEST(pauses_are_bounded),
		TEST(forced_for_all),
		TEST(each_of_many_stands_for_itself),
		TEST(freed_with_everything_on_its_way),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}

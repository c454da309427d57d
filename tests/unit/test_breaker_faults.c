/* lib/breaker when replies are dropped, connections cut, and Redis stopped or killed: no ticket is lost or given back twice, each worker goes on by what it
 * knows, and when Redis is back its state holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/breaker_rig.h"
#include "tests/support/random.h"

#define LONG_TIME (20 * CLOCK_SECOND)
#define MOMENT    (30 * CLOCK_MILLISECOND)
#define PATIENT   (300 * CLOCK_MILLISECOND) /* of one call */

static struct breaker_rig rig;
static struct rig_worker *const first = &rig.worker[0], *const second = &rig.worker[1];

static void begin_with(size_t workers, int64_t open_for, int64_t probes)
{
	breaker_rig_begin(&rig, &(struct breaker_rig_options){ .workers = workers,
							       .rule = breaker_rig_rule(open_for, probes),
							       .timeout = PATIENT,
							       .proxied = true });
}

static int end(void **state)
{
	(void)state;
	breaker_rig_end(&rig);
	return 0;
}

static void until_half_open(void)
{
	breaker_rig_fail(first, 3);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	breaker_rig_until_all(&rig, BREAKER_HALF_OPEN);
}

static bool is_alone(const struct rig_worker *w)
{
	return breaker_rig_look(w).alone;
}

/* A ticket of Redis, not one of its own. */
static struct rig_probe *hold(struct rig_worker *w)
{
	struct rig_probe *p;
	RIG_UNTIL(&rig, !is_alone(w) && breaker_gate(w->breaker) == BREAKER_ASK);
	p = breaker_rig_ask(w);
	breaker_rig_answer(p);
	assert_true(p->granted && !is_alone(w));
	return p;
}

static int64_t went_well(void)
{
	int64_t good = redis_server_int(rig.server, "HGET sluice:{b:up}:s good");
	return good < 0 ? 0 : good;
}

/* ---- tickets ------------------------------------------------------------------------------------- */

static void a_return_is_repeated_and_counts_once(void **state)
{
	(void)state;
	begin_with(1, MOMENT, 100);
	until_half_open();
	for (int round = 1; round <= 15; round++) {
		struct rig_probe *p = hold(first);
		uint64_t dropped = fault_proxy_count(first->proxy, "dropped");
		fault_proxy_tell(first->proxy, "drop-reply-every 1");
		breaker_probe_end(&p->probe, BREAKER_SUCCESS);
		RIG_UNTIL(&rig, fault_proxy_count(first->proxy, "dropped") >= dropped + 2);
		assert_int_equal(breakers_unfinished(first->breakers), 1);
		fault_proxy_tell(first->proxy, "drop-reply-every 0");
		breaker_rig_until_returned(&rig);
		assert_int_equal(went_well(), round);
		assert_int_equal(breaker_rig_tickets(&rig), 0);
	}
}

/* Redis gave it, and nobody heard so: this worker went on alone with one of its own, and both come back. */
static void a_grant_that_was_not_heard_comes_back(void **state)
{
	(void)state;
	begin_with(1, MOMENT, 100);
	until_half_open();
	breaker_probe_end(&hold(first)->probe, BREAKER_NOTHING); /* Redis has the script from here on */
	breaker_rig_until_returned(&rig);
	for (int round = 0; round < 10; round++) {
		RIG_UNTIL(&rig, !is_alone(first) && breaker_gate(first->breaker) == BREAKER_ASK);
		fault_proxy_tell(first->proxy, "drop-reply-every 1");
		struct rig_probe *p = breaker_rig_ask(first);
		breaker_rig_answer(p);
		assert_true(p->granted && is_alone(first));
		assert_int_equal(breaker_rig_tickets(&rig), 1);
		fault_proxy_tell(first->proxy, "drop-reply-every 0");
		breaker_probe_end(&p->probe, BREAKER_SUCCESS);
		assert_int_equal(breakers_unfinished(first->breakers), 1);
		breaker_rig_until_returned(&rig);
		assert_int_equal(breaker_rig_tickets(&rig), 0);
		assert_int_equal(went_well(), 0); /* Redis did not give that one */
	}
}

/* The asking is held up on its way, and comes behind its return: it must not get a ticket that nobody gives back. */
static void an_asking_that_is_overtaken_gets_nothing(void **state)
{
	(void)state;
	begin_with(1, MOMENT, 2);
	until_half_open();
	RIG_UNTIL(&rig, breaker_gate(first->breaker) == BREAKER_ASK);
	redis_server_pause(rig.server);
	struct rig_probe *p = breaker_rig_ask(first);
	breaker_rig_answer(p); /* nothing came: the connection is cut, what was sent lies with Redis */
	breaker_probe_end(&p->probe, BREAKER_NOTHING);
	redis_server_resume(rig.server);
	breaker_rig_until_returned(&rig);
	RIG_UNTIL(&rig, !is_alone(first));
	assert_int_equal(breaker_rig_tickets(&rig), 0);
}

static void lost_replies_neither_leak_nor_double(void **state)
{
	static const char *const faults[] = { "drop-reply-every 7", "error-every 5 ERR made up", "cut-after 900" };
	uint64_t chance = 815;
	(void)state;
	begin_with(3, MOMENT, 2);
	until_half_open();
	for (int step = 0; step < 1200; step++) {
		struct rig_worker *w = &rig.worker[random_below(&chance, 3)];
		struct rig_probe *p = &rig.probe[random_below(&chance, RIG_PROBES)];
		if (step % 40 == 0) {
			fault_proxy_tell(w->proxy, "drop-reply-every 0");
			fault_proxy_tell(w->proxy, "error-every 0");
			fault_proxy_tell(w->proxy, "%s", faults[random_below(&chance, 3)]);
		}
		if (p->probe == NULL)
			breaker_rig_ask(w);
		else if (p->told || random_below(&chance, 6) == 0)
			breaker_probe_end(&p->probe, BREAKER_NOTHING);
		loop_turn(rig.loop, random_below(&chance, 3) == 0);
		assert_true(breaker_rig_tickets(&rig) <= 2);
	}
	for (size_t i = 0; i < 3; i++) {
		fault_proxy_tell(rig.worker[i].proxy, "drop-reply-every 0");
		fault_proxy_tell(rig.worker[i].proxy, "error-every 0");
	}
	for (size_t i = 0; i < RIG_PROBES; i++)
		breaker_probe_end(&rig.probe[i].probe, BREAKER_NOTHING);
	breaker_rig_until_returned(&rig);
	assert_int_equal(breaker_rig_tickets(&rig), 0);
	assert_int_equal(breaker_rig_logged(&rig, "breaker.abandoned"), 0);
	RIG_UNTIL(&rig, !is_alone(first) && !is_alone(second));
}

static void a_return_is_given_up_when_its_ticket_has_run_out(void **state)
{
	(void)state;
	begin_with(1, MOMENT, 2);
	until_half_open();
	struct rig_probe *p = hold(first);
	redis_server_kill(rig.server);
	breaker_probe_end(&p->probe, BREAKER_SUCCESS);
	for (int i = 0; i < 20; i++)
		breaker_rig_turn(&rig);
	assert_int_equal(breakers_unfinished(first->breakers), 1);
	clock_test_set(clock_now() + RIG_LASTS, clock_unix());
	while (breakers_unfinished(first->breakers) > 0)
		loop_turn(rig.loop, true);
	clock_test_release();
	assert_int_equal(breaker_rig_logged(&rig, "breaker.abandoned"), 1);
}

/* ---- alone ------------------------------------------------------------------------------------------- */

static void alone_it_judges_by_the_same_rule(void **state)
{
	struct rig_probe *p[3];
	(void)state;
	begin_with(2, MOMENT, 2);
	for (int i = 0; i < 4; i++) { /* what it counted before counts */
		breaker_note(first->breaker, BREAKER_SUCCESS, false);
		breaker_note(first->breaker, BREAKER_FAILURE, false);
	}
	RIG_UNTIL(&rig, breaker_rig_look(first).calls == 8);
	redis_server_kill(rig.server);
	breaker_note(first->breaker, BREAKER_SUCCESS, false);
	RIG_UNTIL(&rig, is_alone(first));
	assert_int_equal(breaker_rig_look(first).calls, 9);
	assert_int_equal(breaker_gate(first->breaker), BREAKER_PASS);
	breaker_rig_fail(first, 2); /* six of eleven */
	assert_int_equal(breaker_gate(first->breaker), BREAKER_STOP);
	RIG_UNTIL(&rig, breaker_gate(first->breaker) == BREAKER_ASK);
	assert_int_equal(first->tripped, 1);
	assert_int_equal(breaker_rig_logged(&rig, "\"why\":\"errors\",\"calls\":11,\"failed\":6"), 1);
	for (int i = 0; i < 3; i++)
		p[i] = breaker_rig_ask(first);
	breaker_rig_answer(p[2]);
	assert_true(p[0]->granted && p[1]->granted && !p[2]->granted);
	breaker_probe_end(&p[2]->probe, BREAKER_NOTHING);
	breaker_probe_end(&p[0]->probe, BREAKER_SUCCESS);
	assert_int_equal(breaker_rig_state(first), BREAKER_HALF_OPEN);
	breaker_probe_end(&p[1]->probe, BREAKER_SUCCESS);
	assert_int_equal(breaker_gate(first->breaker), BREAKER_PASS);
	assert_int_equal(breakers_unfinished(first->breakers), 0);
	RIG_UNTIL(&rig, breaker_rig_logged(&rig, "\"why\":\"the probes went well\"") == 1);
	assert_int_equal(breaker_gate(second->breaker), BREAKER_PASS); /* it judges for itself */
	redis_server_restart(rig.server);
	RIG_UNTIL(&rig, !is_alone(first));
	assert_int_equal(breaker_rig_state(first), BREAKER_CLOSED);
}

static void when_redis_is_back_its_state_holds(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2);
	fault_proxy_tell(first->proxy, "stall on");
	breaker_note(first->breaker, BREAKER_SUCCESS, false);
	RIG_UNTIL(&rig, is_alone(first));
	breaker_rig_fail(first, 3);
	assert_int_equal(breaker_rig_state(first), BREAKER_OPEN);
	assert_int_equal(breaker_rig_state(second), BREAKER_CLOSED);
	fault_proxy_tell(first->proxy, "stall off");
	RIG_UNTIL(&rig, !is_alone(first));
	assert_int_equal(breaker_rig_state(first), BREAKER_CLOSED);
	breaker_rig_fail(first, 3); /* and from here on it is the fleet's */
	breaker_rig_until_all(&rig, BREAKER_OPEN);
}

/* Nothing that was known there is left: no worker stays in what nobody can end. */
static void redis_comes_back_empty(void **state)
{
	(void)state;
	begin_with(3, LONG_TIME, 2);
	breaker_rig_fail(first, 3);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	redis_server_kill(rig.server);
	RIG_UNTIL(&rig, is_alone(first) && is_alone(second) && is_alone(&rig.worker[2]));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(breaker_gate(rig.worker[i].breaker), BREAKER_STOP); /* it still knows */
	redis_server_restart(rig.server);
	breaker_rig_until_all(&rig, BREAKER_CLOSED);
	RIG_UNTIL(&rig, !is_alone(first));
	breaker_rig_fail(first, 3);
	breaker_rig_until_all(&rig, BREAKER_OPEN);
}

static void what_was_forced_is_told_to_an_empty_redis(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2);
	breaker_force(first->breaker, BREAKER_FORCED_OPEN, NULL, NULL);
	RIG_UNTIL(&rig, breaker_rig_look(second).force == BREAKER_FORCED_OPEN);
	redis_server_restart(rig.server);
	while (redis_server_int(rig.server, "HGET sluice:{b:up}:s force") != BREAKER_FORCED_OPEN) {
		breaker_rig_turn(&rig);
		assert_int_equal(breaker_gate(first->breaker), BREAKER_STOP);
		assert_int_equal(breaker_gate(second->breaker), BREAKER_STOP);
	}
	breaker_force(second->breaker, BREAKER_AUTO, NULL, NULL);
	RIG_UNTIL(&rig,
		  breaker_rig_look(first).force == BREAKER_AUTO && breaker_rig_look(second).force == BREAKER_AUTO);
	RIG_UNTIL(&rig, breaker_gate(first->breaker) == BREAKER_PASS);
}

/* Calls that fail meanwhile open nothing: an empty Redis hears of them and of the force at once. */
static void forced_closed_outlives_a_loss(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2);
	breaker_force(first->breaker, BREAKER_FORCED_CLOSED, NULL, NULL);
	RIG_UNTIL(&rig, breaker_rig_look(second).force == BREAKER_FORCED_CLOSED);
	redis_server_do(rig.server, "FLUSHALL");
	for (int i = 0; i < 200; i++) {
		breaker_note(first->breaker, BREAKER_FAILURE, false);
		breaker_note(second->breaker, BREAKER_FAILURE, false);
	}
	while (redis_server_int(rig.server, "HGET sluice:{b:up}:s force") != BREAKER_FORCED_CLOSED) {
		breaker_rig_turn(&rig);
		assert_int_equal(breaker_gate(first->breaker), BREAKER_PASS);
		assert_int_equal(breaker_gate(second->breaker), BREAKER_PASS);
	}
}

static void on_forced(void *arg, bool taken)
{
	int *told = arg;
	*told = taken ? 1 : 2;
}

static void a_force_that_redis_did_not_take_is_none(void **state)
{
	int told = 0;
	(void)state;
	begin_with(1, LONG_TIME, 2);
	redis_server_kill(rig.server);
	breaker_force(first->breaker, BREAKER_FORCED_OPEN, on_forced, &told);
	RIG_UNTIL(&rig, told != 0);
	assert_int_equal(told, 2);
	assert_int_equal(breaker_gate(first->breaker), BREAKER_PASS);
}

static void a_pause_is_told_when_redis_is_back(void **state)
{
	(void)state;
	begin_with(2, LONG_TIME, 2);
	redis_server_kill(rig.server);
	breaker_pause(first->breaker, SLICE("pro"), 40 * CLOCK_SECOND);
	breaker_pause(first->breaker, SLICE("flash"), MOMENT);
	assert_true(breaker_paused(first->breaker, SLICE("pro")) > 30 * CLOCK_SECOND);
	RIG_UNTIL(&rig, is_alone(first) && breaker_paused(first->breaker, SLICE("flash")) == 0);
	redis_server_restart(rig.server);
	RIG_UNTIL(&rig, breaker_paused(second->breaker, SLICE("pro")) > 30 * CLOCK_SECOND);
	assert_int_equal(redis_server_int(rig.server, "HEXISTS sluice:{b:up}:w mflash"), 0); /* it stands no more */
}

/* Both hear it late or not at all, and no gate waits for that. */
static void redis_is_stopped_for_a_while(void **state)
{
	(void)state;
	begin_with(2, MOMENT, 2);
	redis_server_pause(rig.server);
	breaker_rig_fail(first, 3);
	RIG_UNTIL(&rig, is_alone(first));
	breaker_rig_fail(first, 3); /* what the lost report said counts here, too */
	assert_true(breaker_gate(first->breaker) != BREAKER_PASS);
	RIG_UNTIL(&rig, breaker_gate(first->breaker) == BREAKER_ASK);
	redis_server_resume(rig.server);
	RIG_UNTIL(&rig, !is_alone(first) && !is_alone(second));
	RIG_UNTIL(&rig, breaker_rig_state(first) == breaker_rig_state(second));
}

static void probe_alone(void)
{
	struct rig_probe *p = breaker_rig_ask(first);
	breaker_rig_answer(p);
	assert_true(p->granted);
	breaker_probe_end(&p->probe, BREAKER_SUCCESS);
}

/* Each time that it is half open, `probes` have to go well. */
static void probes_of_an_epoch_count_in_it_alone(void **state)
{
	struct rig_probe *p;
	(void)state;
	begin_with(1, MOMENT, 3);
	until_half_open();
	fault_proxy_tell(first->proxy, "stall on");
	RIG_UNTIL(&rig, is_alone(first));
	probe_alone();
	probe_alone();
	assert_int_equal(breaker_rig_state(first), BREAKER_HALF_OPEN);
	fault_proxy_tell(first->proxy, "stall off");
	RIG_UNTIL(&rig, !is_alone(first));
	p = hold(first);
	breaker_probe_end(&p->probe, BREAKER_FAILURE); /* another epoch begins */
	breaker_rig_until_all(&rig, BREAKER_OPEN);
	breaker_rig_until_all(&rig, BREAKER_HALF_OPEN);
	fault_proxy_tell(first->proxy, "stall on");
	RIG_UNTIL(&rig, is_alone(first) && breaker_gate(first->breaker) == BREAKER_ASK);
	probe_alone();
	assert_int_equal(breaker_rig_state(first), BREAKER_HALF_OPEN);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, end)
	const struct CMUnitTest tests[] = {
		TEST(a_return_is_repeated_and_counts_once),
		TEST(a_grant_that_was_not_heard_comes_back),
		TEST(an_asking_that_is_overtaken_gets_nothing),
		TEST(lost_replies_neither_leak_nor_double),
		TEST(a_return_is_given_up_when_its_ticket_has_run_out),
		TEST(alone_it_judges_by_the_same_rule),
		TEST(when_redis_is_back_its_state_holds),
		TEST(redis_comes_back_empty),
		TEST(what_was_forced_is_told_to_an_empty_redis),
		TEST(forced_closed_outlives_a_loss),
		TEST(a_force_that_redis_did_not_take_is_none),
		TEST(a_pause_is_told_when_redis_is_back),
		TEST(redis_is_stopped_for_a_while),
		TEST(probes_of_an_epoch_count_in_it_alone),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("breaker faults", tests, NULL, NULL);
}

/* The loop: order of a turn, cancelling inside callbacks, timers, signals, posts from other threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/loop.h"

#include "lib/clock.h"
#include "lib/mem.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct step {
	struct loop_deferred deferred;
	struct rig *rig;
	char name;
	struct step *defers, *undefers;
	int again;     /* defers itself so many times more */
	int64_t takes; /* microseconds that it takes, by a clock that is the test's */
};

struct rig {
	struct loop *loop;
	char trace[64];
	struct step steps[4];
};

static void run_step(void *arg)
{
	struct step *step = arg;
	struct rig *rig = step->rig;
	rig->trace[strlen(rig->trace)] = step->name;
	if (step->takes > 0)
		clock_test_set(clock_now() + step->takes, clock_unix());
	if (step->undefers != NULL)
		loop_undefer(&step->undefers->deferred);
	if (step->defers != NULL)
		loop_defer(rig->loop, &step->defers->deferred);
	if (step->again-- > 0)
		loop_defer(rig->loop, &step->deferred);
}

static void open_rig(struct rig *rig)
{
	*rig = (struct rig){ .loop = loop_new() };
	for (size_t i = 0; i < ARRAY_LENGTH(rig->steps); i++) {
		rig->steps[i].rig = rig;
		rig->steps[i].name = (char)('a' + i);
		loop_deferred_init(&rig->steps[i].deferred, run_step, &rig->steps[i]);
	}
}

static void defer(struct rig *rig, int step)
{
	loop_defer(rig->loop, &rig->steps[step].deferred);
}

static void deferred_run_in_order_once(void **state)
{
	struct rig rig;
	(void)state;
	open_rig(&rig);
	defer(&rig, 1);
	defer(&rig, 0);
	defer(&rig, 1);
	assert_string_equal(rig.trace, ""); /* never inside the call */
	loop_turn(rig.loop, true);
	assert_string_equal(rig.trace, "ba");
	loop_turn(rig.loop, false);
	assert_string_equal(rig.trace, "ba");
	loop_free(&rig.loop);
	assert_null(rig.loop);
	loop_free(&rig.loop);
}

/* What goes on and on is no reason to let events wait: rounds end when they have taken long. */
static void deferred_work_that_takes_long_goes_on_in_the_next_turn(void **state)
{
	struct rig rig;
	(void)state;
	open_rig(&rig);
	clock_test_set(clock_now(), clock_unix());
	rig.steps[0].again = 4;
	rig.steps[0].takes = 3 * CLOCK_MILLISECOND;
	defer(&rig, 0);
	loop_turn(rig.loop, false);
	assert_string_equal(rig.trace, "aa");
	loop_turn(rig.loop, true); /* it does not wait either */
	assert_string_equal(rig.trace, "aaaa");
	rig.steps[0].takes = 0;
	loop_turn(rig.loop, false);
	assert_string_equal(rig.trace, "aaaaa");
	clock_test_release();
	loop_free(&rig.loop);
}

static void deferred_may_defer_and_undefer(void **state)
{
	struct rig rig;
	(void)state;
	open_rig(&rig);
	rig.steps[0].defers = &rig.steps[3];
	rig.steps[0].undefers = &rig.steps[1];
	defer(&rig, 0);
	defer(&rig, 1);
	defer(&rig, 2);
	loop_undefer(&rig.steps[3].deferred); /* idle: nothing happens */
	loop_turn(rig.loop, true);
	assert_string_equal(rig.trace, "acd"); /* d in the same turn, after what was there before */
	loop_free(&rig.loop);
}

static void deferring_for_ever_does_not_starve_events(void **state)
{
	struct rig rig;
	(void)state;
	open_rig(&rig);
	rig.steps[0].again = 1000000;
	rig.steps[0].name = '\0';
	defer(&rig, 0);
	loop_turn(rig.loop, true);
	assert_true(rig.steps[0].again > 0);
	int after_one = rig.steps[0].again;
	loop_turn(rig.loop, true); /* does not wait: work is left */
	assert_true(rig.steps[0].again < after_one);
	loop_undefer(&rig.steps[0].deferred);
	loop_free(&rig.loop);
}

static void freeing_runs_what_is_left(void **state)
{
	struct rig rig;
	(void)state;
	open_rig(&rig);
	rig.steps[0].defers = &rig.steps[1];
	defer(&rig, 0);
	loop_post(rig.loop, run_step, &rig.steps[2]);
	loop_free(&rig.loop);
	assert_string_equal(rig.trace, "cab");
}

struct owner {
	struct loop_deferred death;
	struct loop_timer timer;
	bool *dead;
};

static void die(void *arg)
{
	struct owner *owner = arg;
	*owner->dead = true;
	loop_timer_free(&owner->timer);
	mem_free(owner);
}

static void defer_death(void *arg)
{
	struct owner *owner = arg;
	loop_defer(owner->timer.loop, &owner->death);
}

/* The owner goes at the end of the turn in which its own timer fired. */
static void an_owner_may_die_of_its_own_events(void **state)
{
	struct loop *loop = loop_new();
	struct owner *owner = mem_new(sizeof(*owner));
	bool dead = false;
	(void)state;
	owner->dead = &dead;
	loop_deferred_init(&owner->death, die, owner);
	loop_timer_init(&owner->timer, loop, defer_death, owner);
	loop_timer_set(&owner->timer, 0);
	loop_turn(loop, true);
	assert_true(dead);
	owner = mem_new(sizeof(*owner));
	dead = false;
	owner->dead = &dead;
	loop_timer_init(&owner->timer, loop, die, owner); /* inside the timer's callback itself */
	loop_timer_set(&owner->timer, -5);
	loop_turn(loop, true);
	assert_true(dead);
	loop_free(&loop);
}

struct count {
	struct loop *loop;
	struct loop_timer timer, *clears;
	int runs, again;
};

static void count_run(void *arg)
{
	struct count *count = arg;
	count->runs++;
	if (count->clears != NULL)
		loop_timer_clear(count->clears);
	if (count->again-- > 0)
		loop_timer_set(&count->timer, 0);
}

static void timers_fire_once_and_may_be_set_again(void **state)
{
	struct loop *loop = loop_new();
	struct count count = { .loop = loop, .again = 3 };
	(void)state;
	loop_timer_init(&count.timer, loop, count_run, &count);
	loop_timer_clear(&count.timer); /* never set: nothing happens */
	assert_false(count.timer.armed);
	loop_timer_set(&count.timer, CLOCK_HOUR);
	assert_true(count.timer.armed);
	loop_timer_set(&count.timer, 0); /* moved */
	for (int turn = 1; turn <= 4; turn++) {
		loop_turn(loop, true);
		assert_int_equal(count.runs, turn); /* set inside its callback: the next turn, not this one */
	}
	assert_false(count.timer.armed);
	loop_turn(loop, false);
	assert_int_equal(count.runs, 4);
	loop_timer_set(&count.timer, CLOCK_MILLISECOND);
	loop_timer_clear(&count.timer);
	loop_timer_free(&count.timer);
	loop_timer_free(&count.timer);
	loop_free(&loop);
}

/* Two timers that are due in one turn: the first clears the second, which then must not run. */
static void a_timer_cleared_by_another_does_not_fire(void **state)
{
	struct loop *loop = loop_new();
	struct count first = { .loop = loop }, second = { .loop = loop };
	(void)state;
	loop_timer_init(&first.timer, loop, count_run, &first);
	loop_timer_init(&second.timer, loop, count_run, &second);
	first.clears = &second.timer;
	second.clears = &first.timer;
	loop_timer_set(&first.timer, 0);
	loop_timer_set(&second.timer, 0);
	loop_turn(loop, true);
	loop_turn(loop, false);
	assert_int_equal(first.runs + second.runs, 1);
	loop_timer_free(&first.timer);
	loop_timer_free(&second.timer);
	loop_free(&loop);
}

static void a_timer_waits_its_time(void **state)
{
	struct loop *loop = loop_new();
	struct count count = { .loop = loop };
	(void)state;
	loop_timer_init(&count.timer, loop, count_run, &count);
	int64_t start = clock_now();
	loop_timer_set(&count.timer, 30 * CLOCK_MILLISECOND);
	loop_turn(loop, true);
	assert_int_equal(count.runs, 1);
	assert_true(clock_now() - start >= 20 * CLOCK_MILLISECOND);
	loop_timer_free(&count.timer);
	loop_free(&loop);
}

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

static void takes_signals(void **state)
{
	struct loop *loop = loop_new();
	(void)state;
	loop_signal(loop, SIGUSR1, stop_loop, loop);
	assert_int_equal(raise(SIGUSR1), 0);
	loop_run(loop);
	loop_free(&loop);
	loop = loop_new(); /* a second one in the same process, after the first */
	loop_signal(loop, SIGUSR2, stop_loop, loop);
	assert_int_equal(raise(SIGUSR2), 0);
	loop_run(loop);
	loop_free(&loop);
}

enum { THREADS = 4, POSTS = 5000 };

struct poster {
	pthread_t thread;
	struct loop *loop;
	int next; /* touched by the loop's thread alone */
	int *left;
};

struct message {
	struct poster *poster;
	int number;
};

static void receive(void *arg)
{
	struct message *message = arg;
	struct poster *poster = message->poster;
	assert_int_equal(message->number, poster->next++); /* in the order of posting */
	mem_free(message);
	if (--*poster->left == 0)
		loop_stop(poster->loop);
}

static void *post_many(void *arg)
{
	struct poster *poster = arg;
	for (int i = 0; i < POSTS; i++) {
		struct message *message = mem_new(sizeof(*message));
		*message = (struct message){ poster, i };
		loop_post(poster->loop, receive, message);
	}
	return NULL;
}

static void posts_arrive_from_every_thread_in_order(void **state)
{
	struct loop *loop = loop_new();
	struct poster posters[THREADS];
	int left = THREADS * POSTS;
	(void)state;
	for (int i = 0; i < THREADS; i++) {
		posters[i] = (struct poster){ .loop = loop, .left = &left };
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]), 0);
	}
	loop_run(loop);
	assert_int_equal(left, 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(posters[i].thread, NULL), 0);
	loop_free(&loop);
}

static void post_again(void *arg)
{
	struct count *count = arg;
	count->runs++;
	if (count->again-- > 0)
		loop_post(count->loop, post_again, count);
}

static void a_post_from_a_post_waits_for_the_next_turn(void **state)
{
	struct loop *loop = loop_new();
	struct count count = { .loop = loop, .again = 2 };
	(void)state;
	loop_post(loop, post_again, &count);
	assert_int_equal(count.runs, 0);
	for (int turn = 1; turn <= 3; turn++) {
		loop_turn(loop, true);
		assert_int_equal(count.runs, turn);
	}
	loop_free(&loop);
}

struct watched {
	struct event *event;
	int got;
};

static void on_readable(evutil_socket_t descriptor, short what, void *arg)
{
	struct watched *watched = arg;
	char byte;
	(void)what;
	assert_int_equal(read(descriptor, &byte, 1), 1);
	watched->got++;
}

/* The changelist: a descriptor closed and its number used again within one turn must not lose the new one's events. */
static void a_reused_descriptor_gets_its_own_events(void **state)
{
	struct loop *loop = loop_new();
	(void)state;
	for (int round = 0; round < 100; round++) {
		int ends[2];
		struct watched watched = { 0 };
		assert_int_equal(pipe(ends), 0);
		watched.event = event_new(loop_base(loop), ends[0], EV_READ | EV_PERSIST, on_readable, &watched);
		assert_int_equal(event_add(watched.event, NULL), 0);
		loop_turn(loop, false);
		assert_int_equal(watched.got, 0);
		assert_int_equal(write(ends[1], "x", 1), 1);
		loop_turn(loop, true);
		assert_int_equal(watched.got, 1);
		event_free(watched.event); /* before the close, as the loop's head comment asks */
		close(ends[0]);
		close(ends[1]);
	}
	loop_free(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deferred_run_in_order_once),
		cmocka_unit_test(deferred_work_that_takes_long_goes_on_in_the_next_turn),
		cmocka_unit_test(deferred_may_defer_and_undefer),
		cmocka_unit_test(deferring_for_ever_does_not_starve_events),
		cmocka_unit_test(freeing_runs_what_is_left),
		cmocka_unit_test(an_owner_may_die_of_its_own_events),
		cmocka_unit_test(timers_fire_once_and_may_be_set_again),
		cmocka_unit_test(a_timer_cleared_by_another_does_not_fire),
		cmocka_unit_test(a_timer_waits_its_time),
		cmocka_unit_test(takes_signals),
		cmocka_unit_test(posts_arrive_from_every_thread_in_order),
		cmocka_unit_test(a_post_from_a_post_waits_for_the_next_turn),
		cmocka_unit_test(a_reused_descriptor_gets_its_own_events),
	};
	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}

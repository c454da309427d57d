/* Places that several loops have together: after whatever was taken, given, asked for and left, the count is right, and nobody waits beside a free place. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/loop.h"
#include "lib/pool_share.h"
#include "tests/support/random.h"

enum { PARTS = 6 };

struct hall {
	struct pool_shares *shares;
	struct loop *loop;
	struct pool_ear *ears[PARTS];
	struct pool_part parts[PARTS];
	unsigned most;
	bool in[PARTS];
};

static void heard(void *arg)
{
	++*(unsigned *)arg;
}

static unsigned times;

static void join(struct hall *hall, unsigned i)
{
	pool_part_join(&hall->parts[i], pool_share_open(hall->shares, SLICE("share"), hall->most, true), hall->ears[i]);
	pool_part_size(&hall->parts[i], 0, 1, UINT32_MAX);
	hall->in[i] = true;
}

static void open_hall(struct hall *hall, unsigned most)
{
	memset(hall, 0, sizeof(*hall));
	hall->shares = pool_shares_new();
	hall->loop = loop_new();
	hall->most = most;
	for (unsigned i = 0; i < PARTS; i++) {
		hall->ears[i] = pool_ear_new(hall->shares, hall->loop, heard, &times);
		join(hall, i);
	}
}

static void close_hall(struct hall *hall)
{
	for (unsigned i = 0; i < PARTS; i++) {
		if (hall->in[i])
			pool_part_leave(&hall->parts[i]);
		pool_ear_free(&hall->ears[i]);
	}
	loop_free(&hall->loop); /* what was posted runs first */
	pool_shares_free(&hall->shares);
}

/* It does not know of its place yet when another comes to wait for one. */
static void who_has_just_been_granted_one_is_asked_too(void **state)
{
	struct hall hall;
	(void)state;
	open_hall(&hall, 1);
	assert_true(pool_part_take(&hall.parts[0], true));
	assert_false(pool_part_take(&hall.parts[1], true));
	pool_part_give(&hall.parts[0], 1);
	assert_false(pool_part_take(&hall.parts[0], true));
	assert_ptr_equal(pool_ear_granted(hall.ears[1]), &hall.parts[1]);
	assert_true(pool_part_is_asked(&hall.parts[1]));
	assert_true(pool_part_should_cede(&hall.parts[1], true, clock_now()));
	close_hall(&hall);
}

/* A reload raises `least` with `max`, and this loop has not heard yet of the larger `max`. */
static void a_size_is_bounded_by_what_is_known(void **state)
{
	struct pool_share_state read;
	struct hall hall;
	(void)state;
	open_hall(&hall, 4);
	pool_part_size(&hall.parts[0], 9, 1, UINT32_MAX);
	pool_part_read(&hall.parts[1], 0, &read);
	assert_int_equal(read.least, 4);
	assert_int_equal(read.size, 4);
	close_hall(&hall);
}

static unsigned used(struct hall *hall)
{
	for (unsigned i = 0; i < PARTS; i++)
		if (hall->in[i]) {
			struct pool_share_state state;
			pool_part_read(&hall->parts[i], 0, &state);
			return state.used;
		}
	return 0;
}

static bool somebody_waits(struct hall *hall, unsigned but)
{
	bool waits = false;
	for (unsigned i = 0; i < PARTS; i++)
		waits |= i != but && hall->in[i] && hall->parts[i].waits && !hall->parts[i].granted;
	return waits;
}

/* `forced`: more may be taken than there are. */
static void judge(struct hall *hall, bool forced)
{
	unsigned sum = 0;
	bool waits = false;
	for (unsigned i = 0; i < PARTS; i++)
		if (hall->in[i]) {
			sum += hall->parts[i].held + hall->parts[i].granted;
			waits |= hall->parts[i].waits && !hall->parts[i].granted;
		}
	assert_int_equal(used(hall), sum);
	assert_true(forced || sum <= hall->most);
	assert_true(!waits || sum >= hall->most);
	for (unsigned i = 0; i < PARTS; i++) /* or somebody waits for ever */
		assert_true(!hall->in[i] || hall->parts[i].held + hall->parts[i].granted == 0 ||
			    !somebody_waits(hall, i) || pool_part_is_asked(&hall->parts[i]));
}

static void act(struct hall *hall, uint64_t *random, bool *forced)
{
	unsigned i = (unsigned)random_below(random, PARTS);
	struct pool_part *part = &hall->parts[i];
	if (!hall->in[i]) {
		join(hall, i);
		return;
	}
	switch (random_below(random, 12)) {
	case 0:
	case 1:
	case 2:
		(void)!pool_part_take(part, random_below(random, 4) > 0);
		break;
	case 3:
	case 4:
		if (part->held > 0)
			pool_part_give(part, 1 + (unsigned)random_below(random, part->held));
		break;
	case 5:
		while (pool_ear_granted(hall->ears[i]) != NULL)
			continue;
		assert_false(part->granted || pool_ear_has_news(hall->ears[i]));
		break;
	case 6:
		pool_part_give_up(part);
		break;
	case 7:
		hall->most = 1 + (unsigned)random_below(random, 9);
		*forced = used(hall) > hall->most;
		pool_share_bound(part->share, hall->most);
		break;
	case 8:
		if (random_below(random, 4) > 0)
			break;
		pool_part_force(part);
		*forced = true;
		break;
	case 9:
		if (pool_part_should_drain(part, part->since + POOL_SHARE_TURN))
			assert_true(pool_part_should_cede(part, false, part->since + POOL_SHARE_TURN));
		if (pool_part_should_cede(part, random_below(random, 2) > 0, part->since + POOL_SHARE_TURN)) {
			assert_true(part->held > 0 && somebody_waits(hall, i));
			pool_part_give(part, 1);
		}
		break;
	case 10: /* as a pool that is closed does */
		pool_part_leave(part);
		hall->in[i] = false;
		pool_ear_free(&hall->ears[i]);
		hall->ears[i] = pool_ear_new(hall->shares, hall->loop, heard, &times);
		break;
	default:
		if (random_below(random, 8) > 0)
			break;
		pool_part_leave(part);
		hall->in[i] = false;
		break;
	}
}

static void the_count_is_right_whatever_happens(void **state)
{
	enum { ROUNDS = 30, STEPS = 4000 };
	struct hall hall;
	(void)state;
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		uint64_t random = round;
		bool forced = false;
		open_hall(&hall, 4);
		for (unsigned step = 0; step < STEPS; step++) {
			act(&hall, &random, &forced);
			forced = forced && used(&hall) > hall.most;
			judge(&hall, forced);
			if (step % 16 == 0)
				loop_turn(hall.loop, false);
		}
		close_hall(&hall);
	}
}

enum { THREADS = 4, HANDS = 20000, FEW = 3 };

struct hand {
	pthread_t thread;
	struct pool_shares *shares;
	atomic_int *taken, *most; /* by all of them now, and ever */
	unsigned had;
};

/* Takes, waits until it is granted, gives: with others at the same time. */
static void *take_and_give(void *arg)
{
	struct hand *hand = arg;
	struct loop *loop = loop_new();
	unsigned times_told = 0;
	struct pool_ear *ear = pool_ear_new(hand->shares, loop, heard, &times_told);
	struct pool_part part;
	pool_part_join(&part, pool_share_open(hand->shares, SLICE("share"), FEW, true), ear);
	pool_part_size(&part, 0, 1, UINT32_MAX);
	while (hand->had < HANDS) {
		if (!pool_part_take(&part, true)) {
			while (pool_ear_granted(ear) == NULL)
				loop_turn(loop, true); /* whoever gives it says so */
		}
		int now = atomic_fetch_add(hand->taken, 1) + 1, most = atomic_load(hand->most);
		while (now > most && !atomic_compare_exchange_weak(hand->most, &most, now))
			continue;
		hand->had++;
		if (hand->had % 8 == 0)
			sched_yield(); /* with the place in its hand: the others wait for it */
		atomic_fetch_sub(hand->taken, 1);
		pool_part_give(&part, 1);
	}
	pool_part_leave(&part);
	pool_ear_free(&ear);
	loop_free(&loop);
	return NULL;
}

static void threads_never_have_more_than_there_is(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	struct pool_share *share = pool_share_open(shares, SLICE("share"), FEW, true);
	struct hand hands[THREADS];
	atomic_int taken = 0, most = 0;
	(void)state;
	for (unsigned i = 0; i < THREADS; i++) {
		hands[i] = (struct hand){ .shares = shares, .taken = &taken, .most = &most };
		assert_int_equal(pthread_create(&hands[i].thread, NULL, take_and_give, &hands[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(hands[i].thread, NULL), 0);
		assert_int_equal(hands[i].had, HANDS); /* nobody was forgotten */
	}
	printf("  %d threads, %d places: at most %d held at once\n", THREADS, FEW, atomic_load(&most));
	assert_true(atomic_load(&most) <= FEW);
	pool_share_release(&share);
	pool_shares_free(&shares); /* and none is left */
}

/* What is opened ahead is what the growth brought, by all loops together. */
static void growth_is_opened_once(void **state)
{
	struct hall hall;
	unsigned opened = 0, sizes = 0;
	(void)state;
	memset(&hall, 0, sizeof(hall));
	open_hall(&hall, 30);
	pool_part_size(&hall.parts[0], 10, 10, UINT32_MAX);
	for (int i = 0; i < 9; i++)
		assert_true(pool_part_take(&hall.parts[0], false));
	assert_true(pool_part_take(&hall.parts[1], false));
	for (int64_t second = 1; second <= 66; second++)
		for (unsigned i = 0; i < PARTS; i++) {
			unsigned ahead;
			enum pool_size_change change = pool_part_look(&hall.parts[i], CLOCK_DAY + second * CLOCK_SECOND,
								      hall.parts[i].held, &ahead);
			sizes += change == POOL_SIZE_GROWN;
			for (unsigned j = 0; j < ahead; j++)
				assert_true(pool_part_take(&hall.parts[i], false));
			opened += ahead;
		}
	struct pool_share_state now;
	pool_part_read(&hall.parts[0], CLOCK_DAY, &now);
	assert_int_equal(sizes, 1);
	assert_int_equal(now.size, 12);
	assert_int_equal(opened, 2);
	close_hall(&hall);
}

/* A post that is under way reaches an ear whose pool, and whose shares, are gone. */
static void a_late_post_meets_nothing_that_is_gone(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	struct loop *loop = loop_new();
	struct pool_part part;
	struct pool_ear *ear = pool_ear_new(shares, loop, heard, &times);
	(void)state;
	times = 0;
	pool_part_join(&part, pool_share_open(shares, SLICE("own"), 1, true), ear);
	pool_part_size(&part, 0, 1, UINT32_MAX);
	assert_true(pool_part_take(&part, true));
	assert_false(pool_part_take(&part, true));
	pool_share_bound(part.share, 2); /* granted, and told */
	pool_part_leave(&part);
	pool_ear_free(&ear);
	pool_shares_free(&shares);
	loop_turn(loop, false);
	loop_free(&loop);
	assert_int_equal(times, 0);
}

/* Each who holds one must have looked since it was asked; who holds none need not. */
static void a_place_may_come_until_all_have_looked(void **state)
{
	struct hall hall;
	(void)state;
	open_hall(&hall, 3);
	assert_true(pool_part_take(&hall.parts[0], true));
	assert_true(pool_part_take(&hall.parts[1], true) && pool_part_take(&hall.parts[1], true));
	assert_false(pool_part_may_come(&hall.parts[2])); /* it asks for none */
	assert_false(pool_part_take(&hall.parts[2], true));
	assert_true(pool_part_looked(&hall.parts[0], true));
	assert_true(pool_part_may_come(&hall.parts[2]));
	assert_true(pool_part_looked(&hall.parts[1], false)); /* one of its own comes free soon */
	assert_true(pool_part_may_come(&hall.parts[2]));
	assert_true(pool_part_looked(&hall.parts[1], true));
	assert_false(pool_part_may_come(&hall.parts[2]));
	assert_false(pool_part_take(&hall.parts[3], true)); /* asks anew: what has become idle since is not known */
	assert_true(pool_part_may_come(&hall.parts[3]) && !pool_part_may_come(&hall.parts[2]));
	pool_part_give(&hall.parts[1], 1);
	assert_true(pool_part_may_come(&hall.parts[2])); /* it is on its way */
	assert_ptr_equal(pool_ear_granted(hall.ears[2]), &hall.parts[2]);
	assert_false(pool_part_may_come(&hall.parts[2]));
	close_hall(&hall);
}

/* Who holds the least is given first, of these who has waited longest. */
static void the_poorest_is_first(void **state)
{
	struct hall hall;
	(void)state;
	open_hall(&hall, 4);
	for (int i = 0; i < 3; i++)
		assert_true(pool_part_take(&hall.parts[0], true));
	assert_true(pool_part_take(&hall.parts[1], true));
	assert_false(pool_part_take(&hall.parts[0], true)); /* before all others */
	assert_false(pool_part_take(&hall.parts[1], true));
	assert_false(pool_part_take(&hall.parts[2], true));
	assert_false(pool_part_take(&hall.parts[3], true));
	assert_true(pool_part_is_asked(&hall.parts[0]) && pool_part_is_asked(&hall.parts[1]));
	assert_true(pool_part_should_cede(&hall.parts[0], false, clock_now()));
	assert_false(
		pool_part_should_cede(&hall.parts[1], false, hall.parts[1].since)); /* its only one, and its turn */
	assert_true(pool_part_should_cede(&hall.parts[1], true, hall.parts[1].since));
	assert_true(pool_part_should_cede(&hall.parts[1], false, hall.parts[1].since + POOL_SHARE_TURN));
	pool_part_give(&hall.parts[0], 1);
	assert_true(hall.parts[2].granted);
	pool_part_give(&hall.parts[0], 1);
	assert_true(hall.parts[3].granted);
	pool_part_give(&hall.parts[0], 1);
	assert_true(hall.parts[0].granted); /* which holds none now */
	assert_ptr_equal(pool_ear_granted(hall.ears[2]), &hall.parts[2]);
	assert_int_equal(pool_part_held(&hall.parts[2]), 1);
	close_hall(&hall);
}

/* By a post to its loop, once however much there is to hear; nobody tells himself. */
static void who_is_granted_is_told(void **state)
{
	struct hall hall;
	(void)state;
	open_hall(&hall, 1);
	times = 0;
	assert_true(pool_part_take(&hall.parts[0], true));
	assert_false(pool_part_take(&hall.parts[1], true));
	assert_false(pool_part_take(&hall.parts[2], true));
	loop_turn(hall.loop, true);
	assert_int_equal(times, 1); /* the first was asked */
	pool_part_give(&hall.parts[0], 1);
	pool_part_give_up(&hall.parts[1]); /* too late: it is told all the same, and gives it on */
	loop_turn(hall.loop, true);
	assert_int_equal(times, 2);
	assert_ptr_equal(pool_ear_granted(hall.ears[1]), &hall.parts[1]);
	assert_true(pool_part_is_asked(&hall.parts[1])); /* another waits still */
	assert_true(pool_part_should_cede(&hall.parts[1], true, clock_now()));
	pool_part_give(&hall.parts[1], 1);
	loop_turn(hall.loop, true);
	assert_int_equal(times, 3);
	assert_true(hall.parts[2].granted);
	close_hall(&hall);
}

static void hold(struct hall *hall, unsigned i, unsigned count)
{
	while (hall->parts[i].held < count)
		assert_true(pool_part_take(&hall->parts[i], false));
}

/* Each gives up of what it holds, in turn or all at once: never more than is too many, by none of them all. */
static void what_is_too_many_is_shared_out(void **state)
{
	enum { EACH = 20, LEFT = 50 };
	struct pool_part none = { 0 };
	(void)state;
	for (int at_once = 0; at_once < 2; at_once++) {
		unsigned counts[PARTS];
		struct hall hall;
		open_hall(&hall, PARTS * EACH);
		for (unsigned i = 0; i < PARTS; i++)
			hold(&hall, i, EACH);
		assert_int_equal(pool_part_excess(&hall.parts[0], &none, false), 0);
		assert_false(pool_part_shed(&hall.parts[0], &none, false));
		pool_share_bound(hall.parts[0].share, LEFT);
		for (unsigned round = 0; used(&hall) > LEFT; round++) {
			assert_true(round < 10);
			for (unsigned i = 0; i < PARTS; i++) {
				assert_true(pool_part_is_asked(&hall.parts[i]));
				counts[i] = pool_part_excess(&hall.parts[i], &none, false);
				while (!at_once && counts[i] > 0 && pool_part_shed(&hall.parts[i], &none, false))
					counts[i]--;
			}
			for (unsigned i = 0; at_once && i < PARTS; i++)
				while (counts[i] > 0 && pool_part_shed(&hall.parts[i], &none, false))
					counts[i]--;
		}
		assert_int_equal(used(&hall), LEFT);
		for (unsigned i = 0; i < PARTS; i++) {
			assert_in_range(hall.parts[i].held, LEFT / PARTS - 4, LEFT / PARTS + 4);
			assert_false(pool_part_should_cede(&hall.parts[i], true, clock_now()));
			assert_false(pool_part_is_asked(&hall.parts[i]));
		}
		close_hall(&hall);
	}
}

/* A place of the group goes with one of the name; the size has none of the group's. */
static void what_a_group_has_too_many_of_is_shed_too(void **state)
{
	struct pool_part group;
	struct hall hall;
	(void)state;
	open_hall(&hall, 10);
	pool_part_join(&group, pool_share_open(hall.shares, SLICE("group"), 10, true), hall.ears[0]);
	hold(&hall, 0, 6);
	while (group.held < 6)
		assert_true(pool_part_take(&group, false));
	pool_share_bound(group.share, 4);
	assert_int_equal(pool_part_excess(&hall.parts[0], &group, false), 2);
	while (pool_part_shed(&hall.parts[0], &group, false))
		continue;
	assert_int_equal(hall.parts[0].held, 4);
	assert_int_equal(group.held, 4);
	assert_int_equal(pool_part_excess(&hall.parts[0], &group, true), 3); /* one is kept: join() says so */
	while (pool_part_shed(&hall.parts[0], &group, true))
		continue;
	assert_int_equal(hall.parts[0].held, 1);
	assert_int_equal(group.held, 1);
	pool_part_leave(&group);
	close_hall(&hall);
}

static void no_share_is_no_bound(void **state)
{
	struct pool_part part = { 0 };
	(void)state;
	assert_true(pool_part_take(&part, true));
	pool_part_give(&part, 1);
	pool_part_force(&part);
	pool_part_give_up(&part);
	assert_false(pool_part_should_cede(&part, true, 0) || pool_part_is_asked(&part));
	pool_part_leave(&part);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_count_is_right_whatever_happens),
		cmocka_unit_test(a_size_is_bounded_by_what_is_known),
		cmocka_unit_test(threads_never_have_more_than_there_is),
		cmocka_unit_test(growth_is_opened_once),
		cmocka_unit_test(a_late_post_meets_nothing_that_is_gone),
		cmocka_unit_test(a_place_may_come_until_all_have_looked),
		cmocka_unit_test(the_poorest_is_first),
		cmocka_unit_test(who_is_granted_is_told),
		cmocka_unit_test(who_has_just_been_granted_one_is_asked_too),
		cmocka_unit_test(what_is_too_many_is_shared_out),
		cmocka_unit_test(what_a_group_has_too_many_of_is_shed_too),
		cmocka_unit_test(no_share_is_no_bound),
	};
	return cmocka_run_group_tests_name("pool_share", tests, NULL, NULL);
}

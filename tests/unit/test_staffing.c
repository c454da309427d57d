/* The arithmetic of `sluice pool-found`: against the formula as it is printed, and against calls that come at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base.h"
#include "svc/staffing.h"

#include <math.h>
#include <string.h>

#include "tests/support/random.h"

#define SECOND INT64_C(1000000)

static void near(double found, double wanted, double room)
{
	if (!(fabs(found - wanted) <= room))
		fail_msg("found %.12g, wanted %.12g", found, wanted);
}

/* As the textbooks have it: a^c/c! · c/(c − a) over itself and the sum of a^n/n! below c. */
static double by_the_book(double offered, int places)
{
	long double term = 1, sum = 0, last;

	for (int n = 0; n < places; n++) {
		sum += term;
		term *= (long double)offered / (n + 1);
	}
	last = term * places / (places - (long double)offered);
	return (double)(last / (sum + last));
}

static void test_the_formula(void **state)
{
	(void)state;
	near(staffing_waiting(1, 2), 1.0 / 3, 1e-12);
	near(staffing_waiting(2, 3), 4.0 / 9, 1e-12);
	near(staffing_waiting(0.5, 1), 0.5, 1e-12); /* of one place: its use */
	for (int places = 1; places <= 300; places += 7)
		for (int tenth = 1; tenth < 10; tenth++) {
			double offered = places * tenth / 10.0;
			near(staffing_waiting(offered, places), by_the_book(offered, places), 1e-9);
		}
	assert_true(staffing_waiting(5, 5) == 1 && staffing_waiting(5, 2) == 1); /* more comes than can go */
}

/* Square-root staffing: for β = 1 the chance goes to 0.22336 as the load grows (Halfin and Whitt, 1981, (2.3)). */
static void test_the_limit_for_large_loads(void **state)
{
	(void)state;
	double beta = 1, density = exp(-beta * beta / 2) / sqrt(2 * acos(-1)), below = 0.5 * erfc(-beta / sqrt(2));
	double limit = 1 / (1 + beta * below / density);

	near(limit, 0.2234, 1e-4);
	near(staffing_waiting(1e6, 1000000 + 1000), limit, 1e-3);
}

/* Exponential, with a mean of one second. */
static double at_random(uint64_t *random)
{
	return -log((1 + (double)random_below(random, 1 << 30)) / (1 << 30)) * SECOND;
}

static int64_t least_of(const int64_t *free_at, size_t count)
{
	size_t least = 0;

	for (size_t i = 1; i < count; i++)
		if (free_at[i] < free_at[least])
			least = i;
	return (int64_t)least;
}

/* Calls that come at random, each taken by the place that is free first: the share that waits is the formula's. */
static void test_calls_that_come_at_random(void **state)
{
	(void)state;
	enum { PLACES = 10, CALLS = 400000 };
	uint64_t random = 1961;
	int64_t free_at[PLACES] = { 0 }, now = 0, waited = 0;
	double offered = 7.5;

	for (int i = 0; i < CALLS; i++) {
		size_t place = (size_t)least_of(free_at, PLACES);
		now += (int64_t)(at_random(&random) / offered);
		waited += free_at[place] > now;
		free_at[place] = (free_at[place] > now ? free_at[place] : now) + (int64_t)(at_random(&random));
	}
	near((double)waited / CALLS, staffing_waiting(offered, PLACES), 0.02);
}

static struct staffing staff(struct staffing_workload load)
{
	struct staffing found;

	memset(&found, 0, sizeof(found));
	assert_true(staffing_of(&load, &found));
	return found;
}

static void test_a_workload(void **state)
{
	(void)state;
	struct staffing found = staff((struct staffing_workload){ 100, 8 * SECOND, 30 * SECOND, 1, 1, 1 });

	near(found.rate, 10.0 / 3, 1e-9);
	near(found.offered, 80.0 / 3, 1e-9);
	assert_int_equal(found.warm, 27);
	assert_int_equal(found.most, 41);
	assert_true(found.waiting <= STAFFING_WAITING && staffing_waiting(found.offered, 40) > STAFFING_WAITING);

	/* Three instances have a third each, and connections of their own. */
	found = staff((struct staffing_workload){ 100, 8 * SECOND, 30 * SECOND, 3, 1, 1 });
	near(found.share, 80.0 / 9, 1e-9);
	assert_int_equal(found.most, 18);
	assert_int_equal(found.warm, 9);

	/* HTTP/2: as many streams, on as few connections as carry them. */
	found = staff((struct staffing_workload){ 4000, 2 * SECOND, 10 * SECOND, 2, 100, 1 });
	assert_int_equal(found.calls, 449);
	assert_int_equal(found.most, 5);
	assert_int_equal(found.warm, 4);
	found = staff((struct staffing_workload){ 100, 8 * SECOND, 30 * SECOND, 1, 100, 1 });
	assert_int_equal(found.most, 1);
	assert_int_equal(found.warm, 1);
}

/* How many connections it takes when each worker's calls need ones of their own: the most, over all ways in which they may fall. */
static int64_t most_of_all_divisions(int64_t calls, int64_t workers, int64_t streams)
{
	int64_t most = 0;

	if (workers == 1)
		return (calls + streams - 1) / streams;
	for (int64_t first = 0; first <= calls; first++) {
		int64_t all =
			(first + streams - 1) / streams + most_of_all_divisions(calls - first, workers - 1, streams);
		most = all > most ? all : most;
	}
	return most;
}

static void test_a_connection_over_http2_belongs_to_one_worker(void **state)
{
	(void)state;
	struct staffing found = staff((struct staffing_workload){ 100, 8 * SECOND, 30 * SECOND, 1, 100, 2 });

	assert_true(found.most == 2 && found.warm == 2);
	found = staff((struct staffing_workload){ 1, 8 * SECOND, 30 * SECOND, 1, 100, 8 });
	assert_true(found.most == 8 && found.warm == 1);
	for (int64_t users = 1; users <= 20; users++)
		for (int64_t workers = 1; workers <= 4; workers++)
			for (int64_t streams = 2; streams <= 5; streams++) {
				int64_t needs = most_of_all_divisions(users, workers, streams);
				found = staff((struct staffing_workload){ users, SECOND, SECOND, 1, streams, workers });
				assert_int_equal(found.calls, users);
				assert_int_equal(found.most, needs > workers ? needs : workers);
				assert_true(found.warm >= 1 && found.warm <= found.most);
			}
	/* Over HTTP/1.1 any worker may use all. */
	assert_int_equal(staff((struct staffing_workload){ 5, SECOND, SECOND, 1, 1, 8 }).most, 5);
}

static void test_the_ends_of_the_range(void **state)
{
	(void)state;
	/* One user has one call in flight: one connection, and nobody waits. */
	struct staffing found = staff((struct staffing_workload){ 1, 8 * SECOND, 30 * SECOND, 1, 1, 1 });
	assert_true(found.warm == 1 && found.most == 1 && found.waiting == 0);
	/* All are always in flight. */
	found = staff((struct staffing_workload){ 50, SECOND, SECOND, 1, 1, 1 });
	assert_true(found.warm == 50 && found.most == 50 && found.waiting == 0);
	/* Whole numbers are not rounded up by what a double cannot hold. */
	found = staff((struct staffing_workload){ 30, SECOND, 10 * SECOND, 1, 1, 1 });
	assert_int_equal(found.warm, 3);
	/* Up to what `max` allows, and not one more. */
	found = staff((struct staffing_workload){ STAFFING_MOST, SECOND, SECOND, 1, 1, 1 });
	assert_int_equal(found.most, STAFFING_MOST);
	assert_false(staffing_of(&(struct staffing_workload){ STAFFING_MOST + 1, SECOND, SECOND, 1, 1, 1 }, &found));
	assert_false(staffing_of(&(struct staffing_workload){ 1000000000, 3600 * SECOND, 3600 * SECOND, 1, 1000, 1 },
				 &found));
	assert_true(staffing_of(&(struct staffing_workload){ 1000000000, 3600 * SECOND, 3600 * SECOND, 1000, 1000, 1 },
				&found));
}

/* Whatever the workload: the fewest that keep the bound, and one fewer does not. */
static void test_random_workloads(void **state)
{
	(void)state;
	uint64_t random = 7;

	for (int i = 0; i < 2000; i++) {
		struct staffing_workload load = { .users = 1 + (int64_t)random_below(&random, 3000),
						  .response =
							  1000 + (int64_t)random_below(&random, 20 * (uint32_t)SECOND),
						  .instances = 1 + (int64_t)random_below(&random, 5),
						  .streams_per_connection = 1 + (int64_t)random_below(&random, 3),
						  .workers = 1 + (int64_t)random_below(&random, 9) };
		load.interval = load.response + (int64_t)random_below(&random, 60 * (uint32_t)SECOND);
		struct staffing found = staff(load);
		assert_true(found.calls >= 1 && found.calls <= load.users);
		assert_true(found.calls == load.users ||
			    staffing_waiting(found.share, found.calls) <= STAFFING_WAITING);
		assert_true(found.calls == 1 || staffing_waiting(found.share, found.calls - 1) > STAFFING_WAITING);
		assert_true(found.most * load.streams_per_connection >= found.calls);
		assert_true(found.warm >= 1 && found.warm <= found.most);
		assert_true(found.warm == found.most ||
			    (double)(found.warm * load.instances * load.streams_per_connection) >= found.offered);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_formula),
		cmocka_unit_test(test_the_limit_for_large_loads),
		cmocka_unit_test(test_calls_that_come_at_random),
		cmocka_unit_test(test_a_workload),
		cmocka_unit_test(test_a_connection_over_http2_belongs_to_one_worker),
		cmocka_unit_test(test_the_ends_of_the_range),
		cmocka_unit_test(test_random_workloads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

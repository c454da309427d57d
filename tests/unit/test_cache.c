/* The cache against a plain list that does the same slowly: who is in it, who leaves first, what it counts, and what the test's clock ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/cache.h"
#include "lib/clock.h"

#include <stdlib.h>

enum { BYTES = 64 * 1024, START = 1000 };
static const struct answer_times always = { START, INT64_MAX, 0, 0 };
static struct answer_times times;

static int set_up(void **state)
{
	(void)state;
	clock_test_set(START, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clock_test_release();
	return 0;
}

struct key {
	unsigned char bytes[ANSWER_KEY];
};

/* Keys that differ in one byte, now at the front and now at the end. */
static struct key key_of(int number)
{
	struct key key = { { 0 } };
	key.bytes[number % 2 == 0 ? 0 : ANSWER_KEY - 1] = (unsigned char)(number + 1);
	return key;
}

/* An answer of `size` bytes in all; nobody else holds it but whoever gets it here. */
static struct answer *answer_of(size_t size)
{
	static char bytes[BYTES];
	struct answer *least = answer_new(SLICE_NONE, SLICE_NONE);
	size_t around = answer_size(least);
	answer_release(&least);
	return answer_new(SLICE_NONE, slice_make(bytes, size - around));
}

static void put(struct cache *cache, int number, size_t size, const struct answer_times *with)
{
	struct answer *answer = answer_of(size);
	cache_put(cache, key_of(number).bytes, answer, with);
	answer_release(&answer);
}

static bool is_there(struct cache *cache, int number)
{
	struct answer *answer = cache_get(cache, key_of(number).bytes, &times);
	bool there = answer != NULL;
	answer_release(&answer);
	return there;
}

static struct cache_stats stats_of(const struct cache *cache)
{
	struct cache_stats stats;
	cache_stats(cache, &stats);
	return stats;
}

/* What one entry takes beyond its answer. */
static size_t bytes_around(void)
{
	struct cache *cache = cache_new(BYTES);
	put(cache, 0, 1000, &always);
	size_t around = stats_of(cache).bytes - 1000;
	cache_free(&cache);
	return around;
}

static void gives_what_was_put(void **state)
{
	struct cache *cache = cache_new(BYTES);
	struct answer *answer = answer_new(SLICE("head"), SLICE("body")), *other = answer_of(100), *got;
	struct answer_times put_with = { 900, 2000, 3000, 4000 };
	(void)state;
	cache_put(cache, key_of(1).bytes, answer, &put_with);
	got = cache_get(cache, key_of(1).bytes, &times);
	assert_ptr_equal(got, answer);
	assert_memory_equal(&times, &put_with, sizeof(times));
	answer_release(&got);
	assert_null(cache_get(cache, key_of(2).bytes, &times));
	cache_put(cache, key_of(1).bytes, other, &always);
	got = cache_get(cache, key_of(1).bytes, &times);
	assert_ptr_equal(got, other);
	assert_memory_equal(&times, &always, sizeof(times));
	assert_int_equal(stats_of(cache).entries, 1);
	answer_release(&got);
	cache_free(&cache);
	assert_null(cache);
	cache_free(&cache);
	assert_true(slice_equal(answer_body(answer), SLICE("body"))); /* ours still */
	answer_release(&answer);
	answer_release(&other);
}

/* The sanitizers see one that is freed too early. */
static void an_answer_outlives_its_place(void **state)
{
	struct cache *cache = cache_new(BYTES);
	struct answer *held[3];
	(void)state;
	for (int i = 0; i < 3; i++) {
		put(cache, i, 500, &always);
		held[i] = cache_get(cache, key_of(i).bytes, &times);
	}
	cache_drop(cache, key_of(0).bytes);
	cache_drop(cache, key_of(0).bytes);
	cache_put(cache, key_of(1).bytes, held[1], &always); /* in its own place */
	assert_true(is_there(cache, 1));
	cache_clear(cache);
	assert_int_equal(stats_of(cache).bytes, 0);
	assert_false(is_there(cache, 1) || is_there(cache, 2));
	put(cache, 2, 500, &always);
	assert_true(is_there(cache, 2));
	cache_free(&cache);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(answer_size(held[i]), 500);
		answer_release(&held[i]);
	}
}

/* Full after 0 to 7, of which 0 is asked for and 1 is put again: those two stay, 2 and 3 go. */
static void the_least_recently_used_leaves_first(void **state)
{
	size_t each = BYTES / 8;
	struct cache *cache = cache_new(BYTES);
	(void)state;
	for (int i = 0; i < 8; i++)
		put(cache, i, each - bytes_around(), &always);
	assert_int_equal(stats_of(cache).bytes, BYTES);
	assert_true(is_there(cache, 0));
	put(cache, 1, each - bytes_around(), &always);
	assert_int_equal(stats_of(cache).evicted, 0);
	put(cache, 8, each - bytes_around(), &always);
	put(cache, 9, each - bytes_around(), &always);
	assert_int_equal(stats_of(cache).evicted, 2);
	for (int i = 0; i < 10; i++)
		assert_int_equal(is_there(cache, i), i != 2 && i != 3);
	cache_free(&cache);
}

/* One that needs the room of two takes it from two. */
static void a_large_one_takes_the_room_of_several(void **state)
{
	struct cache *cache = cache_new(BYTES);
	(void)state;
	for (int i = 0; i < 8; i++)
		put(cache, i, BYTES / 8 - bytes_around(), &always);
	put(cache, 8, BYTES / 4 - bytes_around(), &always);
	assert_int_equal(stats_of(cache).evicted, 2);
	assert_int_equal(stats_of(cache).bytes, BYTES);
	assert_false(is_there(cache, 0) || is_there(cache, 1));
	assert_true(is_there(cache, 2) && is_there(cache, 8));
	cache_free(&cache);
}

static void keeps_none_above_a_quarter(void **state)
{
	size_t most = BYTES / 4 - bytes_around();
	struct cache *cache = cache_new(BYTES), *nothing = cache_new(0);
	(void)state;
	put(cache, 1, most, &always);
	assert_true(is_there(cache, 1));
	put(cache, 1, most + 1, &always); /* the old one is no longer the answer */
	assert_false(is_there(cache, 1));
	assert_int_equal(stats_of(cache).bytes, 0);
	put(nothing, 1, 100, &always);
	assert_false(is_there(nothing, 1));
	assert_int_equal(stats_of(nothing).misses, 1);
	cache_free(&cache);
	cache_free(&nothing);
}

/* Each of the three ends may be the last one. */
static void one_past_all_its_times_is_dropped(void **state)
{
	static const struct answer_times each[] = { { 0, 2000, 1500, 0 },
						    { 0, 1500, 2000, 0 },
						    { 0, 1200, 1500, 2000 } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(each); i++) {
		struct cache *cache = cache_new(BYTES);
		clock_test_set(START, 0);
		put(cache, 1, 100, &each[i]);
		put(cache, 2, 100, &always);
		clock_test_set(1999, 0);
		assert_true(is_there(cache, 1));
		assert_memory_equal(&times, &each[i], sizeof(times));
		clock_test_advance(1);
		assert_int_equal(stats_of(cache).entries, 2); /* it lies until it is asked for */
		assert_false(is_there(cache, 1));
		assert_int_equal(stats_of(cache).entries, 1);
		assert_int_equal(stats_of(cache).dropped, 1);
		put(cache, 2, 100, &each[i]); /* over before it came; the old one goes */
		assert_int_equal(stats_of(cache).entries, 0);
		cache_free(&cache);
	}
}

/* ---- the model ---------------------------------------------------------------------------------------------------------- */

enum { KEYS = 60, STEPS = 100000 };

/* Of one key. `used` is when, in steps; the lowest leaves first. */
struct row {
	struct answer *answer; /* borrowed: the cache holds it; NULL when it is not there */
	size_t bytes;
	int64_t until;
	int used;
};
struct model {
	struct row rows[KEYS];
	struct cache_stats stats;
	size_t around;
};

static void model_leave(struct model *model, int number, uint64_t *count)
{
	struct row *row = &model->rows[number];
	if (row->answer == NULL)
		return;
	model->stats.bytes -= row->bytes;
	model->stats.entries--;
	++*count;
	row->answer = NULL;
}

static int model_oldest(const struct model *model)
{
	int oldest = -1;
	for (int i = 0; i < KEYS; i++)
		if (model->rows[i].answer != NULL && (oldest < 0 || model->rows[i].used < model->rows[oldest].used))
			oldest = i;
	return oldest;
}

static void model_put(struct model *model, int number, struct answer *answer, int64_t until, int step)
{
	size_t bytes = answer_size(answer) + model->around;
	model_leave(model, number, &model->stats.dropped);
	if (bytes * 4 > BYTES || until <= clock_now())
		return;
	while (model->stats.bytes + bytes > BYTES)
		model_leave(model, model_oldest(model), &model->stats.evicted);
	model->rows[number] = (struct row){ answer, bytes, until, step };
	model->stats.bytes += bytes;
	model->stats.entries++;
}

static struct answer *model_get(struct model *model, int number, int step)
{
	struct row *row = &model->rows[number];
	if (row->answer != NULL && row->until <= clock_now())
		model_leave(model, number, &model->stats.dropped);
	if (row->answer == NULL)
		model->stats.misses++;
	else
		model->stats.hits++;
	row->used = step;
	return row->answer;
}

static void step_put(struct cache *cache, struct model *model, int number, unsigned *seed, int step)
{
	struct answer *answer =
		answer_of(100 + (size_t)rand_r(seed) % (rand_r(seed) % 20 == 0 ? BYTES / 3 : BYTES / 20));
	struct answer_times with = { clock_now(), 0, 0, 0 };
	int64_t *ends[] = { &with.fresh, &with.stale, &with.error }, until = clock_now() + rand_r(seed) % 400;
	*ends[rand_r(seed) % 3] = until;
	cache_put(cache, key_of(number).bytes, answer, &with);
	model_put(model, number, answer, until, step);
	answer_release(&answer);
}

static void step_get(struct cache *cache, struct model *model, int number, int step)
{
	struct answer *got = cache_get(cache, key_of(number).bytes, &times);
	assert_ptr_equal(got, model_get(model, number, step));
	answer_release(&got);
}

static void agrees_with_a_list(void **state)
{
	struct cache *cache = cache_new(BYTES);
	struct model model = { .around = bytes_around() };
	unsigned seed = 17;
	(void)state;
	for (int step = 0; step < STEPS; step++) {
		int number = rand_r(&seed) % KEYS, what = rand_r(&seed) % 1000;
		if (what < 400) {
			step_put(cache, &model, number, &seed, step);
		} else if (what < 900) {
			step_get(cache, &model, number, step);
		} else if (what < 950) {
			cache_drop(cache, key_of(number).bytes);
			model_leave(&model, number, &model.stats.dropped);
		} else if (what < 999) {
			clock_test_advance(rand_r(&seed) % 50);
		} else {
			cache_clear(cache);
			for (int i = 0; i < KEYS; i++)
				model_leave(&model, i, &model.stats.dropped);
		}
		struct cache_stats stats = stats_of(cache);
		assert_memory_equal(&stats, &model.stats, sizeof(stats));
		assert_true(stats.bytes <= BYTES);
	}
	assert_true(model.stats.hits > STEPS / 20 && model.stats.misses > STEPS / 20);
	assert_true(model.stats.evicted > STEPS / 50 && model.stats.dropped > STEPS / 50);
	cache_free(&cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(gives_what_was_put, set_up),
		cmocka_unit_test_setup(an_answer_outlives_its_place, set_up),
		cmocka_unit_test_setup(the_least_recently_used_leaves_first, set_up),
		cmocka_unit_test_setup(a_large_one_takes_the_room_of_several, set_up),
		cmocka_unit_test_setup(keeps_none_above_a_quarter, set_up),
		cmocka_unit_test_setup(one_past_all_its_times_is_dropped, set_up),
		cmocka_unit_test_setup(agrees_with_a_list, set_up),
	};
	return cmocka_run_group_tests_name("cache", tests, NULL, tear_down);
}

/* The map against a plain array, and its hash against the vectors of SipHash's authors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/map.h"
#include "lib/mem.h"
#include "lib/siphash.h"

#include <stdio.h>
#include <stdlib.h>

static struct slice key_of(int number)
{
	static _Thread_local char text[32];
	return slice_make(text, (size_t)snprintf(text, sizeof(text), "key %d", number));
}

static void puts_gets_replaces_removes(void **state)
{
	struct map *map = map_new();
	int one = 1, two = 2;
	(void)state;
	assert_null(map_get(map, SLICE("a")));
	assert_null(map_remove(map, SLICE("a")));
	map_put(map, SLICE("a"), &one);
	map_put(map, SLICE("a"), &two);
	map_put(map, SLICE(""), &one);
	map_put(map, SLICE("a\0b"), &one);
	assert_int_equal(map_count(map), 3);
	assert_ptr_equal(map_get(map, SLICE("a")), &two);
	assert_ptr_equal(map_get(map, SLICE_NONE), &one);
	assert_ptr_equal(map_remove(map, SLICE("a")), &two);
	assert_null(map_get(map, SLICE("a")));
	assert_ptr_equal(map_get(map, SLICE("a\0b")), &one);
	assert_int_equal(map_count(map), 2);
	map_free(&map, NULL);
	assert_null(map);
	map_free(&map, NULL);
}

static void agrees_with_an_array(void **state)
{
	enum { KEYS = 500 };
	static int numbers[KEYS];
	bool there[KEYS] = { false };
	struct map *map = map_new();
	size_t count = 0;
	unsigned seed = 7;
	(void)state;
	for (int step = 0; step < 200000; step++) {
		int n = rand_r(&seed) % KEYS;
		if (rand_r(&seed) % 2 == 0) {
			map_put(map, key_of(n), &numbers[n]);
			count += there[n] ? 0 : 1;
			there[n] = true;
		} else {
			assert_ptr_equal(map_remove(map, key_of(n)), there[n] ? &numbers[n] : NULL);
			count -= there[n] ? 1 : 0;
			there[n] = false;
		}
		assert_int_equal(map_count(map), count);
	}
	for (int n = 0; n < KEYS; n++)
		assert_ptr_equal(map_get(map, key_of(n)), there[n] ? &numbers[n] : NULL);
	map_free(&map, NULL);
}

static void walks_each_once_and_may_remove(void **state)
{
	enum { KEYS = 300 };
	static int seen[KEYS];
	struct map *map = map_new();
	struct slice key;
	void *value;
	size_t at = 0;
	(void)state;
	for (int n = 0; n < KEYS; n++)
		map_put(map, key_of(n), &seen[n]);
	while (map_next(map, &at, &key, &value)) {
		int *count = value;
		++*count;
		if ((count - seen) % 3 == 0)
			assert_ptr_equal(map_remove(map, key), value);
	}
	for (int n = 0; n < KEYS; n++) {
		assert_int_equal(seen[n], 1);
		assert_ptr_equal(map_get(map, key_of(n)), n % 3 == 0 ? NULL : &seen[n]);
	}
	assert_int_equal(map_count(map), KEYS - KEYS / 3);
	map_free(&map, NULL);
}

static int freed;

static void count_and_free(void *value)
{
	freed++;
	mem_free(value);
}

static void frees_the_values(void **state)
{
	struct map *map = map_new();
	(void)state;
	for (int n = 0; n < 50; n++)
		map_put(map, key_of(n), mem_new(1));
	map_free(&map, count_and_free);
	assert_int_equal(freed, 50);
}

/* A hundred thousand insertions and removals of short-lived keys must not fill the table with graves. */
static void survives_turnover(void **state)
{
	struct map *map = map_new();
	int value;
	(void)state;
	for (int n = 0; n < 100000; n++) {
		map_put(map, key_of(n), &value);
		if (n >= 5)
			assert_ptr_equal(map_remove(map, key_of(n - 5)), &value);
	}
	assert_int_equal(map_count(map), 5);
	map_free(&map, NULL);
}

/* vectors_sip64 of the reference implementation: key 00 to 0f, messages of 0, 1, 2 … bytes 00, 01, 02 … */
static void hash_matches_the_reference(void **state)
{
	static const struct {
		size_t length;
		uint64_t hash;
	} vectors[] = {
		{ 0, UINT64_C(0x726fdb47dd0e0e31) },  { 1, UINT64_C(0x74f839c593dc67fd) },
		{ 7, UINT64_C(0xab0200f58b01d137) },  { 8, UINT64_C(0x93f5f5799a932462) },
		{ 15, UINT64_C(0xa129ca6149be45e5) }, { 63, UINT64_C(0x958a324ceb064572) },
	};
	struct siphash_key key = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) };
	char message[64];
	(void)state;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (char)i;
	for (size_t i = 0; i < ARRAY_LENGTH(vectors); i++)
		assert_true(siphash_of(key, slice_make(message, vectors[i].length)) == vectors[i].hash);
	assert_true(map_hash(SLICE("a")) == map_hash(SLICE("a")));
	assert_true(map_hash(SLICE("a")) != map_hash(SLICE("b")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_gets_replaces_removes),
		cmocka_unit_test(agrees_with_an_array),
		cmocka_unit_test(walks_each_once_and_may_remove),
		cmocka_unit_test(frees_the_values),
		cmocka_unit_test(survives_turnover),
		cmocka_unit_test(hash_matches_the_reference),
	};
	return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}

/* Allocation and the arena: ceilings, alignment, zeroes, copies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/mem.h"

#include <stdalign.h>
#include <string.h>

static void new_memory_is_zero(void **state)
{
	(void)state;
	char *block = mem_new(100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(block[i], 0);
	block = mem_resize(block, 200);
	mem_free(block);
	mem_free(mem_new(0));
	mem_free(mem_new_array(0, 8));
	mem_free(NULL);
	char *text = mem_text(SLICE("a\0b"));
	assert_memory_equal(text, "a\0b", 4);
	mem_wipe(text, 4);
	assert_memory_equal(text, "\0\0\0\0", 4);
	mem_free(text);
	mem_wipe(NULL, 0);
}

static void takes_up_to_the_ceiling(void **state)
{
	struct mem *mem = mem_arena(1000); /* 1008 when rounded up to 16 */
	(void)state;
	assert_int_equal(mem_arena_used(mem), 0);
	for (int i = 0; i < 63; i++)
		assert_non_null(mem_take(mem, 10));
	assert_int_equal(mem_arena_used(mem), 1008);
	assert_null(mem_take(mem, 1));
	assert_null(mem_take(mem, 0));
	assert_null(mem_copy(mem, SLICE("x")).data);
	assert_null(mem_format(mem, "%d", 1).data);
	mem_arena_free(&mem);
	assert_null(mem);
	mem_arena_free(&mem);
}

static void refuses_sizes_that_wrap_around(void **state)
{
	struct mem *mem = mem_arena(100);
	(void)state;
	assert_null(mem_take(mem, SIZE_MAX));
	assert_null(mem_take(mem, SIZE_MAX - 8));
	assert_null(mem_take(mem, 113));
	assert_non_null(mem_take(mem, 112));
	mem_arena_free(&mem);
}

/* Sizes around the chunk's: each take is its own, zeroed, aligned memory, and keeps what was written into it. */
static void takes_never_overlap(void **state)
{
	static const size_t sizes[] = { 1, 16, 17, 500, 1023, 1024, 1025, 3000, 4096, 5000, 70000, 3 };
	struct mem *mem = mem_arena(4 << 20);
	unsigned char *taken[200];
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(taken); i++) {
		size_t size = sizes[i % ARRAY_LENGTH(sizes)];
		taken[i] = mem_take(mem, size);
		assert_non_null(taken[i]);
		assert_int_equal((uintptr_t)taken[i] % alignof(max_align_t), 0);
		for (size_t at = 0; at < size; at++)
			assert_int_equal(taken[i][at], 0);
		memset(taken[i], (int)i + 1, size);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(taken); i++)
		for (size_t at = 0; at < sizes[i % ARRAY_LENGTH(sizes)]; at++)
			assert_int_equal(taken[i][at], (unsigned char)(i + 1));
	mem_arena_free(&mem);
}

static void copies_and_formats(void **state)
{
	struct mem *mem = mem_arena(1 << 20);
	(void)state;
	struct slice copy = mem_copy(mem, SLICE("a\0b"));
	assert_int_equal(copy.len, 3);
	assert_memory_equal(copy.data, "a\0b", 4);
	assert_non_null(mem_copy(mem, SLICE_NONE).data);
	struct slice text = mem_format(mem, "%s-%05d", "x", 42);
	assert_int_equal(text.len, 7);
	assert_string_equal(text.data, "x-00042");
	mem_arena_free(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_memory_is_zero),
		cmocka_unit_test(takes_up_to_the_ceiling),
		cmocka_unit_test(refuses_sizes_that_wrap_around),
		cmocka_unit_test(takes_never_overlap),
		cmocka_unit_test(copies_and_formats),
	};
	return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}

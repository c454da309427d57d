/* Pieces, splices at every border against a naive model, the ceiling of the whole process. */
#include "svc/upload.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 400 * 1024 };

/* What the slices say, one behind the other. */
static size_t join(const struct slice *slices, size_t count, char *out)
{
	size_t length = 0;

	for (size_t i = 0; i < count; i++) {
		memcpy(out + length, slices[i].data, slices[i].len);
		length += slices[i].len;
	}
	return length;
}

static char *pattern(size_t length)
{
	char *bytes = malloc(length + 1);

	for (size_t i = 0; i < length; i++)
		bytes[i] = (char)('a' + (i * 7 + i / 251) % 26);
	return bytes;
}

static void check_splices(const char *bytes, size_t length, size_t step, int64_t expected,
			  const struct upload_splice *splices, size_t count)
{
	_Atomic int64_t held = 0;
	struct upload u;
	struct mem *mem = mem_arena(1 << 20);
	struct slice *slices;
	size_t pieces, at = 0, wanted_length = 0;
	char *wanted = malloc(length + 64), *got = malloc(length + 64);

	upload_init(&u, &held, 1 << 30);
	for (size_t i = 0; i < length; i += step)
		assert_true(upload_append(&u, slice_first(slice_make(bytes + i, length - i), step), expected));
	assert_int_equal(u.length, length);
	assert_true(held >= (int64_t)length && held <= (int64_t)(2 * length + 8192));
	for (size_t i = 0; i < count; i++) {
		memcpy(wanted + wanted_length, bytes + at, splices[i].offset - at);
		wanted_length += splices[i].offset - at;
		memcpy(wanted + wanted_length, splices[i].insert.data, splices[i].insert.len);
		wanted_length += splices[i].insert.len;
		at = splices[i].offset + splices[i].remove;
	}
	memcpy(wanted + wanted_length, bytes + at, length - at);
	wanted_length += length - at;
	assert_true(upload_slices(&u, splices, count, mem, &slices, &pieces));
	assert_int_equal(join(slices, pieces, got), wanted_length);
	assert_memory_equal(got, wanted, wanted_length);
	upload_free(&u);
	upload_free(&u);
	assert_int_equal(held, 0);
	mem_arena_free(&mem);
	free(wanted);
	free(got);
}

static void test_splices_at_every_border(void **state)
{
	char *bytes = pattern(200);

	(void)state;
	for (size_t offset = 0; offset <= 200; offset += 5)
		for (size_t remove = 0; offset + remove <= 200; remove += 20) {
			const struct upload_splice one = { offset, remove, SLICE("INSERTED") };
			for (size_t step = 1; step <= 200; step += 66)
				check_splices(bytes, 200, step, step == 1 ? 200 : -1, &one, 1);
		}
	free(bytes);
}

static void test_several_splices_over_many_pieces(void **state)
{
	char *bytes = pattern(MOST);
	const struct upload_splice splices[] = { { 0, 1, SLICE("first") },
						 { 4096, 65536, SLICE("") },
						 { 100000, 0, SLICE("x") },
						 { MOST, 0, SLICE("end") } };

	(void)state;
	check_splices(bytes, MOST, 1000, -1, splices, ARRAY_LENGTH(splices));
	check_splices(bytes, MOST, 65536, MOST, splices, ARRAY_LENGTH(splices));
	check_splices(bytes, MOST, 65536, MOST, NULL, 0);
	free(bytes);
}

static void test_the_ceiling_is_the_process_own(void **state)
{
	_Atomic int64_t held = 0;
	struct upload a, b;
	char *bytes = pattern(50000);

	(void)state;
	upload_init(&a, &held, 120000);
	upload_init(&b, &held, 120000);
	assert_true(upload_append(&a, slice_make(bytes, 50000), 50000));
	assert_true(upload_append(&b, slice_make(bytes, 40000), 40000));
	assert_false(upload_append(&b, slice_make(bytes, 20000), -1));
	upload_free(&a);
	assert_true(upload_append(&b, slice_make(bytes, 20000), -1)); /* room again */
	upload_free(&b);
	assert_int_equal(held, 0);
	free(bytes);
}

static void test_a_full_arena_is_told(void **state)
{
	_Atomic int64_t held = 0;
	struct upload u;
	struct mem *mem = mem_arena(16);
	struct slice *slices;
	size_t count;

	(void)state;
	upload_init(&u, &held, 1 << 20);
	assert_true(upload_append(&u, SLICE("something"), -1));
	assert_false(upload_slices(&u, NULL, 0, mem, &slices, &count));
	upload_free(&u);
	mem_arena_free(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_splices_at_every_border),
		cmocka_unit_test(test_several_splices_over_many_pieces),
		cmocka_unit_test(test_the_ceiling_is_the_process_own),
		cmocka_unit_test(test_a_full_arena_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

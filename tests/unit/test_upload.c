/* Pieces, splices at every border against a naive model, the ceiling of the whole process. */
#include "svc/upload.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 400 * 1024 };

/* Appends; a slice of nothing may have no bytes to point to, which memcpy() is not to be given. */
static size_t put(char *out, size_t length, struct slice bytes)
{
	if (bytes.len > 0)
		memcpy(out + length, bytes.data, bytes.len);
	return length + bytes.len;
}

/* What the slices say, one behind the other. */
static size_t join(const struct slice *slices, size_t count, char *out)
{
	size_t length = 0;

	for (size_t i = 0; i < count; i++)
		length = put(out, length, slices[i]);
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
		wanted_length = put(wanted, wanted_length, slice_make(bytes + at, splices[i].offset - at));
		wanted_length = put(wanted, wanted_length, splices[i].insert);
		at = splices[i].offset + splices[i].remove;
	}
	wanted_length = put(wanted, wanted_length, slice_make(bytes + at, length - at));
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

/* Pieces end after 4, 12, 28 and 60 KiB: a splice begins and ends just before, at and behind each of them. */
static void test_splices_around_the_ends_of_pieces(void **state)
{
	static const size_t near[] = { 0,     1,         4095,      4096,          4097,  12287, 12288,
				       12289, 28 * 1024, 60 * 1024, 60 * 1024 + 1, 69999, 70000 };
	char *bytes = pattern(70000);

	(void)state;
	for (size_t from = 0; from < ARRAY_LENGTH(near); from++)
		for (size_t to = from; to < ARRAY_LENGTH(near); to++) {
			const struct upload_splice one = { near[from], near[to] - near[from], SLICE("INSERTED") };
			const struct upload_splice touching[] = { { near[from], near[to] - near[from], SLICE("a") },
								  { near[to], 0, SLICE("b") },
								  { near[to], 70000 - near[to], SLICE_NONE } };
			check_splices(bytes, 70000, 1000, -1, &one, 1);
			check_splices(bytes, 70000, 4096, -1, touching, ARRAY_LENGTH(touching));
		}
	free(bytes);
}

/* Whatever Content-Length says: less than comes, or more. */
static void test_a_length_that_lies(void **state)
{
	const struct upload_splice one = { 4096, 1, SLICE("x") };
	char *bytes = pattern(70000);

	(void)state;
	check_splices(bytes, 70000, 999, 10, &one, 1);
	check_splices(bytes, 70000, 70000, 69999, &one, 1);
	check_splices(bytes, 70000, 1, 70001, &one, 1);
	check_splices(bytes, 70000, 65536, 0, &one, 1);
	check_splices(bytes, 0, 1, -1, NULL, 0);
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
		cmocka_unit_test(test_splices_around_the_ends_of_pieces),
		cmocka_unit_test(test_a_length_that_lies),
		cmocka_unit_test(test_several_splices_over_many_pieces),
		cmocka_unit_test(test_the_ceiling_is_the_process_own),
		cmocka_unit_test(test_a_full_arena_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

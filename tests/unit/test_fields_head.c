/* fields_pack and fields_unpack: heads come back as they were; what is no such head, is one that was cut, or holds what never passes to a client, is
 * refused. Texts stand at the end of a block of their very size, so that a sanitizer sees a byte that is read behind them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/bytes.h"
#include "svc/fields.h"
#include "tests/support/random.h"

enum { FIELDS_MOST = 12, TEXT_MOST = 1 << 16, ARENA = 1 << 18, ROOM = 3 };

/* Unpacks a copy that nothing stands behind; the arena holds what comes of it. */
static bool unpack(struct slice text, struct mem *mem, struct fields_answer *answer, int *status)
{
	char *copy = malloc(text.len + 1);
	bool good;

	memcpy(copy + 1, text.data, text.len);
	good = fields_unpack(slice_make(copy + 1, text.len), mem, ROOM, answer, status);
	free(copy);
	return good;
}

static bool is_good(struct slice text)
{
	struct mem *mem = mem_arena(ARENA);
	struct fields_answer answer;
	int status;
	bool good = unpack(text, mem, &answer, &status);

	mem_arena_free(&mem);
	return good;
}

/* ---- round trips ---------------------------------------------------------------------------------------------------------- */

static struct slice random_text(uint64_t *random, struct mem *mem, size_t most, enum bytes_class class)
{
	size_t length = random_below(random, (uint32_t)most + 1);
	char *text = mem_take(mem, length + 1);

	assert_non_null(text);
	for (size_t i = 0; i < length; i++)
		do
			text[i] = (char)random_below(random, 256);
		while (!bytes_is(text[i], class));
	return slice_trim(slice_make(text, length));
}

/* A prefix keeps it out of the names that do not pass. */
static struct slice random_name(uint64_t *random, struct mem *mem)
{
	static const char *const known[] = { "Content-Type", "content-type", "Vary", "Cache-Control", "ETag", "Via" };

	if (random_below(random, 3) == 0)
		return slice_of(known[random_below(random, ARRAY_LENGTH(known))]);
	return mem_format(mem, "q-%.*s", SLICE_ARGS(random_text(random, mem, 30, BYTES_TOKEN)));
}

static void fill(uint64_t *random, struct mem *mem, struct fields_answer *answer)
{
	*answer = (struct fields_answer){ .content_length = -1, .retry_after = -1 };
	answer->fields = mem_take(mem, FIELDS_MOST * sizeof(*answer->fields));
	answer->count = random_below(random, FIELDS_MOST + 1);
	for (size_t i = 0; i < answer->count; i++) {
		answer->fields[i].name = random_name(random, mem);
		answer->fields[i].value = random_text(random, mem, 40, BYTES_FIELD);
	}
}

static void compare(const struct fields_answer *before, const struct fields_answer *after)
{
	struct slice type = SLICE_NONE;

	assert_int_equal(after->count, before->count);
	for (size_t i = 0; i < before->count; i++) {
		assert_true(slice_equal(after->fields[i].name, before->fields[i].name));
		assert_true(slice_equal(after->fields[i].value, before->fields[i].value));
		if (slice_equal_nocase(before->fields[i].name, SLICE("content-type")))
			type = before->fields[i].value;
	}
	assert_true(slice_equal(after->content_type, type));
	assert_true(after->capacity >= after->count + ROOM);
	assert_int_equal(after->retry_after, -1);
}

static void what_was_packed_comes_back(void **state)
{
	uint64_t random = 4;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct mem *mem = mem_arena(ARENA);
		struct fields_answer before, after;
		int status = 200 + (int)random_below(&random, 400), unpacked = 0;
		int64_t length = random_below(&random, 3) == 0 ? -1 : (int64_t)random_below(&random, 1000000);
		struct buf text;
		buf_init(&text, TEXT_MOST);
		fill(&random, mem, &before);
		assert_true(fields_pack(&before, status, length, &text));
		assert_true(unpack(buf_slice(&text), mem, &after, &unpacked));
		buf_free(&text);
		assert_int_equal(unpacked, status);
		assert_int_equal(after.content_length, length);
		compare(&before, &after);
		mem_arena_free(&mem);
	}
}

/* ---- garbage ---------------------------------------------------------------------------------------------------------- */

/* clang-format off */
static const char good[] = "1 200 512\nContent-Type: text/event-stream\nX-Empty: \nVia: 1.1 sluice\n\n";
static const char *const bad[] = {
	"", "\n", "1", "1 ", "1 200", "1 200 ", "1 200\n\n", "1 200 5", "1 200 5\n",
	"2 200 5\n\n", "0 200 5\n\n", "11 200 5\n\n", " 1 200 5\n\n", "1  200 5\n\n", "1 200  5\n\n", "1 200 5 \n\n", "1 200 5\r\n\r\n",
	"1 199 5\n\n", "1 600 5\n\n", "1 0 5\n\n", "1 -200 5\n\n", "1 abc 5\n\n", "1 2e2 5\n\n", "1 99999999999999999999 5\n\n",
	"1 200 -2\n\n", "1 200 x\n\n", "1 200 05\n\n", "1 200 -0\n\n", "1 0200 5\n\n", "1 200 +5\n\n", "1 200 5x\n\n", "1 200 99999999999999999999\n\n",
	/* lines */
	"1 200 5\nno colon\n\n", "1 200 5\nA\n\n", "1 200 5\n: value\n\n", "1 200 5\nA B: c\n\n", "1 200 5\nA : c\n\n", "1 200 5\n A: b\n\n",
	"1 200 5\nA: b\r\n\n", "1 200 5\nA: b\001c\n\n", "1 200 5\nA: b\177\n\n", "1 200 5\n\303\244: b\n\n", "1 200 5\nA:b\n\n",
	/* ends */
	"1 200 5\nA: b", "1 200 5\nA: b\n", "1 200 5\n\nA: b\n", "1 200 5\n\nA: b\n\n", "1 200 5\nA: b\n\n\n", "1 200 5\nA: b\n\nx",
	/* what a connection, or the gateway, says for itself */
	"1 200 5\nContent-Length: 7\n\n", "1 200 5\ntransfer-encoding: chunked\n\n", "1 200 5\nConnection: close\n\n", "1 200 5\nUpgrade: x\n\n",
	"1 200 5\nSet-Cookie: a=b\n\n", "1 200 5\nDate: x\n\n", "1 200 5\nX-Request-Id: 1\n\n", "1 200 5\nx-sluice-tenant: a\n\n", "1 200 5\nAccess-Control-Allow-Origin: *\n\n",
};
/* clang-format on */

static void garbage_is_refused(void **state)
{
	static const char nul[] = "1 200 5\nA: b\0c\n\n", nul_name[] = "1 200 5\nA\0: b\n\n";

	(void)state;
	assert_true(is_good(slice_of(good)));
	assert_true(is_good(slice_of("1 599 -1\n\n")));
	assert_true(is_good(slice_of("1 200 5\nX-Sluice-Model: another\n\n")));
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
		if (is_good(slice_of(bad[i])))
			fail_msg("taken: %s", bad[i]);
	assert_false(is_good(slice_make(nul, sizeof(nul) - 1)));
	assert_false(is_good(slice_make(nul_name, sizeof(nul_name) - 1)));
}

static void no_part_of_a_head_is_a_head(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < strlen(good); cut++)
		assert_false(is_good(slice_make(good, cut)));
	for (size_t cut = 1; cut < strlen(good); cut++)
		assert_false(is_good(slice_make(good + cut, strlen(good) - cut)));
}

/* Whatever is taken with one byte of it changed is a head that could have been packed: packed again it is the same text. */
static void a_changed_byte_does_no_harm(void **state)
{
	char text[sizeof(good)];
	unsigned taken = 0, refused = 0;

	(void)state;
	memcpy(text, good, sizeof(good));
	for (size_t at = 0; at < strlen(good); at++) {
		for (int byte = 0; byte < 256; byte++) {
			struct mem *mem = mem_arena(ARENA);
			struct fields_answer answer;
			struct slice changed = slice_make(text, strlen(good));
			struct buf again;
			int status;
			text[at] = (char)byte;
			buf_init(&again, TEXT_MOST);
			if (unpack(changed, mem, &answer, &status)) {
				assert_true(fields_pack(&answer, status, answer.content_length, &again));
				assert_true(slice_equal(buf_slice(&again), changed));
				taken++;
			} else {
				refused++;
			}
			buf_free(&again);
			mem_arena_free(&mem);
		}
		text[at] = good[at];
	}
	assert_true(taken > 1000 && refused > 1000);
}

/* ---- room ---------------------------------------------------------------------------------------------------------- */

static void little_room_is_no_crash(void **state)
{
	struct fields_answer answer;
	unsigned taken = 0;
	int status;

	(void)state;
	for (size_t ceiling = 1; ceiling <= 1024; ceiling++) {
		struct mem *mem = mem_arena(ceiling);
		taken += unpack(slice_of(good), mem, &answer, &status);
		mem_arena_free(&mem);
	}
	assert_true(taken > 0 && taken < 1000);
}

static void a_short_buffer_is_told(void **state)
{
	struct http_field field = { SLICE("A"), SLICE("b") };
	struct fields_answer answer = { .fields = &field, .count = 1 };

	(void)state;
	for (size_t ceiling = 1; ceiling < strlen("1 200 5\nA: b\n\n"); ceiling++) {
		struct buf out;
		buf_init(&out, ceiling);
		assert_false(fields_pack(&answer, 200, 5, &out));
		buf_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_packed_comes_back),  cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(no_part_of_a_head_is_a_head), cmocka_unit_test(a_changed_byte_does_no_harm),
		cmocka_unit_test(little_room_is_no_crash),     cmocka_unit_test(a_short_buffer_is_told),
	};

	return cmocka_run_group_tests_name("fields, head", tests, NULL, NULL);
}

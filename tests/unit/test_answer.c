/* Answers and their packed form: what was packed comes back, and nothing else does. The sum is made here a second time, as the header describes it, so that
 * entries that lie under a right sum can be tried too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/answer.h"
#include "lib/buf.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <zstd.h>

enum { ROOM = 1 << 20, HEAD = 300 };
static const size_t no_ceiling = SIZE_MAX;
static const unsigned char key[ANSWER_KEY] = "the key of the tests, 32 bytes.";

static char head_bytes[HEAD], body_bytes[ROOM];
static struct buf memory;

static int set_up(void **state)
{
	(void)state;
	buf_init(&memory, ROOM);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_free(&memory);
	return 0;
}

/* `letters` of an alphabet: 256 are beyond any packing, few are not. */
static struct slice random_bytes(char *room, size_t len, int letters, unsigned *seed)
{
	for (size_t i = 0; i < len; i++)
		room[i] = (char)(rand_r(seed) / 7 % letters);
	return slice_make(room, len);
}

static void assert_slice(struct slice got, struct slice wanted)
{
	assert_int_equal(got.len, wanted.len);
	if (wanted.len > 0)
		assert_memory_equal(got.data, wanted.data, wanted.len);
}

static void assert_unpacks(const struct answer_packed *packed, struct slice head, struct slice body)
{
	struct answer *answer = answer_unpack(key, packed, head.len + body.len);
	assert_non_null(answer);
	assert_slice(answer_head(answer), head);
	assert_slice(answer_body(answer), body);
	answer_release(&answer);
	if (head.len + body.len > 0)
		assert_null(answer_unpack(key, packed, head.len + body.len - 1));
}

static void assert_poisoned(const struct answer_packed *packed)
{
	assert_null(answer_unpack(key, packed, ROOM));
}

/* Straight from the header's words. */
static void sum_anew(struct answer_packed *packed)
{
	static unsigned char text[8 + ANSWER_KEY + 3 * 8 + HEAD + ROOM];
	uint64_t lengths[] = { packed->head.len, packed->body.len, (uint64_t)packed->raw };
	unsigned char digest[SHA256_DIGEST_LENGTH], *at = text;
	memcpy(at, "answer 1", 8);
	memcpy(at + 8, key, ANSWER_KEY);
	at += 8 + ANSWER_KEY;
	for (size_t i = 0; i < 3 * 8; i++)
		*at++ = (unsigned char)(lengths[i / 8] >> (i % 8 * 8));
	memcpy(at, packed->head.data, packed->head.len);
	at += packed->head.len;
	memcpy(at, packed->body.data, packed->body.len);
	at += packed->body.len;
	SHA256(text, (size_t)(at - text), digest);
	memcpy(packed->sum, digest, ANSWER_SUM);
}

static void lives_until_the_last_holder(void **state)
{
	(void)state;
	struct answer *answer = answer_new(SLICE("head"), SLICE("body\0more"));
	struct answer *same = answer_hold(answer), *none = NULL;
	assert_ptr_equal(same, answer);
	assert_in_range(answer_size(answer), 13, 13 + 64);
	answer_release(&answer);
	assert_null(answer);
	assert_slice(answer_head(same), SLICE("head"));
	assert_slice(answer_body(same), SLICE("body\0more"));
	answer_release(&same);
	answer_release(&none);
	answer = answer_new(SLICE_NONE, SLICE_NONE);
	assert_int_equal(answer_head(answer).len + answer_body(answer).len, 0);
	answer_release(&answer);
}

static void unpacks_what_was_packed(void **state)
{
	unsigned seed = 11;
	int compressed = 0, plain = 0;
	(void)state;
	for (int round = 0; round < 3000; round++) {
		size_t len = (size_t)rand_r(&seed) % (round % 2 == 0 ? 3 * ANSWER_PACK_LEAST : 64);
		struct slice head = random_bytes(head_bytes, (size_t)rand_r(&seed) % HEAD, 256, &seed);
		struct slice body = random_bytes(body_bytes, len, 1 + rand_r(&seed) % 256, &seed);
		struct answer_packed packed;
		answer_pack(key, head, body, &memory, &packed);
		assert_unpacks(&packed, head, body);
		assert_int_equal(packed.raw, body.len);
		if (packed.body.len == body.len) {
			assert_ptr_equal(packed.body.data, body.data);
			plain++;
		} else {
			assert_true(len >= ANSWER_PACK_LEAST && packed.body.len <= len - len / 8);
			compressed++;
		}
	}
	assert_true(compressed > 100 && plain > 100);
}

static void compresses_from_the_least_size_on_where_it_pays(void **state)
{
	unsigned seed = 3;
	struct answer_packed packed;
	struct slice body = random_bytes(body_bytes, ANSWER_PACK_LEAST, 4, &seed);
	(void)state;
	answer_pack(key, SLICE_NONE, body, &memory, &packed);
	assert_true(packed.body.len < ANSWER_PACK_LEAST / 2);
	assert_ptr_equal(packed.body.data, memory.data);
	assert_unpacks(&packed, SLICE_NONE, body);
	answer_pack(key, SLICE_NONE, slice_first(body, ANSWER_PACK_LEAST - 1), &memory, &packed);
	assert_ptr_equal(packed.body.data, body.data);
	body = random_bytes(body_bytes, ROOM, 240, &seed); /* zstd would save a hundredth */
	answer_pack(key, SLICE_NONE, body, &memory, &packed);
	assert_ptr_equal(packed.body.data, body.data);
	assert_unpacks(&packed, SLICE_NONE, body);
}

/* Seven eighths of the body are enough, time and again; a byte less, and it is stored as it is. */
static void does_without_memory(void **state)
{
	unsigned seed = 4;
	struct answer_packed packed;
	struct slice body = random_bytes(body_bytes, ANSWER_PACK_LEAST, 2, &seed);
	struct buf enough, narrow;
	(void)state;
	buf_init(&enough, ANSWER_PACK_LEAST / 8 * 7);
	buf_init(&narrow, ANSWER_PACK_LEAST / 8 * 7 - 1);
	for (int round = 0; round < 3; round++) {
		answer_pack(key, SLICE("head"), body, &enough, &packed);
		assert_ptr_equal(packed.body.data, enough.data);
		assert_unpacks(&packed, SLICE("head"), body);
		answer_pack(key, SLICE("head"), body, &narrow, &packed);
		assert_ptr_equal(packed.body.data, body.data);
		assert_unpacks(&packed, SLICE("head"), body);
	}
	buf_free(&enough);
	buf_free(&narrow);
}

static void sums_as_its_header_says(void **state)
{
	unsigned seed = 5;
	(void)state;
	for (int letters = 2; letters <= 256; letters += 254) {
		struct answer_packed packed, again;
		struct slice body = random_bytes(body_bytes, 5000, letters, &seed);
		answer_pack(key, random_bytes(head_bytes, 70, 256, &seed), body, &memory, &packed);
		again = packed;
		sum_anew(&again);
		assert_memory_equal(again.sum, packed.sum, ANSWER_SUM);
	}
}

static void try_each_bit(char *bytes, size_t len, const struct answer_packed *packed)
{
	for (size_t bit = 0; bit < 8 * len; bit++) {
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
		assert_poisoned(packed);
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
	}
}

/* In the head, the body as it is stored, the sum and the length. */
static void refuses_any_flipped_bit(void **state)
{
	unsigned seed = 6;
	(void)state;
	for (int compressed = 0; compressed < 2; compressed++) {
		size_t len = compressed ? ANSWER_PACK_LEAST : 100;
		struct slice head = random_bytes(head_bytes, 50, 256, &seed);
		struct slice body = random_bytes(body_bytes, len, 2, &seed);
		struct answer_packed packed;
		answer_pack(key, head, body, &memory, &packed);
		assert_int_equal(packed.body.data == memory.data, compressed);
		try_each_bit(head_bytes, head.len, &packed);
		try_each_bit(compressed ? memory.data : body_bytes, packed.body.len, &packed);
		try_each_bit((char *)packed.sum, ANSWER_SUM, &packed);
		try_each_bit((char *)&packed.raw, sizeof(packed.raw), &packed);
		assert_unpacks(&packed, head, body);
	}
}

static void refuses_what_is_cut_or_cut_elsewhere(void **state)
{
	unsigned seed = 8;
	(void)state;
	for (int compressed = 0; compressed < 2; compressed++) {
		size_t len = compressed ? ANSWER_PACK_LEAST : 100;
		struct slice head = random_bytes(head_bytes, 50, 256, &seed);
		struct slice body = random_bytes(body_bytes, len, 2, &seed);
		struct answer_packed packed, cut;
		answer_pack(key, head, body, &memory, &packed);
		for (size_t keep = 0; keep < packed.body.len; keep++) {
			cut = packed;
			cut.body.len = keep;
			assert_poisoned(&cut);
			cut.raw = (int64_t)keep; /* as if it were stored as it is */
			assert_poisoned(&cut);
		}
		for (cut = packed; cut.head.len > 0;) {
			cut.head.len--;
			assert_poisoned(&cut);
		}
		assert_unpacks(&packed, head, body);
	}
}

/* The same bytes, but the head ends elsewhere. */
static void tells_head_from_body(void **state)
{
	struct answer_packed packed, other;
	struct slice text = SLICE("one text, of a head and of a body");
	(void)state;
	answer_pack(key, slice_first(text, 10), slice_skip(text, 10), &memory, &packed);
	for (size_t at = 0; at <= text.len; at++) {
		other = packed;
		other.head = slice_first(text, at);
		other.body = slice_skip(text, at);
		other.raw = (int64_t)other.body.len;
		if (at != 10)
			assert_poisoned(&other);
		else
			assert_unpacks(&other, packed.head, packed.body);
	}
}

static void refuses_another_key(void **state)
{
	struct answer_packed packed;
	unsigned char other[ANSWER_KEY];
	(void)state;
	answer_pack(key, SLICE("head"), SLICE("body"), &memory, &packed);
	memcpy(other, key, ANSWER_KEY);
	for (size_t bit = 0; bit < 8 * ANSWER_KEY; bit++) {
		other[bit / 8] = (unsigned char)(key[bit / 8] ^ 1 << bit % 8);
		assert_null(answer_unpack(other, &packed, no_ceiling));
		other[bit / 8] = key[bit / 8];
	}
	assert_unpacks(&packed, SLICE("head"), SLICE("body"));
}

static void two_entries_are_no_third(void **state)
{
	struct answer_packed one, two, mixed;
	(void)state;
	answer_pack(key, SLICE("head 1"), SLICE("body 1"), &memory, &one);
	answer_pack(key, SLICE("head 2"), SLICE("body 2"), &memory, &two);
	mixed = one;
	mixed.body = two.body;
	assert_poisoned(&mixed);
	memcpy(mixed.sum, two.sum, ANSWER_SUM);
	assert_poisoned(&mixed);
}

/* A MiB of one letter is a frame of some dozens of bytes. Under a right sum it may claim what it likes, and is held to the ceiling and to its claim. */
static void a_bomb_does_not_pass_the_ceiling(void **state)
{
	static const int64_t claims[] = { INT64_MIN, -1, 0, 1, 1000, ANSWER_PACK_LEAST, ROOM - 1, ROOM + 1, INT64_MAX };
	struct answer_packed packed;
	struct slice body = { memset(body_bytes, 'a', ROOM), ROOM };
	(void)state;
	answer_pack(key, SLICE("head"), body, &memory, &packed);
	assert_true(packed.body.len < 1000);
	assert_unpacks(&packed, SLICE("head"), body);
	assert_null(answer_unpack(key, &packed, 0));
	assert_null(answer_unpack(key, &packed, 3));
	assert_null(answer_unpack(key, &packed, ROOM));
	for (size_t i = 0; i < ARRAY_LENGTH(claims); i++) {
		packed.raw = claims[i];
		sum_anew(&packed);
		assert_null(answer_unpack(key, &packed, 2 * ROOM));
	}
	packed.raw = ROOM;
	sum_anew(&packed);
	assert_unpacks(&packed, SLICE("head"), body);
	packed.head = SLICE("");
	for (packed.raw = INT64_MIN; packed.raw < 0; packed.raw /= 2) {
		sum_anew(&packed);
		assert_null(answer_unpack(key, &packed, no_ceiling));
	}
}

/* Right sums over what zstd never wrote, or wrote and somebody changed. */
static void refuses_what_is_no_frame(void **state)
{
	unsigned seed = 9;
	struct slice body = random_bytes(body_bytes, 2 * ANSWER_PACK_LEAST, 3, &seed);
	struct answer_packed packed;
	int refused = 0;
	(void)state;
	answer_pack(key, SLICE(""), body, &memory, &packed);
	for (size_t keep = 0; keep < packed.body.len; keep++) {
		struct answer_packed cut = packed;
		cut.body.len = keep;
		sum_anew(&cut);
		assert_poisoned(&cut);
	}
	for (int round = 0; round < 2000;
	     round++) { /* some make another text of the same length, which nobody can tell */
		char *at = &memory.data[(size_t)rand_r(&seed) % memory.len], was = *at;
		*at = (char)(*at ^ 1 << rand_r(&seed) % 8);
		sum_anew(&packed);
		struct answer *answer = answer_unpack(key, &packed, ROOM);
		assert_true(answer == NULL || answer_body(answer).len == body.len);
		refused += answer == NULL;
		answer_release(&answer);
		*at = was;
	}
	assert_true(refused > 100);
	packed.body = random_bytes(body_bytes, 500, 256, &seed);
	sum_anew(&packed);
	assert_poisoned(&packed);
}

/* A frame, but larger than what it holds: answer_pack makes none. */
static void refuses_what_nobody_would_have_packed(void **state)
{
	unsigned seed = 10;
	char frame[200];
	struct slice body = random_bytes(body_bytes, 100, 256, &seed);
	struct answer_packed packed = { .raw = (int64_t)body.len };
	(void)state;
	packed.head = SLICE("head");
	packed.body = slice_make(frame, ZSTD_compress(frame, sizeof(frame), body.data, body.len, 1));
	assert_in_range(packed.body.len, body.len + 1, sizeof(frame));
	sum_anew(&packed);
	assert_poisoned(&packed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lives_until_the_last_holder),
		cmocka_unit_test(unpacks_what_was_packed),
		cmocka_unit_test(compresses_from_the_least_size_on_where_it_pays),
		cmocka_unit_test(does_without_memory),
		cmocka_unit_test(sums_as_its_header_says),
		cmocka_unit_test(refuses_any_flipped_bit),
		cmocka_unit_test(refuses_what_is_cut_or_cut_elsewhere),
		cmocka_unit_test(tells_head_from_body),
		cmocka_unit_test(refuses_another_key),
		cmocka_unit_test(two_entries_are_no_third),
		cmocka_unit_test(a_bomb_does_not_pass_the_ceiling),
		cmocka_unit_test(refuses_what_is_no_frame),
		cmocka_unit_test(refuses_what_nobody_would_have_packed),
	};
	return cmocka_run_group_tests_name("answer", tests, set_up, tear_down);
}

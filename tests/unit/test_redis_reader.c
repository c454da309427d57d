/* lib/redis_reader: every cut of the bytes gives the same replies; what passes a ceiling or is no RESP breaks it for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/redis.h"
#include "lib/redis_reader.h"

#include <hiredis/hiredis.h>
#include <stdio.h>

static const char stream[] =
	"+OK\r\n:42\r\n$5\r\nhe\r\no\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n-ERR no\r\n";
#define REPLIES 8

static size_t drain(struct redis_reader *r)
{
	struct redisReply *reply;
	size_t count = 0;
	while (redis_reader_next(r, &reply) == REDIS_READER_REPLY) {
		redis_reader_reply_free(reply);
		count++;
	}
	return count;
}

static void every_cut_gives_the_same(void **state)
{
	(void)state;
	for (size_t first = 0; first < sizeof(stream); first++) {
		struct redis_reader *r = redis_reader_new();
		redis_reader_feed(r, slice_make(stream, first));
		size_t count = drain(r);
		redis_reader_feed(r, slice_make(stream + first, sizeof(stream) - 1 - first));
		assert_int_equal(count + drain(r), REPLIES);
		redis_reader_free(&r);
		assert_null(r);
	}
}

static void byte_by_byte(void **state)
{
	struct redis_reader *r = redis_reader_new();
	size_t count = 0;
	(void)state;
	for (size_t i = 0; i + 1 < sizeof(stream); i++) {
		redis_reader_feed(r, slice_make(stream + i, 1));
		count += drain(r);
	}
	assert_int_equal(count, REPLIES);
	redis_reader_free(&r);
	redis_reader_free(&r);
}

static void broken_stays_broken(void **state)
{
	struct redis_reader *r = redis_reader_new();
	struct redisReply *reply;
	(void)state;
	redis_reader_feed(r, SLICE("nonsense\r\n"));
	assert_int_equal(redis_reader_next(r, &reply), REDIS_READER_BROKEN);
	assert_true(redis_reader_reason(r)[0] != '\0');
	redis_reader_feed(r, SLICE("+OK\r\n"));
	assert_int_equal(redis_reader_next(r, &reply), REDIS_READER_BROKEN);
	redis_reader_free(&r);
}

/* hiredis alone would allocate for each of these before one element came. */
static void announced_elements_are_capped_nested_ones_too(void **state)
{
	static const char *const greedy[] = { "*1048577\r\n", "*2147483647\r\n", "*2\r\n*1048575\r\n",
					      "*600000\r\n*600000\r\n" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(greedy); i++) {
		struct redis_reader *r = redis_reader_new();
		struct redisReply *reply;
		redis_reader_feed(r, slice_of(greedy[i]));
		assert_int_equal(redis_reader_next(r, &reply), REDIS_READER_BROKEN);
		assert_string_equal(redis_reader_reason(r), "a reply of too many elements");
		redis_reader_free(&r);
	}
}

static void depth_is_capped(void **state)
{
	(void)state;
	for (int depth = 1; depth <= 20; depth++) {
		struct redis_reader *r = redis_reader_new();
		struct redisReply *reply = NULL;
		for (int i = 0; i < depth; i++)
			redis_reader_feed(r, SLICE("*1\r\n"));
		redis_reader_feed(r, SLICE(":1\r\n"));
		enum redis_reader_result result = redis_reader_next(r, &reply);
		assert_int_equal(result, depth <= REDIS_READER_DEPTH ? REDIS_READER_REPLY : REDIS_READER_BROKEN);
		redis_reader_reply_free(reply);
		redis_reader_free(&r);
	}
}

static void the_count_begins_anew_with_each_reply(void **state)
{
	struct redis_reader *r = redis_reader_new();
	struct redisReply *reply;
	char head[32];
	(void)state;
	for (int round = 0; round < 5; round++) {
		int length = snprintf(head, sizeof(head), "*%d\r\n", 300000);
		redis_reader_feed(r, slice_make(head, (size_t)length));
		for (int i = 0; i < 300000; i++)
			redis_reader_feed(r, SLICE(":1\r\n"));
		assert_int_equal(redis_reader_next(r, &reply), REDIS_READER_REPLY);
		assert_int_equal(redis_reply_count(reply), 300000);
		redis_reader_reply_free(reply);
	}
	redis_reader_free(&r);
}

static void bytes_without_end_are_capped(void **state)
{
	static char block[1 << 20];
	struct redis_reader *r = redis_reader_new();
	struct redisReply *reply;
	enum redis_reader_result result = REDIS_READER_MORE;
	size_t fed = 0;
	(void)state;
	memset(block, 'x', sizeof(block));
	redis_reader_feed(r, SLICE("$500000000\r\n"));
	while (result == REDIS_READER_MORE && fed < 2 * REDIS_READER_BYTES) {
		redis_reader_feed(r, slice_make(block, sizeof(block)));
		fed += sizeof(block);
		result = redis_reader_next(r, &reply);
	}
	assert_int_equal(result, REDIS_READER_BROKEN);
	assert_true(fed <= REDIS_READER_BYTES + sizeof(block));
	redis_reader_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cut_gives_the_same),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(broken_stays_broken),
		cmocka_unit_test(announced_elements_are_capped_nested_ones_too),
		cmocka_unit_test(depth_is_capped),
		cmocka_unit_test(the_count_begins_anew_with_each_reply),
		cmocka_unit_test(bytes_without_end_are_capped),
	};
	return cmocka_run_group_tests_name("redis_reader", tests, NULL, NULL);
}

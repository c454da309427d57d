/* lib/redis against a real server: answers, order, cancelling, and everything that a callback may do from inside. The faults
 * (silence, death, refusals) stand in test_redis_faults.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/mem.h"
#include "tests/support/redis_rig.h"

#include <hiredis/hiredis.h>
#include <unistd.h>

static struct redis_rig rig;

static int begin(void **state)
{
	(void)state;
	redis_rig_begin(&rig, NULL);
	return 0;
}

static int end(void **state)
{
	(void)state;
	redis_rig_end(&rig);
	return 0;
}

static void answers_of_every_type(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_ask(&rig, &a, "SET key 41");
	assert_int_equal(a.result, REDIS_OK);
	assert_string_equal(a.text, "OK");
	redis_rig_ask(&rig, &a, "INCR key");
	assert_int_equal(a.number, 42);
	redis_rig_ask(&rig, &a, "GET key");
	assert_int_equal(a.number, 42); /* an integer out of a string of digits */
	redis_rig_ask(&rig, &a, "GET nothing");
	assert_int_equal(a.result, REDIS_OK);
	assert_true(a.has_reply);
	redis_rig_ask(&rig, &a, "LPUSH key x");
	assert_int_equal(a.result, REDIS_ERROR);
	assert_int_equal(a.error, REDIS_ERROR_wrongtype);
	redis_rig_ask(&rig, &a, "NONSENSE");
	assert_int_equal(a.error, REDIS_ERROR_unknown_command);
	assert_true(a.took > 0);
	assert_int_equal(redis_counts(rig.redis)->calls, 6);
	assert_int_equal(redis_counts(rig.redis)->errors[REDIS_ERROR_wrongtype], 1);
	assert_int_equal(redis_counts(rig.redis)->connects, 1);
}

static void on_array(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	int64_t number;
	struct slice text;
	(void)call;
	assert_int_equal(answer->result, REDIS_OK);
	assert_int_equal(redis_reply_count(answer->reply), 3);
	assert_true(redis_reply_int(redis_reply_at(answer->reply, 0), &number));
	assert_int_equal(number, -7);
	assert_true(redis_reply_text(redis_reply_at(answer->reply, 1), &text));
	assert_true(slice_equal(text, slice_make("a\0b", 3)));
	assert_int_equal(redis_reply_count(redis_reply_at(answer->reply, 2)), 2);
	assert_false(redis_reply_int(redis_reply_at(answer->reply, 2), &number));
	assert_false(redis_reply_text(redis_reply_at(answer->reply, 0), &text));
	assert_null(redis_reply_at(answer->reply, 3));
	assert_null(redis_reply_at(redis_reply_at(answer->reply, 0), 0));
	++*(int *)arg;
}

static void an_array_is_read_by_place(void **state)
{
	const struct slice words[] = { SLICE("EVAL"), SLICE("return {-7, ARGV[1], {1, 2}}"), SLICE("0"),
				       slice_make("a\0b", 3) };
	int count = 0;
	(void)state;
	redis_send(rig.redis, RIG_TIMEOUT, on_array, &count, ARRAY_LENGTH(words), words);
	redis_rig_until(&rig, &count, 1);
}

static void arguments_of_any_bytes_and_size(void **state)
{
	size_t size = 3 * 1000 * 1000;
	char *big = mem_new(size);
	struct rig_answer a;
	(void)state;
	for (size_t i = 0; i < size; i++)
		big[i] = (char)(i * 31);
	const struct slice set[] = { SLICE("SET"), SLICE("big"), slice_make(big, size) };
	memset(&a, 0, sizeof(a));
	redis_send(rig.redis, RIG_TIMEOUT, redis_rig_done, &a, ARRAY_LENGTH(set), set);
	memset(big, 0, size); /* the arguments were copied */
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_OK);
	redisReply *reply = redis_server_command(rig.server, "GET big");
	assert_int_equal(reply->len, size);
	for (size_t i = 0; i < size; i++)
		assert_true(reply->str[i] == (char)(i * 31));
	freeReplyObject(reply);
	mem_free(big);
	const struct slice empty[] = { SLICE("ECHO"), SLICE_NONE };
	memset(&a, 0, sizeof(a));
	redis_send(rig.redis, RIG_TIMEOUT, redis_rig_done, &a, ARRAY_LENGTH(empty), empty);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_OK);
	assert_string_equal(a.text, "");
}

struct sequence {
	int64_t next;
	int count;
};

static void on_next(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct sequence *s = arg;
	int64_t number = 0;
	(void)call;
	assert_int_equal(answer->result, REDIS_OK);
	assert_true(redis_reply_int(answer->reply, &number));
	assert_int_equal(number, ++s->next);
	s->count++;
}

static void ten_thousand_in_one_turn_come_back_in_order(void **state)
{
	const struct slice words[] = { SLICE("INCR"), SLICE("key") };
	struct sequence s = { 0, 0 };
	(void)state;
	redis_rig_until_up(&rig);
	for (int i = 0; i < 10000; i++)
		redis_send(rig.redis, RIG_TIMEOUT, on_next, &s, ARRAY_LENGTH(words), words);
	assert_int_equal(s.count, 0);
	redis_rig_until(&rig, &s.count, 10000);
	assert_int_equal(redis_server_int(rig.server, "GET key"), 10000);
}

static void calls_before_the_connection_wait_for_it(void **state)
{
	struct rig_answer a[100];
	(void)state;
	assert_false(redis_is_up(rig.redis));
	for (size_t i = 0; i < ARRAY_LENGTH(a); i++)
		redis_rig_send(&rig, &a[i], RIG_TIMEOUT, "INCR key");
	redis_rig_until(&rig, &a[99].count, 1);
	for (size_t i = 0; i < ARRAY_LENGTH(a); i++)
		assert_int_equal(a[i].number, i + 1);
	assert_int_equal(rig.ups, 1);
}

static void no_time_is_unsent_and_harms_nobody(void **state)
{
	struct rig_answer a, b;
	(void)state;
	redis_rig_until_up(&rig);
	redis_rig_send(&rig, &a, 0, "SET key 1");
	redis_rig_send(&rig, &b, RIG_TIMEOUT, "PING");
	redis_rig_until(&rig, &b.count, 1);
	assert_int_equal(a.count, 1);
	assert_int_equal(a.result, REDIS_UNSENT);
	assert_int_equal(b.result, REDIS_OK);
	assert_int_equal(redis_server_int(rig.server, "EXISTS key"), 0);
	assert_int_equal(rig.downs, 0);
}

static void cancelled_while_it_waits_it_never_runs(void **state)
{
	struct rig_answer a, b;
	(void)state;
	redis_rig_send(&rig, &a, RIG_TIMEOUT, "SET key 1");
	redis_cancel(&a.call);
	assert_null(a.call);
	redis_cancel(&a.call); /* NULL is fine */
	redis_rig_ask(&rig, &b, "EXISTS key");
	assert_int_equal(b.number, 0);
	assert_int_equal(a.count, 0);
}

static void cancelled_after_it_was_sent_its_reply_is_dropped(void **state)
{
	struct rig_answer a, b;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	redis_rig_send(&rig, &a, RIG_TIMEOUT, "INCR key");
	loop_turn(rig.loop, false); /* it is on the wire, and unanswered */
	redis_cancel(&a.call);
	redis_server_resume(rig.server);
	redis_rig_ask(&rig, &b, "INCR key");
	assert_int_equal(b.number, 2);
	assert_int_equal(a.count, 0);
}

static void cancelled_with_its_end_decided_it_is_silent(void **state)
{
	struct rig_answer a, b;
	(void)state;
	redis_rig_send(&rig, &a, 0, "PING"); /* refused at once, told at the end of the turn */
	redis_cancel(&a.call);
	redis_rig_ask(&rig, &b, "PING");
	assert_int_equal(a.count, 0);
}

/* ---- from inside a callback ------------------------------------------------------------------------------------------------ */

static void on_send_again(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct rig_answer *a = arg;
	const struct slice words[] = { SLICE("INCR"), SLICE("key") };
	(void)call;
	assert_int_equal(answer->result, REDIS_OK);
	if (++a->count < 1000)
		redis_send(rig.redis, RIG_TIMEOUT, on_send_again, a, ARRAY_LENGTH(words), words);
}

static void a_callback_may_send(void **state)
{
	struct rig_answer a = { .count = 0 };
	const struct slice words[] = { SLICE("INCR"), SLICE("key") };
	(void)state;
	redis_send(rig.redis, RIG_TIMEOUT, on_send_again, &a, ARRAY_LENGTH(words), words);
	redis_rig_until(&rig, &a.count, 1000);
	assert_int_equal(redis_server_int(rig.server, "GET key"), 1000);
}

struct pair {
	struct redis_call *self, *other;
	int count;
};

static void on_cancel_other(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct pair *p = arg;
	(void)answer;
	assert_ptr_equal(call, p->self);
	redis_cancel(&p->other);
	redis_cancel(&p->self); /* itself: it is at its end */
	p->count++;
}

static void a_callback_may_cancel_itself_and_others(void **state)
{
	const struct slice words[] = { SLICE("INCR"), SLICE("key") };
	struct rig_answer other, last;
	struct pair p = { 0 };
	(void)state;
	redis_rig_until_up(&rig);
	p.self = redis_send(rig.redis, RIG_TIMEOUT, on_cancel_other, &p, ARRAY_LENGTH(words), words);
	redis_rig_send(&rig, &other, RIG_TIMEOUT, "INCR key");
	p.other = other.call;
	redis_rig_ask(&rig, &last, "INCR key");
	assert_int_equal(p.count, 1);
	assert_int_equal(other.count, 0);
	assert_int_equal(last.number, 3);
}

static void on_free(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct rig_answer *a = arg;
	redis_rig_done(call, a, answer);
	redis_free(&rig.redis);
}

static void a_callback_may_free_the_connection(void **state)
{
	const struct slice words[] = { SLICE("INCR"), SLICE("key") };
	struct rig_answer first = { .count = 0 }, behind, sent, waiting;
	(void)state;
	redis_rig_until_up(&rig);
	redis_send(rig.redis, RIG_TIMEOUT, on_free, &first, ARRAY_LENGTH(words), words);
	redis_rig_send(&rig, &behind, RIG_TIMEOUT, "PING");       /* answered by the same write of the server's */
	redis_rig_send(&rig, &sent, RIG_TIMEOUT, "BLPOP none 0"); /* sent along, and never answered */
	redis_rig_until(&rig, &first.count, 1);
	assert_int_equal(behind.count, 1);
	assert_int_equal(behind.result, REDIS_LOST);
	assert_int_equal(sent.count, 1);
	assert_int_equal(sent.result, REDIS_LOST);
	loop_turn(rig.loop, false);
	redis_rig_connect(&rig, redis_server_url(rig.server));
	redis_send(rig.redis, 0, on_free, &first, ARRAY_LENGTH(words), words);
	redis_rig_send(&rig, &waiting, RIG_TIMEOUT, "INCR key");
	redis_rig_until(&rig, &first.count, 2);
	assert_int_equal(waiting.result, REDIS_UNSENT);
	loop_turn(rig.loop, false);
	assert_int_equal(redis_server_int(rig.server, "GET key"), 1);
}

static void on_lost_send_more(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct rig_answer *more = arg;
	(void)call;
	if (answer->result == REDIS_LOST)
		redis_rig_send(more->rig, more, RIG_TIMEOUT, "PING");
}

static void freeing_answers_what_is_pending_and_what_comes_late(void **state)
{
	const struct slice words[] = { SLICE("BLPOP"), SLICE("none"), SLICE("0") };
	struct redis_rig copy;
	struct rig_answer more = { .rig = &copy }, sent;
	(void)state;
	redis_rig_until_up(&rig);
	redis_send(rig.redis, RIG_TIMEOUT, on_lost_send_more, &more, ARRAY_LENGTH(words), words);
	redis_rig_send(&rig, &sent, RIG_TIMEOUT, "PING");
	loop_turn(rig.loop, false);
	copy = rig; /* who else holds the pointer */
	redis_free(&rig.redis);
	assert_null(rig.redis);
	redis_free(&rig.redis); /* NULL is fine */
	assert_int_equal(sent.result, REDIS_LOST);
	loop_turn(rig.loop, false);
	assert_int_equal(more.count, 1);
	assert_int_equal(more.result, REDIS_UNSENT);
}

static void on_free_at_change(void *arg, bool up)
{
	(void)up;
	redis_free(&rig.redis);
	++*(int *)arg;
}

static void the_listener_may_free_the_connection(void **state)
{
	int count = 0;
	struct rig_answer a;
	(void)state;
	redis_on_change(rig.redis, on_free_at_change, &count);
	redis_rig_send(&rig, &a, RIG_TIMEOUT, "PING");
	redis_rig_until(&rig, &count, 1);
	assert_int_equal(a.result, REDIS_UNSENT);
	redis_rig_connect(&rig, redis_server_url(rig.server));
	redis_rig_until_up(&rig);
	redis_on_change(rig.redis, on_free_at_change, &count);
	redis_rig_send(&rig, &a, RIG_TIMEOUT, "BLPOP none 0");
	loop_turn(rig.loop, false);
	redis_server_kill(rig.server);
	redis_rig_until(&rig, &count, 2);
	assert_int_equal(a.result, REDIS_LOST);
}

static void on_repeat_second(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	redis_rig_done(call, arg, answer);
}

static void on_repeat_first(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	(void)answer;
	assert_non_null(redis_repeat(call, on_repeat_second, arg));
}

static void a_command_is_repeated_as_it_was(void **state)
{
	const struct slice words[] = { SLICE("INCRBY"), SLICE("key"), SLICE("21") };
	struct rig_answer a = { .count = 0 };
	(void)state;
	redis_send(rig.redis, RIG_TIMEOUT, on_repeat_first, &a, ARRAY_LENGTH(words), words);
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.number, 42);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(answers_of_every_type),
		TEST(an_array_is_read_by_place),
		TEST(arguments_of_any_bytes_and_size),
		TEST(ten_thousand_in_one_turn_come_back_in_order),
		TEST(calls_before_the_connection_wait_for_it),
		TEST(no_time_is_unsent_and_harms_nobody),
		TEST(cancelled_while_it_waits_it_never_runs),
		TEST(cancelled_after_it_was_sent_its_reply_is_dropped),
		TEST(cancelled_with_its_end_decided_it_is_silent),
		TEST(a_callback_may_send),
		TEST(a_callback_may_cancel_itself_and_others),
		TEST(a_callback_may_free_the_connection),
		TEST(freeing_answers_what_is_pending_and_what_comes_late),
		TEST(the_listener_may_free_the_connection),
		TEST(a_command_is_repeated_as_it_was),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("redis", tests, NULL, NULL);
}

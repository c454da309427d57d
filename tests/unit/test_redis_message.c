/* lib/redis after SUBSCRIBE: messages go to the listener, answers to their calls, both in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/redis_rig.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <unistd.h>

static struct redis_rig rig;

/* What the listener heard last. */
static struct {
	int count;
	bool frees; /* the connection, inside */
	int type;
	int64_t number;
	char channel[64], text[64];
} heard;

static void on_message(void *arg, struct slice channel, const struct redisReply *payload)
{
	struct slice text = SLICE_NONE;
	assert_ptr_equal(arg, &heard);
	heard.count++;
	heard.type = payload == NULL ? 0 : payload->type;
	if (!redis_reply_text(payload, &text) || !redis_reply_int(payload, &heard.number))
		heard.number = -1;
	snprintf(heard.channel, sizeof(heard.channel), "%.*s", SLICE_ARGS(channel));
	snprintf(heard.text, sizeof(heard.text), "%.*s", SLICE_ARGS(text));
	if (heard.frees)
		redis_free(&rig.redis);
}

static int begin(void **state)
{
	(void)state;
	memset(&heard, 0, sizeof(heard));
	redis_rig_begin(&rig, NULL);
	redis_on_message(rig.redis, on_message, &heard);
	return 0;
}

static int end(void **state)
{
	(void)state;
	redis_rig_end(&rig);
	return 0;
}

static void subscribe(const char *words)
{
	struct rig_answer a;
	redis_rig_ask(&rig, &a, words);
	assert_int_equal(a.result, REDIS_OK);
	assert_int_equal(heard.count, 0); /* that one is subscribed is an answer */
}

static void a_message_is_heard_unasked(void **state)
{
	(void)state;
	subscribe("SUBSCRIBE here");
	redis_server_do(rig.server, "PUBLISH there %s", "not for us");
	redis_server_do(rig.server, "PUBLISH here %s", "good morning");
	redis_rig_until(&rig, &heard.count, 1);
	assert_string_equal(heard.channel, "here");
	assert_string_equal(heard.text, "good morning");
	assert_int_equal(rig.downs, 0);
}

static void what_was_published_before_is_heard_before_the_answer(void **state)
{
	struct rig_answer a;
	(void)state;
	subscribe("SUBSCRIBE here");
	for (int i = 1; i <= 100; i++) {
		redis_server_do(rig.server, "PUBLISH here %d", i);
		redis_rig_ask(&rig, &a, "PING");
		assert_int_equal(a.result, REDIS_OK);
		assert_int_equal(heard.count, i);
		assert_int_equal(heard.number, i);
	}
}

struct pongs {
	int count, next;
};

static void on_pong(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct pongs *p = arg;
	struct slice word;
	int64_t number = -1;
	(void)call;
	assert_int_equal(answer->result, REDIS_OK);
	assert_int_equal(redis_reply_count(answer->reply), 2);
	assert_true(redis_reply_text(redis_reply_at(answer->reply, 0), &word));
	assert_true(slice_equal(word, SLICE("pong")));
	assert_true(redis_reply_int(redis_reply_at(answer->reply, 1), &number));
	assert_int_equal(number, p->next++);
	p->count++;
}

/* More calls than the window takes, and messages among their answers: none is taken for the other. */
static void a_thousand_calls_among_a_thousand_messages(void **state)
{
	struct pongs p = { 0, 0 };
	char number[16];
	(void)state;
	subscribe("SUBSCRIBE here");
	for (int i = 0; i < 1000; i++) {
		snprintf(number, sizeof(number), "%d", i);
		const struct slice words[] = { SLICE("PING"), slice_of(number) };
		redis_send(rig.redis, RIG_TIMEOUT, on_pong, &p, ARRAY_LENGTH(words), words);
		if (i % 10 == 0)
			loop_turn(rig.loop, false);
		redis_server_do(rig.server, "PUBLISH here %d", i);
	}
	redis_rig_until(&rig, &p.count, 1000);
	redis_rig_until(&rig, &heard.count, 1000);
	assert_int_equal(heard.count, 1000);
	assert_int_equal(heard.number, 999);
	assert_int_equal(redis_counts(rig.redis)->connects, 1);
}

static void any_other_array_is_an_answer(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_ask(&rig, &a, "RPUSH list messages message");
	redis_rig_ask(&rig, &a, "LRANGE list 0 -1");
	assert_true(a.has_reply);
	redis_rig_ask(&rig, &a, "LRANGE none 0 -1");
	assert_true(a.has_reply);
	assert_int_equal(heard.count, 0);
}

static void a_payload_may_be_anything(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_ask(&rig, &a, "CLIENT ID");
	subscribe("SUBSCRIBE __redis__:invalidate");
	redis_server_do(rig.server, "CLIENT TRACKING ON REDIRECT %lld", (long long)a.number);
	redisReply *reply = redis_server_command(rig.server, "GET key");
	freeReplyObject(reply);
	redis_server_do(rig.server, "SET key value");
	redis_rig_until(&rig, &heard.count, 1);
	assert_int_equal(heard.type, REDIS_REPLY_ARRAY);
	redis_server_do(rig.server, "FLUSHALL");
	redis_rig_until(&rig, &heard.count, 2);
	assert_int_equal(heard.type, REDIS_REPLY_NIL);
	assert_string_equal(heard.channel, "__redis__:invalidate");
}

static void the_listener_may_free_the_connection(void **state)
{
	struct rig_answer a;
	(void)state;
	subscribe("SUBSCRIBE here");
	heard.frees = true;
	redis_rig_send(&rig, &a, RIG_TIMEOUT, "PING");
	redis_server_do(rig.server, "EVAL %s 0",
			"redis.call('PUBLISH', 'here', '1'); redis.call('PUBLISH', 'here', '2')");
	redis_rig_until(&rig, &heard.count, 1);
	redis_rig_until(&rig, &a.count, 1);
	assert_null(rig.redis);
	loop_turn(rig.loop, false);
	assert_int_equal(heard.count, 1); /* the second was behind it */
}

static void a_new_connection_hears_when_it_has_subscribed(void **state)
{
	(void)state;
	subscribe("SUBSCRIBE here");
	redis_server_do(rig.server, "CLIENT KILL TYPE pubsub");
	redis_rig_until(&rig, &rig.downs, 1);
	subscribe("SUBSCRIBE here");
	redis_server_do(rig.server, "PUBLISH here again");
	redis_rig_until(&rig, &heard.count, 1);
	assert_string_equal(heard.text, "again");
}

static void without_a_listener_nobody_asked(void **state)
{
	(void)state;
	subscribe("SUBSCRIBE here");
	redis_on_message(rig.redis, NULL, NULL);
	redis_server_do(rig.server, "PUBLISH here nobody");
	redis_rig_until(&rig, &rig.downs, 1);
	assert_int_equal(heard.count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_message_is_heard_unasked),
		TEST(what_was_published_before_is_heard_before_the_answer),
		TEST(a_thousand_calls_among_a_thousand_messages),
		TEST(any_other_array_is_an_answer),
		TEST(a_payload_may_be_anything),
		TEST(the_listener_may_free_the_connection),
		TEST(a_new_connection_hears_when_it_has_subscribed),
		TEST(without_a_listener_nobody_asked),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("redis_message", tests, NULL, NULL);
}

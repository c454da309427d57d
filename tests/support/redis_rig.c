#include "tests/support/redis_rig.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/descriptors.h"

static void on_change(void *arg, bool up)
{
	struct redis_rig *rig = arg;
	assert_int_equal(redis_is_up(rig->redis), up);
	if (up)
		rig->ups++;
	else
		rig->downs++;
}

static void connect_to(struct redis_rig *rig, const char *url, bool patient)
{
	struct redis_options options;
	const char *reason;
	redis_free(&rig->redis);
	assert_true(redis_options_parse(slice_of(url), &options, &reason));
	assert_true(options.patience > 0);
	if (patient)
		options.patience = 0;
	rig->redis = redis_new(rig->loop, &options, NULL);
	redis_options_free(&options);
	redis_on_change(rig->redis, on_change, rig);
	rig->ups = rig->downs = 0;
}

void redis_rig_connect(struct redis_rig *rig, const char *url)
{
	connect_to(rig, url, true);
}

void redis_rig_connect_impatient(struct redis_rig *rig, const char *url)
{
	connect_to(rig, url, false);
}

void redis_rig_begin(struct redis_rig *rig, const struct redis_server_options *options)
{
	memset(rig, 0, sizeof(*rig));
	rig->descriptors = descriptors_open();
	rig->server = redis_server_start(options);
	rig->loop = loop_new();
	redis_rig_connect(rig, redis_server_url(rig->server));
}

void redis_rig_end(struct redis_rig *rig)
{
	clock_test_release(); /* of a test that failed while it held the clock */
	redis_free(&rig->redis);
	loop_free(&rig->loop);
	redis_server_free(&rig->server);
	/* A cancelled look-up keeps its socket to the name server until getaddrinfo returns, in a thread nobody can join. */
	for (int i = 0; i < 3000 && descriptors_open() != rig->descriptors; i++)
		poll(NULL, 0, 10);
	assert_int_equal(descriptors_open(), rig->descriptors);
}

void redis_rig_until(struct redis_rig *rig, const int *counter, int least)
{
	int64_t end = clock_now() + 60 * CLOCK_SECOND;
	while (*counter < least) {
		assert_true(clock_now() < end);
		loop_turn(rig->loop, true);
	}
}

void redis_rig_until_up(struct redis_rig *rig)
{
	while (!redis_is_up(rig->redis))
		redis_rig_until(rig, &rig->ups, rig->ups + 1);
}

void redis_rig_until_down(struct redis_rig *rig)
{
	while (redis_is_up(rig->redis))
		redis_rig_until(rig, &rig->downs, rig->downs + 1);
}

void redis_rig_done(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct rig_answer *a = arg;
	struct slice text;
	(void)call;
	a->call = NULL;
	a->count++;
	a->result = answer->result;
	a->error = answer->error;
	a->took = answer->took;
	a->has_reply = answer->reply != NULL;
	a->number = -1;
	if (!redis_reply_int(answer->reply, &a->number))
		a->number = -1;
	if (redis_reply_text(answer->reply, &text))
		snprintf(a->text, sizeof(a->text), "%.*s", SLICE_ARGS(text));
}

void redis_rig_send(struct redis_rig *rig, struct rig_answer *a, int64_t timeout, const char *words)
{
	struct slice parts[16], rest = slice_of(words);
	size_t count = 0;
	memset(a, 0, sizeof(*a));
	a->rig = rig;
	while (rest.len > 0 && count < ARRAY_LENGTH(parts))
		parts[count++] = slice_cut(rest, ' ', &rest);
	a->call = redis_send(rig->redis, timeout, redis_rig_done, a, count, parts);
	assert_int_equal(a->count, 0); /* never inside the call */
}

void redis_rig_hold(void)
{
	clock_test_set(clock_now(), clock_unix());
}

void redis_rig_let_pass(struct redis_rig *rig, int64_t time)
{
	loop_turn(rig->loop, false);
	clock_test_advance(time);
}

void redis_rig_ask(struct redis_rig *rig, struct rig_answer *a, const char *words)
{
	redis_rig_send(rig, a, RIG_TIMEOUT, words);
	redis_rig_until(rig, &a->count, 1);
}

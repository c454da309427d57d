/* lib/subscriber with two channels on one connection: each word is told with the channel that it came on, on every connection anew, and one channel does not
 * need the other. What else a subscriber promises is in test_subscriber. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/subscriber.h"
#include "tests/support/redis_rig.h"

#define PING    (20 * CLOCK_MILLISECOND)
#define SILENCE (20 * CLOCK_SECOND) /* no slow machine is taken for a silent one */

static struct redis_rig rig; /* rig.redis is the tracked one */
static struct subscriber *subscriber;
static int hints;
static char heard[128]; /* the last: "channel: text" */

static void on_hint(void *arg, struct slice channel, struct slice text)
{
	(void)arg;
	hints++;
	snprintf(heard, sizeof(heard), "%.*s: %.*s", SLICE_ARGS(channel), SLICE_ARGS(text));
}

static void on_invalidated(void *arg, struct slice key)
{
	(void)arg;
	(void)key;
}

/* Tracked, and in an epoch: all that it subscribes to it has. */
static void subscribe(const char *url)
{
	char own[] = "worker:1", fleet[] = "fleet";
	struct redis_options where;
	const char *reason;
	const struct subscriber_options options = { .ping = PING,
						    .silence = SILENCE,
						    .channels = { slice_of(own), slice_of(fleet) },
						    .hint = on_hint,
						    .invalidated = on_invalidated };
	assert_true(redis_options_parse(slice_of(url), &where, &reason));
	subscriber = subscriber_new(rig.loop, &where, &options, NULL);
	redis_options_free(&where);
	memset(own, 0, sizeof(own)); /* they were copied */
	memset(fleet, 0, sizeof(fleet));
	subscriber_track(subscriber, rig.redis);
	while (subscriber_epoch(subscriber) == 0)
		loop_turn(rig.loop, true);
}

static int begin(void **state)
{
	(void)state;
	hints = 0;
	redis_rig_begin(&rig, NULL);
	return 0;
}

static int end(void **state)
{
	(void)state;
	subscriber_free(&subscriber);
	redis_rig_end(&rig);
	return 0;
}

static void publish(const char *channel, const char *text, int64_t listeners)
{
	assert_int_equal(redis_server_int(rig.server, "PUBLISH %s %s", channel, text), listeners);
}

static void hears(const char *channel, const char *text)
{
	char expected[128];
	int before = hints;
	publish(channel, text, 1);
	redis_rig_until(&rig, &hints, before + 1);
	snprintf(expected, sizeof(expected), "%s: %s", channel, text);
	assert_string_equal(heard, expected);
}

static void both_are_heard_and_named(void **state)
{
	(void)state;
	subscribe(redis_server_url(rig.server));
	for (int round = 0; round < 3; round++) {
		publish("another", "nothing", 0);
		hears("fleet", "open");
		hears("worker:1", "look");
		redis_server_do(rig.server, "CLIENT KILL TYPE pubsub"); /* both again on the next connection */
		while (subscriber_epoch(subscriber) != 0)
			loop_turn(rig.loop, true);
		while (subscriber_epoch(subscriber) == 0)
			loop_turn(rig.loop, true);
	}
	assert_int_equal(hints, 6);
}

static void hears_one_where_the_other_is_refused(void **state)
{
	static const char *const channels[] = { "fleet", "worker:1" };
	char url[160];
	(void)state;
	snprintf(url, sizeof(url), "unix://narrow:secret@%s", redis_server_path(rig.server));
	for (int may = 0; may < 2; may++) {
		redis_server_do(rig.server, "ACL SETUSER narrow on >secret ~* resetchannels &__redis__:* &%s +@all",
				channels[may]);
		redis_rig_connect(&rig, redis_server_url(rig.server));
		subscribe(url);
		publish(channels[1 - may], "unheard", 0);
		hears(channels[may], "heard");
		subscriber_free(&subscriber);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(both_are_heard_and_named),
		TEST(hears_one_where_the_other_is_refused),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("subscriber channels", tests, NULL, NULL);
}

/* lib/subscriber against a real server: what is heard, and that an epoch ends before anything could go unheard. The subscriber
 * comes through the fault proxy; the tracked connection and the third one, which changes keys, do not.
 *
 * That something is not told is proved by a hint published after it: Redis pushes in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/log.h"
#include "lib/subscriber.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_rig.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PING    (20 * CLOCK_MILLISECOND)
#define SILENCE (20 * CLOCK_SECOND) /* no slow machine is taken for a silent one */

static struct redis_rig rig; /* rig.redis is the tracked one */
static struct fault_proxy *proxy;
static char proxy_path[64];
static int log_descriptor;
static struct log *log_lines;
static struct subscriber *subscriber;

/* What was heard so far. */
static struct {
	int hints, keys, alls;
	char text[64], key[64];
	uint64_t epoch_in_all; /* as seen inside the last "all" */
	bool frees_in_hint, frees_in_key, frees_in_all;
} heard;

static void on_hint(void *arg, struct slice channel, struct slice text)
{
	assert_ptr_equal(arg, &heard);
	assert_true(slice_equal(channel, SLICE("worker:1")));
	heard.hints++;
	snprintf(heard.text, sizeof(heard.text), "%.*s", SLICE_ARGS(text));
	if (heard.frees_in_hint)
		subscriber_free(&subscriber);
}

static void on_invalidated(void *arg, struct slice key)
{
	assert_ptr_equal(arg, &heard);
	if (key.data == NULL) {
		heard.alls++;
		heard.epoch_in_all = subscriber_epoch(subscriber);
	} else {
		heard.keys++;
		snprintf(heard.key, sizeof(heard.key), "%.*s", SLICE_ARGS(key));
	}
	if (key.data == NULL ? heard.frees_in_all : heard.frees_in_key)
		subscriber_free(&subscriber);
}

/* ---- the parts -------------------------------------------------------------------------------------------------------------- */

static void subscribe(const char *url, int64_t silence)
{
	char channel[] = "worker:1";
	struct redis_options where;
	const char *reason;
	const struct subscriber_options options = { .ping = PING,
						    .silence = silence,
						    .channels = { slice_of(channel) },
						    .hint = on_hint,
						    .invalidated = on_invalidated,
						    .arg = &heard };
	assert_true(redis_options_parse(slice_of(url), &where, &reason));
	subscriber = subscriber_new(rig.loop, &where, &options, log_lines);
	redis_options_free(&where);
	memset(channel, 0, sizeof(channel)); /* it was copied */
}

/* Of the proxy; `user` is "" or "name:password@". */
static const char *proxy_url(const char *user)
{
	static char url[160];
	snprintf(url, sizeof(url), "unix://%s%s", user, proxy_path);
	return url;
}

static int begin(void **state)
{
	char listen_at[80], target[128];
	(void)state;
	memset(&heard, 0, sizeof(heard));
	log_descriptor = memfd_create("log", MFD_CLOEXEC);
	log_lines = log_new(log_descriptor, LOG_DEBUG);
	redis_rig_begin(&rig, NULL);
	snprintf(proxy_path, sizeof(proxy_path), "/tmp/sluice-test-subscriber-%d", (int)getpid());
	snprintf(listen_at, sizeof(listen_at), "unix:%s", proxy_path);
	snprintf(target, sizeof(target), "unix:%s", redis_server_path(rig.server));
	proxy = fault_proxy_start(listen_at, target);
	return 0;
}

static int end(void **state)
{
	(void)state;
	subscriber_free(&subscriber);
	fault_proxy_free(&proxy);
	redis_rig_end(&rig);
	log_free(&log_lines);
	close(log_descriptor);
	return 0;
}

static int logged(const char *words)
{
	static char text[256 * 1024];
	int count = 0;
	ssize_t got = pread(log_descriptor, text, sizeof(text) - 1, 0);
	text[got < 0 ? 0 : got] = '\0';
	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		count++;
	return count;
}

static void turn(void)
{
	loop_turn(rig.loop, true);
}

static void until_gap(void)
{
	while (subscriber_epoch(subscriber) != 0)
		turn();
}

static uint64_t until_epoch(void)
{
	while (subscriber_epoch(subscriber) == 0)
		turn();
	return subscriber_epoch(subscriber);
}

/* All parts up, and in an epoch. */
static uint64_t track(int64_t silence)
{
	subscribe(proxy_url(""), silence);
	subscriber_track(subscriber, rig.redis);
	return until_epoch();
}

/* The tracked connection reads: in a script, as the lookup does. */
static void read_key(const char *key)
{
	struct rig_answer a;
	char words[128];
	snprintf(words, sizeof(words), "EVAL return(redis.call('GET',KEYS[1])) 1 %s", key);
	redis_rig_ask(&rig, &a, words);
	assert_int_equal(a.result, REDIS_OK);
}

static void change(const char *key)
{
	redis_server_do(rig.server, "SET %s changed", key);
}

/* All that Redis has pushed up to now has been heard. */
static void hear_it_all(void)
{
	int before = heard.hints;
	assert_int_equal(redis_server_int(rig.server, "PUBLISH worker:1 fence"), 1);
	redis_rig_until(&rig, &heard.hints, before + 1);
}

static void is_told(const char *key)
{
	int before = heard.keys;
	read_key(key);
	change(key);
	redis_rig_until(&rig, &heard.keys, before + 1);
	assert_string_equal(heard.key, key);
}

/* A gap is behind us: whoever kept copies was told to drop them, while none could be used. */
static uint64_t until_epoch_after(uint64_t old)
{
	int before = heard.alls;
	uint64_t epoch = until_epoch();
	assert_true(epoch > old);
	assert_int_equal(heard.alls, before + 1);
	assert_int_equal(heard.epoch_in_all, 0);
	return epoch;
}

/* ---- what is heard ---------------------------------------------------------------------------------------------------------- */

static void hints_arrive_with_nothing_tracked(void **state)
{
	(void)state;
	subscribe(proxy_url(""), SILENCE);
	assert_int_equal(subscriber_epoch(subscriber), 0);
	while (redis_server_int(rig.server, "PUBLISH worker:1 look") == 0)
		loop_turn(rig.loop, false);
	redis_rig_until(&rig, &heard.hints, 1);
	assert_string_equal(heard.text, "look");
	assert_int_equal(subscriber_epoch(subscriber), 0);
	assert_int_equal(heard.alls, 0);
}

static void a_key_that_was_read_is_told_once(void **state)
{
	(void)state;
	uint64_t epoch = track(SILENCE);
	assert_int_equal(heard.alls, 1); /* before the first one too */
	assert_int_equal(heard.epoch_in_all, 0);
	change("unread");
	is_told("key");
	change("key"); /* not read again meanwhile */
	hear_it_all();
	assert_int_equal(heard.keys, 1);
	is_told("key");
	assert_int_equal(subscriber_epoch(subscriber), epoch);
	assert_int_equal(heard.alls, 1);
	assert_int_equal(logged("\"subscriber_tracking\""), 1);
	assert_int_equal(logged("\"subscriber_gap\""), 0);
}

static void own_writes_are_not_told(void **state)
{
	struct rig_answer a;
	(void)state;
	track(SILENCE);
	read_key("key");
	redis_rig_ask(&rig, &a, "SET key own");
	hear_it_all();
	assert_int_equal(heard.keys, 0);
}

static void a_flush_tells_all(void **state)
{
	(void)state;
	uint64_t epoch = track(SILENCE);
	read_key("key");
	redis_server_do(rig.server, "FLUSHALL");
	redis_rig_until(&rig, &heard.alls, 2);
	assert_int_equal(subscriber_epoch(subscriber), epoch); /* it was heard: no gap */
	is_told("key");
}

static void what_is_no_list_of_keys_tells_all(void **state)
{
	(void)state;
	track(SILENCE);
	redis_server_do(rig.server, "PUBLISH __redis__:invalidate key");
	redis_rig_until(&rig, &heard.alls, 2);
	assert_int_equal(heard.keys, 0);
}

/* ---- gaps ------------------------------------------------------------------------------------------------------------------- */

static void the_subscriber_is_killed(void **state)
{
	(void)state;
	uint64_t epoch = track(SILENCE);
	for (int round = 1; round <= 3; round++) {
		int keys = heard.keys;
		read_key("key");
		redis_server_do(rig.server, "CLIENT KILL TYPE pubsub");
		change("key"); /* nobody will tell */
		until_gap();
		assert_int_equal(logged("the listening connection was lost"), round);
		epoch = until_epoch_after(epoch);
		assert_int_equal(heard.keys, keys);
		is_told("key");
	}
}

static void the_tracked_connection_is_killed(void **state)
{
	struct rig_answer a;
	(void)state;
	uint64_t epoch = track(SILENCE);
	read_key("key");
	redis_rig_ask(&rig, &a, "CLIENT ID");
	redis_server_do(rig.server, "CLIENT KILL ID %lld", (long long)a.number);
	change("key"); /* Redis has forgotten that it was read */
	until_gap();
	assert_int_equal(logged("the tracked connection was lost"), 1);
	until_epoch_after(epoch);
	is_told("key");
}

static void redis_restarts(void **state)
{
	(void)state;
	uint64_t epoch = track(SILENCE);
	read_key("key");
	redis_server_kill(rig.server);
	until_gap();
	redis_server_restart(rig.server);
	until_epoch_after(epoch);
	is_told("key");
	hear_it_all();
}

/* By the real clock: no event but the deadline of a ping ends it. A slow machine may fall silent once more; hence "at least". */
static void the_line_falls_silent(void **state)
{
	(void)state;
	uint64_t epoch = track(500 * CLOCK_MILLISECOND);
	read_key("key");
	fault_proxy_tell(proxy, "stall on");
	change("key");
	until_gap();
	assert_int_equal(heard.keys, 0);
	int alls = heard.alls;
	fault_proxy_tell(proxy, "stall off");
	assert_true(until_epoch() > epoch);
	assert_true(heard.alls >= alls + 1);
	assert_int_equal(heard.epoch_in_all, 0);
}

/* The loop stands still for longer than the silence, as when the process was stopped: nothing may run before the epoch is 0. The
 * pong to a ping that was on its way all the time is no proof of anything since. */
static void the_process_stands_still(void **state)
{
	(void)state;
	uint64_t epoch = track(SILENCE);
	redis_server_pause(rig.server);
	for (uint64_t up = fault_proxy_count(proxy, "up"); fault_proxy_count(proxy, "up") == up;)
		loop_turn(rig.loop, false); /* until a ping waits for its answer */
	uint64_t replies = fault_proxy_count(proxy, "replies");
	redis_rig_hold();
	assert_int_equal(subscriber_epoch(subscriber), epoch);
	clock_test_advance(SILENCE);
	assert_int_equal(subscriber_epoch(subscriber), 0);
	redis_server_resume(rig.server);
	until_epoch_after(epoch);
	assert_true(fault_proxy_count(proxy, "replies") >= replies + 2);
	assert_int_equal(logged("\"reason\":\"silence\""), 1);
	is_told("key");
}

/* Half a silence on its way, a pong proves something for the other half only. */
static void a_pong_is_as_old_as_its_ping(void **state)
{
	(void)state;
	uint64_t epoch = track(SILENCE);
	redis_server_pause(rig.server);
	for (uint64_t up = fault_proxy_count(proxy, "up"); fault_proxy_count(proxy, "up") == up;)
		loop_turn(rig.loop, false);
	redis_rig_hold();
	clock_test_advance(SILENCE / 2);
	fault_proxy_tell(proxy, "after-drop mute");
	fault_proxy_tell(proxy, "drop-reply-every 2"); /* that pong passes, the next does not */
	redis_server_resume(rig.server);
	while (fault_proxy_count(proxy, "dropped") == 0)
		loop_turn(rig.loop, false);
	assert_int_equal(subscriber_epoch(subscriber), epoch);
	clock_test_advance(SILENCE / 2);
	assert_int_equal(subscriber_epoch(subscriber), 0);
}

/* Redis has it no more, and nothing says so: it is found out by asking for tracking again. */
static void the_tracked_connection_dies_unseen(void **state)
{
	char listen_at[96], target[128], url[96];
	(void)state;
	snprintf(listen_at, sizeof(listen_at), "unix:%s-reads", proxy_path);
	snprintf(url, sizeof(url), "unix://%s-reads", proxy_path);
	snprintf(target, sizeof(target), "unix:%s", redis_server_path(rig.server));
	struct fault_proxy *other = fault_proxy_start(listen_at, target);
	redis_rig_connect(&rig, url);
	uint64_t epoch = track(SILENCE);
	fault_proxy_tell(other, "stall on");
	until_gap();
	fault_proxy_tell(other, "stall off");
	until_epoch_after(epoch);
	is_told("key");
	fault_proxy_free(&other);
}

/* ---- refusals --------------------------------------------------------------------------------------------------------------- */

static void forbid(const char *command)
{
	redis_server_do(rig.server, "ACL SETUSER narrow on >secret ~* &* +@all %s", command);
}

/* So many pings were answered meanwhile that an epoch would have begun. */
static void let_it_ping(void)
{
	for (uint64_t replies = fault_proxy_count(proxy, "replies");
	     fault_proxy_count(proxy, "replies") < replies + 10;)
		turn();
}

static void the_subscriber_may_not_ask_who_it_is(void **state)
{
	(void)state;
	forbid("-client");
	subscribe(proxy_url("narrow:secret@"), SILENCE);
	subscriber_track(subscriber, rig.redis);
	while (redis_server_int(rig.server, "PUBLISH worker:1 look") == 0)
		loop_turn(rig.loop, false);
	redis_rig_until(&rig, &heard.hints, 1);
	let_it_ping();
	redis_server_do(rig.server, "CLIENT KILL TYPE pubsub"); /* the same again, but no second line */
	while (redis_server_int(rig.server, "PUBLISH worker:1 look") == 0)
		loop_turn(rig.loop, false);
	redis_rig_until(&rig, &heard.hints, 2);
	let_it_ping();
	assert_int_equal(subscriber_epoch(subscriber), 0);
	assert_int_equal(heard.alls, 0);
	assert_int_equal(logged("\"subscriber_refused\""), 1);
	assert_int_equal(logged("CLIENT ID"), 1);
}

static void tracking_is_refused_until_it_is_not(void **state)
{
	char url[160];
	(void)state;
	forbid("-client|tracking");
	snprintf(url, sizeof(url), "unix://narrow:secret@%s", redis_server_path(rig.server));
	redis_rig_connect(&rig, url);
	subscribe(proxy_url(""), SILENCE);
	subscriber_track(subscriber, rig.redis);
	while (logged("\"subscriber_refused\"") == 0)
		turn();
	hear_it_all();
	let_it_ping();
	assert_int_equal(subscriber_epoch(subscriber), 0);
	forbid("+client|tracking");
	until_epoch_after(0);
	is_told("key");
	assert_int_equal(logged("\"subscriber_refused\""), 1);
	forbid("-client|tracking"); /* asked for again, it ends what has begun */
	until_gap();
	assert_int_equal(logged("\"subscriber_refused\""), 2);
}

static void its_channel_is_refused_and_keys_are_told(void **state)
{
	(void)state;
	redis_server_do(rig.server, "ACL SETUSER narrow on >secret ~* resetchannels &__redis__:* +@all");
	subscribe(proxy_url("narrow:secret@"), SILENCE);
	subscriber_track(subscriber, rig.redis);
	until_epoch_after(0);
	is_told("key");
	assert_int_equal(logged("SUBSCRIBE to hints"), 1);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------------- */

/* One turn later each time, until it gets as far as an epoch: whatever it waits for, it goes without a word. */
static void freed_after_any_turn(void **state)
{
	bool was_in_epoch = false;
	(void)state;
	redis_rig_until_up(&rig);
	for (int turns = 0; !was_in_epoch; turns++) {
		subscribe(proxy_url(""), SILENCE);
		subscriber_track(subscriber, rig.redis);
		for (int i = 0; i < turns; i++)
			turn();
		was_in_epoch = subscriber_epoch(subscriber) != 0;
		memset(&heard, 0, sizeof(heard));
		redis_server_pause(rig.server); /* what was asked is answered when the subscriber's memory has gone */
		subscriber_free(&subscriber);
		assert_null(subscriber);
		loop_turn(rig.loop, false);
		redis_server_resume(rig.server);
		redis_server_do(rig.server, "PUBLISH worker:1 nobody");
		read_key("key");
		change("key");
		loop_turn(rig.loop, false);
		assert_int_equal(heard.hints + heard.keys + heard.alls, 0);
	}
	subscriber_free(&subscriber); /* NULL inside */
}

static void the_tracked_connection_outlives_it(void **state)
{
	struct rig_answer a;
	(void)state;
	track(SILENCE);
	redis_rig_ask(&rig, &a, "CLIENT ID");
	subscriber_free(&subscriber);
	redis_server_do(rig.server, "CLIENT KILL ID %lld", (long long)a.number);
	while (redis_is_up(rig.redis))
		turn();
	read_key("key");
}

static void freed_inside_a_hint(void **state)
{
	(void)state;
	track(SILENCE);
	heard.frees_in_hint = true;
	redis_server_do(rig.server, "EVAL %s 0", "for i = 1, 3 do redis.call('PUBLISH', 'worker:1', i) end");
	redis_rig_until(&rig, &heard.hints, 1);
	read_key("key");
	assert_int_equal(heard.hints, 1);
	assert_string_equal(heard.text, "1");
}

/* Redis 7 tells one key at a time; the form of it allows several, so here a server of our own tells two, right after the greeting. */
static void tell_two_keys(int least)
{
	const char says[] = "+OK\r\n+PONG\r\n*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
			    "*2\r\n$3\r\none\r\n$3\r\ntwo\r\n";
	char address[96];
	int port, connection;
	snprintf(address, sizeof(address), "unix:%s-forger", proxy_path);
	int listener = fault_proxy_listen(address, &port);
	snprintf(address, sizeof(address), "unix://%s-forger", proxy_path);
	subscribe(address, SILENCE);
	while ((connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
		loop_turn(rig.loop, false);
	assert_int_equal(write(connection, says, strlen(says)), strlen(says));
	redis_rig_until(&rig, &heard.keys, least);
	subscriber_free(&subscriber);
	close(connection);
	close(listener);
	unlink(address + strlen("unix://"));
}

static void freed_inside_a_list_of_keys(void **state)
{
	(void)state;
	tell_two_keys(2);
	assert_string_equal(heard.key, "two");
	heard.frees_in_key = true;
	tell_two_keys(3);
	assert_int_equal(heard.keys, 3);
	assert_string_equal(heard.key, "one");
}

static void freed_as_an_epoch_begins(void **state)
{
	(void)state;
	heard.frees_in_all = true;
	subscribe(proxy_url(""), SILENCE);
	subscriber_track(subscriber, rig.redis);
	redis_rig_until(&rig, &heard.alls, 1);
	read_key("key");
	assert_int_equal(heard.alls, 1);
	assert_int_equal(logged("\"subscriber_tracking\""), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(hints_arrive_with_nothing_tracked),
		TEST(a_key_that_was_read_is_told_once),
		TEST(own_writes_are_not_told),
		TEST(a_flush_tells_all),
		TEST(what_is_no_list_of_keys_tells_all),
		TEST(the_subscriber_is_killed),
		TEST(the_tracked_connection_is_killed),
		TEST(redis_restarts),
		TEST(the_line_falls_silent),
		TEST(the_process_stands_still),
		TEST(a_pong_is_as_old_as_its_ping),
		TEST(the_tracked_connection_dies_unseen),
		TEST(the_subscriber_may_not_ask_who_it_is),
		TEST(tracking_is_refused_until_it_is_not),
		TEST(its_channel_is_refused_and_keys_are_told),
		TEST(freed_after_any_turn),
		TEST(the_tracked_connection_outlives_it),
		TEST(freed_inside_a_hint),
		TEST(freed_inside_a_list_of_keys),
		TEST(freed_as_an_epoch_begins),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("subscriber", tests, NULL, NULL);
}

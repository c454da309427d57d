/* lib/redis when the server is silent, dead, refuses, or answers nonsense: what each call is told, and that it comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/redis_rig.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
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

static void begin_with(const char *const *arguments)
{
	const struct redis_server_options options = { .tcp = true, .arguments = arguments };
	redis_rig_begin(&rig, &options);
}

/* ---- silence and death ------------------------------------------------------------------------------------------------------ */

static void silence_times_out_and_loses_what_stands_behind(void **state)
{
	struct rig_answer first, second, after;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	redis_rig_hold();
	redis_rig_send(&rig, &first, 50 * CLOCK_MILLISECOND, "INCR key");
	redis_rig_send(&rig, &second, RIG_TIMEOUT, "INCR key");
	redis_rig_let_pass(&rig, 50 * CLOCK_MILLISECOND);
	redis_rig_until(&rig, &first.count, 1);
	clock_test_release();
	assert_int_equal(first.result, REDIS_TIMED_OUT);
	assert_int_equal(first.took, 50 * CLOCK_MILLISECOND);
	assert_int_equal(second.count, 1);
	assert_int_equal(second.result, REDIS_LOST);
	assert_int_equal(rig.downs, 1);
	assert_false(redis_is_up(rig.redis));
	redis_server_resume(rig.server);
	redis_rig_ask(&rig, &after, "ECHO new"); /* the late replies met nobody */
	assert_string_equal(after.text, "new");
	assert_int_equal(redis_server_int(rig.server, "GET key"), 2); /* timed out is not "did not run" */
	assert_int_equal(redis_counts(rig.redis)->timed_out, 1);
	assert_int_equal(redis_counts(rig.redis)->lost, 1);
}

static void a_cancelled_call_still_notices_silence(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	redis_rig_hold();
	redis_rig_send(&rig, &a, 50 * CLOCK_MILLISECOND, "PING");
	redis_rig_let_pass(&rig, 50 * CLOCK_MILLISECOND);
	redis_cancel(&a.call);
	redis_rig_until_down(&rig);
	clock_test_release();
	assert_int_equal(a.count, 0);
	redis_server_resume(rig.server);
}

static void the_earliest_deadline_goes_first(void **state)
{
	struct rig_answer late, early;
	(void)state;
	redis_server_kill(rig.server); /* both only wait */
	redis_rig_hold();
	redis_rig_send(&rig, &late, 400 * CLOCK_MILLISECOND, "PING");
	redis_rig_send(&rig, &early, 20 * CLOCK_MILLISECOND, "PING");
	redis_rig_let_pass(&rig, 20 * CLOCK_MILLISECOND);
	redis_rig_until(&rig, &early.count, 1);
	assert_int_equal(late.count, 0);
	assert_int_equal(early.result, REDIS_UNSENT);
	redis_rig_let_pass(&rig, 380 * CLOCK_MILLISECOND);
	redis_rig_until(&rig, &late.count, 1);
	assert_int_equal(late.result, REDIS_UNSENT);
	assert_int_equal(late.took, 400 * CLOCK_MILLISECOND);
}

static void killed_and_restarted_it_comes_back(void **state)
{
	struct rig_answer sent, waiting;
	(void)state;
	for (int round = 1; round <= 3; round++) {
		redis_rig_until_up(&rig);
		redis_rig_send(&rig, &sent, RIG_TIMEOUT, "BLPOP none 0");
		loop_turn(rig.loop, false);
		redis_server_kill(rig.server);
		redis_rig_until(&rig, &sent.count, 1);
		assert_int_equal(sent.result, REDIS_LOST);
		redis_rig_send(&rig, &waiting, RIG_TIMEOUT, "INCR key");
		loop_turn(rig.loop, true);
		redis_server_restart(rig.server);
		redis_rig_until(&rig, &waiting.count, 1);
		assert_int_equal(waiting.result, REDIS_OK); /* it waited for the new connection */
		assert_int_equal(waiting.number, 1);
	}
	assert_int_equal(redis_counts(rig.redis)->connects, 4);
}

static void a_full_socket_keeps_order_and_bytes(void **state)
{
	static char big[1 << 20];
	static struct rig_answer a[64];
	(void)state;
	memset(big, 'x', sizeof(big));
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	for (size_t i = 0; i < ARRAY_LENGTH(a); i++) {
		const struct slice words[] = { SLICE("APPEND"), SLICE("key"), slice_make(big, sizeof(big) / 2) };
		memset(&a[i], 0, sizeof(a[i]));
		a[i].call = redis_send(rig.redis, RIG_TIMEOUT, redis_rig_done, &a[i], ARRAY_LENGTH(words), words);
	}
	loop_turn(rig.loop, false);
	loop_turn(rig.loop, false);
	redis_cancel(&a[0].call);  /* sent, or half written */
	redis_cancel(&a[63].call); /* not a byte of it is gone */
	redis_server_resume(rig.server);
	redis_rig_until(&rig, &a[62].count, 1);
	assert_int_equal(a[62].number, 63 * (int64_t)(sizeof(big) / 2));
	assert_int_equal(a[0].count + a[63].count, 0);
}

static void half_written_and_overdue_is_unsent(void **state)
{
	static char big[2 << 20];
	const struct slice words[] = { SLICE("SET"), SLICE("key"), slice_make(big, sizeof(big)) };
	struct rig_answer a = { .count = 0 }, after;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	redis_rig_hold();
	redis_send(rig.redis, 50 * CLOCK_MILLISECOND, redis_rig_done, &a, ARRAY_LENGTH(words), words);
	redis_rig_let_pass(&rig, 50 * CLOCK_MILLISECOND);
	redis_rig_until(&rig, &a.count, 1);
	clock_test_release();
	assert_int_equal(a.result, REDIS_UNSENT); /* Redis runs no half command */
	assert_int_equal(rig.downs, 1);
	redis_server_resume(rig.server);
	redis_rig_ask(&rig, &after, "EXISTS key");
	assert_int_equal(after.number, 0);
}

static void half_written_and_cancelled_the_rest_still_goes(void **state)
{
	static char big[8 << 20];
	const struct slice words[] = { SLICE("SET"), SLICE("key"), slice_make(big, sizeof(big)) };
	struct rig_answer a = { .count = 0 }, after;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	struct redis_call *call = redis_send(rig.redis, RIG_TIMEOUT, redis_rig_done, &a, ARRAY_LENGTH(words), words);
	loop_turn(rig.loop, false);
	redis_cancel(&call);
	redis_server_resume(rig.server);
	redis_rig_ask(&rig, &after, "STRLEN key");
	assert_int_equal(after.number, sizeof(big)); /* cancelled is silenced, not undone */
	assert_int_equal(a.count, 0);
	assert_int_equal(rig.downs, 0);
}

static void half_written_and_cut_it_starts_anew(void **state)
{
	static char big[8 << 20];
	const struct slice words[] = { SLICE("SET"), SLICE("key"), slice_make(big, sizeof(big)) };
	struct rig_answer first, whole = { .count = 0 };
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_pause(rig.server);
	redis_rig_hold();
	redis_rig_send(&rig, &first, 50 * CLOCK_MILLISECOND, "PING");
	redis_send(rig.redis, RIG_TIMEOUT, redis_rig_done, &whole, ARRAY_LENGTH(words), words);
	redis_rig_let_pass(&rig, 50 * CLOCK_MILLISECOND);
	redis_rig_until(&rig, &first.count, 1);
	clock_test_release();
	assert_int_equal(whole.count, 0);
	redis_server_resume(rig.server);
	redis_rig_until(&rig, &whole.count, 1);
	assert_int_equal(whole.result, REDIS_OK);
	assert_int_equal(redis_server_int(rig.server, "STRLEN key"), sizeof(big));
}

static void what_waits_is_bounded(void **state)
{
	static char big[20 << 20];
	const struct slice words[] = { SLICE("SET"), SLICE("key"), slice_make(big, sizeof(big)) };
	static struct rig_answer a[4]; /* the teardown answers them still */
	(void)state;
	redis_server_kill(rig.server);
	for (int i = 0; i < 4; i++)
		redis_send(rig.redis, RIG_TIMEOUT, redis_rig_done, &a[i], ARRAY_LENGTH(words), words);
	redis_rig_until(&rig, &a[3].count, 1);
	assert_int_equal(a[3].result, REDIS_UNSENT);
	assert_int_equal(a[0].count + a[1].count + a[2].count, 0);
}

/* ---- what Redis refuses ----------------------------------------------------------------------------------------------------- */

static void a_wrong_password_keeps_it_down_and_a_right_one_up(void **state)
{
	const char *const arguments[] = { "--requirepass", "right", NULL };
	char url[128];
	struct rig_answer a;
	(void)state;
	begin_with(arguments);
	for (int i = 0; i < 2; i++) { /* a wrong one, and none */
		snprintf(url, sizeof(url), "redis://%s127.0.0.1:%d", i == 0 ? ":wrong@" : "",
			 redis_server_port(rig.server));
		redis_rig_connect(&rig, url);
		redis_rig_send(&rig, &a, 200 * CLOCK_MILLISECOND, "PING");
		redis_rig_until(&rig, &a.count, 1);
		assert_int_equal(a.result, REDIS_UNSENT);
		assert_int_equal(rig.ups, 0);
	}
	snprintf(url, sizeof(url), "redis://default:right@127.0.0.1:%d/3", redis_server_port(rig.server));
	redis_rig_connect(&rig, url);
	redis_rig_ask(&rig, &a, "SET key 1");
	assert_int_equal(a.result, REDIS_OK);
	redis_server_do(rig.server, "AUTH right");
	redis_server_do(rig.server, "SELECT 3");
	assert_int_equal(redis_server_int(rig.server, "GET key"), 1);
	redisReply *list = redis_server_command(rig.server, "CLIENT LIST");
	assert_non_null(strstr(list->str, "name=sluice"));
	freeReplyObject(list);
	redis_rig_end(&rig);
}

static void a_database_that_is_not_there_takes_no_call(void **state)
{
	char url[160];
	struct rig_answer a;
	(void)state;
	begin_with(NULL);
	snprintf(url, sizeof(url), "%s?db=99", redis_server_url(rig.server));
	redis_rig_connect(&rig, url);
	redis_rig_send(&rig, &a, 200 * CLOCK_MILLISECOND, "SET key 1");
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_UNSENT);
	assert_int_equal(redis_server_int(rig.server, "DBSIZE"), 0);
	redis_rig_end(&rig);
}

static void a_user_without_the_right_is_told(void **state)
{
	char url[128];
	struct rig_answer a;
	(void)state;
	begin_with(NULL);
	redis_server_do(rig.server, "ACL SETUSER limited on >pw ~* +get"); /* no PING, no CLIENT */
	snprintf(url, sizeof(url), "redis://limited:pw@127.0.0.1:%d", redis_server_port(rig.server));
	redis_rig_connect(&rig, url);
	redis_rig_ask(&rig, &a, "SET key 1");
	assert_int_equal(a.error, REDIS_ERROR_noperm);
	redis_rig_ask(&rig, &a, "GET key");
	assert_int_equal(a.result, REDIS_OK);
	assert_int_equal(rig.downs, 0);
	redis_rig_end(&rig);
}

static void a_name_is_looked_up_off_the_loop(void **state)
{
	char url[128];
	struct rig_answer a;
	(void)state;
	begin_with(NULL);
	/* Short for 127.0.0.1: only the resolver knows, and it does so without /etc/hosts, which a bare chroot lacks. */
	snprintf(url, sizeof(url), "redis://127.1:%d", redis_server_port(rig.server));
	for (int i = 0; i < 20; i++) { /* and forgotten in the middle of it: the thread meets nobody */
		redis_rig_connect(&rig, url);
		loop_turn(rig.loop, true);
	}
	redis_rig_connect(&rig, url);
	redis_rig_ask(&rig, &a, "PING");
	assert_int_equal(a.result, REDIS_OK);
	redis_rig_connect(&rig, "redis://nowhere.invalid:1");
	redis_rig_send(&rig, &a, 100 * CLOCK_MILLISECOND, "PING");
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_UNSENT);
	redis_rig_end(&rig);
}

static void a_replica_is_left_when_it_refuses_to_write(void **state)
{
	struct rig_answer a, behind;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_do(rig.server, "REPLICAOF 127.0.0.1 1");
	redis_rig_send(&rig, &a, RIG_TIMEOUT, "SET key 1");
	redis_rig_send(&rig, &behind, RIG_TIMEOUT, "BLPOP none 0"); /* a write too, but the cut comes first */
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.error, REDIS_ERROR_readonly);
	redis_rig_until(&rig, &behind.count, 1);
	assert_int_equal(behind.result, REDIS_LOST);
	assert_int_equal(rig.downs, 1);
	redis_server_do(rig.server, "REPLICAOF NO ONE");
	redis_rig_ask(&rig, &a, "SET key 1");
	assert_int_equal(a.result, REDIS_OK);
}

static void a_replica_without_its_master_is_no_redis(void **state)
{
	const char *const arguments[] = { "--replica-serve-stale-data", "no", NULL };
	struct rig_answer a;
	(void)state;
	begin_with(arguments);
	redis_rig_until_up(&rig);
	redis_server_do(rig.server, "REPLICAOF 127.0.0.1 1");
	redis_rig_ask(&rig, &a, "GET key");
	assert_int_equal(a.error, REDIS_ERROR_masterdown);
	redis_rig_send(&rig, &a, 200 * CLOCK_MILLISECOND, "GET key");
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_UNSENT); /* the greeting hears the same, so it stays down */
	redis_server_do(rig.server, "REPLICAOF NO ONE");
	redis_rig_ask(&rig, &a, "GET key");
	assert_int_equal(a.result, REDIS_OK);
	redis_rig_end(&rig);
}

static void full_too_few_replicas_and_busy_keep_the_connection(void **state)
{
	struct rig_answer a, busy;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_do(rig.server, "CONFIG SET maxmemory 1");
	redis_rig_ask(&rig, &a, "SET key 1");
	assert_int_equal(a.error, REDIS_ERROR_oom);
	redis_server_do(rig.server, "CONFIG SET maxmemory 0");
	redis_server_do(rig.server, "CONFIG SET min-replicas-to-write 1");
	redis_rig_ask(&rig, &a, "SET key 1");
	assert_int_equal(a.error, REDIS_ERROR_noreplicas);
	redis_server_do(rig.server, "CONFIG SET min-replicas-to-write 0");
	redis_server_do(rig.server, "CONFIG SET busy-reply-threshold 20");
	redisContext *looping = redisConnectUnix(redis_server_path(rig.server));
	int done = 0;
	redisAppendCommand(looping, "EVAL %s 0", "while true do end");
	while (done == 0)
		assert_int_equal(redisBufferWrite(looping, &done), 0);
	do
		redis_rig_ask(&rig, &busy, "GET key");
	while (busy.result == REDIS_OK); /* until the loop began */
	assert_int_equal(busy.error, REDIS_ERROR_busy);
	redis_server_do(rig.server, "SCRIPT KILL");
	do
		redis_rig_ask(&rig, &a, "SET key 1");
	while (a.error == REDIS_ERROR_busy); /* it dies at its next look at the clock */
	assert_int_equal(a.result, REDIS_OK);
	assert_int_equal(rig.downs, 0);
	redisFree(looping);
}

static void a_server_that_loads_its_file_is_told_apart(void **state)
{
	const char *const arguments[] = { "--enable-debug-command",
					  "yes",
					  "--key-load-delay",
					  "20000",
					  "--rdbcompression",
					  "no",
					  "--loading-process-events-interval-bytes",
					  "1024",
					  NULL };
	struct rig_answer a;
	(void)state;
	begin_with(arguments);
	redis_rig_until_up(&rig);
	for (int i = 0; i < 50; i++)
		redis_server_do(rig.server, "SET key%d %01000d", i, i);
	redisContext *reloading = redisConnectUnix(redis_server_path(rig.server));
	int done = 0;
	redisAppendCommand(reloading, "DEBUG RELOAD");
	while (done == 0)
		assert_int_equal(redisBufferWrite(reloading, &done), 0);
	do
		redis_rig_ask(&rig, &a, "GET key7");
	while (a.result == REDIS_OK); /* until it began */
	assert_int_equal(a.error, REDIS_ERROR_loading);
	redis_rig_connect(&rig, redis_server_url(rig.server)); /* a new connection stays down as long as it loads */
	redis_rig_ask(&rig, &a, "GET key7");
	assert_int_equal(a.result, REDIS_OK);
	assert_int_equal(a.number, 7);
	assert_int_equal(redis_counts(rig.redis)->errors[REDIS_ERROR_loading], 0);
	redisFree(reloading);
	redis_rig_end(&rig);
}

static void a_password_set_later_cuts_the_connection(void **state)
{
	struct rig_answer a;
	(void)state;
	redis_rig_until_up(&rig);
	redis_server_do(rig.server, "ACL SETUSER other on >pw ~* +@all");
	redis_server_do(rig.server, "CLIENT KILL TYPE normal SKIPME yes");
	redis_server_do(rig.server, "CONFIG SET requirepass later");
	redis_rig_until_down(&rig);
	redis_rig_send(&rig, &a, 200 * CLOCK_MILLISECOND, "GET key");
	redis_rig_until(&rig, &a.count, 1);
	assert_int_equal(a.result, REDIS_UNSENT);
	redis_server_do(rig.server, "CONFIG SET requirepass %s", "");
	redis_rig_ask(&rig, &a, "GET key");
	assert_int_equal(a.result, REDIS_OK);
}

/* ---- a server that speaks nonsense ------------------------------------------------------------------------------------------ */

struct liar {
	char path[128];
	int listener;
};

static void liar_begin(struct liar *l)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(l->path, sizeof(l->path), "/tmp/sluice-test-liar-%d", (int)getpid());
	unlink(l->path);
	strcpy(address.sun_path, l->path);
	l->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(l->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(l->listener, 16), 0);
}

static void liar_end(struct liar *l)
{
	close(l->listener);
	unlink(l->path);
}

static int liar_accept(struct liar *l)
{
	return accept4(l->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* How many PINGs the client has sent: its greeting ends with the first, the second is the call. */
static int count_pings(const char *bytes)
{
	int count = 0;
	while ((bytes = strstr(bytes, "PING\r\n")) != NULL) {
		bytes++;
		count++;
	}
	return count;
}

/* Connects to the liar, is greeted with `greeting`, asks once, and is answered `answer`; what is not to be answered ("")
 * ends soon. */
static enum redis_result lie(struct liar *l, const char *greeting, const char *answer, struct rig_answer *a)
{
	char url[160], bytes[1024] = "";
	size_t len = 0;
	int fd;
	redis_free(&rig.redis);
	while ((fd = liar_accept(l)) >= 0) /* what the one before left in the line */
		close(fd);
	snprintf(url, sizeof(url), "unix://%s", l->path);
	redis_rig_connect(&rig, url);
	redis_rig_send(&rig, a, answer[0] != '\0' ? RIG_TIMEOUT : 300 * CLOCK_MILLISECOND, "PING");
	while ((fd = liar_accept(l)) < 0)
		loop_turn(rig.loop, true);
	assert_true(send(fd, greeting, strlen(greeting), MSG_NOSIGNAL) >= 0);
	for (bool answered = false; a->count == 0;) {
		loop_turn(rig.loop, true);
		ssize_t got = recv(fd, bytes + len, sizeof(bytes) - 1 - len, 0);
		len += got > 0 ? (size_t)got : 0;
		bytes[len] = '\0';
		if (!answered && count_pings(bytes) == 2) {
			assert_true(send(fd, answer, strlen(answer), MSG_NOSIGNAL) >= 0);
			answered = true;
		}
	}
	close(fd);
	return a->result;
}

static void nonsense_is_a_lost_connection(void **state)
{
	static const char *const nonsense[] = {
		"HTTP/1.1 400 Bad Request\r\n\r\n",
		"\r\n",
		"$-2\r\n",
		"*1000000000\r\n",
		"*2\r\n*-5\r\n",
		":12x\r\n",
		"$99999999999999999999\r\n",
		"\xff\xff\xff\xff\r\n",
		"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
	};
	struct liar l;
	struct rig_answer a;
	(void)state;
	liar_begin(&l);
	for (size_t i = 0; i < ARRAY_LENGTH(nonsense); i++) {
		enum redis_result result = lie(&l, "+OK\r\n+PONG\r\n", nonsense[i], &a);
		if (result != REDIS_LOST)
			fail_msg("nonsense %zu: result %d", i, (int)result);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(nonsense); i++)
		assert_int_equal(lie(&l, nonsense[i], "", &a), REDIS_UNSENT);
	assert_int_equal(lie(&l, "-ERR max number of clients reached\r\n-ERR x\r\n", "", &a), REDIS_UNSENT);
	liar_end(&l);
}

static void a_reply_too_many_ends_the_connection(void **state)
{
	struct liar l;
	struct rig_answer a;
	(void)state;
	liar_begin(&l);
	assert_int_equal(lie(&l, "+OK\r\n+PONG\r\n", "+one\r\n+two\r\n", &a), REDIS_OK);
	assert_string_equal(a.text, "one");
	redis_rig_until_down(&rig);
	liar_end(&l);
}

static void loading_is_waited_for(void **state)
{
	struct liar l;
	struct rig_answer a;
	(void)state;
	liar_begin(&l);
	assert_int_equal(lie(&l, "+OK\r\n-LOADING Redis is loading the dataset in memory\r\n", "", &a), REDIS_UNSENT);
	assert_int_equal(rig.ups, 0);
	assert_int_equal(lie(&l, "+OK\r\n+PONG\r\n", "-LOADING Redis is loading the dataset in memory\r\n", &a),
			 REDIS_ERROR);
	assert_int_equal(a.error, REDIS_ERROR_loading);
	assert_true(redis_is_up(rig.redis)); /* its connection is as good as another */
	liar_end(&l);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(silence_times_out_and_loses_what_stands_behind),
		TEST(a_cancelled_call_still_notices_silence),
		TEST(the_earliest_deadline_goes_first),
		TEST(killed_and_restarted_it_comes_back),
		TEST(a_full_socket_keeps_order_and_bytes),
		TEST(half_written_and_overdue_is_unsent),
		TEST(half_written_and_cancelled_the_rest_still_goes),
		TEST(half_written_and_cut_it_starts_anew),
		TEST(what_waits_is_bounded),
		cmocka_unit_test(a_wrong_password_keeps_it_down_and_a_right_one_up),
		cmocka_unit_test(a_database_that_is_not_there_takes_no_call),
		cmocka_unit_test(a_user_without_the_right_is_told),
		cmocka_unit_test(a_name_is_looked_up_off_the_loop),
		TEST(a_replica_is_left_when_it_refuses_to_write),
		cmocka_unit_test(a_replica_without_its_master_is_no_redis),
		TEST(full_too_few_replicas_and_busy_keep_the_connection),
		cmocka_unit_test(a_server_that_loads_its_file_is_told_apart),
		TEST(a_password_set_later_cuts_the_connection),
		TEST(nonsense_is_a_lost_connection),
		TEST(a_reply_too_many_ends_the_connection),
		TEST(loading_is_waited_for),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("redis_faults", tests, NULL, NULL);
}

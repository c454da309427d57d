/* The pool over TLS: who is trusted, what a cut looks like, hand-shakes. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/pool_internal.h"
#include "tests/support/pool_rig.h"
#include "tests/support/tls_files.h"
#include "tests/support/tls_relay.h"

static struct tls_files files;

static int make_files(void **state)
{
	(void)state;
	tls_files_make(&files);
	return 0;
}

static int remove_files(void **state)
{
	(void)state;
	tls_files_free(&files);
	return 0;
}

/* One request through a relay with these options. */
static enum pool_outcome through(const struct tls_relay_options *relay_options, const char *ca, bool verify,
				 const struct bad_step *script, struct rig_call *call)
{
	struct bad_server *server = bad_server_of(script);
	struct tls_relay_options options = *relay_options;
	options.backend_port = bad_server_port(server);
	struct tls_relay *relay = tls_relay_new(&options);
	struct rig rig;
	rig_options(&rig, tls_relay_origin(relay));
	rig.options.ca_file = ca;
	rig.options.verify = verify;
	rig_open(&rig);
	memset(call, 0, sizeof(*call));
	rig_get(&rig, call, "/tls");
	enum pool_outcome outcome = rig_finish(call);
	if (outcome == POOL_TLS_FAILED)
		assert_int_equal(bad_server_record(server).requests, 0);
	pool_free(&rig.pool);
	tls_relay_free(&relay);
	rig_turn(&rig);
	rig_close(&rig);
	bad_server_free(&server);
	return outcome;
}

static void only_the_right_certificate_is_trusted(void **state)
{
	struct tls_relay_options good = { .certificate = files.leaf, .key = files.leaf_key };
	struct tls_relay_options expired = { .certificate = files.expired, .key = files.expired_key };
	struct tls_relay_options stranger = { .certificate = files.stranger, .key = files.stranger_key };
	struct tls_relay_options old = good;
	struct rig_call call;
	(void)state;
	old.newest_version = TLS1_1_VERSION;
	assert_int_equal(through(&good, files.ca, true, bad_server_echo, &call), POOL_DONE);
	assert_string_equal(call.body, "/tls");
	assert_true(call.result.handshake > 0);
	assert_int_equal(through(&good, files.other_ca, true, bad_server_echo, &call), POOL_TLS_FAILED);
	assert_int_equal(through(&good, NULL, true, bad_server_echo, &call), POOL_TLS_FAILED);
	assert_int_equal(through(&expired, files.ca, true, bad_server_echo, &call), POOL_TLS_FAILED);
	assert_string_equal(call.result.detail, "certificate has expired");
	assert_int_equal(through(&stranger, files.ca, true, bad_server_echo, &call), POOL_TLS_FAILED);
	assert_int_equal(through(&old, files.ca, true, bad_server_echo, &call), POOL_TLS_FAILED);
	assert_int_equal(through(&good, "/nonexistent/ca.pem", true, bad_server_echo, &call), POOL_TLS_FAILED);
	assert_int_equal(through(&expired, files.other_ca, false, bad_server_echo, &call), POOL_DONE);
}

static void copy_file(const char *from, const char *to)
{
	struct buf bytes;
	const char *reason;
	FILE *file = fopen(to, "w");
	buf_init(&bytes, 100 * 1024);
	assert_true(file_read(from, FILE_REGULAR, &bytes, &reason));
	assert_non_null(file);
	assert_int_equal(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
	assert_int_equal(fclose(file), 0);
	buf_free(&bytes);
}

/* The pool that has read the file before it was replaced is still there, and holds what it has read. */
static void a_new_pool_reads_its_certificates_again(void **state)
{
	struct tls_relay_options good = { .certificate = files.leaf, .key = files.leaf_key };
	struct rig_call call;
	struct rig before;
	char ca[96];
	(void)state;
	snprintf(ca, sizeof(ca), "%s/rotated.pem", files.directory);
	copy_file(files.other_ca, ca);
	rig_options(&before, "https://127.0.0.1:1");
	before.options.ca_file = ca;
	rig_open(&before);
	assert_int_equal(through(&good, ca, true, bad_server_echo, &call), POOL_TLS_FAILED);
	copy_file(files.ca, ca);
	assert_int_equal(through(&good, ca, true, bad_server_echo, &call), POOL_DONE);
	copy_file(files.other_ca, ca);
	assert_int_equal(through(&good, ca, true, bad_server_echo, &call), POOL_TLS_FAILED);
	rig_close(&before);
	assert_int_equal(unlink(ca), 0);
}

static void plain_text_where_tls_is_due_is_tls_failed(void **state)
{
	static const struct bad_step plain[] = { { .verb = BAD_SEND, .text = "HTTP/1.1 400 Bad\r\n\r\n" },
						 { .verb = BAD_STALL },
						 { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(plain);
	struct rig rig;
	struct rig_call call = { 0 };
	char origin[64];
	(void)state;
	snprintf(origin, sizeof(origin), "https://127.0.0.1:%d", bad_server_port(server));
	rig_options(&rig, origin);
	rig_open(&rig);
	rig_get(&rig, &call, "/x");
	assert_int_equal(rig_finish(&call), POOL_TLS_FAILED);
	rig_close(&rig);
	bad_server_free(&server);
}

/* RFC 9112, section 9.8: without close_notify an answer that ends with its connection is not complete. */
static void an_end_without_close_notify_is_truncation(void **state)
{
	static const struct bad_step until_end[] = { { .verb = BAD_REQUEST },
						     { .verb = BAD_SEND, .text = "HTTP/1.1 200 OK\r\n\r\nhello" },
						     { .verb = BAD_END } };
	static const struct bad_step short_one[] = { { .verb = BAD_REQUEST },
						     { .verb = BAD_SEND,
						       .text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello" },
						     { .verb = BAD_END } };
	struct tls_relay_options clean = { .certificate = files.leaf, .key = files.leaf_key };
	struct tls_relay_options unclean = clean;
	struct rig_call call;
	(void)state;
	unclean.unclean = true;
	assert_int_equal(through(&clean, files.ca, true, until_end, &call), POOL_DONE);
	assert_int_equal(through(&unclean, files.ca, true, until_end, &call), POOL_TRUNCATED);
	assert_int_equal(through(&clean, files.ca, true, short_one, &call), POOL_TRUNCATED);
	assert_int_equal(through(&unclean, files.ca, true, short_one, &call), POOL_TRUNCATED);
}

static void a_reset_on_reuse_over_tls_is_not_sent_again(void **state)
{
	static const struct bad_step dies[] = {
		{ .verb = BAD_REQUEST }, { .verb = BAD_ECHO }, { .verb = BAD_REQUEST }, { .verb = BAD_END }
	};
	(void)state;
	for (int unclean = 0; unclean < 2; unclean++) {
		struct bad_server *server =
			bad_server_new((const struct bad_step *const[]){ dies, bad_server_echo }, 2);
		struct tls_relay *relay =
			tls_relay_new(&(struct tls_relay_options){ .certificate = files.leaf,
								   .key = files.leaf_key,
								   .backend_port = bad_server_port(server),
								   .unclean = unclean });
		struct rig rig;
		struct rig_call first = { 0 }, second = { 0 }, third = { 0 };
		struct slice body = SLICE("{\"once\":true}");
		rig_options(&rig, tls_relay_origin(relay));
		rig.options.ca_file = files.ca;
		rig_open(&rig);
		rig_post(&rig, &first, "/1", &body);
		assert_int_equal(rig_finish(&first), POOL_DONE);
		rig_post(&rig, &second, "/2", &body);
		assert_int_equal(rig_finish(&second), POOL_RESET);
		assert_true(second.result.reused);
		assert_int_equal(bad_server_record(server).requests, 2);
		rig_post(&rig, &third, "/3", &body);
		assert_int_equal(rig_finish(&third), POOL_DONE);
		assert_int_equal(tls_relay_handshakes(relay), 2);
		pool_free(&rig.pool);
		tls_relay_free(&relay);
		bad_server_free(&server);
		rig_turn(&rig);
		loop_free(&rig.loop);
	}
}

/* What every web server does with an idle connection: close_notify and FIN. The next request must not be lost on it. */
static void a_connection_closed_while_idle_costs_nothing(void **state)
{
	static const struct bad_step once[] = { { .verb = BAD_REQUEST }, { .verb = BAD_ECHO }, { .verb = BAD_END } };
	static const int newest[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	(void)state;
	for (size_t v = 0; v < ARRAY_LENGTH(newest); v++) {
		struct bad_server *server = bad_server_of(once);
		struct tls_relay *relay =
			tls_relay_new(&(struct tls_relay_options){ .certificate = files.leaf,
								   .key = files.leaf_key,
								   .backend_port = bad_server_port(server),
								   .newest_version = newest[v] });
		struct rig rig;
		struct pool_stats stats;
		rig_options(&rig, tls_relay_origin(relay));
		rig.options.ca_file = files.ca;
		rig_open(&rig);
		for (int i = 0; i < 10; i++) {
			struct rig_call call = { 0 };
			struct slice body = SLICE("{}");
			rig_post(&rig, &call, "/x", &body);
			assert_int_equal(rig_finish(&call), POOL_DONE);
			RIG_UNTIL(&rig, (pool_stats(rig.pool, &stats), stats.idle == 0));
		}
		assert_int_equal(bad_server_record(server).requests, 10);
		pool_free(&rig.pool);
		tls_relay_free(&relay);
		bad_server_free(&server);
		rig_turn(&rig);
		loop_free(&rig.loop);
	}
}

static void connections_are_reused_over_tls(void **state)
{
	static const struct bad_step late[] = {
		{ .verb = BAD_REQUEST },
		{ .verb = BAD_ECHO },
		{ .verb = BAD_REQUEST },
		{ .verb = BAD_ECHO },
		{ .verb = BAD_GATE },
		{ .verb = BAD_SEND, .text = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen" },
		{ .verb = BAD_AGAIN }
	};
	struct bad_server *server = bad_server_new((const struct bad_step *const[]){ late, bad_server_echo }, 2);
	struct tls_relay *relay = tls_relay_new(&(struct tls_relay_options){
		.certificate = files.leaf, .key = files.leaf_key, .backend_port = bad_server_port(server) });
	struct rig rig;
	struct pool_stats stats;
	(void)state;
	rig_options(&rig, tls_relay_origin(relay));
	rig.options.ca_file = files.ca;
	rig_open(&rig);
	for (int i = 0; i < 6; i++) {
		struct rig_call call = { 0 };
		char target[16];
		snprintf(target, sizeof(target), "/%d", i);
		rig_get(&rig, &call, target);
		assert_int_equal(rig_finish(&call), POOL_DONE);
		assert_string_equal(call.body, target); /* and nothing that was not asked for */
		assert_int_equal(call.result.reused, i != 0 && i != 2);
		if (i == 1) {
			bad_server_open_gate(server, 1);
			RIG_UNTIL(&rig,
				  (pool_stats(rig.pool, &stats), stats.idle == 0)); /* what came unasked retires it */
		}
	}
	assert_int_equal(tls_relay_handshakes(relay), 2);
	pool_free(&rig.pool);
	tls_relay_free(&relay);
	bad_server_free(&server);
	rig_turn(&rig);
	loop_free(&rig.loop);
}

/* From 8.9 on libcurl says close_notify and waits for the peer's: such a connection is none that a call could have, and no reason to open one more than there may be. */
static void a_connection_that_is_ending_counts_no_more(void **state)
{
	static const struct bad_step last_words[] = {
		{ .verb = BAD_REQUEST },
		{ .verb = BAD_SEND, .text = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok" },
		{ .verb = BAD_STALL },
		{ .verb = BAD_END }
	};
	static const int newest[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	(void)state;
	for (size_t v = 0; v < ARRAY_LENGTH(newest); v++) {
		struct bad_server *server = bad_server_of(last_words);
		struct tls_relay *relay =
			tls_relay_new(&(struct tls_relay_options){ .certificate = files.leaf,
								   .key = files.leaf_key,
								   .backend_port = bad_server_port(server),
								   .newest_version = newest[v],
								   .lingers = true });
		struct rig rig;
		rig_options(&rig, tls_relay_origin(relay));
		rig.options.ca_file = files.ca;
		rig.options.connections = 2;
		rig_open(&rig);
		for (int i = 0; i < 4; i++) {
			struct rig_call calls[3] = { 0 };
			for (size_t c = 0; c < ARRAY_LENGTH(calls); c++)
				rig_get(&rig, &calls[c], "/last");
			for (size_t c = 0; c < ARRAY_LENGTH(calls); c++) {
				assert_int_equal(rig_finish(&calls[c]), POOL_DONE);
				assert_false(calls[c].result.reused);
				assert_int_equal(rig_stats(&rig).idle, 0);
			}
			assert_int_equal(rig_stats(&rig).open, 0);
			assert_true(rig_shared(&rig).peak <= 2);
		}
		RIG_UNTIL(&rig, rig.pool->open_count == 0); /* whenever the peer ends its side */
		tls_relay_open_gate(relay);
		pool_free(&rig.pool);
		rig_turn(&rig);
		tls_relay_free(&relay);
		rig_close(&rig);
		bad_server_free(&server);
	}
}

/* ---- a burst of hand-shakes ---- */

enum { BURST = 40, MOST_STEPS = 8 };

/* Fills `sockets` with this process' connections to that origin. */
static int connections_to(const char *origin, int sockets[BURST])
{
	int count = 0, port = atoi(strrchr(origin, ':') + 1);
	for (int descriptor = 0; descriptor < 1024; descriptor++) {
		struct sockaddr_in peer = { 0 };
		socklen_t size = sizeof(peer);
		if (getpeername(descriptor, (struct sockaddr *)&peer, &size) != 0 || ntohs(peer.sin_port) != port)
			continue;
		assert_int_not_equal(count, BURST);
		sockets[count++] = descriptor;
	}
	return count;
}

static int unread(int socket)
{
	int count;
	assert_int_equal(ioctl(socket, FIONREAD, &count), 0);
	return count;
}

/* libcurl goes on with a handle whose time for the other address family has come, 200 ms after its beginning or later: lib/pool_transfer.c has them come one
 * by one, 8 ms apart. */
static int due_by_timer(int64_t elapsed)
{
	int64_t due = (elapsed / CLOCK_MILLISECOND - 200) / 8 + 2;
	return due < 0 ? 0 : (int)due;
}

/* All have been answered when the turn begins, and have waited for `pause` then: the steps that go on in it. */
static void burst_of_hand_shakes(int pause_ms, int *steps, int *allowed)
{
	static struct rig_call calls[BURST];
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct tls_relay *relay = tls_relay_new(&(struct tls_relay_options){ .certificate = files.leaf,
									     .key = files.leaf_key,
									     .backend_port = bad_server_port(server),
									     .gated = true });
	int sockets[BURST], before[BURST];
	struct rig rig;
	memset(calls, 0, sizeof(calls));
	rig_options(&rig, tls_relay_origin(relay));
	rig.options.ca_file = files.ca;
	rig.options.connections = BURST;
	rig_open(&rig);
	int64_t began = clock_now();
	for (int i = 0; i < BURST; i++)
		rig_get(&rig, &calls[i], "/burst");
	RIG_UNTIL(&rig, tls_relay_begun(relay) == BURST);
	assert_int_equal(connections_to(tls_relay_origin(relay), sockets), BURST);
	tls_relay_open_gate(relay);
	for (int i = 0; i < BURST; i++) {
		assert_int_equal(poll(&(struct pollfd){ .fd = sockets[i], .events = POLLIN }, 1, -1), 1);
		before[i] = unread(sockets[i]);
	}
	poll(NULL, 0, pause_ms);
	rig_turn(&rig);
	*allowed = MOST_STEPS + due_by_timer(clock_now() - began);
	*steps = 0;
	for (int i = 0; i < BURST; i++)
		*steps += unread(sockets[i]) < before[i]; /* tickets that follow are shorter than what was read */
	for (int i = 0; i < BURST; i++)
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
	assert_int_equal(tls_relay_handshakes(relay), BURST);
	pool_free(&rig.pool);
	tls_relay_free(&relay);
	bad_server_free(&server);
	rig_turn(&rig);
	loop_free(&rig.loop);
}

/* Whoever else waits for the loop is heard before the others go on: after a moment, and after one in which libcurl's timers have come. */
static void a_turn_has_few_steps_of_hand_shakes(void **state)
{
	int steps, allowed;
	(void)state;
	for (int pause_ms = 0; pause_ms <= 220; pause_ms += 220) {
		burst_of_hand_shakes(pause_ms, &steps, &allowed);
		assert_in_range(steps, 1, allowed);
	}
}

/* Those that are opened ahead take one place each, also while they shake hands. */
static void a_hand_shake_takes_one_place(void **state)
{
	struct bad_server *server = bad_server_of(bad_server_echo);
	struct tls_relay_options options = { .certificate = files.leaf, .key = files.leaf_key, .gated = true };
	struct pool_shared_stats shared;
	struct pool_stats stats;
	struct rig rig;
	(void)state;
	options.backend_port = bad_server_port(server);
	struct tls_relay *relay = tls_relay_new(&options);
	rig_options(&rig, tls_relay_origin(relay));
	rig.options.ca_file = files.ca;
	rig.options.warm = 3;
	rig_open(&rig);
	pool_warm(rig.pool, 10 * CLOCK_SECOND, NULL, NULL);
	RIG_UNTIL(&rig, tls_relay_begun(relay) == 3);
	rig_turn(&rig);
	pool_shared_stats(rig.pool, &shared);
	assert_int_equal(shared.open, 3);
	tls_relay_open_gate(relay);
	RIG_UNTIL(&rig, (pool_stats(rig.pool, &stats), stats.idle == 3));
	pool_shared_stats(rig.pool, &shared);
	assert_int_equal(shared.open, 3);
	assert_int_equal(shared.peak, 3);
	pool_free(&rig.pool);
	tls_relay_free(&relay);
	rig_turn(&rig);
	rig_close(&rig);
	bad_server_free(&server);
}

enum { WORKERS = 4 };

static struct {
	pthread_barrier_t start;
	struct pool_trust *trust;
	const char *origin;
} together;

static void *shake_hands(void *arg)
{
	CURLcode *code = arg;
	CURL *easy = curl_easy_init();
	assert_non_null(easy);
	curl_easy_setopt(easy, CURLOPT_URL, together.origin);
	curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	pool_trust_handle(together.trust, easy);
	pthread_barrier_wait(&together.start);
	*code = curl_easy_perform(easy);
	curl_easy_cleanup(easy);
	return NULL;
}

/* What is trusted belongs to all workers, and is complete before it is shared: ThreadSanitizer judges that nothing of it is written by the first who verify a peer. */
static void workers_verify_their_peers_at_once(void **state)
{
	struct tls_relay_options options = { .certificate = files.leaf, .key = files.leaf_key };
	struct bad_server *server = bad_server_of(bad_server_echo);
	options.backend_port = bad_server_port(server);
	struct tls_relay *relay = tls_relay_new(&options);
	(void)state;
	together.origin = tls_relay_origin(relay);
	assert_int_equal(pthread_barrier_init(&together.start, NULL, WORKERS), 0);
	for (int round = 0; round < 30; round++) {
		pthread_t workers[WORKERS];
		CURLcode codes[WORKERS];
		together.trust = pool_trust_open(files.ca, NULL);
		for (int i = 0; i < WORKERS; i++)
			assert_int_equal(pthread_create(&workers[i], NULL, shake_hands, &codes[i]), 0);
		for (int i = 0; i < WORKERS; i++) {
			assert_int_equal(pthread_join(workers[i], NULL), 0);
			assert_int_equal(codes[i], CURLE_OK);
		}
		pool_trust_close(&together.trust);
	}
	pthread_barrier_destroy(&together.start);
	tls_relay_free(&relay);
	bad_server_free(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_right_certificate_is_trusted),
		cmocka_unit_test(a_new_pool_reads_its_certificates_again),
		cmocka_unit_test(workers_verify_their_peers_at_once),
		cmocka_unit_test(plain_text_where_tls_is_due_is_tls_failed),
		cmocka_unit_test(an_end_without_close_notify_is_truncation),
		cmocka_unit_test(a_reset_on_reuse_over_tls_is_not_sent_again),
		cmocka_unit_test(a_connection_closed_while_idle_costs_nothing),
		cmocka_unit_test(connections_are_reused_over_tls),
		cmocka_unit_test(a_connection_that_is_ending_counts_no_more),
		cmocka_unit_test(a_turn_has_few_steps_of_hand_shakes),
		cmocka_unit_test(a_hand_shake_takes_one_place),
	};
	return cmocka_run_group_tests_name("pool over TLS", tests, make_files, remove_files);
}

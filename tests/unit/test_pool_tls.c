/* The pool over TLS, and over HTTP/2: who is trusted, what a cut looks like, streams that share a connection. */
#include <arpa/inet.h>
#include <poll.h>
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
#include "tests/support/pool_rig.h"
#include "tests/support/proxy.h"
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

/* ---- HTTP/2, behind a real proxy ---- */

struct front {
	struct bad_server *server;
	struct proxy *proxy;
	struct rig rig;
};

static void front_open(struct front *f, const struct bad_step *script, enum pool_http http)
{
	f->server = bad_server_of(script);
	f->proxy = proxy_new(files.leaf, files.leaf_key, bad_server_port(f->server));
	if (f->proxy == NULL) {
		bad_server_free(&f->server);
		skip();
	}
	rig_options(&f->rig, proxy_origin(f->proxy));
	f->rig.options.ca_file = files.ca;
	f->rig.options.http = http;
	f->rig.options.connections = 2;
	rig_open(&f->rig);
}

static void front_close(struct front *f)
{
	pool_free(&f->rig.pool);
	rig_turn(&f->rig);
	proxy_free(&f->proxy);
	bad_server_free(&f->server);
	loop_free(&f->rig.loop);
}

static void streams_share_a_connection(void **state)
{
	enum { CALLS = 60 };
	struct front f;
	static struct rig_call calls[CALLS];
	struct rig_call first = { 0 };
	struct pool_stats stats;
	(void)state;
	front_open(&f, bad_server_echo, POOL_HTTP_2);
	rig_get(&f.rig, &first, "/first");
	assert_int_equal(rig_finish(&first), POOL_DONE);
	memset(calls, 0, sizeof(calls));
	for (int i = 0; i < CALLS; i++) {
		char target[32];
		snprintf(target, sizeof(target), "/call-%d", i);
		rig_get(&f.rig, &calls[i], target);
	}
	for (int i = 0; i < CALLS; i++) {
		char target[32];
		snprintf(target, sizeof(target), "/call-%d", i);
		assert_int_equal(rig_finish(&calls[i]), POOL_DONE);
		assert_string_equal(calls[i].body, target);
		assert_int_equal(calls[i].status, 200);
		assert_true(calls[i].result.reused);
	}
	pool_stats(f.rig.pool, &stats);
	assert_int_equal(stats.opened, 1);
	assert_int_equal(stats.reused, CALLS);
	assert_int_equal(stats.idle, 1);
	front_close(&f);
}

static void auto_and_one_pick_their_version(void **state)
{
	struct front f;
	struct rig_call call = { 0 }, second = { 0 };
	(void)state;
	front_open(&f, bad_server_echo, POOL_HTTP_AUTO);
	struct slice body = SLICE("hello");
	rig_post(&f.rig, &call, "/auto", &body);
	assert_int_equal(rig_finish(&call), POOL_DONE);
	assert_string_equal(call.body, "/auto");
	front_close(&f);
	front_open(&f, bad_server_echo, POOL_HTTP_1);
	rig_post(&f.rig, &second, "/one", &body);
	assert_int_equal(rig_finish(&second), POOL_DONE);
	front_close(&f);
}

static void cancelling_a_stream_ends_it_alone(void **state)
{
	static const struct bad_step streams[] = { { .verb = BAD_REQUEST },
						   { .verb = BAD_SEND,
						     .text = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun" },
						   { .verb = BAD_STALL },
						   { .verb = BAD_END } };
	struct bad_server *server =
		bad_server_new((const struct bad_step *const[]){ streams, streams, bad_server_echo }, 3);
	struct front f = { .server = server };
	struct rig_call cancelled = { 0 }, kept = { 0 }, after = { 0 };
	struct pool_stats stats;
	(void)state;
	f.proxy = proxy_new(files.leaf, files.leaf_key, bad_server_port(server));
	if (f.proxy == NULL) {
		bad_server_free(&server);
		skip();
	}
	rig_options(&f.rig, proxy_origin(f.proxy));
	f.rig.options.ca_file = files.ca;
	f.rig.options.http = POOL_HTTP_2;
	f.rig.options.connections = 1;
	rig_open(&f.rig);
	rig_get(&f.rig, &cancelled, "/cancelled");
	RIG_UNTIL(&f.rig, cancelled.received == 5);
	rig_get(&f.rig, &kept, "/kept");
	RIG_UNTIL(&f.rig, kept.received == 5);
	pool_cancel(&cancelled.transfer);
	RIG_UNTIL(&f.rig, bad_server_record(server).left ==
				  1); /* the proxy passes the reset on to the server, and waits longer */
	rig_get(&f.rig, &after, "/after");
	assert_int_equal(rig_finish(&after), POOL_DONE);
	assert_true(after.result.reused);
	assert_int_equal(kept.dones, 0);
	pool_stats(f.rig.pool, &stats);
	assert_int_equal(stats.opened, 1);
	front_close(&f);
}

static void a_cut_stream_is_truncated(void **state)
{
	static const struct bad_step cuts[] = { { .verb = BAD_REQUEST },
						{ .verb = BAD_SEND,
						  .text = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun" },
						{ .verb = BAD_GATE },
						{ .verb = BAD_RESET } };
	static const struct bad_step chunked[] = {
		{ .verb = BAD_REQUEST },
		{ .verb = BAD_SEND, .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n" },
		{ .verb = BAD_GATE },
		{ .verb = BAD_RESET }
	};
	static const struct bad_step *const scripts[] = { cuts, chunked };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(scripts); i++) {
		struct front f;
		struct rig_call call = { 0 };
		front_open(&f, scripts[i], POOL_HTTP_2);
		rig_get(&f.rig, &call, "/cut");
		RIG_UNTIL(&f.rig, call.received == 5);
		bad_server_open_gate(f.server, 1);
		assert_int_equal(rig_finish(&call), POOL_TRUNCATED);
		front_close(&f);
	}
}

static void a_dead_proxy_costs_one_attempt(void **state)
{
	static const struct bad_step first_only[] = { { .verb = BAD_REQUEST },
						      { .verb = BAD_ECHO },
						      { .verb = BAD_REQUEST },
						      { .verb = BAD_STALL },
						      { .verb = BAD_END } };
	struct front f;
	struct rig_call first = { 0 }, second = { 0 };
	struct slice body = SLICE("{\"once\":true}");
	(void)state;
	front_open(&f, first_only, POOL_HTTP_2);
	rig_post(&f.rig, &first, "/first", &body);
	assert_int_equal(rig_finish(&first), POOL_DONE);
	rig_post(&f.rig, &second, "/second", &body);
	RIG_UNTIL(&f.rig, bad_server_record(f.server).requests == 2);
	proxy_free(&f.proxy);
	assert_int_equal(rig_finish(&second), POOL_RESET);
	assert_int_equal(bad_server_record(f.server).requests, 2);
	f.proxy = proxy_new(files.leaf, files.leaf_key, bad_server_port(f.server));
	front_close(&f);
}

static void warm_streams_open_their_own_connections(void **state)
{
	struct front f;
	struct pool_stats stats;
	(void)state;
	front_open(&f, bad_server_echo, POOL_HTTP_2);
	pool_free(&f.rig.pool);
	f.rig.options.warm = 2;
	f.rig.pool = pool_new(f.rig.loop, &f.rig.options, NULL);
	pool_warm(f.rig.pool, 10 * CLOCK_SECOND, NULL, NULL);
	RIG_UNTIL(&f.rig, (pool_stats(f.rig.pool, &stats), stats.idle == 2));
	assert_int_equal(stats.opened, 2);
	front_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_right_certificate_is_trusted),
		cmocka_unit_test(a_new_pool_reads_its_certificates_again),
		cmocka_unit_test(plain_text_where_tls_is_due_is_tls_failed),
		cmocka_unit_test(an_end_without_close_notify_is_truncation),
		cmocka_unit_test(a_reset_on_reuse_over_tls_is_not_sent_again),
		cmocka_unit_test(a_connection_closed_while_idle_costs_nothing),
		cmocka_unit_test(connections_are_reused_over_tls),
		cmocka_unit_test(a_turn_has_few_steps_of_hand_shakes),
		cmocka_unit_test(streams_share_a_connection),
		cmocka_unit_test(auto_and_one_pick_their_version),
		cmocka_unit_test(cancelling_a_stream_ends_it_alone),
		cmocka_unit_test(a_cut_stream_is_truncated),
		cmocka_unit_test(a_dead_proxy_costs_one_attempt),
		cmocka_unit_test(warm_streams_open_their_own_connections),
	};
	return cmocka_run_group_tests_name("pool over TLS", tests, make_files, remove_files);
}

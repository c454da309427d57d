/* The server over real sockets. Each step waits for what it needs, with a generous limit on turns so that a test that
 * cannot pass ends. */
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "svc/http.h"
#include "tests/support/http_corpus.h"
#include "tests/support/http_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void check_case(struct http_rig *rig, const struct http_case *c, size_t cut)
{
	bool closed;
	char fault[64];
	unsigned heads = rig->heads, ends = rig->ends;
	int s = http_rig_client(rig);
	http_rig_say(s, slice_make(c->bytes, cut));
	http_rig_turn(rig, cut == c->len ? 0 : 2);
	if (cut < c->len)
		(void)!send(s, c->bytes + cut, c->len - cut, MSG_NOSIGNAL); /* it may have been refused already */
	if (c->method != NULL) {
		bool nothing = strcmp(c->method, "HEAD") == 0;
		assert_non_null(strstr(http_rig_hear(rig, s, nothing ? "\r\n\r\n" : "\r\n\r\ndone", &closed),
				       "HTTP/1.1 200 OK\r\n"));
		assert_string_equal(rig->method, c->method);
		assert_string_equal(rig->target, c->target);
		assert_int_equal(rig->fields, c->fields);
		assert_int_equal(rig->body_len, c->body_len);
		assert_memory_equal(c->body_len > 0 ? rig->body.data : "", c->body, c->body_len);
	} else {
		const char *text = http_rig_hear(rig, s, NULL, &closed);
		snprintf(fault, sizeof(fault), "fault %s", http_fault_code(rig->fault));
		if (!closed || strstr(text, fault) == NULL || rig->ends != ends || strstr(text, "200 OK") != NULL)
			fail_msg("\"%s\" cut at %zu: closed %d, answer: %s", c->name, cut, (int)closed, text);
		assert_true(c->fault == HTTP_FAULT_COUNT || c->fault == rig->fault);
		assert_true(rig->heads == heads || rig->fault == HTTP_FAULT_bad_body);
	}
	close(s);
}

static void test_corpus_over_sockets(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	for (size_t i = 0; i < http_corpus_count; i++) {
		for (size_t cut = 1; cut <= http_corpus[i].len; cut++)
			check_case(rig, &http_corpus[i], cut);
	}
	http_rig_turn(rig, 4);
	struct http_stats stats;
	http_server_stats(rig->server, &stats);
	assert_int_equal(stats.connections, 0);
	assert_int_equal(stats.exchanges, 0);
	assert_int_equal(stats.buffered, 0);
	http_rig_free(rig);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	bool closed;
	int s = http_rig_client(rig);
	for (int i = 0; i < 50; i++)
		http_rig_say(s, SLICE("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"));
	http_rig_say(s, SLICE("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
	http_rig_hear(rig, s, NULL, &closed);
	assert_true(closed);
	assert_int_equal(rig->heads, 51);
	assert_int_equal(rig->ends, 50);
	close(s);
	http_rig_free(rig);
}

/* Leaves after having sent so much; the owner, if there is one, must hear of it. */
static void leave_after(struct slice sent, struct slice pipelined, bool reset, unsigned gones)
{
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	struct http_stats stats;
	int s = http_rig_client(rig);
	http_rig_say(s, sent);
	http_rig_turn(rig, 4);
	if (pipelined.len > 0)
		http_rig_say(s, pipelined);
	http_rig_turn(rig, 4);
	if (reset)
		shutdown(s, SHUT_WR); /* half a close counts as leaving */
	else
		close(s);
	HTTP_RIG_WAIT(rig, (http_server_stats(rig->server, &stats), stats.connections == 0));
	assert_int_equal(rig->gones, gones);
	if (gones > 0)
		assert_int_equal(rig->why, HTTP_GONE_LEFT);
	if (reset)
		close(s);
	http_rig_free(rig);
}

static void test_leaving_is_seen_in_every_stage(void **state)
{
	(void)state;
	const struct slice hold = SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	for (int half = 0; half < 2; half++) {
		leave_after(SLICE("G"), SLICE_NONE, half, 0);
		leave_after(SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), SLICE_NONE, half, 0);
		leave_after(hold, SLICE_NONE, half, 1);
		leave_after(hold, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), half, 1);
		leave_after(SLICE("POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"), SLICE("abc"), half,
			    1);
		leave_after(SLICE("POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"), SLICE("abc"), half,
			    1);
		leave_after(SLICE("POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
			    SLICE("3\r\na"), half, 1);
		leave_after(SLICE("GET /big HTTP/1.1\r\nHost: x\r\n\r\n"), SLICE_NONE, half, 1);
	}
}

static void test_slow_reader_pauses_the_writer(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	struct http_stats stats;
	int s = http_rig_client(rig);
	http_rig_say(s, SLICE("GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
	http_rig_turn(rig, 20);
	http_server_stats(rig->server, &stats);
	assert_in_range(rig->pauses, 1, 3); /* what the kernel takes at first makes room once or twice */
	assert_in_range(stats.buffered, 1, HTTP_BUFFERED_MAX + 32768);
	size_t total = 0;
	char block[65536];
	for (int i = 0; i < HTTP_RIG_TURNS * 10; i++) {
		http_rig_turn(rig, 1);
		ssize_t got = recv(s, block, sizeof(block), 0);
		if (got == 0)
			break;
		assert_true(got > 0 || errno == EAGAIN);
		total += got > 0 ? (size_t)got : 0;
	}
	assert_in_range(total, HTTP_RIG_BIG + 100, HTTP_RIG_BIG + 400);
	assert_true(rig->writables > 2);
	assert_int_equal(rig->gones, 0);
	close(s);
	http_rig_free(rig);
}

static void test_deadlines(void **state)
{
	(void)state;
	struct http_options hasty = http_rig_patient;
	bool closed;
	hasty.head_timeout = hasty.body_timeout = hasty.idle_timeout = hasty.write_stall = 30 * CLOCK_MILLISECOND;
	struct http_rig *rig = http_rig_new(&hasty);
	int s = http_rig_client(rig);
	assert_string_equal(http_rig_hear(rig, s, NULL, &closed), ""); /* nothing sent, nothing said */
	assert_true(closed);
	close(s);
	s = http_rig_client(rig);
	http_rig_say(s, SLICE("GET / HT"));
	assert_non_null(strstr(http_rig_hear(rig, s, NULL, &closed), "fault head_timeout"));
	assert_true(closed);
	close(s);
	s = http_rig_client(rig);
	http_rig_say(s, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	assert_non_null(strstr(http_rig_hear(rig, s, NULL, &closed), "done")); /* then idle, then closed */
	assert_true(closed);
	close(s);
	s = http_rig_client(rig);
	http_rig_say(s, SLICE("POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"));
	assert_non_null(strstr(http_rig_hear(rig, s, NULL, &closed), "fault body_timeout"));
	assert_true(closed);
	assert_int_equal(rig->broken, 1);
	close(s);
	s = http_rig_client(rig);
	http_rig_say(s, SLICE("GET /big HTTP/1.1\r\nHost: x\r\n\r\n"));
	HTTP_RIG_WAIT(rig, rig->gones == 1);
	assert_int_equal(rig->why, HTTP_GONE_STALLED);
	close(s);
	http_rig_free(rig);
}

static void test_body_below_the_rate_is_cut_and_a_paused_one_is_not(void **state)
{
	(void)state;
	struct http_options hasty = http_rig_patient;
	bool closed;
	hasty.body_timeout = 40 * CLOCK_MILLISECOND;
	hasty.body_rate = 100000;
	struct http_rig *rig = http_rig_new(&hasty);
	int s = http_rig_client(rig);
	http_rig_say(s, SLICE("POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"));
	HTTP_RIG_WAIT(rig, rig->held != NULL);
	http_pause_body(rig->held);
	http_rig_say(s, SLICE("abc"));
	int64_t until = clock_now() + 150 * CLOCK_MILLISECOND;
	HTTP_RIG_WAIT(rig, clock_now() > until);
	assert_int_equal(rig->gones, 0);
	assert_int_equal(rig->body_len, 0);
	http_resume_body(rig->held);
	HTTP_RIG_WAIT(rig, rig->body_len == 3);
	assert_non_null(strstr(http_rig_hear(rig, s, NULL, &closed), "fault body_timeout"));
	assert_int_equal(rig->broken, 1);
	assert_int_equal(rig->gones, 0);
	close(s);
	http_rig_free(rig);
}

static void test_continue_is_said_when_the_body_is_wanted(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	bool closed;
	int s = http_rig_client(rig);
	http_rig_say(s, SLICE("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"));
	assert_string_equal(http_rig_hear(rig, s, "\r\n\r\n", &closed), "HTTP/1.1 100 Continue\r\n\r\n");
	http_rig_say(s, SLICE("abc"));
	assert_non_null(strstr(http_rig_hear(rig, s, "done", &closed), "HTTP/1.1 200 OK"));
	http_rig_say(s, SLICE("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"));
	const char *text = http_rig_hear(rig, s, NULL, &closed);
	assert_true(closed && strstr(text, "100 Continue") == NULL && strstr(text, "Connection: close\r\n") != NULL);
	close(s);
	http_rig_free(rig);
}

/* Sends as the socket takes it; true when all is sent before the server closed. */
static bool push(struct http_rig *rig, int s, const char *bytes, size_t len)
{
	size_t at = 0;
	for (int i = 0; i < HTTP_RIG_TURNS * 10 && at < len; i++) {
		ssize_t took = send(s, bytes + at, len - at, MSG_NOSIGNAL);
		if (took < 0 && errno != EAGAIN)
			return false;
		at += took > 0 ? (size_t)took : 0;
		http_rig_turn(rig, 1);
	}
	return at == len;
}

static void test_large_chunked_body(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	bool closed;
	char *chunk = mem_new(65536 + 9);
	int s = http_rig_client(rig);
	memcpy(chunk, "10000\r\n", 7);
	memcpy(chunk + 7 + 65536, "\r\n", 2);
	http_rig_say(s, SLICE("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
	for (int i = 0; i < 320; i++)
		assert_true(push(rig, s, chunk, 65536 + 9));
	http_rig_say(s, SLICE("0\r\n\r\n"));
	assert_non_null(strstr(http_rig_hear(rig, s, "done", &closed), "HTTP/1.1 200 OK"));
	assert_int_equal(rig->body_len, 20 << 20);
	mem_free(chunk);
	close(s);
	http_rig_free(rig);
}

/* The client goes on sending; its answer arrives all the same, and no reset. */
static void test_refused_body_is_answered_while_it_comes(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	bool closed;
	char *bytes = mem_new(2 << 20);
	int s = http_rig_client(rig);
	http_rig_say(s, SLICE("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n"));
	assert_true(push(rig, s, bytes, 2 << 20));
	assert_non_null(strstr(http_rig_hear(rig, s, NULL, &closed), "\r\n\r\nno"));
	close(s);
	s = http_rig_client(rig);
	http_rig_say(s, SLICE("POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n"));
	assert_true(push(rig, s, bytes, 2 << 20));
	assert_non_null(strstr(http_rig_hear(rig, s, NULL, &closed), "413 Content Too Large"));
	assert_int_equal(rig->fault, HTTP_FAULT_body_too_large);
	assert_int_equal(rig->body_len, 0);
	close(s);
	mem_free(bytes);
	http_rig_free(rig);
}

static void test_small_refused_body_keeps_the_connection(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	bool closed;
	int s = http_rig_client(rig);
	for (int i = 0; i < 3; i++) {
		http_rig_say(
			s,
			SLICE("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\nGET /b HTTP/1.1\r\nHost: "
			      "x\r\n\r\n"));
		assert_non_null(strstr(http_rig_hear(rig, s, "\r\n\r\nno", &closed), "200 OK"));
		assert_false(closed);
	}
	assert_int_equal(rig->heads, 3); /* no body was taken for a request */
	close(s);
	http_rig_free(rig);
}

static void test_answers_without_body_and_cut_ones(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	bool closed;
	int s = http_rig_client(rig);
	http_rig_say(s, SLICE("GET /none HTTP/1.1\r\nHost: x\r\n\r\n"));
	const char *text = http_rig_hear(rig, s, "\r\n\r\n", &closed);
	assert_true(strstr(text, "204 No Content") != NULL && strstr(text, "Content-Length") == NULL);
	http_rig_say(s, SLICE("GET /cut HTTP/1.1\r\nHost: x\r\n\r\n"));
	text = http_rig_hear(rig, s, NULL, &closed);
	assert_true(closed && strstr(text, "4\r\nhalf\r\n") != NULL && strstr(text, "0\r\n\r\n") == NULL);
	close(s);
	s = http_rig_client(rig);
	http_rig_say(s, SLICE("GET /cut HTTP/1.0\r\nHost: x\r\n\r\n"));
	text = http_rig_hear(rig, s, NULL, &closed);
	assert_true(closed && strstr(text, "chunked") == NULL);
	close(s);
	http_rig_free(rig);
}

static void test_drain_and_free(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	struct http_stats stats;
	bool closed;
	int idle = http_rig_client(rig), busy = http_rig_client(rig), held = http_rig_client(rig);
	http_rig_say(idle, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	http_rig_hear(rig, idle, "done", &closed);
	http_rig_say(busy, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	http_rig_hear(rig, busy, "done", &closed);
	http_server_drain(rig->server);
	http_rig_say(busy, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); /* it did not know yet: answered, and told */
	assert_non_null(strstr(http_rig_hear(rig, busy, NULL, &closed), "Connection: close\r\n"));
	assert_true(closed);
	http_rig_hear(rig, idle, NULL, &closed);
	assert_true(closed);
	http_rig_say(held, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
	HTTP_RIG_WAIT(rig, rig->held != NULL);
	http_server_stats(rig->server, &stats);
	assert_int_equal(stats.exchanges, 1);
	http_server_free(&rig->server);
	http_rig_turn(rig, 3);
	assert_int_equal(rig->gones, 1);
	assert_int_equal(rig->why, HTTP_GONE_CLOSED);
	close(idle);
	close(busy);
	close(held);
	http_rig_free(rig);
}

static void test_listening(void **state)
{
	(void)state;
	char error[256] = "";
	struct http_listener *a = http_listen(SLICE("127.0.0.1:0"), error, sizeof(error)), *b;
	assert_non_null(a);
	assert_true(http_listener_port(a) > 0);
	b = http_listen(slice_of(http_listener_text(a)), error, sizeof(error));
	assert_null(b);
	assert_non_null(strstr(error, http_listener_text(a)));
	assert_non_null(strstr(error, "Address already in use"));
	const char *wrong[] = { "",       "x",     ":80",   "127.0.0.1:",         "127.0.0.1:x", "127.0.0.1:65536",
				"::1:80", "unix:", "[::1]", "unix:/nonexistent/s" };
	for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++)
		assert_null(http_listen(slice_of(wrong[i]), error, sizeof(error)));
	http_listener_free(&a);
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	assert_null(http_listen(slice_of(rig->address), error, sizeof(error))); /* somebody answers there */
	http_rig_free(rig);
}

static void test_a_left_over_unix_path_is_taken_over(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	char error[256], address[160];
	struct stat status;
	snprintf(name.sun_path, sizeof(name.sun_path), "%s/old", rig->folder);
	int old = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(old, (struct sockaddr *)&name, sizeof(name)), 0);
	close(old);
	snprintf(address, sizeof(address), "unix:%s", name.sun_path);
	struct http_listener *l = http_listen(slice_of(address), error, sizeof(error));
	assert_non_null(l);
	http_listener_free(&l);
	assert_int_not_equal(stat(name.sun_path, &status), 0);
	http_rig_free(rig);
}

static void test_connections_are_limited_and_idle_ones_make_room(void **state)
{
	(void)state;
	struct http_options few = http_rig_patient;
	bool closed;
	few.connections = 2;
	struct http_rig *rig = http_rig_new(&few);
	int a = http_rig_client(rig), b = http_rig_client(rig), c;
	http_rig_say(a, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	http_rig_hear(rig, a, "done", &closed);
	http_rig_say(b, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
	HTTP_RIG_WAIT(rig, rig->held != NULL);
	c = http_rig_client(rig);
	http_rig_hear(rig, a, NULL, &closed); /* idle: it makes room */
	assert_true(closed);
	http_rig_say(c, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	assert_non_null(strstr(http_rig_hear(rig, c, "done", &closed), "200 OK"));
	close(a);
	close(b);
	close(c);
	http_rig_free(rig);
}

/* Nobody is turned away: who comes is accepted when there is room. */
static void test_a_full_server_leaves_its_listener_alone(void **state)
{
	(void)state;
	struct http_options few = http_rig_patient;
	struct http_stats stats;
	bool closed;
	few.connections = 1;
	struct http_rig *rig = http_rig_new(&few);
	int a = http_rig_client(rig), b;
	http_rig_say(a, SLICE("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
	HTTP_RIG_WAIT(rig, rig->held != NULL);
	b = http_rig_client(rig); /* the kernel has it */
	http_rig_say(b, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	http_rig_turn(rig, 20);
	http_server_stats(rig->server, &stats);
	assert_int_equal(stats.accepted, 1);
	close(a);
	assert_non_null(strstr(http_rig_hear(rig, b, "done", &closed), "200 OK"));
	http_server_stats(rig->server, &stats);
	assert_int_equal(stats.accepted, 2);
	assert_int_equal(stats.connections, 1);
	close(b);
	http_rig_free(rig);
}

static void test_no_descriptors_left(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	struct rlimit before, none;
	bool closed;
	int s = http_rig_client(rig);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = (rlim_t)s + 1; /* the next descriptor would be one too many */
	setrlimit(RLIMIT_NOFILE, &none);
	http_rig_turn(rig, 20);
	setrlimit(RLIMIT_NOFILE, &before);
	http_rig_say(s, SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
	assert_non_null(strstr(http_rig_hear(rig, s, "done", &closed), "200 OK"));
	close(s);
	http_rig_free(rig);
}

/* The kernel has connected them, and nobody has seen them yet: with the listener they would be gone. */
static void test_who_has_connected_is_served_when_the_listener_goes(void **state)
{
	(void)state;
	struct http_rig *rig = http_rig_new(&http_rig_patient);
	int clients[100];
	bool closed;
	for (size_t i = 0; i < ARRAY_LENGTH(clients); i++)
		clients[i] = http_rig_client(rig);
	http_server_stop_accepting(rig->server);
	http_listener_free(&rig->listener);
	for (size_t i = 0; i < ARRAY_LENGTH(clients); i++) {
		http_rig_say(clients[i], SLICE("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
		assert_non_null(strstr(http_rig_hear(rig, clients[i], "done", &closed), "200 OK"));
		close(clients[i]);
	}
	http_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus_over_sockets),
		cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
		cmocka_unit_test(test_leaving_is_seen_in_every_stage),
		cmocka_unit_test(test_slow_reader_pauses_the_writer),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_body_below_the_rate_is_cut_and_a_paused_one_is_not),
		cmocka_unit_test(test_continue_is_said_when_the_body_is_wanted),
		cmocka_unit_test(test_large_chunked_body),
		cmocka_unit_test(test_refused_body_is_answered_while_it_comes),
		cmocka_unit_test(test_small_refused_body_keeps_the_connection),
		cmocka_unit_test(test_answers_without_body_and_cut_ones),
		cmocka_unit_test(test_drain_and_free),
		cmocka_unit_test(test_listening),
		cmocka_unit_test(test_a_left_over_unix_path_is_taken_over),
		cmocka_unit_test(test_connections_are_limited_and_idle_ones_make_room),
		cmocka_unit_test(test_a_full_server_leaves_its_listener_alone),
		cmocka_unit_test(test_no_descriptors_left),
		cmocka_unit_test(test_who_has_connected_is_served_when_the_listener_goes),
	};
	return cmocka_run_group_tests_name("http_server", tests, NULL, NULL);
}

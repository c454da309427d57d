/* The pool against a peer that lies, dies and stalls: nothing is sent twice, nothing short looks complete, no byte
 * goes astray. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "tests/support/pool_rig.h"

#define OK "HTTP/1.1 200 OK\r\n"

/* ---- nothing is sent twice ---- */

struct death {
	const char *name;
	struct bad_step steps[5]; /* the second request on a connection meets this */
};

/* clang-format off */
static const struct death deaths[] = {
	{ "FIN after the request", { { BAD_REQUEST, NULL, 0 }, { BAD_ECHO, NULL, 0 }, { BAD_REQUEST, NULL, 0 }, { BAD_END, NULL, 0 } } },
	{ "RST after the request", { { BAD_REQUEST, NULL, 0 }, { BAD_ECHO, NULL, 0 }, { BAD_REQUEST, NULL, 0 }, { BAD_RESET, NULL, 0 } } },
	{ "FIN after the head", { { BAD_REQUEST, NULL, 0 }, { BAD_ECHO, NULL, 0 }, { BAD_HEAD, NULL, 0 }, { BAD_END, NULL, 0 } } },
	{ "RST after the head", { { BAD_REQUEST, NULL, 0 }, { BAD_ECHO, NULL, 0 }, { BAD_HEAD, NULL, 0 }, { BAD_RESET, NULL, 0 } } },
	{ "FIN inside the status line", { { BAD_REQUEST, NULL, 0 }, { BAD_ECHO, NULL, 0 }, { BAD_REQUEST, NULL, 0 }, { BAD_SEND, "HTTP/1.", 0 }, { BAD_END, NULL, 0 } } },
	{ "RST inside the status line", { { BAD_REQUEST, NULL, 0 }, { BAD_ECHO, NULL, 0 }, { BAD_REQUEST, NULL, 0 }, { BAD_SEND, "HTTP/1.", 0 }, { BAD_RESET, NULL, 0 } } },
	{ "FIN after an interim head", { { BAD_REQUEST, NULL, 0 }, { BAD_ECHO, NULL, 0 }, { BAD_REQUEST, NULL, 0 }, { BAD_SEND, "HTTP/1.1 100 Continue\r\n\r\n", 0 }, { BAD_END, NULL, 0 } } },
};
/* clang-format on */

static void dies_on_reuse(const struct death *death, const char *method, size_t body_size)
{
	struct bad_server *server =
		bad_server_new((const struct bad_step *const[]){ death->steps, bad_server_echo }, 2);
	struct rig rig;
	struct rig_call first = { 0 }, second = { 0 };
	char *bytes = calloc(1, body_size + 1);
	struct slice body = { bytes, body_size };
	rig_start(&rig, server);
	rig_get(&rig, &first, "/first");
	assert_int_equal(rig_finish(&first), POOL_DONE);
	struct pool_request request = rig_request(method, "/second");
	request.body = &body;
	request.body_count = body_size > 0;
	rig_call(&rig, &second, &request);
	enum pool_outcome outcome = rig_finish(&second);
	if (outcome != POOL_RESET && !(outcome == POOL_TRUNCATED && strstr(death->name, "inside") != NULL))
		fail_msg("%s, %s of %zu bytes: %s (%s)", death->name, method, body_size, pool_outcome_name(outcome),
			 second.result.detail);
	assert_true(second.result.reused);
	rig_for(&rig, 5 * CLOCK_MILLISECOND);
	assert_int_equal(bad_server_record(server).requests, 2);
	assert_int_equal(bad_server_record(server).connections, 1);
	/* And the pool goes on. */
	struct rig_call third = { 0 };
	rig_get(&rig, &third, "/third");
	if (rig_finish(&third) != POOL_DONE)
		fail_msg("after %s, %s of %zu bytes: %s (%s)", death->name, method, body_size,
			 pool_outcome_name(third.result.outcome), third.result.detail);
	assert_string_equal(third.body, "/third");
	assert_int_equal(bad_server_record(server).requests, 3);
	free(bytes);
	rig_stop(&rig, server);
}

static void a_request_is_never_sent_twice(void **state)
{
	static const size_t sizes[] = { 1, 2048, 16384, 16385, 70000, 3000000 };
	(void)state;
	for (size_t d = 0; d < ARRAY_LENGTH(deaths); d++) {
		dies_on_reuse(&deaths[d], "GET", 0);
		dies_on_reuse(&deaths[d], "HEAD", 0);
		dies_on_reuse(&deaths[d], "POST", 0);
		dies_on_reuse(&deaths[d], "DELETE", 0);
		for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++)
			dies_on_reuse(&deaths[d], i % 2 == 0 ? "POST" : "PUT", sizes[i]);
	}
}

static void a_connection_closed_while_idle_costs_nothing(void **state)
{
	static const struct bad_step once[] = { { .verb = BAD_REQUEST }, { .verb = BAD_ECHO }, { .verb = BAD_END } };
	struct bad_server *server = bad_server_of(once);
	struct rig rig;
	struct pool_stats stats;
	(void)state;
	rig_start(&rig, server);
	for (int i = 0; i < 10; i++) {
		struct rig_call call = { 0 };
		struct slice body = SLICE("{}");
		rig_post(&rig, &call, "/x", &body);
		assert_int_equal(rig_finish(&call), POOL_DONE);
		/* The loop sees the FIN by itself: the connection is no longer counted as idle. */
		RIG_UNTIL(&rig, (pool_stats(rig.pool, &stats), stats.idle == 0));
	}
	assert_int_equal(bad_server_record(server).requests, 10);
	rig_stop(&rig, server);
}

/* The peer closes the idle connection while a request is under way to it: whoever wins, the peer sees it at most once.
 *  */
static void a_race_with_an_idle_close_is_never_a_second_attempt(void **state)
{
	static const struct bad_step closes_at_gate[] = {
		{ .verb = BAD_REQUEST }, { .verb = BAD_ECHO }, { .verb = BAD_GATE }, { .verb = BAD_END }
	};
	(void)state;
	for (int i = 0; i < 100; i++) {
		struct bad_server *server =
			bad_server_new((const struct bad_step *const[]){ closes_at_gate, bad_server_echo }, 2);
		struct rig rig;
		struct rig_call first = { 0 }, second = { 0 };
		struct slice body = SLICE("{}");
		rig_start(&rig, server);
		rig_get(&rig, &first, "/first");
		assert_int_equal(rig_finish(&first), POOL_DONE);
		if (i % 2 == 0)
			bad_server_open_gate(server, 1);
		rig_post(&rig, &second, "/second", &body);
		loop_turn(rig.loop, false);
		if (i % 2 == 1)
			bad_server_open_gate(server, 1);
		enum pool_outcome outcome = rig_finish(&second);
		unsigned seen = bad_server_record(server).requests - 1;
		if (outcome == POOL_DONE)
			assert_int_equal(seen, 1);
		else
			assert_true(outcome == POOL_RESET && seen <= 1);
		rig_stop(&rig, server);
	}
}

/* ---- nothing short looks complete ---- */

static enum pool_outcome outcome_with(const char *method, const struct bad_step *script, struct rig_call *call)
{
	struct bad_server *server = bad_server_of(script);
	struct rig rig;
	rig_start(&rig, server);
	struct pool_request request = rig_request(method, "/x");
	rig_call(&rig, call, &request);
	enum pool_outcome outcome = rig_finish(call);
	rig_stop(&rig, server);
	return outcome;
}

static enum pool_outcome answered(const char *text, size_t count, enum bad_verb end, struct rig_call *call)
{
	const struct bad_step script[] = { { .verb = BAD_REQUEST },
					   { .verb = BAD_SEND, .text = text, .count = count },
					   { .verb = end } };
	memset(call, 0, sizeof(*call));
	return outcome_with("GET", script, call);
}

static void an_answer_cut_anywhere_is_never_done(void **state)
{
	static const char *const answers[] = {
		OK "Content-Length: 10\r\nX: y\r\n\r\n0123456789",
		OK "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" OK "Content-Length: 3\r\n\r\nabc",
	};
	static const enum bad_verb ends[] = { BAD_END, BAD_RESET };
	(void)state;
	for (size_t a = 0; a < ARRAY_LENGTH(answers); a++)
		/* The chunked one is whole with the CR behind its last chunk: libcurl does not insist on the LF. */
		for (size_t cut = 1; cut < strlen(answers[a]) - (a == 1); cut++)
			for (size_t e = 0; e < ARRAY_LENGTH(ends); e++) {
				struct rig_call call;
				enum pool_outcome outcome = answered(answers[a], cut, ends[e], &call);
				if (outcome != POOL_TRUNCATED && outcome != POOL_RESET)
					fail_msg("answer %zu cut at %zu by %zu: %s (%s)", a, cut, e,
						 pool_outcome_name(outcome), call.result.detail);
				if (call.heads > 0)
					assert_int_equal(outcome, POOL_TRUNCATED);
			}
}

static void whole_answers_are_done(void **state)
{
	/* clang-format off */
	static const struct { const char *method, *text, *body; } cases[] = {
		{ "GET", OK "Content-Length: 5\r\n\r\nhello", "hello" },
		{ "GET", OK "content-length:5\r\nContent-Length: 5\r\n\r\nhello", "hello" },
		{ "GET", OK "Content-Length: 0\r\n\r\n", "" },
		{ "GET", OK "Transfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: t\r\n\r\n", "hello" },
		{ "GET", "HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end" },
		{ "GET", OK "\r\nuntil the end", "until the end" },
		{ "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" OK "Content-Length: 1\r\n\r\nx", "x" },
		{ "GET", "HTTP/1.1 204 No Content\r\n\r\n", "" },
		{ "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "" },
		{ "HEAD", OK "Content-Length: 500\r\n\r\n", "" },
		{ "GET", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nhi", "hi" },
		{ "GET", "HTTP/1.1 503 \r\nContent-Length: 2\r\n\r\nno", "no" },
		{ "GET", OK "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08", "\x1f\x8b\x08" },
	};
	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct bad_step script[] = { { .verb = BAD_REQUEST },
						   { .verb = BAD_SEND, .text = cases[i].text },
						   { .verb = BAD_END } };
		struct rig_call call = { 0 };
		if (outcome_with(cases[i].method, script, &call) != POOL_DONE)
			fail_msg("case %zu: %s (%s)", i, pool_outcome_name(call.result.outcome), call.result.detail);
		assert_int_equal(call.heads, 1);
		assert_string_equal(call.body, cases[i].body);
		assert_null(strstr(call.fields, "Link"));
		assert_null(strstr(call.fields, "Trailer="));
	}
}

static void what_is_not_http_is_garbage(void **state)
{
	/* clang-format off */
	static const char *const cases[] = {
		"hello, world\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"HTTP/1.1 2x0 OK\r\n\r\n",
		"HTTP/1.1 099 Low\r\n\r\n",
		"HTTP/1.1 600 High\r\n\r\n",
		"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nbytes",
		OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		OK "Content-Length: -5\r\n\r\nhello",
		OK "Content-Length: 5x\r\n\r\nhello",
		OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		OK "Transfer-Encoding: identity\r\n\r\nhello",
		OK "X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
		OK "X : a\r\nContent-Length: 0\r\n\r\n",
		OK "no colon\r\nContent-Length: 0\r\n\r\n",
		OK ": no name\r\nContent-Length: 0\r\n\r\n",
		OK "X: a\x01" "b\r\nContent-Length: 0\r\n\r\n",
		OK "X: a\rb\r\nContent-Length: 0\r\n\r\n",
	};
	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct rig_call call;
		if (answered(cases[i], 0, BAD_END, &call) != POOL_GARBAGE)
			fail_msg("case %zu: %s (%s)", i, pool_outcome_name(call.result.outcome), call.result.detail);
		assert_int_equal(call.heads, 0);
	}
}

static void a_head_has_a_ceiling(void **state)
{
	enum { SIZE = 400000 };
	char *text = malloc(SIZE + 1024);
	struct rig_call call;
	(void)state;
	assert_non_null(text);
	/* One field that is too long; many fields of which each is fine; too many small ones; one that never ends. */
	size_t used = (size_t)sprintf(text, OK "X: ");
	memset(text + used, 'x', 40000);
	strcpy(text + used + 40000, "\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(answered(text, 0, BAD_END, &call), POOL_GARBAGE);
	used = (size_t)sprintf(text, OK);
	for (int i = 0; i < 40; i++)
		used += (size_t)sprintf(text + used, "X-%d: %01000d\r\n", i, i);
	strcpy(text + used, "\r\n");
	assert_int_equal(answered(text, 0, BAD_END, &call), POOL_GARBAGE);
	used = (size_t)sprintf(text, OK);
	for (int i = 0; i < 200; i++)
		used += (size_t)sprintf(text + used, "X-%d: %d\r\n", i, i);
	strcpy(text + used, "\r\n");
	assert_int_equal(answered(text, 0, BAD_END, &call), POOL_GARBAGE);
	used = (size_t)sprintf(text, OK "X: ");
	memset(text + used, 'x', SIZE);
	enum pool_outcome outcome = answered(text, used + SIZE, BAD_STALL, &call);
	assert_true(outcome == POOL_GARBAGE || outcome == POOL_TRUNCATED);
	free(text);
}

static void a_bad_chunk_is_truncation(void **state)
{
	static const char *const bodies[] = { "zz\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n",
					      "fffffffffffffffffff\r\nhello", "\r\nhello" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bodies); i++) {
		char text[256];
		struct rig_call call;
		snprintf(text, sizeof(text), OK "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n%s", bodies[i]);
		if (answered(text, 0, BAD_END, &call) != POOL_TRUNCATED)
			fail_msg("case %zu: %s (%s)", i, pool_outcome_name(call.result.outcome), call.result.detail);
	}
}

static void a_reset_ends_no_answer_well(void **state)
{
	struct rig_call call;
	(void)state;
	assert_int_equal(answered("HTTP/1.0 200 OK\r\n\r\nuntil the end", 0, BAD_RESET, &call), POOL_TRUNCATED);
}

/* ---- no byte reaches another request ---- */

static void bytes_beyond_the_answer_meet_nobody(void **state)
{
	static const struct bad_step beyond[] = {
		{ .verb = BAD_REQUEST },
		{ .verb = BAD_SEND, .text = OK "Content-Length: 2\r\n\r\nhi" OK "Content-Length: 6\r\n\r\nstolen" },
		{ .verb = BAD_AGAIN }
	};
	static const struct bad_step later[] = { { .verb = BAD_REQUEST },
						 { .verb = BAD_ECHO },
						 { .verb = BAD_GATE },
						 { .verb = BAD_SEND, .text = OK "Content-Length: 6\r\n\r\nstolen" },
						 { .verb = BAD_AGAIN } };
	static const struct bad_step *const scripts[] = { beyond, later };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(scripts); i++) {
		struct bad_server *server =
			bad_server_new((const struct bad_step *const[]){ scripts[i], bad_server_echo }, 2);
		struct rig rig;
		struct rig_call first = { 0 }, second = { 0 };
		struct pool_stats stats;
		rig_start(&rig, server);
		rig_get(&rig, &first, "/first");
		assert_int_equal(rig_finish(&first), POOL_DONE);
		bad_server_open_gate(server, 1);
		RIG_UNTIL(&rig, (pool_stats(rig.pool, &stats), stats.idle == 0)); /* what came unasked retires it */
		rig_get(&rig, &second, "/second");
		assert_int_equal(rig_finish(&second), POOL_DONE);
		assert_string_equal(second.body, "/second");
		assert_false(second.result.reused);
		rig_stop(&rig, server);
	}
}

static unsigned noise(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

/* Descriptors are closed and reopened under the same numbers all the time here; each answer carries its request's
 * nonce. */
static void answers_never_cross(void **state)
{
	enum { WIDTH = 16, ROUNDS = 1500 };
	static const struct bad_step dies[] = { { .verb = BAD_REQUEST }, { .verb = BAD_ECHO },
						{ .verb = BAD_REQUEST }, { .verb = BAD_CHUNK_ECHO },
						{ .verb = BAD_REQUEST }, { .verb = BAD_RESET } };
	struct bad_server *server = bad_server_of(dies);
	struct rig rig;
	static struct rig_call calls[WIDTH];
	static char targets[WIDTH][64];
	unsigned seed = 7, done = 0;
	(void)state;
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = WIDTH;
	rig_open(&rig);
	memset(calls, 0, sizeof(calls));
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct rig_call *call = &calls[noise(&seed) % WIDTH];
		size_t lane = (size_t)(call - calls);
		if (call->transfer != NULL && noise(&seed) % 2 == 0) {
			rig_turn(&rig);
			continue;
		}
		pool_cancel(&call->transfer);
		if (call->dones > 0 && call->result.outcome == POOL_DONE) {
			assert_string_equal(call->body, targets[lane]);
			done++;
		}
		memset(call, 0, sizeof(*call));
		snprintf(targets[lane], sizeof(targets[lane]), "/nonce-%u-%u", round, noise(&seed));
		rig_get(&rig, call, targets[lane]);
		for (unsigned turns = noise(&seed) % 3; turns > 0; turns--)
			loop_turn(rig.loop, false);
	}
	assert_true(done > ROUNDS / 20);
	for (size_t i = 0; i < WIDTH; i++)
		pool_cancel(&calls[i].transfer);
	rig_stop(&rig, server);
}

static void a_thousand_cuts_leave_the_pool_whole(void **state)
{
	enum { CALLS = 1000, SCRIPTS = 61, WIDTH = 8 };
	static struct bad_step steps[SCRIPTS][3];
	static const struct bad_step *scripts[SCRIPTS];
	static struct rig_call calls[CALLS];
	struct pool_stats stats;
	struct pool_shared_stats shared;
	unsigned seed = 99, cut = 0;
	struct rig rig;
	(void)state;
	for (size_t i = 0; i < SCRIPTS; i++) {
		steps[i][0].verb = BAD_REQUEST;
		steps[i][1] =
			(struct bad_step){ BAD_SEND, OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
					   1 + noise(&seed) % 60 };
		steps[i][2].verb = noise(&seed) % 2 ? BAD_RESET : BAD_END;
		scripts[i] = i + 1 == SCRIPTS ? bad_server_echo : steps[i];
	}
	memset(calls, 0, sizeof(calls));
	struct bad_server *server = bad_server_new(scripts, SCRIPTS - 1); /* the last cutting script repeats */
	rig_options(&rig, bad_server_origin(server));
	rig.options.connections = WIDTH;
	rig_open(&rig);
	for (size_t i = 0; i < CALLS; i++) {
		struct pool_request request = rig_request(i % 2 ? "GET" : "POST", "/x");
		request.lane = (enum lane)(i % LANES);
		request.tenant = i % 5 < 2 ? SLICE("bounded") : SLICE("other");
		request.tenant_connections = i % 5 < 2 ? WIDTH / 2 : 0;
		rig_call(&rig, &calls[i], &request);
		if (noise(&seed) % 8 == 0)
			pool_cancel(&calls[noise(&seed) % (i + 1)].transfer);
		if (noise(&seed) % 4 == 0)
			loop_turn(rig.loop, false);
	}
	RIG_UNTIL(&rig, (pool_stats(rig.pool, &stats), stats.active == 0 && stats.waiting == 0));
	for (size_t i = 0; i < CALLS; i++) {
		assert_null(calls[i].transfer);
		cut += calls[i].dones == 0 || calls[i].result.outcome != POOL_DONE;
	}
	assert_int_equal(stats.open, stats.idle);
	pool_shared_stats(rig.pool, &shared); /* whole: each place that is taken has its connection */
	assert_int_equal(shared.open, stats.open);
	assert_true(shared.peak <= WIDTH);
	printf("  %d calls, %u of them cut or cancelled: %u connections left, all idle, %u places taken\n", CALLS, cut,
	       stats.open, shared.open);
	memset(calls, 0, sizeof(calls));
	for (size_t i = 0; i < WIDTH; i++) /* and all of it can be used */
		rig_get(&rig, &calls[i], "/after");
	RIG_UNTIL(&rig, (pool_stats(rig.pool, &stats), stats.active == 0 && stats.waiting == 0));
	assert_true(bad_server_record(server).most_open <= 2 * WIDTH); /* the server's threads close later than we do */
	rig_stop(&rig, server);
	server = bad_server_of(bad_server_echo);
	bad_server_free(&server);
}

static void cancel_at_every_step(void **state)
{
	static const struct bad_step slow[] = { { .verb = BAD_REQUEST },
						{ .verb = BAD_SEND, .text = OK },
						{ .verb = BAD_PAUSE, .count = 1 },
						{ .verb = BAD_SEND, .text = "Content-Length: 4\r\n\r\nab" },
						{ .verb = BAD_PAUSE, .count = 1 },
						{ .verb = BAD_SEND, .text = "cd" },
						{ .verb = BAD_AGAIN } };
	static const size_t sizes[] = { 2, 2000000 };
	(void)state;
	for (size_t s = 0; s < ARRAY_LENGTH(sizes); s++)
		for (int turns = 0; turns < 14; turns++) {
			struct bad_server *server = bad_server_of(slow);
			struct rig rig;
			struct rig_call call = { 0 }, after = { 0 };
			char *bytes = calloc(1, sizes[s]);
			struct slice body = { bytes, sizes[s] };
			struct pool_stats stats;
			rig_start(&rig, server);
			rig_post(&rig, &call, "/cancelled", &body);
			for (int i = 0; i < turns && call.transfer != NULL; i++)
				rig_turn(&rig);
			unsigned dones = call.dones;
			pool_cancel(&call.transfer);
			free(bytes); /* ours again: libcurl may not look at it any more */
			rig_get(&rig, &after, "/after");
			assert_int_equal(rig_finish(&after), POOL_DONE);
			assert_int_equal(call.dones, dones);
			pool_stats(rig.pool, &stats);
			assert_int_equal(stats.active, 0);
			rig_stop(&rig, server);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_never_sent_twice),
		cmocka_unit_test(a_connection_closed_while_idle_costs_nothing),
		cmocka_unit_test(a_race_with_an_idle_close_is_never_a_second_attempt),
		cmocka_unit_test(an_answer_cut_anywhere_is_never_done),
		cmocka_unit_test(whole_answers_are_done),
		cmocka_unit_test(what_is_not_http_is_garbage),
		cmocka_unit_test(a_head_has_a_ceiling),
		cmocka_unit_test(a_bad_chunk_is_truncation),
		cmocka_unit_test(a_reset_ends_no_answer_well),
		cmocka_unit_test(bytes_beyond_the_answer_meet_nobody),
		cmocka_unit_test(answers_never_cross),
		cmocka_unit_test(a_thousand_cuts_leave_the_pool_whole),
		cmocka_unit_test(cancel_at_every_step),
	};
	return cmocka_run_group_tests_name("pool against a bad peer", tests, NULL, NULL);
}

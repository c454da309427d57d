/* A tiny server on svc/http, for what is easier to prove from outside (other proxies in front, load, slow clients).
 *
 *     http-echo [-d MILLISECONDS] ADDRESS
 *
 * Prints the address it listens on. Every answer is JSON that names what was understood: the request's X-Id, its method,
 * target, count of fields, and its body's length and 64-bit FNV-1a. With -d each answer waits, and a client that leaves meanwhile
 * cancels it. "GET /stats" tells counters. */
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "svc/http.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct echo {
	struct loop *loop;
	struct http_server *server;
	int64_t delay;
	uint64_t gone;
};

struct answer {
	struct echo *echo;
	struct exchange *exchange;
	struct loop_timer timer;
	uint64_t length, hash;
};

static void end_answer(struct answer *a)
{
	loop_timer_free(&a->timer);
	mem_free(a);
}

static void say(struct answer *a)
{
	const struct http_head *head = http_head_of(a->exchange);
	struct buf text;
	buf_init(&text, 256 * 1024);
	struct http_stats stats;
	http_server_stats(a->echo->server, &stats);
	buf_append(&text, SLICE("{\"id\":"));
	buf_append_json(&text, http_field_of(head, SLICE("x-id")));
	buf_append(&text, SLICE(",\"method\":"));
	buf_append_json(&text, head->method_name);
	buf_append(&text, SLICE(",\"target\":"));
	buf_append_json(&text, head->target);
	buf_format(&text, ",\"fields\":%zu,\"length\":%llu,\"hash\":\"%016llx\"", head->fields_count,
		   (unsigned long long)a->length, (unsigned long long)a->hash);
	if (slice_equal(head->target, SLICE("/stats")))
		buf_format(&text, ",\"requests\":%llu,\"gone\":%llu,\"connections\":%u",
			   (unsigned long long)stats.requests, (unsigned long long)a->echo->gone, stats.connections);
	buf_append(&text, SLICE("}\n"));
	const struct http_field type = { SLICE("Content-Type"), SLICE("application/json") };
	http_answer(a->exchange, &(struct http_answer){ 200, &type, 1, (int64_t)text.len });
	http_write(a->exchange, buf_slice(&text)); /* one small piece: nothing to pause */
	http_end(a->exchange, true);
	buf_free(&text);
	end_answer(a);
}

static void on_time(void *arg)
{
	say(arg);
}

static void finish(struct answer *a)
{
	if (a->echo->delay > 0 && !slice_equal(http_head_of(a->exchange)->target, SLICE("/stats")))
		loop_timer_set(&a->timer, a->echo->delay);
	else
		say(a);
}

static void *on_head(struct exchange *exchange, void *arg)
{
	struct echo *echo = arg;
	struct answer *a = mem_new(sizeof(*a));
	a->echo = echo;
	a->exchange = exchange;
	a->hash = UINT64_C(0xcbf29ce484222325);
	loop_timer_init(&a->timer, echo->loop, on_time, a);
	if (http_head_of(exchange)->content_length != 0) {
		http_take_body(exchange, INT64_C(64) << 20);
		return a;
	}
	finish(a);
	return a;
}

static void on_body(struct exchange *exchange, void *owner, struct slice piece)
{
	(void)exchange;
	struct answer *a = owner;
	a->length += piece.len;
	for (size_t i = 0; i < piece.len; i++)
		a->hash = (a->hash ^ (unsigned char)piece.data[i]) * UINT64_C(0x100000001b3);
}

static void on_body_end(struct exchange *exchange, void *owner)
{
	(void)exchange;
	finish(owner);
}

static void on_writable(struct exchange *exchange, void *owner)
{
	(void)exchange;
	(void)owner;
}

static void on_broken(struct exchange *exchange, void *owner, enum http_fault fault)
{
	http_answer(exchange, &(struct http_answer){ .status = http_fault_status(fault) });
	http_end(exchange, true);
	end_answer(owner);
}

static void on_gone(struct exchange *exchange, void *owner, enum http_gone why)
{
	(void)exchange;
	(void)why;
	struct answer *a = owner;
	a->echo->gone++;
	end_answer(a);
}

static void on_malformed(void *arg, enum http_fault fault, struct slice target, struct buf *body,
			 struct slice *content_type)
{
	(void)arg;
	(void)target;
	buf_format(body, "{\"fault\":\"%s\"}\n", http_fault_code(fault));
	*content_type = SLICE("application/json");
}

static const struct http_handler handler = { on_head,   on_body, on_body_end, on_writable,
					     on_broken, on_gone, on_malformed };

static void on_signal(void *arg)
{
	loop_stop(arg);
}

static int serve(struct echo *echo, const char *address)
{
	char error[256];
	struct http_listener *listener = http_listen(slice_of(address), error, sizeof(error));
	if (listener == NULL) {
		fprintf(stderr, "http-echo: %s\n", error);
		return 1;
	}
	struct http_options options = { .head_timeout = 10 * CLOCK_SECOND,
					.body_timeout = 10 * CLOCK_SECOND,
					.body_rate = 100,
					.idle_timeout = CLOCK_MINUTE,
					.write_stall = 10 * CLOCK_SECOND,
					.connections = 20000,
					.server_name = "http-echo" };
	struct log *log = log_new(STDERR_FILENO, LOG_INFO);
	echo->loop = loop_new();
	echo->server = http_server_new(echo->loop, &options, &handler, echo, log);
	http_server_accept(echo->server, listener);
	loop_signal(echo->loop, SIGTERM, on_signal, echo->loop);
	printf("%s\n", http_listener_text(listener));
	fflush(stdout);
	loop_run(echo->loop);
	http_server_free(&echo->server);
	loop_free(&echo->loop);
	http_listener_free(&listener);
	log_free(&log);
	return 0;
}

int main(int count, char **arguments)
{
	struct echo echo = { .delay = 0 };
	int option;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	while ((option = getopt(count, arguments, "d:")) != -1) {
		if (option != 'd')
			return 2;
		echo.delay = strtol(optarg, NULL, 10) * CLOCK_MILLISECOND;
	}
	if (optind + 1 != count) {
		fprintf(stderr, "usage: http-echo [-d MILLISECONDS] ADDRESS\n");
		return 2;
	}
	return serve(&echo, arguments[optind]);
}

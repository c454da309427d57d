/* What one request costs in the HTTP server alone: CPU of this process per request of 2 KiB that is answered with 1 KiB, over
 * connections that are kept, by a client in a process of its own that sends the next request when an answer is whole.
 *
 *   bench_http [requests]     the default is 20,000, at one connection and at 64 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <netinet/in.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "svc/http.h"

enum { UP = 2048, DOWN = 1024, LANES = 64 };
#define HEAD_OF_REQUEST                                                                                                \
	"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n"           \
	"Authorization: Bearer 0123456789abcdef0123456789abcdef\r\nContent-Type: application/json\r\n"                 \
	"Content-Length: 2048\r\n\r\n"

/* ---- the client: one request out on each connection ---- */

struct caller {
	int socket;
	size_t have;
	char answer[DOWN + 4096];
};

static void ask(const struct caller *caller)
{
	static char request[sizeof(HEAD_OF_REQUEST) - 1 + UP];
	if (request[0] == '\0') {
		memcpy(request, HEAD_OF_REQUEST, sizeof(HEAD_OF_REQUEST) - 1);
		memset(request + sizeof(HEAD_OF_REQUEST) - 1, 'r', UP);
	}
	CHECK(send(caller->socket, request, sizeof(request), MSG_NOSIGNAL) == (ssize_t)sizeof(request));
}

static void hear(struct caller *caller)
{
	ssize_t n = recv(caller->socket, caller->answer + caller->have, sizeof(caller->answer) - caller->have, 0);
	CHECK(n > 0);
	caller->have += (size_t)n;
	const char *end = memmem(caller->answer, caller->have, "\r\n\r\n", 4);
	if (end == NULL || caller->have < (size_t)(end + 4 - caller->answer) + DOWN)
		return;
	CHECK(memcmp(caller->answer, "HTTP/1.1 200 ", 13) == 0);
	caller->have = 0;
	ask(caller);
}

static _Noreturn void call(int port, unsigned lanes)
{
	static struct caller callers[LANES];
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event events[LANES], one = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < lanes; i++) {
		callers[i].socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CHECK(connect(callers[i].socket, (struct sockaddr *)&address, sizeof(address)) == 0);
		one.data.ptr = &callers[i];
		epoll_ctl(epoll, EPOLL_CTL_ADD, callers[i].socket, &one);
		ask(&callers[i]);
	}
	for (;;) {
		int n = epoll_wait(epoll, events, LANES, -1);
		for (int i = 0; i < n; i++)
			hear(events[i].data.ptr);
	}
}

/* ---- the server's owner: takes the body, answers, counts ---- */

struct bench {
	struct loop *loop;
	unsigned answered, warm, total; /* the first `warm` ones are not measured */
	int64_t cpu;                    /* when they were over, in microseconds */
};

static int64_t cpu_used(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * CLOCK_SECOND + usage.ru_utime.tv_usec +
	       usage.ru_stime.tv_usec;
}

static void *on_head(struct exchange *exchange, void *arg)
{
	CHECK(http_head_of(exchange)->content_length == UP);
	http_take_body(exchange, UP);
	return arg;
}

static void on_body(struct exchange *exchange, void *owner, struct slice piece)
{
	(void)exchange;
	(void)owner;
	(void)piece;
}

static void on_body_end(struct exchange *exchange, void *owner)
{
	static const struct http_field type = { { "Content-Type", 12 }, { "application/json", 16 } };
	static const char body[DOWN];
	struct bench *bench = owner;
	http_answer(exchange, &(struct http_answer){ 200, &type, 1, DOWN });
	http_write(exchange, slice_make(body, sizeof(body))); /* one small piece: nothing to pause */
	http_end(exchange, true);
	if (++bench->answered == bench->warm)
		bench->cpu = cpu_used();
	if (bench->answered == bench->warm + bench->total)
		loop_stop(bench->loop);
}

static void on_writable(struct exchange *exchange, void *owner)
{
	(void)exchange;
	(void)owner;
}

static void on_broken(struct exchange *exchange, void *owner, enum http_fault fault)
{
	(void)exchange;
	(void)owner;
	(void)fault;
	CHECK(!"the client sends what is right");
}

/* Only when the server is freed, below. */
static void on_gone(struct exchange *exchange, void *owner, enum http_gone why)
{
	(void)exchange;
	(void)owner;
	CHECK(why == HTTP_GONE_CLOSED);
}

static void on_malformed(void *arg, enum http_fault fault, struct slice target, struct buf *body,
			 struct slice *content_type)
{
	(void)arg;
	(void)fault;
	(void)target;
	(void)body;
	(void)content_type;
	CHECK(!"the client sends what is right");
}

static double by_server(struct http_listener *listener, unsigned lanes, unsigned total)
{
	static const struct http_handler handler = { on_head,   on_body, on_body_end, on_writable,
						     on_broken, on_gone, on_malformed };
	static const struct http_options options = { .head_timeout = CLOCK_MINUTE,
						     .body_timeout = CLOCK_MINUTE,
						     .idle_timeout = CLOCK_MINUTE,
						     .write_stall = CLOCK_MINUTE,
						     .connections = 2 * LANES,
						     .server_name = "sluice" };
	pid_t client = fork();
	CHECK(client >= 0);
	if (client == 0)
		call(http_listener_port(listener), lanes);
	struct log *log = log_new(STDERR_FILENO, LOG_ERROR);
	struct bench bench = { .loop = loop_new(), .warm = total / 10, .total = total };
	struct http_server *server = http_server_new(bench.loop, &options, &handler, &bench, log);
	http_server_accept(server, listener);
	loop_run(bench.loop);
	double used = (double)(cpu_used() - bench.cpu) / total;
	kill(client, SIGKILL);
	waitpid(client, NULL, 0);
	http_server_free(&server);
	loop_free(&bench.loop);
	log_free(&log);
	return used;
}

int main(int count, char **arguments)
{
	static const unsigned lanes[] = { 1, LANES };
	unsigned total = count > 1 ? (unsigned)strtoul(arguments[1], NULL, 10) : 20000;
	char error[256];
	if (total < 10) {
		fprintf(stderr, "usage: bench_http [requests, at least 10]\n");
		return 2;
	}
	struct http_listener *listener = http_listen(SLICE("127.0.0.1:0"), error, sizeof(error));
	if (listener == NULL) {
		fprintf(stderr, "bench_http: %s\n", error);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(lanes); i++)
		printf("%2u at once, us of CPU a request: server %5.1f\n", lanes[i],
		       by_server(listener, lanes[i], total));
	http_listener_free(&listener);
	return 0;
}

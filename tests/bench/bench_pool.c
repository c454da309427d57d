/* What one request costs in the pool: CPU of this process alone, per request, one at a time and 64 at once, against a
 * trivial server in a process of its own. The same transfers by the plainest possible libcurl multi
 * (curl_multi_perform and curl_multi_poll) stand beside it, since only ratios inside one run count.
 *
 *   bench_pool [requests [pool|plain]]     the default is 20,000 of both
 *
 * Run it under strace -c -f, perf record or callgrind to see where it goes. */
#include <arpa/inet.h>
#include <curl/curl.h>
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

#include "lib/base.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pool.h"

enum { UP = 2048, DOWN = 1024, WIDTH = 64 };
#define HEAD_OF_ANSWER "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n"

/* ---- the server: counts UP bytes of body behind each head, and answers ---- */

struct guest {
	int socket;
	char head[4096];
	size_t have, want; /* want: of the whole request, once its head is in */
};

static bool serve_some(struct guest *guest, const char *answer, size_t answer_len)
{
	char block[16384];
	ssize_t n = recv(guest->socket, block, sizeof(block), 0);
	if (n <= 0)
		return false;
	if (guest->want == 0) {
		size_t part =
			(size_t)n < sizeof(guest->head) - guest->have ? (size_t)n : sizeof(guest->head) - guest->have;
		memcpy(guest->head + guest->have, block, part);
		char *end = memmem(guest->head, guest->have + part, "\r\n\r\n", 4);
		if (end != NULL)
			guest->want = (size_t)(end + 4 - guest->head) + UP;
	}
	guest->have += (size_t)n;
	if (guest->want == 0 || guest->have < guest->want)
		return true;
	guest->have = guest->want = 0;
	return send(guest->socket, answer, answer_len, MSG_NOSIGNAL) == (ssize_t)answer_len;
}

static _Noreturn void serve(int listener)
{
	char answer[sizeof(HEAD_OF_ANSWER) - 1 + DOWN];
	struct epoll_event events[WIDTH], one = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memcpy(answer, HEAD_OF_ANSWER, sizeof(HEAD_OF_ANSWER) - 1);
	memset(answer + sizeof(HEAD_OF_ANSWER) - 1, 'x', DOWN);
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &one);
	for (;;) {
		int n = epoll_wait(epoll, events, WIDTH, -1);
		for (int i = 0; i < n; i++) {
			struct guest *guest = events[i].data.ptr;
			if (guest == NULL) {
				guest = mem_new(sizeof(*guest));
				guest->socket = accept(listener, NULL, NULL);
				one.data.ptr = guest;
				epoll_ctl(epoll, EPOLL_CTL_ADD, guest->socket, &one);
			} else if (!serve_some(guest, answer, sizeof(answer))) {
				close(guest->socket);
				mem_free(guest);
			}
		}
	}
}

static pid_t start_server(char *origin, size_t size)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(listener, 256) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0);
	snprintf(origin, size, "http://127.0.0.1:%d", ntohs(address.sin_port));
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0)
		serve(listener);
	close(listener);
	return child;
}

static int64_t cpu_used(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * CLOCK_SECOND + usage.ru_utime.tv_usec +
	       usage.ru_stime.tv_usec;
}

static char request_body[UP];

/* ---- by the pool ---- */

struct bench {
	struct loop *loop;
	struct pool *pool;
	unsigned started, done, total;
};

static void on_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	(void)t;
	(void)arg;
	CHECK(head->status == 200);
}

static bool on_body(struct transfer *t, void *arg, struct slice bytes)
{
	(void)t;
	(void)arg;
	(void)bytes;
	return true;
}

static void begin(struct bench *bench);

static void on_done(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct bench *bench = arg;
	(void)t;
	CHECK(result->outcome == POOL_DONE && result->received == DOWN);
	if (++bench->done == bench->total)
		loop_stop(bench->loop);
	else if (bench->started < bench->total)
		begin(bench);
}

static void begin(struct bench *bench)
{
	static const struct pool_receiver receiver = { on_head, on_body, on_done };
	static const struct pool_field fields[] = {
		{ { "Content-Type", 12 }, { "application/json", 16 } },
		{ { "Accept-Encoding", 15 }, { "identity", 8 } },
		{ { "x-goog-api-key", 14 }, { "0123456789abcdef0123456789abcdef", 32 } },
	};
	static const struct slice body = { request_body, UP };
	struct pool_request request = { .method = SLICE("POST"),
					.target = SLICE("/v1beta/models/gemini-2.5-pro:generateContent"),
					.fields = fields,
					.fields_count = ARRAY_LENGTH(fields),
					.body = &body,
					.body_count = 1,
					.wait_timeout = CLOCK_MINUTE,
					.first_byte_timeout = CLOCK_MINUTE,
					.idle_timeout = CLOCK_MINUTE,
					.total_timeout = CLOCK_MINUTE };
	bench->started++;
	pool_start(bench->pool, &request, &receiver, bench);
}

static double by_pool(const char *origin, unsigned lanes, unsigned total)
{
	struct pool_options options = { .origin = origin,
					.connections = lanes,
					.streams_per_connection = 100,
					.http = POOL_HTTP_1,
					.connect_timeout = CLOCK_MINUTE,
					.idle_timeout = CLOCK_MINUTE,
					.max_age = CLOCK_HOUR,
					.verify = true,
					.allow_private = true };
	struct bench bench = { .loop = loop_new(), .total = total };
	bench.pool = pool_new(bench.loop, &options, NULL);
	int64_t before = cpu_used();
	for (unsigned i = 0; i < lanes; i++)
		begin(&bench);
	loop_run(bench.loop);
	int64_t used = cpu_used() - before;
	pool_free(&bench.pool);
	loop_free(&bench.loop);
	return (double)used / total;
}

/* ---- by libcurl as its examples use it ---- */

static size_t swallow(char *data, size_t size, size_t count, void *arg)
{
	(void)data;
	(void)arg;
	return size * count;
}

static double by_plain_multi(const char *origin, unsigned lanes, unsigned total)
{
	CURLM *multi = curl_multi_init();
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	char url[256];
	unsigned started = 0, done = 0;
	CURL *easies[WIDTH];
	snprintf(url, sizeof(url), "%s/v1beta/models/gemini-2.5-pro:generateContent", origin);
	int64_t before = cpu_used();
	for (; started < lanes; started++) {
		CURL *easy = easies[started] = curl_easy_init();
		curl_easy_setopt(easy, CURLOPT_URL, url);
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)UP);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request_body);
		curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, swallow);
		curl_multi_add_handle(multi, easy);
	}
	while (done < total) {
		int running, left;
		CHECK(curl_multi_perform(multi, &running) == CURLM_OK);
		for (CURLMsg *message; (message = curl_multi_info_read(multi, &left)) != NULL; done++) {
			CHECK(message->data.result == CURLE_OK);
			curl_multi_remove_handle(multi, message->easy_handle);
			if (started < total && ++started)
				curl_multi_add_handle(multi, message->easy_handle);
		}
		if (done < total)
			CHECK(curl_multi_poll(multi, NULL, 0, 1000, NULL) == CURLM_OK);
	}
	int64_t used = cpu_used() - before;
	for (unsigned i = 0; i < lanes; i++)
		curl_easy_cleanup(easies[i]);
	curl_multi_cleanup(multi);
	curl_slist_free_all(headers);
	return (double)used / total;
}

int main(int count, char **arguments)
{
	unsigned total = count > 1 ? (unsigned)strtoul(arguments[1], NULL, 10) : 20000;
	const char *only = count > 2 ? arguments[2] : "both";
	static const unsigned lanes[] = { 1, WIDTH };
	char origin[64];
	if (total < WIDTH) {
		fprintf(stderr, "usage: bench_pool [requests, at least %d] [pool|plain]\n", WIDTH);
		return 2;
	}
	memset(request_body, 'r', UP);
	pid_t server = start_server(origin, sizeof(origin));
	for (size_t i = 0; i < ARRAY_LENGTH(lanes); i++) {
		printf("%2u at once, us of CPU a request:", lanes[i]);
		if (strcmp(only, "plain") != 0)
			printf(" pool %5.1f", by_pool(origin, lanes[i], total));
		if (strcmp(only, "pool") != 0)
			printf(" plain multi %5.1f", by_plain_multi(origin, lanes[i], total));
		printf("\n");
	}
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}

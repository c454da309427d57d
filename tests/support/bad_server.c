#include "tests/support/bad_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "bad_server: %s, line %d: %s\n", #condition, __LINE__, strerror(errno));       \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

struct bad_server {
	const struct bad_step **scripts; /* owned, but not what they point to */
	size_t count;
	int listener, stop, gate; /* the last two are eventfds */
	char origin[64];
	int port;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t all_gone;
	struct bad_record record;
};

/* One connection; lives on its thread's stack. */
struct visit {
	struct bad_server *server;
	int socket;
	char in[8192], head[8192], target[4096];
	size_t in_len, head_len;
};

struct ticket {
	struct bad_server *server;
	int socket;
	unsigned number;
};

/* Waits for the socket (or another descriptor); false: the server is stopping. */
static bool wait_for(struct visit *v, int descriptor, short events)
{
	struct pollfd set[] = { { .fd = v->server->stop, .events = POLLIN }, { .fd = descriptor, .events = events } };
	for (;;) {
		int n = poll(set, 2, -1);
		if (n > 0)
			return (set[0].revents & POLLIN) == 0;
		MUST(n < 0 && errno == EINTR);
	}
}

static void peer_left(struct visit *v)
{
	pthread_mutex_lock(&v->server->lock);
	v->server->record.left++;
	pthread_mutex_unlock(&v->server->lock);
}

static ssize_t read_some(struct visit *v, char *out, size_t size)
{
	if (!wait_for(v, v->socket, POLLIN))
		return -1;
	ssize_t n = recv(v->socket, out, size, 0);
	if (n <= 0)
		peer_left(v);
	return n;
}

static bool read_head(struct visit *v)
{
	v->head_len = 0;
	for (;;) {
		char *end = memmem(v->in, v->in_len, "\r\n\r\n", 4);
		if (end != NULL) {
			v->head_len = (size_t)(end + 4 - v->in);
			break;
		}
		MUST(v->in_len < sizeof(v->in));
		ssize_t n = read_some(v, v->in + v->in_len, sizeof(v->in) - v->in_len);
		if (n <= 0)
			return false;
		v->in_len += (size_t)n;
	}
	memcpy(v->head, v->in, v->head_len);
	v->head[v->head_len] = '\0';
	v->in_len -= v->head_len;
	memmove(v->in, v->in + v->head_len, v->in_len);
	MUST(sscanf(v->head, "%*s %4095s", v->target) == 1);
	pthread_mutex_lock(&v->server->lock);
	v->server->record.requests++;
	memcpy(v->server->record.last_head, v->head, v->head_len + 1);
	pthread_mutex_unlock(&v->server->lock);
	return true;
}

static void count_body(struct visit *v, size_t bytes)
{
	pthread_mutex_lock(&v->server->lock);
	v->server->record.body_bytes += bytes;
	pthread_mutex_unlock(&v->server->lock);
}

static bool read_body(struct visit *v)
{
	const char *field = strcasestr(v->head, "\r\ncontent-length:");
	size_t left = field == NULL ? 0 : strtoul(field + 17, NULL, 10);
	size_t have = left < v->in_len ? left : v->in_len;
	count_body(v, have);
	left -= have;
	v->in_len -= have;
	memmove(v->in, v->in + have, v->in_len);
	while (left > 0) {
		char block[65536];
		ssize_t n = read_some(v, block, left < sizeof(block) ? left : sizeof(block));
		if (n <= 0)
			return false;
		count_body(v, (size_t)n);
		left -= (size_t)n;
	}
	return true;
}

static bool send_all(struct visit *v, const char *data, size_t len)
{
	while (len > 0) {
		if (!wait_for(v, v->socket, POLLOUT))
			return false;
		ssize_t n = send(v->socket, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n < 0) {
			peer_left(v);
			return false;
		}
		pthread_mutex_lock(&v->server->lock);
		v->server->record.sent += (uint64_t)n;
		pthread_mutex_unlock(&v->server->lock);
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static bool fill(struct visit *v, size_t count)
{
	char block[23 * 1024];
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)('a' + i % 23);
	for (size_t part; count > 0; count -= part) {
		part = count < sizeof(block) ? count : sizeof(block);
		if (!send_all(v, block, part))
			return false;
	}
	return true;
}

static bool echo(struct visit *v, bool chunked)
{
	char answer[8192];
	size_t len = strlen(v->target), used;
	if (!chunked) {
		bool head = strncmp(v->head, "HEAD ", 5) == 0;
		int n = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", len,
				 head ? "" : v->target);
		return send_all(v, answer, (size_t)n);
	}
	used = (size_t)sprintf(answer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (size_t i = 0; i < len && used < sizeof(answer) - 32; i++)
		used += (size_t)sprintf(answer + used, "1\r\n%c\r\n", v->target[i]);
	used += (size_t)sprintf(answer + used, "0\r\n\r\n");
	return send_all(v, answer, used);
}

static bool stall(struct visit *v)
{
	char block[4096];
	while (read_some(v, block, sizeof(block)) > 0)
		continue;
	return false;
}

static bool gate(struct visit *v)
{
	uint64_t one;
	while (wait_for(v, v->server->gate, POLLIN))
		if (read(v->server->gate, &one, sizeof(one)) == sizeof(one))
			return true;
	return false;
}

static bool pause_for(struct visit *v, size_t milliseconds)
{
	struct pollfd set[] = { { .fd = v->server->stop, .events = POLLIN }, { .fd = v->socket, .events = POLLRDHUP } };
	return poll(set, 2, (int)milliseconds) == 0;
}

static bool step(struct visit *v, const struct bad_step *s)
{
	switch (s->verb) {
	case BAD_REQUEST:
		return read_head(v) && read_body(v);
	case BAD_HEAD:
		return read_head(v);
	case BAD_SEND:
		return send_all(v, s->text, s->count != 0 ? s->count : strlen(s->text));
	case BAD_FILL:
		return fill(v, s->count);
	case BAD_ECHO:
		return echo(v, false);
	case BAD_CHUNK_ECHO:
		return echo(v, true);
	case BAD_STALL:
		return stall(v);
	case BAD_GATE:
		return gate(v);
	case BAD_PAUSE:
		return pause_for(v, s->count);
	case BAD_END:
	case BAD_RESET:
	case BAD_AGAIN:
		break;
	}
	return false;
}

static void play(struct visit *v, const struct bad_step *script)
{
	for (size_t i = 0;; i = script[i].verb == BAD_AGAIN ? 0 : i + 1) {
		if (script[i].verb == BAD_AGAIN)
			continue;
		if (script[i].verb == BAD_RESET) {
			struct linger now = { .l_onoff = 1, .l_linger = 0 };
			setsockopt(v->socket, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
			return;
		}
		if (script[i].verb == BAD_END || !step(v, &script[i]))
			return;
	}
}

static void *visit_thread(void *arg)
{
	struct ticket *ticket = arg;
	struct bad_server *server = ticket->server;
	struct visit *v = calloc(1, sizeof(*v));
	MUST(v != NULL);
	v->server = server;
	v->socket = ticket->socket;
	size_t n = ticket->number < server->count ? ticket->number : server->count - 1;
	free(ticket);
	play(v, server->scripts[n]);
	close(v->socket);
	free(v);
	pthread_mutex_lock(&server->lock);
	if (--server->record.open == 0)
		pthread_cond_signal(&server->all_gone);
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

static void *accept_thread(void *arg)
{
	struct bad_server *server = arg;
	struct visit door = { .server = server };
	while (wait_for(&door, server->listener, POLLIN)) {
		int socket = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
		if (socket < 0)
			continue;
		struct ticket *ticket = malloc(sizeof(*ticket));
		MUST(ticket != NULL);
		pthread_mutex_lock(&server->lock);
		struct bad_record *r = &server->record;
		*ticket = (struct ticket){ server, socket, r->connections++ };
		r->open++;
		r->most_open = r->open > r->most_open ? r->open : r->most_open;
		pthread_mutex_unlock(&server->lock);
		pthread_t thread;
		MUST(pthread_create(&thread, NULL, visit_thread, ticket) == 0);
		pthread_detach(thread);
	}
	return NULL;
}

const struct bad_step bad_server_echo[] = { { .verb = BAD_REQUEST }, { .verb = BAD_ECHO }, { .verb = BAD_AGAIN } };
const struct bad_step bad_server_far_away[] = {
	{ .verb = BAD_REQUEST }, { .verb = BAD_PAUSE, .count = 20 }, { .verb = BAD_ECHO }, { .verb = BAD_AGAIN }
};
const struct bad_step bad_server_echo_at_gate[] = {
	{ .verb = BAD_REQUEST }, { .verb = BAD_GATE }, { .verb = BAD_ECHO }, { .verb = BAD_AGAIN }
};

static struct bad_server *start(const char *host, int port, const struct bad_step *const *scripts, size_t count)
{
	struct bad_server *server = calloc(1, sizeof(*server));
	MUST(server != NULL && count > 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t size = sizeof(address);
	MUST(inet_pton(AF_INET, host, &address.sin_addr) == 1);
	server->scripts = calloc(count, sizeof(scripts[0]));
	MUST(server->scripts != NULL);
	memcpy(server->scripts, scripts, count * sizeof(scripts[0]));
	server->count = count;
	server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	server->stop = eventfd(0, EFD_CLOEXEC);
	server->gate = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	MUST(server->listener >= 0 && server->stop >= 0 && server->gate >= 0);
	MUST(bind(server->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	MUST(listen(server->listener, 1024) == 0);
	MUST(getsockname(server->listener, (struct sockaddr *)&address, &size) == 0);
	server->port = ntohs(address.sin_port);
	snprintf(server->origin, sizeof(server->origin), "http://%s:%d", host, server->port);
	MUST(pthread_mutex_init(&server->lock, NULL) == 0 && pthread_cond_init(&server->all_gone, NULL) == 0);
	MUST(pthread_create(&server->thread, NULL, accept_thread, server) == 0);
	return server;
}

struct bad_server *bad_server_new(const struct bad_step *const *scripts, size_t count)
{
	return start("127.0.0.1", 0, scripts, count);
}

struct bad_server *bad_server_of(const struct bad_step *script)
{
	return bad_server_new(&script, 1);
}

struct bad_server *bad_server_at(const char *host, int port, const struct bad_step *script)
{
	return start(host, port, &script, 1);
}

void bad_server_free(struct bad_server **held)
{
	struct bad_server *server = *held;
	*held = NULL;
	if (server == NULL)
		return;
	uint64_t one = 1;
	MUST(write(server->stop, &one, sizeof(one)) == sizeof(one));
	MUST(pthread_join(server->thread, NULL) == 0);
	pthread_mutex_lock(&server->lock);
	while (server->record.open > 0)
		pthread_cond_wait(&server->all_gone, &server->lock);
	pthread_mutex_unlock(&server->lock);
	close(server->listener);
	close(server->stop);
	close(server->gate);
	pthread_mutex_destroy(&server->lock);
	pthread_cond_destroy(&server->all_gone);
	free(server->scripts);
	free(server);
}

const char *bad_server_origin(const struct bad_server *server)
{
	return server->origin;
}

int bad_server_port(const struct bad_server *server)
{
	return server->port;
}

void bad_server_open_gate(struct bad_server *server, unsigned times)
{
	uint64_t count = times;
	MUST(write(server->gate, &count, sizeof(count)) == sizeof(count));
}

struct bad_record bad_server_record(struct bad_server *server)
{
	pthread_mutex_lock(&server->lock);
	struct bad_record record = server->record;
	pthread_mutex_unlock(&server->lock);
	return record;
}

#include "lib/redis_link.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/redis_reader.h"
#include "lib/redis_resolve.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define LINK_MAGIC 0x7265646cu
#define READ_SIZE  (16 * 1024)
#define READ_TURNS 16 /* reads of one event: a torrent of replies must not starve the rest of the loop */

/* Owned by one struct redis. Closed (fd -1) it may still be on the stack below a callback that freed it; its memory goes at the
 * end of the turn. */
struct redis_link {
	unsigned magic;
	struct loop *loop;
	const struct redis_link_events *events;
	void *arg;
	int fd;
	bool connecting;
	uint64_t bytes; /* received */
	struct event *readable, *writable;
	struct redis_reader *reader;
	struct loop_deferred death;
};

static void link_close(struct redis_link *l)
{
	if (l->fd < 0)
		return;
	event_free(l->readable);
	event_free(l->writable);
	close(l->fd);
	l->fd = -1;
}

static void link_fail(struct redis_link *l, const char *reason)
{
	link_close(l);
	l->events->failed(l->arg, reason);
}

static void link_die(void *arg)
{
	struct redis_link *l = arg;
	redis_reader_free(&l->reader);
	l->magic = 0;
	mem_free(l);
}

void redis_link_free(struct redis_link **link)
{
	struct redis_link *l = *link;
	*link = NULL;
	if (l == NULL)
		return;
	CHECK(l->magic == LINK_MAGIC);
	link_close(l);
	loop_defer(l->loop, &l->death);
}

static const char *say_errno(int error)
{
	/* strerror's text is static for every known number */
	return strerror(error);
}

/* False when the link ended meanwhile. */
static bool deliver(struct redis_link *l)
{
	struct redisReply *reply;
	for (;;) {
		switch (redis_reader_next(l->reader, &reply)) {
		case REDIS_READER_MORE:
			return true;
		case REDIS_READER_BROKEN:
			link_fail(l, redis_reader_reason(l->reader));
			return false;
		case REDIS_READER_REPLY:
			l->events->reply(l->arg, reply);
			redis_reader_reply_free(reply);
		}
		if (l->fd < 0)
			return false;
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct redis_link *l = arg;
	char bytes[READ_SIZE];
	(void)what;
	CHECK(l->magic == LINK_MAGIC);
	for (int turn = 0; turn < READ_TURNS; turn++) {
		ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			link_fail(l, got == 0 ? "Redis closed the connection" : say_errno(errno));
			return;
		}
		l->bytes += (uint64_t)got;
		redis_reader_feed(l->reader, slice_make(bytes, (size_t)got));
		if (!deliver(l) || (size_t)got < sizeof(bytes))
			return;
	}
}

void redis_link_read(struct redis_link *l)
{
	if (!l->connecting)
		on_readable(l->fd, EV_READ, l);
}

uint64_t redis_link_bytes(const struct redis_link *l)
{
	return l->bytes;
}

static void connected(struct redis_link *l)
{
	int error = 0;
	socklen_t length = sizeof(error);
	if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
		error = errno;
	if (error != 0) {
		link_fail(l, say_errno(error));
		return;
	}
	l->connecting = false;
	event_add(l->readable, NULL);
	l->events->opened(l->arg);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct redis_link *l = arg;
	(void)fd;
	(void)what;
	CHECK(l->magic == LINK_MAGIC);
	event_del(l->writable);
	if (l->connecting)
		connected(l);
	else
		l->events->writable(l->arg);
}

static int open_socket(const struct redis_address *address)
{
	const int on = 1;
	int family = address->storage.ss_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (family != AF_UNIX) { /* both only help: without them all still works */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	if (connect(fd, (const struct sockaddr *)&address->storage, address->length) == 0 || errno == EINPROGRESS)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

struct redis_link *redis_link_open(struct loop *loop, const struct redis_address *address,
				   const struct redis_link_events *events, void *arg, const char **reason)
{
	int fd = open_socket(address);
	if (fd < 0) {
		*reason = say_errno(errno);
		return NULL;
	}
	struct redis_link *l = mem_new(sizeof(*l));
	l->magic = LINK_MAGIC;
	l->loop = loop;
	l->events = events;
	l->arg = arg;
	l->fd = fd;
	l->connecting = true;
	l->reader = redis_reader_new();
	l->readable = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, on_readable, l);
	l->writable = event_new(loop_base(loop), fd, EV_WRITE | EV_PERSIST, on_writable, l);
	CHECK(l->readable != NULL && l->writable != NULL); /* a failed small allocation */
	loop_deferred_init(&l->death, link_die, l);
	event_add(l->writable, NULL);
	return l;
}

ssize_t redis_link_write(struct redis_link *l, const struct iovec *parts, size_t count, const char **reason)
{
	size_t total = 0;
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count };
	CHECK(l->magic == LINK_MAGIC && l->fd >= 0 && !l->connecting);
	for (size_t i = 0; i < count; i++)
		total += parts[i].iov_len;
	ssize_t taken = sendmsg(l->fd, &message, MSG_NOSIGNAL);
	if (taken < 0 && errno != EAGAIN && errno != EINTR) {
		*reason = say_errno(errno);
		return -1;
	}
	if (taken < 0)
		taken = 0;
	if ((size_t)taken < total)
		event_add(l->writable, NULL);
	return taken;
}

/* A link as long as a wide-area one, for benches: a TCP relay that lets everything take half a round trip, either way.
 *
 *   client ◄──► here ─[ SYN, SYN-ACK, bytes, FIN, RST: each on its way for half a round trip ]─ there ◄──► server
 *
 *     latency-relay --round-trip MILLISECONDS --connect 127.0.0.1:PORT [--listen 127.0.0.1:PORT]
 *
 * Prints "listening PORT" and runs until SIGTERM. What it models: a delay of each way that is the same for every piece, whatever else is on its way, so that
 * throughput is not bounded (up to 4 MiB in flight each way of a connection; then the sender waits, as by a full window); and the round trip that TCP's hand-shake takes.
 * The kernel accepts a client's connection here at once, so that round trip cannot be put in front of its connect(); it is put in front of its first
 * bytes instead: nothing is read from a client before the SYN has travelled there, the server has accepted, and the SYN-ACK has travelled back. Who speaks
 * first, as clients of TLS and HTTP do, sees the same moments as over a real link; who measures connect() alone sees nothing.
 *
 * What it does not model: loss, reordering, jitter, a bounded bandwidth, slow start (messages of more than some 14 KB would take more round trips on a new
 * connection than here: a mercy to who opens one for each call), and the delay of FIN and RST for who does not look for them.
 *
 * One thread. As all delays are equal, what travels is one queue in order of its time, and costs nothing to keep. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/base.h"
#include "lib/list.h"

#define READ_SIZE   (64 * 1024)
#define HELD_MOST   (4 * 1024 * 1024) /* bytes of one way before its sender has to wait */
#define EVENTS      256
#define ACCEPT_MOST 64 /* connections taken at a time, so that what is due does not wait for all of a crowd */

enum kind { SYN, SYN_ACK, BYTES, FIN, RST };

struct message {
	struct list node; /* in `travelling`, then in the way's `arrived` */
	struct way *way;
	enum kind kind;
	int64_t due;
	size_t len, sent;
	char bytes[];
};

/* One of the two sockets of a link; -1 before it is there and when it has gone. */
struct end {
	struct link *link;
	int fd;
};

struct way {
	struct link *link;
	struct end *from, *to;
	struct list arrived; /* what waits for room in the socket */
	size_t held;         /* bytes, travelling and arrived */
	bool is_open;        /* it may be read */
	bool is_over;        /* nothing more is read: its FIN is on its way */
	bool is_broken;      /* its RST is */
	bool has_ended;      /* its FIN has been delivered */
};

/* Dies at the end of a turn, when it is dead and nothing of it travels. */
struct link {
	struct relay *relay;
	struct list node; /* in `alive` or in `dead` */
	struct end client, server;
	struct way up, down;
	unsigned travelling;
	bool is_dead, is_connecting;
};

struct relay {
	int epoll, listener;
	struct sockaddr_in target;
	int64_t half, now; /* microseconds */
	struct list travelling, alive, dead;
	char scratch[READ_SIZE];
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static int64_t monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void send_off(struct way *w, enum kind kind, const char *bytes, size_t len)
{
	struct relay *r = w->link->relay;
	struct message *m = malloc(sizeof(*m) + len);
	CHECK(m != NULL);
	*m = (struct message){ .way = w, .kind = kind, .due = r->now + r->half, .len = len };
	if (len > 0)
		memcpy(m->bytes, bytes, len);
	w->held += len;
	w->link->travelling++;
	list_init(&m->node);
	list_push_back(&r->travelling, &m->node);
}

/* ---- links ----------------------------------------------------------------------------------------------------------------- */

static void drop(struct message *m)
{
	m->way->held -= m->len - m->sent;
	list_remove(&m->node);
	free(m);
}

static void drop_arrived(struct way *w)
{
	LIST_EACH (&w->arrived, node, following)
		drop(CONTAINER_OF(node, struct message, node));
}

static void close_end(struct end *e, bool hard)
{
	const struct linger now = { .l_onoff = 1 };
	if (e->fd < 0)
		return;
	if (hard)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(e->fd);
	e->fd = -1;
}

static void kill_link(struct link *l, bool hard)
{
	if (l->is_dead)
		return;
	l->is_dead = true;
	close_end(&l->client, hard);
	close_end(&l->server, hard);
	drop_arrived(&l->up);
	drop_arrived(&l->down);
	list_remove(&l->node);
	list_push_back(&l->relay->dead, &l->node);
}

static void bury(struct relay *r)
{
	LIST_EACH (&r->dead, node, following) {
		struct link *l = CONTAINER_OF(node, struct link, node);
		if (l->travelling > 0)
			continue;
		list_remove(&l->node);
		free(l);
	}
}

/* The end that `w` is read from has broken off: the other one hears of it when it has travelled. */
static void break_off(struct way *w)
{
	if (!w->is_broken)
		send_off(w, RST, NULL, 0);
	w->is_broken = w->is_over = true;
}

static void watch(struct end *e)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = e };
	CHECK(epoll_ctl(e->link->relay->epoll, EPOLL_CTL_ADD, e->fd, &event) == 0);
}

static void no_delay(int fd)
{
	const int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void accept_link(struct relay *r, int fd)
{
	struct link *l = calloc(1, sizeof(*l));
	CHECK(l != NULL);
	no_delay(fd);
	l->relay = r;
	l->client = (struct end){ l, fd };
	l->server = (struct end){ l, -1 };
	l->up = (struct way){ .link = l, .from = &l->client, .to = &l->server };
	l->down = (struct way){ .link = l, .from = &l->server, .to = &l->client };
	list_init(&l->node);
	list_push_back(&r->alive, &l->node);
	list_init(&l->up.arrived);
	list_init(&l->down.arrived);
	send_off(&l->up, SYN, NULL, 0);
}

static void accept_some(struct relay *r)
{
	for (int i = 0; i < ACCEPT_MOST; i++) {
		int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		accept_link(r, fd);
	}
}

/* ---- bytes ----------------------------------------------------------------------------------------------------------------- */

static void pull(struct way *w)
{
	struct relay *r = w->link->relay;
	while (w->is_open && !w->is_over && w->held < HELD_MOST) {
		ssize_t got = recv(w->from->fd, r->scratch, READ_SIZE, 0);
		if (got > 0) {
			send_off(w, BYTES, r->scratch, (size_t)got);
		} else if (got == 0) {
			w->is_over = true;
			send_off(w, FIN, NULL, 0);
		} else if (errno != EINTR) {
			if (errno != EAGAIN)
				break_off(w);
			return;
		}
	}
}

/* False: there is no room for all of it. */
static bool deliver(struct message *m)
{
	struct link *l = m->way->link;
	int fd = m->way->to->fd;
	while (m->sent < m->len) {
		ssize_t sent = send(fd, m->bytes + m->sent, m->len - m->sent, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return false;
		if (sent < 0) { /* who takes no more has gone */
			break_off(m->way == &l->up ? &l->down : &l->up);
			return true;
		}
		m->sent += (size_t)sent;
		m->way->held -= (size_t)sent;
	}
	if (m->kind == FIN) {
		shutdown(fd, SHUT_WR);
		m->way->has_ended = true;
	}
	return true;
}

static void flush(struct way *w)
{
	struct link *l = w->link;
	LIST_EACH (&w->arrived, node, following) {
		struct message *m = CONTAINER_OF(node, struct message, node);
		if (m->kind == RST) {
			kill_link(l, true);
			return;
		}
		if (!deliver(m))
			break;
		drop(m);
	}
	if (l->up.has_ended && l->down.has_ended)
		kill_link(l, false);
	else
		pull(w); /* it may have been full */
}

/* ---- what has arrived ------------------------------------------------------------------------------------------------------ */

static void on_connected(struct link *l, int error)
{
	l->is_connecting = false;
	if (error != 0) {
		break_off(&l->down);
		return;
	}
	send_off(&l->down, SYN_ACK, NULL, 0);
	l->down.is_open = true;
	pull(&l->down);
}

static void on_syn(struct link *l)
{
	struct relay *r = l->relay;
	l->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(l->server.fd >= 0);
	no_delay(l->server.fd);
	int result = connect(l->server.fd, (struct sockaddr *)&r->target, sizeof(r->target));
	l->is_connecting = result != 0 && errno == EINPROGRESS;
	if (result == 0)
		on_connected(l, 0);
	else if (!l->is_connecting)
		on_connected(l, errno);
	watch(&l->server);
}

static void arrive(struct message *m)
{
	struct link *l = m->way->link;
	bool is_dead = l->is_dead;
	l->travelling--;
	list_remove(&m->node);
	if (!is_dead && (m->kind == BYTES || m->kind == FIN || m->kind == RST)) {
		list_push_back(&m->way->arrived, &m->node);
		flush(m->way);
		return;
	}
	if (!is_dead && m->kind == SYN) {
		on_syn(l);
	} else if (!is_dead) {
		l->up.is_open = true;
		watch(&l->client); /* of what it has sent already it is told at once */
	}
	free(m);
}

static void on_event(struct end *e, uint32_t events)
{
	struct link *l = e->link;
	if (l->is_dead)
		return;
	if (e == &l->server && l->is_connecting) {
		int error = 0;
		socklen_t len = sizeof(error);
		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		CHECK(getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0);
		on_connected(l, error);
		return;
	}
	pull(e == &l->client ? &l->up : &l->down);
	if (events & EPOLLOUT)
		flush(e == &l->client ? &l->down : &l->up);
}

/* ---- the loop -------------------------------------------------------------------------------------------------------------- */

static struct message *next_of(struct relay *r)
{
	return list_empty(&r->travelling) ? NULL : CONTAINER_OF(r->travelling.next, struct message, node);
}

static void turn(struct relay *r)
{
	struct epoll_event events[EVENTS];
	struct message *next = next_of(r);
	int64_t left = next == NULL ? 0 : next->due > r->now ? next->due - r->now : 0;
	struct timespec wait = { left / 1000000, left % 1000000 * 1000 };
	int count = epoll_pwait2(r->epoll, events, EVENTS, next == NULL ? NULL : &wait, NULL);
	r->now = monotonic();
	for (int i = 0; i < count; i++)
		if (events[i].data.ptr == NULL)
			accept_some(r);
		else
			on_event(events[i].data.ptr, events[i].events);
	while ((next = next_of(r)) != NULL && next->due <= r->now)
		arrive(next);
	bury(r);
	r->now = monotonic();
}

static bool read_address(const char *text, struct sockaddr_in *address)
{
	char host[64];
	unsigned port;
	*address = (struct sockaddr_in){ .sin_family = AF_INET };
	if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || port > 65535 ||
	    inet_pton(AF_INET, host, &address->sin_addr) != 1)
		return false;
	address->sin_port = htons((uint16_t)port);
	return true;
}

static int listen_at(struct relay *r, struct sockaddr_in *address)
{
	const int on = 1;
	socklen_t len = sizeof(*address);
	struct epoll_event event = { .events = EPOLLIN };
	r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(r->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(r->listener, (struct sockaddr *)address, len) != 0 || listen(r->listener, 4096) != 0 ||
	    getsockname(r->listener, (struct sockaddr *)address, &len) != 0) {
		perror("latency-relay: --listen");
		return 1;
	}
	CHECK(epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->listener, &event) == 0);
	printf("listening %d\n", ntohs(address->sin_port));
	return fflush(stdout);
}

static void end(struct relay *r)
{
	LIST_EACH (&r->alive, node, following)
		kill_link(CONTAINER_OF(node, struct link, node), true);
	for (struct message *m; (m = next_of(r)) != NULL;) {
		m->way->link->travelling--;
		drop(m);
	}
	bury(r);
	close(r->listener);
	close(r->epoll);
}

static bool read_options(struct relay *r, struct sockaddr_in *listen, int count, char **words)
{
	for (int i = 1; i + 1 < count; i += 2) {
		char *rest;
		if (strcmp(words[i], "--round-trip") == 0) {
			double milliseconds = strtod(words[i + 1], &rest);
			if (*rest != '\0' || !(milliseconds > 0 && milliseconds <= 60000))
				return false;
			r->half = (int64_t)(milliseconds * 500);
		} else if (strcmp(words[i], "--connect") == 0) {
			if (!read_address(words[i + 1], &r->target))
				return false;
		} else if (strcmp(words[i], "--listen") != 0 || !read_address(words[i + 1], listen)) {
			return false;
		}
	}
	return count % 2 == 1 && r->half > 0 && r->target.sin_port != 0;
}

/* Of all that is needed as much as there may be. */
static void prepare(void)
{
	struct rlimit limit;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_TIMERSLACK, 1000); /* ns */
	signal(SIGTERM, on_signal);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			perror("latency-relay: descriptors");
	}
}

int main(int count, char **words)
{
	static struct relay r;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (!read_options(&r, &address, count, words)) {
		fprintf(stderr, "usage: latency-relay --round-trip MILLISECONDS --connect 127.0.0.1:PORT [--listen "
				"127.0.0.1:PORT]\n"
				"  e.g. latency-relay --round-trip 40 --connect 127.0.0.1:8443\n");
		return 2;
	}
	prepare();
	r.epoll = epoll_create1(EPOLL_CLOEXEC);
	CHECK(r.epoll >= 0);
	list_init(&r.travelling);
	list_init(&r.alive);
	list_init(&r.dead);
	if (listen_at(&r, &address) != 0)
		return 1;
	for (r.now = monotonic(); !stopping;)
		turn(&r);
	end(&r);
	return 0;
}

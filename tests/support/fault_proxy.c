#include "tests/support/fault_proxy.h"
#include "tests/support/fault_frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 1024
#define MOST_HELD        (1 << 20) /* bytes held per direction before the sender has to wait */
#define READ_SIZE        (64 * 1024)

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "fault_proxy: %s: %s\n", what, strerror(errno));
	abort();
}

/* One piece of bytes on its way, not before `due`. */
struct piece {
	struct piece *next;
	int64_t due;
	size_t len, sent;
	char bytes[];
};

struct way {
	int from, to;
	struct piece *first, **last;
	size_t held;
	bool ended; /* no more bytes come */
};

struct connection {
	bool used, muted, doomed; /* doomed: closed when what it holds is delivered */
	struct way up, down;
	struct fault_frame frame;
	bool swallowing, started; /* the reply being read is swallowed; its first byte was seen */
	uint64_t replies;
};

struct proxy {
	int listener, commands, answers;
	const char *target;
	int64_t delay;
	size_t slice;
	bool stalled, refusing, mute, deaf, quit;
	uint64_t drop_every, error_every, skip, to_drop, to_error;
	int64_t cut_after; /* -1: not armed */
	char error[128];
	uint64_t accepted, replies, dropped, errors, cut, up, down;
	char line[256];
	size_t line_len;
	struct connection connections[MOST_CONNECTIONS];
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- addresses ------------------------------------------------------------------------------------------------------------- */

static socklen_t read_address(const char *text, struct sockaddr_storage *storage)
{
	memset(storage, 0, sizeof(*storage));
	if (strncmp(text, "unix:", 5) == 0) {
		struct sockaddr_un *address = (struct sockaddr_un *)storage;
		address->sun_family = AF_UNIX;
		if (strlen(text + 5) >= sizeof(address->sun_path))
			give_up(text);
		strcpy(address->sun_path, text + 5);
		return sizeof(*address);
	}
	struct sockaddr_in *address = (struct sockaddr_in *)storage;
	char host[64];
	int port;
	if (sscanf(text, "tcp:%63[0-9.]:%d", host, &port) != 2 || inet_pton(AF_INET, host, &address->sin_addr) != 1)
		give_up(text);
	address->sin_family = AF_INET;
	address->sin_port = htons((uint16_t)port);
	return sizeof(*address);
}

int fault_proxy_listen(const char *address, int *port)
{
	struct sockaddr_storage storage;
	socklen_t length = read_address(address, &storage);
	int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (storage.ss_family == AF_UNIX)
		unlink(address + 5);
	if (fd < 0 || bind(fd, (struct sockaddr *)&storage, length) != 0 || listen(fd, 1024) != 0 ||
	    getsockname(fd, (struct sockaddr *)&storage, &length) != 0)
		give_up(address);
	*port = storage.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&storage)->sin_port) : 0;
	return fd;
}

/* Blocking for the moment of the connect: both ends are on this machine. */
static int connect_to(const char *address)
{
	struct sockaddr_storage storage;
	socklen_t length = read_address(address, &storage);
	const int on = 1;
	int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&storage, length) != 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (storage.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* ---- connections ----------------------------------------------------------------------------------------------------------- */

static void way_begin(struct way *w, int from, int to)
{
	*w = (struct way){ .from = from, .to = to };
	w->last = &w->first;
}

static void way_end(struct way *w)
{
	for (struct piece *p = w->first, *next; p != NULL; p = next) {
		next = p->next;
		free(p);
	}
	way_begin(w, -1, -1);
}

static void close_connection(struct connection *c, bool reset)
{
	const struct linger at_once = { 1, 0 };
	if (reset) {
		setsockopt(c->up.from, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		setsockopt(c->up.to, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	}
	close(c->up.from);
	close(c->up.to);
	way_end(&c->up);
	way_end(&c->down);
	c->used = false;
}

static void accept_one(struct proxy *p)
{
	const int on = 1;
	int client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client < 0)
		return;
	struct connection *c = p->connections;
	while (c < p->connections + MOST_CONNECTIONS && c->used)
		c++;
	int server = p->refusing || c == p->connections + MOST_CONNECTIONS ? -1 : connect_to(p->target);
	if (server < 0) {
		close(client);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	memset(c, 0, sizeof(*c));
	c->used = true;
	way_begin(&c->up, client, server);
	way_begin(&c->down, server, client);
	p->accepted++;
}

static void hold(struct proxy *p, struct way *w, const char *bytes, size_t len)
{
	if (len == 0)
		return;
	struct piece *piece = malloc(sizeof(*piece) + len);
	if (piece == NULL)
		give_up("memory");
	*piece = (struct piece){ .due = now_ms() + p->delay, .len = len };
	memcpy(piece->bytes, bytes, len);
	*w->last = piece;
	w->last = &piece->next;
	w->held += len;
}

/* ---- faults of replies ----------------------------------------------------------------------------------------------------- */

static bool is_nth(uint64_t every, uint64_t *count)
{
	return every > 0 && ++*count % every == 0;
}

/* What PUBLISH brings to a subscriber. One that is cut in its first bytes is not known. */
static bool is_push(const char *bytes, size_t len)
{
	static const char head[] = "*3\r\n$7\r\nmessage\r\n";
	return len >= sizeof(head) - 1 && memcmp(bytes, head, sizeof(head) - 1) == 0;
}

/* At a reply's first byte: what becomes of it. */
static void judge(struct proxy *p, struct connection *c, const char *bytes, size_t len)
{
	c->started = true;
	p->replies++;
	if (p->deaf && is_push(bytes, len)) {
		p->dropped++;
		c->swallowing = true;
		return;
	}
	if (c->replies++ < p->skip)
		return;
	if (is_nth(p->drop_every, &p->to_drop)) {
		p->dropped++;
		c->swallowing = true;
		c->doomed = !p->mute;
		c->muted = p->mute;
	} else if (is_nth(p->error_every, &p->to_error)) {
		p->errors++;
		c->swallowing = true;
		hold(p, &c->down, p->error, strlen(p->error));
	}
}

static void take_replies(struct proxy *p, struct connection *c, const char *bytes, size_t len)
{
	while (len > 0 && !c->doomed && !c->muted) {
		bool whole;
		if (!c->started && !c->frame.lost)
			judge(p, c, bytes, len);
		if (c->doomed || c->muted)
			return; /* this reply and all behind it */
		size_t mine = fault_frame_feed(&c->frame, bytes, len, &whole);
		if (!c->swallowing)
			hold(p, &c->down, bytes, mine);
		if (whole)
			c->started = c->swallowing = false;
		bytes += mine;
		len -= mine;
	}
}

/* ---- moving bytes ---------------------------------------------------------------------------------------------------------- */

static void pull(struct proxy *p, struct connection *c, struct way *w)
{
	char bytes[READ_SIZE];
	ssize_t got = recv(w->from, bytes, sizeof(bytes), 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		w->ended = true;
		return;
	}
	if (w == &c->up) {
		p->up += (uint64_t)got;
		hold(p, w, bytes, (size_t)got);
		return;
	}
	p->down += (uint64_t)got;
	take_replies(p, c, bytes, (size_t)got);
}

/* False when the connection was cut. */
static bool push(struct proxy *p, struct connection *c, struct way *w)
{
	struct piece *piece = w->first;
	size_t len = piece->len - piece->sent;
	if (p->slice > 0 && len > p->slice)
		len = p->slice;
	if (w == &c->down && p->cut_after >= 0 && len > (uint64_t)p->cut_after)
		len = (size_t)p->cut_after;
	ssize_t sent = len == 0 ? 0 : send(w->to, piece->bytes + piece->sent, len, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		close_connection(c, false);
		return false;
	}
	sent = sent < 0 ? 0 : sent;
	if (w == &c->down && p->cut_after >= 0) {
		p->cut_after -= sent;
		if (p->cut_after == 0) {
			p->cut_after = -1;
			p->cut++;
			close_connection(c, false);
			return false;
		}
	}
	piece->sent += (size_t)sent;
	w->held -= (size_t)sent;
	if (piece->sent == piece->len) {
		w->first = piece->next;
		if (w->first == NULL)
			w->last = &w->first;
		free(piece);
	}
	return true;
}

static bool is_due(const struct proxy *p, const struct way *w, int64_t now)
{
	return !p->stalled && w->first != NULL && w->first->due <= now;
}

/* Closed when one end closed, or a reply was dropped, and all that was held has gone on. */
static void close_when_done(struct proxy *p, struct connection *c)
{
	if (p->stalled)
		return;
	if ((c->up.ended && c->up.first == NULL) || (c->down.ended && c->down.first == NULL) ||
	    (c->doomed && c->down.first == NULL))
		close_connection(c, false);
}

/* ---- commands -------------------------------------------------------------------------------------------------------------- */

static void reset_all(struct proxy *p)
{
	for (size_t i = 0; i < MOST_CONNECTIONS; i++) {
		if (!p->connections[i].used)
			continue;
		close_connection(&p->connections[i], true);
		p->cut++;
	}
}

static void say_counters(const struct proxy *p, char *answer, size_t size)
{
	size_t open = 0;
	for (size_t i = 0; i < MOST_CONNECTIONS; i++)
		open += p->connections[i].used;
	snprintf(answer, size,
		 "connections %llu open %zu replies %llu dropped %llu errors %llu cut %llu up %llu down %llu",
		 (unsigned long long)p->accepted, open, (unsigned long long)p->replies, (unsigned long long)p->dropped,
		 (unsigned long long)p->errors, (unsigned long long)p->cut, (unsigned long long)p->up,
		 (unsigned long long)p->down);
}

static bool is_on(const char *word)
{
	return strcmp(word, "on") == 0;
}

/* False: no such command. */
static bool obey(struct proxy *p, const char *verb, const char *word, const char *rest)
{
	long long number = atoll(word);
	if (strcmp(verb, "delay") == 0) {
		p->delay = number;
	} else if (strcmp(verb, "slice") == 0) {
		p->slice = (size_t)number;
	} else if (strcmp(verb, "stall") == 0) {
		p->stalled = is_on(word);
	} else if (strcmp(verb, "refuse") == 0) {
		p->refusing = is_on(word);
	} else if (strcmp(verb, "reset") == 0) {
		reset_all(p);
	} else if (strcmp(verb, "cut-after") == 0) {
		p->cut_after = number;
	} else if (strcmp(verb, "drop-reply-every") == 0) {
		p->drop_every = (uint64_t)number;
		p->to_drop = 0;
	} else if (strcmp(verb, "after-drop") == 0) {
		p->mute = strcmp(word, "mute") == 0;
	} else if (strcmp(verb, "error-every") == 0) {
		p->error_every = (uint64_t)number;
		p->to_error = 0;
		snprintf(p->error, sizeof(p->error), "-%s\r\n", rest[0] == '\0' ? "ERR by the fault proxy" : rest);
	} else if (strcmp(verb, "drop-pushes") == 0) {
		p->deaf = is_on(word);
	} else if (strcmp(verb, "skip") == 0) {
		p->skip = (uint64_t)number;
	} else if (strcmp(verb, "quit") == 0) {
		p->quit = true;
	} else {
		return false;
	}
	return true;
}

static void read_command(struct proxy *p)
{
	char verb[32] = "", word[32] = "", answer[320] = "ok";
	int at = 0;
	sscanf(p->line, "%31s %31s %n", verb, word, &at);
	if (strcmp(verb, "counters") == 0)
		say_counters(p, answer, sizeof(answer));
	else if (!obey(p, verb, word, at > 0 ? p->line + at : ""))
		snprintf(answer, sizeof(answer), "error: there is no command \"%.200s\"", p->line);
	strcat(answer, "\n");
	if (write(p->answers, answer, strlen(answer)) < 0)
		p->quit = true;
}

static void read_commands(struct proxy *p)
{
	char bytes[512];
	ssize_t got = read(p->commands, bytes, sizeof(bytes));
	if (got <= 0)
		p->quit = true;
	for (ssize_t i = 0; i < got && !p->quit; i++) {
		if (bytes[i] != '\n') {
			if (p->line_len < sizeof(p->line) - 1)
				p->line[p->line_len++] = bytes[i];
			continue;
		}
		p->line[p->line_len] = '\0';
		p->line_len = 0;
		read_command(p);
	}
}

/* ---- the loop -------------------------------------------------------------------------------------------------------------- */

/* What to wait for on one way: index of its two descriptors in the poll set. */
static void watch(const struct proxy *p, const struct way *w, int64_t now, struct pollfd *from, struct pollfd *to,
		  int *wait)
{
	*from = (struct pollfd){ .fd = -1 };
	*to = (struct pollfd){ .fd = -1 };
	if (p->stalled)
		return;
	if (!w->ended && w->held < MOST_HELD)
		*from = (struct pollfd){ .fd = w->from, .events = POLLIN };
	if (is_due(p, w, now))
		*to = (struct pollfd){ .fd = w->to, .events = POLLOUT };
	else if (w->first != NULL && (*wait < 0 || w->first->due - now < *wait))
		*wait = (int)(w->first->due - now);
}

static void serve(struct proxy *p, struct connection *c, const struct pollfd *set)
{
	if (set[0].revents != 0)
		pull(p, c, &c->up);
	if (set[2].revents != 0)
		pull(p, c, &c->down);
	if (set[1].revents != 0 && !push(p, c, &c->up))
		return;
	if (set[3].revents != 0 && !push(p, c, &c->down))
		return;
	close_when_done(p, c);
}

static void turn(struct proxy *p)
{
	static struct pollfd set[2 + 4 * MOST_CONNECTIONS];
	static struct connection *who[MOST_CONNECTIONS];
	size_t count = 0;
	int wait = -1;
	int64_t now = now_ms();
	set[0] = (struct pollfd){ .fd = p->listener, .events = POLLIN };
	set[1] = (struct pollfd){ .fd = p->commands, .events = POLLIN };
	for (size_t i = 0; i < MOST_CONNECTIONS; i++) {
		struct connection *c = &p->connections[i];
		if (!c->used)
			continue;
		struct pollfd *at = set + 2 + 4 * count;
		who[count++] = c;
		watch(p, &c->up, now, at, at + 1, &wait);
		watch(p, &c->down, now, at + 2, at + 3, &wait);
	}
	if (poll(set, 2 + 4 * count, wait) < 0 && errno != EINTR)
		give_up("poll");
	for (size_t i = 0; i < count; i++)
		serve(p, who[i], set + 2 + 4 * i);
	if (set[0].revents != 0)
		accept_one(p);
	if (set[1].revents != 0)
		read_commands(p);
}

void fault_proxy_run(int listener, const char *target, int commands, int answers)
{
	struct proxy *p = calloc(1, sizeof(*p));
	if (p == NULL)
		give_up("memory");
	p->listener = listener;
	p->target = target;
	p->commands = commands;
	p->answers = answers;
	p->cut_after = -1;
	while (!p->quit)
		turn(p);
	reset_all(p);
	free(p);
}

/* ---- from a C test --------------------------------------------------------------------------------------------------------- */

struct fault_proxy {
	pid_t pid;
	int control, port;
	char path[128]; /* to unlink; empty for TCP */
};

struct fault_proxy *fault_proxy_start(const char *listen_at, const char *target)
{
	struct fault_proxy *f = calloc(1, sizeof(*f));
	int ends[2];
	pid_t parent = getpid();
	if (f == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		give_up("start");
	int listener = fault_proxy_listen(listen_at, &f->port);
	if (strncmp(listen_at, "unix:", 5) == 0)
		snprintf(f->path, sizeof(f->path), "%s", listen_at + 5);
	f->pid = fork();
	if (f->pid < 0)
		give_up("fork");
	if (f->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		if (getppid() == parent)
			fault_proxy_run(listener, target, ends[1], ends[1]);
		_exit(0);
	}
	close(listener);
	close(ends[1]);
	f->control = ends[0];
	return f;
}

void fault_proxy_free(struct fault_proxy **proxy)
{
	struct fault_proxy *f = *proxy;
	*proxy = NULL;
	if (f == NULL)
		return;
	close(f->control);
	kill(f->pid, SIGKILL);
	while (waitpid(f->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	if (f->path[0] != '\0')
		unlink(f->path);
	free(f);
}

int fault_proxy_port(const struct fault_proxy *f)
{
	return f->port;
}

static void exchange(struct fault_proxy *f, const char *line, char *answer, size_t size)
{
	size_t len = 0;
	if (send(f->control, line, strlen(line), MSG_NOSIGNAL) < 0 || send(f->control, "\n", 1, MSG_NOSIGNAL) < 0)
		give_up(line);
	while (len == 0 || answer[len - 1] != '\n') {
		ssize_t got = recv(f->control, answer + len, size - 1 - len, 0);
		if (got <= 0)
			give_up(line);
		len += (size_t)got;
	}
	answer[len - 1] = '\0';
}

void fault_proxy_tell(struct fault_proxy *f, const char *format, ...)
{
	char line[256], answer[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	exchange(f, line, answer, sizeof(answer));
	if (strcmp(answer, "ok") != 0) {
		fprintf(stderr, "fault_proxy: %s: %s\n", line, answer);
		abort();
	}
}

uint64_t fault_proxy_count(struct fault_proxy *f, const char *counter)
{
	char answer[512], wanted[32], *at;
	exchange(f, "counters", answer, sizeof(answer));
	snprintf(wanted, sizeof(wanted), "%s ", counter);
	at = strstr(answer, wanted);
	if (at == NULL)
		give_up(counter);
	return strtoull(at + strlen(wanted), NULL, 10);
}

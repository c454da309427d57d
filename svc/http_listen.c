/* Listening sockets. A unix path left over from a process that died is taken over; one that still answers is not. */
#include "svc/http_internal.h"

#include "lib/mem.h"
#include "lib/text.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Owned by whoever listened; shared by servers. `device` and `inode` are those of the unix path when it was bound. */
struct http_listener {
	int descriptor;
	int port;
	char *text, *path; /* path: NULL unless unix */
	dev_t device;
	ino_t inode;
};

static bool complain(char *error, size_t size, struct slice address, const char *cause)
{
	snprintf(error, size, "cannot listen on %.*s: %s", SLICE_ARGS(address), cause);
	return false;
}

static bool is_alive(const struct sockaddr_un *name)
{
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool alive =
		probe >= 0 && (connect(probe, (const struct sockaddr *)name, sizeof(*name)) == 0 || errno == EAGAIN);
	if (probe >= 0)
		close(probe);
	return alive;
}

static bool listen_unix(struct http_listener *l, struct slice address, char *error, size_t size)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct slice path = slice_skip(address, 5);
	struct stat status;
	if (path.len == 0 || path.len >= sizeof(name.sun_path))
		return complain(error, size, address, "the path is empty or longer than 107 bytes");
	memcpy(name.sun_path, path.data, path.len);
	l->path = mem_text(path);
	bool exists = lstat(l->path, &status) == 0;
	if (exists && !S_ISSOCK(status.st_mode))
		return complain(error, size, address, "the path exists and is not a socket");
	if (exists && is_alive(&name))
		return complain(error, size, address, strerror(EADDRINUSE));
	if (exists && unlink(l->path) != 0)
		return complain(error, size, address, strerror(errno));
	l->descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->descriptor < 0 || bind(l->descriptor, (struct sockaddr *)&name, sizeof(name)) != 0)
		return complain(error, size, address, strerror(errno));
	if (lstat(l->path, &status) == 0) {
		l->device = status.st_dev;
		l->inode = status.st_ino;
	}
	return true;
}

/* "host:port", "[v6]:port", "*:port". */
static bool split(struct slice address, struct slice *host, struct slice *port)
{
	size_t colon = address.len;
	while (colon > 0 && address.data[colon - 1] != ':')
		colon--;
	if (colon < 2)
		return false;
	*host = slice_first(address, colon - 1);
	*port = slice_skip(address, colon);
	bool bracketed = host->len > 2 && host->data[0] == '[' && host->data[host->len - 1] == ']';
	if (bracketed)
		*host = slice_make(host->data + 1, host->len - 2);
	int64_t number;
	return (bracketed || slice_find(*host, ':') == host->len) && text_int(*port, &number) && number >= 0 &&
	       number <= 65535;
}

static bool bind_one(struct http_listener *l, const struct addrinfo *at)
{
	int on = 1, off = 0;
	l->descriptor = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->descriptor < 0)
		return false;
	bool set = setsockopt(l->descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0;
	/* What is accepted inherits this (tcp(7)): one call instead of one per connection. */
	set = set && setsockopt(l->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0;
	if (at->ai_family == AF_INET6)
		set = set && setsockopt(l->descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0;
	return set && bind(l->descriptor, at->ai_addr, at->ai_addrlen) == 0;
}

static void learn_port(struct http_listener *l)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} name = { .any.sa_family = AF_UNSPEC };
	socklen_t len = sizeof(name);
	CHECK(getsockname(l->descriptor, &name.any, &len) == 0);
	l->port = ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
}

static bool listen_tcp(struct http_listener *l, struct slice address, char *error, size_t size)
{
	struct slice host, port;
	if (!split(address, &host, &port))
		return complain(error, size, address, "it must be host:port, [v6]:port, *:port or unix:path");
	bool any = slice_equal(host, SLICE("*"));
	char *node = mem_text(host), *service = mem_text(port);
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *found = NULL;
	int failed = getaddrinfo(any ? "::" : node, service, &hints, &found);
	if (failed == 0 && any) { /* a kernel without IPv6 */
		int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (probe < 0) {
			freeaddrinfo(found);
			found = NULL;
			failed = getaddrinfo("0.0.0.0", service, &hints, &found);
		} else {
			close(probe);
		}
	}
	mem_free(node);
	mem_free(service);
	if (failed != 0)
		return complain(error, size, address, failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed));
	bool bound = bind_one(l, found);
	int cause = errno;
	freeaddrinfo(found);
	if (!bound)
		return complain(error, size, address, strerror(cause));
	learn_port(l);
	return true;
}

static void name_listener(struct http_listener *l, struct slice address)
{
	struct buf text;
	size_t colon = address.len;
	while (colon > 0 && address.data[colon - 1] != ':')
		colon--;
	buf_init(&text, 1024);
	if (l->path == NULL && buf_append(&text, slice_first(address, colon)))
		buf_append_int(&text, l->port);
	else
		buf_append(&text, address);
	l->text = mem_text(buf_slice(&text));
	buf_free(&text);
}

struct http_listener *http_listen(struct slice address, char *error, size_t error_size)
{
	struct http_listener *l = mem_new(sizeof(*l));
	l->descriptor = -1;
	bool bound;
	if (slice_starts(address, SLICE("unix:")))
		bound = listen_unix(l, address, error, error_size);
	else
		bound = listen_tcp(l, address, error, error_size);
	if (bound && listen(l->descriptor, SOMAXCONN) != 0)
		bound = complain(error, error_size, address, strerror(errno));
	if (bound)
		name_listener(l, address);
	else
		http_listener_free(&l);
	return l;
}

void http_listener_free(struct http_listener **handle)
{
	struct http_listener *l = *handle;
	struct stat status;
	if (l == NULL)
		return;
	*handle = NULL;
	bool ours = l->path != NULL && l->inode != 0 && lstat(l->path, &status) == 0;
	if (ours && status.st_dev == l->device && status.st_ino == l->inode)
		unlink(l->path);
	if (l->descriptor >= 0)
		close(l->descriptor);
	mem_free(l->path);
	mem_free(l->text);
	mem_free(l);
}

int http_listener_port(const struct http_listener *l)
{
	return l->port;
}

const char *http_listener_text(const struct http_listener *l)
{
	return l->text;
}

int http_listener_descriptor(const struct http_listener *l)
{
	return l->descriptor;
}

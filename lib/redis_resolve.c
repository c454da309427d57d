#include "lib/redis_resolve.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/slice.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/un.h>

/* Shared by the thread and the loop until one of them is done with it: the thread frees it when it finds it cancelled, the loop
 * frees it after a posted result. `cancelled` and the posting are under the lock, so a loop that may be gone is never posted to. */
struct redis_resolve {
	pthread_mutex_t lock;
	bool cancelled;
	struct loop *loop;
	char *host;
	int port;
	redis_resolve_done *done;
	void *arg;
	struct redis_addresses found;
	const char *reason;
};

static const char *look_up(const char *host, int port, int flags, struct redis_addresses *found)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV }, *all = NULL;
	char service[16];
	snprintf(service, sizeof(service), "%d", port);
	found->count = 0;
	int error = getaddrinfo(host, service, &hints, &all);
	if (error != 0)
		return gai_strerror(error);
	for (struct addrinfo *a = all; a != NULL && found->count < REDIS_ADDRESSES; a = a->ai_next) {
		struct redis_address *to = &found->list[found->count++];
		to->length = a->ai_addrlen;
		memcpy(&to->storage, a->ai_addr, a->ai_addrlen);
	}
	freeaddrinfo(all);
	return found->count == 0 ? "the name has no address" : NULL;
}

/* The name is the loopback's (RFC 6761, section 6.3), also where /etc/hosts is missing, and DNS is not asked: its answer, or its silence, is of no use. First where Redis
 * listens by itself. */
static bool loopback(int port, struct redis_addresses *found)
{
	struct redis_addresses six;
	if (look_up("127.0.0.1", port, AI_NUMERICHOST, found) != NULL)
		return false;
	if (look_up("::1", port, AI_NUMERICHOST, &six) == NULL)
		found->list[found->count++] = six.list[0];
	return true;
}

bool redis_resolve_at_once(const char *host, int port, struct redis_addresses *found)
{
	if (slice_equal_nocase(slice_of(host), SLICE("localhost")))
		return loopback(port, found);
	return look_up(host, port, AI_NUMERICHOST, found) == NULL;
}

bool redis_resolve_path(const char *path, struct redis_addresses *found)
{
	struct sockaddr_un *address = (struct sockaddr_un *)&found->list[0].storage;
	size_t length = strlen(path);
	if (length >= sizeof(address->sun_path))
		return false;
	memset(found, 0, sizeof(*found));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, length + 1);
	found->list[0].length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
	found->count = 1;
	return true;
}

static void resolve_free(struct redis_resolve *r)
{
	pthread_mutex_destroy(&r->lock);
	mem_free(r->host);
	mem_free(r);
}

static void deliver(void *arg)
{
	struct redis_resolve *r = arg;
	pthread_mutex_lock(&r->lock); /* until the thread has let go of it */
	bool cancelled = r->cancelled;
	pthread_mutex_unlock(&r->lock);
	if (!cancelled)
		r->done(r->arg, &r->found, r->reason);
	resolve_free(r);
}

static void *run(void *arg)
{
	struct redis_resolve *r = arg;
	r->reason = look_up(r->host, r->port, 0, &r->found);
	pthread_mutex_lock(&r->lock);
	bool cancelled = r->cancelled;
	if (!cancelled)
		loop_post(r->loop, deliver, r);
	pthread_mutex_unlock(&r->lock);
	if (cancelled)
		resolve_free(r);
	return NULL;
}

/* Signals belong to the loop's thread: a new thread inherits the mask, so all are blocked while it is born. */
static bool start_thread(struct redis_resolve *r)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool ok = pthread_create(&thread, &attributes, run, r) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return ok;
}

struct redis_resolve *redis_resolve_start(struct loop *loop, const char *host, int port, redis_resolve_done *done,
					  void *arg)
{
	struct redis_resolve *r = mem_new(sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	r->loop = loop;
	r->host = mem_text(slice_of(host));
	r->port = port;
	r->done = done;
	r->arg = arg;
	if (!start_thread(r)) {
		r->reason = "no thread could be started to look the name up";
		loop_post(loop, deliver, r);
	}
	return r;
}

void redis_resolve_cancel(struct redis_resolve **resolve)
{
	struct redis_resolve *r = *resolve;
	*resolve = NULL;
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	r->cancelled = true;
	pthread_mutex_unlock(&r->lock);
}

/* A name's addresses, looked up off the loop: getaddrinfo blocks for seconds when DNS is away.
 *
 * One short-lived thread per look-up, which a reconnect needs once; it posts its result to the loop. Cancelled, the thread goes on
 * until getaddrinfo returns, touches neither loop nor owner any more, and frees what it holds. Disadvantage: a process that
 * exits meanwhile leaves that thread to the kernel. */
#ifndef SLUICE_REDIS_RESOLVE_H
#define SLUICE_REDIS_RESOLVE_H

#include "lib/base.h"

#include <sys/socket.h>

struct loop;
struct redis_resolve;

#define REDIS_ADDRESSES 8 /* more are not tried */

struct redis_addresses {
	size_t count;
	struct redis_address {
		struct sockaddr_storage storage;
		socklen_t length;
	} list[REDIS_ADDRESSES];
};

/* reason (static text) is NULL when there is at least one address. */
typedef void redis_resolve_done(void *arg, const struct redis_addresses *, const char *reason);

struct redis_resolve *redis_resolve_start(struct loop *, const char *host, int port, redis_resolve_done *, void *arg);
void redis_resolve_cancel(struct redis_resolve **); /* done never runs; NULL inside is fine */

/* For a number, and for localhost: 127.0.0.1, then ::1; false for any other name. */
bool redis_resolve_at_once(const char *host, int port, struct redis_addresses *) MUST_CHECK;
bool redis_resolve_path(const char *path, struct redis_addresses *) MUST_CHECK; /* false when it is too long */

#endif

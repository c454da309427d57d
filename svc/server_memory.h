/* What is given up while memory is short, in this order: connections of clients without a request; then new requests, which are told to come again. What is in
 * flight goes on.
 *
 * Looked at is what the program has in use, as its allocator counts it (jemalloc's stats.allocated), not what the kernel has given it: memory that was freed
 * may stay with the process, and would look like pressure for ever. Disadvantage: what libraries map by themselves does not count, and with another
 * allocator (a sanitizer's) nothing does. */
#ifndef SLUICE_SERVER_MEMORY_H
#define SLUICE_SERVER_MEMORY_H

#include "lib/base.h"

struct log;
struct loop;
struct server;
struct server_memory;
struct worker_shared;

/* Looks twice a second from now on, on the control thread; `server` says how much there may be (memory_limit). */
struct server_memory *server_memory_watch(struct loop *control, struct server *, struct worker_shared *, struct log *);
void server_memory_free(struct server_memory **); /* before the server; NULL inside is fine */

#endif

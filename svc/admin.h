/* The admin plane: /healthz, /readyz, /metrics, /status, /requests, /config, POST /cache/purge and POST /drain, on an address of its own; one small HTTP
 * server on the control thread's loop. What the workers know is fetched by a visit (svc/server.h), so a scrape never waits for the data plane, nor the other
 * way round. */
#ifndef SLUICE_ADMIN_H
#define SLUICE_ADMIN_H

#include "lib/base.h"

struct admin;
struct log;
struct loop;
struct server;

/* Listens where the server's configuration says; `drain` is called for POST /drain. NULL with a message that names the address. */
struct admin *admin_new(struct loop *, struct server *, void (*drain)(void *arg), void *arg, struct log *, char *error,
			size_t error_size) MUST_CHECK;
void admin_free(struct admin **); /* before the server's; NULL inside is fine */

#endif

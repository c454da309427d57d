/* What a worker of a rig is connected by: its calls go through a proxy that spoils them, or not; what is published is heard beside. */
#ifndef SLUICE_TESTS_WORKER_LINK_H
#define SLUICE_TESTS_WORKER_LINK_H

#include "lib/subscriber.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_server.h"

/* The caller frees what it is given; `proxy` NULL: without one. `hears` is completed with how often it is pinged. */
void worker_link_open(struct loop *, const struct redis_server *, struct subscriber_options hears, struct redis **redis,
		      struct subscriber **listener, struct fault_proxy **proxy);

#endif

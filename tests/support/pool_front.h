/* A pool towards a server that speaks HTTP/2 over TLS: a real proxy in front of a bad_server. */
#ifndef SLUICE_TESTS_POOL_FRONT_H
#define SLUICE_TESTS_POOL_FRONT_H

#include "tests/support/pool_rig.h"
#include "tests/support/proxy.h"

struct front {
	struct bad_server *server;
	struct proxy *proxy; /* a test may end it before */
	struct rig rig;
};

/* A group's: the certificates. */
int front_setup(void **state);
int front_teardown(void **state);

/* Takes the server over; two connections, unless the options are changed before rig_open. Without a proxy to be had the test is skipped. */
void front_start(struct front *, struct bad_server *, enum pool_http);
void front_start_with(struct front *, struct bad_server *, enum pool_http,
		      const char *option);                            /* of the proxy's; or NULL */
void front_open(struct front *, struct bad_server *, enum pool_http); /* starts and opens it */
void front_close(struct front *);                                     /* and sees to it that no descriptor is left */

#endif

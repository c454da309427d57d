/* The bytes of a connection, plain or through TLS.
 *
 * TLS as by a client that opens a connection for each call: the server's certificate and name are verified, HTTP/1.1 is offered by ALPN, and no session is
 * resumed, for a process that keeps no connection keeps no sessions either. Trusted certificates are read once for the process, a mercy: many clients
 * read them anew with each connection. */
#ifndef LOAD_CHANNEL_H
#define LOAD_CHANNEL_H

#include <stdbool.h>
#include <sys/types.h>

#include "load_options.h"

struct channel {
	int fd;             /* -1: closed */
	struct ssl_st *ssl; /* NULL: plain, or closed */
};

/* For all connections over TLS; NULL, and why on stderr, when the certificates cannot be read. */
struct ssl_ctx_st *channel_context(const struct options *);

/* From now on over TLS, as a client of this target. */
void channel_secure(struct channel *, struct ssl_ctx_st *, const struct target *);
/* 1: shaken (or plain); 0: call again at the next event; -1: failed. */
int channel_shake_hands(struct channel *);
/* As recv and send: 0 is the end, -1 an error in errno, of which EAGAIN means to wait for the next event. A short read of TLS does not mean that nothing more is there. */
ssize_t channel_read(struct channel *, void *, size_t);
ssize_t channel_write(struct channel *, const void *, size_t);
void channel_close(struct channel *);

#endif

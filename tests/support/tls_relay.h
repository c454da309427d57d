/* TLS in front of a plain server, for the tests of a client: one thread per connection, both directions byte for byte.
 * HTTP/1.1 alone is offered over ALPN; for HTTP/2 a real proxy stands in front (tests/support/proxy.h). */
#ifndef SLUICE_TESTS_TLS_RELAY_H
#define SLUICE_TESTS_TLS_RELAY_H

#include <stdbool.h>

struct tls_relay;

struct tls_relay_options {
	const char *certificate, *key;
	int backend_port;
	int newest_version; /* TLS1_1_VERSION …; 0: no limit */
	bool unclean;       /* ends a connection without close_notify */
	bool gated;         /* answers no hand-shake before tls_relay_open_gate */
	bool lingers;       /* ends no connection before tls_relay_open_gate, though its client has */
};
struct tls_relay *tls_relay_new(const struct tls_relay_options *);
void tls_relay_free(struct tls_relay **);
const char *tls_relay_origin(const struct tls_relay *); /* "https://127.0.0.1:PORT" */
unsigned tls_relay_begun(struct tls_relay *);           /* connections that have said hello; of a gated relay */
void tls_relay_open_gate(struct tls_relay *);
unsigned tls_relay_handshakes(struct tls_relay *); /* that ended well */

#endif

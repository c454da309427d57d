/* A real HTTP/2 front for a plain server: an nghttpx of its own, over TLS with ALPN, that dies with the test. */
#ifndef SLUICE_TESTS_PROXY_H
#define SLUICE_TESTS_PROXY_H

#include <stdbool.h>

struct proxy;

struct proxy *proxy_new(const char *certificate, const char *key,
			int backend_port); /* NULL: nghttpx is not installed */
void proxy_free(struct proxy **);
void proxy_silence(struct proxy *, bool silent); /* it keeps its connections, and says nothing */
/* With one more option of nghttpx's; NULL: none. */
struct proxy *proxy_new_with(const char *certificate, const char *key, int backend_port, const char *option);
const char *proxy_origin(const struct proxy *); /* "https://127.0.0.1:PORT" */

#endif

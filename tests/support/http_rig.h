/* The HTTP server on a unix socket, with an owner that does what a request's target asks:
 *
 *   /hold   is not answered            /take   takes its body, at most 1 MiB, and is not answered
 *   /refuse "no", the body not taken   /big    HTTP_RIG_BIG bytes as fast as they are taken
 *   /cut    half an answer             /none   204
 *   else    takes its body and says "done"
 *
 * The loop is turned by hand. */
#ifndef SLUICE_TEST_HTTP_RIG_H
#define SLUICE_TEST_HTTP_RIG_H

#include "lib/buf.h"
#include "lib/loop.h"
#include "svc/http.h"

#include <unistd.h>

enum { HTTP_RIG_BIG = 8 << 20, HTTP_RIG_TURNS = 20000 };

struct http_rig {
	struct loop *loop;
	struct http_server *server;
	struct http_listener *listener;
	char folder[64], address[96];
	/* what happened */
	unsigned heads, ends, broken, gones, writables, malformed, pauses;
	enum http_gone why;
	enum http_fault fault;
	size_t body_len, fields;
	struct buf body;
	char method[16], target[256];
	struct exchange *held; /* a request that is not answered by itself */
	size_t written;
	bool inside; /* a handler is on the stack */
};

/* Deadlines that no test reaches. */
extern const struct http_options http_rig_patient;

struct http_rig *http_rig_new(const struct http_options *);
void http_rig_free(struct http_rig *);
void http_rig_turn(struct http_rig *, int count);
int http_rig_client(const struct http_rig *); /* connected, non-blocking; the caller closes it */
void http_rig_say(int s, struct slice bytes);
/* Turns until `wanted` has come, or the server has closed. The text is NUL-terminated, and good until the next call. */
const char *http_rig_hear(struct http_rig *, int s, const char *wanted, bool *closed);

#define HTTP_RIG_WAIT(rig, condition)                                                                                  \
	do {                                                                                                           \
		for (int turns_ = 0; turns_ < HTTP_RIG_TURNS && !(condition); turns_++) {                              \
			http_rig_turn(rig, 1);                                                                         \
			usleep(50);                                                                                    \
		}                                                                                                      \
		assert_true(condition);                                                                                \
	} while (0)

#endif

/* A misbehaving HTTP/1 server for the tests of a client: raw sockets, one thread per connection, each running a script.
 *
 * The first connection runs the first script, and so on; the last script serves all further ones. A step that the
 * peer's leaving interrupts ends the connection. What came in is recorded as it came: how often, how much, in which
 * order. */
#ifndef SLUICE_TESTS_BAD_SERVER_H
#define SLUICE_TESTS_BAD_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bad_server;

enum bad_verb {
	BAD_END,        /* closes: a FIN */
	BAD_REQUEST,    /* reads one whole request (head, and Content-Length bytes) */
	BAD_HEAD,       /* reads one head, and leaves the body where it is */
	BAD_SEND,       /* sends `text` */
	BAD_FILL,       /* sends `count` bytes of the pattern (byte i is 'a' + i % 23) */
	BAD_ECHO,       /* answers 200 with the request's target as its body */
	BAD_CHUNK_ECHO, /* the same, chunked, byte by byte */
	BAD_RESET,      /* closes with a RST */
	BAD_STALL,      /* waits for the peer to leave */
	BAD_GATE,       /* waits for one bad_server_open_gate, then goes on; the peer may leave meanwhile */
	BAD_PAUSE,      /* `count` milliseconds */
	BAD_AGAIN,      /* back to the script's first step */
};
struct bad_step {
	enum bad_verb verb;
	const char *text;
	size_t count;
};

/* Answers every request with its target, for ever. */
extern const struct bad_step bad_server_echo[];
/* The same, as far away as a provider is: the first is not answered before the last of a few is asked. */
extern const struct bad_step bad_server_far_away[];
/* The same, each at one bad_server_open_gate. */
extern const struct bad_step bad_server_echo_at_gate[];

/* `count` arrays, each ended by BAD_END, BAD_RESET or BAD_AGAIN; the arrays are borrowed until bad_server_free. */
struct bad_server *bad_server_new(const struct bad_step *const *scripts, size_t count);
struct bad_server *bad_server_of(const struct bad_step *script); /* of one for all connections */
struct bad_server *bad_server_at(const char *host, int port, const struct bad_step *script); /* "127.0.0.2" */
void bad_server_free(struct bad_server **);                                                  /* ends every connection */
const char *bad_server_origin(const struct bad_server *); /* "http://127.0.0.1:PORT", or its host */
int bad_server_port(const struct bad_server *);
void bad_server_open_gate(struct bad_server *, unsigned times);

struct bad_record {
	unsigned connections, open, most_open; /* since birth, now, ever at once */
	unsigned requests;                     /* whole heads seen */
	unsigned left;                         /* connections that the peer ended (FIN or RST) before the script did */
	uint64_t body_bytes;                   /* of request bodies */
	uint64_t sent;
	char last_head[8192];
};
struct bad_record bad_server_record(struct bad_server *);

#endif

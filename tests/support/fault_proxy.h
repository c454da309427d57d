/* A proxy between two stream sockets that misbehaves on command: a child process with a small poll loop of its own.
 *
 *   client ◄──► listen ─[ the faults ]─ connect ◄──► server
 *
 * It is told what to do in lines of text, over a socket from a C test (fault_proxy_tell), over standard input as a program of its
 * own (build/tests/fault-proxy). Each line is answered by one line, when it is in force:
 *
 *   delay MS               each piece, either way, goes on that much later; 0 ends it
 *   slice N                at most N bytes per write; 0 ends it
 *   stall on|off           nothing moves, either way; connections are still accepted
 *   refuse on|off          new connections are closed at once
 *   reset                  all connections are cut now, with RST where the socket knows it
 *   cut-after N            once: after N more bytes towards the client, its connection is cut (mid-reply)
 *   drop-reply-every N     every N-th reply of Redis' is swallowed: the command ran, its answer never comes; 0 ends it
 *   after-drop close|mute  what follows for that connection: it is closed (default), or no byte more reaches the client.
 *                          Going on would answer the next command with the wrong reply, which no network does
 *   error-every N [TEXT]   every N-th reply is replaced by the error TEXT; 0 ends it
 *   drop-pushes on|off     what PUBLISH brings to subscribers is swallowed, and nothing else
 *   skip N                 before any of these two count, N replies of each new connection pass (a greeting)
 *   counters               connections N open N replies N dropped N errors N cut N up N down N
 *   quit
 *
 * An unknown line is answered "error: …". Disadvantage: replies are framed as RESP2 and RESP3 without attributes; when what
 * comes is neither, the three reply faults stop for that connection and its bytes pass. */
#ifndef SLUICE_TESTS_FAULT_PROXY_H
#define SLUICE_TESTS_FAULT_PROXY_H

#include <stdint.h>

struct fault_proxy;

/* Addresses: unix:/path, tcp:127.0.0.1:port (port 0: any free one). Listens when it returns; ends the test when it cannot. */
struct fault_proxy *fault_proxy_start(const char *listen, const char *connect);
void fault_proxy_free(struct fault_proxy **); /* ends the child; NULL inside is fine */
int fault_proxy_port(const struct fault_proxy *);

void fault_proxy_tell(struct fault_proxy *, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));
uint64_t fault_proxy_count(struct fault_proxy *, const char *counter); /* by its word in the list above */

/* The loop itself, for the program: returns at "quit" or at the end of the commands. `listener` listens already. */
int fault_proxy_listen(const char *address, int *port);
void fault_proxy_run(int listener, const char *connect, int commands, int answers);

#endif

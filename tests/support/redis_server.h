/* A real redis-server of a test's own: a child on a unix socket in a temporary directory, no persistence, gone with the test
 * however the test ends. Blocking, for tests alone; what goes wrong here ends the test with a message.
 *
 * Disadvantage: its log is read up to "ready" and then dropped when the pipe is full. */
#ifndef SLUICE_TESTS_REDIS_SERVER_H
#define SLUICE_TESTS_REDIS_SERVER_H

#include "lib/base.h"

struct redis_server;
struct redisReply;

struct redis_server_options {
	bool tcp;                     /* listen on a free port of 127.0.0.1 too */
	const char *const *arguments; /* more of redis-server's own, NULL-terminated; NULL: none */
};

/* Returns when it answers. Options may be NULL. */
struct redis_server *redis_server_start(const struct redis_server_options *);
void redis_server_free(struct redis_server **); /* kills it, removes its directory; NULL inside is fine */

const char *redis_server_path(const struct redis_server *); /* of the unix socket */
const char *redis_server_url(const struct redis_server *);  /* unix:///… */
int redis_server_port(const struct redis_server *);         /* 0 without tcp */
int redis_server_pid(const struct redis_server *);          /* 0 while it is not running */

void redis_server_pause(struct redis_server *);   /* SIGSTOP: accepts connections, answers nothing */
void redis_server_resume(struct redis_server *);  /* SIGCONT */
void redis_server_kill(struct redis_server *);    /* SIGKILL, and waits for its end */
void redis_server_restart(struct redis_server *); /* kills it when it runs; starts an empty one at the same addresses */

/* Looks inside over a blocking connection of its own (a new one after a restart). Ends the test when Redis is away. The caller
 * gives the reply to freeReplyObject. The format is hiredis': %s, %b, %lld. */
struct redisReply *redis_server_command(struct redis_server *, const char *format, ...);
void redis_server_do(struct redis_server *, const char *format, ...); /* the answer must not be an error */
int64_t redis_server_int(struct redis_server *, const char *format,
			 ...); /* an integer, or a string of digits; nil is -1 */
/* Commands run so far, a script's among them; without those that only tests and connections use. */
int64_t redis_server_calls(struct redis_server *);

#endif

/* What the rigs of single scripts share: a real Redis, its own client, the scripts loaded. What goes wrong ends the program. */
#ifndef SLUICE_TESTS_SCRIPT_RIG_H
#define SLUICE_TESTS_SCRIPT_RIG_H

#include "lib/script.h"
#include "tests/support/redis_server.h"

struct redisContext;
struct redisReply;

_Noreturn void script_rig_fail(const char *what, const char *why);
struct redisReply *script_rig_answer(struct redisReply *, const char *what); /* there is one, which may be an error */
struct redisReply *script_rig_must(struct redisReply *, const char *what);   /* and it is none */
struct redisContext *script_rig_connect(const struct redis_server *);        /* the caller frees it */
void script_rig_load(struct redisContext *, const struct script *const *scripts, size_t count);
void script_rig_check_expiries(struct redisContext *); /* every key that is there has one */

#endif

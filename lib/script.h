/* An embedded Lua script: EVALSHA; on NOSCRIPT load it on that connection and try that one call once more.
 *
 * The sources stand in lua/, one script per atomic step; the build embeds them with their SHA-1 as `const struct script
 * script_NAME` (build/gen/scripts.h declares, build/gen/scripts.c defines). */
#ifndef SLUICE_SCRIPT_H
#define SLUICE_SCRIPT_H

#include "lib/redis.h"

struct script {
	const char *name;
	const char *source;
	size_t length;
	const char *sha1; /* 40 lower-case hexadecimal digits */
};

struct script_call;
typedef void script_done(struct script_call *, void *arg, const struct redis_answer *);

/* `timeout` covers all of it, the loading too. Keys and arguments are copied. */
struct script_call *script_start(struct redis *, const struct script *, int64_t timeout, script_done *, void *arg,
				 size_t keys_count, const struct slice *keys, size_t arguments_count,
				 const struct slice *arguments);
/* Sends the source ahead, for calls whose order counts: one that finds no script there is loaded and repeated behind those that follow it. Nobody hears what
 * becomes of it. */
void script_load(struct redis *, const struct script *, int64_t timeout);
void script_cancel(struct script_call **);

#endif

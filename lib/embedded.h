/* A private Redis for one gateway: a redis-server child on a unix socket in a directory of its own, with nothing on disk and no
 * port, that dies with the gateway however the gateway dies.
 *
 *   embedded_start ──► READY ──► DIED ──► (back-off) ──► READY …
 *
 * The kernel kills the child when the thread that forked it ends (PR_SET_PDEATHSIG is a thread's, not a process's): so the loop
 * must be run by the process' first thread, which is checked. The directory is locked while its gateway lives; the next start
 * removes those whose lock is free. Disadvantage: what it held is gone when it dies: fit for one instance, not for a fleet. */
#ifndef SLUICE_EMBEDDED_H
#define SLUICE_EMBEDDED_H

#include "lib/base.h"

struct loop;
struct log;
struct embedded;

struct embedded_options {
	const char *program; /* NULL: redis-server, looked for in PATH */
	const char *folder;  /* where its directory is made; NULL: $TMPDIR, else /tmp */
	int64_t maxmemory;   /* bytes; 0: no limit */
};

enum embedded_event {
	EMBEDDED_READY, /* it accepts connections */
	EMBEDDED_DIED, /* it ended, or could not be started again; it is started once more after a back-off of 0.1 to 5 s */
};

/* From the loop, at each change; `why` is empty when it is ready. It may call embedded_stop. */
typedef void embedded_changed(void *arg, enum embedded_event, const char *why);

/* NULL with a reason (in `reason`, of `size` bytes) when there is no such program or no directory could be made. */
struct embedded *embedded_start(struct loop *, const struct embedded_options *, struct log *, embedded_changed *,
				void *arg, char *reason, size_t size);
void embedded_stop(struct embedded **); /* kills it, waits for its end, removes the directory; NULL inside is fine */

const char *embedded_path(const struct embedded *); /* of the socket; the same after each restart */
int embedded_pid(const struct embedded *);          /* 0 while it is not running */

#endif

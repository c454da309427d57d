/* The commands of the command line. Each gets its own arguments, argv[0] being its name, and returns the exit code: 0 done, 1 failed, 2 used wrongly. */
#ifndef SLUICE_COMMAND_H
#define SLUICE_COMMAND_H

#include "lib/base.h"
#include "lib/slice.h"

struct buf;
struct config;

enum { COMMAND_DONE = 0, COMMAND_FAILED = 1, COMMAND_MISUSED = 2 };

struct command {
	const char *name, *line; /* what it does, for the list of commands */
	const char *help;        /* the whole text behind --help */
	int (*run)(const struct command *, int argc, char **argv);
};

int command_serve(const struct command *, int argc, char **argv);
int command_check(const struct command *, int argc, char **argv);
int command_config(const struct command *, int argc, char **argv);
int command_status(const struct command *, int argc, char **argv);
int command_top(const struct command *, int argc, char **argv);
int command_pool_size(const struct command *, int argc, char **argv);
int command_flow(const struct command *, int argc, char **argv);
int command_version(const struct command *, int argc, char **argv);

/* getopt_long over the options of a command, of which each must be a long one with a letter in `val` (typed alone are -c and -n); --help is answered here.
 * Returns the option's letter, -1 at the end of the options, or an exit code to leave with, in *exit_code, and -2. */
struct option;
int command_option(const struct command *, int argc, char **argv, const struct option *, int *exit_code);
/* `a` or `b`, whichever is nearer to the word; NULL when neither is near. `a` may be NULL. */
const char *command_nearest(struct slice word, const char *a, const char *b);
/* "sluice NAME: …; see sluice NAME --help" on stderr; returns COMMAND_MISUSED. */
int command_misused(const struct command *, const char *format, ...) PRINTF_LIKE(2, 3);

/* Files, and so connections, that the process may open; INT64_MAX: it knows no bound. */
int64_t command_files_allowed(void);
/* As many as it may give itself. */
void command_raise_files(void);
/* False, and a line that says why, where the pools' `min` keep so many connections open that too few files are left for clients. */
bool command_may_keep(const struct config *, struct buf *error) MUST_CHECK;

#endif

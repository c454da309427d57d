/* What all commands do alike. */
#include "svc/command.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"

enum { NEAR = 3 };

int command_misused(const struct command *c, const char *format, ...)
{
	va_list values;

	fprintf(stderr, "sluice %s: ", c->name);
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
	fprintf(stderr, "; see sluice %s --help\n", c->name);
	return COMMAND_MISUSED;
}

const char *command_nearest(struct slice word, const char *a, const char *b)
{
	unsigned far_a = a != NULL ? text_distance(word, slice_of(a)) : NEAR;
	unsigned far_b = text_distance(word, slice_of(b));

	if (far_b < NEAR && far_b < far_a)
		return b;
	return far_a < NEAR ? a : NULL;
}

/* What stands behind an '=' is not told again: it may be a secret. */
static int unknown(const struct command *c, const char *typed, const struct option *options)
{
	struct slice value, word = slice_cut(slice_of(typed), '=', &value);
	const char *nearest = NULL;

	if (optopt != 0 && slice_starts(word, SLICE("--")))
		return command_misused(c, "%.*s takes no value", SLICE_ARGS(word));
	if (optopt != 0)
		return command_misused(c, "unknown option -%c", optopt);
	for (const struct option *o = options; o->name != NULL; o++)
		nearest = command_nearest(slice_skip(word, 2), nearest, o->name);
	if (nearest == NULL)
		return command_misused(c, "unknown option %.*s", SLICE_ARGS(word));
	return command_misused(c, "unknown option %.*s; did you mean --%s?", SLICE_ARGS(word), nearest);
}

int command_option(const struct command *c, int argc, char **argv, const struct option *options, int *exit_code)
{
	char letters[16] = ":h";
	int option;

	for (const struct option *o = options; o->name != NULL; o++)
		if (o->val == 'c' || o->val == 'n') /* those that have a letter */
			snprintf(letters + strlen(letters), sizeof(letters) - strlen(letters), "%c:", o->val);
	opterr = 0;
	option = getopt_long(argc, argv, letters, options, NULL);
	if (option == 'h') {
		fputs(c->help, stdout);
		*exit_code = COMMAND_DONE;
		return -2;
	}
	if (option != '?' && option != ':')
		return option;
	*exit_code = option == '?' ? unknown(c, argv[optind - 1], options)
				   : command_misused(c, "%s needs a value", argv[optind - 1]);
	return -2;
}

/* What all commands do alike. */
#include "svc/command.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

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

int command_option(const struct command *c, int argc, char **argv, const struct option *options, int *exit_code)
{
	const char *letters = ":h";
	int option;

	for (const struct option *o = options; o->name != NULL; o++)
		if (o->val == 'c')
			letters = ":hc:"; /* the one option that has a letter */
	opterr = 0;
	option = getopt_long(argc, argv, letters, options, NULL);
	if (option == 'h') {
		fputs(c->help, stdout);
		*exit_code = COMMAND_DONE;
		return -2;
	}
	if (option != '?' && option != ':')
		return option;
	*exit_code = command_misused(c, option == '?' ? "unknown option %s" : "%s needs a value", argv[optind - 1]);
	return -2;
}

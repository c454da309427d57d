/* The command line: the table of commands. */
#include <stdio.h>
#include <string.h>

#include "svc/command.h"

/* clang-format off */
static const struct command commands[] = {
	{ "serve", "serve requests until SIGTERM",
	  "usage: sluice serve [-c FILE]\n\n"
	  "Serves the data plane on `listen` and the admin plane on `admin` until SIGTERM or SIGINT, then drains: SIGTERM is not ready at once, accepts for\n"
	  "drain.wait and lets requests end until drain.deadline; SIGINT does not wait; a second signal cuts what is left (exit code 1). SIGHUP reads the file again: all of it\n"
	  "or nothing. One JSON line a request goes to stdout.\n\n"
	  "  -c, --config FILE   the configuration; else $SLUICE_CONFIG, ./sluice.yaml, /etc/sluice/sluice.yaml\n\n"
	  "example: sluice config --example >sluice.yaml && sluice serve -c sluice.yaml\n",
	  command_serve },
	{ "check", "say whether a configuration is right",
	  "usage: sluice check FILE\n\n"
	  "Reads the file as serve does, environment variables included. Prints what it holds (exit 0), with a line for each warning; or a line for\n"
	  "each mistake: file:line, key, what was found, what is allowed (exit 2).\n\n"
	  "example: sluice check sluice.yaml\n",
	  command_check },
	{ "config", "print the configuration's keys, defaults or an example",
	  "usage: sluice config --docs|--defaults|--example\n\n"
	  "  --docs       every key: type, default, bounds, when it takes effect, what it is (Markdown)\n"
	  "  --defaults   every key at its default (YAML)\n"
	  "  --example    a file to begin with (YAML)\n\n"
	  "example: sluice config --example >sluice.yaml\n",
	  command_config },
	{ "status", "show what a running instance does",
	  "usage: sluice status [--admin URL] [--token TOKEN] [--json]\n\n"
	  "  --admin URL     the admin plane, or unix:/PATH; else $SLUICE_ADMIN, http://127.0.0.1:8081\n"
	  "  --token TOKEN   its admin_token; better in $SLUICE_ADMIN_TOKEN\n"
	  "  --json          as /status answers it\n\n"
	  "example: sluice status --admin http://127.0.0.1:8081\n",
	  command_status },
	{ "top", "show it again every second",
	  "usage: sluice top [--admin URL] [--token TOKEN] [-n N]\n\n"
	  "  --admin URL     the admin plane, or unix:/PATH; else $SLUICE_ADMIN, http://127.0.0.1:8081\n"
	  "  --token TOKEN   its admin_token; better in $SLUICE_ADMIN_TOKEN\n"
	  "  -n, --count N   end after N times; else at Ctrl-C\n\n"
	  "example: sluice top -n 10\n",
	  command_top },
	{ "pool-size", "say how many connections a workload needs",
	  "usage: sluice pool-size --users N --response DURATION --interval DURATION [--instances N]\n"
	  "                       [--streams-per-connection N] [--workers N]\n\n"
	  "Explains its arithmetic and ends with the `pool` of an upstream, to paste. Take the busiest hour: a steady load is reckoned with.\n\n"
	  "  --users N                    who call at the same time\n"
	  "  --response DURATION          from a call's start to the end of its answer\n"
	  "  --interval DURATION          from the start of a user's call to the start of his next; --response or longer\n"
	  "  --instances N                over which the users are spread; default 1. A pool is one instance's\n"
	  "  --streams-per-connection N   HTTP/2: calls at once on one connection; default 1, HTTP/1.1\n"
	  "  --workers N                  of an instance; over HTTP/2 a connection belongs to one. Default: one a core of this machine, as \"workers\" has it\n\n"
	  "Sources: Little's law (1961); Erlang's delay formula (1917); square-root staffing (Halfin and Whitt, 1981).\n\n"
	  "example: sluice pool-size --users 100 --response 8s --interval 30s\n",
	  command_pool_size },
	{ "flow", "print the stages of a request as a graph",
	  "usage: sluice flow\n\n"
	  "Prints the table of stages that every request goes through, in the DOT language.\n\n"
	  "example: sluice flow | dot -Tsvg >flow.svg\n",
	  command_flow },
	{ "version", "print the version and those of its libraries",
	  "usage: sluice version\n\n"
	  "example: sluice version\n",
	  command_version },
};
/* clang-format on */

static void print_help(FILE *out)
{
	fputs("Sluice: a gateway for slow, paid, quota-bound HTTP APIs\n\nusage: sluice COMMAND …\n\n", out);
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].line);
	fputs("\nsluice COMMAND --help tells more. Exit codes: 0 done, 1 failed, 2 used wrongly.\n", out);
}

int main(int argc, char **argv)
{
	const char *nearest = NULL;

	if (argc < 2) {
		print_help(stderr);
		return COMMAND_MISUSED;
	}
	if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return COMMAND_DONE;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0 ||
		    (strcmp(argv[1], "--version") == 0 && strcmp(commands[i].name, "version") == 0))
			return commands[i].run(&commands[i], argc - 1, argv + 1);
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		nearest = command_nearest(slice_of(argv[1]), nearest, commands[i].name);
	fprintf(stderr, "sluice: there is no command \"%s\"", argv[1]);
	if (nearest != NULL)
		fprintf(stderr, "; did you mean %s?", nearest);
	fputs("; see sluice help\n", stderr);
	return COMMAND_MISUSED;
}

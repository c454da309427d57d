/* What needs no running instance: check, config, flow, version. */
#include <curl/curl.h>
#include <event2/event.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <stdio.h>

#include "lib/buf.h"
#include "svc/command.h"
#include "svc/config.h"
#include "svc/flow.h"

enum { TEXT_MOST = 1024 * 1024 };

/* Prints what `write` writes; a full disk or a closed pipe is a failure, not silence. */
static int print(void write(struct buf *))
{
	struct buf text;
	bool good;

	buf_init(&text, TEXT_MOST);
	write(&text);
	good = !text.overflowed && fwrite(text.data, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
	buf_free(&text);
	if (!good)
		perror("sluice: stdout");
	return good ? COMMAND_DONE : COMMAND_FAILED;
}

/* What serve would refuse here for the process' files; it may run elsewhere. */
static bool warn_of_files(const char *path, const struct config *config)
{
	struct buf why;
	bool few;

	buf_init(&why, TEXT_MOST);
	command_raise_files(); /* as serve does */
	few = !command_may_keep(config, &why);
	if (few)
		fprintf(stderr, "%s: warning: serve refuses it where a process may open as few files as here: %.*s",
			path, SLICE_ARGS(buf_slice(&why)));
	buf_free(&why);
	return few;
}

int command_check(const struct command *c, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	const struct config *config;
	struct buf error;
	bool warned;
	int code = 0;

	if (command_option(c, argc, argv, options, &code) == -2)
		return code;
	if (argc - optind != 1)
		return command_misused(c, "found %d files; allowed: one", argc - optind);
	buf_init(&error, TEXT_MOST);
	config = config_load(argv[optind], &error);
	fprintf(stderr, "%.*s", SLICE_ARGS(buf_slice(&error))); /* or its warnings */
	warned = error.len > 0;
	if (config == NULL) {
		code = COMMAND_MISUSED;
	} else {
		warned |= warn_of_files(argv[optind], config);
		buf_clear(&error);
		config_write_summary(config, &error);
		printf("%s: fine%s: %.*s\n", argv[optind], warned ? ", with warnings" : "",
		       SLICE_ARGS(buf_slice(&error)));
		config_release(&config);
	}
	buf_free(&error);
	return code;
}

int command_config(const struct command *c, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' },
						 { "docs", no_argument, NULL, 'd' },
						 { "defaults", no_argument, NULL, 'f' },
						 { "example", no_argument, NULL, 'e' },
						 { 0 } };
	int code = 0, option = command_option(c, argc, argv, options, &code);

	if (option == -2)
		return code;
	if (option == -1 || optind != argc)
		return command_misused(c, "allowed: one of --docs, --defaults, --example");
	return print(option == 'd' ? config_write_docs : option == 'f' ? config_write_defaults : config_write_example);
}

int command_flow(const struct command *c, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	int code = 0;

	if (command_option(c, argc, argv, options, &code) == -2)
		return code;
	return optind != argc ? command_misused(c, "it takes no arguments") : print(flow_write_graph);
}

int command_version(const struct command *c, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	int code = 0;

	if (command_option(c, argc, argv, options, &code) == -2)
		return code;
	if (optind != argc)
		return command_misused(c, "it takes no arguments");
	printf("sluice %s\nlibcurl %s\nlibevent %s\n%s\n", SLUICE_VERSION, curl_version_info(CURLVERSION_NOW)->version,
	       event_get_version(), OpenSSL_version(OPENSSL_VERSION));
	return COMMAND_DONE;
}

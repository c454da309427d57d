/* One running instance. The boot, in order:
 *
 *   configuration ──► limits of the process ──► control loop, signals ──► Redis (a child of ours, when it is `embedded`; its socket must be there first)
 *   ──► server (doors, workers) ──► admin plane ──► threads ──► warm: ready ──► … SIGTERM: drain ──► everything freed, in reverse
 *
 * The first thread is the control thread: the child Redis dies with it, and signals come to it alone. */
#include <curl/curl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/embedded.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/redis.h"
#include "svc/admin.h"
#include "svc/command.h"
#include "svc/config.h"
#include "svc/server.h"

#define MISSED (35 * CLOCK_MILLISECOND)
enum { ERRORS_MOST = 64 * 1024, ERROR_MOST = 512, SPARE_DESCRIPTORS = 128 };

/* The whole instance; on the stack of command_serve. */
struct instance {
	const char *path;            /* of the configuration */
	const struct config *config; /* that it was started with */
	struct log *log;
	struct loop *loop;
	struct embedded *embedded;
	struct redis_options redis;
	struct redis_options answers; /* where cache.redis is another */
	struct server *server;
	struct admin *admin;
	int code;
	bool stopping, signalled;
	bool reload_awaits; /* asked for before there was a server: it comes when there is one */
};

/* ---- the process ---------------------------------------------------------------------------------------------------------- */

/* No secret gets into a core file or another process' hands. */
static void close_the_process(void)
{
	const struct rlimit none = { 0, 0 };

	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &none);
}

static int64_t at_most(int64_t count, int64_t bound)
{
	return bound > 0 && bound < count ? bound : count;
}

/* Every client may need a connection of its own, and an upstream's besides. */
static void warn_of_descriptors(const struct instance *in)
{
	const struct config *config = in->config;
	int64_t calls = 0, streams = 0, pools, wanted, allowed = command_files_allowed();

	for (size_t i = 0; i < config->upstreams_count; i++) {
		calls += config->upstreams[i].pool.max * (int64_t)config->upstreams[i].endpoints_count;
		streams += config->upstreams[i].pool.streams * (int64_t)config->upstreams[i].endpoints_count;
	}
	pools = at_most(calls, config->pool.max) + at_most(streams, config->pool.streams);
	wanted = config->client.connections + pools + SPARE_DESCRIPTORS;
	if (allowed < wanted)
		log_say(in->log, LOG_WARNING, "descriptors",
			"the process may open %lld files, and may need %lld: raise `ulimit -n`, or lower "
			"client.connections (%lld) or the pools' max and streams (%lld together)",
			(long long)allowed, (long long)wanted, (long long)config->client.connections, (long long)pools);
}

static const char *find_config(void)
{
	static const char *const places[] = { "sluice.yaml", "/etc/sluice/sluice.yaml" };
	const char *named = getenv("SLUICE_CONFIG");

	if (named != NULL && named[0] != '\0')
		return named;
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++)
		if (access(places[i], R_OK) == 0)
			return places[i];
	return NULL;
}

/* ---- end ------------------------------------------------------------------------------------------------------------------- */

/* The first failure is what the exit code says. */
static void stop(struct instance *in, int code)
{
	if (in->code == COMMAND_DONE)
		in->code = code;
	loop_stop(in->loop);
}

static void drained(void *arg)
{
	stop(arg, COMMAND_DONE);
}

static void drain(struct instance *in, bool wait)
{
	in->stopping = true;
	if (in->server == NULL)
		stop(in, COMMAND_DONE);
	else
		server_drain(in->server, wait, drained, in);
}

/* POST /drain; a SIGTERM behind it is the first signal still. */
static void on_drain(void *arg)
{
	drain(arg, true);
}

static void on_signal(struct instance *in, bool wait)
{
	if (in->signalled) {
		log_say(in->log, LOG_WARNING, "draining", "a second signal: what is left is cut");
		stop(in, COMMAND_FAILED);
		return;
	}
	in->signalled = true;
	drain(in, wait);
}

static void on_terminate(void *arg)
{
	on_signal(arg, true);
}

static void on_interrupt(void *arg)
{
	on_signal(arg, false);
}

/* ---- reload ---------------------------------------------------------------------------------------------------------------- */

static void say_lines(struct instance *in, enum log_level level, const char *event, struct slice lines)
{
	while (lines.len > 0) {
		struct slice line = slice_cut(lines, '\n', &lines);
		log_say(in->log, level, event, "%.*s", SLICE_ARGS(line));
	}
}

static void reload(struct instance *in)
{
	const struct config *next;
	struct buf error;

	in->reload_awaits = false;
	buf_init(&error, ERRORS_MOST);
	next = config_reload(in->path, &error);
	if (next != NULL) {
		say_lines(in, LOG_WARNING, "config", buf_slice(&error));
		buf_clear(&error);
	}
	if (next != NULL && config_may_reload(server_config(in->server), next, &error) &&
	    command_may_keep(next, &error)) {
		server_reload(in->server, next);
		log_set_level(in->log, (enum log_level)next->log_level);
		config_write_summary(next, &error);
		log_say(in->log, LOG_INFO, "reload", "%s: %.*s", in->path, SLICE_ARGS(buf_slice(&error)));
	} else {
		say_lines(in, LOG_ERROR, "reload_refused", buf_slice(&error));
		log_say(in->log, LOG_ERROR, "reload_refused", "%s: the configuration before it stays", in->path);
	}
	config_release(&next);
	buf_free(&error);
}

static void on_reload(void *arg)
{
	struct instance *in = arg;

	if (in->stopping)
		log_say(in->log, LOG_WARNING, "reload_refused", "draining: the configuration before it stays");
	else if (in->server == NULL)
		in->reload_awaits = true;
	else
		reload(in);
}

/* ---- boot ------------------------------------------------------------------------------------------------------------------ */

static void fail(struct instance *in, const char *what)
{
	fprintf(stderr, "sluice: %s\n", what);
	stop(in, COMMAND_FAILED);
}

/* An answer is missing when redis.timeout has passed; a little later Redis is away: the mode applies within 100 ms of the first one that is missing. */
static void set_patience(const struct instance *in, struct redis_options *redis)
{
	redis->patience = in->config->redis.timeout + MISSED;
}

static const struct redis_options *answers_of(struct instance *in)
{
	const char *reason;

	if (in->config->cache.redis == NULL)
		return &in->redis;
	CHECK(redis_options_parse(slice_of(in->config->cache.redis), &in->answers, &reason)); /* `check` has seen it */
	set_patience(in, &in->answers);
	return &in->answers;
}

/* Redis' address is known: the rest can begin. */
static void start_server(struct instance *in)
{
	char error[ERROR_MOST];

	set_patience(in, &in->redis);
	in->server = server_new(in->loop, in->config, &in->redis, answers_of(in), in->log, error, sizeof(error));
	if (in->server == NULL) {
		fail(in, error);
		return;
	}
	if (in->config->admin != NULL) {
		in->admin = admin_new(in->loop, in->server, on_drain, in, in->log, error, sizeof(error));
		if (in->admin == NULL) {
			fail(in, error);
			return;
		}
	}
	server_start(in->server);
	for (size_t i = 0; i < in->config->listen_count; i++)
		log_say(in->log, LOG_INFO, "started", "sluice %s on %s, admin on %s, %lld worker%s, pid %d",
			SLUICE_VERSION, in->config->listen[i],
			in->config->admin != NULL ? in->config->admin : "nothing", (long long)in->config->workers,
			in->config->workers == 1 ? "" : "s", (int)getpid());
	if (in->reload_awaits)
		reload(in);
}

static void on_embedded(void *arg, enum embedded_event event, const char *why)
{
	struct instance *in = arg;

	if (event == EMBEDDED_READY && in->server == NULL && !in->stopping)
		start_server(in);
	else if (event == EMBEDDED_READY)
		log_say(in->log, LOG_WARNING, "redis", "the embedded Redis was started again; what it held is gone");
	else if (in->server == NULL)
		fail(in, why);
	else
		log_say(in->log, LOG_ERROR, "redis", "the embedded Redis ended: %s", why);
}

static void start_embedded(struct instance *in)
{
	const struct embedded_options options = { .maxmemory = 0 };
	const char *ignored;
	char reason[ERROR_MOST], url[ERROR_MOST + 16];

	in->embedded = embedded_start(in->loop, &options, in->log, on_embedded, in, reason, sizeof(reason));
	if (in->embedded == NULL) {
		fail(in, reason);
		return;
	}
	snprintf(url, sizeof(url), "unix://%s", embedded_path(in->embedded));
	CHECK(redis_options_parse(slice_of(url), &in->redis, &ignored));
}

/* In the loop's first turn, so that a failure can stop it. */
static void boot(void *arg)
{
	struct instance *in = arg;
	const char *reason;

	if (strcmp(in->config->redis.url, "embedded") == 0) {
		start_embedded(in);
		return;
	}
	CHECK(redis_options_parse(slice_of(in->config->redis.url), &in->redis, &reason)); /* `check` has seen it */
	start_server(in);
}

static void take_signals(struct instance *in)
{
	signal(SIGPIPE, SIG_IGN);
	loop_signal(in->loop, SIGTERM, on_terminate, in);
	loop_signal(in->loop, SIGINT, on_interrupt, in);
	loop_signal(in->loop, SIGHUP, on_reload, in);
}

static int run(struct instance *in)
{
	CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
	in->log = log_new(STDOUT_FILENO, (enum log_level)in->config->log_level);
	warn_of_descriptors(in);
	in->loop = loop_new();
	take_signals(in);
	loop_post(in->loop, boot, in);
	loop_run(in->loop);
	admin_free(&in->admin);
	server_free(&in->server);
	embedded_stop(&in->embedded);
	log_say(in->log, LOG_INFO, "stopped", "exit code %d", in->code);
	loop_free(&in->loop);
	redis_options_free(&in->redis);
	redis_options_free(&in->answers);
	log_free(&in->log);
	curl_global_cleanup();
	return in->code;
}

int command_serve(const struct command *c, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' },
						 { "config", required_argument, NULL, 'c' },
						 { 0 } };
	struct instance in = { .path = NULL };
	struct buf error;
	int code = 0, option;

	while ((option = command_option(c, argc, argv, options, &code)) == 'c')
		in.path = optarg;
	if (option == -2)
		return code;
	if (optind != argc)
		return command_misused(c, "found \"%s\"; the file is given with -c", argv[optind]);
	if (in.path == NULL)
		in.path = find_config();
	if (in.path == NULL)
		return command_misused(
			c, "there is no $SLUICE_CONFIG, ./sluice.yaml or /etc/sluice/sluice.yaml, and no -c FILE");
	close_the_process();
	command_raise_files();
	buf_init(&error, ERRORS_MOST);
	in.config = config_load(in.path, &error);
	fprintf(stderr, "%.*s", SLICE_ARGS(buf_slice(&error))); /* or its warnings */
	buf_clear(&error);
	if (in.config == NULL) {
		code = COMMAND_MISUSED;
	} else if (command_may_keep(in.config, &error)) {
		code = run(&in);
	} else {
		fprintf(stderr, "sluice: %.*s", SLICE_ARGS(buf_slice(&error)));
		code = COMMAND_FAILED;
	}
	config_release(&in.config);
	buf_free(&error);
	return code;
}

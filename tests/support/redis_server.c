#include "tests/support/redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/slice.h"
#include "tests/support/port.h"

#define READY_WITHIN_MS 20000
#define MOST_ARGUMENTS  64

struct redis_server {
	char folder[64], path[96], url[128];
	struct port port;                 /* { 0 }: it does not listen on TCP */
	pid_t pid;                        /* 0: not running */
	int log;                          /* the reading end of its standard output, -1 while it is not running */
	redisContext *context;            /* made at the first command */
	const char *more[MOST_ARGUMENTS]; /* copies */
	size_t more_count;
};

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "redis_server: %s: %s\n", what, strerror(errno));
	abort();
}

static _Noreturn void run_child(struct redis_server *s, int log_end, pid_t parent)
{
	char port[16];
	const char *arguments[MOST_ARGUMENTS + 32] = { "redis-server", "--port",       port,    "--bind",
						       "127.0.0.1",    "--unixsocket", s->path, "--dir",
						       s->folder,      "--save",       "",      "--appendonly",
						       "no",           "--daemonize",  "no" };
	size_t count = 15;
	for (size_t i = 0; i < s->more_count; i++)
		arguments[count++] = s->more[i];
	arguments[count] = NULL;
	snprintf(port, sizeof(port), "%d", s->port.number);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	dup2(log_end, 1);
	dup2(log_end, 2);
	execvp("redis-server", (char *const *)(uintptr_t)arguments);
	_exit(127);
}

static void wait_until_ready(struct redis_server *s)
{
	char text[16384];
	size_t len = 0;
	for (;;) {
		struct pollfd wait = { .fd = s->log, .events = POLLIN };
		if (poll(&wait, 1, READY_WITHIN_MS) <= 0)
			give_up("redis-server did not become ready");
		ssize_t got = read(s->log, text + len, sizeof(text) - 1 - len);
		if (got <= 0) {
			text[len] = '\0';
			fprintf(stderr, "%s", text);
			give_up("redis-server ended before it was ready");
		}
		len += (size_t)got;
		text[len] = '\0';
		if (strcasestr(text, "ready to accept connections") != NULL)
			return;
		if (len > sizeof(text) / 2) { /* keep the end: the words may be cut in two */
			memmove(text, text + len - 256, 256);
			len = 256;
		}
	}
}

static void launch(struct redis_server *s)
{
	int ends[2];
	pid_t parent = getpid();
	if (pipe2(ends, O_CLOEXEC) != 0)
		give_up("pipe");
	fcntl(ends[1], F_SETFL, O_NONBLOCK); /* a full pipe drops its log lines instead of stopping it */
	s->pid = fork();
	if (s->pid < 0)
		give_up("fork");
	if (s->pid == 0)
		run_child(s, ends[1], parent);
	close(ends[1]);
	s->log = ends[0];
	wait_until_ready(s);
}

struct redis_server *redis_server_start(const struct redis_server_options *options)
{
	struct redis_server *s = calloc(1, sizeof(*s));
	if (s == NULL)
		give_up("memory");
	strcpy(s->folder, "/tmp/sluice-test-redis-XXXXXX");
	if (mkdtemp(s->folder) == NULL)
		give_up(s->folder);
	snprintf(s->path, sizeof(s->path), "%s/socket", s->folder);
	snprintf(s->url, sizeof(s->url), "unix://%s", s->path);
	if (options != NULL && options->tcp)
		s->port = port_claim();
	for (const char *const *a = options == NULL ? NULL : options->arguments; a != NULL && *a != NULL; a++) {
		CHECK(s->more_count < MOST_ARGUMENTS);
		s->more[s->more_count++] = strdup(*a);
	}
	s->log = -1;
	launch(s);
	return s;
}

static void drop_context(struct redis_server *s)
{
	if (s->context != NULL)
		redisFree(s->context);
	s->context = NULL;
}

void redis_server_kill(struct redis_server *s)
{
	drop_context(s);
	if (s->pid == 0)
		return;
	kill(s->pid, SIGKILL);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	s->pid = 0;
	close(s->log);
	s->log = -1;
}

void redis_server_restart(struct redis_server *s)
{
	redis_server_kill(s);
	launch(s);
}

void redis_server_free(struct redis_server **server)
{
	struct redis_server *s = *server;
	*server = NULL;
	if (s == NULL)
		return;
	redis_server_kill(s);
	port_release(&s->port);
	unlink(s->path);
	char dump[128]; /* of a test that lets it save */
	snprintf(dump, sizeof(dump), "%s/dump.rdb", s->folder);
	unlink(dump);
	if (rmdir(s->folder) != 0)
		fprintf(stderr, "redis_server: %s is left behind: %s\n", s->folder, strerror(errno));
	for (size_t i = 0; i < s->more_count; i++)
		free((void *)(uintptr_t)s->more[i]);
	free(s);
}

const char *redis_server_path(const struct redis_server *s)
{
	return s->path;
}

const char *redis_server_url(const struct redis_server *s)
{
	return s->url;
}

int redis_server_port(const struct redis_server *s)
{
	return s->port.number;
}

int redis_server_pid(const struct redis_server *s)
{
	return (int)s->pid;
}

void redis_server_pause(struct redis_server *s)
{
	int status;
	kill(s->pid, SIGSTOP);
	if (waitpid(s->pid, &status, WUNTRACED) != s->pid || !WIFSTOPPED(status))
		give_up("redis-server did not stop");
}

void redis_server_resume(struct redis_server *s)
{
	kill(s->pid, SIGCONT);
}

static redisReply *command(struct redis_server *s, const char *format, va_list arguments)
{
	if (s->context == NULL)
		s->context = redisConnectUnix(s->path);
	if (s->context == NULL || s->context->err != 0)
		give_up("no connection to redis-server");
	redisReply *reply = redisvCommand(s->context, format, arguments);
	if (reply == NULL)
		give_up("redis-server is away");
	return reply;
}

static void must_not_fail(const redisReply *reply, const char *format)
{
	if (reply->type != REDIS_REPLY_ERROR)
		return;
	fprintf(stderr, "redis_server: %s: %s\n", format, reply->str);
	abort();
}

struct redisReply *redis_server_command(struct redis_server *s, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	redisReply *reply = command(s, format, arguments);
	va_end(arguments);
	return reply;
}

void redis_server_do(struct redis_server *s, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	redisReply *reply = command(s, format, arguments);
	va_end(arguments);
	must_not_fail(reply, format);
	freeReplyObject(reply);
}

int64_t redis_server_int(struct redis_server *s, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	redisReply *reply = command(s, format, arguments);
	va_end(arguments);
	must_not_fail(reply, format);
	int64_t value = reply->type == REDIS_REPLY_INTEGER ? reply->integer
			: reply->type == REDIS_REPLY_NIL   ? -1
			: reply->str != NULL               ? strtoll(reply->str, NULL, 10)
							   : -1;
	freeReplyObject(reply);
	return value;
}

int64_t redis_server_calls(struct redis_server *s)
{
	static const char *const other[] = { "evalsha", "info",    "script|load", "keys",
					     "dump",    "pttl",    "config|get",  "config|set",
					     "ping",    "command", "psubscribe",  "flushall" };
	redisReply *info = redis_server_command(s, "INFO commandstats");
	int64_t total = 0;

	for (char *line = strstr(info->str, "cmdstat_"); line != NULL; line = strstr(line + 1, "cmdstat_")) {
		char *name = line + strlen("cmdstat_"), *calls = strstr(line, ":calls=");
		bool counts = calls != NULL;
		for (size_t i = 0; counts && i < ARRAY_LENGTH(other); i++)
			counts = !slice_equal(slice_make(name, (size_t)(calls - name)), slice_of(other[i]));
		if (counts)
			total += strtoll(calls + strlen(":calls="), NULL, 10);
	}
	freeReplyObject(info);
	return total;
}

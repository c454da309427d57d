/* See embedded.h. Readiness and death are both read from the child's standard output: its log says when it accepts connections, and
 * the end of that pipe is its end. So nothing polls, and nothing depends on SIGCHLD, which belongs to the program. */
#include "lib/embedded.h"
#include "lib/clock.h"
#include "lib/embedded_folder.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EMBEDDED_MAGIC 0x656d6264u
#define READY_WITHIN   (10 * CLOCK_SECOND)
#define FIRST_DELAY    (100 * CLOCK_MILLISECOND)
#define LAST_DELAY     (5 * CLOCK_SECOND)
#define STEADY         (10 * CLOCK_SECOND) /* who lived so long starts the back-off anew */
#define MOST_ARGUMENTS 32

enum state { STATE_STARTING, STATE_READY, STATE_RESTING };

/* Owned by who started it; its memory goes at the end of the turn after embedded_stop. pid and output are 0 and -1 while it rests. */
struct embedded {
	unsigned magic;
	enum state state;
	bool stopped;
	struct loop *loop;
	struct log *log;
	embedded_changed *changed;
	void *arg;
	char program[PATH_MAX];
	char socket[EMBEDDED_FOLDER_MAX + 16];
	char maxmemory[24];
	struct embedded_folder folder;
	pid_t pid;
	int output;
	struct event *readable;
	struct loop_timer timer; /* starting: its patience; resting: the back-off */
	struct loop_deferred death;
	int64_t started, delay;
	char line[256]; /* of its log, the one being read */
	size_t line_len;
	char last[256]; /* the last whole one, to say why it died */
};

static bool is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

/* As execvp would, but before the fork, so that a missing program is an answer and not a dead child. */
static bool find_program(const char *name, char *path, size_t size)
{
	if (strchr(name, '/') != NULL) {
		snprintf(path, size, "%s", name);
		return is_program(path);
	}
	const char *folders = getenv("PATH");
	struct slice rest = slice_of(folders == NULL ? "/usr/local/bin:/usr/bin:/bin" : folders);
	while (rest.len > 0) {
		struct slice folder = slice_cut(rest, ':', &rest);
		int length = snprintf(path, size, "%.*s/%s", SLICE_ARGS(folder), name);
		if (folder.len > 0 && length > 0 && (size_t)length < size && is_program(path))
			return true;
	}
	return false;
}

/* Between fork and exec of a process with threads only async-signal-safe calls are allowed: everything is prepared before. */
static _Noreturn void become_redis(const struct embedded *e, const char *const *arguments, int output, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(126);
	setpgid(0, 0); /* Ctrl-C is for the gateway, which still needs its Redis while it drains */
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	int nothing = open("/dev/null", O_RDONLY);
	if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
		_exit(126);
#ifdef SYS_close_range
	syscall(SYS_close_range, 3u, ~0u, 0u); /* where the kernel is older, CLOEXEC does it */
#endif
	execv(e->program, (char *const *)(uintptr_t)arguments);
	_exit(127);
}

static bool launch(struct embedded *e)
{
	/* clang-format off */
	const char *arguments[MOST_ARGUMENTS] = {
		e->program,
		"--port", "0", "--unixsocket", e->socket, "--unixsocketperm", "700",
		"--dir", e->folder.path, "--save", "", "--appendonly", "no",
		"--maxmemory", e->maxmemory, "--maxmemory-policy", "noeviction",
		"--daemonize", "no", "--supervised", "no", "--logfile", "", "--loglevel", "notice",
	};
	/* clang-format on */
	int ends[2];
	pid_t parent = getpid();
	if (pipe2(ends, O_CLOEXEC) != 0)
		return false;
	e->pid = fork();
	if (e->pid == 0)
		become_redis(e, arguments, ends[1], parent);
	close(ends[1]);
	if (e->pid < 0) {
		close(ends[0]);
		e->pid = 0;
		return false;
	}
	e->output = ends[0];
	(void)fcntl(e->output, F_SETFL, O_NONBLOCK);
	return true;
}

static void say(struct embedded *e, pid_t pid, enum log_level level, const char *event, const char *why)
{
	struct log_line line;
	log_begin(&line, e->log, level, event);
	log_text(&line, "socket", slice_of(e->socket));
	if (pid != 0)
		log_int(&line, "pid", pid);
	if (why[0] != '\0')
		log_text(&line, "reason", slice_of(why));
	log_end(&line);
}

/* Kills what is left of the child and takes its end: how it was, as waitpid says. It was killed or has closed its output, so it ends without delay; what was ending
 * already is not changed by the signal. */
static int reap(struct embedded *e)
{
	int ended = 0;
	if (e->readable != NULL)
		event_free(e->readable);
	e->readable = NULL;
	if (e->output >= 0)
		close(e->output);
	e->output = -1;
	if (e->pid == 0)
		return ended;
	kill(e->pid, SIGKILL);
	while (waitpid(e->pid, &ended, 0) < 0 && errno == EINTR)
		continue;
	e->pid = 0;
	return ended;
}

/* `why` NULL: it ended by itself. What was killed had no last word: what it wrote last is of another time. */
static void rest(struct embedded *e, const char *why)
{
	char text[sizeof(e->last)];
	pid_t pid = e->pid;
	int ended = reap(e);
	if (why == NULL && WIFSIGNALED(ended))
		snprintf(text, sizeof(text), "ended by signal %d", WTERMSIG(ended));
	else
		snprintf(text, sizeof(text), "%s",
			 why != NULL          ? why
			 : e->last[0] != '\0' ? e->last
					      : "it ended without a word");
	say(e, pid, LOG_ERROR, "embedded_redis_died", text);
	e->delay = e->delay == 0 || clock_now() - e->started > STEADY ? FIRST_DELAY : 2 * e->delay;
	if (e->delay > LAST_DELAY)
		e->delay = LAST_DELAY;
	e->state = STATE_RESTING;
	loop_timer_set(&e->timer, e->delay);
	e->changed(e->arg, EMBEDDED_DIED, text);
}

static void become_ready(struct embedded *e)
{
	e->state = STATE_READY;
	loop_timer_clear(&e->timer);
	say(e, e->pid, LOG_INFO, "embedded_redis_ready", "");
	e->changed(e->arg, EMBEDDED_READY, "");
}

/* One line of its log. 7.0 writes "The server is now ready to accept connections at …", 7.2 and later "Ready to accept
 * connections unix": the common words are looked for. */
static void read_line(struct embedded *e)
{
	e->line[e->line_len] = '\0';
	if (e->line_len > 0)
		memcpy(e->last, e->line, e->line_len + 1);
	e->line_len = 0;
	if (e->state == STATE_STARTING && strstr(e->last, "eady to accept connections") != NULL)
		become_ready(e);
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
	struct embedded *e = arg;
	char bytes[4096];
	(void)what;
	CHECK(e->magic == EMBEDDED_MAGIC);
	ssize_t got = read(fd, bytes, sizeof(bytes));
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	for (ssize_t i = 0; i < got && !e->stopped; i++) {
		if (bytes[i] == '\n')
			read_line(e);
		else if (e->line_len < sizeof(e->line) - 1)
			e->line[e->line_len++] = bytes[i];
	}
	if (got <= 0 && !e->stopped)
		rest(e, NULL);
}

static void begin(struct embedded *e)
{
	e->state = STATE_STARTING;
	e->started = clock_now();
	e->line_len = 0;
	e->last[0] = '\0';
	if (!launch(e)) {
		rest(e, strerror(errno));
		return;
	}
	e->readable = event_new(loop_base(e->loop), e->output, EV_READ | EV_PERSIST, on_output, e);
	CHECK(e->readable != NULL); /* a failed small allocation */
	event_add(e->readable, NULL);
	loop_timer_set(&e->timer, READY_WITHIN);
}

static void on_timer(void *arg)
{
	struct embedded *e = arg;
	CHECK(e->magic == EMBEDDED_MAGIC);
	if (e->state == STATE_RESTING)
		begin(e);
	else if (e->state == STATE_STARTING)
		rest(e, "it was not ready in time");
}

static void on_death(void *arg)
{
	struct embedded *e = arg;
	loop_timer_free(&e->timer);
	e->magic = 0;
	mem_free(e);
}

static const char *parent_folder(const struct embedded_options *options)
{
	const char *folder = options->folder != NULL ? options->folder : getenv("TMPDIR");
	return folder != NULL && folder[0] == '/' ? folder : "/tmp";
}

struct embedded *embedded_start(struct loop *loop, const struct embedded_options *options, struct log *log,
				embedded_changed *changed, void *arg, char *reason, size_t size)
{
	CHECK(gettid() == getpid()); /* the child dies with the thread that forks it */
	const char *program = options->program != NULL ? options->program : "redis-server";
	struct embedded *e = mem_new(sizeof(*e));
	if (!find_program(program, e->program, sizeof(e->program))) {
		snprintf(reason, size,
			 "%s was not found: install it (Debian: apt-get install redis-server) or name "
			 "another Redis",
			 program);
		mem_free(e);
		return NULL;
	}
	if (!embedded_folder_make(&e->folder, parent_folder(options))) {
		snprintf(reason, size, "no directory for the embedded Redis in %s: %s", parent_folder(options),
			 strerror(errno));
		mem_free(e);
		return NULL;
	}
	e->magic = EMBEDDED_MAGIC;
	e->loop = loop;
	e->log = log;
	e->changed = changed;
	e->arg = arg;
	e->output = -1;
	snprintf(e->socket, sizeof(e->socket), "%s/redis.sock", e->folder.path);
	snprintf(e->maxmemory, sizeof(e->maxmemory), "%lld", (long long)options->maxmemory);
	loop_deferred_init(&e->death, on_death, e);
	loop_timer_init(&e->timer, loop, on_timer, e);
	e->state = STATE_RESTING;
	loop_timer_set(&e->timer, 0); /* no callback inside the start: even a failed fork is told from the loop */
	return e;
}

void embedded_stop(struct embedded **embedded)
{
	struct embedded *e = *embedded;
	*embedded = NULL;
	if (e == NULL)
		return;
	CHECK(e->magic == EMBEDDED_MAGIC && !e->stopped);
	e->stopped = true;
	loop_timer_clear(&e->timer);
	reap(e);
	embedded_folder_remove(&e->folder);
	loop_defer(e->loop, &e->death);
}

const char *embedded_path(const struct embedded *e)
{
	return e->socket;
}

int embedded_pid(const struct embedded *e)
{
	return (int)e->pid;
}

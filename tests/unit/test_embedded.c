/* lib/embedded: a real child, its readiness, its death, the gateway's death, and what is left in the file system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/embedded.h"
#include "lib/embedded_folder.h"
#include "lib/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct seen {
	int ready, died;
	char why[256];
	struct embedded **stop; /* at the next event */
};

static char parent[64];

static int begin(void **state)
{
	(void)state;
	strcpy(parent, "/tmp/sluice-test-embedded-XXXXXX");
	return mkdtemp(parent) == NULL ? -1 : 0;
}

static int count_in(const char *folder)
{
	int count = -2; /* . and .. */
	DIR *entries = opendir(folder);
	assert_non_null(entries);
	while (readdir(entries) != NULL)
		count++;
	closedir(entries);
	return count;
}

static int end(void **state)
{
	(void)state;
	return rmdir(parent); /* nothing was left in it */
}

static void on_change(void *arg, enum embedded_event event, const char *why)
{
	struct seen *s = arg;
	if (event == EMBEDDED_READY)
		s->ready++;
	else
		s->died++;
	snprintf(s->why, sizeof(s->why), "%s", why);
	if (s->stop != NULL)
		embedded_stop(s->stop);
}

static struct embedded *start(struct loop *loop, struct seen *s, const char *program)
{
	const struct embedded_options options = { .program = program, .folder = parent };
	char reason[256] = "";
	struct embedded *e = embedded_start(loop, &options, NULL, on_change, s, reason, sizeof(reason));
	if (e == NULL)
		snprintf(s->why, sizeof(s->why), "%s", reason);
	return e;
}

static void until(struct loop *loop, const int *counter, int least)
{
	int64_t limit = clock_now() + 60 * CLOCK_SECOND;
	while (*counter < least) {
		assert_true(clock_now() < limit);
		loop_turn(loop, true);
	}
}

static int64_t ask(const char *path, const char *command)
{
	redisContext *context = redisConnectUnix(path);
	assert_non_null(context);
	assert_int_equal(context->err, 0);
	redisReply *reply = redisCommand(context, command);
	assert_non_null(reply);
	int64_t number = reply->integer;
	freeReplyObject(reply);
	redisFree(context);
	return number;
}

static void it_answers_when_it_says_ready(void **state)
{
	struct loop *loop = loop_new();
	struct seen s = { 0 };
	struct stat status;
	char folder[128];
	(void)state;
	struct embedded *e = start(loop, &s, NULL);
	assert_non_null(e);
	assert_int_equal(s.ready, 0); /* nothing inside the start */
	until(loop, &s.ready, 1);
	assert_int_equal(ask(embedded_path(e), "INCR key"), 1);
	snprintf(folder, sizeof(folder), "%s", embedded_path(e));
	*strrchr(folder, '/') = '\0';
	assert_int_equal(stat(folder, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0700);
	int pid = embedded_pid(e);
	embedded_stop(&e);
	assert_null(e);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(count_in(parent), 0);
	loop_free(&loop);
}

static void it_is_private_and_forgets(void **state)
{
	struct loop *loop = loop_new();
	struct seen s = { 0 };
	(void)state;
	struct embedded *e = start(loop, &s, NULL);
	until(loop, &s.ready, 1);
	redisContext *context = redisConnectUnix(embedded_path(e));
	static const char *const wanted[][2] = {
		{ "port", "0" }, { "save", "" }, { "appendonly", "no" }, { "maxmemory-policy", "noeviction" }
	};
	for (size_t i = 0; i < ARRAY_LENGTH(wanted); i++) {
		redisReply *reply = redisCommand(context, "CONFIG GET %s", wanted[i][0]);
		assert_int_equal(reply->elements, 2);
		assert_string_equal(reply->element[1]->str, wanted[i][1]);
		freeReplyObject(reply);
	}
	redisFree(context);
	embedded_stop(&e);
	loop_free(&loop);
}

static void killed_it_is_started_again_at_the_same_place(void **state)
{
	struct loop *loop = loop_new();
	struct seen s = { 0 };
	char path[128];
	(void)state;
	struct embedded *e = start(loop, &s, NULL);
	until(loop, &s.ready, 1);
	snprintf(path, sizeof(path), "%s", embedded_path(e));
	ask(path, "INCR key");
	kill(embedded_pid(e), SIGKILL);
	until(loop, &s.died, 1);
	assert_int_equal(embedded_pid(e), 0);
	assert_string_equal(s.why, "ended by signal 9");
	until(loop, &s.ready, 2);
	assert_string_equal(embedded_path(e), path);
	assert_int_equal(ask(path, "INCR key"), 1);
	embedded_stop(&e);
	loop_free(&loop);
}

static void a_missing_program_is_said_clearly(void **state)
{
	struct loop *loop = loop_new();
	struct seen s = { 0 };
	char before[4096];
	(void)state;
	snprintf(before, sizeof(before), "%s", getenv("PATH"));
	setenv("PATH", parent, 1);
	assert_null(start(loop, &s, NULL));
	setenv("PATH", before, 1);
	assert_non_null(strstr(s.why, "redis-server was not found"));
	assert_int_equal(count_in(parent), 0);
	assert_null(start(loop, &s, "/nowhere/redis-server"));
	loop_free(&loop);
}

static void a_program_that_ends_at_once_is_told_with_its_last_word(void **state)
{
	struct loop *loop = loop_new();
	struct seen s = { 0 };
	char program[96];
	(void)state;
	snprintf(program, sizeof(program), "%s/fails", parent);
	int fd = open(program, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "#!/bin/sh\necho first\necho out of luck\nexit 1\n") > 0);
	close(fd);
	struct embedded *e = start(loop, &s, program);
	until(loop, &s.died, 2); /* and it is tried again */
	assert_string_equal(s.why, "out of luck");
	assert_int_equal(s.ready, 0);
	embedded_stop(&e);
	unlink(program);
	loop_free(&loop);
}

static void it_may_be_stopped_from_its_callback(void **state)
{
	struct loop *loop = loop_new();
	(void)state;
	for (int i = 0; i < 2; i++) { /* when it is ready, when it died */
		struct seen s = { 0 };
		struct embedded *e = start(loop, &s, NULL);
		if (i == 1) {
			until(loop, &s.ready, 1);
			kill(embedded_pid(e), SIGKILL);
		}
		s.stop = &e;
		until(loop, i == 0 ? &s.ready : &s.died, 1);
		assert_null(e);
		loop_turn(loop, false);
		assert_int_equal(count_in(parent), 0);
	}
	loop_free(&loop);
}

/* A gateway of its own process: starts the embedded Redis, tells its pid, waits to be killed. */
static _Noreturn void be_a_gateway(int tell)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test end before it ends us */
	struct loop *loop = loop_new();
	struct seen s = { 0 };
	struct embedded *e = start(loop, &s, NULL);
	until(loop, &s.ready, 1);
	int pid = embedded_pid(e);
	if (write(tell, &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
		_exit(1);
	for (;;)
		loop_turn(loop, true);
}

static void killed_with_its_gateway_and_swept_by_the_next(void **state)
{
	int ends[2], redis_pid;
	struct seen s = { 0 };
	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t gateway = fork();
	if (gateway == 0)
		be_a_gateway(ends[1]);
	close(ends[1]);
	assert_int_equal(read(ends[0], &redis_pid, sizeof(redis_pid)), sizeof(redis_pid));
	int redis = (int)syscall(SYS_pidfd_open, redis_pid, 0);
	assert_true(redis >= 0);
	struct loop *loop = loop_new();
	struct embedded *e = start(loop, &s, NULL); /* a neighbour, whose start leaves the living alone */
	until(loop, &s.ready, 1);
	assert_int_equal(count_in(parent), 2);
	embedded_stop(&e);
	assert_int_equal(count_in(parent), 1);
	kill(gateway, SIGKILL);
	assert_int_equal(waitpid(gateway, NULL, 0), gateway);
	struct pollfd gone = { .fd = redis, .events = POLLIN };
	assert_int_equal(poll(&gone, 1, 20000), 1); /* it died too */
	close(redis);
	close(ends[0]);
	assert_int_equal(count_in(parent), 1); /* nobody could remove it */
	e = start(loop, &s, NULL);
	assert_int_equal(count_in(parent), 1); /* the old one is gone, this is the new one */
	embedded_stop(&e);
	loop_free(&loop);
}

static void folders_of_many_starts_at_once_do_not_meet(void **state)
{
	pid_t children[8];
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(children); i++) {
		children[i] = fork();
		if (children[i] != 0)
			continue;
		for (int round = 0; round < 200; round++) {
			struct embedded_folder folder;
			struct stat status;
			if (!embedded_folder_make(&folder, parent) || stat(folder.path, &status) != 0)
				_exit(1);
			embedded_folder_remove(&folder);
			embedded_folder_remove(&folder);
		}
		_exit(0);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(children); i++) {
		int status;
		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(count_in(parent), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(it_answers_when_it_says_ready),
		TEST(it_is_private_and_forgets),
		TEST(killed_it_is_started_again_at_the_same_place),
		TEST(a_missing_program_is_said_clearly),
		TEST(a_program_that_ends_at_once_is_told_with_its_last_word),
		TEST(it_may_be_stopped_from_its_callback),
		TEST(killed_with_its_gateway_and_swept_by_the_next),
		TEST(folders_of_many_starts_at_once_do_not_meet),
	};
	alarm(300); /* a hang is a failure */
	return cmocka_run_group_tests_name("embedded", tests, NULL, NULL);
}

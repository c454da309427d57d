/* The end of a broken program: what it says, and that it is over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/map.h"
#include "lib/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `fail` in a child without a core; its stderr goes to `said`. It must die of SIGABRT. */
static void dies(void (*broken)(void), char *said, size_t size)
{
	int ends[2], status;
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit none = { 0, 0 };
		if (setrlimit(RLIMIT_CORE, &none) == 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO &&
		    signal(SIGABRT, SIG_DFL) != SIG_ERR)
			broken();
		_exit(EXIT_SUCCESS);
	}
	close(ends[1]);
	size_t len = 0;
	for (ssize_t got; len < size - 1 && (got = read(ends[0], said + len, size - 1 - len)) > 0; len += (size_t)got)
		;
	said[len] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void broken_in_a_stage(void)
{
	base_note("admit", "request-7.1");
	CHECK(1 + 1 == 3);
}

static void broken_without_a_note(void)
{
	base_note("admit", "request-7.1");
	base_note(NULL, NULL);
	CHECK(1 + 1 == 3);
}

static void *note_elsewhere(void *arg)
{
	base_note("settle", arg);
	return NULL;
}

static void broken_beside_another_thread(void)
{
	pthread_t other;
	base_note("admit", "mine");
	CHECK(pthread_create(&other, NULL, note_elsewhere, "other") == 0 && pthread_join(other, NULL) == 0);
	CHECK(1 + 1 == 3);
}

static void broken_at_length(void)
{
	static char object[5000];
	memset(object, 'x', sizeof(object) - 1);
	base_note("admit", object);
	CHECK(1 + 1 == 3);
}

static void says_where_and_in_what(void **state)
{
	char said[4096];
	(void)state;
	dies(broken_in_a_stage, said, sizeof(said));
	assert_memory_equal(said, "sluice: tests/unit/test_base.c:", 31);
	assert_non_null(strstr(said, ": broken: 1 + 1 == 3, in admit of request-7.1\n"));
	dies(broken_without_a_note, said, sizeof(said));
	assert_non_null(strstr(said, ": broken: 1 + 1 == 3\n"));
}

static void a_note_is_its_threads_own(void **state)
{
	char said[4096];
	(void)state;
	dies(broken_beside_another_thread, said, sizeof(said));
	assert_non_null(strstr(said, ", in admit of mine\n"));
}

static void a_long_message_is_one_line(void **state)
{
	char said[8192];
	(void)state;
	dies(broken_at_length, said, sizeof(said));
	assert_int_equal(strlen(said), 1023);
	assert_ptr_equal(strchr(said, '\n'), said + 1022);
}

static void array_that_wraps_around(void)
{
	volatile size_t count = SIZE_MAX;
	mem_free(mem_new_array(count, 2));
}

static void map_without_a_value(void)
{
	struct map *map = map_new();
	map_put(map, SLICE("key"), NULL);
}

static void drop_of_more_than_there_is(void)
{
	char memory[4];
	struct buf b;
	buf_wrap(&b, memory, sizeof(memory), 2);
	buf_drop_front(&b, 3);
}

static void arena_without_a_ceiling(void)
{
	struct mem *mem = mem_arena(0);
	mem_arena_free(&mem);
}

static void programmers_errors_end_it(void **state)
{
	static void (*const fails[])(void) = { array_that_wraps_around, map_without_a_value, drop_of_more_than_there_is,
					       arena_without_a_ceiling };
	char said[4096];
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(fails); i++) {
		dies(fails[i], said, sizeof(said));
		assert_non_null(strstr(said, ": broken: "));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_where_and_in_what),
		cmocka_unit_test(a_note_is_its_threads_own),
		cmocka_unit_test(a_long_message_is_one_line),
		cmocka_unit_test(programmers_errors_end_it),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}

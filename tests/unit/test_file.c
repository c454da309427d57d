/* lib/file: whole contents, ceilings, reasons, and files that would make a reader wait. */
#include "lib/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/buf.h"

static char folder[] = "/tmp/sluice-file-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/f", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

static void write_file(const char *bytes, size_t length)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void judge_refused(const char *name, enum file_patience patience, const char *wanted)
{
	struct buf into;
	const char *reason;

	buf_init(&into, 1000);
	assert_false(file_read(name, patience, &into, &reason));
	assert_string_equal(reason, wanted);
	buf_free(&into);
}

static void appends_the_whole(void **state)
{
	static char big[100001];
	const char *reason;
	struct buf into;

	(void)state;
	memset(big, 'x', sizeof(big));
	for (enum file_patience patience = FILE_REGULAR; patience <= FILE_ANY; patience++) {
		buf_init(&into, sizeof(big) + 1);
		buf_append_byte(&into, '<');
		write_file(big, sizeof(big));
		assert_true(file_read(path, patience, &into, &reason));
		assert_int_equal(into.len, sizeof(big) + 1);
		assert_memory_equal(into.data + 1, big, sizeof(big));
		write_file("", 0);
		assert_true(file_read(path, patience, &into, &reason));
		assert_int_equal(into.len, sizeof(big) + 1);
		buf_free(&into);
	}
	unlink(path);
}

static void says_why_not(void **state)
{
	(void)state;
	judge_refused(path, FILE_ANY, "No such file or directory");
	judge_refused(folder, FILE_ANY, "Is a directory");
	judge_refused(folder, FILE_REGULAR, "Is a directory");
	judge_refused("/dev/zero", FILE_ANY, "File too large");
	judge_refused("/dev/zero", FILE_REGULAR, "it is not a regular file");
}

static void waits_for_a_pipe_only_when_it_may(void **state)
{
	const char *reason;
	struct buf into;
	int ends[2];

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	judge_refused(path, FILE_REGULAR, "it is not a regular file");
	unlink(path);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "piped", 5), 5);
	close(ends[1]);
	snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
	buf_init(&into, 1000);
	assert_true(file_read(path, FILE_ANY, &into, &reason));
	assert_true(slice_equal(buf_slice(&into), SLICE("piped")));
	buf_free(&into);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appends_the_whole),
		cmocka_unit_test(says_why_not),
		cmocka_unit_test(waits_for_a_pipe_only_when_it_may),
	};
	return cmocka_run_group_tests_name("file", tests, make_folder, remove_folder);
}

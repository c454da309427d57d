/* Log lines: always JSON, never torn, never waited for, never lost without a word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

static json_t *read_line(int descriptor)
{
	char text[LOG_LINE_MAX + 1];
	size_t len = 0;
	while (len < LOG_LINE_MAX && read(descriptor, text + len, 1) == 1 && text[len++] != '\n')
		;
	assert_true(len > 0 && text[len - 1] == '\n');
	json_t *line = json_loadb(text, len - 1, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(line);
	return line;
}

static const char *text_in(json_t *line, const char *name)
{
	return json_string_value(json_object_get(line, name));
}

static void open_pipe(int ends[2], struct log **log)
{
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	*log = log_new(ends[1], LOG_INFO);
}

static void close_pipe(int ends[2], struct log **log)
{
	log_free(log);
	assert_null(*log);
	close(ends[0]);
	close(ends[1]);
}

static void writes_every_kind_of_field(void **state)
{
	struct log *log;
	struct log_line line;
	int ends[2];
	(void)state;
	open_pipe(ends, &log);
	clock_test_set(0, INT64_C(1767323045678901)); /* 2026-01-02 03:04:05.678901 */
	log_begin(&line, log, LOG_WARNING, "event \"x\"");
	log_text(&line, "text", SLICE("a\"\n\xff"));
	log_int(&line, "int", INT64_MIN);
	log_milliseconds(&line, "ms", 12345);
	log_milliseconds(&line, "negative", -7);
	log_bool(&line, "yes", true);
	log_end(&line);
	clock_test_release();
	char text[LOG_LINE_MAX];
	ssize_t len = read(ends[0], text, sizeof(text));
	const char *want =
		"{\"time\":\"2026-01-02T03:04:05.678901Z\",\"level\":\"warning\",\"event\":\"event \\\"x\\\"\","
		"\"text\":\"a\\\"\\n\xEF\xBF\xBD\",\"int\":-9223372036854775808,\"ms\":12.345,\"negative\":-0.007,"
		"\"yes\":true}\n";
	assert_int_equal(len, strlen(want));
	assert_memory_equal(text, want, strlen(want));
	close_pipe(ends, &log);
}

static void knows_the_calendar(void **state)
{
	static const struct {
		int64_t seconds;
		const char *date;
	} days[] = {
		{ 0, "1970-01-01T00:00:00" },          { 951782400, "2000-02-29T00:00:00" },
		{ 951868800, "2000-03-01T00:00:00" },  { 1709251199, "2024-02-29T23:59:59" },
		{ 1735689599, "2024-12-31T23:59:59" }, { 4107542400, "2100-03-01T00:00:00" },
	};
	struct log *log;
	int ends[2];
	(void)state;
	open_pipe(ends, &log);
	for (size_t i = 0; i < ARRAY_LENGTH(days); i++) {
		clock_test_set(0, days[i].seconds * CLOCK_SECOND);
		log_say(log, LOG_ERROR, "e", "%d", 5);
		json_t *line = read_line(ends[0]);
		assert_memory_equal(text_in(line, "time"), days[i].date, strlen(days[i].date));
		assert_string_equal(text_in(line, "message"), "5");
		json_decref(line);
	}
	clock_test_release();
	close_pipe(ends, &log);
}

static void levels_decide(void **state)
{
	struct log *log;
	struct log_line line;
	int ends[2];
	(void)state;
	open_pipe(ends, &log);
	assert_false(log_wants(log, LOG_DEBUG));
	assert_false(log_wants(NULL, LOG_ERROR));
	log_say(log, LOG_DEBUG, "swallowed", "x");
	log_begin(&line, NULL, LOG_ERROR, "swallowed");
	log_text(&line, "a", SLICE("b"));
	log_end(&line);
	log_set_level(log, LOG_DEBUG);
	log_say(log, LOG_DEBUG, "seen", "x");
	json_t *seen = read_line(ends[0]);
	assert_string_equal(text_in(seen, "event"), "seen");
	json_decref(seen);
	assert_int_equal(log_dropped(log), 0);
	close_pipe(ends, &log);
}

/* A field of every length around the end of the line is either whole or missing, and what follows may still fit. */
static void leaves_out_what_does_not_fit(void **state)
{
	static char big[LOG_LINE_MAX];
	struct log *log;
	struct log_line line;
	int ends[2];
	(void)state;
	memset(big, '\\', sizeof(big));
	open_pipe(ends, &log);
	int missing = 0;
	for (size_t len = 1900; len < sizeof(big) / 2 + 100; len++) {
		log_begin(&line, log, LOG_INFO, "e");
		log_text(&line, "big", slice_make(big, len));
		log_int(&line, "last", 1);
		log_end(&line);
		json_t *read = read_line(ends[0]);
		json_t *field = json_object_get(read, "big");
		assert_true(field == NULL || json_string_length(field) == len);
		assert_true(field == NULL || missing == 0);
		missing += field == NULL;
		json_decref(read);
	}
	assert_true(missing > 0 && missing < 200);
	close_pipe(ends, &log);
}

static void drops_and_tells_instead_of_waiting(void **state)
{
	struct log *log;
	int ends[2];
	char waste[65536];
	(void)state;
	open_pipe(ends, &log);
	for (int i = 0; i < 5000; i++)
		log_say(log, LOG_INFO, "flood", "%0100d", i);
	uint64_t dropped = log_dropped(log);
	assert_true(dropped > 0 && dropped < 5000);
	assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0); /* the owner's descriptor stays as it was */
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	while (read(ends[0], waste, sizeof(waste)) > 0)
		;
	log_say(log, LOG_INFO, "after", "x");
	log_say(log, LOG_INFO, "later", "x");
	json_t *line = read_line(ends[0]);
	assert_true(json_integer_value(json_object_get(line, "dropped")) == (json_int_t)dropped);
	json_decref(line);
	line = read_line(ends[0]);
	assert_null(json_object_get(line, "dropped"));
	json_decref(line);
	close_pipe(ends, &log);
}

static void a_full_socket_does_not_stop_it(void **state)
{
	int ends[2];
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	struct log *log = log_new(ends[1], LOG_INFO);
	for (int i = 0; i < 20000; i++)
		log_say(log, LOG_INFO, "flood", "%0100d", i);
	assert_true(log_dropped(log) > 0);
	close(ends[0]);
	uint64_t before = log_dropped(log);
	log_say(log, LOG_INFO, "nobody", "reads"); /* and no SIGPIPE */
	assert_int_equal(log_dropped(log), before + 1);
	log_free(&log);
	close(ends[1]);
}

static void a_bad_descriptor_is_counted(void **state)
{
	(void)state;
	struct log *log = log_new(-1, LOG_INFO);
	log_say(log, LOG_INFO, "e", "x");
	assert_int_equal(log_dropped(log), 1);
	log_free(&log);
}

enum { THREADS = 4, LINES = 500 };

static void *chatter(void *arg)
{
	static char filler[3000];
	struct log_line line;
	for (int i = 0; i < LINES; i++) {
		log_begin(&line, arg, LOG_INFO, "chatter");
		log_int(&line, "i", i);
		log_text(&line, "filler", slice_make(filler, sizeof(filler) / (size_t)(1 + i % 7)));
		log_end(&line);
	}
	return NULL;
}

/* Into a file: nothing is dropped, so all lines are there, and each is whole. */
static void threads_never_tear_lines(void **state)
{
	char path[] = "/tmp/sluice-test-log-XXXXXX", text[LOG_LINE_MAX + 1];
	pthread_t threads[THREADS];
	int lines = 0, descriptor = mkostemp(path, O_APPEND | O_CLOEXEC);
	(void)state;
	assert_true(descriptor >= 0);
	assert_int_equal(unlink(path), 0);
	struct log *log = log_new(descriptor, LOG_INFO);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, chatter, log), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(log_dropped(log), 0);
	assert_int_equal(lseek(descriptor, 0, SEEK_SET), 0);
	FILE *file = fdopen(descriptor, "r");
	assert_non_null(file);
	for (; fgets(text, sizeof(text), file) != NULL; lines++) {
		json_t *line = json_loads(text, JSON_ALLOW_NUL, NULL);
		assert_non_null(line);
		json_decref(line);
	}
	assert_int_equal(lines, THREADS * LINES);
	log_free(&log);
	fclose(file);
}

static void put_in_batch(struct log *log, struct log_batch *batch, int64_t number)
{
	static char filler[900];
	struct log_line line;
	memset(filler, 'x', sizeof(filler));
	log_begin(&line, log, LOG_INFO, "batch");
	log_int(&line, "number", number);
	log_text(&line, "filler", slice_make(filler, sizeof(filler)));
	log_end_in(&line, batch);
}

/* Five lines of about 1 KiB are more than a batch holds: it flushes itself once, in order, and the rest when it is told to. */
static void a_batch_keeps_order_and_flushes_itself(void **state)
{
	static struct log_batch batch;
	struct log *log;
	int ends[2], filled = 0;
	(void)state;
	open_pipe(ends, &log);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	char nothing;
	while (read(ends[0], &nothing, 1) != 1 && filled < 20)
		put_in_batch(log, &batch, filled++);
	assert_in_range(filled, 4, 6);
	close_pipe(ends, &log);
	batch = (struct log_batch){ 0 };
	open_pipe(ends, &log);
	for (int i = 0; i < 10; i++)
		put_in_batch(log, &batch, i);
	log_flush(&batch);
	log_flush(&batch);
	for (int i = 0; i < 10; i++) {
		json_t *line = read_line(ends[0]);
		assert_int_equal(json_integer_value(json_object_get(line, "number")), i);
		json_decref(line);
	}
	close_pipe(ends, &log);
}

/* A terminal with somebody else who writes to it, a byte at a time: MARKS of them for each line of ours. */
enum { ROUNDS = 1000, MARKS = 64, MARK = 1 };

struct neighbour {
	int descriptor;
	atomic_int rounds; /* that it may have written for */
};

static void *write_marks(void *arg)
{
	struct neighbour *n = arg;
	char mark = MARK;
	for (int i = 0; i < ROUNDS; i++) {
		while (atomic_load(&n->rounds) <= i)
			sched_yield();
		for (int k = 0; k < MARKS; k++)
			assert_int_equal(write(n->descriptor, &mark, 1), 1);
	}
	return NULL;
}

/* Whatever has been written is read before the next line, so there is always room. */
static void a_neighbour_at_the_terminal_costs_few_lines(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), marks = 0, lines = 0;
	struct neighbour neighbour = { .descriptor = -1 };
	struct termios raw;
	char text[4096];
	pthread_t thread;
	(void)state;
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	neighbour.descriptor = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(tcgetattr(neighbour.descriptor, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(neighbour.descriptor, TCSANOW, &raw), 0);
	struct log *log = log_new(neighbour.descriptor, LOG_INFO);
	assert_int_equal(pthread_create(&thread, NULL, write_marks, &neighbour), 0);
	for (int i = 1; i <= ROUNDS; i++) {
		atomic_store(&neighbour.rounds, i);
		log_say(log, LOG_INFO, "line", "%d", i);
		while (marks < i * MARKS || lines + (int)log_dropped(log) < i) {
			ssize_t got = read(master, text, sizeof(text));
			assert_true(got > 0);
			for (ssize_t k = 0; k < got; k++) {
				marks += text[k] == MARK;
				lines += text[k] == '\n';
			}
		}
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_in_range(log_dropped(log), 0,
			ROUNDS / 50); /* one in six without a second try; who holds the lock may be off the processor */
	log_free(&log);
	close(neighbour.descriptor);
	close(master);
}

static void a_lost_batch_counts_its_lines(void **state)
{
	static struct log_batch batch;
	struct log *log = log_new(-1, LOG_INFO);
	(void)state;
	for (int i = 0; i < 3; i++)
		put_in_batch(log, &batch, i);
	assert_int_equal(log_dropped(log), 0);
	log_flush(&batch);
	assert_int_equal(log_dropped(log), 3);
	log_free(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_every_kind_of_field),
		cmocka_unit_test(knows_the_calendar),
		cmocka_unit_test(levels_decide),
		cmocka_unit_test(leaves_out_what_does_not_fit),
		cmocka_unit_test(drops_and_tells_instead_of_waiting),
		cmocka_unit_test(a_full_socket_does_not_stop_it),
		cmocka_unit_test(a_bad_descriptor_is_counted),
		cmocka_unit_test(threads_never_tear_lines),
		cmocka_unit_test(a_neighbour_at_the_terminal_costs_few_lines),
		cmocka_unit_test(a_batch_keeps_order_and_flushes_itself),
		cmocka_unit_test(a_lost_batch_counts_its_lines),
	};
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}

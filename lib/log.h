/* One log line: JSON, one writer, one escaper, never a blocked thread.
 *
 * A line is built in a log_line on the stack and written with one write(2) of at most LOG_LINE_MAX bytes. The descriptor is
 * non-blocking where the kernel allows (a pipe that nobody reads must not stop a worker): what cannot be written is dropped and counted, and
 * the next line that gets through says how many were lost. Secrets: callers pass none; there is no "dump this header" verb. */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#include "lib/base.h"
#include "lib/slice.h"

#define LOG_LINE_MAX 4096 /* PIPE_BUF: lines of several threads never mix */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log; /* one per process; shared by the threads */

struct log *log_new(int descriptor, enum log_level least);
void log_free(struct log **);
void log_set_level(struct log *, enum log_level least);
bool log_wants(const struct log *, enum log_level);
uint64_t log_dropped(const struct log *);

struct log_line {
	struct log *log; /* NULL: the line is swallowed */
	size_t len;
	char text[LOG_LINE_MAX]; /* a field that does not fit is left out whole; the line stays valid JSON */
};

/* {"time":"2026-01-02T03:04:05.678901Z","level":"info","event":"…" …fields… }. A NULL log swallows the line. */
void log_begin(struct log_line *, struct log *, enum log_level, const char *event);
/* Names are words of the programmer's: they are not escaped. */
void log_text(struct log_line *, const char *name, struct slice value);
void log_int(struct log_line *, const char *name, int64_t value);
void log_milliseconds(struct log_line *, const char *name, int64_t microseconds); /* written as 12.345 */
void log_bool(struct log_line *, const char *name, bool value);
void log_end(struct log_line *);

/* Lines of one thread that go out with one write: zeroed at first, flushed by its owner soon (at the end of a loop's turn) and before it dies; a full one flushes
 * itself. What it holds is lost if the process is killed meanwhile. */
struct log_batch {
	struct log *log;
	size_t len;
	uint64_t lines, untold;
	char text[LOG_LINE_MAX];
};
void log_end_in(struct log_line *, struct log_batch *);
void log_flush(struct log_batch *);

/* One line of one message, for the rare event. */
void log_say(struct log *, enum log_level, const char *event, const char *format, ...) PRINTF_LIKE(4, 5);

#endif

/* A line is a buf wrapped over the caller's stack; the last TAIL bytes stay free for the closing.
 *
 *   {"time":…,"level":…,"event":…,   fields that fit   ,"dropped":7}\n
 *
 * How a write does not block: a pipe or a terminal is opened anew with O_NONBLOCK (setting the flag on the descriptor that
 * we were given would change it for whoever shares it, our shell for one); a socket takes MSG_DONTWAIT; a regular file does
 * not block in this sense. Where the reopening is forbidden, poll says first whether there is room.
 * Disadvantage: a disk that hangs still stops the writer; whoever logs to one that can, puts a pipe in between. */
#include "lib/log.h"

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define TAIL           40 /* ,"dropped":18446744073709551615}\n */
#define MESSAGE_MOST   1024
#define MOST_TRIES     100
#define PATIENCE_SHARE 50
#define PATIENCE_MOST  (200 * CLOCK_MILLISECOND)

enum way { WAY_WRITE, WAY_TERMINAL, WAY_SEND, WAY_POLL };

/* Owned by main; outlives all threads that log. */
struct log {
	int descriptor;
	bool own_descriptor;
	enum way way;
	_Atomic int least;
	_Atomic uint64_t dropped; /* ever */
	_Atomic uint64_t untold;  /* not yet mentioned in a line */
	atomic_bool torn;         /* the last write ended inside a line */
	_Atomic int64_t paid;     /* for what was waited for a terminal */
};

static const char *const LEVELS[] = { "debug", "info", "warning", "error" };

static void choose_way(struct log *log, int descriptor)
{
	struct stat status;
	log->descriptor = descriptor;
	if (fstat(descriptor, &status) != 0 || S_ISREG(status.st_mode))
		return;
	if (S_ISSOCK(status.st_mode)) {
		log->way = WAY_SEND;
		return;
	}
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
	int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	log->way = own < 0 ? WAY_POLL : isatty(own) ? WAY_TERMINAL : WAY_WRITE;
	log->own_descriptor = own >= 0;
	if (own >= 0)
		log->descriptor = own;
}

struct log *log_new(int descriptor, enum log_level least)
{
	struct log *log = mem_new(sizeof(*log));
	choose_way(log, descriptor);
	atomic_store(&log->least, (int)least);
	return log;
}

void log_free(struct log **handle)
{
	struct log *log = *handle;
	if (log == NULL)
		return;
	*handle = NULL;
	if (log->own_descriptor)
		close(log->descriptor);
	mem_free(log);
}

void log_set_level(struct log *log, enum log_level least)
{
	atomic_store_explicit(&log->least, (int)least, memory_order_relaxed);
}

bool log_wants(const struct log *log, enum log_level level)
{
	return log != NULL && (int)level >= atomic_load_explicit(&log->least, memory_order_relaxed);
}

uint64_t log_dropped(const struct log *log)
{
	return atomic_load_explicit(&log->dropped, memory_order_relaxed);
}

/* With leading zeros, and what stands behind. snprintf() took a tenth of all that a line costs. */
static void put_digits(struct buf *b, int number, int count, char behind)
{
	char text[8];
	for (int i = count - 1; i >= 0; i--, number /= 10)
		text[i] = (char)('0' + number % 10);
	text[count] = behind;
	buf_append(b, slice_make(text, (size_t)count + 1));
}

/* 2026-01-02T03:04:05.678901Z. The date is Howard Hinnant's civil_from_days ("chrono-compatible low-level date
 * algorithms", 2013): gmtime_r takes the lock of the time zone, which all threads would share. */
static void put_time(struct buf *b, int64_t unix_time)
{
	int64_t seconds = unix_time / CLOCK_SECOND, days = seconds / 86400 + 719468, of_day = seconds % 86400;
	int64_t era = days / 146097, of_era = days % 146097;
	int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted_month = (5 * of_year + 2) / 153; /* 0 is March */
	int day = (int)(of_year - (153 * shifted_month + 2) / 5 + 1);
	int month = (int)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
	int year = (int)(year_of_era + era * 400 + (month <= 2 ? 1 : 0));
	put_digits(b, year, 4, '-');
	put_digits(b, month, 2, '-');
	put_digits(b, day, 2, 'T');
	put_digits(b, (int)(of_day / 3600), 2, ':');
	put_digits(b, (int)(of_day / 60 % 60), 2, ':');
	put_digits(b, (int)(of_day % 60), 2, '.');
	put_digits(b, (int)(unix_time % CLOCK_SECOND), 6, 'Z');
}

/* The line as a buffer; what is appended counts only when close_field says so. */
static struct buf open_field(struct log_line *line, const char *name)
{
	struct buf b;
	buf_wrap(&b, line->text, LOG_LINE_MAX - TAIL, line->len);
	if (line->len > 1)
		buf_append_byte(&b, ',');
	buf_append_byte(&b, '"'); /* a name is a word of ours: nothing in it is to be escaped */
	buf_append(&b, slice_of(name));
	buf_append(&b, SLICE("\":"));
	return b;
}

static void close_field(struct log_line *line, const struct buf *b)
{
	if (!b->overflowed)
		line->len = b->len;
}

void log_begin(struct log_line *line, struct log *log, enum log_level level, const char *event)
{
	line->log = log_wants(log, level) ? log : NULL;
	line->len = 0;
	if (line->log == NULL)
		return;
	line->text[line->len++] = '{';
	struct buf b = open_field(line, "time");
	buf_append_byte(&b, '"');
	put_time(&b, clock_unix());
	buf_append_byte(&b, '"');
	close_field(line, &b);
	log_text(line, "level", slice_of(LEVELS[level]));
	log_text(line, "event", slice_of(event));
}

void log_text(struct log_line *line, const char *name, struct slice value)
{
	if (line->log == NULL)
		return;
	struct buf b = open_field(line, name);
	buf_append_json(&b, value);
	close_field(line, &b);
}

void log_int(struct log_line *line, const char *name, int64_t value)
{
	if (line->log == NULL)
		return;
	struct buf b = open_field(line, name);
	buf_append_int(&b, value);
	close_field(line, &b);
}

void log_milliseconds(struct log_line *line, const char *name, int64_t microseconds)
{
	if (line->log == NULL)
		return;
	struct buf b = open_field(line, name);
	if (microseconds < 0)
		buf_append_byte(&b, '-');
	uint64_t magnitude = microseconds < 0 ? -(uint64_t)microseconds : (uint64_t)microseconds;
	buf_append_int(&b, (int64_t)(magnitude / 1000));
	char fraction[4] = { '.', (char)('0' + magnitude / 100 % 10), (char)('0' + magnitude / 10 % 10),
			     (char)('0' + magnitude % 10) };
	buf_append(&b, slice_make(fraction, sizeof(fraction)));
	close_field(line, &b);
}

void log_bool(struct log_line *line, const char *name, bool value)
{
	if (line->log == NULL)
		return;
	struct buf b = open_field(line, name);
	buf_append(&b, value ? SLICE("true") : SLICE("false"));
	close_field(line, &b);
}

static bool has_room(const struct log *log, int milliseconds)
{
	struct pollfd room = { .fd = log->descriptor, .events = POLLOUT };
	return poll(&room, 1, milliseconds) == 1;
}

/* A terminal says EAGAIN, and poll that it has no room, also while another process is writing to it, which is over in some microseconds: it is worth waiting
 * for. A slow terminal is not, so a fiftieth of the time is waited at most, and 200 ms ahead of that, kept as GCRA keeps a rate: `paid` is until when. */
static ssize_t write_to_terminal(struct log *log, struct iovec *parts, int count)
{
	ssize_t got = writev(log->descriptor, parts, count);
	if (got >= 0 || errno != EAGAIN)
		return got;
	int64_t began = clock_now(), now = began, paid = atomic_load_explicit(&log->paid, memory_order_relaxed);
	if (paid > began + PATIENCE_SHARE * PATIENCE_MOST)
		return got;
	for (int i = 0; got < 0 && errno == EAGAIN && now < began + CLOCK_MILLISECOND && i < MOST_TRIES; i++) {
		(void)has_room(log, 1);
		got = writev(log->descriptor, parts, count);
		now = clock_now();
	}
	paid = (paid > began ? paid : began) + PATIENCE_SHARE * (now - began);
	atomic_store_explicit(&log->paid, paid, memory_order_relaxed);
	return got;
}

static ssize_t write_without_waiting(struct log *log, struct iovec *parts, size_t count)
{
	if (log->way == WAY_SEND) {
		struct msghdr message = { .msg_iov = parts, .msg_iovlen = count };
		return sendmsg(log->descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (log->way == WAY_TERMINAL)
		return write_to_terminal(log, parts, (int)count);
	if (log->way == WAY_POLL && !has_room(log, 0))
		return -1;
	return writev(log->descriptor, parts, (int)count);
}

/* Whole lines. What follows a torn one begins on a line of its own. */
static bool put_lines(struct log *log, struct slice lines)
{
	char newline = '\n';
	bool torn = atomic_exchange_explicit(&log->torn, false, memory_order_relaxed);
	struct iovec parts[2] = { { &newline, 1 }, { (void *)(uintptr_t)lines.data, lines.len } };
	size_t want = lines.len + (torn ? 1 : 0);
	ssize_t got = torn ? write_without_waiting(log, parts, 2) : write_without_waiting(log, parts + 1, 1);
	if (got == (ssize_t)want)
		return true;
	if (torn || got > 0)
		atomic_store_explicit(&log->torn, true, memory_order_relaxed);
	return false;
}

/* The last of a line; returns how many lost ones it tells of. */
static uint64_t close_line(struct log *log, struct log_line *line)
{
	uint64_t untold = atomic_exchange_explicit(&log->untold, 0, memory_order_relaxed);
	struct buf b;
	line->log = NULL;
	buf_wrap(&b, line->text, LOG_LINE_MAX, line->len);
	if (untold > 0) {
		buf_append(&b, SLICE(",\"dropped\":"));
		buf_append_int(&b, (int64_t)untold);
	}
	buf_append(&b, SLICE("}\n"));
	CHECK(!b.overflowed);
	line->len = b.len;
	return untold;
}

static void count_lost(struct log *log, uint64_t lines, uint64_t untold)
{
	atomic_fetch_add_explicit(&log->dropped, lines, memory_order_relaxed);
	atomic_fetch_add_explicit(&log->untold, untold + lines, memory_order_relaxed);
}

void log_end(struct log_line *line)
{
	struct log *log = line->log;
	if (log == NULL)
		return;
	uint64_t untold = close_line(log, line);
	if (!put_lines(log, slice_make(line->text, line->len)))
		count_lost(log, 1, untold);
}

void log_end_in(struct log_line *line, struct log_batch *batch)
{
	struct log *log = line->log;
	if (log == NULL)
		return;
	uint64_t untold = close_line(log, line);
	if (line->len > sizeof(batch->text) - batch->len)
		log_flush(batch);
	batch->log = log;
	batch->untold += untold;
	batch->lines++;
	memcpy(batch->text + batch->len, line->text, line->len);
	batch->len += line->len;
}

void log_flush(struct log_batch *batch)
{
	if (batch->len > 0 && !put_lines(batch->log, slice_make(batch->text, batch->len)))
		count_lost(batch->log, batch->lines, batch->untold);
	batch->len = 0;
	batch->lines = batch->untold = 0;
}

void log_say(struct log *log, enum log_level level, const char *event, const char *format, ...)
{
	if (!log_wants(log, level))
		return;
	char message[MESSAGE_MOST];
	va_list arguments;
	va_start(arguments, format);
	int len = vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	CHECK(len >= 0);
	struct log_line line;
	log_begin(&line, log, level, event);
	log_text(&line, "message", slice_first(slice_of(message), sizeof(message) - 1));
	log_end(&line);
}

/* What the load generator counted, and how it prints it. */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdio.h>

#include "load_histogram.h"
#include "load_options.h"

/* clang-format off */
#define LOAD_ERRORS(E)                                                          \
	E(connect)    /* no connection */                                       \
	E(reset)      /* RST, or a write that failed */                         \
	E(closed)     /* the end came before the answer's end */                \
	E(protocol)   /* not HTTP, or bytes behind the answer */                \
	E(timeout)                                                              \
	E(unfinished) /* in flight when the grace was over */                   \
	E(aborted)    /* by --abort-after: wanted, and no error of the server */
/* clang-format on */

#define LOAD_ERROR_ENUM(name) LOAD_##name,
enum load_error { LOAD_ERRORS(LOAD_ERROR_ENUM) LOAD_ERROR_COUNT };
#undef LOAD_ERROR_ENUM

struct second {
	uint64_t done, ok, errors;
	int64_t latency_sum, latency_max;
};

struct report {
	uint64_t started, completed, by_status[600], errors[LOAD_ERROR_COUNT];
	uint64_t bytes_in, bytes_out, body_bytes, opened, late; /* late: sent more than 1 ms after they were due */
	struct histogram latency, ok_latency, first_byte;
	struct second *series; /* per second of the run; NULL when not wanted */
	size_t series_len;
	int64_t began, ended; /* CLOCK_MONOTONIC microseconds: the first start, the last end */
	FILE *record;
};

const char *report_error_name(enum load_error);
void report_print(const struct report *, const struct options *);

#endif

/* The limits of an ask as the limiter's scripts see them: row by row, in the order of ARGV (lua/admit.lua, lua/settle.lua).
 *
 * A scope takes part when it has any limit; the first that does holds the proof. The same ask always gives the same rows, so nothing needs to be remembered
 * between a call and its answer. */
#ifndef SLUICE_LIMITER_ROWS_H
#define SLUICE_LIMITER_ROWS_H

#include "lib/limiter.h"

/* One limit is one row, but for a strict token limit, which is two: a bucket, and a log. */
enum limiter_row_part { ROW_BUCKET, ROW_LOG, ROW_PLACES };

struct limiter_row {
	enum limit_kind kind;
	int64_t cost; /* in the limit's own unit; of a place 1 */
};

bool limiter_rows_any(const struct limiter_ask *, int scope) MUST_CHECK; /* whether it takes part */
int limiter_rows_first(const struct limiter_ask *) MUST_CHECK;           /* that takes part; LIMITER_SCOPES: none */
int64_t limiter_rows_places(const struct limiter_ask *, int scope) MUST_CHECK; /* 0: concurrency is not limited */
int64_t limiter_rows_cost(const struct limiter_ask *, int scope,
			  enum limit_kind) MUST_CHECK; /* not of LIMIT_concurrency */

/* The rows of one part of a scope that takes part; how many. What costs nothing is left out, unless all are to be `reported`, as those of the first scope are. */
size_t limiter_rows_list(const struct limiter_ask *, int scope, bool reported, enum limiter_row_part,
			 struct limiter_row row[LIMIT_COUNT]) MUST_CHECK;

struct limiter_change {
	enum limit_kind kind;
	int64_t by; /* of a bucket in microseconds, of a log in the limit's own unit; never 0 */
};

/* What true use changes in the buckets, or in the logs, of a scope that takes part; how many. */
size_t limiter_rows_changes(const struct limiter_ask *, int scope, const struct limiter_used *, enum limiter_row_part,
			    struct limiter_change change[LIMIT_COUNT]) MUST_CHECK;

/* An ask that costs nothing, in this scope alone: its rows are those of admit's first scope, all of which are reported. */
struct limiter_ask limiter_rows_ask(enum limiter_scope, struct slice name, const struct limits *) MUST_CHECK;

#endif

/* The replies of the limiter's scripts. */
#include "lib/limiter_limits.h"
#include "lib/limiter_rows.h"
#include "lib/limiter_wire.h"

/* Which scope and kind the row number of a denial means. */
static bool read_bound(const struct limiter_ask *ask, int64_t bound, struct limiter_answer *answer)
{
	static const enum limiter_row_part order[] = { ROW_BUCKET, ROW_LOG, ROW_PLACES };
	int first = limiter_rows_first(ask);
	for (int s = first; s < LIMITER_SCOPES; s++)
		for (size_t o = 0; limiter_rows_any(ask, s) && o < ARRAY_LENGTH(order); o++) {
			struct limiter_row row[LIMIT_COUNT];
			size_t count = limiter_rows_list(ask, s, s == first, order[o], row);
			if (bound >= 1 && bound <= (int64_t)count) {
				answer->scope = s;
				answer->kind = row[bound - 1].kind;
				return true;
			}
			bound -= (int64_t)count;
		}
	return false;
}

static double share(int64_t part, int64_t whole)
{
	return part < whole ? (double)part / (double)whole : 1;
}

static struct limiter_left bucket_left(const struct limit *limit, enum limit_kind kind, int64_t backlog)
{
	return (struct limiter_left){ .known = true,
				      .remaining = limiter_limits_room(limit, kind, backlog),
				      .reset = backlog,
				      .used = share(backlog, limiter_limits_bucket(limit, kind).capacity) };
}

/* The bucket in front of a log only spreads: what is used is what stands in the log. */
static void add_log(struct limiter_left *left, int64_t limit, int64_t sum, int64_t reset)
{
	int64_t room = sum < limit ? limit - sum : 0;
	if (room < left->remaining)
		left->remaining = room;
	if (reset > left->reset)
		left->reset = reset;
	left->used = share(sum, limit);
}

/* What a reply says of the limits of one scope, all of which it reports. */
static bool read_left(const struct limiter_ask *ask, int scope, const int64_t *number, size_t count,
		      struct limiter_left left[LIMIT_COUNT])
{
	const struct limit *of = ask->scope[scope].limits->of;
	struct limiter_row row[LIMIT_COUNT];
	size_t at = 0, buckets = limiter_rows_list(ask, scope, true, ROW_BUCKET, row);
	if (count < buckets)
		return false;
	for (size_t i = 0; i < buckets; i++, at++)
		left[row[i].kind] = bucket_left(&of[row[i].kind], row[i].kind, number[at]);
	size_t logs = limiter_rows_list(ask, scope, true, ROW_LOG, row);
	if (count - at < 2 * logs)
		return false;
	for (size_t i = 0; i < logs; i++, at += 2)
		add_log(&left[row[i].kind], of[row[i].kind].count, number[at], number[at + 1]);
	int64_t limit = of[LIMIT_concurrency].count;
	if (limit == 0)
		return count == at;
	if (count - at != 1)
		return false;
	left[LIMIT_concurrency] = (struct limiter_left){ .known = true,
							 .remaining = number[at] < limit ? limit - number[at] : 0,
							 .used = share(number[at], limit) };
	return true;
}

bool limiter_wire_read(const struct limiter_ask *ask, const int64_t *number, size_t count,
		       struct limiter_answer *answer, int64_t *reserved)
{
	static const enum limiter_verdict verdicts[] = { LIMITER_DENIED, LIMITER_ADMITTED, LIMITER_UNAVAILABLE,
							 LIMITER_QUEUED, LIMITER_FULL };
	if (count < 4 || number[0] < 0 || number[0] >= (int64_t)ARRAY_LENGTH(verdicts))
		return false;
	answer->verdict = verdicts[number[0]];
	if (answer->verdict == LIMITER_UNAVAILABLE)
		return true;
	answer->wait = number[2];
	if (answer->verdict == LIMITER_ADMITTED)
		*reserved = number[1];
	else if (number[2] < (answer->verdict != LIMITER_QUEUED) || !read_bound(ask, number[3], answer))
		return false;
	return limiter_rows_first(ask) != LIMITER_TENANT ||
	       read_left(ask, LIMITER_TENANT, number + 4, count - 4, answer->left);
}

bool limiter_wire_read_peek(const struct limits *limits, const int64_t *number, size_t count,
			    struct limiter_left left[LIMIT_COUNT])
{
	struct limiter_ask ask = limiter_rows_ask(LIMITER_TENANT, SLICE_NONE, limits); /* the order is every scope's */
	return count >= 1 && read_left(&ask, LIMITER_TENANT, number + 1, count - 1, left);
}

bool limiter_wire_read_settled(const struct limiter_ask *ask, const struct limiter_used *used, const int64_t *number,
			       size_t count, int64_t forgiven[LIMIT_COUNT])
{
	if (count < 2 || number[0] < 0 || number[0] > 1)
		return false;
	if (number[0] == 0)
		return count == 2;
	size_t at = 2;
	for (int s = limiter_rows_first(ask); s < LIMITER_SCOPES; s++) {
		struct limiter_change change[LIMIT_COUNT];
		size_t changes = limiter_rows_any(ask, s) ? limiter_rows_changes(ask, s, used, ROW_BUCKET, change) : 0;
		for (size_t i = 0; i < changes; i++, at++) {
			if (at >= count || number[at] < 0)
				return false;
			forgiven[change[i].kind] += limiter_limits_cost(&ask->scope[s].limits->of[change[i].kind],
									change[i].kind, number[at]);
		}
	}
	return at == count;
}

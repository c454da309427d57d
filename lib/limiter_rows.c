#include "lib/limiter_rows.h"

#include "lib/limiter_limits.h"

bool limiter_rows_any(const struct limiter_ask *ask, int scope)
{
	const struct limits *limits = ask->scope[scope].limits;
	for (int k = 0; limits != NULL && k < LIMIT_COUNT; k++)
		if (limits->of[k].count > 0)
			return true;
	return false;
}

int limiter_rows_first(const struct limiter_ask *ask)
{
	int scope = 0;
	while (scope < LIMITER_SCOPES && !limiter_rows_any(ask, scope))
		scope++;
	return scope;
}

int64_t limiter_rows_places(const struct limiter_ask *ask, int scope)
{
	return ask->scope[scope].limits->of[LIMIT_concurrency].count;
}

int64_t limiter_rows_cost(const struct limiter_ask *ask, int scope, enum limit_kind kind)
{
	return limit_unit_of(kind) == LIMIT_TOKENS ? ask->tokens : ask->scope[scope].requests;
}

size_t limiter_rows_list(const struct limiter_ask *ask, int scope, bool reported, enum limiter_row_part what,
			 struct limiter_row row[LIMIT_COUNT])
{
	const struct limits *limits = ask->scope[scope].limits;
	size_t count = 0;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		const struct limit *limit = &limits->of[k];
		if (limit->count == 0 || (limit_unit_of(k) == LIMIT_CONCURRENCY) != (what == ROW_PLACES))
			continue;
		if (what == ROW_LOG && !limiter_limits_has_log(limit, k))
			continue;
		int64_t cost = what == ROW_PLACES ? 1 : limiter_rows_cost(ask, scope, k);
		if (cost > 0 || reported)
			row[count++] = (struct limiter_row){ .kind = k, .cost = cost };
	}
	return count;
}

/* True use against what was reserved, in this limit. */
static int64_t true_cost(const struct limiter_ask *ask, int scope, enum limit_kind kind,
			 const struct limiter_used *used)
{
	if (limit_unit_of(kind) == LIMIT_TOKENS)
		return used->tokens;
	return used->never_sent ? 0 : ask->scope[scope].requests;
}

size_t limiter_rows_changes(const struct limiter_ask *ask, int scope, const struct limiter_used *used,
			    enum limiter_row_part what, struct limiter_change change[LIMIT_COUNT])
{
	size_t count = 0;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		const struct limit *limit = &ask->scope[scope].limits->of[k];
		if (limit->count == 0 || limit_unit_of(k) == LIMIT_CONCURRENCY)
			continue;
		if (what == ROW_LOG && !limiter_limits_has_log(limit, k))
			continue;
		int64_t reserved = limiter_rows_cost(ask, scope, k), spent = true_cost(ask, scope, k, used),
			by = spent - reserved;
		if (what == ROW_BUCKET)
			by = limiter_limits_charge(limit, k, spent) - limiter_limits_charge(limit, k, reserved);
		if (by > 0 || (by < 0 && limiter_limits_refunds(limit, k)))
			change[count++] = (struct limiter_change){ .kind = k, .by = by };
	}
	return count;
}

struct limiter_ask limiter_rows_ask(enum limiter_scope scope, struct slice name, const struct limits *limits)
{
	struct limiter_ask ask = { .id = SLICE_NONE };
	ask.scope[scope].name = name;
	ask.scope[scope].limits = limits;
	return ask;
}

#include "lib/limiter_limits.h"

#include "lib/clock.h"

__extension__ typedef unsigned __int128 wide; /* a period times a count passes 2^64 */

#define CHARGE_MAX (INT64_C(1) << 50)

/* clang-format off */
#define LIMIT_ROW(name, unit, period) { #name, LIMIT_##unit, (period) * CLOCK_SECOND },
static const struct {
	const char *name;
	enum limit_unit unit;
	int64_t period;
} kinds[] = { LIMITS(LIMIT_ROW) };
#undef LIMIT_ROW
/* clang-format on */

const char *limit_name(enum limit_kind kind)
{
	CHECK(kind < LIMIT_COUNT);
	return kinds[kind].name;
}

enum limit_unit limit_unit_of(enum limit_kind kind)
{
	CHECK(kind < LIMIT_COUNT);
	return kinds[kind].unit;
}

int64_t limit_period(enum limit_kind kind)
{
	CHECK(kind < LIMIT_COUNT);
	return kinds[kind].period;
}

const char *limiter_scope_name(enum limiter_scope scope)
{
	static const char *const names[LIMITER_SCOPES] = { "tenant", "model", "upstream" };
	CHECK(scope < LIMITER_SCOPES);
	return names[scope];
}

const char *limiter_script_name(enum limiter_script script)
{
	static const char *const names[LIMITER_SCRIPTS] = { "admit", "settle", "renew", "peek", "census", "merge" };
	return names[script];
}

static int64_t cut(wide charge)
{
	return charge > CHARGE_MAX ? CHARGE_MAX : (int64_t)charge;
}

static wide divide_up(wide a, int64_t b)
{
	return (a + (wide)b - 1) / (wide)b;
}

static bool strict_requests(const struct limit *limit, enum limit_kind kind)
{
	return limit->strict && limit_unit_of(kind) == LIMIT_REQUESTS;
}

static int64_t strict_burst(const struct limit *limit)
{
	return 1 + limit->count / 200;
}

static int64_t strict_spacing(const struct limit *limit, enum limit_kind kind)
{
	int64_t period = limit_period(kind);
	int64_t safe = (int64_t)divide_up((wide)period, limit->count - strict_burst(limit) + 1);
	int64_t used_99 = (int64_t)((wide)period * 100 / ((wide)99 * (wide)limit->count));
	return safe > used_99 ? safe : used_99;
}

int64_t limiter_limits_charge(const struct limit *limit, enum limit_kind kind, int64_t cost)
{
	CHECK(limit->count > 0 && cost >= 0 && limit_period(kind) > 0);
	if (strict_requests(limit, kind))
		return cut((wide)strict_spacing(limit, kind) * (wide)cost);
	return cut(divide_up((wide)limit_period(kind) * (wide)cost, limit->count));
}

static int64_t burst_of(const struct limit *limit, enum limit_kind kind)
{
	if (!limit->strict)
		return limit->burst;
	if (strict_requests(limit, kind))
		return strict_burst(limit);
	return limit->count / 20 > 0 ? limit->count / 20 : 1;
}

struct limiter_bucket limiter_limits_bucket(const struct limit *limit, enum limit_kind kind)
{
	int64_t capacity = limiter_limits_charge(limit, kind, burst_of(limit, kind));
	return (struct limiter_bucket){ .capacity = capacity, .roof = capacity + limit_period(kind) };
}

struct limiter_log limiter_limits_log(enum limit_kind kind)
{
	int64_t period = limit_period(kind);
	return (struct limiter_log){ .hold = period + period / 1000, .width = (period + 97) / 98 };
}

bool limiter_limits_has_log(const struct limit *limit, enum limit_kind kind)
{
	return limit->strict && limit_unit_of(kind) == LIMIT_TOKENS;
}

bool limiter_limits_refunds(const struct limit *limit, enum limit_kind kind)
{
	return !strict_requests(limit, kind);
}

int64_t limiter_limits_most(const struct limit *limit, enum limit_kind kind)
{
	return limiter_limits_has_log(limit, kind) ? limit->count : burst_of(limit, kind);
}

int64_t limiter_limits_cost(const struct limit *limit, enum limit_kind kind, int64_t microseconds)
{
	CHECK(limit->count > 0 && microseconds >= 0 && limit_period(kind) > 0);
	if (strict_requests(limit, kind))
		return microseconds / strict_spacing(limit, kind);
	return (int64_t)((wide)microseconds * (wide)limit->count / (wide)limit_period(kind));
}

int64_t limiter_limits_room(const struct limit *limit, enum limit_kind kind, int64_t backlog)
{
	int64_t most = limiter_limits_most(limit, kind);
	if (backlog <= 0)
		return most;
	int64_t capacity = limiter_limits_bucket(limit, kind).capacity;
	int64_t room = backlog < capacity ? limiter_limits_cost(limit, kind, capacity - backlog) : 0;
	return room < most ? room : most;
}

#include "lib/limiter_wire.h"

#include "lib/limiter_limits.h"

#define WAIT_LEAST 1000 /* µs; for a place that nobody can promise */

enum row_what { ROW_BUCKET, ROW_LOG, ROW_PLACES };

/* One limit as the script sees it. A strict token limit is two rows. */
struct row {
	enum limit_kind kind;
	enum row_what what;
	int64_t cost;
};

/* ---- who takes part, with which rows ---------------------------------------- */

static bool takes_part(const struct limiter_ask *ask, int scope)
{
	const struct limits *limits = ask->scope[scope].limits;
	for (int k = 0; limits != NULL && k < LIMIT_COUNT; k++)
		if (limits->of[k].count > 0)
			return true;
	return false;
}

static int first_scope(const struct limiter_ask *ask)
{
	int scope = 0;
	while (scope < LIMITER_SCOPES && !takes_part(ask, scope))
		scope++;
	return scope;
}

static int64_t places(const struct limiter_ask *ask, int scope)
{
	return ask->scope[scope].limits->of[LIMIT_concurrency].count;
}

static int64_t cost_of(const struct limiter_ask *ask, int scope, enum limit_kind kind)
{
	return limit_unit_of(kind) == LIMIT_TOKENS ? ask->tokens : ask->scope[scope].requests;
}

/* In the order of ARGV. What costs nothing is left out, but for the first scope, whose state is reported. */
static size_t list_rows(const struct limiter_ask *ask, int scope, bool reported, enum row_what what,
			struct row row[LIMIT_COUNT])
{
	const struct limits *limits = ask->scope[scope].limits;
	size_t count = 0;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		const struct limit *limit = &limits->of[k];
		if (limit->count == 0 || (limit_unit_of(k) == LIMIT_CONCURRENCY) != (what == ROW_PLACES))
			continue;
		if (what == ROW_LOG && !limiter_limits_has_log(limit, k))
			continue;
		int64_t cost = what == ROW_PLACES ? 1 : cost_of(ask, scope, k);
		if (cost > 0 || reported)
			row[count++] = (struct row){ .kind = k, .what = what, .cost = cost };
	}
	return count;
}

bool limiter_wire_needed(const struct limiter_ask *ask)
{
	return first_scope(ask) < LIMITER_SCOPES;
}

bool limiter_wire_never(const struct limiter_ask *ask, struct limiter_answer *answer)
{
	for (int s = 0; s < LIMITER_SCOPES; s++)
		for (int k = 0; takes_part(ask, s) && k < LIMIT_COUNT; k++) {
			const struct limit *limit = &ask->scope[s].limits->of[k];
			if (limit->count == 0 || limit_unit_of(k) == LIMIT_CONCURRENCY)
				continue;
			if (cost_of(ask, s, k) <= limiter_limits_most(limit, k))
				continue;
			answer->verdict = LIMITER_NEVER;
			answer->scope = s;
			answer->kind = k;
			return true;
		}
	return false;
}

/* ---- writing ---------------------------------------------------------------- */

static struct slice keep(struct limiter_wire *wire, struct slice bytes)
{
	CHECK(bytes.len <= sizeof wire->text - wire->used);
	char *at = wire->text + wire->used;
	if (bytes.len > 0)
		memcpy(at, bytes.data, bytes.len);
	wire->used += bytes.len;
	return slice_make(at, bytes.len);
}

static void put(struct limiter_wire *wire, struct slice argument)
{
	CHECK(wire->arguments < ARRAY_LENGTH(wire->argument));
	wire->argument[wire->arguments++] = argument;
}

static void put_int(struct limiter_wire *wire, int64_t value)
{
	char digits[24];
	size_t at = sizeof digits;
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	do
		digits[--at] = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (value < 0)
		digits[--at] = '-';
	put(wire, keep(wire, slice_make(digits + at, sizeof digits - at)));
}

static void put_known(struct limiter_wire *wire, int64_t value, int64_t unknown)
{
	if (value == unknown)
		put(wire, SLICE(""));
	else
		put_int(wire, value);
}

static void put_key(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, struct slice suffix,
		    struct slice limit)
{
	static const char *const prefix[LIMITER_SCOPES] = { "sluice:{t:", "sluice:{m:", "sluice:{u:" };
	CHECK(wire->keys < ARRAY_LENGTH(wire->key));
	struct slice key = keep(wire, slice_of(prefix[scope]));
	key.len += keep(wire, ask->scope[scope].name).len;
	key.len += keep(wire, suffix).len;
	key.len += keep(wire, limit).len;
	wire->key[wire->keys++] = key;
}

static void put_set_key(struct limiter_wire *wire, const struct limiter_ask *ask, int scope)
{
	put_key(wire, ask, scope, SLICE("}:l"), SLICE_NONE);
}

static void put_log_key(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, enum limit_kind kind)
{
	put_key(wire, ask, scope, SLICE("}:s:"), slice_of(limit_name(kind)));
}

static void start(struct limiter_wire *wire, const struct limiter_ask *ask, int64_t now)
{
	wire->keys = wire->arguments = wire->used = 0;
	int first = first_scope(ask);
	CHECK(first < LIMITER_SCOPES);
	put_set_key(wire, ask, first);
	put_known(wire, now, LIMITER_WIRE_NOW);
	put(wire, ask->id);
}

/* ---- admit ------------------------------------------------------------------ */

static void put_buckets(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, const struct row *row,
			size_t count)
{
	const struct limit *of = ask->scope[scope].limits->of;
	if (count > 0)
		put_key(wire, ask, scope, SLICE("}:q"), SLICE_NONE);
	for (size_t i = 0; i < count; i++)
		put(wire, slice_of(limit_name(row[i].kind)));
	for (size_t i = 0; i < count; i++)
		put_int(wire, limiter_limits_charge(&of[row[i].kind], row[i].kind, row[i].cost));
	for (size_t i = 0; i < count; i++)
		put_int(wire, limiter_limits_bucket(&of[row[i].kind], row[i].kind).capacity);
}

static void put_logs(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, const struct row *row,
		     size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct limiter_log log = limiter_limits_log(row[i].kind);
		put_log_key(wire, ask, scope, row[i].kind);
		put_int(wire, row[i].cost);
		put_int(wire, ask->scope[scope].limits->of[row[i].kind].count);
		put_int(wire, log.hold);
		put_int(wire, log.width);
	}
}

static void put_scope(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, bool first, int64_t hold)
{
	struct row bucket[LIMIT_COUNT], log[LIMIT_COUNT];
	size_t buckets = list_rows(ask, scope, first, ROW_BUCKET, bucket);
	size_t logs = list_rows(ask, scope, first, ROW_LOG, log);
	int64_t limit = places(ask, scope), wait = limit > 0 ? hold / limit : 0;
	put_int(wire, (int64_t)buckets);
	put_int(wire, (int64_t)logs);
	put_int(wire, limit);
	put_int(wire, wait > WAIT_LEAST ? wait : WAIT_LEAST);
	put_buckets(wire, ask, scope, bucket, buckets);
	if (limit > 0 && !first)
		put_set_key(wire, ask, scope);
	put_logs(wire, ask, scope, log, logs);
}

void limiter_wire_admit(struct limiter_wire *wire, const struct limiter_ask *ask, int64_t lease, int64_t hold,
			int64_t now)
{
	start(wire, ask, now);
	put_int(wire, lease);
	int first = first_scope(ask), scopes = 0;
	for (int s = first; s < LIMITER_SCOPES; s++)
		scopes += takes_part(ask, s);
	put_int(wire, scopes);
	for (int s = first; s < LIMITER_SCOPES; s++)
		if (takes_part(ask, s))
			put_scope(wire, ask, s, s == first, hold);
}

/* ---- peek ------------------------------------------------------------------- */

/* An ask that costs nothing in this scope alone: its rows are those of admit's first scope, all of which are reported. */
static struct limiter_ask ask_nothing(enum limiter_scope scope, struct slice name, const struct limits *limits)
{
	struct limiter_ask ask = { .id = SLICE_NONE };
	ask.scope[scope].name = name;
	ask.scope[scope].limits = limits;
	return ask;
}

void limiter_wire_peek(struct limiter_wire *wire, enum limiter_scope scope, struct slice name,
		       const struct limits *limits, int64_t now)
{
	struct limiter_ask ask = ask_nothing(scope, name, limits);
	wire->keys = wire->arguments = wire->used = 0;
	CHECK(takes_part(&ask, scope));
	put_set_key(wire, &ask, scope);
	put_known(wire, now, LIMITER_WIRE_NOW);
	put_scope(wire, &ask, scope, true, 0);
}

/* ---- settle ----------------------------------------------------------------- */

static void put_sets(struct limiter_wire *wire, const struct limiter_ask *ask)
{
	for (int s = first_scope(ask) + 1; s < LIMITER_SCOPES; s++)
		if (takes_part(ask, s) && places(ask, s) > 0)
			put_set_key(wire, ask, s);
}

/* True use against what was reserved, in this limit; 0 when nothing changes. */
static int64_t true_cost(const struct limiter_ask *ask, int scope, enum limit_kind kind,
			 const struct limiter_used *used)
{
	if (limit_unit_of(kind) == LIMIT_TOKENS)
		return used->tokens;
	return used->never_sent ? 0 : ask->scope[scope].requests;
}

struct change {
	enum limit_kind kind;
	int64_t by;
};

static size_t list_changes(const struct limiter_ask *ask, int scope, const struct limiter_used *used,
			   enum row_what what, struct change change[LIMIT_COUNT])
{
	size_t count = 0;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		const struct limit *limit = &ask->scope[scope].limits->of[k];
		if (limit->count == 0 || limit_unit_of(k) == LIMIT_CONCURRENCY)
			continue;
		if (what == ROW_LOG && !limiter_limits_has_log(limit, k))
			continue;
		int64_t reserved = cost_of(ask, scope, k), spent = true_cost(ask, scope, k, used),
			by = spent - reserved;
		if (what == ROW_BUCKET)
			by = limiter_limits_charge(limit, k, spent) - limiter_limits_charge(limit, k, reserved);
		if (by > 0 || (by < 0 && limiter_limits_refunds(limit, k)))
			change[count++] = (struct change){ .kind = k, .by = by };
	}
	return count;
}

static int64_t put_bucket_changes(struct limiter_wire *wire, const struct limiter_ask *ask,
				  const struct limiter_used *used)
{
	int64_t groups = 0;
	for (int s = first_scope(ask); s < LIMITER_SCOPES; s++) {
		struct change change[LIMIT_COUNT];
		size_t count = takes_part(ask, s) ? list_changes(ask, s, used, ROW_BUCKET, change) : 0;
		if (count == 0)
			continue;
		groups++;
		put_key(wire, ask, s, SLICE("}:q"), SLICE_NONE);
		put_int(wire, (int64_t)count);
		for (size_t i = 0; i < count; i++) {
			put(wire, slice_of(limit_name(change[i].kind)));
			put_int(wire, change[i].by);
			put_int(wire,
				limiter_limits_bucket(&ask->scope[s].limits->of[change[i].kind], change[i].kind).roof);
		}
	}
	return groups;
}

static int64_t put_log_changes(struct limiter_wire *wire, const struct limiter_ask *ask,
			       const struct limiter_used *used)
{
	int64_t logs = 0;
	for (int s = first_scope(ask); s < LIMITER_SCOPES; s++) {
		struct change change[LIMIT_COUNT];
		size_t count = takes_part(ask, s) ? list_changes(ask, s, used, ROW_LOG, change) : 0;
		for (size_t i = 0; i < count; i++, logs++) {
			struct limiter_log log = limiter_limits_log(change[i].kind);
			put_log_key(wire, ask, s, change[i].kind);
			put_int(wire, change[i].by);
			put_int(wire, log.hold);
			put_int(wire, log.width);
		}
	}
	return logs;
}

/* Writes a number over an argument that was put as a place-holder: the count of what follows it. */
static void put_back(struct limiter_wire *wire, size_t at, int64_t value)
{
	put_int(wire, value);
	wire->argument[at] = wire->argument[--wire->arguments];
}

void limiter_wire_settle(struct limiter_wire *wire, const struct limiter_ask *ask, const struct limiter_used *used,
			 const struct limiter_wire_past *past, int64_t now)
{
	start(wire, ask, now);
	put_int(wire, past->lease);
	put_int(wire, past->again);
	put_int(wire, past->trace);
	put_known(wire, past->reserved, LIMITER_WIRE_UNKNOWN);
	put_sets(wire, ask);
	put_int(wire, (int64_t)wire->keys - 1);
	size_t counts = wire->arguments;
	put(wire, SLICE_NONE);
	put(wire, SLICE_NONE);
	put_back(wire, counts, put_bucket_changes(wire, ask, used));
	put_back(wire, counts + 1, put_log_changes(wire, ask, used));
}

void limiter_wire_sets(struct limiter_wire *wire, const struct limiter_ask *ask)
{
	start(wire, ask, LIMITER_WIRE_NOW);
	put_sets(wire, ask);
}

/* ---- reading ---------------------------------------------------------------- */

/* Which scope and kind the row number of a denial means. */
static bool read_bound(const struct limiter_ask *ask, int64_t bound, struct limiter_answer *answer)
{
	static const enum row_what order[] = { ROW_BUCKET, ROW_LOG, ROW_PLACES };
	int first = first_scope(ask);
	for (int s = first; s < LIMITER_SCOPES; s++)
		for (size_t o = 0; takes_part(ask, s) && o < ARRAY_LENGTH(order); o++) {
			struct row row[LIMIT_COUNT];
			size_t count = list_rows(ask, s, s == first, order[o], row);
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
	struct row row[LIMIT_COUNT];
	size_t at = 0, buckets = list_rows(ask, scope, true, ROW_BUCKET, row);
	if (count < buckets)
		return false;
	for (size_t i = 0; i < buckets; i++, at++)
		left[row[i].kind] = bucket_left(&of[row[i].kind], row[i].kind, number[at]);
	size_t logs = list_rows(ask, scope, true, ROW_LOG, row);
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
	if (count < 4 || number[0] < 0 || number[0] > 2)
		return false;
	if (number[0] == 2) {
		answer->verdict = LIMITER_UNAVAILABLE;
		return true;
	}
	answer->verdict = number[0] == 1 ? LIMITER_ADMITTED : LIMITER_DENIED;
	answer->wait = number[2];
	if (number[0] == 1)
		*reserved = number[1];
	else if (number[2] < 1 || !read_bound(ask, number[3], answer))
		return false;
	return first_scope(ask) != LIMITER_TENANT ||
	       read_left(ask, LIMITER_TENANT, number + 4, count - 4, answer->left);
}

bool limiter_wire_read_peek(const struct limits *limits, const int64_t *number, size_t count,
			    struct limiter_left left[LIMIT_COUNT])
{
	struct limiter_ask ask = ask_nothing(LIMITER_TENANT, SLICE_NONE, limits); /* the order is every scope's */
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
	for (int s = first_scope(ask); s < LIMITER_SCOPES; s++) {
		struct change change[LIMIT_COUNT];
		size_t changes = takes_part(ask, s) ? list_changes(ask, s, used, ROW_BUCKET, change) : 0;
		for (size_t i = 0; i < changes; i++, at++) {
			if (at >= count || number[at] < 0)
				return false;
			forgiven[change[i].kind] += limiter_limits_cost(&ask->scope[s].limits->of[change[i].kind],
									change[i].kind, number[at]);
		}
	}
	return at == count;
}

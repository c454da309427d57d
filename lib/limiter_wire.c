#include "lib/limiter_wire.h"

#include "lib/buf.h"
#include "lib/limiter_limits.h"
#include "lib/limiter_rows.h"

#define WAIT_LEAST 1000 /* µs; for a place that nobody can promise */

bool limiter_wire_needed(const struct limiter_ask *ask)
{
	return limiter_rows_first(ask) < LIMITER_SCOPES;
}

bool limiter_wire_never(const struct limiter_ask *ask, struct limiter_answer *answer)
{
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		const struct limits *limits = ask->scope[s].limits;
		for (int k = 0; limits != NULL && k < LIMIT_COUNT; k++) {
			const struct limit *limit = &limits->of[k];
			if (limit->count == 0 || limit_unit_of(k) == LIMIT_CONCURRENCY)
				continue;
			if (limiter_rows_cost(ask, s, k) <= limiter_limits_most(limit, k))
				continue;
			answer->verdict = LIMITER_NEVER;
			answer->scope = s;
			answer->kind = k;
			return true;
		}
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

static const char *const prefixes[LIMITER_SCOPES] = { "sluice:{t:", "sluice:{m:", "sluice:{u:" };

static void put_key(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, struct slice suffix,
		    struct slice limit)
{
	CHECK(wire->keys < ARRAY_LENGTH(wire->key));
	struct slice key = keep(wire, slice_of(prefixes[scope]));
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

void limiter_wire_line_key(const struct limiter_ask *ask, enum limiter_scope scope, char which, struct buf *out)
{
	buf_append(out, slice_of(prefixes[scope]));
	buf_append(out, ask->scope[scope].name);
	buf_append(out, SLICE("}:"));
	buf_append_byte(out, which);
	CHECK(!out->overflowed);
}

static void put_line_keys(struct limiter_wire *wire, const struct limiter_ask *ask, int scope)
{
	put_key(wire, ask, scope, SLICE("}:w"), SLICE_NONE);
	put_key(wire, ask, scope, SLICE("}:f"), SLICE_NONE);
}

static bool has_line(const struct limiter_wire *wire, int scope) /* a tenant has none */
{
	return scope != LIMITER_TENANT && wire->takes_part[scope];
}

static void start(struct limiter_wire *wire, const struct limiter_ask *ask, int64_t now)
{
	wire->keys = wire->arguments = wire->used = 0;
	wire->first = LIMITER_SCOPES;
	for (int s = LIMITER_SCOPES; s-- > 0;) {
		wire->takes_part[s] = limiter_rows_any(ask, s);
		wire->refunds[s] = false;
		if (wire->takes_part[s])
			wire->first = s;
	}
	CHECK(wire->first < LIMITER_SCOPES);
	put_set_key(wire, ask, wire->first);
	put_known(wire, now, LIMITER_WIRE_NOW);
	put(wire, ask->id);
}

/* ---- admit ------------------------------------------------------------------ */

static void put_buckets(struct limiter_wire *wire, const struct limiter_ask *ask, int scope,
			const struct limiter_row *row, size_t count)
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

static void put_logs(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, const struct limiter_row *row,
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

/* How late who is called may come without a loss, in all the lines that it may stand in: a quarter of what strict limits on requests leave unused. */
static int64_t credit_of(const struct limiter_ask *ask)
{
	int64_t credit = INT64_MAX;
	for (int s = LIMITER_MODEL; s < LIMITER_SCOPES; s++) {
		const struct limits *limits = ask->scope[s].limits;
		for (int k = 0; limits != NULL && k < LIMIT_COUNT; k++) {
			const struct limit *limit = &limits->of[k];
			int64_t slack = limit->strict ? limit_period(k) / 400 : 0;
			if (limit->count > 0 && limit_unit_of(k) != LIMIT_CONCURRENCY && slack < credit)
				credit = slack;
		}
	}
	return credit == INT64_MAX ? 0 : credit;
}

/* "tenant group lane limit credit front waited"; a tenant without a name is nobody. */
static void put_place(struct limiter_wire *wire, const struct limiter_ask *ask)
{
	struct slice tenant = ask->scope[LIMITER_TENANT].name;
	struct buf out;

	CHECK(slice_find(tenant, ' ') == tenant.len && ask->line.lane < LANES && ask->line.most >= 0);
	buf_wrap(&out, wire->text + wire->used, sizeof wire->text - wire->used, 0);
	buf_append(&out, tenant.len > 0 ? tenant : SLICE("-"));
	buf_append_byte(&out, ' ');
	buf_append_int(&out, (int64_t)ask->line.group + 1);
	buf_append_byte(&out, ' ');
	buf_append_int(&out, (int64_t)ask->line.lane + 1);
	buf_append_byte(&out, ' ');
	buf_append_int(&out, ask->line.most);
	buf_append_byte(&out, ' ');
	buf_append_int(&out, credit_of(ask));
	buf_append(&out, ask->line.front ? SLICE(" 1") : SLICE(" 0"));
	buf_append(&out, ask->line.waited ? SLICE(" 1") : SLICE(" 0"));
	CHECK(!out.overflowed);
	wire->used += out.len;
	put(wire, buf_slice(&out));
}

static void put_line(struct limiter_wire *wire, const struct limiter_ask *ask, struct slice rule)
{
	put(wire, rule);
	if (rule.len > 0)
		put_place(wire, ask);
	else
		put(wire, SLICE_NONE);
}

static void put_scope(struct limiter_wire *wire, const struct limiter_ask *ask, int scope, bool first, int64_t hold,
		      bool lined)
{
	struct limiter_row bucket[LIMIT_COUNT], log[LIMIT_COUNT];
	size_t buckets = limiter_rows_list(ask, scope, first, ROW_BUCKET, bucket);
	size_t logs = limiter_rows_list(ask, scope, first, ROW_LOG, log);
	int64_t limit = limiter_rows_places(ask, scope), wait = limit > 0 ? hold / limit : 0;
	put_int(wire, (int64_t)buckets);
	put_int(wire, (int64_t)logs);
	put_int(wire, limit);
	put_int(wire, wait > WAIT_LEAST ? wait : WAIT_LEAST);
	put_int(wire, lined);
	put_buckets(wire, ask, scope, bucket, buckets);
	if (limit > 0 && !first)
		put_set_key(wire, ask, scope);
	put_logs(wire, ask, scope, log, logs);
	if (lined)
		put_line_keys(wire, ask, scope);
}

void limiter_wire_admit(struct limiter_wire *wire, const struct limiter_ask *ask,
			const struct limiter_wire_times *times, struct slice rule, int64_t now)
{
	bool lined = rule.len > 0;
	start(wire, ask, now);
	put_int(wire, times->lease);
	put_line(wire, ask, rule);
	int scopes = 0;
	for (int s = 0; s < LIMITER_SCOPES; s++)
		scopes += wire->takes_part[s];
	put_int(wire, scopes);
	for (int s = wire->first; s < LIMITER_SCOPES; s++)
		if (wire->takes_part[s])
			put_scope(wire, ask, s, s == wire->first, times->hold, lined && has_line(wire, s));
}

/* ---- peek ------------------------------------------------------------------- */

void limiter_wire_peek(struct limiter_wire *wire, enum limiter_scope scope, struct slice name,
		       const struct limits *limits, int64_t now)
{
	struct limiter_ask ask = limiter_rows_ask(scope, name, limits);
	wire->keys = wire->arguments = wire->used = 0;
	CHECK(limiter_rows_any(&ask, scope));
	put_set_key(wire, &ask, scope);
	put_known(wire, now, LIMITER_WIRE_NOW);
	put_scope(wire, &ask, scope, true, 0, false);
}

/* ---- settle ----------------------------------------------------------------- */

static void put_sets(struct limiter_wire *wire, const struct limiter_ask *ask)
{
	for (int s = wire->first + 1; s < LIMITER_SCOPES; s++)
		if (wire->takes_part[s] && limiter_rows_places(ask, s) > 0)
			put_set_key(wire, ask, s);
}

static int64_t put_bucket_changes(struct limiter_wire *wire, const struct limiter_ask *ask,
				  const struct limiter_used *used)
{
	int64_t groups = 0;
	for (int s = wire->first; s < LIMITER_SCOPES; s++) {
		struct limiter_change change[LIMIT_COUNT];
		size_t count = wire->takes_part[s] ? limiter_rows_changes(ask, s, used, ROW_BUCKET, change) : 0;
		if (count == 0)
			continue;
		groups++;
		for (size_t i = 0; i < count; i++)
			wire->refunds[s] |= change[i].by < 0;
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
			       const struct limiter_used *used, bool refunds)
{
	int64_t logs = 0;
	for (int s = wire->first; s < LIMITER_SCOPES; s++) {
		struct limiter_change change[LIMIT_COUNT];
		size_t count = wire->takes_part[s] ? limiter_rows_changes(ask, s, used, ROW_LOG, change) : 0;
		for (size_t i = 0; i < count; i++) {
			if (change[i].by < 0 && !refunds)
				continue;
			logs++;
			struct limiter_log log = limiter_limits_log(change[i].kind);
			put_log_key(wire, ask, s, change[i].kind);
			put_int(wire, change[i].by);
			put_int(wire, log.hold);
			put_int(wire, log.width);
		}
	}
	return logs;
}

/* Only the lines in which something comes free, a place or some of what was charged, or where it may stand: most calls settle without one. */
static void put_lines(struct limiter_wire *wire, const struct limiter_ask *ask, const struct limiter_wire_past *past)
{
	bool may_stand = past->waits || past->trace || past->reserved == LIMITER_WIRE_UNKNOWN;
	for (int s = LIMITER_MODEL; s < LIMITER_SCOPES; s++) {
		if (!has_line(wire, s))
			continue;
		int free = (limiter_rows_places(ask, s) > 0) + 2 * wire->refunds[s];
		if (free == 0 && !may_stand)
			continue;
		put_line_keys(wire, ask, s);
		put_int(wire, free);
	}
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
	if (past->waits)
		put(wire, SLICE("waits"));
	else
		put_known(wire, past->reserved, LIMITER_WIRE_UNKNOWN);
	put_sets(wire, ask);
	put_int(wire, (int64_t)wire->keys - 1);
	size_t counts = wire->arguments;
	put(wire, SLICE_NONE);
	put(wire, SLICE_NONE);
	put(wire, past->rule);
	put_back(wire, counts, put_bucket_changes(wire, ask, used));
	put_back(wire, counts + 1, put_log_changes(wire, ask, used, !past->merged));
	if (past->rule.len > 0)
		put_lines(wire, ask, past);
}

void limiter_wire_sets(struct limiter_wire *wire, const struct limiter_ask *ask)
{
	start(wire, ask, LIMITER_WIRE_NOW);
	put_sets(wire, ask);
}

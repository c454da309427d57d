#include "lib/limiter_shadow.h"

#include "lib/limiter_limits.h"
#include "lib/mem.h"

#define WAIT_LEAST  INT64_C(1000) /* for a place that nobody can promise */
#define CHARGE_MOST (INT64_C(1) << 60)

struct limiter_shadow *limiter_shadow_new(enum limiter_scope scope, struct slice name)
{
	struct limiter_shadow *s = mem_new(sizeof(*s) + name.len);
	list_init(&s->owing);
	list_init(&s->line);
	list_init(&s->calling);
	s->scope = scope;
	s->name_length = name.len;
	if (name.len > 0)
		memcpy(s->name, name.data, name.len);
	return s;
}

void limiter_shadow_free(void *shadow)
{
	struct limiter_shadow *s = shadow;
	CHECK(s->leases == 0 && s->merge == NULL && list_empty(&s->line));
	list_remove(&s->owing);
	list_remove(&s->calling);
	for (int k = 0; k < LIMIT_COUNT; k++)
		mem_free(s->log[k]);
	mem_free(s);
}

/* ---- numbers ---------------------------------------------------------------- */

static int64_t cost_of(const struct limiter_cost *cost, enum limit_kind kind)
{
	return limit_unit_of(kind) == LIMIT_TOKENS ? cost->tokens : cost->requests;
}

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Of a count: the remainder goes to the first workers. */
int64_t limiter_shadow_part(int64_t count, const struct limiter_share *share)
{
	return count / share->of + (share->rank < count % share->of);
}

static int64_t times(int64_t charge, int64_t factor)
{
	return factor > 0 && charge > CHARGE_MOST / factor ? CHARGE_MOST : charge * factor;
}

/* ---- logs ------------------------------------------------------------------- */

int64_t limiter_shadow_slice(enum limit_kind kind)
{
	return limiter_limits_log(kind).hold / (LIMITER_SHADOW_SLICES - 1) + 1;
}

static bool counts(const struct limiter_shadow_log *log, int64_t slice, int64_t now_slice)
{
	return slice > now_slice - LIMITER_SHADOW_SLICES && slice <= log->newest &&
	       slice > log->newest - LIMITER_SHADOW_SLICES;
}

/* The first slice that may count at that time. The clock begins with the machine, and so do slices: a day before it there is none. */
static int64_t first_slice(int64_t now_slice)
{
	return larger(now_slice - LIMITER_SHADOW_SLICES + 1, 0);
}

static int64_t log_sum(const struct limiter_shadow_log *log, int64_t now_slice)
{
	int64_t sum = 0;
	for (int64_t i = first_slice(now_slice); i <= log->newest; i++)
		if (counts(log, i, now_slice))
			sum += log->used[i % LIMITER_SHADOW_SLICES];
	return sum;
}

/* What is missing falls out with the oldest slices; `ahead`, which is to be used first, with those that it will be in. */
static int64_t log_wait(const struct limiter_shadow_log *log, enum limit_kind kind, int64_t cost, int64_t ahead,
			int64_t most, int64_t now)
{
	int64_t width = limiter_shadow_slice(kind), here = now / width, hold = limiter_limits_log(kind).hold;
	if (cost > most)
		return hold;
	if (ahead + cost > most)
		return times(hold, (ahead + cost - 1) / most);
	if (log == NULL)
		return 0;
	int64_t missing = log_sum(log, here) + ahead + cost - most;
	for (int64_t i = first_slice(here); missing > 0 && i <= log->newest; i++) {
		if (counts(log, i, here))
			missing -= log->used[i % LIMITER_SHADOW_SLICES];
		if (missing <= 0)
			return (i + LIMITER_SHADOW_SLICES) * width - now;
	}
	return 0;
}

/* The place of that slice, after those that are past have been forgotten; -1: it is past itself. */
static int64_t log_at(struct limiter_shadow_log *log, int64_t slice)
{
	if (slice <= log->newest - LIMITER_SHADOW_SLICES)
		return -1;
	for (int64_t i = larger(log->newest + 1, slice - LIMITER_SHADOW_SLICES + 1); i <= slice; i++)
		log->used[i % LIMITER_SHADOW_SLICES] = log->owed[i % LIMITER_SHADOW_SLICES] = 0;
	log->newest = larger(log->newest, slice);
	return slice % LIMITER_SHADOW_SLICES;
}

static void log_add(struct limiter_shadow_log *log, int64_t slice, int64_t tokens, int64_t owed)
{
	int64_t at = log_at(log, slice);
	if (at < 0)
		return;
	log->used[at] = larger(log->used[at] + tokens, 0);
	log->owed[at] = larger(log->owed[at] + owed, 0);
}

static struct limiter_shadow_log *log_of(struct limiter_shadow *s, enum limit_kind kind)
{
	if (s->log[kind] == NULL)
		s->log[kind] = mem_new(sizeof(*s->log[kind]));
	return s->log[kind];
}

/* ---- admitting -------------------------------------------------------------- */

/* A slot holds one charge: for tokens, which differ, the half of the half … of the bucket that still does. */
static int64_t slot_of(enum limit_kind kind, int64_t charge, int64_t capacity)
{
	int64_t slot = charge;
	if (limit_unit_of(kind) == LIMIT_TOKENS)
		for (slot = larger(capacity, charge); slot / 2 >= charge && slot > 1;)
			slot /= 2;
	return larger(slot, 1);
}

/* When it is this worker's turn, from then on. */
static int64_t turn_after(int64_t then, int64_t slot, const struct limiter_share *share)
{
	int64_t time = larger(then + share->ahead, 0), number = time / slot;
	int64_t slots = ((share->rank - number) % share->of + share->of) % share->of;
	return slots == 0 ? then : (number + slots) * slot - share->ahead;
}

static int64_t bucket_wait(const struct limiter_shadow *s, const struct limit *limit, enum limit_kind kind,
			   int64_t cost, int64_t ahead, const struct limiter_share *share, int64_t now)
{
	int64_t charge = limiter_limits_charge(limit, kind, cost), all = times(charge, share->of);
	int64_t capacity = limiter_limits_bucket(limit, kind).capacity;
	int64_t tat = larger(s->bucket[kind].tat, now) + times(limiter_limits_charge(limit, kind, ahead), share->of);
	if (all <= capacity)
		return larger(tat + all - capacity - now, 0);
	return turn_after(tat, slot_of(kind, charge, capacity), share) - now;
}

static int64_t place_wait(const struct limiter_shadow *s, const struct limit *limit, const struct limiter_cost *cost,
			  int64_t ahead, const struct limiter_share *share)
{
	int64_t places = limiter_shadow_part(limit->count, share), ends = s->places + ahead + 1 - places;
	return ends <= 0 ? 0 : larger(times(cost->hold / larger(places, 1), ends), WAIT_LEAST);
}

bool limiter_shadow_may_hold(const struct limit *limit, enum limit_kind kind, const struct limiter_cost *cost,
			     const struct limiter_share *share)
{
	int64_t least = limit_unit_of(kind) == LIMIT_CONCURRENCY ? 1
			: limiter_limits_has_log(limit, kind)    ? cost->tokens
								 : 0;
	return limit->count == 0 || limiter_shadow_part(limit->count, share) >= least;
}

bool limiter_shadow_ever_fits(const struct limits *limits, const struct limiter_cost *cost,
			      const struct limiter_share *share)
{
	for (int k = 0; k < LIMIT_COUNT; k++)
		if (!limiter_shadow_may_hold(&limits->of[k], k, cost, share))
			return false;
	return true;
}

int64_t limiter_shadow_wait(const struct limiter_shadow *s, const struct limits *limits,
			    const struct limiter_cost *cost, const struct limiter_crowd *ahead,
			    const struct limiter_share *share, int64_t now, enum limit_kind *bound)
{
	static const struct limiter_crowd nobody = { 0 };
	const struct limiter_crowd *crowd = ahead != NULL ? ahead : &nobody;
	const struct limiter_cost theirs = { .requests = crowd->requests, .tokens = crowd->tokens };
	int64_t longest = 0;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		const struct limit *limit = &limits->of[k];
		int64_t wait = 0, units = cost_of(cost, k), before = cost_of(&theirs, k);
		if (limit->count == 0)
			continue;
		if (limit_unit_of(k) == LIMIT_CONCURRENCY)
			wait = place_wait(s, limit, cost, crowd->leases, share);
		else if (units > 0)
			wait = bucket_wait(s, limit, k, units, before, share, now);
		if (units > 0 && limiter_limits_has_log(limit, k))
			wait = larger(wait, log_wait(s->log[k], k, units, before,
						     limiter_shadow_part(limit->count, share), now));
		if (wait > longest) {
			longest = wait;
			*bound = k;
		}
	}
	return longest;
}

void limiter_shadow_charge(struct limiter_shadow *s, const struct limits *limits, const struct limiter_cost *cost,
			   const struct limiter_share *share, bool local, int64_t now)
{
	s->places++;
	if (local)
		s->limits = *limits;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		const struct limit *limit = &limits->of[k];
		int64_t units = cost_of(cost, k);
		if (limit->count == 0 || units == 0 || limit_unit_of(k) == LIMIT_CONCURRENCY)
			continue;
		int64_t charge = limiter_limits_charge(limit, k, units), all = times(charge, share->of);
		int64_t empty = now + larger(limiter_limits_bucket(limit, k).capacity, all);
		if (s->bucket[k].tat <= now)
			s->bucket[k].full = now;
		s->bucket[k].tat = smaller(larger(s->bucket[k].tat, now) + all, empty);
		s->bucket[k].owed = smaller(s->bucket[k].owed + (local ? charge : 0), CHARGE_MOST);
		if (limiter_limits_has_log(limit, k))
			log_add(log_of(s, k), now / limiter_shadow_slice(k), units, local ? units : 0);
	}
}

void limiter_shadow_correct(struct limiter_shadow *s, const struct limits *limits, const struct limiter_cost *cost,
			    const struct limiter_cost *used, const struct limiter_share *share, bool local,
			    int64_t charged, int64_t now)
{
	s->places--;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		const struct limit *limit = &limits->of[k];
		if (limit->count == 0 || limit_unit_of(k) == LIMIT_CONCURRENCY)
			continue;
		int64_t units = cost_of(used, k) - cost_of(cost, k);
		if (units == 0 || (units < 0 && !limiter_limits_refunds(limit, k)))
			continue;
		int64_t by = limiter_limits_charge(limit, k, cost_of(used, k)) -
			     limiter_limits_charge(limit, k, cost_of(cost, k));
		if (by > 0)
			s->bucket[k].tat = smaller(larger(s->bucket[k].tat, now) + times(by, share->of),
						   now + limiter_limits_bucket(limit, k).roof);
		else if (charged >= s->bucket[k].full) /* else it has refilled already */
			s->bucket[k].tat -= times(-by, share->of);
		if (local)
			s->bucket[k].owed = larger(s->bucket[k].owed + by, 0);
		if (limiter_limits_has_log(limit, k))
			log_add(log_of(s, k), (units < 0 ? charged : now) / limiter_shadow_slice(k), units,
				local ? units : 0);
	}
}

bool limiter_shadow_is_idle(const struct limiter_shadow *s, int64_t now)
{
	if (s->leases > 0 || s->merge != NULL || limiter_shadow_owes(s))
		return false;
	for (int k = 0; k < LIMIT_COUNT; k++) {
		if (s->bucket[k].tat > now)
			return false;
		if (s->log[k] != NULL && log_sum(s->log[k], now / limiter_shadow_slice(k)) > 0)
			return false;
	}
	return true;
}

/* ---- what is owed ----------------------------------------------------------- */

bool limiter_shadow_owes(const struct limiter_shadow *s)
{
	for (int k = 0; k < LIMIT_COUNT; k++) {
		if (s->bucket[k].owed > 0)
			return true;
		for (int i = 0; s->log[k] != NULL && i < LIMITER_SHADOW_SLICES; i++)
			if (s->log[k]->owed[i] > 0)
				return true;
	}
	return false;
}

void limiter_shadow_take(struct limiter_shadow *s, struct limiter_debt *debt)
{
	*debt = (struct limiter_debt){ .bucket = { 0 } };
	for (int k = 0; k < LIMIT_COUNT; k++) {
		debt->bucket[k] = s->bucket[k].owed;
		s->bucket[k].owed = 0;
		if (s->log[k] == NULL)
			continue;
		debt->log[k].newest = s->log[k]->newest;
		memcpy(debt->log[k].owed, s->log[k]->owed, sizeof(debt->log[k].owed));
		memset(s->log[k]->owed, 0, sizeof(s->log[k]->owed));
	}
}

void limiter_shadow_owe(struct limiter_shadow *s, const struct limiter_debt *debt)
{
	for (int k = 0; k < LIMIT_COUNT; k++) {
		s->bucket[k].owed += debt->bucket[k];
		for (int64_t i = 0; s->log[k] != NULL && i < LIMITER_SHADOW_SLICES; i++) {
			int64_t slice = debt->log[k].newest - i;
			if (slice >= 0 && debt->log[k].owed[slice % LIMITER_SHADOW_SLICES] > 0)
				log_add(s->log[k], slice, 0, debt->log[k].owed[slice % LIMITER_SHADOW_SLICES]);
		}
	}
}

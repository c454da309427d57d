#include "tests/support/limiter_model.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND INT64_C(1000000)

__extension__ typedef __int128 wide;

struct bucket {
	int64_t level, at; /* µs of backlog at that time; it drains by one each microsecond */
	int64_t full;      /* when it was last empty of backlog, before a charge */
};
struct slot {
	int64_t index, last, sum;
};
struct log {
	struct slot *slot;
	size_t count;
	int64_t born;
};
struct entry {
	char id[100];
	int64_t score; /* end of a lease, or minus the end of a tombstone */
};
struct place {
	enum limiter_scope scope;
	char name[256];
	struct bucket bucket[LIMIT_COUNT];
	struct log log[LIMIT_COUNT];
	struct entry *entry; /* sorted as Redis sorts: by score, then by bytes */
	size_t entries;
};
struct limiter_model {
	int64_t lease, hold;
	struct place *place[64];
	size_t places;
};

static void *must(void *block)
{
	if (block == NULL)
		abort();
	return block;
}

static int64_t max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

struct limiter_model *limiter_model_new(int64_t lease, int64_t hold)
{
	struct limiter_model *m = must(calloc(1, sizeof *m));
	m->lease = lease;
	m->hold = hold;
	return m;
}

void limiter_model_flush(struct limiter_model *m)
{
	for (size_t i = 0; i < m->places; i++) {
		for (int k = 0; k < LIMIT_COUNT; k++)
			free(m->place[i]->log[k].slot);
		free(m->place[i]->entry);
		free(m->place[i]);
	}
	m->places = 0;
}

void limiter_model_free(struct limiter_model **m)
{
	if (*m == NULL)
		return;
	limiter_model_flush(*m);
	free(*m);
	*m = NULL;
}

static struct place *place_of(struct limiter_model *m, enum limiter_scope scope, struct slice name)
{
	for (size_t i = 0; i < m->places; i++)
		if (m->place[i]->scope == scope && slice_equal(slice_of(m->place[i]->name), name))
			return m->place[i];
	if (m->places == 64 || name.len >= sizeof m->place[0]->name)
		abort();
	struct place *p = must(calloc(1, sizeof *p));
	p->scope = scope;
	memcpy(p->name, name.data, name.len);
	m->place[m->places++] = p;
	return p;
}

/* ---- what a limit means, derived from its promise --------------------------- */

static bool tokens(enum limit_kind kind)
{
	return kind == LIMIT_tpm || kind == LIMIT_tph || kind == LIMIT_tpd;
}

static int64_t period_of(enum limit_kind kind)
{
	static const int64_t seconds[LIMIT_COUNT] = { 1, 60, 3600, 86400, 60, 3600, 86400, 0 };
	return seconds[kind] * SECOND;
}

static wide up(wide a, wide b)
{
	return a / b + (a % b != 0);
}

/* ⌈T·cost⌉; strict requests are spaced by whole microseconds. */
static int64_t charge_of(const struct limit *l, enum limit_kind kind, int64_t cost)
{
	wide w = period_of(kind), charge;
	if (l->strict && !tokens(kind)) {
		wide spacing = w * 100 / ((wide)99 * l->count), least = up(w, l->count - l->count / 200);
		charge = (spacing > least ? spacing : least) * cost;
	} else {
		charge = up(w * cost, l->count);
	}
	wide most = (wide)1 << 50;
	return (int64_t)(charge < most ? charge : most);
}

static int64_t burst_of(const struct limit *l, enum limit_kind kind)
{
	if (!l->strict)
		return l->burst;
	return tokens(kind) ? max(1, l->count / 20) : 1 + l->count / 200;
}

static int64_t cost_of(const struct limiter_ask *ask, int s, int k)
{
	return tokens(k) ? ask->tokens : ask->scope[s].requests;
}

static int64_t level(const struct bucket *b, int64_t now)
{
	return max(0, b->level - (now - b->at));
}

/* ---- logs ------------------------------------------------------------------- */

static int64_t log_hold(enum limit_kind kind)
{
	return period_of(kind) + period_of(kind) / 1000;
}

static int64_t log_index(enum limit_kind kind, int64_t time)
{
	return time / (int64_t)up(period_of(kind), 98);
}

static bool counts(const struct log *log, size_t i, enum limit_kind kind, int64_t now)
{
	return log->slot[i].last + log_hold(kind) > now;
}

static int64_t log_sum(const struct log *log, enum limit_kind kind, int64_t now)
{
	int64_t sum = 0;
	for (size_t i = 0; i < log->count; i++)
		if (counts(log, i, kind, now))
			sum += log->slot[i].sum;
	return sum;
}

static int64_t log_reset(const struct log *log, enum limit_kind kind, int64_t now)
{
	return log->count == 0 ? 0 : max(0, log->slot[log->count - 1].last + log_hold(kind) - now);
}

static int64_t log_wait(const struct log *log, enum limit_kind kind, int64_t cost, int64_t limit, int64_t now)
{
	int64_t over = log_sum(log, kind, now) + cost - limit, wait = 0;
	for (size_t i = 0; i < log->count && over > 0; i++)
		if (counts(log, i, kind, now)) {
			over -= log->slot[i].sum;
			wait = log->slot[i].last + log_hold(kind) - now;
		}
	return wait;
}

static void log_add(struct log *log, enum limit_kind kind, int64_t amount, int64_t now)
{
	size_t keep = 0;
	for (size_t i = 0; i < log->count; i++)
		if (counts(log, i, kind, now))
			log->slot[keep++] = log->slot[i];
	log->count = keep;
	if (keep == 0)
		log->born = now;
	if (keep == 0 || log->slot[keep - 1].index != log_index(kind, now)) {
		log->slot = must(realloc(log->slot, (keep + 1) * sizeof *log->slot));
		log->slot[log->count++] = (struct slot){ .index = log_index(kind, now) };
	}
	log->slot[log->count - 1].last = now;
	log->slot[log->count - 1].sum += amount;
}

static void log_refund(struct log *log, enum limit_kind kind, int64_t amount, int64_t reserved)
{
	if (reserved < log->born)
		return;
	for (size_t i = 0; i < log->count; i++)
		if (log->slot[i].index == log_index(kind, reserved))
			log->slot[i].sum -= min(amount, log->slot[i].sum);
}

/* ---- leases ----------------------------------------------------------------- */

static struct entry *entry_of(struct place *p, struct slice id)
{
	for (size_t i = 0; i < p->entries; i++)
		if (slice_equal(slice_of(p->entry[i].id), id))
			return &p->entry[i];
	return NULL;
}

static int by_score(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	if (x->score != y->score)
		return x->score < y->score ? -1 : 1;
	return strcmp(x->id, y->id);
}

static void entry_remove(struct place *p, struct entry *e)
{
	if (e == NULL)
		return;
	size_t at = (size_t)(e - p->entry);
	memmove(e, e + 1, (p->entries - at - 1) * sizeof *e);
	p->entries--;
}

static void entry_set(struct place *p, struct slice id, int64_t score)
{
	struct entry *e = entry_of(p, id);
	if (e == NULL) {
		p->entry = must(realloc(p->entry, (p->entries + 1) * sizeof *p->entry));
		e = &p->entry[p->entries++];
		snprintf(e->id, sizeof e->id, "%.*s", SLICE_ARGS(id));
	}
	e->score = score;
	qsort(p->entry, p->entries, sizeof *p->entry, by_score);
}

static int64_t in_use(const struct place *p, int64_t now)
{
	int64_t count = 0;
	for (size_t i = 0; i < p->entries; i++)
		count += p->entry[i].score > now;
	return count;
}

static void reap(struct place *p, int64_t now)
{
	int reaped = 0;
	for (size_t i = 0; i < p->entries && reaped < 16;)
		if (p->entry[i].score >= -now && p->entry[i].score <= now) {
			entry_remove(p, &p->entry[i]);
			reaped++;
		} else {
			i++;
		}
}

/* ---- the three steps -------------------------------------------------------- */

static bool limited(const struct limiter_ask *ask, int s)
{
	for (int k = 0; ask->scope[s].limits != NULL && k < LIMIT_COUNT; k++)
		if (ask->scope[s].limits->of[k].count > 0)
			return true;
	return false;
}

static int first_of(const struct limiter_ask *ask)
{
	for (int s = 0; s < LIMITER_SCOPES; s++)
		if (limited(ask, s))
			return s;
	abort();
}

static void bind(struct limiter_answer *a, int64_t wait, int s, int k)
{
	if (wait <= a->wait)
		return;
	a->wait = wait;
	a->scope = (enum limiter_scope)s;
	a->kind = (enum limit_kind)k;
}

static int64_t bucket_wait(const struct place *p, const struct limit *l, int k, int64_t cost, int64_t now)
{
	int64_t charge = charge_of(l, k, cost), capacity = charge_of(l, k, burst_of(l, k));
	return cost == 0 ? 0 : max(0, level(&p->bucket[k], now) + charge - max(capacity, charge));
}

static void judge(struct limiter_model *m, const struct limiter_ask *ask, int s, int64_t now, struct limiter_answer *a)
{
	struct place *p = place_of(m, s, ask->scope[s].name);
	const struct limit *of = ask->scope[s].limits->of;
	for (int k = 0; k < LIMIT_concurrency; k++)
		if (of[k].count > 0)
			bind(a, bucket_wait(p, &of[k], k, cost_of(ask, s, k), now), s, k);
	for (int k = 0; k < LIMIT_concurrency; k++)
		if (of[k].count > 0 && of[k].strict && tokens(k) && cost_of(ask, s, k) > 0)
			bind(a, log_wait(&p->log[k], k, cost_of(ask, s, k), of[k].count, now), s, k);
	if (of[LIMIT_concurrency].count > 0 && in_use(p, now) >= of[LIMIT_concurrency].count)
		bind(a, max(1000, m->hold / of[LIMIT_concurrency].count), s, LIMIT_concurrency);
}

static void charge(struct limiter_model *m, const struct limiter_ask *ask, int s, int64_t now)
{
	struct place *p = place_of(m, s, ask->scope[s].name);
	const struct limit *of = ask->scope[s].limits->of;
	for (int k = 0; k < LIMIT_concurrency; k++) {
		int64_t cost = cost_of(ask, s, k);
		if (of[k].count == 0 || cost == 0)
			continue;
		struct bucket *b = &p->bucket[k];
		if (level(b, now) == 0)
			b->full = now;
		*b = (struct bucket){ level(b, now) + charge_of(&of[k], k, cost), now, b->full };
		if (of[k].strict && tokens(k))
			log_add(&p->log[k], k, cost, now);
	}
	if (s != first_of(ask) && of[LIMIT_concurrency].count == 0)
		return;
	reap(p, now);
	entry_set(p, ask->id, now + m->lease);
}

/* The largest cost that still conforms, by bisection. */
static int64_t room_of(const struct limit *l, int k, int64_t level_now, int64_t most)
{
	int64_t capacity = charge_of(l, k, burst_of(l, k)), low = 0, high = most + 1;
	if (level_now == 0)
		return most;
	while (high - low > 1) {
		int64_t middle = low + (high - low) / 2;
		if (level_now + charge_of(l, k, middle) <= capacity)
			low = middle;
		else
			high = middle;
	}
	return low;
}

void limiter_model_left(struct limiter_model *m, enum limiter_scope scope, struct slice name,
			const struct limits *limits, int64_t now, struct limiter_left left[LIMIT_COUNT])
{
	struct place *p = place_of(m, scope, name);
	for (int k = 0; k < LIMIT_concurrency; k++) {
		const struct limit *l = &limits->of[k];
		if (l->count == 0)
			continue;
		bool log = l->strict && tokens(k);
		int64_t level_now = level(&p->bucket[k], now), capacity = charge_of(l, k, burst_of(l, k));
		int64_t room = room_of(l, k, level_now, log ? l->count : burst_of(l, k));
		left[k] = (struct limiter_left){ true, room, level_now,
						 (double)min(level_now, capacity) / (double)capacity };
		if (log) {
			int64_t sum = log_sum(&p->log[k], k, now);
			left[k].remaining = min(room, max(0, l->count - sum));
			left[k].reset = max(level_now, log_reset(&p->log[k], k, now));
			left[k].used = (double)min(sum, l->count) / (double)l->count;
		}
	}
	int64_t c = limits->of[LIMIT_concurrency].count, used = min(c, in_use(p, now));
	if (c > 0)
		left[LIMIT_concurrency] = (struct limiter_left){ true, c - used, 0, (double)used / (double)c };
}

void limiter_model_admit(struct limiter_model *m, const struct limiter_ask *ask, int64_t now, struct limiter_answer *a,
			 int64_t *reserved)
{
	*a = (struct limiter_answer){ .verdict = LIMITER_ADMITTED };
	int first = first_of(ask);
	struct entry *known = entry_of(place_of(m, first, ask->scope[first].name), ask->id);
	*reserved = now;
	if (known != NULL && known->score < 0) {
		a->verdict = LIMITER_UNAVAILABLE;
		return;
	}
	if (known == NULL) {
		for (int s = 0; s < LIMITER_SCOPES; s++)
			if (limited(ask, s))
				judge(m, ask, s, now, a);
		if (a->wait > 0)
			a->verdict = LIMITER_DENIED;
		for (int s = 0; s < LIMITER_SCOPES && a->wait == 0; s++)
			if (limited(ask, s))
				charge(m, ask, s, now);
	}
	if (first == LIMITER_TENANT)
		limiter_model_left(m, LIMITER_TENANT, ask->scope[LIMITER_TENANT].name,
				   ask->scope[LIMITER_TENANT].limits, now, a->left);
}

static void change_bucket(struct bucket *b, const struct limit *l, int k, int64_t from, int64_t to, int64_t reserved,
			  int64_t now, int64_t forgiven[LIMIT_COUNT])
{
	int64_t by = charge_of(l, k, to) - charge_of(l, k, from), old = level(b, now), new = old + by;
	if (by == 0 || (by < 0 && l->strict && !tokens(k)))
		return;
	if (old == 0)
		b->full = now;
	if (by < 0 && (old == 0 || reserved < b->full))
		return;
	int64_t roof = max(old, charge_of(l, k, burst_of(l, k)) + period_of(k));
	if (new > roof) {
		int64_t spacing = charge_of(l, k, 1);
		forgiven[k] += l->strict && !tokens(k) ? (new - roof) / spacing
						       : (int64_t)((wide)(new - roof) * l->count / period_of(k));
		new = roof;
	}
	if (new <= 0)
		b->full = now;
	*b = (struct bucket){ max(0, new), now, b->full };
}

static void correct(struct limiter_model *m, const struct limiter_ask *ask, int s, const struct limiter_used *used,
		    int64_t reserved, int64_t now, int64_t forgiven[LIMIT_COUNT])
{
	struct place *p = place_of(m, s, ask->scope[s].name);
	const struct limit *of = ask->scope[s].limits->of;
	for (int k = 0; k < LIMIT_concurrency; k++) {
		if (of[k].count == 0)
			continue;
		int64_t from = cost_of(ask, s, k), to = tokens(k) ? used->tokens : used->never_sent ? 0 : from;
		change_bucket(&p->bucket[k], &of[k], k, from, to, reserved, now, forgiven);
		if (!of[k].strict || !tokens(k))
			continue;
		if (to < from)
			log_refund(&p->log[k], k, from - to, reserved);
		else if (to > from)
			log_add(&p->log[k], k, to - from, now);
	}
}

bool limiter_model_settle(struct limiter_model *m, const struct limiter_ask *ask, const struct limiter_used *used,
			  const struct limiter_wire_past *past, int64_t now, int64_t forgiven[LIMIT_COUNT])
{
	int first = first_of(ask);
	struct place *proof = place_of(m, first, ask->scope[first].name);
	struct entry *known = entry_of(proof, ask->id);
	if (known != NULL && known->score < 0)
		return false;
	bool answered = past->reserved != LIMITER_WIRE_UNKNOWN;
	bool open = known != NULL || (answered && !past->again);
	int64_t reserved = answered ? past->reserved : known != NULL ? known->score - past->lease : 0;
	bool clean = known != NULL && answered && !past->again && !past->trace;
	for (int s = first; s < LIMITER_SCOPES; s++) {
		if (!limited(ask, s) || (s != first && ask->scope[s].limits->of[LIMIT_concurrency].count == 0))
			continue;
		struct place *p = place_of(m, s, ask->scope[s].name);
		if (clean)
			entry_remove(p, entry_of(p, ask->id));
		else
			entry_set(p, ask->id, -(now + 60 * SECOND));
	}
	for (int s = first; s < LIMITER_SCOPES && open; s++)
		if (limited(ask, s))
			correct(m, ask, s, used, reserved, now, forgiven);
	return open;
}

int64_t limiter_model_renew(struct limiter_model *m, enum limiter_scope scope, struct slice name,
			    const struct slice *id, size_t count, int64_t now)
{
	struct place *p = place_of(m, scope, name);
	int64_t unknown = 0;
	for (size_t i = 0; i < count; i++) {
		struct entry *e = entry_of(p, id[i]);
		unknown += e == NULL;
		if (e == NULL || (e->score >= 0 && e->score < now + m->lease))
			entry_set(p, id[i], now + m->lease);
	}
	return unknown;
}

int64_t limiter_model_backlog(struct limiter_model *m, enum limiter_scope scope, struct slice name,
			      enum limit_kind kind, int64_t now)
{
	return level(&place_of(m, scope, name)->bucket[kind], now);
}

int64_t limiter_model_log_sum(struct limiter_model *m, enum limiter_scope scope, struct slice name,
			      enum limit_kind kind, int64_t now)
{
	return log_sum(&place_of(m, scope, name)->log[kind], kind, now);
}

size_t limiter_model_set_size(struct limiter_model *m, enum limiter_scope scope, struct slice name)
{
	return place_of(m, scope, name)->entries;
}

/* Telling Redis what was admitted without it: one call of lua/merge for each scope that owes, and each once. Of a scope one is under way or unanswered at a time,
 * and one that failed is followed a second later at the soonest, unless Redis was away meanwhile or has taken an ask of that scope.
 *
 * They go out before whatever their scopes are asked next, the script ahead of them: a settle that came before its debt would give back what is not
 * charged yet. A call that surely did not run leaves its debt where it was; one that may have run is repeated under its own id, which Redis knows for a
 * minute. What runs under a local lease is held in Redis from then on like any other: its reservation is part of the debt, the next renewal
 * brings its lease, and settle will correct it.
 *
 * Disadvantage: in the log of a strict token limit the debt stands in the slice of its time, which is not known to settle; so such a lease gives nothing back
 * there, and counts until it falls out. */
#include "lib/clock.h"
#include "lib/limiter_internal.h"
#include "lib/limiter_limits.h"
#include "lib/limiter_rows.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "scripts.h"

#include <stdio.h>

#define GIVE_UP  CLOCK_MINUTE /* a tombstone lives no longer */
#define BACK_OFF CLOCK_SECOND
#define SOON     (50 * CLOCK_MILLISECOND) /* behind a failure, where Redis has taken an ask of the scope since */
enum {
	KEYS_MOST = 2 + LIMIT_COUNT,
	ARGUMENTS_MOST = 8 + LIMIT_COUNT * (6 + 2 * LIMITER_SHADOW_SLICES),
	TEXT_MOST = 6144
};

/* Owner: the limiter's list, until it was answered. Between calls: `call` is under way, or it is repeated when its shadow may. */
struct merge {
	struct limiter *limiter;
	struct limiter_shadow *shadow;
	struct list node;
	struct script_call *call;
	bool may_have_run;
	int64_t begun;
	struct limiter_debt debt;
	struct limits limits;
	char id[112];
};

/* The arguments of one call; its texts stand in `text`. */
struct wire {
	struct slice key[KEYS_MOST], argument[ARGUMENTS_MOST];
	size_t keys, arguments, used;
	char text[TEXT_MOST];
};

static struct slice keep(struct wire *w, const char *format, long long number, const char *word)
{
	int length = snprintf(w->text + w->used, sizeof(w->text) - w->used, format, number, word);
	CHECK(length >= 0 && (size_t)length < sizeof(w->text) - w->used);
	struct slice kept = slice_make(w->text + w->used, (size_t)length);
	w->used += (size_t)length;
	return kept;
}

static void put(struct wire *w, struct slice argument)
{
	CHECK(w->arguments < ARRAY_LENGTH(w->argument));
	w->argument[w->arguments++] = argument;
}

static void put_int(struct wire *w, int64_t number)
{
	put(w, keep(w, "%lld%s", (long long)number, ""));
}

static void put_key(struct wire *w, const struct merge *m, const char *suffix, const char *limit)
{
	static const char *const prefix[LIMITER_SCOPES] = { "sluice:{t:", "sluice:{m:", "sluice:{u:" };
	char *at = w->text + w->used;
	int length = snprintf(at, sizeof(w->text) - w->used, "%s%.*s%s%s", prefix[m->shadow->scope],
			      (int)m->shadow->name_length, m->shadow->name, suffix, limit);
	CHECK(length > 0 && (size_t)length < sizeof(w->text) - w->used && w->keys < ARRAY_LENGTH(w->key));
	w->used += (size_t)length;
	w->key[w->keys++] = slice_make(at, (size_t)length);
}

static bool has_bucket(const struct merge *m, enum limit_kind kind)
{
	return m->limits.of[kind].count > 0 && m->debt.bucket[kind] > 0;
}

static void put_buckets(struct wire *w, const struct merge *m)
{
	int64_t count = 0;
	for (int k = 0; k < LIMIT_COUNT; k++)
		count += has_bucket(m, k);
	put_int(w, count);
	if (count > 0)
		put_key(w, m, "}:q", "");
	for (int k = 0; k < LIMIT_COUNT; k++) {
		if (!has_bucket(m, k))
			continue;
		int64_t capacity = limiter_limits_bucket(&m->limits.of[k], k).capacity;
		put(w, slice_of(limit_name(k)));
		put_int(w, m->debt.bucket[k] < capacity ? m->debt.bucket[k] : capacity);
		put_int(w, capacity);
	}
}

static int64_t slices(const struct limiter_debt_log *log)
{
	int64_t count = 0;
	for (int i = 0; i < LIMITER_SHADOW_SLICES; i++)
		count += log->owed[i] > 0;
	return count;
}

static bool has_log(const struct merge *m, enum limit_kind kind)
{
	const struct limit *limit = &m->limits.of[kind];
	return limit->count > 0 && limiter_limits_has_log(limit, kind) && slices(&m->debt.log[kind]) > 0;
}

/* As old as the slice's end, so that nothing falls out too early. */
static void put_log(struct wire *w, const struct merge *m, enum limit_kind kind, int64_t now)
{
	const struct limiter_debt_log *log = &m->debt.log[kind];
	struct limiter_log shape = limiter_limits_log(kind);
	put_key(w, m, "}:s:", limit_name(kind));
	put_int(w, shape.hold);
	put_int(w, shape.width);
	put_int(w, slices(log));
	for (int64_t i = LIMITER_SHADOW_SLICES - 1; i >= 0; i--) {
		int64_t slice = log->newest - i, owed = slice < 0 ? 0 : log->owed[slice % LIMITER_SHADOW_SLICES];
		int64_t age = now - (slice + 1) * limiter_shadow_slice(kind);
		if (owed <= 0)
			continue;
		put_int(w, age > 0 ? age : 0);
		put_int(w, owed);
	}
}

static void merge_free(struct merge *m)
{
	script_cancel(&m->call);
	m->shadow->merge = NULL;
	list_remove(&m->node);
	mem_free(m);
}

static void give_back(struct merge *m)
{
	limiter_shadow_owe(m->shadow, &m->debt);
	if (!list_linked(&m->shadow->owing))
		list_push_back(&m->limiter->owing, &m->shadow->owing);
	merge_free(m);
}

static void on_merge(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct merge *m = arg;
	struct limiter *limiter = m->limiter;
	struct limiter_shadow *shadow = m->shadow;
	CHECK(m->call == call);
	m->call = NULL;
	limiter_heard(limiter, LIMITER_MERGE, answer);
	if (answer->result == REDIS_OK) {
		limiter->counts.merged++;
		merge_free(m);
		shadow->merge_at = 0;
		if (list_linked(&shadow->owing) && !limiter->mode.alone) /* since it went out */
			limiter_merge_all(limiter, false);
		return;
	}
	m->may_have_run |= lease_may_have_run(answer);
	shadow->merge_at = clock_now() + BACK_OFF;
	if (!m->may_have_run)
		give_back(m);
}

static void send(struct merge *m)
{
	struct limiter *limiter = m->limiter;
	struct wire w = { .used = 0 };
	int64_t now = clock_now(), logs = 0;
	put_key(&w, m, "}:l", "");
	put(&w, SLICE_NONE);
	put(&w, slice_of(m->id));
	put_int(&w, limiter->options.lease);
	put_buckets(&w, m);
	for (int k = 0; k < LIMIT_COUNT; k++)
		logs += has_log(m, k);
	put_int(&w, logs);
	for (int k = 0; k < LIMIT_COUNT; k++)
		if (has_log(m, k))
			put_log(&w, m, k, now);
	m->call = script_start(limiter->redis, &script_merge, limiter->options.timeout, on_merge, m, w.keys, w.key,
			       w.arguments, w.argument);
}

static void begin(struct limiter *limiter, struct limiter_shadow *shadow)
{
	struct merge *m = mem_new(sizeof(*m));
	m->limiter = limiter;
	m->shadow = shadow;
	shadow->merge = m;
	m->begun = clock_now();
	m->limits = shadow->limits;
	snprintf(m->id, sizeof(m->id), "%.*s.m%llu", SLICE_ARGS(limiter->options.member),
		 (unsigned long long)++limiter->merges_begun);
	limiter_shadow_take(shadow, &m->debt);
	list_push_back(&limiter->merges, &m->node);
	send(m);
}

static void abandon(struct merge *m)
{
	m->limiter->counts.merges_abandoned++;
	log_say(m->limiter->log, LOG_WARNING, "limiter.abandoned",
		"what was admitted in %s %.*s without Redis could not be told in a minute; it may not have been "
		"charged",
		limiter_scope_name(m->shadow->scope), (int)m->shadow->name_length, m->shadow->name);
	merge_free(m);
}

/* Those that may have run, and were not answered. */
static void repeat(struct limiter *limiter, bool at_once)
{
	int64_t now = clock_now();
	LIST_EACH (&limiter->merges, node, next) {
		struct merge *m = CONTAINER_OF(node, struct merge, node);
		if (m->call != NULL || (!at_once && now < m->shadow->merge_at))
			continue;
		if (now - m->begun < GIVE_UP - CLOCK_SECOND)
			send(m);
		else
			abandon(m);
	}
}

static void begin_all(struct limiter *limiter, bool at_once)
{
	LIST_EACH (&limiter->owing, node, next) {
		struct limiter_shadow *shadow = CONTAINER_OF(node, struct limiter_shadow, owing);
		if (shadow->merge != NULL || (!at_once && clock_now() < shadow->merge_at))
			continue;
		list_remove(node);
		if (limiter_shadow_owes(shadow))
			begin(limiter, shadow);
	}
}

/* While what it was charged in a scope has not gone out, it is corrected here, and Redis does not hold it. */
static bool is_told(struct lease *lease)
{
	const struct limiter *limiter = lease->limiter;
	bool all = true;
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		if (lease->shadow[s] == NULL || lease->told[s])
			continue;
		lease->told[s] = !list_linked(&lease->shadow[s]->owing);
		all &= lease->told[s];
		/* When the merge runs, or a little later: earlier, and settle would think that what it gives back has refilled since. */
		if (lease->told[s])
			lease->reserved = clock_now() + limiter->mode.share.ahead + limiter->options.timeout;
	}
	return all;
}

static void hold_local(struct limiter *limiter)
{
	struct list told;
	list_init(&told);
	LIST_EACH (&limiter->local, node, next) {
		if (!is_told(CONTAINER_OF(node, struct lease, node)))
			continue;
		list_remove(node);
		list_push_back(&told, node);
	}
	lease_bring(limiter, &told); /* Redis counts their places from now on */
	for (struct list *node; (node = list_pop_front(&told)) != NULL;) {
		struct lease *lease = CONTAINER_OF(node, struct lease, node);
		lease->merged = true;
		lease_hold(lease);
	}
}

void limiter_merge_all(struct limiter *limiter, bool at_once)
{
	if (!list_empty(&limiter->owing) || !list_empty(&limiter->merges))
		script_load(limiter->redis, &script_merge, limiter->options.timeout);
	repeat(limiter, at_once);
	begin_all(limiter, at_once);
	hold_local(limiter);
}

bool limiter_merge_told(struct lease *lease)
{
	bool any = false;
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		any |= lease->told[s] && limiter_rows_any(&lease->ask, s);
		if (!lease->told[s])
			lease->ask.scope[s].limits = NULL;
	}
	lease->merged = true;
	return any;
}

void limiter_merge_hurry(struct limiter *limiter, struct limiter_shadow *shadow)
{
	if (shadow->merge_at == 0 || clock_now() < shadow->merge_at - BACK_OFF + SOON)
		return;
	shadow->merge_at = 0;
	limiter_merge_all(limiter, false);
}

unsigned limiter_merge_left(const struct limiter *limiter)
{
	unsigned count = 0;
	LIST_EACH (&limiter->owing, node, next) {
		const struct limiter_shadow *shadow = CONTAINER_OF(node, struct limiter_shadow, owing);
		count += shadow->merge == NULL && limiter_shadow_owes(shadow);
	}
	LIST_EACH (&limiter->merges, merge, following) {
		count++;
	}
	return count;
}

void limiter_merge_stop(struct limiter *limiter)
{
	for (struct list *node; (node = list_pop_front(&limiter->merges)) != NULL;)
		merge_free(CONTAINER_OF(node, struct merge, node));
	while (list_pop_front(&limiter->owing) != NULL)
		;
}

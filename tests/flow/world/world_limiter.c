/* The stand-in for lib/limiter. */
#include "tests/flow/world/world_internal.h"

struct limiter {
	void (*lost)(struct lease *, void *);
};

/* ---- what comes ----------------------------------------------------------------------------------------------------------- */

/* One that was asked for, or one that was admitted; of several the first, or the last where the calls do not come first. */
static struct lease *find(bool admitted)
{
	struct world *w = world_now();
	struct lease *found = NULL;

	for (int i = 0; i < w->leases_count; i++) {
		struct lease *lease = &w->leases[i];
		if (!lease->settled && !lease->stands && (admitted ? lease->admitted : !lease->answered) &&
		    (found == NULL || w->scenario->order != ORDER_call))
			found = lease;
	}
	return found;
}

static void answer(struct lease *lease, enum limiter_verdict verdict)
{
	struct limiter_answer said = {
		.verdict = verdict, .scope = world_now()->scenario->denied_by, .kind = LIMIT_rpm, .wait = CLOCK_SECOND
	};

	if (verdict == LIMITER_FULL)
		said.scope = LIMITER_UPSTREAM;
	if (verdict == LIMITER_QUEUED) {
		said.scope = lease->waited % 2 == 0 ? LIMITER_UPSTREAM : LIMITER_MODEL;
		said.wait = lease->waited % 2 == 0 ? 0 : CLOCK_SECOND;
		lease->waited++;
		lease->stands = true;
	}
	said.left[LIMIT_rpm] = (struct limiter_left){ .known = verdict != LIMITER_UNAVAILABLE, .remaining = 5 };
	lease->answered = true;
	lease->stands |= verdict == LIMITER_UNAVAILABLE && lease->waited > 0;
	lease->admitted = verdict == LIMITER_ADMITTED;
	lease->done(lease, lease->arg, &said);
}

bool world_limiter_next(void)
{
	struct lease *lease = find(false);

	if (lease == NULL)
		return false;
	if (lease->waited > 0 && lease->may_wait == 0)
		answer(lease, LIMITER_DENIED); /* it came a last time */
	else if (lease->may_wait > 0 && lease->waited < world_now()->scenario->waits)
		answer(lease, LIMITER_QUEUED);
	else
		answer(lease, LIMITER_ADMITTED);
	return true;
}

bool world_limiter_fault(enum limiter_verdict verdict)
{
	struct lease *lease = find(false);

	if (lease == NULL ||
	    (verdict == LIMITER_FULL && lease->may_wait == 0)) /* the tenant's own limits have no line */
		return false;
	world_now()->fault_hit = lease->arg;
	world_now()->outcome.waited_on = verdict == LIMITER_UNAVAILABLE && lease->waited > 0;
	answer(lease, verdict);
	return true;
}

bool world_limiter_lost(void)
{
	struct lease *lease = find(true);

	if (lease == NULL)
		return false;
	world_now()->fault_hit = lease->arg;
	world_now()->shared.lease_lost(lease, lease->arg);
	return true;
}

/* ---- what the flow calls --------------------------------------------------------------------------------------- */

struct limiter *limiter_new(struct loop *loop, struct redis *redis, const struct limiter_options *options,
			    struct log *log)
{
	struct limiter *l = mem_new(sizeof(*l));

	(void)loop, (void)redis, (void)log;
	l->lost = options->lost;
	return l;
}

void limiter_free(struct limiter **l)
{
	mem_free(*l);
	*l = NULL;
}

struct lease *limiter_admit(struct limiter *l, const struct limiter_ask *ask, limiter_done *done, void *arg)
{
	struct world *w = world_now();
	struct lease *lease = &w->leases[w->leases_count++];

	(void)l;
	assert_true(w->leases_count <= WORLD_MANY);
	assert_true(ask->id.len > 0 && ask->id.len <= 80);
	*lease = (struct lease){ .done = done,
				 .arg = arg,
				 .for_call = ask->scope[LIMITER_UPSTREAM].limits != NULL,
				 .may_wait = ask->scope[LIMITER_UPSTREAM].limits != NULL ? ask->line.most : 0,
				 .tokens = ask->tokens,
				 .requests = ask->scope[LIMITER_TENANT].requests };
	for (int i = 0; i + 1 < w->leases_count; i++) /* one at a time each */
		assert_true(w->leases[i].arg != arg || w->leases[i].settled);
	return lease;
}

void limiter_again(struct lease *lease, int64_t most, limiter_done *done, void *arg)
{
	assert_true(lease->answered && lease->stands && !lease->settled && lease->arg == arg);
	lease->stands = lease->answered = false;
	lease->may_wait = most;
	lease->done = done;
}

void limiter_line_keys(const struct lease *lease, struct buf *w, struct buf *f)
{
	assert_true(lease->stands);
	assert_true(buf_append(w, SLICE("sluice:{u:x}:w")) && buf_append(f, SLICE("sluice:{u:x}:f")));
}

struct slice limiter_id(const struct lease *lease)
{
	(void)lease;
	return SLICE("test.1");
}

void limiter_settle(struct lease **handle, const struct limiter_used *used)
{
	struct lease *lease = *handle;

	*handle = NULL;
	if (lease == NULL)
		return;
	assert_false(lease->settled);
	lease->settled = true;
	lease->used = *used;
}

unsigned limiter_held(const struct limiter *l)
{
	(void)l;
	return 0;
}

unsigned limiter_unsettled(const struct limiter *l)
{
	(void)l;
	return 0;
}

struct limiter_state limiter_state(const struct limiter *l)
{
	(void)l;
	return (struct limiter_state){ .live = 1 };
}

const struct limiter_counts *limiter_counts(const struct limiter *l)
{
	static const struct limiter_counts none;

	(void)l;
	return &none;
}

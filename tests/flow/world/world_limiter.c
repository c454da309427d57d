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
		if (!lease->settled && (admitted ? lease->admitted : !lease->answered) &&
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

	said.left[LIMIT_rpm] = (struct limiter_left){ .known = verdict != LIMITER_UNAVAILABLE, .remaining = 5 };
	lease->answered = true;
	lease->admitted = verdict == LIMITER_ADMITTED;
	lease->done(lease, lease->arg, &said);
}

bool world_limiter_next(void)
{
	struct lease *lease = find(false);

	if (lease == NULL)
		return false;
	answer(lease, LIMITER_ADMITTED);
	return true;
}

bool world_limiter_fault(enum limiter_verdict verdict)
{
	struct lease *lease = find(false);

	if (lease == NULL)
		return false;
	world_now()->fault_hit = lease->arg;
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
				 .tokens = ask->tokens,
				 .requests = ask->scope[LIMITER_TENANT].requests };
	for (int i = 0; i + 1 < w->leases_count; i++) /* one at a time each */
		assert_true(w->leases[i].arg != arg || w->leases[i].settled);
	return lease;
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

const struct limiter_counts *limiter_counts(const struct limiter *l)
{
	static const struct limiter_counts none;

	(void)l;
	return &none;
}

/* Admitting without Redis: from the shadows of the ask's scopes, all or none, as the script does.
 *
 * Redis may have run an admit whose answer is missing. What is admitted here then gets a name of its own, and the old one is settled as if it had
 * never been used: so no reservation is ever of both, and what stands behind the old name is Redis' and settle's matter, as always.
 *
 * Where there are lines, who does not fit waits for the share: lib/limiter_wait.c. */
#include "lib/clock.h"
#include "lib/limiter_internal.h"
#include "lib/map.h"
#include "lib/mem.h"

#include <stdio.h>

_Static_assert((int)LIMITER_ID_MOST + (int)LEASE_NAME_MORE <= (int)LEASE_ID_MOST, "there is always another name");

void limiter_local_start(struct limiter *limiter)
{
	list_init(&limiter->local);
	list_init(&limiter->owing);
	list_init(&limiter->merges);
	for (int s = 0; s < LIMITER_SCOPES; s++)
		limiter->shadows[s] = map_new();
}

void limiter_local_stop(struct limiter *limiter)
{
	for (int s = 0; s < LIMITER_SCOPES; s++)
		map_free(&limiter->shadows[s], limiter_shadow_free);
}

struct limiter_shadow *limiter_local_shadow(struct limiter *limiter, enum limiter_scope scope, struct slice name)
{
	struct limiter_shadow *shadow = map_get(limiter->shadows[scope], name);
	if (shadow != NULL)
		return shadow;
	shadow = limiter_shadow_new(scope, name);
	map_put(limiter->shadows[scope], name, shadow);
	return shadow;
}

struct limiter_cost limiter_local_cost(const struct lease *lease, int scope)
{
	return (struct limiter_cost){ .requests = lease->ask.scope[scope].requests,
				      .tokens = lease->ask.tokens,
				      .hold = lease->limiter->hold };
}

static void charge(struct lease *lease, bool local)
{
	struct limiter *limiter = lease->limiter;
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		const struct limits *limits = lease->ask.scope[s].limits;
		const struct limiter_cost cost = limiter_local_cost(lease, s);
		if (limits == NULL)
			continue;
		struct limiter_shadow *shadow = limiter_local_shadow(limiter, s, lease->ask.scope[s].name);
		limiter_shadow_charge(shadow, limits, &cost, &limiter->mode.share, local, clock_now());
		lease->shadow[s] = shadow;
		shadow->leases++;
		if (!local || list_linked(&shadow->owing))
			continue;
		list_push_back(&limiter->owing, &shadow->owing);
		limiter_mode_hurry(limiter);
	}
}

void limiter_local_note(struct lease *lease)
{
	if (!lease->ask.share)
		return;
	charge(lease, false);
	for (int s = 0; s < LIMITER_SCOPES; s++)
		if (lease->shadow[s] != NULL)
			limiter_merge_hurry(lease->limiter, lease->shadow[s]);
}

/* The old name is given back; see above. */
static void rename_lease(struct lease *lease)
{
	const struct limiter_used nothing = { .never_sent = true };
	struct lease *old = lease_new(lease->limiter, &lease->ask, lease->done, lease->arg);
	old->state = LEASE_DOUBTFUL;
	limiter_settle(&old, &nothing);
	int length = snprintf(lease->text + lease->given, LEASE_NAME_MORE, ".l%u", ++lease->names);
	CHECK(length > 0 && length < LEASE_NAME_MORE);
	lease->ask.id.len = lease->given + (size_t)length;
	lease->trace = false;
}

/* The tenant's own limits have no line. Where there is none at all, the longest wait is told. */
static bool refuses(struct lease *lease, struct limiter_answer *answer)
{
	int64_t now = clock_now();
	bool own = false;
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		const struct limits *limits = lease->ask.scope[s].limits;
		const struct limiter_cost cost = limiter_local_cost(lease, s);
		enum limit_kind kind = LIMIT_COUNT;
		if (limits == NULL)
			continue;
		int64_t wait = limiter_shadow_wait(limiter_local_shadow(lease->limiter, s, lease->ask.scope[s].name),
						   limits, &cost, NULL, &lease->limiter->mode.share, now, &kind);
		own |= s == LIMITER_TENANT && wait > 0;
		if (wait <= answer->wait)
			continue;
		answer->wait = wait;
		answer->scope = s;
		answer->kind = kind;
	}
	return own || (answer->wait > 0 && lease->ask.line.rule == NULL);
}

static void admit_here(struct lease *lease)
{
	struct limiter *limiter = lease->limiter;
	limiter->counts.local_admitted++;
	lease->state = LEASE_LOCAL;
	lease->sent = clock_now();
	list_push_back(&limiter->local, &lease->node);
	charge(lease, true);
}

/* Whether the limit that bound is one of which this worker's part never holds it. */
static bool is_never_here(const struct lease *lease, const struct limiter_answer *answer)
{
	const struct limiter_cost cost = limiter_local_cost(lease, answer->scope);
	return answer->verdict == LIMITER_DENIED &&
	       !limiter_shadow_may_hold(&lease->ask.scope[answer->scope].limits->of[answer->kind], answer->kind, &cost,
					&lease->limiter->mode.share);
}

static void decide(struct lease *lease, struct limiter_answer *answer)
{
	answer->local = true;
	answer->verdict = LIMITER_ADMITTED;
	answer->wait = 0;
	if (refuses(lease, answer))
		answer->verdict = LIMITER_DENIED;
	else if (lease->ask.line.rule != NULL)
		limiter_wait_judge(lease, answer);
	answer->never_here = is_never_here(lease, answer);
	bool takes = answer->verdict == LIMITER_ADMITTED || answer->verdict == LIMITER_QUEUED;
	lease->limiter->counts.local_denied += !takes;
	if (takes && lease->state == LEASE_DOUBTFUL)
		rename_lease(lease);
}

void limiter_local_answer(struct lease *lease, struct limiter_answer *answer)
{
	if (!lease->ask.share)
		return;
	decide(lease, answer);
	if (answer->verdict == LIMITER_QUEUED) {
		lease->state = LEASE_WAITING;
		lease->line = answer->scope;
		limiter_wait_stand(lease);
		return;
	}
	limiter_wait_leave(lease);
	if (answer->verdict == LIMITER_ADMITTED)
		admit_here(lease);
}

void limiter_local_end(struct lease *lease, const struct limiter_used *used)
{
	struct limiter *limiter = lease->limiter;
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		struct limiter_shadow *shadow = lease->shadow[s];
		const struct limiter_cost cost = limiter_local_cost(lease, s);
		const struct limiter_cost spent = { .requests = used->never_sent ? 0 : cost.requests,
						    .tokens = used->tokens };
		if (shadow == NULL)
			continue;
		limiter_shadow_correct(shadow, lease->ask.scope[s].limits, &cost, &spent, &limiter->mode.share,
				       lease->state == LEASE_LOCAL && !lease->told[s], lease->sent, clock_now());
		lease->shadow[s] = NULL;
		shadow->leases--;
		limiter_wait_call(limiter, shadow);
	}
}

void limiter_local_sweep(struct limiter *limiter)
{
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		struct slice name;
		void *shadow;
		for (size_t at = 0; map_next(limiter->shadows[s], &at, &name, &shadow);)
			if (limiter_shadow_is_idle(shadow, clock_now()))
				limiter_shadow_free(map_remove(limiter->shadows[s], name));
	}
}

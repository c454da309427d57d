/* Waiting for this worker's share while Redis has no lines: one line at each model's and each upstream's share, in the order of coming, without lanes.
 *
 * The model's line comes first, and its head keeps that place while it stands in the upstream's, by when it came. (In Redis, which knows lanes, the upstream's
 * comes first.) Nobody is admitted before one who came earlier and waits for the same share: what needs much is not starved by what needs little. The head is told
 * when it will fit. It is called (limiter_options.turn) when something came free that could not be foreseen, and so is who becomes the head.
 *
 * Who comes is refused as in Redis: when it cannot be served in time, or finds this worker's part of the depth waiting; and when it would never fit, at its model
 * or its upstream. Who stands in a line, or stood in Redis', is not refused before it has waited as long as it may: Redis may be back by then. What never fits waits
 * for that alone, and stands in no line here, where it would hold up all who do.
 *
 * Disadvantage: a head that needs much holds the line until it fits. */
#include "lib/clock.h"
#include "lib/limiter_internal.h"
#include "lib/limiter_rows.h"

#define UNSURE (CLOCK_SECOND / 2) /* when to ask a Redis again that is not away, and has not answered */

static struct lease *head_of(const struct limiter_shadow *shadow)
{
	return list_empty(&shadow->line) ? NULL : CONTAINER_OF(shadow->line.next, struct lease_place, node)->lease;
}

/* ---- calling ------------------------------------------------------------------------------------------------------------------ */

static void call_heads(void *arg)
{
	struct limiter *limiter = arg;
	CHECK(limiter->magic == LIMITER_MAGIC);
	for (struct list *node; (node = list_pop_front(&limiter->calling)) != NULL;) {
		struct lease *head = head_of(CONTAINER_OF(node, struct limiter_shadow, calling));
		if (head != NULL && head->state == LEASE_WAITING && limiter->options.turn != NULL)
			limiter->options.turn(limiter->options.arg, head->ask.id);
	}
}

void limiter_wait_start(struct limiter *limiter)
{
	list_init(&limiter->calling);
	loop_deferred_init(&limiter->calls, call_heads, limiter);
}

void limiter_wait_stop(struct limiter *limiter)
{
	loop_undefer(&limiter->calls);
}

void limiter_wait_call(struct limiter *limiter, struct limiter_shadow *shadow)
{
	if (!limiter->mode.alone || list_empty(&shadow->line) || list_linked(&shadow->calling))
		return;
	list_push_back(&limiter->calling, &shadow->calling);
	loop_defer(limiter->loop, &limiter->calls);
}

/* ---- places ------------------------------------------------------------------------------------------------------------------- */

static bool has_line(const struct lease *lease, int scope)
{
	return scope != LIMITER_TENANT && limiter_rows_any(&lease->ask, scope);
}

static void leave(struct lease *lease, int scope)
{
	struct lease_place *place = &lease->place[scope];
	struct limiter_shadow *shadow = place->shadow;
	if (shadow == NULL)
		return;
	bool was_head = head_of(shadow) == lease;
	list_remove(&place->node);
	place->shadow = NULL;
	shadow->leases--;
	shadow->waiting.leases--;
	shadow->waiting.requests -= lease->ask.scope[scope].requests;
	shadow->waiting.tokens -= lease->ask.tokens;
	if (was_head)
		limiter_wait_call(lease->limiter, shadow);
}

/* By when it came: who stood in Redis' line stands before those who came since. */
static void join(struct lease *lease, int scope)
{
	struct lease_place *place = &lease->place[scope];
	if (place->shadow != NULL)
		return;
	struct limiter_shadow *shadow = limiter_local_shadow(lease->limiter, scope, lease->ask.scope[scope].name);
	struct list *before = shadow->line.prev;
	while (before != &shadow->line && CONTAINER_OF(before, struct lease_place, node)->lease->came > lease->came)
		before = before->prev;
	place->lease = lease;
	place->shadow = shadow;
	list_insert_between(&place->node, before, before->next);
	shadow->leases++;
	shadow->waiting.leases++;
	shadow->waiting.requests += lease->ask.scope[scope].requests;
	shadow->waiting.tokens += lease->ask.tokens;
}

void limiter_wait_leave(struct lease *lease)
{
	for (int s = LIMITER_TENANT; s < LIMITER_SCOPES; s++)
		leave(lease, s);
}

/* Fits nowhere before Redis is back; `*where`: at which scope. */
static bool never_fits(const struct lease *lease, enum limiter_scope *where)
{
	for (int s = LIMITER_TENANT; s < LIMITER_SCOPES; s++) {
		const struct limiter_cost cost = limiter_local_cost(lease, s);
		if (!has_line(lease, s) ||
		    limiter_shadow_ever_fits(lease->ask.scope[s].limits, &cost, &lease->limiter->mode.share))
			continue;
		*where = s;
		return true;
	}
	return false;
}

void limiter_wait_stand(struct lease *lease)
{
	enum limiter_scope where;
	bool never = never_fits(lease, &where);
	for (int s = LIMITER_TENANT; s < LIMITER_SCOPES; s++)
		if (never || (enum limiter_scope)s > lease->line)
			leave(lease, s);
		else if (has_line(lease, s))
			join(lease, s);
}

/* ---- what is answered ----------------------------------------------------------------------------------------------------------- */

static const struct limiter_shadow *shadow_of(const struct lease *lease, int scope)
{
	return limiter_local_shadow(lease->limiter, scope, lease->ask.scope[scope].name);
}

static int64_t wait_at(const struct lease *lease, int scope, const struct limiter_crowd *ahead, enum limit_kind *kind)
{
	const struct limiter_cost cost = limiter_local_cost(lease, scope);
	return limiter_shadow_wait(shadow_of(lease, scope), lease->ask.scope[scope].limits, &cost, ahead,
				   &lease->limiter->mode.share, clock_now(), kind);
}

static bool is_first(const struct lease *lease, int scope)
{
	const struct lease *head = head_of(shadow_of(lease, scope));
	return head == NULL || head->came >= lease->came;
}

/* Where it has to wait; false: nowhere. `*next`: when its head fits, if it is that; 0: that is not known, for a place comes free when it does. */
static bool find_line(const struct lease *lease, enum limiter_scope *line, int64_t *next)
{
	for (int s = LIMITER_TENANT; s < LIMITER_SCOPES; s++) {
		if (!has_line(lease, s))
			continue;
		enum limit_kind kind = LIMIT_COUNT;
		bool first = is_first(lease, s);
		int64_t wait = wait_at(lease, s, NULL, &kind);
		if (first && wait == 0)
			continue;
		*line = s;
		*next = first && limit_unit_of(kind) != LIMIT_CONCURRENCY ? wait : 0;
		return true;
	}
	return false;
}

/* Who is served at `scope` before one that waits in `line`: all who wait there, and those of its own line who have yet to come there. */
static struct limiter_crowd crowd_at(const struct lease *lease, int scope, int line)
{
	struct limiter_crowd crowd = shadow_of(lease, scope)->waiting;
	const struct limiter_shadow *own = shadow_of(lease, line);
	const struct lease *head = head_of(own);
	if (scope == line)
		return crowd;
	bool there = head != NULL && head->place[scope].shadow != NULL; /* in both */
	crowd.leases += own->waiting.leases - there;
	crowd.requests += own->waiting.requests - (there ? head->ask.scope[line].requests : 0);
	crowd.tokens += own->waiting.tokens - (there ? head->ask.tokens : 0);
	return crowd;
}

/* How long it will take behind all who wait in the line of answer->scope, and whose limit says so: that one's, or one's behind it, as far as `last`.
 * They may wait for a limit that this one does not have. */
static enum limiter_scope estimate(const struct lease *lease, struct limiter_answer *answer, int last)
{
	enum limiter_scope bound = answer->scope;
	answer->kind = LIMIT_COUNT;
	answer->wait = CLOCK_MILLISECOND;
	for (int s = answer->scope; s <= last; s++) {
		enum limit_kind kind = LIMIT_COUNT;
		if (!limiter_rows_any(&lease->ask, s))
			continue;
		const struct limiter_crowd ahead = crowd_at(lease, s, answer->scope);
		int64_t wait = wait_at(lease, s, &ahead, &kind);
		if (wait <= answer->wait)
			continue;
		answer->wait = wait;
		answer->kind = kind;
		bound = s;
	}
	for (int k = 0; answer->kind == LIMIT_COUNT; k++)
		if (lease->ask.scope[bound].limits->of[k].count > 0)
			answer->kind = k;
	return bound;
}

static enum limiter_verdict judge_newcomer(const struct lease *lease, const struct limiter_answer *answer)
{
	if (answer->wait > lease->ask.line.most)
		return LIMITER_DENIED;
	if (shadow_of(lease, answer->scope)->waiting.leases >=
	    limiter_shadow_part(lease->ask.line.rule->depth, &lease->limiter->mode.share))
		return LIMITER_FULL;
	return LIMITER_QUEUED;
}

void limiter_wait_judge(struct lease *lease, struct limiter_answer *answer)
{
	int64_t next;
	bool newcomer = !lease->ask.line.waited, last_time = lease->ask.line.most == 0;
	answer->verdict = LIMITER_ADMITTED;
	answer->wait = 0;
	if (!find_line(lease, &answer->scope, &next))
		return;
	if (last_time)
		limiter_wait_leave(lease);
	bool never = never_fits(lease, &answer->scope);
	enum limiter_scope bound = estimate(lease, answer, never ? answer->scope : LIMITER_UPSTREAM);
	answer->verdict = last_time || (newcomer && never) ? LIMITER_DENIED
			  : newcomer                       ? judge_newcomer(lease, answer)
							   : LIMITER_QUEUED;
	if (answer->verdict != LIMITER_QUEUED) {
		answer->scope = bound;
		return;
	}
	answer->wait = never ? 0 : next;
	if (!lease->limiter->mode.alone && (answer->wait == 0 || answer->wait > UNSURE))
		answer->wait = UNSURE;
}

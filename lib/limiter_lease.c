/* The heart-beat: every third of a lease, all that is held is renewed, one call per set of leases and at most 500
 * ids in each.
 *
 * Redis' answers do not decide who may go on: a Redis that was away or came back empty is no reason to end a stream.
 * Only we can know that we ourselves were away: when a lease was not renewed for its whole length by our own clock
 * (SIGSTOP, suspend), others may have been admitted in its place, and its owner is told, once.
 * A renewal that was not answered may still run after a settle and bring a lease back; so what is held then is
 * marked, as is what is settled while one is under way, and its settle leaves a tombstone.
 * Disadvantage: 5,000 streams are a burst of ten calls each beat rather than a trickle. */
#include "lib/clock.h"
#include "lib/limiter_internal.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "scripts.h"

#include <stdio.h>

#define IDS_MOST 500

/* One call under way. Owner: the limiter's list, until it is answered. */
struct renewal {
	struct limiter *limiter;
	struct list node;
	struct script_call *call;
};

/* What one beat renews in one set; lives for the beat. */
struct group {
	struct limiter *limiter;
	struct slice key, lease;
	size_t count;
	struct slice argument[2 + IDS_MOST];
};

static void on_renew(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct renewal *renewal = arg;
	struct limiter *limiter = renewal->limiter;
	CHECK(limiter->magic == LIMITER_MAGIC && renewal->call == call);
	list_remove(&renewal->node);
	mem_free(renewal);
	limiter_heard(limiter, LIMITER_RENEW, answer);
	limiter->counts.renewals_failed += answer->result != REDIS_OK;
	if (answer->result == REDIS_OK || !lease_may_have_run(answer))
		return;
	LIST_EACH (&limiter->held, node, next) {
		CONTAINER_OF(node, struct lease, node)->trace = true;
	}
}

static void send(struct group *group)
{
	struct limiter *limiter = group->limiter;
	struct renewal *renewal = mem_new(sizeof *renewal);
	renewal->limiter = limiter;
	list_push_back(&limiter->renewals, &renewal->node);
	limiter->counts.renewals++;
	renewal->call = script_start(limiter->redis, &script_renew, limiter->options.timeout, on_renew, renewal, 1,
				     &group->key, 2 + group->count, group->argument);
	group->count = 0;
}

static void add(struct group *group, struct slice id)
{
	group->argument[2 + group->count++] = id;
	if (group->count == IDS_MOST)
		send(group);
}

static struct group *group_of(struct map *groups, struct limiter *limiter, struct slice key, struct slice lease)
{
	struct group *group = map_get(groups, key);
	if (group != NULL)
		return group;
	group = mem_new(sizeof *group + key.len);
	char *copy = (char *)(group + 1);
	memcpy(copy, key.data, key.len);
	group->limiter = limiter;
	group->key = slice_make(copy, key.len);
	group->argument[0] = SLICE("");
	group->argument[1] = lease;
	map_put(groups, key, group);
	return group;
}

void lease_renew(struct limiter *limiter, struct list *leases)
{
	int64_t now = clock_now();
	if (list_empty(leases))
		return;
	struct map *groups = map_new();
	struct limiter_wire wire;
	char digits[24];
	struct slice lease_time =
		slice_make(digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)limiter->options.lease));
	LIST_EACH (leases, node, next) {
		struct lease *lease = CONTAINER_OF(node, struct lease, node);
		if (lease->lost)
			continue;
		lease->renewed = now;
		limiter_wire_sets(&wire, &lease->ask);
		for (size_t i = 0; i < wire.keys; i++)
			add(group_of(groups, limiter, wire.key[i], lease_time), lease->ask.id);
	}
	size_t at = 0;
	struct slice key;
	void *group;
	while (map_next(groups, &at, &key, &group))
		if (((struct group *)group)->count > 0)
			send(group);
	map_free(&groups, mem_free);
}

/* The script goes ahead of it: Redis may have lost that, and know the one that admits. */
void lease_bring(struct limiter *limiter, struct list *leases)
{
	if (list_empty(leases))
		return;
	script_load(limiter->redis, &script_renew, limiter->options.timeout);
	lease_renew(limiter, leases);
}

/* Tells the owners of what was slept past. An owner may settle any lease from there, so each is looked for anew. */
static void tell_lost(struct limiter *limiter, int64_t now)
{
	struct list late;
	list_init(&late);
	LIST_EACH (&limiter->held, node, next) {
		struct lease *lease = CONTAINER_OF(node, struct lease, node);
		if (lease->lost || now - lease->renewed < limiter->options.lease)
			continue;
		lease->lost = true;
		list_remove(node);
		list_push_back(&late, node);
	}
	for (struct list *node; (node = list_pop_front(&late)) != NULL;) {
		struct lease *lease = CONTAINER_OF(node, struct lease, node);
		list_push_back(&limiter->held, node);
		limiter->counts.lost++;
		if (limiter->options.lost != NULL)
			limiter->options.lost(lease, lease->arg);
	}
}

void lease_beat(void *arg)
{
	struct limiter *limiter = arg;
	CHECK(limiter->magic == LIMITER_MAGIC);
	int64_t now = clock_now();
	tell_lost(limiter, now);
	if (limiter->held_count == 0)
		return;
	lease_renew(limiter, &limiter->held);
	loop_timer_set(&limiter->beat, limiter->options.lease / 3);
}

void lease_beat_start(struct limiter *limiter)
{
	if (!limiter->beat.armed)
		loop_timer_set(&limiter->beat, limiter->options.lease / 3);
}

void lease_beat_stop(struct limiter *limiter)
{
	for (struct list *node; (node = list_pop_front(&limiter->renewals)) != NULL;) {
		struct renewal *renewal = CONTAINER_OF(node, struct renewal, node);
		script_cancel(&renewal->call);
		mem_free(renewal);
	}
	loop_timer_clear(&limiter->beat);
}

/* Settling: one call, repeated until Redis answered it or a minute has passed. Nobody waits for it but a drain.
 *
 * Every settle says whether something sent for its id was never answered (`trace`), and leaves a tombstone then; a repeat of one that left none says so
 * (`again`). From these two and what Redis knows of the id, the script decides; twice is once. A minute, because that is how
 * long a tombstone lives: a later one could not tell "settled" from "never admitted", and Redis has let the lease
 * end long before. Disadvantage: while Redis is away, every settled request is kept, some 1.5 KiB each, for a
 * minute. */
#include "lib/clock.h"
#include "lib/limiter_internal.h"
#include "lib/log.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "scripts.h"

#define GIVE_UP    CLOCK_MINUTE
#define FIRST_WAIT (20 * CLOCK_MILLISECOND)
#define WAIT_MOST  CLOCK_SECOND

static void send(struct lease *lease);

/* The caller's limits and its rule may go with its configuration; the repeats need them. */
static void keep_limits(struct lease *lease)
{
	lease->limits = mem_new_array(LIMITER_SCOPES, sizeof *lease->limits);
	for (int s = 0; s < LIMITER_SCOPES; s++)
		if (lease->ask.scope[s].limits != NULL) {
			lease->limits[s] = *lease->ask.scope[s].limits;
			lease->ask.scope[s].limits = &lease->limits[s];
		}
	if (lease->ask.line.rule != NULL) {
		lease->rule = *lease->ask.line.rule;
		lease->ask.line.rule = &lease->rule;
	}
}

static void end(struct lease *lease)
{
	lease->limiter->settling_count--;
	lease_free(lease);
}

/* Doubled each time, of which the latter half is spread by the id: what failed together must not come back in one
 * batch and fail together again. */
static int64_t back_off(const struct lease *lease)
{
	int64_t wait = FIRST_WAIT;
	for (unsigned i = 1; i < lease->tries && wait < WAIT_MOST; i++)
		wait *= 2;
	if (wait > WAIT_MOST)
		wait = WAIT_MOST;
	return wait / 2 + (int64_t)((map_hash(lease->ask.id) >> (lease->tries % 32)) % (uint64_t)(wait / 2));
}

/* One line, however many: a Redis that is away for longer makes it all of them. */
void limiter_settle_say(struct limiter *limiter)
{
	uint64_t more = limiter->counts.abandoned - limiter->abandoned_said;
	if (more == 0 || (limiter->abandoned_at > 0 && clock_now() - limiter->abandoned_at < CLOCK_MINUTE))
		return;
	limiter->abandoned_said = limiter->counts.abandoned;
	limiter->abandoned_at = clock_now();
	log_say(limiter->log, LOG_WARNING, "limiter.abandoned",
		"Redis could not be told within a minute what calls had used, of %llu since the last such line; their "
		"reservations stand",
		(unsigned long long)more);
}

static void try_later(struct lease *lease)
{
	int64_t wait = back_off(lease);
	if (clock_now() - lease->sent + wait < GIVE_UP) {
		loop_timer_set(&lease->timer, wait);
		return;
	}
	lease->limiter->counts.abandoned++;
	limiter_settle_say(lease->limiter);
	end(lease);
}

static bool read_forgiven(struct lease *lease, const struct redisReply *reply)
{
	int64_t number[LIMITER_WIRE_REPLY], forgiven[LIMIT_COUNT] = { 0 };
	size_t count;
	if (!limiter_read_numbers(reply, number, &count) ||
	    !limiter_wire_read_settled(&lease->ask, &lease->used, number, count, forgiven))
		return false;
	for (int k = 0; k < LIMIT_COUNT; k++)
		lease->limiter->counts.forgiven[k] += (uint64_t)forgiven[k];
	return true;
}

static void on_settle(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct lease *lease = arg;
	CHECK(lease->magic == LEASE_MAGIC && lease->state >= LEASE_SETTLING && lease->call == call);
	lease->call = NULL;
	limiter_heard(lease->limiter, LIMITER_SETTLE, answer);
	if (answer->result == REDIS_OK) {
		lease->limiter->counts.settled++;
		if (!read_forgiven(lease, answer->reply))
			log_say(lease->limiter->log, LOG_ERROR, "limiter.reply", "settle answered something else");
		end(lease);
		return;
	}
	lease->again |= lease_may_have_run(answer) && !lease->trace; /* else it has left a tombstone */
	try_later(lease);
}

void lease_settle_again(void *arg)
{
	struct lease *lease = arg;
	CHECK(lease->magic == LEASE_MAGIC && lease->state >= LEASE_SETTLING);
	lease->limiter->counts.settled_again++;
	send(lease);
}

static void send(struct lease *lease)
{
	struct limiter *limiter = lease->limiter;
	struct limiter_wire wire;
	struct limiter_wire_past past = { .lease = limiter->options.lease,
					  .reserved = lease->reserved,
					  .again = lease->again,
					  .trace = lease->trace,
					  .merged = lease->merged,
					  .waits = lease->state == LEASE_LEAVING,
					  .rule = limiter_rule(limiter, &lease->ask) };
	limiter_wire_settle(&wire, &lease->ask, &lease->used, &past, LIMITER_WIRE_NOW);
	lease->tries++;
	lease->call = script_start(limiter->redis, &script_settle, limiter->options.timeout, on_settle, lease,
				   wire.keys, wire.key, wire.arguments, wire.argument);
}

void lease_settle(struct lease *lease)
{
	lease->state = lease->state == LEASE_QUEUED && !lease->trace ? LEASE_LEAVING : LEASE_SETTLING;
	lease->sent = clock_now();
	keep_limits(lease);
	list_push_back(&lease->limiter->settling, &lease->node);
	lease->limiter->settling_count++;
	send(lease);
}

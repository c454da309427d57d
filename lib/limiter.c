#include "lib/limiter.h"

#include "lib/clock.h"
#include "lib/limiter_internal.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "scripts.h"

#define HOLD_AT_FIRST CLOCK_SECOND

/* ---- birth and death -------------------------------------------------------- */

struct limiter *limiter_new(struct loop *loop, struct redis *redis, const struct limiter_options *options,
			    struct log *log)
{
	CHECK(options->timeout > 0 && options->lease >= 3 * CLOCK_MILLISECOND);
	struct limiter *limiter = mem_new(sizeof *limiter);
	limiter->magic = LIMITER_MAGIC;
	limiter->loop = loop;
	limiter->redis = redis;
	limiter->log = log;
	limiter->options = *options;
	limiter->hold = HOLD_AT_FIRST;
	list_init(&limiter->held);
	list_init(&limiter->settling);
	list_init(&limiter->renewals);
	list_init(&limiter->peeks);
	loop_timer_init(&limiter->beat, loop, lease_beat, limiter);
	return limiter;
}

void limiter_free(struct limiter **handle)
{
	struct limiter *limiter = *handle;
	if (limiter == NULL)
		return;
	*handle = NULL;
	CHECK(limiter->magic == LIMITER_MAGIC);
	CHECK(limiter->leases == limiter->settling_count);
	for (struct list *node; (node = list_pop_front(&limiter->settling)) != NULL;) {
		limiter->settling_count--;
		lease_free(CONTAINER_OF(node, struct lease, node));
	}
	lease_beat_stop(limiter);
	limiter_peek_stop(limiter);
	loop_timer_free(&limiter->beat);
	limiter->magic = 0;
	mem_free(limiter);
}

void lease_free(struct lease *lease)
{
	CHECK(lease->magic == LEASE_MAGIC);
	script_cancel(&lease->call);
	loop_undefer(&lease->deferred);
	loop_timer_free(&lease->timer);
	list_remove(&lease->node);
	lease->limiter->leases--;
	lease->magic = 0;
	mem_free(lease->limits);
	mem_free(lease);
}

static struct slice keep(char **at, struct slice text)
{
	if (text.len > 0)
		memcpy(*at, text.data, text.len);
	struct slice kept = { *at, text.len };
	*at += text.len;
	return kept;
}

static struct lease *lease_new(struct limiter *limiter, const struct limiter_ask *ask, limiter_done *done, void *arg)
{
	size_t length = ask->id.len;
	CHECK(ask->id.len >= 1 && ask->id.len <= 80 && ask->tokens >= 0);
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		CHECK(ask->scope[s].name.len <= LIMITER_NAME_MOST && ask->scope[s].requests >= 0);
		length += ask->scope[s].name.len;
	}
	struct lease *lease = mem_new(sizeof *lease + length);
	char *at = lease->text;
	lease->magic = LEASE_MAGIC;
	lease->limiter = limiter;
	lease->ask = *ask;
	lease->ask.id = keep(&at, ask->id);
	for (int s = 0; s < LIMITER_SCOPES; s++)
		lease->ask.scope[s].name = keep(&at, ask->scope[s].name);
	lease->done = done;
	lease->arg = arg;
	lease->reserved = LIMITER_WIRE_UNKNOWN;
	lease->sent = lease->renewed = clock_now();
	list_init(&lease->node);
	loop_timer_init(&lease->timer, limiter->loop, lease_settle_again, lease);
	limiter->leases++;
	return lease;
}

/* ---- admit ------------------------------------------------------------------ */

static void count_verdict(struct limiter_counts *counts, enum limiter_verdict verdict)
{
	switch (verdict) {
	case LIMITER_ADMITTED:
		counts->admitted++;
		break;
	case LIMITER_DENIED:
		counts->denied++;
		break;
	case LIMITER_NEVER:
		counts->never++;
		break;
	case LIMITER_UNAVAILABLE:
		counts->unavailable++;
		break;
	}
}

/* The last thing that its caller does: `done` may settle the lease. */
static void finish(struct lease *lease, const struct limiter_answer *answer)
{
	count_verdict(&lease->limiter->counts, answer->verdict);
	lease->done(lease, lease->arg, answer);
}

static void answer_locally(void *arg)
{
	struct lease *lease = arg;
	CHECK(lease->magic == LEASE_MAGIC && lease->state == LEASE_ASKED);
	lease->state = LEASE_REFUSED;
	finish(lease, &lease->local);
}

/* What Redis 7 refuses before a script runs; any other error may come from the middle of one. */
bool lease_may_have_run(const struct redis_answer *answer)
{
	if (answer->result != REDIS_ERROR)
		return answer->result != REDIS_UNSENT;
	switch (answer->error) {
	case REDIS_ERROR_noscript:
	case REDIS_ERROR_readonly:
	case REDIS_ERROR_loading:
	case REDIS_ERROR_masterdown:
	case REDIS_ERROR_clusterdown:
	case REDIS_ERROR_moved:
	case REDIS_ERROR_ask:
	case REDIS_ERROR_tryagain:
	case REDIS_ERROR_busy:
	case REDIS_ERROR_oom:
	case REDIS_ERROR_misconf:
	case REDIS_ERROR_noreplicas:
	case REDIS_ERROR_noauth:
		return false;
	default:
		return true;
	}
}

bool limiter_read_numbers(const struct redisReply *reply, int64_t number[LIMITER_WIRE_REPLY], size_t *count)
{
	*count = redis_reply_count(reply);
	if (*count > LIMITER_WIRE_REPLY)
		return false;
	for (size_t i = 0; i < *count; i++)
		if (!redis_reply_int(redis_reply_at(reply, i), &number[i]))
			return false;
	return true;
}

static void hold(struct lease *lease)
{
	struct limiter *limiter = lease->limiter;
	lease->state = LEASE_HELD;
	list_push_back(&limiter->held, &lease->node);
	if (limiter->held_count++ == 0)
		lease_beat_start(limiter);
}

void limiter_heard(const struct limiter *limiter, enum limiter_script script, const struct redis_answer *answer)
{
	bool heard = answer->result == REDIS_OK || answer->result == REDIS_ERROR;
	if (heard && limiter->options.answered != NULL)
		limiter->options.answered(limiter->options.arg, script, answer->took);
}

static void on_admit(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct lease *lease = arg;
	struct limiter_answer answer = { .verdict = LIMITER_UNAVAILABLE, .took = redis->took };
	int64_t number[LIMITER_WIRE_REPLY];
	size_t count;
	CHECK(lease->magic == LEASE_MAGIC && lease->state == LEASE_ASKED && lease->call == call);
	lease->call = NULL;
	limiter_heard(lease->limiter, LIMITER_ADMIT, redis);
	lease->state = lease_may_have_run(redis) ? LEASE_DOUBTFUL : LEASE_REFUSED;
	if (redis->result == REDIS_OK) {
		if (!limiter_read_numbers(redis->reply, number, &count) ||
		    !limiter_wire_read(&lease->ask, number, count, &answer, &lease->reserved)) {
			log_say(lease->limiter->log, LOG_ERROR, "limiter.reply", "admit answered something else");
			answer = (struct limiter_answer){ .verdict = LIMITER_UNAVAILABLE, .took = redis->took };
			lease->reserved = LIMITER_WIRE_UNKNOWN;
		} else if (answer.verdict == LIMITER_ADMITTED) {
			hold(lease);
		} else {
			lease->state = LEASE_REFUSED;
		}
	}
	finish(lease, &answer);
}

struct lease *limiter_admit(struct limiter *limiter, const struct limiter_ask *ask, limiter_done *done, void *arg)
{
	CHECK(limiter->magic == LIMITER_MAGIC);
	struct lease *lease = lease_new(limiter, ask, done, arg);
	loop_deferred_init(&lease->deferred, answer_locally, lease);
	lease->local.verdict = LIMITER_ADMITTED;
	if (limiter_wire_never(ask, &lease->local) || !limiter_wire_needed(ask)) {
		loop_defer(limiter->loop, &lease->deferred);
		return lease;
	}
	struct limiter_wire wire;
	limiter_wire_admit(&wire, &lease->ask, limiter->options.lease, limiter->hold, LIMITER_WIRE_NOW);
	lease->call =
		script_start(limiter->redis, &script_admit, ask->timeout > 0 ? ask->timeout : limiter->options.timeout,
			     on_admit, lease, wire.keys, wire.key, wire.arguments, wire.argument);
	return lease;
}

/* ---- settle ----------------------------------------------------------------- */

static void release(struct lease *lease)
{
	struct limiter *limiter = lease->limiter;
	limiter->hold += (clock_now() - lease->sent - limiter->hold) / 16;
	limiter->held_count--;
	list_remove(&lease->node);
}

void limiter_settle(struct lease **handle, const struct limiter_used *used)
{
	struct lease *lease = *handle;
	if (lease == NULL)
		return;
	*handle = NULL;
	CHECK(lease->magic == LEASE_MAGIC && lease->state != LEASE_SETTLING && used->tokens >= 0);
	if (lease->state == LEASE_REFUSED || (lease->state == LEASE_ASKED && lease->call == NULL)) {
		lease_free(lease);
		return;
	}
	if (lease->state == LEASE_HELD)
		release(lease);
	lease->trace |=
		!list_empty(&lease->limiter->renewals); /* a script reloaded for one may run behind this settle */
	script_cancel(&lease->call); /* the answer; the admission may come all the same, and settle comes behind it */
	lease->used = *used;
	lease_settle(lease);
}

unsigned limiter_held(const struct limiter *limiter)
{
	return limiter->held_count;
}

unsigned limiter_unsettled(const struct limiter *limiter)
{
	return limiter->settling_count;
}

const struct limiter_counts *limiter_counts(const struct limiter *limiter)
{
	return &limiter->counts;
}

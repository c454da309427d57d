#include "lib/limiter.h"

#include "lib/buf.h"
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
	CHECK(options->channel.len <= LINE_CHANNEL_MOST);
	if (options->channel.len > 0)
		memcpy(limiter->channel, options->channel.data, options->channel.len);
	limiter->options.channel = slice_make(limiter->channel, options->channel.len);
	limiter->hold = HOLD_AT_FIRST;
	list_init(&limiter->held);
	list_init(&limiter->settling);
	list_init(&limiter->renewals);
	list_init(&limiter->peeks);
	loop_timer_init(&limiter->beat, loop, lease_beat, limiter);
	limiter_local_start(limiter);
	limiter_wait_start(limiter);
	limiter_mode_start(limiter);
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
	limiter_mode_stop(limiter);
	limiter_merge_stop(limiter);
	limiter_wait_stop(limiter);
	limiter_local_stop(limiter);
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

static void answer_locally(void *arg);

static bool lease_is_asked(const struct lease *lease)
{
	return lease->state == LEASE_ASKED || lease->state == LEASE_ASKED_AGAIN;
}

static bool lease_is_lined(const struct lease *lease)
{
	return lease->state == LEASE_QUEUED || lease->state == LEASE_WAITING || lease->state == LEASE_DOUBTFUL;
}

struct lease *lease_new(struct limiter *limiter, const struct limiter_ask *ask, limiter_done *done, void *arg)
{
	size_t length = ask->id.len + LEASE_NAME_MORE; /* limiter_local.c may need other names */
	CHECK(ask->id.len >= 1 && ask->id.len <= LEASE_ID_MOST && ask->tokens >= 0);
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
	at += LEASE_NAME_MORE;
	lease->given = ask->id.len;
	for (int s = 0; s < LIMITER_SCOPES; s++)
		lease->ask.scope[s].name = keep(&at, ask->scope[s].name);
	lease->done = done;
	lease->arg = arg;
	lease->reserved = LIMITER_WIRE_UNKNOWN;
	lease->sent = lease->renewed = clock_now();
	list_init(&lease->node);
	loop_deferred_init(&lease->deferred, answer_locally, lease);
	loop_timer_init(&lease->timer, limiter->loop, lease_settle_again, lease);
	for (int s = 0; s < LIMITER_SCOPES; s++)
		list_init(&lease->place[s].node);
	lease->came = ++limiter->asks;
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
	case LIMITER_FULL:
		counts->full++;
		break;
	case LIMITER_NEVER:
		counts->never++;
		break;
	case LIMITER_QUEUED:
	case LIMITER_UNAVAILABLE: /* who asked knows what becomes of it */
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
	CHECK(lease->magic == LEASE_MAGIC && lease_is_asked(lease));
	lease->state = lease->state == LEASE_ASKED_AGAIN ? LEASE_DOUBTFUL : LEASE_REFUSED;
	if (lease->local.verdict == LIMITER_UNAVAILABLE)
		limiter_local_answer(lease, &lease->local);
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
	case REDIS_ERROR_unknown_command:
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

void lease_hold(struct lease *lease)
{
	struct limiter *limiter = lease->limiter;
	lease->state = LEASE_HELD;
	list_push_back(&limiter->held, &lease->node);
	if (limiter->held_count++ == 0)
		lease_beat_start(limiter);
}

void limiter_heard(struct limiter *limiter, enum limiter_script script, const struct redis_answer *answer)
{
	bool heard = answer->result == REDIS_OK || answer->result == REDIS_ERROR;
	if (heard && limiter->options.answered != NULL)
		limiter->options.answered(limiter->options.arg, script, answer->took);
	limiter_mode_judge(limiter, answer);
}

static void note_verdict(struct lease *lease, const struct limiter_answer *answer)
{
	if (answer->verdict == LIMITER_UNAVAILABLE) { /* it was settled already, says Redis */
		lease->state = LEASE_DOUBTFUL;
		return;
	}
	lease->state = LEASE_REFUSED;
	limiter_wait_leave(lease);
	if (answer->verdict == LIMITER_ADMITTED) {
		lease_hold(lease);
		limiter_local_note(lease);
	} else if (answer->verdict == LIMITER_QUEUED) {
		lease->state = LEASE_QUEUED;
		lease->line = answer->scope;
	}
}

static void on_admit(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct lease *lease = arg;
	struct limiter_answer answer = { .verdict = LIMITER_UNAVAILABLE, .took = redis->took };
	int64_t number[LIMITER_WIRE_REPLY];
	size_t count;
	CHECK(lease->magic == LEASE_MAGIC && lease_is_asked(lease) && lease->call == call);
	lease->call = NULL;
	limiter_heard(lease->limiter, LIMITER_ADMIT, redis);
	lease->state = lease->state == LEASE_ASKED_AGAIN || lease_may_have_run(redis) ? LEASE_DOUBTFUL : LEASE_REFUSED;
	lease->trace |= redis->result != REDIS_OK && lease_may_have_run(redis); /* it may be asked once more */
	if (redis->result == REDIS_OK) {
		if (!limiter_read_numbers(redis->reply, number, &count) ||
		    !limiter_wire_read(&lease->ask, number, count, &answer, &lease->reserved)) {
			log_say(lease->limiter->log, LOG_ERROR, "limiter.reply", "admit answered something else");
			answer = (struct limiter_answer){ .verdict = LIMITER_UNAVAILABLE, .took = redis->took };
			lease->reserved = LIMITER_WIRE_UNKNOWN;
		} else {
			note_verdict(lease, &answer);
		}
	}
	if (answer.verdict == LIMITER_UNAVAILABLE)
		limiter_local_answer(lease, &answer);
	finish(lease, &answer);
}

struct slice limiter_rule(struct limiter *limiter, const struct limiter_ask *ask)
{
	struct buf out;
	if (ask->line.rule == NULL || limiter->options.channel.len == 0)
		return SLICE_NONE;
	if (limiter->line.length == 0 || memcmp(&limiter->line.rule, ask->line.rule, sizeof limiter->line.rule) != 0) {
		limiter->line.rule = *ask->line.rule;
		buf_wrap(&out, limiter->line.text, sizeof limiter->line.text, 0);
		line_write_rule(ask->line.rule, limiter->options.channel, &out);
		limiter->line.length = out.len;
	}
	return slice_make(limiter->line.text, limiter->line.length);
}

static void ask_redis(struct lease *lease)
{
	struct limiter *limiter = lease->limiter;
	struct limiter_wire_times times = { .lease = limiter->options.lease, .hold = limiter->hold };
	int64_t timeout = lease->ask.timeout > 0 ? lease->ask.timeout : limiter->options.timeout;
	struct limiter_wire wire;
	if (limiter->mode.alone) { /* nobody waits for a Redis that is away */
		lease->local = (struct limiter_answer){ .verdict = LIMITER_UNAVAILABLE };
		loop_defer(limiter->loop, &lease->deferred);
		return;
	}
	limiter_wire_admit(&wire, &lease->ask, &times, limiter_rule(limiter, &lease->ask), LIMITER_WIRE_NOW);
	lease->call = script_start(limiter->redis, &script_admit, timeout, on_admit, lease, wire.keys, wire.key,
				   wire.arguments, wire.argument);
}

struct lease *limiter_admit(struct limiter *limiter, const struct limiter_ask *ask, limiter_done *done, void *arg)
{
	CHECK(limiter->magic == LIMITER_MAGIC && ask->id.len <= LIMITER_ID_MOST);
	struct lease *lease = lease_new(limiter, ask, done, arg);
	lease->local.verdict = LIMITER_ADMITTED;
	if (limiter_wire_never(ask, &lease->local) || !limiter_wire_needed(ask)) {
		loop_defer(limiter->loop, &lease->deferred);
		return lease;
	}
	ask_redis(lease);
	return lease;
}

void limiter_again(struct lease *lease, int64_t most, limiter_done *done, void *arg)
{
	CHECK(lease->magic == LEASE_MAGIC && lease_is_lined(lease) && most >= 0);
	lease->state = lease->state == LEASE_WAITING ? LEASE_ASKED : LEASE_ASKED_AGAIN;
	lease->ask.line.waited = true;
	lease->done = done;
	lease->arg = arg;
	lease->ask.line.most = most;
	lease->sent = lease->renewed = clock_now();
	ask_redis(lease);
}

void limiter_line_keys(const struct lease *lease, struct buf *w, struct buf *f)
{
	CHECK(lease->magic == LEASE_MAGIC && lease_is_lined(lease));
	limiter_wire_line_key(&lease->ask, lease->line, 'w', w);
	limiter_wire_line_key(&lease->ask, lease->line, 'f', f);
}

struct slice limiter_id(const struct lease *lease)
{
	CHECK(lease->magic == LEASE_MAGIC);
	return lease->ask.id;
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
	CHECK(lease->magic == LEASE_MAGIC && lease->state < LEASE_SETTLING && used->tokens >= 0);
	loop_undefer(&lease->deferred);
	limiter_wait_leave(lease);
	if (lease->state == LEASE_REFUSED || (lease->state == LEASE_ASKED && lease->call == NULL)) {
		lease_free(lease);
		return;
	}
	limiter_local_end(lease, used);
	if (lease->state == LEASE_WAITING || (lease->state == LEASE_LOCAL && !limiter_merge_told(lease))) {
		lease_free(lease);
		return;
	}
	list_remove(&lease->node);
	if (lease->state == LEASE_HELD)
		release(lease);
	lease->trace |= lease->merged; /* the renewal that brings it to Redis may not have come through */
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
	return limiter->settling_count + limiter_merge_left(limiter);
}

const struct limiter_counts *limiter_counts(const struct limiter *limiter)
{
	return &limiter->counts;
}

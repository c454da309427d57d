/* What of Redis' own settings endangers quotas: it may throw keys away, or it keeps nothing over a restart. Looked at by the first worker, at its start
 * and whenever Redis is back, for it may be another server then; said when it changes, and on /status as long as it is so.
 *
 * INFO tells the policy, and whether there is an append-only file; only CONFIG tells whether there are snapshots. What Redis refuses to tell is said to be
 * unknown. */
#include "svc/worker_internal.h"

#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/redis.h"
#include "svc/config.h"

static const char *const advice[] = {
	[WORKER_EVICTS] = "when it is full it may throw quotas away; set maxmemory-policy to noeviction",
	[WORKER_FORGETS] = "it keeps nothing over a restart, and limits of an hour or a day then begin anew; set "
			   "appendonly to yes, or save",
};
static const char *const question[] = {
	[WORKER_EVICTS] = "whether it throws quotas away when it is full",
	[WORKER_FORGETS] = "whether it keeps anything over a restart, and limits of an hour or a day",
};

/* `risk` is told in those words; empty: it is none. */
static bool is_news(struct worker *w, enum worker_risk risk, struct slice words)
{
	char *told = w->risks[risk];

	words = slice_first(words, sizeof(w->risks[risk]) - 1);
	if (slice_equal(words, slice_of(told)))
		return false;
	if (words.len > 0)
		memcpy(told, words.data, words.len);
	told[words.len] = '\0';
	return true;
}

static void note(struct worker *w, enum worker_risk risk, bool found, struct slice setting)
{
	char words[sizeof(w->risks[risk])];
	struct buf out;

	buf_wrap(&out, words, sizeof(words), 0);
	if (found)
		buf_format(&out, "Redis' %.*s: %s", SLICE_ARGS(setting), advice[risk]);
	if (!is_news(w, risk, buf_slice(&out)))
		return;
	if (found)
		log_say(w->log, LOG_WARNING, "redis_risk", "%s", w->risks[risk]);
	else
		log_say(w->log, LOG_INFO, "redis_risk", "Redis' %.*s now", SLICE_ARGS(setting));
}

/* False: it has not answered, or refused for good, which is said. */
static bool is_told(struct worker *w, enum worker_risk risk, const char *command, const struct redis_answer *answer)
{
	char words[sizeof(w->risks[risk])];
	struct buf out;

	if (answer->result != REDIS_ERROR || redis_error_row(answer->error)->call != REDIS_GIVE_UP)
		return answer->result == REDIS_OK;
	buf_wrap(&out, words, sizeof(words), 0);
	buf_format(&out, "Redis refuses %s (%s): %s, is not known", command, redis_error_row(answer->error)->prefix,
		   question[risk]);
	if (is_news(w, risk, buf_slice(&out)))
		log_say(w->log, LOG_WARNING, "redis_risk", "%s", w->risks[risk]);
	return false;
}

static void policy_told(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	char setting[80];
	struct worker *w = arg;
	struct slice text, policy;
	struct buf said;

	(void)call;
	if (!is_told(w, WORKER_EVICTS, "INFO memory", answer) || !redis_reply_text(answer->reply, &text))
		return;
	policy = slice_first(worker_info(text, SLICE("maxmemory_policy")), 40);
	if (policy.len == 0)
		return;
	buf_wrap(&said, setting, sizeof(setting), 0);
	buf_format(&said, "maxmemory-policy is %.*s", SLICE_ARGS(policy));
	note(w, WORKER_EVICTS,
	     !slice_equal(policy, SLICE("noeviction")) &&
		     !slice_equal(worker_info(text, SLICE("maxmemory")), SLICE("0")),
	     buf_slice(&said));
}

static void snapshots_told(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct slice save;

	(void)call;
	if (is_told(arg, WORKER_FORGETS, "CONFIG GET save", answer) &&
	    redis_reply_text(redis_reply_at(answer->reply, 1), &save))
		note(arg, WORKER_FORGETS, save.len == 0,
		     save.len == 0 ? SLICE("appendonly is no, and save is empty") : SLICE("save is set"));
}

static void file_told(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	const struct slice config[] = { SLICE("CONFIG"), SLICE("GET"), SLICE("save") };
	struct worker *w = arg;
	struct slice text;

	(void)call;
	if (!is_told(w, WORKER_FORGETS, "INFO persistence", answer) || !redis_reply_text(answer->reply, &text))
		return;
	if (slice_equal(worker_info(text, SLICE("aof_enabled")), SLICE("1")))
		note(w, WORKER_FORGETS, false, SLICE("appendonly is yes"));
	else
		(void)redis_send(w->redis, w->now->config->redis.timeout, snapshots_told, w, ARRAY_LENGTH(config),
				 config);
}

static bool is_long(const struct limits *limits)
{
	for (int k = 0; k < LIMIT_COUNT; k++)
		if (limits->of[k].count > 0 && limit_period((enum limit_kind)k) >= CLOCK_HOUR)
			return true;
	return false;
}

static bool has_long_limits(const struct config *c)
{
	for (size_t i = 0; i < c->tenants_count; i++)
		if (is_long(&c->tenants[i].limits))
			return true;
	for (size_t i = 0; i < c->models_count; i++)
		if (is_long(&c->models[i].limits))
			return true;
	for (size_t i = 0; i < c->upstreams_count; i++)
		if (is_long(&c->upstreams[i].limits))
			return true;
	return false;
}

void worker_look_at_risks(struct worker *w)
{
	const struct slice memory[] = { SLICE("INFO"), SLICE("memory") };
	const struct slice persistence[] = { SLICE("INFO"), SLICE("persistence") };
	const struct config *c = w->now->config;

	if (w->index != 0 || strcmp(c->redis.url, "embedded") == 0) /* whose settings are this program's own */
		return;
	(void)redis_send(w->redis, c->redis.timeout, policy_told, w, ARRAY_LENGTH(memory), memory);
	if (has_long_limits(c))
		(void)redis_send(w->redis, c->redis.timeout, file_told, w, ARRAY_LENGTH(persistence), persistence);
}

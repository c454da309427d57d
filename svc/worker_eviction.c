/* A Redis that may throw keys away when it is full forgets who has used what, and nobody would notice: it is warned of at start. */
#include "svc/worker.h"

#include "lib/log.h"
#include "lib/redis.h"
#include "svc/config.h"

/* The value of a line "name:value" of INFO's answer. */
static struct slice info_of(struct slice text, struct slice name)
{
	struct slice value = SLICE_NONE;

	while (text.len > 0 && value.len == 0) {
		struct slice line = slice_cut(text, '\r', &text);
		text = slice_skip(text, text.len > 0); /* the line feed */
		if (slice_starts(line, name) && line.len > name.len && line.data[name.len] == ':')
			value = slice_skip(line, name.len + 1);
	}
	return value;
}

static void memory_told(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct worker *w = arg;
	struct slice text, policy;

	(void)call;
	if (answer->result != REDIS_OK || !redis_reply_text(answer->reply, &text))
		return; /* it may be forbidden to us */
	policy = info_of(text, SLICE("maxmemory_policy"));
	if (policy.len == 0 || slice_equal(policy, SLICE("noeviction")) ||
	    slice_equal(info_of(text, SLICE("maxmemory")), SLICE("0")))
		return;
	log_say(w->log, LOG_WARNING, "redis_evicts",
		"Redis' maxmemory-policy is %.*s: when it is full it may throw quotas away; set it to noeviction",
		SLICE_ARGS(policy));
}

static void ask(void *arg, bool up)
{
	const struct slice info[] = { SLICE("INFO"), SLICE("memory") };
	struct worker *w = arg;

	if (!up)
		return;
	redis_on_change(w->redis, NULL, NULL);
	(void)redis_send(w->redis, w->now->config->redis.timeout, memory_told, w, ARRAY_LENGTH(info), info);
}

void worker_warn_of_eviction(struct worker *w)
{
	redis_on_change(w->redis, ask, w);
	ask(w, redis_is_up(w->redis));
}

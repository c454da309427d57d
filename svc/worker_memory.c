/* A Redis that is full, and may not throw anything away, refuses all that is new, quotas too: so answers are stored only while a fifth of its memory is
 * free. */
#include "svc/worker_internal.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/redis.h"
#include "lib/text.h"
#include "svc/config.h"

#define LOOK         CLOCK_SECOND
#define LOOK_TIMEOUT (2 * CLOCK_SECOND) /* a deadline that passes cuts the connection */
enum { FULL_PERCENT = 80 };

struct slice worker_info(struct slice text, struct slice name)
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

static int64_t number_of(struct slice text, struct slice name)
{
	int64_t number;

	return text_int(worker_info(text, name), &number) ? number : 0;
}

static void note_room(struct worker *w, bool full)
{
	if (full && !w->answers_full)
		log_say(w->log, LOG_WARNING, "redis_full",
			"Redis' memory is more than %d %% in use: no answer is stored until it is less", FULL_PERCENT);
	else if (!full && w->answers_full)
		log_say(w->log, LOG_INFO, "redis_full", "Redis has room again: answers are stored");
	w->answers_full = full;
}

/* Nobody may ask, or nobody answers: then nothing is known against it. */
static void room_told(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct worker *w = arg;
	struct slice text;
	int64_t most;

	(void)call;
	w->room_call = NULL;
	loop_timer_set(&w->room_timer, LOOK);
	if (answer->result != REDIS_OK || !redis_reply_text(answer->reply, &text))
		return;
	most = number_of(text, SLICE("maxmemory"));
	note_room(w, most > 0 && slice_equal(worker_info(text, SLICE("maxmemory_policy")), SLICE("noeviction")) &&
			     number_of(text, SLICE("used_memory")) > most / 100 * FULL_PERCENT);
}

static void look_for_room(void *worker)
{
	const struct slice info[] = { SLICE("INFO"), SLICE("memory") };
	struct worker *w = worker;

	w->room_call = redis_send(w->answers, LOOK_TIMEOUT, room_told, w, ARRAY_LENGTH(info), info);
}

void worker_watch_room(struct worker *w)
{
	loop_timer_init(&w->room_timer, w->loop, look_for_room, w);
	loop_timer_set(&w->room_timer, 0);
}

void worker_unwatch_room(struct worker *w)
{
	redis_cancel(&w->room_call);
	loop_timer_free(&w->room_timer);
}

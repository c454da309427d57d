/* See subscriber.h. On the connection that listens one call is out at a time; what is answered, or refused, leads to the next:
 *
 *   up ──► CLIENT ID ──► SUBSCRIBE channel, each ──► SUBSCRIBE __redis__:invalidate ──► PING ──► PING ──► …     each within `silence`, or
 *                                                                                        │                       the connection is cut
 *                                                        CLIENT TRACKING on `reads` ◄────┘ when due
 *
 * CLIENT ID comes first because a subscribed connection may not ask it any more. An epoch begins at a pong, and nowhere else.
 *
 * Why a pong proves anything: Redis runs one command after the other and writes to one connection in order. A change that was made before it
 * answered the ping was pushed before the pong, so it was heard before the pong was. But that holds for the moment when Redis answered, which
 * may be long ago: a process that was stopped finds the pong in its socket, and behind it all that was pushed since. The one
 * moment that is known not to be later than Redis' answer is that of sending the ping; so `proven` is that moment, and the
 * coming of a message, whose time nobody knows, proves nothing. */
#include "lib/subscriber.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

#include <stdio.h>

#define SUBSCRIBER_MAGIC 0x73756273u
#define CHANGES          "__redis__:invalidate" /* Redis' own name */

/* From an answer to the next asking for tracking; from a refusal too, for an operator may lift it. Unanswered for so long, `reads`
 * is cut: late enough that its own calls have found out first. */
#define TRACK_AGAIN  (1 * CLOCK_SECOND)
#define TRACK_WITHIN (2 * CLOCK_SECOND)

enum step { STEP_IDENTIFY, STEP_HINTS, STEP_MORE_HINTS, STEP_CHANGES, STEP_PING, STEP_TRACK, STEP_COUNT };

/* In the log. STEP_TRACK alone goes over `reads`. */
static const char *const step_names[STEP_COUNT] = {
	"CLIENT ID", "SUBSCRIBE to hints", "SUBSCRIBE to more hints", "SUBSCRIBE to changes", "PING", "CLIENT TRACKING",
};

/* Owned by whoever called subscriber_new; dies at the end of the turn after subscriber_free (its callbacks may be on the stack).
 * Between calls: `redis` is NULL only after subscriber_free. While it is down, `id` is 0, and `call`, `track` and `epoch` are none. `is_tracked` holds
 * for this id and the present connection of `reads`. An epoch needs is_tracked and hears_changes. */
struct subscriber {
	unsigned magic;
	struct loop *loop;
	struct log *log;
	struct subscriber_options options;
	char *channels[SUBSCRIBER_CHANNELS];

	struct redis *redis, *reads; /* reads: not owned; NULL until subscriber_track */
	enum step step;              /* what `call` asks, or will when the timer fires */
	struct redis_call *call, *track;
	int64_t asked;           /* when `call` was, or before */
	struct loop_timer timer; /* to the next asking of `step` */
	unsigned refused;        /* bits of steps whose refusal was logged, and which have not gone well since */

	int64_t id; /* of the listening connection; 0: not known */
	bool hears_changes, is_tracked;
	int64_t track_at;       /* when to ask for tracking (again) */
	int64_t proven;         /* what was pushed before this moment has been heard */
	uint64_t epoch, newest; /* epoch 0: none */
	struct loop_deferred death;
};

/* ---- epochs --------------------------------------------------------------------------------------------------------------- */

static bool is_fresh(const struct subscriber *s, int64_t now)
{
	return now - s->proven < s->options.silence;
}

static void log_epoch(struct subscriber *s, enum log_level level, const char *event, const char *reason)
{
	struct log_line line;
	log_begin(&line, s->log, level, event);
	log_int(&line, "epoch", (int64_t)s->newest);
	if (reason != NULL)
		log_text(&line, "reason", slice_of(reason));
	log_end(&line);
}

static void end_epoch(struct subscriber *s, const char *reason)
{
	if (s->epoch == 0)
		return;
	s->epoch = 0;
	log_epoch(s, LOG_WARNING, "subscriber_gap", reason);
}

/* Whoever kept copies drops them first: in the gap nobody was told. */
static void begin_epoch(struct subscriber *s)
{
	s->options.invalidated(s->options.arg, SLICE_NONE);
	if (s->redis == NULL)
		return; /* freed inside */
	s->epoch = ++s->newest;
	log_epoch(s, LOG_INFO, "subscriber_tracking", NULL);
}

uint64_t subscriber_epoch(const struct subscriber *s)
{
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	return s->epoch != 0 && is_fresh(s, clock_now()) ? s->epoch : 0;
}

/* ---- what Redis answers --------------------------------------------------------------------------------------------------- */

/* One line when a step is refused, and no more until it has gone well. */
static void note_refusal(struct subscriber *s, enum step step, const struct redis_answer *answer)
{
	struct log_line line;
	struct slice text;
	unsigned bit = 1u << step;
	if (answer->result == REDIS_OK)
		s->refused &= ~bit;
	if (!redis_reply_error(answer->reply, &text) || (s->refused & bit) != 0)
		return;
	s->refused |= bit;
	log_begin(&line, s->log, LOG_WARNING, "subscriber_refused");
	log_text(&line, "command", slice_of(step_names[step]));
	log_text(&line, "reason", text);
	log_end(&line);
}

/* No answer for good: the loop stood still between the asking and the writing, or Redis says that it will do soon. */
static bool is_passing(const struct redis_answer *answer)
{
	return answer->reply == NULL || redis_error_row(answer->error)->call == REDIS_TRY_SOON;
}

/* ---- tracking ------------------------------------------------------------------------------------------------------------- */

static void on_tracked(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct subscriber *s = arg;
	(void)call;
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	s->track = NULL;
	s->track_at = clock_now() + TRACK_AGAIN;
	s->is_tracked = answer->result == REDIS_OK;
	note_refusal(s, STEP_TRACK, answer);
	if (!s->is_tracked)
		end_epoch(s, "tracking was not confirmed");
}

/* OK says more than that tracking is on: Redis has both connections, for it refuses an id that it does not know. */
static void track_if_due(struct subscriber *s, int64_t now)
{
	char id[24];
	if (s->reads == NULL || s->track != NULL || now < s->track_at || !redis_is_up(s->reads))
		return;
	if (s->id == 0 || !s->hears_changes)
		return;
	int length = snprintf(id, sizeof(id), "%lld", (long long)s->id);
	const struct slice words[] = {
		SLICE("CLIENT"), SLICE("TRACKING"), SLICE("ON"), SLICE("REDIRECT"), slice_make(id, (size_t)length),
		SLICE("NOLOOP")
	};
	s->track = redis_send(s->reads, TRACK_WITHIN, on_tracked, s, ARRAY_LENGTH(words), words);
}

static void stop_tracking(struct subscriber *s, const char *reason)
{
	redis_cancel(&s->track);
	s->is_tracked = false;
	s->track_at = INT64_MIN;
	end_epoch(s, reason);
}

static void on_reads_changed(void *arg, bool up)
{
	struct subscriber *s = arg;
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	if (!up)
		stop_tracking(s, "the tracked connection was lost"); /* the next pong asks for the new one */
}

/* ---- the connection that listens ------------------------------------------------------------------------------------------ */

static void on_answer(struct redis_call *call, void *arg, const struct redis_answer *answer);

static void ask(struct subscriber *s)
{
	const struct slice words[][2] = {
		[STEP_IDENTIFY] = { SLICE("CLIENT"), SLICE("ID") },
		[STEP_HINTS] = { SLICE("SUBSCRIBE"), s->options.channels[0] },
		[STEP_MORE_HINTS] = { SLICE("SUBSCRIBE"), s->options.channels[1] },
		[STEP_CHANGES] = { SLICE("SUBSCRIBE"), SLICE(CHANGES) },
		[STEP_PING] = { SLICE("PING") },
	};
	size_t count = s->step == STEP_PING ? 1 : 2;
	CHECK(s->call == NULL);
	s->asked = clock_now();
	s->call = redis_send(s->redis, s->options.silence, on_answer, s, count, words[s->step]);
}

static void on_timer(void *arg)
{
	struct subscriber *s = arg;
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	ask(s);
}

/* A gap in time that nobody has seen yet ends the old number here, before the new proof could hide it. All is proved anew: while
 * this process was stopped, `reads` may have died too. */
static void on_pong(struct subscriber *s)
{
	int64_t now = clock_now();
	if (!is_fresh(s, now))
		stop_tracking(s, "silence");
	s->proven = s->asked;
	loop_timer_set(&s->timer, s->asked + s->options.ping - now);
	track_if_due(s, now);
	if (s->epoch == 0 && s->is_tracked && is_fresh(s, now))
		begin_epoch(s);
}

static void on_answer(struct redis_call *call, void *arg, const struct redis_answer *answer)
{
	struct subscriber *s = arg;
	bool well = answer->result == REDIS_OK;
	(void)call;
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	s->call = NULL;
	note_refusal(s, s->step, answer);
	if (is_passing(answer) || (s->step == STEP_PING && !well)) {
		loop_timer_set(&s->timer, s->options.ping);
		return;
	}
	if (s->step == STEP_PING) {
		on_pong(s);
		return;
	}
	if (s->step == STEP_IDENTIFY && (!well || !redis_reply_int(answer->reply, &s->id)))
		s->id = 0;
	if (s->step == STEP_CHANGES)
		s->hears_changes = well;
	s->step++;
	if (s->step == STEP_MORE_HINTS && s->options.channels[1].len == 0)
		s->step++;
	ask(s);
}

/* Down: lib/redis has cut the connection, or Redis has. Another one has another id, and has subscribed to nothing. */
static void on_changed(void *arg, bool up)
{
	struct subscriber *s = arg;
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	redis_cancel(&s->call);
	loop_timer_clear(&s->timer);
	stop_tracking(s, "the listening connection was lost");
	s->id = 0;
	s->hears_changes = false;
	s->step = STEP_IDENTIFY;
	if (up)
		ask(s);
}

/* NULL after FLUSHALL; an array of keys otherwise. What is neither may mean any key. */
static void hear_changes(struct subscriber *s, const struct redisReply *payload)
{
	size_t count = redis_reply_count(payload);
	if (count == 0)
		s->options.invalidated(s->options.arg, SLICE_NONE);
	for (size_t i = 0; i < count && s->redis != NULL; i++) { /* it may be freed inside */
		struct slice key;
		if (!redis_reply_text(redis_reply_at(payload, i), &key))
			key = SLICE_NONE;
		s->options.invalidated(s->options.arg, key);
	}
}

static bool is_ours(const struct subscriber *s, struct slice channel)
{
	for (size_t i = 0; i < SUBSCRIBER_CHANNELS; i++)
		if (channel.len > 0 && slice_equal(channel, s->options.channels[i]))
			return true;
	return false;
}

static void on_message(void *arg, struct slice channel, const struct redisReply *payload)
{
	struct subscriber *s = arg;
	struct slice text;
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	if (slice_equal(channel, SLICE(CHANGES)))
		hear_changes(s, payload);
	else if (is_ours(s, channel) && redis_reply_text(payload, &text))
		s->options.hint(s->options.arg, channel, text);
}

/* ---- what the header promises --------------------------------------------------------------------------------------------- */

static void on_death(void *arg)
{
	struct subscriber *s = arg;
	CHECK(s->magic == SUBSCRIBER_MAGIC);
	loop_timer_free(&s->timer);
	for (size_t i = 0; i < SUBSCRIBER_CHANNELS; i++)
		mem_free(s->channels[i]);
	s->magic = 0;
	mem_free(s);
}

struct subscriber *subscriber_new(struct loop *loop, const struct redis_options *where,
				  const struct subscriber_options *options, struct log *log)
{
	struct subscriber *s = mem_new(sizeof(*s));
	CHECK(options->ping > 0 && options->silence > options->ping && options->hint != NULL &&
	      options->invalidated != NULL);
	CHECK(options->channels[0].len > 0);
	s->magic = SUBSCRIBER_MAGIC;
	s->loop = loop;
	s->log = log;
	s->options = *options;
	for (size_t i = 0; i < SUBSCRIBER_CHANNELS; i++) {
		CHECK(!slice_equal(options->channels[i], SLICE(CHANGES)));
		s->channels[i] = mem_text(options->channels[i]);
		s->options.channels[i].data = s->channels[i];
	}
	loop_timer_init(&s->timer, loop, on_timer, s);
	loop_deferred_init(&s->death, on_death, s);
	s->redis = redis_new(loop, where, log);
	redis_on_change(s->redis, on_changed, s);
	redis_on_message(s->redis, on_message, s);
	return s;
}

void subscriber_track(struct subscriber *s, struct redis *reads)
{
	CHECK(s->magic == SUBSCRIBER_MAGIC && s->reads == NULL);
	s->reads = reads;
	s->track_at = INT64_MIN;
	redis_on_change(reads, on_reads_changed, s);
}

/* The calls go first: redis_free would answer them from here. */
void subscriber_free(struct subscriber **handle)
{
	struct subscriber *s = *handle;
	*handle = NULL;
	if (s == NULL)
		return;
	CHECK(s->magic == SUBSCRIBER_MAGIC && s->redis != NULL);
	redis_cancel(&s->call);
	redis_cancel(&s->track);
	loop_timer_clear(&s->timer);
	if (s->reads != NULL)
		redis_on_change(s->reads, NULL, NULL);
	redis_free(&s->redis);
	loop_defer(s->loop, &s->death);
}

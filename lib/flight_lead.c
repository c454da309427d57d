/* The leader's side. One word at a time is on its way to Redis; what comes meanwhile goes with the next.
 *
 *   beat    nobody elsewhere reads along: a word each beat, with all that came since
 *   batch   somebody does: a word each batch, or for each 4 KiB
 *   now     it has ended; nobody can join any more; or it must be known whether anybody else is there
 *
 * A word whose answer was lost is said again: readers go by offsets, and what has ended already refuses the second time. A flight that Redis does not know
 * (it was away, or the answer to join was lost) asks for the lead once a beat, and tells all from the first byte when it gets it. */
#include "lib/flight_internal.h"

#include "lib/clock.h"
#include "lib/mem.h"
#include "scripts.h"

/* How often an orphan asks whether it is alone, and what was not heard is said again. */
#define LONELY_LOOK  (100 * CLOCK_MILLISECOND)
#define PASS_HOLDS   (10 * CLOCK_SECOND) /* so long all ask for themselves behind an answer that could not be shared */
#define FAILED_HOLDS CLOCK_SECOND        /* so long nobody refreshes behind a failure */
enum { BATCH_BYTES = 4096, WORD_MOST = 256 * 1024 };

/* ---- when the next word is due ----------------------------------------------------------------------------------------- */

static int64_t due(const struct flight *f)
{
	const struct flight_options *o = &f->flights->options;
	bool news = (f->has_head && !f->lead.head_told) || flight_record_end(f) > f->lead.told;

	if (f->fence == 0)
		return f->touched + o->beat;
	if (f->lead.stumbled)
		return f->touched + LONELY_LOOK;
	if (f->lead.ended || f->lead.ask_alone || (f->closed && !f->lead.close_told))
		return 0;
	if (f->lead.orphan && f->seats_count == 0)
		return f->touched + LONELY_LOOK;
	if (f->lead.readers > 0 && news)
		return flight_record_end(f) - f->lead.told >= BATCH_BYTES ? 0 : f->touched + o->batch;
	return f->touched + o->beat;
}

/* Sets the timer for what comes next, unless an answer is awaited. */
static void arm(struct flight *f)
{
	int64_t next = INT64_MAX, now = clock_now();

	if (f->call == NULL && !f->lead.gives_up && (!f->lead.ended || f->lead.unfinished))
		next = due(f);
	if (f->window && f->lead.window_ends < next)
		next = f->lead.window_ends;
	if (next != INT64_MAX)
		loop_timer_set(&f->timer, next - now);
}

/* Until Redis has heard of the end it would say that this worker leads: so long the flight is found. */
static void finished(struct flight *f)
{
	f->flights->unfinished -= f->lead.unfinished;
	f->lead.unfinished = false;
	if (f->lead.ended && !f->window)
		flight_unlist(f);
	flight_look_at_end(f);
}

static void give_up(struct flight *f)
{
	f->lead.gives_up = true;
	finished(f);
}

/* ---- answers ----------------------------------------------------------------------------------------------------------- */

/* Nobody elsewhere will read along any more. An orphan whom nobody in this worker follows either is over; somebody may have come meanwhile, or leads now. */
static void left_alone(struct flight *f)
{
	struct flight_seat *leader = f->leader;

	give_up(f);
	if (!f->lead.orphan || f->seats_count > 0 || leader == NULL)
		return;
	flight_unlist(f);
	f->lead.ended = true;
	f->leader = NULL;
	leader->place = SEAT_ALONE;
	leader->flight = NULL;
	flight_look_at_end(f);
	leader->events->alone(leader, leader->arg);
}

static void word_taken(struct flight *f, int64_t readers)
{
	f->lead.readers = readers > 0 ? (unsigned)readers : f->lead.hinted;
	f->lead.hinted = f->lead.stumbled = false;
	f->lead.head_told |= f->lead.sent.head;
	f->lead.close_told |= f->lead.sent.close;
	if (f->lead.sent.bytes > f->lead.told)
		f->lead.told = f->lead.sent.bytes;
	if (f->lead.sent.end)
		left_alone(f);
}

/* Nobody answers. While it is not known whether anybody reads along, nobody does who could: what they would read comes this way. */
static void unheard(struct flight *f)
{
	f->lead.stumbled = true;
	f->lead.ask_alone |= f->lead.sent.alone;
	if (f->lead.sent.alone && !redis_is_up(f->flights->redis)) {
		left_alone(f);
		return;
	}
	if (f->lead.ended && clock_now() >= f->lead.until)
		give_up(f);
}

/* Redis has ended it, for it asked whether anybody reads along and nobody does: who comes now to another worker leads there. */
static void ended_for_us(struct flight *f)
{
	flight_unlist(f);
	left_alone(f);
}

static void on_word(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct flight *f = arg;
	int64_t verdict, readers = 0;

	CHECK(f->magic == FLIGHT_MAGIC && f->call == call);
	f->call = NULL;
	flights_heard(f->flights, f->lead.sent.stores ? FLIGHT_SCRIPT_FINISH : FLIGHT_SCRIPT_APPEND, redis);
	if (f->lead.sent.stores && redis->result == REDIS_ERROR)
		f->lead.end.store = false; /* it is full, or forbids it: the flight ends without */
	if (redis->result != REDIS_OK || !redis_reply_int(redis_reply_at(redis->reply, 0), &verdict) ||
	    !redis_reply_int(redis_reply_at(redis->reply, 1), &readers))
		unheard(f);
	else if (verdict == 1)
		word_taken(f, readers);
	else if (verdict == 2)
		ended_for_us(f);
	else
		left_alone(f); /* another leads: what we have stays in this worker */
	arm(f);
	flight_look_at_end(f);
}

static void on_adopted(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct flight *f = arg;
	struct flight_joined joined;

	CHECK(f->magic == FLIGHT_MAGIC && f->call == call);
	f->call = NULL;
	flights_heard(f->flights, FLIGHT_SCRIPT_JOIN, redis);
	if (redis->result == REDIS_OK &&
	    flight_wire_read_join(redis->reply, f->key, f->flights->options.most, &joined)) {
		f->fence = joined.verdict == FLIGHT_LEAD ? joined.fence : 0;
		if (f->fence == 0)
			left_alone(f);
		answer_release(&joined.answer);
	}
	if (f->fence == 0 && f->lead.ended) /* it was not worth another try */
		give_up(f);
	arm(f);
	flight_look_at_end(f);
}

/* ---- words ------------------------------------------------------------------------------------------------------------- */

/* What followers elsewhere are told of the end: a letter, and the note. */
static struct slice end_word(const struct flight *f, char memory[FLIGHT_NOTE + 1], char *after, int64_t *holds)
{
	static const struct {
		char letter, after;
		int64_t holds;
	} words[] = {
		[FLIGHT_DONE] = { 'd', 'd', 0 },
		[FLIGHT_BROKEN] = { 'f', 'x', FAILED_HOLDS },
		[FLIGHT_REFUSED] = { 'a', 'a', 0 },
		[FLIGHT_PRIVATE] = { 'p', 'p', PASS_HOLDS },
	};
	enum flight_outcome outcome = f->lead.ended ? f->lead.end.outcome : FLIGHT_PRIVATE;

	memory[0] = words[outcome].letter;
	memcpy(memory + 1, f->note, f->note_length);
	*after = words[outcome].after;
	*holds = words[outcome].holds;
	if (f->lead.ended && f->closed)
		*after = 'p', *holds = PASS_HOLDS;
	else if (outcome == FLIGHT_DONE) /* it was not worth storing */
		*after = 'x', *holds = FAILED_HOLDS;
	return slice_make(memory, 1 + f->note_length);
}

/* What Redis does not have yet; of much, the first part. */
static struct slice news(struct flight *f)
{
	if (f->lead.told < f->base)
		f->lead.told = f->base; /* too far behind: readers see the gap */
	return slice_first(slice_skip(buf_slice(&f->bytes), (size_t)(f->lead.told - f->base)), WORD_MOST);
}

static void start_finish(struct flight *f, const struct flight_words *words)
{
	struct flight_wire wire;
	struct answer_packed packed;
	struct buf memory;

	buf_init(&memory, 2 * f->flights->options.most);
	answer_pack(f->key, buf_slice(&f->head), buf_slice(&f->bytes), &memory, &packed);
	flight_wire_finish(&wire, words, &packed, &f->lead.end, f->flights->options.window);
	f->lead.sent.stores = true;
	f->call = script_start(f->flights->redis, &script_finish, f->flights->options.timeout, on_word, f, wire.key,
			       wire.keys, wire.argument, wire.arguments);
	buf_free(&memory);
}

static void start_append(struct flight *f, const struct flight_words *words)
{
	struct flight_wire wire;

	flight_wire_append(&wire, words);
	f->call = script_start(f->flights->redis, &script_append, f->flights->options.timeout, on_word, f, wire.key,
			       wire.keys, wire.argument, wire.arguments);
}

static void say(struct flight *f)
{
	char memory[FLIGHT_NOTE + 1];
	struct slice bytes = news(f);
	bool last = f->lead.told + bytes.len == flight_record_end(f);
	bool nobody = f->closed && f->lead.readers == 0;
	struct flight_words words = { .key = f->key,
				      .fence = f->fence,
				      .lease = f->flights->options.lease,
				      .end_if_alone = !f->lead.ended && f->lead.orphan && f->seats_count == 0,
				      .close = f->closed,
				      .offset = f->lead.told,
				      .bytes = bytes,
				      .after = 'r' };

	if (f->has_head && !f->lead.head_told)
		words.head = buf_slice(&f->head);
	f->lead.sent.head = words.head.len > 0;
	f->lead.sent.close = words.close;
	f->lead.sent.bytes = f->lead.told + bytes.len;
	f->lead.sent.alone = words.end_if_alone;
	f->lead.sent.end = (f->lead.ended && last) || nobody;
	f->lead.sent.stores = false;
	f->lead.ask_alone = false;
	if (f->lead.sent.end)
		words.end = end_word(f, memory, &words.after, &words.holds);
	if (f->lead.sent.end && f->lead.end.store && !f->closed)
		start_finish(f, &words);
	else
		start_append(f, &words);
}

/* Nothing but the lead is wanted: nobody is followed, nothing is read. */
static void ask_for_the_lead(struct flight *f)
{
	struct flight_ask ask = { .may_lead = true, .oldest = -1 };
	struct flight_wire wire;

	memcpy(ask.key, f->key, sizeof(ask.key));
	flight_wire_join(&wire, &ask, f->flights->channel, f->flights->options.lease, f->flights->options.lease, false);
	f->call = script_start(f->flights->redis, &script_join, f->flights->options.timeout, on_adopted, f, wire.key,
			       wire.keys, wire.argument, wire.arguments);
}

static void speak(struct flight *f)
{
	int64_t now = clock_now();

	if (f->call == NULL && !f->lead.gives_up && now >= due(f) && (!f->lead.ended || f->lead.unfinished)) {
		f->touched = now;
		if (f->fence != 0)
			say(f);
		else if (f->listed && redis_is_up(f->flights->redis))
			ask_for_the_lead(f);
	}
	arm(f);
}

void flight_lead_tick(struct flight *f)
{
	if (f->window && clock_now() >= f->lead.window_ends) {
		f->window = false;
		if (!f->lead.unfinished)
			finished(f);
	}
	speak(f);
}

void flight_lead_hint(struct flight *f)
{
	f->lead.hinted = f->call != NULL; /* its answer may not count that one yet */
	if (f->lead.readers == 0)
		f->lead.readers = 1;
	speak(f);
}

/* ---- who leads ---------------------------------------------------------------------------------------------------------- */

void flight_lead_take(struct flight *f, struct flight_seat *s)
{
	CHECK(f->leader == NULL && s->place == SEAT_ALONE);
	s->place = SEAT_LEADING;
	s->flight = f;
	f->leader = s;
	f->lead.orphan = false;
	f->touched = clock_now();
	arm(f);
}

/* The leader's seat is nothing any more. */
static void let_go(struct flight *f)
{
	f->leader->place = SEAT_ALONE;
	f->leader->flight = NULL;
	f->leader = NULL;
}

static void promote(struct flight *f, struct flight_seat *s)
{
	flight_lead_take(f, s);
	flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_LEAD, .has_stale = f->has_stale });
}

/* The flight is over in this worker; Redis is to hear it. */
static void conclude(struct flight *f)
{
	f->lead.ended = true;
	f->lead.until = clock_now() + f->flights->options.lease;
	if ((f->fence != 0 || f->call != NULL) && !f->lead.gives_up) { /* or it is about to get the lead */
		f->lead.unfinished = true;
		f->flights->unfinished++;
	} else {
		finished(f);
	}
	speak(f);
}

/* Those of the leader's group are refused as he was; the first of another leads. */
static bool pass_the_lead(struct flight *f, uint64_t group, struct slice note)
{
	struct flight_seat *next = NULL, *s;
	struct list others;

	list_init(&others);
	while ((s = flight_pop_seat(f)) != NULL) {
		if (s->ask.group == group)
			flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_DENIED, .note = note });
		else if (next == NULL)
			next = s;
		else
			list_push_back(&others, &s->node);
	}
	for (struct list *node; (node = list_pop_front(&others)) != NULL;)
		flight_seat_follow(CONTAINER_OF(node, struct flight_seat, node), f);
	if (next != NULL)
		promote(f, next);
	return next != NULL;
}

static void end_whole(struct flight *f, const struct flight_end *end)
{
	flight_over(f, FLIGHT_WHOLE, SLICE_NONE);
	f->lead.end.store = end->store && !f->closed;
	if (f->listed && f->flights->options.window > 0 && !f->closed) {
		f->window = true;
		f->lead.window_ends = clock_now() + f->flights->options.window;
	}
}

void flight_end(struct flight_seat *s, const struct flight_end *end)
{
	struct flight *f = s->flight;
	uint64_t group = s->ask.group;

	CHECK(s->magic == SEAT_MAGIC);
	if (s->place != SEAT_LEADING)
		return; /* it was ended for it: too large, private, alone */
	CHECK(!f->lead.ended && end->note.len <= FLIGHT_NOTE);
	let_go(f);
	if (end->outcome == FLIGHT_REFUSED && !f->has_head && pass_the_lead(f, group, end->note))
		return;
	f->lead.end = *end;
	if (end->outcome == FLIGHT_DONE) {
		end_whole(f, end);
	} else {
		f->lead.end.store = false;
		flight_unlist(f);
		if (end->outcome == FLIGHT_PRIVATE)
			flight_release_untouched(f, flight_pass);
		flight_over(f, FLIGHT_FAILED, end->outcome == FLIGHT_BROKEN ? end->note : SLICE_NONE);
	}
	conclude(f);
}

void flight_lead_give_back(struct flight *f)
{
	f->lead.end = (struct flight_end){ .outcome = FLIGHT_REFUSED }; /* nobody's fault: others contend anew */
	flight_unlist(f);
	flight_over(f, FLIGHT_FAILED, SLICE_NONE);
	conclude(f);
	flight_release_untouched(f, flight_ask_again);
}

void flight_lead_left(struct flight *f)
{
	struct flight_seat *next = f->has_head ? NULL : flight_pop_seat(f);

	if (next != NULL)
		promote(f, next);
	else
		flight_lead_give_back(f);
}

bool flight_orphan(struct flight_seat *s)
{
	struct flight *f = s->flight;

	CHECK(s->magic == SEAT_MAGIC);
	if (s->place != SEAT_LEADING)
		return false;
	if (f->seats_count == 0 && (f->fence == 0 || f->lead.gives_up || !redis_is_up(f->flights->redis)))
		return false;
	f->lead.orphan = true;
	flight_lead_alone(f);
	return true;
}

void flight_lead_alone(struct flight *f)
{
	if (!f->lead.orphan || f->seats_count > 0 || f->leader == NULL)
		return;
	if (f->fence == 0 || f->lead.gives_up) {
		loop_defer(f->flights->loop, &f->lonely);
		return;
	}
	f->lead.ask_alone = true;
	speak(f);
}

/* Whom nobody elsewhere can read is alone when nobody here does. */
void flight_lead_lonely(void *flight)
{
	struct flight *f = flight;

	CHECK(f->magic == FLIGHT_MAGIC);
	if (f->lead.orphan && f->seats_count == 0 && f->leader != NULL)
		left_alone(f);
}

bool flight_leads(const struct flight_seat *s)
{
	CHECK(s->magic == SEAT_MAGIC);
	return s->place == SEAT_LEADING;
}

bool flight_slides(const struct flight_seat *s)
{
	return flight_leads(s) && s->flight->closed;
}

/* ---- what the leader says ------------------------------------------------------------------------------------------------ */

void flight_begin(struct flight_seat *s, struct slice head)
{
	CHECK(s->magic == SEAT_MAGIC);
	if (s->place != SEAT_LEADING)
		return;
	if (flight_record_head(s->flight, head))
		speak(s->flight);
	else
		flight_end(s, &(struct flight_end){ .outcome = FLIGHT_PRIVATE });
}

void flight_write(struct flight_seat *s, struct slice bytes)
{
	struct flight *f = s->flight;
	bool was_closed;

	CHECK(s->magic == SEAT_MAGIC);
	if (s->place != SEAT_LEADING)
		return;
	CHECK(f->has_head);
	was_closed = f->closed;
	flight_record_bytes(f, bytes);
	if (f->closed && !was_closed) {
		flight_release_untouched(f, flight_pass);
		flight_lead_alone(f);
	}
	speak(f);
}

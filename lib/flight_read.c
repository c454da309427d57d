/* Reads another worker's flight into a record of this one: one reader, however many follow here.
 *
 *   start ──► look ──► entries: head, bytes, end        a look at each hint, and on a back-off of 50 to 500 ms should hints be lost
 *               ├──► the leader's lease is over, or another has it: lost. Who has taken nothing joins again; the others are told that it failed
 *               └──► what nobody can read, or a gap: the same, but who has taken nothing asks for itself, for the leader may live on */
#include "lib/flight_internal.h"

#include "lib/clock.h"
#include "lib/text.h"
#include "scripts.h"

#define WAIT_LEAST (50 * CLOCK_MILLISECOND)
#define WAIT_MOST  (500 * CLOCK_MILLISECOND)
#define PATIENCE   (500 * CLOCK_MILLISECOND) /* behind a lease that nobody could be asked about */
enum { ENTRIES = 64 };

static void arm(struct flight *f)
{
	int64_t now = clock_now(), next = f->touched + f->read.wait;

	if (f->read.holds_until < next && f->read.holds_until > now)
		next = f->read.holds_until;
	loop_timer_set(&f->timer, next - now);
}

/* ---- what comes in ------------------------------------------------------------------------------------------------------ */

static void stop(struct flight *f, void (*untouched)(struct flight_seat *))
{
	flight_unlist(f);
	flight_over(f, FLIGHT_FAILED, SLICE_NONE);
	flight_release_untouched(f, untouched);
}

/* The leader is gone without an end. */
static void lose(struct flight *f)
{
	stop(f, flight_ask_again);
}

static void give_up(struct flight *f)
{
	stop(f, flight_pass);
}

static void take_end(struct flight *f, struct slice word)
{
	struct slice note = slice_skip(word, 1);

	switch (word.len > 0 ? word.data[0] : 'p') {
	case 'd':
		flight_unlist(f);
		flight_over(f, FLIGHT_WHOLE, SLICE_NONE);
		break;
	case 'f':
		flight_unlist(f);
		flight_over(f, FLIGHT_FAILED, note);
		break;
	case 'a':
		lose(f);
		break;
	default: /* 'p', or who knows */
		give_up(f);
	}
}

/* What is there already may come again, when its first answer was lost; a gap is the end of reading along. */
static void take_bytes(struct flight *f, uint64_t offset, struct slice bytes)
{
	uint64_t have = flight_record_end(f);

	if (offset > have || !f->has_head) {
		give_up(f);
		return;
	}
	bytes = slice_skip(bytes, (size_t)(have - offset));
	if (bytes.len > 0)
		flight_record_bytes(f, bytes);
}

/* {id, {field, value}}. False: it is none of ours. */
static bool take_entry(struct flight *f, const struct redisReply *entry)
{
	const struct redisReply *pair = redis_reply_at(entry, 1);
	struct slice id, field, value;
	int64_t offset;

	if (!redis_reply_text(redis_reply_at(entry, 0), &id) || id.len > sizeof(f->read.last) ||
	    !redis_reply_text(redis_reply_at(pair, 0), &field) || !redis_reply_text(redis_reply_at(pair, 1), &value))
		return false;
	memcpy(f->read.last, id.data, id.len);
	f->read.last_length = id.len;
	if (slice_equal(field, SLICE("h")))
		return f->has_head || flight_record_head(f, value);
	if (slice_equal(field, SLICE("e")))
		take_end(f, value);
	else if (text_int(field, &offset))
		take_bytes(f, (uint64_t)offset, value);
	else
		return false;
	return true;
}

static void look(struct flight *f);

/* Not more at once than those who read along can be given before it slides: the rest is looked at again. */
static void take_reply(struct flight *f, const struct redisReply *reply)
{
	const struct redisReply *entries = redis_reply_at(reply, 2);
	size_t count = redis_reply_count(entries), taken;
	uint64_t had = flight_record_end(f);
	int64_t goes_on, holds;

	if (!redis_reply_int(redis_reply_at(reply, 0), &goes_on) ||
	    !redis_reply_int(redis_reply_at(reply, 1), &holds)) {
		give_up(f);
		return;
	}
	for (taken = 0;
	     taken < count && f->state == FLIGHT_GOING && flight_record_end(f) - had < f->flights->options.tail;
	     taken++)
		if (!take_entry(f, redis_reply_at(entries, taken))) {
			give_up(f);
			return;
		}
	if (f->state != FLIGHT_GOING)
		return;
	f->read.holds_until = clock_now() + (holds < f->flights->options.lease ? holds : f->flights->options.lease);
	if (count == 0 && (goes_on == 0 || holds <= 0)) { /* all has been read, and nobody writes any more */
		lose(f);
		return;
	}
	f->read.wait = count > 0 ? WAIT_LEAST : f->read.wait * 2 < WAIT_MOST ? f->read.wait * 2 : WAIT_MOST;
	f->read.again |= count == ENTRIES || taken < count || goes_on == 0 || holds <= 0;
}

static void on_look(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct flight *f = arg;

	CHECK(f->magic == FLIGHT_MAGIC && f->call == call);
	f->call = NULL;
	flights_heard(f->flights, FLIGHT_SCRIPT_FOLLOW, redis);
	if (f->state == FLIGHT_GOING && redis->result == REDIS_OK)
		take_reply(f, redis->reply);
	else if (f->state == FLIGHT_GOING && clock_now() > f->read.holds_until + PATIENCE)
		lose(f);
	if (f->state == FLIGHT_GOING && f->seats_count == 0)
		flight_read_stop(f);
	else if (f->state == FLIGHT_GOING && f->read.again)
		look(f);
	else if (f->state == FLIGHT_GOING)
		arm(f);
	flight_look_at_end(f);
}

/* ---- looking ------------------------------------------------------------------------------------------------------------ */

static void ask(struct flight *f, int64_t presence)
{
	struct flight_wire wire;

	flight_wire_follow(&wire, f->key, f->fence, f->flights->channel, presence,
			   slice_make(f->read.last, f->read.last_length), ENTRIES);
	f->call = script_start(f->flights->redis, &script_follow, f->flights->options.timeout, on_look, f, wire.key,
			       wire.keys, wire.argument, wire.arguments);
}

static void look(struct flight *f)
{
	const struct flight_options *o = &f->flights->options;
	int64_t now = clock_now();
	bool sign = now - f->read.shown >= o->beat;

	f->read.again = f->call != NULL;
	if (f->call != NULL)
		return;
	if (sign)
		f->read.shown = now;
	f->touched = now;
	ask(f, sign ? o->lease : 0);
}

void flight_read_start(struct flight *f, int64_t holds)
{
	f->read.wait = WAIT_LEAST;
	f->read.shown = clock_now(); /* by join */
	f->read.holds_until = f->read.shown + holds;
	look(f);
}

void flight_read_hint(struct flight *f)
{
	if (f->state == FLIGHT_GOING)
		look(f);
}

void flight_read_tick(struct flight *f)
{
	if (f->state == FLIGHT_GOING)
		look(f);
}

/* The leader, should its own client have left, learns that one less is there. */
void flight_read_stop(struct flight *f)
{
	if (f->state != FLIGHT_GOING)
		return;
	flight_unlist(f);
	loop_timer_clear(&f->timer);
	if (f->call != NULL)
		return; /* on_look comes back here */
	f->state = FLIGHT_FAILED;
	ask(f, -1);
}

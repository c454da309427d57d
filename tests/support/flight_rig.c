#include "tests/support/flight_rig.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/flight_wire.h"
#include "lib/mem.h"
#include "lib/subscriber.h"
#include "tests/support/descriptors.h"
#include "tests/support/worker_link.h"

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

#define LONGEST_TEST (60 * CLOCK_SECOND)

/* ---- workers ------------------------------------------------------------------------------------------------------------ */

static void on_hint(void *arg, struct slice channel, struct slice text)
{
	struct rig_worker *w = arg;

	assert_true(slice_equal(channel, slice_of(w->channel)));
	w->hints++;
	if (w->flights != NULL && !w->deaf)
		flights_hint(w->flights, text);
}

static void on_invalidated(void *arg, struct slice key)
{
	struct rig_worker *w = arg;

	w->invalidations++;
	if (w->flights != NULL)
		flights_invalidated(w->flights, key);
}

static void on_answered(void *arg, enum flight_script script, int64_t took)
{
	struct rig_worker *w = arg;

	assert_true(script < FLIGHT_SCRIPTS && took >= 0);
	w->answers++;
}

static void connect_worker(struct rig_worker *w, bool proxied)
{
	const struct subscriber_options hears = {
		.channels = { slice_of(w->channel) }, .hint = on_hint, .invalidated = on_invalidated, .arg = w
	};

	worker_link_open(w->rig->loop, w->rig->server, hears, &w->redis, &w->listener, proxied ? &w->proxy : NULL);
}

static void open_worker(struct rig_worker *w, const struct flight_rig_options *o)
{
	bool hasty = o->pace == RIG_HASTY;
	const struct flight_options options = {
		.timeout = hasty ? RIG_HASTY_LEASE / 2 : 30 * CLOCK_SECOND,
		.lease = hasty ? RIG_HASTY_LEASE : 100 * CLOCK_SECOND,
		.beat = hasty ? 100 * CLOCK_MILLISECOND : 80 * CLOCK_SECOND,
		.batch = 5 * CLOCK_MILLISECOND,
		.window = o->window,
		.most = o->most == 0 ? RIG_MOST : o->most,
		.tail = o->tail,
		.held = &w->rig->held,
		.ceiling = o->ceiling == 0 ? INT64_MAX : o->ceiling,
		.channel = slice_of(w->channel),
		.listener = w->listener,
		.answered = on_answered,
		.arg = w,
	};

	w->flights = flights_new(w->rig->loop, w->redis, &options, NULL);
}

void flight_rig_begin(struct flight_rig *rig, const struct flight_rig_options *options)
{
	const struct redis_server_options server = { .arguments = options->arguments };

	memset(rig, 0, sizeof(*rig));
	rig->began = clock_now();
	rig->descriptors = descriptors_open();
	rig->server = redis_server_start(&server);
	if (options->no_redis)
		redis_server_kill(rig->server);
	rig->loop = loop_new();
	rig->workers = options->workers;
	for (size_t i = 0; i < rig->workers; i++) {
		struct rig_worker *w = &rig->worker[i];
		w->rig = rig;
		snprintf(w->channel, sizeof(w->channel), "sluice:w:%zu", i);
		connect_worker(w, options->proxied);
		open_worker(w, options);
	}
	if (!options->no_redis)
		flight_rig_until_up(rig, true);
}

static bool is_up(const struct rig_worker *w)
{
	return redis_is_up(w->redis) && subscriber_epoch(w->listener) != 0;
}

void flight_rig_until_up(struct flight_rig *rig, bool up)
{
	for (size_t i = 0; i < rig->workers; i++)
		while (rig->worker[i].flights != NULL &&
		       (up ? !is_up(&rig->worker[i]) : redis_is_up(rig->worker[i].redis)))
			flight_rig_turn(rig);
}

void flight_rig_turn(struct flight_rig *rig)
{
	assert_true(clock_now() - rig->began < LONGEST_TEST);
	loop_turn(rig->loop, true); /* the listeners' pings see to it that it returns */
}

static void stats_of(const struct flight_rig *rig, struct flights_stats *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (size_t i = 0; i < rig->workers; i++) {
		struct flights_stats stats;
		if (rig->worker[i].flights == NULL)
			continue;
		flights_stats(rig->worker[i].flights, &stats);
		sum->leading += stats.leading;
		sum->reading += stats.reading;
		sum->seats += stats.seats;
		sum->unfinished += stats.unfinished;
		sum->bytes += stats.bytes;
	}
}

unsigned flight_rig_leading(const struct flight_rig *rig)
{
	struct flights_stats sum;

	stats_of(rig, &sum);
	return sum.leading;
}

static bool is_quiet(const struct flight_rig *rig)
{
	struct flights_stats sum;

	stats_of(rig, &sum);
	return sum.unfinished == 0;
}

void flight_rig_until_quiet(struct flight_rig *rig)
{
	while (!is_quiet(rig))
		flight_rig_turn(rig);
}

/* Flights die with their last call, or at the end of their window. */
static void until_empty(struct flight_rig *rig)
{
	struct flights_stats sum;

	for (;;) {
		stats_of(rig, &sum);
		assert_int_equal(sum.seats, 0);
		if (sum.leading + sum.reading == 0)
			break;
		flight_rig_turn(rig);
	}
	assert_int_equal(sum.bytes, 0);
	assert_int_equal(rig->held, 0);
}

void flight_rig_cut_off(struct rig_worker *w)
{
	fault_proxy_tell(w->proxy, "refuse on");
	fault_proxy_tell(w->proxy, "stall on");
	fault_proxy_tell(w->proxy, "reset");
}

void flight_rig_bury(struct rig_worker *w)
{
	subscriber_free(&w->listener);
	flights_free(&w->flights);
	redis_free(&w->redis);
	fault_proxy_free(&w->proxy);
}

static void check_expiries(struct redis_server *server)
{
	redisReply *keys = redis_server_command(server, "KEYS *");

	assert_int_equal(keys->type, REDIS_REPLY_ARRAY);
	for (size_t i = 0; i < keys->elements; i++)
		if (redis_server_int(server, "PTTL %s", keys->element[i]->str) == -1)
			fail_msg("%s has no expiry", keys->element[i]->str);
	freeReplyObject(keys);
}

void flight_rig_end(struct flight_rig *rig)
{
	clock_test_release(); /* of a test that failed while it held the clock */
	for (size_t i = 0; i < RIG_SEATS; i++)
		flight_rig_leave(&rig->seats[i]);
	until_empty(rig);
	for (size_t i = 0; i < rig->workers; i++)
		flight_rig_bury(&rig->worker[i]);
	assert_int_equal(rig->held, 0);
	if (redis_server_pid(rig->server) != 0)
		check_expiries(rig->server);
	loop_free(&rig->loop);
	redis_server_free(&rig->server);
	assert_int_equal(descriptors_open(), rig->descriptors);
}

/* ---- seats -------------------------------------------------------------------------------------------------------------- */

static void note_text(char *into, size_t size, struct slice text)
{
	snprintf(into, size, "%.*s", SLICE_ARGS(text));
}

static void on_told(struct flight_seat *seat, void *arg, const struct flight_told *told)
{
	struct rig_seat *s = arg;

	assert_ptr_equal(seat, s->seat);
	s->told++;
	s->verdict = told->verdict;
	s->last = *told;
	s->last.answer = NULL;
	note_text(s->note, sizeof(s->note), told->note);
	s->has_answer = told->answer != NULL;
	if (s->has_answer) {
		note_text(s->head, sizeof(s->head), answer_head(told->answer));
		buf_clear(&s->got);
		buf_append(&s->got, answer_body(told->answer));
	}
	if (s->on_told != NULL)
		s->on_told(s);
}

void flight_rig_take(struct rig_seat *s, size_t most)
{
	struct slice head, unread;

	if (!s->has_head && flight_head(s->seat, &head)) {
		flight_take_head(s->seat);
		s->has_head = true;
		note_text(s->head, sizeof(s->head), head);
	}
	unread = s->has_head ? slice_first(flight_unread(s->seat), most) : SLICE_NONE;
	buf_append(&s->got, unread);
	flight_take(s->seat, unread.len);
}

static void on_more(struct flight_seat *seat, void *arg)
{
	struct rig_seat *s = arg;
	struct slice note;

	assert_ptr_equal(seat, s->seat);
	assert_int_equal(s->verdict, FLIGHT_FOLLOW);
	s->more++;
	if (!s->slow)
		flight_rig_take(s, SIZE_MAX);
	s->state = flight_state(seat, &note);
	if (s->state == FLIGHT_FAILED)
		note_text(s->note, sizeof(s->note), note);
	if (s->on_more != NULL)
		s->on_more(s);
}

static void on_alone(struct flight_seat *seat, void *arg)
{
	struct rig_seat *s = arg;

	assert_ptr_equal(seat, s->seat);
	assert_false(flight_leads(seat));
	s->alone++;
}

struct flight_ask flight_rig_ask(unsigned number)
{
	struct flight_ask ask = { .may_read = true,
				  .may_be_late = true,
				  .may_follow = true,
				  .may_lead = true,
				  .oldest = -1,
				  .group = 1,
				  .purges = { SLICE("t:acme") },
				  .purges_count = 1 };

	memset(ask.key, (int)number, sizeof(ask.key));
	return ask;
}

const char *flight_rig_key(unsigned number, const char *kind)
{
	static char text[128];
	const struct flight_ask ask = flight_rig_ask(number);
	char name[FLIGHT_NAME];

	flight_name(ask.key, name);
	snprintf(text, sizeof(text), "sluice:{c:%.*s%s", (int)FLIGHT_NAME, name, kind);
	return text;
}

void flight_rig_join(struct rig_seat *s, struct rig_worker *w, const struct flight_ask *ask)
{
	static const struct flight_events events = { on_told, on_more, on_alone };

	assert_null(s->seat);
	s->worker = w;
	buf_init(&s->got, 64 * 1024 * 1024);
	s->seat = flight_join(w->flights, ask, &events, s);
	assert_int_equal(s->told, 0); /* never inside the call */
}

enum flight_verdict flight_rig_seat(struct rig_seat *s, struct rig_worker *w, unsigned number)
{
	const struct flight_ask ask = flight_rig_ask(number);

	flight_rig_join(s, w, &ask);
	RIG_UNTIL(w->rig, s->told > 0);
	return s->verdict;
}

void flight_rig_leave(struct rig_seat *s)
{
	flight_leave(&s->seat);
	assert_null(s->seat);
	buf_free(&s->got);
}

bool flight_rig_over(const struct rig_seat *s)
{
	return s->told > 0 && (s->verdict == FLIGHT_FOLLOW ? s->state != FLIGHT_GOING : s->verdict != FLIGHT_LEAD);
}

bool flight_rig_got(const struct rig_seat *s, const char *text)
{
	return slice_equal(buf_slice(&s->got), slice_of(text));
}

void flight_rig_until_told(const struct rig_seat *s, unsigned times, enum flight_verdict verdict)
{
	while (s->told < times)
		flight_rig_turn(s->worker->rig);
	assert_int_equal(s->told, times);
	assert_int_equal(s->verdict, verdict);
}

void flight_rig_until_over(const struct rig_seat *s, enum flight_state state)
{
	while (!flight_rig_over(s))
		flight_rig_turn(s->worker->rig);
	assert_int_equal(s->state, state);
}

void flight_rig_until_got(const struct rig_seat *s, const char *text)
{
	while (!flight_rig_got(s, text))
		flight_rig_turn(s->worker->rig);
}

/* ---- who leads ---------------------------------------------------------------------------------------------------------- */

void flight_rig_write(struct rig_seat *s, const char *text)
{
	flight_write(s->seat, slice_of(text));
}

void flight_rig_done(struct rig_seat *s, bool store)
{
	flight_end(s->seat, &(struct flight_end){ .outcome = FLIGHT_DONE,
						  .store = store,
						  .fresh = store ? CLOCK_MINUTE : 0,
						  .stale = store ? 2 * CLOCK_MINUTE : 0,
						  .error = store ? 3 * CLOCK_MINUTE : 0 });
	assert_false(flight_leads(s->seat));
}

void flight_rig_fail(struct rig_seat *s, enum flight_outcome outcome, const char *note)
{
	flight_end(s->seat, &(struct flight_end){ .outcome = outcome, .note = slice_of(note) });
	assert_false(flight_leads(s->seat));
}

/* The stand-in for lib/flight and lib/subscriber: what others have stored, ask for, and read along. The scenario's words come one by one, each when the seat that
 * was taken last awaits it. */
#include "lib/flight_wire.h"
#include "lib/subscriber.h"
#include "svc/fields.h"
#include "tests/flow/world/world_internal.h"

struct flights {
	int nothing;
};
struct subscriber {
	int nothing;
};

/* ---- what a seat is told ---------------------------------------------------------------------------------------------------- */

static bool follows(const struct flight_seat *s)
{
	return s->told && s->verdict == FLIGHT_FOLLOW;
}

/* What came of another flight is nothing to this one. */
static void tell(struct flight_seat *s, const struct flight_told *told)
{
	s->has_head = false;
	buf_clear(&s->head);
	buf_clear(&s->bytes);
	s->along = 0;
	s->poisoned = s->poisoned && told->answer != NULL;
	s->state = FLIGHT_GOING;
	s->told = true;
	s->verdict = told->verdict;
	s->note = told->note;
	if (told->verdict == FLIGHT_LEAD || told->verdict == FLIGHT_REFRESH)
		s->led = s->leads = true;
	s->events->told(s, s->arg, told);
}

static void write_head(int64_t length, struct buf *head)
{
	struct http_field field = { SLICE("Content-Type"), slice_of(world_now()->scenario->type) };
	const struct fields_answer answer = { .fields = &field, .count = 1, .capacity = 1 };

	assert_true(fields_pack(&answer, 200, length, head));
}

static struct answer_times times_of(enum flight_verdict verdict)
{
	int64_t now = clock_now(), fresh = verdict == FLIGHT_HIT ? now + CLOCK_MINUTE : now - CLOCK_SECOND;

	return (struct answer_times){ now - 10 * CLOCK_SECOND, fresh, fresh + CLOCK_HOUR, fresh + 2 * CLOCK_HOUR };
}

static void give(struct flight_seat *s, enum flight_verdict verdict, enum world_word word)
{
	struct slice body = slice_of(world_now()->scenario->stored);
	struct flight_told told = { .verdict = verdict, .times = times_of(verdict), .epoch = 1 };
	struct buf head;

	buf_init(&head, 4096);
	write_head((int64_t)body.len + (word == WORD_short_hit), &head);
	s->poisoned = word == WORD_bad_hit || word == WORD_short_hit || word == WORD_bad_refresh;
	told.answer = answer_new(word == WORD_bad_hit || word == WORD_bad_refresh ? SLICE("0 nobody knows")
										  : buf_slice(&head),
				 body);
	buf_free(&head);
	tell(s, &told);
	answer_release(&told.answer);
}

static void tell_word(struct flight_seat *s, enum world_word word)
{
	struct flight_told told = { .verdict = FLIGHT_LEAD, .has_stale = word == WORD_stale_behind };

	switch (word) {
	case WORD_hit:
	case WORD_bad_hit:
	case WORD_short_hit:
		give(s, FLIGHT_HIT, word);
		return;
	case WORD_stale:
		give(s, FLIGHT_STALE, word);
		return;
	case WORD_refresh:
	case WORD_bad_refresh:
		give(s, FLIGHT_REFRESH, word);
		return;
	case WORD_follow:
		told.verdict = FLIGHT_FOLLOW;
		told.fleet = true;
		break;
	case WORD_pass:
		told.verdict = FLIGHT_PASS;
		break;
	case WORD_nothing:
		told.verdict = FLIGHT_NONE;
		break;
	case WORD_denied:
		told.verdict = FLIGHT_DENIED;
		told.note = world_now()->scenario->note;
		break;
	default:
		break;
	}
	tell(s, &told);
}

/* ---- what comes of a flight that is followed ---------------------------------------------------------------------------------- */

static void fail_flight(struct flight_seat *s, struct slice note)
{
	s->state = FLIGHT_FAILED;
	s->note = note;
	s->events->more(s, s->arg);
}

static void come_along(struct flight_seat *s, enum world_word word)
{
	const struct world_scenario *scenario = world_now()->scenario;
	struct buf whole;

	switch (word) {
	case WORD_head:
		buf_init(&whole, WORLD_ANSWER);
		world_join_pieces(scenario->along, &whole);
		write_head(scenario->promised ? (int64_t)whole.len : -1, &s->head);
		buf_free(&whole);
		s->has_head = true;
		break;
	case WORD_bad_head:
		assert_true(buf_append(&s->head, SLICE("1 200 -1 what")));
		s->has_head = s->poisoned = true;
		break;
	case WORD_bytes:
		assert_true(s->has_head && buf_append(&s->bytes, slice_of(scenario->along[s->along++])));
		break;
	case WORD_whole:
		s->state = FLIGHT_WHOLE;
		break;
	default:
		fail_flight(s, word == WORD_failed ? scenario->note : SLICE_NONE);
		return;
	}
	s->events->more(s, s->arg);
}

/* ---- the next word ------------------------------------------------------------------------------------------------------------ */

static struct flight_seat *find(void)
{
	struct world *w = world_now();

	for (int i = w->seats_count; i-- > 0;)
		if (!w->seats[i].left)
			return &w->seats[i];
	return NULL;
}

static bool is_verdict(enum world_word word)
{
	return word > WORD_end && word <= WORD_bad_refresh;
}

/* What a seat hears that awaits something of which the scenario knows nothing, because a fault has brought it there. */
static void tell_default(struct flight_seat *s)
{
	if (s->told)
		fail_flight(s, SLICE_NONE);
	else
		tell_word(s, s->ask.may_lead && !s->ask.upstream_failed ? WORD_lead : WORD_nothing);
}

bool world_flight_next(void)
{
	struct world *w = world_now();
	struct flight_seat *s = find();
	enum world_word word = w->scenario->words[w->word];
	bool awaits_verdict, awaits_more;

	if (s == NULL)
		return false;
	if (w->scouting)
		word = WORD_hit;
	awaits_more = follows(s) && s->state == FLIGHT_GOING;
	awaits_verdict = !s->told || (awaits_more && !s->took);
	if (s->leads && s->orphan && word == WORD_alone) {
		w->word++;
		s->leads = false;
		s->ending = WORLD_FLIGHT_ALONE;
		s->events->alone(s, s->arg);
	} else if (awaits_verdict && is_verdict(word)) {
		w->word += !w->scouting;
		tell_word(s, word);
	} else if (awaits_more && word > WORD_bad_refresh && word < WORD_alone) {
		w->word++;
		come_along(s, word);
	} else if (!s->told || awaits_more) {
		tell_default(s);
	} else {
		return false;
	}
	return true;
}

bool world_flight_unavailable(void)
{
	struct flight_seat *s = find();
	struct flight_told told = { .verdict = FLIGHT_LEAD, .unavailable = true };

	if (s == NULL || s->told)
		return false;
	if (!s->ask.may_lead || s->ask.upstream_failed)
		told.verdict = FLIGHT_NONE;
	else if (!s->ask.may_follow)
		told.verdict = FLIGHT_PASS;
	world_now()->fault_hit = s->arg;
	tell(s, &told);
	return true;
}

/* The leader was heard of no more. */
bool world_flight_lost(void)
{
	struct flight_seat *s = find();

	if (s == NULL || !follows(s) || s->state != FLIGHT_GOING)
		return false;
	world_now()->fault_hit = s->arg;
	if (s->took)
		fail_flight(s, SLICE_NONE);
	else
		tell(s, &(struct flight_told){ .verdict = FLIGHT_LEAD });
	return true;
}

void world_flight_close(void)
{
	struct world *w = world_now();

	for (int i = 0; i < w->seats_count; i++) {
		buf_free(&w->seats[i].head);
		buf_free(&w->seats[i].bytes);
	}
}

/* ---- what the flow calls: a seat ------------------------------------------------------------------------------------------------ */

struct flight_seat *flight_join(struct flights *flights, const struct flight_ask *ask,
				const struct flight_events *events, void *arg)
{
	struct world *w = world_now();
	struct flight_seat *s = &w->seats[w->seats_count++];

	(void)flights;
	assert_true(w->seats_count <= WORLD_MANY && ask->purges_count > 0);
	for (int i = 0; i + 1 < w->seats_count; i++) /* one at a time each */
		assert_true(w->seats[i].left || w->seats[i].arg != arg);
	*s = (struct flight_seat){ .ask = *ask, .events = events, .arg = arg, .first = arg };
	buf_init(&s->head, WORLD_ANSWER);
	buf_init(&s->bytes, WORLD_ANSWER);
	return s;
}

void flight_hand_over(struct flight_seat *s, void *arg)
{
	assert_true(!s->left && s->leads);
	s->arg = arg;
}

void flight_leave(struct flight_seat **handle)
{
	struct flight_seat *s = *handle;

	*handle = NULL;
	if (s == NULL)
		return;
	assert_false(s->left);
	s->left = true;
	if (s->leads)
		s->ending = WORLD_FLIGHT_LEFT;
	s->leads = false;
}

/* ---- a seat that leads ---------------------------------------------------------------------------------------------------------- */

void flight_begin(struct flight_seat *s, struct slice head)
{
	assert_true(!s->left && s->leads && !s->has_head && head.len > 0);
	s->has_head = true;
	assert_true(buf_append(&s->head, head));
	if (!world_now()->scenario->private)
		return;
	s->leads = false;
	s->ending = WORLD_FLIGHT_PRIVATE;
}

void flight_write(struct flight_seat *s, struct slice bytes)
{
	assert_true(!s->left && s->leads && s->has_head);
	assert_true(buf_append(&s->bytes, bytes));
}

bool flight_leads(const struct flight_seat *s)
{
	assert_false(s->left);
	return s->leads;
}

bool flight_slides(const struct flight_seat *s)
{
	return flight_leads(s) && world_now()->scenario->slides;
}

void flight_end(struct flight_seat *s, const struct flight_end *end)
{
	static const enum world_flight endings[] = { [FLIGHT_DONE] = WORLD_FLIGHT_DONE,
						     [FLIGHT_BROKEN] = WORLD_FLIGHT_BROKEN,
						     [FLIGHT_REFUSED] = WORLD_FLIGHT_REFUSED,
						     [FLIGHT_PRIVATE] = WORLD_FLIGHT_PRIVATE };

	assert_true(!s->left && s->leads);
	assert_true(end->note.len <= FLIGHT_NOTE && (end->outcome == FLIGHT_DONE || !end->store));
	s->leads = false;
	s->end = *end;
	s->calls_at_end = world_now()->transfers_count;
	s->ending = end->store ? WORLD_FLIGHT_STORED : endings[end->outcome];
	if (end->note.len > 0)
		memcpy(s->end_note, end->note.data, end->note.len);
	s->end.note = slice_make(s->end_note, end->note.len);
}

bool flight_orphan(struct flight_seat *s)
{
	assert_true(!s->left && !s->orphan);
	s->orphan = s->leads && world_now()->scenario->others;
	return s->orphan;
}

/* ---- a seat that follows, or reads what it has written ---------------------------------------------------------------------------- */

bool flight_head(const struct flight_seat *s, struct slice *head)
{
	assert_true(!s->left && follows(s));
	*head = buf_slice(&s->head);
	return s->has_head;
}

void flight_take_head(struct flight_seat *s)
{
	assert_true(!s->left && follows(s) && s->has_head && !s->took);
	s->took = true;
}

struct slice flight_unread(const struct flight_seat *s)
{
	assert_true(!s->left && (follows(s) || s->leads));
	return slice_skip(buf_slice(&s->bytes), s->taken);
}

void flight_take(struct flight_seat *s, size_t bytes)
{
	assert_true(bytes > 0 && bytes <= flight_unread(s).len && (s->took || s->leads));
	s->taken += bytes;
}

enum flight_state flight_state(const struct flight_seat *s, struct slice *note)
{
	assert_true(!s->left && follows(s));
	*note = s->note;
	return s->state;
}

/* ---- all flights ------------------------------------------------------------------------------------------------------------------ */

struct flights *flights_new(struct loop *loop, struct redis *redis, const struct flight_options *options,
			    struct log *log)
{
	(void)loop, (void)redis, (void)options, (void)log;
	return mem_new(sizeof(struct flights));
}

void flights_free(struct flights **flights)
{
	mem_free(*flights);
	*flights = NULL;
}

void flights_hint(struct flights *flights, struct slice text)
{
	(void)flights, (void)text;
}

void flights_invalidated(struct flights *flights, struct slice key)
{
	(void)flights, (void)key;
}

void flights_stats(const struct flights *flights, struct flights_stats *stats)
{
	(void)flights;
	*stats = (struct flights_stats){ 0 };
}

const char *flight_script_name(enum flight_script script)
{
	CHECK(script < FLIGHT_SCRIPTS);
	return "script"; /* no script runs here: nothing is measured */
}

bool flight_key_of_answer(struct slice redis_key, unsigned char key[ANSWER_KEY])
{
	(void)redis_key, (void)key;
	return false;
}

/* ---- lib/subscriber ------------------------------------------------------------------------------------------------------------------ */

struct subscriber *subscriber_new(struct loop *loop, const struct redis_options *redis,
				  const struct subscriber_options *options, struct log *log)
{
	(void)loop, (void)redis, (void)options, (void)log;
	return mem_new(sizeof(struct subscriber));
}

void subscriber_track(struct subscriber *s, struct redis *reads)
{
	(void)s, (void)reads;
}

void subscriber_free(struct subscriber **s)
{
	mem_free(*s);
	*s = NULL;
}

uint64_t subscriber_epoch(const struct subscriber *s)
{
	(void)s;
	return world_now()->scenario->local ? 1 : 0;
}

#include "lib/flight.h"

#include "lib/clock.h"
#include "lib/flight_internal.h"
#include "lib/log.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/subscriber.h"
#include "scripts.h"

/* ---- birth and death --------------------------------------------------------------------------------------------------- */

struct flights *flights_new(struct loop *loop, struct redis *redis, const struct flight_options *options,
			    struct log *log)
{
	struct flights *all = mem_new(sizeof(*all));

	CHECK(options->timeout > 0 && options->lease > options->beat && options->beat > options->batch &&
	      options->most > 0);
	*all = (struct flights){
		.magic = FLIGHTS_MAGIC, .loop = loop, .redis = redis, .log = log, .options = *options
	};
	all->channel = slice_make(mem_text(options->channel), options->channel.len);
	all->joinable = map_new();
	all->identities = map_new();
	list_init(&all->all);
	list_init(&all->askings);
	return all;
}

static void unlist_asking(struct flight_asking *a)
{
	if (a->listed)
		(void)map_remove(a->flights->identities, a->identity);
	a->listed = false;
}

static void asking_free(struct flight_asking *a)
{
	CHECK(list_empty(&a->seats));
	script_cancel(&a->call);
	list_remove(&a->node);
	unlist_asking(a);
	mem_free((void *)(uintptr_t)a->identity.data);
	mem_free(a);
}

static void flight_free(struct flight *f)
{
	struct flights *all = f->flights;

	CHECK(f->magic == FLIGHT_MAGIC && f->leader == NULL && list_empty(&f->seats));
	script_cancel(&f->call);
	flight_unlist(f);
	list_remove(&f->node);
	if (f->fleet)
		all->reading--;
	else
		all->leading--;
	all->unfinished -= f->lead.unfinished;
	loop_undefer(&f->pump);
	loop_undefer(&f->death);
	loop_undefer(&f->lonely);
	loop_timer_free(&f->timer);
	flight_record_free(f);
	f->magic = 0;
	mem_free(f);
}

void flights_free(struct flights **handle)
{
	struct flights *all = *handle;

	*handle = NULL;
	if (all == NULL)
		return;
	CHECK(all->magic == FLIGHTS_MAGIC && all->seats == 0);
	LIST_EACH(&all->askings, node, following)
	asking_free(CONTAINER_OF(node, struct flight_asking, node));
	LIST_EACH(&all->all, each, after)
	flight_free(CONTAINER_OF(each, struct flight, node));
	map_free(&all->joinable, NULL);
	map_free(&all->identities, NULL);
	mem_free((void *)(uintptr_t)all->channel.data);
	all->magic = 0;
	mem_free(all);
}

static void on_timer(void *flight)
{
	struct flight *f = flight;

	CHECK(f->magic == FLIGHT_MAGIC);
	if (f->fleet)
		flight_read_tick(f);
	else
		flight_lead_tick(f);
}

static void die_if_over(void *flight)
{
	struct flight *f = flight;

	CHECK(f->magic == FLIGHT_MAGIC);
	if (f->leader == NULL && list_empty(&f->seats) && f->call == NULL && !f->window && !f->lead.unfinished)
		flight_free(f);
}

void flight_look_at_end(struct flight *f)
{
	loop_defer(f->flights->loop, &f->death);
}

struct flight *flight_new(struct flights *all, const unsigned char key[ANSWER_KEY], bool fleet, int64_t fence)
{
	struct flight *f = mem_new(sizeof(*f));

	f->magic = FLIGHT_MAGIC;
	f->flights = all;
	memcpy(f->key, key, sizeof(f->key));
	f->fleet = fleet;
	f->born = clock_now();
	f->fence = fence;
	list_init(&f->seats);
	buf_init(&f->head, 0);
	buf_init(&f->bytes, 2 * all->options.most);
	loop_deferred_init(&f->pump, flight_pump, f);
	loop_deferred_init(&f->death, die_if_over, f);
	loop_deferred_init(&f->lonely, flight_lead_lonely, f);
	loop_timer_init(&f->timer, all->loop, on_timer, f);
	list_push_back(&all->all, &f->node);
	if (fleet)
		all->reading++;
	else
		all->leading++;
	f->joinable = true;
	map_put(all->joinable, slice_make((const char *)f->key, sizeof(f->key)), f);
	return f;
}

void flight_unlist(struct flight *f)
{
	if (f->joinable)
		(void)map_remove(f->flights->joinable, slice_make((const char *)f->key, sizeof(f->key)));
	f->joinable = false;
}

static struct flight *find_flight(const struct flights *all, const unsigned char key[ANSWER_KEY])
{
	return map_get(all->joinable, slice_make((const char *)key, ANSWER_KEY));
}

/* ---- seats -------------------------------------------------------------------------------------------------------------- */

void flight_tell(struct flight_seat *s, const struct flight_told *told)
{
	s->events->told(s, s->arg, told);
}

void flight_seat_follow(struct flight_seat *s, struct flight *f)
{
	CHECK(s->place == SEAT_ALONE);
	s->place = SEAT_FOLLOWING;
	s->flight = f;
	list_push_back(&f->seats, &s->node);
	f->seats_count++;
	if (f->has_head || f->state != FLIGHT_GOING)
		loop_defer(f->flights->loop, &f->pump);
}

struct flight_seat *flight_pop_seat(struct flight *f)
{
	struct list *node = list_pop_front(&f->seats);
	struct flight_seat *s;

	if (node == NULL)
		return NULL;
	s = CONTAINER_OF(node, struct flight_seat, node);
	f->seats_count--;
	s->place = SEAT_ALONE;
	s->flight = NULL;
	return s;
}

static void tell_now(void *seat)
{
	struct flight_seat *s = seat;

	CHECK(s->magic == SEAT_MAGIC);
	s->untold = false;
	if (s->place == SEAT_FOLLOWING)
		loop_defer(s->flights->loop, &s->flight->pump);
	flight_tell(s, &s->told);
}

/* What is known inside flight_join is told at the end of the turn. */
void flight_tell_later(struct flight_seat *s, const struct flight_told *told)
{
	s->told = *told;
	s->untold = true;
	mem_free(s->note);
	s->note = told->note.len > 0 ? mem_text(told->note) : NULL;
	s->told.note = slice_make(s->note, told->note.len);
	loop_defer(s->flights->loop, &s->tell);
}

void flight_pass(struct flight_seat *s)
{
	flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_PASS });
}

void flight_rejoin(struct flight_seat *s)
{
	flight_ask_again(s, true);
}

/* ---- asking ------------------------------------------------------------------------------------------------------------- */

enum { IDENTITY = ANSWER_KEY + 1 + 3 * sizeof(int64_t) };

/* Two requests of one key that also agree in what will do for them are answered by one reply. */
static struct slice write_identity(const struct flight_ask *ask, char memory[IDENTITY])
{
	memcpy(memory, ask->key, ANSWER_KEY);
	memory[ANSWER_KEY] = (char)(ask->may_read | ask->may_follow << 1 | ask->may_lead << 2 |
				    ask->upstream_failed << 3 | ask->may_be_late << 4);
	memcpy(memory + ANSWER_KEY + 1, &ask->oldest, sizeof(int64_t));
	memcpy(memory + ANSWER_KEY + 1 + sizeof(int64_t), &ask->slack, sizeof(int64_t));
	memcpy(memory + ANSWER_KEY + 1 + 2 * sizeof(int64_t), &ask->group, sizeof(int64_t));
	return slice_make(memory, IDENTITY);
}

void flights_heard(const struct flights *all, const char *script, const struct redis_answer *answer)
{
	bool heard = answer->result == REDIS_OK || answer->result == REDIS_ERROR;

	if (heard && all->options.answered != NULL)
		all->options.answered(all->options.arg, script, answer->took);
}

static struct flight_seat *pop_asker(struct flight_asking *a)
{
	struct list *node = list_pop_front(&a->seats);
	struct flight_seat *s;

	if (node == NULL)
		return NULL;
	s = CONTAINER_OF(node, struct flight_seat, node);
	CHECK(s->place == SEAT_ASKING);
	s->place = SEAT_ALONE;
	s->asking = NULL;
	return s;
}

/* Every seat that is left hears the same. */
static void tell_all(struct flight_asking *a, const struct flight_told *told)
{
	for (struct flight_seat *s; (s = pop_asker(a)) != NULL;)
		flight_tell(s, told);
}

/* Redis said that we lead, or cannot be asked: the first seat does; the others read along, as far as they may. */
static void seat_leader(struct flight_asking *a, int64_t fence, const struct flight_told *told)
{
	struct flight_told others = { .verdict = FLIGHT_FOLLOW, .took = told->took, .unavailable = told->unavailable };
	struct flight_seat *first = pop_asker(a), *s;
	struct flight *f = find_flight(a->flights, a->key);

	if (first == NULL) { /* they have all left: whoever comes next takes it over */
		return;
	}
	if (f != NULL && fence == 0 && first->ask.may_follow) { /* one of ours began meanwhile */
		flight_seat_follow(first, f);
		flight_tell(first, &others);
	} else if (!first->ask.may_follow && fence == 0) {
		flight_tell(first, &(struct flight_told){ .verdict = FLIGHT_PASS,
							  .took = told->took,
							  .unavailable = told->unavailable });
	} else {
		if (f != NULL)
			flight_unlist(f);
		f = flight_new(a->flights, a->key, false, fence);
		f->over = !first->ask.may_read || first->ask.oldest >= 0 || told->verdict == FLIGHT_REFRESH;
		flight_lead_take(f, first);
		flight_tell(first, told);
	}
	if (told->verdict == FLIGHT_REFRESH) {
		others = *told;
		others.verdict = FLIGHT_STALE;
		tell_all(a, &others);
		return;
	}
	while ((s = pop_asker(a)) != NULL)
		flight_ask_again(s, s->ask.may_read);
}

static void seat_followers(struct flight_asking *a, const struct flight_joined *joined, struct flight_told *told)
{
	struct flight *f = find_flight(a->flights, a->key);
	struct flight_seat *s;

	if (list_empty(&a->seats))
		return;
	if (f == NULL && joined->own) { /* it has ended while we asked; or the answer that gave us the lead was lost */
		while ((s = pop_asker(a)) != NULL) {
			s->knows_none = true;
			flight_ask_again(s, s->ask.may_read);
		}
		return;
	}
	if (f != NULL && !joined->own && f->fence != joined->fence) { /* of an earlier fence */
		flight_unlist(f);
		f = NULL;
	}
	if (f == NULL) {
		f = flight_new(a->flights, a->key, true, joined->fence);
		flight_read_start(f, joined->holds);
	}
	told->fleet = f->fleet;
	while ((s = pop_asker(a)) != NULL) {
		flight_seat_follow(s, f);
		flight_tell(s, told);
	}
}

static void without_redis(struct flight_asking *a, struct flight_told *told)
{
	struct flight_seat *first;

	told->unavailable = true;
	told->verdict = FLIGHT_NONE;
	if (list_empty(&a->seats))
		return;
	first = CONTAINER_OF(a->seats.next, struct flight_seat, node);
	if (!first->ask.may_lead || first->ask.upstream_failed) {
		tell_all(a, told);
		return;
	}
	told->verdict = FLIGHT_LEAD;
	seat_leader(a, 0, told);
}

static void act_on(struct flight_asking *a, const struct flight_joined *joined, struct flight_told *told)
{
	struct flight_seat *s;

	told->verdict = joined->verdict;
	switch (joined->verdict) {
	case FLIGHT_LEAD:
	case FLIGHT_REFRESH:
		seat_leader(a, joined->fence, told);
		break;
	case FLIGHT_FOLLOW:
		seat_followers(a, joined, told);
		break;
	case FLIGHT_NONE:
		s = list_empty(&a->seats) ? NULL : CONTAINER_OF(a->seats.next, struct flight_seat, node);
		if (s != NULL && s->ask.may_lead &&
		    !s->ask.upstream_failed) { /* what is stored is poisoned: it is replaced */
			while ((s = pop_asker(a)) != NULL)
				flight_ask_again(s, false);
			break;
		}
		tell_all(a, told);
		break;
	default:
		tell_all(a, told);
	}
}

static void on_joined(struct script_call *call, void *arg, const struct redis_answer *redis)
{
	struct flight_asking *a = arg;
	struct flights *all = a->flights;
	struct flight_joined joined;
	struct flight_told told = { .took = redis->took > 0 ? redis->took : 1 };

	CHECK(all->magic == FLIGHTS_MAGIC && a->call == call);
	a->call = NULL;
	flights_heard(all, "join", redis);
	unlist_asking(a); /* who asks from now on asks anew */
	if (redis->result != REDIS_OK) {
		without_redis(a, &told);
	} else if (!flight_wire_read_join(redis->reply, a->key, all->options.most, &joined)) {
		log_say(all->log, LOG_ERROR, "flight.reply", "join answered something else");
		without_redis(a, &told);
	} else {
		told.answer = joined.answer;
		told.times = joined.times;
		told.has_stale = joined.has_stale;
		told.epoch = all->options.listener != NULL && a->epoch == subscriber_epoch(all->options.listener)
				     ? a->epoch
				     : 0;
		act_on(a, &joined, &told);
		answer_release(&joined.answer);
	}
	asking_free(a);
}

/* The seat is in no list. Redis that is away is not waited for. */
static void ask(struct flight_seat *s)
{
	struct flights *all = s->flights;
	char memory[IDENTITY];
	struct slice identity = write_identity(&s->ask, memory);
	struct flight_asking *a = map_get(all->identities, identity);
	struct flight_wire wire;

	if (a == NULL) {
		a = mem_new(sizeof(*a));
		a->flights = all;
		list_init(&a->seats);
		list_push_back(&all->askings, &a->node);
		memcpy(a->key, s->ask.key, sizeof(a->key));
		a->identity = slice_make(mem_resize(NULL, identity.len), identity.len);
		memcpy((void *)(uintptr_t)a->identity.data, identity.data, identity.len);
		map_put(all->identities, a->identity, a);
		a->listed = true;
		a->epoch = all->options.listener != NULL ? subscriber_epoch(all->options.listener) : 0;
		flight_wire_join(&wire, &s->ask, all->channel, all->options.lease, all->options.lease, s->knows_none);
		a->call = script_start(all->redis, &script_join,
				       s->ask.timeout > 0 ? s->ask.timeout : all->options.timeout, on_joined, a,
				       wire.key, wire.keys, wire.argument, wire.arguments);
	}
	s->place = SEAT_ASKING;
	s->asking = a;
	list_push_back(&a->seats, &s->node);
}

/* Leads without Redis, or reads along in this worker, as far as it may. */
static void do_without(struct flight_seat *s)
{
	struct flight *f;

	if (!s->ask.may_lead || s->ask.upstream_failed) {
		flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_NONE, .unavailable = true });
	} else if (!s->ask.may_follow) {
		flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_PASS, .unavailable = true });
	} else {
		f = flight_new(s->flights, s->ask.key, false, 0);
		flight_lead_take(f, s);
		flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_LEAD, .unavailable = true });
	}
}

/* It has ended, and is still here: as long as its window is open, or until Redis has its answer. */
static bool may_join_late(const struct flight_ask *a, const struct flight *f)
{
	if (a->upstream_failed || f->doubted)
		return false;
	if (a->may_be_late && clock_now() < f->lead.window_ends)
		return true;
	return a->may_read && f->lead.unfinished && f->lead.end.store && f->lead.end.fresh > 0 &&
	       (a->oldest < 0 || clock_now() - f->born <= a->oldest);
}

/* A flight of this worker's. Where a stored answer may do, Redis is asked for that first; and a flight that has ended is a stored answer, too. */
static bool may_join(const struct flight_seat *s, const struct flight *f)
{
	const struct flight_ask *a = &s->ask;

	if (f->state != FLIGHT_GOING)
		return may_join_late(a, f);
	if (!a->may_follow || !a->may_lead || a->upstream_failed)
		return false;
	return (!f->doubted && (!f->over || !a->may_read)) || !redis_is_up(s->flights->redis);
}

void flight_ask_again(struct flight_seat *s, bool read)
{
	struct flight *f = find_flight(s->flights, s->ask.key);

	CHECK(s->place == SEAT_ALONE);
	s->ask.may_read &= read;
	if (f != NULL && may_join(s, f)) {
		flight_seat_follow(s, f);
		flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_FOLLOW, .fleet = f->fleet });
	} else if (redis_is_up(s->flights->redis)) {
		ask(s);
	} else {
		do_without(s);
	}
}

/* ---- what the header promises -------------------------------------------------------------------------------------------- */

struct flight_seat *flight_join(struct flights *all, const struct flight_ask *wanted,
				const struct flight_events *events, void *arg)
{
	struct flight_seat *s = mem_new(sizeof(*s));

	CHECK(all->magic == FLIGHTS_MAGIC && wanted->purges_count <= FLIGHT_PURGES);
	s->magic = SEAT_MAGIC;
	s->place = SEAT_ALONE;
	s->flights = all;
	s->ask = *wanted;
	s->events = events;
	s->arg = arg;
	list_init(&s->node);
	loop_deferred_init(&s->tell, tell_now, s);
	all->seats++;
	flight_ask_again(s, true);
	return s;
}

void flight_hand_over(struct flight_seat *s, void *arg)
{
	CHECK(s->magic == SEAT_MAGIC);
	s->arg = arg;
}

void flight_leave(struct flight_seat **handle)
{
	struct flight_seat *s = *handle;
	struct flight *f;

	*handle = NULL;
	if (s == NULL)
		return;
	CHECK(s->magic == SEAT_MAGIC);
	f = s->flight;
	list_remove(&s->node);
	loop_undefer(&s->tell);
	if (s->place == SEAT_FOLLOWING)
		f->seats_count--;
	if (s->place == SEAT_LEADING)
		f->leader = NULL;
	if (s->place == SEAT_LEADING && !f->lead.ended)
		flight_lead_left(f);
	else if (s->place == SEAT_FOLLOWING && f->fleet && f->seats_count == 0)
		flight_read_stop(f);
	else if (s->place == SEAT_FOLLOWING && !f->fleet)
		flight_lead_alone(f);
	if (f != NULL)
		flight_look_at_end(f);
	s->flights->seats--;
	s->magic = 0;
	mem_free(s->note);
	mem_free(s);
}

void flights_hint(struct flights *all, struct slice text)
{
	unsigned char key[ANSWER_KEY];
	struct flight *f = flight_key(text, key) ? find_flight(all, key) : NULL;

	if (f == NULL)
		return;
	if (f->fleet)
		flight_read_hint(f);
	else
		flight_lead_hint(f);
}

/* A read on its way may bring what was there before. What a purge concerns is not known here: nobody joins a flight that began before one. And where one
 * may have been missed, Redis is asked first. */
void flights_invalidated(struct flights *all, struct slice key)
{
	unsigned char name[ANSWER_KEY];
	bool one = key.data != NULL && flight_key_of_answer(key, name);
	bool purged = key.data == NULL || slice_equal(key, SLICE(FLIGHT_PURGED));

	LIST_EACH(&all->askings, node, following)
	{
		struct flight_asking *a = CONTAINER_OF(node, struct flight_asking, node);
		if (purged || (one && memcmp(a->key, name, sizeof(name)) == 0))
			a->epoch = 0;
	}
	if (!purged)
		return;
	LIST_EACH(&all->all, each, after)
	{
		struct flight *f = CONTAINER_OF(each, struct flight, node);
		f->doubted = true;
		if (key.data != NULL)
			flight_unlist(f);
	}
}

void flights_stats(const struct flights *all, struct flights_stats *stats)
{
	*stats = (struct flights_stats){ .leading = all->leading,
					 .reading = all->reading,
					 .seats = all->seats,
					 .unfinished = all->unfinished,
					 .bytes = all->bytes };
}

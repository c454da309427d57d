#include "lib/flight.h"

#include "lib/clock.h"
#include "lib/flight_internal.h"
#include "lib/map.h"
#include "lib/mem.h"

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
	if (all->options.tail < options->most)
		all->options.tail = options->most;
	all->channel = slice_make(mem_text(options->channel), options->channel.len);
	all->listed = map_new();
	all->identities = map_new();
	all->contenders = map_new();
	list_init(&all->all);
	list_init(&all->askings);
	return all;
}

struct slice flight_key_slice(const unsigned char key[ANSWER_KEY])
{
	return slice_make((const char *)key, ANSWER_KEY);
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
	LIST_EACH (&all->askings, node, following)
		flight_asking_free(CONTAINER_OF(node, struct flight_asking, node));
	LIST_EACH (&all->all, each, after)
		flight_free(CONTAINER_OF(each, struct flight, node));
	map_free(&all->listed, NULL);
	map_free(&all->identities, NULL);
	map_free(&all->contenders, NULL);
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
	struct flight *f = mem_new(sizeof(*f)), *before;

	f->magic = FLIGHT_MAGIC;
	f->flights = all;
	memcpy(f->key, key, sizeof(f->key));
	f->fleet = fleet;
	f->born = clock_now();
	f->fence = fence;
	list_init(&f->seats);
	buf_init(&f->head, 0);
	buf_init(&f->bytes, 2 * all->options.tail);
	loop_deferred_init(&f->pump, flight_pump, f);
	loop_deferred_init(&f->death, die_if_over, f);
	loop_deferred_init(&f->lonely, flight_lead_lonely, f);
	loop_timer_init(&f->timer, all->loop, on_timer, f);
	list_push_back(&all->all, &f->node);
	if (fleet)
		all->reading++;
	else
		all->leading++;
	before = map_get(all->listed, flight_key_slice(key));
	if (before != NULL) /* it goes on for those that it has */
		flight_unlist(before);
	f->listed = true;
	map_put(all->listed, flight_key_slice(f->key), f);
	return f;
}

void flight_unlist(struct flight *f)
{
	if (f->listed)
		(void)map_remove(f->flights->listed, flight_key_slice(f->key));
	f->listed = false;
}

struct flight *flights_find(const struct flights *all, const unsigned char key[ANSWER_KEY])
{
	return map_get(all->listed, flight_key_slice(key));
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
	flight_ask_again(s);
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
	struct flight *f = flight_key(text, key) ? flights_find(all, key) : NULL;

	if (f == NULL)
		return;
	if (f->fleet)
		flight_read_hint(f);
	else
		flight_lead_hint(f);
}

/* A read on its way may bring what was there before. What a purge concerns is known to Redis alone. */
void flights_invalidated(struct flights *all, struct slice key)
{
	unsigned char name[ANSWER_KEY];
	bool one = key.data != NULL && flight_key_of_answer(key, name);
	bool purged = key.data == NULL || slice_equal(key, SLICE(FLIGHT_PURGED));

	LIST_EACH (&all->askings, node, following) {
		struct flight_asking *a = CONTAINER_OF(node, struct flight_asking, node);
		if (purged || (one && memcmp(a->key, name, sizeof(name)) == 0))
			a->epoch = 0;
	}
	if (!purged)
		return;
	LIST_EACH (&all->all, each, after)
		CONTAINER_OF(each, struct flight, node)->doubted = true;
}

void flights_stats(const struct flights *all, struct flights_stats *stats)
{
	*stats = (struct flights_stats){ .leading = all->leading,
					 .reading = all->reading,
					 .seats = all->seats,
					 .unfinished = all->unfinished,
					 .bytes = all->bytes };
}

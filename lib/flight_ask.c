/* What is asked of Redis for seats, and what becomes of them by the answer.
 *
 *   flight_ask_again ──► follow          a flight of this worker's will do
 *                    ──► ask ──► join ──► on_joined ──► told: hit, lead, follow, pass …
 *                    ──► do without      Redis is away: this worker alone
 *
 * Answers to joins come in the order of asking, for they go over one connection: so who asks while another of the key is on its way knows that, should it
 * have got the lead, this worker has. */
#include "lib/flight_internal.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/subscriber.h"
#include "scripts.h"

/* ---- one call for all who want the same ----------------------------------------------------------------------------------- */

static void unlist_asking(struct flight_asking *a)
{
	if (a->listed)
		(void)map_remove(a->flights->identities, a->identity);
	a->listed = false;
	if (map_get(a->flights->contenders, flight_key_slice(a->key)) == a)
		(void)map_remove(a->flights->contenders, flight_key_slice(a->key));
}

void flight_asking_free(struct flight_asking *a)
{
	CHECK(list_empty(&a->seats));
	script_cancel(&a->call);
	list_remove(&a->node);
	unlist_asking(a);
	mem_free((void *)(uintptr_t)a->identity.data);
	mem_free(a);
}

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

const char *flight_script_name(enum flight_script script)
{
	static const char *const names[FLIGHT_SCRIPTS] = { "join", "append", "finish", "follow" };
	return names[script];
}

void flights_heard(const struct flights *all, enum flight_script script, const struct redis_answer *answer)
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

/* It has ended, and is still here: as long as its window is open, or until Redis has its answer. */
static bool can_come_late(const struct flight_ask *a, const struct flight *f)
{
	if (f->state != FLIGHT_WHOLE)
		return false;
	if (f->window && a->may_be_late)
		return true;
	return a->may_read && f->lead.unfinished && f->lead.end.store && f->lead.end.fresh > 0 &&
	       (a->oldest < 0 || clock_now() - f->born <= a->oldest);
}

/* It may read along with this flight of its own worker's. */
static bool can_follow(const struct flight_seat *s, const struct flight *f)
{
	const struct flight_ask *a = &s->ask;

	if (a->upstream_failed || f->closed || f->doubted)
		return false;
	return f->state == FLIGHT_GOING ? a->may_follow && a->may_lead : can_come_late(a, f);
}

/* Redis said that we lead, or cannot be asked: the first seat does; the others read along, as far as they may. */
static void seat_leader(struct flight_asking *a, int64_t fence, const struct flight_told *told)
{
	struct flight_told others = { .verdict = FLIGHT_FOLLOW, .unavailable = told->unavailable };
	struct flight_seat *first = pop_asker(a), *s;
	struct flight *f = flights_find(a->flights, a->key);

	if (first == NULL) { /* they have all left: nobody shall wait for the lease to end */
		if (fence != 0)
			flight_lead_give_back(flight_new(a->flights, a->key, false, fence));
		return;
	}
	if (f != NULL && fence == 0 && can_follow(first, f)) { /* one of ours began meanwhile */
		flight_seat_follow(first, f);
		flight_tell(first, &others);
	} else if (!first->ask.may_follow && fence == 0) {
		others.verdict = FLIGHT_PASS;
		flight_tell(first, &others);
		tell_all(a, &others);
	} else {
		f = flight_new(a->flights, a->key, false, fence);
		f->over = !first->ask.may_read || first->ask.oldest >= 0 || told->verdict == FLIGHT_REFRESH;
		f->has_stale = told->has_stale;
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
		flight_ask_again(s);
}

static void seat_followers(struct flight_asking *a, const struct flight_joined *joined, struct flight_told *told)
{
	struct flight *f = flights_find(a->flights, a->key);
	struct flight_seat *s;

	if (list_empty(&a->seats))
		return;
	if (joined->own &&
	    (f == NULL || f->fleet)) { /* it has ended while we asked: ask again, as one who knows of none */
		while ((s = pop_asker(a)) != NULL)
			flight_ask_again(s);
		return;
	}
	if (f == NULL || (!joined->own && f->fence != joined->fence)) { /* none, or of an earlier fence */
		f = flight_new(a->flights, a->key, true, joined->fence);
		flight_read_start(f, joined->holds);
	}
	if (f->closed) { /* Redis has not heard it yet, or it is this worker that has no room */
		told->verdict = FLIGHT_PASS;
		tell_all(a, told);
		return;
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
			while ((s = pop_asker(a)) != NULL) {
				s->ask.may_read = s->ask.may_be_late = false;
				flight_ask_again(s);
			}
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
	struct flight_told told = { .answer = NULL };

	CHECK(all->magic == FLIGHTS_MAGIC && a->call == call);
	a->call = NULL;
	flights_heard(all, FLIGHT_SCRIPT_JOIN, redis);
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
	flight_asking_free(a);
}

/* It leads, or will when the answer to one of ours on its way says so: that one is answered before. */
static bool knows_that_it_leads(const struct flights *all, const unsigned char key[ANSWER_KEY])
{
	const struct flight *f = flights_find(all, key);

	return (f != NULL && !f->fleet) || map_get(all->contenders, flight_key_slice(key)) != NULL;
}

static struct flight_asking *asking_new(struct flights *all, const struct flight_ask *ask, struct slice identity)
{
	struct flight_asking *a = mem_new(sizeof(*a));
	struct flight_wire wire;

	a->flights = all;
	list_init(&a->seats);
	list_push_back(&all->askings, &a->node);
	memcpy(a->key, ask->key, sizeof(a->key));
	a->identity = slice_make(mem_resize(NULL, identity.len), identity.len);
	memcpy((void *)(uintptr_t)a->identity.data, identity.data, identity.len);
	map_put(all->identities, a->identity, a);
	a->listed = true;
	a->epoch = all->options.listener != NULL ? subscriber_epoch(all->options.listener) : 0;
	flight_wire_join(&wire, ask, all->channel, all->options.lease, all->options.lease,
			 knows_that_it_leads(all, ask->key));
	a->call = script_start(all->redis, &script_join, ask->timeout > 0 ? ask->timeout : all->options.timeout,
			       on_joined, a, wire.key, wire.keys, wire.argument, wire.arguments);
	if (ask->may_lead && !ask->upstream_failed)
		map_put(all->contenders, flight_key_slice(a->key), a);
	return a;
}

/* The seat is in no list. Redis that is away is not waited for. */
static void ask(struct flight_seat *s)
{
	char memory[IDENTITY];
	struct slice identity = write_identity(&s->ask, memory);
	struct flight_asking *a = map_get(s->flights->identities, identity);

	if (a == NULL)
		a = asking_new(s->flights, &s->ask, identity);
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

/* Where a stored answer may do, Redis is asked for that first; a flight that has ended is the newest that is stored. */
static bool may_join(const struct flight_seat *s, const struct flight *f)
{
	return can_follow(s, f) &&
	       (!f->over || !s->ask.may_read || f->state == FLIGHT_WHOLE || !redis_is_up(s->flights->redis));
}

void flight_ask_again(struct flight_seat *s)
{
	struct flight *f = flights_find(s->flights, s->ask.key);

	CHECK(s->place == SEAT_ALONE);
	if (f != NULL && may_join(s, f)) {
		flight_seat_follow(s, f);
		flight_tell_later(s, &(struct flight_told){ .verdict = FLIGHT_FOLLOW, .fleet = f->fleet });
	} else if (redis_is_up(s->flights->redis)) {
		ask(s);
	} else {
		do_without(s);
	}
}

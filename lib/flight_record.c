/* A record grows at its end and is read at many places. It is kept whole as long as newcomers may come; once it is larger than they may get, only its last
 * `tail` bytes are, and who is further behind than that is cut: what it should read next is gone. */
#include "lib/flight_internal.h"

#include "lib/mem.h"

enum { HEAD_MOST = 64 * 1024 };

/* ---- what comes in ---------------------------------------------------------------------------------------------------- */

/* Counts the memory that the record takes. False: the process holds too much. */
static bool count_memory(struct flight *f)
{
	struct flights *all = f->flights;
	int64_t now = (int64_t)(f->head.capacity + f->bytes.capacity), more = now - f->held;

	if (more == 0 || all->options.held == NULL)
		return true;
	f->held = now;
	all->bytes += more;
	return atomic_fetch_add_explicit(all->options.held, more, memory_order_relaxed) + more <=
		       all->options.ceiling ||
	       more < 0;
}

bool flight_record_head(struct flight *f, struct slice head)
{
	CHECK(!f->has_head);
	buf_init(&f->head, HEAD_MOST);
	if (!buf_append(&f->head, head))
		return false;
	f->has_head = true;
	(void)count_memory(f); /* bytes follow */
	loop_defer(f->flights->loop, &f->pump);
	return true;
}

uint64_t flight_record_end(const struct flight *f)
{
	return f->base + f->bytes.len;
}

static void drop_front(struct flight *f, size_t count)
{
	buf_drop_front(&f->bytes, count);
	f->base += count;
}

/* Of a record that nobody can join any more the last part stays, for who reads along. Moved by halves, so that a byte is moved once. */
static void slide(struct flight *f, size_t coming)
{
	size_t tail = f->flights->options.tail;

	if (f->bytes.len + coming > 2 * tail)
		drop_front(f, f->bytes.len > tail ? f->bytes.len - tail : 0);
	if (f->bytes.len + coming > 2 * tail)
		drop_front(f, f->bytes.len);
}

void flight_record_bytes(struct flight *f, struct slice bytes)
{
	const struct flight_options *o = &f->flights->options;
	bool fits = flight_record_end(f) + bytes.len <= o->most;

	while (bytes.len > 0) {
		struct slice part = slice_first(bytes, o->tail);
		slide(f, part.len);
		CHECK(buf_append(&f->bytes, part));
		bytes = slice_skip(bytes, part.len);
	}
	f->closed |= !count_memory(f) || !fits;
	loop_defer(f->flights->loop, &f->pump);
}

void flight_record_free(struct flight *f)
{
	buf_free(&f->head);
	buf_free(&f->bytes);
	(void)count_memory(f);
}

/* ---- who reads --------------------------------------------------------------------------------------------------------- */

static void unseat(struct flight_seat *s)
{
	list_remove(&s->node);
	s->flight->seats_count--;
	s->place = SEAT_ALONE;
	s->flight = NULL;
}

static void wake(struct flight_seat *s)
{
	struct flight *f = s->flight;
	bool behind = s->at < f->base;

	if (behind && !s->took) { /* it has nothing to lose */
		unseat(s);
		flight_pass(s);
		flight_lead_alone(f);
		return;
	}
	s->cut |= behind;
	s->events->more(s, s->arg);
}

/* Anything may happen while a seat is told: it leaves, others do, the flight ends and lets them all go. So the seats go round, each to the back before it is
 * told, and those not told yet are in front; who is told twice, because somebody left, finds nothing new. */
void flight_pump(void *flight)
{
	struct flight *f = flight;

	CHECK(f->magic == FLIGHT_MAGIC);
	for (unsigned left = f->seats_count; left > 0 && !list_empty(&f->seats); left--) {
		struct list *node = list_pop_front(&f->seats);
		struct flight_seat *s = CONTAINER_OF(node, struct flight_seat, node);
		list_push_back(&f->seats, node);
		if (!s->untold && (f->has_head || f->state != FLIGHT_GOING))
			wake(s);
	}
	flight_look_at_end(f);
}

void flight_over(struct flight *f, enum flight_state state, struct slice note)
{
	CHECK(f->state == FLIGHT_GOING && state != FLIGHT_GOING);
	f->state = state;
	note = slice_first(note, sizeof(f->note));
	if (note.len > 0)
		memcpy(f->note, note.data, note.len);
	f->note_length = note.len;
	loop_defer(f->flights->loop, &f->pump);
}

void flight_release_untouched(struct flight *f, void (*what)(struct flight_seat *))
{
	struct list untouched;

	list_init(&untouched);
	LIST_EACH (&f->seats, node, following) {
		struct flight_seat *s = CONTAINER_OF(node, struct flight_seat, node);
		if (s->took)
			continue;
		unseat(s);
		list_push_back(&untouched, node);
	}
	for (struct list *node; (node = list_pop_front(&untouched)) != NULL;)
		what(CONTAINER_OF(node, struct flight_seat, node));
}

/* ---- for who follows ---------------------------------------------------------------------------------------------------- */

/* NULL: it has none, or none any more and was not told yet. */
static const struct flight *flight_of(const struct flight_seat *s)
{
	CHECK(s->magic == SEAT_MAGIC);
	return s->flight;
}

bool flight_head(const struct flight_seat *s, struct slice *head)
{
	const struct flight *f = flight_of(s);

	*head = f != NULL ? buf_slice(&f->head) : SLICE_NONE;
	return f != NULL && f->has_head;
}

void flight_take_head(struct flight_seat *s)
{
	CHECK(flight_of(s) != NULL && s->flight->has_head);
	s->took = true;
}

struct slice flight_unread(const struct flight_seat *s)
{
	const struct flight *f = flight_of(s);

	if (f == NULL || s->cut || s->at < f->base)
		return SLICE_NONE;
	return slice_skip(buf_slice(&f->bytes), (size_t)(s->at - f->base));
}

void flight_take(struct flight_seat *s, size_t bytes)
{
	CHECK(bytes <= flight_unread(s).len);
	s->took |= bytes > 0;
	s->at += bytes;
}

enum flight_state flight_state(const struct flight_seat *s, struct slice *note)
{
	const struct flight *f = flight_of(s);

	*note = f == NULL || s->cut ? SLICE_NONE : slice_make(f->note, f->note_length);
	return s->cut ? FLIGHT_FAILED : f == NULL ? FLIGHT_GOING : f->state;
}

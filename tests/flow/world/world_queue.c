/* The stand-in for lib/queue. */
#include "tests/flow/world/world_internal.h"

struct queue {
	int nothing;
};

/* ---- what comes ----------------------------------------------------------------------------------------------------------- */

static bool bring(enum queue_news news)
{
	struct queue_place *place = &world_now()->place;

	if (!place->taken)
		return false;
	place->taken = false;
	if (news == QUEUE_LATE)
		world_now()->fault_hit = place->arg;
	place->done(place, place->arg, news);
	return true;
}

bool world_queue_next(void)
{
	return bring(QUEUE_TURN);
}

bool world_queue_late(void)
{
	return bring(QUEUE_LATE);
}

/* ---- what the flow calls --------------------------------------------------------------------------------------- */

struct queue *queue_new(struct loop *loop, struct redis *redis, const struct queue_options *options)
{
	(void)loop, (void)redis, (void)options;
	return mem_new(sizeof(struct queue));
}

void queue_free(struct queue **queue)
{
	assert_false(world_now()->place.taken);
	mem_free(*queue);
	*queue = NULL;
}

struct queue_place *queue_wait(struct queue *queue, const struct queue_ask *ask, queue_done *done, void *arg)
{
	struct queue_place *place = &world_now()->place;

	(void)queue;
	assert_false(place->taken);
	assert_true(ask->most > 0 && ask->turn >= 0 && ask->id.len > 0);
	assert_true(slice_ends(ask->w, SLICE("}:w")) && slice_ends(ask->f, SLICE("}:f")));
	*place = (struct queue_place){ .done = done, .arg = arg, .taken = true };
	return place;
}

void queue_leave(struct queue_place **place)
{
	if (*place != NULL)
		(*place)->taken = false;
	*place = NULL;
}

bool queue_hint(struct queue *queue, struct slice text)
{
	(void)queue, (void)text;
	return false;
}

void queue_call(struct queue *queue, struct slice id)
{
	(void)queue, (void)id;
}

void queue_ask_all(struct queue *queue)
{
	(void)queue;
}

void queue_set_alone(struct queue *queue, bool alone)
{
	(void)queue, (void)alone;
}

unsigned queue_waiting(const struct queue *queue, enum lane lane)
{
	(void)queue, (void)lane;
	return world_now()->place.taken;
}

void queue_each(const struct queue *queue,
		void (*tell)(void *arg, struct slice name, const unsigned here[LANES], const int64_t fleet[LANES]),
		void *arg)
{
	(void)queue, (void)tell, (void)arg;
}

#include "tests/support/pool_check.h"

#include "lib/pool_internal.h"

static unsigned length(const struct list *list)
{
	unsigned count = 0;
	for (const struct list *node = list->next; node != list; node = node->next)
		count++;
	return count;
}

struct sums {
	unsigned open, retired, idle, room, ready_room, loads;
};

static void add_socket(struct sums *sums, const struct pool_socket *s)
{
	bool usable = !s->foreign && !s->retired && s->era == s->pool->era;
	CHECK(s->magic == SOCKET_MAGIC && !s->closed);
	CHECK(s->load == length(&s->users));
	CHECK(s->room == (usable && s->takes > s->load ? s->takes - s->load : 0));
	CHECK(s->ready_room == (s->uses > 0 ? s->room : 0));
	CHECK(pool_idle_is(s) == list_linked(&s->idling));
	sums->open += !s->foreign;
	sums->retired += s->retired;
	sums->idle += list_linked(&s->idling);
	sums->room += s->room;
	sums->ready_room += s->ready_room;
	sums->loads += s->load;
}

static void check_sockets(const struct pool *pool, unsigned on_sockets)
{
	struct sums sums = { 0 };
	for (size_t i = 0; i < POOL_BUCKETS; i++)
		for (const struct list *node = pool->by_descriptor[i].next; node != &pool->by_descriptor[i];
		     node = node->next)
			add_socket(&sums, CONTAINER_OF(node, struct pool_socket, chain));
	CHECK(pool->open_count == sums.open);
	CHECK(pool->retired_count == sums.retired);
	CHECK(pool->idle_count == sums.idle && pool->idle_count == length(&pool->idle));
	CHECK(pool->room == sums.room);
	CHECK(pool->ready_room == sums.ready_room);
	CHECK(on_sockets == sums.loads);
}

struct running {
	unsigned light, validating, on_sockets, seats[TRANSFER_SEATS];
};

static void add_running(struct running *sums, const struct list *list)
{
	for (const struct list *node = list->next; node != list; node = node->next) {
		const struct transfer *t = CONTAINER_OF(node, struct transfer, node);
		CHECK(t->magic == TRANSFER_MAGIC && t->state == TRANSFER_RUNNING && t->handle != NULL);
		CHECK(t->seat != SEAT_NONE && !list_linked(&t->late));
		sums->light += t->kind != TRANSFER_CALL;
		sums->validating += t->kind == TRANSFER_VALIDATING;
		sums->on_sockets += t->socket != NULL;
		sums->seats[t->seat]++;
	}
}

static unsigned calls_of(const struct list *list, enum transfer_kind kind)
{
	unsigned count = 0;
	for (const struct list *node = list->next; node != list; node = node->next)
		count += CONTAINER_OF(node, struct transfer, node)->kind == kind;
	return count;
}

/* What the pump has had its turn about is given back, and not more. */
static void check_places(const struct pool *pool)
{
	unsigned places =
		pool->open_count - pool->retired_count + pool->seats[SEAT_WANTING] + pool->seats[SEAT_LOOKING];
	if (list_linked(&pool->pump.node))
		return;
	CHECK(pool_part_held(&pool->part) == places ||
	      (pool->group.waits && pool_part_held(&pool->part) == places + 1));
	CHECK(pool->group.share == NULL || pool_part_held(&pool->group) == places);
}

void pool_check(const struct pool *pool)
{
	struct running sums = { 0 };
	CHECK(pool->magic == POOL_MAGIC && !pool->inside);
	if (pool->dying)
		return;
	add_running(&sums, &pool->running);
	add_running(&sums, &pool->cancelled);
	CHECK(pool->running_count == length(&pool->running) + length(&pool->cancelled));
	CHECK(pool->light_running == sums.light);
	CHECK(pool->validating_count == sums.validating + calls_of(&pool->light, TRANSFER_VALIDATING));
	CHECK(pool->waiting_count == length(&pool->waiting) + pool->line.waiting);
	for (int seat = SEAT_NONE + 1; seat < TRANSFER_SEATS; seat++)
		CHECK(pool->seats[seat] == sums.seats[seat]);
	CHECK(pool->seats[SEAT_NONE] == 0 - pool->running_count);
	check_sockets(pool, sums.on_sockets);
	check_places(pool);
}

/* Shares: one lock for all of a process. It is held for a few lines, and taken when a connection is opened or closed, when a call of a tenant with a bound of its
 * own begins or ends, and a few times a second by each pool; while somebody waits for a place, or there are too many, also at the end of each call of those who
 * were told, and in each turn in which a light request waits to open one.
 *
 * A post to another loop cannot be taken back, so an ear lives until its last one has run; at most one is under way. */
#include "lib/pool_share.h"

#include <pthread.h>
#include <stdatomic.h>

#include "lib/loop.h"
#include "lib/map.h"
#include "lib/mem.h"

/* Outlives all pools, and the last post to any of their ears. */
struct pool_shares {
	pthread_mutex_t lock;
	struct map *by_name; /* struct pool_share */
	unsigned references; /* its owner's, and one for each ear */
};

/* Counted. used: what its parts hold together, more than `most` after a bound fell, or by force. open: connections that stand, and `peak` the most of them: a place
 * is held also while one is being opened, or waits for a second bound. */
struct pool_share {
	struct pool_shares *all;
	char *name;
	size_t name_length;
	unsigned references, parts_count, used, most, open, peak;
	bool cedes;
	struct list parts, waiting; /* waiting: longest first; empty while a place is free */
	struct pool_size *size;     /* NULL: it has none */
	unsigned ahead;             /* to be opened since it grew */
	uint64_t askings;           /* since birth */
};

/* Its pool's; dies with it, or with its last post. */
struct pool_ear {
	struct pool_shares *all;
	struct loop *loop;
	void (*heard)(void *arg); /* NULL: the pool is gone */
	void *arg;
	bool posted;
	atomic_bool news;
	struct list granted; /* struct pool_part.waiting */
};

static void lock(struct pool_shares *all)
{
	int result = pthread_mutex_lock(&all->lock);
	CHECK(result == 0);
}

static void unlock(struct pool_shares *all)
{
	int result = pthread_mutex_unlock(&all->lock);
	CHECK(result == 0);
}

struct pool_shares *pool_shares_new(void)
{
	struct pool_shares *all = mem_new(sizeof(*all));
	int result = pthread_mutex_init(&all->lock, NULL);
	CHECK(result == 0);
	all->by_name = map_new();
	all->references = 1;
	return all;
}

static void drop(struct pool_shares *all)
{
	lock(all);
	bool last = --all->references == 0;
	unlock(all);
	if (!last)
		return;
	map_free(&all->by_name, NULL);
	pthread_mutex_destroy(&all->lock);
	mem_free(all);
}

void pool_shares_free(struct pool_shares **held)
{
	struct pool_shares *all = *held;
	*held = NULL;
	if (all == NULL)
		return;
	lock(all);
	CHECK(map_count(all->by_name) == 0);
	unlock(all);
	drop(all);
}

/* ---- ears ---- */

static void free_ear(struct pool_ear *ear)
{
	struct pool_shares *all = ear->all;
	mem_free(ear);
	drop(all);
}

static void on_post(void *arg)
{
	struct pool_ear *ear = arg;
	lock(ear->all);
	ear->posted = false;
	unlock(ear->all);
	if (ear->heard != NULL)
		ear->heard(ear->arg);
	else
		free_ear(ear);
}

/* Whose own ear it is looks by himself, soon. */
static void tell(struct pool_ear *ear, const struct pool_ear *teller)
{
	atomic_store_explicit(&ear->news, true, memory_order_release);
	if (ear->posted || ear == teller)
		return;
	ear->posted = true;
	loop_post(ear->loop, on_post, ear);
}

struct pool_ear *pool_ear_new(struct pool_shares *all, struct loop *loop, void (*heard)(void *arg), void *arg)
{
	struct pool_ear *ear = mem_new(sizeof(*ear));
	ear->all = all;
	ear->loop = loop;
	ear->heard = heard;
	ear->arg = arg;
	list_init(&ear->granted);
	lock(all);
	all->references++;
	unlock(all);
	return ear;
}

void pool_ear_free(struct pool_ear **held)
{
	struct pool_ear *ear = *held;
	*held = NULL;
	if (ear == NULL)
		return;
	lock(ear->all);
	CHECK(list_empty(&ear->granted));
	ear->heard = NULL;
	bool posted = ear->posted;
	unlock(ear->all);
	if (!posted)
		free_ear(ear);
}

static void hold(struct pool_part *part)
{
	if (part->held++ == 0)
		part->since = clock_now();
}

bool pool_ear_has_news(const struct pool_ear *ear)
{
	return atomic_load_explicit(&ear->news, memory_order_acquire);
}

struct pool_part *pool_ear_granted(struct pool_ear *ear)
{
	struct pool_part *part = NULL;
	lock(ear->all);
	struct list *node = list_pop_front(&ear->granted);
	if (node == NULL) {
		atomic_store_explicit(&ear->news, false, memory_order_release);
	} else {
		part = CONTAINER_OF(node, struct pool_part, waiting);
		part->granted = part->waits = false;
		hold(part);
	}
	unlock(ear->all);
	return part;
}

/* ---- shares ---- */

static void grant(struct pool_part *part, const struct pool_ear *giver)
{
	list_remove(&part->waiting);
	part->granted = true;
	part->asked = part->share->cedes && !list_empty(&part->share->waiting);
	part->share->used++;
	list_push_back(&part->ear->granted, &part->waiting);
	tell(part->ear, giver);
}

/* Who waits and holds the least, of these the first; NULL: nobody else waits. */
static struct pool_part *poorest(const struct pool_share *share, const struct pool_part *but)
{
	struct pool_part *found = NULL;
	LIST_EACH (&share->waiting, node, following) {
		struct pool_part *part = CONTAINER_OF(node, struct pool_part, waiting);
		if (part != but && (found == NULL || part->held < found->held))
			found = part;
	}
	return found;
}

static void serve(struct pool_share *share, const struct pool_ear *giver)
{
	while (share->used < share->most && !list_empty(&share->waiting))
		grant(poorest(share, NULL), giver);
}

/* asker: NULL: the bound fell. */
static void ask(struct pool_share *share, struct pool_part *asker)
{
	share->askings++;
	if (asker != NULL)
		asker->asking = share->askings;
	LIST_EACH (&share->parts, node, following) {
		struct pool_part *part = CONTAINER_OF(node, struct pool_part, node);
		if (part == asker || part->held + part->granted == 0)
			continue;
		part->asked = true;
		tell(part->ear, asker != NULL ? asker->ear : NULL);
	}
}

static void bound(struct pool_share *share, unsigned most)
{
	share->most = most;
	serve(share, NULL);
	if (share->used > most)
		ask(share, NULL);
}

struct pool_share *pool_share_open(struct pool_shares *all, struct slice name, unsigned most, bool cedes)
{
	lock(all);
	struct pool_share *share = map_get(all->by_name, name);
	if (share == NULL) {
		share = mem_new(sizeof(*share));
		*share = (struct pool_share){ .all = all, .most = most, .cedes = cedes, .name_length = name.len };
		share->name = mem_text(name);
		list_init(&share->parts);
		list_init(&share->waiting);
		map_put(all->by_name, name, share);
	}
	share->references++;
	bound(share, most);
	unlock(all);
	return share;
}

void pool_share_release(struct pool_share **held)
{
	struct pool_share *share = *held;
	*held = NULL;
	if (share == NULL)
		return;
	struct pool_shares *all = share->all;
	lock(all);
	bool last = --share->references == 0;
	if (last) {
		CHECK(list_empty(&share->parts) && list_empty(&share->waiting) && share->used == 0);
		map_remove(all->by_name, slice_make(share->name, share->name_length));
	}
	unlock(all);
	if (!last)
		return;
	mem_free(share->size);
	mem_free(share->name);
	mem_free(share);
}

void pool_share_bound(struct pool_share *share, unsigned most)
{
	lock(share->all);
	bound(share, most);
	unlock(share->all);
}

/* ---- parts ---- */

void pool_part_join(struct pool_part *part, struct pool_share *share, struct pool_ear *ear)
{
	*part = (struct pool_part){ .share = share, .ear = ear };
	list_init(&part->waiting);
	lock(share->all);
	list_push_back(&share->parts, &part->node);
	share->parts_count++;
	unlock(share->all);
}

void pool_part_leave(struct pool_part *part)
{
	struct pool_share *share = part->share;
	if (share == NULL)
		return;
	lock(share->all);
	list_remove(&part->node);
	list_remove(&part->waiting);
	share->parts_count--;
	share->used -= part->held + part->granted;
	part->held = 0;
	part->granted = false;
	serve(share, NULL);
	unlock(share->all);
	pool_share_release(&part->share);
}

static void take(struct pool_part *part)
{
	struct pool_share *share = part->share;
	hold(part);
	if (share->cedes && !list_empty(&share->waiting)) { /* by force */
		part->asked = true;
		tell(part->ear, part->ear);
	}
	share->used++;
}

bool pool_part_take(struct pool_part *part, bool waits)
{
	struct pool_share *share = part->share;
	if (share == NULL)
		return true;
	if (part->waits)
		return false;
	lock(share->all);
	bool taken = share->used < share->most;
	if (taken) {
		take(part);
	} else if (waits) {
		part->waits = true;
		list_push_back(&share->waiting, &part->waiting);
		if (share->cedes)
			ask(share, part);
	}
	unlock(share->all);
	return taken;
}

void pool_part_force(struct pool_part *part)
{
	if (part->share == NULL)
		return;
	lock(part->share->all);
	take(part);
	unlock(part->share->all);
}

static void give(struct pool_part *part, unsigned count)
{
	struct pool_share *share = part->share;
	CHECK(count <= part->held && count <= share->used);
	part->held -= count;
	share->used -= count;
	serve(share, part->ear);
}

void pool_part_give(struct pool_part *part, unsigned count)
{
	if (part->share == NULL || count == 0)
		return;
	lock(part->share->all);
	give(part, count);
	unlock(part->share->all);
}

void pool_part_give_up(struct pool_part *part)
{
	if (part->share == NULL || !part->waits)
		return;
	lock(part->share->all);
	if (!part->granted) {
		list_remove(&part->waiting);
		part->waits = false;
	}
	unlock(part->share->all);
}

unsigned pool_part_held(const struct pool_part *part)
{
	return part->share != NULL ? part->held : UINT32_MAX;
}

bool pool_part_is_asked(struct pool_part *part)
{
	if (part->share == NULL)
		return false;
	lock(part->share->all);
	bool asked = part->asked;
	unlock(part->share->all);
	return asked;
}

bool pool_part_looked(struct pool_part *part, bool none)
{
	if (part->share == NULL)
		return false;
	lock(part->share->all);
	bool asked = part->asked;
	if (none)
		part->looked = part->share->askings;
	unlock(part->share->all);
	return asked;
}

bool pool_part_may_come(const struct pool_part *part)
{
	if (part->share == NULL || !part->waits)
		return false;
	lock(part->share->all);
	bool may = part->granted;
	LIST_EACH (&part->share->parts, node, following) {
		const struct pool_part *other = CONTAINER_OF(node, struct pool_part, node);
		may |= other != part && other->held + other->granted > 0 && other->looked < part->asking;
	}
	unlock(part->share->all);
	return may;
}

/* ---- too many ---- */

/* Rounded up, so that it comes to an end. */
static unsigned excess_of(const struct pool_part *part, bool to_size)
{
	const struct pool_share *share = part->share;
	unsigned most = share == NULL ? UINT32_MAX : to_size ? share->size->now : share->most;
	if (share == NULL || share->used <= most)
		return 0;
	return (unsigned)(((uint64_t)(share->used - most) * part->held + share->used - 1) / share->used);
}

/* A group has a bound, and no size. */
static unsigned excess(const struct pool_part *part, const struct pool_part *group, bool to_size)
{
	unsigned own = excess_of(part, to_size), of_group = to_size ? 0 : excess_of(group, false);
	return own > of_group ? own : of_group;
}

unsigned pool_part_excess(struct pool_part *part, struct pool_part *group, bool to_size)
{
	lock(part->share->all);
	unsigned count = excess(part, group, to_size);
	unlock(part->share->all);
	return count;
}

bool pool_part_shed(struct pool_part *part, struct pool_part *group, bool to_size)
{
	lock(part->share->all);
	bool sheds = part->held > 0 && excess(part, group, to_size) > 0;
	if (sheds)
		give(part, 1);
	if (sheds && group->share != NULL)
		give(group, 1);
	unlock(part->share->all);
	return sheds;
}

static bool owes(const struct pool_part *part, const struct pool_part *asker, int64_t now)
{
	return part->held > asker->held + 1 || (asker->held == 0 && now - part->since >= POOL_SHARE_TURN);
}

static bool is_richest(const struct pool_part *part)
{
	LIST_EACH (&part->share->parts, node, following)
		if (CONTAINER_OF(node, struct pool_part, node)->held > part->held)
			return false;
	return true;
}

bool pool_part_should_drain(struct pool_part *part, int64_t now)
{
	struct pool_share *share = part->share;
	if (share == NULL)
		return false;
	lock(share->all);
	const struct pool_part *asker = part->asked && part->held > 0 ? poorest(share, part) : NULL;
	bool should = asker != NULL && owes(part, asker, now) && is_richest(part);
	unlock(share->all);
	return should;
}

bool pool_part_should_cede(struct pool_part *part, bool idle, int64_t now)
{
	struct pool_share *share = part->share;
	bool should = false;
	if (share == NULL)
		return false;
	lock(share->all);
	if (list_empty(&share->waiting)) {
		part->asked = share->used > share->most;
	} else if (part->asked && part->held > 0) {
		const struct pool_part *asker = poorest(share, part);
		should = asker != NULL && (idle || owes(part, asker, now));
	}
	unlock(share->all);
	return should;
}

/* ---- size ---- */

void pool_part_size(struct pool_part *part, unsigned least, unsigned start, unsigned most)
{
	struct pool_share *share = part->share;
	lock(share->all);
	/* two reloads on their way through the loops: the later one sets its own behind this */
	if (most > share->most)
		most = share->most;
	if (least > most)
		least = most;
	if (share->size == NULL) {
		share->size = mem_new(sizeof(*share->size));
		pool_size_init(share->size, least, start, most);
	} else {
		pool_size_bound(share->size, least, most);
	}
	unlock(share->all);
}

static unsigned lacks(const struct pool_share *share)
{
	return share->size->now > share->used ? share->size->now - share->used : 0;
}

/* Alike, whatever each has: nobody knows where the next calls come in. */
static unsigned part_of_ahead(struct pool_share *share)
{
	unsigned left = share->ahead < lacks(share) ? share->ahead : lacks(share);
	unsigned part = (left + share->parts_count - 1) / share->parts_count;
	share->ahead = left - part;
	return part;
}

enum pool_size_change pool_part_look(struct pool_part *part, int64_t now, unsigned busy, unsigned *ahead)
{
	struct pool_share *share = part->share;
	enum pool_size_change change = POOL_SIZE_SAME;
	unsigned all = 0;
	lock(share->all);
	part->busy = busy;
	if (now - share->size->looked_at >= CLOCK_SECOND) {
		LIST_EACH (&share->parts, node, following)
			all += CONTAINER_OF(node, struct pool_part, node)->busy;
		change = pool_size_look(share->size, now, all);
		if (change == POOL_SIZE_GROWN)
			share->ahead = lacks(share);
	}
	*ahead = part_of_ahead(share);
	unlock(share->all);
	return change;
}

void pool_part_opened(struct pool_part *part)
{
	struct pool_share *share = part->share;
	lock(share->all);
	pool_size_opened(share->size);
	if (++share->open > share->peak)
		share->peak = share->open;
	unlock(share->all);
}

void pool_part_closed(struct pool_part *part)
{
	lock(part->share->all);
	CHECK(part->share->open > 0);
	part->share->open--;
	unlock(part->share->all);
}

void pool_part_read(const struct pool_part *part, int64_t now, struct pool_share_state *state)
{
	const struct pool_share *share = part->share;
	lock(share->all);
	*state = (struct pool_share_state){ .used = share->used,
					    .most = share->most,
					    .peak = share->peak,
					    .size = share->size->now,
					    .least = share->size->least,
					    .opened_lately = pool_size_opened_lately(share->size, now) };
	unlock(share->all);
}

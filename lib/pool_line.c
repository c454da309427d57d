/* The line: three lanes, each with rounds of tenants. */
#include "lib/pool_line.h"

#include "lib/map.h"
#include "lib/mem.h"

#define UNIT INT64_C(15000000) /* of a tag; in it a step has no rounding that anybody sees, and for 5, 3 and 1 none */

void pool_line_weigh(struct pool_line *line, const int64_t weight[LANES])
{
	static const int64_t standard[LANES] = { [LANE_HIGH] = 5, [LANE_MEDIUM] = 3, [LANE_LOW] = 1 };
	if (weight[LANE_HIGH] == 0 && weight[LANE_MEDIUM] == 0 && weight[LANE_LOW] == 0)
		weight = standard;
	for (int i = 0; i < LANES; i++) {
		CHECK(weight[i] > 0 && weight[i] < UNIT);
		line->lanes[i].step = (uint64_t)(UNIT / weight[i]);
	}
}

void pool_line_init(struct pool_line *line, struct pool_shares *shares, struct pool_ear *ear, const char *owner)
{
	*line = (struct pool_line){ .shares = shares, .ear = ear, .owner = owner, .tenants = map_new() };
	for (int i = 0; i < LANES; i++) {
		list_init(&line->lanes[i].round);
		list_init(&line->lanes[i].next);
		line->lanes[i].number = 1;
	}
	list_init(&line->idle);
	list_init(&line->granted);
	pool_line_weigh(line, (const int64_t[LANES]){ 0 });
}

/* ---- tenants ---- */

static struct slice name_of(const struct pool_tenant *tenant)
{
	return slice_make(tenant->name, tenant->name_length);
}

/* Without a bound it is part of no share. */
static void set_bound(struct pool_line *line, struct pool_tenant *tenant, unsigned bound)
{
	size_t owner = strlen(line->owner) + 1; /* the NUL stands between the two names: neither holds one */
	char *key;
	tenant->bound = bound;
	if (tenant->part.share != NULL) {
		pool_share_bound(tenant->part.share, bound > 0 ? bound : UINT32_MAX);
		return;
	}
	if (bound == 0)
		return;
	key = mem_new(owner + tenant->name_length + 1);
	memcpy(key, line->owner, owner);
	memcpy(key + owner, tenant->name, tenant->name_length);
	pool_part_join(&tenant->part,
		       pool_share_open(line->shares, slice_make(key, owner + tenant->name_length), bound, false),
		       line->ear);
	for (unsigned i = 0; i < tenant->running; i++)
		pool_part_force(&tenant->part);
	mem_free(key);
}

static struct pool_tenant *new_tenant(struct slice name)
{
	struct pool_tenant *tenant = mem_new(sizeof(*tenant) + name.len + 1);
	for (int i = 0; i < LANES; i++) {
		struct pool_flow *flow = &tenant->flows[i];
		flow->tenant = tenant;
		flow->lane = (enum lane)i;
		list_init(&flow->calls);
		list_init(&flow->node);
	}
	list_init(&tenant->idle);
	list_init(&tenant->granted);
	tenant->name_length = name.len;
	if (name.len > 0)
		memcpy(tenant->name, name.data, name.len);
	return tenant;
}

static void rest(struct pool_line *line, struct pool_tenant *tenant)
{
	if (tenant->waiting > 0 || tenant->running > 0 || list_linked(&tenant->idle))
		return;
	tenant->stale = false;
	list_push_back(&line->idle, &tenant->idle);
}

struct pool_tenant *pool_line_tenant(struct pool_line *line, struct slice name, unsigned bound)
{
	struct pool_tenant *tenant = map_get(line->tenants, name);
	if (tenant == NULL) {
		tenant = new_tenant(name);
		map_put(line->tenants, name, tenant);
	}
	if (tenant->bound != bound)
		set_bound(line, tenant, bound);
	list_remove(&tenant->idle);
	rest(line, tenant);
	return tenant;
}

static void forget(struct pool_line *line, struct pool_tenant *tenant)
{
	list_remove(&tenant->idle);
	list_remove(&tenant->granted);
	map_remove(line->tenants, name_of(tenant));
	pool_part_leave(&tenant->part);
	mem_free(tenant);
}

void pool_line_tidy(struct pool_line *line)
{
	LIST_EACH (&line->idle, node, following) {
		struct pool_tenant *tenant = CONTAINER_OF(node, struct pool_tenant, idle);
		if (tenant->stale)
			forget(line, tenant);
		else
			tenant->stale = true;
	}
}

void pool_line_free(struct pool_line *line)
{
	struct slice name;
	void *value;
	CHECK(line->waiting == 0);
	for (size_t at = 0; map_next(line->tenants, &at, &name, &value);) {
		struct pool_tenant *tenant = value;
		pool_part_leave(&tenant->part);
		mem_free(tenant);
	}
	map_free(&line->tenants, NULL);
}

/* ---- lanes ---- */

static bool is_empty(const struct pool_line_lane *lane)
{
	return list_empty(&lane->round) && list_empty(&lane->next);
}

/* It has calls, and may go on: it takes part in the round, unless it had its call of it. */
static void take_part(struct pool_line *line, struct pool_flow *flow)
{
	struct pool_line_lane *lane = &line->lanes[flow->lane];
	if (list_empty(&flow->calls) || list_linked(&flow->node) || flow->tenant->aside)
		return;
	if (is_empty(lane) && lane->tag < line->now)
		lane->tag = line->now;
	list_push_back(flow->served == lane->number ? &lane->next : &lane->round, &flow->node);
}

/* What is over, is: who was ahead when the line was last empty owes nothing. */
static void settle(struct pool_line *line)
{
	if (line->ready > 0)
		return;
	for (int i = 0; i < LANES; i++)
		if (line->lanes[i].tag > line->now)
			line->now = line->lanes[i].tag;
}

static void set_aside(struct pool_line *line, struct pool_tenant *tenant, bool aside)
{
	if (tenant->aside == aside)
		return;
	tenant->aside = aside;
	for (int i = 0; i < LANES; i++) {
		struct pool_flow *flow = &tenant->flows[i];
		if (aside)
			list_remove(&flow->node);
		else
			take_part(line, flow);
	}
	if (aside)
		line->ready -= tenant->waiting;
	else
		line->ready += tenant->waiting;
}

void pool_line_enter(struct pool_line *line, struct pool_call *call, struct pool_tenant *tenant, enum lane lane)
{
	struct pool_flow *flow = &tenant->flows[lane];
	list_remove(&tenant->idle);
	list_push_back(&flow->calls, &call->node);
	call->flow = flow;
	call->tenant = tenant;
	tenant->waiting++;
	line->waiting++;
	line->ready += !tenant->aside;
	take_part(line, flow);
}

void pool_line_return(struct pool_line *line, struct pool_call *call, struct pool_tenant *tenant, enum lane lane)
{
	struct pool_flow *flow = &tenant->flows[lane];
	list_remove(&flow->node);
	flow->served = 0;
	pool_line_enter(line, call, tenant, lane);
	list_remove(&call->node);
	list_push_front(&flow->calls, &call->node);
}

/* What it holds and does not use. */
static void give_rest(struct pool_tenant *tenant)
{
	unsigned held = tenant->part.share != NULL ? pool_part_held(&tenant->part) : 0,
		 used = tenant->running + tenant->kept;
	if (held > used)
		pool_part_give(&tenant->part, held - used);
}

void pool_line_leave(struct pool_line *line, struct pool_call *call)
{
	struct pool_flow *flow = call->flow;
	if (flow == NULL)
		return;
	struct pool_tenant *tenant = flow->tenant;
	list_remove(&call->node);
	call->flow = NULL;
	if (list_empty(&flow->calls))
		list_remove(&flow->node);
	tenant->waiting--;
	line->waiting--;
	line->ready -= !tenant->aside;
	if (tenant->waiting == 0) {
		pool_part_give_up(&tenant->part);
		tenant->aside = tenant->kept = false;
		give_rest(tenant);
	}
	settle(line);
	rest(line, tenant);
}

/* One more place of the tenant's; what was granted to it, and not used yet, comes first. */
static bool take_place(struct pool_tenant *tenant, bool waits)
{
	if (tenant->running >= pool_part_held(&tenant->part) && !pool_part_take(&tenant->part, waits))
		return false;
	tenant->running++;
	tenant->kept &= pool_part_held(&tenant->part) > tenant->running;
	return true;
}

bool pool_line_admit(struct pool_line *line, struct pool_tenant *tenant)
{
	if (tenant->waiting > 0 || !take_place(tenant, false))
		return false;
	list_remove(&tenant->idle);
	rest(line, tenant);
	return true;
}

void pool_line_over(struct pool_line *line, struct pool_tenant *tenant)
{
	CHECK(tenant->running > 0);
	tenant->running--;
	give_rest(tenant);
	rest(line, tenant);
}

void pool_line_granted(struct pool_line *line, struct pool_part *part)
{
	struct pool_tenant *tenant = CONTAINER_OF(part, struct pool_tenant, part);
	set_aside(line, tenant, false);
	if (!list_linked(&tenant->granted))
		list_push_back(&line->granted, &tenant->granted);
}

void pool_line_settle(struct pool_line *line)
{
	for (struct list *node; (node = list_pop_front(&line->granted)) != NULL;) {
		struct pool_tenant *tenant = CONTAINER_OF(node, struct pool_tenant, granted);
		tenant->kept = tenant->bound > 1 && tenant->waiting > 0 && !tenant->aside &&
			       pool_part_held(&tenant->part) > tenant->running;
		give_rest(tenant);
	}
}

static struct pool_line_lane *next_lane(struct pool_line *line)
{
	struct pool_line_lane *first = NULL;
	for (int i = 0; i < LANES; i++) {
		struct pool_line_lane *lane = &line->lanes[i];
		if (!is_empty(lane) && (first == NULL || lane->tag < first->tag))
			first = lane;
	}
	return first;
}

static struct pool_flow *next_flow(struct pool_line_lane *lane)
{
	if (list_empty(&lane->round)) {
		list_move_all(&lane->round, &lane->next);
		lane->number++;
	}
	return CONTAINER_OF(lane->round.next, struct pool_flow, node);
}

struct pool_call *pool_line_next(struct pool_line *line)
{
	struct pool_line_lane *lane;
	while ((lane = next_lane(line)) != NULL) {
		struct pool_flow *flow = next_flow(lane);
		struct pool_tenant *tenant = flow->tenant;
		if (!take_place(tenant, true)) {
			set_aside(line, tenant, true);
			continue;
		}
		struct pool_call *call = CONTAINER_OF(flow->calls.next, struct pool_call, node);
		line->now = lane->tag;
		lane->tag += lane->step;
		flow->served = lane->number;
		list_remove(&flow->node);
		pool_line_leave(line, call);
		take_part(line, flow);
		return call;
	}
	return NULL;
}

struct pool_call *pool_line_any(struct pool_line *line)
{
	struct slice name;
	void *value;
	for (size_t at = 0; line->waiting > 0 && map_next(line->tenants, &at, &name, &value);) {
		struct pool_tenant *tenant = value;
		for (int i = 0; i < LANES; i++)
			if (!list_empty(&tenant->flows[i].calls))
				return CONTAINER_OF(tenant->flows[i].calls.next, struct pool_call, node);
	}
	return NULL;
}

/* Choosing among a model's targets and their endpoints, in one walk over them all:
 *
 *   each endpoint ──► can its target? ──► barred, stopped? ──► the best of its target ──┬─► of those that have not failed ──► by strategy
 *                                                              (lane, region, …)        └─► of those that have: only when there is none
 *
 * What draws lots does so by weighted rendezvous: each candidate's lot is -log(u) / weight, with u in (0, 1) from a hash of the session (or of a random number)
 * and the candidate's name; the least lot wins, with a chance of weight / all weights. When a candidate goes, only those who had it move; when it comes back, so
 * do they; and whoever is tried next is the next best, the same at each repetition. Names are hashed and not places, so that a list may be put in another order. */
#include "svc/route.h"

#include <inttypes.h>
#include <math.h>

#include "lib/buf.h"
#include "lib/siphash.h"

/* For what a number is hashed: the same session draws anew for each. */
enum purpose { FOR_UPSTREAM = 1, FOR_MODEL, FOR_ENDPOINT };

/* By the strategy latency, one request in 64 goes to another target: so it is seen when a slow one has become fast. The highest bits of the random number decide
 * whether, the lowest where. */
enum { EXPLORE_SHIFT = 58 };

/* The best endpoint of a target. What is less comes first, in the order of the members. */
struct contender {
	size_t target, endpoint;
	bool other_lane, unweighted, other_region;
	int64_t priority;
	double lot; /* drawn only where it decides: -1 until then */
	struct route_health health;
};

struct ballot {
	const struct route_question *q;
	const struct route *route;
	const struct config_target *targets; /* of the model; of the default upstream alone a made one */
	size_t targets_count;
	uint64_t seed; /* of lots: the session, or chance */
	/* Each with the best endpoint of a target, in the list's order. */
	struct contender fresh[CONFIG_TARGETS_MOST], failed[CONFIG_TARGETS_MOST];
	size_t fresh_count, failed_count;
	int64_t in_flight[CONFIG_TARGETS_MOST]; /* at all endpoints of the target */
};

/* ---- sets ------------------------------------------------------------------------------------------------------------------- */

static size_t place_of(size_t target, size_t endpoint)
{
	return target * CONFIG_ENDPOINTS_MOST + endpoint;
}

void route_mark(struct route_set *set, size_t target, size_t endpoint)
{
	set->bits[place_of(target, endpoint) / 64] |= UINT64_C(1) << place_of(target, endpoint) % 64;
}

void route_mark_target(struct route_set *set, size_t target)
{
	for (size_t endpoint = 0; endpoint < CONFIG_ENDPOINTS_MOST; endpoint++)
		route_mark(set, target, endpoint);
}

bool route_is_same_place(const struct route *a, const struct route *b)
{
	return a->configured == b->configured && a->upstream == b->upstream && a->target == b->target &&
	       a->endpoint == b->endpoint;
}

struct route_set route_union(const struct route_set *a, const struct route_set *b)
{
	struct route_set both;

	for (size_t i = 0; i < ARRAY_LENGTH(both.bits); i++)
		both.bits[i] = a->bits[i] | b->bits[i];
	return both;
}

bool route_marked(const struct route_set *set, size_t target, size_t endpoint)
{
	return (set->bits[place_of(target, endpoint) / 64] >> place_of(target, endpoint) % 64 & 1) != 0;
}

/* ---- what a target can ------------------------------------------------------------------------------------------------------ */

static bool fits(const struct config_capabilities *can, const struct route_question *q)
{
	return can->context == 0 || q->input <= can->context - q->output;
}

static bool is_able(const struct config_capabilities *can, const struct route_question *q)
{
	return (can->media || !q->media) && (can->tools || !q->tools) && fits(can, q);
}

/* What some target can do and another cannot is named only when no need is without any target: then it is their being together that is too much. */
void route_say_unable(const struct route_question *q, const struct route *route, struct buf *detail)
{
	const struct config_model *model = route->configured;
	size_t media_can = 0, tools_can = 0, context_can = 0, least;
	bool together, media, tools, context;
	int64_t most = 0;

	if (model == NULL)
		return;
	for (size_t i = 0; i < model->targets_count; i++) {
		const struct config_capabilities *can = &model->targets[i].capabilities;
		media_can += can->media || !q->media;
		tools_can += can->tools || !q->tools;
		context_can += fits(can, q);
		most = can->context > most ? can->context : most;
	}
	together = media_can > 0 && tools_can > 0 && context_can > 0;
	least = together ? model->targets_count : 1;
	media = media_can < least;
	tools = tools_can < least;
	context = context_can < least;
	buf_format(detail, "Needed%s: %s%s%s", together ? " together" : "", media ? "images, audio or files" : "",
		   media && tools ? "; " : "", tools ? "tools" : "");
	if (context)
		buf_format(detail, "%s%" PRId64 " tokens", media || tools ? "; " : "", q->input + q->output);
	if (context && !together)
		buf_format(detail, ", at most %" PRId64, most);
	buf_append_byte(detail, '.');
}

/* ---- lots ------------------------------------------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t seed, enum purpose purpose, const char *name)
{
	return siphash_of((struct siphash_key){ seed, purpose }, slice_of(name));
}

/* Never 0, which has no logarithm, and never 1. */
static double lot_of(uint64_t drawn, int64_t weight)
{
	return -log(((double)(drawn >> 11) + 0.5) * 0x1p-53) / (weight > 0 ? (double)weight : 1);
}

static double target_lot(const struct ballot *b, size_t target, int64_t weight)
{
	const struct config_target *t = &b->targets[target];

	return lot_of(draw(draw(b->seed, FOR_UPSTREAM, t->upstream->name), FOR_MODEL, t->model), weight);
}

static double endpoint_lot(const struct ballot *b, const struct contender *c)
{
	const struct config_endpoint *endpoint = &b->targets[c->target].upstream->endpoints[c->endpoint];

	return lot_of(draw(b->seed, FOR_ENDPOINT, endpoint->url), endpoint->weight);
}

/* ---- the best endpoint of a target ------------------------------------------------------------------------------------------ */

static struct contender contender_of(const struct ballot *b, size_t target, size_t endpoint)
{
	const struct config_endpoint *e = &b->targets[target].upstream->endpoints[endpoint];
	const char *region = b->q->config->region;

	return (struct contender){ .target = target,
				   .endpoint = endpoint,
				   .other_lane = e->lane != CONFIG_LANE_ANY && e->lane != b->q->lane,
				   .unweighted = e->weight == 0,
				   .other_region =
					   region != NULL && (e->region == NULL || strcmp(e->region, region) != 0),
				   .priority = e->priority,
				   .lot = -1 };
}

static bool is_before(const struct ballot *b, struct contender *a, struct contender *other)
{
	if (a->other_lane != other->other_lane)
		return other->other_lane;
	if (a->unweighted != other->unweighted)
		return other->unweighted;
	if (a->other_region != other->other_region)
		return other->other_region;
	if (a->priority != other->priority)
		return a->priority < other->priority;
	if (a->lot < 0)
		a->lot = endpoint_lot(b, a);
	if (other->lot < 0)
		other->lot = endpoint_lot(b, other);
	return a->lot < other->lot;
}

/* The best of the target that is looked at stands at the list's end. */
static void offer(const struct ballot *b, struct contender *list, size_t *count, struct contender *c)
{
	if (*count == 0 || list[*count - 1].target != c->target)
		list[(*count)++] = *c;
	else if (is_before(b, c, &list[*count - 1]))
		list[*count - 1] = *c;
}

static void note_stop(const struct route_health *health, struct route_choice *choice)
{
	int64_t wait = health->wait > 0 ? health->wait : 1; /* 0 says that all are barred */

	if (choice->wait == 0 || wait < choice->wait) {
		choice->wait = wait;
		choice->paused = health->paused;
	}
}

static struct slice model_at(const struct ballot *b, const struct config_target *target)
{
	return target->model != NULL ? slice_of(target->model) : b->route->model;
}

static void look_at_target(struct ballot *b, size_t target, struct route_choice *choice)
{
	const struct config_target *t = &b->targets[target];
	const struct route_question *q = b->q;

	b->in_flight[target] = 0;
	for (size_t i = 0; i < t->upstream->endpoints_count; i++) {
		struct contender c = contender_of(b, target, i);
		q->look(q->arg, t->upstream, i, model_at(b, t), &c.health);
		b->in_flight[target] += c.health.in_flight;
		if (route_marked(&q->barred, target, i))
			continue;
		if (c.health.gate == BREAKER_STOP)
			note_stop(&c.health, choice);
		else if (route_marked(&q->failed, target, i))
			offer(b, b->failed, &b->failed_count, &c);
		else
			offer(b, b->fresh, &b->fresh_count, &c);
	}
}

/* ---- the best target -------------------------------------------------------------------------------------------------------- */

/* What is less comes first, in the order of the members; the list's order decides between equals. */
struct merit {
	bool unweighted;
	double value, tie;
};

/* A target without a price of its own has the model's. One that nobody knows is the dearest: what is not known should not be spent. */
static double cost_of(const struct ballot *b, const struct config_target *target)
{
	const struct config_price *price = &target->price;

	if (price->input < 0 && price->output < 0 && b->route->configured != NULL)
		price = &b->route->configured->price;
	if (price->input < 0 && price->output < 0)
		return HUGE_VAL;
	return (price->input > 0 ? (double)price->input * (double)b->q->input : 0) +
	       (price->output > 0 ? (double)price->output * (double)b->q->output : 0);
}

/* One that nobody has measured is worth measuring, by one request. */
static double latency_of(const struct route_health *health)
{
	if (health->first_byte >= 0)
		return (double)health->first_byte;
	return health->in_flight == 0 ? -1 : HUGE_VAL;
}

static struct merit merit_of(const struct ballot *b, const struct contender *c)
{
	const struct config_target *target = &b->targets[c->target];

	switch (b->route->configured->strategy) {
	case CONFIG_STRATEGY_PRIORITY:
		break;
	case CONFIG_STRATEGY_WEIGHTED:
		return (struct merit){ .unweighted = target->weight == 0,
				       .value = target_lot(b, c->target, target->weight) };
	case CONFIG_STRATEGY_COST:
		return (struct merit){ .value = cost_of(b, target) };
	case CONFIG_STRATEGY_LATENCY:
		return (struct merit){ .value = latency_of(&c->health) };
	case CONFIG_STRATEGY_LOAD:
		return (struct merit){ .unweighted = target->weight == 0,
				       .value = (double)(b->in_flight[c->target] + 1) /
						(target->weight > 0 ? (double)target->weight : 1),
				       .tie = target_lot(b, c->target, 1) };
	}
	return (struct merit){ .value = 0 };
}

static bool is_better(const struct merit *a, const struct merit *other)
{
	if (a->unweighted != other->unweighted)
		return other->unweighted;
	if (a->value < other->value || a->value > other->value)
		return a->value < other->value;
	return a->tie < other->tie;
}

/* Another one than the best, by chance; one that is being measured already needs no second look. */
static const struct contender *explore(const struct ballot *b, const struct contender *list, size_t count,
				       const struct contender *best)
{
	const struct contender *others[CONFIG_TARGETS_MOST];
	size_t others_count = 0;

	for (size_t i = 0; i < count; i++)
		if (&list[i] != best && (list[i].health.first_byte >= 0 || list[i].health.in_flight == 0))
			others[others_count++] = &list[i];
	return others_count > 0 ? others[(b->q->random & UINT32_MAX) * others_count >> 32] : best;
}

static const struct contender *best_of(const struct ballot *b, const struct contender *list, size_t count)
{
	const struct contender *best = &list[0];
	struct merit merit;

	if (count == 1)
		return best;
	merit = merit_of(b, best);
	for (size_t i = 1; i < count; i++) {
		struct merit other = merit_of(b, &list[i]);
		if (is_better(&other, &merit)) {
			best = &list[i];
			merit = other;
		}
	}
	if (b->route->configured->strategy == CONFIG_STRATEGY_LATENCY && b->q->random >> EXPLORE_SHIFT == 0)
		return explore(b, list, count, best);
	return best;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------------- */

static void choose(const struct ballot *b, struct route *route, struct route_choice *choice)
{
	bool fresh = b->fresh_count > 0;
	const struct contender *best =
		fresh ? best_of(b, b->fresh, b->fresh_count) : best_of(b, b->failed, b->failed_count);

	*choice = (struct route_choice){ .asks = best->health.gate == BREAKER_ASK, .elsewhere = fresh };
	route->upstream = b->targets[best->target].upstream;
	route->target = best->target;
	route->endpoint = best->endpoint;
	route->upstream_model = slice_of(b->targets[best->target].model);
}

enum route_found route_choose(const struct route_question *q, struct route *route, struct route_choice *choice)
{
	const struct config_model *model = route->configured;
	const struct config_target alone = { .upstream = route->upstream };
	bool affinity = model == NULL || model->affinity, able = false;
	struct ballot b; /* 5 KiB, and most of it is never looked at */

	b.q = q;
	b.route = route;
	b.targets = model != NULL ? model->targets : &alone;
	b.targets_count = model != NULL ? model->targets_count : 1;
	b.seed = affinity && q->session != 0 ? q->session : q->random;
	b.fresh_count = b.failed_count = 0;
	*choice = (struct route_choice){ .asks = false };
	for (size_t i = 0; i < b.targets_count; i++) {
		if (model != NULL && !is_able(&b.targets[i].capabilities, q))
			continue;
		able = true;
		look_at_target(&b, i, choice);
	}
	if (!able)
		return ROUTE_UNABLE;
	if (b.fresh_count + b.failed_count == 0)
		return ROUTE_STOPPED;
	choose(&b, route, choice);
	return ROUTE_FOUND;
}

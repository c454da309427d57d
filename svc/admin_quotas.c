/* Begun on the control thread, carried to the first worker, answered there, posted back:
 *
 *   control   admin_quotas_ask ─┐                          ┌─► over ─► done
 *   worker 0                    └─► begin ─► peek … peek ──┘ all answered, or the time is up
 *
 * Up to 64 peeks are on their way; each that is answered sends the next, and the first that is not sends no more: a Redis that is away is not asked 500
 * times. One thread at a time has the object: what is posted is let go. Disadvantage: two readers at once ask twice. */
#include "svc/admin_quotas.h"

#include <inttypes.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "svc/config.h"
#include "svc/server.h"

enum { QUOTAS_MAGIC = 0x51554F54, QUOTAS_MOST = 500, QUOTAS_AT_ONCE = 64 };

/* The limits of one name. */
struct quota {
	struct admin_quotas *all;
	struct slice name; /* it and the limits are the configuration's */
	const struct limits *limits;
	enum limiter_scope scope;
	struct peek *peek; /* on its way */
	bool known;
	struct limiter_left left[LIMIT_COUNT];
};

/* Its owner's until it is asked for, the worker's until `over` is posted, then the owner's again; `done` is the control thread's throughout. */
struct admin_quotas {
	unsigned magic;
	const struct config *config; /* held */
	struct loop *control;
	void (*done)(void *arg); /* NULL: nobody waits any more */
	void *arg;
	bool over;
	struct worker *worker;
	struct loop_timer timer;
	size_t next, open; /* the first that was not asked; those on their way */
	size_t count, more;
	struct quota *quotas;
};

/* ---- whom to ask ---------------------------------------------------------------------------------------------------------- */

static bool has_limits(const struct limits *limits)
{
	for (int k = 0; k < LIMIT_COUNT; k++)
		if (limits->of[k].count > 0)
			return true;
	return false;
}

static void add(struct admin_quotas *a, enum limiter_scope scope, const char *name, const struct limits *limits)
{
	if (!has_limits(limits))
		return;
	if (a->count == QUOTAS_MOST)
		a->more++;
	else
		a->quotas[a->count++] =
			(struct quota){ .all = a, .name = slice_of(name), .limits = limits, .scope = scope };
}

/* Tenants come last, because they may be many. */
static void list_all(struct admin_quotas *a)
{
	const struct config *c = a->config;

	for (size_t i = 0; i < c->upstreams_count; i++)
		add(a, LIMITER_UPSTREAM, c->upstreams[i].name, &c->upstreams[i].limits);
	for (size_t i = 0; i < c->models_count; i++)
		add(a, LIMITER_MODEL, c->models[i].name, &c->models[i].limits);
	for (size_t i = 0; i < c->tenants_count; i++)
		add(a, LIMITER_TENANT, c->tenants[i].name, &c->tenants[i].limits);
}

/* ---- asking --------------------------------------------------------------------------------------------------------------- */

static void release(struct admin_quotas *a)
{
	config_release(&a->config);
	mem_free(a->quotas);
	a->magic = 0;
	mem_free(a);
}

/* On the control thread again. */
static void over(void *arg)
{
	struct admin_quotas *a = arg;

	CHECK(a->magic == QUOTAS_MAGIC && !a->over && a->open == 0);
	a->over = true;
	if (a->done != NULL)
		a->done(a->arg);
	else
		release(a);
}

/* The last thing that the worker does with it. */
static void give_back(struct admin_quotas *a)
{
	loop_timer_free(&a->timer);
	loop_post(a->control, over, a);
}

static void ask_more(struct admin_quotas *a);

static void peeked(struct peek *peek, void *arg, const struct limiter_left left[LIMIT_COUNT])
{
	struct quota *q = arg;
	struct admin_quotas *a = q->all;

	CHECK(a->magic == QUOTAS_MAGIC && q->peek == peek);
	q->peek = NULL;
	a->open--;
	if (left != NULL) {
		q->known = true;
		memcpy(q->left, left, sizeof(q->left));
		ask_more(a);
	} else {
		a->next = a->count;
	}
	if (a->open == 0)
		give_back(a);
}

static void ask_more(struct admin_quotas *a)
{
	for (; a->next < a->count && a->open < QUOTAS_AT_ONCE; a->next++, a->open++) {
		struct quota *q = &a->quotas[a->next];
		q->peek = limiter_peek(a->worker->limiter, q->scope, q->name, q->limits, peeked, q);
	}
}

static void time_is_up(void *arg)
{
	struct admin_quotas *a = arg;

	CHECK(a->magic == QUOTAS_MAGIC);
	for (size_t i = 0; i < a->next; i++)
		limiter_peek_cancel(&a->quotas[i].peek);
	a->open = 0;
	give_back(a);
}

/* Visits every worker, and is the first one's: the others may come after its end. */
static void begin(struct worker *w, void *quotas)
{
	struct admin_quotas *a = quotas;

	if (w->index != 0)
		return;
	a->worker = w;
	loop_timer_init(&a->timer, w->loop, time_is_up, a);
	ask_more(a);
	if (a->open == 0)
		give_back(a);
	else
		loop_timer_set(&a->timer, a->config->redis.timeout);
}

struct admin_quotas *admin_quotas_ask(struct server *server, struct loop *control, const struct config *config,
				      void (*done)(void *arg), void *arg)
{
	struct admin_quotas *a = mem_new(sizeof(*a));

	*a = (struct admin_quotas){
		.magic = QUOTAS_MAGIC, .config = config_hold(config), .control = control, .done = done, .arg = arg
	};
	a->quotas = mem_new_array(QUOTAS_MOST, sizeof(*a->quotas));
	list_all(a);
	server_visit(server, begin, NULL, a);
	return a;
}

void admin_quotas_free(struct admin_quotas **handle)
{
	struct admin_quotas *a = *handle;

	*handle = NULL;
	if (a == NULL)
		return;
	CHECK(a->magic == QUOTAS_MAGIC);
	if (a->over)
		release(a);
	else
		a->done = NULL;
}

/* ---- telling -------------------------------------------------------------------------------------------------------------- */

static void put_limit(struct buf *out, const struct quota *q, enum limit_kind kind)
{
	const struct limit *limit = &q->limits->of[kind];
	const struct limiter_left *left = &q->left[kind];
	bool fills = limit_unit_of(kind) != LIMIT_CONCURRENCY; /* places come free when their calls end */

	buf_format(out, "\"%s\":{\"limit\":%" PRId64, limit_name(kind), limit->count);
	if (fills && limit->strict)
		buf_append(out, SLICE(",\"strict\":true"));
	else if (fills)
		buf_format(out, ",\"burst\":%" PRId64, limit->burst);
	if (q->known)
		buf_format(out, ",\"left\":%" PRId64 ",\"used\":%.4f", left->remaining, left->used);
	else
		buf_append(out, SLICE(",\"left\":null,\"used\":null"));
	if (fills && q->known)
		buf_format(out, ",\"full_in_ms\":%" PRId64, (left->reset + CLOCK_MILLISECOND - 1) / CLOCK_MILLISECOND);
	else if (fills)
		buf_append(out, SLICE(",\"full_in_ms\":null"));
	buf_append_byte(out, '}');
}

static void put_quota(struct buf *out, const struct quota *q)
{
	const char *comma = "";

	buf_append_json(out, q->name);
	buf_append(out, SLICE(":{"));
	for (int k = 0; k < LIMIT_COUNT; k++)
		if (q->limits->of[k].count > 0) {
			buf_append(out, slice_of(comma));
			put_limit(out, q, (enum limit_kind)k);
			comma = ",";
		}
	buf_append_byte(out, '}');
}

void admin_quotas_write(const struct admin_quotas *a, struct buf *out)
{
	static const enum limiter_scope order[] = { LIMITER_UPSTREAM, LIMITER_MODEL, LIMITER_TENANT };

	CHECK(a->over);
	buf_append_byte(out, '{');
	for (size_t s = 0; s < ARRAY_LENGTH(order); s++) {
		const char *comma = "";
		buf_format(out, "\"%ss\":{", limiter_scope_name(order[s]));
		for (size_t i = 0; i < a->count; i++)
			if (a->quotas[i].scope == order[s]) {
				buf_append(out, slice_of(comma));
				put_quota(out, &a->quotas[i]);
				comma = ",";
			}
		buf_append(out, SLICE("},"));
	}
	buf_format(out, "\"more\":%zu}", a->more);
}

void admin_quotas_fullest(const struct admin_quotas *a, double used[LIMITER_SCOPES][LIMIT_COUNT])
{
	CHECK(a->over);
	for (int s = 0; s < LIMITER_SCOPES; s++)
		for (int k = 0; k < LIMIT_COUNT; k++)
			used[s][k] = -1;
	for (size_t i = 0; i < a->count; i++)
		for (int k = 0; k < LIMIT_COUNT; k++) {
			const struct limiter_left *left = &a->quotas[i].left[k];
			double *most = &used[a->quotas[i].scope][k];
			if (left->known && left->used > *most)
				*most = left->used;
		}
}

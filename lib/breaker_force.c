/* Breakers that are taken by hand: told to Redis, which tells all workers; nothing is in force here that Redis has not taken. A Redis that has lost it is told
 * by each report of a worker that knows it. */
#include "lib/breaker_internal.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "scripts.h"

/* Owned by the breakers; dies when it is answered. Holds its breaker. */
struct forcing {
	struct breaker *breaker;
	struct list node; /* in breakers->forcings */
	struct script_call *call;
	uint64_t serial;
	void (*done)(void *arg, bool taken); /* may be NULL */
	void *arg;
};

static void free_forcing(struct forcing *f)
{
	script_cancel(&f->call);
	list_remove(&f->node);
	breaker_let_go(f->breaker);
	mem_free(f);
}

void breakers_free_forcings(struct breakers *all)
{
	LIST_EACH (&all->forcings, node, following) {
		struct forcing *f = CONTAINER_OF(node, struct forcing, node);
		if (f->done != NULL)
			f->done(f->arg, false);
		free_forcing(f);
	}
}

static void on_forced(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct forcing *f = arg;
	struct breaker *b = f->breaker;
	struct breaker_standing standing;
	int64_t changed;
	bool taken = answer->result == REDIS_OK;
	CHECK(f->call == call);
	f->call = NULL;
	breakers_heard(b->breakers, BREAKER_FORCE, answer);
	if (taken && !breaker_wire_read_short(answer->reply, &changed, &standing)) {
		log_say(b->breakers->log, LOG_ERROR, "breaker.reply", "force answered something else");
		taken = false;
	}
	if (taken) {
		standing.why = changed ? BREAKER_WHY_FORCED : BREAKER_WHY_NOTHING;
		breaker_take(b, &standing, f->serial);
	}
	if (f->done != NULL)
		f->done(f->arg, taken);
	free_forcing(f);
}

void breaker_force(struct breaker *b, enum breaker_force force, void (*done)(void *arg, bool taken), void *arg)
{
	struct breakers *all = b->breakers;
	struct forcing *f = mem_new(sizeof(*f));
	struct breaker_wire wire;
	CHECK(b->magic == BREAKER_MAGIC && force <= BREAKER_FORCED_CLOSED);
	*f = (struct forcing){ .breaker = b, .serial = ++all->serial, .done = done, .arg = arg };
	breaker_hold_more(b);
	list_push_back(&all->forcings, &f->node);
	breaker_wire_force(&wire, BREAKER_WIRE_NOW, b->name, force, &b->rule);
	f->call = script_start(all->redis, &script_force, all->options.timeout, on_forced, f, 1, b->keys, wire.argument,
			       wire.arguments);
}

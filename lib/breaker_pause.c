/* Pauses: in force here from the moment they are set, told to Redis until it has confirmed them. One call of each model is on its way at a time; what was
 * extended meanwhile, or had no answer, is told again when Redis has answered anything. */
#include "lib/breaker_internal.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "scripts.h"

/* Owned by its breaker; the call is cancelled with it. */
struct pause {
	struct breaker *breaker;
	struct script_call *call;
	int64_t until; /* clock_now */
	int64_t sent;  /* `until` when the call was sent */
	bool told;     /* Redis knows it as long as that, or said it itself */
	char text[];   /* the model */
};

static void pause_free(void *arg)
{
	struct pause *p = arg;
	script_cancel(&p->call);
	mem_free(p);
}

void breaker_pauses_free(struct breaker *b)
{
	map_free(&b->pauses, pause_free);
}

static void drop(struct breaker *b, struct slice model)
{
	struct pause *p = map_remove(b->pauses, model);
	if (p != NULL)
		pause_free(p);
}

/* What is over goes; if none is, what ends first does. */
static void make_room(struct breaker *b)
{
	int64_t now = clock_now(), first_until = BREAKER_NEVER;
	struct slice model, first = SLICE_NONE;
	bool gone = false;
	void *value;
	for (size_t at = 0; map_next(b->pauses, &at, &model, &value);) {
		struct pause *p = value;
		if (p->until <= now) {
			drop(b, model);
			gone = true;
		} else if (p->until < first_until) {
			first_until = p->until;
			first = model;
		}
	}
	if (!gone)
		drop(b, first);
}

static struct pause *find_or_make(struct breaker *b, struct slice model)
{
	struct pause *p = map_get(b->pauses, model);
	if (p != NULL)
		return p;
	if (map_count(b->pauses) >= BREAKER_PAUSES_MOST)
		make_room(b);
	p = mem_new(sizeof(*p));
	p->breaker = b;
	map_put(b->pauses, model, p);
	return p;
}

static void on_told(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct pause *p = arg;
	struct breaker *b = p->breaker;
	CHECK(p->call == call);
	p->call = NULL;
	breakers_heard(b->breakers, BREAKER_PAUSE, answer);
	if (answer->result == REDIS_OK && p->until == p->sent)
		p->told = true;
	b->has_untold |= !p->told;
	if (answer->result == REDIS_OK)
		breaker_pauses_tell(b); /* it may have been extended meanwhile */
	else
		breaker_go_alone(b);
	breaker_schedule(b);
}

static void tell(struct pause *p, struct slice model)
{
	struct breaker *b = p->breaker;
	struct breaker_wire wire;
	p->sent = p->until;
	breaker_wire_pause(&wire, BREAKER_WIRE_NOW, b->name, model, p->until - clock_now());
	p->call = script_start(b->breakers->redis, &script_pause, b->breakers->options.timeout, on_told, p, 1,
			       &b->keys[BREAKER_KEY_PAUSES], wire.argument, wire.arguments);
}

void breaker_pauses_tell(struct breaker *b)
{
	int64_t now = clock_now();
	struct slice model;
	void *value;
	for (size_t at = 0; b->has_untold && map_next(b->pauses, &at, &model, &value);) {
		struct pause *p = value;
		if (!p->told && p->call == NULL && p->until > now)
			tell(p, model);
	}
	b->has_untold = false;
}

static bool extend(struct breaker *b, struct slice model, int64_t length, struct pause **extended)
{
	int64_t until = clock_now() + (length < BREAKER_PAUSE_MOST ? length : BREAKER_PAUSE_MOST);
	struct pause *p = map_get(b->pauses, model);
	if (length <= 0 || model.len > BREAKER_MODEL_MOST || (p != NULL && p->until >= until))
		return false;
	p = find_or_make(b, model);
	p->until = until;
	*extended = p;
	return true;
}

void breaker_pause(struct breaker *b, struct slice model, int64_t length)
{
	struct pause *p;
	CHECK(b->magic == BREAKER_MAGIC && model.len <= BREAKER_MODEL_MOST);
	if (!extend(b, model, length, &p))
		return;
	p->told = false;
	if (p->call == NULL)
		tell(p, model);
}

void breaker_pause_heard(struct breaker *b, struct slice model, int64_t left)
{
	struct pause *p;
	if (extend(b, model, left, &p))
		p->told = true;
}

int64_t breaker_paused(const struct breaker *b, struct slice model)
{
	CHECK(b->magic == BREAKER_MAGIC);
	if (map_count(b->pauses) == 0)
		return 0;
	const struct pause *p = map_get(b->pauses, model);
	int64_t left = p == NULL ? 0 : p->until - clock_now();
	return left > 0 ? left : 0;
}

void breaker_pauses(const struct breaker *b, void (*each)(void *arg, struct slice model, int64_t left), void *arg)
{
	int64_t now = clock_now();
	struct slice model;
	void *value;
	for (size_t at = 0; map_next(b->pauses, &at, &model, &value);) {
		const struct pause *p = value;
		if (p->until > now)
			each(arg, model, p->until - now);
	}
}

/* Begun on the control thread, carried to the first worker, answered there, posted back, as in admin_purge.c. One thread at a time has the object. The other
 * workers, here and elsewhere, hear of it from Redis. */
#include "svc/admin_force.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/breaker.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "svc/admin_body.h"
#include "svc/config.h"
#include "svc/server.h"

enum { FORCE_MAGIC = 0x464F5243, FORCE_ROOM = 16 * 1024 };
#define ALLOWED                                                                                                        \
	"Allowed: {\"force\": \"open\", \"closed\" or \"auto\"}, with \"endpoint\": URL for one of its endpoints, "    \
	"and "                                                                                                         \
	"with \"model\": NAME, as the upstream calls it, where it has breaker.per_model."

/* The control thread's, but from admin_force_start to `over`, when it is the worker's. */
struct admin_force {
	unsigned magic;
	struct mem *mem;
	struct slice upstream, endpoint,
		model; /* in the arena; endpoint empty: all of them; model empty: the endpoint's own */
	enum breaker_force force;
	struct loop *control;
	void (*done)(void *arg);
	void *arg;
	unsigned asked, open, taken; /* breakers; of these, not answered yet; those that Redis has */
};

/* ---- what is asked for ----------------------------------------------------------------------------------------------------- */

/* What the body says; the texts are jansson's. */
struct wanted {
	const struct config *config;
	struct slice endpoint, model;
	enum breaker_force force;
	bool has_force;
};

static bool take_force(struct wanted *w, struct slice text)
{
	static const enum breaker_force all[] = { BREAKER_AUTO, BREAKER_FORCED_OPEN, BREAKER_FORCED_CLOSED };

	for (size_t i = 0; i < ARRAY_LENGTH(all); i++)
		if (slice_equal(slice_of(breaker_force_name(all[i])), text)) {
			w->force = all[i];
			w->has_force = true;
		}
	return w->has_force;
}

static bool has_endpoint(const struct config_upstream *u, struct slice url)
{
	for (size_t i = 0; i < u->endpoints_count; i++)
		if (slice_equal(slice_of(u->endpoints[i].url), url))
			return true;
	return false;
}

/* What the upstream calls a model that clients call so. NULL: the same, or it knows no such model, which a client may ask for nevertheless. */
static const char *called_otherwise(const struct config *config, const struct config_upstream *u, struct slice name)
{
	const char *other = NULL;

	for (size_t i = 0; i < config->models_count; i++) {
		const struct config_model *m = &config->models[i];
		for (size_t k = 0; k < m->targets_count; k++) {
			const struct config_target *t = &m->targets[k];
			const char *theirs = t->model != NULL ? t->model : m->name;
			if (t->upstream == u && slice_equal(slice_of(theirs), name))
				return NULL;
			if (t->upstream == u && slice_equal(slice_of(m->name), name))
				other = theirs;
		}
	}
	return other;
}

static bool take_model(struct wanted *w, const struct config_upstream *u, const json_t *value, struct buf *error)
{
	const char *theirs;
	char wanted[BREAKER_MODEL_MOST + 64];

	w->model = admin_body_text(value);
	if (!u->breaker_per_model)
		return admin_body_wrong(error, "model", value, "allowed: this upstream is without breaker.per_model",
					ALLOWED);
	if (w->model.len == 0 || w->model.len > BREAKER_MODEL_MOST)
		return admin_body_wrong(error, "model", value, "a name of 1 to 256 bytes", ALLOWED);
	theirs = called_otherwise(w->config, u, w->model);
	if (theirs == NULL)
		return true;
	snprintf(wanted, sizeof(wanted), "what this upstream calls it, \"%s\"", theirs);
	return admin_body_wrong(error, "model", value, wanted, ALLOWED);
}

static bool take_member(struct wanted *w, const struct config_upstream *u, const char *name, const json_t *value,
			struct buf *error)
{
	struct slice text = admin_body_text(value);

	if (strcmp(name, "force") == 0)
		return take_force(w, text) ||
		       admin_body_wrong(error, name, value, "\"open\", \"closed\" or \"auto\"", ALLOWED);
	if (strcmp(name, "endpoint") == 0) {
		w->endpoint = text;
		return has_endpoint(u, text) ||
		       admin_body_wrong(error, name, value,
					"the url of one of its endpoints, as GET /breakers lists them", ALLOWED);
	}
	if (strcmp(name, "model") == 0)
		return take_model(w, u, value, error);
	return admin_body_unknown(error, name, ALLOWED);
}

static bool take_all(struct wanted *w, const struct config_upstream *u, json_t *body, struct buf *error)
{
	const char *name;
	json_t *value;

	json_object_foreach(body, name, value) if (!take_member(w, u, name, value, error)) return false;
	if (!w->has_force)
		buf_format(error, "The member \"force\" is not there. " ALLOWED);
	return w->has_force;
}

static void say_unknown(struct slice name, const struct config *config, struct buf *error)
{
	buf_format(error, "There is no upstream \"%.*s\" here. Allowed: ", SLICE_ARGS(slice_first(name, 64)));
	for (size_t i = 0; i < config->upstreams_count; i++)
		buf_format(error, "%s%s", i > 0 ? ", " : "", config->upstreams[i].name);
	buf_append_byte(error, '.');
}

static struct admin_force *make(const struct wanted *w, struct slice upstream)
{
	struct admin_force *f = mem_new(sizeof(*f));

	*f = (struct admin_force){ .magic = FORCE_MAGIC, .mem = mem_arena(FORCE_ROOM), .force = w->force };
	f->upstream = mem_copy(f->mem, upstream);
	f->endpoint = mem_copy(f->mem, w->endpoint);
	f->model = mem_copy(f->mem, w->model);
	CHECK(f->upstream.len == upstream.len && f->endpoint.len == w->endpoint.len && f->model.len == w->model.len);
	return f;
}

struct admin_force *admin_force_read(struct slice upstream, struct slice body, const struct config *config,
				     struct buf *error, int *status)
{
	const struct config_upstream *u = config_find_upstream(config, upstream);
	struct wanted w = { .config = config };
	struct admin_force *f = NULL;
	json_t *object;

	*status = u == NULL ? 404 : 400;
	if (u == NULL) {
		say_unknown(upstream, config, error);
		return NULL;
	}
	object = admin_body_read(body, ALLOWED, error);
	if (object != NULL && take_all(&w, u, object, error))
		f = make(&w, upstream);
	json_decref(object);
	return f;
}

/* ---- having it done -------------------------------------------------------------------------------------------------------- */

/* On the control thread again. */
static void over(void *force)
{
	struct admin_force *f = force;

	CHECK(f->magic == FORCE_MAGIC && f->open == 0);
	f->done(f->arg);
}

static void forced(void *force, bool taken)
{
	struct admin_force *f = force;

	CHECK(f->magic == FORCE_MAGIC && f->open > 0);
	f->taken += taken;
	if (--f->open == 0)
		loop_post(f->control, over, f);
}

static void force_one(struct admin_force *f, struct worker *w, size_t upstream, size_t endpoint)
{
	struct worker_upstream *u = w->now->upstreams[upstream];
	struct breaker *breaker = u->endpoints[endpoint].breaker;

	if (f->model.len > 0)
		breaker = worker_model_breaker(w, u, &w->now->config->upstreams[upstream], endpoint, f->model);
	f->asked++;
	if (breaker == NULL)
		return;
	f->open++;
	breaker_force(breaker, f->force, forced, f);
}

/* Visits every worker, and is the first one's: the others may come after its end. */
static void begin(struct worker *w, void *force)
{
	struct admin_force *f = force;
	const struct config_upstream *u;

	if (w->index != 0)
		return;
	u = config_find_upstream(w->now->config, f->upstream);
	for (size_t k = 0; u != NULL && k < u->endpoints_count; k++)
		if (f->endpoint.len == 0 || slice_equal(slice_of(u->endpoints[k].url), f->endpoint))
			force_one(f, w, (size_t)(u - w->now->config->upstreams), k);
	if (f->open == 0)
		loop_post(f->control, over, f);
}

void admin_force_start(struct admin_force *f, struct server *server, struct loop *control, void (*done)(void *arg),
		       void *arg)
{
	f->control = control;
	f->done = done;
	f->arg = arg;
	server_visit(server, begin, NULL, f);
}

void admin_force_write(const struct admin_force *f, struct buf *out, int *status)
{
	if (f->asked == 0) {
		*status = 404;
		buf_append(out, SLICE("{\"error\":\"A reload has taken it away meanwhile.\"}\n"));
	} else if (f->taken < f->asked) {
		*status = 503;
		buf_format(out,
			   "{\"error\":\"Redis took this for %u of %u breakers; it may have for more all the same. Ask "
			   "again.\"}\n",
			   f->taken, f->asked);
	} else {
		*status = 200;
		buf_append(out, SLICE("{\"upstream\":"));
		buf_append_json(out, f->upstream);
		buf_format(out, ",\"force\":\"%s\",\"breakers\":%u}\n", breaker_force_name(f->force), f->taken);
	}
}

void admin_force_free(struct admin_force **handle)
{
	struct admin_force *f = *handle;

	*handle = NULL;
	if (f == NULL)
		return;
	f->magic = 0;
	mem_arena_free(&f->mem);
	mem_free(f);
}

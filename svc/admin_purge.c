/* Begun on the control thread, carried to the first worker, answered there, posted back, as in admin_quotas.c:
 *
 *   control   admin_purge_start ─┐                              ┌─► over ─► done
 *   worker 0                     └─► begin ─► flight_purge_start ┘
 *
 * One thread at a time has the object. The other workers, here and elsewhere, hear of it from Redis. */
#include "svc/admin_purge.h"

#include <inttypes.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/flight.h"
#include "lib/limiter.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "svc/admin_body.h"
#include "svc/config.h"
#include "svc/server.h"
#include "svc/share.h"

enum { PURGE_MAGIC = 0x50555247, PURGE_ROOM = 8 * 1024 };
#define ALLOWED                                                                                                        \
	"Allowed: {\"tenant\": NAME}, {\"model\": NAME}, both together, {\"key\": 64 hexadecimal digits}, or "         \
	"{\"all\": true}."

/* The control thread's, but from admin_purge_start to `over`, when it is the worker's. */
struct admin_purge {
	unsigned magic;
	struct mem *mem;
	struct slice field, what; /* of the hash of purges; for people; in the arena */
	int64_t timeout;
	struct loop *control;
	void (*done)(void *arg);
	void *arg;
	struct worker *worker;
	int64_t at; /* Redis' time; -1: it did not say */
};

/* ---- what is asked for ----------------------------------------------------------------------------------------------------- */

/* What the body says, member by member; the texts are jansson's. */
struct wanted {
	struct slice tenant, model;
	unsigned char key[ANSWER_KEY];
	bool has_key, all;
};

static bool wrong(struct buf *error, const char *name, const json_t *found, const char *expected)
{
	return admin_body_wrong(error, name, found, expected, ALLOWED);
}

static bool is_tenant(const struct config *config, struct slice name)
{
	for (size_t i = 0; i < config->tenants_count; i++)
		if (slice_equal(slice_of(config->tenants[i].name), name))
			return true;
	return false;
}

static bool take_member(struct wanted *w, const struct config *config, const char *name, const json_t *value,
			struct buf *error)
{
	struct slice text = admin_body_text(value);

	if (strcmp(name, "tenant") == 0) {
		w->tenant = text;
		return is_tenant(config, text) || wrong(error, name, value, "the name of a tenant here");
	}
	if (strcmp(name, "model") == 0) {
		w->model = text;
		return (text.len > 0 && text.len <= LIMITER_NAME_MOST) ||
		       wrong(error, name, value, "a name of 1 to 256 bytes");
	}
	if (strcmp(name, "key") == 0) {
		w->has_key = text_unhex(text, w->key, sizeof(w->key));
		return w->has_key || wrong(error, name, value, "a key as Cache-Status tells it");
	}
	if (strcmp(name, "all") == 0) {
		w->all = true;
		return json_is_true(value) || wrong(error, name, value, "true");
	}
	return admin_body_unknown(error, name, ALLOWED);
}

/* "all" goes with nothing else, and neither does "key". */
static bool is_one(const struct wanted *w, size_t members, struct buf *error)
{
	if (members == 0)
		buf_format(error, "Found an empty object, which names nothing. " ALLOWED);
	else if (members > 1 && (w->all || w->has_key))
		buf_format(error, "Found \"%s\" beside another member. " ALLOWED, w->all ? "all" : "key");
	return error->len == 0;
}

static bool take_all(struct wanted *w, const struct config *config, json_t *body, struct buf *error)
{
	const char *name;
	json_t *value;

	json_object_foreach(body, name, value) if (!take_member(w, config, name, value, error)) return false;
	return is_one(w, json_object_size(body), error);
}

static struct slice name_it(const struct wanted *w, struct slice key, struct mem *mem)
{
	if (w->all)
		return SLICE("everything");
	if (w->has_key)
		return mem_format(mem, "key %.*s", SLICE_ARGS(key));
	if (w->model.len == 0)
		return mem_format(mem, "tenant %.*s", SLICE_ARGS(w->tenant));
	if (w->tenant.len == 0)
		return mem_format(mem, "model %.*s", SLICE_ARGS(w->model));
	return mem_format(mem, "tenant %.*s, model %.*s", SLICE_ARGS(w->tenant), SLICE_ARGS(w->model));
}

static struct admin_purge *make(const struct wanted *w, const struct config *config)
{
	struct admin_purge *p = mem_new(sizeof(*p));
	char hex[2 * ANSWER_KEY];
	struct slice key = slice_make(hex, w->has_key ? text_hex(hex, w->key, ANSWER_KEY) : 0);

	*p = (struct admin_purge){
		.magic = PURGE_MAGIC, .mem = mem_arena(PURGE_ROOM), .timeout = config->redis.timeout, .at = -1
	};
	p->field = share_purge_name(w->tenant, w->model, key, p->mem);
	p->what = name_it(w, key, p->mem);
	CHECK(p->field.len > 0 && p->what.len > 0);
	return p;
}

struct admin_purge *admin_purge_read(struct slice body, const struct config *config, struct buf *error)
{
	json_t *object = admin_body_read(body, ALLOWED, error);
	struct wanted w = { .all = false };
	struct admin_purge *p = NULL;

	if (object != NULL && take_all(&w, config, object, error))
		p = make(&w, config);
	json_decref(object);
	return p;
}

/* ---- having it done -------------------------------------------------------------------------------------------------------- */

/* On the control thread again. */
static void over(void *purge)
{
	struct admin_purge *p = purge;

	CHECK(p->magic == PURGE_MAGIC);
	p->done(p->arg);
}

static void purged(struct flight_purge *call, void *purge, int64_t at)
{
	struct admin_purge *p = purge;

	CHECK(p->magic == PURGE_MAGIC && call != NULL);
	p->at = at;
	worker_purged(p->worker);
	loop_post(p->control, over, p);
}

/* Visits every worker, and is the first one's: the others may come after its end. */
static void begin(struct worker *w, void *purge)
{
	struct admin_purge *p = purge;

	if (w->index != 0)
		return;
	p->worker = w;
	(void)flight_purge_start(w->answers, p->field, p->timeout, purged, p);
}

void admin_purge_start(struct admin_purge *p, struct server *server, struct loop *control, void (*done)(void *arg),
		       void *arg)
{
	p->control = control;
	p->done = done;
	p->arg = arg;
	server_visit(server, begin, NULL, p);
}

bool admin_purge_write(const struct admin_purge *p, struct buf *out)
{
	if (p->at < 0)
		return false;
	buf_append(out, SLICE("{\"purged\":"));
	buf_append_json(out, p->what);
	buf_format(out, ",\"at_ms\":%" PRId64 "}\n", p->at / CLOCK_MILLISECOND);
	return true;
}

void admin_purge_free(struct admin_purge **handle)
{
	struct admin_purge *p = *handle;

	*handle = NULL;
	if (p == NULL)
		return;
	p->magic = 0;
	mem_arena_free(&p->mem);
	mem_free(p);
}

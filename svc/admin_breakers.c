/* A breaker's state is the fleet's, so that what the first worker says of it stands for all. Calls in flight are summed. A model's breaker, or a pause, may be
 * known to some workers only: what any of them knows is told. */
#include "svc/admin_breakers.h"

#include <inttypes.h>
#include <string.h>

#include "lib/breaker.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "svc/config.h"
#include "svc/worker.h"

/* One endpoint. */
struct seen {
	bool looked;
	struct breaker_view view;
	unsigned in_flight;
	struct map *models; /* name -> struct breaker_view */
	struct map *pauses; /* model -> int64_t, what is left */
};

struct admin_breakers {
	const struct config *config;
	struct seen **upstreams; /* as many as the configuration has, of each as many as it has endpoints */
};

struct admin_breakers *admin_breakers_new(const struct config *config)
{
	struct admin_breakers *a = mem_new(sizeof(*a));

	a->config = config;
	a->upstreams = mem_new_array(config->upstreams_count, sizeof(struct seen *));
	for (size_t i = 0; i < config->upstreams_count; i++) {
		size_t count = config->upstreams[i].endpoints_count;
		a->upstreams[i] = mem_new_array(count, sizeof(struct seen));
		for (size_t k = 0; k < count; k++)
			a->upstreams[i][k] = (struct seen){ .models = map_new(), .pauses = map_new() };
	}
	return a;
}

void admin_breakers_free(struct admin_breakers **handle)
{
	struct admin_breakers *a = *handle;

	*handle = NULL;
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->config->upstreams_count; i++) {
		for (size_t k = 0; k < a->config->upstreams[i].endpoints_count; k++) {
			map_free(&a->upstreams[i][k].models, mem_free);
			map_free(&a->upstreams[i][k].pauses, mem_free);
		}
		mem_free(a->upstreams[i]);
	}
	mem_free(a->upstreams);
	mem_free(a);
}

/* ---- looking --------------------------------------------------------------------------------------------------------------- */

static void keep_longest(void *seen, struct slice model, int64_t left)
{
	struct seen *s = seen;
	int64_t *kept = map_get(s->pauses, model);

	if (kept == NULL) {
		kept = mem_new(sizeof(*kept));
		*kept = left;
		map_put(s->pauses, model, kept);
	}
	*kept = left > *kept ? left : *kept;
}

static void look_at_models(struct seen *s, const struct map *models)
{
	struct slice name;
	void *breaker;

	for (size_t at = 0; map_next(models, &at, &name, &breaker);) {
		struct breaker_view *view;
		if (map_get(s->models, name) != NULL)
			continue;
		view = mem_new(sizeof(*view));
		breaker_look(breaker, view);
		map_put(s->models, name, view);
	}
}

static void look_at(struct seen *s, const struct worker_endpoint *e)
{
	s->in_flight += e->in_flight;
	if (!s->looked)
		breaker_look(e->breaker, &s->view);
	s->looked = true;
	look_at_models(s, e->models);
	breaker_pauses(e->breaker, keep_longest, s);
}

/* NULL: the configuration of the question has it not. */
static struct seen *find_seen(struct admin_breakers *a, const char *name, const char *url)
{
	const struct config_upstream *u = config_find_upstream(a->config, slice_of(name));

	for (size_t k = 0; u != NULL && k < u->endpoints_count; k++)
		if (strcmp(u->endpoints[k].url, url) == 0)
			return &a->upstreams[u - a->config->upstreams][k];
	return NULL;
}

/* A reload may be on its way: they are found by their names. */
void admin_breakers_look(struct admin_breakers *a, const struct worker *w)
{
	for (size_t i = 0; i < w->now->config->upstreams_count; i++) {
		const struct worker_upstream *u = w->now->upstreams[i];
		for (size_t k = 0; k < u->upstream->endpoints_count; k++) {
			struct seen *s = find_seen(a, u->upstream->name, u->upstream->endpoints[k].url);
			if (s != NULL)
				look_at(s, &u->endpoints[k]);
		}
	}
}

/* ---- telling --------------------------------------------------------------------------------------------------------------- */

static int64_t milliseconds(int64_t microseconds)
{
	return (microseconds + CLOCK_MILLISECOND - 1) / CLOCK_MILLISECOND;
}

static void put_view(struct buf *out, const struct breaker_view *v)
{
	buf_format(out, "\"state\":\"%s\",\"force\":\"%s\",\"wait_ms\":%" PRId64 ",\"trips\":%" PRId64,
		   breaker_state_name(v->state), breaker_force_name(v->force), milliseconds(v->wait), v->trips);
	buf_format(out,
		   ",\"window\":{\"calls\":%" PRId64 ",\"failed\":%" PRId64 ",\"first_bytes\":%" PRId64
		   ",\"slow\":%" PRId64 "},\"alone\":%s",
		   v->calls, v->failed, v->first_bytes, v->slow, v->alone ? "true" : "false");
}

static void put_models(struct buf *out, const struct map *models)
{
	const char *comma = "";
	struct slice name;
	void *view;

	buf_append(out, SLICE(",\"models\":{"));
	for (size_t at = 0; map_next(models, &at, &name, &view); comma = ",") {
		buf_append(out, slice_of(comma));
		buf_append_json(out, name);
		buf_append(out, SLICE(":{"));
		put_view(out, view);
		buf_append_byte(out, '}');
	}
	buf_append_byte(out, '}');
}

static void put_pauses(struct buf *out, const struct map *pauses)
{
	const char *comma = "";
	struct slice model;
	void *left;

	buf_append(out, SLICE(",\"pauses\":["));
	for (size_t at = 0; map_next(pauses, &at, &model, &left); comma = ",") {
		buf_format(out, "%s{\"model\":", comma);
		buf_append_json(out, model);
		buf_format(out, ",\"left_ms\":%" PRId64 "}", milliseconds(*(int64_t *)left));
	}
	buf_append_byte(out, ']');
}

static void put_endpoint(struct buf *out, const struct config_endpoint *e, const struct seen *s)
{
	buf_append(out, SLICE("{\"url\":"));
	buf_append_json(out, slice_of(e->url));
	buf_append(out, SLICE(",\"region\":"));
	if (e->region != NULL)
		buf_append_json(out, slice_of(e->region));
	else
		buf_append(out, SLICE("null"));
	buf_append_byte(out, ',');
	put_view(out, &s->view);
	buf_format(out, ",\"in_flight\":%u", s->in_flight);
	put_models(out, s->models);
	put_pauses(out, s->pauses);
	buf_append_byte(out, '}');
}

void admin_breakers_write_endpoints(const struct admin_breakers *a, size_t upstream, struct buf *out)
{
	const struct config_upstream *u = &a->config->upstreams[upstream];

	buf_append_byte(out, '[');
	for (size_t k = 0; k < u->endpoints_count; k++) {
		if (k > 0)
			buf_append_byte(out, ',');
		put_endpoint(out, &u->endpoints[k], &a->upstreams[upstream][k]);
	}
	buf_append_byte(out, ']');
}

void admin_breakers_write(const struct admin_breakers *a, struct buf *out)
{
	buf_append(out, SLICE("{\"upstreams\":{"));
	for (size_t i = 0; i < a->config->upstreams_count; i++) {
		const struct config_upstream *u = &a->config->upstreams[i];
		if (i > 0)
			buf_append_byte(out, ',');
		buf_append_json(out, slice_of(u->name));
		buf_format(out, ":{\"per_model\":%s,\"endpoints\":", u->breaker_per_model ? "true" : "false");
		admin_breakers_write_endpoints(a, i, out);
		buf_append_byte(out, '}');
	}
	buf_append(out, SLICE("}}\n"));
}

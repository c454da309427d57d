/* Light requests that find out whether an endpoint is there before a client's request does, and whether it is back.
 *
 *   every `interval`, first worker of each instance ──► GET path ──► the endpoint's breaker: as the end of any call
 *
 * A closed breaker is told what came of it; a half open one gives it a ticket like to any call; an open one is left alone. So an endpoint that nobody uses is
 * known to be dead, and one that died comes back without a client having to try it.
 * Disadvantage: what answers such a request may still fail at real ones; the breaker counts both. */
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/pool.h"
#include "svc/worker_internal.h"

/* Of one endpoint. Its upstream's; dies with it. Between calls: `transfer` is the request under way, `probe` what it was allowed by; else the timer is set. */
struct worker_health {
	struct worker *worker;
	struct worker_upstream *upstream;
	size_t endpoint;
	struct loop_timer timer;
	struct probe *probe;
	struct transfer *transfer;
	int64_t began; /* the last check */
	int status;
	char *target; /* the path, behind the endpoint's prefix */
};

static struct breaker *breaker_of(const struct worker_health *h)
{
	return h->upstream->endpoints[h->endpoint].breaker;
}

/* From the beginning of one check to that of the next: what answers none is not asked less often. */
static void wait(struct worker_health *h)
{
	int64_t interval = h->upstream->upstream->health.interval, least = interval / 10;
	int64_t left = h->began + interval - clock_now();

	/* a tenth of it at random: not all instances at once */
	left -= (int64_t)(worker_random(h->worker) % (uint64_t)(interval / 10 + 1));
	loop_timer_set(&h->timer, left > least ? left : least);
}

/* A light request that nothing came back for tells what a connection that failed would: of a black hole that takes connections and requests, calls learn only
 * when their own time is over, which may be minutes. */
static bool is_silent(const struct worker_health *h, const struct pool_result *result)
{
	return h->status == 0 && (result->outcome == POOL_FIRST_BYTE_TIMEOUT || result->outcome == POOL_TOTAL_TIMEOUT);
}

static enum breaker_result judge(const struct worker_health *h, const struct pool_result *result)
{
	if (result->outcome == POOL_CONNECT_FAILED || result->outcome == POOL_TLS_FAILED || is_silent(h, result))
		return BREAKER_UNREACHABLE;
	if (result->outcome == POOL_NO_SLOT || result->outcome == POOL_RESET_UNSENT || h->status == 429)
		return BREAKER_NOTHING;
	return result->outcome == POOL_DONE && h->status < 500 ? BREAKER_SUCCESS : BREAKER_FAILURE;
}

static void on_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	struct worker_health *h = arg;

	CHECK(t == h->transfer);
	h->status = head->status;
}

static bool on_body(struct transfer *t, void *arg, struct slice bytes)
{
	(void)t, (void)arg, (void)bytes;
	return true;
}

static void on_done(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct worker_health *h = arg;
	enum breaker_result came = judge(h, result);

	CHECK(t == h->transfer);
	h->transfer = NULL;
	if (h->probe != NULL)
		breaker_probe_end(&h->probe, came);
	else if (came != BREAKER_NOTHING)
		breaker_note(breaker_of(h), came, false);
	wait(h);
}

static const struct pool_receiver receiver = { on_head, on_body, on_done };

/* As the configuration is now: a reload that leaves the pools alone may have changed the credential. NULL: a reload took it away,
 * or gave it other pools, and only its last calls still hold it. */
static const struct config_upstream *as_it_is_now(const struct worker_health *h)
{
	const struct worker_generation *now = h->worker->now;

	for (size_t i = 0; i < now->config->upstreams_count; i++)
		if (now->upstreams[i] == h->upstream)
			return &now->config->upstreams[i];
	return NULL;
}

/* The credential, and what an API asks of any request. */
static void ask(struct worker_health *h, const struct config_upstream *u)
{
	struct pool_field fields[3] = { { SLICE("Accept-Encoding"), SLICE("identity") } };
	struct pool_request request = { .method = SLICE("GET"),
					.target = slice_of(h->target),
					.fields = fields,
					.fields_count = 1,
					.wait_timeout = u->health.timeout,
					.first_byte_timeout = u->health.timeout,
					.idle_timeout = u->health.timeout,
					.total_timeout = u->health.timeout };

	if (u->credential.header != NULL)
		fields[request.fields_count++] =
			(struct pool_field){ slice_of(u->credential.header), slice_of(u->credential.value) };
	if (u->dialect == DIALECT_anthropic)
		fields[request.fields_count++] = (struct pool_field){ SLICE("anthropic-version"), SLICE("2023-06-01") };
	h->status = 0;
	h->transfer = pool_start(h->upstream->endpoints[h->endpoint].calls, &request, &receiver, h);
}

static void probed(struct probe *probe, void *arg, bool granted)
{
	struct worker_health *h = arg;
	const struct config_upstream *u = as_it_is_now(h);

	CHECK(probe == h->probe);
	if (granted && u != NULL) {
		ask(h, u);
		return;
	}
	breaker_probe_end(&h->probe, BREAKER_NOTHING);
	wait(h);
}

static void time_has_come(void *arg)
{
	struct worker_health *h = arg;
	const struct config_upstream *u = as_it_is_now(h);

	if (u == NULL)
		return; /* and never again */
	h->began = clock_now();
	switch (breaker_gate(breaker_of(h))) {
	case BREAKER_PASS:
		ask(h, u);
		break;
	case BREAKER_ASK:
		h->probe = breaker_probe(breaker_of(h), u->health.timeout + CLOCK_SECOND, probed, h);
		break;
	case BREAKER_STOP:
		wait(h);
		break;
	}
}

static char *behind(const char *prefix, const char *path)
{
	size_t size = strlen(prefix) + strlen(path) + 1;
	char *target = mem_new(size);

	snprintf(target, size, "%s%s", prefix, path);
	return target;
}

void worker_open_health(struct worker *w, struct worker_upstream *u, size_t endpoint)
{
	struct worker_health *h;

	if (w->index != 0 || u->upstream->health.path == NULL)
		return;
	h = mem_new(sizeof(*h));
	*h = (struct worker_health){ .worker = w, .upstream = u, .endpoint = endpoint };
	h->target = behind(u->upstream->endpoints[endpoint].prefix, u->upstream->health.path);
	loop_timer_init(&h->timer, w->loop, time_has_come, h);
	u->endpoints[endpoint].health = h;
	h->began = clock_now();
	wait(h);
}

void worker_close_health(struct worker_endpoint *e)
{
	struct worker_health *h = e->health;

	e->health = NULL;
	if (h == NULL)
		return;
	loop_timer_free(&h->timer);
	pool_cancel(&h->transfer);
	breaker_probe_end(&h->probe, BREAKER_NOTHING);
	mem_free(h->target);
	mem_free(h);
}

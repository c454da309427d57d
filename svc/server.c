/* Control and workers talk by posted messages alone. A visit is a baton: posted to the first worker, by it to the next, by the last one back to control; so a
 * scrape needs no lock and no worker waits for another.
 *
 * A drain looks at the workers ten times a second until all are at rest: requests ended, clients' connections closed, settles and ends of flights answered (for
 * a second: Redis may be away, and the leases end by themselves). Shortly before the deadline it ends what is left, so that clients still hear why. */
#include "svc/server.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/flight.h"
#include "lib/limiter.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pool.h"
#include "lib/text.h"
#include "svc/flow.h"
#include "svc/http.h"
#include "svc/server_memory.h"

#define DRAIN_LOOK      (100 * CLOCK_MILLISECOND)
#define SETTLE_PATIENCE CLOCK_SECOND

enum { SERVER_MAGIC = 0x53455256 };
enum drain_state { RUNNING, WAITING, ENDING, CUTTING, DRAINED };

struct thread {
	struct server *server;
	struct worker *worker;
	pthread_t id;
	bool runs;
};

/* Owned by main; lives on the control thread. Between calls: while `state` is ENDING or CUTTING, a look is on its way or the timer is set. */
struct server {
	unsigned magic;
	struct loop *loop;
	const struct config *config;
	struct log *log;
	struct worker_shared shared;
	struct http_listener *listeners[16];
	size_t listeners_count;
	struct http_handler handler;
	struct http_options options;
	struct thread *threads;
	size_t threads_count, warm;
	int64_t born;

	enum drain_state state;
	int64_t drain_began;
	struct loop_timer drain_timer;
	bool looking;
	size_t restless;    /* workers that the present look found at work */
	unsigned unsettled; /* settles that it found unanswered */
	unsigned untold;    /* ends of shared answers that it found the same */
	int64_t at_rest;    /* since when none was at work; 0: one is */
	void (*drained)(void *arg);
	void *drained_arg;
	struct server_memory *memory;
};

/* ---- the door of the data plane ------------------------------------------------------------------------------------------ */

/* Load balancers ask here, without a key. False: it is a request like any other. */
static bool answer_health(struct exchange *e, const struct worker *w)
{
	const struct http_head *head = http_head_of(e);
	struct slice body, query, path = slice_cut(head->target, '?', &query);
	bool ready = slice_equal(path, SLICE("/readyz")), good;
	struct http_field type = { SLICE("Content-Type"), SLICE("text/plain") };

	if ((!ready && !slice_equal(path, SLICE("/healthz"))) ||
	    (head->method != HTTP_GET && head->method != HTTP_HEAD))
		return false;
	good = !ready || atomic_load(&w->shared->ready);
	body = good ? SLICE("ok\n") : atomic_load(&w->shared->draining) ? SLICE("draining\n") : SLICE("warming up\n");
	http_answer(e, &(struct http_answer){ .status = good ? 200 : 503,
					      .fields = &type,
					      .fields_count = 1,
					      .content_length = (int64_t)body.len });
	(void)http_write(e, body);
	http_end(e, true);
	return true;
}

static void *take_head(struct exchange *e, void *worker)
{
	return answer_health(e, worker) ? NULL : flow_head(e, worker);
}

static bool open_listeners(struct server *s, char *error, size_t size)
{
	CHECK(s->config->listen_count <= ARRAY_LENGTH(s->listeners));
	for (size_t i = 0; i < s->config->listen_count; i++) {
		struct slice address = slice_of(s->config->listen[i]);
		struct http_listener *listener = http_listen(address, error, size);
		if (listener == NULL)
			return false;
		s->listeners[s->listeners_count++] = listener;
	}
	return true;
}

/* No worker accepts from them any more. */
static void close_listeners(void *arg)
{
	struct server *s = arg;

	for (size_t i = 0; i < s->listeners_count; i++)
		http_listener_free(&s->listeners[i]);
	s->listeners_count = 0;
}

static void open_worker(struct server *s, size_t index)
{
	struct thread *t = &s->threads[index];

	t->server = s;
	t->worker = worker_new(&s->shared, (int)index, s->config);
	t->worker->http = http_server_new(t->worker->loop, &s->options, &s->handler, t->worker, s->log);
	for (size_t i = 0; i < s->listeners_count; i++)
		http_server_accept(t->worker->http, s->listeners[i]);
}

static void name_instance(char name[24])
{
	unsigned char random[8];

	CHECK(getrandom(random, sizeof(random), 0) == (ssize_t)sizeof(random));
	name[text_hex(name, random, sizeof(random))] = '\0';
}

static unsigned connections_of_one(const struct config *config)
{
	return (unsigned)((config->client.connections + config->workers - 1) / config->workers);
}

static void drain_step(void *arg);

struct server *server_new(struct loop *control, const struct config *config, const struct redis_options *redis,
			  const struct redis_options *answers, struct log *log, char *error, size_t error_size)
{
	struct server *s = mem_new(sizeof(*s));

	s->magic = SERVER_MAGIC;
	s->loop = control;
	s->config = config_hold(config);
	s->log = log;
	s->born = clock_now();
	s->shared.redis = redis;
	s->shared.answers_redis = answers;
	s->shared.log = log;
	s->shared.pools = pool_shares_new();
	s->shared.lease_lost = flow_lease_lost;
	name_instance(s->shared.instance);
	s->handler = (struct http_handler){ take_head,   flow_body, flow_body_end, flow_writable,
					    flow_broken, flow_gone, flow_malformed };
	s->options = (struct http_options){ .head_timeout = config->client.head,
					    .body_timeout = config->client.body,
					    .body_rate = config->client.body_rate,
					    .idle_timeout = config->client.idle,
					    .write_stall = config->client.write_stall,
					    .connections = connections_of_one(config),
					    .server_name = "sluice" };
	loop_timer_init(&s->drain_timer, control, drain_step, s);
	if (!open_listeners(s, error, error_size)) {
		server_free(&s);
		return NULL;
	}
	s->threads_count = (size_t)config->workers;
	s->threads = mem_new_array(s->threads_count, sizeof(*s->threads));
	for (size_t i = 0; i < s->threads_count; i++)
		open_worker(s, i);
	return s;
}

/* ---- threads ------------------------------------------------------------------------------------------------------------- */

static void *run_worker(void *arg)
{
	struct thread *t = arg;

	loop_run(t->worker->loop);
	return NULL;
}

/* On the control thread, once a worker. */
static void one_more_warm(void *arg)
{
	struct server *s = arg;

	CHECK(s->magic == SERVER_MAGIC);
	if (++s->warm < s->threads_count || s->state != RUNNING)
		return;
	atomic_store(&s->shared.ready, true);
	log_say(s->log, LOG_INFO, "ready", "after %lld ms", (long long)((clock_now() - s->born) / CLOCK_MILLISECOND));
}

static void worker_is_warm(void *arg)
{
	struct thread *t = arg;

	worker_look_at_risks(t->worker);
	loop_post(t->server->loop, one_more_warm, t->server);
}

static void warm_worker(void *arg)
{
	struct thread *t = arg;

	worker_warm(t->worker, worker_is_warm, t);
}

/* Only the control thread takes signals: the others inherit the mask that stands when they are made. */
void server_start(struct server *s)
{
	sigset_t ours, before;

	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGHUP);
	CHECK(pthread_sigmask(SIG_BLOCK, &ours, &before) == 0);
	for (size_t i = 0; i < s->threads_count; i++) {
		struct thread *t = &s->threads[i];
		loop_post(t->worker->loop, warm_worker, t);
		t->runs = pthread_create(&t->id, NULL, run_worker, t) == 0;
		CHECK(t->runs);
	}
	CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	s->memory = server_memory_watch(s->loop, s, &s->shared, s->log);
}

static void stop_worker(void *arg)
{
	loop_stop(arg);
}

static void close_worker(struct thread *t)
{
	struct worker *w = t->worker;

	http_server_free(&w->http);
	while (w->requests_count > 0) /* they hear that they are gone, settle, and die at the end of a turn */
		loop_turn(w->loop, false);
	loop_turn(w->loop, false);
	worker_free(&t->worker);
}

/* What was on its way between the threads when they ended goes its way to the end here. */
static void finish_visits(struct server *s)
{
	bool ran = false;

	for (size_t i = 0; i < s->threads_count; i++) {
		ran |= s->threads[i].runs;
		loop_turn(s->threads[i].worker->loop, false);
	}
	if (ran)
		loop_turn(s->loop, false);
}

void server_free(struct server **handle)
{
	struct server *s = *handle;

	*handle = NULL;
	if (s == NULL)
		return;
	server_memory_free(&s->memory);
	s->state = DRAINED; /* a look that is on its way tells nobody any more */
	for (size_t i = 0; i < s->threads_count; i++)
		if (s->threads[i].runs)
			loop_post(s->threads[i].worker->loop, stop_worker, s->threads[i].worker->loop);
	for (size_t i = 0; i < s->threads_count; i++)
		if (s->threads[i].runs)
			CHECK(pthread_join(s->threads[i].id, NULL) == 0);
	finish_visits(s);
	for (size_t i = 0; i < s->threads_count; i++)
		close_worker(&s->threads[i]);
	close_listeners(s);
	loop_timer_free(&s->drain_timer);
	pool_shares_free(&s->shared.pools);
	config_release(&s->config);
	mem_free(s->threads);
	s->magic = 0;
	mem_free(s);
}

const struct config *server_config(const struct server *s)
{
	return s->config;
}

const struct worker_shared *server_shared(const struct server *s)
{
	return &s->shared;
}

int64_t server_born(const struct server *s)
{
	return s->born;
}

/* ---- visits -------------------------------------------------------------------------------------------------------------- */

struct visit {
	struct server *server;
	size_t next;
	void (*visit)(struct worker *, void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void visit_over(void *arg)
{
	struct visit *v = arg;

	CHECK(v->server->magic == SERVER_MAGIC);
	if (v->done != NULL)
		v->done(v->arg);
	mem_free(v);
}

static void visit_next(void *arg)
{
	struct visit *v = arg;
	struct server *s = v->server;

	v->visit(s->threads[v->next].worker, v->arg);
	if (++v->next < s->threads_count)
		loop_post(s->threads[v->next].worker->loop, visit_next, v);
	else
		loop_post(s->loop, visit_over, v);
}

void server_visit(struct server *s, void (*visit)(struct worker *, void *arg), void (*done)(void *arg), void *arg)
{
	struct visit *v = mem_new(sizeof(*v));

	*v = (struct visit){ .server = s, .visit = visit, .done = done, .arg = arg };
	loop_post(s->threads[0].worker->loop, visit_next, v);
}

/* ---- reload -------------------------------------------------------------------------------------------------------------- */

static void reload_worker(struct worker *w, void *config)
{
	worker_reload(w, config);
}

static void reload_over(void *config)
{
	const struct config *held = config;

	config_release(&held);
}

void server_reload(struct server *s, const struct config *next)
{
	const struct config *before = s->config;

	s->config = config_hold(next);
	config_release(&before);
	server_visit(s, reload_worker, reload_over, (void *)(uintptr_t)config_hold(next));
}

/* ---- drain --------------------------------------------------------------------------------------------------------------- */

static void refuse_new(struct worker *w, void *arg)
{
	(void)arg;
	http_server_stop_accepting(w->http);
	http_server_drain(w->http);
}

static void end_all(struct worker *w, void *arg)
{
	(void)arg;
	flow_abort_all(w, REFUSAL_draining);
}

static void look_at_worker(struct worker *w, void *arg)
{
	struct server *s = arg;
	struct http_stats stats;
	struct flights_stats flights;

	http_server_stats(w->http, &stats);
	flights_stats(w->flights, &flights);
	s->restless += w->requests_count > 0 || stats.connections > 0;
	s->unsettled += limiter_unsettled(w->limiter);
	s->untold += flights.unfinished;
}

/* The workers are at rest, and so is Redis, or it was waited for in vain. */
static bool has_settled(struct server *s)
{
	if (s->restless > 0) {
		s->at_rest = 0;
		return false;
	}
	if (s->at_rest == 0)
		s->at_rest = clock_now();
	if ((s->unsettled > 0 || s->untold > 0) && clock_now() - s->at_rest < SETTLE_PATIENCE)
		return false;
	if (s->unsettled > 0)
		log_say(s->log, LOG_WARNING, "drain",
			"Redis did not answer %u settles or debts: leases end by themselves, charges stay as they are",
			s->unsettled);
	if (s->untold > 0)
		log_say(s->log, LOG_WARNING, "drain",
			"Redis did not take the ends of %u shared answers: who reads along elsewhere takes over",
			s->untold);
	return true;
}

static void look_over(void *arg)
{
	struct server *s = arg;
	int64_t left = s->drain_began + s->config->drain.deadline - clock_now();

	s->looking = false;
	if (s->state == DRAINED)
		return;
	if (has_settled(s) || left <= 0) {
		if (s->restless > 0)
			log_say(s->log, LOG_WARNING, "drain", "the deadline has come; %zu workers were still at work",
				s->restless);
		s->state = DRAINED;
		s->drained(s->drained_arg);
		return;
	}
	loop_timer_set(&s->drain_timer, left < DRAIN_LOOK ? left : DRAIN_LOOK);
}

static void look(struct server *s)
{
	if (s->looking)
		return;
	s->looking = true;
	s->restless = 0;
	s->unsettled = 0;
	s->untold = 0;
	server_visit(s, look_at_worker, look_over, s);
}

/* What is still in flight is ended so long before the deadline: a tenth of it, a second at most. */
static int64_t farewell_time(const struct server *s)
{
	int64_t tenth = s->config->drain.deadline / 10;

	return s->drain_began + s->config->drain.deadline - (tenth < CLOCK_SECOND ? tenth : CLOCK_SECOND);
}

static void drain_step(void *arg)
{
	struct server *s = arg;

	CHECK(s->magic == SERVER_MAGIC);
	if (s->state == DRAINED) /* it was due when all ended */
		return;
	if (s->state == WAITING) {
		s->state = ENDING;
		log_say(s->log, LOG_INFO, "draining", "no new connections from now on");
		server_visit(s, refuse_new, close_listeners, s);
	}
	if (s->state == ENDING && clock_now() >= farewell_time(s))
		s->state = CUTTING;
	if (s->state == CUTTING) /* each time: one may have begun since */
		server_visit(s, end_all, NULL, NULL);
	look(s);
}

void server_drain(struct server *s, bool wait, void (*drained)(void *arg), void *arg)
{
	int64_t until = s->config->drain.wait;

	if (s->state == WAITING && !wait)
		loop_timer_set(&s->drain_timer, 0);
	if (s->state != RUNNING)
		return;
	s->state = WAITING;
	s->drain_began = clock_now();
	s->drained = drained;
	s->drained_arg = arg;
	atomic_store(&s->shared.draining, true);
	atomic_store(&s->shared.ready, false);
	if (until > s->config->drain.deadline)
		until = s->config->drain.deadline;
	log_say(s->log, LOG_INFO, "draining",
		"not ready from now on; %lld ms until new connections are refused, %lld ms until what is left is ended",
		wait ? (long long)(until / CLOCK_MILLISECOND) : 0LL,
		(long long)(s->config->drain.deadline / CLOCK_MILLISECOND));
	loop_timer_set(&s->drain_timer, wait ? until : 0);
}

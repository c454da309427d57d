#include "tests/support/breaker_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/log.h"
#include "lib/subscriber.h"
#include "tests/support/descriptors.h"
#include "tests/support/worker_link.h"

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

#define LONGEST_TEST (60 * CLOCK_SECOND)

struct breaker_rule breaker_rig_rule(int64_t open_for, int64_t probes)
{
	return (struct breaker_rule){ .window = CLOCK_MINUTE,
				      .min_calls = 10,
				      .error_rate = 5000,
				      .slow = CLOCK_SECOND,
				      .slow_rate = 100,
				      .slow_min_calls = 500,
				      .unreachable = 3,
				      .failures = 3,
				      .open_for = open_for,
				      .open_most = 8 * open_for,
				      .probes = probes };
}

/* ---- workers ------------------------------------------------------------------------------------------------------------ */

static void on_hint(void *arg, struct slice channel, struct slice text)
{
	struct rig_worker *w = arg;

	if (w->breakers != NULL && !w->deaf && slice_equal(channel, SLICE(BREAKER_CHANNEL)))
		breakers_hint(w->breakers, text);
}

static void on_invalidated(void *arg, struct slice key)
{
	struct rig_worker *w = arg;

	if (w->breakers != NULL && !w->deaf && key.data == NULL)
		breakers_missed(w->breakers);
}

static void on_answered(void *arg, enum breaker_script script, int64_t took)
{
	struct rig_worker *w = arg;

	assert_true(script < BREAKER_SCRIPTS && took >= 0);
	w->answers[script]++;
}

static void on_changed(void *arg, const struct breaker *breaker, bool tripped)
{
	struct rig_worker *w = arg;

	assert_true(w->any || breaker == w->breaker);
	w->changes++;
	w->tripped += tripped;
}

static void connect_worker(struct rig_worker *w, bool proxied)
{
	const struct subscriber_options hears = { .channels = { slice_of(w->channel), SLICE(BREAKER_CHANNEL) },
						  .hint = on_hint,
						  .invalidated = on_invalidated,
						  .arg = w };

	worker_link_open(w->rig->loop, w->rig->server, hears, &w->redis, &w->listener, proxied ? &w->proxy : NULL);
}

static void open_worker(struct rig_worker *w, const struct breaker_rig_options *o)
{
	const struct breaker_options options = { .timeout = o->timeout == 0 ? 30 * CLOCK_SECOND : o->timeout,
						 .flush = o->flush == 0 ? 5 * CLOCK_MILLISECOND : o->flush,
						 .channel = slice_of(w->channel),
						 .answered = on_answered,
						 .changed = on_changed,
						 .arg = w };

	connect_worker(w, o->proxied);
	w->breakers = breakers_new(w->rig->loop, w->redis, &options, w->rig->log);
	w->breaker = breaker_hold(w->breakers, SLICE("up"), &o->rule);
}

void breaker_rig_begin(struct breaker_rig *rig, const struct breaker_rig_options *options)
{
	memset(rig, 0, sizeof(*rig));
	rig->began = clock_now();
	rig->descriptors = descriptors_open();
	rig->server = redis_server_start(NULL);
	rig->loop = loop_new();
	rig->log_descriptor = memfd_create("log", MFD_CLOEXEC);
	rig->log = log_new(rig->log_descriptor, LOG_DEBUG);
	rig->workers = options->workers;
	for (size_t i = 0; i < rig->workers; i++) {
		struct rig_worker *w = &rig->worker[i];
		w->rig = rig;
		snprintf(w->channel, sizeof(w->channel), "sluice:w:%zu", i);
		open_worker(w, options);
	}
	/* The first reading, and another one as it begins to listen. */
	for (size_t i = 0; i < rig->workers; i++)
		while (rig->worker[i].answers[BREAKER_REPORT] < 2 || subscriber_epoch(rig->worker[i].listener) == 0)
			breaker_rig_turn(rig);
}

void breaker_rig_bury(struct rig_worker *w)
{
	subscriber_free(&w->listener);
	redis_free(&w->redis); /* what it still gets to know is that nothing was answered */
	for (size_t i = 0; i < RIG_PROBES; i++)
		if (w->rig->probe[i].worker == w) {
			breaker_probe_end(&w->rig->probe[i].probe, BREAKER_NOTHING);
			w->rig->probe[i].worker = NULL;
		}
	breaker_release(&w->breaker);
	breakers_free(&w->breakers);
	fault_proxy_free(&w->proxy);
}

static void check_expiries(struct redis_server *server)
{
	redisReply *keys = redis_server_command(server, "KEYS *");

	assert_int_equal(keys->type, REDIS_REPLY_ARRAY);
	for (size_t i = 0; i < keys->elements; i++)
		if (redis_server_int(server, "PTTL %s", keys->element[i]->str) == -1)
			fail_msg("%s has no expiry", keys->element[i]->str);
	freeReplyObject(keys);
}

void breaker_rig_turn(struct breaker_rig *rig)
{
	assert_true(clock_now() - rig->began < LONGEST_TEST);
	loop_turn(rig->loop, true); /* the listeners' pings see to it that it returns */
}

void breaker_rig_end(struct breaker_rig *rig)
{
	clock_test_release(); /* of a test that failed while it held the clock */
	for (size_t i = 0; i < RIG_PROBES; i++)
		breaker_probe_end(&rig->probe[i].probe, BREAKER_NOTHING);
	breaker_rig_until_returned(rig);
	if (redis_server_pid(rig->server) != 0) {
		assert_int_equal(breaker_rig_tickets(rig), 0);
		check_expiries(rig->server);
	}
	for (size_t i = 0; i < rig->workers; i++)
		if (rig->worker[i].breakers != NULL)
			breaker_rig_bury(&rig->worker[i]);
	loop_free(&rig->loop);
	redis_server_free(&rig->server);
	log_free(&rig->log);
	close(rig->log_descriptor);
	assert_int_equal(descriptors_open(), rig->descriptors);
}

/* ---- breakers -------------------------------------------------------------------------------------------------------------- */

struct breaker_view breaker_rig_look(const struct rig_worker *w)
{
	struct breaker_view view;

	breaker_look(w->breaker, &view);
	return view;
}

enum breaker_state breaker_rig_state(const struct rig_worker *w)
{
	return breaker_rig_look(w).state;
}

void breaker_rig_until_all(struct breaker_rig *rig, enum breaker_state state)
{
	for (size_t i = 0; i < rig->workers; i++)
		while (rig->worker[i].breakers != NULL && breaker_rig_state(&rig->worker[i]) != state)
			breaker_rig_turn(rig);
}

void breaker_rig_fail(struct rig_worker *w, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		breaker_note(w->breaker, BREAKER_FAILURE, false);
}

/* ---- probes ---------------------------------------------------------------------------------------------------------------- */

static void on_probed(struct probe *probe, void *arg, bool granted)
{
	struct rig_probe *p = arg;

	assert_ptr_equal(probe, p->probe);
	assert_false(p->told);
	p->told = true;
	p->granted = granted;
}

struct rig_probe *breaker_rig_ask(struct rig_worker *w)
{
	for (size_t i = 0; i < RIG_PROBES; i++) {
		struct rig_probe *p = &w->rig->probe[i];
		if (p->probe != NULL)
			continue;
		*p = (struct rig_probe){ .worker = w };
		p->probe = breaker_probe(w->breaker, RIG_LASTS, on_probed, p);
		assert_false(p->told); /* never inside the call */
		return p;
	}
	return NULL;
}

void breaker_rig_answer(struct rig_probe *p)
{
	while (!p->told)
		breaker_rig_turn(p->worker->rig);
}

int64_t breaker_rig_tickets(const struct breaker_rig *rig)
{
	return redis_server_int(rig->server, "ZCOUNT sluice:{b:up}:p 0 +inf");
}

unsigned breaker_rig_held(const struct breaker_rig *rig)
{
	unsigned held = 0;

	for (size_t i = 0; i < RIG_PROBES; i++)
		held += rig->probe[i].probe != NULL && rig->probe[i].granted;
	return held;
}

void breaker_rig_until_returned(struct breaker_rig *rig)
{
	for (size_t i = 0; i < rig->workers; i++)
		while (rig->worker[i].breakers != NULL && breakers_unfinished(rig->worker[i].breakers) > 0)
			breaker_rig_turn(rig);
}

int breaker_rig_logged(const struct breaker_rig *rig, const char *words)
{
	static char text[256 * 1024];
	int count = 0;
	ssize_t got = pread(rig->log_descriptor, text, sizeof(text) - 1, 0);

	text[got < 0 ? 0 : got] = '\0';
	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		count++;
	return count;
}

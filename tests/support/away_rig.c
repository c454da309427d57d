#include "tests/support/away_rig.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/log.h"

struct away away;

/* ---- the fleet ----------------------------------------------------------------------------------------------------------------- */

static void on_change(void *arg, bool alone, const char *why)
{
	struct worker *w = arg;
	assert_true((why != NULL) == alone);
	w->changes++;
	w->why = why;
}

static void on_turn(void *arg, struct slice id)
{
	struct worker *w = arg;
	w->turns++;
	snprintf(w->called, sizeof(w->called), "%.*s", SLICE_ARGS(id));
	if (away.call != NULL)
		away.call(id);
}

static void on_heard(void *arg, enum limiter_script script, int64_t took)
{
	struct worker *w = arg;
	assert_true(took >= 0);
	w->heard[script]++;
}

static void open_worker(struct worker *w, const char *url)
{
	struct redis_options options;
	const char *reason;
	char name[24];
	assert_true(redis_options_parse(slice_of(url), &options, &reason));
	snprintf(name, sizeof(name), "test.%d", (int)(w - away.worker));
	w->redis = redis_new(away.rig.loop, &options, NULL);
	w->limiter = limiter_new(away.rig.loop, w->redis,
				 &(struct limiter_options){ .timeout = 300 * CLOCK_MILLISECOND,
							    .lease = AWAY_LEASE,
							    .member = slice_of(name),
							    .channel = slice_of(name),
							    .changed = on_change,
							    .turn = on_turn,
							    .answered = on_heard,
							    .arg = w },
				 away.log);
	redis_options_free(&options);
}

bool away_is_alone(void *w)
{
	return limiter_state(((struct worker *)w)->limiter).alone;
}

bool away_is_back(void *w)
{
	return !away_is_alone(w);
}

bool away_has_settled(void *w)
{
	return limiter_unsettled(((struct worker *)w)->limiter) == 0;
}

static bool all_know_all(void *nothing)
{
	(void)nothing;
	for (int i = 0; i < AWAY_WORKERS; i++)
		if (limiter_state(away.worker[i].limiter).live != AWAY_WORKERS)
			return false;
	return true;
}

void away_until(bool (*condition)(void *), void *arg)
{
	int64_t end = clock_now() + 20 * CLOCK_SECOND;
	while (!condition(arg)) {
		assert_true(clock_now() < end);
		loop_turn(away.rig.loop, true);
	}
}

void away_until_all(bool (*condition)(void *))
{
	for (int i = 0; i < AWAY_WORKERS; i++)
		away_until(condition, &away.worker[i]);
}

void away_lose_redis(void)
{
	redis_server_kill(away.rig.server);
	away_until_all(away_is_alone);
}

void away_get_redis_back(void)
{
	redis_server_restart(away.rig.server);
	away_until_all(away_is_back);
}

#define SLOW_TOKEN (864 * CLOCK_SECOND)
const struct limits away_slow = { .of[LIMIT_tpd] = { .count = 100, .burst = 3000 } };

int64_t away_slow_used(const char *scope)
{
	int64_t tat = redis_server_int(away.rig.server, "HGET sluice:{%s}:q tpd", scope);
	int64_t now = redis_server_int(away.rig.server, "EVAL %s 0",
				       "local t = redis.call('TIME') return t[1] * 1000000 + t[2]");
	return tat > now ? (tat - now + SLOW_TOKEN / 2) / SLOW_TOKEN : 0;
}

void away_let_pass(int64_t time)
{
	for (int64_t end = clock_now() + time; clock_now() < end; poll(NULL, 0, 1))
		loop_turn(away.rig.loop, false);
}

static void begin_at(const char *url)
{
	memset(away.worker, 0, sizeof(away.worker));
	away.call = NULL;
	away.log_file = memfd_create("log", MFD_CLOEXEC);
	away.log = log_new(away.log_file, LOG_WARNING);
	for (int i = 0; i < AWAY_WORKERS; i++)
		open_worker(&away.worker[i], url);
}

int away_begin(void **state)
{
	(void)state;
	redis_rig_begin(&away.rig, NULL);
	begin_at(redis_server_url(away.rig.server));
	away_until(all_know_all, NULL);
	return 0;
}

int away_begin_without_redis(void **state)
{
	(void)state;
	redis_rig_begin(&away.rig, NULL);
	redis_server_kill(away.rig.server);
	begin_at(redis_server_url(away.rig.server));
	for (int i = 0; i < AWAY_WORKERS; i++)
		away_until(away_is_alone, &away.worker[i]);
	return 0;
}

int away_begin_behind_proxy(void **state)
{
	char target[200], url[64];
	(void)state;
	redis_rig_begin(&away.rig, NULL);
	snprintf(target, sizeof target, "unix:%s", redis_server_path(away.rig.server));
	away.proxy = fault_proxy_start("tcp:127.0.0.1:0", target);
	snprintf(url, sizeof url, "redis://127.0.0.1:%d", fault_proxy_port(away.proxy));
	fault_proxy_tell(away.proxy, "skip 2"); /* the greeting */
	begin_at(url);
	away_until(all_know_all, NULL);
	return 0;
}

static void note_open(struct lease *old, struct lease *new)
{
	size_t i = 0;
	while (i < ARRAY_LENGTH(away.open) && away.open[i] != old)
		i++;
	assert_true(i < ARRAY_LENGTH(away.open));
	away.open[i] = new;
}

int away_end(void **state)
{
	(void)state;
	int open = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(away.open); i++) {
		open += away.open[i] != NULL;
		limiter_settle(&away.open[i], &(struct limiter_used){ .never_sent = true });
	}
	for (int i = 0; i < AWAY_WORKERS; i++) {
		limiter_free(&away.worker[i].limiter);
		redis_free(&away.worker[i].redis);
	}
	fault_proxy_free(&away.proxy);
	log_free(&away.log);
	close(away.log_file);
	redis_rig_end(&away.rig);
	assert_int_equal(open, 0);
	return 0;
}

int away_logged(const char *event)
{
	static char text[65536];
	int count = 0;
	ssize_t length = pread(away.log_file, text, sizeof(text) - 1, 0);
	assert_in_range(length, 0, sizeof(text) - 2);
	text[length] = '\0';
	for (const char *at = text; (at = strstr(at, event)) != NULL; at++)
		count++;
	return count;
}

/* ---- asking -------------------------------------------------------------------------------------------------------------------- */

static void on_answer(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct attempt *a = arg;
	assert_ptr_equal(lease, a->lease);
	a->answer = *answer;
	a->count++;
	snprintf(a->id, sizeof(a->id), "%.*s", SLICE_ARGS(limiter_id(lease)));
}

static void begin_ask(struct worker *w, struct attempt *a, struct limiter_ask *ask)
{
	char id[32];
	snprintf(id, sizeof(id), "away.%u", ++away.ids);
	ask->id = slice_of(id);
	*a = (struct attempt){ .count = 0 };
	a->lease = limiter_admit(w->limiter, ask, on_answer, a);
	note_open(NULL, a->lease);
}

void away_start(struct worker *w, struct attempt *a, const struct limits *limits, int64_t tokens, bool share)
{
	struct limiter_ask ask = { .tokens = tokens, .share = share };
	ask.scope[LIMITER_TENANT].name = SLICE("acme");
	ask.scope[LIMITER_TENANT].limits = limits;
	ask.scope[LIMITER_TENANT].requests = 1;
	begin_ask(w, a, &ask);
}

enum limiter_verdict away_ask(struct worker *w, struct attempt *a, const struct limits *limits, int64_t tokens)
{
	away_start(w, a, limits, tokens, true);
	redis_rig_until(&away.rig, &a->count, 1);
	return a->answer.verdict;
}

void away_settle(struct attempt *a, int64_t tokens)
{
	if (a->lease != NULL)
		note_open(a->lease, NULL);
	limiter_settle(&a->lease, &(struct limiter_used){ .tokens = tokens });
}

enum limiter_verdict away_line(struct worker *w, struct attempt *a, const struct away_call *call)
{
	static struct line_rule rule; /* borrowed until settled */
	struct limiter_ask ask = { .share = !call->unshared,
				   .tokens = call->tokens,
				   .line = { .rule = &rule, .lane = LANE_HIGH } };
	rule = (struct line_rule){
		.depth = call->depth > 0 ? call->depth : 100, .weight = { 5, 3, 1 }, .share = { 1 }, .groups = 1
	};
	ask.line.most = call->most == 0 ? 10 * CLOCK_SECOND : call->most < 0 ? 0 : call->most;
	ask.scope[LIMITER_MODEL].name = SLICE("model");
	ask.scope[LIMITER_MODEL].limits = call->model;
	ask.scope[LIMITER_MODEL].requests = 1;
	ask.scope[LIMITER_UPSTREAM].name = SLICE("provider");
	ask.scope[LIMITER_UPSTREAM].limits = call->upstream;
	ask.scope[LIMITER_UPSTREAM].requests = 1;
	begin_ask(w, a, &ask);
	redis_rig_until(&away.rig, &a->count, 1);
	return a->answer.verdict;
}

enum limiter_verdict away_again(struct attempt *a, int64_t most)
{
	limiter_again(a->lease, most, on_answer, a);
	redis_rig_until(&away.rig, &a->count, a->count + 1);
	return a->answer.verdict;
}

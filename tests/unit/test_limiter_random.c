/* lib/limiter and lib/queue by chance: three workers of a fleet, many callers at a few models and one upstream, who wait in lines, are admitted, leave; and a Redis that suffers
 * all that a Redis can. Whatever happens:
 *
 *   every caller hears one verdict, within Redis' time-out, and none after it has waited as long as it may and the 100 ms that are promised
 *   where no fault loses what Redis knows, no more are in flight than the limit says; where workers admit by their shares, no more than that and all shares once,
 *   and Redis has been charged what was used, to the token
 *   at last nobody holds, owes or waits: not in the limiter, not in Redis; and no key is without an expiry
 *
 * Times are judged by a clock that runs only while the loop does: a process that stood still for a while may be late by that.
 * SLUICE_TEST_SEED repeats a run as far as time allows; SLUICE_SOAK=N makes N of it, each with the next seed (`make soak`). */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/support/queue_faults.h"
#include "tests/support/queue_rig.h"
#include "tests/support/random.h"
#include "tests/support/script_rig.h"

#include <hiredis/hiredis.h> /* after lib/redis.h: both say REDIS_OK */

enum { CALLERS = 120, STREAMS = 3 };
#define TIMEOUT   (50 * CLOCK_MILLISECOND)
#define BEAT      (500 * CLOCK_MILLISECOND)
#define LATE_MOST (100 * CLOCK_MILLISECOND)
#define TURN_MOST (5 * CLOCK_MILLISECOND)      /* what one turn of the loop counts for */
#define SLACK     (4 * TURN_MOST)              /* between a time and the turns that see that it has come */
#define ASK_AGAIN (500 * CLOCK_MILLISECOND)    /* who waits, when Redis has not answered (svc/flow_quota.c) */
#define TOKEN     (86400 * CLOCK_SECOND / 100) /* of tpd, so slow that nothing drains meanwhile: 864 s a token */

/* What a round does. */
static struct round {
	const char *name;
	int64_t length, lease;
	bool shares;  /* without Redis a worker's share decides */
	bool streams; /* some calls last longer than a lease */
	enum queue_faults_severity faults;
} play;

struct caller {
	struct queue_rig_worker *worker;
	struct lease *lease; /* NULL: nobody is there */
	struct queue_place *place;
	bool asking, waited, late, holds;
	int64_t until, free_at;    /* clock_now; when it is late, when its call is over */
	int64_t asked, late_since; /* by the clock `awake`; late_since -1: it is in time */
	struct limiter_ask ask;
	char id[24];
};

static const struct line_rule rules[2] = {
	{ .depth = 60, .weight = { 5, 3, 1 }, .share = { 100 }, .groups = 1 },
	{ .depth = 6, .weight = { 5, 3, 1 }, .share = { 60, 40 }, .groups = 2 },
};
static const struct limits upstream[2] = {
	{ .of[LIMIT_concurrency] = { .count = 8 },
	  .of[LIMIT_rpm] = { .count = 6000, .burst = 20 },
	  .of[LIMIT_tpm] = { .count = 200000, .burst = 1000 } },
	{ .of[LIMIT_concurrency] = { .count = 2 }, .of[LIMIT_rpm] = { .count = 12000, .strict = true } },
};
static const struct limits models[2] = {
	{ .of[LIMIT_concurrency] = { .count = 4 }, .of[LIMIT_tpm] = { .count = 100000, .strict = true } },
	{ .of[LIMIT_rpm] = { .count = 3000, .burst = 5 } },
};
static const struct limits tenant = {
	.of[LIMIT_rpm] = { .count = 60000, .burst = 1000 },
	.of[LIMIT_tpm] = { .count = 4000000, .burst = 100000 },
	.of[LIMIT_tpd] = { .count = 100, .burst = 1000000 },
	.of[LIMIT_concurrency] = { .count = 6 },
};
static const char *const tenants[2] = { "acme", "bee" };

static struct queue_rig rig;
static struct caller callers[CALLERS];
static uint64_t chance;
static unsigned seed, ids, streams;
static int64_t awake, stood_still; /* the clock, microseconds; the longest turn, of which it counted a part */
static struct queue_faults faults;
static int64_t used[ARRAY_LENGTH(tenants)]; /* tokens */
static unsigned verdicts[LIMITER_UNAVAILABLE + 1], local, left;
static int64_t longest_answer, latest; /* by `awake`; of those who had waited as long as they may */

/* ---- callers: what svc/flow_quota.c does ------------------------------------------------------------------------------------- */

static void answered(struct lease *lease, void *arg, const struct limiter_answer *answer);

static void settle(struct caller *c, const struct limiter_used *u)
{
	queue_leave(&c->place);
	limiter_settle(&c->lease, u);
	*c = (struct caller){ 0 };
}

static void give_up(struct caller *c)
{
	settle(c, &(struct limiter_used){ .never_sent = true });
}

static void ask_again(struct caller *c)
{
	int64_t rest = c->until - clock_now();

	c->late |= rest <= 0;
	c->asking = true;
	c->asked = awake;
	limiter_again(c->lease, c->late ? 0 : rest, answered, c);
}

static void turn(struct queue_place *place, void *arg, enum queue_news news)
{
	struct caller *c = arg;

	assert_ptr_equal(place, c->place);
	c->place = NULL;
	c->late = news == QUEUE_LATE;
	ask_again(c);
}

static void wait_for_turn(struct caller *c, int64_t wait)
{
	int64_t rest = c->until - clock_now();

	c->waited = true;
	if (rest <= 0)
		ask_again(c);
	else
		c->place = queue_rig_wait(c->worker, c->lease, c->ask.line.rule, c->ask.line.lane, wait, rest, turn, c);
}

static void admitted(struct caller *c)
{
	c->holds = true;
	c->free_at = clock_now() + (int64_t)random_below(&chance, 100) * CLOCK_MILLISECOND;
	if (play.streams && streams < STREAMS) {
		streams++;
		c->free_at = INT64_MAX;
	}
}

static void answered(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct caller *c = arg;

	assert_true(c->asking && !c->holds);
	assert_ptr_equal(lease, c->lease);
	c->asking = false;
	if (awake - c->asked > longest_answer)
		longest_answer = awake - c->asked;
	if (answer->verdict == LIMITER_QUEUED || (answer->verdict == LIMITER_UNAVAILABLE && c->waited && !c->late)) {
		assert_false(c->late);
		verdicts[LIMITER_QUEUED]++;
		wait_for_turn(c, answer->verdict == LIMITER_QUEUED ? answer->wait : ASK_AGAIN);
		return;
	}
	verdicts[answer->verdict]++;
	local += answer->local && answer->verdict == LIMITER_ADMITTED;
	assert_true(answer->verdict != LIMITER_NEVER && (play.shares || !answer->local));
	assert_int_equal(answer->wait > 0, answer->verdict == LIMITER_DENIED || answer->verdict == LIMITER_FULL);
	if (answer->verdict == LIMITER_ADMITTED)
		admitted(c);
	else
		give_up(c);
}

static void ask_of(struct caller *c)
{
	static const int64_t waits[] = { 0, 60, 300, 1000, 2000 };
	uint32_t model = random_below(&chance, 3), config = faults.reloads % 2;
	struct limiter_ask *ask = &c->ask;

	*ask = (struct limiter_ask){ .share = play.shares,
				     .tokens = random_below(&chance, 10) == 0 ? 600 : 1 + random_below(&chance, 60) };
	ask->line.rule = &rules[config];
	ask->line.lane = random_below(&chance, LANES);
	ask->line.group = random_below(&chance, (uint32_t)rules[config].groups);
	ask->line.front = random_below(&chance, 30) == 0;
	ask->line.most = waits[random_below(&chance, ARRAY_LENGTH(waits))] * CLOCK_MILLISECOND;
	ask->scope[LIMITER_TENANT].name = slice_of(tenants[random_below(&chance, 2)]);
	ask->scope[LIMITER_TENANT].limits = random_below(&chance, 2) == 0 ? &tenant : NULL;
	ask->scope[LIMITER_MODEL].name = model == 0 ? SLICE("m0") : SLICE("m1");
	ask->scope[LIMITER_MODEL].limits = model < 2 ? &models[model] : NULL;
	ask->scope[LIMITER_UPSTREAM].name = SLICE("gem");
	ask->scope[LIMITER_UPSTREAM].limits = &upstream[config];
	for (int s = LIMITER_TENANT; s < LIMITER_SCOPES; s++)
		ask->scope[s].requests = 1;
}

static void send(struct caller *c)
{
	c->until = clock_now() + c->ask.line.most;
	snprintf(c->id, sizeof(c->id), "c%u.1", ids++);
	c->ask.id = slice_of(c->id);
	c->lease = limiter_admit(c->worker->limiter, &c->ask, answered, c);
}

static void start(struct caller *c)
{
	*c = (struct caller){ .worker = &rig.worker[random_below(&chance, QUEUE_RIG_WORKERS)],
			      .asking = true,
			      .asked = awake,
			      .late_since = -1 };
	ask_of(c);
}

static void end_call(struct caller *c)
{
	struct limiter_used u = { .never_sent = random_below(&chance, 10) == 0 };

	if (!u.never_sent)
		u.tokens = random_below(&chance, 4) == 0 ? c->ask.tokens + 10
							 : random_below(&chance, (uint32_t)c->ask.tokens + 1);
	if (c->ask.scope[LIMITER_TENANT].limits != NULL)
		used[slice_equal(c->ask.scope[LIMITER_TENANT].name, slice_of(tenants[1]))] += u.tokens;
	settle(c, &u);
}

/* Of one that has no verdict. */
static void check_times(struct caller *c)
{
	if (c->asking && awake - c->asked > TIMEOUT + SLACK)
		fail_msg("a caller has had no answer for %lld ms", (long long)(awake - c->asked) / CLOCK_MILLISECOND);
	if (c->late_since < 0 && clock_now() > c->until)
		c->late_since = awake;
	if (c->late_since < 0)
		return;
	if (awake - c->late_since > latest)
		latest = awake - c->late_since;
	if (awake - c->late_since > LATE_MOST + SLACK)
		fail_msg("a caller waits on for %lld ms; %s", (long long)(awake - c->late_since) / CLOCK_MILLISECOND,
			 c->asking ? "it has asked" : "nobody asks for it");
}

/* Of those that are in flight where this one is, the last that Redis admitted found room for itself among the others; who is admitted by his worker's share found room in that. */
static void check_in_flight(const struct caller *c, enum limiter_scope scope)
{
	struct slice name = c->ask.scope[scope].name;
	int64_t count = 0, most = 0;

	for (size_t i = 0; i < CALLERS; i++) {
		const struct limits *limits = callers[i].ask.scope[scope].limits;
		if (!callers[i].holds || limits == NULL || !slice_equal(callers[i].ask.scope[scope].name, name))
			continue;
		count++;
		if (limits->of[LIMIT_concurrency].count > most)
			most = limits->of[LIMIT_concurrency].count;
	}
	if (most > 0 && count > (play.shares ? 2 * most : most))
		fail_msg("%lld are in flight at the %s %.*s, whose limit is %lld", (long long)count,
			 limiter_scope_name(scope), SLICE_ARGS(name), (long long)most);
}

static void move(struct caller *c, bool coming)
{
	if (c->lease == NULL) {
		if (coming && random_below(&chance, 60) == 0) {
			start(c);
			send(c);
		}
	} else if (c->holds) {
		if (clock_now() >= c->free_at || (!coming && random_below(&chance, 30) == 0))
			end_call(c);
	} else if (random_below(&chance, 1500) == 0) { /* its client leaves */
		left++;
		give_up(c);
	} else {
		check_times(c);
	}
}

/* ---- a round ------------------------------------------------------------------------------------------------------------------- */

/* A process that stood still so long that leases may have ended judges nothing. */
static void check_all_in_flight(void)
{
	for (size_t i = 0; i < CALLERS && play.faults < QUEUE_FAULTS_ALL && stood_still < play.lease / 3; i++)
		for (int s = LIMITER_TENANT; s < LIMITER_SCOPES && callers[i].holds; s++)
			check_in_flight(&callers[i], s);
}

static void step(bool going_on)
{
	int64_t before = clock_now(), passed;

	for (size_t i = 0; i < CALLERS; i++)
		move(&callers[i], going_on);
	queue_faults_turn(&faults, going_on);
	loop_turn(rig.loop, false);
	poll(NULL, 0, 1);
	passed = clock_now() - before;
	awake += passed < TURN_MOST ? passed : TURN_MOST;
	if (passed > stood_still)
		stood_still = passed;
	check_all_in_flight();
}

static void until(bool (*condition)(void), const char *what)
{
	for (int64_t end = clock_now() + 20 * CLOCK_SECOND; !condition(); step(false))
		if (clock_now() > end)
			fail_msg("20 s later it is not true that %s", what);
}

static bool all_know_all(void)
{
	for (int i = 0; i < QUEUE_RIG_WORKERS; i++)
		if (limiter_state(rig.worker[i].limiter).live != QUEUE_RIG_WORKERS)
			return false;
	return true;
}

static bool all_have_gone(void)
{
	for (size_t i = 0; i < CALLERS; i++)
		if (callers[i].lease != NULL)
			return false;
	return !faults.on;
}

static bool nobody_owes(void)
{
	for (int i = 0; i < QUEUE_RIG_WORKERS; i++)
		if (limiter_state(rig.worker[i].limiter).alone || limiter_unsettled(rig.worker[i].limiter) > 0)
			return false;
	return true;
}

static int64_t leases_in_redis(int64_t since) /* that end later */
{
	static const char *const sets[] = { "{t:acme}", "{t:bee}", "{m:m0}", "{m:m1}", "{u:gem}" };
	int64_t count = 0;

	for (size_t i = 0; i < ARRAY_LENGTH(sets); i++)
		count += redis_server_int(rig.server, "ZCOUNT sluice:%s:l %lld +inf", sets[i], (long long)since);
	return count;
}

/* Where a key was lost or spoilt, some may be settled in part, or not at all: that ends with the lease. */
static bool no_lease_lives(void)
{
	return leases_in_redis(clock_unix()) == 0;
}

static int64_t tokens_in_redis(const char *name)
{
	int64_t tat = redis_server_int(rig.server, "HGET sluice:{t:%s}:q tpd", name), now = clock_unix();

	return tat > now ? (tat - now + TOKEN / 2) / TOKEN : 0;
}

/* Where nothing was lost: no lease, no trace of a line, and what was used, to the token. */
static void check_books(void)
{
	assert_int_equal(leases_in_redis(0), 0);
	assert_int_equal(redis_server_int(rig.server, "EXISTS sluice:{u:gem}:w sluice:{m:m0}:w sluice:{m:m1}:w "
						      "sluice:{u:gem}:f sluice:{m:m0}:f sluice:{m:m1}:f"),
			 0);
	for (size_t i = 0; i < ARRAY_LENGTH(tenants); i++)
		assert_int_equal(tokens_in_redis(tenants[i]), used[i]);
}

/* Else a script may have failed half-way at a key that was spoilt, and a part of a line may be left until it expires: nobody is held up by that. */
static void check_service(void)
{
	until(no_lease_lives, "no lease lives");
	for (size_t i = 0; i < ARRAY_LENGTH(models); i++) {
		unsigned before = verdicts[LIMITER_ADMITTED] + left;
		struct caller *c = &callers[0];
		start(c);
		c->ask.line.most = 5 * CLOCK_SECOND;
		c->ask.tokens = 1;
		c->ask.scope[LIMITER_TENANT].limits = NULL;
		c->ask.scope[LIMITER_MODEL].name = i == 0 ? SLICE("m0") : SLICE("m1");
		c->ask.scope[LIMITER_MODEL].limits = &models[i];
		send(c);
		until(all_have_gone, "all have gone");
		assert_int_equal(verdicts[LIMITER_ADMITTED] + left, before + 1);
	}
}

static void check_rest(void)
{
	redisContext *redis;

	for (int i = 0; i < QUEUE_RIG_WORKERS; i++) {
		const struct queue_rig_worker *w = &rig.worker[i];
		assert_int_equal(limiter_held(w->limiter), 0);
		assert_int_equal(limiter_counts(w->limiter)->abandoned, 0);
		assert_int_equal(limiter_counts(w->limiter)->merges_abandoned, 0);
		for (int lane = 0; lane < LANES; lane++)
			assert_int_equal(queue_waiting(w->queue, lane), 0);
	}
	if (play.faults == QUEUE_FAULTS_ALL)
		check_service();
	else
		check_books();
	redis = script_rig_connect(rig.server);
	script_rig_check_expiries(redis);
	redisFree(redis);
}

static void whatever_happens(void **state)
{
	(void)state;
	print_message("seed %u, %s: ", seed, play.name);
	for (int64_t end = clock_now() + play.length; clock_now() < end;)
		step(true);
	until(all_have_gone, "all have gone");
	print_message("%u waited, %u admitted (%u by shares), %u denied, %u full, %u unavailable, %u left; ",
		      verdicts[LIMITER_QUEUED], verdicts[LIMITER_ADMITTED], local, verdicts[LIMITER_DENIED],
		      verdicts[LIMITER_FULL], verdicts[LIMITER_UNAVAILABLE], left);
	print_message("%lld ms the longest answer, %lld ms the latest\n", (long long)longest_answer / CLOCK_MILLISECOND,
		      (long long)latest / CLOCK_MILLISECOND);
	until(nobody_owes, "nobody owes Redis anything");
	check_rest();
	assert_true(verdicts[LIMITER_QUEUED] > 0 && verdicts[LIMITER_ADMITTED] > 0); /* else it proves little */
}

/* Leases are longer than what a settle may take to come through: else a charge may stay as reserved (lua/settle.lua). */
static struct round rounds[] = {
	{ .name = "nothing happens", .length = 2500 * CLOCK_MILLISECOND, .lease = 2 * CLOCK_SECOND, .streams = true },
	{ .name = "nothing is lost",
	  .length = 1400 * CLOCK_MILLISECOND,
	  .lease = 6 * CLOCK_SECOND,
	  .faults = QUEUE_FAULTS_HARMLESS },
	{ .name = "nothing is lost, shares",
	  .length = 1400 * CLOCK_MILLISECOND,
	  .lease = 6 * CLOCK_SECOND,
	  .shares = true,
	  .faults = QUEUE_FAULTS_HARMLESS },
	{ .name = "Redis forgets",
	  .length = 1600 * CLOCK_MILLISECOND,
	  .lease = 6 * CLOCK_SECOND,
	  .shares = true,
	  .faults = QUEUE_FAULTS_ALL },
};

static int begin(void **state)
{
	play = *(const struct round *)*state;
	chance = 1 + ARRAY_LENGTH(rounds) * (uint64_t)seed + (uint64_t)((const struct round *)*state - rounds);
	for (int i = 0; i < 8; i++) /* neighbours differ from here on */
		(void)random_bits(&chance);
	faults = (struct queue_faults){ .rig = &rig, .chance = &chance, .severity = play.faults };
	memset(verdicts, 0, sizeof(verdicts));
	local = left = streams = 0;
	memset(used, 0, sizeof(used));
	longest_answer = latest = stood_still = 0;
	queue_rig_begin(&rig,
			&(struct queue_rig_options){
				.workers = QUEUE_RIG_WORKERS, .timeout = TIMEOUT, .lease = play.lease, .beat = BEAT });
	until(all_know_all, "all workers know of each other");
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (size_t i = 0; i < CALLERS; i++)
		give_up(&callers[i]);
	queue_rig_end(&rig);
	return 0;
}

int main(void)
{
	const char *given = getenv("SLUICE_TEST_SEED"), *soak = getenv("SLUICE_SOAK");
	int failed = 0;

	seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
	for (unsigned long left_over = soak != NULL ? strtoul(soak, NULL, 10) : 1; left_over > 0; left_over--, seed++) {
		struct CMUnitTest tests[ARRAY_LENGTH(rounds)];
		for (size_t i = 0; i < ARRAY_LENGTH(rounds); i++)
			tests[i] = (struct CMUnitTest){ rounds[i].name, whatever_happens, begin, end, &rounds[i] };
		failed += cmocka_run_group_tests_name("limiter_random", tests, NULL, NULL);
	}
	return failed;
}

/* lib/pool by chance: three pools of one loop have their connections together, towards a peer that does what it likes (tests/support/wild_server.h). Random calls of
 * tenants with and without bounds, random cancels, pauses, changes of what there may be, warm-ups, wind-downs and deaths. Whatever happens:
 *
 *   after each turn all that a pool counts is what is there                  pool_check
 *   no more connections are open than there may be                           but for SETTLES after there were to be fewer
 *   every call ends once: is done, or cancelled, or dies with its pool
 *   what is done is whole                                                    where it is known how long it is, or libcurl tells (see pool.h)
 *   no call outlives its deadline by more than LATE
 *   a pool that has been wound down comes to have nothing within SETTLES
 *   at last no descriptor is left, and no share
 *
 * Time is this process's own: a turn of more than 20 ms was held up by the machine, and what it took beyond that counts for nobody. SLUICE_TEST_SEED repeats a run, as
 * far as threads and the kernel do; SLUICE_SOAK=N makes N of them, each of the next seed. */
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

#include "lib/base.h"
#include "lib/pool_internal.h"
#include "tests/support/descriptors.h"
#include "tests/support/pool_check.h"
#include "tests/support/pool_rig.h"
#include "tests/support/random.h"
#include "tests/support/tls_files.h"
#include "tests/support/wild_server.h"

enum { POOLS = 3, OLD_POOLS = 8, CALLS = 150 };

#define LASTS        (4 * CLOCK_SECOND) /* a run, before nothing new begins */
#define LATE         (100 * CLOCK_MILLISECOND)
#define LONGEST_CALL (2300 * CLOCK_MILLISECOND)
#define SETTLES      (LONGEST_CALL + 700 * CLOCK_MILLISECOND) /* who uses a connection may use it up to his end */
#define TURN         (20 * CLOCK_MILLISECOND)

static struct call {
	struct transfer *transfer;
	struct pool *pool;
	int64_t deadline;
	bool has_head, paused;
	bool has_length;
	char last; /* byte of the body so far; '\0': none */
} calls[CALLS];

static struct {
	struct rig rig;
	struct pool *pools[POOLS];
	struct old {
		struct pool *pool;
		int64_t since;
	} old[OLD_POOLS];
	uint64_t random;
	unsigned rate; /* calls that come in a turn, at most */
	struct bound {
		unsigned most, allowed; /* allowed: while what was lowered settles what it was, or was since */
		int64_t lowered;
	} of_name, of_group;          /* of open connections */
	int64_t turn_at, stood_still; /* see now */
	unsigned warming;
	bool recent; /* libcurl */
	unsigned begun, ended, cancelled, outcomes[POOL_TOTAL_TIMEOUT + 1], most_open;
	int64_t latest;
} world;

static unsigned below(unsigned limit)
{
	return random_below(&world.random, limit);
}

static bool one_in(unsigned count)
{
	return below(count) == 0;
}

static int64_t held_up(void)
{
	int64_t beyond = clock_now() - world.turn_at - TURN;
	return beyond > 0 ? beyond : 0;
}

/* What the machine took is left out. */
static int64_t now(void)
{
	return clock_now() - world.stood_still - held_up();
}

/* ---- calls ---- */

static void cancel(struct call *call)
{
	pool_cancel(&call->transfer);
	world.cancelled++;
}

static void on_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	struct call *call = arg;
	assert_ptr_equal(t, call->transfer);
	assert_int_equal(head->status, 200);
	assert_false(call->has_head);
	call->has_head = true;
	for (size_t i = 0; i < head->fields_count; i++)
		call->has_length |= slice_equal_nocase(head->fields[i].name, SLICE("content-length"));
	if (one_in(40))
		cancel(call);
}

static bool on_body(struct transfer *t, void *arg, struct slice bytes)
{
	struct call *call = arg;
	assert_ptr_equal(t, call->transfer);
	assert_true(call->has_head && !call->paused);
	if (bytes.len > 0)
		call->last = bytes.data[bytes.len - 1];
	if (one_in(40)) {
		cancel(call);
		return true;
	}
	call->paused = one_in(6);
	return !call->paused;
}

/* Whether it is known when an answer that ends so is cut. */
static bool is_told(const struct call *call)
{
	return call->has_length || (world.recent && call->last != WILD_SERVER_ENDED);
}

static void on_done(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct call *call = arg;
	int64_t late = now() - call->deadline;
	assert_ptr_equal(t, call->transfer);
	if (result->outcome == POOL_DONE && is_told(call) && call->last != '\0' && call->last != WILD_SERVER_END)
		fail_msg("a call is done, and its answer is not whole: it ends in '%c'", call->last);
	assert_true(result->outcome != POOL_DONE || call->has_head);
	call->transfer = NULL;
	world.outcomes[result->outcome]++;
	world.ended++;
	world.latest = late > world.latest ? late : world.latest;
}

static void start(struct call *call)
{
	static const struct pool_receiver receiver = { on_head, on_body, on_done };
	static const int64_t waits[] = { 0, 1000, 20000, 300000, 1500000 };
	static struct slice body;
	static const char *const tenants[] = { "a", "b", "c", "d" };
	struct pool_request request = { .method = SLICE("GET"), .target = SLICE("/x"), .lane = below(LANES) };
	unsigned tenant = below(ARRAY_LENGTH(tenants));
	request.wait_timeout = waits[below(ARRAY_LENGTH(waits))];
	request.first_byte_timeout = 200 * CLOCK_MILLISECOND + below(CLOCK_SECOND);
	request.idle_timeout = 200 * CLOCK_MILLISECOND + below(CLOCK_SECOND / 2);
	request.total_timeout = LONGEST_CALL - below(2 * CLOCK_SECOND);
	if (one_in(2)) {
		request.tenant = slice_of(tenants[tenant]);
		request.tenant_connections = tenant == 0 ? 1 : below(3);
	}
	if (one_in(4)) {
		body = SLICE("hello body");
		request.method = SLICE("POST");
		request.body = &body;
		request.body_count = 1;
	}
	*call = (struct call){ .pool = world.pools[below(POOLS)], .deadline = now() + request.total_timeout };
	call->transfer = pool_start(call->pool, &request, &receiver, call);
	world.begun++;
}

static void use_calls(void)
{
	if (one_in(100)) /* none for a while, or more than there can be */
		world.rate = below(3) * below(5);
	for (unsigned count = below(world.rate + 1); count > 0; count--) {
		struct call *call = &calls[below(CALLS)];
		if (call->transfer == NULL)
			start(call);
		else if (one_in(15))
			cancel(call);
	}
	if (one_in(400)) /* a burst */
		for (int i = 0; i < CALLS; i++)
			if (calls[i].transfer == NULL && one_in(2))
				start(&calls[i]);
}

/* False: nobody is there any more. `chance`: one in so many of those who said "no more" goes on. */
static bool resume_some(unsigned chance)
{
	bool some = false;
	for (int i = 0; i < CALLS; i++) {
		struct call *call = &calls[i];
		some |= call->transfer != NULL;
		if (call->transfer == NULL || !call->paused || !one_in(chance))
			continue;
		call->paused = false;
		pool_resume(call->transfer);
	}
	return some;
}

/* ---- pools ---- */

static void set_bound(struct bound *bound, unsigned most)
{
	if (most < bound->most)
		bound->lowered = now();
	bound->most = most;
}

static void set_bounds(void)
{
	const struct pool_options *options = &world.rig.options;
	set_bound(&world.of_name, options->connections);
	set_bound(&world.of_group, options->group_connections > 0 ? options->group_connections : UINT32_MAX);
}

static void change(void)
{
	struct pool_options *options = &world.rig.options;
	options->connections = options->start = 1 + below(4);
	options->least = options->warm = below(options->connections + 1);
	options->max_age = (300 + below(3000)) * CLOCK_MILLISECOND;
	options->idle_timeout = (100 + below(1000)) * CLOCK_MILLISECOND;
	options->validate_after = below(2) * 150 * CLOCK_MILLISECOND;
	options->group_connections = options->group_connections > 0 ? 2 + below(3) : 0;
	set_bounds();
	for (int i = 0; i < POOLS; i++)
		pool_change(world.pools[i], options);
}

static void on_warmed(void *arg, unsigned opened, const char *why)
{
	(void)arg;
	(void)opened;
	(void)why;
	assert_true(world.warming > 0);
	world.warming--;
}

static void warm(struct pool *pool)
{
	world.warming++;
	pool_warm(pool, 300 * CLOCK_MILLISECOND, on_warmed, NULL);
}

/* Its calls go with it, unheard. */
static void kill_pool(struct pool **pool)
{
	for (int i = 0; i < CALLS; i++)
		if (calls[i].transfer != NULL && calls[i].pool == *pool) {
			calls[i].transfer = NULL;
			world.cancelled++;
		}
	pool_free(pool);
}

static void replace(struct pool **pool)
{
	struct old *place = NULL;
	for (int i = 0; i < OLD_POOLS; i++)
		if (world.old[i].pool == NULL)
			place = &world.old[i];
	if (place == NULL || one_in(2)) {
		kill_pool(pool);
	} else {
		*place = (struct old){ *pool, now() };
		pool_wind_down(*pool);
	}
	*pool = pool_new(world.rig.loop, &world.rig.options, NULL);
}

static void use_pools(void)
{
	if (one_in(400))
		change();
	if (one_in(300))
		warm(world.pools[below(POOLS)]);
	if (one_in(150))
		replace(&world.pools[below(POOLS)]);
}

/* ---- what must hold ---- */

/* Adds what it has open. */
static void judge_pool(const struct pool *pool, unsigned *open)
{
	struct pool_stats stats;
	pool_check(pool);
	pool_stats(pool, &stats);
	*open += stats.open;
}

/* One that has nothing any more dies. */
static void judge_old(struct old *old, unsigned *open)
{
	struct pool_stats stats;
	judge_pool(old->pool, open);
	pool_stats(old->pool, &stats);
	assert_int_equal(stats.idle, 0);
	if (now() - old->since > SETTLES)
		fail_msg("a pool that was wound down %lld ms ago has %u calls, %u that wait, %u connections",
			 (long long)(now() - old->since) / 1000, stats.active, stats.waiting, stats.open);
	if (stats.active + stats.waiting + stats.open == 0)
		kill_pool(&old->pool);
}

static void judge_calls(void)
{
	for (int i = 0; i < CALLS; i++) {
		const struct transfer *t = calls[i].transfer;
		if (t != NULL && now() - calls[i].deadline > LATE)
			fail_msg("a call outlives its deadline: state %d, seat %d, kind %d", t->state, t->seat,
				 t->kind);
	}
	if (world.latest > LATE)
		fail_msg("a call ended %lld ms after its deadline", (long long)world.latest / 1000);
}

static void judge_open(struct bound *bound, unsigned open)
{
	if (bound->most > bound->allowed || now() - bound->lowered > SETTLES)
		bound->allowed = bound->most;
	if (open > bound->allowed)
		fail_msg("%u connections are open, of %u that may be", open, bound->allowed);
}

static void judge(void)
{
	unsigned open = 0;
	for (int i = 0; i < POOLS; i++)
		judge_pool(world.pools[i], &open);
	for (int i = 0; i < OLD_POOLS; i++)
		if (world.old[i].pool != NULL)
			judge_old(&world.old[i], &open);
	judge_open(&world.of_name, open);
	judge_open(&world.of_group, open);
	world.most_open = open > world.most_open ? open : world.most_open;
	judge_calls();
}

/* Now and then something else holds up the loop. */
static void turn(void)
{
	rig_turn(&world.rig);
	if (one_in(50))
		poll(NULL, 0, 15);
	world.stood_still += held_up();
	world.turn_at = clock_now();
	judge();
}

/* ---- a run ---- */

static void set_up(const struct wild_server *server, const struct tls_files *files, struct pool_shares *shares)
{
	struct pool_options *options = &world.rig.options;
	rig_options(&world.rig, wild_server_origin(server));
	options->shares = shares;
	options->name = "pool";
	options->owner = "owner";
	options->group = "group";
	options->group_connections = one_in(2) ? 4 : 0;
	options->connections = options->start = 3;
	options->streams_per_connection = 8;
	options->http = POOL_HTTP_2;
	options->connect_timeout = 400 * CLOCK_MILLISECOND;
	options->idle_timeout = 500 * CLOCK_MILLISECOND;
	options->max_age = 2 * CLOCK_SECOND;
	options->validate_after = 200 * CLOCK_MILLISECOND;
	options->name_age = one_in(2) ? CLOCK_MINUTE : 0;
	options->ca_file = files->ca;
	world.rig.base_descriptors = descriptors_open();
	world.rig.loop = loop_new();
	for (int i = 0; i < POOLS; i++)
		world.pools[i] = pool_new(world.rig.loop, options, NULL);
	world.recent = curl_version_info(CURLVERSION_NOW)->version_num >= 0x080100;
	set_bounds();
	world.rate = 3;
	world.turn_at = clock_now();
}

static bool old_pools_live(void)
{
	bool live = false;
	for (int i = 0; i < OLD_POOLS; i++)
		live |= world.old[i].pool != NULL;
	return live;
}

static void print_figures(unsigned seed)
{
	print_message("seed %u: %u calls, %u of them cancelled, at most %u connections; the latest %lld ms after its "
		      "deadline; held up for %lld ms;",
		      seed, world.begun, world.cancelled, world.most_open, (long long)world.latest / 1000,
		      (long long)world.stood_still / 1000);
	for (int i = 0; i <= POOL_TOTAL_TIMEOUT; i++)
		print_message(" %s %u", pool_outcome_name((enum pool_outcome)i), world.outcomes[i]);
	print_message("\n");
}

static void run(const struct tls_files *files, unsigned seed)
{
	struct pool_shares *shares = pool_shares_new();
	memset(&world, 0, sizeof(world));
	world.random = (uint64_t)seed << 1 | 1;
	struct wild_server *server = wild_server_new(files->leaf, files->leaf_key, seed);
	set_up(server, files, shares);
	rig_watch();
	for (int64_t end = clock_now() + LASTS; clock_now() < end; turn()) {
		use_calls();
		use_pools();
		resume_some(30);
	}
	while (resume_some(1) || old_pools_live())
		turn();
	assert_int_equal(world.begun, world.ended + world.cancelled);
	for (int i = 0; i < POOLS; i++)
		pool_free(&world.pools[i]);
	rig_close(&world.rig);
	pool_shares_free(&shares);
	wild_server_free(&server);
	print_figures(seed);
}

static void whatever_a_peer_and_callers_do(void **state)
{
	const char *seed = getenv("SLUICE_TEST_SEED"), *rounds = getenv("SLUICE_SOAK");
	unsigned first = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL);
	struct tls_files files;
	(void)state;
	tls_files_make(&files);
	for (unsigned i = 0; i < (rounds != NULL ? strtoul(rounds, NULL, 10) : 1); i++) {
		print_message("seed %u\n", first + i); /* before anything can abort */
		fflush(stdout);
		run(&files, first + i);
	}
	tls_files_free(&files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_a_peer_and_callers_do),
	};
	return cmocka_run_group_tests_name("pool_random", tests, NULL, NULL);
}

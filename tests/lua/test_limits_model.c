/* One specification, two engines: random sequences run against the scripts on a real Redis and against the exact
 * model; every answer and what lies in Redis agree to the microsecond. Replies are dropped (the caller does not know
 * when it reserved), commands are duplicated and come late, Redis is flushed and restarted. SLUICE_TEST_SEED repeats
 * a sequence, SLUICE_TEST_STEPS its length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "tests/support/limiter_model.h"
#include "tests/support/limiter_rig.h"

#define NAMES 2
#define CALLS 64

struct call {
	char id[32];
	struct limiter_ask ask;
	int64_t reserved; /* or LIMITER_WIRE_UNKNOWN */
	bool sent, settled, trace;
	struct limiter_used used;
};
struct world {
	struct limiter_model *model;
	uint64_t random;
	int64_t now;
	struct limits limits[LIMITER_SCOPES][NAMES];
	struct call call[CALLS];
	unsigned born, admitted, denied, gone, settled, nothing, forgiven, seen_part;
};

static uint64_t pick(struct world *w, uint64_t below)
{
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (w->random >> 33) % below;
}

static struct slice name_of(int scope, unsigned which)
{
	static const char *const names[LIMITER_SCOPES][NAMES] = { { "acme", "zeta" },
								  { "pro", "flash" },
								  { "gem", "alt" } };
	return slice_of(names[scope][which]);
}

static void random_limits(struct world *w)
{
	static const int64_t counts[] = { 1, 3, 7, 50, 60, 199, 200, 599, 600, 1000, 4000, 400000, 4000000 };
	for (int s = 0; s < LIMITER_SCOPES; s++)
		for (int n = 0; n < NAMES; n++)
			for (int k = 0; k < LIMIT_COUNT; k++) {
				struct limit *limit = &w->limits[s][n].of[k];
				*limit = (struct limit){ 0 };
				if (pick(w, 100) >= 40)
					continue;
				limit->count = counts[pick(w, ARRAY_LENGTH(counts))];
				if (k == LIMIT_concurrency)
					limit->count = 1 + (int64_t)pick(w, 20);
				else if (limit_unit_of(k) == LIMIT_TOKENS)
					limit->count += 100;
				limit->strict = k != LIMIT_concurrency && pick(w, 2) == 0;
				limit->burst = 1 + (int64_t)pick(w, (uint64_t)limit->count * 2);
			}
}

static void random_ask(struct world *w, struct call *call)
{
	static const int64_t tokens[] = { 0, 1, 7, 40, 300, 5000, 100000 };
	do {
		snprintf(call->id, sizeof call->id, "%x.%u", ++w->born, (unsigned)pick(w, 3));
		call->ask = (struct limiter_ask){ .id = slice_of(call->id),
						  .tokens = tokens[pick(w, ARRAY_LENGTH(tokens))] };
		for (int s = 0; s < LIMITER_SCOPES; s++) {
			unsigned n = (unsigned)pick(w, NAMES);
			call->ask.scope[s].name = name_of(s, n);
			call->ask.scope[s].limits = pick(w, 8) == 0 ? NULL : &w->limits[s][n];
			call->ask.scope[s].requests = pick(w, 5) != 0;
		}
	} while (!limiter_wire_needed(&call->ask));
	call->reserved = LIMITER_WIRE_UNKNOWN;
	call->sent = call->settled = call->trace = false;
	call->used = (struct limiter_used){ .tokens = (int64_t)pick(w, (uint64_t)call->ask.tokens * 2 + 50),
					    .never_sent = pick(w, 8) == 0 };
	if (pick(w, 50) == 0)
		call->used.tokens *= 1000;
}

static void same_left(const struct limiter_left *a, const struct limiter_left *b)
{
	for (int k = 0; k < LIMIT_COUNT; k++) {
		assert_int_equal(a[k].known, b[k].known);
		assert_int_equal(a[k].remaining, b[k].remaining);
		assert_int_equal(a[k].reset, b[k].reset);
		assert_true(a[k].used == b[k].used); /* the same division of the same integers */
		assert_true(a[k].used >= 0 && a[k].used <= 1);
	}
}

static void same_answer(const struct limiter_answer *a, const struct limiter_answer *b)
{
	assert_int_equal(a->verdict, b->verdict);
	assert_int_equal(a->wait, b->wait);
	if (a->verdict == LIMITER_DENIED) {
		assert_int_equal(a->scope, b->scope);
		assert_int_equal(a->kind, b->kind);
	}
	same_left(a->left, b->left);
}

static bool has_limits(const struct limits *limits)
{
	for (int k = 0; k < LIMIT_COUNT; k++)
		if (limits->of[k].count > 0)
			return true;
	return false;
}

static void peek(struct world *w)
{
	int scope = (int)pick(w, LIMITER_SCOPES);
	unsigned n = (unsigned)pick(w, NAMES);
	const struct limits *limits = &w->limits[scope][n];
	struct limiter_left real[LIMIT_COUNT], model[LIMIT_COUNT] = { { 0 } };
	if (!has_limits(limits))
		return;
	bool look = pick(w, 8) == 0;
	uint64_t before = look ? limiter_rig_digest() : 0;
	limiter_rig_peek(scope, name_of(scope, n), limits, w->now, real);
	limiter_model_left(w->model, scope, name_of(scope, n), limits, w->now, model);
	same_left(real, model);
	if (look)
		assert_int_equal(limiter_rig_digest(), before);
	for (int k = 0; k < LIMIT_COUNT; k++)
		w->seen_part += model[k].used > 0 && model[k].used < 1;
}

static void admit(struct world *w, struct call *call)
{
	struct limiter_answer real, model;
	if (limiter_wire_never(&call->ask, &real))
		return;
	int64_t reserved = 0, expected = 0;
	bool look = pick(w, 8) == 0;
	uint64_t before = look ? limiter_rig_digest() : 0;
	limiter_model_admit(w->model, &call->ask, w->now, &model, &expected);
	limiter_rig_admit(&call->ask, w->now, &real, &reserved);
	same_answer(&real, &model);
	if (real.verdict != LIMITER_ADMITTED && look)
		assert_int_equal(limiter_rig_digest(), before);
	w->admitted += real.verdict == LIMITER_ADMITTED;
	w->denied += real.verdict == LIMITER_DENIED;
	w->gone += real.verdict == LIMITER_UNAVAILABLE;
	if (real.verdict == LIMITER_ADMITTED)
		assert_int_equal(reserved, w->now);
	if (pick(w, 10) == 0)
		call->trace = true; /* the answer is dropped */
	else if (real.verdict == LIMITER_ADMITTED && !call->sent)
		call->reserved = reserved;
	call->sent = true;
}

static void settle(struct world *w, struct call *call)
{
	struct limiter_wire_past past = {
		.lease = RIG_LEASE, .reserved = call->reserved, .again = call->settled, .trace = call->trace
	};
	int64_t real[LIMIT_COUNT] = { 0 }, model[LIMIT_COUNT] = { 0 };
	bool expected = limiter_model_settle(w->model, &call->ask, &call->used, &past, w->now, model);
	bool open = limiter_rig_settle(&call->ask, &call->used, &past, w->now, real);
	assert_int_equal(open, expected);
	for (int k = 0; k < LIMIT_COUNT; k++) {
		assert_int_equal(real[k], model[k]);
		w->forgiven += real[k] > 0;
	}
	w->settled += open;
	w->nothing += !open;
	call->settled = true;
}

static void renew(struct world *w)
{
	int scope = (int)pick(w, LIMITER_SCOPES);
	struct slice name = name_of(scope, (unsigned)pick(w, NAMES)), id[8];
	char key[64];
	snprintf(key, sizeof key, "sluice:{%c:%.*s}:l", "tmu"[scope], SLICE_ARGS(name));
	size_t count = 1 + pick(w, 8);
	for (size_t i = 0; i < count; i++)
		id[i] = slice_of(w->call[(pick(w, CALLS / 8)) * 8 + i].id);
	for (size_t i = 0; i < count; i++)
		if (id[i].len == 0)
			return;
	assert_int_equal(limiter_rig_renew(key, id, count, w->now),
			 limiter_model_renew(w->model, scope, name, id, count, w->now));
}

static void same_state(struct world *w)
{
	struct redis_server *server = limiter_rig_server();
	for (int s = 0; s < LIMITER_SCOPES; s++)
		for (unsigned n = 0; n < NAMES; n++) {
			char slot[64];
			struct slice name = name_of(s, n);
			snprintf(slot, sizeof slot, "sluice:{%c:%.*s}", "tmu"[s], SLICE_ARGS(name));
			assert_int_equal(redis_server_int(server, "ZCARD %s:l", slot),
					 limiter_model_set_size(w->model, s, name));
			for (int k = 0; k < LIMIT_concurrency; k++) {
				int64_t tat = redis_server_int(server, "HGET %s:q %s", slot, limit_name(k));
				assert_int_equal(tat > w->now ? tat - w->now : 0,
						 limiter_model_backlog(w->model, s, name, k, w->now));
			}
		}
	limiter_rig_check_expiries();
}

static void step(struct world *w)
{
	static const int64_t jumps[] = { 1, 50, 1000, 20000, 100000, 500000, 3000000, 11000000, 61000000 };
	struct call *call = &w->call[pick(w, CALLS)];
	switch (pick(w, 11)) {
	case 0:
	case 1:
	case 2:
	case 3:
		if (call->settled || call->id[0] == '\0')
			random_ask(w, call);
		admit(w, call);
		break;
	case 4:
		if (call->id[0] != '\0')
			admit(w, call); /* a duplicate, or one that comes after its settle */
		break;
	case 5:
	case 6:
	case 7:
		if (call->id[0] != '\0')
			settle(w, call); /* also before its admit, and twice */
		break;
	case 8:
		renew(w);
		break;
	case 9:
		peek(w);
		break;
	default:
		w->now += (int64_t)pick(w, (uint64_t)jumps[pick(w, ARRAY_LENGTH(jumps))]) + 1;
	}
}

static void run(struct world *w, uint64_t seed, unsigned steps)
{
	*w = (struct world){ .random = seed, .now = RIG_START };
	w->model = limiter_model_new(RIG_LEASE, RIG_HOLD);
	limiter_rig_flush();
	random_limits(w);
	for (unsigned i = 0; i < steps; i++) {
		step(w);
		if (pick(w, 2000) == 0) {
			if (pick(w, 4) == 0)
				limiter_rig_restart();
			else
				limiter_rig_flush();
			limiter_model_flush(w->model);
		}
		if (i % 100 == 99)
			same_state(w);
	}
	limiter_model_free(&w->model);
}

static void test_random_sequences_agree_with_the_model(void **state)
{
	(void)state;
	const char *given = getenv("SLUICE_TEST_SEED"), *length = getenv("SLUICE_TEST_STEPS");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
	unsigned steps = length != NULL ? (unsigned)strtoul(length, NULL, 10) : 2000, worlds = given != NULL ? 1 : 20;
	struct world *w = calloc(1, sizeof *w);
	assert_non_null(w);
	unsigned admitted = 0, denied = 0, gone = 0, settled = 0, nothing = 0, forgiven = 0, seen_part = 0;
	for (unsigned i = 0; i < worlds; i++) {
		printf("seed %llu, %u steps\n", (unsigned long long)(seed + i), steps);
		fflush(stdout);
		run(w, seed + i, steps);
		admitted += w->admitted, denied += w->denied, gone += w->gone;
		settled += w->settled, nothing += w->nothing, forgiven += w->forgiven;
		seen_part += w->seen_part;
	}
	printf("%u admitted, %u denied, %u gone, %u settled, %u settled in vain, %u with debt forgiven, %u limits seen "
	       "in part\n",
	       admitted, denied, gone, settled, nothing, forgiven, seen_part);
	if (given == NULL) /* the sequences are worth something */
		assert_true(admitted > 100 && denied > 100 && gone > 10 && settled > 100 && nothing > 10 &&
			    seen_part > 100);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_sequences_agree_with_the_model) };
	return cmocka_run_group_tests_name("limits_model", tests, limiter_rig_begin, limiter_rig_end);
}

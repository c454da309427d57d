/* Whose call is next: lanes 5 : 3 : 1, tenants alike, none starved, bounds kept over several pools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/loop.h"
#include "lib/pool_line.h"

enum { CALLS = 400 };

struct hall {
	struct pool_shares *shares;
	struct loop *loop;
	struct pool_ear *ear;
	struct pool_line line;
	struct pool_call calls[CALLS];
	unsigned used;
};

static void nothing(void *arg)
{
	(void)arg;
}

static void open_hall(struct hall *hall, struct pool_shares *shares)
{
	memset(hall, 0, sizeof(*hall));
	hall->shares = shares;
	hall->loop = loop_new();
	hall->ear = pool_ear_new(shares, hall->loop, nothing, NULL);
	pool_line_init(&hall->line, shares, hall->ear, "owner");
}

static void close_hall(struct hall *hall)
{
	for (struct pool_call *call; (call = pool_line_any(&hall->line)) != NULL;)
		pool_line_leave(&hall->line, call);
	pool_line_free(&hall->line);
	pool_ear_free(&hall->ear);
	loop_free(&hall->loop);
}

static struct pool_call *come(struct hall *hall, const char *tenant, unsigned bound, enum lane lane)
{
	struct pool_call *call = &hall->calls[hall->used++];
	assert_true(hall->used <= CALLS);
	list_init(&call->node);
	pool_line_enter(&hall->line, call, pool_line_tenant(&hall->line, slice_of(tenant), bound), lane);
	return call;
}

static void hear(struct hall *hall)
{
	for (struct pool_part *part; (part = pool_ear_granted(hall->ear)) != NULL;)
		pool_line_granted(&hall->line, part);
}

/* As a pool does when it has looked whether anybody can go on. */
static struct pool_call *go_on(struct hall *hall)
{
	struct pool_call *call;
	hear(hall);
	call = pool_line_next(&hall->line);
	pool_line_settle(&hall->line);
	return call;
}

static enum lane lane_of(const struct hall *hall, const struct pool_call *call, const enum lane lanes[])
{
	return lanes[call - hall->calls];
}

static void lanes_share_as_they_weigh(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall hall;
	enum lane lanes[CALLS];
	unsigned served[LANES] = { 0 };
	(void)state;
	open_hall(&hall, shares);
	for (int i = 0; i < 300; i++) {
		lanes[i] = (enum lane)(i % LANES);
		come(&hall, "one", 0, lanes[i]);
	}
	for (int i = 0; i < 90; i++) {
		struct pool_call *call = pool_line_next(&hall.line);
		served[lane_of(&hall, call, lanes)]++;
		pool_line_over(&hall.line, call->tenant);
		if (i % 9 == 8) { /* at any time, not only in the end: within one call */
			assert_in_range(served[LANE_HIGH], (i + 1) * 5 / 9 - 1, (i + 1) * 5 / 9 + 1);
			assert_in_range(served[LANE_LOW], (i + 1) / 9 - 1, (i + 1) / 9 + 1);
		}
	}
	printf("  of 90: high %u, medium %u, low %u\n", served[0], served[1], served[2]);
	assert_int_equal(served[LANE_HIGH], 50);
	assert_int_equal(served[LANE_MEDIUM], 30);
	assert_int_equal(served[LANE_LOW], 10);
	close_hall(&hall);
	pool_shares_free(&shares);
}

static void other_weights_hold_too(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall hall;
	unsigned high = 0;
	(void)state;
	open_hall(&hall, shares);
	pool_line_weigh(&hall.line, (const int64_t[LANES]){ 7, 1, 2 });
	for (int i = 0; i < 200; i++)
		come(&hall, "one", 0, i % 2 == 0 ? LANE_HIGH : LANE_LOW);
	for (int i = 0; i < 90; i++) {
		struct pool_call *call = pool_line_next(&hall.line);
		high += (call - hall.calls) % 2 == 0;
		pool_line_over(&hall.line, call->tenant);
	}
	assert_in_range(high, 69, 71); /* 7 of 9 */
	close_hall(&hall);
	pool_shares_free(&shares);
}

/* A lane that was away is owed nothing, and one that was alone owes nothing. */
static void a_lane_that_comes_back_has_its_share_from_then_on(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall hall;
	enum lane lanes[CALLS];
	unsigned low = 0;
	(void)state;
	open_hall(&hall, shares);
	for (int i = 0; i < 50; i++) {
		lanes[hall.used] = LANE_LOW;
		come(&hall, "one", 0, LANE_LOW);
	}
	for (int i = 0; i < 20; i++) /* alone */
		pool_line_over(&hall.line, pool_line_next(&hall.line)->tenant);
	for (int i = 0; i < 50; i++) {
		lanes[hall.used] = LANE_HIGH;
		come(&hall, "one", 0, LANE_HIGH);
	}
	for (int i = 0; i < 30; i++) {
		struct pool_call *call = pool_line_next(&hall.line);
		low += lane_of(&hall, call, lanes) == LANE_LOW;
		pool_line_over(&hall.line, call->tenant);
	}
	assert_in_range(low, 4, 6); /* 1 of 6 */
	close_hall(&hall);
	pool_shares_free(&shares);
}

static void tenants_of_a_lane_are_alike(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall hall;
	char order[64] = "";
	(void)state;
	open_hall(&hall, shares);
	for (int i = 0; i < 30; i++)
		come(&hall, "a", 0, LANE_MEDIUM);
	for (int i = 0; i < 3; i++)
		come(&hall, "b", 0, LANE_MEDIUM);
	come(&hall, "c", 0, LANE_MEDIUM);
	for (int i = 0; i < 9; i++) {
		struct pool_call *call = pool_line_next(&hall.line);
		strcat(order, call->tenant->name);
		pool_line_over(&hall.line, call->tenant);
		if (i == 4)
			come(&hall, "d", 0,
			     LANE_MEDIUM); /* late: it stands behind who still has a turn in this round */
	}
	assert_string_equal(order, "abcabdaba");
	close_hall(&hall);
	pool_shares_free(&shares);
}

static void first_come_first_served_within_a_tenant(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall hall;
	(void)state;
	open_hall(&hall, shares);
	for (int i = 0; i < 20; i++)
		come(&hall, "", 0, LANE_LOW);
	pool_line_leave(&hall.line, &hall.calls[3]);
	for (int i = 0; i < 20; i++)
		if (i != 3)
			assert_ptr_equal(pool_line_next(&hall.line), &hall.calls[i]);
	assert_null(pool_line_next(&hall.line));
	close_hall(&hall);
	pool_shares_free(&shares);
}

static void a_bound_holds_nobody_else_up(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall hall;
	struct pool_call *first, *second;
	(void)state;
	open_hall(&hall, shares);
	for (int i = 0; i < 5; i++)
		come(&hall, "bounded", 2, LANE_HIGH);
	come(&hall, "other", 0, LANE_LOW);
	first = pool_line_next(&hall.line);
	assert_string_equal(first->tenant->name, "bounded");
	assert_string_equal(pool_line_next(&hall.line)->tenant->name, "other"); /* both lanes began at the same tag */
	second = pool_line_next(&hall.line);
	assert_string_equal(second->tenant->name, "bounded");
	assert_null(pool_line_next(&hall.line));
	assert_int_equal(hall.line.waiting, 3);
	assert_int_equal(hall.line.ready, 0);
	pool_line_over(&hall.line, first->tenant);
	hear(&hall);
	assert_int_equal(hall.line.ready, 3);
	assert_string_equal(pool_line_next(&hall.line)->tenant->name, "bounded");
	assert_null(pool_line_next(&hall.line));
	pool_line_over(&hall.line, second->tenant);
	hear(&hall);
	pool_line_tenant(&hall.line, SLICE("bounded"), 0); /* a reload took the bound away */
	hear(&hall);
	assert_non_null(pool_line_next(&hall.line));
	assert_non_null(pool_line_next(&hall.line));
	assert_int_equal(hall.line.waiting, 0);
	close_hall(&hall);
	pool_shares_free(&shares);
}

/* Two pools of one owner: a place that one gives back goes to the other, which waited before. */
static void a_bound_is_one_for_all_pools_of_an_owner(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall one, two;
	struct pool_call *held;
	(void)state;
	open_hall(&one, shares);
	open_hall(&two, shares);
	come(&one, "t", 1, LANE_HIGH);
	come(&one, "t", 1, LANE_HIGH);
	come(&two, "t", 1, LANE_HIGH);
	held = pool_line_next(&one.line);
	assert_non_null(held);
	assert_null(pool_line_next(&two.line));
	assert_null(pool_line_next(&one.line));
	pool_line_over(&one.line, held->tenant);
	assert_true(pool_ear_has_news(two.ear) && !pool_ear_has_news(one.ear));
	hear(&two);
	held = pool_line_next(&two.line);
	assert_non_null(held);
	assert_null(pool_line_next(&one.line));
	/* Who was granted a place and leaves gives it on. */
	pool_line_over(&two.line, held->tenant);
	pool_line_leave(&one.line, &one.calls[1]);
	assert_null(go_on(&one));
	come(&two, "t", 1, LANE_HIGH);
	assert_non_null(pool_line_next(&two.line));
	close_hall(&one);
	close_hall(&two);
	pool_shares_free(&shares);
}

/* A pool that has no connection for it keeps no place of a tenant from the tenant's other pools. */
static void a_place_that_cannot_be_used_is_somebodys(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall full, other;
	struct pool_call *held;
	(void)state;
	open_hall(&full, shares);
	open_hall(&other, shares);
	come(&other, "t", 1, LANE_HIGH);
	held = pool_line_next(&other.line);
	come(&full, "t", 1, LANE_HIGH);
	assert_null(pool_line_next(&full.line));
	come(&other, "t", 1, LANE_HIGH);
	assert_null(pool_line_next(&other.line));
	pool_line_over(&other.line, held->tenant);
	hear(&full); /* which had waited before */
	pool_line_settle(&full.line);
	hear(&other);
	assert_non_null(pool_line_next(&other.line));
	assert_int_equal(full.line.ready, 1); /* and it is asked for again */
	assert_null(pool_line_next(&full.line));
	close_hall(&full);
	close_hall(&other);
	pool_shares_free(&shares);
}

/* Where connections are scarce in one pool and the tenant's places are taken as soon as they are free in another, its calls in the first have their turn. */
static void a_place_is_kept_until_the_turn_comes(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall full, other;
	struct pool_call *held;
	(void)state;
	open_hall(&full, shares);
	open_hall(&other, shares);
	for (int i = 0; i < 5; i++)
		come(&other, "t", 2, LANE_HIGH);
	held = pool_line_next(&other.line);
	assert_non_null(pool_line_next(&other.line));
	assert_null(pool_line_next(&other.line));
	come(&full, "t", 2, LANE_HIGH);
	come(&full, "t", 2, LANE_HIGH);
	assert_null(pool_line_next(&full.line));
	pool_line_over(&other.line, held->tenant);
	hear(&full); /* it holds none, so it is the first; but it has no connection now */
	pool_line_settle(&full.line);
	hear(&other);
	assert_null(pool_line_next(&other.line));
	held = pool_line_next(&full.line); /* now it has one */
	assert_non_null(held);
	assert_null(pool_line_next(&full.line));
	pool_line_over(&full.line, held->tenant);
	hear(&full); /* which holds none again */
	held = pool_line_next(&full.line);
	assert_non_null(held);
	pool_line_over(&full.line, held->tenant); /* and nobody waits there */
	hear(&other);
	assert_non_null(pool_line_next(&other.line));
	close_hall(&full);
	close_hall(&other);
	pool_shares_free(&shares);
}

static void idle_tenants_are_forgotten(void **state)
{
	struct pool_shares *shares = pool_shares_new();
	static struct hall hall;
	struct pool_tenant *tenant;
	(void)state;
	open_hall(&hall, shares);
	tenant = pool_line_tenant(&hall.line, SLICE("t"), 3);
	assert_true(pool_line_admit(&hall.line, tenant));
	for (int i = 0; i < 3; i++)
		pool_line_tidy(&hall.line);
	assert_int_equal(tenant->running, 1); /* it runs: it is still there */
	pool_line_over(&hall.line, tenant);
	pool_line_tidy(&hall.line);
	assert_ptr_equal(pool_line_tenant(&hall.line, SLICE("t"), 3), tenant); /* used again */
	pool_line_tidy(&hall.line);
	pool_line_tidy(&hall.line);
	assert_true(list_empty(&hall.line.idle));
	close_hall(&hall);
	pool_shares_free(&shares); /* no share is left */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lanes_share_as_they_weigh),
		cmocka_unit_test(other_weights_hold_too),
		cmocka_unit_test(a_lane_that_comes_back_has_its_share_from_then_on),
		cmocka_unit_test(tenants_of_a_lane_are_alike),
		cmocka_unit_test(first_come_first_served_within_a_tenant),
		cmocka_unit_test(a_bound_holds_nobody_else_up),
		cmocka_unit_test(a_bound_is_one_for_all_pools_of_an_owner),
		cmocka_unit_test(a_place_that_cannot_be_used_is_somebodys),
		cmocka_unit_test(a_place_is_kept_until_the_turn_comes),
		cmocka_unit_test(idle_tenants_are_forgotten),
	};
	return cmocka_run_group_tests_name("pool_line", tests, NULL, NULL);
}

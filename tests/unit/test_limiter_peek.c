/* limiter_peek against a real Redis: what is left, when Redis says nothing, and who is told when the limiter goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/limiter.h"
#include "tests/support/redis_rig.h"

static struct redis_rig rig;
static struct limiter *limiter;
static unsigned heard; /* answers of Redis, as who measures hears them */

static const struct limits limits = { .of[LIMIT_rpd] = { .count = 100, .burst = 10 },
				      .of[LIMIT_tpm] = { .count = 1000, .strict = true },
				      .of[LIMIT_concurrency] = { .count = 4 } };

struct look {
	struct peek *peek;
	int told;
	bool known;
	struct limiter_left left[LIMIT_COUNT];
	struct look *cancels, *begins; /* from inside the answer */
	bool frees;
};

static void on_answered(void *arg, enum limiter_script script, int64_t took)
{
	(void)arg;
	assert_true(took >= 0);
	heard += script == LIMITER_PEEK;
}

static void open_limiter(int64_t timeout)
{
	limiter_free(&limiter);
	limiter = limiter_new(rig.loop, rig.redis,
			      &(struct limiter_options){
				      .timeout = timeout, .lease = 10 * CLOCK_SECOND, .answered = on_answered },
			      NULL);
}

static int begin(void **state)
{
	(void)state;
	redis_rig_begin(&rig, NULL);
	open_limiter(RIG_TIMEOUT);
	heard = 0;
	return 0;
}

static int end(void **state)
{
	(void)state;
	limiter_free(&limiter);
	redis_rig_end(&rig);
	return 0;
}

static void on_left(struct peek *peek, void *arg, const struct limiter_left left[LIMIT_COUNT]);

static void start(struct look *look, enum limiter_scope scope, struct slice name)
{
	char copy[LIMITER_NAME_MOST];
	struct limits *own = malloc(sizeof *own);
	assert_non_null(own);
	*own = limits;
	memcpy(copy, name.data, name.len);
	look->told = 0;
	look->peek = limiter_peek(limiter, scope, slice_make(copy, name.len), own, on_left, look);
	free(own); /* name and limits are copied */
	memset(copy, 'x', sizeof copy);
	assert_int_equal(look->told, 0);
}

static void on_left(struct peek *peek, void *arg, const struct limiter_left left[LIMIT_COUNT])
{
	struct look *look = arg;
	assert_ptr_equal(look->peek, peek);
	look->peek = NULL;
	look->told++;
	look->known = left != NULL;
	if (left != NULL)
		memcpy(look->left, left, sizeof look->left);
	if (look->cancels != NULL)
		limiter_peek_cancel(&look->cancels->peek);
	if (look->begins != NULL)
		start(look->begins, LIMITER_TENANT, SLICE("acme"));
	if (look->frees)
		limiter_free(&limiter);
}

static void wait_for(const struct look *look)
{
	while (look->told == 0)
		loop_turn(rig.loop, true);
}

static void on_lease(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	(void)lease;
	*(struct limiter_answer *)arg = *answer;
}

static struct limiter_answer admit(struct lease **lease, const char *id, int64_t tokens)
{
	struct limiter_answer answer = { .took = -1 };
	struct limiter_ask ask = { .id = slice_of(id), .tokens = tokens };
	ask.scope[LIMITER_TENANT].name = SLICE("acme");
	ask.scope[LIMITER_TENANT].limits = &limits;
	ask.scope[LIMITER_TENANT].requests = 1;
	*lease = limiter_admit(limiter, &ask, on_lease, &answer);
	while (answer.took < 0)
		loop_turn(rig.loop, true);
	return answer;
}

static void says_what_admit_says(void **state)
{
	struct look look = { 0 }, other = { 0 };
	struct lease *lease[2];
	(void)state;
	start(&look, LIMITER_TENANT, SLICE("acme"));
	wait_for(&look);
	assert_int_equal(redis_server_int(rig.server, "DBSIZE"), 0);
	assert_int_equal(look.left[LIMIT_rpd].remaining, 10);
	(void)admit(&lease[0], "a.1", 300);
	struct limiter_answer answer = admit(&lease[1], "b.1", 0);
	start(&look, LIMITER_TENANT, SLICE("acme"));
	start(&other, LIMITER_MODEL, SLICE("acme")); /* another's, of the same name */
	wait_for(&other);
	assert_true(look.told == 1 && look.known && other.known);
	for (int k = 0; k < LIMIT_COUNT; k++)
		assert_int_equal(look.left[k].known, answer.left[k].known);
	assert_int_equal(look.left[LIMIT_rpd].remaining, 8);
	assert_int_equal(look.left[LIMIT_rpd].remaining, answer.left[LIMIT_rpd].remaining);
	assert_true(look.left[LIMIT_tpm].remaining >= answer.left[LIMIT_tpm].remaining);
	assert_true(look.left[LIMIT_tpm].used == 0.3);
	assert_true(look.left[LIMIT_tpm].reset <= answer.left[LIMIT_tpm].reset);
	assert_int_equal(look.left[LIMIT_concurrency].remaining, 2);
	assert_int_equal(other.left[LIMIT_rpd].remaining, 10);
	assert_int_equal(heard, 3);
	limiter_settle(&lease[0], &(struct limiter_used){ .tokens = 300 });
	limiter_settle(&lease[1], &(struct limiter_used){ 0 });
	while (limiter_unsettled(limiter) > 0)
		loop_turn(rig.loop, true);
}

static void a_cancelled_one_is_silent(void **state)
{
	struct look look[3] = { { 0 } };
	(void)state;
	look[0].cancels = &look[2];
	for (int i = 0; i < 3; i++)
		start(&look[i], LIMITER_UPSTREAM, SLICE("gem"));
	limiter_peek_cancel(&look[1].peek);
	limiter_peek_cancel(&look[1].peek);
	assert_null(look[1].peek);
	wait_for(&look[0]); /* and cancels the last */
	look[0].cancels = NULL;
	start(&look[0], LIMITER_UPSTREAM, SLICE("gem")); /* behind them all */
	wait_for(&look[0]);
	assert_true(look[0].known && look[1].told == 0 && look[2].told == 0);
}

static void another_may_begin_from_the_answer(void **state)
{
	struct look second = { 0 }, first = { .begins = &second };
	(void)state;
	start(&first, LIMITER_TENANT, SLICE("acme"));
	wait_for(&second);
	assert_true(first.told == 1 && second.known);
}

static void a_hung_redis_is_not_waited_for(void **state)
{
	struct look look = { 0 };
	(void)state;
	redis_rig_until_up(&rig);
	open_limiter(30 * CLOCK_MILLISECOND);
	redis_server_pause(rig.server);
	start(&look, LIMITER_TENANT, SLICE("acme"));
	wait_for(&look);
	assert_false(look.known);
	redis_server_resume(rig.server);
	open_limiter(RIG_TIMEOUT);
	start(&look, LIMITER_TENANT, SLICE("acme"));
	wait_for(&look);
	assert_true(look.known);
}

static void an_error_is_no_answer(void **state)
{
	struct look look = { 0 };
	(void)state;
	redis_server_do(rig.server, "SET sluice:{t:acme}:q text");
	start(&look, LIMITER_TENANT, SLICE("acme"));
	wait_for(&look);
	assert_true(look.told == 1 && !look.known);
	assert_int_equal(heard, 1);
}

static void those_who_wait_hear_that_the_limiter_goes(void **state)
{
	struct look look[3] = { { 0 } };
	(void)state;
	look[1].cancels = &look[2];
	for (int i = 0; i < 3; i++)
		start(&look[i], LIMITER_TENANT, SLICE("acme"));
	limiter_free(&limiter);
	assert_true(look[0].told == 1 && look[1].told == 1 && !look[0].known && !look[1].known);
	assert_true(look[2].told == 0 && look[2].peek == NULL);
	open_limiter(RIG_TIMEOUT); /* what Redis answers them meets nobody */
	start(&look[0], LIMITER_TENANT, SLICE("acme"));
	wait_for(&look[0]);
	assert_true(look[0].known);
	look[0].frees = true;
	start(&look[0], LIMITER_TENANT, SLICE("acme"));
	start(&look[1], LIMITER_TENANT, SLICE("acme"));
	look[1].cancels = NULL;
	wait_for(&look[0]);
	assert_true(look[0].known && look[1].told == 1 && !look[1].known && limiter == NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(says_what_admit_says, begin, end),
		cmocka_unit_test_setup_teardown(a_cancelled_one_is_silent, begin, end),
		cmocka_unit_test_setup_teardown(another_may_begin_from_the_answer, begin, end),
		cmocka_unit_test_setup_teardown(a_hung_redis_is_not_waited_for, begin, end),
		cmocka_unit_test_setup_teardown(an_error_is_no_answer, begin, end),
		cmocka_unit_test_setup_teardown(those_who_wait_hear_that_the_limiter_goes, begin, end),
	};
	return cmocka_run_group_tests_name("limiter_peek", tests, NULL, NULL);
}

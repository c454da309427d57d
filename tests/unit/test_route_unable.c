/* route_choose when none will do: what a target cannot, and how it is said; what is stopped or barred, and how long to wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "tests/support/route_rig.h"

enum { DETAIL_MOST = 256 };

static void the_least_wait_counts(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 2, 2);
	route_rig_stop(&rig, 0, 0, 500);
	route_rig_stop(&rig, 0, 1, 300);
	route_rig_stop(&rig, 1, 0, 200);
	route_rig_stop(&rig, 1, 1, 400);
	rig.health[1][0].paused = true;
	assert_int_equal(route_rig_ask(&rig), ROUTE_STOPPED);
	assert_int_equal(rig.choice.wait, 200);
	assert_true(rig.choice.paused);
	assert_int_equal(rig.route.target, 0);
	route_mark(&rig.q.failed, 1, 0); /* when it has failed, it may be waited for all the same */
	assert_int_equal(route_rig_ask(&rig), ROUTE_STOPPED);
	assert_int_equal(rig.choice.wait, 200);
	route_mark(&rig.q.barred, 1, 0); /* what is barred is not waited for */
	assert_int_equal(route_rig_ask(&rig), ROUTE_STOPPED);
	assert_int_equal(rig.choice.wait, 300);
	assert_false(rig.choice.paused);
	rig.health[0][1].wait = 0; /* any moment: yet it is stopped, and not barred */
	assert_int_equal(route_rig_ask(&rig), ROUTE_STOPPED);
	assert_int_equal(rig.choice.wait, 1);
}

static void what_cannot_is_not_asked(void **state)
{
	struct route_rig rig;

	(void)state;
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 3, 1);
	rig.targets[0].capabilities = (struct config_capabilities){ .tools = true, .context = 4096 };
	rig.targets[1].capabilities = (struct config_capabilities){ .media = true, .context = 8192 };
	rig.q.input = 4000;
	rig.q.output = 96;
	assert_int_equal(route_rig_target(&rig), 0);
	rig.q.output = 97;
	assert_int_equal(route_rig_target(&rig), 1);
	rig.q.input = 8096;
	assert_int_equal(route_rig_target(&rig), 2);
	rig.q.input = rig.q.output = INT64_MAX;
	assert_int_equal(route_rig_target(&rig), 2);
	rig.q.input = rig.q.output = 0;
	rig.q.media = true;
	assert_int_equal(route_rig_target(&rig), 1);
	assert_int_equal(rig.looks, 2);
	rig.q.tools = true;
	assert_int_equal(route_rig_target(&rig), 2);
	route_rig_stop(&rig, 2, 0, 7); /* it could: this is another thing than being unable */
	assert_int_equal(route_rig_ask(&rig), ROUTE_STOPPED);
	assert_int_equal(rig.choice.wait, 7);
}

/* clang-format off */
static const struct {
	struct config_capabilities can[2];
	bool media, tools;
	int64_t input, output;
	const char *detail;
} unable[] = {
	{ { { .tools = true }, { .tools = true } }, true, true, 1, 1, "Needed: images, audio or files." },
	{ { { .media = true }, { .media = true } }, true, true, 1, 1, "Needed: tools." },
	{ { { .media = false }, { .media = false } }, true, true, 1, 1, "Needed: images, audio or files; tools." },
	{ { { .context = 100 }, { .context = 200 } }, false, false, 150, 51, "Needed: 201 tokens, at most 200." },
	{ { { .context = 300 }, { .context = 200 } }, false, true, 300, 1, "Needed: tools; 301 tokens, at most 300." },
	{ { { .context = 300 }, { .context = 200 } }, true, true, 300, 1, "Needed: images, audio or files; tools; 301 tokens, at most 300." },
	{ { { .tools = true }, { .media = true } }, true, true, 1, 1, "Needed together: images, audio or files; tools." },
	{ { { .tools = true, .context = 100 }, { .context = 200 } }, false, true, 100, 1, "Needed together: tools; 101 tokens." },
	{ { { .media = true, .tools = true, .context = 100 }, { .media = true } }, true, true, 100, 1, "Needed together: tools; 101 tokens." },
};
/* clang-format on */

static void it_is_said_what_none_can(void **state)
{
	struct route_rig rig;
	struct buf detail;

	(void)state;
	buf_init(&detail, DETAIL_MOST);
	route_rig_init(&rig, CONFIG_STRATEGY_PRIORITY, 2, 1);
	for (size_t i = 0; i < ARRAY_LENGTH(unable); i++) {
		rig.targets[0].capabilities = unable[i].can[0];
		rig.targets[1].capabilities = unable[i].can[1];
		rig.q.media = unable[i].media;
		rig.q.tools = unable[i].tools;
		rig.q.input = unable[i].input;
		rig.q.output = unable[i].output;
		assert_int_equal(route_rig_ask(&rig), ROUTE_UNABLE);
		assert_int_equal(rig.looks, 0);
		buf_clear(&detail);
		route_say_unable(&rig.q, &rig.route, &detail);
		if (!slice_equal(buf_slice(&detail), slice_of(unable[i].detail)))
			fail_msg("case %zu: %.*s", i, SLICE_ARGS(buf_slice(&detail)));
	}
	buf_free(&detail);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_least_wait_counts),
		cmocka_unit_test(what_cannot_is_not_asked),
		cmocka_unit_test(it_is_said_what_none_can),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/support/pool_side.h"

#include <string.h>

#include "lib/base.h"

static void count_end(struct rig_call *call)
{
	struct side *side = CONTAINER_OF(call->rig, struct side, rig);
	if (call->result.outcome == POOL_DONE)
		atomic_fetch_add(&side->finished, 1);
	else
		atomic_fetch_add(&side->failed, 1);
}

static void *run(void *arg)
{
	struct side *side = arg;
	unsigned begun = 0;
	side->rig.loop = loop_new();
	side->rig.pool = pool_new(side->rig.loop, &side->rig.options, NULL);
	while (!atomic_load(&side->over)) {
		unsigned bound = atomic_exchange(&side->bound, 0);
		if (bound > 0) {
			side->rig.options.connections = side->rig.options.start = bound;
			pool_change(side->rig.pool, &side->rig.options);
		}
		for (; atomic_load(&side->begin) && begun < side->count; begun++) {
			side->calls[begun].then = count_end;
			rig_call(&side->rig, &side->calls[begun], &side->request);
		}
		rig_turn(&side->rig);
	}
	pool_stats(side->rig.pool, &side->stats);
	pool_free(&side->rig.pool);
	loop_turn(side->rig.loop, false);
	loop_free(&side->rig.loop);
	return NULL;
}

void side_open(struct side *side, struct bad_server *server, struct pool_shares *shares, unsigned most, unsigned count)
{
	memset(side, 0, sizeof(*side));
	rig_options(&side->rig, bad_server_origin(server));
	side->rig.options.shares = shares;
	side->rig.options.name = "pool";
	side->rig.options.owner = "owner";
	side->rig.options.group = "group";
	side->rig.options.connections = side->rig.options.start = most;
	side->request = rig_request("GET", "/x");
	side->count = count;
}

void side_start(struct side *side)
{
	int result = pthread_create(&side->thread, NULL, run, side);
	CHECK(result == 0);
}

void side_end(struct side *side)
{
	atomic_store(&side->over, true);
	int result = pthread_join(side->thread, NULL);
	CHECK(result == 0);
}

unsigned side_finished(struct side *sides, unsigned count)
{
	unsigned sum = 0;
	for (unsigned i = 0; i < count; i++) {
		CHECK(atomic_load(&sides[i].failed) == 0);
		sum += atomic_load(&sides[i].finished);
	}
	return sum;
}

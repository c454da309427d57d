/* A world around the flow in which nothing happens by itself: clients, Redis and upstreams are played by the test, one step at a time, so that each step
 * can be made to fail. Everything of svc/ is real; svc/http, lib/limiter, lib/pool and lib/redis are stood in for by the functions of world.c, which
 * the linker takes instead.
 *
 *   scenario ──► step 0, 1, 2 … (what is awaited comes) ──► the end: world_check
 *                  └─ at step `at`: the fault comes instead */
#ifndef SLUICE_WORLD_H
#define SLUICE_WORLD_H

#include "lib/base.h"
#include "lib/limiter.h"
#include "lib/pool.h"
#include "lib/slice.h"

/* clang-format off */
/* X(name): what can come instead of what is awaited */
#define WORLD_FAULTS(X) \
	X(none) X(client_gone) X(client_stalled) X(drain) X(deadline) X(lease_lost) X(body_fault) X(denied) X(never) X(unavailable) \
	X(no_slot) X(connect_failed) X(tls_failed) X(reset_unsent) X(reset) X(truncated) X(garbage) X(first_byte_timeout) \
	X(idle_timeout) X(total_timeout) X(bad_head)
/* clang-format on */
#define WORLD_ENUM(name) WORLD_##name,
enum world_fault { WORLD_FAULTS(WORLD_ENUM) WORLD_FAULT_COUNT };
#undef WORLD_ENUM
const char *world_fault_name(enum world_fault);

struct world_scenario {
	const char *name, *target;
	const char *method;    /* NULL: POST */
	const char *body;      /* sent in two pieces; NULL: none */
	const char *type;      /* of the upstream's answer */
	int status;            /* of the upstream's answer */
	const char *pieces[8]; /* of its body */
	const char *without;   /* what the gateway takes out of the answer again; NULL: nothing */
	bool promised;         /* the upstream says Content-Length */
	bool marked;           /* its last piece says that it is whole */
	bool slow;             /* the client says "pause" at every write */
	int64_t tokens;        /* charged when all goes well */
};

struct world_outcome {
	int steps;        /* how many answers were awaited */
	bool fault_came;  /* the fault applied at that step */
	int pieces;       /* of the upstream's body that had come */
	char outcome[40]; /* of the one request, as it was counted */
	int status;
	int64_t tokens;          /* settled */
	bool leased, never_sent; /* something was reserved; and nothing was sent */
};

/* Runs the scenario with that fault at that step (fault none: all goes well); checks all that must hold at its end by cmocka's asserts. */
void world_run(const struct world_scenario *, enum world_fault, int at, struct world_outcome *);

#endif

/* A world around the flow in which nothing happens by itself: clients, Redis, upstreams and other requests are played by the test, one step at a time, so that
 * each step can be made to fail. Everything of svc/ is real, and so are lib/cache and lib/answer; svc/http, lib/limiter, lib/queue, lib/pool, lib/redis, lib/flight and
 * lib/subscriber are stood in for by the functions of this folder, which the linker takes instead.
 *
 *   scenario ──► step 0, 1, 2 … (what is awaited comes) ──► the end: all that must hold
 *                  ├─ at step `leaves_at`: the client leaves, and the play goes on
 *                  └─ from step `at` on, as soon as it can: the fault comes instead */
#ifndef SLUICE_WORLD_H
#define SLUICE_WORLD_H

#include "lib/base.h"
#include "lib/breaker.h"
#include "lib/flight.h"
#include "lib/limiter.h"
#include "lib/pool.h"
#include "lib/slice.h"

/* clang-format off */
/* X(name): what can come instead of what is awaited */
#define WORLD_FAULTS(X) \
	X(none) X(client_gone) X(client_stalled) X(drain) X(deadline) X(lease_lost) X(body_fault) X(denied) X(full) X(never) X(unavailable) X(late) \
	X(no_slot) X(connect_failed) X(tls_failed) X(reset_unsent) X(reset) X(truncated) X(garbage) X(first_byte_timeout) \
	X(idle_timeout) X(total_timeout) X(bad_head) X(lookup_unavailable) X(flight_lost) X(no_ticket)
/* X(name): what a seat is told, and what comes of the flight that it follows. `stale_behind`: it leads, and something stale will do if the upstream fails */
#define WORLD_WORDS(X) \
	X(end) X(hit) X(stale) X(refresh) X(lead) X(stale_behind) X(follow) X(pass) X(nothing) X(denied) \
	X(bad_hit) X(short_hit) X(bad_refresh) X(head) X(bad_head) X(bytes) X(whole) X(failed) X(alone)
/* X(name): of all that is awaited, what comes first; `turns`: the call and the client by turns */
#define WORLD_ORDERS(X) X(call) X(flight) X(client) X(turns)
/* clang-format on */
#define WORLD_ENUM(name) WORLD_##name,
enum world_fault { WORLD_FAULTS(WORLD_ENUM) WORLD_FAULT_COUNT };
#undef WORLD_ENUM
#define WORLD_ENUM(name) WORD_##name,
enum world_word { WORLD_WORDS(WORLD_ENUM) WORD_COUNT };
#undef WORLD_ENUM
#define WORLD_ENUM(name) ORDER_##name,
enum world_order { WORLD_ORDERS(WORLD_ENUM) ORDER_COUNT };
#undef WORLD_ENUM
const char *world_fault_name(enum world_fault);
const char *world_order_name(enum world_order);

enum { WORLD_PIECES = 8, WORLD_WORDS_MOST = 12 };

struct world_scenario {
	const char *name, *target;
	const char *method;               /* NULL: POST */
	const char *body;                 /* sent in two pieces; NULL: none */
	const char *cache_control;        /* the client's; NULL: none */
	const char *type;                 /* of the upstream's answer */
	int status;                       /* of the upstream's answer */
	const char *pieces[WORLD_PIECES]; /* of its body */
	const char *without;              /* what the gateway takes out of the answer again; NULL: nothing */
	bool promised;                    /* the upstream says Content-Length */
	bool marked;                      /* its last piece says that it is whole */
	bool slow;                        /* the client says "pause" at every write */
	int64_t tokens;                   /* charged when all goes well */

	bool again; /* the first call pays for one more: model "many" of two endpoints, and of a fallback */
	int fails;  /* so many calls, from the first, get this answer instead, */
	int fail_status;
	const char *fail_body;
	const char *retry_after; /* with this field; NULL: without */
	enum breaker_gate gate;  /* of the first endpoint */
	enum limiter_scope denied_by;
	int waits; /* so often it is told to wait, before it is admitted */

	enum world_order order;
	enum world_word words
		[WORLD_WORDS_MOST]; /* each comes when a seat awaits it; a seat that awaits more leads, or finds nothing */
	const char *stored;         /* the body that is stored */
	const char *along[WORLD_PIECES]; /* of the answer that another asked for: what `bytes` brings */
	struct slice note;               /* of `denied` and `failed` */
	bool local;                      /* it has been found once, and no change was heard since */
	bool counts_hits;
	bool always;                /* every answer is kept and shared */
	const char *answer_control; /* Cache-Control of the upstream's answer; NULL: none */
	bool others;                /* when the leader's client leaves, somebody else is there */
	bool slides;                /* the record is kept for nobody who is slow */
	bool private;               /* the flight takes no head */
	bool full;                  /* the Redis of answers has no room */
	enum world_fault
		leaves; /* client_gone, client_stalled or deadline: it comes at the step `leaves_at`, beside the fault */
	int leaves_at;
};

/* How the flight that was led ended. */
enum world_flight {
	WORLD_FLIGHT_NONE, /* nobody led */
	WORLD_FLIGHT_LEFT,
	WORLD_FLIGHT_ALONE,
	WORLD_FLIGHT_DONE,
	WORLD_FLIGHT_STORED,
	WORLD_FLIGHT_BROKEN,
	WORLD_FLIGHT_REFUSED,
	WORLD_FLIGHT_PRIVATE,
};

struct world_outcome {
	int steps;        /* how many answers were awaited */
	bool fault_came;  /* the fault applied, */
	int fault_step;   /* at this step, */
	bool hit_twin;    /* and to the request that refetches what is stale */
	bool left;        /* the client left, as the scenario has it */
	bool waited_on;   /* the fault came to one in a line, which waits for that too: it is as if none had come */
	int pieces;       /* of the upstream's body that had come */
	int along;        /* of the flight's answer that had come, */
	bool took;        /* and something of it was given */
	char outcome[40]; /* of the client's request, as it was counted */
	int status;
	bool answered;                 /* the client has heard something */
	bool tells_limits;             /* RateLimit */
	char refresh[40];              /* of the one that refetched; empty: none did */
	char cache[64];                /* Cache-Status, up to the key */
	char found[40];                /* what cache_total counted; empty: nothing */
	int64_t tokens;                /* settled, all together */
	bool leased, never_sent;       /* something was reserved for a call; and nothing was sent */
	int failures, pauses, tickets; /* noted at a breaker; told to one; given */
	char model[40];                /* that it was counted under */
	int leases, calls, joins,
		counted; /* quotas asked for; transfers; seats; requests that stayed counted for the tenant */
	enum world_flight flight;
	char note[FLIGHT_NOTE]; /* of its end */
	size_t note_length;
};

/* Runs the scenario with that fault at the first step from `at` on at which it can come (fault none: all goes well); checks all that must hold at its end by cmocka's asserts. */
void world_run(const struct world_scenario *, enum world_fault, int at, struct world_outcome *);

#endif

/* What the world's parts share: what the flow believes to be clients, leases, transfers and seats.
 *
 *   world.c        the play: what comes, in which order, and what comes instead
 *   world_check.c  what must hold at the end
 *   world_http.c, world_limiter.c, world_queue.c, world_pool.c, world_redis.c, world_breaker.c, world_flight.c
 *                  stand in for svc/http, lib/limiter, lib/queue, lib/pool, lib/redis, lib/breaker; lib/flight and lib/subscriber
 *
 * What can come is asked for by world_*_next and world_*_fault: false when it cannot come where the flow now waits. */
#ifndef SLUICE_WORLD_INTERNAL_H
#define SLUICE_WORLD_INTERNAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/queue.h"
#include "svc/config.h"
#include "svc/flow.h"
#include "svc/http.h"
#include "svc/request.h"
#include "svc/worker.h"
#include "tests/flow/world/world.h"

enum { WORLD_MANY = 6, WORLD_ANSWER = 64 * 1024 };

struct world_head; /* a request's head, and all texts that it has: gone with the exchange */
struct exchange {
	struct world_head *head;
	void *owner;
	bool takes_body, paused, answered, ended, clean, gone;
	int body_piece; /* of the request, sent so far */
	int status;
	int64_t promised;
	char cache[64];
	bool tells_limits;
	struct buf body;
	const struct flight_seat *source; /* whose verdict its answer follows; NULL: none was asked for */
};
struct lease {
	limiter_done *done;
	void *arg;
	bool answered, admitted, settled, stands; /* stands: in a line */
	int waited;                               /* so often it was told to wait */
	int64_t may_wait;
	bool for_call; /* more than the tenant takes part */
	int64_t tokens, requests;
	struct limiter_used used;
};
struct queue_place {
	queue_done *done;
	void *arg;
	bool taken;
};
struct probe {
	breaker_probed *done;
	void *arg;
	bool answered, granted, ended, well;
	enum breaker_result result;
};
struct transfer {
	struct pool_receiver receiver;
	void *arg;
	bool began, ended, cancelled, paused;
	bool whole; /* it ended well */
	bool fails; /* its answer is the scenario's failure */
	size_t piece;
	const struct slice *body; /* borrowed until it ends */
	size_t body_count;
	struct buf sent; /* the body as it was when the transfer began */
};
struct flight_seat {
	struct flight_ask ask;
	const struct flight_events *events;
	void *arg, *first; /* whose it is; who joined */
	bool told, left;
	enum flight_verdict verdict;
	bool poisoned; /* what it was given has a head that nobody understands, or is not as long as that says */
	/* The record: what it wrote, or what has come. */
	bool has_head, took;
	struct buf head, bytes;
	size_t taken;
	int along;
	enum flight_state state; /* of the flight that it follows */
	struct slice note;
	/* One that leads. */
	bool led, leads, orphan;
	enum world_flight ending;
	int calls_at_end; /* the transfers that had begun by then */
	struct flight_end end;
	char end_note[FLIGHT_NOTE];
};

struct world {
	const struct world_scenario *scenario;
	enum world_fault fault;
	int at, step, fault_step;
	bool fault_came, left;
	const void *fault_hit; /* whose it was */
	const void *client;    /* the request that the client made */
	int word;              /* the next */
	bool scouting;         /* the play has not begun: what comes later is found for the first time */
	struct worker_shared shared;
	struct worker *worker;
	const struct config *config;
	struct exchange exchange;
	struct lease leases[WORLD_MANY];
	struct transfer transfers[WORLD_MANY];
	struct flight_seat seats[WORLD_MANY];
	struct queue_place place; /* the client's: no other waits */
	struct probe probes[WORLD_MANY];
	int leases_count, transfers_count, seats_count, probes_count;
	int noted_well, noted_worse, noted_bad,
		pauses;               /* at breakers: a head, behind a head, without one; and pauses */
	struct world_outcome outcome; /* what is known of it before the end */
};
/* The one that stands at a time: the stand-ins have no other way to it. */
struct world *world_now(void);

/* All bytes that `pieces` come to. */
void world_join_pieces(const char *const pieces[WORLD_PIECES], struct buf *out);
/* The client's call that answered last; NULL: none has. */
const struct transfer *world_answering(const struct world *);
/* The upstream's answer as a client should have it. */
void world_expected(struct buf *out);

/* world_http.c */
void world_http_open(struct exchange *, const char *key);
void world_http_close(struct exchange *);
void world_http_gone(struct exchange *, enum http_gone);
bool world_http_upload(void); /* the next piece of the request's body */
bool world_http_writable(void);
bool world_http_broken(void);

/* world_limiter.c */
bool world_limiter_next(void);
bool world_limiter_fault(enum limiter_verdict);
bool world_limiter_lost(void);

/* world_queue.c */
bool world_queue_next(void);
bool world_queue_late(void);

/* world_pool.c */
bool world_pool_next(void);
bool world_pool_fault(enum pool_outcome);
bool world_pool_bad_head(void);
void world_pool_close(void);

/* world_breaker.c */
bool world_breaker_next(void);
bool world_breaker_fault(void);

/* world_flight.c */
bool world_flight_next(void);
bool world_flight_unavailable(void);
bool world_flight_lost(void);
void world_flight_close(void);

/* world_check.c */
void world_note_ended(struct world *); /* before the loop turns: who has ended is buried then */
void world_check(struct world_outcome *);

#endif

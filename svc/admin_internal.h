/* What the admin plane's files share.
 *
 *   admin.c         the wire: who may ask, questions, answers
 *   admin_pages.c   the table of paths; what fills each page, but for
 *   admin_status.c  /status
 *   admin_quotas.c  what Redis says is left of the quotas
 *   admin_breakers.c  what the workers know of where calls go
 *   admin_queue.c   who waits for room in a limit
 *   admin_purge.c   having shared answers purged
 *   admin_force.c   having breakers forced
 *   admin_body.c    the bodies of these two */
#ifndef SLUICE_ADMIN_INTERNAL_H
#define SLUICE_ADMIN_INTERNAL_H

#include "lib/buf.h"
#include "lib/cache.h"
#include "lib/flight.h"
#include "lib/limiter.h"
#include "lib/pool.h"
#include "svc/admin.h"
#include "svc/admin_breakers.h"
#include "svc/admin_force.h"
#include "svc/admin_purge.h"
#include "svc/admin_queue.h"
#include "svc/admin_quotas.h"
#include "svc/http.h"
#include "svc/server.h"

enum { ADMIN_MAGIC = 0x41444d49 };

/* Owned by the control thread. `fullest` is what the last look at the quotas found, whoever asked for it. */
struct admin {
	unsigned magic;
	struct loop *loop;
	struct server *server;
	struct log *log;
	struct http_listener *listener;
	struct http_server *http;
	void (*drain)(void *arg);
	void *drain_arg;
	struct admin_quotas *refresh; /* under way for /metrics */
	int64_t looked;               /* when the last look ended; clock_now; 0: none has */
	double fullest[LIMITER_SCOPES][LIMIT_COUNT];
};

/* The pools of one upstream: each worker's summed, and what they are like all together. */
struct admin_pools {
	struct pool_stats calls, streams;
	struct pool_shared_stats all_calls, all_streams;
};

/* What is shared of answers, summed over the workers. */
struct admin_shared {
	unsigned up, listening; /* workers whose store answers; whose own copies are sure to be true */
	struct flights_stats flights;
	struct cache_stats hot;
};

/* One question to the admin plane; lives until its body, its visit, its quotas, its purge or its forcing are there, and its reader has the answer or has left. */
struct admin_question {
	struct admin *admin;
	const struct admin_row *row;
	struct exchange *exchange; /* NULL: the reader has left */
	int status;
	unsigned awaited; /* the body, the visit, the quotas, the purge, the forcing */
	bool gathers;     /* the body is still coming: it waits for nothing else */
	struct buf body, answer;
	struct admin_quotas *quotas; /* NULL: not asked for */
	struct admin_purge *purge;   /* the same */
	struct admin_force *force;   /* the same */
	/* What the visit gathers. */
	const struct config *config; /* held */
	struct metrics *metrics;
	struct admin_pools *pools; /* as many as config->upstreams_count */
	struct admin_breakers *breakers;
	struct admin_queue *queue;
	unsigned workers, redis_up, requests, connections, leases, unsettled;
	struct {
		uint64_t admitted, denied, local_admitted, local_denied; /* asks; `local_`: without Redis */
	} quota;
	struct {
		unsigned alone, live; /* workers of this instance without Redis; of the fleet */
		const char *mode;
		char why[160]; /* "": with Redis */
		bool refuses;  /* it answers that */
		int64_t since;
	} mode; /* the first worker's that is alone; else that of the last to come back */
	char risks[WORKER_RISKS][WORKER_RISK_MOST]; /* as the first worker has them */
	struct admin_shared shared;
};

struct admin_row {
	struct slice path; /* what is in braces at its end stands for a name, of which a path has one there */
	struct slice method, type;
	void (*visit)(struct worker *, void *question); /* NULL: nothing to fetch */
	void (*take)(struct admin_question *); /* the body is there; NULL: it takes none, and what comes is dropped */
	void (*write)(struct admin_question *);
	bool quotas; /* it waits for Redis, redis.timeout at most */
	struct slice help;
};

/* admin.c */
void admin_answer(void *question); /* one of those awaited is there: the last has it answered */
void admin_put_error(struct buf *, struct slice why);

/* admin_pages.c */
const struct admin_row *admin_find_row(struct slice path);               /* NULL: there is nothing */
struct slice admin_name_in(const struct admin_row *, struct slice path); /* SLICE_NONE: the row has none */
void admin_keep_fullest(struct admin *, const struct admin_quotas *);

/* admin_status.c */
void admin_visit_status(struct worker *, void *question);
void admin_write_status(struct admin_question *);

#endif

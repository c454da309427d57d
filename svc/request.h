/* One client's request: what it is, what it holds, what came of it; its birth, its death, the line it logs.
 *
 *   request_new ──► stages of svc/flow.c ──► request_report (counted and logged, once) ──► request_free
 *
 * It outlives its exchange: a client that left is gone at once, while what it held is given back. So no slice here but those of `head`, `caller` and
 * `call` may point into the exchange, and these are dead when `exchange` is NULL. */
#ifndef SLUICE_REQUEST_H
#define SLUICE_REQUEST_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/limiter.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/pool.h"
#include "svc/caller.h"
#include "svc/dialect.h"
#include "svc/fields.h"
#include "svc/http.h"
#include "svc/refusal.h"
#include "svc/route.h"
#include "svc/share.h"
#include "svc/upload.h"
#include "svc/worker.h"

enum { REQUEST_ID = 80, REQUEST_DETAIL = 512 };

/* Owner: the flow, from request_new to request_free. Between the calls of the flow: `waiting` is what is awaited, and nothing else resumes it. */
struct request {
	unsigned magic;
	struct worker *worker;
	struct list node; /* in worker->requests */
	struct worker_generation *generation;
	const struct config *config; /* the generation's */
	struct mem *mem;
	struct loop_deferred burial;
	struct loop_timer deadline; /* the client's own; silent once the answer has begun */

	/* Where it is. */
	unsigned stage;
	const char *stage_name;
	bool running; /* a stage is on the stack */
	const void *waiting;
	int64_t born, entered; /* its life, this stage */

	/* What it is. */
	struct exchange *exchange;    /* NULL: the client is gone, or has its whole answer; or there never was one */
	const struct http_head *head; /* the exchange's, or a copy in the arena for a request that may outlive it */
	bool head_kept;               /* it is a copy */
	char id[REQUEST_ID];          /* ours, unique for ever */
	struct slice public_id;       /* X-Request-Id: the client's own, or ours */
	struct slice method, path, address; /* copies, for the log */
	struct caller caller;
	struct dialect_call call;
	struct route route;
	struct dialect_reader *reader;
	struct upload upload;
	unsigned attempts, admissions; /* how often it was sent; how often a quota was asked for */
	struct {
		int64_t input, output; /* tokens, as estimated */
	} reserved;
	bool asks_usage; /* its stream's usage was our wish: the meter takes it out again */

	/* What of it is shared with others. */
	struct share share;
	struct {
		enum flight_verdict verdict; /* what it is to the flight */
		struct answer_times times;   /* of `answer` */
		int status;           /* of the head that was stored, or came along; it is in the request's `answer` */
		size_t given;         /* bytes of `answer` that the client has */
		char tail[4];         /* the last bytes that the client was given */
		bool looked;          /* the verdict stands */
		bool local, fleet;    /* the answer was the worker's own; another worker leads */
		bool has_stale;       /* an answer is stored that will do if the upstream fails */
		bool refresh;         /* it refetches what is stale; nobody waits for it */
		bool charged;         /* the tenant's request was */
		bool for_free;        /* the last quota that was asked for was for no call */
		struct slice denial;  /* what a leader that was refused told; in the arena */
		enum refusal failure; /* of the upstream, for which a stale answer is looked for */
		int failed_status;    /* the same, where it answered */
	} shared;
	enum refusal left; /* why its own client has no more of it, while the call goes on for others */

	/* What it holds; settle gives each back. */
	struct flight_seat *seat;
	struct answer *answer_held; /* what is given from a store */
	struct lease *lease;
	struct transfer *transfer;

	/* What came of it. */
	enum refusal refusal;
	struct buf detail;           /* what was wrong this time, for the caller */
	struct limiter_answer quota; /* of the last attempt */
	struct pool_result result;   /* of the last attempt */
	struct fields_answer answer; /* the upstream's head, copied */
	int status;                  /* sent to the client; 0: none */
	bool answered;               /* http_answer was called */
	bool has_result;
	bool unsent; /* the last attempt ended before it wrote a byte */
	struct meter *meter;
	struct meter_result metered;
	int64_t used;                                       /* tokens settled */
	bool blocked;                                       /* the client takes no more for now */
	uint64_t sent;                                      /* bytes of the answer's body */
	struct {                                            /* microseconds */
		int64_t cache, quota, upstream, first_byte; /* 0: not asked */
		int64_t ours;                               /* neither waiting for the client nor for the upstream */
	} took;
};

struct request *request_new(struct worker *, struct exchange *);
/* The same request once more, of no client, to fetch what the first is given from a store meanwhile: it takes the body and the seat over, and shares the arena. */
struct request *request_twin(struct request *);
/* From now on it may outlive its exchange and still be sent: the head is copied. False: no room. */
bool request_keep_head(struct request *) MUST_CHECK;
void request_free(struct request **); /* everything must have been given back */

/* A callback's argument: the request, its magic checked. */
struct request *request_of(void *arg);

const struct limits *request_limits(const struct request *, enum limiter_scope); /* NULL: that scope has none */
/* True with a token limit in one of its scopes; *burst is then the smallest that one of them can ever grant at once. */
bool request_token_burst(const struct request *, int64_t *burst);
struct worker_upstream *request_upstream(const struct request *); /* NULL before it has a route */
struct worker_endpoint *request_endpoint(const struct request *); /* the chosen one of that */
struct slice request_tenant(const struct request *);              /* "anonymous" when there is none */

/* Of redis.timeout, which is for all that a request waits for Redis together; never so little that a call that is answered as always would have its connection
 * cut for it. */
int64_t request_redis_left(const struct request *);

bool request_never_sent(const struct request *); /* nothing of it reached the upstream */
/* The refusal's code; "ok", or "upstream_error" for a status of 400 or more, or an error inside an answer, that was passed on. */
const char *request_outcome(const struct request *);

/* Counts it and writes its line; once, at its end. */
void request_report(const struct request *);
/* As a member of the list on /requests. */
void request_write(const struct request *, struct buf *);

#endif

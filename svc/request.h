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
#include "lib/retry.h"
#include "svc/caller.h"
#include "svc/dialect.h"
#include "svc/fields.h"
#include "svc/http.h"
#include "svc/refusal.h"
#include "svc/route.h"
#include "svc/share.h"
#include "svc/upload.h"
#include "svc/worker.h"

enum { REQUEST_ID = 80, REQUEST_DETAIL = 512, REQUEST_ERROR = 64 * 1024 };

struct queue_place;

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
	unsigned attempts, admissions; /* how often a call was begun; how often a quota was asked for */
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
		bool rescued;         /* it led, failed, and looks for something stale */
		bool has_stale;       /* an answer is stored that will do if the upstream fails */
		bool refresh;         /* it refetches what is stale; nobody waits for it */
		bool charged;         /* the tenant's request was, */
		bool by_this;         /* with the lease that is held now */
		bool for_free;        /* the last quota that was asked for was for no call */
		struct slice denial;  /* what a leader that was refused told; in the arena */
		enum refusal failure; /* of the upstream, for which a stale answer is looked for */
		int failed_status;    /* the same, where it answered */
	} shared;
	/* What has been tried: kept from one attempt to the next. */
	struct {
		struct route_set failed, barred; /* targets and endpoints that failed it; that will not do any more */
		struct route_set full;           /* whose limits had no room for it */
		uint64_t session, random;        /* as in struct route_question */
		int64_t until;                   /* no attempt lasts longer; 0: none of this model was begun */
		struct worker_upstream *account; /* pays for repetitions: that of the first attempt */
		enum retry_class class;          /* of the last failure */
		enum refusal
			refusal; /* what it would be answered, if it had no answer of its own; none: nothing has failed */
		int64_t retry_after;          /* as the provider said; -1: nothing */
		int64_t wait;                 /* until something may be well again; 0: not known */
		bool paused;                  /* that is because the provider said when to come again */
		bool denied;                  /* a quota of a model or an upstream refused, */
		struct limiter_answer denial; /* as it said */
		/* From the last attempt's end until another begins. */
		bool judged;             /* what the end means */
		bool counted, paid;      /* the call that is to be made again */
		bool rested;             /* what failed was given time */
		struct loop_timer timer; /* to the next attempt */
		struct buf log;          /* a word on each failed attempt */
	} tried;
	struct {
		bool after_all; /* every target was looked at: it may wait at one */
		bool shortest; /* the one is chosen that said the shortest wait: the others are in `full` for that alone */
		size_t best;             /* that one, */
		int64_t wait;            /* and what it said; 0: none said any */
		int64_t since;           /* it stands in a line; 0: it does not */
		enum limiter_scope line; /* whose, as it was last told */
		bool asking;             /* in the line: its lease is awaited, not its turn */
		bool late;               /* it has waited as long as it may */
	} queue;
	/* The attempt under way (svc/attempt.h). */
	struct {
		struct worker_endpoint *chosen; /* counts it as in flight; NULL: none does */
		struct breaker *breaker;        /* NULL: none is under way; the endpoint's */
		int64_t began;
		struct route route; /* where it went */
		int status;         /* of the upstream's answer; 0: none has come */
		bool granted;       /* the ticket was given */
		bool well;          /* its head was that of no failure, and counted as such */
		struct buf error;   /* the body of an answer that is an error, until it is known what becomes of it */
		bool has_error;     /* there is one, as far as `error` has it */
		struct slice rest;  /* what came when `error` was full; for the stage that it leads to */
		struct pool_field *fields; /* of that answer, all of them, in the arena */
		size_t fields_count;
	} attempt;
	enum refusal left; /* why its own client has no more of it, while the call goes on for others */

	/* What it holds; settle gives each back. */
	struct flight_seat *seat;
	struct answer *answer_held; /* what is given from a store */
	struct lease *lease;
	struct queue_place *place;
	struct probe *probe;
	struct transfer *transfer;

	/* What came of it. */
	enum refusal refusal;
	struct buf detail;           /* what was wrong this time, for the caller */
	struct limiter_answer quota; /* of the last attempt */
	struct pool_result result;   /* of the last attempt, as is all until `unsent` */
	struct fields_answer answer; /* the upstream's head, copied */
	int status;                  /* sent to the client; 0: none */
	bool answered;               /* http_answer was called */
	bool has_result;
	bool unsent; /* the last attempt ended before it wrote a byte */
	struct meter *meter;
	struct meter_result metered;
	int64_t used;                                                           /* tokens settled */
	bool blocked;                                                           /* the client takes no more for now */
	uint64_t sent;                                                          /* bytes of the answer's body */
	struct {                                                                /* microseconds */
		int64_t cache, quota, queue, pool, retry, upstream, first_byte; /* 0: not asked; pool: nor waited for */
		int64_t ours; /* neither waiting for the client nor for the upstream */
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
struct breaker *request_breaker(const struct request *);          /* that judges calls to the chosen one */
struct worker_endpoint *request_endpoint(const struct request *); /* the chosen one of that */
struct slice request_target_model(const struct request *);        /* what the chosen target calls its model */
struct slice request_tenant(const struct request *);              /* "anonymous" when there is none */

/* Of redis.timeout, which is for all that a request waits for Redis together; never so little that a call that is answered as always would have its connection
 * cut for it. */
int64_t request_redis_left(const struct request *);

/* How long it may still wait for room, of queue.max_wait; and the same of its client's own deadline too, behind which nothing is begun; microseconds. */
int64_t request_patience(const struct request *);
int64_t request_may_wait(const struct request *);

bool request_fell_back(const struct request *); /* another model is asked than the client did: its answer is not kept */
bool request_never_sent(const struct request *); /* nothing of it reached the upstream */
/* The refusal's code; "ok", or "upstream_error" for a status of 400 or more, or an error inside an answer, that was passed on. */
const char *request_outcome(const struct request *);

/* Counts it and writes its line; once, at its end. */
void request_report(const struct request *);
/* As a member of the list on /requests. */
void request_write(const struct request *, struct buf *);

#endif

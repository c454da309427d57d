/* What the flow's files share: the names of the stages, their row in the table (flow.c), and the engine that runs them (flow_engine.c).
 *
 *   flow.c          the table, and what is heard from outside
 *   flow_arrival.c  auth, models, body, route
 *   flow_call.c     quota, upstream, stream, settle
 *   flow_engine.c   asserts what README says of it: the edge is in the table, the answer is the awaited one, no stage runs inside another */
#ifndef SLUICE_FLOW_INTERNAL_H
#define SLUICE_FLOW_INTERNAL_H

#include "svc/flow.h"
#include "svc/request.h"

/* X(name) */
#define STAGES(X)        X(auth) X(models) X(body) X(route) X(quota) X(upstream) X(stream) X(settle)
#define STAGE_ENUM(name) STAGE_##name,
enum stage { STAGES(STAGE_ENUM) STAGE_end, STAGE_wait };
#undef STAGE_ENUM

/* `begin` runs on entry and names the next stage, or waits; `done` runs when what is awaited has come, and names the next stage. */
struct flow_row {
	const char *name;
	enum stage (*begin)(struct request *);
	enum stage (*done)(struct request *); /* NULL: it never waits */
	bool ours;                            /* its time is the gateway's own, not the client's or the upstream's */
	unsigned edges;                       /* a bit for each stage that it may name */
	const char *text;
};
extern const struct flow_row flow_table[STAGE_end];

/* The begin of each stage, and the done of those that wait. */
#define STAGE_BEGIN(name) enum stage stage_##name(struct request *);
STAGES(STAGE_BEGIN)
#undef STAGE_BEGIN
enum stage stage_body_done(struct request *);
enum stage stage_quota_done(struct request *);
enum stage stage_upstream_done(struct request *);
enum stage stage_stream_done(struct request *);

/* ---- for stages: what they return ---- */
enum stage flow_await(struct request *, const void *awaited);
enum stage flow_refuse(struct request *, enum refusal);

/* ---- for callbacks: never from inside a stage ---- */
void flow_start(struct request *);
void flow_resume(struct request *, const void *answer); /* what the stage awaits has come */
/* The client left, a deadline passed, the instance drains; what has settled already stays as it is. */
void flow_abort(struct request *, enum refusal);

/* Hands bytes of the answer on to the client: a meter_out. `request` is not checked: it runs for every piece. */
void flow_to_client(void *request, struct slice bytes);

#endif

/* What the flow's files share: the names of the stages, their row in the table (flow.c), and the engine that runs them (flow_engine.c).
 *
 *   flow.c          the table, and what is heard from outside
 *   flow_arrival.c  auth, models, body, route
 *   flow_share.c    lookup, replay, follow
 *   flow_choose.c   choose, and what is done when no target will do
 *   flow_quota.c    quota, queue
 *   flow_call.c     upstream, stream, settle
 *   flow_retry.c    error, retry
 *   flow_engine.c   asserts what README says of it: the edge is in the table, the answer is the awaited one, no stage runs inside another */
#ifndef SLUICE_FLOW_INTERNAL_H
#define SLUICE_FLOW_INTERNAL_H

#include "svc/flow.h"
#include "svc/request.h"

/* X(name) */
#define STAGES(X)                                                                                                      \
	X(auth)                                                                                                        \
	X(models)                                                                                                      \
	X(body)                                                                                                        \
	X(route)                                                                                                       \
	X(lookup) X(replay) X(follow) X(choose) X(quota) X(queue) X(upstream) X(error) X(retry) X(stream) X(settle)
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
enum stage stage_lookup_done(struct request *);
enum stage stage_replay_done(struct request *);
enum stage stage_follow_done(struct request *);
enum stage stage_choose_done(struct request *);
enum stage stage_quota_done(struct request *);
enum stage stage_queue_done(struct request *);
enum stage stage_upstream_done(struct request *);
enum stage stage_error_done(struct request *);
enum stage stage_retry_done(struct request *);
enum stage stage_stream_done(struct request *);

/* ---- for stages: what they return ---- */
enum stage flow_await(struct request *, const void *awaited);
enum stage flow_refuse(struct request *, enum refusal);

/* ---- for callbacks: never from inside a stage ---- */
void flow_start(struct request *, enum stage);
void flow_resume(struct request *, const void *answer); /* what the stage awaits has come */
/* The client left, a deadline passed, the instance drains; what has settled already stays as it is. */
void flow_abort(struct request *, enum refusal);

/* Bytes of the answer, to the client. */
void flow_to_client(struct request *, struct slice bytes);

/* ---- where the call goes (flow_choose.c, flow_retry.c) ---- */
/* Asks svc/route for the best target that is well, as things stand for this request; `route` gets it. */
enum route_found flow_find_target(struct request *, struct route *, struct route_choice *) MUST_CHECK;
/* The target that was chosen may still be called: its breaker lets calls pass, or there is a ticket, and nobody has asked for time. Who has waited looks
 * once more. */
bool flow_may_call(const struct request *);
void flow_note_waited(struct request *); /* it does not stand in a line any more (flow_quota.c) */
/* How long it waited for a connection, and for the provider; once for each call, when that has brought something or is given up (flow_call.c). */
void flow_note_called(struct request *);
/* Who has a ticket waits for a quota no longer than this: the ticket is for so long and the call. */
#define FLOW_TICKET_WAITS (5 * CLOCK_SECOND)
/* No target will do: what is stale, another model, the upstream's own error, a refusal; the first of them that there is. */
enum stage flow_degrade(struct request *);
enum stage flow_degrade_further(struct request *); /* the same, nothing stale having been found */
/* An error's head, and its body as it comes; whether more is wanted. */
void flow_keep_error(struct request *, const struct pool_head *);
bool flow_take_error(struct request *, struct slice bytes);

/* ---- what others read along (flow_share.c) ---- */
bool flow_leads(const struct request *); /* others may read its answer along */
void flow_share_head(struct request *,
		     int64_t length); /* the upstream's, before ours is added to it; `length` as it is promised */
void flow_share_bytes(void *request, struct slice bytes); /* to them, if it leads, and to the client: a meter_out */
bool flow_wants_more(const struct request *);             /* of the upstream's bytes, now */
void flow_give_record(struct request *); /* to the client of one that leads: what it does not have yet */
void flow_give_rest(struct request *);   /* the same at the end, however slow it is */
/* Its own client has left, or its deadline has passed: true: the call goes on for others, and the client has heard `why`. */
bool flow_carry_on(struct request *, enum refusal why) MUST_CHECK;
/* The upstream has failed before the answer began (with this status, or 0): whether a stale one may be given, and where the request goes then. */
bool flow_may_rescue(const struct request *) MUST_CHECK;
enum stage flow_rescue(struct request *, enum refusal failure, int status);
void flow_end_flight(struct request *); /* for one that leads: tells the others how it ended */

#endif

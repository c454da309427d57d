/* The life of a request: svc/flow.c, top to bottom. Here is only what the doors need of it. */
#ifndef SLUICE_FLOW_H
#define SLUICE_FLOW_H

#include "lib/base.h"
#include "lib/limiter.h"
#include "svc/http.h"
#include "svc/refusal.h"

struct buf;
struct worker;

/* The handlers of svc/http; their `arg` is the worker, `owner` the request. */
void *flow_head(struct exchange *, void *worker);
void flow_body(struct exchange *, void *request, struct slice piece);
void flow_body_end(struct exchange *, void *request);
void flow_writable(struct exchange *, void *request);
void flow_broken(struct exchange *, void *request, enum http_fault);
void flow_gone(struct exchange *, void *request, enum http_gone);
void flow_malformed(void *worker, enum http_fault, struct slice target, struct buf *body, struct slice *content_type);

/* For struct worker_shared: the lease of a request was slept past; what ran under it stops. */
void flow_lease_lost(struct lease *, void *request);

/* Ends all requests of this worker with that reason: answered if nothing was sent yet, else an in-band error and an unclean end. */
void flow_abort_all(struct worker *, enum refusal);
/* Sets the gauge of requests by stage, and forgets nothing. */
void flow_gauge(struct worker *);
/* The requests in flight as members of a JSON array, comma separated, without brackets: id, stage, age_ms, stage_age_ms, tenant, model, upstream, address, path. */
void flow_write_requests(const struct worker *, struct buf *);
/* The stage table as a graph in the DOT language, for `sluice flow`. */
void flow_write_graph(struct buf *);

#endif

/* The slow, exact model of the fleet's quotas: what lua/admit, settle, renew and peek must do, said a second time and
 * another way.
 *
 * Buckets are leaky buckets with a level (the other formulation of GCRA, ITU-T I.371 annex A), logs are lists of
 * slices that are added up each time, leases are a sorted array, and every number is derived from the limits here,
 * not by the product. Time is given. */
#ifndef SLUICE_TESTS_LIMITER_MODEL_H
#define SLUICE_TESTS_LIMITER_MODEL_H

#include "lib/limiter_wire.h"

struct limiter_model;

struct limiter_model *limiter_model_new(int64_t lease, int64_t hold);
void limiter_model_free(struct limiter_model **);
void limiter_model_flush(struct limiter_model *); /* Redis came back empty */

void limiter_model_admit(struct limiter_model *, const struct limiter_ask *, int64_t now, struct limiter_answer *,
			 int64_t *reserved);
/* Whether anything was open. */
bool limiter_model_settle(struct limiter_model *, const struct limiter_ask *, const struct limiter_used *,
			  const struct limiter_wire_past *, int64_t now, int64_t forgiven[LIMIT_COUNT]);
int64_t limiter_model_renew(struct limiter_model *, enum limiter_scope, struct slice name, const struct slice *id,
			    size_t count, int64_t now);

/* What is left in a scope, as admit and peek report it; what has no limit is not touched. */
void limiter_model_left(struct limiter_model *, enum limiter_scope, struct slice name, const struct limits *,
			int64_t now, struct limiter_left left[LIMIT_COUNT]);
/* What lies in a scope, to be compared with Redis. */
int64_t limiter_model_backlog(struct limiter_model *, enum limiter_scope, struct slice name, enum limit_kind,
			      int64_t now);
int64_t limiter_model_log_sum(struct limiter_model *, enum limiter_scope, struct slice name, enum limit_kind,
			      int64_t now);
size_t limiter_model_set_size(struct limiter_model *, enum limiter_scope,
			      struct slice name); /* leases and tombstones */

#endif

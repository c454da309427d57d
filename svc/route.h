/* Where a request goes: which of the caller's models it names, and which upstream serves it under what name. */
#ifndef SLUICE_ROUTE_H
#define SLUICE_ROUTE_H

#include "svc/config.h"
#include "svc/dialect.h"

struct route {
	struct slice model;                    /* the client's name for it; dialect http: the upstream's name */
	const struct config_model *configured; /* NULL: taken by the dialect's default upstream as it is */
	const struct config_upstream *upstream;
	struct slice upstream_model; /* empty: the client's name goes through */
};

/* Finds the route of a call whose model is known. `tenant` NULL: anonymous, who may use every model. `detail` names what is allowed. */
enum refusal route_find(const struct config *, const struct config_tenant *tenant, const struct dialect_call *,
			struct route *, struct buf *detail) MUST_CHECK;

/* Whether a configured model is in the list that this caller sees in this dialect. */
bool route_lists(const struct config *, const struct config_tenant *tenant, enum dialect,
		 struct slice model) MUST_CHECK;
/* That list, in the configuration's order: configured models with a target of that dialect. `names` has room for all of config->models_count; returns how
 * many are written. */
size_t route_models(const struct config *, const struct config_tenant *tenant, enum dialect, struct slice *names);

#endif

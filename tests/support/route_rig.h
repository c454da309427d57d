/* A model with targets of upstreams of their own, built by hand, and how each endpoint is: what svc/route chooses from. */
#ifndef SLUICE_TESTS_ROUTE_RIG_H
#define SLUICE_TESTS_ROUTE_RIG_H

#include "svc/route.h"

enum { ROUTE_RIG_NAME_MOST = 32 };

struct route_rig {
	struct config config;
	struct config_model model;
	struct config_target targets[CONFIG_TARGETS_MOST];
	struct config_upstream upstreams[CONFIG_TARGETS_MOST]; /* that of the target in the same place */
	struct config_endpoint endpoints[CONFIG_TARGETS_MOST][CONFIG_ENDPOINTS_MOST];
	struct route_health health[CONFIG_TARGETS_MOST][CONFIG_ENDPOINTS_MOST];
	char names[CONFIG_TARGETS_MOST][ROUTE_RIG_NAME_MOST];
	char urls[CONFIG_TARGETS_MOST][CONFIG_ENDPOINTS_MOST][ROUTE_RIG_NAME_MOST];
	struct route_question q;
	struct route route;
	struct route_choice choice;
	unsigned looks; /* how often an endpoint was looked at */
};

/* So many targets with so many endpoints each; all can everything, weigh 1, are well, idle and not measured. The model has affinity. */
void route_rig_init(struct route_rig *, enum config_strategy, size_t targets, size_t endpoints);
/* Asks anew, from the route as route_find leaves it. */
enum route_found route_rig_ask(struct route_rig *);
/* The target that is found; the test fails when there is none. */
size_t route_rig_target(struct route_rig *);
size_t route_rig_endpoint(struct route_rig *);
void route_rig_stop(struct route_rig *, size_t target, size_t endpoint, int64_t wait);
void route_rig_heal(struct route_rig *, size_t target, size_t endpoint);

#endif

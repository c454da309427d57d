/* One scenario with each fault at each step where it can come, and what a request that met it is called. */
#ifndef SLUICE_TORTURE_H
#define SLUICE_TORTURE_H

#include "tests/flow/world/world.h"

/* One run: in peace (WORLD_none), or with a fault that came. */
typedef void torture_judge(const void *arg, enum world_fault, const struct world_outcome *);

/* `came` counts, by fault, at how many steps it has come. */
void torture(const struct world_scenario *, torture_judge *, const void *arg, int came[WORLD_FAULT_COUNT]);
/* Says so, and fails where a fault has come nowhere. `but`: faults that no scenario of this test can meet, WORLD_none behind the last. */
void torture_report(const int came[WORLD_FAULT_COUNT], const enum world_fault *but);

/* NULL: it depends on where. */
const char *torture_outcome(enum world_fault);
bool torture_is_upstreams(enum world_fault);
/* It says that the upstream never saw the attempt. */
bool torture_spares_all(enum world_fault);
/* The upstream has sent all that there is, and the last of it says so: what comes behind changes nothing, unless nobody is there. */
bool torture_is_told(const struct world_scenario *, enum world_fault, const struct world_outcome *);

#endif

/* The simulator's own pages, for tests:
 *
 *   GET  /__sim/stats      counts            GET  /__sim/arrivals   every API call with its time and tokens
 *   POST /__sim/reset      counts to 0       GET  /__sim/aborts     the calls whose client left
 *   POST /__sim/set        {"set": "status=503", "model": "gpt-4o", "times": 3}   a rule: words, for which model, how often
 *                          {"clear": true}                                        no rules
 *                          {"limits": {"rpm": 60, "tpm": 10000, "concurrency": 5}} and forget what was used
 *                          {"key": "secret"} or {"key": null}; {"models": "a,b"}
 *                          {"down": "blackhole"}, "refuse", "garbage" or null     everything, lists and HEAD too; see enum sim_down
 * A set is taken member by member in this order: clear (which ends `down`, too), limits, key, models, set, down.
 *
 * Who is down answers no page either: `down` needs --control, an address with the same pages that stays. */
#ifndef SIM_CONTROL_H
#define SIM_CONTROL_H

#include "sim.h"
#include "wire.h"

/* Appends the JSON to answer with; the status. */
int control_answer(struct sim *, const struct wire_request *, struct buf *);

#endif

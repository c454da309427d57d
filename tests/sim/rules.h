/* Behaviour that tests set while the simulator runs: "the next 3 requests for this model get status=503". */
#ifndef SIM_RULES_H
#define SIM_RULES_H

#include "behaviour.h"

struct rules;

struct rules *rules_new(void);
void rules_free(struct rules **);
void rules_clear(struct rules *);

/* model: a name, or a beginning and `*`, or `*`; times: 0 for always. False with *bad when a word is not understood, or with an
 * empty *bad when there is no room for another rule. */
bool rules_add(struct rules *, struct slice model, struct slice words, int64_t times, struct slice *bad) MUST_CHECK;

/* Applies every rule that fits, in the order of adding, and counts it; a rule that is used up goes. */
void rules_apply(struct rules *, struct slice model, struct behaviour *);

/* Takes status and fault away from the share of requests that `chance` spares; a fixed sequence from rules_clear on. */
void rules_draw(struct rules *, struct behaviour *);

#endif

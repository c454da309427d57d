/* The models that the simulated providers have, and their lists in each provider's shape. */
#ifndef SIM_MODELS_H
#define SIM_MODELS_H

#include "lib/base.h"
#include "lib/slice.h"
#include "route.h"

struct buf;

/* A model is known when the table names it (or it is a dated or `-latest` form of one that the table names), when `extra`
 * (names between commas) has it, or when it begins with "sim-". */
bool models_know(enum dialect, struct slice model, struct slice extra);

void models_list(enum dialect, struct buf *);
void models_one(enum dialect, struct slice model, struct buf *); /* of a known model */

#endif

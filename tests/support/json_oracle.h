/* Judges lib/json_scan on one text: against jansson, and against itself under other cuts. Any text will do, so random
 * generators, mutators and fuzzers share it. */
#ifndef SLUICE_TESTS_JSON_ORACLE_H
#define SLUICE_TESTS_JSON_ORACLE_H

#include "lib/base.h"
#include "lib/slice.h"

/* Aborts, with a word why, when something does not agree. `seed` chooses the random cuts. */
void json_oracle_judge(struct slice text, uint32_t seed);

#endif

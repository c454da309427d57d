/* Judges lib/sse on one stream: whole, cut at every byte and cut at random it must give what a plain reader gives that
 * splits the stream into lines first, as the standard tells it. */
#ifndef SLUICE_TESTS_SSE_ORACLE_H
#define SLUICE_TESTS_SSE_ORACLE_H

#include "lib/base.h"
#include "lib/slice.h"

/* Aborts, with a word why, when something does not agree. `seed` chooses the random cuts. */
void sse_oracle_judge(struct slice stream, uint32_t seed);

/* Feeds the stream in pieces of at most `most` bytes (0: random ones), each a block of its own, and writes what is
 * told: for each block "start end [name]" with "?" when it has no data, "~" when the name is cut, then its data in
 * angle brackets. The caller frees it. */
char *sse_oracle_read(struct slice stream, size_t most, uint32_t seed);

#endif

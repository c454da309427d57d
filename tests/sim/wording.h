/* The text of an answer. Token i is "nonce.i " (with filler where a size was asked for), so every event of a stream names its
 * request and its place: a byte of another answer, a lost or a doubled event cannot go unseen. */
#ifndef SIM_WORDING_H
#define SIM_WORDING_H

#include "ask.h"

struct buf;

/* Tokens from ≤ i < to. No character of it needs escaping in JSON. */
void wording_text(const struct ask *, int64_t from, int64_t to, struct buf *);

/* An id of the given number of letters and digits, the same for the same nonce and salt. */
void wording_id(const struct ask *, const char *prefix, unsigned salt, size_t length, struct buf *);

/* One embedding: unit length, from the nonce and the item's number. `out` has ask->dimensions places. */
void wording_vector(const struct ask *, unsigned item, float *out);

/* The steps of a stream that carry text or arguments, and the tokens (of one choice) from which step k starts. */
size_t wording_steps(const struct ask *);
int64_t wording_step_from(const struct ask *, size_t step);

/* The piece of the tool's arguments that step k carries. */
struct slice wording_arguments(const struct ask *, size_t step);

#endif

/* What holds of a pool between two turns of its loop: all that it counts, counted anew. */
#ifndef SLUICE_TESTS_POOL_CHECK_H
#define SLUICE_TESTS_POOL_CHECK_H

struct pool;

void pool_check(const struct pool *); /* aborts with the sentence that does not hold; in the pool's own thread */

#endif

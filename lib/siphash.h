/* SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): a hash of short inputs that nobody can
 * steer who does not know the 16 bytes of the key. Not for signatures: 64 bits are too few. */
#ifndef SLUICE_SIPHASH_H
#define SLUICE_SIPHASH_H

#include "lib/base.h"
#include "lib/slice.h"

struct siphash_key {
	uint64_t low, high; /* the key's bytes 0 to 7 and 8 to 15, little-endian */
};

uint64_t siphash_of(struct siphash_key, struct slice message);

#endif

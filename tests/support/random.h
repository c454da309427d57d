/* Chance that comes again: a test seeds it, and what failed once fails the next time. */
#ifndef SLUICE_TESTS_RANDOM_H
#define SLUICE_TESTS_RANDOM_H

#include "lib/base.h"

/* 0 to limit - 1. The state is anything but 0. xorshift64* (S. Vigna, 2016). */
static inline uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * UINT64_C(2685821657736338717)) >> 33) % limit;
}

/* Uniform in all its bits. */
static inline uint64_t random_bits(uint64_t *state)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < 4; i++)
		bits = bits << 16 | random_below(state, 1 << 16);
	return bits;
}

#endif

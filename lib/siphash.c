/* The paper's sections 2.1 to 2.4: two rounds a word of eight bytes, four at the end; the last word carries the length. */
#include "lib/siphash.h"

#include <endian.h>

struct state {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
}

static void compress(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

uint64_t siphash_of(struct siphash_key key, struct slice message)
{
	struct state s = { key.low ^ UINT64_C(0x736f6d6570736575), key.high ^ UINT64_C(0x646f72616e646f6d),
			   key.low ^ UINT64_C(0x6c7967656e657261), key.high ^ UINT64_C(0x7465646279746573) };
	uint64_t length = message.len, word;
	for (; message.len >= sizeof(word); message = slice_skip(message, sizeof(word))) {
		memcpy(&word, message.data, sizeof(word));
		compress(&s, le64toh(word));
	}
	word = 0;
	if (message.len > 0)
		memcpy(&word, message.data, message.len);
	compress(&s, le64toh(word) | length << 56);
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

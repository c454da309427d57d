/* The table of RFC 3629 section 4 as comparisons: the lead byte fixes the length and the range of the second byte; all
 * further ones are 80 to BF. */
#include "lib/utf8.h"

static size_t tail_length(unsigned char lead, unsigned char *low, unsigned char *high)
{
	*low = 0x80;
	*high = 0xBF;
	if (lead >= 0xC2 && lead <= 0xDF)
		return 1;
	if (lead >= 0xE0 && lead <= 0xEF) {
		if (lead == 0xE0)
			*low = 0xA0; /* below is overlong */
		if (lead == 0xED)
			*high = 0x9F; /* above are the surrogates */
		return 2;
	}
	if (lead >= 0xF0 && lead <= 0xF4) {
		if (lead == 0xF0)
			*low = 0x90; /* below is overlong */
		if (lead == 0xF4)
			*high = 0x8F; /* above is past U+10FFFF */
		return 3;
	}
	return 0;
}

size_t utf8_next(struct slice s, bool *valid)
{
	CHECK(s.len > 0);
	const unsigned char *bytes = (const unsigned char *)s.data;
	unsigned char low, high;
	*valid = bytes[0] < 0x80;
	if (*valid)
		return 1;
	size_t tail = tail_length(bytes[0], &low, &high), at = 1;
	while (at <= tail && at < s.len && bytes[at] >= low && bytes[at] <= high) {
		low = 0x80;
		high = 0xBF;
		at++;
	}
	*valid = tail > 0 && at > tail;
	return at;
}

size_t utf8_ascii(struct slice s)
{
	size_t at = 0;
	while (s.len - at >= sizeof(uint64_t)) {
		uint64_t word;
		memcpy(&word, s.data + at, sizeof(word));
		if ((word & UINT64_C(0x8080808080808080)) != 0)
			break;
		at += sizeof(word);
	}
	while (at < s.len && (unsigned char)s.data[at] < 0x80)
		at++;
	return at;
}

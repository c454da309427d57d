#include "lib/bytes.h"

/* clang-format off */
const unsigned char bytes_classes[256] = { /* sums of enum bytes_class, for sixteen bytes a line */
	0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, /* 0x00 */
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x10 */
	6, 7, 2, 7, 7, 7, 7, 7, 6, 6, 7, 7, 6, 7, 7, 6, /* 0x20 */
	7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6, /* 0x30 */
	6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, /* 0x40 */
	7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 2, 6, 7, 7, /* 0x50 */
	7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, /* 0x60 */
	7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 7, 6, 7, 4, /* 0x70 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0x80 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0x90 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0xA0 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0xB0 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0xC0 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0xD0 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0xE0 */
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0xF0 */
};
/* clang-format on */

#define ONES              UINT64_C(0x0101010101010101)
#define HIGHS             UINT64_C(0x8080808080808080)
#define ZERO_IN(w)        (((w)-ONES) & ~(w)&HIGHS) /* not 0: one of eight bytes is (Mycroft, 1987) */
#define EQUAL_IN(w, byte) ZERO_IN((w) ^ (ONES * (byte)))

/* Eight at once, which most values are; false says nothing. */
static bool all_eight(const char *at, enum bytes_class class)
{
	uint64_t w, doubtful;

	memcpy(&w, at, sizeof(w));
	doubtful = (w - ONES * 0x20) & ~w & HIGHS; /* a control */
	if (class == BYTES_FIELD)
		return (doubtful | EQUAL_IN(w, 0x7f)) == 0;
	return class == BYTES_PLAIN && (doubtful | EQUAL_IN(w, '"') | EQUAL_IN(w, '\\') | (w & HIGHS)) == 0;
}

size_t bytes_prefix(struct slice s, enum bytes_class class)
{
	size_t count = 0;

	while (s.len - count >= 8 && all_eight(s.data + count, class))
		count += 8;
	while (count < s.len && (bytes_classes[(unsigned char)s.data[count]] & class) != 0)
		count++;
	return count;
}

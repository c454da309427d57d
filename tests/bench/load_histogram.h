/* Latencies in logarithmic classes: 64 to each power of two, so a percentile is right to 1.6 %. Microseconds up to 2^40. */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_CLASSES (35 * 64)

struct histogram {
	uint64_t count, classes[HISTOGRAM_CLASSES];
	int64_t sum, max;
};

void histogram_add(struct histogram *, int64_t microseconds);
int64_t histogram_percentile(const struct histogram *,
			     double share);     /* 0 when empty; the class's upper end, at most max */
void histogram_print(const struct histogram *); /* a JSON object on stdout */

#endif

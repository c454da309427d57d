#include "load_histogram.h"

#include <inttypes.h>
#include <stdio.h>

/* Values below 128 have classes of their own. Above, a class keeps the leading bit and the six behind it. */
static unsigned class_of(int64_t value)
{
	if (value < 128)
		return value < 0 ? 0 : (unsigned)value;
	unsigned shift = 57 - (unsigned)__builtin_clzll((unsigned long long)value);
	unsigned found = shift * 64 + (unsigned)(value >> shift);
	return found < HISTOGRAM_CLASSES ? found : HISTOGRAM_CLASSES - 1;
}

static int64_t upper_end(unsigned found)
{
	if (found < 128)
		return found;
	unsigned shift = found / 64 - 1;
	return ((int64_t)(found % 64 + 65) << shift) - 1;
}

void histogram_add(struct histogram *h, int64_t microseconds)
{
	h->classes[class_of(microseconds)]++;
	h->count++;
	h->sum += microseconds;
	if (microseconds > h->max)
		h->max = microseconds;
}

int64_t histogram_percentile(const struct histogram *h, double share)
{
	uint64_t wanted = (uint64_t)(share * (double)h->count + 0.5), seen = 0;
	if (wanted == 0)
		wanted = 1;
	for (unsigned i = 0; i < HISTOGRAM_CLASSES; i++) {
		seen += h->classes[i];
		if (seen >= wanted)
			return upper_end(i) < h->max ? upper_end(i) : h->max;
	}
	return h->max;
}

void histogram_print(const struct histogram *h)
{
	printf("{\"count\":%" PRIu64 ",\"mean\":%.1f,\"p50\":%" PRId64 ",\"p90\":%" PRId64 ",\"p95\":%" PRId64
	       ",\"p99\":%" PRId64 ",\"p999\":%" PRId64 ",\"max\":%" PRId64 "}",
	       h->count, h->count > 0 ? (double)h->sum / (double)h->count : 0.0, histogram_percentile(h, 0.5),
	       histogram_percentile(h, 0.9), histogram_percentile(h, 0.95), histogram_percentile(h, 0.99),
	       histogram_percentile(h, 0.999), h->max);
}

#include "wording.h"

#include <math.h>

#include "lib/buf.h"

/* splitmix64 (Steele, Lea and Flood, 2014) */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9E3779B97F4A7C15);
	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

static void filler(struct buf *out, int64_t bytes)
{
	static const struct slice line = { "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~", 64 };
	for (; bytes > 0; bytes -= (int64_t)line.len)
		buf_append(out, slice_first(line, (size_t)bytes));
}

void wording_text(const struct ask *ask, int64_t from, int64_t to, struct buf *out)
{
	struct slice nonce = slice_of(ask->nonce);
	for (int64_t i = from; i < to; i++) {
		size_t before = out->len;
		buf_append(out, nonce);
		buf_append_byte(out, '.');
		buf_append_int(out, i);
		if (ask->pad > 0)
			filler(out, ask->pad - (int64_t)(out->len - before) - 1);
		buf_append_byte(out, ' ');
	}
}

void wording_id(const struct ask *ask, const char *prefix, unsigned salt, size_t length, struct buf *out)
{
	static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint64_t state = ask->seed ^ mix(salt);
	char id[64];
	size_t made = 0;
	buf_append(out, slice_of(prefix));
	CHECK(length <= sizeof(id));
	while (made < length) {
		state = mix(state);
		uint64_t digits = state;
		for (int i = 0; i < 10 && made < length; i++, digits /= 62)
			id[made++] = letters[digits % 62];
	}
	buf_append(out, slice_make(id, length));
}

void wording_vector(const struct ask *ask, unsigned item, float *out)
{
	uint64_t state = mix(ask->seed + item);
	double sum = 0;
	for (unsigned i = 0; i < ask->dimensions; i++) {
		state = mix(state);
		out[i] = (float)((double)(state >> 11) / (double)(UINT64_C(1) << 53) - 0.5);
		sum += (double)out[i] * out[i];
	}
	for (unsigned i = 0; i < ask->dimensions; i++)
		out[i] = (float)(out[i] / sqrt(sum));
}

size_t wording_steps(const struct ask *ask)
{
	return (size_t)((ask->output + ask->behaviour.chunk - 1) / ask->behaviour.chunk);
}

int64_t wording_step_from(const struct ask *ask, size_t step)
{
	int64_t from = (int64_t)step * ask->behaviour.chunk;
	return from < ask->output ? from : ask->output;
}

struct slice wording_arguments(const struct ask *ask, size_t step)
{
	struct slice all = slice_of(ask->tool.arguments);
	size_t from = (size_t)wording_step_from(ask, step) * 4, to = (size_t)wording_step_from(ask, step + 1) * 4;
	return slice_first(slice_skip(all, from), to - from);
}

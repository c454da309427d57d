/* Where one reply of Redis ends and the next begins, byte by byte: as much of RESP as the fault proxy needs. */
#ifndef SLUICE_TESTS_FAULT_FRAME_H
#define SLUICE_TESTS_FAULT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed before use. `wanted` elements are missing until the reply is whole, `skip` bytes of a bulk string come first. */
struct fault_frame {
	uint64_t wanted, skip;
	char line[32];
	size_t line_len;
	bool inside; /* of a reply */
	bool lost;   /* this is no RESP */
};

/* How many of the bytes belong to the reply being read; *whole when it ends with them. */
static inline size_t fault_frame_feed(struct fault_frame *, const char *bytes, size_t len, bool *whole);

static inline bool fault_frame_line(struct fault_frame *f)
{
	uint64_t number = 0; /* of a line of text: nonsense that nobody looks at */
	bool negative = f->line_len > 1 && f->line[1] == '-';
	for (size_t i = negative ? 2 : 1; i < f->line_len; i++)
		number = number * 10 + (uint64_t)(f->line[i] - '0');
	f->wanted--;
	switch (f->line[0]) {
	case '+':
	case '-':
	case ':':
	case '_':
	case ',':
	case '#':
	case '(':
		return true;
	case '$':
	case '=':
	case '!':
		f->skip = negative ? 0 : number + 2;
		return true;
	case '*':
	case '~':
	case '>':
		f->wanted += negative ? 0 : number;
		return true;
	case '%':
		f->wanted += negative ? 0 : 2 * number;
		return true;
	}
	return false;
}

static inline size_t fault_frame_feed(struct fault_frame *f, const char *bytes, size_t len, bool *whole)
{
	size_t at = 0;
	*whole = false;
	if (!f->inside) {
		f->inside = true;
		f->wanted = 1;
	}
	while (at < len && !f->lost) {
		if (f->skip > 0) {
			size_t step = f->skip < len - at ? (size_t)f->skip : len - at;
			at += step;
			f->skip -= step;
		} else if (bytes[at++] != '\n') {
			if (f->line_len < sizeof(f->line)) /* only the first bytes tell anything */
				f->line[f->line_len++] = bytes[at - 1];
			continue;
		} else {
			if (f->line_len > 0 && f->line_len < sizeof(f->line) && f->line[f->line_len - 1] == '\r')
				f->line_len--;
			f->lost = f->line_len == 0 || !fault_frame_line(f);
			f->line_len = 0;
		}
		if (f->wanted == 0 && f->skip == 0) {
			f->inside = false;
			*whole = true;
			return at;
		}
	}
	return f->lost ? len : at;
}

#endif

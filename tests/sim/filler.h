/* Endless bodies made on the fly: a line without end, and a gzip member of a few kilobytes a gigabyte. */
#ifndef SIM_FILLER_H
#define SIM_FILLER_H

#include "lib/base.h"

struct buf;

enum filler_kind { FILLER_NONE, FILLER_LINE, FILLER_BOMB };

struct filler {
	enum filler_kind kind;
	int64_t left; /* LINE: bytes still to come; BOMB: blocks of a mebibyte, once unpacked */
	int64_t size; /* what left was at first */
	bool opened;
};

struct filler filler_of(enum filler_kind, int64_t bytes);

/* Appends the next piece; false when there was nothing more. */
bool filler_next(struct filler *, struct buf *) MUST_CHECK;

#endif

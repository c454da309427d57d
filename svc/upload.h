/* The body of one request, held until it has been sent: pieces as they arrived, and what goes out in their place.
 *
 * All bodies of the process together are counted in one number, so that many large ones cannot take all the memory: above its ceiling the
 * next piece is refused. Splices change what is sent without moving a byte of what was received. */
#ifndef SLUICE_UPLOAD_H
#define SLUICE_UPLOAD_H

#include <stdatomic.h>

#include "lib/base.h"
#include "lib/mem.h"
#include "lib/slice.h"

struct upload_piece;

struct upload {
	struct upload_piece *first, *last;
	size_t length;         /* bytes received */
	int64_t counted;       /* of them and of the room around them, what stands in *held */
	_Atomic int64_t *held; /* by all requests of the process */
	int64_t ceiling;       /* of *held */
};

/* `expected` is Content-Length, or -1: a small body then takes one piece of just its size. */
void upload_init(struct upload *, _Atomic int64_t *held, int64_t ceiling);
void upload_free(struct upload *); /* may be called twice */
/* False: the process holds as much as it may (the bytes are not kept). */
bool upload_append(struct upload *, struct slice bytes, int64_t expected) MUST_CHECK;

struct upload_splice {
	size_t offset, remove;
	struct slice insert; /* outlives the upload */
};

/* What is to be sent, as slices in the arena that point into the pieces. The splices are in order of offset and do not overlap; they lie inside the
 * body (CHECKed). False: the arena is full. */
bool upload_slices(const struct upload *, const struct upload_splice *splices, size_t splices_count, struct mem *,
		   struct slice **slices, size_t *count) MUST_CHECK;

#endif

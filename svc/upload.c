/* Pieces of at most 64 KiB in a list. A body of known, small length takes one piece of just that size; else pieces grow from
 * 4 KiB to 64 KiB, so that a chunked body of some bytes is cheap and one of 20 MiB has a few hundred pieces. */
#include "svc/upload.h"

enum { UPLOAD_PIECE_LEAST = 4096, UPLOAD_PIECE_MOST = 64 * 1024 };

struct upload_piece {
	struct upload_piece *next;
	size_t length, room;
	char bytes[];
};

void upload_init(struct upload *u, _Atomic int64_t *held, int64_t ceiling)
{
	*u = (struct upload){ .held = held, .ceiling = ceiling };
}

void upload_free(struct upload *u)
{
	while (u->first != NULL) {
		struct upload_piece *piece = u->first;
		u->first = piece->next;
		mem_free(piece);
	}
	if (u->counted != 0)
		atomic_fetch_sub_explicit(u->held, u->counted, memory_order_relaxed);
	upload_init(u, u->held, u->ceiling);
}

static bool add_piece(struct upload *u, size_t at_least, int64_t expected)
{
	size_t room = u->last == NULL ? UPLOAD_PIECE_LEAST : u->last->room * 2;
	int64_t size;
	struct upload_piece *piece;

	if (expected > 0 && (size_t)expected > u->length)
		room = (size_t)expected - u->length;
	else if (room < at_least)
		room = at_least;
	if (room > UPLOAD_PIECE_MOST)
		room = UPLOAD_PIECE_MOST;
	size = (int64_t)(sizeof(*piece) + room);
	if (atomic_fetch_add_explicit(u->held, size, memory_order_relaxed) + size > u->ceiling) {
		atomic_fetch_sub_explicit(u->held, size, memory_order_relaxed);
		return false;
	}
	u->counted += size;
	piece = mem_resize(NULL, sizeof(*piece) + room); /* not zeroed: it is written at once */
	*piece = (struct upload_piece){ .room = room };
	if (u->last == NULL)
		u->first = piece;
	else
		u->last->next = piece;
	u->last = piece;
	return true;
}

bool upload_append(struct upload *u, struct slice bytes, int64_t expected)
{
	while (bytes.len > 0) {
		struct slice part;
		if ((u->last == NULL || u->last->length == u->last->room) && !add_piece(u, bytes.len, expected))
			return false;
		part = slice_first(bytes, u->last->room - u->last->length);
		memcpy(u->last->bytes + u->last->length, part.data, part.len);
		u->last->length += part.len;
		u->length += part.len;
		bytes = slice_skip(bytes, part.len);
	}
	return true;
}

/* Where the copying of pieces stands. */
struct cursor {
	const struct upload_piece *piece;
	size_t at; /* in the piece */
	struct slice *out;
	size_t count, room;
};

static void put(struct cursor *c, struct slice bytes)
{
	if (bytes.len == 0)
		return;
	CHECK(c->count < c->room);
	c->out[c->count++] = bytes;
}

/* Goes `length` bytes on in what was received; hands them out, or passes them over. */
static void walk(struct cursor *c, size_t length, bool hand_out)
{
	while (length > 0) {
		size_t left, step;
		CHECK(c->piece != NULL);
		left = c->piece->length - c->at;
		step = length < left ? length : left;
		if (hand_out)
			put(c, slice_make(c->piece->bytes + c->at, step));
		c->at += step;
		length -= step;
		if (c->at == c->piece->length) {
			c->piece = c->piece->next;
			c->at = 0;
		}
	}
}

bool upload_slices(const struct upload *u, const struct upload_splice *splices, size_t splices_count, struct mem *mem,
		   struct slice **slices, size_t *count)
{
	struct cursor c = { .piece = u->first };
	size_t at = 0;

	for (const struct upload_piece *piece = u->first; piece != NULL; piece = piece->next)
		c.room++;
	c.room += 2 * splices_count + 1;
	c.out = mem_take(mem, c.room * sizeof(*c.out));
	if (c.out == NULL)
		return false;
	for (size_t i = 0; i < splices_count; i++) {
		CHECK(splices[i].offset >= at);
		walk(&c, splices[i].offset - at, true);
		put(&c, splices[i].insert);
		walk(&c, splices[i].remove, false);
		at = splices[i].offset + splices[i].remove;
	}
	CHECK(at <= u->length);
	walk(&c, u->length - at, true);
	*slices = c.out;
	*count = c.count;
	return true;
}

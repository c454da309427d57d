#include "filler.h"

#include <zlib.h>

#include "lib/buf.h"
#include "lib/mem.h"

#define MEBIBYTE 1048576
#define PIECE    16384

struct filler filler_of(enum filler_kind kind, int64_t bytes)
{
	int64_t left = kind == FILLER_BOMB ? (bytes + MEBIBYTE - 1) / MEBIBYTE : bytes;
	return (struct filler){ kind, left, left, false };
}

static bool next_of_line(struct filler *f, struct buf *out)
{
	static const struct slice open = { "data: ", 6 };
	char piece[PIECE];
	if (f->left <= 0)
		return false;
	if (!f->opened)
		buf_append(out, open);
	f->opened = true;
	memset(piece, 'x', sizeof(piece));
	buf_append(out, slice_first(slice_make(piece, sizeof(piece)), (size_t)f->left));
	f->left -= PIECE;
	return true;
}

/* A mebibyte of zeros, ended by a full flush: the state behind it is that of the beginning, so the same bytes may follow again
 * (RFC 1951 section 2; zlib.h, Z_FULL_FLUSH). */
static void put_block(struct buf *out, bool last)
{
	z_stream z = { 0 };
	unsigned char packed[PIECE];
	unsigned char *zeros = mem_new(MEBIBYTE);
	CHECK(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	z.next_in = zeros;
	z.avail_in = last ? 0 : MEBIBYTE;
	z.next_out = packed;
	z.avail_out = sizeof(packed);
	int result = deflate(&z, last ? Z_FINISH : Z_FULL_FLUSH);
	CHECK(result == (last ? Z_STREAM_END : Z_OK) && z.avail_out > 0);
	buf_append(out, slice_make((const char *)packed, sizeof(packed) - z.avail_out));
	deflateEnd(&z);
	mem_free(zeros);
}

static void put_little_endian(struct buf *out, uint64_t value)
{
	for (int i = 0; i < 4; i++, value >>= 8)
		buf_append_byte(out, (char)(value & 0xFF));
}

/* The gzip trailer (RFC 1952 section 2.3.1). */
static void put_trailer(const struct filler *f, struct buf *out)
{
	unsigned char *zeros = mem_new(MEBIBYTE);
	uLong one = crc32(crc32(0, NULL, 0), zeros, MEBIBYTE), all = one;
	mem_free(zeros);
	for (int64_t i = 1; i < f->size; i++)
		all = crc32_combine(all, one, MEBIBYTE);
	put_little_endian(out, all);
	put_little_endian(out, (uint64_t)f->size * MEBIBYTE);
}

static bool next_of_bomb(struct filler *f, struct buf *out)
{
	static const struct slice open = { "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10 };
	if (f->left < 0)
		return false;
	if (!f->opened)
		buf_append(out, open);
	f->opened = true;
	if (f->left > 0) {
		put_block(out, false);
	} else {
		put_block(out, true);
		put_trailer(f, out);
	}
	f->left--;
	return true;
}

bool filler_next(struct filler *f, struct buf *out)
{
	if (f->kind == FILLER_LINE)
		return next_of_line(f, out);
	return f->kind == FILLER_BOMB && next_of_bomb(f, out);
}

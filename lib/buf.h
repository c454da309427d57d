/* A growing run of bytes with a ceiling given at birth; what would pass it is refused, and the buffer stays as it was.
 * Embedded by value: buf_init before use, buf_free at the end. The bytes may move at every append, so what is
 * appended must not lie inside the buffer itself. A wrapped buffer (buf_wrap) never allocates and is not freed. */
#ifndef SLUICE_BUF_H
#define SLUICE_BUF_H

#include "lib/base.h"
#include "lib/slice.h"

struct buf {
	char *data; /* NULL until the first append */
	size_t len, capacity, ceiling;
	bool overflowed; /* an append was refused; sticky until buf_clear: many appends, one look at the end */
};

void buf_init(struct buf *, size_t ceiling);
void buf_wrap(struct buf *, char *memory, size_t size,
	      size_t len);                           /* over borrowed memory of which `len` bytes count */
void buf_free(struct buf *);                         /* may be called twice */
void buf_clear(struct buf *);                        /* forgets the content, keeps the memory */
bool buf_append_growing(struct buf *, struct slice); /* buf_append's slow half */
bool buf_append_int(struct buf *, int64_t);
bool buf_format(struct buf *, const char *format, ...) PRINTF_LIKE(2, 3);
bool buf_reserve(struct buf *, size_t more) MUST_CHECK; /* makes room: data + len has `more` writable bytes */
void buf_drop_front(struct buf *, size_t count);        /* forgets the first `count` bytes; moves the rest down */
bool buf_append_json(struct buf *,
		     struct slice text); /* text as a JSON string, quotes included; invalid UTF-8 becomes U+FFFD */

/* Here, because an answer is put together of hundreds of small pieces. */
static inline bool buf_append(struct buf *b, struct slice s)
{
	if (s.len > b->capacity - b->len || s.len == 0)
		return buf_append_growing(b, s);
	memcpy(b->data + b->len, s.data, s.len);
	b->len += s.len;
	return true;
}

static inline bool buf_append_byte(struct buf *b, char byte)
{
	if (b->len == b->capacity)
		return buf_append_growing(b, slice_make(&byte, 1));
	b->data[b->len++] = byte;
	return true;
}

static inline struct slice buf_slice(const struct buf *b)
{
	return (struct slice){ b->data, b->len };
}

#endif

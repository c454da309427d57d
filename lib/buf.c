/* Growth doubles, from 256 bytes, and ends at the ceiling exactly. */
#include "lib/buf.h"

#include "lib/bytes.h"
#include "lib/mem.h"
#include "lib/utf8.h"

#include <stdarg.h>
#include <stdio.h>

#define FIRST_CAPACITY 256

void buf_init(struct buf *b, size_t ceiling)
{
	*b = (struct buf){ .ceiling = ceiling };
}

void buf_wrap(struct buf *b, char *memory, size_t size, size_t len)
{
	CHECK(len <= size);
	*b = (struct buf){ .data = memory, .len = len, .capacity = size, .ceiling = size };
}

void buf_free(struct buf *b)
{
	mem_free(b->data);
	*b = (struct buf){ .ceiling = b->ceiling };
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->overflowed = false;
}

bool buf_reserve(struct buf *b, size_t more)
{
	if (more <= b->capacity - b->len)
		return true;
	if (more > b->ceiling - b->len) {
		b->overflowed = true;
		return false;
	}
	size_t need = b->len + more, capacity = b->capacity == 0 ? FIRST_CAPACITY : b->capacity;
	while (capacity < need)
		capacity = capacity > b->ceiling / 2 ? b->ceiling : capacity * 2;
	if (capacity > b->ceiling)
		capacity = b->ceiling;
	b->data = mem_resize(b->data, capacity);
	b->capacity = capacity;
	return true;
}

bool buf_append_growing(struct buf *b, struct slice s)
{
	if (s.len == 0)
		return true;
	if (!buf_reserve(b, s.len))
		return false;
	memcpy(b->data + b->len, s.data, s.len);
	b->len += s.len;
	return true;
}

bool buf_append_int(struct buf *b, int64_t value)
{
	char digits[20]; /* 19 digits and a sign */
	size_t at = sizeof(digits);
	uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
	do {
		digits[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (value < 0)
		digits[--at] = '-';
	return buf_append(b, slice_make(digits + at, sizeof(digits) - at));
}

bool buf_format(struct buf *b, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int len = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	CHECK(len >= 0);
	size_t room = (size_t)len + 1; /* vsnprintf writes a NUL; the ceiling need not have room for it */
	char *text = mem_new(room);
	va_start(arguments, format);
	vsnprintf(text, room, format, arguments);
	va_end(arguments);
	bool fits = buf_append(b, slice_make(text, (size_t)len));
	mem_free(text);
	return fits;
}

void buf_drop_front(struct buf *b, size_t count)
{
	CHECK(count <= b->len);
	b->len -= count;
	if (count > 0 && b->len > 0)
		memmove(b->data, b->data + count, b->len);
}

static bool append_escaped_byte(struct buf *b, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[] = "btn\0fr"; /* of 8 to 13; 11 has none */
	if (byte == '"' || byte == '\\')
		return buf_append_byte(b, '\\') && buf_append_byte(b, (char)byte);
	if (byte >= 8 && byte <= 13 && letters[byte - 8] != '\0')
		return buf_append_byte(b, '\\') && buf_append_byte(b, letters[byte - 8]);
	char escape[6] = { '\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15] };
	return buf_append(b, slice_make(escape, sizeof(escape)));
}

/* Appends what stands first in *rest and takes it off: a plain run, one escape, or one character of UTF-8. */
static bool append_json_piece(struct buf *b, struct slice *rest)
{
	size_t count = bytes_prefix(*rest, BYTES_PLAIN);
	bool valid = true, fits;
	if (count == 0 && (unsigned char)rest->data[0] >= 0x80) {
		count = utf8_next(*rest, &valid);
		fits = buf_append(b, valid ? slice_first(*rest, count) : SLICE("\xEF\xBF\xBD"));
	} else if (count == 0) {
		count = 1;
		fits = append_escaped_byte(b, (unsigned char)rest->data[0]);
	} else {
		fits = buf_append(b, slice_first(*rest, count));
	}
	*rest = slice_skip(*rest, count);
	return fits;
}

bool buf_append_json(struct buf *b, struct slice text)
{
	size_t before = b->len;
	bool fits = buf_append_byte(b, '"');
	while (fits && text.len > 0)
		fits = append_json_piece(b, &text);
	fits = fits && buf_append_byte(b, '"');
	if (!fits)
		b->len = before;
	return fits;
}

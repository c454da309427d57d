/* Borrowed bytes: a pointer and a length, never owned, never NUL-terminated by promise.
 * A slice is valid as long as what it points into; who keeps one longer copies it (mem_copy, buf_append). */
#ifndef SLUICE_SLICE_H
#define SLUICE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
	const char *data; /* may be NULL only when len is 0 */
	size_t len;
};

#define SLICE(literal) ((struct slice){ "" literal "", sizeof(literal) - 1 })
#define SLICE_NONE     ((struct slice){ NULL, 0 })

/* printf("%.*s", SLICE_ARGS(s)); the length is cut to INT_MAX by the caller's own caps. */
#define SLICE_ARGS(s) (int)(s).len, (s).data == NULL ? "" : (s).data

static inline struct slice slice_of(const char *text)
{
	return (struct slice){ text, text == NULL ? 0 : strlen(text) };
}

static inline struct slice slice_make(const char *data, size_t len)
{
	return (struct slice){ data, len };
}

static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* ASCII only: header names, schemes, media types. */
static inline bool slice_equal_nocase(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || strncasecmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

static inline bool slice_ends(struct slice s, struct slice suffix)
{
	return s.len >= suffix.len &&
	       (suffix.len == 0 || memcmp(s.data + s.len - suffix.len, suffix.data, suffix.len) == 0);
}

/* What is left after the first `count` bytes; empty when there are fewer. */
static inline struct slice slice_skip(struct slice s, size_t count)
{
	if (count >= s.len)
		return SLICE_NONE;
	return (struct slice){ s.data + count, s.len - count };
}

/* The first `count` bytes, or all when there are fewer. */
static inline struct slice slice_first(struct slice s, size_t count)
{
	return (struct slice){ s.data, count < s.len ? count : s.len };
}

/* Where `byte` first stands in s, or s.len. */
static inline size_t slice_find(struct slice s, char byte)
{
	if (s.len > PTRDIFF_MAX)
		__builtin_unreachable(); /* no object is larger; gcc 14 warns where it cannot see that */
	const char *at = s.len == 0 ? NULL : memchr(s.data, byte, s.len);
	return at == NULL ? s.len : (size_t)(at - s.data);
}

/* Cuts s at the first `byte`: returns what stands before it, and leaves in *rest what stands behind it. */
static inline struct slice slice_cut(struct slice s, char byte, struct slice *rest)
{
	size_t at = slice_find(s, byte);
	*rest = slice_skip(s, at + 1);
	return slice_first(s, at);
}

static inline struct slice slice_trim(struct slice s)
{
	while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
		s = slice_skip(s, 1);
	while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
		s.len--;
	return s;
}

#endif

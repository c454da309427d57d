/* Allocation, and the arena.
 *
 * An arena is one chunk that lives in the same block as the arena itself (most requests never need a second), and a list
 * of further ones:
 *
 *     arena ─ first chunk [....used....|..free..]
 *       └─ newest ─ chunk ─ chunk ─ NULL
 *
 * Only the newest chunk is taken from; what does not fit into it opens another, and the rest of the old one is lost (at
 * most a quarter: larger takes get a chunk of their own behind the newest). Under AddressSanitizer every take gets a
 * chunk of its own, so that a read past the end of one is seen. */
#include "lib/mem.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ALONE true
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ALONE true
#endif
#ifndef ALONE
#define ALONE false
#endif

#define CHUNK_BYTES   4096
#define CEILING_LIMIT ((size_t)1 << 30)

struct chunk {
	struct chunk *older;
	size_t used, size;
	alignas(max_align_t) char data[];
};

/* Owned by one request or one loading of a configuration. Between calls: used ≤ ceiling, and used counts what was handed
 * out, rounded up to the alignment. */
struct mem {
	struct chunk *newest;
	size_t used, ceiling;
	unsigned holders;
};

static void *must_have(void *block, size_t size)
{
	if (block == NULL) {
		char what[64];
		snprintf(what, sizeof(what), "memory for %zu bytes", size);
		base_fail(__FILE__, __LINE__, what);
	}
	return block;
}

void *mem_new(size_t size)
{
	return must_have(calloc(1, size == 0 ? 1 : size), size);
}

void *mem_new_array(size_t count, size_t size)
{
	size_t bytes;
	CHECK(!__builtin_mul_overflow(count, size, &bytes));
	return mem_new(bytes);
}

void *mem_resize(void *block, size_t size)
{
	return must_have(realloc(block, size == 0 ? 1 : size), size);
}

char *mem_text(struct slice s)
{
	CHECK(s.len < SIZE_MAX);
	char *text = must_have(malloc(s.len + 1), s.len + 1);
	if (s.len > 0)
		memcpy(text, s.data, s.len);
	text[s.len] = '\0';
	return text;
}

void mem_free(void *block)
{
	free(block);
}

void mem_wipe(void *block, size_t size)
{
	if (size > 0)
		explicit_bzero(block, size);
}

static struct chunk *chunk_new(size_t size)
{
	struct chunk *chunk = must_have(malloc(sizeof(*chunk) + size), size);
	chunk->older = NULL;
	chunk->used = 0;
	chunk->size = size;
	return chunk;
}

static size_t round_up(size_t size)
{
	size_t unit = alignof(max_align_t);
	return (size + unit - 1) / unit * unit;
}

struct mem *mem_arena(size_t ceiling)
{
	CHECK(ceiling >= 1 && ceiling <= CEILING_LIMIT);
	size_t head = round_up(sizeof(struct mem));
	struct chunk *first = chunk_new(ALONE ? head : CHUNK_BYTES - sizeof(struct chunk));
	struct mem *mem = (struct mem *)(void *)first->data;
	first->used = head;
	*mem = (struct mem){ .newest = first, .ceiling = round_up(ceiling), .holders = 1 };
	return mem;
}

struct mem *mem_arena_hold(struct mem *mem)
{
	mem->holders++;
	return mem;
}

void mem_arena_free(struct mem **handle)
{
	struct mem *mem = *handle;
	if (mem == NULL)
		return;
	*handle = NULL;
	if (--mem->holders > 0)
		return;
	struct chunk *chunk = mem->newest;
	while (chunk != NULL) {
		struct chunk *older = chunk->older;
		free(chunk); /* the last one holds the arena itself */
		chunk = older;
	}
}

size_t mem_arena_used(const struct mem *mem)
{
	return mem->used;
}

/* A chunk with `size` bytes free. One of its own goes behind the newest, which stays open for small takes. */
static struct chunk *chunk_with_room(struct mem *mem, size_t size, size_t exact)
{
	struct chunk *newest = mem->newest;
	if (!ALONE && newest->size - newest->used >= size)
		return newest;
	if (!ALONE && size <= CHUNK_BYTES / 4) {
		struct chunk *chunk = chunk_new(CHUNK_BYTES - sizeof(struct chunk));
		chunk->older = newest;
		mem->newest = chunk;
		return chunk;
	}
	struct chunk *own = chunk_new(ALONE ? exact : size);
	own->older = newest->older;
	newest->older = own;
	return own;
}

void *mem_take(struct mem *mem, size_t size)
{
	size_t free_bytes = mem->ceiling - mem->used;
	if (size > free_bytes)
		return NULL;
	size_t rounded = round_up(size == 0 ? 1 : size);
	if (rounded > free_bytes)
		return NULL;
	struct chunk *chunk = chunk_with_room(mem, rounded, size);
	void *taken = memset(chunk->data + chunk->used, 0, ALONE ? size : rounded);
	chunk->used = ALONE ? chunk->size : chunk->used + rounded;
	mem->used += rounded;
	return taken;
}

struct slice mem_copy(struct mem *mem, struct slice s)
{
	char *copy = s.len == SIZE_MAX ? NULL : mem_take(mem, s.len + 1);
	if (copy == NULL)
		return SLICE_NONE;
	if (s.len > 0)
		memcpy(copy, s.data, s.len);
	return slice_make(copy, s.len);
}

struct slice mem_format(struct mem *mem, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int len = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	char *text = len < 0 ? NULL : mem_take(mem, (size_t)len + 1);
	if (text == NULL)
		return SLICE_NONE;
	va_start(arguments, format);
	vsnprintf(text, (size_t)len + 1, format, arguments);
	va_end(arguments);
	return slice_make(text, (size_t)len);
}

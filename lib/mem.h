/* Memory: small allocations that cannot fail, and the arena of one request.
 *
 * A failed small allocation ends the process: it is stateless and is started again. What a peer sizes never comes here
 * unchecked: it goes to a buf with a ceiling, or to an arena, whose ceiling is given at birth.
 * An arena frees everything at once; nothing in it is freed alone. Disadvantage: a long-lived arena keeps its garbage. */
#ifndef SLUICE_MEM_H
#define SLUICE_MEM_H

#include "lib/base.h"
#include "lib/slice.h"

/* Zeroed; never NULL. */
void *mem_new(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_new_array(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *mem_resize(void *block, size_t size)
	__attribute__((returns_nonnull)); /* like realloc; ends the process when there is none */
char *mem_text(struct slice s)
	__attribute__((malloc, returns_nonnull)); /* a NUL-terminated copy; the caller frees it */
void mem_free(void *block);                       /* NULL is fine */
void mem_wipe(void *block, size_t size);          /* overwrites secrets; the compiler may not leave it out */

struct mem; /* an arena */

struct mem *mem_arena(size_t ceiling); /* bytes it may hand out in all, 1 to 1 GiB; each take counts rounded up to 16 */
struct mem *mem_arena_hold(struct mem *); /* the same one, for one holder more; for one thread */
void mem_arena_free(struct mem **);       /* the last holder frees; NULL inside is fine; nulls it */
size_t mem_arena_used(const struct mem *);

/* NULL when the ceiling would be passed: the caller refuses the peer. Aligned for any type; zeroed. */
void *mem_take(struct mem *, size_t size) MUST_CHECK;
/* A NUL-terminated copy (the NUL is not counted in len); {NULL,0} when the ceiling would be passed. */
struct slice mem_copy(struct mem *, struct slice) MUST_CHECK;
struct slice mem_format(struct mem *, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

#endif

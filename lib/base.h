/* The attributes and the one assertion that every file uses.
 *
 * CHECK guards what only a programmer can get wrong; it stays on in release builds and ends the process, because a gateway
 * that goes on with a broken invariant leaks one caller's answer to another. Whatever a peer, an operator or the world can
 * cause is never CHECKed: it gets an error value. */
#ifndef SLUICE_BASE_H
#define SLUICE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK                          __attribute__((warn_unused_result))
#define PRINTF_LIKE(position, first)        __attribute__((__format__(__printf__, position, first)))
#define ARRAY_LENGTH(array)                 (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Aborts with file, line, the condition, what base_note last said on this thread, and a backtrace-friendly core. */
#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (__builtin_expect(!(condition), 0))                                                                 \
			base_fail(__FILE__, __LINE__, #condition);                                                     \
	} while (0)

_Noreturn void base_fail(const char *file, int line, const char *condition);

/* Says what this thread is about to do, for the crash message: static text (a stage's name) and an object's id.
 * Both pointers must stay valid until the next call; NULL clears. */
void base_note(const char *what, const char *object);

#endif

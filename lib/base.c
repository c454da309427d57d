/* Where a broken invariant ends: one line on stderr, then a core (where the operator allows cores). The note is kept per
 * thread, because several loops run at once and the message must name the request of the one that failed. Only write(2)
 * is used to print: the heap or stdio may be what is broken. Disadvantage: the line is cut at 1 KiB. */
#include "lib/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

struct note {
	const char *what, *object;
};

static _Thread_local struct note note;

void base_note(const char *what, const char *object)
{
	note = (struct note){ what, object };
}

_Noreturn void base_fail(const char *file, int line, const char *condition)
{
	char text[1024];
	int len = snprintf(text, sizeof(text), "sluice: %s:%d: broken: %s%s%s%s%s\n", file, line, condition,
			   note.what == NULL ? "" : ", in ", note.what == NULL ? "" : note.what,
			   note.object == NULL ? "" : " of ", note.object == NULL ? "" : note.object);
	size_t count = len < 0 ? 0 : (size_t)len;
	if (count >= sizeof(text)) {
		count = sizeof(text) - 1;
		text[count - 1] = '\n';
	}
	ssize_t written = write(STDERR_FILENO, text, count);
	(void)written; /* with stderr gone the core still tells the line */
	abort();
}

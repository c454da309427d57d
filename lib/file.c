#include "lib/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/mem.h"

enum { FILE_BLOCK = 16 * 1024 };

/* -1: *reason says why. To open a pipe waits for its writer, unless it is opened without waiting. */
static int open_file(const char *path, enum file_patience patience, const char **reason)
{
	struct stat is;
	int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (patience == FILE_REGULAR ? O_NONBLOCK : 0));

	if (descriptor < 0 || fstat(descriptor, &is) != 0) {
		*reason = strerror(errno);
	} else if (patience == FILE_REGULAR && !S_ISREG(is.st_mode)) {
		*reason = S_ISDIR(is.st_mode) ? strerror(EISDIR) : "it is not a regular file";
	} else {
		return descriptor;
	}
	if (descriptor >= 0)
		close(descriptor);
	return -1;
}

static bool append_all(int descriptor, struct buf *into, const char **reason)
{
	char block[FILE_BLOCK];
	ssize_t got;
	bool good = true;

	do {
		got = read(descriptor, block, sizeof(block));
		if (got > 0)
			good = buf_append(into, slice_make(block, (size_t)got));
	} while (good && (got > 0 || (got < 0 && errno == EINTR)));
	if (got < 0)
		*reason = strerror(errno);
	else if (!good)
		*reason = strerror(EFBIG);
	mem_wipe(block, sizeof(block));
	return good && got == 0;
}

bool file_read(const char *path, enum file_patience patience, struct buf *into, const char **reason)
{
	int descriptor = open_file(path, patience, reason);
	bool good = descriptor >= 0 && append_all(descriptor, into, reason);

	if (descriptor >= 0)
		close(descriptor);
	return good;
}

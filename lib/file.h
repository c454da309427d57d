/* The whole of a file, for what is read at the start and at a reload: the configuration, secrets, certificates.
 *
 * A pipe whose writer stays away, or a terminal, would hold its reader for ever. Before there is a loop that may be meant (`serve -c <(…)`); on a loop only
 * regular files are taken. Disadvantage: a regular file on a network file system that hangs still hangs its reader, as no flag of open changes. */
#ifndef SLUICE_FILE_H
#define SLUICE_FILE_H

#include "lib/base.h"

struct buf;

enum file_patience { FILE_REGULAR, FILE_ANY };

/* Appends the file's content. False: `*reason` is a text for people, static or good until the next call; `into` may hold a part, and has overflowed when the
 * file is longer than it has room for. No copy stays behind outside `into`. */
bool file_read(const char *path, enum file_patience, struct buf *into, const char **reason) MUST_CHECK;

#endif

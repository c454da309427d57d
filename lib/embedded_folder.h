/* The directory of an embedded Redis: mode 0700, locked by its gateway, removed by the next start when the gateway was killed.
 *
 * The lock is flock(2) on the directory itself, so the kernel frees it with the process. A start sweeps its neighbours: whose lock
 * it gets, it removes. Between mkdtemp and flock a sweep may take a new directory away; its maker then finds the
 * lock held or the directory gone, and makes another one. */
#ifndef SLUICE_EMBEDDED_FOLDER_H
#define SLUICE_EMBEDDED_FOLDER_H

#include "lib/base.h"

#define EMBEDDED_FOLDER_MAX 90 /* with /redis.sock behind it, a path still fits in sockaddr_un */

struct embedded_folder {
	char path[EMBEDDED_FOLDER_MAX];
	int lock; /* -1: none */
};

/* Sweeps `parent`, then makes a directory there. False: errno says why. */
bool embedded_folder_make(struct embedded_folder *, const char *parent) MUST_CHECK;
void embedded_folder_remove(struct embedded_folder *); /* with the files in it; harmless twice */

#endif

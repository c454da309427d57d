#include "lib/embedded_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "sluice-redis-"
#define TRIES  8

/* An open directory under our lock; -1 when somebody else holds it, or it is none of ours. */
static int open_locked(int parent, const char *name)
{
	struct stat status;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &status) == 0 && status.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Its files, not its subdirectories: Redis makes none here, and what else is there is not ours. */
static void empty(int folder)
{
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = copy < 0 ? NULL : fdopendir(copy);
	if (entries == NULL) {
		if (copy >= 0)
			close(copy);
		return;
	}
	for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(folder, entry->d_name,
				       0); /* what stays keeps the directory: seen by who looks there */
	closedir(entries);
}

static void sweep(const char *parent)
{
	DIR *entries = opendir(parent);
	if (entries == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
		if (strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) != 0)
			continue;
		int fd = open_locked(dirfd(entries), entry->d_name);
		if (fd < 0)
			continue;
		empty(fd);
		(void)unlinkat(dirfd(entries), entry->d_name, AT_REMOVEDIR);
		close(fd);
	}
	closedir(entries);
}

/* Whether `path` still is the directory behind `fd`. */
static bool is_there(const char *path, int fd)
{
	struct stat by_path, by_fd;
	return stat(path, &by_path) == 0 && fstat(fd, &by_fd) == 0 && by_path.st_ino == by_fd.st_ino &&
	       by_path.st_dev == by_fd.st_dev;
}

bool embedded_folder_make(struct embedded_folder *f, const char *parent)
{
	f->lock = -1;
	sweep(parent);
	for (int i = 0; i < TRIES; i++) {
		int length = snprintf(f->path, sizeof(f->path), "%s/" PREFIX "XXXXXX", parent);
		if (length < 0 || (size_t)length >= sizeof(f->path)) {
			errno = ENAMETOOLONG;
			return false;
		}
		if (mkdtemp(f->path) == NULL)
			return false;
		f->lock = open_locked(AT_FDCWD, f->path);
		if (f->lock >= 0 && is_there(f->path, f->lock))
			return true;
		if (f->lock >= 0)
			close(f->lock);
		f->lock = -1;
	}
	errno = EBUSY;
	return false;
}

void embedded_folder_remove(struct embedded_folder *f)
{
	if (f->lock < 0)
		return;
	empty(f->lock);
	(void)rmdir(f->path); /* the lock goes below, so what could not be removed now is swept by the next start */
	close(f->lock);
	f->lock = -1;
}

#include "tests/support/descriptors.h"

#include <dirent.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base.h"

int descriptors_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = -3; /* ".", ".." and the folder itself */
	CHECK(folder != NULL);
	while (readdir(folder) != NULL)
		count++;
	closedir(folder);
	return count;
}

void descriptors_await(int most)
{
	for (int tries = 0; descriptors_open() > most; tries++) {
		if (tries == 5000) {
			fprintf(stderr, "%d descriptors before, %d after\n", most, descriptors_open());
			abort();
		}
		poll(NULL, 0, 1);
	}
}

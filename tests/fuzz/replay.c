/* Runs a fuzz target over the files of folders, with any compiler, so that a corpus is a test as well. Without
 * arguments the folder is tests/fuzz/corpus/NAME for a program whose name ends in fuzz_NAME, below the
 * working folder. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input in a block of its very size, so that a sanitizer sees one byte read too far. False: cannot be read. */
static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	long size = -1;
	uint8_t *data = NULL;
	int good = 0;

	if (file != NULL && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0)
		data = malloc(size == 0 ? 1 : (size_t)size);
	if (data != NULL && fread(data, 1, (size_t)size, file) == (size_t)size) {
		LLVMFuzzerTestOneInput(data, (size_t)size);
		good = 1;
	}
	if (!good)
		perror(path);
	free(data);
	if (file != NULL)
		fclose(file);
	return good;
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* How many inputs ran; -1 when one, or the folder, cannot be read. */
static int replay_folder(const char *folder)
{
	struct dirent **entries;
	int count = scandir(folder, &entries, is_input, alphasort), good = 1;
	char path[4096];

	if (count < 0) {
		perror(folder);
		return -1;
	}
	for (int i = 0; i < count; i++) {
		int length = snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
		good &= length > 0 && (size_t)length < sizeof(path) && replay_file(path);
		free(entries[i]);
	}
	free(entries);
	return good ? count : -1;
}

int main(int argc, char **argv)
{
	char folder[4096];
	const char *name = strstr(argv[0], "fuzz_");
	int total = 0;

	for (const char *next = name; next != NULL; next = strstr(next + 1, "fuzz_"))
		name = next;
	snprintf(folder, sizeof(folder), "tests/fuzz/corpus/%s", name == NULL ? "" : name + strlen("fuzz_"));
	char *standard[] = { argv[0], folder };
	if (argc < 2) {
		argv = standard;
		argc = 2;
	}
	for (int i = 1; i < argc; i++) {
		int count = replay_folder(argv[i]);
		if (count <= 0) {
			fprintf(stderr, "%s: no input could be run\n", argv[i]);
			return 1;
		}
		total += count;
	}
	printf("%d inputs\n", total);
	return 0;
}

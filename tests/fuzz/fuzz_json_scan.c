/* lib/json_scan against jansson, and against itself under other cuts. The first byte of an input chooses the cuts. */
#include "tests/support/json_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = { (const char *)data, size };

	if (size > 0)
		json_oracle_judge(slice_skip(input, 1), data[0]);
	return 0;
}

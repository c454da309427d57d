/* lib/sse under any cuts, against a reader that has the whole stream before it. The first byte of an input chooses the
 * cuts. */
#include "tests/support/sse_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = { (const char *)data, size };

	if (size > 0)
		sse_oracle_judge(slice_skip(input, 1), data[0]);
	return 0;
}

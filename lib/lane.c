#include "lib/lane.h"

#include "lib/base.h"

const char *lane_name(enum lane lane)
{
	static const char *const names[LANES] = { "high", "medium", "low" };

	CHECK(lane < LANES);
	return names[lane];
}

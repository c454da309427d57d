/* Any bytes as a Redis URL: refused with a reason, or options that hold what the header promises. */
#include "lib/redis.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct redis_options o;
	const char *reason = NULL;
	if (!redis_options_parse(slice_make((const char *)data, size), &o, &reason)) {
		if (reason == NULL || reason[0] == '\0' || o.host != NULL || o.path != NULL || o.password != NULL)
			abort();
		return 0;
	}
	bool one_place = (o.host == NULL) != (o.path == NULL);
	if (!one_place || o.port < 1 || o.port > 65535 || o.database < 0 || (o.user != NULL && o.password == NULL) ||
	    (o.path != NULL && (o.path[0] != '/' || strlen(o.path) > 107)) || (o.host != NULL && o.host[0] == '\0'))
		abort();
	redis_options_free(&o);
	return 0;
}

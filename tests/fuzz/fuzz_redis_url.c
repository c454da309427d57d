/* Any bytes as a Redis URL: refused with a reason, or options that hold what the header promises. */
#include "lib/redis.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct redis_options o;
	const char *reason = NULL;
	if (!redis_options_parse(slice_make((const char *)data, size), &o, &reason)) {
		if (reason == NULL || reason[0] == '\0' || o.host != NULL || o.path != NULL || o.password != NULL ||
		    o.master != NULL || o.sentinels_count > 0 || o.sentinel_password != NULL)
			abort();
		return 0;
	}
	unsigned places = (o.host != NULL) + (o.path != NULL) + (o.sentinels_count > 0);
	if (places != 1 || o.port < 1 || o.port > 65535 || o.database < 0 || (o.user != NULL && o.password == NULL) ||
	    (o.path != NULL && (o.path[0] != '/' || strlen(o.path) > 107)) || (o.host != NULL && o.host[0] == '\0') ||
	    (o.sentinels_count > 0) != (o.master != NULL) || o.sentinels_count > REDIS_SENTINELS ||
	    (o.sentinel_user != NULL && o.sentinel_password == NULL))
		abort();
	for (size_t i = 0; i < o.sentinels_count; i++)
		if (o.sentinels[i].host[0] == '\0' || o.sentinels[i].port < 1 || o.sentinels[i].port > 65535)
			abort();
	redis_options_free(&o);
	return 0;
}

/* Cache-Control (RFC 9111 section 5.2), of a request or of an answer. A directive that is not known says nothing; a number that is none counts as 0, the
 * careful reading; of one that stands twice the more careful counts. */
#ifndef SLUICE_DIRECTIVES_H
#define SLUICE_DIRECTIVES_H

#include "lib/base.h"
#include "lib/slice.h"

/* Times are microseconds; -1: it is not there. */
struct directives {
	bool no_cache, no_store, only_if_cached, is_private;
	bool must_revalidate; /* or proxy-revalidate, or s-maxage, which implies it: once stale it will not do */
	int64_t max_age, shared_max_age, min_fresh;
	int64_t max_stale; /* without a number: however stale, INT64_MAX / 4 */
};

void directives_init(struct directives *);
void directives_read(struct directives *, struct slice value); /* one field's; the fields of one message add up */

#endif

/* The JSON bodies that the admin plane takes: small objects, and what is said of one that is wrong. */
#ifndef SLUICE_ADMIN_BODY_H
#define SLUICE_ADMIN_BODY_H

#include <jansson.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/slice.h"

/* The object in the body, for json_decref. NULL with what is wrong, a sentence, and what is allowed, in `error`. */
json_t *admin_body_read(struct slice body, const char *allowed, struct buf *error) MUST_CHECK;
struct slice admin_body_text(const json_t *); /* of a string; SLICE_NONE of all else; lives as long as that */
/* False, with `"NAME" is FOUND, and not EXPECTED.` and what is allowed in `error`. */
bool admin_body_wrong(struct buf *error, const char *name, const json_t *found, const char *expected,
		      const char *allowed);
bool admin_body_unknown(struct buf *error, const char *name, const char *allowed); /* false */

#endif

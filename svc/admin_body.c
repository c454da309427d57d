/* What is found is shown, cut: who asks has it before him, and its beginning is enough to tell which it is. */
#include "svc/admin_body.h"

#include <stdlib.h>

enum { SHOWN_MOST = 64 };

json_t *admin_body_read(struct slice body, const char *allowed, struct buf *error)
{
	json_error_t fault;
	json_t *object = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, &fault);

	if (json_is_object(object))
		return object;
	if (object == NULL)
		buf_format(error, "The body is not JSON: %s, at byte %d. %s", fault.text, fault.position, allowed);
	else
		buf_format(error, "The body is not a JSON object. %s", allowed);
	json_decref(object);
	return NULL;
}

struct slice admin_body_text(const json_t *value)
{
	return slice_make(json_string_value(value), json_string_length(value));
}

bool admin_body_wrong(struct buf *error, const char *name, const json_t *found, const char *expected,
		      const char *allowed)
{
	char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
	struct slice all = slice_of(text), shown = slice_first(all, SHOWN_MOST);

	buf_format(error, "\"%s\" is %.*s%s, and not %s. %s", name, SLICE_ARGS(shown), shown.len < all.len ? "…" : "",
		   expected, allowed);
	free(text);
	return false;
}

bool admin_body_unknown(struct buf *error, const char *name, const char *allowed)
{
	buf_format(error, "Found the member \"%s\". %s", name, allowed);
	return false;
}

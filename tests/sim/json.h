/* Reading a JSON text in place: one pass proves that it is well formed, later calls walk it again by slices.
 *
 * Nothing is copied and no tree is built, because most requests are asked for three or four members only. A value is the
 * slice of its own text (a string with its quotes). The disadvantage: each level that is walked reads what it contains
 * once more, which is cheap while prompts are a few levels deep. Deliberately not lib/json_scan: the simulator judges the
 * gateway, so the two must not share their idea of JSON. */
#ifndef SIM_JSON_H
#define SIM_JSON_H

#include "lib/base.h"
#include "lib/slice.h"

#define JSON_DEPTH 200 /* nesting that json_parse accepts */

/* The one value of `text`; false when it is not RFC 8259 JSON. All other calls want slices that came from here. */
bool json_parse(struct slice text, struct slice *value) MUST_CHECK;

/* Walk an object or an array: start with *at = 0, false at the end, and at once when it is of another type. */
bool json_member(struct slice object, size_t *at, struct slice *key, struct slice *value) MUST_CHECK;
bool json_element(struct slice array, size_t *at, struct slice *value) MUST_CHECK;

struct slice json_get(struct slice object, const char *key); /* of equal keys the last; SLICE_NONE when there is none */

/* The members of one object, found in one pass, for those who ask for many of them. */
struct json_members {
	struct slice object;
	size_t count; /* more than the table has: json_pick walks the object */
	struct {
		struct slice key, value;
	} table[32];
};
void json_read_members(struct json_members *, struct slice object);
struct slice json_pick(const struct json_members *, const char *key); /* as json_get */

struct slice json_last(struct slice array); /* the last element, or SLICE_NONE */
size_t json_count(struct slice array);

static inline bool json_is(struct slice value, char first)
{
	return value.len > 0 && value.data[0] == first;
}

bool json_is_true(struct slice value);
bool json_number(struct slice value, double *number) MUST_CHECK;
struct slice json_string(struct slice value); /* between the quotes, escapes as they stand; empty for other types */
size_t json_string_bytes(struct slice value); /* how long the string is in UTF-8 once its escapes are resolved */

#endif

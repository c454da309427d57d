/* Reads a JSON text (RFC 8259) once, as it arrives in pieces of any size, and remembers where the few members that
 * matter stand.
 *
 *   pieces ──► json_scan_feed ──► grammar, UTF-8, limits ──► json_string, json_number
 *                                   │                           │ decoded runs
 *                                   └── levels watched ◄── json_plan (which names matter)
 *                                            │
 *                                            ▼                  json_hash (what it means), if wanted
 *                                   struct json_member: type, bytes [start, end), value
 *
 * No tree is built and no byte of the text is kept but what the plan says; a text is changed by splicing at the
 * offsets, never written again. What two readers could understand differently is refused: a name that stands twice in
 * an object that a path goes through (escapes resolved before comparing), a byte order mark, malformed UTF-8, and, in
 * names and in strings that are kept, half a surrogate pair; elsewhere it is text of three bytes. How a text is cut
 * never changes the outcome, the offsets of errors included.
 *
 * Disadvantages: below the watched levels duplicates pass (unless the hash is on); in an object that a path goes
 * through a name may have at most JSON_SCAN_NAME bytes and at most JSON_LEVEL_NAMES names may be unknown to the plan.
 * Where jansson (JSON_DECODE_ANY, JSON_ALLOW_NUL) differs, knowingly: it refuses NUL in names, integers beyond 64 bits
 * and reals beyond a double; we take them. It (2.14) swallows a NUL byte behind a number; we refuse it. Our limits
 * differ from its depth of 2048. */
#ifndef SLUICE_JSON_SCAN_H
#define SLUICE_JSON_SCAN_H

#include "lib/base.h"
#include "lib/json_hash.h"
#include "lib/json_member.h"
#include "lib/json_plan.h"
#include "lib/slice.h"

enum {
	JSON_SCAN_DEPTH = 1024, /* nobody may allow more */
	JSON_SCAN_NAME = 256,
};

/* X(name, text) */
/* clang-format off */
#define JSON_SCAN_ERRORS(X) \
	X(none,       "no error") \
	X(truncated,  "the text ends too early") \
	X(value,      "expected a value") \
	X(first,      "expected a value or ']'") \
	X(member,     "expected a name or '}'") \
	X(name,       "expected a name") \
	X(colon,      "expected ':'") \
	X(object,     "expected ',' or '}'") \
	X(array,      "expected ',' or ']'") \
	X(trailing,   "something stands behind the value") \
	X(word,       "expected true, false or null") \
	X(number,     "malformed number") \
	X(escape,     "malformed escape") \
	X(surrogate,  "half a surrogate pair") \
	X(control,    "control character in a string") \
	X(utf8,       "malformed UTF-8") \
	X(mark,       "byte order mark") \
	X(duplicate,  "a name stands twice in one object") \
	X(bytes,      "too long") \
	X(depth,      "nested too deeply") \
	X(nodes,      "too many values") \
	X(names,      "too many names in one object") \
	X(long_name,  "a name is too long")
/* clang-format on */
#define JSON_SCAN_ERROR_ENUM(name, text) JSON_SCAN_ERROR_##name,
enum json_scan_error { JSON_SCAN_ERRORS(JSON_SCAN_ERROR_ENUM) };
#undef JSON_SCAN_ERROR_ENUM

enum json_scan_state {
	JSON_SCAN_MORE,  /* well so far */
	JSON_SCAN_WHOLE, /* the value is whole; only blanks may follow (a bare number is whole at json_scan_finish) */
	JSON_SCAN_FAILED,
};

struct json_scan_options {
	size_t max_bytes; /* of the whole text; 0: 32 MiB */
	size_t max_nodes; /* values of every kind; 0: a million */
	size_t max_depth; /* of arrays and objects, up to JSON_SCAN_DEPTH; 0: 128 */
	bool hash;        /* json_scan_hash is wanted; then duplicates are refused everywhere */
	/* Told of each value at a path of the plan when it has ended, by its place in the plan's list, for who needs more
	 * than the last and the sums; also of a text that is not whole later. NULL: nobody is. */
	void (*heard)(void *arg, size_t path);
	void *arg;
};

struct json_scan;

/* The plan must outlive the scan. `options` may be NULL: the defaults. All memory is taken here, but for the hash and
 * for more than 32 unknown names. */
struct json_scan *json_scan_new(const struct json_plan *, const struct json_scan_options *options);
void json_scan_free(struct json_scan **);
void json_scan_reset(struct json_scan *); /* ready for another text; allocates nothing, frees nothing */

enum json_scan_state json_scan_feed(struct json_scan *, struct slice piece);
enum json_scan_state json_scan_finish(struct json_scan *) MUST_CHECK; /* no more comes: WHOLE or FAILED */

/* What stands at a path, by its place in the plan's list. May be read at any time; it is sure only when the text is
 * WHOLE. */
const struct json_member *json_scan_member(const struct json_scan *, size_t path);
/* What was wrong first, and at which byte of the text (a duplicate: where its name begins). */
enum json_scan_error json_scan_error(const struct json_scan *, size_t *offset);
const char *json_scan_error_text(enum json_scan_error);
size_t json_scan_bytes(const struct json_scan *); /* taken so far */
size_t json_scan_nodes(const struct json_scan *); /* values begun so far */
/* The hash of a WHOLE text, as lib/json_hash.h says. False: not asked for, not whole, or past what it can hold. */
bool json_scan_hash(struct json_scan *, unsigned char digest[JSON_HASH_SIZE]) MUST_CHECK;

#endif

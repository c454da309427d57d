/* A hash of what a JSON text means, not of how it is written: SHA-256 over one canonical form. Blanks, escapes, the
 * order of members and the spelling of numbers do not count; the order of elements does. Collision-resistant, so it may
 * name a cached answer.
 *
 *   text     SHA-256(value)
 *   value    't' 'f' 'z' | 's' bytes FF | 'n' number FF | '[' value… ']' | '{' count (4 bytes, the least first) member…
 *   member   form(name) form(value), in the order of form(name)
 *   form(x)  length (1 byte) x, where x has at most JSON_HASH_SHORT bytes; else FF SHA-256(x)
 *
 * No value, and no form, is a prefix of another (FF never stands in UTF-8). What is short stays as it is, because making
 * a digest takes longer than reading a member; what is long needs no room. Duplicates stand side by side when an object
 * is closed and its members are sorted.
 * Memory: some 40 bytes and two forms for each member of the objects that are open, at most JSON_HASH_MEMBERS of them,
 * and a digest's state for each open object. Past that, or with a number whose value json_number does not know, there is
 * no hash: the text is then merely not named.
 * Disadvantage: an object's members are copied once more for each object around it, as long as they are short. */
#ifndef SLUICE_JSON_HASH_H
#define SLUICE_JSON_HASH_H

#include "lib/base.h"
#include "lib/slice.h"

enum { JSON_HASH_SIZE = 32, JSON_HASH_SHORT = 128, JSON_HASH_MEMBERS = 65536 };

struct json_hash;
struct json_number;

struct json_hash *json_hash_new(void);
void json_hash_free(struct json_hash **);
void json_hash_reset(struct json_hash *); /* ready for another text; keeps the memory */

/* The text's tokens in their order. */
void json_hash_word(struct json_hash *, char first); /* true, false or null, by its first letter */
void json_hash_number(struct json_hash *, const struct json_number *);
void json_hash_string_start(struct json_hash *);
void json_hash_name_start(struct json_hash *, size_t offset); /* a member begins, its name stands at `offset` */
void json_hash_bytes(struct json_hash *, struct slice run);   /* of the string or name that is open, decoded */
void json_hash_string_end(struct json_hash *);
void json_hash_name_end(struct json_hash *);
void json_hash_open(struct json_hash *, bool array);
/* False: an object has two members of one name, and *offset says where the later one stands. */
bool json_hash_close(struct json_hash *, bool array, size_t *offset) MUST_CHECK;

/* After the last token; false when there is no hash. */
bool json_hash_finish(struct json_hash *, unsigned char digest[JSON_HASH_SIZE]) MUST_CHECK;

#endif

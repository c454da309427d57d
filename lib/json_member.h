/* What a scan remembers of the values at one path: the last of them, and sums over all. Filled in the order begin,
 * append…, end. */
#ifndef SLUICE_JSON_MEMBER_H
#define SLUICE_JSON_MEMBER_H

#include "lib/base.h"
#include "lib/slice.h"

enum json_member_type {
	JSON_MEMBER_ABSENT,
	JSON_MEMBER_STRING,
	JSON_MEMBER_NUMBER,
	JSON_MEMBER_TRUE,
	JSON_MEMBER_FALSE,
	JSON_MEMBER_NULL,
	JSON_MEMBER_OBJECT,
	JSON_MEMBER_ARRAY,
};

/* A value counts when it is whole: while the next one at a path arrives, type is JSON_MEMBER_ABSENT. */
struct json_member {
	enum json_member_type type;
	bool empty; /* an object or array with nothing in it: who inserts at start + 1 needs no comma */
	bool cut;   /* the string is longer than `text` */
	bool whole; /* a number, however written, whose value is the integer below */
	int64_t integer;
	size_t start, end;   /* the value's bytes in the whole text, quotes and brackets included: [start, end) */
	struct slice text;   /* a string's decoded bytes (NUL too), as many as are kept; cut between characters */
	size_t count;        /* values at this path */
	size_t string_bytes; /* decoded bytes of all strings at this path */
	size_t value_bytes;  /* bytes in the text of all values at this path: end - start of each */
};

/* Zeroes it, but for text.data: that is where its text will be kept, and the owner's to say. */
void json_member_reset(struct json_member *);
void json_member_begin(struct json_member *);
/* A run of the string that has begun, of which `keep` bytes in all are kept. */
void json_member_append(struct json_member *, struct slice run, size_t keep);
/* The same of `length` bytes when none is kept. */
void json_member_measure(struct json_member *, size_t length);
void json_member_end(struct json_member *, enum json_member_type type, size_t start, size_t end);

#endif

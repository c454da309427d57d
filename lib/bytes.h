/* What a byte may be part of in HTTP and in JSON, by one look-up: a request's head and its answer's are walked several times. */
#ifndef SLUICE_BYTES_H
#define SLUICE_BYTES_H

#include "lib/base.h"
#include "lib/slice.h"

enum bytes_class {
	BYTES_TOKEN = 1, /* of a field's name or a method: tchar, RFC 9110 section 5.6.2 */
	BYTES_FIELD = 2, /* of a field's value: RFC 9110 section 5.5, obs-text too */
	BYTES_PLAIN = 4, /* of a JSON string, as it is, in ASCII: RFC 8259 section 7; DEL is one */
};
extern const unsigned char bytes_classes[256];

static inline bool bytes_is(char byte, enum bytes_class class)
{
	return (bytes_classes[(unsigned char)byte] & class) != 0;
}

size_t bytes_prefix(struct slice, enum bytes_class); /* how many at its front are of that class */

static inline bool bytes_all(struct slice s, enum bytes_class class)
{
	return bytes_prefix(s, class) == s.len;
}

#endif

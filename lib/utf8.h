/* One character of UTF-8 at a time, as RFC 3629 has it: no overlong forms, no surrogates, at most U+10FFFF. */
#ifndef SLUICE_UTF8_H
#define SLUICE_UTF8_H

#include "lib/base.h"
#include "lib/slice.h"

/* How many bytes the first character of s takes. When it is broken, *valid is false and the count is that of the maximal
 * subpart that one U+FFFD stands for (Unicode 15, section 3.9, practice of W3C's Encoding). s must not be empty. */
size_t utf8_next(struct slice s, bool *valid);

/* The length of the longest beginning of s that is ASCII. */
size_t utf8_ascii(struct slice s);

#endif

/* Numbers with units, as people write them in a configuration file, and back. Whole input or nothing: no leading blanks,
 * no trailing garbage, no sign but a leading minus in text_int, no overflow. */
#ifndef SLUICE_TEXT_H
#define SLUICE_TEXT_H

#include "lib/base.h"
#include "lib/slice.h"

struct buf;

bool text_int(struct slice, int64_t *) MUST_CHECK;    /* decimal digits */
bool text_decimal(struct slice, double *) MUST_CHECK; /* 12, 0.5, 1.25e3: JSON's number grammar without a sign */
bool text_duration(struct slice, int64_t *microseconds) MUST_CHECK; /* 0, 250us, 250ms, 30s, 5m, 1h, 2d; 1.5s too */
bool text_size(struct slice, int64_t *bytes) MUST_CHECK;            /* 512, 64KiB, 20MiB, 1GiB; and kB MB GB of 1000 */
bool text_count(struct slice, int64_t *) MUST_CHECK;                /* 150, 400k, 4M, 1.5M, 2G: powers of 1000 */
bool text_percent(struct slice, double *) MUST_CHECK;               /* 20%, 0.5%; 0 to 100, given as 0 to 1 */
bool text_parts(struct slice, int64_t *parts) MUST_CHECK;           /* 0, 50%, 0.5%, given in parts of 10,000 */
bool text_dollars(struct slice, int64_t *millionths) MUST_CHECK;    /* 10, 1.25, 0.000001, given in millionths */
bool text_bool(struct slice, bool *) MUST_CHECK;                    /* true, false (YAML 1.2 core) */
/* Moments, since 1970-01-01 UTC. A date of HTTP in each of the three forms that a recipient must take (RFC 9110 section 5.6.7),
 * and a timestamp of the Internet (RFC 3339: 2025-01-31T23:59:59.5+01:00), whose finer parts are cut off. */
bool text_date(struct slice, int64_t *seconds) MUST_CHECK;
bool text_timestamp(struct slice, int64_t *microseconds) MUST_CHECK;

/* The shortest spelling that the parsers above read back to the same value, without a fraction below one (100ms, not 0.1s);
 * of two that are equally short the larger unit. A negative value gets a minus, which the parsers refuse. */
bool text_put_duration(struct buf *, int64_t microseconds);
bool text_put_size(struct buf *, int64_t bytes);
bool text_put_count(struct buf *, int64_t);
/* In full, also below one: 0.5%, 0.000001. */
bool text_put_parts(struct buf *, int64_t parts);
bool text_put_dollars(struct buf *, int64_t millionths);

bool text_is_utf8(struct slice);  /* RFC 3629: no surrogates, no overlong forms, at most U+10FFFF */
bool text_is_token(struct slice); /* RFC 9110 section 5.6.2: a field name or a method; not empty */
size_t text_hex(char *out, const void *bytes, size_t count);         /* lower case; writes 2·count bytes and no NUL */
bool text_unhex(struct slice, void *bytes, size_t count) MUST_CHECK; /* exactly 2·count digits, either case */
/* Percent-decoding (RFC 3986 section 2.1) into out, at most `capacity` bytes; false on a bad escape, a NUL, or no room. */
bool text_url_decode(struct slice, char *out, size_t capacity, size_t *len) MUST_CHECK;

/* How many bytes must be put in, taken out or changed to make one word of the other (Levenshtein, 1966), to find the one
 * that was meant. Words of 32 bytes and more are TEXT_FAR from each other. */
enum { TEXT_FAR = 100 };
unsigned text_distance(struct slice, struct slice);

#endif

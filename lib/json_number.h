/* Reads one JSON number, piece by piece (RFC 8259 section 6), and knows its value exactly: 100, 1e2 and 100.0 are one
 * number. The value is kept as 0.ddd × 10^exponent without leading or trailing zeros. Never through a double: 0.1 stays
 * 0.1.
 * Disadvantage: of more than JSON_NUMBER_DIGITS significant digits, or with an exponent past a million, only the
 * grammar is known. */
#ifndef SLUICE_JSON_NUMBER_H
#define SLUICE_JSON_NUMBER_H

#include "lib/base.h"

enum { JSON_NUMBER_DIGITS = 64, JSON_NUMBER_TEXT = JSON_NUMBER_DIGITS + 24 };

enum json_number_place {
	JSON_NUMBER_START, /* a minus or the first digit must follow */
	JSON_NUMBER_MINUS, /* behind the minus: a digit must follow */
	JSON_NUMBER_ZERO,  /* behind a leading zero: no digit may follow */
	JSON_NUMBER_INTEGER,
	JSON_NUMBER_POINT, /* a digit must follow */
	JSON_NUMBER_FRACTION,
	JSON_NUMBER_E,    /* a sign or a digit must follow */
	JSON_NUMBER_SIGN, /* a digit must follow */
	JSON_NUMBER_EXPONENT,
};

/* Embedded by value; json_number_start makes it ready. */
struct json_number {
	enum json_number_place place;
	bool valued; /* the value is wanted; else only the grammar is checked, and nothing below is touched */
	bool negative, exponent_negative;
	bool inexact;  /* too many digits to be kept, or too large an exponent */
	int exponent;  /* as written behind the e, without its sign */
	int64_t shift; /* where the point stands, counted from the first significant digit */
	unsigned count;
	char digits[JSON_NUMBER_DIGITS]; /* no leading zeros */
};

void json_number_start(struct json_number *, bool valued);
/* Takes bytes from *at on as far as they belong to the number. False: *at stands at a byte that makes it malformed.
 * When *at < end afterwards, the number has ended there. */
bool json_number_next(struct json_number *, const char **at, const char *end) MUST_CHECK;
/* Whether what has been taken so far is a whole number (at the end of the text, or of json_number_next's reach). */
bool json_number_whole(const struct json_number *);
/* True when the value is an integer that int64_t holds, however it is written. */
bool json_number_integer(const struct json_number *, int64_t *);
/* The one spelling of this value: "0", or minus, digits, 'e', exponent. Returns its length, or 0 when the value is not
 * known. */
unsigned json_number_canonical(const struct json_number *, char text[JSON_NUMBER_TEXT]);

#endif

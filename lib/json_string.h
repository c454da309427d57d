/* Reads the inside of one JSON string, piece by piece: escapes resolved, UTF-8 checked (RFC 8259 section 7, RFC 3629
 * section 4).
 *
 *   "caf\u00e9 au lait"  ──►  RUN "caf"  RUN "é"  END " au lait"
 *
 * Runs are borrowed: plain bytes from the caller's piece, a resolved escape from the reader itself. Put together they
 * are the decoded string; how they are cut depends on how the bytes came, so a caller may only ever append them. Plain
 * bytes are looked at 16 at a time (SSE2), else 8: a base64 image of 20 MiB goes at the speed of memory.
 *
 * An escaped surrogate without its other half is legal (RFC 8259 section 8.2), and JSON.stringify writes it where a text
 * was cut through a character; but readers differ in what they make of it. So who compares or keeps the string has it
 * refused; who only measures or hashes it lets `halves` pass, as the three bytes of WTF-8, which no good UTF-8 has. */
#ifndef SLUICE_JSON_STRING_H
#define SLUICE_JSON_STRING_H

#include "lib/base.h"
#include "lib/slice.h"

enum json_string_event {
	JSON_STRING_RUN,  /* *run holds decoded bytes; ask again */
	JSON_STRING_MORE, /* the piece is used up */
	JSON_STRING_END,  /* *run holds the last bytes, if any; the closing quote has been taken */
	/* Refused; the cursor stands at the byte that is wrong. */
	JSON_STRING_BAD_ESCAPE,
	JSON_STRING_LONE_SURROGATE,
	JSON_STRING_CONTROL,
	JSON_STRING_BAD_UTF8,
};

enum json_string_place {
	JSON_STRING_PLAIN,
	JSON_STRING_CONTINUATION, /* within a character of several bytes */
	JSON_STRING_ESCAPE,       /* behind a backslash */
	JSON_STRING_HEX,          /* within the four digits of \u */
	JSON_STRING_PAIR,         /* a high surrogate stands; its partner's backslash must follow */
	JSON_STRING_PAIR_ESCAPE,  /* … and its u */
};

/* Embedded by value; zeroed it stands behind an opening quote, and so it does again after END; `halves` stays. */
struct json_string {
	enum json_string_place place;
	bool halves;              /* the caller's: half a surrogate pair passes */
	unsigned left;            /* CONTINUATION: bytes to come; HEX: digits to come */
	unsigned char low, high;  /* CONTINUATION: bounds of the next byte */
	uint32_t unit, surrogate; /* the digits so far; the high surrogate that waits, or 0 */
	char decoded[4];          /* what a run of one escape or one split byte points into */
};

/* Takes bytes from *at on, at most up to end, and moves *at. */
enum json_string_event json_string_next(struct json_string *, const char **at, const char *end, struct slice *run);
/* The same for who only wants to know how long the string is: *length grows by the decoded bytes, and
 * RUN never comes. */
enum json_string_event json_string_pass(struct json_string *, const char **at, const char *end, size_t *length);

#endif

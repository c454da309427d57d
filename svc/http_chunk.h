/* The chunked coding of a request's body (RFC 9112 section 7.1), taken off as the bytes come.
 *
 *   "5;ext=1" CRLF "hello" CRLF … "0" CRLF trailer fields CRLF
 *
 * Stricter than the RFC where leniency has let requests be smuggled: CRLF only, no blanks around the size, at most 16 digits.
 * Extensions and trailers are checked, bounded over the whole body, and dropped; a trailer that would frame or route the
 * message is refused (RFC 9110 section 6.5.1). */
#ifndef SLUICE_HTTP_CHUNK_H
#define SLUICE_HTTP_CHUNK_H

#include "lib/base.h"
#include "lib/slice.h"

enum {
	HTTP_CHUNK_EXTENSIONS_MAX = 4096, /* bytes of extensions in one body */
	HTTP_CHUNK_TRAILERS_MAX = 8192,   /* bytes of trailers */
};

enum http_chunk_stage {
	CHUNK_SIZE_FIRST,
	CHUNK_SIZE,
	CHUNK_EXTENSION_NAME_FIRST,
	CHUNK_EXTENSION_NAME,
	CHUNK_EXTENSION_VALUE_FIRST,
	CHUNK_EXTENSION_VALUE,
	CHUNK_EXTENSION_QUOTED,
	CHUNK_EXTENSION_QUOTED_END,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER_FIRST,
	CHUNK_TRAILER_NAME,
	CHUNK_TRAILER_VALUE,
	CHUNK_TRAILER_LF,
	CHUNK_END_LF,
};

struct http_chunk {
	enum http_chunk_stage stage;
	int64_t left; /* of this chunk's data; before CHUNK_DATA: its size as far as read */
	unsigned digits;
	size_t extensions, trailers; /* bytes so far */
	char name[20];               /* of the trailer field, as far as it may be a name that is refused */
	size_t name_len;
};

enum http_chunk_result { HTTP_CHUNK_MORE, HTTP_CHUNK_PIECE, HTTP_CHUNK_END, HTTP_CHUNK_BAD };

void http_chunk_init(struct http_chunk *);
/* Takes bytes off the front of *input. PIECE: *piece is data, borrowed from the input; call again. MORE: the input is used up.
 * END: the body is whole, what is left in *input is the next request's. BAD: the framing is broken. */
enum http_chunk_result http_chunk_next(struct http_chunk *, struct slice *input, struct slice *piece) MUST_CHECK;

#endif

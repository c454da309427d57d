/* One byte at a time through the framing, in one piece through the data. */
#include "svc/http_chunk.h"

#include "lib/bytes.h"
#include "svc/http_parse.h"

#define DIGITS_MAX 15 /* of the size: 15 hexadecimal digits never pass 2^60 */

void http_chunk_init(struct http_chunk *c)
{
	*c = (struct http_chunk){ .stage = CHUNK_SIZE_FIRST };
}

static int hex_value(unsigned char byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	byte |= 0x20;
	return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool take_digit(struct http_chunk *c, unsigned char byte)
{
	int digit = hex_value(byte);
	if (digit < 0 || ++c->digits > DIGITS_MAX)
		return false;
	c->left = c->left * 16 + digit;
	c->stage = CHUNK_SIZE;
	return true;
}

/* What may follow a size or an extension: another extension, or the end of the line. */
static bool take_size_end(struct http_chunk *c, unsigned char byte)
{
	if (byte == ';')
		c->stage = CHUNK_EXTENSION_NAME_FIRST;
	else if (byte == '\r')
		c->stage = CHUNK_SIZE_LF;
	else
		return false;
	return true;
}

static bool take_extension(struct http_chunk *c, unsigned char byte)
{
	if (++c->extensions > HTTP_CHUNK_EXTENSIONS_MAX)
		return false;
	bool token = bytes_is((char)byte, BYTES_TOKEN);
	switch (c->stage) {
	case CHUNK_EXTENSION_NAME_FIRST:
		c->stage = CHUNK_EXTENSION_NAME;
		return token;
	case CHUNK_EXTENSION_NAME:
		if (byte == '=')
			c->stage = CHUNK_EXTENSION_VALUE_FIRST;
		return token || byte == '=' || take_size_end(c, byte);
	case CHUNK_EXTENSION_VALUE_FIRST:
		c->stage = byte == '"' ? CHUNK_EXTENSION_QUOTED : CHUNK_EXTENSION_VALUE;
		return token || byte == '"';
	case CHUNK_EXTENSION_VALUE: /* nothing behind a plain value: llhttp 8 takes nothing there either */
		return token || (byte == '\r' && take_size_end(c, byte));
	case CHUNK_EXTENSION_QUOTED: /* without escapes: parsers disagree about where an escaped quote ends */
		if (byte == '"')
			c->stage = CHUNK_EXTENSION_QUOTED_END;
		return bytes_is((char)byte, BYTES_FIELD) && byte != '\\' && byte < 0x80;
	default: /* CHUNK_EXTENSION_QUOTED_END */
		return take_size_end(c, byte);
	}
}

static bool name_is_allowed(const struct http_chunk *c)
{
	struct slice name = slice_make(c->name, c->name_len < sizeof(c->name) ? c->name_len : 0);
	return !slice_equal_nocase(name, SLICE("content-length")) && !slice_equal_nocase(name, SLICE("host")) &&
	       !slice_equal_nocase(name, SLICE("transfer-encoding"));
}

static bool take_name(struct http_chunk *c, unsigned char byte)
{
	if (c->name_len < sizeof(c->name))
		c->name[c->name_len++] = (char)byte;
	return bytes_is((char)byte, BYTES_TOKEN);
}

static bool take_trailer(struct http_chunk *c, unsigned char byte)
{
	if (++c->trailers > HTTP_CHUNK_TRAILERS_MAX)
		return false;
	switch (c->stage) {
	case CHUNK_TRAILER_FIRST:
		c->stage = byte == '\r' ? CHUNK_END_LF : CHUNK_TRAILER_NAME;
		c->name_len = 0;
		return byte == '\r' || take_name(c, byte);
	case CHUNK_TRAILER_NAME:
		if (byte != ':')
			return take_name(c, byte);
		c->stage = CHUNK_TRAILER_VALUE;
		return name_is_allowed(c);
	case CHUNK_TRAILER_VALUE:
		if (byte == '\r')
			c->stage = CHUNK_TRAILER_LF;
		return byte == '\r' || bytes_is((char)byte, BYTES_FIELD);
	default: /* CHUNK_TRAILER_LF */
		c->stage = CHUNK_TRAILER_FIRST;
		return byte == '\n';
	}
}

static bool take_line_feed(struct http_chunk *c, unsigned char byte)
{
	if (c->stage == CHUNK_SIZE_LF)
		c->stage = c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER_FIRST;
	else
		*c = (struct http_chunk){ .stage = CHUNK_SIZE_FIRST, .extensions = c->extensions };
	return byte == '\n';
}

static bool take(struct http_chunk *c, unsigned char byte)
{
	switch (c->stage) {
	case CHUNK_SIZE_FIRST:
		return take_digit(c, byte);
	case CHUNK_SIZE:
		return take_digit(c, byte) || take_size_end(c, byte);
	case CHUNK_SIZE_LF:
	case CHUNK_DATA_LF:
		return take_line_feed(c, byte);
	case CHUNK_DATA_CR:
		c->stage = CHUNK_DATA_LF;
		return byte == '\r';
	case CHUNK_TRAILER_FIRST:
	case CHUNK_TRAILER_NAME:
	case CHUNK_TRAILER_VALUE:
	case CHUNK_TRAILER_LF:
		return take_trailer(c, byte);
	default:
		return take_extension(c, byte);
	}
}

enum http_chunk_result http_chunk_next(struct http_chunk *c, struct slice *input, struct slice *piece)
{
	while (input->len > 0) {
		if (c->stage == CHUNK_DATA) {
			*piece = slice_first(*input, (size_t)c->left);
			*input = slice_skip(*input, piece->len);
			c->left -= (int64_t)piece->len;
			if (c->left == 0)
				c->stage = CHUNK_DATA_CR;
			return HTTP_CHUNK_PIECE;
		}
		unsigned char byte = (unsigned char)input->data[0];
		*input = slice_skip(*input, 1);
		if (c->stage == CHUNK_END_LF)
			return byte == '\n' ? HTTP_CHUNK_END : HTTP_CHUNK_BAD;
		if (!take(c, byte))
			return HTTP_CHUNK_BAD;
	}
	return HTTP_CHUNK_MORE;
}

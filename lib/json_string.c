#include "lib/json_string.h"

#if defined(__SSE2__) && !defined(JSON_STRING_PORTABLE)
#include <emmintrin.h>

/* How many of the bytes before `end` are plain ASCII of a string. A signed comparison with a blank finds control bytes
 * and bytes above 127 at once. */
static const char *skip_ascii(const char *at, const char *end)
{
	const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), blank = _mm_set1_epi8(' ');

	for (; end - at >= 16; at += 16) {
		__m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
		__m128i found =
			_mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
				     _mm_cmplt_epi8(bytes, blank));
		unsigned mask = (unsigned)_mm_movemask_epi8(found);
		if (mask != 0)
			return at + __builtin_ctz(mask);
	}
	while (at < end && (signed char)*at >= ' ' && *at != '"' && *at != '\\')
		at++;
	return at;
}
#else
/* Eight bytes at a time; the test for a zero byte is from "Bit Twiddling Hacks" (S. E. Anderson). It may only err by
 * stopping too early, and then the loop behind it decides. */
static const char *skip_ascii(const char *at, const char *end)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;

	while (at < end) {
		for (; end - at >= 8; at += 8) {
			uint64_t word;
			memcpy(&word, at, sizeof(word));
			uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
			if (((word | (word - ones * ' ') | (quote - ones) | (backslash - ones)) & tops) != 0)
				break;
		}
		for (int i = 0; i < 8 && at < end; i++, at++)
			if ((signed char)*at < ' ' || *at == '"' || *at == '\\')
				return at;
	}
	return at;
}
#endif

/* How long a character is, by its first byte (RFC 3629 section 4), and what its second byte may be; 0: it cannot begin
 * one. */
static unsigned sequence(unsigned char first, unsigned char *low, unsigned char *high)
{
	*low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
	*high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
	if (first < 0xC2 || first > 0xF4)
		return 0;
	return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

static bool is_continuation(char byte)
{
	return ((unsigned char)byte & 0xC0) == 0x80;
}

/* Passes whole, well-formed characters beyond ASCII; stops before anything else, or what the piece cuts off. */
static const char *skip_characters(const char *at, const char *end)
{
	while (at < end && (signed char)*at < 0) {
		unsigned char first = (unsigned char)*at, low, high;
		/* Most of the world's scripts: three bytes, no special case for the second. */
		if (first > 0xE0 && first < 0xF0 && first != 0xED && end - at >= 3 && is_continuation(at[1]) &&
		    is_continuation(at[2])) {
			at += 3;
			continue;
		}
		unsigned length = sequence(first, &low, &high);
		if (length == 0 || end - at < (ptrdiff_t)length)
			break;
		if ((unsigned char)at[1] < low || (unsigned char)at[1] > high)
			break;
		if ((length > 2 && !is_continuation(at[2])) || (length > 3 && !is_continuation(at[3])))
			break;
		at += length;
	}
	return at;
}

static inline const char *skip_plain(const char *at, const char *end)
{
	at = skip_ascii(at, end);
	while (at < end && (signed char)*at < 0) {
		const char *from = at;
		at = skip_characters(at, end);
		if (at == from)
			break;
		at = skip_ascii(at, end);
	}
	return at;
}

static enum json_string_event run_of(struct json_string *s, size_t length, struct slice *run)
{
	*run = slice_make(s->decoded, length);
	return JSON_STRING_RUN;
}

/* One byte of a character that could not be passed whole. */
static enum json_string_event take_byte(struct json_string *s, const char **at, struct slice *run)
{
	s->decoded[0] = *(*at)++;
	return run_of(s, 1, run);
}

/* The first byte of a character that does not stand here whole. */
static enum json_string_event take_first(struct json_string *s, const char **at, struct slice *run)
{
	unsigned char byte = (unsigned char)**at;

	if (byte < ' ')
		return JSON_STRING_CONTROL;
	unsigned length = sequence(byte, &s->low, &s->high);
	if (length == 0)
		return JSON_STRING_BAD_UTF8;
	s->left = length - 1;
	s->place = JSON_STRING_CONTINUATION;
	return take_byte(s, at, run);
}

static enum json_string_event take_continuation(struct json_string *s, const char **at, struct slice *run)
{
	unsigned char byte = (unsigned char)**at;

	if (byte < s->low || byte > s->high)
		return JSON_STRING_BAD_UTF8;
	s->low = 0x80;
	s->high = 0xBF;
	if (--s->left == 0)
		s->place = JSON_STRING_PLAIN;
	return take_byte(s, at, run);
}

/* What a backslash and this byte stand for; 0: nothing. */
static char simple_escape(char byte)
{
	switch (byte) {
	case '"':
	case '\\':
	case '/':
		return byte;
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return 0;
	}
}

/* The byte behind a backslash; 'u' announces four digits and gives no run yet (MORE). */
static enum json_string_event take_escape(struct json_string *s, const char **at, struct slice *run)
{
	if (**at == 'u') {
		++*at;
		s->place = JSON_STRING_HEX;
		s->left = 4;
		s->unit = 0;
		return JSON_STRING_MORE;
	}
	s->decoded[0] = simple_escape(**at);
	if (s->decoded[0] == 0)
		return JSON_STRING_BAD_ESCAPE;
	++*at;
	s->place = JSON_STRING_PLAIN;
	return run_of(s, 1, run);
}

static enum json_string_event give_character(struct json_string *s, uint32_t code, struct slice *run)
{
	s->place = JSON_STRING_PLAIN;
	s->surrogate = 0;
	if (code < 0x80) {
		s->decoded[0] = (char)code;
		return run_of(s, 1, run);
	}
	unsigned length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	for (unsigned i = length - 1; i > 0; i--, code >>= 6)
		s->decoded[i] = (char)(0x80 | (code & 0x3F));
	s->decoded[0] = (char)((0xF00u >> length & 0xFF) | code);
	return run_of(s, length, run);
}

static int hex_value(unsigned char byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	byte |= 0x20;
	return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The high surrogate has no partner: what stands at the cursor goes on at `place`, as if nothing had been before it. */
static enum json_string_event give_half(struct json_string *s, enum json_string_place place, struct slice *run)
{
	if (!s->halves)
		return JSON_STRING_LONE_SURROGATE;
	enum json_string_event event = give_character(s, s->surrogate, run);
	s->place = place;
	return event;
}

/* The last of the four digits. A lone surrogate is told here, where it is sure. */
static enum json_string_event take_unit(struct json_string *s, uint32_t unit, const char **at, struct slice *run)
{
	bool high = unit >= 0xD800 && unit < 0xDC00, low = unit >= 0xDC00 && unit < 0xE000;

	if (s->surrogate != 0 && !low)
		return give_half(s, JSON_STRING_HEX, run);
	if (low && s->surrogate == 0 && !s->halves)
		return JSON_STRING_LONE_SURROGATE;
	++*at;
	if (high) {
		s->surrogate = unit;
		s->place = JSON_STRING_PAIR;
		return JSON_STRING_MORE;
	}
	return give_character(s, s->surrogate != 0 ? 0x10000 + ((s->surrogate - 0xD800) << 10) + (unit - 0xDC00) : unit,
			      run);
}

/* One of the four digits; MORE until a character is whole. */
static enum json_string_event take_hex(struct json_string *s, const char **at, struct slice *run)
{
	int digit = hex_value((unsigned char)**at);

	if (digit < 0)
		return JSON_STRING_BAD_ESCAPE;
	uint32_t unit = s->unit << 4 | (uint32_t)digit;
	if (s->left == 1)
		return take_unit(s, unit, at, run);
	s->unit = unit;
	s->left--;
	++*at;
	return JSON_STRING_MORE;
}

static enum json_string_event take_pair(struct json_string *s, const char **at, struct slice *run)
{
	bool escape = s->place == JSON_STRING_PAIR_ESCAPE;

	if (**at != (escape ? 'u' : '\\'))
		return give_half(s, escape ? JSON_STRING_ESCAPE : JSON_STRING_PLAIN, run);
	++*at;
	s->place = escape ? JSON_STRING_HEX : JSON_STRING_PAIR_ESCAPE;
	s->left = 4;
	s->unit = 0;
	return JSON_STRING_MORE;
}

static enum json_string_event take_plain(struct json_string *s, const char **at, const char *end, struct slice *run)
{
	const char *from = *at, *to = skip_plain(from, end);

	*run = slice_make(from, (size_t)(to - from));
	*at = to;
	if (to < end && *to == '"') {
		++*at;
		return JSON_STRING_END;
	}
	if (to != from)
		return JSON_STRING_RUN;
	if (*to == '\\') {
		++*at;
		s->place = JSON_STRING_ESCAPE;
		return JSON_STRING_MORE;
	}
	return take_first(s, at, run);
}

enum json_string_event json_string_next(struct json_string *s, const char **at, const char *end, struct slice *run)
{
	enum json_string_event event = JSON_STRING_MORE;

	while (event == JSON_STRING_MORE && *at < end) {
		switch (s->place) {
		case JSON_STRING_PLAIN:
			event = take_plain(s, at, end, run);
			break;
		case JSON_STRING_CONTINUATION:
			event = take_continuation(s, at, run);
			break;
		case JSON_STRING_ESCAPE:
			event = take_escape(s, at, run);
			break;
		case JSON_STRING_HEX:
			event = take_hex(s, at, run);
			break;
		case JSON_STRING_PAIR:
		case JSON_STRING_PAIR_ESCAPE:
			event = take_pair(s, at, run);
			break;
		}
	}
	return event;
}

/* How many bytes of the text the escape here takes and how many it decodes to, when it is whole and no surrogate; else
 * 0. */
static unsigned whole_escape(const char *at, const char *end, size_t *length)
{
	uint32_t unit = 0;

	if (end - at >= 2 && simple_escape(at[1]) != 0) {
		*length += 1;
		return 2;
	}
	if (end - at < 6 || at[1] != 'u')
		return 0;
	for (int i = 2; i < 6; i++) {
		int digit = hex_value((unsigned char)at[i]);
		if (digit < 0)
			return 0;
		unit = unit << 4 | (uint32_t)digit;
	}
	if (unit >= 0xD800 && unit < 0xE000)
		return 0;
	*length += unit < 0x80 ? 1 : unit < 0x800 ? 2 : 3;
	return 6;
}

/* Plain bytes and escapes, as far as they stand here whole: nearly all there is in a prompt. Returns
 * how long they are. */
static size_t pass_simple(const char **at, const char *end)
{
	const char *to = skip_plain(*at, end);
	size_t length = (size_t)(to - *at);

	while (to < end && *to == '\\') {
		unsigned taken = whole_escape(to, end, &length);
		if (taken == 0)
			break;
		to += taken;
		if (to < end && *to != '\\') {
			const char *from = to;
			to = skip_plain(from, end);
			length += (size_t)(to - from);
		}
	}
	*at = to;
	return length;
}

enum json_string_event json_string_pass(struct json_string *s, const char **at, const char *end, size_t *length)
{
	enum json_string_event event;
	struct slice run;

	do {
		if (s->place == JSON_STRING_PLAIN) {
			*length += pass_simple(at, end);
			if (*at < end && **at == '"') {
				++*at;
				return JSON_STRING_END;
			}
		}
		event = json_string_next(s, at, end, &run);
		if (event == JSON_STRING_RUN || event == JSON_STRING_END)
			*length += run.len;
	} while (event == JSON_STRING_RUN);
	return event;
}

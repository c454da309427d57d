/* Parsers of whole words, and their inverse. Fractions are exact: 1.5s is 1 500 000 µs, and 0.3us, which no integer holds,
 * is refused. */
#include "lib/text.h"

#include "lib/buf.h"
#include "lib/bytes.h"
#include "lib/utf8.h"

#include <stdlib.h>

#define MOST_FRACTION_DIGITS 9 /* written; any number is read */
#define MOST_DECIMAL_LENGTH  64

struct unit {
	const char *name;
	int64_t factor;
};

/* Largest first; a table ends with the unit of factor 1, or with none. */
/* clang-format off */
static const struct unit DURATIONS[] = {
	{ "d",  INT64_C(86400000000) },
	{ "h",  INT64_C(3600000000) },
	{ "m",  INT64_C(60000000) },
	{ "s",  INT64_C(1000000) },
	{ "ms", INT64_C(1000) },
	{ "us", INT64_C(1) },
};
static const struct unit SIZES[] = {
	{ "GiB", INT64_C(1) << 30 },
	{ "GB",  INT64_C(1000000000) },
	{ "MiB", INT64_C(1) << 20 },
	{ "MB",  INT64_C(1000000) },
	{ "KiB", INT64_C(1) << 10 },
	{ "kB",  INT64_C(1000) },
	{ "",    INT64_C(1) },
};
static const struct unit COUNTS[] = {
	{ "G", INT64_C(1000000000) },
	{ "M", INT64_C(1000000) },
	{ "k", INT64_C(1000) },
	{ "",  INT64_C(1) },
};
static const struct unit PERCENT = { "%", INT64_C(100) };
static const struct unit DOLLAR = { "", INT64_C(1000000) };
/* clang-format on */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static size_t digits_prefix(struct slice s)
{
	size_t count = 0;
	while (count < s.len && is_digit(s.data[count]))
		count++;
	return count;
}

/* `digits` as a number, negated when `negative`: built downwards, because INT64_MIN has no positive twin. */
static bool read_digits(struct slice digits, bool negative, int64_t *value)
{
	int64_t sum = 0;
	for (size_t i = 0; i < digits.len; i++) {
		int digit = digits.data[i] - '0';
		if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_sub_overflow(sum, digit, &sum))
			return false;
	}
	if (!negative && sum == INT64_MIN)
		return false;
	*value = negative ? sum : -sum;
	return true;
}

bool text_int(struct slice s, int64_t *value)
{
	bool negative = s.len > 0 && s.data[0] == '-';
	struct slice digits = negative ? slice_skip(s, 1) : s;
	if (digits.len == 0 || digits_prefix(digits) != digits.len)
		return false;
	return read_digits(digits, negative, value);
}

/* Takes [e|E][+|-]digits off the front; false when what stands there begins as an exponent and is none. */
static bool skip_exponent(struct slice *s)
{
	if (s->len == 0 || (s->data[0] != 'e' && s->data[0] != 'E'))
		return true;
	*s = slice_skip(*s, 1);
	if (s->len > 0 && (s->data[0] == '+' || s->data[0] == '-'))
		*s = slice_skip(*s, 1);
	size_t digits = digits_prefix(*s);
	*s = slice_skip(*s, digits);
	return digits > 0;
}

/* RFC 8259 section 6, without the minus. */
static bool is_decimal(struct slice s)
{
	size_t whole = digits_prefix(s);
	if (whole == 0 || (whole > 1 && s.data[0] == '0'))
		return false;
	s = slice_skip(s, whole);
	if (s.len > 0 && s.data[0] == '.') {
		s = slice_skip(s, 1);
		size_t fraction = digits_prefix(s);
		if (fraction == 0)
			return false;
		s = slice_skip(s, fraction);
	}
	return skip_exponent(&s) && s.len == 0;
}

bool text_decimal(struct slice s, double *value)
{
	char copy[MOST_DECIMAL_LENGTH + 1], *end;
	if (s.len > MOST_DECIMAL_LENGTH || !is_decimal(s))
		return false;
	memcpy(copy, s.data, s.len);
	copy[s.len] = '\0';
	double read = strtod(copy, &end);
	if (*end != '\0' || read > __DBL_MAX__)
		return false;
	*value = read;
	return true;
}

/* 0.fraction of `factor`, when that is whole: Horner's rule from the last digit on. What is not whole at one digit cannot
 * become whole at the next, so each division must come out even. */
static bool read_fraction(struct slice fraction, int64_t factor, int64_t *value)
{
	int64_t sum = 0;
	for (size_t i = fraction.len; i > 0; i--) {
		sum += (fraction.data[i - 1] - '0') * factor;
		if (sum % 10 != 0)
			return false;
		sum /= 10;
	}
	*value = sum;
	return true;
}

static const struct unit *find_unit(struct slice name, const struct unit *units, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (slice_equal(name, slice_of(units[i].name)))
			return &units[i];
	return NULL;
}

/* digits[.digits]unit */
static bool read_scaled(struct slice s, const struct unit *units, size_t count, int64_t *value)
{
	struct slice whole = slice_first(s, digits_prefix(s)), fraction = SLICE_NONE, name = slice_skip(s, whole.len);
	bool has_fraction = name.len > 0 && name.data[0] == '.';
	if (has_fraction) {
		fraction = slice_first(slice_skip(name, 1), digits_prefix(slice_skip(name, 1)));
		name = slice_skip(name, 1 + fraction.len);
	}
	const struct unit *unit = find_unit(name, units, count);
	if (unit == NULL || whole.len == 0 || (has_fraction && fraction.len == 0))
		return false;
	int64_t big, small, sum;
	if (!read_digits(whole, false, &big) || !read_fraction(fraction, unit->factor, &small))
		return false;
	if (__builtin_mul_overflow(big, unit->factor, &sum) || __builtin_add_overflow(sum, small, &sum))
		return false;
	*value = sum;
	return true;
}

bool text_duration(struct slice s, int64_t *microseconds)
{
	if (slice_equal(s, SLICE("0"))) {
		*microseconds = 0;
		return true;
	}
	return read_scaled(s, DURATIONS, ARRAY_LENGTH(DURATIONS), microseconds);
}

bool text_size(struct slice s, int64_t *bytes)
{
	return read_scaled(s, SIZES, ARRAY_LENGTH(SIZES), bytes);
}

bool text_count(struct slice s, int64_t *value)
{
	return read_scaled(s, COUNTS, ARRAY_LENGTH(COUNTS), value);
}

bool text_percent(struct slice s, double *value)
{
	double percent;
	if (!slice_ends(s, SLICE("%")) || !text_decimal(slice_first(s, s.len - 1), &percent) || percent > 100)
		return false;
	*value = percent / 100;
	return true;
}

bool text_parts(struct slice s, int64_t *parts)
{
	if (slice_equal(s, SLICE("0"))) {
		*parts = 0;
		return true;
	}
	return read_scaled(s, &PERCENT, 1, parts);
}

bool text_dollars(struct slice s, int64_t *millionths)
{
	return read_scaled(s, &DOLLAR, 1, millionths);
}

bool text_bool(struct slice s, bool *value)
{
	static const char *const spellings[2][3] = { { "false", "False", "FALSE" }, { "true", "True", "TRUE" } };
	for (int truth = 0; truth < 2; truth++)
		for (size_t i = 0; i < ARRAY_LENGTH(spellings[truth]); i++)
			if (slice_equal(s, slice_of(spellings[truth][i]))) {
				*value = truth == 1;
				return true;
			}
	return false;
}

/* Writes value/factor with the unit into b; false when that takes too many digits to be the shortest. */
static bool put_in_unit(struct buf *b, int64_t value, const struct unit *unit)
{
	int64_t rest = value % unit->factor;
	buf_append_int(b, value / unit->factor);
	if (rest != 0)
		buf_append_byte(b, '.');
	for (int digits = 0; rest != 0; digits++) {
		if (digits == MOST_FRACTION_DIGITS)
			return false;
		rest *= 10;
		buf_append_byte(b, (char)('0' + rest / unit->factor));
		rest %= unit->factor;
	}
	return buf_append(b, slice_of(unit->name)) && !b->overflowed;
}

static bool put_shortest(struct buf *b, int64_t value, const struct unit *units, size_t count)
{
	char texts[2][48];
	struct buf best, next;
	buf_wrap(&best, texts[0], sizeof(texts[0]), 0);
	for (size_t i = 0; i < count; i++) {
		buf_wrap(&next, best.data == texts[0] ? texts[1] : texts[0], sizeof(texts[0]), 0);
		if (value < units[i].factor || !put_in_unit(&next, value, &units[i]))
			continue;
		if (best.len == 0 || next.len < best.len)
			best = next;
	}
	return buf_append(b, best.len == 0 ? SLICE("0") : buf_slice(&best));
}

/* Over a sign: the parsers read none, but a log or a page may show a difference. INT64_MIN is cut by one. */
static bool put_signed(struct buf *b, int64_t value, const struct unit *units, size_t count)
{
	size_t before = b->len;
	int64_t magnitude = value >= 0 ? value : value == INT64_MIN ? INT64_MAX : -value;
	if ((value >= 0 || buf_append_byte(b, '-')) && put_shortest(b, magnitude, units, count))
		return true;
	b->len = before;
	return false;
}

bool text_put_duration(struct buf *b, int64_t microseconds)
{
	return put_signed(b, microseconds, DURATIONS, ARRAY_LENGTH(DURATIONS));
}

bool text_put_size(struct buf *b, int64_t bytes)
{
	return put_signed(b, bytes, SIZES, ARRAY_LENGTH(SIZES));
}

bool text_put_count(struct buf *b, int64_t value)
{
	return put_signed(b, value, COUNTS, ARRAY_LENGTH(COUNTS));
}

/* In one unit, also below one of it; signed as above. */
static bool put_in_full(struct buf *b, int64_t value, const struct unit *unit)
{
	char text[48];
	struct buf whole;
	buf_wrap(&whole, text, sizeof(text), 0);
	if (value < 0)
		buf_append_byte(&whole, '-');
	return put_in_unit(&whole,
			   value >= 0           ? value
			   : value == INT64_MIN ? INT64_MAX
						: -value,
			   unit) &&
	       buf_append(b, buf_slice(&whole));
}

bool text_put_parts(struct buf *b, int64_t parts)
{
	return put_in_full(b, parts, &PERCENT);
}

bool text_put_dollars(struct buf *b, int64_t millionths)
{
	return put_in_full(b, millionths, &DOLLAR);
}

bool text_is_utf8(struct slice s)
{
	for (s = slice_skip(s, utf8_ascii(s)); s.len > 0; s = slice_skip(s, utf8_ascii(s))) {
		bool valid;
		s = slice_skip(s, utf8_next(s, &valid));
		if (!valid)
			return false;
	}
	return true;
}

bool text_is_token(struct slice s)
{
	return s.len > 0 && bytes_all(s, BYTES_TOKEN);
}

size_t text_hex(char *out, const void *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *from = bytes;
	for (size_t i = 0; i < count; i++) {
		out[2 * i] = digits[from[i] >> 4];
		out[2 * i + 1] = digits[from[i] & 15];
	}
	return 2 * count;
}

/* -1 when c is no hexadecimal digit. */
static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool text_unhex(struct slice s, void *bytes, size_t count)
{
	unsigned char *to = bytes;
	if (s.len % 2 != 0 || s.len / 2 != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		int high = hex_value(s.data[2 * i]), low = hex_value(s.data[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		to[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

bool text_url_decode(struct slice s, char *out, size_t capacity, size_t *len)
{
	size_t written = 0;
	while (s.len > 0) {
		char byte = s.data[0];
		size_t taken = byte == '%' ? 3 : 1;
		if (taken == 3 && !text_unhex(slice_first(slice_skip(s, 1), 2), &byte, 1))
			return false;
		if (byte == '\0' || written == capacity)
			return false;
		out[written++] = byte;
		s = slice_skip(s, taken);
	}
	*len = written;
	return true;
}

unsigned text_distance(struct slice a, struct slice b)
{
	unsigned row[32];

	if (a.len >= ARRAY_LENGTH(row) || b.len >= ARRAY_LENGTH(row))
		return TEXT_FAR;
	for (unsigned j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		unsigned before = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b.len; j++) {
			unsigned above = row[j], best = before + (a.data[i - 1] != b.data[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
			before = above;
		}
	}
	return row[b.len];
}

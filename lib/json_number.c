#include "lib/json_number.h"

#include <string.h>

enum { EXPONENT_MAX = 1000000 };

void json_number_start(struct json_number *n, bool valued)
{
	n->place = JSON_NUMBER_START;
	n->valued = valued;
	n->negative = n->exponent_negative = n->inexact = false;
	n->exponent = 0;
	n->shift = 0;
	n->count = 0;
}

static void keep_digit(struct json_number *n, char digit)
{
	if (n->place == JSON_NUMBER_EXPONENT) {
		n->exponent = n->exponent * 10 + (digit - '0');
		if (n->exponent > EXPONENT_MAX) {
			n->exponent = EXPONENT_MAX;
			n->inexact = true;
		}
		return;
	}
	bool significant = n->count > 0 || digit != '0';
	if (n->place == JSON_NUMBER_FRACTION && !significant)
		n->shift--;
	if (n->place != JSON_NUMBER_FRACTION && significant)
		n->shift++;
	if (!significant)
		return;
	if (n->count < JSON_NUMBER_DIGITS)
		n->digits[n->count++] = digit;
	else if (digit != '0')
		n->inexact = true;
}

/* Where a digit leads from each place; digits beyond the first stay in their run. */
static bool take_digit(struct json_number *n, char digit)
{
	switch (n->place) {
	case JSON_NUMBER_START:
	case JSON_NUMBER_MINUS:
		n->place = digit == '0' ? JSON_NUMBER_ZERO : JSON_NUMBER_INTEGER;
		break;
	case JSON_NUMBER_ZERO:
		return false;
	case JSON_NUMBER_POINT:
		n->place = JSON_NUMBER_FRACTION;
		break;
	case JSON_NUMBER_E:
	case JSON_NUMBER_SIGN:
		n->place = JSON_NUMBER_EXPONENT;
		break;
	case JSON_NUMBER_INTEGER:
	case JSON_NUMBER_FRACTION:
	case JSON_NUMBER_EXPONENT:
		break;
	}
	if (n->valued)
		keep_digit(n, digit);
	return true;
}

static bool is_number_byte(char byte)
{
	return (byte >= '0' && byte <= '9') || byte == '.' || byte == 'e' || byte == 'E' || byte == '-' || byte == '+';
}

/* A byte that is no digit. False: it does not belong here. */
static bool take_mark(struct json_number *n, char byte)
{
	switch (n->place) {
	case JSON_NUMBER_START:
		n->negative = true;
		n->place = JSON_NUMBER_MINUS;
		return byte == '-';
	case JSON_NUMBER_ZERO:
	case JSON_NUMBER_INTEGER:
		if (byte == '.') {
			n->place = JSON_NUMBER_POINT;
			return true;
		}
		n->place = JSON_NUMBER_E;
		return byte == 'e' || byte == 'E';
	case JSON_NUMBER_FRACTION:
		n->place = JSON_NUMBER_E;
		return byte == 'e' || byte == 'E';
	case JSON_NUMBER_E:
		n->exponent_negative = byte == '-';
		n->place = JSON_NUMBER_SIGN;
		return byte == '-' || byte == '+';
	case JSON_NUMBER_MINUS:
	case JSON_NUMBER_POINT:
	case JSON_NUMBER_SIGN:
	case JSON_NUMBER_EXPONENT:
		break;
	}
	return false;
}

/* The last of the digits that follow the one at `at` and change nothing. */
static const char *skip_digits(const struct json_number *n, const char *at, const char *end)
{
	if (n->place != JSON_NUMBER_ZERO)
		while (end - at > 1 && at[1] >= '0' && at[1] <= '9')
			at++;
	return at;
}

bool json_number_next(struct json_number *n, const char **at, const char *end)
{
	for (; *at < end; ++*at) {
		char byte = **at;
		if (byte >= '0' && byte <= '9') {
			if (!take_digit(n, byte))
				return false;
			if (!n->valued)
				*at = skip_digits(n, *at, end);
		} else if (!is_number_byte(byte)) {
			return json_number_whole(n);
		} else if (!take_mark(n, byte)) {
			return false;
		}
	}
	return true;
}

bool json_number_whole(const struct json_number *n)
{
	return n->place == JSON_NUMBER_ZERO || n->place == JSON_NUMBER_INTEGER || n->place == JSON_NUMBER_FRACTION ||
	       n->place == JSON_NUMBER_EXPONENT;
}

static unsigned significant_digits(const struct json_number *n)
{
	unsigned count = n->count;

	while (count > 0 && n->digits[count - 1] == '0')
		count--;
	return count;
}

static int64_t point(const struct json_number *n)
{
	return n->shift + (n->exponent_negative ? -n->exponent : n->exponent);
}

bool json_number_integer(const struct json_number *n, int64_t *value)
{
	unsigned count = significant_digits(n);
	uint64_t sum = 0, limit = n->negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;

	*value = 0;
	if (count == 0)
		return true;
	if (n->inexact || point(n) < (int64_t)count || point(n) > 19)
		return false;
	/* At most 19 digits: below 10^19, which uint64_t holds. */
	for (unsigned i = 0; i < (unsigned)point(n); i++)
		sum = sum * 10 + (i < count ? (uint64_t)(n->digits[i] - '0') : 0);
	if (sum > limit)
		return false;
	*value = n->negative ? (int64_t)(0 - sum) : (int64_t)sum;
	return true;
}

/* By hand: a text may be a million numbers, and snprintf takes longer than all else that is done with one. */
static unsigned put_number(const struct json_number *n, unsigned count, char text[JSON_NUMBER_TEXT])
{
	int64_t exponent = point(n), rest = exponent < 0 ? -exponent : exponent;
	char digits[20];
	unsigned length = 0, first = sizeof(digits);

	if (n->negative)
		text[length++] = '-';
	memcpy(text + length, n->digits, count);
	length += count;
	text[length++] = 'e';
	if (exponent < 0)
		text[length++] = '-';
	do
		digits[--first] = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	memcpy(text + length, digits + first, sizeof(digits) - first);
	return length + (unsigned)sizeof(digits) - first;
}

unsigned json_number_canonical(const struct json_number *n, char text[JSON_NUMBER_TEXT])
{
	unsigned count = significant_digits(n);

	if (count == 0) {
		text[0] = '0';
		return 1;
	}
	if (n->inexact)
		return 0;
	return put_number(n, count, text);
}

/* Moments as HTTP and the Internet write them. What one of them leaves open, an age or a wait, is its reader's to make of it. */
#include "lib/text.h"

#include <stdio.h>
#include <time.h>

enum { MOST_DATE = 40 }; /* bytes, the NUL included; no form is that long */

bool text_date(struct slice s, int64_t *seconds)
{
	static const char *const forms[] = { "%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
					     "%a %b %e %H:%M:%S %Y" };
	char text[MOST_DATE];

	if (s.len >= sizeof(text) || slice_find(s, '\0') < s.len)
		return false;
	snprintf(text, sizeof(text), "%.*s", SLICE_ARGS(s));
	for (size_t i = 0; i < ARRAY_LENGTH(forms); i++) {
		struct tm date = { 0 };
		const char *end = strptime(text, forms[i], &date);
		if (end == NULL || *end != '\0')
			continue;
		*seconds = (int64_t)timegm(&date);
		return true;
	}
	return false;
}

/* Takes `count` digits and what must stand behind them, unless that is NUL. */
static bool take(struct slice *s, size_t count, char behind, int *value)
{
	*value = 0;
	if (s->len < count + (behind != '\0'))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (s->data[i] < '0' || s->data[i] > '9')
			return false;
		*value = *value * 10 + (s->data[i] - '0');
	}
	if (behind != '\0' && s->data[count] != behind)
		return false;
	*s = slice_skip(*s, count + (behind != '\0'));
	return true;
}

/* ".123456789": at least one digit; what is finer than a microsecond is cut off. */
static bool take_fraction(struct slice *s, int64_t *microseconds)
{
	int64_t unit = 1000000;
	size_t at = 1;

	*microseconds = 0;
	if (s->len == 0 || s->data[0] != '.')
		return true;
	for (; at < s->len && s->data[at] >= '0' && s->data[at] <= '9'; at++) {
		unit /= 10;
		*microseconds += unit * (s->data[at] - '0');
	}
	*s = slice_skip(*s, at);
	return at > 1;
}

/* "Z" or "+01:00", and nothing behind it. */
static bool take_offset(struct slice s, int *minutes)
{
	int hour, minute;

	*minutes = 0;
	if (s.len == 1)
		return s.data[0] == 'Z' || s.data[0] == 'z';
	if (s.len == 0 || (s.data[0] != '+' && s.data[0] != '-'))
		return false;
	int sign = s.data[0] == '-' ? -1 : 1;
	s = slice_skip(s, 1);
	if (!take(&s, 2, ':', &hour) || !take(&s, 2, '\0', &minute) || s.len > 0 || hour > 23 || minute > 59)
		return false;
	*minutes = sign * (hour * 60 + minute);
	return true;
}

bool text_timestamp(struct slice s, int64_t *microseconds)
{
	struct tm date = { 0 };
	int64_t fraction;
	int year, month, day, minutes;

	if (!take(&s, 4, '-', &year) || !take(&s, 2, '-', &month) || !take(&s, 2, '\0', &day) || s.len == 0 ||
	    (s.data[0] != 'T' && s.data[0] != 't'))
		return false;
	s = slice_skip(s, 1);
	if (!take(&s, 2, ':', &date.tm_hour) || !take(&s, 2, ':', &date.tm_min) || !take(&s, 2, '\0', &date.tm_sec) ||
	    !take_fraction(&s, &fraction) || !take_offset(s, &minutes))
		return false;
	if (date.tm_hour > 23 || date.tm_min > 59 || date.tm_sec > 60) /* a leap second is the one after it */
		return false;
	date.tm_year = year - 1900;
	date.tm_mon = month - 1;
	date.tm_mday = day;
	struct tm same = { .tm_year = date.tm_year, .tm_mon = date.tm_mon, .tm_mday = day, .tm_hour = 12 };
	(void)timegm(&same); /* which carries the 31st of a short month over into the next */
	if (same.tm_mon != month - 1 || same.tm_mday != day)
		return false;
	*microseconds = ((int64_t)timegm(&date) - minutes * INT64_C(60)) * 1000000 + fraction;
	return true;
}

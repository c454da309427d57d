#include "svc/directives.h"

#include "lib/clock.h"
#include "lib/text.h"

#define ANY_AGE   (INT64_MAX / 4)
#define MOST_SPAN (10 * 366 * CLOCK_DAY) /* larger numbers are that (RFC 9111 section 1.2.2) */

void directives_init(struct directives *d)
{
	*d = (struct directives){ .max_age = -1, .shared_max_age = -1, .min_fresh = -1, .max_stale = -1 };
}

/* The next directive of the list: commas in quotes are part of it. */
static struct slice next_directive(struct slice *rest)
{
	bool quoted = false;
	size_t at = 0;

	for (; at < rest->len && (quoted || rest->data[at] != ','); at++) {
		if (rest->data[at] == '"')
			quoted = !quoted;
		else if (quoted && rest->data[at] == '\\' && at + 1 < rest->len)
			at++;
	}
	struct slice directive = slice_trim(slice_first(*rest, at));
	*rest = slice_skip(*rest, at + 1);
	return directive;
}

/* delta-seconds, which some put in quotes. */
static int64_t read_span(struct slice value)
{
	int64_t seconds;
	size_t digits = 0;

	value = slice_trim(value);
	if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
		value = slice_first(slice_skip(value, 1), value.len - 2);
	if (text_int(value, &seconds))
		return seconds < 0 ? 0 : seconds > MOST_SPAN / CLOCK_SECOND ? MOST_SPAN : seconds * CLOCK_SECOND;
	while (digits < value.len && value.data[digits] >= '0' && value.data[digits] <= '9')
		digits++;
	return digits > 0 && digits == value.len ? MOST_SPAN : 0;
}

static void keep_least(int64_t *into, int64_t span)
{
	if (*into < 0 || span < *into)
		*into = span;
}

static void keep_most(int64_t *into, int64_t span)
{
	if (span > *into)
		*into = span;
}

static void take(struct directives *d, struct slice name, bool has_value, struct slice value)
{
	if (slice_equal_nocase(name, SLICE("no-cache")))
		d->no_cache = true;
	else if (slice_equal_nocase(name, SLICE("no-store")))
		d->no_store = true;
	else if (slice_equal_nocase(name, SLICE("only-if-cached")))
		d->only_if_cached = true;
	else if (slice_equal_nocase(name, SLICE("private")))
		d->is_private = true;
	else if (slice_equal_nocase(name, SLICE("must-revalidate")) ||
		 slice_equal_nocase(name, SLICE("proxy-revalidate")))
		d->must_revalidate = true;
	else if (slice_equal_nocase(name, SLICE("max-age")))
		keep_least(&d->max_age, read_span(value));
	else if (slice_equal_nocase(name, SLICE("min-fresh")))
		keep_most(&d->min_fresh, read_span(value));
	else if (slice_equal_nocase(name, SLICE("max-stale")))
		keep_least(&d->max_stale, has_value ? read_span(value) : ANY_AGE);
	else if (slice_equal_nocase(name, SLICE("s-maxage"))) {
		keep_least(&d->shared_max_age, read_span(value));
		d->must_revalidate = true;
	}
}

void directives_read(struct directives *d, struct slice value)
{
	while (value.len > 0) {
		struct slice directive = next_directive(&value), argument;
		struct slice name = slice_cut(directive, '=', &argument);
		take(d, slice_trim(name), name.len < directive.len, argument);
	}
}

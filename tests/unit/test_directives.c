/* svc/directives: lists, quotes, odd spacing, repeated directives, numbers of every kind; what is doubtful is read in the careful way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "svc/directives.h"

enum { FIELDS = 3, TEXT_MOST = 512, WORDS_MOST = 24 };

/* What was read, in one line: words for what is there, seconds for times. */
static const char *told(const struct directives *d, char text[TEXT_MOST])
{
	const struct {
		const char *name;
		bool set;
		int64_t span; /* -1: none */
	} parts[] = {
		{ "no-cache", d->no_cache, -1 },
		{ "no-store", d->no_store, -1 },
		{ "only-if-cached", d->only_if_cached, -1 },
		{ "private", d->is_private, -1 },
		{ "revalidate", d->must_revalidate, -1 },
		{ "max-age", d->max_age >= 0, d->max_age },
		{ "s-maxage", d->shared_max_age >= 0, d->shared_max_age },
		{ "min-fresh", d->min_fresh >= 0, d->min_fresh },
		{ "max-stale", d->max_stale >= 0, d->max_stale },
	};
	struct buf out;

	buf_wrap(&out, text, TEXT_MOST - 1, 0);
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		if (!parts[i].set)
			continue;
		buf_format(&out, "%s%s", out.len > 0 ? " " : "", parts[i].name);
		if (parts[i].span == INT64_MAX / 4)
			buf_append(&out, SLICE("=any"));
		else if (parts[i].span >= 0)
			buf_format(&out, "=%lld", (long long)(parts[i].span / CLOCK_SECOND));
		assert_true(parts[i].span < 0 || parts[i].span == INT64_MAX / 4 || parts[i].span % CLOCK_SECOND == 0);
	}
	text[out.len] = '\0';
	return text;
}

/* Each value is copied into a block of its very size, so that a sanitizer sees a byte that is read behind it. */
static void read_copy(struct directives *d, struct slice value)
{
	char *copy = malloc(value.len + 1);

	memcpy(copy + 1, value.data, value.len);
	directives_read(d, slice_make(copy + 1, value.len));
	free(copy);
}

/* clang-format off */
static const struct {
	const char *values[FIELDS];
	const char *told;
} cases[] = {
	{ { "" }, "" },
	{ { "no-cache" }, "no-cache" },
	{ { "no-store" }, "no-store" },
	{ { "only-if-cached" }, "only-if-cached" },
	{ { "private" }, "private" },
	{ { "max-age=60" }, "max-age=60" },
	{ { "s-maxage=60" }, "revalidate s-maxage=60" },
	{ { "must-revalidate" }, "revalidate" },
	{ { "Proxy-Revalidate" }, "revalidate" },
	{ { "min-fresh=60" }, "min-fresh=60" },
	{ { "max-stale=60" }, "max-stale=60" },
	{ { "max-stale" }, "max-stale=any" },

	/* names have no case; those that are not known say nothing, nor do those that only look alike */
	{ { "No-Cache, NO-STORE, Max-Age=1" }, "no-cache no-store max-age=1" },
	{ { "public, immutable, no-transform, community=\"UCI\"" }, "" },
	{ { "no-cach, no-cachee, no_cache, xno-store, max-ages=5, max-age-=5, maxage=5" }, "" },

	/* lists (RFC 9110 section 5.6.1): blanks and tabs anywhere, empty elements, a comma at an end */
	{ { "no-cache,no-store" }, "no-cache no-store" },
	{ { "\t no-cache \t,\t no-store \t" }, "no-cache no-store" },
	{ { ",,no-cache,, ,no-store,," }, "no-cache no-store" },
	{ { "max-age = 5" }, "max-age=5" },
	{ { "max-age=\t5\t" }, "max-age=5" },
	{ { "no-cache no-store" }, "" },
	{ { "no-cache; no-store" }, "" },

	/* quotes: a comma inside is no comma, an escaped quote no end; one that never ends takes the rest along */
	{ { "max-age=\"60\"" }, "max-age=60" },
	{ { "x=\"a, no-store, b\", no-cache" }, "no-cache" },
	{ { "x=\"a\\\", no-store\", no-cache" }, "no-cache" },
	{ { "x=\"a\\\\\", no-store" }, "no-store" },
	{ { "x=\"a, no-store" }, "" },
	{ { "x=\"a\\" }, "" },
	{ { "no-cache=\"Set-Cookie, X\", private=\"Y\"" }, "no-cache private" },
	{ { "\"no-store\"" }, "" },
	{ { "max-age=\"\"" }, "max-age=0" },
	{ { "max-age=\"" }, "max-age=0" },
	{ { "max-age='60'" }, "max-age=0" },

	/* numbers: one that is none counts as 0, one that is too large as ten years */
	{ { "max-age=0" }, "max-age=0" },
	{ { "max-age=007" }, "max-age=7" },
	{ { "max-age" }, "max-age=0" },
	{ { "max-age=" }, "max-age=0" },
	{ { "max-age=-1" }, "max-age=0" },
	{ { "max-age=+1" }, "max-age=0" },
	{ { "max-age=1.5" }, "max-age=0" },
	{ { "max-age=1e3" }, "max-age=0" },
	{ { "max-age=60s" }, "max-age=0" },
	{ { "max-age=6 0" }, "max-age=0" },
	{ { "max-age=0x10" }, "max-age=0" },
	{ { "max-age=60=60" }, "max-age=0" },
	{ { "max-age==60" }, "max-age=0" },
	{ { "max-stale=" }, "max-stale=0" },
	{ { "max-stale=x" }, "max-stale=0" },
	{ { "max-age=316224000" }, "max-age=316224000" },
	{ { "max-age=316224001" }, "max-age=316224000" },
	{ { "max-age=2147483648" }, "max-age=316224000" },
	{ { "max-age=9223372036854775807" }, "max-age=316224000" },
	{ { "max-age=9223372036854775808" }, "max-age=316224000" },
	{ { "max-age=18446744073709551617" }, "max-age=316224000" },
	{ { "max-age=99999999999999999999999999999999999999999999" }, "max-age=316224000" },
	{ { "max-age=-99999999999999999999999999999999999999999999" }, "max-age=0" },
	{ { "max-age=00000000000000000000000000000000000000000005" }, "max-age=5" },

	/* one that stands twice, in one field or in two: the more careful counts */
	{ { "max-age=60, max-age=5" }, "max-age=5" },
	{ { "max-age=5, max-age=60" }, "max-age=5" },
	{ { "max-age=60, max-age=x" }, "max-age=0" },
	{ { "s-maxage=60, s-maxage=5" }, "revalidate s-maxage=5" },
	{ { "min-fresh=60, min-fresh=5" }, "min-fresh=60" },
	{ { "min-fresh=5, min-fresh=60" }, "min-fresh=60" },
	{ { "max-stale, max-stale=60" }, "max-stale=60" },
	{ { "max-stale=60, max-stale" }, "max-stale=60" },
	{ { "no-cache, no-cache" }, "no-cache" },
	{ { "max-age=60", "no-store", "max-age=5" }, "no-store max-age=5" },
	{ { "x=\"open", "no-store" }, "no-store" },
	{ { "max-age=60", "" }, "max-age=60" },
};
/* clang-format on */

static void reads_what_is_there(void **state)
{
	char text[TEXT_MOST];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct directives d;
		directives_init(&d);
		for (size_t k = 0; k < FIELDS && cases[i].values[k] != NULL; k++)
			read_copy(&d, slice_of(cases[i].values[k]));
		if (strcmp(told(&d, text), cases[i].told) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", cases[i].values[0], text, cases[i].told);
	}
}

/* What may be in a field but not in our tables: bytes above 127, of any number; nothing is found in them. */
static void finds_nothing_in_noise(void **state)
{
	struct directives d;
	char noise[256], text[TEXT_MOST];

	(void)state;
	for (int i = 0; i < 256; i++)
		noise[i] = (char)i;
	for (size_t length = 0; length <= sizeof(noise); length++) {
		directives_init(&d);
		read_copy(&d, slice_make(noise + sizeof(noise) - length, length));
		assert_string_equal(told(&d, text), "");
	}
}

/* A cut says what was before it and no more, whatever stands at the edge. */
static void reads_nothing_behind_its_end(void **state)
{
	static const char whole[] = "x=\"\\\"\\\\, no-store\", max-age=\"60\", no-store, max-stale=60";
	const size_t quoted = strlen("x=\"\\\"\\\\, no-store\""), stored = strstr(whole, ", no-store, max") - whole;

	(void)state;
	for (size_t cut = 0; cut <= strlen(whole); cut++) {
		struct directives d;
		directives_init(&d);
		read_copy(&d, slice_make(whole, cut));
		assert_int_equal(d.no_store, cut >= stored + strlen(", no-store"));
		assert_int_equal(d.max_age >= 0, cut >= quoted + strlen(", max-age"));
		assert_int_equal(d.max_stale >= 0, cut >= strlen(whole) - strlen("=60"));
	}
}

/* Lists put together of any words, with any blanks, in any number of fields, say what their words say one by one. */
static void a_list_is_the_sum_of_its_words(void **state)
{
	static const char *const words[] = { "no-cache",    "no-store",  "only-if-cached", "private",
					     "max-age=7",   "max-stale", "max-stale=9",    "min-fresh=3",
					     "s-maxage=11", "x=\"a,b\"", "public",         "max-age=5" };
	static const char *const glue[] = { ",", ", ", " ,\t", ",,", "" };
	uint32_t random = 1;

	(void)state;
	for (int round = 0; round < 1000; round++) {
		struct directives apart, together;
		char list[TEXT_MOST], one[TEXT_MOST], other[TEXT_MOST];
		struct buf out;
		directives_init(&apart);
		directives_init(&together);
		buf_wrap(&out, list, sizeof(list), 0);
		for (int i = 0; i < WORDS_MOST; i++) {
			random = random * 1664525u + 1013904223u; /* D. Knuth's, by H. W. Lewis */
			const char *word = words[(random >> 8) % ARRAY_LENGTH(words)];
			const char *comma = glue[(random >> 16) % ARRAY_LENGTH(glue)];
			directives_read(&apart, slice_of(word));
			buf_append(&out, slice_of(word));
			buf_append(&out, slice_of(comma));
			if (*comma != '\0' && i < WORDS_MOST - 1)
				continue;
			assert_false(out.overflowed);
			read_copy(&together, buf_slice(&out)); /* a field of its own */
			buf_clear(&out);
		}
		assert_string_equal(told(&together, one), told(&apart, other));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_is_there),
		cmocka_unit_test(finds_nothing_in_noise),
		cmocka_unit_test(reads_nothing_behind_its_end),
		cmocka_unit_test(a_list_is_the_sum_of_its_words),
	};

	return cmocka_run_group_tests_name("directives", tests, NULL, NULL);
}

/* lib/json_scan on random texts, good and broken ones, before the oracle. The generator is seeded, so a failure comes
 * again; what the oracle prints is the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "tests/support/json_oracle.h"

enum { TEXTS = 1500, MUTATIONS = 6, CEILING = 1 << 16 };

struct generator {
	uint64_t state;
	struct buf out;
};

/* xorshift64* (S. Vigna, 2016). */
static uint32_t below(struct generator *g, uint32_t limit)
{
	g->state ^= g->state >> 12;
	g->state ^= g->state << 25;
	g->state ^= g->state >> 27;
	return (uint32_t)((g->state * UINT64_C(2685821657736338717)) >> 33) % limit;
}

static void put(struct generator *g, struct slice text)
{
	/* A text that is cut short by the buffer's ceiling is one more broken text. */
	(void)buf_append(&g->out, text);
}

static void put_one_of(struct generator *g, const char *const *choices, size_t count)
{
	put(g, slice_of(choices[below(g, (uint32_t)count)]));
}

static void put_blanks(struct generator *g)
{
	static const char *const blanks[] = { "", "", "", "", " ", "\n\t", "\r\n" };

	put_one_of(g, blanks, ARRAY_LENGTH(blanks));
}

static void put_string(struct generator *g)
{
	static const char *const parts[] = {
		"a",
		"model",
		" and some longer plain text of many bytes ",
		"\\n",
		"\\\"",
		"\\\\",
		"\\/",
		"\\u0041",
		"\\u00e9",
		"\\u4f60",
		"\\uD83D\\uDE00",
		"\\uD83D",
		"\\uDE00",
		"\xC3\xA9",
		"\xE4\xBD\xA0",
		"\xF0\x9F\x98\x80",
		"0123456789abcdef",
	};

	put(g, SLICE("\""));
	for (uint32_t i = below(g, 5); i > 0; i--)
		put_one_of(g, parts, ARRAY_LENGTH(parts));
	put(g, SLICE("\""));
}

static void put_number(struct generator *g)
{
	static const char *const numbers[] = {
		"0",      "-0",   "7",      "-12",  "9223372036854775807", "-9223372036854775808",
		"1.50",   "1e3",  "0.1e-2", "12E1", "9223372036854775808", "100000000000000000000",
		"-0.0e0", "1e300"
	};

	put_one_of(g, numbers, ARRAY_LENGTH(numbers));
}

static void put_name(struct generator *g)
{
	static const char *const names[] = { "\"model\"", "\"mod\\u0065l\"", "\"stream\"", "\"a\"",      "\"b\"",
					     "\"usage\"", "\"total\"",       "\"parts\"",  "\"text\"",   "\"contents\"",
					     "\"\"",      "\"x\"",           "\"y\"",      "\"\\u0078\"" };

	if (below(g, 8) == 0)
		put_string(g);
	else
		put_one_of(g, names, ARRAY_LENGTH(names));
}

static void put_value(struct generator *g, unsigned depth);

static void put_container(struct generator *g, unsigned depth, bool array)
{
	uint32_t count = below(g, 5);

	put(g, array ? SLICE("[") : SLICE("{"));
	put_blanks(g);
	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			put(g, SLICE(","));
		put_blanks(g);
		if (!array) {
			put_name(g);
			put_blanks(g);
			put(g, SLICE(":"));
		}
		put_value(g, depth + 1);
	}
	put(g, array ? SLICE("]") : SLICE("}"));
}

static void put_value(struct generator *g, unsigned depth)
{
	static const char *const words[] = { "true", "false", "null" };
	uint32_t kind = below(g, depth == 0 ? 4 : depth > 6 ? 3 : 6);

	put_blanks(g);
	if (depth == 0 || kind >= 3)
		put_container(g, depth, kind % 2 == 1);
	else if (kind == 0)
		put_string(g);
	else if (kind == 1)
		put_number(g);
	else
		put_one_of(g, words, ARRAY_LENGTH(words));
	put_blanks(g);
}

/* A whole document whose watched paths are full. */
static void put_likely(struct generator *g)
{
	put(g, SLICE("{\"model\":"));
	put_string(g);
	put(g, SLICE(",\"stream\":"));
	put_value(g, 5);
	put(g, SLICE(",\"a\":[{\"b\":[["));
	put_value(g, 4);
	put(g, SLICE("],"));
	put_value(g, 3);
	put(g, SLICE("]},{\"b\":"));
	put_value(g, 3);
	put(g, SLICE("}],\"usage\":{\"total\":"));
	put_number(g);
	put(g, SLICE("},\"contents\":[{\"parts\":[{\"text\":"));
	put_string(g);
	put(g, SLICE("},{\"text\":"));
	put_value(g, 3);
	put(g, SLICE("}]}]}"));
}

static void mutate(struct generator *g)
{
	static const char bytes[] = "\"\\{}[]:,0-.eEtfnu \n\x01\x7F\x80\xC3\xED\xF0\xFF";
	size_t at = below(g, (uint32_t)g->out.len), rest = g->out.len - at;

	switch (below(g, 4)) {
	case 0:
		g->out.data[at] = bytes[below(g, sizeof(bytes))];
		break;
	case 1:
		memmove(g->out.data + at, g->out.data + at + 1, rest - 1);
		g->out.len--;
		break;
	case 2:
		if (buf_append_byte(&g->out, ' ')) {
			memmove(g->out.data + at + 1, g->out.data + at, rest);
			g->out.data[at] = bytes[below(g, sizeof(bytes))];
		}
		break;
	default:
		g->out.data[at] = g->out.data[below(g, (uint32_t)g->out.len)];
		break;
	}
}

static void agrees_with_jansson_and_with_itself(void **state)
{
	struct generator g = { .state = UINT64_C(0x9E3779B97F4A7C15) };

	(void)state;
	buf_init(&g.out, CEILING);
	for (uint32_t i = 0; i < TEXTS; i++) {
		buf_clear(&g.out);
		if (i % 4 == 0)
			put_likely(&g);
		else
			put_value(&g, 0);
		json_oracle_judge(buf_slice(&g.out), i);
		for (int j = 0; j < MUTATIONS && g.out.len > 0; j++) {
			mutate(&g);
			json_oracle_judge(buf_slice(&g.out), i);
		}
	}
	buf_free(&g.out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_jansson_and_with_itself),
	};

	return cmocka_run_group_tests_name("json_random", tests, NULL, NULL);
}

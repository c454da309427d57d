/* svc/session: where a session's name stands, whose it is, and that all instances of all times hash it alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "svc/session.h"

/* `fields`: lines; NULL: none. */
static uint64_t session(const char *tenant, const char *fields, const char *body)
{
	struct http_field list[4];
	struct http_head head = { .fields = list };
	struct dialect_call call = { .session = slice_of(body) };
	struct slice lines = slice_of(fields);

	while (lines.len > 0) {
		struct slice value, name = slice_cut(slice_cut(lines, '\n', &lines), ':', &value);
		assert_true(head.fields_count < ARRAY_LENGTH(list));
		list[head.fields_count++] = (struct http_field){ name, slice_trim(value) };
	}
	return session_of(slice_of(tenant), &head, &call);
}

static void the_header_comes_before_the_body(void **state)
{
	static const struct {
		const char *fields, *body, *same_as_body; /* NULL: it belongs to none */
	} cases[] = {
		{ NULL, NULL, NULL },
		{ NULL, "", NULL },
		{ "X-Sluice-Session:", NULL, NULL },
		{ "X-Session: a", NULL, NULL },
		{ "X-Sluice-Session: a", NULL, "a" },
		{ "Accept: b\nx-sluice-SESSION:  a ", NULL, "a" },
		{ "X-Sluice-Session: a", "b", "a" },
		{ "X-Sluice-Session: a\nX-Sluice-Session: b", "c", "a" },
		{ "X-Sluice-Session:", "b", "b" },
		{ NULL, "b", "b" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		uint64_t got = session("acme", cases[i].fields, cases[i].body);
		if (got != (cases[i].same_as_body != NULL ? session("acme", NULL, cases[i].same_as_body) : 0))
			fail_msg("case %zu: %llx", i, (unsigned long long)got);
		assert_int_equal(got != 0, cases[i].same_as_body != NULL);
	}
}

static void too_long_a_header_is_none(void **state)
{
	char line[64 + SESSION_MOST + 2] = "X-Sluice-Session: ";
	size_t before = strlen(line);

	(void)state;
	memset(line + before, 'x', SESSION_MOST);
	assert_int_not_equal(session("acme", line, NULL), 0);
	assert_int_not_equal(session("acme", line, "b"), session("acme", NULL, "b"));
	line[before + SESSION_MOST] = 'x';
	assert_int_equal(session("acme", line, NULL), 0);
	assert_int_equal(session("acme", line, "b"), session("acme", NULL, "b"));
}

static void each_tenant_s_are_its_own(void **state)
{
	static const char *const names[][2] = { { "acme", "a" },   { "other", "a" }, { "acme", "b" }, { NULL, "a" },
						{ NULL, "acmea" }, { "acm", "ea" },  { "acme", "A" }, { "a", "acme" } };
	uint64_t hashes[ARRAY_LENGTH(names)];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		hashes[i] = session(names[i][0], NULL, names[i][1]);
		for (size_t other = 0; other < i; other++)
			assert_int_not_equal(hashes[i], hashes[other]);
	}
}

/* Instances of two versions run side by side while a fleet is renewed: what they hash must be the same. */
static void it_never_changes(void **state)
{
	(void)state;
	assert_int_equal(session("acme", "X-Sluice-Session: conversation-1", NULL), UINT64_C(0x343c2ec3761b8fa6));
	assert_int_equal(session(NULL, NULL, "user-1"), UINT64_C(0x815df24880816262));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_header_comes_before_the_body),
		cmocka_unit_test(too_long_a_header_is_none),
		cmocka_unit_test(each_tenant_s_are_its_own),
		cmocka_unit_test(it_never_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

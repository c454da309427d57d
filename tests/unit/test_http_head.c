/* The rules, case by case, each case split at every byte: a verdict may not depend on how the network cuts. */
#include "svc/http_head.h"

#include "lib/buf.h"
#include "lib/mem.h"
#include "tests/support/http_corpus.h"
#include "tests/support/http_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void check_case(const struct http_case *c, const struct http_message *m, size_t cut)
{
	bool refused = m->verdict == HTTP_VERDICT_REFUSED;
	bool same = c->method == NULL ? refused && (c->fault == HTTP_FAULT_COUNT || c->fault == m->fault)
				      : m->verdict == HTTP_VERDICT_TAKEN;
	if (!same)
		fail_msg("\"%s\" cut at %zu: verdict %d, fault %s", c->name, cut, (int)m->verdict,
			 refused ? http_fault_code(m->fault) : "none");
	if (c->method == NULL)
		return;
	assert_string_equal(m->method, c->method);
	assert_string_equal(m->target, c->target);
	assert_int_equal(m->fields, c->fields);
	assert_int_equal(m->body_len, c->body_len);
	assert_true(m->body_hash == http_message_hash(0, slice_make(c->body, c->body_len)));
	assert_int_equal(m->used, c->len);
}

static void test_corpus_at_every_cut(void **state)
{
	(void)state;
	size_t refused = 0;
	for (size_t i = 0; i < http_corpus_count; i++) {
		const struct http_case *c = &http_corpus[i];
		struct slice bytes = slice_make(c->bytes, c->len);
		struct http_message whole, m;
		http_message_read(&whole, bytes, 0, 0, 0);
		check_case(c, &whole, 0);
		for (size_t cut = 1; cut < c->len; cut++) {
			http_message_read(&m, bytes, cut, cut, 0);
			check_case(c, &m, cut);
			assert_int_equal(m.fault, whole.fault);
		}
		http_message_read(&m, bytes, 0, 0, 1);
		check_case(c, &m, 1);
		refused += c->method == NULL;
	}
	assert_true(refused >= 130);
}

/* A head whose request line and fields are as long as asked. */
static void make_head(struct buf *out, size_t target, size_t fields, size_t value)
{
	buf_clear(out);
	buf_append(out, SLICE("GET /"));
	for (size_t i = 1; i < target; i++)
		buf_append_byte(out, 'a');
	buf_append(out, SLICE(" HTTP/1.1\r\nHost: x\r\n"));
	for (size_t i = 1; i < fields; i++) {
		buf_append(out, SLICE("A: "));
		for (size_t j = 0; j < value; j++)
			buf_append_byte(out, 'v');
		buf_append(out, SLICE("\r\n"));
	}
	buf_append(out, SLICE("\r\n"));
}

static void expect(struct buf *bytes, bool taken, enum http_fault fault)
{
	struct http_message m;
	const size_t steps[] = { 0, 1, 7, 4096 };
	for (size_t i = 0; i < ARRAY_LENGTH(steps); i++) {
		http_message_read(&m, buf_slice(bytes), 0, 0, steps[i]);
		assert_int_equal(m.verdict, taken ? HTTP_VERDICT_TAKEN : HTTP_VERDICT_REFUSED);
		if (!taken)
			assert_string_equal(http_fault_code(m.fault), http_fault_code(fault));
	}
}

static void test_limits_to_the_byte(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 1 << 20);
	make_head(&b, HTTP_TARGET_MAX, 1, 0);
	expect(&b, true, HTTP_FAULT_malformed);
	make_head(&b, HTTP_TARGET_MAX + 1, 1, 0);
	expect(&b, false, HTTP_FAULT_target_too_long);
	make_head(&b, 100000, 1, 0);
	expect(&b, false, HTTP_FAULT_target_too_long);
	make_head(&b, 1, HTTP_FIELDS_MAX, 1);
	expect(&b, true, HTTP_FAULT_malformed);
	make_head(&b, 1, HTTP_FIELDS_MAX + 1, 1);
	expect(&b, false, HTTP_FAULT_head_too_large);
	make_head(&b, 1, 2, 0);
	size_t rest = HTTP_HEAD_MAX - b.len;
	make_head(&b, 1, 2, rest);
	assert_int_equal(b.len, HTTP_HEAD_MAX);
	expect(&b, true, HTTP_FAULT_malformed);
	make_head(&b, 1, 2, rest + 1);
	expect(&b, false, HTTP_FAULT_head_too_large);
	buf_free(&b);
}

static void chunked(struct buf *b, size_t chunks, const char *extension, size_t extension_len, size_t trailer)
{
	buf_clear(b);
	buf_append(b, SLICE("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
	for (size_t i = 0; i < chunks; i++) {
		buf_append_byte(b, '1');
		for (size_t j = 0; j < extension_len; j++)
			buf_append(b, slice_of(extension));
		buf_append(b, SLICE("\r\nx\r\n"));
	}
	buf_append(b, SLICE("0\r\n"));
	for (size_t i = 0; i < trailer; i++)
		buf_append(b, SLICE("A: b\r\n"));
	buf_append(b, SLICE("\r\n"));
}

static void test_extensions_and_trailers_are_bounded(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 1 << 20);
	chunked(&b, 10, ";ab", 90, 100);
	expect(&b, true, HTTP_FAULT_malformed);
	chunked(&b, 1, ";ab", 2000, 0);
	expect(&b, false, HTTP_FAULT_bad_body);
	chunked(&b, 3000, ";a", 1, 0); /* little in each chunk, too much in all */
	expect(&b, false, HTTP_FAULT_bad_body);
	chunked(&b, 5000, "", 0, 0);
	expect(&b, true, HTTP_FAULT_malformed);
	chunked(&b, 1, "", 0, 5000);
	expect(&b, false, HTTP_FAULT_bad_body);
	buf_free(&b);
}

static void test_faults_have_texts(void **state)
{
	(void)state;
	for (int fault = 0; fault < HTTP_FAULT_COUNT; fault++) {
		assert_true(strlen(http_fault_code((enum http_fault)fault)) > 0);
		assert_true(strlen(http_fault_text((enum http_fault)fault)) > 0);
		assert_in_range(http_fault_status((enum http_fault)fault), 400, 505);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus_at_every_cut),
		cmocka_unit_test(test_limits_to_the_byte),
		cmocka_unit_test(test_extensions_and_trailers_are_bounded),
		cmocka_unit_test(test_faults_have_texts),
	};
	return cmocka_run_group_tests_name("http_head", tests, NULL, NULL);
}

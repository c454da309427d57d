/* One request, by our rules and by llhttp alone. What we take, llhttp takes, with the same method, target and body;
 * and no cut of the bytes changes what we say. The input: two bytes that choose cuts, then the request. */
#include "tests/support/http_message.h"
#include "tests/support/http_oracle.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct http_message *a, const struct http_message *b)
{
	CHECK(a->verdict == b->verdict && a->fault == b->fault);
	if (a->verdict != HTTP_VERDICT_TAKEN)
		return;
	CHECK(strcmp(a->method, b->method) == 0 && strcmp(a->target, b->target) == 0 && a->fields == b->fields);
	CHECK(a->body_len == b->body_len && a->body_hash == b->body_hash && a->used == b->used);
}

static void check_oracle(const struct http_message *m, struct slice bytes)
{
	static struct http_oracle oracle;
	http_oracle_read(&oracle, slice_first(bytes, m->used));
	CHECK(oracle.taken && strcmp(oracle.method, m->method) == 0);
	struct slice target = slice_make(oracle.target, oracle.target_len);
	bool absolute = target.len > 0 && target.data[0] != '/';
	bool same = slice_equal(target, slice_of(m->target));
	CHECK(same || (absolute && (slice_ends(target, slice_of(m->target)) || strcmp(m->target, "/") == 0)));
	CHECK(oracle.body_len == m->body_len && oracle.body_hash == m->body_hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_message whole, cut, stepped;
	if (size < 2)
		return 0;
	struct slice bytes = slice_make((const char *)data + 2, size - 2);
	http_message_read(&whole, bytes, 0, 0, 0);
	http_message_read(&cut, bytes, data[0], (size_t)data[0] + data[1], 0);
	check_same(&whole, &cut);
	http_message_read(&stepped, bytes, 0, 0, 1 + data[1] % 7);
	check_same(&whole, &stepped);
	if (whole.verdict == HTTP_VERDICT_TAKEN)
		check_oracle(&whole, bytes);
	return 0;
}

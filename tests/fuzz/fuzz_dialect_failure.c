/* Any error of any provider. An input is one byte for the dialect and the status, lines of fields, an empty line, and the body.
 * - No wait is negative but -1, or longer than the longest day; who is exhausted is always told one.
 * - The status says the least of it: no limit is taken for none.
 * - A body that says something says nothing without its last bracket. */
#include "lib/pool.h"
#include "svc/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 17, FIELDS = 32 };
static const int64_t now = INT64_C(1784116800000000), longest = INT64_C(90000000000);

static bool equal(const struct dialect_failed *a, const struct dialect_failed *b)
{
	return a->why == b->why && a->retry_after == b->retry_after;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = { 400, 402, 429, 503 };
	struct pool_field fields[FIELDS] = { 0 };
	struct dialect_failed whole, cut, none;
	size_t count = 0;

	if (size < 1 || size > MOST)
		return 0;
	enum dialect dialect = data[0] % DIALECT_COUNT;
	int status = statuses[data[0] / DIALECT_COUNT % ARRAY_LENGTH(statuses)];
	struct slice line, body = slice_make((const char *)data + 1, size - 1);
	while ((line = slice_cut(body, '\n', &body)).len > 0) {
		struct slice value, name = slice_cut(line, ':', &value);
		if (count < FIELDS)
			fields[count++] = (struct pool_field){ name, slice_trim(value) };
	}
	dialect_read_failure(dialect, status, fields, count, body, now, &whole);
	dialect_read_failure(dialect, status, fields, count, SLICE_NONE, now, &none);
	CHECK(whole.retry_after >= -1 && whole.retry_after <= longest);
	CHECK(whole.why != DIALECT_FAILURE_EXHAUSTED || whole.retry_after >= 0);
	CHECK(whole.why >= none.why && (status != 429 || whole.why != DIALECT_FAILURE_OTHER));
	if (!equal(&whole, &none)) {
		size_t end = body.len;
		while (end > 0 && body.data[end - 1] != '}' && body.data[end - 1] != ']')
			end--;
		dialect_read_failure(dialect, status, fields, count, slice_first(body, end > 0 ? end - 1 : 0), now,
				     &cut);
		CHECK(equal(&cut, &none));
	}
	return 0;
}

/* Two lists, sorted by what they are for. A connection's own fields (RFC 9110 section 7.6.1) stop here in both directions, with those that
 * Connection names. */
#include "svc/fields.h"

#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/text.h"

/* clang-format off */
static const struct slice connection_fields[] = {
	{ "connection", 10 }, { "keep-alive", 10 }, { "proxy-connection", 16 }, { "proxy-authenticate", 18 }, { "proxy-authorization", 19 },
	{ "te", 2 }, { "trailer", 7 }, { "transfer-encoding", 17 }, { "upgrade", 7 }, { "host", 4 }, { "content-length", 14 }, { "expect", 6 },
};
static const struct slice to_upstream[] = {
	{ "content-type", 12 }, { "accept", 6 }, { "user-agent", 10 },
	{ "anthropic-version", 17 }, { "anthropic-beta", 14 }, { "anthropic-dangerous-direct-browser-access", 41 }, { "openai-beta", 11 },
	{ "idempotency-key", 15 }, { "x-idempotency-key", 17 },
	{ "traceparent", 11 }, { "tracestate", 10 }, { "via", 3 },
};
/* A client's key never passes, whatever forward_headers says. */
static const struct slice secrets[] = {
	{ "authorization", 13 }, { "x-api-key", 9 }, { "x-goog-api-key", 14 }, { "cookie", 6 }, { "x-goog-user-project", 19 },
};
/* Of those that go to an upstream: what does not change its answer; and what does not where bodies are JSON. */
static const struct slice meaningless[] = {
	{ "user-agent", 10 }, { "via", 3 }, { "traceparent", 11 }, { "tracestate", 10 }, { "cache-control", 13 }, { "x-goog-api-client", 17 },
	{ "anthropic-dangerous-direct-browser-access", 41 },
};
static const struct slice meaningless_beside_json[] = {
	{ "content-type", 12 }, { "accept", 6 }, { "idempotency-key", 15 }, { "x-idempotency-key", 17 },
};
static const struct slice not_to_client[] = {
	{ "date", 4 }, { "server", 6 }, { "set-cookie", 10 }, { "set-cookie2", 11 }, { "alt-svc", 7 }, { "strict-transport-security", 25 },
	{ "openai-organization", 19 }, { "openai-project", 14 }, { "anthropic-organization-id", 25 }, { "ratelimit", 9 }, { "ratelimit-policy", 16 }, { "x-request-id", 12 },
	{ "server-timing", 13 }, { "report-to", 9 }, { "nel", 3 },
};
static const struct slice not_to_client_prefixes[] = {
	{ "x-ratelimit-", 12 }, { "anthropic-ratelimit-", 20 }, { "access-control-", 15 }, { "x-sluice-", 9 }, { "cf-", 3 },
};
/* clang-format on */

/* A line of its own behind those that came: the lines of a field are one list (RFC 9110 sections 5.3 and 7.6.3). */
static const struct slice our_via = { "1.1 sluice", 10 };
static const int64_t longest_wait = 366 * CLOCK_DAY;
static const int64_t longest_age = (INT64_C(1) << 31) * CLOCK_SECOND;

static bool is_one_of(struct slice name, const struct slice *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (slice_equal_nocase(name, list[i]))
			return true;
	return false;
}
#define IS_ONE_OF(name, list) is_one_of(name, list, ARRAY_LENGTH(list))

static bool begins_with(struct slice name, struct slice prefix)
{
	return slice_equal_nocase(slice_first(name, prefix.len), prefix);
}

/* Whether `connection`, a list of names, names this one. */
static bool is_named_by(struct slice connection, struct slice name)
{
	while (connection.len > 0)
		if (slice_equal_nocase(slice_trim(slice_cut(connection, ',', &connection)), name))
			return true;
	return false;
}

/* ---- towards an upstream ---------------------------------------------------------------------------------------------- */

static bool is_forwarded(const struct config_upstream *u, struct slice name)
{
	if (IS_ONE_OF(name, secrets) || IS_ONE_OF(name, connection_fields))
		return false;
	if (u->credential.header != NULL && slice_equal_nocase(name, slice_of(u->credential.header)))
		return false;
	if (IS_ONE_OF(name, to_upstream) || begins_with(name, SLICE("x-goog-")))
		return true;
	for (size_t i = 0; i < u->forward_headers_count; i++)
		if (slice_equal_nocase(name, slice_of(u->forward_headers[i])))
			return !slice_equal_nocase(name, SLICE("accept-encoding"));
	return false;
}

/* Any of several fields of that name may hold the word. */
static bool connection_names(const struct http_field *fields, size_t count, struct slice name)
{
	for (size_t i = 0; i < count; i++)
		if (slice_equal_nocase(fields[i].name, SLICE("connection")) && is_named_by(fields[i].value, name))
			return true;
	return false;
}

static bool is_sent(const struct http_head *head, const struct config_upstream *u, const struct http_field *field)
{
	return is_forwarded(u, field->name) && bytes_all(field->value, BYTES_FIELD) &&
	       !connection_names(head->fields, head->fields_count, field->name);
}

bool fields_change_meaning(const struct http_head *head, const struct config_upstream *u,
			   const struct http_field *field)
{
	if (IS_ONE_OF(field->name, meaningless) || !is_sent(head, u, field))
		return false;
	return u->dialect == DIALECT_http || !IS_ONE_OF(field->name, meaningless_beside_json);
}

bool fields_never_count(struct slice name)
{
	return IS_ONE_OF(name, meaningless);
}

const struct pool_field *fields_to_upstream(const struct http_head *head, const struct config_upstream *u,
					    struct mem *mem, size_t *count)
{
	struct pool_field *fields = mem_take(mem, (head->fields_count + 3) * sizeof(*fields));

	*count = 0;
	if (fields == NULL)
		return NULL;
	for (size_t i = 0; i < head->fields_count; i++) {
		const struct http_field *field = &head->fields[i];
		if (is_sent(head, u, field))
			fields[(*count)++] = (struct pool_field){ field->name, field->value };
	}
	if (u->credential.header != NULL)
		fields[(*count)++] =
			(struct pool_field){ slice_of(u->credential.header), slice_of(u->credential.value) };
	fields[(*count)++] = (struct pool_field){ SLICE("Accept-Encoding"), SLICE("identity") };
	fields[(*count)++] = (struct pool_field){ SLICE("Via"), our_via };
	return fields;
}

/* ---- towards the client ----------------------------------------------------------------------------------------------- */

bool fields_pass_to_client(struct slice name)
{
	if (IS_ONE_OF(name, connection_fields) || IS_ONE_OF(name, not_to_client))
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(not_to_client_prefixes); i++)
		if (begins_with(name, not_to_client_prefixes[i]))
			return false;
	return true;
}

static bool dropped_by_connection(const struct pool_head *head, struct slice name)
{
	for (size_t i = 0; i < head->fields_count; i++)
		if (slice_equal_nocase(head->fields[i].name, SLICE("connection")) &&
		    is_named_by(head->fields[i].value, name))
			return true;
	return false;
}

/* An amount of `unit`; whole by the standard, but some write 0.5. */
static int64_t read_wait(struct slice value, int64_t unit)
{
	int64_t whole;
	double amount;

	if (text_int(value, &whole))
		amount = (double)whole;
	else if (!text_decimal(value, &amount))
		return -1;
	if (amount < 0)
		return -1;
	amount *= (double)unit;
	return amount >= (double)longest_wait ? longest_wait : (int64_t)amount;
}

/* Compared with our clock. */
int64_t fields_until(struct slice value)
{
	int64_t seconds;

	if (!text_date(value, &seconds))
		return -1;
	seconds -= clock_unix() / CLOCK_SECOND;
	if (seconds <= 0)
		return 0;
	return seconds >= longest_wait / CLOCK_SECOND ? longest_wait : seconds * CLOCK_SECOND;
}

/* What is no number does not count, one too large to be read does. */
int64_t fields_age(struct slice value)
{
	int64_t seconds;

	if (value.len == 0 || value.data[0] < '0' || value.data[0] > '9')
		return 0;
	return text_int(value, &seconds) && seconds < longest_age / CLOCK_SECOND ? seconds * CLOCK_SECOND : longest_age;
}

/* Retry-After (RFC 9110 section 10.2.3): seconds, or a date. */
static int64_t read_retry_after(struct slice value)
{
	int64_t wait = read_wait(value, CLOCK_SECOND);

	return wait >= 0 ? wait : fields_until(value);
}

/* The finer retry-after-ms wins over Retry-After, whichever comes first. */
static void read_field(const struct pool_field *field, struct fields_answer *answer, bool *fine)
{
	int64_t number;

	if (slice_equal_nocase(field->name, SLICE("content-length")) && text_int(field->value, &number) &&
	    number >= 0) {
		answer->content_length = number;
	} else if (slice_equal_nocase(field->name, SLICE("retry-after-ms"))) {
		number = read_wait(field->value, CLOCK_MILLISECOND);
		*fine |= number >= 0;
		answer->retry_after = number >= 0 ? number : answer->retry_after;
	} else if (slice_equal_nocase(field->name, SLICE("retry-after")) && !*fine) {
		number = read_retry_after(field->value);
		answer->retry_after = number >= 0 ? number : answer->retry_after;
	}
}

static bool copy_field(const struct pool_field *field, struct mem *mem, struct fields_answer *answer)
{
	struct http_field *copy = &answer->fields[answer->count];

	copy->name = mem_copy(mem, field->name);
	copy->value = mem_copy(mem, field->value);
	if (copy->name.data == NULL || copy->value.data == NULL)
		return false;
	if (slice_equal_nocase(field->name, SLICE("content-type")))
		answer->content_type = copy->value;
	answer->count++;
	return true;
}

bool fields_to_client(const struct pool_head *head, struct mem *mem, size_t room, struct fields_answer *answer)
{
	bool fine = false;

	*answer = (struct fields_answer){ .capacity = head->fields_count + 1 + room,
					  .content_length = -1,
					  .retry_after = -1 };
	answer->fields = mem_take(mem, answer->capacity * sizeof(*answer->fields));
	if (answer->fields == NULL)
		return false;
	for (size_t i = 0; i < head->fields_count; i++) {
		const struct pool_field *field = &head->fields[i];
		read_field(field, answer, &fine);
		if (!fields_pass_to_client(field->name) || !bytes_all(field->value, BYTES_FIELD) ||
		    dropped_by_connection(head, field->name))
			continue;
		if (!copy_field(field, mem, answer))
			return false;
	}
	answer->fields[answer->count++] = (struct http_field){ SLICE("Via"), our_via };
	return true;
}

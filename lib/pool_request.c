/* A transfer's own copy of its request, in libcurl's terms: a method, a target, and a list of fields, all in the one
 * block behind struct transfer, so that a request costs one allocation here. */
#include "lib/pool_internal.h"

#include "lib/bytes.h"
#include "lib/text.h"

/* What is ours to say, or between two neighbours only (RFC 9110, section 7.6.1). */
static const struct slice own_fields[] = {
	{ "te", 2 },
	{ "host", 4 },
	{ "expect", 6 },
	{ "trailer", 7 },
	{ "upgrade", 7 },
	{ "connection", 10 },
	{ "keep-alive", 10 },
	{ "content-length", 14 },
	{ "proxy-connection", 16 },
	{ "transfer-encoding", 17 },
};

enum { UNWANTED_MOST = 3 };

static bool is_own(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(own_fields); i++)
		if (slice_equal_nocase(name, own_fields[i]))
			return true;
	return false;
}

static bool is_given(const struct pool_request *request, struct slice name)
{
	for (size_t i = 0; i < request->fields_count; i++)
		if (slice_equal_nocase(request->fields[i].name, name))
			return true;
	return false;
}

/* What libcurl would add by itself, to be taken back with a field "Name:". It looks through the list of fields a dozen
 * times per request: none stands there in vain. */
static size_t unwanted(const struct transfer *t, const struct pool_request *request, struct slice names[UNWANTED_MOST])
{
	size_t count = 0;
	if (!is_given(request, SLICE("Accept")))
		names[count++] = SLICE("Accept");
	if (t->has_body && !is_given(request, SLICE("Content-Type")))
		names[count++] = SLICE("Content-Type");
	if (t->body_len > POOL_BODY_COPIED) /* it asks before it sends much */
		names[count++] = SLICE("Expect");
	return count;
}

static size_t aligned_text_size(const struct pool_request *request)
{
	size_t size = request->method.len + 1 + request->target.len + 1 + request->tenant.len;
	for (size_t i = 0; i < request->fields_count; i++)
		size += request->fields[i].name.len + 2 + request->fields[i].value.len + 1;
	size += UNWANTED_MOST * sizeof("Content-Type:");
	return (size + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
}

size_t pool_request_size(const struct pool_request *request)
{
	return aligned_text_size(request) + (request->fields_count + UNWANTED_MOST) * sizeof(struct curl_slist);
}

void pool_request_check(const struct pool_request *request)
{
	CHECK(text_is_token(request->method));
	CHECK(request->target.len > 0 && request->target.data[0] == '/');
	CHECK(bytes_all(request->target, BYTES_FIELD) && slice_find(request->target, ' ') == request->target.len &&
	      slice_find(request->target, '\t') == request->target.len);
	for (size_t i = 0; i < request->fields_count; i++)
		CHECK(text_is_token(request->fields[i].name) && bytes_all(request->fields[i].value, BYTES_FIELD));
	CHECK((unsigned)request->lane < LANES);
	CHECK(request->wait_timeout >= 0 && request->first_byte_timeout > 0);
	CHECK(request->idle_timeout > 0 && request->total_timeout > 0);
}

/* libcurl reads "Name: value"; "Name;" is a field without a value, and "Name:" takes away what libcurl would add. */
static char *link_header(struct transfer *t, size_t index, char *at)
{
	struct curl_slist *node = &t->headers[index];
	node->data = at;
	node->next = NULL;
	if (index > 0)
		t->headers[index - 1].next = node;
	return at;
}

void pool_request_copy(struct transfer *t, const struct pool_request *request)
{
	struct slice names[UNWANTED_MOST];
	size_t used = 0, unwanted_count = unwanted(t, request, names);
	char *at = t->text;
	t->headers = (struct curl_slist *)(void *)(t->text + aligned_text_size(request));
	t->method = at;
	at = pool_put(at, request->method) + 1;
	t->target = at;
	at = pool_put(at, request->target) + 1;
	t->tenant = slice_make(at, request->tenant.len);
	at = pool_put(at, request->tenant);
	for (size_t i = 0; i < request->fields_count; i++) {
		const struct pool_field *field = &request->fields[i];
		struct slice value = slice_trim(field->value);
		if (is_own(field->name))
			continue;
		at = pool_put(link_header(t, used++, at), field->name);
		at = pool_put(at, value.len > 0 ? SLICE(": ") : SLICE(";"));
		at = pool_put(at, value) + 1;
	}
	for (size_t i = 0; i < unwanted_count; i++) {
		at = pool_put(link_header(t, used++, at), names[i]);
		at = pool_put(at, SLICE(":")) + 1;
	}
	if (used == 0)
		t->headers = NULL;
}

#include "tests/support/share_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/config_rig.h"

enum { FIELDS_MOST = 64, ARENA = 64 * 1024 * 1024, DETAIL_MOST = 1024, CONFIG_MOST = 4096 };

#define TO(upstream, model) "{targets: [{upstream: " upstream ", model: " model "}]}"
#define AT                  "endpoints: [{url: 'http://127.0.0.1:1'}]"

static const char world[] =
	"allow_anonymous: true\n"
	"upstreams:\n"
	"  o: {dialect: openai, default: true, " AT ", forward_headers: [X-Custom, Cache-Control]}\n"
	"  p: {dialect: openai, " AT "}\n"
	"  a: {dialect: anthropic, default: true, " AT "}\n"
	"  g: {dialect: gemini, default: true, " AT ", forward_headers: [X-Custom, Cache-Control]}\n"
	"  h: {dialect: http, " AT ", forward_headers: [X-Custom, Cache-Control]}\n"
	"  i: {dialect: http, " AT "}\n"
	"models:\n"
	"  one: " TO("o",
		     "real") "\n"
			     "  two: " TO("o",
					  "real") "\n"
						  "  three: " TO(
							  "o",
							  "other") "\n"
								   "  four: " TO(
									   "p",
									   "real") "\n"
										   "tenants:\n"
										   "  acme: {keys: [key-of-acme, "
										   "second-of-acme]}\n"
										   "  other: {keys: [key-of-other]}\n"
										   "  third: {keys: [key-of-third]}\n";

struct share_rig {
	const struct config *config;
	struct dialect_digest *digest;
	_Atomic int64_t held;
	/* of the request that is looked at */
	struct http_field fields[FIELDS_MOST];
	struct http_head head;
	struct caller caller;
	struct dialect_call call;
	struct route route;
	struct upload body;
	struct mem *mem;
	struct buf detail;
	struct share_input input;
	struct share share;
};

struct share_rig *share_rig_new(const char *more)
{
	struct share_rig *rig = mem_new(sizeof(*rig));
	char text[CONFIG_MOST];
	struct buf warnings;

	assert_true((size_t)snprintf(text, sizeof(text), "%s%s", world, more) < sizeof(text));
	rig->config = config_rig_parse(text, &warnings);
	if (rig->config == NULL)
		fail_msg("%s", warnings.data);
	buf_free(&warnings);
	rig->digest = dialect_digest_new();
	rig->mem = mem_arena(ARENA);
	buf_init(&rig->detail, DETAIL_MOST);
	upload_init(&rig->body, &rig->held, INT64_MAX);
	return rig;
}

void share_rig_free(struct share_rig **handle)
{
	struct share_rig *rig = *handle;

	*handle = NULL;
	upload_free(&rig->body);
	mem_arena_free(&rig->mem);
	buf_free(&rig->detail);
	dialect_digest_free(&rig->digest);
	config_release(&rig->config);
	mem_free(rig);
}

static void read_method(struct http_head *head, struct slice name)
{
	static const char *const methods[] = {
		[HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",     [HTTP_POST] = "POST",      [HTTP_PUT] = "PUT",
		[HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS"
	};

	head->method_name = name;
	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++)
		if (slice_equal(name, slice_of(methods[i])))
			head->method = (enum http_method)i;
}

static void read_head(struct share_rig *rig, const struct share_rig_request *request)
{
	struct slice method = SLICE("POST"), target = slice_of(request->target), lines = slice_of(request->fields);
	size_t count = 0;

	if (target.data[0] != '/')
		method = slice_cut(target, ' ', &target);
	while (lines.len > 0) {
		struct slice value, name = slice_cut(slice_cut(lines, '\n', &lines), ':', &value);
		assert_true(count < FIELDS_MOST);
		rig->fields[count++] = (struct http_field){ name, slice_trim(value) };
	}
	rig->head = (struct http_head){ .target = target,
					.fields = rig->fields,
					.fields_count = count,
					.content_length = (int64_t)request->body.len };
	read_method(&rig->head, method);
}

static enum refusal read_body(struct share_rig *rig, struct slice body)
{
	struct dialect_reader *reader = dialect_reader_new(&rig->call);
	enum refusal refusal = dialect_read(reader, body, &rig->detail);

	assert_true(upload_append(&rig->body, body, (int64_t)body.len));
	if (refusal == REFUSAL_none)
		refusal = dialect_close_body(reader, rig->mem, &rig->call, &rig->detail);
	dialect_reader_free(&reader);
	return refusal;
}

static enum refusal read_request(struct share_rig *rig, const struct share_rig_request *request)
{
	const struct caller *c = &rig->caller;
	enum refusal refusal;

	read_head(rig, request);
	refusal = caller_read(rig->config, &rig->head, SLICE("127.0.0.1"), rig->mem, &rig->caller, &rig->detail);
	if (refusal == REFUSAL_none)
		refusal = dialect_route(&(struct dialect_head){ .method = rig->head.method_name,
								.path = c->path,
								.query = c->query,
								.anthropic_version = c->anthropic_version,
								.google_key = c->google_key,
								.content_type = c->content_type },
					rig->mem, &rig->call, &rig->detail);
	if (refusal == REFUSAL_none && rig->call.takes_body)
		refusal = read_body(rig, request->body);
	if (refusal == REFUSAL_none)
		refusal = route_find(rig->config, c->tenant, &rig->call, &rig->route, &rig->detail);
	return refusal;
}

const struct share *share_rig_judge(struct share_rig *rig, const struct share_rig_request *request)
{
	upload_free(&rig->body);
	mem_arena_free(&rig->mem);
	rig->mem = mem_arena(ARENA);
	buf_clear(&rig->detail);
	if (read_request(rig, request) != REFUSAL_none)
		return NULL;
	rig->input = (struct share_input){ .config = rig->config,
					   .head = &rig->head,
					   .caller = &rig->caller,
					   .call = &rig->call,
					   .route = &rig->route,
					   .body = &rig->body,
					   .digest = rig->digest,
					   .mem = rig->mem };
	share_judge(&rig->share, &rig->input);
	return &rig->share;
}

const struct share_input *share_rig_input(const struct share_rig *rig)
{
	return &rig->input;
}

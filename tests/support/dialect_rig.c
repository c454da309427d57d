#include "tests/support/dialect_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "svc/dialect.h"

enum { MOST = 1 << 20 };

#define NAME(name) #name,
static const char *const dialects[] = { DIALECTS(NAME) };
static const char *const operations[] = { OPERATIONS(NAME) };
static const char *const framings[] = { "plain", "events", "array" };

static enum refusal read_body(struct dialect_call *call, struct slice body, size_t cut, struct mem *mem,
			      struct buf *detail)
{
	struct dialect_reader *r = dialect_reader_new(call);
	enum refusal refusal = REFUSAL_none;

	for (size_t at = 0; at < body.len && refusal == REFUSAL_none;) {
		size_t length = at < cut ? cut - at : body.len - at;
		char *piece = malloc(length);
		memcpy(piece, body.data + at, length);
		refusal = dialect_read(r, slice_make(piece, length), detail);
		free(piece);
		at += length;
	}
	if (refusal == REFUSAL_none)
		refusal = dialect_close_body(r, mem, call, detail);
	dialect_reader_free(&r);
	return refusal;
}

static void put_spliced(const struct dialect_call *call, struct slice body, struct mem *mem, struct buf *out)
{
	struct dialect_splice splices[DIALECT_SPLICES];
	size_t count, at = 0;

	assert_true(dialect_splices(call, SLICE("new"), true, mem, splices, &count));
	if (count == 0)
		return;
	buf_append(out, SLICE(" "));
	for (size_t i = 0; i < count; i++) {
		assert_true(splices[i].offset >= at && splices[i].offset + splices[i].remove <= body.len);
		buf_append(out, slice_make(body.data + at, splices[i].offset - at));
		buf_append(out, splices[i].insert);
		at = splices[i].offset + splices[i].remove;
	}
	buf_append(out, slice_skip(body, at));
}

static void put_call(const struct dialect_call *call, struct slice body, struct mem *mem, struct buf *out)
{
	buf_format(out, "%s %s", dialects[call->dialect], operations[call->operation]);
	if (call->model.len > 0)
		buf_format(out, " %.*s", SLICE_ARGS(call->model));
	if (call->upstream.len > 0)
		buf_format(out, " to %.*s", SLICE_ARGS(call->upstream));
	if (call->framing != DIALECT_PLAIN)
		buf_format(out, " %s", framings[call->framing]);
	if (call->max_output != 0)
		buf_format(out, " max %lld", (long long)call->max_output);
	if (call->media_bytes > 0)
		buf_format(out, " media %lld", (long long)call->media_bytes);
	else if (call->media)
		buf_format(out, " media by name");
	if (call->deterministic)
		buf_append(out, SLICE(" deterministic"));
	if (call->tools)
		buf_append(out, SLICE(" tools"));
	if (call->session.len > 0)
		buf_format(out, " of <%.*s>", SLICE_ARGS(call->session));
	if (call->usage_asked)
		buf_append(out, SLICE(" usage"));
	buf_append(out, SLICE(" -> "));
	assert_true(dialect_target(call, SLICE("/"), SLICE("new"), out));
	if (body.len > 0 && call->dialect != DIALECT_http)
		assert_int_equal(call->text_bytes + call->media_bytes, body.len);
	put_spliced(call, body, mem, out);
}

static char *ask(const struct dialect_rig_request *request, size_t cut)
{
	struct slice target, body = slice_of(request->body), query;
	struct dialect_head head = { .method = slice_cut(slice_of(request->request), ' ', &target),
				     .anthropic_version = request->shape == 'a',
				     .google_key = request->shape == 'g',
				     .content_type = slice_of(request->content_type) };
	struct mem *mem = mem_arena(MOST);
	struct dialect_call call;
	struct buf detail, out;

	head.path = slice_cut(target, '?', &query);
	head.query = query;
	buf_init(&detail, MOST);
	buf_init(&out, MOST);
	enum refusal refusal = dialect_route(&head, mem, &call, &detail);
	if (refusal == REFUSAL_none && body.data != NULL && call.takes_body)
		refusal = read_body(&call, body, cut, mem, &detail);
	if (refusal == REFUSAL_none)
		put_call(&call, body, mem, &out);
	else
		buf_format(&out, "%s %s%s%.*s", dialects[call.dialect], refusal_code(refusal),
			   detail.len > 0 ? " " : "", SLICE_ARGS(buf_slice(&detail)));
	char *text = mem_text(buf_slice(&out));
	buf_free(&detail);
	buf_free(&out);
	mem_arena_free(&mem);
	return text;
}

char *dialect_rig_ask(const struct dialect_rig_request *request)
{
	size_t length = request->body == NULL ? 0 : strlen(request->body);
	char *whole = ask(request, 0);

	for (size_t cut = 1; cut < length; cut++) {
		char *again = ask(request, cut);
		assert_string_equal(again, whole);
		mem_free(again);
	}
	return whole;
}

void dialect_rig_assert(const struct dialect_rig_request *request, const char *expected)
{
	char *found = dialect_rig_ask(request);

	if (strcmp(found, expected) != 0)
		fail_msg("%s %s\n found    %s\n expected %s", request->request,
			 request->body == NULL ? "" : request->body, found, expected);
	mem_free(found);
}

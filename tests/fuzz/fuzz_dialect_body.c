/* Requests of any kind: a target that is routed, and a body that is read under any cuts. An input is one byte for the
 * head's flags and the cuts, the target up to a line's end, and the body.
 * - No target leaves the upstream's prefix.
 * - The cuts change neither the verdict nor what was found.
 * - A body that was taken is taken again when it is spliced, and has the other model then, and usage asked for. */
#include "lib/buf.h"
#include "svc/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA = 1 << 20, MOST = 1 << 16 };

static enum refusal read_body(struct dialect_call *call, struct slice body, uint32_t step, struct mem *mem)
{
	struct dialect_reader *r = dialect_reader_new(call);
	char memory[512];
	struct buf detail;
	enum refusal refusal = REFUSAL_none;

	buf_wrap(&detail, memory, sizeof(memory), 0);
	for (struct slice rest = body; rest.len > 0 && refusal == REFUSAL_none;) {
		step = step * 1103515245 + 12345 * (step != 0);
		struct slice piece = slice_first(rest, step == 0 ? rest.len : 1 + (step >> 16) % 23);
		refusal = dialect_read(r, piece, &detail);
		rest = slice_skip(rest, piece.len);
	}
	if (refusal == REFUSAL_none)
		refusal = dialect_close_body(r, mem, call, &detail);
	CHECK((refusal == REFUSAL_none) == (detail.len == 0));
	dialect_reader_free(&r);
	return refusal;
}

static void splice(const struct dialect_call *call, struct slice body, struct mem *mem, struct buf *out)
{
	struct dialect_splice splices[DIALECT_SPLICES];
	size_t count, at = 0;

	CHECK(dialect_splices(call, SLICE("other"), true, mem, splices, &count));
	for (size_t i = 0; i < count; i++) {
		CHECK(splices[i].offset >= at && splices[i].offset + splices[i].remove <= body.len);
		CHECK(buf_append(out, slice_make(body.data + at, splices[i].offset - at)));
		CHECK(buf_append(out, splices[i].insert));
		at = splices[i].offset + splices[i].remove;
	}
	CHECK(buf_append(out, slice_skip(body, at)));
}

static void judge_splices(const struct dialect_call *call, const struct dialect_call *routed, struct slice body,
			  struct mem *mem)
{
	struct dialect_call again = *routed;
	struct buf out;

	buf_init(&out, MOST + 4096);
	splice(call, body, mem, &out);
	CHECK(read_body(&again, buf_slice(&out), 0, mem) == REFUSAL_none);
	if (call->model_length > 0)
		CHECK(slice_equal(again.model, SLICE("other")));
	CHECK(again.framing == call->framing && again.max_output == call->max_output);
	CHECK(again.usage_asked == (call->usage_asked || call->usage_splice.insert.len > 0));
	CHECK(again.media_bytes == call->media_bytes && again.media == call->media &&
	      again.deterministic == call->deterministic);
	CHECK(again.tools == call->tools && slice_equal(again.session, call->session));
	buf_free(&out);
}

static void judge_body(const struct dialect_call *routed, struct slice body, uint32_t step, struct mem *mem)
{
	struct dialect_call once = *routed, cut = *routed;
	enum refusal refusal = read_body(&once, body, 0, mem);

	CHECK(refusal == read_body(&cut, body, step, mem));
	if (refusal != REFUSAL_none || routed->dialect == DIALECT_http)
		return;
	CHECK(slice_equal(once.model, cut.model) && once.max_output == cut.max_output);
	CHECK(once.framing == cut.framing && once.text_bytes == cut.text_bytes && once.media_bytes == cut.media_bytes &&
	      once.media == cut.media);
	CHECK(once.deterministic == cut.deterministic);
	CHECK(once.tools == cut.tools && slice_equal(once.session, cut.session) && once.session.len <= 256);
	CHECK(once.model_offset == cut.model_offset && once.usage_splice.offset == cut.usage_splice.offset);
	CHECK(once.text_bytes >= 0 && once.text_bytes + once.media_bytes == (int64_t)body.len);
	CHECK(once.max_output >= -1 && once.model.len > 0 && once.model.len <= 256);
	judge_splices(&once, routed, body, mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char memory[512], target[16 << 10];
	struct buf detail, out;
	struct slice body, query;
	struct dialect_call call;

	if (size < 1 || size > MOST)
		return 0;
	struct slice line = slice_cut(slice_make((const char *)data + 1, size - 1), '\n', &body);
	struct dialect_head head = { .method = data[0] & 1 ? SLICE("GET") : SLICE("POST"),
				     .anthropic_version = (data[0] & 2) != 0,
				     .google_key = (data[0] & 4) != 0 };
	struct mem *mem = mem_arena(ARENA);
	head.path = slice_cut(line, '?', &query);
	head.query = query;
	buf_wrap(&detail, memory, sizeof(memory), 0);
	buf_wrap(&out, target, sizeof(target), 0);
	/* What the wire has refused before: control bytes, and more than 8 KiB. */
	bool possible = line.len <= 8 << 10;
	for (size_t i = 0; i < line.len; i++)
		possible &= line.data[i] > ' ' && line.data[i] < 0x7F;
	if (possible && dialect_route(&head, mem, &call, &detail) == REFUSAL_none) {
		if (dialect_target(&call, SLICE("https://host/prefix/"), SLICE("x/y"), &out)) {
			struct slice path = slice_first(buf_slice(&out), slice_find(buf_slice(&out), '?'));
			CHECK(slice_starts(path, SLICE("https://host/prefix/")));
			CHECK(memmem(path.data, path.len, "/../", 4) == NULL && !slice_ends(path, SLICE("/..")));
		}
		if (call.takes_body)
			judge_body(&call, body, data[0] | 1U, mem);
	}
	mem_arena_free(&mem);
	return 0;
}

#include "tests/support/http_message.h"

#include "lib/buf.h"
#include "lib/mem.h"
#include "svc/http_chunk.h"

struct reading {
	struct http_message *message;
	struct http_parse parse;
	struct buf head;
	struct http_field fields[HTTP_FIELDS_MAX];
	struct http_request_head request;
	struct http_chunk chunk;
	int64_t left;
	bool in_body;
};

uint64_t http_message_hash(uint64_t before, struct slice bytes)
{
	uint64_t hash = before;
	for (size_t i = 0; i < bytes.len; i++)
		hash = (hash ^ (unsigned char)bytes.data[i]) * UINT64_C(0x100000001b3) + 1;
	return hash;
}

static void refuse(struct reading *r, enum http_fault fault)
{
	r->message->verdict = HTTP_VERDICT_REFUSED;
	r->message->fault = fault;
}

static void take_body(struct reading *r, struct slice piece)
{
	r->message->body_len += piece.len;
	r->message->body_hash = http_message_hash(r->message->body_hash, piece);
}

static void read_body(struct reading *r, struct slice bytes)
{
	size_t before = bytes.len;
	struct slice piece = SLICE_NONE;
	enum http_chunk_result result = HTTP_CHUNK_MORE;
	if (r->left >= 0) {
		piece = slice_first(bytes, (size_t)r->left);
		take_body(r, piece);
		r->left -= (int64_t)piece.len;
		r->message->used += piece.len;
		if (r->left == 0)
			r->message->verdict = HTTP_VERDICT_TAKEN;
		return;
	}
	while ((result = http_chunk_next(&r->chunk, &bytes, &piece)) == HTTP_CHUNK_PIECE)
		take_body(r, piece);
	r->message->used += before - bytes.len;
	if (result == HTTP_CHUNK_END)
		r->message->verdict = HTTP_VERDICT_TAKEN;
	if (result == HTTP_CHUNK_BAD)
		refuse(r, HTTP_FAULT_bad_body);
}

static void begin_body(struct reading *r)
{
	struct http_message *m = r->message;
	const struct http_head *head = &r->request.head;
	memcpy(m->method, head->method_name.data, head->method_name.len);
	memcpy(m->target, head->target.data, head->target.len);
	m->fields = head->fields_count;
	m->used = r->parse.fed;
	r->left = head->content_length;
	r->in_body = true;
	http_chunk_init(&r->chunk);
	read_body(r, slice_skip(buf_slice(&r->head), r->parse.fed));
}

static void read_piece(struct reading *r, struct slice piece)
{
	enum http_fault fault = HTTP_FAULT_malformed;
	if (piece.len == 0 || r->message->verdict != HTTP_VERDICT_UNFINISHED)
		return;
	if (r->in_body) {
		read_body(r, piece);
		return;
	}
	CHECK(buf_append(&r->head, piece));
	enum http_parse_result result = http_parse_feed(&r->parse, buf_slice(&r->head), &fault);
	if (result == HTTP_PARSE_FAULT)
		refuse(r, fault);
	else if (result == HTTP_PARSE_DONE && !http_head_judge(&r->parse, r->head.data, r->fields, &r->request, &fault))
		refuse(r, fault);
	else if (result == HTTP_PARSE_DONE)
		begin_body(r);
}

void http_message_read(struct http_message *message, struct slice bytes, size_t first_cut, size_t second_cut,
		       size_t step)
{
	struct reading *r = mem_new(sizeof(*r));
	*message = (struct http_message){ .verdict = HTTP_VERDICT_UNFINISHED };
	r->message = message;
	http_parse_init(&r->parse);
	buf_init(&r->head, 1 << 24);
	if (step > 0) {
		for (size_t at = 0; at < bytes.len; at += step)
			read_piece(r, slice_first(slice_skip(bytes, at), step));
	} else {
		size_t first = first_cut < bytes.len ? first_cut : bytes.len;
		size_t second = second_cut < first ? first : second_cut < bytes.len ? second_cut : bytes.len;
		read_piece(r, slice_first(bytes, first));
		read_piece(r, slice_first(slice_skip(bytes, first), second - first));
		read_piece(r, slice_skip(bytes, second));
	}
	buf_free(&r->head);
	mem_free(r);
}

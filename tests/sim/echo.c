#include "echo.h"

#include <openssl/evp.h>

#include "lib/buf.h"
#include "lib/text.h"

static void put_fields(struct slice head, struct buf *out)
{
	bool first = true;
	while (head.len > 0) {
		struct slice value, line = slice_cut(head, '\n', &head);
		if (line.len < 2)
			continue;
		line.len--;
		struct slice name = slice_cut(line, ':', &value);
		buf_append(out, first ? SLICE("[") : SLICE(",["));
		buf_append_json(out, name);
		buf_append_byte(out, ',');
		buf_append_json(out, slice_trim(value));
		buf_append_byte(out, ']');
		first = false;
	}
}

static void put_hash(struct slice body, struct buf *out)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE];
	unsigned length = 0;
	CHECK(EVP_Digest(body.data == NULL ? "" : body.data, body.len, digest, &length, EVP_sha256(), NULL) == 1);
	buf_append(out, slice_make(hex, text_hex(hex, digest, length)));
}

void echo_put(const struct wire_request *request, int64_t filler, struct buf *out)
{
	buf_append(out, SLICE("{\"method\":"));
	buf_append_json(out, request->method);
	buf_append(out, SLICE(",\"target\":"));
	buf_append_json(out, request->target);
	buf_append(out, SLICE(",\"path\":"));
	buf_append_json(out, request->path);
	buf_append(out, SLICE(",\"query\":"));
	buf_append_json(out, request->query);
	buf_append(out, SLICE(",\"headers\":["));
	put_fields(request->head, out);
	buf_append(out, SLICE("],\"body_length\":"));
	buf_append_int(out, (int64_t)request->body.len);
	buf_append(out, SLICE(",\"body_sha256\":\""));
	put_hash(request->body, out);
	buf_append(out, SLICE("\",\"filler\":\""));
	if (filler > 0 && buf_reserve(out, (size_t)filler)) {
		memset(out->data + out->len, '~', (size_t)filler);
		out->len += (size_t)filler;
	}
	buf_append(out, SLICE("\"}\n"));
}

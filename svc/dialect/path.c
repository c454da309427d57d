/* Paths of URLs as all dialects read them: methods, escapes, names of models. A segment is judged with its escapes
 * resolved, because an upstream may resolve them before it walks the path. */
#include "lib/buf.h"
#include "lib/text.h"
#include "svc/dialect/dialect_internal.h"

enum { LONGEST_PATH = 8 << 10 };

enum refusal dialect_check_method(const struct dialect_head *head, enum operation operation, struct buf *detail)
{
	bool list = operation == OPERATION_list_models || operation == OPERATION_get_model;

	if (list && (slice_equal(head->method, SLICE("GET")) || slice_equal(head->method, SLICE("HEAD"))))
		return REFUSAL_none;
	if (!list && slice_equal(head->method, SLICE("POST")))
		return REFUSAL_none;
	buf_append(detail, list ? SLICE("Allowed: GET, HEAD.") : SLICE("Allowed: POST."));
	return REFUSAL_method_not_allowed;
}

static bool has_control(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7F)
			return true;
	return false;
}

/* "." and "..", also with the parameters that some servers cut off ("..;x"). */
static bool is_dots(struct slice segment)
{
	segment = slice_first(segment, slice_find(segment, ';'));
	return slice_equal(segment, SLICE(".")) || slice_equal(segment, SLICE(".."));
}

bool dialect_path_safe(struct slice path)
{
	char memory[LONGEST_PATH];
	size_t length;

	if (!text_url_decode(path, memory, sizeof(memory), &length) || has_control(slice_make(memory, length)))
		return false;
	for (size_t i = 0; i < length; i++)
		if (memory[i] == '\\')
			memory[i] = '/';
	struct slice rest = slice_make(memory, length);
	while (rest.len > 0)
		if (is_dots(slice_cut(rest, '/', &rest)))
			return false;
	return true;
}

enum refusal dialect_check_model(struct slice name, struct buf *detail)
{
	bool good = name.len > 0 && name.data[name.len - 1] != '/';

	if (name.len > DIALECT_MODEL_MOST) {
		buf_format(detail, "A model's name has at most %d bytes.", DIALECT_MODEL_MOST);
		return REFUSAL_invalid_request;
	}
	for (struct slice rest = name; good && rest.len > 0;) {
		struct slice segment = slice_cut(rest, '/', &rest);
		good = segment.len > 0 && !is_dots(segment);
	}
	if (good && !has_control(name))
		return REFUSAL_none;
	buf_append(detail, name.len == 0 ? SLICE("The model's name is empty.")
					 : SLICE("A model's name has no empty or dot segments and no control bytes."));
	return REFUSAL_invalid_request;
}

enum refusal dialect_decode_model(struct slice raw, struct mem *mem, struct slice *name, struct buf *detail)
{
	char memory[3 * DIALECT_MODEL_MOST];
	size_t length = 0;

	*name = SLICE_NONE;
	if (!text_url_decode(raw, memory, sizeof(memory), &length)) {
		buf_append(detail, SLICE("The model's name in the path is too long or wrongly escaped."));
		return REFUSAL_invalid_request;
	}
	if (!text_is_utf8(slice_make(memory, length))) {
		buf_append(detail, SLICE("The model's name in the path is not UTF-8."));
		return REFUSAL_invalid_request;
	}
	enum refusal refusal = dialect_check_model(slice_make(memory, length), detail);
	if (refusal != REFUSAL_none)
		return refusal;
	*name = mem_copy(mem, slice_make(memory, length));
	return name->len > 0 ? REFUSAL_none : REFUSAL_internal;
}

bool dialect_put_segment(struct slice text, struct buf *out)
{
	bool good = true;

	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.data[i];
		bool letter = (byte | 32) >= 'a' && (byte | 32) <= 'z';
		if (letter || (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~')
			good &= buf_append_byte(out, (char)byte);
		else
			good &= buf_format(out, "%%%02X", byte);
	}
	return good;
}

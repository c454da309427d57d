/* The head of an answer as text, for who gets the answer later or elsewhere:
 *
 *   1 200 512            version of this form, status, length that is promised (-1: none)
 *   Content-Type: text/event-stream
 *
 * Values have no control bytes (RFC 9110 section 5.5), so a line ends where it seems to. Another worker wrote it, perhaps of another version: what is not
 * of this form is refused. */
#include "lib/bytes.h"
#include "lib/text.h"
#include "svc/fields.h"

static const struct slice version = { "1 ", 2 };

bool fields_pack(const struct fields_answer *answer, int status, int64_t length, struct buf *out)
{
	buf_append(out, version);
	buf_append_int(out, status);
	buf_append_byte(out, ' ');
	buf_append_int(out, length);
	buf_append_byte(out, '\n');
	for (size_t i = 0; i < answer->count; i++) {
		buf_append(out, answer->fields[i].name);
		buf_append(out, SLICE(": "));
		buf_append(out, answer->fields[i].value);
		buf_append_byte(out, '\n');
	}
	return !out->overflowed;
}

static bool read_first(struct slice line, int *status, int64_t *length)
{
	struct slice rest, first;
	int64_t number;

	if (!slice_starts(line, version))
		return false;
	first = slice_cut(slice_skip(line, version.len), ' ', &rest);
	if (!text_int(first, &number) || number < 200 || number > 599 || !text_int(rest, length) || *length < -1)
		return false;
	*status = (int)number;
	return true;
}

static bool read_line(struct slice line, struct mem *mem, struct fields_answer *answer)
{
	struct slice value, name = slice_cut(line, ':', &value);
	struct http_field *field = &answer->fields[answer->count];

	value = slice_trim(value);
	if (!text_is_token(name) || !bytes_all(value, BYTES_FIELD))
		return false;
	field->name = mem_copy(mem, name);
	field->value = mem_copy(mem, value);
	if (field->name.data == NULL || field->value.data == NULL)
		return false;
	if (slice_equal_nocase(name, SLICE("content-type")))
		answer->content_type = field->value;
	answer->count++;
	return true;
}

bool fields_unpack(struct slice text, struct mem *mem, size_t room, struct fields_answer *answer, int *status)
{
	size_t lines = 0;
	struct slice rest, first = slice_cut(text, '\n', &rest);

	*answer = (struct fields_answer){ .content_length = -1, .retry_after = -1 };
	if (!read_first(first, status, &answer->content_length))
		return false;
	for (size_t i = 0; i < rest.len; i++)
		lines += rest.data[i] == '\n';
	answer->capacity = lines + 1 + room;
	answer->fields = mem_take(mem, answer->capacity * sizeof(*answer->fields));
	if (answer->fields == NULL)
		return false;
	while (rest.len > 0)
		if (!read_line(slice_cut(rest, '\n', &rest), mem, answer))
			return false;
	return true;
}

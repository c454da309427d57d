/* The head of an answer as text, for who gets the answer later or elsewhere:
 *
 *   1 200 512            version of this form, status, length that is promised (-1: none)
 *   Content-Type: text/event-stream
 *                        an empty line: no part of a head is a head
 *
 * Values have no control bytes (RFC 9110 section 5.5), so a line ends where it seems to. Another worker wrote it, perhaps of another version, or somebody who
 * may write to the store: what is not of this form to the byte, or names a field that never passes to a client (one that frames a message above all), is
 * refused; but X-Sluice-Model, which is ours, says whose answer it is. */
#include "lib/bytes.h"
#include "lib/text.h"
#include "svc/fields.h"

enum { FIRST_LINE_MOST = 64 };

static void put_first(struct buf *out, int64_t status, int64_t length)
{
	buf_append(out, SLICE("1 "));
	buf_append_int(out, status);
	buf_append_byte(out, ' ');
	buf_append_int(out, length);
}

bool fields_pack(const struct fields_answer *answer, int status, int64_t length, struct buf *out)
{
	put_first(out, status, length);
	buf_append_byte(out, '\n');
	for (size_t i = 0; i < answer->count; i++) {
		buf_append(out, answer->fields[i].name);
		buf_append(out, SLICE(": "));
		buf_append(out, answer->fields[i].value);
		buf_append_byte(out, '\n');
	}
	buf_append_byte(out, '\n');
	return !out->overflowed;
}

/* Written again, it must be the same: a number has one spelling. */
static bool read_first(struct slice line, int *status, int64_t *length)
{
	char memory[FIRST_LINE_MOST];
	struct buf again;
	struct slice rest, first;
	int64_t number;

	(void)slice_cut(line, ' ', &rest);
	first = slice_cut(rest, ' ', &rest);
	if (!text_int(first, &number) || number < 200 || number > 599 || !text_int(rest, length) || *length < -1)
		return false;
	*status = (int)number;
	buf_wrap(&again, memory, sizeof(memory), 0);
	put_first(&again, number, *length);
	return slice_equal(buf_slice(&again), line);
}

/* What passes to clients, and what reply_note_model puts beside it. */
static bool may_stand(struct slice name)
{
	return fields_pass_to_client(name) || slice_equal_nocase(name, SLICE("x-sluice-model"));
}

static bool read_line(struct slice line, struct mem *mem, struct fields_answer *answer)
{
	size_t colon = slice_find(line, ':');
	struct slice name = slice_first(line, colon), value = slice_skip(line, colon + 2);
	struct http_field *field = &answer->fields[answer->count];

	if (!slice_starts(slice_skip(line, colon), SLICE(": ")) || !text_is_token(name) ||
	    !bytes_all(value, BYTES_FIELD) || !may_stand(name))
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
	struct slice rest, line = slice_cut(text, '\n', &rest);

	*answer = (struct fields_answer){ .content_length = -1, .retry_after = -1 };
	if (!read_first(line, status, &answer->content_length) || !slice_ends(text, SLICE("\n\n")))
		return false;
	for (size_t i = 0; i < rest.len; i++)
		lines += rest.data[i] == '\n';
	answer->capacity = lines + room;
	answer->fields = mem_take(mem, answer->capacity * sizeof(*answer->fields));
	if (answer->fields == NULL)
		return false;
	while ((line = slice_cut(rest, '\n', &rest)).len > 0)
		if (!read_line(line, mem, answer))
			return false;
	return rest.len == 0;
}

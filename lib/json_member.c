#include "lib/json_member.h"

void json_member_reset(struct json_member *member)
{
	*member = (struct json_member){ .text = { member->text.data, 0 } };
}

void json_member_begin(struct json_member *member)
{
	member->type = JSON_MEMBER_ABSENT;
	member->text.len = 0;
	member->empty = member->cut = member->whole = false;
	member->integer = 0;
}

void json_member_append(struct json_member *member, struct slice run, size_t keep)
{
	struct slice kept = slice_first(run, keep - member->text.len);

	member->string_bytes += run.len;
	member->cut |= kept.len < run.len;
	memcpy((char *)member->text.data + member->text.len, kept.data, kept.len);
	member->text.len += kept.len;
}

void json_member_measure(struct json_member *member, size_t length)
{
	member->string_bytes += length;
	member->cut |= length > 0;
}

/* A text that was cut ends with a whole character (RFC 3629 section 3). */
static void trim_text(struct slice *text)
{
	size_t back = 0;

	while (back < 3 && back < text->len && (text->data[text->len - 1 - back] & 0xC0) == 0x80)
		back++;
	if (back == text->len)
		return;
	unsigned char first = (unsigned char)text->data[text->len - 1 - back];
	size_t needed = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
	if (needed != back + 1)
		text->len -= back + 1;
}

void json_member_end(struct json_member *member, enum json_member_type type, size_t start, size_t end)
{
	if (member->cut)
		trim_text(&member->text);
	member->type = type;
	member->start = start;
	member->end = end;
	member->count++;
	member->value_bytes += end - start;
}

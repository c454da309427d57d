#include "tests/support/json_tree.h"

#include <inttypes.h>
#include <stdio.h>

#include "tests/support/random.h"

enum { NODES_MOST = 4096, DIGITS_MOST = 64, SHIFT_MOST = 3 };

/* ---- made ---------------------------------------------------------------------------------------------------------- */

struct json_tree *json_tree_new(struct mem *mem, enum json_tree_kind kind)
{
	struct json_tree *t = mem_take(mem, sizeof(*t));

	CHECK(t != NULL);
	t->kind = kind;
	return t;
}

static void normalize(struct json_tree *t)
{
	while (t->digits != 0 && t->digits % 10 == 0) {
		t->digits /= 10;
		t->exponent++;
	}
	if (t->digits == 0)
		t->exponent = 0;
}

struct json_tree *json_tree_number(struct mem *mem, int64_t digits, int exponent)
{
	struct json_tree *t = json_tree_new(mem, JSON_TREE_NUMBER);

	t->digits = digits;
	t->exponent = exponent;
	normalize(t);
	return t;
}

struct json_tree *json_tree_string(struct mem *mem, struct slice text)
{
	struct json_tree *t = json_tree_new(mem, JSON_TREE_STRING);

	t->text = text;
	return t;
}

struct json_tree *json_tree_add(struct json_tree *array, struct json_tree *element)
{
	CHECK(array->count < JSON_TREE_CHILDREN);
	return array->children[array->count++] = element;
}

struct json_tree *json_tree_put(struct json_tree *object, const char *name, struct json_tree *value)
{
	value->name = slice_of(name);
	return json_tree_add(object, value);
}

/* ---- written ---------------------------------------------------------------------------------------------------------- */

static void put_blanks(uint64_t *random, struct buf *out)
{
	static const char *const blanks[] = { "", "", "", "", " ", "\n\t", "\r\n  " };

	buf_append(out, slice_of(blanks[random_below(random, ARRAY_LENGTH(blanks))]));
}

/* Zeros are added behind the digits, and the point is moved; the exponent makes up for both. */
static void put_number(const struct json_tree *t, uint64_t *random, struct buf *out)
{
	char digits[DIGITS_MOST];
	int exponent = t->exponent;
	size_t length = (size_t)snprintf(digits, sizeof(digits), "%" PRId64, t->digits < 0 ? -t->digits : t->digits);
	size_t zeros = t->digits == 0 ? 0 : random_below(random, SHIFT_MOST), behind, before;

	memset(digits + length, '0', zeros);
	length += zeros;
	exponent -= (int)zeros;
	behind = random_below(random, (uint32_t)length + SHIFT_MOST); /* how many stand behind the point */
	before = behind < length ? length - behind : 0;
	exponent += (int)behind;
	if (t->digits < 0)
		buf_append_byte(out, '-');
	buf_append(out, before > 0 ? slice_make(digits, before) : SLICE("0"));
	if (behind > 0) {
		buf_append_byte(out, '.');
		for (size_t i = length - before; i < behind; i++)
			buf_append_byte(out, '0');
		buf_append(out, slice_make(digits + before, length - before));
	}
	if (exponent != 0 || random_below(random, 4) == 0)
		buf_format(out, "%c%s%s%d", "eE"[random_below(random, 2)],
			   exponent >= 0 && random_below(random, 2) == 0 ? "+" : "",
			   exponent >= 0 && random_below(random, 4) == 0 ? "0" : "", exponent);
}

/* The character at the front of good UTF-8, and how long it is. */
static uint32_t decode(struct slice text, size_t *length)
{
	const unsigned char *b = (const unsigned char *)text.data;
	uint32_t code = b[0];

	*length = b[0] < 0x80 ? 1 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
	if (*length > 1)
		code = b[0] & (0x7Fu >> *length);
	for (size_t i = 1; i < *length; i++)
		code = code << 6 | (b[i] & 0x3Fu);
	return code;
}

static void put_escape(uint32_t code, uint64_t *random, struct buf *out)
{
	static const char plain[] = "\"\\/\b\f\n\r\t", letters[] = "\"\\/bfnrt";
	const char *at = code != 0 && code < 0x80 ? strchr(plain, (int)code) : NULL;

	if (at != NULL && random_below(random, 2) == 0) {
		buf_append_byte(out, '\\');
		buf_append_byte(out, letters[at - plain]);
	} else if (code < 0x10000) {
		buf_format(out, random_below(random, 2) == 0 ? "\\u%04x" : "\\u%04X", code);
	} else {
		buf_format(out, "\\u%04x\\u%04X", 0xD800 + ((code - 0x10000) >> 10),
			   0xDC00 + ((code - 0x10000) & 0x3FF));
	}
}

static void put_string(struct slice text, uint64_t *random, struct buf *out)
{
	uint32_t escapes = random_below(random, 3); /* none that need not be; some; many */

	buf_append_byte(out, '"');
	while (text.len > 0) {
		size_t length;
		uint32_t code = decode(text, &length);
		bool needed = code < 0x20 || code == '"' || code == '\\';
		if (needed || random_below(random, 8) < escapes * 3)
			put_escape(code, random, out);
		else
			buf_append(out, slice_first(text, length));
		text = slice_skip(text, length);
	}
	buf_append_byte(out, '"');
}

/* Elements keep their order, members do not. */
static void put_children(const struct json_tree *t, uint64_t *random, struct buf *out)
{
	const struct json_tree *order[JSON_TREE_CHILDREN];

	for (size_t i = 0; i < t->count; i++) {
		size_t k = t->kind == JSON_TREE_OBJECT ? random_below(random, (uint32_t)i + 1) : i;
		order[i] = order[k]; /* Fisher and Yates', inside out */
		order[k] = t->children[i];
	}
	for (size_t i = 0; i < t->count; i++) {
		if (i > 0)
			buf_append_byte(out, ',');
		if (t->kind == JSON_TREE_OBJECT) {
			put_blanks(random, out);
			put_string(order[i]->name, random, out);
			put_blanks(random, out);
			buf_append_byte(out, ':');
		}
		json_tree_write(order[i], random, out);
	}
}

void json_tree_write(const struct json_tree *t, uint64_t *random, struct buf *out)
{
	static const char *const words[] = {
		[JSON_TREE_NULL] = "null", [JSON_TREE_FALSE] = "false", [JSON_TREE_TRUE] = "true"
	};

	put_blanks(random, out);
	switch (t->kind) {
	case JSON_TREE_NULL:
	case JSON_TREE_FALSE:
	case JSON_TREE_TRUE:
		buf_append(out, slice_of(words[t->kind]));
		break;
	case JSON_TREE_NUMBER:
		put_number(t, random, out);
		break;
	case JSON_TREE_STRING:
		put_string(t->text, random, out);
		break;
	case JSON_TREE_ARRAY:
	case JSON_TREE_OBJECT:
		buf_append_byte(out, t->kind == JSON_TREE_ARRAY ? '[' : '{');
		put_children(t, random, out);
		put_blanks(random, out);
		buf_append_byte(out, t->kind == JSON_TREE_ARRAY ? ']' : '}');
	}
	put_blanks(random, out);
}

/* ---- compared ---------------------------------------------------------------------------------------------------------- */

static const struct json_tree *find(const struct json_tree *object, struct slice name)
{
	for (size_t i = 0; i < object->count; i++)
		if (slice_equal(object->children[i]->name, name))
			return object->children[i];
	return NULL;
}

bool json_tree_equal(const struct json_tree *a, const struct json_tree *b)
{
	if (a->kind != b->kind || a->count != b->count || a->digits != b->digits || a->exponent != b->exponent ||
	    !slice_equal(a->text, b->text))
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct json_tree *child = a->children[i];
		const struct json_tree *twin = a->kind == JSON_TREE_OBJECT ? find(b, child->name) : b->children[i];
		if (twin == NULL || !json_tree_equal(child, twin))
			return false;
	}
	return true;
}

/* ---- changed ---------------------------------------------------------------------------------------------------------- */

static struct json_tree *copy(const struct json_tree *t, struct mem *mem)
{
	struct json_tree *twin = json_tree_new(mem, t->kind);

	*twin = *t;
	for (size_t i = 0; i < t->count; i++)
		twin->children[i] = copy(t->children[i], mem);
	return twin;
}

static void gather(struct json_tree *t, struct json_tree **nodes, size_t *count)
{
	CHECK(*count < NODES_MOST);
	nodes[(*count)++] = t;
	for (size_t i = 0; i < t->count; i++)
		gather(t->children[i], nodes, count);
}

static void change_number(struct json_tree *t, uint64_t *random)
{
	switch (random_below(random, 3)) {
	case 0:
		t->digits++;
		break;
	case 1:
		t->digits = -t->digits;
		break;
	default:
		t->exponent++;
	}
	normalize(t);
}

/* Another letter, another case, a letter more, nothing at all. */
static void change_string(struct json_tree *t, uint64_t *random, struct mem *mem)
{
	struct slice twin = mem_copy(mem, t->text);
	char *bytes = (char *)(uintptr_t)twin.data;
	size_t at = t->text.len > 0 ? random_below(random, (uint32_t)t->text.len) : 0;

	switch (random_below(random, 4)) {
	case 0:
		t->text = mem_format(mem, "%.*s%c", SLICE_ARGS(t->text), "a \n1"[random_below(random, 4)]);
		return;
	case 1:
		t->text = SLICE_NONE;
		return;
	default:
		if (t->text.len > 0 && (bytes[at] | 32) >= 'a' && (bytes[at] | 32) <= 'z')
			bytes[at] ^= random_below(random, 2) == 0 ? 32 : 1;
		t->text = twin;
	}
}

static void change_children(struct json_tree *t, uint64_t *random, struct mem *mem)
{
	size_t one = random_below(random, (uint32_t)t->count + 1), other = random_below(random, (uint32_t)t->count + 1);

	switch (random_below(random, 4)) {
	case 0: /* one more */
		if (t->count < JSON_TREE_CHILDREN)
			json_tree_put(t, "one more", json_tree_new(mem, JSON_TREE_NULL));
		return;
	case 1: /* one less */
		if (one < t->count)
			t->children[one] = t->children[--t->count];
		return;
	case 2: /* another name */
		if (one < t->count)
			t->children[one]->name = mem_format(mem, "%.*s_", SLICE_ARGS(t->children[one]->name));
		return;
	default: /* two change their places, and their names if they have any */
		if (one >= t->count || other >= t->count)
			return;
		struct json_tree *first = t->children[one], *second = t->children[other];
		struct slice name = first->name;
		t->children[one] = second;
		t->children[other] = first;
		first->name = second->name;
		second->name = name;
	}
}

/* Something of another kind that looks alike. */
static void change_kind(struct json_tree *t, uint64_t *random, struct mem *mem)
{
	static const char *const texts[] = { "null", "false", "true", "0", "", "[]", "{}" };
	const char *text = texts[t->kind];
	struct slice name = t->name;

	*t = (struct json_tree){ .kind = (enum json_tree_kind)random_below(random, JSON_TREE_OBJECT + 1),
				 .name = name };
	if (t->kind == JSON_TREE_STRING)
		t->text = random_below(random, 2) == 0 ? slice_of(text) : SLICE_NONE;
	if (t->kind == JSON_TREE_ARRAY && random_below(random, 2) == 0)
		json_tree_add(t, json_tree_new(mem, JSON_TREE_NULL));
}

static void change(struct json_tree *t, bool whole, uint64_t *random, struct mem *mem)
{
	if (!whole && random_below(random, 4) == 0)
		change_kind(t, random, mem);
	else if (t->kind == JSON_TREE_TRUE || t->kind == JSON_TREE_FALSE)
		t->kind = t->kind == JSON_TREE_TRUE ? JSON_TREE_FALSE : JSON_TREE_TRUE;
	else if (t->kind == JSON_TREE_NUMBER)
		change_number(t, random);
	else if (t->kind == JSON_TREE_STRING)
		change_string(t, random, mem);
	else if (t->kind == JSON_TREE_ARRAY || t->kind == JSON_TREE_OBJECT)
		change_children(t, random, mem);
}

struct json_tree *json_tree_change(const struct json_tree *t, uint64_t *random, struct mem *mem)
{
	struct json_tree *twin, *nodes[NODES_MOST];

	do {
		size_t count = 0, at;
		twin = copy(t, mem);
		gather(twin, nodes, &count);
		at = random_below(random, (uint32_t)count);
		change(nodes[at], at == 0, random, mem);
	} while (json_tree_equal(t, twin));
	return twin;
}

#include "json.h"

#include <math.h>
#include <stdlib.h>

struct cursor {
	const char *at, *end;
};

static void skip_blanks(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
		c->at++;
}

static bool take(struct cursor *c, char byte)
{
	if (c->at >= c->end || *c->at != byte)
		return false;
	c->at++;
	return true;
}

static bool is_hex(char byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

static bool check_escape(struct cursor *c)
{
	if (c->at >= c->end)
		return false;
	char byte = *c->at++;
	if (byte != 'u')
		return memchr("\"\\/bfnrt", byte, 8) != NULL;
	for (int i = 0; i < 4; i++, c->at++)
		if (c->at >= c->end || !is_hex(*c->at))
			return false;
	return true;
}

/* Marks the bytes of a word that are zero (Mycroft, 1987); the lowest mark is right, those above it may be wrong. */
static uint64_t zero_bytes(uint64_t word)
{
	return (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
}

/* Steps over eight bytes at a time as long as none of them is a quote, a backslash or a control character. */
static void skip_plain(struct cursor *c)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t word;
	while ((size_t)(c->end - c->at) >= sizeof(word)) {
		memcpy(&word, c->at, sizeof(word));
		uint64_t below_space = (word - ones * 0x20) & ~word & (ones * 0x80);
		if ((zero_bytes(word ^ (ones * '"')) | zero_bytes(word ^ (ones * '\\')) | below_space) != 0)
			return;
		c->at += sizeof(word);
	}
}

static bool check_string(struct cursor *c)
{
	if (!take(c, '"'))
		return false;
	for (;;) {
		skip_plain(c);
		if (c->at >= c->end)
			return false;
		unsigned char byte = (unsigned char)*c->at++;
		if (byte == '"')
			return true;
		if (byte < 0x20 || (byte == '\\' && !check_escape(c)))
			return false;
	}
}

static bool check_digits(struct cursor *c)
{
	const char *from = c->at;
	while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
		c->at++;
	return c->at > from;
}

static bool check_number(struct cursor *c)
{
	take(c, '-');
	if (!take(c, '0') && !check_digits(c))
		return false;
	if (take(c, '.') && !check_digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+'))
			take(c, '-');
		return check_digits(c);
	}
	return true;
}

static bool check_word(struct cursor *c, struct slice word)
{
	if (!slice_starts(slice_make(c->at, (size_t)(c->end - c->at)), word))
		return false;
	c->at += word.len;
	return true;
}

static bool check_value(struct cursor *c, int depth);

static bool check_container(struct cursor *c, int depth, char close)
{
	c->at++;
	skip_blanks(c);
	if (take(c, close))
		return true;
	for (;;) {
		if (close == '}') {
			skip_blanks(c);
			if (!check_string(c))
				return false;
			skip_blanks(c);
			if (!take(c, ':'))
				return false;
		}
		if (!check_value(c, depth + 1))
			return false;
		skip_blanks(c);
		if (take(c, close))
			return true;
		if (!take(c, ','))
			return false;
	}
}

static bool check_value(struct cursor *c, int depth)
{
	skip_blanks(c);
	if (c->at >= c->end || depth > JSON_DEPTH)
		return false;
	switch (*c->at) {
	case '{':
		return check_container(c, depth, '}');
	case '[':
		return check_container(c, depth, ']');
	case '"':
		return check_string(c);
	case 't':
		return check_word(c, SLICE("true"));
	case 'f':
		return check_word(c, SLICE("false"));
	case 'n':
		return check_word(c, SLICE("null"));
	default:
		return check_number(c);
	}
}

bool json_parse(struct slice text, struct slice *value)
{
	struct cursor c = { text.data, text.data + text.len };
	skip_blanks(&c);
	const char *from = c.at;
	if (!check_value(&c, 0))
		return false;
	*value = slice_make(from, (size_t)(c.at - from));
	skip_blanks(&c);
	return c.at == c.end;
}

/* From here on the text is known to be well formed. */

static const char *end_of_string(const char *at, const char *end)
{
	for (at++; at < end; at++) {
		at = memchr(at, '"', (size_t)(end - at));
		const char *slash = at;
		while (slash[-1] == '\\')
			slash--;
		if ((at - slash) % 2 == 0)
			return at + 1;
	}
	return end;
}

static const char *end_of_container(const char *at, const char *end)
{
	int depth = 0;
	while (at < end) {
		char byte = *at;
		if (byte == '"') {
			at = end_of_string(at, end);
			continue;
		}
		at++;
		if (byte == '{' || byte == '[')
			depth++;
		else if ((byte == '}' || byte == ']') && --depth == 0)
			return at;
	}
	return end;
}

static struct slice value_at(struct cursor *c)
{
	skip_blanks(c);
	const char *from = c->at;
	if (*from == '{' || *from == '[')
		c->at = end_of_container(from, c->end);
	else if (*from == '"')
		c->at = end_of_string(from, c->end);
	else
		while (c->at < c->end && memchr(",]} \t\r\n", *c->at, 7) == NULL)
			c->at++;
	return slice_make(from, (size_t)(c->at - from));
}

/* Opens the container, or steps over the comma; false when there is nothing more. */
static bool step(struct slice container, size_t *at, struct cursor *c)
{
	*c = (struct cursor){ container.data + *at, container.data + container.len };
	if (*at >= container.len)
		return false;
	c->at++;
	skip_blanks(c);
	return *c->at != '}' && *c->at != ']';
}

bool json_member(struct slice object, size_t *at, struct slice *key, struct slice *value)
{
	struct cursor c;
	if (!json_is(object, '{') || !step(object, at, &c))
		return false;
	*key = json_string(value_at(&c));
	skip_blanks(&c);
	c.at++;
	*value = value_at(&c);
	skip_blanks(&c);
	*at = (size_t)(c.at - object.data);
	if (*c.at == '}')
		*at = object.len;
	return true;
}

bool json_element(struct slice array, size_t *at, struct slice *value)
{
	struct cursor c;
	if (!json_is(array, '[') || !step(array, at, &c))
		return false;
	*value = value_at(&c);
	skip_blanks(&c);
	*at = (size_t)(c.at - array.data);
	if (*c.at == ']')
		*at = array.len;
	return true;
}

struct slice json_get(struct slice object, const char *key)
{
	struct slice wanted = slice_of(key), name, value, found = SLICE_NONE;
	for (size_t at = 0; json_member(object, &at, &name, &value);)
		if (slice_equal(name, wanted))
			found = value;
	return found;
}

void json_read_members(struct json_members *m, struct slice object)
{
	struct slice key, value;
	m->object = object;
	m->count = 0;
	for (size_t at = 0; json_member(object, &at, &key, &value); m->count++) {
		if (m->count >= ARRAY_LENGTH(m->table))
			continue;
		m->table[m->count].key = key;
		m->table[m->count].value = value;
	}
}

struct slice json_pick(const struct json_members *m, const char *key)
{
	struct slice wanted = slice_of(key);
	if (m->count > ARRAY_LENGTH(m->table))
		return json_get(m->object, key);
	for (size_t i = m->count; i-- > 0;)
		if (slice_equal(m->table[i].key, wanted))
			return m->table[i].value;
	return SLICE_NONE;
}

struct slice json_last(struct slice array)
{
	struct slice value, last = SLICE_NONE;
	for (size_t at = 0; json_element(array, &at, &value);)
		last = value;
	return last;
}

size_t json_count(struct slice array)
{
	struct slice value;
	size_t count = 0;
	for (size_t at = 0; json_element(array, &at, &value);)
		count++;
	return count;
}

bool json_is_true(struct slice value)
{
	return slice_equal(value, SLICE("true"));
}

bool json_number(struct slice value, double *number)
{
	char copy[64];
	if (value.len == 0 || value.len >= sizeof(copy) ||
	    (value.data[0] != '-' && (value.data[0] < '0' || value.data[0] > '9')))
		return false;
	memcpy(copy, value.data, value.len);
	copy[value.len] = '\0';
	*number = strtod(copy, NULL);
	return isfinite(*number);
}

struct slice json_string(struct slice value)
{
	if (!json_is(value, '"') || value.len < 2)
		return SLICE_NONE;
	return slice_make(value.data + 1, value.len - 2);
}

size_t json_string_bytes(struct slice value)
{
	struct slice text = json_string(value);
	if (memchr(text.data == NULL ? "" : text.data, '\\', text.len) == NULL)
		return text.len;
	size_t bytes = 0;
	for (size_t i = 0; i < text.len; i++, bytes++) {
		if (text.data[i] != '\\' || text.data[++i] != 'u')
			continue;
		char digits[5] = { text.data[i + 1], text.data[i + 2], text.data[i + 3], text.data[i + 4], '\0' };
		unsigned long unit = strtoul(digits, NULL, 16);
		/* a surrogate is half of a character that takes four bytes */
		bytes += unit < 0x80 ? 0 : unit < 0x800 || (unit >= 0xD800 && unit < 0xE000) ? 1 : 2;
		i += 4;
	}
	return bytes;
}

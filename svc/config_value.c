/* One value: its ${…} resolved, then read as its row's type says. What a value was is told when it is wrong, unless the row is a secret; a message
 * shows a variable's name, never what is in it. */
#include <limits.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/text.h"
#include "svc/config_internal.h"

enum { KEY_LEAST = 8, KEY_MOST = 512, SHOWN = 60, NAME_SHOWN = 60 };

/* As much of it as is shown, whole characters. */
static struct slice shown(struct slice text)
{
	size_t len = text.len < SHOWN ? text.len : SHOWN;

	while (len > 0 && len < text.len && ((unsigned char)text.data[len] & 0xC0) == 0x80)
		len--;
	return slice_first(text, len);
}

void config_wrong(const struct config_value *v, const char *allowed)
{
	const struct config_node *node = v->node;
	struct config_errors *errors = &v->reader->errors;

	if (node->kind != CONFIG_SCALAR || config_node_is_nothing(node))
		config_complain(errors, node->line, v->reader->path, "found %s; allowed: %s", config_node_kind(node),
				allowed);
	else if ((v->row->flags & (CONFIG_SECRET | CONFIG_UNTOLD)) != 0)
		config_complain(errors, node->line, v->reader->path, "the value is not valid; allowed: %s", allowed);
	else
		config_complain(errors, node->line, v->reader->path, "found \"%.*s\"%s; allowed: %s",
				SLICE_ARGS(shown(node->text)), node->text.len > SHOWN ? " and more" : "", allowed);
}

/* How a number of the row's type is written. */
static const char *form_of(const struct config_row *row)
{
	if (row->type == CONFIG_DURATION)
		return "a number and one unit, us ms s m h d";
	if (row->type == CONFIG_PERCENT)
		return "a percentage as 50% or 0.5%";
	if (row->type == CONFIG_DOLLARS)
		return "dollars as 10 or 1.25";
	if (row->type == CONFIG_SIZE)
		return "a size as 512, 64KiB, 20MiB";
	if ((row->flags & CONFIG_RATE) != 0)
		return "a count as 150, 400k, 4M, or {limit, burst}, for the period in the key's name";
	return row->type == CONFIG_INT || row->most < 1000 ? "a whole number" : "a count as 150, 400k, 4M";
}

static void wrong_number(struct config_value *v, const char *form, bool put(struct buf *, int64_t))
{
	char memory[160];
	struct buf allowed;

	buf_wrap(&allowed, memory, sizeof(memory) - 1, 0);
	if (v->row->words != NULL)
		buf_format(&allowed, "%s or ", v->row->words[0]);
	if (form != NULL)
		buf_format(&allowed, "%s; ", form);
	put(&allowed, v->row->least);
	buf_append(&allowed, SLICE(" to "));
	put(&allowed, v->row->most);
	memory[allowed.len] = '\0';
	config_wrong(v, memory);
}

/* ---- ${NAME} and ${file:PATH} ------------------------------------------------------------------------------------------- */

/* False when it cannot be opened, read, is too long, or holds a NUL byte. */
static bool append_content(struct buf *text, const char *path, enum file_patience files, const char **reason)
{
	size_t start = text->len;
	bool good = file_read(path, files, text, reason);

	if (text->overflowed)
		*reason = "it has more than 64 KiB";
	if (good && slice_find(slice_skip(buf_slice(text), start), '\0') < text->len - start) {
		*reason = "it holds a NUL byte";
		good = false;
	}
	return good;
}

static bool append_file(struct config_value *v, const char *name)
{
	struct buf *text = &v->reader->text;
	const char *folder = name[0] == '/' ? NULL : v->reader->folder, *reason;
	char path[PATH_MAX];
	size_t start = text->len;

	if (snprintf(path, sizeof(path), "%s%s%s", folder != NULL ? folder : "", folder != NULL ? "/" : "", name) >=
	    (int)sizeof(path)) {
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"the path of the file \"%s\" is too long", name);
		return false;
	}
	if (!append_content(text, path, v->reader->files, &reason)) {
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"the file \"%s\" cannot be used: %s; allowed: text of at most 64 KiB", name, reason);
		return false;
	}
	while (text->len > start && (text->data[text->len - 1] == '\n' || text->data[text->len - 1] == '\r'))
		text->len--;
	if (text->len == start)
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"the file \"%s\" is empty; allowed: text", name);
	return text->len > start;
}

static bool append_reference(struct config_value *v, struct slice reference)
{
	char name[1024];
	const char *found;

	if (reference.len == 0 || reference.len >= sizeof(name)) {
		config_wrong(v, "${NAME} or ${file:PATH}");
		return false;
	}
	memcpy(name, reference.data, reference.len);
	name[reference.len] = '\0';
	if (strncmp(name, "file:", 5) == 0)
		return append_file(v, name + 5);
	found = getenv(name);
	if (found == NULL || found[0] == '\0') {
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"the environment variable %s is %s; set it", name, found == NULL ? "not set" : "empty");
		return false;
	}
	(void)buf_append(&v->reader->text, slice_of(found)); /* too long: seen at the end */
	return true;
}

static bool is_word(unsigned char byte)
{
	unsigned char letter = byte | 32;

	return (letter >= 'a' && letter <= 'z') || byte == '_' || (byte >= '0' && byte <= '9');
}

/* "$NAME", as a shell has it, at this place of a secret: the value would be one that anybody can guess. What a ${…} stands for is not judged. */
static bool lacks_braces(const struct config_value *v, struct slice rest)
{
	return (v->row->flags & CONFIG_SECRET) != 0 && rest.len > 1 && rest.data[0] == '$' &&
	       is_word((unsigned char)rest.data[1]) && !(rest.data[1] >= '0' && rest.data[1] <= '9');
}

#define PLAIN_DOLLAR "; a plain $ can come out of a ${NAME} or ${file:PATH}"

/* The name is told only where it is written as variables are and stands alone: it could be a part of the secret. */
static void complain_of_braces(struct config_value *v, struct slice rest)
{
	struct slice whole = v->node->text, name = slice_skip(rest, 1);
	size_t before = whole.len - rest.len, length = 0;
	bool told = before == 0 || whole.data[before - 1] == ' ';

	for (; length < name.len && is_word((unsigned char)name.data[length]); length++)
		told = told && !(name.data[length] >= 'a' && name.data[length] <= 'z');
	told = told && (length == name.len || name.data[length] == ' ');
	name = slice_first(name, length);
	if (told && length <= NAME_SHOWN)
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"found \"$%.*s\", which stands for nothing; allowed: ${%.*s}" PLAIN_DOLLAR,
				SLICE_ARGS(name), SLICE_ARGS(name));
	else
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"a $ in front of a name stands for nothing; allowed: ${NAME}" PLAIN_DOLLAR);
}
#undef PLAIN_DOLLAR

/* "$${" is a plain "${". False: it has been complained about. */
static bool resolve(struct config_value *v)
{
	struct slice rest = v->node->text;

	buf_clear(&v->reader->text);
	while (rest.len > 0) {
		size_t end;
		if (slice_starts(rest, SLICE("$${"))) {
			buf_append(&v->reader->text, SLICE("${"));
			rest = slice_skip(rest, 3);
			continue;
		}
		if (lacks_braces(v, rest)) {
			complain_of_braces(v, rest);
			return false;
		}
		if (!slice_starts(rest, SLICE("${"))) {
			buf_append_byte(&v->reader->text, rest.data[0]);
			rest = slice_skip(rest, 1);
			continue;
		}
		end = slice_find(rest, '}');
		if (end == rest.len) {
			config_wrong(v, "${NAME} or ${file:PATH}, closed by }");
			return false;
		}
		if (!append_reference(v, slice_make(rest.data + 2, end - 2)))
			return false;
		rest = slice_skip(rest, end + 1);
	}
	if (v->reader->text.overflowed) {
		config_wrong(v, "at most 64 KiB");
		return false;
	}
	return true;
}

/* ---- one reader a type --------------------------------------------------------------------------------------------------- */

static bool has_control(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7F)
			return true;
	return false;
}

static void read_text(struct config_value *v, void *into)
{
	struct slice text = buf_slice(&v->reader->text);
	char allowed[80];

	if (config_node_is_nothing(v->node)) {
		config_wrong(v, "text, or to leave the key out");
		return;
	}
	if ((int64_t)text.len < v->row->least || (int64_t)text.len > v->row->most || has_control(text) ||
	    !text_is_utf8(text)) {
		snprintf(allowed, sizeof(allowed), "text of %lld to %lld bytes, in one line", (long long)v->row->least,
			 (long long)v->row->most);
		config_wrong(v, allowed);
		return;
	}
	*(char **)into = mem_text(text);
}

static bool put_int(struct buf *out, int64_t value)
{
	return buf_append_int(out, value);
}

/* 010 is 8 to some readers of YAML and 10 to others. */
static bool has_leading_zero(struct slice text)
{
	return text.len > 1 && text.data[0] == '0' && text.data[1] >= '0' && text.data[1] <= '9';
}

static void read_number(struct config_value *v, bool parse(struct slice, int64_t *), bool put(struct buf *, int64_t),
			void *into)
{
	struct slice text = buf_slice(&v->reader->text);
	int64_t number;

	if (v->row->words != NULL && slice_equal(text, slice_of(v->row->words[0]))) {
		*(int64_t *)into = v->row->type == CONFIG_DOLLARS ? -1 : 0;
		return;
	}
	if (!parse(text, &number))
		wrong_number(v, form_of(v->row), put);
	else if (has_leading_zero(text))
		wrong_number(v, "no zero in front", put);
	else if (number < v->row->least || number > v->row->most)
		wrong_number(v, NULL, put);
	else
		*(int64_t *)into = number;
}

static void read_bool(struct config_value *v, void *into)
{
	bool value;

	if (!text_bool(buf_slice(&v->reader->text), &value))
		config_wrong(v, "true or false");
	else
		*(bool *)into = value;
}

static void read_word(struct config_value *v, void *into)
{
	char memory[200];
	struct buf allowed;
	const char *const *word = v->row->words;

	buf_wrap(&allowed, memory, sizeof(memory) - 1, 0);
	for (int i = 0; *word != NULL; i++, word++) {
		if (slice_equal(buf_slice(&v->reader->text), slice_of(*word))) {
			*(int *)into = i;
			return;
		}
		buf_format(&allowed, "%s%s", i > 0 ? ", " : "", *word);
	}
	memory[allowed.len] = '\0';
	config_wrong(v, memory);
}

static void read_upstream(struct config_value *v, void *into)
{
	const struct config_upstream *found = config_find_upstream(v->reader->config, buf_slice(&v->reader->text));

	if (found == NULL)
		config_wrong(v, "the name of one of `upstreams`");
	*(const struct config_upstream **)into = found;
}

static bool read_key(struct config_value *v, struct config_key *key)
{
	struct slice text = buf_slice(&v->reader->text);

	if (config_node_is_nothing(v->node)) {
		config_wrong(v, "a key");
		return false;
	}
	if (slice_starts(text, SLICE("sha256:"))) {
		if (text_unhex(slice_skip(text, 7), key->sha256, sizeof(key->sha256)))
			return true;
		config_wrong(v, "sha256: and 64 hexadecimal digits");
		return false;
	}
	if (text.len < KEY_LEAST || text.len > KEY_MOST || has_control(text) || slice_find(text, ' ') < text.len) {
		config_wrong(v, "8 to 512 bytes without blanks, or sha256: and 64 hexadecimal digits");
		return false;
	}
	SHA256((const unsigned char *)text.data, text.len, key->sha256);
	return true;
}

/* One scalar into one place. */
void config_read_scalar(struct config_value *v, void *into)
{
	if (v->node->kind != CONFIG_SCALAR) {
		config_wrong(v, "one value");
		return;
	}
	if (!resolve(v))
		return;
	switch (v->row->type) {
	case CONFIG_TEXT:
	case CONFIG_TEXTS:
		read_text(v, into);
		break;
	case CONFIG_INT:
		read_number(v, text_int, put_int, into);
		break;
	case CONFIG_COUNT:
		read_number(v, text_count, text_put_count, into);
		break;
	case CONFIG_SIZE:
		read_number(v, text_size, text_put_size, into);
		break;
	case CONFIG_DURATION:
		read_number(v, text_duration, text_put_duration, into);
		break;
	case CONFIG_PERCENT:
		read_number(v, text_parts, text_put_parts, into);
		break;
	case CONFIG_DOLLARS:
		read_number(v, text_dollars, text_put_dollars, into);
		break;
	case CONFIG_BOOL:
		read_bool(v, into);
		break;
	case CONFIG_WORD:
		read_word(v, into);
		break;
	case CONFIG_UPSTREAM:
		read_upstream(v, into);
		break;
	case CONFIG_KEYS:
		(void)read_key(v, into);
		break;
	default:
		CHECK(!"a type that is no scalar");
	}
}

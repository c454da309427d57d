/* One value: its ${…} resolved, then read as its row's type says. What a value was is told when it is wrong, unless the row is a secret; a message
 * shows a variable's name, never what is in it. */
#include <errno.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/text.h"
#include "svc/config_internal.h"

enum { COMPLAINTS_MOST = 20, KEY_LEAST = 8, SHOWN = 60 };

void config_complain(struct config_errors *errors, int line, const char *path, const char *format, ...)
{
	char text[400];
	va_list values;

	if (++errors->count > COMPLAINTS_MOST)
		return;
	va_start(values, format);
	vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	buf_format(errors->out, "%s:%d: %s%s%s\n", errors->file, line, path, path[0] != '\0' ? ": " : "", text);
}

void config_wrong(const struct config_value *v, const char *allowed)
{
	const struct config_node *node = v->node;

	if (node->kind != CONFIG_SCALAR)
		config_complain(&v->reader->errors, node->line, v->reader->path, "found a %s; allowed: %s",
				node->kind == CONFIG_MAPPING ? "mapping" : "list", allowed);
	else if ((v->row->flags & CONFIG_SECRET) != 0)
		config_complain(&v->reader->errors, node->line, v->reader->path, "the value is not valid; allowed: %s",
				allowed);
	else
		config_complain(&v->reader->errors, node->line, v->reader->path, "found \"%.*s\"; allowed: %s",
				SLICE_ARGS(slice_first(node->text, SHOWN)), allowed);
}

static void wrong_range(struct config_value *v, bool put(struct buf *, int64_t))
{
	char memory[120];
	struct buf allowed;

	buf_wrap(&allowed, memory, sizeof(memory) - 1, 0);
	put(&allowed, v->row->least);
	buf_append(&allowed, SLICE(" to "));
	put(&allowed, v->row->most);
	memory[allowed.len] = '\0';
	config_wrong(v, memory);
}

/* ---- ${NAME} and ${file:PATH} ------------------------------------------------------------------------------------------- */

static bool append_file(struct config_value *v, const char *name)
{
	char path[1200], block[4096];
	size_t start = v->text.len, got;
	FILE *file;
	bool fits = true;

	snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' || v->reader->folder == NULL ? "" : v->reader->folder,
		 name[0] == '/' || v->reader->folder == NULL ? "" : "/", name);
	file = fopen(path, "re");
	if (file == NULL) {
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"the file \"%s\" cannot be read: %s", name, strerror(errno));
		return false;
	}
	while (fits && (got = fread(block, 1, sizeof(block), file)) > 0)
		fits = buf_append(&v->text, slice_make(block, got));
	mem_wipe(block, sizeof(block));
	if (ferror(file) || !fits || memchr(v->text.data + start, '\0', v->text.len - start) != NULL) {
		config_complain(&v->reader->errors, v->node->line, v->reader->path,
				"the file \"%s\" cannot be used; allowed: text of at most 64 KiB", name);
		fits = false;
	}
	fclose(file);
	while (v->text.len > start && (v->text.data[v->text.len - 1] == '\n' || v->text.data[v->text.len - 1] == '\r'))
		v->text.len--;
	return fits;
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
	return buf_append(&v->text, slice_of(found));
}

/* "$${" is a plain "${". False: it has been complained about. */
static bool resolve(struct config_value *v)
{
	struct slice rest = v->node->text;

	buf_clear(&v->text);
	while (rest.len > 0) {
		size_t end;
		if (slice_starts(rest, SLICE("$${"))) {
			buf_append(&v->text, SLICE("${"));
			rest = slice_skip(rest, 3);
			continue;
		}
		if (!slice_starts(rest, SLICE("${"))) {
			buf_append_byte(&v->text, rest.data[0]);
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
	if (v->text.overflowed) {
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
	struct slice text = buf_slice(&v->text);
	char allowed[80];

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

static void read_number(struct config_value *v, bool parse(struct slice, int64_t *), bool put(struct buf *, int64_t),
			void *into)
{
	int64_t number;

	if (v->row->words != NULL && slice_equal(buf_slice(&v->text), slice_of(v->row->words[0]))) {
		*(int64_t *)into = 0;
		return;
	}
	if (!parse(buf_slice(&v->text), &number) || number < v->row->least || number > v->row->most)
		wrong_range(v, put);
	else
		*(int64_t *)into = number;
}

static void read_bool(struct config_value *v, void *into)
{
	bool value;

	if (!text_bool(buf_slice(&v->text), &value))
		config_wrong(v, "true or false");
	else
		*(bool *)into = value;
}

static void read_word(struct config_value *v, void *into)
{
	char memory[200];
	struct buf allowed;

	buf_wrap(&allowed, memory, sizeof(memory) - 1, 0);
	for (int i = 0; v->row->words[i] != NULL; i++) {
		if (slice_equal(buf_slice(&v->text), slice_of(v->row->words[i]))) {
			*(int *)into = i;
			return;
		}
		buf_format(&allowed, "%s%s", i > 0 ? ", " : "", v->row->words[i]);
	}
	memory[allowed.len] = '\0';
	if (slice_equal(slice_of(v->row->name), SLICE("on_failure")) &&
	    slice_equal(buf_slice(&v->text), SLICE("share")))
		buf_append(&allowed, SLICE("; share comes in a later version"));
	memory[allowed.len] = '\0';
	config_wrong(v, memory);
}

static void read_upstream(struct config_value *v, void *into)
{
	const struct config_upstream *found = config_find_upstream(v->reader->config, buf_slice(&v->text));

	if (found == NULL)
		config_wrong(v, "the name of one of `upstreams`");
	*(const struct config_upstream **)into = found;
}

static bool read_key(struct config_value *v, struct config_key *key)
{
	struct slice text = buf_slice(&v->text);

	if (slice_starts(text, SLICE("sha256:"))) {
		if (text_unhex(slice_skip(text, 7), key->sha256, sizeof(key->sha256)))
			return true;
		config_wrong(v, "sha256: and 64 hexadecimal digits");
		return false;
	}
	if (text.len < KEY_LEAST || text.len > 512 || has_control(text) || slice_find(text, ' ') < text.len) {
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

#include "tests/support/json_oracle.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/json_scan.h"

enum { ORACLE_DEPTH = 64 };

static const struct json_path paths[] = {
	{ "", 8 },
	{ "model", 64 },
	{ "stream", 4 },
	{ "a", 5 },
	{ "a.b", 16 },
	{ "a[]", 3 },
	{ "a[].b", 16 },
	{ "a[].b[][]", 16 },
	{ "usage.total", 0 },
	{ "contents[].parts[].text", 7 },
	{ "[].model", 16 },
};
enum { PATHS = ARRAY_LENGTH(paths) };

struct outcome {
	enum json_scan_state state;
	enum json_scan_error error;
	size_t offset, nodes;
	bool hashed;
	unsigned char hash[JSON_HASH_SIZE];
	struct json_member members[PATHS];
	char texts[PATHS][64];
};

static void disagree(struct slice text, const char *what)
{
	fprintf(stderr, "json_oracle: %s\n%.*s\n", what, SLICE_ARGS(text));
	abort();
}

static void must(bool condition, struct slice text, const char *what)
{
	if (!condition)
		disagree(text, what);
}

static void read_outcome(struct json_scan *scan, enum json_scan_state state, struct outcome *o)
{
	memset(o, 0, sizeof(*o));
	o->state = state;
	o->error = json_scan_error(scan, &o->offset);
	o->nodes = json_scan_nodes(scan);
	o->hashed = json_scan_hash(scan, o->hash);
	for (size_t i = 0; i < PATHS; i++) {
		const struct json_member *m = json_scan_member(scan, i);
		o->members[i] = *m;
		memcpy(o->texts[i], m->text.data, m->text.len);
		o->members[i].text.data = NULL;
	}
}

static bool same_member(const struct json_member *a, const struct json_member *b)
{
	return a->type == b->type && a->empty == b->empty && a->cut == b->cut && a->whole == b->whole &&
	       a->integer == b->integer && a->start == b->start && a->end == b->end && a->text.len == b->text.len &&
	       a->count == b->count && a->string_bytes == b->string_bytes && a->value_bytes == b->value_bytes;
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
	if (a->state != b->state || a->error != b->error || a->offset != b->offset || a->nodes != b->nodes ||
	    a->hashed != b->hashed || memcmp(a->hash, b->hash, sizeof(a->hash)) != 0)
		return false;
	/* What a failed text left behind in a member that was being read is nobody's. */
	for (size_t i = 0; a->state == JSON_SCAN_WHOLE && i < PATHS; i++)
		if (!same_member(&a->members[i], &b->members[i]) ||
		    memcmp(a->texts[i], b->texts[i], sizeof(a->texts[i])) != 0)
			return false;
	return true;
}

/* Every piece is a block of its own size, so that a sanitizer sees one byte read too far. `most` 0: random sizes. */
static void scan_in_pieces(struct json_scan *scan, struct slice text, size_t most, uint32_t *seed, struct outcome *o)
{
	json_scan_reset(scan);
	while (text.len > 0) {
		*seed = *seed * 1664525 + 1013904223;
		struct slice piece = slice_first(text, most > 0 ? most : 1 + (*seed >> 8) % 40);
		char *copy = malloc(piece.len);
		if (copy == NULL)
			abort();
		memcpy(copy, piece.data, piece.len);
		json_scan_feed(scan, slice_make(copy, piece.len));
		free(copy);
		text = slice_skip(text, piece.len);
	}
	enum json_scan_state state = json_scan_finish(scan);
	read_outcome(scan, state, o);
}

static void scan_text(struct json_scan *scan, struct slice text, uint32_t seed, struct outcome *o)
{
	struct outcome other;

	scan_in_pieces(scan, text, text.len + 1, &seed, o);
	scan_in_pieces(scan, text, 1, &seed, &other);
	must(same_outcome(o, &other), text, "cut at every byte it is another text");
	scan_in_pieces(scan, text, 0, &seed, &other);
	must(same_outcome(o, &other), text, "cut at random it is another text");
}

/* ---- half characters --------------------------------------------------------------------------------------------- */

/* The surrogate that is escaped here, or 0. */
static unsigned long surrogate_at(struct slice text, size_t at)
{
	char digits[5] = { 0 }, *end;

	if (text.len - at < 6 || text.data[at] != '\\' || text.data[at + 1] != 'u')
		return 0;
	memcpy(digits, text.data + at + 2, 4);
	unsigned long unit = strtoul(digits, &end, 16);
	return end == digits + 4 && digits[0] != '-' && unit >= 0xD800 && unit < 0xE000 ? unit : 0;
}

/* Jansson refuses half a surrogate pair, which the grammar has, where the scan takes it as three bytes: so jansson gets
 * U+FFFD in its place, as long in the text and in memory. How many there were. */
static size_t mend_halves(struct slice text, char *mended)
{
	size_t halves = 0;

	for (size_t at = 0; at + 1 < text.len;) {
		unsigned long unit = text.data[at] == '\\' ? surrogate_at(text, at) : 0;
		if (text.data[at] != '\\') {
			at++;
		} else if (unit == 0) {
			at += 2;
		} else if (unit < 0xDC00 && at + 6 < text.len && surrogate_at(text, at + 6) >= 0xDC00) {
			at += 12;
		} else {
			memcpy(mended + at + 2, "fffd", 4);
			halves++;
			at += 6;
		}
	}
	return halves;
}

/* ---- jansson's view ---------------------------------------------------------------------------------------------- */

static enum json_member_type type_of(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return JSON_MEMBER_OBJECT;
	case JSON_ARRAY:
		return JSON_MEMBER_ARRAY;
	case JSON_STRING:
		return JSON_MEMBER_STRING;
	case JSON_INTEGER:
	case JSON_REAL:
		return JSON_MEMBER_NUMBER;
	case JSON_TRUE:
		return JSON_MEMBER_TRUE;
	case JSON_FALSE:
		return JSON_MEMBER_FALSE;
	case JSON_NULL:
		break;
	}
	return JSON_MEMBER_NULL;
}

struct expected {
	const json_t *last;
	size_t count, string_bytes;
};

static void collect(const json_t *value, const char *path, struct expected *e)
{
	size_t length;

	if (value == NULL)
		return;
	if (*path == '\0') {
		e->last = value;
		e->count++;
		e->string_bytes += json_string_length(value);
		return;
	}
	if (strncmp(path, "[]", 2) == 0) {
		for (size_t i = 0; i < json_array_size(value); i++)
			collect(json_array_get(value, i), path + 2, e);
		return;
	}
	path += *path == '.';
	length = strcspn(path, ".[");
	char *name = strndup(path, length);
	collect(json_object_get(value, name), path + length, e);
	free(name);
}

static void judge_member(struct slice text, const struct outcome *o, size_t i, const json_t *tree)
{
	const struct json_member *m = &o->members[i];
	struct expected e = { NULL, 0, 0 };

	collect(tree, paths[i].path, &e);
	must(m->count == e.count && m->string_bytes == e.string_bytes, text, "count or length at a path");
	if (e.last == NULL) {
		must(m->type == JSON_MEMBER_ABSENT, text, "a member from nowhere");
		return;
	}
	must(m->type == type_of(e.last), text, "a member's type");
	must(m->start < m->end && m->end <= text.len && m->value_bytes >= m->end - m->start, text, "a member's place");
	if (json_is_integer(e.last))
		must(m->whole && m->integer == json_integer_value(e.last), text, "an integer's value");
	if (json_is_object(e.last))
		must(m->empty == (json_object_size(e.last) == 0), text, "an empty object");
	if (json_is_array(e.last))
		must(m->empty == (json_array_size(e.last) == 0), text, "an empty array");
	if (json_is_string(e.last)) {
		size_t length = json_string_length(e.last);
		must(m->cut == (length > paths[i].keep), text, "a text is cut");
		must(m->cut ? m->text.len + 4 > paths[i].keep && m->text.len <= paths[i].keep : m->text.len == length,
		     text, "a text's length");
		must(memcmp(o->texts[i], json_string_value(e.last), m->text.len) == 0, text, "a text");
	}
	/* The very bytes, read alone, are the value. Duplicates below it are another matter. */
	json_t *again = json_loadb(text.data + m->start, m->end - m->start, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	must(again != NULL && json_equal(again, e.last), text, "a member's bytes");
	json_decref(again);
}

static bool is_limit(enum json_scan_error error)
{
	return error == JSON_SCAN_ERROR_depth || error == JSON_SCAN_ERROR_nodes || error == JSON_SCAN_ERROR_names ||
	       error == JSON_SCAN_ERROR_long_name || error == JSON_SCAN_ERROR_bytes;
}

/* The scan is stricter than the grammar: it has limits, and takes no half character where it compares or keeps. */
static bool may_refuse(enum json_scan_error error, size_t halves)
{
	return is_limit(error) || (halves > 0 && error == JSON_SCAN_ERROR_surrogate);
}

static bool has_reals(const json_t *value)
{
	const json_t *member;
	const char *name;
	size_t i;

	json_array_foreach((json_t *)value, i, member) if (has_reals(member)) return true;
	json_object_foreach((json_t *)value, name, member) if (has_reals(member)) return true;
	return json_is_real(value);
}

/* Written anew, members sorted and characters escaped, it is the same; within an array it is not. */
static void judge_hash(struct slice text, const struct outcome *o, const json_t *tree, struct json_scan *hashing)
{
	struct outcome other;
	uint32_t seed = 1;
	char *anew = json_dumps(tree, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_ENSURE_ASCII | JSON_INDENT(1));

	if (!o->hashed || has_reals(tree) || anew == NULL) {
		free(anew);
		return;
	}
	scan_in_pieces(hashing, slice_of(anew), strlen(anew), &seed, &other);
	/* The limits on bytes of the text aside, for it may have grown. */
	if (other.state == JSON_SCAN_WHOLE)
		must(other.hashed && memcmp(other.hash, o->hash, sizeof(o->hash)) == 0, text, "the hash of the same");
	else
		must(is_limit(other.error), text, "what jansson wrote");
	free(anew);

	char *wrapped = malloc(text.len + 2);
	if (wrapped == NULL)
		abort();
	wrapped[0] = '[';
	memcpy(wrapped + 1, text.data, text.len);
	wrapped[text.len + 1] = ']';
	scan_in_pieces(hashing, slice_make(wrapped, text.len + 2), text.len + 2, &seed, &other);
	must(!other.hashed || memcmp(other.hash, o->hash, sizeof(o->hash)) != 0, text, "the hash of another text");
	free(wrapped);
}

static bool jansson_cannot_say(const json_error_t *error)
{
	enum json_error_code code = json_error_code(error);

	return code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
	       code == json_error_stack_overflow;
}

/* `halves` of characters stood in it, and have been mended. */
static void judge(struct slice text, size_t halves, const struct outcome *plain, const struct outcome *hashed,
		  struct json_scan *hashing)
{
	const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;

	/* No JSON text holds a NUL byte; jansson 2.14 swallows one behind a number. */
	if (slice_find(text, '\0') < text.len) {
		must(plain->state == JSON_SCAN_FAILED && hashed->state == JSON_SCAN_FAILED, text, "a NUL byte");
		return;
	}
	json_error_t error, strict_error;
	json_t *tree = json_loadb(text.data == NULL ? "" : text.data, text.len, flags, &error);
	json_t *strict =
		json_loadb(text.data == NULL ? "" : text.data, text.len, flags | JSON_REJECT_DUPLICATES, &strict_error);

	if (tree == NULL) {
		must(jansson_cannot_say(&error) ||
			     (plain->state == JSON_SCAN_FAILED && hashed->state == JSON_SCAN_FAILED),
		     text, "jansson refuses it");
	} else {
		bool duplicates = strict == NULL;
		bool plain_free = may_refuse(plain->error, halves), hashed_free = may_refuse(hashed->error, halves);
		must(plain->state == JSON_SCAN_WHOLE || plain_free ||
			     (duplicates && plain->error == JSON_SCAN_ERROR_duplicate),
		     text, "jansson takes it");
		must(hashed_free || (hashed->error == JSON_SCAN_ERROR_duplicate) == duplicates, text, "duplicates");
		must(hashed_free || duplicates || hashed->state == JSON_SCAN_WHOLE, text, "jansson takes it, hashed");
		for (size_t i = 0; plain->state == JSON_SCAN_WHOLE && i < PATHS; i++)
			judge_member(text, plain, i, tree);
		if (hashed->state == JSON_SCAN_WHOLE && halves == 0)
			judge_hash(text, hashed, tree, hashing);
	}
	json_decref(tree);
	json_decref(strict);
}

void json_oracle_judge(struct slice text, uint32_t seed)
{
	struct json_plan *plan = json_plan_new(paths, PATHS);
	struct json_scan_options options = { .max_depth = ORACLE_DEPTH, .max_nodes = 5000, .max_bytes = 100000 };
	struct json_scan *scan = json_scan_new(plan, &options);
	struct outcome plain, hashed;

	options.hash = true;
	struct json_scan *hashing = json_scan_new(plan, &options);
	scan_text(scan, text, seed, &plain);
	scan_text(hashing, text, seed, &hashed);
	char *mended = malloc(text.len + 1);
	if (mended == NULL)
		abort();
	if (text.len > 0)
		memcpy(mended, text.data, text.len);
	size_t halves = mend_halves(text, mended);
	judge(slice_make(mended, text.len), halves, &plain, &hashed, hashing);
	free(mended);
	json_scan_free(&scan);
	json_scan_free(&hashing);
	json_plan_free(&plan);
}

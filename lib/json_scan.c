#include "lib/json_scan.h"

#include "lib/json_level.h"
#include "lib/json_number.h"
#include "lib/json_string.h"
#include "lib/mem.h"

_Static_assert((int)JSON_SCAN_DEPTH == (int)JSON_LEVEL_DEPTH, "what is offered is what there is");

enum { DEFAULT_BYTES = 32 << 20, DEFAULT_NODES = 1000000, DEFAULT_DEPTH = 128 };

/* Where the next byte belongs. */
enum place {
	AT_VALUE,  /* a value must come */
	AT_FIRST,  /* behind '[': a value or ']' */
	AT_MEMBER, /* behind '{': a name or '}' */
	AT_NAME,   /* behind a member's comma: a name */
	AT_COLON,
	AT_NEXT, /* behind a value in a container: a comma or the end of it */
	AT_END,  /* behind the whole value */
	IN_NAME,
	IN_STRING,
	IN_NUMBER,
	IN_WORD,
	STOPPED,
};

/* Owned by who made it. Between calls: `place` says where the next byte belongs; what a piece's end cut through is in
 * string, number, word and name. */
struct json_scan {
	const struct json_plan *plan;
	struct json_scan_options options;
	enum place place;
	size_t offset; /* of the piece being fed, in the text */
	size_t nodes;
	struct json_levels levels;
	struct json_member *members; /* behind this struct, in the same block */
	char *texts;                 /* the members' kept text, one after the other, behind them */

	const struct json_node *node; /* the plan's place for the value that comes or is being read */
	struct json_member *member;   /* that value's, or NULL */
	size_t keep;                  /* how much of its text is kept */
	size_t start;                 /* where the value or name begins */
	struct json_string string;
	struct json_number number;
	const char *word; /* what is left of true, false or null */
	enum json_member_type word_type;

	bool name_kept; /* the name being read is compared */
	size_t name_length;
	char name[JSON_SCAN_NAME];

	struct json_hash *hash; /* NULL: not wanted */
	enum json_scan_error error;
	size_t error_offset;
};

/* What is being fed. */
struct cursor {
	const char *from, *at, *end;
};

static size_t position(const struct json_scan *s, const struct cursor *c)
{
	return s->offset + (size_t)(c->at - c->from);
}

static void fail_at(struct json_scan *s, enum json_scan_error error, size_t offset)
{
	s->place = STOPPED;
	s->error = error;
	s->error_offset = offset;
}

static void fail(struct json_scan *s, enum json_scan_error error, const struct cursor *c)
{
	fail_at(s, error, position(s, c));
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static struct json_member *member_at(const struct json_scan *s, const struct json_node *node)
{
	return node == NULL || node->path == JSON_PLAN_NONE ? NULL : &s->members[node->path];
}

/* A value has ended, the cursor stands behind it: what may come now. */
static void after_value(struct json_scan *s)
{
	s->place = s->levels.depth == 0 ? AT_END : AT_NEXT;
}

static void end_member(struct json_scan *s, struct json_member *member, enum json_member_type type, size_t start,
		       size_t end)
{
	json_member_end(member, type, start, end);
	if (s->options.heard != NULL)
		s->options.heard(s->options.arg, (size_t)(member - s->members));
}

static void end_scalar(struct json_scan *s, enum json_member_type type, const struct cursor *c)
{
	if (s->member != NULL)
		end_member(s, s->member, type, s->start, position(s, c));
	after_value(s);
}

static void open_container(struct json_scan *s, bool array, struct cursor *c)
{
	if (s->levels.depth == s->options.max_depth) {
		fail(s, JSON_SCAN_ERROR_depth, c);
		return;
	}
	if (s->hash != NULL)
		json_hash_open(s->hash, array);
	json_levels_open(&s->levels, s->node, array, s->start);
	s->node = s->node != NULL ? s->node->element : NULL;
	s->place = array ? AT_FIRST : AT_MEMBER;
	c->at++;
}

static void close_container(struct json_scan *s, struct cursor *c)
{
	bool array = s->levels.array;
	size_t duplicate;

	c->at++;
	if (s->hash != NULL && !json_hash_close(s->hash, array, &duplicate)) {
		fail_at(s, JSON_SCAN_ERROR_duplicate, duplicate);
		return;
	}
	const struct json_level *level = json_levels_close(&s->levels);
	struct json_member *member = level != NULL ? member_at(s, level->node) : NULL;
	if (member != NULL) {
		member->empty = level->empty;
		end_member(s, member, array ? JSON_MEMBER_ARRAY : JSON_MEMBER_OBJECT, level->start, position(s, c));
	}
	after_value(s);
}

static void read_word(struct json_scan *s, struct cursor *c)
{
	while (*s->word != '\0' && c->at < c->end) {
		if (*c->at != *s->word) {
			fail(s, JSON_SCAN_ERROR_word, c);
			return;
		}
		c->at++;
		s->word++;
	}
	if (*s->word != '\0')
		return;
	if (s->hash != NULL)
		json_hash_word(s->hash, s->word_type == JSON_MEMBER_TRUE    ? 't'
					: s->word_type == JSON_MEMBER_FALSE ? 'f'
									    : 'n');
	end_scalar(s, s->word_type, c);
}

static void end_number(struct json_scan *s, const struct cursor *c)
{
	if (s->member != NULL)
		s->member->whole = json_number_integer(&s->number, &s->member->integer);
	if (s->hash != NULL)
		json_hash_number(s->hash, &s->number);
	end_scalar(s, JSON_MEMBER_NUMBER, c);
}

static void read_number(struct json_scan *s, struct cursor *c)
{
	if (!json_number_next(&s->number, &c->at, c->end))
		fail(s, JSON_SCAN_ERROR_number, c);
	else if (c->at < c->end)
		end_number(s, c);
}

static void fail_string(struct json_scan *s, enum json_string_event event, const struct cursor *c)
{
	fail(s,
	     event == JSON_STRING_BAD_ESCAPE       ? JSON_SCAN_ERROR_escape
	     : event == JSON_STRING_LONE_SURROGATE ? JSON_SCAN_ERROR_surrogate
	     : event == JSON_STRING_CONTROL        ? JSON_SCAN_ERROR_control
						   : JSON_SCAN_ERROR_utf8,
	     c);
}

/* The string's bytes are wanted: kept or hashed. */
static enum json_string_event read_text(struct json_scan *s, struct cursor *c)
{
	struct slice run;
	enum json_string_event event;

	do {
		event = json_string_next(&s->string, &c->at, c->end, &run);
		if (event != JSON_STRING_RUN && event != JSON_STRING_END)
			break;
		if (s->member != NULL)
			json_member_append(s->member, run, s->keep);
		if (s->hash != NULL)
			json_hash_bytes(s->hash, run);
	} while (event == JSON_STRING_RUN);
	return event;
}

/* Only its length is, if that. */
static enum json_string_event read_length(struct json_scan *s, struct cursor *c)
{
	size_t length = 0;
	enum json_string_event event = json_string_pass(&s->string, &c->at, c->end, &length);

	if (s->member != NULL)
		json_member_measure(s->member, length);
	return event;
}

static void read_string(struct json_scan *s, struct cursor *c)
{
	enum json_string_event event = s->keep > 0 || s->hash != NULL ? read_text(s, c) : read_length(s, c);

	if (event == JSON_STRING_MORE)
		return;
	if (event != JSON_STRING_END) {
		fail_string(s, event, c);
		return;
	}
	if (s->hash != NULL)
		json_hash_string_end(s->hash);
	end_scalar(s, JSON_MEMBER_STRING, c);
}

static void begin_word(struct json_scan *s, enum json_member_type type, const char *word, struct cursor *c)
{
	s->word = word + 1;
	s->word_type = type;
	s->place = IN_WORD;
	c->at++;
	read_word(s, c);
}

/* The plain start of a value, once s->node says what it is in the plan. */
static void begin_value(struct json_scan *s, enum json_scan_error expected, struct cursor *c)
{
	char byte = *c->at;

	if (s->nodes == s->options.max_nodes) {
		fail(s, JSON_SCAN_ERROR_nodes, c);
		return;
	}
	s->nodes++;
	s->start = position(s, c);
	s->member = member_at(s, s->node);
	if (s->member != NULL)
		json_member_begin(s->member);
	if (byte == '"') {
		s->place = IN_STRING;
		s->keep = s->member == NULL ? 0 : s->node->keep;
		s->string.halves = s->keep == 0;
		c->at++;
		if (s->hash != NULL)
			json_hash_string_start(s->hash);
		read_string(s, c);
	} else if (byte == '{' || byte == '[') {
		open_container(s, byte == '[', c);
	} else if (byte == '-' || (byte >= '0' && byte <= '9')) {
		json_number_start(&s->number, s->member != NULL || s->hash != NULL);
		s->place = IN_NUMBER;
		read_number(s, c);
	} else if (byte == 't') {
		begin_word(s, JSON_MEMBER_TRUE, "true", c);
	} else if (byte == 'f') {
		begin_word(s, JSON_MEMBER_FALSE, "false", c);
	} else if (byte == 'n') {
		begin_word(s, JSON_MEMBER_NULL, "null", c);
	} else if (byte == '\xEF' && s->start == 0) {
		fail(s, JSON_SCAN_ERROR_mark, c);
	} else {
		fail(s, expected, c);
	}
}

/* ---- names -------------------------------------------------------------------------------------------------- */

static void read_colon(struct json_scan *s, struct cursor *c)
{
	if (*c->at != ':') {
		fail(s, JSON_SCAN_ERROR_colon, c);
		return;
	}
	c->at++;
	s->place = AT_VALUE;
	if (c->at<c->end && * c->at> ' ')
		begin_value(s, JSON_SCAN_ERROR_value, c);
}

static bool keep_name(struct json_scan *s, struct slice run)
{
	if (run.len > sizeof(s->name) - s->name_length) {
		fail_at(s, JSON_SCAN_ERROR_long_name, s->start);
		return false;
	}
	memcpy(s->name + s->name_length, run.data, run.len);
	s->name_length += run.len;
	return true;
}

/* The name ends with this run, and most begin with it: is it new here, and what is its value in the plan? */
static bool judge_name(struct json_scan *s, struct slice run)
{
	if (s->name_length > 0 || run.len > sizeof(s->name)) {
		if (!keep_name(s, run))
			return false;
		run = slice_make(s->name, s->name_length);
	}
	enum json_level_verdict verdict = json_levels_name(&s->levels, run, &s->node);
	if (verdict != JSON_LEVEL_NEW)
		fail_at(s, verdict == JSON_LEVEL_FULL ? JSON_SCAN_ERROR_names : JSON_SCAN_ERROR_duplicate, s->start);
	return verdict == JSON_LEVEL_NEW;
}

static void end_name(struct json_scan *s, struct slice run, struct cursor *c)
{
	s->node = NULL;
	if (s->name_kept && !judge_name(s, run))
		return;
	if (s->hash != NULL) {
		json_hash_bytes(s->hash, run);
		json_hash_name_end(s->hash);
	}
	s->place = AT_COLON;
	if (c->at < c->end && *c->at == ':')
		read_colon(s, c);
}

static void read_name(struct json_scan *s, struct cursor *c)
{
	struct slice run;
	enum json_string_event event;

	while ((event = json_string_next(&s->string, &c->at, c->end, &run)) == JSON_STRING_RUN) {
		if (s->name_kept && !keep_name(s, run))
			return;
		if (s->hash != NULL)
			json_hash_bytes(s->hash, run);
	}
	if (event == JSON_STRING_END)
		end_name(s, run, c);
	else if (event != JSON_STRING_MORE)
		fail_string(s, event, c);
}

static void begin_name(struct json_scan *s, struct cursor *c)
{
	struct json_level *level = s->levels.innermost;

	s->start = position(s, c);
	s->name_kept = level != NULL && level->node->child != NULL;
	s->name_length = 0;
	s->string.halves = false;
	if (level != NULL)
		level->empty = false;
	if (s->hash != NULL)
		json_hash_name_start(s->hash, s->start);
	s->place = IN_NAME;
	c->at++;
	read_name(s, c);
}

/* ---- between the values ------------------------------------------------------------------------------------------ */

static void read_first(struct json_scan *s, struct cursor *c)
{
	if (*c->at == ']') {
		close_container(s, c);
		return;
	}
	if (s->levels.innermost != NULL)
		s->levels.innermost->empty = false;
	begin_value(s, JSON_SCAN_ERROR_first, c);
}

static void read_member(struct json_scan *s, struct cursor *c)
{
	if (*c->at == '"')
		begin_name(s, c);
	else if (*c->at == '}' && s->place == AT_MEMBER)
		close_container(s, c);
	else
		fail(s, s->place == AT_MEMBER ? JSON_SCAN_ERROR_member : JSON_SCAN_ERROR_name, c);
}

/* Behind a value: nearly always a comma, and a name or value right behind it. */
static void read_next(struct json_scan *s, struct cursor *c)
{
	if (*c->at == ',') {
		c->at++;
		s->place = s->levels.array ? AT_VALUE : AT_NAME;
		s->node = s->levels.innermost != NULL ? s->levels.innermost->node->element : NULL;
		if (s->place == AT_NAME && c->at < c->end && *c->at == '"')
			begin_name(s, c);
	} else if (*c->at == (s->levels.array ? ']' : '}')) {
		close_container(s, c);
	} else {
		fail(s, s->levels.array ? JSON_SCAN_ERROR_array : JSON_SCAN_ERROR_object, c);
	}
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

/* The next byte stands between names and values. */
static void read_between(struct json_scan *s, struct cursor *c)
{
	while (is_blank(*c->at))
		if (++c->at == c->end)
			return;
	switch (s->place) {
	case AT_NEXT:
		read_next(s, c);
		break;
	case AT_VALUE:
		begin_value(s, JSON_SCAN_ERROR_value, c);
		break;
	case AT_FIRST:
		read_first(s, c);
		break;
	case AT_MEMBER:
	case AT_NAME:
		read_member(s, c);
		break;
	case AT_COLON:
		read_colon(s, c);
		break;
	default:
		fail(s, JSON_SCAN_ERROR_trailing, c);
		break;
	}
}

/* What a piece's end cut through goes on with the next one. */
static void read_cut(struct json_scan *s, struct cursor *c)
{
	switch (s->place) {
	case IN_NAME:
		read_name(s, c);
		break;
	case IN_STRING:
		read_string(s, c);
		break;
	case IN_NUMBER:
		read_number(s, c);
		break;
	case IN_WORD:
		read_word(s, c);
		break;
	default:
		break;
	}
}

static void read_all(struct json_scan *s, struct cursor *c)
{
	read_cut(s, c);
	while (c->at < c->end && s->place != STOPPED)
		read_between(s, c);
}

/* ---- what others call -------------------------------------------------------------------------------------------- */

/* The members are what they are: zeroed in a new scan, reset in another. */
static void begin(struct json_scan *s)
{
	s->place = AT_VALUE;
	s->offset = s->nodes = 0;
	json_levels_reset(&s->levels);
	s->node = json_plan_root(s->plan);
	s->string = (struct json_string){ .place = JSON_STRING_PLAIN };
	s->error = JSON_SCAN_ERROR_none;
	s->error_offset = 0;
}

struct json_scan *json_scan_new(const struct json_plan *plan, const struct json_scan_options *options)
{
	size_t count = json_plan_count(plan);
	struct json_scan *s;

	/* One block: a scan is made for every request. */
	s = mem_new(sizeof(*s) + count * sizeof(*s->members) + json_plan_kept(plan) + 1);
	s->plan = plan;
	if (options != NULL)
		s->options = *options;
	CHECK(s->options.max_depth <= JSON_LEVEL_DEPTH);
	s->options.max_bytes = s->options.max_bytes == 0 ? DEFAULT_BYTES : s->options.max_bytes;
	s->options.max_nodes = s->options.max_nodes == 0 ? DEFAULT_NODES : s->options.max_nodes;
	s->options.max_depth = s->options.max_depth == 0 ? DEFAULT_DEPTH : s->options.max_depth;
	json_levels_init(&s->levels, plan);
	s->members = (struct json_member *)(void *)(s + 1);
	s->texts = (char *)(s->members + count);
	for (size_t i = 0, at = 0; i < count; at += json_plan_keep(plan, i++))
		s->members[i].text.data = s->texts + at;
	s->hash = s->options.hash ? json_hash_new() : NULL;
	begin(s);
	return s;
}

void json_scan_free(struct json_scan **scan)
{
	struct json_scan *s = *scan;

	if (s == NULL)
		return;
	json_hash_free(&s->hash);
	json_levels_free(&s->levels);
	mem_free(s);
	*scan = NULL;
}

void json_scan_reset(struct json_scan *s)
{
	begin(s);
	for (size_t i = 0; i < json_plan_count(s->plan); i++)
		json_member_reset(&s->members[i]);
	if (s->hash != NULL)
		json_hash_reset(s->hash);
}

static enum json_scan_state state(const struct json_scan *s)
{
	return s->place == STOPPED ? JSON_SCAN_FAILED : s->place == AT_END ? JSON_SCAN_WHOLE : JSON_SCAN_MORE;
}

enum json_scan_state json_scan_feed(struct json_scan *s, struct slice piece)
{
	struct slice fits = slice_first(piece, s->options.max_bytes - s->offset);
	struct cursor c = { fits.data, fits.data, fits.data + fits.len };

	if (s->place == STOPPED || piece.len == 0)
		return state(s);
	read_all(s, &c);
	s->offset += fits.len;
	if (s->place != STOPPED && fits.len < piece.len)
		fail_at(s, JSON_SCAN_ERROR_bytes, s->offset);
	return state(s);
}

enum json_scan_state json_scan_finish(struct json_scan *s)
{
	struct cursor c = { NULL, NULL, NULL };

	if (s->place == IN_NUMBER && s->levels.depth == 0 && json_number_whole(&s->number))
		end_number(s, &c);
	if (s->place != AT_END && s->place != STOPPED)
		fail_at(s, JSON_SCAN_ERROR_truncated, s->offset);
	return state(s);
}

const struct json_member *json_scan_member(const struct json_scan *s, size_t path)
{
	CHECK(path < json_plan_count(s->plan));
	return &s->members[path];
}

enum json_scan_error json_scan_error(const struct json_scan *s, size_t *offset)
{
	*offset = s->error_offset;
	return s->error;
}

const char *json_scan_error_text(enum json_scan_error error)
{
#define JSON_SCAN_ERROR_TEXT(name, text) text,
	static const char *const texts[] = { JSON_SCAN_ERRORS(JSON_SCAN_ERROR_TEXT) };
#undef JSON_SCAN_ERROR_TEXT

	CHECK((size_t)error < ARRAY_LENGTH(texts));
	return texts[error];
}

size_t json_scan_bytes(const struct json_scan *s)
{
	return s->offset;
}

size_t json_scan_nodes(const struct json_scan *s)
{
	return s->nodes;
}

bool json_scan_hash(struct json_scan *s, unsigned char digest[JSON_HASH_SIZE])
{
	return s->hash != NULL && s->place == AT_END && json_hash_finish(s->hash, digest);
}

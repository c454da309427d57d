/* Reads a request's body beside its arrival: the model, whether a stream is wanted, how much may come back, whether
 * chance has a part in it, how much of it is media, whether there are tools, whose session it is. One pass; members that no table names pass unread.
 *
 * What two readers could understand differently is refused by the scanner (a name that stands twice); what is of a wrong
 * type is refused here, with what was found and what is allowed, because a limit must be judged by what the provider
 * will read. null counts as left out, as the providers do it.
 * Disadvantage: the type of a member is judged at the body's end, when everything has arrived. */
#include "lib/buf.h"
#include "lib/text.h"
#include "svc/dialect/dialect_internal.h"

enum { MOST_NODES = 4000000 };
static const int64_t most_tokens = INT64_C(1) << 40, most_candidates = 1 << 20;

struct dialect_reader {
	const struct dialect_table *table; /* NULL: nothing is read (dialect http) */
	struct json_scan *scan;
	bool refused;                     /* what was wrong has been said */
	struct slice model;               /* the path's */
	const struct dialect_path *other; /* the first that names another */
};

static const char *const type_names[] = {
	[JSON_MEMBER_ABSENT] = "nothing",   [JSON_MEMBER_STRING] = "a string", [JSON_MEMBER_NUMBER] = "a number",
	[JSON_MEMBER_TRUE] = "true",        [JSON_MEMBER_FALSE] = "false",     [JSON_MEMBER_NULL] = "null",
	[JSON_MEMBER_OBJECT] = "an object", [JSON_MEMBER_ARRAY] = "an array",
};

static const struct dialect_table *table_of(enum dialect dialect)
{
	switch (dialect) {
	case DIALECT_gemini:
		return &dialect_gemini_body;
	case DIALECT_openai:
		return &dialect_openai_body;
	case DIALECT_anthropic:
		return &dialect_anthropic_body;
	case DIALECT_http:
	case DIALECT_COUNT:
		break;
	}
	return NULL;
}

/* The model alone, or as a resource: "models/M", "publishers/google/models/M". */
static bool names_model(const struct json_member *member, struct slice model)
{
	struct slice text = member->text;

	if (member->type != JSON_MEMBER_STRING || member->cut || !slice_ends(text, model))
		return false;
	struct slice before = slice_first(text, text.len - model.len);
	return before.len == 0 || slice_equal(before, SLICE("models/")) || slice_ends(before, SLICE("/models/"));
}

/* A value has ended. There may be many models in a body, and all must be the path's. */
static void hear(void *arg, size_t path)
{
	struct dialect_reader *r = arg;
	const struct json_member *member = json_scan_member(r->scan, path);

	if (r->table->paths[path].role == DIALECT_ROLE_SAME_MODEL && r->other == NULL &&
	    member->type != JSON_MEMBER_NULL && !names_model(member, r->model))
		r->other = &r->table->paths[path];
}

struct dialect_reader *dialect_reader_new(const struct dialect_call *call)
{
	struct dialect_reader *r = mem_new(sizeof(*r));
	/* How long a body may be is the wire's to judge. */
	const struct json_scan_options options = { .max_bytes = SIZE_MAX,
						   .max_nodes = MOST_NODES,
						   .heard = call->dialect == DIALECT_gemini ? hear : NULL,
						   .arg = r };

	r->model = call->model;
	r->table = table_of(call->dialect);
	if (r->table != NULL)
		r->scan = json_scan_new(dialect_plan(r->table), &options);
	return r;
}

void dialect_reader_free(struct dialect_reader **reader)
{
	if (*reader != NULL && (*reader)->scan != NULL)
		json_scan_free(&(*reader)->scan);
	mem_free(*reader);
	*reader = NULL;
}

static enum refusal refuse_json(struct dialect_reader *r, struct buf *detail)
{
	size_t offset;
	enum json_scan_error error = json_scan_error(r->scan, &offset);

	if (!r->refused)
		buf_format(detail, "Byte %zu: %s.", offset, json_scan_error_text(error));
	r->refused = true;
	return REFUSAL_invalid_json;
}

enum refusal dialect_read(struct dialect_reader *r, struct slice piece, struct buf *detail)
{
	if (r->table == NULL || json_scan_feed(r->scan, piece) != JSON_SCAN_FAILED)
		return REFUSAL_none;
	return refuse_json(r, detail);
}

static enum refusal refuse_type(const struct dialect_path *path, const struct json_member *member, const char *allowed,
				struct buf *detail)
{
	buf_format(detail, "`%s` must be %s, not %s.", path->path, allowed, type_names[member->type]);
	return REFUSAL_invalid_request;
}

/* A whole number, 0 or more; ProtoJSON (Gemini) takes it as a string, too. */
static bool read_count(const struct dialect_call *call, const struct json_member *member, int64_t *count)
{
	if (member->type == JSON_MEMBER_NUMBER && member->whole)
		*count = member->integer;
	else if (call->dialect != DIALECT_gemini || member->type != JSON_MEMBER_STRING || member->cut ||
		 !text_int(member->text, count))
		return false;
	return *count >= 0;
}

/* What is gathered while the table is walked. */
struct wishes {
	int64_t maximum, candidates, prompts;
	bool stream;
	bool cold, warm; /* a temperature of 0 was said; another one was */
	const struct json_member *whole, *options, *include_usage;
};

static enum refusal take_count(const struct dialect_call *call, const struct dialect_path *path,
			       const struct json_member *member, int64_t most, int64_t *into, struct buf *detail)
{
	int64_t count;

	if (member->type == JSON_MEMBER_NULL)
		return REFUSAL_none;
	if (!read_count(call, member, &count)) {
		if (member->type == JSON_MEMBER_NUMBER)
			buf_format(detail, "`%s` must be a whole number, 0 or more, that fits in 63 bits.", path->path);
		else
			return refuse_type(path, member, "a whole number, 0 or more", detail);
		return REFUSAL_invalid_request;
	}
	if (count > most)
		count = most;
	if (count > *into)
		*into = count;
	return REFUSAL_none;
}

static enum refusal take_model(const struct dialect_path *path, const struct json_member *member, struct mem *mem,
			       struct dialect_call *call, struct buf *detail)
{
	if (member->type != JSON_MEMBER_STRING)
		return refuse_type(path, member, "a string", detail);
	enum refusal refusal = dialect_check_model(member->text, detail);
	if (refusal != REFUSAL_none)
		return refusal;
	call->model = mem_copy(mem, member->text);
	call->model_offset = member->start;
	call->model_length = member->end - member->start;
	return call->model.len > 0 ? REFUSAL_none : REFUSAL_internal;
}

/* One of a wrong type is the provider's to judge. */
static void take_temperature(const struct json_member *member, struct wishes *wishes)
{
	bool zero = member->type == JSON_MEMBER_NUMBER && member->whole && member->integer == 0;

	wishes->cold |= zero;
	wishes->warm |= !zero && member->type != JSON_MEMBER_NULL;
}

/* One of a wrong type is the provider's to judge. */
static enum refusal take_session(const struct json_member *member, struct mem *mem, struct dialect_call *call)
{
	if (call->session.len > 0 || member->type != JSON_MEMBER_STRING || member->text.len == 0)
		return REFUSAL_none;
	call->session = mem_copy(mem, member->text);
	return call->session.len > 0 ? REFUSAL_none : REFUSAL_internal;
}

static bool is_bool_or_null(const struct json_member *member)
{
	return member->type == JSON_MEMBER_TRUE || member->type == JSON_MEMBER_FALSE ||
	       member->type == JSON_MEMBER_NULL;
}

/* One member that is there. */
static enum refusal take(const struct dialect_path *path, const struct json_member *member, struct mem *mem,
			 struct dialect_call *call, struct wishes *wishes, struct buf *detail)
{
	switch (path->role) {
	case DIALECT_ROLE_WHOLE:
		wishes->whole = member;
		return REFUSAL_none;
	case DIALECT_ROLE_MODEL:
		return take_model(path, member, mem, call, detail);
	case DIALECT_ROLE_SAME_MODEL:
		return REFUSAL_none; /* heard */
	case DIALECT_ROLE_STREAM:
		wishes->stream = member->type == JSON_MEMBER_TRUE;
		return is_bool_or_null(member) ? REFUSAL_none : refuse_type(path, member, "true or false", detail);
	case DIALECT_ROLE_STREAM_OPTIONS:
		wishes->options = member;
		return member->type == JSON_MEMBER_OBJECT || member->type == JSON_MEMBER_NULL
			       ? REFUSAL_none
			       : refuse_type(path, member, "an object", detail);
	case DIALECT_ROLE_INCLUDE_USAGE:
		wishes->include_usage = member;
		return is_bool_or_null(member) ? REFUSAL_none : refuse_type(path, member, "true or false", detail);
	case DIALECT_ROLE_MAXIMUM:
		return take_count(call, path, member, most_tokens, &wishes->maximum, detail);
	case DIALECT_ROLE_CANDIDATES:
		return take_count(call, path, member, most_candidates, &wishes->candidates, detail);
	case DIALECT_ROLE_PROMPTS:
		if (member->type == JSON_MEMBER_STRING || member->type == JSON_MEMBER_ARRAY)
			wishes->prompts = (int64_t)member->count;
		return REFUSAL_none;
	case DIALECT_ROLE_TEMPERATURE:
		take_temperature(member, wishes);
		return REFUSAL_none;
	case DIALECT_ROLE_MEDIA:
		call->media_bytes += (int64_t)member->value_bytes;
		call->media |= member->type == JSON_MEMBER_STRING;
		return REFUSAL_none;
	case DIALECT_ROLE_MEDIA_NAME:
		call->media |= member->type == JSON_MEMBER_STRING;
		return REFUSAL_none;
	case DIALECT_ROLE_TOOLS:
		call->tools |= member->type == JSON_MEMBER_ARRAY && !member->empty;
		return REFUSAL_none;
	case DIALECT_ROLE_SESSION:
		return take_session(member, mem, call);
	default:
		CHECK(!"a role that bodies do not have");
	}
	return REFUSAL_none;
}

static struct dialect_splice splice_of(size_t offset, size_t remove, struct slice insert)
{
	return (struct dialect_splice){ offset, remove, insert };
}

/* How to be told the usage of a stream of completions. A model has been found, so the body is not empty. */
static void set_usage_splice(const struct wishes *w, struct dialect_call *call)
{
	if (w->include_usage != NULL && w->include_usage->type == JSON_MEMBER_TRUE)
		call->usage_asked = true;
	else if (w->include_usage != NULL)
		call->usage_splice = splice_of(w->include_usage->start, w->include_usage->end - w->include_usage->start,
					       SLICE("true"));
	else if (w->whole != NULL && w->options == NULL)
		call->usage_splice =
			splice_of(w->whole->start + 1, 0, SLICE("\"stream_options\":{\"include_usage\":true},"));
	else if (w->options == NULL)
		return;
	else if (w->options->type == JSON_MEMBER_NULL)
		call->usage_splice = splice_of(w->options->start, w->options->end - w->options->start,
					       SLICE("{\"include_usage\":true}"));
	else
		call->usage_splice = splice_of(w->options->start + 1, 0,
					       w->options->empty ? SLICE("\"include_usage\":true")
								 : SLICE("\"include_usage\":true,"));
}

static void set_maximum(const struct wishes *w, struct dialect_call *call)
{
	int64_t total = w->maximum, factors[] = { w->candidates, w->prompts };

	if (call->operation != OPERATION_generate || total < 0)
		return;
	for (size_t i = 0; i < ARRAY_LENGTH(factors); i++)
		if (factors[i] > 1)
			total = total > most_tokens / factors[i] ? most_tokens : total * factors[i];
	call->max_output = total;
}

static enum refusal refuse_model(const struct dialect_reader *r, struct buf *detail)
{
	bool tuned = slice_starts(r->model, SLICE("tunedModels/"));

	buf_format(detail, "`%s` must be \"%s%.*s\", as in the path, or left out.", r->other->path,
		   tuned ? "" : "models/", SLICE_ARGS(r->model));
	return REFUSAL_invalid_request;
}

static enum refusal gather(struct dialect_reader *r, struct mem *mem, struct dialect_call *call, struct wishes *wishes,
			   struct buf *detail)
{
	const struct json_member *whole = json_scan_member(r->scan, 0);

	if (whole->type != JSON_MEMBER_OBJECT)
		return refuse_type(&(struct dialect_path){ .path = "body" }, whole, "a JSON object", detail);
	if (r->other != NULL)
		return refuse_model(r, detail);
	for (size_t i = 0; i < r->table->count; i++) {
		const struct json_member *member = json_scan_member(r->scan, i);
		enum refusal refusal = REFUSAL_none;
		if (member->type != JSON_MEMBER_ABSENT)
			refusal = take(&r->table->paths[i], member, mem, call, wishes, detail);
		if (refusal != REFUSAL_none)
			return refusal;
	}
	if (call->model.len == 0) {
		buf_append(detail, SLICE("`model` is missing; it must be a string."));
		return REFUSAL_invalid_request;
	}
	call->candidates = wishes->candidates;
	call->deterministic |= wishes->cold && !wishes->warm;
	return REFUSAL_none;
}

enum refusal dialect_close_body(struct dialect_reader *r, struct mem *mem, struct dialect_call *call,
				struct buf *detail)
{
	struct wishes wishes = { .maximum = -1, .candidates = 1, .prompts = 1 };

	if (r->table == NULL)
		return REFUSAL_none;
	if (json_scan_finish(r->scan) != JSON_SCAN_WHOLE)
		return refuse_json(r, detail);
	enum refusal refusal = gather(r, mem, call, &wishes, detail);
	if (refusal != REFUSAL_none)
		return refusal;
	call->text_bytes = (int64_t)json_scan_bytes(r->scan) - call->media_bytes;
	set_maximum(&wishes, call);
	if (wishes.stream && call->operation == OPERATION_generate && call->dialect != DIALECT_gemini) {
		call->framing = DIALECT_EVENTS;
		if (call->dialect == DIALECT_openai && !call->responses)
			set_usage_splice(&wishes, call);
	}
	return REFUSAL_none;
}

#include "svc/dialect/meter_said.h"

enum { CANDIDATES = 64 };
static const int64_t most_tokens = INT64_C(1) << 40;

/* What one event, or one body, says of itself. */
struct facts {
	const struct json_member *type, *choices, *usage;
};

/* Why Gemini's candidates end when nothing has happened to them. Any other reason counts as filtered: what the content
 * policy names (SAFETY, BLOCKLIST, IMAGE_RECITATION …), what withholds an answer for what it is (LANGUAGE), what names
 * nothing (OTHER), an accident that another try may be spared (MALFORMED_FUNCTION_CALL, NO_IMAGE …), and what we have
 * never heard of: an answer that ended so must not be kept for others. */
static const char *const gemini_harmless[] = { "STOP", "MAX_TOKENS" };

/* Some providers put `"error": null` or `{}` into all they send. */
static bool is_error(const struct json_member *member)
{
	return (member->type == JSON_MEMBER_OBJECT && !member->empty) ||
	       (member->type == JSON_MEMBER_STRING && member->end - member->start > strlen("\"\""));
}

static void take_member(struct meter_said *said, enum dialect_role role, const struct json_member *member,
			struct facts *facts)
{
	switch (role) {
	case DIALECT_ROLE_TEXT:
		said->output_bytes += (int64_t)member->string_bytes;
		break;
	case DIALECT_ROLE_REFUSAL:
		said->output_bytes += (int64_t)member->string_bytes;
		said->filtered |= member->string_bytes > 0;
		break;
	case DIALECT_ROLE_VALUE:
		said->output_bytes += (int64_t)member->value_bytes;
		break;
	case DIALECT_ROLE_ERROR:
		said->error |= is_error(member);
		break;
	case DIALECT_ROLE_TYPE:
		facts->type = member;
		break;
	case DIALECT_ROLE_CHOICES:
		facts->choices = member;
		break;
	case DIALECT_ROLE_USAGE:
		facts->usage = member;
		break;
	default:
		if (role < DIALECT_ROLE_COUNTS && member->whole && member->integer >= 0 &&
		    member->integer <= most_tokens)
			said->counts[role] = member->integer;
	}
}

static struct facts take(struct meter_said *said)
{
	struct facts facts = { 0 };

	for (size_t i = 0; i < said->table->count; i++) {
		const struct json_member *member = json_scan_member(said->scan, i);
		if (member->count > 0)
			take_member(said, said->table->paths[i].role, member, &facts);
	}
	return facts;
}

static bool is_word(const struct json_member *member, const char *word)
{
	return member->type == JSON_MEMBER_STRING && !member->cut && slice_equal(member->text, slice_of(word));
}

static bool is_type(const struct facts *facts, const char *name)
{
	return facts->type != NULL && is_word(facts->type, name);
}

/* A reason that is a number (enum-encoding=int) is not understood either. */
static bool is_harmless(const struct json_member *reason)
{
	for (size_t i = 0; i < ARRAY_LENGTH(gemini_harmless); i++)
		if (is_word(reason, gemini_harmless[i]))
			return true;
	return reason->type == JSON_MEMBER_NULL;
}

/* Google says why a candidate ended in the last chunk that has it; one that comes without a reason goes on. */
static void end_candidate(struct meter_said *said)
{
	uint64_t bit = UINT64_C(1) << said->index;

	said->now.seen |= bit;
	said->now.done = said->reason ? said->now.done | bit : said->now.done & ~bit;
	said->index = 0; /* which is left out when it is zero */
	said->reason = false;
}

/* A value has ended. Here is heard what there may be many of in one text. */
static void hear(void *arg, size_t path)
{
	struct meter_said *said = arg;
	const struct json_member *member = json_scan_member(said->scan, path);

	switch (said->table->paths[path].role) {
	case DIALECT_ROLE_POLICY:
		said->filtered |= is_word(member, "content_filter") || is_word(member, "refusal");
		break;
	case DIALECT_ROLE_INDEX:
		said->index = member->whole && member->integer >= 0 && member->integer < CANDIDATES
				      ? (unsigned)member->integer
				      : 0;
		break;
	case DIALECT_ROLE_FINISH:
		said->reason = member->type == JSON_MEMBER_STRING;
		said->filtered |= !is_harmless(member);
		break;
	case DIALECT_ROLE_CANDIDATE:
		end_candidate(said);
		break;
	case DIALECT_ROLE_BLOCKED:
		said->now.blocked |= member->type == JSON_MEMBER_STRING;
		said->filtered |= member->type != JSON_MEMBER_NULL;
		break;
	default:
		break;
	}
}

bool meter_said_all_done(const struct meter_candidates *c)
{
	return c->seen != 0 ? c->done == c->seen : c->blocked;
}

/* No choices, and the usage. */
static bool is_usage_chunk(const struct facts *f)
{
	return f->choices != NULL && f->choices->type == JSON_MEMBER_ARRAY && f->choices->empty && f->usage != NULL &&
	       f->usage->type == JSON_MEMBER_OBJECT;
}

bool meter_said_event(struct meter_said *said)
{
	struct facts f = take(said);

	if (said->dialect == DIALECT_gemini) {
		said->sure = said->now;
		said->ended = meter_said_all_done(&said->sure);
	} else if (said->dialect == DIALECT_anthropic) {
		said->ended |= is_type(&f, "message_stop");
		said->error |= is_type(&f, "error");
	} else if (said->responses) {
		said->error |= is_type(&f, "error") || is_type(&f, "response.failed");
		said->filtered |= is_type(&f, "response.refusal.delta") || is_type(&f, "response.refusal.done");
		said->ended |= is_type(&f, "response.completed") || is_type(&f, "response.incomplete") ||
			       is_type(&f, "response.failed");
	} else if (is_usage_chunk(&f)) {
		said->usage_final = true;
		return true;
	}
	return false;
}

void meter_said_take(struct meter_said *said)
{
	(void)take(said);
}

void meter_said_next(struct meter_said *said)
{
	said->now = said->sure;
	said->index = 0;
	said->reason = false;
	json_scan_reset(said->scan);
}

void meter_said_init(struct meter_said *said, const struct dialect_call *call, const struct dialect_table *table)
{
	const struct json_scan_options options = {
		.max_bytes = SIZE_MAX, .max_nodes = SIZE_MAX, .max_depth = JSON_SCAN_DEPTH, .heard = hear, .arg = said
	};

	*said = (struct meter_said){
		.dialect = call->dialect, .operation = call->operation, .responses = call->responses, .table = table
	};
	for (size_t i = 0; i < DIALECT_ROLE_COUNTS; i++)
		said->counts[i] = -1;
	if (table != NULL)
		said->scan = json_scan_new(dialect_plan(table), &options);
}

void meter_said_free(struct meter_said *said)
{
	if (said->scan != NULL)
		json_scan_free(&said->scan);
}

static int64_t sum(const struct meter_said *said, const enum dialect_role *roles, size_t count)
{
	int64_t total = 0;

	for (size_t i = 0; i < count; i++)
		if (said->counts[roles[i]] > 0)
			total += said->counts[roles[i]];
	return total;
}

/* Whether the output is known to its end. Google leaves zeros out; embeddings and counts say nothing. */
static bool output_known(const struct meter_said *said)
{
	if (!said->ended && !said->usage_final)
		return false;
	if (said->operation == OPERATION_count_tokens || said->counts[DIALECT_ROLE_OUTPUT] >= 0)
		return true;
	return said->counts[DIALECT_ROLE_INPUT] >= 0 &&
	       (said->dialect == DIALECT_gemini || said->operation == OPERATION_embed);
}

void meter_said_result(const struct meter_said *said, struct meter_result *result)
{
	static const enum dialect_role input[] = { DIALECT_ROLE_INPUT, DIALECT_ROLE_CACHE_READ,
						   DIALECT_ROLE_CACHE_WRITE, DIALECT_ROLE_TOOL_INPUT };
	static const enum dialect_role cached[] = { DIALECT_ROLE_CACHED, DIALECT_ROLE_CACHE_READ };
	static const enum dialect_role output[] = { DIALECT_ROLE_OUTPUT, DIALECT_ROLE_THOUGHTS };
	bool counted = said->operation == OPERATION_count_tokens; /* a count is told, not used */

	*result = (struct meter_result){ .output_bytes = said->output_bytes,
					 .ended = said->ended,
					 .error_in_band = said->error,
					 .filtered = said->filtered };
	result->usage.input_known = counted ? said->ended : said->counts[DIALECT_ROLE_INPUT] >= 0;
	result->usage.output_known = output_known(said);
	if (counted)
		return;
	result->usage.input = sum(said, input, ARRAY_LENGTH(input));
	result->usage.cached = sum(said, cached, ARRAY_LENGTH(cached));
	result->usage.output = sum(said, output, ARRAY_LENGTH(output));
}

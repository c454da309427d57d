/* Why a provider answered an error, and when it says that a call may come again.
 *
 *   body ──► scan by the dialect's table ──► words (reason, message, quota) ──► why
 *   fields ─► Retry-After, reset fields ──────────────────────────────────────► retry_after
 *
 * The status alone says the most: 429 is a limit, 402 an account that is empty. The body only ever makes it worse: a limit of a day, an empty credit, the
 * content policy. Bodies are the providers' prose in part, and prose may quote what the client sent: so words inside of a message count for 429 alone, where
 * nothing is quoted, and of other statuses' messages only how they begin. Else a client could have its target benched for the whole fleet.
 * Disadvantage: a provider that rewords its messages is understood less well until its row is added; the status still holds. */
#include <math.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/pool.h"
#include "lib/text.h"
#include "svc/dialect/dialect_internal.h"

enum { MOST_BODY = 64 << 10 };                  /* a longer one is read as if it were cut */
static const int64_t longest = 25 * CLOCK_HOUR; /* the longest day of the year in Los Angeles */
static const int64_t look_again = CLOCK_HOUR;

enum place { IS, BEGINS, HAS };

/* `status`: of which the word counts; 0: of any. */
/* clang-format off */
static const struct word {
	enum dialect dialect;
	enum dialect_role role;
	enum place place;
	const char *text;
	int status;
	enum dialect_failure why;
} words[] = {
	{ DIALECT_gemini,    DIALECT_ROLE_QUOTA,   HAS,    "PerDay",                                      429, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_gemini,    DIALECT_ROLE_MESSAGE, BEGINS, "Your prepayment credits are depleted",        429, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_openai,    DIALECT_ROLE_REASON,  IS,     "insufficient_quota",                          0,   DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_openai,    DIALECT_ROLE_REASON,  IS,     "billing_hard_limit_reached",                  0,   DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_openai,    DIALECT_ROLE_REASON,  IS,     "billing_not_active",                          0,   DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_openai,    DIALECT_ROLE_MESSAGE, HAS,    " per day",                                    429, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_openai,    DIALECT_ROLE_REASON,  IS,     "content_filter",                              0,   DIALECT_FAILURE_POLICY },
	{ DIALECT_openai,    DIALECT_ROLE_REASON,  IS,     "content_policy_violation",                    0,   DIALECT_FAILURE_POLICY },
	{ DIALECT_openai,    DIALECT_ROLE_REASON,  IS,     "ResponsibleAIPolicyViolation",                0,   DIALECT_FAILURE_POLICY },
	{ DIALECT_openai,    DIALECT_ROLE_MESSAGE, BEGINS, "Invalid prompt: your prompt was flagged",     400, DIALECT_FAILURE_POLICY },
	{ DIALECT_anthropic, DIALECT_ROLE_REASON,  IS,     "billing_error",                               0,   DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_anthropic, DIALECT_ROLE_MESSAGE, BEGINS, "Your credit balance is too low",              400, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_anthropic, DIALECT_ROLE_MESSAGE, BEGINS, "You have reached your specified API usage limits", 400, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_anthropic, DIALECT_ROLE_MESSAGE, HAS,    " daily rate limit",                           429, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_anthropic, DIALECT_ROLE_MESSAGE, HAS,    " tokens per day",                             429, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_anthropic, DIALECT_ROLE_MESSAGE, HAS,    " requests per day",                           429, DIALECT_FAILURE_EXHAUSTED },
	{ DIALECT_anthropic, DIALECT_ROLE_MESSAGE, BEGINS, "Output blocked by content filtering policy",  400, DIALECT_FAILURE_POLICY },
};

/* A limit with fields of its own. It is the one that refused when nothing of it remains, or when the body's type is its `kind`. */
static const struct limit {
	enum dialect dialect;
	const char *reset, *remaining, *kind;
} limits[] = {
	{ DIALECT_openai,    "x-ratelimit-reset-requests",             "x-ratelimit-remaining-requests",             "requests" },
	{ DIALECT_openai,    "x-ratelimit-reset-tokens",               "x-ratelimit-remaining-tokens",               "tokens" },
	{ DIALECT_anthropic, "anthropic-ratelimit-requests-reset",      "anthropic-ratelimit-requests-remaining",      "" },
	{ DIALECT_anthropic, "anthropic-ratelimit-tokens-reset",        "anthropic-ratelimit-tokens-remaining",        "" },
	{ DIALECT_anthropic, "anthropic-ratelimit-input-tokens-reset",  "anthropic-ratelimit-input-tokens-remaining",  "" },
	{ DIALECT_anthropic, "anthropic-ratelimit-output-tokens-reset", "anthropic-ratelimit-output-tokens-remaining", "" },
};
/* clang-format on */

struct fields {
	const struct pool_field *fields;
	size_t count;
	int64_t now;
};

/* What a body says. */
struct said {
	enum dialect dialect;
	int status;
	const struct dialect_table *table;
	struct json_scan *scan;
	enum dialect_failure why;
	bool day;                           /* the quota is one of a day, by its name */
	bool refused[ARRAY_LENGTH(limits)]; /* this limit did, by the body's type */
	int64_t delay;                      /* Google's RetryInfo; microseconds, -1: none */
};

/* ---- times ------------------------------------------------------------------------------------------------------- */

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* -1 stays -1. */
static int64_t clamp(int64_t wait)
{
	return wait < longest ? wait : longest;
}

/* An amount of `unit` microseconds: 35, 0.5, 1e30; -1: it is none. Never a wait that is shorter than what was told. */
static int64_t read_amount(struct slice text, int64_t unit)
{
	double amount;

	if (!text_decimal(text, &amount))
		return -1;
	amount *= (double)unit;
	return amount < (double)longest ? (int64_t)ceil(amount) : longest;
}

static int64_t until(int64_t moment, int64_t now)
{
	return moment <= now ? 0 : clamp(moment - now);
}

/* RFC 9110 section 10.2.3: seconds, or a date. Some write half seconds. */
static int64_t read_retry_after(struct slice text, int64_t now)
{
	int64_t wait = read_amount(text, CLOCK_SECOND), seconds;

	if (wait >= 0)
		return wait;
	return text_date(text, &seconds) ? until(seconds * CLOCK_SECOND, now) : -1;
}

/* ProtoJSON's Duration: "35s", "0.5s". */
static int64_t read_duration(struct slice text)
{
	return slice_ends(text, SLICE("s")) ? read_amount(slice_first(text, text.len - 1), CLOCK_SECOND) : -1;
}

static int64_t unit_of(struct slice name)
{
	static const struct {
		const char *name;
		int64_t microseconds;
	} units[] = { { "h", CLOCK_HOUR }, { "m", CLOCK_MINUTE }, { "s", CLOCK_SECOND }, { "ms", CLOCK_MILLISECOND } };

	for (size_t i = 0; i < ARRAY_LENGTH(units); i++)
		if (slice_equal(name, slice_of(units[i].name)))
			return units[i].microseconds;
	return -1;
}

static size_t length_of_number(struct slice text)
{
	size_t length = 0;

	while (length < text.len &&
	       ((text.data[length] >= '0' && text.data[length] <= '9') || text.data[length] == '.'))
		length++;
	return length;
}

/* OpenAI's, as Go prints durations: 7m12s, 1.5s, 20ms, 1h0m0s. Azure's are whole seconds; its -1 is none. */
static int64_t read_reset(struct slice text)
{
	int64_t sum = 0;

	if (length_of_number(text) == text.len)
		return read_amount(text, CLOCK_SECOND);
	while (text.len > 0) {
		size_t number = length_of_number(text), end = number;
		while (end < text.len && text.data[end] >= 'a' && text.data[end] <= 'z')
			end++;
		int64_t unit = unit_of(slice_skip(slice_first(text, end), number));
		int64_t part = unit < 0 ? -1 : read_amount(slice_first(text, number), unit);
		if (part < 0)
			return -1;
		sum = clamp(sum + part);
		text = slice_skip(text, end);
	}
	return sum;
}

/* ---- days of Google's -------------------------------------------------------------------------------------------- */

/* Days since 1970-01-01 of the `nth` Sunday of a month, which counts from 0. 1970-01-01 was a Thursday. */
static int64_t sunday(int year, int month, int nth)
{
	struct tm first = { .tm_year = year, .tm_mon = month, .tm_mday = 1 };
	int64_t day = (int64_t)timegm(&first) / 86400;

	return day + (3 - day % 7 + 7) % 7 + INT64_C(7) * (nth - 1);
}

/* From the second Sunday of March, 2:00 (10:00 UTC), to the first of November, 2:00 (9:00 UTC): Energy Policy Act of 2005, section 110. */
static bool is_daylight(int64_t second)
{
	time_t at = (time_t)second;
	struct tm date;

	if (gmtime_r(&at, &date) == NULL)
		return false;
	return second >= sunday(date.tm_year, 2, 2) * 86400 + 10 * 3600 &&
	       second < sunday(date.tm_year, 10, 1) * 86400 + 9 * 3600;
}

/* Quotas of a day are given anew at midnight in Los Angeles, which no change of the clock touches. */
static int64_t until_midnight(int64_t now)
{
	const int64_t summer = 7 * 3600, winter = 8 * 3600;
	int64_t second = now / CLOCK_SECOND, local = second - (is_daylight(second) ? summer : winter);
	int64_t midnight = local - (local % 86400 + 86400) % 86400 + 86400;

	midnight += is_daylight(midnight + summer) ? summer : winter;
	return until(midnight * CLOCK_SECOND, now);
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

static const struct dialect_table *table_of(enum dialect dialect)
{
	switch (dialect) {
	case DIALECT_gemini:
		return &dialect_gemini_failure;
	case DIALECT_openai:
		return &dialect_openai_failure;
	case DIALECT_anthropic:
		return &dialect_anthropic_failure;
	case DIALECT_http:
	case DIALECT_COUNT:
		break;
	}
	return NULL;
}

static bool stands(struct slice text, const struct word *word)
{
	struct slice wanted = slice_of(word->text);

	if (word->place == IS)
		return slice_equal(text, wanted);
	if (word->place == BEGINS)
		return slice_starts(text, wanted);
	for (size_t at = 0; at < text.len; at++)
		if (slice_starts(slice_skip(text, at), wanted))
			return true;
	return false;
}

/* A string has ended; there may be many at one path. */
static void hear(void *arg, size_t path)
{
	struct said *said = arg;
	const struct json_member *member = json_scan_member(said->scan, path);
	enum dialect_role role = said->table->paths[path].role;

	if (member->type != JSON_MEMBER_STRING)
		return;
	if (role == DIALECT_ROLE_DELAY)
		said->delay = later(said->delay, member->cut ? -1 : read_duration(member->text));
	for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
		const struct word *word = &words[i];
		if (word->dialect != said->dialect || word->role != role ||
		    (word->status != 0 && word->status != said->status) || !stands(member->text, word))
			continue;
		said->why = word->why > said->why ? word->why : said->why;
		said->day |= role == DIALECT_ROLE_QUOTA;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(limits) && role == DIALECT_ROLE_REASON; i++)
		said->refused[i] |=
			limits[i].dialect == said->dialect && slice_equal(member->text, slice_of(limits[i].kind));
}

/* All of it, or nothing: what is cut, or no JSON, leaves `said` as it was. */
static void read_body(struct said *said, struct slice body)
{
	const struct json_scan_options options = { .max_bytes = MOST_BODY, .heard = hear, .arg = said };
	struct said before = *said;

	said->scan = json_scan_new(dialect_plan(said->table), &options);
	(void)json_scan_feed(said->scan, body); /* json_scan_finish tells */
	bool whole = json_scan_finish(said->scan) == JSON_SCAN_WHOLE;
	json_scan_free(&said->scan);
	if (!whole)
		*said = before;
}

/* ---- the fields -------------------------------------------------------------------------------------------------- */

static bool is_named(const struct pool_field *field, const char *name)
{
	return slice_equal_nocase(field->name, slice_of(name));
}

/* The finer retry-after-ms wins; of several of a name the longest wait; -1: none can be read. */
static int64_t asked_wait(const struct fields *f)
{
	int64_t fine = -1, plain = -1;

	for (size_t i = 0; i < f->count; i++) {
		struct slice value = slice_trim(f->fields[i].value);
		if (is_named(&f->fields[i], "retry-after-ms"))
			fine = later(fine, read_amount(value, CLOCK_MILLISECOND));
		else if (is_named(&f->fields[i], "retry-after"))
			plain = later(plain, read_retry_after(value, f->now));
	}
	return fine >= 0 ? fine : plain;
}

static bool is_used_up(const struct fields *f, const struct limit *limit)
{
	int64_t remaining;

	for (size_t i = 0; i < f->count; i++)
		if (is_named(&f->fields[i], limit->remaining) && text_int(slice_trim(f->fields[i].value), &remaining) &&
		    remaining == 0)
			return true;
	return false;
}

static int64_t reset_of(const struct fields *f, const struct limit *limit)
{
	int64_t wait = -1, moment;

	for (size_t i = 0; i < f->count; i++) {
		struct slice value = slice_trim(f->fields[i].value);
		if (!is_named(&f->fields[i], limit->reset))
			continue;
		if (limit->dialect == DIALECT_openai)
			wait = later(wait, read_reset(value));
		else if (text_timestamp(value, &moment))
			wait = later(wait, until(moment, f->now));
	}
	return wait;
}

/* When the limits that refused are whole again. */
static int64_t reset_wait(const struct fields *f, const struct said *said)
{
	int64_t wait = -1;

	for (size_t i = 0; i < ARRAY_LENGTH(limits); i++)
		if (limits[i].dialect == said->dialect && (said->refused[i] || is_used_up(f, &limits[i])))
			wait = later(wait, reset_of(f, &limits[i]));
	return wait;
}

static enum dialect_failure by_status(enum dialect dialect, int status)
{
	if (status == 429)
		return DIALECT_FAILURE_LIMITED;
	/* Payment Required. Of an API that we do not know it may be the one call that is not paid for. */
	return status == 402 && dialect != DIALECT_http ? DIALECT_FAILURE_EXHAUSTED : DIALECT_FAILURE_OTHER;
}

/* Google's RetryInfo tells seconds also where the quota is one of a day. */
static int64_t wait_of_exhausted(const struct fields *f, const struct said *said)
{
	if (said->day)
		return until_midnight(f->now);
	int64_t wait = later(asked_wait(f), reset_wait(f, said));
	return wait >= 0 ? wait : look_again;
}

static int64_t wait_of_others(const struct fields *f, const struct said *said)
{
	int64_t wait = asked_wait(f);

	if (wait < 0)
		wait = said->delay;
	return wait < 0 && said->why == DIALECT_FAILURE_LIMITED ? reset_wait(f, said) : wait;
}

void dialect_read_failure(enum dialect dialect, int status, const struct pool_field *fields, size_t fields_count,
			  struct slice body, int64_t now, struct dialect_failed *failed)
{
	const struct fields f = { fields, fields_count, now };
	struct said said = { .dialect = dialect,
			     .status = status,
			     .table = table_of(dialect),
			     .why = by_status(dialect, status),
			     .delay = -1 };

	if (said.table != NULL && body.len > 0)
		read_body(&said, body);
	failed->why = said.why;
	failed->retry_after =
		said.why == DIALECT_FAILURE_EXHAUSTED ? wait_of_exhausted(&f, &said) : wait_of_others(&f, &said);
}

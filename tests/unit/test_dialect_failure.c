/* svc/dialect/failure: what the providers' own errors mean, when a call may come again, and that nobody's bytes can make it wait for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/pool.h"
#include "svc/dialect.h"
#include "tests/support/random.h"

#define NOON    (INT64_C(1784116800) * CLOCK_SECOND) /* 2026-07-15 12:00:00 UTC, 5:00 in Los Angeles */
#define S       CLOCK_SECOND
#define LONGEST (25 * CLOCK_HOUR)
#define DAY     (19 * CLOCK_HOUR) /* what is left of it there */

enum { MOST_FIELDS = 16 };

static const char *const names[] = { "other", "limited", "exhausted", "policy" };

/* `fields`: "name: value" lines. The body is given in memory of its own length, so that a sanitizer sees who reads on. */
static struct dialect_failed read_failure(enum dialect dialect, int status, const char *fields, struct slice body,
					  int64_t now)
{
	struct pool_field list[MOST_FIELDS] = { 0 };
	struct slice rest = slice_of(fields);
	struct dialect_failed failed;
	size_t count = 0;
	char *copy = malloc(body.len > 0 ? body.len : 1);

	if (body.len > 0)
		memcpy(copy, body.data, body.len);
	while (rest.len > 0) {
		struct slice value, name = slice_cut(slice_cut(rest, '\n', &rest), ':', &value);
		assert_true(count < MOST_FIELDS);
		list[count++] = (struct pool_field){ name, slice_trim(value) };
	}
	memset(&failed, 0xA5, sizeof(failed));
	dialect_read_failure(dialect, status, list, count, slice_make(copy, body.len), now, &failed);
	free(copy);
	return failed;
}

struct sample {
	enum dialect dialect;
	int status;
	const char *fields, *body;
	enum dialect_failure why;
	int64_t retry_after;
};

static void check(const struct sample *samples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct sample *s = &samples[i];
		struct dialect_failed f = read_failure(s->dialect, s->status, s->fields, slice_of(s->body), NOON);
		if (f.why != s->why || f.retry_after != s->retry_after)
			fail_msg("row %zu (%d %s %s): %s, %lld", i, s->status, s->fields, s->body, names[f.why],
				 (long long)f.retry_after);
	}
}

/* clang-format off */
#define OTHER     DIALECT_FAILURE_OTHER
#define LIMITED   DIALECT_FAILURE_LIMITED
#define EXHAUSTED DIALECT_FAILURE_EXHAUSTED
#define POLICY    DIALECT_FAILURE_POLICY

#define GOOGLE(details)        "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota, please check your plan and billing details.\",\"status\":\"RESOURCE_EXHAUSTED\"" details "}}"
#define DETAILS(list)          ",\"details\":[" list "]"
#define VIOLATION(quota)       "{\"quotaMetric\":\"generativelanguage.googleapis.com/generate_content_free_tier_requests\",\"quotaId\":\"" quota "\",\"quotaDimensions\":{\"location\":\"global\",\"model\":\"gemini-2.5-flash\"},\"quotaValue\":\"250\"}"
#define FAILURES(violations)   "{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[" violations "]}"
#define HELP                   "{\"@type\":\"type.googleapis.com/google.rpc.Help\",\"links\":[{\"description\":\"Learn more about Gemini API quotas\",\"url\":\"https://ai.google.dev/gemini-api/docs/rate-limits\"}]}"
#define RETRY(delay)           "{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":" delay "}"
#define PER_MINUTE             VIOLATION("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
#define PER_DAY                VIOLATION("GenerateRequestsPerDayPerProjectPerModel-FreeTier")

#define OPENAI(message, type, code)    "{\"error\":{\"message\":\"" message "\",\"type\":" type ",\"param\":null,\"code\":" code "}}"
#define REACHED(limit)                 "Rate limit reached for gpt-4o-mini in organization org-x on " limit ": Limit 200, Used 200, Requested 1. Please try again in 7m12s."
#define AZURE_FILTER                   "{\"error\":{\"message\":\"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.\",\"type\":null,\"param\":\"prompt\",\"code\":\"content_filter\",\"status\":400,\"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\",\"content_filter_result\":{\"violence\":{\"filtered\":true,\"severity\":\"medium\"}}}}}"

#define ANTHROPIC(type, message)       "{\"type\":\"error\",\"error\":{\"details\":null,\"type\":\"" type "\",\"message\":\"" message "\"},\"request_id\":\"req_1\"}"
#define THIS_WOULD                     "This request would exceed your organization's rate limit of 50,000 input tokens per minute."

static const struct sample google[] = {
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(FAILURES(PER_MINUTE) "," HELP "," RETRY("\"35s\""))), LIMITED, 35 * S },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(FAILURES(PER_MINUTE) "," RETRY("\"0.5s\""))), LIMITED, S / 2 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"20.04466179s\""))), LIMITED, 20044662 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(FAILURES(PER_MINUTE))), LIMITED, -1 },
	/* A day's quota ends with the day, whatever RetryInfo says; also among others. */
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(FAILURES(PER_DAY) "," HELP "," RETRY("\"35s\""))), EXHAUSTED, DAY },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(FAILURES(PER_MINUTE "," PER_DAY "," PER_MINUTE))), EXHAUSTED, DAY },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"9s\"") "," FAILURES(PER_DAY))), EXHAUSTED, DAY },
	{ DIALECT_gemini, 429, "retry-after: 3", "[" GOOGLE(DETAILS(FAILURES(PER_DAY))) "\n]", EXHAUSTED, DAY },
	{ DIALECT_gemini, 429, "", "[" GOOGLE(DETAILS(RETRY("\"35s\""))) "]", LIMITED, 35 * S },
	/* Vertex, with and without its ErrorInfo. */
	{ DIALECT_gemini, 429, "", "{\"error\":{\"code\":429,\"message\":\"Resource exhausted. Please try again later.\",\"errors\":[{\"message\":\"Resource exhausted.\",\"domain\":\"global\",\"reason\":\"rateLimitExceeded\"}],\"status\":\"RESOURCE_EXHAUSTED\"}}", LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS("{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"RATE_LIMIT_EXCEEDED\",\"domain\":\"googleapis.com\",\"metadata\":{\"quota_limit\":\"GenerateContentRequestsPerDayPerProjectPerRegion\",\"service\":\"aiplatform.googleapis.com\"}}")), EXHAUSTED, DAY },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS("{\"metadata\":{\"quota_limit\":\"GenerateContentRequestsPerMinutePerProjectPerRegion\"}}")), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", "{\"error\":{\"code\":429,\"message\":\"Your prepayment credits are depleted. Please go to AI Studio.\",\"status\":\"RESOURCE_EXHAUSTED\"}}", EXHAUSTED, CLOCK_HOUR },
	/* Not a limit. */
	{ DIALECT_gemini, 503, "", "{\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}", OTHER, -1 },
	{ DIALECT_gemini, 503, "", GOOGLE(DETAILS(RETRY("\"2s\""))), OTHER, 2 * S },
	{ DIALECT_gemini, 400, "", GOOGLE(DETAILS(FAILURES(PER_DAY))), OTHER, -1 },
	{ DIALECT_gemini, 400, "", "{\"error\":{\"code\":400,\"message\":\"Invalid value at 'x' PerDay per day (RPD)\"}}", OTHER, -1 },
	/* No duration. */
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"-5s\""))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"NaNs\""))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"s\""))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"\""))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("35"))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("{\"seconds\":35}"))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"1000000000000000000000000000000s\""))), LIMITED, LONGEST },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"1e400s\""))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"90000.1s\""))), LIMITED, LONGEST },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"00000000000000000000000000000000000000000000000000000000000000000000000001s\""))), LIMITED, -1 },
	{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(RETRY("\"3s\"") "," RETRY("\"9s\"") "," RETRY("\"6s\""))), LIMITED, 9 * S },
	/* What two readers could understand differently says nothing. */
	{ DIALECT_gemini, 429, "", "{\"error\":{\"details\":[{\"retryDelay\":\"3s\",\"retryDelay\":\"9s\"}]}}", LIMITED, -1 },
	{ DIALECT_gemini, 429, "", "{\"error\":{},\"error\":{\"details\":[" FAILURES(PER_DAY) "]}}", LIMITED, -1 },
	{ DIALECT_gemini, 429, "", "{\"error\":{\"error\":{\"details\":[" FAILURES(PER_DAY) "]}}}", LIMITED, -1 },
	{ DIALECT_gemini, 429, "", "<html>429 Too Many Requests PerDay</html>", LIMITED, -1 },
};

static const struct sample openai[] = {
	{ DIALECT_openai, 429, "retry-after-ms: 1500\nretry-after: 2", OPENAI(REACHED("tokens per min (TPM)"), "\"tokens\"", "\"rate_limit_exceeded\""), LIMITED, 1500000 },
	/* The reset of the limit that refused, not the other's. */
	{ DIALECT_openai, 429, "x-ratelimit-reset-requests: 24h0m0s\nx-ratelimit-reset-tokens: 1.5s", OPENAI(REACHED("tokens per min (TPM)"), "\"tokens\"", "\"rate_limit_exceeded\""), LIMITED, 1500000 },
	{ DIALECT_openai, 429, "x-ratelimit-reset-requests: 20ms\nx-ratelimit-reset-tokens: 6m0s", OPENAI(REACHED("requests per min (RPM)"), "\"requests\"", "\"rate_limit_exceeded\""), LIMITED, 20000 },
	{ DIALECT_openai, 429, "x-ratelimit-remaining-requests: 499\nx-ratelimit-reset-requests: 120ms\nx-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 8s", "", LIMITED, 8 * S },
	{ DIALECT_openai, 429, "x-ratelimit-remaining-requests: 499\nx-ratelimit-reset-requests: 120ms", "", LIMITED, -1 },
	/* A day's. */
	{ DIALECT_openai, 429, "retry-after: 432\nx-ratelimit-reset-requests: 7m12s\nx-ratelimit-reset-tokens: 1ms", OPENAI(REACHED("requests per day (RPD)"), "\"requests\"", "\"rate_limit_exceeded\""), EXHAUSTED, 432 * S },
	{ DIALECT_openai, 429, "retry-after: 9\nx-ratelimit-reset-requests: 23h59m51.36s", OPENAI(REACHED("requests per day (RPD)"), "\"requests\"", "\"rate_limit_exceeded\""), EXHAUSTED, 86391360000 },
	{ DIALECT_openai, 429, "retry-after: 500", OPENAI(REACHED("tokens per day (TPD)"), "\"tokens\"", "\"rate_limit_exceeded\""), EXHAUSTED, 500 * S },
	{ DIALECT_openai, 429, "", OPENAI(REACHED("tokens per day (TPD)"), "\"tokens\"", "\"rate_limit_exceeded\""), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_openai, 429, "", "{\"error\":{\"message\":\"Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day\",\"code\":429}}", EXHAUSTED, CLOCK_HOUR },
	/* A credit. */
	{ DIALECT_openai, 429, "x-ratelimit-reset-requests: 1s", OPENAI("You exceeded your current quota, please check your plan and billing details.", "\"insufficient_quota\"", "\"insufficient_quota\""), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_openai, 429, "", OPENAI("You exceeded your current quota.", "\"insufficient_quota\"", "null"), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_openai, 429, "", OPENAI("Your account is not active.", "\"billing_not_active\"", "\"billing_not_active\""), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_openai, 400, "", OPENAI("Billing hard limit has been reached", "\"invalid_request_error\"", "\"billing_hard_limit_reached\""), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_openai, 402, "", "{\"error\":{\"message\":\"Insufficient Balance\",\"type\":\"unknown_error\",\"param\":null,\"code\":\"invalid_request_error\"}}", EXHAUSTED, CLOCK_HOUR },
	/* Policy. */
	{ DIALECT_openai, 400, "", AZURE_FILTER, POLICY, -1 },
	{ DIALECT_openai, 400, "", OPENAI("Your request was rejected.", "\"invalid_request_error\"", "\"content_policy_violation\""), POLICY, -1 },
	{ DIALECT_openai, 400, "", "{\"error\":{\"code\":\"BadRequest\",\"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\"}}}", POLICY, -1 },
	{ DIALECT_openai, 400, "", OPENAI("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "\"invalid_request_error\"", "\"invalid_prompt\""), POLICY, -1 },
	/* A client's own words, quoted by the provider, have nothing benched. */
	{ DIALECT_openai, 400, "", OPENAI("Invalid value: 'requests per day (RPD)'. Supported values are: 'text'.", "\"invalid_request_error\"", "\"invalid_value\""), OTHER, -1 },
	{ DIALECT_openai, 400, "", OPENAI("Invalid value: 'Invalid prompt: your prompt was flagged'", "\"invalid_request_error\"", "\"invalid_value\""), OTHER, -1 },
	/* Azure: whole seconds, and -1 for what it does not know. */
	{ DIALECT_openai, 429, "retry-after: 6\nx-ratelimit-reset-tokens: 6", "{\"error\":{\"code\":\"429\",\"message\":\"Requests to the ChatCompletions_Create Operation have exceeded token rate limit. Please retry after 6 seconds.\"}}", LIMITED, 6 * S },
	{ DIALECT_openai, 429, "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 6", "", LIMITED, 6 * S },
	{ DIALECT_openai, 429, "x-ratelimit-remaining-tokens: -1\nx-ratelimit-reset-tokens: 0", "", LIMITED, -1 },
	{ DIALECT_openai, 500, "", OPENAI("The server had an error", "\"server_error\"", "null"), OTHER, -1 },
	{ DIALECT_openai, 503, "retry-after: 3\nx-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 9s", "", OTHER, 3 * S },
	{ DIALECT_openai, 503, "x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 9s", "", OTHER, -1 },
};

#define RESET(value) "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: " value
#define RESETS(value, wait) { DIALECT_openai, 429, RESET(value), "", LIMITED, wait }
static const struct sample durations[] = {
	RESETS("7m12s", 432 * S), RESETS("1h0m0s", CLOCK_HOUR), RESETS("1h30m2.5s", 5402500000), RESETS("20ms", 20000), RESETS("1.5s", 1500000), RESETS("0s", 0),
	RESETS("0", 0), RESETS("12", 12 * S), RESETS("0.25", 250000), RESETS("24h0m0s", 24 * CLOCK_HOUR), RESETS("999999h", LONGEST),
	RESETS("99999999999999999999999999999999h99999999999999999999999999999999h", LONGEST), RESETS("1000000000000000000000000000000", LONGEST),
	RESETS("", -1), RESETS("s", -1), RESETS("-1", -1), RESETS("-7m12s", -1), RESETS("7m-12s", -1), RESETS("7x", -1), RESETS("7m12", -1), RESETS("7m 12s", -1),
	RESETS("1.2.3s", -1), RESETS(".s", -1), RESETS("NaN", -1), RESETS("inf", -1), RESETS("1s\n" RESET("9s") "\n" RESET("3s"), 9 * S),
};

static const struct sample anthropic[] = {
	{ DIALECT_anthropic, 429, "retry-after: 12\nanthropic-ratelimit-requests-reset: 2026-07-15T12:01:00Z", ANTHROPIC("rate_limit_error", THIS_WOULD), LIMITED, 12 * S },
	/* Without it: the latest of those that are used up. */
	{ DIALECT_anthropic, 429, "anthropic-ratelimit-requests-remaining: 49\nanthropic-ratelimit-requests-reset: 2026-07-15T13:00:00Z\nanthropic-ratelimit-input-tokens-remaining: 0\nanthropic-ratelimit-input-tokens-reset: 2026-07-15T12:00:40Z\n"
				  "anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 2026-07-15T12:00:41.5Z", ANTHROPIC("rate_limit_error", THIS_WOULD), LIMITED, 41500000 },
	{ DIALECT_anthropic, 429, "anthropic-ratelimit-output-tokens-remaining: 0\nanthropic-ratelimit-output-tokens-reset: 2026-07-15T11:59:00Z", "", LIMITED, 0 },
	{ DIALECT_anthropic, 429, "anthropic-ratelimit-requests-remaining: 0\nanthropic-ratelimit-requests-reset: 9999-12-31T23:59:59Z", "", LIMITED, LONGEST },
	{ DIALECT_anthropic, 429, "anthropic-ratelimit-requests-remaining: 0\nanthropic-ratelimit-requests-reset: tomorrow", "", LIMITED, -1 },
	{ DIALECT_anthropic, 429, "anthropic-ratelimit-requests-reset: 2026-07-15T12:01:00Z", "", LIMITED, -1 },
	{ DIALECT_anthropic, 429, "retry-after: 60\nanthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 2026-07-16T00:00:00Z", ANTHROPIC("rate_limit_error", "Number of request tokens has exceeded your daily rate limit (https://docs.anthropic.com/en/api/rate-limits)"), EXHAUSTED, 12 * CLOCK_HOUR },
	{ DIALECT_anthropic, 429, "", ANTHROPIC("rate_limit_error", "This request would exceed your organization's rate limit of 2,500,000 tokens per day."), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_anthropic, 429, "", ANTHROPIC("rate_limit_error", "Number of request tokens has exceeded your per-minute rate limit"), LIMITED, -1 },
	{ DIALECT_anthropic, 400, "", ANTHROPIC("invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_anthropic, 400, "", ANTHROPIC("invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2026-08-01 at 00:00 UTC."), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_anthropic, 402, "", ANTHROPIC("billing_error", "There is an issue with your billing."), EXHAUSTED, CLOCK_HOUR },
	{ DIALECT_anthropic, 400, "", ANTHROPIC("invalid_request_error", "Output blocked by content filtering policy"), POLICY, -1 },
	{ DIALECT_anthropic, 400, "", ANTHROPIC("invalid_request_error", "messages.0.role: Your credit balance is too low"), OTHER, -1 },
	{ DIALECT_anthropic, 529, "", ANTHROPIC("overloaded_error", "Overloaded"), OTHER, -1 },
	{ DIALECT_anthropic, 529, "retry-after: 5", ANTHROPIC("overloaded_error", "Overloaded"), OTHER, 5 * S },
	{ DIALECT_anthropic, 400, "", "{\"type\":\"error\",\"error\":\"Output blocked by content filtering policy\"}", OTHER, -1 },
};

#define AFTER(value, wait) { DIALECT_http, 503, value, "", OTHER, wait }
static const struct sample plain[] = {
	{ DIALECT_http, 429, "Retry-After: 7", GOOGLE(DETAILS(FAILURES(PER_DAY))), LIMITED, 7 * S },
	{ DIALECT_http, 429, "", "", LIMITED, -1 },
	{ DIALECT_http, 402, "", "", OTHER, -1 },
	AFTER("", -1), AFTER("RETRY-AFTER: 120", 120 * S), AFTER("Retry-After:   3  ", 3 * S), AFTER("Retry-After: 0", 0), AFTER("Retry-After: 0.5", S / 2),
	AFTER("Retry-After: -1", -1), AFTER("Retry-After: +1", -1), AFTER("Retry-After: NaN", -1), AFTER("Retry-After: inf", -1), AFTER("Retry-After: 0x10", -1),
	AFTER("Retry-After: 1, 2", -1), AFTER("Retry-After:", -1), AFTER("Retry-After: 99999999999999999999", LONGEST), AFTER("Retry-After: 1e30", LONGEST),
	AFTER("Retry-After: 1e999", -1), AFTER("Retry-After: 9223372036854775807", LONGEST), AFTER("Retry-After: 90000", LONGEST), AFTER("Retry-After: 89999", 89999 * S),
	AFTER("Retry-After: 1e-9", 1),
	AFTER("Retry-After: Wed, 15 Jul 2026 12:00:30 GMT", 30 * S), AFTER("Retry-After: Wednesday, 15-Jul-26 12:00:30 GMT", 30 * S), AFTER("Retry-After: Wed Jul 15 12:00:30 2026", 30 * S),
	AFTER("Retry-After: Wed, 15 Jul 2026 11:00:30 GMT", 0), AFTER("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", LONGEST), AFTER("Retry-After: Wed, 15 Jul 2026 12:00:30 CET", -1),
	AFTER("retry-after-ms: 250", 250000), AFTER("retry-after-ms: 0.5", 500), AFTER("retry-after-ms: -5", -1), AFTER("retry-after-ms: 1e30", LONGEST),
	AFTER("Retry-After: 2\nretry-after-ms: 1500", 1500000), AFTER("retry-after-ms: soon\nRetry-After: 2", 2 * S),
	AFTER("Retry-After: 2\nRetry-After: 9\nRetry-After: 4\nRetry-After: x", 9 * S),
};
/* clang-format on */

#define CHECKS(name, table)                                                                                            \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		check(table, ARRAY_LENGTH(table));                                                                     \
	}
CHECKS(reads_google, google)
CHECKS(reads_openai, openai)
CHECKS(reads_durations, durations)
CHECKS(reads_anthropic, anthropic)
CHECKS(reads_retry_after, plain)

/* When the quotas of Google's day are given anew: Unix seconds, and seconds until midnight in Los Angeles, by the time zone database. */
static void days_end_in_los_angeles(void **state)
{
	static const struct {
		int64_t now, wait;
	} days[] = {
		{ 1768478400, 72000 }, /* 2026-01-15 04:00 winter */
		{ 1784116800, 68400 }, /* 2026-07-15 05:00 summer */
		{ 1772956799, 1 },     /* the 8th of March 2026 has 23 hours */
		{ 1772956800, 82800 },
		{ 1772963999, 75601 }, /* 1:59:59 */
		{ 1772964000, 75600 }, /* 3:00:00 */
		{ 1773039599, 1 },
		{ 1773039600, 86400 },
		{ 1793516399, 1 }, /* the 1st of November 2026 has 25 */
		{ 1793516400, 90000 },
		{ 1793523599, 82801 }, /* 1:59:59, for the first time: an hour and the night more */
		{ 1793523600, 82800 }, /* 1:00:00, for the second */
		{ 1793606399, 1 },
		{ 1793606400, 86400 },
		{ 1710057600, 82800 }, /* 2024: the 10th of March, the 3rd of November */
		{ 1730617200, 90000 },
		{ 1805011200, 82800 }, /* 2027: as late as it can be, the 14th and the 7th */
		{ 1825570800, 90000 },
		{ 1425808800, 75600 }, /* 2015: as early, the 8th and the 1st */
		{ 1446368400, 82800 },
		{ 1798718400, 72000 }, /* the turn of a year, which UTC takes first */
		{ 1798772400, 18000 },
		{ 1798790400, 86400 },
	};
	static const struct slice body = { GOOGLE(DETAILS(FAILURES(PER_DAY))),
					   sizeof(GOOGLE(DETAILS(FAILURES(PER_DAY)))) - 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(days); i++) {
		struct dialect_failed f = read_failure(DIALECT_gemini, 429, "", body, days[i].now * CLOCK_SECOND);
		assert_int_equal(f.retry_after, days[i].wait * CLOCK_SECOND);
		f = read_failure(DIALECT_gemini, 429, "", body, days[i].now * CLOCK_SECOND + 1);
		assert_int_equal(f.retry_after, days[i].wait * CLOCK_SECOND - 1);
	}
}

static void cut_bodies_mean_what_their_status_says(void **state)
{
	static const struct sample wholes[] = {
		{ DIALECT_gemini, 429, "", GOOGLE(DETAILS(FAILURES(PER_DAY) "," RETRY("\"35s\""))), LIMITED, -1 },
		{ DIALECT_openai, 400, "", AZURE_FILTER, OTHER, -1 },
		{ DIALECT_openai, 429, "retry-after: 2", OPENAI("x", "\"insufficient_quota\"", "null"), LIMITED,
		  2 * CLOCK_SECOND },
		{ DIALECT_anthropic, 400, "",
		  ANTHROPIC("invalid_request_error", "Output blocked by content filtering policy"), OTHER, -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(wholes); i++)
		for (size_t length = 0; length < strlen(wholes[i].body); length++) {
			struct slice body = slice_make(wholes[i].body, length);
			struct dialect_failed f =
				read_failure(wholes[i].dialect, wholes[i].status, wholes[i].fields, body, NOON);
			assert_int_equal(f.why, wholes[i].why);
			assert_int_equal(f.retry_after, wholes[i].retry_after);
		}
}

/* 64 KiB are read; of more, and of what is nested deeper than anybody's error, only the status counts. */
static void long_and_deep_bodies_are_not_read(void **state)
{
	static const char head[] = "{\"error\":{\"code\":\"insufficient_quota\"},\"x\":\"", tail[] = "\"}";
	const size_t most = 64 << 10, around = sizeof(head) + sizeof(tail) - 2;
	char *body = malloc(most + 1);

	(void)state;
	for (size_t length = most; length <= most + 1; length++) {
		memset(body, 'x', length);
		memcpy(body, head, sizeof(head) - 1);
		memcpy(body + length - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
		assert_true(length > around);
		struct dialect_failed f = read_failure(DIALECT_openai, 429, "", slice_make(body, length), NOON);
		assert_int_equal(f.why, length == most ? DIALECT_FAILURE_EXHAUSTED : DIALECT_FAILURE_LIMITED);
	}
	memset(body, '[', most);
	assert_int_equal(read_failure(DIALECT_gemini, 429, "", slice_make(body, most), NOON).why,
			 DIALECT_FAILURE_LIMITED);
	free(body);
}

/* Any byte of a good answer changed to any other: an answer still, and no wait that is negative or longer than the longest day. */
static void waits_are_bounded_whatever_comes(void **state)
{
	static const char whole[] = GOOGLE(DETAILS(FAILURES(PER_DAY) "," RETRY("\"35s\"")));
	static const char *const fields[] = { "Retry-After: Wed, 15 Jul 2026 12:00:30 GMT", RESET("7m12.5s"),
					      ("anthropic-ratelimit-tokens-remaining: 0\n"
					       "anthropic-ratelimit-tokens-reset: 2026-07-15T12:00:41.5Z") };
	uint64_t seed = 529;

	(void)state;
	for (int i = 0; i < 60000; i++) {
		char body[sizeof(whole)], field[160];
		memcpy(body, whole, sizeof(whole));
		strcpy(field, fields[i % 3]);
		body[random_below(&seed, sizeof(whole) - 1)] = (char)random_below(&seed, 256);
		size_t at = random_below(&seed, (uint32_t)strlen(field));
		field[at] = (char)(1 + random_below(&seed, 255));
		enum dialect dialect = i % 3 == 0 ? DIALECT_gemini : i % 3 == 1 ? DIALECT_openai : DIALECT_anthropic;
		struct dialect_failed f = read_failure(dialect, 429, field, slice_make(body, sizeof(whole) - 1), NOON);
		assert_true(f.why == DIALECT_FAILURE_LIMITED || f.why == DIALECT_FAILURE_EXHAUSTED);
		assert_true(f.retry_after >= -1 && f.retry_after <= LONGEST);
		assert_true(f.why != DIALECT_FAILURE_EXHAUSTED || f.retry_after >= 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_google),
		cmocka_unit_test(reads_openai),
		cmocka_unit_test(reads_durations),
		cmocka_unit_test(reads_anthropic),
		cmocka_unit_test(reads_retry_after),
		cmocka_unit_test(days_end_in_los_angeles),
		cmocka_unit_test(cut_bodies_mean_what_their_status_says),
		cmocka_unit_test(long_and_deep_bodies_are_not_read),
		cmocka_unit_test(waits_are_bounded_whatever_comes),
	};

	return cmocka_run_group_tests_name("dialect failure", tests, NULL, NULL);
}

#include "refusal.h"

#include <time.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "wording.h"

/* clang-format off */
/* Per reason and dialect: status, the dialect's type or status word, code (OpenAI), parameter (OpenAI), text. A text's "%" stands
 * for the one detail of the reason (the model, the member, the key). NULL text: the row of REFUSAL_STATUS decides. */
struct phrase {
	int status;
	const char *type, *code, *parameter, *text;
};

static const struct phrase gemini[] = {
	[REFUSAL_NO_KEY]        = { 403, "PERMISSION_DENIED", 0, 0, "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API." },
	[REFUSAL_BAD_KEY]       = { 400, "INVALID_ARGUMENT", 0, 0, "API key not valid. Please pass a valid API key." },
	[REFUSAL_NO_VERSION]    = { 400, "INVALID_ARGUMENT", 0, 0, "Request contains an invalid argument." },
	[REFUSAL_NO_PATH]       = { 404, "NOT_FOUND", 0, 0, "Requested entity was not found." },
	[REFUSAL_METHOD]        = { 404, "NOT_FOUND", 0, 0, "Requested entity was not found." },
	[REFUSAL_NOT_JSON]      = { 400, "INVALID_ARGUMENT", 0, 0, "Invalid JSON payload received. Unexpected end of string. Expected a value.\\n\\n^" },
	[REFUSAL_NO_MODEL]      = { 400, "INVALID_ARGUMENT", 0, 0, "* GenerateContentRequest.model: unexpected model name format\\n" },
	[REFUSAL_NO_MESSAGES]   = { 400, "INVALID_ARGUMENT", 0, 0, "* %: contents is not specified\\n" },
	[REFUSAL_NO_MAXIMUM]    = { 400, "INVALID_ARGUMENT", 0, 0, "Request contains an invalid argument." },
	[REFUSAL_UNKNOWN_MODEL] = { 404, "NOT_FOUND", 0, 0, "models/% is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods." },
	[REFUSAL_TOO_LARGE]     = { 400, "INVALID_ARGUMENT", 0, 0, "Request payload size exceeds the limit: 104857600 bytes." },
	[REFUSAL_RPM]           = { 429, "RESOURCE_EXHAUSTED", "generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel", 0 },
	[REFUSAL_TPM]           = { 429, "RESOURCE_EXHAUSTED", "generate_content_paid_tier_input_token_count", "GenerateContentPaidTierInputTokensPerModelPerMinute", 0 },
	[REFUSAL_CONCURRENCY]   = { 429, "RESOURCE_EXHAUSTED", "concurrent_requests", "ConcurrentRequestsPerProjectPerModel", 0 },
	[REFUSAL_QUOTA_MINUTE]  = { 429, "RESOURCE_EXHAUSTED", "generate_content_free_tier_requests", "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", 0 },
	[REFUSAL_QUOTA_DAY]     = { 429, "RESOURCE_EXHAUSTED", "generate_content_free_tier_requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier", 0 },
	[REFUSAL_QUOTA_CREDIT]  = { 429, "RESOURCE_EXHAUSTED", 0, 0, "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your project and billing." },
};

static const struct phrase openai[] = {
	[REFUSAL_NO_KEY]        = { 401, "invalid_request_error", 0, 0, "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API from your browser and are prompted for a username and password. You can obtain an API key from https://platform.openai.com/account/api-keys." },
	[REFUSAL_BAD_KEY]       = { 401, "invalid_request_error", "invalid_api_key", 0, "Incorrect API key provided: %. You can find your API key at https://platform.openai.com/account/api-keys." },
	[REFUSAL_NO_VERSION]    = { 400, "invalid_request_error", 0, 0, "Invalid request." },
	[REFUSAL_NO_PATH]       = { 404, "invalid_request_error", 0, 0, "Invalid URL (%)" },
	[REFUSAL_METHOD]        = { 405, "invalid_request_error", "method_not_supported", 0, "Not allowed to % (HINT: Perhaps you meant to use a different HTTP method?)" },
	[REFUSAL_NOT_JSON]      = { 400, "invalid_request_error", 0, 0, "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble figuring out how to fix this, please contact us through our help center at help.openai.com.)" },
	[REFUSAL_NO_MODEL]      = { 400, "invalid_request_error", 0, 0, "you must provide a model parameter" },
	[REFUSAL_NO_MESSAGES]   = { 400, "invalid_request_error", "missing_required_parameter", "%", "Missing required parameter: '%'." },
	[REFUSAL_NO_MAXIMUM]    = { 400, "invalid_request_error", 0, 0, "Invalid request." },
	[REFUSAL_UNKNOWN_MODEL] = { 404, "invalid_request_error", "model_not_found", 0, "The model `%` does not exist or you do not have access to it." },
	[REFUSAL_TOO_LARGE]     = { 413, "invalid_request_error", 0, 0, "Request too large." },
	[REFUSAL_RPM]           = { 429, "requests", "rate_limit_exceeded", 0, 0 },
	[REFUSAL_TPM]           = { 429, "tokens", "rate_limit_exceeded", 0, 0 },
	[REFUSAL_CONCURRENCY]   = { 429, "requests", "rate_limit_exceeded", 0, "Too many concurrent requests. Please reduce your concurrency and try again." },
	[REFUSAL_QUOTA_MINUTE]  = { 429, "requests", "rate_limit_exceeded", 0, 0 },
	[REFUSAL_QUOTA_DAY]     = { 429, "requests", "rate_limit_exceeded", 0, 0 },
	[REFUSAL_QUOTA_CREDIT]  = { 429, "insufficient_quota", "insufficient_quota", 0, "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors." },
};

static const struct phrase anthropic[] = {
	[REFUSAL_NO_KEY]        = { 401, "authentication_error", 0, 0, "x-api-key header is required" },
	[REFUSAL_BAD_KEY]       = { 401, "authentication_error", 0, 0, "invalid x-api-key" },
	[REFUSAL_NO_VERSION]    = { 400, "invalid_request_error", 0, 0, "anthropic-version: header is required" },
	[REFUSAL_NO_PATH]       = { 404, "not_found_error", 0, 0, "Not Found" },
	[REFUSAL_METHOD]        = { 405, "invalid_request_error", 0, 0, "Method Not Allowed" },
	[REFUSAL_NOT_JSON]      = { 400, "invalid_request_error", 0, 0, "The request body is not valid JSON: unexpected end of data: line 1 column 1 (char 0)" },
	[REFUSAL_NO_MODEL]      = { 400, "invalid_request_error", 0, 0, "model: Field required" },
	[REFUSAL_NO_MESSAGES]   = { 400, "invalid_request_error", 0, 0, "messages: Field required" },
	[REFUSAL_NO_MAXIMUM]    = { 400, "invalid_request_error", 0, 0, "max_tokens: Field required" },
	[REFUSAL_UNKNOWN_MODEL] = { 404, "not_found_error", 0, 0, "model: %" },
	[REFUSAL_TOO_LARGE]     = { 413, "request_too_large", 0, 0, "Request exceeds the maximum size" },
	[REFUSAL_RPM]           = { 429, "rate_limit_error", 0, 0, "This request would exceed your organization's rate limit of % requests per minute. For details, refer to: https://docs.claude.com/en/api/rate-limits." },
	[REFUSAL_TPM]           = { 429, "rate_limit_error", 0, 0, "This request would exceed your organization's rate limit of % tokens per minute. For details, refer to: https://docs.claude.com/en/api/rate-limits." },
	[REFUSAL_CONCURRENCY]   = { 429, "rate_limit_error", 0, 0, "Number of concurrent connections has exceeded your rate limit. Please try again later or contact sales to discuss your options for a rate limit increase." },
	[REFUSAL_QUOTA_MINUTE]  = { 429, "rate_limit_error", 0, 0, "This request would exceed your organization's rate limit of % requests per minute. For details, refer to: https://docs.claude.com/en/api/rate-limits." },
	[REFUSAL_QUOTA_DAY]     = { 429, "rate_limit_error", 0, 0, "Number of request tokens has exceeded your daily rate limit (https://docs.claude.com/en/api/rate-limits); see the response headers for current usage. Please reduce the prompt length or the maximum tokens requested, or try again later." },
	[REFUSAL_QUOTA_CREDIT]  = { 400, "invalid_request_error", 0, 0, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits." },
};

/* For status=N: the words that go with a status. */
static const struct {
	int status;
	const char *gemini, *gemini_text, *openai, *openai_text, *anthropic, *anthropic_text;
} by_status[] = {
	{ 400, "INVALID_ARGUMENT", "Request contains an invalid argument.", "invalid_request_error", "Invalid request.", "invalid_request_error", "Invalid request" },
	{ 401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", "invalid_request_error", "Incorrect API key provided.", "authentication_error", "invalid x-api-key" },
	{ 403, "PERMISSION_DENIED", "The caller does not have permission", "invalid_request_error", "You are not allowed to sample from this model", "permission_error", "Your API key does not have permission to use the specified resource." },
	{ 404, "NOT_FOUND", "Requested entity was not found.", "invalid_request_error", "Not found.", "not_found_error", "Not found" },
	{ 408, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.", "timeout", "Request timed out.", "timeout_error", "Request timed out" },
	{ 409, "ABORTED", "The operation was aborted.", "conflict", "Conflict.", "invalid_request_error", "Conflict" },
	{ 413, "INVALID_ARGUMENT", "Request payload size exceeds the limit.", "invalid_request_error", "Request too large.", "request_too_large", "Request exceeds the maximum size" },
	{ 422, "INVALID_ARGUMENT", "Request contains an invalid argument.", "invalid_request_error", "Unprocessable entity.", "invalid_request_error", "Unprocessable" },
	{ 429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", "requests", "Rate limit reached for requests", "rate_limit_error", "This request would exceed your organization's rate limit. Please try again later." },
	{ 500, "INTERNAL", "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting", "server_error", "The server had an error while processing your request. Sorry about that!", "api_error", "Internal server error" },
	{ 502, "UNAVAILABLE", "Bad gateway.", "server_error", "Bad gateway.", "api_error", "Bad gateway" },
	{ 503, "UNAVAILABLE", "The model is overloaded. Please try again later.", "server_error", "The server is currently overloaded with other requests. Sorry about that! You can retry your request.", "api_error", "Service unavailable" },
	{ 504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.", "server_error", "Gateway timeout.", "timeout_error", "Request timed out" },
	{ 529, "UNAVAILABLE", "The model is overloaded. Please try again later.", "server_error", "The engine is currently overloaded, please try again later", "overloaded_error", "Overloaded" },
};
/* clang-format on */

static struct phrase phrase_of(const struct ask *ask, const struct refusal_facts *facts)
{
	if (facts->why != REFUSAL_STATUS) {
		const struct phrase *table = ask->dialect == DIALECT_GEMINI      ? gemini
					     : ask->dialect == DIALECT_ANTHROPIC ? anthropic
										 : openai;
		return table[facts->why];
	}
	size_t row = 0;
	while (row + 1 < ARRAY_LENGTH(by_status) && by_status[row].status < facts->status)
		row++;
	struct phrase p = { .status = facts->status,
			    .type = by_status[row].openai,
			    .text = by_status[row].openai_text };
	if (ask->dialect == DIALECT_GEMINI)
		p = (struct phrase){ facts->status, by_status[row].gemini, 0, 0, by_status[row].gemini_text };
	else if (ask->dialect == DIALECT_ANTHROPIC)
		p = (struct phrase){ facts->status, by_status[row].anthropic, 0, 0, by_status[row].anthropic_text };
	else if (facts->status == 429)
		p.code = "rate_limit_exceeded";
	return p;
}

int refusal_status(const struct ask *ask, const struct refusal_facts *facts)
{
	return phrase_of(ask, facts).status;
}

/* The member that the verb needs, as its dialect names it. */
static const char *member(const struct ask *ask)
{
	if (ask->dialect == DIALECT_GEMINI)
		return ask->verb == VERB_EMBED         ? "EmbedContentRequest.content"
		       : ask->verb == VERB_BATCH_EMBED ? "BatchEmbedContentsRequest.requests"
						       : "GenerateContentRequest.contents";
	return ask->verb == VERB_CHAT ? "messages" : ask->verb == VERB_COMPLETIONS ? "prompt" : "input";
}

/* OpenAI shows the first and last few characters of a wrong key. */
static void put_masked(struct slice key, struct buf *out)
{
	if (key.len < 12) {
		buf_append(out, SLICE("********"));
		return;
	}
	buf_append(out, slice_first(key, 8));
	buf_append(out, SLICE("********"));
	buf_append(out, slice_skip(key, key.len - 4));
}

static void put_detail(const struct ask *ask, const struct refusal_facts *facts, struct buf *out)
{
	struct buf plain;
	buf_init(&plain, 4096);
	if (facts->why == REFUSAL_NO_MESSAGES)
		buf_append(&plain, slice_of(member(ask)));
	else if (facts->why == REFUSAL_UNKNOWN_MODEL)
		buf_append(&plain, slice_of(ask->model));
	else if (facts->why == REFUSAL_BAD_KEY)
		put_masked(facts->key, &plain);
	else if (facts->why == REFUSAL_RPM || facts->why == REFUSAL_TPM || facts->why == REFUSAL_QUOTA_MINUTE)
		buf_append_int(&plain, facts->limit);
	else
		buf_format(&plain, "%.*s %.*s", SLICE_ARGS(slice_first(facts->method, 16)),
			   SLICE_ARGS(slice_first(facts->path, 200)));
	/* buf_append_json adds quotes; the text stands inside of a string already */
	struct buf quoted;
	buf_init(&quoted, 32768);
	buf_append_json(&quoted, buf_slice(&plain));
	if (quoted.len > 2)
		buf_append(out, slice_make(quoted.data + 1, quoted.len - 2));
	buf_free(&quoted);
	buf_free(&plain);
}

static void put_text(const struct ask *ask, const struct refusal_facts *facts, const char *text, struct buf *out)
{
	struct slice rest = slice_of(text), before;
	size_t at = slice_find(rest, '%');
	before = slice_first(rest, at);
	buf_append(out, before);
	if (at == rest.len)
		return;
	put_detail(ask, facts, out);
	buf_append(out, slice_skip(rest, at + 1));
}

static void google_body(const struct ask *ask, const struct refusal_facts *facts, struct phrase p, struct buf *out)
{
	const char *indent = ask->array ? "[" : "";
	buf_format(out, "%s{\n  \"error\": {\n    \"code\": %d,\n    \"message\": \"", indent, p.status);
	if (p.text != NULL)
		put_text(ask, facts, p.text, out);
	else
		buf_format(out,
			   "You exceeded your current quota, please check your plan and billing details. For more "
			   "information on "
			   "this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. \\n* Quota "
			   "exceeded for metric: "
			   "generativelanguage.googleapis.com/%s, limit: %lld\\nPlease retry in %.9fs.",
			   p.code, (long long)facts->limit,
			   (double)(facts->retry < 0 ? facts->reset : facts->retry) / 1e6);
	buf_format(out, "\",\n    \"status\": \"%s\"", p.type);
	if (facts->why == REFUSAL_BAD_KEY)
		buf_append(out,
			   SLICE(",\n    \"details\": [\n      {\n        \"@type\": "
				 "\"type.googleapis.com/google.rpc.ErrorInfo\",\n"
				 "        \"reason\": \"API_KEY_INVALID\",\n        \"domain\": \"googleapis.com\",\n"
				 "        \"metadata\": {\n          \"service\": "
				 "\"generativelanguage.googleapis.com\"\n        }\n"
				 "      },\n      {\n        \"@type\": "
				 "\"type.googleapis.com/google.rpc.LocalizedMessage\",\n"
				 "        \"locale\": \"en-US\",\n        \"message\": \"API key not valid. Please "
				 "pass a valid API "
				 "key.\"\n      }\n    ]"));
	if (p.status == 429) {
		buf_append(out, SLICE(",\n    \"details\": [\n"));
		if (p.text == NULL)
			buf_format(
				out,
				"      {\n        \"@type\": \"type.googleapis.com/google.rpc.QuotaFailure\",\n        "
				"\"violations\": [\n"
				"          {\n            \"quotaMetric\": \"generativelanguage.googleapis.com/%s\",\n"
				"            \"quotaId\": \"%s\",\n            \"quotaDimensions\": {\n"
				"              \"location\": \"global\",\n              \"model\": \"%s\"\n            "
				"},\n"
				"            \"quotaValue\": \"%lld\"\n          }\n        ]\n      },\n",
				p.code, p.parameter, ask->model, (long long)facts->limit);
		buf_append(out,
			   SLICE("      {\n        \"@type\": \"type.googleapis.com/google.rpc.Help\",\n        "
				 "\"links\": [\n"
				 "          {\n            \"description\": \"Learn more about Gemini API quotas\",\n"
				 "            \"url\": \"https://ai.google.dev/gemini-api/docs/rate-limits\"\n         "
				 " }\n        ]\n"
				 "      }"));
		if (facts->retry >= 0)
			buf_format(out,
				   ",\n      {\n        \"@type\": \"type.googleapis.com/google.rpc.RetryInfo\",\n"
				   "        \"retryDelay\": \"%.9gs\"\n      }",
				   (double)facts->retry / 1e6);
		buf_append(out, SLICE("\n    ]"));
	}
	buf_format(out, "\n  }\n}\n%s", ask->array ? "]" : "");
}

static const char *openai_limit(enum refusal why)
{
	return why == REFUSAL_TPM         ? "tokens per min (TPM)"
	       : why == REFUSAL_QUOTA_DAY ? "requests per day (RPD)"
					  : "requests per min (RPM)";
}

static void openai_body(const struct ask *ask, const struct refusal_facts *facts, struct phrase p, struct buf *out)
{
	buf_append(out, SLICE("{\n    \"error\": {\n        \"message\": \""));
	if (p.text != NULL)
		put_text(ask, facts, p.text, out);
	else
		buf_format(out,
			   "Rate limit reached for %s in organization org-simulated on %s: Limit %lld, Used %lld, "
			   "Requested 1. Please try again in %.3fs. Visit "
			   "https://platform.openai.com/account/rate-limits to learn more.",
			   ask->model, openai_limit(facts->why), (long long)facts->limit, (long long)facts->used,
			   (double)(facts->retry < 0 ? facts->reset : facts->retry) / 1e6);
	buf_format(out, "\",\n        \"type\": \"%s\",\n        \"param\": ", p.type);
	if (p.parameter != NULL)
		buf_format(out, "\"%s\"", member(ask));
	else
		buf_append(out, SLICE("null"));
	if (p.code != NULL)
		buf_format(out, ",\n        \"code\": \"%s\"\n    }\n}\n", p.code);
	else
		buf_append(out, SLICE(",\n        \"code\": null\n    }\n}\n"));
}

static void anthropic_body(const struct ask *ask, const struct refusal_facts *facts, struct phrase p, struct buf *out)
{
	buf_format(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"", p.type);
	put_text(ask, facts, p.text, out);
	wording_id(ask, "\"},\"request_id\":\"req_01", 1, 22, out);
	buf_append(out, SLICE("\"}"));
}

void refusal_body(const struct ask *ask, const struct refusal_facts *facts, struct buf *out)
{
	struct phrase p = phrase_of(ask, facts);
	if (ask->dialect == DIALECT_GEMINI)
		google_body(ask, facts, p, out);
	else if (ask->dialect == DIALECT_ANTHROPIC)
		anthropic_body(ask, facts, p, out);
	else
		openai_body(ask, facts, p, out);
}

/* As Go prints durations: 7m12s, 1h0m0s, 1.5s, 20ms. */
static void put_go_duration(int64_t time, struct buf *out)
{
	if (time < CLOCK_SECOND) {
		buf_format(out, "%lldms", (long long)(time / CLOCK_MILLISECOND));
		return;
	}
	if (time >= CLOCK_HOUR)
		buf_format(out, "%lldh", (long long)(time / CLOCK_HOUR));
	if (time >= CLOCK_MINUTE)
		buf_format(out, "%lldm", (long long)(time % CLOCK_HOUR / CLOCK_MINUTE));
	buf_format(out, "%.6gs", (double)(time % CLOCK_MINUTE) / 1e6);
}

/* That nothing is left of the quota, and until when. Google has no such fields, and a credit is in nobody's. */
static void quota_fields(const struct ask *ask, const struct refusal_facts *facts, struct buf *out)
{
	char reset[40];
	time_t at = (time_t)((clock_unix() + facts->reset + CLOCK_SECOND - 1) / CLOCK_SECOND);
	struct tm parts;
	if (ask->dialect == DIALECT_OPENAI) {
		buf_format(out,
			   "x-ratelimit-limit-requests: %lld\r\nx-ratelimit-remaining-requests: 0\r\n"
			   "x-ratelimit-limit-tokens: 200000\r\nx-ratelimit-remaining-tokens: 199990\r\n"
			   "x-ratelimit-reset-tokens: 3ms\r\nx-ratelimit-reset-requests: ",
			   (long long)facts->limit);
		put_go_duration(facts->reset, out);
		buf_append(out, SLICE("\r\n"));
	} else if (ask->dialect == DIALECT_ANTHROPIC) {
		gmtime_r(&at, &parts);
		strftime(reset, sizeof(reset), "%Y-%m-%dT%H:%M:%SZ", &parts);
		const char *name = facts->why == REFUSAL_QUOTA_DAY ? "tokens" : "requests";
		buf_format(out,
			   "anthropic-ratelimit-%s-limit: %lld\r\nanthropic-ratelimit-%s-remaining: 0\r\n"
			   "anthropic-ratelimit-%s-reset: %s\r\n",
			   name, (long long)facts->limit, name, name, reset);
	}
}

void refusal_retry_fields(int64_t retry, bool fine, struct buf *out)
{
	buf_format(out, "retry-after: %lld\r\n", (long long)((retry + CLOCK_SECOND - 1) / CLOCK_SECOND));
	if (fine || retry < CLOCK_SECOND)
		buf_format(out, "retry-after-ms: %lld\r\n", (long long)(retry / CLOCK_MILLISECOND));
}

/* Google answers with RetryInfo in the body only. */
void refusal_fields(const struct ask *ask, const struct refusal_facts *facts, struct buf *out)
{
	if (facts->why == REFUSAL_QUOTA_MINUTE || facts->why == REFUSAL_QUOTA_DAY)
		quota_fields(ask, facts, out);
	if (facts->retry < 0 || ask->dialect == DIALECT_GEMINI)
		return;
	refusal_retry_fields(facts->retry, ask->dialect == DIALECT_OPENAI, out);
	if (ask->dialect == DIALECT_ANTHROPIC)
		buf_append(out, SLICE("x-should-retry: true\r\n"));
}

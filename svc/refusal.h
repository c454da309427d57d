/* Every reason for which the gateway itself answers an error: the closed list. One line gives the enum, the status, the stable code, the
 * words of each dialect, whether the same request may succeed later (x-should-retry), and what to do.
 *
 * The table is in this header, so that it can be read as documentation; `outcome` in metrics and logs is the code. */
#ifndef SLUICE_REFUSAL_H
#define SLUICE_REFUSAL_H

#include "lib/base.h"
#include "lib/slice.h"
#include "svc/kinds.h"

struct buf;

/* clang-format off */
/* X(name,              status, retry, openai type,             google status,        anthropic type,          text) */
#define REFUSALS(X) \
	X(none,               200, false, "",                      "OK",                  "",                      "") \
	X(invalid_request,    400, false, "invalid_request_error", "INVALID_ARGUMENT",    "invalid_request_error", "The request is not valid.") \
	X(invalid_json,       400, false, "invalid_request_error", "INVALID_ARGUMENT",    "invalid_request_error", "The body is not valid JSON.") \
	X(exceeds_limit,      400, false, "invalid_request_error", "INVALID_ARGUMENT",    "invalid_request_error", "The input alone is more than a token limit can ever hold.") \
	X(model_unable,       400, false, "invalid_request_error", "INVALID_ARGUMENT",    "invalid_request_error", "No target of this model can do what the request needs.") \
	X(invalid_api_key,    401, false, "invalid_request_error", "UNAUTHENTICATED",     "authentication_error",  "The API key is missing or unknown here. Send one that this gateway issued.") \
	X(model_not_allowed,  403, false, "invalid_request_error", "PERMISSION_DENIED",   "permission_error",      "This key may not use this model or upstream.") \
	X(unknown_path,       404, false, "invalid_request_error", "NOT_FOUND",           "not_found_error",       "There is nothing at this path.") \
	X(model_not_found,    404, false, "invalid_request_error", "NOT_FOUND",           "not_found_error",       "This model is not configured here.") \
	X(method_not_allowed, 405, false, "invalid_request_error", "INVALID_ARGUMENT",    "invalid_request_error", "This path does not take this method.") \
	X(request_timeout,    408, true,  "timeout",               "DEADLINE_EXCEEDED",   "timeout_error",         "The request did not arrive in time.") \
	X(body_too_large,     413, false, "invalid_request_error", "INVALID_ARGUMENT",    "request_too_large",     "The body is larger than this gateway takes.") \
	X(unsupported_media,  415, false, "invalid_request_error", "INVALID_ARGUMENT",    "invalid_request_error", "The body must be plain JSON without a content coding.") \
	X(rate_limited,       429, true,  "rate_limit_error",      "RESOURCE_EXHAUSTED",  "rate_limit_error",      "A limit is used up. Wait as long as Retry-After says.") \
	X(too_many_at_once,   429, true,  "rate_limit_error",      "RESOURCE_EXHAUSTED",  "rate_limit_error",      "No place is free for one more request. Wait as long as Retry-After says.") \
	X(upstream_limited,   429, true,  "rate_limit_error",      "RESOURCE_EXHAUSTED",  "rate_limit_error",      "The provider asked to be left alone until then. Wait as long as Retry-After says.") \
	X(client_gone,        499, false, "",                      "CANCELLED",           "",                      "The client closed the connection.") \
	X(internal,           500, true,  "server_error",          "INTERNAL",            "api_error",             "The gateway failed.") \
	X(upstream_unreachable,502, true, "server_error",          "UNAVAILABLE",         "api_error",             "The provider could not be reached.") \
	X(upstream_broken,    502, false, "server_error",          "UNAVAILABLE",         "api_error",             "The provider broke off its answer.") \
	X(upstream_invalid,   502, false, "server_error",          "UNAVAILABLE",         "api_error",             "The provider's answer is not valid.") \
	X(breaker_open,       503, true,  "server_error",          "UNAVAILABLE",         "overloaded_error",      "The provider is failing, or was taken out by hand, and is left alone for a while. Wait as long as Retry-After says.") \
	X(queue_full,         503, true,  "server_error",          "UNAVAILABLE",         "overloaded_error",      "As many requests as may wait are waiting. Wait as long as Retry-After says.") \
	X(upstream_busy,      503, true,  "server_error",          "UNAVAILABLE",         "overloaded_error",      "No connection to the provider was free in time.") \
	X(quota_unavailable,  503, true,  "server_error",          "UNAVAILABLE",         "overloaded_error",      "The quota store does not answer, and this gateway is told to refuse then.") \
	X(overloaded,         503, true,  "server_error",          "UNAVAILABLE",         "overloaded_error",      "This gateway holds as many requests as it may.") \
	X(draining,           503, true,  "server_error",          "UNAVAILABLE",         "overloaded_error",      "This instance is shutting down.") \
	X(upstream_timeout,   504, true,  "server_error",          "DEADLINE_EXCEEDED",   "timeout_error",         "The provider did not answer in time.") \
	X(not_stored,         504, false, "invalid_request_error", "DEADLINE_EXCEEDED",   "api_error",             "No answer is stored for this request, and only-if-cached forbids to ask for one.") \
	X(deadline,           504, false, "server_error",          "DEADLINE_EXCEEDED",   "timeout_error",         "The request's own deadline passed.")
/* clang-format on */
#define REFUSAL_ENUM(name, status, retry, openai, google, anthropic, text) REFUSAL_##name,
enum refusal { REFUSALS(REFUSAL_ENUM) REFUSAL_COUNT };
#undef REFUSAL_ENUM

const char *refusal_code(enum refusal);          /* the name: the stable code */
enum refusal refusal_of_code(struct slice code); /* none when there is no such */
int refusal_status(enum refusal);
bool refusal_may_retry(enum refusal);
const char *refusal_text(enum refusal);

/* The whole error body in the caller's dialect (RFC 9457 problem details for dialect http). `detail` is what was wrong this time and what is
 * allowed; empty: the table's text stands alone. Returns the media type. */
const char *refusal_write(enum refusal, enum dialect, struct slice detail, struct slice request_id, struct buf *out);
/* The same for an HTTP fault that has no row here: its own status, code and text, in the dialect's shape for that status class. */
const char *refusal_write_fault(int status, const char *code, const char *text, enum dialect, struct buf *out);
/* The in-band error of a stream of server-sent events that has begun and stands between two events: one event, with its
 * blank line (Gemini: bare JSON, as Google does it). `responses`: the stream is one of OpenAI's /v1/responses. Gemini's JSON array has no such event: its
 * bracket stays open. */
void refusal_write_event(enum refusal, enum dialect, bool responses, struct slice detail, struct slice request_id,
			 struct buf *out);

#endif

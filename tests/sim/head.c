#include "head.h"

#include <time.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "wording.h"

/* What a provider tells when no limit of its own was set. */
#define PLENTY_REQUESTS 10000
#define PLENTY_TOKENS   30000000

static const char *reason(int status)
{
	/* clang-format off */
	static const struct { int status; const char *text; } reasons[] = {
		{ 200, "OK" }, { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 409, "Conflict" }, { 413, "Payload Too Large" },
		{ 422, "Unprocessable Entity" }, { 429, "Too Many Requests" }, { 500, "Internal Server Error" },
		{ 502, "Bad Gateway" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" }, { 529, "Site is overloaded" },
	};
	/* clang-format on */
	for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Simulated";
}

static struct slice date_now(struct sim *sim)
{
	int64_t second = clock_unix() / CLOCK_SECOND;
	if (second != sim->date_second) {
		time_t now = (time_t)second;
		struct tm parts;
		gmtime_r(&now, &parts);
		strftime(sim->date, sizeof(sim->date), "%a, %d %b %Y %H:%M:%S GMT", &parts);
		sim->date_second = second;
	}
	return slice_of(sim->date);
}

static int64_t at_least_0(int64_t value)
{
	return value > 0 ? value : 0;
}

static void put_openai_limits(const struct limits_state *s, struct buf *out)
{
	int64_t rpm = s->rates.rpm > 0 ? s->rates.rpm : PLENTY_REQUESTS,
		tpm = s->rates.tpm > 0 ? s->rates.tpm : PLENTY_TOKENS;
	buf_format(out,
		   "x-ratelimit-limit-requests: %lld\r\nx-ratelimit-limit-tokens: %lld\r\n"
		   "x-ratelimit-remaining-requests: %lld\r\nx-ratelimit-remaining-tokens: %lld\r\n"
		   "x-ratelimit-reset-requests: %lldms\r\nx-ratelimit-reset-tokens: %lldms\r\n",
		   (long long)rpm, (long long)tpm, (long long)at_least_0(rpm - s->requests),
		   (long long)at_least_0(tpm - s->tokens), (long long)(s->reset / CLOCK_MILLISECOND),
		   (long long)(s->reset / CLOCK_MILLISECOND));
}

static void put_anthropic_limit(const char *name, int64_t limit, int64_t used, const char *reset, struct buf *out)
{
	buf_format(out,
		   "anthropic-ratelimit-%s-limit: %lld\r\nanthropic-ratelimit-%s-remaining: %lld\r\n"
		   "anthropic-ratelimit-%s-reset: %s\r\n",
		   name, (long long)limit, name, (long long)at_least_0(limit - used), name, reset);
}

static void put_anthropic_limits(const struct limits_state *s, struct buf *out)
{
	char reset[40];
	time_t at = (time_t)((clock_unix() + s->reset + CLOCK_SECOND - 1) / CLOCK_SECOND);
	struct tm parts;
	gmtime_r(&at, &parts);
	strftime(reset, sizeof(reset), "%Y-%m-%dT%H:%M:%SZ", &parts);
	put_anthropic_limit("requests", s->rates.rpm > 0 ? s->rates.rpm : PLENTY_REQUESTS, s->requests, reset, out);
	put_anthropic_limit("tokens", s->rates.tpm > 0 ? s->rates.tpm : PLENTY_TOKENS, s->tokens, reset, out);
}

static void put_google(struct buf *out)
{
	buf_append(out,
		   SLICE("vary: Origin\r\nvary: X-Origin\r\nvary: Referer\r\nserver: scaffolding on HTTPServer2\r\n"
			 "x-xss-protection: 0\r\nx-frame-options: SAMEORIGIN\r\nx-content-type-options: nosniff\r\n"
			 "server-timing: gfet4t7; dur=1\r\n"));
}

static void put_provider(const struct ask *ask, const struct limits_state *limits, struct buf *out)
{
	if (ask->dialect == DIALECT_GEMINI) {
		put_google(out);
	} else if (ask->dialect == DIALECT_OPENAI) {
		wording_id(ask,
			   "openai-version: 2020-10-01\r\nopenai-organization: org-simulated\r\nopenai-processing-ms: "
			   "1\r\n"
			   "x-request-id: req_",
			   1, 32, out);
		buf_append(out, SLICE("\r\n"));
		if (limits != NULL)
			put_openai_limits(limits, out);
	} else if (ask->dialect == DIALECT_ANTHROPIC) {
		wording_id(ask, "anthropic-organization-id: 00000000-0000-4000-8000-000000000000\r\nrequest-id: req_01",
			   1, 22, out);
		buf_append(out, SLICE("\r\n"));
		if (limits != NULL)
			put_anthropic_limits(limits, out);
	}
}

void head_put(struct sim *sim, const struct ask *ask, const struct head *head, struct buf *out)
{
	buf_append(out, SLICE("HTTP/1.1 "));
	buf_append_int(out, head->status);
	buf_append_byte(out, ' ');
	buf_append(out, slice_of(reason(head->status)));
	buf_append(out, SLICE("\r\ndate: "));
	buf_append(out, date_now(sim));
	buf_append(out, SLICE("\r\ncontent-type: "));
	buf_append(out, slice_of(head->content_type));
	if (head->length >= 0) {
		buf_append(out, SLICE("\r\ncontent-length: "));
		buf_append_int(out, head->length);
		buf_append(out, SLICE("\r\n"));
	} else {
		buf_append(out, SLICE("\r\ntransfer-encoding: chunked\r\n"));
	}
	if (head->gzip)
		buf_append(out, SLICE("content-encoding: gzip\r\n"));
	if (head->close)
		buf_append(out, SLICE("connection: close\r\n"));
	put_provider(ask, head->limits, out);
	if (ask->nonce[0] != '\0') {
		buf_append(out, SLICE("x-sim-nonce: "));
		buf_append(out, slice_of(ask->nonce));
		buf_append(out, SLICE("\r\n"));
	}
	buf_append(out, head->more);
	buf_append(out, SLICE("\r\n"));
}

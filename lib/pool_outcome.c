/* How a transfer ended: one name out of a closed list, and what it says about what the peer may have seen.
 *
 *   not connected ─► CONNECT_FAILED, TLS_FAILED      nothing was sent
 *   connected, no byte written ─► RESET_UNSENT       nothing was sent
 *   written, no final head begun ─► RESET            it may have been processed
 *   inside the answer ─► TRUNCATED                   it was processed
 *
 * What we find out ourselves (a deadline, garbage, a second attempt) is judged on the spot, and the first judgement
 * counts; the rest is read from libcurl's code and from what the transfer had reached. */
#include "lib/pool_internal.h"

#include <openssl/x509_vfy.h>
#include <stdio.h>

const char *pool_outcome_name(enum pool_outcome outcome)
{
	/* clang-format off */
	static const char *const names[] = {
		[POOL_DONE] = "done",
		[POOL_NO_SLOT] = "no_slot",
		[POOL_CONNECT_FAILED] = "connect_failed",
		[POOL_TLS_FAILED] = "tls_failed",
		[POOL_RESET_UNSENT] = "reset_unsent",
		[POOL_RESET] = "reset",
		[POOL_TRUNCATED] = "truncated",
		[POOL_GARBAGE] = "garbage",
		[POOL_FIRST_BYTE_TIMEOUT] = "first_byte_timeout",
		[POOL_IDLE_TIMEOUT] = "idle_timeout",
		[POOL_TOTAL_TIMEOUT] = "total_timeout",
	};
	/* clang-format on */
	CHECK((size_t)outcome < ARRAY_LENGTH(names));
	return names[outcome];
}

void pool_outcome_judge(struct transfer *t, enum pool_outcome outcome, const char *detail)
{
	if (t->judged)
		return;
	t->judged = true;
	t->result.outcome = outcome;
	snprintf(t->result.detail, sizeof(t->result.detail), "%s", detail);
}

static const char *error_text(int error)
{
	const char *text = strerrordesc_np(error);
	return text != NULL ? text : "unknown error";
}

/* Only words of libcurl's and OpenSSL's tables: what libcurl composes may quote the peer. */
static void describe(struct transfer *t, enum pool_outcome outcome, CURLcode code)
{
	long verified = 0, os = 0;
	char words[sizeof(t->result.detail)];
	curl_easy_getinfo(t->handle->easy, CURLINFO_OS_ERRNO, &os);
	if (outcome == POOL_TLS_FAILED)
		curl_easy_getinfo(t->handle->easy, CURLINFO_SSL_VERIFYRESULT, &verified);
	if (t->refused_address && outcome == POOL_CONNECT_FAILED)
		snprintf(words, sizeof(words), "address not allowed");
	else if (verified != X509_V_OK)
		snprintf(words, sizeof(words), "%s", X509_verify_cert_error_string(verified));
	else if (os != 0 && outcome == POOL_CONNECT_FAILED)
		snprintf(words, sizeof(words), "%s: %s", curl_easy_strerror(code), error_text((int)os));
	else
		snprintf(words, sizeof(words), "%s", curl_easy_strerror(code));
	pool_outcome_judge(t, outcome, words);
}

static enum pool_outcome died(const struct transfer *t)
{
	long sent = 0;
	if (t->head_began || t->status != 0)
		return POOL_TRUNCATED;
	if (!t->connected)
		return POOL_CONNECT_FAILED;
	curl_easy_getinfo(t->handle->easy, CURLINFO_REQUEST_SIZE, &sent);
	return sent > 0 ? POOL_RESET : POOL_RESET_UNSENT;
}

static enum pool_outcome outcome_of(const struct transfer *t, CURLcode code)
{
	switch (code) {
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ENGINE_INITFAILED:
		return t->connected ? died(t) : POOL_TLS_FAILED;
	case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, or an HTTP of the future */
	case CURLE_WEIRD_SERVER_REPLY:
#if LIBCURL_VERSION_NUM >= 0x080600
	case CURLE_TOO_LARGE:
#endif
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_OUT_OF_MEMORY: /* what 7.88 says of a head that is too long for it */
		return t->connected ? POOL_GARBAGE : POOL_CONNECT_FAILED;
	default:
		return died(t);
	}
}

/* RFC 9112, section 8: an answer with a length is complete with its last byte, a chunked one with its last chunk
 * (libcurl saw it, or would not say OK). One with neither ends where the peer closes in order: that is all HTTP/1.0
 * has, and the marker inside a stream must tell the rest. Over TLS that order is the
 * close_notify alert (section 9.8), which libcurl does not ask for. */
void pool_outcome_classify(struct transfer *t, CURLcode code)
{
	t->result.received = t->received;
	if (t->judged)
		return;
	if (code != CURLE_OK) {
		describe(t, outcome_of(t, code), code);
	} else if (!t->head_done) {
		describe(t, died(t), CURLE_GOT_NOTHING);
	} else if (t->content_length >= 0 && (uint64_t)t->content_length != t->received) {
		pool_outcome_judge(t, POOL_TRUNCATED, "the body is shorter than its Content-Length");
	} else if (t->ended_by != NULL && !t->close_notified) {
		pool_outcome_judge(t, POOL_TRUNCATED, "the connection ended without close_notify");
	} else {
		pool_outcome_judge(t, POOL_DONE, "");
	}
}

/* Reads libcurl's own measurements; the handle is still in the multi. */
void pool_outcome_measure(struct transfer *t)
{
	curl_off_t sent = 0, connected = 0, secured = 0;
	if (t->handle == NULL)
		return;
	if (t->has_body && curl_easy_getinfo(t->handle->easy, CURLINFO_SIZE_UPLOAD_T, &sent) == CURLE_OK)
		t->result.sent = (uint64_t)sent;
	if (t->result.reused || !t->connected)
		return;
	curl_easy_getinfo(t->handle->easy, CURLINFO_CONNECT_TIME_T, &connected);
	curl_easy_getinfo(t->handle->easy, CURLINFO_APPCONNECT_TIME_T, &secured);
	t->result.handshake = secured > 0 ? secured : connected;
}

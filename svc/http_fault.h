/* The HTTP server's limits, and why it refuses a request before its handler hears of it. Apart from svc/http.h because the
 * one file that sees llhttp's names (HTTP_GET …) needs these and cannot have ours. */
#ifndef SLUICE_HTTP_FAULT_H
#define SLUICE_HTTP_FAULT_H

enum http_limits {
	HTTP_HEAD_MAX = 32 * 1024,
	HTTP_FIELDS_MAX = 100,
	HTTP_TARGET_MAX = 8 * 1024,
	HTTP_BUFFERED_MAX = 256 * 1024, /* per exchange towards the client; above it http_write says "pause" */
};

/* Why a request never reached the handler. X(name, status, text for people) */
#define HTTP_FAULTS(X)                                                                                                 \
	X(malformed, 400, "The request is not valid HTTP/1.1.")                                                        \
	X(bad_host, 400, "Exactly one valid Host header is needed.")                                                   \
	X(bad_framing, 400, "Content-Length and Transfer-Encoding must give one unambiguous length.")                  \
	X(head_too_large, 431, "The head is larger than 32 KiB or has more than 100 fields.")                          \
	X(target_too_long, 414, "The request target is longer than 8 KiB.")                                            \
	X(unknown_method, 501, "This method is not known here.")                                                       \
	X(unknown_coding, 501, "Only the transfer coding \"chunked\" is known here.")                                  \
	X(bad_version, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")                                             \
	X(expectation_failed, 417, "Only the expectation 100-continue is known here.")                                 \
	X(head_timeout, 408, "The head did not arrive in time.")                                                       \
	X(body_timeout, 408, "The body did not arrive in time.")                                                       \
	X(body_too_large, 413, "The body is larger than this gateway takes.")                                          \
	X(bad_body, 400, "The body's chunked framing is not valid.")
#define HTTP_FAULT_ENUM(name, status, text) HTTP_FAULT_##name,
enum http_fault { HTTP_FAULTS(HTTP_FAULT_ENUM) HTTP_FAULT_COUNT };
#undef HTTP_FAULT_ENUM
const char *http_fault_code(enum http_fault); /* the name */
int http_fault_status(enum http_fault);
const char *http_fault_text(enum http_fault);

#endif

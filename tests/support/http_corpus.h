/* Malformed and valid requests, for the head's rules, the server and its fuzzer. */
#ifndef SLUICE_TEST_HTTP_CORPUS_H
#define SLUICE_TEST_HTTP_CORPUS_H

#include "lib/base.h"
#include "svc/http.h"

/* method == NULL: must be refused with `fault` (HTTP_FAULT_COUNT: with any). Otherwise taken, as the rest says. */
struct http_case {
	const char *name, *bytes;
	size_t len;
	enum http_fault fault;
	const char *method, *target;
	size_t fields;
	const char *body;
	size_t body_len;
};
extern const struct http_case http_corpus[];
extern const size_t http_corpus_count;

#endif

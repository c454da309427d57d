/* Asks svc/dialect as a request would, and tells what it made of it in one line, so that cases are tables of text. */
#ifndef SLUICE_TESTS_DIALECT_RIG_H
#define SLUICE_TESTS_DIALECT_RIG_H

#include "lib/base.h"

struct dialect_rig_request {
	const char *request; /* "POST /v1/messages?beta=true" */
	const char *body;    /* NULL: none */
	char shape;          /* 'a': anthropic-version is there; 'g': a Google key; else 0 */
	const char *content_type;
};

/* "openai generate gpt-4o events max 8 media 0 -> /v1/chat/completions" or "openai invalid_request Detail."; then, for a
 * body, what an upstream gets when the model becomes "new" and usage is asked for. The body is read whole and cut in two
 * at every byte; all must agree. malloced. */
char *dialect_rig_ask(const struct dialect_rig_request *);
/* Fails the running test, with both lines, when they differ. */
void dialect_rig_assert(const struct dialect_rig_request *, const char *expected);

#endif

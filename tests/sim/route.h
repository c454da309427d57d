/* What a request's line asks for: which provider's API, and which call of it. */
#ifndef SIM_ROUTE_H
#define SIM_ROUTE_H

#include "lib/base.h"
#include "lib/slice.h"

enum dialect { DIALECT_GEMINI, DIALECT_OPENAI, DIALECT_ANTHROPIC, DIALECT_HTTP, DIALECT_COUNT };

enum verb {
	VERB_NONE,     /* a path that the dialect does not have */
	VERB_GENERATE, /* generateContent, messages */
	VERB_CHAT,
	VERB_RESPONSES,
	VERB_COMPLETIONS,
	VERB_EMBED,
	VERB_BATCH_EMBED,
	VERB_COUNT_TOKENS,
	VERB_MODELS,
	VERB_MODEL,
	VERB_ECHO,
	VERB_CONTROL, /* /__sim/… */
};

struct route {
	enum dialect dialect;
	enum verb verb;
	struct slice model;   /* what the path names (Gemini, GET of one model), else empty */
	struct slice method;  /* Google's spelling of the verb, for its error texts */
	struct slice version; /* v1beta, v1 */
	bool stream, vertex;  /* stream: streamGenerateContent */
	bool get;             /* the verb wants GET; all others want POST */
};

/* `path` has no query. The dialect of /v1/models depends on the caller's headers, so the caller says what they suggest. */
struct route route_of(struct slice path, enum dialect suggested);

const char *route_dialect_name(enum dialect);

/* The value of one parameter in a query (without '?'), still encoded; SLICE_NONE when absent. */
struct slice route_parameter(struct slice query, struct slice name);

#endif

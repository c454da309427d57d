/* What the dialects' files share: which members of bodies and answers matter, as tables of paths, and helpers for paths
 * of URLs.
 *
 *   gemini.c openai.c anthropic.c ──► struct dialect_table (path, role) ──► body.c (requests), meter_said.c (answers),
 *                                                                     failure.c (errors)
 *
 * A provider's file says where something stands; what is done with it is said once, by its role. */
#ifndef SLUICE_DIALECT_INTERNAL_H
#define SLUICE_DIALECT_INTERNAL_H

#include "lib/json_plan.h"
#include "lib/json_scan.h"
#include "svc/dialect.h"

enum {
	DIALECT_RESOURCE = DIALECT_MODEL_MOST + 128, /* a model with the collections that it stands in */
	DIALECT_PATHS = 48,                          /* of one table, at most */
	DIALECT_KEPT_TYPE = 32,                      /* of a string whose words matter */
	DIALECT_KEPT_QUOTA = 128,                    /* of a quota's name */
	DIALECT_KEPT_MESSAGE = 512,                  /* of what is told to people */
	DIALECT_KEPT_SESSION = 256 /* of what a body says to whom it belongs; a longer one is cut, always alike */
};

enum dialect_role {
	/* Tokens; the meter keeps the last of each. What a provider counts apart is added up. */
	DIALECT_ROLE_INPUT,
	DIALECT_ROLE_CACHED,      /* part of INPUT */
	DIALECT_ROLE_CACHE_READ,  /* beside INPUT */
	DIALECT_ROLE_CACHE_WRITE, /* beside INPUT */
	DIALECT_ROLE_TOOL_INPUT,  /* beside INPUT */
	DIALECT_ROLE_OUTPUT,
	DIALECT_ROLE_THOUGHTS, /* beside OUTPUT */
	DIALECT_ROLE_COUNTS,   /* how many the roles above are */
	/* Answers. */
	DIALECT_ROLE_TEXT,      /* a string that was said */
	DIALECT_ROLE_VALUE,     /* JSON that was said */
	DIALECT_ROLE_REFUSAL,   /* a string that was said: that nothing is said */
	DIALECT_ROLE_POLICY,    /* each may be the word for it that the content policy stopped the answer */
	DIALECT_ROLE_ERROR,     /* an object that is not empty, or a text: the upstream failed */
	DIALECT_ROLE_TYPE,      /* what an event is */
	DIALECT_ROLE_CHOICES,   /* OpenAI's */
	DIALECT_ROLE_USAGE,     /* the object */
	DIALECT_ROLE_CANDIDATE, /* each of Gemini's */
	DIALECT_ROLE_INDEX,     /* within CANDIDATE: which it is */
	DIALECT_ROLE_FINISH,    /* within CANDIDATE: why it ended */
	DIALECT_ROLE_BLOCKED,   /* why nothing was said at all */
	/* Answers that are errors. */
	DIALECT_ROLE_REASON,  /* each may be the word for why */
	DIALECT_ROLE_MESSAGE, /* the same in prose */
	DIALECT_ROLE_QUOTA,   /* each is the name of a quota that is used up */
	DIALECT_ROLE_DELAY,   /* Google's duration until another try */
	/* Requests. */
	DIALECT_ROLE_WHOLE, /* the text itself */
	DIALECT_ROLE_MODEL,
	DIALECT_ROLE_SAME_MODEL, /* each must name the path's */
	DIALECT_ROLE_STREAM,
	DIALECT_ROLE_STREAM_OPTIONS,
	DIALECT_ROLE_INCLUDE_USAGE,
	DIALECT_ROLE_MAXIMUM,    /* tokens of one candidate */
	DIALECT_ROLE_CANDIDATES, /* how many answers are wanted */
	DIALECT_ROLE_PROMPTS,    /* each is answered apart when it is a string or an array */
	DIALECT_ROLE_MEDIA,
	DIALECT_ROLE_MEDIA_NAME, /* where the provider finds it: some bytes of text, but not what it costs */
	DIALECT_ROLE_TEMPERATURE,
	DIALECT_ROLE_TOOLS,   /* offered when it is an array that is not empty */
	DIALECT_ROLE_SESSION, /* of a table's the first that is a string and not empty counts */
};

struct dialect_path {
	const char *path;
	enum dialect_role role;
	size_t keep;
};

struct dialect_table {
	const struct dialect_path *paths;
	size_t count;
};

extern const struct dialect_table dialect_gemini_body, dialect_gemini_answer, dialect_gemini_array,
	dialect_gemini_failure;
extern const struct dialect_table dialect_openai_body, dialect_openai_chat, dialect_openai_responses,
	dialect_openai_embeddings, dialect_openai_failure;
extern const struct dialect_table dialect_anthropic_body, dialect_anthropic_answer, dialect_anthropic_failure;

/* The table, compiled once for the process; on any thread. */
const struct json_plan *dialect_plan(const struct dialect_table *);

/* What a dialect makes of a path: `claimed` says that the path is its own. */
struct dialect_claim {
	bool claimed;
	enum refusal refusal;
};
struct dialect_claim dialect_route_gemini(const struct dialect_head *, struct mem *, struct dialect_call *,
					  struct buf *detail);
struct dialect_claim dialect_route_openai(const struct dialect_head *, struct mem *, struct dialect_call *,
					  struct buf *detail);
struct dialect_claim dialect_route_anthropic(const struct dialect_head *, struct mem *, struct dialect_call *,
					     struct buf *detail);
/* Which path of its own ends as this one does, which is nobody's; empty: none. Gemini's may lack its version. */
struct slice dialect_meant_gemini(struct slice path);
struct slice dialect_meant_openai(struct slice path);
struct slice dialect_meant_anthropic(struct slice path);
enum refusal dialect_route_http(const struct dialect_head *, struct mem *, struct dialect_call *, struct buf *detail);

/* ---- paths of URLs ---- */

/* POST with JSON, or GET (HEAD) for lists; `detail` says what is allowed. */
enum refusal dialect_check_method(const struct dialect_head *, enum operation, struct buf *detail) MUST_CHECK;
/* Every escape is good, and no segment, escapes resolved, is "." or "..", or has a control byte. */
bool dialect_path_safe(struct slice path) MUST_CHECK;
/* A model's name: not empty, not too long, no control bytes, no empty or dot segments. */
enum refusal dialect_check_model(struct slice name, struct buf *detail) MUST_CHECK;
/* Resolves the escapes of a part of a path that names a model; *name lives in the arena. */
enum refusal dialect_decode_model(struct slice raw, struct mem *, struct slice *name, struct buf *detail) MUST_CHECK;
/* As one segment of a path: all but RFC 3986's unreserved characters are escaped. */
bool dialect_put_segment(struct slice text, struct buf *out) MUST_CHECK;

#endif

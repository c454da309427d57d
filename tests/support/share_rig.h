/* Asks svc/share about requests that are written as text. What comes before it in a request's life is real: svc/caller, svc/dialect, svc/route, svc/upload. */
#ifndef SLUICE_TESTS_SHARE_RIG_H
#define SLUICE_TESTS_SHARE_RIG_H

#include "lib/base.h"
#include "svc/share.h"

struct share_rig;

/* Upstreams o and p (openai; o is the default, and also serves "one" as "real", "two" as "real" and "three" as "other"; p serves "four" as "real"),
 * a (anthropic), g (gemini), h and i (http); o, g and h forward X-Custom and Cache-Control, too. The tenants acme (with the keys key-of-acme and second-of-acme), other
 * (key-of-other) and third (key-of-third); who has no key is nobody. `more` is added: cache, coalesce. */
struct share_rig *share_rig_new(const char *more);
void share_rig_free(struct share_rig **);

struct share_rig_request {
	const char *target; /* "/v1/embeddings"; with another method than POST: "GET /h/page" */
	const char *fields; /* lines; NULL: none */
	struct slice body;
};

/* NULL: it is refused before sharing is thought of. Else good until the next call. */
const struct share *share_rig_judge(struct share_rig *, const struct share_rig_request *);
/* What it was judged by, good until the next call. */
const struct share_input *share_rig_input(const struct share_rig *);

#endif

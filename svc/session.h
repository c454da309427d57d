/* To which session a request belongs, so that one conversation stays at the target that has its prompt in cache: the header X-Sluice-Session, else what the body
 * says (prompt_cache_key, user, metadata.user_id). Nothing is kept: the name is hashed, and svc/route does the same with the same hash on every instance. */
#ifndef SLUICE_SESSION_H
#define SLUICE_SESSION_H

#include "lib/base.h"
#include "lib/slice.h"
#include "svc/dialect.h"
#include "svc/http.h"

enum { SESSION_MOST = 256 }; /* bytes of the header; a longer one counts as none */

/* `tenant`: the name of whose it is; empty: anonymous. Two tenants' sessions of one name are two. 0: it belongs to none. */
uint64_t session_of(struct slice tenant, const struct http_head *, const struct dialect_call *);

#endif

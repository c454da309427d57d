/* Who calls, and with what: read from the head of a request once, before anything else looks at it.
 *
 * The client's key is taken off here, wherever it stood: `query` no longer holds it, svc/fields never forwards it, and only its SHA-256 is compared. */
#ifndef SLUICE_CALLER_H
#define SLUICE_CALLER_H

#include "lib/base.h"
#include "lib/lane.h"
#include "lib/mem.h"
#include "lib/slice.h"
#include "svc/config.h"
#include "svc/http.h"
#include "svc/refusal.h"

struct buf;

/* Slices live as long as the head or the arena. */
struct caller {
	const struct config_tenant *tenant; /* NULL: anonymous */
	unsigned char key_sha256[32];       /* of the key that the tenant was found by */
	struct slice path, query;           /* path without '?', query without `key`; both still percent-encoded */
	bool google_key;                    /* the key came as x-goog-api-key or ?key= */
	bool anthropic_version;             /* that field is there */
	struct slice content_type;
	struct slice
		request_id; /* the client's own X-Request-Id when it is valid (1 to 128 of [A-Za-z0-9._-]); else empty */
	struct slice address; /* the peer's, or what a trusted proxy says in X-Forwarded-For */
	enum lane lane;       /* of its `Priority`, or its tenant's, whichever is lower */
	bool says_lane;       /* it has a `Priority` with an urgency */
	int64_t deadline;     /* what the client's SDK will wait, microseconds from now; 0: it did not say */
};

/* Fills the caller, all of it but `tenant` also when it refuses. No key, or an unknown one: REFUSAL_invalid_api_key, and `detail` says
 * which and where it stood, never a part of it; two different keys in one request: REFUSAL_invalid_request. Without tenants in the configuration, or with allow_anonymous and no key
 * given, everybody is anonymous. */
enum refusal caller_read(const struct config *, const struct http_head *, struct slice peer, struct mem *,
			 struct caller *, struct buf *detail) MUST_CHECK;

#endif

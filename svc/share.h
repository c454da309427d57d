/* What of a request may be shared: whether it takes part at all, under which key, with what wishes; and whether its answer may be kept, and how long.
 *
 *   configuration ─┐
 *   Cache-Control ─┼──► share_judge ──► struct flight_ask ──► lib/flight …  answer ──► share_keep ──► how long it stays
 *   what is asked ─┘
 *
 * The key is SHA-256 over all that the upstream would be sent and could answer differently to, and over whose it is: scope, dialect, method, path, query, the
 * model and its list of targets (upstream, where it begins, what it calls the model), the fields that change meaning, what the body means (svc/dialect.h). Never
 * over which of the targets is chosen, nor over who signs it (keys), traces it, or tries it again. */
#ifndef SLUICE_SHARE_H
#define SLUICE_SHARE_H

#include "lib/base.h"
#include "lib/flight.h"
#include "svc/caller.h"
#include "svc/config.h"
#include "svc/dialect.h"
#include "svc/fields.h"
#include "svc/http.h"
#include "svc/route.h"
#include "svc/upload.h"

enum {
	SHARE_BODY_MOST = 4 * 1024 * 1024
}; /* bytes of a body whose meaning is looked for: 2 to 13 ms of the loop, 17 ms at worst */

struct share_input {
	const struct config *config;
	const struct http_head *head;
	const struct caller *caller;
	const struct dialect_call *call;
	const struct route *route;
	const struct upload *body;
	struct dialect_digest *digest;
	struct mem *mem;
};

struct share {
	bool wanted;      /* it is looked up: `ask` says how */
	bool store;       /* its answer may be kept, if share_keep agrees */
	bool no_cache;    /* the client wants no stored answer */
	bool only_stored; /* the client wants what is stored, or nothing: if it is not wanted, it is to be refused */
	struct flight_ask ask;
};

/* Texts of the ask live in the arena. A request that cannot be judged (no room, a body that tells no meaning) is not wanted: it asks for itself, unless it
 * wants only what is stored. */
void share_judge(struct share *, const struct share_input *);

/* Whether the answer will be kept if it ends as it should, as far as its head tells. */
bool share_may_keep(const struct dialect_call *, int status, const struct fields_answer *) MUST_CHECK;
/* How long the answer, which has ended, may be kept, counted from now; false: not at all, and the times stay as they are. */
bool share_keep(const struct config *, const struct dialect_call *, int status, const struct fields_answer *,
		const struct meter_result *, struct flight_end *times) MUST_CHECK;
/* Nobody else may have it, not even who waits for it (dialect http alone: private, no-store, no-cache, or it varies by what no key knows). */
bool share_is_private(const struct dialect_call *, const struct fields_answer *) MUST_CHECK;

/* The field of lib/flight's purge hash for a purge of a tenant's answers, of a model's, of both together, or of one key ({NULL,0}: not said). Empty: the arena
 * is full. Nothing said at all: everything. */
struct slice share_purge_name(struct slice tenant, struct slice model, struct slice key, struct mem *);

#endif

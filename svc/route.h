/* Where a request goes: which of the caller's models it names, and which endpoint of which upstream is asked for it, under what name.
 *
 *   route_find ──► the model ──► route_choose ──► target and endpoint ──► (it fails) ──► route_choose again, knowing what was tried ──► …
 *                                     │ none will do
 *                                     └──► route_fall_back ──► the next model of its `fallback` ──► route_choose
 *
 * Chosen is: of the targets that can (capabilities) and are well (breaker, pauses), the best by the model's strategy; of its endpoints those of the request's
 * lane, then those of this instance's region, then the lowest priority, then by weight. A session stays where it is as long as that is well: by weighted
 * rendezvous hashing (Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005), so that nothing has to be remembered or shared.
 * Nothing here waits, and nothing is kept: what a target is like is asked of `look`. */
#ifndef SLUICE_ROUTE_H
#define SLUICE_ROUTE_H

#include "lib/breaker.h"
#include "svc/config.h"
#include "svc/dialect.h"

struct route {
	struct slice model; /* the client's name for it, or that of the fallback; dialect http: the upstream's name */
	const struct config_model *configured; /* NULL: taken by the dialect's default upstream as it is */
	const struct config_upstream *upstream;
	size_t target, endpoint;     /* their places in the lists; before route_choose the first ones */
	struct slice upstream_model; /* empty: the client's name goes through */
	size_t fallbacks; /* how many of the first model's fallbacks have been looked at; 0: it is that model itself */
	const struct config_model *first; /* the model whose `fallback` counts */
};

/* The same endpoint of the same target of the same model. */
bool route_is_same_place(const struct route *, const struct route *);

/* Finds the route of a call whose model is known. `tenant` NULL: anonymous, who may use every model. `detail` names what is allowed. */
enum refusal route_find(const struct config *, const struct config_tenant *tenant, const struct dialect_call *,
			struct route *, struct buf *detail) MUST_CHECK;

/* Whether that tenant may use the model, or the upstream of dialect http, of this name; NULL may use all. */
bool route_allows(const struct config_tenant *, struct slice model) MUST_CHECK;

/* One bit for each target and endpoint: bit target * CONFIG_ENDPOINTS_MOST + endpoint. */
struct route_set {
	uint64_t bits[CONFIG_TARGETS_MOST * CONFIG_ENDPOINTS_MOST / 64];
};
void route_mark(struct route_set *, size_t target, size_t endpoint);
void route_mark_target(struct route_set *, size_t target); /* all its endpoints */
struct route_set route_union(const struct route_set *, const struct route_set *);
bool route_marked(const struct route_set *, size_t target, size_t endpoint);

/* What one endpoint is like now, for one model: as the upstream is asked for it, also where the client's name goes through. */
struct route_health {
	enum breaker_gate gate;
	bool paused;        /* BREAKER_STOP because the provider said when to come again */
	int64_t wait;       /* BREAKER_STOP: microseconds until it may end */
	int64_t first_byte; /* of late, microseconds; -1: not known */
	unsigned in_flight;
};
typedef void route_look(void *arg, const struct config_upstream *, size_t endpoint, struct slice upstream_model,
			struct route_health *);

struct route_question {
	const struct config *config;
	bool media, tools;       /* what the request brings or offers */
	int64_t input, output;   /* tokens, as estimated; ≥ 0 */
	enum config_lane lane;   /* REALTIME or BATCH */
	uint64_t session;        /* a hash of it; 0: none */
	uint64_t random;         /* uniform in all its bits */
	struct route_set failed; /* have failed this request: taken only when nothing else will do */
	struct route_set barred; /* will not do for this request any more */
	route_look *look;
	void *arg;
};

enum route_found {
	ROUTE_FOUND,   /* the route says where */
	ROUTE_UNABLE,  /* no target can do what the request needs */
	ROUTE_STOPPED, /* those that could are stopped or barred */
};
struct route_choice {
	bool asks;      /* it is half open: it takes a ticket */
	bool elsewhere; /* it has not failed this request */
	/* STOPPED: the least wait of those that are stopped, and whether it is a pause; 0: all are barred. */
	int64_t wait;
	bool paused;
};
/* Unless it is FOUND, the route is as it was. One target with one endpoint takes some 20 ns, sixteen that draw lots 1 µs, sixteen of sixteen endpoints 12 µs. */
enum route_found route_choose(const struct route_question *, struct route *, struct route_choice *) MUST_CHECK;
/* What the request needs that no target of its model can do, in words, for ROUTE_UNABLE: "Needed: tools; 9000 tokens, at most 8192." When each need has a
 * target, but none has all of them: "Needed together: …". */
void route_say_unable(const struct route_question *, const struct route *, struct buf *detail);

/* Goes on to the next model of the first one's `fallback` that the tenant may use. False: there is none; the route is as it was. */
bool route_fall_back(const struct config *, const struct config_tenant *, struct route *) MUST_CHECK;

/* Whether a configured model is in the list that this caller sees in this dialect. */
bool route_lists(const struct config *, const struct config_tenant *tenant, enum dialect,
		 struct slice model) MUST_CHECK;
/* That list, in the configuration's order: configured models with a target of that dialect. `names` has room for all of config->models_count; returns how
 * many are written. */
size_t route_models(const struct config *, const struct config_tenant *tenant, enum dialect, struct slice *names);

#endif

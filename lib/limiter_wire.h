/* The limiter's scripts as arguments and replies: the one place in C that knows their order (lua/admit.lua,
 * lua/settle.lua, lua/peek.lua).
 *
 * A scope takes part when it has any limit; the first that does holds the proof, its set of leases, whether it
 * limits concurrency or not. The same ask always gives the same keys and rows, so nothing needs to be remembered
 * between a call and its answer. Everything lives in the struct (some 10 KiB, on the caller's stack); slices point
 * into it and into the ask. */
#ifndef SLUICE_LIMITER_WIRE_H
#define SLUICE_LIMITER_WIRE_H

#include "lib/limiter.h"

struct buf;

#define LIMITER_WIRE_NOW     INT64_C(-1) /* let Redis' clock decide; anything else is for tests */
#define LIMITER_WIRE_UNKNOWN INT64_C(-1) /* when it was reserved: the answer was lost */
#define LIMITER_WIRE_REPLY   24          /* an admit reply has no more numbers than this */

struct limiter_wire {
	size_t keys, arguments, used;
	int first; /* scope that takes part */
	bool takes_part[LIMITER_SCOPES], refunds[LIMITER_SCOPES];
	struct slice key[20];
	struct slice argument[160];
	char text[8192];
};

/* Whether Redis has to be asked at all. */
bool limiter_wire_needed(const struct limiter_ask *) MUST_CHECK;
/* Whether the ask can never fit; answer's verdict, scope and kind are set then. */
bool limiter_wire_never(const struct limiter_ask *, struct limiter_answer *) MUST_CHECK;

struct limiter_wire_times {
	int64_t lease; /* µs */
	int64_t hold;  /* how long a call lasts on average, µs, for the wait that a full concurrency limit answers */
};
/* rule: line_write_rule's text, borrowed as long as the wire is used; empty: the ask's line is left out. */
void limiter_wire_admit(struct limiter_wire *, const struct limiter_ask *, const struct limiter_wire_times *,
			struct slice rule, int64_t now);
/* The key of a line: 'w' or 'f'. */
void limiter_wire_line_key(const struct limiter_ask *, enum limiter_scope, char which, struct buf *);

/* The limits of one scope, of which at least one is set: the rows that admit writes for its first scope. */
void limiter_wire_peek(struct limiter_wire *, enum limiter_scope, struct slice name, const struct limits *,
		       int64_t now);

struct limiter_wire_past {
	int64_t lease;    /* as given to admit */
	int64_t reserved; /* what admit's answer said, or LIMITER_WIRE_UNKNOWN */
	bool again;       /* a settle of it was sent before that may have left no tombstone */
	bool trace;       /* something that was sent for it was never answered */
	bool waits;       /* it surely was not admitted, and may stand in a line */
	bool merged; /* it was charged by merge: where it stands in a log is not known, and nothing is given back there */
	struct slice rule; /* as given to admit */
};
void limiter_wire_settle(struct limiter_wire *, const struct limiter_ask *, const struct limiter_used *,
			 const struct limiter_wire_past *, int64_t now);

/* Only the keys of the sets that hold the lease, the proof first. */
void limiter_wire_sets(struct limiter_wire *, const struct limiter_ask *);

/* False when this is no reply of admit. A tombstone was found: verdict is UNAVAILABLE. `*reserved` is set when
 * admitted. */
bool limiter_wire_read(const struct limiter_ask *, const int64_t *number, size_t count, struct limiter_answer *,
		       int64_t *reserved) MUST_CHECK;
/* False when this is no reply of peek for these limits. Sets what they limit, and leaves the rest. */
bool limiter_wire_read_peek(const struct limits *, const int64_t *number, size_t count,
			    struct limiter_left left[LIMIT_COUNT]) MUST_CHECK;
/* The tokens of debt that a reply of settle says were forgiven, per kind, added to `forgiven`. False when it is no
 * reply of settle. */
bool limiter_wire_read_settled(const struct limiter_ask *, const struct limiter_used *, const int64_t *number,
			       size_t count, int64_t forgiven[LIMIT_COUNT]) MUST_CHECK;

#endif

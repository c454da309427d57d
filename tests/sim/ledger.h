/* What the simulator saw, for tests to read: counts, and the times on its own clock (CLOCK_BOOTTIME, microseconds).
 *
 * `billed` is what a provider would charge: the input once the answer began, the output tokens that were sent. An arrival is
 * the moment at which the last byte of a request was here. */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H

#include "ask.h"

struct ledger;
struct ledger_model;
struct buf;

/* One request, embedded in its exchange, from ledger_arrive to ledger_end. */
struct ledger_entry {
	struct ledger_model *model;
	uint64_t number; /* of the arrival, from 0 */
	int64_t arrived;
	bool open;
};

enum ledger_outcome { LEDGER_COMPLETED, LEDGER_ABORTED, LEDGER_BROKEN }; /* broken: by a fault of ours */

struct ledger *ledger_new(void);
void ledger_free(struct ledger **);
void ledger_reset(struct ledger *); /* keeps what is in flight, forgets the rest */

void ledger_connection(struct ledger *, bool opened);
void ledger_body(struct ledger *, size_t bytes);
void ledger_other(struct ledger *); /* a request that is no API call: HEAD /, model lists, echo */

/* A call's head is here; the last byte of its answer has left, or its connection died. Echoes count, too. */
void ledger_at_once(struct ledger *, bool begins);

/* request_id: of x-sim-id or x-request-id, may be empty. Counts a nonce or id that was here before as duplicate. */
void ledger_arrive(struct ledger *, struct ledger_entry *, const struct ask *, struct slice path,
		   struct slice request_id);
void ledger_end(struct ledger *, struct ledger_entry *, const struct ask *, int status, enum ledger_outcome,
		int64_t input, int64_t output);

/* For the limits: what one model has in flight, the request at hand included. */
int64_t ledger_in_flight(const struct ledger_entry *);

void ledger_stats(const struct ledger *, struct buf *);
/* [time, model, input, output billed, status, Unix time, end, path, id, nonce], oldest first; the end is 0 while it is answered. */
void ledger_arrivals(const struct ledger *, struct buf *);
void ledger_aborts(const struct ledger *, struct buf *); /* the last of them: when they came, when they left */

#endif

/* Decides what a request gets: an answer of which writer, or which refusal. Nothing is sent here. */
#ifndef SIM_JUDGE_H
#define SIM_JUDGE_H

#include "lib/buf.h"
#include "sim.h"
#include "wire.h"
#include "writer.h"

/* Owned by the exchange. */
struct judgement {
	int status;
	const struct writer *writer; /* NULL: a refusal, a list, an echo, the control page */
	bool streams, head_only;     /* head_only: the answer to HEAD */
	const char *type;            /* of a plain answer */
	struct buf body, fields;     /* of a plain answer; fields are more lines for its head */
	struct limits_state limits;
	bool limited; /* limits are known */
};

/* Fills in all three. API calls are booked as arrived; ask->behaviour holds what faults are wanted. */
void judge(struct sim *, const struct wire_request *, struct ask *, struct ledger_entry *, struct judgement *);
void judgement_free(struct judgement *);

#endif

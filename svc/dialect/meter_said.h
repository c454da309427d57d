/* What an answer says of itself, by its dialect's table of members: usage, how much was said, whether it has ended or
 * failed. This half of the meter sees members alone; the other, meter.c, sees to bytes and events, and to what passes.
 *
 *   meter.c ──► bytes of one event, or of one body ──► scan ──► roles (dialect_table) ──► counts, marks ──► result
 *
 * Nothing is allocated per event. */
#ifndef SLUICE_METER_SAID_H
#define SLUICE_METER_SAID_H

#include "svc/dialect/dialect_internal.h"

/* Gemini: which candidates were seen, and which of them said last why they ended; one bit each. */
struct meter_candidates {
	uint64_t seen, done;
	bool blocked; /* there will be none */
};

/* Embedded in its meter, and does not move: the scan knows where it is. */
struct meter_said {
	enum dialect dialect;
	enum operation operation;
	bool responses;
	const struct dialect_table *table;
	struct json_scan *scan; /* the meter feeds it */

	int64_t counts[DIALECT_ROLE_COUNTS]; /* -1: never said */
	int64_t output_bytes;
	struct meter_candidates now, sure; /* with what is being read; of what was whole */
	unsigned index;                    /* of the candidate that is being read, */
	bool reason;                       /* which says why it ended */
	bool usage_final;                  /* the chunk with the usage has come */
	bool filtered;                     /* by the content policy, or an accident; once heard, it stays */
	bool ended, error;                 /* the meter sets them, too, where it is no member that says so */
};

/* Makes the scan. `table`: of the members of this answer; NULL: nothing is read, and there is no scan. */
void meter_said_init(struct meter_said *, const struct dialect_call *, const struct dialect_table *table);
void meter_said_free(struct meter_said *);
/* The scan holds a body, or all that came of an array: what it says is taken. */
void meter_said_take(struct meter_said *);
/* The scan holds an event of a stream, and it is whole. True: it is the chunk that stream_options.include_usage adds. */
bool meter_said_event(struct meter_said *);
/* Makes the scan ready for the next event. What was heard of one that was not whole is forgotten, but for `filtered`. */
void meter_said_next(struct meter_said *);
/* Gemini: each candidate that was seen has said why it ended. */
bool meter_said_all_done(const struct meter_candidates *);
/* All of the result but `unread`. */
void meter_said_result(const struct meter_said *, struct meter_result *);

#endif

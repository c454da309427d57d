/* The judging itself, as plain data and arithmetic: what lua/report does with a breaker, done here for a worker that has no Redis. Time is an argument.
 * Both are held against each other, and against a slow exact model, by the tests. */
#ifndef SLUICE_BREAKER_RULE_H
#define SLUICE_BREAKER_RULE_H

#include "lib/breaker.h"

enum { BREAKER_SLICES = 10 };

/* As numbers they are what the scripts say. The last two are not Redis': a worker's own clock, and what was missed. */
enum breaker_why {
	BREAKER_WHY_NOTHING,
	BREAKER_WHY_ERRORS,
	BREAKER_WHY_SLOW,
	BREAKER_WHY_UNREACHABLE,
	BREAKER_WHY_FAILURES,
	BREAKER_WHY_PROBE_FAILED,
	BREAKER_WHY_PROBES_WELL,
	BREAKER_WHY_FORCED,
	BREAKER_WHY_TIME,
	BREAKER_WHY_READ,
	BREAKER_WHYS
};
const char *breaker_why_name(enum breaker_why);

struct breaker_counts {
	int64_t calls, failed, first_bytes, slow;
};

/* What was counted since the last report. */
struct breaker_delta {
	struct breaker_counts counts;
	bool reached;        /* some call ended otherwise than by not reaching it */
	bool went_well;      /* some call did */
	int64_t unreachable; /* in a row, at the end */
	int64_t failures;    /* in a row, at the end */
};
bool breaker_delta_any(const struct breaker_delta *);
void breaker_delta_note(struct breaker_delta *, enum breaker_result, bool counted_as_success);
void breaker_delta_first_byte(struct breaker_delta *, const struct breaker_rule *, int64_t took, bool came);

/* One breaker. Times are of one clock, the caller's, > 0. Zeroed it is closed, and knows nothing. */
struct breaker_judge {
	bool is_open;             /* or half open, when `until` is over */
	enum breaker_force force; /* while it is, nothing is judged */
	int64_t epoch;            /* grows with each change; 0: none yet */
	int64_t until;            /* when open ends */
	int64_t trips, good;      /* since it closed; probes that went well since it opened */
	int64_t unreachable;      /* in a row */
	int64_t failures;         /* in a row */
	int64_t last;             /* when something was added */
	struct breaker_slice {
		int64_t slot; /* time / width */
		struct breaker_counts counts;
	} slice[BREAKER_SLICES];      /* by slot % 10 */
	struct breaker_counts judged; /* the window, when it was last judged */
	int64_t run;                  /* what was in a row, if that opened it */
};

enum breaker_state breaker_judge_state(const struct breaker_judge *, int64_t now);
/* Closed: adds, and does not judge. What was counted under another epoch than the present one is left out; 0 is any. */
void breaker_judge_count(struct breaker_judge *, const struct breaker_rule *, int64_t now, int64_t epoch,
			 const struct breaker_delta *);
/* The same, an empty delta too, and judges. */
enum breaker_why breaker_judge_add(struct breaker_judge *, const struct breaker_rule *, int64_t now, int64_t epoch,
				   const struct breaker_delta *);
/* Half open: a probe of this epoch has ended. */
enum breaker_why breaker_judge_probed(struct breaker_judge *, const struct breaker_rule *, int64_t now, int64_t epoch,
				      bool well);
void breaker_judge_forced(struct breaker_judge *, int64_t now, enum breaker_force);
void breaker_judge_forget(struct breaker_judge *); /* the window, and what was in a row */
/* The sum of the present slice and the nine before it. */
struct breaker_counts breaker_judge_window(const struct breaker_judge *, const struct breaker_rule *, int64_t now);

#endif

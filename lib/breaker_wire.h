/* Keys, arguments, replies and published words of the breaker's scripts: report, probe, pause, force. */
#ifndef SLUICE_BREAKER_WIRE_H
#define SLUICE_BREAKER_WIRE_H

#include "lib/breaker_rule.h"
#include "lib/buf.h"
#include "lib/redis.h"

enum {
	BREAKER_PAUSES_MOST = 1000, /* models of one breaker */
	BREAKER_WIRE_KEYS = 3,
	BREAKER_WIRE_ARGUMENTS = 26,
	BREAKER_WIRE_TEXT = 640,   /* of the numbers */
	BREAKER_TICKET_MOST = 200, /* bytes */
};
#define BREAKER_PAUSE_MOST (INT64_C(25) * 3600 * 1000000)

/* One call: its numbers stand in `memory`; other texts are the caller's, who sends it at once. */
struct breaker_wire {
	struct slice arguments[BREAKER_WIRE_ARGUMENTS];
	size_t argument;
	struct buf text;
	char memory[BREAKER_WIRE_TEXT];
};
#define BREAKER_WIRE_NOW 0 /* as `now`: Redis' own clock */

struct breaker_report {
	int64_t epoch; /* under which `delta` was counted */
	struct breaker_delta delta;
	int64_t pauses;             /* the version known */
	struct slice ticket;        /* empty: none */
	enum breaker_result result; /* of its call */
	bool so_far;                /* its call goes well, and has not ended: the ticket is kept */
	bool doubtful;              /* whether it was given is not known */
	enum breaker_force force;   /* as it is known: told to a Redis that has lost it */
};
void breaker_wire_report(struct breaker_wire *, int64_t now, struct slice name, const struct breaker_rule *,
			 const struct breaker_report *);
void breaker_wire_probe(struct breaker_wire *, int64_t now, struct slice ticket, int64_t lasts, int64_t probes);
void breaker_wire_pause(struct breaker_wire *, int64_t now, struct slice name, struct slice model, int64_t length);
void breaker_wire_force(struct breaker_wire *, int64_t now, struct slice name, enum breaker_force,
			const struct breaker_rule *);

/* How a breaker stands, as a script or another worker's script says. */
struct breaker_standing {
	enum breaker_state state;
	int64_t epoch;
	int64_t left; /* microseconds that it stays open */
	int64_t trips;
	enum breaker_force force;
	enum breaker_why why; /* why it was changed just now; by a reply: by this very call */
	struct breaker_counts counts;
	int64_t run;
};
enum breaker_verdict { BREAKER_DENIED, BREAKER_GRANTED, BREAKER_NEEDLESS };

/* All false: no reply, or no word, of ours. */
bool breaker_wire_read_report(const struct redisReply *, struct breaker_standing *, int64_t *pauses) MUST_CHECK;
/* The index-th pause that a report answers. */
bool breaker_wire_read_pause(const struct redisReply *, size_t index, struct slice *model, int64_t *left) MUST_CHECK;
/* Of probe and force (where `verdict` is 0 or 1). */
bool breaker_wire_read_short(const struct redisReply *, int64_t *verdict, struct breaker_standing *) MUST_CHECK;
bool breaker_wire_hear_standing(struct slice text, struct breaker_standing *, struct slice *name) MUST_CHECK;
bool breaker_wire_hear_pause(struct slice text, struct slice *name, struct slice *model, int64_t *left) MUST_CHECK;

#endif

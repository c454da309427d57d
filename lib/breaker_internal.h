/* What the breaker's files share.
 *
 *   breaker.c         the worker's breakers, their lives; the gate; what is counted
 *   breaker_report.c  when Redis is told, and what its answers and other workers' words change
 *   breaker_probe.c   tickets: asked for, given, given back until Redis has heard it
 *   breaker_pause.c   models that are not to be called for a while
 *   breaker_force.c   by hand
 *   breaker_rule.c    the judging, as plain data
 *   breaker_wire.c    keys, arguments, replies */
#ifndef SLUICE_BREAKER_INTERNAL_H
#define SLUICE_BREAKER_INTERNAL_H

#include "lib/breaker.h"
#include "lib/breaker_rule.h"
#include "lib/breaker_wire.h"
#include "lib/clock.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/script.h"

#define BREAKERS_MAGIC     UINT32_C(0x62726b73)
#define BREAKER_MAGIC      UINT32_C(0x62726b72)
#define PROBE_MAGIC        UINT32_C(0x70726f62)

#define BREAKER_REREAD     CLOCK_SECOND /* of what is not simply closed; and what an idle one may be late by */
#define BREAKER_DENIED_FOR (100 * CLOCK_MILLISECOND) /* after a denied asking the gate asks no more */
#define BREAKER_NEVER      INT64_MAX

struct map;

/* Why it was changed, and by what figures. */
struct breaker_reason {
	enum breaker_why why; /* nothing: by time alone */
	struct breaker_counts counts;
	int64_t run;
	bool tripped; /* by this worker */
};

struct breakers {
	uint32_t magic;
	struct loop *loop;
	struct redis *redis;
	struct log *log;
	struct breaker_options options; /* its channel is owned */
	struct map *named;              /* name → struct breaker */
	struct list all;
	struct list probes;   /* all that live, also those that were ended and Redis has not heard it */
	struct list forcings; /* on their way */
	unsigned unfinished;
	uint64_t serial; /* orders what is sent and what is heard */
	uint64_t probes_made;
	uint64_t chance;               /* in tickets: no other worker, and no earlier life of this one, has it */
	struct loop_timer timer;       /* one for all */
	int64_t rings;                 /* clock_now: when the timer does; BREAKER_NEVER: it is not set */
	struct loop_deferred turn_end; /* for what must not wait */
};

/* Owned by the breakers; held by who uses it, by its probes and by forcings; dies at the end of the turn in which nobody holds it any more.
 * `judge` mirrors the fleet's state and counts this worker's calls. While `alone` it is the state. Its times are clock_now's. */
struct breaker {
	uint32_t magic;
	unsigned holders;
	struct breakers *breakers;
	struct list node;
	struct breaker_rule rule;
	struct breaker_judge judge;
	struct breaker_delta pending; /* counted since the last report was sent; under judge.epoch */
	struct breaker_counts fleet;  /* the window, as last told */

	struct script_call *call; /* a report on its way */
	uint64_t call_serial;
	uint64_t heard_serial; /* of the newest change that was heard of, not answered */
	int64_t counted;       /* clock_now: the first that is pending */
	int64_t read;          /* clock_now: when the last report was sent; 0: never */
	int64_t due;           /* clock_now: when something is to be done; BREAKER_NEVER: nothing */
	bool urgent;           /* what is pending is not to wait */
	bool wanted;           /* a read is, at once */
	bool alone;            /* Redis does not answer */

	enum breaker_state told_state; /* what `changed` and the log know */
	enum breaker_force told_force;
	struct breaker_reason reason; /* of the change that is still to be told */

	int64_t denied_until; /* clock_now */
	int64_t asking;       /* probes that wait for an answer */
	int64_t calling;      /* probes that have a ticket */

	struct map *pauses;     /* model → struct pause */
	int64_t pauses_version; /* Redis', as last read in whole */
	bool has_untold;        /* pauses that Redis has not confirmed, and that no call tells */

	struct loop_deferred death;
	struct slice name, keys[BREAKER_WIRE_KEYS]; /* all in `text` */
	char text[];
};
enum { BREAKER_KEY_STATE, BREAKER_KEY_TICKETS, BREAKER_KEY_PAUSES };

/* breaker.c */
void breaker_let_go(struct breaker *);
void breakers_heard(const struct breakers *, enum breaker_script, const struct redis_answer *);
/* Whether what was sent may have run, or may yet. */
bool breaker_may_have_run(const struct redis_answer *);

/* breaker_report.c */
void breaker_schedule(struct breaker *); /* looks anew at what is to be done, and when */
void breakers_tick(void *arg);           /* does what is due */
void breaker_go_alone(struct breaker *); /* Redis has not answered */
/* Redis has answered; what that changes is told at the end of the turn. `serial` is that of the sending. Older than what was heard since, it changes nothing. */
void breaker_take(struct breaker *, const struct breaker_standing *, uint64_t serial);
/* A report's answer, whatever it was sent for. False: none of ours. */
bool breaker_take_report(struct breaker *, const struct redisReply *, uint64_t serial);
void breaker_changed_here(struct breaker *, enum breaker_why); /* judged while alone; told of at the end of the turn */

/* breaker_probe.c */
void breakers_free_probes(struct breakers *);

/* breaker_pause.c */
void breaker_pause_heard(struct breaker *, struct slice model, int64_t left);
void breaker_pauses_tell(struct breaker *); /* what Redis has not confirmed */
void breaker_pauses_free(struct breaker *);

/* breaker_force.c */
void breakers_free_forcings(struct breakers *);

#endif

/* The fleet's breakers: whether a target is worth calling, known to every worker of every instance, and no Redis call to a request while it is.
 *
 *   breaker_note, breaker_first_byte ──► counted here ──► every 250 ms, at once when it cannot be reached ──► lua/report ──► state
 *                                                                                                                         │ published
 *   breaker_gate ◄── the state as last heard ◄── pushed to all workers, and in the answer to each report ◄────────────────┘
 *
 *            too many fail, or are slow              open_for is over
 *   CLOSED ─────────────────────────────► OPEN ─────────────────────────► HALF_OPEN ──► CLOSED: `probes` calls went well
 *                                           ▲                                 │
 *                                           └──────── one did not ────────────┘  twice as long each time, up to open_most
 *
 * Half open, a call needs a ticket of Redis (breaker_probe): at most `probes` at once in the whole fleet. A ticket whose worker has died is free at once (nobody
 * listens to that worker's channel any more); one whose worker is stopped, when its call must have ended.
 *
 * A pause is another thing: the provider said when to come again (429 with Retry-After, a day's quota used up), for one model of a target. It says nothing of
 * health; all workers heed it; it only ever extends.
 *
 * Counted is what ends: "more than 1 % slower than L" is the same statement as "p99 above L", so ten slices of three numbers are enough. Source of the
 * states: M. Nygard, Release It!, 2nd edition, section 5.2.
 *
 * Without Redis each worker judges by what it counts itself, by the same rules, and gives its own tickets; when Redis is back its state holds.
 * Disadvantage: a report is up to 250 ms late, so a target that begins to fail gets the calls of that time. */
#ifndef SLUICE_BREAKER_H
#define SLUICE_BREAKER_H

#include "lib/base.h"
#include "lib/slice.h"

struct loop;
struct log;
struct redis;
struct breaker;
struct breakers;
struct probe;

enum { BREAKER_NAME_MOST = 1400, BREAKER_MODEL_MOST = 256 }; /* bytes */

/* When it opens, and how it closes. Rates are in parts of 10,000; times are microseconds. */
struct breaker_rule {
	int64_t window;         /* looked back: ten slices of it */
	int64_t min_calls;      /* in the window, before error_rate means anything; ≥ 1 */
	int64_t error_rate;     /* opens when more of them fail; 0: never */
	int64_t slow;           /* a stream's first byte that comes later is slow */
	int64_t slow_rate;      /* opens when more of them are slow; 0: never */
	int64_t slow_min_calls; /* streams in the window, before slow_rate means anything; ≥ 1 */
	int64_t unreachable;    /* connect or TLS failures in a row; 0: never */
	int64_t failures;       /* failures of any kind in a row; 0: never */
	int64_t open_for;       /* the first time; doubled at each trip until it has closed, ≥ 1 */
	int64_t open_most;      /* and no longer than this, ≥ open_for */
	int64_t probes;         /* at once in the fleet; so many must go well to close it; ≥ 1, at most 100 */
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
enum breaker_force { BREAKER_AUTO, BREAKER_FORCED_OPEN, BREAKER_FORCED_CLOSED };
const char *breaker_state_name(enum breaker_state); /* "closed", "open", "half_open" */
const char *breaker_force_name(enum breaker_force); /* "auto", "open", "closed" */

/* What became of a call. What says nothing of the target's health is not noted: a 429, a client that left before `slow`, no free connection. */
enum breaker_result {
	BREAKER_SUCCESS,
	BREAKER_FAILURE,     /* an answer of 5xx, time-outs, resets, truncated or malformed answers */
	BREAKER_UNREACHABLE, /* connect or TLS: reported at once */
	BREAKER_NOTHING,     /* for breaker_probe_end alone: the ticket goes back, and nothing is learnt */
};
enum { BREAKER_RESULTS = BREAKER_NOTHING + 1 };

enum breaker_script { BREAKER_REPORT, BREAKER_PROBE, BREAKER_PAUSE, BREAKER_FORCE, BREAKER_SCRIPTS };
const char *breaker_script_name(enum breaker_script);

struct breaker_options {
	int64_t timeout;      /* of one script call; microseconds */
	int64_t flush;        /* between two reports; 250 ms */
	struct slice channel; /* of this worker alone, which it listens to on this Redis; ≤ 100 bytes; copied */
	/* Redis answered a call, whatever it said; microseconds since it was sent. May be NULL. */
	void (*answered)(void *arg, enum breaker_script, int64_t took);
	/* This breaker has changed its state, as heard from whomever; `tripped`: by this worker's own report. From the loop. May be NULL. */
	void (*changed)(void *arg, const struct breaker *, bool tripped);
	void *arg;
};

/* What all workers of a fleet subscribe to on the Redis of the breakers; what is heard there goes to breakers_hint. */
#define BREAKER_CHANNEL "sluice:b"

/* All breakers of one worker. `log` gets one line per change of a breaker's state. */
struct breakers *breakers_new(struct loop *, struct redis *, const struct breaker_options *, struct log *);
void breakers_free(
	struct breakers **); /* breakers and probes must have been given back; reports on their way are forgotten */
/* Published on BREAKER_CHANNEL. What is no message of ours is ignored. */
void breakers_hint(struct breakers *, struct slice text);
/* Messages may have been missed (the subscription was broken): all breakers are read again. */
void breakers_missed(struct breakers *);

/* The breaker of this name (≤ BREAKER_NAME_MOST, copied), found or made; counted. The rule is copied; the latest caller's holds. A new one counts as closed
 * until Redis has said otherwise, for which it is asked at once. */
struct breaker *breaker_hold(struct breakers *, struct slice name, const struct breaker_rule *);
void breaker_hold_more(struct breaker *); /* one more who releases it */
void breaker_release(struct breaker **);  /* NULL inside is fine */
/* Little is forgotten by releasing it: one holder has it, so no call is under way; it is not open, nobody took it by hand, and this worker has counted no call in
 * its window. Disadvantage: one that is half open is closed when it is held again, until Redis has told it: a call may go without a ticket. */
bool breaker_is_idle(const struct breaker *);
struct slice breaker_name(const struct breaker *);

/* ---- before a call: neither waits nor asks Redis ---- */

enum breaker_gate {
	BREAKER_PASS,
	BREAKER_ASK,  /* half open: it takes a ticket (breaker_probe) */
	BREAKER_STOP, /* open; or half open, and a moment ago there was no ticket */
};
enum breaker_gate breaker_gate(const struct breaker *);
/* Microseconds until BREAKER_STOP may end; 0 when the gate says something else; open_for when it is forced open, whose end nobody
 * knows. */
int64_t breaker_wait(const struct breaker *);

/* Asks for a ticket, for a call that surely ends within `lasts`. `done` runs once, never inside this call, unless the probe is ended before. Granted or
 * not, the probe ends with breaker_probe_end. Never NULL. */
typedef void breaker_probed(struct probe *, void *arg, bool granted);
struct probe *breaker_probe(struct breaker *, int64_t lasts, breaker_probed *done, void *arg);
/* The call that it was for goes well so far: a head came, and it is that of no failure. That counts towards closing at once, while the ticket is kept until the call
 * has ended; what comes behind it can only be noted as a failure. */
void breaker_probe_well(struct probe *);
/* Gives the ticket back with what its call came to, exactly once, whatever replies are lost; nulls the handle; NULL inside is fine. A result of an epoch
 * that is over counts nothing. The call's result is not to be noted beside. */
void breaker_probe_end(struct probe **, enum breaker_result);

/* ---- after a call that needed no ticket ---- */

/* SUCCESS when the head of an answer came that is none; a failure where it failed, also behind such a head: that call then counts once, as failed. */
void breaker_note(struct breaker *, enum breaker_result, bool counted_as_success);
/* A stream's first byte came after so long, or had not come when the call ended after so long: then only what is slow says anything. */
void breaker_first_byte(struct breaker *, int64_t took, bool came);

/* ---- pauses ---- */

/* No worker of the fleet is to call this model of it for so long from now (at most 25 hours); here from this moment. Shorter than what stands: nothing. */
void breaker_pause(struct breaker *, struct slice model, int64_t length);
int64_t breaker_paused(const struct breaker *,
		       struct slice model); /* microseconds left; 0: none. Neither waits nor asks Redis. */

/* ---- by hand, and for looking ---- */

/* `done` may be NULL; runs once, never inside this call, but from inside breakers_free; false: Redis did not take it, or has not said so. Forced closed: all pass, counts go on. Holds until it is forced
 * otherwise, as long as any worker of the fleet knows this breaker. */
void breaker_force(struct breaker *, enum breaker_force, void (*done)(void *arg, bool taken), void *arg);

enum breaker_force breaker_forced(const struct breaker *);

struct breaker_view {
	enum breaker_state state;
	enum breaker_force force;
	int64_t wait;  /* as breaker_wait */
	int64_t trips; /* since it last closed */
	int64_t calls, failed, first_bytes,
		slow; /* in the window, of the fleet as last told; of this worker while `alone` */
	bool alone;   /* Redis does not answer: this worker's own judgement */
};
void breaker_look(const struct breaker *, struct breaker_view *);
/* Each of the worker's breakers, in no order. */
void breakers_each(struct breakers *, void (*each)(void *arg, struct breaker *), void *arg);
/* Each pause that stands, microseconds left. */
void breaker_pauses(const struct breaker *, void (*each)(void *arg, struct slice model, int64_t left), void *arg);

/* Tickets given back of which Redis has not heard. A drain need not wait for them: those of a worker that has gone are free. */
unsigned breakers_unfinished(const struct breakers *);

#endif

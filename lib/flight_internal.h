/* What the flight's files share.
 *
 *   flight.c         seats and flights, their lives                  who joins, who leaves
 *   flight_ask.c     what is asked of Redis for seats                seat ──► ask ──► told
 *   flight_record.c  what has come of an answer, and who reads it    flight ──► seats
 *   flight_lead.c    the leader's side: append, finish               flight ──► Redis
 *   flight_read.c    the reader of another worker's flight           Redis ──► flight
 *   flight_wire.c    names, arguments, replies
 *   flight_purge.c   what must not be given any more; for itself */
#ifndef SLUICE_FLIGHT_INTERNAL_H
#define SLUICE_FLIGHT_INTERNAL_H

#include "lib/buf.h"
#include "lib/flight.h"
#include "lib/flight_wire.h"
#include "lib/list.h"
#include "lib/loop.h"

#define FLIGHTS_MAGIC UINT32_C(0x666c6768)
#define FLIGHT_MAGIC  UINT32_C(0x666c6974)
#define SEAT_MAGIC    UINT32_C(0x73656174)

struct map;

/* One join on its way, for all the seats that want the same. Dies when it is answered. */
struct flight_asking {
	struct flights *flights;
	struct list node;  /* in flights->askings */
	struct list seats; /* all of them may leave; the answer is then nobody's */
	struct script_call *call;
	struct slice identity; /* what makes two asks the same; owned */
	bool listed;           /* who asks the same waits here */
	unsigned char key[ANSWER_KEY];
	uint64_t epoch; /* the subscriber's when it was sent; 0: the answer may be kept by nobody */
};

enum seat_place {
	SEAT_ASKING,    /* in an asking's list */
	SEAT_FOLLOWING, /* in a flight's list */
	SEAT_LEADING,   /* flight->leader */
	SEAT_ALONE,     /* in no list: told, or about to be (`tell`) */
};

/* Owner: who joined, until flight_leave. Between calls: it is in the list of its place. */
struct flight_seat {
	uint32_t magic;
	enum seat_place place;
	struct flights *flights;
	struct list node;
	struct flight_asking *asking;
	struct flight *flight; /* FOLLOWING, LEADING */
	struct flight_ask ask;
	const struct flight_events *events;
	void *arg;
	bool took;                 /* the head, or bytes: no other answer will do any more */
	bool cut;                  /* what it should take next is gone; only of one that took */
	uint64_t at;               /* bytes taken */
	bool untold;               /* what it is waits for the end of the turn; until then it hears of no bytes */
	struct loop_deferred tell; /* what was known at once, and waits for the end of the turn */
	struct flight_told told;   /* what `tell` says */
	char *note;                /* its note; owned */
};

/* Owned by the flights; dies at the end of the turn in which nothing holds it any more: a leader, seats, a call, its window. */
struct flight {
	uint32_t magic;
	struct flights *flights;
	struct list node; /* in flights->all */
	unsigned char key[ANSWER_KEY];
	bool listed;    /* it is in flights->listed: who asks finds it, if only to ask Redis about it */
	bool over;      /* an answer is stored that it will replace: who may read asks Redis */
	bool doubted;   /* something was purged since: whoever comes asks Redis whether that concerns it */
	bool closed;    /* too large for newcomers, or the process holds too much */
	bool fleet;     /* another worker leads: this is a reader */
	bool has_stale; /* lead: an answer is stored that will do if the upstream fails */

	/* The record. `bytes` holds what came from `base` on. */
	bool has_head;
	struct buf head, bytes;
	uint64_t base;
	int64_t held; /* counted in *options.held */
	enum flight_state state;
	char note[FLIGHT_NOTE];
	size_t note_length;
	struct flight_seat *leader;
	struct list seats; /* who follow */
	unsigned seats_count;
	struct loop_deferred pump;   /* tells the seats that there is more */
	struct loop_deferred death;  /* looks whether it may die */
	struct loop_deferred lonely; /* lead: tells an orphan that it is alone */
	struct loop_timer timer;     /* lead: the next word; read: the next look */
	struct script_call *call;
	int64_t fence;   /* 0: Redis knows nothing of it */
	int64_t born;    /* clock_now */
	bool window;     /* it has ended well, and stays joinable until the timer fires */
	int64_t touched; /* clock_now: the last word, or the last look */

	struct {
		bool gives_up;   /* Redis hears no more of it: another leads, or it was told all that matters */
		bool orphan;     /* the leader's client has left */
		bool ended;      /* the leader has said how */
		bool unfinished; /* and Redis has not heard it */
		bool head_told, close_told;
		unsigned readers; /* elsewhere, as last heard */
		uint64_t told;    /* bytes that Redis has */
		bool hinted;      /* somebody came to read along while a word was on its way */
		bool stumbled;    /* the last word had no answer */
		bool ask_alone;   /* the next word asks whether anybody reads along */
		struct {
			bool head, end, alone, close, stores;
			uint64_t bytes; /* up to here */
		} sent;                 /* by the call under way */
		int64_t until;          /* clock_now: no more tries of the end after */
		int64_t window_ends;    /* clock_now */
		struct flight_end end;  /* its note stands in `note` */
	} lead;
	struct {
		char last[48]; /* id of the last entry; empty: none */
		size_t last_length;
		int64_t holds_until; /* clock_now: the leader's lease, as last heard */
		int64_t shown;       /* clock_now: when it last gave a sign of life */
		int64_t wait;        /* the next back-off */
		bool again;          /* a hint came while a look was under way */
	} read;
};

struct flights {
	uint32_t magic;
	struct loop *loop;
	struct redis *redis;
	struct log *log;
	struct flight_options options;
	struct slice channel;   /* owned */
	struct map *listed;     /* key → struct flight */
	struct map *identities; /* → struct flight_asking */
	struct map *contenders; /* key → struct flight_asking that may lead, the newest: others are answered before */
	struct list all, askings;
	unsigned seats, leading, reading, unfinished;
	int64_t bytes;
};

/* flight.c */
struct slice flight_key_slice(const unsigned char key[ANSWER_KEY]);
struct flight *flights_find(const struct flights *, const unsigned char key[ANSWER_KEY]); /* the listed one */
void flight_tell(struct flight_seat *, const struct flight_told *);
void flight_tell_later(struct flight_seat *, const struct flight_told *); /* at the end of the turn */
struct flight *flight_new(struct flights *, const unsigned char key[ANSWER_KEY], bool fleet, int64_t fence);
void flight_unlist(struct flight *);      /* nobody finds it any more */
void flight_pass(struct flight_seat *);   /* which is in no list: it asks for itself */
void flight_look_at_end(struct flight *); /* at the end of the turn it dies if nothing holds it */
void flight_seat_follow(struct flight_seat *, struct flight *);
struct flight_seat *flight_pop_seat(struct flight *); /* the first that follows, in no list any more; NULL: none */

/* flight_ask.c */
void flights_heard(const struct flights *, enum flight_script, const struct redis_answer *);
void flight_ask_again(struct flight_seat *); /* which is in no list */
void flight_asking_free(struct flight_asking *);

/* flight_record.c */
bool flight_record_head(struct flight *, struct slice head) MUST_CHECK; /* false: too long */
void flight_record_bytes(struct flight *, struct slice bytes);          /* which may close it */
uint64_t flight_record_end(const struct flight *);                      /* the offset of what comes next */
void flight_record_free(struct flight *);
void flight_over(struct flight *, enum flight_state, struct slice note); /* told to all who follow */
void flight_pump(void *flight);
/* All who follow and have taken nothing, out of their list, each given to `what`. The others stay. */
void flight_release_untouched(struct flight *, void (*what)(struct flight_seat *));

/* flight_lead.c */
void flight_lead_take(struct flight *, struct flight_seat *); /* which is in no list */
void flight_lead_left(struct flight *);                       /* the leader has left without an end */
void flight_lead_alone(struct flight *);                      /* one that followed has left */
void flight_lead_hint(struct flight *);
void flight_lead_give_back(struct flight *); /* nobody has waited for the lead */
void flight_lead_tick(struct flight *);      /* the timer's */
void flight_lead_lonely(void *flight);

/* flight_read.c */
void flight_read_start(struct flight *, int64_t holds);
void flight_read_hint(struct flight *);
void flight_read_tick(struct flight *);
void flight_read_stop(struct flight *); /* the last seat has left */

#endif

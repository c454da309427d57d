/* What the pools of several loops have together: a count of places, and who waits for one.
 *
 * A configuration speaks of an instance, and each of its loops has pools of its own. Divided among eight loops, five connections would be one each (eight in
 * all), or a loop with five calls would do one after the other while four connections elsewhere are idle. So the places are one number for all loops, behind a
 * lock; a pool takes one when it must open a connection and gives it back when one is closed. A call that goes over an open connection touches nothing here, as long
 * as nobody waits for a place.
 *
 *   take ─┬─ a place is free ───────────────────────────────────────────────► it is held
 *         └─ none: its part stands in line, and the others are asked ─► give ─┘ (to who holds the least, of these the first; its loop is told)
 *
 * Who is asked closes an idle connection, or says that it has looked and has none: as long as one has not, a place may come without the end of a call.
 * Without an idle one, who holds more than the asker and one lets one go at the end of a call; so loops that all want more come to
 * hold alike. Where there are fewer places than loops that want one, a place goes round: at the end of a call, when its loop has had it for POOL_SHARE_TURN.
 * Where a bound falls below what is held, or more is idle than is kept, each holder gives up its part of what is too many.
 * Over HTTP/2 calls overlap, and a connection may never be without one: so of those who owe a place the one that holds most takes in no more calls than fit without it.
 * A tenant's places are the same thing, but each is given back with its call, so nobody needs to be asked.
 * Disadvantage: a place that goes round costs a hand-shake each time; a long stream gives nothing up before it ends, and over HTTP/2 the calls of a loop that has but
 * the one connection to give wait for that. */
#ifndef SLUICE_POOL_SHARE_H
#define SLUICE_POOL_SHARE_H

#include "lib/base.h"
#include "lib/clock.h"
#include "lib/list.h"
#include "lib/pool.h"
#include "lib/pool_size.h"
#include "lib/slice.h"

#define POOL_SHARE_TURN (100 * CLOCK_MILLISECOND)

struct loop;
struct pool_ear;
struct pool_share;

/* What one pool holds of a share. Embedded; zeroed it is no part of any, and takes without end. Between calls: `node` is among the share's parts; `waiting` in
 * the share's line, or among what its ear was granted, or alone. `held` is written by its own loop alone, so that it may read it without the lock. */
struct pool_part {
	struct pool_share *share;
	struct pool_ear *ear;
	struct list node, waiting;
	unsigned held, busy;
	int64_t since; /* holds one or more */
	/* In the share's count of askings: the one with which it came to stand in line; the last one for which it looked in vain. */
	uint64_t asking, looked;
	bool asked;   /* somebody waits, or there are too many, and this one was told */
	bool granted; /* one more, that its loop does not know of yet */
	bool waits;   /* it stands in line, or was granted one; its own loop's */
};

/* The share of that name, a new one with these bounds where there is none; `cedes`: its places outlast calls, so that holders are asked. Released by each who opened it. */
struct pool_share *pool_share_open(struct pool_shares *, struct slice name, unsigned most, bool cedes);
void pool_share_release(struct pool_share **);
/* Another bound: who waits gets what is new; of what is held above it the holders hear. */
void pool_share_bound(struct pool_share *, unsigned most);

/* Through which other loops reach a pool: `heard` runs in its loop, when a place was granted or it was asked for one. */
struct pool_ear *pool_ear_new(struct pool_shares *, struct loop *, void (*heard)(void *arg), void *arg);
void pool_ear_free(struct pool_ear **); /* `heard` runs no more */
/* Whether there is something to hear; costs a look at one word. */
bool pool_ear_has_news(const struct pool_ear *);
/* One part that was granted a place since; NULL: none, and nothing is news any more. */
struct pool_part *pool_ear_granted(struct pool_ear *);

void pool_part_join(struct pool_part *, struct pool_share *, struct pool_ear *); /* takes the share over */
void pool_part_leave(struct pool_part *);                                        /* gives all back, and its share */
/* Takes one more place. False: all are taken; with `waits` it stands in line then, until it is granted one or gives up. */
bool pool_part_take(struct pool_part *, bool waits) MUST_CHECK;
void pool_part_force(struct pool_part *); /* one more, be there one or not: it is taken already */
void pool_part_give(struct pool_part *, unsigned count);
void pool_part_give_up(struct pool_part *);        /* the line */
unsigned pool_part_held(const struct pool_part *); /* without a share: no end of them */
bool pool_part_is_asked(struct pool_part *);       /* somebody waits, or there are too many */
/* The same, of who gave what it could; `none`: and nothing more that it has comes free but by the end of a call. */
bool pool_part_looked(struct pool_part *, bool none);
/* Whether a place may come without the end of a call: it is on its way, or another part has not looked yet. */
bool pool_part_may_come(const struct pool_part *);
/* Of what all parts hold above their bound (to_size: above the size that is kept), as many as this part should give up: by what it holds, so that not all loops close
 * the same, and not one of them all. `group` may be no part of any. */
unsigned pool_part_excess(struct pool_part *, struct pool_part *group, bool to_size);
/* Gives one of each back, if there are still too many. */
bool pool_part_shed(struct pool_part *, struct pool_part *group, bool to_size) MUST_CHECK;
/* Whether a connection should go for somebody who waits. `idle`: one that nobody uses. */
bool pool_part_should_cede(struct pool_part *, bool idle, int64_t now);
/* Whether it should take in less, so that one becomes idle: it owes one, and nobody has more. */
bool pool_part_should_drain(struct pool_part *, int64_t now);

/* The size of all parts together: this one has so many connections in use. */
/* `ahead`: connections that it is to open now; of what all lack after growth, its part. */
enum pool_size_change pool_part_look(struct pool_part *, int64_t now, unsigned busy, unsigned *ahead);
/* Its size's bounds, which those of the share bound too; the first one starts it. */
void pool_part_size(struct pool_part *, unsigned least, unsigned start, unsigned most);
void pool_part_opened(struct pool_part *); /* a connection stands; counted with the size */
void pool_part_closed(struct pool_part *); /* one of these stands no more */
struct pool_share_state {
	unsigned used, most, peak, size, least,
		opened_lately; /* peak: connections that stood at once; size: what is kept */
};
void pool_part_read(const struct pool_part *, int64_t now, struct pool_share_state *);

#endif

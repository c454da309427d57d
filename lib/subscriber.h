/* What a worker hears from Redis without asking: hints on a channel of its own, and that keys which it read have changed.
 *
 *   reads ──► CLIENT TRACKING ON REDIRECT ──► Redis ──► a key that was read has changed ──┐
 *                                               ▲                                         ▼
 *   anybody ──► PUBLISH channel ────────────────┴──────────────────────────────────► subscriber ──► hint, invalidated
 *
 * It is one more connection, which only listens. What Redis pushes to it is lost without a word when that connection dies, and the tracked one does
 * not learn of it. So the subscriber pings, and `subscriber_epoch` says whether what was read is still sure to be told about.
 *
 * A copy is kept like this: note the epoch when the read is sent; keep what it answers if the epoch is then the same, is not 0, and the key was not told
 * meanwhile (the news of a change may overtake the answer that it makes false); use it as long as the epoch is the same.
 * Redis tells about a key once: only the next read of it has it tracked again.
 *
 * What a copy may be late by: `silence`. By more only if the tracked connection alone dies unseen (its packets vanish, the
 * subscriber's do not): Redis then forgets its keys. So tracking is asked for anew every second, and `reads` is cut when that has no answer for two.
 *
 * Disadvantages: two connections per worker instead of one. Both must lead to the same server: behind an address that leads to several, Redis
 * refuses to redirect to a connection that it does not have, or, by chance, has another one of that number.
 * The channel __redis__:invalidate is open to whoever may publish: what comes there in another form than Redis' own counts as "all". */
#ifndef SLUICE_SUBSCRIBER_H
#define SLUICE_SUBSCRIBER_H

#include "lib/redis.h"

struct subscriber;

enum { SUBSCRIBER_CHANNELS = 2 }; /* a worker's own, and one that a whole fleet hears */

struct subscriber_options {
	int64_t ping; /* between two pings; microseconds */
	/* What an answered ping proves is as old as its sending; when older than this, it proves nothing, and an unanswered one has the connection cut.
	 * More than `ping` and a round trip, or there is no epoch. */
	int64_t silence;
	struct slice channels[SUBSCRIBER_CHANNELS]; /* at least the first; an empty one is none; copied */
	/* Somebody published on one of them, which is named: look again; never the truth. */
	void (*hint)(void *arg, struct slice channel, struct slice text);
	/* A key that the tracked connection read has changed; key.data == NULL: all of them. */
	void (*invalidated)(void *arg, struct slice key);
	void *arg;
};

/* Starts connecting at once. hint and invalidated run from the loop, never inside a call of this header, and may call subscriber_free; what
 * they are given is valid until they return. `log` (may be NULL) gets one line when an epoch begins or ends, and one when Redis refuses what is needed:
 * without tracking (an ACL, an old server) the epoch stays 0 and the hints go on. */
struct subscriber *subscriber_new(struct loop *, const struct redis_options *, const struct subscriber_options *,
				  struct log *);
/* Has `reads` (a connection to the same Redis) tracked from now on, whenever both are up; becomes its redis_on_change listener. Once.
 * Writes of `reads` itself are not told. */
void subscriber_track(struct subscriber *, struct redis *reads);
void subscriber_free(struct subscriber **); /* before `reads`; no callback runs any more; NULL inside is fine */

/* A number that stays the same as long as every change of a key read meanwhile is surely heard, and 0 while it is not: what was read under one number and
 * is still under the same is true, but for what is on its way. Never the same number again after a gap; before a new one is in force,
 * `invalidated` is told once that all have changed. It looks at the clock: after a stalled loop or a stopped process it is 0 before anything else runs. */
uint64_t subscriber_epoch(const struct subscriber *);

#endif

/* Names, arguments and replies of the flight's scripts: join, append, finish, follow. */
#ifndef SLUICE_FLIGHT_WIRE_H
#define SLUICE_FLIGHT_WIRE_H

#include "lib/buf.h"
#include "lib/flight.h"
#include "lib/redis.h"
#include "lib/script.h"

enum { FLIGHT_NAME = 2 * ANSWER_KEY, FLIGHT_WIRE_ARGUMENTS = 24, FLIGHT_WIRE_TEXT = 1024, FLIGHT_WIRE_KEYS = 3 };

/* One call: texts that are made for it stand in `memory`; the others are the caller's, who sends it at once. */
struct flight_wire {
	struct slice keys[FLIGHT_WIRE_KEYS], arguments[FLIGHT_WIRE_ARGUMENTS];
	size_t key, argument;
	struct buf text;
	char memory[FLIGHT_WIRE_TEXT];
};

void flight_name(const unsigned char key[ANSWER_KEY], char name[FLIGHT_NAME]); /* hexadecimal */
bool flight_key(struct slice name, unsigned char key[ANSWER_KEY]) MUST_CHECK;
/* Of "sluice:{c:NAME}:v": the key whose answer that is. */
bool flight_key_of_answer(struct slice redis_key, unsigned char key[ANSWER_KEY]) MUST_CHECK;

void flight_wire_join(struct flight_wire *, const struct flight_ask *, struct slice channel, int64_t lease,
		      int64_t presence, bool knows);

/* What append says of a flight; texts are the caller's. */
struct flight_words {
	const unsigned char *key;
	int64_t fence, lease;
	bool end_if_alone, close;
	struct slice head;
	uint64_t offset;
	struct slice bytes;
	struct slice end; /* empty: it goes on */
	char after;       /* the state after the end */
	int64_t holds;    /* how long that state does */
};
void flight_wire_append(struct flight_wire *, const struct flight_words *);
void flight_wire_finish(struct flight_wire *, const struct flight_words *, const struct answer_packed *,
			const struct flight_end *times, int64_t window);
void flight_wire_follow(struct flight_wire *, const unsigned char key[ANSWER_KEY], int64_t fence, struct slice channel,
			int64_t presence, struct slice last, unsigned count);

struct flight_joined {
	enum flight_verdict verdict;
	int64_t fence;
	int64_t holds; /* FOLLOW: how long the lease still does */
	bool own;      /* FOLLOW: this worker leads */
	bool has_stale;
	struct answer *answer; /* the caller's to release; NULL: none, or it is poisoned */
	struct answer_times times;
};
/* False: no reply of join's. A poisoned answer: verdict NONE. */
bool flight_wire_read_join(const struct redisReply *, const unsigned char key[ANSWER_KEY], size_t most,
			   struct flight_joined *) MUST_CHECK;

#endif

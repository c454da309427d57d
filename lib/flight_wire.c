#include "lib/flight_wire.h"

#include "lib/clock.h"
#include "lib/text.h"

#define KEY_PREFIX "sluice:{c:"

void flight_name(const unsigned char key[ANSWER_KEY], char name[FLIGHT_NAME])
{
	CHECK(text_hex(name, key, ANSWER_KEY) == FLIGHT_NAME);
}

bool flight_key(struct slice name, unsigned char key[ANSWER_KEY])
{
	return text_unhex(name, key, ANSWER_KEY);
}

bool flight_key_of_answer(struct slice redis_key, unsigned char key[ANSWER_KEY])
{
	static const struct slice prefix = { KEY_PREFIX, sizeof(KEY_PREFIX) - 1 }, suffix = { "}:v", 3 };

	return slice_starts(redis_key, prefix) && slice_ends(redis_key, suffix) &&
	       redis_key.len == prefix.len + FLIGHT_NAME + suffix.len &&
	       flight_key(slice_first(slice_skip(redis_key, prefix.len), FLIGHT_NAME), key);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

static void begin(struct flight_wire *w)
{
	w->key = w->argument = 0;
	buf_wrap(&w->text, w->memory, sizeof(w->memory), 0);
}

/* What was put into the text since `start`. */
static struct slice since(const struct flight_wire *w, size_t start)
{
	CHECK(!w->text.overflowed);
	return slice_make(w->text.data + start, w->text.len - start);
}

static void put(struct flight_wire *w, struct slice argument)
{
	CHECK(w->argument < FLIGHT_WIRE_ARGUMENTS);
	w->arguments[w->argument++] = argument;
}

static void put_int(struct flight_wire *w, int64_t number)
{
	size_t start = w->text.len;

	buf_append_int(&w->text, number);
	put(w, since(w, start));
}

static void put_flag(struct flight_wire *w, bool flag)
{
	put(w, flag ? SLICE("1") : SLICE("0"));
}

static struct slice put_name(struct flight_wire *w, const unsigned char key[ANSWER_KEY])
{
	char name[FLIGHT_NAME];
	size_t start = w->text.len;

	flight_name(key, name);
	buf_append(&w->text, slice_make(name, sizeof(name)));
	return since(w, start);
}

/* `fence` 0: the key has none in its name. */
static void put_key(struct flight_wire *w, const unsigned char key[ANSWER_KEY], const char *kind, int64_t fence)
{
	size_t start = w->text.len;

	buf_append(&w->text, slice_of(KEY_PREFIX));
	put_name(w, key);
	buf_append(&w->text, slice_of(kind));
	if (fence != 0)
		buf_append_int(&w->text, fence);
	CHECK(w->key < FLIGHT_WIRE_KEYS);
	w->keys[w->key++] = since(w, start);
}

static void put_now(struct flight_wire *w)
{
	put(w, SLICE("")); /* Redis' own clock */
}

static struct slice wishes_of(const struct flight_ask *ask, bool knows, char letters[6])
{
	size_t count = 0;

	if (ask->may_read)
		letters[count++] = 'c';
	if (ask->may_lead)
		letters[count++] = 'l';
	if (ask->may_follow)
		letters[count++] = 'f';
	if (knows)
		letters[count++] = 'k';
	if (ask->upstream_failed)
		letters[count++] = 'e';
	if (ask->may_be_late)
		letters[count++] = 'w';
	return slice_make(letters, count);
}

void flight_wire_join(struct flight_wire *w, const struct flight_ask *ask, struct slice channel, int64_t lease,
		      int64_t presence, bool knows)
{
	char letters[6];
	size_t start;

	begin(w);
	put_key(w, ask->key, "}:f", 0);
	put_key(w, ask->key, "}:v", 0);
	w->keys[w->key++] = SLICE(FLIGHT_PURGED);
	put_now(w);
	put(w, channel);
	put_int(w, lease);
	put_int(w, presence);
	start = w->text.len;
	buf_append(&w->text, wishes_of(ask, knows, letters));
	put(w, since(w, start));
	if (ask->oldest >= 0)
		put_int(w, ask->oldest);
	else
		put(w, SLICE(""));
	put_int(w, ask->slack);
	put(w, put_name(w, ask->key));
	put(w, SLICE("*"));
	for (size_t i = 0; i < ask->purges_count; i++)
		put(w, ask->purges[i]);
}

void flight_wire_append(struct flight_wire *w, const struct flight_words *words)
{
	begin(w);
	put_key(w, words->key, "}:f", 0);
	put_key(w, words->key, "}:s:", words->fence);
	put_now(w);
	put_int(w, words->fence);
	put_int(w, words->lease);
	put(w, put_name(w, words->key));
	put_flag(w, words->end_if_alone);
	put_flag(w, words->close);
	put(w, words->head);
	put_int(w, (int64_t)words->offset);
	put(w, words->bytes);
	put(w, words->end);
	put(w, slice_make(&words->after, 1));
	put_int(w, words->holds);
}

void flight_wire_finish(struct flight_wire *w, const struct flight_words *words, const struct answer_packed *packed,
			const struct flight_end *times, int64_t window)
{
	begin(w);
	put_key(w, words->key, "}:f", 0);
	put_key(w, words->key, "}:v", 0);
	put_key(w, words->key, "}:s:", words->fence);
	put_now(w);
	put_int(w, words->fence);
	put(w, put_name(w, words->key));
	put(w, words->head);
	put_int(w, (int64_t)words->offset);
	put(w, words->bytes);
	put(w, words->end);
	put_int(w, times->fresh);
	put_int(w, times->stale);
	put_int(w, times->error);
	put_int(w, window);
	put(w, packed->head);
	put(w, packed->body);
	put_int(w, packed->raw);
	put(w, slice_make((const char *)packed->sum, sizeof(packed->sum)));
}

void flight_wire_follow(struct flight_wire *w, const unsigned char key[ANSWER_KEY], int64_t fence, struct slice channel,
			int64_t presence, struct slice last, unsigned count)
{
	begin(w);
	put_key(w, key, "}:f", 0);
	put_key(w, key, "}:s:", fence);
	put_now(w);
	put_int(w, fence);
	put(w, channel);
	put_int(w, presence);
	put(w, last);
	put_int(w, count);
}

/* ---- what join answers ------------------------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
	const char *word;
	enum flight_verdict verdict;
	size_t values; /* behind verdict and now */
} verdicts[] = {
	{ "hit",     FLIGHT_HIT,     9 },
	{ "stale",   FLIGHT_STALE,   9 },
	{ "refresh", FLIGHT_REFRESH, 9 },
	{ "lead",    FLIGHT_LEAD,    2 },
	{ "follow",  FLIGHT_FOLLOW,  3 },
	{ "pass",    FLIGHT_PASS,    0 },
	{ "none",    FLIGHT_NONE,    0 },
};
/* clang-format on */

enum {
	STORED_MADE = 2,
	STORED_FRESH,
	STORED_STALE,
	STORED_ERROR,
	STORED_HEAD,
	STORED_BODY,
	STORED_RAW,
	STORED_SUM,
	STORED_FENCE
};

static bool read_verdict(const struct redisReply *reply, struct flight_joined *joined)
{
	struct slice word;

	if (!redis_reply_text(redis_reply_at(reply, 0), &word))
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(verdicts); i++)
		if (slice_equal(word, slice_of(verdicts[i].word))) {
			joined->verdict = verdicts[i].verdict;
			return redis_reply_count(reply) == 2 + verdicts[i].values;
		}
	return false;
}

/* From Redis' clock to ours: what lies so far from its now lies as far from our now. */
static bool read_times(const struct redisReply *reply, int64_t now, struct answer_times *times)
{
	int64_t *const into[] = { &times->born, &times->fresh, &times->stale, &times->error };
	int64_t here = clock_now();

	for (size_t i = 0; i < ARRAY_LENGTH(into); i++) {
		int64_t at;
		if (!redis_reply_int(redis_reply_at(reply, STORED_MADE + i), &at) || at < 0 || at > INT64_MAX / 4)
			return false;
		*into[i] = here + (at - now);
	}
	return true;
}

/* Anybody may have written there: what is not as packed is no answer. */
static struct answer *read_answer(const struct redisReply *reply, int64_t now, const unsigned char key[ANSWER_KEY],
				  size_t most, struct answer_times *times)
{
	struct answer_packed packed;
	struct slice sum;

	if (!read_times(reply, now, times) || !redis_reply_text(redis_reply_at(reply, STORED_HEAD), &packed.head) ||
	    !redis_reply_text(redis_reply_at(reply, STORED_BODY), &packed.body) ||
	    !redis_reply_int(redis_reply_at(reply, STORED_RAW), &packed.raw) ||
	    !redis_reply_text(redis_reply_at(reply, STORED_SUM), &sum) || sum.len != sizeof(packed.sum))
		return NULL;
	memcpy(packed.sum, sum.data, sizeof(packed.sum));
	return answer_unpack(key, &packed, most);
}

static bool read_stored(const struct redisReply *reply, int64_t now, const unsigned char key[ANSWER_KEY], size_t most,
			struct flight_joined *joined)
{
	if (!redis_reply_int(redis_reply_at(reply, STORED_FENCE), &joined->fence))
		return false;
	joined->answer = read_answer(reply, now, key, most, &joined->times);
	if (joined->answer == NULL)
		joined->verdict = joined->verdict == FLIGHT_REFRESH ? FLIGHT_LEAD : FLIGHT_NONE;
	return true;
}

bool flight_wire_read_join(const struct redisReply *reply, const unsigned char key[ANSWER_KEY], size_t most,
			   struct flight_joined *joined)
{
	int64_t now, flag = 0;

	*joined = (struct flight_joined){ .verdict = FLIGHT_NONE };
	if (!read_verdict(reply, joined) || !redis_reply_int(redis_reply_at(reply, 1), &now))
		return false;
	switch (joined->verdict) {
	case FLIGHT_HIT:
	case FLIGHT_STALE:
	case FLIGHT_REFRESH:
		return read_stored(reply, now, key, most, joined);
	case FLIGHT_LEAD:
		if (!redis_reply_int(redis_reply_at(reply, 2), &joined->fence) ||
		    !redis_reply_int(redis_reply_at(reply, 3), &flag))
			return false;
		joined->has_stale = flag != 0;
		return true;
	case FLIGHT_FOLLOW:
		if (!redis_reply_int(redis_reply_at(reply, 2), &joined->fence) ||
		    !redis_reply_int(redis_reply_at(reply, 3), &joined->holds) ||
		    !redis_reply_int(redis_reply_at(reply, 4), &flag))
			return false;
		joined->own = flag != 0;
		return true;
	default:
		return true;
	}
}

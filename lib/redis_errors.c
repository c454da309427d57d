/* The one table of what Redis' errors mean: for the call, for the connection, for the mode this program is in.
 *
 * The first word of an error's text names it (the protocol promises no more than that); of what begins with ERR, two more words are read: who knows no
 * EVALSHA (a Sentinel; a Redis whose commands were renamed) counts nothing. Who meets a new one adds a line to REDIS_ERRORS in the header and a row here;
 * the build breaks until both stand. */
#include "lib/redis.h"

/* clang-format off */
#define PREFIX(error, prefix) static const char prefix_##error[] = prefix;
REDIS_ERRORS(PREFIX)
#undef PREFIX

#define ROW(error, advice, cut, health) [REDIS_ERROR_##error] = { #error, prefix_##error, advice, cut, health }
static const struct redis_error_row rows[] = {
	/*  error        the call          cut it  the mode */
	ROW(none,        REDIS_GIVE_UP,    false,  REDIS_HEALTHY),
	ROW(noscript,    REDIS_LOAD,       false,  REDIS_HEALTHY),   /* after a restart, a failover, a flush */
	ROW(readonly,    REDIS_TRY_OTHER,  true,   REDIS_READ_ONLY), /* a replica: it was, or became, the wrong server */
	ROW(loading,     REDIS_TRY_SOON,   false,  REDIS_AWAY),      /* reading its file; it will be here soon */
	ROW(masterdown,  REDIS_TRY_OTHER,  true,   REDIS_AWAY),      /* a replica without its master */
	ROW(clusterdown, REDIS_TRY_SOON,   false,  REDIS_AWAY),      /* some slots have no master */
	ROW(moved,       REDIS_TRY_OTHER,  false,  REDIS_HEALTHY),   /* the slot lives elsewhere: learn it */
	ROW(ask,         REDIS_TRY_OTHER,  false,  REDIS_HEALTHY),   /* this key has moved already, the slot has not */
	ROW(tryagain,    REDIS_TRY_SOON,   false,  REDIS_HEALTHY),   /* the keys are on two nodes for now */
	ROW(busy,        REDIS_TRY_SOON,   false,  REDIS_AWAY),      /* a script of somebody runs too long */
	ROW(oom,         REDIS_GIVE_UP,    false,  REDIS_READ_ONLY), /* full, and told not to evict */
	ROW(misconf,     REDIS_GIVE_UP,    false,  REDIS_READ_ONLY), /* it cannot write its file, so it takes no writes */
	ROW(noreplicas,  REDIS_TRY_SOON,   false,  REDIS_READ_ONLY), /* fewer replicas than it was told to insist on */
	ROW(noperm,      REDIS_GIVE_UP,    false,  REDIS_FORBIDDEN), /* the ACL of our user */
	ROW(noauth,      REDIS_TRY_OTHER,  true,   REDIS_FORBIDDEN), /* it wants a password since it was set */
	ROW(wrongpass,   REDIS_GIVE_UP,    true,   REDIS_FORBIDDEN),
	ROW(wrongtype,   REDIS_GIVE_UP,    false,  REDIS_HEALTHY),   /* somebody else wrote our key */
	ROW(crossslot,   REDIS_GIVE_UP,    false,  REDIS_HEALTHY),   /* our mistake: keys of two slots in one call */
	ROW(unknown_command, REDIS_GIVE_UP, false,  REDIS_FORBIDDEN), /* renamed away, or this is no Redis that keeps data */
	ROW(other,       REDIS_GIVE_UP,    false,  REDIS_HEALTHY),
};
#undef ROW

/* clang-format on */

_Static_assert(ARRAY_LENGTH(rows) == REDIS_ERROR_COUNT, "every error has a row");

const struct redis_error_row *redis_error_row(enum redis_error error)
{
	CHECK(error < REDIS_ERROR_COUNT);
	return &rows[error];
}

static bool begins_with(struct slice text, struct slice words)
{
	return slice_equal(slice_first(text, words.len), words) &&
	       (text.len == words.len || text.data[words.len] == ' ');
}

enum redis_error redis_error_of(struct slice text)
{
	for (size_t i = REDIS_ERROR_none + 1; i < REDIS_ERROR_COUNT; i++)
		if (begins_with(text, slice_of(rows[i].prefix)))
			return (enum redis_error)i;
	return REDIS_ERROR_other;
}

/* A purge: one call of lua/purge. Nothing is repeated: who asked for it hears that it failed, and asks again. */
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/flight.h"
#include "lib/mem.h"
#include "lib/script.h"
#include "scripts.h"

#define PURGE_MAGIC UINT32_C(0x70757267)
#define PURGE_KEEP  (62 * CLOCK_DAY) /* an answer is kept for 60 days at most, from the end of a call that takes one */

/* Owner: who began it, until `done` or flight_purge_cancel. */
struct flight_purge {
	uint32_t magic;
	struct script_call *call;
	flight_purged *done;
	void *arg;
};

static void purge_free(struct flight_purge *p)
{
	script_cancel(&p->call);
	p->magic = 0;
	mem_free(p);
}

static void on_purged(struct script_call *call, void *purge, const struct redis_answer *answer)
{
	struct flight_purge *p = purge;
	int64_t at = -1;

	CHECK(p->magic == PURGE_MAGIC && p->call == call);
	p->call = NULL;
	if (answer->result != REDIS_OK || !redis_reply_int(redis_reply_at(answer->reply, 0), &at))
		at = -1;
	p->done(p, p->arg, at);
	purge_free(p);
}

struct flight_purge *flight_purge_start(struct redis *redis, struct slice name, int64_t timeout, flight_purged *done,
					void *arg)
{
	const struct slice key = SLICE(FLIGHT_PURGED);
	struct flight_purge *p = mem_new(sizeof(*p));
	struct slice arguments[3] = { SLICE(""), SLICE_NONE, name };
	char memory[24];
	struct buf keep;

	*p = (struct flight_purge){ .magic = PURGE_MAGIC, .done = done, .arg = arg };
	buf_wrap(&keep, memory, sizeof(memory), 0);
	buf_append_int(&keep, PURGE_KEEP);
	arguments[1] = buf_slice(&keep);
	p->call =
		script_start(redis, &script_purge, timeout, on_purged, p, 1, &key, ARRAY_LENGTH(arguments), arguments);
	return p;
}

void flight_purge_cancel(struct flight_purge **handle)
{
	struct flight_purge *p = *handle;

	*handle = NULL;
	if (p == NULL)
		return;
	CHECK(p->magic == PURGE_MAGIC);
	purge_free(p);
}

#include "svc/server_memory.h"

#include <inttypes.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "svc/http.h"
#include "svc/server.h"

#define LOOK (CLOCK_SECOND / 2)
enum { KEEP_ALIVES_PERCENT = 80, REQUESTS_PERCENT = 90, BACK_PERCENT = 5 }; /* back: so much less before it ends */

struct server_memory {
	struct server *server;
	struct worker_shared *shared;
	struct log *log;
	struct loop_timer timer;
};

/* jemalloc's (3); the program is linked with it, tests of its parts are not. */
int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size) __attribute__((__weak__));

static int64_t in_use(void)
{
	uint64_t epoch = 1; /* any number: the statistics are those of now */
	size_t used = 0, size = sizeof(used);

	if (mallctl == NULL || mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)) != 0 ||
	    mallctl("stats.allocated", &used, &size, NULL, 0) != 0)
		return 0;
	return (int64_t)used;
}

static enum worker_pressure judge(int64_t used, int64_t limit, enum worker_pressure before)
{
	int64_t requests = REQUESTS_PERCENT - (before == WORKER_SHEDS_REQUESTS ? BACK_PERCENT : 0);
	int64_t keep_alives = KEEP_ALIVES_PERCENT - (before != WORKER_SHEDS_NOTHING ? BACK_PERCENT : 0);

	if (used > limit / 100 * requests)
		return WORKER_SHEDS_REQUESTS;
	return used > limit / 100 * keep_alives ? WORKER_SHEDS_KEEP_ALIVES : WORKER_SHEDS_NOTHING;
}

static void say(const struct server_memory *m, enum worker_pressure pressure, int64_t used, int64_t limit)
{
	static const char *const what[] = { "there is enough again: nothing is given up",
					    "connections without a request are closed",
					    "connections without a request are closed, and new requests refused" };

	log_say(m->log, pressure == WORKER_SHEDS_NOTHING ? LOG_INFO : LOG_WARNING, "memory",
		"%" PRId64 " of %" PRId64 " MiB in use: %s", used >> 20, limit >> 20, what[pressure]);
}

static void close_idle(struct worker *w, void *arg)
{
	(void)arg;
	http_server_close_idle(w->http);
}

static void look(void *memory)
{
	struct server_memory *m = memory;
	int64_t used = in_use(), limit = server_config(m->server)->memory_limit;
	enum worker_pressure before = (enum worker_pressure)atomic_load(&m->shared->pressure),
			     pressure = judge(used, limit, before);

	atomic_store(&m->shared->memory_used, used);
	if (pressure != before) {
		atomic_store(&m->shared->pressure, (int)pressure);
		say(m, pressure, used, limit);
	}
	if (pressure != WORKER_SHEDS_NOTHING)
		server_visit(m->server, close_idle, NULL, NULL);
	loop_timer_set(&m->timer, LOOK);
}

struct server_memory *server_memory_watch(struct loop *control, struct server *server, struct worker_shared *shared,
					  struct log *log)
{
	struct server_memory *m = mem_new(sizeof(*m));

	*m = (struct server_memory){ .server = server, .shared = shared, .log = log };
	loop_timer_init(&m->timer, control, look, m);
	loop_timer_set(&m->timer, LOOK);
	return m;
}

void server_memory_free(struct server_memory **memory)
{
	struct server_memory *m = *memory;

	*memory = NULL;
	if (m == NULL)
		return;
	loop_timer_free(&m->timer);
	mem_free(m);
}

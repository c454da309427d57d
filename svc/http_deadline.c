/* Deadlines of thousands of connections for the price of moving a list's node: all waits of one kind last equally long, so
 * who comes last waits last. One timer per server stands at or before the earliest. */
#include "svc/http_internal.h"

#include "lib/clock.h"

static void arm(struct http_server *s, int64_t at, int64_t now)
{
	if (s->timer_at <= at)
		return;
	s->timer_at = at;
	loop_timer_set(&s->timer, at - now);
}

void http_deadline_set(struct http_server *s, struct http_deadline *deadline, enum http_wait kind)
{
	int64_t now = clock_now();
	list_remove(&deadline->node);
	deadline->kind = kind;
	deadline->at = now + s->delays[kind];
	list_push_back(&s->waits[kind], &deadline->node);
	arm(s, deadline->at, now);
	if (kind == HTTP_WAIT_IDLE)
		http_server_has_room(s);
}

void http_deadline_clear(struct http_deadline *deadline)
{
	list_remove(&deadline->node);
}

static struct http_deadline *first_of(const struct http_server *s, int kind)
{
	return list_empty(&s->waits[kind]) ? NULL : CONTAINER_OF(s->waits[kind].next, struct http_deadline, node);
}

void http_deadlines_sweep(void *server)
{
	struct http_server *s = server;
	int64_t now = clock_now();
	struct http_deadline *first;
	s->timer_at = INT64_MAX;
	for (int kind = 0; kind < HTTP_WAIT_COUNT; kind++) {
		while ((first = first_of(s, kind)) != NULL && first->at <= now) {
			list_remove(&first->node);
			http_connection_expired(first->connection, (enum http_wait)kind);
		}
	}
	for (int kind = 0; kind < HTTP_WAIT_COUNT; kind++) {
		if ((first = first_of(s, kind)) != NULL)
			arm(s, first->at, now);
	}
}

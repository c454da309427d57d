#include "lib/redis_queue.h"
#include "lib/clock.h"

enum { WINDOW_FIRST = 64, WINDOW_LEAST = 8, WINDOW_MOST = 256 };
#define MOST_WAITING (64u * 1024 * 1024) /* bytes of calls that wait for a connection */

static struct redis_call *call_of(struct list *node)
{
	return CONTAINER_OF(node, struct redis_call, node);
}

void redis_queue_init(struct redis_queue *q)
{
	list_init(&q->waiting);
	list_init(&q->sent);
	list_init(&q->ending);
	redis_call_store_init(&q->store);
	q->window = WINDOW_FIRST;
}

void redis_queue_free(struct redis_queue *q)
{
	CHECK(list_empty(&q->waiting) && list_empty(&q->sent) && list_empty(&q->ending));
	redis_call_store_free(&q->store);
}

bool redis_queue_add(struct redis_queue *q, struct redis_call *call, bool refused)
{
	q->counts.calls++;
	call->written = 0;
	if (refused || q->waiting_bytes + call->bytes.len > MOST_WAITING) {
		call->state = REDIS_CALL_ENDING;
		call->result = REDIS_UNSENT;
		list_push_back(&q->ending, &call->node);
		return false;
	}
	call->state = REDIS_CALL_WAITING;
	list_push_back(&q->waiting, &call->node);
	q->waiting_bytes += call->bytes.len;
	return true;
}

static void take_from_waiting(struct redis_queue *q, struct redis_call *call)
{
	list_remove(&call->node);
	q->waiting_bytes -= call->bytes.len;
}

void redis_queue_cancel(struct redis_queue *q, struct redis_call *call)
{
	CHECK(call->magic == REDIS_CALL_MAGIC && call->state != REDIS_CALL_FREE);
	call->done = NULL;
	if (call->state == REDIS_CALL_WAITING && call->written == 0) {
		take_from_waiting(q, call);
		redis_call_give(&q->store, call);
	} else if (call->state == REDIS_CALL_ENDING) {
		list_remove(&call->node);
		redis_call_give(&q->store, call);
	}
	/* Sent, or half of it: the connection owes its reply, which is dropped when it comes. Running: it is at its end. */
}

void redis_queue_shrink(struct redis_queue *q)
{
	q->window = q->window / 2 > WINDOW_LEAST ? q->window / 2 : WINDOW_LEAST;
	q->grown = 0;
}

static void grow(struct redis_queue *q)
{
	if (q->window == WINDOW_MOST || ++q->grown < q->window)
		return;
	q->window++;
	q->grown = 0;
}

size_t redis_queue_gather(struct redis_queue *q, struct iovec *parts, size_t most)
{
	size_t count = 0, room = q->sent_count < q->window ? q->window - q->sent_count : 0;
	if (room == 0 && !list_empty(&q->waiting) && call_of(q->waiting.next)->written > 0)
		room = 1; /* what has begun goes on */
	most = most < room ? most : room;
	for (struct list *node = q->waiting.next; node != &q->waiting && count < most; node = node->next) {
		struct redis_call *call = call_of(node);
		parts[count].iov_base = call->bytes.data + call->written;
		parts[count++].iov_len = call->bytes.len - call->written;
	}
	return count;
}

void redis_queue_written(struct redis_queue *q, size_t taken)
{
	while (taken > 0) {
		struct redis_call *call = call_of(q->waiting.next);
		size_t left = call->bytes.len - call->written;
		if (taken < left) {
			call->written += taken;
			return;
		}
		taken -= left;
		take_from_waiting(q, call);
		call->state = REDIS_CALL_SENT;
		list_push_back(&q->sent, &call->node);
		q->sent_count++;
	}
}

/* A cancelled call was kept for its half in the socket alone. */
void redis_queue_unwrite(struct redis_queue *q)
{
	if (list_empty(&q->waiting))
		return;
	struct redis_call *call = call_of(q->waiting.next);
	call->written = 0;
	if (call->done == NULL)
		redis_queue_cancel(q, call);
}

struct redis_call *redis_queue_pop_sent(struct redis_queue *q)
{
	struct list *node = list_pop_front(&q->sent);
	if (node == NULL)
		return NULL;
	q->sent_count--;
	grow(q);
	return call_of(node);
}

static void count_answer(struct redis_queue *q, const struct redis_answer *answer)
{
	switch (answer->result) {
	case REDIS_OK:
		break;
	case REDIS_ERROR:
		q->counts.errors[answer->error]++;
		break;
	case REDIS_TIMED_OUT:
		q->counts.timed_out++;
		break;
	case REDIS_LOST:
		q->counts.lost++;
		break;
	case REDIS_UNSENT:
		q->counts.unsent++;
		break;
	}
}

/* The call is in no list; whatever its owner does inside `done`, it goes back to the store once. */
void redis_queue_answer(struct redis_queue *q, struct redis_call *call, struct redis_answer *answer)
{
	call->state = REDIS_CALL_RUNNING;
	if (call->done != NULL) {
		answer->took = clock_now() - call->started;
		count_answer(q, answer);
		call->done(call, call->arg, answer);
	}
	redis_call_give(&q->store, call);
}

static void end_call(struct redis_queue *q, struct redis_call *call, enum redis_result result)
{
	if (call->state == REDIS_CALL_WAITING)
		take_from_waiting(q, call);
	else
		list_remove(&call->node);
	q->sent_count -= call->state == REDIS_CALL_SENT;
	call->state = REDIS_CALL_ENDING;
	call->result = result;
	list_push_back(&q->ending, &call->node);
}

void redis_queue_end_all(struct redis_queue *q, struct list *calls, enum redis_result result)
{
	LIST_EACH (calls, node, following)
		end_call(q, call_of(node), result);
}

int64_t redis_queue_expire(struct redis_queue *q, struct list *calls, enum redis_result result, int64_t now, bool *cut)
{
	int64_t earliest = INT64_MAX;
	LIST_EACH (calls, node, following) {
		struct redis_call *call = call_of(node);
		if (call->deadline > now) {
			earliest = call->deadline < earliest ? call->deadline : earliest;
			continue;
		}
		q->expired++;
		*cut |= call->state == REDIS_CALL_SENT || call->written > 0;
		end_call(q, call, result);
	}
	return earliest;
}

void redis_queue_drop_late(struct redis_queue *q, int64_t now)
{
	LIST_EACH (&q->waiting, node, following) {
		struct redis_call *call = call_of(node);
		if (call->written == 0 && call->deadline - now < (call->deadline - call->started) / 4)
			end_call(q, call, REDIS_UNSENT);
	}
}

void redis_queue_answer_ending(struct redis_queue *q)
{
	for (struct list *node; (node = list_pop_front(&q->ending)) != NULL;) {
		struct redis_answer answer = { .result = call_of(node)->result };
		redis_queue_answer(q, call_of(node), &answer);
	}
}

#include "lib/redis_call.h"
#include "lib/mem.h"

#define MOST_KEPT       1024 /* calls */
#define MOST_KEPT_BYTES 8192 /* of one call's buffer */

void redis_call_store_init(struct redis_call_store *s)
{
	list_init(&s->free);
	s->count = 0;
}

static void call_free(struct redis_call *call)
{
	call->magic = 0;
	buf_free(&call->bytes);
	mem_free(call);
}

void redis_call_store_free(struct redis_call_store *s)
{
	for (struct list *node; (node = list_pop_front(&s->free)) != NULL;)
		call_free(CONTAINER_OF(node, struct redis_call, node));
	s->count = 0;
}

struct redis_call *redis_call_take(struct redis_call_store *s)
{
	struct list *node = list_pop_front(&s->free);
	if (node != NULL) {
		s->count--;
		return CONTAINER_OF(node, struct redis_call, node);
	}
	struct redis_call *call = mem_new(sizeof(*call));
	call->magic = REDIS_CALL_MAGIC;
	list_init(&call->node);
	buf_init(&call->bytes, REDIS_CALL_MOST);
	return call;
}

void redis_call_give(struct redis_call_store *s, struct redis_call *call)
{
	CHECK(call->magic == REDIS_CALL_MAGIC && !list_linked(&call->node));
	call->state = REDIS_CALL_FREE;
	call->done = NULL;
	call->written = 0;
	if (s->count >= MOST_KEPT || call->bytes.capacity > MOST_KEPT_BYTES) {
		call_free(call);
		return;
	}
	buf_clear(&call->bytes);
	list_push_front(&s->free, &call->node); /* the warmest first */
	s->count++;
}

/* "*3\r\n", "$5\r\n": at most 20 digits. */
static char *put_length(char *to, char kind, size_t number)
{
	char digits[20];
	size_t count = 0;
	*to++ = kind;
	for (; number >= 10; number /= 10)
		digits[count++] = (char)('0' + number % 10);
	*to++ = (char)('0' + number);
	while (count > 0)
		*to++ = digits[--count];
	*to++ = '\r';
	*to++ = '\n';
	return to;
}

bool redis_call_format(struct buf *buf, size_t count, const struct slice *arguments)
{
	size_t most = 24;
	for (size_t i = 0; i < count; i++) {
		if (arguments[i].len > REDIS_CALL_MOST)
			return false;
		most += arguments[i].len + 26;
	}
	if (!buf_reserve(buf, most))
		return false;
	char *to = put_length(buf->data + buf->len, '*', count);
	for (size_t i = 0; i < count; i++) {
		to = put_length(to, '$', arguments[i].len);
		if (arguments[i].len > 0)
			memcpy(to, arguments[i].data, arguments[i].len);
		to += arguments[i].len;
		*to++ = '\r';
		*to++ = '\n';
	}
	buf->len = (size_t)(to - buf->data);
	return true;
}

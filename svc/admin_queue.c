#include "svc/admin_queue.h"

#include <inttypes.h>

#include "lib/buf.h"
#include "lib/mem.h"
#include "lib/queue.h"
#include "svc/worker.h"

enum { LINES_MOST = 100 };

struct admin_queue {
	int64_t waiting[LANES];
	size_t count;
	struct line {
		char name[QUEUE_NAME_MOST];
		size_t name_len;
		int64_t here[LANES], fleet[LANES]; /* fleet: -1: not known yet */
	} line[LINES_MOST];
};

struct admin_queue *admin_queue_new(void)
{
	return mem_new(sizeof(struct admin_queue));
}

void admin_queue_free(struct admin_queue **queue)
{
	mem_free(*queue);
	*queue = NULL;
}

static struct line *line_of(struct admin_queue *q, struct slice name)
{
	struct line *line = q->line;

	for (size_t i = 0; i < q->count; i++, line++)
		if (slice_equal(slice_make(line->name, line->name_len), name))
			return line;
	if (q->count == LINES_MOST)
		return NULL;
	q->count++;
	memcpy(line->name, name.data, name.len);
	line->name_len = name.len;
	for (int lane = 0; lane < LANES; lane++)
		line->fleet[lane] = -1;
	return line;
}

static void add(void *queue, struct slice name, const unsigned here[LANES], const int64_t fleet[LANES])
{
	struct line *line = line_of(queue, name);

	for (int lane = 0; line != NULL && lane < LANES; lane++) {
		line->here[lane] += here[lane];
		if (fleet[lane] > line->fleet[lane])
			line->fleet[lane] = fleet[lane];
	}
}

void admin_queue_look(struct admin_queue *q, const struct worker *w)
{
	for (int lane = 0; lane < LANES; lane++)
		q->waiting[lane] += queue_waiting(w->queue, (enum lane)lane);
	queue_each(w->queue, add, q);
}

static void put_lanes(struct buf *out, const int64_t count[LANES])
{
	if (count[0] < 0) {
		buf_append(out, SLICE("null"));
		return;
	}
	for (int lane = 0; lane < LANES; lane++)
		buf_format(out, "%s\"%s\":%" PRId64, lane == 0 ? "{" : ",", lane_name((enum lane)lane), count[lane]);
	buf_append_byte(out, '}');
}

void admin_queue_write(const struct admin_queue *q, struct buf *out)
{
	buf_append(out, SLICE("{\"waiting\":"));
	put_lanes(out, q->waiting);
	buf_append(out, SLICE(",\"lines\":{"));
	for (size_t i = 0; i < q->count; i++) {
		const struct line *line = &q->line[i];
		buf_append(out, i > 0 ? SLICE(",") : SLICE(""));
		buf_append_json(out, slice_make(line->name, line->name_len));
		buf_append(out, SLICE(":{\"here\":"));
		put_lanes(out, line->here);
		buf_append(out, SLICE(",\"fleet\":"));
		put_lanes(out, line->fleet);
		buf_append_byte(out, '}');
	}
	buf_append(out, SLICE("}}"));
}

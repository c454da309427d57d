#include "lib/queue.h"

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/redis.h"
#include "lib/script.h"
#include "scripts.h"

#define SPREAD CLOCK_MILLISECOND        /* between two that ask again because nothing is sure, */
#define BRISK  (CLOCK_MILLISECOND / 20) /* and where nobody outside this process is asked */
#define AWAY   CLOCK_SECOND /* a beat that is so late was slept through: others may have been called meanwhile */

enum { BEAT_AGAIN = 2, BEAT_NUMBERS = 7 }; /* in its answer: more of the dead are to be passed over */
enum { STRANGERS = 64, QUEUE_MAGIC = 0x71756575, PLACE_MAGIC = 0x706c6163 };

/* One line, as long as somebody of this worker waits in it. In queue.lines by its key w. */
struct queue_line {
	struct queue *queue;
	struct list places;
	struct slice name, w, f; /* in `text` */
	size_t rule_len;
	char rule[LINE_RULE_MOST]; /* as who joined last has it */
	unsigned here[LANES];
	int64_t fleet[LANES];
	int64_t born; /* Redis' time; 0: not known yet */
	struct loop_timer beat;
	int64_t beat_at; /* when it is due; clock_now */
	struct script_call *call;
	char text[];
};

/* Owner: who waits, until done has run or queue_leave. Between calls: in its line's places, and in queue.places by its id. */
struct queue_place {
	uint32_t magic;
	struct queue_line *line;
	struct list node;
	struct loop_timer timer; /* to `at` or `until`, whichever is first */
	int64_t since;           /* when it was told to wait; clock_now */
	int64_t at, until;       /* when it asks again, INT64_MAX: when it is called; when it is late; clock_now */
	enum lane lane;
	queue_done *done;
	void *arg;
	size_t id_len;
	char id[QUEUE_ID_MOST];
};

struct queue {
	uint32_t magic;
	struct loop *loop;
	struct redis *redis;
	struct queue_options options;
	char channel[LINE_CHANNEL_MOST];
	struct map *lines, *places;
	bool alone;
	unsigned waiting[LANES];
	struct { /* called, and not here: their place is on its way, or has just been left */
		size_t len;
		char id[QUEUE_ID_MOST];
	} strangers[STRANGERS];
	size_t next_stranger;
};

/* ---- places ---------------------------------------------------------------------------------------------------------------- */

static void line_close(struct queue_line *line);

static void take_out(struct queue_place *p)
{
	struct queue_line *line = p->line;

	CHECK(p->magic == PLACE_MAGIC);
	(void)map_remove(line->queue->places, slice_make(p->id, p->id_len));
	list_remove(&p->node);
	loop_timer_free(&p->timer);
	line->here[p->lane]--;
	line->queue->waiting[p->lane]--;
	p->magic = 0;
	mem_free(p);
	if (list_empty(&line->places))
		line_close(line);
}

static void tell(struct queue_place *p, enum queue_news news)
{
	queue_done *done = p->done;
	void *arg = p->arg;
	struct queue_place *gone = p;

	take_out(p);
	done(gone, arg, news); /* its name alone: it is compared, and not looked at */
}

static void arm(struct queue_place *p)
{
	int64_t next = p->at < p->until ? p->at : p->until;

	loop_timer_set(&p->timer, next - clock_now());
}

static void on_time(void *place)
{
	struct queue_place *p = place;
	int64_t now = clock_now();

	CHECK(p->magic == PLACE_MAGIC);
	if (now >= p->until)
		tell(p, QUEUE_LATE);
	else if (now >= p->at)
		tell(p, QUEUE_TURN);
	else
		arm(p);
}

/* One by one: all at once they would only wait for each other at Redis. */
static void ask_all(struct queue_line *line)
{
	int64_t now = clock_now();

	LIST_EACH (&line->places, node, following) {
		struct queue_place *p = CONTAINER_OF(node, struct queue_place, node);
		if (p->at > now)
			p->at = now;
		now += line->queue->alone ? BRISK : SPREAD;
		arm(p);
	}
}

/* ---- a line's beat --------------------------------------------------------------------------------------------------------- */

static bool read_beat(const struct redis_answer *answer, int64_t number[BEAT_NUMBERS])
{
	if (answer->result != REDIS_OK || redis_reply_count(answer->reply) != BEAT_NUMBERS)
		return false;
	for (size_t i = 0; i < BEAT_NUMBERS; i++)
		if (!redis_reply_int(redis_reply_at(answer->reply, i), &number[i]))
			return false;
	return true;
}

/* It is not the one that was waited in: it began at another time, or, where that is not known yet, is younger than who has waited here for longest. */
static bool is_another(const struct queue_line *line, int64_t born, int64_t now, int64_t took)
{
	const struct queue_place *oldest = CONTAINER_OF(line->places.next, struct queue_place, node);
	int64_t age = now - born, waited = clock_now() - took - oldest->since;

	if (line->born != 0)
		return line->born != born;
	return age >= 0 && age + waited / 1000 < waited; /* two clocks */
}

/* {there, born, waiting in each lane, places lost, Redis' time} */
static void on_beat(struct script_call *call, void *arg, const struct redis_answer *answer)
{
	struct queue_line *line = arg;
	struct queue *queue = line->queue;
	int64_t number[BEAT_NUMBERS];

	CHECK(queue->magic == QUEUE_MAGIC && line->call == call);
	line->call = NULL;
	if (answer->result != REDIS_OK) /* who waits, waits on; whoever calls Redis away has all of them ask */
		return;
	if (queue->options.answered != NULL)
		queue->options.answered(queue->options.arg, answer->took);
	if (!read_beat(answer, number))
		return;
	for (int lane = 0; lane < LANES; lane++)
		line->fleet[lane] = number[2 + lane];
	if (number[0] == 0 || number[5] != 0 || is_another(line, number[1], number[6], answer->took))
		ask_all(line);
	line->born = number[0] != 0 ? number[1] : 0;
	if (number[0] == BEAT_AGAIN)
		loop_timer_set(&line->beat, 0);
}

static void on_beat_time(void *arg)
{
	struct queue_line *line = arg;
	struct queue *queue = line->queue;
	const struct slice keys[] = { line->w, line->f },
			   arguments[] = { SLICE(""), slice_make(line->rule, line->rule_len) };
	int64_t now = clock_now();

	CHECK(queue->magic == QUEUE_MAGIC);
	if (now - line->beat_at > AWAY) /* slept through */
		ask_all(line);
	line->beat_at = now + queue->options.beat;
	loop_timer_set(&line->beat, queue->options.beat);
	if (line->call == NULL && !queue->alone)
		line->call = script_start(queue->redis, &script_beat, queue->options.timeout, on_beat, line,
					  ARRAY_LENGTH(keys), keys, ARRAY_LENGTH(arguments), arguments);
}

static struct slice keep(char **at, struct slice text)
{
	struct slice kept = slice_make(*at, text.len);

	memcpy(*at, text.data, text.len);
	*at += text.len;
	return kept;
}

static struct queue_line *line_open(struct queue *queue, const struct queue_ask *ask)
{
	struct queue_line *line = mem_new(sizeof(*line) + ask->name.len + ask->w.len + ask->f.len);
	char *at = line->text;

	line->queue = queue;
	line->name = keep(&at, ask->name);
	line->w = keep(&at, ask->w);
	line->f = keep(&at, ask->f);
	list_init(&line->places);
	for (int lane = 0; lane < LANES; lane++)
		line->fleet[lane] = -1;
	loop_timer_init(&line->beat, queue->loop, on_beat_time, line);
	line->beat_at = clock_now() + queue->options.beat;
	loop_timer_set(&line->beat, queue->options.beat);
	map_put(queue->lines, line->w, line);
	return line;
}

static void set_rule(struct queue_line *line, const struct line_rule *rule)
{
	struct buf text;

	buf_wrap(&text, line->rule, sizeof(line->rule), 0);
	line_write_rule(rule, line->queue->options.channel, &text);
	line->rule_len = text.len;
}

static void line_close(struct queue_line *line)
{
	(void)map_remove(line->queue->lines, line->w);
	script_cancel(&line->call);
	loop_timer_free(&line->beat);
	mem_free(line);
}

/* ---- what the header promises ------------------------------------------------------------------------------------------------ */

struct queue *queue_new(struct loop *loop, struct redis *redis, const struct queue_options *options)
{
	struct queue *queue = mem_new(sizeof(*queue));

	CHECK(options->channel.len > 0 && options->channel.len <= LINE_CHANNEL_MOST);
	CHECK(options->beat > 0 && options->timeout > 0);
	queue->magic = QUEUE_MAGIC;
	queue->loop = loop;
	queue->redis = redis;
	queue->options = *options;
	memcpy(queue->channel, options->channel.data, options->channel.len);
	queue->options.channel = slice_make(queue->channel, options->channel.len);
	queue->lines = map_new();
	queue->places = map_new();
	return queue;
}

void queue_free(struct queue **handle)
{
	struct queue *queue = *handle;

	*handle = NULL;
	if (queue == NULL)
		return;
	CHECK(queue->magic == QUEUE_MAGIC && map_count(queue->places) == 0);
	map_free(&queue->lines, NULL);
	map_free(&queue->places, NULL);
	queue->magic = 0;
	mem_free(queue);
}

static bool was_called(struct queue *queue, struct slice id)
{
	for (size_t i = 0; i < STRANGERS; i++)
		if (slice_equal(slice_make(queue->strangers[i].id, queue->strangers[i].len), id)) {
			queue->strangers[i].len = 0;
			return true;
		}
	return false;
}

struct queue_place *queue_wait(struct queue *queue, const struct queue_ask *ask, queue_done *done, void *arg)
{
	struct queue_place *p = mem_new(sizeof(*p));
	int64_t now = clock_now();

	CHECK(queue->magic == QUEUE_MAGIC && ask->id.len > 0 && ask->id.len <= QUEUE_ID_MOST && ask->lane < LANES);
	CHECK(ask->turn >= 0 && ask->most > 0 && ask->name.len <= QUEUE_NAME_MOST);
	p->magic = PLACE_MAGIC;
	p->line = map_get(queue->lines, ask->w);
	if (p->line == NULL)
		p->line = line_open(queue, ask);
	set_rule(p->line, ask->rule);
	list_init(&p->node);
	list_push_back(&p->line->places, &p->node);
	p->at = was_called(queue, ask->id) ? now : ask->turn > 0 ? now + ask->turn : INT64_MAX;
	p->since = now;
	p->until = now + ask->most;
	p->lane = ask->lane;
	p->done = done;
	p->arg = arg;
	p->id_len = ask->id.len;
	memcpy(p->id, ask->id.data, ask->id.len);
	map_put(queue->places, ask->id, p);
	p->line->here[ask->lane]++;
	queue->waiting[ask->lane]++;
	loop_timer_init(&p->timer, queue->loop, on_time, p);
	arm(p);
	return p;
}

void queue_leave(struct queue_place **handle)
{
	struct queue_place *p = *handle;

	*handle = NULL;
	if (p != NULL)
		take_out(p);
}

bool queue_hint(struct queue *queue, struct slice text)
{
	struct slice id, word = slice_cut(text, ' ', &id);

	if (!slice_equal(word, SLICE("turn")))
		return false;
	queue_call(queue, id);
	return true;
}

void queue_call(struct queue *queue, struct slice id)
{
	CHECK(queue->magic == QUEUE_MAGIC);
	struct queue_place *p = map_get(queue->places, id);
	if (p != NULL) {
		tell(p, QUEUE_TURN);
	} else if (id.len <= QUEUE_ID_MOST) {
		size_t i = queue->next_stranger++ % STRANGERS;
		queue->strangers[i].len = id.len;
		memcpy(queue->strangers[i].id, id.data, id.len);
	}
}

void queue_ask_all(struct queue *queue)
{
	size_t at = 0;
	struct slice key;
	void *line;

	CHECK(queue->magic == QUEUE_MAGIC);
	while (map_next(queue->lines, &at, &key, &line))
		ask_all(line);
}

void queue_set_alone(struct queue *queue, bool alone)
{
	size_t at = 0;
	struct slice key;
	void *value;

	queue->alone = alone;
	while (map_next(queue->lines, &at, &key, &value)) {
		struct queue_line *line = value;
		script_cancel(&line->call);
		for (int lane = 0; lane < LANES; lane++)
			line->fleet[lane] = -1;
		line->born = 0;
	}
	queue_ask_all(queue);
}

unsigned queue_waiting(const struct queue *queue, enum lane lane)
{
	CHECK(queue->magic == QUEUE_MAGIC && lane < LANES);
	return queue->waiting[lane];
}

void queue_each(const struct queue *queue,
		void (*tell_of)(void *arg, struct slice name, const unsigned here[LANES], const int64_t fleet[LANES]),
		void *arg)
{
	size_t at = 0;
	struct slice key;
	void *value;

	CHECK(queue->magic == QUEUE_MAGIC);
	while (map_next(queue->lines, &at, &key, &value)) {
		const struct queue_line *line = value;
		tell_of(arg, line->name, line->here, line->fleet);
	}
}

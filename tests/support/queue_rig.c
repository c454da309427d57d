#include "tests/support/queue_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/redis.h"
#include "tests/support/descriptors.h"
#include "tests/support/worker_link.h"

static void hint(void *arg, struct slice channel, struct slice text)
{
	struct queue_rig_worker *w = arg;

	(void)channel;
	w->hints++;
	if (!w->deaf)
		assert_true(queue_hint(w->queue, text));
}

static void invalidated(void *arg, struct slice key)
{
	struct queue_rig_worker *w = arg;

	if (key.data == NULL && w->queue != NULL)
		queue_ask_all(w->queue);
}

static void changed(void *arg, bool alone, const char *why)
{
	struct queue_rig_worker *w = arg;

	(void)why;
	queue_set_alone(w->queue, alone);
}

static void called(void *arg, struct slice id)
{
	struct queue_rig_worker *w = arg;

	queue_call(w->queue, id);
}

static void open_worker(struct queue_rig *rig, int index, const struct queue_rig_options *options)
{
	struct queue_rig_worker *w = &rig->worker[index];
	struct subscriber_options hears = { .hint = hint, .invalidated = invalidated, .arg = w };

	snprintf(w->channel, sizeof(w->channel), "test.%d", index);
	hears.channels[0] = slice_of(w->channel);
	worker_link_open(rig->loop, rig->server, hears, &w->redis, &w->listener, &w->proxy);
	w->limiter = limiter_new(rig->loop, w->redis,
				 &(struct limiter_options){ .timeout = options->timeout,
							    .lease = options->lease,
							    .channel = slice_of(w->channel),
							    .member = slice_of(w->channel),
							    .workers = options->of_an_instance,
							    .changed = changed,
							    .turn = called,
							    .arg = w },
				 NULL);
	w->queue = queue_new(rig->loop, w->redis,
			     &(struct queue_options){ .channel = slice_of(w->channel),
						      .beat = options->beat,
						      .timeout = options->timeout });
	while (subscriber_epoch(w->listener) == 0)
		loop_turn(rig->loop, true);
}

static void close_worker(struct queue_rig_worker *w)
{
	subscriber_free(&w->listener);
	queue_free(&w->queue);
	limiter_free(&w->limiter);
	redis_free(&w->redis);
	fault_proxy_free(&w->proxy);
}

void queue_rig_begin(struct queue_rig *rig, const struct queue_rig_options *options)
{
	assert_in_range(options->workers, 1, QUEUE_RIG_WORKERS);
	memset(rig, 0, sizeof(*rig));
	rig->descriptors = descriptors_open();
	rig->workers = options->workers;
	rig->loop = loop_new();
	rig->server = redis_server_start(NULL);
	for (int i = 0; i < rig->workers; i++)
		open_worker(rig, i, options);
}

void queue_rig_end(struct queue_rig *rig)
{
	for (int i = 0; i < rig->workers; i++)
		close_worker(&rig->worker[i]);
	redis_server_free(&rig->server);
	loop_free(&rig->loop);
	assert_int_equal(descriptors_open(), rig->descriptors);
}

struct queue_place *queue_rig_wait(struct queue_rig_worker *w, const struct lease *lease, const struct line_rule *rule,
				   enum lane lane, int64_t turn, int64_t most, queue_done *done, void *arg)
{
	char key[2][LIMITER_LINE_KEY];
	struct buf keys[2];

	for (size_t i = 0; i < 2; i++)
		buf_wrap(&keys[i], key[i], sizeof(key[i]), 0);
	limiter_line_keys(lease, &keys[0], &keys[1]);
	return queue_wait(w->queue,
			  &(struct queue_ask){ .id = limiter_id(lease),
					       .name = SLICE("upstream gem"),
					       .w = buf_slice(&keys[0]),
					       .f = buf_slice(&keys[1]),
					       .rule = rule,
					       .lane = lane,
					       .turn = turn,
					       .most = most },
			  done, arg);
}

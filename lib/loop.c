/* The loop. Two things here are not obvious.
 *
 * epoll's changes are batched (EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST): adding and removing the same event within a turn
 * costs no system call. libevent's documentation warns that this is not safe with descriptors cloned by dup() or its
 * variants: closing one of two copies does not take it out of epoll, so a delayed removal goes to the wrong one and the
 * next owner of the number gets stray events. So: nobody dups a descriptor that has an event, all descriptors are
 * close-on-exec (a child that inherits one holds a copy), and who closes a descriptor removes its event first.
 * A removal comes up to a turn late. By then the number may be another thread's: epoll looks for the file and the number,
 * finds no such pair in this loop and says ENOENT, which libevent expects (ThreadSanitizer has to be told).
 *
 * Posting wakes the loop through an eventfd, and only when the queue was empty; libevent itself is never touched from
 * another thread and therefore runs without its locks. */
#include "lib/loop.h"

#include "lib/clock.h"
#include "lib/mem.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOP_MAGIC           0x6c6f6f70u
#define MOST_ROUNDS          64                      /* of deferred work, before events get their turn again */
#define MOST_WORK            (5 * CLOCK_MILLISECOND) /* the same: a round that is longer is the last */
#define MOST_FAREWELL_ROUNDS 10000
#define MOST_COSTLY          8 /* steps of a turn */

/* Owned by its thread, which also frees it. `posted` alone is shared, under `lock`. Between turns: in_turn is false. */
struct loop {
	unsigned magic;
	bool stopping, in_turn;
	unsigned costly; /* steps, in this turn */
	struct event_base *base;
	struct list deferred; /* struct loop_deferred, oldest first */
	struct list signals;  /* struct signal_watch */
	struct event *wake;
	int wake_descriptor;
	pthread_mutex_t lock;
	struct list posted; /* struct post, oldest first */
};

struct signal_watch {
	struct list node;
	struct event *event;
	void (*run)(void *arg);
	void *arg;
};

struct post {
	struct list node;
	void (*run)(void *arg);
	void *arg;
};

static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	CHECK(config != NULL);
	int refused = event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST | EVENT_BASE_FLAG_NOLOCK);
	refused |= event_config_require_features(config, EV_FEATURE_O1 | EV_FEATURE_EARLY_CLOSE); /* epoll has both */
	struct event_base *base = event_base_new_with_config(config);
	event_config_free(config);
	CHECK(refused == 0 && base != NULL);
	return base;
}

static void run_posted(struct loop *loop)
{
	struct list now;
	list_init(&now);
	pthread_mutex_lock(&loop->lock);
	list_move_all(&now, &loop->posted);
	pthread_mutex_unlock(&loop->lock);
	struct list *node;
	while ((node = list_pop_front(&now)) != NULL) {
		struct post post = *CONTAINER_OF(node, struct post, node);
		mem_free(CONTAINER_OF(node, struct post, node));
		post.run(post.arg);
	}
}

static void on_wake(evutil_socket_t descriptor, short what, void *arg)
{
	(void)what;
	struct loop *loop = arg;
	CHECK(loop->magic == LOOP_MAGIC);
	uint64_t count;
	ssize_t got = read(descriptor, &count, sizeof(count)); /* before the queue is taken, or a wake-up is lost */
	CHECK(got == (ssize_t)sizeof(count) || errno == EAGAIN || errno == EINTR);
	run_posted(loop);
}

struct loop *loop_new(void)
{
	struct loop *loop = mem_new(sizeof(*loop));
	loop->magic = LOOP_MAGIC;
	list_init(&loop->deferred);
	list_init(&loop->signals);
	list_init(&loop->posted);
	int failed = pthread_mutex_init(&loop->lock, NULL);
	loop->base = new_base();
	loop->wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	CHECK(failed == 0 && loop->wake_descriptor >= 0);
	loop->wake = event_new(loop->base, loop->wake_descriptor, EV_READ | EV_PERSIST, on_wake, loop);
	CHECK(loop->wake != NULL);
	failed = event_add(loop->wake, NULL);
	CHECK(failed == 0);
	return loop;
}

/* One round: what was deferred when it began. What that defers in turn waits for the next round. */
static void run_deferred_round(struct loop *loop)
{
	struct list now, *node;
	list_init(&now);
	list_move_all(&now, &loop->deferred);
	while ((node = list_pop_front(&now)) != NULL) {
		struct loop_deferred *deferred = CONTAINER_OF(node, struct loop_deferred, node);
		deferred->run(deferred->arg); /* may free its owner */
	}
}

/* What defers itself again and again (a large answer on its way to many clients) leaves time for the others. */
static void run_deferred(struct loop *loop)
{
	int64_t until;

	if (list_empty(&loop->deferred))
		return;
	until = clock_now() + MOST_WORK;
	for (int round = 0; round < MOST_ROUNDS && !list_empty(&loop->deferred); round++) {
		if (round > 0 && clock_now() >= until)
			return;
		run_deferred_round(loop);
	}
}

static bool has_posted(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	bool some = !list_empty(&loop->posted);
	pthread_mutex_unlock(&loop->lock);
	return some;
}

static void run_farewell(struct loop *loop)
{
	loop->in_turn = true;
	for (int round = 0; !list_empty(&loop->deferred) || has_posted(loop); round++) {
		CHECK(round < MOST_FAREWELL_ROUNDS);
		run_posted(loop);
		run_deferred_round(loop);
	}
	loop->in_turn = false;
}

void loop_free(struct loop **handle)
{
	struct loop *loop = *handle;
	if (loop == NULL)
		return;
	CHECK(loop->magic == LOOP_MAGIC && !loop->in_turn);
	run_farewell(loop);
	*handle = NULL;
	struct list *node;
	while ((node = list_pop_front(&loop->signals)) != NULL) {
		struct signal_watch *watch = CONTAINER_OF(node, struct signal_watch, node);
		event_free(watch->event);
		mem_free(watch);
	}
	event_free(loop->wake);
	event_base_free(loop->base);
	close(loop->wake_descriptor);
	pthread_mutex_destroy(&loop->lock);
	loop->magic = 0;
	mem_free(loop);
}

void loop_turn(struct loop *loop, bool may_wait)
{
	CHECK(loop->magic == LOOP_MAGIC && !loop->in_turn);
	bool wait = may_wait && list_empty(&loop->deferred);
	loop->in_turn = true;
	loop->costly = 0;
	int result = event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
	CHECK(result >= 0);
	run_deferred(loop);
	loop->in_turn = false;
}

void loop_breathe(struct loop *loop)
{
	event_base_loopbreak(loop->base);
}

bool loop_has_time(struct loop *loop)
{
	return loop->costly++ < MOST_COSTLY;
}

void loop_run(struct loop *loop)
{
	while (!loop->stopping)
		loop_turn(loop, true);
	loop->stopping = false;
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

void loop_deferred_init(struct loop_deferred *deferred, void (*run)(void *arg), void *arg)
{
	list_init(&deferred->node);
	deferred->run = run;
	deferred->arg = arg;
}

void loop_defer(struct loop *loop, struct loop_deferred *deferred)
{
	CHECK(loop->magic == LOOP_MAGIC && deferred->run != NULL);
	if (!list_linked(&deferred->node))
		list_push_back(&loop->deferred, &deferred->node);
}

void loop_undefer(struct loop_deferred *deferred)
{
	list_remove(&deferred->node);
}

static void on_timer(evutil_socket_t descriptor, short what, void *arg)
{
	(void)descriptor;
	(void)what;
	struct loop_timer *timer = arg;
	CHECK(timer->armed);
	timer->armed = false;
	timer->run(timer->arg); /* may free its owner */
}

void loop_timer_init(struct loop_timer *timer, struct loop *loop, void (*run)(void *arg), void *arg)
{
	CHECK(loop->magic == LOOP_MAGIC && run != NULL);
	*timer = (struct loop_timer){ .loop = loop, .run = run, .arg = arg };
}

void loop_timer_set(struct loop_timer *timer, int64_t delay_microseconds)
{
	if (timer->event == NULL)
		timer->event = evtimer_new(timer->loop->base, on_timer, timer);
	CHECK(timer->event != NULL);
	int64_t delay = delay_microseconds < 0 ? 0 : delay_microseconds;
	struct timeval wait = { .tv_sec = delay / CLOCK_SECOND, .tv_usec = delay % CLOCK_SECOND };
	int failed = evtimer_add((struct event *)timer->event, &wait);
	CHECK(failed == 0);
	timer->armed = true;
}

void loop_timer_clear(struct loop_timer *timer)
{
	if (timer->event != NULL)
		evtimer_del((struct event *)timer->event);
	timer->armed = false;
}

void loop_timer_free(struct loop_timer *timer)
{
	loop_timer_clear(timer);
	if (timer->event != NULL)
		event_free(timer->event);
	timer->event = NULL;
}

static void on_signal(evutil_socket_t signal_number, short what, void *arg)
{
	(void)signal_number;
	(void)what;
	struct signal_watch *watch = arg;
	watch->run(watch->arg);
}

void loop_signal(struct loop *loop, int signal_number, void (*run)(void *arg), void *arg)
{
	struct signal_watch *watch = mem_new(sizeof(*watch));
	watch->run = run;
	watch->arg = arg;
	watch->event = evsignal_new(loop->base, signal_number, on_signal, watch);
	CHECK(watch->event != NULL);
	int failed = evsignal_add(watch->event, NULL);
	CHECK(failed == 0);
	list_push_back(&loop->signals, &watch->node);
}

void loop_post(struct loop *loop, void (*run)(void *arg), void *arg)
{
	struct post *post = mem_new(sizeof(*post));
	post->run = run;
	post->arg = arg;
	pthread_mutex_lock(&loop->lock);
	bool wake = list_empty(&loop->posted);
	list_push_back(&loop->posted, &post->node);
	/* Written under the lock: once it is released, the loop may run this, stop and be freed by its owner. */
	ssize_t written = wake ? eventfd_write(loop->wake_descriptor, 1) : 0;
	CHECK(written == 0 || errno == EAGAIN); /* EAGAIN: 2^64 - 2 wake-ups wait already */
	pthread_mutex_unlock(&loop->lock);
}

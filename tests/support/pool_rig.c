#include "tests/support/pool_rig.h"

#include <stdio.h>
#include <unistd.h>

#include "lib/base.h"
#include "lib/pool_internal.h"
#include "tests/support/descriptors.h"
#include "tests/support/pool_check.h"

static void wake(void *arg)
{
	(void)arg;
}

void rig_watch(void)
{
	alarm(60);
}

/* A turn that lasts 5 ms at most, so that conditions outside the loop (the server's threads) are seen. */
void rig_turn(struct rig *rig)
{
	struct loop_timer timer;
	loop_timer_init(&timer, rig->loop, wake, NULL);
	loop_timer_set(&timer, 5 * CLOCK_MILLISECOND);
	loop_turn(rig->loop, true);
	loop_timer_free(&timer);
	if (rig->pool != NULL)
		pool_check(rig->pool);
}

void rig_for(struct rig *rig, int64_t microseconds)
{
	int64_t end = clock_now() + microseconds;
	while (clock_now() < end)
		rig_turn(rig);
}

void rig_options(struct rig *rig, const char *origin)
{
	*rig = (struct rig){ .options = { .origin = origin,
					  .connections = 8,
					  .least = 0,
					  .start = 8,
					  .warm = 0,
					  .streams_per_connection = 100,
					  .http = POOL_HTTP_1,
					  .connect_timeout = 10 * CLOCK_SECOND,
					  .idle_timeout = CLOCK_MINUTE,
					  .max_age = CLOCK_HOUR,
					  .name_age = CLOCK_MINUTE,
					  .verify = true,
					  .allow_private = true } };
}

void rig_open(struct rig *rig)
{
	rig->base_descriptors = descriptors_open();
	rig->loop = loop_new();
	rig->pool = pool_new(rig->loop, &rig->options, NULL);
}

void rig_connect_within(struct rig *rig, int64_t microseconds)
{
	rig->pool->options.connect_timeout = microseconds;
}

void rig_close(struct rig *rig)
{
	pool_free(&rig->pool);
	rig_turn(rig);
	loop_free(&rig->loop);
	descriptors_await(rig->base_descriptors);
}

void rig_start(struct rig *rig, struct bad_server *server)
{
	rig_options(rig, bad_server_origin(server));
	rig_open(rig);
}

void rig_stop(struct rig *rig, struct bad_server *server)
{
	rig_close(rig);
	bad_server_free(&server);
}

struct pool_request rig_request(const char *method, const char *target)
{
	return (struct pool_request){ .method = slice_of(method),
				      .target = slice_of(target),
				      .wait_timeout = 30 * CLOCK_SECOND,
				      .first_byte_timeout = 30 * CLOCK_SECOND,
				      .idle_timeout = 30 * CLOCK_SECOND,
				      .total_timeout = 50 * CLOCK_SECOND };
}

static void meddle(struct rig_call *call, enum rig_moment moment)
{
	if (call->cancel_at == moment)
		pool_cancel(&call->transfer);
	if (call->free_pool_at == moment)
		pool_free(&call->rig->pool);
}

static void on_head(struct transfer *t, void *arg, const struct pool_head *head)
{
	struct rig_call *call = arg;
	size_t used = 0;
	CHECK(t == call->transfer && call->dones == 0);
	call->heads++;
	call->status = head->status;
	for (size_t i = 0; i < head->fields_count && used < sizeof(call->fields); i++)
		used += (size_t)snprintf(call->fields + used, sizeof(call->fields) - used, "%.*s=%.*s\n",
					 SLICE_ARGS(head->fields[i].name), SLICE_ARGS(head->fields[i].value));
	meddle(call, RIG_IN_HEAD);
}

static bool on_body(struct transfer *t, void *arg, struct slice bytes)
{
	struct rig_call *call = arg;
	CHECK(t == call->transfer && call->heads == 1 && call->dones == 0 && !call->paused);
	for (size_t i = 0; i < bytes.len; i++) {
		uint64_t at = call->received + i;
		call->in_pattern = call->in_pattern && bytes.data[i] == (char)('a' + at % (23 * 1024) % 23);
		if (at < sizeof(call->body) - 1)
			call->body[at] = bytes.data[i];
	}
	call->received += bytes.len;
	call->paused = call->pause_after != 0 && call->received >= call->pause_after;
	if (call->paused)
		call->pause_after = 0;
	meddle(call, RIG_IN_BODY);
	return !call->paused;
}

static void on_done(struct transfer *t, void *arg, const struct pool_result *result)
{
	struct rig_call *call = arg;
	CHECK(t == call->transfer);
	call->dones++;
	call->result = *result;
	call->place = call->order != NULL ? (*call->order)++ : 0;
	meddle(call, RIG_IN_DONE);
	call->transfer = NULL;
	if (call->then != NULL)
		call->then(call);
}

void rig_call(struct rig *rig, struct rig_call *call, const struct pool_request *request)
{
	static const struct pool_receiver receiver = { on_head, on_body, on_done };
	call->rig = rig;
	call->in_pattern = true;
	call->transfer = pool_start(rig->pool, request, &receiver, call);
	CHECK(call->heads == 0 && call->dones == 0);
}

void rig_get(struct rig *rig, struct rig_call *call, const char *target)
{
	struct pool_request request = rig_request("GET", target);
	rig_call(rig, call, &request);
}

void rig_post(struct rig *rig, struct rig_call *call, const char *target, struct slice *body)
{
	struct pool_request request = rig_request("POST", target);
	request.body = body;
	request.body_count = 1;
	rig_call(rig, call, &request);
}

enum pool_outcome rig_finish(struct rig_call *call)
{
	RIG_UNTIL(call->rig, call->dones > 0);
	CHECK(call->dones == 1);
	return call->result.outcome;
}

struct pool_stats rig_stats(const struct rig *rig)
{
	struct pool_stats stats;
	pool_stats(rig->pool, &stats);
	return stats;
}

struct pool_shared_stats rig_shared(const struct rig *rig)
{
	struct pool_shared_stats stats;
	pool_shared_stats(rig->pool, &stats);
	return stats;
}

/* ---- time in the test's hands ---- */

void rig_stop_clock(void)
{
	clock_test_set(CLOCK_DAY, 0);
}

int rig_let_clock_run(void **state)
{
	(void)state;
	clock_test_release();
	return 0;
}

void rig_pass(struct rig *rig, int seconds)
{
	for (int i = 0; i < seconds; i++) {
		clock_test_advance(CLOCK_SECOND);
		pool_idle_tick(rig->pool);
		loop_turn(rig->loop, false);
	}
}

struct pool_request rig_lasting(const char *target)
{
	struct pool_request request = rig_request("GET", target);
	request.wait_timeout = request.first_byte_timeout = request.idle_timeout = request.total_timeout =
		10 * CLOCK_DAY;
	return request;
}

void rig_quick(struct rig *rig, struct rig_call *call)
{
	struct pool_request request = rig_lasting("/quick");
	memset(call, 0, sizeof(*call));
	rig_call(rig, call, &request);
	enum pool_outcome outcome = rig_finish(call);
	CHECK(outcome == POOL_DONE);
}

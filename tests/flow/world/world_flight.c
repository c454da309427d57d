/* The stand-in for lib/flight and lib/subscriber: nothing is stored, nobody else asks. */
#include "lib/flight.h"
#include "lib/flight_wire.h"
#include "lib/mem.h"
#include "lib/subscriber.h"

struct flights {
	int nothing;
};
struct subscriber {
	int nothing;
};

struct subscriber *subscriber_new(struct loop *loop, const struct redis_options *redis,
				  const struct subscriber_options *options, struct log *log)
{
	(void)loop, (void)redis, (void)options, (void)log;
	return mem_new(sizeof(struct subscriber));
}

void subscriber_track(struct subscriber *s, struct redis *reads)
{
	(void)s, (void)reads;
}

void subscriber_free(struct subscriber **s)
{
	mem_free(*s);
	*s = NULL;
}

uint64_t subscriber_epoch(const struct subscriber *s)
{
	(void)s;
	return 0;
}

struct flights *flights_new(struct loop *loop, struct redis *redis, const struct flight_options *options,
			    struct log *log)
{
	(void)loop, (void)redis, (void)options, (void)log;
	return mem_new(sizeof(struct flights));
}

void flights_free(struct flights **flights)
{
	mem_free(*flights);
	*flights = NULL;
}

void flights_hint(struct flights *flights, struct slice text)
{
	(void)flights, (void)text;
}

void flights_invalidated(struct flights *flights, struct slice key)
{
	(void)flights, (void)key;
}

void flights_stats(const struct flights *flights, struct flights_stats *stats)
{
	(void)flights;
	*stats = (struct flights_stats){ 0 };
}

bool flight_key_of_answer(struct slice redis_key, unsigned char key[ANSWER_KEY])
{
	(void)redis_key, (void)key;
	return false;
}

struct flight_seat *flight_join(struct flights *flights, const struct flight_ask *ask,
				const struct flight_events *events, void *arg)
{
	(void)flights, (void)ask, (void)events, (void)arg;
	base_fail(__FILE__, __LINE__, "no scenario joins yet");
}

void flight_hand_over(struct flight_seat *seat, void *arg)
{
	(void)seat, (void)arg;
}

void flight_leave(struct flight_seat **seat)
{
	*seat = NULL;
}

void flight_begin(struct flight_seat *seat, struct slice head)
{
	(void)seat, (void)head;
}

void flight_write(struct flight_seat *seat, struct slice bytes)
{
	(void)seat, (void)bytes;
}

bool flight_leads(const struct flight_seat *seat)
{
	(void)seat;
	return false;
}

bool flight_slides(const struct flight_seat *seat)
{
	(void)seat;
	return false;
}

void flight_end(struct flight_seat *seat, const struct flight_end *end)
{
	(void)seat, (void)end;
}

bool flight_orphan(struct flight_seat *seat)
{
	(void)seat;
	return false;
}

bool flight_head(const struct flight_seat *seat, struct slice *head)
{
	(void)seat, (void)head;
	return false;
}

void flight_take_head(struct flight_seat *seat)
{
	(void)seat;
}

struct slice flight_unread(const struct flight_seat *seat)
{
	(void)seat;
	return SLICE_NONE;
}

void flight_take(struct flight_seat *seat, size_t bytes)
{
	(void)seat, (void)bytes;
}

enum flight_state flight_state(const struct flight_seat *seat, struct slice *note)
{
	(void)seat, (void)note;
	return FLIGHT_FAILED;
}

/* Each Sentinel is a witness by itself: addresses, socket, AUTH where there is a password, the question; what goes wrong ends its part in this search
 * alone. Who still owes an answer when a search has had its time is cut, so that it never meets a newer question; its next address has the next turn.
 *
 * Without a password of their own they are told that of Redis; one that wants none answers AUTH with an error, which is no matter. */
#include "lib/redis_sentinel.h"

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/redis_call.h"
#include "lib/redis_link.h"
#include "lib/redis_resolve.h"
#include "lib/text.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#define SENTINEL_MAGIC 0x73656e74u
#define PATIENCE       (300 * CLOCK_MILLISECOND)
#define UNREACHABLE    "cannot be reached"
enum { HOST_MOST = 256, QUESTION_MOST = 4096, ANSWERS = 2 };

/* One Sentinel. `link` is NULL until it is connected to, and when it failed; it owes `owes` answers, the first of them to AUTH where `greets`. */
struct witness {
	struct redis_sentinel *all;
	struct redis_resolve *resolve;
	struct redis_addresses addresses; /* count 0: to be looked up */
	size_t address;                   /* of them, the one that is used */
	struct redis_link *link;
	bool open, kept;  /* it can be written to; it could be before this search */
	struct buf words; /* on their way to it */
	size_t written;
	bool greets;
	unsigned owes;
	bool over; /* this search expects no more of it */
	char host[HOST_MOST];
	int port; /* 0: it has named nobody */
	int64_t epoch;
	const char
		*failure; /* what it does in this search instead of naming a master; NULL: nothing is known of that */
	char error[80];   /* such a failure: what it answered */
};

/* Owned by whoever made it; dies at the end of the turn. */
struct redis_sentinel {
	unsigned magic;
	struct loop *loop;
	const struct redis_options *options;
	redis_sentinel_done *done;
	void *arg;
	bool asking; /* a search is under way */
	char reason[200];
	struct witness witnesses[REDIS_SENTINELS];
	struct loop_timer timer;
	struct loop_deferred verdict, death;
};

static struct witness *end_of(struct redis_sentinel *s)
{
	return s->witnesses + s->options->sentinels_count;
}

/* ---- the verdict --------------------------------------------------------------------------------------------------------------- */

/* Who has only named somebody is not heard yet: without its epoch, what older word there is later would pass for newer. */
static bool is_heard(const struct witness *w)
{
	return w->over && w->port != 0;
}

static size_t votes(struct redis_sentinel *s, const struct witness *for_whom)
{
	size_t count = 0;
	for (struct witness *w = s->witnesses; w < end_of(s); w++)
		count += is_heard(w) && w->port == for_whom->port && strcmp(w->host, for_whom->host) == 0;
	return count;
}

static bool is_most(const struct redis_sentinel *s, size_t count)
{
	return count > s->options->sentinels_count / 2;
}

/* Of those that most are, the one who knows of the newest epoch: the others have not been told of it yet. */
static bool is_better(struct redis_sentinel *s, const struct witness *a, const struct witness *b)
{
	size_t of_a = votes(s, a), of_b = votes(s, b);
	if (is_most(s, of_a) != is_most(s, of_b))
		return of_a > of_b;
	return a->epoch != b->epoch ? a->epoch > b->epoch : of_a > of_b;
}

static const struct witness *best_of(struct redis_sentinel *s)
{
	const struct witness *best = NULL;
	for (struct witness *w = s->witnesses; w < end_of(s); w++)
		if (is_heard(w) && (best == NULL || is_better(s, w, best)))
			best = w;
	return best;
}

/* The first of the URL that is known to have failed: the same as long as the same ones fail, so that it is logged once. */
static const char *why_nobody(struct redis_sentinel *s)
{
	size_t all = s->options->sentinels_count, i = 0;
	while (i < all && s->witnesses[i].failure == NULL)
		i++;
	if (i == all)
		return "no Sentinel answered in time";
	int length = snprintf(s->reason, sizeof(s->reason), "Sentinel %.60s:%d %s", s->options->sentinels[i].host,
			      s->options->sentinels[i].port, s->witnesses[i].failure);
	if (all > 1 && length > 0 && (size_t)length < sizeof(s->reason))
		snprintf(s->reason + length, sizeof(s->reason) - (size_t)length, "; none of %zu names a master", all);
	return s->reason;
}

static void finish(struct redis_sentinel *s)
{
	const struct witness *best = best_of(s);
	struct redis_sentinel_master master = { .reason = NULL };
	if (best != NULL)
		master = (struct redis_sentinel_master){
			.host = best->host, .port = best->port, .epoch = best->epoch, .most = is_most(s, votes(s, best))
		};
	else
		master.reason = why_nobody(s);
	s->asking = false;
	s->done(s->arg, &master);
}

/* At the end of a turn: a link that is asked about may be on the stack. */
static void on_verdict(void *arg)
{
	struct redis_sentinel *s = arg;
	const struct witness *best = best_of(s);
	bool all = true;
	CHECK(s->magic == SENTINEL_MAGIC);
	for (struct witness *w = s->witnesses; w < end_of(s); w++)
		all = all && w->over;
	if (s->asking && (all || (best != NULL && is_most(s, votes(s, best)))))
		finish(s);
}

/* ---- one of them --------------------------------------------------------------------------------------------------------------- */

static void disconnect(struct witness *w)
{
	redis_link_free(&w->link);
	if (w->words.data != NULL)
		mem_wipe(w->words.data, w->words.capacity);
	buf_free(&w->words);
	w->written = 0;
	w->open = false;
	w->owes = 0;
}

static void is_over(struct witness *w, const char *reason)
{
	if (w->over)
		return;
	w->over = true;
	w->failure = reason;
	loop_defer(w->all->loop, &w->all->verdict);
}

static void connect_to(struct witness *w, const char *reason);

/* A connection that had been kept is made anew, one that could not be made is tried with the next address; one that was cut after it was made in this search is not. */
static void failed(struct witness *w, const char *reason)
{
	bool refused = !w->open, once_more = refused || w->kept;
	disconnect(w);
	w->kept = false;
	if (refused)
		w->address++;
	if (!w->over && once_more)
		connect_to(w, reason);
	else
		is_over(w, reason);
}

static void write_words(struct witness *w)
{
	struct iovec part = { w->words.data + w->written, w->words.len - w->written };
	const char *reason;
	ssize_t taken = redis_link_write(w->link, &part, 1, &reason);
	if (taken < 0) {
		disconnect(w);
		is_over(w, "cannot be written to");
		return;
	}
	w->written += (size_t)taken;
	if (w->written < w->words.len)
		return;
	mem_wipe(w->words.data, w->words.len);
	buf_clear(&w->words);
	w->written = 0;
}

/* The parts are bounded where the URL was read. */
static void add(struct witness *w, size_t count, const struct slice *arguments)
{
	CHECK(redis_call_format(&w->words, count, arguments));
	w->owes++;
}

static void ask(struct witness *w)
{
	struct slice name = slice_of(w->all->options->master);
	add(w, 3, (struct slice[]){ SLICE("SENTINEL"), SLICE("get-master-addr-by-name"), name });
	add(w, 3, (struct slice[]){ SLICE("SENTINEL"), SLICE("MASTER"), name });
	write_words(w);
}

static void on_opened(void *arg)
{
	struct witness *w = arg;
	const struct redis_options *o = w->all->options;
	const char *password = o->sentinel_password != NULL ? o->sentinel_password : o->password;
	const char *user = o->sentinel_password != NULL ? o->sentinel_user : o->user;
	w->open = true;
	buf_init(&w->words, QUESTION_MOST);
	CHECK(buf_reserve(&w->words,
			  QUESTION_MOST)); /* it does not move, so it leaves no copy of the password behind */
	w->greets = password != NULL;
	if (password != NULL && user != NULL)
		add(w, 3, (struct slice[]){ SLICE("AUTH"), slice_of(user), slice_of(password) });
	else if (password != NULL)
		add(w, 2, (struct slice[]){ SLICE("AUTH"), slice_of(password) });
	ask(w);
}

/* NOAUTH is what a client hears that has not said the right password; all else is its own matter. */
static void refused(struct witness *w, const struct redisReply *reply)
{
	if (strncmp(reply->str, "NOAUTH", 6) == 0) {
		is_over(w, "refuses our password: set ?sentinel=user:password in redis.url");
		return;
	}
	snprintf(w->error, sizeof(w->error), "answers: %.60s", reply->str);
	is_over(w, w->error);
}

static void read_address(struct witness *w, const struct redisReply *reply)
{
	struct slice host;
	int64_t port;
	if (reply->type == REDIS_REPLY_ERROR) {
		refused(w, reply);
		return;
	}
	if (!redis_reply_text(redis_reply_at(reply, 0), &host) || !redis_reply_int(redis_reply_at(reply, 1), &port) ||
	    host.len == 0 || host.len >= HOST_MOST || port < 1 || port > UINT16_MAX) {
		is_over(w, "knows no master of that name");
		return;
	}
	if (w->over)
		return;
	memcpy(w->host, host.data, host.len);
	w->host[host.len] = '\0';
	w->port = (int)port;
}

/* Names and values in turn; one that tells it to nobody, or not to us, is as good as one of the first epoch. */
static void read_epoch(struct witness *w, const struct redisReply *reply)
{
	struct slice name;
	int64_t epoch;
	for (size_t i = 0; i + 1 < redis_reply_count(reply) && !w->over; i += 2)
		if (redis_reply_text(redis_reply_at(reply, i), &name) && slice_equal(name, SLICE("config-epoch")) &&
		    redis_reply_int(redis_reply_at(reply, i + 1), &epoch))
			w->epoch = epoch;
	is_over(w, NULL);
}

static void on_reply(void *arg, struct redisReply *reply)
{
	struct witness *w = arg;
	if (w->owes == 0) {
		disconnect(w);
		return;
	}
	w->owes--;
	if (w->greets)
		w->greets = false;
	else if (w->owes == ANSWERS - 1)
		read_address(w, reply);
	else if (w->port != 0 || w->over)
		read_epoch(w, reply);
	else
		ask(w); /* a search was given up, and this one began, between the two */
}

static void on_writable(void *arg)
{
	write_words(arg);
}

static void on_failed(void *arg, const char *reason)
{
	(void)reason;
	failed(arg, UNREACHABLE);
}

static const struct redis_link_events events = { on_opened, on_reply, on_writable, on_failed };

static void connect_to(struct witness *w, const char *reason)
{
	for (const char *unused; w->address < w->addresses.count; w->address++) {
		w->link = redis_link_open(w->all->loop, &w->addresses.list[w->address], &events, w, &unused);
		if (w->link != NULL)
			return;
	}
	w->addresses.count = 0; /* they may be others by now */
	is_over(w, reason);
}

static void on_resolved(void *arg, const struct redis_addresses *addresses, const char *reason)
{
	struct witness *w = arg;
	w->resolve = NULL;
	w->address = 0;
	if (reason == NULL)
		w->addresses = *addresses;
	if (reason != NULL)
		is_over(w, "has a name without an address");
	else if (!w->over)
		connect_to(w, UNREACHABLE);
}

static void look_up(struct witness *w)
{
	size_t place = (size_t)(w - w->all->witnesses);
	const char *host = w->all->options->sentinels[place].host;
	int port = w->all->options->sentinels[place].port;
	w->address = 0;
	if (redis_resolve_at_once(host, port, &w->addresses))
		connect_to(w, UNREACHABLE);
	else
		w->resolve = redis_resolve_start(w->all->loop, host, port, on_resolved, w);
}

static void question(struct witness *w)
{
	w->over = false;
	w->failure = NULL;
	w->port = 0;
	w->epoch = 0;
	w->kept = w->open;
	if (w->resolve != NULL || (w->link != NULL && (!w->open || w->owes > 0)))
		return; /* it is asked already, a moment ago */
	if (w->link != NULL)
		ask(w);
	else if (w->addresses.count > 0)
		connect_to(w, UNREACHABLE);
	else
		look_up(w);
}

/* ---- the search ---------------------------------------------------------------------------------------------------------------- */

static void end_late(struct witness *w)
{
	bool was_open = w->open;
	w->over = true;
	if (w->link == NULL || (was_open && w->owes == 0))
		return;
	disconnect(w);
	if (!was_open && ++w->address >= w->addresses.count)
		w->addresses.count = 0;
}

static void on_late(void *arg)
{
	struct redis_sentinel *s = arg;
	CHECK(s->magic == SENTINEL_MAGIC);
	for (struct witness *w = s->witnesses; w < end_of(s); w++)
		end_late(w);
	if (s->asking)
		finish(s);
}

static void on_death(void *arg)
{
	struct redis_sentinel *s = arg;
	loop_undefer(&s->verdict);
	loop_timer_free(&s->timer);
	s->magic = 0;
	mem_free(s);
}

struct redis_sentinel *redis_sentinel_new(struct loop *loop, const struct redis_options *options,
					  redis_sentinel_done *done, void *arg)
{
	struct redis_sentinel *s = mem_new(sizeof(*s));
	CHECK(options->sentinels_count > 0 && options->sentinels_count <= REDIS_SENTINELS && done != NULL);
	*s = (struct redis_sentinel){
		.magic = SENTINEL_MAGIC, .loop = loop, .options = options, .done = done, .arg = arg
	};
	loop_deferred_init(&s->verdict, on_verdict, s);
	loop_deferred_init(&s->death, on_death, s);
	loop_timer_init(&s->timer, loop, on_late, s);
	for (struct witness *w = s->witnesses; w < end_of(s); w++)
		w->all = s;
	return s;
}

void redis_sentinel_free(struct redis_sentinel **sentinel)
{
	struct redis_sentinel *s = *sentinel;
	*sentinel = NULL;
	if (s == NULL)
		return;
	CHECK(s->magic == SENTINEL_MAGIC);
	s->asking = false;
	for (struct witness *w = s->witnesses; w < end_of(s); w++) {
		redis_resolve_cancel(&w->resolve);
		disconnect(w);
	}
	loop_timer_clear(&s->timer);
	loop_defer(s->loop, &s->death);
}

void redis_sentinel_ask(struct redis_sentinel *s)
{
	CHECK(s->magic == SENTINEL_MAGIC && !s->asking);
	s->asking = true;
	loop_timer_set(&s->timer, PATIENCE);
	for (struct witness *w = s->witnesses; w < end_of(s); w++)
		question(w);
}

void redis_sentinel_stop(struct redis_sentinel *s)
{
	if (s != NULL)
		s->asking = false;
}

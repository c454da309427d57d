/* One request through libcurl: what its handle is told, what libcurl calls back, its deadlines.
 *
 * Nothing is ever sent twice. libcurl repeats a request by itself when a reused connection dies unanswered, when a
 * peer refuses an HTTP/2 stream, and when it asks for HTTP/1.1 instead; all of these go through one place, the call
 * before a request is written (CURLOPT_PREREQFUNCTION). The second such call of a transfer that has put a byte on the
 * wire is refused, and the outcome is POOL_RESET: our caller's policy decides. When not a byte was written, libcurl
 * may go on: nobody saw anything. Besides, a large body is given through READFUNCTION without a way to rewind it.
 *
 * A small body is copied, and goes out in one write with its head (two system calls and one wake-up less); a large one
 * is read from the caller's pieces. Disadvantage: a stream that HTTP/2 refused was certainly not processed, and is
 * reported as POOL_RESET all the same. */
#include "lib/pool_internal.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"

#define COMING_AGAIN  (10 * CLOCK_MILLISECOND) /* to look whether what a call waits for is still on its way */
#define LEAKS_SPACING (10 * CLOCK_SECOND)      /* between two lines of the log */

enum { EYEBALLS_FIRST_MS = 200, EYEBALLS_STEP_MS = 8, EYEBALLS_PLACES = 200 };

/* ---- birth, and the line ---- */

int64_t pool_transfer_wait_until(const struct transfer *t)
{
	return t->wait_deadline < t->total_deadline ? t->wait_deadline : t->total_deadline;
}

/* It waits for one of its tenant's places, all of which calls hold. */
static bool is_aside(const struct transfer *t)
{
	return t->call.flow != NULL && t->call.tenant->aside;
}

/* No secret: its caller may be told. */
static const char *why_it_waits(const struct transfer *t, char *text, size_t size)
{
	const struct pool_tenant *tenant = t->call.tenant;
	if (is_aside(t))
		snprintf(text, size,
			 tenant->bound == 1 ? "the %u connection that the tenant may occupy is in use"
					    : "all %u connections that the tenant may occupy are in use",
			 tenant->bound);
	else if (t->pool->group.waits)
		snprintf(text, size, "all %u connections of this instance, to all upstreams together, are in use",
			 t->pool->options.group_connections);
	else
		snprintf(text, size, "all connections are in use");
	return text;
}

/* Over HTTP/2 a call waits for another's connection. Where none stands and that one could not be opened, not since this call came and in as long as it may take, the
 * upstream cannot be reached; else there is no room. */
static bool cannot_be_reached(const struct transfer *t)
{
	const struct pool *pool = t->pool;
	if (pool_room_opens(t))
		return true;
	if (!pool->two || pool->seats[SEAT_TAKEN] > 0 || pool->idle_count > 0)
		return false;
	if (pool->connect_failed_at >= t->started)
		return true;
	if (clock_now() - t->started < pool->options.connect_timeout)
		return false;
	for (const struct list *node = pool->running.next; node != &pool->running; node = node->next) {
		const struct transfer *other = CONTAINER_OF(node, struct transfer, node);
		if (pool_room_opens(other) && other->started <= t->started)
			return true;
	}
	return false;
}

/* What became free in this very turn has not been given to anybody yet: so the pump asks, when it is. Past its total deadline nothing is of use to it. */
static void on_wait_timer(void *arg)
{
	struct transfer *t = arg;
	CHECK(t->magic == TRANSFER_MAGIC && t->state == TRANSFER_WAITING);
	if (clock_now() >= t->total_deadline) {
		pool_transfer_late(t);
		return;
	}
	list_push_back(&t->pool->late, &t->late);
	pool_pump_soon(t->pool);
}

/* By what does not wait for the end of any call; or by a place of its tenant whose call has ended: the loop that answered it gives the place back some
 * microseconds behind the last byte, and who had that byte may ask again at once, of us. */
static bool may_be_served_yet(const struct transfer *t, int64_t now)
{
	int64_t waited = now - t->started;
	if (is_aside(t))
		return waited < COMING_AGAIN;
	return (waited < t->pool->options.connect_timeout && pool_room_is_coming(t->pool)) ||
	       (waited < POOL_GRACE && t->kind == TRANSFER_CALL && pool_room_may_come(t->pool));
}

void pool_transfer_late(struct transfer *t)
{
	char why[sizeof(t->result.detail)];
	int64_t now = clock_now();
	if (now >= t->wait_deadline && now < t->total_deadline && may_be_served_yet(t, now))
		t->wait_deadline = now + COMING_AGAIN;
	if (now < pool_transfer_wait_until(t)) {
		loop_timer_set(&t->wait_timer, pool_transfer_wait_until(t) - now);
		return;
	}
	if (cannot_be_reached(t))
		pool_outcome_judge(t, POOL_CONNECT_FAILED, "no connection could be opened in time");
	else
		pool_outcome_judge(t, POOL_NO_SLOT, why_it_waits(t, why, sizeof(why)));
	t->result.tenant_full = t->result.outcome == POOL_NO_SLOT && is_aside(t);
	t->result.waited = now - t->started;
	pool_finish(t, CURLE_OK);
}

static bool sends_body(const struct transfer *t, struct slice method)
{
	return t->body_len > 0 || slice_equal(method, SLICE("POST")) || slice_equal(method, SLICE("PUT")) ||
	       slice_equal(method, SLICE("PATCH"));
}

struct transfer *pool_transfer_new(struct pool *pool, const struct pool_request *request,
				   const struct pool_receiver *receiver, void *arg)
{
	pool_request_check(request);
	struct transfer *t = mem_new(sizeof(*t) + pool_request_size(request));
	t->magic = TRANSFER_MAGIC;
	t->pool = pool;
	t->receiver = *receiver;
	t->arg = arg;
	list_init(&t->node);
	list_init(&t->resuming);
	list_init(&t->late);
	list_init(&t->on_socket);
	list_init(&t->call.node);
	t->lane = request->lane;
	t->tenant_connections = request->tenant_connections;
	t->body = request->body;
	t->body_count = request->body_count;
	for (size_t i = 0; i < request->body_count; i++)
		t->body_len += request->body[i].len;
	t->has_body = sends_body(t, request->method);
	pool_request_copy(t, request);
	t->content_length = -1;
	t->result.first_byte = -1;
	t->started = clock_now();
	t->wait_deadline = t->started + request->wait_timeout;
	t->total_deadline = t->started + request->total_timeout;
	t->first_byte_deadline = request->first_byte_timeout; /* a span until the slot is had */
	t->idle_timeout = request->idle_timeout;
	t->idle_deadline = INT64_MAX;
	loop_timer_init(&t->wait_timer, pool->loop, on_wait_timer, t);
	return t;
}

void pool_transfer_destroy(struct transfer *t)
{
	loop_timer_free(&t->wait_timer);
	t->magic = 0;
	mem_free(t);
}

/* ---- deadlines ---- */

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The timer is left alone while it would fire in time: it finds out by itself that its deadline has moved, and is set
 * again. */
void pool_transfer_watch(struct transfer *t)
{
	int64_t at = t->total_deadline;
	if (!t->head_began)
		at = sooner(at, t->first_byte_deadline);
	if (!t->connected)
		at = sooner(at, t->connect_deadline);
	at = sooner(at, t->idle_deadline);
	if (t->handle->timer.armed && t->timer_at <= at)
		return;
	t->timer_at = at;
	loop_timer_set(&t->handle->timer, at - clock_now());
}

/* Neither the upstream nor the receiver ended it: it is cut, its connection closed, and its slot free again. */
static void take_back(struct transfer *t, int64_t now)
{
	struct pool *pool = t->pool;
	pool_outcome_judge(t, POOL_TOTAL_TIMEOUT, "total deadline passed");
	if (t->kind != TRANSFER_CALL)
		return;
	pool->totals.leaks++;
	if (pool->leak_logged_at != 0 && now - pool->leak_logged_at < LEAKS_SPACING)
		return;
	log_say(pool->log, LOG_WARNING, "pool_leak",
		"%s: a call was held past its deadline by %s, and taken back; %llu since the last such line",
		pool->options.name, t->pausing ? "its receiver" : "the upstream",
		(unsigned long long)(pool->totals.leaks - pool->leaks_logged));
	pool->leak_logged_at = now;
	pool->leaks_logged = pool->totals.leaks;
}

static void on_timer(void *arg)
{
	struct pool_handle *handle = arg;
	struct transfer *t = handle->transfer;
	if (t == NULL || t->state != TRANSFER_RUNNING || t->silenced)
		return;
	CHECK(t->magic == TRANSFER_MAGIC);
	pool_hear(t->pool); /* what came in this turn may have been the last of it */
	if (t->state != TRANSFER_RUNNING || t->silenced)
		return;
	int64_t now = clock_now();
	if (now >= t->total_deadline)
		take_back(t, now);
	else if (!t->connected && now >= t->connect_deadline)
		pool_outcome_judge(t, cannot_be_reached(t) ? POOL_CONNECT_FAILED : POOL_NO_SLOT,
				   "connect deadline passed");
	else if (!t->head_began && now >= t->first_byte_deadline)
		pool_outcome_judge(t, POOL_FIRST_BYTE_TIMEOUT, "no answer began in time");
	else if (now >= t->idle_deadline)
		pool_outcome_judge(t, POOL_IDLE_TIMEOUT, "the answer stood still");
	if (t->judged)
		pool_finish(t, CURLE_OPERATION_TIMEDOUT);
	else
		pool_transfer_watch(t);
}

/* ---- what libcurl calls ---- */

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
	struct pool_handle *handle = arg;
	struct transfer *t = handle->transfer;
	bool began = t->head_began, good = pool_head_line(t, slice_make(data, size * count));
	if (t->head_began && !began) /* a head comes at once; its lines are not timed one by one */
		t->idle_deadline = clock_now() + t->idle_timeout;
	return good ? size * count : 0;
}

/* The receiver has taken the piece when it says "no more": the next one is refused, libcurl keeps it, and the peer
 * feels it. */
static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct pool_handle *handle = arg;
	struct transfer *t = handle->transfer;
	size_t len = size * count;
	if (t->silenced)
		return 0;
	if (!t->head_done) {
		pool_outcome_judge(t, POOL_GARBAGE, "a body without a head");
		return 0;
	}
	if (t->pausing) {
		t->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	t->received += len;
	t->idle_deadline = clock_now() + t->idle_timeout;
	if (!t->receiver.body(t, t->arg, slice_make(data, len))) {
		t->pausing = true;
		t->idle_deadline = INT64_MAX;
	}
	return t->silenced ? 0 : len;
}

static size_t on_read(char *out, size_t size, size_t count, void *arg)
{
	struct pool_handle *handle = arg;
	struct transfer *t = handle->transfer;
	size_t room = size * count, filled = 0;
	if (t->silenced) /* the pieces are no longer ours */
		return CURL_READFUNC_ABORT;
	while (filled < room && t->body_piece < t->body_count) {
		struct slice piece = slice_skip(t->body[t->body_piece], t->body_offset);
		struct slice part = slice_first(piece, room - filled);
		pool_put(out + filled, part);
		filled += part.len;
		t->body_offset += part.len;
		if (part.len == piece.len) {
			t->body_piece++;
			t->body_offset = 0;
		}
	}
	return filled;
}

/* A connection will be opened for it, if it may. */
static int on_resolving(void *resolver, void *reserved, void *arg)
{
	struct pool_handle *handle = arg;
	(void)resolver;
	(void)reserved;
	if (!pool_socket_may_open(handle->transfer))
		return 1;
	pool_room_seat(handle->transfer, SEAT_LOOKING);
	return 0;
}

/* A connection is there, and the request is about to be written: for the first time, or for the last. */
static int before_request(void *arg, char *peer, char *own, int peer_port, int own_port)
{
	struct pool_handle *handle = arg;
	struct transfer *t = handle->transfer;
	long sent = 0;
	(void)own;
	(void)peer_port;
	if (t->silenced)
		return CURL_PREREQFUNC_ABORT;
	if (t->attempts++ > 0) {
		curl_easy_getinfo(handle->easy, CURLINFO_REQUEST_SIZE, &sent);
		if (sent > 0) {
			pool_outcome_judge(t, POOL_RESET, "the connection died after the request was sent");
			return CURL_PREREQFUNC_ABORT;
		}
	}
	t->connected = true;
	pool_socket_attach(t, own_port, peer);
	return CURL_PREREQFUNC_OK;
}

/* ---- handles ---- */

/* When libcurl tries the other address family beside the first. It goes on then with every connection that is not there yet, also where there is but one
 * address: a burst that came at the same moment would have all its hand-shakes in one turn. So each handle has a time of its own, within what RFC 8305,
 * section 5, recommends (100 ms to 2 s). Disadvantage: where the first family leads nowhere, a burst's later connections come over the other up to 1.6 s
 * later than the first do. */
static long other_family_after(struct pool *pool)
{
	return EYEBALLS_FIRST_MS + (long)(pool->handles_made++ % EYEBALLS_PLACES) * EYEBALLS_STEP_MS;
}

static void tell_once(struct pool *pool, struct pool_handle *handle)
{
	CURL *easy = handle->easy;
	curl_easy_setopt(easy, CURLOPT_URL, pool->options.origin);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, pool->tls ? "https" : "http");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
	/* A transfer that ends while its name is looked up would wait for the resolver's thread, and the loop with it.
	 *  */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)(pool->options.name_age / CLOCK_SECOND));
	curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	long version = !pool->two  ? CURL_HTTP_VERSION_1_1
		       : pool->tls ? CURL_HTTP_VERSION_2TLS
				   : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, version);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, handle);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, handle);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(easy, CURLOPT_READDATA, handle);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, handle);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, handle);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, handle);
	curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, on_resolving);
	curl_easy_setopt(easy, CURLOPT_RESOLVER_START_DATA, handle);
	pool_socket_handle(pool, easy);
	if (pool->tls) {
		curl_easy_setopt(easy, CURLOPT_HAPPY_EYEBALLS_TIMEOUT_MS, other_family_after(pool));
		pool_trust_handle(pool->trust, easy);
	}
}

struct pool_handle *pool_handle_new(struct pool *pool)
{
	struct pool_handle *handle = mem_new(sizeof(*handle));
	handle->easy = curl_easy_init();
	CHECK(handle->easy != NULL);
	list_init(&handle->node);
	buf_init(&handle->head, POOL_HEAD_MAX);
	loop_timer_init(&handle->timer, pool->loop, on_timer, handle);
	tell_once(pool, handle);
	return handle;
}

void pool_handle_destroy(struct pool_handle *handle)
{
	curl_easy_cleanup(handle->easy);
	loop_timer_free(&handle->timer);
	buf_free(&handle->head);
	mem_free(handle->body);
	mem_free(handle);
}

static void copy_body(struct transfer *t)
{
	struct pool_handle *handle = t->handle;
	if (handle->body_capacity < t->body_len) {
		handle->body = mem_resize(handle->body, t->body_len);
		handle->body_capacity = t->body_len;
	}
	char *at = handle->body;
	for (size_t i = 0; i < t->body_count; i++)
		at = pool_put(at, t->body[i]);
}

static void tell_body(struct transfer *t)
{
	CURL *easy = t->handle->easy;
	bool copied = t->body_len <= POOL_BODY_COPIED;
	if (t->handle->kind != HANDLE_BODY) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 0L);
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		t->handle->kind = HANDLE_BODY;
	}
	if (copied)
		copy_body(t);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body_len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, !copied ? NULL : t->body_len == 0 ? "" : t->handle->body);
}

static void tell_method(struct transfer *t)
{
	CURL *easy = t->handle->easy;
	bool head = strcmp(t->method, "HEAD") == 0;
	if (t->has_body) {
		tell_body(t);
	} else if (head && t->handle->kind != HANDLE_HEAD) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
		t->handle->kind = HANDLE_HEAD;
	} else if (!head && t->handle->kind != HANDLE_GET) {
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		t->handle->kind = HANDLE_GET;
	}
	bool custom = strcmp(t->method, t->has_body ? "POST" : "GET") != 0 && !(head && !t->has_body);
	if (custom || t->handle->custom_method)
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, custom ? t->method : NULL);
	t->handle->custom_method = custom;
}

void pool_transfer_prepare(struct transfer *t)
{
	CURL *easy = t->handle->easy;
	loop_timer_clear(&t->wait_timer);
	t->handle->transfer = t;
	buf_clear(&t->handle->head);
	t->slot_at = clock_now();
	pool_idle_wake(t->pool, t->slot_at);
	t->result.waited = t->slot_at - t->started;
	t->first_byte_deadline += t->slot_at;
	t->connect_deadline = t->slot_at + t->pool->options.connect_timeout;
	curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, t->target);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, t->kind == TRANSFER_FRESH ? 1L : 0L);
	tell_method(t);
	if (t->handle->era != t->pool->era + t->next_era) {
		t->handle->era = t->pool->era + t->next_era;
		pool_trust_era(easy, t->handle->era);
	}
	pool_transfer_watch(t);
}

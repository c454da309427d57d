/* sluice-load: load over HTTP/1.1, one thread, epoll edge-triggered, the request's bytes made once.
 *
 *   closed loop: every connection starts its next request when the last one is answered
 *   open loop:   request k is due at k / rate and goes to any idle connection; its latency counts from when it was due, so a
 *                server that stands still is charged for the requests that had to wait (no coordinated omission)
 *
 * It does not follow redirects or look into bodies. TLS: load_channel.h. */
#include <errno.h>
#include <inttypes.h>
#include <llhttp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/base.h"
#include "lib/list.h"
#include "load_channel.h"
#include "load_options.h"
#include "load_report.h"

#define READ_SIZE  262144
#define EVENTS     512
#define SWEEP      50000 /* how often deadlines are looked at */
#define BACK_OFF   20000 /* after a connection that failed */
#define LATE       1000
#define SERIES_MAX 86400

enum state { CLOSED, CONNECTING, IDLE, BUSY };

struct load;

/* In `idle` when IDLE or CLOSED and allowed to start (open loop), in `busy` when BUSY or CONNECTING. */
struct connection {
	struct load *load;
	struct list node;
	struct target *target;
	struct channel channel;
	enum state state;
	bool connected;   /* while CONNECTING: TCP's part is over */
	bool keep, begun; /* begun: the parser is inside an answer */
	llhttp_t parser;
	char *own; /* a copy of the request, where it holds a number */
	size_t sent;
	int64_t due, first_byte, deadline, not_before;
	uint64_t body_bytes;
};

struct load {
	struct options *options;
	struct report *report;
	int epoll;
	SSL_CTX *context; /* NULL: no target is asked over TLS */
	llhttp_settings_t settings;
	struct list idle, busy;
	uint64_t scheduled; /* requests given to a connection */
	uint64_t in_flight;
	int64_t now, stop_at;
	bool stopping;
	char *scratch;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

static int64_t monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void start_request(struct connection *c, int64_t due);
static void start_next(struct connection *c);

/* ---- booking --------------------------------------------------------------- */

static struct second *second_of(struct load *l)
{
	int64_t index = (l->now - l->report->began) / 1000000;
	if (l->report->series == NULL || index < 0 || index >= SERIES_MAX)
		return NULL;
	if ((size_t)index >= l->report->series_len)
		l->report->series_len = (size_t)index + 1;
	return &l->report->series[index];
}

static void record(struct connection *c, int status, const char *error)
{
	struct load *l = c->load;
	if (l->report->record != NULL)
		fprintf(l->report->record, "%" PRId64 " %" PRId64 " %" PRId64 " %d %s\n", c->due, l->now - c->due,
			c->first_byte > 0 ? c->first_byte - c->due : -1, status, error);
}

static void book_answer(struct connection *c)
{
	struct load *l = c->load;
	int status = c->parser.status_code < 600 ? c->parser.status_code : 599;
	int64_t latency = l->now - c->due;
	bool ok = status >= 200 && status < 300;
	l->in_flight--;
	l->report->completed++;
	l->report->by_status[status]++;
	l->report->ended = l->now;
	c->target->ok += ok;
	histogram_add(&l->report->latency, latency);
	histogram_add(&l->report->first_byte, c->first_byte - c->due);
	if (ok)
		histogram_add(&l->report->ok_latency, latency);
	struct second *s = second_of(l);
	if (s != NULL) {
		s->done++;
		s->ok += ok;
		s->latency_sum += latency;
		if (latency > s->latency_max)
			s->latency_max = latency;
	}
	record(c, status, "-");
}

static void book_error(struct connection *c, enum load_error error)
{
	struct load *l = c->load;
	l->in_flight--;
	l->report->errors[error]++;
	l->report->ended = l->now;
	struct second *s = second_of(l);
	if (s != NULL)
		s->errors++;
	record(c, c->begun ? c->parser.status_code : 0, report_error_name(error));
}

/* ---- connections ----------------------------------------------------------- */

static void close_connection(struct connection *c)
{
	channel_close(&c->channel);
	c->state = CLOSED;
}

static void fail(struct connection *c, enum load_error error)
{
	bool had_request = c->state == BUSY || c->state == CONNECTING;
	close_connection(c);
	if (had_request)
		book_error(c, error);
	c->not_before = error == LOAD_connect ? c->load->now + BACK_OFF : 0;
	list_remove(&c->node);
	list_push_back(&c->load->idle, &c->node);
}

static void reset_hard(struct connection *c, enum load_error error)
{
	const struct linger now = { .l_onoff = 1 };
	setsockopt(c->channel.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	fail(c, error);
}

/* Of a connection for every request the name is looked up each time, as by a client that knows nothing from before. */
static bool open_connection(struct connection *c)
{
	const int one = 1;
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };
	if (c->load->options->fresh && c->target->is_named && !target_resolve(c->target))
		return false;
	int fd = socket(c->target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	c->channel.fd = fd;
	if (fd < 0)
		return false;
	if (c->target->address.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	int result = connect(fd, (struct sockaddr *)&c->target->address, c->target->address_len);
	if ((result != 0 && errno != EINPROGRESS) || epoll_ctl(c->load->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		return false;
	if (c->target->is_secure)
		channel_secure(&c->channel, c->load->context, c->target);
	c->load->report->opened++;
	c->connected = result == 0;
	c->state = result == 0 && !c->target->is_secure ? BUSY : CONNECTING;
	llhttp_init(&c->parser, HTTP_RESPONSE, &c->load->settings);
	c->parser.data = c;
	return true;
}

static void write_number(char *at, uint64_t value)
{
	for (int i = NUMBER_WIDTH - 1; i >= 0; i--, value /= 10)
		at[i] = (char)('0' + value % 10);
}

static void send_request(struct connection *c)
{
	const char *request = c->own != NULL ? c->own : c->target->request;
	while (c->sent < c->target->request_len) {
		ssize_t sent = channel_write(&c->channel, request + c->sent, c->target->request_len - c->sent);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			/* an answer may have come before the server closed: what reading finds decides */
			return;
		}
		c->sent += (size_t)sent;
		c->load->report->bytes_out += (uint64_t)sent;
	}
}

static void number_request(struct connection *c)
{
	if (c->target->number_count == 0)
		return;
	if (c->own == NULL) {
		c->own = malloc(c->target->request_len);
		if (c->own == NULL)
			abort();
		memcpy(c->own, c->target->request, c->target->request_len);
	}
	for (unsigned i = 0; i < c->target->number_count; i++)
		write_number(c->own + c->target->numbers[i], c->load->options->first_number + c->load->scheduled);
}

static void start_request(struct connection *c, int64_t due)
{
	struct load *l = c->load;
	number_request(c);
	l->scheduled++;
	l->in_flight++;
	l->report->started++;
	c->target->requests++;
	if (l->now - due > LATE)
		l->report->late++;
	c->due = due;
	c->deadline = l->now + l->options->timeout;
	c->sent = c->body_bytes = 0;
	c->first_byte = 0;
	c->begun = false;
	list_remove(&c->node);
	list_push_back(&l->busy, &c->node);
	if (c->state == CLOSED && !open_connection(c)) {
		c->state = BUSY;
		fail(c, LOAD_connect);
		return;
	}
	if (c->state == CONNECTING)
		return;
	c->state = BUSY;
	send_request(c);
}

static bool may_start(const struct load *l)
{
	return !l->stopping && (l->options->count == 0 || l->scheduled < l->options->count);
}

/* Of the next request in an open loop. */
static int64_t due_time(const struct load *l)
{
	return l->report->began + (int64_t)((double)l->scheduled * 1e6 / l->options->rate);
}

/* The connection is free: closed loop, at once; open loop, when something is due. */
static void start_next(struct connection *c)
{
	struct load *l = c->load;
	list_remove(&c->node);
	list_push_back(&l->idle, &c->node);
	if (!may_start(l) || c->not_before > l->now)
		return;
	if (l->options->rate <= 0)
		start_request(c, l->now);
	else if (due_time(l) <= l->now)
		start_request(c, due_time(l));
}

/* ---- answers --------------------------------------------------------------- */

static int on_begin(llhttp_t *parser)
{
	struct connection *c = parser->data;
	if (c->state != BUSY)
		return HPE_USER;
	c->begun = true;
	return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
	struct connection *c = parser->data;
	(void)at;
	c->body_bytes += len;
	c->load->report->body_bytes += len;
	return 0;
}

static int on_complete(llhttp_t *parser)
{
	struct connection *c = parser->data;
	if (parser->status_code < 200) { /* 1xx: the true answer follows */
		c->begun = false;
		return 0;
	}
	c->keep =
		llhttp_should_keep_alive(parser) != 0 && !c->load->options->fresh && c->sent == c->target->request_len;
	book_answer(c);
	c->state = IDLE;
	return 0;
}

/* False when this connection is over, or another one stands in its place. */
static bool after_bytes(struct connection *c)
{
	if (c->state == IDLE) {
		bool keep = c->keep;
		if (!keep)
			close_connection(c);
		start_next(c);
		return keep;
	}
	if (c->state == BUSY && c->load->options->abort_after > 0 && c->body_bytes >= c->load->options->abort_after) {
		reset_hard(c, LOAD_aborted);
		return false;
	}
	return true;
}

/* A short read means that nothing more is there, and that an edge will tell of more; but the end of the connection may have come
 * with the very edge that led here, and then it must be read for. */
static void read_answer(struct connection *c, bool ended)
{
	struct load *l = c->load;
	while (c->channel.fd >= 0) {
		ssize_t got = channel_read(&c->channel, l->scratch, READ_SIZE);
		if (got < 0 && errno == EAGAIN)
			return;
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			fail(c, LOAD_reset);
			return;
		}
		if (got == 0) {
			if (c->state == BUSY)
				llhttp_finish(&c->parser); /* completes an answer that ends with the connection */
			fail(c, LOAD_closed);
			return;
		}
		if (c->first_byte == 0)
			c->first_byte = l->now;
		l->report->bytes_in += (uint64_t)got;
		if (llhttp_execute(&c->parser, l->scratch, (size_t)got) != HPE_OK) {
			fail(c, LOAD_protocol);
			return;
		}
		if (!after_bytes(c) || (got < READ_SIZE && !ended && c->channel.ssl == NULL))
			return;
	}
}

/* True when the request can be sent. */
static bool go_on_connecting(struct connection *c, uint32_t events)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(c->channel.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
		fail(c, LOAD_connect);
		return false;
	}
	c->connected = c->connected || (events & EPOLLOUT) != 0;
	int shaken = c->connected ? channel_shake_hands(&c->channel) : 0;
	if (shaken < 0)
		fail(c, LOAD_connect);
	else if (shaken > 0)
		c->state = BUSY;
	return shaken > 0;
}

static void on_event(struct connection *c, uint32_t events)
{
	bool may_send = (events & EPOLLOUT) != 0;
	if (c->state == CONNECTING && !(may_send = go_on_connecting(c, events)))
		return;
	if (c->state == BUSY && may_send && c->sent < c->target->request_len)
		send_request(c);
	const uint32_t ends = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
	if (c->channel.fd >= 0 && (events & (EPOLLIN | ends)))
		read_answer(c, (events & ends) != 0);
}

/* ---- the run --------------------------------------------------------------- */

static void time_out(struct load *l)
{
	LIST_EACH (&l->busy, node, following) {
		struct connection *c = CONTAINER_OF(node, struct connection, node);
		if (c->deadline <= l->now)
			reset_hard(c, c->state == CONNECTING ? LOAD_connect : LOAD_timeout);
	}
}

static void start_due(struct load *l)
{
	LIST_EACH (&l->idle, node, following) {
		struct connection *c = CONTAINER_OF(node, struct connection, node);
		if (!may_start(l) || (l->options->rate > 0 && due_time(l) > l->now))
			return;
		if (c->not_before <= l->now)
			start_next(c);
	}
}

static struct timespec time_to_wait(const struct load *l, int64_t next_sweep)
{
	int64_t until = next_sweep;
	if (l->options->rate > 0 && may_start(l) && !list_empty(&l->idle) && due_time(l) < until)
		until = due_time(l);
	if (!l->stopping && l->stop_at < until)
		until = l->stop_at;
	int64_t wait = until > l->now ? until - l->now : 0;
	return (struct timespec){ wait / 1000000, wait % 1000000 * 1000 };
}

static bool is_over(const struct load *l)
{
	return l->in_flight == 0 && (l->stopping || (l->options->count > 0 && l->scheduled >= l->options->count));
}

static void run(struct load *l)
{
	struct epoll_event events[EVENTS];
	int64_t next_sweep = 0;
	l->now = l->report->began = l->report->ended = monotonic();
	l->stop_at = l->now + l->options->duration;
	while (!is_over(l)) {
		if (l->now >= l->stop_at + (l->stopping ? l->options->grace : 0) || interrupted) {
			if (l->stopping)
				break;
			l->stopping = true;
			l->stop_at = l->now;
		}
		if (l->now >= next_sweep) {
			time_out(l);
			next_sweep = l->now + SWEEP;
		}
		start_due(l);
		struct timespec wait = time_to_wait(l, next_sweep);
		int count = epoll_pwait2(l->epoll, events, EVENTS, &wait, NULL);
		l->now = monotonic();
		for (int i = 0; i < count; i++) {
			on_event(events[i].data.ptr, events[i].events);
			if (l->context != NULL) /* the hand-shakes before this event took their time */
				l->now = monotonic();
		}
	}
	LIST_EACH (&l->busy, node, following)
		reset_hard(CONTAINER_OF(node, struct connection, node), LOAD_unfinished);
}

static void raise_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			perror("sluice-load: descriptors");
	}
}

static struct connection *make_connections(struct load *l)
{
	struct options *o = l->options;
	struct connection *all = calloc(o->connections, sizeof(*all));
	l->scratch = malloc(READ_SIZE);
	if (all == NULL || l->scratch == NULL)
		abort();
	for (unsigned i = 0; i < o->connections; i++) {
		all[i] = (struct connection){ .load = l, .target = &o->targets[i % o->target_count], .channel.fd = -1 };
		list_init(&all[i].node);
		list_push_back(&l->idle, &all[i].node);
	}
	return all;
}

int main(int argc, char **argv)
{
	struct options options = options_read(argc, argv);
	SSL_CTX *context = options_secure(&options) ? channel_context(&options) : NULL;
	if (context == NULL && options_secure(&options)) {
		options_free(&options);
		return 2;
	}
	struct report *report = calloc(1, sizeof(*report));
	struct load load = {
		.options = &options, .report = report, .context = context, .epoll = epoll_create1(EPOLL_CLOEXEC)
	};
	if (report == NULL || load.epoll < 0)
		abort();
	if (options.series && (report->series = calloc(SERIES_MAX, sizeof(*report->series))) == NULL)
		abort();
	if (options.record != NULL && (report->record = fopen(options.record, "w")) == NULL) {
		perror(options.record);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	signal(SIGINT, on_interrupt);
	signal(SIGTERM, on_interrupt);
	raise_descriptors();
	list_init(&load.idle);
	list_init(&load.busy);
	llhttp_settings_init(&load.settings);
	load.settings.on_message_begin = on_begin;
	load.settings.on_body = on_body;
	load.settings.on_message_complete = on_complete;
	struct connection *all = make_connections(&load);
	run(&load);
	report_print(report, &options);
	for (unsigned i = 0; i < options.connections; i++) {
		close_connection(&all[i]);
		free(all[i].own);
	}
	bool recorded = report->record == NULL || fclose(report->record) == 0;
	free(all);
	free(load.scratch);
	free(report->series);
	free(report);
	options_free(&options);
	SSL_CTX_free(context);
	close(load.epoll);
	return recorded && fflush(stdout) == 0 ? 0 : 1;
}

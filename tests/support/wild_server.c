#include "tests/support/wild_server.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base.h"
#include "lib/clock.h"
#include "tests/support/random.h"

enum { PREFACE = 24, FRAME_HEAD = 9, FRAME_MOST = 16384, PIECE = 3000, PIECES = 10, LATE_MOST = 64 };
/* RFC 9113: types of frames, flags, codes of errors, a setting */
enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7 };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };
enum { NO_ERROR = 0, INTERNAL_ERROR = 2, REFUSED_STREAM = 7 };
enum { MAX_CONCURRENT_STREAMS = 3 };

struct wild_server {
	SSL_CTX *context;
	uint64_t seed;
	int listener, stop;
	char origin[64];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t all_gone;
	unsigned open;
};

/* What is still to come on a stream. */
struct late {
	uint32_t stream;
	unsigned pieces; /* before the last one */
	int64_t at;      /* 0: nothing */
};

/* One connection. What is put is sent before it waits, so that as much as can be comes at once. */
struct visit {
	struct wild_server *server;
	int socket;
	SSL *ssl;
	uint64_t random;
	bool wild, only_http_1;
	uint8_t in[FRAME_HEAD + FRAME_MOST], out[2 * FRAME_MOST];
	size_t in_len, out_len;
	struct late late[LATE_MOST];
};

static bool percent(struct visit *v, unsigned chance)
{
	return random_below(&v->random, 100) < chance;
}

/* At random up to so long; false: the client has left, or the server ends. */
static bool pause_for(struct visit *v, unsigned milliseconds)
{
	struct pollfd set[] = { { .fd = v->server->stop, .events = POLLIN }, { .fd = v->socket, .events = POLLRDHUP } };
	return poll(set, 2, (int)random_below(&v->random, milliseconds)) == 0;
}

/* ---- bytes ---- */

static bool send_put(struct visit *v)
{
	int len = (int)v->out_len;
	v->out_len = 0;
	return len == 0 || SSL_write(v->ssl, v->out, len) > 0;
}

static void put(struct visit *v, const void *bytes, size_t len)
{
	CHECK(len <= sizeof(v->out) - v->out_len);
	memcpy(v->out + v->out_len, bytes, len);
	v->out_len += len;
}

static void put_text(struct visit *v, const char *text)
{
	put(v, text, strlen(text));
}

static void put_number(struct visit *v, uint32_t number, unsigned bytes)
{
	for (; bytes > 0; bytes--)
		put(v, (const uint8_t[]){ (uint8_t)(number >> (8 * (bytes - 1))) }, 1);
}

static void put_frame(struct visit *v, unsigned type, unsigned flags, uint32_t stream, const void *payload, size_t len)
{
	put_number(v, (uint32_t)len, 3);
	put_number(v, type, 1);
	put_number(v, flags, 1);
	put_number(v, stream, 4);
	put(v, payload, len);
}

static uint32_t number_at(const uint8_t *bytes, unsigned count)
{
	uint32_t number = 0;
	for (unsigned i = 0; i < count; i++)
		number = number << 8 | bytes[i];
	return number;
}

/* ---- answers over HTTP/2 ---- */

/* HPACK (RFC 7541): ":status: 200" of the static table; half of the heads also say how long the answer will be, as a literal by the table's name. */
static void put_head(struct visit *v, uint32_t stream, unsigned length)
{
	char head[16] = "\x88\x0f\x0d";
	int digits = snprintf(head + 4, sizeof(head) - 4, "%u", length);
	head[3] = (char)digits;
	put_frame(v, HEADERS, END_HEADERS, stream, head, percent(v, 50) ? (size_t)(4 + digits) : 1);
}

static void put_last(struct visit *v, uint32_t stream, const char *text)
{
	put_frame(v, DATA, END_STREAM, stream, text, strlen(text));
}

static void put_reset(struct visit *v, uint32_t stream, uint32_t code)
{
	put_frame(v, RST_STREAM, 0, stream, (const uint8_t[]){ 0, 0, 0, (uint8_t)code }, 4);
}

static void put_streams_allowed(struct visit *v, uint32_t most)
{
	put_frame(v, SETTINGS, 0, 0, (const uint8_t[]){ 0, MAX_CONCURRENT_STREAMS, 0, 0, 0, (uint8_t)most }, 6);
}

static bool answer(struct visit *v, uint32_t stream)
{
	put_head(v, stream, 6);
	put_last(v, stream, "hello.");
	return true;
}

static bool answer_empty(struct visit *v, uint32_t stream)
{
	put_head(v, stream, 0);
	put_last(v, stream, "");
	return true;
}

/* Of more than can be kept in mind the rest is never answered. */
static void come_back(struct visit *v, uint32_t stream, unsigned pieces, unsigned milliseconds)
{
	for (size_t i = 0; i < LATE_MOST; i++)
		if (v->late[i].at == 0) {
			v->late[i] = (struct late){ stream, pieces, clock_now() + milliseconds * CLOCK_MILLISECOND };
			return;
		}
}

static bool answer_late(struct visit *v, uint32_t stream)
{
	put_head(v, stream, 5);
	come_back(v, stream, 0, random_below(&v->random, 200));
	return true;
}

static bool answer_in_pieces(struct visit *v, uint32_t stream)
{
	put_head(v, stream, PIECES * PIECE + 5);
	come_back(v, stream, PIECES, 0);
	return true;
}

static bool refuse(struct visit *v, uint32_t stream)
{
	put_reset(v, stream, REFUSED_STREAM);
	return true;
}

static bool break_it(struct visit *v, uint32_t stream)
{
	put_reset(v, stream, INTERNAL_ERROR);
	return true;
}

static bool stall_in_body(struct visit *v, uint32_t stream)
{
	put_head(v, stream, 100);
	put_frame(v, DATA, 0, stream, "stalls", 6);
	return true;
}

static bool end_in_body(struct visit *v, uint32_t stream)
{
	put_head(v, stream, 100);
	put_frame(v, DATA, 0, stream, "ended", 5);
	put_reset(v, stream, NO_ERROR);
	return true;
}

static bool ignore(struct visit *v, uint32_t stream)
{
	(void)v;
	(void)stream;
	return true;
}

static bool allow_fewer(struct visit *v, uint32_t stream)
{
	static const uint8_t allowed[] = { 0, 1, 2, 100 };
	put_streams_allowed(v, allowed[random_below(&v->random, ARRAY_LENGTH(allowed))]);
	return answer(v, stream);
}

static bool say_goodbye(struct visit *v, uint32_t stream)
{
	bool served = percent(v, 50);
	uint32_t last = served ? stream : stream > 2 ? stream - 2 : 0; /* the one before it */
	const uint8_t payload[8] = { (uint8_t)(last >> 24), (uint8_t)(last >> 16), (uint8_t)(last >> 8),
				     (uint8_t)last };
	put_frame(v, GOAWAY, 0, 0, payload, sizeof(payload)); /* of no error */
	if (served)
		answer(v, stream);
	if (percent(v, 50))
		return true;
	(void)(send_put(v) && pause_for(v, 50));
	return false;
}

static bool cut(struct visit *v, uint32_t stream)
{
	(void)v;
	(void)stream;
	return false;
}

static bool respond(struct visit *v, uint32_t stream)
{
	static const struct {
		unsigned percent;
		bool (*act)(struct visit *, uint32_t stream); /* false: it closes the connection */
	} acts[] = { { 35, answer }, { 7, answer_empty }, { 15, answer_late },  { 6, answer_in_pieces },
		     { 7, refuse },  { 3, break_it },     { 6, stall_in_body }, { 4, end_in_body },
		     { 4, ignore },  { 4, allow_fewer },  { 6, say_goodbye },   { 3, cut } };
	unsigned at = v->wild ? random_below(&v->random, 100) : 0, i = 0;
	for (; at >= acts[i].percent; i++)
		at -= acts[i].percent;
	return acts[i].act(v, stream);
}

/* ---- a connection ---- */

/* What is due by now; milliseconds until more is: -1: nothing. */
static int put_late(struct visit *v)
{
	char piece[PIECE];
	int64_t now = clock_now(), next = INT64_MAX;
	memset(piece, 'b', sizeof(piece));
	for (size_t i = 0; i < LATE_MOST; i++) {
		struct late *late = &v->late[i];
		if (late->at == 0)
			continue;
		if (late->at <= now && late->pieces > 0 && v->out_len + PIECE < FRAME_MOST) {
			put_frame(v, DATA, 0, late->stream, piece, PIECE);
			late->pieces--;
			late->at = now + 5 * CLOCK_MILLISECOND;
		} else if (late->at <= now && late->pieces == 0) {
			put_last(v, late->stream, "late.");
			late->at = 0;
			continue;
		}
		next = late->at < next ? late->at : next;
	}
	return next == INT64_MAX ? -1 : next <= now ? 0 : (int)((next - now) / CLOCK_MILLISECOND) + 1;
}

/* Meanwhile what is due is sent. */
static bool read_more(struct visit *v)
{
	struct pollfd set[] = { { .fd = v->server->stop, .events = POLLIN }, { .fd = v->socket, .events = POLLIN } };
	do {
		int wait = put_late(v);
		if (!send_put(v))
			return false;
		if (SSL_pending(v->ssl) == 0 && poll(set, 2, wait) < 0)
			return false;
		if (set[0].revents != 0)
			return false;
	} while (SSL_pending(v->ssl) == 0 && set[1].revents == 0);
	int n = SSL_read(v->ssl, v->in + v->in_len, (int)(sizeof(v->in) - v->in_len));
	v->in_len += n > 0 ? (size_t)n : 0;
	return n > 0;
}

static bool await(struct visit *v, size_t len)
{
	CHECK(len <= sizeof(v->in));
	while (v->in_len < len)
		if (!read_more(v))
			return false;
	return true;
}

static void skip(struct visit *v, size_t len)
{
	v->in_len -= len;
	memmove(v->in, v->in + len, v->in_len);
}

static bool take_frame(struct visit *v)
{
	if (!await(v, FRAME_HEAD))
		return false;
	size_t len = number_at(v->in, 3);
	unsigned type = v->in[3], flags = v->in[4];
	uint32_t stream = number_at(v->in + 5, 4);
	if (!await(v, FRAME_HEAD + len))
		return false;
	bool goes_on = true;
	if (type == SETTINGS && (flags & ACK) == 0)
		put_frame(v, SETTINGS, ACK, 0, "", 0);
	else if (type == PING && (flags & ACK) == 0)
		put_frame(v, PING, ACK, 0, v->in + FRAME_HEAD, len);
	else if (type == HEADERS)
		goes_on = respond(v, stream);
	skip(v, FRAME_HEAD + len);
	return goes_on && (v->out_len < FRAME_MOST || send_put(v));
}

static void speak_http_2(struct visit *v)
{
	static const uint8_t allowed[] = { 0, 1, 2, 3, 5, 100, 100, 100 };
	if (!await(v, PREFACE))
		return;
	skip(v, PREFACE);
	if (percent(v, 50))
		put_streams_allowed(v, allowed[random_below(&v->random, ARRAY_LENGTH(allowed))]);
	else
		put_frame(v, SETTINGS, 0, 0, "", 0);
	v->wild = percent(v, 50);
	while (take_frame(v))
		continue;
	send_put(v);
}

/* A request's body, if it has one, is taken for the beginning of the next head. */
static bool take_head(struct visit *v)
{
	const uint8_t *end;
	while ((end = memmem(v->in, v->in_len, "\r\n\r\n", 4)) == NULL)
		if (v->in_len == sizeof(v->in) || !read_more(v))
			return false;
	skip(v, (size_t)(end + 4 - v->in));
	return true;
}

static void speak_http_1(struct visit *v)
{
	while (take_head(v)) {
		unsigned at = random_below(&v->random, 100);
		bool closes = at >= 90;
		if (at >= 97 || (at < 10 && !pause_for(v, 300)))
			return;
		if (at >= 95)
			put_text(v, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart");
		else if (closes)
			put_text(v, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello.");
		else
			put_text(v, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello.");
		if (!send_put(v) || closes)
			return;
	}
}

static void serve(struct visit *v)
{
	const unsigned char *protocol;
	unsigned len;
	if (SSL_accept(v->ssl) != 1)
		return;
	SSL_get0_alpn_selected(v->ssl, &protocol, &len);
	if (len == 2)
		speak_http_2(v);
	else
		speak_http_1(v);
	if (percent(v, 50))
		SSL_shutdown(v->ssl);
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		   unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	const struct visit *v = SSL_get_app_data(ssl);
	unsigned first = v->only_http_1 ? 3 : 0;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)out, out_len, ours + first, sizeof(ours) - 1 - first, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static void receive(struct visit *v)
{
	unsigned at = random_below(&v->random, 100);
	if (at < 5)
		pause_for(v, 1500);
	if (at < 8 || (at < 20 && !pause_for(v, 100)))
		return;
	v->only_http_1 = percent(v, 15);
	v->ssl = SSL_new(v->server->context);
	CHECK(v->ssl != NULL && SSL_set_fd(v->ssl, v->socket) == 1 && SSL_set_app_data(v->ssl, v) == 1);
	serve(v);
	ERR_clear_error();
	SSL_free(v->ssl);
}

static void *visit_thread(void *arg)
{
	struct visit *v = arg;
	struct wild_server *server = v->server;
	receive(v);
	close(v->socket);
	free(v);
	pthread_mutex_lock(&server->lock);
	if (--server->open == 0)
		pthread_cond_signal(&server->all_gone);
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

/* ---- the server ---- */

static void welcome(struct wild_server *server, int socket, unsigned number)
{
	static const int one = 1;
	pthread_t thread;
	struct visit *v = calloc(1, sizeof(*v));
	CHECK(v != NULL);
	setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	v->server = server;
	v->socket = socket;
	v->random = (server->seed + number + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1; /* alike seeds, unlike chances */
	pthread_mutex_lock(&server->lock);
	server->open++;
	pthread_mutex_unlock(&server->lock);
	CHECK(pthread_create(&thread, NULL, visit_thread, v) == 0);
	pthread_detach(thread);
}

static void *accept_thread(void *arg)
{
	struct wild_server *server = arg;
	for (unsigned number = 0;;) {
		struct pollfd set[] = { { .fd = server->stop, .events = POLLIN },
					{ .fd = server->listener, .events = POLLIN } };
		CHECK(poll(set, 2, -1) > 0);
		if (set[0].revents != 0)
			return NULL;
		int socket = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
		if (socket >= 0)
			welcome(server, socket, number++);
	}
}

struct wild_server *wild_server_new(const char *certificate, const char *key, uint64_t seed)
{
	struct wild_server *server = calloc(1, sizeof(*server));
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	CHECK(server != NULL);
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	server->seed = seed;
	server->context = SSL_CTX_new(TLS_server_method());
	CHECK(server->context != NULL);
	SSL_CTX_set_alpn_select_cb(server->context, on_alpn, NULL);
	CHECK(SSL_CTX_use_certificate_chain_file(server->context, certificate) == 1);
	CHECK(SSL_CTX_use_PrivateKey_file(server->context, key, SSL_FILETYPE_PEM) == 1);
	server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	server->stop = eventfd(0, EFD_CLOEXEC);
	CHECK(server->listener >= 0 && server->stop >= 0);
	CHECK(bind(server->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(server->listener, 512) == 0);
	CHECK(getsockname(server->listener, (struct sockaddr *)&address, &size) == 0);
	snprintf(server->origin, sizeof(server->origin), "https://127.0.0.1:%d", ntohs(address.sin_port));
	CHECK(pthread_mutex_init(&server->lock, NULL) == 0 && pthread_cond_init(&server->all_gone, NULL) == 0);
	CHECK(pthread_create(&server->thread, NULL, accept_thread, server) == 0);
	return server;
}

void wild_server_free(struct wild_server **held)
{
	struct wild_server *server = *held;
	uint64_t one = 1;
	*held = NULL;
	CHECK(write(server->stop, &one, sizeof(one)) == sizeof(one));
	CHECK(pthread_join(server->thread, NULL) == 0);
	pthread_mutex_lock(&server->lock);
	while (server->open > 0)
		pthread_cond_wait(&server->all_gone, &server->lock);
	pthread_mutex_unlock(&server->lock);
	close(server->listener);
	close(server->stop);
	SSL_CTX_free(server->context);
	pthread_mutex_destroy(&server->lock);
	pthread_cond_destroy(&server->all_gone);
	free(server);
}

const char *wild_server_origin(const struct wild_server *server)
{
	return server->origin;
}

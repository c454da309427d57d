#include "tests/support/tls_relay.h"

#include <arpa/inet.h>
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

struct tls_relay {
	struct tls_relay_options options;
	SSL_CTX *context;
	int listener, stop;
	char origin[64];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t all_gone, gate;
	unsigned open, begun, handshakes;
	bool gate_is_open;
};

struct relay_ticket {
	struct tls_relay *relay;
	int socket;
};

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		   unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof(ours) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static bool write_all(int descriptor, const char *data, int len)
{
	for (ssize_t n; len > 0; data += n, len -= (int)n) {
		n = send(descriptor, data, (size_t)len, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
	}
	return true;
}

/* One block from whichever side has one; false when either has ended. */
static bool relay_some(struct tls_relay *relay, SSL *ssl, int client, int backend)
{
	char block[16384];
	struct pollfd set[] = { { .fd = relay->stop, .events = POLLIN },
				{ .fd = client, .events = POLLIN },
				{ .fd = backend, .events = POLLIN } };
	if (SSL_pending(ssl) == 0 && poll(set, 3, -1) < 0)
		return false;
	if (set[0].revents != 0)
		return false;
	if (SSL_pending(ssl) > 0 || set[1].revents != 0) {
		int n = SSL_read(ssl, block, sizeof(block));
		if (n <= 0 || !write_all(backend, block, n))
			return false;
	}
	if (set[2].revents != 0) {
		ssize_t n = recv(backend, block, sizeof(block), 0);
		if (n <= 0 || SSL_write(ssl, block, (int)n) <= 0)
			return false;
	}
	return true;
}

static int connect_backend(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int backend = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(backend >= 0 && connect(backend, (struct sockaddr *)&address, sizeof(address)) == 0);
	return backend;
}

static void wait_at_gate(struct tls_relay *relay, bool hello)
{
	pthread_mutex_lock(&relay->lock);
	relay->begun += hello;
	while (!relay->gate_is_open)
		pthread_cond_wait(&relay->gate, &relay->lock);
	pthread_mutex_unlock(&relay->lock);
}

static void *relay_thread(void *arg)
{
	struct relay_ticket ticket = *(struct relay_ticket *)arg;
	struct tls_relay *relay = ticket.relay;
	free(arg);
	SSL *ssl = SSL_new(relay->context);
	CHECK(ssl != NULL && SSL_set_fd(ssl, ticket.socket) == 1);
	char byte;
	if (relay->options.gated)
		wait_at_gate(relay, recv(ticket.socket, &byte, 1, MSG_PEEK) == 1);
	if (SSL_accept(ssl) == 1) {
		pthread_mutex_lock(&relay->lock);
		relay->handshakes++;
		pthread_mutex_unlock(&relay->lock);
		int backend = connect_backend(relay->options.backend_port);
		while (relay_some(relay, ssl, ticket.socket, backend))
			continue;
		if (relay->options.lingers)
			wait_at_gate(relay, false);
		if (!relay->options.unclean)
			SSL_shutdown(ssl);
		close(backend);
	}
	ERR_clear_error();
	SSL_free(ssl);
	close(ticket.socket);
	pthread_mutex_lock(&relay->lock);
	if (--relay->open == 0)
		pthread_cond_signal(&relay->all_gone);
	pthread_mutex_unlock(&relay->lock);
	return NULL;
}

static void *accept_thread(void *arg)
{
	struct tls_relay *relay = arg;
	for (;;) {
		struct pollfd set[] = { { .fd = relay->stop, .events = POLLIN },
					{ .fd = relay->listener, .events = POLLIN } };
		CHECK(poll(set, 2, -1) > 0);
		if (set[0].revents != 0)
			return NULL;
		int socket = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC);
		if (socket < 0)
			continue;
		struct relay_ticket *ticket = malloc(sizeof(*ticket));
		CHECK(ticket != NULL);
		*ticket = (struct relay_ticket){ relay, socket };
		pthread_mutex_lock(&relay->lock);
		relay->open++;
		pthread_mutex_unlock(&relay->lock);
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, relay_thread, ticket) == 0);
		pthread_detach(thread);
	}
}

struct tls_relay *tls_relay_new(const struct tls_relay_options *options)
{
	struct tls_relay *relay = calloc(1, sizeof(*relay));
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	CHECK(relay != NULL);
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	relay->options = *options;
	relay->context = SSL_CTX_new(TLS_server_method());
	CHECK(relay->context != NULL);
	SSL_CTX_set_security_level(relay->context, 0);
	SSL_CTX_set_min_proto_version(relay->context, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(relay->context, options->newest_version);
	SSL_CTX_set_alpn_select_cb(relay->context, on_alpn, NULL);
	CHECK(SSL_CTX_use_certificate_chain_file(relay->context, options->certificate) == 1);
	CHECK(SSL_CTX_use_PrivateKey_file(relay->context, options->key, SSL_FILETYPE_PEM) == 1);
	relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	relay->stop = eventfd(0, EFD_CLOEXEC);
	CHECK(relay->listener >= 0 && relay->stop >= 0);
	CHECK(bind(relay->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(relay->listener, 128) == 0);
	CHECK(getsockname(relay->listener, (struct sockaddr *)&address, &size) == 0);
	snprintf(relay->origin, sizeof(relay->origin), "https://127.0.0.1:%d", ntohs(address.sin_port));
	CHECK(pthread_mutex_init(&relay->lock, NULL) == 0);
	CHECK(pthread_cond_init(&relay->all_gone, NULL) == 0 && pthread_cond_init(&relay->gate, NULL) == 0);
	CHECK(pthread_create(&relay->thread, NULL, accept_thread, relay) == 0);
	return relay;
}

void tls_relay_free(struct tls_relay **held)
{
	struct tls_relay *relay = *held;
	uint64_t one = 1;
	*held = NULL;
	CHECK(write(relay->stop, &one, sizeof(one)) == sizeof(one));
	CHECK(pthread_join(relay->thread, NULL) == 0);
	pthread_mutex_lock(&relay->lock);
	while (relay->open > 0)
		pthread_cond_wait(&relay->all_gone, &relay->lock);
	pthread_mutex_unlock(&relay->lock);
	close(relay->listener);
	close(relay->stop);
	SSL_CTX_free(relay->context);
	pthread_mutex_destroy(&relay->lock);
	pthread_cond_destroy(&relay->all_gone);
	pthread_cond_destroy(&relay->gate);
	free(relay);
}

const char *tls_relay_origin(const struct tls_relay *relay)
{
	return relay->origin;
}

unsigned tls_relay_begun(struct tls_relay *relay)
{
	pthread_mutex_lock(&relay->lock);
	unsigned count = relay->begun;
	pthread_mutex_unlock(&relay->lock);
	return count;
}

void tls_relay_open_gate(struct tls_relay *relay)
{
	pthread_mutex_lock(&relay->lock);
	relay->gate_is_open = true;
	pthread_cond_broadcast(&relay->gate);
	pthread_mutex_unlock(&relay->lock);
}

unsigned tls_relay_handshakes(struct tls_relay *relay)
{
	pthread_mutex_lock(&relay->lock);
	unsigned count = relay->handshakes;
	pthread_mutex_unlock(&relay->lock);
	return count;
}

#include "load_channel.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

SSL_CTX *channel_context(const struct options *o)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	bool good = context != NULL && SSL_CTX_set_min_proto_version(context, o->tls_version) == 1 &&
		    SSL_CTX_set_max_proto_version(context, o->tls_version) == 1 &&
		    (o->ca != NULL ? SSL_CTX_load_verify_locations(context, o->ca, NULL)
				   : SSL_CTX_set_default_verify_paths(context)) == 1;
	if (!good) {
		fprintf(stderr, "sluice-load: TLS: %s\n", ERR_reason_error_string(ERR_get_error()));
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return context;
}

void channel_secure(struct channel *c, SSL_CTX *context, const struct target *t)
{
	static const unsigned char protocols[] = "\x08http/1.1";
	c->ssl = SSL_new(context);
	bool good = c->ssl != NULL && SSL_set_fd(c->ssl, c->fd) == 1 &&
		    SSL_set_alpn_protos(c->ssl, protocols, sizeof(protocols) - 1) == 0;
	if (t->is_named)
		good = good && SSL_set1_host(c->ssl, t->host) == 1 && SSL_set_tlsext_host_name(c->ssl, t->host) == 1;
	else
		good = good && X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), t->host) == 1;
	if (!good)
		abort();
	SSL_set_connect_state(c->ssl);
}

/* What SSL_get_error says, as errno does. */
static ssize_t failed(struct channel *c, int result)
{
	int error = SSL_get_error(c->ssl, result);
	ERR_clear_error();
	if (error == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
	return -1;
}

int channel_shake_hands(struct channel *c)
{
	int result = c->ssl == NULL ? 1 : SSL_do_handshake(c->ssl);
	if (result == 1)
		return 1;
	return failed(c, result) < 0 && errno == EAGAIN ? 0 : -1;
}

ssize_t channel_read(struct channel *c, void *bytes, size_t room)
{
	size_t got;
	if (c->ssl == NULL)
		return recv(c->fd, bytes, room, 0);
	int result = SSL_read_ex(c->ssl, bytes, room, &got);
	return result == 1 ? (ssize_t)got : failed(c, result);
}

ssize_t channel_write(struct channel *c, const void *bytes, size_t len)
{
	size_t sent;
	if (c->ssl == NULL)
		return send(c->fd, bytes, len, MSG_NOSIGNAL);
	int result = SSL_write_ex(c->ssl, bytes, len, &sent);
	return result == 1 ? (ssize_t)sent : failed(c, result);
}

void channel_close(struct channel *c)
{
	if (c->ssl != NULL && SSL_is_init_finished(c->ssl))
		SSL_shutdown(c->ssl); /* says that it goes; what the other says to it is not waited for */
	ERR_clear_error();
	SSL_free(c->ssl);
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

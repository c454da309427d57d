/* The certificates that this process trusts, read once and shared by all its connections.
 *
 * Left to itself libcurl reads the system's hundred and forty certificates for every new connection: 57 ms of CPU and
 * 900 KiB each. Here one X509_STORE per file is built at the first use, and each connection's SSL_CTX gets a reference
 * to it (OpenSSL counts them atomically). The shelf below is mutable state of the process, guarded by a mutex that is
 * taken when a pool is born or dies, never per request. */
#include "lib/pool_internal.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>

#include "lib/log.h"
#include "lib/mem.h"

/* Owned by the shelf; dies with the last pool that holds it. */
struct pool_trust {
	struct list node;
	char *path;
	X509_STORE *store;
	unsigned holders;
};

static pthread_mutex_t shelf_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list shelf = { &shelf, &shelf };

static const char *system_file(void)
{
	const char *named = curl_version_info(CURLVERSION_NOW)->cainfo;
	return named != NULL ? named : "/etc/ssl/certs/ca-certificates.crt";
}

static struct pool_trust *read_trust(const char *path, struct log *log)
{
	struct pool_trust *trust = mem_new(sizeof(*trust));
	trust->path = mem_text(slice_of(path));
	trust->store = X509_STORE_new();
	CHECK(trust->store != NULL);
	if (X509_STORE_load_file(trust->store, path) != 1) {
		/* Every hand-shake will fail with "unable to get local issuer": say why, once, where the operator
		 * looks. */
		log_say(log, LOG_ERROR, "ca_file_unreadable",
			"%s holds no certificate that can be read: no upstream can be verified", path);
		ERR_clear_error();
	}
	list_push_back(&shelf, &trust->node);
	return trust;
}

struct pool_trust *pool_trust_open(const char *ca_file, struct log *log)
{
	const char *path = ca_file != NULL ? ca_file : system_file();
	struct pool_trust *found = NULL;
	CHECK(pthread_mutex_lock(&shelf_lock) == 0);
	LIST_EACH(&shelf, node, following)
	{
		struct pool_trust *trust = CONTAINER_OF(node, struct pool_trust, node);
		if (strcmp(trust->path, path) == 0)
			found = trust;
	}
	if (found == NULL)
		found = read_trust(path, log);
	found->holders++;
	CHECK(pthread_mutex_unlock(&shelf_lock) == 0);
	return found;
}

void pool_trust_close(struct pool_trust **held)
{
	struct pool_trust *trust = *held;
	*held = NULL;
	if (trust == NULL)
		return;
	CHECK(pthread_mutex_lock(&shelf_lock) == 0);
	if (--trust->holders == 0) {
		list_remove(&trust->node);
		X509_STORE_free(trust->store);
		mem_free(trust->path);
		mem_free(trust);
	}
	CHECK(pthread_mutex_unlock(&shelf_lock) == 0);
}

static CURLcode on_context(CURL *easy, void *context, void *arg)
{
	struct pool_trust *trust = arg;
	(void)easy;
	SSL_CTX_set1_cert_store(context, trust->store);
	return CURLE_OK;
}

void pool_trust_handle(struct pool_trust *trust, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	if (trust == NULL) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
		return;
	}
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_context);
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, trust);
}

/* ---- the end of an answer that only its connection ends ---- */

/* The argument is the pool, which outlives its connections; a transfer that has gone is simply not found. */
static void on_tls_message(int sent, int version, int type, const void *bytes, size_t len, SSL *ssl, void *arg)
{
	struct pool *pool = arg;
	(void)version;
	if (sent != 0 || type != SSL3_RT_ALERT || len != 2 || ((const uint8_t *)bytes)[1] != SSL_AD_CLOSE_NOTIFY)
		return;
	LIST_EACH(&pool->running, node, following)
	{
		struct transfer *t = CONTAINER_OF(node, struct transfer, node);
		if (t->ended_by == ssl)
			t->close_notified = true;
	}
}

/* libcurl takes any end of a TLS connection for an orderly one: its BIO hides from OpenSSL that the stream was cut. */
void pool_trust_watch_end(struct transfer *t)
{
	struct curl_tlssessioninfo *session = NULL;
	if (!t->pool->tls)
		return;
	CHECK(curl_easy_getinfo(t->handle->easy, CURLINFO_TLS_SSL_PTR, &session) == CURLE_OK);
	CHECK(session->backend == CURLSSLBACKEND_OPENSSL && session->internals != NULL);
	SSL *ssl = session->internals;
	t->ended_by = ssl;
	SSL_set_msg_callback(ssl, on_tls_message);
	SSL_set_msg_callback_arg(ssl, t->pool);
}

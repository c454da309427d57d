/* The certificates that this process trusts, read once and shared by all its connections.
 *
 * Left to itself libcurl reads the system's hundred and forty certificates for every new connection: 57 ms of CPU and
 * 900 KiB each. Here one X509_STORE per file is built at the first use, and each connection's SSL_CTX gets a reference
 * to it (OpenSSL counts them atomically). A file that has changed since is another one: pools that are born after a
 * rotation never share what was read before it. The shelf below is mutable state of the process, guarded by a mutex that
 * is taken when a pool is born or dies, never per request. */
#include "lib/pool_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/mem.h"

enum { CERTIFICATES_MOST = 16 * 1024 * 1024 };

/* Owned by the shelf; dies with the last pool that holds it. */
struct pool_trust {
	struct list node;
	char *path;
	unsigned char sha256[SHA256_DIGEST_LENGTH]; /* of the file as it was read */
	X509_STORE *store;
	unsigned holders;
};

static pthread_mutex_t shelf_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list shelf = { &shelf, &shelf };

const char *pool_system_ca_file(void)
{
	const char *named = curl_version_info(CURLVERSION_NOW)->cainfo;
	return named != NULL ? named : "/etc/ssl/certs/ca-certificates.crt";
}

/* Certificates, and lists of revoked ones; anything else in the file is passed over. How many were taken.
 *
 * OpenSSL decodes a certificate's extensions when they are first asked for. That is done here, before it is shared: the first hand-shakes of all workers then only
 * read (X509_check_purpose(3); a certificate that cannot be decoded is one that nobody can be verified by, which they will be told). */
static int fill_store(X509_STORE *store, struct slice pem)
{
	BIO *from = BIO_new_mem_buf(pem.data, (int)pem.len);
	CHECK(from != NULL);
	STACK_OF(X509_INFO) *found = PEM_X509_INFO_read_bio(from, NULL, NULL, NULL);
	int taken = 0;
	for (int i = 0; found != NULL && i < sk_X509_INFO_num(found); i++) {
		const X509_INFO *info = sk_X509_INFO_value(found, i);
		if (info->x509 != NULL) {
			(void)X509_check_purpose(info->x509, -1, 0);
			taken += X509_STORE_add_cert(store, info->x509);
		}
		if (info->crl != NULL)
			taken += X509_STORE_add_crl(store, info->crl);
	}
	sk_X509_INFO_pop_free(found, X509_INFO_free);
	BIO_free(from);
	ERR_clear_error();
	return taken;
}

static struct pool_trust *make_trust(const char *path, struct slice pem, const char *reason, struct log *log)
{
	struct pool_trust *trust = mem_new(sizeof(*trust));
	trust->path = mem_text(slice_of(path));
	trust->store = X509_STORE_new();
	CHECK(trust->store != NULL);
	/* Every hand-shake will fail with "unable to get local issuer": say why, once, where the operator looks. */
	if (pem.len == 0 || fill_store(trust->store, pem) == 0)
		log_say(log, LOG_ERROR, "ca_file_unreadable", "%s: %s: no upstream can be verified", path, reason);
	list_push_back(&shelf, &trust->node);
	return trust;
}

static struct pool_trust *find_trust(const char *path, const unsigned char sha256[SHA256_DIGEST_LENGTH])
{
	LIST_EACH (&shelf, node, following) {
		struct pool_trust *trust = CONTAINER_OF(node, struct pool_trust, node);
		if (strcmp(trust->path, path) == 0 && memcmp(trust->sha256, sha256, SHA256_DIGEST_LENGTH) == 0)
			return trust;
	}
	return NULL;
}

struct pool_trust *pool_trust_open(const char *ca_file, struct log *log)
{
	const char *path = ca_file != NULL ? ca_file : pool_system_ca_file();
	const char *reason = "it holds no certificate that can be read";
	unsigned char sha256[SHA256_DIGEST_LENGTH];
	struct pool_trust *trust;
	struct buf pem;

	buf_init(&pem, CERTIFICATES_MOST);
	if (!file_read(path, FILE_REGULAR, &pem, &reason))
		buf_clear(&pem);
	SHA256((const unsigned char *)pem.data, pem.len, sha256);
	CHECK(pthread_mutex_lock(&shelf_lock) == 0);
	trust = find_trust(path, sha256);
	if (trust == NULL) {
		trust = make_trust(path, buf_slice(&pem), reason, log);
		memcpy(trust->sha256, sha256, sizeof(sha256));
	}
	trust->holders++;
	CHECK(pthread_mutex_unlock(&shelf_lock) == 0);
	buf_free(&pem);
	return trust;
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

/* libcurl reuses a connection only for a handle with the same settings of TLS, and has no other word for "not that one". The folder is never looked into: it cannot
 * be there, and on_context puts our own store in the place of what was made of it. */
void pool_trust_era(CURL *easy, unsigned era)
{
	char folder[sizeof("/dev/null/4294967295")];
	snprintf(folder, sizeof(folder), "/dev/null/%u", era);
	curl_easy_setopt(easy, CURLOPT_CAPATH, folder);
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

/* RFC 7301. In plain text it was agreed on beforehand. */
bool pool_trust_multiplexes(const struct transfer *t)
{
	static const unsigned char two[] = { 'h', '2' };
	const struct pool *pool = t->pool;
	struct curl_tlssessioninfo *session = NULL;
	const unsigned char *agreed = NULL;
	unsigned length = 0;
	if (!pool->two || !pool->tls)
		return pool->two;
	CHECK(curl_easy_getinfo(t->handle->easy, CURLINFO_TLS_SSL_PTR, &session) == CURLE_OK);
	CHECK(session->backend == CURLSSLBACKEND_OPENSSL && session->internals != NULL);
	SSL_get0_alpn_selected(session->internals, &agreed, &length);
	return length == sizeof(two) && memcmp(agreed, two, length) == 0;
}

/* ---- the end of an answer that only its connection ends ---- */

/* The argument is the pool, which outlives its connections; a transfer that has gone is simply not found. */
static void on_tls_message(int sent, int version, int type, const void *bytes, size_t len, SSL *ssl, void *arg)
{
	struct pool *pool = arg;
	(void)version;
	if (sent != 0 || type != SSL3_RT_ALERT || len != 2 || ((const uint8_t *)bytes)[1] != SSL_AD_CLOSE_NOTIFY)
		return;
	LIST_EACH (&pool->running, node, following) {
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

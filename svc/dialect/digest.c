/* What a body means, as one hash: for JSON lib/json_hash's canonical form; for any other body its bytes. */
#include <openssl/evp.h>

#include "svc/dialect/dialect_internal.h"

/* The loop stands still meanwhile. What costs is the values rather than the bytes: 4 MiB of one-digit numbers would take 70 ms. */
enum { NODES_MOST = 32 * 1024 };

/* One scan, made ready again for each body: it is large. */
struct dialect_digest {
	struct json_plan *plan; /* of no member */
	struct json_scan *scan;
	EVP_MD *sha256; /* looked up once: that takes longer than to hash a short text */
	EVP_MD_CTX *context;
};

struct dialect_digest *dialect_digest_new(void)
{
	struct dialect_digest *d = mem_new(sizeof(*d));
	const struct json_scan_options options = { .max_bytes = SIZE_MAX, .max_nodes = NODES_MOST, .hash = true };

	d->plan = json_plan_new(NULL, 0);
	d->scan = json_scan_new(d->plan, &options);
	CHECK((d->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL)) != NULL && (d->context = EVP_MD_CTX_new()) != NULL);
	return d;
}

void dialect_digest_free(struct dialect_digest **handle)
{
	struct dialect_digest *d = *handle;

	*handle = NULL;
	if (d == NULL)
		return;
	json_scan_free(&d->scan);
	json_plan_free(&d->plan);
	EVP_MD_CTX_free(d->context);
	EVP_MD_free(d->sha256);
	mem_free(d);
}

static bool digest_json(struct dialect_digest *d, const struct slice *pieces, size_t count,
			unsigned char digest[DIALECT_DIGEST])
{
	json_scan_reset(d->scan);
	for (size_t i = 0; i < count; i++)
		if (json_scan_feed(d->scan, pieces[i]) == JSON_SCAN_FAILED)
			return false;
	return json_scan_finish(d->scan) == JSON_SCAN_WHOLE && json_scan_hash(d->scan, digest);
}

/* libcrypto refuses only for want of memory here, and that ends the process as in lib/mem. */
void dialect_digest_bytes(struct dialect_digest *d, const struct slice *pieces, size_t count,
			  unsigned char digest[DIALECT_DIGEST])
{
	CHECK(EVP_DigestInit_ex(d->context, d->sha256, NULL) == 1);
	for (size_t i = 0; i < count; i++)
		CHECK(EVP_DigestUpdate(d->context, pieces[i].data, pieces[i].len) == 1);
	CHECK(EVP_DigestFinal_ex(d->context, digest, NULL) == 1);
}

bool dialect_digest_body(struct dialect_digest *d, enum dialect dialect, const struct slice *pieces, size_t count,
			 unsigned char digest[DIALECT_DIGEST])
{
	if (dialect != DIALECT_http)
		return digest_json(d, pieces, count, digest);
	dialect_digest_bytes(d, pieces, count, digest);
	return true;
}

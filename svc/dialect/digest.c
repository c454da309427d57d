/* What a body means, as one hash: for JSON lib/json_hash's canonical form; for any other body its bytes. */
#include <openssl/evp.h>

#include "svc/dialect/dialect_internal.h"

/* One scan, made ready again for each body: it is large. */
struct dialect_digest {
	struct json_plan *plan; /* of no member */
	struct json_scan *scan;
};

struct dialect_digest *dialect_digest_new(void)
{
	struct dialect_digest *d = mem_new(sizeof(*d));
	const struct json_scan_options options = { .max_bytes = SIZE_MAX, .max_nodes = SIZE_MAX, .hash = true };

	d->plan = json_plan_new(NULL, 0);
	d->scan = json_scan_new(d->plan, &options);
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

static bool digest_bytes(const struct slice *pieces, size_t count, unsigned char digest[DIALECT_DIGEST])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool done = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;

	for (size_t i = 0; i < count && done; i++)
		done = EVP_DigestUpdate(context, pieces[i].data, pieces[i].len) == 1;
	done = done && EVP_DigestFinal_ex(context, digest, NULL) == 1;
	EVP_MD_CTX_free(context);
	return done;
}

bool dialect_digest_body(struct dialect_digest *d, enum dialect dialect, const struct slice *pieces, size_t count,
			 unsigned char digest[DIALECT_DIGEST])
{
	return dialect == DIALECT_http ? digest_bytes(pieces, count, digest) : digest_json(d, pieces, count, digest);
}

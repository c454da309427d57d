#include "tests/support/tls_files.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base.h"

enum { DAY = 24 * 3600 };

/* A certificate and its key. */
struct identity {
	EVP_PKEY *key;
	X509 *certificate;
};

static void extend(X509 *certificate, X509 *issuer, int kind, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
	CHECK(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
	X509_EXTENSION_free(extension);
}

static struct identity identify(const char *name, const struct identity *issuer, const char *hosts, long until)
{
	static long serial = 1;
	struct identity id = { EVP_EC_gen("P-256"), X509_new() };
	CHECK(id.key != NULL && id.certificate != NULL);
	X509_set_version(id.certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(id.certificate), serial++);
	X509_gmtime_adj(X509_getm_notBefore(id.certificate), -10 * DAY);
	X509_gmtime_adj(X509_getm_notAfter(id.certificate), until);
	X509_set_pubkey(id.certificate, id.key);
	X509_NAME *subject = X509_get_subject_name(id.certificate);
	CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0) == 1);
	const struct identity *signer = issuer != NULL ? issuer : &id;
	X509_set_issuer_name(id.certificate, X509_get_subject_name(signer->certificate));
	extend(id.certificate, signer->certificate, NID_basic_constraints,
	       issuer == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
	/* As real authorities do: by these the verifier tells two of the same name apart. */
	extend(id.certificate, signer->certificate, NID_subject_key_identifier, "hash");
	extend(id.certificate, signer->certificate, NID_authority_key_identifier, "keyid:always");
	if (hosts != NULL)
		extend(id.certificate, signer->certificate, NID_subject_alt_name, hosts);
	CHECK(X509_sign(id.certificate, signer->key, EVP_sha256()) > 0);
	return id;
}

static void forget(struct identity *id)
{
	EVP_PKEY_free(id->key);
	X509_free(id->certificate);
}

static void save(const struct tls_files *files, const struct identity *id, const char *name, char *path, char *key_path)
{
	snprintf(path, sizeof(files->ca), "%s/%s.pem", files->directory, name);
	FILE *file = fopen(path, "w");
	CHECK(file != NULL && PEM_write_X509(file, id->certificate) == 1 && fclose(file) == 0);
	if (key_path == NULL)
		return;
	snprintf(key_path, sizeof(files->ca), "%s/%s.key", files->directory, name);
	file = fopen(key_path, "w");
	CHECK(file != NULL && PEM_write_PrivateKey(file, id->key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0);
}

void tls_files_make(struct tls_files *files)
{
	static const char here[] = "IP:127.0.0.1,DNS:localhost";
	strcpy(files->directory, "/tmp/sluice-tls-XXXXXX");
	CHECK(mkdtemp(files->directory) != NULL);
	struct identity ca = identify("Sluice Test CA", NULL, NULL, 10 * DAY);
	struct identity other = identify("Another CA", NULL, NULL, 10 * DAY);
	struct identity leaf = identify("localhost", &ca, here, 10 * DAY);
	struct identity expired = identify("localhost", &ca, here, -DAY);
	struct identity stranger = identify("elsewhere", &ca, "DNS:elsewhere.example", 10 * DAY);
	save(files, &ca, "ca", files->ca, NULL);
	save(files, &other, "other", files->other_ca, NULL);
	save(files, &leaf, "leaf", files->leaf, files->leaf_key);
	save(files, &expired, "expired", files->expired, files->expired_key);
	save(files, &stranger, "stranger", files->stranger, files->stranger_key);
	struct identity *const all[] = { &ca, &other, &leaf, &expired, &stranger };
	for (size_t i = 0; i < ARRAY_LENGTH(all); i++)
		forget(all[i]);
}

void tls_files_free(struct tls_files *files)
{
	const char *const paths[] = { files->ca,      files->other_ca,    files->leaf,     files->leaf_key,
				      files->expired, files->expired_key, files->stranger, files->stranger_key };
	for (size_t i = 0; i < ARRAY_LENGTH(paths); i++)
		unlink(paths[i]);
	CHECK(rmdir(files->directory) == 0);
}
